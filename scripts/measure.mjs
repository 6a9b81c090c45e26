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
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { actions } from './actions.mjs';

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
      await sandbox.slow([server.name], { delay: DELAY_MS });
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

async function renderReport() {
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
  ['', 'near', 'far', 'far to near', 'round trips waited for'],
  [
    ['`ssh server true`', 'ssh true', 'far: ssh true'],
    ['no-op by hand', 'plain, no-op', 'far: plain, no-op'],
    ['no-op deploy', 'deploy, no-op', 'far: deploy, no-op'],
    ['changed by hand', 'plain, changed', 'far: plain, changed'],
    ['changed, deploy', 'deploy, changed', 'far: deploy, changed'],
  ].map(([title, near, far]) => [title, inSeconds(near), inSeconds(far), ratio(far, near), addedRoundTrips(far, near)]),
)}

${table(
  ['', 'to by hand', 'SSH connections', 'sessions on them', 'peak memory of the runner process'],
  [
    ['no-op deploy', 'deploy, no-op', 'plain, no-op'],
    ['changed, deploy', 'deploy, changed', 'plain, changed'],
  ].map(([title, name, plain]) => [
    title,
    ratio(name, plain),
    String(median(`${name}, connections`)),
    String(median(`${name}, sessions`)),
    `${Math.round(median(`${name}, rss`))} MiB`,
  ]),
)}

Where the time goes (output \`durations\`):

${table(
  ['phase', 'no-op', 'changed', 'no-op, far', 'changed, far'],
  phases.map((phase) => [
    phase,
    ...['deploy, no-op', 'deploy, changed', 'far: deploy, no-op', 'far: deploy, changed'].map((name) =>
      phaseOf(name, phase),
    ),
  ]),
)}
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
  const report = await renderReport();
  await mkdir(dirname(REPORT), { recursive: true });
  await writeFile(REPORT, report);
  console.log(report);
}

await main();
