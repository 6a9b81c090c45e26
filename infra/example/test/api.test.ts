import assert from 'node:assert/strict';
import test, { after, before } from 'node:test';
import { connect } from 'node:net';
import { endApplicationProcess, startApplicationProcess, waitUntil, type ApplicationProcess } from './application-process.ts';
import { startPostgres, startRedis, type TestServer } from './servers.ts';

let postgres: TestServer;
let redis: TestServer;
let application: ApplicationProcess;

before(async () => {
  [postgres, redis] = await Promise.all([startPostgres(), startRedis()]);
  application = startApplicationProcess({ DATABASE_URL: postgres.url, REDIS_URL: redis.url, MIGRATE_ON_START: 'true', DATABASE_POOL_SIZE: '3', PUBLIC_DIR: 'public' });
  await waitUntil('the application is ready', async () => (await application.get('/health/ready')).status === 200);
});

after(async () => {
  await endApplicationProcess(application);
  await Promise.all([postgres?.remove(), redis?.remove()]);
});

const postNote = async (body: string) => {
  const response = await fetch(`${await application.listening}/api/notes`, { method: 'POST', body });
  return { status: response.status, body: (await response.json()) as Record<string, any> };
};

test('notes are stored and listed, newest first', async () => {
  assert.deepEqual((await application.get('/api/notes')).body, { notes: [] });
  const hostile = `'); DROP TABLE notes; -- <script>"`;
  assert.equal((await postNote(JSON.stringify({ text: 'first' }))).status, 201);
  const added = await postNote(JSON.stringify({ text: `  ${hostile} ` }));
  assert.equal(added.body['note'].text, hostile);
  const { notes } = (await application.get('/api/notes')).body;
  assert.deepEqual(notes.map((note: { text: string }) => note.text), [hostile, 'first']);
  assert.ok(!Number.isNaN(Date.parse(notes[0].createdAt)));
});

test('bad requests are refused, and say why', async () => {
  assert.equal((await postNote('{')).status, 400);
  assert.equal((await postNote('null')).status, 400);
  assert.equal((await postNote(JSON.stringify({ text: ' ' }))).status, 400);
  assert.equal((await postNote(JSON.stringify({ text: 'x'.repeat(501) }))).status, 400);
  assert.equal((await postNote(JSON.stringify({ text: 'a\0b' }))).status, 400);
  assert.equal((await postNote(JSON.stringify({ text: '😀'.repeat(500) }))).status, 201);
  assert.equal((await postNote(JSON.stringify({ text: 'x'.repeat(20_000) }))).status, 413);
  assert.equal((await application.get('/api/slow?ms=30001')).status, 400);
  assert.equal((await application.get('/api/nothing')).status, 404);
  assert.equal((await fetch(`${await application.listening}/api/visits`, { method: 'DELETE' })).status, 405);
});

test('a target that is no URL does not end the process', async () => {
  const { hostname, port } = new URL(await application.listening);
  const socket = connect(Number(port), hostname);
  const answer = await new Promise<string>((resolve) => {
    socket.once('data', (data) => resolve(data.toString()));
    socket.write('GET //[ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
  });
  socket.destroy();
  assert.match(answer, /^HTTP\/1.1 404/);
});

test('visits count up; version names the release; slow takes its time', async () => {
  const first = (await application.get('/api/visits')).body['visits'];
  assert.equal((await application.get('/api/visits')).body['visits'], first + 1);
  assert.deepEqual((await application.get('/api/version')).body, { releaseId: 'r1' });
  const startedMs = performance.now();
  assert.equal((await application.get('/api/slow?ms=200')).body['sleptMs'], 200);
  assert.ok(performance.now() - startedMs >= 195);
});

test('the front end is served where PUBLIC_DIR is set', async () => {
  const page = await application.get('/');
  assert.equal(page.status, 200);
  assert.match(page.body['text'], /<!doctype html>/i);
  assert.equal((await application.get('/app.js')).headers.get('content-type'), 'text/javascript; charset=utf-8');
  assert.equal((await application.get('/../package.json')).status, 404);
});

test('metrics: requests, latency, pool, build; labels stay few', async () => {
  for (const path of ['/api/one', '/api/two', '/api/three?x=1']) await application.get(path);
  const { status, body, headers } = await application.get('/metrics');
  assert.equal(status, 200);
  assert.match(headers.get('content-type') ?? '', /^text\/plain/);
  const text: string = body['text'];
  assert.match(text, /^build_info\{release_id="r1",node_version="[\d.]+"\} 1$/m);
  assert.match(text, /^http_requests_total\{method="POST",route="\/api\/notes",status="201"\} \d+$/m);
  assert.match(text, /^http_requests_total\{method="GET",route="unmatched",status="404"\} \d+$/m);
  assert.match(text, /^http_request_duration_seconds_bucket\{le="0.25",method="GET",route="\/api\/slow",status="200"\} 1$/m);
  assert.match(text, /^http_requests_in_flight 1$/m);
  assert.match(text, /^pg_pool_max_connections 3$/m);
  assert.match(text, /^pg_pool_connections\{state="idle"\} [1-3]$/m);
  assert.match(text, /^pg_pool_waiting_requests 0$/m);
  assert.match(text, /^redis_client_pending_commands 0$/m);
  assert.match(text, /^process_resident_memory_bytes /m);
  assert.doesNotMatch(text, /\/api\/(one|two|three)/);
});

test('each request is one structured log line with its id', async () => {
  const { headers } = await application.get('/api/version?secret=1');
  const id = headers.get('x-request-id');
  await waitUntil('the line is there', () => application.lines.some((line) => line['requestId'] === id));
  const line = application.lines.find((candidate) => candidate['requestId'] === id);
  assert.deepEqual([line?.level, line?.['path'], line?.['status'], line?.['releaseId']], ['info', '/api/version', 200, 'r1']);
});
