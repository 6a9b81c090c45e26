/** What the built application sends by OTLP/HTTP, as it reaches a receiver: JSON by https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { after, afterEach, before, beforeEach } from 'node:test';
import { endApplicationProcess, startApplicationProcess, waitUntil, type ApplicationProcess } from './application-process.ts';
import { findFreePort, startPostgres, startRedis, type TestServer } from './servers.ts';

interface Attribute {
  readonly key: string;
  readonly value: { readonly stringValue?: string; readonly intValue?: number; readonly doubleValue?: number };
}

interface Span {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly name: string;
  readonly kind: number;
  readonly startTimeUnixNano: string;
  readonly endTimeUnixNano: string;
  readonly attributes: readonly Attribute[];
  readonly status: { readonly code?: number };
}

interface Metric {
  readonly name: string;
  readonly unit: string;
  readonly histogram?: { readonly dataPoints: readonly { readonly count: number; readonly attributes: readonly Attribute[] }[] };
}

interface Received {
  readonly path: string;
  readonly body: {
    readonly resourceSpans?: readonly { readonly resource: Resource; readonly scopeSpans: readonly { readonly spans: readonly Span[] }[] }[];
    readonly resourceMetrics?: readonly { readonly scopeMetrics: readonly { readonly metrics: readonly Metric[] }[] }[];
  };
}

interface Resource {
  readonly attributes: readonly Attribute[];
}

const SERVER = 2; // SPAN_KIND_SERVER, SPAN_KIND_CLIENT, STATUS_CODE_ERROR of opentelemetry-proto
const CLIENT = 3;
const ERROR = 2;

let postgres: TestServer;
let redis: TestServer;
let application: ApplicationProcess | undefined;
let receiver: Server;
let received: Received[];
let problems: string[];
let answer: (response: ServerResponse) => void;
let coverage: string;

before(async () => {
  [postgres, redis] = await Promise.all([startPostgres(), startRedis()]);
});
beforeEach(async () => {
  received = [];
  problems = [];
  answer = (response) => response.writeHead(200, { 'content-type': 'application/json' }).end('{}');
  coverage = mkdtempSync(join(tmpdir(), 'example-coverage-'));
  receiver = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const { method, url = '', headers } = request;
      if (method !== 'POST' || headers['content-type'] !== 'application/json') problems.push(`${method} ${url} ${headers['content-type']}`);
      received.push({ path: url, body: JSON.parse(Buffer.concat(chunks).toString()) });
      answer(response);
    });
  }).listen(0, '127.0.0.1');
  await once(receiver, 'listening');
});
afterEach(async () => {
  await endApplicationProcess(application);
  receiver.closeAllConnections();
  receiver.close();
  rmSync(coverage, { recursive: true, force: true });
});
after(() => Promise.all([postgres?.remove(), redis?.remove()]));

const start = async (environment: Record<string, string> = {}): Promise<ApplicationProcess> => {
  const { port } = receiver.address() as AddressInfo;
  const started = startApplicationProcess({
    DATABASE_URL: postgres.url, REDIS_URL: redis.url, MIGRATE_ON_START: 'true',
    OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${port}`, NODE_V8_COVERAGE: coverage, ...environment,
  });
  application = started;
  await waitUntil('the application is ready', async () => (await started.get('/health/ready')).status === 200);
  return started;
};

const stop = async (started: ApplicationProcess): Promise<number> => {
  const startedMs = performance.now();
  started.kill('SIGTERM');
  assert.equal(await started.exited, 0);
  return performance.now() - startedMs;
};

const ask = async (started: ApplicationProcess, path: string, headers: Record<string, string> = {}, init: RequestInit = {}) =>
  (await fetch(`${await started.listening}${path}`, { ...init, headers })).text();

const read = (attributes: readonly Attribute[]): Record<string, unknown> =>
  Object.fromEntries(attributes.map(({ key, value }) => [key, value.stringValue ?? value.intValue ?? value.doubleValue]));

const resourceOf = (one: Received | undefined): Record<string, unknown> => read(one?.body.resourceSpans?.[0]?.resource.attributes ?? []);

/** Which of our bundles the process has loaded, as V8 noted at its end. */
const readLoaded = (): string[] => {
  const urls = readdirSync(coverage).flatMap((name) => (JSON.parse(readFileSync(join(coverage, name), 'utf8')) as { result: { url: string }[] }).result.map(({ url }) => url));
  return [...new Set(urls.filter((url) => url.includes('/dist/')).map((url) => url.slice(url.lastIndexOf('/') + 1)))].sort();
};

const listSpans = (): Span[] =>
  received.filter(({ path }) => path === '/v1/traces').flatMap(({ body }) => body.resourceSpans ?? []).flatMap(({ scopeSpans }) => scopeSpans.flatMap(({ spans }) => spans));

test('a request, and what it asks of PostgreSQL and Redis, is one trace that goes on from its caller; the rest is sent at the end', async () => {
  const started = await start({ OTEL_RESOURCE_ATTRIBUTES: 'deployment.environment.name=test,service.version=wrong', TEST_SWITCHES: '' });
  const [traceId, parentId] = ['0af7651916cd43dd8448eb211c80319c', 'b7ad6b7169203331'];
  await ask(started, '/api/notes', { traceparent: `00-${traceId}-${parentId}-01` });
  await ask(started, '/api/notes', {}, { method: 'POST', body: JSON.stringify({ text: 'hunter2' }) });
  await ask(started, '/api/visits?token=hunter2');
  await ask(started, '/api/version', { traceparent: `00-${'1'.repeat(32)}-${parentId}-00` }); // the caller does not want it
  await ask(started, '/health');
  await waitUntil('the line is there', () => started.lines.some((line) => line['traceId'] === traceId));
  assert.ok((await stop(started)) < 3000);
  assert.deepEqual(problems, []);

  const spans = listSpans();
  const tree = spans.map(({ name, kind }) => `${kind === SERVER ? 'server' : kind === CLIENT ? 'client' : kind} ${name}`).sort();
  assert.deepEqual(tree, ['client INCR', 'client INSERT notes', 'client SELECT notes', 'server GET /api/notes', 'server GET /api/visits', 'server POST /api/notes']);
  const find = (name: string) => spans.find((span) => span.name === name) ?? assert.fail(name);
  const outer = find('GET /api/notes');
  assert.deepEqual([outer.traceId, outer.parentSpanId], [traceId, parentId]);
  for (const [call, request] of [['SELECT notes', 'GET /api/notes'], ['INSERT notes', 'POST /api/notes'], ['INCR', 'GET /api/visits']] as const) {
    assert.deepEqual([find(call).traceId, find(call).parentSpanId], [find(request).traceId, find(request).spanId]);
    // Each span has a clock of its own, set by whole milliseconds.
    assert.ok(BigInt(find(call).startTimeUnixNano) >= BigInt(find(request).startTimeUnixNano) - 2_000_000n);
    assert.ok(BigInt(find(call).endTimeUnixNano) <= BigInt(find(request).endTimeUnixNano) + 2_000_000n);
  }
  assert.equal(new Set(spans.map((span) => span.traceId)).size, 3);
  assert.deepEqual(read(outer.attributes), { 'http.request.method': 'GET', 'http.route': '/api/notes', 'url.path': '/api/notes', 'url.scheme': 'http', 'http.response.status_code': 200 });
  const { 'db.query.text': query, ...select } = read(find('SELECT notes').attributes);
  assert.deepEqual(select, { 'db.system.name': 'postgresql', 'db.operation.name': 'SELECT', 'db.collection.name': 'notes' });
  assert.match(String(query), /^SELECT .* FROM notes/);
  assert.doesNotMatch(JSON.stringify(received), /hunter2|pa:ss/, 'no value of a query, and no password');

  const { 'service.instance.id': instance, ...resource } = resourceOf(received.find(({ path }) => path === '/v1/traces'));
  assert.deepEqual(resource, { 'service.name': 'example', 'service.version': 'r1', 'deployment.environment.name': 'test' });
  assert.match(String(instance), /^[\da-f-]{36}$/);

  const metrics = received.filter(({ path }) => path === '/v1/metrics').flatMap(({ body }) => body.resourceMetrics?.[0]?.scopeMetrics[0]?.metrics ?? []);
  const durations = metrics.find(({ name }) => name === 'http.server.request.duration');
  assert.equal(durations?.unit, 's');
  const posted = durations?.histogram?.dataPoints.find(({ attributes }) => read(attributes)['http.request.method'] === 'POST');
  assert.deepEqual([posted?.count, read(posted?.attributes ?? [])], [1, { 'http.request.method': 'POST', 'http.route': '/api/notes', 'http.response.status_code': 201 }]);
  assert.deepEqual(metrics.map(({ name }) => name).sort(), ['db.client.connection.count', 'http.server.active_requests', 'http.server.request.duration']);
  assert.deepEqual(readLoaded(), ['opentelemetry.js', 'server.js']);
});

test('a visitor does not decide how much is traced: of those who say so, too, only the part that is set', async () => {
  const started = await start({ OTEL_METRICS_EXPORTER: 'none', OTEL_TRACES_SAMPLER_ARG: '0.5' });
  const visits = 64;
  for (let visit = 0; visit < visits; visit++) {
    await ask(started, '/api/version', { traceparent: `00-${randomBytes(16).toString('hex')}-${randomBytes(8).toString('hex')}-01` });
  }
  await stop(started);
  const traced = listSpans().length;
  assert.ok(traced > 0 && traced < visits, `${traced} of ${visits}`);
});

test('what fails is marked, by its code and without words', async () => {
  const started = await start({ OTEL_METRICS_EXPORTER: 'none', OTEL_SERVICE_NAME: 'shop' });
  await postgres.stop();
  try {
    await ask(started, '/api/notes');
  } finally {
    await postgres.start();
  }
  await stop(started);
  const spans = listSpans();
  assert.deepEqual(spans.map(({ name, status }) => [name, status.code]).sort(), [['GET /api/notes', ERROR], ['SELECT notes', ERROR]]);
  assert.match(String(read(spans.find(({ kind }) => kind === CLIENT)?.attributes ?? [])['error.type']), /^[A-Z0-9_]+$|Error$/);
  assert.deepEqual([...new Set(received.map(({ path }) => path))], ['/v1/traces']);
  assert.equal(resourceOf(received[0])['service.name'], 'shop');
});

test('without an endpoint nothing is sent, and nothing of it is loaded', async () => {
  const started = await start({ OTEL_EXPORTER_OTLP_ENDPOINT: '' });
  await ask(started, '/api/notes');
  await stop(started);
  assert.deepEqual(received, []);
  assert.deepEqual(readLoaded(), ['server.js']);
  assert.ok(started.lines.every((line) => !('traceId' in line)));
});

test('a collector that is away, or answers nobody, holds up no request and no stop', async () => {
  const away = await start({ OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${await findFreePort()}` });
  await ask(away, '/api/notes');
  assert.ok((await stop(away)) < 2500);
  answer = () => {};
  const silent = await start();
  await ask(silent, '/api/notes');
  assert.ok((await stop(silent)) < 2500);
  assert.ok(received.length > 0, 'it was asked');
});
