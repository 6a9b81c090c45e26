import fc from 'fast-check';
import { parseJson, parseJsonPath, readPath } from '../../src/json';

test.each([
  ['status', ['status']],
  ['checks.postgres.status', ['checks', 'postgres', 'status']],
  ['items[0].id', ['items', 0, 'id']],
  ['[1][2]', [1, 2]],
  ['$.a-b', ['a-b']],
  ['.a.b', ['a', 'b']],
  ['$[0]', [0]],
  ['a["b.c"].d', ['a', 'b.c', 'd']],
  ['checks.postgres:time[0]', ['checks', 'postgres:time', 0]],
])('path %s', (text, path) => {
  expect(parseJsonPath(text)).toEqual(path);
});

test.each(['', 'a..b', '..a', 'a.', 'a[', 'a[x]', 'a[-1]', 'a[0', 'a]b', 'a[0]b', '["a"]b', '*"'])(
  'no path: %s',
  (text) => {
    expect(parseJsonPath(text)).toBeUndefined();
  },
);

test('reads own members only', () => {
  const document = parseJson('{"a":[{"b":null}],"__proto__":1}') ?? null;
  expect(readPath(document, ['a', 0, 'b'])).toBeNull();
  expect(readPath(document, ['a', 1, 'b'])).toBeUndefined();
  expect(readPath(document, ['a', 'length'])).toBeUndefined();
  expect(readPath(document, ['constructor'])).toBeUndefined();
  expect(readPath('text', ['length'])).toBeUndefined();
});

test('any text is a path or none, and any path can be read', () => {
  fc.assert(
    fc.property(
      fc.string({ unit: fc.constantFrom('a', '.', '[', ']', '"', '0', '$', '-') }),
      fc.jsonValue(),
      (text, value) => {
        const path = parseJsonPath(text);
        if (path === undefined) return;
        expect(path.length).toBeGreaterThan(0);
        readPath(parseJson(JSON.stringify(value)) ?? null, path);
      },
    ),
    { numRuns: 2000 },
  );
});
