/** What the main step and the post step both begin with. */
import { ConnectError, type ConnectReason } from '#shared/errors';
import { type Guardian, startGuardian } from '#shared/guardian/client';
import type { Ports, Session } from '#shared/ports';
import type { ServerFacts } from '#shared/server/facts';
import { readServerFacts } from '#shared/server/read';
import { readSource, type Source } from './facts';
import { type Inputs, readInputs } from './inputs';
import { hideSecrets } from './secrets';

/** What is to be deployed, and where. From here on its secrets are hidden. */
export async function readRequest(ports: Ports): Promise<{ inputs: Inputs; source: Source }> {
  const inputs = readInputs((name) => ports.runner.input(name));
  hideSecrets(inputs, ports.reporter);
  return { inputs, source: await readSource(inputs, ports) };
}

function projectPath(inputs: Inputs, source: Source): string {
  return inputs.path === '' ? `apps/${source.project}` : inputs.path;
}

/** @param signal undefined where a cancel must not stop it */
export function readFacts(
  guardian: Guardian,
  inputs: Inputs,
  source: Source,
  signal?: AbortSignal,
): Promise<ServerFacts> {
  return readServerFacts(guardian, projectPath(inputs, source), source.project, signal);
}

/**
 * The guardian of this project, with its lock unless this is a dry run. What an interrupted session left is put right
 * before this returns.
 */
export function openGuardian(
  session: Session,
  inputs: Inputs,
  source: Source,
  { runner, reporter, clock, signal }: Pick<Ports, 'runner' | 'reporter' | 'clock'> & { readonly signal?: AbortSignal },
  waitSeconds = inputs.lockWaitSeconds,
): Promise<Guardian> {
  const { actor, runUrl } = runner.context;
  const holder = ['deploy', actor === '' ? '' : `by ${actor}`, runUrl, `since ${clock.now().toISOString()}`]
    .filter((part) => part !== '')
    .join(' ');
  return startGuardian(
    session,
    {
      path: projectPath(inputs, source),
      project: source.project,
      mode: inputs.dryRun ? 'look' : 'change',
      leaseSeconds: inputs.leaseSeconds,
      waitSeconds,
      holder,
      onWait: (other) => {
        reporter.remote(`Waiting for another session on this project: ${other}`);
      },
      onNote: (text) => {
        reporter.remote(`  ${text}`);
      },
    },
    { clock, redact: (text) => reporter.redact(text), signal },
  );
}

const MAY_RETURN: ReadonlySet<ConnectReason> = new Set(['refused', 'timeout', 'unreachable', 'lost', 'handshake']);

/**
 * Connects again: the connection, or the whole server, may have been what was lost, and gets a while to come back.
 *
 * @param signal undefined where a cancel must not stop it
 */
export async function reconnect(
  inputs: Inputs,
  { connect, clock, reporter }: Pick<Ports, 'connect' | 'clock' | 'reporter'>,
  patienceSeconds: number,
  signal?: AbortSignal,
): Promise<Session> {
  const startedMs = clock.monotonicMs();
  for (;;) {
    try {
      return await connect(inputs.host, signal === undefined ? {} : { signal });
    } catch (error) {
      const goneSeconds = (clock.monotonicMs() - startedMs) / 1000;
      const mayReturn = error instanceof ConnectError && MAY_RETURN.has(error.reason);
      if (!mayReturn || goneSeconds > patienceSeconds) throw error;
      reporter.line(`${error.message} Trying again.`);
      await clock.sleep(3, signal);
    }
  }
}
