import type { Release } from '#shared/model/release';
import { type Before, decide, isDone, lookBefore } from '../src/choice';

const id = (hour: number): string => `20261122T0${hour}0000Z-${String(hour).repeat(7)}`;

function release(hour: number, rollback?: Release['rollback']): Release {
  return {
    id: id(hour),
    project: 'shop',
    created: '',
    commit: String(hour).repeat(40),
    ref: 'main',
    actor: '',
    runUrl: '',
    result: 'healthy',
    checks: [],
    services: {},
    ...(rollback === undefined ? {} : { rollback }),
    files: [],
  };
}

/** @param tried hour of a release that is in the store and not decided */
function facts(releases: readonly Release[], current: number | undefined, tried?: number) {
  return {
    releases,
    current: current === undefined ? undefined : id(current),
    journal: tried === undefined ? '' : `slipway 2\nrelease ${id(tried)}\nlimit 60\nundo keep-only web c1\nend\n`,
  };
}

const [a, b, c] = [release(1), release(2), release(3)];

describe('what is to come back', () => {
  const choose = (wanted: string, ...now: Parameters<typeof facts>): string => {
    const choice = decide(wanted, facts(...now), []);
    return choice === 'take back' ? choice : choice.id;
  };

  test.each([
    ['previous', [a, b], 2, undefined, a.id],
    ['previous, while another one is being tried: that one is to go', [a, b, c], 2, 3, 'take back'],
    ['previous, while what was decided is being cleaned up', [a, b, c], 3, 3, b.id],
    ['the one that serves, while another one is being tried', [a, b, c], 2, 3, 'take back'],
    ['an older one, while another one is being tried', [a, b, c], 2, 3, a.id],
  ])('%s', (_name, releases, current, tried, expected) => {
    const wanted = expected === a.id && tried === 3 ? a.id : _name.startsWith('the one') ? b.id : 'previous';
    expect(choose(wanted, releases, current, tried)).toBe(expected);
  });

  test('what is only being tried cannot be gone back to', () => {
    expect(() => choose(c.id, [a, b, c], 2, 3)).toThrow(/not in the store/);
  });

  test('what serves, and nothing is being tried', () => {
    expect(() => choose(b.id, [a, b], 2)).toThrow(/serves already/);
  });

  test('nothing serves yet', () => {
    expect(() => lookBefore('previous', facts([a], undefined, 1))).toThrow(/first deploy of the project is under way/);
  });
});

describe('after waiting', () => {
  const before = (wanted: string, current: number, underWay?: number): Before => ({
    wanted,
    current: id(current),
    underWay: underWay === undefined ? undefined : id(underWay),
  });
  const away = release(4, { of: a.id, from: b.id });

  test.each([
    ['what was being tried is gone: done', before('previous', 2, 3), facts([a, b], 2), true],
    ['the same, and what serves was named', before(b.id, 2, 3), facts([a, b], 2), true],
    ['it is gone, and an older one was named', before(a.id, 2, 3), facts([a, b], 2), false],
    ['what was being tried has gone live: it is to go', before('previous', 2, 3), facts([a, b, c], 3), false],
    ['it was live already, and was only being cleaned up', before('previous', 3), facts([a, b, c], 3), false],
    ['a deploy that never began to change anything', before('previous', 2), facts([a, b], 2), false],
    ['it is still there: nobody has taken it back', before('previous', 2, 3), facts([a, b, c], 2), false],
    ['another rollback has gone back from what was to go', before('previous', 2, 4), facts([a, b, away], 4), true],
    ['the same, to the one that was named', before(a.id, 2, 4), facts([a, b, away], 4), true],
    ['another rollback, to another one than was named', before(c.id, 2, 4), facts([a, b, c, away], 4), false],
    ['another rollback that was undone', before('previous', 2), facts([a, b], 2), false],
    ['a rollback of another release', before('previous', 3, 4), facts([a, b, c, away], 4), false],
    ['nothing serves any more', before('previous', 2, 3), facts([], undefined), false],
  ])('%s', (_name, known, now, expected) => {
    expect(isDone(known, now)).toBe(expected);
  });
});
