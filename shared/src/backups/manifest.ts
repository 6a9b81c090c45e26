/** `manifest.json` of a backup, and the names of the files beside it: pure. */
import { createHash } from 'node:crypto';
import {
  type Backup,
  BACKUP_VERSION,
  type BackupCompression,
  type BackupItem,
  type BackupKind,
  compactTime,
  isBackupId,
  type TableCount,
} from '../model/backup';
import { type Json, parseJson, readMember } from '../json';
import { excerpt } from '../shell/excerpt';

export const MANIFEST_FILE = 'manifest.json';
export const GUIDE_FILE = 'RESTORE.md';

/** The source of what a release is made of; its paths are relative to the store, and not to the project's folder. */
export const RELEASE = 'files:release';

const KINDS: readonly BackupKind[] = ['postgres', 'roles', 'redis', 'files', 'volume'];
const RESULTS: readonly Backup['result'][] = ['proven', 'taken', 'suspect'];

const COMPRESSIONS: Readonly<Record<BackupCompression, string>> = { none: '', gzip: '.gz', zstd: '.zst' };
const ENDINGS: Readonly<Record<BackupKind, string>> = {
  postgres: '.dump',
  roles: '.sql',
  redis: '.rdb',
  files: '.tar',
  volume: '.tar',
};
const ENCRYPTED = '.age';

/** Of a name without its endings. Most file systems take 255 bytes. */
const LONGEST_NAME = 180;

/**
 * What the file of an item is called: `postgres@db+app.dump.age` for `postgres:db/app`. Two sources never get one name: what is
 * not plain in a source is written as its bytes (`=20`), and one that gets too long ends in its checksum.
 */
export function nameFile(item: Pick<BackupItem, 'kind' | 'source' | 'compression'>, encrypted: boolean): string {
  const name = Array.from(item.source).reduce((done, character) => done + nameCharacter(character, done), '');
  const digest = createHash('sha256').update(item.source).digest('hex').slice(0, 32);
  // With the dot of the ending there would be two.
  const whole = name.replace(/\.$/, '=2E');
  const short = whole.length <= LONGEST_NAME ? whole : `${whole.slice(0, LONGEST_NAME - 34)}==${digest}`;
  return `${short}${ENDINGS[item.kind]}${COMPRESSIONS[item.compression]}${encrypted ? ENCRYPTED : ''}`;
}

/** @param before neither two dots in a row, nor a dot or a dash at the beginning. */
function nameCharacter(character: string, before: string): string {
  if (character === ':') return '@';
  if (character === '/') return '+';
  const plain =
    /^[A-Za-z0-9_]$/.test(character) || (/^[.-]$/.test(character) && before !== '' && !before.endsWith('.'));
  return plain
    ? character
    : [...Buffer.from(character)].map((byte) => `=${byte.toString(16).toUpperCase().padStart(2, '0')}`).join('');
}

/** What is left of a file's name when it is neither encrypted nor compressed. */
export function namePlainFile(item: Pick<BackupItem, 'file'>): string {
  return item.file.replace(/\.age$/, '').replace(/\.(gz|zst)$/, '');
}

/** The input of `sha256sum -c`. Its names need none of its escapes. */
export function renderChecksums(files: readonly { readonly file: string; readonly sha256: string }[]): string {
  return files.map(({ file, sha256 }) => `${sha256}  ${file}\n`).join('');
}

/**
 * @throws RangeError for a backup that {@link parseManifest} would not take back: better no backup than one that cannot be read; and for a
 *   URL with a secret in it.
 */
export function renderManifest(backup: Backup): string {
  const secret = [backup.runUrl, ...backup.items.flatMap(({ offsite }) => offsite?.url ?? [])].find(hasSecret);
  if (secret !== undefined)
    throw new RangeError('a URL with a user, a query or a fragment does not belong in a manifest');
  const text = `${JSON.stringify(backup, null, 2)}\n`;
  try {
    parseManifest(text);
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw new RangeError(`this backup cannot be recorded: ${error.message}`, { cause: error });
  }
  return text;
}

/** Credentials stand before the host, and signatures of storage (`X-Amz-Signature`) in the query. */
function hasSecret(url: string): boolean {
  const { username = '', password = '', search = '', hash = '' } = URL.parse(url) ?? {};
  return [username, password, search, hash].some((part) => part !== '');
}

/**
 * Keys that it does not know are ignored: a later Slipway may add some. Where the meaning of one changes, so does the version.
 *
 * @throws SyntaxError with a sentence about what is wrong: for text that is cut off, of a later format, or says what cannot be.
 */
export function parseManifest(text: string): Backup {
  const value = parseJson(text);
  if (value === undefined) throw new SyntaxError(`${MANIFEST_FILE} is not JSON: it may be cut off.`);
  const version = readMember(value, 'version');
  if (typeof version !== 'number' || !Number.isInteger(version) || version < 1) {
    throw new SyntaxError(`${MANIFEST_FILE} is not that of a backup: it has no version.`);
  }
  if (version > BACKUP_VERSION) {
    throw new SyntaxError(
      `${MANIFEST_FILE} is of format ${version}, and this Slipway knows ${BACKUP_VERSION}: use the one that took the backup, or a newer one.`,
    );
  }
  const read = new ManifestReader(value, '');
  const backup: Backup = {
    version: BACKUP_VERSION,
    id: read.text('id', /^\d{8}T\d{6}Z-[a-z0-9]{4,8}$/, 'the id of a backup'),
    // https://docs.docker.com/compose/how-tos/project-name/
    project: read.text('project', /^[a-z0-9][a-z0-9_-]*$/, 'the name of a Compose project'),
    server: read.line('server'),
    created: read.time('created'),
    release: read.text('release', /^(\d{8}T\d{6}Z-[a-z0-9]{1,40})?$/, 'the id of a release, or empty'),
    actor: read.line('actor'),
    runUrl: read.line('runUrl'),
    seconds: read.seconds('seconds'),
    result: read.oneOf('result', RESULTS),
    suspicions: read.lines('suspicions'),
    encrypted: read.lines('encrypted'),
    scope: read.lines('scope'),
    items: read.list('items').map(parseItem),
  };
  checkBackup(backup);
  return backup;
}

function parseItem(read: ManifestReader): BackupItem {
  const kind = read.oneOf('kind', KINDS);
  const source = read.line('source');
  if (!source.startsWith(`${kind}:`) || source.length === kind.length + 1) {
    read.refuse('source', `begins with ${kind}: and a name`);
  }
  const counts = read.members('counts').map(([table, count]): [string, TableCount] => [
    table,
    {
      rows: count.whole('rows'),
      hash: count.text('hash', /^(-?[0-9]{1,80}|[0-9a-f]{1,128})?$/, 'a number or empty'),
    },
  ]);
  const versions = read.member('versions');
  const proof = read.optional('proof');
  const offsite = read.optional('offsite');
  return {
    kind,
    source,
    service: read.line('service'),
    // https://github.com/moby/moby/blob/master/volume/names.go
    name:
      kind === 'volume' ? read.text('name', /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/, 'a name of a volume') : read.line('name'),
    user: read.line('user'),
    image: read.text('image', /^([a-z0-9][^\s]*)?$/, 'an image, or empty'),
    file: read.text('file', /^[A-Za-z0-9][A-Za-z0-9._@+=-]{0,250}$/, 'the name of a file in the folder of the backup'),
    bytes: read.whole('bytes'),
    sha256: read.text('sha256', /^[0-9a-f]{64}$/, 'a SHA-256 checksum'),
    compression: read.oneOf('compression', Object.keys(COMPRESSIONS) as BackupCompression[]),
    plainBytes: read.whole('plainBytes'),
    plainSha256: read.text('plainSha256', /^[0-9a-f]{64}$/, 'a SHA-256 checksum'),
    versions: { server: versions.line('server'), client: versions.line('client') },
    counts: Object.fromEntries(counts),
    proof: proof && { at: proof.time('at'), seconds: proof.seconds('seconds') },
    offsite: offsite && { url: offsite.line('url'), verifiedAt: offsite.time('verifiedAt') },
  };
}

/** What no single value shows. */
function checkBackup(backup: Backup): void {
  const refuse = (sentence: string): never => {
    throw new SyntaxError(`${MANIFEST_FILE} contradicts itself: ${sentence}`);
  };
  if (!isBackupId(backup.id) || !backup.id.startsWith(`${compactTime(new Date(backup.created))}-`)) {
    refuse(`the id ${backup.id} is not of the time ${backup.created}.`);
  }
  if ((backup.result === 'suspect') !== backup.suspicions.length > 0) {
    refuse(`its result is ${backup.result}, with ${backup.suspicions.length} suspicions.`);
  }
  if (backup.items.length === 0) refuse('it has no items.');
  const unproven = backup.items.find(({ proof }) => proof === undefined);
  if (backup.result === 'proven' && unproven !== undefined) {
    refuse(`it says that it is proven, and ${unproven.source} has no proof.`);
  }
  const encrypted = backup.encrypted.length > 0;
  const sources = new Set<string>();
  for (const item of backup.items) {
    // Names of files follow from sources. So none is a path, none is manifest.json, and no two are one.
    const expected = nameFile(item, encrypted);
    if (item.file !== expected) refuse(`the file of ${item.source} is ${item.file}, and would be ${expected}.`);
    if (sources.has(item.source)) refuse(`it has ${item.source} twice.`);
    sources.add(item.source);
    if (item.kind === 'postgres' && item.name === '') refuse(`${item.source} has no name of a database.`);
    if (['postgres', 'roles'].includes(item.kind) && item.user === '') refuse(`${item.source} has no user.`);
    if (item.kind !== 'files' && item.image === '') refuse(`${item.source} has no image to restore it with.`);
    const isPlain = !encrypted && item.compression === 'none';
    if (isPlain && (item.bytes !== item.plainBytes || item.sha256 !== item.plainSha256)) {
      refuse(`${item.source} is neither compressed nor encrypted, and yet its plain content differs.`);
    }
  }
}

/** C0, DEL, C1, and what breaks or reorders lines: these would reach terminals from the guide and from messages. */
export const CONTROL = /[\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]/;

/** Reads members by name, and says where it is when one is not what it must be. */
class ManifestReader {
  readonly #value: Json | undefined;
  readonly #place: string;

  constructor(value: Json | undefined, place: string) {
    this.#value = value;
    this.#place = place;
  }

  refuse(key: string, expected: string): never {
    const found = readMember(this.#value, key);
    const shown = found === undefined ? 'missing' : excerpt(JSON.stringify(found), 100);
    throw new SyntaxError(`${MANIFEST_FILE}: ${this.#place}${key} is not what it must be (${expected}), but ${shown}.`);
  }

  text(key: string, pattern: RegExp, expected: string): string {
    const found = readMember(this.#value, key);
    // `$` would take a line break at the end, but CONTROL does not.
    return typeof found === 'string' && isLine(found) && pattern.test(found) ? found : this.refuse(key, expected);
  }

  line(key: string): string {
    return this.text(key, /^/, 'text without control characters');
  }

  lines(key: string): string[] {
    const expected = 'a list of texts without control characters';
    const found = readMember(this.#value, key);
    if (!Array.isArray(found)) return this.refuse(key, expected);
    const texts = (found as readonly Json[]).filter((one) => typeof one === 'string').filter(isLine);
    return texts.length === found.length ? texts : this.refuse(key, expected);
  }

  oneOf<const W extends string>(key: string, words: readonly W[]): W {
    const found = readMember(this.#value, key);
    return words.find((word) => word === found) ?? this.refuse(key, words.join(', '));
  }

  whole(key: string): number {
    const found = readMember(this.#value, key);
    return typeof found === 'number' && Number.isSafeInteger(found) && found >= 0
      ? found
      : this.refuse(key, 'a whole number');
  }

  seconds(key: string): number {
    const found = readMember(this.#value, key);
    return typeof found === 'number' && Number.isFinite(found) && found >= 0 ? found : this.refuse(key, 'seconds');
  }

  /** RFC 3339 in UTC. */
  time(key: string): string {
    const expected = 'a time such as 2026-11-22T22:31:00Z';
    const text = this.text(key, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z$/, expected);
    const time = Date.parse(text);
    // Date.parse takes the 30th of February for the 2nd of March.
    const exists = Number.isFinite(time) && new Date(time).toISOString().startsWith(text.slice(0, 19));
    return exists ? text : this.refuse(key, expected);
  }

  list(key: string): ManifestReader[] {
    const found = readMember(this.#value, key);
    if (!Array.isArray(found)) return this.refuse(key, 'a list');
    return (found as readonly Json[]).map((one, index) => new ManifestReader(one, `${this.#place}${key}[${index}].`));
  }

  member(key: string): ManifestReader {
    const found = readMember(this.#value, key);
    if (typeof found !== 'object' || found === null || Array.isArray(found)) return this.refuse(key, 'an object');
    return new ManifestReader(found, `${this.#place}${key}.`);
  }

  /** Undefined where it is not there; another kind of value is refused. */
  optional(key: string): ManifestReader | undefined {
    return readMember(this.#value, key) === undefined ? undefined : this.member(key);
  }

  /** Names are those of tables, and may be anything. */
  members(key: string): [string, ManifestReader][] {
    const inner = this.member(key);
    return Object.keys(inner.#value ?? {}).map((name) => [
      name,
      new ManifestReader(readMember(inner.#value, name), `${inner.#place}${excerpt(name, 100)}.`),
    ]);
  }
}

function isLine(text: string): boolean {
  return !CONTROL.test(text) && text.isWellFormed();
}
