import fc from 'fast-check';
import type { Json } from '../../src/json';
import { parseProject, type Project } from '../../src/compose/project';
import { parseContainers } from '../../src/probes/container';
import { type ChosenStrategies, chooseStrategies } from '../../src/strategies/choose';

type Services = Readonly<Record<string, Readonly<Record<string, Json>>>>;

const project = (services: Services): Project => parseProject(JSON.stringify({ name: 'shop', services }));
const choose = (services: Services, mounts: Readonly<Record<string, Json>> = {}): ChosenStrategies =>
  chooseStrategies(
    project(services),
    parseContainers(
      JSON.stringify(
        Object.entries(mounts).map(([service, list]) => ({
          Id: service,
          Name: `/shop-${service}-1`,
          State: { Status: 'exited' },
          Config: { Labels: { 'com.docker.compose.service': service } },
          Mounts: list,
        })),
      ),
    ),
  );
const messages = (services: Services): string[] => choose(services).findings.map(({ message }) => message);

const update = (config: Json): Record<string, Json> => ({ deploy: { update_config: config } });
const router = { image: 'nginx:1.30', ports: [{ target: 80, published: '8080', protocol: 'tcp' }] };
const routed = { 'x-slipway': { router: 'web', port: 3000 } };
const anonymous = [{ Type: 'volume', Name: 'a'.repeat(64), Destination: '/data' }];
const named = [{ Type: 'volume', Name: 'shop_data', Destination: '/data' }];

describe('without anything said', () => {
  test.each<[string, Record<string, Json>, string, string[]]>([
    ['behind a router', routed, 'start-first', ['behind router web']],
    ['a plain one', {}, 'stop-first', ['no router moves its traffic']],
    ['data', { volumes: [{ type: 'volume', source: 'data', target: '/d' }] }, 'stop-first', ['has the volume data']],
    [
      'data to read',
      { volumes: [{ type: 'volume', source: 'data', target: '/d', read_only: true }] },
      'stop-first',
      ['no router moves its traffic'],
    ],
    [
      'a folder',
      { volumes: [{ type: 'bind', source: '/srv/data', target: '/d' }] },
      'stop-first',
      ['may write to the folder /srv/data'],
    ],
    [
      'a port',
      { ports: [{ target: 53, published: '53', protocol: 'udp' }] },
      'stop-first',
      ['publishes port 53/udp of the server'],
    ],
    ['a port that Docker chooses', { ports: [{ target: 80 }] }, 'stop-first', ['no router moves its traffic']],
    [
      'the network of the server',
      { network_mode: 'host' },
      'stop-first',
      ['uses the network of the server (`network_mode: host`)'],
    ],
    [
      "another container's network",
      { network_mode: 'container:x' },
      'stop-first',
      ['uses the network of another container (`network_mode: container:x`)'],
    ],
    ['no network', { network_mode: 'none' }, 'stop-first', ['no router moves its traffic']],
    [
      'an address',
      { networks: { a: { ipv4_address: '10.0.0.2' } } },
      'stop-first',
      ['has a fixed address in network a'],
    ],
    [
      'an address of the hardware',
      { mac_address: '02:42:ac:11:65:43' },
      'stop-first',
      ['has a fixed address (`mac_address`)'],
    ],
    ['a name', { container_name: 'api' }, 'in-place', ['has the container_name api']],
    ['a namespace', { pid: 'service:web' }, 'in-place', ['lives in the container of web']],
    [
      "another one's volumes",
      { volumes_from: ['container:x:ro', 'container:y:rw', 'container:z'] },
      'stop-first',
      ['writes to the volumes of container:y', 'writes to the volumes of container:z'],
    ],
    ['volumes of a service', { volumes_from: ['web:ro'] }, 'in-place', ['lives in the container of web']],
    [
      'to its end',
      { 'x-slipway': { 'one-shot': true } },
      'stop-first',
      ['is a one-shot service, which runs to its end'],
    ],
  ])('%s', (_name, api, order, reasons) => {
    const { strategies, findings } = choose({ web: router, api });
    expect(strategies['api']).toMatchObject({ order, reasons });
    expect(findings).toEqual([]);
  });

  test('a service in whose container another one lives', () => {
    expect(choose({ api: {}, proxy: { network_mode: 'service:api' } }).strategies).toMatchObject({
      api: { order: 'in-place', reasons: ['has proxy living in its container'], replacedWith: [] },
      proxy: { order: 'in-place', reasons: ['lives in the container of api'], replacedWith: ['api'] },
    });
  });
});

test('a service that others link to: a link names one container', () => {
  const { strategies, findings } = choose({ web: router, api: routed, old: { links: ['api:backend', 'old'] } });
  expect(strategies['api']).toMatchObject({ order: 'in-place', reasons: ['is linked to by old'] });
  expect(strategies['old']).toMatchObject({ order: 'stop-first', replacedWith: ['api'] });
  expect(findings.map(({ message }) => message)).toEqual([
    'Service api is behind router web, so that old and new replicas run side by side, but it is linked to by old.',
  ]);
});

describe('an anonymous volume of the container that runs', () => {
  test.each<[string, Record<string, Json>, Json, string]>([
    ['is handed on', {}, anonymous, 'in-place'],
    ['with a name is none', {}, named, 'stop-first'],
    [
      'gives way to a volume',
      { volumes: [{ type: 'volume', source: 'data', target: '/data', read_only: true }] },
      anonymous,
      'stop-first',
    ],
    ['gives way to memory', { tmpfs: ['/data:size=1m'] }, anonymous, 'stop-first'],
    ['gives way to memory, as text', { tmpfs: '/data' }, anonymous, 'stop-first'],
    ['that the file asks for', { volumes: [{ type: 'volume', target: '/data' }] }, anonymous, 'in-place'],
  ])('%s', (_name, api, mounts, order) => {
    expect(choose({ api }, { api: mounts }).strategies['api']?.order).toBe(order);
  });

  test('is told once, and refuses old beside new', () => {
    const { strategies, findings } = choose({ web: router, api: routed }, { api: anonymous });
    expect(strategies['api']?.reasons).toEqual([
      'has an anonymous volume at /data, which is handed on from container to container',
    ]);
    expect(findings).toEqual([
      {
        message:
          'Service api is behind router web, so that old and new replicas run side by side, but it has an anonymous volume at /data, which is handed on from container to container.',
        hint: 'Give /data a `tmpfs`, if nothing in it is worth keeping. Or say `deploy: { update_config: { order: stop-first } }`: it is away for a moment then.',
      },
    ]);
  });

  test('of a container of `docker compose run` is not looked at', () => {
    const containers = parseContainers(
      JSON.stringify([
        {
          Config: { Labels: { 'com.docker.compose.service': 'api', 'com.docker.compose.oneoff': 'True' } },
          Mounts: anonymous,
        },
      ]),
    );
    expect(chooseStrategies(project({ api: {} }), containers).strategies['api']?.order).toBe('stop-first');
  });
});

describe('an order that is asked for', () => {
  test('start-first without a router, where nothing stands against it', () => {
    expect(choose({ worker: update({ order: 'start-first' }) })).toMatchObject({
      strategies: { worker: { order: 'start-first', reasons: ['its `update_config` says start-first'] } },
      findings: [],
    });
  });

  test('stop-first behind a router', () => {
    expect(choose({ web: router, api: { ...routed, ...update({ order: 'stop-first' }) } })).toMatchObject({
      strategies: {
        api: {
          order: 'stop-first',
          reasons: ['its `update_config` says stop-first'],
          router: { service: 'web', port: 3000 },
        },
      },
      findings: [],
    });
  });

  test('stop-first with data behind a router is the way out', () => {
    const data = { volumes: [{ type: 'volume', source: 'uploads', target: '/u' }] };
    expect(messages({ web: router, api: { ...routed, ...data } })).toEqual([
      'Service api is behind router web, so that old and new replicas run side by side, but it has the volume uploads.',
    ]);
    expect(messages({ web: router, api: { ...routed, ...data, ...update({ order: 'stop-first' }) } })).toEqual([]);
  });

  test.each<[string, Record<string, Json>]>([
    ['has the volume data', { volumes: [{ type: 'volume', source: 'data', target: '/d' }] }],
    ['has an anonymous volume at /d', { volumes: [{ type: 'volume', target: '/d' }] }],
    ['may write to the folder /srv', { volumes: [{ type: 'bind', source: '/srv', target: '/d' }] }],
    ['publishes port 80 of the server', { ports: [{ target: 80, published: '80', protocol: 'tcp' }] }],
    ['has the container_name x', { container_name: 'x' }],
    ['uses the network of the server (`network_mode: host`)', { network_mode: 'host' }],
    ['lives in the container of other', { ipc: 'service:other' }],
    ['is a one-shot service, which runs to its end', { 'x-slipway': { 'one-shot': true } }],
    [
      'has the container_name x and publishes port 80 of the server',
      { container_name: 'x', ports: [{ target: 80, published: '80' }] },
    ],
  ])('start-first is refused: %s', (reason, api) => {
    expect(messages({ api: { ...api, ...update({ order: 'start-first' }) }, other: {} })).toEqual([
      `Service api is to be replaced with \`order: start-first\`, so that old and new replicas run side by side, but it ${reason}.`,
    ]);
  });
});

describe('the pace', () => {
  const pace = (replicas: number, config: Json, more: Record<string, Json> = routed): ChosenStrategies =>
    choose({ web: router, api: { ...more, deploy: { replicas, update_config: config } } });

  test.each<[string, number, Json, number[], number]>([
    ['nothing said', 3, {}, [3], 0],
    ['all at once', 3, { parallelism: 0, delay: '5s' }, [3], 5],
    ['one by one', 3, { parallelism: 1, delay: '1m30s' }, [1, 1, 1], 90],
    ['two by two', 5, { parallelism: 2 }, [2, 2, 1], 0],
    ['more than there are', 2, { parallelism: 9 }, [2], 0],
  ])('%s', (_name, replicas, config, groups, groupDelaySeconds) => {
    const { strategies, findings, warnings } = pace(replicas, config);
    expect(strategies['api']).toMatchObject({ groups, groupDelaySeconds });
    expect(findings).toEqual([]);
    expect(warnings).toEqual([]);
  });

  test('monitor', () => {
    expect(pace(1, { monitor: '15s' }).strategies['api']?.monitorSeconds).toBe(15);
    expect(pace(1, {}).strategies['api']?.monitorSeconds).toBeUndefined();
  });

  test('with stop-first, nobody should believe that some of the old ones go on', () => {
    expect(pace(2, { parallelism: 1 }, {}).warnings).toEqual([
      'Service api is replaced stop-first: `parallelism` and `delay` pace the start of its new replicas, but all old ones are stopped before.',
    ]);
    expect(pace(1, { parallelism: 1 }, {}).warnings).toEqual([]);
  });

  test('not in place', () => {
    const found = choose({
      api: { pid: 'service:db', deploy: { replicas: 2, update_config: { parallelism: 1, delay: '5s' } } },
      db: {},
    });
    expect(found.findings.map(({ message }) => message)).toEqual([
      'Service api asks for `update_config.parallelism: 1`, and its replicas are replaced in place, by Compose, which takes them all at once.',
      'Service api asks for `update_config.delay: 5s`, and its replicas are replaced in place, by Compose, which takes them all at once.',
    ]);
    expect(found.strategies['api']?.groups).toEqual([2]);
  });
});

describe('what is replaced with another one', () => {
  test.each<[string, Record<string, Json>, string[]]>([
    [
      'restart',
      { depends_on: { db: { condition: 'service_started', restart: true }, cache: { condition: 'service_started' } } },
      ['db'],
    ],
    ['a namespace', { network_mode: 'service:db' }, ['db']],
    ['volumes', { volumes_from: ['db:ro', 'container:cache'] }, ['db']],
    ['links', { links: ['db:database', 'cache'] }, ['db', 'cache']],
    ['what is not in the project', { depends_on: { gone: { restart: true, required: false } }, links: ['api'] }, []],
  ])('%s', (_name, api, replacedWith) => {
    expect(choose({ db: {}, cache: {}, api }).strategies['api']?.replacedWith).toEqual(replacedWith);
  });
});

describe('x-slipway', () => {
  test.each<[Json, string]>([
    ['web', 'Service api has an `x-slipway` that is no mapping.'],
    [null, 'Service api has an `x-slipway` that is no mapping.'],
    [['router'], 'Service api has an `x-slipway` that is no mapping.'],
    [{ routr: 'web' }, 'Service api has an `x-slipway` with the unknown key `routr`.'],
    [{ one_shot: true }, 'Service api has an `x-slipway` with the unknown key `one_shot`.'],
    [{ constructor: 1 }, 'Service api has an `x-slipway` with the unknown key `constructor`.'],
    [{ 'one-shot': 'yes' }, 'Service api has an `x-slipway` with a `one-shot` that is neither true nor false.'],
    [{ router: 7 }, 'Service api has an `x-slipway` with a `router` that is no name of a service.'],
    [{ router: '', port: 3000 }, 'Service api has an `x-slipway` with a `router` that is no name of a service.'],
    [
      { router: 'web', port: '3000' },
      'Service api has an `x-slipway` with a `port` that is no number from 1 to 65535.',
    ],
    [{ router: 'web', port: 0 }, 'Service api has an `x-slipway` with a `port` that is no number from 1 to 65535.'],
    [
      { router: 'web', port: 65_536 },
      'Service api has an `x-slipway` with a `port` that is no number from 1 to 65535.',
    ],
    [{ router: 'web', port: 1.5 }, 'Service api has an `x-slipway` with a `port` that is no number from 1 to 65535.'],
    [{ port: 3000 }, 'Service api has an `x-slipway` with a `port` and no `router`.'],
    [{ router: 'web' }, 'Service api has an `x-slipway` with a `router` and no `port`, and no `expose`.'],
  ])('refuses %j', (extension, message) => {
    expect(messages({ web: router, api: { 'x-slipway': extension } })).toEqual([message]);
  });

  test('a key that is nearly one', () => {
    expect(choose({ api: { 'x-slipway': { 'one-shut': true } } }).findings).toEqual([
      {
        message: 'Service api has an `x-slipway` with the unknown key `one-shut`.',
        hint: 'Known are: `x-slipway: { router: web, port: 3000 }` and `x-slipway: { one-shot: true }`; did you mean one-shot?',
      },
    ]);
  });

  test.each<[readonly Json[], number | undefined]>([
    [['3000'], 3000],
    [['3000/tcp'], 3000],
    [[3000], 3000],
    [['3000', '3001'], undefined],
    [['3000-3001'], undefined],
    [['53/udp'], undefined],
    [['70000'], undefined],
    [['0'], undefined],
    [['http'], undefined],
    [[null], undefined],
  ])('the port of expose %j', (expose, port) => {
    const found = choose({ web: router, api: { expose, 'x-slipway': { router: 'web' } } });
    expect(found.strategies['api']?.router).toEqual(port === undefined ? undefined : { service: 'web', port });
    expect(found.findings.map(({ message }) => message)).toEqual(
      port === undefined
        ? [
            'Service api has an `x-slipway` with a `router` and no `port`, and an `expose` that names not exactly one TCP port.',
          ]
        : [],
    );
  });
});

describe('the router', () => {
  const names = (web: Record<string, Json>, api: Record<string, Json> = {}): string[] =>
    messages({ web: { ...router, ...web }, api: { ...routed, ...api } });

  test.each<[string, string[], string]>([
    ['is not there', messages({ webb: router, api: routed }), 'which is no service of the project'],
    ['is itself', messages({ web: { ...routed } }), 'which is itself'],
    ['is one-shot', names({ 'x-slipway': { 'one-shot': true } }), 'which is a one-shot service'],
    ['has replicas', names({ deploy: { replicas: 2 } }), 'which has 2 replicas'],
    ['has none', names({ deploy: { replicas: 0 } }), 'which has 0 replicas'],
    [
      'has nobody behind it',
      names({}, { deploy: { replicas: 0 } }),
      'and has no replicas that it could send requests to',
    ],
    [
      'is for what serves',
      names({}, { 'x-slipway': { router: 'web', port: 1, 'one-shot': true } }),
      'and is a one-shot service, which runs to its end',
    ],
    [
      'would go away',
      names({ depends_on: { api: { condition: 'service_started', restart: true } } }),
      'which depends on it with `restart: true`, and would go away with each release of it',
    ],
    [
      'is in another network',
      names({ networks: { front: null } }, { networks: { back: null, data: null } }),
      'and they share no network: api is in back, data, web in front',
    ],
    [
      'is in a network',
      names({ networks: { front: null } }),
      'and they share no network: api is in default, web in front',
    ],
    [
      'is on the server',
      names({ network_mode: 'host' }),
      "and web has `network_mode: host`, where the names of the project's containers are not known",
    ],
  ])('%s', (_name, found, what) => {
    expect(found).toHaveLength(1);
    expect(found[0]).toMatch(/^Service (api|web) names the router `web`, /);
    expect(found[0]).toContain(`, ${what}.`);
  });

  test('a router behind a router', () => {
    expect(
      messages({
        edge: router,
        web: { 'x-slipway': { router: 'edge', port: 80 } },
        api: routed,
      }),
    ).toEqual(['Service api names the router `web`, which is behind a router itself.']);
  });

  test('a name that is nearly one', () => {
    expect(choose({ web: router, api: { 'x-slipway': { router: 'webb', port: 1 } } }).findings).toEqual([
      {
        message: 'Service api names the router `webb`, which is no service of the project.',
        hint: 'The services are: web, api; did you mean web?',
      },
    ]);
  });

  test('shares one of several networks', () => {
    expect(names({ networks: { a: null, b: null } }, { networks: { b: null, c: null } })).toEqual([]);
  });
});

describe('words that cannot all hold', () => {
  test.each<[string, Services, string[]]>([
    [
      'a name for several',
      { api: { container_name: 'x', deploy: { replicas: 2 } } },
      ['Service api has 2 replicas and the container_name x, which only one of them can have.'],
    ],
    [
      'to its end, always',
      { api: { restart: 'always', 'x-slipway': { 'one-shot': true } } },
      ['Service api is a one-shot service and has the restart policy always: it would run again and again.'],
    ],
    [
      'to its end, by its dependents',
      {
        api: { deploy: { restart_policy: { condition: 'any' } } },
        b: { depends_on: { api: { condition: 'service_completed_successfully' } } },
      },
      ['Service api is a one-shot service and has the restart policy always: it would run again and again.'],
    ],
    ['to its end, on failure', { api: { restart: 'on-failure:3', 'x-slipway': { 'one-shot': true } } }, []],
    [
      'a job',
      { api: { deploy: { mode: 'replicated-job' } } },
      ['Service api has `deploy.mode: replicated-job`, which Docker Compose ignores.'],
    ],
    [
      'healthy without a check',
      { api: { healthcheck: { disable: true } }, b: { depends_on: { api: { condition: 'service_healthy' } } } },
      ['Service b waits for api to be healthy (`service_healthy`), and api has its health check switched off.'],
    ],
    [
      'healthy with no check',
      { api: { healthcheck: { test: ['NONE'] } }, b: { depends_on: { api: { condition: 'service_healthy' } } } },
      ['Service b waits for api to be healthy (`service_healthy`), and api has its health check switched off.'],
    ],
    ['healthy by the image', { api: {}, b: { depends_on: { api: { condition: 'service_healthy' } } } }, []],
  ])('%s', (_name, services, expected) => {
    expect(messages(services)).toEqual(expected);
  });

  test('what Docker Compose ignores is warned of', () => {
    expect(
      choose({ api: { deploy: { restart_policy: { condition: 'on-failure', delay: '5s', window: '2m0s' } } } })
        .warnings,
    ).toEqual([
      'Service api has `deploy.restart_policy.delay` and `window`, which Docker Compose ignores: Docker waits 100 ms before the first restart, and twice as long before each further one.',
    ]);
  });
});

test('whatever the file says: an answer for every service, and never side by side on what is written to (property)', () => {
  const maybe = <T extends Json>(arbitrary: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> =>
    fc.option(arbitrary, { nil: undefined });
  const word = fc.oneof(
    fc.constantFrom('web', 'api', 'db', '', 'start-first', 'stop-first', '__proto__', 'constructor', '10s'),
    fc.string(),
  );
  const anything = fc.jsonValue({ maxDepth: 2 }) as fc.Arbitrary<Json>;
  const service = fc.record(
    {
      'x-slipway': fc.oneof(anything, fc.record({ router: word, port: fc.oneof(fc.integer(), anything) })),
      container_name: word,
      network_mode: fc.oneof(word, fc.constantFrom('host', 'service:db', 'service:api', 'container:x')),
      volumes: fc.array(
        fc.record({ type: fc.constantFrom('volume', 'bind'), source: word, target: word, read_only: fc.boolean() }),
      ),
      ports: fc.oneof(anything, fc.array(fc.record({ target: fc.nat(), published: fc.constantFrom('80', '80-90') }))),
      depends_on: fc.oneof(anything, fc.dictionary(word, fc.record({ condition: word, restart: anything }))),
      links: fc.oneof(anything, fc.array(word)),
      networks: fc.oneof(anything, fc.dictionary(word, anything)),
      deploy: fc.record({
        replicas: fc.oneof(fc.nat(20), anything),
        update_config: fc.oneof(
          anything,
          fc.record({ parallelism: maybe(fc.nat(20)) as fc.Arbitrary<Json>, order: word, delay: word }),
        ),
        rollback_config: anything,
        restart_policy: anything,
      }),
    },
    { requiredKeys: [] },
  );
  fc.assert(
    fc.property(fc.dictionary(fc.constantFrom('web', 'api', 'db'), service), (services) => {
      const read = project(JSON.parse(JSON.stringify(services)) as Services);
      const { strategies, findings } = chooseStrategies(read, []);
      expect(Object.keys(strategies).sort()).toEqual(Object.keys(services).sort());
      for (const one of read.services) {
        const strategy = strategies[one.name];
        expect(strategy?.reasons).not.toEqual([]);
        const counted = Number.isInteger(one.replicas) && one.replicas >= 0 && one.replicas <= 10_000;
        if (!counted) expect(findings).not.toEqual([]);
        expect(strategy?.groups.reduce((sum, count) => sum + count, 0)).toBe(counted ? one.replicas : 0);
        if (strategy?.order === 'start-first') {
          expect(one.hasHostPort).toBe(false);
          expect(one.containerName).toBe('');
          expect(one.mounts.filter(({ readOnly }) => !readOnly)).toEqual([]);
        } else if (one.updateConfig?.order === 'start-first') expect(findings).not.toEqual([]);
      }
    }),
    { numRuns: 1000 },
  );
});
