import type { Command } from './command';

/**
 * What the guardian on the server knows to do by itself: a verb of a fixed list and its arguments, never shell text and
 * never a secret. So a journal of verbs can be carried out by whoever comes next, and cannot be turned into running
 * something else. Each may be carried out again, and on what was never done; none needs free disk space. Each is one
 * function of guardian/guardian.sh or guardian/router.sh.
 */
export type UndoVerb =
  /** Removes the replicas of a service that the deploy has added: all but these container ids. */
  | { readonly verb: 'keep-only'; readonly service: string; readonly ids: readonly string[] }
  /** A container that was there before serves again, with the restart policy that it had. */
  | { readonly verb: 'revive'; readonly id: string; readonly restart: string }
  /** Services that were replaced in their place are made again as a kept release says, and started in this order. */
  | {
      readonly verb: 'restore-services';
      readonly release: string;
      readonly services: readonly string[];
      /** Those that others of that release wait for until they are healthy. */
      readonly awaited: readonly string[];
    }
  /** Removes networks that did not exist before, where nothing is connected to them. */
  | { readonly verb: 'remove-networks'; readonly networks: readonly string[] }
  /** Waits for the end of a one-off container, and removes it. */
  | { readonly verb: 'remove-run'; readonly name: string }
  /** Databases that were swapped for this release have their names and their data again, as its folder in the store says. */
  | { readonly verb: 'take-back-data'; readonly release: string }
  /** The router knows the old replicas again. */
  | { readonly verb: 'restore-router'; readonly router: string }
  /** As `drain`, of the replicas of a service that are new: all but these ids. */
  | {
      readonly verb: 'drain-new';
      readonly router: string;
      readonly port: number;
      readonly boundSeconds: number;
      readonly service: string;
      readonly ids: readonly string[];
    }
  | CleaningVerb;

export type FinishVerb =
  /** From here on a boot brings back the new release, and no longer what was stopped for it. */
  | {
      readonly verb: 'hand-over';
      /** Ids of what was stopped for a successor, or left the project. */
      readonly retired: readonly string[];
      readonly services: readonly {
        readonly service: string;
        /** As `docker update --restart` takes it. */
        readonly restart: string;
        /** Ids of its containers that are not new. */
        readonly before: readonly string[];
      }[];
    }
  /** Waits until the router's old workers and the connections to these replicas are gone, at most for the bound. */
  | {
      readonly verb: 'drain';
      readonly router: string;
      readonly port: number;
      readonly boundSeconds: number;
      readonly ids: readonly string[];
    }
  /** Stops replicas of the release before, as each asked to be stopped, and removes them. */
  | { readonly verb: 'retire'; readonly ids: readonly string[] }
  /** Removes services that left the project. Their volumes stay: data is never removed. */
  | { readonly verb: 'remove-services'; readonly services: readonly string[] }
  /** The router's way back goes. */
  | { readonly verb: 'settle-router'; readonly router: string }
  | { readonly verb: 'remove-releases'; readonly releases: readonly string[] }
  | CleaningVerb;

/** On the way forth or back: what monitoring hears, and what is no longer needed. */
type CleaningVerb =
  /** How it ended, as a file for the textfile collector of node-exporter. It never fails. */
  | { readonly verb: 'tell-metrics'; readonly file: string; readonly task: 'deploy' | 'rollback' }
  | { readonly verb: 'remove-files'; readonly addresses: readonly string[] }
  /** Our local tags of these images go, and those that nothing else names or uses. */
  | { readonly verb: 'forget-images'; readonly images: readonly string[] };

/** One step of a transaction, as data: dry run, summary, undo, fault injection and tests all come from the same list. */
export type Step = RunStep | RouteStep | HoldStep;

interface StepBase {
  /** Unique within its plan: `start-2`. */
  readonly id: string;
  /** In the infinitive, for people: "start api". */
  readonly title: string;
  readonly timeoutSeconds: number;
}

/** Changes the server. */
export interface RunStep extends StepBase {
  readonly kind: 'run';
  readonly do: Command;
  readonly undo: readonly UndoVerb[];
  /** What becomes of it when the transaction is given up meanwhile. A migration must not be cut off. Default `kill`. */
  readonly onAbort?: 'kill' | 'finish';
}

/** Moves a router's traffic to the new replicas: first both sides, then the new one alone. */
export interface RouteStep extends StepBase {
  readonly kind: 'route';
  readonly router: string;
  readonly upstreams: readonly RoutedService[];
  /** Whether the router's nginx resolves names again while it runs. */
  readonly resolve: boolean;
  readonly undo: readonly UndoVerb[];
}

export interface RoutedService {
  readonly service: string;
  readonly port: number;
  /** Container ids of the replicas that serve before. */
  readonly before: readonly string[];
  /** Of those, the ones that go on serving. */
  readonly staying: readonly string[];
  /** Ids of those that go, running or stopped for their successors: the last resort until the commit. */
  readonly retiring: readonly string[];
}

/** Waits for the runner's word: it looks at the new release before the transaction goes on. */
export interface HoldStep extends StepBase {
  readonly kind: 'hold';
  readonly gate: Gate;
}

export type Gate =
  /** Every new replica of these services is ready, and has stayed so for the monitor time. */
  | {
      readonly gate: 'ready';
      readonly services: readonly string[];
      /** Where not all replicas have been started yet: how many, by service. */
      readonly started?: Readonly<Record<string, number>>;
    }
  /** The release serves: health checks, end-to-end command and bake time. */
  | { readonly gate: 'proven' };
