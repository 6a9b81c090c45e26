/** Copies of backups in an S3-compatible storage: `PREFIX/PROJECT/ID/FILE`, the manifest last. */
import { Readable, Writable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import { GUIDE_FILE, MANIFEST_FILE, parseManifest } from '../backups/manifest';
import { measureFile, parseMeasured } from '../commands/backup-store';
import { BackupError } from '../errors';
import type { Backup, BackupItem } from '../model/backup';
import type { ObjectStore } from '../ports';
import { tablesFile } from '../releases/backup-layout';
import { withProgress } from './progress';
import { meter, receiveFile, sendFile } from './transfer';
import { carryOut, type Vault } from './vault';

/** Somewhere else: a fire at the one place leaves the other. */
export interface Offsite {
  readonly store: ObjectStore;
  /** With a slash at its end, or empty. */
  readonly prefix: string;
}

function keyOf({ prefix }: Offsite, project: string, id: string, file: string): string {
  return `${prefix}${project}/${id}/${file}`;
}

/** Files beside an item that it cannot be compared without. */
export function filesOf(item: BackupItem): string[] {
  return item.kind === 'postgres' ? [item.file, tablesFile(item.file.replace(/\.age$/, ''))] : [item.file];
}

/**
 * Stores the files of all items, and reads each back.
 *
 * @returns the items with where they are now, too.
 * @throws StorageError; BackupError where what was read back is not what was stored.
 */
export async function storeAll(
  items: readonly BackupItem[],
  id: string,
  folder: string,
  offsite: Offsite,
  vault: Vault,
): Promise<BackupItem[]> {
  const { clock, signal } = vault.ports;
  const stored: BackupItem[] = [];
  for (const item of items) {
    for (const file of filesOf(item)) {
      const key = keyOf(offsite, vault.project, id, file);
      const { stdout } = await carryOut(measureFile(`${folder}/${file}`), `measure ${file}`, vault);
      const { bytes, sha256 } = parseMeasured(stdout);
      const sending = meter();
      await withProgress(
        `${item.source} to ${offsite.store.where}`,
        vault.ports,
        () => Promise.resolve(sending.passed.bytes),
        () =>
          sendFile(`${folder}/${file}`, vault, async (content) => {
            await Promise.all([
              pipeline(content, sending.stream),
              offsite.store.put(key, sending.stream, bytes, signal),
            ]);
          }),
      );
      await readBack(key, { bytes, sha256 }, offsite, vault);
    }
    const url = `${offsite.store.where}/${keyOf(offsite, vault.project, id, item.file)}`;
    stored.push({ ...item, offsite: { url, verifiedAt: `${clock.now().toISOString().slice(0, 19)}Z` } });
  }
  return stored;
}

/** The texts of a backup, whose files are there already. From then on it can be found. */
export async function publish(
  id: string,
  texts: { readonly guide?: string; readonly manifest: string },
  offsite: Offsite,
  vault: Vault,
): Promise<void> {
  for (const [file, text] of [
    [GUIDE_FILE, texts.guide],
    [MANIFEST_FILE, texts.manifest],
  ] as const) {
    if (text === undefined) continue;
    const content = Buffer.from(text);
    const key = keyOf(offsite, vault.project, id, file);
    await offsite.store.put(key, Readable.from([content]), content.length, vault.ports.signal);
  }
}

async function readBack(
  key: string,
  was: { readonly bytes: number; readonly sha256: string },
  offsite: Offsite,
  { ports }: Vault,
): Promise<void> {
  const reading = meter();
  await withProgress(
    `reading ${key.split('/').at(-1) ?? key} back`,
    ports,
    () => Promise.resolve(reading.passed.bytes),
    async () => {
      const content = await offsite.store.get(key, ports.signal);
      await pipeline(
        content,
        reading.stream,
        new Writable({
          write: (_chunk, _encoding, done) => {
            done();
          },
        }),
      );
    },
  );
  const is = reading.passed;
  if (is.bytes === was.bytes && is.sha256 === was.sha256) return;
  throw new BackupError(
    `${offsite.store.where}/${key} is not what was stored: ${is.bytes} bytes with the checksum ${is.sha256}, and not ${was.bytes} with ${was.sha256}.`,
    'Do not rely on that storage. The backup on the server is as it should be.',
  );
}

/** @returns what can be read; what cannot stands in the problems. */
export async function listOffsite(
  project: string,
  { store, prefix }: Offsite,
  signal: AbortSignal,
): Promise<{ readonly backups: readonly Backup[]; readonly problems: readonly string[] }> {
  const objects = await store.list(`${prefix}${project}/`, signal);
  const backups: Backup[] = [];
  const problems: string[] = [];
  for (const { key } of objects.filter((object) => object.key.endsWith(`/${MANIFEST_FILE}`))) {
    try {
      const backup = parseManifest((await buffer(await store.get(key, signal))).toString());
      if (key !== `${prefix}${project}/${backup.id}/${MANIFEST_FILE}`)
        throw new SyntaxError('it is in another place than it says.');
      backups.push(backup);
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
      problems.push(`${store.where}/${key} cannot be read: ${error.message}`);
    }
  }
  return { backups, problems };
}

/** Brings the files of a backup to the server, into a folder that is there. */
export async function fetchAll(backup: Backup, folder: string, offsite: Offsite, vault: Vault): Promise<void> {
  for (const item of backup.items) {
    for (const file of filesOf(item)) {
      const arriving = meter();
      const key = keyOf(offsite, vault.project, backup.id, file);
      await withProgress(
        `${item.source} from ${offsite.store.where}`,
        vault.ports,
        () => Promise.resolve(arriving.passed.bytes),
        async () => {
          const content = await offsite.store.get(key, vault.ports.signal);
          await receiveFile(content, arriving.stream, `${folder}/${file}`, vault);
        },
      );
    }
  }
}

/** First what makes them found. */
export async function removeOffsite(ids: readonly string[], offsite: Offsite, vault: Vault): Promise<void> {
  const { signal } = vault.ports;
  for (const id of ids) {
    await offsite.store.remove([keyOf(offsite, vault.project, id, MANIFEST_FILE)], signal);
    const left = await offsite.store.list(keyOf(offsite, vault.project, id, ''), signal);
    await offsite.store.remove(
      left.map(({ key }) => key),
      signal,
    );
  }
}
