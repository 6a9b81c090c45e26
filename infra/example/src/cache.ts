/** Redis: the visit counter. The only file that imports the Redis client. */
import { createClient } from '@redis/client';
import type { Config } from './config.ts';
import { describeError, readErrorCode, type Log } from './log.ts';
import type { Telemetry } from './telemetry.ts';

export interface Cache {
  check(): Promise<void>;
  countVisit(): Promise<number>;
  /** How many commands have no answer yet. */
  readPendingCommands(): number;
  close(): Promise<void>;
}

/** Connects in the background and goes on trying: without Redis the application starts, and says that it is not ready. */
export function createCache(config: Config, log: Log, telemetry: Telemetry): Cache {
  const client = createClient({
    url: config.redisUrl,
    ...(config.redisPassword === undefined ? {} : { password: config.redisPassword }),
    disableOfflineQueue: true, // while Redis is away a command fails at once instead of waiting for its return
    // A Redis that no longer answers is noticed by the silence after a ping: the commands under way fail instead of hanging.
    pingInterval: config.healthTimeoutMs,
    socket: {
      connectTimeout: config.healthTimeoutMs,
      socketTimeout: 2 * config.healthTimeoutMs,
      reconnectStrategy: (attempts) => Math.min(50 * 2 ** Math.min(attempts, 6), 2000),
    },
  });

  let lastError: unknown;
  let lastReason: string | undefined;
  client.on('error', (error: unknown) => {
    lastError = error;
    const { name, message } = describeError(error);
    const reason = readErrorCode(error) ?? `${name}: ${message}`;
    if (reason !== lastReason) log('warn', 'Redis is not available; trying on', { error: describeError(error) });
    lastReason = reason;
  });
  client.on('ready', () => {
    if (lastReason !== undefined) log('info', 'Redis is available again');
    lastReason = undefined;
    lastError = undefined;
  });
  client.connect().catch((error: unknown) => {
    lastError = error;
  });

  let pendingCommands = 0;
  const ask = async <T>(command: () => Promise<T>): Promise<T> => {
    pendingCommands += 1;
    try {
      return await command();
    } finally {
      pendingCommands -= 1;
    }
  };

  return {
    async check() {
      if (!client.isReady && lastError !== undefined) throw lastError; // says why, where a command would only say "offline"
      await ask(() => client.ping());
    },
    countVisit: () => telemetry.traceCall({ system: 'redis', operation: 'INCR' }, () => ask(() => client.incr('example:visits'))),
    readPendingCommands: () => pendingCommands,
    async close() {
      if (client.isReady) await client.close();
      else if (client.isOpen) client.destroy();
    },
  };
}
