/** The commands of backups with real servers in real containers: what is dumped comes back, and who is killed leaves nothing running. */
import { jest } from '@jest/globals';
import {
  compareTables,
  parseDatabases,
  parseDumpedDatabase,
  parseCounts,
  parseDumpedRoles,
  parseProof,
  parseRestoredRoles,
  parseSwapped,
  parseTables,
} from '../../shared/src/backups/postgres';
import { parseDumpedRedis, parseProvenRedis, parseRestoredRedis } from '../../shared/src/backups/redis';
import {
  countTables,
  dropKept,
  dropUnfinished,
  dumpDatabase,
  dumpRoles,
  listDatabases,
  nameFresh,
  nameKept,
  proveDump,
  restoreBeside,
  restoreRoles,
  startClient,
  swapBack,
  swapDatabases,
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
    'setsid runuser -u deploy -- env HOME=/home/deploy sh -c "cd && exec $1" </tmp/killed.in >/tmp/killed.log 2>&1 & pid=$!';
  const wait = `n=0; until ${ready}; do sleep 0.05; n=$((n + 1)); [ $n -lt 600 ] || { cat /tmp/killed.log; exit 99; }; done`;
  return tryOnServer(
    `cat >/tmp/killed.in; ${started}; ${wait}; sleep 0.2; inner=$(pgrep -P $pid); kill -s ${signal} ${whom}; wait $pid`,
    [renderCommand(command)],
    command.stdin instanceof Secret ? command.stdin.reveal() : '',
  );
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
  const stored = (name: string, database = 'shop "db"') => ({
    database,
    file: `${HOME}/${name}`,
    tables: `${HOME}/${name}.tables`,
  });
  const SWAP = (id: string, database = 'shop "db"') => ({
    database,
    fresh: nameFresh(database, id),
    kept: nameKept(database, id),
  });
  const ours = async (): Promise<string> =>
    query(
      "SELECT coalesce(string_agg(datname, ',' ORDER BY datname), 'none') FROM pg_database WHERE datname ~ '^slipway-(new|kept)-'",
      'template1',
    );

  beforeAll(async () => {
    // As the image's own user, so that the server is process 1, as it is in the official image.
    await onServer(
      `docker run -d --name pg --user postgres -e POSTGRES_USER=owner -e POSTGRES_PASSWORD=secret postgres:15 postgres -c max_prepared_transactions=5 >/dev/null
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

    const swap = SWAP('20261122T010000Z');
    const { fresh, kept } = swap;
    const counted = await query('SELECT count(*) FROM busy');
    // A session that comes back as soon as it is ended.
    await onServer(
      `setsid sh -c 'while :; do docker exec -e "PGDATABASE=shop \\"db\\"" pg psql -XAtq -U owner -c "SELECT pg_sleep(60)"; done' >/dev/null 2>&1 & echo $! >/tmp/stay.pid; sleep 1`,
    );
    const restored = parseProof(await run(restoreBeside(target, stored('one'), fresh)), 'restored');
    expect(await query('SELECT count(*) FROM busy')).toBe(counted);
    expect(parseSwapped(await run(swapDatabases(target, [swap])))).toBeLessThan(30);
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
    expect(await tryRun(swapDatabases(target, [swap]))).toMatchObject({ code: 66 });
    await query(`CREATE DATABASE "${fresh.replaceAll('"', '""')}"`, 'owner');
    expect(await tryRun(swapDatabases(target, [swap]))).toMatchObject({
      code: 75,
      stderr: expect.stringContaining('from an earlier restore') as string,
    });
    await run(dropUnfinished(target));
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
    const restore = await tryRun(restoreBeside(target, stored('two'), 'slipway-new-1'));
    expect(restore).toMatchObject({ code: 65, stderr: expect.stringContaining('not put into service') as string });
    await asDeploy(`cd ${HOME} && cp one.tables cut.tables && head -c 30000 one >cut`);
    expect(await tryRun(proveDump(target, stored('cut'), `${HOME}/roles`, SCRATCH))).toMatchObject({ code: 65 });
    expect(await tryRun(restoreBeside(target, stored('cut'), 'slipway-new-1'))).toMatchObject({ code: 65 });
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
    // A server notices within 2 s that a client is gone.
    const clients =
      "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
    for (let n = 0; n < 20 && (await query(clients)) !== '0\n'; n++) await new Promise((go) => setTimeout(go, 250));
    expect(await query(clients)).toBe('0\n');
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
      const restore = restoreBeside(target, stored('one'), 'slipway-new-1');
      expect((await killWhen(restore, restoring, signal, '$inner')).code).toBeGreaterThan(128);
      expect(Number(await query('SELECT count(*) FROM big'))).toBe(400_000);
      if (signal === 'TERM') await nobody();
      else await onServer(`n=0; until ${QUIET} || [ $n -gt 300 ]; do sleep 0.1; n=$((n + 1)); done`);
      // The next one clears up.
      await run(proveDump(target, stored('one'), `${HOME}/roles`, SCRATCH));
      expect(await containers()).toBe('pg\n');
      if (signal === 'KILL') {
        expect(await query("SELECT count(*) FROM pg_database WHERE datname LIKE 'slipway%'")).toBe('1\n');
        await run(restore);
        await run(dropUnfinished(target));
      }
      expect(await query("SELECT count(*) FROM pg_database WHERE datname LIKE 'slipway%'")).toBe('0\n');
    },
  );

  /** Writes to both databases, again and again, for as long as they let it; each session ends with its database's name. */
  const writers = async (): Promise<void> => {
    await onServer(
      `cat >/tmp/both.sh <<'END'
for database in 'shop "db"' "it's
2"; do
  while :; do
    { while :; do echo 'INSERT INTO busy VALUES (-1);'; sleep 0.02; done; } | docker exec -i -e "PGDATABASE=$database" pg psql -Xq -U owner -v ON_ERROR_STOP=1
    sleep 0.1
  done &
done
wait
END
setsid sh /tmp/both.sh >/dev/null 2>&1 & echo $! >/tmp/both.pid; sleep 1`,
    );
  };
  const quiet = async (): Promise<void> => {
    await onServer('kill -- -$(cat /tmp/both.pid)');
    await onServer(
      `n=0; until ${QUIET}; do sleep 0.1; n=$((n + 1)); [ $n -lt 100 ] || { docker top pg -o pid,args; exit 1; }; done`,
    );
  };
  const OTHER = "it's\n2";
  const both = [SWAP('id-1'), SWAP('id-1', OTHER)];
  const later = async (database: string): Promise<number> =>
    Number(await query('SELECT count(*) FROM busy WHERE n = -1', database));

  describe('two databases', () => {
    beforeAll(async () => {
      await query(
        `CREATE DATABASE "${OTHER}" OWNER "app ""user" ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0`,
        'owner',
      );
      await query(`CREATE TABLE busy (n int); INSERT INTO busy VALUES (1)`, OTHER);
      await run(dumpDatabase(target, 'shop "db"', `${HOME}/first`));
      await run(dumpDatabase(target, OTHER, `${HOME}/second`));
    });
    beforeEach(async () => {
      await run(restoreBeside(target, stored('first'), both[0]?.fresh ?? ''));
      await run(restoreBeside(target, stored('second', OTHER), both[1]?.fresh ?? ''));
      await writers();
    });
    afterEach(quiet);

    const keptOnes = both.map(({ kept }) => kept);
    const oldInService = async (): Promise<void> => {
      expect(await ours()).toBe('none\n');
      expect(await later('shop "db"')).toBeGreaterThan(0);
      expect(await later(OTHER)).toBeGreaterThan(0);
    };
    /** The restored ones that were in service: nobody's writes are thrown away. */
    const were = (): Promise<string> =>
      query("SELECT count(*) FROM pg_database WHERE starts_with(datname, 'slipway-was-')", 'template1');
    afterEach(() =>
      query(
        "SELECT format('DROP DATABASE %I WITH (FORCE)', datname) FROM pg_database WHERE starts_with(datname, 'slipway-was-') \\gexec",
        'template1',
      ),
    );

    test('go live at once under writes, and come back', async () => {
      const began = Date.now();
      const { code, stderr, stdout } = await tryRun(swapDatabases(target, both));
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
      console.log(`two databases swapped in ${Date.now() - began} ms: ${stdout}`);
      const inKept = await Promise.all(keptOnes.map(later));
      expect(inKept.every((rows) => rows > 0)).toBe(true);
      await new Promise((go) => setTimeout(go, 1500));
      expect(await Promise.all(keptOnes.map(later))).toEqual(inKept);
      // The clients are back, in the restored ones.
      expect(await later('shop "db"')).toBeGreaterThan(0);
      expect(
        await query(
          `SELECT pg_encoding_to_char(encoding), pg_get_userbyid(datdba) FROM pg_database WHERE datname = '${OTHER.replace("'", "''")}'`,
        ),
      ).toBe('LATIN1|app "user\n');
      await run(swapBack(target, both));
      expect(await later('shop "db"')).toBeGreaterThanOrEqual(inKept[0] ?? Infinity);
      await oldInService();
      expect(await were()).toBe('2\n');
      await run(swapBack(target, both));
      await oldInService();
      expect(await were()).toBe('2\n');
    });

    test('both stay when the second cannot be swapped', async () => {
      // A prepared transaction holds on to a database without a session.
      await query(`CREATE TABLE held (n int); BEGIN; INSERT INTO held VALUES (1); PREPARE TRANSACTION 'held'`, OTHER);
      expect(await tryRun(swapDatabases(target, both))).toMatchObject({
        code: 75,
        stdout: '',
        stderr: expect.stringMatching(/being accessed by other users[^]*old data is in service/) as string,
      });
      await query(`COMMIT PREPARED 'held'; DROP TABLE held`, OTHER);
      expect(await later(keptOnes[0] ?? '').catch(() => 'none')).toBe('none');
      await run(swapBack(target, both));
      await oldInService();
    });

    test.each([
      ['the script', '$inner'],
      ['all of its processes', '-- -$pid'],
      ["docker's client", '$(pgrep -f "docker [e]xec pg sh .*slipway-swap" | head -n 1)'],
    ])('killed in the swap (%s), the old ones come back', async (what, whom) => {
      // Long enough to be met: somebody else holds the lock on a restored database.
      await onServer(
        'printf "%s\\n" "$1" >/tmp/hold.sql; (docker exec -i pg psql -Xq -U owner -d template1 </tmp/hold.sql >/dev/null 2>&1) & sleep 0.5',
        [`BEGIN; COMMENT ON DATABASE "${both[1]?.fresh ?? ''}" IS NULL; SELECT pg_sleep(2); COMMIT;`],
      );
      const renaming = `docker exec pg psql -XAt -U owner -d owner -c "SELECT 1 FROM pg_stat_activity WHERE application_name = 'slipway-swap'" | grep -q 1`;
      const killed = await killWhen(swapDatabases(target, both), renaming, 'KILL', whom);
      if (what === "docker's client") {
        // The script finds out what has become of it.
        expect(killed.code).toBe(0);
        expect((await Promise.all(keptOnes.map(later))).every((rows) => rows > 0)).toBe(true);
      } else expect(killed.code).toBeGreaterThan(128);
      await run(swapBack(target, both));
      await oldInService();
      await new Promise((go) => setTimeout(go, 2500));
      await oldInService();
    });
  });

  test('a dump whose rows cannot come back: the table is named, and no row', async () => {
    await query('CREATE DATABASE quoted', 'owner');
    // As its other table is filled later, the rows of the first one are refused; and PostgreSQL says which.
    await query(
      `CREATE TABLE z (secret text);
INSERT INTO z VALUES ('hunter2
hunter2');
CREATE FUNCTION known(text) RETURNS boolean LANGUAGE sql AS 'SELECT EXISTS (SELECT FROM public.z WHERE secret = $1)';
CREATE TABLE a (secret text CHECK (known(secret)));
INSERT INTO a SELECT secret FROM z`,
      'quoted',
    );
    await run(dumpDatabase(target, 'quoted', `${HOME}/quoted`));
    const dump = stored('quoted', 'quoted');
    for (const command of [
      proveDump(target, dump, `${HOME}/roles`, SCRATCH),
      restoreBeside(target, dump, 'slipway-new-quoted'),
    ]) {
      const { code, stdout, stderr } = await tryRun(command);
      expect(code).toBe(65);
      expect(stderr).toContain('COPY failed for table "a": ERROR:  new row for relation "a" violates check constraint');
      expect(stdout + stderr).not.toContain('hunter2');
    }
    await query('DROP DATABASE quoted', 'owner');
  });

  test('the tables are counted as they are now', async () => {
    const counts = parseCounts(await run(countTables(target, 'shop "db"')));
    expect(counts.get('public.big')).toBe(400_000);
    expect(counts.get(`public.it's "bad"\n table ☃; DROP TABLE t`)).toBe(2);
    expect(await tryRun(countTables(target, 'gone'))).toMatchObject({ code: 66, stdout: '' });
  });

  test('a server that is reached over the network, from a container with the client programs', async () => {
    await onServer('docker network create remote >/dev/null; docker network connect remote pg');
    const client = { ...SCRATCH, name: 'client-shop' };
    await run(startClient('postgres:15', client, 'remote'));
    const remote = {
      container: 'client-shop',
      user: 'owner',
      remote: { host: 'pg', port: 5432, password: new Secret('secret'), sslmode: 'prefer' },
    };
    expect(parseDatabases(await run(listDatabases(remote))).databases.map(({ name }) => name)).toContain('shop "db"');
    await run(dumpDatabase(remote, 'shop "db"', `${HOME}/remote`));
    await run(dumpRoles(remote, `${HOME}/remote-roles`));
    parseProof(await run(proveDump(remote, stored('remote'), `${HOME}/remote-roles`, SCRATCH)), 'proof');
    const swap = SWAP('remote');
    await run(restoreBeside(remote, stored('remote'), swap.fresh));
    await run(swapDatabases(remote, [swap]));
    await run(swapBack(remote, [swap]));
    expect(await ours()).toBe('none\n');
    const wrong = { ...remote, remote: { ...remote.remote, password: new Secret('wr0ng-password') } };
    const failed = await tryRun(dumpDatabase(wrong, 'shop "db"', `${HOME}/remote-2`));
    expect(failed).toMatchObject({
      code: 69,
      stderr: expect.stringContaining('password authentication failed') as string,
    });
    expect(failed.stderr).not.toContain('wr0ng');
    const killed = await killWhen(
      dumpDatabase(remote, 'shop "db"', `${HOME}/remote-3`),
      `docker top client-shop -o pid,args | grep -q 'pg_dump -w -Fc --snapshot='`,
      'TERM',
      '$inner',
    );
    expect(killed.code).toBeGreaterThan(128);
    expect(await onServer(`docker top client-shop -o args | grep -cE 'psql|pg_dump' || true`)).toBe('0\n');
    expect(await onServer(`docker inspect client-shop; docker top client-shop -eo args; ls ${HOME}`)).not.toContain(
      'secret',
    );
    await onServer(
      'docker rm -f client-shop >/dev/null; docker network disconnect remote pg; docker network rm remote >/dev/null',
    );
  });

  test('an empty server gets its roles and databases back as they were', async () => {
    const names = ['line\nbreak', `it's "x"; DROP ROLE owner; --`, 'sp ace', '\\q', 'to', 'Ünï ☃'];
    const quote = (name: string): string => `"${name.replaceAll('"', '""')}"`;
    await query(
      `${names.map((name, n) => `CREATE ROLE ${quote(name)} LOGIN PASSWORD 'p''w"${n}' CONNECTION LIMIT ${n + 1} VALID UNTIL '2030-01-01'; ALTER ROLE ${quote(name)} SET work_mem = '${n + 5}MB'; COMMENT ON ROLE ${quote(name)} IS 'it''s; ${n}';`).join('\n')}
CREATE ROLE "group";
${names.map((name) => `GRANT "group" TO ${quote(name)} WITH ADMIN OPTION;`).join('\n')}
GRANT "group" TO owner;
GRANT SET ON PARAMETER log_statement TO "to";
ALTER DATABASE "shop ""db""" OWNER TO ${quote(names[1] ?? '')};
GRANT CREATE ON DATABASE "shop ""db""" TO "group" WITH GRANT OPTION;
ALTER DATABASE "shop ""db""" CONNECTION LIMIT 77;
ALTER DATABASE "shop ""db""" SET application_name = 'it''s
\\connect; "x';
ALTER ROLE ${quote(names[0] ?? '')} IN DATABASE "shop ""db""" SET work_mem = '9MB';
COMMENT ON DATABASE "shop ""db""" IS 'a; comment''s
\\! touch /tmp/pwned';
ALTER DATABASE owner SET work_mem = '6MB';
GRANT TEMPORARY ON DATABASE owner TO "group";
REVOKE CONNECT ON DATABASE owner FROM PUBLIC;`,
      'template1',
    );
    await query('CREATE TABLE of_owner (n int); INSERT INTO of_owner VALUES (1), (2)', 'owner');
    await query(
      `CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0 OWNER "group"`,
      'template1',
    );
    const picture = async (): Promise<string[]> =>
      [
        await query(
          `SELECT json_build_array(r.rolname, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication, rolbypassrls, rolconnlimit, rolpassword, rolvaliduntil, shobj_description(r.oid, 'pg_authid'), (SELECT setconfig FROM pg_db_role_setting WHERE setdatabase = 0 AND setrole = r.oid), (SELECT array_agg(m.rolname || admin_option ORDER BY m.rolname) FROM pg_auth_members JOIN pg_authid m ON m.oid = member WHERE roleid = r.oid)) FROM pg_authid r WHERE rolname <> 'owner' AND rolname !~ '^pg_'`,
          'template1',
        ),
        await query(
          `SELECT json_build_array(datname, pg_get_userbyid(datdba), pg_encoding_to_char(encoding), datcollate, datctype, datconnlimit, shobj_description(d.oid, 'pg_database'), (SELECT array_agg(a::text ORDER BY a::text) FROM (SELECT pg_get_userbyid(grantor), CASE grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(grantee) END, privilege_type, is_grantable FROM aclexplode(datacl)) a), (SELECT array_agg((CASE setrole WHEN 0 THEN '' ELSE pg_get_userbyid(setrole) END) || setconfig::text ORDER BY setrole <> 0, pg_get_userbyid(setrole)) FROM pg_db_role_setting WHERE setdatabase = d.oid)) FROM pg_database d WHERE datname IN ('shop "db"', 'owner', 'latin')`,
          'template1',
        ),
        await query(`SELECT parname, paracl FROM pg_parameter_acl`, 'template1'),
      ].flatMap((text) => text.split('\n').sort());
    const before = await picture();
    const dumps = [
      ['shop "db"', 'd1'],
      ['owner', 'd2'],
      ['latin', 'd3'],
    ] as const;
    for (const [database, name] of dumps) await run(dumpDatabase(target, database, `${HOME}/${name}`));
    await run(dumpRoles(target, `${HOME}/all-roles`));
    await onServer(
      `docker rm -fv pg >/dev/null
docker run -d --name pg --user postgres -e POSTGRES_USER=owner -e POSTGRES_PASSWORD=other postgres:15 >/dev/null
until docker exec pg pg_isready -q -h 127.0.0.1; do sleep 0.2; done`,
    );
    const missing = await tryRun(restoreBeside(target, stored('d1'), 'slipway-new-1'));
    expect(missing.code).toBe(65);
    expect(await ours()).toBe('none\n');
    await query(`CREATE ROLE "sp ace" PASSWORD 'kept as it is'; CREATE ROLE stays SUPERUSER`, 'owner');
    const password = await query(
      `SELECT rolpassword FROM pg_authid WHERE rolname IN ('sp ace', 'owner') ORDER BY rolname`,
      'owner',
    );
    const created = parseRestoredRoles(await run(restoreRoles(target, `${HOME}/all-roles`)));
    expect([...created].sort()).toEqual([...names.filter((name) => name !== 'sp ace'), 'group', 'app "user'].sort());
    expect(
      await query(`SELECT rolpassword FROM pg_authid WHERE rolname IN ('sp ace', 'owner') ORDER BY rolname`, 'owner'),
    ).toBe(password);
    expect(await query(`SELECT rolcanlogin, rolconnlimit FROM pg_authid WHERE rolname = 'sp ace'`, 'owner')).toBe(
      'f|-1\n',
    );
    expect(parseRestoredRoles(await run(restoreRoles(target, `${HOME}/all-roles`)))).toEqual([]);
    expect(await onServer('docker logs pg 2>&1 | grep -c SCRAM || true')).toBe('0\n');
    // As it was, but for the two that were there.
    await query('DROP ROLE stays; DROP ROLE "sp ace"', 'owner');
    expect(parseRestoredRoles(await run(restoreRoles(target, `${HOME}/all-roles`)))).toEqual(['sp ace']);
    const swaps = dumps.map(([database]) => SWAP('new-1', database));
    for (const [n, [database, name]] of dumps.entries())
      await run(restoreBeside(target, stored(name, database), swaps[n]?.fresh ?? ''));
    expect(await query('SELECT count(*) FROM pg_class WHERE oid >= 16384', 'owner')).toBe('0\n');
    await run(swapDatabases(target, swaps));
    await run(dropKept(target, swaps[1]?.kept ?? ''));
    expect(await picture()).toEqual(before);
    expect(await query('SELECT count(*) FROM of_owner', 'owner')).toBe('2\n');
    expect(Number(await query('SELECT count(*) FROM big'))).toBe(400_000);
    expect(await ours()).toBe('none\n');
    expect(await query("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'pg_temp%'", 'template1')).toBe('0\n');
    expect(await onServer(`ls /tmp; docker exec pg ls /tmp`)).not.toMatch(/^pwned$/m);
    // No file with the hashes of passwords either.
    expect(await onServer(`ls ${HOME} | grep -E '^(all-roles|remote|d[123])'`)).not.toMatch(/\.\w{6}$(?<!\.tables)/m);
  });
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
    // Also of SIGKILL somebody hears, and puts the old data back.
    await onServer(
      'n=0; while pgrep -u deploy -f slipway >/dev/null; do sleep 0.1; n=$((n + 1)); [ $n -lt 300 ] || { pgrep -u deploy -af slipway; exit 1; }; done',
    );
    await onServer('sleep 1');
    expect(await cli('DBSIZE')).toBe(size);
    expect(await onServer('docker exec rd ls -A /data')).not.toContain('slipway');
    expect(await containers()).toMatch(/^(pg\n)?rd\n$/);
  });
});
