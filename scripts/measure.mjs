/**
 * Measures what people wait for, and writes it to infra/docs/BENCHMARKS.md: `node_modules/.bin/node scripts/measure.mjs`.
 *
 * Every figure is the median of five rounds, and each round measures everything once: what else the machine does meanwhile
 * falls on all of it alike. So the ratios between the figures say more than the seconds. Needs root and Linux (infra/sandbox),
 * Node 24, and built bundles. Its server is that of the end-to-end tests, or of the instance that SLIPWAY_SANDBOX names.
 */
import { spawn } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { availableParallelism, tmpdir, totalmem } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { actions } from './actions.mjs';
import { measureDumps, renderDumps } from './backup-throughput.mjs';
import { measureSwitches, renderSwitches } from './zero-downtime.mjs';
import { ROUTER_SITE } from '../test/e2e/router-site.ts';

const root = fileURLToPath(new URL('..', import.meta.url));
const REPORT = join(root, 'infra', 'docs', 'BENCHMARKS.md');
const ROUNDS = 5;
/** Each way, so twice this is added to a round trip. */
const DELAY_MS = 50;

/** Name to the values of all rounds. */
const samples = new Map();

function note(name, value) {
  samples.set(name, [...(samples.get(name) ?? []), value]);
}

function median(name) {
  const sorted = (samples.get(name) ?? []).toSorted((a, b) => a - b);
  if (sorted.length !== ROUNDS) throw new Error(`${name} was measured ${sorted.length} times, and not ${ROUNDS}`);
  return sorted[(ROUNDS - 1) / 2];
}

async function timed(name, body) {
  const start = performance.now();
  const result = await body();
  note(name, performance.now() - start);
  return result;
}

// --- starting ------------------------------------------------------------------------------------------------------------

/** @returns milliseconds from the start of the process to its first output, or to the first byte at `port` of the loopback */
async function measureStart(argv, env, { firstByteAt } = {}) {
  const begin = performance.now();
  const child = spawn(process.execPath, argv, { env: { PATH: process.env.PATH, ...env } });
  const ended = new Promise((resolve) => child.once('close', resolve));
  let said = '';
  child.stderr.on('data', (chunk) => (said += chunk));
  try {
    const first =
      firstByteAt?.() ??
      new Promise((resolve) => {
        child.stdout.once('data', () => resolve(performance.now()));
      });
    child.stdout.on('data', (chunk) => (said += chunk));
    const at = await Promise.race([first, ended]);
    if (typeof at !== 'number' || at < begin) throw new Error(`the process ended before that came: ${said}`);
    return at - begin;
  } finally {
    child.kill('SIGKILL');
    await ended;
  }
}

/** A port where nobody answers, but somebody notes when the first byte came: an SSH client's greeting. */
async function listen() {
  let tell = () => {};
  const server = createServer((socket) => {
    socket.on('error', () => {});
    socket.once('data', () => {
      tell(performance.now());
      socket.destroy();
    });
  });
  await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
  return {
    port: server.address().port,
    firstByte: () => new Promise((resolve) => (tell = resolve)),
    close: () => server.close(),
  };
}

/** What the runner would hand to an action, in a folder of its own. */
async function actionEnv(folder, action, inputs, readManifest) {
  const manifest = await readManifest(join(root, action));
  const values = {
    ...Object.fromEntries(manifest.inputs.map(({ name, default: text }) => [name, text ?? ''])),
    ...inputs,
  };
  const files = {};
  for (const name of ['OUTPUT', 'STATE', 'ENV', 'PATH', 'STEP_SUMMARY']) {
    files[`GITHUB_${name}`] = join(folder, name);
    await writeFile(files[`GITHUB_${name}`], '');
  }
  return {
    ...files,
    GITHUB_ACTIONS: 'true',
    GITHUB_WORKSPACE: folder,
    GITHUB_REPOSITORY: 'octocat/hello-world',
    GITHUB_SHA: '1d0c5b0c6a8a1f4ac1f3d6e0b7e94ac2bf58e7d3',
    RUNNER_TEMP: folder,
    ...Object.fromEntries(Object.entries(values).map(([name, value]) => [`INPUT_${name.toUpperCase()}`, value])),
  };
}

async function measureStarts(server, readManifest) {
  const folder = await mkdtemp(join(tmpdir(), 'slipway-measure-'));
  const listener = await listen();
  try {
    await writeFile(join(folder, 'compose.yaml'), 'services:\n  app:\n    image: node:24\n');
    const login = {
      host: '127.0.0.1',
      port: String(listener.port),
      'ssh-key': await readFile(server.keyFile, 'utf8'),
      'known-hosts': server.knownHosts.replaceAll(server.address, `[127.0.0.1]:${listener.port}`),
    };
    const bundle = (action) => [join(root, action, 'dist', 'index.js')];
    const deploy = await actionEnv(folder, 'action-deploy', login, readManifest);
    const check = await actionEnv(
      folder,
      'action-health-check',
      { ...login, checks: 'ssh+tcp://127.0.0.1:22' },
      readManifest,
    );
    const firstByteAt = listener.firstByte;
    const hello = `console.log('hello')`;
    const knock = `require('net').connect(${listener.port}, '127.0.0.1').write('SSH-2.0-hello\\r\\n')`;
    for (let round = 0; round < ROUNDS; round++) {
      note('start: node, output', await measureStart(['-e', hello], {}));
      note('start: health-check, output', await measureStart(bundle('action-health-check'), check));
      note('start: node, byte', await measureStart(['-e', knock], {}, { firstByteAt }));
      note('start: health-check, byte', await measureStart(bundle('action-health-check'), check, { firstByteAt }));
      note('start: deploy, byte', await measureStart(bundle('action-deploy'), deploy, { firstByteAt }));
    }
  } finally {
    listener.close();
    await rm(folder, { recursive: true, force: true });
  }
}

// --- deploying -----------------------------------------------------------------------------------------------------------

const compose = (image, port) => `services:
  app:
    image: ${image}
    ports: ['${port}:3000']
    environment: { SETTING: '\${SETTING}' }
  idle:
    image: busybox:1
    init: true
    command: sleep 3600
`;

/** What one would write instead: OpenSSH's client, and Compose on the server. */
async function plainSsh(server, script) {
  const knownHosts = `${server.keyFile}.known_hosts`;
  await writeFile(knownHosts, server.knownHosts);
  const options = ['-i', server.keyFile, '-o', 'StrictHostKeyChecking=yes', '-o', `UserKnownHostsFile=${knownHosts}`];
  const argv = [
    ...options,
    '-o',
    'LogLevel=ERROR',
    '-p',
    String(server.port),
    `${server.user}@${server.address}`,
    script,
  ];
  const child = spawn('ssh', argv, { stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  child.stderr.on('data', (chunk) => (said += chunk));
  const code = await new Promise((resolve) => child.once('close', resolve));
  if (code !== 0) throw new Error(`ssh ${script}: exit code ${code}\n${said}`);
}

async function measureDeploys(e2e, sandbox) {
  const server = await e2e.freshServer();
  await e2e.publishApp('measured');
  const image = e2e.appImage('measured');
  const checkout = await e2e.projectFiles({ 'compose.yaml': compose(image, 8080) });
  // sshd tells of each session only then.
  await e2e.onServer(
    `printf 'LogLevel VERBOSE\\n' > /etc/ssh/sshd_config.d/measure.conf && systemctl reload ssh && sleep 1`,
  );
  await e2e.asDeploy('mkdir plain && cat > plain/compose.yaml', [], compose(image, 8081));
  const plain = (setting) => `cd plain && SETTING=${setting} docker compose up -d --wait`;
  let setting = 0;
  const deploy = async (name, expected) => {
    const run = await e2e.mustDeploy(checkout, { project: 'measured', variables: `SETTING=${setting}` });
    if (run.outputs.result !== expected) throw new Error(`${name}: ${run.outputs.result} instead of ${expected}`);
    note(name, run.durationMs);
    note(`${name}, rss`, run.peakRssBytes / 1024 ** 2);
    for (const [phase, seconds] of Object.entries(JSON.parse(run.outputs.durations))) {
      note(`${name}, phase ${phase}`, seconds * 1000);
    }
  };
  const countSessions = async (name, body) => {
    // By the program's name: pam_systemd moves sessions out of sshd's unit.
    const count = async (pattern) =>
      Number(
        await e2e.onServer(
          `journalctl --sync; journalctl -t sshd -t sshd-session -o cat --no-pager | grep -c "$1" || true`,
          [pattern],
        ),
      );
    const before = [await count('^Accepted publickey'), await count('^Starting session')];
    await body();
    note(`${name}, connections`, (await count('^Accepted publickey')) - before[0]);
    const sessions = (await count('^Starting session')) - before[1];
    if (sessions < 1) throw new Error('sshd told of no session: its log cannot be read');
    note(`${name}, sessions`, sessions);
  };

  try {
    // The first ones pull the images and make the networks.
    await e2e.mustDeploy(checkout, { project: 'measured', variables: 'SETTING=0' });
    await plainSsh(server, plain(0));
    for (let round = 0; round < ROUNDS; round++) {
      console.log(`round ${round + 1} of ${ROUNDS}`);
      await timed('ssh true', () => plainSsh(server, 'true'));
      await timed('plain, no-op', () => plainSsh(server, plain(setting)));
      await countSessions('deploy, no-op', () => deploy('deploy, no-op', 'unchanged'));
      setting++;
      await timed('plain, changed', () => plainSsh(server, plain(setting)));
      await countSessions('deploy, changed', () => deploy('deploy, changed', 'deployed'));
      await sandbox.slow([server.name], { delay: DELAY_MS, from: sandbox.info().network.host });
      try {
        await timed('far: ssh true', () => plainSsh(server, 'true'));
        await timed('far: plain, no-op', () => plainSsh(server, plain(setting)));
        await deploy('far: deploy, no-op', 'unchanged');
        setting++;
        await timed('far: plain, changed', () => plainSsh(server, plain(setting)));
        await deploy('far: deploy, changed', 'deployed');
      } finally {
        await sandbox.unslow([server.name]);
      }
    }
  } finally {
    await e2e.removeCheckouts();
    await e2e.freshServer();
  }
}

// --- a service that needs 2 s to become ready ------------------------------------------------------------------------------

const READY_AFTER_MS = 2000;
const INTERVALS = ['1s', '30s'];
const LATE = `const fs = require('fs');
fs.rmSync('/tmp/healthy', { force: true });
process.on('SIGTERM', () => process.exit(0));
setTimeout(() => {
  require('http').createServer((request, response) => response.end(String(process.env.SETTING))).listen(3000, () => {
    fs.writeFileSync('/tmp/healthy', '');
  });
}, ${READY_AFTER_MS});`;

const app = (image, interval) => `  app:
    image: ${image}
    restart: unless-stopped
    environment: { SETTING: '\${SETTING}' }
    healthcheck:
      test: [CMD-SHELL, 'test -e /tmp/healthy']
      interval: ${interval}
      timeout: 5s
      retries: 3
`;

/** Behind a router, so that old and new are there at once. */
const routed = (image, interval, port) => `services:
  web:
    image: nginx:1.30
    restart: unless-stopped
    ports: ['${port}:80']
    volumes: ['./nginx:/etc/nginx/conf.d:ro']
    healthcheck: { test: [CMD, 'true'], interval: 1s }
${app(image, interval)}    x-slipway: { router: web, port: 3000 }
`;

async function publishLate(e2e) {
  await e2e.publishImage('node:24', 'late:1', { Entrypoint: ['node', '-e', LATE], Cmd: null });
  return e2e.appImage('1').replace(/app:1$/, 'late:1');
}

/** The action may end before the last clients of the old replicas have gone; the next deploy would wait for that. */
const awaitSettled = (e2e, project) =>
  e2e.onServer(`while [ -e /home/deploy/apps/${project}/.slipway/journal ]; do sleep 0.02; done; date +%s%3N`);

/** From the start of a deploy to its commit, and what it returned in the end. */
async function watchCommit(e2e, project, deploy) {
  const startedMs = performance.now();
  let committedMs = 0;
  const run = await deploy({
    onEntry: ({ text }) => {
      if (/^- committed\b/.test(text ?? '')) committedMs = performance.now() - startedMs;
    },
  });
  if (committedMs === 0) throw new Error(`nothing was committed:\n${run.log}`);
  await awaitSettled(e2e, project);
  return { committedMs, run };
}

async function measureReadiness(e2e, runLoad) {
  const server = await e2e.freshServer();
  const image = await publishLate(e2e);
  const projects = [];
  for (const [index, interval] of INTERVALS.entries()) {
    const port = 8080 + index;
    const checkout = await e2e.projectFiles({
      'compose.yaml': routed(image, interval, port),
      'nginx/site.conf': ROUTER_SITE,
    });
    const inputs = (setting) => ({
      project: `ready${interval}`,
      files: 'nginx',
      variables: `SETTING=${setting}`,
    });
    await e2e.asDeploy(
      `mkdir plain${interval} && cat > plain${interval}/compose.yaml`,
      [],
      `services:\n${app(image, interval)}`,
    );
    await e2e.mustDeploy(checkout, inputs(0));
    projects.push({ interval, port, deploy: (setting, options) => e2e.mustDeploy(checkout, inputs(setting), options) });
  }
  const plain = (interval, setting) => `cd plain${interval} && SETTING=${setting} docker compose up -d --wait`;
  for (const interval of INTERVALS) await plainSsh(server, plain(interval, 0));
  for (let round = 1; round <= ROUNDS; round++) {
    console.log(`ready after ${READY_AFTER_MS / 1000} s: round ${round} of ${ROUNDS}`);
    for (const { interval, port, deploy } of projects) {
      await timed(`ready, ${interval}, by hand`, () => plainSsh(server, plain(interval, round)));
      const calm = await watchCommit(e2e, `ready${interval}`, (options) => deploy(`calm${round}`, options));
      note(`ready, ${interval}, committed`, calm.committedMs);
      note(`ready, ${interval}, all`, calm.run.durationMs);
      const load = await runLoad({ url: `http://${server.address}:${port}/`, ratePerSecond: 200 });
      const busy = await watchCommit(e2e, `ready${interval}`, (options) => deploy(`busy${round}`, options));
      const report = await load.stop();
      note(`ready, ${interval}, under load, committed`, busy.committedMs);
      note(`ready, ${interval}, under load, all`, busy.run.durationMs);
      note(`ready, ${interval}, under load, failed`, report.failed + report.cutOff);
      note(`ready, ${interval}, under load, gap`, report.longestGapSeconds * 1000);
    }
  }
}

// --- going back ----------------------------------------------------------------------------------------------------------

/** The shortest there is, to see how much is added to it. */
const LEASE_SECONDS = 10;

async function measureWaysBack(e2e, runLoad) {
  const server = await e2e.freshServer();
  for (const release of ['v1', 'v2']) await e2e.publishApp(release);
  const checkout = await e2e.projectFiles({
    'compose.yaml': routed(e2e.appImage('${TAG}'), '1s', 8080),
    'nginx/site.conf': ROUTER_SITE,
  });
  const inputs = { project: 'back', files: 'nginx', lease: String(LEASE_SECONDS) };
  const forth = { ...inputs, variables: 'SETTING=0\nTAG=v2' };
  await e2e.mustDeploy(checkout, { ...inputs, variables: 'SETTING=0\nTAG=v1' });
  const serves = async (release) => (await e2e.get(8080)) === release;
  // The servers are on this machine, and so is their clock.
  const awaitUndone = () => awaitSettled(e2e, 'back').then(Number);
  const untilItServes = async (running) => {
    await running.line(/baking for/);
    while (!(await serves('v2'))) await sleep(20);
    await sleep(200);
  };
  const mustServeOld = async () => {
    if (!(await serves('v1'))) throw new Error('v1 does not serve again');
  };
  const folder = await mkdtemp(join(tmpdir(), 'slipway-measure-'));
  try {
    for (let round = 1; round <= ROUNDS; round++) {
      console.log(`ways back: round ${round} of ${ROUNDS}`);
      // A test that fails while the new release serves, and visitors are there.
      const failedAt = join(folder, `failed-${round}`);
      const load = await runLoad({
        url: `http://${server.address}:8080/`,
        ratePerSecond: 200,
        release: { pattern: '^(v\\d)$' },
      });
      const run = await e2e.deploy(checkout, {
        ...forth,
        'bake-time': '60',
        'e2e-command': `runner: sleep 1; date +%s%3N > ${failedAt}; exit 1`,
      });
      const report = await load.stop();
      if (run.outputs.result !== 'reverted') throw new Error(`not reverted:\n${run.log}`);
      const failedMs = Number(await readFile(failedAt, 'utf8'));
      const served = report.releases.find(({ value }) => value === 'v2');
      if (served === undefined) throw new Error('v2 never served: there was nothing to go back from');
      note('back: test failed, old alone', report.startedAtMs + served.lastAskedSeconds * 1000 - failedMs);
      note('back: test failed, end', run.startedAt.getTime() + run.durationMs - failedMs);
      note('back: test failed, lost', report.failed + report.cutOff);
      await mustServeOld();

      let struckMs = 0;
      let undone;
      const strike = (action) => async (running) => {
        await untilItServes(running);
        undone = awaitUndone();
        undone.catch(() => {});
        await sleep(200);
        await action();
        struckMs = Date.now();
      };
      // Every process of the job is killed.
      await e2e.deploy(checkout, { ...forth, 'bake-time': '60' }, { loseAfter: strike(async () => {}) });
      note('back: runner killed', (await undone) - struckMs);
      await mustServeOld();
      // The network is gone first: nothing tells the server of the runner's end.
      try {
        await e2e.deploy(checkout, { ...forth, 'bake-time': '60' }, { loseAfter: strike(() => e2e.cutLink()) });
        note('back: link cut', (await undone) - struckMs);
      } finally {
        await e2e.joinLink();
      }
      await mustServeOld();
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

// --- reporting -----------------------------------------------------------------------------------------------------------

const table = (head, rows) =>
  [head, head.map((_, column) => (column === 0 ? '---' : '---:')), ...rows]
    .map((row) => `| ${row.join(' | ')} |`)
    .join('\n');
const inMs = (name) => `${Math.round(median(name))} ms`;
const inSeconds = (name) => `${(median(name) / 1000).toFixed(2)} s`;
const ratio = (name, to) => `${(median(name) / median(to)).toFixed(1)}`;
const kib = (bytes) => `${Math.round(bytes / 1024)} KiB`;

/** Round trips' worth of waiting that 100 ms of delay added. */
const addedRoundTrips = (far, near) => ((median(far) - median(near)) / (2 * DELAY_MS)).toFixed(0);

/** The same without those until the connection stands: TCP, keys, authentication. */
const afterLogin = (name) => median(`${name}, phase total`) - median(`${name}, phase connect`);
const turnsAfterLogin = (far, near) => ((afterLogin(far) - afterLogin(near)) / (2 * DELAY_MS)).toFixed(1);

/**
 * Others, under the same load: measured on another machine with 2 cores (Debian 12, November 2026), so only the orders of
 * magnitude can be compared with ours.
 */
const OTHERS = [
  ['`compose pull && up -d` over ssh', '3.29 s', '340', '2.65 s'],
  ['the usual script: up, `sleep 10`, curl', '11.45 s', '344', '2.67 s'],
  ['docker-rollout 0.13 + nginx (Docker DNS)', '3.78 s', '0', '0.93 s'],
  ['docker-rollout + HAProxy + drain hook', '6.65 s', '0 to 16', '0.02 to 0.88 s'],
  ['docker-rollout + nginx-proxy', '3.56 s', '179', '0.02 s'],
  ['kamal 2.12', '5.48 s', '0', '0.02 s'],
  ['Docker Swarm, start-first', '4.18 s', '0', '0.02 s'],
];

async function renderReport(switches, dumps) {
  const bundles = await Promise.all(
    actions.map(async (action) => {
      const text = await readFile(join(root, action, 'dist', 'index.js'));
      return [`\`${action}\``, kib(text.length), kib(gzipSync(text).length)];
    }),
  );
  const phases = [...samples.keys()]
    .filter((name) => name.startsWith('deploy, changed, phase ') && samples.get(name).length === ROUNDS)
    .map((name) => name.slice('deploy, changed, phase '.length))
    .filter((phase) => phase !== 'total');
  const phaseOf = (name, phase) =>
    samples.get(`${name}, phase ${phase}`)?.length === ROUNDS ? inMs(`${name}, phase ${phase}`) : '';
  const start = (what, kind) => [what, inMs(kind), ratio(kind, kind.replace(/: .*,/, ': node,'))];
  return `# Benchmarks

Written by \`node_modules/.bin/node scripts/measure.mjs\` (root, Linux, built bundles); do not edit by hand. Medians of ${ROUNDS}
rounds, all in one run, on a machine with ${availableParallelism()} cores and ${Math.round(totalmem() / 1024 ** 3)} GiB of memory that was runner and server at once
(the sandbox of \`infra/sandbox\`). Other work may have run beside: compare ratios, not seconds.

## Bundles

Nothing is downloaded at run time: this is all that a runner fetches and starts.

${table(['action', 'dist/index.js', 'compressed (gzip)'], bundles)}

## Start

From the start of the process. The baseline is Node ${process.versions.node.split('.')[0]} itself with one line of code.

${table(
  ['', 'time', 'of the baseline'],
  [
    start('Node alone, first output', 'start: node, output'),
    start('`action-health-check`, first output', 'start: health-check, output'),
    start('Node alone, first byte at a TCP port', 'start: node, byte'),
    start('`action-health-check`, first byte at the SSH port', 'start: health-check, byte'),
    start('`action-deploy`, first byte at the SSH port', 'start: deploy, byte'),
  ],
)}

## Deploys

Two services, of which one is changed (its environment), whose new container is healthy within about a second; images are
on the server. "By hand" is \`ssh server 'docker compose up -d --wait'\`: no lock, no plan, no release to go back to, no undo.
"Far" is the same with ${2 * DELAY_MS} ms more for each round trip between runner and server.

${table(
  ['', 'near', 'far', 'far to near', 'more, in seconds', 'round trips waited for'],
  [
    ['`ssh server true`', 'ssh true', 'far: ssh true'],
    ['no-op by hand', 'plain, no-op', 'far: plain, no-op'],
    ['no-op deploy', 'deploy, no-op', 'far: deploy, no-op'],
    ['changed by hand', 'plain, changed', 'far: plain, changed'],
    ['changed, deploy', 'deploy, changed', 'far: deploy, changed'],
  ].map(([title, near, far]) => [
    title,
    inSeconds(near),
    inSeconds(far),
    ratio(far, near),
    `${((median(far) - median(near)) / 1000).toFixed(2)} s`,
    addedRoundTrips(far, near),
  ]),
)}

${table(
  [
    '',
    'to by hand',
    'round trips after the login',
    'SSH connections',
    'sessions on them',
    'peak memory of the runner process',
  ],
  [
    ['no-op deploy', 'deploy, no-op', 'plain, no-op'],
    ['changed, deploy', 'deploy, changed', 'plain, changed'],
  ].map(([title, name, plain]) => [
    title,
    ratio(name, plain),
    turnsAfterLogin(`far: ${name}`, name),
    String(median(`${name}, connections`)),
    String(median(`${name}, sessions`)),
    `${Math.round(median(`${name}, rss`))} MiB`,
  ]),
)}

Where the time goes (output \`durations\`):

${table(
  ['phase', 'no-op', 'changed', 'no-op, far', 'changed, far', 'round trips, no-op', 'changed'],
  phases.map((phase) => [
    phase,
    ...['deploy, no-op', 'deploy, changed', 'far: deploy, no-op', 'far: deploy, changed'].map((name) =>
      phaseOf(name, phase),
    ),
    ...['deploy, no-op', 'deploy, changed'].map((name) =>
      phaseOf(name, phase) === ''
        ? ''
        : ((median(`far: ${name}, phase ${phase}`) - median(`${name}, phase ${phase}`)) / (2 * DELAY_MS)).toFixed(1),
    ),
  ]),
)}

## A service that needs ${READY_AFTER_MS / 1000} s to become ready

One replica behind the router. Docker tests its health only every \`interval\`; Slipway runs the same command itself, so that
the interval makes no difference. "By hand" is \`docker compose up -d --wait\`, with an outage. "Live": the new release serves,
and is final. "Action ends": under load, idle keep-alive connections are given their \`keepalive_min_timeout\` (10 s) before the
old replica is stopped; the action waits for that for a while, and then leaves it to the server.

${table(
  ['', 'by hand', 'live', 'action ends', 'under load: live', 'action ends', 'failed requests', 'longest gap'],
  INTERVALS.map((interval) => [
    `\`interval: ${interval}\``,
    inSeconds(`ready, ${interval}, by hand`),
    inSeconds(`ready, ${interval}, committed`),
    inSeconds(`ready, ${interval}, all`),
    inSeconds(`ready, ${interval}, under load, committed`),
    inSeconds(`ready, ${interval}, under load, all`),
    // Of all rounds, and not a median: a lost request is a lost request.
    String(samples.get(`ready, ${interval}, under load, failed`).reduce((sum, one) => sum + one, 0)),
    inSeconds(`ready, ${interval}, under load, gap`),
  ]),
)}

Others with such a service, under the same load (200 requests a second, half on kept and half on new connections). **Measured
on another machine** with 2 cores: compare the failed requests and the gaps, and the seconds only roughly.

${table(['', 'wall time', 'failed requests', 'longest gap'], OTHERS)}

## Zero downtime

v1 and v2 in turn, at 200 requests a second, half of them on kept connections; besides, 10 requests a second that take 2 s each.
\`node_modules/.bin/node scripts/zero-downtime.mjs\` does it with more deploys, and with a bake time. The server shares its
processors with the visitors here; the runner, another machine in life, yields to both.

${renderSwitches(switches)}

## The way back

The new release serves, the old one is warm beside it. From the moment of the failure:

${table(
  ['', 'time'],
  [
    ['a failing `e2e-command`, until the old release serves alone', inMs('back: test failed, old alone')],
    ['the same, until the action has ended', inMs('back: test failed, end')],
    ['every process of the job killed, until the server is as before, by itself', inMs('back: runner killed')],
    [`the network cut, with a \`lease\` of ${LEASE_SECONDS} s, until the same`, inSeconds('back: link cut')],
  ],
)}

Failed requests in the first, at 200 a second, all rounds together: ${samples.get('back: test failed, lost').reduce((sum, one) => sum + one, 0)}.

${renderDumps(dumps)}
`;
}

async function main() {
  if (!process.versions.node.startsWith('24.')) {
    throw new Error('run it with what actions run on: node_modules/.bin/node scripts/measure.mjs');
  }
  const e2e = await import('../test/e2e/sandbox.ts');
  const { readManifest } = await import('../test/e2e/harness/index.ts');
  const sandbox = await import('../infra/sandbox/sandbox.mjs');
  await e2e.startSandbox();
  await measureStarts(e2e.theServer(), readManifest);
  await measureDeploys(e2e, sandbox);
  const { runLoad } = await import('../test/load/index.ts');
  const switches = [];
  try {
    await measureReadiness(e2e, runLoad);
    await measureWaysBack(e2e, runLoad);
    for (const replicas of [1, 3]) {
      console.log(`zero downtime, replicas: ${replicas}`);
      const options = { deploys: 6, bakeSeconds: 0, ratePerSecond: 200, slowPerSecond: 10 };
      switches.push(await measureSwitches(e2e, { ...options, replicas }));
    }
  } finally {
    await e2e.removeCheckouts();
    await e2e.freshServer();
  }
  const dumps = await measureDumps(e2e, { megabytes: 2048, rounds: 3, image: 'postgres:15' });
  await e2e.freshServer();
  const report = await renderReport(switches, dumps);
  await mkdir(dirname(REPORT), { recursive: true });
  await writeFile(REPORT, report);
  console.log(report);
}

await main();
