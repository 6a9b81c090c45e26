/** The backups that there are: on the server and elsewhere. */
import { randomBytes } from 'node:crypto';
import { parseManifest } from '../backups/manifest';
import { planBackupRetention, type BackupRetention, type BackupRetentionPlan } from '../backups/retention';
import { parseBackups, readBackups, removeBackups } from '../commands/backup-store';
import { ServerAnswerError } from '../errors';
import { type Backup, newestBackupsFirst } from '../model/backup';
import type { Release } from '../model/release';
import { listOffsite, type Offsite, removeOffsite } from './offsite';
import { carryOut, type Vault } from './vault';

/** What there is of one project. */
export interface Shelf {
  /** Of this server, newest first, those that are off-site alone included. */
  readonly backups: readonly Backup[];
  /** Newest first: off-site, and taken on another server. Nothing of them is ever removed, and none is chosen but by its whole id. */
  readonly foreign: readonly Backup[];
  /** Ids. */
  readonly here: ReadonlySet<string>;
  readonly elsewhere: ReadonlySet<string>;
  /** What is there, and cannot be read: full sentences. */
  readonly problems: readonly string[];
}

/** @throws ServerAnswerError, StorageError: no answer is not taken for "no backups". */
export async function readShelf(offsite: Offsite | undefined, vault: Vault): Promise<Shelf> {
  const token = `slipway-${randomBytes(16).toString('hex')}`;
  const { stdout } = await carryOut(readBackups(token, vault.layout), 'read what backups there are', vault, {
    timeoutSeconds: 120,
  });
  const problems: string[] = [];
  const here: Backup[] = [];
  let stored;
  try {
    stored = parseBackups(stdout, token);
  } catch (cause) {
    if (!(cause instanceof SyntaxError)) throw cause;
    throw new ServerAnswerError(
      `What backups there are at ${vault.session.where} cannot be read: ${cause.message}.`,
      'Nothing was changed. Run this again.',
      { cause },
    );
  }
  for (const { id, text } of stored) {
    try {
      const backup = parseManifest(text);
      if (backup.id !== id) throw new SyntaxError(`it is that of ${backup.id}.`);
      here.push(backup);
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
      problems.push(
        `${vault.layout.folder}/${id} is no backup that can be read: ${error.message} It is left as it is.`,
      );
    }
  }
  const away =
    offsite === undefined
      ? { backups: [], problems: [] }
      : await listOffsite(vault.project, offsite, vault.ports.signal);
  const known = new Set(here.map(({ id }) => id));
  const [own, foreign] = partition(
    away.backups.filter(({ id }) => !known.has(id)),
    ({ server }) => server === vault.session.where,
  );
  return {
    backups: newestBackupsFirst([...here, ...own]),
    foreign: newestBackupsFirst(foreign),
    here: known,
    elsewhere: new Set(away.backups.map(({ id }) => id)),
    problems: [...problems, ...away.problems],
  };
}

function partition<Each>(all: readonly Each[], belongs: (one: Each) => boolean): [Each[], Each[]] {
  return [all.filter(belongs), all.filter((one) => !belongs(one))];
}

/** Removes what nobody needs any more. @returns what stays and why, and what went. */
export async function prune(
  shelf: Shelf,
  retention: Omit<BackupRetention, 'pinned'>,
  releases: readonly Release[],
  offsite: Offsite | undefined,
  vault: Vault,
  dryRun = false,
): Promise<BackupRetentionPlan> {
  const pinned = releases.flatMap(({ backup }) => backup ?? []);
  const plan = planBackupRetention(shelf.backups, { ...retention, pinned });
  const ids = plan.remove.map(({ id }) => id);
  if (ids.length === 0 || dryRun) return plan;
  const away = ids.filter((id) => shelf.elsewhere.has(id));
  if (offsite !== undefined) await removeOffsite(away, offsite, vault);
  await carryOut(
    removeBackups(
      vault.layout,
      ids.filter((id) => shelf.here.has(id)),
    ),
    'remove old backups',
    vault,
  );
  vault.ports.reporter.line(`Removed ${ids.length} old backup${ids.length === 1 ? '' : 's'}: ${ids.join(', ')}`);
  return plan;
}
