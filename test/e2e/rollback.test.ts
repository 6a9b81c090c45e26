/** Going back to a kept release: whole, with the registry switched off, without a lost request, and only where it is safe. */
import { jest } from '@jest/globals';
import { type LoadReport, renderReport, runLoad } from '../load/index.ts';
import type { ActionRun } from './harness/index.ts';
import {
  appImage,
  asDeploy,
  type Checkout,
  errorsOf,
  freshServer,
  get,
  mustDeploy,
  onServer,
  planOf,
  projectFiles,
  publishApp,
  removeCheckouts,
  rollBack,
  serverState,
  startRegistry,
  startSandbox,
  stopRegistry,
  theServer,
} from './sandbox.ts';
import { ROUTER_SITE } from './router-site.ts';

jest.setTimeout(200_000);

const STORE = '/home/deploy/apps/shop/.slipway';
let checkout: Checkout;

function compose(tag: string, setting: string): string {
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
        environment: { SETTING: `${setting} \${TOKEN}` },
        volumes: ['./config:/config:ro'],
      },
      state: {
        image: 'busybox:1',
        command: ['sleep', 'infinity'],
        stop_signal: 'SIGKILL',
        volumes: ['schema:/data'],
      },
    },
    volumes: { schema: {} },
  });
}

interface Wanted {
  readonly tag: string;
  /** In the Compose file, in the shipped file, in the secret environment. */
  readonly setting: string;
}

const token = (setting: string): string => `token-of-${setting}-${'x'.repeat(20)}`;

async function deployRelease(
  { tag, setting }: Wanted,
  inputs: Readonly<Record<string, string>> = {},
): Promise<ActionRun> {
  await checkout.write({ 'compose.yaml': compose(tag, setting), 'config/site.conf': `site ${setting}\n` });
  return mustDeploy(checkout, { files: 'nginx\nconfig', env: `TOKEN=${token(setting)}`, ...inputs });
}

async function mustRollBack(inputs: Readonly<Record<string, string>>): Promise<ActionRun> {
  const run = await rollBack(inputs);
  if (run.outcome !== 'success') throw new Error(`the rollback ended with ${run.outcome}:\n${run.log}`);
  return run;
}

/** What visitors get of a release: image, environment, shipped file. */
const served = async (): Promise<string[]> => [
  await get(8080),
  await get(8080, '/setting'),
  (await get(8080, '/config')).trim(),
];
const wanted = ({ tag, setting }: Wanted): string[] => [tag, `${setting} ${token(setting)}`, `site ${setting}`];

/** Every byte of a release but its record, and of the files that it mounts. */
const bytesOf = (release: string): Promise<string> =>
  asDeploy(
    `cd ${STORE}/releases/$1 && sha256sum compose.yaml env source.json source.tar && cat env && grep -o 'files/[0-9a-f]*' compose.yaml | sort -u | while read -r f; do (cd ../../$f && find . -type f -exec sha256sum {} +); done`,
    [release],
  );
const releaseOf = (run: ActionRun): string => run.outputs['release'] ?? 'none';
const record = async (release: string): Promise<Record<string, unknown>> =>
  JSON.parse(await asDeploy(`cat ${STORE}/releases/$1/release.json`, [release])) as Record<string, unknown>;
const imageIds = (): Promise<string> =>
  onServer(
    `docker ps -a --format '{{.Label "com.docker.compose.service"}}' | sort | while read -r s; do docker inspect --format '{{.Image}} {{.Config.Image}}' $(docker ps -aq --filter label=com.docker.compose.service=$s); done`,
  );

async function underLoad(
  work: () => Promise<ActionRun>,
): Promise<{ readonly run: ActionRun; readonly load: LoadReport }> {
  const load = await runLoad({ url: `http://${theServer().address}:8080/`, release: { pattern: '^[\\w-]+$' } });
  try {
    await new Promise((resolve) => setTimeout(resolve, 1000));
    const run = await work();
    await new Promise((resolve) => setTimeout(resolve, 1000));
    return { run, load: await load.stop() };
  } finally {
    await load.stop();
  }
}

const A: Wanted = { tag: 'v1', setting: 'alpha' };
const B: Wanted = { tag: 'v2', setting: 'beta' };

beforeAll(async () => {
  await startSandbox();
  for (const release of ['v1', 'v2', 'v3']) await publishApp(release);
  await publishApp('unhealthy', ['TEST_UNHEALTHY=true']);
});

afterAll(removeCheckouts);

/** Two releases, of which the second serves. */
async function serveAB(): Promise<{ readonly a: string; readonly b: string }> {
  await freshServer();
  checkout = await projectFiles({ 'nginx/site.conf': ROUTER_SITE });
  const a = releaseOf(
    await deployRelease(A, {
      'schema-state': 'state: cat /data/migrated',
      migrate: 'state: sh -c "echo one >>/data/migrated"',
    }),
  );
  const b = releaseOf(await deployRelease(B, { 'schema-state': 'state: cat /data/migrated' }));
  return { a, b };
}

describe('back and forth', () => {
  let a = '';
  let b = '';
  let imagesOfA = '';

  beforeAll(async () => {
    await freshServer();
    checkout = await projectFiles({ 'nginx/site.conf': ROUTER_SITE });
    a = releaseOf(await deployRelease(A));
    imagesOfA = await imageIds();
    b = releaseOf(await deployRelease(B));
    expect(await served()).toEqual(wanted(B));
  });

  test('by hand and nothing chosen: the list, and nothing is changed', async () => {
    const before = await serverState();
    const run = await rollBack({}, { github: { event_name: 'workflow_dispatch' } });
    expect(run.outcome).toBe('success');
    expect(run.outputs).toMatchObject({ result: 'listed', release: b, target: '' });
    expect(JSON.parse(run.outputs['releases'] ?? '')).toMatchObject([
      { id: b, serves: true, changes: {}, imagesPresent: true, result: 'healthy' },
      { id: a, serves: false, changes: { app: 'image' }, imagesPresent: true, actor: 'octocat' },
    ]);
    expect(run.summary).toContain(a);
    expect(run.summary).toMatch(/differs in app/);
    expect(await serverState()).toEqual(before);
  });

  test.each([
    ['no confirmation', { release: 'previous' }, /confirm.*is empty.*type the project's name.*shop/s],
    ['a wrong confirmation', { release: 'previous', confirm: 'shoq' }, /shoq.*type the project's name.*shop/s],
  ])('by hand with %s: refused, it says what to type, and nothing was changed', async (_name, inputs, message) => {
    const before = await serverState();
    const run = await rollBack(inputs, { github: { event_name: 'workflow_dispatch' } });
    expect(run.outcome).toBe('failure');
    expect(run.outputs['result']).toBe('refused');
    expect(errorsOf(run).join('\n')).toMatch(message);
    expect(await serverState()).toEqual(before);
  });

  test.each([
    ['an unknown one', '20200101T000000Z-abcdefg', /not in the store/],
    ['one that serves', 'THIS', /serves already/],
    ['what several could be', '2', /It could be each of 2/],
  ])('%s: refused with the list, and nothing was changed', async (_name, release, message) => {
    const before = await serverState();
    const run = await rollBack({ release: release === 'THIS' ? b : release });
    expect(run.outputs['result']).toBe('refused');
    expect(errorsOf(run).join('\n')).toMatch(message);
    expect(errorsOf(run).join('\n')).toContain(a);
    expect(await serverState()).toEqual(before);
  });

  test('a dry run says what would change, and changes nothing', async () => {
    const before = await serverState();
    const run = await rollBack({ 'dry-run': 'true' });
    expect(run.outputs).toMatchObject({ result: 'planned', target: a });
    expect(planOf(run)['app']).toMatchObject({ action: 'replace' });
    expect(await serverState()).toEqual(before);
  });

  test('to A, with the registry switched off and under load: every byte as it was, and no request is lost', async () => {
    const bytes = await bytesOf(a);
    await stopRegistry();
    try {
      const { run, load } = await underLoad(() => mustRollBack({ release: 'previous' }));
      if (load.failed > 0) throw new Error(`${load.failed} requests were lost:\n${renderReport(load)}\n${run.log}`);
      expect(load.requests).toBeGreaterThan(100 * load.seconds);
      expect(load.releases.map(({ value }) => value)).toEqual(['v2', 'v1']);
      expect(run.outputs).toMatchObject({ result: 'rolled-back', 'previous-release': b, target: a });
      const release = releaseOf(run);
      expect([a, b]).not.toContain(release);
      expect(await served()).toEqual(wanted(A));
      expect(await bytesOf(release)).toBe(bytes);
      expect(await imageIds()).toBe(imagesOfA);
      expect(await record(release)).toMatchObject({
        rollback: { of: a, from: b },
        actor: 'octocat',
        result: 'healthy',
      });
      // What was secret then is secret still.
      for (const secret of [token('alpha'), token('beta')]) {
        expect(run.log).not.toContain(secret);
        expect(run.summary).not.toContain(secret);
      }
      expect(
        await asDeploy(
          `cd /home/deploy/apps/shop && docker compose ps -q | sort >/tmp/before && docker compose up -d 2>&1 && docker compose ps -q | sort | diff /tmp/before - && echo same`,
        ),
      ).toMatch(/^same$/m);
    } finally {
      await startRegistry();
    }
  });

  test('again `previous`: there is none, since B was gone back from', async () => {
    const run = await rollBack({ release: 'previous' });
    expect(run.outputs['result']).toBe('refused');
    expect(errorsOf(run).join('\n')).toMatch(/no release before the current one that served well/);
    expect(errorsOf(run).join('\n')).toMatch(/gone back from/);
  });

  test('B by its id, with the environment of now', async () => {
    const run = await mustRollBack({ release: b, env: 'current' });
    expect(run.outputs['result']).toBe('rolled-back');
    expect(await served()).toEqual(['v2', `beta ${token('alpha')}`, 'site beta']);
    expect((await bytesOf(releaseOf(run))).includes(`TOKEN=${token('alpha')}`)).toBe(true);
    expect(run.log).not.toContain(token('alpha'));
  });

  test('the next deploy goes on from there', async () => {
    const run = await deployRelease({ tag: 'v3', setting: 'gamma' });
    expect(run.outputs['result']).toBe('deployed');
    expect(await served()).toEqual(wanted({ tag: 'v3', setting: 'gamma' }));
  });
});

describe('what stands in the way', () => {
  test('another project: it says which there are, and makes no folder', async () => {
    await serveAB();
    const run = await rollBack({ project: 'shoq' });
    expect(run.outputs['result']).toBe('refused');
    expect(errorsOf(run).join('\n')).toMatch(
      /no release of project shoq in apps\/shoq.*Projects with releases in apps: shop/s,
    );
    expect(await onServer('ls /home/deploy/apps')).toBe('shop\n');
  });

  test('a release that does not come up any more: what served is put back', async () => {
    const { a, b } = await serveAB();
    // As if what it needs had gone since.
    await onServer(`cd ${STORE}/releases/${a} && sed -i 's/sleep/slep/' compose.yaml`);
    const run = await rollBack({ release: a, timeout: '10' });
    expect(run.outcome).toBe('failure');
    expect(run.outputs).toMatchObject({ result: 'reverted', release: b });
    expect(errorsOf(run).join('\n')).toMatch(/The rollback .* failed/);
    expect(await served()).toEqual(wanted(B));
  });

  test('a migration: refused with what would be ahead, unless that is said to be well', async () => {
    const { a, b } = await serveAB();
    await deployRelease(B, {
      'schema-state': 'state: cat /data/migrated',
      migrate: 'state: sh -c "echo two >>/data/migrated; echo three >>/data/migrated"',
      variables: 'X=1',
    });
    const c = releaseOf(
      await deployRelease(
        { tag: 'v3', setting: 'gamma' },
        {
          'schema-state': 'state: cat /data/migrated',
          migrate: 'state: sh -c "echo two >>/data/migrated; echo three >>/data/migrated"',
        },
      ),
    );
    const before = await serverState();
    const refused = await rollBack({ release: a });
    expect(refused.outputs['result']).toBe('refused');
    expect(errorsOf(refused).join('\n')).toMatch(
      /The schema is ahead of release .*: two, three\b.*allow-schema-ahead: true/s,
    );
    expect(await serverState()).toEqual(before);
    expect(b).not.toBe(c);
    const run = await mustRollBack({ release: a, 'allow-schema-ahead': 'true' });
    expect(run.outputs['result']).toBe('rolled-back');
    expect(run.summary).toMatch(/The schema is ahead/);
    expect(await get(8080)).toBe('v1');
  });

  test('images that somebody has removed, and no registry: refused, and nothing was changed', async () => {
    const { a } = await serveAB();
    await onServer(
      `docker images --format '{{.Repository}}:{{.Tag}} {{.ID}}' >/dev/null; docker rmi -f $(docker image inspect --format '{{.Id}}' $(grep -o '[^"]*app:v1@sha256:[0-9a-f]*' ${STORE}/releases/${a}/release.json | head -n 1))`,
    );
    await stopRegistry();
    try {
      const run = await rollBack({ release: a });
      expect(run.outcome).toBe('failure');
      expect(errorsOf(run).join('\n')).toMatch(/app:v1/);
      expect(await served()).toEqual(wanted(B));
    } finally {
      await startRegistry();
    }
    expect((await mustRollBack({ release: a })).outputs['result']).toBe('rolled-back');
    expect(await served()).toEqual(wanted(A));
  });

  test('right after the commit, while the old replicas are still being removed: the new release is what it leaves', async () => {
    const { b } = await serveAB();
    let rolling: Promise<ActionRun> | undefined;
    await checkout.write({ 'compose.yaml': compose('v3', 'gamma'), 'config/site.conf': 'site gamma\n' });
    const live = await mustDeploy(
      checkout,
      { files: 'nginx\nconfig', env: `TOKEN=${token('gamma')}` },
      {
        onEntry: (entry) => {
          if (entry.text.includes(' is live on ')) rolling = mustRollBack({ release: 'previous' });
        },
      },
    );
    expect((await rolling)?.outputs).toMatchObject({
      result: 'rolled-back',
      target: b,
      'previous-release': releaseOf(live),
    });
    expect(await served()).toEqual(wanted(B));
  });

  test('two at once: back once, and both say so', async () => {
    const { a, b } = await serveAB();
    const [one, two] = await Promise.all([
      mustRollBack({ release: 'previous' }),
      mustRollBack({ release: 'previous' }),
    ]);
    expect(new Set([one.outputs['result'], two.outputs['result']])).toEqual(new Set(['rolled-back']));
    expect(one.outputs['release']).toBe(two.outputs['release']);
    expect(await record(releaseOf(one))).toMatchObject({ rollback: { of: a, from: b } });
    expect(await served()).toEqual(wanted(A));
  });

  test('a volume that is gone: refused, since all would look well and be empty', async () => {
    const { a, b } = await serveAB();
    await checkout.write({
      'compose.yaml': compose('v3', 'gamma')
        .replace(',"volumes":["schema:/data"]', '')
        .replace(',"volumes":{"schema":{}}', ''),
      'config/site.conf': 'site gamma\n',
    });
    await mustDeploy(checkout, { files: 'nginx\nconfig', env: `TOKEN=${token('gamma')}` });
    await onServer('docker volume rm shop_schema');
    const before = await serverState();
    const run = await rollBack({ release: b });
    expect(run.outputs['result']).toBe('refused');
    expect(errorsOf(run).join('\n')).toMatch(
      /volume shop_schema of service state is not there any more.*docker volume create/s,
    );
    expect(await serverState()).toEqual(before);
    expect(a).not.toBe(b);
  });

  test('a deploy that bakes: it is taken back at once, and that was it', async () => {
    const { b } = await serveAB();
    await checkout.write({ 'compose.yaml': compose('v3', 'gamma'), 'config/site.conf': 'site gamma\n' });
    const baking = Promise.withResolvers<undefined>();
    const deploying = mustFail({ 'bake-time': '60s' }, (text) => {
      if (text.includes('route to app')) baking.resolve(undefined);
    });
    await Promise.race([baking.promise, deploying]);
    while ((await get(8080)) !== 'v3') await new Promise((resolve) => setTimeout(resolve, 100));
    // Nobody loses the lock for what cannot be done.
    const misspelled = await rollBack({ release: 'v1.2typo' });
    expect(misspelled.outputs['result']).toBe('refused');
    expect(errorsOf(misspelled).join('\n')).toMatch(/v1\.2typo: No release.*under way/s);
    expect(await get(8080)).toBe('v3');
    const startedMs = performance.now();
    const run = await mustRollBack({ release: 'previous' });
    const seconds = (performance.now() - startedMs) / 1000;
    expect(run.outputs).toMatchObject({ result: 'rolled-back', release: b });
    expect(run.log).toMatch(/which was being tried, did not go live: release .* serves, as before it/);
    expect(await served()).toEqual(wanted(B));
    expect(seconds).toBeLessThan(30);
    const deploy = await deploying;
    expect(deploy.outputs['result']).toBe('reverted');
    expect(errorsOf(deploy).join('\n')).toMatch(/Another session has taken over: rollback by octocat/);
  });
});

async function mustFail(inputs: Readonly<Record<string, string>>, onText: (text: string) => void): Promise<ActionRun> {
  const { deploy } = await import('./sandbox.ts');
  const run = await deploy(
    checkout,
    { files: 'nginx\nconfig', env: `TOKEN=${token('gamma')}`, ...inputs },
    {
      onEntry: (entry) => {
        onText(entry.text);
      },
    },
  );
  expect(run.outcome).toBe('failure');
  return run;
}
