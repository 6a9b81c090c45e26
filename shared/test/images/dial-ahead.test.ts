import { PassThrough } from 'node:stream';
import { dialAhead, guessImages, registriesOf } from '../../src/images/dial-ahead';
import type { Session } from '../../src/ports';

describe('the registries that a Compose file seems to name', () => {
  const compose = (...images: readonly string[]): string =>
    `services:\n${images.map((image, index) => `  s${index}:\n    image: ${image}\n`).join('')}`;
  const guess = (text: string, variables: Record<string, string> = {}): string[] =>
    registriesOf(guessImages([text], variables)).map(({ host, port, images }) => `${host}:${port} ${images}`);

  test.each<[string, string[]]>([
    [compose('ghcr.io/acme/shop:1'), ['ghcr.io:443 1']],
    [compose('"registry.example.com:5000/shop"'), ['registry.example.com:5000 1']],
    [compose("'localhost/shop'"), ['localhost:443 1']],
    [compose('postgres:17'), []],
    [compose('acme/shop:1'), []],
    [compose('docker.io/acme/shop'), []],
    [compose('postgres # image: ghcr.io/acme/shop'), []],
    [compose('ghcr.io/a', 'ghcr.io/b', 'GHCR.io/c', 'ghcr.io/a'), ['ghcr.io:443 3']],
    [compose('ghcr.io/a', 'quay.io/b'), ['ghcr.io:443 1', 'quay.io:443 1']],
    ['services: { a: { image: ghcr.io/a, profiles: [tools] }, b: { build: . }, c: null }', []],
    ['services: [ghcr.io/a]', []],
    ['services: {', []],
    ['', []],
  ])('%j', (text, expected) => {
    expect(guess(text)).toEqual(expected);
  });

  test('nothing but what a service has for its image: not a text in a configuration that looks like one', () => {
    const text =
      'configs: { c: { content: "\\nimage: ${SECRET}/x\\n" } }\nservices: { a: { environment: { image: quay.io/x } } }';
    expect(guessImages([text], { SECRET: 'hunter2.example.com' })).toEqual([]);
  });

  test('a later file goes over those before it', () => {
    expect(guessImages([compose('app:1', 'redis'), compose('app:2')], {})).toEqual(['app:2', 'redis']);
  });

  test('with variables, and what stands for those that are not set', () => {
    const text = compose('${REGISTRY:-ghcr.io}/acme/shop:${TAG}');
    expect(guess(text)).toEqual(['ghcr.io:443 1']);
    expect(guess(text, { REGISTRY: 'registry.example.com' })).toEqual(['registry.example.com:443 1']);
    expect(guess(compose('$REGISTRY/shop'), { REGISTRY: 'quay.io' })).toEqual(['quay.io:443 1']);
  });
});

describe('connections that were opened ahead', () => {
  const dialled: string[] = [];
  const opened: PassThrough[] = [];
  const session = {
    where: 'here',
    dial: (host: string, port: number) => {
      dialled.push(`${host}:${port}`);
      const stream = new PassThrough();
      opened.push(stream);
      return Promise.resolve(stream);
    },
  } as unknown as Session;

  beforeEach(() => {
    dialled.length = 0;
    opened.length = 0;
  });

  test('each is handed out once; then new ones are opened; the rest is closed', async () => {
    const ahead = dialAhead(session, [{ host: 'ghcr.io', port: 443, images: 2 }]);
    expect(dialled).toEqual(['ghcr.io:443', 'ghcr.io:443', 'ghcr.io:443']);
    const taken = [await ahead.session.dial('ghcr.io', 443), await ahead.session.dial('ghcr.io', 443)];
    expect(taken).toEqual(opened.slice(0, 2));
    expect(dialled).toHaveLength(3);
    await ahead.session.dial('quay.io', 443);
    expect(dialled).toHaveLength(4);
    ahead.drop();
    await Promise.resolve();
    expect(opened.map((stream) => stream.destroyed)).toEqual([false, false, true, false]);
  });

  test('never so many that a registry would mind', () => {
    dialAhead(
      session,
      Array.from({ length: 9 }, (_, index) => ({ host: `r${index}.example.com`, port: 443, images: 50 })),
    ).drop();
    expect(dialled).toHaveLength(16);
  });

  test('one that could not be opened fails for whoever takes it, and for nobody else', async () => {
    const failing = { ...session, dial: () => Promise.reject(new Error('refused')) };
    const ahead = dialAhead(failing, [{ host: 'ghcr.io', port: 443, images: 1 }]);
    await expect(ahead.session.dial('ghcr.io', 443)).rejects.toThrow('refused');
    ahead.drop();
  });
});
