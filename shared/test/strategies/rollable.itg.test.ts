/** Patches applied by git and patch, the way a user does it. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import fc from 'fast-check';
import { parseProject } from '../../src/compose/project';
import { parseYaml } from '../../src/compose/yaml';
import { chooseStrategies } from '../../src/strategies/choose';
import { suggestPatch } from '../../src/strategies/rollable';
import { renderDiff } from '../../src/strategies/unified-diff';

const CASES = join(import.meta.dirname, 'rollable');
const read = (name: string, file: string): string => readFileSync(join(CASES, name, file), 'utf8');

const TOOLS = {
  git: ['git', 'apply', '--whitespace=nowarn'],
  patch: ['patch', '--silent', '--fuzz=0', '-p1'],
} as const;

/** @returns all files that there are then. */
function apply(
  tool: keyof typeof TOOLS,
  path: string,
  before: string | undefined,
  patch: string,
): Record<string, string> {
  const folder = mkdtempSync(join(tmpdir(), 'slipway-patch-'));
  try {
    if (before !== undefined) {
      mkdirSync(dirname(join(folder, path)), { recursive: true });
      writeFileSync(join(folder, path), before);
    }
    const [program, ...words] = TOOLS[tool];
    // Without a repository around it, and without the user's settings (autocrlf).
    execFileSync(program, words, {
      cwd: folder,
      input: patch,
      env: {
        PATH: process.env['PATH'],
        GIT_CEILING_DIRECTORIES: tmpdir(),
        GIT_CONFIG_GLOBAL: '/dev/null',
        GIT_CONFIG_NOSYSTEM: '1',
      },
    });
    return Object.fromEntries(
      readdirSync(folder, { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile())
        .map((entry) => join(entry.parentPath, entry.name))
        .map((file) => [file.slice(folder.length + 1), readFileSync(file, 'utf8')]),
    );
  } finally {
    rmSync(folder, { recursive: true });
  }
}

describe.each(['git', 'patch'] as const)('%s', (tool) => {
  test.each(readdirSync(CASES).filter((name) => name !== 'nothing'))('applies the case %s', (name) => {
    const path = name === 'long' ? 'deploy/compose.yaml' : 'compose.yaml';
    const files = apply(tool, path, read(name, 'compose.txt'), read(name, 'expected.diff'));
    const [before, after] = [read(name, 'compose.txt'), files[path] ?? ''];
    const folder = `${name === 'long' ? 'deploy/' : ''}${name === 'taken' ? 'router' : 'nginx'}`;
    expect(Object.keys(files).sort()).toEqual(
      [path, `${folder}/router.conf`, `${folder}/slipway/upstreams.conf`].sort(),
    );
    // Every line that is still there is as the user wrote it; what is gone are ports and names.
    const gone = before.split('\n').filter((line) => !after.split('\n').includes(line));
    for (const line of gone)
      expect(line).toMatch(/port|container_name|\d:\d+|target|published|host_ip|protocol|mode|name: http|tty/);
    expect(after.includes('\r\n')).toBe(before.includes('\r\n'));
    expect(after.replaceAll('\r\n', '').includes('\r')).toBe(false);
    if (name === 'crlf') expect(after.replaceAll('\r\n', '')).not.toContain('\n');
    // Then there is nothing left to suggest.
    const project = parseProject(JSON.stringify(parseYaml(after)));
    expect(suggestPatch({ path, text: after }, project.services, chooseStrategies(project, []).strategies)).toBe('');
  });

  test('applies whatever differs (property)', () => {
    const line = fc.constantFrom(
      'a',
      'b',
      '',
      '  c',
      '-d',
      '+e',
      '\\ No newline at end of file',
      '--- a/x',
      '@@ -1 +1 @@',
      'ü\r',
    );
    const text = fc
      .tuple(fc.array(line, { maxLength: 30 }), fc.boolean())
      .map(([lines, ends]) => lines.join('\n') + (ends && lines.length > 0 ? '\n' : ''));
    fc.assert(
      fc.property(text, text, fc.constantFrom('compose.yaml', 'a b/c d.yaml'), (before, after, path) => {
        // An empty file is one that is gone, for both of them.
        fc.pre(before !== after && before !== '' && after !== '');
        expect(apply(tool, path, before, renderDiff(path, before, after))).toEqual({ [path]: after });
        expect(apply(tool, path, undefined, renderDiff(path, undefined, after))).toEqual({ [path]: after });
      }),
      { numRuns: 150 },
    );
  });
});
