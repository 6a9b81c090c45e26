/** The GitHub Deployment record of this deploy, where a token is given. It runs beside the deploy, and cannot fail it. */
import { beginRecord, RECORD_STATE, type RecordResult, resumeRecord } from '#shared/reporters/deployment-record';
import type { Ports } from '#shared/ports';
import { type Deployment, warn } from './deployment';
import type { Inputs } from './inputs';

export function beginDeploymentRecord(release: string, deployment: Deployment): void {
  const { inputs, source, facts, ports, report } = deployment;
  if (inputs.githubToken.isEmpty) return;
  report.record = beginRecord(describe(release, inputs, source.project, facts.current ?? '', ports), {
    ...recordPorts(inputs, ports),
    warn: (message) => {
      warn(deployment, message);
    },
  });
}

/** In the post step: the end of a record that the main step has left open. */
export async function endDeploymentRecord(
  result: RecordResult,
  current: string,
  inputs: Inputs,
  project: string,
  ports: Ports,
): Promise<void> {
  if (inputs.githubToken.isEmpty || ports.runner.state(RECORD_STATE) !== 'open') return;
  const record = resumeRecord(describe(ports.runner.state('release'), inputs, project, current, ports), {
    ...recordPorts(inputs, ports),
    warn: (message) => {
      ports.reporter.warning('Slipway', message);
    },
  });
  await record.settle({ result });
}

function describe(
  release: string,
  { environment, environmentUrl }: Inputs,
  project: string,
  previous: string,
  { runner }: Ports,
): Parameters<typeof beginRecord>[0] {
  const { commit, runUrl } = runner.context;
  return { task: 'deploy', commit, environment, environmentUrl, project, release, previous, runUrl };
}

function recordPorts(
  { githubToken }: Inputs,
  { github, clock, runner, reporter }: Ports,
): Omit<Parameters<typeof beginRecord>[1], 'warn'> {
  return { github: github(githubToken), clock, runner, redact: (text) => reporter.redact(text) };
}
