/** The story of a health check: inputs, plan, connection, checks, report. */
import { CancelledError, SlipwayError } from '#shared/errors';
import type { Ports, Session } from '#shared/ports';
import type { Host } from '#shared/model/host';
import { groupResults } from '#shared/probes/outcome';
import { runChecks } from '#shared/probes/run-checks';
import { listSecrets, readInputs } from './inputs';
import { renderPlan } from './plan';
import { describeFailure, renderAnnotations, renderLine, renderOutputs, renderSummary } from './report';

/** @throws InputError, ProbeError (checks failed), CancelledError */
export async function run(ports: Ports): Promise<void> {
  const { runner, reporter, http, clock, signal } = ports;
  const inputs = readInputs((name) => runner.input(name));
  for (const secret of listSecrets(inputs)) reporter.hide(secret);

  await reporter.group('Checks', () => {
    for (const line of renderPlan(inputs.checks)) reporter.line(line);
    return Promise.resolve();
  });
  const session = inputs.host && (await openSession(inputs.host, ports));
  try {
    const onResult = (result: Parameters<typeof renderLine>[0]): void => {
      reporter.remote(renderLine(result));
    };
    const outcomes = groupResults(await runChecks(inputs.checks, { http, clock, signal, session, onResult }));

    const outputs = renderOutputs(outcomes, (text) => reporter.redact(text));
    runner.setOutput('healthy', outputs.healthy);
    runner.setOutput('results', outputs.results);
    runner.setOutput('failed', outputs.failed);
    await reporter.summary(renderSummary(outcomes));
    for (const { title, text } of renderAnnotations(outcomes)) reporter.error(title, text);
    const failure = describeFailure(outcomes);
    if (failure !== undefined) throw failure;
  } finally {
    if (session !== undefined && !(session instanceof SlipwayError)) await session.close();
  }
}

/** A server that cannot be reached fails its own checks and no others: each is to be reported. */
async function openSession(host: Host, { connect, signal }: Ports): Promise<Session | SlipwayError> {
  try {
    return await connect(host, { signal });
  } catch (error) {
    if (!(error instanceof SlipwayError) || error instanceof CancelledError) throw error;
    return error;
  }
}
