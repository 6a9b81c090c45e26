/** Traces and metrics for an OpenTelemetry collector, where one is named. Otherwise nothing of it is even loaded. */
import type { IncomingHttpHeaders } from 'node:http';
import type { Config } from './config.ts';
import type { PoolUsage } from './database.ts';
import type { Log } from './log.ts';

export interface TracedRequest {
  readonly method: string;
  /** From the list of routes, or `unmatched`. */
  readonly route: string;
  readonly path: string;
  /** `traceparent` and `tracestate` are read: https://www.w3.org/TR/trace-context/ */
  readonly headers: IncomingHttpHeaders;
}

export interface RequestSpan {
  /** 32 hexadecimal digits, for log lines; undefined where no traces are sent. */
  readonly traceId: string | undefined;
  /** What is called in it becomes a part of its trace. */
  run<T>(work: () => Promise<T>): Promise<T>;
  end(outcome: { readonly status: number; readonly seconds: number }): void;
}

/** A question to a server, by https://opentelemetry.io/docs/specs/semconv/database/ */
export interface TracedCall {
  readonly system: 'postgresql' | 'redis';
  readonly operation: string;
  /** What is asked for, without values. */
  readonly query?: string;
  readonly collection?: string;
}

export interface Telemetry {
  startRequest(request: TracedRequest): RequestSpan;
  traceCall<T>(call: TracedCall, work: () => Promise<T>): Promise<T>;
  /** What is read whenever metrics are sent. */
  observe(sources: { readonly readPoolUsage: () => PoolUsage; readonly readInFlight: () => number }): void;
  /** Sends what is left. Never rejects; bound it in time. */
  close(): Promise<void>;
}

const noSpan: RequestSpan = { traceId: undefined, run: (work) => work(), end: () => {} };

const noTelemetry: Telemetry = {
  startRequest: () => noSpan,
  traceCall: (_call, work) => work(),
  observe: () => {},
  close: async () => {},
};

export async function loadTelemetry({ telemetry, releaseId }: Config, log: Log): Promise<Telemetry> {
  if (telemetry === undefined) return noTelemetry;
  // A file of its own beside this bundle: who sends nothing does not pay for it.
  const { createTelemetry } = await import('./opentelemetry.js');
  log('info', 'sending telemetry', { endpoint: new URL(telemetry.endpoint).host, traces: telemetry.traces, metrics: telemetry.metrics });
  return createTelemetry(telemetry, releaseId, log);
}
