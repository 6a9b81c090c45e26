import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer as createHttpServer } from 'node:http';
import { createServer, type AddressInfo, type Server } from 'node:net';
import { join } from 'node:path';
import test, { after, before } from 'node:test';
import { dist, endApplicationProcess, startApplicationProcess, waitUntil, type ApplicationProcess } from './application-process.ts';
import { password, startPostgres, startRedis, type TestServer } from './servers.ts';

let postgres: TestServer;
let redis: TestServer;
let application: ApplicationProcess;
let externalStatus = 200;
const externalApi = createHttpServer((_request, response) => response.writeHead(externalStatus).end('{}'));
const blackHole = createServer(() => {}); // accepts, and never says a word

const listen = async (server: Server) => {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
};

before(async () => {
  [postgres, redis] = await Promise.all([startPostgres(), startRedis()]);
  application = startApplicationProcess({
    DATABASE_URL: postgres.url,
    REDIS_URL: redis.url,
    EXTERNAL_API_URL: `http://127.0.0.1:${await listen(externalApi)}/status?token=topsecret`,
  });
  await waitUntil('the application is ready', async () => (await application.get('/health/ready')).status === 200);
});

after(async () => {
  externalApi.close();
  await endApplicationProcess(application);
  await Promise.all([postgres?.remove(), redis?.remove()]);
});

test('all is well: the three endpoints, each with the release', async () => {
  const live = await application.get('/health/live');
  assert.deepEqual([live.status, live.body], [200, { status: 'alive', releaseId: 'r1' }]);
  const health = await application.get('/health');
  assert.deepEqual([health.status, health.body], [200, { status: 'healthy', releaseId: 'r1' }]);
  const ready = await application.get('/health/ready');
  assert.equal(ready.status, 200);
  assert.equal(ready.body['status'], 'ready');
  assert.equal(ready.body['releaseId'], 'r1');
  assert.deepEqual(Object.keys(ready.body['checks']), ['postgres', 'redis', 'externalApi']);
  for (const check of Object.values<any>(ready.body['checks'])) {
    assert.equal(check.status, 'ok');
    assert.ok(check.ms >= 0);
  }
  assert.equal(ready.headers.get('cache-control'), 'no-store');
});

const assertOnlyFailed = async (name: string, reason: RegExp) => {
  await waitUntil(`${name} fails`, async () => (await application.get('/health/ready')).status === 503);
  const { body } = await application.get('/health/ready');
  assert.equal(body['status'], 'not ready');
  assert.deepEqual(body['failed'], [name]);
  assert.equal(body['checks'][name].status, 'failed');
  assert.match(body['checks'][name].reason, reason);
  assert.equal((await application.get('/health')).status, 200, 'the process itself is well');
  assert.equal((await application.get('/health/live')).status, 200);
};
const assertReadyAgain = () => waitUntil('it is ready again', async () => (await application.get('/health/ready')).status === 200);

test('PostgreSQL down: 503 names it; ready again once it is back', async () => {
  await postgres.stop();
  await assertOnlyFailed('postgres', /^ECONNREFUSED$/);
  await postgres.start();
  await assertReadyAgain();
});

test('Redis down: 503 names it; ready again once it is back', async () => {
  await redis.stop();
  await assertOnlyFailed('redis', /^ECONNREFUSED$|Closed/);
  await redis.start();
  await assertReadyAgain();
});

test('Redis frozen: 503 by time-out, requests fail instead of hanging; ready again once it thaws', async () => {
  const quick = startApplicationProcess({ DATABASE_URL: postgres.url, REDIS_URL: redis.url, HEALTH_TIMEOUT_MS: '300' });
  try {
    await waitUntil('it is ready', async () => (await quick.get('/health/ready')).status === 200);
    redis.freeze();
    const startedMs = performance.now();
    const [ready, visits] = await Promise.all([quick.get('/health/ready'), quick.get('/api/visits')]);
    assert.deepEqual([ready.status, ready.body['failed'], ready.body['checks'].redis.reason], [503, ['redis'], 'timeout']);
    assert.equal(visits.status, 500);
    assert.ok(performance.now() - startedMs < 3000);
    redis.thaw();
    await waitUntil('it is ready again', async () => (await quick.get('/health/ready')).status === 200);
    assert.equal((await quick.get('/api/visits')).status, 200);
  } finally {
    redis.thaw();
    await endApplicationProcess(quick);
  }
});

test('external API failing: 503 names it', async () => {
  externalStatus = 500;
  await assertOnlyFailed('externalApi', /^HTTP 500$/);
  externalStatus = 200;
  await assertReadyAgain();
});

test('neither passwords nor tokens in logs or answers', async () => {
  const { body } = await application.get('/health/ready');
  for (const text of [application.output(), JSON.stringify(body)]) {
    assert.ok(!text.includes(password) && !text.includes(JSON.stringify(password).slice(1, -1)) && !text.includes('topsecret'));
  }
});

test('dependencies that accept and never answer: 503 within the time-out, each named; the application starts nevertheless', async () => {
  const port = await listen(blackHole);
  const hung = startApplicationProcess({
    DATABASE_URL: `postgres://app@127.0.0.1:${port}/app`, REDIS_URL: `redis://127.0.0.1:${port}`, EXTERNAL_API_URL: `http://127.0.0.1:${port}/`, HEALTH_TIMEOUT_MS: '300',
  });
  try {
    await hung.listening;
    const startedMs = performance.now();
    const answers = await Promise.all([hung.get('/health/ready'), hung.get('/health/ready')]);
    const tookMs = performance.now() - startedMs;
    for (const { status, body } of answers) {
      assert.equal(status, 503);
      assert.deepEqual(body['failed'], ['postgres', 'redis', 'externalApi']);
    }
    assert.ok(tookMs < 1200, `in parallel: ${Math.round(tookMs)} ms`);
  } finally {
    await endApplicationProcess(hung);
    blackHole.close();
  }
});

test('wrong passwords: not ready, and nothing leaks', async () => {
  const wrong = startApplicationProcess({ DATABASE_URL: postgres.url, REDIS_URL: redis.url, DATABASE_PASSWORD: 'wrong-hunter2', REDIS_PASSWORD: 'wrong-hunter2' });
  try {
    const { status, body } = await wrong.get('/health/ready');
    assert.equal(status, 503);
    assert.deepEqual(body['failed'], ['postgres', 'redis']);
    assert.equal(body['checks'].postgres.reason, '28P01');
    assert.doesNotMatch(JSON.stringify(body) + wrong.output(), /hunter2/);
  } finally {
    await endApplicationProcess(wrong);
  }
});

test('healthcheck.js: exit code and output for Docker', async () => {
  const port = new URL(await application.listening).port;
  const run = async (...args: string[]) => {
    const child = spawn(process.execPath, [join(dist, 'healthcheck.js'), ...args], { env: { PORT: port } });
    let output = '';
    child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
    const [code] = await once(child, 'close');
    return { code: code as number, output };
  };
  const ready = await run();
  assert.equal(ready.code, 0);
  assert.match(ready.output, /^200 .*"ready"/);
  externalStatus = 500;
  const failing = await run();
  assert.equal(failing.code, 1);
  assert.match(failing.output, /^503 .*externalApi/);
  externalStatus = 200;
  assert.equal((await run('/health/live')).code, 0);
});
