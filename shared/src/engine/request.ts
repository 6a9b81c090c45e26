/** How every session on a project begins. */
import { ConnectError, type ConnectReason } from '../errors';
import { type Guardian, type GuardianRequest, startGuardian } from '../guardian/client';
import type { Ports, Remote, Session } from '../ports';
import type { ServerFacts } from '../server/facts';
import { readServerFacts } from '../server/read';
import type { SessionRequest } from './transaction';

/** Relative to the login's home where it is not absolute. */
export function projectPath({ inputs, project }: SessionRequest): string {
  return inputs.path === '' ? `apps/${project}` : inputs.path;
}

/** @param signal undefined where a cancel must not stop it */
export function readFacts(guardian: Remote, request: SessionRequest, signal?: AbortSignal): Promise<ServerFacts> {
  return readServerFacts(guardian, projectPath(request), request.project, signal);
}

/** What a session is to do, and how long it may wait for another one. */
export interface Opening {
  readonly mode: GuardianRequest['mode'];
  readonly waitSeconds: number;
  readonly onStart?: GuardianRequest['onStart'];
}

/**
 * The guardian of this project, with its lock unless it is only to look. What an interrupted session left is put right
 * before this returns.
 */
export function openGuardian(
  session: Session,
  request: SessionRequest,
  { mode, waitSeconds, onStart }: Opening,
  { runner, reporter, clock, signal }: Pick<Ports, 'runner' | 'reporter' | 'clock'> & { readonly signal?: AbortSignal },
): Promise<Guardian> {
  const { actor, runUrl } = runner.context;
  const holder = [request.task, actor === '' ? '' : `by ${actor}`, runUrl, `since ${clock.now().toISOString()}`]
    .filter((part) => part !== '')
    .join(' ');
  return startGuardian(
    session,
    {
      path: projectPath(request),
      project: request.project,
      mode,
      leaseSeconds: request.inputs.leaseSeconds,
      waitSeconds,
      holder,
      onWait: (other) => {
        reporter.remote(`Waiting for another session on this project: ${other}`);
      },
      onNote: (text) => {
        reporter.remote(`  ${text}`);
      },
      ...(onStart === undefined ? {} : { onStart }),
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
  { inputs }: SessionRequest,
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
