import fc from 'fast-check';
import { judgeCollapse, MANY_BYTES, MANY_ROWS } from '../../src/backups/anomaly';
import type { Backup, BackupItem } from '../../src/model/backup';
import { backup, counts, history, item, NOW } from './sample-backups';

const app = (rows: Readonly<Record<string, number>>, over: Partial<BackupItem> = {}): BackupItem =>
  item('postgres:db/app', { counts: counts(rows), ...over });
const before = (...items: BackupItem[]): Backup => backup(24, { items });
const now = (...items: BackupItem[]): Backup => backup(0, { items });

describe('no anomaly', () => {
  test.each([
    ['no history', now(app({ orders: 0 }, { bytes: 0 })), []],
    ['growth', now(app({ orders: 9000, more: 5 }, { bytes: 9_000_000 })), [before(app({ orders: 100 }))]],
    ['the same', now(app({ orders: 1000 })), [before(app({ orders: 1000 }))]],
    ['a fall of exactly the threshold', now(app({ orders: 500 })), [before(app({ orders: 1000 }))]],
    ['a small table that was emptied', now(app({ jobs: 0, orders: 1000 })), [before(app({ jobs: 99, orders: 1000 }))]],
    ['a small table that vanished', now(app({ orders: 1000 })), [before(app({ jobs: 99, orders: 1000 }))]],
    ['a small item', now(app({}, { bytes: 10 })), [before(app({}, { bytes: MANY_BYTES - 1 }))]],
    ['an item that is compressed now', now(app({}, { bytes: 90_000, plainBytes: 1_000_000 })), [before(app({}))]],
    ['only against what is not proven', now(app({ orders: 1 })), [before(app({ orders: 1000 }, { proof: undefined }))]],
    [
      'only against what was suspect',
      now(app({ orders: 1000 })),
      [backup(24, { items: [app({ orders: 9000 })], result: 'suspect' })],
    ],
    ['only against what is newer', backup(48, { items: [app({ orders: 1 })] }), [before(app({ orders: 1000 }))]],
    ['only against itself', now(app({ orders: 1 })), [now(app({ orders: 1000 }))]],
    ['a source that is new', now(app({}), item('redis:cache')), [before(app({}))]],
  ])('%s', (_name, one, past) => {
    expect(judgeCollapse(one, past, 0.5)).toEqual([]);
  });
});

describe('a collapse', () => {
  const id = before().id;
  test.each([
    [
      'in bytes',
      now(app({}, { bytes: 100_000 })),
      [before(app({}))],
      [`postgres:db/app has 100000 bytes, and had 1000000: 90 % less (against ${id}).`],
    ],
    [
      'in a table, though all rows together grew',
      now(app({ orders: 100, log: 99_999 })),
      [before(app({ orders: 1000, log: 1000 }))],
      [`Table orders of postgres:db/app has 100 rows, and had 1000: 90 % less (against ${id}).`],
    ],
    [
      'nearly to nothing, which is not rounded to it',
      now(app({ orders: 1, log: 99_999 })),
      [before(app({ orders: 99_999 }))],
      [`Table orders of postgres:db/app has 1 rows, and had 99999: 99.9 % less (against ${id}).`],
    ],
    [
      'of many small tables together',
      now(app({ a: 1, b: 1 })),
      [before(app({ a: 60, b: 60 }))],
      [`postgres:db/app has 2 rows in all, and had 120: 98.3 % less (against ${id}).`],
    ],
    [
      'of a table that vanished',
      now(app({ log: 2000 })),
      [before(app({ orders: 1000, log: 1000 }))],
      [`Table orders of postgres:db/app has vanished: it had 1000 rows in ${id}.`],
    ],
    [
      'of a table that is called as what every object has',
      now(app({ log: 2000 })),
      [before(app({ constructor: 1000, log: 1000 }))],
      [`Table constructor of postgres:db/app has vanished: it had 1000 rows in ${id}.`],
    ],
    [
      'of a source that vanished',
      now(app({})),
      [before(app({}), item('postgres:db/other'))],
      [`postgres:db/other has vanished: ${id} had it, and it was asked for again.`],
    ],
    [
      'against the last proven one, behind one that is not',
      now(app({ orders: 100 })),
      [
        backup(48, { items: [app({ orders: 9 })] }),
        before(app({ orders: 1000 })),
        backup(12, { items: [app({ orders: 100 }, { proof: undefined })] }),
      ],
      [
        `postgres:db/app has 100 rows in all, and had 1000: 90 % less (against ${id}).`,
        `Table orders of postgres:db/app has 100 rows, and had 1000: 90 % less (against ${id}).`,
      ],
    ],
  ])('%s', (_name, one, past, expected) => {
    expect(judgeCollapse(one, past, 0.5)).toEqual(expected);
  });
});

describe('a source that is missing', () => {
  const both = [item('postgres:db/app'), item('postgres:db/other')];
  const alone = [item('postgres:db/app')];
  test('is none where this backup did not ask for it', () => {
    const scope = ['postgres:db/app'];
    expect(judgeCollapse(backup(0, { items: alone, scope }), [backup(24, { items: both })], 0.5)).toEqual([]);
  });

  test('is told though another backup between did not ask for it', () => {
    const between = backup(12, { items: alone, scope: ['postgres:db/app'] });
    expect(judgeCollapse(now(...alone), [between, backup(24, { items: both })], 0.5)).toHaveLength(1);
  });

  test('stays missing while nobody accepts it, and is accepted for good by a backup that is not suspect', () => {
    const past = [backup(24, { items: both })];
    const suspect = backup(12, { items: alone, result: 'suspect' });
    expect(judgeCollapse(now(...alone), [...past, suspect], 0.5)).toHaveLength(1);
    const accepted = backup(6, { items: alone });
    expect(judgeCollapse(accepted, [...past, suspect], 1)).toEqual([]);
    expect(judgeCollapse(now(...alone), [...past, suspect, accepted], 0.5)).toEqual([]);
  });
});

test('many collapsed tables: the greatest losses are named, the others counted', () => {
  const rows = Object.fromEntries(Array.from({ length: 30 }, (_, index) => [`t${index}`, MANY_ROWS + index]));
  const reasons = judgeCollapse(now(app({})), [before(app(rows))], 0.5);
  expect(reasons).toHaveLength(12);
  expect(reasons[1]).toMatch(/^Table t29 of postgres:db\/app has vanished: it had 129 rows/);
  expect(reasons.at(-1)).toMatch(/^20 more tables of postgres:db\/app/);
});

test('names in reasons stay on their line', () => {
  const hostile = 'orders\n::error::\u001b[31m';
  const [, reason] = judgeCollapse(now(app({})), [before(app({ [hostile]: 1000 }))], 0.5);
  expect(reason).toMatch(/^Table orders ::error:: \[31m of/);
});

test.each([
  [0, 999, 1],
  [0.001, 999, 0],
  [0.9, 100, 0],
  [0.9, 99, 1],
  [0.99, 0, 1],
  [1, 0, 0],
])('threshold %d: 1000 rows to %i', (threshold, rows, found) => {
  const reasons = judgeCollapse(
    now(app({ orders: rows, log: 5000 })),
    [before(app({ orders: 1000, log: 1 }))],
    threshold,
  );
  expect(reasons).toHaveLength(found);
});

test.each([Number.NaN, -0.1, 1.1])('threshold %d is refused', (threshold) => {
  expect(() => judgeCollapse(now(), [], threshold)).toThrow(RangeError);
});

test('what only grew is no anomaly; where all was lost, each source that counts says so (property)', () => {
  const rows = fc.dictionary(fc.string(), fc.integer({ min: MANY_ROWS, max: 1e6 }), { minKeys: 1, maxKeys: 5 });
  const share = fc.double({ min: 0, max: 0.99, noNaN: true });
  fc.assert(
    fc.property(rows, fc.nat(1e6), share, (tables, grown, threshold) => {
      const more = Object.fromEntries(Object.entries(tables).map(([name, number]) => [name, number + grown]));
      expect(judgeCollapse(now(app(more)), [before(app(tables))], threshold)).toEqual([]);
      const none = Object.fromEntries(Object.keys(tables).map((name) => [name, 0]));
      expect(judgeCollapse(now(app(none)), [before(app(tables))], threshold)).toHaveLength(
        1 + Object.keys(tables).length,
      );
    }),
  );
});

test('over any history, one that is the same as the newest trusted one of all sources is no anomaly (property)', () => {
  fc.assert(
    fc.property(history, (past) => {
      const sources = new Set(past.flatMap(({ items }) => items.map(({ source }) => source)));
      const one = backup(new Date(NOW.getTime() + 1e12), { items: [...sources].map((source) => item(source)) });
      expect(judgeCollapse(one, past, 0)).toEqual([]);
    }),
  );
});
