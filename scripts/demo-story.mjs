/**
 * What `npm run demo` shows, once everything is set up: five deploys and a rollback by the real bundles, run as GitHub runs them, to a
 * sandbox server, all but the first while visitors are there. Everything that is told is checked; the exit code is 0 only if all of it
 * came true.
 */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { stripVTControlCharacters } from 'node:util';
import {
  build,
  execute,
  info,
  reset,
  SandboxError,
  setQuiet,
  startRegistry,
  status,
  stopRegistry,
  up,
} from '../infra/sandbox/sandbox.mjs';
import { Job, renderEntry } from '../test/e2e/harness/index.ts';
import { runLoad } from '../test/load/index.ts';
import { renderMarkdown, wrapText } from './markdown-in-terminal.mjs';
import { example, formatSeconds } from './set-up.mjs';

const started = performance.now();
const colours = process.stdout.isTTY === true && !process.env.NO_COLOR;
const style = (code) => (text) => (colours ? `\u001b[${code}m${text}\u001b[0m` : text);
const [bold, dim, red, green, yellow] = ['1', '2', '31', '32', '33'].map(style);
const width = Math.max(60, Math.min(process.stdout.columns ?? 120, 140));
/** In a file nothing needs to fit a width. */
const fit = (text, limit, hang = 0) => (process.stdout.isTTY === true ? wrapText(text, limit, hang) : text.split('\n'));
const say = (text = '') => process.stdout.write(`${text}\n`);
/** A sentence, which must fit the terminal. */
const tell = (text, hang = 0) => say(fit(text, width, hang).join('\n'));
const heading = (text) => say(`\n${bold(`== ${text} ${'='.repeat(Math.max(0, width - text.length - 4))}`)}\n`);

const PROJECT = 'shop';
const PORT = 8080;
const SECRETS = 'POSTGRES_PASSWORD=demo-Pa$$word-1\nREDIS_PASSWORD=demo-redis-1';

/** `sudo` as the user typed it, before every command that needs root. */
const sudo = process.env.SUDO_USER === undefined ? '' : 'sudo ';
const sandbox = `${sudo}SLIPWAY_SANDBOX=demo npm run --silent sandbox --`;
const REMOVE = `${sudo}npm run demo -- --down`;

class StoryError extends Error {}

/** Says it, when it is true. */
function check(claim, ok, found) {
  if (!ok) throw new StoryError(`${claim}: this did not come true.${found === undefined ? '' : ` Found: ${found}`}`);
  tell(`${green('ok')}  ${claim}`, 4);
}

const times = [];
async function measure(what, work) {
  const from = performance.now();
  const result = await work();
  times.push([what, formatSeconds(from)]);
  return result;
}

let job;
let stopped = false;
async function stop(signal) {
  stopped = true;
  process.off('SIGINT', stop);
  process.off('SIGTERM', stop);
  say(`\n\n${yellow('Stopped.')} The demo's server may be there already, half-way through.`);
  say(`Run the demo again, it begins from a clean server; or remove it: ${REMOVE}`);
  await Promise.allSettled([job?.abandon(), load?.stop()]);
  process.exit(signal === 'SIGINT' ? 130 : 143);
}
process.on('SIGINT', stop);
process.on('SIGTERM', stop);

async function makeServer() {
  const before = status();
  const isThere = before.up && before.servers.some((server) => server.name === 's1');
  const sandboxInfo = await measure('server', async () => {
    await up({ servers: 1 });
    if (isThere) await reset('s1');
    return info();
  });
  const [server] = sandboxInfo.servers;
  tell(`A server with sshd, Docker and Compose at ${server.address}${isThere ? ', clean again' : ''}.`);
  return { ...sandboxInfo, server };
}

async function buildImages({ registry }) {
  await measure('images', async () => {
    await build('example:v1', example, { buildArgs: ['RELEASE_ID=v1'] });
    await build('example:v2', example, { buildArgs: ['RELEASE_ID=v2'] });
    await build('example:v3', example, { buildArgs: ['RELEASE_ID=v3', 'TEST_SWITCHES=crash-after=0.01'] });
    await build('example:v4', example, { buildArgs: ['RELEASE_ID=v4'] });
  });
  tell(`Four images of infra/example in the sandbox's registry, ${registry.open}/example:v1 to v4.`);
  say('v3 is broken on purpose: it exits as soon as it listens.');
}

/** The step of a workflow that the demo carries out. */
function inputsOf(version, { server, registry }, key, more) {
  return {
    host: server.address,
    'ssh-key': key,
    'known-hosts': server.knownHosts,
    project: PROJECT,
    files: 'nginx\npublic',
    env: SECRETS,
    variables: `API_IMAGE=${registry.open}/example:${version}`,
    'health-checks': `ssh+http://127.0.0.1:${PORT}/health/ready json.status:ready`,
    ...more,
  };
}

function showStep({ server, registry }) {
  say(`The step that runs, in a workflow's words (action-deploy/dist/index.js):

    - uses: ./action-deploy
      with:
        host: ${server.address}
        ssh-key: \${{ secrets.SSH_KEY }}
        known-hosts: \${{ vars.SSH_KNOWN_HOSTS }}
        project: ${PROJECT}
        files: |                       # what compose.yaml mounts
          nginx
          public
        env: \${{ secrets.APP_ENV }}
        variables: API_IMAGE=${registry.open}/example:v1
        health-checks: |
          ssh+http://127.0.0.1:${PORT}/health/ready json.status:ready
`);
}

/**
 * Runs an action and shows its log as it comes, then its job summary.
 *
 * `fault` ends it half-way (see the harness), and `visitors: false` leaves it alone
 */
async function deploy(version, place, { inputs = {}, ...options } = {}) {
  const key = await readFile(place.server.keyFile, 'utf8');
  const step = { action: 'action-deploy', with: inputsOf(version, place, key, inputs) };
  return act(step, `demo ${version}`, key, place, { title: `deploy ${version}`, ...options });
}

/** @param target as the input `release` takes it */
async function rollBack(target, place, options) {
  const key = await readFile(place.server.keyFile, 'utf8');
  const { address, knownHosts } = place.server;
  const inputs = { host: address, 'ssh-key': key, 'known-hosts': knownHosts, project: PROJECT, release: target };
  return act({ action: 'action-rollback', with: inputs }, 'demo rollback', key, place, options);
}

async function act(step, commit, key, place, { fault = {}, visitors = true, title }) {
  // What the runner prints before the action starts is the step above, over again.
  let announced = false;
  job = await Job.open({
    workspace: example,
    secrets: [key],
    github: { sha: createHash('sha1').update(commit).digest('hex'), repository: 'you/shop', actor: 'you' },
    onEntry: (entry) => {
      if (stopped || entry.kind === 'debug') return;
      if (entry.kind === 'endgroup') announced = true;
      else if (announced) showEntry(entry);
    },
  });
  load = visitors ? await sendVisitors(place) : undefined;
  const run = await measure(title, () => job.step({ ...step, ...fault }));
  const { posts, orphans } = await job.close();
  job = undefined;
  const summaries = [run.summary, ...posts.map((post) => post.summary)].join('\n').trim();
  if (summaries !== '') {
    say(`\n${bold('The job summary of this step')}\n`);
    const summary = renderMarkdown(summaries, { width: width - 4, bold, dim });
    for (const line of summary.split('\n')) showLines('    ', line, width - 4);
  }
  say();
  if (orphans.length > 0) throw new StoryError(`Processes of the action were left: ${JSON.stringify(orphans)}`);
  return run;
}

function showEntry(entry) {
  if (entry.kind === 'line' && entry.text === 'Post job cleanup.') return;
  const paint = { group: bold, warning: yellow, error: red }[entry.kind] ?? ((text) => text);
  for (const line of renderEntry(entry).split('\n')) showLines(`    ${dim('|')} `, line, width - 6, paint);
}

/** Without the action's own colours where there are none. */
function showLines(margin, line, limit, paint = (text) => text) {
  const text = colours ? line : stripVTControlCharacters(line);
  for (const part of fit(text, limit, 4)) say(`${margin}${paint(part)}`);
}

// --- visitors ----------------------------------------------------------------------------------------------------------

const VISITS_PER_SECOND = 200;
const visits = new Map();
let load;

/** Half of them on connections that are kept, half on new ones; none tries again, none waits for another. */
async function sendVisitors({ server }) {
  const visitors = await runLoad({
    url: `http://${server.address}:${PORT}/api/version`,
    ratePerSecond: VISITS_PER_SECOND,
    keepAliveShare: 0.5,
    release: { pattern: '"releaseId":"([^"]+)"' },
  });
  await sleep(500);
  return visitors;
}

/** Who was turned away, and what the others met. */
async function countVisitors(place, what) {
  await sleep(500);
  const report = await load.stop();
  load = undefined;
  // The action may end before the last clients of the old replicas have gone; the next deploy would wait for that.
  await untilSettled(place);
  const kinds = { new: 'new connections', keepAlive: 'kept connections', idle: 'kept, mostly idle' };
  const rows = Object.entries(report.byConnection).map(([kind, account]) => [kinds[kind], account]);
  const ms = (value) => (value === undefined ? '' : `${Math.round(value)} ms`);
  const table = [
    '| visitors on | requests | failed | longest gap | median | slowest |',
    '| --- | --- | --- | --- | --- | --- |',
    ...[...rows, ['all', report]].map(
      ([name, { requests, failed, longestGapSeconds, latencyMs }]) =>
        // What rarely asks has gaps of its own making.
        `| ${name} | ${requests} | ${failed} | ${name === kinds.idle ? '' : `${longestGapSeconds.toFixed(2)} s`} | ${ms(latencyMs?.p50)} | ${ms(latencyMs?.max)} |`,
    ),
  ];
  for (const line of renderMarkdown(table.join('\n'), { width: width - 4, bold, dim }).split('\n')) say(`    ${line}`);
  const served = report.releases.map(({ value, requests }) => `${value} to ${requests}`);
  tell(`    They were answered by ${served.join(', ')}.`, 4);
  say();
  if (report.generator.skipped > 0) {
    throw new StoryError(
      `${report.generator.skipped} visitors could not be sent: this machine is too busy for the demo.`,
    );
  }
  const [failure] = report.failures;
  const found = failure === undefined ? undefined : `${failure.kind} ${failure.status ?? ''} ${failure.message}`;
  check(
    `${report.requests} requests, ${VISITS_PER_SECOND} a second while it deployed: ${report.failed} failed requests`,
    report.failed === 0 && report.cutOff === 0 && report.requests > VISITS_PER_SECOND,
    found,
  );
  check(
    `the longest gap without an answer was ${report.longestGapSeconds.toFixed(2)} s`,
    report.longestGapSeconds < 2,
    `${report.longestGapSeconds} s`,
  );
  visits.set(what, report);
  return report;
}

const sawBoth = ({ releases }, ...names) => names.every((name) => releases.some(({ value }) => value === name));

async function ask({ server }, path, options = {}) {
  const response = await fetch(`http://${server.address}:${PORT}${path}`, {
    ...options,
    signal: AbortSignal.timeout(3000),
  });
  if (!response.ok) throw new StoryError(`${path} answered ${response.status}: ${await response.text()}`);
  return await response.json();
}

const serving = async (place) => (await ask(place, '/api/version')).releaseId;

// --- the story ----------------------------------------------------------------------------------------------------------

/** What of a release is on the server: containers of the API by the release's image, and what a deploy under way leaves. */
async function inspect(place) {
  const script = `cd ~deploy/apps/${PROJECT} || exit
docker ps -a --filter label=com.docker.compose.service=api --format '{{.Image}} {{.State}}'
[ ! -e .slipway/journal ] || echo journal
pgrep -u deploy -f slipway-[0-9a-f] >/dev/null && echo guardian
ls .slipway/releases | wc -l`;
  const { code, stdout, stderr } = await execute(place.server.name, ['sh', '-c', script]);
  if (code !== 0) throw new StoryError(`The server cannot be looked at: ${stderr}`);
  const lines = stdout.trim().split('\n');
  return {
    replicas: lines.slice(0, -1).filter((line) => line.includes('/')),
    isBusy: lines.includes('journal') || lines.includes('guardian'),
    releases: Number(lines.at(-1)),
  };
}

const settled = (look) => !look.isBusy && look.replicas.length === 1 && look.replicas[0].endsWith('running');

/** @returns how it is when nothing is under way any more @throws StoryError after a minute */
async function untilSettled(place) {
  const startedMs = performance.now();
  for (;;) {
    const look = await inspect(place);
    if (settled(look)) return look;
    if (performance.now() - startedMs > 60_000) throw new StoryError(`After a minute still: ${JSON.stringify(look)}`);
    await sleep(50);
  }
}

/** A deploy that bakes for long: the new release serves, and nothing is final yet. */
const BAKING = { 'bake-time': '5m' };

/** Half-way: when it bakes, and visitors have met the new release. */
async function untilItServes(running, place, version) {
  await running.line(/baking for/);
  for (let tries = 0; (await serving(place)) !== version; tries++) {
    if (tries === 100) throw new StoryError(`${version} bakes, and does not serve.`);
    await sleep(50);
  }
  await sleep(1000);
}

async function tellStory() {
  heading('A server and four releases');
  const place = await makeServer();
  setQuiet(true);
  await buildImages(place);
  const address = `http://${place.server.address}:${PORT}/api/version`;

  heading('Deploy v1: the first one');
  showStep(place);
  const first = await deploy('v1', place, { visitors: false });
  check('v1 was deployed', first.outcome === 'success' && first.outputs.result === 'deployed', first.outputs.result);
  check(`${address} says v1`, (await serving(place)) === 'v1');
  const note = { text: 'written while v1 served' };
  await ask(place, '/api/notes', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(note),
  });
  const hasNote = async () => JSON.stringify(await ask(place, '/api/notes')).includes(note.text);
  check('a note is in its database', await hasNote());

  heading('Deploy v2 while visitors are there: nobody notices');
  const second = await deploy('v2', place);
  const switched = await countVisitors(place, 'deploy v2');
  check('v2 was deployed', second.outcome === 'success' && second.outputs.result === 'deployed', second.outputs.result);
  check('visitors were served by v1, then by v2', sawBoth(switched, 'v1', 'v2'), JSON.stringify(switched.releases));
  const changed = second.outputs['changed-services'];
  check('only the service `api` was replaced', changed === '["api"]', changed);
  check('the release before it is known', second.outputs['previous-release'] === first.outputs.release);
  check(`${address} says v2`, (await serving(place)) === 'v2');
  check('the note is still there', await hasNote());

  heading('Deploy v3: it is broken, and no visitor meets it');
  const third = await deploy('v3', place);
  const spared = await countVisitors(place, 'deploy v3');
  check('the step failed, as it should', third.outcome === 'failure', third.outcome);
  check('its result is `reverted`', third.outputs.result === 'reverted', third.outputs.result);
  check('the release that serves is that of v2', third.outputs.release === second.outputs.release);
  check('every visitor was served by v2', spared.releases.length === 1 && sawBoth(spared, 'v2'));
  const [error] = third.annotations.filter((annotation) => annotation.type === 'error');
  const evidence = /What the server says of it:\n([\s\S]*)/.exec(error?.message ?? '')?.[1] ?? '';
  check('the failure tells the last words of the container', evidence.includes('test switch: crash'), evidence);

  heading('Deploy v4: cancelled when it serves already');
  tell('With `bake-time: 5m`: v4 serves, v2 is warm beside it. Then somebody presses "Cancel workflow".\n');
  const fourth = await deploy('v4', place, {
    inputs: BAKING,
    title: 'cancelled',
    fault: { cancelAfter: (running) => untilItServes(running, place, 'v4') },
  });
  const cancelled = await countVisitors(place, 'cancelled');
  check('the step was cancelled', fourth.outcome === 'cancelled', fourth.outcome);
  check('its result is `reverted`', fourth.outputs.result === 'reverted', fourth.outputs.result);
  check('visitors had been served by v4 already', sawBoth(cancelled, 'v2', 'v4'), JSON.stringify(cancelled.releases));
  check(`${address} says v2`, (await serving(place)) === 'v2');
  const afterCancel = await inspect(place);
  check('one replica of the API is there, and no trace of v4', settled(afterCancel), JSON.stringify(afterCancel));

  heading('Deploy v4 again: the runner is lost, and the server goes back alone');
  tell('The same, and while v4 serves, every process of the job is killed. Nobody is left to put anything back.\n');
  let lostMs = 0;
  const fifth = await deploy('v4', place, {
    inputs: BAKING,
    title: 'runner lost',
    fault: {
      loseAfter: async (running) => {
        await untilItServes(running, place, 'v4');
        lostMs = performance.now();
      },
    },
  });
  const look = await untilSettled(place);
  const aloneSeconds = (performance.now() - lostMs) / 1000;
  const orphaned = await countVisitors(place, 'runner lost');
  check('the runner was lost: no result, no clean-up step', fifth.outcome === 'lost', fifth.outcome);
  check(`the server was as before within ${aloneSeconds.toFixed(1)} s, by itself`, aloneSeconds < 60);
  check('visitors had been served by v4 already', sawBoth(orphaned, 'v2', 'v4'), JSON.stringify(orphaned.releases));
  check(`${address} says v2`, (await serving(place)) === 'v2');
  check('its releases are those of v1 and v2', look.releases === 2, String(look.releases));
  check('the note is still there', await hasNote());

  heading('Roll back to v1, with the registry switched off');
  tell('Its images, files and environment are on the server. Only the release is named; nothing is checked out.\n');
  await stopRegistry();
  const sixth = await rollBack(first.outputs.release, place, { title: 'roll back' }).finally(startRegistry);
  const back = await countVisitors(place, 'roll back');
  const { result } = sixth.outputs;
  check('v1 was brought back', sixth.outcome === 'success' && result === 'rolled-back', result);
  check('visitors were served by v2, then by v1', sawBoth(back, 'v1', 'v2'), JSON.stringify(back.releases));
  check(`${address} says v1`, (await serving(place)) === 'v1');
  check('the note is still there', await hasNote());
  return place;
}

function tellEnd({ server }) {
  heading('All of it came true');
  const table = [
    '| | seconds | requests meanwhile | failed | longest gap |',
    '| --- | --- | --- | --- | --- |',
    ...[...times, ['in all', formatSeconds(started)]].map(([what, seconds]) => {
      const seen = visits.get(what);
      const cells =
        seen === undefined ? ['', '', ''] : [seen.requests, seen.failed, `${seen.longestGapSeconds.toFixed(2)} s`];
      return `| ${[what, seconds, ...cells].join(' | ')} |`;
    }),
  ];
  for (const line of renderMarkdown(table.join('\n'), { width: width - 2, bold, dim }).split('\n')) say(`  ${line}`);
  const rows = [
    ['the site, from this machine', `http://${server.address}:${PORT}/`],
    ['which release answers', `curl http://${server.address}:${PORT}/api/version`],
    ['log in to the server', `${sandbox} ssh s1`],
    ['its containers', `${sandbox} ssh s1 'cd apps/${PROJECT} && docker compose ps'`],
    [
      'the releases it keeps',
      `${sandbox} ssh s1 ls -l apps/${PROJECT}/.slipway/releases apps/${PROJECT}/.slipway/current`,
    ],
    ['the log of the API', `${sandbox} ssh s1 'cd apps/${PROJECT} && docker compose logs --tail 20 api'`],
  ];
  say(`\n${bold('Look around')}\n`);
  // A command is not wrapped: it is there to be copied.
  for (const [what, command] of rows) say(`  ${dim(`# ${what}`)}\n  ${command}`);
  say(`\n${bold('Remove everything')}\n`);
  say(`  ${dim('# the demo')}\n  ${REMOVE}`);
  say(`  ${dim('# every sandbox on this machine, and its downloads')}\n  ${sudo}npm run sandbox -- down --all`);
  say('\nRun the demo again, and it begins from a clean server.');
}

try {
  tellEnd(await tellStory());
} catch (error) {
  await Promise.allSettled([job?.abandon(), load?.stop()]);
  if (error instanceof StoryError || error instanceof SandboxError) say(`\n${red('FAILED')}  ${error.message}`);
  else say(`\n${red('FAILED')}  ${error.stack}`);
  say(`\nThe server is left as it is, to look at: ${sandbox} ssh s1\nRemove it: ${REMOVE}`);
  process.exitCode = 1;
}
