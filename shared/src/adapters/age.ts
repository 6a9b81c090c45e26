/**
 * Encryption to public keys in the format of age (https://age-encryption.org/v1, https://c2sp.org/age), so that the `age`
 * program opens what we have sealed, without Slipway. Everything streams: no more than a few pieces of 64 KiB are in memory.
 */
import { Readable } from 'node:stream';
import { ReadableStream } from 'node:stream/web';
import { Decrypter, Encrypter } from 'age-encryption';
import { BackupError } from '../errors';
import type { Secret } from '../model/secret';
import type { Cipher } from '../ports';
import { excerpt } from '../shell/excerpt';
import { messageOf } from './foreign-error';
import { discard } from './garbage';

/** What every file begins with. */
const MAGIC = 'age-encryption.org/v1\n';
/** The last line of a header, with the checksum of the header. */
const HEADER_END = '\n--- ';
/** A recipient takes about 100 bytes of the header, a post-quantum one 1.7 KB. */
const MAX_HEADER_BYTES = 256 * 1024;

export const ageCipher: Cipher = { encrypt, decrypt, isRecipient, isIdentity };

function encrypt(plain: Readable, recipients: readonly string[]): Readable {
  return follow(plain, async function* () {
    const encrypter = new Encrypter();
    let sealed: AsyncIterable<Uint8Array>;
    try {
      // Without a recipient the library would write a file that nobody can open.
      if (recipients.length === 0) throw new Error('there is none');
      for (const recipient of recipients) encrypter.addRecipient(recipient);
      sealed = await encrypter.encrypt(toWeb(plain));
    } catch (error) {
      throw new BackupError(
        `Could not encrypt to the given age recipients (${excerpt(messageOf(error), 120)}).`,
        'Give public keys as `age-keygen` prints them: `age1...`.',
        { cause: error },
      );
    }
    yield* discarding(sealed);
  });
}

function decrypt(sealed: Readable, identity: Secret): Readable {
  return follow(sealed, async function* () {
    const source = new Source(sealed);
    const decrypter = openWith(identity);
    let begun = false;
    try {
      const plain: AsyncIterable<Uint8Array> = await decrypter.decrypt(toWeb(source.read()));
      begun = true;
      yield* discarding(plain);
    } catch (error) {
      // What went wrong before it came to us is told by whom it happened to.
      if (source.failure !== undefined) throw source.failure.error;
      throw explain(error, begun);
    }
  });
}

function isRecipient(text: string): boolean {
  try {
    new Encrypter().addRecipient(text);
    return true;
  } catch {
    return false;
  }
}

function isIdentity(text: string): boolean {
  try {
    return (
      listIdentities(text).map((line) => {
        new Decrypter().addIdentity(line);
      }).length > 0
    );
  } catch {
    return false;
  }
}

/** The keys in a file as `age-keygen` writes it. */
function listIdentities(text: string): string[] {
  return text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'));
}

function openWith(identity: Secret): Decrypter {
  const decrypter = new Decrypter();
  try {
    for (const line of listIdentities(identity.reveal())) decrypter.addIdentity(line);
    return decrypter;
  } catch {
    // Without the cause: the library's message may hold the key.
    throw new BackupError(
      'The private key is not one of age.',
      'Give the file that `age-keygen` wrote: the line `AGE-SECRET-KEY-1...` of it.',
    );
  }
}

/** A stream of what `give` yields; its end, however it comes, is that of the source. */
function follow(source: Readable, give: () => AsyncGenerator<Uint8Array>): Readable {
  // A failure before the first read must not end the process: the reader meets it then.
  source.on('error', () => undefined);
  const stream = Readable.from(give(), { objectMode: false, highWaterMark: 64 * 1024 });
  stream.once('close', () => {
    source.destroy();
  });
  return stream;
}

async function* discarding(content: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  for await (const chunk of content) {
    yield chunk;
    discard(chunk.length);
  }
}

/** The library's declarations know only the global name of this class. */
function toWeb(source: AsyncIterable<Uint8Array>): globalThis.ReadableStream<Uint8Array<ArrayBuffer>> {
  return ReadableStream.from(source) as globalThis.ReadableStream<Uint8Array<ArrayBuffer>>;
}

/** What is to be decrypted: looks at the header first, and remembers its own failures. */
class Source {
  failure: { readonly error: unknown } | undefined;
  readonly #stream: Readable;

  constructor(stream: Readable) {
    this.#stream = stream;
  }

  async *read(): AsyncGenerator<Uint8Array> {
    try {
      // The library collects until it has seen the header's end: all of a file that is not of age.
      let header: Buffer | undefined = Buffer.alloc(0);
      for await (const chunk of this.#stream as AsyncIterable<Uint8Array>) {
        if (header === undefined) {
          yield chunk;
          continue;
        }
        header = Buffer.concat([header, chunk]);
        checkMagic(header);
        if (header.includes(HEADER_END)) {
          yield header;
          header = undefined;
        } else if (header.length > MAX_HEADER_BYTES) {
          throw damaged('its header has no end');
        }
      }
      if (header !== undefined) {
        checkMagic(header);
        throw damaged(header.length === 0 ? 'it is empty' : 'it is cut off within its header');
      }
    } catch (error) {
      this.failure = { error };
      throw error;
    }
  }
}

function checkMagic(header: Buffer): void {
  const length = Math.min(header.length, MAGIC.length);
  if (header.toString('latin1', 0, length) !== MAGIC.slice(0, length)) {
    throw new BackupError(
      'This is not a file that was encrypted with age: it begins differently.',
      'Either it is another file, or it was changed or overwritten where it is stored. Use an older backup or another copy.',
    );
  }
}

function damaged(how: string): BackupError {
  return new BackupError(
    `The encrypted content is damaged: ${how}.`,
    'It was changed or cut off on its way or where it is stored. Use an older backup or another copy, and look into the storage.',
  );
}

/** @param begun the header was read, and the key fits */
function explain(error: unknown, begun: boolean): BackupError {
  const message = messageOf(error);
  if (begun) return damaged('a piece of it does not have the checksum that it was sealed with');
  switch (message) {
    case "no identity matched any of the file's recipients":
      return new BackupError(
        'The private key does not fit: this was encrypted to other keys.',
        "Give the private key of one of the recipients that were set when it was made; the backup's manifest names them.",
      );
    case 'invalid header HMAC':
      return damaged('its header does not have the checksum that it was sealed with');
    case 'stream ended before reading 16 bytes':
      return damaged('it is cut off after its header');
    default:
      return damaged(`its header cannot be read (${excerpt(message, 120)})`);
  }
}
