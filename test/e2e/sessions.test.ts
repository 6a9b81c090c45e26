/** Sessions with one server: two at once, what runs beside a deploy, and connections that do not last. */
import { jest } from '@jest/globals';
import type { ActionRun } from './harness/index.ts';
import {
  appImage,
  type Checkout,
  cutLink,
  deploy,
  type DeployOptions,
  errorsOf,
  freshServer,
  get,
  idsOf,
  joinLink,
  mustDeploy,
  onServer,
  projectFiles,
  publishApp,
  removeCheckouts,
  restorable,
  running,
  serverState,
  startSandbox,
  untilSettled,
} from './sandbox.ts';

jest.setTimeout(150_000);

let checkout: Checkout;

/** `app` is what visitors see; it has the volume, so that a migration has something to write to. */
function compose(tag: string, app: object = {}): string {
  return JSON.stringify({
    name: 'shop',
    services: {
      app: { image: appImage(tag), ports: ['8080:3000'], restart: 'unless-stopped', volumes: ['schema:/data'], ...app },
    },
    volumes: { schema: {} },
  });
}

async function tryDeploy(
  tag: string,
  inputs: Readonly<Record<string, string>> = {},
  options: DeployOptions = {},
  app: object = {},
): Promise<ActionRun> {
  await checkout.write({ 'compose.yaml': compose(tag, app) });
  return deploy(checkout, inputs, options);
}

/** Of one session after the other: `v1` serves. */
async function serve(tag: string): Promise<string> {
  await checkout.write({ 'compose.yaml': compose(tag) });
  const run = await mustDeploy(checkout);
  return run.outputs['release'] ?? 'none';
}

const pause = (seconds: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

beforeAll(async () => {
  await startSandbox();
  for (const release of ['v1', 'v2', 'v3']) await publishApp(release);
  await publishApp('unhealthy', ['TEST_UNHEALTHY=true']);
  await freshServer();
  checkout = await projectFiles({});
  await serve('v1');
});

afterEach(joinLink);

afterAll(removeCheckouts);

describe('two at once', () => {
  let first: Promise<ActionRun>;
  let live = Infinity;
  let mine: Checkout;

  /** It serves, and waits for a file before it is final. */
  beforeAll(async () => {
    mine = await projectFiles({ 'compose.yaml': compose('v2') });
    const waiting = Promise.withResolvers<undefined>();
    first = mustDeploy(
      mine,
      { 'e2e-command': 'runner: echo holding; until [ -e go ]; do sleep 0.1; done' },
      {
        onEntry: (entry) => {
          if (entry.text.trim() === 'holding') waiting.resolve(undefined);
          if (entry.text.includes(' is live on ')) live = performance.now();
        },
      },
    );
    await Promise.race([waiting.promise, first]);
  });

  const HOLDER =
    /deploy by octocat https:\/\/github\.com\/octocat\/hello-world\/actions\/runs\/4242424242 since \d{4}-\d\d-\d\dT[\d:.]+Z/;

  test('`lock-wait` runs out: it says who is at work, and nothing was changed', async () => {
    const before = await serverState();
    const run = await tryDeploy('v3', { 'lock-wait': '2' });
    expect(run.outcome).toBe('failure');
    expect(run.outputs['result']).toBe('refused');
    expect(errorsOf(run)).toEqual([expect.stringMatching(HOLDER)]);
    expect(errorsOf(run)[0]).toMatch(/Nothing was changed\. We waited 2 s \(input lock-wait\)/);
    expect(run.post?.log).not.toMatch(/interrupted/);
    expect(await serverState()).toEqual(before);
  });

  test('a waiting one is cancelled: nothing was changed', async () => {
    const before = await serverState();
    const run = await tryDeploy('v3', {}, { cancelAfter: /^Waiting for another session/ });
    expect(run.outcome).toBe('cancelled');
    expect(run.outputs['result']).toBe('refused');
    expect(run.signals.map(({ signal }) => signal)).toEqual(['SIGINT']);
    // Beside the runner's own word.
    expect(errorsOf(run)).toContainEqual(
      expect.stringMatching(/cancelled while it waited .*lock.*Nothing was changed/s),
    );
    expect(await serverState()).toEqual(before);
  });

  test('the second is told who is at work, waits, and goes on from there: with what its tags are by then', async () => {
    let acted = 0;
    let moved = Promise.resolve('');
    await publishApp('v4');
    const second = tryDeploy(
      'v4',
      {},
      {
        github: { triggering_actor: 'hubot', run_id: '77' },
        onEntry: (entry) => {
          if (entry.text.startsWith('Waiting for')) {
            moved = publishApp('v4', ['TAG_HAS_MOVED=true']);
            void moved.then(() => mine.write({ go: '' }));
          }
          if (entry.text.startsWith('- create')) acted = performance.now();
        },
      },
    );
    const run = await second;
    expect(run.outcome).toBe('success');
    expect(run.log).toMatch(new RegExp(`^Waiting for another session on this project: ${HOLDER.source}$`, 'm'));
    const done = await first;
    expect(done.outputs['result']).toBe('deployed');
    expect(acted).toBeGreaterThan(live);
    expect(run.outputs['previous-release']).toBe(done.outputs['release']);
    expect(await get(8080)).toBe('v4');
    expect(await onServer(`docker ps --no-trunc --format '{{.Image}}'`)).toContain(await moved);
  });
});

describe('migrate', () => {
  const migrate = (script: string): Record<string, string> => ({ migrate: `app: sh -c '${script}'` });
  const schema = async (): Promise<string> =>
    onServer('cat /var/lib/docker/volumes/shop_schema/_data/log 2>/dev/null || true');

  test('it runs in the new image, before the old one is stopped, and its output is shown', async () => {
    await serve('v1');
    const run = await tryDeploy('v2', migrate('echo schema of $RELEASE_ID >>/data/log; echo it is done'));
    expect(run.outputs['result']).toBe('deployed');
    expect(await schema()).toBe('schema of v2\n');
    expect(run.log).toContain('it is done');
    const lines = run.log.split('\n').filter((line) => line.startsWith('- '));
    const at = (start: string): number => lines.findIndex((line) => line.startsWith(start));
    expect(at('- migrate')).toBeGreaterThan(-1);
    expect(at('- migrate')).toBeLessThan(at('- stop app'));
    // Of the migration's container nothing is left.
    expect((await serverState()).containers).toHaveLength(1);
  });

  test('one that fails ends the deploy, and the old release was not touched', async () => {
    const before = await serverState();
    const started = await onServer(`docker inspect -f {{.State.StartedAt}} ${running('app')}`);
    const run = await tryDeploy('v3', migrate('echo column is missing >&2; exit 4'));
    expect(run.outputs['result']).toBe('reverted');
    expect(errorsOf(run)).toEqual([expect.stringMatching(/exit code 4.*column is missing/s)]);
    expect(errorsOf(run)[0]).not.toMatch(/schema is ahead/);
    expect(restorable(await serverState())).toEqual(restorable(before));
    expect(await onServer(`docker inspect -f {{.State.StartedAt}} ${running('app')}`)).toBe(started);
  });

  test('a release that fails after it: that the schema is ahead is said', async () => {
    const before = await serverState();
    const run = await tryDeploy('unhealthy', migrate('echo more >>/data/log'));
    expect(run.outputs['result']).toBe('reverted');
    expect(errorsOf(run)).toEqual([
      expect.stringMatching(new RegExp(`the schema is ahead of release ${run.outputs['previous-release'] ?? 'none'}`)),
    ]);
    expect(await schema()).toMatch(/\nmore\n$/);
    expect(idsOf(await serverState(), 'app')).toEqual(idsOf(before, 'app'));
  });

  test('the runner is lost in the middle of it: it is not cut off, and then the deploy is undone', async () => {
    const before = await serverState();
    const run = await tryDeploy('v3', migrate('echo begun; sleep 4; echo to its end >>/data/log'), {
      loseAfter: /begun/,
    });
    expect(run.outcome).toBe('lost');
    await untilSettled(20);
    expect(await schema()).toMatch(/\nto its end\n$/);
    expect(restorable(await serverState())).toEqual(restorable(before));
    expect(await get(8080)).toBe('v2');
  });
});

describe('e2e-command', () => {
  test('in a container of the new release: its failure puts the old one back', async () => {
    const before = await serverState();
    const run = await tryDeploy('v3', { 'e2e-command': `app: sh -c 'echo asked $RELEASE_ID; exit 9'` });
    expect(run.outputs['result']).toBe('reverted');
    expect(run.log).toContain('asked v3');
    expect(errorsOf(run)).toEqual([expect.stringMatching(/e2e-command: .*exit code 9/s)]);
    expect(restorable(await serverState())).toEqual(restorable(before));
    expect(idsOf(await serverState(), 'app')).toEqual(idsOf(before, 'app'));
  });

  test('on the runner, in the workspace, while the new release serves', async () => {
    await checkout.write({ 'test.sh': '#!/bin/sh\necho "from $PWD"\necho "$1"\n' });
    const run = await tryDeploy('v3', { 'e2e-command': `runner: ./test.sh 'as it is'` });
    expect(run.outputs['result']).toBe('deployed');
    expect(run.log).toContain(`from ${checkout.folder}`);
    expect(run.log).toContain('as it is');
    expect(await get(8080)).toBe('v3');
  });
});

describe('a connection that does not last', () => {
  const STARTING = { healthcheck: { start_period: '300s' } };

  test('SIGKILL after the commit: the post step says that the release is live', async () => {
    const run = await tryDeploy('v1', {}, { killAfter: /^- committed/ });
    expect(run.exitCode).toBe(137);
    expect(run.post?.outcome).toBe('success');
    await untilSettled(20);
    expect(await get(8080)).toBe('v1');
    expect((await serverState()).containers).toHaveLength(1);
  });

  test('the link is cut for 20 s, longer than the lease: the server goes back by itself, and the step tells so', async () => {
    const before = await serverState();
    let during = '';
    const link = Promise.withResolvers<undefined>();
    const cut = async (): Promise<void> => {
      await cutLink();
      // The lease, the way back, and some patience with a busy machine.
      await pause(16);
      during = await onServer(`docker inspect -f {{.Config.Image}} ${running('app')}`);
      await pause(4);
      await joinLink();
    };
    const run = await tryDeploy(
      'unhealthy',
      { lease: '10' },
      {
        onEntry: (entry) => {
          if (/^- start app/.test(entry.text))
            cut().then(() => {
              link.resolve(undefined);
            }, link.reject);
        },
      },
      STARTING,
    );
    await link.promise;
    expect(during).toMatch(/app:v1@/);
    expect(run.outputs).toMatchObject({ result: 'reverted', release: run.outputs['previous-release'] });
    expect(errorsOf(run)).toHaveLength(1);
    expect(errorsOf(run)[0]).toMatch(/failed: The connection to deploy@[\d.]+ was lost/);
    expect(errorsOf(run)[0]).toMatch(new RegExp(`was undone: release ${run.outputs['previous-release'] ?? ''} serves`));
    expect(run.post?.outcome).toBe('success');
    expect(restorable(await serverState())).toEqual(restorable(before));
    expect(idsOf(await serverState(), 'app')).toEqual(idsOf(before, 'app'));
  });

  test('the link stays away: what became of it is not known, and is not made up; the post step asks again', async () => {
    const before = await serverState();
    const run = await tryDeploy(
      'unhealthy',
      { lease: '10' },
      {
        limitSeconds: 240,
        onEntry: (entry) => {
          if (/^- start app/.test(entry.text)) void cutLink();
          if (entry.kind === 'error') void joinLink();
        },
      },
      STARTING,
    );
    expect(run.outcome).toBe('failure');
    expect(run.outputs).toMatchObject({ result: 'unknown', release: '' });
    expect(errorsOf(run)).toEqual([expect.stringMatching(/what became of it cannot be asked/)]);
    expect(run.summary).toContain('### UNKNOWN');
    expect(run.post?.log).toMatch(/was undone: release \S+ serves/);
    expect(restorable(await serverState())).toEqual(restorable(before));
  }, 300_000);
});
