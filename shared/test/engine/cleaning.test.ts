import { localTag } from '../../src/commands/images';
import type { Release } from '../../src/model/release';
import type { LocalImage } from '../../src/server/facts';
import { planCleaning, type Cleaning } from '../../src/engine/cleaning';

const digest = (letter: string): string => `web:1@sha256:${letter.repeat(64)}`;
const address = (letter: string): string => letter.repeat(64);

/** @param hour of its creation, so that they sort; each has one image and one shipped folder by its letter. */
function release(hour: number, letter: string, over: Partial<Release> = {}): Release {
  return {
    id: `20261122T${String(hour).padStart(2, '0')}0000Z-${letter.repeat(7)}`,
    project: 'shop',
    created: `2026-11-22T${String(hour).padStart(2, '0')}:00:00Z`,
    commit: letter.repeat(40),
    ref: '',
    actor: '',
    runUrl: '',
    result: 'healthy',
    checks: [],
    services: { web: { reference: 'web:1', image: digest(letter), configHash: '' } },
    files: [address(letter)],
    ...over,
  };
}

interface Scene {
  readonly releases: readonly Release[];
  readonly next: Release;
  readonly keepReleases?: number;
  readonly storedFiles?: readonly string[];
  readonly images?: readonly Pick<LocalImage, 'tags' | 'digests'>[];
  readonly pulling?: readonly string[];
}

function clean({ releases, next, keepReleases = 2, storedFiles, images = [], pulling = [] }: Scene): Cleaning {
  const facts = {
    releases,
    storedFiles: storedFiles ?? releases.flatMap(({ files }) => files),
    images,
    pulling,
  } as unknown as Parameters<typeof planCleaning>[3]['facts'];
  return planCleaning(
    {
      plan: { release: next.id, previous: releases.at(-1)?.id },
      candidate: { trees: next.files.map((one) => ({ address: one })) },
    } as unknown as Parameters<typeof planCleaning>[0],
    next,
    keepReleases,
    {
      facts,
      target: { project: 'shop', projectDirectory: '/srv/shop' },
    },
  );
}

const [a, b, c] = [release(1, 'a'), release(2, 'b'), release(3, 'c')];

test('a first deploy: on the way back everything of it goes, after the commit nothing', () => {
  expect(clean({ releases: [], next: a })).toEqual({
    undo: [
      { verb: 'remove-files', addresses: [address('a')] },
      { verb: 'forget-images', images: [digest('a')] },
    ],
    finish: [],
  });
});

test('what others have as well stays on the way back', () => {
  const next = release(3, 'c', { services: a.services, files: [address('a'), address('c')] });
  expect(clean({ releases: [a, b], next, keepReleases: 5 })).toEqual({
    undo: [{ verb: 'remove-files', addresses: [address('c')] }],
    finish: [],
  });
});

test('after the commit the oldest goes, with its files and images that no kept release has', () => {
  expect(clean({ releases: [a, b], next: c }).finish).toEqual([
    { verb: 'remove-releases', releases: [a.id] },
    { verb: 'remove-files', addresses: [address('a')] },
    { verb: 'forget-images', images: [digest('a')] },
  ]);
  const sharing = release(3, 'c', { services: a.services, files: a.files });
  expect(clean({ releases: [a, b], next: sharing }).finish).toEqual([{ verb: 'remove-releases', releases: [a.id] }]);
});

test('the release before and the new one are never removed, however few are kept', () => {
  for (const keepReleases of [0, 1, 2]) {
    const removed = clean({ releases: [a, b], next: c, keepReleases }).finish.flatMap((verb) =>
      verb.verb === 'remove-releases' ? verb.releases : [],
    );
    expect(removed).toEqual([a.id]);
  }
});

test('what interrupted deploys left goes as well: files, images that they were pulling, images with our tag', () => {
  const pulled = digest('d');
  const tagged = digest('e');
  expect(
    clean({
      releases: [b],
      next: c,
      storedFiles: [address('b'), address('f'), 'not-an-address', '..'],
      pulling: [pulled, digest('c')],
      images: [
        { tags: [localTag('shop', tagged)], digests: [tagged] },
        { tags: [localTag('other', digest('9'))], digests: [digest('9')] },
        { tags: ['web:1'], digests: [digest('8')] },
      ],
    }).finish,
  ).toEqual([
    { verb: 'remove-files', addresses: [address('f')] },
    { verb: 'forget-images', images: expect.arrayContaining([pulled, tagged]) as unknown },
  ]);
});
