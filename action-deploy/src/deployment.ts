/** What every phase of one deploy works with. */
import type { ComposeTarget } from '#shared/commands/compose';
import type { Guardian } from '#shared/guardian/client';
import type { Ports, Session } from '#shared/ports';
import type { StoreLayout } from '#shared/releases/layout';
import type { ServerFacts } from '#shared/server/facts';
import type { Source } from './facts';
import type { Inputs } from './inputs';
import type { DeployReport } from './report';

export interface Deployment {
  readonly inputs: Inputs;
  readonly source: Source;
  readonly session: Session;
  /** Everything that is asked or changed on the server goes through it. Without the lock in a dry run. */
  readonly guardian: Guardian;
  readonly facts: ServerFacts;
  readonly layout: StoreLayout;
  readonly target: ComposeTarget;
  readonly ports: Ports;
  readonly report: DeployReport;
}

/** Runs a phase and notes how long it took, also when it fails. */
export async function timed<T>(
  { report, ports }: Pick<Deployment, 'report' | 'ports'>,
  phase: string,
  work: () => Promise<T>,
): Promise<T> {
  const startedMs = ports.clock.monotonicMs();
  try {
    return await work();
  } finally {
    report.durations[phase] = (report.durations[phase] ?? 0) + (ports.clock.monotonicMs() - startedMs) / 1000;
  }
}

/** Something people should know: an annotation now, and a line of the summary. Once each. */
export function warn({ report, ports }: Pick<Deployment, 'report' | 'ports'>, message: string): void {
  if (report.warnings.includes(message)) return;
  report.warnings.push(message);
  ports.reporter.warning('Slipway', message);
}
