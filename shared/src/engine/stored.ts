/** Reading releases of the store on the server. */
import { randomBytes } from 'node:crypto';
import { parseStoredRelease, readStoredRelease, type StoredRelease } from '../commands/stored-release';
import { CommandError, ServerAnswerError } from '../errors';
import type { Remote, Reporter } from '../ports';
import type { StoreLayout } from '../releases/layout';
import { hideEnv } from './secrets';

/**
 * One release, with its secret environment hidden from here on.
 *
 * @throws ServerAnswerError where a part of it is missing, or cannot be read.
 */
export async function readStored(
  id: string,
  layout: StoreLayout,
  remote: Remote,
  reporter: Pick<Reporter, 'hide'>,
  signal?: AbortSignal,
): Promise<StoredRelease> {
  const token = `slipway-${randomBytes(16).toString('hex')}`;
  const { stdout } = await remote.run(readStoredRelease(token, layout, id), {
    purpose: `read release ${id} in the store`,
    ...(signal === undefined ? {} : { signal }),
  });
  try {
    const stored = parseStoredRelease(stdout, token);
    hideEnv(stored.env, reporter);
    return stored;
  } catch (cause) {
    if (!(cause instanceof SyntaxError)) throw cause;
    throw new ServerAnswerError(
      `Release ${id} cannot be read in the store at ${remote.where}: ${cause.message}.`,
      `Nothing was changed. Choose another release, or look at ${layout.releases}/${id} on the server.`,
      { cause },
    );
  }
}

/**
 * What containers of a release say in their logs may hold what is secret in its environment, which our inputs need not know.
 *
 * @returns the release; undefined without one, or where it is damaged: that is no reason not to tell how things stand, or not to leave it.
 */
export async function hideStoredEnv(
  id: string | undefined,
  layout: StoreLayout,
  remote: Remote,
  reporter: Pick<Reporter, 'hide'>,
): Promise<StoredRelease | undefined> {
  if (id === undefined) return undefined;
  try {
    return await readStored(id, layout, remote, reporter);
  } catch (error) {
    if (error instanceof ServerAnswerError || error instanceof CommandError) return undefined;
    throw error;
  }
}
