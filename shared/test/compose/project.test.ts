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
