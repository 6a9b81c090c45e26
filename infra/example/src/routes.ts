/** Every address that the application answers. */
import { readFileSync, readdirSync } from 'node:fs';
import { extname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Cache } from './cache.ts';
import type { Config } from './config.ts';
import type { Database } from './database.ts';
import { RequestError, type Answer, type Handler, type Routes } from './http-server.ts';
import type { Metrics } from './metrics.ts';
import type { CheckResult } from './readiness.ts';

export interface RouteParts {
  readonly config: Config;
  readonly database: Database;
  readonly cache: Cache;
  readonly metrics: Metrics;
  readonly isStopping: () => boolean;
  readonly checkReadiness: () => Promise<Record<string, CheckResult>>;
}

const maxSlowMs = 30_000;
const maxNoteLength = 500; // as the database has it

export function createRoutes(parts: RouteParts): Routes {
  const { config, database, cache, metrics } = parts;
  const { releaseId, testSwitches } = config;

  const withTestSwitches =
    (handler: Handler): Handler =>
    async (request) => {
      if (testSwitches.requestDelayMs > 0) await sleep(testSwitches.requestDelayMs);
      if (Math.random() < testSwitches.errorRate) return { status: 500, body: { error: 'test switch: error rate' } };
      return handler(request);
    };

  /** Why this process should get no traffic, whatever its dependencies say. */
  const readOwnProblem = (): string | undefined => {
    if (parts.isStopping()) return 'stopping';
    return testSwitches.unhealthy ? 'test switch: unhealthy' : undefined;
  };

  return {
    'GET /health/live': () => ({ status: 200, body: { status: 'alive', releaseId } }),

    // About this process alone: quick, asks nobody.
    'GET /health': () => {
      const reason = readOwnProblem();
      return reason === undefined
        ? { status: 200, body: { status: 'healthy', releaseId } }
        : { status: 503, body: { status: 'unhealthy', releaseId, reason } };
    },

    'GET /health/ready': async () => {
      const reason = readOwnProblem();
      if (reason !== undefined) return { status: 503, body: { status: 'not ready', releaseId, reason } };
      const checks = await parts.checkReadiness();
      const failed = Object.keys(checks).filter((name) => checks[name]?.status === 'failed');
      return failed.length === 0
        ? { status: 200, body: { status: 'ready', releaseId, checks } }
        : { status: 503, body: { status: 'not ready', releaseId, failed, checks } };
    },

    'GET /metrics': async () => ({ status: 200, body: await metrics.render(), headers: { 'content-type': metrics.contentType } }),

    'GET /api/version': withTestSwitches(() => ({ status: 200, body: { releaseId } })),

    'GET /api/notes': withTestSwitches(async () => ({ status: 200, body: { notes: await database.listNotes() } })),

    'POST /api/notes': withTestSwitches(async (request) => {
      const text = parseNoteText(await request.readJson());
      return { status: 201, body: { note: await database.addNote(text) } };
    }),

    'GET /api/visits': withTestSwitches(async () => ({ status: 200, body: { visits: await cache.countVisit() } })),

    'GET /api/slow': withTestSwitches(async ({ query }) => {
      const ms = Number(query.get('ms') ?? '2000');
      if (!Number.isInteger(ms) || ms < 0 || ms > maxSlowMs) throw new RequestError(400, `ms: expected a whole number from 0 to ${maxSlowMs}`);
      await sleep(ms);
      return { status: 200, body: { sleptMs: ms, releaseId } };
    }),

    ...(config.publicDir === undefined ? {} : createFileRoutes(config.publicDir)),
  };
}

function parseNoteText(body: unknown): string {
  const text: unknown = typeof body === 'object' && body !== null && 'text' in body ? body.text : undefined;
  const trimmed = typeof text === 'string' ? text.trim() : '';
  // PostgreSQL counts code points, and refuses NUL.
  if (trimmed === '' || [...trimmed].length > maxNoteLength || trimmed.includes('\0')) {
    throw new RequestError(400, `text: expected 1 to ${maxNoteLength} characters`);
  }
  return trimmed;
}

const contentTypes: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.svg': 'image/svg+xml',
};

/** The front end for development without nginx. Read once at start, so no request ever names a file on disk. */
function createFileRoutes(dir: string): Routes {
  const routes: Record<string, Handler> = {};
  for (const name of readdirSync(dir)) {
    const contentType = contentTypes[extname(name)];
    if (contentType === undefined) continue;
    const answer: Answer = { status: 200, body: readFileSync(join(dir, name)), headers: { 'content-type': contentType } };
    routes[`GET /${name === 'index.html' ? '' : name}`] = () => answer;
  }
  return routes;
}
