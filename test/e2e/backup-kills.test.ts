/** A restore whose runner is lost, at each of its moments: whole data serves, and the next restore works. */
import { jest } from '@jest/globals';
import { containerOf, DATA_PROJECT } from './data-project.ts';
import type { RunningAction } from './harness/index.ts';
import {
  asDeploy,
  backUp,
  type Checkout,
  freshServer,
  mustDeploy,
  onServer,
  projectFiles,
  removeCheckouts,
  sampled,
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
/** The guardian of the lost runner has ended. */
const settled = (): Promise<string> =>
  onServer(
    `for n in $(seq 400); do [ -n "$(docker ps -aq --filter label=slipway.scratch)" ] || flock -n ${STORE}/lock true && exit 0; sleep 0.1; done; exit 1`,
  );

beforeAll(async () => {
  await freshServer();
  checkout = await projectFiles({ 'compose.yaml': DATA_PROJECT });
  await mustDeploy(checkout);
  await write('then');
  const run = await backUp({ what: 'postgres: db/app\nredis: cache\nvolume: uploads stopped' });
  if (run.outcome !== 'success') throw new Error(run.log);
});

afterAll(removeCheckouts);

const line = (pattern: RegExp) => async (running: RunningAction) => {
  await running.line(pattern);
};
const moment = (script: string) => async () => {
  await onServer(`until ${script}; do sleep 0.01; done`);
};

const MOMENTS: readonly [string, (running: RunningAction) => Promise<void>][] = [
  ['before anything is prepared', line(/▼ Restore|Restore 2/)],
  [
    'while the database is restored beside',
    moment(
      `docker exec ${containerOf('db')} psql -XAtq -U postgres -c 'SELECT datname FROM pg_database' | grep -q slipway-new`,
    ),
  ],
  ['when it is beside', line(/restored beside the one in service/)],
  ['while the volume stands', moment(`[ -z "${containerOf('files')}" ]`)],
  ['when the volume is restored', line(/volume:uploads: restored in/)],
  ['while Redis stands', moment(`[ -z "${containerOf('cache')}" ]`)],
  ['when Redis is restored', line(/redis:cache: restored in/)],
];

test.each(sampled(MOMENTS, [1, 3, 5]))('%s', async (_, loseAfter) => {
  await write('now');
  const run = await backUp({ mode: 'restore', confirm: 'shop', lease: '10' }, { loseAfter });
  expect(run.outcome).toBe('lost');
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
});

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
