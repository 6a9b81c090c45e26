/** The commands of backups with real servers in real containers: what is dumped comes back, and who is killed leaves nothing running. */
import { jest } from '@jest/globals';
import {
  compareTables,
  parseDatabases,
  parseDumpedDatabase,
  parseDumpedRoles,
  parseProof,
  parseTables,
} from '../../shared/src/backups/postgres';
import { parseDumpedRedis, parseProvenRedis, parseRestoredRedis } from '../../shared/src/backups/redis';
import {
  dropKept,
  dumpDatabase,
  dumpRoles,
  listDatabases,
  nameKept,
  proveDump,
  restoreDatabase,
} from '../../shared/src/commands/postgres';
import { dropKeptRedis, dumpRedis, proveRedis, putBackRedis, restoreRedis } from '../../shared/src/commands/redis';
import type { Command } from '../../shared/src/model/command';
import { Secret } from '../../shared/src/model/secret';
import { renderCommand } from '../../shared/src/shell/render';
import { asDeploy, type Executed, freshServer, onServer, tryOnServer } from './sandbox.ts';

jest.setTimeout(240_000);

/** As the login that deploys. Whatever the exit code. */
async function tryRun(command: Command): Promise<Executed> {
  const input = command.stdin instanceof Secret ? command.stdin.reveal() : '';
  return tryOnServer(
    'exec runuser -u deploy -- env HOME=/home/deploy sh -c "$1"',
    [`cd && ${renderCommand(command)}`],
    input,
  );
}

async function run(command: Command): Promise<string> {
  const done = await tryRun(command);
  if (done.code !== 0) throw new Error(`exit code ${done.code}\n${done.stdout}${done.stderr}`);
  return done.stdout;
}

const HOME = '/home/deploy/backups';
const SCRATCH = { name: 'scratch-shop', project: 'shop', memoryMegabytes: 512, startSeconds: 60 };
const containers = async (): Promise<string> => onServer("docker ps -a --format '{{.Names}}' | sort");
const volumes = async (): Promise<string> => onServer('docker volume ls -q | sort');
const files = async (): Promise<string> => onServer(`ls -A ${HOME}`);

/** Starts a command, sends a signal when something is so, and says what the exit code was. */
async function killWhen(command: Command, ready: string, signal: string, whom = '$pid'): Promise<Executed> {
  const started =
    'setsid runuser -u deploy -- env HOME=/home/deploy sh -c "cd && exec $1" >/tmp/killed.log 2>&1 & pid=$!';
  const wait = `n=0; until ${ready}; do sleep 0.05; n=$((n + 1)); [ $n -lt 600 ] || { cat /tmp/killed.log; exit 99; }; done`;
  return tryOnServer(`${started}; ${wait}; sleep 0.2; inner=$(pgrep -P $pid); kill -s ${signal} ${whom}; wait $pid`, [
    renderCommand(command),
  ]);
}

beforeAll(async () => {
  await freshServer();
  await asDeploy(`mkdir -p ${HOME}`);
});

describe('PostgreSQL', () => {
  const target = { container: 'pg' };
  const query = async (sql: string, database = 'shop "db"'): Promise<string> =>
    onServer('printf "%s\n" "$1" | docker exec -i -e PGDATABASE="$2" pg psql -XAtq -U owner -v ON_ERROR_STOP=1', [
      sql,
      database,
    ]);
  const stored = (name: string) => ({
    database: 'shop "db"',
    file: `${HOME}/${name}`,
    tables: `${HOME}/${name}.tables`,
  });

  beforeAll(async () => {
    // As the image's own user, so that the server is process 1, as it is in the official image.
    await onServer(
      `docker run -d --name pg --user postgres -e POSTGRES_USER=owner -e POSTGRES_PASSWORD=secret postgres:15 >/dev/null
until docker exec pg pg_isready -q -h 127.0.0.1; do sleep 0.2; done`,
    );
    await query('CREATE DATABASE "shop ""db"""', 'owner');
    await query(`CREATE EXTENSION pg_trgm;
CREATE TABLE t (t int, "T" text);
INSERT INTO t SELECT i, repeat('x', i % 50) FROM generate_series(1, 5000) i;
CREATE TABLE "it's ""bad""
 table ☃; DROP TABLE t" ("col ' ""
x" text, b bytea, f float8, at timestamptz, m money, j jsonb, r regclass);
INSERT INTO "it's ""bad""
 table ☃; DROP TABLE t" VALUES ('a''b', '\\x00ff', 0.1::float8 + 0.2, now(), 12.5, '{"a": 1}', 't'), (NULL, NULL, 'NaN', NULL, NULL, NULL, NULL);
CREATE SCHEMA "we ird";
CREATE TABLE "we ird".nothing ();
INSERT INTO "we ird".nothing DEFAULT VALUES;
CREATE TABLE part (id int, k int) PARTITION BY LIST (k);
CREATE TABLE part1 PARTITION OF part FOR VALUES IN (1);
INSERT INTO part SELECT i, 1 FROM generate_series(1, 100) i;
CREATE TABLE parent (a int);
CREATE TABLE child (z int) INHERITS (parent);
ALTER TABLE parent ADD COLUMN b int;
INSERT INTO child VALUES (1, 2, 3);
CREATE MATERIALIZED VIEW stale AS SELECT count(*) FROM t;
INSERT INTO t VALUES (0, 'later');
SELECT lo_from_bytea(0, convert_to(repeat('large object ', 200000), 'UTF8'));
CREATE ROLE "app ""user" LOGIN PASSWORD 'very-secret';
GRANT SELECT ON t TO "app ""user";
ALTER DATABASE "shop ""db""" SET search_path = "$user", public, "we ird";
ALTER ROLE "app ""user" IN DATABASE "shop ""db""" SET work_mem = '8MB';
REVOKE CONNECT ON DATABASE "shop ""db""" FROM PUBLIC;
GRANT CONNECT ON DATABASE "shop ""db""" TO "app ""user";
CREATE TABLE busy (n int);
CREATE TABLE big AS SELECT i, repeat(md5(i::text), 8) AS x FROM generate_series(1, 400000) i;`);
  });

  test('the databases are listed, with their sizes', async () => {
    const found = parseDatabases(await run(listDatabases(target)));
    expect(found).toMatchObject({ user: 'owner', superuser: true });
    expect(found.serverVersion).toBeGreaterThan(150000);
    expect(found.databases.map(({ name }) => name)).toEqual(['owner', 'postgres', 'shop "db"']);
    expect(found.databases.every(({ bytes }) => bytes > 1_000_000)).toBe(true);
  });

  test('dumped under writes, proven without a trace, and put into service with the old one kept', async () => {
    await onServer(
      `cat >/tmp/write.sh <<'END'
while :; do echo 'INSERT INTO busy SELECT generate_series(1, 10);'; echo 'UPDATE t SET "T" = md5(random()::text) WHERE t % 500 = 1;'; sleep 0.01; done |
  docker exec -i -e 'PGDATABASE=shop "db"' pg psql -Xq -U owner
END
setsid sh /tmp/write.sh >/dev/null 2>&1 & echo $! >/tmp/write.pid; sleep 1`,
    );
    const dumped = parseDumpedDatabase(await run(dumpDatabase(target, 'shop "db"', `${HOME}/one`)));
    await onServer('kill -- -$(cat /tmp/write.pid)');
    await new Promise((resolve) => setTimeout(resolve, 1000));
    const busy = dumped.tables.find(({ name }) => name === 'busy');
    expect(busy?.rows).toBeGreaterThan(0);
    expect(Number(await query('SELECT count(*) FROM busy'))).toBeGreaterThan(busy?.rows ?? Infinity);
    expect(dumped.database).toBe('shop "db"');
    expect(dumped.tables.map(({ name }) => name)).toContain(`it's "bad"\n table ☃; DROP TABLE t`);
    expect(dumped.tables.at(-1)).toMatchObject({ kind: 'largeObjects', rows: 1 });
    const roles = parseDumpedRoles(await run(dumpRoles(target, `${HOME}/roles`)));
    expect(roles.bytes).toBeGreaterThan(300);

    const before = [await containers(), await volumes(), await files()];
    const proof = parseProof(await run(proveDump(target, stored('one'), `${HOME}/roles`, SCRATCH)), 'proof');
    expect(compareTables(dumped.tables, proof.tables)).toEqual([]);
    expect([await containers(), await volumes(), await files()]).toEqual(before);

    const kept = nameKept('shop "db"', '20261122T010000Z');
    const counted = await query('SELECT count(*) FROM busy');
    // A session that comes back as soon as it is ended.
    await onServer(
      `setsid sh -c 'while :; do docker exec -e "PGDATABASE=shop \\"db\\"" pg psql -XAtq -U owner -c "SELECT pg_sleep(60)"; done' >/dev/null 2>&1 & echo $! >/tmp/stay.pid; sleep 1`,
    );
    const restored = parseProof(await run(restoreDatabase(target, stored('one'), 'slipway-new-1', kept)), 'restored');
    await onServer('kill -- -$(cat /tmp/stay.pid)');
    await query(
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)' AND pid <> pg_backend_pid()",
    );
    expect(compareTables(dumped.tables, restored.tables)).toEqual([]);
    expect(await query('SELECT count(*) FROM busy')).toBe(`${busy?.rows ?? 0}\n`);
    expect(await query('SELECT count(*) FROM busy', kept)).toBe(counted);
    expect(await query('SHOW search_path')).toBe('"$user", public, "we ird"\n');
    const settings = (name: string) =>
      query(
        `SELECT d.datacl, array(SELECT concat(s.setrole, s.setconfig) FROM pg_db_role_setting s WHERE s.setdatabase = d.oid) FROM pg_database d WHERE datname = '${name}'`,
      );
    const sorted = (text: string) => text.split(/[{},|]/).sort();
    expect(sorted(await settings('shop "db"'))).toEqual(sorted(await settings(kept)));
    const again = await tryRun(restoreDatabase(target, stored('one'), 'slipway-new-1', kept));
    expect(again).toMatchObject({ code: 75, stderr: expect.stringContaining('from an earlier restore') as string });
    await run(dropKept(target, kept));
    expect(parseDatabases(await run(listDatabases(target))).databases.map(({ name }) => name)).toEqual([
      'owner',
      'postgres',
      'shop "db"',
    ]);
  });

  test('a backup that is not what was dumped is found out, in the proof and in the restore', async () => {
    await asDeploy(
      `cd ${HOME} && cp one two && sed 's/"name" : "part1", "rows" : 100/"name" : "part1", "rows" : 101/' one.tables >two.tables`,
    );
    const proof = await tryRun(proveDump(target, stored('two'), `${HOME}/roles`, SCRATCH));
    expect(proof).toMatchObject({ code: 65, stderr: expect.stringMatching(/> .*"part1", "rows" : 100/) as string });
    expect(
      compareTables(parseTables(await onServer(`cat ${HOME}/two.tables`)), parseTables(proof.stdout)),
    ).toMatchObject([{ name: 'part1', expected: { rows: 101 }, restored: { rows: 100 } }]);
    const restore = await tryRun(restoreDatabase(target, stored('two'), 'slipway-new-1', 'slipway-kept-1-shop'));
    expect(restore).toMatchObject({ code: 65, stderr: expect.stringContaining('not put into service') as string });
    await asDeploy(`cd ${HOME} && cp one.tables cut.tables && head -c 30000 one >cut`);
    expect(await tryRun(proveDump(target, stored('cut'), `${HOME}/roles`, SCRATCH))).toMatchObject({ code: 65 });
    expect(await tryRun(restoreDatabase(target, stored('cut'), 'slipway-new-1', 'slipway-kept-1-shop'))).toMatchObject({
      code: 65,
    });
    expect(
      await query("SELECT string_agg(datname, ',' ORDER BY datname) FROM pg_database WHERE NOT datistemplate"),
    ).toBe('owner,postgres,shop "db"\n');
    expect(await containers()).toBe('pg\n');
  });

  const QUIET = `[ -z "$(docker top pg -o pid,args | grep -E 'psql|pg_dump|pg_restore')" ]`;
  const nobody = async (): Promise<void> => {
    await onServer(
      `n=0; until ${QUIET}; do sleep 0.1; n=$((n + 1)); [ $n -lt 100 ] || { docker top pg -o pid,args; exit 1; }; done`,
    );
    expect(
      await query('SELECT count(*) FROM pg_stat_activity WHERE datname IS NOT NULL AND pid <> pg_backend_pid()'),
    ).toBe('0\n');
  };

  test.each([
    ['TERM', '$inner'],
    ['KILL', '$inner'],
    ['TERM', '-- -$pid'],
    ['KILL', '-- -$pid'],
  ])('a dump that gets %s (%s) leaves no program in the container, and no dump', async (signal, whom) => {
    await onServer(`rm -rf ${HOME}/killed*`);
    const ready = `docker top pg -o pid,args | grep -q 'pg_dump -w -Fc --snapshot='`;
    const killed = await killWhen(dumpDatabase(target, 'shop "db"', `${HOME}/killed`), ready, signal, whom);
    expect(killed.code).toBeGreaterThan(128);
    await nobody();
    const left = await onServer(`ls -d ${HOME}/killed* 2>/dev/null || true`);
    expect(left).toMatch(signal === 'TERM' ? /^$/ : /^\/home\/deploy\/backups\/killed\.\w{6}\n$/);
    expect(await onServer('docker logs pg 2>&1 | grep -c "all server processes terminated" || true')).toBe('0\n');
  });

  test.each(['TERM', 'KILL'])(
    'a proof or a restore that gets %s leaves what is in service as it is',
    async (signal) => {
      const inScratch = 'docker exec scratch-shop sh -c "cat /proc/[0-9]*/cmdline" 2>/dev/null | grep -q exit-on-error';
      const proof = await killWhen(
        proveDump(target, stored('one'), `${HOME}/roles`, SCRATCH),
        inScratch,
        signal,
        '$inner',
      );
      expect(proof.code).toBeGreaterThan(128);
      if (signal === 'TERM') expect(await containers()).toBe('pg\n');
      const restoring = `docker top pg -o pid,args | grep -q 'pg_restore -w --exit-on-error'`;
      const restore = restoreDatabase(target, stored('one'), 'slipway-new-1', 'slipway-kept-1-shop');
      expect((await killWhen(restore, restoring, signal, '$inner')).code).toBeGreaterThan(128);
      expect(Number(await query('SELECT count(*) FROM big'))).toBe(400_000);
      if (signal === 'TERM') await nobody();
      else await onServer(`n=0; until ${QUIET} || [ $n -gt 300 ]; do sleep 0.1; n=$((n + 1)); done`);
      // The next one clears up.
      await run(proveDump(target, stored('one'), `${HOME}/roles`, SCRATCH));
      expect(await containers()).toBe('pg\n');
      if (signal === 'KILL') {
        await run(restore);
        await run(dropKept(target, 'slipway-kept-1-shop'));
      }
      expect(await query("SELECT count(*) FROM pg_database WHERE datname LIKE 'slipway%'")).toBe('0\n');
    },
  );
});

describe.each([
  ['with an append-only file', 'yes'],
  ['without', 'no'],
])('Redis %s', (_name, append) => {
  const target = { container: 'rd' };
  const PASSWORD = 'not in any argument';
  const cli = async (...words: string[]): Promise<string> =>
    onServer(
      'printf "%s\n" "$REDISCLI_AUTH" >/dev/null; docker exec rd sh -c \'export REDISCLI_AUTH="$REDIS_PASSWORD"; exec redis-cli "$@"\' sh "$@"',
      words,
    );
  const fill = async (): Promise<void> => {
    await onServer(
      `docker exec rd sh -c 'export REDISCLI_AUTH="$REDIS_PASSWORD"; i=0; while [ $i -lt 2000 ]; do echo "SET k$i v$i"; i=$((i + 1)); done | redis-cli >/dev/null; redis-cli -n 5 SET e 1 EX 1000; redis-cli SADD s 1 2 3' >/dev/null`,
    );
  };

  beforeAll(async () => {
    await onServer(
      `docker rm -fv rd >/dev/null 2>&1; docker volume rm rdata >/dev/null 2>&1; rm -f ${HOME}/redis*
docker run -d --name rd -v rdata:/data -e "REDIS_PASSWORD=$1" --read-only redis:7 redis-server --requirepass "$1" --appendonly ${append} >/dev/null
n=0; until docker exec rd redis-cli PING | grep -q NOAUTH; do sleep 0.1; n=$((n + 1)); [ $n -lt 100 ]; done`,
      [PASSWORD],
    );
    await fill();
  });

  test('dumped, proven, restored, put back and dropped', async () => {
    const dumped = parseDumpedRedis(await run(dumpRedis(target, `${HOME}/redis`)));
    expect(dumped).toMatchObject({
      keys: 2002,
      expires: 1,
      before: [
        { database: 0, keys: 2001, expires: 0 },
        { database: 5, keys: 1, expires: 1 },
      ],
    });
    const before = [await containers(), await volumes()];
    expect(parseProvenRedis(await run(proveRedis(target, `${HOME}/redis`, SCRATCH)))).toMatchObject({ keys: 2002 });
    expect([await containers(), await volumes()]).toEqual(before);
    await cli('FLUSHALL');
    await cli('SET', 'newer', '1');
    expect(parseRestoredRedis(await run(restoreRedis(target, `${HOME}/redis`, 'id-1', SCRATCH)))).toMatchObject({
      keys: 2002,
    });
    expect(await cli('GET', 'k77')).toBe('v77\n');
    expect(await cli('EXISTS', 'newer')).toBe('0\n');
    // What is written from now on must outlive a restart, with the files as they are now.
    await cli('SET', 'after', '1');
    await onServer('docker restart rd >/dev/null; sleep 1');
    expect(await cli('EXISTS', 'after', 'k77')).toBe('2\n');
    expect([await containers(), await volumes()]).toEqual(before);
    await run(putBackRedis('rd', 'id-1', SCRATCH));
    await onServer('sleep 1');
    expect(await cli('DBSIZE')).toBe('1\n');
    await cli('SET', 'more', '1');
    await run(restoreRedis(target, `${HOME}/redis`, 'id-2', SCRATCH));
    await run(dropKeptRedis('rd', 'id-2', SCRATCH));
    expect(await cli('DBSIZE')).toBe('2001\n');
    expect(await onServer('docker exec rd ls -A /data')).not.toContain('slipway');
  });

  test('the password can come in on standard input, and a wrong one is told', async () => {
    const other = { ...target, passwordVariable: 'OTHER' };
    expect(await tryRun(dumpRedis(other, `${HOME}/redis-2`))).toMatchObject({
      code: 77,
      stderr: expect.stringContaining('another password than the one that OTHER') as string,
    });
    expect(await tryRun(dumpRedis({ ...other, password: new Secret('wrong') }, `${HOME}/redis-2`))).toMatchObject({
      code: 77,
    });
    await run(dumpRedis({ ...other, password: new Secret(PASSWORD) }, `${HOME}/redis-2`));
    expect(await onServer(`ls ${HOME} | grep redis-2`)).toBe('redis-2\n');
  });

  test('a snapshot that is cut or changed is found out before anything is stopped', async () => {
    const started = await onServer("docker inspect --format '{{.State.StartedAt}}' rd");
    await asDeploy(
      `cd ${HOME} && head -c 9000 redis >redis-cut && { head -c 9000 redis; printf X; tail -c +9002 redis; } >redis-bad`,
    );
    for (const file of ['redis-cut', 'redis-bad']) {
      expect(await tryRun(proveRedis(target, `${HOME}/${file}`, SCRATCH))).toMatchObject({ code: 65 });
      expect(await tryRun(restoreRedis(target, `${HOME}/${file}`, 'id-3', SCRATCH))).toMatchObject({ code: 65 });
    }
    expect(await onServer("docker inspect --format '{{.State.StartedAt}}' rd")).toBe(started);
  });

  test.each(['TERM', 'KILL'])('a dump that gets %s leaves no program and no file in the container', async (signal) => {
    const ready = `docker top rd -o pid,args | grep -q -e --rdb`;
    const killed = await killWhen(dumpRedis(target, `${HOME}/redis-killed`), ready, signal, '$inner');
    expect(killed.code).toBeGreaterThan(128);
    await onServer(
      `n=0; while docker top rd -o pid,args | grep -q -e --rdb -e slipway; do sleep 0.1; n=$((n + 1)); [ $n -lt 100 ] || { docker top rd -o pid,args; exit 1; }; done`,
    );
    expect(await onServer('docker exec rd sh -c "ls -A /tmp /data /dev/shm"')).not.toContain('slipway');
    await onServer(`rm -rf ${HOME}/redis-killed*`);
  });

  test.each(['TERM', 'KILL'])('a restore that gets %s while Redis stands is put back', async (signal) => {
    const size = await cli('DBSIZE');
    // In brackets, so that it is not this question itself that is found.
    const ready = `pgrep -f 'docker [s]top rd' >/dev/null`;
    const killed = await killWhen(restoreRedis(target, `${HOME}/redis`, 'id-4', SCRATCH), ready, signal, '$inner');
    expect(killed.code).toBeGreaterThan(128);
    if (signal === 'KILL') {
      await onServer('sleep 2');
      await run(putBackRedis('rd', 'id-4', SCRATCH));
    }
    await onServer('sleep 1');
    expect(await cli('DBSIZE')).toBe(size);
    expect(await onServer('docker exec rd ls -A /data')).not.toContain('slipway');
    expect(await containers()).toBe('pg\nrd\n');
  });
});
