/** PostgreSQL: the connection pool and the queries. The only file that imports pg. */
import { Client, Pool, type ClientConfig } from 'pg';
import type { Config } from './config.ts';
import { describeError, type Log } from './log.ts';
import type { MigrationSession } from './migrations.ts';
import type { Telemetry } from './telemetry.ts';

export interface Note {
  readonly id: string;
  readonly text: string;
  readonly createdAt: string;
}

export interface PoolUsage {
  readonly max: number;
  readonly total: number;
  readonly idle: number;
  readonly waiting: number;
}

export interface Database {
  check(): Promise<void>;
  listNotes(): Promise<Note[]>;
  addNote(text: string): Promise<Note>;
  readPoolUsage(): PoolUsage;
  close(): Promise<void>;
}

const noteColumns = 'id::text AS id, text, created_at AS "createdAt"';
const onNotes = { system: 'postgresql', collection: 'notes' } as const;
const statementTimeoutMs = 10_000;

export function createDatabase(config: Config, log: Log, telemetry: Telemetry): Database {
  const pool = new Pool({
    ...readConnection(config),
    max: config.databasePoolSize, // during a deploy the old and the new replicas hold a pool each: mind max_connections
    idleTimeoutMillis: 30_000,
    connectionTimeoutMillis: config.healthTimeoutMs,
    statement_timeout: statementTimeoutMs, // the server ends the statement,
    query_timeout: statementTimeoutMs + 1000, // or, if it no longer answers, we give up on the connection
  });
  // Without a listener, an idle connection that the server closes would end the process.
  pool.on('error', (error) => log('warn', 'an idle PostgreSQL connection failed', { error: describeError(error) }));

  return {
    async check() {
      // pg reads query_timeout from a query too, and drops the connection when it passes; its types do not know yet.
      const query = { text: 'SELECT 1', query_timeout: config.healthTimeoutMs };
      await pool.query(query);
    },
    async listNotes() {
      const query = `SELECT ${noteColumns} FROM notes ORDER BY created_at DESC, id DESC LIMIT 50`;
      const { rows } = await telemetry.traceCall({ ...onNotes, operation: 'SELECT', query }, () => pool.query<Note>(query));
      return rows;
    },
    async addNote(text) {
      const query = `INSERT INTO notes (text) VALUES ($1) RETURNING ${noteColumns}`;
      const { rows } = await telemetry.traceCall({ ...onNotes, operation: 'INSERT', query }, () => pool.query<Note>(query, [text]));
      const [note] = rows;
      if (note === undefined) throw new Error('PostgreSQL returned no row for the new note');
      return note;
    },
    readPoolUsage: () => ({ max: config.databasePoolSize, total: pool.totalCount, idle: pool.idleCount, waiting: pool.waitingCount }),
    close: () => pool.end(),
  };
}

/** One connection of its own: a session lock must not go back into a pool. */
export async function openMigrationSession(config: Config): Promise<MigrationSession> {
  const client = new Client({ ...readConnection(config), connectionTimeoutMillis: 10_000 });
  client.on('error', () => {}); // the query under way rejects with the same error
  await client.connect();
  return {
    async query(sql, values) {
      const { rows } = await (values === undefined ? client.query(sql) : client.query(sql, [...values]));
      return rows as Record<string, unknown>[];
    },
    close: () => client.end(),
  };
}

function readConnection(config: Config): ClientConfig {
  return {
    connectionString: addPassword(config.databaseUrl, config.databasePassword),
    application_name: `example ${config.releaseId}`.slice(0, 63),
    keepAlive: true,
  };
}

/** DATABASE_PASSWORD is given apart from the URL so that it needs no URL encoding; pg wants it in the URL. One that is there wins. */
function addPassword(databaseUrl: string, password: string | undefined): string {
  const url = new URL(databaseUrl);
  if (url.password === '' && password !== undefined) url.password = encodeURIComponent(password);
  return url.href;
}
