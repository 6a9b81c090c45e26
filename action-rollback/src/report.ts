/** The outputs of a rollback. */
import { describeOutputs, type TransactionReport } from '#shared/engine/report';
import type { Runner } from '#shared/ports';
import type { ListedRelease } from './list';

export interface RollbackReport extends TransactionReport {
  releases: readonly ListedRelease[];
  /** Id of the release that was chosen; empty before. */
  target: string;
}

/** @param redact since a job output that holds a masked value is dropped as a whole. */
export function setOutputs(
  report: RollbackReport,
  runner: Pick<Runner, 'setOutput'>,
  redact: (text: string) => string,
): void {
  const outputs = describeOutputs(report, redact);
  runner.setOutput('release', outputs.release);
  runner.setOutput('previous-release', outputs['previous-release']);
  runner.setOutput('target', report.target);
  runner.setOutput('result', outputs.result);
  runner.setOutput('changed-services', outputs['changed-services']);
  runner.setOutput('plan', outputs.plan);
  runner.setOutput('watch', outputs.watch);
  runner.setOutput('durations', outputs.durations);
  runner.setOutput(
    'releases',
    redact(JSON.stringify(report.releases.map((release) => ({ ...release, line: undefined })))),
  );
}
