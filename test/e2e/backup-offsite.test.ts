/** Encrypted backups in another place: a real S3 server, age, and what becomes of it when the storage fails. */
import { truncate } from 'node:fs/promises';
import { type AddressInfo, connect, createServer } from 'node:net';
import { jest } from '@jest/globals';
import { generateX25519Identity, identityToRecipient } from 'age-encryption';
import { type SabotagingProxy, startSabotagingProxy } from '../object-store/proxy.ts';
import { type ObjectStoreServer, startObjectStoreServer } from '../object-store/server.ts';
import { databaseProject, query } from './data-project.ts';
import type { ActionRun } from './harness/index.ts';
import {
  asDeploy,
  backUp,
  errorsOf,
  freshServer,
  mustDeploy,
  projectFiles,
  removeCheckouts,
  theServer,
} from './sandbox.ts';

jest.setTimeout(300_000);

const BACKUPS = '/home/deploy/apps/shop/.slipway/backups';
let storage: ObjectStoreServer;
let proxy: SabotagingProxy;
let identity = '';
let recipient = '';

const complete = (): Promise<string> => asDeploy(`ls ${BACKUPS} | grep -E '^[0-9]+T[0-9]+Z-[a-z0-9]+$' || :`);

const offsite = (): Record<string, string> => ({
  's3-endpoint': proxy.endpoint,
  's3-bucket': 'backups',
  's3-region': storage.region,
  's3-prefix': 'some/where',
  's3-access-key-id': storage.accessKeyId,
  's3-secret-access-key': storage.secretAccessKey,
});

async function must(inputs: Readonly<Record<string, string>>): Promise<ActionRun> {
  const run = await backUp(inputs, { secrets: [storage.secretAccessKey] });
  if (run.outcome !== 'success') throw new Error(`it ended with ${run.outcome}:\n${run.log}`);
  return run;
}

/** Whatever comes of it. */
const take = (more: Readonly<Record<string, string>> = {}): Promise<ActionRun> =>
  backUp({ ...inputs(), ...more }, { secrets: [more['s3-secret-access-key'] ?? storage.secretAccessKey] });

beforeAll(async () => {
  storage = await startObjectStoreServer();
  proxy = await startSabotagingProxy(storage.endpoint);
  identity = await generateX25519Identity();
  recipient = await identityToRecipient(identity);
  await freshServer();
  await mustDeploy(await projectFiles({ 'compose.yaml': databaseProject() }));
  await query(
    'CREATE TABLE orders AS SELECT i AS id, md5(random()::text) || md5(random()::text) AS note FROM generate_series(1, 300000) i',
  );
});

afterEach(() => {
  proxy.decide(() => 'pass');
});

afterAll(async () => {
  await proxy.close();
  await storage.close();
  await removeCheckouts();
});

const inputs = (): Record<string, string> => ({
  what: 'postgres: db/app\nrelease',
  'age-recipients': recipient,
  ...offsite(),
});

test('nothing readable stays, here or there; the server may burn, and all comes back with the key', async () => {
  const run = await must(inputs());
  const id = run.outputs['backup'] ?? '';
  expect(run.outputs['result']).toBe('proven');
  const items = JSON.parse(run.outputs['items'] ?? '[]') as { source: string; offsite: string }[];
  expect(items.map((item) => item.offsite)).toEqual(
    items.map(() => expect.stringMatching(new RegExp(`^s3://backups/some/where/shop/${id}/.*\\.age$`)) as string),
  );
  const stored = await asDeploy(`cd ${BACKUPS}/${id} && ls && head -c 21 *.dump.age`);
  expect(stored).toContain('age-encryption.org/v1');
  expect(stored).not.toMatch(/\.dump$/m);
  for (const text of [run.log, run.summary]) {
    expect(text).not.toContain(storage.secretAccessKey);
    expect(text).not.toContain('secret-of-the-database');
  }

  await asDeploy(`rm -rf ${BACKUPS}`);
  await query('DROP TABLE orders');
  const listed = await must({ mode: 'list', ...offsite() });
  expect(JSON.parse(listed.outputs['backups'] ?? '[]')).toMatchObject([
    { id, onServer: false, offsite: true, encrypted: true },
  ]);
  const locked = await backUp({ mode: 'restore', confirm: 'shop', ...offsite() });
  expect(errorsOf(locked).join('\n')).toContain(`encrypted to ${recipient}`);
  const restored = await backUp(
    { mode: 'restore', confirm: 'shop', 'age-key': `# mine\n${identity}\n`, ...offsite() },
    { secrets: [identity, storage.secretAccessKey] },
  );
  if (restored.outcome !== 'success') throw new Error(restored.log);
  expect(await query('SELECT count(*) FROM orders')).toBe('300000');
  expect(restored.log).not.toContain(identity);
  expect(await asDeploy(`cd ~/apps/shop/restored-*/releases/*/ && cat compose.yaml`)).toContain('postgres');
  // Nothing of what was brought there stays.
  expect(await asDeploy(`ls -A ${BACKUPS} | grep -v '^.slipway$' || :`)).toBe('');
});

test('servers that share a storage have each its own backups, and another one restores them by their whole id', async () => {
  const id = (await must(inputs())).outputs['backup'] ?? '';
  await asDeploy(`rm -rf ${BACKUPS}`);
  // The same server, as far as bytes go. What it is asked for as is another one.
  const server = theServer();
  const line = createServer((client) => {
    const to = connect(22, server.address);
    client.pipe(to).pipe(client);
    for (const end of [client, to]) end.once('error', () => client.destroy());
  });
  await new Promise<void>((resolve) => line.listen(0, '127.0.0.1', resolve));
  const { port } = line.address() as AddressInfo;
  const other = {
    host: '127.0.0.1',
    port: String(port),
    'known-hosts': server.knownHosts.replaceAll(/^\S+/gm, `[127.0.0.1]:${port}`),
    ...offsite(),
  };
  const dryRun = { mode: 'restore', 'dry-run': 'true', ...other };
  try {
    const listed = await must({ mode: 'list', ...other });
    expect(JSON.parse(listed.outputs['backups'] ?? '[]')).toContainEqual(
      expect.objectContaining({ id, server: `deploy@${server.address}`, onServer: false, offsite: true }),
    );
    const unnamed = await backUp(dryRun, { secrets: [storage.secretAccessKey] });
    expect(unnamed.outcome).toBe('failure');
    expect(errorsOf(unnamed).join('\n')).toMatch(
      new RegExp(`No backup is proven.*Of other servers, each to be had by its whole id: .*${id}`),
    );
    const named = await must({ ...dryRun, backup: id });
    expect(named.outputs['result']).toBe('planned');
    expect(named.summary).toContain('was taken on another server');
  } finally {
    line.close();
  }
});

test.each([
  [
    'answers 500 to everything that is written',
    (method: string) => method === 'PUT' || method === 'POST',
    { status: 500, body: '' },
  ],
  ['drops the connection', (method: string) => method === 'PUT', 'reset' as const],
] as const)('a storage that %s: the backup is here, the step fails, nothing is pruned', async (_, applies, fate) => {
  await must(inputs());
  const before = await complete();
  proxy.decide(({ method }) => (applies(method) ? fate : 'pass'));
  const run = await take({ keep: '1', 'keep-days': '1' });
  expect(run.outcome).toBe('failure');
  expect(errorsOf(run).join('\n')).toMatch(/The backup is not off-site/);
  expect(run.outputs['removed']).toBe('[]');
  expect((await complete()).split('\n').length).toBe(before.split('\n').length + 1);
  expect((await complete()).startsWith(before.trimEnd())).toBe(true);
});

test('what cannot be read back is not off-site', async () => {
  const before = await complete();
  proxy.decide(({ method, url }) => (method === 'GET' && url.includes('.dump.age') ? 'reset' : 'pass'));
  const run = await take();
  expect(run.outcome).toBe('failure');
  expect(errorsOf(run).join('\n')).toMatch(/not off-site/);
  expect((await complete()).length).toBeGreaterThan(before.length);
});

test('a copy on the server that is damaged: verify says so, and a restore takes the one off-site', async () => {
  const id = (await must(inputs())).outputs['backup'] ?? '';
  await asDeploy(`cd ${BACKUPS}/${id} && printf x | dd of=$(ls *app.dump.age) bs=1 seek=5000 conv=notrunc 2>/dev/null`);
  await query('DROP TABLE orders');
  const key = { 'age-key': identity, backup: id };
  const secrets = { secrets: [identity, storage.secretAccessKey] };
  const alone = await backUp({ mode: 'restore', confirm: 'shop', ...key }, secrets);
  expect([alone.outcome, errorsOf(alone).join('\n')]).toEqual(['failure', expect.stringContaining('app.dump.age')]);
  const restored = await backUp({ mode: 'restore', confirm: 'shop', ...key, ...offsite() }, secrets);
  if (restored.outcome !== 'success') throw new Error(restored.log);
  expect(restored.summary).toContain('The copy off-site is restored instead');
  expect(await query('SELECT count(*) FROM orders')).toBe('300000');
  const verified = await backUp({ mode: 'verify', ...key, ...offsite() }, secrets);
  expect([verified.outcome, verified.outputs['result']]).toEqual(['failure', 'suspect']);
});

test('an object that became short since is found before anything is touched', async () => {
  const id = (await must(inputs())).outputs['backup'] ?? '';
  await truncate(await storage.file('backups', `some/where/shop/${id}/roles@db.sql.age`), 100);
  await asDeploy(`rm -rf ${BACKUPS}/${id}`);
  const run = await backUp(
    { mode: 'restore', confirm: 'shop', backup: id, 'age-key': identity, ...offsite() },
    { secrets: [identity, storage.secretAccessKey] },
  );
  expect(run.outcome).toBe('failure');
  expect(errorsOf(run).join('\n')).toContain('roles@db.sql.age');
  expect(await query('SELECT count(*) FROM orders')).toBe('300000');
});

test('a login that is wrong is said, and the server has its backup', async () => {
  const run = await take({ 's3-secret-access-key': 'not the right one at all' });
  expect(run.outcome).toBe('failure');
  expect(errorsOf(run).join('\n')).toMatch(/s3:\/\/backups/);
  expect(run.log).not.toContain('not the right one at all');
});

test('old ones go from both places', async () => {
  const dry = await must({ mode: 'prune', keep: '1', 'keep-days': '1', 'dry-run': 'true', ...offsite() });
  expect(dry.outputs['result']).toBe('planned');
});
