import type { ContainerState, ProbeResult } from '../../src/probes/container';
import {
  findDecline,
  judgeReadiness,
  type Probes,
  type Readiness,
  type ReadinessTarget,
  recordProbe,
} from '../../src/probes/readiness';

function container(over: Partial<ContainerState> = {}): ContainerState {
  return {
    id: 'c1',
    name: 'shop-web-1',
    project: 'shop',
    service: 'web',
    image: 'web:1',
    imageId: 'sha256:1',
    state: 'running',
    health: 'none',
    healthLog: [],
    exitCode: 0,
    oomKilled: false,
    error: '',
    restartCount: 0,
    startedAt: '2026-11-22T12:00:00Z',
    configHash: 'h',
    number: 1,
    oneoff: false,
    mounts: [],
    ...over,
  };
}

const target = (over: Partial<ReadinessTarget> = {}): ReadinessTarget => ({
  service: 'web',
  replicas: 1,
  oneShot: false,
  stableSeconds: 5,
  ...over,
});

/** Judges a series of looks, one a second; each verdict in short. */
function watch(
  looks: readonly (readonly ContainerState[])[],
  targets: readonly ReadinessTarget[] = [target()],
  probes: Probes = new Map(),
): string[] {
  let sightings: Extract<Readiness, { kind: 'waiting' }>['sightings'] = new Map();
  return looks.map((containers, second) => {
    const verdict = judgeReadiness(targets, containers, sightings, second * 1000, probes);
    switch (verdict.kind) {
      case 'ready':
        return 'ready';
      case 'waiting':
        sightings = verdict.sightings;
        return verdict.reasons.join('; ');
      case 'failed':
        return `FAILED ${verdict.service}: ${verdict.reason}`;
    }
  });
}

const up = (over: Partial<ContainerState> = {}): ContainerState[] => [container(over)];
const times = <T>(count: number, look: T): T[] => Array.from({ length: count }, () => look);
const WATCHING = 'shop-web-1 has no health check: watching it for 5 s';

test.each<[string, readonly (readonly ContainerState[])[], readonly string[], ReadinessTarget?]>([
  ['healthy at once', [up({ health: 'healthy' })], ['ready']],
  [
    'starting, then healthy',
    [up({ health: 'starting' }), up({ health: 'healthy' })],
    ['shop-web-1 is starting', 'ready'],
  ],
  [
    'unhealthy',
    [up({ health: 'starting' }), up({ health: 'unhealthy' })],
    ['shop-web-1 is starting', 'FAILED web: shop-web-1 is unhealthy'],
  ],
  ['without a health check: stable for its time', times(6, up()), [...times(5, WATCHING), 'ready']],
  [
    'a restart starts the time again',
    [
      up(),
      up(),
      up(),
      up({ restartCount: 1, startedAt: 'later' }),
      ...times(5, up({ restartCount: 1, startedAt: 'later' })),
    ],
    [...times(8, WATCHING), 'ready'],
  ],
  [
    'so does a stop between two looks that only the start time tells of',
    [up(), up(), up({ startedAt: 'later' }), ...times(5, up({ startedAt: 'later' }))],
    [...times(7, WATCHING), 'ready'],
  ],
  [
    'the time counts from running on',
    [
      up({ state: 'created', startedAt: '0001-01-01T00:00:00Z' }),
      up({ state: 'restarting', restartCount: 1 }),
      ...times(6, up({ restartCount: 1, startedAt: 'later' })),
    ],
    ['shop-web-1 is created', 'shop-web-1 is restarting', ...times(5, WATCHING), 'ready'],
  ],
  ['no time wanted', [up()], ['ready'], target({ stableSeconds: 0 })],
  [
    'two restarts are allowed, a third is a crash loop',
    [
      up({ state: 'restarting', restartCount: 2, exitCode: 1 }),
      up({ state: 'restarting', restartCount: 3, exitCode: 1 }),
    ],
    ['shop-web-1 is restarting', 'FAILED web: shop-web-1 is in a crash loop: restarted 3 times, last exit code 1'],
  ],
  [
    'killed for lack of memory',
    [up({ state: 'exited', exitCode: 137, oomKilled: true })],
    ['FAILED web: shop-web-1 was killed for lack of memory (OOM), exit code 137'],
  ],
  [
    'cannot be started',
    [up({ state: 'created', error: 'port is already allocated' })],
    ['FAILED web: shop-web-1 could not be started: port is already allocated'],
  ],
  ['ended with an error', [up({ state: 'exited', exitCode: 3 })], ['FAILED web: shop-web-1 ended with exit code 3']],
  [
    'ended well, and was not to end',
    [up({ state: 'exited' })],
    [
      'FAILED web: shop-web-1 ended with exit code 0; if ending is its job, say `x-slipway: { one-shot: true }` in its service',
    ],
  ],
  ['dead', [up({ state: 'dead', exitCode: 1 })], ['FAILED web: shop-web-1 ended with exit code 1']],
  [
    'paused, removing',
    [up({ state: 'paused' }), up({ state: 'removing' })],
    ['shop-web-1 is paused', 'shop-web-1 is removing'],
  ],
  [
    'a one-shot service ends',
    [up({ state: 'running' }), up({ state: 'exited' })],
    ['shop-web-1 has not ended yet', 'ready'],
    target({ oneShot: true }),
  ],
  [
    'a one-shot service fails',
    [up({ state: 'exited', exitCode: 2 })],
    ['FAILED web: shop-web-1 ended with exit code 2'],
    target({ oneShot: true }),
  ],
  ['no container yet', [[], up({ health: 'healthy' })], ['web: 0 of 1 replicas exist', 'ready']],
  [
    'a replica is missing',
    [
      up({ health: 'healthy' }),
      [container({ health: 'healthy' }), container({ id: 'c2', name: 'shop-web-2', health: 'starting' })],
    ],
    ['web: 1 of 2 replicas exist', 'shop-web-2 is starting'],
    target({ replicas: 2 }),
  ],
  [
    'one bad replica is enough',
    [[container({ health: 'healthy' }), container({ id: 'c2', name: 'shop-web-2', health: 'unhealthy' })]],
    ['FAILED web: shop-web-2 is unhealthy'],
    target({ replicas: 2 }),
  ],
  ['no replicas wanted', [[]], ['ready'], target({ replicas: 0 })],
  ['what `compose run` made does not count', [up({ oneoff: true, health: 'healthy' })], ['web: 0 of 1 replicas exist']],
  ['other services do not count', [up({ service: 'db', health: 'unhealthy' })], ['web: 0 of 1 replicas exist']],
])('%s', (_name, looks, expected, one = target()) => {
  expect(watch(looks, [one])).toEqual(expected);
});

test('several services: everything that is waited for is named, the first that is broken ends it', () => {
  const targets = [target(), target({ service: 'db' })];
  const db = container({ id: 'd1', name: 'shop-db-1', service: 'db', health: 'starting' });
  expect(
    watch(
      [
        [container(), db],
        [container(), { ...db, health: 'unhealthy' }],
      ],
      targets,
    ),
  ).toEqual([`${WATCHING}; shop-db-1 is starting`, 'FAILED db: shop-db-1 is unhealthy']);
});

test('a failure brings the container that it is about', () => {
  expect(
    judgeReadiness(
      [target()],
      [container({ health: 'healthy' }), container({ id: 'c2', health: 'unhealthy' })],
      new Map(),
      0,
    ),
  ).toMatchObject({ containers: [{ id: 'c2' }] });
});

test.each<[string, readonly ContainerState[], string | undefined, ReadinessTarget?]>([
  ['nothing changed', up(), undefined],
  ['gone', [], 'shop-web-1 is gone'],
  ['recreated', up({ id: 'c2' }), 'shop-web-1 is gone'],
  [
    'out of memory',
    up({ oomKilled: true }),
    'shop-web-1 was killed for lack of memory (OOM) after it had become ready',
  ],
  ['crashed', up({ restartCount: 2, exitCode: 1 }), 'shop-web-1 crashed after it had become ready (restarted 2 times)'],
  ['restarted by hand', up({ startedAt: 'later' }), 'shop-web-1 was restarted by hand after it had become ready'],
  ['ended', up({ state: 'exited', exitCode: 1 }), 'shop-web-1 ended after it had become ready: exited, exit code 1'],
  ['unhealthy', up({ health: 'unhealthy' }), 'shop-web-1 became unhealthy after it had been ready'],
  ['a one-shot service that has ended', up({ state: 'exited' }), undefined, target({ oneShot: true })],
  ['another service', [container(), container({ id: 'x', service: 'db', state: 'exited' })], undefined],
])('findDecline: %s', (_name, now, expected, one = target()) => {
  expect(findDecline(up(), now, [one])?.reason).toBe(expected);
});

test('findDecline looks at nothing but its targets, and not at what `compose run` made', () => {
  expect(findDecline(up(), [], [target({ service: 'db' })])).toBeUndefined();
  expect(findDecline(up({ oneoff: true }), [], [target()])).toBeUndefined();
});

const STARTED_AT = container().startedAt;
const passed: ProbeResult = { containerId: 'c1', startedAt: STARTED_AT, result: 0 };
const after = (...results: readonly ProbeResult[]): Probes => results.reduce(recordProbe, new Map());

test.each<[string, Probes, Partial<ContainerState>, string]>([
  ['passed', after(passed), {}, 'ready'],
  ['passed, and failed once more', after(passed, { ...passed, result: 1 }), {}, 'ready'],
  ['passed before a restart', after({ ...passed, startedAt: 'before' }), {}, 'shop-web-1 is starting'],
  ['passed in another container', after({ ...passed, containerId: 'c2' }), {}, 'shop-web-1 is starting'],
  ['failed', after({ ...passed, result: 7 }), {}, 'shop-web-1 is starting (its health command ends with 7)'],
  [
    'took too long',
    after({ ...passed, result: 'timeout' }),
    {},
    'shop-web-1 is starting (its health command takes longer than its time limit)',
  ],
  [
    'passed, and Docker has the last word',
    after(passed),
    { health: 'unhealthy' },
    'FAILED web: shop-web-1 is unhealthy',
  ],
  [
    'passed, and the container ended',
    after(passed),
    { state: 'exited', exitCode: 1 },
    'FAILED web: shop-web-1 ended with exit code 1',
  ],
])('a health command of ours: %s', (_name, probes, over, expected) => {
  expect(watch([up({ health: 'starting', ...over })], [target()], probes)).toEqual([expected]);
});

const healthy = up({ health: 'healthy' });
const MONITORING = 'shop-web-1 is ready: watching it for 2 s';

test.each<[string, readonly (readonly ContainerState[])[], readonly string[], ReadinessTarget?]>([
  ['good all the time', times(3, healthy), [MONITORING, MONITORING, 'ready']],
  ['gone', [healthy, []], [MONITORING, 'FAILED web: shop-web-1 is gone']],
  [
    'crashed once',
    [healthy, up({ health: 'starting', restartCount: 1, startedAt: 'later' })],
    [MONITORING, 'FAILED web: shop-web-1 crashed after it had become ready (restarted once)'],
  ],
  [
    'unhealthy',
    [healthy, up({ health: 'unhealthy' })],
    [MONITORING, 'FAILED web: shop-web-1 became unhealthy after it had been ready'],
  ],
  [
    'a restart before it was ready is none after it',
    [up({ health: 'starting' }), up({ health: 'healthy', restartCount: 1, startedAt: 'later' })],
    ['shop-web-1 is starting', MONITORING],
  ],
  [
    'without a health check the time counts once',
    times(6, up()),
    [...times(5, WATCHING), 'ready'],
    target({ monitorSeconds: 4 }),
  ],
  [
    'without a health check the longer time counts',
    times(4, up()),
    [WATCHING.replace('5 s', '1 s'), MONITORING, 'ready', 'ready'],
    target({ monitorSeconds: 2, stableSeconds: 1 }),
  ],
  [
    'a one-shot service is not monitored',
    [up({ state: 'exited' })],
    ['ready'],
    target({ oneShot: true, monitorSeconds: 2 }),
  ],
])('monitored: %s', (_name, looks, expected, one = target({ monitorSeconds: 2 })) => {
  expect(watch(looks, [one])).toEqual(expected);
});

test('old replicas that run beside the new ones do not count, whatever becomes of them', () => {
  const old = container({ id: 'old', health: 'healthy' });
  const one = target({ ignoring: new Set(['old']), monitorSeconds: 1 });
  expect(
    watch([[old], [{ ...old, health: 'unhealthy' }, ...healthy], [{ ...old, state: 'exited' }, ...healthy]], [one]),
  ).toEqual(['web: 0 of 1 replicas exist', 'shop-web-1 is ready: watching it for 1 s', 'ready']);
  expect(findDecline([old], [], [one])).toBeUndefined();
});
