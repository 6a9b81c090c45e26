/**
 * Telemetry by OTLP over HTTP (https://opentelemetry.io/docs/specs/otlp/). The only file that imports OpenTelemetry, and a bundle of its own.
 * Spans are made by hand, in the few places that call others: the ready-made instrumentation hooks into `require`, and a bundle has none.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import { randomUUID } from 'node:crypto';
import {
  diag,
  DiagLogLevel,
  ROOT_CONTEXT,
  SpanKind,
  SpanStatusCode,
  trace,
  type Context,
  type Span,
  type TextMapGetter,
} from '@opentelemetry/api';
import { W3CTraceContextPropagator } from '@opentelemetry/core';
import { OTLPMetricExporter } from '@opentelemetry/exporter-metrics-otlp-http';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { detectResources, envDetector, resourceFromAttributes, type Resource } from '@opentelemetry/resources';
import { MeterProvider, PeriodicExportingMetricReader } from '@opentelemetry/sdk-metrics';
import { BatchSpanProcessor, ParentBasedSampler, TraceIdRatioBasedSampler, TracerProvider } from '@opentelemetry/sdk-trace';
import type { TelemetrySettings } from './config.ts';
import { readErrorCode, type Log } from './log.ts';
import type { Telemetry } from './telemetry.ts';

const exportTimeoutMillis = 5000;
const metricIntervalMillis = 15_000;
/** Bounds in seconds, as the conventions advise: https://opentelemetry.io/docs/specs/semconv/http/http-metrics/ */
const durationBounds = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10];

const readHeader: TextMapGetter<Readonly<Record<string, string | string[] | undefined>>> = {
  get: (headers, name) => headers[name],
  keys: (headers) => Object.keys(headers),
};

export function createTelemetry(settings: TelemetrySettings, releaseId: string, log: Log): Telemetry {
  tellOfTrouble(log);
  // OTEL_RESOURCE_ATTRIBUTES may add to it (deployment.environment.name=production), but not say that it is another release.
  const resource = detectResources({ detectors: [envDetector] }).merge(
    resourceFromAttributes({
      'service.name': settings.serviceName,
      'service.version': releaseId,
      'service.instance.id': randomUUID(),
    }),
  );
  const tracers = createTracers(settings, resource);
  const meters = createMeters(settings, resource);
  const tracer = tracers.getTracer('example', releaseId);
  const meter = meters.getMeter('example', releaseId);
  const durations = meter.createHistogram('http.server.request.duration', {
    unit: 's',
    description: 'Time from the request to the end of its response',
    advice: { explicitBucketBoundaries: durationBounds },
  });
  const propagator = new W3CTraceContextPropagator();
  const current = new AsyncLocalStorage<Context>();

  return {
    startRequest({ method, route, path, headers }) {
      const parent = propagator.extract(ROOT_CONTEXT, headers, readHeader);
      const attributes = { 'http.request.method': method, 'http.route': route, 'url.path': path, 'url.scheme': 'http' };
      const span = tracer.startSpan(`${method} ${route}`, { kind: SpanKind.SERVER, attributes }, parent);
      const context = trace.setSpan(parent, span);
      return {
        traceId: settings.traces ? span.spanContext().traceId : undefined,
        run: (work) => current.run(context, work),
        end({ status, seconds }) {
          span.setAttribute('http.response.status_code', status);
          if (status >= 500) span.setStatus({ code: SpanStatusCode.ERROR });
          span.end();
          durations.record(seconds, { 'http.request.method': method, 'http.route': route, 'http.response.status_code': status });
        },
      };
    },

    async traceCall({ system, operation, query, collection }, work) {
      const parent = current.getStore() ?? ROOT_CONTEXT;
      const attributes = {
        'db.system.name': system,
        'db.operation.name': operation,
        ...(query === undefined ? {} : { 'db.query.text': query }),
        ...(collection === undefined ? {} : { 'db.collection.name': collection }),
      };
      const name = collection === undefined ? operation : `${operation} ${collection}`;
      const span = tracer.startSpan(name, { kind: SpanKind.CLIENT, attributes }, parent);
      try {
        return await current.run(trace.setSpan(parent, span), work);
      } catch (error) {
        fail(span, error);
        throw error;
      } finally {
        span.end();
      }
    },

    observe({ readPoolUsage, readInFlight }) {
      meter
        .createObservableGauge('http.server.active_requests', { unit: '{request}', description: 'Requests being answered now' })
        .addCallback((gauge) => gauge.observe(readInFlight()));
      meter
        .createObservableGauge('db.client.connection.count', { unit: '{connection}', description: 'PostgreSQL connections of this replica' })
        .addCallback((gauge) => {
          const { total, idle } = readPoolUsage();
          gauge.observe(idle, { 'db.client.connection.state': 'idle' });
          gauge.observe(total - idle, { 'db.client.connection.state': 'used' });
        });
    },

    async close() {
      await Promise.allSettled([tracers.shutdown(), meters.shutdown()]);
    },
  };
}

function createTracers({ traces, endpoint, traceRatio }: TelemetrySettings, resource: Resource): TracerProvider {
  const exporter = () => new OTLPTraceExporter({ url: addPath(endpoint, 'v1/traces'), timeoutMillis: exportTimeoutMillis });
  const ratio = new TraceIdRatioBasedSampler(traceRatio);
  return new TracerProvider({
    resource,
    // A caller may decide that a request is not traced, and no more: anybody on the internet can send a `traceparent` that says it is. The ratio goes by the
    // trace's id, so services with the same one agree.
    sampler: new ParentBasedSampler({ root: ratio, remoteParentSampled: ratio }),
    spanProcessors: traces ? [new BatchSpanProcessor({ exporter: exporter() })] : [],
  });
}

function createMeters({ metrics, endpoint }: TelemetrySettings, resource: Resource): MeterProvider {
  const exporter = () => new OTLPMetricExporter({ url: addPath(endpoint, 'v1/metrics'), timeoutMillis: exportTimeoutMillis });
  const reader = () =>
    new PeriodicExportingMetricReader({ exporter: exporter(), exportIntervalMillis: metricIntervalMillis, exportTimeoutMillis });
  return new MeterProvider({ resource, readers: metrics ? [reader()] : [] });
}

function addPath(endpoint: string, path: string): string {
  return new URL(path, endpoint.endsWith('/') ? endpoint : `${endpoint}/`).href;
}

/** The code alone: messages of databases quote values. */
function fail(span: Span, error: unknown): void {
  const type = readErrorCode(error) ?? (error instanceof Error ? error.name : 'error');
  span.setAttribute('error.type', type);
  span.setStatus({ code: SpanStatusCode.ERROR });
}

/** A collector that is away is told of once, not every five seconds; and never with what the library quotes. */
function tellOfTrouble(log: Log): void {
  let told = false;
  const tell = () => {
    if (!told) log('warn', 'telemetry could not be sent; trying on, and silent from here on');
    told = true;
  };
  const ignore = () => {};
  diag.setLogger({ error: tell, warn: ignore, info: ignore, debug: ignore, verbose: ignore }, DiagLogLevel.ERROR);
}
