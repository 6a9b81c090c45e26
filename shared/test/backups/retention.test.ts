import fc from 'fast-check';
import { planBackupRetention } from '../../src/backups/retention';
import { type Backup, compareBackups } from '../../src/model/backup';
import { backup, DAY, history, item, NOW, SOURCES } from './sample-backups';

const ids = (backups: readonly Backup[]): string[] => backups.map(({ id }) => id);
const days = (age: number, over: Parameters<typeof backup>[1] = {}): Backup => backup(age * 24, over);
const unproven = [item('postgres:db/app', { proof: undefined })];

describe('30 days and at least 1', () => {
  test.each([
    ['alone', [days(90)], []],
    ['older ones go', [days(1), days(29), days(31), days(90)], [2, 3]],
    ['30 days are old, to the millisecond', [days(1), days(30)], [1]],
    ['a bit less is not', [days(1), backup(new Date(NOW.getTime() - 30 * DAY + 1))], []],
    ['what is dated in the future is not old', [days(-400), days(-500)], []],
    ['the newest proven, though newer ones are not', [days(31, { items: unproven }), days(60), days(90)], [2]],
    ['a suspect one is not the newest proven', [days(40, { result: 'suspect' }), days(60), days(90)], [2]],
    [
      'the newest proven of a source that only it has',
      [days(1), days(80, { items: [item('redis:cache')] }), days(90, { items: [item('redis:cache')] })],
      [2],
    ],
    [
      'a suspect one has no proven item',
      [
        days(1),
        days(80, { items: [item('redis:cache')], result: 'suspect' }),
        days(90, { items: [item('redis:cache')] }),
      ],
      [1],
    ],
    [
      'the newest that is proven as a whole, beside newer proven parts',
      [
        days(31, { items: [item('redis:cache'), item('volume:uploads', { proof: undefined })] }),
        days(32, { items: [item('postgres:db/app'), item('volume:uploads', { proof: undefined })] }),
        days(60),
        days(70),
      ],
      [3],
    ],
  ])('%s', (_name, backups, removed) => {
    const plan = planBackupRetention(backups.toReversed(), { days: 30, minimum: 1, now: NOW, run: 'proven' });
    expect(ids(plan.remove)).toEqual(removed.map((index) => backups[index]?.id));
  });
});

test('at least so many, and those that are not suspect are counted first', () => {
  const backups = [
    days(40),
    days(50, { result: 'suspect' }),
    days(60),
    days(70),
    days(80, { result: 'suspect' }),
    days(90),
  ];
  const removed = (minimum: number): string[] =>
    ids(planBackupRetention(backups, { days: 30, minimum, now: NOW, run: 'none' }).remove);
  expect(removed(0)).toEqual(ids(backups.slice(1)));
  expect(removed(3)).toEqual(ids([1, 4, 5].flatMap((index) => backups[index] ?? [])));
  expect(removed(5)).toEqual(ids(backups.slice(4, 5)));
  expect(removed(99)).toEqual([]);
});

test.each([
  ['failed', 'nothing is removed in a run whose own backup failed'],
  ['suspect', 'nothing is removed in a run whose own backup is suspect'],
] as const)('nothing when this run %s', (run, reason) => {
  const backups = [days(1), days(200), days(300)];
  const plan = planBackupRetention(backups, { days: 30, minimum: 1, now: NOW, run });
  expect(plan.remove).toEqual([]);
  expect(plan.keep.map(({ reasons }) => reasons[0])).toEqual([reason, reason, reason]);
});

test('what is kept explains itself', () => {
  const backups = [
    days(1, { items: unproven }),
    days(60, { items: [item('redis:cache'), item('postgres:db/app')] }),
    days(70),
    days(80),
  ];
  const pinned = [backups[2]?.id ?? ''];
  const plan = planBackupRetention(backups, { days: 30, minimum: 1, now: NOW, run: 'taken', pinned });
  expect(plan.keep).toEqual([
    {
      backup: backups[0],
      reasons: ['it is the newest', 'it is younger than 30 days', 'it is one of the 1 that stay in any case'],
    },
    {
      backup: backups[1],
      reasons: ['it is the newest that is proven', 'it has the newest proven postgres:db/app, redis:cache'],
    },
    { backup: backups[2], reasons: ['a kept release names it'] },
  ]);
  expect(plan.remove).toEqual([backups[3]]);
});

test.each([
  [Number.NaN, 1, NOW],
  [-1, 1, NOW],
  [30, Number.NaN, NOW],
  [30, -1, NOW],
  [30, 1.5, NOW],
  [30, 1, new Date(Number.NaN)],
])('%d days, at least %d, at %s: refused', (count, minimum, now) => {
  expect(() => planBackupRetention([days(1)], { days: count, minimum, now, run: 'none' })).toThrow(RangeError);
});

test('over any history: what must stay stays, and a second time nothing more goes (property)', () => {
  const retention = fc.record({
    days: fc.constantFrom(0, 1, 7, 30),
    minimum: fc.integer({ min: 0, max: 6 }),
    now: fc.integer({ min: -5, max: 200 }).map((later) => new Date(NOW.getTime() + later * DAY)),
    run: fc.constantFrom('proven', 'taken', 'suspect', 'failed', 'none'),
  });
  let removals = 0;
  fc.assert(
    fc.property(history, retention, (backups, settings) => {
      const plan = planBackupRetention(backups, settings);
      const kept = plan.keep.map((one) => one.backup);
      removals += plan.remove.length;

      expect(ids([...kept, ...plan.remove]).sort()).toEqual(ids(backups).sort());
      expect(plan.keep.every(({ reasons }) => reasons.length > 0)).toBe(true);
      expect(kept.length).toBeGreaterThanOrEqual(Math.min(settings.minimum, backups.length));

      const oldestFirst = [...backups].sort(compareBackups);
      for (const source of SOURCES) {
        const newest = oldestFirst.findLast(
          (one) => one.result !== 'suspect' && one.items.some((each) => each.source === source && each.proof),
        );
        if (newest !== undefined) expect(kept).toContain(newest);
      }
      const must = [oldestFirst.at(-1), oldestFirst.findLast(({ result }) => result === 'proven')];
      for (const one of must) if (one !== undefined) expect(kept).toContain(one);
      const oldest = settings.now.getTime() - settings.days * DAY;
      expect(plan.remove.every(({ created }) => Date.parse(created) <= oldest)).toBe(true);
      if (settings.run === 'failed' || settings.run === 'suspect') expect(plan.remove).toEqual([]);

      expect(planBackupRetention(kept, settings).remove).toEqual([]);
    }),
    { numRuns: 3000 },
  );
  // Or all of that would hold of nothing.
  expect(removals).toBeGreaterThan(1000);
});
