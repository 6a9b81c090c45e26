/** Carries a plan out as a transaction: the guardian on the server does the work, and the way back if there must be one. */
import type { ComposeTarget } from '../commands/compose';
import { CancelledError, ConnectError, ReleaseError, SlipwayError } from '../errors';
import { describeReason, type Guardian, isOfItsOwnAccord } from '../guardian/client';
import { renderJournal } from '../guardian/journal';
import type { FinishVerb, HoldStep, RouteStep, Step, UndoVerb } from '../model/step';
import type { Clock, Reporter } from '../ports';
import type { ContainerState } from '../probes/container';
import type { StoreLayout } from '../releases/layout';
import { renderUpstreams, stageUpstreams } from '../routers/nginx';

export interface StepRecord {
  readonly id: string;
  readonly title: string;
  readonly seconds: number;
  readonly ok: boolean;
}

export type Outcome =
  /** Decided. The server removes what is left of the old release by itself; what it cannot is told by, and left to, the next session. */
  | { readonly kind: 'committed'; readonly timeline: readonly StepRecord[] }
  /** A step failed; `unrestored` says what could not be undone: empty means the server is as it was. */
  | {
      readonly kind: 'undone';
      readonly cause: unknown;
      readonly timeline: readonly StepRecord[];
      readonly unrestored: string;
    }
  /** The connection was lost: the server ends it by itself, and can be asked how. */
  | { readonly kind: 'unknown'; readonly cause: ConnectError; readonly timeline: readonly StepRecord[] };

export interface TransactionContext {
  readonly guardian: Guardian;
  readonly reporter: Reporter;
  readonly clock: Clock;
  readonly target: ComposeTarget;
  readonly layout: StoreLayout;
  readonly signal: AbortSignal;
}

export interface Transaction {
  readonly release: string;
  readonly steps: readonly Step[];
  readonly undo: readonly UndoVerb[];
  readonly finish: readonly FinishVerb[];
  /** By service: ids of the containers that are no new replicas. */
  readonly before: Readonly<Record<string, readonly string[]>>;
  /** Looks at the new release; throws when it must not go on. Begins at once, while steps before it are under way. */
  readonly hold: (step: HoldStep, signal: AbortSignal) => Promise<void>;
  /** The project's containers as last seen. */
  readonly containers: () => readonly ContainerState[];
  /** Told when it is decided. */
  readonly onCommitted?: () => void;
}

export async function executeTransaction(transaction: Transaction, context: TransactionContext): Promise<Outcome> {
  const { guardian, target, signal } = context;
  const run = new Run(transaction, context);
  guardian.begin(
    renderJournal({
      project: target.project,
      release: transaction.release,
      limitSeconds: Math.max(
        ...transaction.steps.map((step) =>
          step.kind === 'run' && step.onAbort === 'finish' ? 0 : step.timeoutSeconds,
        ),
      ),
      undo: transaction.undo,
      finish: transaction.finish,
    }),
  );
  const abort = new AbortController();
  const onCancel = (): void => {
    const { reason } = signal as { readonly reason: unknown };
    abort.abort(reason instanceof SlipwayError ? reason : new CancelledError('The workflow was cancelled.', ''));
  };
  signal.addEventListener('abort', onCancel, { once: true });
  if (signal.aborted) onCancel();
  // What the guardian decides by itself (a lease that has run out) ends a hold too.
  guardian.committed.catch((error: unknown) => {
    abort.abort(error);
  });
  try {
    await run.all(abort.signal);
    guardian.commit();
  } catch (cause) {
    guardian.abort();
    return await run.hearUndone(cause);
  } finally {
    signal.removeEventListener('abort', onCancel);
  }
  try {
    await guardian.committed;
    transaction.onCommitted?.();
    guardian.verdict.catch(() => undefined);
    return { kind: 'committed', timeline: run.timeline };
  } catch (cause) {
    return await run.hearUndone(cause);
  }
}

class Run {
  readonly timeline: StepRecord[] = [];
  readonly #transaction: Transaction;
  readonly #context: TransactionContext;
  /** When the step before had ended: they are carried out one after the other. */
  #lastEndMs: number;
  #failure: { readonly error: unknown } | undefined;

  constructor(transaction: Transaction, context: TransactionContext) {
    this.#transaction = transaction;
    this.#context = context;
    this.#lastEndMs = context.clock.monotonicMs();
  }

  /** Sends all steps up to a gate at once, so that none waits for the network. */
  async all(signal: AbortSignal): Promise<void> {
    let sent: Promise<void>[] = [];
    const settle = async (): Promise<void> => {
      const whole = Promise.all(sent);
      sent = [];
      await raceAbort(whole, signal);
    };
    for (const step of this.#transaction.steps) {
      switch (step.kind) {
        case 'run':
          sent.push(this.#record(step, this.#run(step)));
          break;
        case 'route':
          // Which names it writes is known once the new replicas are.
          await settle();
          sent.push(this.#record(step, this.#route(step)));
          break;
        case 'hold':
          await this.#hold(step, settle, signal);
      }
    }
    await settle();
  }

  async #hold(step: HoldStep, settle: () => Promise<void>, signal: AbortSignal): Promise<void> {
    const ending = new AbortController();
    const holding = this.#record(step, this.#transaction.hold(step, AbortSignal.any([signal, ending.signal])));
    // A step before it may fail first.
    holding.catch(() => undefined);
    try {
      await settle();
      await raceAbort(holding, signal);
    } catch (error) {
      ending.abort(error);
      throw error;
    }
  }

  async #run(step: Extract<Step, { kind: 'run' }>): Promise<void> {
    const { guardian } = this.#context;
    await guardian.step(step.do, {
      purpose: step.title,
      timeoutSeconds: step.timeoutSeconds,
      onAbort: step.onAbort ?? 'kill',
      onLine: (line) => {
        this.#show(line);
      },
    });
  }

  async #route(step: RouteStep): Promise<void> {
    const { guardian, layout } = this.#context;
    const containers = this.#transaction.containers();
    const nameOf = (id: string): string[] => containers.filter((one) => one.id === id).map((one) => one.name);
    const routes = step.upstreams.map(({ service, port, before, staying, retiring }) => {
      const added = containers.filter(
        (one) => one.service === service && !one.oneoff && !this.#before(service).includes(one.id),
      );
      const fresh = added.map(({ name }) => name);
      const old = before.flatMap(nameOf);
      const after = [...staying.flatMap(nameOf), ...fresh];
      // An nginx that resolves names at a reload only does not take one that is stopped.
      const resort = retiring.filter((id) => step.resolve || before.includes(id)).flatMap(nameOf);
      const common = { service, port };
      return {
        ids: added.map(({ id }) => id),
        // No visitor is to meet the new ones yet; but where nobody else is, they are all there is.
        both: { ...common, ...(old.length === 0 ? { replicas: after } : { replicas: old, waiting: fresh }) },
        next: { ...common, replicas: after, waiting: resort, backups: resort },
        final: { ...common, replicas: after },
      };
    });
    const render = (which: 'both' | 'next' | 'final'): string =>
      renderUpstreams(
        routes.map((route) => route[which]),
        { resolve: step.resolve, moving: which === 'both' },
      );
    const files = { both: render('both'), next: render('next'), final: render('final') };
    const ids = routes.flatMap((route) => route.ids);
    const options = { purpose: step.title, timeoutSeconds: step.timeoutSeconds, onAbort: 'finish' } as const;
    await Promise.all([
      guardian.step(stageUpstreams(layout, step.router, files), options),
      ...['both', 'new'].map((move) => guardian.verb(['switch-router', step.router, move, ...ids].join(' '), options)),
    ]);
  }

  #before(service: string): readonly string[] {
    return this.#transaction.before[service] ?? [];
  }

  async #record(step: Step, work: Promise<void>): Promise<void> {
    const { reporter, clock } = this.#context;
    const note = (ok: boolean): void => {
      const nowMs = clock.monotonicMs();
      const seconds = (nowMs - this.#lastEndMs) / 1000;
      this.#lastEndMs = nowMs;
      this.timeline.push({ id: step.id, title: step.title, seconds, ok });
      reporter.line(`- ${step.title}${reporter.palette.quiet(`  ${seconds.toFixed(1)} s${ok ? '' : ', failed'}`)}`);
    };
    try {
      await work;
      note(true);
    } catch (error) {
      // What was sent ahead of it fails with it: only the first one says why.
      if (this.#failure === undefined) {
        this.#failure = { error };
        note(false);
      }
      throw error;
    }
  }

  /** Compose's advice on orphans is not for here: Slipway removes what leaves the project itself, after the commit. */
  #show(line: string): void {
    if (line.trim() !== '' && !line.includes('Found orphan containers')) this.#context.reporter.remote(`  ${line}`);
  }

  /** @param cause why; the first failure counts. */
  async hearUndone(cause: unknown): Promise<Outcome> {
    const { guardian } = this.#context;
    const { timeline } = this;
    const why = cause instanceof CancelledError ? cause : (this.#failure?.error ?? cause);
    try {
      const verdict = await guardian.verdict;
      if (verdict.kind === 'committed') {
        return { kind: 'committed', timeline };
      }
      return {
        kind: 'undone',
        cause: isOfItsOwnAccord(verdict.why) ? new ReleaseError(describeReason(verdict.why), '') : why,
        timeline,
        unrestored: verdict.unrestored,
      };
    } catch (error) {
      if (error instanceof ConnectError) return { kind: 'unknown', cause: error, timeline };
      throw error;
    }
  }
}

/** @throws the signal's reason, as soon as it is given. */
async function raceAbort<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  let onAbort = (): void => undefined;
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => {
      reject(signal.reason as ReleaseError);
    };
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) onAbort();
  });
  work.catch(() => undefined);
  try {
    return await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
