import fc from 'fast-check';
import { CancelledError, ConnectError, RequestError } from '../../src/errors';
import type { Clock, Http, HttpRequest, HttpResponse } from '../../src/ports';
import {
  describeWatch,
  judgeBaseline,
  parseWatchUrl,
  type UrlWatch,
  type WatchFailure,
  type WatchRequest,
  watchUrl,
} from '../../src/probes/watch-url';
import { FakeSession } from '../fakes/session';

/** Time that passes only when told to, for many sleepers at once: each wakes in its turn, at its own time. */
class StoppedClock implements Clock {
  #nowMs = 0;
  readonly #sleepers = new Set<{ readonly atMs: number; readonly wake: () => void }>();

  get sleepers(): number {
    return this.#sleepers.size;
  }

  now(): Date {
    return new Date(this.#nowMs);
  }

  monotonicMs(): number {
    return this.#nowMs;
  }

  async sleep(seconds: number, signal?: AbortSignal): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<undefined>();
    const sleeper = {
      atMs: this.#nowMs + seconds * 1000,
      wake: () => {
        resolve(undefined);
      },
    };
    const giveUp = (): void => {
      this.#sleepers.delete(sleeper);
      reject(new CancelledError('The workflow was cancelled.', ''));
    };
    if (signal?.aborted === true) giveUp();
    else {
      this.#sleepers.add(sleeper);
      signal?.addEventListener('abort', giveUp, { once: true });
    }
    await promise;
  }

  async pass(seconds: number): Promise<void> {
    const untilMs = this.#nowMs + seconds * 1000;
    for (;;) {
      await settle();
      const [next] = [...this.#sleepers].sort((a, b) => a.atMs - b.atMs);
      if (next === undefined || next.atMs > untilMs + 1e-6) break;
      this.#sleepers.delete(next);
      this.#nowMs = Math.max(this.#nowMs, next.atMs);
      next.wake();
    }
    this.#nowMs = untilMs;
  }

  /** Nobody wakes meanwhile: a process that was busy with something else. */
  block(seconds: number): void {
    this.#nowMs += seconds * 1000;
  }
}

const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** What becomes of the request asked at that second; a number is a status that takes `afterSeconds`. */
type Answer = (atSeconds: number) => {
  readonly status?: number;
  readonly error?: unknown;
  readonly afterSeconds: number;
};

const quick: Answer = () => ({ status: 200, afterSeconds: 0.01 });

interface Watched {
  readonly watch: UrlWatch;
  readonly clock: StoppedClock;
  /** When each was asked, in milliseconds. */
  readonly asked: number[];
  readonly requests: HttpRequest[];
}

function start(answer: Answer, more: Partial<WatchRequest> = {}, signal?: AbortSignal): Watched {
  const clock = new StoppedClock();
  const asked: number[] = [];
  const requests: HttpRequest[] = [];
  const http: Http = {
    request: async (request): Promise<HttpResponse> => {
      asked.push(Math.round(clock.monotonicMs()));
      requests.push(request);
      const { status, error, afterSeconds } = answer(clock.monotonicMs() / 1000);
      await clock.sleep(afterSeconds, request.signal);
      if (status === undefined) throw error;
      return { status, headers: {}, body: '', truncated: false, latencyMs: 0, certificate: undefined };
    },
    reach: () => Promise.reject(new Error('not asked for')),
  };
  const watch = watchUrl(
    { url: 'https://example.com/', vantage: 'runner', ...more },
    { http, clock, session: new FakeSession() },
    signal,
  );
  return { watch, clock, asked, requests };
}

const refused = new RequestError('refused', 'example.com:443 refused the connection: nothing listens there', '');

describe('the rate', () => {
  test('ten a second from the start, each with its own time limit', async () => {
    const { watch, clock, asked, requests } = start(quick);
    expect(asked).toEqual([0]);
    await clock.pass(0.95);
    expect(asked).toEqual([0, 100, 200, 300, 400, 500, 600, 700, 800, 900]);
    expect(requests[9]).toMatchObject({
      method: 'GET',
      url: 'https://example.com/',
      timeoutSeconds: 10,
      dial: undefined,
    });
    expect(watch.stats()).toMatchObject({ requests: 10, failures: 0, statuses: { 200: 10 }, latenessMs: 0 });
  });

  test('slow answers do not slow it, up to a bound', async () => {
    const { watch, clock, asked } = start(() => ({ status: 200, afterSeconds: 2 }), { maxUnderWay: 5 });
    await clock.pass(0.95);
    expect(asked).toEqual([0, 100, 200, 300, 400]);
    expect(watch.stats()).toMatchObject({ requests: 0, underWay: 5, skipped: 5 });
    await clock.pass(1.2);
    expect(asked.slice(5)).toEqual([2000, 2100]);
    expect(watch.stats()).toMatchObject({ requests: 2, underWay: 5, latencyMs: { p50: 2000, p95: 2000, max: 2000 } });
  });

  test('no burst makes up for the time in which this process was busy, and the account says that it was', async () => {
    const { watch, clock, asked } = start(quick);
    await clock.pass(0.15);
    clock.block(0.5);
    await clock.pass(0.3);
    expect(asked).toEqual([0, 100, 650, 700, 800, 900]);
    expect(watch.stats().latenessMs).toBeCloseTo(450);
    expect(describeWatch(watch.stats())).toContain('the runner itself was up to 0.45 s late');
  });
});

describe('what counts', () => {
  test.each([
    [200, 0],
    [204, 0],
    [301, 0],
    [399, 0],
    [404, 1],
    [429, 1],
    [500, 1],
    [503, 1],
  ])('status %i: %i failed', async (status, failures) => {
    const { watch, clock } = start(() => ({ status, afterSeconds: 0.01 }));
    await clock.pass(0.05);
    expect(watch.stats()).toMatchObject({
      requests: 1,
      failures,
      statuses: { [status]: 1 },
      firstFailures: failures === 0 ? [] : [{ atSeconds: 0.01, tookMs: 10, reason: `status ${status}` }],
    });
  });

  test('no answer is a failure with its reason, a defect of ours too; only five are kept', async () => {
    const errors: unknown[] = [refused, new TypeError('x is\nundefined'), 'a text'];
    const { watch, clock } = start((at) => ({ error: errors[Math.round(at * 10)] ?? refused, afterSeconds: 0.05 }));
    await clock.pass(0.95);
    const { firstFailures, ...stats } = watch.stats();
    expect(stats).toMatchObject({ requests: 10, failures: 10, statuses: {}, latencyMs: undefined, seconds: 0.95 });
    expect(stats.longestGapSeconds).toBeCloseTo(0.95);
    expect(firstFailures.map(({ reason }) => reason)).toEqual([
      refused.message,
      'x is undefined',
      'a text',
      refused.message,
      refused.message,
    ]);
  });

  test('a request that broke with the SSH connection says nothing about the URL', async () => {
    const lost = new ConnectError('lost', 'the connection to deploy@server was lost', '');
    const errors = [
      lost,
      new RequestError('closed', 'closed', '', { cause: new Error('reset', { cause: lost }) }),
      new RequestError('refused', 'refused', '', { cause: new ConnectError('refused', 'refused', '') }),
    ];
    const { watch, clock, requests } = start((at) => ({ error: errors[Math.round(at * 10)], afterSeconds: 0.01 }), {
      vantage: 'ssh',
    });
    await clock.pass(0.25);
    expect(watch.stats()).toMatchObject({ requests: 1, failures: 1, cutOff: 2 });
    expect(requests[0]?.dial).toBeDefined();
  });

  test('from the server without a session is a mistake of the caller', () => {
    const { clock } = start(quick);
    const http: Http = { request: () => Promise.reject(refused), reach: () => Promise.reject(refused) };
    expect(() => watchUrl({ url: 'http://127.0.0.1/', vantage: 'ssh' }, { http, clock })).toThrow(TypeError);
  });
});

describe('the longest gap', () => {
  const downFrom =
    (from: number, to: number): Answer =>
    (at) =>
      at >= from && at < to ? { error: refused, afterSeconds: 0.01 } : { status: 200, afterSeconds: 0.01 };

  test.each([
    ['at first', downFrom(0, 0.35), 0.41],
    ['between', downFrom(0.35, 0.65), 0.4],
    ['until now', downFrom(0.65, 9), 0.34],
    ['nowhere', quick, 0.1],
  ])('%s', async (_where, answer, seconds) => {
    const { watch, clock } = start(answer);
    await clock.pass(0.95);
    expect(watch.stats().longestGapSeconds).toBeCloseTo(seconds, 5);
  });

  test('a good answer that comes late ends it, whatever was asked in between', async () => {
    // Asked at 0.1 s and answered at 1.1 s, while all others fail.
    const { watch, clock } = start((at) =>
      Math.abs(at - 0.1) < 0.01 ? { status: 200, afterSeconds: 1 } : { error: refused, afterSeconds: 0.01 },
    );
    await clock.pass(1.5);
    expect(watch.stats().longestGapSeconds).toBeCloseTo(1.1);
  });
});

describe('before the deploy, and since', () => {
  test('begin() parts them: a request belongs to the part in which it ended', async () => {
    const told: [WatchFailure, number][] = [];
    const { watch, clock } = start((at) => ({ status: at < 0.45 ? 503 : 200, afterSeconds: 0.07 }), {
      onFailure: (failure, failures) => told.push([failure, failures]),
    });
    await clock.pass(0.42);
    // Four have ended; the one of 0.4 s is under way, and fails after.
    const before = watch.begin();
    expect(before).toMatchObject({ requests: 4, failures: 4, underWay: 1, statuses: { 503: 4 } });
    expect(told).toEqual([]);
    await clock.pass(0.53);
    const since = watch.stats();
    expect(since).toMatchObject({ requests: 5, failures: 1, statuses: { 200: 4, 503: 1 }, underWay: 1 });
    expect(since.seconds).toBeCloseTo(0.53);
    expect(since.longestGapSeconds).toBeCloseTo(0.57 - 0.42);
    expect(told).toHaveLength(1);
    expect(told[0]?.[0]).toMatchObject({ reason: 'status 503' });
    expect(told[0]?.[0].atSeconds).toBeCloseTo(0.47);
    expect(told[0]?.[1]).toBe(1);
    // Only the first call draws the line.
    expect(watch.begin()).toBe(before);
    expect(watch.stats()).toMatchObject({ failures: 1 });
  });

  test('a deploy can stop at too many', async () => {
    const tooMany = new AbortController();
    const { watch, clock } = start((at) => ({ status: at < 0.95 ? 200 : 502, afterSeconds: 0.01 }), {
      onFailure: (_failure, failures) => {
        if (failures > 3) tooMany.abort();
      },
    });
    await clock.pass(0.95);
    expect(judgeBaseline(watch.begin()).ok).toBe(true);
    await clock.pass(0.3);
    expect(tooMany.signal.aborted).toBe(false);
    await clock.pass(0.1);
    expect(tooMany.signal.aborted).toBe(true);
  });

  test('ready: from the first answer on, be it a failure', async () => {
    const { watch, clock } = start(() => ({ error: refused, afterSeconds: 0.3 }));
    let isReady = false;
    void watch.ready.then(() => (isReady = true));
    await clock.pass(0.29);
    expect(isReady).toBe(false);
    await clock.pass(0.02);
    expect(isReady).toBe(true);
  });

  test('a baseline is judged', async () => {
    const judge = async (answer: Answer, seconds: number): Promise<unknown> => {
      const { watch, clock } = start(answer);
      await clock.pass(seconds);
      return judgeBaseline(watch.begin());
    };
    expect(await judge(quick, 0.95)).toMatchObject({
      ok: true,
      reason: '10 requests, 0 failed, longest gap 0.10 s, latency p50 10 ms, max 10 ms',
    });
    expect(await judge((at) => ({ status: at < 0.15 ? 503 : 200, afterSeconds: 0.01 }), 0.95)).toMatchObject({
      ok: false,
      reason: '2 of 10 requests failed before the deploy changed anything: status 503',
    });
    // A firewall that drops packets: nothing has failed yet.
    const silent: Answer = () => ({ error: refused, afterSeconds: 10 });
    expect(await judge(silent, 4)).toMatchObject({
      ok: false,
      reason: 'no answer within 4.00 s, before the deploy changed anything',
    });
    expect(await judge(silent, 0.2)).toMatchObject({ ok: true });
  });
});

describe('the end', () => {
  test('stop() waits for those under way, but not for long', async () => {
    const { watch, clock, asked, requests } = start((at) => ({ status: 200, afterSeconds: at < 0.25 ? 0.5 : 5 }));
    await clock.pass(0.45);
    const stopping = watch.stop();
    await clock.pass(0.9);
    expect(asked).toHaveLength(5);
    await clock.pass(0.2);
    const stats = await stopping;
    expect(stats).toMatchObject({ requests: 3, failures: 0, cutOff: 2, underWay: 0 });
    // The time in which nothing was asked any more is no gap.
    expect(stats.seconds).toBeCloseTo(0.45);
    expect(stats.longestGapSeconds).toBeCloseTo(0.45);
    expect(requests.every(({ signal }) => signal?.aborted)).toBe(true);
    await clock.pass(10);
    expect(watch.stats()).toEqual(stats);
    expect(await watch.stop()).toEqual(stats);
    expect(asked).toHaveLength(5);
  });

  test('stop() comes back as soon as nothing is under way', async () => {
    const { watch, clock } = start(quick);
    await clock.pass(0.15);
    expect(await watch.stop()).toMatchObject({ requests: 2, cutOff: 0 });
    // A timer that is left would hold up the end of the action.
    await settle();
    expect(clock.sleepers).toBe(0);
  });

  test('a cancelled workflow ends it at once', async () => {
    const cancelled = new AbortController();
    const { watch, clock, asked } = start(() => ({ status: 200, afterSeconds: 0.25 }), {}, cancelled.signal);
    await clock.pass(0.44);
    cancelled.abort();
    await watch.ready;
    expect(watch.stats()).toMatchObject({ requests: 2, failures: 0, cutOff: 3, underWay: 0 });
    await clock.pass(5);
    expect(asked).toHaveLength(5);
    expect(await watch.stop()).toMatchObject({ requests: 2, failures: 0, cutOff: 3 });
  });

  test('one that was cancelled before makes no request', async () => {
    const { watch, clock, asked } = start(quick, {}, AbortSignal.abort());
    await watch.ready;
    await clock.pass(1);
    expect(asked).toEqual([]);
    expect(describeWatch(await watch.stop())).toBe('no requests');
  });
});

test('whatever is answered, the account adds up', async () => {
  const outcomes = fc.array(
    fc.record({
      status: fc.constantFrom(200, 302, 404, 503, undefined),
      afterSeconds: fc.double({ min: 0, max: 3, noNaN: true }),
    }),
    { minLength: 1, maxLength: 20 },
  );
  await fc.assert(
    fc.asyncProperty(outcomes, fc.double({ min: 0, max: 2, noNaN: true }), async (answers, beginSeconds) => {
      const { watch, clock, asked } = start(
        (at) => {
          const { status, afterSeconds } = answers[Math.round(at * 10) % answers.length] ?? { afterSeconds: 0 };
          return status === undefined ? { error: refused, afterSeconds } : { status, afterSeconds };
        },
        { maxUnderWay: 8 },
      );
      await clock.pass(beginSeconds);
      const before = watch.begin();
      await clock.pass(2);
      const stopping = watch.stop();
      await clock.pass(1);
      const since = await stopping;
      expect(before.requests + since.requests + since.cutOff).toBe(asked.length);
      for (const part of [before, since]) {
        const good = (part.statuses['200'] ?? 0) + (part.statuses['302'] ?? 0);
        expect(part.requests - part.failures).toBe(good);
        expect(part.longestGapSeconds).toBeLessThanOrEqual(part.seconds + 1e-9);
        if (part.latencyMs !== undefined) {
          expect(part.latencyMs.p50).toBeLessThanOrEqual(part.latencyMs.p95);
          expect(part.latencyMs.p95).toBeLessThanOrEqual(part.latencyMs.max);
        }
      }
    }),
    { numRuns: 60 },
  );
});

describe('the input', () => {
  test.each([
    ['https://example.com', 'https://example.com/', 'runner'],
    ['  http://example.com:8080/health?deep=1#top ', 'http://example.com:8080/health?deep=1', 'runner'],
    ['HTTPS://EXAMPLE.com/a', 'https://example.com/a', 'runner'],
    ['ssh+http://127.0.0.1:8080/health', 'http://127.0.0.1:8080/health', 'ssh'],
    ['ssh+https://[::1]:8443/', 'https://[::1]:8443/', 'ssh'],
    ["https://example.com/$(id)'`;|", "https://example.com/$(id)'%60;|", 'runner'],
  ])('%s', (text, url, vantage) => {
    expect(parseWatchUrl(text)).toEqual({ value: { url, vantage } });
  });

  test.each([
    ['', 'is not one http or https URL'],
    ['example.com', 'is not one http or https URL'],
    ['tcp://example.com:80', 'is not one http or https URL'],
    ['ftp://example.com', 'is not one http or https URL'],
    ['https://a.example https://b.example', 'is not one http or https URL'],
    ['https://a.example 200', 'is not one http or https URL'],
    ['https://a.example\nhttps://b.example', 'is not one http or https URL'],
    ['- https://a.example', 'is not one http or https URL'],
    ['# https://a.example', 'is not one http or https URL'],
    ['https://', 'is not one http or https URL'],
    ['https://?', '`https://?` is not an http or https URL'],
    ['ssh+https://exa mple', 'is not one http or https URL'],
    ['https://example.com:0/', 'has port 0'],
    ['https://example.com:99999/', 'is not an http or https URL'],
  ])('%j is refused', (text, problem) => {
    const parsed = parseWatchUrl(text);
    expect('problem' in parsed ? parsed.problem : parsed).toContain(problem);
    expect(JSON.stringify(parsed)).not.toContain('check 1');
  });

  test.each(['https://user:hunter2@example.com/', 'user:hunter2@example.com', 'https://u:hunter2@example.com/ x'])(
    'a password is not repeated: %s',
    (text) => {
      const parsed = parseWatchUrl(text);
      expect(parsed).toHaveProperty('problem');
      expect(JSON.stringify(parsed)).not.toContain('hunter2');
    },
  );

  test('any text is a URL or a problem', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.webUrl(),
          fc.string().map((text) => `ssh+http://${text}`),
        ),
        (text) => {
          const parsed = parseWatchUrl(text);
          if ('value' in parsed) expect(parsed.value.url).toMatch(/^https?:\/\/[^\s]+$/);
          else expect(parsed.problem).not.toBe('');
        },
      ),
    );
  });
});

test('a line for people', async () => {
  const { watch, clock } = start((at) => ({ status: 200, afterSeconds: at < 0.05 ? 0.041 : 0.0031 }));
  await clock.pass(31.15);
  expect(describeWatch(await watch.stop())).toBe(
    '312 requests, 0 failed, longest gap 0.10 s, latency p50 3 ms, max 41 ms',
  );
  const bad = start((at) => ({ status: at < 0.15 ? 200 : 503, afterSeconds: at < 0.85 ? 0.01 : 9 }));
  await bad.clock.pass(0.95);
  const stopping = bad.watch.stop();
  await bad.clock.pass(1);
  expect(describeWatch(await stopping)).toBe(
    '9 requests, 7 failed (the first after 0.21 s: status 503), longest gap 0.84 s, latency p50 10 ms, max 10 ms, 1 broken off unanswered',
  );
});
