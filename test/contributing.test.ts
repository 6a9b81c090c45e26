/** What the documents for contributors tell to type and to open is there. */
import { execFileSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8');
const { scripts } = JSON.parse(read('package.json')) as { readonly scripts: Readonly<Record<string, string>> };
const stages = [...read('scripts/test.mjs').matchAll(/^ {2,4}\{? ?name: '([a-z0-9]+)',/gm)].map(
  ([, name = '']) => name,
);

/** @returns what is not there, one sentence each */
function findMissing(text: string): string[] {
  const missing: string[] = [];
  for (const [, name = ''] of text.matchAll(/\bnpm run ([\w:-]+)/g)) {
    if (!(name in scripts)) missing.push(`there is no npm run ${name}`);
  }
  for (const [, names = ''] of text.matchAll(/\bnpm test -- ([a-z0-9 ]*[a-z0-9])/g)) {
    missing.push(...names.split(' ').flatMap((name) => (stages.includes(name) ? [] : [`there is no stage ${name}`])));
  }
  const paths = [
    ...text.matchAll(/\bnode (?:--[\w-]+ )*(scripts\/[\w-]+\.mjs)/g),
    ...text.matchAll(/\]\((?!https?:|#)([^)#]+)(?:#[^)]*)?\)/g),
    ...text.matchAll(/`((?:scripts|shared|test|infra|\.github)\/[\w./-]*[\w/])`/g),
  ];
  for (const [, path = ''] of paths) if (!existsSync(join(ROOT, path))) missing.push(`there is no ${path}`);
  return missing;
}

test.each(['CONTRIBUTING.md', 'AGENTS.md', 'RELEASING.md', 'SECURITY.md', '.github/pull_request_template.md'])(
  '%s names what there is',
  (path) => {
    expect(findMissing(read(path))).toEqual([]);
  },
);

test.each(['CONTRIBUTING.md', 'AGENTS.md'])('%s names each document that `npm run docs` renews', (path) => {
  const renewed = [...read('scripts/docs.mjs').matchAll(/'(infra\/docs\/\w+\.md)'/g)].map(
    ([, document = '']) => document,
  );
  expect(renewed.length).toBeGreaterThan(1);
  const steps = read(path).split(/\n(?=\d\. )/);
  for (const document of renewed) {
    expect(steps.some((step) => step.includes('`npm run docs`') && step.includes(basename(document)))).toBe(true);
  }
});

test('keys and secrets that the documents tell to make cannot be committed from a copy', () => {
  const made = ['README.md', 'infra/server/README.md', 'action-backup/README.md'].flatMap((path) =>
    [...read(path).matchAll(/ssh-keygen .*-f ([\w.-]+)|age-keygen -o ([\w.-]+)|secret set \w+ < ([\w.-]+)/g)].map(
      ([, key, backup, environment]) => key ?? backup ?? environment ?? '',
    ),
  );
  expect(made).toEqual(expect.arrayContaining(['slipway', 'app.env', 'backup-key.txt']));
  const folder = mkdtempSync(join(tmpdir(), 'slipway-ignored-'));
  try {
    copyFileSync(join(ROOT, '.gitignore'), join(folder, '.gitignore'));
    execFileSync('git', ['-C', folder, 'init', '--quiet']);
    const paths = [...new Set([...made, 'slipway.pub'])];
    const ignored = execFileSync('git', ['-C', folder, 'check-ignore', '--no-index', ...paths], { encoding: 'utf8' });
    expect(ignored.trim().split('\n').sort()).toEqual(paths.sort());
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('what is not there is found', () => {
  const text = '`npm run no`, `npm test -- unit no -- x`, `node scripts/no.mjs`, [a](no.md#b), `test/no.ts`';
  expect(findMissing(text)).toEqual([
    'there is no npm run no',
    'there is no stage no',
    'there is no scripts/no.mjs',
    'there is no no.md',
    'there is no test/no.ts',
  ]);
  expect(stages).toEqual(expect.arrayContaining(['types', 'unit', 'timing', 'example', 'e2e']));
});
