/**
 * Watches a URL while a deploy goes on, as a visitor would: requests at a steady rate, each over a connection of its own, and
 * an account of them. What was broken before the deploy changed anything is told apart from what broke since.
 */
import { ConnectError, SlipwayError } from '../errors';
import type { Parsed } from '../inputs/values';
import type { Secret } from '../model/secret';
import type { Ports, Session } from '../ports';
import { excerpt } from '../shell/excerpt';
import { parseChecks } from './check';
import type { Vantage } from './check-model';
import { failed, passed, type Verdict } from './verdict';

/** What is watched, and from where. */
export interface WatchTarget {
  /** http or https, without credentials and fragment. */
  readonly url: string;
  readonly vantage: Vantage;
}

export interface WatchRequest extends WatchTarget {
  /** From the start of one request to the start of the next, however slow the answers are. Default 0.1. */
  readonly intervalSeconds?: number;
  /** Of one request, body included. Default 10. */
  readonly timeoutSeconds?: number;
  /** Requests that may wait for their answers at once; while there are as many, no others are made. Default 50. */
  readonly maxUnderWay?: number;
  readonly headers?: Readonly<Record<string, string | Secret>>;
  /** As in `HttpRequest`. */
  readonly ca?: string | undefined;
  /**
   * Each failure after `begin()`, with the number of them until now, so that a deploy can stop at too many. Those before
   * `begin()` are nobody's fault, and not told. Must not throw.
   */
  readonly onFailure?: (failure: WatchFailure, failures: number) => void;
}

export interface WatchFailure {
  /** When it was known, in seconds from the watch's start. */
  readonly atSeconds: number;
  /** How long the request had taken by then. */
  readonly tookMs: number;
  /** One line in our words: `status 503`, `10.0.0.1:443 refused the connection: nothing listens there`. */
  readonly reason: string;
}

/** The account of a part of the watch: before `begin()`, or since. A request belongs to the part in which it ended. */
export interface WatchStats {
  /** How long this part is, or has been until now. */
  readonly seconds: number;
  /** Those that ended: answered, or failed. */
  readonly requests: number;
  /** Neither 2xx nor 3xx, or no complete answer in time. */
  readonly failures: number;
  /**
   * The longest time without a good answer: from the end of one to the end of the next, and from the part's start to the first
   * and from the last to the part's end. It cannot be seen more finely than the interval.
   */
  readonly longestGapSeconds: number;
  /** Of good answers; undefined where there is none. */
  readonly latencyMs: { readonly p50: number; readonly p95: number; readonly max: number } | undefined;
  /** How often each status came. */
  readonly statuses: Readonly<Record<string, number>>;
  /** The first five. */
  readonly firstFailures: readonly WatchFailure[];
  /** Without an answer yet. */
  readonly underWay: number;
  /** Ended by us (the watch was stopped), or with the SSH connection that they went through: neither good nor failed. */
  readonly cutOff: number;
  /** Not made, since `maxUnderWay` were waiting. */
  readonly skipped: number;
  /** The most that a request started behind its time: how busy the runner itself was. A gap of that length may be its own. */
  readonly latenessMs: number;
}

export interface UrlWatch {
  /** Resolves when the first request has ended, or the watch. Until then nothing is known of the URL. */
  readonly ready: Promise<void>;
  /**
   * Call it right before the first change: from here on, what fails is laid at the deploy's door. A request that was under way
   * and is broken off counts as well. @returns the account of what was before; the first call counts
   */
  begin(): WatchStats;
  /** Since `begin()`; before that, since the start. */
  stats(): WatchStats;
  /** Starts no more requests, waits a second for those under way, cuts off the others. @returns `stats()` */
  stop(): Promise<WatchStats>;
}

const INTERVAL_SECONDS = 0.1;
const TIMEOUT_SECONDS = 10;
const MAX_UNDER_WAY = 50;
const GRACE_SECONDS = 1;
const MAX_FAILURES_SHOWN = 5;
/** An answer that breaks off counts as failed, so bodies are read; a large one not to its end, ten times a second. */
const MAX_BODY_BYTES = 256 * 1024;

const FORMS =
  '`https://example.com/health`, or `ssh+http://127.0.0.1:8080/health` for a port of the server as it sees it itself';

/**
 * One URL: `https://..` and `http://..` are requested from here, `ssh+http://..` and `ssh+https://..` from the server.
 *
 * It should be one that answers 2xx or 3xx by itself. A redirect is an answer, and not followed: if the proxy redirects, only
 * the proxy is watched. Everything else is a failure, also 404 and 429: a page that a visitor does not get.
 */
export function parseWatchUrl(text: string): Parsed<WatchTarget> {
  // What does not look like a URL is not repeated: it may be one with a password.
  if (!/^(?:ssh\+)?https?:\/\/\S+$/i.test(text.trim()))
    return { problem: `is not one http or https URL: give ${FORMS}.` };
  const { checks, problems } = parseChecks(text, { input: '', attempts: 1, intervalSeconds: 1, timeoutSeconds: 1 });
  const [check] = checks;
  if (check?.kind === 'http') return { value: { url: check.url, vantage: check.via === 'ssh' ? 'ssh' : 'runner' } };
  // There it is one check of many.
  const [problem] = problems.map(({ message }) => message.replace(/^check 1(?: \(.*?\))?: (?:url )?/, ''));
  return { problem: problem ?? `is not a URL that can be requested: give ${FORMS}.` };
}

/**
 * Starts at once, and goes on until it is stopped or `signal` is aborted (which ends it without the second of grace). Never
 * rejects: whatever happens to a request is in the account.
 */
export function watchUrl(
  request: WatchRequest,
  ports: Pick<Ports, 'http' | 'clock'> & { readonly session?: Session | undefined },
  signal?: AbortSignal,
): UrlWatch {
  const { http, clock, session } = ports;
  if (request.vantage === 'ssh' && session === undefined)
    throw new TypeError('to watch from the server takes a session');
  const dial =
    request.vantage === 'ssh' && session !== undefined
      ? (host: string, port: number) => session.dial(host, port)
      : undefined;
  const intervalMs = (request.intervalSeconds ?? INTERVAL_SECONDS) * 1000;
  const timeoutSeconds = request.timeoutSeconds ?? TIMEOUT_SECONDS;
  const maxUnderWay = request.maxUnderWay ?? MAX_UNDER_WAY;

  const startedMs = clock.monotonicMs();
  const sinceStart = (): number => clock.monotonicMs() - startedMs;
  const ready = Promise.withResolvers<undefined>();
  /** No more starts. */
  const halt = new AbortController();
  /** No more waiting. */
  const cut = new AbortController();
  const underWay = new Set<Promise<void>>();
  let tally = new WatchTally(0);
  let baseline: WatchStats | undefined;
  let endedMs: number | undefined;
  let stopping: Promise<WatchStats> | undefined;

  const stats = (): WatchStats => tally.stats(endedMs ?? sinceStart(), underWay.size);

  const end = (): void => {
    endedMs ??= sinceStart();
    halt.abort();
  };

  const cutOff = (): void => {
    if (cut.signal.aborted) return;
    end();
    tally.cutOff += underWay.size;
    underWay.clear();
    cut.abort();
    ready.resolve(undefined);
  };

  const ask = async (): Promise<void> => {
    const askedMs = sinceStart();
    let status = 0;
    let reason: string | undefined;
    let isLost = false;
    try {
      ({ status } = await http.request({
        method: 'GET',
        url: request.url,
        timeoutSeconds,
        signal: cut.signal,
        dial,
        ca: request.ca,
        maxBodyBytes: MAX_BODY_BYTES,
        ...(request.headers === undefined ? {} : { headers: request.headers }),
      }));
      if (status < 200 || status > 399) reason = `status ${status}`;
    } catch (error) {
      // Also what is a defect of ours: it must not end a deploy half-way.
      reason = excerpt(error instanceof SlipwayError || error instanceof Error ? error.message : String(error), 300);
      isLost = isConnectionLost(error);
    }
    // It was counted when it was cut off.
    if (cut.signal.aborted) return;
    const nowMs = sinceStart();
    if (status !== 0) tally.countStatus(status);
    if (isLost) tally.cutOff++;
    else if (reason === undefined) tally.addSuccess(Math.min(nowMs, endedMs ?? nowMs), nowMs - askedMs);
    else {
      const failure = { atSeconds: nowMs / 1000, tookMs: nowMs - askedMs, reason };
      tally.addFailure(failure);
      if (baseline !== undefined) request.onFailure?.(failure, tally.failures);
    }
    ready.resolve(undefined);
  };

  const run = async (): Promise<void> => {
    for (let slot = 0; !halt.signal.aborted;) {
      const latenessMs = sinceStart() - slot * intervalMs;
      if (latenessMs < 0) {
        try {
          await clock.sleep(-latenessMs / 1000, halt.signal);
        } catch {
          return;
        }
        continue;
      }
      tally.latenessMs = Math.max(tally.latenessMs, latenessMs);
      if (underWay.size >= maxUnderWay) tally.skipped++;
      else {
        const asked = ask().finally(() => underWay.delete(asked));
        underWay.add(asked);
      }
      // What could not start in time is left out: a burst would be no steady rate, and the server did nothing to deserve it.
      slot = Math.max(slot, Math.floor(sinceStart() / intervalMs)) + 1;
    }
  };

  if (signal?.aborted === true) cutOff();
  else {
    signal?.addEventListener('abort', cutOff, { once: true, signal: cut.signal });
    void run();
  }

  const stop = async (): Promise<WatchStats> => {
    end();
    await Promise.race([
      Promise.all(underWay).then(() => undefined),
      clock.sleep(GRACE_SECONDS, cut.signal).catch(() => undefined),
    ]);
    cutOff();
    return stats();
  };

  return {
    ready: ready.promise,
    begin: () => {
      if (baseline === undefined) {
        baseline = stats();
        tally = new WatchTally(endedMs ?? sinceStart());
      }
      return baseline;
    },
    stats,
    stop: () => (stopping ??= stop()),
  };
}

/** What has been seen since `fromMs`; successes must be added in the order in which they ended. */
class WatchTally {
  failures = 0;
  cutOff = 0;
  skipped = 0;
  latenessMs = 0;
  readonly #fromMs: number;
  readonly #latenciesMs: number[] = [];
  readonly #statuses = new Map<number, number>();
  readonly #firstFailures: WatchFailure[] = [];
  #lastSuccessMs: number;
  #longestGapMs = 0;

  constructor(fromMs: number) {
    this.#fromMs = fromMs;
    this.#lastSuccessMs = fromMs;
  }

  countStatus(status: number): void {
    this.#statuses.set(status, (this.#statuses.get(status) ?? 0) + 1);
  }

  addSuccess(atMs: number, latencyMs: number): void {
    this.#longestGapMs = Math.max(this.#longestGapMs, atMs - this.#lastSuccessMs);
    this.#lastSuccessMs = atMs;
    this.#latenciesMs.push(latencyMs);
  }

  addFailure(failure: WatchFailure): void {
    this.failures++;
    if (this.#firstFailures.length < MAX_FAILURES_SHOWN) this.#firstFailures.push(failure);
  }

  stats(nowMs: number, underWay: number): WatchStats {
    const sorted = this.#latenciesMs.toSorted((a, b) => a - b);
    return {
      seconds: (nowMs - this.#fromMs) / 1000,
      requests: sorted.length + this.failures,
      failures: this.failures,
      longestGapSeconds: Math.max(this.#longestGapMs, nowMs - this.#lastSuccessMs) / 1000,
      latencyMs:
        sorted.length === 0
          ? undefined
          : { p50: choosePercentile(sorted, 50), p95: choosePercentile(sorted, 95), max: sorted.at(-1) ?? 0 },
      statuses: Object.fromEntries(this.#statuses),
      firstFailures: [...this.#firstFailures],
      underWay,
      cutOff: this.cutOff,
      skipped: this.skipped,
      latenessMs: this.latenessMs,
    };
  }
}

/** The nearest-rank percentile of sorted values: one that has been measured. */
function choosePercentile(sorted: readonly number[], percent: number): number {
  return sorted[Math.max(0, Math.ceil((percent / 100) * sorted.length) - 1)] ?? 0;
}

/** Whether a request broke with the SSH connection that it went through, which says nothing about the URL. */
function isConnectionLost(error: unknown): boolean {
  let cause = error;
  for (let depth = 0; depth < 5 && cause instanceof Error; depth++) {
    if (cause instanceof ConnectError) return cause.reason === 'lost';
    cause = cause.cause;
  }
  return false;
}

/**
 * Whether the URL was good before the deploy changed anything. If it was not, its failures since are no reason to go back: the
 * release before had them too, and this deploy may be the one that ends them. Pure.
 */
export function judgeBaseline(baseline: WatchStats): Verdict {
  const { requests, failures, underWay, seconds } = baseline;
  if (requests === 0) {
    // So short a time is no proof of anything; a URL that never answers gets there soon enough.
    return underWay === 0 || seconds < 1
      ? passed('not asked yet')
      : failed(`no answer within ${describeTime(seconds)}, before the deploy changed anything`);
  }
  if (failures === 0) return passed(describeWatch(baseline));
  return failed(
    `${failures} of ${requests} requests failed before the deploy changed anything: ${baseline.firstFailures[0]?.reason ?? ''}`,
  );
}

/** One line: `312 requests, 0 failed, longest gap 0.11 s, latency p50 3 ms, max 41 ms`. Pure. */
export function describeWatch(stats: WatchStats): string {
  const { requests, failures, latencyMs, firstFailures, cutOff, skipped, latenessMs } = stats;
  const [first] = firstFailures;
  const told = first === undefined ? '' : ` (the first after ${describeTime(first.atSeconds)}: ${first.reason})`;
  const parts = [
    `${requests === 0 ? 'no' : requests} ${requests === 1 ? 'request' : 'requests'}`,
    ...(requests === 0 ? [] : [`${failures} failed${told}`, `longest gap ${describeTime(stats.longestGapSeconds)}`]),
    ...(latencyMs === undefined
      ? []
      : [`latency p50 ${Math.round(latencyMs.p50)} ms`, `max ${Math.round(latencyMs.max)} ms`]),
    ...(cutOff === 0 ? [] : [`${cutOff} broken off unanswered`]),
    ...(skipped === 0 ? [] : [`${skipped} not made since too many were waiting`]),
    // Less is the ordinary jitter of a busy event loop.
    ...(latenessMs < LATENESS_TOLD_MS ? [] : [`the runner itself was up to ${describeTime(latenessMs / 1000)} late`]),
  ];
  return parts.join(', ');
}

const LATENESS_TOLD_MS = 100;

function describeTime(seconds: number): string {
  return `${seconds.toFixed(seconds < 10 ? 2 : 1)} s`;
}
