/**
 * What `npm run demo` shows, once everything is set up: three deploys by the real bundle, run as GitHub runs it, to a
 * sandbox server. Everything that is told is checked; the exit code is 0 only if all of it came true.
 */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { stripVTControlCharacters } from 'node:util';
import { build, info, reset, SandboxError, setQuiet, status, up } from '../infra/sandbox/sandbox.mjs';
import { Job, renderEntry } from '../test/e2e/harness/index.ts';
import { renderMarkdown } from './markdown-in-terminal.mjs';
import { example, formatSeconds } from './set-up.mjs';

const started = performance.now();
const colours = process.stdout.isTTY === true && !process.env.NO_COLOR;
const style = (code) => (text) => (colours ? `\u001b[${code}m${text}\u001b[0m` : text);
const [bold, dim, red, green, yellow] = ['1', '2', '31', '32', '33'].map(style);
const width = Math.max(60, Math.min(process.stdout.columns ?? 120, 140));
const say = (text = '') => process.stdout.write(`${text}\n`);
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
  say(`${green('ok')}  ${claim}`);
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
  await job?.abandon();
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
  say(`A server with sshd, Docker and Compose at ${server.address}${isThere ? ', clean again' : ''}.`);
  return { ...sandboxInfo, server };
}

/** @returns what the demo's three releases are called in the registry */
async function buildImages({ registry }) {
  await measure('images', async () => {
    await build('example:v1', example, { buildArgs: ['RELEASE_ID=v1'] });
    await build('example:v2', example, { buildArgs: ['RELEASE_ID=v2'] });
    await build('example:v3', example, { buildArgs: ['RELEASE_ID=v3', 'TEST_SWITCHES=crash-after=0.1'] });
  });
  say(`Three images of infra/example in the sandbox's registry: ${registry.open}/example:v1, v2 and v3.`);
  say('v3 is broken on purpose: it exits a moment after it has started.');
}

/** The step of a workflow that the demo carries out. */
function inputsOf(version, { server, registry }, key) {
  return {
    host: server.address,
    'ssh-key': key,
    'known-hosts': server.knownHosts,
    project: PROJECT,
    files: 'nginx\npublic',
    env: SECRETS,
    variables: `API_IMAGE=${registry.open}/example:${version}`,
    'health-checks': `ssh+http://127.0.0.1:${PORT}/health/ready json.status:ready`,
  };
}

function showStep({ server, registry }) {
  say(`The step that runs, in a workflow's words (the bundle is action-deploy/dist/index.js):

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
        health-checks: ssh+http://127.0.0.1:${PORT}/health/ready json.status:ready
`);
}

/** Runs the action and shows its log as it comes, then its job summary. */
async function deploy(version, place) {
  const key = await readFile(place.server.keyFile, 'utf8');
  // What the runner prints before the action starts is the step above, over again.
  let announced = false;
  job = await Job.open({
    workspace: example,
    secrets: [key],
    github: { sha: createHash('sha1').update(`demo ${version}`).digest('hex'), repository: 'you/shop', actor: 'you' },
    onEntry: (entry) => {
      if (stopped || entry.kind === 'debug') return;
      if (entry.kind === 'endgroup') announced = true;
      else if (announced) showEntry(entry);
    },
  });
  const visitor = watchSite(place);
  const run = await measure(`deploy ${version}`, () =>
    job.step({ action: 'action-deploy', with: inputsOf(version, place, key) }),
  );
  const seen = await visitor.end();
  const { posts, orphans } = await job.close();
  job = undefined;
  say(`\n${bold('The job summary of this step')}\n`);
  const summary = renderMarkdown([run.summary, ...posts.map((post) => post.summary)].join('\n'), {
    width: width - 4,
    bold,
    dim,
  });
  for (const line of summary.split('\n')) say(`    ${cut(line, width - 4)}`);
  say();
  if (orphans.length > 0) throw new StoryError(`Processes of the action were left: ${JSON.stringify(orphans)}`);
  return { ...run, seen };
}

function showEntry(entry) {
  if (entry.kind === 'line' && entry.text === 'Post job cleanup.') return;
  const paint = { group: bold, warning: yellow, error: red }[entry.kind] ?? ((text) => text);
  for (const line of renderEntry(entry).split('\n')) say(`    ${dim('|')} ${paint(cut(line, width - 6))}`);
}

/** Without the action's own colours where there are none, and with them whole where a long line is cut. */
function cut(line, limit) {
  const text = stripVTControlCharacters(line);
  // In a file nothing needs to fit a width.
  if (text.length > limit && process.stdout.isTTY) return `${text.slice(0, limit - 3)}...`;
  return colours ? line : text;
}

async function ask({ server }, path, options = {}) {
  const response = await fetch(`http://${server.address}:${PORT}${path}`, {
    ...options,
    signal: AbortSignal.timeout(3000),
  });
  if (!response.ok) throw new StoryError(`${path} answered ${response.status}: ${await response.text()}`);
  return await response.json();
}

const serving = async (place) => (await ask(place, '/api/version')).releaseId;

/** A visitor who asks for the site ten times a second while a deploy goes on. */
function watchSite(place) {
  let on = true;
  let longestGapMs = 0;
  const watch = (async () => {
    let lastAnswer;
    while (on) {
      const release = await serving(place).catch(() => undefined);
      const now = performance.now();
      if (release !== undefined) {
        if (lastAnswer !== undefined) longestGapMs = Math.max(longestGapMs, now - lastAnswer);
        lastAnswer = now;
      }
      await sleep(100);
    }
  })();
  return {
    end: async () => {
      on = false;
      await watch;
      return { longestGapSeconds: longestGapMs / 1000 };
    },
  };
}

const tellGap = ({ longestGapSeconds }) =>
  `The longest time without an answer meanwhile: ${longestGapSeconds.toFixed(1)} s. This version stops the old container before it starts the new one.`;

async function tell() {
  heading('A server and three releases');
  const place = await makeServer();
  setQuiet(true);
  await buildImages(place);

  heading('Deploy v1: the first one');
  showStep(place);
  const first = await deploy('v1', place);
  check('v1 was deployed', first.outcome === 'success' && first.outputs.result === 'deployed', first.outputs.result);
  check(`http://${place.server.address}:${PORT}/api/version says v1`, (await serving(place)) === 'v1');
  const note = { text: 'written while v1 served' };
  await ask(place, '/api/notes', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(note),
  });
  const hasNote = async () => JSON.stringify(await ask(place, '/api/notes')).includes(note.text);
  check('a note is in its database', await hasNote());

  heading('Deploy v2: only what changed is replaced');
  const second = await deploy('v2', place);
  check('v2 was deployed', second.outcome === 'success' && second.outputs.result === 'deployed', second.outputs.result);
  const changed = second.outputs['changed-services'];
  check('only the service `api` was replaced', changed === '["api"]', changed);
  check('the release before it is known', second.outputs['previous-release'] === first.outputs.release);
  check(`http://${place.server.address}:${PORT}/api/version says v2`, (await serving(place)) === 'v2');
  check('the note is still there', await hasNote());
  say(tellGap(second.seen));

  heading('Deploy v3: it is broken, and v2 is put back');
  const third = await deploy('v3', place);
  check('the step failed, as it should', third.outcome === 'failure', third.outcome);
  check('its result is `reverted`', third.outputs.result === 'reverted', third.outputs.result);
  check('the release that serves is that of v2', third.outputs.release === second.outputs.release);
  check(`http://${place.server.address}:${PORT}/api/version says v2`, (await serving(place)) === 'v2');
  check('the note is still there', await hasNote());
  const [error] = third.annotations.filter((annotation) => annotation.type === 'error');
  const evidence = /What the server says of it:\n([\s\S]*)/.exec(error?.message ?? '')?.[1] ?? '';
  check('the failure tells the last words of the container', evidence.includes('test switch: crash'), evidence);
  say(tellGap(third.seen));
  return place;
}

function tellEnd({ server }) {
  heading('All of it came true');
  const column = Math.max(...times.map(([what]) => what.length));
  for (const [what, seconds] of [...times, ['in all', formatSeconds(started)]]) {
    say(`  ${what.padEnd(column)}  ${seconds.padStart(8)}`);
  }
  const rows = [
    ['the site', `http://${server.address}:${PORT}/   (from this machine)`],
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
  for (const [what, command] of rows) say(`  ${what.padEnd(24)}${command}`);
  say(`\n${bold('Remove everything')}\n`);
  say(`  ${'the demo'.padEnd(24)}${REMOVE}`);
  say(`  ${'its downloads, too'.padEnd(24)}${sudo}npm run sandbox -- down --all     (every sandbox on this machine)`);
  say('\nRun the demo again, and it begins from a clean server.');
}

try {
  tellEnd(await tell());
} catch (error) {
  await job?.abandon();
  if (error instanceof StoryError || error instanceof SandboxError) say(`\n${red('FAILED')}  ${error.message}`);
  else say(`\n${red('FAILED')}  ${error.stack}`);
  say(`\nThe server is left as it is, to look at: ${sandbox} ssh s1\nRemove it: ${REMOVE}`);
  process.exitCode = 1;
}
