/**
 * `npm test`: does the set-up, then runs every stage; all of them, also when one fails. The last line is
 * `N passed, N failed`. `npm test -- unit lint` runs only these stages, and what follows another `--` goes to Jest:
 * `npm test -- unit -- plan.test.ts -t removes`.
 */
import { spawn } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join, relative } from 'node:path';
import {
  buildExample,
  capture,
  checkNode,
  checkServerHost,
  example,
  findTestPrograms,
  formatSeconds,
  installPackages,
  node24,
  reportFailure,
  root,
  SetUpError,
} from './set-up.mjs';

/** Servers of the tests' own, on this machine; removed at the end. */
const SANDBOX = 'npm-test';

const module = (...path) => join(root, 'node_modules', ...path);

/** What GitHub runs actions on comes first in PATH, for whatever a test starts. */
const baseEnv = {
  ...process.env,
  PATH: [dirname(node24), process.env.PATH].join(delimiter),
  SLIPWAY_SANDBOX: SANDBOX,
  NO_COLOR: '1',
};
delete baseEnv.FORCE_COLOR;

/**
 * `servers`: needs root and the sandbox. `run` gives how many tests passed, failed and were skipped; a stage without tests
 * of its own (types, lint, dist, docs) counts as one. `beside`: where that one runs too, this one goes on beside it, with what it leaves of
 * the processor; that one mostly waits.
 */
const STAGES = [
  {
    name: 'types',
    beside: 'e2e',
    title: 'types: the TypeScript compiler',
    run: (context) => asOne([[module('typescript/bin/tsc'), '--noEmit']], context),
  },
  {
    name: 'lint',
    beside: 'e2e',
    title: 'lint: eslint and prettier',
    run: (context) =>
      asOne(
        [
          [module('eslint/bin/eslint.js'), '.'],
          [module('prettier/bin/prettier.cjs'), '--check', '--log-level', 'warn', '.'],
        ],
        context,
      ),
  },
  {
    name: 'dist',
    beside: 'e2e',
    title: 'dist: the bundles are those of the sources',
    run: (context) => asOne([[join(root, 'scripts/check-dist.mjs')]], context),
  },
  {
    name: 'docs',
    beside: 'e2e',
    title: "docs: the READMEs' tables are those of action.yml, the dashboards those of their sources",
    run: (context) =>
      asOne(
        [
          [join(root, 'scripts/docs.mjs'), '--check'],
          [join(root, 'infra/monitoring/grafana/render.mjs'), '--check'],
        ],
        context,
      ),
  },
  {
    name: 'unit',
    title: 'unit: pure functions, contracts, architecture',
    run: (context) => jest('unit', context, ['--maxWorkers=100%']),
  },
  {
    name: 'adapter',
    title: 'adapter: SSH, HTTP, registries and the guardian, in this process and beside it',
    run: (context) => jest('adapter', context, ['--maxWorkers=100%']),
  },
  {
    name: 'timing',
    title: 'timing: what is judged by the clock, one after the other',
    run: (context) => jest('timing', context, ['--runInBand']),
  },
  { name: 'example', title: 'example: the application that is deployed', run: testExample },
  { name: 'sandbox', title: 'sandbox: every verb, for real', servers: true, limitMinutes: 10, run: testSandbox },
  {
    name: 'e2e',
    title: 'e2e: the bundles against real servers',
    servers: true,
    limitMinutes: 25,
    // Each worker has a server of its own: see test/e2e/sandbox.ts. They mostly wait.
    run: (context) => jest('e2e', context, [`--maxWorkers=${E2E_WORKERS}`]),
  },
];

const E2E_WORKERS = 4;

/** Process groups under way, to be ended with us. */
const running = new Set();

/** Nothing is begun any more: what was stopped must not be taken for ended, and be followed by the next one. */
let stopped = false;

/** Runs under Node 24, in a process group of its own. @returns its exit code, and everything it printed */
function start(args, { env = {}, cwd = root, limitMinutes = 10, patient = false, onLine } = {}) {
  if (stopped) return new Promise(() => {});
  const [program, ...words] = patient ? ['nice', '-n', '19', node24, ...args] : [node24, ...args];
  const child = spawn(program, words, {
    cwd,
    env: { ...baseEnv, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  });
  running.add(child.pid);
  let output = '';
  let rest = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8');
    stream.on('data', (text) => {
      output += text;
      const lines = (rest + text).split('\n');
      rest = lines.pop();
      for (const line of lines) onLine?.(line);
    });
  }
  let late = '';
  const limit = setTimeout(() => {
    late = `\nThis took more than ${limitMinutes} minutes, and was ended.\n`;
    end(child.pid, 'SIGKILL');
  }, limitMinutes * 60_000);
  return new Promise((resolve) => {
    const done = (code) => {
      clearTimeout(limit);
      running.delete(child.pid);
      resolve({ code, output: output + late });
    };
    child.once('error', (error) => {
      output += error.message;
      done(127);
    });
    child.once('close', (code) => done(code ?? 1));
  });
}

function end(pid, signal) {
  try {
    process.kill(-pid, signal);
  } catch {
    // It has ended already.
  }
}

/** Several programs that count as one test. */
async function asOne(programs, { patient, limitMinutes }) {
  const results = [];
  for (const args of programs) results.push(await start(args, { patient, limitMinutes }));
  const failed = results.filter((result) => result.code !== 0);
  return {
    passed: failed.length === 0 ? 1 : 0,
    failed: failed.length === 0 ? 0 : 1,
    skipped: 0,
    output: failed.map((result) => result.output).join('\n'),
  };
}

/** A line for each file of tests as it ends, everything else only of what fails. */
const showFiles = (line) => {
  if (/^(PASS|FAIL) /.test(line)) process.stdout.write(`  ${line}\n`);
};

async function jest(project, { folder, extra, limitMinutes, programs }, options = []) {
  const file = join(folder, `${project}.json`);
  // Its results are written then: a handle that a test left open must not hold everything up.
  const args = [module('jest/bin/jest.js'), '--selectProjects', project, '--forceExit', '--json', '--outputFile', file];
  const { code, output } = await start([...args, ...options, ...extra], {
    env: {
      ...programs,
      NODE_OPTIONS: '--experimental-vm-modules --disable-warning=ExperimentalWarning',
      PATH: [dirname(node24), programs.PATH].join(delimiter),
    },
    limitMinutes,
    onLine: showFiles,
  });
  let report;
  try {
    report = JSON.parse(await readFile(file, 'utf8'));
  } catch {
    return { passed: 0, failed: 1, skipped: 0, output };
  }
  // A file that could not even be read has no tests, and is a failure all the same.
  const failed = report.numFailedTests + report.numRuntimeErrorTestSuites;
  return {
    passed: report.numPassedTests,
    failed: code !== 0 && failed === 0 ? 1 : failed,
    skipped: report.numPendingTests + report.numTodoTests,
    output: report.testResults.map((suite) => (suite.status === 'failed' ? suite.message : '')).join('\n') || output,
    failures: report.testResults.flatMap(failuresOf),
  };
}

/** @returns one line for each test of a file that failed: where, what, and what its error begins with */
function failuresOf({ name, status, message, assertionResults }) {
  const file = relative(root, name);
  const failed = assertionResults.filter((test) => test.status === 'failed');
  if (failed.length === 0) return status === 'failed' ? [`${file}: ${firstLine(message)}`] : [];
  return failed.map((test) => `${file}: ${test.fullName}: ${firstLine(test.failureMessages.join('\n'))}`);
}

const firstLine = (text) => text.trim().split('\n', 1)[0];

/** Node's own test runner; its counts are comments at the end of the TAP form. */
async function nodeTest(files, { folder, limitMinutes }, options = {}) {
  const tap = join(folder, 'tests.tap');
  await rm(tap, { force: true });
  const reporters = ['spec', 'stdout', 'tap', tap];
  const args = ['--test'];
  for (let at = 0; at < reporters.length; at += 2) {
    args.push(`--test-reporter=${reporters[at]}`, `--test-reporter-destination=${reporters[at + 1]}`);
  }
  const { code, output } = await start([...args, ...files], { limitMinutes, ...options });
  const text = existsSync(tap) ? await readFile(tap, 'utf8') : '';
  const count = (word) => Number(new RegExp(`^# ${word} (\\d+)$`, 'm').exec(text)?.[1] ?? 0);
  const failed = count('fail') + count('cancelled');
  return {
    passed: count('pass'),
    failed: code !== 0 && failed === 0 ? 1 : failed,
    skipped: count('skipped') + count('todo'),
    output,
  };
}

async function testExample(context) {
  const env = { ...context.programs };
  const checked = await capture('npm', ['run', '--silent', 'pretest'], { cwd: example, env: { ...baseEnv, ...env } });
  if (checked.code !== 0) return { passed: 0, failed: 1, skipped: 0, output: checked.output };
  const build = join(example, 'build', 'test');
  const files = readdirSync(build).filter((name) => name.endsWith('.test.js'));
  return await nodeTest(
    files.map((name) => join(build, name)),
    context,
    { cwd: example, env },
  );
}

async function testSandbox(context) {
  const folder = join(root, 'infra', 'sandbox', 'test');
  const files = readdirSync(folder).filter((name) => name.endsWith('.test.mjs'));
  return await nodeTest(
    files.map((name) => join(folder, name)),
    context,
  );
}

/** The server is made while the stages that need none run: the first time this takes a minute or two. */
function startServer() {
  const started = performance.now();
  return start([join(root, 'infra/sandbox/sandbox.mjs'), 'up', '--servers', '1'], { limitMinutes: 15 }).then(
    (result) => ({ ...result, seconds: formatSeconds(started) }),
  );
}

async function removeServers() {
  for (let worker = 1; worker <= E2E_WORKERS; worker++) {
    const instance = worker === 1 ? SANDBOX : `${SANDBOX}${worker}`;
    await capture(existsSync(node24) ? node24 : process.execPath, [join(root, 'infra/sandbox/sandbox.mjs'), 'down'], {
      env: { ...baseEnv, SLIPWAY_SANDBOX: instance },
    });
  }
}

async function runStage(stage, context) {
  if (stage.servers) {
    const { code, output, seconds } = await context.server;
    const first = !context.told;
    context.told = true;
    if (code !== 0) {
      const why = first ? `:\n${output}` : ', see above.';
      return { passed: 0, failed: 1, skipped: 0, output: `The sandbox server could not be made${why}` };
    }
    if (first) process.stdout.write(`  the sandbox server was made meanwhile, in ${seconds}\n`);
  }
  return await stage.run({ ...context, limitMinutes: stage.limitMinutes ?? 10 });
}

function indent(text) {
  return text.trimEnd().replaceAll(/^(?=.)/gm, '    ');
}

function readArguments(args) {
  const dashes = args.indexOf('--');
  const names = dashes < 0 ? args : args.slice(0, dashes);
  const unknown = names.filter((name) => !STAGES.some((stage) => stage.name === name));
  if (unknown.length > 0) {
    throw new SetUpError(
      `There is no stage ${unknown.join(', ')}.`,
      `The stages: ${STAGES.map((stage) => stage.name).join(', ')}. Without a name, all of them run.`,
    );
  }
  return {
    stages: STAGES.filter((stage) => names.length === 0 || names.includes(stage.name)),
    extra: dashes < 0 ? [] : args.slice(dashes + 1),
  };
}

async function main(args) {
  const started = performance.now();
  checkNode();
  const { stages, extra } = readArguments(args);
  const needsServers = stages.some((stage) => stage.servers);
  if (needsServers) checkServerHost('npm test');

  process.stdout.write('Set-up\n');
  await installPackages();
  // Before the server is begun: that one, too, may want apt for itself.
  const programs = stages.some((stage) => ['unit', 'adapter', 'timing', 'example', 'e2e'].includes(stage.name))
    ? await findTestPrograms()
    : { PATH: process.env.PATH };
  if (needsServers) await buildExample();
  process.stdout.write(`  all is there\n`);

  const folder = await mkdtemp(join(tmpdir(), 'slipway-test-'));
  const context = { folder, extra, programs, server: needsServers ? startServer() : undefined, told: false };
  const results = [];
  const stop = async (signal) => {
    stopped = true;
    process.stdout.write(`\nStopped by ${signal}.\n`);
    for (const pid of running) end(pid, 'SIGTERM');
    if (needsServers) await removeServers();
    await rm(folder, { recursive: true, force: true });
    process.exit(signal === 'SIGINT' ? 130 : 143);
  };
  process.once('SIGINT', stop);
  process.once('SIGTERM', stop);
  try {
    const isBeside = (stage) => stages.some(({ name }) => name === stage.beside);
    for (const stage of stages.filter((one) => !isBeside(one))) {
      process.stdout.write(`\n${stage.title}\n`);
      const others = runInTurn(
        stages.filter(({ beside }) => beside === stage.name),
        { ...context, patient: true },
      );
      const ended = [await runTimed(stage, context), ...(await others)];
      // What was stopped has not failed: nothing more is told until `stop` ends this process.
      if (stopped) await new Promise(() => {});
      for (const [index, result] of ended.entries()) {
        if (index > 0) process.stdout.write(`\n${result.title}\n`);
        tell(result);
      }
      results.push(...ended);
    }
    results.sort(
      (a, b) => stages.findIndex(({ name }) => name === a.name) - stages.findIndex(({ name }) => name === b.name),
    );
  } finally {
    if (needsServers) {
      await context.server;
      await removeServers();
    }
    await rm(folder, { recursive: true, force: true });
  }
  return summarize(results, formatSeconds(started));
}

async function runTimed(stage, context) {
  const from = performance.now();
  const result = await runStage(stage, context).catch((error) => ({
    passed: 0,
    failed: 1,
    skipped: 0,
    output: error.stack,
  }));
  return { name: stage.name, title: stage.title, took: formatSeconds(from), ...result };
}

async function runInTurn(stages, context) {
  const results = [];
  for (const stage of stages) results.push(await runTimed(stage, context));
  return results;
}

function tell({ passed, failed, skipped, output, took }) {
  if (failed > 0) process.stdout.write(`${indent(output)}\n`);
  const left = skipped > 0 ? `, ${skipped} skipped` : '';
  process.stdout.write(`  ${failed > 0 ? 'FAILED' : 'ok'}: ${passed} passed, ${failed} failed${left} (${took})\n`);
}

function summarize(results, took) {
  const row = (...cells) =>
    `  ${cells[0].padEnd(10)}${cells
      .slice(1)
      .map((cell) => cell.padStart(10))
      .join('')}\n`;
  process.stdout.write(`\n${row('stage', 'passed', 'failed', 'skipped', 'time')}`);
  for (const { name, passed, failed, skipped, took: time } of results) {
    process.stdout.write(row(name, String(passed), String(failed), String(skipped), time));
  }
  for (const { name, failures = [] } of results) {
    for (const failure of failures) process.stdout.write(`  FAILED ${name} ${failure}\n`);
  }
  const sum = (key) => results.reduce((total, result) => total + result[key], 0);
  process.stdout.write(`${row('in all', '', '', '', took)}\n${sum('passed')} passed, ${sum('failed')} failed\n`);
  return sum('failed') > 0 || sum('passed') === 0 ? 1 : 0;
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  process.exitCode = reportFailure(error);
  process.stdout.write('\n0 passed, 1 failed\n');
}
