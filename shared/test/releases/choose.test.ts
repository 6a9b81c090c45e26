import type { Release } from '../../src/model/release';
import { chooseRelease, listFailed, originOf } from '../../src/releases/choose';

/** @param hour of its creation, so that they sort. */
function release(hour: number, letter: string, over: Partial<Release> = {}): Release {
  return {
    id: `20261122T${String(hour).padStart(2, '0')}0000Z-${letter.repeat(7)}`,
    project: 'shop',
    created: '',
    commit: letter.repeat(40),
    ref: 'main',
    actor: '',
    runUrl: '',
    result: 'healthy',
    checks: [],
    services: {},
    files: [],
    ...over,
  };
}

const a = release(1, 'a');
const b = release(2, 'b');
const c = release(3, 'c');
const backTo = (hour: number, of: Release, from: Release): Release =>
  release(hour, of.commit.slice(0, 1), { rollback: { of: of.id, from: from.id } });

const choose = (target: string, releases: readonly Release[], current: Release): string => {
  const choice = chooseRelease(target, releases, current.id);
  return 'release' in choice ? choice.release.id : choice.problem;
};

describe('previous', () => {
  const afterC = backTo(4, b, c);

  test.each([
    ['the one before', [a, b, c], c, b.id],
    ['whatever their order', [c, a, b], c, b.id],
    ['not one that was gone back from', [a, b, backTo(3, a, b), release(4, 'd')], release(4, 'd'), backTo(3, a, b).id],
    ['after a rollback, the one before what that brought back', [a, b, c, afterC], afterC, a.id],
    ['also where that is gone from the store', [a, c, afterC], afterC, a.id],
    ['one that was found running', [release(0, '0', { result: 'adopted' }), a], a, release(0, '0').id],
  ])('%s', (_name, releases, current, expected) => {
    expect(choose('previous', releases, current)).toBe(expected);
  });

  test.each([
    ['alone', [a], a],
    ['all others were gone back from', [a, b, backTo(3, a, b)], backTo(3, a, b)],
    ['nothing but newer ones', [b, c], b],
  ])('none: %s', (_name, releases, current) => {
    expect(choose('previous', releases, current)).toMatch(/no release before the current one that served well/);
  });

  test('twice back goes further back each time', () => {
    const first = backTo(4, b, c);
    const second = backTo(5, a, first);
    expect(choose('previous', [a, b, c, first], first)).toBe(a.id);
    expect(choose('previous', [release(0, '0'), a, b, c, first, second], second)).toBe(release(0, '0').id);
  });
});

describe('by name', () => {
  const tagged = release(4, 'd', { ref: 'v1.2' });
  const releases = [a, b, c, tagged];

  test.each([
    ['an id', b.id, b.id],
    ['its beginning', '20261122T02', b.id],
    ['a commit', 'b'.repeat(40), b.id],
    ['a short commit in capitals', 'BBBBBBB', b.id],
    ['a tag', 'v1.2', tagged.id],
  ])('%s', (_name, target, expected) => {
    expect(choose(target, releases, c)).toBe(expected);
  });

  test.each([
    ['several', '2026', /could be each of 4/],
    ['a branch with several', 'main', /could be each of 3: .*a{7}.*b{7}.*c{7}/],
    ['too short for a commit', 'bbbbbb', /No release/],
    ['unknown', 'v9', /No release/],
    ['an id that is gone', '20200101T000000Z-abcdefg', /not in the store: .*keep-releases/],
  ])('%s: says so', (_name, target, message) => {
    expect(choose(target, releases, c)).toMatch(message);
  });

  test('a release and its rollbacks are one and the same: the newest of them', () => {
    const again = backTo(5, b, tagged);
    const twice = backTo(7, again, release(6, 'e'));
    expect(originOf(twice, [...releases, again, twice])).toBe(b.id);
    expect(choose('b'.repeat(12), [...releases, again, twice], tagged)).toBe(twice.id);
    expect(choose(b.id, [...releases, again, twice], tagged)).toBe(b.id);
  });
});

test('a record that points to itself, or to the future, makes no circle', () => {
  const itself = release(2, 'b', { rollback: { of: b.id, from: a.id } });
  expect(originOf(itself, [itself])).toBe(b.id);
  const [one, two] = [
    release(2, 'b', { rollback: { of: c.id, from: '' } }),
    release(3, 'c', { rollback: { of: b.id, from: '' } }),
  ];
  expect(originOf(two, [one, two])).toBe(c.id);
});

test('a tag that looks like the beginning of an id is a tag', () => {
  const tagged = release(1, 'a', { ref: '20261122' });
  expect(choose('20261122', [tagged, b, c], c)).toBe(tagged.id);
});

test('of a release and what brought it back, the last verdict counts', () => {
  const first = backTo(4, a, b);
  const second = backTo(5, b, first);
  expect([...listFailed([a, b, first, second])].sort()).toEqual([a.id, first.id]);
  expect(choose('previous', [release(0, '0'), a, b, first, second], second)).toBe(release(0, '0').id);
});

test('failed are those that somebody went back from', () => {
  expect([...listFailed([a, b, backTo(3, a, b)])]).toEqual([b.id]);
});
