/**
 * Brings data back from a backup. All of it is made ready beside what serves, compared, and then put into service; whatever fails, what
 * was done is taken back in reverse. What a killed session had under way stands in a file: the next restore takes it back first.
 */
import { randomBytes } from 'node:crypto';
import { parseRestoredArchive } from '../backups/archive';
import { namePlainFile, RELEASE, renderChecksums } from '../backups/manifest';
import { parseCounts, parseProof } from '../backups/postgres';
import { parseRestoredRedis } from '../backups/redis';
import { putBackFiles, putBackVolume, restoreFiles, restoreVolume } from '../commands/archive';
import { checkFiles, dropPartial, readFileIfAny, removeFiles, writeFile } from '../commands/backup-store';
import {
  countTables,
  dropUnfinished,
  nameFresh,
  nameKept,
  type PostgresTarget,
  restoreBeside,
  restoreRoles,
  type Swap,
  swapBack,
  swapDatabases,
} from '../commands/postgres';
import { putBackRedis, putBackUnfinishedRedis, restoreRedis } from '../commands/redis';
import { BackupError, ServerAnswerError, SlipwayError } from '../errors';
import { type Json, parseJson, readList, readText } from '../json';
import { type Backup, type BackupItem, isInScope, makeBackupId, serverOf } from '../model/backup';
import type { Command } from '../model/command';
import type { Secret } from '../model/secret';
import type { Cipher } from '../ports';
import type { ContainerState } from '../probes/container';
import { backupFolder, partialFolder, tablesFile } from '../releases/backup-layout';
import type { ServerFacts } from '../server/facts';
import { excerpt } from '../shell/excerpt';
import { renderCommand, script } from '../shell/render';
import { readTree } from './counts';
import { fetchAll, filesOf, type Offsite } from './offsite';
import { unknownGrowth, withProgress } from './progress';
import { checkTables } from './prove';
import { targetOf } from './remote';
import { openAll } from './seal';
import type { Shelf } from './shelf';
import { findContainer, requireContainer } from './sources';
import { BackupCommandError, carryOut, isDamage, scratchFor, type Vault } from './vault';

export interface RestoreOptions {
  /** `files` go into a folder beside, or over what is there. */
  readonly files: 'side' | 'in-place';
  readonly identity: Secret | undefined;
  readonly cipher: Cipher | undefined;
  readonly offsite: Offsite | undefined;
}

/** One thing that came back, for people. */
export interface Restored {
  readonly source: string;
  readonly seconds: number;
  /** How long nobody could use it. */
  readonly downSeconds: number;
  /** Where what it replaced is, and how it goes away. Empty where it replaced nothing. */
  readonly kept: string;
}

/** What a table has now, and what it had then. */
export interface Difference {
  readonly source: string;
  readonly table: string;
  readonly now: number | undefined;
  readonly then: number | undefined;
}

/** Files first: whatever is started on the data may need them. Databases last: their names change in one moment. */
const ORDER: readonly BackupItem['kind'][] = ['files', 'volume', 'redis', 'roles', 'postgres'];

/**
 * The items that are meant.
 *
 * @param only sources or the beginning of several; empty: all.
 * @throws BackupError that says what there is.
 */
export function selectItems(backup: Backup, only: readonly string[]): BackupItem[] {
  const unknown = only.filter((asked) => !backup.items.some(({ source }) => isInScope([asked], source)));
  if (unknown.length > 0) {
    throw new BackupError(
      `Backup ${backup.id} has no ${unknown.map((one) => excerpt(one, 80)).join(', ')}.`,
      `It has ${backup.items.map(({ source }) => source).join(', ')}.`,
    );
  }
  const selected = backup.items.filter(({ source }) => only.length === 0 || isInScope(only, source));
  // A database needs the roles that own what is in it.
  const needed = backup.items.filter(
    ({ kind, source }) =>
      kind === 'roles' && selected.some((one) => one.kind === 'postgres' && serverOf(one.source) === serverOf(source)),
  );
  return [...new Set([...selected, ...needed])].sort((a, b) => ORDER.indexOf(a.kind) - ORDER.indexOf(b.kind));
}

/**
 * The backup's files as they are without encryption, checked, on the server. Removes afterwards what it has brought there.
 *
 * @param fallBack told why, where the copy on the server is damaged and the one off-site is taken; without it, that is not done.
 * @throws BackupError where one is damaged; where it is encrypted and there is no key.
 */
export async function withFiles<T>(
  backup: Backup,
  items: readonly BackupItem[],
  shelf: Shelf,
  { identity, cipher, offsite }: Omit<RestoreOptions, 'files'>,
  vault: Vault,
  work: (folder: string) => Promise<T>,
  fallBack?: (why: string) => void,
): Promise<T> {
  const { layout, ports } = vault;
  const isSealed = backup.encrypted.length > 0;
  if (isSealed && (identity === undefined || cipher === undefined)) {
    throw new BackupError(
      `Backup ${backup.id} is encrypted to ${backup.encrypted.join(', ')}.`,
      'Give a private key of one of these in the input `age-key` (from a secret). Nothing was changed.',
    );
  }
  const check = (folder: string): Promise<unknown> =>
    carryOut(checkFiles(folder, renderChecksums(items)), `find the files of backup ${backup.id} undamaged`, vault);
  const stored = backupFolder(layout, backup.id);
  const isUsable = async (): Promise<boolean> => {
    if (!shelf.here.has(backup.id)) return false;
    try {
      await check(stored);
      return true;
    } catch (error) {
      const isElsewhere = offsite !== undefined && shelf.elsewhere.has(backup.id);
      if (!isDamage(error) || !(error instanceof BackupError) || !isElsewhere || fallBack === undefined) throw error;
      fallBack(error.message);
      return false;
    }
  };
  const isHere = await isUsable();
  if (isHere && !isSealed) return work(stored);
  const id = makeBackupId(ports.clock.now(), randomBytes(6));
  const into = partialFolder(layout, id);
  await carryOut({ words: ['mkdir', '-p', '-m', '700', `${into}/sealed`] }, 'make a folder to work in', vault);
  try {
    let from = stored;
    if (!isHere) {
      if (offsite === undefined) throw new BackupError(`Backup ${backup.id} is not on this server.`, '');
      from = isSealed ? `${into}/sealed` : into;
      await fetchAll({ ...backup, items }, from, offsite, vault);
      await check(from);
    }
    if (isSealed && identity !== undefined && cipher !== undefined) {
      await openAll(items, from, into, identity, cipher, vault);
      for (const file of items.flatMap(filesOf).filter((name) => name.endsWith('.tables'))) {
        await carryOut({ words: ['cp', '--', `${from}/${file}`, `${into}/${file}`] }, `copy ${file}`, vault);
      }
    }
    return await work(into);
  } finally {
    const options = { timeoutSeconds: 30, purpose: 'remove what was brought there' };
    await vault.session.run(dropPartial(layout, id), options).catch(() => undefined);
  }
}

/** What would change, table by table; tables that have as many rows are left out. */
export async function compareWithNow(
  items: readonly BackupItem[],
  containers: readonly ContainerState[],
  vault: Vault,
): Promise<Difference[]> {
  const differences: Difference[] = [];
  for (const item of items) {
    const { kind, source, service, name, counts } = item;
    if (kind !== 'postgres' || (service !== '' && findContainer(service, containers) === undefined)) continue;
    const now = await countNow(await targetOf(item, containers, vault), name, source, vault);
    const tables = [...new Set([...now.keys(), ...Object.keys(counts)])].sort();
    for (const table of tables) {
      const [is, was] = [now.get(table), counts[table]?.rows];
      if (is !== was && table !== '(large objects)') differences.push({ source, table, now: is, then: was });
    }
  }
  return differences;
}

async function countNow(
  target: PostgresTarget,
  database: string,
  source: string,
  vault: Vault,
): Promise<ReadonlyMap<string, number>> {
  try {
    const { stdout } = await withProgress(`counting ${source}`, vault.ports, unknownGrowth, () =>
      carryOut(countTables(target, database), `count what ${source} has now`, vault),
    );
    return parseCounts(stdout);
  } catch (error) {
    // A database that is not there has nothing to lose.
    if (error instanceof BackupCommandError && error.exitCode === 66) return new Map();
    throw error;
  }
}

/** For people: the greatest losses first. */
export function describeDifference({ source, table, now, then }: Difference): string {
  const rows = (count: number | undefined): string =>
    count === undefined ? 'is not there' : `${count} row${count === 1 ? '' : 's'}`;
  const change = (then ?? 0) - (now ?? 0);
  return `${source}: ${excerpt(table, 120)}: now ${rows(now)}, then ${rows(then)} (${change > 0 ? '+' : ''}${change})`;
}

/** What there is to take back, in words that survive us. */
export interface Undo {
  readonly id: string;
  readonly databases: readonly UndoDatabases[];
  readonly redis: readonly string[];
  readonly volumes: readonly { readonly name: string; readonly image: string }[];
  readonly files: boolean;
}

/** Of one server: `postgres:db` is its source. */
export interface UndoDatabases extends Pick<BackupItem, 'service' | 'source' | 'user' | 'image'> {
  readonly swaps: readonly Swap[];
}

/**
 * @param folder with the plain files.
 * @param vault whose commands have the project's lock.
 * @throws BackupError that says whether what served before serves again.
 */
export async function restoreAll(
  items: readonly BackupItem[],
  folder: string,
  options: Pick<RestoreOptions, 'files'>,
  facts: ServerFacts,
  vault: Vault,
): Promise<Restored[]> {
  const undo = await beginRestore(items, options, facts.containers, vault);
  const begun = new Set<string>();
  try {
    return await carryOutRestore(items, folder, undo, options, facts.containers, vault, begun);
  } catch (error) {
    // A Redis that was not reached has nothing to take back, and is not stopped for it.
    const redis = undo.redis.filter((service) => begun.has(`redis:${service}`));
    throw await takeBackAfter(error, { ...undo, redis }, facts, vault);
  }
}

/** From here on whoever comes next takes back what there is of it. */
export async function beginRestore(
  items: readonly BackupItem[],
  options: Pick<RestoreOptions, 'files'>,
  containers: readonly ContainerState[],
  vault: Vault,
): Promise<Undo> {
  const undo = planUndo(makeBackupId(vault.ports.clock.now(), randomBytes(6)), items, options, containers);
  await carryOut(writeFile(vault.layout.restoring, JSON.stringify(undo)), 'note what is restored', vault);
  return undo;
}

function planUndo(
  id: string,
  items: readonly BackupItem[],
  { files }: Pick<RestoreOptions, 'files'>,
  containers: readonly ContainerState[],
): Undo {
  const ofKind = (kind: BackupItem['kind']): BackupItem[] => items.filter((item) => item.kind === kind);
  for (const { kind, service } of items)
    if (kind !== 'files' && kind !== 'volume' && service !== '') requireContainer(service, containers);
  const servers = [...new Set(ofKind('postgres').map(({ source }) => serverOf(source)))];
  return {
    id,
    databases: servers.map((server) => {
      const own = ofKind('postgres').filter(({ source }) => serverOf(source) === server);
      return {
        service: own[0]?.service ?? '',
        source: `postgres:${server}`,
        user: own[0]?.user ?? '',
        image: own[0]?.image ?? '',
        swaps: own.map(({ name }) => ({ database: name, fresh: nameFresh(name, id), kept: nameKept(name, id) })),
      };
    }),
    redis: ofKind('redis').map(({ service }) => service),
    volumes: ofKind('volume').map(({ name, image }) => ({ name, image })),
    files: ofKind('files').length > 0 && files === 'in-place',
  };
}

async function carryOutRestore(
  items: readonly BackupItem[],
  folder: string,
  undo: Undo,
  options: Pick<RestoreOptions, 'files'>,
  containers: readonly ContainerState[],
  vault: Vault,
  /** Gets the titles of the steps. */
  begun: Set<string>,
): Promise<Restored[]> {
  const { reporter } = vault.ports;
  const restored: Restored[] = [];
  const note = (one: Restored): void => {
    restored.push(one);
    const down = one.downSeconds > 0 ? `, of which ${one.downSeconds} s nobody could use it` : '';
    reporter.line(`- ${one.source}: restored in ${one.seconds.toFixed(1)} s${down}`);
    if (one.kept !== '') reporter.remote(`  ${one.kept}`);
  };
  const prepared = await restoreDatabasesBeside(items, folder, undo, containers, vault);
  const steps = [
    ...items.flatMap((item) => planStep(item, folder, undo, options, containers, vault)),
    ...undo.databases.map((one) => planSwap(one, prepared, containers, vault)),
  ];
  if (steps.length === 0) await carryOut(removeFiles([vault.layout.restoring]), 'note that it is restored', vault);
  for (const [index, { title, command, read }] of steps.entries()) {
    // With the last one all is in service: nothing may take it back from then on, whatever dies.
    const plain = typeof command === 'function' ? await command() : command;
    begun.add(title);
    const whole = index === steps.length - 1 ? endWith(plain, vault.layout.restoring) : plain;
    const { stdout } = await withProgress(`restoring ${title}`, vault.ports, unknownGrowth, () =>
      carryOut(whole, `restore ${title}`, vault),
    );
    for (const one of read(stdout)) note(one);
  }
  return restored;
}

/**
 * Roles that are missing, and each database beside the one in service. Nothing of it is in service afterwards.
 *
 * @returns the seconds of each source.
 */
export async function restoreDatabasesBeside(
  items: readonly BackupItem[],
  folder: string,
  undo: Undo,
  containers: readonly ContainerState[],
  vault: Vault,
): Promise<ReadonlyMap<string, number>> {
  const { reporter, clock } = vault.ports;
  const prepared = new Map<string, number>();
  for (const item of items) {
    if (item.kind !== 'roles' && item.kind !== 'postgres') continue;
    const file = `${folder}/${namePlainFile(item)}`;
    const target = await targetOf(item, containers, vault, [item.name]);
    if (item.kind === 'roles') {
      const purpose = `create the roles of ${serverOf(item.source)} that are missing`;
      await carryOut(restoreRoles(target, file), purpose, vault);
      continue;
    }
    const startedMs = clock.monotonicMs();
    await checkTables(item, file, vault);
    const dump = { database: item.name, file, tables: tablesFile(file) };
    const { stdout } = await withProgress(`restoring ${item.source}`, vault.ports, unknownGrowth, () =>
      carryOut(restoreBeside(target, dump, nameFresh(item.name, undo.id)), `restore ${item.source}`, vault),
    );
    parseProof(stdout, 'restored');
    prepared.set(item.source, (clock.monotonicMs() - startedMs) / 1000);
    reporter.line(`- ${item.source}: restored beside the one in service, and compared`);
  }
  return prepared;
}

/** Something that is put into service at once. */
interface RestoreStep {
  readonly title: string;
  /** Asked for just before it is carried out, where a server has to be reached first. */
  readonly command: Command | (() => Promise<Command>);
  readonly read: (answer: string) => readonly Restored[];
}

function planStep(
  item: BackupItem,
  folder: string,
  { id }: Undo,
  { files }: Pick<RestoreOptions, 'files'>,
  containers: readonly ContainerState[],
  vault: Vault,
): RestoreStep[] {
  const { source, service, name, image } = item;
  const { project } = vault.layout;
  const packed = `${folder}/${item.file.replace(/\.age$/, '')}`;
  const scratch = scratchFor(vault, 'restore');
  switch (item.kind) {
    case 'files': {
      // A release comes back by a rollback, and not by files that are put under it.
      const where = source === RELEASE ? 'side' : files;
      const side = `It is in ${project}/restored-${id}: look at it, and copy what you need.`;
      return [
        {
          title: source,
          command: restoreFiles(project, packed, readTree(item), id, where),
          read: (answer) => {
            const { seconds, kept } = parseRestoredArchive(answer);
            const replaced = `What it replaced is in ${kept}: remove that when all is well.`;
            return [{ source, seconds, downSeconds: 0, kept: where === 'side' ? side : replaced }];
          },
        },
      ];
    }
    case 'volume': {
      const drop = `docker run --rm --volume ${name}:/volume ${image} rm -rf /volume/.slipway-kept-${id}`;
      return [
        {
          title: source,
          command: restoreVolume(name, image, packed, readTree(item), id, scratch),
          read: (answer) => {
            const { seconds, downSeconds } = parseRestoredArchive(answer);
            const kept = `What it replaced is in the volume, in .slipway-kept-${id}. To remove it: ${drop}`;
            return [{ source, seconds, downSeconds, kept }];
          },
        },
      ];
    }
    case 'redis': {
      const container = requireContainer(service, containers);
      const drop = `docker exec ${container.slice(0, 12)} sh -c 'rm -rf "$(redis-cli CONFIG GET dir | tail -n 1)/.slipway-kept-${id}"'`;
      return [
        {
          title: source,
          command: restoreRedis({ container }, packed, id, scratch),
          read: (answer) => {
            const { seconds, downSeconds } = parseRestoredRedis(answer);
            return [
              {
                source,
                seconds,
                downSeconds,
                kept: `What it replaced is beside the data of ${service}. To remove it: ${drop}`,
              },
            ];
          },
        },
      ];
    }
    case 'roles':
    case 'postgres':
      return [];
  }
}

const namesOf = ({ swaps }: UndoDatabases): string[] => swaps.map(({ database }) => database);

/** All databases of one server get their names in one transaction. */
function planSwap(
  databases: UndoDatabases,
  prepared: ReadonlyMap<string, number>,
  containers: readonly ContainerState[],
  vault: Vault,
): RestoreStep {
  const { service, user, swaps } = databases;
  const server = serverOf(databases.source);
  const container = service === '' ? '' : requireContainer(service, containers);
  const within = container === '' ? [] : (['docker', 'exec', container.slice(0, 12)] as const);
  return {
    title: `the databases of ${server}`,
    command: async () => swapDatabases(await targetOf(databases, containers, vault, namesOf(databases)), swaps),
    read: () =>
      swaps.map(({ database, kept }) => {
        const source = `postgres:${server}/${database}`;
        const [program = 'dropdb', ...words] = [...within, 'dropdb', `--username=${user}`, '--if-exists', kept];
        const drop = renderCommand({ words: [program, ...words] });
        return {
          source,
          seconds: prepared.get(source) ?? 0,
          downSeconds: 0,
          kept: `What it replaced is the database ${kept}. To drop it${container === '' ? ` on ${server}` : ''}: ${drop}`,
        };
      }),
  };
}

/** The server forgets by itself what there is to take back, in the same breath. */
export function endWith(command: Command, restoring: string): Command {
  const { words, ...rest } = command;
  return { ...rest, ...script('restoring=$1; shift; "$@" || exit; rm -f "$restoring"', restoring, ...words) };
}

/** @returns the error that says what became of it. */
export async function takeBackAfter(
  error: unknown,
  undo: Undo,
  facts: Pick<ServerFacts, 'containers'>,
  vault: Vault,
): Promise<BackupError> {
  const what = error instanceof Error ? error.message : String(error);
  // A workflow that was cancelled still has to take back what it has begun; the guardian may be gone, the server is not.
  const rescue: Vault = {
    ...vault,
    remote: vault.session,
    ports: { ...vault.ports, signal: new AbortController().signal },
  };
  try {
    const { stdout } = await carryOut(readFileIfAny(vault.layout.restoring), 'look how far the restore came', rescue);
    if (stdout.trim() === '') {
      return new BackupError(
        `All was restored, and is in service; but its last answer was not heard: ${what}`,
        'Look at what serves. What it replaced is kept, as the README says.',
        { cause: error },
      );
    }
    await takeBack(undo, facts, rescue);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    return new BackupError(
      `The restore failed: ${what}\nAnd what it had begun could NOT be taken back wholly: ${why}`,
      `Look at the server now. The next restore first tries again to take it back (it is noted in ${vault.layout.restoring}).`,
      { cause: error },
    );
  }
  return new BackupError(
    `The restore failed: ${what}`,
    'What served before serves again, with the data that it had. A restored database that was in service for a moment is kept as slipway-was-...',
    { cause: error },
  );
}

/**
 * In reverse. Each can be done again, and on what was never begun.
 *
 * @param isLate it was cut off some time ago: what came to its end then has been in use since, and stays; only what is half is put back.
 */
async function takeBack(
  undo: Undo,
  { containers }: Pick<ServerFacts, 'containers'>,
  vault: Vault,
  isLate = false,
): Promise<void> {
  const problems: string[] = [];
  const attempt = async (command: Command | (() => Promise<Command>), purpose: string): Promise<void> => {
    try {
      const plain = typeof command === 'function' ? await command() : command;
      await carryOut(plain, purpose, vault, { timeoutSeconds: 300 });
    } catch (error) {
      if (!(error instanceof SlipwayError) || vault.ports.signal.aborted) throw error;
      problems.push(error.message);
    }
  };
  for (const one of undo.databases) {
    const server = serverOf(one.source);
    if (one.service !== '' && findContainer(one.service, containers) === undefined) {
      problems.push(
        `Service ${one.service} does not run, so its databases cannot be given their names back: start it.`,
      );
      continue;
    }
    await attempt(
      async () => swapBack(await targetOf(one, containers, vault, namesOf(one)), one.swaps),
      `give the databases of ${server} their names back`,
    );
    await attempt(
      async () => dropUnfinished(await targetOf(one, containers, vault)),
      `drop unfinished databases of ${server}`,
    );
  }
  for (const service of undo.redis) {
    // It may stand.
    const container = containers.find((one) => one.service === service && !one.oneoff);
    if (container === undefined) continue;
    const putBack = isLate ? putBackUnfinishedRedis : putBackRedis;
    await attempt(putBack(container.id, undo.id, scratchFor(vault, 'restore')), `put the data of ${service} back`);
  }
  for (const { name, image } of undo.volumes) {
    await attempt(
      putBackVolume(name, image, scratchFor(vault, 'restore'), isLate ? undefined : undo.id),
      `put the content of volume ${name} back`,
    );
  }
  if (undo.files) await attempt(putBackFiles(vault.layout.project, isLate ? undefined : undo.id), 'put the files back');
  if (problems.length > 0) throw new BackupError(problems.join('\n'), '');
  await carryOut(removeFiles([vault.layout.restoring]), 'note that it was taken back', vault);
}

/**
 * What a restore that was killed had half done, taken back. Only for who has the project's lock.
 *
 * @returns whether there was any.
 */
export async function recover(facts: Pick<ServerFacts, 'containers'>, vault: Vault): Promise<boolean> {
  const { stdout } = await carryOut(readFileIfAny(vault.layout.restoring), 'look for an interrupted restore', vault);
  if (stdout.trim() === '') return false;
  const undo = parseUndo(stdout);
  if (undo === undefined) {
    throw new ServerAnswerError(
      `${vault.layout.restoring} at ${vault.session.where} says that a restore was interrupted, and cannot be read.`,
      'Look for databases named slipway-new-* and slipway-kept-*, and for folders .slipway-kept-*; remove that file when all is well.',
    );
  }
  await takeBack(undo, facts, vault, true);
  return true;
}

function parseUndo(text: string): Undo | undefined {
  const value = parseJson(text);
  const id = readText(value, 'id');
  if (!/^\d{8}T\d{6}Z-[a-z0-9]{4,8}$/.test(id)) return undefined;
  const texts = (list: readonly Json[]): string[] => list.filter((one) => typeof one === 'string');
  return {
    id,
    databases: readList(value, 'databases').map((one) => ({
      service: readText(one, 'service'),
      source: readText(one, 'source') || `postgres:${readText(one, 'service')}`,
      user: readText(one, 'user'),
      image: readText(one, 'image'),
      swaps: readList(one, 'swaps').map((swap) => ({
        database: readText(swap, 'database'),
        fresh: readText(swap, 'fresh'),
        kept: readText(swap, 'kept'),
      })),
    })),
    redis: texts(readList(value, 'redis')),
    volumes: readList(value, 'volumes').map((one) => ({ name: readText(one, 'name'), image: readText(one, 'image') })),
    files: typeof value === 'object' && value !== null && 'files' in value && value.files === true,
  };
}
