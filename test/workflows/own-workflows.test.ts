/** This repository's own workflows run what they say: every stage of `npm test`, every check of the list in WORKFLOWS.md, over every file. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse, parseAllDocuments } from 'yaml';
import { lintVersion } from './actionlint.ts';
import { CALLERS, OWN, REUSABLE, ROOT } from './files.ts';
import { OWN_THIRD_PARTY, THIRD_PARTY } from './third-party.ts';
import { readWorkflow, type StepsJob, type WorkflowStep } from './workflow.ts';

const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8');

async function steps(file: string): Promise<WorkflowStep[]> {
  const path = `.github/workflows/${file}`;
  const { jobs } = await readWorkflow(path, read(path));
  return jobs.flatMap((job) => [...(job as StepsJob).steps]);
}

/** Of `npm test`, as it tells them itself. */
function readStages(): string[] {
  try {
    execFileSync(process.execPath, [join(ROOT, 'scripts/test.mjs'), 'no-such-stage'], {
      encoding: 'utf8',
      stdio: 'pipe',
    });
  } catch (error) {
    const { stdout, stderr } = error as { readonly stdout: string; readonly stderr: string };
    const list = /The stages: ([\w, ]+)\./.exec(stdout + stderr)?.[1];
    if (list !== undefined) return list.split(', ');
  }
  throw new Error('npm test did not tell its stages');
}

const named = (all: readonly WorkflowStep[]): string[] =>
  all
    .flatMap(({ run }) => (typeof run === 'string' ? [...run.matchAll(/npm test -- ([a-z0-9 ]+)/g)] : []))
    .flatMap(([, names = '']) => names.trim().split(' '));

test('CI runs every stage of npm test once', async () => {
  const stages = readStages();
  expect(stages).toEqual(expect.arrayContaining(['types', 'lint', 'unit', 'timing', 'e2e']));
  expect(named(await steps('.ci.yml')).sort()).toEqual([...stages].sort());
  // One that is forgotten is seen.
  const path = '.github/workflows/.ci.yml';
  const without = await readWorkflow(path, read(path).replace(' timing ', ' '));
  expect(named(without.jobs.flatMap((job) => [...(job as StepsJob).steps]))).not.toContain('timing');
});

test('a release runs stages that there are', async () => {
  expect(readStages()).toEqual(expect.arrayContaining(named(await steps('.release.yml'))));
});

test('zizmor looks at every file that others copy, too', async () => {
  const zizmor = (await steps('.security.yml')).find(({ uses }) => uses?.startsWith('zizmorcore/zizmor-action@'));
  expect((zizmor?.with['inputs'] as string).split(' ').sort()).toEqual(['.', ...CALLERS].sort());
});

/** Where each workflow file runs in the harness; what only GitHub can run, or another file runs just as well, says why. */
const RUNS: Readonly<Record<string, string>> = {
  ...Object.fromEntries([...REUSABLE, ...CALLERS].map((path) => [path, 'test/e2e/workflows.test.ts'])),
  'infra/workflows/deploy-self-hosted.yml': 'test/e2e/local.test.ts',
  '.github/workflows/.release.yml': 'test/workflows/release.itg.test.ts',
};
const DOES_NOT_RUN: Readonly<Record<string, string>> = {
  'infra/workflows/drill.yml': 'the same step as in reusable/backup.yml, whose drill runs',
  '.github/workflows/.ci.yml': 'npm test, which would run itself',
  '.github/workflows/.security.yml': "others' programs, which cannot be had here",
};

test('every workflow file runs in a test, or is listed with a reason', () => {
  const files = [...REUSABLE, ...CALLERS, ...OWN];
  const running = files.filter((path) => !(path in DOES_NOT_RUN));
  expect(files).toEqual(expect.arrayContaining(Object.keys(DOES_NOT_RUN)));
  const isNamed = (path: string): boolean => {
    const name = path
      .replace(/^.*workflows\//, '')
      .replace('.yml', '')
      .replace('reusable/', 'reusable-');
    const text = read(RUNS[path] ?? 'package.json');
    // A reusable one runs through a caller of the same name.
    const called = REUSABLE.includes(path) ? [name, `reusable-${name}`] : [name];
    return called.some((one) => text.includes(`'${one}'`) || text.includes(`/${one}.yml`));
  };
  expect(running.filter((path) => !isNamed(path))).toEqual([]);
  // They are in WORKFLOWS.md, too.
  const [, told = ''] = /^Not run: ([^]*?)\n\n/m.exec(`${read('infra/docs/WORKFLOWS.md')}\n`) ?? [];
  expect(Object.keys(DOES_NOT_RUN).filter((path) => !told.includes(path.replace(/^.*\//, '')))).toEqual([]);
});

/** What looks at the workflow files, at the code and at what it depends on; the table in WORKFLOWS.md is made of it. */
const packages = (JSON.parse(read('package.json')) as { readonly devDependencies: Readonly<Record<string, string>> })
  .devDependencies;
const others = { ...THIRD_PARTY, ...OWN_THIRD_PARTY };
const pinned = (action: string): string =>
  Object.entries(others).find(([uses]) => uses.startsWith(`${action}@`))?.[1].version ?? 'not pinned';
const image = /rhysd\/actionlint:([\d.]+)@sha256:[0-9a-f]{64}\n/.exec(read('.github/workflows/.security.yml'))?.[1];
const everyFile = 'every workflow file';
const CHECKS: readonly (readonly [tool: string, version: string, looksAt: string, where: string])[] = [
  ["GitHub's parser, `@actions/workflow-parser`", packages['@actions/workflow-parser'] ?? '', everyFile, '`unit`'],
  [
    "GitHub's language service, `@actions/languageservice`",
    packages['@actions/languageservice'] ?? '',
    everyFile,
    '`unit`',
  ],
  ['our rules, [rules.ts](../../test/workflows/rules.ts): injection, pins, permissions ...', '', everyFile, '`unit`'],
  ['actionlint, and shellcheck of the distribution', lintVersion(), everyFile, '`adapter`'],
  ['actionlint, with its shellcheck', image ?? 'not pinned', everyFile, 'GitHub'],
  ['zizmor, by zizmor-action', pinned('zizmorcore/zizmor-action'), `${everyFile}, our actions`, 'GitHub'],
  ['CodeQL', pinned('github/codeql-action/analyze'), 'TypeScript, JavaScript, workflows', 'GitHub'],
  ['OpenSSF Scorecard', pinned('ossf/scorecard-action'), 'how the repository is kept', 'GitHub'],
  ['dependency review', pinned('actions/dependency-review-action'), 'what a pull request brings', 'GitHub'],
  ['Trivy, by trivy-action', pinned('aquasecurity/trivy-action'), 'the image of the example', 'GitHub'],
];

test('WORKFLOWS.md names each check with its version', () => {
  const rows = CHECKS.map((row) => `| ${row.join(' | ')} |`.replaceAll('|  |', '| |'));
  const table = ['| tool | version | looks at | runs in |', '| --- | --- | --- | --- |', ...rows].join('\n');
  const [, section = ''] = /<!-- checks -->\n([^]*?)<!-- \/checks -->/.exec(read('infra/docs/WORKFLOWS.md')) ?? [];
  expect(section.trim()).toBe(table);
  expect(table).not.toMatch(/not pinned|unknown|\| undefined/);
});

test('the checks that only GitHub can run are in .security.yml', async () => {
  const used = (await steps('.security.yml')).flatMap(({ uses, run }) => uses ?? (run as string));
  const wanted = [
    'github/codeql-action/init@',
    'github/codeql-action/analyze@',
    'zizmorcore/zizmor-action@',
    '"$IMAGE" -color',
    'ossf/scorecard-action@',
    'actions/dependency-review-action@',
    'aquasecurity/trivy-action@',
  ];
  expect(wanted.filter((one) => !used.some((step) => step.includes(one)))).toEqual([]);
  const codeql = (await steps('.security.yml')).find(({ uses }) => uses?.startsWith('github/codeql-action/init@'));
  expect(codeql?.with['languages']).toBe('javascript-typescript, actions');
});

test('every action of others that is looked after is used somewhere', () => {
  const text = [...REUSABLE, ...CALLERS, ...OWN].map(read).join('\n');
  expect(Object.keys(others).filter((uses) => !text.includes(uses))).toEqual([]);
});

test('Dependabot looks at every folder that pins something, in groups, and waits a week', () => {
  const { updates } = parse(read('.github/dependabot.yml')) as {
    readonly updates: readonly {
      readonly 'package-ecosystem': string;
      readonly directories: readonly string[];
      readonly cooldown: Readonly<Record<string, number>>;
      readonly groups: object;
    }[];
  };
  const folders = (ecosystem: string) => updates.find((one) => one['package-ecosystem'] === ecosystem)?.directories;
  expect(folders('npm')).toEqual(['/', '/infra/example']);
  expect(folders('github-actions')).toEqual(['/', '/infra/workflows', '/infra/workflows/reusable']);
  expect(folders('docker')).toEqual(['/infra/example']);
  expect(updates.map(({ cooldown, groups }) => [cooldown['default-days'], Object.keys(groups).length])).toEqual(
    updates.map(() => [7, 1]),
  );
});

const yamlFiles = execFileSync('git', ['-C', ROOT, 'ls-files', '*.yml', '*.yaml'], { encoding: 'utf8' })
  .split('\n')
  .filter((path) => path !== '');

test('all YAML is YAML, without a key twice', () => {
  expect(yamlFiles).toEqual(expect.arrayContaining(['action-deploy/action.yml', 'infra/example/compose.yaml']));
  const faults = (text: string): string[] =>
    parseAllDocuments(text).flatMap(({ errors, warnings }) => [...errors, ...warnings].map(({ code }) => code));
  expect(yamlFiles.flatMap((path) => faults(read(path)).map((fault) => `${path}: ${fault}`))).toEqual([]);
  expect(faults('a: 1\na: 2\n')).toEqual(['DUPLICATE_KEY']);
  expect(faults('a: [')).not.toEqual([]);
});
