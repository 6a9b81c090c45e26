/** A project with data of each kind: PostgreSQL, Redis with its append-only file, a volume. */
import { onServer } from './sandbox.ts';

const DB = {
  image: 'postgres:15',
  restart: 'unless-stopped',
  environment: { POSTGRES_PASSWORD: '${PASSWORD:-secret-of-the-database}', POSTGRES_DB: 'app' },
  volumes: ['db:/var/lib/postgresql/data'],
  healthcheck: { test: ['CMD', 'pg_isready', '-q', '-h', '127.0.0.1'], interval: '1s', retries: 60 },
};

const CACHE = {
  image: 'redis:7',
  restart: 'unless-stopped',
  command: ['redis-server', '--appendonly', 'yes'],
  volumes: ['cache:/data'],
};

const FILES = {
  image: 'busybox:1',
  command: ['sleep', 'infinity'],
  restart: 'unless-stopped',
  stop_signal: 'SIGKILL',
  volumes: ['uploads:/uploads'],
};

/** Its services are `db`, `cache` and `files`, its database is `app`. */
export const DATA_PROJECT = JSON.stringify({
  name: 'shop',
  services: { db: DB, cache: CACHE, files: FILES },
  volumes: { db: {}, cache: {}, uploads: {} },
});

/** The database alone, with more services. */
export const databaseProject = (services: Readonly<Record<string, object>> = {}): string =>
  JSON.stringify({ name: 'shop', services: { db: DB, ...services }, volumes: { db: {} } });

/** For a script on the server: the id of a service's container. */
export const containerOf = (service: string): string =>
  `$(docker ps -q --filter label=com.docker.compose.project=shop --filter label=com.docker.compose.service=${service} | head -n 1)`;

/** What psql answers, without the line break at its end. */
export async function query(sql: string, database = 'app'): Promise<string> {
  const script = `printf '%s\n' "$1" | docker exec -i ${containerOf('db')} psql -XAtq -U postgres -d "$2" -v ON_ERROR_STOP=1`;
  return (await onServer(script, [sql, database])).trim();
}
