/** A restore during which something dies, at each of its moments: whole data serves, and the next restore works. */
import { jest } from '@jest/globals';
import { containerOf, DATA_PROJECT } from './data-project.ts';
import type { ActionRun, RunningAction } from './harness/index.ts';
import { killGuardian, pullPlug, reboot, restartDocker } from './kill-matrix/server.ts';
import {
  allKills,
  asDeploy,
  backUp,
  type Checkout,
  cutLink,
  freshServer,
  joinLink,
  mustDeploy,
  onServer,
  projectFiles,
  removeCheckouts,
} from './sandbox.ts';

jest.setTimeout(300_000);

const STORE = '/home/deploy/apps/shop/.slipway';
let checkout: Checkout;

/** The same word is written everywhere. */
async function write(word: string): Promise<void> {
  await onServer(
    `docker exec ${containerOf('db')} psql -XAtq -U postgres -d app -c "DROP TABLE IF EXISTS t; CREATE TABLE t AS SELECT '$1' AS word, i FROM generate_series(1, 20000) i" &&
docker exec ${containerOf('cache')} redis-cli SET word "$1" >/dev/null &&
docker exec ${containerOf('files')} sh -c 'echo "$1" >/uploads/word' sh "$1"`,
    [word],
  );
}

/** What is served: database, Redis, volume. Waits for who is being started. */
async function read(): Promise<string[]> {
  const answer = await onServer(
    `for attempt in $(seq 300); do
  if a=$(docker exec ${containerOf('db')} psql -XAtq -U postgres -d app -c "SELECT DISTINCT word || ' ' || (SELECT count(*) FROM t) FROM t" 2>&1) &&
    b=$(docker exec ${containerOf('cache')} redis-cli GET word 2>&1) && c=$(docker exec ${containerOf('files')} cat /uploads/word 2>&1); then
    printf '%s\\n' "$a" "$b" "$c"
    exit 0
  fi
  sleep 0.1
done
docker ps -a >&2; printf '%s\\n' "$a" "$b" "$c" >&2; exit 1`,
  );
  return answer.trim().split('\n');
}

const whole = (word: string): string[] => [`${word} 20000`, word, word];
/** What Docker does with them at a boot: as the Compose file has it. */
const policies = async (): Promise<string[]> =>
  (await onServer("docker inspect --format '{{.HostConfig.RestartPolicy.Name}}' $(docker ps -aq)")).trim().split('\n');
/** The guardian of the lost runner has ended. */
const settled = (): Promise<string> =>
  onServer(`for n in $(seq 400); do flock -n ${STORE}/lock true && exit 0; sleep 0.1; done; exit 1`);

beforeAll(async () => {
  await freshServer();
  await onServer('cat >/usr/local/bin/docker && chmod 755 /usr/local/bin/docker', [], HOLDING_DOCKER);
  checkout = await projectFiles({ 'compose.yaml': DATA_PROJECT });
  await mustDeploy(checkout);
  await write('then');
  const run = await backUp({ what: 'postgres: db/app\nredis: cache\nvolume: uploads stopped' });
  if (run.outcome !== 'success') throw new Error(run.log);
});

afterAll(removeCheckouts);

const line = (pattern: RegExp) => async (running: Pick<RunningAction, 'line'>) => {
  await running.line(pattern);
};
const moment = (script: string) => async () => {
  await onServer(`until ${script}; do sleep 0.01; done`);
};

/** Holds what stops a service, once it has stopped it, for as long as it takes to strike. */
const HOLDING_DOCKER = `#!/bin/sh
case $1 in stop) ;; *) exec /usr/bin/docker "$@" ;; esac
/usr/bin/docker "$@"
code=$?
hold=/run/hold/stop
if [ -s "$hold" ]; then
  case " $* " in *" $(cat "$hold") "*)
    touch /run/hold/held
    while [ -e "$hold" ]; do sleep 0.02; done ;;
  esac
fi
exit "$code"`;
const standing = (service: string) => async () => {
  await onServer(`mkdir -p -m 777 /run/hold
docker ps -q --no-trunc --filter label=com.docker.compose.service=${service} >/run/hold/stop
until [ -e /run/hold/held ]; do sleep 0.02; done`);
};
const letGo = async (): Promise<void> => {
  await onServer('rm -rf /run/hold');
};

type Trigger = (running: Pick<RunningAction, 'line'>) => Promise<void>;
const MOMENTS: readonly [string, Trigger][] = [
  ['before anything is prepared', line(/▼ Restore|Restore 2/)],
  [
    'while the database is restored beside',
    moment(
      `docker exec ${containerOf('db')} psql -XAtq -U postgres -c 'SELECT datname FROM pg_database' | grep -q slipway-new`,
    ),
  ],
  ['when it is beside', line(/restored beside the one in service/)],
  ['while the volume stands', standing('files')],
  ['when the volume is restored', line(/volume:uploads: restored in/)],
  ['while Redis stands', standing('cache')],
  ['when Redis is restored', line(/redis:cache: restored in/)],
];

/** What dies; `lives`: the runner does not die with it, and may put right what it has begun. */
const KILLS = {
  runner: { lives: false, die: () => Promise.resolve() },
  cancel: { lives: false, die: () => Promise.resolve() },
  cut: { lives: true, die: cutLink },
  guardian: { lives: true, die: () => killGuardian('all') },
  dockerd: { lives: true, die: restartDocker },
  reboot: { lives: false, die: reboot },
  poweroff: { lives: false, die: pullPlug },
} as const satisfies Record<string, { lives: boolean; die: () => Promise<void> }>;
type Kill = keyof typeof KILLS;

/** As in the kill matrix of deploys: every death at every moment; `npm test` takes those that differ most. */
const CELLS = MOMENTS.flatMap(([when, trigger]) =>
  (Object.keys(KILLS) as Kill[]).map((kill) => ({ kill, when, trigger })),
);
const SAMPLE = [
  'runner: while the database is restored beside',
  'runner: while the volume stands',
  'runner: while Redis stands',
  'poweroff: while Redis stands',
  'reboot: while the volume stands',
];

/** Carries out a restore during which that dies then. */
async function attempt(kill: Kill, trigger: Trigger): Promise<ActionRun> {
  const { lives, die } = KILLS[kill];
  const struck = Promise.withResolvers<undefined>();
  struck.promise.catch(() => undefined);
  const lines = watchLines();
  const strike = async (watched: Pick<RunningAction, 'line'>): Promise<void> => {
    await trigger(watched);
    // The runner that dies with it has no last word.
    die()
      .then(letGo)
      .then(() => {
        struck.resolve(undefined);
      }, struck.reject);
    if (lives) await struck.promise;
  };
  const running = backUp(
    { mode: 'restore', confirm: 'shop', lease: '10' },
    {
      onEntry: lines.take,
      limitSeconds: 240,
      ...(kill === 'cancel' ? { cancelAfter: strike } : lives ? {} : { loseAfter: strike }),
    },
  );
  if (lives) await Promise.race([strike(lines), running]);
  if (kill === 'cut') await settled().finally(joinLink);
  const run = await running;
  await struck.promise;
  return run;
}

function watchLines(): { take: (entry: { readonly text?: string }) => void; line: RunningAction['line'] } {
  const seen: string[] = [];
  let wake = (): void => undefined;
  return {
    take: ({ text = '' }) => {
      seen.push(text);
      wake();
    },
    line: async (pattern) => {
      for (;;) {
        const found = seen.find((text) => pattern.test(text));
        if (found !== undefined) return found;
        await new Promise<void>((resolve) => (wake = resolve));
      }
    },
  };
}

test.each(CELLS.filter(({ kill, when }) => allKills || SAMPLE.includes(`${kill}: ${when}`)))(
  '$kill: $when',
  async ({ kill, trigger }) => {
    await write('now');
    const run = await attempt(kill, trigger);
    expect(run.outcome).toBe(kill === 'cancel' ? 'cancelled' : KILLS[kill].lives ? 'failure' : 'lost');
    await settled();
    const served = await read();
    // The database is the last, and nobody has put it into service.
    expect(served[0]).toBe('now 20000');
    for (const [index, word] of served.entries()) expect([whole('now')[index], whole('then')[index]]).toContain(word);
    const next = await backUp({ mode: 'restore', confirm: 'shop' });
    if (next.outcome !== 'success') throw new Error(next.log);
    expect(await read()).toEqual(whole('then'));
    expect(await asDeploy(`ls ${STORE}/backups`)).not.toMatch(/partial|restoring/);
    expect(
      await onServer(
        `docker exec ${containerOf('db')} psql -XAtq -U postgres -c "SELECT datname FROM pg_database WHERE datname LIKE 'slipway-new%'"`,
      ),
    ).toBe('');
    expect(await onServer('docker ps -aq --filter label=slipway.scratch')).toBe('');
    expect(await policies()).toEqual(['unless-stopped', 'unless-stopped', 'unless-stopped']);
  },
);

test('a deploy settles a restore that was cut off before it changes anything', async () => {
  await write('now');
  const loseAfter = moment(`[ -z "${containerOf('cache')}" ]`);
  await backUp({ mode: 'restore', confirm: 'shop', lease: '10' }, { loseAfter });
  await settled();
  const planned = await mustDeploy(checkout, { 'dry-run': 'true' });
  expect(planned.log).toContain('A restore was cut off on this server');
  expect(await asDeploy(`ls ${STORE}/backups`)).toContain('restoring');
  const run = await mustDeploy(checkout);
  expect(run.summary).toContain('A restore had been cut off');
  expect(await asDeploy(`ls ${STORE}/backups`)).not.toContain('restoring');
  expect(await onServer(`[ -n "${containerOf('cache')}" ] && echo runs`)).toBe('runs\n');
  await write('later');
  await mustDeploy(checkout);
  expect(await read()).toEqual(whole('later'));
});

test('when all is in service, it stays', async () => {
  await write('now');
  const run = await backUp(
    { mode: 'restore', confirm: 'shop', lease: '10' },
    { loseAfter: line(/postgres:db\/app: restored in/) },
  );
  expect(run.outcome).toBe('lost');
  await settled();
  expect(await read()).toEqual(whole('then'));
  await write('later');
  // What was written since is not taken away by whoever comes next.
  const next = await backUp({ what: 'postgres: db/app' });
  expect(next.outcome).toBe('success');
  expect(await read()).toEqual(whole('later'));
});
