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
}

export function layoutBackups({ project, store }: Pick<StoreLayout, 'project' | 'store'>): BackupLayout {
  const folder = `${store}/backups`;
  return { project, store, folder, restoring: `${folder}/restoring` };
}

/** In the making: no reader looks at it. */
export function partialFolder({ folder }: BackupLayout, id: string): string {
  return `${folder}/${id}.partial`;
}

export function backupFolder({ folder }: BackupLayout, id: string): string {
  return `${folder}/${id}`;
}

/** What every table was, beside a dump: see commands/postgres. */
export function tablesFile(file: string): string {
  return `${file}.tables`;
}
