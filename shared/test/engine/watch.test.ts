import type { WatchTarget } from '../../src/probes/watch-url';
import type { HttpResponse } from '../../src/ports';
import { FakeReporter } from '../fakes/reporter';
import { FakeSession } from '../fakes/session';
import type { Transaction } from '../../src/engine/transaction';
import { createReport, type TransactionReport } from '../../src/engine/report';
import { beginWatch, type WatchedUrl } from '../../src/engine/watch';

const URL_WATCHED: WatchTarget = { url: 'https://shop.example/', vantage: 'runner' };

/** A real clock, and a server whose answers the test changes. */
function scene(maxFailedRequests: number): {
  site: { status: number; requests: number };
  report: TransactionReport;
  reporter: FakeReporter;
  watched: WatchedUrl | undefined;
} {
  const site = { status: 200, requests: 0 };
  const reporter = new FakeReporter();
  const report = createReport('deploy');
  const transaction = {
    task: 'deploy',
    inputs: { watch: URL_WATCHED, maxFailedRequests },
    session: new FakeSession(),
    report,
    ports: {
      reporter,
      clock: {
        now: () => new Date(),
        monotonicMs: () => performance.now(),
        sleep: (seconds: number, signal?: AbortSignal) =>
          new Promise<void>((resolve, reject) => {
            const timer = setTimeout(resolve, seconds * 1000);
            signal?.addEventListener('abort', () => {
              clearTimeout(timer);
              reject(new Error('aborted'));
            });
          }),
      },
      http: {
        request: (): Promise<HttpResponse> => {
          site.requests++;
          return Promise.resolve({
            status: site.status,
            headers: {},
            body: '',
            truncated: false,
            latencyMs: 1,
            certificate: undefined,
          });
        },
        reach: () => Promise.reject(new Error('not expected')),
      },
    },
  } as unknown as Transaction;
  const watched = beginWatch(transaction);
  if (watched !== undefined) watches.push(watched);
  return { site, report, reporter, watched };
}

/** What a failed test leaves would go on for ever. */
const watches: WatchedUrl[] = [];

afterEach(async () => {
  for (const watched of watches.splice(0)) await watched.stop();
});

function need(watched: WatchedUrl | undefined): WatchedUrl {
  if (watched === undefined) throw new Error('nothing is watched');
  return watched;
}

async function until(condition: () => boolean): Promise<void> {
  for (const startedMs = performance.now(); !condition();) {
    if (performance.now() - startedMs > 10_000) throw new Error('waited 10 s in vain');
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

test('nothing, where nothing is asked for', () => {
  expect(beginWatch({ inputs: { watch: undefined, maxFailedRequests: 0 } } as unknown as Transaction)).toBeUndefined();
});

test('the first failure is one too many, and says which it was', async () => {
  const { site, watched } = scene(0);
  const watch = need(watched);
  await until(() => site.requests > 0);
  await watch.begin();
  expect(watch.failing.aborted).toBe(false);
  site.status = 502;
  await until(() => watch.failing.aborted);
  expect(watch.failing.reason).toMatchObject({
    name: 'ReleaseError',
    message: '1 request to https://shop.example/ failed during the deploy: status 502',
  });
  const { url, text, stats } = await watch.stop();
  expect(url).toBe('https://shop.example/');
  expect(stats.failures).toBeGreaterThan(0);
  expect(text).toContain(String(stats.requests));
});

test('as many failures as the input allows are no reason to go back, one more is', async () => {
  const { site, watched } = scene(2);
  const watch = need(watched);
  await until(() => site.requests > 0);
  await watch.begin();
  site.status = 503;
  const before = site.requests;
  await until(() => watch.failing.aborted);
  expect(site.requests - before).toBeGreaterThanOrEqual(3);
  expect((watch.failing.reason as Error).message).toBe(
    '3 requests to https://shop.example/ failed during the deploy (input max-failed-requests allows 2): status 503',
  );
  await watch.stop();
});

test('where it failed before the deploy, a warning once, and nothing is blamed on the deploy', async () => {
  const { site, watched, reporter, report } = scene(0);
  site.status = 500;
  const watch = need(watched);
  await until(() => site.requests > 2);
  await watch.begin();
  const before = site.requests;
  await until(() => site.requests > before + 2);
  expect(watch.failing.aborted).toBe(false);
  expect(report.warnings).toEqual([expect.stringMatching(/^watch-url: .*no reason to go back\.$/) as string]);
  expect(reporter.shown).toHaveLength(1);
  expect((await watch.stop()).stats.failures).toBeGreaterThan(0);
});
