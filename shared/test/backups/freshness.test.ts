import fc from 'fast-check';
import { describeSpan, judgeFreshness } from '../../src/backups/freshness';
import { backup, HOUR, history, item, NOW, proof } from './sample-backups';

const DAY_SECONDS = 86_400;
const app = item('postgres:db/app', { proof: proof(42) });
const unproven = item('postgres:db/app', { proof: undefined });

test('age and proof of the newest proven one', () => {
  const [newest, older] = [backup(3, { items: [app] }), backup(27, { items: [app] })];
  expect(judgeFreshness([older, newest], DAY_SECONDS, NOW)).toEqual([
    {
      source: 'postgres:db/app',
      backup: newest.id,
      ageSeconds: 3 * 3600,
      proofSeconds: 42,
      stale: false,
      words: `The newest proven backup of postgres:db/app is ${newest.id}, 3 h old; its proof took 42 s.`,
    },
  ]);
});

test.each([
  [
    'as old as it may be',
    [backup(24, { items: [app] })],
    false,
    'is 20261121T223100Z-k3v9qa, 1 d old; its proof took 42 s.',
  ],
  ['older', [backup(25, { items: [app] })], true, '1 d 1 h old, which is more than 1 d; its proof'],
  [
    'newer ones are not proven',
    [backup(1, { items: [unproven] }), backup(25, { items: [app] })],
    true,
    '1 d 1 h old, which',
  ],
  [
    'newer ones are suspect',
    [backup(1, { items: [app], result: 'suspect' }), backup(25, { items: [app] })],
    true,
    '1 d 1 h old',
  ],
  ['none is proven', [backup(1, { items: [unproven] })], true, 'postgres:db/app has no proven backup.'],
  [
    'a clock that is a little ahead',
    [backup(-0.05, { items: [app] })],
    false,
    '0 s old; its proof took 42 s. It is dated 3 min in the future: the clocks differ.',
  ],
  [
    'one from the future says nothing of its age',
    [backup(-48, { items: [app] }), backup(25, { items: [app] })],
    true,
    '1 d 1 h old, which is more than 1 d; its proof took 42 s. 20261124T223100Z-k3v9qa does not count: it is dated 2 d in the future, so a clock is wrong.',
  ],
  [
    'nothing but one from the future',
    [backup(-48, { items: [app] })],
    true,
    'has no proven backup. 20261124T223100Z-k3v9qa does not count: it is dated 2 d in the future, so a clock is wrong.',
  ],
])('%s', (_name, backups, stale, words) => {
  const [judged, ...others] = judgeFreshness(backups, DAY_SECONDS, NOW);
  expect(others).toEqual([]);
  expect(judged?.stale).toBe(stale);
  expect(judged?.words).toContain(words);
  expect(judged?.ageSeconds ?? 0).toBeGreaterThanOrEqual(0);
});

test.each([
  ['each of its own', undefined, ['postgres:db/app false', 'redis:cache true']],
  ['only what is required', ['postgres:db'], ['postgres:db/app false']],
  ['what was never backed up', ['volume:uploads', 'postgres:db/app'], ['postgres:db/app false', 'volume:uploads true']],
  ['what is required twice', ['postgres:db/app', 'postgres:db'], ['postgres:db/app false']],
  ['nothing', [], []],
])('sources: %s', (_name, required, expected) => {
  const backups = [
    backup(1, { items: [app], scope: ['postgres:db'] }),
    backup(90, { items: [app, item('redis:cache')] }),
  ];
  expect(judgeFreshness(backups, DAY_SECONDS, NOW, required).map(({ source, stale }) => `${source} ${stale}`)).toEqual(
    expected,
  );
});

test('a source that was accepted as gone is not missed, unless it is required', () => {
  const backups = [backup(1, { items: [app] }), backup(90, { items: [app, item('postgres:db/old')] })];
  expect(judgeFreshness(backups, DAY_SECONDS, NOW).map(({ source }) => source)).toEqual(['postgres:db/app']);
  const required = judgeFreshness(backups, DAY_SECONDS, NOW, ['postgres:db/old']);
  expect(required).toMatchObject([{ source: 'postgres:db/old', stale: true, ageSeconds: 90 * 3600 }]);
});

test('nothing becomes fresher by waiting (property)', () => {
  fc.assert(
    fc.property(history, fc.nat(100), fc.nat(100), (backups, hours, more) => {
      // Later than all of them: a clock that goes right makes nothing appear.
      const then = new Date(NOW.getTime() + (31 + hours) * HOUR);
      const judge = (now: Date): Map<string, boolean> =>
        new Map(judgeFreshness(backups, DAY_SECONDS, now).map(({ source, stale }) => [source, stale]));
      const later = judge(new Date(then.getTime() + more * HOUR));
      for (const [source, stale] of judge(then)) expect(later.get(source) === true || !stale).toBe(true);
    }),
  );
});

test.each([
  [0, '0 s'],
  [0.4, '0 s'],
  [59.6, '1 min'],
  [61, '1 min 1 s'],
  [3600, '1 h'],
  [3661, '1 h 1 min'],
  [90_061, '1 d 1 h'],
  [86_401, '1 d'],
  [Number.NaN, 'an unknown time'],
])('%d seconds: %s', (seconds, expected) => {
  expect(describeSpan(seconds)).toBe(expected);
});
