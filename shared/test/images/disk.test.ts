import fc from 'fast-check';
import { type DiskFacts, estimateDisk, judgeDisk, type LayerSize } from '../../src/images/disk';

const layer = (name: string, bytes = 1000, mediaType = 'application/vnd.oci.image.layer.v1.tar+gzip'): LayerSize => ({
  digest: `sha256:c-${name}`,
  diffId: `sha256:${name}`,
  bytes,
  mediaType,
});
const image = (...layers: LayerSize[]) => ({ layers });

test.each<[string, LayerSize[][], string[][], number, number]>([
  ['nothing', [], [], 0, 0],
  ['all new', [[layer('a'), layer('b')]], [], 2000, 6400],
  ['all local', [[layer('a'), layer('b')]], [['sha256:a', 'sha256:b', 'sha256:c']], 0, 0],
  ['the lower layer is local', [[layer('a'), layer('b')]], [['sha256:a']], 1000, 3200],
  ['a layer over another one is not the same', [[layer('b')]], [['sha256:a', 'sha256:b']], 1000, 3200],
  [
    'a layer over something new is not the same',
    [[layer('x'), layer('b')]],
    [['sha256:a', 'sha256:b'], ['sha256:b']],
    2000,
    6400,
  ],
  [
    'two images share',
    [
      [layer('a'), layer('b')],
      [layer('a'), layer('c')],
    ],
    [],
    3000,
    9600,
  ],
  [
    'the same blob over two bases is downloaded once and unpacked twice',
    [
      [layer('a'), layer('z')],
      [layer('b'), layer('z')],
    ],
    [],
    3000,
    12_800,
  ],
  [
    'without diff IDs nothing is taken for local',
    [[{ ...layer('a'), diffId: '' }, layer('b')]],
    [['sha256:a', 'sha256:b']],
    2000,
    6400,
  ],
  ['zstd', [[layer('a', 1000, 'application/vnd.oci.image.layer.v1.tar+zstd')]], [], 1000, 3500],
  ['plain tar', [[layer('a', 1000, 'application/vnd.oci.image.layer.v1.tar')]], [], 1000, 1000],
  ['plain tar of Docker', [[layer('a', 1000, 'application/vnd.docker.image.rootfs.diff.tar')]], [], 1000, 1000],
  ['Docker', [[layer('a', 1000, 'application/vnd.docker.image.rootfs.diff.tar.gzip')]], [], 1000, 3200],
  ['an unknown type', [[layer('a', 1000, '')]], [], 1000, 3200],
])('%s', (_name, images, local, downloadBytes, unpackedBytes) => {
  expect(
    estimateDisk(
      images.map((layers) => image(...layers)),
      local,
    ),
  ).toEqual({ downloadBytes, unpackedBytes });
});

const facts = (changes: Partial<DiskFacts> = {}): DiskFacts => ({
  path: '/var/lib/docker',
  freeBytes: 10e9,
  freeInodes: 1e6,
  ...changes,
});

test('enough room finds nothing', () => {
  expect(judgeDisk({ downloadBytes: 1e9, unpackedBytes: 2.9e9 }, facts())).toEqual([]);
  expect(judgeDisk({ downloadBytes: 1e9, unpackedBytes: 2.9e9 }, facts({ freeInodes: undefined }))).toEqual([]);
});

test('what is already there needs no room, however full the disk is', () => {
  expect(judgeDisk({ downloadBytes: 0, unpackedBytes: 0 }, facts({ freeBytes: 0, freeInodes: 0 }))).toEqual([]);
});

test('both findings, with numbers', () => {
  expect(
    judgeDisk({ downloadBytes: 333e6, unpackedBytes: 967e6 }, facts({ freeBytes: 0.4e9, freeInodes: 5000 })),
  ).toEqual([
    {
      message:
        "The new images need about 1.3 GB (333.0 MB to download, unpacked about 967.0 MB) and 256.0 MB to spare, but only 400.0 MB are free on /var/lib/docker (Docker's data root).",
      hint: 'Free some with `docker image prune` (see `docker system df`), or enlarge the disk.',
    },
    {
      message:
        "The new images need about 96700 inodes (files), but only 5000 are free on /var/lib/docker (Docker's data root).",
      hint: 'Free some with `docker image prune` (see `docker system df`), or enlarge the disk.',
    },
  ]);
});

test('more free never finds more, and a smaller estimate neither', () => {
  fc.assert(
    fc.property(fc.nat(1e10), fc.nat(1e10), fc.nat(1e10), fc.nat(1e10), (download, unpacked, free, more) => {
      const estimate = { downloadBytes: download, unpackedBytes: unpacked };
      const tight = judgeDisk(estimate, facts({ freeBytes: free })).length;
      expect(judgeDisk(estimate, facts({ freeBytes: free + more })).length).toBeLessThanOrEqual(tight);
      expect(
        judgeDisk({ ...estimate, unpackedBytes: Math.floor(unpacked / 2) }, facts({ freeBytes: free })).length,
      ).toBeLessThanOrEqual(tight);
    }),
    { numRuns: 1000 },
  );
});

test('an estimate never counts a local image, and is never less than nothing', () => {
  const layers = fc.array(
    fc.constantFrom('a', 'b', 'c', 'd').map((name) => layer(name, 100 + name.charCodeAt(0))),
    { maxLength: 6 },
  );
  fc.assert(
    fc.property(fc.array(layers, { maxLength: 4 }), fc.array(layers, { maxLength: 3 }), (images, local) => {
      const ids = local.map((one) => one.map(({ diffId }) => diffId));
      const estimate = estimateDisk(
        images.map((one) => image(...one)),
        ids,
      );
      expect(estimate.downloadBytes).toBeGreaterThanOrEqual(0);
      const withLocal = estimateDisk(
        [...images, ...local].map((one) => image(...one)),
        ids,
      );
      expect(withLocal).toEqual(estimate);
    }),
    { numRuns: 1000 },
  );
});
