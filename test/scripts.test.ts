import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { compareFolders } from '../scripts/check-dist.mjs';
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
