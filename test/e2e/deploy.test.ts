/** A deploy that goes well: what it changes, what it leaves alone, and what it says. */
import { cp, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { jest } from '@jest/globals';
import {
  appImage,
  asDeploy,
  buildExample,
  type Checkout,
  deploy,
  errorsOf,
  EXAMPLE,
  freshServer,
  get,
  idsOf,
  mustDeploy,
  onServer,
  planOf,
  projectFiles,
  publishApp,
  publishImage,
  removeCheckouts,
  restorable,
  running,
  sandboxInfo,
  serverState,
  startSandbox,
  theServer,
} from './sandbox.ts';

jest.setTimeout(120_000);

const RELEASE = /^\d{8}T\d{6}Z-1d0c5b0$/;

beforeAll(async () => {
  await startSandbox();
  await Promise.all(['v1', 'v2', 'v3', 'v4'].map((release) => publishApp(release)));
  await publishApp('unhealthy', ['TEST_UNHEALTHY=true']);
});

afterAll(removeCheckouts);

describe('a first deploy', () => {
  let checkout: Checkout;

  beforeAll(async () => {
    await freshServer();
    checkout = await projectFiles({
      'deploy/web.yaml': `services:\n  app:\n    image: ${appImage('v1')}\n    ports: ['8080:3000']\n`,
    });
  });

  test('a dry run on a server never deployed to changes nothing at all, and says what would be made', async () => {
    const before = await serverState();
    const run = await mustDeploy(checkout, { 'compose-file': 'deploy/web.yaml', 'dry-run': 'true' });
    expect(await serverState()).toEqual(before);
    expect(run.outputs).toMatchObject({ result: 'planned', release: '', 'previous-release': '' });
    expect(planOf(run)['app']).toMatchObject({ action: 'create', reasons: ['has no container yet'] });
    expect(run.log).toContain('Dry run: nothing was changed.');
    expect(run.summary).toContain('### Plan (dry run): hello-world');
  });

  test('host, ssh-key, known-hosts and compose-file are enough', async () => {
    const run = await mustDeploy(checkout, { 'compose-file': 'deploy/web.yaml' });
    expect(await get(8080)).toBe('v1');
    expect(run.outputs['release']).toMatch(RELEASE);
    expect(run.outputs).toMatchObject({ 'previous-release': '', result: 'deployed', 'changed-services': '["app"]' });
    expect(run.droppedOutputs).toEqual([]);
    expect(Object.keys(JSON.parse(run.outputs['durations'] ?? '') as object)).toEqual(
      expect.arrayContaining(['connect', 'facts', 'plan', 'pull', 'switch', 'total']),
    );
    expect(run.annotations).toEqual([]);
    expect(run.summary).toContain(`### Deployed: hello-world on deploy@`);
    expect(run.summary).toContain(`Release **${run.outputs['release'] ?? 'none'}** serves.`);
    expect(run.summary).toMatch(/^\| app \| create \| has no container yet \| .*app:v1@.* \| healthy \| 0 \|$/m);
    expect(run.post?.outcome).toBe('success');
    expect(run.orphans).toEqual([]);
    expect(run.leftFiles).toEqual({});
  });

  test('the container runs the image by its digest', async () => {
    const [container] = (await serverState()).containers;
    expect(container?.image).toMatch(/app:v1@sha256:[0-9a-f]{64}$/);
  });

  test('the same again does nothing, and says so', async () => {
    const before = await serverState();
    const run = await mustDeploy(checkout, { 'compose-file': 'deploy/web.yaml' });
    expect(await serverState()).toEqual(before);
    expect(run.outputs).toMatchObject({ result: 'unchanged', 'changed-services': '[]' });
    expect(run.outputs['release']).toMatch(RELEASE);
    expect(run.log).toContain(`Nothing to do: release ${run.outputs['release'] ?? 'none'} already is`);
  });

  test('a plain `docker compose up -d` in the project folder changes nothing', async () => {
    const before = await serverState();
    await asDeploy('cd apps/hello-world && docker compose up -d');
    expect(await serverState()).toEqual(before);
  });

  test('the store is 0700 and every file in it 0600', async () => {
    const modes = await onServer(
      `cd /home/deploy/apps/hello-world/.slipway && find . ! -type l -printf '%m %y\\n' | sort -u`,
    );
    expect(modes.trim().split('\n')).toEqual(['600 f', '700 d']);
  });

  test('a container that was stopped by hand is started again', async () => {
    await onServer('docker stop -t 1 hello-world-app-1');
    const run = await mustDeploy(checkout, { 'compose-file': 'deploy/web.yaml' });
    expect(planOf(run)['app']?.action).toBe('start');
    expect(run.outputs['result']).toBe('deployed');
    expect(await get(8080)).toBe('v1');
  });
});

describe('the example application', () => {
  let checkout: Checkout;
  let images: { v1: string; v2: string };
  const inputs = (image: string, more: Record<string, string> = {}): Record<string, string> => ({
    project: 'shop',
    files: 'nginx\npublic',
    env: 'POSTGRES_PASSWORD=correct-horse-battery\nREDIS_PASSWORD=staple-of-redis',
    variables: [
      `API_IMAGE=${image}`,
      `POSTGRES_IMAGE=${sandboxInfo().registry.open}/pg:15`,
      `LOG_LEVEL=${more['log'] ?? 'info'}`,
      `API_REPLICAS=${more['replicas'] ?? '1'}`,
    ].join('\n'),
    ...Object.fromEntries(Object.entries(more).filter(([name]) => name !== 'log' && name !== 'replicas')),
  });

  beforeAll(async () => {
    await freshServer();
    images = { v1: await buildExample('v1'), v2: await buildExample('v2') };
    await publishImage('postgres:15', 'pg:15', { Labels: { moved: 'not yet' } });
    checkout = await projectFiles({ 'compose.yaml': await readFile(join(EXAMPLE, 'compose.yaml'), 'utf8') });
    for (const folder of ['nginx', 'public'])
      await cp(join(EXAMPLE, folder), join(checkout.folder, folder), { recursive: true });
  });

  test('goes live as a whole', async () => {
    const run = await mustDeploy(checkout, inputs(images.v1));
    expect(JSON.parse(await get(8080, '/health/ready'))).toMatchObject({ status: 'ready', releaseId: 'v1' });
    expect(await get(8080, '/')).toContain('<html');
    expect(JSON.parse(run.outputs['changed-services'] ?? '')).toEqual(
      expect.arrayContaining(['web', 'api', 'db', 'cache']),
    );
  });

  test('a dry run says why, for each service, and changes nothing', async () => {
    const before = await serverState();
    const original = await readFile(join(checkout.folder, 'nginx', 'site.conf'), 'utf8');
    await checkout.write({ 'nginx/site.conf': `${original}\n# changed\n` });
    const run = await mustDeploy(checkout, inputs(images.v2, { log: 'debug', 'dry-run': 'true' }));
    await checkout.write({ 'nginx/site.conf': original });
    expect(await serverState()).toEqual(before);
    const plan = planOf(run);
    expect(plan['api']).toMatchObject({
      action: 'replace',
      reasons: expect.arrayContaining(['environment LOG_LEVEL', 'image']) as unknown,
    });
    expect(plan['web']).toMatchObject({ action: 'replace', reasons: ['file nginx'] });
    expect(plan['db']).toMatchObject({ action: 'keep', reasons: [] });
    expect(plan['cache']).toMatchObject({ action: 'keep', reasons: [] });
    expect(run.log).toMatch(/\bweb\b.*replace.*: file nginx$/m);
    expect(run.summary).toMatch(/^\| api \| replace \| .*environment LOG\\?_LEVEL.* \|/m);
    expect(run.outputs['result']).toBe('planned');
  });

  test('a new API replaces the API, and nothing else', async () => {
    const before = await serverState();
    const run = await mustDeploy(checkout, inputs(images.v2));
    const after = await serverState();
    expect(JSON.parse(await get(8080, '/health/ready'))).toMatchObject({ releaseId: 'v2' });
    expect(run.outputs['changed-services']).toBe('["api"]');
    for (const service of ['db', 'cache', 'web']) expect(idsOf(after, service)).toEqual(idsOf(before, service));
    expect(idsOf(after, 'api')).not.toEqual(idsOf(before, 'api'));
    expect(idsOf(after, 'api')).toHaveLength(1);
    const shown = await asDeploy("cd apps/shop && docker compose ps --format '{{.Service}}' | sort");
    expect(shown.trim().split('\n')).toEqual(['api', 'cache', 'db', 'web']);
    await asDeploy('cd apps/shop && docker compose up -d');
    expect((await serverState()).containers).toEqual(after.containers);
  });

  test('a changed file that is shipped replaces the service that mounts it, and nothing else', async () => {
    const before = await serverState();
    await checkout.write({ 'public/hello.txt': 'hello from a file' });
    const run = await mustDeploy(checkout, inputs(images.v2));
    const after = await serverState();
    expect(await get(8080, '/hello.txt')).toBe('hello from a file');
    expect(run.outputs['changed-services']).toBe('["web"]');
    for (const service of ['db', 'cache', 'api']) expect(idsOf(after, service)).toEqual(idsOf(before, service));
    expect(idsOf(after, 'web')).not.toEqual(idsOf(before, 'web'));
    const modes = await onServer(
      `cd /home/deploy/apps/shop/.slipway && find files router -type f -printf '%m\\n' | sort -u; find . ! -path './files/*' ! -path './router/*' -type f -printf '%m\\n' | sort -u`,
    );
    expect(modes.trim().split('\n')).toEqual(['644', '600']);
  });

  test('replicas go up and down', async () => {
    const before = await serverState();
    const more = await mustDeploy(checkout, inputs(images.v2, { replicas: '2' }));
    const between = await serverState();
    expect(idsOf(between, 'api')).toHaveLength(2);
    expect(
      between.containers.filter((container) => container.service === 'api').map((container) => container.state),
    ).toEqual(['running', 'running']);
    expect(more.outputs['changed-services']).toBe('["api"]');
    await asDeploy('cd apps/shop && docker compose up -d');
    expect((await serverState()).containers).toEqual(between.containers);
    await mustDeploy(checkout, inputs(images.v2));
    const after = await serverState();
    expect(idsOf(after, 'api')).toHaveLength(1);
    for (const service of ['db', 'cache', 'web']) expect(idsOf(after, service)).toEqual(idsOf(before, service));
  });

  test('a tag that has moved does not restart the database', async () => {
    const before = await serverState();
    await publishImage('postgres:15', 'pg:15', { Labels: { moved: 'yes' } });
    const plan = await mustDeploy(checkout, inputs(images.v2));
    expect(plan.outputs['result']).toBe('unchanged');
    expect(planOf(plan)['db']).toMatchObject({
      action: 'keep',
      reasons: [expect.stringMatching(/^newer image exists, kept .*refresh: db/)],
    });
    const run = await mustDeploy(checkout, inputs(images.v1));
    expect(run.outputs['changed-services']).toBe('["api"]');
    expect(idsOf(await serverState(), 'db')).toEqual(idsOf(before, 'db'));
  });

  test('unless it is told to follow; the data stays', async () => {
    const before = await serverState();
    const asked = await get(8080, '/api/visits');
    const run = await mustDeploy(checkout, inputs(images.v1, { refresh: 'db' }));
    const after = await serverState();
    expect(planOf(run)['db']).toMatchObject({ action: 'replace', reasons: ['image'] });
    expect(idsOf(after, 'db')).not.toEqual(idsOf(before, 'db'));
    expect(after.volumes).toEqual(before.volumes);
    expect(await onServer(`docker inspect --format '{{index .Config.Labels "moved"}}' ${running('db')}`)).toBe('yes\n');
    expect(await get(8080, '/api/notes')).toMatch(/^[[{]/);
    expect(asked).not.toMatch(/^unreachable/);
  });
});

describe('services and releases', () => {
  let checkout: Checkout;
  const compose = (services: Record<string, object>): string => JSON.stringify({ name: 'parts', services });
  const app = (tag: string, more: object = {}): object => ({ image: appImage(tag), ports: ['8080:3000'], ...more });
  const idle = {
    image: 'busybox:1',
    command: ['sleep', '1000000'],
    stop_signal: 'SIGKILL',
    healthcheck: { test: ['CMD', 'true'], interval: '500ms' },
  };

  beforeAll(async () => {
    await freshServer();
    checkout = await projectFiles({ 'compose.yaml': compose({ app: app('v1') }) });
    await mustDeploy(checkout);
  });

  test('a service that is new in the Compose file is added', async () => {
    const before = await serverState();
    await checkout.write({ 'compose.yaml': compose({ app: app('v1'), worker: idle }) });
    const run = await mustDeploy(checkout);
    const after = await serverState();
    expect(planOf(run)).toMatchObject({ app: { action: 'keep' }, worker: { action: 'create' } });
    expect(idsOf(after, 'app')).toEqual(idsOf(before, 'app'));
    expect(idsOf(after, 'worker')).toHaveLength(1);
  });

  test('a service that is no longer in it is removed', async () => {
    const before = await serverState();
    await checkout.write({ 'compose.yaml': compose({ app: app('v1') }) });
    const run = await mustDeploy(checkout);
    const after = await serverState();
    expect(planOf(run)).toMatchObject({
      app: { action: 'keep' },
      worker: { action: 'remove', reasons: ['no longer in the Compose file'] },
    });
    expect(run.outputs['changed-services']).toBe('["worker"]');
    expect(idsOf(after, 'app')).toEqual(idsOf(before, 'app'));
    expect(idsOf(after, 'worker')).toEqual([]);
  });

  test('a service that was renamed takes over its port', async () => {
    await checkout.write({ 'compose.yaml': compose({ site: app('v2') }) });
    await mustDeploy(checkout);
    expect(await get(8080)).toBe('v2');
    expect((await serverState()).containers.map((container) => container.service)).toEqual(['site']);
    await checkout.write({ 'compose.yaml': compose({ app: app('v1') }) });
    await mustDeploy(checkout);
    expect(await get(8080)).toBe('v1');
  });

  test('variables win over env, env fills ${NAME}, and env_file is read', async () => {
    await checkout.write({
      'compose.yaml': compose({
        app: app('${TAG}', { environment: { SETTING: '${SETTING}-${MODE:-none}' }, env_file: ['more.env', '.env'] }),
      }),
      'more.env': "FROM_FILE='in a file'\n",
    });
    await mustDeploy(checkout, {
      files: 'more.env',
      env: 'TAG=v3\nSETTING="two words"\nIN_DOT_ENV=\'$literal "quoted"\'',
      variables: 'TAG=v2\nMODE=quick=1',
    });
    expect(await get(8080)).toBe('v2');
    expect(await get(8080, '/setting')).toBe('two words-quick=1');
    const environment = await onServer(
      `docker exec ${running('app')} sh -c 'printf %s\\\\n "$FROM_FILE" "$IN_DOT_ENV"'`,
    );
    expect(environment).toBe('in a file\n$literal "quoted"\n');
    const before = await serverState();
    await asDeploy('cd apps/parts && docker compose up -d');
    expect((await serverState()).containers).toEqual(before.containers);
  });

  test('keep-releases removes older releases and their images, never a kept or another project’s', async () => {
    const other = await projectFiles({
      'compose.yaml': JSON.stringify({ name: 'other', services: { app: { image: appImage('v1') } } }),
    });
    await mustDeploy(other);
    for (const tag of ['v1', 'v3', 'v4']) {
      await checkout.write({ 'compose.yaml': compose({ app: app(tag) }) });
      await mustDeploy(checkout, { 'keep-releases': '2' });
    }
    const kept = await onServer('cd /home/deploy/apps/parts/.slipway/releases && cat */release.json');
    const images = [...kept.matchAll(/"image":"[^"]*\/app:(v\d)@/g)].map((match) => match[1]);
    expect(images).toEqual(['v3', 'v4']);
    const tagged = await onServer("docker image ls --format '{{.Repository}}' --filter reference='slipway.local/*'");
    expect(tagged.trim().split('\n').sort()).toEqual([
      'slipway.local/other',
      'slipway.local/parts',
      'slipway.local/parts',
    ]);
    const releases = await onServer(
      "for i in $(docker image ls -q --filter label=release); do docker image inspect --format '{{.Config.Labels.release}}' $i; done | sort -u",
    );
    // v1 is the other project's, v2 nobody's any more.
    expect(releases.trim().split('\n')).toEqual(['v1', 'v3', 'v4']);
    expect(await onServer('docker inspect --format {{.State.Status}} other-app-1')).toBe('running\n');
    await onServer('docker image prune --force');
    expect(await onServer('docker image ls -q --filter label=release | sort -u | wc -l')).toBe('3\n');
  });
});

describe('a project that ran before', () => {
  const plain = (tag: string): string =>
    JSON.stringify({
      name: 'legacy',
      services: {
        app: { image: appImage(tag), ports: ['8080:3000'], labels: { tag } },
        keep: {
          image: 'busybox:1',
          command: ['sleep', '1000000'],
          stop_signal: 'SIGKILL',
          volumes: ['data:/data'],
          healthcheck: { test: ['CMD', 'true'], interval: '500ms' },
        },
        // Without data, so that it follows its tag, which does not move.
        same: { image: appImage('v1') },
      },
      volumes: { data: {} },
    });
  let checkout: Checkout;

  beforeAll(async () => {
    await freshServer();
    await asDeploy(
      'mkdir legacy && cd legacy && cat >compose.yaml && docker compose up -d --quiet-pull',
      [],
      plain('v1'),
    );
    checkout = await projectFiles({ 'compose.yaml': plain('unhealthy') });
  });

  test('a first deploy that fails puts it back', async () => {
    const before = await serverState();
    const dry = await mustDeploy(checkout, { path: 'legacy', 'dry-run': 'true' });
    expect(await serverState()).toEqual(before);
    const run = await deploy(checkout, { path: 'legacy' });
    const after = await serverState();
    expect(run.outcome).toBe('failure');
    expect(run.outputs['result']).toBe('reverted');
    expect(run.outputs['release']).toMatch(/-adopted$/);
    // What the dry run says comes true.
    expect(planOf(dry)).toEqual(planOf(run));
    expect(planOf(run)).toMatchObject({
      app: { action: 'replace', reasons: ['image', 'labels tag'] },
      keep: { action: 'keep' },
      same: { action: 'keep', imageAfter: appImage('v1') },
    });
    expect(idsOf(after, 'same')).toEqual(idsOf(before, 'same'));
    expect(await get(8080)).toBe('v1');
    expect(idsOf(after, 'keep')).toEqual(idsOf(before, 'keep'));
    const containers = (state: object): object => ({ ...state, files: undefined });
    expect(containers(restorable(after))).toEqual(containers(restorable(before)));
    expect(await asDeploy('cat legacy/compose.yaml')).toBe(plain('v1'));
    await asDeploy('cd legacy && docker compose up -d');
    expect((await serverState()).containers).toEqual(after.containers);
  });

  test('a good one takes over, and has the adopted release behind it', async () => {
    const before = await serverState();
    await checkout.write({ 'compose.yaml': plain('v2') });
    const run = await mustDeploy(checkout, { path: 'legacy' });
    const after = await serverState();
    expect(await get(8080)).toBe('v2');
    expect(run.outputs['previous-release']).toMatch(/-adopted$/);
    for (const name of ['keep', 'same']) expect(idsOf(after, name)).toEqual(idsOf(before, name));
    // Nor does Compose, by hand, see anything to replace.
    await asDeploy('cd legacy && docker compose up -d');
    expect((await serverState()).containers).toEqual(after.containers);
    const records = await asDeploy('cat legacy/.slipway/releases/*-adopted/release.json');
    expect(JSON.parse(records)).toMatchObject({ result: 'adopted', project: 'legacy' });
    expect(await asDeploy('readlink legacy/compose.yaml')).toBe('.slipway/current/compose.yaml\n');
    expect(await asDeploy('cat legacy/compose.yaml.before-slipway')).toBe(plain('v1'));
  });
});

describe('registry and health checks', () => {
  let checkout: Checkout;
  const compose = (image: string, more: object = {}): string =>
    JSON.stringify({ name: 'web', services: { app: { image, ports: ['8080:3000'], ...more } } });
  const login = (): Record<string, string> => {
    const { address, username, password } = sandboxInfo().registry.login;
    return { registry: address, 'registry-username': username, 'registry-password': password };
  };

  beforeAll(async () => {
    await freshServer();
    checkout = await projectFiles({});
  });

  test('a registry with a login: nothing of it is left', async () => {
    await checkout.write({ 'compose.yaml': compose(`${sandboxInfo().registry.login.address}/app:v1`) });
    await mustDeploy(checkout, login());
    expect(await get(8080)).toBe('v1');
    expect(await onServer('find / -xdev -name config.json -path "*.docker*" 2>/dev/null')).toBe('');
  });

  test('other logins of the server stay as they are', async () => {
    const other = '{"auths":{"registry.example.com":{"auth":"c29tZWJvZHk6ZWxzZQ=="}},"psFormat":"table"}';
    await asDeploy('mkdir -m 700 .docker && cat >.docker/config.json && chmod 600 .docker/config.json', [], other);
    await checkout.write({ 'compose.yaml': compose(`${sandboxInfo().registry.login.address}/app:v2`) });
    await mustDeploy(checkout, login());
    expect(await get(8080)).toBe('v2');
    expect(await asDeploy('cat .docker/config.json')).toBe(other);
    expect(await asDeploy('ls -A .docker')).toBe('config.json\n');
    await asDeploy('rm -r .docker');
  });

  test('health checks from the runner and through the login; the summary tells their verdicts', async () => {
    await checkout.write({ 'compose.yaml': compose(appImage('v2')) });
    const run = await mustDeploy(checkout, {
      'health-checks': [
        `http://${theServer().address}:8080/ 200 contains:v2`,
        'ssh+http://127.0.0.1:8080/ 200',
        'tcp://127.0.0.1:8080 via:ssh',
        'container:app health:healthy',
        `command: docker exec "${running('app')}" test -e /tmp/healthy`,
      ].join('\n'),
    });
    expect(run.outputs['result']).toBe('deployed');
    expect(run.summary.match(/\| passed \|/g)).toHaveLength(5);
  });

  test('a check that fails puts the release back', async () => {
    const before = await serverState();
    await checkout.write({ 'compose.yaml': compose(appImage('v1')) });
    const run = await deploy(checkout, {
      'health-checks': [
        `- url: http://${theServer().address}:8080/`,
        '  name: still version 2',
        '  contains: v2',
        '  attempts: 2',
        '  interval: 1s',
      ].join('\n'),
    });
    expect(run.outcome).toBe('failure');
    expect(run.outputs['result']).toBe('reverted');
    expect(errorsOf(run)).toEqual([
      expect.stringMatching(
        /failed: health check still version 2: .*\nRelease \d{8}T\d{6}Z-1d0c5b0 was put back and serves again\./s,
      ),
    ]);
    expect(run.summary).toMatch(/^\| still version 2 \| failed \|/m);
    expect(await get(8080)).toBe('v2');
    expect(restorable(await serverState())).toEqual(restorable(before));
  });

  test('a check of the release before that fails already is told, and is no reason to go back', async () => {
    const checks = {
      'health-checks':
        '- name: outside\n  command: test ! -e outside-is-down\n- url: http://127.0.0.1:8080/\n  via: ssh',
    };
    await checkout.write({ 'compose.yaml': compose(appImage('v3')) });
    await mustDeploy(checkout, checks);
    await asDeploy('touch outside-is-down');
    await checkout.write({ 'compose.yaml': compose(appImage('v1')) });
    const run = await mustDeploy(checkout, checks);
    await asDeploy('rm outside-is-down');
    expect(await get(8080)).toBe('v1');
    expect(run.outputs['result']).toBe('deployed');
    expect(
      run.annotations.filter((annotation) => annotation.type === 'warning').map((annotation) => annotation.message),
    ).toEqual([expect.stringMatching(/outside failed before this deploy too/)]);
    expect(run.summary).toMatch(/^\| outside \| failed \\?\(as before the deploy\\?\) \|/m);
  });

  test('a check that is new, and failed before as well, still guards its own release', async () => {
    await checkout.write({ 'compose.yaml': compose(appImage('v2')) });
    const run = await deploy(checkout, {
      'health-checks': '- name: new\n  command: test -e never-there\n  attempts: 1',
    });
    expect(run.outputs['result']).toBe('reverted');
    expect(await get(8080)).toBe('v1');
  });
});

describe('what a deploy must not do', () => {
  let checkout: Checkout;
  /** An application that waits for its migration, which refuses a schema that is newer than itself. */
  const project = (version: number, health: string, tag = 'v1', more: object = {}): string =>
    JSON.stringify({
      name: 'web',
      services: {
        migrate: {
          image: 'busybox:1',
          volumes: ['schema:/data'],
          environment: { WANTED: String(version) },
          command: [
            'sh',
            '-c',
            'echo run $$WANTED >>/data/log; is=$$(cat /data/is || echo 0); [ $$is -le $$WANTED ] && echo $$WANTED >/data/is',
          ],
        },
        app: {
          image: appImage(tag),
          ports: ['8080:3000'],
          environment: { SCHEMA: String(version) },
          healthcheck: { test: ['CMD-SHELL', health], interval: '1s', retries: 2 },
          depends_on: { migrate: { condition: 'service_completed_successfully' } },
        },
      },
      volumes: { schema: {} },
      ...more,
    });
  const runs = async (): Promise<string> => onServer('cat /var/lib/docker/volumes/web_schema/_data/log');

  beforeAll(async () => {
    await freshServer();
    checkout = await projectFiles({ 'compose.yaml': project(1, 'true') });
    await mustDeploy(checkout);
  });

  test('an old migration never runs on the way back, and none runs that did not change', async () => {
    expect(await runs()).toBe('run 1\n');
    await checkout.write({ 'compose.yaml': project(2, 'false') });
    const failed = await deploy(checkout);
    expect(failed.outputs['result']).toBe('reverted');
    expect(await get(8080)).toBe('v1');
    expect(await runs()).toBe('run 1\nrun 2\n');
    await checkout.write({ 'compose.yaml': project(2, 'true') });
    await mustDeploy(checkout);
    expect((await deploy(checkout)).outputs['result']).toBe('unchanged');
    await checkout.write({ 'compose.yaml': project(2, 'true', 'v2') });
    await mustDeploy(checkout);
    expect(await get(8080)).toBe('v2');
    expect(await runs()).toBe('run 1\nrun 2\nrun 2\n');
  });

  test('containers of the project that no release knows are left alone, and named', async () => {
    await asDeploy(
      'docker run -d --name stranger --label com.docker.compose.project=web --label com.docker.compose.service=stranger --label com.docker.compose.oneoff=False busybox:1 sleep 600',
    );
    await checkout.write({ 'compose.yaml': project(2, 'true', 'v3') });
    const run = await mustDeploy(checkout);
    expect(run.summary).toContain('stranger');
    expect(await asDeploy('docker inspect -f {{.State.Status}} stranger')).toBe('running\n');
    await asDeploy('docker rm -f stranger');
  });

  test('a network of somebody else with the same name survives a deploy that is undone', async () => {
    await asDeploy('docker network create shared');
    await checkout.write({
      'compose.yaml': project(3, 'false', 'v3', { networks: { default: { name: 'shared' } } }),
    });
    const run = await deploy(checkout);
    expect(run.outcome).toBe('failure');
    expect(await asDeploy('docker network ls -q --filter name=^shared$')).not.toBe('');
    await asDeploy('docker network rm shared');
  });

  test('a folder belongs to one project', async () => {
    const run = await deploy(checkout, { project: 'other', path: 'apps/web' });
    expect(run.outputs['result']).toBe('refused');
    expect(errorsOf(run)).toEqual([expect.stringContaining('belongs to project web')]);
  });
});
