import fc from 'fast-check';
import { type JsonObject, readProject } from '../../src/compose/project';
import type { PreflightFinding } from '../../src/errors';
import type { Json } from '../../src/json';
import { judgeAnonymousVolumes, judgeDefinitions, judgeOwner } from '../../src/server/hazards';

const say = (findings: readonly PreflightFinding[]): string[] =>
  findings.map(({ message, hint }) => `${message} ${hint}`);

describe('judgeDefinitions', () => {
  const network = (over: JsonObject = {}): JsonObject => ({
    name: 'shop',
    networks: { default: { name: 'shop_default', ipam: {}, ...over } },
  });
  const volume = (over: JsonObject = {}): JsonObject => ({
    name: 'shop',
    volumes: { data: { name: 'shop_data', ...over } },
  });
  const existing = { networks: ['shop_default', 'shop_back'], volumes: ['shop_data'] };
  const judge = (before: Json | undefined, after: JsonObject, there = existing): string[] =>
    judgeDefinitions(before, after, there).map(({ message }) => message.replace(/: Compose would .*/, ''));

  test('what is said of a network, and of a volume', () => {
    expect(
      say(judgeDefinitions(network(), network({ labels: { a: '1' }, ipam: { config: [{ subnet: 'x' }] } }), existing)),
    ).toEqual([
      'Network shop_default is defined otherwise than in the running release (ipam, labels): Compose would have to make it anew, and cut off every container on it. Give it a new name (`name:`), or take the project down first: `docker compose -p shop down`.',
    ]);
    expect(say(judgeDefinitions(volume(), volume({ driver_opts: { type: 'nfs' } }), existing))).toEqual([
      'Volume shop_data is defined otherwise than in the running release (driver_opts): Compose would have to make it anew, and its data is in the old one. Give the new one another name (`name:`), and copy the data.',
    ]);
  });

  test('never a value', () => {
    const text = say(
      judgeDefinitions(
        volume({ driver_opts: { o: 'username=a,password=hunter2' } }),
        volume({ driver_opts: { o: 'username=a,password=hunter3' } }),
        existing,
      ),
    ).join();
    expect(text).toContain('driver_opts');
    expect(text).not.toContain('hunter');
  });

  test.each<[string, JsonObject, JsonObject]>([
    ['nothing', { driver: 'bridge' }, { driver: 'bridge' }],
    ['the order of keys', { labels: { a: '1', b: '2' } }, { labels: { b: '2', a: '1' } }],
    ['ipam that is missing', {}, { ipam: null }],
    ['empty members', { labels: {}, driver_opts: null }, { ipam: { config: [], options: {} } }],
    ['what is off anyway', { internal: false, attachable: false, driver: '', external: false }, {}],
    ['what Compose does not read', { 'x-owner': 'a' }, { 'x-owner': 'b', 'x-more': {} }],
  ])('no difference: %s', (_name, was, is) => {
    expect(judge(network(was), network(is))).toEqual([]);
    expect(judge(network(is), network(was))).toEqual([]);
    expect(judge(volume(was), volume(is))).toEqual([]);
  });

  test.each<[string, JsonObject, JsonObject, string]>([
    ['a driver', {}, { driver: 'macvlan' }, 'driver'],
    ['a switch', { internal: false }, { internal: true }, 'internal'],
    ['a switch with three states', {}, { enable_ipv6: false }, 'enable_ipv6'],
    ['a label without a value', { labels: { a: '' } }, { labels: {} }, 'labels'],
    ['a list in another order', { ipam: { config: [1, 2] } }, { ipam: { config: [2, 1] } }, 'ipam'],
    ['one item more', { ipam: { config: [{ subnet: 'a' }] } }, { ipam: { config: [{ subnet: 'a' }, {}] } }, 'ipam'],
  ])('a difference: %s', (_name, was, is, key) => {
    const expected = [`Network shop_default is defined otherwise than in the running release (${key})`];
    expect(judge(network(was), network(is))).toEqual(expected);
    expect(judge(network(is), network(was))).toEqual(expected);
  });

  test.each<[string, Json | undefined, JsonObject]>([
    ['a first deploy', undefined, network({ driver: 'macvlan' })],
    ['a release that is no mapping', null, network({ driver: 'macvlan' })],
    ['a new network', { name: 'shop', services: {} }, network({ driver: 'macvlan' })],
    ['a network that goes', network({ driver: 'macvlan' }), { name: 'shop', networks: {} }],
    ['another name', network(), network({ name: 'shop_back', driver: 'macvlan' })],
    ['external before', network({ external: true }), network({ driver: 'macvlan' })],
    ['external now', network({ driver: 'macvlan' }), network({ external: true })],
  ])('nothing to compare: %s', (_name, before, after) => {
    expect(judge(before, after)).toEqual([]);
  });

  test('what is not on the server is made as it is wanted', () => {
    expect(judge(network(), network({ driver: 'x' }), { networks: [], volumes: ['shop_default'] })).toEqual([]);
    expect(judge(volume(), volume({ driver: 'x' }), { networks: ['shop_data'], volumes: [] })).toEqual([]);
  });

  test('it is the name on the server that counts, given or made by Compose', () => {
    expect(
      judge(
        { name: 'shop', networks: { front: { name: 'shop_back', internal: true } } },
        { name: 'shop', networks: { back: null } },
      ),
    ).toEqual(['Network shop_back is defined otherwise than in the running release (internal)']);
  });

  test('a definition is as itself, with empty members or without (property)', () => {
    const empty = fc.constantFrom<Json>(null, {}, []);
    const definition = fc.dictionary(
      fc.constantFrom('labels', 'ipam', 'driver_opts'),
      fc.jsonValue() as fc.Arbitrary<Json>,
    );
    fc.assert(
      fc.property(definition, empty, (members, nothing) => {
        expect(judge(network(members), network({ options: nothing, ...members }))).toEqual([]);
      }),
    );
  });
});

describe('judgeAnonymousVolumes', () => {
  const ID = '0123456789abcdef'.repeat(4);
  const container = (over: object = {}): Parameters<typeof judgeAnonymousVolumes>[0][number] => ({
    name: 'shop-db-1',
    service: 'db',
    image: 'postgres:17',
    oneoff: false,
    mounts: [{ type: 'volume', name: ID, destination: '/data' }],
    ...over,
  });
  const judge = (mount: JsonObject | undefined, over: object = {}, service = 'db'): string[] => {
    const raw: JsonObject = {
      name: 'shop',
      services: { [service]: { image: 'postgres:17', ...(mount === undefined ? {} : { volumes: [mount] }) } },
      volumes: { data: { name: 'shop_data' }, plain: null },
    };
    return say(judgeAnonymousVolumes([container(over)], readProject(raw).services, raw));
  };
  const named = { type: 'volume', source: 'data', target: '/data' };

  test('a named volume instead', () => {
    expect(judge(named)).toEqual([
      `Container shop-db-1 keeps data in an anonymous volume at /data, and the new Compose file mounts volume shop_data there, which would start empty. Keep the mount as it is, or copy the data first, and remove the container (its volume stays): docker stop shop-db-1 && docker run --rm --user 0 --entrypoint cp -v ${ID}:/from:ro -v shop_data:/to postgres:17 -a /from/. /to/ && docker rm shop-db-1`,
    ]);
  });

  test('a folder of the server instead', () => {
    expect(judge({ type: 'bind', source: '/srv/$$data', target: '/data' })).toEqual([
      expect.stringMatching(
        /at \/data, and the new Compose file mounts \/srv\/\$data there, which does not hold it\. .* -v \/srv\/\$data:\/to /,
      ),
    ]);
  });

  test.each<[string, JsonObject, object, string]>([
    ['a volume that Compose names', { ...named, source: 'plain' }, {}, 'volume shop_plain there'],
    ['a slash at the end', { ...named, target: '/data/' }, {}, 'volume shop_data there'],
    ['a container that has stopped', named, { state: 'exited' }, 'volume shop_data there'],
    [
      'one of several mounts',
      named,
      { mounts: [{ type: 'bind', name: '', destination: '/etc/x' }, ...container().mounts] },
      'at /data',
    ],
  ])('found: %s', (_name, mount, over, expected) => {
    expect(judge(mount, over)).toEqual([expect.stringContaining(expected)]);
  });

  test.each<[string, JsonObject | undefined, object?, string?]>([
    ['nothing mounted there: Compose hands the volume on', undefined],
    ['anonymous again', { type: 'volume', target: '/data' }],
    ['mounted elsewhere', { ...named, target: '/other' }],
    ['mounted above', { ...named, target: '/' }],
    ['memory', { type: 'tmpfs', target: '/data' }],
    ['a volume with a name', named, { mounts: [{ type: 'volume', name: 'shop_data', destination: '/data' }] }],
    ['a name that is almost an id', named, { mounts: [{ type: 'volume', name: `${ID}0`, destination: '/data' }] }],
    ['a bind mount', named, { mounts: [{ type: 'bind', name: ID, destination: '/data' }] }],
    ['a container without mounts', named, { mounts: [] }],
    ['what `compose run` made', named, { oneoff: true }],
    ['a service that leaves', named, {}, 'web'],
  ])('not found: %s', (_name, mount, over = {}, service = 'db') => {
    expect(judge(mount, over, service)).toEqual([]);
  });
});

describe('judgeOwner', () => {
  const [first, second] = ['20261122T100000Z-aaaaaaa', '20261123T100000Z-bbbbbbb'];

  test("another project's folder", () => {
    expect(
      say(
        judgeOwner(
          [
            { id: first, project: 'a' },
            { id: second, project: 'a' },
          ],
          'b',
          '/srv/x',
        ),
      ),
    ).toEqual([
      `The folder /srv/x belongs to project a (release ${second}): two projects in one folder would share its data. Choose another folder with the input path, or deploy as project a (input project).`,
    ]);
  });

  test.each<[string, readonly string[], boolean]>([
    ['nobody', [], false],
    ['its own', ['b', 'b'], false],
    ['a release that names no project', [''], false],
    ['its own and another', ['a', 'b'], true],
    ['another one with a similar name', ['B'], true],
  ])('the folder of %s', (_name, projects, found) => {
    const releases = projects.map((project) => ({ id: first, project }));
    expect(judgeOwner(releases, 'b', '/srv/x')).toHaveLength(found ? 1 : 0);
  });
});
