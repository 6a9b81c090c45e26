/** The entry point: `node dist/server.js` serves, `node dist/server.js migrate` migrates the database and ends. */
import { join } from 'node:path';
import { startApplication, type Application } from './application.ts';
import { ConfigError, parseConfig } from './config.ts';
import { openMigrationSession } from './database.ts';
import { createLog, describeError } from './log.ts';
import { migrateDatabase } from './migrations.ts';

const migrationsDir = join(__dirname, '..', 'migrations');

async function main(): Promise<void> {
  let log = createLog(process.env['RELEASE_ID'] || 'dev', 'info');
  const die = (message: string, error: unknown) => {
    log('fatal', message, { error: describeError(error) });
    process.exit(1);
  };
  process.on('uncaughtException', (error) => die('uncaught exception', error));
  process.on('unhandledRejection', (error) => die('unhandled rejection', error));

  // Before anything else: a container's first process has no default handler, so SIGTERM would do nothing.
  let application: Application | undefined;
  const start = new AbortController();
  let stopped: Promise<void> | undefined;
  const stop = async (reason: string) => {
    if (application === undefined) {
      log('info', 'stopped before the start was complete', { reason });
      start.abort();
      process.exit(0); // a migration under way is rolled back by PostgreSQL
    }
    process.exit(await application.stop(reason));
  };
  for (const name of ['SIGTERM', 'SIGINT'] as const) {
    process.on(name, () => {
      stopped ??= stop(name);
    });
  }

  try {
    const config = parseConfig(process.env);
    log = createLog(config.releaseId, config.logLevel);
    const command = process.argv[2] ?? 'serve';
    switch (command) {
      case 'serve':
        application = await startApplication(config, migrationsDir, log, start.signal);
        break;
      case 'migrate':
        await migrateDatabase(await openMigrationSession(config), migrationsDir, log);
        process.exit(0);
        break;
      default:
        throw new ConfigError([`the command is "${command}": expected serve or migrate`]);
    }
  } catch (error) {
    if (error instanceof ConfigError) {
      log('fatal', error.message, { problems: error.problems });
      process.exit(1);
    }
    die('the start failed', error);
  }
}

void main();
