/** Asking a server for its facts. */
import { randomBytes } from 'node:crypto';
import { readServer } from '../commands/server';
import { ServerAnswerError } from '../errors';
import type { Remote } from '../ports';
import { parseServerFacts, type ServerFacts } from './facts';

/**
 * Everything Slipway needs to know of a server and a project on it, in one round trip; changes nothing.
 *
 * @throws ServerAnswerError when the answer is cut off or cannot be read: it is never taken for "nothing there".
 */
export async function readServerFacts(
  remote: Remote,
  path: string,
  project: string,
  signal?: AbortSignal,
): Promise<ServerFacts> {
  const token = `slipway-${randomBytes(16).toString('hex')}`;
  const { stdout } = await remote.run(readServer(token, path, project), {
    purpose: 'look at the server',
    ...(signal === undefined ? {} : { signal }),
  });
  try {
    return parseServerFacts(stdout, token);
  } catch (cause) {
    if (!(cause instanceof SyntaxError)) throw cause;
    throw new ServerAnswerError(
      `${remote.where} gave no answer that can be trusted: ${cause.message}.`,
      'Nothing was changed. Run this again; if it stays so, look at `docker ps -a` and `docker info` on the server.',
      { cause },
    );
  }
}
