/** A service behind a router, as its visitors see it while releases come and go: no request is lost. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { jest } from '@jest/globals';
import { type Load, type LoadReport, renderReport, runLoad } from '../load/index.ts';
import type { ActionRun } from './harness/index.ts';
import {
  appImage,
  asDeploy,
  type Checkout,
  deploy,
  errorsOf,
  freshServer,
  get,
  idsOf,
  onServer,
  planOf,
  projectFiles,
  publishApp,
  rebootServer,
  removeCheckouts,
  restorable,
  serverState,
  startSandbox,
  theServer,
  RELEASES,
  untilSettled,
} from './sandbox.ts';
import { ROUTER_SITE } from './router-site.ts';

jest.setTimeout(150_000);

let checkout: Checkout;

interface Settings {
  readonly replicas?: number;
  /** Of the service `app`, merged into it. */
  readonly app?: object;
}

function compose(tag: string, { replicas = 1, app = {} }: Settings = {}): string {
  return JSON.stringify({
    name: 'shop',
    services: {
      web: {
        image: 'nginx:1.30',
        ports: ['8080:80'],
        restart: 'unless-stopped',
        volumes: ['./nginx:/etc/nginx/conf.d:ro'],
      },
      app: {
        image: appImage(tag),
        restart: 'unless-stopped',
        'x-slipway': { router: 'web', port: 3000 },
        ...app,
        deploy: { replicas, ...(app as { deploy?: object }).deploy },
      },
    },
  });
}

async function tryDeploy(
  tag: string,
  settings: Settings = {},
  inputs: Record<string, string> = {},
): Promise<ActionRun> {
  await checkout.write({ 'compose.yaml': compose(tag, settings) });
  return deploy(checkout, { files: 'nginx', ...inputs });
}

async function mustServe(
  tag: string,
  settings: Settings = {},
  inputs: Record<string, string> = {},
): Promise<ActionRun> {
  const run = await tryDeploy(tag, settings, inputs);
  if (run.outcome !== 'success') throw new Error(`the deploy ended with ${run.outcome}:\n${run.log}`);
  return run;
}

interface Loaded {
  readonly run: ActionRun;
  /** Quick requests, 200 a second. */
  readonly quick: LoadReport;
  /** Requests of two seconds: some are under way at every moment. */
  readonly slow: LoadReport;
  /** When the deploy had returned and the server had nothing left to do, on the clock of `quick`. */
  readonly settledSeconds: number;
}

/** A deploy under load, from a second before it to a second after it. */
async function underLoad(work: () => Promise<ActionRun>): Promise<Loaded> {
  const url = `http://${theServer().address}:8080`;
  const release = { pattern: '^[\\w-]+$' };
  const loads: Load[] = [
    await runLoad({ url: `${url}/`, release }),
    await runLoad({ url: `${url}/slow`, release, ratePerSecond: 5, idleConnections: 0, keepAliveConnections: 2 }),
  ];
  const pause = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 1000));
  try {
    await pause();
    const run = await work();
    // Idle connections are served by the old replicas for a while longer than the step lasts.
    await untilSettled(30);
    const settledSeconds = loads[0]?.elapsedSeconds() ?? 0;
    await pause();
    const [quick, slow] = await Promise.all(loads.map((load) => load.stop()));
    if (quick === undefined || slow === undefined) throw new Error('there are two loads');
    return { run, quick, slow, settledSeconds };
  } finally {
    await Promise.all(loads.map((load) => load.stop()));
  }
}

/** Not one request failed; and it was a load worth the name. */
function expectNoneLost({ quick, slow, run }: Loaded): void {
  for (const report of [quick, slow]) {
    if (report.failed > 0) throw new Error(`${report.failed} requests were lost:\n${renderReport(report)}\n${run.log}`);
    expect(report.cutOff).toBe(0);
  }
  expect(quick.requests).toBeGreaterThan(100 * quick.seconds);
  expect(quick.byConnection.new.requests).toBeGreaterThan(40 * quick.seconds);
  expect(quick.byConnection.keepAlive.requests).toBeGreaterThan(40 * quick.seconds);
  expect(slow.requests).toBeGreaterThan(2 * slow.seconds);
  // A visitor may wait for an answer; not for the deploy.
  expect(quick.longestGapSeconds).toBeLessThan(2);
}

const seen = (report: LoadReport): string[] => report.releases.map((release) => release.value);

/** Each id once, of the containers that answer. */
async function askReplicas(): Promise<string[]> {
  const hosts = new Set<string>();
  for (let asked = 0; asked < 40; asked++) hosts.add(await get(8080, '/host'));
  return [...hosts].sort();
}

/** Everything that runs of the service, by its short id, which is also its host name. */
async function replicas(): Promise<string[]> {
  return idsOf(await serverState(), 'app')
    .map((id) => id.slice(0, 12))
    .sort();
}

/** Asks until the answer is the wanted one; a router that starts needs a moment. */
async function untilServed(wanted: string): Promise<void> {
  const until = performance.now() + 20_000;
  for (;;) {
    const answer = await get(8080);
    if (answer === wanted) return;
    if (performance.now() > until) throw new Error(`after 20 s the answer is ${answer}, not ${wanted}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

beforeAll(async () => {
  await startSandbox();
  const releases = { ...RELEASES, breaking: ['TEST_BREAK_AFTER_SECONDS=2'] };
  for (const [release, env] of Object.entries(releases)) await publishApp(release, env);
  await freshServer();
  checkout = await projectFiles({ 'compose.yaml': compose('v1'), 'nginx/site.conf': ROUTER_SITE });
  await mustServe('v1');
  // Both are there: what is measured is the switch.
  await onServer(`docker pull -q ${appImage('v2')}`);
});

afterAll(removeCheckouts);

describe('a new release', () => {
  test.each([
    { replicas: 1, bake: '0' },
    { replicas: 3, bake: '3s' },
    { replicas: 3, bake: '0' },
    { replicas: 1, bake: '3s' },
  ])(
    '$replicas replicas, bake-time $bake: there and back, and no request is lost',
    async ({ replicas: count, bake }) => {
      await mustServe('v1', { replicas: count });
      for (const [from, to] of [
        ['v1', 'v2'],
        ['v2', 'v1'],
      ] as const) {
        const before = await serverState();
        const loaded = await underLoad(() => mustServe(to, { replicas: count }, { 'bake-time': bake }));
        expectNoneLost(loaded);
        const { run, quick, slow, settledSeconds } = loaded;
        expect(planOf(run)['app']).toMatchObject({ action: 'replace' });
        expect(run.log).toContain('replace without an outage');
        // One after the other; and when the deploy says that it is live, nothing of the old one answers any more.
        expect(seen(quick)).toEqual([from, to]);
        expect(quick.releases[0]?.lastSeenSeconds).toBeLessThan(settledSeconds);
        expect(seen(slow)).toContain(to);
        const after = await serverState();
        expect(idsOf(after, 'web')).toEqual(idsOf(before, 'web'));
        expect(idsOf(after, 'app')).toHaveLength(count);
        expect(idsOf(after, 'app').filter((id) => idsOf(before, 'app').includes(id))).toEqual([]);
        expect(await askReplicas()).toEqual(await replicas());
      }
    },
  );

  test('replicas come and go, and no request is lost', async () => {
    await mustServe('v1');
    const [first = ''] = await replicas();
    const more = await underLoad(() => mustServe('v1', { replicas: 3 }));
    expectNoneLost(more);
    expect(planOf(more.run)['app']).toMatchObject({ action: 'scale' });
    expect(await replicas()).toHaveLength(3);
    expect(await replicas()).toContain(first);
    expect(await askReplicas()).toEqual(await replicas());
    const fewer = await underLoad(() => mustServe('v1'));
    expectNoneLost(fewer);
    expect(await replicas()).toEqual([first]);
    expect(await askReplicas()).toEqual([first]);
  });

  test('afterwards: restarts, a plain `docker compose up -d`, and a reboot', async () => {
    await mustServe('v1', { replicas: 2 });
    await mustServe('v2', { replicas: 2 });
    const before = await serverState();
    await asDeploy('cd apps/shop && docker compose up -d');
    expect((await serverState()).containers).toEqual(before.containers);
    await onServer('docker restart -t 2 $(docker ps -q --filter label=com.docker.compose.service=web)');
    await untilServed('v2');
    // They come back with other addresses.
    await onServer(
      'ids=$(docker ps -q --filter label=com.docker.compose.service=app); docker stop -t 1 $ids; docker run -d --rm --network shop_default --name squatter busybox:1 sleep 60; docker start $ids',
    );
    await untilServed('v2');
    await onServer('docker rm -f squatter');
    await rebootServer();
    await untilServed('v2');
    expect(await askReplicas()).toEqual(await replicas());
    const after = await serverState();
    for (const service of ['app', 'web']) expect(idsOf(after, service)).toEqual(idsOf(before, service));
    expect(after.containers.map(({ state }) => state)).toEqual(['running', 'running', 'running']);
    const loaded = await underLoad(() => mustServe('v1', { replicas: 2 }));
    expectNoneLost(loaded);
  });
});

describe('a release that fails', () => {
  beforeAll(() => mustServe('v1'));

  test.each<[string, string, Settings, Record<string, string>, RegExp]>([
    ['never healthy', 'unhealthy', {}, {}, /is unhealthy/],
    [
      'not ready in time',
      'unhealthy',
      { app: { healthcheck: { start_period: '60s' } } },
      { timeout: '3' },
      /not ready within 3/,
    ],
    ['a crash', 'crash', {}, {}, /ended with exit code 3/],
    [
      'a crash within the monitor time',
      'crash-later',
      { app: { deploy: { update_config: { monitor: '8s' } } } },
      {},
      /after it had become ready/,
    ],
    ['too much memory', 'hungry', { app: { mem_limit: '96m', memswap_limit: '96m' } }, {}, /OOM/],
    ['no such program', 'v2', { app: { entrypoint: ['/no/such/program'] } }, {}, /\/no\/such\/program/],
  ])('%s: put back, and no request is lost', async (_what, tag, settings, inputs, message) => {
    const before = await serverState();
    const loaded = await underLoad(() => tryDeploy(tag, settings, inputs));
    expect(loaded.run.outputs['result']).toBe('reverted');
    expect(errorsOf(loaded.run)).toEqual([expect.stringMatching(message)]);
    expectNoneLost(loaded);
    // No visitor has met it.
    expect(seen(loaded.quick)).toEqual(['v1']);
    // The old ones have not been touched: the very same containers.
    const after = await serverState();
    expect(idsOf(after, 'app')).toEqual(idsOf(before, 'app'));
    expect(restorable(after)).toEqual(restorable(before));
  });

  test('an e2e-command sees the new release through the router; when it fails, the old one is back, and no request is lost', async () => {
    const before = await serverState();
    const ask = `fetch("http://${theServer().address}:8080/").then(async (answer) => require("fs").writeFileSync("seen", await answer.text()))`;
    const loaded = await underLoad(() =>
      tryDeploy(
        'v2',
        { replicas: 2 },
        { 'e2e-command': `runner: '${process.execPath}' -e '${ask}' && sleep 1 && exit 3` },
      ),
    );
    expect(loaded.run.outputs['result']).toBe('reverted');
    expect(errorsOf(loaded.run)).toEqual([expect.stringMatching(/e2e-command: .*exit code 3/s)]);
    expectNoneLost(loaded);
    expect(await readFile(join(checkout.folder, 'seen'), 'utf8')).toBe('v2');
    expect(seen(loaded.quick)).toEqual(['v1', 'v2']);
    const v2 = loaded.quick.releases.find(({ value }) => value === 'v2');
    expect(v2?.lastSeenSeconds).toBeLessThan(loaded.settledSeconds);
    expect(await askReplicas()).toEqual(await replicas());
    expect(restorable(await serverState())).toEqual(restorable(before));
  });
});

describe('watch-url', () => {
  beforeAll(() => mustServe('v1'));

  const watchOf = (run: ActionRun): { requests: number; failures: number } =>
    JSON.parse(run.outputs['watch'] ?? '{}') as { requests: number; failures: number };

  test('a release that starts to fail while it bakes is put back', async () => {
    const before = await serverState();
    const url = `http://${theServer().address}:8080/`;
    const run = await tryDeploy('breaking', {}, { 'watch-url': url, 'max-failed-requests': '3', 'bake-time': '60s' });
    expect(run.outputs['result']).toBe('reverted');
    expect(errorsOf(run)).toEqual([
      expect.stringMatching(/4 requests to http:\S+ failed during the deploy \(input max-failed-requests allows 3\)/),
    ]);
    expect(run.durationMs).toBeLessThan(45_000);
    expect(watchOf(run).failures).toBeGreaterThan(3);
    expect(run.summary).toMatch(/^Watched http:.*\d+ failed/m);
    expect(await get(8080)).toBe('v1');
    expect(restorable(await serverState())).toEqual(restorable(before));
  });

  test('one that failed before is no reason to go back; one that does not fail has nothing to report', async () => {
    const broken = await mustServe('v2', {}, { 'watch-url': 'ssh+http://127.0.0.1:8080/broken' });
    expect(broken.outputs['result']).toBe('deployed');
    expect(watchOf(broken).failures).toBeGreaterThan(0);
    expect(broken.annotations.map(({ type, message }) => `${type}: ${message}`)).toEqual([
      expect.stringMatching(/^warning: watch-url: .*no reason to go back/),
    ]);
    const well = await mustServe('v1', {}, { 'watch-url': 'ssh+http://127.0.0.1:8080/' });
    expect(watchOf(well)).toMatchObject({ failures: 0 });
    expect(watchOf(well).requests).toBeGreaterThan(5);
    expect(well.annotations).toEqual([]);
  });
});
