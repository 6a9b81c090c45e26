/** What the documents for contributors tell to type and to open is there. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
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
