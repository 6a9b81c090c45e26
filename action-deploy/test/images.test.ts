import { ImageError, RequestError } from '#shared/errors';
import { readProject, type Service } from '#shared/compose/project';
import { isPresent } from '#shared/engine/images';
import { type AskImage, askRegistries } from '#shared/images/ask';
import { parseDaemon } from '#shared/images/daemon';
import type { Resolution } from '#shared/images/registry';
import type { Json } from '#shared/json';
import type { Http } from '#shared/ports';
import type { ContainerState } from '#shared/probes/container';
import type { LocalImage, ServerFacts } from '#shared/server/facts';
import { FakeClock } from '../../shared/test/fakes/clock';
import { FakeSession } from '../../shared/test/fakes/session';
import { chooseImages, type ImageChoice } from '../src/images';

const digest = (letter: string): string => `sha256:${letter.repeat(64)}`;
const daemon = parseDaemon(JSON.stringify({ OSType: 'linux', Architecture: 'x86_64' }));
const DATA = { volumes: [{ type: 'volume', source: 'data', target: '/data' }] };

const services = (entries: Readonly<Record<string, object>>): readonly Service[] =>
  readProject({ services: entries } as never).services;
const running = (service: string, image: string): ContainerState =>
  ({ service, image, oneoff: false }) as ContainerState;
const local = (name: string, letter: string, tags: readonly string[] = []): LocalImage => ({
  id: letter,
  tags,
  digests: [`${name}@${digest(letter)}`],
  bytes: 1,
  layerDiffIds: [],
});

/** Registries that cannot be reached; how often they were asked. */
async function choose(
  wanted: readonly Service[],
  {
    containers = [],
    images = [],
    refresh = [],
    before,
  }: {
    containers?: readonly ContainerState[];
    images?: readonly LocalImage[];
    refresh?: readonly string[];
    before?: Json;
  } = {},
): Promise<ImageChoice & { asked: string[] }> {
  const asked: string[] = [];
  const http: Http = {
    request: (request) => {
      asked.push(new URL(request.url).hostname);
      return Promise.reject(new RequestError('refused', 'refused', ''));
    },
    reach: () => Promise.reject(new RequestError('refused', 'refused', '')),
  };
  const facts = { containers, images } as unknown as ServerFacts;
  const ask = askRegistries({
    http,
    clock: new FakeClock(),
    session: new FakeSession(() => new ImageError('not expected', '')),
    credentials: undefined,
    daemon: Promise.resolve(daemon),
    isPresent: (pinned) => Promise.resolve(isPresent(pinned, images)),
  });
  const choice = await chooseImages(wanted, refresh, facts, before, ask);
  return { ...choice, asked };
}

test('a digest that the server has needs no registry', async () => {
  const image = `ghcr.io/acme/web:1@${digest('a')}`;
  const { images, findings, asked } = await choose(services({ web: { image } }), {
    images: [local('ghcr.io/acme/web', 'a')],
  });
  expect(images).toMatchObject([{ service: 'web', reference: image, image, present: true, remark: '' }]);
  expect([findings, asked]).toEqual([[], []]);
});

describe('a service with data', () => {
  const pinned = (letter: string): string => `postgres:17@${digest(letter)}`;
  const there = [local('postgres', 'a'), local('postgres', 'b')];

  test('keeps the image that it runs, though the tag may have moved, and though no registry answers', async () => {
    const { images, findings } = await choose(services({ db: { image: 'postgres:17', ...DATA } }), {
      containers: [running('db', pinned('a'))],
      images: there,
    });
    expect(images).toMatchObject([{ image: pinned('a'), reference: 'postgres:17', present: true }]);
    expect(findings).toEqual([]);
  });

  test('keeps what was never pinned', async () => {
    const { images } = await choose(services({ db: { image: 'postgres:17', ...DATA } }), {
      containers: [running('db', 'postgres:17')],
      images: [local('postgres', 'a', ['postgres:17'])],
    });
    expect(images).toMatchObject([{ image: 'postgres:17', present: true }]);
  });

  test.each([
    ['the Compose file names another tag', 'postgres:18', []],
    ['it is to be refreshed', 'postgres:17', ['db']],
  ])('does not where %s', async (_name, image, refresh) => {
    const { images } = await choose(services({ db: { image, ...DATA } }), {
      containers: [running('db', pinned('a'))],
      images: there,
      refresh,
    });
    expect(images[0]?.image).not.toBe(pinned('a'));
  });

  test('does not where the Compose file names another digest', async () => {
    const { images } = await choose(services({ db: { image: pinned('b'), ...DATA } }), {
      containers: [running('db', pinned('a'))],
      images: there,
    });
    expect(images).toMatchObject([{ image: pinned('b'), present: true }]);
  });

  test('does where it is the same digest', async () => {
    const { images } = await choose(services({ db: { image: pinned('a'), ...DATA } }), {
      containers: [running('db', pinned('a'))],
      images: there,
    });
    expect(images).toMatchObject([{ image: pinned('a'), present: true, remark: '' }]);
  });

  test('that has no container yet gets what the file says', async () => {
    const { images } = await choose(services({ db: { image: pinned('a'), ...DATA } }), { images: there });
    expect(images).toMatchObject([{ image: pinned('a') }]);
  });
});

test('a service without data follows its tag', async () => {
  const { images } = await choose(services({ web: { image: 'web:1' } }), {
    containers: [running('web', `web:1@${digest('a')}`)],
  });
  expect(images[0]?.image).toBe('web:1');
});

test('an image that cannot be named is a finding, once for all services that want it', async () => {
  const { findings } = await choose(
    services({ a: { image: 'UPPER' }, b: { image: 'UPPER' }, c: { image: 'web:1:2' }, d: { image: 'host/nothere:' } }),
  );
  expect(findings.map(({ message }) => message.slice(0, 54))).toEqual([
    'Image of a, b: "UPPER" is not an image reference: the ',
    'Image of c: "web:1:2" is not an image reference: a tag',
    'Image of d: "host/nothere:" is not an image reference:',
  ]);
  expect(findings[2]?.message).toContain('its tag is empty, and a tag has');
  expect(findings[2]?.hint).toContain('Is a variable empty? Put it into `variables` or `env`.');
});

test('a service without an image is not judged here, and nobody is asked', async () => {
  expect(await choose(services({ web: { build: { context: '.' } } }))).toEqual({ images: [], findings: [], asked: [] });
});

describe('a service without data that runs under its moving name', () => {
  const pinned = `web:1@${digest('a')}`;
  const definition = (image: string, more: object = {}): Readonly<Record<string, object>> => ({
    web: { image, ...more },
  });
  const there = [local('web', 'a', ['web:1']), local('web', 'b')];
  const replica = (imageId: string, image = 'web:1'): ContainerState => ({ ...running('web', image), imageId });
  const resolve =
    (to: string): AskImage =>
    () =>
      Promise.resolve({ kind: 'resolved', pinned: to, digest: to.split('@')[1] ?? '' } as Resolution);
  const chosen = async (
    containers: readonly ContainerState[],
    { to = pinned, wanted = definition('web:1'), was = definition('web:1'), images = there } = {},
  ): Promise<object | undefined> => {
    const facts = { containers, images } as unknown as ServerFacts;
    const before = { services: was } as unknown as Json;
    return (await chooseImages(services(wanted), [], facts, before, resolve(to))).images[0];
  };

  test('stays under it while it is what the registry has', async () => {
    const stays = { image: 'web:1', reference: 'web:1', present: true };
    expect(await chosen([replica('a'), replica('a')])).toMatchObject(stays);
  });

  test.each<[string, readonly ContainerState[], NonNullable<Parameters<typeof chosen>[1]>]>([
    ['the tag has moved', [replica('a')], { to: `web:1@${digest('b')}` }],
    ['it runs another image', [replica('a'), replica('b')], {}],
    ['it runs under another name', [replica('a', 'web')], {}],
    ['the name is another image now', [replica('a')], { images: [local('web', 'a'), local('web', 'b', ['web:1'])] }],
    ['something else of it changes', [replica('a')], { wanted: definition('web:1', { environment: { A: '1' } }) }],
    ['nothing is known of what runs', [replica('a')], { was: {} }],
    ['it does not run yet', [], {}],
  ])('is pinned where %s', async (_what, containers, over) => {
    const image = over.to ?? pinned;
    expect(await chosen(containers, over)).toMatchObject({ image, present: true });
  });
});

test('each image is asked for once', async () => {
  const { asked } = await choose(services({ a: { image: 'ghcr.io/acme/web:1' }, b: { image: 'ghcr.io/acme/web:1' } }));
  const once = await choose(services({ a: { image: 'ghcr.io/acme/web:1' } }));
  expect(asked).toEqual(once.asked);
});
