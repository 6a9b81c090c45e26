/** THREAT-MODEL.md claims nothing that no test shows: each test that it names is there, under that name. */
import { existsSync, globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const FOLDER = fileURLToPath(new URL('../infra/docs/', import.meta.url));
const text = readFileSync(join(FOLDER, 'THREAT-MODEL.md'), 'utf8');

interface Claim {
  readonly path: string;
  readonly titles: readonly string[];
}

/** `[name](path): "title", "title"` */
const readClaims = (document: string): Claim[] =>
  [...document.matchAll(/\[[^\]]+\]\(([^)]+\.test\.ts)\)(?:: ((?:"[^"]+"(?:, )?)+))?/g)].map(
    ([, path = '', titles = '']) => ({
      path,
      titles: [...titles.matchAll(/"([^"]+)"/g)].map(([, title = '']) => title),
    }),
  );

/** As the sources write it: quoted in one way or another. */
function isTitle(source: string, title: string): boolean {
  return ["'", '"', '`'].some((quote) => {
    const written = title.replaceAll(quote, `\\${quote}`);
    // A title may go on behind what is cited: `..., or nothing is written (property)`; or begin with what a table gives.
    return source.includes(`${quote}${written}`) || source.includes(` ${written}${quote}`);
  });
}

const findMissing = (claims: readonly Claim[]): string[] =>
  claims.flatMap(({ path, titles }) => {
    const file = join(FOLDER, path);
    if (!existsSync(file)) return [`there is no ${path}`];
    const source = readFileSync(file, 'utf8');
    return titles.filter((title) => !isTitle(source, title)).map((title) => `${path} has no test "${title}"`);
  });

test('every test that the threat model names is there', () => {
  const claims = readClaims(text);
  expect(claims.filter(({ titles }) => titles.length === 0)).toEqual([]);
  expect(claims.length).toBeGreaterThan(20);
  expect(findMissing(claims)).toEqual([]);
});

test('one that is not there is found', () => {
  const [claim] = readClaims('| x | [a](../../test/threat-model.test.ts): "one that is not there, is not there" | |');
  expect(findMissing([{ ...claim, path: '../../test/e2e/failures.test.ts' } as Claim])).toEqual([
    '../../test/e2e/failures.test.ts has no test "one that is not there, is not there"',
  ]);
  expect(findMissing(readClaims('[a](../../test/no.test.ts): "x"'))).toEqual(['there is no ../../test/no.test.ts']);
});

test('no example in a document leaves the token in the checkout', () => {
  const root = join(FOLDER, '../..');
  const documents = globSync(['*.md', 'action-*/*.md', 'infra/**/*.md'], {
    cwd: root,
    exclude: (name) => name.includes('node_modules'),
  });
  const examples = documents.flatMap((path) =>
    [...readFileSync(join(root, path), 'utf8').matchAll(/uses: actions\/checkout@.*\n(?:(?! *- ).*\n)*/g)].map(
      ([step]) => ({ path, isWithout: step.includes('persist-credentials: false') }),
    ),
  );
  expect(examples.length).toBeGreaterThan(3);
  expect(examples.filter(({ isWithout }) => !isWithout).map(({ path }) => path)).toEqual([]);
});

test('each row says what remains, or nothing; none is cut', () => {
  const rows = text.split('\n').filter((line) => line.startsWith('| ') && /\.test\.ts|\.npmrc/.test(line));
  expect(rows.filter((row) => row.split(' | ').length !== 4 && !row.endsWith(' | |'))).toEqual([]);
});
