/** Content between the server, the runner and the storage, streamed: memory does not grow with it. */
import { createHash } from 'node:crypto';
import { type Readable, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { readContent, writeContent } from '../commands/backup-store';
import { BackupError } from '../errors';
import type { Vault } from './vault';

/** What has passed. */
export interface Passed {
  bytes: number;
  sha256: string;
}

/** Counts and hashes what passes; `passed` is complete when it has ended. */
export function meter(): { readonly stream: Transform; readonly passed: Passed } {
  const hash = createHash('sha256');
  const passed: Passed = { bytes: 0, sha256: '' };
  const stream = new Transform({
    transform(chunk: Buffer, _, done) {
      hash.update(chunk);
      passed.bytes += chunk.length;
      done(null, chunk);
    },
    flush(done) {
      passed.sha256 = hash.digest('hex');
      done();
    },
  });
  return { stream, passed };
}

/**
 * Hands the content of a file of the server to whoever takes it.
 *
 * @throws BackupError where the server could not read all of it; whatever `take` throws; ConnectError, CancelledError.
 */
export async function sendFile(
  file: string,
  { session, ports }: Vault,
  take: (content: Readable) => Promise<void>,
): Promise<void> {
  ports.signal.throwIfAborted();
  const process = await session.start(readContent(file));
  const exit = process.exit;
  exit.catch(() => undefined);
  const onCancel = (): void => {
    process.stdout.destroy(new BackupError('The workflow was cancelled.', ''));
  };
  ports.signal.addEventListener('abort', onCancel, { once: true });
  let said = '';
  process.stderr.on('data', (chunk: Buffer) => (said = `${said}${chunk.toString()}`.slice(-2000)));
  try {
    await take(process.stdout);
    const code = await exit;
    if (code !== 0) {
      throw new BackupError(
        `${file} could not be read to its end at ${session.where}: ${ports.reporter.redact(said.trim()) || `exit code ${code}`}`,
        'Look at the disk of the server.',
      );
    }
  } finally {
    ports.signal.removeEventListener('abort', onCancel);
    process.close();
  }
}

/**
 * Writes a stream into a new file of the server.
 *
 * @param through what it passes on its way.
 * @throws BackupError where the server could not write all of it; whatever the stream fails with.
 */
export async function receiveFile(
  content: Readable,
  through: Transform,
  file: string,
  { session, ports }: Vault,
): Promise<void> {
  ports.signal.throwIfAborted();
  const process = await session.start(writeContent(file));
  const exit = process.exit;
  exit.catch(() => undefined);
  let said = '';
  process.stderr.on('data', (chunk: Buffer) => (said = `${said}${chunk.toString()}`.slice(-2000)));
  process.stdout.resume();
  const describe = (problem: string): BackupError =>
    new BackupError(
      `${file} could not be written at ${session.where}: ${ports.reporter.redact(said.trim()) || problem}`,
      'Is its disk full? Look with `df`.',
    );
  try {
    await pipeline(content, through, process.stdin, { signal: ports.signal }).catch(async (error: unknown) => {
      // A program that gave up says why; what we saw is only that nobody reads any more.
      if (!isPrematureClose(error) || ports.signal.aborted) throw error;
      const code = await exit;
      throw describe(`exit code ${code}`);
    });
    const code = await exit;
    if (code !== 0) throw describe(`exit code ${code}`);
  } finally {
    process.close();
  }
}

function isPrematureClose(error: unknown): boolean {
  return (
    error instanceof Error &&
    'code' in error &&
    ['ERR_STREAM_PREMATURE_CLOSE', 'EPIPE', 'ECONNRESET'].includes(String(error.code))
  );
}
