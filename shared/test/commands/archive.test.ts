import { createHash } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { gunzipSync, gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { type Archived, parseArchived, parseArchiveProof, parseRestoredArchive } from '../../src/backups/archive';
import {
  archiveFiles,
  archiveVolume,
  listFiles,
  proveFiles,
  putBackFiles,
  putBackVolume,
  restoreFiles,
  restoreVolume,
} from '../../src/commands/archive';
import { HOSTILE, Machine, SHELLS } from '../shells';

const SHA = 'a'.repeat(64);
const ARCHIVE = {
  kind: 'archive',
  bytes: 10,
  sha256: SHA,
  plainBytes: 20,
  plainSha256: SHA,
  entries: 3,
  hash: SHA,
  changed: false,
  quietSeconds: 0,
  seconds: 1,
};

describe('the answers', () => {
  test('are read', () => {
    expect(parseArchived(`${JSON.stringify(ARCHIVE)}\n`)).toEqual({
      bytes: 10,
      sha256: SHA,
      plainBytes: 20,
      plainSha256: SHA,
      tree: { entries: 3, hash: SHA },
      changed: false,
      quietSeconds: 0,
      seconds: 1,
    });
    expect(parseArchiveProof('{"kind" : "proof", "restoreSeconds" : 1, "seconds" : 2}\n')).toEqual({
      restoreSeconds: 1,
      seconds: 2,
    });
    expect(
      parseRestoredArchive(
        '{"kind" : "restored", "kept" : ".slipway/kept-1", "downSeconds" : 0, "entries" : 3, "seconds" : 2}',
      ),
    ).toEqual({ kept: '.slipway/kept-1', downSeconds: 0, entries: 3, seconds: 2 });
  });

  test.each([
    ['', /cut off/],
    [`${JSON.stringify(ARCHIVE)}\n${JSON.stringify(ARCHIVE)}`, /more than one "archive"/],
    ['no JSON', /not JSON: no JSON/],
    [JSON.stringify({ ...ARCHIVE, changed: 'no' }), /"changed"/],
    [JSON.stringify({ ...ARCHIVE, bytes: -1 }), /"bytes"/],
    [JSON.stringify({ ...ARCHIVE, hash: 'A'.repeat(64) }), /"hash"/],
  ])('are refused: %j', (text, message) => {
    expect(() => parseArchived(text)).toThrow(message);
  });

  test('arbitrary text is read or refused, and nothing else (property)', () => {
    const value = fc.oneof(fc.constantFrom('archive', 'proof', 'restored', SHA), fc.jsonValue());
    const member = fc.constantFrom(...Object.keys(ARCHIVE), 'kept', 'restoreSeconds', 'downSeconds');
    const line = fc.oneof(
      fc.string(),
      fc.dictionary(member, value).map((one) => JSON.stringify(one)),
    );
    fc.assert(
      fc.property(fc.array(line), (lines) => {
        for (const parse of [parseArchived, parseArchiveProof, parseRestoredArchive]) {
          try {
            parse(lines.join('\n'));
          } catch (error) {
            expect(error).toBeInstanceOf(SyntaxError);
          }
        }
      }),
      { numRuns: 300 },
    );
  });
});

const SCRATCH = { name: 'scratch-1', project: 'shop', memoryMegabytes: 64, startSeconds: 2 };
/** All that can be a name. */
const NAMES = HOSTILE.filter((name) => name !== '');

test('paths stay in the folder, and ids are plain', () => {
  for (const path of ['', '/etc/passwd', '../x', 'a/../b', 'a//b', './a', '.', 'a\0b', '.slipway/x'])
    expect(() => archiveFiles('/f', [path], '/x')).toThrow(RangeError);
  expect(() => archiveFiles('/f', [], '/x')).toThrow(RangeError);
  expect(archiveFiles('/f', ['a/b/c', 'a/d'], '/x').stdin).toBe('./a\0./a/b\0./a/b/c\0./a/d\0');
  const tree = { entries: 0, hash: SHA };
  for (const id of ['', '../x', 'a b', '-x', 'a/b']) {
    expect(() => restoreFiles('/f', '/x', tree, id, 'side')).toThrow(RangeError);
    expect(() => restoreVolume('v', 'i', '/x', tree, id, SCRATCH)).toThrow(RangeError);
    if (id !== '') expect(() => putBackVolume('v', 'i', SCRATCH, id)).toThrow(RangeError);
    if (id !== '') expect(() => putBackFiles('/f', id)).toThrow(RangeError);
  }
});

describe.each(SHELLS)('in $name', (shell) => {
  let machine: Machine;
  const folder = (...parts: string[]): string => machine.path("it's a project", ...parts);
  const file = (): string => machine.path('backups', 'files.tar.gz');
  const left = (): string[] => readdirSync(machine.path('backups')).sort();
  const list = (): string[] =>
    machine
      .run(listFiles(folder()))
      .stdout.split('\0')
      .filter((path) => path !== '');
  const pack = (paths: readonly string[] = list()): Archived => {
    const ran = machine.run(archiveFiles(folder(), paths, file()));
    expect(ran).toMatchObject({ exitCode: 0, stderr: '' });
    return parseArchived(ran.stdout);
  };

  beforeEach(() => {
    machine = new Machine(shell);
    mkdirSync(machine.path('backups'));
    mkdirSync(folder('.slipway'), { recursive: true });
    for (const name of NAMES) {
      mkdirSync(folder(`d ${name}`));
      writeFileSync(folder(name), name);
      writeFileSync(folder(`d ${name}`, name), `in ${name}`);
    }
    symlinkSync('not there', folder('link'));
    mkdirSync(folder('empty', 'inner'), { recursive: true });
    chmodSync(folder("it's"), 0o750);
    utimesSync(folder('*'), 1000, 1000);
  });
  afterEach(() => {
    machine.remove();
  });

  test('files are listed without what is ours', () => {
    writeFileSync(folder('.slipway', 'x'), '');
    mkdirSync(folder('restored-1'));
    writeFileSync(folder('restored-1', 'x'), '');
    expect(list().sort()).toEqual(
      [...NAMES, ...NAMES.map((name) => `d ${name}/${name}`), 'link', 'empty/inner'].sort(),
    );
    expect(machine.run(listFiles(machine.path('nowhere')))).toMatchObject({ exitCode: 66, stdout: '' });
  });

  test('an archive has the figures of itself, and is proven', () => {
    const packed = pack();
    const content = readFileSync(file());
    const hash = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
    expect(packed).toMatchObject({
      bytes: content.length,
      sha256: hash(content),
      plainBytes: gunzipSync(content).length,
      plainSha256: hash(gunzipSync(content)),
      changed: false,
    });
    expect(packed.tree.entries).toBe(2 * NAMES.length + 1);
    expect(statSync(file()).mode & 0o777).toBe(0o600);
    expect(left()).toEqual(['files.tar.gz']);
    expect(machine.run(proveFiles(file(), packed.tree))).toMatchObject({ exitCode: 0, stderr: '' });
    expect(machine.run(proveFiles(file(), { ...packed.tree, entries: 1 }))).toMatchObject({ exitCode: 65 });
    expect(left()).toEqual(['files.tar.gz']);
  });

  test.each<[string, (folderOf: typeof folder) => void]>([
    [
      'content',
      (path) => {
        writeFileSync(path('*'), 'X');
        utimesSync(path('*'), 1000, 1000);
      },
    ],
    [
      'a mode',
      (path) => {
        chmodSync(path('~'), 0o777);
      },
    ],
    [
      'a time',
      (path) => {
        utimesSync(path('*'), 1000, 1001);
      },
    ],
    [
      'a name',
      (path) => {
        writeFileSync(path('newer'), '');
      },
    ],
  ])('another tree has other figures: %s', (_name, change) => {
    const before = pack();
    change(folder);
    expect(pack().tree.hash).not.toBe(before.tree.hash);
  });

  test('what is changed or cut is found out', () => {
    const { tree } = pack();
    const content = readFileSync(file());
    const plain = gunzipSync(content);
    const changed = Buffer.from(plain);
    changed[changed.indexOf('in it')] = 88;
    for (const bad of [
      content.subarray(0, content.length - 9),
      gzipSync(plain.subarray(0, plain.length / 2)),
      gzipSync(changed),
    ]) {
      writeFileSync(file(), bad);
      expect(machine.run(proveFiles(file(), tree))).toMatchObject({ exitCode: 65 });
      expect(machine.run(restoreFiles(folder(), file(), tree, 'id-1', 'in-place'))).toMatchObject({ exitCode: 65 });
    }
    expect(readdirSync(folder('.slipway'))).toEqual([]);
  });

  test('files come back beside, in place, and what they replaced after that', () => {
    const { tree } = pack();
    const restore = (id: string, where: 'side' | 'in-place') =>
      machine.run(restoreFiles(folder(), file(), tree, id, where));
    expect(restore('id-1', 'side')).toMatchObject({ exitCode: 0, stderr: '' });
    for (const name of NAMES)
      expect(readFileSync(folder('restored-id-1', `d ${name}`, name), 'utf8')).toBe(`in ${name}`);
    expect(readlinkSync(folder('restored-id-1', 'link'))).toBe('not there');
    for (const name of NAMES) writeFileSync(folder(name), 'newer');
    writeFileSync(folder('stays'), '');
    const ran = restore('id-2', 'in-place');
    expect(ran).toMatchObject({ exitCode: 0, stderr: '' });
    expect(parseRestoredArchive(ran.stdout)).toMatchObject({ kept: '.slipway/kept-id-2' });
    for (const name of NAMES) {
      expect(readFileSync(folder(name), 'utf8')).toBe(name);
      expect(readFileSync(folder('.slipway', 'kept-id-2', name), 'utf8')).toBe('newer');
    }
    expect(lstatSync(folder("it's")).mode & 0o777).toBe(0o750);
    expect(existsSync(folder('stays'))).toBe(true);
    expect(machine.run(putBackFiles(folder()))).toMatchObject({ exitCode: 0, stderr: '' });
    expect(readFileSync(folder('~'), 'utf8')).toBe('~');
    expect(machine.run(putBackFiles(folder(), 'id-2'))).toMatchObject({ exitCode: 0, stderr: '' });
    for (const name of NAMES) expect(readFileSync(folder(name), 'utf8')).toBe('newer');
    expect(readdirSync(folder('.slipway'))).toEqual([]);
    expect(existsSync(machine.path('pwned'))).toBe(false);
  });

  test('a volume whose container cannot be used is not touched', () => {
    machine.withDocker(
      `case "$1 $2" in 'volume inspect') exit "$(cat code)" ;; run*) echo 'no such image' >&2; exit 125 ;; esac`,
    );
    const archive = () => machine.run(archiveVolume("v'$(touch pwned)", 'i;touch pwned', 'paused', file(), SCRATCH));
    writeFileSync(machine.path('code'), '1');
    expect(archive()).toMatchObject({ exitCode: 78, stderr: expect.stringMatching(/there is no volume v'/) as string });
    writeFileSync(machine.path('code'), '0');
    expect(archive()).toMatchObject({
      exitCode: 69,
      stderr: expect.stringMatching(/no such image\nthe image i;touch pwned cannot be used/) as string,
    });
    expect(machine.calls.join('\n')).toContain("<--volume><v'$(touch pwned):/volume:ro>");
    expect(left()).toEqual([]);
    expect(existsSync(machine.path('pwned'))).toBe(false);
  });
});
