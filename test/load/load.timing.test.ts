import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type RequestListener, Server } from 'node:http';
import { type AddressInfo, createServer as createTcpServer, type Server as TcpServer } from 'node:net';
import { text } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { jest } from '@jest/globals';
import { findNode24 } from '../e2e/harness/node-binary.ts';
import { type LoadOptions, type LoadReport, runLoad } from './index.ts';

// Loads last for seconds; on a busy machine their processes start slowly besides.
jest.setTimeout(30_000);

const closers: (() => unknown)[] = [];

afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

async function listen(server: TcpServer, port = 0): Promise<number> {
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  closers.push(() => {
    if (server instanceof Server) server.closeAllConnections();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

const serve = (listener: RequestListener, port = 0): Promise<number> => listen(createServer(listener), port);

const answer: RequestListener = (_request, response) => {
  response.end('ok');
};

async function loadFor(seconds: number, port: number, options: Partial<LoadOptions> = {}): Promise<LoadReport> {
  const load = await runLoad({ url: `http://127.0.0.1:${port}/`, ...options });
  await delay(seconds * 1000);
  return load.stop();
}

test('counts: what the server saw, half over kept connections, by the clock', async () => {
  let requests = 0;
  let connections = 0;
  const agents = new Set<string | undefined>();
  const server = createServer((request, response) => {
    requests++;
    agents.add(`${request.headers.host ?? ''} ${String(request.headers['x-test'])}`);
    response.end('ok');
  });
  server.on('connection', () => connections++);
  const port = await listen(server);
  const report = await loadFor(2, port, { headers: { 'x-test': 'a b;c' } });
  expect(agents).toEqual(new Set([`127.0.0.1:${port} a b;c`]));
  expect(report).toMatchObject({ requests, failed: 0, failures: [], statuses: { 200: requests }, cutOff: 0 });
  const { byConnection, generator, seconds } = report;
  expect(seconds).toBeGreaterThan(1.9);
  const steady = byConnection.new.requests + byConnection.keepAlive.requests;
  expect(steady / seconds).toBeGreaterThan(195);
  expect(steady / seconds).toBeLessThan(205);
  expect(Math.abs(byConnection.new.requests - byConnection.keepAlive.requests)).toBeLessThanOrEqual(1);
  expect(byConnection.new.connectionsOpened).toBe(byConnection.new.requests);
  // Ten in use, and another one each time that a slow answer kept one busy.
  expect(byConnection.keepAlive.connectionsOpened).toBeGreaterThanOrEqual(10);
  expect(byConnection.keepAlive.connectionsOpened).toBeLessThan(40);
  expect(byConnection.idle.requests).toBeGreaterThanOrEqual(5);
  expect(byConnection.idle.connectionsOpened).toBe(5);
  expect(connections).toBe(
    byConnection.new.connectionsOpened + byConnection.keepAlive.connectionsOpened + byConnection.idle.connectionsOpened,
  );
  expect(report.longestGapSeconds).toBeLessThan(0.2);
  expect(report.timeline.reduce((sum, bucket) => sum + bucket.requests, 0)).toBe(requests);
  expect(generator.skipped).toBe(0);
  expect(generator.latenessMs.p50).toBeLessThan(5);
});

test('a busy test does not disturb the measurement, and the report tells one from the other', async () => {
  const port = await serve(answer);
  const load = await runLoad({ url: `http://127.0.0.1:${port}/` });
  await delay(500);
  // This process is the server as well: for half a second nobody answers, while the generator goes on.
  const untilMs = performance.now() + 500;
  const blockedAt = load.elapsedSeconds();
  while (performance.now() < untilMs);
  await delay(500);
  const report = await load.stop();
  expect(report.failed).toBe(0);
  expect(report.longestGapSeconds).toBeGreaterThan(0.45);
  const [slowest] = report.slowest;
  expect(slowest?.latencyMs).toBeGreaterThan(450);
  expect(Math.abs((slowest?.askedSeconds ?? 0) - blockedAt)).toBeLessThan(0.1);
  expect(report.generator.latenessMs.p99).toBeLessThan(50);
  expect(report.generator.latenessMs.max).toBeLessThan(250);
  const during = report.timeline.filter(({ atSeconds }) => atSeconds > blockedAt + 0.1 && atSeconds < blockedAt + 0.3);
  for (const { requests } of during) expect(requests).toBeGreaterThanOrEqual(15);
});

test('a server that is away for 300 ms', async () => {
  const first = createServer(answer);
  const port = await listen(first);
  const load = await runLoad({ url: `http://127.0.0.1:${port}/` });
  await delay(500);
  const away = load.elapsedSeconds();
  first.close();
  first.closeAllConnections();
  await delay(300);
  await serve(answer, port);
  const back = load.elapsedSeconds();
  await delay(500);
  const report = await load.stop();
  expect(report.longestGapSeconds).toBeGreaterThan(back - away - 0.03);
  expect(report.longestGapSeconds).toBeLessThan(back - away + 0.1);
  expect(report.failed).toBeGreaterThan(40);
  expect(report.failed).toBeLessThan(100);
  expect(report.failuresByKind.refused).toBeGreaterThan(40);
  for (const failure of report.failures) {
    expect(failure.askedSeconds).toBeGreaterThan(away - 0.05);
    expect(failure.endedSeconds).toBeLessThan(back + 0.05);
  }
});

test('a server that resets: before an answer, on a used connection, within an answer', async () => {
  // By hand: each connection answers once. The second request on it is met by a reset.
  const impatient = createTcpServer((socket) => {
    let requests = 0;
    socket.on('error', () => undefined);
    socket.on('data', () => {
      if (++requests > 1) socket.resetAndDestroy();
      else socket.write('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok');
    });
  });
  const used = await loadFor(1, await listen(impatient));
  expect(used.byConnection.new.failed).toBe(0);
  expect(Object.keys(used.failuresByKind)).toEqual(['reusedSocketReset']);
  // One is opened, the next one fails, and so on: no silent second try.
  const { failed, requests } = used.byConnection.keepAlive;
  expect(failed / requests).toBeGreaterThan(0.35);
  expect(failed / requests).toBeLessThanOrEqual(0.5);
  expect(used.failures[0]).toMatchObject({ kind: 'reusedSocketReset', connection: 'keepAlive' });
  expect(used.failures[0]).not.toHaveProperty('status');

  const rude = createTcpServer((socket) => {
    socket.on('error', () => undefined);
    socket.once('data', () => socket.resetAndDestroy());
  });
  const reset = await loadFor(0.5, await listen(rude));
  expect(reset.failed).toBe(reset.requests);
  expect(reset.failuresByKind).toEqual({ reset: reset.requests });
  expect(reset.latencyMs).toBeUndefined();
  expect(reset.longestGapSeconds).toBe(reset.seconds);

  const broken = await serve((_request, response) => {
    response.writeHead(200, { 'content-length': '100' });
    response.write('half', () => response.destroy());
  });
  const truncated = await loadFor(0.5, broken);
  expect(truncated.failed).toBe(truncated.requests);
  expect(truncated.failuresByKind).toEqual({ truncated: truncated.requests });
  expect(truncated.failures[0]).toMatchObject({ kind: 'truncated', status: 200 });
});

test('slow answers do not slow the load; they are waited for at the end, or time out', async () => {
  let requests = 0;
  const port = await serve((_request, response) => {
    requests++;
    setTimeout(() => response.end('ok'), 2000);
  });
  const load = await runLoad({ url: `http://127.0.0.1:${port}/` });
  await delay(1000);
  const seen = requests;
  // Nothing has been answered, and all the same as many were asked as ever.
  expect(seen).toBeGreaterThan(150);
  const report = await load.stop();
  expect(report).toMatchObject({ requests, failed: 0, cutOff: 0 });
  expect(report.latencyMs?.p50).toBeGreaterThan(1990);
  expect(report.longestGapSeconds).toBe(report.seconds);

  const late = await loadFor(1, port, { timeoutSeconds: 0.5 });
  expect(late.failed).toBe(late.requests);
  expect(late.failuresByKind).toEqual({ timeout: late.requests });
  for (const { askedSeconds, endedSeconds } of late.failures) expect(endedSeconds - askedSeconds).toBeGreaterThan(0.49);

  const cut = await loadFor(0.5, port, { graceSeconds: 0 });
  expect(cut).toMatchObject({ requests: 0, failed: 0 });
  expect(cut.cutOff).toBeGreaterThan(80);
}, 15_000);

test('statuses: 2xx and 3xx are good, all else is failed', async () => {
  const statuses = [200, 204, 302, 404, 500];
  let turn = 0;
  const port = await serve((_request, response) => {
    response.statusCode = statuses[turn++ % statuses.length] ?? 0;
    response.end();
  });
  const report = await loadFor(1, port);
  expect(Object.keys(report.statuses)).toEqual(statuses.map(String));
  expect(report.failed).toBe((report.statuses['404'] ?? 0) + (report.statuses['500'] ?? 0));
  expect(report.failuresByKind).toEqual({ status: report.failed });
  expect(report.failures.some((failure) => failure.message === 'status 500' && failure.status === 500)).toBe(true);
});

test('which release answered, and until when', async () => {
  let release = 'v1';
  const port = await serve((_request, response) => {
    response.setHeader('X-Release-Id', release);
    response.end(`{"release": "${release}"}`);
  });
  const load = await runLoad({ url: `http://127.0.0.1:${port}/`, release: { header: 'X-Release-ID' } });
  await delay(400);
  const switchedAt = load.elapsedSeconds();
  release = 'v2';
  await delay(400);
  const { releases } = await load.stop();
  expect(releases.map(({ value }) => value)).toEqual(['v1', 'v2']);
  const [old, fresh] = releases;
  expect(old?.lastAskedSeconds).toBeLessThan(switchedAt + 0.02);
  expect(Math.abs((fresh?.firstSeenSeconds ?? 0) - switchedAt)).toBeLessThan(0.1);
  const inBody = await loadFor(0.3, port, { release: { pattern: '"release": "(\\w+)"' } });
  expect(inBody.releases).toMatchObject([{ value: 'v2', requests: inBody.requests }]);
  const silent = await loadFor(0.3, await serve(answer), { release: { header: 'x-release-id' } });
  expect(silent.releases).toMatchObject([{ value: '(none)', requests: silent.requests }]);
});

test('another address than the URL says', async () => {
  const hosts = new Set<string | undefined>();
  const port = await serve((request, response) => {
    hosts.add(request.headers.host);
    response.end();
  });
  const load = await runLoad({ url: 'http://app.example/x?y=1', connectTo: { host: '127.0.0.1', port } });
  await delay(300);
  expect((await load.stop()).failed).toBe(0);
  expect(hosts).toEqual(new Set(['app.example']));
});

test('what cannot start says why', async () => {
  await expect(runLoad({ url: 'ftp://127.0.0.1/' })).rejects.toThrow('not an http or https URL');
  await expect(runLoad({ url: 'http://127.0.0.1/', release: { pattern: '(' } })).rejects.toThrow(
    'Invalid regular expression',
  );
});

describe('scripts/load.mjs', () => {
  async function run(...args: string[]): Promise<{ code: number | null; stdout: string; stderr: string }> {
    const script = fileURLToPath(new URL('../../scripts/load.mjs', import.meta.url));
    const env = { ...process.env };
    delete env['NODE_OPTIONS'];
    const child = spawn(findNode24(), [script, ...args], { env });
    const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')]);
    return { code: child.exitCode, stdout, stderr };
  }

  test('a table, and the exit code says whether something failed', async () => {
    const port = await serve((request, response) => {
      response.statusCode = request.headers['x-fail'] === 'yes: it does' ? 500 : 200;
      response.end();
    });
    const url = `http://127.0.0.1:${port}/`;
    const good = await run(url, '--rate', '50', '--seconds', '1', '--release-header', 'server');
    expect(good).toMatchObject({ code: 0, stderr: '' });
    expect(good.stdout).toMatch(/^all +5\d +0 /m);
    expect(good.stdout).toMatch(/^\(none\) +5\d /m);
    const bad = await run(url, '--seconds', '0.5', '--keep-alive', '0', '--header', 'X-Fail: yes: it does', '--json');
    expect(bad.code).toBe(1);
    const report = JSON.parse(bad.stdout) as LoadReport;
    expect(report.failed).toBe(report.requests);
    expect(report.byConnection.keepAlive.requests).toBe(0);
  });

  test.each([
    [[], 'give one URL'],
    [['example.com'], 'is not an http or https URL'],
    [['http://127.0.0.1/', '--rate', 'fast'], '--rate fast is not a number'],
    [['http://127.0.0.1/', '--seconds', ''], 'is not a number'],
    [['http://127.0.0.1/', '--header', 'x'], "is not of the form 'name: value'"],
    [['http://127.0.0.1/', '--release-pattern', '('], 'Invalid regular expression'],
    [['http://127.0.0.1/', '--fast'], "Unknown option '--fast'"],
  ])('%j is refused', async (args, message) => {
    const { code, stdout, stderr } = await run(...args);
    expect(stderr).toContain(message);
    expect(stderr).toContain('usage: load.mjs URL');
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
  });
});
