/** Where backups are on the server: pure. */
import type { StoreLayout } from './layout';

export interface BackupLayout {
  /** The project's folder. */
  readonly project: string;
  /** Its `.slipway`. */
  readonly store: string;
  /** Holds one folder a backup, 0700. */
  readonly folder: string;
  /** What a restore has under way: the next session puts it back. */
  readonly restoring: string;
  /** What the name of a folder in the making ends in, by whose lock its session has: see {@link partialFolder}. */
  readonly partial: '.partial' | '.change.partial';
}

export function layoutBackups(
  { project, store }: Pick<StoreLayout, 'project' | 'store'>,
  partial: BackupLayout['partial'] = '.partial',
): BackupLayout {
  const folder = `${store}/backups`;
  return { project, store, folder, restoring: `${folder}/restoring`, partial };
}

/**
 * In the making: no reader looks at it. A deploy or a rollback has the project's lock, action-backup has that of the backups: each can be
 * sure only of its own kind that nobody works on what it finds.
 */
export function partialFolder({ folder, partial }: BackupLayout, id: string): string {
  return `${folder}/${id}${partial}`;
}

export function backupFolder({ folder }: BackupLayout, id: string): string {
  return `${folder}/${id}`;
}

/** What every table was, beside a dump: see commands/postgres. */
export function tablesFile(file: string): string {
  return `${file}.tables`;
}
