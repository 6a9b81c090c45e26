import type { Release } from '#shared/model/release';
import { describeReleases, renderReleases, type ListedRelease } from '../src/list';

const image = (name: string, letter: string): string => `${name}@sha256:${letter.repeat(64)}`;

function release(hour: number, services: Release['services'], over: Partial<Release> = {}): Release {
  return {
    id: `20261122T0${hour}0000Z-${String(hour).repeat(7)}`,
    project: 'shop',
    created: `2026-11-22T0${hour}:00:00Z`,
    commit: String(hour).repeat(40),
    ref: 'main',
    actor: 'ann',
    runUrl: 'https://x',
    result: 'healthy',
    checks: [],
    services,
    files: [],
    ...over,
  };
}

const service = (letter: string, configHash = letter): Release['services'][string] => ({
  reference: 'web:1',
  image: image('web:1', letter),
  configHash,
});

const first = release(1, { web: service('a'), old: service('f') });
const second = release(2, { web: service('b') });
const back = release(3, { web: service('b', 'other') }, { rollback: { of: second.id, from: first.id } });
const now = release(4, { web: service('b'), api: service('c') });
const local = (letter: string) => ({
  id: letter,
  tags: [],
  digests: [`web@sha256:${letter.repeat(64)}`],
  bytes: 1,
  layerDiffIds: [],
});

const list = (): ListedRelease[] =>
  describeReleases({
    releases: [first, now, back, second],
    current: now.id,
    images: ['b', 'c'].map(local),
    journal: '',
  });

test('newest first, with what differs from what serves, and whether the images are there', () => {
  expect(
    list().map(({ id, serves, result, changes, imagesPresent, rollbackOf }) => ({
      id,
      serves,
      result,
      changes,
      imagesPresent,
      rollbackOf,
    })),
  ).toEqual([
    { id: now.id, serves: true, result: 'healthy', changes: {}, imagesPresent: true, rollbackOf: '' },
    {
      id: back.id,
      serves: false,
      result: 'healthy',
      changes: { api: 'removed', web: 'configuration' },
      imagesPresent: true,
      rollbackOf: second.id,
    },
    {
      id: second.id,
      serves: false,
      result: 'healthy',
      changes: { api: 'removed' },
      imagesPresent: true,
      rollbackOf: '',
    },
    {
      id: first.id,
      serves: false,
      result: 'failed',
      changes: { api: 'removed', old: 'added', web: 'image' },
      imagesPresent: false,
      rollbackOf: '',
    },
  ]);
});

test('one line each, for people', () => {
  expect(list().map(({ line }) => line)).toEqual([
    `* ${now.id}  serves; main; by ann`,
    `  ${back.id}  healthy; main; by ann; rollback to ${second.id}; differs in api (removed), web (configuration)`,
    `  ${second.id}  healthy; main; by ann; differs in api (removed)`,
    `  ${first.id}  gone back from; main; by ann; differs in api (removed), old (added), web (image); its images are gone from the server`,
  ]);
});

test('the table of the summary escapes what people have named', () => {
  const [row] = describeReleases({
    releases: [release(1, {}, { ref: 'a|b <script>', actor: '@ann' })],
    journal: '',
    current: undefined,
    images: [],
  });
  const table = renderReleases(row === undefined ? [] : [row]);
  expect(table).not.toContain('<script>');
  expect(table).toContain('a\\|b');
});
