import fc from 'fast-check';
import type { ShippedFile } from '../../src/ports';
import { findTree, treeEntries } from '../../src/releases/shipped';

const file = (path: string, text = path, executable = false): ShippedFile => ({
  path,
  executable,
  content: Buffer.from(text),
});
const address = (files: readonly ShippedFile[], path: string): string | undefined => findTree(files, path)?.address;

const FILES = [
  file('nginx/site.conf'),
  file('nginx/conf.d/a.conf'),
  file('nginx.conf'),
  file('scripts/start.sh', '#!', true),
];

test('a folder is everything below it, a file itself', () => {
  expect(findTree(FILES, 'nginx')).toMatchObject({
    name: 'nginx',
    files: [{ path: 'conf.d/a.conf' }, { path: 'site.conf' }],
  });
  expect(findTree(FILES, 'nginx/site.conf')).toMatchObject({ name: 'site.conf', files: [{ path: '' }] });
  expect(findTree(FILES, '')).toMatchObject({ name: 'workspace' });
  expect(findTree(FILES, '')?.files).toHaveLength(4);
  expect(findTree(FILES, 'ngin')).toBeUndefined();
  expect(findTree(FILES, '../nginx')).toBeUndefined();
});

test('modes and places in the store', () => {
  const tree = findTree(FILES, 'scripts');
  if (tree === undefined) throw new Error('the tree is there');
  expect(treeEntries(tree)).toEqual([
    { path: `files/${tree.address}/scripts/start.sh`, content: Buffer.from('#!'), mode: 0o755 },
  ]);
  const single = findTree(FILES, 'nginx.conf');
  if (single === undefined) throw new Error('the file is there');
  expect(treeEntries(single)).toEqual([
    { path: `files/${single.address}/nginx.conf`, content: Buffer.from('nginx.conf'), mode: 0o644 },
  ]);
});

test('the address depends on content, names and modes, and on nothing else', () => {
  const first = address([file('a/x', '1'), file('a/y', '2')], 'a');
  expect(first).toMatch(/^[0-9a-f]{64}$/);
  expect(address([file('a/y', '2'), file('b', 'other'), file('a/x', '1')], 'a')).toBe(first);
  expect(address([file('deep/a/x', '1'), file('deep/a/y', '2')], 'deep/a')).toBe(first);
  for (const other of [
    [file('a/x', '1'), file('a/y', '3')],
    [file('a/x', '1'), file('a/z', '2')],
    [file('a/x', '1', true), file('a/y', '2')],
    [file('a/x', '1')],
    [file('a/x', '12'), file('a/y', '')],
    [file('a/xy', '12')],
    [file('a/x', '1\u0000y\u0000-\u00001\u00002')],
  ]) {
    expect(address(other, 'a')).not.toBe(first);
  }
  expect(address([file('b/x', '1'), file('b/y', '2')], 'b')).not.toBe(first);
});

test('different trees have different addresses, equal ones the same (property)', () => {
  const tree = fc.uniqueArray(
    fc.record({
      path: fc.constantFrom('a', 'b', 'a/b', 'ab', 'c'),
      text: fc.string({ unit: fc.constantFrom('a', 'b', '\0', '-', '1'), maxLength: 4 }),
      executable: fc.boolean(),
    }),
    { selector: ({ path }) => path, minLength: 1, maxLength: 4 },
  );
  const files = (some: readonly { path: string; text: string; executable: boolean }[]): ShippedFile[] =>
    some.map(({ path, text, executable }) => file(`t/${path}`, text, executable));
  const canonical = (some: readonly { path: string }[]): string =>
    JSON.stringify([...some].sort((a, b) => (a.path < b.path ? -1 : 1)));
  fc.assert(
    fc.property(tree, tree, (one, other) => {
      expect(address(files(one), 't') === address(files(other), 't')).toBe(canonical(one) === canonical(other));
      expect(address(files([...one].reverse()), 't')).toBe(address(files(one), 't'));
    }),
    { numRuns: 1000 },
  );
});
