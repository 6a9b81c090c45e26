import fc from 'fast-check';
import type { ContainerState } from '../../src/probes/container';
import type { DatabaseServer } from '../../src/inputs/database-urls';
import { Secret } from '../../src/model/secret';
import {
  describeMissing,
  findContainer,
  findPostgresImage,
  parseWanted,
  selectSources,
  type Wanted,
} from '../../src/vault/sources';
import { HOSTILE } from '../shells';

function container(service: string, over: Partial<ContainerState> = {}): ContainerState {
  return {
    id: `id-of-${service}`,
    name: `shop-${service}-1`,
    project: 'shop',
    service,
    image: `ghcr.io/acme/${service}:1`,
    imageId: 'sha256:1',
    state: 'running',
    health: 'none',
    healthLog: [],
    exitCode: 0,
    oomKilled: false,
    error: '',
    restartCount: 0,
    startedAt: '2026-11-22T22:31:00Z',
    configHash: '',
    number: 1,
    oneoff: false,
    mounts: [],
    ...over,
  };
}

const mount = (name: string, type = 'volume'): ContainerState['mounts'][number] => ({ type, name, destination: '/x' });
const COMPOSE =
  'name: shop\nservices: {}\nvolumes:\n  uploads: {}\n  db: { name: shop_db }\n  other: { name: elsewhere }\n';
const facts = (containers: readonly ContainerState[], over: Partial<Parameters<typeof selectSources>[1]> = {}) => ({
  containers,
  currentCompose: COMPOSE,
  current: '20261122T100000Z-ab12cd3',
  volumes: ['shop_uploads', 'shop_db'],
  ...over,
});

describe('what is wanted', () => {
  test('every form, with comments between', () => {
    expect(
      parseWanted(`
# the shop
postgres: db
postgres: audit/app
postgres:audit/a b/c
redis: cache
volume: uploads
volume:  invoices   paused
volume: letters stopped
files: conf  nginx/*.conf
release
`),
    ).toEqual({
      value: [
        { kind: 'postgres', service: 'db', database: '' },
        { kind: 'postgres', service: 'audit', database: 'app' },
        { kind: 'postgres', service: 'audit', database: 'a b/c' },
        { kind: 'redis', service: 'cache' },
        { kind: 'volume', volume: 'uploads', quiet: 'live' },
        { kind: 'volume', volume: 'invoices', quiet: 'paused' },
        { kind: 'volume', volume: 'letters', quiet: 'stopped' },
        { kind: 'files', globs: ['conf', 'nginx/*.conf'] },
        { kind: 'release' },
      ],
    });
    expect(parseWanted('\n# nothing\n')).toEqual({ value: [] });
  });

  test.each([
    ['db', /`db` is not something to back up/],
    ['postgres', /not something/],
    ['postgres:', /not something/],
    ['postgres: db/', /not something/],
    ['postgres: -U/app', /not something/],
    ['postgres: d b', /not something/],
    ['redis: cache/0', /not something/],
    ['mysql: db', /not something[^]*`postgres: SERVICE`/],
    ['release: now', /not something/],
    ['volume: a/b', /not something/],
    ['volume: uploads paused now', /not something/],
    ['volume: uploads quietly', /nothing, paused or stopped/],
    ['files: conf /etc/shadow', /`\/etc\/shadow` leaves the project/],
    ['files: conf/../../x', /leaves the project/],
    ['files: ..', /leaves the project/],
    ['files: conf !conf/secret', /`!conf\/secret`: globs say what is to be backed up/],
    ['redis: cache\nredis:  cache', /`redis: {1,2}cache` is there twice/],
    ['volume: uploads\nvolume: uploads paused', /there twice/],
    ['release\nredis: a\nrelease', /`release` is there twice/],
  ])('%j is refused', (text, problem) => {
    expect(parseWanted(text)).toEqual({ problem: expect.stringMatching(problem) as string });
  });

  test('no service or volume is ever taken for an option or a path, and no message has a line of its own (property)', () => {
    const word = fc.oneof(
      fc.constantFrom(...HOSTILE, '/', '..', '../x', 'db', 'paused', 'a/b', '-rf/x'),
      fc.string({ unit: 'binary', maxLength: 5 }),
    );
    const line = fc
      .tuple(
        fc.constantFrom('postgres', 'redis', 'volume', 'files', 'release', ''),
        fc.constantFrom(':', ': ', ''),
        word,
      )
      .map((parts) => parts.join(''));
    fc.assert(
      fc.property(fc.array(line, { maxLength: 3 }), (lines) => {
        const parsed = parseWanted(lines.join('\n'));
        if ('problem' in parsed) {
          expect(parsed.problem).not.toMatch(/[\n\r\u001b]/);
          return;
        }
        for (const one of parsed.value) {
          if (one.kind === 'postgres' || one.kind === 'redis') expect(one.service).toMatch(/^[a-zA-Z0-9][\w.-]*$/);
          if (one.kind === 'volume') expect(one.volume).toMatch(/^[a-zA-Z0-9][\w.-]*$/);
          if (one.kind === 'files') {
            for (const glob of one.globs) expect(glob).toMatch(/^(?!\/|!)(?!(.*\/)?\.\.(\/|$)).+$/s);
          }
        }
      }),
      { numRuns: 500 },
    );
  });
});

describe('nothing given: what is found', () => {
  test.each([
    ['postgres:17', 'postgres'],
    ['docker.io/library/postgres:17-alpine@sha256:abc', 'postgres'],
    ['bitnami/postgresql:16', 'postgres'],
    ['postgis/postgis:17-3.5', 'postgres'],
    ['pgvector/pgvector:pg17', 'postgres'],
    ['timescale/timescaledb-ha:pg17', 'postgres'],
    ['localhost:5000/postgres', 'postgres'],
    ['redis:7', 'redis'],
    ['valkey/valkey:8', 'redis'],
    ['redis/redis-stack-server:7', 'redis'],
    ['ghcr.io/acme/postgres-exporter:1', undefined],
    ['oliver006/redis_exporter:1', undefined],
    ['ghcr.io/redis/web:1', undefined],
    ['postgres.example.com/web:1', undefined],
  ])('%s is %s', (image, kind) => {
    const { sources } = selectSources([], facts([container('one', { image })], { current: undefined }));
    expect(sources.map((source) => source.kind)).toEqual(kind === undefined ? [] : [kind]);
  });

  test('the first replica that runs is read; one-off containers are none', () => {
    const { sources, findings } = selectSources(
      [],
      facts([
        container('db', { image: 'postgres:17', id: 'b', number: 2 }),
        container('db', { image: 'postgres:17', id: 'x', number: 0, oneoff: true }),
        container('db', { image: 'postgres:17', id: 's', number: 1, state: 'exited' }),
        container('cache', { image: 'redis:7', id: 'r' }),
      ]),
    );
    expect(findings).toEqual([]);
    expect(sources).toEqual([
      { kind: 'redis', service: 'cache', container: expect.objectContaining({ id: 'r' }) as object },
      { kind: 'postgres', service: 'db', container: expect.objectContaining({ id: 'b' }) as object, databases: [] },
      { kind: 'release', release: '20261122T100000Z-ab12cd3' },
    ]);
  });

  test('a database that does not run is not left out silently', () => {
    const { findings } = selectSources(
      [],
      facts([container('db', { image: 'postgres:17', state: 'exited' }), container('cache', { image: 'redis:7' })]),
    );
    expect(findings.map(({ message }) => message)).toEqual(['Service db is a database, and does not run.']);
  });

  test('nothing to back up is said, with what could be', () => {
    const { findings } = selectSources([], facts([container('web')], { current: undefined }));
    expect(findings).toHaveLength(1);
    expect(findings[0]?.hint).toContain('`postgres: SERVICE`');
  });

  test('volumes of other services are named, with a line that works', () => {
    const { warnings } = selectSources(
      [],
      facts([
        container('db', { image: 'postgres:17', mounts: [mount('shop_db')] }),
        container('web', { mounts: [mount('shop_uploads'), mount('', 'bind')] }),
      ]),
    );
    expect(warnings).toHaveLength(1);
    expect(warnings[0]).toContain('Not in this backup: shop_uploads (of web).');
    expect(warnings[0]).not.toContain('shop_db');
    expect(warnings[0]).toContain('`volume: uploads`');
  });

  test.each([
    ['', 'shop_uploads', 'shop_uploads'],
    ['name: p\nservices: {}\n', 'data_p_x', 'data_p_x'],
    ['name: p\nservices: {}\n', 'p_p_x', 'p_x'],
  ])(
    'with the Compose file %j the volume %s is called %s, and found under that name',
    (currentCompose, name, short) => {
      const there = facts([container('web', { mounts: [mount(name)] })], { currentCompose, volumes: [name] });
      expect(selectSources([], there).warnings[0]).toContain(`\`volume: ${short}\``);
      const { sources } = selectSources([{ kind: 'volume', volume: short, quiet: 'live' }], there);
      expect(sources).toEqual([expect.objectContaining({ name })]);
    },
  );
});

describe('what is named', () => {
  const select = (wanted: readonly Wanted[], containers: readonly ContainerState[], over = {}) =>
    selectSources(wanted, facts(containers, over));

  test('databases of one service are one source; the service alone means all of them', () => {
    const db = container('db');
    const one = (database: string): Wanted => ({ kind: 'postgres', service: 'db', database });
    expect(select([one('a'), one('b')], [db]).sources).toEqual([
      { kind: 'postgres', service: 'db', container: db, databases: ['a', 'b'] },
    ]);
    expect(select([one('a'), one('')], [db]).sources).toEqual([expect.objectContaining({ databases: [] })]);
    expect(select([one(''), one('a')], [db]).sources).toEqual([expect.objectContaining({ databases: [] })]);
  });

  test('a volume by its key, by its own name, and where Compose has put the project before it', () => {
    const volume = (name: string): Wanted => ({ kind: 'volume', volume: name, quiet: 'live' });
    const names = (wanted: Wanted) => select([wanted], []).sources.map((source) => 'name' in source && source.name);
    expect(names(volume('uploads'))).toEqual(['shop_uploads']);
    expect(names(volume('shop_uploads'))).toEqual(['shop_uploads']);
    expect(names(volume('db'))).toEqual(['shop_db']);
    expect(names(volume('other'))).toEqual(['elsewhere']);
    expect(names(volume('nothing'))).toEqual([]);
  });

  test('a volume is read with an image that uses it, and else with any', () => {
    const { sources } = select(
      [{ kind: 'volume', volume: 'uploads', quiet: 'paused' }],
      [container('a'), container('web', { mounts: [mount('shop_uploads')] }), container('b', { image: '' })],
    );
    expect(sources).toEqual([
      {
        kind: 'volume',
        volume: 'uploads',
        name: 'shop_uploads',
        quiet: 'paused',
        images: ['ghcr.io/acme/web:1', 'ghcr.io/acme/a:1'],
      },
    ]);
  });

  test('all that is not there is said at once', () => {
    const { findings } = select(
      [
        { kind: 'postgres', service: 'database', database: '' },
        { kind: 'redis', service: 'cache' },
        { kind: 'volume', volume: 'nothing', quiet: 'live' },
        { kind: 'release' },
      ],
      [container('db'), container('cache', { state: 'exited' })],
      { current: undefined },
    );
    expect(findings.map(({ message }) => message)).toEqual([
      'The project has no service database on the server.',
      'Service cache has no running container.',
      'The project has no volume nothing on the server.',
      'The project has no release on the server.',
    ]);
    expect(findings[0]?.hint).toBe('Its services: cache, db.');
    expect(findings[2]?.hint).toBe('Its volumes: shop_uploads, shop_db.');
  });

  test('a Compose file that cannot be read names no volumes, and is no failure', () => {
    const { sources } = select([{ kind: 'volume', volume: 'shop_uploads', quiet: 'live' }], [], {
      currentCompose: 'a: [b',
    });
    expect(sources).toHaveLength(1);
  });
});

describe('servers behind URLs', () => {
  const server = (name: string, database = ''): DatabaseServer => ({
    name,
    user: 'shop',
    database,
    remote: { host: 'db.example.com', port: 5432, password: new Secret('hidden') },
    secrets: [],
  });
  const cloud = (database: string): Wanted => ({ kind: 'postgres', service: 'cloud', database });
  const select = (wanted: readonly Wanted[], servers: readonly DatabaseServer[], image = 'postgres:17', over = {}) =>
    selectSources(wanted, facts([container('db', { image: 'postgres:15' })], over), { servers, image });
  const source = (name: string, databases: readonly string[] = []) => ({
    kind: 'remote',
    server: name,
    image: 'postgres:17',
    databases,
  });

  test('are backed up beside what is found', () => {
    const { sources, findings } = select([], [server('cloud', 'app'), server('other')]);
    expect(sources.map((one) => (one.kind === 'remote' ? one : one.kind))).toEqual([
      'postgres',
      source('cloud', ['app']),
      source('other'),
      'release',
    ]);
    expect(findings).toEqual([]);
  });

  test('are what is named: the database of the line, else that of the URL, else all', () => {
    const sourcesOf = (wanted: readonly Wanted[], database = '') => select(wanted, [server('cloud', database)]).sources;
    expect(sourcesOf([cloud('')])).toEqual([source('cloud')]);
    expect(sourcesOf([cloud('')], 'app')).toEqual([source('cloud', ['app'])]);
    expect(sourcesOf([cloud('x'), cloud('y')], 'app')).toEqual([source('cloud', ['x', 'y'])]);
    expect(sourcesOf([cloud('app'), cloud('')], 'app')).toEqual([source('cloud', ['app'])]);
    expect(sourcesOf([cloud('x'), cloud('')])).toEqual([source('cloud')]);
    expect(sourcesOf([{ kind: 'release' }])).toEqual([expect.objectContaining({ kind: 'release' })]);
  });

  test('are no Redis', () => {
    const { findings } = select([{ kind: 'redis', service: 'cloud' }], [server('cloud')]);
    expect(findings).toEqual([expect.objectContaining({ message: 'The project has no service cloud on the server.' })]);
  });

  test('never have the name of a service, running or only in the Compose file', () => {
    const messages = (name: string, wanted: readonly Wanted[] = []) =>
      select(wanted, [server(name)], 'postgres:17', {
        currentCompose: 'name: shop\nservices: { web: { image: a } }\n',
      }).findings.map(({ message }) => message);
    const both = (name: string) => `${name} is both a service of the project and a server of the input database-urls.`;
    expect(messages('db')).toEqual([both('db')]);
    expect(messages('web', [{ kind: 'release' }])).toEqual([both('web')]);
    expect(messages('cloud')).toEqual([]);
  });

  test('need an image, which a service has', () => {
    const hint = expect.stringContaining('docker pull postgres:17') as string;
    expect(select([], [server('cloud')], '').findings).toEqual([expect.objectContaining({ hint })]);
    expect(select([{ kind: 'release' }], [server('cloud')], '').findings).toEqual([]);
    expect(findPostgresImage([container('a'), container('db', { image: 'postgis/postgis:17-3.5' })])).toBe(
      'postgis/postgis:17-3.5',
    );
    expect(findPostgresImage([container('db', { image: 'postgres:17', state: 'exited' })])).toBe('');
  });
});

test('a service is found by its running replica', () => {
  expect(findContainer('db', [container('db', { state: 'exited' })])).toBeUndefined();
  expect(findContainer('db', [container('db')])?.id).toBe('id-of-db');
  expect(describeMissing('db', [])).toEqual({
    message: 'The project has no service db on the server.',
    hint: 'It has no containers at all.',
  });
});
