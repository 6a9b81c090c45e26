/** One cell of the matrix: a deploy during which something dies at a moment, what serves then, and the next deploy. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { request } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Checkout, cutLink, joinLink, theServer } from '../sandbox.ts';
import { type ActionRun } from '../harness/index.ts';
import { expectedAfter, type Point } from './points.ts';
import { LEASE_SECONDS, runDeploy, runRollback, TAGS, type Task, type Variant, waitForWhole } from './project.ts';
import {
  arm,
  disarm,
  isSettled,
  killGuardian,
  pathOn,
  pullPlug,
  readCurrent,
  readTraces,
  reboot,
  release,
  restartDocker,
  takeDoubled,
  type Traces,
  waitForHit,
} from './server.ts';

export const KILLS = {
  runner: 'the runner is killed, and its machine is gone',
  cancel: 'the workflow is cancelled: SIGINT, 7.5 s, SIGTERM, 2.5 s, SIGKILL',
  cut: 'the network goes away without a word, and comes back when the server has settled',
  guardian: "the guardian's main loop is killed",
  'guardian-all': 'every process of the guardian is killed, and the runner is gone',
  dockerd: 'dockerd is restarted',
  reboot: 'the server is rebooted, and the runner is gone',
  poweroff: "the server's plug is pulled and put back, and the runner is gone",
} as const;
export type Kill = keyof typeof KILLS;

export interface Cell {
  readonly task: Task;
  readonly variant: Variant;
  readonly point: Point;
  readonly kill: Kill;
  /** Anything that may be one way or the other hangs on it; from 0 to 1. */
  readonly chance: number;
}

export interface CellResult {
  readonly cell: Cell;
  /** Empty: all was as it should be. */
  readonly problems: readonly string[];
  /** What is known to be so, and worth counting. */
  readonly remarks: readonly string[];
  /** The server is in order afterwards: the next cell can use it. */
  readonly inOrder: boolean;
  readonly seconds: number;
  /** Logs of the deploys, where something was wrong. */
  readonly log: string;
}

export const describeCell = ({ task, variant, point, kill }: Cell): string =>
  `${task === 'deploy' ? '' : `${task} | `}${variant} | ${point.phase} ${point.at} | ${point.when} ${point.label} | ${kill}`;

/** What all cells on one server share. */
export interface Bench {
  readonly checkout: Checkout;
  readonly variant: Variant;
  readonly action: string;
  /** The release that serves. */
  tag: string;
  /** As the server looks when all is well. */
  traces: Traces;
}

const tagAfter = (tag: string): string => TAGS[(TAGS.indexOf(tag as (typeof TAGS)[number]) + 1) % TAGS.length] ?? '';

/** After a boot the containers start, and the router finds them again. */
const BOOT_SECONDS = 30;

/** More than the lease and the way back need. */
const SETTLE_SECONDS = LEASE_SECONDS + 45;

/** The runner lives on when this is killed, unless the cell's chance says otherwise. */
const RUNNER_GONE: readonly Kill[] = ['runner', 'guardian-all', 'reboot', 'poweroff'];
/** These hit whoever is connected. */
const OF_THE_RUNNER: readonly Kill[] = ['runner', 'cancel', 'cut'];
/** The action does not stand by while the server removes what is left of the old release. */
const isServerAlone = ({ phase, when }: Point): boolean =>
  phase === 'finish' || (phase === 'commit' && when === 'later');

/** Whether whoever is to be killed is still there at that point. */
export function isPossible({ point, kill }: Pick<Cell, 'point' | 'kill'>): boolean {
  return !isServerAlone(point) || !OF_THE_RUNNER.includes(kill);
}

/** Nobody of the session is left to put anything right. */
const NOBODY_LEFT: readonly Kill[] = ['guardian-all', 'reboot', 'poweroff'];
/** What was started with the old replicas warm must never fail a visitor, where the containers themselves live on. */
const NEVER_AWAY: readonly Kill[] = ['runner', 'cancel', 'guardian', 'guardian-all'];

export async function runCell(cell: Cell, bench: Bench): Promise<CellResult> {
  const { task, point, kill, variant, chance } = cell;
  const startedMs = performance.now();
  const problems: string[] = [];
  const remarks: string[] = [];
  const old = bench.tag;
  const kept = await findKept();
  const attempt = task === 'deploy' ? tagAfter(old) : readImageTag(kept);
  const next = tagAfter(task === 'deploy' ? attempt : old);
  const common = { checkout: bench.checkout, variant, action: bench.action };

  await arm({ at: point.at, when: point.when, delaySeconds: 0.03 + Math.round(chance * 150) / 1000 });
  const over = new AbortController();
  const runnerGone = !isServerAlone(point) && (RUNNER_GONE.includes(kill) || (kill === 'guardian' && chance < 0.5));
  const visitors = NEVER_AWAY.includes(kill) ? beginVisits() : undefined;
  const struck = Promise.withResolvers<boolean>();
  const strike = async (): Promise<void> => {
    if (!(await waitForHit(over.signal))) {
      struck.resolve(false);
      return;
    }
    try {
      const runner = runnerGone && kill !== 'runner' ? findRunner(bench.checkout.folder) : undefined;
      if (point.when === 'later') {
        await release();
        await sleep(200 + chance * 500);
      }
      // It must not say a last word to the server before that one dies.
      if (runner !== undefined) process.kill(runner, 'SIGSTOP');
      await die(kill);
      struck.resolve(true);
    } catch (error) {
      struck.reject(error instanceof Error ? error : new Error(String(error)));
    }
  };
  // The harness' own trigger ends it the way the runner would: told apart by what the kill is.
  const trigger = async (): Promise<void> => {
    await strike();
    await struck.promise.catch(() => undefined);
  };
  const ending = runnerGone ? { loseAfter: trigger } : kill === 'cancel' ? { cancelAfter: trigger } : {};
  const running = (
    task === 'deploy'
      ? runDeploy({ ...common, tag: attempt }, inputsFor(point), ending)
      : runRollback(bench.checkout, kept, inputsFor(point), ending)
  ).finally(async () => {
    if (isServerAlone(point)) await Promise.race([struck.promise, sleep(30_000)]);
    over.abort();
  });
  running.catch(() => undefined);
  if (!runnerGone && kill !== 'cancel') void strike();

  let run: ActionRun | undefined;
  let nextRun: ActionRun | undefined;
  let inOrder = false;
  try {
    const hit = await Promise.race([struck.promise, running.then(() => struck.promise)]);
    if (!hit) {
      run = await running;
      throw new Error(`this point was never reached; the deploy ended with ${run.outcome}`);
    }
    if (['runner', 'cancel'].includes(kill)) {
      // Long enough to hear of it while the command still hangs; not so long that a lease runs out.
      await sleep(300);
      await release();
    }
    if (kill === 'cut') {
      await waitForSettled(SETTLE_SECONDS, problems);
      const runner = findRunner(bench.checkout.folder);
      if (runner !== undefined) process.kill(runner, 'SIGSTOP');
      await joinLink();
      await judgeServing(cell, old, attempt, problems, remarks);
      if (runner !== undefined) process.kill(runner, 'SIGCONT');
      run = await running;
    } else if (kill === 'cancel' || kill === 'dockerd' || (kill === 'guardian' && !runnerGone)) {
      run = await running;
      await waitForSettled(SETTLE_SECONDS, problems);
      await judgeServing(cell, old, attempt, problems, remarks);
    } else {
      run = await running;
      if (!NOBODY_LEFT.includes(kill)) await waitForSettled(SETTLE_SECONDS, problems);
      await judgeServing(cell, old, attempt, problems, remarks);
    }
    await judgeClaim(run, kill, attempt, problems);
    if (visitors !== undefined) {
      const failed = await visitors.stop();
      if (failed.length > 0)
        problems.push(`visitors of the routed service: ${failed.length} failed, first: ${failed[0] ?? ''}`);
    }
    await disarm();
    nextRun = await runDeploy({ ...common, tag: next });
    if (nextRun.outcome !== 'success') problems.push(`the next deploy ended with ${nextRun.outcome}`);
    else {
      const found = await waitForWhole(variant, 3);
      if ('problem' in found) problems.push(`after the next deploy: ${found.problem}`);
      else if (found.tag !== next) problems.push(`after the next deploy ${found.tag} serves, not ${next}`);
      // The action does not wait for the last clients of the old replicas.
      await waitForSettled(SETTLE_SECONDS, problems);
      const strays = await compareTraces(bench.traces);
      problems.push(...strays);
      inOrder = strays.length === 0 && 'tag' in found;
    }
  } catch (error) {
    problems.push(error instanceof Error ? error.message : String(error));
  } finally {
    over.abort();
    await visitors?.stop();
    if (kill === 'cut') await joinLink();
    await release();
    for (const volume of ['shop_vault', 'shop_ledger']) {
      const doubled = await takeDoubled(volume);
      if (doubled !== '') problems.push(`two lived on ${volume} at once: ${doubled}`);
    }
    await disarm();
    // Stopped by us, it would never end.
    const runner = findRunner(bench.checkout.folder);
    if (runner !== undefined) process.kill(runner, 'SIGKILL');
    run ??= await running.catch(() => undefined);
  }
  bench.tag = next;
  return {
    cell,
    problems,
    remarks,
    inOrder,
    seconds: (performance.now() - startedMs) / 1000,
    log: problems.length === 0 ? '' : `${run?.log ?? ''}\n${run?.post?.log ?? ''}\n--- next\n${nextRun?.log ?? ''}`,
  };
}

/** An end-to-end command decides whether there is a way back to be looked at, and how long the last hold lasts. */
function inputsFor({ phase, when }: Point): Readonly<Record<string, string>> {
  if (phase === 'undo') return { 'e2e-command': 'runner: exit 1' };
  return phase === 'do' && when === 'later' ? { 'e2e-command': 'runner: sleep 3' } : {};
}

async function die(kill: Kill): Promise<void> {
  switch (kill) {
    case 'runner':
    case 'cancel':
      // The harness does it, as soon as we return.
      return;
    case 'cut':
      await cutLink();
      break;
    case 'guardian':
      await killGuardian('main');
      break;
    case 'guardian-all':
      await killGuardian('all');
      break;
    case 'dockerd':
      await restartDocker();
      break;
    case 'reboot':
      // The way down must not wait for a command that hangs by our doing.
      await Promise.all([reboot(), sleep(1000).then(release)]);
      return;
    case 'poweroff':
      await pullPlug();
      return;
  }
  await release();
}

/** The action's process: the one that works in this checkout. */
function findRunner(workspace: string): number | undefined {
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    try {
      if (readlinkSync(`/proc/${name}/cwd`) === workspace && readFileSync(`/proc/${name}/comm`, 'utf8') !== '') {
        return Number(name);
      }
    } catch {
      // Gone meanwhile.
    }
  }
  return undefined;
}

async function waitForSettled(limitSeconds: number, problems: string[]): Promise<void> {
  const end = Date.now() + limitSeconds * 1000;
  while (!(await isSettled())) {
    if (Date.now() > end) {
      problems.push(`the server has not settled by itself within ${limitSeconds} s`);
      return;
    }
    await sleep(300);
  }
}

/** What the server serves by itself, before anybody logs in again. */
async function judgeServing(
  { variant, point, kill }: Cell,
  old: string,
  attempt: string,
  problems: string[],
  remarks: string[],
): Promise<void> {
  const alone = NOBODY_LEFT.includes(kill);
  const found = await waitForWhole(variant, alone && kill !== 'guardian-all' ? BOOT_SECONDS : 5);
  const where = alone ? 'with nobody logged in' : 'after it settled';
  if ('problem' in found) {
    const text = `${where}: ${found.problem} (old ${old}, new ${attempt})`;
    // Without the guardian, and without a boot, nobody starts again what was stopped for its successor.
    if (kill === 'guardian-all' && variant === 'stop-first') remarks.push(text);
    else problems.push(text);
    return;
  }
  if (found.tag !== old && found.tag !== attempt) {
    problems.push(`${where}: ${found.tag} serves, neither old ${old} nor new ${attempt}`);
    return;
  }
  const current = await readCurrent();
  const decided = readImageTag(current);
  // With nobody left, either release may serve, as long as it is whole: the next session has the last word.
  if (alone) {
    if (decided !== '' && decided !== found.tag) remarks.push(`${where}: ${found.tag} serves, ${decided} was decided`);
    return;
  }
  if (decided !== found.tag) problems.push(`${where}: ${found.tag} serves, but the store says ${decided}`);
  const expected = expectedAfter(point);
  // Whoever is cut off or killed by then may not matter any more; a restart of Docker may be survived.
  const wanted =
    expected === 'either' || (kill === 'dockerd' && point.phase === 'do')
      ? undefined
      : expected === 'old'
        ? old
        : attempt;
  if (wanted !== undefined && found.tag !== wanted) {
    problems.push(`${where}: ${found.tag} serves, not the ${expected} release ${wanted}`);
  }
}

/** Id of the kept release that does not serve: the newest of them. */
export async function findKept(): Promise<string> {
  const current = await readCurrent();
  const releases = readdirSync(pathOn('/home/deploy/apps/shop/.slipway/releases')).filter((id) => id !== current);
  return releases.sort().at(-1) ?? '';
}

/** The tag of the routed service that a kept release names. */
function readImageTag(id: string): string {
  try {
    const text = readFileSync(pathOn(`/home/deploy/apps/shop/.slipway/releases/${id}/release.json`), 'utf8');
    return /"reference":\s*"[^"]*\/matrix:(r[1-9])"/.exec(text)?.[1] ?? '';
  } catch {
    return '';
  }
}

/** What the action says must be what is so. */
async function judgeClaim(run: ActionRun, kill: Kill, attempt: string, problems: string[]): Promise<void> {
  if (run.outcome === 'lost') return;
  const decided = readImageTag(await readCurrent());
  const { result = '' } = run.outputs;
  const live = decided === attempt;
  const isWell = result === 'deployed' || result === 'rolled-back';
  if (isWell && !live) problems.push(`the action says ${result}, and ${decided} was decided`);
  if (['reverted', 'refused'].includes(result) && live)
    problems.push(`the action says ${result}, and ${attempt} is live`);
  if (result === 'unknown') problems.push('the action says unknown');
  if (result === 'failed') problems.push(`the action says failed: ${kill}`);
  if (run.outcome === 'success' && !isWell) problems.push(`success, and result ${result}`);
  if (run.post !== undefined && run.post.outcome !== 'success') problems.push(`post ended with ${run.post.outcome}`);
}

async function compareTraces(before: Traces): Promise<string[]> {
  let problems: string[] = [];
  // The session's last processes end while we look.
  for (let attempt = 0; attempt < 15; attempt++) {
    problems = findStrays(before, await readTraces());
    if (problems.length === 0) return [];
    await sleep(200);
  }
  return problems;
}

const kindOf = (container: string): string => container.replace(/@.*/, '').replace(/:r\d$/, '');

function findStrays(before: Traces, now: Traces): string[] {
  const problems: string[] = [];
  const same = (what: string, a: readonly string[], b: readonly string[]): void => {
    if (a.join('\n') !== b.join('\n')) problems.push(`${what}: ${b.join(', ')} instead of ${a.join(', ')}`);
  };
  same('containers', before.containers.map(kindOf), now.containers.map(kindOf));
  same('volumes', before.volumes, now.volumes);
  same('networks', before.networks, now.networks);
  same('files in the store and the home', before.others, now.others);
  for (const [what, list] of [
    ['images', now.images.length - before.images.length],
    ['releases', now.releases.length - before.releases.length],
    ['shipped files', now.files.length - before.files.length],
  ] as const) {
    if (list !== 0) problems.push(`${Math.abs(list)} ${what} too ${list > 0 ? 'many' : 'few'}`);
  }
  if (now.unnamed.length > 0) problems.push(`files that no release names: ${now.unnamed.join(', ')}`);
  if (now.processes.length > 0) problems.push(`processes: ${now.processes.join('; ')}`);
  if (now.temporary.length > 0) problems.push(`temporary: ${now.temporary.join(', ')}`);
  if (now.locked) problems.push('the lock is held');
  return problems;
}

/** Somebody asks the router twenty times a second. */
function beginVisits(): { stop(): Promise<string[]> } {
  const failed: string[] = [];
  const ending = new AbortController();
  const visiting = (async () => {
    while (!ending.signal.aborted) {
      const answer = await visit();
      if (answer !== '') failed.push(answer);
      await sleep(50);
    }
  })();
  return {
    stop: async () => {
      ending.abort();
      await visiting;
      return failed;
    },
  };
}

/** @returns why it failed, or nothing */
function visit(): Promise<string> {
  return new Promise((resolve) => {
    const asked = request({ host: theServer().address, port: 8080, agent: false, timeout: 5000 }, (response) => {
      response.resume();
      response.on('end', () => {
        resolve(response.statusCode === 200 ? '' : `status ${response.statusCode ?? 0}`);
      });
      response.on('error', (error) => {
        resolve(error.message);
      });
    });
    asked.on('timeout', () => asked.destroy(new Error('timeout')));
    asked.on('error', (error) => {
      resolve(error.message);
    });
    asked.end();
  });
}
