/** Backups that are proven, and the way back from losing everything: the action against a real server with real databases. */
import { jest } from '@jest/globals';
import { containerOf, DATA_PROJECT, query } from './data-project.ts';
import type { ActionRun } from './harness/index.ts';
import {
  asDeploy,
  backUp,
  type Checkout,
  errorsOf,
  fillDisk,
  freshServer,
  mustDeploy,
  onServer,
  projectFiles,
  removeCheckouts,
  rollBack,
  unfillDisk,
} from './sandbox.ts';

jest.setTimeout(300_000);

const BACKUPS = '/home/deploy/apps/shop/.slipway/backups';
const PASSWORD = 'very-secret-password-of-the-database';
let checkout: Checkout;

const redis = (...words: readonly string[]): Promise<string> =>
  onServer(`docker exec ${containerOf('cache')} redis-cli "$@"`, words);
/** Backups that readers see. */
const complete = (): Promise<string> => asDeploy(`ls ${BACKUPS} | grep -E '^[0-9]+T[0-9]+Z-[a-z0-9]+$' || :`);
const listing = (): Promise<string> => asDeploy(`ls -A ${BACKUPS} | grep -v '^.slipway$' || :`);
const scratches = (): Promise<string> => onServer('docker ps -aq --filter label=slipway.scratch');

async function must(inputs: Readonly<Record<string, string>> = {}): Promise<ActionRun> {
  const run = await backUp(inputs);
  if (run.outcome !== 'success') throw new Error(`it ended with ${run.outcome}:\n${run.log}`);
  return run;
}

interface Item {
  readonly source: string;
  readonly rows: number;
  readonly proven: boolean;
  readonly offsite: string;
}
const itemsOf = (run: ActionRun): Item[] => JSON.parse(run.outputs['items'] ?? '[]') as Item[];

async function fillDatabases(): Promise<void> {
  await query(`CREATE ROLE reader LOGIN PASSWORD 'another-secret';
CREATE TABLE orders (id int PRIMARY KEY, note text);
INSERT INTO orders SELECT i, repeat('x', i % 40) FROM generate_series(1, 2000) i;
GRANT SELECT ON orders TO reader;`);
  await query('CREATE DATABASE "second db"');
  await query('CREATE TABLE t AS SELECT generate_series(1, 50) AS n', 'second db');
  await onServer(
    `docker exec ${containerOf('cache')} sh -c 'for i in $(seq 300); do echo "SET key:$i value$i"; done | redis-cli >/dev/null'`,
  );
  await onServer(
    `docker exec ${containerOf('files')} sh -c 'mkdir -p /uploads/a && echo one >/uploads/a/one && echo two >"/uploads/a/t w o"'`,
  );
}

beforeAll(async () => {
  await freshServer();
  checkout = await projectFiles({ 'compose.yaml': DATA_PROJECT });
  await mustDeploy(checkout, { env: `PASSWORD=${PASSWORD}` });
  await fillDatabases();
});

afterAll(removeCheckouts);

describe('a backup', () => {
  let run: ActionRun;

  test('of all that is found is proven, and tells no secret', async () => {
    run = await must();
    expect(run.outputs).toMatchObject({ result: 'proven' });
    expect(itemsOf(run).map(({ source, rows, proven }) => [source, rows, proven])).toEqual([
      ['redis:cache', 300, true],
      ['roles:db', 0, true],
      ['postgres:db/app', 2000, true],
      ['postgres:db/postgres', 0, true],
      ['postgres:db/second db', 50, true],
      ['files:release', expect.any(Number), true],
    ]);
    expect(run.log).toContain('Not in this backup: shop_uploads (of files)');
    for (const text of [run.log, run.summary]) {
      expect(text).not.toContain(PASSWORD);
      expect(text).not.toContain('another-secret');
    }
  });

  test('stands whole in its folder, with a way back for people, and leaves nothing else', async () => {
    const id = run.outputs['backup'] ?? '';
    expect((await listing()).trim()).toBe(id);
    expect(
      await asDeploy(`cd ${BACKUPS}/${id} && ls && sed -n '/sha256sum -c/,/^END/p;/^END/q' RESTORE.md | sh`),
    ).toContain('RESTORE.md');
    expect(await asDeploy(`stat -c %a ${BACKUPS} ${BACKUPS}/${id}/*.dump | sort -u`)).toBe('600\n700\n');
    expect(await scratches()).toBe('');
  });

  test('of what is named: databases, a volume, files', async () => {
    await asDeploy('mkdir -p ~/apps/shop/conf && echo a >~/apps/shop/conf/a && echo b >~/apps/shop/conf/.b');
    const named = await must({ what: 'postgres: db/app\nvolume: uploads paused\nfiles: conf\n# not this\n' });
    expect(itemsOf(named).map(({ source, rows, proven }) => [source, rows > 0, proven])).toEqual([
      ['roles:db', false, true],
      ['postgres:db/app', true, true],
      ['volume:uploads', true, true],
      ['files:conf', true, true],
    ]);
    expect(named.outputs['result']).toBe('proven');
  });

  test('of what is not there is refused, all at once', async () => {
    const refused = await backUp({ what: 'postgres: database\nvolume: nothing\nredis: cache' });
    expect(refused.outcome).toBe('failure');
    expect(errorsOf(refused).join('\n')).toMatch(
      /no service database[^]*Its services: cache, db, files[^]*no volume nothing/,
    );
  });
});

describe('losing everything', () => {
  test('under writes, and then all comes back as the manifest says', async () => {
    await onServer(
      `cat >/tmp/write.sh <<'END'
while :; do echo "INSERT INTO orders SELECT max(id) + 1, 'late' FROM orders;"; sleep 0.01; done | docker exec -i $1 psql -Xq -U postgres -d app
END
setsid sh /tmp/write.sh ${containerOf('db')} >/dev/null 2>&1 & echo $! >/tmp/write.pid
cat >/tmp/write2.sh <<'END'
while :; do echo "INCR late"; sleep 0.01; done | docker exec -i $1 redis-cli
END
setsid sh /tmp/write2.sh ${containerOf('cache')} >/dev/null 2>&1 & echo $! >/tmp/write2.pid; sleep 1`,
    );
    const run = await must({ what: 'postgres: db\nredis: cache\nvolume: uploads stopped' });
    await onServer('kill -- -$(cat /tmp/write.pid) -$(cat /tmp/write2.pid)');
    const rows = itemsOf(run).find(({ source }) => source === 'postgres:db/app')?.rows ?? 0;
    expect(rows).toBeGreaterThan(2000);
    await onServer(
      `docker rm -f $(docker ps -aq --filter label=com.docker.compose.project=shop) && docker volume rm shop_db shop_cache shop_uploads`,
    );
    await onServer('cd /home/deploy/apps/shop && runuser -u deploy -- docker compose up -d --wait');
    const dry = await must({ mode: 'restore', backup: 'latest', 'dry-run': 'true' });
    expect(dry.outputs['result']).toBe('planned');
    expect(dry.log).toContain(`public.orders: now is not there, then ${rows} rows`);
    const restored = await must({ mode: 'restore', backup: 'latest', confirm: 'shop' });
    expect(restored.outputs).toMatchObject({ result: 'restored', backup: run.outputs['backup'] });
    expect(Number(await query('SELECT count(*) FROM orders'))).toBe(rows);
    expect(await query('SELECT count(*) FROM t', 'second db')).toBe('50');
    expect(await query("SELECT rolname FROM pg_roles WHERE rolname = 'reader'")).toBe('reader');
    expect(Number(await redis('DBSIZE'))).toBeGreaterThanOrEqual(300);
    expect((await redis('GET', 'key:7')).trim()).toBe('value7');
    expect(await onServer(`docker exec ${containerOf('files')} cat '/uploads/a/t w o'`)).toBe('two\n');
    expect(await scratches()).toBe('');
  });

  test('a restore is not done without its confirmation', async () => {
    const run = await backUp({ mode: 'restore', confirm: 'shopp' });
    expect(run.outcome).toBe('failure');
    expect(errorsOf(run).join('\n')).toMatch(/confirm.*type the project's name/);
  });
});

describe('what there is', () => {
  test('is listed, checked and pruned', async () => {
    const listed = await must({ mode: 'list' });
    expect(JSON.parse(listed.outputs['backups'] ?? '[]')).toHaveLength(3);
    expect((await must({ mode: 'check', 'max-age': '1h' })).outputs['result']).toBe('fresh');
    const stale = await backUp({ mode: 'check', only: 'postgres:db\nredis:other' });
    expect(stale.outputs['result']).toBe('stale');
    expect(errorsOf(stale).join('\n')).toContain('redis:other has no proven backup');
    const pruned = await must({ mode: 'prune' });
    expect(pruned.outputs).toMatchObject({ result: 'pruned', removed: '[]' });
  });

  test('is verified again, and a damaged one is found', async () => {
    // What a killed session has left is data in plain; what a deploy has in the making is not ours.
    await asDeploy(`cd ${BACKUPS} && mkdir 20260101T000000Z-left.partial 20260101T000000Z-lives.change.partial`);
    const verified = await must({ mode: 'verify' });
    expect(verified.outputs['result']).toBe('proven');
    expect(await asDeploy(`cd ${BACKUPS} && ls -d *.partial && rmdir *.partial`)).toBe(
      '20260101T000000Z-lives.change.partial\n',
    );
    const id = verified.outputs['backup'] ?? '';
    await asDeploy(
      `cd ${BACKUPS}/${id} && f=$(ls *app.dump) && printf x | dd of=$f bs=1 seek=5000 conv=notrunc 2>/dev/null`,
    );
    const damaged = await backUp({ mode: 'verify', backup: id });
    expect(damaged.outcome).toBe('failure');
    expect(errorsOf(damaged).join('\n')).toContain('postgres@db+app.dump');
    expect(damaged.outputs['result']).toBe('suspect');
    const other = await must({ mode: 'restore', 'dry-run': 'true' });
    expect(other.outputs['backup']).not.toBe(id);
  });
});

describe('sabotage', () => {
  test('a collapse marks the backup suspect, with the numbers', async () => {
    await query('DELETE FROM orders WHERE id > 100');
    const run = await backUp();
    expect(run.outcome).toBe('failure');
    expect(run.outputs['result']).toBe('suspect');
    expect(errorsOf(run).join('\n')).toMatch(/orders of postgres:db\/app has 100 rows, and had \d+/);
    const accepted = await must({ 'collapse-threshold': '100%' });
    expect(accepted.outputs['result']).toBe('proven');
  });

  test('pg_dump killed half-way leaves nothing', async () => {
    await query(
      'DROP TABLE IF EXISTS big; CREATE TABLE big AS SELECT i, repeat(md5(i::text), 8) AS x FROM generate_series(1, 600000) i',
    );
    const before = await listing();
    const killed = onServer(
      `n=0; until pkill -KILL -f "^pg_dump .*--snapshot"; do sleep 0.02; n=$((n + 1)); [ $n -lt 3000 ] || exit 1; done`,
    );
    const run = await backUp({ what: 'postgres: db/app' });
    await killed;
    expect(run.outcome).toBe('failure');
    expect(errorsOf(run).join('\n')).toMatch(/pg_dump failed with exit code 137/);
    expect(await listing()).toBe(before);
    expect(await scratches()).toBe('');
    await query('DROP TABLE big');
  });

  describe('a runner that is killed', () => {
    beforeAll(() =>
      query(
        'DROP TABLE IF EXISTS big; CREATE TABLE big AS SELECT i, repeat(md5(i::text), 8) AS x FROM generate_series(1, 600000) i',
      ),
    );
    afterAll(() => query('DROP TABLE big'));
    const untilDumping = async (): Promise<void> => {
      await onServer('until pgrep -f "^pg_dump .*--snapshot"; do sleep 0.02; done');
    };
    const gone =
      'for n in $(seq 300); do [ -n "$(docker ps -aq --filter label=slipway.scratch)$(pgrep -f "^pg_dump .*--snapshot")" ] || exit 0; sleep 0.1; done; exit 1';

    test.each([
      ['while it dumps', 'until pgrep -f "^pg_dump .*--snapshot"; do sleep 0.02; done'],
      ['while it proves', 'until [ -n "$(docker ps -q --filter label=slipway.scratch)" ]; do sleep 0.02; done'],
    ])('%s leaves no half backup, and the next run tidies up', async (_, reached) => {
      const before = await complete();
      const run = await backUp(
        { what: 'postgres: db/app', lease: '10', 'collapse-threshold': '100%' },
        {
          loseAfter: async () => {
            await onServer(reached);
          },
        },
      );
      expect(run.outcome).toBe('lost');
      expect(await complete()).toBe(before);
      await onServer(gone);
      const next = await must({ what: 'redis: cache' });
      expect(next.log).toContain('Removed what an interrupted run had left');
      expect(await listing()).not.toContain('.partial');
    });

    test('by a cancel, it tidies up itself', async () => {
      const before = await listing();
      const run = await backUp(
        { what: 'postgres: db/app', 'collapse-threshold': '100%' },
        {
          cancelAfter: untilDumping,
        },
      );
      expect(run.outcome).toBe('cancelled');
      await onServer(gone);
      expect(await listing()).toBe(before);
    });

    test('a rollback does not wait for it', async () => {
      await checkout.write({ 'compose.yaml': DATA_PROJECT.replace('"infinity"', '"infinity","1d"') });
      await mustDeploy(checkout, { env: `PASSWORD=${PASSWORD}` });
      // So that it is not over before the rollback has looked.
      await onServer(
        `docker exec -d ${containerOf('db')} psql -XAtq -U postgres -d app -c 'BEGIN; LOCK TABLE big IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(40)'; sleep 1`,
      );
      const backup = backUp({ what: 'postgres: db/app', 'collapse-threshold': '100%' });
      await untilDumping();
      const rolledBack = await rollBack();
      const run = await backup;
      expect(rolledBack.outputs['result']).toBe('rolled-back');
      expect(run.outcome).toBe('failure');
      expect(errorsOf(run).join('\n')).toContain('Another session has taken over: rollback');
      await onServer(gone);
      expect(await listing()).not.toContain('.partial');
    });
  });

  test('a password that is wrong is said', async () => {
    await redis('CONFIG', 'SET', 'requirepass', 'other');
    const run = await backUp({ what: 'redis: cache' });
    expect(run.outcome).toBe('failure');
    expect(errorsOf(run).join('\n')).toContain('Redis wants another password');
    await onServer(`docker exec ${containerOf('cache')} redis-cli -a other CONFIG SET requirepass ''`);
  });

  test('a full disk leaves nothing', async () => {
    const before = await listing();
    await query(
      'CREATE TABLE noise AS SELECT i, md5(random()::text) || md5(random()::text) AS x FROM generate_series(1, 200000) i',
    );
    await fillDisk('2M');
    const run = await backUp({ what: 'postgres: db/app', 'collapse-threshold': '100%' });
    await unfillDisk();
    expect(run.outcome).toBe('failure');
    expect(errorsOf(run).join('\n')).toMatch(/free/);
    expect(await listing()).toBe(before);
    await query('DROP TABLE noise');
  });
});
