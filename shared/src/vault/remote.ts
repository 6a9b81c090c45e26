/**
 * Where PostgreSQL is: in a container of the project, or behind a URL. For a server behind a URL a helper's container with the client programs runs on
 * the project's server while it is needed.
 */
import { randomBytes } from 'node:crypto';
import { type PostgresTarget, startClient } from '../commands/postgres';
import { BackupError, InputError } from '../errors';
import type { DatabaseServer } from '../inputs/database-urls';
import { type BackupItem, serverOf } from '../model/backup';
import type { ContainerState } from '../probes/container';
import { script } from '../shell/render';
import { requireContainer } from './sources';
import { carryOut, type Clients, scratchFor, type Vault } from './vault';

const START_SECONDS = 120;
/** How long a session that is given up may take to tidy up. */
const TIDY_SECONDS = 10;

/**
 * Work that may ask servers behind URLs: a helper is started when one is first asked, and all are removed in the end. Where we are killed, the server
 * removes them: the script that was under way, or the helper itself when nobody has used it for a while, or the next run.
 *
 * @param image with the client programs; empty: the one that each backup was made with.
 */
export async function withClients<T>(
  servers: readonly DatabaseServer[],
  image: string,
  vault: Vault,
  work: (vault: Vault) => Promise<T>,
): Promise<T> {
  const mark = randomBytes(4).toString('hex');
  const started = new Set<string>();
  const clients: Clients = {
    async open(name, usual, asking) {
      const server = servers.find((one) => one.name === name);
      if (server === undefined) throw describeUnknown(name);
      // A dry run and a backup may go on at once.
      const scratch = scratchFor(asking, `client-${name}-${mark}`);
      started.add(scratch.name);
      const from = image || usual;
      if (from === '') {
        throw new BackupError(
          `No image with the client programs of PostgreSQL is known for ${name}.`,
          'Give one in the input `database-image`, such as postgres:17.',
        );
      }
      await carryOut(startClient(from, scratch), `start the client programs for ${name}`, asking, {
        timeoutSeconds: START_SECONDS,
      });
      return { container: scratch.name, user: server.user, remote: server.remote };
    },
  };
  try {
    return await work({ ...vault, clients });
  } finally {
    const options = { timeoutSeconds: TIDY_SECONDS, purpose: 'remove the client programs' };
    // Past the guardian: it may be gone.
    if (started.size > 0)
      await vault.session.run(script('docker rm -fv "$@" >/dev/null 2>&1', ...started), options).catch(() => undefined);
  }
}

function describeUnknown(name: string): InputError {
  return new InputError([
    {
      input: 'database-urls',
      message: `has no server ${name}, which is no service of the project: give its URL there, as \`${name} = postgres://...\`.`,
    },
  ]);
}

/**
 * A server behind a URL.
 *
 * @param image to take the client programs from where no other one is given.
 * @throws InputError where its URL is not known; BackupError.
 */
export async function openServer(name: string, image: string, vault: Vault): Promise<PostgresTarget> {
  if (vault.clients === undefined) throw describeUnknown(name);
  return vault.clients.open(name, image, vault);
}

/**
 * The server that an item of a backup is of.
 *
 * @param renamed databases that get other names: nobody may be connected to these.
 * @throws BackupError where it does not run; as {@link openServer}.
 */
export async function targetOf(
  { service, source, user, image }: Pick<BackupItem, 'service' | 'source' | 'user' | 'image'>,
  containers: readonly ContainerState[],
  vault: Vault,
  renamed: readonly string[] = [],
): Promise<PostgresTarget> {
  if (service !== '') return { container: requireContainer(service, containers), user };
  const target = await openServer(serverOf(source), image, vault);
  if (target.remote === undefined || !renamed.includes('postgres')) return target;
  return { ...target, remote: { ...target.remote, database: 'template1' } };
}
