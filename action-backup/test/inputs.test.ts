import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { ageCipher } from '../../shared/src/adapters/age';
import { InputError } from '#shared/errors';
import { parseManifest } from '../../test/e2e/harness/action-manifest.ts';
import { type Inputs, judgeConfirmation, MODES, readInputs } from '../src/inputs';

const MANIFEST = readFileSync(fileURLToPath(new URL('../action.yml', import.meta.url)), 'utf8');
const DEFAULTS = Object.fromEntries(
  parseManifest(MANIFEST, 'action-backup').inputs.map(({ name, default: value }) => [name, value ?? '']),
);
/** Made for this test with `age-keygen`. */
const RECIPIENT = 'age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj';
const IDENTITY = 'AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX';

type Given = Readonly<Record<string, string>>;

function read(given: Given = {}): Inputs {
  return readInputs((name) => ({ ...DEFAULTS, host: 'local', ...given })[name]?.trim() ?? '', ageCipher);
}

function problems(given: Given): Record<string, string> {
  try {
    read(given);
    return {};
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    return Object.fromEntries(error.problems.map(({ input, message }) => [input, message]));
  }
}

const STORAGE = { 's3-bucket': 'backups', 's3-access-key-id': 'id', 's3-secret-access-key': 'very-secret-key' };

test('a dry run is for what changes something that there is', () => {
  expect(Object.keys(problems({ 'dry-run': 'true' }))).toEqual(['dry-run']);
  expect(problems({ 'dry-run': 'true', mode: 'prune' })).toEqual({});
});

test('the defaults of action.yml', () => {
  expect(read()).toEqual({
    host: expect.objectContaining({ kind: 'local' }) as object,
    project: '',
    path: '',
    mode: 'backup',
    what: [],
    databaseUrls: [],
    databaseImage: '',
    proves: true,
    keepDays: 30,
    keepCount: 7,
    collapseThreshold: 0.5,
    recipients: [],
    identity: undefined,
    storage: undefined,
    backup: '',
    only: [],
    files: 'side',
    confirm: '',
    dryRun: false,
    maxAgeSeconds: 26 * 3600,
    metricsFile: '',
    proofMemoryMegabytes: 1024,
    timeoutSeconds: 7200,
    lockWaitSeconds: 600,
    leaseSeconds: 30,
  });
});

test('all that can be given', () => {
  const inputs = read({
    ...STORAGE,
    mode: 'restore',
    what: 'postgres: db\nrelease',
    verify: 'none',
    'collapse-threshold': '5 %',
    'age-recipients': `# the safe\n${RECIPIENT}, ${RECIPIENT}`,
    'age-key': `# created: today\n${IDENTITY}\n`,
    's3-endpoint': 'https://s3.eu-central-003.backblazeb2.com',
    's3-region': '',
    's3-prefix': 'backups/of=us//',
    backup: '2026-11-22 03:00',
    only: 'postgres:db\n# not this\nredis:cache',
    'restore-files': 'in-place',
    'max-age': '7d',
    'metrics-file': '/var/lib/node_exporter/shop.prom',
  });
  expect(inputs).toMatchObject({
    mode: 'restore',
    what: [{ kind: 'postgres', service: 'db', database: '' }, { kind: 'release' }],
    proves: false,
    collapseThreshold: 0.05,
    recipients: [RECIPIENT],
    storage: {
      bucket: 'backups',
      endpoint: 'https://s3.eu-central-003.backblazeb2.com',
      region: 'us-east-1',
      accessKeyId: 'id',
      prefix: 'backups/of=us/',
    },
    backup: '2026-11-22 03:00',
    only: ['postgres:db', 'redis:cache'],
    files: 'in-place',
    maxAgeSeconds: 7 * 86_400,
  });
  expect(inputs.identity?.reveal()).toContain(IDENTITY);
  expect(inputs.storage?.secretAccessKey.reveal()).toBe('very-secret-key');
  expect(JSON.stringify(inputs)).not.toMatch(/very-secret-key|AGE-SECRET/);
});

test('all that is wrong is said at once, each with what is accepted', () => {
  const wrong: Given = {
    project: 'A B',
    path: '../..',
    mode: 'dump',
    what: 'mysql: db',
    verify: 'half',
    'keep-days': '0',
    keep: '-1',
    'collapse-threshold': '101%',
    'age-recipients': 'age1nonsense',
    'age-key': 'nonsense',
    's3-bucket': 's3://backups',
    's3-endpoint': 'backblaze',
    's3-prefix': '../x',
    backup: 'a;b',
    'restore-files': 'over',
    'dry-run': 'maybe',
    'max-age': 'a week',
    'metrics-file': 'shop.prom',
    'proof-memory': '1',
    timeout: '0',
    'lock-wait': 'x',
    lease: '1',
  };
  const said = problems(wrong);
  expect(Object.keys(said).sort()).toEqual([...Object.keys(wrong), 's3-access-key-id', 's3-secret-access-key'].sort());
  expect(said['mode']).toContain('backup, restore, verify, list, prune or check');
  expect(said['s3-secret-access-key']).toContain('not set in this repository');
});

test.each([
  ['0%', 0],
  ['100', 1],
  ['50 %', 0.5],
  ['007', 0.07],
])('the threshold %s is %p', (text, value) => {
  expect(read({ 'collapse-threshold': text }).collapseThreshold).toBe(value);
});

test.each(['', '-1', '0.5', '50%%', '1000', 'half', '１０'])('the threshold %j is none', (text) => {
  expect(problems({ 'collapse-threshold': text })).toHaveProperty('collapse-threshold');
});

test.each(['latest', 'latest-proven', '20261122T223100Z-k3v9qa', '20261122', '2026-11-22T03:00:00+01:00', ''])(
  '%j can be restored',
  (backup) => {
    expect(read({ backup }).backup).toBe(backup);
  },
);

describe('storage', () => {
  test.each(['s3-bucket', 's3-access-key-id', 's3-secret-access-key'])('is whole or none: %s is missing', (name) => {
    expect(Object.keys(problems({ ...STORAGE, [name]: '' }))).toEqual([name]);
  });

  test('is none where only what has a default is given', () => {
    expect(read({ 's3-prefix': 'x', 's3-region': 'eu' }).storage).toBeUndefined();
  });

  test.each(['/x', '../x', 'a/../b', './a', 'a b', 'a?b', "it's"])('has no folder %j', (prefix) => {
    expect(Object.keys(problems({ ...STORAGE, 's3-prefix': prefix }))).toEqual(['s3-prefix']);
  });
});

describe('no secret is ever said', () => {
  const HIDDEN = 'hunter2-hunter2';

  test.each([
    [{ 'age-key': HIDDEN }],
    [{ 'age-key': `${IDENTITY.slice(0, -1)}X ${HIDDEN}` }],
    [{ 'age-recipients': `AGE-SECRET-KEY-1${HIDDEN}` }],
    [{ 'age-recipients': `age-secret-key-1${HIDDEN}` }],
    [{ 'age-recipients': `${RECIPIENT}\nkey=AGE-SECRET-KEY-1${HIDDEN}` }],
    [{ 'age-recipients': `"AGE-SECRET-KEY-1${HIDDEN}"` }],
    [{ ...STORAGE, 's3-endpoint': `https://me:${HIDDEN}@s3.example` }],
    [{ ...STORAGE, 's3-endpoint': `https://:${HIDDEN}@s3.example` }],
    [{ ...STORAGE, 's3-endpoint': `s3://me:${HIDDEN}@s3.example` }],
    [{ ...STORAGE, 's3-endpoint': `me:${HIDDEN}@s3.example` }],
    [{ ...STORAGE, 's3-endpoint': `https://s3.example/?X-Amz-Signature=${HIDDEN}` }],
    [{ 's3-secret-access-key': HIDDEN }],
    [{ 'database-urls': HIDDEN }],
    [{ 'database-urls': `postgres://me:${HIDDEN}@db.example/app` }],
    [{ 'database-urls': `db = postgres://me:${HIDDEN}@x@db.example/app` }],
    [{ 'database-urls': `db = postgres://me:p@${HIDDEN}:x/app` }],
  ])('%#', (given) => {
    const said = problems(given);
    expect(Object.keys(said).length).toBeGreaterThan(0);
    expect(JSON.stringify(said)).not.toContain(HIDDEN);
  });

  test('whatever it is (property)', () => {
    const secret = fc.string({
      unit: fc.constantFrom('X', 'Q', '7', '-', '%', '/', ':', '"', '\\'),
      minLength: 6,
      maxLength: 30,
    });
    fc.assert(
      fc.property(secret, (text) => {
        const said = problems({ 'age-key': text, 's3-secret-access-key': text });
        expect(Object.keys(said).sort()).toEqual(['age-key', 's3-access-key-id', 's3-bucket']);
        expect(Object.values(said).join('\n')).not.toContain(text);
      }),
    );
  });
});

test('a value of many lines stays within the line of its message (property)', () => {
  const hostile = fc.string({
    unit: fc.constantFrom('\n', '\r', '\u001b', '`', ':', 'a', '::error::', '\u2028'),
    maxLength: 20,
  });
  fc.assert(
    fc.property(
      hostile,
      fc.constantFrom('mode', 'what', 'backup', 'metrics-file', 's3-bucket', 'age-recipients'),
      (text, name) => {
        expect(Object.values(problems({ [name]: text })).join('')).not.toMatch(/[\n\r\u001b\u2028]/);
      },
    ),
  );
});

test('PostgreSQL by its URL', () => {
  const { databaseUrls, databaseImage } = read({
    'database-urls': 'cloud = postgres://shop:very%20secret@db.example.com/app',
    'database-image': 'registry.example.com:5000/postgres:17@sha256:abc',
  });
  expect(databaseUrls).toMatchObject([{ name: 'cloud', user: 'shop', database: 'app' }]);
  expect(databaseImage).toBe('registry.example.com:5000/postgres:17@sha256:abc');
  for (const image of ['-v', 'a b', '$(id)']) {
    expect(problems({ 'database-image': image })).toEqual({
      'database-image': expect.stringContaining('is not an image') as string,
    });
  }
});

describe('a restore', () => {
  const judge = (given: Given): void => {
    judgeConfirmation(read(given), 'shop');
  };

  test('wants the name of the project, and says so', () => {
    expect(() => {
      judge({ mode: 'restore' });
    }).toThrow(/confirm[^]*is empty[^]*`shop`[^]*dry-run: true/);
    expect(() => {
      judge({ mode: 'restore', confirm: 'Shop' });
    }).toThrow(/is `Shop`/);
    expect(() => {
      judge({ mode: 'restore', confirm: 'shop' });
    }).not.toThrow();
    expect(() => {
      judge({ mode: 'restore', 'dry-run': 'true' });
    }).not.toThrow();
  });

  test.each(MODES.filter((mode) => mode !== 'restore'))('and nothing else does: %s', (mode) => {
    expect(() => {
      judge({ mode });
    }).not.toThrow();
  });
});
