import fc from 'fast-check';
import { orderServices, parseGoDuration, parseProject, type Service } from '../../src/compose/project';
import { renderYaml } from '../../src/compose/yaml';

/** The shape of `docker compose config` (2.26 and 2.40 agree on it). */
const rendered = {
  name: 'shop',
  networks: { default: { name: 'shop_default', ipam: {} } },
  services: {
    db: {
      command: null,
      entrypoint: null,
      environment: { POSTGRES_PASSWORD: 'pa$$word' },
      healthcheck: { test: ['CMD-SHELL', 'pg_isready'], interval: '1s', start_period: '30s' },
      image: 'postgres:17',
      networks: { default: null },
      stop_grace_period: '1m30s',
      volumes: [{ type: 'volume', source: 'data', target: '/var/lib/postgresql/data', volume: {} }],
    },
    migrate: {
      command: ['migrate'],
      depends_on: { db: { condition: 'service_healthy', required: true } },
      image: 'web:1',
    },
    web: {
      build: { context: '/srv/shop', dockerfile: 'Dockerfile' },
      depends_on: {
        db: { condition: 'service_healthy', required: true },
        migrate: { condition: 'service_completed_successfully', required: true },
        cache: { condition: 'service_started', required: false },
      },
      deploy: {
        replicas: 2,
        resources: {},
        placement: {},
        update_config: { parallelism: 1, monitor: '15s', order: 'start-first', failure_action: 'rollback' },
      },
      image: 'web:1',
      healthcheck: { test: ['NONE'] },
      ports: [
        { mode: 'ingress', target: 80, published: '8080', protocol: 'tcp', host_ip: '127.0.0.1' },
        { mode: 'ingress', target: 53, published: '5353', protocol: 'udp' },
        { mode: 'ingress', target: 90, protocol: 'tcp' },
        { mode: 'ingress', target: 91, published: '9000-9010', protocol: 'tcp' },
      ],
      volumes: [
        {
          type: 'bind',
          source: '/srv/shop/nginx',
          target: '/etc/nginx',
          read_only: true,
          bind: { create_host_path: true },
        },
      ],
    },
    seed: { image: 'web:1', 'x-slipway': { 'one-shot': true }, healthcheck: { disable: true, test: ['CMD', 'true'] } },
    built: { build: { context: '.' }, scale: 3 },
  },
  volumes: { data: { name: 'shop_data' } },
};

test.each([
  ['JSON', JSON.stringify(rendered)],
  ['YAML', renderYaml(rendered)],
])('reads what Compose renders as %s', (_form, text) => {
  const project = parseProject(text);
  const service = (name: string): Service | undefined => project.services.find((one) => one.name === name);
  expect(project.name).toBe('shop');
  expect(project.services.map(({ name }) => name)).toEqual(['db', 'migrate', 'web', 'seed', 'built']);
  expect(service('db')).toMatchObject({
    image: 'postgres:17',
    hasBuild: false,
    hasHealthcheck: true,
    stopGraceSeconds: 90,
    replicas: 1,
    oneShot: false,
    monitorSeconds: undefined,
    mounts: [{ type: 'volume', source: 'data', target: '/var/lib/postgresql/data', readOnly: false }],
    ports: [],
  });
  expect(service('migrate')).toMatchObject({ oneShot: true, dependsOn: { db: 'service_healthy' } });
  expect(service('web')).toMatchObject({
    hasBuild: true,
    hasHealthcheck: false,
    replicas: 2,
    monitorSeconds: 15,
    updateOrder: 'start-first',
    failureAction: 'rollback',
    stopGraceSeconds: 10,
    dependsOn: { db: 'service_healthy', migrate: 'service_completed_successfully', cache: 'service_started' },
    mounts: [{ type: 'bind', source: '/srv/shop/nginx', target: '/etc/nginx', readOnly: true }],
    ports: [
      { address: '127.0.0.1', port: 8080, protocol: 'tcp' },
      { address: '', port: 5353, protocol: 'udp' },
    ],
  });
  expect(service('seed')).toMatchObject({ oneShot: true, hasHealthcheck: false });
  expect(service('built')).toMatchObject({ image: '', hasBuild: true, replicas: 3 });
});

test.each(['', '[]', '"text"', 'null', '{', 'PASSWORD: "hunter2', '\tPASSWORD: hunter2'])(
  'refuses %j and quotes nothing of it',
  (text) => {
    expect(() => parseProject(text)).toThrow(SyntaxError);
    expect(() => parseProject(text)).not.toThrow(/hunter2/);
  },
);

test('a project without services has none', () => {
  expect(parseProject('{"name":"x"}').services).toEqual([]);
  expect(parseProject('{"name":"x","services":{"web":null}}').services[0]).toMatchObject({
    name: 'web',
    image: '',
    replicas: 1,
  });
});

test.each([
  ['10s', 10],
  ['1m30s', 90],
  ['1h0m0s', 3600],
  ['1.5h', 5400],
  ['500ms', 0.5],
  ['2us', 2e-6],
  ['2µs', 2e-6],
  ['3ns', 3e-9],
  ['0s', 0],
  ['', undefined],
  ['10', undefined],
  ['1d', undefined],
  ['-5s', undefined],
  ['5s ', undefined],
  ['s', undefined],
])('the Go duration %j is %p seconds', (text, seconds) => {
  const parsed = parseGoDuration(text);
  if (seconds === undefined) expect(parsed).toBeUndefined();
  else expect(parsed).toBeCloseTo(seconds, 12);
});

const read = (service: Readonly<Record<string, unknown>>): Service | undefined =>
  parseProject(JSON.stringify({ services: { web: service } })).services[0];

// What the daemon was told by `docker compose create` (2.26), read back with `docker inspect`.
test.each([
  [{}, 'no'],
  [{ restart: 'no' }, 'no'],
  [{ restart: 'always' }, 'always'],
  [{ restart: 'unless-stopped' }, 'unless-stopped'],
  [{ restart: 'on-failure' }, 'on-failure'],
  [{ restart: 'on-failure:3' }, 'on-failure:3'],
  [{ restart: 'on-failure:x' }, 'on-failure'],
  [{ deploy: { restart_policy: { condition: 'any' } } }, 'always'],
  [{ deploy: { restart_policy: { condition: 'none' } } }, 'no'],
  [{ deploy: { restart_policy: { condition: 'always' } } }, 'always'],
  [{ deploy: { restart_policy: { condition: 'unless-stopped' } } }, 'unless-stopped'],
  [{ deploy: { restart_policy: { condition: 'on-failure' } } }, 'on-failure'],
  [{ deploy: { restart_policy: { condition: 'on-failure', max_attempts: 5, delay: '5s' } } }, 'on-failure:5'],
  [{ deploy: { restart_policy: {} } }, 'no'],
  [{ restart: 'always', deploy: { restart_policy: { condition: 'none' } } }, 'no'],
  [{ restart: 'no', deploy: { restart_policy: { condition: 'any' } } }, 'always'],
  [{ restart: 'always', deploy: { restart_policy: {} } }, 'no'],
  [{ restart: 'always', deploy: { replicas: 2 } }, 'always'],
])('the restart policy of %j is %s', (service, policy) => {
  expect(read(service)?.restartPolicy).toBe(policy);
});

test('update_config and rollback_config', () => {
  const config = {
    parallelism: 0,
    delay: '1m30s',
    monitor: '5s',
    order: 'start-first',
    failure_action: 'rollback',
    max_failure_ratio: 0.5,
  };
  const nothing = {
    parallelism: undefined,
    delaySeconds: undefined,
    monitorSeconds: undefined,
    order: '',
    failureAction: '',
    maxFailureRatio: undefined,
  };
  expect(
    read({ deploy: { update_config: config, rollback_config: { parallelism: 1.5, delay: '-1s' } } }),
  ).toMatchObject({
    updateConfig: {
      parallelism: 0,
      delaySeconds: 90,
      monitorSeconds: 5,
      order: 'start-first',
      failureAction: 'rollback',
      maxFailureRatio: 0.5,
    },
    rollbackConfig: nothing,
    monitorSeconds: 5,
    updateOrder: 'start-first',
    failureAction: 'rollback',
  });
  expect(read({ deploy: {} })).toMatchObject({ updateConfig: undefined, rollbackConfig: undefined });
});

test('dependencies with their flags, and in whose containers it lives', () => {
  const service = read({
    depends_on: {
      db: { condition: 'service_healthy', restart: true, required: false },
      cache: { condition: 'service_started', required: true },
      odd: null,
    },
    network_mode: 'service:vpn',
    pid: 'service:vpn',
    ipc: 'container:other',
    volumes_from: ['data:ro', 'container:old', 'more'],
  });
  expect(service?.dependencies).toEqual({
    db: { condition: 'service_healthy', restart: true, required: false },
    cache: { condition: 'service_started', restart: false, required: true },
    odd: { condition: 'service_started', restart: false, required: true },
  });
  expect(service).toMatchObject({ joins: ['vpn', 'data', 'more'], networkMode: 'service:vpn', networks: [] });
});

test.each([
  [{}, ['default']],
  [{ networks: { back: { aliases: ['x'] }, front: null } }, ['back', 'front']],
  [{ networks: ['back'] }, ['back']],
  [{ network_mode: 'host' }, []],
])('the networks of %j', (service, networks) => {
  expect(read(service)?.networks).toEqual(networks);
});

test.each([
  [{}, undefined],
  [
    { 'x-slipway': { router: 'nginx', port: 3000 }, expose: ['1', '2'] },
    { service: 'nginx', port: 3000 },
  ],
  [
    { 'x-slipway': { router: 'nginx' }, expose: ['3000/tcp'] },
    { service: 'nginx', port: 3000 },
  ],
  [
    { 'x-slipway': { router: 'nginx', port: '3000' }, expose: ['4000'] },
    { service: 'nginx', port: undefined },
  ],
  [{ 'x-slipway': { router: 'nginx' } }, { service: 'nginx', port: undefined }],
  [{ 'x-slipway': { port: 3000 } }, undefined],
  [{ 'x-slipway': 'nginx' }, undefined],
])('the router of %j', (service, router) => {
  expect(read(service)?.router).toEqual(router);
});

test.each([
  [[{ target: 80, published: '8080' }], true],
  [[{ target: 80 }], false],
  [[{ target: 80, published: '8000-8010' }], false],
  [[], false],
])('ports %j take a fixed port of the server: %p', (ports, hasHostPort) => {
  expect(read({ ports, container_name: 'x' })).toMatchObject({ hasHostPort, containerName: 'x' });
});

test('nothing of a service makes it unreadable (property)', () => {
  const keys = [
    'deploy',
    'restart',
    'depends_on',
    'networks',
    'network_mode',
    'ports',
    'expose',
    'x-slipway',
    'volumes_from',
    'pid',
    'healthcheck',
    'volumes',
  ];
  fc.assert(
    fc.property(fc.dictionary(fc.constantFrom(...keys), fc.jsonValue({ maxDepth: 3 })), (service) => {
      const one = read(service);
      expect(one?.name).toBe('web');
      expect(one?.router?.port ?? 1).toBeGreaterThan(0);
    }),
    { numRuns: 1000 },
  );
});

test('Go durations are read as Go writes them (property)', () => {
  fc.assert(
    fc.property(fc.nat(100), fc.nat(59), fc.nat(59), (hours, minutes, seconds) => {
      expect(parseGoDuration(`${hours}h${minutes}m${seconds}s`)).toBe(hours * 3600 + minutes * 60 + seconds);
    }),
  );
});

describe('orderServices', () => {
  const waves = (dependencies: Readonly<Record<string, readonly string[]>>): string[][] => {
    const services = Object.fromEntries(
      Object.entries(dependencies).map(([name, on]) => [
        name,
        { depends_on: Object.fromEntries(on.map((one) => [one, { condition: 'service_started' }])) },
      ]),
    );
    return orderServices(parseProject(JSON.stringify({ services })).services).map((wave) =>
      wave.map((service) => service.name),
    );
  };

  test.each([
    ['none', {}, []],
    ['independent ones', { a: [], b: [] }, [['a', 'b']]],
    ['a chain', { web: ['app'], app: ['db'], db: [] }, [['db'], ['app'], ['web']]],
    ['a diamond', { web: ['a', 'b'], a: ['db'], b: ['db'], db: [] }, [['db'], ['a', 'b'], ['web']]],
    ['one that is not in the project', { web: ['cache'] }, [['web']]],
    ['a cycle comes last', { a: ['b'], b: ['a'], c: [] }, [['c'], ['a', 'b']]],
    ['itself', { a: ['a'] }, [['a']]],
  ])('%s', (_name, dependencies, expected) => {
    expect(waves(dependencies)).toEqual(expected);
  });
});
