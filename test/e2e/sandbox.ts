/**
 * The servers that the end-to-end tests deploy to, and what the tests say to them: the sandbox's instance `e2e` (or the one
 * that SLIPWAY_SANDBOX names), one server. Needs root and Linux; see infra/sandbox.
 */
import { createHash, randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { pack } from 'tar-stream';
import { type ActionRequest, type ActionRun, runAction } from './harness/index.ts';

// Two workers of jest have a server each.
const base = (process.env['SLIPWAY_SANDBOX_BASE'] ??= process.env['SLIPWAY_SANDBOX'] ?? 'e2e');
const worker = Number(process.env['JEST_WORKER_ID'] ?? 1);
process.env['SLIPWAY_SANDBOX'] = worker > 1 ? `${base}${worker}` : base;

export interface SandboxServer {
  readonly name: string;
  readonly address: string;
  readonly port: number;
  readonly user: string;
  readonly keyFile: string;
  readonly knownHosts: string;
  /** Of a bare server: the key that lets root in. */
  readonly rootKeyFile?: string;
}

export interface SandboxInfo {
  readonly instance: string;
  readonly network: { readonly host: string };
  readonly servers: readonly SandboxServer[];
  readonly registry: {
    /** `host:port` of the front door without a login. */
    readonly open: string;
    readonly login: { readonly address: string; readonly username: string; readonly password: string };
  };
  /** Version to file. */
  readonly composePlugins: Readonly<Record<string, string>>;
}

export interface Executed {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** What infra/sandbox/sandbox.mjs exports, as far as the tests use it. */
interface Sandbox {
  up(options: { readonly servers: number }): Promise<SandboxInfo>;
  execute(name: string, argv: readonly string[], options?: { readonly input?: string }): Promise<Executed>;
  reset(name: string, options?: { readonly bare: boolean }): Promise<void>;
  info(): SandboxInfo;
  reboot(name: string): Promise<void>;
  cut(name: string): Promise<void>;
  join(name: string): Promise<void>;
  fill(name: string, options: { readonly leave: string }): Promise<void>;
  unfill(name: string): Promise<void>;
  startRegistry(): Promise<void>;
  stopRegistry(): Promise<void>;
  build(
    name: string,
    folder: string,
    options: { readonly buildArgs: readonly string[] },
  ): Promise<{ readonly reference: string; readonly digest: string }>;
  setQuiet(quiet: boolean): void;
}

const REPOSITORY = fileURLToPath(new URL('../../', import.meta.url));
// By a name that the compiler does not follow: the sandbox is plain JavaScript.
const SANDBOX_MODULE: string = new URL('../../infra/sandbox/sandbox.mjs', import.meta.url).href;
const sandbox = (await import(SANDBOX_MODULE)) as Sandbox;

let known: SandboxInfo | undefined;

/** SLIPWAY_ALL_KILLS=1: every moment at which something is killed; otherwise those that differ most, in the time that `npm test` has. */
export const allKills = process.env['SLIPWAY_ALL_KILLS'] !== undefined;

/** @param some indices of those that are always tried */
export function sampled<T>(all: readonly T[], some: readonly number[]): T[] {
  return all.filter((_, index) => allKills || some.includes(index));
}

/** Starts what is not up yet, with one server. Idempotent. */
export async function startSandbox(): Promise<SandboxInfo> {
  known ??= await sandbox.up({ servers: 1 });
  return known;
}

export function sandboxInfo(): SandboxInfo {
  if (known === undefined) throw new Error('startSandbox() first');
  return known;
}

export function theServer(): SandboxServer {
  const [server] = sandboxInfo().servers;
  if (server === undefined) throw new Error('the sandbox has no server');
  return server;
}

/** Pristine, with the same address and host keys; about 1 s. */
export async function freshServer(): Promise<SandboxServer> {
  await startSandbox();
  const server = theServer();
  await sandbox.unfill(server.name);
  await sandbox.join(server.name);
  await sandbox.reset(server.name);
  return server;
}

/** As a provider hands it over, until the next `freshServer()`: systemd, sshd, apt, root's key, and no Docker. */
export async function bareServer(): Promise<SandboxServer & { readonly rootKeyFile: string }> {
  const { name } = await freshServer();
  await sandbox.reset(name, { bare: true });
  const server = sandbox.info().servers.find((one) => one.name === name);
  if (server?.rootKeyFile === undefined) throw new Error(`the sandbox did not make ${name} bare`);
  return { ...server, rootKeyFile: server.rootKeyFile };
}

export const rebootServer = async (): Promise<void> => sandbox.reboot(theServer().name);
export const cutLink = async (): Promise<void> => sandbox.cut(theServer().name);
export const joinLink = async (): Promise<void> => sandbox.join(theServer().name);
export const fillDisk = async (leave: string): Promise<void> => sandbox.fill(theServer().name, { leave });
export const stopRegistry = async (): Promise<void> => sandbox.stopRegistry();
export const startRegistry = async (): Promise<void> => sandbox.startRegistry();
export const unfillDisk = async (): Promise<void> => sandbox.unfill(theServer().name);

/** A shell script as root, whatever its exit code. Arguments are `$1`, `$2` ... */
export async function tryOnServer(script: string, args: readonly string[] = [], input = ''): Promise<Executed> {
  return sandbox.execute(theServer().name, ['sh', '-c', script, 'sh', ...args], { input });
}

/** A shell script as root. @returns its output @throws Error when it fails */
export async function onServer(script: string, args: readonly string[] = [], input = ''): Promise<string> {
  const done = await tryOnServer(script, args, input);
  if (done.code !== 0)
    throw new Error(`on the server, exit code ${done.code}: ${script}\n${done.stdout}${done.stderr}`);
  return done.stdout;
}

/** A shell script as the user that deploys, in its home. */
export async function asDeploy(script: string, args: readonly string[] = [], input = ''): Promise<string> {
  const argv = ['runuser', '-u', 'deploy', '--', 'env', 'HOME=/home/deploy', 'sh', '-c', `cd && ${script}`, 'sh'];
  const done = await sandbox.execute(theServer().name, [...argv, ...args], { input });
  if (done.code !== 0) throw new Error(`as deploy, exit code ${done.code}: ${script}\n${done.stdout}${done.stderr}`);
  return done.stdout;
}

// --- images ------------------------------------------------------------------------------------------------------------

interface Manifest {
  readonly mediaType: string;
  readonly config: { readonly mediaType: string; readonly digest: string; readonly size: number };
  readonly layers: readonly { readonly digest: string; readonly mediaType: string }[];
}

interface ImageConfig {
  readonly config: { readonly Env?: readonly string[] } & Readonly<Record<string, unknown>>;
  readonly rootfs: { readonly diff_ids: readonly string[] };
}

const MANIFEST_TYPES = [
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.docker.distribution.manifest.v2+json',
];

interface RegistryRequest {
  readonly method?: string;
  readonly type?: string;
  readonly body?: string | Uint8Array<ArrayBuffer>;
}

async function askRegistry(path: string, options: RegistryRequest = {}): Promise<Response> {
  const url = path.startsWith('http') ? path : `http://${sandboxInfo().registry.open}${path}`;
  return fetch(url, {
    method: options.method ?? 'GET',
    headers: {
      accept: MANIFEST_TYPES.join(', '),
      ...(options.type === undefined ? {} : { 'content-type': options.type }),
    },
    ...(options.body === undefined ? {} : { body: options.body }),
  });
}

async function mustAskRegistry(path: string, options: RegistryRequest = {}): Promise<Response> {
  const response = await askRegistry(path, options);
  if (!response.ok) throw new Error(`${options.method ?? 'GET'} ${path}: ${response.status} ${await response.text()}`);
  return response;
}

const digestOf = (content: string | Uint8Array): string =>
  `sha256:${createHash('sha256').update(content).digest('hex')}`;

/**
 * Publishes an image that has the layers of a base image and another configuration: what a build with ENV, CMD and LABEL
 * gives, without a build. Publishing the same tag again with something else moves it.
 *
 * @param base a base image of the sandbox, `node:24`.
 * @param target `name:tag`; a name without a slash is also what Docker Hub's mirror has under it.
 * @returns the digest
 */
export function publishImage(
  base: string,
  target: string,
  changes: { readonly env?: readonly string[] } & Readonly<Record<string, unknown>>,
): Promise<string> {
  // One after the other: the registry loses a blob when two uploads of it meet.
  const published = publishing.then(() => publishNow(base, target, changes));
  publishing = published.catch(() => undefined);
  return published;
}

let publishing: Promise<unknown> = Promise.resolve();

async function publishNow(
  base: string,
  target: string,
  changes: { readonly env?: readonly string[] } & Readonly<Record<string, unknown>>,
): Promise<string> {
  const [baseName = '', baseTag = ''] = base.split(':');
  const from = baseName.includes('/') ? baseName : `library/${baseName}`;
  const [name = '', tag = ''] = target.split(':');
  const manifest = (await (await mustAskRegistry(`/v2/${from}/manifests/${baseTag}`)).json()) as Manifest;
  const config = (await (await mustAskRegistry(`/v2/${from}/blobs/${manifest.config.digest}`)).json()) as ImageConfig;
  const { env = [], ...rest } = changes;
  const changed = JSON.stringify({
    ...config,
    config: { ...config.config, ...rest, Env: [...(config.config.Env ?? []), ...env] },
  });
  const published = JSON.stringify({
    ...manifest,
    config: { ...manifest.config, digest: digestOf(changed), size: Buffer.byteLength(changed) },
  });
  for (const repository of name.includes('/') ? [name] : [name, `library/${name}`]) {
    for (const { digest } of manifest.layers) {
      await mustAskRegistry(`/v2/${repository}/blobs/uploads/?mount=${digest}&from=${from}`, { method: 'POST' });
    }
    await uploadBlob(repository, changed);
    await mustAskRegistry(`/v2/${repository}/manifests/${tag}`, {
      method: 'PUT',
      type: manifest.mediaType,
      body: published,
    });
  }
  return digestOf(published);
}

/** Publishes an image with one more layer of so many megabytes that do not compress; both in the same repository. */
export async function publishLayer(base: string, target: string, megabytes: number): Promise<void> {
  const [name = '', baseTag = ''] = base.split(':');
  const tag = target.split(':')[1] ?? '';
  const manifest = (await (await mustAskRegistry(`/v2/${name}/manifests/${baseTag}`)).json()) as Manifest;
  const config = (await (await mustAskRegistry(`/v2/${name}/blobs/${manifest.config.digest}`)).json()) as ImageConfig;
  const tar = pack();
  tar.entry({ name: 'large' }, randomBytes(megabytes * 1024 * 1024));
  tar.finalize();
  const layer = await buffer(tar);
  const compressed = gzipSync(layer, { level: 1 });
  const changed = JSON.stringify({
    ...config,
    history: undefined,
    rootfs: { ...config.rootfs, diff_ids: [...config.rootfs.diff_ids, digestOf(layer)] },
  });
  await uploadBlob(name, compressed);
  await uploadBlob(name, changed);
  const published = JSON.stringify({
    ...manifest,
    config: { ...manifest.config, digest: digestOf(changed), size: Buffer.byteLength(changed) },
    layers: [
      ...manifest.layers,
      { mediaType: manifest.layers[0]?.mediaType, digest: digestOf(compressed), size: compressed.byteLength },
    ],
  });
  await mustAskRegistry(`/v2/${name}/manifests/${tag}`, { method: 'PUT', type: manifest.mediaType, body: published });
}

async function uploadBlob(repository: string, content: string | Uint8Array<ArrayBuffer>): Promise<void> {
  const upload = await mustAskRegistry(`/v2/${repository}/blobs/uploads/`, { method: 'POST' });
  const location = new URL(upload.headers.get('location') ?? '', `http://${sandboxInfo().registry.open}`);
  location.searchParams.set('digest', digestOf(content));
  await mustAskRegistry(location.href, { method: 'PUT', type: 'application/octet-stream', body: content });
}

/** Serves its RELEASE_ID on port 3000, and misbehaves as the TEST_ variables say (those of infra/example). */
const APPLICATION = `
const fs = require('fs'), env = process.env;
fs.rmSync('/tmp/healthy', { force: true });
process.on('SIGTERM', () => process.exit(0));
console.log('application ' + env.RELEASE_ID + ' starts');
if (env.TEST_SAY) console.log(env.TEST_SAY);
if (env.TEST_CRASH_AFTER_SECONDS) setTimeout(() => { console.error('fatal: going down on purpose'); process.exit(3); }, env.TEST_CRASH_AFTER_SECONDS * 1000);
let broken = false;
if (env.TEST_BREAK_AFTER_SECONDS) setTimeout(() => { broken = true; }, env.TEST_BREAK_AFTER_SECONDS * 1000);
require('http').createServer((request, response) => {
  if (request.url === '/config') return response.end(fs.existsSync('/config/site.conf') ? fs.readFileSync('/config/site.conf') : 'none');
  if (request.url === '/setting') return response.end(String(env.SETTING));
  if (request.url === '/slow') return void setTimeout(() => response.end(env.RELEASE_ID), 2000);
  if (request.url === '/host') return response.end(require('os').hostname());
  if (request.url === '/broken' || broken) { response.statusCode = 500; return response.end('broken'); }
  response.end(env.RELEASE_ID);
}).listen(3000, () => {
  if (env.TEST_MEMORY_MB) { const taken = []; for (let i = 0; i < env.TEST_MEMORY_MB; i++) taken.push(Buffer.alloc(1048576, 1)); }
  if (!env.TEST_UNHEALTHY) fs.writeFileSync('/tmp/healthy', '');
});`;

const SECOND = 1_000_000_000;

/** `app:<release>` in the registry: healthy within about half a second, unless `env` says otherwise. */
export async function publishApp(release: string, env: readonly string[] = []): Promise<string> {
  return publishImage('node:24', `app:${release}`, {
    env: [`RELEASE_ID=${release}`, ...env],
    // No entry point: a migration's command is then what runs.
    Entrypoint: null,
    Cmd: ['node', '-e', APPLICATION],
    Labels: { release },
    Healthcheck: {
      Test: ['CMD-SHELL', 'test -e /tmp/healthy || { echo not healthy on purpose; exit 1; }'],
      Interval: SECOND / 2,
      Timeout: 5 * SECOND,
      Retries: 3,
    },
  });
}

/** Releases of the application that are not good, each by its own fault; `v1` and `v2` are. */
export const RELEASES: Readonly<Record<string, readonly string[]>> = {
  v1: [],
  v2: [],
  unhealthy: ['TEST_UNHEALTHY=true'],
  crash: ['TEST_CRASH_AFTER_SECONDS=0.05', 'TEST_UNHEALTHY=true'],
  'crash-later': ['TEST_CRASH_AFTER_SECONDS=3'],
  hungry: ['TEST_MEMORY_MB=256'],
};

/** `<registry>/app` */
export const appImage = (tag: string): string => `${sandboxInfo().registry.open}/app:${tag}`;

export const EXAMPLE = join(REPOSITORY, 'infra', 'example');

/** The example application, built by its own Dockerfile with RELEASE_ID; built once for a state of its bundle. @returns the reference */
export async function buildExample(release: string): Promise<string> {
  const bundle = join(EXAMPLE, 'dist', 'server.js');
  if (!existsSync(bundle)) throw new Error('infra/example is not built: run `npm ci && npm run build` there');
  const state = createHash('sha256')
    .update(await readFile(bundle))
    .update(await readFile(join(EXAMPLE, 'Dockerfile')))
    .digest('hex')
    .slice(0, 8);
  const tag = `${release}-${state}`;
  const there = await askRegistry(`/v2/example/manifests/${tag}`, { method: 'HEAD' });
  if (!there.ok) await sandbox.build(`example:${tag}`, EXAMPLE, { buildArgs: [`RELEASE_ID=${release}`] });
  return `${sandboxInfo().registry.open}/example:${tag}`;
}

/** Builds a folder by its Dockerfile. @param target `name:tag` @returns the digest */
export async function buildImage(target: string, folder: string, buildArgs: readonly string[]): Promise<string> {
  return (await sandbox.build(target, folder, { buildArgs })).digest;
}

// --- deploys -----------------------------------------------------------------------------------------------------------

/** A checkout: a folder with these files. A file whose name ends in `.sh` is executable. */
export interface Checkout {
  readonly folder: string;
  write(files: Readonly<Record<string, string>>): Promise<void>;
  remove(path: string): Promise<void>;
}

const checkouts: string[] = [];

export async function projectFiles(files: Readonly<Record<string, string>>): Promise<Checkout> {
  const folder = await mkdtemp(join(tmpdir(), 'slipway-checkout-'));
  checkouts.push(folder);
  const write = async (more: Readonly<Record<string, string>>): Promise<void> => {
    for (const [path, text] of Object.entries(more)) {
      await mkdir(dirname(join(folder, path)), { recursive: true });
      await writeFile(join(folder, path), text);
      if (path.endsWith('.sh')) await chmod(join(folder, path), 0o755);
    }
  };
  await write({ '.git/HEAD': 'ref: refs/heads/main\n', ...files });
  return { folder, write, remove: (path) => rm(join(folder, path), { recursive: true }) };
}

export async function removeCheckouts(): Promise<void> {
  for (const folder of checkouts.splice(0)) await rm(folder, { recursive: true, force: true });
}

export const deployKey = async (): Promise<string> => readFile(theServer().keyFile, 'utf8');

export type DeployOptions = Omit<ActionRequest, 'action' | 'with' | 'workspace'>;

/** Runs action-deploy as a workflow step would, with the three inputs that every deploy needs. */
export async function deploy(
  checkout: Checkout | string,
  inputs: Readonly<Record<string, string>> = {},
  options: DeployOptions = {},
): Promise<ActionRun> {
  const server = theServer();
  const key = await deployKey();
  const run = await runAction({
    action: 'action-deploy',
    workspace: typeof checkout === 'string' ? checkout : checkout.folder,
    secrets: [key],
    ...options,
    with: { host: server.address, 'ssh-key': key, 'known-hosts': server.knownHosts, ...inputs },
  });
  if (run.outputs['result'] === 'deployed') await waitForFinish(inputs['path']);
  return run;
}

/** Runs action-rollback as a workflow step would, in a workspace that nothing was checked out into. */
export async function rollBack(
  inputs: Readonly<Record<string, string>> = {},
  options: DeployOptions = {},
): Promise<ActionRun> {
  const server = theServer();
  const key = await deployKey();
  const run = await runAction({
    action: 'action-rollback',
    workspace: (await projectFiles({})).folder,
    secrets: [key],
    ...options,
    with: { host: server.address, 'ssh-key': key, 'known-hosts': server.knownHosts, project: 'shop', ...inputs },
  });
  if (run.outputs['result'] === 'rolled-back') await waitForFinish(inputs['path']);
  return run;
}

/** Runs action-backup as a workflow step would. */
export async function backUp(
  inputs: Readonly<Record<string, string>> = {},
  options: DeployOptions = {},
): Promise<ActionRun> {
  const server = theServer();
  const key = await deployKey();
  return runAction({
    action: 'action-backup',
    workspace: (await projectFiles({})).folder,
    ...options,
    secrets: [key, ...(options.secrets ?? [])],
    with: { host: server.address, 'ssh-key': key, 'known-hosts': server.knownHosts, project: 'shop', ...inputs },
  });
}

/** The action ends with the commit; the server removes what is left of the old release by itself. */
export async function waitForFinish(path = ''): Promise<void> {
  await tryOnServer(
    `cd /home/deploy
for attempt in $(seq 600); do
  left=
  for store in apps/*/.slipway $1; do [ ! -e "$store/journal" ] || left=1; done
  [ -n "$left" ] || exit 0
  sleep 0.05
done`,
    path === '' ? [] : [`${path}/.slipway`],
  );
}

/** A deploy that must go well; its log is the failure's message otherwise. */
export async function mustDeploy(
  checkout: Checkout | string,
  inputs: Readonly<Record<string, string>> = {},
  options: DeployOptions = {},
): Promise<ActionRun> {
  const run = await deploy(checkout, inputs, options);
  if (run.outcome !== 'success') throw new Error(`the deploy ended with ${run.outcome}:\n${run.log}`);
  return run;
}

export interface PlannedService {
  readonly service: string;
  readonly action: string;
  readonly reasons: readonly string[];
}

/** The output `plan`, by service. */
export function planOf(run: ActionRun): Record<string, PlannedService> {
  const plan = JSON.parse(run.outputs['plan'] ?? '{}') as { readonly services?: readonly PlannedService[] };
  return Object.fromEntries((plan.services ?? []).map((service) => [service.service, service]));
}

/** What the run's page shows as errors. */
export function errorsOf(run: ActionRun): string[] {
  return run.annotations.filter((annotation) => annotation.type === 'error').map((annotation) => annotation.message);
}

/** A plain GET to a published port, as a visitor's. `unreachable` and the code where nobody answers. */
export async function get(port: number, path = '/'): Promise<string> {
  return new Promise((resolve) => {
    const asked = request({ host: theServer().address, port, path, agent: false, timeout: 3000 }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => (text += chunk));
      response.on('end', () => {
        resolve(response.statusCode === 200 ? text : `${response.statusCode ?? 0} ${text}`);
      });
    });
    asked.on('timeout', () => asked.destroy(new Error('timeout')));
    asked.on('error', (error: NodeJS.ErrnoException) => {
      resolve(`unreachable ${error.code ?? error.message}`);
    });
    asked.end();
  });
}

// --- state -------------------------------------------------------------------------------------------------------------

export interface ContainerRecord {
  readonly id: string;
  readonly name: string;
  readonly project: string;
  readonly service: string;
  /** As the container was made from. */
  readonly image: string;
  readonly configHash: string;
  readonly state: string;
  readonly restarts: number;
}

/** All that a deploy could change. Equal before and after: nothing was changed. */
export interface ServerState {
  readonly containers: readonly ContainerRecord[];
  readonly networks: readonly string[];
  readonly volumes: readonly string[];
  /** Id and every tag and digest. */
  readonly images: readonly string[];
  /**
   * Of the home: mode, owner, name, target of a link, hash of the content. Without what the notes say (`lock`, `session`, `step`,
   * `running`: who came last, and what ran then), and without the log of the last way back.
   */
  readonly files: readonly string[];
}

const STATE = `set -eu
section() { printf '== %s\\n' "$1"; }
section containers
ids=$(docker ps -aq --no-trunc)
[ -z "$ids" ] || docker inspect --format '{"id":{{json .Id}},"name":{{json .Name}},"project":{{json (index .Config.Labels "com.docker.compose.project")}},"service":{{json (index .Config.Labels "com.docker.compose.service")}},"image":{{json .Config.Image}},"configHash":{{json (index .Config.Labels "com.docker.compose.config-hash")}},"state":{{json .State.Status}},"restarts":{{json .RestartCount}}}' $ids
section networks
docker network ls --no-trunc --format '{{.ID}} {{.Name}}'
section volumes
docker volume ls --format '{{.Name}}'
section images
ids=$(docker image ls -aq --no-trunc | sort -u)
[ -z "$ids" ] || docker image inspect --format '{{.Id}} {{json .RepoTags}} {{json .RepoDigests}}' $ids
section files
cd /home
find . ! -path '*/.slipway/undo.log' -printf '%M %u:%g %p %l\\n'
find . -type f ! -path './*/.slipway-locks/*' ! -path '*/.slipway/lock' ! -path '*/.slipway/session' ! -path '*/.slipway/step' \\
  ! -path '*/.slipway/running' ! -path '*/.slipway/undo.log' -exec sha256sum {} +`;

/** The server may just be removing what it has named: then once more. */
async function readState(): Promise<string> {
  for (let attempt = 0; attempt < 20; attempt++) {
    const { code, stdout, stderr } = await tryOnServer(STATE);
    if (code === 0) return stdout;
    if (!/No such object/.test(stderr)) break;
  }
  return onServer(STATE);
}

export async function serverState(): Promise<ServerState> {
  const sections: Record<string, string[]> = {};
  let lines: string[] = [];
  for (const line of (await readState()).split('\n')) {
    const name = /^== (\w+)$/.exec(line)?.[1];
    if (name !== undefined) sections[name] = lines = [];
    else if (line !== '') lines.push(line);
  }
  return {
    containers: (sections['containers'] ?? [])
      .map((line) => JSON.parse(line) as ContainerRecord)
      .sort((a, b) => (a.name < b.name ? -1 : 1)),
    networks: (sections['networks'] ?? []).sort(),
    volumes: (sections['volumes'] ?? []).sort(),
    images: (sections['images'] ?? []).sort(),
    files: (sections['files'] ?? []).sort(),
  };
}

/** Nobody is connected any more: the server makes an end of what it was at by itself. */
export async function untilSettled(seconds: number): Promise<void> {
  const until = performance.now() + seconds * 1000;
  while ((await onServer('ls /home/deploy/apps/shop/.slipway/journal 2>/dev/null || true')) !== '') {
    if (performance.now() > until) throw new Error(`the journal is still open after ${seconds} s`);
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

/** For a shell on the server: the id of a service's running container. Each new one has a new name. */
export const running = (service: string): string =>
  `$(docker ps -q --filter label=com.docker.compose.service=${service} --filter label=com.docker.compose.oneoff=False)`;

/** Ids of a service's containers, oldest name first. */
export function idsOf(state: ServerState, service: string): string[] {
  return state.containers.filter((container) => container.service === service).map((container) => container.id);
}

/** What must be the same after a release was put back, where a container may have been made again. */
export function restorable(state: ServerState): object {
  return {
    containers: state.containers.map(({ name, service, image, configHash, state: status }) => ({
      name,
      service,
      image,
      configHash,
      status,
    })),
    networks: state.networks,
    volumes: state.volumes,
    files: state.files,
  };
}
