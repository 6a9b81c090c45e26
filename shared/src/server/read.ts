/** Asking a server for its facts. */
import { randomBytes } from 'node:crypto';
import { readServer } from '../commands/server';
import type { Session } from '../ports';
import { parseServerFacts, type ServerFacts } from './facts';

/** Everything Slipway needs to know of a server and a project on it, in one round trip; changes nothing. */
export async function readServerFacts(
  session: Session,
  path: string,
  project: string,
  signal?: AbortSignal,
): Promise<ServerFacts> {
  const token = `slipway-${randomBytes(16).toString('hex')}`;
  const { stdout } = await session.run(readServer(token, path, project), {
    purpose: 'look at the server',
    ...(signal === undefined ? {} : { signal }),
  });
  return parseServerFacts(stdout, token);
}
