/** Restores what was backed up into scratch containers, and compares it. */
import { parseArchiveProof } from '../backups/archive';
import { namePlainFile } from '../backups/manifest';
import { parseProof, parseTables } from '../backups/postgres';
import { parseProvenRedis } from '../backups/redis';
import { readContent } from '../commands/backup-store';
import { proveFiles, proveVolume } from '../commands/archive';
import { proveDump } from '../commands/postgres';
import { proveRedis } from '../commands/redis';
import { BackupError, DamageError } from '../errors';
import { type BackupItem, serverOf } from '../model/backup';
import type { ContainerState } from '../probes/container';
import { tablesFile } from '../releases/backup-layout';
import { countKeys, countTables, isSameCounts, readTree } from './counts';
import { unknownGrowth, withProgress } from './progress';
import { targetOf } from './remote';
import { requireContainer } from './sources';
import { carryOut, scratchFor, type Vault } from './vault';

/**
 * @param folder with the items' files as they are without encryption.
 * @returns the items with their proofs. One that changed while it was read stays unproven.
 * @throws BackupError for the first that is not what it should be.
 */
export async function proveAll(
  items: readonly BackupItem[],
  folder: string,
  containers: readonly ContainerState[],
  vault: Vault,
): Promise<BackupItem[]> {
  const { clock, reporter } = vault.ports;
  const proven: BackupItem[] = [];
  for (const item of items) {
    if (item.kind === 'roles') continue;
    const startedMs = clock.monotonicMs();
    const done = await withProgress(`proof of ${item.source}`, vault.ports, unknownGrowth, () =>
      prove(item, items, folder, containers, vault),
    );
    if (done === undefined) continue;
    const seconds = (clock.monotonicMs() - startedMs) / 1000;
    const at = `${clock.now().toISOString().slice(0, 19)}Z`;
    proven.push({ ...item, ...done, proof: { at, seconds } });
    reporter.line(`- ${item.source}: restored into a scratch container and compared, in ${seconds.toFixed(1)} s`);
  }
  return items.map((item) => proven.find(({ source }) => source === item.source) ?? proveRoles(item, proven));
}

/** They were restored for each of the server's databases. */
function proveRoles(item: BackupItem, proven: readonly BackupItem[]): BackupItem {
  const database = proven.find((one) => one.kind === 'postgres' && serverOf(one.source) === serverOf(item.source));
  return item.kind === 'roles' && database !== undefined ? { ...item, proof: database.proof } : item;
}

async function prove(
  item: BackupItem,
  items: readonly BackupItem[],
  folder: string,
  containers: readonly ContainerState[],
  vault: Vault,
): Promise<Partial<BackupItem> | undefined> {
  const file = `${folder}/${namePlainFile(item)}`;
  const scratch = scratchFor(vault, 'proof');
  const purpose = `prove ${item.source}`;
  switch (item.kind) {
    case 'postgres': {
      const server = serverOf(item.source);
      const roles = items.find((one) => one.kind === 'roles' && serverOf(one.source) === server);
      if (roles === undefined) throw new BackupError(`The backup has no roles of ${server}.`, 'Choose another one.');
      await checkTables(item, file, vault);
      const dump = { database: item.name, file, tables: tablesFile(file) };
      const target = await targetOf(item, containers, vault);
      const { stdout } = await carryOut(
        proveDump(target, dump, `${folder}/${namePlainFile(roles)}`, scratch),
        purpose,
        vault,
      );
      // The script has compared them on the server; that it did is worth a second look.
      const { tables } = parseProof(stdout, 'proof');
      if (!isSameCounts(countTables(tables), item.counts))
        throw new DamageError(`${item.source} differs from its backup.`, '');
      return {};
    }
    case 'redis': {
      const target = { container: requireContainer(item.service, containers) };
      const { stdout } = await carryOut(proveRedis(target, file, scratch), purpose, vault);
      return { counts: countKeys(parseProvenRedis(stdout).databases) };
    }
    case 'volume':
    case 'files': {
      if (Object.keys(item.counts).length === 0) return undefined;
      const tree = readTree(item);
      const packed = `${folder}/${item.file.replace(/\.age$/, '')}`;
      const { stdout } = await carryOut(
        item.kind === 'files' ? proveFiles(packed, tree) : proveVolume(packed, item.image, tree, scratch),
        purpose,
        vault,
      );
      parseArchiveProof(stdout);
      return {};
    }
    case 'roles':
      return undefined;
  }
}

/** What a dump is compared with stands beside it, and not in the manifest: so it is compared with that first. */
export async function checkTables(item: BackupItem, file: string, vault: Vault): Promise<void> {
  const { stdout } = await carryOut(readContent(tablesFile(file)), `read what tables ${item.source} has`, vault);
  const tables = parseTables(stdout);
  if (!isSameCounts(countTables(tables), item.counts)) {
    throw new DamageError(
      `The tables that ${item.source} is compared with are not those of its manifest: the backup is damaged.`,
      'Choose another one.',
    );
  }
}
