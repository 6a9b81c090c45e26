import { chmodSync, mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { openWorkspace } from '../../src/adapters/workspace';

let outer: string;
let root: string;

beforeEach(() => {
  outer = realpathSync(mkdtempSync(join(tmpdir(), 'slipway-workspace-')));
  root = join(outer, 'work');
  mkdirSync(root);
});

afterEach(() => {
  rmSync(outer, { recursive: true });
});

function write(path: string, text = path, mode = 0o644): void {
  const whole = join(root, path);
  mkdirSync(dirname(whole), { recursive: true });
  writeFileSync(whole, text);
  chmodSync(whole, mode);
}

async function collect(...globs: string[]): Promise<{ paths: string[]; problems: readonly string[] }> {
  const { files, problems } = await openWorkspace(root).collect(globs);
  return { paths: files.map(({ path }) => path), problems };
}

test('globs, dotfiles, each file once, sorted', async () => {
  for (const path of ['b.conf', 'a.conf', 'a.txt', 'sub/c.conf', 'sub/.hidden.conf', '.env']) write(path);
  expect(await collect('*.conf')).toEqual({ paths: ['a.conf', 'b.conf'], problems: [] });
  expect(await collect('**/*.conf', 'a.*')).toEqual({
    paths: ['a.conf', 'a.txt', 'b.conf', 'sub/.hidden.conf', 'sub/c.conf'],
    problems: [],
  });
  expect(await collect('.env')).toEqual({ paths: ['.env'], problems: [] });
  expect(await collect('{a,b}.conf')).toEqual({ paths: ['a.conf', 'b.conf'], problems: [] });
});

test("a folder's name means everything below it", async () => {
  for (const path of ['nginx/site.conf', 'nginx/conf.d/.a', 'nginx/deep/er/x', 'nginx2/y']) write(path);
  const expected = { paths: ['nginx/conf.d/.a', 'nginx/deep/er/x', 'nginx/site.conf'], problems: [] };
  for (const name of ['nginx', 'nginx/', './nginx', './nginx/', 'nginx/**'])
    expect(await collect(name)).toEqual(expected);
});

test('the whole workspace, without git', async () => {
  for (const path of ['a', '.github/x.yaml', '.git/config', '.git/objects/ab', 'sub/.git/HEAD', '.gitignore'])
    write(path);
  for (const name of ['.', './', '**'])
    expect(await collect(name)).toEqual({ paths: ['.github/x.yaml', '.gitignore', 'a'], problems: [] });
  expect((await collect('.git/**')).paths).toEqual([]);
  expect((await collect('.git')).paths).toEqual([]);
});

test('contents and modes', async () => {
  write('run.sh', '#!/bin/sh\n', 0o755);
  write('data', '\u0000ÿ', 0o600);
  const { files } = await openWorkspace(root).collect(['*']);
  expect(files.map(({ path, executable, content }) => [path, executable, Buffer.from(content).toString()])).toEqual([
    ['data', false, '\u0000ÿ'],
    ['run.sh', true, '#!/bin/sh\n'],
  ]);
});

test('a name that is there is meant, also where it could be a glob', async () => {
  for (const path of ['[id].html', 'i.html', 'a(b)/{c}', '!x']) write(path);
  expect(await collect('[id].html')).toEqual({ paths: ['[id].html'], problems: [] });
  expect(await collect('a(b)')).toEqual({ paths: ['a(b)/{c}'], problems: [] });
  expect(await collect('!x')).toEqual({ paths: ['!x'], problems: [] });
});

test.each(['missing.conf', '*.nothing', 'missing/'])('%s matches nothing, which is a problem', async (glob) => {
  write('a');
  expect(await collect(glob, 'a')).toEqual({
    paths: ['a'],
    problems: [`\`${glob}\` matches no file in the workspace.`],
  });
});

test('an empty folder matches nothing either', async () => {
  mkdirSync(join(root, 'empty'));
  expect((await collect('empty')).problems).toEqual(['`empty` matches no file in the workspace.']);
});

test.each(['/etc/passwd', '../outside', 'a/../../outside', '..'])('%s is not below the workspace', async (glob) => {
  writeFileSync(join(outer, 'outside'), 'secret');
  expect(await collect(glob)).toEqual({
    paths: [],
    problems: [`\`${glob}\` is not below the workspace: give paths and globs relative to it.`],
  });
});

describe('links', () => {
  test('within the workspace are what they point to', async () => {
    write('real/a', 'text');
    symlinkSync('real/a', join(root, 'link'));
    symlinkSync('real', join(root, 'folder'));
    const { files, problems } = await openWorkspace(root).collect(['link', 'folder']);
    expect(problems).toEqual([]);
    expect(files.map(({ path, content }) => [path, Buffer.from(content).toString()])).toEqual([
      ['folder/a', 'text'],
      ['link', 'text'],
    ]);
  });

  test('that leave it, or lead nowhere, are refused', async () => {
    writeFileSync(join(outer, 'secret'), 'secret');
    mkdirSync(join(outer, 'folder'));
    writeFileSync(join(outer, 'folder', 'x'), 'secret');
    symlinkSync(join(outer, 'secret'), join(root, 'absolute'));
    symlinkSync('../secret', join(root, 'relative'));
    symlinkSync('../folder', join(root, 'tree'));
    symlinkSync('nowhere', join(root, 'dangling'));
    write('fine');
    const refused = (path: string): string =>
      `\`${path}\` is a link that leaves the workspace (or leads nowhere): such files are not shipped.`;
    expect(await collect('.')).toEqual({
      paths: ['fine'],
      problems: ['absolute', 'dangling', 'relative', 'tree'].map(refused),
    });
    expect(await collect('tree')).toEqual({ paths: [], problems: [refused('tree')] });
    for (const way of ['tree/x', 'tree/*', 'tree/**'])
      expect(await collect(way)).toEqual({ paths: [], problems: [refused('tree')] });
  });

  test('to the root of the machine are not followed: that would read all of it', async () => {
    symlinkSync('/', join(root, 'machine'));
    write('fine');
    const started = performance.now();
    expect((await collect('**')).problems).toHaveLength(1);
    expect((await collect('.')).paths).toEqual(['fine']);
    expect(performance.now() - started).toBeLessThan(2000);
  });

  test('in a circle end', async () => {
    write('a/file');
    symlinkSync('..', join(root, 'a', 'up'));
    symlinkSync('.', join(root, 'a', 'here'));
    const { paths, problems } = await collect('a');
    expect(problems).toEqual([]);
    expect(paths).toContain('a/file');
    expect(paths.length).toBeLessThan(10);
  });
});

test('more than the limit is a problem that names the file', async () => {
  write('a', 'x'.repeat(600_000));
  write('b', 'x'.repeat(600_000));
  const { files, problems } = await openWorkspace(root, 1024 * 1024).collect(['*']);
  expect(files.map(({ path }) => path)).toEqual(['a']);
  expect(problems).toEqual([
    'The files are more than 1 MiB together (at `b`): put large data into an image or a volume.',
  ]);
});

test('read and exists stay in the workspace', async () => {
  write('sub/a', 'text ☃');
  writeFileSync(join(outer, 'secret'), 'secret');
  symlinkSync('../secret', join(root, 'link'));
  const workspace = openWorkspace(root);
  expect(await workspace.read('sub/a')).toBe('text ☃');
  for (const path of ['sub', 'missing', '../secret', '/etc/passwd', 'link'])
    expect(await workspace.read(path)).toBeUndefined();
  expect(await workspace.exists('sub')).toBe(true);
  for (const path of ['missing', '../secret', '/etc/passwd', 'link']) expect(await workspace.exists(path)).toBe(false);
});
