import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import fc from 'fast-check';
import { parseDumpedRedis, parseProvenRedis, parseRestoredRedis } from '../../src/backups/redis';
import { dropKeptRedis, dumpRedis, proveRedis, putBackRedis, restoreRedis } from '../../src/commands/redis';
import { Secret } from '../../src/model/secret';
import { renderCommand } from '../../src/shell/render';
import { HOSTILE, Machine, SHELLS } from '../shells';

const CHECKED = `[offset 206] Checksum OK
[offset 206] \\\\o/ RDB looks OK! \\\\o/
[info] 3 keys read
[info] 1 expires
[info] 0 already expired`;

const INFO = `redis_version:7.0.15
rdb_last_load_keys_expired:1
rdb_last_load_keys_loaded:2
aof_rewrite_in_progress:0
aof_rewrite_scheduled:0
aof_last_bgrewrite_status:ok
loading:0
db0:keys=2,expires=1,avg_ttl=0
db3:keys=1,expires=0,avg_ttl=0`;

interface Server {
  readonly snapshot?: string;
  readonly dumpCode?: number;
  readonly checkCode?: number;
  readonly info?: string;
  /** What is asked first, as branches of the `case`. */
  readonly before?: string;
}

/** Stands in for docker and what runs in the container; `given` is what came in as the password. */
function server(machine: Machine, answers: Server = {}): string {
  const { snapshot = 'REDIS0010', dumpCode = 0, checkCode = 0, info = INFO, before = '' } = answers;
  const setting = (name: string, value: string): string => `exec*"GET ${name}") echo ${name}; echo ${value} ;;`;
  return `case "$1 $*" in
  ${before}
  inspect*Image*) echo sha256:1 ;;
  inspect*Mounts*) echo "${machine.path('data volume')}" ;;
  inspect*RestartPolicy*) echo unless-stopped ;;
  inspect*) if [ -e "${machine.path('stopped')}" ]; then echo false; else echo true; fi ;;
  stop*) : >"${machine.path('stopped')}" ;;
  start*) rm -f "${machine.path('stopped')}" ;;
  exec*redis-check-rdb*) cat >/dev/null; printf '%s\\n' '${CHECKED.replaceAll('\\\\', '\\')}'; exit ${checkCode} ;;
  exec*--rdb*) read -r given; printf '%s\\n' "$given" >"${machine.path('given')}"; printf '%s' '${snapshot}'; echo 'redis-cli says' >&2; exit ${dumpCode} ;;
  ${setting('dir', `"${machine.path('data volume')}"`)}
  ${setting('dbfilename', 'dump.rdb')}
  ${setting('appendonly', 'yes')}
  ${setting('appendfilename', 'appendonly.aof')}
  ${setting('appenddirname', 'appendonlydir')}
  exec*'SET appendonly yes') echo OK ;;
  exec*PING) echo PONG ;;
  exec*' INFO'*) printf '%s\\r\\n' '${info.replaceAll('\n', "' '")}' ;;
esac`;
}

describe.each(SHELLS)('in $name', (shell) => {
  let machine: Machine;
  const target = { container: 'c1' };
  const SCRATCH = { name: 'scratch-1', project: 'shop', memoryMegabytes: 64, startSeconds: 2 };
  const file = (): string => machine.path('backups', 'redis.rdb');
  const left = (): string[] => readdirSync(machine.path('backups')).sort();
  const log = (): string => readFileSync(machine.path('docker.log'), 'utf8');

  beforeEach(() => {
    machine = new Machine(shell);
    mkdirSync(machine.path('backups'));
  });
  afterEach(() => {
    machine.remove();
  });

  test('a snapshot is accepted with the figures of the file itself', () => {
    machine.withDocker(server(machine));
    const ran = machine.run(dumpRedis(target, file()));
    expect(ran).toMatchObject({ exitCode: 0, stderr: '' });
    const keyspace = [
      { database: 0, keys: 2, expires: 1 },
      { database: 3, keys: 1, expires: 0 },
    ];
    expect(parseDumpedRedis(ran.stdout)).toMatchObject({
      version: '7.0.15',
      before: keyspace,
      after: keyspace,
      bytes: 9,
      sha256: createHash('sha256').update('REDIS0010').digest('hex'),
      keys: 3,
      expires: 1,
    });
    expect(statSync(file()).mode & 0o777).toBe(0o600);
    expect(left()).toEqual(['redis.rdb']);
  });

  test('the key at which a damaged snapshot ends is not passed on', () => {
    const words = `[offset 9] AUX FIELD redis-ver\n--- RDB ERROR DETECTED ---\n[offset 120] Unexpected EOF reading RDB file\n[additional info] While doing: read-object-value\n[additional info] Reading key 'session:hunter2\nhunter2'\n[info] 3 keys read`;
    machine.withDocker(
      server(machine, { before: `exec*redis-check-rdb*) cat >/dev/null; printf '%s\\n' "${words}"; exit 1 ;;` }),
    );
    const { exitCode, stderr } = machine.run(dumpRedis(target, file()));
    expect(exitCode).toBe(65);
    expect(stderr).toContain('[offset 120] Unexpected EOF reading RDB file\n');
    expect(stderr).not.toContain('hunter2');
  });

  test.each<[string, Server, number, RegExp]>([
    ['the snapshot', { dumpCode: 1 }, 70, /redis-cli says\nRedis gave no snapshot/],
    ['the check', { checkCode: 1 }, 65, /RDB looks OK.*\n.*\n.*\n.*\nthe snapshot is damaged/],
    ['the password', { before: `exec*'INFO server') echo 'wants another password' >&2; exit 77 ;;` }, 77, /password/],
    ['the container', { before: 'inspect*) echo false ;;' }, 69, /does not run: start it/],
  ])('nothing is kept when it is %s that fails', (_name, answers, exitCode, message) => {
    machine.withDocker(server(machine, answers));
    expect(machine.run(dumpRedis(target, file()))).toMatchObject({
      exitCode,
      stdout: '',
      stderr: expect.stringMatching(message) as string,
    });
    expect(left()).toEqual([]);
  });

  test('a password comes in on standard input and is in no argument', () => {
    machine.withDocker(server(machine));
    for (const text of [...HOSTILE, ' %s\\n\t '].filter((one) => !one.includes('\n'))) {
      const command = dumpRedis({ ...target, password: new Secret(`S${text}`) }, file());
      expect(renderCommand(command)).not.toContain(`S${text}x`);
      expect(machine.run(command)).toMatchObject({ exitCode: 0, stderr: '' });
      expect(readFileSync(machine.path('given'), 'utf8')).toMatch(/^S/);
      expect(log()).not.toContain(`<S${text}>`);
    }
    expect(existsSync(machine.path('pwned'))).toBe(false);
    expect(() => dumpRedis({ ...target, password: new Secret('two\nlines') }, file())).toThrow(RangeError);
  });

  test('hostile names reach the tools as they are; a variable has a name that is one', () => {
    machine.withDocker(server(machine));
    for (const text of HOSTILE) {
      const command = dumpRedis({ container: `c${text}`, user: text }, file());
      expect(machine.run(command)).toMatchObject({ exitCode: 0, stderr: '' });
      expect(log()).toContain(`<slipway><${text}><6379><REDIS_PASSWORD>`);
      expect(() => dumpRedis({ ...target, passwordVariable: text }, file())).toThrow(RangeError);
    }
    expect(existsSync(machine.path('pwned'))).toBe(false);
  });

  const prove = () => proveRedis(target, file(), SCRATCH);

  test('a proof starts a server on the snapshot, and leaves no container', () => {
    writeFileSync(file(), 'REDIS0010');
    machine.withDocker(server(machine));
    const ran = machine.run(prove());
    expect(ran).toMatchObject({ exitCode: 0, stderr: '' });
    expect(parseProvenRedis(ran.stdout)).toMatchObject({ keys: 2, databases: [{ database: 0 }, { database: 3 }] });
    expect(log()).toContain('<--label><slipway.scratch=shop><--network><none><--memory><64m>');
    expect(machine.calls.at(-1)).toBe('<rm><-fv><scratch-1>');
  });

  test.each<[string, Server, number, RegExp]>([
    [
      'has other keys',
      { info: INFO.replace('loaded:2', 'loaded:1') },
      65,
      /has 3 keys, and a server .* has 1: do not rely/,
    ],
    ['does not start', { before: 'exec*PING) echo LOADING ;;' }, 70, /not loaded the snapshot within 2 seconds/],
    ['does not say what it has', { info: 'db0:keys=9,expires=1' }, 65, /has 9: do not rely/],
    ['is damaged', { checkCode: 1 }, 65, /the snapshot is damaged/],
  ])('a proof of one that %s fails', (_name, answers, exitCode, message) => {
    writeFileSync(file(), 'REDIS0010');
    machine.withDocker(server(machine, answers));
    expect(machine.run(prove())).toMatchObject({ exitCode, stderr: expect.stringMatching(message) as string });
    expect(left()).toEqual(['redis.rdb']);
  });

  test('an older server says no more than how many keys it has: those that expire may be missing', () => {
    writeFileSync(file(), 'REDIS0010');
    for (const [keys, exitCode] of [
      [3, 0],
      [2, 0],
      [1, 65],
      [4, 65],
    ] as const) {
      machine.withDocker(server(machine, { info: `db0:keys=${keys},expires=0` }));
      expect(machine.run(prove())).toMatchObject({ exitCode });
    }
  });

  const restore = () => restoreRedis(target, file(), 'id-1', SCRATCH);

  test('a restore prepares the data before it stops anything', () => {
    writeFileSync(file(), 'REDIS0010');
    machine.withDocker(server(machine));
    const ran = machine.run(restore());
    expect(ran).toMatchObject({ exitCode: 0, stderr: '' });
    expect(parseRestoredRedis(ran.stdout)).toMatchObject({ keys: 2 });
    const order = ['SET><appendonly><yes>', '<SHUTDOWN><NOSAVE>', '<stop><c1>', '.slipway-kept-', '<start><c1>'];
    const places = order.map((one) => log().indexOf(one));
    expect(places.every((place) => place >= 0)).toBe(true);
    expect([...places].sort((a, b) => a - b)).toEqual(places);
    // A boot brings it back while it stands, but not on half of the data; and in the end its policy is its own.
    expect(
      log()
        .split('\n')
        .flatMap((line) => /<(--restart=[a-z-]+|stop|start)>(?=<c1>)|mv "\$one" "\$kept/.exec(line)?.[0] ?? []),
    ).toEqual([
      '<--restart=always>',
      '<stop>',
      '<--restart=unless-stopped>',
      'mv "$one" "$kept',
      '<--restart=always>',
      '<start>',
      '<--restart=unless-stopped>',
    ]);
  });

  test('a restore that cannot be prepared stops nothing', () => {
    writeFileSync(file(), 'REDIS0010');
    machine.withDocker(server(machine, { info: INFO.replace('status:ok', 'status:err') }));
    expect(machine.run(restore())).toMatchObject({
      exitCode: 70,
      stderr: expect.stringMatching(/nothing was changed/) as string,
    });
    expect(log()).not.toContain('<stop>');
  });

  test('a restore that does not start puts the old data back', () => {
    writeFileSync(file(), 'REDIS0010');
    const once = machine.path('once');
    machine.withDocker(
      server(machine, { before: `'start start c1') [ -e "${once}" ] || { : >"${once}"; exit 1; } ;;` }),
    );
    expect(machine.run(restore())).toMatchObject({
      exitCode: 70,
      stderr: expect.stringMatching(
        /does not start on the restored data.*\nthe old data of Redis was put back/,
      ) as string,
    });
    expect(log().split('<stop><c1>')).toHaveLength(3);
    expect(log().split('<start><c1>')).toHaveLength(3);
  });

  test('without a volume there is no restore', () => {
    writeFileSync(file(), 'REDIS0010');
    machine.withDocker(server(machine, { before: 'inspect*Mounts*) ;;' }));
    expect(machine.run(restore())).toMatchObject({
      exitCode: 78,
      stderr: expect.stringMatching(/is in no volume/) as string,
    });
  });

  /** The scripts that move the data, run here: `docker run ... --entrypoint sh IMAGE -c TEXT slipway WORD...` */
  const MOVES = `run*slipway*) while [ "$1" != -c ]; do shift; done; exec ${shell.words.join(' ')} "$@" ;;`;
  const ALONE = `case "$1 $*" in ${MOVES} inspect*Image*) echo sha256:1 ;; inspect*Mounts*) echo "$PWD/data volume" ;; inspect*) echo true ;; esac`;

  test.each([
    ['nothing moved', ['dump.rdb=old', 'appendonlydir=old', 'kept/had.x=']],
    ['some of the old moved', ['dump.rdb=old', 'kept/names=list', 'kept/had=list', 'kept/appendonlydir=old']],
    [
      'all of the old moved',
      ['kept/names=list', 'kept/had=list', 'kept/moved=', 'kept/dump.rdb=old', 'kept/appendonlydir=old'],
    ],
    [
      'some of the new moved',
      [
        'kept/names=list',
        'kept/had=list',
        'kept/moved=',
        'kept/dump.rdb=old',
        'kept/appendonlydir=old',
        'dump.rdb=new',
      ],
    ],
    [
      'all of the new moved',
      [
        'kept/names=list',
        'kept/had=list',
        'kept/moved=',
        'kept/dump.rdb=old',
        'kept/appendonlydir=old',
        'dump.rdb=new',
        'appendonlydir=new',
        'appendonly.aof=new',
      ],
    ],
    [
      'some put back already',
      ['kept/names=list', 'kept/had=list', 'kept/moved=', 'kept/appendonlydir=old', 'dump.rdb=old'],
    ],
  ])('the old data comes back: %s', (_name, files) => {
    const folder = machine.path('data volume');
    mkdirSync(`${folder}/.slipway-kept-id-1`, { recursive: true });
    for (const one of files) {
      const [path = '', content = ''] = one.split('=');
      const list = path.endsWith('had') ? 'dump.rdb\nappendonlydir\n' : 'dump.rdb\nappendonly.aof\nappendonlydir\n';
      writeFileSync(`${folder}/${path.replace('kept/', '.slipway-kept-id-1/')}`, content === 'list' ? list : content);
    }
    machine.withDocker(ALONE);
    expect(machine.run(putBackRedis('c1', 'id-1', SCRATCH))).toMatchObject({ exitCode: 0, stderr: '' });
    expect(readdirSync(folder).sort()).toEqual(['appendonlydir', 'dump.rdb']);
    expect(readFileSync(`${folder}/dump.rdb`, 'utf8')).toBe('old');
    expect(readFileSync(`${folder}/appendonlydir`, 'utf8')).toBe('old');
    expect(machine.run(putBackRedis('c1', 'id-1', SCRATCH))).toMatchObject({ exitCode: 0, stderr: '' });
    expect(readdirSync(folder).sort()).toEqual(['appendonlydir', 'dump.rdb']);
  });

  test('what is kept is removed by its id', () => {
    const folder = machine.path('data volume');
    mkdirSync(`${folder}/.slipway-kept-id-1`, { recursive: true });
    mkdirSync(`${folder}/.slipway-kept-id-2`);
    machine.withDocker(ALONE);
    expect(machine.run(dropKeptRedis('c1', 'id-1', SCRATCH))).toMatchObject({ exitCode: 0, stderr: '' });
    expect(readdirSync(folder)).toEqual(['.slipway-kept-id-2']);
  });
});

test('arbitrary text is read or refused, and nothing else (property)', () => {
  const member = fc.constantFrom(
    'kind',
    'when',
    'database',
    'keys',
    'expires',
    'bytes',
    'sha256',
    'seconds',
    'version',
  );
  const value = fc.oneof(fc.constantFrom('keyspace', 'file', 'server', 'before', 'proof', 'restored'), fc.jsonValue());
  const line = fc.oneof(
    fc.string(),
    fc.json(),
    fc.dictionary(member, value).map((one) => JSON.stringify(one)),
  );
  fc.assert(
    fc.property(fc.array(line), (lines) => {
      for (const parse of [parseDumpedRedis, parseProvenRedis, parseRestoredRedis]) {
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
