/** Deploys that fail: each is refused or put back, the old release goes on serving, and the message says what, where and what next. */
import { spawn } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { appendFileSync, createReadStream, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { jest } from '@jest/globals';
import type { ActionRun } from './harness/index.ts';
import {
  appImage,
  asDeploy,
  type Checkout,
  deploy,
  type DeployOptions,
  errorsOf,
  fillDisk,
  freshServer,
  get,
  idsOf,
  mustDeploy,
  onServer,
  projectFiles,
  publishApp,
  publishLayer,
  removeCheckouts,
  restorable,
  sandboxInfo,
  type ServerState,
  serverState,
  startSandbox,
  theServer,
  unfillDisk,
  RELEASES,
  untilSettled,
} from './sandbox.ts';

jest.setTimeout(150_000);

let checkout: Checkout;
let before: ServerState;
let served: string;

interface Settings {
  readonly image?: string;
  /** Of the service `app`, merged into it. */
  readonly app?: object;
  readonly port?: number;
}

/** `app` is what each test changes; `data` has a volume, and is never to be touched. */
function compose({ image = appImage('v1'), app = {}, port = 8080 }: Settings = {}): string {
  return JSON.stringify({
    name: 'shop',
    services: {
      app: { image, ports: [`${port}:3000`], restart: 'unless-stopped', ...app },
      data: {
        image: 'busybox:1',
        command: ['sleep', '1000000'],
        stop_signal: 'SIGKILL',
        restart: 'unless-stopped',
        volumes: ['kept:/data'],
        healthcheck: { test: ['CMD', 'true'], interval: '500ms' },
      },
    },
    volumes: { kept: {} },
  });
}

async function tryDeploy(
  settings: Settings,
  inputs: Readonly<Record<string, string>> = {},
  options: DeployOptions = {},
): Promise<ActionRun> {
  await checkout.write({ 'compose.yaml': compose(settings) });
  return deploy(checkout, inputs, options);
}

/** The one error that the run shows. Set SLIPWAY_E2E_MESSAGES to a file to collect them. */
function theError(run: ActionRun): string {
  const errors = errorsOf(run);
  const file = process.env['SLIPWAY_E2E_MESSAGES'];
  if (file !== undefined) {
    appendFileSync(
      file,
      `## ${expect.getState().currentTestName ?? ''}\nresult: ${run.outputs['result'] ?? '-'}, exit code ${run.exitCode}, ${(run.durationMs / 1000).toFixed(1)} s\n\n${errors.join('\n---\n')}\n\n`,
    );
  }
  expect(run.exitCode).toBe(1);
  expect(run.outcome).toBe('failure');
  expect(errors).toHaveLength(1);
  const [error = ''] = errors;
  // A stack is for defects of Slipway; nothing here is one.
  expect(error).not.toMatch(/\n\s+at |Unexpected error/);
  expect(run.log).not.toMatch(/\n\s+at (?:\S+ \()?(?:file:|\/|node:)/);
  expect(run.orphans).toEqual([]);
  return error;
}

/** Nothing was touched: every container, network, volume, image and file is what it was. */
async function expectRefused(run: ActionRun): Promise<string> {
  const error = theError(run);
  expect(run.outputs).toMatchObject({ result: 'refused' });
  expect(await serverState()).toEqual(before);
  expect(await get(8080)).toBe('v1');
  return error;
}

/** It was tried and put back. */
async function expectReverted(run: ActionRun): Promise<string> {
  const error = theError(run);
  expect(run.outputs).toMatchObject({ result: 'reverted', release: served, 'previous-release': served });
  expect(run.summary).toContain('### Failed, and put back: shop on deploy@');
  expect(error).toMatch(/^The deploy of \d{8}T\d{6}Z-1d0c5b0 failed: /);
  expect(error).toContain(`Release ${served} was put back and serves again.`);
  await expectRestored();
  // What it had pulled is gone again.
  expect((await serverState()).images).toEqual(before.images);
  return error;
}

async function expectRestored(): Promise<void> {
  expect(await get(8080)).toBe('v1');
  const after = await serverState();
  // The very same containers: the old one was stopped, and started again.
  for (const service of ['app', 'data']) expect(idsOf(after, service)).toEqual(idsOf(before, service));
  expect(restorable(after)).toEqual(restorable(before));
  await expectIdle();
}

/** The lock is free, and nothing of the deploy still runs: its guardian ends a moment after it. */
async function expectIdle(): Promise<void> {
  const look = `i=0; while left=$(pgrep -u deploy -fa 'docker|flock|timeout|slipway-'); do i=$((i+1)); [ $i -lt 50 ] || break; sleep 0.1; done; printf %s "$left"`;
  expect(await onServer(look)).toBe('');
}

/** The server has put the old release back by itself: nobody is connected. */
async function expectUndoneByServer(): Promise<void> {
  await untilSettled(15);
  await expectRestored();
}

beforeAll(async () => {
  await startSandbox();
  for (const [release, env] of Object.entries(RELEASES)) await publishApp(release, env);
  await freshServer();
  checkout = await projectFiles({ 'compose.yaml': compose() });
  const run = await mustDeploy(checkout);
  served = run.outputs['release'] ?? 'none';
});

beforeEach(async () => {
  before = await serverState();
});

afterAll(removeCheckouts);

describe('refused before anything is touched', () => {
  test('an image that does not exist', async () => {
    const error = await expectRefused(await tryDeploy({ image: appImage('v999') }));
    expect(error).toMatch(/Registry [\d.:]+ has no image [\d.:]+\/app with tag v999/);
    expect(error).toContain('Check the name, and that the image was pushed before this deploy');
    expect(error).toContain(`deploy@${theServer().address} is not ready for this deploy`);
  });

  test('a wrong registry password', async () => {
    const { address, username } = sandboxInfo().registry.login;
    const error = await expectRefused(
      await tryDeploy(
        { image: `${address}/app:v2` },
        { registry: address, 'registry-username': username, 'registry-password': 'not-the-password' },
      ),
    );
    expect(error).toContain(`Registry ${address}`);
    expect(error).toContain(`"${username}"`);
    expect(error).toContain('Check registry-username and registry-password');
    expect(error).not.toContain('not-the-password');
  });

  test('no login for a registry that wants one', async () => {
    const { address } = sandboxInfo().registry.login;
    const error = await expectRefused(await tryDeploy({ image: `${address}/app:v2` }));
    expect(error).toContain('Set registry, registry-username and registry-password');
  });

  test('a Compose file that Compose refuses', async () => {
    await checkout.write({ 'compose.yaml': 'services:\n  app:\n    image: x\n    prots: ["8080:3000"]\n' });
    const error = await expectRefused(await deploy(checkout, { project: 'shop' }));
    expect(error).toContain('Docker Compose refuses the Compose file:');
    expect(error).toMatch(/prots/);
    expect(error).toContain('docker compose config');
    expect(error).not.toMatch(/\/dev\/shm|\/run\/user|slipway\.[A-Za-z0-9]{8}/);
  });

  test('a Compose file that is not YAML', async () => {
    await checkout.write({ 'compose.yaml': 'services:\n  app: {image: x\n' });
    const error = await expectRefused(await deploy(checkout, { project: 'shop' }));
    expect(error).toContain('Docker Compose refuses the Compose file:');
    expect(error).toMatch(/yaml: line \d/);
  });

  test('a variable that is not set', async () => {
    const error = await expectRefused(await tryDeploy({ image: '${IMAGE:?set IMAGE to what shall run}' }));
    expect(error).toContain('set IMAGE to what shall run');
    expect(error).toContain('variables come from the inputs env and variables');
    const empty = await expectRefused(await tryDeploy({ image: 'host/nothere:${TAG}' }));
    expect(empty).toContain('Image of app: "host/nothere:" is not an image reference: its tag is empty');
    expect(empty).toContain('Is a variable empty? Put it into `variables` or `env`.');
  });

  test('a Compose file that is not there, with all other wrong inputs at once', async () => {
    const run = await deploy(checkout, {
      'compose-file': 'deploy/compose.yaml',
      'keep-releases': '1',
      timeout: 'soon',
      port: '99999',
    });
    const error = await expectRefused(run);
    expect(error).toMatch(/^3 inputs cannot be used:\n/);
    for (const input of ['keep-releases', 'timeout', 'port']) expect(error).toContain(`- ${input}: `);
    const second = await expectRefused(await deploy(checkout, { 'compose-file': 'deploy/compose.yaml' }));
    expect(second).toContain('Input compose-file: `deploy/compose.yaml` is not a file of the workspace.');
    expect(second).toContain('actions/checkout');
  });

  test('a port that another container has', async () => {
    await onServer('docker run -d --name neighbour -p 9090:80 busybox:1 sleep 1000000');
    before = await serverState();
    const error = await expectRefused(await tryDeploy({ port: 9090 }));
    expect(error).toContain('Service app publishes port 9090/tcp, which container neighbour has.');
    expect(error).toContain('Stop that one, or publish another port.');
    await onServer('docker rm -f neighbour');
  });

  test('a port that a program of the server has', async () => {
    await onServer(
      '(exec setsid perl -MIO::Socket::INET -e \'$s = IO::Socket::INET->new(Listen => 1, LocalPort => 9091) or die; sleep 600\' </dev/null >/dev/null 2>&1 & echo $! >/run/squatter); for i in 1 2 3 4 5 6 7 8 9; do grep -q ":2383 " /proc/net/tcp && exit; sleep 0.2; done; exit 1',
    );
    const error = await expectRefused(await tryDeploy({ port: 9091 }));
    expect(error).toContain('Service app publishes port 9091/tcp, on which another program of the server listens.');
    expect(error).toContain('ss -ltnp');
    await onServer('kill $(cat /run/squatter)');
  });

  test('a disk without room for the image', async () => {
    await publishLayer('app:v2', 'app:large', 60);
    await fillDisk('40M');
    try {
      const error = await expectRefused(await tryDeploy({ image: appImage('large') }));
      expect(error).toMatch(/\/var\/lib\/docker/);
      expect(error).toMatch(/\d+ MB/);
      expect(error).toMatch(/prune|room/);
    } finally {
      await unfillDisk();
    }
  });

  test('a wrong key', async () => {
    const { privateKey } = generateKeyPairSync('rsa', {
      modulusLength: 2048,
      privateKeyEncoding: { type: 'pkcs1', format: 'pem' },
      publicKeyEncoding: { type: 'spki', format: 'pem' },
    });
    const error = await expectRefused(await tryDeploy({ image: appImage('v2') }, { 'ssh-key': privateKey }));
    expect(error).toContain(theServer().address);
    expect(error).toContain('authorized_keys');
    expect(error).toMatch(/SHA256:/);
  });

  test('a wrong host key', async () => {
    const other = 'AAAAC3NzaC1lZDI1NTE5AAAAILEnYYRgHqXxTKYd9LyRwoJ0bS2ZkH0aXwqLkD7gVVtp';
    const error = await expectRefused(
      await tryDeploy({ image: appImage('v2') }, { 'known-hosts': `${theServer().address} ssh-ed25519 ${other}` }),
    );
    expect(error).toContain(theServer().address);
    expect(error).toMatch(/SHA256:[A-Za-z0-9+/]{43}/);
    expect(error).toMatch(/known-hosts/);
  });

  test('no host key given', async () => {
    const error = await expectRefused(await tryDeploy({ image: appImage('v2') }, { 'known-hosts': '' }));
    expect(error).toMatch(/known-hosts/);
    expect(error).toMatch(/SHA256:[A-Za-z0-9+/]{43}/);
  });

  test('no Docker', async () => {
    await onServer('mv /usr/bin/docker /usr/bin/docker.away');
    let run: ActionRun;
    try {
      run = await tryDeploy({ image: appImage('v2') });
    } finally {
      await onServer('mv /usr/bin/docker.away /usr/bin/docker');
    }
    const error = await expectRefused(run);
    expect(error).toContain('Docker is not installed');
    expect(error).toContain('https://docs.docker.com/engine/install/');
  });

  test('a user who is not in the group docker', async () => {
    await onServer('gpasswd --delete deploy docker');
    let run: ActionRun;
    try {
      run = await tryDeploy({ image: appImage('v2') });
    } finally {
      await onServer('gpasswd --add deploy docker');
    }
    const error = await expectRefused(run);
    expect(error).toContain('The user deploy may not use Docker: it is not in the group docker (its groups: deploy).');
    expect(error).toContain('usermod -aG docker deploy');
  });

  test('a Docker daemon that is down', async () => {
    await onServer('systemctl stop docker.socket docker.service 2>/dev/null');
    let run: ActionRun;
    try {
      run = await tryDeploy({ image: appImage('v2') });
    } finally {
      await onServer('systemctl start docker');
      await onServer(
        'i=0; until docker inspect shop-app-1 --format {{.State.Health.Status}} | grep -qx healthy; do i=$((i+1)); [ $i -lt 100 ] || exit 1; sleep 0.1; done',
      );
    }
    const error = theError(run);
    expect(run.outputs['result']).toBe('refused');
    expect(error).toContain('Docker does not answer');
    expect(error).toContain('systemctl status docker');
    expect(await get(8080)).toBe('v1');
  });

  test('a Compose that is too old', async () => {
    // None is that old here: one that says so.
    const fake = `#!/bin/sh
case "$*" in
docker-cli-plugin-metadata) echo '{"SchemaVersion":"0.1.0","Vendor":"Docker Inc.","Version":"v2.17.3","ShortDescription":"Docker Compose"}' ;;
*version*) echo 2.17.3 ;;
*) exit 1 ;;
esac
`;
    await onServer(
      'mkdir -p /usr/local/lib/docker/cli-plugins && cat >/usr/local/lib/docker/cli-plugins/docker-compose && chmod 755 /usr/local/lib/docker/cli-plugins/docker-compose',
      [],
      fake,
    );
    let run: ActionRun;
    try {
      run = await tryDeploy({ image: appImage('v2') });
    } finally {
      await onServer('rm -r /usr/local/lib/docker/cli-plugins');
    }
    const error = await expectRefused(run);
    expect(error).toMatch(/Docker Compose is v?2\.17\.3; Slipway needs 2\.20\.0 or newer\./);
    expect(error).toContain('https://docs.docker.com/compose/install/linux/');
  });
});

describe('tried, and put back', () => {
  test('never healthy', async () => {
    const run = await tryDeploy({ image: appImage('unhealthy') });
    const error = await expectReverted(run);
    expect(error).toContain('shop-app-2 is unhealthy');
    expect(error).toContain('not healthy on purpose');
    expect(error).toContain('application unhealthy starts');
  });

  test('not ready in time', async () => {
    const error = await expectReverted(
      await tryDeploy(
        { image: appImage('unhealthy'), app: { healthcheck: { start_period: '60s' } } },
        { timeout: '3' },
      ),
    );
    expect(error).toMatch(/not ready within 3 ?s \(input timeout\): shop-app-2 is starting/);
  });

  test('a crash while it bakes', async () => {
    const error = await expectReverted(await tryDeploy({ image: appImage('crash-later') }, { 'bake-time': '20s' }));
    expect(error).toMatch(/shop-app-2 crashed after it had become ready|shop-app-2 ended after it had become ready/);
    expect(error).toContain('fatal: going down on purpose');
  });

  test('ends at once, and is not restarted', async () => {
    const error = await expectReverted(await tryDeploy({ image: appImage('crash'), app: { restart: 'no' } }));
    expect(error).toContain('shop-app-2 ended with exit code 3');
  });

  test('healthy, then a crash within the monitor time', async () => {
    const error = await expectReverted(
      await tryDeploy({ image: appImage('crash-later'), app: { deploy: { update_config: { monitor: '8s' } } } }),
    );
    expect(error).toMatch(/shop-app-2 crashed after it had become ready|shop-app-2 ended after it had become ready/);
    expect(error).toContain('fatal: going down on purpose');
  });

  test('more memory than it may have', async () => {
    const error = await expectReverted(
      await tryDeploy({ image: appImage('hungry'), app: { mem_limit: '96m', memswap_limit: '96m' } }),
    );
    expect(error).toMatch(/shop-app-2 was killed for lack of memory \(OOM\)/);
  });

  test('an entry point that does not exist', async () => {
    const error = await expectReverted(
      await tryDeploy({ image: appImage('v2'), app: { entrypoint: ['/no/such/program'] } }),
    );
    expect(error).toContain('/no/such/program');
  });

  test('a full disk', async () => {
    await fillDisk('0M');
    let run: ActionRun;
    try {
      run = await tryDeploy({ app: { environment: { SETTING: 'x'.repeat(300_000) } } });
    } finally {
      await unfillDisk();
    }
    const error = theError(run);
    expect(run.outputs['result']).toBe('refused');
    expect(error).toMatch(/needs [\d.]+ MB in \/home\/deploy\/apps\/shop\/\.slipway, and 0 B .*are free on \//);
    await expectRestored();
  });
});

describe('interrupted', () => {
  // Starting for ever: the deploy waits for it until somebody interrupts.
  const endless: Settings = {
    get image(): string {
      return appImage('unhealthy');
    },
    app: { healthcheck: { start_period: '90s' } },
  };
  const WAITING = /^- start app/;

  test('a cancelled workflow puts the old release back before it ends', async () => {
    const run = await tryDeploy(endless, {}, { cancelAfter: WAITING });
    expect(run.outcome).toBe('cancelled');
    expect(run.exitCode).toBe(1);
    expect(run.outputs).toMatchObject({ result: 'reverted', release: served });
    expect(run.annotations.map((annotation) => annotation.message)).toContainEqual(
      expect.stringMatching(
        new RegExp(`^The deploy of \\S+ was cancelled\\.\\nRelease ${served} was put back and serves again\\.`),
      ),
    );
    // Within the time that GitHub gives: before SIGTERM.
    expect(run.signals.map((sent) => sent.signal)).toEqual(['SIGINT']);
    expect(run.post?.outcome).toBe('success');
    await expectRestored();
  });

  test.each([
    ['while Compose makes the new container', /Container shop-app-2\s+Creating$/],
    ['while the old container stops', /^- create new app/],
    ['while the new container starts', /^- stop app/],
  ])('a workflow that is cancelled %s', async (_when, moment) => {
    const run = await tryDeploy(endless, {}, { cancelAfter: moment });
    expect(run.outcome).toBe('cancelled');
    expect(run.outputs).toMatchObject({ result: 'reverted', release: served });
    expect(run.signals.map((sent) => sent.signal)).toEqual(['SIGINT']);
    await expectRestored();
  });

  test('SIGKILL: the server puts it back, and the post step says so', async () => {
    const run = await tryDeploy(endless, {}, { killAfter: WAITING });
    expect(run.exitCode).toBe(137);
    expect(run.post?.outcome).toBe('success');
    expect(run.post?.annotations.map((annotation) => annotation.message)).toEqual([
      expect.stringMatching(
        new RegExp(`^The interrupted deploy \\(release \\S+\\) was undone: release ${served} serves\\.$`),
      ),
    ]);
    expect(run.post?.summary).toContain('### After the interruption');
    await expectRestored();
  });

  test.each([
    ['while it waits', WAITING],
    ['when the release has been written', /^- write the release/],
    ['while Compose makes the new container', /Container shop-app-2\s+Creating$/],
    ['while the old container stops', /^- create new app/],
    ['while the new container starts', /^- stop app/],
  ])('the runner is lost %s: the server puts it back by itself', async (_when, moment) => {
    const run = await tryDeploy(endless, {}, { loseAfter: moment });
    expect(run.outcome).toBe('lost');
    expect(run.post).toBeUndefined();
    await expectUndoneByServer();
    const next = await tryDeploy({});
    expect(next.outputs).toMatchObject({ result: 'unchanged', release: served });
    // There was nothing to put right any more.
    expect(next.annotations).toEqual([]);
    await expectRestored();
  });

  test('SIGKILL in the very first deploy: the post step leaves nothing but the volume', async () => {
    await asDeploy('cd apps/shop && docker compose down --timeout 1 && rm -rf ../shop');
    const empty = await serverState();
    const run = await tryDeploy(endless, {}, { killAfter: WAITING });
    expect(run.exitCode).toBe(137);
    expect(run.post?.outcome).toBe('success');
    const after = await serverState();
    expect(after.containers).toEqual([]);
    expect(after.networks).toEqual(empty.networks);
    expect(after.volumes).toEqual(['shop_kept']);
    expect(after.files.filter((line) => /releases\/.|current|journal/.test(line))).toEqual([]);
  });
});

describe('a first deploy', () => {
  test('that fails leaves nothing but its volumes, and the next one goes well', async () => {
    await freshServer();
    const empty = await serverState();
    const run = await tryDeploy({ image: appImage('unhealthy') });
    const error = theError(run);
    expect(run.outputs).toMatchObject({ result: 'reverted', release: '', 'previous-release': '' });
    expect(error).toContain('shop-app-1 is unhealthy');
    expect(error).toContain('It was the first deploy: what it had started was removed again; volumes were left.');
    expect(run.summary).toContain('### Failed, and removed again: shop on deploy@');
    expect(run.summary).toContain('No release serves, as before this deploy.');
    const after = await serverState();
    expect(after.containers).toEqual([]);
    expect(after.networks).toEqual(empty.networks);
    expect(after.volumes).toEqual(['shop_kept']);
    expect(after.files.filter((line) => /releases\/.|current|journal/.test(line))).toEqual([]);
    await checkout.write({ 'compose.yaml': compose() });
    await mustDeploy(checkout);
    expect(await get(8080)).toBe('v1');
    // What somebody has stopped is put back as it was: the message does not say that it serves.
    await onServer('docker stop -t 1 shop-app-1');
    const again = await tryDeploy({ image: appImage('unhealthy') });
    expect(theError(again)).toMatch(/Release \S+ was put back as it was: app did not run before either\./);
    expect(await onServer('docker inspect --format "{{.State.Status}}" shop-app-1')).toBe('exited\n');
  });
});

describe('another version of Compose', () => {
  test('2.40: replaces what changed, a plain `up -d` changes nothing, and the other version goes on from there', async () => {
    const plugin = Object.entries(sandboxInfo().composePlugins).find(([version]) => version.startsWith('2.40.'));
    if (plugin === undefined) throw new Error('the sandbox has no Compose 2.40');
    await freshServer();
    await installCompose(plugin[1]);
    expect(await asDeploy('docker compose version --short')).toContain(plugin[0]);
    await checkout.write({ 'compose.yaml': compose() });
    await mustDeploy(checkout);
    const first = await serverState();
    await checkout.write({ 'compose.yaml': compose({ image: appImage('v2') }) });
    const run = await mustDeploy(checkout);
    const second = await serverState();
    expect(run.outputs['changed-services']).toBe('["app"]');
    expect(await get(8080)).toBe('v2');
    expect(idsOf(second, 'data')).toEqual(idsOf(first, 'data'));
    await asDeploy('cd apps/shop && docker compose up -d');
    expect((await serverState()).containers).toEqual(second.containers);
    const failing = await tryDeploy({ image: appImage('unhealthy') });
    expect(failing.outputs['result']).toBe('reverted');
    expect(restorable(await serverState())).toEqual(restorable(second));
  });
});

/** For the user alone, as Docker looks for plugins there first. */
async function installCompose(file: string): Promise<void> {
  const { keyFile, user, address, knownHosts } = theServer();
  const folder = mkdtempSync(join(tmpdir(), 'slipway-ssh-'));
  writeFileSync(join(folder, 'known_hosts'), knownHosts);
  const script =
    'mkdir -p ~/.docker/cli-plugins && cat >~/.docker/cli-plugins/docker-compose && chmod 755 ~/.docker/cli-plugins/docker-compose';
  const child = spawn(
    'ssh',
    [
      '-i',
      keyFile,
      '-o',
      'StrictHostKeyChecking=yes',
      '-o',
      `UserKnownHostsFile=${join(folder, 'known_hosts')}`,
      '-o',
      'LogLevel=ERROR',
      `${user}@${address}`,
      script,
    ],
    { stdio: ['pipe', 'inherit', 'inherit'] },
  );
  createReadStream(file).pipe(child.stdin);
  const [code] = (await once(child, 'exit')) as [number | null];
  rmSync(folder, { recursive: true });
  if (code !== 0) throw new Error(`installing ${file} failed with exit code ${String(code)}`);
}
