// Every verb, for real. Needs root on Debian or Ubuntu: node --test infra/sandbox/test/
// With the cache warm this takes less than a minute; the first run ever builds the cache (one to two minutes more).
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { createConnection } from 'node:net';
import * as os from 'node:os';
import * as path from 'node:path';
import process from 'node:process';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';

process.env.SLIPWAY_SANDBOX = `test-${process.pid}`;
const CLI = fileURLToPath(new URL('../sandbox.mjs', import.meta.url));
const sandbox = await import('../sandbox.mjs');
const { findInstance } = await import('../lib/instance.mjs');
const { listMounts, readStartTime } = await import('../lib/system.mjs');

const skip = process.getuid?.() !== 0 ? 'needs root' : false;
const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'sandbox-test-'));
let info;

/** Runs the command line. */
function cli(args, options = {}) {
  return spawnSync(process.execPath, [CLI, ...args], { encoding: 'utf8', timeout: 300000, ...options });
}
async function inServer(name, command) {
  const result = await sandbox.execute(name, ['sh', '-c', command]);
  assert.equal(result.code, 0, `${command}: ${result.stdout}${result.stderr}`);
  return result.stdout.trim();
}
function ssh(server, command, { timeout = 20000, input } = {}) {
  const knownHosts = path.join(scratch, `known_hosts-${server.name}`);
  fs.writeFileSync(knownHosts, server.knownHosts);
  return spawnSync(
    'ssh',
    [
      '-i',
      server.keyFile,
      '-o',
      'IdentitiesOnly=yes',
      '-o',
      `UserKnownHostsFile=${knownHosts}`,
      '-o',
      'StrictHostKeyChecking=yes',
      '-o',
      'BatchMode=yes',
      `${server.user}@${server.address}`,
      command,
    ],
    { encoding: 'utf8', timeout, input, maxBuffer: 1e9 },
  );
}
/** What happens on a new connection within the time: the server's first words, an error code, or "silence". */
function greet(address, port, timeoutMs = 1500) {
  return new Promise((resolve) => {
    const socket = createConnection({ host: address, port });
    const end = (answer) => {
      clearTimeout(timer);
      socket.destroy();
      resolve(answer);
    };
    const timer = setTimeout(() => end('silence'), timeoutMs);
    socket.once('data', (data) => end(data.toString()));
    socket.once('error', (error) => end(error.code));
  });
}
async function time(work) {
  const begin = process.hrtime.bigint();
  await work();
  return Number(process.hrtime.bigint() - begin) / 1e6;
}
/** What the application on a server answers, as soon as it does. */
async function askApp(server) {
  for (let i = 0; ; i++) {
    try {
      return await (await fetch(`http://${server.address}:8080`, { signal: AbortSignal.timeout(1000) })).text();
    } catch (error) {
      if (i > 100) throw error;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}
const median = (numbers) => numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)];
const medianGreeting = async (address) => {
  const times = [];
  for (let i = 0; i < 5; i++) times.push(await time(() => greet(address, 22, 5000)));
  return median(times);
};

describe('sandbox', { skip }, () => {
  let s1;
  let s2;

  before(async () => {
    sandbox.setQuiet(true);
    info = await sandbox.up({ servers: 2 });
    [s1, s2] = info.servers;
  });
  after(async () => {
    await sandbox.down();
    fs.rmSync(scratch, { recursive: true, force: true });
  });

  test('info has what a client needs, and up again changes nothing', async () => {
    assert.deepEqual(JSON.parse(cli(['info', '--json']).stdout), info);
    assert.deepEqual(
      info.servers.map((server) => server.name),
      ['s1', 's2'],
    );
    const before = await inServer('s1', 'cat /proc/sys/kernel/random/uuid > /run/mark; cat /run/mark');
    assert.deepEqual(await sandbox.up(), info);
    assert.equal(await inServer('s1', 'cat /run/mark'), before);
  });

  test('deploy logs in by key, is unprivileged, and uses Docker and Compose v2', () => {
    const result = ssh(
      s1,
      'id -un; id -Gn; docker info --format "{{.ServerVersion}}" && docker compose version --short; sudo -n true 2>/dev/null || echo no-sudo',
    );
    assert.equal(result.status, 0, result.stderr);
    const [user, groups, engine, compose, sudo] = result.stdout.trim().split('\n');
    assert.equal(user, 'deploy');
    assert.deepEqual(groups.split(' ').sort(), ['deploy', 'docker']);
    assert.match(engine, /^\d+\.\d+/);
    assert.match(compose, /^v?2\./);
    assert.equal(sudo, 'no-sudo');
  });

  test('exec passes stdin and the exit code on', () => {
    const result = cli(['exec', 's2', '--', 'sh', '-c', 'cat; hostname; id -u; exit 7'], { input: 'hello\n' });
    assert.equal(result.stdout, 'hello\ns2\n0\n');
    assert.equal(result.status, 7);
  });

  test('servers are apart from each other and from this machine', async () => {
    assert.notEqual(
      await inServer('s1', 'docker info --format "{{.ID}}"'),
      await inServer('s2', 'docker info --format "{{.ID}}"'),
    );
    assert.match(await inServer('s1', 'cat /proc/1/comm'), /systemd/);
    const swappiness = fs.readFileSync('/proc/sys/vm/swappiness', 'utf8');
    const result = await sandbox.execute('s1', ['sh', '-c', 'echo 1 > /proc/sys/vm/swappiness']);
    assert.notEqual(result.code, 0);
    assert.equal(fs.readFileSync('/proc/sys/vm/swappiness', 'utf8'), swappiness);
    assert.equal(await inServer('s1', `timeout 2 nc -z ${s2.address} 22 && echo reached`), 'reached');
  });

  test('it listens nowhere but on its own network', () => {
    const listening = spawnSync('ss', ['-Hltunp'], { encoding: 'utf8' }).stdout.split('\n');
    const registry = ['open', 'login'].map(
      (name) => fs.readFileSync(path.join(info.stateDir, `registry/${name}.pid`), 'utf8').split(' ')[0],
    );
    const ours = listening.filter(
      (line) => line.includes(info.network.host) || registry.some((pid) => line.includes(`pid=${pid},`)),
    );
    assert.deepEqual(ours, []);
  });

  test('build: image by both names on every server; the login registry wants the login', async () => {
    const dir = path.join(scratch, 'app');
    fs.mkdirSync(dir);
    fs.writeFileSync(
      path.join(dir, 'Dockerfile'),
      'FROM node:24\nARG WORD=none\nENV WORD=$WORD\nCOPY . /app/\nCMD ["/app/server.js"]\n',
    );
    fs.writeFileSync(path.join(dir, '.dockerignore'), 'secret\n*.log\n');
    for (const name of ['secret', 'noise.log']) fs.writeFileSync(path.join(dir, name), 'x');
    fs.writeFileSync(
      path.join(dir, 'server.js'),
      `const files = require('fs').readdirSync('/app').sort().join()
      process.on('SIGTERM', () => process.exit(0))
      require('http').createServer((_, response) => response.end([process.env.WORD, files, process.version.split('.')[0]].join(' '))).listen(3000)\n`,
    );
    const result = cli(['build', 'app:1', dir, '--build-arg', 'WORD=moin', '--json']);
    assert.equal(result.status, 0, result.stderr);
    const built = JSON.parse(result.stdout);
    assert.equal(built.reference, `${info.registry.open}/app:1`);
    assert.match(built.digest, /^sha256:[0-9a-f]{64}$/);
    assert.equal(
      await inServer('s1', 'docker images -q app; docker images -q "*/app"'),
      '',
      'the building server must not keep the image',
    );
    await inServer('s2', `docker pull -q ${built.reference}@${built.digest}`);
    await inServer('s2', 'docker run -d --name app --restart unless-stopped -p 8080:3000 app:1');
    assert.equal(await askApp(s2), 'moin .dockerignore,Dockerfile,server.js v24');

    const { address, username, password } = info.registry.login;
    assert.notEqual((await sandbox.execute('s1', ['docker', 'pull', '-q', `${address}/app:1`])).code, 0);
    const login = await sandbox.execute('s1', ['docker', 'login', '-u', username, '--password-stdin', address], {
      input: password,
    });
    assert.equal(login.code, 0, login.stderr);
    await inServer('s1', `docker pull -q ${address}/app:1`);
  });

  test('reboot: unless-stopped containers and data come back', async () => {
    await inServer(
      's2',
      'docker volume create data && docker run --rm -v data:/data busybox:1 sh -c "echo kept > /data/file"',
    );
    const boot = await inServer('s2', 'readlink /proc/1/ns/pid');
    assert.equal(cli(['reboot', 's2']).status, 0);
    assert.notEqual(await inServer('s2', 'readlink /proc/1/ns/pid'), boot);
    assert.equal(await inServer('s2', 'docker inspect -f "{{.State.Running}}" app'), 'true');
    assert.equal(await inServer('s2', 'docker run --rm -v data:/data busybox:1 cat /data/file'), 'kept');
  });

  test('a reboot and a power-off from inside', async () => {
    const boot = await inServer('s2', 'readlink /proc/1/ns/pid');
    await sandbox.execute('s2', ['systemctl', 'reboot']);
    for (let i = 0; i < 200; i++) {
      const now = await sandbox.execute('s2', ['readlink', '/proc/1/ns/pid']).catch(() => ({ code: 1 }));
      if (now.code === 0 && now.stdout.trim() !== boot) break;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    await sandbox.start('s2'); // waits until it is up
    await askApp(s2); // a container that is told to stop while it starts holds the power-off up for 10 s
    await sandbox.execute('s2', ['systemctl', 'poweroff']);
    for (let i = 0; i < 200 && sandbox.status().servers[1].state !== 'off'; i++)
      await new Promise((resolve) => setTimeout(resolve, 50));
    assert.equal(sandbox.status().servers[1].state, 'off');
    await sandbox.start('s2');
    assert.equal(await inServer('s2', 'docker inspect -f "{{.State.Running}}" app'), 'true');
  });

  test('poweroff: no good-bye to a client; start: data and containers are there', async () => {
    const socket = createConnection({ host: s2.address, port: 22 });
    await new Promise((resolve) => socket.once('data', resolve));
    let goodBye;
    for (const event of ['end', 'error', 'close']) socket.once(event, () => (goodBye ??= event));
    await sandbox.poweroff('s2');
    await new Promise((resolve) => setTimeout(resolve, 300));
    assert.equal(goodBye, undefined);
    socket.destroy();
    assert.equal(sandbox.status().servers[1].state, 'off');
    const failed = cli(['exec', 's2', '--', 'true']);
    assert.equal(failed.status, 1);
    assert.match(failed.stderr, /not running[\s\S]*start s2/);
    await sandbox.start('s2');
    assert.equal(await inServer('s2', 'docker inspect -f "{{.State.Running}}" app'), 'true');
  });

  test('hang: connections are accepted, nobody answers; resume: all goes on', async () => {
    await sandbox.hang('s2');
    assert.equal(await greet(s2.address, 22), 'silence');
    assert.equal(sandbox.status().servers[1].state, 'hung');
    await sandbox.resume('s2');
    assert.match(await greet(s2.address, 22), /^SSH-2/);
    await sandbox.hang('s2');
    await sandbox.poweroff('s2'); // a hung server can be switched off, too
    await sandbox.start('s2');
  });

  test('cut: silence for new and old connections, over a reboot too; join: an old connection goes on', async () => {
    const socket = createConnection({ host: s2.address, port: 22 });
    await new Promise((resolve) => socket.once('data', resolve));
    let broken;
    for (const event of ['end', 'error', 'close']) socket.once(event, () => (broken ??= event));
    await sandbox.cut('s2');
    assert.equal(await greet(s2.address, 22), 'silence');
    assert.notEqual(
      (await sandbox.execute('s2', ['timeout', '1', 'nc', '-z', ...info.registry.open.split(':')])).code,
      0,
    );
    await sandbox.join('s2');
    const answer = new Promise((resolve) => socket.once('data', resolve));
    socket.write('SSH-2.0-test\r\n');
    await answer;
    assert.equal(broken, undefined);
    socket.destroy();
    await sandbox.cut('s2');
    await sandbox.reboot('s2');
    assert.equal(await greet(s2.address, 22), 'silence');
    await sandbox.join('s2');
    assert.match(await greet(s2.address, 22), /^SSH-2/);
  });

  test('slow: delay and rate', async () => {
    const normal = await medianGreeting(s2.address);
    await sandbox.slow('s2', { delay: 50 });
    const delayed = await medianGreeting(s2.address);
    // the connection and the greeting: three times over the link, 50 ms each
    assert.ok(
      delayed > normal + 95 && delayed < normal * 3 + 400,
      `greeting after ${normal} ms, delayed ${delayed} ms`,
    );
    assert.equal(ssh(s2, 'head -c 3000000 /dev/zero').stdout.length, 3000000, 'large packets pass the relay');
    assert.match(cli(['status']).stdout, /s2 .*50 ms/);
    await sandbox.unslow('s2');
    assert.ok((await medianGreeting(s2.address)) < delayed / 2);

    await sandbox.slow('s2', { delay: 50, from: '192.0.2.1' });
    assert.ok((await medianGreeting(s2.address)) < delayed / 2, 'the delay is for others');
    await sandbox.slow('s2', { delay: 50, from: info.network.host });
    assert.ok((await medianGreeting(s2.address)) > normal + 95);
    await sandbox.unslow('s2');

    const transfer = () =>
      time(() => assert.equal(ssh(s2, 'head -c 2000000 /dev/zero', { timeout: 60000 }).stdout.length, 2000000));
    const fast = await transfer();
    assert.equal(cli(['slow', 's2', '--rate', '8mbit']).status, 0);
    const limited = await transfer();
    assert.ok(limited > 1500 && limited > 2 * fast, `2 MB in ${fast} ms, at 8 mbit in ${limited} ms`);
    assert.equal(cli(['slow', 's2', '--off']).status, 0);
  });

  test('fill: the disk is full in the server, not here', async () => {
    const free = () => fs.statfsSync(info.stateDir).bavail * fs.statfsSync(info.stateDir).bsize;
    const before = free();
    await sandbox.fill('s2', { leave: '5M' });
    const full = ssh(s2, 'head -c 20000000 /dev/zero > file');
    assert.notEqual(full.status, 0);
    assert.match(full.stderr, /No space left/);
    assert.notEqual(
      (
        await sandbox.execute('s2', [
          'docker',
          'run',
          '--rm',
          'busybox:1',
          'dd',
          'if=/dev/zero',
          'of=/file',
          'bs=1M',
          'count=20',
        ])
      ).code,
      0,
    );
    assert.ok(before - free() < 1e9, 'filling a server’s disk must not fill this machine’s');
    await sandbox.unfill('s2');
    assert.equal(ssh(s2, 'head -c 20000000 /dev/zero > file').status, 0);
  });

  test('registry stop and start', async () => {
    await sandbox.stopRegistry();
    assert.notEqual((await sandbox.execute('s1', ['docker', 'pull', '-q', `${info.registry.open}/app:1`])).code, 0);
    await sandbox.startRegistry();
    await inServer('s1', `docker pull -q ${info.registry.open}/app:1`);
  });

  test('an ACME authority, the DNS that it asks, and packages for a server that wants a certificate', async () => {
    const acme = await sandbox.startAcme({ validitySeconds: 600 });
    await sandbox.offerPackages('s1');
    const record = JSON.stringify({ host: 'shop.test', addresses: ['192.0.2.1'] });
    await fetch(`${acme.dnsControl}/add-a`, { method: 'POST', body: record });
    assert.match(
      await inServer('s1', 'getent hosts shop.test; apt-cache policy certbot'),
      /192\.0\.2\.1 +shop\.test\n[^]*Candidate: \d/,
    );
    fs.writeFileSync(path.join(scratch, 'acme.pem'), acme.ca);
    const ask = () =>
      spawnSync('curl', ['-s', '--cacert', path.join(scratch, 'acme.pem'), acme.directory], { encoding: 'utf8' });
    assert.ok(JSON.parse(ask().stdout).newOrder);
    assert.equal(cli(['acme', 'stop']).status, 0);
    assert.notEqual(ask().status, 0);
    assert.match(cli(['acme', 'start', '--validity', 'long']).stderr, /acme: stop, or start/);
  });

  test('the base images do what their names say', async () => {
    const compose = `services:
  db: {image: postgres:15, environment: {POSTGRES_USER: app, POSTGRES_PASSWORD: pw, POSTGRES_DB: app}, volumes: [db:/var/lib/postgresql/data]}
  cache: {image: redis:7}
  web: {image: nginx:1.30, ports: ["8081:80"]}
volumes: {db: {}}
`;
    await sandbox.execute('s1', ['sh', '-c', 'mkdir -p /srv/app && cat > /srv/app/compose.yaml'], { input: compose });
    await inServer('s1', 'cd /srv/app && docker compose up -d --quiet-pull 2>&1');
    await inServer(
      's1',
      'cd /srv/app && for i in $(seq 100); do docker compose exec -T db pg_isready -q -h 127.0.0.1 -U app && exit; sleep 0.1; done; docker compose logs db; exit 1',
    );
    assert.equal(
      await inServer(
        's1',
        'cd /srv/app && docker compose exec -T -e PGPASSWORD=pw db psql -h db -U app -d app -Atc "select 6*7"',
      ),
      '42',
    );
    assert.match(
      await inServer(
        's1',
        'cd /srv/app && docker compose exec -T db sh -c "pg_dump --version && pg_restore --version"',
      ),
      /pg_dump[\s\S]*pg_restore/,
    );
    assert.equal(await inServer('s1', 'cd /srv/app && docker compose exec -T cache redis-cli ping'), 'PONG');
    assert.match(await (await fetch(`http://${s1.address}:8081`)).text(), /Welcome to nginx/);
    assert.match(await inServer('s1', 'cd /srv/app && docker compose logs web 2>&1'), /GET \/ HTTP/);
    const stopped = await time(() => inServer('s1', 'cd /srv/app && docker compose stop 2>&1'));
    assert.ok(stopped < 6000, `all stop when told to, not when killed after 10 s (${stopped} ms)`);
  });

  test('a second Compose version can be put on a server', async () => {
    const plugins = Object.entries(info.composePlugins);
    assert.ok(plugins.length >= 2, JSON.stringify(info.composePlugins));
    const own = await inServer('s2', 'docker compose version --short');
    const [version, file] = plugins.find(([each]) => !own.startsWith(each));
    const result = await sandbox.execute(
      's2',
      [
        'sh',
        '-c',
        'mkdir -p /usr/local/lib/docker/cli-plugins && cat > /usr/local/lib/docker/cli-plugins/docker-compose && chmod 755 /usr/local/lib/docker/cli-plugins/docker-compose',
      ],
      { input: fs.readFileSync(file) },
    );
    assert.equal(result.code, 0, result.stderr);
    assert.ok((await inServer('s2', 'docker compose version --short')).startsWith(version));
  });

  test('reset: pristine, same address and host keys, quickly', async () => {
    await sandbox.slow('s2', { delay: 20 });
    const ms = await time(() => sandbox.reset(['s1', 's2']));
    assert.ok(ms < 15000, `${ms} ms`);
    assert.equal(
      await inServer(
        's2',
        'docker ps -aq; docker volume ls -q; docker network ls -q --filter type=custom; ls -A /home/deploy/file /srv/app 2>/dev/null || true',
      ),
      '',
    );
    assert.match(await inServer('s2', 'docker images --format "{{.Repository}}:{{.Tag}}"'), /postgres:15/);
    assert.equal(sandbox.status().servers[1].link, 'good');
    assert.equal(ssh(s2, 'hostname').stdout, 's2\n');
    assert.equal(cli(['reset', 's2', '--empty']).status, 0);
    assert.equal(await inServer('s2', 'docker images -q'), '');
  });

  test('reset --bare: what a provider hands over, until the next reset', async () => {
    assert.equal(cli(['reset', 's2', '--bare']).status, 0);
    const bare = sandbox.info().servers[1];
    assert.equal(ssh({ ...bare, user: 'root', keyFile: bare.rootKeyFile }, 'hostname').stdout, 's2\n');
    assert.equal(ssh(s2, 'true').status, 255);
    assert.equal(await inServer('s2', 'command -v docker nft iptables; getent passwd deploy; ls -A /home'), '');
    assert.match(await inServer('s2', 'systemctl is-system-running'), /^running$/);
    await inServer('s2', 'apt-get -qq update && apt-get -qq -y install jq >/dev/null 2>&1 && jq --version');
    await sandbox.reset('s2');
    assert.deepEqual(sandbox.info().servers[1], s2);
    assert.equal(ssh(s2, 'docker info >/dev/null && id -un').stdout, 'deploy\n');
  });

  test('up adds servers, two at once wait for each other, and another sandbox lives beside', async () => {
    const env = { ...process.env, SLIPWAY_SANDBOX: `${process.env.SLIPWAY_SANDBOX}-b` };
    try {
      const other = JSON.parse(cli(['up', '--json'], { env }).stdout);
      assert.notEqual(other.network.cidr, info.network.cidr);
      assert.match(await greet(other.servers[0].address, 22), /^SSH-2/);
      assert.match(await greet(s1.address, 22), /^SSH-2/);
    } finally {
      assert.equal(cli(['down'], { env }).status, 0);
    }
    const [one, two] = await Promise.all([sandbox.up({ servers: 3 }), sandbox.up({ servers: 3 })]);
    assert.deepEqual(one, two);
    assert.equal(one.servers.length, 3);
    assert.deepEqual(one.servers.slice(0, 2), info.servers);
  });

  test('errors say what to do next', () => {
    for (const [args, message] of [
      [['nonsense'], /no command "nonsense"[\s\S]*help/],
      [['exec', 's9', '--', 'true'], /no server "s9"; it has: s1, s2[\s\S]*--servers/],
      [['slow', 's1', '--rate', 'fast'], /"fast" is no rate[\s\S]*1mbit/],
      [['up', '--servers', 'many'], /no usable number/],
      [['build', 'x:1', scratch], /no Dockerfile in/],
    ]) {
      const result = cli(args);
      assert.equal(result.status, 1);
      assert.match(result.stderr, message);
      assert.doesNotMatch(result.stderr, /at .*\.mjs:/, 'no stack traces');
    }
    const stranger = spawnSync(process.execPath, [CLI, 'up'], {
      encoding: 'utf8',
      uid: 65534,
      gid: 65534,
      env: { ...process.env, HOME: '/' },
    });
    if (stranger.error === undefined && !/EACCES|Cannot find module/.test(stranger.stderr))
      assert.match(stranger.stderr, /needs root[\s\S]*sudo/);
  });

  test('down leaves nothing, not even after a crash', async () => {
    const instance = findInstance();
    const pids = cgroupPids(instance.subnet);
    assert.ok(pids.length > 10);
    // as if the keeper of one server had been killed and the record of another lost
    const keeper = Number(fs.readFileSync(path.join(info.stateDir, 'servers/s1/runner.pid'), 'utf8').split(' ')[0]);
    process.kill(keeper, 'SIGKILL');
    fs.rmSync(path.join(info.stateDir, 'servers/s2/runner.pid'));
    fs.rmSync(path.join(info.stateDir, 'servers/s2/init.pid'));
    assert.equal(cli(['down']).status, 0);
    assert.ok(!fs.existsSync(info.stateDir));
    assert.deepEqual(listMounts(info.stateDir), []);
    assert.deepEqual(
      pids.filter((pid) => readStartTime(pid) !== undefined).map((pid) => fs.readFileSync(`/proc/${pid}/stat`, 'utf8')),
      [],
    );
    assert.deepEqual(cgroupPids(instance.subnet), []);
    assert.deepEqual(
      fs.readdirSync('/run/netns').filter((name) => name.startsWith(`slipway-${instance.subnet}-`)),
      [],
    );
    assert.doesNotMatch(
      spawnSync('ip', ['-o', 'link'], { encoding: 'utf8' }).stdout,
      new RegExp(` ${info.network.interface}@`),
    );
    assert.equal(cli(['down']).status, 0, 'and again');
  });
});

/** Living processes in the cgroups of an instance's servers (a dead one waits there for this machine's PID 1 to collect it). */
function cgroupPids(subnet) {
  const pids = [];
  for (const entry of fs.readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const ours = fs.readFileSync(`/proc/${entry}/cgroup`, 'utf8').includes(`/slipway-${subnet}-`);
      if (ours && readStartTime(entry) !== undefined) pids.push(Number(entry));
    } catch {
      // gone meanwhile
    }
  }
  return pids;
}
