/** PostgreSQL that is no service of the project: backed up, proven and restored by its URL. */
import { jest } from '@jest/globals';
import { type ActionRun, sampleArgv } from './harness/index.ts';
import {
  asDeploy,
  backUp,
  type Checkout,
  errorsOf,
  freshServer,
  mustDeploy,
  onServer,
  projectFiles,
  removeCheckouts,
} from './sandbox.ts';

jest.setTimeout(240_000);

const BACKUPS = '/home/deploy/apps/shop/.slipway/backups';
/** All that has to be encoded in a URL, and what a shell would read. */
const PASSWORD = `m@naged/pass:w0rd?'$(id)%#`;
const ENCODED = encodeURIComponent(PASSWORD);
const URL_OF = (user: string, password: string, database = '/app'): string =>
  `postgres://${user}:${password}@127.0.0.1:5433${database}?sslmode=prefer`;
const CLOUD = { 'database-urls': `# managed\ncloud = ${URL_OF('postgres', ENCODED)}`, 'database-image': 'postgres:15' };

const noAnswer = (): void => undefined;
let checkout: Checkout;

const compose = (more: object = {}): string =>
  JSON.stringify({
    name: 'shop',
    services: { app: { image: 'busybox:1', command: ['sleep', 'infinity'], stop_signal: 'SIGKILL' }, ...more },
  });

const query = (sql: string, database = 'app'): Promise<string> =>
  onServer(`printf '%s\n' "$1" | docker exec -i managed psql -XAtq -U postgres -d "$2" -v ON_ERROR_STOP=1`, [
    sql,
    database,
  ]);
const helpers = (): Promise<string> => onServer('docker ps -aq --filter label=slipway.scratch');
const untilGone = (): Promise<string> =>
  onServer(
    'for n in $(seq 700); do [ -n "$(docker ps -aq --filter label=slipway.scratch)" ] || exit 0; sleep 0.1; done; docker ps -a; exit 1',
  );

async function startManaged(): Promise<void> {
  await onServer(
    `docker rm -fv managed >/dev/null 2>&1
docker run -d --name managed -p 127.0.0.1:5433:5432 -e "POSTGRES_PASSWORD=$1" postgres:15 >/dev/null
until docker exec managed pg_isready -q -h 127.0.0.1; do sleep 0.2; done`,
    [PASSWORD],
  );
}

async function run(inputs: Readonly<Record<string, string>>): Promise<ActionRun> {
  return backUp(
    { ...CLOUD, ...inputs },
    { secrets: [...(inputs['database-urls'] ?? CLOUD['database-urls']).split('\n')] },
  );
}

async function must(inputs: Readonly<Record<string, string>> = {}): Promise<ActionRun> {
  const done = await run(inputs);
  if (done.outcome !== 'success') throw new Error(`it ended with ${done.outcome}:\n${done.log}`);
  return done;
}

const itemsOf = (done: ActionRun): [string, number, boolean][] =>
  (JSON.parse(done.outputs['items'] ?? '[]') as { source: string; rows: number; proven: boolean }[]).map(
    ({ source, rows, proven }) => [source, rows, proven],
  );

/** The raw streams count, not what the masks of the runner make of them. */
function expectSilent(done: ActionRun): void {
  const said = [
    done.stdout.replaceAll(/^::add-mask::.*$/gm, ''),
    done.stderr,
    done.log,
    done.summary,
    JSON.stringify(done.outputs),
  ];
  for (const text of said) {
    expect(text).not.toContain(PASSWORD);
    expect(text).not.toContain(ENCODED);
    expect(text).not.toContain('m@naged');
    expect(text).not.toContain('m%40naged');
  }
}

beforeAll(async () => {
  await freshServer();
  checkout = await projectFiles({ 'compose.yaml': compose() });
  await mustDeploy(checkout);
  await startManaged();
  await query('CREATE DATABASE app', 'postgres');
  await query(`CREATE ROLE reader LOGIN PASSWORD 'another-secret';
CREATE TABLE orders (id int PRIMARY KEY, note text);
INSERT INTO orders SELECT i, repeat('x', i % 40) FROM generate_series(1, 2000) i;
GRANT SELECT ON orders TO reader;`);
  await query('CREATE DATABASE other', 'postgres');
  await query('CREATE TABLE t AS SELECT generate_series(1, 50) AS n', 'other');
});

afterAll(removeCheckouts);

describe('a server behind a URL', () => {
  test('is backed up and proven beside what is found, and its password is nowhere', async () => {
    await onServer(
      `cat >/tmp/inspect.sh <<'END'
while [ ! -e /tmp/inspected ]; do
  for one in $(docker ps -aq --filter label=slipway.scratch); do docker inspect "$one"; docker top "$one" -eo args; docker logs "$one"; done
  sleep 0.1
done >/tmp/inspect.log 2>&1
END
rm -f /tmp/inspected; setsid sh /tmp/inspect.sh >/dev/null 2>&1 &`,
    );
    const { result: done, processes } = await sampleArgv(() => must(), { intervalMs: 5 });
    await onServer('touch /tmp/inspected; sleep 0.5');
    expect(done.outputs['result']).toBe('proven');
    expect(itemsOf(done)).toEqual([
      ['roles:cloud', 0, true],
      ['postgres:cloud/app', 2000, true],
      ['files:release', expect.any(Number), true],
    ]);
    expectSilent(done);
    const seen = await onServer('cat /tmp/inspect.log');
    expect(seen).toContain('slipway-scratch-shop-client-cloud-');
    expect(seen).not.toContain('m@naged');
    for (const { argv } of processes) expect(argv.join(' ')).not.toMatch(/m(@|%40)naged/);
    expect(processes.some(({ argv }) => argv.includes('pg_dump'))).toBe(true);
    expect(await asDeploy(`cat ${BACKUPS}/${done.outputs['backup'] ?? ''}/RESTORE.md`)).toContain(
      'database-urls: ${{ secrets.DATABASE_URLS }}',
    );
    expect(await onServer(`grep -rlE 'm(@|%40)naged' /home /tmp /run/user 2>/dev/null || :`)).toBe('');
    expect(await helpers()).toBe('');
  });

  test('is what `what` names, with all its databases where neither says one', async () => {
    const other = await must({ what: 'postgres: cloud/other' });
    expect(itemsOf(other).map(([source]) => source)).toEqual(['roles:cloud', 'postgres:cloud/other']);
    const all = await must({ what: 'postgres: cloud', 'database-urls': `cloud = ${URL_OF('postgres', ENCODED, '')}` });
    expect(itemsOf(all)).toEqual([
      ['roles:cloud', 0, true],
      ['postgres:cloud/app', 2000, true],
      ['postgres:cloud/other', 50, true],
      ['postgres:cloud/postgres', 0, true],
    ]);
    expect(await helpers()).toBe('');
  });

  test('comes back: what it has lost, and the whole of it', async () => {
    await query('DELETE FROM orders WHERE id > 10');
    const dry = await must({ mode: 'restore', 'dry-run': 'true', only: 'postgres:cloud/app' });
    expect(dry.log).toContain('public.orders: now 10 rows, then 2000 rows');
    const restored = await must({ mode: 'restore', only: 'postgres:cloud/app', confirm: 'shop' });
    expect(restored.outputs['result']).toBe('restored');
    expect(restored.log).toContain('To drop it on cloud: dropdb');
    expect((await query('SELECT count(*) FROM orders')).trim()).toBe('2000');
    await startManaged();
    await must({ mode: 'restore', confirm: 'shop', backup: 'latest' });
    expect((await query('SELECT count(*) FROM orders')).trim()).toBe('2000');
    expect((await query('SELECT count(*) FROM t', 'other')).trim()).toBe('50');
    expect((await query("SELECT rolname FROM pg_roles WHERE rolname = 'reader'")).trim()).toBe('reader');
    expect(await helpers()).toBe('');
  });

  test('is verified again; without its URL that is said, and nothing is held against the backup', async () => {
    const verified = await must({ mode: 'verify' });
    expect(verified.outputs['result']).toBe('proven');
    for (const mode of ['verify', 'restore']) {
      const done = await run({ mode, 'database-urls': '', confirm: 'shop' });
      expect(done.outcome).toBe('failure');
      expect(errorsOf(done).join('\n')).toContain('database-urls: has no server cloud');
    }
    expect((await must({ mode: 'verify', 'database-image': '' })).outputs['result']).toBe('proven');
  });

  test('may have a user that is no superuser: then the roles are without passwords, which is said', async () => {
    await query(`CREATE ROLE shopkeeper LOGIN CREATEDB PASSWORD '${PASSWORD.replaceAll("'", "''")}'`);
    await query('CREATE DATABASE small OWNER shopkeeper', 'postgres');
    await query('SET ROLE shopkeeper; CREATE TABLE sales AS SELECT generate_series(1, 30) AS n', 'small');
    const urls = { 'database-urls': `cloud = ${URL_OF('shopkeeper', ENCODED, '/small')}` };
    const done = await must({ ...urls, what: 'postgres: cloud' });
    expect(itemsOf(done)).toEqual([
      ['roles:cloud', 0, true],
      ['postgres:cloud/small', 30, true],
    ]);
    expect(done.log).toContain('The roles of cloud are backed up without their passwords');
    await query('DELETE FROM sales', 'small');
    await must({ ...urls, mode: 'restore', backup: 'latest', confirm: 'shop' });
    expect((await query('SELECT count(*) FROM sales', 'small')).trim()).toBe('30');
  });
});

describe('what is wrong is said', () => {
  test.each([
    [
      'the password',
      { 'database-urls': `cloud = ${URL_OF('postgres', 'm%40naged-wrong')}` },
      'password authentication failed',
    ],
    ['the address', { 'database-urls': `cloud = postgres://postgres:m%40naged@127.0.0.1:5999/app` }, 'refused'],
    [
      'the database',
      { 'database-urls': `cloud = ${URL_OF('postgres', ENCODED, '/nothing')}` },
      'Server cloud has no database nothing',
    ],
    ['no image', { 'database-image': '' }, 'Give an image in the input'],
    ['an image that is not there', { 'database-image': 'postgres:9.0' }, 'run `docker pull postgres:9.0` there'],
    [
      'the name of a service',
      { 'database-urls': `app = ${URL_OF('postgres', ENCODED)}` },
      'app is both a service of the project',
    ],
    ['a URL that is none', { 'database-urls': `cloud = ${URL_OF('postgres', PASSWORD)}` }, 'line 1 has'],
  ])('%s', async (_, inputs, words) => {
    const before = await asDeploy(`ls -A ${BACKUPS}`);
    const done = await run({ what: '', ...inputs });
    expect(done.outcome).toBe('failure');
    expect(errorsOf(done).join('\n')).toContain(words);
    expectSilent(done);
    expect(await helpers()).toBe('');
    expect(await asDeploy(`ls -A ${BACKUPS}`)).toBe(before);
  });
});

describe('a runner that is killed', () => {
  beforeAll(async () => {
    await query('CREATE TABLE big AS SELECT i, repeat(md5(i::text), 8) AS x FROM generate_series(1, 500000) i');
  });

  test('while it dumps leaves no helper, and no half backup', async () => {
    const done = await backUp(
      { ...CLOUD, lease: '10' },
      { loseAfter: () => onServer('until pgrep -f "^pg_dump .*--snapshot"; do sleep 0.02; done').then(noAnswer) },
    );
    expect(done.outcome).toBe('lost');
    await untilGone();
    expect(await onServer('pgrep -f "^pg_dump .*--snapshot" || :')).toBe('');
    const next = await must({ 'collapse-threshold': '100%' });
    expect(next.outputs['result']).toBe('proven');
    expect(await asDeploy(`ls -A ${BACKUPS}`)).not.toContain('.partial');
  });

  test('while it restores leaves what serves, no helper, and nothing unfinished after the next one', async () => {
    await query('DELETE FROM orders WHERE id > 10');
    const done = await backUp(
      { ...CLOUD, lease: '10', mode: 'restore', only: 'postgres:cloud/app', confirm: 'shop' },
      {
        loseAfter: () => onServer('until pgrep -f "^pg_restore .*--exit-on-error"; do sleep 0.02; done').then(noAnswer),
      },
    );
    expect(done.outcome).toBe('lost');
    await untilGone();
    expect((await query('SELECT count(*) FROM orders')).trim()).toBe('10');
    const restored = await must({ mode: 'restore', only: 'postgres:cloud/app', confirm: 'shop' });
    expect(restored.log).toContain('A restore had been interrupted');
    expect((await query('SELECT count(*) FROM orders')).trim()).toBe('2000');
    expect(await query("SELECT datname FROM pg_database WHERE datname LIKE 'slipway-new-%'")).toBe('');
    expect(await helpers()).toBe('');
  });
});

test('the client programs come from a PostgreSQL of the project where no image is given', async () => {
  const db = { image: 'postgres:15', environment: { POSTGRES_HOST_AUTH_METHOD: 'trust' } };
  await checkout.write({ 'compose.yaml': compose({ db }) });
  await mustDeploy(checkout);
  const done = await must({ 'database-image': '', 'collapse-threshold': '100%', verify: 'none' });
  expect(itemsOf(done).map(([source]) => source)).toEqual([
    'roles:db',
    'postgres:db/postgres',
    'roles:cloud',
    'postgres:cloud/app',
    'files:release',
  ]);
});
