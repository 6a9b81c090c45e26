import fc from 'fast-check';
import { explainDifference } from '../../src/compose/difference';
import { CONTENT_LABEL } from '../../src/compose/rewrite';

const files = '/home/deploy/apps/shop/.slipway/files';
const mount = (source: string, target: string, type = 'bind'): object => ({ type, source, target });

test.each([
  ['nothing', { image: 'a' }, { image: 'a' }, []],
  [
    'the order of keys',
    { image: 'a', environment: { A: '1', B: '2' } },
    { environment: { B: '2', A: '1' }, image: 'a' },
    [],
  ],
  ['the image', { image: 'a' }, { image: 'b' }, ['image']],
  ['an environment value', { environment: { A: '1', B: '2' } }, { environment: { A: '1', B: '3' } }, ['environment B']],
  ['new and gone names', { environment: { A: '1' } }, { environment: { B: '1' } }, ['environment A', 'environment B']],
  ['an environment where none was', {}, { environment: { A: null } }, ['environment A']],
  ['an environment that is gone', { environment: { A: '1' } }, { environment: null }, ['environment A']],
  [
    'labels and networks',
    { labels: { a: '1' }, networks: { default: null } },
    { labels: { a: '2' }, networks: { default: null, back: null } },
    ['labels a', 'networks back'],
  ],
  [
    'command and ports',
    { command: ['a'], ports: [] },
    { command: ['b'], ports: [{ target: 80 }] },
    ['command', 'ports'],
  ],
  [
    'what configs hold',
    { labels: { [CONTENT_LABEL]: '1' } },
    { labels: { [CONTENT_LABEL]: '2' } },
    ['what its configs or secrets hold'],
  ],
  [
    'a shipped file',
    { volumes: [mount(`${files}/aa/site.conf`, '/c')] },
    { volumes: [mount(`${files}/bb/site.conf`, '/c')] },
    ['file site.conf'],
  ],
  ['a new mount of a file', { volumes: [] }, { volumes: [mount(`${files}/bb/site.conf`, '/c')] }, ['volume /c']],
  ['a volume that is gone', { volumes: [mount('data', '/data', 'volume')] }, {}, ['volume /data']],
  [
    'another volume',
    { volumes: [mount('data', '/data', 'volume')] },
    { volumes: [mount('data2', '/data', 'volume')] },
    ['volume /data'],
  ],
  [
    'several at once, sorted',
    { image: 'a', command: 'x', user: '1' },
    { image: 'b', command: 'y', user: '2' },
    ['command', 'image', 'user'],
  ],
  ['an inherited name', { environment: {} }, { environment: { constructor: 'x' } }, ['environment constructor']],
])('%s', (_name, before, after, expected) => {
  expect(explainDifference(before as never, after as never)).toEqual(expected);
});

test.each([
  [null, {}],
  ['text', {}],
  [{}, []],
])('what is not a service differs in its definition', (before, after) => {
  expect(explainDifference(before, after)).toEqual(['definition']);
});

test('no value is ever told (property)', () => {
  const value = fc.oneof(fc.integer({ min: 100_000 }), fc.string({ minLength: 8 })).map((part) => `SECRET-${part}`);
  const service = fc.record(
    {
      image: value,
      command: fc.array(value),
      environment: fc.dictionary(fc.constantFrom('A', 'B'), value),
      labels: fc.dictionary(fc.constantFrom('l', 'm'), value),
      build: fc.record({ args: fc.dictionary(fc.constantFrom('X'), value) }),
    },
    { requiredKeys: [] },
  );
  fc.assert(
    fc.property(service, service, (before, after) => {
      expect(explainDifference(before, after).join(' ')).not.toContain('SECRET');
    }),
    { numRuns: 500 },
  );
});
