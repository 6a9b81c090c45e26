import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { packTar, type TarEntry } from '../../src/releases/tar';

const entries: TarEntry[] = [
  { path: 'plain.txt', content: 'hello\n' },
  { path: 'dir/sub/script.sh', content: '#!/bin/sh\n', mode: 0o755 },
  { path: 'dir/readable', content: Buffer.from([0, 255, 10]), mode: 0o644 },
  { path: 'empty', content: '' },
  { path: `${'d'.repeat(60)}/${'e'.repeat(60)}/file-over-100`, content: '100' },
  {
    path: `${Array.from({ length: 10 }, (_, index) => `${index}${'p'.repeat(39)}`).join('/')}/over-255`,
    content: '255',
  },
  { path: `n${'ame'.repeat(60)}`, content: 'long name' },
  { path: "ünï☃ 😀/it's $(x).txt", content: 'unicode' },
  { path: ' leading', content: 'space' },
  { path: '-rf', content: 'dash' },
  { path: 'big', content: Buffer.alloc(3_000_000, 'x') },
];

const TARS = [
  ['tar', ['tar']],
  ['busybox tar', ['busybox', 'tar']],
].filter(([, words]) => spawnSync((words as string[])[0] ?? '', ['--help']).error === undefined) as [
  string,
  string[],
][];

test.each(TARS)('%s reads it: names, contents and modes', async (_name, [program = '', ...rest]) => {
  const folder = mkdtempSync(join(tmpdir(), 'slipway-tar-'));
  try {
    const tar = await packTar(entries);
    const { status, stderr } = spawnSync(program, [...rest, '-xpf', '-', '-C', folder], {
      input: tar,
      env: { ...process.env, LC_ALL: 'C.UTF-8' },
    });
    expect([status, stderr.toString()]).toEqual([0, '']);
    for (const { path, content, mode } of entries) {
      expect(readFileSync(join(folder, path)).equals(Buffer.from(content))).toBe(true);
      expect([path, (statSync(join(folder, path)).mode & 0o777).toString(8)]).toEqual([
        path,
        (mode ?? 0o600).toString(8),
      ]);
    }
    for (const directory of ['dir', 'dir/sub'])
      expect((statSync(join(folder, directory)).mode & 0o777).toString(8)).toBe('755');
    expect(existsSync(join(folder, 'big'))).toBe(true);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('same entries, same bytes', async () => {
  expect(Buffer.from(await packTar(entries)).equals(Buffer.from(await packTar(entries)))).toBe(true);
});

test('no entries are a tar too', async () => {
  expect((await packTar([])).byteLength).toBe(1024);
});
