import fc from 'fast-check';
import { type Ended, type LoadReport, LoadTally, renderReport, summarizeLatencies } from './load-report';

const ends = {
  startedAtMs: 0,
  cutOff: 0,
  endedMs: 1000,
  generator: {
    latenessMs: { p50: 0, p99: 1.25, max: 2 },
    eventLoopDelayMs: { p50: 0, p99: 0.5, max: 3 },
    skipped: 0,
    cpuShare: 0.07,
  },
};

function ended(askedMs: number, endedMs: number, more: Partial<Ended> = {}): Ended {
  return { connection: 'new', askedMs, endedMs, status: 200, failure: undefined, release: undefined, ...more };
}

function tally(requests: readonly Ended[], gapEndMs?: number): LoadReport {
  const counted = new LoadTally();
  for (const request of requests) counted.add(request, gapEndMs);
  return counted.report(ends);
}

test('the longest gap: to the first answer, between two, and after the last', () => {
  expect(tally([]).longestGapSeconds).toBe(1);
  expect(tally([ended(0, 600), ended(0, 900)]).longestGapSeconds).toBe(0.6);
  expect(tally([ended(0, 100), ended(0, 800), ended(0, 900)]).longestGapSeconds).toBe(0.7);
  expect(tally([ended(0, 100)]).longestGapSeconds).toBe(0.9);
  const refused = { kind: 'refused', message: '' } as const;
  expect(tally([ended(0, 100), ended(0, 500, { failure: refused }), ended(0, 900)]).longestGapSeconds).toBe(0.8);
  // What is answered after the load was stopped proves that the server was there, not that there was a gap.
  expect(tally([ended(0, 950), ended(0, 2900)], 1000).longestGapSeconds).toBe(0.95);
});

test('each kind of connection has an account of its own: what fails for one is not hidden by another', () => {
  const requests = Array.from({ length: 10 }, (_, index) => [
    ended(index * 100, index * 100 + 5, { connection: 'keepAlive' }),
    ended(
      index * 100,
      index * 100 + 10,
      index < 3 || index > 6 ? {} : { status: undefined, failure: { kind: 'refused', message: 'no' } },
    ),
  ]).flat();
  const { byConnection, ...report } = tally(requests);
  expect(report).toMatchObject({ requests: 20, failed: 4, failuresByKind: { refused: 4 }, statuses: { 200: 16 } });
  expect(report.longestGapSeconds).toBeCloseTo(0.1);
  expect(byConnection.keepAlive).toMatchObject({ requests: 10, failed: 0, latencyMs: { p50: 5, p99: 5, max: 5 } });
  expect(byConnection.new).toMatchObject({ requests: 10, failed: 4 });
  expect(byConnection.new.longestGapSeconds).toBeCloseTo(0.5);
  expect(byConnection.idle).toMatchObject({ requests: 0, failed: 0, latencyMs: undefined });
  expect(report.failures[0]).toEqual({
    askedSeconds: 0.3,
    endedSeconds: 0.31,
    kind: 'refused',
    connection: 'new',
    status: undefined,
    message: 'no',
  });
});

test('the timeline shows spikes where they were asked, and also the time in which nothing was', () => {
  const { timeline, slowest } = tally([
    ended(10, 20),
    ended(250, 900),
    ended(299, 310, { status: 503, failure: { kind: 'status', message: '' } }),
  ]);
  expect(timeline).toHaveLength(10);
  expect(timeline[0]).toEqual({ atSeconds: 0, requests: 1, failed: 0, maxLatencyMs: 10 });
  expect(timeline[1]).toEqual({ atSeconds: 0.1, requests: 0, failed: 0, maxLatencyMs: 0 });
  expect(timeline[2]).toEqual({ atSeconds: 0.2, requests: 2, failed: 1, maxLatencyMs: 650 });
  expect(slowest[0]).toEqual({ askedSeconds: 0.25, latencyMs: 650, connection: 'new' });
});

test('releases: until when the old one answered, since when the new one', () => {
  const { releases } = tally([
    ended(0, 10, { release: 'v1' }),
    ended(20, 30, { release: 'v2' }),
    ended(5, 40, { release: 'v1' }),
    ended(50, 60, { release: 'v2' }),
    ended(60, 70, { release: 'v2', status: 500, failure: { kind: 'status', message: '' } }),
  ]);
  expect(releases).toEqual([
    { value: 'v1', requests: 2, firstSeenSeconds: 0.01, lastSeenSeconds: 0.04, lastAskedSeconds: 0.005 },
    { value: 'v2', requests: 2, firstSeenSeconds: 0.03, lastSeenSeconds: 0.06, lastAskedSeconds: 0.05 },
  ]);
});

test('percentiles are values that were measured; the slowest are kept in order', () => {
  expect(summarizeLatencies([])).toBeUndefined();
  expect(summarizeLatencies([7])).toEqual({ p50: 7, p99: 7, max: 7 });
  expect(summarizeLatencies(Array.from({ length: 100 }, (_, index) => 100 - index))).toEqual({
    p50: 50,
    p99: 99,
    max: 100,
  });
  fc.assert(
    fc.property(fc.array(fc.nat(100_000), { minLength: 1, maxLength: 50 }), (latencies) => {
      const report = tally(latencies.map((latency) => ended(0, latency)));
      const sorted = latencies.toSorted((a, b) => b - a);
      expect(report.slowest.map(({ latencyMs }) => latencyMs)).toEqual(sorted.slice(0, 10));
      expect(report.latencyMs?.max).toBe(sorted[0]);
    }),
  );
});

test('the table', () => {
  const counted = new LoadTally();
  counted.addConnection('new');
  counted.add(ended(0, 10, { release: 'v1' }));
  counted.add(ended(100, 112.5, { connection: 'keepAlive', release: 'v1' }));
  counted.add(ended(200, 201, { status: 503, failure: { kind: 'status', message: 'status 503' } }));
  expect(renderReport(counted.report({ ...ends, cutOff: 2 }))).toBe(`\
connection  requests  failed  longest gap s  p50 ms  p99 ms  max ms  opened
new                2       1          0.990    10.0    10.0    10.0       1
keep-alive         1       0          0.887    12.5    12.5    12.5       0
all                3       1          0.887    10.0    12.5    12.5

1.0 s, statuses 200: 2, 503: 1, 2 cut off at the end

failed: status: 1

asked s  ended s  connection  kind
  0.200    0.201  new         status  status 503

served by  requests  first seen s  last seen s  last asked s
v1                2         0.010        0.113         0.100

the generator itself: late by p99 1.3 ms, max 2.0 ms; event loop delayed by p99 0.5 ms, max 3.0 ms; 7 % of a core`);
});
