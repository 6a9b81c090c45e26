/**
 * Requests by the clock: each starts when its time has come, whatever became of those before it. Runs in a process of its
 * own (generator-process.ts): whoever measures in the process that also works measures its own pauses.
 */
import * as http from 'node:http';
import * as https from 'node:https';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import {
  type ConnectionKind,
  type FailureKind,
  type LoadReport,
  LoadTally,
  summarizeLatencies,
} from './load-report.ts';

export interface LoadOptions {
  readonly url: string;
  /** Requests per second of the steady part. Default 200. */
  readonly ratePerSecond?: number;
  /** How many of them go over connections that are kept. Default 0.5. */
  readonly keepAliveShare?: number;
  /** Connections that are kept, used in turn. A busy one does not hold up its next request: another one is opened. Default 10. */
  readonly keepAliveConnections?: number;
  /** Beside the steady part: connections that carry a request every 1 to 8 s and are idle in between, as browsers' are. Default 5. */
  readonly idleConnections?: number;
  /** Of one request, body included. Default 10. */
  readonly timeoutSeconds?: number;
  readonly headers?: Readonly<Record<string, string>>;
  /** Connect there instead; Host, SNI and the certificate's name stay those of the URL. */
  readonly connectTo?: { readonly host: string; readonly port: number };
  /** Certificates in PEM form to trust instead of the usual ones. */
  readonly ca?: string;
  /** Where an answer says which release gave it. A pattern's first group counts, or all of the match. */
  readonly release?: { readonly header: string } | { readonly pattern: string };
  /** Those under way may be this long in ending once the load is stopped. Default: the time limit, and 10 s at most. */
  readonly graceSeconds?: number;
}

export interface Generator {
  stop(): Promise<LoadReport>;
}

const MAX_UNDER_WAY = 2000;
/** Who stood still for longer has not been asked to send it all at once. */
const MAX_LATENESS_MS = 1000;
const MAX_BODY_CHARACTERS = 64 * 1024;
const LOOP_RESOLUTION_MS = 1;
const SHORTEST_IDLE_SECONDS = 1;
const LONGEST_IDLE_SECONDS = 8;

interface Client {
  readonly kind: ConnectionKind;
  readonly agent: http.Agent;
}

/** Starts at once. */
export function generateLoad(options: LoadOptions): Generator {
  const url = new URL(options.url);
  const secure = url.protocol === 'https:';
  const release = compileRelease(options.release);
  const timeoutMs = (options.timeoutSeconds ?? 10) * 1000;
  const intervalMs = 1000 / (options.ratePerSecond ?? 200);
  const keepAliveShare = options.keepAliveShare ?? 0.5;
  const createAgent = (settings: http.AgentOptions): http.Agent =>
    secure ? new https.Agent({ ...settings, ca: options.ca }) : new http.Agent(settings);
  const createClients = (count: number, kind: ConnectionKind): Client[] =>
    // An agent each, so that each has a connection of its own, and none is left unused because another one was free.
    Array.from({ length: count }, () => ({ kind, agent: createAgent({ keepAlive: true, maxFreeSockets: 1 }) }));
  const newcomers: Client = { kind: 'new', agent: createAgent({ keepAlive: false }) };
  const regulars = createClients(options.keepAliveConnections ?? 10, 'keepAlive');
  const browsers = createClients(options.idleConnections ?? 5, 'idle');

  const tally = new LoadTally();
  const latenessesMs: number[] = [];
  const underWay = new Map<http.ClientRequest, Promise<void>>();
  let skipped = 0;
  let stoppedMs: number | undefined;
  let isCut = false;
  const timers = new Set<NodeJS.Timeout>();

  const loop = monitorEventLoopDelay({ resolution: LOOP_RESOLUTION_MS });
  loop.enable();
  const cpu = process.cpuUsage();
  const startedAtMs = Date.now();
  const startMs = performance.now();
  const sinceStart = (): number => performance.now() - startMs;

  const requestOptions: https.RequestOptions = {
    method: 'GET',
    host: options.connectTo?.host ?? url.hostname.replace(/^\[|\]$/g, ''),
    port: options.connectTo?.port ?? (url.port === '' ? (secure ? 443 : 80) : Number(url.port)),
    path: url.pathname + url.search,
    ...(secure ? { servername: /^[\d.]+$|:/.test(url.hostname) ? '' : url.hostname } : {}),
    headers: { host: url.host, 'user-agent': 'slipway-load', ...options.headers },
  };

  const ask = ({ kind, agent }: Client): void => {
    if (underWay.size >= MAX_UNDER_WAY) {
      skipped++;
      return;
    }
    const { promise, resolve } = Promise.withResolvers<undefined>();
    const askedMs = sinceStart();
    const request = (secure ? https : http).request({ ...requestOptions, agent });
    underWay.set(request, promise);
    let isOver = false;
    let status: number | undefined;
    const end = (failure?: { kind: FailureKind; message: string }, seen?: string): void => {
      if (isOver) return;
      isOver = true;
      clearTimeout(limit);
      underWay.delete(request);
      resolve(undefined);
      if (!isCut)
        tally.add({ connection: kind, askedMs, endedMs: sinceStart(), status, failure, release: seen }, stoppedMs);
    };
    const limit = setTimeout(() => {
      end({ kind: 'timeout', message: `no complete answer within ${timeoutMs / 1000} s` });
      request.destroy();
    }, timeoutMs);
    request.once('socket', () => {
      if (!request.reusedSocket) tally.addConnection(kind);
    });
    request.once('error', (error: NodeJS.ErrnoException) => {
      end(classifyError(error, request.reusedSocket, status !== undefined));
    });
    request.once('response', (response) => {
      status = response.statusCode ?? 0;
      let body = '';
      response.setEncoding('utf8');
      response.on('data', (text: string) => {
        if (release.readsBody && body.length < MAX_BODY_CHARACTERS) body += text;
      });
      response.once('error', (error: NodeJS.ErrnoException) => {
        end(classifyError(error, request.reusedSocket, true));
      });
      response.once('end', () => {
        if (status !== undefined && status >= 200 && status <= 399)
          end(undefined, release.read(response.headers, body));
        else end({ kind: 'status', message: `status ${status ?? 0}` });
      });
    });
    request.end();
  };

  /** Of `share` of all requests, evenly spread. */
  let keptCredit = 0;
  let turn = 0;
  const chooseClient = (): Client => {
    keptCredit += keepAliveShare;
    if (keptCredit < 1 - 1e-9) return newcomers;
    keptCredit -= 1;
    return regulars[turn++ % regulars.length] ?? newcomers;
  };

  let next = 0;
  const tick = (): void => {
    for (;;) {
      const dueMs = next * intervalMs;
      const latenessMs = sinceStart() - dueMs;
      if (latenessMs < 0) {
        later(-latenessMs, tick);
        return;
      }
      next++;
      latenessesMs.push(latenessMs);
      if (latenessMs > MAX_LATENESS_MS) skipped++;
      else ask(chooseClient());
    }
  };

  const later = (waitMs: number, body: () => void): void => {
    const timer = setTimeout(() => {
      timers.delete(timer);
      if (stoppedMs === undefined) body();
    }, waitMs);
    timers.add(timer);
  };

  const browse = (browser: Client): void => {
    ask(browser);
    const seconds = SHORTEST_IDLE_SECONDS + Math.random() * (LONGEST_IDLE_SECONDS - SHORTEST_IDLE_SECONDS);
    later(seconds * 1000, () => {
      browse(browser);
    });
  };

  // Not all at the same moment.
  for (const [index, browser] of browsers.entries()) {
    later((index * 1000) / browsers.length, () => {
      browse(browser);
    });
  }
  tick();

  const stop = async (): Promise<LoadReport> => {
    stoppedMs = sinceStart();
    for (const timer of timers) clearTimeout(timer);
    const graceMs = (options.graceSeconds ?? Math.min(10, timeoutMs / 1000)) * 1000;
    let grace: NodeJS.Timeout | undefined;
    await Promise.race([
      Promise.all(underWay.values()),
      new Promise((resolve) => {
        grace = setTimeout(resolve, graceMs);
      }),
    ]);
    clearTimeout(grace);
    const cutOff = underWay.size;
    isCut = true;
    for (const request of underWay.keys()) request.destroy();
    for (const { agent } of [newcomers, ...regulars, ...browsers]) agent.destroy();
    loop.disable();
    const { user, system } = process.cpuUsage(cpu);
    const inMs = (nanoseconds: number): number =>
      // What is measured is the time from one look to the next, so the pause between them is in it.
      Number.isFinite(nanoseconds) ? Math.max(0, nanoseconds / 1e6 - LOOP_RESOLUTION_MS) : 0;
    return tally.report({
      startedAtMs,
      endedMs: stoppedMs,
      cutOff,
      generator: {
        latenessMs: summarizeLatencies(latenessesMs) ?? { p50: 0, p99: 0, max: 0 },
        eventLoopDelayMs: {
          p50: inMs(loop.percentile(50)),
          p99: inMs(loop.percentile(99)),
          max: loop.count === 0 ? 0 : inMs(loop.max),
        },
        skipped,
        cpuShare: (user + system) / 1000 / sinceStart(),
      },
    });
  };
  return { stop };
}

/**
 * Everything once for nothing, with a server of our own: the first requests of a process are its slowest (its code is not yet
 * compiled), and would be taken for the other side's.
 */
export async function warmUp(): Promise<void> {
  const server = http.createServer((_request, response) => response.end('ok'));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  const load = generateLoad({ url: `http://127.0.0.1:${port}/`, ratePerSecond: 1000, release: { pattern: 'ok' } });
  await new Promise((resolve) => setTimeout(resolve, 400));
  await load.stop();
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
}

function classifyError(
  error: NodeJS.ErrnoException,
  isReused: boolean,
  isAnswered: boolean,
): { kind: FailureKind; message: string } {
  const message = error.code === undefined ? error.message : `${error.message} (${error.code})`;
  if (isAnswered) return { kind: 'truncated', message };
  switch (error.code) {
    case 'ECONNREFUSED':
      return { kind: 'refused', message };
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return { kind: 'unresolved', message };
    case 'ENETUNREACH':
    case 'EHOSTUNREACH':
      return { kind: 'unreachable', message };
    case 'ETIMEDOUT':
      return { kind: 'timeout', message };
    case 'ECONNRESET':
    case 'EPIPE':
      return { kind: isReused ? 'reusedSocketReset' : 'reset', message };
    default:
      return { kind: 'other', message };
  }
}

interface ReleaseReader {
  readonly readsBody: boolean;
  read(headers: http.IncomingHttpHeaders, body: string): string | undefined;
}

const NO_RELEASE = '(none)';

function compileRelease(where: LoadOptions['release']): ReleaseReader {
  if (where === undefined) return { readsBody: false, read: () => undefined };
  if ('header' in where) {
    const name = where.header.toLowerCase();
    return { readsBody: false, read: (headers) => headers[name]?.toString() ?? NO_RELEASE };
  }
  const pattern = new RegExp(where.pattern, 'm');
  return {
    readsBody: true,
    read: (_headers, body) => {
      const match = pattern.exec(body);
      return match?.[1] ?? match?.[0] ?? NO_RELEASE;
    },
  };
}
