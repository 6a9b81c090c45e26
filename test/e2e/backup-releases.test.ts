/** Backups around a change of releases: one before a migration, and its data back together with the release before. */
import { jest } from '@jest/globals';
import { containerOf, databaseProject, query } from './data-project.ts';
import type { ActionRun } from './harness/index.ts';
import {
  asDeploy,
  type Checkout,
  deploy,
  errorsOf,
  freshServer,
  mustDeploy,
  onServer,
  projectFiles,
  removeCheckouts,
  rollBack,
  waitForFinish,
} from './sandbox.ts';

jest.setTimeout(300_000);

const STORE = '/home/deploy/apps/shop/.slipway';
let checkout: Checkout;

const compose = (release: string): string =>
  databaseProject({
    app: {
      image: 'postgres:15',
      command: ['sleep', 'infinity'],
      stop_signal: 'SIGKILL',
      restart: 'unless-stopped',
      environment: {
        RELEASE: release,
        PGHOST: 'db',
        PGUSER: 'postgres',
        PGDATABASE: 'app',
        PGPASSWORD: 'secret-of-the-database',
      },
      depends_on: { db: { condition: 'service_healthy' } },
    },
  });

const serving = async (): Promise<string> =>
  (await onServer(`docker exec ${containerOf('app')} sh -c 'echo $RELEASE'`)).trim();
const databases = (): Promise<string> =>
  query("SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database WHERE NOT datistemplate");
const releaseOf = (run: ActionRun): string => run.outputs['release'] ?? '';
const MIGRATE_B = `app: psql -v ON_ERROR_STOP=1 -c "ALTER TABLE orders DROP COLUMN note; INSERT INTO schema_migrations VALUES ('2')"`;
const COMMON = { 'schema-state': 'db: table schema_migrations' };

let backup = '';
let releaseA = '';

/** A with its data; B, which drops a column, behind a backup; and orders since. */
beforeEach(async () => {
  await freshServer();
  checkout = await projectFiles({ 'compose.yaml': compose('A') });
  const migrate = `app: psql -v ON_ERROR_STOP=1 -c "CREATE TABLE schema_migrations (version text); INSERT INTO schema_migrations VALUES ('1'); CREATE TABLE orders (id int, note text); INSERT INTO orders SELECT i, 'note ' || i FROM generate_series(1, 120) i"`;
  releaseA = releaseOf(await mustDeploy(checkout, { ...COMMON, migrate, backup: 'true' }));
  await checkout.write({ 'compose.yaml': compose('B') });
  const run = await mustDeploy(checkout, { ...COMMON, migrate: MIGRATE_B, backup: 'postgres: db' });
  const record = JSON.parse(await asDeploy(`cat ${STORE}/releases/${releaseOf(run)}/release.json`)) as {
    backup: string;
  };
  backup = record.backup;
  await query('INSERT INTO orders SELECT i FROM generate_series(121, 150) i');
});

afterAll(removeCheckouts);

test('going back behind a migration names the backup, shows what is lost, and brings release and data back', async () => {
  expect(JSON.parse(await asDeploy(`cat ${STORE}/backups/${backup}/manifest.json`))).toMatchObject({
    result: 'proven',
  });
  const refused = await rollBack();
  expect(refused.outcome).toBe('failure');
  expect(errorsOf(refused).join('\n')).toContain(`restore-backup: ${backup}`);

  const dry = await rollBack({ 'restore-backup': backup, 'dry-run': 'true' });
  expect(dry.outputs['result']).toBe('planned');
  expect(dry.log).toContain('public.orders (30 rows)');
  expect(await query('SELECT count(*) FROM orders')).toBe('150');

  const run = await rollBack({ 'restore-backup': backup });
  if (run.outcome !== 'success') throw new Error(run.log);
  expect(run.outputs).toMatchObject({ result: 'rolled-back', target: releaseA });
  expect(await serving()).toBe('A');
  expect(await query("SELECT count(*) || ' ' || min(note) FROM orders")).toBe('120 note 1');
  expect(await databases()).toMatch(/^app postgres slipway-kept-\S+-app slipway-kept-\S+-postgres$/);
  expect(await asDeploy(`ls ${STORE}/backups`)).not.toContain('restoring');
});

test('a rollback that fails after the swap gives the data of now back', async () => {
  const run = await rollBack({ 'restore-backup': backup, 'e2e-command': 'app: false' });
  expect(run.outcome).toBe('failure');
  expect(run.outputs['result']).toBe('reverted');
  expect(await serving()).toBe('B');
  expect(await query('SELECT count(*) FROM orders')).toBe('150');
  // What was written into the restored ones meanwhile is not thrown away.
  expect(await databases()).toMatch(/^app postgres slipway-was-\S+-app slipway-was-\S+-postgres$/);
});

test('the runner is lost after the swap: the server gives the data of now back', async () => {
  const run = await rollBack(
    { 'restore-backup': backup, 'bake-time': '60', lease: '10' },
    {
      loseAfter: async (running) => {
        await running.line(/put the data of backup/);
        await onServer(
          `until docker exec ${containerOf('db')} psql -XAtq -U postgres -c 'SELECT datname FROM pg_database' | grep -q slipway-kept; do sleep 0.02; done`,
        );
      },
    },
  );
  expect(run.outcome).toBe('lost');
  await waitForFinish();
  expect(await serving()).toBe('B');
  expect(await query('SELECT count(*) FROM orders')).toBe('150');
  // What was written into the restored ones meanwhile is not thrown away.
  expect(await databases()).toMatch(/^app postgres slipway-was-\S+-app slipway-was-\S+-postgres$/);
  // And the next one works.
  const again = await rollBack({ 'restore-backup': backup });
  if (again.outcome !== 'success') throw new Error(again.log);
  expect(await query('SELECT count(*) FROM orders')).toBe('120');
});

test('a deploy that is lost in its backup leaves what the next one sweeps, and nothing of action-backup', async () => {
  const left = (): Promise<string> =>
    asDeploy(`cd ${STORE}/backups && ls -d *.partial 2>/dev/null; docker ps -aq --filter label=slipway.scratch`);
  await asDeploy(`mkdir ${STORE}/backups/20260101T000000Z-lives.partial`);
  await checkout.write({ 'compose.yaml': compose('C') });
  const before = await serving();
  await deploy(
    checkout,
    { ...COMMON, backup: 'postgres: db', lease: '10' },
    {
      loseAfter: async (running) => {
        await running.line(/Prove it/);
        await onServer('until [ -n "$(docker ps -q --filter label=slipway.scratch)" ]; do sleep 0.02; done');
      },
    },
  );
  expect(await serving()).toBe(before);
  expect(await left()).toMatch(/-lives\.partial\n/);
  await mustDeploy(checkout, { ...COMMON, backup: 'postgres: db', 'lock-wait': '60' });
  expect(await serving()).toBe('C');
  expect(await left()).toBe('20260101T000000Z-lives.partial\n');
});

test('a deploy whose backup fails changes nothing', async () => {
  await checkout.write({ 'compose.yaml': compose('C') });
  const run = await deploy(checkout, { ...COMMON, backup: 'postgres: db/nothing' });
  expect(run.outcome).toBe('failure');
  expect(errorsOf(run).join('\n')).toContain('Service db has no database nothing');
  expect(await serving()).toBe('B');
});
