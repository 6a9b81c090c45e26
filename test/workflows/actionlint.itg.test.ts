/** actionlint, and shellcheck for the scripts, find nothing in the workflow files, and find what they are for. */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { IGNORED, lint } from './actionlint.ts';
import { CALLERS, OWN, REUSABLE, ROOT } from './files.ts';
import { readWorkflow } from './workflow.ts';

const isIgnored = (message: string): boolean => IGNORED.some((pattern) => new RegExp(pattern).test(message));

test('nothing in any workflow file; and what is newer than actionlint is all that is left out', () => {
  const paths = [...REUSABLE, ...CALLERS, ...OWN];
  const found = lint(paths.map((path) => ({ path, text: readFileSync(join(ROOT, path), 'utf8') })));
  expect(found.filter(({ message }) => !isIgnored(message))).toEqual([]);
  // A pattern that hides nothing any more would hide a fault one day.
  expect(IGNORED.filter((pattern) => !found.some(({ message }) => new RegExp(pattern).test(message)))).toEqual([]);
});

const GOOD = `
on: push
permissions: {}
jobs:
  a:
    runs-on: ubuntu-24.04
    outputs: { said: '\${{ steps.say.outputs.said }}' }
    steps:
      - uses: actions/checkout@v4
        with: { fetch-depth: 0 }
      - id: say
        run: echo "$REF"
        env: { REF: '\${{ github.ref }}' }
`;

const FAULTS: readonly (readonly [what: string, from: string, to: string, kind: string, message: string])[] = [
  ['a key that is none', 'runs-on:', 'run-on:', 'syntax-check', 'unexpected key "run-on"'],
  ['an event that is none', 'on: push', 'on: pusch', 'events', 'unknown Webhook event "pusch"'],
  ['a runner that is none', 'ubuntu-24.04', 'ubuntu-24.40', 'runner-label', 'label "ubuntu-24.40" is unknown'],
  ['a step that is none', 'steps.say.', 'steps.sya.', 'expression', 'property "sya" is not defined'],
  ['a context that is none', 'github.ref', 'gihtub.ref', 'expression', 'undefined variable "gihtub"'],
  ['an input that is none', 'fetch-depth', 'fetch-deph', 'action', 'input "fetch-deph" is not defined'],
  ["a stranger's text in a script", '"$REF"', '"${{ github.head_ref }}"', 'expression', 'is potentially untrusted'],
  ['two steps of one name', 'actions/checkout@v4', 'actions/checkout@v4\n        id: say', 'id', 'duplicates'],
  ['a permission that is none', 'permissions: {}', 'permissions: { content: read }', 'permissions', '"content"'],
  ['an old command', 'echo "$REF"', 'echo "::set-output name=a::b"', 'deprecated-commands', 'set-output'],
  ['a need that is none', 'runs-on:', 'needs: b\n    runs-on:', 'job-needs', 'needs job "b" which does not exist'],
];

test.each(FAULTS.map(([what], at) => [what, at] as const))('%s is found', (_what, at) => {
  const [, from, to, kind, message] = FAULTS[at] as (typeof FAULTS)[number];
  const text = GOOD.replace(from, to);
  expect(text).not.toBe(GOOD);
  expect(isIgnored(message)).toBe(false);
  expect(findingsOf(at)).toContainEqual(
    expect.objectContaining({ kind, message: expect.stringContaining(message) as string }),
  );
});

const inFaults = lint([
  { path: 'good.yml', text: GOOD },
  ...FAULTS.map(([, from, to], at) => ({ path: `${at}.yml`, text: GOOD.replace(from, to) })),
]);
const findingsOf = (at: number) => inFaults.filter(({ path }) => path === `${at}.yml`);

test('what is right has no faults', () => {
  expect(inFaults.filter(({ path }) => path === 'good.yml')).toEqual([]);
});

/** @returns what shellcheck says of a step's script, in bash as GitHub starts it */
function checkScript(script: string): string {
  const asked = ['--shell=bash', '--format=gcc', '--severity=style', '-'];
  const { stdout, error } = spawnSync('shellcheck', asked, { input: `set -eo pipefail\n${script}`, encoding: 'utf8' });
  if (error) throw error;
  return stdout;
}

test('shellcheck finds nothing in any script, and finds a fault', async () => {
  const found: string[] = [];
  for (const path of [...REUSABLE, ...CALLERS, ...OWN]) {
    const { jobs } = await readWorkflow(path, readFileSync(join(ROOT, path), 'utf8'));
    for (const job of jobs) {
      const scripts = job.kind === 'steps' ? job.steps.map(({ run }) => run) : [];
      found.push(...scripts.map((run) => (typeof run === 'string' ? `${path}: ${checkScript(run)}` : '')));
    }
  }
  const withScript = found.filter((one) => one !== '');
  expect(withScript.length).toBeGreaterThan(3);
  expect(withScript.filter((one) => !one.endsWith(': '))).toEqual([]);
  expect(checkScript('cd $HOME/$1')).toMatch(/\[SC2086\]/);
});
