/** Carries a plan out as a transaction: journal first, then the steps, and on any failure everything back in reverse. */
import type { ComposeTarget } from '../commands/compose';
import { closeJournal, guardStep, LOCK_LOST, pointCurrent, withdrawCurrent, writeJournal } from '../commands/store';
import { describeUndo, renderUndo } from '../commands/undo';
import { CancelledError, CommandError, LockLostError, TimeoutError } from '../errors';
import type { Command } from '../model/command';
import type { HoldStep, Step } from '../model/step';
import type { Clock, Reporter, RunOptions, Session } from '../ports';
import { type Journal, planUndo, renderJournal } from '../releases/journal';
import type { StoreLayout } from '../releases/layout';

export interface StepRecord {
  readonly id: string;
  readonly title: string;
  readonly seconds: number;
  readonly ok: boolean;
}

export type Outcome =
  | { readonly kind: 'committed'; readonly timeline: readonly StepRecord[] }
  /** A step failed; `unrestored` names what could not be undone: empty means the server is as it was. */
  | {
      readonly kind: 'undone';
      readonly cause: unknown;
      readonly timeline: readonly StepRecord[];
      readonly unrestored: readonly string[];
    }
  /** Another session has taken over, and ends what this one began: nothing more was done by this one. */
  | { readonly kind: 'overtaken'; readonly cause: LockLostError; readonly timeline: readonly StepRecord[] };

export interface TransactionContext {
  readonly session: Session;
  readonly reporter: Reporter;
  readonly clock: Clock;
  readonly target: ComposeTarget;
  readonly layout: StoreLayout;
  /** Of the lock, see guardStep. */
  readonly token: string;
  readonly signal: AbortSignal;
}

export interface Transaction {
  readonly release: string;
  readonly previous: string | undefined;
  readonly steps: readonly Step[];
  readonly runUrl: string;
  readonly actor: string;
  /** Looks at the new release; throws when it must not go on. */
  readonly hold: (step: HoldStep, signal: AbortSignal) => Promise<void>;
}

export async function executeTransaction(transaction: Transaction, context: TransactionContext): Promise<Outcome> {
  const { reporter, clock, layout, target, signal } = context;
  const timeline: StepRecord[] = [];
  const journal: Journal = {
    project: target.project,
    release: transaction.release,
    previous: transaction.previous ?? '',
    runUrl: transaction.runUrl,
    actor: transaction.actor,
    timeoutSeconds: Math.max(180, ...transaction.steps.map((step) => step.timeoutSeconds)),
    undo: planUndo(transaction.steps),
  };
  // Every verb may be carried out on what was never done, so the whole way back is written before the first change.
  await runGuarded(writeJournal(layout, renderJournal(journal)), { purpose: 'write the journal', signal }, context);
  let pointing = false;
  try {
    for (const step of transaction.steps) {
      const started = clock.monotonicMs();
      const record = (ok: boolean): void => {
        timeline.push({ id: step.id, title: step.title, seconds: (clock.monotonicMs() - started) / 1000, ok });
      };
      reporter.line(`- ${step.title}`);
      try {
        if (step.kind === 'hold') await transaction.hold(step, signal);
        else {
          const { title: purpose, timeoutSeconds } = step;
          await runGuarded(
            step.do,
            {
              purpose,
              timeoutSeconds,
              signal,
              onLine: (line) => {
                showProgress(line, reporter);
              },
            },
            context,
          );
        }
        record(true);
        reporter.line(reporter.palette.quiet(`  ${((clock.monotonicMs() - started) / 1000).toFixed(1)} s`));
      } catch (error) {
        record(false);
        throw error;
      }
    }
    if (signal.aborted) throw new CancelledError('The workflow was cancelled.', '');
    pointing = true;
    await runGuarded(
      pointCurrent(layout, transaction.release),
      { purpose: 'make the release the current one' },
      context,
    );
    return { kind: 'committed', timeline };
  } catch (cause) {
    if (cause instanceof LockLostError) return { kind: 'overtaken', cause, timeline };
    try {
      const withdrawn = pointing ? await withdraw(transaction, context) : [];
      // What is current stays as it is then: a release must not lose its containers while the store says that it serves.
      if (withdrawn.length > 0) return { kind: 'undone', cause, timeline, unrestored: withdrawn };
      return { kind: 'undone', cause, timeline, unrestored: await undo(journal, context) };
    } catch (error) {
      if (error instanceof LockLostError) return { kind: 'overtaken', cause: error, timeline };
      throw error;
    }
  }
}

/**
 * Changes the server, under the guard of the lock.
 *
 * @throws LockLostError when another session has it; whatever Session.run throws.
 */
async function runGuarded(
  command: Command,
  options: RunOptions,
  { session, layout, token }: Pick<TransactionContext, 'session' | 'layout' | 'token'>,
): Promise<void> {
  try {
    await session.run(guardStep(layout, token, command), options);
  } catch (error) {
    if (!(error instanceof CommandError && error.exitCode === LOCK_LOST)) throw error;
    throw new LockLostError(
      `This session has lost the project's lock at ${session.where}: it was not heard of for a while, and another one took over.`,
      'That one first puts back what was under way here; its log says what serves. Run this again when it has ended.',
      { cause: error },
    );
  }
}

/** Compose's advice on orphans is not for here: Slipway removes what leaves the project itself, after the commit. */
function showProgress(line: string, reporter: Reporter): void {
  if (!line.includes('Found orphan containers')) reporter.remote(`  ${line}`);
}

/** The last command failed, or its answer was lost: the release may be the current one already. */
async function withdraw({ release, previous }: Transaction, context: TransactionContext): Promise<string[]> {
  try {
    const command = withdrawCurrent(context.layout, release, previous);
    await runGuarded(command, { purpose: 'make the old release the current one' }, context);
    return [];
  } catch (error) {
    if (error instanceof LockLostError) throw error;
    return [`make ${previous ?? 'no release'} the current one: ${describeError(error)}`];
  }
}

function describeError(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Three tries: a step that was stopped half-way may still be at work in the Docker daemon. */
const UNDO_TRIES = 3;

/**
 * Carries out a journal and closes it. Also for what a killed session left behind. Not cancellable: it is the way back.
 *
 * @returns what could not be undone. The journal stays then, for the next session.
 * @throws LockLostError
 */
export async function undo(journal: Journal, context: Omit<TransactionContext, 'signal'>): Promise<string[]> {
  const { reporter, target, layout } = context;
  const unrestored: string[] = [];
  for (const verb of journal.undo) {
    const title = describeUndo(verb);
    reporter.line(`- ${title}`);
    const problem = await undoOne(renderUndo(verb, target, layout), title, journal.timeoutSeconds, context);
    if (problem !== undefined) unrestored.push(`${title}: ${problem}`);
  }
  if (unrestored.length > 0) return unrestored;
  try {
    await runGuarded(closeJournal(layout, journal.release), { purpose: 'close the journal' }, context);
    return [];
  } catch (error) {
    if (error instanceof LockLostError) throw error;
    return [`close the journal: ${describeError(error)}`];
  }
}

/** @returns why it did not work, after all tries. */
async function undoOne(
  command: Command,
  purpose: string,
  timeoutSeconds: number,
  context: Omit<TransactionContext, 'signal'>,
): Promise<string | undefined> {
  const { reporter, clock } = context;
  for (let attempt = 1; ; attempt++) {
    try {
      const onLine = (line: string): void => {
        showProgress(line, reporter);
      };
      await runGuarded(command, { purpose, timeoutSeconds, onLine }, context);
      return undefined;
    } catch (error) {
      if (error instanceof LockLostError) throw error;
      const mayWork = error instanceof CommandError || error instanceof TimeoutError;
      if (!mayWork || attempt === UNDO_TRIES) return describeError(error);
      await clock.sleep(attempt);
    }
  }
}
