/**
 * The set-up that `npm run demo` and `npm test` share: each step looks whether it has been done already. Runs on the
 * machine's own Node (20 or newer), before anything is installed: only built-in modules may be imported here.
 */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { chmod, mkdir, readdir, readFile, rename, rm } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('..', import.meta.url));
export const example = join(root, 'infra', 'example');

/** Node 24, which GitHub runs the actions on; a dependency of the repository. */
export const node24 = join(root, 'node_modules', '.bin', 'node');

const OLDEST_NODE = [20, 3];

/** Where the tests' programs are unpacked. The servers among them do not run as root, so it is not below the clone. */
const PROGRAMS = '/var/tmp/slipway-test-programs';

/** Something that the user has to put right. */
export class SetUpError extends Error {
  /** @param {string} hint what to do */
  constructor(message, hint) {
    super(hint === undefined ? message : `${message}\n  -> ${hint}`);
    this.name = 'SetUpError';
  }
}

export const formatSeconds = (startedMs) => `${((performance.now() - startedMs) / 1000).toFixed(1)} s`;

/** Says what is being done, then how long it took. */
export async function announce(title, work) {
  const started = performance.now();
  process.stdout.write(`  ${title} ... `);
  try {
    const result = await work();
    process.stdout.write(`${formatSeconds(started)}\n`);
    return result;
  } catch (error) {
    process.stdout.write('failed\n');
    throw error;
  }
}

/** @returns {Promise<{ code: number, output: string }>} both streams as they came */
export async function capture(program, args, { cwd = root, env = {} } = {}) {
  const child = spawn(program, args, { cwd, env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8');
    stream.on('data', (text) => (output += text));
  }
  return await new Promise((resolve) => {
    child.once('error', (error) => resolve({ code: 127, output: `${output}${program}: ${error.message}\n` }));
    child.once('close', (code) => resolve({ code: code ?? 1, output }));
  });
}

async function must(program, args, { hint, ...options } = {}) {
  const { code, output } = await capture(program, args, options);
  if (code === 0) return output;
  const end = output.trimEnd().split('\n').slice(-25).join('\n');
  throw new SetUpError(`\`${[program, ...args].join(' ')}\` ended with exit code ${code}:\n${end}`, hint);
}

/** Node's version; enough for everything that does not start servers. */
export function checkNode() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major < OLDEST_NODE[0] || (major === OLDEST_NODE[0] && minor < OLDEST_NODE[1])) {
    throw new SetUpError(
      `Slipway needs Node.js ${OLDEST_NODE.join('.')} or newer; this is ${process.versions.node}.`,
      'Install one from https://nodejs.org or https://github.com/nodesource/distributions, and run the command again.',
    );
  }
}

/** @param {string} command what the user typed, for the hint */
export function checkServerHost(command) {
  if (process.platform !== 'linux') {
    throw new SetUpError(
      `The sandbox server is made of Linux namespaces; this is ${process.platform}.`,
      'Use a virtual machine with Debian 12 or 13, or Ubuntu 22.04 or 24.04.',
    );
  }
  const release = existsSync('/etc/os-release') ? readFileSync('/etc/os-release', 'utf8') : '';
  if (!/^ID(_LIKE)?=.*(debian|ubuntu)/m.test(release) || findProgram('apt-get') === undefined) {
    throw new SetUpError(
      'The sandbox server is made from Debian packages with apt; this is neither Debian nor Ubuntu.',
      'Use a virtual machine with Debian 12 or 13, or Ubuntu 22.04 or 24.04.',
    );
  }
  checkRoot(command);
}

function checkRoot(command) {
  if (process.getuid?.() === 0) return;
  throw new SetUpError(
    'The sandbox server needs network namespaces and mounts, so this needs root.',
    `sudo ${command}      (where sudo does not find npm: sudo env "PATH=$PATH" ${command})`,
  );
}

function findProgram(name) {
  const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/sbin', '/usr/bin', '/bin'];
  return folders.map((folder) => join(folder, name)).find((path) => existsSync(path));
}

/** Packages of the repository and of the example application, and the application's bundle. */
export async function installPackages() {
  if (!(await isInstalled(root)) || !existsSync(node24)) {
    await announce('installing the packages (npm ci)', () => install(root));
  }
  if (!existsSync(node24)) {
    throw new SetUpError(
      `npm installed no Node 24 for ${process.platform} on ${process.arch}.`,
      'Linux on x64 and arm64 have one. Was npm told to leave out optional dependencies?',
    );
  }
  if (!(await isInstalled(example))) {
    await announce('installing the packages of infra/example (npm ci)', () => install(example));
  }
}

export async function buildExample() {
  await announce('bundling infra/example (npm run build)', () =>
    must('npm', ['run', '--silent', 'build'], { cwd: example }),
  );
}

/** Everything that the lock file names, whatever the user's npm leaves out by default; nothing installed may run code. */
async function install(folder) {
  await must('npm', ['ci', '--include=dev', '--include=optional', '--ignore-scripts', '--no-audit', '--no-fund'], {
    cwd: folder,
    hint: 'Is the npm registry reachable (`npm ping`)? Is there room on the disk (`df -h .`)?',
  });
}

/** What npm noted at the end of the last installation is what the lock file asks for. */
async function isInstalled(folder) {
  try {
    const read = async (...path) => JSON.parse(await readFile(join(folder, ...path), 'utf8')).packages;
    const [wanted, there] = [await read('package-lock.json'), await read('node_modules', '.package-lock.json')];
    return Object.entries(wanted).every(([path, { version, integrity, optional, devOptional, peer }]) => {
      if (path === '') return true;
      const found = there[path];
      if (found === undefined) return optional === true || devOptional === true || peer === true;
      return found.version === version && (found.integrity ?? integrity) === (integrity ?? found.integrity);
    });
  } catch {
    return false;
  }
}

const hasPostgres = (base) =>
  existsSync(`${base}/usr/lib/postgresql`) &&
  readdirSync(`${base}/usr/lib/postgresql`).some((one) => existsSync(`${base}/usr/lib/postgresql/${one}/bin/initdb`));

/** What the tests run that a machine may lack, by Debian package: servers, a third shell for our scripts, what backups are held against. */
const TEST_PACKAGES = {
  postgresql: () => findProgram('initdb') !== undefined || hasPostgres(''),
  'redis-server': () => findProgram('redis-server') !== undefined,
  'busybox-static': () => findProgram('busybox') !== undefined,
  shellcheck: () => findProgram('shellcheck') !== undefined,
  // An S3 server.
  'python3-swift': () => existsSync('/usr/lib/python3/dist-packages/swift/proxy/server.py'),
  age: () => findProgram('age') !== undefined && findProgram('age-keygen') !== undefined,
  nginx: () => findProgram('nginx') !== undefined,
  // What the alerts are tried with, promtool and amtool among it.
  prometheus: () => findProgram('prometheus') !== undefined && findProgram('promtool') !== undefined,
  'prometheus-alertmanager': () =>
    findProgram('prometheus-alertmanager') !== undefined && findProgram('amtool') !== undefined,
  'prometheus-node-exporter': () => findProgram('prometheus-node-exporter') !== undefined,
  'prometheus-blackbox-exporter': () => findProgram('prometheus-blackbox-exporter') !== undefined,
  'prometheus-postgres-exporter': () => findProgram('prometheus-postgres-exporter') !== undefined,
  'prometheus-redis-exporter': () => findProgram('prometheus-redis-exporter') !== undefined,
  'prometheus-nginx-exporter': () => findProgram('prometheus-nginx-exporter') !== undefined,
};

/**
 * The environment in which the tests find their programs. What this machine lacks is unpacked from its own packages into a
 * folder in /var/tmp: nothing is installed, and no service is started or enabled.
 */
export async function findTestPrograms() {
  const missing = Object.keys(TEST_PACKAGES).filter((name) => !TEST_PACKAGES[name]());
  if (missing.length === 0) return { PATH: process.env.PATH };
  // All their names together could be longer than a file system takes.
  const folder = join(PROGRAMS, createHash('sha256').update(missing.join(' ')).digest('hex').slice(0, 16));
  if (!existsSync(join(folder, 'complete'))) {
    if (findProgram('apt-get') === undefined) {
      throw new SetUpError(
        `The tests need programs that are not here (packages ${missing.join(', ')}), and there is no apt-get to fetch them with.`,
        'Install them, so that initdb, redis-server, busybox, shellcheck and age are in PATH, and Python finds swift.',
      );
    }
    checkRoot('npm test');
    await announce(`fetching programs for the tests: ${missing.join(', ')}`, () => fetchPackages(missing, folder));
  }
  const usr = join(folder, 'usr');
  const list = async (path) => (existsSync(path) ? await readdir(path) : []);
  const versions = await list(join(usr, 'lib/postgresql'));
  const libraries = (await list(join(usr, 'lib'))).filter((name) => name.endsWith('-linux-gnu'));
  const programs = [
    ...versions.map((one) => join(usr, 'lib/postgresql', one, 'bin')),
    join(usr, 'bin'),
    join(folder, 'bin'),
  ];
  return {
    PATH: [...programs, process.env.PATH].join(delimiter),
    LD_LIBRARY_PATH: [...libraries.map((one) => join(usr, 'lib', one)), process.env.LD_LIBRARY_PATH]
      .filter(Boolean)
      .join(delimiter),
  };
}

async function fetchPackages(packages, folder) {
  const fresh = `${folder}.new`;
  await rm(folder, { recursive: true, force: true });
  await rm(fresh, { recursive: true, force: true });
  const archives = join(fresh, 'archives');
  await mkdir(join(archives, 'partial'), { recursive: true });
  await chmod(fresh, 0o755);
  const options = [
    '-qq',
    '-y',
    '--no-install-recommends',
    '--download-only',
    '--reinstall',
    '-o',
    'DPkg::Lock::Timeout=300',
  ];
  const cache = ['-o', `Dir::Cache::archives=${archives}`, '-o', 'APT::Sandbox::User=root'];
  const download = ['install', ...options, ...cache, ...packages];
  const hint = `Or install them yourself: apt-get install ${packages.join(' ')}`;
  // On a fresh machine the package lists are old, or not there at all.
  if ((await capture('apt-get', download)).code !== 0) {
    await must('apt-get', ['update', '-qq', '-o', 'DPkg::Lock::Timeout=300'], { hint });
    await must('apt-get', download, { hint });
  }
  for (const name of await readdir(archives)) {
    if (name.endsWith('.deb')) await must('dpkg-deb', ['--extract', join(archives, name), fresh]);
  }
  await rm(archives, { recursive: true });
  // Half of it all: what the pages of Prometheus may show, and nobody looks at.
  for (const unused of ['javascript', 'doc'])
    await rm(join(fresh, 'usr/share', unused), { recursive: true, force: true });
  await mkdir(join(fresh, 'complete'));
  await rename(fresh, folder);
}

/** What to print for an error, and the exit code. */
export function reportFailure(error) {
  process.stderr.write(error instanceof SetUpError ? `\n${error.message}\n` : `\nUnexpected error\n${error.stack}\n`);
  return 1;
}
