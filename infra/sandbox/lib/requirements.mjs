// What the sandbox needs of the machine; installs what is missing and says why.
import * as fs from 'node:fs';
import * as os from 'node:os';
import process from 'node:process';
import { progress, readText, run, SandboxError } from './system.mjs';

/** program -> [Debian package, what it is for] */
const PROGRAMS = {
  ip: ['iproute2', 'the servers’ network'],
  tc: ['iproute2', 'slowing a link'],
  flock: ['util-linux', 'locks'],
  unshare: ['util-linux', 'the servers’ namespaces'],
  nsenter: ['util-linux', 'running commands in a server'],
  mount: ['mount', 'the servers’ file systems'],
  tar: ['tar', 'unpacking'],
  perl: ['perl', 'building the root file system, delaying a link'],
  ssh: ['openssh-client', 'logging in to a server'],
  'ssh-keygen': ['openssh-client', 'the servers’ keys'],
  gpgv: ['gpgv', 'checking Debian’s signatures'],
  'dpkg-deb': ['dpkg', 'unpacking packages'],
  'mkfs.ext4': ['e2fsprogs', 'the servers’ disks'],
};

export function checkPlatform() {
  if (process.platform !== 'linux') {
    throw new SandboxError(
      `The sandbox needs Linux (its servers are made of namespaces and mounts); this is ${process.platform}.`,
      'Run it in a Debian 12/13 or Ubuntu 22.04/24.04 virtual machine.',
    );
  }
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major < 20 || (major === 20 && minor < 3)) {
    throw new SandboxError(
      `The sandbox needs Node 20.3 or newer; this is ${process.versions.node}.`,
      'Install a newer Node.',
    );
  }
}

export function checkRoot() {
  checkPlatform();
  if (process.getuid() !== 0) {
    throw new SandboxError(
      `The sandbox makes network namespaces and mounts, which needs root; this is user ${os.userInfo().username}.`,
      'Run the same command with sudo, for example: sudo env "PATH=$PATH" npm run demo',
    );
  }
}

export function readOsRelease() {
  const fields = Object.fromEntries(
    (readText('/etc/os-release') ?? '')
      .split('\n')
      .map((line) => /^([A-Z_]+)="?(.*?)"?$/.exec(line))
      .filter(Boolean)
      .map((match) => [match[1], match[2]]),
  );
  return { id: fields.ID ?? 'unknown', like: fields.ID_LIKE ?? '', name: fields.PRETTY_NAME ?? 'unknown' };
}

function findProgram(name) {
  const dirs = [...(process.env.PATH ?? '').split(':'), '/usr/local/sbin', '/usr/sbin', '/sbin', '/usr/bin', '/bin'];
  return dirs.some((dir) => dir && fs.existsSync(`${dir}/${name}`));
}

/** Checks all that can be checked cheaply, and installs missing programs. */
export async function checkRequirements() {
  checkRoot();
  const release = readOsRelease();
  if (!['debian', 'ubuntu'].includes(release.id) && !/debian|ubuntu/.test(release.like)) {
    throw new SandboxError(
      `The sandbox takes its servers from Debian's packages and needs apt; this is ${release.name}.`,
      'Run it on Debian 12/13 or Ubuntu 22.04/24.04, or in a virtual machine with one of them.',
    );
  }
  for (const dir of ['/usr/sbin', '/sbin']) {
    if (!process.env.PATH.split(':').includes(dir)) process.env.PATH += `:${dir}`; // su without "-" leaves them out
  }
  await installMissing();
  await checkKernel();
}

async function installMissing() {
  const missing = Object.entries(PROGRAMS).filter(([program]) => !findProgram(program));
  // perl-base is always there, but mmdebstrap wants modules of the full package
  if (findProgram('perl') && (await run(['perl', '-MEnglish', '-MFile::Find', '-e', '1'], { check: false })).code !== 0)
    missing.push(['perl', PROGRAMS.perl]);
  if (missing.length === 0) return;
  const packages = [...new Set(missing.map(([, [name]]) => name))];
  const why = missing.map(([program, [name, purpose]]) => `${name} (${program}: ${purpose})`).join(', ');
  progress(`installing with apt-get: ${why}`);
  await refreshPackageLists();
  await run(['apt-get', '-qq', '-y', '--no-install-recommends', 'install', ...packages], {
    env: { DEBIAN_FRONTEND: 'noninteractive' },
    what: `Installing ${packages.join(' ')} with apt-get`,
    hint: `Install by hand, then run the command again: apt-get install ${packages.join(' ')}`,
  });
}

let refreshed = false;
/** apt-get update, once per process. */
export async function refreshPackageLists() {
  if (refreshed) return;
  refreshed = true;
  progress('refreshing the package lists (apt-get update)');
  const result = await run(['apt-get', '-qq', 'update'], { check: false });
  // One unreachable third-party source must not stop us: what we need is asked for by name later.
  if (result.code !== 0)
    progress(`apt-get update had errors, going on with what is there:\n${result.stderr.trimEnd()}`);
}

async function checkKernel() {
  for (const name of ['overlay', 'bridge', 'veth', 'br_netfilter', 'nf_tables']) {
    // Built in, or loaded, or loaded by the kernel itself when needed: a failure here is no failure yet.
    if (!fs.existsSync(`/sys/module/${name}`) && findProgram('modprobe'))
      await run(['modprobe', '-q', name], { check: false });
  }
  const namespaces = await run(
    ['unshare', '--mount', '--uts', '--ipc', '--net', '--pid', '--cgroup', '--fork', 'true'],
    { check: false },
  );
  if (namespaces.code !== 0) {
    throw new SandboxError(
      `This machine does not let root make namespaces: ${namespaces.stderr.trim()}`,
      'In a container, start it with --privileged (and --cgroupns=private); in a restricted VM, ask its owner.',
    );
  }
  if (!/\boverlay$/m.test(readText('/proc/filesystems') ?? '')) {
    throw new SandboxError(
      'The kernel has no overlayfs, which the servers’ file systems are made of.',
      'Load it (modprobe overlay) or use another kernel.',
    );
  }
  readCgroups();
}

/**
 * How this machine's cgroups are mounted, and where a server's own go.
 * @returns {{version: 1|2, controllers: string, roots: string[], freezer: string}} controllers: for server-init.sh
 */
export function readCgroups() {
  const mounts = readText('/proc/self/mountinfo')
    .split('\n')
    .map((line) => {
      const [left, right] = line.split(' - ');
      const [type, , options] = (right ?? '').split(' ');
      return { point: left.split(' ')[4], type, options: (options ?? '').split(',') };
    })
    .filter((mount) => mount.type === 'cgroup' || mount.type === 'cgroup2');
  const seen = new Set();
  const unique = mounts.filter((mount) => !seen.has(mount.point) && seen.add(mount.point));
  if (unique.length === 0) {
    throw new SandboxError(
      'No cgroups are mounted, and systemd cannot run without them.',
      'Mount them: mount -t cgroup2 none /sys/fs/cgroup',
    );
  }
  for (const mount of unique) {
    try {
      fs.accessSync(mount.point, fs.constants.W_OK);
    } catch {
      throw new SandboxError(
        `The cgroups at ${mount.point} are read-only here.`,
        'In a container, start it with --privileged.',
      );
    }
  }
  const v1 = unique.filter((mount) => mount.type === 'cgroup');
  const roots = unique.map((mount) => mount.point);
  if (v1.length === 0) return { version: 2, controllers: 'v2', roots: [roots[0]], freezer: roots[0] };
  const known = new Set((readText('/proc/cgroups') ?? '').split('\n').map((line) => line.split('\t')[0]));
  const controllersOf = (mount) => mount.options.filter((option) => known.has(option));
  const freezer = v1.find((mount) => controllersOf(mount).includes('freezer'));
  if (!freezer && !v1.some((mount) => controllersOf(mount).length > 0)) {
    // "hybrid": v1 only for systemd's own bookkeeping, everything real in v2
    const v2 = unique.find((mount) => mount.type === 'cgroup2');
    if (v2) return { version: 2, controllers: 'v2', roots: [v2.point], freezer: v2.point };
  }
  return {
    version: 1,
    controllers: v1
      .map((mount) => controllersOf(mount).join(','))
      .filter(Boolean)
      .join(' '),
    roots,
    freezer: freezer?.point,
  };
}
