import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import fc from 'fast-check';
import {
  compareTables,
  compareVersions,
  parseCounts,
  parseDatabases,
  parseDumpedDatabase,
  parseDumpedRoles,
  parseProof,
  parseRestoredRoles,
  parseSwapped,
  parseTables,
} from '../../src/backups/postgres';
import { removeScratch } from '../../src/commands/backup-script';
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
  nameWas,
  swapBack,
  swapDatabases,
} from '../../src/commands/postgres';
import { Secret } from '../../src/model/secret';
import { HOSTILE, Machine, SHELLS } from '../shells';

const TABLE = (name: string, rows: number): string =>
  JSON.stringify({ kind: 'table', schema: 'public', name, rows, hash: '-12345678901234567890123' })
    .replaceAll(':', ' : ')
    .replaceAll(/,(?=")/g, ', ');
const TABLES = `${TABLE('a', 1)}\n${TABLE('b "quoted"', 2)}\n`;
const DATABASE = '{"kind" : "database", "name" : "shop", "serverVersion" : 150020}';

/** A word that a call of docker had, whatever is in it. */
const hasWord = (machine: Machine, word: string): boolean =>
  readFileSync(machine.path('docker.log'), 'utf8').includes(`<${word}>`);

interface Server {
  readonly running?: string;
  readonly version?: string;
  readonly snapshot?: string;
  /** What follows the snapshot. */
  readonly counts?: string;
  readonly holdCode?: number;
  readonly dumpCode?: number;
  readonly dump?: string;
  readonly checkCode?: number;
  readonly roles?: string;
  /** Commands before pg_dump's end. */
  readonly during?: string;
}

/** Stands in for docker and what runs in the container. */
function server(answers: Server = {}): string {
  const {
    running = 'true',
    version = '150020',
    snapshot = '00000003-0000001B-1',
    counts = `${DATABASE}\n${TABLES}counted`,
    holdCode = 0,
    dumpCode = 0,
    dump = 'PGDMP',
    checkCode = 0,
    roles = '--\n-- PostgreSQL database cluster dump complete\n--\n\n',
    during = '',
  } = answers;
  return `case "$1 $*" in
  inspect*) echo '${running}' ;;
  exec*pg_dumpall*) printf '%s' '${roles}' ;;
  exec*'pg_dump --version'*) echo 'pg_dump (PostgreSQL) 15.20' ;;
  exec*datistemplate*) echo '{"kind" : "server", "version" : 150020, "user" : "postgres", "superuser" : true}'; echo '{"kind" : "database", "name" : "it\\u0027s", "bytes" : 7}' ;;
  exec*pg_export_snapshot*)
    printf '%s\\n' '${snapshot}' '${counts}'
    read -r word
    [ "$word" = end ] || { echo "held: $word" >&2; exit 3; }
    exit ${holdCode}
    ;;
  exec*'pg_dump -w -Fc'*) ${during || ':'}; printf '%s' '${dump}'; echo 'pg_dump says' >&2; exit ${dumpCode} ;;
  exec*pg_restore*) cat >/dev/null; exit ${checkCode} ;;
  exec*server_version_num*) echo '${version}' ;;
esac`;
}

describe.each(SHELLS)('in $name', (shell) => {
  let machine: Machine;
  const target = { container: 'c1' };
  const file = (): string => machine.path('backups', 'shop.dump');
  const left = (): string[] => readdirSync(machine.path('backups')).sort();

  beforeEach(() => {
    machine = new Machine(shell);
    mkdirSync(machine.path('backups'));
  });
  afterEach(() => {
    machine.remove();
  });

  test('says what databases there are', () => {
    machine.withDocker(server());
    const ran = machine.run(listDatabases(target));
    expect(ran).toMatchObject({ exitCode: 0, stderr: '' });
    expect(parseDatabases(ran.stdout)).toEqual({
      serverVersion: 150020,
      clientVersion: 'pg_dump (PostgreSQL) 15.20',
      user: 'postgres',
      superuser: true,
      databases: [{ name: "it's", bytes: 7 }],
    });
  });

  test('a container that does not run is said', () => {
    machine.withDocker(server({ running: 'false' }));
    for (const command of [
      listDatabases(target),
      dumpDatabase(target, '', file()),
      dumpRoles(target, file()),
      dropKept(target, 'slipway-kept-1-a'),
    ])
      expect(machine.run(command)).toMatchObject({
        exitCode: 69,
        stderr: expect.stringMatching(/^the container c1 does not run: start it/) as string,
      });
    expect(left()).toEqual([]);
  });

  test('a dump is accepted with the figures of its own snapshot, and is for nobody else to read', () => {
    machine.withDocker(server());
    const ran = machine.run(dumpDatabase(target, '', file()));
    expect(ran).toMatchObject({ exitCode: 0, stderr: '' });
    const dumped = parseDumpedDatabase(ran.stdout);
    expect(dumped).toMatchObject({
      database: 'shop',
      serverVersion: 150020,
      bytes: 5,
      sha256: createHash('sha256').update('PGDMP').digest('hex'),
    });
    expect(dumped.tables.map(({ name, rows }) => [name, rows])).toEqual([
      ['a', 1],
      ['b "quoted"', 2],
    ]);
    expect(readFileSync(file(), 'utf8')).toBe('PGDMP');
    expect(readFileSync(`${file()}.tables`, 'utf8')).toBe(TABLES);
    expect(statSync(file()).mode & 0o777).toBe(0o600);
    expect(left()).toEqual(['shop.dump', 'shop.dump.tables']);
    expect(hasWord(machine, '00000003-0000001B-1')).toBe(true);
  });

  test.each<[string, Server, number, RegExp]>([
    ['pg_dump', { dumpCode: 1 }, 70, /pg_dump says\npg_dump failed with exit code 1/],
    ['the counting', { holdCode: 3 }, 70, /could not count the tables/],
    ['a count that is cut off', { counts: `${DATABASE}\n${TABLE('a', 1)}` }, 70, /could not count the tables/],
    ['the snapshot', { snapshot: 'ERROR' }, 70, /gave no snapshot/],
    ['no snapshot at all', { snapshot: '' }, 70, /gave no snapshot/],
    ['the check', { checkCode: 1 }, 65, /cannot be read to its end/],
    ['an old server', { version: '100023' }, 69, /older than 11/],
  ])('nothing is kept when it is %s that fails', (_name, answers, exitCode, message) => {
    machine.withDocker(server(answers));
    const ran = machine.run(dumpDatabase(target, 'shop', file()));
    expect(ran).toMatchObject({ exitCode, stdout: '', stderr: expect.stringMatching(message) as string });
    expect(left()).toEqual([]);
  });

  test('ended by a signal, it removes what it has begun, and the snapshot is let go', async () => {
    machine.withDocker(server({ during: `touch "${machine.path('dumping')}"; read -r word` }));
    const running = machine.start(dumpDatabase(target, 'shop', file()));
    let problem = '';
    running.stderr.on('data', (chunk: Buffer) => (problem += chunk.toString()));
    for (let n = 0; n < 200 && !existsSync(machine.path('dumping')); n++) await new Promise((go) => setTimeout(go, 25));
    const ended = new Promise((resolve) => running.on('close', resolve));
    running.kill('SIGTERM');
    expect(await ended).toBe(143);
    expect(problem).toBe('');
    expect(left()).toEqual([]);
  }, 20_000);

  test('a folder that is missing is said', () => {
    machine.withDocker(server());
    const ran = machine.run(dumpDatabase(target, '', machine.path('gone', 'shop.dump')));
    expect(ran.exitCode).toBe(73);
    expect(ran.stderr).toMatch(/cannot be written: check that it is there/);
  });

  test('roles are accepted with their end only', () => {
    machine.withDocker(server());
    const ran = machine.run(dumpRoles(target, file()));
    expect(ran).toMatchObject({ exitCode: 0, stderr: '' });
    expect(parseDumpedRoles(ran.stdout).bytes).toBe(52);
    expect(left()).toEqual(['shop.dump']);
    machine.withDocker(server({ roles: 'CREATE ROLE a;' }));
    expect(machine.run(dumpRoles(target, machine.path('backups', 'cut')))).toMatchObject({ exitCode: 65, stdout: '' });
    expect(left()).toEqual(['shop.dump']);
  });

  test('hostile names reach the tools as they are', () => {
    machine.withDocker(server());
    for (const text of HOSTILE.filter((one) => one !== '')) {
      const ran = machine.run(dumpDatabase({ container: `c${text}`, user: text }, text, file()));
      expect(ran).toMatchObject({ exitCode: 0, stderr: '' });
      expect(readFileSync(machine.path('docker.log'), 'utf8')).toContain(`<slipway><${text}><${text}>`);
      expect(hasWord(machine, `c${text}`)).toBe(true);
    }
    expect(existsSync(machine.path('pwned'))).toBe(false);
    expect(left()).toEqual(['shop.dump', 'shop.dump.tables']);
  });

  const SCRATCH = { name: 'scratch-1', project: 'shop', memoryMegabytes: 512, startSeconds: 2 };
  const DUMP = () => ({ database: 'shop', file: file(), tables: `${file()}.tables` });
  const stored = (): void => {
    writeFileSync(file(), 'PGDMP');
    writeFileSync(`${file()}.tables`, TABLES);
    writeFileSync(machine.path('backups', 'roles'), 'CREATE ROLE postgres;\nCREATE ROLE app;\nCREATE TABLESPACE x;\n');
  };
  const prove = () => proveDump(target, DUMP(), machine.path('backups', 'roles'), SCRATCH);
  /** @param before what is asked first, as branches of the `case`. */
  const restored = (tables: string, before = ''): string => `case "$1 $*" in
  ${before}
  inspect*Image*) echo sha256:1 ;;
  inspect*) echo true ;;
  exec*'CREATE ROLE %I'*) echo 'CREATE ROLE postgres;' ;;
  exec*'oid = 10'*) echo postgres ;;
  exec*psql*-Xqw*'-f -'*) cat >"${machine.path('given-roles')}" ;;
  exec*pg_restore*) cat >/dev/null ;;
  exec*'count(*) FROM pg_database'*) echo '1 0' ;;
  exec*hashtextextended*) printf '%s' '${tables}'; echo counted ;;
esac`;

  test('a proof compares every table, and leaves no container', () => {
    stored();
    machine.withDocker(restored(TABLES));
    const ran = machine.run(prove());
    expect(ran).toMatchObject({ exitCode: 0, stderr: '' });
    expect(compareTables(parseTables(TABLES), parseProof(ran.stdout, 'proof').tables)).toEqual([]);
    expect(readFileSync(machine.path('given-roles'), 'utf8')).toBe('CREATE ROLE app;\n');
    const run = machine.calls.find((call) => call.startsWith('<run>')) ?? '';
    expect(run).toContain('<--network><none><--memory><512m>');
    expect(run).toContain('<--label><slipway.scratch=shop>');
    expect(run).not.toMatch(/<-v>|<--volume|<--mount>/);
    expect(machine.calls.at(-1)).toBe('<rm><-fv><scratch-1>');
  });

  test('a table that came back otherwise is named, and the proof fails', () => {
    stored();
    machine.withDocker(restored(`${TABLE('a', 1)}\n${TABLE('b "quoted"', 3)}\n`));
    const ran = machine.run(prove());
    expect(ran.exitCode).toBe(65);
    expect(ran.stderr).toContain(`> ${TABLE('b "quoted"', 3)}`);
    expect(ran.stderr).toMatch(/differs from the backup .*make a new one\.\n$/);
    expect(compareTables(parseTables(TABLES), parseTables(ran.stdout))).toMatchObject([
      { name: 'b "quoted"', expected: { rows: 2 }, restored: { rows: 3 } },
    ]);
    expect(machine.calls.at(-1)).toBe('<rm><-fv><scratch-1>');
    expect(left()).toEqual(['roles', 'shop.dump', 'shop.dump.tables']);
  });

  test.each<[string, string, number, RegExp]>([
    ['starts', "run*) echo 'no space left' >&2; exit 125 ;;", 69, /no space left\nno scratch container/],
    ['becomes ready', 'exec*pg_isready*) exit 2 ;;', 70, /not ready within 2 seconds/],
    ['takes the roles', "exec*psql*-Xqw*'-f -'*) exit 3 ;;", 65, /roles of the backup cannot be restored/],
    ['takes the dump', 'exec*pg_restore*) exit 1 ;;', 65, /dump cannot be restored/],
    ['counts', 'exec*hashtextextended*) exit 1 ;;', 70, /cannot be counted/],
  ])('a proof where nothing %s removes its container', (_name, branch, exitCode, message) => {
    stored();
    machine.withDocker(restored(TABLES, branch));
    expect(machine.run(prove())).toMatchObject({ exitCode, stderr: expect.stringMatching(message) as string });
    expect(machine.calls.at(-1)).toBe('<rm><-fv><scratch-1>');
  });

  test('what PostgreSQL quotes of the rows is not passed on', () => {
    stored();
    const words = machine.path('words');
    writeFileSync(
      words,
      `pg_restore: while PROCESSING TOC:
pg_restore: from TOC entry 3312; 0 16387 TABLE DATA public orders shop
pg_restore: error: COPY failed for table "orders": ERROR:  invalid input syntax for type integer: "hunter2
hunter2: more of it"
CONTEXT:  COPY orders, line 1, column id: "hunter2
PASSWORD: hunter2"
pg_restore: error: could not execute query: ERROR:  could not create unique index "orders_pkey"
DETAIL:  Key (email)=(hunter2) is duplicated.
Command was: ALTER TABLE ONLY public.orders ADD CONSTRAINT orders_pkey PRIMARY KEY (hunter2);
pg_restore: error: COPY failed for table "orders": ERROR:  value "hunter2" is out of range for type integer
pg_restore: error: could not execute query: ERROR:  role "app" does not exist
ERROR:  new row for relation "orders" violates check constraint "known"
LINE 1: INSERT INTO orders VALUES ('hunter2')
`,
    );
    machine.withDocker(
      restored(TABLES, `exec*pg_restore*--exit-on-error*) cat >/dev/null; cat '${words}' >&2; exit 1 ;;`),
    );
    for (const command of [prove(), restore()]) {
      const { stderr, exitCode } = machine.run(command);
      expect([exitCode, stderr.split('\n').slice(0, 9)]).toEqual([
        65,
        [
          'pg_restore: while PROCESSING TOC:',
          'pg_restore: from TOC entry 3312; 0 16387 TABLE DATA public orders shop',
          'pg_restore: error: COPY failed for table "orders": ERROR:  invalid input syntax for type integer: (a value, not shown)',
          'pg_restore: error: could not execute query: ERROR:  could not create unique index "orders_pkey"',
          'pg_restore: error: COPY failed for table "orders": ERROR:  value (not shown)',
          'pg_restore: error: could not execute query: ERROR:  role "app" does not exist',
          'ERROR:  new row for relation "orders" violates check constraint "known"',
          'it ended with exit code 1',
          expect.stringContaining('the dump cannot be restored') as string,
        ],
      ]);
      expect(stderr).not.toContain('hunter2');
    }
  });

  test('a proof that is ended by a signal removes its container', async () => {
    stored();
    machine.withDocker(restored(TABLES, `exec*pg_restore*) touch "${machine.path('busy')}"; exec sleep 30 ;;`));
    const running = machine.start(prove());
    for (let n = 0; n < 200 && !existsSync(machine.path('busy')); n++) await new Promise((go) => setTimeout(go, 25));
    const ended = new Promise((resolve) => running.on('close', resolve));
    running.kill('SIGTERM');
    expect(await ended).toBe(143);
    expect(machine.calls.at(-1)).toBe('<rm><-fv><scratch-1>');
  }, 20_000);

  const restore = () => restoreBeside(target, DUMP(), 'slipway-new-1-shop');
  const log = (): string => readFileSync(machine.path('docker.log'), 'utf8');

  test('a restored database stays beside the one in service when all tables are the same', () => {
    stored();
    machine.withDocker(restored(TABLES));
    const ran = machine.run(restore());
    expect(ran).toMatchObject({ exitCode: 0, stderr: '' });
    expect(parseProof(ran.stdout, 'restored').tables).toHaveLength(2);
    expect(log()).toContain('<live=shop><-v><fresh=slipway-new-1-shop>');
    expect(log()).not.toContain('RENAME TO');
    expect(log().split('DROP DATABASE')).toHaveLength(2);
    expect(left()).toEqual(['roles', 'shop.dump', 'shop.dump.tables']);
  });

  test.each<[string, string, number, RegExp]>([
    ['differs', '', 65, /was not put into service, differs/],
    ['cannot be restored', 'exec*pg_restore*--exit-on-error*) cat >/dev/null; exit 1 ;;', 65, /old data is in service/],
    ['cannot be counted', 'exec*hashtextextended*) exit 1 ;;', 70, /old data is in service/],
    ['gets no settings', 'exec*aclexplode*) exit 3 ;;', 70, /old data is in service/],
  ])('a restore that %s changes nothing, and drops what it made', (name, branch, exitCode, message) => {
    stored();
    machine.withDocker(restored(name === 'differs' ? `${TABLE('a', 1)}\n` : TABLES, branch));
    expect(machine.run(restore())).toMatchObject({ exitCode, stderr: expect.stringMatching(message) as string });
    expect(log().split('DROP DATABASE')).toHaveLength(3);
  });

  test.each([
    ['it is not there', "exec*'count(*) FROM pg_database'*) echo 0 ;;"],
    ['nobody has used it', "exec*'oid >= 16384'*) echo t ;; exec*'count(*) FROM pg_database'*) echo 1 ;;"],
  ])('a database is made as the dump says where %s', (_name, branch) => {
    stored();
    const sql = machine.path('statements');
    machine.withDocker(
      restored(
        TABLES,
        `${branch}
  exec*'pg_restore -l'*) cat >/dev/null; printf '%s\\n' '; a comment' '7; 1262 16388 DATABASE - shop owner' '8; 0 0 DATABASE PROPERTIES - shop owner' '9; 0 0 ACL - DATABASE shop owner' '10; 0 0 TABLE - DATABASE owner' '11; 0 0 COMMENT - DATABASE shop owner' ;;
  exec*'pg_restore --create'*) printf '%s\\n' 'SET client_encoding = '\\''LATIN1'\\'';' 'CREATE DATABASE "a;""b" WITH TEMPLATE = template0;' '\\connect a' "ALTER DATABASE x SET y TO '" '\\not a command'"';" ;;
  exec*statements*) cat >"${sql}" ;;`,
      ),
    );
    expect(machine.run(restore())).toMatchObject({ exitCode: 0, stderr: '' });
    expect(log()).toContain('<slipway><7;\n8;\n9;\n11;>');
    expect(log()).toContain('<encoding=LATIN1>');
    expect(JSON.parse(readFileSync(sql, 'utf8'))).toEqual([
      { text: "SET client_encoding = 'LATIN1'", rest: '', words: ['SET', 'client_encoding'] },
      {
        text: 'CREATE DATABASE "a;""b" WITH TEMPLATE = template0',
        rest: ' WITH TEMPLATE = template0',
        words: ['CREATE', 'DATABASE', '"a;"b', 'WITH', 'TEMPLATE', 'template0'],
      },
      {
        text: "ALTER DATABASE x SET y TO '\n\\not a command'",
        rest: " SET y TO '\n\\not a command'",
        words: ['ALTER', 'DATABASE', 'x', 'SET', 'y', 'TO'],
      },
    ]);
  });

  test('roles are split into statements, whatever their names are', () => {
    const END = '--\n-- PostgreSQL database cluster dump complete\n--\n';
    const names = [...HOSTILE.filter((one) => one !== ''), 'a;\nb', '--', '\\q', 'to', 'tab\there', '☃'];
    const quote = (name: string): string => `"${name.replaceAll('"', '""')}"`;
    writeFileSync(
      file(),
      `SET client_encoding = 'UTF8';\n${names.map((name) => `-- one\nCREATE ROLE ${quote(name)};\nALTER ROLE ${quote(name)} PASSWORD 'it''s; "secret"';\n`).join('')}${END}`,
    );
    const sql = machine.path('statements');
    machine.withDocker(`case "$1 $*" in
  inspect*) echo true ;;
  exec*) cat >"${sql}"; echo '{"kind" : "roles", "created" : ["a"]}' ;;
esac`);
    const ran = machine.run(restoreRoles(target, file()));
    expect(ran).toMatchObject({ exitCode: 0, stderr: '' });
    expect(parseRestoredRoles(ran.stdout)).toEqual(['a']);
    const statements = JSON.parse(readFileSync(sql, 'utf8')) as { text: string; words: string[] }[];
    expect(statements.slice(1).map(({ text, words }) => [text, words])).toEqual(
      names.flatMap((name) => [
        [`CREATE ROLE ${quote(name)}`, ['CREATE', 'ROLE', `"${name}`]],
        [`ALTER ROLE ${quote(name)} PASSWORD 'it''s; "secret"'`, ['ALTER', 'ROLE', `"${name}`, 'PASSWORD']],
      ]),
    );
    expect(log()).not.toContain('secret');
    expect(existsSync(machine.path('pwned'))).toBe(false);
    writeFileSync(file(), 'CREATE ROLE a;\n');
    expect(machine.run(restoreRoles(target, file()))).toMatchObject({ exitCode: 65, stdout: '' });
    expect(machine.run(restoreRoles(target, machine.path('gone')))).toMatchObject({ exitCode: 66, stdout: '' });
  });

  const SWAPS = ['shop', 'it\'s "b"'].map((database) => ({
    database,
    fresh: nameFresh(database, '1'),
    kept: nameKept(database, '1'),
  }));
  const swapping = (branches: string): string => `case "$1 $*" in
  inspect*) echo true ;;
  ${branches}
  exec*"'ready'"*) echo ready ;;
esac`;

  test('databases are swapped in one message', () => {
    machine.withDocker(swapping(''));
    const ran = machine.run(swapDatabases(target, SWAPS));
    expect(ran).toMatchObject({ exitCode: 0, stderr: '' });
    expect(parseSwapped(ran.stdout)).toBeLessThan(60);
    expect(log().split('RENAME TO')).toHaveLength(3);
    const were = SWAPS.map((swap) => ({ ...swap, was: nameWas(swap.fresh) }));
    expect(log()).toContain(`<swaps=${JSON.stringify(were)}>`);
  });

  test('a swap is tried again, and given up with the old data in service', () => {
    machine.withDocker(
      swapping(`exec*'RENAME TO'*) echo 'is being accessed' >&2; exit 3 ;;
  exec*pg_terminate_backend*) echo 0 ;;
  exec*'restored OR NOT there'*) echo 1 ;;`),
    );
    expect(machine.run(swapDatabases(target, SWAPS))).toMatchObject({
      exitCode: 75,
      stdout: '',
      stderr: expect.stringMatching(/is being accessed\n.*do not end/) as string,
    });
    expect(log().split('RENAME TO')).toHaveLength(11);
  });

  test('a swap whose end was not heard of has happened', () => {
    machine.withDocker(
      swapping(`exec*'RENAME TO'*) exit 137 ;;
  exec*pg_terminate_backend*) echo 0 ;;
  exec*'restored OR NOT there'*) echo 0 ;;`),
    );
    expect(machine.run(swapDatabases(target, SWAPS))).toMatchObject({ exitCode: 0, stderr: '' });
    expect(log().split('RENAME TO')).toHaveLength(3);
  });

  test.each([
    ['missing slipway-new-1-shop', 66, /no restored database "slipway-new-1-shop"/],
    ['kept slipway-kept-1-shop', 75, /"slipway-kept-1-shop" from an earlier restore/],
  ])('where what is found is %s nothing is begun', (state, exitCode, message) => {
    machine.withDocker(swapping(`exec*"'ready'"*) echo '${state}' ;;`));
    expect(machine.run(swapDatabases(target, SWAPS))).toMatchObject({
      exitCode,
      stderr: expect.stringMatching(message) as string,
    });
    expect(log()).not.toContain('RENAME TO');
  });

  test('the way back is tried until all old databases have their names', () => {
    const back = (left: string): string =>
      swapping(`exec*'restored OR aside'*) ${left} ;; exec*pg_terminate*) echo 0 ;;`);
    machine.withDocker(
      back(`[ -e "${machine.path('once')}" ] && echo 0 || { touch "${machine.path('once')}"; echo 1; }`),
    );
    expect(machine.run(swapBack(target, SWAPS))).toMatchObject({ exitCode: 0, stderr: '' });
    machine.withDocker(back('echo 1'));
    expect(machine.run(swapBack(target, SWAPS))).toMatchObject({
      exitCode: 75,
      stderr: expect.stringContaining('they are kept') as string,
    });
  });

  test('only our own names are swapped', () => {
    const [swap] = SWAPS;
    if (swap === undefined) throw new Error('one');
    expect(() => swapDatabases(target, [{ ...swap, fresh: 'shop' }])).toThrow(RangeError);
    expect(() => swapBack(target, [{ ...swap, kept: 'shop' }])).toThrow(RangeError);
    expect(() => restoreBeside(target, DUMP(), 'shop')).toThrow(RangeError);
  });

  test('tables are counted as they are now', () => {
    machine.withDocker(`case "$1 $*" in
  inspect*) echo true ;;
  exec*live=gone*) echo 0 ;;
  exec*live=*) echo 1 ;;
  exec*counted*) echo '{"kind" : "rows", "schema" : "public", "name" : "a b", "rows" : 7}'; echo '{"kind" : "counted"}' ;;
esac`);
    expect(parseCounts(machine.run(countTables(target, 'shop')).stdout)).toEqual(new Map([['public.a b', 7]]));
    expect(machine.run(countTables(target, 'gone'))).toMatchObject({ exitCode: 66, stdout: '' });
  });

  test('the password of a remote server is in no argument', () => {
    const remote = { host: 'db.example.com', port: 5433, password: new Secret('very-secret'), sslmode: 'require' };
    machine.withDocker(`case "$1 $*" in
  *'cat >/run/slipway/remote'*) cat >"${machine.path('remote')}" ;;
  *) ${server().replace(/^case .*\n/, 'case "$1 $*" in\n')} ;;
esac`);
    const command = listDatabases({ container: 'c1', user: 'admin', remote });
    expect(JSON.stringify(command)).not.toContain('very-secret');
    expect(machine.run(command)).toMatchObject({ exitCode: 0, stderr: '' });
    expect(readFileSync(machine.path('remote'), 'utf8')).toBe('db.example.com\n5433\nrequire\npostgres\nvery-secret\n');
    expect(log()).not.toContain('very-secret');
    const broken = { ...remote, host: 'a\nb' };
    expect(() => listDatabases({ container: 'c1', remote: broken })).toThrow(RangeError);
  });

  test('a helper has the client programs and nothing else', () => {
    machine.withDocker('case $1 in exec | rm) exit 1 ;; esac');
    expect(machine.run(startClient('postgres:17', SCRATCH))).toMatchObject({ exitCode: 0, stdout: '', stderr: '' });
    expect(log()).toContain('<--network><host>');
    expect(log().trimEnd()).toMatch(/<--entrypoint><sh><postgres:17><-c><[^]*><slipway><5><6>$/);
    machine.withDocker("case $1 in exec) exit 1 ;; run) echo 'no disk' >&2; exit 125 ;; esac");
    expect(machine.run(startClient('postgres:17', SCRATCH))).toMatchObject({
      exitCode: 69,
      stderr: expect.stringMatching(/no disk\nno container/) as string,
    });
    machine.withDocker('case $1 in exec | image) exit 1 ;; esac');
    expect(machine.run(startClient('postgres:17', SCRATCH))).toMatchObject({
      exitCode: 69,
      stderr: expect.stringContaining('run `docker pull postgres:17` there') as string,
    });
  });

  test('a helper that runs is kept, and told so', () => {
    machine.withDocker('');
    const before = machine.calls.length;
    expect(machine.run(startClient('postgres:17', SCRATCH))).toMatchObject({ exitCode: 0, stdout: '', stderr: '' });
    expect(machine.calls.slice(before)).toEqual([`<exec><${SCRATCH.name}><sh><-c><: >/run/slipway/used>`]);
  });

  test('a killed script takes the helper along with the password, and no container of the project', () => {
    machine.withDocker('case $1 in inspect) echo true ;; esac; [ "$1 $2" != "exec c1" ] || kill -TERM $PPID');
    const remote = { host: 'db.example.com', port: 5433, password: new Secret('very-secret') };
    expect(machine.run(listDatabases({ container: 'c1', remote })).exitCode).toBe(143);
    expect(machine.calls.at(-1)).toBe('<rm><-fv><c1>');
    const after = machine.calls.length;
    expect(machine.run(listDatabases({ container: 'c1' })).exitCode).toBe(143);
    expect(machine.calls.slice(after).join()).not.toContain('<rm>');
  });

  test('what a killed proof has left is found by its label', () => {
    machine.withDocker('case $1 in ps) echo a1; echo b2 ;; esac');
    expect(machine.run(removeScratch("it's"))).toMatchObject({ exitCode: 0, stderr: '' });
    expect(machine.calls).toEqual(["<ps><-aq><--no-trunc><--filter><label=slipway.scratch=it's>", '<rm><-fv><a1><b2>']);
  });

  test('only a kept database can be dropped', () => {
    machine.withDocker(server());
    expect(machine.run(dropKept(target, nameKept('shop', '1')))).toMatchObject({ exitCode: 0 });
    expect(log()).toContain('<fresh=slipway-kept-1-shop>');
    expect(() => dropKept(target, 'shop')).toThrow(RangeError);
    expect(machine.run(dropUnfinished(target))).toMatchObject({ exitCode: 0 });
    expect(log()).toContain('slipway-new-');
  });
});

test('a kept name fits, and says the database (property)', () => {
  expect(nameKept('shop', '20261122T010000Z')).toBe('slipway-kept-20261122T010000Z-shop');
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme', maxLength: 80 }), (database) => {
      const name = nameKept(database, '20261122T010000Z');
      expect(Buffer.byteLength(name)).toBeLessThanOrEqual(63);
      const whole = `slipway-kept-20261122T010000Z-${database}`;
      if (Buffer.byteLength(whole) <= 63) expect(name).toBe(whole);
      else expect(whole.startsWith(name.slice(0, -9))).toBe(true);
      expect(nameFresh(database, '20261122T010000Z')).toMatch(/^slipway-new-20261122T010000Z-/);
    }),
  );
  const [a, b] = ['a', 'b'].map((end) =>
    nameKept(`customers-production-of-${'x'.repeat(40)}-${end}`, '20261122T010000Z'),
  );
  expect(a).not.toBe(b);
});

describe('answers', () => {
  const PARSERS = [
    parseDatabases,
    parseDumpedDatabase,
    parseDumpedRoles,
    parseTables,
    parseCounts,
    parseRestoredRoles,
    parseSwapped,
    (text: string) => parseProof(text, 'proof'),
    (text: string) => parseProof(text, 'restored'),
  ];

  const member = fc.constantFrom('kind', 'schema', 'name', 'rows', 'hash', 'bytes', 'sha256', 'seconds', 'version');
  const value = fc.oneof(fc.constantFrom('table', 'file', 'server', 'database', 'proof'), fc.jsonValue());
  const line = fc.oneof(
    fc.string(),
    fc.json(),
    fc.dictionary(member, value).map((one) => JSON.stringify(one)),
    fc.constantFrom('pg_dump 1', '{}', '[]', 'null', DATABASE, TABLE('a', 1)),
  );

  test('arbitrary text is read or refused, and nothing else (property)', () => {
    fc.assert(
      fc.property(fc.array(line), (lines) => {
        for (const parse of PARSERS) {
          try {
            parse(lines.join('\n'));
          } catch (error) {
            expect(error).toBeInstanceOf(SyntaxError);
          }
        }
      }),
      { numRuns: 500 },
    );
  });

  test('tools that are older than the server are said', () => {
    const found = { serverVersion: 170002, user: 'a', superuser: true, databases: [] };
    expect(compareVersions({ ...found, clientVersion: 'pg_dump (PostgreSQL) 17.1 (Debian 17.1-1)' })).toBeUndefined();
    expect(compareVersions({ ...found, clientVersion: 'pg_dump (PostgreSQL) 18.0' })).toBeUndefined();
    expect(compareVersions({ ...found, clientVersion: 'pg_dump (PostgreSQL) 16.9' })).toMatch(
      /PostgreSQL 17, .* 16\.9/,
    );
  });

  test('an answer that is cut off is none', () => {
    expect(() => parseDumpedDatabase(`${DATABASE}\n${TABLES}`)).toThrow('cut off');
    expect(() => parseProof(TABLES, 'proof')).toThrow('cut off');
    expect(() => parseDumpedDatabase(`${DATABASE}\n${TABLES.slice(0, -5)}`)).toThrow('not JSON');
  });

  test('tables that are on one side only differ', () => {
    const [a, b] = parseTables(TABLES);
    if (a === undefined || b === undefined) throw new Error('two tables');
    expect(compareTables([a], [b])).toEqual([
      { kind: 'table', schema: 'public', name: 'a', expected: a, restored: undefined },
      { kind: 'table', schema: 'public', name: 'b "quoted"', expected: undefined, restored: b },
    ]);
    expect(compareTables([a, b], [b, a])).toEqual([]);
    expect(compareTables([a], [{ ...a, hash: '0' }])).toHaveLength(1);
  });
});
