/** From a bare server to the first deploy, by infra/server/bootstrap.sh: what it changes, what it leaves alone, and what it refuses. */
import { spawn } from 'node:child_process';
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { type AddressInfo, createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { jest } from '@jest/globals';
import { runAction } from './harness/index.ts';
import {
  bareServer,
  buildExample,
  type Executed,
  EXAMPLE,
  freshServer,
  get,
  onServer,
  projectFiles,
  rebootServer,
  removeCheckouts,
  sandboxInfo,
  tryOnServer,
} from './sandbox.ts';

jest.setTimeout(120_000);

const SCRIPT = fileURLToPath(new URL('../../infra/server/bootstrap.sh', import.meta.url));
const PASSWORD = 'a-password-of-bob';

let server: Awaited<ReturnType<typeof bareServer>>;
let program: string;
let image: string;
let keys: string;
let publicKey: string;

const quote = (word: string): string => `'${word.replaceAll("'", `'\\''`)}'`;

async function run(argv: readonly string[], input = ''): Promise<Executed> {
  const [command = '', ...args] = argv;
  const child = spawn(command, args);
  child.stdin.on('error', () => undefined);
  child.stdin.end(input);
  const code = new Promise<number>((resolve) =>
    child.once('close', (status) => {
      resolve(status ?? -1);
    }),
  );
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)]);
  return { code: await code, stdout, stderr };
}

async function ssh(user: string, command: string, input = '', options: readonly string[] = []): Promise<Executed> {
  const key = user === 'deploy' ? join(keys, 'slipway') : server.rootKeyFile;
  const given = [
    `UserKnownHostsFile=${join(keys, 'known_hosts')}`,
    'StrictHostKeyChecking=yes',
    'BatchMode=yes',
    'IdentitiesOnly=yes',
  ];
  return run(
    [
      'ssh',
      '-i',
      key,
      ...[...given, ...options].flatMap((option) => ['-o', option]),
      `${user}@${server.address}`,
      command,
    ],
    input,
  );
}

/** By the operator, over ssh, as the documentation shows it. */
const bootstrap = async (options: readonly string[] = [], key = publicKey): Promise<Executed> =>
  ssh('root', ['sh', '-s', '--', '--key', key, '--project', 'shop', ...options].map(quote).join(' '), program);

/** On the console: for when ssh does not let the operator in. */
const bootstrapOnConsole = async (options: readonly string[] = []): Promise<Executed> =>
  tryOnServer('exec sh -s -- --key "$@"', [publicKey, '--project', 'shop', ...options], program);

/** A script that goes on where the program's own functions are known, and nothing of it has run. */
const inside = async (script: string): Promise<Executed> =>
  tryOnServer(
    'exec sh -s',
    [],
    `${program.slice(0, program.lastIndexOf('main "$@"'))}\nscratch=$(mktemp -d)\ntrap 'rm -r "$scratch"' EXIT\n${script}`,
  );

/** Every file with its time, owner, mode and target, which units start at boot, and since when the services run. */
const stateOf = async (): Promise<string[]> => {
  const state = await onServer(
    `find / -xdev \\( -path /proc -o -path /sys -o -path /run -o -path /tmp -o -path /var/log -o -path /var/lib/fail2ban -o -path /var/lib/systemd \\) -prune -o \\
  -printf '%p %T@ %m %u:%g %s %l\\n'
systemctl list-unit-files --state=enabled,masked --no-legend --plain
systemctl show -p ActiveEnterTimestampMonotonic ssh docker fail2ban slipway-firewall systemd-journald
getent passwd; getent group; nft list table inet slipway 2>/dev/null || true`,
  );
  return state.split('\n').sort();
};

/** Which ways of logging in sshd offers somebody without a key. */
async function offered(user: string): Promise<string> {
  const { stderr } = await ssh(user, 'true', '', ['PreferredAuthentications=none', 'LogLevel=INFO']);
  return /Permission denied \((.*)\)/.exec(stderr)?.[1] ?? stderr;
}

const DAEMON = (registry: string): object => ({
  'insecure-registries': [registry],
  'registry-mirrors': [`http://${registry}`],
  'log-opts': { 'max-size': '5m', labels: 'team' },
});

beforeAll(async () => {
  program = await readFile(SCRIPT, 'utf8');
  await freshServer();
  image = await buildExample('v1');
  server = await bareServer();
  keys = await mkdtemp(join(tmpdir(), 'slipway-keys-'));
  await run(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-C', 'deploy', '-f', join(keys, 'slipway')]);
  publicKey = (await readFile(join(keys, 'slipway.pub'), 'utf8')).trim();
  await writeFile(join(keys, 'known_hosts'), server.knownHosts);
  // What its owner has done already, and what a cloud's image brings: a file that would switch passwords on behind our back.
  await onServer(
    `mkdir -p /etc/docker && printf '%s' "$1" > /etc/docker/daemon.json
echo 'PasswordAuthentication yes' > /etc/ssh/sshd_config.d/50-cloud-init.conf
useradd --create-home bob && echo "bob:$2" | chpasswd && systemctl reload ssh`,
    [JSON.stringify(DAEMON(sandboxInfo().registry.open)), PASSWORD],
  );
});

afterAll(async () => {
  await removeCheckouts();
  await rm(keys, { recursive: true, force: true });
});

test('--check tells what differs, by its exit code too, and changes nothing', async () => {
  const before = await stateOf();
  const looked = await bootstrap(['--check']);
  expect(looked.code).toBe(3);
  for (const what of [
    'packages: nftables fail2ban',
    '00-slipway.conf',
    'firewall.nft',
    'Docker Engine with Compose',
    'user deploy',
    '/home/deploy/apps/shop',
  ])
    expect(looked.stdout).toMatch(new RegExp(`^differs: .*${what}`, 'm'));
  expect(looked.stderr).toMatch(/\d+ differ\. Nothing was changed/);
  expect(await stateOf()).toEqual(before);
});

describe('what would lock somebody out is refused before anything is changed', () => {
  const refused = async (...options: string[]): Promise<string> => {
    const before = await stateOf();
    const done = await bootstrapOnConsole(options);
    expect(done.code).toBe(1);
    expect(done.stdout).toBe('');
    expect(done.stderr).toContain('Nothing was changed.');
    expect(await stateOf()).toEqual(before);
    return done.stderr;
  };
  const KEYS = '/root/.ssh/authorized_keys';
  const LOCKED_OUT = /Nobody who administers this server could log in any more[^]*ssh-copy-id/;

  test('the operator has no key, or only one that leads nowhere', async () => {
    await onServer(`cp -p ${KEYS} /root/keys && : > ${KEYS}`);
    expect(await refused()).toMatch(LOCKED_OUT);
    // As cloud images have it for root.
    await onServer(`{ printf '%s ' 'command="echo Log in as ubuntu." '; cat /root/keys; } > ${KEYS}`);
    expect(await refused()).toMatch(LOCKED_OUT);
    // sshd does not believe a file that others may write.
    await onServer(`cat /root/keys > ${KEYS} && chmod 666 ${KEYS}`);
    expect(await refused()).toMatch(LOCKED_OUT);
    await onServer(`chmod 600 ${KEYS}`);
  });

  test('root is to be shut out, and nobody else is there', async () => {
    expect(await refused('--no-root-login')).toMatch(LOCKED_OUT);
  });

  test('sshd lets others in only, or its configuration is broken already', async () => {
    const file = '/etc/ssh/sshd_config.d/60-others.conf';
    try {
      await onServer(`echo 'AllowUsers root bob' > ${file}`);
      expect(await refused()).toContain('deploy is none of them');
      await onServer(`echo 'Nonsense yes' > ${file}`);
      expect(await refused()).toContain('sshd refuses its present configuration');
      // A second factor, which nobody could give once keyboard-interactive is off. Match needs to know where the login came in.
      const second = 'Match LocalPort 22\\n  AuthenticationMethods publickey,keyboard-interactive\\n';
      await onServer(`printf 'KbdInteractiveAuthentication yes\\n${second}' > ${file}`);
      // Who may go on answering is not locked out; the deploy still is.
      const plans = await inside(`read_ssh_ports; plan_sshd; echo "$problems"; echo ---
problems='' passwords=keep root_login=no; plan_sshd; echo "$problems"; echo ---
problems='' root_login=keep operators=''; plan_sshd; echo "$operators"`);
      const [off, shut, kept] = plans.stdout.split('---\n');
      expect(off).toMatch(LOCKED_OUT);
      expect(off).toContain('AuthenticationMethods asks for more than the key of: root.');
      expect(off).toContain('A key is not enough for deploy: sshd asks for publickey,keyboard-interactive');
      expect(shut).toMatch(LOCKED_OUT);
      expect(kept).toBe(' root\n');
    } finally {
      await onServer(`rm ${file}`);
    }
  });

  test('the ports of ssh: where sshd listens, where it will, and not where a session listens for its user', async () => {
    const read = await inside(`file=/etc/ssh/sshd_config.d/70-port.conf
cp -p ${KEYS} /root/keys && ssh-keygen -q -t ed25519 -N '' -f /root/self && cat /root/self.pub >> ${KEYS}
echo "127.0.0.1 $(cut -d' ' -f1,2 /etc/ssh/ssh_host_ed25519_key.pub)" >/root/self-known
ssh -n -f -i /root/self -o BatchMode=yes -o UserKnownHostsFile=/root/self-known -o ExitOnForwardFailure=yes -R 7777:127.0.0.1:22 root@127.0.0.1 'sleep 5' >/dev/null 2>&1
ss -Hltn '( sport = :7777 )' | grep -c 7777
printf 'Port 22\\nPort 2222\\nMatch LocalPort 2222\\n  PermitRootLogin no\\n' > "$file"
read_ssh_ports
echo $ssh_ports
read_ssh_address
plan_sshd
echo "$problems $operators"
mv /root/keys ${KEYS}; rm -f "$file" /root/self* /root/.ssh/known_hosts`);
    expect(read).toMatchObject({ stderr: '', stdout: '2\n22 2222\n  root\n' });
  });
});

test('what was interrupted is gone on with: swap, and a drop-in that sshd does not take', async () => {
  // A kernel's part is stood in for: a sandbox's swap would be its machine's.
  const done = await inside(`exec 2>/dev/null
swapon() { case $1 in --noheadings) cat "$scratch/swaps" ;; *) echo "$1" >"$scratch/swaps" ;; esac; }
sysctl() { :; }
df() { printf 'x\\nx x x 9999\\n'; }
fallocate() { return 1; }
cp -p /etc/fstab "$scratch/kept"; : >"$scratch/swaps"
container='' swap_size=8M
(put_file() { exit 9; }; make_swap) || echo "killed $?"
[ -s "$scratch/swaps" ] && make_swap
grep -c '^/swapfile none swap sw 0 0' /etc/fstab; stat -c '%a %s' /swapfile; ls /etc/sysctl.d/60-slipway.conf "$PENDING"
changes=0; make_swap; echo "$changes"
cp -p "$scratch/kept" /etc/fstab; rm -f /swapfile /etc/fstab.before-slipway /etc/sysctl.d/60-slipway.conf
echo 'X11Forwarding no' >"$SSHD_FILE"; echo 'Nonsense yes' >"$scratch/sshd"
(secure_sshd) || cat "$SSHD_FILE"
rm -r "$SSHD_FILE"* /var/lib/slipway-bootstrap`);
  expect(done.stdout).toBe(
    'killed 9\n1\n600 8388608\n/etc/sysctl.d/60-slipway.conf\n\n/var/lib/slipway-bootstrap/pending:\n0\nX11Forwarding no\n',
  );
});

test('no link in the home of the user that deploys leads root anywhere', async () => {
  const done = await inside(`exec 2>&1
user=linky home=/home/linky projects=shop
useradd --create-home linky && mkdir -m 755 /srv/roots && echo secret >/srv/roots/authorized_keys && chmod 600 /srv/roots/authorized_keys
echo 'ssh-ed25519 AAAA deploy' >"$scratch/keys"
ln -s /srv/roots "$home/.ssh"; (admit_keys) || echo refused
rm "$home/.ssh"; install -d -m 700 -o linky -g linky "$home/.ssh"
ln -s /srv/roots/authorized_keys "$home/.ssh/authorized_keys"; (admit_keys) || echo refused
rm "$home/.ssh/authorized_keys"; ln -s /srv/roots/authorized_keys "$home/.ssh/authorized_keys.slipway-new"; admit_keys
stat -c '%U %a %n' /srv/roots /srv/roots/authorized_keys "$home/.ssh/authorized_keys"; cat /srv/roots/authorized_keys
install -d -o linky -g linky /srv/volume; ln -s /srv/volume "$home/apps"
make_projects; changes=0; make_projects; echo "$changes"; stat -c '%U %a' /srv/volume/shop
userdel -r linky 2>/dev/null; rm -r /srv/roots /srv/volume`);
  const [refusals, rest] = done.stdout.split('* /home/linky/.ssh/authorized_keys');
  expect(refusals?.match(/^refused$/gm)).toHaveLength(2);
  expect(rest).toBe(
    `: the key that deploys
root 755 /srv/roots
root 600 /srv/roots/authorized_keys
linky 600 /home/linky/.ssh/authorized_keys
secret
* folder /home/linky/apps/shop, of linky, 755
0
linky 755
`,
  );
});

test("a key that is not Docker's is not installed; what was done before that stays", async () => {
  const keyring = Buffer.from(
    await onServer('base64 /usr/share/keyrings/debian-archive-bookworm-stable.gpg'),
    'base64',
  );
  const asked: string[] = [];
  const mirror = createServer((request, response) => {
    asked.push(request.url ?? '');
    response.statusCode = request.url?.includes('/dists/') === true ? 404 : 200;
    response.end(keyring);
  });
  await new Promise<void>((resolve) => mirror.listen(0, sandboxInfo().network.host, resolve));
  try {
    const address = `http://${sandboxInfo().network.host}:${(mirror.address() as AddressInfo).port}/linux`;
    const done = await bootstrap(['--docker', 'docker', '--docker-repository', address]);
    expect(asked).toEqual(['/linux/debian/gpg']);
    expect(done.code).toBe(1);
    expect(done.stderr).toContain(
      "not Docker's, which is 9DC858229FC7DD38854AE2D88D81803C0EBFCD88. It was not installed.",
    );
    expect(done.stderr).toContain('run the same command again: it goes on from here');
    // Docker's own key, were it this one: a suite that is not there is asked for before it is written.
    const none = await inside(`os_id=debian os_codename=sid docker_repository=${address}
DOCKER_FINGERPRINT=$(curl -fsS ${address}/debian/gpg | gpg --show-keys --with-colons 2>/dev/null | awk -F: '/^fpr/ {print $10; exit}')
add_docker_repository`);
    expect(none.code).toBe(1);
    expect(none.stderr).toContain('no packages for debian sid');
    expect(await onServer('ls /etc/apt/keyrings /etc/apt/sources.list.d; command -v dockerd || true')).not.toMatch(
      /docker/,
    );
  } finally {
    await new Promise((resolve) => mirror.close(resolve));
  }
});

let knownHosts = '';

test('it goes on, and makes the server ready', async () => {
  expect(await offered('bob')).toContain('password');
  const done = await bootstrap();
  if (done.code !== 0) throw new Error(done.stderr);
  const ed25519 = server.knownHosts.split('\n').find((line) => line.includes('ssh-ed25519')) ?? '';
  expect(done.stdout.split('\n')).toContain(ed25519);
  expect(done.stdout).toMatch(/gh secret set SSH_KEY[^]*gh variable set SSH_KNOWN_HOSTS[^]*host: [\d.]+\n/);
  knownHosts = ed25519;
  // Its owner's words stay, and have the last word.
  const daemon = DAEMON(sandboxInfo().registry.open);
  expect(JSON.parse(await onServer('cat /etc/docker/daemon.json'))).toEqual({
    ...daemon,
    'log-driver': 'json-file',
    'log-opts': { 'max-size': '5m', 'max-file': '3', labels: 'team' },
    'live-restore': false,
  });
  expect(JSON.parse(await onServer('cat /etc/docker/daemon.json.before-slipway'))).toEqual(daemon);
  // What a namespace cannot have is said.
  expect(done.stderr).toMatch(/note: time: this is a container[^]*note: swap: this is a container/);
});

test('a second run changes nothing, and --check finds nothing', async () => {
  const before = await stateOf();
  const again = await bootstrap();
  expect(again.code).toBe(0);
  expect(again.stderr).toContain('Nothing differed; nothing was changed.');
  expect(again.stdout).toContain(knownHosts);
  expect((await bootstrap(['--check'])).code).toBe(0);
  expect(await stateOf()).toEqual(before);
});

test('passwords are refused; the operator and deploy get in with their keys', async () => {
  expect(await offered('bob')).toBe('publickey');
  expect(await offered('root')).toBe('publickey');
  expect((await ssh('root', 'id -un')).stdout).toBe('root\n');
  const deploy = await ssh(
    'deploy',
    'id -Gn; docker compose version --short; sudo -n true 2>/dev/null || echo no sudo; touch apps/shop/mine',
  );
  expect(deploy.stdout).toMatch(/^deploy docker\n2\.\d+\.\d+.*\nno sudo\n$/);
  expect(deploy.code).toBe(0);
});

test('who guesses is seen by fail2ban, and banned', async () => {
  await ssh('nobody-at-all', 'true');
  const seen = await onServer(
    `for try in $(seq 50); do fail2ban-client status sshd | grep -q 'Total failed:[[:space:]]*[1-9]' && echo seen && break; sleep 0.1; done
fail2ban-client set sshd banip 203.0.113.9 >/dev/null; sleep 0.3; nft list ruleset 2>/dev/null | grep -c 203.0.113.9`,
  );
  expect(seen).toBe('seen\n1\n');
});

test('the first deploy of the example goes live, with the line that was printed', async () => {
  const checkout = await projectFiles({
    'compose.yaml': await readFile(join(EXAMPLE, 'compose.yaml'), 'utf8'),
    // Its router has no health check: five seconds of watching, otherwise.
    'watch.yaml': 'services: { web: { deploy: { update_config: { monitor: 1s } } } }\n',
  });
  for (const folder of ['nginx', 'public'])
    await cp(join(EXAMPLE, folder), join(checkout.folder, folder), { recursive: true });
  const key = await readFile(join(keys, 'slipway'), 'utf8');
  const deployed = await runAction({
    action: 'action-deploy',
    workspace: checkout.folder,
    secrets: [key],
    with: {
      host: server.address,
      'ssh-key': key,
      'known-hosts': knownHosts,
      project: 'shop',
      'compose-file': 'compose.yaml\nwatch.yaml',
      files: 'nginx\npublic',
      env: 'POSTGRES_PASSWORD=correct-horse-battery\nREDIS_PASSWORD=staple-of-redis',
      variables: `API_IMAGE=${image}\nHTTP_PORT=80`,
    },
  });
  if (deployed.outcome !== 'success') throw new Error(deployed.log);
  expect(JSON.parse(await get(80, '/health/ready'))).toMatchObject({ status: 'ready', releaseId: 'v1' });
  // A new container's log is rotated as both say.
  expect(
    await onServer(
      `docker run --rm -d --name probe busybox:1 sleep 1 >/dev/null && docker inspect -f '{{json .HostConfig.LogConfig.Config}}' probe`,
    ),
  ).toBe('{"labels":"team","max-file":"3","max-size":"5m"}\n');
});

/** Ports that only containers have: published to everybody, to the server itself, and on the server's own network. */
const OPENED = `docker run -d --restart always --name published -p 9000:80 -p 127.0.0.1:9001:80 nginx:1.30 >/dev/null
docker run -d --init --restart always --network host --name listening busybox:1 busybox httpd -f -p 9002 >/dev/null
docker inspect -f '{{.NetworkSettings.IPAddress}}' published`;

/** Whether a connection comes about; a packet that is dropped is waited for a second. */
function connects(port: number): Promise<boolean> {
  const socket = createConnection({ host: server.address, port, timeout: 1000 });
  return new Promise<boolean>((resolve) => {
    socket.once('connect', () => {
      resolve(true);
    });
    socket.once('timeout', () => {
      resolve(false);
    });
    socket.once('error', () => {
      resolve(false);
    });
  }).finally(() => {
    socket.destroy();
  });
}

async function reachable(): Promise<Record<string, boolean>> {
  const ports = [80, 9000, 9001, 9002];
  const answers = await Promise.all(ports.map(connects));
  return Object.fromEntries(ports.map((port, index) => [port, answers[index] === true]));
}

const ONLY_80 = { 80: true, 9000: false, 9001: false, 9002: false };

test('what Docker publishes is open to nobody but on the ports that are allowed', async () => {
  await onServer(OPENED);
  expect(await reachable()).toEqual(ONLY_80);
  // It is the firewall that keeps it so, and nothing else. And who flushes it is found out.
  // A package that is unpacked and no more: an installation was killed.
  await onServer(
    'nft delete table inet slipway; cd /tmp && apt-get download -qq iptables 2>/dev/null && dpkg --unpack iptables*.deb',
  );
  expect(await reachable()).toEqual({ 80: true, 9000: true, 9001: false, 9002: true });
  const looked = await bootstrap(['--check']);
  expect(looked.code).toBe(3);
  expect(looked.stdout).toContain('somebody has flushed it');
  expect(looked.stdout).toContain('packages that were not installed to the end: iptables');
  // In force again, and with one more port: for what Docker publishes, too.
  expect((await bootstrap(['--allow', '9000'])).code).toBe(0);
  expect(await onServer('dpkg --audit')).toBe('');
  expect(await reachable()).toEqual({ ...ONLY_80, 9000: true });
  // What is not asked for any more is closed.
  expect((await bootstrap()).code).toBe(0);
  // On the server, and among containers, everything goes on as before.
  expect(
    await onServer(
      `docker exec listening wget -q -O - http://127.0.0.1:9000/ | grep -c '<h1>'; docker exec published busybox wget -q -O - http://${server.address}:9000/ | grep -c '<h1>'`,
    ),
  ).toBe('1\n1\n');
  // nftables.service flushes all rules whenever it starts or reloads. (Docker's, too, which it writes anew at its start.)
  const rules = 'nft list table inet slipway | grep -c hook';
  expect(
    await onServer(`systemctl start nftables; ${rules}; systemctl reload nftables; ${rules}
systemctl stop nftables; systemctl start nftables slipway-firewall; ${rules}; systemctl is-active slipway-firewall`),
  ).toBe('2\n2\n2\nactive\n');
});

test('after a restart of Docker and a reboot all of it holds', async () => {
  const untilAllRun = (): Promise<string> =>
    onServer(
      'for try in $(seq 300); do [ "$(docker ps -q | wc -l)" -ge 6 ] && break; sleep 0.1; done; docker ps --format "{{.Names}}" | sort | xargs',
    );
  const all = 'listening published shop-api-1 shop-cache-1 shop-db-1 shop-web-1\n';
  await onServer('systemctl restart docker');
  expect(await untilAllRun()).toBe(all);
  expect(await reachable()).toEqual(ONLY_80);
  await rebootServer();
  expect(await untilAllRun()).toBe(all);
  expect(await reachable()).toEqual(ONLY_80);
  expect(await offered('bob')).toBe('publickey');
  const looked = await bootstrap(['--check']);
  expect(looked).toMatchObject({ code: 0, stdout: '' });
});

test('nginx on the server: not beside a router that has its ports; then with the folders for certificates', async () => {
  const refused = await bootstrap(['--nginx']);
  expect(refused.code).toBe(1);
  expect(refused.stderr).toMatch(/needs the ports 80 and 443.*docker-proxy on/);
  await onServer('cd /home/deploy/apps/shop && docker compose down -t 1 2>/dev/null');
  const done = await bootstrap(['--nginx']);
  if (done.code !== 0) throw new Error(done.stderr);
  expect(await get(80)).toContain('nginx');
  expect(
    await onServer("certbot --version; nginx -t 2>&1 | tail -n 1; stat -c '%n %U %a' /var/www/acme /etc/slipway/tls"),
  ).toMatch(/^certbot \d[^]*successful\n\/var\/www\/acme root 755\n\/etc\/slipway\/tls root 755\n$/);
  expect((await bootstrap(['--nginx', '--check'])).code).toBe(0);
});
