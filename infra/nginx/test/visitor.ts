/** Visitors of a test's machine, through its doors. Certificates are not verified: they are placeholders. */
import { once } from 'node:events';
import { request as requestHttp, type IncomingHttpHeaders, type IncomingMessage } from 'node:http';
import { connect as connectHttp2 } from 'node:http2';
import { request as requestHttps } from 'node:https';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { connect as connectTls, type ConnectionOptions, type TLSSocket } from 'node:tls';
import type { Machine } from './machine.ts';

/** Where the doors are is all that a visitor knows. */
type Doors = Pick<Machine, 'folder'>;

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** Name and value as they came, to see what came twice. */
  readonly rawHeaders: readonly string[];
  readonly body: string;
}

export interface Question {
  /** Default: 443. */
  readonly port?: 80 | 443 | 8081;
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
}

const door = (machine: Doors, port: number): string => join(machine.folder, `${port}.sock`);

export async function ask(machine: Doors, host: string, path: string, question: Question = {}): Promise<Answer> {
  const { port = 443, method = 'GET', headers = {}, body } = question;
  const request = (port === 443 ? requestHttps : requestHttp)({
    socketPath: door(machine, port),
    path,
    method,
    agent: false,
    headers: { host, ...headers },
    ...(port === 443 ? { servername: host, rejectUnauthorized: false } : {}),
  });
  request.end(body);
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  const text = (await buffer(response)).toString('latin1');
  return { status: response.statusCode ?? 0, headers: response.headers, rawHeaders: response.rawHeaders, body: text };
}

/** What comes back for exactly these bytes, until the connection is closed. */
export async function askRaw(machine: Doors, port: number, text: string, servername?: string): Promise<string> {
  const socket: Socket =
    servername === undefined
      ? connect(door(machine, port))
      : connectTls({ path: door(machine, port), servername, rejectUnauthorized: false });
  socket.on('error', () => undefined);
  socket.write(text);
  let said = '';
  for await (const part of socket) said += (part as Buffer).toString('latin1');
  return said;
}

/** Many requests at once over one connection of HTTP/2, so of one visitor. @returns their statuses and headers */
export async function askAtOnce(
  machine: Doors,
  host: string,
  paths: readonly string[],
): Promise<{ readonly status: number; readonly headers: Readonly<Record<string, unknown>> }[]> {
  return await visit(machine, host, async (askMany) => await askMany(paths));
}

type AskMany = (
  paths: readonly string[],
) => Promise<{ readonly status: number; readonly headers: Readonly<Record<string, unknown>> }[]>;

/** One visitor, who stays as long as `stay` takes. */
export async function visit<T>(machine: Doors, host: string, stay: (askMany: AskMany) => Promise<T>): Promise<T> {
  const session = connectHttp2(`https://${host}`, {
    createConnection: () =>
      connectTls({ path: door(machine, 443), servername: host, rejectUnauthorized: false, ALPNProtocols: ['h2'] }),
  });
  try {
    return await stay(
      async (paths) =>
        await Promise.all(
          paths.map(async (path) => {
            const stream = session.request({ ':path': path, ':method': 'GET' });
            const [headers] = (await once(stream, 'response')) as [Record<string, unknown>];
            stream.resume();
            await once(stream, 'end');
            return { status: Number(headers[':status']), headers };
          }),
        ),
    );
  } finally {
    session.close();
  }
}

/** @returns undefined where the handshake is refused */
export async function shakeHands(
  machine: Doors,
  options: ConnectionOptions,
): Promise<
  | {
      readonly protocol: string | null;
      readonly cipher: string;
      readonly reused: boolean;
      readonly session: Buffer | undefined;
    }
  | undefined
> {
  let socket: TLSSocket;
  try {
    socket = connectTls({ path: door(machine, 443), rejectUnauthorized: false, ...options });
  } catch {
    // This client does not know what it is asked to offer.
    return undefined;
  }
  let session: Buffer | undefined;
  socket.on('session', (given) => (session = given));
  const over = new Promise<boolean>((resolve) => {
    socket.once('secureConnect', () => {
      resolve(true);
    });
    socket.once('error', () => {
      resolve(false);
    });
    socket.once('close', () => {
      resolve(false);
    });
  });
  if (!(await over)) return undefined;
  const seen = {
    protocol: socket.getProtocol(),
    cipher: socket.getCipher().standardName,
    reused: socket.isSessionReused(),
  };
  // The session comes with what the server says first.
  socket.write(`GET /health HTTP/1.1\r\nHost: ${options.servername ?? ''}\r\nConnection: close\r\n\r\n`);
  socket.resume();
  await once(socket, 'close');
  return { ...seen, session };
}
