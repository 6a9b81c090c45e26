/** Backups for tests, and random histories of them. */
import fc from 'fast-check';
import { type Backup, type BackupItem, type BackupKind, compactTime, judgeResult } from '../../src/model/backup';
import { nameFile } from '../../src/backups/manifest';

export const NOW = new Date('2026-11-22T22:31:00Z');
export const HOUR = 3_600_000;
export const DAY = 24 * HOUR;

const SHA = 'a'.repeat(64);
export const proof = (seconds = 4): BackupItem['proof'] => ({ at: '2026-11-22T22:35:00Z', seconds });

/** A proven one. */
export function item(source: string, over: Partial<BackupItem> = {}): BackupItem {
  const kind = source.slice(0, source.indexOf(':')) as BackupKind;
  const isPostgres = kind === 'postgres' || kind === 'roles';
  const bytes = over.bytes ?? over.plainBytes ?? 1_000_000;
  const made = {
    kind,
    source,
    service: kind === 'files' || kind === 'volume' ? '' : (/:([^/]*)/.exec(source)?.[1] ?? ''),
    name: kind === 'postgres' ? source.slice(source.indexOf('/') + 1) : kind === 'volume' ? 'shop_uploads' : '',
    user: isPostgres ? 'shop' : '',
    image: kind === 'files' ? '' : `postgres:17@sha256:${SHA}`,
    file: '',
    bytes,
    sha256: SHA,
    compression: 'none' as const,
    plainBytes: bytes,
    plainSha256: SHA,
    versions: { server: '17.2', client: '17.2' },
    counts: {},
    proof: proof(),
    offsite: undefined,
    ...over,
  };
  return { ...made, file: over.file ?? nameFile(made, false) };
}

/** Rows by table. */
export function counts(rows: Readonly<Record<string, number>>): BackupItem['counts'] {
  return Object.fromEntries(Object.entries(rows).map(([table, number]) => [table, { rows: number, hash: '-12' }]));
}

/** @param created a time, or hours before NOW. */
export function backup(created: number | Date, over: Partial<Backup> & { readonly letters?: string } = {}): Backup {
  const { letters = 'k3v9qa', ...rest } = over;
  const time = typeof created === 'number' ? new Date(NOW.getTime() - created * HOUR) : created;
  const items = rest.items ?? [item('postgres:db/app')];
  const suspicions = rest.suspicions ?? (rest.result === 'suspect' ? ['lost much'] : []);
  return {
    version: 1,
    id: `${compactTime(time)}-${letters}`,
    project: 'shop',
    server: 'deploy@203.0.113.7',
    created: time.toISOString(),
    release: '20261122T100000Z-ab12cd3',
    actor: 'octocat',
    runUrl: 'https://github.com/acme/shop/actions/runs/1',
    seconds: 30,
    result: judgeResult(items, suspicions),
    encrypted: [],
    scope: ['postgres:db', 'redis:cache', 'volume:uploads'],
    ...rest,
    suspicions,
    items,
  };
}

export const SOURCES = ['postgres:db/app', 'postgres:db/other', 'redis:cache', 'volume:uploads'] as const;

/** Up to 14 backups of the last 80 days, several at one time, a few in the future, in any order. */
export const history: fc.Arbitrary<Backup[]> = fc
  .array(
    fc.record({
      hours: fc.oneof(fc.integer({ min: -30, max: 80 * 24 }), fc.constantFrom(0, 24, 720, 721)),
      items: fc.dictionary(fc.constantFrom(...SOURCES), fc.boolean(), { minKeys: 1 }),
      suspect: fc.boolean(),
    }),
    { maxLength: 14 },
  )
  .map((all) =>
    all.map(({ hours, items, suspect }, index) =>
      backup(hours, {
        letters: `aa${String(index).padStart(2, '0')}`,
        suspicions: suspect ? ['lost much'] : [],
        items: Object.entries(items).map(([source, isProven]) => item(source, isProven ? {} : { proof: undefined })),
      }),
    ),
  );
