/** The outputs of a deploy. */
import { describeOutputs, type TransactionReport } from '#shared/engine/report';
import type { Runner } from '#shared/ports';

/** @param redact since a job output that holds a masked value is dropped as a whole. */
export function setOutputs(
  report: TransactionReport,
  runner: Pick<Runner, 'setOutput'>,
  redact: (text: string) => string,
): void {
  const outputs = describeOutputs(report, redact);
  runner.setOutput('release', outputs.release);
  runner.setOutput('previous-release', outputs['previous-release']);
  runner.setOutput('result', outputs.result);
  runner.setOutput('changed-services', outputs['changed-services']);
  runner.setOutput('plan', outputs.plan);
  runner.setOutput('watch', outputs.watch);
  runner.setOutput('durations', outputs.durations);
}
