import fc from 'fast-check';
import {
  isReleaseId,
  layoutStore,
  makeReleaseId,
  releaseComposeFile,
  nextReleaseTime,
} from '../../src/releases/layout';

const now = new Date('2026-11-22T22:31:00.123Z');

test('everything has its place', () => {
  const layout = layoutStore('/home/deploy/apps/shop');
  expect(layout).toMatchObject({
    project: '/home/deploy/apps/shop',
    store: '/home/deploy/apps/shop/.slipway',
    journal: '/home/deploy/apps/shop/.slipway/journal',
    releases: '/home/deploy/apps/shop/.slipway/releases',
    files: '/home/deploy/apps/shop/.slipway/files',
    current: '/home/deploy/apps/shop/.slipway/current',
  });
  expect(releaseComposeFile(layout, 'R')).toBe('/home/deploy/apps/shop/.slipway/releases/R/compose.yaml');
});

test.each([
  ['ab12cd3ef4567890', '20261122T223100Z-ab12cd3'],
  ['AB12CD3EF', '20261122T223100Z-ab12cd3'],
  ['', '20261122T223100Z-manual'],
  ['ab12cd', '20261122T223100Z-manual'],
  ['../../etc', '20261122T223100Z-manual'],
])('the id of commit %j is %s', (commit, id) => {
  expect(makeReleaseId(now, commit)).toBe(id);
  expect(isReleaseId(id)).toBe(true);
});

test('an adopted release says so', () => {
  expect(makeReleaseId(now, '', 'adopted')).toBe('20261122T223100Z-adopted');
});

test('ids sort by time, whatever the commit (property)', () => {
  const time = fc.date({ min: new Date('2020-01-01'), max: new Date('2099-01-01'), noInvalidDate: true });
  const commit = fc.string({ unit: fc.constantFrom('0', '5', '9', 'a', 'c', 'f'), minLength: 0, maxLength: 40 });
  fc.assert(
    fc.property(time, time, commit, commit, (a, b, c, d) => {
      fc.pre(Math.floor(a.getTime() / 1000) < Math.floor(b.getTime() / 1000));
      expect(makeReleaseId(a, c) < makeReleaseId(b, d)).toBe(true);
      expect(isReleaseId(makeReleaseId(a, c))).toBe(true);
    }),
  );
});

test.each([
  '',
  '.',
  '..',
  '20261122T223100Z',
  '20261122T223100Z-',
  '20261122T223100Z-a/b',
  '20261122T223100Z-a\n',
  ' 20261122T223100Z-a',
  '20261122T223100Z-A',
  `20261122T223100Z-${'a'.repeat(41)}`,
  '-20261122T223100Z-a',
])('%j is no id', (text) => {
  expect(isReleaseId(text)).toBe(false);
});

test('the time of the next release is after all others, whatever the clocks of their runners said', () => {
  const now = new Date('2026-11-22T10:00:00.500Z');
  const next = (...ids: string[]): string => nextReleaseTime(now, ids).toISOString();
  expect(next()).toBe(now.toISOString());
  expect(next('20261122T095959Z-aaaaaaa', 'no id')).toBe('2026-11-22T10:00:00.500Z');
  expect(next('20261122T100000Z-aaaaaaa')).toBe('2026-11-22T10:00:01.000Z');
  expect(next('20261123T235959Z-aaaaaaa', '20261122T100000Z-aaaaaaa')).toBe('2026-11-24T00:00:00.000Z');
  expect(next('20269999T999999Z-aaaaaaa')).toBe(now.toISOString());
});
