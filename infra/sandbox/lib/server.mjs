// One server: namespaces with systemd as PID 1 over the shared root file system, a disk of its own, a link to the lan.
import { randomBytes } from 'node:crypto';
import { spawn } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import process from 'node:process';
import { ensureBare, getBareRootfs, getCacheDir, SCRIPTS } from './cache.mjs';
import { describeNetwork, describeRegistry } from './instance.mjs';
import { readCgroups } from './requirements.mjs';
import {
  endPidFile,
  listMounts,
  progress,
  readPidFile,
  readStartTime,
  readText,
  removeTree,
  run,
  SandboxError,
  sendSignal,
  startDetached,
  unmount,
  waitUntil,
  writePidFile,
} from './system.mjs';

const DEPLOY_UID = 1000;
const HOST_KEY_TYPES = ['ed25519', 'ecdsa', 'rsa'];
const getServersDir = (instance) => path.join(instance.stateDir, 'servers');
export const getDeployKey = (instance) => path.join(instance.stateDir, 'id_deploy');
/** The key that lets root into bare servers. */
export const getRootKey = (instance) => path.join(instance.stateDir, 'id_root');

/** Names of the servers that were made, s1 first. */
export function listServers(instance) {
  const dir = getServersDir(instance);
  if (!fs.existsSync(dir)) return [];
  return fs
    .readdirSync(dir)
    .filter((name) => fs.existsSync(path.join(dir, name, 'seed.ready')))
    .sort((a, b) => numberOf(a) - numberOf(b));
}
const numberOf = (name) => Number(name.slice(1));

/** @returns all paths and addresses of one server; checks that there is such a server unless it is about to be made */
export function describeServer(instance, name, { mustExist = true } = {}) {
  if (mustExist && !listServers(instance).includes(name)) {
    throw new SandboxError(
      `The sandbox "${instance.instance}" has no server "${name}"; it has: ${listServers(instance).join(', ') || 'none'}.`,
      'More servers: sandbox.mjs up --servers N',
    );
  }
  const net = describeNetwork(instance);
  const dir = path.join(getServersDir(instance), name);
  const number = numberOf(name);
  return {
    name,
    dir,
    address: net.addressOf(number),
    mac: net.macOf(number),
    netns: net.netnsOf(name),
    net,
    seed: path.join(dir, 'seed'),
    disk: path.join(dir, 'disk'),
    console: path.join(dir, 'console.log'),
    runnerPid: path.join(dir, 'runner.pid'),
    initPid: path.join(dir, 'init.pid'),
    relayPid: path.join(dir, 'relay.pid'),
    cgroup: net.cgroupOf(name),
    cacheKey: instance.cacheKey,
    rootKey: getRootKey(instance),
  };
}

const quote = (text) => `'${String(text).replaceAll("'", "'\\''")}'`;
const toEnvFile = (values) =>
  Object.entries(values)
    .map(([name, value]) => `${name}=${quote(value)}\n`)
    .join('');

/** The key that every server of an instance lets in. */
export async function ensureDeployKey(instance) {
  const key = getDeployKey(instance);
  if (!fs.existsSync(key))
    await run(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-C', `deploy@sandbox-${instance.instance}`, '-f', key]);
}

/** Makes a server's identity, once: host keys, settings. The same after every reset. */
export async function createServer(instance, name) {
  const server = describeServer(instance, name, { mustExist: false });
  if (fs.existsSync(`${server.seed}.ready`)) return;
  await removeTree(server.dir);
  const put = (file, text, mode = 0o644) => {
    fs.mkdirSync(path.dirname(path.join(server.seed, file)), { recursive: true, mode: 0o755 });
    fs.writeFileSync(path.join(server.seed, file), text, { mode });
    fs.chmodSync(path.join(server.seed, file), mode);
  };
  const registry = describeRegistry(instance);
  put('etc/hostname', `${name}\n`);
  put('etc/hosts', `127.0.0.1 localhost\n::1 localhost\n${server.address} ${name}\n`);
  put('etc/resolv.conf', `nameserver ${server.net.registry}\n`); // nobody answers there, and says so at once
  put('etc/machine-id', `${randomBytes(16).toString('hex')}\n`, 0o444);
  const daemon = {
    'storage-driver': 'overlay2',
    'log-driver': 'json-file',
    // by address and port: BuildKit does not understand networks here
    'insecure-registries': [registry.open, registry.login.address],
    'registry-mirrors': [`http://${registry.open}`],
  };
  put('etc/docker/daemon.json', `${JSON.stringify(daemon, null, 2)}\n`);
  put('home/deploy/.ssh/authorized_keys', fs.readFileSync(`${getDeployKey(instance)}.pub`), 0o600);
  fs.chmodSync(path.join(server.seed, 'home/deploy/.ssh'), 0o700);
  await run(['chown', '-R', `${DEPLOY_UID}:${DEPLOY_UID}`, path.join(server.seed, 'home/deploy')]);
  fs.chmodSync(path.join(server.seed, 'home/deploy'), 0o755);
  fs.mkdirSync(path.join(server.seed, 'etc/ssh'), { recursive: true });
  await Promise.all(
    HOST_KEY_TYPES.map((type) =>
      run([
        'ssh-keygen',
        '-q',
        '-t',
        type,
        '-N',
        '',
        '-C',
        `root@${name}`,
        '-f',
        path.join(server.seed, `etc/ssh/ssh_host_${type}_key`),
      ]),
    ),
  );
  fs.mkdirSync(path.join(server.dir, 'root'), { recursive: true });
  fs.mkdirSync(server.disk, { recursive: true });
  fs.writeFileSync(`${server.seed}.ready`, '');
}

/** Lines for an OpenSSH known_hosts file. */
export function readKnownHosts(server) {
  return HOST_KEY_TYPES.map((type) => {
    const [kind, key] = readText(path.join(server.seed, `etc/ssh/ssh_host_${type}_key.pub`)).split(' ');
    return `${server.address} ${kind} ${key}\n`;
  }).join('');
}

// --- bare: as a provider hands a server over. It has systemd, sshd and apt; root logs in by key; there is no Docker, no deploy user.

const getBareMark = (server) => path.join(server.dir, 'bare');
export const isBare = (server) => fs.existsSync(getBareMark(server));

async function makeBare(server) {
  await ensureBare(server.cacheKey);
  if (!fs.existsSync(server.rootKey))
    await run(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-C', 'operator', '-f', server.rootKey]);
  fs.writeFileSync(getBareMark(server), '');
}

/** Takes out of a new disk what the seed has for the other servers. */
function stripDisk(server) {
  const upper = path.join(server.disk, 'upper');
  for (const dir of ['etc/docker', 'home']) fs.rmSync(path.join(upper, dir), { recursive: true, force: true });
  fs.mkdirSync(path.join(upper, 'root/.ssh'), { recursive: true, mode: 0o700 });
  fs.copyFileSync(`${server.rootKey}.pub`, path.join(upper, 'root/.ssh/authorized_keys'));
  fs.chmodSync(path.join(upper, 'root/.ssh/authorized_keys'), 0o600);
}

// --- disk: one file system of limited size for everything the server writes. It is mounted outside of the server's
// namespaces, so what was written survives whatever happens to the server.

const isMounted = (server) => listMounts(server.disk).includes(server.disk);

function chooseDisk() {
  const wanted = process.env.SLIPWAY_SANDBOX_DISK;
  if (wanted && !['memory', 'file'].includes(wanted))
    throw new SandboxError(`SLIPWAY_SANDBOX_DISK=${wanted} is not known.`, 'Use "memory" or "file".');
  if (wanted) return wanted;
  const available = Number(/MemAvailable: +(\d+)/.exec(readText('/proc/meminfo'))?.[1] ?? 0) * 1024;
  return available > 6e9 || !fs.existsSync('/dev/loop-control') ? 'memory' : 'file';
}
const getDiskSize = () => process.env.SLIPWAY_SANDBOX_DISK_SIZE || '8G';

/** @param {{empty?: boolean}} options empty: without the base images */
async function mountDisk(server, { empty = false } = {}) {
  if (isMounted(server)) return;
  const image = path.join(server.dir, 'disk.img');
  const kindFile = path.join(server.dir, 'disk.kind');
  const hint =
    'SLIPWAY_SANDBOX_DISK=memory or =file chooses where servers keep their data, SLIPWAY_SANDBOX_DISK_SIZE=8G how much.';
  const kind = fs.existsSync(image) ? 'file' : chooseDisk();
  fs.writeFileSync(kindFile, `${kind} ${getDiskSize()}\n`);
  let fresh = kind === 'memory';
  if (kind === 'file' && !fs.existsSync(image)) {
    fresh = true;
    await run(['truncate', '-s', getDiskSize(), `${image}.new`], { hint });
    await run(['mkfs.ext4', '-q', '-F', '-m', '0', '-E', 'lazy_itable_init=1,lazy_journal_init=1', `${image}.new`], {
      hint,
    });
    fs.renameSync(`${image}.new`, image);
  }
  await run(
    kind === 'memory'
      ? ['mount', '-t', 'tmpfs', '-o', `size=${getDiskSize()},mode=755`, 'slipway-sandbox', server.disk]
      : ['mount', '-o', 'loop', image, server.disk],
    {
      what: `Mounting the disk of ${server.name}`,
      hint,
    },
  );
  if (fresh) {
    for (const dir of ['upper', 'work', 'docker', 'containerd'])
      fs.mkdirSync(path.join(server.disk, dir), { mode: 0o755 });
    fs.chmodSync(path.join(server.disk, 'docker'), 0o710);
    await run(['cp', '-a', `${server.seed}/.`, `${server.disk}/upper/`]);
    fs.chmodSync(path.join(server.disk, 'upper'), 0o755);
    if (isBare(server)) stripDisk(server);
    // The base images are on a new server already, as on one that has been used: pulling them would cost seconds each time.
    const images = getImageStore(server.cacheKey);
    if (!empty && !isBare(server) && fs.existsSync(images))
      await run(['cp', '-a', '--reflink=auto', `${images}/.`, path.join(server.disk, 'docker')]);
  }
}

async function removeDisk(server) {
  if (isMounted(server)) await unmount(server.disk);
  fs.rmSync(path.join(server.dir, 'disk.img'), { force: true });
}

// --- life ---

export const isRunning = (server) => readPidFile(server.runnerPid) !== undefined;
const getInit = (server) => readPidFile(server.initPid);

/** Starts a server (its disk is made if there is none) and waits until it is up, Docker and sshd included. */
export async function startServer(server, options) {
  if (!isRunning(server)) {
    await endStrays(server); // of a command that was killed in the middle of a start
    await mountDisk(server, options);
    const cgroups = readCgroups();
    const { net } = server;
    fs.rmSync(server.initPid, { force: true });
    fs.writeFileSync(
      path.join(server.dir, 'boot.env'),
      toEnvFile({
        NAME: server.name,
        ROOTFS: isBare(server) ? getBareRootfs(server.cacheKey) : path.join(getCacheDir(server.cacheKey), 'rootfs'),
        SCRIPTS,
        CGROUPS: cgroups.controllers,
        CGROUP_DIRS: cgroups.roots.map((root) => path.join(root, server.cgroup)).join(' '),
        LAN: net.lan,
        NETNS: server.netns,
        PORT: server.name,
        ADDRESS: server.address,
        MAC: server.mac,
        GATEWAY: net.registry,
        NEIGHBOURS: `${net.host}=${net.hostMac} ${net.registry}=${net.registryMac}`,
      }),
    );
    await run([
      'ip',
      'neigh',
      'replace',
      server.address,
      'lladdr',
      server.mac,
      'dev',
      net.hostLink,
      'nud',
      'permanent',
    ]);
    writePidFile(
      server.runnerPid,
      startDetached([path.join(SCRIPTS, 'server-run.sh'), server.dir], { log: server.console }),
    );
  }
  await waitReady(server);
}

/** Waits until systemd says that all is started; then dockerd and sshd are (both tell systemd when they are ready). */
export async function waitReady(server, timeoutMs = 60000) {
  const where = `See its console ${server.console}, or look around: sandbox.mjs exec ${server.name} -- journalctl -b`;
  let last = 'not started';
  const ready = await waitUntil(
    async () => {
      if (!isRunning(server)) throw new SandboxError(`The server ${server.name} ended while it was starting.`, where);
      if (getInit(server) === undefined) return false;
      const asked = await execInServer(server, ['systemctl', 'is-system-running', '--wait'], { timeoutMs: 10000 });
      last = asked.stdout.trim() || asked.stderr.trim();
      return last === 'running' || last === 'degraded';
    },
    timeoutMs,
    20,
  );
  if (!ready)
    throw new SandboxError(
      `The server ${server.name} was not up after ${timeoutMs / 1000} s (systemd says: ${last}).`,
      where,
    );
  if (last === 'degraded') {
    const failed = (await execInServer(server, ['systemctl', '--failed', '--plain', '--no-legend'])).stdout;
    if (/^(docker|ssh)\./m.test(failed))
      throw new SandboxError(`In the server ${server.name} this failed:\n${failed}`, where);
    progress(
      `${server.name} is up, but this failed in it: ${failed
        .trim()
        .split('\n')
        .map((line) => line.split(' ')[0])
        .join(', ')}`,
    );
  }
}

/** The power plug: no process gets to say goodbye, no FIN or RST leaves. */
export async function killServer(server) {
  if (isRunning(server)) {
    // A killed process's sockets would still be closed politely: unplug the cable first.
    await run(['ip', '-n', server.net.lan, 'link', 'set', server.name, 'nomaster'], { check: false });
  }
  const init = getInit(server);
  if (init !== undefined) sendSignal(init, 'SIGKILL');
  await thaw(server);
  await waitStopped(server);
}

async function waitStopped(server, timeoutMs = 8000) {
  if (!(await waitUntil(() => !isRunning(server), timeoutMs, 10))) {
    for (const pid of listCgroupProcesses(server)) sendSignal(pid, 'SIGKILL');
    await endPidFile(server.runnerPid, 'SIGKILL');
  }
  fs.rmSync(server.runnerPid, { force: true });
  fs.rmSync(server.initPid, { force: true });
}

/** A clean reboot, as "systemctl reboot" in it: services stop, systemd starts anew. */
export async function rebootServer(server) {
  requireRunning(server);
  const before = readText(server.initPid);
  sendSignal(getInit(server), 39); // SIGRTMIN+5: to systemd, reboot.target
  const again = await waitUntil(() => {
    const now = readText(server.initPid);
    return !isRunning(server) || (now !== undefined && now !== before);
  }, 120000);
  if (!again || !isRunning(server))
    throw new SandboxError(
      `The server ${server.name} did not come back from its reboot.`,
      `See its console ${server.console}`,
    );
  await waitReady(server);
}

export function requireRunning(server) {
  if (!isRunning(server) || getInit(server) === undefined) {
    throw new SandboxError(`The server ${server.name} is not running.`, `Start it: sandbox.mjs start ${server.name}`);
  }
}

/**
 * Back to the first boot: an empty disk, a good link, the same address and keys.
 * @param {{empty?: boolean, bare?: boolean}} options empty: as for mountDisk; bare: as a provider hands it over, until the next reset
 */
export async function resetServer(server, { bare = false, ...options } = {}) {
  await killServer(server);
  await removeDisk(server);
  fs.rmSync(getBareMark(server), { force: true });
  if (bare) await makeBare(server);
  fs.rmSync(path.join(server.dir, 'link.env'), { force: true });
  await endPidFile(server.relayPid, 'SIGKILL');
  await startServer(server, options);
}

const getImageStore = (key) => path.join(getCacheDir(key), 'docker');

/** Keeps a server's pulled images as what new and reset servers start with. */
export async function keepImageStore(server) {
  const store = getImageStore(server.cacheKey);
  const stopped = await execInServer(server, [
    'systemctl',
    'stop',
    'docker.socket',
    'docker.service',
    'containerd.service',
  ]);
  if (stopped.code !== 0) throw new SandboxError(`Docker on ${server.name} did not stop: ${stopped.stderr.trim()}`);
  await removeTree(store);
  fs.mkdirSync(`${store}.new`, { recursive: true, mode: 0o710 });
  for (const dir of ['image', 'overlay2'])
    await run(['cp', '-a', path.join(server.disk, 'docker', dir), `${store}.new/`]);
  fs.renameSync(`${store}.new`, store);
}

/** Ends a server and removes all of it. */
export async function removeServer(server) {
  await killServer(server);
  await endPidFile(server.relayPid, 'SIGKILL');
  await removeDisk(server);
  await removeTree(server.dir);
}

// --- cgroups ---

const cgroupDirs = (server) => readCgroups().roots.map((root) => path.join(root, server.cgroup));

function listCgroupProcesses(server) {
  const pids = new Set();
  const visit = (dir) => {
    for (const pid of (readText(path.join(dir, 'cgroup.procs')) ?? '').split('\n').filter(Boolean))
      pids.add(Number(pid));
    for (const entry of fs.readdirSync(dir, { withFileTypes: true }))
      if (entry.isDirectory()) visit(path.join(dir, entry.name));
  };
  for (const dir of cgroupDirs(server)) if (fs.existsSync(dir)) visit(dir);
  pids.delete(0);
  return [...pids];
}

async function endStrays(server) {
  const pids = listCgroupProcesses(server);
  for (const pid of pids) sendSignal(pid, 'SIGKILL');
  await waitUntil(() => pids.every((pid) => readStartTime(pid) === undefined), 3000, 10);
}

/** After a crash: ends whatever is left in an instance's cgroups and removes them. */
export async function removeCgroups(instance) {
  const prefix = `slipway-${instance.subnet}-`;
  for (const root of readCgroups().roots) {
    for (const name of fs.readdirSync(root).filter((entry) => entry.startsWith(prefix))) {
      const dir = path.join(root, name);
      const server = { cgroup: name };
      await endStrays(server);
      await run(['find', dir, '-depth', '-type', 'd', '-exec', 'rmdir', '{}', '+'], { check: false });
    }
  }
}

async function writeFreezer(server, frozen) {
  const { version, freezer } = readCgroups();
  const dir = path.join(freezer, server.cgroup);
  if (!fs.existsSync(dir)) return;
  if (version === 2) {
    fs.writeFileSync(path.join(dir, 'cgroup.freeze'), frozen ? '1' : '0');
    await waitUntil(() => readText(path.join(dir, 'cgroup.events')).includes(`frozen ${frozen ? 1 : 0}`), 5000, 10);
  } else {
    const state = frozen ? 'FROZEN' : 'THAWED';
    fs.writeFileSync(path.join(dir, 'freezer.state'), state);
    await waitUntil(() => readText(path.join(dir, 'freezer.state')).trim() === state, 5000, 10);
  }
}

/** Every process in the server stands still; its kernel side goes on (connections are accepted, nobody answers). */
export const freeze = (server) => {
  requireRunning(server);
  return writeFreezer(server, true);
};
export const thaw = (server) => writeFreezer(server, false);
export function isFrozen(server) {
  const { version, freezer } = readCgroups();
  const dir = path.join(freezer, server.cgroup);
  return version === 2
    ? readText(path.join(dir, 'cgroup.freeze'))?.trim() === '1'
    : (readText(path.join(dir, 'freezer.state')) ?? 'THAWED').trim() !== 'THAWED';
}

// --- link ---

export function readLink(server) {
  const text = readText(path.join(server.dir, 'link.env')) ?? '';
  const get = (name) => new RegExp(`^${name}='(.+)'$`, 'm').exec(text)?.[1];
  return { cut: get('CUT') === '1', rate: get('RATE'), delay: get('DELAY'), from: get('DELAY_FROM') };
}

/** Sets what is given, keeps the rest; holds over reboots until it is set otherwise or the server is reset. */
export async function changeLink(server, change) {
  const link = { ...readLink(server), ...change };
  fs.writeFileSync(
    path.join(server.dir, 'link.env'),
    toEnvFile({
      CUT: link.cut ? '1' : '',
      RATE: link.rate ?? '',
      DELAY: link.delay ?? '',
      DELAY_FROM: link.from ?? '',
    }),
  );
  if (isRunning(server))
    await run([path.join(SCRIPTS, 'link.sh'), server.dir], { what: `Changing the link of ${server.name}` });
}

// --- disk full ---

const toBytes = (text) => {
  const match = /^(\d+)([KMG]?)B?$/i.exec(text);
  if (!match) throw new SandboxError(`"${text}" is no size.`, 'Use a number with K, M or G, such as 20M.');
  return Number(match[1]) * { '': 1, K: 1024, M: 1024 ** 2, G: 1024 ** 3 }[match[2].toUpperCase()];
};
const readDiskKind = (server) => readText(path.join(server.dir, 'disk.kind')).trim().split(' ');
const fillFile = (server) => path.join(server.disk, '.fill');

/** Leaves so much on the server's disk, and takes nothing of this machine's. */
export async function fillDisk(server, leave = '0') {
  await unfillDisk(server);
  const leaveBytes = toBytes(leave);
  if (readDiskKind(server)[0] === 'memory') {
    // The kernel refuses a size below what is used, and the server may write between the question and the answer.
    for (let attempt = 1; ; attempt++) {
      const { blocks, bfree, bsize } = fs.statfsSync(server.disk);
      const size = Math.max(4096, (blocks - bfree) * bsize + leaveBytes);
      const remount = ['mount', '-o', `remount,size=${size}`, server.disk];
      const last = attempt === 20;
      const { code } = await run(remount, { check: last, what: `Filling the disk of ${server.name}` });
      if (code !== 0) continue;
      // What was about to be removed there gives its room back a moment later.
      await new Promise((resolve) => setTimeout(resolve, 200));
      const after = fs.statfsSync(server.disk);
      if (last || after.bavail * after.bsize <= leaveBytes) return;
    }
  }
  const { bavail, bsize } = fs.statfsSync(server.disk);
  const bytes = bavail * bsize - leaveBytes;
  if (bytes <= 0) return;
  // allocated, never written: the image stays sparse
  if (
    (await run(['fallocate', '-l', String(bytes), fillFile(server)], { check: false })).code !== 0 &&
    leaveBytes > 0
  ) {
    fs.rmSync(fillFile(server), { force: true });
    await run(['fallocate', '-l', String(Math.floor(bytes * 0.99)), fillFile(server)], {
      what: `Filling the disk of ${server.name}`,
    });
  }
}

export async function unfillDisk(server) {
  if (!isMounted(server))
    throw new SandboxError(`The server ${server.name} has no disk yet.`, `Start it: sandbox.mjs start ${server.name}`);
  fs.rmSync(fillFile(server), { force: true });
  const [kind, size] = readDiskKind(server);
  if (kind === 'memory') await run(['mount', '-o', `remount,size=${size}`, server.disk]);
}

// --- commands ---

const EXEC_ENV = [
  'env',
  '-i',
  'HOME=/root',
  'USER=root',
  'LOGNAME=root',
  'LANG=C.UTF-8',
  'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
];

/** The words that run a command as root in a server, as one of its own processes (so it is hung and killed with it). */
export function toExecArgv(server, argv) {
  const init = getInit(server);
  if (init === undefined) requireRunning(server);
  const { version } = readCgroups();
  // v2 lets no process into a group that has children with controllers: systemd's own leaf then
  const groups = cgroupDirs(server).map((dir) => (version === 2 ? path.join(dir, 'init.scope') : dir));
  const enter =
    'n=$1; shift; while [ "$n" -gt 0 ]; do echo $$ > "$1/cgroup.procs"; shift; n=$((n-1)); done 2>/dev/null; exec "$@"';
  return [
    'sh',
    '-c',
    enter,
    'sh',
    String(groups.length),
    ...groups,
    'nsenter',
    '-t',
    String(init),
    '-m',
    '-u',
    '-i',
    '-n',
    '-p',
    '-C',
    '--no-fork',
    '--',
    // A shell, outside of the server's process tree, is the parent. nsenter would be too nosy a one: systemd stops every
    // process for a moment when it shuts down, nsenter then stops itself for good, and the server could never end.
    '/bin/sh',
    '-c',
    '"$@"; exit "$?"',
    'sh',
    ...EXEC_ENV,
    `TERM=${process.env.TERM ?? 'dumb'}`,
    ...argv,
  ];
}

/** Runs a command as root in a server and returns what it said. */
export function execInServer(server, argv, options = {}) {
  return run(toExecArgv(server, argv), { check: false, ...options });
}

/** Runs a command as root in a server on this process's own stdin, stdout and stderr. @returns the exit code */
export async function execAttached(server, argv) {
  return spawnAttached(toExecArgv(server, argv));
}

export async function spawnAttached(argv) {
  const child = spawn(argv[0], argv.slice(1), { stdio: 'inherit' });
  const forward = (signal) => child.kill(signal);
  for (const signal of ['SIGTERM', 'SIGHUP']) process.on(signal, forward);
  process.on('SIGINT', () => {}); // the terminal sends it to the child too
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) =>
      resolve(code ?? (signal === 'SIGKILL' ? 137 : signal === 'SIGTERM' ? 143 : 130)),
    );
  });
}
