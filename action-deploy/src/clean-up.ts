/** The post step: when the main step could not put things right itself (killed, or its connection was lost). */
import { ConnectError, type ConnectReason, ReleaseError } from '#shared/errors';
import type { Ports, Session } from '#shared/ports';
import { layoutStore } from '#shared/releases/layout';
import type { ServerFacts } from '#shared/server/facts';
import type { Lock } from '#shared/transaction/lock';
import { recover } from '#shared/transaction/recover';
import type { Inputs } from './inputs';
import { lockProject, readFacts, readRequest } from './request';
import { waitForRestored } from './verify';

/** Looks what became of a deploy that did not settle, and puts back what is left of it. Nothing to do after one that did. */
export async function cleanUp(ports: Ports): Promise<void> {
  const { runner, reporter } = ports;
  const release = runner.state('release');
  if (release === '' || runner.state('settled') !== '') return;
  reporter.line(`The deploy of ${release} was interrupted; looking at the server.`);
  const { inputs, source } = await readRequest(ports);
  const session = await reconnect(inputs, ports);
  let lock: Lock | undefined;
  try {
    const layout = layoutStore((await readFacts(session, inputs, source)).path);
    lock = await lockProject(session, layout, ports);
    const facts = await readFacts(session, inputs, source);
    const verdict = await settle(facts, release, {
      ...ports,
      ports,
      inputs,
      session,
      layout,
      token: lock.token,
      target: { project: source.project, projectDirectory: layout.project },
    });
    reporter.notice('Slipway', verdict);
    await reporter.summary(`### After the interruption\n\n${verdict}\n`);
  } finally {
    await lock?.release();
    await session.close();
  }
}

const RECONNECT_SECONDS = 60;

/** The connection may have been what was lost: it gets a minute to come back. */
async function reconnect(inputs: Inputs, { connect, clock, reporter, signal }: Ports): Promise<Session> {
  const startedMs = clock.monotonicMs();
  for (;;) {
    try {
      return await connect(inputs.host, { signal });
    } catch (error) {
      const goneSeconds = (clock.monotonicMs() - startedMs) / 1000;
      const mayReturn = error instanceof ConnectError && MAY_RETURN.has(error.reason);
      if (!mayReturn || goneSeconds > RECONNECT_SECONDS) throw error;
      reporter.line(`${error.message} Trying again.`);
      await clock.sleep(5, signal);
    }
  }
}

const MAY_RETURN: ReadonlySet<ConnectReason> = new Set(['refused', 'timeout', 'unreachable', 'lost', 'handshake']);

/** @throws ReleaseError when the server is not as it should be. */
async function settle(
  facts: ServerFacts,
  release: string,
  { inputs, ...context }: Parameters<typeof recover>[1] & { readonly inputs: Inputs; readonly ports: Ports },
): Promise<string> {
  const current = facts.current === undefined ? 'no release serves' : `release ${facts.current} serves`;
  if (facts.journal === '') {
    return facts.current === release ? committed(release) : `Nothing was left to put back: ${current}.`;
  }
  const recovery = await recover(facts, context);
  if (recovery.release !== release) {
    throw new ReleaseError(
      `The journal on the server was of another deploy, ${recovery.release}, and was carried out: ${current}.`,
      'Look at the server.',
    );
  }
  if (recovery.verdict === 'committed') return committed(release);
  const problem = await waitForRestored(recovery.restored, facts.currentCompose, inputs.readyTimeoutSeconds, {
    ...context,
    project: context.target.project,
  });
  if (problem !== undefined) {
    throw new ReleaseError(
      `The interrupted deploy of ${release} was undone, and release ${facts.current ?? ''} is not ready: ${problem}`,
      'Look at the server now: the old release does not come up as it was.',
    );
  }
  return `The interrupted deploy of ${release} was undone: ${current}.`;
}

function committed(release: string): string {
  return `Release ${release} had been committed: it is live.`;
}
