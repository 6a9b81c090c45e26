/** A small JSON server on node:http: routes, limits, one log line and one observation for each request. */
import { randomUUID } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { describeError, type Log } from './log.ts';
import type { Metrics } from './metrics.ts';
import type { Telemetry } from './telemetry.ts';

export interface Answer {
  readonly status: number;
  /** A string or Buffer is sent as it is, anything else as JSON. */
  readonly body: unknown;
  readonly headers?: Readonly<Record<string, string>>;
}

export interface RouteRequest {
  readonly query: URLSearchParams;
  /** @throws {RequestError} when the body is too large or not JSON */
  readJson(): Promise<unknown>;
}

export type Handler = (request: RouteRequest) => Promise<Answer> | Answer;

/** Keys are a method and a path, such as `GET /api/notes`. */
export type Routes = Readonly<Record<string, Handler>>;

/** An error that the client made and may read. */
export class RequestError extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.name = 'RequestError';
    this.status = status;
  }
}

export interface HttpServer {
  readonly server: Server;
  readInFlight(): number;
}

const maxBodyBytes = 16 * 1024;

export function createHttpServer(parts: { routes: Routes; metrics: Metrics; telemetry: Telemetry; log: Log; isStopping: () => boolean }): HttpServer {
  const { routes, log } = parts;
  const paths = new Set(Object.keys(routes).map((key) => key.slice(key.indexOf(' ') + 1)));
  let inFlight = 0;

  const handleRequest = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const startedMs = performance.now();
    const requestId = readRequestId(request);
    const method = request.method ?? 'GET';
    const { path, query } = splitTarget(request.url ?? '/');
    const route = paths.has(path) ? path : 'unmatched';
    const isProbe = path.startsWith('/health') || path === '/metrics';
    const span = isProbe ? undefined : parts.telemetry.startRequest({ method, route, path, headers: request.headers });
    const ids = { requestId, ...(span?.traceId === undefined ? {} : { traceId: span.traceId }) };
    inFlight += 1;
    response.on('close', () => {
      inFlight -= 1;
      const seconds = (performance.now() - startedMs) / 1000;
      const status = response.writableFinished ? response.statusCode : 499; // as nginx counts clients that went away
      parts.metrics.observeRequest({ method, route, status, seconds });
      span?.end({ status, seconds });
      const level = status >= 500 ? 'warn' : isProbe ? 'debug' : 'info';
      log(level, 'request', { ...ids, method, path, status, ms: Math.round(seconds * 1000) });
    });

    const work = () => answerRequest(request, method, path, query);
    const answer = await (span === undefined ? work() : span.run(work)).catch((error: unknown): Answer => {
      if (error instanceof RequestError) return { status: error.status, body: { error: error.message } };
      log('error', 'the request failed', { ...ids, method, path, error: describeError(error) });
      return { status: 500, body: { error: 'internal error', requestId } };
    });
    // Asked here, not at the start of the request: the order to stop may have come in between.
    sendAnswer(response, method, answer, { 'x-request-id': requestId, ...(parts.isStopping() || !request.complete ? { connection: 'close' } : {}) });
  };

  const answerRequest = async (request: IncomingMessage, method: string, path: string, query: URLSearchParams): Promise<Answer> => {
    const handler = routes[`${method === 'HEAD' ? 'GET' : method} ${path}`];
    if (handler !== undefined) return handler({ query, readJson: () => readJson(request) });
    if (!paths.has(path)) throw new RequestError(404, 'not found');
    throw new RequestError(405, `${method} is not possible here`);
  };

  const server = createServer((request, response) => void handleRequest(request, response));
  // Longer than nginx keeps its connections to us (60 s): the side that sends must be the one that closes.
  server.keepAliveTimeout = 75_000;
  server.headersTimeout = 15_000;
  server.requestTimeout = 60_000;
  return { server, readInFlight: () => inFlight };
}

function sendAnswer(response: ServerResponse, method: string, answer: Answer, headers: Readonly<Record<string, string>>): void {
  const isRaw = typeof answer.body === 'string' || Buffer.isBuffer(answer.body);
  const payload = isRaw ? (answer.body as string | Buffer) : `${JSON.stringify(answer.body)}\n`;
  response.writeHead(answer.status, {
    'content-type': 'application/json; charset=utf-8',
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
    'content-length': Buffer.byteLength(payload),
    ...answer.headers,
    ...headers,
  });
  response.end(method === 'HEAD' ? undefined : payload);
}

async function readJson(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  // Not destroyed when we stop reading half-way: the answer still has to go out over the same socket.
  for await (const chunk of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > maxBodyBytes) throw new RequestError(413, `the body is larger than ${maxBodyBytes} bytes`);
    chunks.push(chunk);
  }
  try {
    return JSON.parse(Buffer.concat(chunks).toString('utf8'));
  } catch {
    throw new RequestError(400, 'the body is not JSON');
  }
}

/** By hand, as `new URL` throws on what a hostile client sends. */
function splitTarget(target: string): { path: string; query: URLSearchParams } {
  const mark = target.indexOf('?');
  return mark === -1
    ? { path: target, query: new URLSearchParams() }
    : { path: target.slice(0, mark), query: new URLSearchParams(target.slice(mark + 1)) };
}

function readRequestId(request: IncomingMessage): string {
  const given = request.headers['x-request-id'];
  return typeof given === 'string' && /^[\w-]{8,64}$/.test(given) ? given : randomUUID();
}
