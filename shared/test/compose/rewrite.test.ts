import { parseProject, readProject } from '../../src/compose/project';
import { CONTENT_LABEL, pinImages, type Relocate, relocateProject } from '../../src/compose/rewrite';

const OUTER = '/dev/shm/slipway.abcd1234';
const ROOT = `${OUTER}/_/_`;

const toStore: Relocate = (path) =>
  path.startsWith(`${ROOT}/`)
    ? { path: `/srv/shop/.slipway/files/${'a'.repeat(64)}/${path.slice(ROOT.length + 1)}`, shipped: true }
    : { finding: { message: `outside: ${path}`, hint: '' } };

function relocate(project: object, how: Relocate = toStore): ReturnType<typeof relocateProject> {
  return relocateProject(readProject(project as never), ROOT, how);
}

test("points binds, configs and secrets to their places, and leaves the server's own alone", () => {
  const { raw, findings } = relocate({
    name: 'shop',
    services: {
      web: {
        image: 'web',
        volumes: [
          { type: 'bind', source: `${ROOT}/nginx`, target: '/etc/nginx' },
          { type: 'bind', source: '/etc/localtime', target: '/etc/localtime' },
          { type: 'bind', source: '/dev/shm', target: '/shm' },
          { type: 'volume', source: 'data', target: '/data' },
        ],
      },
    },
    configs: { site: { name: 'shop_site', file: `${ROOT}/site.conf` }, inline: { content: 'x' } },
    secrets: { key: { file: `${ROOT}/key` }, outer: { external: true, name: 'outer' } },
    volumes: { data: { name: 'shop_data' } },
  });
  const files = `/srv/shop/.slipway/files/${'a'.repeat(64)}`;
  expect(findings).toEqual([]);
  expect(raw).toEqual({
    name: 'shop',
    services: {
      web: {
        image: 'web',
        volumes: [
          { type: 'bind', source: `${files}/nginx`, target: '/etc/nginx', read_only: true },
          { type: 'bind', source: '/etc/localtime', target: '/etc/localtime' },
          { type: 'bind', source: '/dev/shm', target: '/shm' },
          { type: 'volume', source: 'data', target: '/data' },
        ],
      },
    },
    configs: { site: { name: 'shop_site', file: `${files}/site.conf` }, inline: { content: 'x' } },
    secrets: { key: { file: `${files}/key` }, outer: { external: true, name: 'outer' } },
    volumes: { data: { name: 'shop_data' } },
  });
});

describe('a mount', () => {
  const mounted = (mount: object, shipped: boolean): { asked: [string, boolean][]; volumes: unknown } => {
    const asked: [string, boolean][] = [];
    const { raw } = relocate(
      { services: { web: { volumes: [{ type: 'bind', source: `${ROOT}/a`, target: '/a', ...mount }] } } },
      (path, isWritable) => {
        asked.push([path, isWritable]);
        return { path: '/srv/a', shipped };
      },
    );
    return { asked, volumes: (raw['services'] as Record<string, { volumes: unknown }>)['web']?.volumes };
  };

  test.each([
    [{}, true],
    [{ read_only: false }, true],
    [{ read_only: true }, false],
  ])('that is %j is asked about as writable: %s', (mount, isWritable) => {
    expect(mounted(mount, false).asked).toEqual([[`${ROOT}/a`, isWritable]]);
  });

  test('of what is shipped is read-only, whatever the file says', () => {
    for (const mount of [{}, { read_only: false }, { read_only: true }]) {
      expect(mounted(mount, true).volumes).toEqual([{ type: 'bind', source: '/srv/a', target: '/a', read_only: true }]);
    }
  });

  test("of the server's own stays as the file says", () => {
    for (const mount of [{}, { read_only: false }, { read_only: true }]) {
      expect(mounted(mount, false).volumes).toEqual([{ type: 'bind', source: '/srv/a', target: '/a', ...mount }]);
    }
  });

  test('of anything else is left alone', () => {
    expect(mounted({ source: '/etc/localtime' }, true)).toEqual({
      asked: [],
      volumes: [{ type: 'bind', source: '/etc/localtime', target: '/a' }],
    });
  });
});

test('a file of a config or a secret is only read', () => {
  const asked: boolean[] = [];
  relocate(
    { services: {}, configs: { a: { file: `${ROOT}/a` } }, secrets: { b: { file: `${ROOT}/b` } } },
    (_path, isWritable) => {
      asked.push(isWritable);
      return { path: '/srv/x', shipped: true };
    },
  );
  expect(asked).toEqual([false, false]);
});

test('drops what a release must not have', () => {
  const { raw, findings } = relocate({
    services: {
      web: {
        image: 'web',
        build: { context: ROOT },
        profiles: ['x'],
        env_file: [{ path: `${ROOT}/.env` }],
        develop: { watch: [{ path: `${ROOT}/src` }] },
      },
    },
  });
  expect(findings).toEqual([]);
  expect(raw['services']).toEqual({ web: { image: 'web' } });
});

test.each([`${OUTER}/_/data`, `${OUTER}/data`, OUTER])(
  'a path that leads out of the workspace (%s) is a finding, and no folder beside the staging one',
  (source) => {
    expect(relocate({ services: { web: { volumes: [{ type: 'bind', source, target: '/data' }] } } }).findings).toEqual([
      { message: `outside: ${source}`, hint: '' },
    ]);
  },
);

test('a place that nobody knows how to ship is a finding that names it', () => {
  expect(
    relocate({
      services: { web: { label_file: `${ROOT}/labels`, environment: { PWD: ROOT } } },
      'x-y': [`${ROOT}/z`],
    }).findings.map(({ message }) => message),
  ).toEqual([
    'services.web.label_file points to a file of the workspace, and Slipway does not know how to ship that.',
    'services.web.environment.PWD points to a file of the workspace, and Slipway does not know how to ship that.',
    'x-y.0 points to a file of the workspace, and Slipway does not know how to ship that.',
  ]);
});

test('a `$` in a name is what Compose made two of, and gets them again', () => {
  const asked: string[] = [];
  const { raw } = relocate(
    { services: { web: { volumes: [{ type: 'bind', source: `${ROOT}/a$$b`, target: '/a' }] } } },
    (path) => {
      asked.push(path);
      return { path: '/srv/$x/a$b', shipped: false };
    },
  );
  expect(asked).toEqual([`${ROOT}/a$b`]);
  expect(readProject(raw).services[0]?.mounts[0]?.source).toBe('/srv/$$x/a$$b');
});

test.each(['configs', 'secrets'])('%s from an environment variable are refused: a release does not keep it', (kind) => {
  expect(relocate({ services: {}, [kind]: { x: { name: 'shop_x', environment: 'X' } } }).findings).toMatchObject([
    { message: `${kind}.x takes its value from an environment variable, which a release does not keep.` },
  ]);
});

describe('what configs and secrets hold', () => {
  const label = (project: object, how?: Relocate): unknown =>
    (relocate(project, how).raw['services'] as Record<string, { labels?: Record<string, string> }>)['web']?.labels?.[
      CONTENT_LABEL
    ];
  const project = (over: object = {}): object => ({
    services: {
      web: { image: 'web', configs: [{ source: 'site', target: '/a' }], labels: { mine: '1' } },
      other: { image: 'web' },
    },
    configs: { site: { file: `${ROOT}/site.conf` }, unused: { content: 'x' }, ...over },
  });

  test('changes a label of the services that use it, and of no others', () => {
    const first = label(project());
    expect(first).toMatch(/^[0-9a-f]{16}$/);
    expect(label(project())).toBe(first);
    expect(label(project({ unused: { content: 'y' } }))).toBe(first);
    expect(label(project(), () => ({ path: '/srv/shop/.slipway/files/b/site.conf', shipped: true }))).not.toBe(first);
    expect(label(project({ site: { content: 'inline' } }))).not.toBe(first);
    const { raw } = relocate(project());
    expect(raw['services']).toMatchObject({ web: { labels: { mine: '1' } }, other: { image: 'web' } });
    expect(JSON.stringify(raw['services'])).not.toContain('"other":{"image":"web","labels"');
  });
});

test('pins the images that it is told', () => {
  const { raw } = parseProject(
    JSON.stringify({ name: 'x', services: { web: { image: 'web:1', command: 'a' }, db: { image: 'db:1' } } }),
  );
  expect(pinImages(raw, { web: 'web:1@sha256:aa' })).toEqual({
    name: 'x',
    services: { web: { image: 'web:1@sha256:aa', command: 'a' }, db: { image: 'db:1' } },
  });
});
