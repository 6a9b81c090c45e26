import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import test, { after, afterEach, before } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { endApplicationProcess, startApplicationProcess, waitUntil, type ApplicationProcess } from './application-process.ts';
import { startPostgres, startRedis, type TestServer } from './servers.ts';

let postgres: TestServer;
let redis: TestServer;
let application: ApplicationProcess | undefined;

before(async () => {
  [postgres, redis] = await Promise.all([startPostgres(), startRedis()]);
});
afterEach(() => endApplicationProcess(application));
after(() => Promise.all([postgres?.remove(), redis?.remove()]));

const start = (switches: Record<string, string>) => {
  application = startApplicationProcess({ DATABASE_URL: postgres.url, REDIS_URL: redis.url, ...switches });
  return application;
};

test('unhealthy, baked into an image: not healthy, not ready, but alive', async () => {
  const started = start({ TEST_SWITCHES: 'unhealthy' });
  const ready = await started.get('/health/ready');
  assert.deepEqual([ready.status, ready.body['reason']], [503, 'test switch: unhealthy']);
  const health = await started.get('/health');
  assert.deepEqual([health.status, health.body['status']], [503, 'unhealthy']);
  assert.equal((await started.get('/health/live')).status, 200);
  assert.equal((await started.get('/api/version')).status, 200);
});

test('slow start: refuses connections until then', async () => {
  const startedMs = performance.now();
  const started = start({ TEST_START_DELAY_SECONDS: '0.8' });
  await started.listening;
  assert.ok(performance.now() - startedMs >= 800);
  assert.equal((await started.get('/health/live')).status, 200);
});

test('crash: answers, then ends with 1', async () => {
  const started = start({ TEST_CRASH_AFTER_SECONDS: '0.5' });
  assert.equal((await started.get('/health/live')).status, 200);
  assert.equal(await started.exited, 1);
  assert.equal(started.lines.at(-1)?.message, 'test switch: crash');
});

test('request delay: the API only', async () => {
  const started = start({ TEST_REQUEST_DELAY_MS: '400' });
  await started.listening;
  const measureMs = async (path: string) => {
    const startedMs = performance.now();
    assert.equal((await started.get(path)).status, 200);
    return performance.now() - startedMs;
  };
  assert.ok((await measureMs('/health/live')) < 300);
  assert.ok((await measureMs('/api/version')) >= 395);
});

test('error rate: about that part of the API requests, no health request', async () => {
  const started = start({ TEST_ERROR_RATE: '0.5' });
  await started.listening;
  const statuses = await Promise.all(Array.from({ length: 200 }, async () => (await started.get('/api/version')).status));
  const errors = statuses.filter((status) => status === 500).length;
  assert.ok(errors > 50 && errors < 150, `${errors} of 200`);
  for (let i = 0; i < 10; i += 1) assert.equal((await started.get('/health')).status, 200);
});

test('memory: really resident', async () => {
  const started = start({ TEST_MEMORY_MB: '150' });
  await waitUntil('it is allocated', () => started.lines.some((line) => line.message === 'test switch: memory allocated'));
  await sleep(50);
  const residentKilobytes = Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${started.pid}/status`, 'utf8'))?.[1]);
  assert.ok(residentKilobytes > 150 * 1024, `${residentKilobytes} kB`);
});
