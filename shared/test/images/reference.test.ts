import fc from 'fast-check';
import { ImageError } from '../../src/errors';
import {
  expectReference,
  familiarName,
  formatCanonical,
  formatFamiliar,
  type ImageReference,
  isDigest,
  normalizeRegistry,
  parseReference,
  pin,
  sameRepository,
  unpin,
  wanted,
} from '../../src/images/reference';

const DIGEST = `sha256:${'0123456789abcdef'.repeat(4)}`;

test.each([
  ['postgres', 'docker.io', 'library/postgres', '', ''],
  ['postgres:15', 'docker.io', 'library/postgres', '15', ''],
  ['library/postgres', 'docker.io', 'library/postgres', '', ''],
  ['docker.io/postgres', 'docker.io', 'library/postgres', '', ''],
  ['index.docker.io/postgres', 'docker.io', 'library/postgres', '', ''],
  ['index.docker.io/acme/web', 'docker.io', 'acme/web', '', ''],
  ['acme/web:v1.2_3-rc.1', 'docker.io', 'acme/web', 'v1.2_3-rc.1', ''],
  ['ghcr.io/acme/shop/web', 'ghcr.io', 'acme/shop/web', '', ''],
  ['localhost/web', 'localhost', 'web', '', ''],
  ['localhost:5000/web:1', 'localhost:5000', 'web', '1', ''],
  ['registry:5000/web', 'registry:5000', 'web', '', ''],
  ['registry/web', 'docker.io', 'registry/web', '', ''],
  ['Registry/web', 'Registry', 'web', '', ''],
  ['10.0.0.1/web', '10.0.0.1', 'web', '', ''],
  ['[::1]/web', '[::1]', 'web', '', ''],
  ['[2001:db8::1]:5000/a/b:c', '[2001:db8::1]:5000', 'a/b', 'c', ''],
  [`postgres@${DIGEST}`, 'docker.io', 'library/postgres', '', DIGEST],
  [`ghcr.io/acme/web:1@${DIGEST}`, 'ghcr.io', 'acme/web', '1', DIGEST],
  ['a__b/c--d/e.f_g', 'docker.io', 'a__b/c--d/e.f_g', '', ''],
  ['localhost:5000', 'docker.io', 'library/localhost', '5000', ''],
  ['web:_tag', 'docker.io', 'library/web', '_tag', ''],
  [`web:${'t'.repeat(128)}`, 'docker.io', 'library/web', 't'.repeat(128), ''],
])('%s', (text, registry, repository, tag, digest) => {
  expect(parseReference(text)).toEqual({ value: { registry, repository, tag, digest } });
});

test.each([
  ['', 'it is empty'],
  [' postgres', 'white space'],
  ['postgres\n', 'white space'],
  ['https://ghcr.io/acme/web', 'a scheme'],
  ['a'.repeat(64), 'image ID'],
  ['Postgres', 'lower case'],
  ['acme/Web', 'lower case'],
  ['postgres:', 'a tag has'],
  ['postgres:-x', 'a tag has'],
  ['postgres:.x', 'a tag has'],
  ['postgres:a b', 'a tag has'],
  ['postgres:1:2', 'a tag has'],
  [`web:${'t'.repeat(129)}`, 'a tag has'],
  ['postgres@', 'what follows the @'],
  ['postgres@sha256:abc', 'what follows the @'],
  [`postgres@${DIGEST.toUpperCase()}`, 'what follows the @'],
  [`postgres@md5:${'a'.repeat(32)}`, 'what follows the @'],
  [`postgres@${DIGEST}@${DIGEST}`, 'what follows the @'],
  ['a//b', 'each part'],
  ['/b', 'each part'],
  ['b/', 'each part'],
  ['a___b', 'each part'],
  ['a..b', 'each part'],
  ['-a', 'each part'],
  ['a-', 'each part'],
  ['ghcr.io/', 'each part'],
  ['--privileged', 'each part'],
  ['web;reboot', 'each part'],
  ['$(reboot)', 'each part'],
  ['ghcr.io:x/web', "is not a registry's host name"],
  ['-ghcr.io/web', "is not a registry's host name"],
  ['[::1/web', "is not a registry's host name"],
  ['ghcr..io/web', "is not a registry's host name"],
  ['münchen.de/web', "is not a registry's host name"],
  [`a/${'b'.repeat(254)}`, 'more than 255'],
])('%j is no reference', (text, why) => {
  expect(parseReference(text)).toEqual({ problem: expect.stringContaining(why) as string });
});

test('a problem is one full sentence without control characters', () => {
  const parsed = parseReference('web\u001b[31m:bad\r\ntag tag');
  expect(parsed).toEqual({
    problem:
      '"web [31m:bad tag tag" is not an image reference: a tag has 1 to 128 letters, digits, `_`, `.` and `-`, and begins with none of the last two.',
  });
  expect(() => expectReference('Web')).toThrow(ImageError);
});

test.each([
  ['docker.io/library/postgres:15', 'postgres:15', 'docker.io/library/postgres:15'],
  ['docker.io/acme/web', 'acme/web', 'docker.io/acme/web'],
  ['ghcr.io/library/web', 'ghcr.io/library/web', 'ghcr.io/library/web'],
  ['docker.io/library/a/b', 'library/a/b', 'docker.io/library/a/b'],
  ['docker.io/foo.bar/web', 'docker.io/foo.bar/web', 'docker.io/foo.bar/web'],
  ['docker.io/localhost/web', 'docker.io/localhost/web', 'docker.io/localhost/web'],
])('%s is familiar as %s', (text, familiar, canonical) => {
  expect(formatFamiliar(expectReference(text))).toBe(familiar);
  expect(formatCanonical(expectReference(text))).toBe(canonical);
});

test.each([
  ['postgres:15', `postgres:15@${DIGEST}`, 'postgres:15'],
  ['postgres', `postgres:latest@${DIGEST}`, 'postgres:latest'],
  [`postgres@sha256:${'f'.repeat(64)}`, `postgres@${DIGEST}`, 'postgres'],
  ['localhost:5000/web:1', `localhost:5000/web:1@${DIGEST}`, 'localhost:5000/web:1'],
])('%s is pinned as %s', (text, pinned, unpinned) => {
  expect(pin(expectReference(text), DIGEST)).toBe(pinned);
  expect(unpin(expectReference(pinned))).toBe(unpinned);
});

test.each([
  ['postgres', 'latest'],
  ['postgres:15', '15'],
  [`postgres:15@${DIGEST}`, DIGEST],
])('of %s, %s is asked for', (text, name) => {
  expect(wanted(expectReference(text))).toBe(name);
});

test('the same repository by two names', () => {
  expect(sameRepository(expectReference('postgres:15'), expectReference('docker.io/library/postgres'))).toBe(true);
  expect(sameRepository(expectReference('postgres'), expectReference('ghcr.io/library/postgres'))).toBe(false);
  expect(familiarName(expectReference(`postgres:1@${DIGEST}`))).toBe('postgres');
});

test.each([
  ['', 'docker.io'],
  ['docker.io', 'docker.io'],
  ['https://index.docker.io/v1/', 'docker.io'],
  ['registry-1.docker.io', 'docker.io'],
  ['https://ghcr.io/', 'ghcr.io'],
  [' GHCR.io ', 'ghcr.io'],
  ['registry.example.com:5000/v2', 'registry.example.com:5000'],
  ['docker.io.evil.example', 'docker.io.evil.example'],
])('the registry %j is %s', (text, registry) => {
  expect(normalizeRegistry(text)).toBe(registry);
});

const part = fc.stringMatching(/^[a-z0-9]{1,6}((\.|_|__|-{1,3})[a-z0-9]{1,5}){0,2}$/);
const registry = fc.oneof(
  fc.constant('docker.io'),
  fc
    .stringMatching(/^[a-z0-9]{1,8}(-[a-z0-9]{1,3})?\.[a-z]{2,5}(:[0-9]{1,5})?$/)
    .filter((name) => name !== 'index.docker.io'),
  fc.constantFrom('localhost', 'localhost:5000', '[::1]:5000', '10.0.0.1'),
);
const reference = fc
  .record({
    registry,
    path: fc.array(part, { minLength: 1, maxLength: 4 }),
    tag: fc.oneof(fc.constant(''), fc.stringMatching(/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}$/)),
    digest: fc.oneof(
      fc.constant(''),
      fc.stringMatching(/^[a-f0-9]{64}$/).map((hex) => `sha256:${hex}`),
    ),
  })
  .map(({ path, ...rest }): ImageReference => {
    const repository = path.join('/');
    return {
      ...rest,
      repository: rest.registry === 'docker.io' && path.length === 1 ? `library/${repository}` : repository,
    };
  });

test('every form of a reference reads back as itself', () => {
  fc.assert(
    fc.property(reference, (image) => {
      // 64 hexadecimal digits alone are an image ID, whatever stands around them.
      expect(parseReference(formatFamiliar(image))).toEqual({ value: image });
      expect(parseReference(formatCanonical(image))).toEqual({ value: image });
    }),
    { numRuns: 3000 },
  );
});

test('pinning names one repository and one digest; unpinning takes back no more than that', () => {
  fc.assert(
    fc.property(reference, fc.stringMatching(/^[a-f0-9]{64}$/), (image, hex) => {
      const digest = `sha256:${hex}`;
      const pinned = expectReference(pin(image, digest));
      expect(pinned.digest).toBe(digest);
      expect(sameRepository(pinned, image)).toBe(true);
      expect(pin(pinned, digest)).toBe(formatFamiliar(pinned));
      expect(expectReference(unpin(pinned))).toEqual({ ...pinned, digest: '' });
    }),
    { numRuns: 2000 },
  );
});

test('whatever the text, it is a reference fit for a command and a URL, or one sentence that says why not', () => {
  const text = fc.oneof(
    fc.string({ maxLength: 60 }),
    fc.string({
      unit: fc.constantFrom('a', 'B', '/', ':', '@', '.', '-', '_', '[', ']', '0', ' ', '\n', 'sha256:'),
      maxLength: 30,
    }),
  );
  fc.assert(
    fc.property(text, (any) => {
      const parsed = parseReference(any);
      if ('problem' in parsed) {
        expect(parsed.problem).toMatch(/^[^\u0000-\u001f]+\.$/);
        return;
      }
      const { value } = parsed;
      expect(formatCanonical(value)).toMatch(/^[A-Za-z0-9[][A-Za-z0-9[\]:._/@-]*$/);
      expect(value.repository).toMatch(/^[a-z0-9][a-z0-9._/-]*$/);
      expect(value.repository.split('/')).not.toContain('..');
      expect(value.digest === '' || isDigest(value.digest)).toBe(true);
      expect(expectReference(formatFamiliar(value))).toEqual(value);
    }),
    { numRuns: 5000 },
  );
});
