/** Puts the parts together: starts them in order, and stops them in the opposite one. */
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { createCache } from './cache.ts';
import type { Config } from './config.ts';
import { createDatabase, openMigrationSession } from './database.ts';
import { createHttpServer, type HttpServer } from './http-server.ts';
import type { Log } from './log.ts';
import { createMetrics, type Metrics } from './metrics.ts';
import { migrateDatabase } from './migrations.ts';
import { checkExternalApi, createReadinessCheck } from './readiness.ts';
import { createRoutes } from './routes.ts';
import { loadTelemetry } from './telemetry.ts';
import { startTestSwitches } from './test-switches.ts';

export interface Application {
  /** @returns the exit code: 0, or 1 when requests had to be cut off */
  stop(reason: string): Promise<number>;
}

const closeTimeoutMs = 1000;

/** Resolves when the application listens. Aborting `signal` before that ends the start early. */
export async function startApplication(config: Config, migrationsDir: string, log: Log, signal: AbortSignal): Promise<Application> {
  const { testSwitches } = config;
  if (testSwitches.startDelaySeconds > 0) {
    log('warn', 'test switch: slow start', { seconds: testSwitches.startDelaySeconds });
    await sleep(testSwitches.startDelaySeconds * 1000, undefined, { signal });
  }
  if (config.migrateOnStart) await migrateDatabase(await openMigrationSession(config), migrationsDir, log);
  signal.throwIfAborted();

  const telemetry = await loadTelemetry(config, log);
  const database = createDatabase(config, log, telemetry);
  const cache = createCache(config, log, telemetry);
  let stopping = false;
  const isStopping = () => stopping;

  const { externalApiUrl } = config;
  const checkReadiness = createReadinessCheck(
    {
      postgres: () => database.check(),
      redis: () => cache.check(),
      ...(externalApiUrl === undefined ? {} : { externalApi: (timeout: AbortSignal) => checkExternalApi(externalApiUrl, timeout) }),
    },
    config.healthTimeoutMs,
  );
  const metrics: Metrics = createMetrics({
    releaseId: config.releaseId,
    readPoolUsage: database.readPoolUsage,
    readPendingCommands: cache.readPendingCommands,
    readInFlight: () => http.readInFlight(),
  });
  const routes = createRoutes({ config, database, cache, metrics, isStopping, checkReadiness });
  const http: HttpServer = createHttpServer({ routes, metrics, telemetry, log, isStopping });
  telemetry.observe({ readPoolUsage: database.readPoolUsage, readInFlight: http.readInFlight });

  await new Promise<void>((resolve, reject) => {
    http.server.once('error', reject);
    http.server.listen(config.port, config.host, resolve);
  });
  const { port } = http.server.address() as AddressInfo;
  log('info', 'listening', { host: config.host, port });
  startTestSwitches(testSwitches, log);

  return {
    async stop(reason) {
      stopping = true; // from now on: not ready, and every response closes its connection
      log('info', 'stopping', { reason, inFlight: http.readInFlight() });
      // For routers that only learn from the readiness check that this replica goes.
      if (config.shutdownDelaySeconds > 0) await sleep(config.shutdownDelaySeconds * 1000);
      const allAnswered = await stopServer(http, config.shutdownTimeoutSeconds * 1000);
      if (!allAnswered) log('error', 'requests were cut off', { inFlight: http.readInFlight(), shutdownTimeoutSeconds: config.shutdownTimeoutSeconds });
      if (!allAnswered) http.server.closeAllConnections();
      await Promise.race([Promise.allSettled([database.close(), cache.close(), telemetry.close()]), sleep(closeTimeoutMs, undefined, { ref: false })]);
      log('info', 'stopped', { allAnswered });
      return allAnswered ? 0 : 1;
    },
  };
}

/** Stops accepting, lets requests finish. @returns false when `timeoutMs` passed first */
async function stopServer({ server }: HttpServer, timeoutMs: number): Promise<boolean> {
  const closed = new Promise<true>((resolve) => server.close(() => resolve(true)));
  // close() ends the connections that are idle now; these are the ones that become idle without having been told to close.
  const sweep = setInterval(() => server.closeIdleConnections(), 50);
  const allAnswered = await Promise.race([closed, sleep(timeoutMs, false as const)]);
  clearInterval(sweep);
  return allAnswered;
}
