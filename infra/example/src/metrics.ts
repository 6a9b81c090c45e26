/** What Prometheus reads at /metrics. The only file that imports prom-client. */
import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from 'prom-client';
import type { PoolUsage } from './database.ts';

export interface Metrics {
  readonly contentType: string;
  /** `route` must come from the list of routes, never from the URL: each value is a series of its own. */
  observeRequest(request: { method: string; route: string; status: number; seconds: number }): void;
  render(): Promise<string>;
}

const knownMethods = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']);

export interface MetricSources {
  readonly releaseId: string;
  readonly readPoolUsage: () => PoolUsage;
  readonly readPendingCommands: () => number;
  readonly readInFlight: () => number;
}

export function createMetrics(sources: MetricSources): Metrics {
  const registry = new Registry();
  const registers = [registry];
  collectDefaultMetrics({ register: registry });

  const requests = new Counter({
    name: 'http_requests_total',
    help: 'HTTP requests answered',
    labelNames: ['method', 'route', 'status'] as const,
    registers,
  });
  const durations = new Histogram({
    name: 'http_request_duration_seconds',
    help: 'Time from the request to the end of its response',
    labelNames: ['method', 'route', 'status'] as const,
    buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
    registers,
  });
  new Gauge({
    name: 'http_requests_in_flight',
    help: 'HTTP requests being answered now',
    registers,
    collect() {
      this.set(sources.readInFlight());
    },
  });
  new Gauge({
    name: 'pg_pool_connections',
    help: 'PostgreSQL connections of this replica',
    labelNames: ['state'] as const,
    registers,
    collect() {
      const { total, idle } = sources.readPoolUsage();
      this.set({ state: 'idle' }, idle);
      this.set({ state: 'active' }, total - idle);
    },
  });
  new Gauge({
    name: 'pg_pool_max_connections',
    help: 'The most PostgreSQL connections that this replica opens',
    registers,
    collect() {
      this.set(sources.readPoolUsage().max);
    },
  });
  new Gauge({
    name: 'pg_pool_waiting_requests',
    help: 'Queries that wait for a free connection',
    registers,
    collect() {
      this.set(sources.readPoolUsage().waiting);
    },
  });
  new Gauge({
    name: 'redis_client_pending_commands',
    help: 'Redis commands that have no answer yet',
    registers,
    collect() {
      this.set(sources.readPendingCommands());
    },
  });
  new Gauge({ name: 'build_info', help: 'Which release answers; always 1', labelNames: ['release_id', 'node_version'] as const, registers }).set(
    { release_id: sources.releaseId, node_version: process.versions.node },
    1,
  );

  return {
    contentType: registry.contentType,
    observeRequest({ method, route, status, seconds }) {
      const labels = { method: knownMethods.has(method) ? method : 'OTHER', route, status: String(status) };
      requests.inc(labels);
      durations.observe(labels, seconds);
    },
    render: () => registry.metrics(),
  };
}
