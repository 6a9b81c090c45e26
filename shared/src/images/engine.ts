/**
 * The Docker Engine API over `docker system dial-stdio`, the way the Docker CLI itself takes over SSH: it goes by the
 * server's own Docker context, and what is sent there is in no argv and in no file.
 */
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { Duplex } from 'node:stream';
import { StringDecoder } from 'node:string_decoder';
import { CancelledError, ConnectError, ImageError, SlipwayError, TimeoutError } from '../errors';
import { Secret } from '../model/secret';
import type { ServerProcess, Session } from '../ports';
import { excerpt } from '../shell/excerpt';

export interface EngineRequest {
  readonly method: 'GET' | 'POST';
  /** With the query, encoded. */
  readonly path: string;
  readonly headers?: Readonly<Record<string, string | Secret>>;
  /** Sent as JSON. */
  readonly body?: Secret;
  /** Each line of an answer with status 200, as it comes; the answer's `body` stays empty then. */
  readonly onLine?: (line: string) => void;
  readonly signal?: AbortSignal | undefined;
  readonly timeoutSeconds: number;
  /** In the infinitive, for messages: "pull web". */
  readonly purpose: string;
}

export interface EngineAnswer {
  readonly status: number;
  readonly body: string;
}

/** The daemon went away in the middle: it may be back soon. */
export class EngineHungUp extends ImageError {}

const MAX_BODY = 1024 * 1024;
const MAX_LINE = 1024 * 1024;
const MAX_STDERR = 4096;

/**
 * One request to the Engine API.
 *
 * @throws ImageError if the daemon cannot be talked to, EngineHungUp if it goes before the end, TimeoutError, CancelledError, ConnectError.
 */
export async function askEngine(session: Session, asked: EngineRequest): Promise<EngineAnswer> {
  const timeout = AbortSignal.timeout(Math.max(1, Math.round(asked.timeoutSeconds * 1000)));
  const signal = asked.signal === undefined ? timeout : AbortSignal.any([asked.signal, timeout]);
  if (isCancelled(asked)) throw cancelled(asked);
  const process = await session.start({ words: ['docker', 'system', 'dial-stdio'] });
  const said = collect(process);
  try {
    return await exchange(process, asked, signal);
  } catch (error) {
    if (error instanceof SlipwayError) throw error;
    if (isCancelled(asked)) throw cancelled(asked, error);
    if (timeout.aborted) {
      throw new TimeoutError(
        `Could not ${asked.purpose} on ${session.where} within ${Math.ceil(asked.timeoutSeconds)} s.`,
        'Is the registry slow, or the server overloaded? What was downloaded so far is kept by Docker for the next try.',
        { cause: error },
      );
    }
    throw await explainEnd(process, session, asked, said, error);
  } finally {
    process.close();
  }
}

function isCancelled({ signal }: EngineRequest): boolean {
  return signal?.aborted === true;
}

function cancelled(asked: EngineRequest, cause?: unknown): CancelledError {
  return new CancelledError(`The workflow was cancelled while it was to ${asked.purpose}.`, '', { cause });
}

async function exchange(process: ServerProcess, asked: EngineRequest, signal: AbortSignal): Promise<EngineAnswer> {
  const line = new ProcessLine(process);
  try {
    const response = await send(line, asked, signal);
    const status = response.statusCode ?? 0;
    if (asked.onLine === undefined || status !== 200) return { status, body: await readAll(response) };
    await readLines(response, asked.onLine);
    return { status, body: '' };
  } finally {
    line.destroy();
  }
}

/** A process's input and output as one connection. Destroyed, it is gone at once, whether or not the process follows. */
class ProcessLine extends Duplex {
  readonly #process: ServerProcess;
  #isEnded = false;

  constructor(process: ServerProcess) {
    super();
    this.#process = process;
    const { stdin, stdout } = process;
    // Nobody may be listening when the connection goes.
    this.on('error', () => undefined);
    stdin.on('error', () => undefined);
    stdout.on('error', (error) => this.destroy(error));
    stdout.on('data', (chunk: Buffer) => {
      if (!this.push(chunk)) stdout.pause();
    });
    stdout.once('end', () => {
      this.#end();
    });
    // Without an end: killed, or the connection went.
    stdout.once('close', () => {
      this.#end();
    });
  }

  #end(): void {
    if (!this.#isEnded) this.push(null);
    this.#isEnded = true;
  }

  override _read(): void {
    this.#process.stdout.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#process.stdin.write(chunk, done);
  }

  override _final(done: () => void): void {
    this.#process.stdin.end();
    done();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#process.close();
    done(error);
  }
}

async function send(line: Duplex, asked: EngineRequest, signal: AbortSignal): Promise<IncomingMessage> {
  const body = asked.body === undefined ? undefined : Buffer.from(asked.body.reveal());
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  const request = httpRequest({
    createConnection: () => line,
    method: asked.method,
    path: asked.path,
    signal,
    headers: {
      host: 'docker',
      'user-agent': 'slipway',
      connection: 'close',
      'content-length': body?.length ?? 0,
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      ...Object.fromEntries(
        Object.entries(asked.headers ?? {}).map(([name, value]) => [
          name,
          value instanceof Secret ? value.reveal() : value,
        ]),
      ),
    },
  });
  request.on('response', resolve);
  request.on('error', reject);
  request.end(body);
  return promise;
}

async function readAll(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > MAX_BODY) break;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}

async function readLines(response: IncomingMessage, onLine: (line: string) => void): Promise<void> {
  const decoder = new StringDecoder('utf8');
  let rest = '';
  for await (const chunk of response as AsyncIterable<Buffer>) {
    const lines = (rest + decoder.write(chunk)).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) if (line.trim() !== '') onLine(line);
    if (rest.length > MAX_LINE) throw new Error('a line without an end');
  }
  rest += decoder.end();
  if (rest.trim() !== '') onLine(rest);
}

/** The end of what the process says on stderr, and how it ended. */
interface Said {
  stderr: string;
  exit: 'running' | 'exited' | ConnectError;
}

function collect(process: ServerProcess): Said {
  const said: Said = { stderr: '', exit: 'running' };
  process.stderr.on('data', (chunk: Buffer | string) => {
    said.stderr = (said.stderr + chunk.toString()).slice(-MAX_STDERR);
  });
  process.stderr.on('error', () => undefined);
  process.exit.then(
    () => {
      said.exit = 'exited';
    },
    (error: unknown) => {
      if (error instanceof ConnectError) said.exit = error;
    },
  );
  return said;
}

/** The daemon hung up, or was never there: whoever knows more than "connection reset" says it. */
async function explainEnd(
  process: ServerProcess,
  session: Session,
  asked: EngineRequest,
  said: Said,
  cause: unknown,
): Promise<Error> {
  // What the process had to say may be under way still.
  await Promise.race([
    process.exit.catch(() => undefined),
    new Promise((resolve) => setTimeout(resolve, 2000).unref()),
  ]);
  if (said.exit instanceof ConnectError) return said.exit;
  const stderr = excerpt(said.stderr, 300);
  if (stderr !== '') {
    return new ImageError(
      `Could not ${asked.purpose} on ${session.where}: ${stderr}`,
      'Log in to the server as the same user: `docker info` must show a Server section without errors.',
      { cause },
    );
  }
  return new EngineHungUp(
    `Docker on ${session.where} hung up before it was done: could not ${asked.purpose} (${cause instanceof Error ? excerpt(cause.message, 120) : 'no reason given'}).`,
    'Was the Docker daemon restarted? `journalctl -u docker` on the server says more.',
    { cause },
  );
}
