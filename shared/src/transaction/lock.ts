import { randomUUID } from 'node:crypto';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import { holdLock } from '../commands/store';
import { CommandError, LockHeldError } from '../errors';
import type { Clock, ServerProcess, Session } from '../ports';
import type { StoreLayout } from '../releases/layout';

export interface Lock {
  /** Proves to the server that a step is of the session that has the lock. */
  readonly token: string;
  /** Another session had it first: what was read before is stale. */
  readonly waited: boolean;
  /** The current release at the moment the lock was taken; undefined before the first one. */
  readonly current: string | undefined;
  release(): Promise<void>;
}

export interface LockRequest {
  /** One line that says who we are, for whoever has to wait. */
  readonly holder: string;
  /** How long to wait for another session. */
  readonly waitSeconds: number;
  /** Told once, when there is somebody to wait for. */
  readonly onWait: (holder: string) => void;
  readonly signal?: AbortSignal | undefined;
}

/** The server lets the lock go when it has not heard of us for so long: a link that was cut says nothing. */
export const LEASE_SECONDS = 30;

const HEARTBEAT_SECONDS = 5;

const RETRY_SECONDS = 1;

/** flock's answer through our script: somebody else has it. */
const HELD = 75;

/**
 * Takes the project's lock for this session. The kernel holds it, so it is free as soon as its holder is gone, however it went.
 *
 * @throws LockHeldError that says who has it, after `waitSeconds`; CancelledError.
 */
export async function takeLock(
  session: Session,
  layout: StoreLayout,
  request: LockRequest,
  clock: Clock,
): Promise<Lock> {
  const startedMs = clock.monotonicMs();
  for (let told = false; ; told = true) {
    const answer = await tryLock(session, layout, request.holder);
    if (typeof answer !== 'string') return { ...answer, waited: told };
    if (clock.monotonicMs() - startedMs >= request.waitSeconds * 1000) {
      throw new LockHeldError(
        `Another session is at work on this project at ${session.where}: ${answer}.`,
        'Nothing was changed. Run this again when that one has ended; a lock never outlives its session by more than half a minute.',
      );
    }
    if (!told) request.onWait(answer);
    await clock.sleep(RETRY_SECONDS, request.signal);
  }
}

/** @returns the lock, or who holds it. */
async function tryLock(session: Session, layout: StoreLayout, holder: string): Promise<Omit<Lock, 'waited'> | string> {
  const token = randomUUID();
  const process = await session.start(holdLock(layout, holder, LEASE_SECONDS, token));
  const problems = text(process.stderr);
  // A lost connection is reported by whoever uses the session next; here it must only not go unhandled.
  process.exit.catch(() => undefined);
  problems.catch(() => undefined);
  process.stdin.on('error', () => undefined);
  const lines: string[] = [];
  for await (const line of createInterface({ input: process.stdout })) {
    const current = /^locked (.*)$/.exec(line)?.[1];
    if (current !== undefined) return { ...keepLock(process, current), token };
    lines.push(line);
  }
  const exitCode = await process.exit;
  if (exitCode === HELD) return lines.join(' ').slice(0, 300) || 'it left no name';
  const problem = (await problems).trim();
  throw new CommandError(
    `The project's lock could not be taken at ${session.where}: ${problem.slice(0, 500)}`,
    'Nothing was changed.',
    exitCode,
    problem,
  );
}

function keepLock(process: ServerProcess, current: string): Omit<Lock, 'waited' | 'token'> {
  const heartbeat = setInterval(() => {
    process.stdin.write('beat\n');
  }, HEARTBEAT_SECONDS * 1000);
  heartbeat.unref();
  return {
    current: current === 'none' ? undefined : current.split('/').at(-1),
    release: async () => {
      clearInterval(heartbeat);
      process.stdin.end();
      await process.exit.catch(() => undefined);
      process.close();
    },
  };
}
