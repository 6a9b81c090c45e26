// What is made once and used by every instance: the servers' root file system, the base images (as a registry's storage),
// a second Compose. Keyed by our scripts and by Debian's point releases.
import { createHash } from 'node:crypto';
import * as fs from 'node:fs';
import * as path from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { refreshPackageLists } from './requirements.mjs';
import { progress, readStartTime, readText, removeTree, run, withLock } from './system.mjs';

export const SANDBOX_DIR = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
export const SCRIPTS = path.join(SANDBOX_DIR, 'scripts');
export const getHome = () => path.resolve(process.env.SLIPWAY_SANDBOX_HOME || '/var/tmp/slipway-sandbox');
const getCacheRoot = () => path.join(getHome(), 'cache');
export const getCacheDir = (key) => path.join(getCacheRoot(), key);
export const withCacheLock = (work) =>
  withLock(path.join(getHome(), 'cache.lock'), work, { waiting: 'waiting for another sandbox that fills the cache' });

const CACHED_SCRIPTS = ['build-rootfs.sh', 'build-images.sh', 'fetch-tools.sh', 'fetch-compose.sh'];
/** Raise it when what lies in a cache changes without one of these files changing. */
const LAYOUT = 2;
const DEFAULT_MIRROR = 'http://deb.debian.org/debian';
const DEFAULT_SECURITY = 'http://deb.debian.org/debian-security';

/** The mirrors that this machine already uses for Debian, asked from apt; Debian's public ones where it uses none. */
export async function readMirrors() {
  const { stdout } = await run(
    ['apt-get', 'indextargets', '--format', '$(REPO_URI) $(CODENAME)', 'Created-By: Packages'],
    { check: false },
  );
  const targets = stdout
    .split('\n')
    .filter((line) => /^https?:/.test(line))
    .map((line) => line.split(' '));
  const find = (pattern) => targets.find(([, codename]) => pattern.test(codename))?.[0].replace(/\/$/, '');
  return {
    main: find(/^(bookworm|trixie)$/) ?? DEFAULT_MIRROR,
    security: find(/^(bookworm|trixie)-security$/) ?? DEFAULT_SECURITY,
  };
}

function listFiles(dir) {
  return fs
    .readdirSync(dir, { withFileTypes: true })
    .flatMap((entry) => (entry.isDirectory() ? listFiles(path.join(dir, entry.name)) : [path.join(dir, entry.name)]))
    .sort();
}

function hashScripts() {
  const hash = createHash('sha256').update(`${LAYOUT} ${process.arch}`);
  for (const file of [
    ...CACHED_SCRIPTS.map((name) => path.join(SCRIPTS, name)),
    ...listFiles(path.join(SANDBOX_DIR, 'images')),
  ]) {
    hash.update(`\0${path.relative(SANDBOX_DIR, file)}\0`).update(fs.readFileSync(file));
  }
  return hash.digest('hex').slice(0, 12);
}

/** "12.13-13.4": the point releases that the mirror has now; undefined when it does not answer. */
async function readPointReleases(mirror) {
  const versions = await Promise.all(
    ['bookworm', 'trixie'].map(async (suite) => {
      try {
        const answer = await fetch(`${mirror}/dists/${suite}/Release`, {
          headers: { range: 'bytes=0-999' },
          signal: AbortSignal.timeout(3000),
        });
        return answer.ok ? /^Version: (\S+)/m.exec(await answer.text())?.[1] : undefined;
      } catch {
        return undefined;
      }
    }),
  );
  return versions.every(Boolean) ? versions.join('-') : undefined;
}

const isReady = (key, part) => fs.existsSync(path.join(getCacheDir(key), `${part}.ready`));
export const isImagesReady = (key) => isReady(key, 'registry');

/** The key of the cache to use now. Offline, any cache made by these very scripts will do. */
export async function chooseCacheKey() {
  const scripts = hashScripts();
  const release = await readPointReleases((await readMirrors()).main);
  if (release) return `${scripts}-${release}`;
  const usable = fs.existsSync(getCacheRoot())
    ? fs.readdirSync(getCacheRoot()).filter((key) => key.startsWith(`${scripts}-`) && isReady(key, 'rootfs'))
    : [];
  return usable.sort().at(-1) ?? `${scripts}-unknown`;
}

const WORK_PREFIX = 'slipway-sandbox-build-';

/** A folder for big temporary files: in memory where there is room, since that is twice as fast. */
function makeWorkDir(key) {
  let parent = getCacheDir(key);
  try {
    const { bavail, bsize } = fs.statfsSync('/dev/shm');
    if (bavail * bsize > 4e9) parent = '/dev/shm';
  } catch {
    // no /dev/shm: the disk then
  }
  return path.join(parent, `${WORK_PREFIX}${process.pid}`);
}

/** What builds left that were killed: their folders name their process. */
async function removeOldWorkDirs() {
  for (const name of fs.existsSync('/dev/shm') ? fs.readdirSync('/dev/shm') : []) {
    const pid = name.startsWith(WORK_PREFIX) ? name.slice(WORK_PREFIX.length) : undefined;
    if (pid !== undefined && readStartTime(pid) === undefined) await removeTree(path.join('/dev/shm', name));
  }
}

/** Makes the root file system and the images' contents, unless they are there. */
export async function ensureRootfs(key) {
  if (isReady(key, 'rootfs')) return;
  await withCacheLock(async () => {
    if (isReady(key, 'rootfs')) return;
    const cache = getCacheDir(key);
    const work = makeWorkDir(key);
    progress(`building the servers' root file system and the base images (once; kept in ${cache})`);
    await removeOldWorkDirs();
    await removeTree(work);
    await removeTree(cache);
    fs.mkdirSync(work, { recursive: true, mode: 0o755 });
    fs.mkdirSync(cache, { recursive: true });
    const logs = path.join(cache, 'logs');
    fs.mkdirSync(logs);
    try {
      await refreshPackageLists();
      const mirrors = await readMirrors();
      const hint = `Is the mirror ${mirrors.main} reachable, and has it bookworm, trixie and forky? Is the disk full? The whole log is in ${logs}.`;
      const script = async (name, out, env = {}) => {
        await runBuild([path.join(SCRIPTS, `${name}.sh`), out], {
          env: { MIRROR: mirrors.main, SECURITY: mirrors.security, TMPDIR: work, LC_ALL: 'C.UTF-8', ...env },
          log: path.join(logs, `${name}.log`),
          what: `Building the sandbox (${name}.sh)`,
          hint,
        });
      };
      const tools = path.join(work, 'tools');
      await script('fetch-tools', tools);
      progress('package tools and archive keys fetched');
      const env = {
        PATH: `${tools}/mmdebstrap/usr/bin:${process.env.PATH}`,
        KEYRING: `${tools}/debian-13.gpg`,
        FORKY_KEYRING: `${tools}/debian-13.gpg`,
      };
      await allSettled([
        script('build-rootfs', `${work}/rootfs`, env).then(async () => {
          await run(['cp', '-a', `${work}/rootfs`, `${cache}/rootfs`]);
          progress('root file system built: Debian 12, Docker Engine and Compose from Debian 13');
        }),
        (async () => {
          await script('build-images', `${cache}/images`, env);
          progress('contents of the base images built');
          await fetchNode(`${cache}/images/node`, work);
          await script('fetch-compose', `${cache}/compose`, env).catch((error) =>
            progress(`no second Compose version: ${error.message}`),
          );
        })(),
      ]);
      fs.writeFileSync(path.join(cache, 'rootfs.ready'), '');
    } finally {
      await removeTree(work);
    }
    await pruneCache(key);
  });
}

const BARE_SCRIPT = 'build-bare.sh';
const getBareDir = (key) => {
  const hash = createHash('sha256').update(fs.readFileSync(path.join(SCRIPTS, BARE_SCRIPT)));
  return path.join(getCacheDir(key), `bare-${hash.digest('hex').slice(0, 12)}`);
};

/** What overlayfs is to put together for a bare server: the layer that takes Docker away again, above the root file system. */
export const getBareRootfs = (key) => `${getBareDir(key)}/upper:${path.join(getCacheDir(key), 'rootfs')}`;

/** Makes the bare servers' layer, unless it is there. Only who wants a bare server pays for it. */
export async function ensureBare(key) {
  const dir = getBareDir(key);
  if (fs.existsSync(dir)) return;
  await withCacheLock(async () => {
    if (fs.existsSync(dir)) return;
    progress(`building the layer of bare servers (once; kept in ${dir})`);
    const work = makeWorkDir(key);
    const mirrors = await readMirrors();
    const log = path.join(getCacheDir(key), 'logs', 'build-bare.log');
    try {
      await runBuild([path.join(SCRIPTS, BARE_SCRIPT), work], {
        env: { MIRROR: mirrors.main, SECURITY: mirrors.security, ROOTFS: path.join(getCacheDir(key), 'rootfs') },
        log,
        what: `Building the layer of bare servers (${BARE_SCRIPT})`,
        hint: `Is the mirror ${mirrors.main} reachable? The whole log: ${log}`,
      });
      await removeTree(`${dir}.new`);
      await run(['cp', '-a', work, `${dir}.new`]);
      fs.renameSync(`${dir}.new`, dir);
    } finally {
      await removeTree(work);
    }
  });
}

/**
 * Runs a build script in process and mount namespaces that end with this process, however that ends: a build that lived on would
 * meet the next one. Tried twice, since mirrors have hiccups.
 */
async function runBuild([script, out], options) {
  const box = [
    'setpriv',
    '--pdeathsig',
    'KILL',
    'unshare',
    '--mount',
    '--pid',
    '--mount-proc',
    '--fork',
    '--kill-child',
  ];
  const first = await run([...box, script, out], { ...options, check: false });
  if (first.code === 0) return;
  progress(`${path.basename(script)} failed, trying once more (log: ${options.log})`);
  await removeTree(out);
  await run([...box, script, out], options);
}

async function allSettled(promises) {
  const failed = (await Promise.allSettled(promises)).find((result) => result.status === 'rejected');
  if (failed) throw failed.reason;
}

/** Node 24 for the image: the repository's own devDependency, else npm's package with the binary. */
async function fetchNode(file, work) {
  const modules = path.resolve(SANDBOX_DIR, '../../node_modules');
  const name = `node-linux-${process.arch}`;
  for (const candidate of [`${modules}/node/bin/node`, `${modules}/${name}/bin/node`]) {
    const version = fs.existsSync(candidate) ? await run([candidate, '--version'], { check: false }) : undefined;
    if (version?.code === 0 && version.stdout.startsWith('v24.')) {
      fs.copyFileSync(candidate, file);
      return;
    }
  }
  const dir = path.join(work, 'node');
  fs.mkdirSync(dir);
  await run(['npm', 'pack', '--silent', '--pack-destination', dir, `${name}@24`], {
    cwd: dir,
    what: `Fetching Node 24 (npm pack ${name}@24)`,
    hint: 'Is the npm registry reachable? With the repository installed (npm ci), its node_modules are used instead.',
  });
  const [archive] = fs.readdirSync(dir).filter((entry) => entry.endsWith('.tgz'));
  await run(['tar', '-xzf', path.join(dir, archive), '-C', dir]);
  fs.copyFileSync(path.join(dir, 'package/bin/node'), file);
  fs.chmodSync(file, 0o755);
}

/** Puts the cached registry contents into an instance. */
export async function copyRegistry(key, storage) {
  await removeTree(storage);
  fs.mkdirSync(path.dirname(storage), { recursive: true });
  await run(['cp', '-a', '--reflink=auto', path.join(getCacheDir(key), 'registry'), storage]);
}

/** Keeps an instance's registry contents for the next ones; the images' contents are no longer needed then. */
export async function keepRegistry(key, storage) {
  const cache = getCacheDir(key);
  await removeTree(path.join(cache, 'registry'));
  await run(['cp', '-a', '--reflink=auto', storage, path.join(cache, 'registry')]);
  fs.writeFileSync(path.join(cache, 'registry.ready'), '');
  fs.rmSync(path.join(cache, 'images'), { recursive: true, force: true });
}

/** Removes caches that are out of date and that no instance stands on. */
async function pruneCache(current) {
  const used = new Set([current, ...listInstances().map((instance) => instance.cacheKey)]);
  for (const key of fs.readdirSync(getCacheRoot()))
    if (!used.has(key)) await removeTree(path.join(getCacheRoot(), key));
}

/** All instances' records in this home. */
export function listInstances() {
  if (!fs.existsSync(getHome())) return [];
  return fs
    .readdirSync(getHome())
    .map((name) => readText(path.join(getHome(), name, 'instance.json')))
    .filter(Boolean)
    .map((text) => JSON.parse(text));
}

/** version -> path of each Compose plugin: the servers' own, and the newer one. */
export function listComposePlugins(key) {
  const cache = getCacheDir(key);
  const plugins = {};
  const own = path.join(cache, 'rootfs/usr/libexec/docker/cli-plugins/docker-compose');
  const status = readText(path.join(cache, 'rootfs/var/lib/dpkg/status')) ?? '';
  const version = /^Package: docker-compose\n(?:.+\n)*?Version: ([\d.]+)/m.exec(status)?.[1];
  if (version && fs.existsSync(own)) plugins[version] = own;
  const dir = path.join(cache, 'compose');
  if (fs.existsSync(dir))
    for (const file of fs.readdirSync(dir)) plugins[file.replace('docker-compose-', '')] = path.join(dir, file);
  return plugins;
}

export async function removeCache() {
  await removeTree(getCacheRoot());
  await removeOldWorkDirs();
}
