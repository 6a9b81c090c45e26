import fc from 'fast-check';
import { parseChallenges, tokenUrl } from '../../src/images/challenge';

const parse = (header: string) =>
  parseChallenges(header).map(({ scheme, parameters }) => [scheme, Object.fromEntries(parameters)]);

test.each<[string, unknown]>([
  [
    'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/x:pull,push"',
    [
      [
        'bearer',
        {
          realm: 'https://auth.docker.io/token',
          service: 'registry.docker.io',
          scope: 'repository:library/x:pull,push',
        },
      ],
    ],
  ],
  ['Basic realm="a \\"b\\""', [['basic', { realm: 'a "b"' }]]],
  ['basic', [['basic', {}]]],
  ['BEARER Realm = "r" , Service=s', [['bearer', { realm: 'r', service: 's' }]]],
  [
    'Bearer realm="a", Basic realm="b"',
    [
      ['bearer', { realm: 'a' }],
      ['basic', { realm: 'b' }],
    ],
  ],
  ['Bearer realm="a",realm="b"', [['bearer', { realm: 'a' }]]],
  ['Bearer realm="never ends', [['bearer', {}]]],
  ['realm="without a scheme"', []],
  ['', []],
  ['"', []],
])('%s', (header, challenges) => {
  expect(parse(header)).toEqual(challenges);
});

const url = (header: string, registry: string) => {
  const [challenge] = parseChallenges(header);
  return challenge === undefined ? undefined : tokenUrl(challenge, registry, 'acme/web');
};

test.each([
  [
    'Bearer realm="https://auth.example/token",service="reg"',
    'https://reg.example',
    'https://auth.example/token?service=reg&scope=repository%3Aacme%2Fweb%3Apull',
  ],
  [
    'Bearer realm="https://auth.example/t?a=b#c"',
    'https://reg.example',
    'https://auth.example/t?a=b&scope=repository%3Aacme%2Fweb%3Apull',
  ],
  [
    'Bearer realm="http://reg.lan:5000/t"',
    'http://reg.lan:5000',
    'http://reg.lan:5000/t?scope=repository%3Aacme%2Fweb%3Apull',
  ],
  ['Bearer realm="http://reg.lan:5000/t"', 'https://reg.lan:5000', undefined],
  ['Bearer realm="http://other.lan/t"', 'http://reg.lan:5000', undefined],
  ['Bearer realm="https://user:pass@auth.example/t"', 'https://reg.example', undefined],
  ['Bearer realm="file:///etc/passwd"', 'https://reg.example', undefined],
  ['Bearer realm="/token"', 'https://reg.example', undefined],
  ['Bearer service="s"', 'https://reg.example', undefined],
  [`Bearer realm="https://auth.example/${'a'.repeat(3000)}"`, 'https://reg.example', undefined],
])('%s of %s', (header, registry, expected) => {
  expect(url(header, registry)).toBe(expected);
});

test('whatever the header, the scope is ours and the place is safe', () => {
  fc.assert(
    fc.property(fc.webUrl(), fc.string(), (realm, service) => {
      const found = tokenUrl(
        {
          scheme: 'bearer',
          parameters: new Map([
            ['realm', realm],
            ['service', service],
          ]),
        },
        'https://reg.example',
        'a/b',
      );
      if (found === undefined) return;
      expect(new URL(found).protocol).toBe('https:');
      expect(new URL(found).searchParams.getAll('scope')).toEqual(['repository:a/b:pull']);
    }),
    { numRuns: 1000 },
  );
});

test('no header takes long or throws', () => {
  fc.assert(
    fc.property(
      fc.string({ unit: fc.constantFrom('a', '=', '"', '\\', ',', ' ', 'Bearer ', '\n'), maxLength: 500 }),
      (header) => {
        expect(Array.isArray(parseChallenges(header))).toBe(true);
      },
    ),
    { numRuns: 2000 },
  );
  const started = performance.now();
  parseChallenges('"\\'.repeat(100_000));
  parseChallenges(`a="${'\\'.repeat(100_000)}`);
  parseChallenges(' ,'.repeat(100_000));
  expect(performance.now() - started).toBeLessThan(500);
});
