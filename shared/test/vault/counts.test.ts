import fc from 'fast-check';
import { countKeys, countTables, countTree, isSameCounts, readTree, sumRows } from '../../src/vault/counts';
import { item } from '../backups/sample-backups';

const table = (schema: string, name: string, rows = 1, hash = '7') => ({
  kind: 'table' as const,
  schema,
  name,
  rows,
  hash,
});
const HASH = 'a'.repeat(64);

test('tables by their names, and large objects as one more', () => {
  expect(
    countTables([
      table('public', 'orders', 3, '-12'),
      { kind: 'largeObjects', schema: '', name: '', rows: 2, hash: '5' },
    ]),
  ).toEqual({ 'public.orders': { rows: 3, hash: '-12' }, '(large objects)': { rows: 2, hash: '5' } });
});

test('no table hides another one, whatever they are called (property)', () => {
  const name = fc.oneof(fc.constantFrom('a', 'b', 'a.b', 'b.c', '.', '__proto__', 'constructor', '"'), fc.string());
  fc.assert(
    fc.property(
      fc.uniqueArray(fc.tuple(name, name), { selector: ([a, b]) => JSON.stringify([a, b]), maxLength: 8 }),
      (names) => {
        const tables = names.map(([schema, one], index) => table(schema, one, 10 ** index));
        const counts = countTables(tables);
        expect(Object.keys(counts)).toHaveLength(tables.length);
        expect(sumRows(counts)).toBe(tables.reduce((sum, { rows }) => sum + rows, 0));
      },
    ),
  );
});

test('the same tables are the same in any order, and each single change is one', () => {
  const tables = [table('a.b', 'c'), table('a', 'b.c', 2), table('public', 't')];
  const counts = countTables(tables);
  expect(isSameCounts(counts, countTables(tables))).toBe(true);
  expect(isSameCounts(counts, Object.fromEntries(Object.entries(counts).reverse()))).toBe(true);
  for (const index of tables.keys()) {
    const changed = (over: object) => countTables(tables.map((one, at) => (at === index ? { ...one, ...over } : one)));
    expect(isSameCounts(counts, changed({ rows: 9 }))).toBe(false);
    expect(isSameCounts(counts, changed({ hash: '8' }))).toBe(false);
    expect(isSameCounts(counts, changed({ name: 'other' }))).toBe(false);
    const less = countTables(tables.filter((_, at) => at !== index));
    expect(isSameCounts(counts, less)).toBe(false);
    expect(isSameCounts(less, counts)).toBe(false);
  }
});

test('what every object has by birth is no table', () => {
  expect(isSameCounts({ constructor: { rows: 0, hash: '' } }, { toString: { rows: 0, hash: '' } })).toBe(false);
  expect(isSameCounts({}, {})).toBe(true);
});

test('keys by database, and entries of a tree, which are read back', () => {
  expect(
    countKeys([
      { database: 0, keys: 5, expires: 1 },
      { database: 3, keys: 2, expires: 0 },
    ]),
  ).toEqual({
    db0: { rows: 5, hash: '' },
    db3: { rows: 2, hash: '' },
  });
  const tree = { entries: 4, hash: HASH };
  expect(readTree(item('volume:uploads', { counts: countTree(tree) }))).toEqual(tree);
});

test.each([
  {},
  { entries: { rows: 1, hash: '' } },
  { entries: { rows: 1, hash: `${HASH}0` } },
  { db0: { rows: 1, hash: HASH } },
])('a tree that the manifest does not describe is refused: %j', (counts) => {
  expect(() => readTree(item('volume:uploads', { counts }))).toThrow(/does not say what is in volume:uploads/);
});
