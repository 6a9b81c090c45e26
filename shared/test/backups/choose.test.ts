import fc from 'fast-check';
import { chooseBackup } from '../../src/backups/choose';
import type { Backup } from '../../src/model/backup';
import { backup, history, item } from './sample-backups';

const at = (time: string, over: Parameters<typeof backup>[1] = {}): Backup => backup(new Date(time), over);
const taken = [item('redis:cache', { proof: undefined })];

const a = at('2026-11-20T03:00:00Z', { letters: 'aaaa' });
const b = at('2026-11-21T03:00:00Z', { letters: 'bbbb' });
const c = at('2026-11-22T03:00:00Z', { letters: 'cccc', items: taken });
const bad = at('2026-11-22T09:00:00Z', { letters: 'dddd', suspicions: ['postgres:db/app has 1 rows in all.'] });
const all = [b, bad, a, c];

const choose = (target: string, backups: readonly Backup[]): string => {
  const choice = chooseBackup(target, backups);
  return 'backup' in choice ? choice.backup.id : choice.problem;
};

test.each([
  ['latest', c],
  ['latest-proven', b],
  ['20261121', b],
  [b.id, b],
  [bad.id, bad],
  ['2026-11-22 03:00', c],
  ['2026-11-22 02:59', b],
  ['2026-11-22 02:59:59', b],
  ['2026-11-22T03:00:00Z', c],
  ['2026-11-22t03:00:00z', c],
  ['2026-11-22T03:59:59+01:00', b],
  ['2026-11-22T04:00:00+01:00', c],
  ['2026-11-22T02:59:59.999Z', b],
  ['2026-11-22 20:00', c],
  ['2099-01-01 00:00', c],
])('%s', (target, expected) => {
  expect(choose(target, all)).toBe(expected.id);
});

test.each([
  ['2026-11-20 02:59', /no backup at or before 2026-11-20T02:59:00\.000Z .* 20261120T030000Z-aaaa \(proven\)\.$/],
  ['2026-02-30 03:00', /is not a time: write 2026-11-22 03:00/],
  ['2026-11-22', /is not a time/],
  ['2026-11-22 25:00', /is not a time/],
  ['2026-11-22 03:00 CET', /is not a time/],
  ['202611', /^It could be each of 4\. There are 20261122T090000Z-dddd \(suspect\), 20261122T030000Z-cccc \(taken\), /],
  ['20261122T09', /^20261122T090000Z-dddd is suspect: postgres:db\/app has 1 rows in all\. Give its whole id/],
  ['20200101T000000Z-aaaa', /Backup 20200101T000000Z-aaaa is not there: .*There are/],
  ['', /No backup is meant by ``: give latest-proven/],
  ['newest\n::error::', /No backup is meant by `newest ::error::`.*There are .*-aaaa/],
])('%j: says why not, and what there is', (target, message) => {
  expect(choose(target, all)).toMatch(message);
});

test.each([
  ['latest', [], 'There is no backup that is not suspect. There are no backups.'],
  ['latest', [bad], 'There is no backup that is not suspect. There is 20261122T090000Z-dddd (suspect).'],
  ['latest-proven', [bad], 'No backup is proven. There is 20261122T090000Z-dddd (suspect).'],
  [
    'latest-proven',
    [c],
    'No backup is proven (`latest` would be one that is not proven as a whole). There is 20261122T030000Z-cccc (taken).',
  ],
])('%s of too little', (target, backups, expected) => {
  expect(choose(target, backups)).toBe(expected);
});

test('a long list is cut', () => {
  const many = Array.from({ length: 30 }, (_, day) => backup(day * 24, { items: taken }));
  expect(choose('latest-proven', many)).toMatch(/ and 10 older ones\.$/);
});

test('one of another server is chosen by its whole id alone', () => {
  const foreign = at('2026-11-22T12:00:00Z', { letters: 'ffff', server: 'deploy@198.51.100.9' });
  expect(chooseBackup(foreign.id, all, [foreign])).toEqual({ backup: foreign });
  for (const target of ['latest', 'latest-proven', '2026-11-23 00:00', '202611'])
    expect(chooseBackup(target, all, [foreign])).not.toEqual({ backup: foreign });
  expect(chooseBackup('latest-proven', [], [foreign])).toEqual({
    problem: `No backup is proven. There are no backups. Of other servers, each to be had by its whole id: ${foreign.id} (proven, deploy@198.51.100.9).`,
  });
});

test('over any history: never a suspect one, but by its whole id (property)', () => {
  const target = fc.oneof(
    fc.constantFrom('latest', 'latest-proven', '', '2026', '2026-11-01 00:00', '2099-01-01 00:00'),
    fc.nat(22).map((length) => '20261122T223100Z-aa00'.slice(0, length)),
    fc.string(),
  );
  fc.assert(
    fc.property(history, target, fc.nat(), (backups, text, index) => {
      const choice = chooseBackup(text, backups);
      if ('backup' in choice) expect(choice.backup.result !== 'suspect' || choice.backup.id === text).toBe(true);
      if ('backup' in choice && text === 'latest-proven') expect(choice.backup.result).toBe('proven');
      const one = backups[index % backups.length];
      if (one !== undefined) expect(chooseBackup(one.id, backups)).toEqual({ backup: one });
    }),
    { numRuns: 1000 },
  );
});
