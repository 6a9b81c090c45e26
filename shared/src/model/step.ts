import type { Command } from './command';

/**
 * How a step is undone: a verb of a fixed list and its arguments, never shell text and never a secret, so that a journal
 * of them can be replayed by whoever comes next and cannot be turned into running something else. Each is idempotent.
 */
export type UndoVerb =
  /** Brings services to what a kept release says of them: starts, recreates or leaves them alone. */
  | {
      readonly verb: 'restore-services';
      readonly release: string;
      /** In the order in which they are started. */
      readonly services: readonly string[];
      /** Those that others of that release wait for until they are healthy. */
      readonly awaited: readonly string[];
    }
  /** Removes containers of services that did not exist before. Their volumes stay: data is never removed. */
  | { readonly verb: 'remove-services'; readonly services: readonly string[] }
  /** Removes networks that did not exist before, where nothing is connected to them. */
  | { readonly verb: 'remove-networks'; readonly networks: readonly string[] };

/** One step of a transaction, as data: dry run, summary, undo, fault injection and tests all come from the same list. */
export type Step = RunStep | HoldStep;

interface StepBase {
  /** Unique within its plan: `replace-api`. */
  readonly id: string;
  /** In the infinitive, for people: "replace api". */
  readonly title: string;
  readonly timeoutSeconds: number;
}

/** Changes the server. */
export interface RunStep extends StepBase {
  readonly kind: 'run';
  readonly do: Command;
  /** In the order in which they were written; undone in reverse. */
  readonly undo: readonly UndoVerb[];
}

/** Waits for the runner's word: it looks at the new release before the transaction goes on. */
export interface HoldStep extends StepBase {
  readonly kind: 'hold';
  readonly gate: Gate;
}

export type Gate =
  /** Every replica of these services is ready. */
  | { readonly gate: 'ready'; readonly services: readonly string[] }
  /** Nothing that was started crashed or restarted within the monitor time, and the health checks pass. */
  | { readonly gate: 'proven' };
