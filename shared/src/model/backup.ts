/** One backup as `manifest.json` in its folder says it. Holds no secret. */
export interface Backup {
  /** Of the manifest's format. */
  readonly version: typeof BACKUP_VERSION;
  /** UTC time of `created`, and a few letters by chance: `20261122T223100Z-k3v9qa`. Also its folder's name. */
  readonly id: string;
  /** Name of the Compose project. */
  readonly project: string;
  /** The server it was taken on, as the run was told to reach it (`deploy@203.0.113.7`): several may share one storage. */
  readonly server: string;
  /** RFC 3339, UTC: before the first item was looked at, so that all of its data is as old as that or newer. */
  readonly created: string;
  /** Id of the release that served then; empty where none did. */
  readonly release: string;
  readonly actor: string;
  readonly runUrl: string;
  /** From `created` until all of it was written, proven and elsewhere. */
  readonly seconds: number;
  readonly result: BackupResult;
  /** Why it is suspect, one sentence each; empty for every other result. */
  readonly suspicions: readonly string[];
  /** age's public keys, each of which can decrypt all items: https://age-encryption.org/v1. Empty where nothing is encrypted. */
  readonly encrypted: readonly string[];
  /**
   * What was asked for, as sources or as the beginning of several (`postgres:db` for every database of it). So a source that
   * nobody asked for is told from one that has vanished.
   */
  readonly scope: readonly string[];
  readonly items: readonly BackupItem[];
}

export const BACKUP_VERSION = 1;

/**
 * `proven`: all its items were restored and compared. `taken`: complete, but not all of it is proven. `suspect`: complete, but
 * so different from the last proven one that somebody must look at it; whatever was proven of it does not count.
 */
export type BackupResult = 'proven' | 'taken' | 'suspect';

/**
 * `postgres`: one database in `pg_dump`'s custom format. `roles`: what `pg_dumpall --globals-only` says. `redis`: an RDB file.
 * `files`: a tar of paths in the project's folder. `volume`: a tar of a named volume.
 */
export type BackupKind = 'postgres' | 'roles' | 'redis' | 'files' | 'volume';

/** One file of a backup. */
export interface BackupItem {
  readonly kind: BackupKind;
  /**
   * What it is a backup of, the same in every backup, and once in each: `postgres:db/app`, `roles:db`, `redis:cache`,
   * `files:config`, `volume:uploads`. No control characters.
   */
  readonly source: string;
  /** The service of the Compose project; empty for files, a volume, and a server that is reached by a URL. */
  readonly service: string;
  /** What the source is called where it lives: the database, or the volume (`shop_uploads`). Empty for other kinds. */
  readonly name: string;
  /** PostgreSQL: the role that it was read as, and that can restore it. Empty for other kinds. */
  readonly user: string;
  /** `postgres:17@sha256:...`, by which it can be proven and restored; empty for files. */
  readonly image: string;
  /** Its name in the backup's folder, as `nameFile` makes it. */
  readonly file: string;
  /** Of the file as it is stored, as all that is not called plain. */
  readonly bytes: number;
  /** In lower-case hexadecimal digits. */
  readonly sha256: string;
  /** Around the plain content and within the encryption. The custom format of PostgreSQL compresses by itself. */
  readonly compression: BackupCompression;
  /** Before compression and encryption: what a restore reads. The same as `bytes` where there is neither. */
  readonly plainBytes: number;
  readonly plainSha256: string;
  /** As the programs say them: `17.2`, `7.4.1`; empty for files and volumes. */
  readonly versions: { readonly server: string; readonly client: string };
  /** By table (`public.orders`), or by database of a Redis (`db0`): taken in the snapshot that the item was taken in. */
  readonly counts: Readonly<Record<string, TableCount>>;
  /** Undefined where it was not restored and compared. */
  readonly proof: BackupProof | undefined;
  /** Undefined where it is nowhere else. */
  readonly offsite: OffsiteCopy | undefined;
}

export type BackupCompression = 'none' | 'gzip' | 'zstd';

export interface TableCount {
  /** Keys, for Redis. */
  readonly rows: number;
  /** Of all rows, whatever their order: the sum of PostgreSQL's `hashtextextended` in decimal digits. Empty where it was not taken. */
  readonly hash: string;
}

/** What is in a tree of files: the same figures, the same tree. */
export interface TreeFigures {
  /** Files, links, folders and the rest, without the folder itself. */
  readonly entries: number;
  /** SHA-256, in lower-case hexadecimal digits, over the sorted list of all entries: path, kind, mode, and content or target. */
  readonly hash: string;
}

export interface BackupProof {
  /** When the comparison ended: RFC 3339, UTC. */
  readonly at: string;
  /** From an empty server to compared data: what a recovery of this item takes at least. */
  readonly seconds: number;
}

export interface OffsiteCopy {
  /** `s3://bucket/key`: neither credentials nor a signature in it. */
  readonly url: string;
  /** When it was read back and its checksum compared: RFC 3339, UTC. */
  readonly verifiedAt: string;
}

const LETTERS = 'abcdefghijklmnopqrstuvwxyz234567';

/**
 * `20261122T223100Z-k3v9qa`: sorts by time, and two that begin in one second differ.
 *
 * @param random 4 to 8 bytes of chance, of which 5 bits each are used.
 * @throws RangeError for fewer or more.
 */
export function makeBackupId(now: Date, random: Uint8Array): string {
  if (random.length < 4 || random.length > 8) throw new RangeError('the id of a backup takes 4 to 8 bytes of chance');
  const letters = [...random].map((byte) => LETTERS.charAt(byte & 31)).join('');
  return `${compactTime(now)}-${letters}`;
}

/** `20261122T223100Z` */
export function compactTime(time: Date): string {
  return time.toISOString().replaceAll(/[-:]|\.\d+/g, '');
}

export function isBackupId(text: string): boolean {
  return /^\d{8}T\d{6}Z-[a-z0-9]{4,8}$/.test(text);
}

/** The oldest first; ids decide within one moment. */
export function compareBackups(a: Backup, b: Backup): number {
  const [earlier, later] = [Date.parse(a.created), Date.parse(b.created)];
  if (earlier !== later) return earlier - later;
  return a.id === b.id ? 0 : a.id < b.id ? -1 : 1;
}

export function newestBackupsFirst(backups: readonly Backup[]): Backup[] {
  return [...backups].sort((a, b) => compareBackups(b, a));
}

/** Whether what was asked for has this source in it. */
export function isInScope(scope: readonly string[], source: string): boolean {
  return scope.some((asked) => source === asked || source.startsWith(`${asked}/`));
}

/** What the server of a database and of its roles is called: `db` for `postgres:db/app` and for `roles:db`. */
export function serverOf(source: string): string {
  return /^(?:postgres|roles):([^/]+)/.exec(source)?.[1] ?? '';
}

/** What becomes of a backup that is complete. */
export function judgeResult(items: readonly BackupItem[], suspicions: readonly string[]): BackupResult {
  if (suspicions.length > 0) return 'suspect';
  return items.length > 0 && items.every(({ proof }) => proof !== undefined) ? 'proven' : 'taken';
}

export interface FoundItem {
  readonly backup: Backup;
  readonly item: BackupItem;
}

/** The item of a source, where the backup has it and it counts as proven. */
export function findProven(backup: Backup, source: string): FoundItem | undefined {
  if (backup.result === 'suspect') return undefined;
  const item = backup.items.find((one) => one.source === source);
  return item?.proof === undefined ? undefined : { backup, item };
}

/** By source: the newest item that counts as proven, of every source that has one. */
export function listNewestProven(backups: readonly Backup[]): ReadonlyMap<string, FoundItem> {
  const found = new Map<string, FoundItem>();
  for (const backup of newestBackupsFirst(backups)) {
    for (const { source } of backup.items) {
      const proven = findProven(backup, source);
      if (proven !== undefined && !found.has(source)) found.set(source, proven);
    }
  }
  return found;
}

/**
 * The sources that there still are, as far as backups can tell, by name. One that the newest backup that asked for it does not have, and that was
 * not suspect for it, is gone for good: a database that was dropped, and somebody said so.
 */
export function listLivingSources(backups: readonly Backup[]): string[] {
  const trusted = newestBackupsFirst(backups).filter(({ result }) => result !== 'suspect');
  const sources = new Set(backups.flatMap(({ items }) => items.map(({ source }) => source)));
  return [...sources].sort().filter((source) => {
    const last = trusted.find(({ scope }) => isInScope(scope, source));
    return last === undefined || last.items.some((item) => item.source === source);
  });
}
