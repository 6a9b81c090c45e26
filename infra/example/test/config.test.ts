import assert from 'node:assert/strict';
import test from 'node:test';
import { ConfigError, parseConfig } from '../src/config.ts';
import { startApplicationProcess } from './application-process.ts';

const required = { DATABASE_URL: 'postgres://app@db/app', REDIS_URL: 'redis://cache' };

test('defaults', () => {
  const config = parseConfig({ ...required, RELEASE_ID: '', EXTERNAL_API_URL: '', TEST_UNHEALTHY: '', TEST_CRASH_AFTER_SECONDS: '' });
  assert.equal(config.releaseId, 'dev');
  assert.equal(config.port, 3000);
  assert.equal(config.shutdownTimeoutSeconds, 10);
  assert.equal(config.healthTimeoutMs, 2000);
  assert.equal(config.externalApiUrl, undefined);
  assert.equal(config.telemetry, undefined);
  assert.deepEqual(config.testSwitches, {
    unhealthy: false, startDelaySeconds: 0, crashAfterSeconds: undefined, requestDelayMs: 0, errorRate: 0, memoryMegabytes: 0,
  });
});

test('all problems at once, and no value that may be secret', () => {
  const parse = () =>
    parseConfig({
      DATABASE_URL: 'mysql://app:hunter2@db/app', PORT: '99999', MIGRATE_ON_START: 'yes', LOG_LEVEL: 'loud',
      EXTERNAL_API_URL: 'no url hunter2', TEST_ERROR_RATE: '1.5', DATABASE_POOL_SIZE: '2.5', TEST_SWITCHES: 'explode,memory,constructor=1',
      OTEL_EXPORTER_OTLP_ENDPOINT: 'grpc://hunter2', OTEL_METRICS_EXPORTER: 'prometheus', OTEL_TRACES_SAMPLER_ARG: '2',
    });
  assert.throws(parse, (error: unknown) => {
    assert.ok(error instanceof ConfigError);
    const names = ['DATABASE_URL', 'REDIS_URL', 'PORT', 'MIGRATE_ON_START', 'LOG_LEVEL', 'EXTERNAL_API_URL', 'TEST_ERROR_RATE', 'DATABASE_POOL_SIZE', 'OTEL_EXPORTER_OTLP_ENDPOINT', 'OTEL_METRICS_EXPORTER', 'OTEL_TRACES_SAMPLER_ARG', '"explode"', '"memory"', '"constructor"'];
    for (const name of names) assert.match(error.message, new RegExp(name));
    assert.equal(error.problems.length, names.length);
    assert.doesNotMatch(error.message, /hunter2/);
    return true;
  });
});

test('telemetry is that of OpenTelemetry, and on where there is somebody to send it to', () => {
  const endpoint = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://alloy:4318' };
  assert.deepEqual(parseConfig({ ...required, ...endpoint }).telemetry, {
    endpoint: 'http://alloy:4318', serviceName: 'example', traces: true, metrics: true, traceRatio: 1,
  });
  const settings = parseConfig({ ...required, ...endpoint, OTEL_METRICS_EXPORTER: 'none', OTEL_TRACES_SAMPLER_ARG: '0.1' }).telemetry;
  assert.deepEqual([settings?.metrics, settings?.traceRatio], [false, 0.1]);
});

test('TEST_SWITCHES stands for the single variables, which win', () => {
  const switches = 'unhealthy, crash-after=5,start-delay=1.5,request-delay=20,error-rate=0.5,memory=64';
  assert.deepEqual(parseConfig({ ...required, TEST_SWITCHES: switches }).testSwitches, {
    unhealthy: true, startDelaySeconds: 1.5, crashAfterSeconds: 5, requestDelayMs: 20, errorRate: 0.5, memoryMegabytes: 64,
  });
  assert.equal(parseConfig({ ...required, TEST_SWITCHES: 'unhealthy', TEST_UNHEALTHY: 'false' }).testSwitches.unhealthy, false);
});

test('the program reports a bad configuration in one log line and exits 1', async () => {
  const application = startApplicationProcess({ DATABASE_URL: 'x', PORT: 'y' });
  assert.equal(await application.exited, 1);
  assert.equal(application.lines.length, 1);
  assert.equal(application.lines[0]?.level, 'fatal');
  assert.equal((application.lines[0]?.['problems'] as string[]).length, 3);
});
