import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { after, before, beforeEach } from 'node:test';
import { parseConfig } from '../src/config.ts';
import { openMigrationSession } from '../src/database.ts';
import { migrateDatabase } from '../src/migrations.ts';
import { startApplicationProcess } from './application-process.ts';
import { password, startPostgres } from './servers.ts';

let postgres: Awaited<ReturnType<typeof startPostgres>>;
let dir: string;
const names = ['001_create_notes.sql', '002_index_notes_by_time.sql'];

before(async () => {
  postgres = await startPostgres();
});
beforeEach(async () => {
  await queryRows('DROP TABLE IF EXISTS notes, extra, schema_migrations');
  if (dir) rmSync(dir, { recursive: true });
  dir = mkdtempSync(join(tmpdir(), 'example-migrations-'));
  cpSync('migrations', dir, { recursive: true });
});
after(async () => {
  await postgres?.remove();
  rmSync(dir, { recursive: true, force: true });
});

const queryRows = async (sql: string) => {
  const client = await postgres.connect();
  try {
    return (await client.query(sql)).rows as Record<string, unknown>[];
  } finally {
    await client.end();
  }
};
const listTables = async () => (await queryRows(`SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1`)).map((row) => row['tablename']);

const migrate = async (log = (_level: string, _message: string, _fields?: unknown) => {}) => {
  const config = parseConfig({ DATABASE_URL: postgres.url, DATABASE_PASSWORD: password, REDIS_URL: 'redis://unused' });
  return migrateDatabase(await openMigrationSession(config), dir, log);
};

test('once each, however often it runs', async () => {
  assert.deepEqual(await migrate(), names);
  assert.deepEqual(await migrate(), []);
  assert.deepEqual(await listTables(), ['notes', 'schema_migrations']);
});

test('eight at once: one applies, all succeed', async () => {
  const results = await Promise.all(Array.from({ length: 8 }, () => migrate()));
  assert.deepEqual(results.flat().sort(), names);
  assert.equal((await queryRows('SELECT * FROM schema_migrations')).length, names.length);
});

test('a failing migration leaves nothing of itself; what came before it stays', async () => {
  writeFileSync(join(dir, '003_broken.sql'), 'CREATE TABLE extra (id int); SELECT no_such_function();');
  await assert.rejects(migrate(), /003_broken\.sql failed and was rolled back: .*no_such_function/);
  assert.deepEqual(await listTables(), ['notes', 'schema_migrations']);
  writeFileSync(join(dir, '003_broken.sql'), 'CREATE TABLE extra (id int);');
  assert.deepEqual(await migrate(), ['003_broken.sql']);
});

test('a file changed after it was applied is refused', async () => {
  await migrate();
  writeFileSync(join(dir, names[1] ?? ''), 'SELECT 1;');
  await assert.rejects(migrate(), /002_index_notes_by_time\.sql changed after having been applied/);
});

test('after a rollback the schema may be ahead: a warning, not a failure', async () => {
  writeFileSync(join(dir, '003_extra.sql'), 'CREATE TABLE extra (id int);');
  await migrate();
  rmSync(join(dir, '003_extra.sql'));
  const warnings: unknown[] = [];
  assert.deepEqual(await migrate((level, message) => level === 'warn' && warnings.push(message)), []);
  assert.deepEqual(warnings, ['the schema is ahead of this release']);
});

test('`server.js migrate` exits 0, and 1 with a clear line when the database is away', async () => {
  const done = startApplicationProcess({ DATABASE_URL: postgres.url, REDIS_URL: 'redis://unused' }, ['migrate']);
  assert.equal(await done.exited, 0);
  assert.ok(done.lines.some((line) => line.message === 'the schema is up to date' && line['applied'] === 2));
  const failed = startApplicationProcess({ DATABASE_URL: 'postgres://app@127.0.0.1:1/app', REDIS_URL: 'redis://unused' }, ['migrate']);
  assert.equal(await failed.exited, 1);
  assert.match(failed.output(), /ECONNREFUSED/);
});
