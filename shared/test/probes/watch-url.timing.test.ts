import { once } from 'node:events';
import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { systemClock } from '../../src/adapters/clock';
import { createHttp } from '../../src/adapters/http-client';
import { connectSsh } from '../../src/adapters/ssh-session';
import type { Session } from '../../src/ports';
import { parseWatchUrl, type UrlWatch, type WatchRequest, watchUrl } from '../../src/probes/watch-url';
import { startSshServer } from '../ssh-server';

const ports = { http: createHttp(), clock: systemClock };
const closers: (() => unknown)[] = [];

afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

async function listen(listener: RequestListener, port = 0): Promise<{ server: Server; port: number }> {
  const server = createServer(listener).listen(port, '127.0.0.1');
  await once(server, 'listening');
  closers.push(() => server.close());
  return { server, port: (server.address() as AddressInfo).port };
}

async function stopServer(server: Server): Promise<void> {
  server.close();
  server.closeAllConnections();
  await once(server, 'close');
}

function watch(text: string, more: Partial<WatchRequest> = {}, session?: Session, signal?: AbortSignal): UrlWatch {
  const parsed = parseWatchUrl(text);
  if ('problem' in parsed) throw new Error(parsed.problem);
  const started = watchUrl({ ...parsed.value, ...more }, { ...ports, session }, signal);
  closers.push(() => started.stop());
  return started;
}

const answer: RequestListener = (_request, response) => {
  response.end('ok');
};

test('a server that is away for 300 ms: failures, and the gap that visitors saw', async () => {
  const connections = new Set<unknown>();
  const count: RequestListener = (request, response) => {
    connections.add(request.socket);
    answer(request, response);
  };
  const { server, port } = await listen(count);
  const watching = watch(`http://127.0.0.1:${port}/`);
  await watching.ready;
  await delay(500);
  const before = watching.begin();
  expect(before).toMatchObject({ failures: 0, cutOff: 0 });
  expect(before.requests).toBeGreaterThanOrEqual(4);
  await stopServer(server);
  const awayMs = performance.now();
  await delay(300);
  await listen(count, port);
  const backMs = performance.now();
  await delay(500);
  const stats = await watching.stop();
  expect(stats.failures).toBeGreaterThanOrEqual(2);
  expect(stats.failures).toBeLessThanOrEqual(4);
  expect(stats.firstFailures[0]?.reason).toBe(`127.0.0.1:${port} refused the connection: nothing listens there`);
  const away = (backMs - awayMs) / 1000;
  expect(stats.longestGapSeconds).toBeGreaterThan(away);
  // One interval before, one after, and what a machine with other work may add.
  expect(stats.longestGapSeconds).toBeLessThan(away + 0.35);
  // A connection for each request: as new visitors come.
  expect(connections.size).toBe(before.requests + stats.requests - stats.failures);
});

test('an answer that breaks off half-way is a failure, and slow ones do not slow the rate', async () => {
  const { port } = await listen((_request, response) => {
    response.writeHead(200, { 'content-length': '100' });
    response.write('half');
    setTimeout(() => response.destroy(), 400);
  });
  const watching = watch(`http://127.0.0.1:${port}/`);
  await delay(1050);
  expect(watching.stats().underWay).toBeGreaterThanOrEqual(3);
  const stats = await watching.stop();
  expect(stats.requests).toBeGreaterThanOrEqual(8);
  expect(stats.failures).toBe(stats.requests);
  expect(stats.firstFailures[0]?.reason).toBe(`127.0.0.1:${port} closed the connection before the answer was complete`);
});

test('a time limit ends a request that gets no answer; those under way at the end are neither good nor bad', async () => {
  const { server, port } = await listen(() => undefined);
  closers.push(() => {
    server.closeAllConnections();
  });
  const watching = watch(`http://127.0.0.1:${port}/`, { timeoutSeconds: 0.3 });
  const patient = watch(`http://127.0.0.1:${port}/`);
  await delay(750);
  expect(watching.stats().firstFailures[0]?.reason).toBe(`no complete answer from 127.0.0.1:${port} within 0.3 s`);
  const startedMs = performance.now();
  const stats = await patient.stop();
  expect(performance.now() - startedMs).toBeGreaterThan(900);
  expect(performance.now() - startedMs).toBeLessThan(1500);
  expect(stats).toMatchObject({ requests: 0, failures: 0, underWay: 0 });
  expect(stats.cutOff).toBeGreaterThanOrEqual(6);
});

test('from the server: through the SSH connection, and what is lost with it is not blamed on the URL', async () => {
  const { server, port } = await listen(answer);
  const ssh = await startSshServer();
  closers.push(() => ssh.close());
  const session = await connectSsh(ssh.host(), { timeoutSeconds: 10 }, (text) => text);
  closers.push(() => session.close());
  // Only the server knows this port.
  const watching = watch(`ssh+http://127.0.0.1:${port}/`, {}, session);
  await watching.ready;
  await delay(400);
  expect(watching.begin()).toMatchObject({ failures: 0, cutOff: 0, statuses: { 200: expect.any(Number) as number } });
  await stopServer(server);
  await delay(250);
  const away = watching.stats();
  expect(away.failures).toBeGreaterThanOrEqual(1);
  expect(away.firstFailures[0]?.reason).toContain(`127.0.0.1:${port}`);
  const { server: silent } = await listen(() => undefined, port);
  closers.push(() => {
    silent.closeAllConnections();
  });
  await delay(250);
  const failures = watching.stats().failures;
  ssh.reset();
  await delay(300);
  const stats = await watching.stop();
  expect(stats.failures).toBe(failures);
  expect(stats.cutOff).toBeGreaterThanOrEqual(4);
});

test('a cancelled workflow ends it at once, and leaves nothing behind', async () => {
  const { server, port } = await listen(() => undefined);
  const cancelled = new AbortController();
  const watching = watch(`http://127.0.0.1:${port}/`, {}, undefined, cancelled.signal);
  await delay(350);
  cancelled.abort();
  const startedMs = performance.now();
  expect(await watching.stop()).toMatchObject({ requests: 0, failures: 0, underWay: 0 });
  expect(performance.now() - startedMs).toBeLessThan(200);
  await delay(100);
  const { promise, resolve } = Promise.withResolvers<number>();
  server.getConnections((_error, count) => {
    resolve(count);
  });
  expect(await promise).toBe(0);
});
