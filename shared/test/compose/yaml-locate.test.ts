import fc from 'fast-check';
import { type LocatedNode, locateYaml, renderYaml } from '../../src/compose/yaml';

const TEXT = `# before
a: &one  # of a map
  b: "x: y"   # behind
  c:
    - 1 # first
    # inside

    # not of the list
  d: {e: [f, 'g''h'], }
  empty:
# behind all
i: *one
j: |
  two
  lines

`;

test('where everything stands', () => {
  const root = locateYaml(TEXT);
  const slices = (node: LocatedNode | undefined): Record<string, string> =>
    Object.fromEntries((node?.entries ?? []).map(({ key, start, value }) => [key, TEXT.slice(start, value.end)]));
  expect(slices(root)).toEqual({
    a: TEXT.slice(TEXT.indexOf('a: &one'), TEXT.indexOf('# behind all') - 1),
    i: 'i: *one',
    j: 'j: |\n  two\n  lines\n',
  });
  const [a, i] = root?.entries ?? [];
  expect(a?.value).toMatchObject({ kind: 'map', anchor: 'one', isFlow: false });
  expect(i?.value).toMatchObject({ kind: 'other', alias: 'one' });
  expect(slices(a?.value)).toEqual({
    b: 'b: "x: y"',
    c: 'c:\n    - 1',
    d: "d: {e: [f, 'g''h'], }",
    empty: 'empty:',
  });
  expect(a?.value.entries[2]?.value.entries[0]?.value).toMatchObject({
    kind: 'list',
    isFlow: true,
    items: [{ text: 'f' }, { text: "g'h" }],
  });
});

test.each(['', '# nothing', 'a: [', 'a: 1\na: 2', '--- 1\n--- 2'])('%j is not one document', (text) => {
  expect(locateYaml(text)).toBeUndefined();
});

test('a service is found by what stands at its place (property)', () => {
  const word = fc
    .string({ unit: 'grapheme', minLength: 1, maxLength: 12 })
    .filter((text) => text !== '__proto__' && text !== '<<');
  const value = fc.oneof(
    fc.integer(),
    word,
    fc.array(word, { maxLength: 3 }),
    fc.dictionary(word, word, { maxKeys: 3 }),
  );
  fc.assert(
    fc.property(fc.dictionary(word, value, { minKeys: 1, maxKeys: 4 }), (document) => {
      const text = renderYaml(document);
      const root = locateYaml(text);
      expect(root?.entries.map(({ key }) => key)).toEqual(Object.keys(document));
      let at = 0;
      for (const { start, value } of root?.entries ?? []) {
        // Between two entries is nothing but the layout.
        expect(text.slice(at, start).trim()).toBe('');
        expect(value.end).toBeGreaterThan(start);
        at = value.end;
      }
      expect(text.slice(at).trim()).toBe('');
    }),
    { numRuns: 500 },
  );
});
