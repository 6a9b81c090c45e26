// One sandbox: its record, its network, its registry.
import { randomBytes } from 'node:crypto';
import * as fs from 'node:fs';
import { createConnection } from 'node:net';
import * as path from 'node:path';
import process from 'node:process';
import { getCacheDir, getHome, listInstances, SCRIPTS } from './cache.mjs';
import {
  endPidFile,
  readPidFile,
  readText,
  run,
  SandboxError,
  startDetached,
  waitUntil,
  withLock,
  writePidFile,
} from './system.mjs';

/** The instance that commands are about: SLIPWAY_SANDBOX, or "default". */
export function getInstanceName() {
  const name = process.env.SLIPWAY_SANDBOX || 'default';
  if (!/^[a-z0-9][a-z0-9-]{0,30}$/.test(name) || name === 'cache') {
    throw new SandboxError(
      `SLIPWAY_SANDBOX=${name} is no usable instance name.`,
      'Use 1 to 31 of a-z, 0-9 and "-", and not "cache".',
    );
  }
  return name;
}

export const getStateDir = (name = getInstanceName()) => path.join(getHome(), name);
/** @param {{remove?: boolean}} [options] remove: the lock's file is not needed any more afterwards */
export const withInstanceLock = (work, { remove } = {}) =>
  withLock(path.join(getHome(), `${getInstanceName()}.lock`), work, {
    waiting: `waiting for another command on the sandbox "${getInstanceName()}"`,
    remove,
  });

/**
 * @typedef {{instance: string, subnet: number, cacheKey: string, registryPassword: string, stateDir: string}} Instance
 */

/** @returns {Instance|undefined} */
export function findInstance(name = getInstanceName()) {
  const text = readText(path.join(getStateDir(name), 'instance.json'));
  return text === undefined ? undefined : { ...JSON.parse(text), stateDir: getStateDir(name) };
}

/** @returns {Instance} */
export function getInstance() {
  const instance = findInstance();
  if (!instance)
    throw new SandboxError(
      `The sandbox "${getInstanceName()}" is not up.`,
      'Make it: node infra/sandbox/sandbox.mjs up',
    );
  return instance;
}

export function saveInstance(instance) {
  const { stateDir, ...record } = instance;
  fs.mkdirSync(stateDir, { recursive: true, mode: 0o755 });
  const file = path.join(stateDir, 'instance.json');
  fs.writeFileSync(`${file}.new`, `${JSON.stringify(record, null, 2)}\n`, { mode: 0o600 });
  fs.renameSync(`${file}.new`, file);
}

/** Makes the record of a new instance, with a subnet that nothing on this machine uses. */
export async function createInstance(cacheKey) {
  return withLock(path.join(getHome(), 'subnets.lock'), async () => {
    const taken = new Set(listInstances().map((instance) => instance.subnet));
    const routes = (await run(['ip', '-4', 'route', 'show', 'table', 'all'])).stdout;
    const links = (await run(['ip', '-o', 'link'])).stdout;
    let subnet = 0;
    while (
      taken.has(subnet) ||
      routes.includes(` 10.78.${subnet}.`) ||
      routes.startsWith(`10.78.${subnet}.`) ||
      routes.includes(`\n10.78.${subnet}.`) ||
      links.includes(`slw${subnet}@`) ||
      netnsExists(`slipway-${subnet}-lan`)
    ) {
      if (++subnet > 255)
        throw new SandboxError(
          'All networks 10.78.0.0/24 to 10.78.255.0/24 are in use on this machine.',
          'Remove sandboxes: sandbox.mjs down --all',
        );
    }
    const instance = {
      instance: getInstanceName(),
      subnet,
      cacheKey,
      registryPassword: randomBytes(9).toString('base64url'),
      stateDir: getStateDir(),
    };
    saveInstance(instance);
    // At once, since the network itself comes only after the root file system was built: a sandbox with another home on this
    // machine sees the namespace, and takes another subnet.
    await run(['ip', 'netns', 'add', describeNetwork(instance).lan]);
    return instance;
  });
}

/** Names and addresses of an instance's network. The lan, with its bridge, is a network namespace of its own. */
export function describeNetwork({ subnet }) {
  const net = `10.78.${subnet}`;
  const mac = (host) => `02:53:57:00:${subnet.toString(16).padStart(2, '0')}:${host.toString(16).padStart(2, '0')}`;
  return {
    cidr: `${net}.0/24`,
    lan: `slipway-${subnet}-lan`,
    hostLink: `slw${subnet}`,
    host: `${net}.1`,
    hostMac: mac(1),
    registry: `${net}.2`,
    registryMac: mac(2),
    addressOf: (number) => `${net}.${10 + number}`,
    macOf: (number) => mac(10 + number),
    netnsOf: (name) => `slipway-${subnet}-${name}`,
    cgroupOf: (name) => `slipway-${subnet}-${name}`,
  };
}

const netnsExists = (name) => fs.existsSync(`/run/netns/${name}`);

/**
 * The lan: a network namespace with a bridge. Inside it no firewall of this machine (Docker's, ufw's) interferes, nothing of
 * this machine's settings needs to change, and one veth pair is all that is seen outside.
 */
export async function ensureNetwork(instance) {
  const net = describeNetwork(instance);
  const links = (await run(['ip', '-o', 'link'])).stdout;
  if (netnsExists(net.lan) && links.includes(` ${net.hostLink}@`)) return;
  await removeNetwork(instance);
  const ip = (...words) => run(['ip', ...words], { what: `Making the sandbox's network (ip ${words.join(' ')})` });
  await ip('netns', 'add', net.lan);
  await ip(
    'link',
    'add',
    net.hostLink,
    'address',
    net.hostMac,
    'type',
    'veth',
    'peer',
    'name',
    'host',
    'netns',
    net.lan,
  );
  await run(['ip', '-n', net.lan, '-batch', '-'], {
    what: 'Making the sandbox’s bridge',
    input: `link set lo up
link add br0 address ${net.registryMac} type bridge
addr add ${net.registry}/24 dev br0
link set br0 up
link set host master br0 up
`,
  });
  // Forwarding in the lan alone, without a way out: a server that looks for the internet hears "unreachable" at once.
  await run(['nsenter', `--net=/run/netns/${net.lan}`, 'sh', '-c', 'echo 1 > /proc/sys/net/ipv4/ip_forward']);
  await ip('addr', 'add', `${net.host}/24`, 'dev', net.hostLink);
  await ip('link', 'set', net.hostLink, 'up');
  await ip('neigh', 'replace', net.registry, 'lladdr', net.registryMac, 'dev', net.hostLink, 'nud', 'permanent');
}

export async function removeNetwork(instance) {
  const net = describeNetwork(instance);
  await run(['ip', 'link', 'del', net.hostLink], { check: false });
  const names = fs.existsSync('/run/netns') ? fs.readdirSync('/run/netns') : [];
  for (const name of names.filter((entry) => entry.startsWith(`slipway-${instance.subnet}-`))) {
    await run(['ip', 'netns', 'del', name], { check: false });
  }
}

// --- registry ---

const REGISTRIES = ['open', 'login'];
const registryDir = (instance) => path.join(instance.stateDir, 'registry');
export const getRegistryStorage = (instance) => path.join(registryDir(instance), 'storage');
const REGISTRY_PORTS = { open: 5000, login: 5001 };

export function describeRegistry(instance) {
  const { registry } = describeNetwork(instance);
  return {
    open: `${registry}:5000`,
    login: { address: `${registry}:5001`, username: 'deploy', password: instance.registryPassword },
  };
}

/** Two front doors, one storage: port 5000 is open, port 5001 asks for the login. */
export async function startRegistry(instance) {
  const dir = registryDir(instance);
  const { registry, lan } = describeNetwork(instance);
  fs.mkdirSync(getRegistryStorage(instance), { recursive: true });
  // bcrypt, the only kind that the registry takes; the password goes by the environment, not by the command line
  const { stdout: hash } = await run(['perl', '-e', 'print crypt($ENV{P}, q($2y$05$) . $ENV{S})'], {
    env: {
      P: instance.registryPassword,
      S:
        randomBytes(32)
          .toString('base64')
          .replace(/[^A-Za-z0-9]/g, '')
          .slice(0, 21) + 'e',
    },
  });
  fs.writeFileSync(path.join(dir, 'htpasswd'), `deploy:${hash}\n`);
  for (const name of REGISTRIES) {
    const pidFile = path.join(dir, `${name}.pid`);
    const log = path.join(dir, `${name}.log`);
    if (readPidFile(pidFile) === undefined) {
      const auth = name === 'login' ? 'auth:\n  htpasswd: {realm: sandbox, path: /srv/registry/htpasswd}\n' : '';
      fs.writeFileSync(
        path.join(dir, `${name}.yml`),
        `version: 0.1
log: {level: warn, accesslog: {disabled: true}}
storage:
  filesystem: {rootdirectory: /srv/registry/storage}
  delete: {enabled: true}
http: {addr: "${registry}:${REGISTRY_PORTS[name]}", secret: ${instance.registryPassword}}
${auth}`,
      );
      writePidFile(
        pidFile,
        startDetached(
          [path.join(SCRIPTS, 'registry-run.sh'), lan, path.join(getCacheDir(instance.cacheKey), 'rootfs'), dir, name],
          { log },
        ),
      );
    }
    if (!(await waitUntil(() => canConnect(registry, REGISTRY_PORTS[name]), 10000, 20))) {
      throw new SandboxError(`The registry does not answer on ${registry}:${REGISTRY_PORTS[name]}.`, `Its log: ${log}`);
    }
  }
}

export async function stopRegistry(instance) {
  for (const name of REGISTRIES) await endPidFile(path.join(registryDir(instance), `${name}.pid`));
}
export const isRegistryRunning = (instance) =>
  REGISTRIES.every((name) => readPidFile(path.join(registryDir(instance), `${name}.pid`)) !== undefined);

function canConnect(host, port) {
  const socket = createConnection({ host, port, timeout: 500 });
  return new Promise((resolve) => {
    const end = (answer) => {
      socket.destroy();
      resolve(answer);
    };
    socket.once('connect', () => end(true));
    socket.once('error', () => end(false));
    socket.once('timeout', () => end(false));
  });
}

const MANIFEST_TYPES = [
  'application/vnd.docker.distribution.manifest.v2+json',
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
].join(', ');

const fetchManifest = (instance, name, tag, method) =>
  fetch(`http://${describeRegistry(instance).open}/v2/${name}/manifests/${tag}`, {
    method,
    headers: { accept: MANIFEST_TYPES },
  });

/** The digest of an image in the registry. */
export async function readDigest(instance, name, tag) {
  const answer = await fetchManifest(instance, name, tag, 'HEAD');
  if (!answer.ok) {
    throw new SandboxError(
      `The registry ${describeRegistry(instance).open} has no image ${name}:${tag} (HTTP ${answer.status}).`,
    );
  }
  return answer.headers.get('docker-content-digest');
}

/** The digests of an image's layers; none when there is no such image. */
export async function readLayers(instance, name, tag) {
  const answer = await fetchManifest(instance, name, tag, 'GET');
  return answer.ok ? ((await answer.json()).layers ?? []).map((layer) => layer.digest) : [];
}

/** Makes layers of one repository in the registry known in another. */
export async function mountBlobs(instance, name, from, digests) {
  for (const digest of digests) {
    await fetch(`http://${describeRegistry(instance).open}/v2/${name}/blobs/uploads/?mount=${digest}&from=${from}`, {
      method: 'POST',
    });
  }
}
