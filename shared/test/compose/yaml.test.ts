import fc from 'fast-check';
import { parse } from 'yaml';
import { parseYaml, renderYaml } from '../../src/compose/yaml';

const TRAPS = [
  'on',
  'off',
  'yes',
  'no',
  'y',
  'n',
  'true',
  'null',
  '~',
  '',
  '1e3',
  '0777',
  '0o777',
  '0x1f',
  '1_000',
  '12:30:45',
  '2026-11-22',
  '.5',
  '.inf',
  '=',
  '- a',
  'a: b',
  '# x',
  '%TAG',
  '@x',
  '`x`',
  '!!int 3',
  '&a',
  '*a',
  '|',
  '>',
  '"q"',
  "it's",
  ' x ',
  'a\nb\n',
  'a\n\n  b: c\n',
  '\t',
  '\\',
  '\u0085',
  '\u2028',
  '\ufeff',
  '😀',
  '${X}',
  '$$',
];

test.each(TRAPS)('%j stays a text, as a value and as a key, under YAML 1.1 and 1.2', (text) => {
  const document = {
    services: {
      web: {
        environment: { VALUE: text, LONG: `${text}${'x'.repeat(200)} ${text}` },
        labels: [text],
        extra: { [text]: 1 },
      },
    },
  };
  const yaml = renderYaml(document);
  expect(parseYaml(yaml)).toEqual(document);
  expect(parse(yaml, { version: '1.1' })).toEqual(document);
  expect(parse(yaml, { version: '1.2', schema: 'core' })).toEqual(document);
});

test('whatever JSON says reads back the same (property)', () => {
  const word = fc.oneof(
    fc.constantFrom(...TRAPS),
    fc.string({ unit: 'grapheme', maxLength: 20 }),
    fc.string({ unit: 'binary', maxLength: 8 }),
  );
  const { value } = fc.letrec((tie) => ({
    leaf: fc.oneof(fc.constant(null), fc.boolean(), fc.integer(), word),
    value: fc.oneof(
      { maxDepth: 3 },
      tie('leaf'),
      fc.array(tie('value'), { maxLength: 4 }),
      fc.dictionary(
        word.filter((key) => key !== '__proto__'),
        tie('value'),
        { maxKeys: 4, noNullPrototype: true },
      ),
    ),
  }));
  fc.assert(
    fc.property(value, (document) => {
      const yaml = renderYaml(document as string);
      expect(parseYaml(yaml)).toEqual(document);
      expect(parse(yaml, { version: '1.1' })).toEqual(document);
    }),
    { numRuns: 2000 },
  );
});

test('merges, as Compose files have them', () => {
  expect(parseYaml('x: &base {a: 1}\ny: {<<: *base, b: 2}')).toEqual({ x: { a: 1 }, y: { a: 1, b: 2 } });
});

test('a document of aliases of aliases does not fill the memory', () => {
  const bomb = Array.from(
    { length: 30 },
    (_, i) => `a${i}: &a${i} [${i === 0 ? '1' : Array.from({ length: 9 }, () => `*a${i - 1}`).join(', ')}]`,
  ).join('\n');
  expect(() => parseYaml(bomb)).toThrow(/alias/i);
});
