/** What every phase of one change of releases works with, be it a deploy or a rollback. */
import type { ComposeTarget } from '../commands/compose';
import type { Guardian } from '../guardian/client';
import type { Ports, Session } from '../ports';
import type { StoreLayout } from '../releases/layout';
import type { ServerFacts } from '../server/facts';
import type { TransactionInputs } from './inputs';
import type { TransactionReport } from './report';

/** How a release goes live: it comes from the workspace, or from the store. */
export type Task = 'deploy' | 'rollback';

/** Whoever works on a project of a server. */
export interface SessionRequest {
  /** One word for whoever has to wait for it. */
  readonly task: string;
  /** Compose project name. */
  readonly project: string;
  readonly inputs: Pick<TransactionInputs, 'host' | 'path' | 'leaseSeconds'>;
}

/** What is wanted, before the server is known. */
export interface TransactionRequest extends SessionRequest {
  readonly task: Task;
  readonly inputs: TransactionInputs;
}

/** What is noted while it goes on. */
export interface Phase {
  readonly ports: Ports;
  readonly report: Pick<TransactionReport, 'durations' | 'warnings'>;
}

export interface Transaction extends TransactionRequest {
  readonly session: Session;
  /** Everything that is asked or changed on the server goes through it. Without the lock in a dry run. */
  readonly guardian: Guardian;
  readonly facts: ServerFacts;
  readonly layout: StoreLayout;
  readonly target: ComposeTarget;
  readonly ports: Ports;
  readonly report: TransactionReport;
}

/** Runs a phase and notes how long it took, also when it fails. */
export async function timed<T>({ report, ports }: Phase, phase: string, work: () => Promise<T>): Promise<T> {
  const startedMs = ports.clock.monotonicMs();
  try {
    return await work();
  } finally {
    report.durations[phase] = (report.durations[phase] ?? 0) + (ports.clock.monotonicMs() - startedMs) / 1000;
  }
}

/** Something people should know: an annotation now, and a line of the summary. Once each. */
export function warn({ report, ports }: Phase, message: string): void {
  if (report.warnings.includes(message)) return;
  report.warnings.push(message);
  ports.reporter.warning('Slipway', message);
}
