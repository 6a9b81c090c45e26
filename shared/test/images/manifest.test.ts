import fc from 'fast-check';
import { parseConfig, parseManifest } from '../../src/images/manifest';

const digest = (letter: string): string => `sha256:${letter.repeat(64)}`;
const DOCKER = 'application/vnd.docker.distribution.manifest.v2+json';

test('an image of Docker: the type comes from the header where the document has none', () => {
  const document = {
    schemaVersion: 2,
    config: { mediaType: 'application/vnd.docker.container.image.v1+json', size: 7, digest: digest('c') },
    layers: [{ mediaType: 'application/vnd.docker.image.rootfs.diff.tar.gzip', size: 9, digest: digest('1') }],
  };
  const config = { digest: digest('c'), bytes: 7, mediaType: 'application/vnd.docker.container.image.v1+json' };
  const layers = [{ digest: digest('1'), bytes: 9, mediaType: 'application/vnd.docker.image.rootfs.diff.tar.gzip' }];
  expect(parseManifest(JSON.stringify(document), `${DOCKER}; charset=utf-8`)).toEqual({
    kind: 'image',
    mediaType: DOCKER,
    config,
    layers,
  });
});

test('an index lists what can run, and no attestation', () => {
  const entry = (letter: string, platform: unknown) => ({
    mediaType: DOCKER,
    size: 1,
    digest: digest(letter),
    platform,
  });
  const parsed = parseManifest(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: 'application/vnd.oci.image.index.v1+json',
      manifests: [
        entry('a', { os: 'linux', architecture: 'arm', variant: 'v7' }),
        entry('b', { os: 'unknown', architecture: 'unknown' }),
        entry('c', undefined),
        { ...entry('d', { os: 'linux', architecture: 'amd64' }), digest: '../x' },
      ],
    }),
    'text/plain',
  );
  expect(parsed).toEqual({
    kind: 'index',
    mediaType: 'application/vnd.oci.image.index.v1+json',
    manifests: [
      {
        mediaType: DOCKER,
        bytes: 1,
        digest: digest('a'),
        platform: { os: 'linux', architecture: 'arm', variant: 'v7' },
      },
    ],
  });
});

test('a configuration', () => {
  const rootfs = { type: 'layers', diff_ids: [digest('1'), digest('2')] };
  expect(parseConfig(JSON.stringify({ os: 'linux', architecture: 'arm64', variant: 'v8', rootfs }))).toEqual({
    platform: { os: 'linux', architecture: 'arm64', variant: 'v8' },
    diffIds: rootfs.diff_ids,
  });
  expect(parseConfig('{}')).toEqual({ platform: undefined, diffIds: [] });
  expect(parseConfig(JSON.stringify({ rootfs: { diff_ids: ['sha256:x'] } }))).toEqual({
    platform: undefined,
    diffIds: [],
  });
});

test('whatever the document, it is read without an error, and only sound digests and sizes come out', () => {
  const descriptor = fc.record(
    {
      digest: fc.oneof(fc.constant(digest('a')), fc.string()),
      size: fc.oneof(fc.integer(), fc.double(), fc.constant('5')),
      mediaType: fc.oneof(fc.string(), fc.integer()),
      platform: fc.oneof(fc.record({ os: fc.string(), architecture: fc.string() }), fc.constant(null)),
    },
    { requiredKeys: [] },
  );
  const list = fc.oneof(fc.array(fc.oneof(descriptor, fc.jsonValue()), { maxLength: 4 }), fc.jsonValue());
  const document = fc.oneof(
    fc.jsonValue(),
    fc.record({ schemaVersion: fc.integer(), config: descriptor, layers: list, manifests: list }, { requiredKeys: [] }),
  );
  fc.assert(
    fc.property(document, fc.string(), (json, contentType) => {
      const parsed = parseManifest(JSON.stringify(json), contentType);
      const found =
        parsed.kind === 'index' ? parsed.manifests : parsed.kind === 'image' ? [parsed.config, ...parsed.layers] : [];
      for (const { digest: name, bytes } of found) {
        expect(name).toMatch(/^sha\d+:[a-f0-9]+$/);
        expect(Number.isSafeInteger(bytes) && bytes >= 0).toBe(true);
      }
      parseConfig(JSON.stringify(json));
    }),
    { numRuns: 2000 },
  );
});
