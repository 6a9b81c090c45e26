import fc from 'fast-check';
import { CancelledError, RequestError } from '../../src/errors';
import type { TcpCheck } from '../../src/probes/check-model';
import { choosePause, type CheckResult, pollCheck } from '../../src/probes/poll';
import { failed, passed, type Verdict } from '../../src/probes/verdict';
import { FakeClock } from '../fakes/clock';

const check: TcpCheck = {
  kind: 'tcp',
  name: 'db',
  host: 'db',
  port: 5432,
  via: 'runner',
  attempts: 3,
  intervalSeconds: 2,
  timeoutSeconds: 10,
  backoff: 1,
  deadlineSeconds: undefined,
  successes: 1,
};

/** Attempts that go as `outcomes` says, each a second long: `+` passes, `-` fails, `!` throws. */
async function poll(
  outcomes: string,
  more: Partial<TcpCheck> = {},
): Promise<CheckResult & { clock: FakeClock; timeouts: number[] }> {
  const clock = new FakeClock();
  const timeouts: number[] = [];
  const attempt = (timeoutSeconds: number): Promise<Verdict> => {
    const outcome = outcomes[timeouts.length] ?? '-';
    timeouts.push(timeoutSeconds);
    clock.advance(1);
    if (outcome === '!')
      return Promise.reject(new RequestError('refused', 'db:5432 refused the connection', 'Start it.'));
    return Promise.resolve(outcome === '+' ? passed('connected') : failed(`failure ${timeouts.length}`));
  };
  return { ...(await pollCheck({ ...check, ...more }, 'runner', attempt, clock)), clock, timeouts };
}

test('the first success ends it', async () => {
  const result = await poll('+');
  expect(result).toMatchObject({ ok: true, attempts: 1, durationMs: 1000, latenciesMs: [1000], vantage: 'runner' });
  expect(result.clock.sleeps).toEqual([]);
});

test('defaults: 3 attempts, 2 s apart', async () => {
  const result = await poll('---');
  expect(result).toMatchObject({ ok: false, attempts: 3, lastVerdict: { reason: 'failure 3' }, durationMs: 7000 });
  expect(result.clock.sleeps).toEqual([2, 2]);
  expect(await poll('--+')).toMatchObject({ ok: true, attempts: 3 });
});

test('an error of ours is a failed attempt, with its hint', async () => {
  expect(await poll('!!!')).toMatchObject({
    ok: false,
    attempts: 3,
    lastVerdict: { reason: 'db:5432 refused the connection', detail: 'Start it.' },
  });
  expect(await poll('!+')).toMatchObject({ ok: true, attempts: 2 });
});

test('a defect is no verdict', async () => {
  const attempt = (): Promise<Verdict> => Promise.reject(new TypeError('x is not a function'));
  await expect(pollCheck(check, 'runner', attempt, new FakeClock())).rejects.toBeInstanceOf(TypeError);
});

test('backoff makes pauses longer, up to 5 minutes', async () => {
  expect((await poll('', { attempts: 5, backoff: 2 })).clock.sleeps).toEqual([2, 4, 8, 16]);
  expect(choosePause({ ...check, backoff: 10 }, 9)).toBe(300);
  expect(choosePause({ ...check, intervalSeconds: 600, backoff: 2 }, 3)).toBe(600);
});

test('successes in a row', async () => {
  expect(await poll('+-+++', { attempts: 6, successes: 3 })).toMatchObject({ ok: true, attempts: 5 });
});

test('ends as soon as enough in a row have become impossible', async () => {
  expect(await poll('+-+', { attempts: 3, successes: 2 })).toMatchObject({ ok: false, attempts: 2 });
  expect(await poll('+', { attempts: 1, successes: 2 })).toMatchObject({
    ok: false,
    attempts: 1,
    lastVerdict: { ok: false, reason: 'only 1 of 2 successes in a row (1 of 1 attempts made); last: connected' },
  });
  expect(await poll('--', { attempts: 3, successes: 2 })).toMatchObject({ ok: false, attempts: 2 });
});

test('the deadline bounds attempts and pauses', async () => {
  const result = await poll('', { attempts: 100, deadlineSeconds: 8, timeoutSeconds: 5 });
  // Attempts at 0, 3 and 6 s; the next would begin at 9 s.
  expect(result).toMatchObject({ ok: false, attempts: 3 });
  expect(result.timeouts).toEqual([5, 5, 2]);
  expect(await poll('++', { attempts: 9, successes: 3, deadlineSeconds: 3 })).toMatchObject({
    ok: false,
    attempts: 1,
    lastVerdict: { reason: 'only 1 of 3 successes in a row (the deadline of 3 s has come); last: connected' },
  });
});

test('a cancelled workflow is no verdict', async () => {
  const abort = new AbortController();
  const attempt = (): Promise<Verdict> => {
    abort.abort();
    return Promise.resolve(failed('no'));
  };
  await expect(pollCheck(check, 'runner', attempt, new FakeClock(), abort.signal)).rejects.toBeInstanceOf(
    CancelledError,
  );
  const throwing = (): Promise<Verdict> => Promise.reject(new RequestError('closed', 'cut by the abort', ''));
  await expect(pollCheck(check, 'runner', throwing, new FakeClock(), abort.signal)).rejects.toBeInstanceOf(
    CancelledError,
  );
});

test('whatever happens, it ends, within its attempts and its deadline, and passes only on enough in a row', async () => {
  const paces = fc.record({
    attempts: fc.integer({ min: 1, max: 12 }),
    successes: fc.integer({ min: 1, max: 4 }),
    intervalSeconds: fc.integer({ min: 0, max: 5 }),
    backoff: fc.constantFrom(1, 1.5, 2),
    deadlineSeconds: fc.option(fc.integer({ min: 1, max: 30 }), { nil: undefined }),
  });
  await fc.assert(
    fc.asyncProperty(
      paces,
      fc.string({ unit: fc.constantFrom('+', '-', '!'), maxLength: 12 }),
      async (pace, outcomes) => {
        const result = await poll(outcomes, pace);
        const made = outcomes.padEnd(12, '-').slice(0, result.attempts);
        expect(result.attempts).toBeLessThanOrEqual(pace.attempts);
        expect(result.latenciesMs).toHaveLength(result.attempts);
        expect(result.ok).toBe(made.endsWith('+'.repeat(pace.successes)));
        expect(result.lastVerdict.ok).toBe(result.ok);
        if (pace.deadlineSeconds !== undefined)
          expect(result.durationMs).toBeLessThanOrEqual(pace.deadlineSeconds * 1000 + 1000);
      },
    ),
    { numRuns: 2000 },
  );
});
