/**
 * Deploys v1 and v2 in turn while visitors are there, and counts what they lost:
 *
 * `node_modules/.bin/node scripts/zero-downtime.mjs [--deploys 20] [--replicas 1,3] [--bake 0,3] [--rate 200] [--slow 10]
 * [--quick] [--json]`
 *
 * Half of the `--rate` requests a second go over connections that are kept, half over new ones; besides, `--slow` requests a
 * second take 2 s each, so that some are under way whatever happens. `--quick`: 4 deploys of one replica, without a bake time.
 * Exit code 1: some request failed, or some deploy did; 2: it could not start. Needs root, Linux, built bundles (infra/sandbox).
 * Its server is that of the end-to-end tests, or of the instance that SLIPWAY_SANDBOX names; it is empty afterwards.
 */
import { setPriority } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { ROUTER_SITE } from '../test/e2e/router-site.ts';

const USAGE = `usage: zero-downtime.mjs [--deploys 20] [--replicas 1,3] [--bake 0,3] [--rate 200] [--slow 10] [--quick] [--json]`;

/** What `/slow` of the application takes. */
const SLOW_MS = 2000;
/** Of the load alone, before the deploys: what this machine does to requests by itself. */
const CALM_SECONDS = 5;
/** Longer than the slowest request, so that the last switch is seen to its end. */
const REST_SECONDS = 3;
/** Of the runner: in life it is another machine, and does not compete with the server for its processors. */
const RUNNER_NICENESS = 10;

/** @param {string} image with `${TAG}` */
const compose = (image, replicas) => `services:
  web:
    image: nginx:1.30
    restart: unless-stopped
    ports: ['8080:80']
    volumes: ['./nginx:/etc/nginx/conf.d:ro']
  app:
    image: ${image}
    restart: unless-stopped
    x-slipway: { router: web, port: 3000 }
    deploy: { replicas: ${replicas} }
`;

export class UsageError extends Error {}

/**
 * One row of the table.
 *
 * @param e2e test/e2e/sandbox.ts, started
 * @param {{ deploys: number, replicas: number, bakeSeconds: number, ratePerSecond: number, slowPerSecond: number }} options
 */
export async function measureSwitches(e2e, { deploys, replicas, bakeSeconds, ratePerSecond, slowPerSecond }) {
  const { runLoad } = await import('../test/load/index.ts');
  const server = await e2e.freshServer();
  for (const release of ['v1', 'v2']) await e2e.publishApp(release);
  const checkout = await e2e.projectFiles({
    'compose.yaml': compose(e2e.appImage('${TAG}'), replicas),
    'nginx/site.conf': ROUTER_SITE,
  });
  const deploy = async (release) => {
    const startedMs = performance.now();
    let committedMs = 0;
    const run = await e2e.mustDeploy(
      checkout,
      { project: 'switches', files: 'nginx', variables: `TAG=${release}`, 'bake-time': String(bakeSeconds) },
      {
        onEntry: ({ text }) => {
          if (/^- committed\b/.test(text ?? '')) committedMs = performance.now() - startedMs;
        },
      },
    );
    if (run.outputs.result !== 'deployed' || committedMs === 0) {
      throw new Error(`${release} was not deployed:\n${run.log}`);
    }
    // The action may end before the last clients of the old replicas have gone; the next deploy would wait for that.
    await e2e.onServer('while [ -e /home/deploy/apps/switches/.slipway/journal ]; do sleep 0.1; done');
    return { committedMs, wallMs: run.durationMs, allMs: performance.now() - startedMs };
  };
  // Also the second one: it pulls its image.
  await deploy('v1');
  await deploy('v2');

  const url = `http://${server.address}:8080`;
  const startLoads = () =>
    Promise.all([
      runLoad({ url: `${url}/`, ratePerSecond, keepAliveShare: 0.5, release: { pattern: '^(v\\d)$' } }),
      runLoad({
        url: `${url}/slow`,
        ratePerSecond: slowPerSecond,
        keepAliveShare: 0.5,
        keepAliveConnections: 20,
        idleConnections: 0,
        release: { pattern: '^(v\\d)$' },
      }),
    ]);
  const endLoads = (loads) => Promise.all(loads.map((load) => load.stop()));

  const idle = await startLoads();
  await sleep(CALM_SECONDS * 1000);
  const calm = await endLoads(idle);

  const loads = await startLoads();
  const times = [];
  let problem;
  try {
    await sleep(500);
    // What is started from here on has it, too; the visitors are under way already.
    setPriority(RUNNER_NICENESS);
    for (let count = 0; count < deploys; count++) times.push(await deploy(count % 2 === 0 ? 'v1' : 'v2'));
    await sleep(REST_SECONDS * 1000);
  } catch (error) {
    problem = error;
  }
  setPriority(0);
  const [quick, slow] = await endLoads(loads);
  await e2e.removeCheckouts();
  if (problem !== undefined) throw problem;
  if (quick.releases.length !== 2) throw new Error(`not both releases answered: ${JSON.stringify(quick.releases)}`);
  const median = (name) => times.map((one) => one[name]).toSorted((a, b) => a - b)[Math.floor(times.length / 2)];
  return {
    replicas,
    bakeSeconds,
    deploys,
    requests: quick.requests + slow.requests,
    failed: quick.failed + slow.failed + quick.cutOff + slow.cutOff,
    failures: [...quick.failures, ...slow.failures],
    slowest: quick.slowest,
    longestGapSeconds: quick.longestGapSeconds,
    ...describeLatencies('', quick, slow),
    ...describeLatencies('calm', ...calm),
    committedSeconds: median('committedMs') / 1000,
    wallSeconds: median('wallMs') / 1000,
    allSeconds: median('allMs') / 1000,
    // The measurement itself: planned requests that were not made, and how late those started that were.
    skipped: quick.generator.skipped + slow.generator.skipped,
    lateMs: Math.max(quick.generator.latenessMs.max, slow.generator.latenessMs.max),
  };
}

/** @returns milliseconds: the slowest of the quick ones, and of the slow ones what is beyond their own time. */
function describeLatencies(prefix, quick, slow) {
  const name = (word) => (prefix === '' ? word : `${prefix}${word[0].toUpperCase()}${word.slice(1)}`);
  return {
    [name('maxMs')]: quick.latencyMs?.max ?? 0,
    [name('p99Ms')]: quick.latencyMs?.p99 ?? 0,
    [name('slowBeyondMs')]: Math.max(0, (slow.latencyMs?.max ?? SLOW_MS) - SLOW_MS),
  };
}

/** As Markdown. */
export function renderSwitches(rows) {
  const ms = (value) => `${Math.round(value)} ms`;
  const head = [
    'replicas',
    'bake time',
    'deploys',
    'requests',
    'failed',
    'longest gap',
    'slowest',
    'slowest of 2 s, beyond',
    'slowest without a deploy',
    'live after',
    'action ends after',
    'old replicas gone after',
  ];
  const body = rows.map((row) => [
    row.replicas,
    `${row.bakeSeconds} s`,
    row.deploys,
    row.requests,
    row.failed,
    `${row.longestGapSeconds.toFixed(2)} s`,
    ms(row.maxMs),
    ms(row.slowBeyondMs),
    `${ms(row.calmMaxMs)}, ${ms(row.calmSlowBeyondMs)}`,
    `${row.committedSeconds.toFixed(2)} s`,
    `${row.wallSeconds.toFixed(2)} s`,
    `${row.allSeconds.toFixed(2)} s`,
  ]);
  return [head, head.map(() => '---:'), ...body].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}

function readArguments(args) {
  let values;
  try {
    ({ values } = parseArgs({
      args,
      options: {
        deploys: { type: 'string' },
        replicas: { type: 'string' },
        bake: { type: 'string' },
        rate: { type: 'string', default: '200' },
        slow: { type: 'string', default: '10' },
        quick: { type: 'boolean', default: false },
        json: { type: 'boolean', default: false },
      },
    }));
  } catch (error) {
    throw new UsageError(error.message);
  }
  const number = (name, text, least, most) => {
    const value = Number(text);
    if (text.trim() === '' || !Number.isInteger(value) || value < least || value > most) {
      throw new UsageError(`--${name}: ${JSON.stringify(text)} is not a whole number from ${least} to ${most}`);
    }
    return value;
  };
  const list = (name, text, least, most) => text.split(',').map((part) => number(name, part, least, most));
  const { quick, json } = values;
  return {
    json,
    deploys: number('deploys', values.deploys ?? (quick ? '4' : '20'), 2, 1000),
    replicas: list('replicas', values.replicas ?? (quick ? '1' : '1,3'), 1, 20),
    bakes: list('bake', values.bake ?? (quick ? '0' : '0,3'), 0, 600),
    ratePerSecond: number('rate', values.rate, 1, 2000),
    slowPerSecond: number('slow', values.slow, 1, 200),
  };
}

async function main(args) {
  if (!process.versions.node.startsWith('24.')) {
    throw new UsageError('run it with what actions run on: node_modules/.bin/node scripts/zero-downtime.mjs');
  }
  const { replicas, bakes, json, ...options } = readArguments(args);
  const e2e = await import('../test/e2e/sandbox.ts');
  await e2e.startSandbox();
  const rows = [];
  try {
    for (const count of replicas) {
      for (const bakeSeconds of bakes) {
        process.stderr.write(`${options.deploys} deploys, replicas: ${count}, bake time: ${bakeSeconds} s\n`);
        rows.push(await measureSwitches(e2e, { ...options, replicas: count, bakeSeconds }));
      }
    }
  } finally {
    await e2e.removeCheckouts();
    await e2e.freshServer();
  }
  process.stdout.write(`${json ? JSON.stringify(rows, null, 1) : renderSwitches(rows)}\n`);
  for (const { skipped, lateMs } of rows.filter((row) => row.skipped > 0)) {
    process.stderr.write(
      `not as planned: ${skipped} requests were not made; others started up to ${Math.round(lateMs)} ms late\n`,
    );
  }
  const failures = rows.flatMap((row) => row.failures);
  for (const { kind, connection, status, message, askedSeconds, endedSeconds } of failures.slice(0, 20)) {
    process.stderr.write(
      `failed: ${kind} (${connection}) ${status ?? ''} ${message}, asked at ${askedSeconds.toFixed(2)} s, ended at ${endedSeconds.toFixed(2)} s\n`,
    );
  }
  return rows.some((row) => row.failed > 0) ? 1 : 0;
}

if (import.meta.main) {
  try {
    process.exitCode = await main(process.argv.slice(2));
  } catch (error) {
    process.stderr.write(error instanceof UsageError ? `${error.message}\n${USAGE}\n` : `${error.stack}\n`);
    process.exitCode = error instanceof UsageError ? 2 : 1;
  }
}
