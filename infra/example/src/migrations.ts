/**
 * Schema migrations: every `migrations/NNN_name.sql` once, in the order of its name, each in a transaction of its own.
 * An advisory lock makes two that run at once safe: the second waits, then finds nothing left to do.
 */
import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Log } from './log.ts';

export interface MigrationSession {
  query(sql: string, values?: readonly unknown[]): Promise<Record<string, unknown>[]>;
  close(): Promise<void>;
}

interface Migration {
  readonly name: string;
  readonly sql: string;
  readonly checksum: string;
}

const lockKey = 7_214_509_331; // any number that no other program on this database uses
const lockTimeoutSeconds = 120;

/** Applies what is missing and closes the session. @returns the names of the migrations applied now */
export async function migrateDatabase(session: MigrationSession, migrationsDir: string, log: Log): Promise<string[]> {
  try {
    const migrations = await readMigrations(migrationsDir);
    await session.query(`SET lock_timeout = '${lockTimeoutSeconds}s'`);
    await session.query('SELECT pg_advisory_lock($1)', [lockKey]); // freed with the session, however that ends
    await session.query(`CREATE TABLE IF NOT EXISTS schema_migrations (
      name text PRIMARY KEY, checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())`);
    const rows = await session.query('SELECT name, checksum FROM schema_migrations');
    const applied = new Map(rows.map((row) => [String(row['name']), String(row['checksum'])]));

    const missing = planMigrations(migrations, applied);
    const unknown = [...applied.keys()].filter((name) => !migrations.some((migration) => migration.name === name));
    if (unknown.length > 0) {
      // After a rollback this is as it should be: schema changes suit the release before them too.
      log('warn', 'the schema is ahead of this release', { migrations: unknown });
    }
    for (const migration of missing) await applyMigration(session, migration, log);
    log('info', 'the schema is up to date', { applied: missing.length, known: migrations.length });
    return missing.map((migration) => migration.name);
  } finally {
    await session.close();
  }
}

/** Pure. @throws when a file was changed after it had been applied */
export function planMigrations(migrations: readonly Migration[], applied: ReadonlyMap<string, string>): Migration[] {
  const changed = migrations.filter(({ name, checksum }) => applied.has(name) && applied.get(name) !== checksum);
  if (changed.length > 0) {
    const names = changed.map((migration) => migration.name).join(', ');
    throw new Error(`${names} changed after having been applied to this database. Undo the change and add a new migration file instead.`);
  }
  return migrations.filter(({ name }) => !applied.has(name));
}

async function readMigrations(dir: string): Promise<Migration[]> {
  const names = (await readdir(dir)).filter((name) => name.endsWith('.sql')).sort();
  const misnamed = names.filter((name) => !/^\d{3}_[a-z0-9_]+\.sql$/.test(name));
  if (misnamed.length > 0) throw new Error(`${misnamed.join(', ')} in ${dir}: expected names such as 003_add_author.sql`);
  return Promise.all(
    names.map(async (name) => {
      const sql = await readFile(join(dir, name), 'utf8');
      return { name, sql, checksum: createHash('sha256').update(sql).digest('hex') };
    }),
  );
}

async function applyMigration(session: MigrationSession, migration: Migration, log: Log): Promise<void> {
  const startedMs = performance.now();
  await session.query('BEGIN');
  try {
    await session.query(migration.sql);
    await session.query('INSERT INTO schema_migrations (name, checksum) VALUES ($1, $2)', [migration.name, migration.checksum]);
    await session.query('COMMIT');
  } catch (error) {
    await session.query('ROLLBACK').catch(() => {});
    throw new Error(`${migration.name} failed and was rolled back: ${error instanceof Error ? error.message : 'unknown error'}`, { cause: error });
  }
  log('info', 'migration applied', { migration: migration.name, ms: Math.round(performance.now() - startedMs) });
}
