import fc from 'fast-check';
import {
  compareBackups,
  isBackupId,
  isInScope,
  judgeResult,
  listLivingSources,
  listNewestProven,
  makeBackupId,
} from '../../src/model/backup';
import { backup, history, item, NOW, SOURCES } from './sample-backups';

describe('ids', () => {
  test('are a time and a few letters', () => {
    expect(makeBackupId(new Date('2026-11-22T22:31:00.999Z'), Uint8Array.of(0, 25, 26, 31, 255, 32))).toBe(
      '20261122T223100Z-az277a',
    );
  });

  test('sort by time, and are ids (property)', () => {
    const time = fc.date({ min: new Date('2020-01-01'), max: new Date('2099-01-01'), noInvalidDate: true });
    const random = fc.uint8Array({ minLength: 4, maxLength: 8 });
    fc.assert(
      fc.property(time, time, random, random, (a, b, c, d) => {
        fc.pre(Math.floor(a.getTime() / 1000) < Math.floor(b.getTime() / 1000));
        expect(makeBackupId(a, c) < makeBackupId(b, d)).toBe(true);
        expect(isBackupId(makeBackupId(a, c))).toBe(true);
      }),
    );
  });

  test.each([3, 9])('%i bytes of chance are refused', (length) => {
    expect(() => makeBackupId(NOW, new Uint8Array(length))).toThrow(RangeError);
  });

  test.each([
    '',
    '20261122T223100Z',
    '20261122T223100Z-abc',
    '20261122T223100Z-abcd\n',
    '20261122T223100Z-ABCD',
    '../abcd',
  ])('%j is no id', (text) => {
    expect(isBackupId(text)).toBe(false);
  });
});

test('within one moment, ids decide the order', () => {
  const [a, b] = [backup(0, { letters: 'aaaa' }), backup(0, { letters: 'bbbb' })];
  expect([compareBackups(a, b), compareBackups(b, a), compareBackups(a, a)]).toEqual([-1, 1, 0]);
  expect(compareBackups(backup(1), backup(0))).toBeLessThan(0);
});

test.each([
  [['postgres:db'], 'postgres:db/app', true],
  [['redis:cache', 'postgres:db/app'], 'postgres:db/app', true],
  [['postgres:db'], 'postgres:db2/app', false],
  [['postgres:db/app'], 'postgres:db', false],
  [[], 'postgres:db', false],
])('scope %j has %s: %s', (scope, source, expected) => {
  expect(isInScope(scope, source)).toBe(expected);
});

test.each([
  ['all proven', [item('redis:a'), item('redis:b')], [], 'proven'],
  ['one is not', [item('redis:a'), item('redis:b', { proof: undefined })], [], 'taken'],
  ['nothing at all is no proof', [], [], 'taken'],
  ['whatever is proven of it', [item('redis:a')], ['lost much'], 'suspect'],
])('result: %s', (_name, items, suspicions, expected) => {
  expect(judgeResult(items, suspicions)).toBe(expected);
});

test('the newest proven of each source: neither suspect, nor without a proof of its own (property)', () => {
  fc.assert(
    fc.property(history, (backups) => {
      const found = listNewestProven(backups);
      for (const source of SOURCES) {
        const proven = backups.filter(
          (one) => one.result !== 'suspect' && one.items.some((each) => each.source === source && each.proof),
        );
        const newest = proven.sort(compareBackups).at(-1);
        expect(found.get(source)?.backup).toBe(newest);
        expect(found.get(source)?.item.source ?? source).toBe(source);
      }
    }),
    { numRuns: 500 },
  );
});

describe('living sources', () => {
  const both = [item('postgres:db/app'), item('postgres:db/old')];
  const app = [item('postgres:db/app')];
  test.each([
    ['accepted as gone', [backup(2, { items: both }), backup(1, { items: app })], ['postgres:db/app']],
    ['missing, and suspect for it', [backup(2, { items: both }), backup(1, { items: app, result: 'suspect' })], null],
    ['not asked for since', [backup(2, { items: both }), backup(1, { items: app, scope: ['postgres:db/app'] })], null],
    ['back again', [backup(3, { items: both }), backup(2, { items: app }), backup(1, { items: both })], null],
    ['never asked for, as far as the scope says', [backup(1, { items: both, scope: [] })], null],
  ])('%s', (_name, backups, expected) => {
    expect(listLivingSources(backups)).toEqual(expected ?? ['postgres:db/app', 'postgres:db/old']);
  });
});
