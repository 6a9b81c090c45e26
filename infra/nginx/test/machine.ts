/**
 * A machine of the test's own for a real nginx: its own network, processes and files (an overlay over this machine's, or over an
 * image's), made of namespaces. So nginx has its true paths and ports, and nothing of this machine is touched. Needs root.
 */
import { execFileSync, spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const SOURCES = fileURLToPath(new URL('..', import.meta.url));
const INSIDE = fileURLToPath(new URL('inside.mjs', import.meta.url));
const NODE = fileURLToPath(new URL('../../../node_modules/.bin/node', import.meta.url));

export interface Ran {
  readonly code: number | null;
  /** Both streams. */
  readonly output: string;
}

export interface Machine {
  /** Where the doors are: `443.sock` leads to port 443. */
  readonly folder: string;
  /** As root, in POSIX sh. */
  run(script: string, ...args: readonly string[]): Ran;
  /** infra/nginx/install.sh. */
  install(...flags: readonly string[]): Ran;
  /** As it is seen from here. */
  path(path: string): string;
  read(path: string): string;
  close(): void;
}

/** The folder that `npm test` has unpacked Debian's nginx into, or undefined where nginx is installed on this machine. */
function findUnpacked(): string | undefined {
  for (const folder of (process.env['PATH'] ?? '').split(':')) {
    const nginx = join(dirname(folder), 'sbin', 'nginx');
    if (existsSync(nginx)) return /^(\/usr)?\/sbin\//.test(nginx) ? undefined : dirname(dirname(dirname(nginx)));
  }
  throw new Error('there is no nginx: `npm test -- adapter` fetches it, or apt-get install nginx');
}

/** With Debian's nginx as its package leaves it after the installation. */
export async function startDebianMachine(): Promise<Machine> {
  const unpacked = findUnpacked();
  const machine = await startMachine('/');
  const made = machine.run(
    `set -e
rm -rf /etc/nginx/conf.d /etc/nginx/sites-enabled /etc/slipway /var/www /var/log/nginx
if [ -n "$1" ]; then
  cp -a "$1/etc/nginx" /etc/
  cp -a "$1/usr/sbin/nginx" /usr/sbin/
  for library in "$1"/usr/lib/*-linux-gnu/libpcre2-8.so*; do
    [ ! -e "$library" ] || cp -an "$library" /usr/lib/
  done
fi
mkdir -p /etc/nginx/conf.d /etc/nginx/sites-enabled /var/log/nginx /var/lib/nginx /var/www/html
ln -s /etc/nginx/sites-available/default /etc/nginx/sites-enabled/default`,
    unpacked ?? '',
  );
  if (made.code !== 0) throw new Error(made.output);
  return machine;
}

/** @param lower what its files are at the beginning: `/`, or an image's root. It stays as it is. */
export async function startMachine(lower: string): Promise<Machine> {
  const folder = mkdtempSync('/var/tmp/slipway-nginx-');
  for (const name of ['root', 'layer']) mkdirSync(join(folder, name));
  // The first process waits for others', as a machine's must; everything ends with it, and it with us.
  const child = spawn(
    'unshare',
    [
      ...['--mount', '--net', '--pid', '--fork', '--kill-child=KILL', 'sh', '-c'],
      `set -e
mount --make-rprivate /
cd "$1"
mount -t tmpfs tmpfs layer
mkdir layer/upper layer/work
mount -t overlay overlay -o "lowerdir=$2,upperdir=layer/upper,workdir=layer/work" root
mkdir -p root/proc root/dev root/tmp root/run root/slipway
mount -t proc proc root/proc
mount --rbind /dev root/dev
mount -t tmpfs tmpfs root/run
mount -t tmpfs tmpfs root/tmp
mount --bind "$5" root/slipway
ip link set lo up
"$3" "$4" "$1" &
wait $!`,
      ...['sh', folder, lower, NODE, INSIDE, SOURCES],
    ],
    { stdio: ['ignore', 'pipe', 'pipe'], env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' } },
  );
  await awaitReady(child);
  const first = readFileSync(`/proc/${child.pid ?? 0}/task/${child.pid ?? 0}/children`, 'utf8').trim();
  const run = (script: string, ...args: readonly string[]): Ran => {
    // A file, not a pipe: an image's nginx opens /dev/stderr, and pipes from Node are sockets, which cannot be opened.
    const file = join(folder, 'output');
    const output = openSync(file, 'w');
    const { status } = spawnSync(
      'nsenter',
      [
        ...['--target', first, '--mount', '--net', '--pid', 'chroot', join(folder, 'root')],
        ...['sh', '-c', script, 'sh', ...args],
      ],
      {
        stdio: ['ignore', output, output],
        env: { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', HOME: '/root' },
        timeout: 60_000,
      },
    );
    closeSync(output);
    return { code: status, output: readFileSync(file, 'utf8') };
  };
  const path = (inside: string): string => `/proc/${first}/root${join(folder, 'root', inside)}`;
  return {
    folder,
    run,
    install: (...flags) => run('exec sh /slipway/install.sh "$@"', ...flags),
    path,
    read: (inside) => readFileSync(path(inside), 'utf8'),
    close: () => {
      child.kill('SIGKILL');
      for (let tries = 0; tries < 50 && existsSync(`/proc/${first}/ns`); tries++) execFileSync('sleep', ['0.05']);
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

async function awaitReady(child: ChildProcess): Promise<void> {
  let said = '';
  await new Promise<void>((resolve, reject) => {
    const listen = (text: Buffer): void => {
      said += text.toString();
      if (said.includes('ready\n')) resolve();
    };
    child.stdout?.on('data', listen);
    child.stderr?.on('data', listen);
    child.once('error', reject);
    child.once('close', () => {
      reject(new Error(`the machine did not start (root is needed): ${said}`));
    });
  });
}

/** Names of the version folders, in no order. */
export const versionsOf = (machine: Machine): string[] => readdirSync(machine.path('/etc/nginx/slipway-ssl/versions'));
