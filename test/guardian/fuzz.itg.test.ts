/**
 * Kills whatever can be killed, at random moments of a transaction; then the next session must come in, and everything is
 * old or everything is new. SLIPWAY_FUZZ_SEED repeats a run, SLIPWAY_FUZZ_RUNS makes it longer (per shell).
 */
import { mkdirSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { jest } from '@jest/globals';
import { Home, journal, kill, makeFile, Session, type Shell, SHELLS, storeRelease, until } from './session';

const RUNS = Number(process.env['SLIPWAY_FUZZ_RUNS'] ?? 20);
const SEED = Number(process.env['SLIPWAY_FUZZ_SEED'] ?? Date.now() % 1_000_000);
const AT_ONCE = 4;

jest.setTimeout(RUNS * 10_000);

/** mulberry32 */
function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

const NUMBERS = [1, 2, 3, 4, 5, 6];
const OLD = { current: 'releases/r1', releases: ['r0', 'r1'], files: NUMBERS.map((n) => `old-${n}`) };
const NEW = { current: 'releases/r2', releases: ['r1', 'r2'], files: NUMBERS.map((n) => `new-${n}`) };

const FAULTS = [
  'nothing',
  'main killed',
  'a helper killed',
  'its group killed',
  'everything killed',
  'a step killed',
  'SIGTERM to all',
  'SIGTERM to main',
  'cut',
  'blocked',
  'silent',
  'abort',
  'failing step',
  'main killed, then a helper',
] as const;
type Fault = (typeof FAULTS)[number];

/** Those that only the lease ends. */
const LOSING: readonly Fault[] = ['blocked', 'silent'];
/** Those after which the session goes on by itself, until it is told to go. */
const STAYING: readonly Fault[] = ['nothing', 'failing step', 'abort', 'a step killed', 'a helper killed'];

function strike(fault: Fault, shell: Shell, home: Home, session: Session, random: () => number): void {
  const processes = home.processes();
  const pick = (list: readonly { readonly pid: number }[]): number | undefined =>
    list[Math.floor(random() * list.length)]?.pid;
  const helpers = processes.filter((one) => one.pgrp === session.pid && one.pid !== session.pid);
  // The `timeout` of busybox becomes the step. Killed while it starts the process that is to watch it, it leaves one that
  // watches process 1 until the limit: its own fault, and it holds nothing of ours.
  const isStarting = (command: string): boolean => shell.name.startsWith('busybox') && command.startsWith('timeout ');
  const steps = processes.filter((one) => one.pgrp !== session.pid && !isStarting(one.command));
  switch (fault) {
    case 'main killed':
      kill(session.pid, 'SIGKILL');
      return;
    case 'a helper killed':
      kill(pick(helpers) ?? session.pid, 'SIGKILL');
      return;
    case 'main killed, then a helper':
      kill(session.pid, 'SIGKILL');
      kill(pick(helpers) ?? session.pid, 'SIGKILL');
      return;
    case 'its group killed':
      kill(-session.pid, 'SIGKILL');
      return;
    case 'everything killed':
      for (const { pid } of processes) kill(pid, 'SIGKILL');
      return;
    case 'a step killed':
      kill(pick(steps) ?? session.pid, 'SIGKILL');
      return;
    case 'SIGTERM to all':
      for (const { pid } of processes) kill(pid, 'SIGTERM');
      return;
    case 'SIGTERM to main':
      kill(session.pid, 'SIGTERM');
      return;
    case 'cut':
      session.cut();
      return;
    case 'blocked':
      session.block();
      return;
    case 'silent':
      session.silence();
      return;
    case 'abort':
      session.write('abort\n');
      return;
    case 'failing step':
    case 'nothing':
  }
}

/** @returns what happened, for the count */
async function play(shell: Shell, seed: number): Promise<string> {
  const random = randomFrom(seed);
  const fault = FAULTS[Math.floor(random() * FAULTS.length)] ?? 'nothing';
  const moment = random();
  const story = `${shell.name}, seed ${seed}: ${fault} at ${moment.toFixed(3)}`;
  const home = new Home().deployed();
  for (const n of NUMBERS) home.file(`old-${n}`);
  mkdirSync(home.store('releases', 'r0'));
  // Long where it is not to end by that, on a busy machine. If the helper is the one that reads, only the lease ends it.
  const leaseTicks = LOSING.includes(fault) ? 8 : fault === 'a helper killed' ? 60 : 1000;
  const session = new Session(home, shell, { leaseTicks });
  try {
    const failing = fault === 'failing step' ? 1 + Math.floor(random() * 6) : 0;
    const finishing = random() < 0.3 ? 1 + Math.floor(random() * 6) : 0;
    const flooding = 1 + Math.floor(random() * 6);
    session.begin(
      journal({
        undo: NUMBERS.map((n) => `remove-files new-${n}`),
        finish: [...NUMBERS.map((n) => `remove-files old-${n}`), 'remove-releases r0'],
      }),
    );
    for (const n of NUMBERS) {
      const between = [
        n === flooding ? 'head -c 1000000 /dev/zero' : '',
        `sleep 0.0${Math.floor(random() * 9)}`,
        n === failing ? 'exit 7' : '',
      ].join('\n');
      session.send('do', `${n === 1 ? `${storeRelease()} &&` : ''} ${makeFile(`new-${n}`, between)}`, {
        onAbort: n === finishing ? 'finish' : 'kill',
      });
    }
    session.write('commit\n');
    const over = ['finished', 'unfinished', 'undone', 'unrestored'];
    const isOver = (): boolean => session.exited !== undefined || over.some((word) => session.has(word));
    if (fault === 'nothing' || fault === 'failing step') {
      await session.hear(...over);
    } else {
      // A whole transaction takes about as long.
      const strikeMs = performance.now() + moment * 900;
      while (performance.now() < strikeMs && !isOver()) await sleep(5);
      strike(fault, shell, home, session, random);
      if (random() < 0.5) await sleep(random() * 1500);
    }
    // The next one comes at once, or later; by its name or the same way.
    const next = new Session(home, shell, { holder: 'the next session', waitTicks: 1000, leaseTicks: 1000 });
    if (STAYING.includes(fault)) {
      await until(`${story}: the first is over`, isOver, 20);
      void session.bye();
    }
    const locked = await next.hear('locked', 'stuck', 'held');
    const state = home.state();
    if (JSON.stringify(state) !== JSON.stringify(NEW)) expect(state).toEqual(OLD);
    const isNew = state.current === NEW.current;
    expect(locked).toMatch(isNew ? /^locked r2 / : /^locked r1 /);
    // What was told is so.
    if (session.has('committed')) expect(isNew).toBe(true);
    if (session.has('undone')) expect(isNew).toBe(false);
    if (fault === 'nothing') expect(session.lines).toContain('finished');
    if (fault === 'failing step') expect(session.lines).toContain(`undoing step ${failing} 7`);
    expect(session.has('unrestored')).toBe(false);
    expect(await next.bye()).toBe(0);
    session.unblock();
    await home.expectNothingLeft();
    return `${fault}: ${isNew ? 'new' : 'old'}`;
  } catch (error) {
    throw new Error(
      `${story}\n${error instanceof Error ? error.message : String(error)}\nit said: ${session.lines.join(' | ')} ${session.stray.join(' | ')}`,
      { cause: error },
    );
  } finally {
    session.cut();
    home.remove();
  }
}

test.each(SHELLS)(`$name: old or new, whatever is killed (SLIPWAY_FUZZ_SEED=${SEED})`, async (shell) => {
  const counts: Record<string, number> = {};
  const failures: unknown[] = [];
  let at = 0;
  const work = async (): Promise<void> => {
    while (at < RUNS) {
      const seed = SEED + at++;
      try {
        const what = await play(shell, seed);
        counts[what] = (counts[what] ?? 0) + 1;
      } catch (error) {
        failures.push(error);
      }
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  if (process.env['SLIPWAY_FUZZ_RUNS'] !== undefined) process.stdout.write(`${shell.name} ${JSON.stringify(counts)}\n`);
  if (failures.length > 0) throw new Error(failures.map(String).join('\n\n'));
});
