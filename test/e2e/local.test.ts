/**
 * `host: local`: both actions on a self-hosted runner that is the server itself. The server has no Node; the runner's own and
 * the bundles are put there, and run as the user that deploys.
 */
import { execFile, spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { basename, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { jest } from '@jest/globals';
import { GithubApi } from '../github-api/server';
import { enforcePermissions } from '../workflows/api-permissions.ts';
import { runWorkflow, type SelfHostedRunner } from '../workflows/run-workflow.ts';
import type { Permissions } from '../workflows/workflow.ts';
import { copyWorkflow, makeApplication, standInsFor, SUITE } from './application-repository.ts';
import { parsePairs } from './harness/file-commands.ts';
import { type Annotation, readManifest } from './harness/index.ts';
import { findNode24 } from './harness/node-binary.ts';
import { SecretMasker } from './harness/secret-masker.ts';
import { StepLog } from './harness/step-log.ts';
import { CommandReader } from './harness/workflow-commands.ts';
import {
  appImage,
  asDeploy,
  freshServer,
  get,
  idsOf,
  onServer,
  publishApp,
  sandboxInfo,
  serverState,
  theServer,
} from './sandbox.ts';

jest.setTimeout(120_000);

const REPOSITORY = fileURLToPath(new URL('../../', import.meta.url));
const SANDBOX = join(REPOSITORY, 'infra', 'sandbox', 'sandbox.mjs');
const WORKSPACE = '/home/deploy/runner/work';
const TEMP = '/home/deploy/runner/temp';
/** Stands for what a job's environment holds, and no container may ever get. */
const TOKEN = 'ghs_0nly-for-the-j0b';

/** Starts an action as the runner would, and tells of it as JSON: the request comes on stdin, so nothing is in the arguments. */
const LAUNCHER = `
const { spawnSync } = require('child_process'), fs = require('fs');
const { script, env, cwd, temp } = JSON.parse(fs.readFileSync(0, 'utf8'));
const files = { output: 'GITHUB_OUTPUT', state: 'GITHUB_STATE', env: 'GITHUB_ENV', path: 'GITHUB_PATH', summary: 'GITHUB_STEP_SUMMARY' };
for (const [name, variable] of Object.entries(files)) fs.writeFileSync(env[variable] = temp + '/' + name, '');
const done = spawnSync(process.execPath, [script], { env, cwd, encoding: 'utf8', input: '', maxBuffer: 1e8 });
const read = (name) => fs.readFileSync(temp + '/' + name, 'utf8');
console.log(JSON.stringify({ exitCode: done.status, stdout: done.stdout, stderr: done.stderr, output: read('output'), state: read('state'), env: read('env'), path: read('path'), summary: read('summary') }));
`;

interface LocalRun {
  readonly exitCode: number | null;
  readonly outputs: Readonly<Record<string, string>>;
  readonly state: Readonly<Record<string, string>>;
  readonly summary: string;
  /** As a person sees it. */
  readonly log: string;
  readonly annotations: readonly Annotation[];
}

interface Launched {
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stderr: string;
  readonly output: string;
  readonly state: string;
  readonly env: string;
  readonly path: string;
  readonly summary: string;
}

async function runLocally(
  action: string,
  inputs: Readonly<Record<string, string>>,
  more: Readonly<Record<string, string>> = {},
): Promise<LocalRun> {
  const manifest = await readManifest(join(REPOSITORY, action));
  const given: Record<string, string> = {};
  for (const input of manifest.inputs) {
    // The runner would evaluate it; here it goes as it is.
    if (input.default?.includes('${{') === true) throw new Error(`${input.name} has an expression as its default`);
    given[input.name] = input.default ?? '';
  }
  for (const [name, value] of Object.entries(inputs)) {
    if (given[name] === undefined) throw new Error(`${action} has no input ${name}`);
    given[name] = value;
  }
  const env = {
    PATH: '/usr/local/bin:/usr/bin:/bin',
    HOME: '/home/deploy',
    USER: 'deploy',
    LANG: 'C.UTF-8',
    GITHUB_ACTIONS: 'true',
    GITHUB_WORKSPACE: WORKSPACE,
    GITHUB_REPOSITORY: 'octocat/hello-world',
    GITHUB_RUN_ID: '4242424242',
    GITHUB_SHA: '1d0c5b0c6a8a1f4ac1f3d6e0b7e94ac2bf58e7d3',
    GITHUB_REF: 'refs/heads/main',
    GITHUB_ACTOR: 'octocat',
    GITHUB_TOKEN: TOKEN,
    RUNNER_TEMP: TEMP,
    ...more,
    ...Object.fromEntries(
      Object.entries(given).map(([name, value]) => [`INPUT_${name.replaceAll(' ', '_').toUpperCase()}`, value]),
    ),
  };
  const main = await launch(action, manifest.main, env);
  const state = Object.fromEntries(parsePairs(main.state));
  if (manifest.post !== undefined) {
    const stateEnv = Object.fromEntries(Object.entries(state).map(([name, value]) => [`STATE_${name}`, value]));
    const post = await launch(action, manifest.post, { ...env, ...stateEnv });
    if (post.exitCode !== 0 || post.output !== '') throw new Error(`post: ${JSON.stringify(post)}`);
  }
  if (main.env !== '' || main.path !== '') throw new Error('it changed the environment of later steps');
  const log = new StepLog(new SecretMasker());
  const reader = new CommandReader(log, new SecretMasker());
  for (const line of `${main.stdout}${main.stderr}`.split('\n')) reader.read(line);
  if (reader.unsupported.length > 0) throw new Error(JSON.stringify(reader.unsupported));
  return {
    exitCode: main.exitCode,
    outputs: Object.fromEntries(parsePairs(main.output)),
    state,
    summary: main.summary,
    log: log.render(),
    annotations: log.annotations,
  };
}

async function launch(action: string, script: string, env: Readonly<Record<string, string>>): Promise<Launched> {
  const request = { script: `/opt/slipway/${action}/${script}`, env, cwd: WORKSPACE, temp: TEMP };
  const told = await asDeploy('exec /opt/slipway/node /opt/slipway/launcher.cjs', [], JSON.stringify(request));
  return JSON.parse(told) as Launched;
}

const deploy = (inputs: Readonly<Record<string, string>> = {}): Promise<LocalRun> =>
  runLocally('action-deploy', { host: 'local', ...inputs });

async function mustDeploy(inputs: Readonly<Record<string, string>> = {}): Promise<LocalRun> {
  const run = await deploy(inputs);
  if (run.exitCode !== 0) throw new Error(`the deploy failed:\n${run.log}`);
  return run;
}

/** A file of the runner's machine into the server, through its stdin: no need to hold 100 MB. */
async function copyToServer(from: string, to: string): Promise<void> {
  const source = openSync(from, 'r');
  try {
    const argv = [SANDBOX, 'exec', theServer().name, '--', 'sh', '-c', 'mkdir -p "${1%/*}" && cat > "$1"', 'sh', to];
    const child = spawn(process.execPath, argv, { stdio: [source, 'ignore', 'inherit'], env: process.env });
    const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
    if (code !== 0) throw new Error(`could not copy ${basename(from)} to the server: exit code ${code ?? 'none'}`);
  } finally {
    closeSync(source);
  }
}

const compose = (release: string, more = ''): string =>
  `services:
  app:
    image: ${appImage(release)}
    ports: ['8080:3000']
    environment:
      SETTING: '\${SETTING:-default} \${GITHUB_TOKEN-clean} \${INPUT_HOST-clean}'
    volumes: ['./config:/config:ro']
  idle:
    image: ${sandboxInfo().registry.open}/library/busybox:1
    init: true
    command: sleep 3600
${more}`;

async function writeWorkspace(files: Readonly<Record<string, string>>): Promise<void> {
  for (const [path, text] of Object.entries(files)) {
    await asDeploy('mkdir -p "$(dirname "$1")" && cat > "$1"', [`${WORKSPACE}/${path}`], text);
  }
}

/** What was left running: guardians, shells of steps, our own Node. */
async function processesOfDeploy(): Promise<string[]> {
  const all = (await onServer('ps -eo user=,args=')).split('\n');
  // ps is there, and shows what it should.
  if (!all.some((line) => line.startsWith('root ') && line.includes('sshd'))) throw new Error(all.join('\n'));
  return all.filter((line) => line.startsWith('deploy ') && !/systemd --user|\(sd-pam\)/.test(line));
}

beforeAll(async () => {
  await freshServer();
  await Promise.all(['v1', 'v2'].map((release) => publishApp(release)));
  await publishApp('unhealthy', ['TEST_UNHEALTHY=true']);
  await onServer('! command -v node');
  await copyToServer(findNode24(), '/opt/slipway/node');
  for (const action of ['action-deploy', 'action-health-check']) {
    await copyToServer(join(REPOSITORY, action, 'dist', 'index.js'), `/opt/slipway/${action}/dist/index.js`);
  }
  await onServer('chmod 755 /opt/slipway/node && cat > /opt/slipway/launcher.cjs', [], LAUNCHER);
  await asDeploy('mkdir -p "$1/.git" "$2"', [WORKSPACE, TEMP]);
  await writeWorkspace({ 'compose.yaml': compose('v1'), 'config/site.conf': 'one\n' });
});

afterEach(async () => {
  // The guardian ends with its deploy: nothing may hold a self-hosted runner's job, or the next deploy.
  // Its clock is in the middle of a second still.
  let left = await processesOfDeploy();
  for (let tries = 0; left.length > 0 && tries < 10; tries++) {
    await new Promise((resolve) => setTimeout(resolve, 300));
    left = await processesOfDeploy();
  }
  expect(left).toEqual([]);
});

const FILES = { files: 'config' };

test('a dry run plans and changes nothing', async () => {
  const before = await serverState();
  const run = await mustDeploy({ ...FILES, 'dry-run': 'true' });
  expect(run.outputs).toMatchObject({ result: 'planned', release: '', 'previous-release': '' });
  expect(run.summary).toContain('### Plan (dry run): hello-world');
  expect({ ...(await serverState()), files: [] }).toEqual({ ...before, files: [] });
  expect(await onServer('ls -A /home/deploy | grep apps || true')).toBe('');
});

let first: LocalRun;

test('the first deploy goes live', async () => {
  first = await mustDeploy(FILES);
  expect(first.outputs).toMatchObject({ result: 'deployed', 'previous-release': '' });
  expect(first.outputs['release']).toMatch(/^\d{8}T\d{6}Z-1d0c5b0$/);
  expect(JSON.parse(first.outputs['changed-services'] ?? '')).toEqual(['app', 'idle']);
  expect(await get(8080)).toBe('v1');
  expect(await get(8080, '/config')).toBe('one\n');
  expect(first.summary).toContain('### Deployed: hello-world on ');
  expect(first.annotations.filter((annotation) => annotation.type === 'error')).toEqual([]);
});

test('what the runner has in its environment reaches no container', async () => {
  expect(await get(8080, '/setting')).toBe('default clean clean');
  expect(await onServer(`docker inspect $(docker ps -aq) | grep -c "$1" || true`, [TOKEN])).toBe('0\n');
  expect(await onServer(`grep -rlF "$1" /home/deploy/apps || true`, [TOKEN])).toBe('');
});

test('the same again does nothing', async () => {
  const before = await serverState();
  const run = await mustDeploy(FILES);
  expect(run.outputs).toMatchObject({
    result: 'unchanged',
    release: first.outputs['release'],
    'changed-services': '[]',
  });
  const after = await serverState();
  expect(after.containers).toEqual(before.containers);
});

let second: LocalRun;

test('a changed image replaces its service, and no other', async () => {
  const before = await serverState();
  await writeWorkspace({ 'compose.yaml': compose('v2'), 'config/site.conf': 'two\n' });
  second = await mustDeploy(FILES);
  expect(second.outputs).toMatchObject({
    result: 'deployed',
    'previous-release': first.outputs['release'],
    'changed-services': '["app"]',
  });
  expect(await get(8080)).toBe('v2');
  expect(await get(8080, '/config')).toBe('two\n');
  const after = await serverState();
  expect(idsOf(after, 'idle')).toEqual(idsOf(before, 'idle'));
  expect(idsOf(after, 'app')).not.toEqual(idsOf(before, 'app'));
});

test('a release that does not become healthy is put back', async () => {
  await writeWorkspace({ 'compose.yaml': compose('unhealthy') });
  const run = await deploy({ ...FILES, timeout: '10' });
  expect(run.exitCode).toBe(1);
  expect(run.outputs).toMatchObject({ result: 'reverted', release: second.outputs['release'] });
  expect(await get(8080)).toBe('v2');
  expect(run.annotations.filter((annotation) => annotation.type === 'error').map(({ message }) => message)).toEqual([
    expect.stringMatching(/hello-world-app-3 is unhealthy/),
  ]);
});

test('a release that answers wrongly is put back by a health check', async () => {
  await writeWorkspace({ 'compose.yaml': compose('v1') });
  const checks = 'http://127.0.0.1:8080/ contains:v2 attempts:2 interval:200ms';
  const run = await deploy({ ...FILES, 'health-checks': checks });
  expect(run.outputs).toMatchObject({ result: 'reverted', release: second.outputs['release'] });
  expect(await get(8080)).toBe('v2');
});

test('the release that was put back is what the next deploy starts from', async () => {
  await writeWorkspace({ 'compose.yaml': compose('v2') });
  const run = await mustDeploy(FILES);
  expect(run.outputs).toMatchObject({ result: 'unchanged', release: second.outputs['release'] });
});

interface Results {
  readonly checks: readonly { readonly name: string; readonly vantages: readonly { readonly reason: string }[] }[];
}

describe('action-health-check', () => {
  const check = (checks: readonly string[]): Promise<LocalRun> =>
    runLocally('action-health-check', {
      host: 'local',
      project: 'hello-world',
      attempts: '1',
      checks: checks.join('\n'),
    });
  const reasonsOf = (run: LocalRun): Record<string, string[]> =>
    Object.fromEntries(
      (JSON.parse(run.outputs['results'] ?? '{}') as Results).checks.map((one) => [
        one.name,
        one.vantages.map(({ reason }) => reason.replace(/\d+ ms/, 'N ms')),
      ]),
    );

  test('containers, commands and ports are those of this machine', async () => {
    const run = await check([
      'container:app health:healthy',
      'command: test "$(id -un)" = deploy && test "$PWD" = "$HOME"',
      'http://127.0.0.1:8080/ contains:v2 via:both',
      'ssh+tcp://127.0.0.1:22',
    ]);
    expect(reasonsOf(run)).toEqual({
      'container:app': ['hello-world-app-2 is running, healthy'],
      'command: test "$(id -un)" = deploy && test "$PWD" = "$HOME"': ['exit code 0'],
      'http://127.0.0.1:8080/': ['status 200 in N ms', 'status 200 in N ms'],
      'tcp://127.0.0.1:22': ['connected in N ms'],
    });
    expect(run.outputs).toMatchObject({ healthy: 'true', failed: '' });
    expect(run.exitCode).toBe(0);
  });

  test('each failure is reported', async () => {
    const run = await check([
      'container:nope',
      'container:idle health:healthy',
      'command: exit 7',
      'ssh+http://127.0.0.1:9/',
      'http://127.0.0.1:8080/ contains:v2',
    ]);
    expect(run.outputs).toMatchObject({
      healthy: 'false',
      failed: 'container:nope\ncontainer:idle\ncommand: exit 7\nhttp://127.0.0.1:9/',
    });
    expect(reasonsOf(run)).toMatchObject({
      'container:nope': ['project hello-world has no container of service nope, only of: app, idle'],
      'command: exit 7': ['exit code 7'],
    });
    expect(run.exitCode).toBe(1);
  });

  test('a command gets nothing of the job: neither its token nor the files through which a step speaks', async () => {
    const run = await check(['command: ! env | grep -E "^(INPUT_|GITHUB_|ACTIONS_)"']);
    expect(run.outputs['healthy']).toBe('true');
  });
});

// Last: a project of its own takes the place of what the tests before have left.
describe('deploy-self-hosted.yml of infra/workflows, on the server', () => {
  const { name } = SUITE;
  let application: string;
  let api: GithubApi;
  let permissions: Permissions = {};

  beforeAll(async () => {
    await onServer('docker rm -f $(docker ps -aq) >/dev/null && rm -rf /home/deploy/apps');
    application = await makeApplication();
    await copyWorkflow(application, 'deploy-self-hosted');
    api = new GithubApi('acme/shop', sandboxInfo().registry.login.password);
    enforcePermissions(api, () => permissions);
  });
  afterAll(async () => {
    await api.close();
    await rm(application, { recursive: true });
  });

  const runner: SelfHostedRunner = {
    async run(action, { with: inputs, github, workspace }) {
      const { stdout: files } = await promisify(execFile)('sh', ['-c', 'tar -C "$1" -cz . | base64', 'sh', workspace], {
        maxBuffer: 64 * 1024 * 1024,
      });
      await asDeploy('rm -rf "$1" && mkdir -p "$1" && base64 -d | tar -C "$1" -xz', [WORKSPACE], files);
      const names = ['api_url', 'repository', 'sha', 'ref', 'actor', 'run_id', 'server_url'];
      const variables = Object.fromEntries(names.map((one) => [`GITHUB_${one.toUpperCase()}`, github[one] ?? '']));
      const done = await runLocally(relative(REPOSITORY, action), inputs, variables);
      return { outcome: done.exitCode === 0 ? 'success' : 'failure', outputs: done.outputs, log: done.log };
    },
  };

  test('a push is built, and deployed by the runner that is the server: no key, no host key', async () => {
    const { login } = sandboxInfo().registry;
    const run = await runWorkflow({
      repository: { name: 'acme/shop', folder: application },
      workflow: '.github/workflows/deploy-self-hosted.yml',
      event: { name: 'push', payload: { repository: { name: 'shop' } } },
      repositories: [SUITE],
      environments: {
        production: {
          variables: { URL: `http://${theServer().address}:8080/` },
          secrets: { APP_ENV: 'POSTGRES_PASSWORD=a-secret-of-the-database\nREDIS_PASSWORD=a-secret-of-the-cache' },
        },
      },
      standIns: standInsFor(application, []),
      selfHosted: runner,
      onJob: (_job, may) => (permissions = may),
      github: {
        api_url: await api.listen(sandboxInfo().network.host),
        actor: login.username,
        token: login.password,
        run_id: '1',
        sha: '4'.repeat(40),
      },
    });
    expect(run.log).not.toContain('a-secret-of');
    expect(Object.values(run.jobs).map(({ path, result }) => [path, result])).toEqual([
      ['build', 'success'],
      ['deploy', 'success'],
    ]);
    const step = run.jobs['deploy']?.steps.find(({ label }) => label.startsWith(name));
    expect(step?.outputs).toMatchObject({ result: 'deployed', 'previous-release': '' });
    expect(JSON.parse(await get(8080, '/api/version'))).toMatchObject({ releaseId: '4'.repeat(40) });
    expect(api.deployments.map(({ statuses }) => statuses.map(({ state }) => state))).toEqual([
      ['in_progress', 'success'],
    ]);
    expect(api.problems).toEqual([]);
    expect(run.concurrency.map(({ group }) => group)).toEqual(['deploy-production']);
    // Its containers run under the number of the deploy user; without them, what is left below is ours.
    await onServer('docker rm -f $(docker ps -aq) >/dev/null');
  });
});
