/** action.yml, the code, the README and the bundle of each action say the same. */
import { execFile } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { parse } from 'yaml';
import { actions } from '../scripts/actions.mjs';
import { findInputs, findOutputs, readFrom } from './contract-sources';
import { parseManifest } from './e2e/harness/action-manifest.ts';
import { validateFile } from './e2e/harness/github-language.ts';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const read = readFrom(ROOT);

function need(path: string): string {
  const text = read(path);
  if (text === undefined) throw new Error(`there is no ${path}`);
  return text;
}

function listSources(action: string): string[] {
  return readdirSync(join(ROOT, action, 'src'), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(ROOT, join(entry.parentPath, entry.name)));
}

test('every folder of an action is in the registry, and the other way round', () => {
  const folders = readdirSync(ROOT).filter((name) => name.startsWith('action-'));
  expect(folders.sort()).toEqual([...actions].sort());
});

describe.each(actions)('%s', (action) => {
  const manifest = () => parseManifest(need(`${action}/action.yml`), action);

  test('action.yml passes GitHub’s own validation', async () => {
    expect(await validateFile('action.yml', need(`${action}/action.yml`))).toEqual([]);
  });

  test('action.yml is one that the harness understands, and everything in it is described', () => {
    const { inputs, outputs, main } = manifest();
    expect(main).toBe('dist/index.js');
    expect([...inputs, ...outputs].filter((one) => one.description === '').map((one) => one.name)).toEqual([]);
    // An input is required, or it has a default: an empty one at least, so that the README says what happens without it.
    expect(
      inputs.filter((input) => input.required === (input.default !== undefined)).map((input) => input.name),
    ).toEqual([]);
    // Texts: a bare `true` or `22` in YAML would be read as something else by other tools.
    const raw = parse(need(`${action}/action.yml`)) as { inputs?: Record<string, { default?: unknown }> };
    const untyped = Object.entries(raw.inputs ?? {}).filter(
      ([, { default: value }]) => value !== undefined && typeof value !== 'string',
    );
    expect(untyped.map(([name]) => name)).toEqual([]);
  });

  test('inputs.ts reads exactly the inputs that action.yml declares', () => {
    expect(findInputs(action, read)).toEqual(
      manifest()
        .inputs.map((input) => input.name)
        .sort(),
    );
  });

  test('exactly the outputs that action.yml declares are set', () => {
    expect(findOutputs(action, listSources(action), read)).toEqual(
      manifest()
        .outputs.map((output) => output.name)
        .sort(),
    );
  });

  test('the bundle is there', () => {
    if (!existsSync(join(ROOT, action, 'dist', 'index.js'))) {
      throw new Error(`there is no ${action}/dist/index.js: run \`npm run build\``);
    }
    expect(readdirSync(join(ROOT, action, 'dist')).sort()).toEqual(['index.js', 'licenses.txt']);
  });
});

test('the tables in the READMEs are those of action.yml', async () => {
  const checked = await promisify(execFile)(process.execPath, [join(ROOT, 'scripts/docs.mjs'), '--check']).catch(
    (error: unknown) => error as { stdout: string; stderr: string },
  );
  expect(checked.stderr).toBe('');
});

describe('the checks find faults', () => {
  const sources = (inputs: string): ((path: string) => string | undefined) => {
    const files = new Map([
      ['action-x/src/inputs.ts', inputs],
      ['shared/src/inputs/connection.ts', readFileSync(join(ROOT, 'shared/src/inputs/connection.ts'), 'utf8')],
      ['shared/src/inputs/values.ts', readFileSync(join(ROOT, 'shared/src/inputs/values.ts'), 'utf8')],
    ]);
    return (path) => files.get(path);
  };

  test('inputs are found directly, through local and through shared readers', () => {
    const found = findInputs(
      'action-x',
      sources(`
        import { readConnection } from '#shared/inputs/connection';
        import { readValue } from '#shared/inputs/values';
        export function readInputs(input) {
          readConnection(input, problems);
          return [input('direct'), readValue(input, problems, 'through-shared', parse, ''), flag(input, 'through-local')];
        }
        function flag(input, name) { return input(name) === 'true'; }
      `),
    );
    expect(found).toEqual(
      [
        ...['direct', 'through-local', 'through-shared'],
        ...['host', 'host-fingerprint', 'known-hosts', 'port', 'ssh-key', 'ssh-key-passphrase', 'user'],
      ].sort(),
    );
  });

  test('a name that is put together is refused', () => {
    expect(() =>
      findInputs('action-x', sources('export function readInputs(input) { return input(`a-${b}`); }')),
    ).toThrow('is not a literal');
  });

  test('outputs are found by literal names, else by the interface Outputs', () => {
    const files = new Map([
      ['action-x/src/run.ts', `runner.setOutput('one', x); for (const [k, v] of y) runner.setOutput(k, v);`],
      ['action-x/src/report.ts', `export interface Outputs { readonly two: string; readonly 'three-words': string }`],
    ]);
    expect(findOutputs('action-x', [...files.keys()], (path) => files.get(path))).toEqual([
      'one',
      'three-words',
      'two',
    ]);
    files.delete('action-x/src/report.ts');
    expect(() => findOutputs('action-x', [...files.keys()], (path) => files.get(path))).toThrow('no interface Outputs');
  });

  test.each([
    ['runs:\n  using: node99\n  main: x.js', "Unexpected value 'node99'"],
    ['runs:\n  using: node24\n  main: x.js\n  steps: []', 'steps'],
    ['runs:\n  using: node24', 'main'],
  ])('GitHub’s validation finds the fault in %j', async (text, message) => {
    const findings = await validateFile('action.yml', `name: x\ndescription: x\n${text}\n`);
    expect(findings.map((finding) => finding.severity)).toEqual(['error']);
    expect(findings[0]?.message).toContain(message);
  });

  test('GitHub’s validation knows workflows too', async () => {
    expect(await validateFile('.github/workflows/a.yml', 'on: push\njobs: {}\n')).toEqual([
      expect.objectContaining({ severity: 'error' }),
    ]);
  });
});
