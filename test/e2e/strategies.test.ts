/** How services are replaced: each key of the Compose file that says something of it has a test that is red when it is ignored. */
import { jest } from '@jest/globals';
import type { ActionRun } from './harness/index.ts';
import {
  appImage,
  asDeploy,
  type Checkout,
  deploy,
  errorsOf,
  freshServer,
  get,
  idsOf,
  onServer,
  planOf,
  projectFiles,
  publishApp,
  publishImage,
  removeCheckouts,
  restorable,
  running,
  sandboxInfo,
  serverState,
  startSandbox,
} from './sandbox.ts';

jest.setTimeout(120_000);

let checkout: Checkout;

/** Ready at once, though Docker's own first look comes in half a minute only; ends at once. */
const idle = {
  image: 'busybox:1',
  command: ['sleep', '1000000'],
  init: true,
  healthcheck: { test: ['CMD', 'true'], interval: '30s' },
};

/** So that a service is replaced. */
const marked = (mark: string): object => ({ environment: { MARK: mark } });

let project = 0;

/** Each test has a project of its own, and the server to itself. */
beforeEach(async () => {
  project++;
  await onServer('ids=$(docker ps -aq); [ -z "$ids" ] || docker rm -f $ids >/dev/null');
  checkout = await projectFiles({});
});

async function tryDeploy(
  services: Readonly<Record<string, object>>,
  inputs: Readonly<Record<string, string>> = {},
  more: object = {},
): Promise<ActionRun> {
  await checkout.write({ 'compose.yaml': JSON.stringify({ name: `p${project}`, services, ...more }) });
  return deploy(checkout, { timeout: '30', ...inputs });
}

async function mustDeploy(...args: Parameters<typeof tryDeploy>): Promise<ActionRun> {
  const run = await tryDeploy(...args);
  if (run.outcome !== 'success') throw new Error(`the deploy ended with ${run.outcome}:\n${run.log}`);
  return run;
}

interface Event {
  readonly seconds: number;
  readonly action: string;
  readonly service: string;
  readonly container: string;
}

/** What Docker tells while something is done, in its order; the daemon writes it down, so nothing is missed between two looks. */
async function recordEvents<T>(work: () => Promise<T>): Promise<{ result: T; events: Event[] }> {
  const filters = ['create', 'start', 'kill', 'die', 'destroy', 'health_status'].map(
    (event) => `--filter event=${event}`,
  );
  const format =
    '{{.TimeNano}} {{.Action}} {{index .Actor.Attributes "com.docker.compose.service"}} {{index .Actor.Attributes "name"}}';
  await onServer(
    `(exec setsid docker events --filter type=container ${filters.join(' ')} --format '${format}' </dev/null >/run/events.log 2>&1 & echo $! >/run/events.pid)
docker create --name marker busybox:1 true >/dev/null
until grep -q marker /run/events.log; do sleep 0.05; docker start marker >/dev/null; done; docker rm -f marker >/dev/null`,
  );
  const result = await work();
  const log = await onServer('sleep 0.3; kill $(cat /run/events.pid); cat /run/events.log');
  const events = log
    .trim()
    .split('\n')
    .map((line) => line.replaceAll(': ', ':').split(' '))
    .filter(([, , service, container]) => service !== '' && container !== 'marker')
    .map(([nano = '', action = '', service = '', container = '']) => ({
      seconds: Number(nano) / 1e9,
      action,
      service,
      container,
    }));
  if (events.length === 0) throw new Error(`no events: ${log}`);
  return { result, events };
}

const when = (events: readonly Event[], action: string, service: string): number[] =>
  events.filter((event) => event.action === action && event.service === service).map((event) => event.seconds);

const first = (events: readonly Event[], action: string, service: string): number => {
  const [time] = when(events, action, service);
  if (time === undefined) throw new Error(`no ${action} of ${service} in ${JSON.stringify(events)}`);
  return time;
};

/** The most containers of a service that ran at the same time. */
function mostAtOnce(events: readonly Event[], service: string, atFirst: readonly string[]): number {
  const up = new Set(atFirst);
  let most = up.size;
  for (const event of events.filter((one) => one.service === service)) {
    if (event.action === 'start') up.add(event.container);
    if (event.action === 'die') up.delete(event.container);
    most = Math.max(most, up.size);
  }
  return most;
}

const namesOf = async (service: string): Promise<string[]> =>
  (await serverState()).containers
    .filter((one) => one.service === service && one.state === 'running')
    .map((one) => one.name.replace('/', ''));

beforeAll(async () => {
  await startSandbox();
  for (const release of ['v1', 'v2']) await publishApp(release);
  await publishApp('unhealthy', ['TEST_UNHEALTHY=true']);
  await publishImage('busybox:1', 'pool:1', { Volumes: { '/data': {} } });
  await freshServer();
  await onServer('docker pull -q busybox:1');
});

afterAll(removeCheckouts);

describe('update_config', () => {
  const beside = (mark: string, more: object = {}, rest: object = {}): object => ({
    ...idle,
    ...marked(mark),
    ...rest,
    deploy: { replicas: 3, update_config: { order: 'start-first', ...more } },
  });

  test('parallelism and delay: so many at a time, with a pause between', async () => {
    const pace = { parallelism: 2, delay: '3s' };
    await mustDeploy({ app: beside('1', pace) });
    const { events } = await recordEvents(() => mustDeploy({ app: beside('2', pace) }));
    const [one = 0, two = 0, three = 0] = when(events, 'start', 'app');
    expect(two - one).toBeLessThan(2.5);
    expect(three - two).toBeGreaterThanOrEqual(2.9);
  });

  test('parallelism: the next group begins when the one before is ready', async () => {
    const slow = {
      command: ['sh', '-c', 'sleep 2; touch /tmp/ready; exec sleep 1000000'],
      healthcheck: { test: ['CMD', 'test', '-e', '/tmp/ready'], interval: '500ms', start_period: '30s' },
    };
    await mustDeploy({ app: beside('1', { parallelism: 1 }, slow) });
    const { events } = await recordEvents(() => mustDeploy({ app: beside('2', { parallelism: 1 }, slow) }));
    const [one = 0, two = 0, three = 0] = when(events, 'start', 'app');
    expect(two - one).toBeGreaterThanOrEqual(1.9);
    expect(three - two).toBeGreaterThanOrEqual(1.9);
  });

  test('order: start-first starts all new ones before an old one ends, stop-first the other way round', async () => {
    await mustDeploy({ app: beside('1') });
    const there = await recordEvents(() => mustDeploy({ app: beside('2') }));
    expect(there.result.log).toContain('replace without an outage');
    expect(Math.max(...when(there.events, 'start', 'app'))).toBeLessThan(first(there.events, 'die', 'app'));
    const back = await recordEvents(() => mustDeploy({ app: beside('3', { order: 'stop-first' }) }));
    expect(back.result.log).toContain('replace: stop the old, then start the new');
    const ends = when(back.events, 'die', 'app');
    expect(ends).toHaveLength(3);
    expect(Math.max(...ends)).toBeLessThan(first(back.events, 'start', 'app'));
  });

  test('order: start-first that cannot hold is refused, and says why', async () => {
    const run = await tryDeploy(
      {
        app: {
          ...idle,
          ports: ['8080:80'],
          volumes: ['data:/data'],
          deploy: { update_config: { order: 'start-first' } },
        },
      },
      {},
      { volumes: { data: {} } },
    );
    expect(run.outputs['result']).toBe('refused');
    expect(errorsOf(run)).toEqual([expect.stringMatching(/start-first.*has the volume .*publishes port 8080/s)]);
  });

  test('monitor: how long what is ready is watched', async () => {
    const run = await mustDeploy({ app: { ...idle, deploy: { update_config: { monitor: '4s' } } } });
    const seconds = Number(/^- wait until app is ready.*?([\d.]+) s/m.exec(run.log)?.[1]);
    expect(seconds).toBeGreaterThanOrEqual(3.9);
    expect(seconds).toBeLessThan(20);
  });

  test('what a transaction cannot honour is refused: all of it at once, and each by its name', async () => {
    const two = (deploy: object): object => ({ ...idle, deploy: { replicas: 2, ...deploy } });
    const run = await tryDeploy(
      {
        a: two({ update_config: { failure_action: 'pause' } }),
        b: two({ update_config: { failure_action: 'continue', max_failure_ratio: 0.3 } }),
        c: two({ rollback_config: { parallelism: 1 } }),
        d: two({ rollback_config: { delay: '5s', parallelism: 1 } }),
        e: two({ rollback_config: { monitor: '5s' } }),
        f: two({ rollback_config: { order: 'start-first' } }),
        g: two({ rollback_config: { failure_action: 'pause', max_failure_ratio: 0.5 } }),
        h: two({ update_config: { failure_action: 'rollback' }, rollback_config: { order: 'stop-first' } }),
      },
      { 'dry-run': 'true' },
    );
    expect(run.outputs['result']).toBe('refused');
    const [error = ''] = errorsOf(run);
    for (const asked of [
      'a asks for `update_config.failure_action: pause`',
      'b asks for `update_config.failure_action: continue`',
      'b asks for `update_config.max_failure_ratio: 0.3`',
      'c asks for `rollback_config.parallelism: 1`',
      'd asks for `rollback_config.delay: 5s`',
      'e asks for `rollback_config.monitor: 5s`',
      'f asks for `rollback_config.order: start-first`',
      'g asks for `rollback_config.failure_action: pause`',
      'g asks for `rollback_config.max_failure_ratio: 0.5`',
    ]) {
      expect(error).toContain(`Service ${asked}`);
    }
    expect(error).not.toContain('Service h');
  });
});

describe('healthcheck', () => {
  test('test, interval, timeout, retries, start_period and start_interval arrive at Docker as they are', async () => {
    await mustDeploy({
      app: {
        ...idle,
        healthcheck: {
          test: ['CMD-SHELL', 'true # "as" it $$is'],
          interval: '7s',
          timeout: '6s',
          retries: 5,
          start_period: '4s',
          start_interval: '3s',
        },
      },
    });
    expect(JSON.parse(await onServer(`docker inspect -f '{{json .Config.Healthcheck}}' ${running('app')}`))).toEqual({
      Test: ['CMD-SHELL', 'true # "as" it $is'],
      Interval: 7e9,
      Timeout: 6e9,
      Retries: 5,
      StartPeriod: 4e9,
      StartInterval: 3e9,
    });
  });

  test('test: that of the file decides, not that of the image', async () => {
    const run = await tryDeploy({
      app: { image: appImage('v1'), healthcheck: { test: ['CMD', 'false'], interval: '500ms', retries: 1 } },
    });
    expect(run.outputs['result']).toBe('reverted');
    expect(errorsOf(run)[0]).toMatch(/app-1 is unhealthy/);
  });

  test('timeout: a test that takes longer has failed', async () => {
    const run = await tryDeploy({
      app: { ...idle, healthcheck: { test: ['CMD', 'sleep', '5'], interval: '500ms', timeout: '1s', retries: 1 } },
    });
    expect(run.outputs['result']).toBe('reverted');
    expect(errorsOf(run)[0]).toMatch(/app-1 is unhealthy/);
  });

  test('start_period and retries: a failure within it does not count, so many after it do', async () => {
    const slow = (check: object): object => ({
      ...idle,
      command: ['sh', '-c', 'sleep 4; touch /tmp/ready; exec sleep 1000000'],
      healthcheck: { test: ['CMD', 'test', '-e', '/tmp/ready'], interval: '500ms', ...check },
    });
    const without = await tryDeploy({ app: slow({ retries: 1 }) });
    expect(errorsOf(without)[0]).toMatch(/app-1 is unhealthy/);
    await mustDeploy({ app: slow({ retries: 1, start_period: '60s' }) });
    await mustDeploy({ app: { ...slow({ retries: 60 }), ...marked('patient') } });
  });

  test('disable: what the image says of its health is not asked', async () => {
    const run = await mustDeploy({ app: { image: appImage('unhealthy'), healthcheck: { disable: true } } });
    expect(run.annotations.map(({ message }) => message)).toEqual([
      expect.stringMatching(/app has no health check: it counts as ready since it ran for 5 s/),
    ]);
  });
});

describe('stop_grace_period and restart', () => {
  test('stop_grace_period: so long has the old one to end', async () => {
    // The first process of a container, which ignores SIGTERM as long as it has no handler for it.
    const stubborn = (mark: string): object => ({ ...idle, ...marked(mark), init: false, stop_grace_period: '3s' });
    await mustDeploy({ app: stubborn('1') });
    const { events } = await recordEvents(() => mustDeploy({ app: stubborn('2') }));
    const took = first(events, 'die', 'app') - first(events, 'kill', 'app');
    expect(took).toBeGreaterThanOrEqual(2.5);
    // Docker's own would be 10 s.
    expect(took).toBeLessThan(8);
  });

  test('restart and restart_policy: the new replicas have their own in the end', async () => {
    const both = (mark: string): Record<string, object> => ({
      app: { ...idle, ...marked(mark), restart: 'unless-stopped' },
      job: { ...idle, ...marked(mark), deploy: { restart_policy: { condition: 'on-failure', max_attempts: 3 } } },
      plain: { ...idle, ...marked(mark) },
    });
    await mustDeploy(both('1'));
    await mustDeploy(both('2'));
    const policyOf = async (service: string): Promise<string> =>
      onServer(
        `docker inspect -f '{{.HostConfig.RestartPolicy.Name}}:{{.HostConfig.RestartPolicy.MaximumRetryCount}}' ${running(service)}`,
      );
    expect(await policyOf('app')).toBe('unless-stopped:0\n');
    expect(await policyOf('job')).toBe('on-failure:3\n');
    expect(await policyOf('plain')).toBe('no:0\n');
  });
});

describe('depends_on', () => {
  test('service_healthy and service_completed_successfully: the next one starts when they hold, on the first deploy and later', async () => {
    const services = (mark: string): Record<string, object> => ({
      app: {
        ...idle,
        ...marked(mark),
        depends_on: {
          db: { condition: 'service_healthy' },
          migrate: { condition: 'service_completed_successfully' },
        },
      },
      db: {
        ...idle,
        ...marked(mark),
        command: ['sh', '-c', 'sleep 2; touch /tmp/ready; exec sleep 1000000'],
        healthcheck: { test: ['CMD', 'test', '-e', '/tmp/ready'], interval: '500ms', start_period: '30s' },
      },
      migrate: { image: 'busybox:1', ...marked(mark), command: ['sh', '-c', 'sleep 1'] },
    });
    for (const mark of ['1', '2']) {
      const { events } = await recordEvents(() => mustDeploy(services(mark)));
      const started = Math.max(...when(events, 'start', 'app'));
      expect(started - Math.max(...when(events, 'start', 'db'))).toBeGreaterThanOrEqual(1.9);
      const ended = events.filter(({ service, action }) => service === 'migrate' && action === 'die');
      expect(started).toBeGreaterThan(ended[0]?.seconds ?? Infinity);
      // What is side by side until the commit is in nobody's way afterwards: one of each.
      for (const service of ['app', 'db', 'migrate']) expect(idsOf(await serverState(), service)).toHaveLength(1);
    }
  });

  test('service_started: in this order; one that fails keeps the next from being touched', async () => {
    const services = (mark: string, command: string[]): Record<string, object> => ({
      app: { ...idle, ...marked(mark), depends_on: { db: { condition: 'service_started' } } },
      db: { ...idle, ...marked(mark), command },
    });
    const { events } = await recordEvents(() => mustDeploy(services('1', ['sleep', '1000000'])));
    expect(first(events, 'start', 'app')).toBeGreaterThan(first(events, 'start', 'db'));
    const before = await serverState();
    const failing = await recordEvents(() => tryDeploy(services('2', ['false'])));
    expect(failing.result.outputs['result']).toBe('reverted');
    expect(failing.events.filter(({ service }) => service === 'app')).toEqual([]);
    expect(restorable(await serverState())).toEqual(restorable(before));
  });

  test('restart: true: replaced together, though only the other one has changed', async () => {
    const services = (mark: string): Record<string, object> => ({
      app: { ...idle, depends_on: { db: { condition: 'service_started', restart: true } } },
      other: { ...idle, depends_on: { db: { condition: 'service_started' } } },
      db: { ...idle, ...marked(mark) },
    });
    await mustDeploy(services('1'));
    const before = await serverState();
    const run = await mustDeploy(services('2'));
    const after = await serverState();
    expect(planOf(run)['app']).toMatchObject({
      action: 'replace',
      reasons: ['db, which it is replaced with, is replaced'],
    });
    expect(idsOf(after, 'app')).not.toEqual(idsOf(before, 'app'));
    expect(idsOf(after, 'other')).toEqual(idsOf(before, 'other'));
  });

  test('required: false: without the other one, where it is in a profile', async () => {
    const run = await mustDeploy({
      app: { ...idle, depends_on: { debug: { condition: 'service_started', required: false } } },
      debug: { ...idle, profiles: ['debug'] },
    });
    expect(run.outputs['changed-services']).toBe('["app"]');
  });
});

describe('a service with data', () => {
  const services = (mark: string, more: object = {}): [Record<string, object>, Record<string, string>, object] => [
    { db: { ...idle, ...marked(mark), restart: 'always', volumes: ['data:/data'], ...more } },
    {},
    { volumes: { data: {} } },
  ];

  test('never runs twice, neither on the way forth nor on the way back; the outage is announced', async () => {
    await mustDeploy(...services('1'));
    const there = await recordEvents(async () => mustDeploy(...services('2')));
    expect(when(there.events, 'start', 'db')).toHaveLength(1);
    const before = await serverState();
    const names = await namesOf('db');
    expect(mostAtOnce(there.events, 'db', [`p${project}-db-1`])).toBe(1);
    expect(planOf(there.result)['db']).toMatchObject({
      strategy: { order: 'stop-first', reasons: [expect.stringMatching(/^has the volume /)] },
    });
    expect(there.result.log).toMatch(/db .*replace: stop the old, then start the new \(has the volume/);
    const back = await recordEvents(async () =>
      tryDeploy(...services('3', { healthcheck: { test: ['CMD', 'false'], interval: '500ms', retries: 2 } })),
    );
    expect(back.result.outputs['result']).toBe('reverted');
    expect(when(back.events, 'start', 'db')).toHaveLength(2);
    expect(mostAtOnce(back.events, 'db', names)).toBe(1);
    // The very one that ran before, with its own restart policy.
    expect(idsOf(await serverState(), 'db')).toEqual(idsOf(before, 'db'));
    expect(await onServer(`docker inspect -f {{.HostConfig.RestartPolicy.Name}} ${running('db')}`)).toBe('always\n');
  });

  test('with a dependent that is replaced in place: the way back has the very same container', async () => {
    const pair = (mark: string, app: object = {}): [Record<string, object>, Record<string, string>, object] => {
      const [{ db = {} }, inputs, more] = services(mark);
      return [
        {
          db,
          app: {
            ...idle,
            ...marked(mark),
            container_name: 'the-app',
            depends_on: { db: { condition: 'service_healthy' } },
            ...app,
          },
        },
        inputs,
        more,
      ];
    };
    await mustDeploy(...pair('1'));
    const before = await serverState();
    const { result, events } = await recordEvents(() =>
      tryDeploy(...pair('2', { healthcheck: { test: ['CMD', 'false'], interval: '500ms', retries: 2 } })),
    );
    expect(result.outputs['result']).toBe('reverted');
    expect(mostAtOnce(events, 'db', [`p${project}-db-1`])).toBe(1);
    expect(restorable(await serverState())).toEqual(restorable(before));
    await mustDeploy(...pair('3'));
    for (const service of ['db', 'app']) expect(idsOf(await serverState(), service)).toHaveLength(1);
  });
});

describe('in place', () => {
  test('container_name: the same name before and after, and after a way back', async () => {
    const named = (tag: string): Record<string, object> => ({
      app: { image: appImage(tag), container_name: 'fixed', ports: ['8080:3000'] },
    });
    await mustDeploy(named('v1'));
    const run = await mustDeploy(named('v2'));
    expect(planOf(run)['app']).toMatchObject({ strategy: { order: 'in-place' } });
    expect(await namesOf('app')).toEqual(['fixed']);
    expect(await get(8080)).toBe('v2');
    const before = await serverState();
    const failing = await tryDeploy(named('unhealthy'));
    expect(failing.outputs['result']).toBe('reverted');
    expect(await get(8080)).toBe('v2');
    expect(restorable(await serverState())).toEqual(restorable(before));
    await asDeploy(`cd apps/p${project} && docker compose up -d`);
    expect(restorable(await serverState())).toEqual(restorable(before));
  });

  test('an anonymous volume: its data is handed on, also on the way back', async () => {
    const pool = (mark: string, more: object = {}): Record<string, object> => ({
      app: { ...idle, image: `${sandboxInfo().registry.open}/pool:1`, ...marked(mark), ...more },
    });
    await mustDeploy(pool('1'));
    await onServer(`docker exec ${running('app')} sh -c 'echo kept >/data/file'`);
    const run = await mustDeploy(pool('2'));
    expect(planOf(run)['app']).toMatchObject({
      strategy: { order: 'in-place', reasons: [expect.stringMatching(/anonymous volume at \/data/)] },
    });
    expect(await onServer(`docker exec ${running('app')} cat /data/file`)).toBe('kept\n');
    const failing = await tryDeploy(
      pool('3', { healthcheck: { test: ['CMD', 'false'], interval: '500ms', retries: 2 } }),
    );
    expect(failing.outputs['result']).toBe('reverted');
    expect(await onServer(`docker exec ${running('app')} cat /data/file`)).toBe('kept\n');
  });
});
