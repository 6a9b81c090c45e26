/** What a load found out: counted while it runs, plain data in the end. Times are seconds from the load's start. */

/** How a request came to its connection. */
export type ConnectionKind =
  /** One of its own, closed after the answer. */
  | 'new'
  /** One of those that are in steady use. */
  | 'keepAlive'
  /** One that had been idle for 1 to 8 s, as a browser's. */
  | 'idle';

export type FailureKind =
  | 'refused'
  | 'unresolved'
  | 'unreachable'
  /** The connection broke before an answer. */
  | 'reset'
  /** The same on a connection that had been used before: the server closed it just as the request was sent. Browsers try again. */
  | 'reusedSocketReset'
  /** The connection broke within an answer. */
  | 'truncated'
  | 'timeout'
  /** Neither 2xx nor 3xx. */
  | 'status'
  | 'other';

export interface Latency {
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
}

/** All numbers of requests are of those that ended: answered well, or failed. */
export interface Account {
  readonly requests: number;
  readonly failed: number;
  /** Between the ends of good answers, and from the start to the first and from the last to the end. */
  readonly longestGapSeconds: number;
  /** Of good answers, from the request (the connection included) to the body's end; undefined where there is none. */
  readonly latencyMs: Latency | undefined;
}

export interface LoadFailure {
  readonly askedSeconds: number;
  readonly endedSeconds: number;
  readonly kind: FailureKind;
  readonly connection: ConnectionKind;
  /** Of an answer, also of one that broke off. */
  readonly status: number | undefined;
  readonly message: string;
}

export interface SlowRequest {
  readonly askedSeconds: number;
  readonly latencyMs: number;
  readonly connection: ConnectionKind;
}

export interface TimelineBucket {
  /** Its beginning. Requests belong to the bucket in which they were asked. */
  readonly atSeconds: number;
  readonly requests: number;
  readonly failed: number;
  /** Of good answers; 0 where there is none. */
  readonly maxLatencyMs: number;
}

/** A release that gave good answers. */
export interface ServedRelease {
  /** What the answers said of themselves; `(none)` where they said nothing. */
  readonly value: string;
  readonly requests: number;
  /** When the first and the last of its answers were complete. */
  readonly firstSeenSeconds: number;
  readonly lastSeenSeconds: number;
  /** When the last request was asked that it answered: from then on it got nothing new. */
  readonly lastAskedSeconds: number;
}

/** How good the measurement itself is. What the generator was late, or did not notice in time, is in every latency. */
export interface GeneratorQuality {
  /** How much later than planned requests started. */
  readonly latenessMs: Latency;
  /** How long the event loop was busy with something else. */
  readonly eventLoopDelayMs: Latency;
  /** Planned requests that were not made: too many under way, or the generator stood still for over a second. */
  readonly skipped: number;
  /** Of one core, on average. */
  readonly cpuShare: number;
}

export interface LoadReport extends Account {
  /** Wall time of the start, in milliseconds since 1970. */
  readonly startedAtMs: number;
  readonly seconds: number;
  readonly byConnection: Readonly<Record<ConnectionKind, Account & { readonly connectionsOpened: number }>>;
  /** All of them, by kind. */
  readonly failuresByKind: Readonly<Partial<Record<FailureKind, number>>>;
  /** The first thousand, in the order in which they ended. */
  readonly failures: readonly LoadFailure[];
  /** How often each status came. */
  readonly statuses: Readonly<Record<string, number>>;
  /** In the order in which they were first seen; empty where nothing was to be looked for. */
  readonly releases: readonly ServedRelease[];
  /** The ten slowest good answers, the slowest first. */
  readonly slowest: readonly SlowRequest[];
  /** Each tenth of a second of the load. */
  readonly timeline: readonly TimelineBucket[];
  /** Without an answer when the load was stopped, and after the seconds of grace: neither good nor failed. */
  readonly cutOff: number;
  readonly generator: GeneratorQuality;
}

/** One request that ended. */
export interface Ended {
  readonly connection: ConnectionKind;
  readonly askedMs: number;
  readonly endedMs: number;
  readonly status: number | undefined;
  /** Undefined: a good answer. */
  readonly failure: { readonly kind: FailureKind; readonly message: string } | undefined;
  /** Undefined: not looked for, or a failure. */
  readonly release: string | undefined;
}

export const CONNECTION_KINDS = ['new', 'keepAlive', 'idle'] as const satisfies readonly ConnectionKind[];

const BUCKET_MS = 100;
const MAX_FAILURES = 1000;
const MAX_SLOWEST = 10;
/** More are no releases but something else, such as the time. */
const MAX_RELEASES = 100;

/** What is counted. `endedMs` of successive requests must not go back. */
export class LoadTally {
  readonly #all = new AccountTally();
  readonly #byConnection = { new: new AccountTally(), keepAlive: new AccountTally(), idle: new AccountTally() };
  readonly #connectionsOpened = { new: 0, keepAlive: 0, idle: 0 };
  readonly #failures: LoadFailure[] = [];
  readonly #failuresByKind: Partial<Record<FailureKind, number>> = {};
  readonly #statuses: Record<string, number> = {};
  readonly #releases = new Map<string, { -readonly [K in keyof ServedRelease]: ServedRelease[K] }>();
  readonly #slowest: SlowRequest[] = [];
  readonly #timeline: { requests: number; failed: number; maxLatencyMs: number }[] = [];

  addConnection(kind: ConnectionKind): void {
    this.#connectionsOpened[kind]++;
  }

  /** @param gapEndMs when the load was stopped: from then on a gap does not grow */
  add(ended: Ended, gapEndMs = Infinity): void {
    const { connection, askedMs, endedMs, status, failure } = ended;
    const latencyMs = endedMs - askedMs;
    const bucket = (this.#timeline[Math.max(0, Math.floor(askedMs / BUCKET_MS))] ??= {
      requests: 0,
      failed: 0,
      maxLatencyMs: 0,
    });
    bucket.requests++;
    if (status !== undefined) this.#statuses[status] = (this.#statuses[status] ?? 0) + 1;
    for (const account of [this.#all, this.#byConnection[connection]]) {
      if (failure === undefined) account.addSuccess(Math.min(endedMs, gapEndMs), latencyMs);
      else account.failed++;
    }
    if (failure === undefined) {
      bucket.maxLatencyMs = Math.max(bucket.maxLatencyMs, latencyMs);
      this.#addSlowest({ askedSeconds: askedMs / 1000, latencyMs, connection });
      if (ended.release !== undefined) this.#addRelease(ended.release, askedMs / 1000, endedMs / 1000);
      return;
    }
    bucket.failed++;
    this.#failuresByKind[failure.kind] = (this.#failuresByKind[failure.kind] ?? 0) + 1;
    if (this.#failures.length >= MAX_FAILURES) return;
    this.#failures.push({
      askedSeconds: askedMs / 1000,
      endedSeconds: endedMs / 1000,
      kind: failure.kind,
      connection,
      status,
      message: failure.message,
    });
  }

  report(ends: Pick<LoadReport, 'startedAtMs' | 'cutOff' | 'generator'> & { readonly endedMs: number }): LoadReport {
    const { endedMs, ...rest } = ends;
    const account = (kind: ConnectionKind) => ({
      ...this.#byConnection[kind].account(endedMs),
      connectionsOpened: this.#connectionsOpened[kind],
    });
    const timeline = Array.from(
      { length: Math.max(Math.ceil(endedMs / BUCKET_MS), this.#timeline.length) },
      (_, index) => ({
        atSeconds: (index * BUCKET_MS) / 1000,
        ...(this.#timeline[index] ?? { requests: 0, failed: 0, maxLatencyMs: 0 }),
      }),
    );
    return {
      ...rest,
      ...this.#all.account(endedMs),
      seconds: endedMs / 1000,
      byConnection: { new: account('new'), keepAlive: account('keepAlive'), idle: account('idle') },
      failuresByKind: this.#failuresByKind,
      failures: this.#failures,
      statuses: this.#statuses,
      releases: [...this.#releases.values()],
      slowest: this.#slowest,
      timeline,
    };
  }

  #addSlowest(request: SlowRequest): void {
    const least = this.#slowest.at(-1);
    if (this.#slowest.length >= MAX_SLOWEST && least !== undefined && least.latencyMs >= request.latencyMs) return;
    this.#slowest.push(request);
    this.#slowest.sort((a, b) => b.latencyMs - a.latencyMs);
    this.#slowest.splice(MAX_SLOWEST);
  }

  #addRelease(value: string, askedSeconds: number, endedSeconds: number): void {
    const known = this.#releases.get(value);
    if (known === undefined) {
      if (this.#releases.size >= MAX_RELEASES) return;
      this.#releases.set(value, {
        value,
        requests: 1,
        firstSeenSeconds: endedSeconds,
        lastSeenSeconds: endedSeconds,
        lastAskedSeconds: askedSeconds,
      });
      return;
    }
    known.requests++;
    known.lastSeenSeconds = endedSeconds;
    known.lastAskedSeconds = Math.max(known.lastAskedSeconds, askedSeconds);
  }
}

class AccountTally {
  failed = 0;
  readonly #latenciesMs: number[] = [];
  #lastSuccessMs = 0;
  #longestGapMs = 0;

  addSuccess(atMs: number, latencyMs: number): void {
    this.#longestGapMs = Math.max(this.#longestGapMs, atMs - this.#lastSuccessMs);
    this.#lastSuccessMs = atMs;
    this.#latenciesMs.push(latencyMs);
  }

  account(endedMs: number): Account {
    return {
      requests: this.#latenciesMs.length + this.failed,
      failed: this.failed,
      longestGapSeconds: Math.max(this.#longestGapMs, endedMs - this.#lastSuccessMs) / 1000,
      latencyMs: summarizeLatencies(this.#latenciesMs),
    };
  }
}

/** Nearest-rank percentiles: values that have been measured. */
export function summarizeLatencies(valuesMs: readonly number[]): Latency | undefined {
  const sorted = valuesMs.toSorted((a, b) => a - b);
  const rank = (percent: number): number => sorted[Math.max(0, Math.ceil((percent / 100) * sorted.length) - 1)] ?? 0;
  return sorted.length === 0 ? undefined : { p50: rank(50), p99: rank(99), max: rank(100) };
}

/** A table for people, some lines long. */
export function renderReport(report: LoadReport): string {
  const ms = (value: number | undefined): string => (value === undefined ? '-' : value.toFixed(1));
  const row = (name: string, account: Account, opened: number | undefined): string[] => [
    name,
    String(account.requests),
    String(account.failed),
    // Connections that are idle on purpose have gaps on purpose.
    account.requests === 0 || account === report.byConnection.idle ? '-' : account.longestGapSeconds.toFixed(3),
    ms(account.latencyMs?.p50),
    ms(account.latencyMs?.p99),
    ms(account.latencyMs?.max),
    opened === undefined ? '' : String(opened),
  ];
  const { byConnection, generator } = report;
  const used = CONNECTION_KINDS.filter((kind) => byConnection[kind].requests > 0);
  const tables = [
    renderTable([
      ['connection', 'requests', 'failed', 'longest gap s', 'p50 ms', 'p99 ms', 'max ms', 'opened'],
      ...used.map((kind) => row(CONNECTION_NAMES[kind], byConnection[kind], byConnection[kind].connectionsOpened)),
      row('all', report, undefined),
    ]),
    `${report.seconds.toFixed(1)} s, statuses ${renderCounts(report.statuses)}${report.cutOff === 0 ? '' : `, ${report.cutOff} cut off at the end`}`,
  ];
  if (report.failed > 0) {
    tables.push(
      `failed: ${renderCounts(report.failuresByKind)}`,
      renderTable([
        ['asked s', 'ended s', 'connection', 'kind', ''],
        ...report.failures
          .slice(0, 20)
          .map((failure) => [
            failure.askedSeconds.toFixed(3),
            failure.endedSeconds.toFixed(3),
            CONNECTION_NAMES[failure.connection],
            failure.kind,
            failure.message,
          ]),
      ]) + (report.failed > 20 ? `\n... and ${report.failed - 20} more` : ''),
    );
  }
  if (report.releases.length > 0) {
    tables.push(
      renderTable([
        ['served by', 'requests', 'first seen s', 'last seen s', 'last asked s'],
        ...report.releases.map((release) => [
          release.value,
          String(release.requests),
          release.firstSeenSeconds.toFixed(3),
          release.lastSeenSeconds.toFixed(3),
          release.lastAskedSeconds.toFixed(3),
        ]),
      ]),
    );
  }
  tables.push(
    `the generator itself: late by p99 ${ms(generator.latenessMs.p99)} ms, max ${ms(generator.latenessMs.max)} ms; event loop delayed by p99 ${ms(generator.eventLoopDelayMs.p99)} ms, max ${ms(generator.eventLoopDelayMs.max)} ms; ${Math.round(generator.cpuShare * 100)} % of a core${generator.skipped === 0 ? '' : `; ${generator.skipped} requests skipped`}`,
  );
  return tables.join('\n\n');
}

const CONNECTION_NAMES: Readonly<Record<ConnectionKind, string>> = {
  new: 'new',
  keepAlive: 'keep-alive',
  idle: 'idle',
};

function renderCounts(counts: Readonly<Record<string, number | undefined>>): string {
  const entries = Object.entries(counts);
  return entries.length === 0 ? 'none' : entries.map(([name, count]) => `${name}: ${count ?? 0}`).join(', ');
}

/** Columns as wide as they need; those of numbers to the right. */
function renderTable(rows: readonly (readonly string[])[]): string {
  const [head = [], ...body] = rows;
  const widths = head.map((_, column) => Math.max(...rows.map((row) => (row[column] ?? '').length)));
  const isNumber = head.map((_, column) => body.every((row) => /^[\d.-]*$/.test(row[column] ?? '')));
  return rows
    .map((row) =>
      row
        .map((cell, column) =>
          isNumber[column] === true ? cell.padStart(widths[column] ?? 0) : cell.padEnd(widths[column] ?? 0),
        )
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
