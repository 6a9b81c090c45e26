import fc from 'fast-check';
import { nameFile, namePlainFile, parseManifest, renderChecksums, renderManifest } from '../../src/backups/manifest';
import type { Backup, BackupItem, BackupKind } from '../../src/model/backup';
import { backup, counts, history, item } from './sample-backups';

const sha = 'b'.repeat(64);
const packed: BackupItem = {
  ...item('postgres:db/app', { counts: counts({ 'public.orders': 12, ['__proto__']: 3, 'tab\nle "x"': 1 }) }),
  bytes: 900,
  sha256: sha,
  compression: 'zstd',
  file: 'postgres@db+app.dump.zst.age',
  offsite: { url: 's3://backups/shop/postgres@db+app.dump.zst.age', verifiedAt: '2026-11-22T22:40:00.5Z' },
};
const full = backup(0, {
  items: [packed, item('files:.env', { proof: undefined, file: 'files@.env.tar.age' })],
  encrypted: ['age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p'],
});

test('comes back as it was', () => {
  expect(parseManifest(renderManifest(full))).toEqual(full);
  const suspect = backup(0, { result: 'suspect', suspicions: ['lost much'] });
  expect(parseManifest(renderManifest(suspect))).toEqual(suspect);
});

test('comes back as it was, whatever was backed up (property)', () => {
  fc.assert(
    fc.property(history, (backups) => {
      for (const one of backups) expect(parseManifest(renderManifest(one))).toEqual(one);
    }),
    { numRuns: 100 },
  );
});

/** The manifest of `full` with another value at a path; a missing one for undefined. */
function change(path: string, value: unknown): string {
  const json = JSON.parse(renderManifest(full)) as Record<string, unknown>;
  const keys = path.split('.');
  const last = keys.pop() ?? '';
  const target = keys.reduce<Record<string, unknown>>((at, key) => at[key] as Record<string, unknown>, json);
  target[last] = value;
  return JSON.stringify(json);
}

test('keys of a later Slipway are ignored', () => {
  expect(parseManifest(change('colour', 'red'))).toEqual(full);
  expect(parseManifest(change('items.0.colour', { of: 'red' }))).toEqual(full);
});

test('a later format is refused, and says what to do', () => {
  expect(() => parseManifest(change('version', 2))).toThrow(
    new SyntaxError(
      'manifest.json is of format 2, and this Slipway knows 1: use the one that took the backup, or a newer one.',
    ),
  );
});

test.each([
  ['version', undefined, /it has no version/],
  ['version', 0, /no version/],
  ['version', '1', /no version/],
  ['id', '../../etc', /manifest\.json: id is not what it must be \(the id of a backup\), but "\.\.\/\.\.\/etc"/],
  ['id', '20261122T223100Z-k3v9qa\n', /id is not/],
  ['id', '20261122T223101Z-k3v9qa', /contradicts itself: the id 20261122T223101Z-k3v9qa is not of the time/],
  ['project', 'Shop; rm', /project is not/],
  ['project', '', /project is not/],
  ['created', '2026-11-22 22:31:00', /created is not .*2026-11-22T22:31:00Z/],
  ['created', '2026-02-30T00:00:00Z', /created is not/],
  ['created', '2026-11-22T22:31:00+01:00', /created is not/],
  ['release', 'latest', /release is not/],
  ['actor', 'a\u001b[31m', /actor is not/],
  ['actor', '\ud800', /actor is not/],
  ['seconds', -1, /seconds is not/],
  ['seconds', '3', /seconds is not/],
  ['result', 'healthy', /result is not .*proven, taken, suspect/],
  ['result', 'proven', /it says that it is proven, and files:\.env has no proof/],
  ['result', 'suspect', /its result is suspect, with 0 suspicions/],
  ['suspicions', ['lost much'], /its result is taken, with 1 suspicions/],
  ['suspicions', [3], /suspicions is not/],
  ['encrypted', 'age1', /encrypted is not .*a list/],
  [
    'encrypted',
    [],
    /the file of postgres:db\/app is postgres@db\+app\.dump\.zst\.age, and would be postgres@db\+app\.dump\.zst/,
  ],
  ['scope', {}, /scope is not/],
  ['items', [], /it has no items/],
  ['items', 'all', /items is not/],
  ['items.0', null, /items\[0\]\.kind is not/],
  ['items.0.kind', 'mysql', /items\[0\]\.kind is not .*postgres, roles, redis, files, volume.*"mysql"/],
  ['items.0.source', 'redis:db', /items\[0\]\.source is not/],
  ['items.0.source', 'postgres:', /items\[0\]\.source is not/],
  ['items.0.source', 'postgres:a\nb', /items\[0\]\.source is not/],
  ['items.0.name', '', /no name of a database/],
  ['items.0.user', '', /has no user/],
  ['items.0.image', '', /has no image/],
  ['items.0.image', '--privileged', /image is not/],
  ['items.0.image', 'a b', /image is not/],
  ['items.0.file', '../../../root/.ssh/id', /items\[0\]\.file is not/],
  ['items.0.file', 'a/b', /file is not/],
  ['items.0.file', '..', /file is not/],
  ['items.0.file', 'a\u0000', /file is not/],
  ['items.0.file', '-rf', /file is not/],
  ['items.0.file', 'manifest.json', /would be postgres@db\+app/],
  ['items.0.file', 'a..b', /would be postgres@db\+app/],
  ['items.0.bytes', 1.5, /items\[0\]\.bytes is not/],
  ['items.0.bytes', -1, /bytes is not/],
  ['items.0.bytes', 2 ** 60, /bytes is not/],
  ['items.0.sha256', 'B'.repeat(64), /sha256 is not/],
  ['items.0.compression', 'toString', /compression is not/],
  ['items.0.versions', null, /items\[0\]\.versions is not/],
  ['items.0.versions.server', 17, /items\[0\]\.versions\.server is not/],
  ['items.0.counts', [], /items\[0\]\.counts is not/],
  ['items.0.counts', { 'public.orders': 12 }, /items\[0\]\.counts\.public\.orders\.rows is not/],
  ['items.0.counts', { t: { rows: 1, hash: 'x y' } }, /items\[0\]\.counts\.t\.hash is not/],
  ['items.0.proof', true, /items\[0\]\.proof is not/],
  ['items.0.proof.at', 'yesterday', /items\[0\]\.proof\.at is not/],
  ['items.0.offsite.url', 5, /offsite\.url is not/],
])('%s as %j is refused', (path, value, message) => {
  const text = change(path, value);
  expect(() => parseManifest(text)).toThrow(SyntaxError);
  expect(() => parseManifest(text)).toThrow(message);
});

test('plain content that differs from the file needs a reason', () => {
  expect(() => renderManifest(backup(0, { items: [item('redis:cache', { bytes: 5, plainBytes: 6 })] }))).toThrow(
    /redis:cache is neither compressed nor encrypted/,
  );
});

test('a source that is there twice is refused', () => {
  expect(() => renderManifest(backup(0, { items: [item('redis:cache'), item('redis:cache')] }))).toThrow(/twice/);
});

test('nothing is written that could not be read', () => {
  expect(() => renderManifest({ ...full, seconds: Number.NaN })).toThrow(
    'this backup cannot be recorded: manifest.json: seconds is not what it must be (seconds), but null.',
  );
});

test.each(['s3://key:secret@host/bucket', 'https://host/bucket/file?X-Amz-Signature=abc', 'https://host/file#token'])(
  'a URL with a secret is not written: %s',
  (url) => {
    const offsite = { url, verifiedAt: '2026-11-22T22:40:00Z' };
    expect(() => renderManifest(backup(0, { items: [item('redis:cache', { offsite })] }))).toThrow(RangeError);
    expect(() => renderManifest({ ...full, runUrl: url })).toThrow(RangeError);
  },
);

test('a text that is cut off, or anything else, is a SyntaxError (property)', () => {
  const text = renderManifest(full);
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.json(),
        fc.nat(text.trim().length - 1).map((end) => text.slice(0, end)),
      ),
      (other) => {
        expect(() => parseManifest(other)).toThrow(SyntaxError);
      },
    ),
    { numRuns: 1000 },
  );
});

test('any one value that is exchanged is refused, or changes what is read (property)', () => {
  const keys = Object.keys(packed).filter((key) => key !== 'proof' && key !== 'offsite');
  fc.assert(
    fc.property(fc.constantFrom(...keys), fc.jsonValue(), (key, value) => {
      let read: Backup | undefined;
      try {
        read = parseManifest(change(`items.0.${key}`, value));
      } catch (error) {
        expect(error).toBeInstanceOf(SyntaxError);
      }
      // JSON has no -0.
      const written = JSON.parse(JSON.stringify(value)) as unknown;
      if (read !== undefined) expect(Object.fromEntries(Object.entries(read.items[0] ?? {}))[key]).toEqual(written);
    }),
    { numRuns: 1000 },
  );
});

describe('names of files', () => {
  test.each([
    ['postgres:db/app', 'none', false, 'postgres@db+app.dump'],
    ['postgres:db/app', 'zstd', true, 'postgres@db+app.dump.zst.age'],
    ['roles:db', 'none', true, 'roles@db.sql.age'],
    ['redis:cache', 'gzip', false, 'redis@cache.rdb.gz'],
    ['files:.env', 'none', false, 'files@.env.tar'],
    ['files:../../etc/passwd', 'none', false, 'files@.=2E+.=2E+etc+passwd.tar'],
    ['files:a.', 'none', false, 'files@a=2E.tar'],
    ['volume:ünï b@c', 'none', false, 'volume@=C3=BCn=C3=AF=20b=40c.tar'],
  ] as const)('%s (%s, encrypted: %s) is %s', (source, compression, encrypted, expected) => {
    const kind = source.slice(0, source.indexOf(':')) as BackupKind;
    const name = nameFile({ kind, source, compression }, encrypted);
    expect(name).toBe(expected);
    expect(namePlainFile({ file: name })).toBe(nameFile({ kind, source, compression: 'none' }, false));
  });

  const anySource = fc
    .oneof(
      fc.string({ unit: 'binary' }),
      fc.string({ unit: fc.constantFrom('.', '/', '-', '=', '2', 'E') }),
      fc.string({ minLength: 150, maxLength: 400 }),
    )
    .map((name) => `files:${name}`);
  const name = (source: string): string => nameFile({ kind: 'files', source, compression: 'none' }, true);

  test('lead nowhere, and fit (property)', () => {
    fc.assert(
      fc.property(anySource, (source) => {
        expect(name(source)).toMatch(/^[A-Za-z0-9][A-Za-z0-9._@+=-]*$/);
        expect(name(source)).not.toContain('..');
        expect(name(source).length).toBeLessThanOrEqual(200);
      }),
      { numRuns: 1000 },
    );
  });

  test('differ where sources do (property)', () => {
    const alike = fc.string({ unit: fc.constantFrom('.', '/', ':', '=', '2', 'E', '@', '+', '%'), maxLength: 5 });
    fc.assert(
      fc.property(fc.oneof(fc.tuple(alike, alike), fc.tuple(anySource, anySource)), ([a, b]) => {
        fc.pre(a !== b);
        expect(name(`files:${a}`)).not.toBe(name(`files:${b}`));
      }),
      { numRuns: 2000 },
    );
    const long = 'x'.repeat(300);
    expect(name(`files:${long}a`)).not.toBe(name(`files:${long}b`));
  });
});

test('checksums as sha256sum reads them', () => {
  expect(renderChecksums([{ file: 'redis@cache.rdb', sha256: sha }])).toBe(`${sha}  redis@cache.rdb\n`);
});
