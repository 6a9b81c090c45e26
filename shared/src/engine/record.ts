/** The GitHub Deployment record of this transaction, where a token is given. It runs beside it, and cannot fail it. */
import { beginRecord, RECORD_STATE, type RecordResult, resumeRecord } from '../reporters/deployment-record';
import type { Ports } from '../ports';
import { type Transaction, type TransactionRequest, warn } from './transaction';

/** @param commit that goes live; empty where it is not known, and that of the run is taken. */
export function beginDeploymentRecord(release: string, transaction: Transaction, commit = ''): void {
  const { inputs, facts, ports, report } = transaction;
  if (inputs.githubToken.isEmpty) return;
  const target = commit || ports.runner.context.commit;
  ports.runner.saveState('commit', target);
  report.record = beginRecord(describe(release, transaction, facts.current ?? '', target, ports), {
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
  const record = resumeRecord(
    describe(ports.runner.state('release'), request, current, ports.runner.state('commit'), ports),
    {
      ...recordPorts(inputs, ports),
      warn: (message) => {
        ports.reporter.warning('Slipway', message);
      },
    },
  );
  await record.settle({ result });
}

function describe(
  release: string,
  { task, project, inputs: { environment, environmentUrl } }: TransactionRequest,
  previous: string,
  commit: string,
  { runner }: Ports,
): Parameters<typeof beginRecord>[0] {
  const { runUrl } = runner.context;
  return { task, commit, environment, environmentUrl, project, release, previous, runUrl };
}

function recordPorts(
  { githubToken }: TransactionRequest['inputs'],
  { github, clock, runner, reporter }: Ports,
): Omit<Parameters<typeof beginRecord>[1], 'warn'> {
  return { github: github(githubToken), clock, runner, redact: (text) => reporter.redact(text) };
}
