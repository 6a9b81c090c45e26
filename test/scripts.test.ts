import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import { buildActions, toAscii } from '../scripts/build.mjs';
import { compareFolders, findIrreproducible } from '../scripts/check-dist.mjs';
import { embedGuardian } from '../scripts/embed-guardian.mjs';
import { embedTls } from '../scripts/embed-tls.mjs';
import { renewReadmes, renewTables } from '../scripts/docs.mjs';

const MANIFEST = `
inputs:
  host:
    description: |
      Name of the server,
      or \`a|b\`.
    required: true
  port:
    description: Port.
    default: '22'
  fence:
    description: Odd default.
    default: a\`b
    deprecationMessage: use port
outputs:
  release:
    description: Id.
`;
const README = '# X\n\n<!-- inputs --><!-- /inputs -->\n\ntext\n\n<!-- outputs -->\nold\n<!-- /outputs -->\n';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'slipway-scripts-'));
});
afterEach(async () => {
  await rm(folder, { recursive: true });
});

describe('docs', () => {
  test('the tables come from action.yml, and what is around them stays', () => {
    const renewed = renewTables(README, MANIFEST, 'x');
    expect(renewed).toBe(
      [
        '# X\n\n<!-- inputs -->\n',
        '| Input | Default | Description |',
        '| --- | --- | --- |',
        '| `host` | **required** | Name of the server, or `a\\|b`. |',
        '| `port` | `22` | Port. |',
        '| `fence` | `` a`b `` | Odd default. **Deprecated:** use port |',
        '\n<!-- /inputs -->\n\ntext\n\n<!-- outputs -->\n',
        '| Output | Description |',
        '| --- | --- |',
        '| `release` | Id. |',
        '\n<!-- /outputs -->\n',
      ].join('\n'),
    );
    expect(renewTables(renewed, MANIFEST, 'x')).toBe(renewed);
  });

  test('a README without markers is refused', () => {
    expect(() => renewTables('# X', MANIFEST, 'action-x/README.md')).toThrow('action-x/README.md lacks the markers');
  });

  test('--check tells the first line that differs and writes nothing; without it the file is renewed', async () => {
    const options = { repository: folder, registry: ['action-x'] };
    await mkdir(join(folder, 'action-x'));
    expect(await renewReadmes({ ...options, check: true })).toEqual(['action-x: there is no action-x/README.md']);
    await writeFile(join(folder, 'action-x', 'README.md'), README);
    await writeFile(join(folder, 'action-x', 'action.yml'), MANIFEST);
    const [problem] = await renewReadmes({ ...options, check: true });
    expect(problem).toContain('run `npm run docs`\n  line 3\n  - <!-- inputs --><!-- /inputs -->\n  + <!-- inputs -->');
    expect(await readFile(join(folder, 'action-x', 'README.md'), 'utf8')).toBe(README);
    expect(await renewReadmes({ ...options, check: false })).toEqual([]);
    expect(await renewReadmes({ ...options, check: true })).toEqual([]);
  });
});

test.each([
  ['guardian', embedGuardian],
  ['tls', embedTls],
])('what is embedded of the %s is its sources and no line more', async (name, embed) => {
  await cp(new URL(`../shared/src/${name}`, import.meta.url), folder, { recursive: true });
  const options = { folder: pathToFileURL(`${folder}/`) };
  const path = join(folder, 'program.ts');
  const committed = await readFile(path, 'utf8');
  expect(await embed({ ...options, check: true })).toBe(true);
  for (const changed of [
    `${committed}globalThis.process.exit();\n`,
    `import 'node:fs';\n${committed}`,
    committed.replace("';\n", "' + stolen();\n"),
    committed.replace(/'.*'/, "'H4sIAAAA'"),
    '',
  ]) {
    await writeFile(path, changed);
    expect(await embed({ ...options, check: true })).toBe(false);
    expect(await readFile(path, 'utf8')).toBe(changed);
  }
  // Made anew: whether its bytes are the committed ones is the compressor's.
  expect(await embed(options)).toBe(false);
  expect(await embed({ ...options, check: true })).toBe(true);
});

test('check-dist tells missing, stray and different files', async () => {
  const [committed, built] = [join(folder, 'committed'), join(folder, 'built')];
  await mkdir(committed);
  await mkdir(built);
  await writeFile(join(built, 'index.js'), 'one\ntwo\nthree');
  await writeFile(join(built, 'licenses.txt'), 'x');
  await writeFile(join(committed, 'index.js'), 'one\ntwo\nthird');
  await writeFile(join(committed, 'native.node'), 'x');
  expect(await compareFolders(committed, built, 'dist')).toEqual([
    'dist/index.js differs from line 3 on',
    'dist/native.node does not belong there',
    'dist/licenses.txt is missing',
  ]);
  await writeFile(join(committed, 'index.js'), 'one\ntwo\nthree');
  await rm(join(committed, 'native.node'));
  await writeFile(join(committed, 'licenses.txt'), 'x');
  expect(await compareFolders(committed, built, 'dist')).toEqual([]);
});

test('a program in ASCII means what it meant', () => {
  const run = (code: string): unknown => runInNewContext(toAscii(code)) as unknown;
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (text) => {
      const literal = JSON.stringify(text);
      expect(toAscii(literal)).toMatch(/^[\0-\x7f]*$/);
      expect(run(literal)).toBe(text);
      expect(run(`\`\${'x'}${literal.slice(1, -1).replaceAll(/[`$]/g, '\\$&')}\``)).toBe(`x${text}`);
    }),
  );
  // What is beyond the 16 bits is two units, with and without `u`.
  expect(run(`['é𝑊'.replace(/𝑊/u, 'ok'), 'é𝑊'.replace(/[é]𝑊/, 'ok'), /^[𝑊-𝑍]$/u.test('𝑋')]`)).toEqual([
    'éok',
    'ok',
    true,
  ]);
  expect(run('const größe = 3; größe')).toBe(3);
  expect(() => toAscii('String.raw`é`')).toThrow('cannot be written in ASCII: String.raw`é`');
  expect(toAscii('String.raw`a` + `b`')).toBe('String.raw`a` + `b`');
});

describe('two clean builds in different folders are the same', () => {
  /** A repository with a bundler of its own, which puts something of its surroundings into the bundle. */
  async function build(taken: string): Promise<string[]> {
    const repository = join(folder, 'repository');
    const ncc = join(repository, 'node_modules', '@vercel', 'ncc', 'dist', 'ncc');
    for (const name of [ncc, join(repository, 'action-x', 'src'), join(repository, 'shared', 'src')]) {
      await mkdir(name, { recursive: true });
    }
    for (const name of ['package.json', 'tsconfig.json', 'action-x/src/main.ts']) {
      await writeFile(join(repository, name), '{}');
    }
    await writeFile(
      join(ncc, 'cli.js'),
      `const out = process.argv[process.argv.indexOf('--out') + 1];
       require('fs').writeFileSync(out + '/licenses.txt', 'x');
       require('fs').writeFileSync(out + '/index.js', 'module.exports = ' + JSON.stringify(${taken}));`,
    );
    const built = join(folder, 'built');
    await buildActions({ repository, registry: ['action-x'], out: built });
    return await findIrreproducible({ repository, registry: ['action-x'], built });
  }

  test('where the bundler takes nothing from there', async () => {
    expect(await build("'always the same'")).toEqual([]);
  });

  test.each([
    ['the path', 'process.cwd().length'],
    ['the time zone', 'new Date(0).getHours()'],
    ['the language', '(1234.5).toLocaleString()'],
    ['the umask', 'process.umask()'],
    ['the time', 'performance.timeOrigin'],
  ])('and are told where it takes %s', async (_what, taken) => {
    expect(await build(taken)).toEqual(['action-x/dist, built in two folders/index.js differs from line 1 on']);
  });

  test('a path as it is, is told at once', async () => {
    await expect(build('process.cwd()')).rejects.toThrow('line 1 of the bundle holds a path of this machine');
  });
});
