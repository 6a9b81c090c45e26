/** Which backups stay: pure. In doubt, one stays. */
import { type Backup, type BackupResult, listNewestProven, newestBackupsFirst } from '../model/backup';

export interface BackupRetention {
  /** Younger ones stay. */
  readonly days: number;
  /** So many stay, however old they are; those that are not suspect are counted first. */
  readonly minimum: number;
  readonly now: Date;
  /** What became of this run's own backup; `none` where the run took none. */
  readonly run: BackupResult | 'failed' | 'none';
  /** Ids that somebody may come back to: those that kept releases name as taken before their deploy. */
  readonly pinned?: readonly string[];
}

export interface KeptBackup {
  readonly backup: Backup;
  /** For the log, the strongest first; never empty. */
  readonly reasons: readonly string[];
}

export interface BackupRetentionPlan {
  /** Newest first, as `remove`. */
  readonly keep: readonly KeptBackup[];
  readonly remove: readonly Backup[];
}

const DAY = 86_400_000;

/**
 * Never removed: the newest backup; the newest that is proven as a whole, and the newest proven one of every source that any backup has;
 * what is younger than `days`; the newest `minimum`; and nothing at all in a run whose own backup failed or is suspect. What is left
 * after a removal would be kept again.
 *
 * @param backups of one project, in any order.
 * @throws RangeError for days or a minimum that are no numbers: they would keep nothing.
 */
export function planBackupRetention(backups: readonly Backup[], retention: BackupRetention): BackupRetentionPlan {
  const { days, minimum, now, run } = retention;
  if (!(days >= 0) || !Number.isInteger(minimum) || minimum < 0 || !Number.isFinite(now.getTime())) {
    throw new RangeError(`backups cannot be kept for ${days} days and at least ${minimum} of them`);
  }
  const newestFirst = newestBackupsFirst(backups);
  const [good, suspect] = [
    newestFirst.filter(({ result }) => result !== 'suspect'),
    newestFirst.filter(({ result }) => result === 'suspect'),
  ];
  const counted = new Set([...good, ...suspect].slice(0, minimum));
  const wholeProven = newestFirst.find(({ result }) => result === 'proven');
  const newestProven = listNewestProven(backups);

  const explain = (backup: Backup): string[] => {
    const sources = [...newestProven].filter(([, found]) => found.backup === backup).map(([source]) => source);
    const ageDays = (now.getTime() - Date.parse(backup.created)) / DAY;
    return [
      ...(run === 'failed' || run === 'suspect'
        ? [`nothing is removed in a run whose own backup ${run === 'failed' ? 'failed' : 'is suspect'}`]
        : []),
      ...(backup === newestFirst[0] ? ['it is the newest'] : []),
      ...(backup === wholeProven ? ['it is the newest that is proven'] : []),
      ...(sources.length > 0 ? [`it has the newest proven ${sources.sort().join(', ')}`] : []),
      ...(retention.pinned?.includes(backup.id) === true ? ['a kept release names it'] : []),
      // A time that cannot be read is no reason to remove it, nor is one in the future.
      ...(ageDays >= days ? [] : [`it is younger than ${days} days`]),
      ...(counted.has(backup) ? [`it is one of the ${minimum} that stay in any case`] : []),
    ];
  };
  const explained = newestFirst.map((backup) => ({ backup, reasons: explain(backup) }));
  return {
    keep: explained.filter(({ reasons }) => reasons.length > 0),
    remove: explained.filter(({ reasons }) => reasons.length === 0).map(({ backup }) => backup),
  };
}
