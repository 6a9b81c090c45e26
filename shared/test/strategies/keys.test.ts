import fc from 'fast-check';
import type { Json } from '../../src/json';
import { parseProject } from '../../src/compose/project';
import { judgeKeys, KEY_RULES, type ReplacementOrder, splitReplicas } from '../../src/strategies/keys';

function judge(service: Readonly<Record<string, Json>>, order: ReplacementOrder = 'start-first'): string[] {
  const [read] = parseProject(JSON.stringify({ services: { api: service } })).services;
  return read === undefined
    ? []
    : judgeKeys(read, order).map(({ message }) => message.replace(/^Service api asks for /, ''));
}

const update = (config: Json, replicas = 3): Record<string, Json> => ({ deploy: { replicas, update_config: config } });
const rollback = (config: Json, replicas = 3): Record<string, Json> => ({
  deploy: { replicas, rollback_config: config },
});

/** https://docs.docker.com/reference/compose-file/deploy/ and /services/ */
test('the tables have every key of the specification', () => {
  const keys = Object.fromEntries(
    Object.entries(KEY_RULES).map(([place, table]) => [place, Object.keys(table).sort()]),
  );
  const pace = ['delay', 'failure_action', 'max_failure_ratio', 'monitor', 'order', 'parallelism'];
  expect(keys).toEqual({
    'deploy.update_config': pace,
    'deploy.rollback_config': pace,
    'deploy.restart_policy': ['condition', 'delay', 'max_attempts', 'window'],
    healthcheck: ['disable', 'interval', 'retries', 'start_interval', 'start_period', 'test', 'timeout'],
    depends_on: ['condition', 'required', 'restart'],
    service: ['stop_grace_period', 'stop_signal'],
  });
});

test('all that is honoured at once', () => {
  const pace = { parallelism: 1, delay: '10s', order: 'start-first', monitor: '1m0s', max_failure_ratio: 0 };
  expect(
    judge({
      deploy: {
        replicas: 3,
        update_config: { ...pace, failure_action: 'rollback', 'x-note': 'mine' },
        rollback_config: { ...pace, failure_action: 'continue' },
        restart_policy: { condition: 'on-failure', max_attempts: 3, delay: '5s', window: '2m0s' },
      },
      healthcheck: {
        test: ['CMD', 'true'],
        interval: '1s',
        timeout: '1s',
        retries: 3,
        start_period: '1s',
        start_interval: '1s',
      },
      depends_on: { db: { condition: 'service_healthy', restart: true, required: false } },
    }),
  ).toEqual([]);
});

test.each<[Json, string]>([
  [{ failure_action: 'pause' }, '`update_config.failure_action: pause`, which a transaction cannot honour.'],
  [{ failure_action: 'continue' }, '`update_config.failure_action: continue`, which a transaction cannot honour.'],
  [{ failure_action: 'explode' }, '`update_config.failure_action: explode`, which a transaction cannot honour.'],
  [
    { failure_action: '`x`\n::error::' },
    "`update_config.failure_action: 'x' ::error::`, which a transaction cannot honour.",
  ],
  [
    { max_failure_ratio: 0.1 },
    '`update_config.max_failure_ratio: 0.1`, and a transaction has no failures that it tolerates: one replica that fails undoes the release.',
  ],
  [{ order: 'sideways' }, '`update_config.order: sideways`, which is no order.'],
  // Compose lets it through.
  [{ delay: '-5s' }, '`update_config.delay: -5s`, which is no duration.'],
  [{ monitor: 5 }, '`update_config.monitor: 5`, which is no duration.'],
  [{ parallelism: -1 }, '`update_config.parallelism: -1`, which is no number of replicas.'],
  [{ parallelism: [2] }, '`update_config.parallelism`, which is no number of replicas.'],
  [{ surge: 1 }, '`update_config.surge: 1`, which Slipway does not know, and ignores nothing.'],
  [{ constructor: 1 }, '`update_config.constructor: 1`, which Slipway does not know, and ignores nothing.'],
])('update_config %j is refused', (config, message) => {
  expect(judge(update(config))).toEqual([message]);
});

describe('rollback_config', () => {
  test.each<[Json, ReplacementOrder, number, string[]]>([
    [{ parallelism: 1, delay: '1s', monitor: '5s', order: 'start-first' }, 'start-first', 3, []],
    [{ order: 'stop-first' }, 'start-first', 3, []],
    [{ order: 'stop-first' }, 'in-place', 3, []],
    [
      { order: 'start-first' },
      'stop-first',
      3,
      [
        '`rollback_config.order: start-first`, and the way forth is stop-first: on the way back, too, the new replicas must be gone before the old ones start.',
      ],
    ],
    [
      { parallelism: 1 },
      'stop-first',
      3,
      ['`rollback_config.parallelism: 1`, and the way back starts all old replicas at once.'],
    ],
    [
      { parallelism: 1, delay: '1s' },
      'in-place',
      3,
      [
        '`rollback_config.parallelism: 1`, and the way back starts all old replicas at once.',
        '`rollback_config.delay: 1s`, and the way back does not wait between replicas.',
      ],
    ],
    [{ parallelism: 1, delay: '1s' }, 'stop-first', 1, []],
    [{ parallelism: 0, delay: '1s' }, 'stop-first', 3, []],
    [{ parallelism: 3 }, 'stop-first', 3, []],
    [
      { monitor: '5s' },
      'stop-first',
      3,
      ['`rollback_config.monitor: 5s`, and the server, which goes back alone, does not watch it.'],
    ],
    [{ monitor: '0s' }, 'stop-first', 3, []],
    [
      { failure_action: 'pause' },
      'start-first',
      3,
      ['`rollback_config.failure_action: pause`, and to stop half-way back would leave half of each release.'],
    ],
    [
      { failure_action: 'rollback' },
      'start-first',
      3,
      ['`rollback_config.failure_action: rollback`, and to stop half-way back would leave half of each release.'],
    ],
    [
      { max_failure_ratio: 1 },
      'start-first',
      3,
      [
        '`rollback_config.max_failure_ratio: 1`, and a transaction has no failures that it tolerates: one replica that fails undoes the release.',
      ],
    ],
  ])('%j of a service that is replaced %s, with %d replicas', (config, order, replicas, expected) => {
    expect(judge(rollback(config, replicas), order)).toEqual(expected);
  });
});

test.each<[Record<string, Json>, string[]]>([
  [
    { deploy: { restart_policy: { condition: 'any', max_attempts: 3 } } },
    ['`restart_policy.max_attempts: 3`, which Docker takes with `condition: on-failure` only.'],
  ],
  [
    { deploy: { restart_policy: { max_attempts: 3 } } },
    ['`restart_policy.max_attempts: 3`, which Docker takes with `condition: on-failure` only.'],
  ],
  [{ healthcheck: { grace: '1s' } }, ['`healthcheck.grace: 1s`, which Slipway does not know, and ignores nothing.']],
  [
    { depends_on: { db: { condition: 'service_lucky' } } },
    ['`depends_on.db.condition: service_lucky`, which is no condition.'],
  ],
  [
    { depends_on: { db: { optional: true } } },
    ['`depends_on.db.optional: true`, which Slipway does not know, and ignores nothing.'],
  ],
  [{ depends_on: ['db'], healthcheck: null, deploy: null }, []],
  [{ deploy: { update_config: { delay: null, surge: null } } }, []],
])('%j', (service, expected) => {
  expect(judge(service)).toEqual(expected);
});

test('groups are as large as they may be, and together all (property)', () => {
  fc.assert(
    fc.property(fc.nat(200), fc.option(fc.nat(50), { nil: undefined }), (replicas, parallelism) => {
      const groups = splitReplicas(replicas, parallelism);
      const size = parallelism === undefined || parallelism === 0 ? replicas : Math.min(parallelism, replicas);
      expect(groups.reduce((sum, count) => sum + count, 0)).toBe(replicas);
      expect(groups.slice(0, -1).every((count) => count === size)).toBe(true);
      expect(groups.every((count) => count >= 1 && count <= Math.max(1, size))).toBe(true);
    }),
  );
});
