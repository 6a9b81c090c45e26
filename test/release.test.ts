/** What a tag must fit before it becomes a release. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { extractNotes, findProblems, keepBundled, pinSbom, readTag } from '../scripts/release.mjs';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const CHANGELOG = `# Changelog

## [Unreleased]

## [1.2.3] - 2026-11-23

### Fixed

- What was wrong, see [the guide][guide].

## [1.2.2] - 2026-10-01

### Added

## [1.2.20] - soon

- Something.

[1.2.3]: https://example.com/compare/v1.2.2...v1.2.3
[guide]: https://example.com/
`;

test.each([
  ['v1.2.3', { version: '1.2.3', major: 'v1', isPrerelease: false }],
  ['v0.10.0-rc.1', { version: '0.10.0-rc.1', major: 'v0', isPrerelease: true }],
  ['v1.2', undefined],
  ['1.2.3', undefined],
  ['v01.2.3', undefined],
  ['v1.2.3 ', undefined],
  ['v1.2.3\nv2.0.0', undefined],
  ['v1.2.3-$(id)', undefined],
])('%j is read', (tag, read) => {
  expect(readTag(tag)).toEqual(read);
});

test('what is read as a tag is safe in a path and in a URL', () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.stringMatching(/^v\d\.\d\.\d[ -~]*$/)), (tag) => {
      if (readTag(tag) !== undefined) expect(tag).toMatch(/^v[\d.]+(-[\w.-]+)?$/);
    }),
  );
});

describe("a version's notes", () => {
  test('are its section, without the heading and the addresses at the end', () => {
    expect(extractNotes(CHANGELOG, '1.2.3')).toBe('### Fixed\n\n- What was wrong, see [the guide][guide].');
    expect(extractNotes(CHANGELOG, '1.2.20')).toBe('- Something.');
  });

  test.each([
    ['a version that is not there', '1.2.4', 'has no section "## [1.2.4] - YYYY-MM-DD"'],
    ['a part of another', '1.2', 'has no section'],
    ['headings alone', '1.2.2', 'says nothing under [1.2.2]'],
    ['nothing', 'Unreleased', 'says nothing under [Unreleased]'],
  ])('%s is refused', (_what, version, message) => {
    expect(() => extractNotes(CHANGELOG, version)).toThrow(message);
  });
});

describe('a tag', () => {
  const files = {
    tag: 'v1.2.3',
    manifest: { version: '1.2.3' },
    lock: { version: '1.2.3', packages: { '': { version: '1.2.3' } } },
    changelog: CHANGELOG,
  };

  test('that fits is accepted', () => {
    expect(findProblems(files)).toEqual([]);
  });

  test.each([
    ['no version', { tag: 'v1' }, ['The tag v1 is no version']],
    ['another package.json', { manifest: { version: '1.2.4' } }, ['package.json has the version 1.2.4']],
    [
      'another lock',
      { lock: { version: '1.2.3', packages: { '': { version: '1.2.2' } } } },
      ['package-lock.json has the version 1.2.3, the tag is v1.2.3'],
    ],
    ['no date', { tag: 'v1.2.20' }, ['package.json', 'package-lock.json', 'has no date after [1.2.20]']],
    ['no notes', { changelog: '# Changelog\n' }, ['has no section "## [1.2.3]']],
  ])('%s is refused, with everything that is wrong', (_what, change, problems) => {
    const found = findProblems({ ...files, ...change });
    expect(found).toHaveLength(problems.length);
    for (const [at, problem] of problems.entries()) expect(found[at]).toContain(problem);
  });
});

test('CHANGELOG.md says something about what comes next, or about this very version', () => {
  const changelog = readFileSync(`${ROOT}/CHANGELOG.md`, 'utf8');
  const { version } = JSON.parse(readFileSync(`${ROOT}/package.json`, 'utf8')) as { readonly version: string };
  const sections = ['Unreleased', version].filter((one) => changelog.includes(`## [${one}]`));
  expect(sections.map((one) => extractNotes(changelog, one)).join('')).toMatch(/^- /m);
});

describe('the SBOM', () => {
  const component = (name: string, version = '1.0.0') => ({ name, version, 'bom-ref': `${name}@${version}` });
  const sbom = {
    components: [component('a'), component('b'), component('b', '2.0.0'), component('tool'), component('jest')],
    dependencies: [
      { ref: 'a@1.0.0', dependsOn: ['b@1.0.0', 'jest@1.0.0'] },
      { ref: 'jest@1.0.0', dependsOn: [] },
    ],
  };
  const lock = {
    packages: {
      '': { version: '9.9.9' },
      'node_modules/a': { version: '1.0.0' },
      'node_modules/a/node_modules/b': { version: '1.0.0' },
      'node_modules/b': { version: '2.0.0', dev: true },
      'node_modules/tool': { version: '1.0.0', dev: true },
      'node_modules/jest': { version: '1.0.0', dev: true },
    },
  };

  test('has what is in the bundles: what is no dev dependency, and what has a licence in them', () => {
    const kept = keepBundled(sbom, lock, 'a\nMIT\ntext\n\nb\nMIT\ntext\n\ntool\nMIT\n');
    expect(kept.components.map((one) => one['bom-ref'])).toEqual(['a@1.0.0', 'b@1.0.0', 'tool@1.0.0']);
    expect(kept.dependencies).toEqual([{ ref: 'a@1.0.0', dependsOn: ['b@1.0.0'] }]);
  });

  test('is the same from each run of one commit, and another of another', () => {
    const made = (second: string) => ({ ...sbom, serialNumber: `urn:uuid:${second}`, metadata: { timestamp: second } });
    const committed = '2026-11-23T23:00:00+01:00';
    const pinned = pinSbom(made('1'), committed);
    expect(pinSbom(made('2'), committed)).toEqual(pinned);
    expect(pinned).toMatchObject({ components: sbom.components, metadata: { timestamp: '2026-11-23T22:00:00.000Z' } });
    expect(pinned.serialNumber).toMatch(/^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-a[0-9a-f]{3}-[0-9a-f]{12}$/);
    expect(pinSbom({ ...sbom, components: [] }, committed).serialNumber).not.toBe(pinned.serialNumber);
  });

  test('that lacks a package of the bundles is refused', () => {
    const without = { ...sbom, components: sbom.components.filter(({ name }) => name !== 'a') };
    expect(() => keepBundled(without, lock, 'a\nMIT\n')).toThrow('lacks a, which is in a bundle');
  });
});
