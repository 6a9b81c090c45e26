/** Carries a plan out as a transaction: journal first, then the steps, and on any failure everything back in reverse. */
import type { ComposeTarget } from '../commands/compose';
import { closeJournal, guardStep, pointCurrent, withdrawCurrent, writeJournal } from '../commands/store';
import { describeUndo, renderUndo } from '../commands/undo';
import { CancelledError, CommandError, TimeoutError } from '../errors';
import type { HoldStep, Step } from '../model/step';
import type { Clock, Reporter, Session } from '../ports';
import { type Journal, renderJournal } from '../releases/journal';
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
    };

export interface TransactionContext {
  readonly session: Session;
  readonly reporter: Reporter;
  readonly clock: Clock;
  readonly target: ComposeTarget;
  readonly layout: StoreLayout;
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
  const { session, reporter, clock, layout, signal } = context;
  const timeline: StepRecord[] = [];
  const journal: Journal = {
    release: transaction.release,
    previous: transaction.previous ?? '',
    runUrl: transaction.runUrl,
    actor: transaction.actor,
    undo: transaction.steps.flatMap((step) => (step.kind === 'run' ? step.undo : [])).reverse(),
  };
  // Every verb may be carried out on what was never done, so the whole way back is written before the first change.
  await session.run(writeJournal(layout, renderJournal(journal)), { purpose: 'write the journal', signal });
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
          await session.run(guardStep(layout, step.do), {
            purpose: step.title,
            timeoutSeconds: step.timeoutSeconds,
            signal,
            onLine: (line) => {
              reporter.remote(`  ${line}`);
            },
          });
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
    await session.run(pointCurrent(layout, transaction.release), { purpose: 'make the release the current one' });
    return { kind: 'committed', timeline };
  } catch (cause) {
    const withdrawn = pointing ? await withdraw(transaction, context) : [];
    // What is current stays as it is then: a release must not lose its containers while the store says that it serves.
    if (withdrawn.length > 0) return { kind: 'undone', cause, timeline, unrestored: withdrawn };
    return { kind: 'undone', cause, timeline, unrestored: await undo(journal, context) };
  }
}

/** The last command failed, or its answer was lost: the release may be the current one already. */
async function withdraw(
  { release, previous }: Transaction,
  { session, layout }: TransactionContext,
): Promise<string[]> {
  try {
    await session.run(withdrawCurrent(layout, release, previous), { purpose: 'make the old release the current one' });
    return [];
  } catch (error) {
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
 */
export async function undo(journal: Journal, context: Omit<TransactionContext, 'signal'>): Promise<string[]> {
  const { session, reporter, clock, target, layout } = context;
  const unrestored: string[] = [];
  for (const verb of journal.undo) {
    const title = describeUndo(verb);
    reporter.line(`- ${title}`);
    for (let attempt = 1; ; attempt++) {
      try {
        await session.run(guardStep(layout, renderUndo(verb, target, layout)), {
          purpose: title,
          timeoutSeconds: 180,
          onLine: (line) => {
            reporter.remote(`  ${line}`);
          },
        });
        break;
      } catch (error) {
        if (!(error instanceof CommandError || error instanceof TimeoutError) || attempt === UNDO_TRIES) {
          unrestored.push(`${title}: ${describeError(error)}`);
          break;
        }
        await clock.sleep(attempt);
      }
    }
  }
  if (unrestored.length === 0) {
    try {
      await session.run(closeJournal(layout, journal.release), { purpose: 'close the journal' });
    } catch (error) {
      unrestored.push(`close the journal: ${describeError(error)}`);
    }
  }
  return unrestored;
}
