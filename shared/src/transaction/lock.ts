import { holdLock } from '../commands/store';
import { CommandError, LockHeldError } from '../errors';
import type { ServerProcess, Session } from '../ports';
import type { StoreLayout } from '../releases/layout';
import { text } from 'node:stream/consumers';
import { createInterface } from 'node:readline';

export interface Lock {
  /** The current release at the moment the lock was taken. */
  readonly current: string | undefined;
  release(): Promise<void>;
}

/** flock's answer through our script: somebody else has it. */
const HELD = 75;

/**
 * Takes the project's lock for this session. The kernel holds it: whatever dies, it is free again.
 *
 * @throws LockHeldError that says who has it.
 */
export async function takeLock(session: Session, layout: StoreLayout, holder: string, maxSeconds: number): Promise<Lock> {
  const process = await session.start(holdLock(layout, holder, maxSeconds));
  const problems = text(process.stderr);
  // A lost connection is reported by whoever uses the session; here it must only not go unhandled.
  process.exit.catch(() => undefined);
  const lines: string[] = [];
  for await (const line of createInterface({ input: process.stdout })) {
    const current = /^locked (.*)$/.exec(line)?.[1];
    if (current !== undefined) {
      return { current: current === 'none' ? undefined : current.split('/').at(-1), release: () => release(process) };
    }
    lines.push(line);
  }
  const exitCode = await process.exit;
  if (exitCode === HELD) {
    throw new LockHeldError(
      `Another session is at work on this project at ${session.where}: ${lines.join(' ').slice(0, 300) || 'it left no name'}.`,
      'Nothing was changed. Run this again when that one has ended; a lock never outlives its session.',
    );
  }
  throw new CommandError(
    `The project's lock could not be taken at ${session.where}: ${(await problems).trim().slice(0, 500)}`,
    'Nothing was changed.',
    exitCode,
    await problems,
  );
}

async function release(process: ServerProcess): Promise<void> {
  process.stdin.end();
  await process.exit.catch(() => undefined);
  process.close();
}
