/** Takes what a backup is of, one file after the other. */
import { parseArchived, type Archived } from '../backups/archive';
import { nameFile } from '../backups/manifest';
import { parseDumpedDatabase, parseDumpedRoles } from '../backups/postgres';
import { parseDumpedRedis } from '../backups/redis';
import { archiveFiles, archiveVolume } from '../commands/archive';
import { dumpDatabase, dumpRoles, type PostgresTarget } from '../commands/postgres';
import { dumpRedis } from '../commands/redis';
import { BackupError } from '../errors';
import { formatBytes } from '../images/size';
import { type BackupItem, serverOf } from '../model/backup';
import type { Command } from '../model/command';
import { countKeys, countTables, countTree, sumRows } from './counts';
import type { Job } from './jobs';
import { growthOf, withProgress } from './progress';
import { openServer } from './remote';
import { BackupCommandError, carryOut, scratchFor, type Vault } from './vault';

/** What an item is before anything is known of how it is kept. */
const BARE = {
  service: '',
  name: '',
  user: '',
  image: '',
  compression: 'none',
  versions: { server: '', client: '' },
  counts: {},
  proof: undefined,
  offsite: undefined,
} as const;

/**
 * @param folder of the backup in the making.
 * @returns the items, with nothing proven.
 */
export async function dumpAll(jobs: readonly Job[], folder: string, vault: Vault): Promise<BackupItem[]> {
  const items: BackupItem[] = [];
  for (const job of jobs) {
    const startedMs = vault.ports.clock.monotonicMs();
    const item = await dump(job, folder, vault);
    const seconds = (vault.ports.clock.monotonicMs() - startedMs) / 1000;
    vault.ports.reporter.line(`- ${job.source}: ${describeItem(item)}, in ${seconds.toFixed(1)} s`);
    items.push(item);
  }
  return items;
}

/** `120.5 MB, 3 tables, 1200 rows` */
export function describeItem({ kind, bytes, counts }: BackupItem): string {
  const parts = Object.keys(counts).length;
  const rows = sumRows(counts);
  const plural = (count: number, word: string): string => `${count} ${word}${count === 1 ? '' : 's'}`;
  const content = {
    postgres: `${plural(parts, 'table')}, ${plural(rows, 'row')}`,
    roles: '',
    redis: plural(rows, 'key'),
    files: plural(rows, 'file'),
    volume: plural(rows, 'file'),
  }[kind];
  return [formatBytes(bytes), content].filter((part) => part !== '').join(', ');
}

async function dump(job: Job, folder: string, vault: Vault): Promise<BackupItem> {
  const { kind, source } = job;
  const compression = kind === 'files' || kind === 'volume' ? 'gzip' : 'none';
  const name = nameFile({ kind, source, compression }, false);
  const file = `${folder}/${name}`;
  const run = async (command: Command): Promise<string> => {
    const answer = await withProgress(source, vault.ports, growthOf(file, vault.session), () =>
      carryOut(command, `back up ${source}`, vault),
    );
    return answer.stdout;
  };
  const item = { ...BARE, kind: kind, source, file: name };
  const plain = ({ bytes, sha256 }: { readonly bytes: number; readonly sha256: string }) => ({
    bytes,
    sha256,
    plainBytes: bytes,
    plainSha256: sha256,
  });
  switch (job.kind) {
    case 'roles': {
      const { service, image, server } = job;
      const dumped = parseDumpedRoles(await run(dumpRoles(await openTarget(job, vault), file)));
      return { ...item, ...plain(dumped), service, image, user: server.user, versions: describeVersions(server) };
    }
    case 'postgres': {
      const { service, image, server, database } = job;
      const dumped = parseDumpedDatabase(await run(dumpDatabase(await openTarget(job, vault), database, file)));
      return {
        ...item,
        ...plain(dumped),
        service,
        image,
        name: database,
        user: server.user,
        versions: describeVersions(server),
        counts: countTables(dumped.tables),
      };
    }
    case 'redis': {
      const { service, image } = job;
      const dumped = parseDumpedRedis(await run(dumpRedis({ container: job.container }, file)));
      return {
        ...item,
        ...plain(dumped),
        service,
        image,
        versions: { server: dumped.version, client: '' },
        // Of the running server just after it; what the file has, all databases together, is exact.
        counts:
          dumped.after.length === 1
            ? { [`db${dumped.after[0]?.database ?? 0}`]: { rows: dumped.keys, hash: '' } }
            : countKeys(dumped.after),
      };
    }
    case 'volume': {
      const { archived, image } = await archiveWith(job, file, run, vault);
      return { ...item, ...describeArchive(archived, source, vault), name: job.name, image, compression };
    }
    case 'files': {
      const archived = parseArchived(await run(archiveFiles(job.folder, job.paths, file)));
      return { ...item, ...describeArchive(archived, source, vault), compression };
    }
  }
}

/** As the container's own user, or as the URL says. */
async function openTarget(
  { service, container, source, image }: Extract<Job, { kind: 'roles' | 'postgres' }>,
  vault: Vault,
): Promise<PostgresTarget> {
  return service === '' ? openServer(serverOf(source), image, vault) : { container };
}

/** An image without a shell cannot read a volume: then another one of the project does. */
async function archiveWith(
  job: Extract<Job, { kind: 'volume' }>,
  file: string,
  run: (command: Command) => Promise<string>,
  vault: Vault,
): Promise<{ archived: Archived; image: string }> {
  let problem: unknown = new BackupError(
    `No container of the project says what image could read volume ${job.name}.`,
    'Start the service that uses it.',
  );
  for (const image of job.images) {
    try {
      const command = archiveVolume(job.name, image, job.quiet, file, scratchFor(vault, 'archive'));
      return { archived: parseArchived(await run(command)), image };
    } catch (error) {
      if (!(error instanceof BackupCommandError) || error.exitCode !== 69) throw error;
      problem = error;
    }
  }
  throw problem;
}

function describeArchive(archived: Archived, source: string, { ports }: Vault) {
  const { bytes, sha256, plainBytes, plainSha256, tree, changed } = archived;
  if (changed) {
    ports.reporter.warning(
      'Slipway',
      `${source} changed while it was read, so it cannot be proven to be of one moment. ${source.startsWith('volume:') ? 'Say `paused` or `stopped` behind it in the input `what`.' : 'Back it up while nobody writes to it.'}`,
    );
  }
  // What changed cannot be compared with anything later.
  return { bytes, sha256, plainBytes, plainSha256, counts: changed ? {} : countTree(tree) };
}

function describeVersions({
  serverVersion,
  clientVersion,
}: {
  serverVersion: number;
  clientVersion: string;
}): BackupItem['versions'] {
  const [major, minor] = [Math.floor(serverVersion / 10_000), serverVersion % 10_000];
  return { server: `${major}.${minor}`, client: /(\d+(?:\.\d+)*)/.exec(clientVersion)?.[1] ?? '' };
}
