import { execFile, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { promisify } from 'node:util';
import fc from 'fast-check';
import { ageCipher } from '../../src/adapters/age';
import { BackupError, StorageError } from '../../src/errors';
import { Secret } from '../../src/model/secret';
import { measureProgram } from './measured-program';

/** Made for these tests with age-keygen; they protect nothing. */
interface Key {
  readonly identity: string;
  readonly recipient: string;
}

let folder: string;
let ours: Key;
let theirs: Key;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'slipway-age-'));
  [ours, theirs] = [makeKey(), makeKey()];
});

afterAll(() => {
  rmSync(folder, { recursive: true });
});

/** The whole file that `age-keygen` writes: comments and all. */
function makeKey(): Key {
  const identity = execFileSync('age-keygen', { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  const recipient = /^# public key: (age1\w+)$/m.exec(identity)?.[1];
  if (recipient === undefined) throw new Error(`age-keygen said ${identity}`);
  return { identity, recipient };
}

const seal = (plain: Uint8Array, ...recipients: string[]): Promise<Buffer> =>
  buffer(ageCipher.encrypt(Readable.from([plain], { objectMode: false }), recipients));

const open = (sealed: Uint8Array | readonly Uint8Array[], key: Key): Promise<Buffer> =>
  buffer(
    ageCipher.decrypt(
      Readable.from(sealed instanceof Uint8Array ? [sealed] : sealed, { objectMode: false }),
      new Secret(key.identity),
    ),
  );

async function failure(promise: Promise<unknown>): Promise<Error> {
  try {
    await promise;
  } catch (error) {
    return error as Error;
  }
  throw new Error('it did not fail');
}

function noise(bytes: number): Buffer {
  const content = Buffer.alloc(bytes);
  for (let at = 0, seed = 1; at < bytes; at++) {
    seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
    content[at] = seed >>> 16;
  }
  return content;
}

/** 64 KiB is the size of a piece: around it is where mistakes are. */
test.each([0, 1, 65_535, 65_536, 65_537, 131_072, 1_000_000])('%i bytes come back as they were', async (bytes) => {
  const plain = noise(bytes);
  const sealed = await seal(plain, ours.recipient);
  expect(sealed.length).toBeGreaterThan(bytes + 100);
  expect((await open(sealed, ours)).equals(plain)).toBe(true);
});

test('each of several recipients can open it, and nobody else', async () => {
  const sealed = await seal(Buffer.from('for two'), ours.recipient, theirs.recipient);
  expect(String(await open(sealed, ours))).toBe('for two');
  expect(String(await open(sealed, theirs))).toBe('for two');
  const other = await failure(open(sealed, makeKey()));
  expect(other).toBeInstanceOf(BackupError);
  expect(other.message).toBe('The private key does not fit: this was encrypted to other keys.');
});

test('one of several private keys is enough', async () => {
  const sealed = await seal(Buffer.from('rotated'), theirs.recipient);
  const both = { ...ours, identity: `${ours.identity}\r\n${theirs.identity}` };
  expect(String(await open(sealed, both))).toBe('rotated');
});

test('however it is cut on the way, it is the same', async () => {
  const plain = noise(200_000);
  const sealed = await seal(plain, ours.recipient);
  await fc.assert(
    fc.asyncProperty(fc.array(fc.integer({ min: 1, max: sealed.length - 1 }), { maxLength: 8 }), async (cuts) => {
      const at = [0, ...[...new Set(cuts)].sort((a, b) => a - b), sealed.length];
      const chunks = at.slice(1).map((end, index) => sealed.subarray(at[index], end));
      expect((await open(chunks, ours)).equals(plain)).toBe(true);
    }),
    { numRuns: 20 },
  );
});

describe('what was changed is never taken for whole', () => {
  test('a flipped bit, anywhere', async () => {
    const plain = noise(150_000);
    const sealed = await seal(plain, ours.recipient, theirs.recipient);
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 0, max: sealed.length - 1 }),
        fc.integer({ min: 0, max: 7 }),
        async (at, bit) => {
          const changed = Buffer.from(sealed);
          changed.writeUInt8(changed.readUInt8(at) ^ (1 << bit), at);
          const error = await failure(open(changed, ours));
          expect(error).toBeInstanceOf(BackupError);
          expect(error.message).not.toContain('AGE-SECRET-KEY');
        },
      ),
      {
        numRuns: 60,
        examples: [
          [0, 0],
          [30, 1],
          [200, 0],
          [sealed.length - 1, 7],
        ],
      },
    );
  });

  test('a file that is cut off, anywhere, also between two pieces', async () => {
    const sealed = await seal(noise(200_000), ours.recipient);
    const header = sealed.indexOf('\n--- ') + 49;
    const pieces = [1, 2, 3].map((count) => header + 16 + count * (65_536 + 16));
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 0, max: sealed.length - 1 }), async (length) => {
        expect(await failure(open(sealed.subarray(0, length), ours))).toBeInstanceOf(BackupError);
      }),
      { numRuns: 40, examples: [0, 10, 60, header, header + 10, header + 16, ...pieces].map((length) => [length]) },
    );
  });

  test('something behind its end', async () => {
    const sealed = await seal(noise(1000), ours.recipient);
    expect(await failure(open(Buffer.concat([sealed, Buffer.from('x')]), ours))).toBeInstanceOf(BackupError);
  });

  test('says so in words', async () => {
    const sealed = await seal(noise(100), ours.recipient);
    sealed.writeUInt8(sealed.readUInt8(sealed.length - 1) ^ 1, sealed.length - 1);
    const error = await failure(open(sealed, ours));
    expect(error.message).toBe(
      'The encrypted content is damaged: a piece of it does not have the checksum that it was sealed with.',
    );
    expect(error).toMatchObject({ hint: expect.stringContaining('Use an older backup') as string });
    expect((await failure(open(Buffer.from('PK a zip file'), ours))).message).toBe(
      'This is not a file that was encrypted with age: it begins differently.',
    );
    expect((await failure(open(Buffer.alloc(0), ours))).message).toBe('The encrypted content is damaged: it is empty.');
  });
});

test('a file whose header never ends is not collected in memory', async () => {
  let given = 0;
  const endless = Readable.from(
    (function* () {
      yield Buffer.from('age-encryption.org/v1\n');
      for (;;) {
        given += 65_536;
        yield Buffer.alloc(65_536, 'a');
      }
    })(),
  );
  const error = await failure(buffer(ageCipher.decrypt(endless, new Secret(ours.identity))));
  expect(error.message).toBe('The encrypted content is damaged: its header has no end.');
  expect(given).toBeLessThan(1024 * 1024);
});

describe('streams end with each other', () => {
  const closed = async (stream: Readable): Promise<void> => {
    if (!stream.closed) await new Promise((resolve) => stream.once('close', resolve));
  };

  test('a source that fails', async () => {
    const lost = new StorageError('Could not read it.', '');
    const failing = (first: Uint8Array): Readable =>
      Readable.from(
        (function* () {
          yield first;
          throw lost;
        })(),
      );
    expect(await failure(buffer(ageCipher.encrypt(failing(noise(100_000)), [ours.recipient])))).toBe(lost);
    const sealed = await seal(noise(200_000), ours.recipient);
    expect(
      await failure(buffer(ageCipher.decrypt(failing(sealed.subarray(0, 100_000)), new Secret(ours.identity)))),
    ).toBe(lost);
    expect(await failure(buffer(ageCipher.decrypt(failing(sealed.subarray(0, 30)), new Secret(ours.identity))))).toBe(
      lost,
    );
  });

  test('a source that fails before anybody reads', async () => {
    const source = new Readable({ read: () => undefined });
    const sealed = ageCipher.encrypt(source, [ours.recipient]);
    const lost = new Error('gone');
    source.destroy(lost);
    await closed(source);
    expect((await failure(buffer(sealed))).message).toBe('gone');
  });

  test.each([false, true])('a reader that leaves (after the first piece: %s)', async (begun) => {
    const source = Readable.from(
      (function* () {
        for (;;) yield noise(100_000);
      })(),
    );
    const sealed = ageCipher.encrypt(source, [ours.recipient]);
    if (begun) await once(sealed, 'readable');
    sealed.destroy();
    await closed(source);
    expect(source.destroyed).toBe(true);
  });
});

describe('keys', () => {
  test('recipients', () => {
    expect(ageCipher.isRecipient(ours.recipient)).toBe(true);
    const wrong = [
      '',
      'age1',
      ours.recipient.slice(0, -1),
      ours.recipient.replace(/.$/, (last) => (last === 'q' ? 'p' : 'q')),
      ` ${ours.recipient}`,
      ours.recipient.toUpperCase(),
      'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIPdOqtR8WnLjUZYg4bHQbTZNmnK1jHZzCjbYgJOkJyT',
      ours.identity,
    ];
    expect(wrong.filter((text) => ageCipher.isRecipient(text))).toEqual([]);
  });

  test('private keys', () => {
    const [line = ''] = /^AGE-SECRET-KEY-1\w+$/m.exec(ours.identity) ?? [];
    const right = [line, ` ${line}\r\n`, ours.identity, `${ours.identity}\n\n${theirs.identity}`];
    expect(right.filter((text) => !ageCipher.isIdentity(text))).toEqual([]);
    const wrong = ['', '# only a comment', line.slice(0, -1), `${line}\nsomething else`, ours.recipient, `${line} x`];
    expect(wrong.filter((text) => ageCipher.isIdentity(text))).toEqual([]);
  });

  test('what cannot be used fails without showing a key', async () => {
    const [line = ''] = /^AGE-SECRET-KEY-1\w+$/m.exec(ours.identity) ?? [];
    const changed = { ...ours, identity: line.replace(/.$/, (last) => (last === 'Q' ? 'P' : 'Q')) };
    const error = await failure(open(await seal(Buffer.from('x'), ours.recipient), changed));
    expect(error).toBeInstanceOf(BackupError);
    expect(`${error.message} ${String(error.stack)} ${String(error.cause)}`).not.toContain(line.slice(20, 40));
    expect(await failure(seal(Buffer.from('x'), 'age1nonsense'))).toBeInstanceOf(BackupError);
    expect(await failure(seal(Buffer.from('x')))).toBeInstanceOf(BackupError);
  });
});

describe("Debian's age", () => {
  test('opens what we sealed', async () => {
    const [key, file] = [join(folder, 'key'), join(folder, 'ours.age')];
    const plain = noise(300_000);
    writeFileSync(key, theirs.identity, { mode: 0o600 });
    writeFileSync(file, await seal(plain, ours.recipient, theirs.recipient));
    const { stdout } = await promisify(execFile)('age', ['--decrypt', '--identity', key, file], {
      encoding: 'buffer',
      maxBuffer: 1e6,
    });
    expect(stdout.equals(plain)).toBe(true);
  });

  test('seals what we open', async () => {
    const plain = noise(300_000);
    const file = join(folder, 'theirs.age');
    const age = spawn('age', ['--encrypt', '--recipient', ours.recipient, '--output', file], {
      stdio: ['pipe', 'ignore', 'inherit'],
    });
    age.stdin.end(plain);
    expect(await once(age, 'close')).toEqual([0, null]);
    expect((await open(readFileSync(file), ours)).equals(plain)).toBe(true);
  });
});

test('500 MB take no more memory than a few pieces', async () => {
  const { peakMib, value } = await measureProgram(
    `
    const chunk = crypto.randomBytes(65_536);
    const total = 500_000_000;
    const source = stream.Readable.from((function* () {
      for (let given = 0; given < total; given += chunk.length) yield chunk.subarray(0, total - given);
    })(), { objectMode: false });
    const sealed = age.ageCipher.encrypt(source, [process.env.RECIPIENT]);
    const startedMs = performance.now();
    let opened = 0;
    for await (const piece of age.ageCipher.decrypt(sealed, new secret.Secret(process.env.IDENTITY))) opened += piece.length;
    report({ opened, mbPerSecond: Math.round(total / 1e3 / (performance.now() - startedMs)) });
    `,
    { RECIPIENT: ours.recipient, IDENTITY: ours.identity },
  );
  expect(value).toMatchObject({ opened: 500_000_000 });
  // Node and the library take 80; on a busy machine V8's own threads lag behind, and it is 140.
  expect(peakMib).toBeLessThan(300);
}, 120_000);
