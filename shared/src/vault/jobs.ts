/** From sources to single files: which databases there are, and how much room it takes. */
import picomatch from 'picomatch';
import { listFiles, type Quiet } from '../commands/archive';
import { listDatabases, type PostgresTarget } from '../commands/postgres';
import { compareVersions, parseDatabases, type Databases } from '../backups/postgres';
import { CONTROL, RELEASE } from '../backups/manifest';
import { BackupError, type PreflightFinding } from '../errors';
import { formatBytes } from '../images/size';
import type { Backup, BackupItem } from '../model/backup';
import { compareBackups } from '../model/backup';
import { excerpt } from '../shell/excerpt';
import type { DiskSpace } from '../server/facts';
import { openServer } from './remote';
import type { Source } from './sources';
import { carryOut, type Vault } from './vault';

interface JobBase {
  /** As {@link BackupItem.source}. */
  readonly source: string;
  /** What it will take at most, as far as that can be told beforehand; undefined where it cannot. */
  readonly bytes: number | undefined;
}

/** One file of the backup to be. */
export type Job = JobBase &
  (
    | {
        readonly kind: 'roles';
        /** Empty where the server is behind a URL, as its container. */
        readonly service: string;
        readonly container: string;
        readonly image: string;
        readonly server: Databases;
      }
    | {
        readonly kind: 'postgres';
        readonly service: string;
        readonly container: string;
        readonly image: string;
        readonly server: Databases;
        readonly database: string;
      }
    | { readonly kind: 'redis'; readonly service: string; readonly container: string; readonly image: string }
    | {
        readonly kind: 'volume';
        readonly name: string;
        readonly quiet: Quiet;
        readonly images: readonly string[];
      }
    | { readonly kind: 'files'; readonly folder: string; readonly paths: readonly string[] }
  );

/** A file of roles is small; it has no size that could be asked. */
const ROLES_BYTES = 1_000_000;

/** Asks the servers what there is. @throws BackupError where something is not there. */
export async function listJobs(sources: readonly Source[], vault: Vault): Promise<Job[]> {
  const jobs: Job[] = [];
  for (const source of sources) {
    switch (source.kind) {
      case 'postgres':
        jobs.push(...(await listPostgres(source, vault)));
        break;
      case 'remote':
        jobs.push(...(await listRemote(source, vault)));
        break;
      case 'redis': {
        const { service, container } = source;
        jobs.push({
          kind: 'redis',
          source: `redis:${service}`,
          bytes: undefined,
          service,
          container: container.id,
          image: container.image,
        });
        break;
      }
      case 'volume': {
        const { volume, name, quiet, images } = source;
        jobs.push({ kind: 'volume', source: `volume:${volume}`, bytes: undefined, name, quiet, images });
        break;
      }
      case 'files':
        jobs.push(await listFilesOf(`files:${source.globs.join(' ')}`, vault.layout.project, source.globs, vault));
        break;
      case 'release': {
        // With its content addresses: those of other releases are few and small.
        const globs = [`releases/${source.release}`, 'files'];
        jobs.push(await listFilesOf(RELEASE, vault.layout.store, globs, vault));
      }
    }
  }
  return jobs;
}

async function listPostgres(
  { service, container, databases }: Extract<Source, { kind: 'postgres' }>,
  vault: Vault,
): Promise<Job[]> {
  const server = await readServer({ container: container.id }, service, `Service ${service}`, databases, vault);
  return planDumps(service, databases, { service, container: container.id, image: container.image, server }, vault);
}

async function listRemote(
  { server: name, image, databases }: Extract<Source, { kind: 'remote' }>,
  vault: Vault,
): Promise<Job[]> {
  const server = await readServer(await openServer(name, image, vault), name, `Server ${name}`, databases, vault);
  if (!server.superuser) {
    vault.ports.reporter.warning(
      'Slipway',
      `The roles of ${name} are backed up without their passwords, which only superusers see: keep these elsewhere, or set new ones after a restore to another server.`,
    );
  }
  return planDumps(name, databases, { service: '', container: '', image, server }, vault);
}

/** @param who as an error says it. */
async function readServer(
  target: PostgresTarget,
  name: string,
  who: string,
  databases: readonly string[],
  vault: Vault,
): Promise<Databases> {
  const { stdout } = await carryOut(listDatabases(target), `list the databases of ${name}`, vault, {
    timeoutSeconds: 120,
  });
  const server = parseDatabases(stdout);
  const versions = compareVersions(server);
  if (versions !== undefined) throw new BackupError(`${who}: ${versions}`, 'Nothing was backed up.');
  const unknown = databases.filter((database) => !server.databases.some((one) => one.name === database));
  if (unknown.length > 0) {
    throw new BackupError(
      `${who} has no database ${unknown.map((name) => excerpt(name, 60)).join(', ')}.`,
      `It has ${server.databases.map(({ name }) => excerpt(name, 60)).join(', ')}. Nothing was backed up.`,
    );
  }
  // The manifest is text for people and their terminals.
  const odd = server.databases.find(
    (one) => CONTROL.test(one.name) && (databases.length === 0 || databases.includes(one.name)),
  );
  if (odd !== undefined) {
    throw new BackupError(
      `${who} has a database whose name has control characters: ${excerpt(odd.name, 60)}.`,
      'Rename it, or name those that are wanted in the input `what`. Nothing was backed up.',
    );
  }
  return server;
}

/** @param name of the server in sources. */
function planDumps(
  name: string,
  databases: readonly string[],
  common: Pick<Extract<Job, { kind: 'roles' }>, 'service' | 'container' | 'image' | 'server'>,
  vault: Vault,
): Job[] {
  const { server } = common;
  const isAside = (one: { readonly name: string }): boolean => /^slipway-(new|kept|was)-/.test(one.name);
  const wanted = server.databases.filter((one) =>
    databases.length === 0 ? !isAside(one) : databases.includes(one.name),
  );
  const aside = databases.length === 0 ? server.databases.filter(isAside) : [];
  if (aside.length > 0) {
    // Once dropped, as the restore told to, they would be missed by every later backup.
    vault.ports.reporter.remote(
      `Not in this backup, as a restore has left it: ${aside.map((one) => excerpt(one.name, 70)).join(', ')}`,
    );
  }
  return [
    { kind: 'roles', source: `roles:${name}`, bytes: ROLES_BYTES, ...common },
    ...wanted.map(({ name: database, bytes }) => ({
      kind: 'postgres' as const,
      source: `postgres:${name}/${database}`,
      bytes,
      database,
      ...common,
    })),
  ];
}

/** @param globs relative to the folder; a folder's name means all that is in it. */
async function listFilesOf(source: string, folder: string, globs: readonly string[], vault: Vault): Promise<Job> {
  const { stdout } = await carryOut(listFiles(folder), `list the files of ${folder}`, vault);
  const matches = picomatch(
    globs.flatMap((glob) => [glob, `${glob.replace(/\/+$/, '')}/**`]),
    { dot: true },
  );
  const paths = stdout.split('\0').filter((path) => path !== '' && matches(path));
  if (paths.length === 0) {
    throw new BackupError(
      `No file in ${folder} on the server is meant by ${excerpt(globs.join(' '), 200)}.`,
      'Globs are relative to that folder. Nothing was backed up.',
    );
  }
  return { kind: 'files', source, bytes: undefined, folder, paths };
}

/** What was asked for, as the manifest has it: so a source that vanished is told from one that nobody wanted. */
export function describeScope(sources: readonly Source[]): string[] {
  return sources.flatMap((source) => {
    switch (source.kind) {
      case 'postgres':
        return describeServer(source.service, source.databases);
      case 'remote':
        return describeServer(source.server, source.databases);
      case 'redis':
        return [`redis:${source.service}`];
      case 'volume':
        return [`volume:${source.volume}`];
      case 'files':
        return [`files:${source.globs.join(' ')}`];
      case 'release':
        return [RELEASE];
    }
  });
}

function describeServer(name: string, databases: readonly string[]): string[] {
  const all = databases.length === 0;
  return [`roles:${name}`, ...(all ? [`postgres:${name}`] : databases.map((one) => `postgres:${name}/${one}`))];
}

/** Data grows between two backups. */
const GROWTH = 1.25;
const RESERVE_BYTES = 64 * 1024 * 1024;

export interface Room {
  /** Where the backups are. */
  readonly space: DiskSpace | undefined;
  /** Where Docker keeps its containers: a proof restores into one. */
  readonly dataRootSpace: DiskSpace | undefined;
}

/** Whether the disk will hold it: by the last backup of each source, else by the size of the database. Pure. */
export function judgeRoom(
  jobs: readonly Job[],
  history: readonly Backup[],
  { space, dataRootSpace }: Room,
  options: { readonly isSealed: boolean; readonly isProven: boolean },
): PreflightFinding[] {
  const newest = [...history].sort(compareBackups).reverse();
  const lastOf = (source: string): BackupItem | undefined =>
    newest.flatMap(({ items }) => items).find((item) => item.source === source);
  const sizes = jobs.map((job) => (lastOf(job.source)?.plainBytes ?? job.bytes ?? 0) * GROWTH);
  const largest = Math.max(0, ...sizes);
  const sum = sizes.reduce((a, b) => a + b, 0);
  // One file at a time is there both plain and sealed.
  const stored = sum + (options.isSealed ? largest : 0) + RESERVE_BYTES;
  const restored = options.isProven ? Math.max(0, ...jobs.map(({ bytes }) => bytes ?? 0)) * GROWTH + RESERVE_BYTES : 0;
  const isOne = space !== undefined && space.mountPoint === dataRootSpace?.mountPoint;
  const judge = (needed: number, room: DiskSpace | undefined, what: string): PreflightFinding[] =>
    room === undefined || room.freeBytes >= needed
      ? []
      : [
          {
            message: `${what} about ${formatBytes(needed)} on ${room.mountPoint}, and ${formatBytes(room.freeBytes)} are free.`,
            hint: 'Free some space there, or let fewer backups stay (inputs `keep-days` and `keep`).',
          },
        ];
  return isOne
    ? judge(stored + restored, space, options.isProven ? 'The backup and its proof need' : 'The backup needs')
    : [...judge(stored, space, 'The backup needs'), ...judge(restored, dataRootSpace, 'Its proof needs')];
}
