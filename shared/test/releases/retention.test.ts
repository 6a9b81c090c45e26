import fc from 'fast-check';
import type { Release } from '../../src/model/release';
import { planRetention, unusedFiles, unusedImages } from '../../src/releases/retention';

function release(id: string, over: Partial<Release> = {}): Release {
  return {
    id,
    project: 'shop',
    created: '',
    commit: '',
    ref: '',
    actor: '',
    runUrl: '',
    result: 'healthy',
    checks: [],
    services: {},
    files: [],
    ...over,
  };
}

const ids = (releases: readonly Release[]): string[] => releases.map(({ id }) => id).sort();

test('keeps the newest', () => {
  const releases = ['1', '2', '3', '4', '5'].map((id) => release(id));
  const { keep, remove } = planRetention(releases, 3, '5', '4');
  expect([ids(keep), ids(remove)]).toEqual([
    ['3', '4', '5'],
    ['1', '2'],
  ]);
});

test('keeps what serves and what served before it, however old they are', () => {
  const releases = ['1', '2', '3', '4', '5'].map((id) => release(id));
  const { keep, remove } = planRetention(releases, 2, '1', '2');
  expect([ids(keep), ids(remove)]).toEqual([
    ['1', '2'],
    ['3', '4', '5'],
  ]);
});

const history = fc
  .record({
    size: fc.integer({ min: 1, max: 15 }),
    keepReleases: fc.integer({ min: 2, max: 12 }),
    current: fc.nat(),
    previous: fc.option(fc.nat(), { nil: undefined }),
    files: fc.array(fc.array(fc.nat(6), { maxLength: 3 }), { minLength: 15, maxLength: 15 }),
    images: fc.array(fc.array(fc.nat(6), { maxLength: 3 }), { minLength: 15, maxLength: 15 }),
    order: fc.array(fc.double({ noNaN: true }), { minLength: 15, maxLength: 15 }),
  })
  .map(({ size, keepReleases, current, previous, files, images, order }) => {
    const releases = Array.from({ length: size }, (_, index) =>
      release(`20261122T2231${String(index).padStart(2, '0')}Z-a`, {
        files: (files[index] ?? []).map((file) => `f${file}`),
        services: Object.fromEntries(
          (images[index] ?? []).map((image, at) => [
            `s${at}`,
            { reference: '', image: `i${image}@sha256:0`, configHash: '' },
          ]),
        ),
      }),
    );
    const shuffled = releases
      .map((one, index) => [order[index] ?? 0, one] as const)
      .sort(([a], [b]) => a - b)
      .map(([, one]) => one);
    return {
      releases: shuffled,
      keepReleases,
      current: releases[current % size]?.id ?? '',
      previous: previous === undefined ? undefined : releases[previous % size]?.id,
    };
  });

test('over any history: the way back is kept, the number respected, nothing in use named as unused (property)', () => {
  fc.assert(
    fc.property(history, ({ releases, keepReleases, current, previous }) => {
      const { keep, remove } = planRetention(releases, keepReleases, current, previous);
      expect(ids([...keep, ...remove])).toEqual(ids(releases));
      expect(ids(keep)).toContain(current);
      if (previous !== undefined) expect(ids(keep)).toContain(previous);
      expect(keep).toHaveLength(Math.min(releases.length, keepReleases));
      const others = ids(keep).filter((id) => id !== current && id !== previous);
      for (const removed of ids(remove)) expect(others.every((kept) => kept > removed)).toBe(true);

      const stored = releases.flatMap((one) => one.files);
      const needed = new Set(keep.flatMap((one) => one.files));
      const files = unusedFiles([...stored, 'orphan'], keep);
      expect(files.filter((file) => needed.has(file))).toEqual([]);
      expect(new Set([...files, ...needed])).toEqual(new Set([...stored, 'orphan']));

      const imagesOf = (some: readonly Release[]): string[] =>
        some.flatMap((one) => Object.values(one.services).map(({ image }) => image));
      const images = unusedImages(imagesOf(remove), keep);
      expect(images.filter((image) => imagesOf(keep).includes(image))).toEqual([]);
      expect(new Set(images).size).toBe(images.length);
    }),
    { numRuns: 1000 },
  );
});

test('an image is needed by its content, whatever name it has there', () => {
  const digest = `sha256:${'a'.repeat(64)}`;
  const kept = { services: { web: { image: `web:1@${digest}` } } } as unknown as Release;
  expect(unusedImages([`web@${digest}`, `mirror.test/web:2@${digest}`, 'old:1'], [kept])).toEqual(['old:1']);
});
