/** The GitHub Deployment record of this transaction, where a token is given. It runs beside it, and cannot fail it. */
import { beginRecord, RECORD_STATE, type RecordResult, resumeRecord } from '../reporters/deployment-record';
import type { Ports } from '../ports';
import { type Transaction, type TransactionRequest, warn } from './transaction';

export function beginDeploymentRecord(release: string, transaction: Transaction): void {
  const { inputs, facts, ports, report } = transaction;
  if (inputs.githubToken.isEmpty) return;
  report.record = beginRecord(describe(release, transaction, facts.current ?? '', ports), {
    ...recordPorts(inputs, ports),
    warn: (message) => {
      warn(transaction, message);
    },
  });
}

/** In the post step: the end of a record that the main step has left open. */
export async function endDeploymentRecord(
  result: RecordResult,
  current: string,
  request: TransactionRequest,
  ports: Ports,
): Promise<void> {
  const { inputs } = request;
  if (inputs.githubToken.isEmpty || ports.runner.state(RECORD_STATE) !== 'open') return;
  const record = resumeRecord(describe(ports.runner.state('release'), request, current, ports), {
    ...recordPorts(inputs, ports),
    warn: (message) => {
      ports.reporter.warning('Slipway', message);
    },
  });
  await record.settle({ result });
}

function describe(
  release: string,
  { task, project, inputs: { environment, environmentUrl } }: TransactionRequest,
  previous: string,
  { runner }: Ports,
): Parameters<typeof beginRecord>[0] {
  const { commit, runUrl } = runner.context;
  return { task, commit, environment, environmentUrl, project, release, previous, runUrl };
}

function recordPorts(
  { githubToken }: TransactionRequest['inputs'],
  { github, clock, runner, reporter }: Ports,
): Omit<Parameters<typeof beginRecord>[1], 'warn'> {
  return { github: github(githubToken), clock, runner, redact: (text) => reporter.redact(text) };
}
