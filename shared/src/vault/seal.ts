/** Encryption of a backup's files to public keys, and back. The plain content passes through the runner, and is kept nowhere. */
import { pipeline } from 'node:stream/promises';
import { namePlainFile, nameFile } from '../backups/manifest';
import { measureFile, parseMeasured, removeFiles } from '../commands/backup-store';
import { DamageError } from '../errors';
import type { BackupItem } from '../model/backup';
import type { Secret } from '../model/secret';
import type { Cipher } from '../ports';
import { withProgress } from './progress';
import { meter, receiveFile, sendFile } from './transfer';
import { carryOut, type Vault } from './vault';

/**
 * Each file is encrypted beside itself, compared with what was sent, and then the plain one is removed.
 *
 * @returns the items as they are stored now.
 */
export async function sealAll(
  items: readonly BackupItem[],
  folder: string,
  recipients: readonly string[],
  cipher: Cipher,
  vault: Vault,
): Promise<BackupItem[]> {
  const sealed: BackupItem[] = [];
  for (const item of items) {
    const file = nameFile(item, true);
    const [before, after] = [meter(), meter()];
    await withProgress(
      `encryption of ${item.source}`,
      vault.ports,
      () => Promise.resolve(before.passed.bytes),
      () =>
        sendFile(`${folder}/${item.file}`, vault, async (plain) => {
          await Promise.all([
            pipeline(plain, before.stream),
            receiveFile(cipher.encrypt(before.stream, recipients), after.stream, `${folder}/${file}`, vault),
          ]);
        }),
    );
    compare(item.source, before.passed, item, 'read');
    const { stdout } = await carryOut(measureFile(`${folder}/${file}`), `read ${file} again`, vault);
    compare(item.source, parseMeasured(stdout), after.passed, 'written');
    await carryOut(removeFiles([`${folder}/${item.file}`]), `remove the plain ${item.file}`, vault);
    sealed.push({ ...item, file, ...after.passed });
  }
  return sealed;
}

function compare(
  source: string,
  is: { readonly bytes: number; readonly sha256: string },
  was: { readonly bytes: number; readonly sha256: string },
  what: 'read' | 'written',
): void {
  if (is.bytes === was.bytes && is.sha256 === was.sha256) return;
  throw new DamageError(
    `${source} was not ${what} as it is: ${is.bytes} bytes with the checksum ${is.sha256}, and not ${was.bytes} with ${was.sha256}.`,
    'The disk or the memory of the server may be failing. Nothing of this backup was kept.',
  );
}

/**
 * Decrypts the files into another folder.
 *
 * @param into is there, and of nobody else.
 */
export async function openAll(
  items: readonly BackupItem[],
  folder: string,
  into: string,
  identity: Secret,
  cipher: Cipher,
  vault: Vault,
): Promise<void> {
  for (const item of items) {
    const packed = item.file.replace(/\.age$/, '');
    const passing = meter();
    await withProgress(
      `decryption of ${item.source}`,
      vault.ports,
      () => Promise.resolve(passing.passed.bytes),
      () =>
        sendFile(`${folder}/${item.file}`, vault, async (stored) => {
          await receiveFile(cipher.decrypt(stored, identity), passing.stream, `${into}/${packed}`, vault);
        }),
    );
    if (namePlainFile(item) === packed) compare(item.source, passing.passed, plainOf(item), 'read');
  }
}

function plainOf({ plainBytes, plainSha256 }: BackupItem): { bytes: number; sha256: string } {
  return { bytes: plainBytes, sha256: plainSha256 };
}
