/** Attempt after attempt until the verdict stands. */
import { CancelledError, SlipwayError } from '../errors';
import type { Clock } from '../ports';
import { excerpt } from '../shell/excerpt';
import type { Check, Pace, Vantage } from './check-model';
import { failed, type Verdict } from './verdict';

/** What became of one check from one vantage. */
export interface CheckResult {
  readonly check: Check;
  readonly vantage: Vantage;
  readonly ok: boolean;
  /** Attempts made; 0 if none was possible. */
  readonly attempts: number;
  readonly lastVerdict: Verdict;
  /** Of each attempt, in order. */
  readonly latenciesMs: readonly number[];
  /** From the first attempt to the last verdict, pauses included. */
  readonly durationMs: number;
}

/** One attempt. SlipwayErrors that it throws count as failed, except that the signal was aborted. */
export type AttemptOnce = (timeoutSeconds: number) => Promise<Verdict>;

/** However long the backoff makes them, pauses end. */
const MAX_PAUSE_SECONDS = 300;

/** The pause after an attempt (the first is 1). Pure. */
export function choosePause(pace: Pace, attempt: number): number {
  return Math.min(
    pace.intervalSeconds * pace.backoff ** (attempt - 1),
    Math.max(MAX_PAUSE_SECONDS, pace.intervalSeconds),
  );
}

/**
 * Makes attempts until enough in a row have passed, or that has become impossible: too few attempts are left, or too
 * little time before the deadline.
 *
 * @throws CancelledError when the signal is aborted
 */
export async function pollCheck(
  check: Check,
  vantage: Vantage,
  attemptOnce: AttemptOnce,
  clock: Clock,
  signal?: AbortSignal,
): Promise<CheckResult> {
  const startedMs = clock.monotonicMs();
  const deadlineMs = check.deadlineSeconds === undefined ? Infinity : startedMs + check.deadlineSeconds * 1000;
  const latenciesMs: number[] = [];
  let inARow = 0;
  for (let attempt = 1; ; attempt++) {
    const beganMs = clock.monotonicMs();
    const verdict = await judgeAttempt(
      attemptOnce,
      Math.max(0.001, Math.min(check.timeoutSeconds, (deadlineMs - beganMs) / 1000)),
      signal,
    );
    const endedMs = clock.monotonicMs();
    latenciesMs.push(endedMs - beganMs);
    inARow = verdict.ok ? inARow + 1 : 0;
    const finish = (ok: boolean, lastVerdict: Verdict): CheckResult => ({
      check,
      vantage,
      ok,
      attempts: attempt,
      lastVerdict,
      latenciesMs,
      durationMs: endedMs - startedMs,
    });
    if (inARow >= check.successes) return finish(true, verdict);
    if (check.attempts - attempt < check.successes - inARow) {
      return finish(false, explainShortfall(verdict, inARow, check, `${attempt} of ${check.attempts} attempts made`));
    }
    const pauseSeconds = choosePause(check, attempt);
    if (endedMs + pauseSeconds * 1000 >= deadlineMs) {
      return finish(
        false,
        explainShortfall(verdict, inARow, check, `the deadline of ${check.deadlineSeconds ?? 0} s has come`),
      );
    }
    await clock.sleep(pauseSeconds, signal);
  }
}

async function judgeAttempt(
  attemptOnce: AttemptOnce,
  timeoutSeconds: number,
  signal: AbortSignal | undefined,
): Promise<Verdict> {
  try {
    return await attemptOnce(timeoutSeconds);
  } catch (error) {
    // Anything that is not ours is a defect, and no verdict on a server.
    if (!(error instanceof SlipwayError)) throw error;
    if (signal?.aborted === true) throw new CancelledError('The workflow was cancelled.', '', { cause: error });
    return failed(excerpt(error.message), excerpt(error.hint));
  }
}

/** A passed attempt that comes too late or too seldom is still a failed check, and has to say why. */
function explainShortfall(verdict: Verdict, inARow: number, check: Check, why: string): Verdict {
  if (!verdict.ok) return verdict;
  return failed(
    `only ${inARow} of ${check.successes} successes in a row (${why}); last: ${verdict.reason}`,
    verdict.detail,
  );
}
