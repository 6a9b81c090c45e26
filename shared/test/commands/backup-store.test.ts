import { createHash } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { once } from 'node:events';
import { spawnSync } from 'node:child_process';
import fc from 'fast-check';
import { nameFile, renderChecksums } from '../../src/backups/manifest';
import {
  acceptBackup,
  beginBackup,
  checkFiles,
  dropPartial,
  measureFile,
  measureGrowth,
  parseBackups,
  parseMeasured,
  readBackups,
  readContent,
  readFileIfAny,
  removeBackups,
  removeFiles,
  sweepBackups,
  writeContent,
  writeFile,
  writePublicFile,
} from '../../src/commands/backup-store';
import { type BackupLayout, backupFolder, layoutBackups, partialFolder } from '../../src/releases/backup-layout';
import { layoutStore } from '../../src/releases/layout';
import { HOSTILE, Machine, type Ran, SHELLS } from '../shells';

const [A, B, C] = ['20261122T100000Z-aaaaaa', '20261122T110000Z-bbbbbb', '20261122T120000Z-cccccc'];
const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');
const mode = (path: string): string => (lstatSync(path).mode & 0o777).toString(8);

describe.each(SHELLS)('the folder of the backups, in $name', (shell) => {
  let machine: Machine;
  let layout: BackupLayout;

  beforeEach(() => {
    machine = new Machine(shell);
    layout = layoutBackups(layoutStore(machine.path("apps/it's $(touch pwned) *")));
  });
  afterEach(() => {
    expect(existsSync(machine.path('pwned'))).toBe(false);
    machine.remove();
  });

  const succeed = (command: Parameters<Machine['run']>[0]): string => {
    const { exitCode, stdout, stderr } = machine.run(command);
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
    return stdout;
  };
  const put = (folder: string, files: Readonly<Record<string, string>>): void => {
    mkdirSync(folder, { recursive: true });
    for (const [name, text] of Object.entries(files)) writeFileSync(`${folder}/${name}`, text);
  };
  const list = (): string[] => readdirSync(layout.folder).sort();
  const read = (): ReturnType<typeof parseBackups> => parseBackups(succeed(readBackups('token', layout)), 'token');

  test('a backup is begun in a folder of its own, seen by nobody until it is accepted', () => {
    succeed(beginBackup(layout, A));
    const partial = partialFolder(layout, A);
    expect([mode(layout.folder), mode(partial)]).toEqual(['700', '700']);
    succeed(writeFile(`${partial}/manifest.json`, '{"a":1}'));
    expect(read()).toEqual([]);
    succeed(acceptBackup(layout, A));
    expect(read()).toEqual([{ id: A, text: '{"a":1}' }]);
    expect(list()).toEqual([A]);
    expect(mode(`${layout.folder}/${A}/manifest.json`)).toBe('600');
  });

  test('a backup is not begun over another, nor accepted over one', () => {
    succeed(beginBackup(layout, A));
    expect(machine.run(beginBackup(layout, A)).exitCode).not.toBe(0);
    put(backupFolder(layout, A), { 'manifest.json': 'the first' });
    const refused = machine.run(acceptBackup(layout, A));
    expect(refused).toMatchObject({ exitCode: 75, stderr: expect.stringContaining('is there already') as string });
    expect(readFileSync(`${backupFolder(layout, A)}/manifest.json`, 'utf8')).toBe('the first');
    expect(list()).toEqual([A, `${A}.partial`]);
  });

  test('readers see neither what is half made nor what is half removed', () => {
    for (const name of [A, `${B}.partial`, `${C}.removing`, '.slipway']) {
      put(`${layout.folder}/${name}`, { 'manifest.json': name });
    }
    put(`${layout.folder}/without-a-manifest`, {});
    expect(read()).toEqual([{ id: A, text: A }]);
    expect(() => parseBackups('token begin x\n', 'token')).toThrow(SyntaxError);
  });

  test('no folder is no backups', () => {
    expect(read()).toEqual([]);
    succeed(sweepBackups(layout));
  });

  test('what was left half-way is swept, and said; the rest stays', () => {
    for (const name of [A, `${B}.partial`, `${C}.removing`, '.slipway', 'x.partial y']) {
      put(`${layout.folder}/${name}`, { 'some file': 'x' });
    }
    writeFileSync(layout.restoring, '{}');
    expect(succeed(sweepBackups(layout))).toBe(`${B}.partial\n${C}.removing\n`);
    expect(list()).toEqual(['.slipway', A, 'restoring', 'x.partial y'].sort());
  });

  test('a link is swept, and not what it points to', () => {
    put(machine.path('elsewhere'), { kept: 'x' });
    mkdirSync(layout.folder, { recursive: true });
    symlinkSync(machine.path('elsewhere'), `${layout.folder}/${A}.partial`);
    succeed(sweepBackups(layout));
    expect(list()).toEqual([]);
    expect(existsSync(machine.path('elsewhere/kept'))).toBe(true);
  });

  test('old ones are removed; what is gone is no failure; others stay', () => {
    for (const id of [A, B, C]) put(backupFolder(layout, id), { 'manifest.json': id });
    // As an interrupted one has left it.
    put(`${layout.folder}/${B}.removing`, { 'manifest.json': 'x' });
    succeed(removeBackups(layout, [A, 'never-there', B]));
    expect(list()).toEqual([C]);
    succeed(removeBackups(layout, []));
    expect(list()).toEqual([C]);
  });

  test('what a deploy has in the making is not swept with that of action-backup, nor the other way round', () => {
    const ofChange = layoutBackups(layout, '.change.partial');
    succeed(beginBackup(layout, A));
    succeed(beginBackup(ofChange, B));
    put(`${layout.folder}/${C}.removing`, {});
    expect(list()).toEqual([`${A}.partial`, `${B}.change.partial`, `${C}.removing`]);
    expect(read()).toEqual([]);
    expect(succeed(sweepBackups(ofChange))).toBe(`${B}.change.partial\n`);
    succeed(beginBackup(ofChange, B));
    expect(succeed(sweepBackups(layout))).toBe(`${A}.partial\n${C}.removing\n`);
    expect(list()).toEqual([`${B}.change.partial`]);
    writeFileSync(`${partialFolder(ofChange, B)}/x`, '');
    succeed(acceptBackup(ofChange, B));
    expect(list()).toEqual([B]);
  });

  test('outside of the folder nothing is removed where it is not there', () => {
    put(machine.path(A), { file: 'x' });
    expect(machine.run(removeBackups(layout, [A])).exitCode).not.toBe(0);
    expect(existsSync(machine.path(A, 'file'))).toBe(true);
  });

  test('a backup that failed is dropped', () => {
    put(partialFolder(layout, A), { x: 'x' });
    put(backupFolder(layout, A), { x: 'x' });
    succeed(dropPartial(layout, A));
    expect(list()).toEqual([A]);
  });

  describe('checksums', () => {
    const texts = ['one', 'two', ''];
    const sources = ['postgres:db/app', "files:it's $(touch pwned)", 'files:-rf\\ *'];
    const items = sources.map((source, index) => {
      const file = nameFile({ kind: 'files', source, compression: 'none' }, false);
      return { file, text: texts[index] ?? '', sha256: sha256(texts[index] ?? '') };
    });
    const check = (): Ran => machine.run(checkFiles(backupFolder(layout, A), renderChecksums(items)));
    beforeEach(() => {
      put(backupFolder(layout, A), Object.fromEntries(items.map(({ file, text }) => [file, text])));
    });

    test('of all that is as it was', () => {
      expect(check()).toEqual({ exitCode: 0, stdout: '', stderr: '' });
    });

    test.each([0, 1, 2])('of a file that was changed: it and no other is named', (index) => {
      writeFileSync(`${backupFolder(layout, A)}/${items[index]?.file ?? ''}`, 'oops');
      const { exitCode, stderr } = check();
      expect(exitCode).toBe(65);
      for (const [at, { file }] of items.entries()) expect(stderr.includes(`${file}: `)).toBe(at === index);
    });

    test('of a file, or a folder, that is gone', () => {
      spawnSync('rm', ['-f', `${backupFolder(layout, A)}/${items[1]?.file ?? ''}`]);
      expect(check()).toMatchObject({ exitCode: 65, stderr: expect.stringContaining(items[1]?.file ?? '?') as string });
      spawnSync('rm', ['-rf', backupFolder(layout, A)]);
      expect(check().exitCode).not.toBe(0);
    });

    test('of nothing are not taken for a success', () => {
      expect(machine.run(checkFiles(backupFolder(layout, A), '')).exitCode).not.toBe(0);
    });
  });

  test.each(HOSTILE)('a file is written whole, with %j in its name and in it', (text) => {
    mkdirSync(machine.path('folder'));
    const file = machine.path('folder', `${text.replaceAll('/', '_')}x`);
    succeed(writeFile(file, 'before'));
    succeed(writeFile(file, text));
    expect(succeed(readContent(file))).toBe(text);
    expect(succeed(readFileIfAny(file))).toBe(text);
    expect(mode(file)).toBe('600');
    expect(parseMeasured(succeed(measureFile(file)))).toEqual({ sha256: sha256(text), bytes: Buffer.byteLength(text) });
    expect(succeed(measureGrowth(file))).toBe(`${Buffer.byteLength(text)}\n`);
    expect(readdirSync(machine.path('folder'))).toHaveLength(1);
    succeed(removeFiles([file]));
    expect(succeed(readFileIfAny(file))).toBe('');
  });

  test('what cannot be written leaves what was there', () => {
    const file = machine.path('file');
    succeed(writeFile(file, 'before'));
    mkdirSync(machine.path('file.new'));
    expect(machine.run(writeFile(file, 'after')).exitCode).not.toBe(0);
    expect(readFileSync(file, 'utf8')).toBe('before');
  });

  test('what Prometheus reads is readable for all, and nothing else changes', () => {
    const file = machine.path("it's.prom");
    succeed(writePublicFile(file, 'metric 1\n'));
    expect([readFileSync(file, 'utf8'), mode(file)]).toEqual(['metric 1\n', '644']);
    expect(machine.run(writePublicFile(machine.path('not/there.prom'), '')).exitCode).not.toBe(0);
  });

  test('content that streams in is there as it came', () => {
    const file = machine.path("new 'file'");
    const bytes = Buffer.from([0, 255, 10, 13, 0]);
    expect(machine.run(writeContent(file), { stdin: bytes }).exitCode).toBe(0);
    expect(readFileSync(file)).toEqual(bytes);
    expect(mode(file)).toBe('600');
    expect(machine.run(writeContent(machine.path('no/folder')), { stdin: 'x' }).exitCode).not.toBe(0);
  });

  test('growth is that of the file and of what becomes it', () => {
    const file = machine.path("folder's", 'postgres@db+app.dump');
    mkdirSync(machine.path("folder's"));
    expect(succeed(measureGrowth(file))).toBe('0\n');
    put(`${file}.a1B2c3`, { data: 'x'.repeat(1000), answer: 'y'.repeat(20) });
    expect(succeed(measureGrowth(file))).toBe('1020\n');
    writeFileSync(file, 'z'.repeat(5));
    writeFileSync(`${file}.tables`, 'not counted');
    expect(succeed(measureGrowth(file))).toBe('1025\n');
  });

  test('nothing that goes through the pipes of a dump is taken away by looking how far it is', async () => {
    const file = machine.path('app.dump');
    mkdirSync(`${file}.a1B2c3`);
    const pipe = `${file}.a1B2c3/out`;
    spawnSync('mkfifo', [pipe]);
    writeFileSync(`${file}.a1B2c3/data`, 'x'.repeat(7));
    const reader = machine.start({ words: ['cat', '--', pipe] });
    let got = '';
    reader.stdout.on('data', (chunk: Buffer) => (got += chunk.toString()));
    const writer = machine.start({
      words: ['sh', '-c', 'exec >"$1"; for i in 1 2 3 4 5 6 7 8 9 10; do echo "$i"; sleep 0.05; done', 'slipway', pipe],
    });
    const looks = [0, 1].map(async () => {
      const look = machine.start(measureGrowth(file));
      let said = '';
      look.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()));
      await once(look, 'close');
      return said;
    });
    expect(await Promise.all(looks)).toEqual(['7\n', '7\n']);
    await Promise.all([once(writer, 'close'), once(reader, 'close')]);
    expect(got).toBe('1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n');
  });

  test('a file that cannot be measured is no number', () => {
    mkdirSync(machine.path('locked'));
    chmodSync(machine.path('locked'), 0o700);
    expect(machine.run(measureFile(machine.path('locked', 'gone'))).exitCode).not.toBe(0);
  });
});

test('a measure is read as it was written, and nothing else is (property)', () => {
  const digest = fc.string({ unit: fc.constantFrom(...Array.from('0123456789abcdef')), minLength: 64, maxLength: 64 });
  fc.assert(
    fc.property(digest, fc.maxSafeNat(), (sum, bytes) => {
      expect(parseMeasured(`${sum} ${bytes}\n`)).toEqual({ sha256: sum, bytes });
      expect(() => parseMeasured(`${sum} ${bytes}`)).toThrow(SyntaxError);
      expect(() => parseMeasured(`\\${sum} ${bytes}\n`)).toThrow(SyntaxError);
    }),
  );
  fc.assert(
    fc.property(fc.string(), (text) => {
      expect(() => parseMeasured(text)).toThrow(SyntaxError);
    }),
  );
});
