/** The guardian's lock, executor, lease, recovery and verbs on files, in the shells that servers have. */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { jest } from '@jest/globals';
import {
  Home,
  journal,
  kill,
  makeFile,
  PROGRAM,
  Session,
  type SessionOptions,
  type Shell,
  SHELLS,
  storeRelease,
  until,
} from './session';

jest.setTimeout(120_000);

/** Ticks: as long as our own end may be held up on a busy machine. */
const LEASE = 60;

const OLD = { current: 'releases/r1', releases: ['r1'], files: ['old-1'] };
const NEW = { current: 'releases/r2', releases: ['r1', 'r2'], files: ['new-1'] };

test('shellcheck has nothing to say', () => {
  const program = spawnSync('shellcheck', ['--version']);
  if (program.error !== undefined) throw new Error('shellcheck is not in PATH: apt-get install shellcheck');
  const folder = fileURLToPath(new URL('../../shared/src/guardian/', import.meta.url));
  const { stdout } = spawnSync('shellcheck', ['-s', 'dash', '-f', 'gcc', `${folder}guardian.sh`]);
  expect(stdout.toString()).toBe('');
});

test('the program fits into one argument, and into a process list that others may read', () => {
  expect(Buffer.byteLength(PROGRAM)).toBeLessThan(100_000);
});

/** One project of a server with this shell, and the sessions with it. */
class World {
  readonly home = new Home().deployed().file('old-1');
  readonly #sessions: Session[] = [];

  constructor(readonly shell: Shell) {}

  readonly start = (options: SessionOptions = {}): Session => {
    const session = new Session(this.home, this.shell, options);
    this.#sessions.push(session);
    return session;
  };

  readonly open = async (options: SessionOptions = {}): Promise<Session> => {
    const session = this.start(options).begin(journal());
    await session.hear('begun');
    expect((await session.run('do', storeRelease())).code).toBe(0);
    return session;
  };

  /** What the next session finds. */
  readonly next = async (options: SessionOptions = {}): Promise<Session> => {
    const session = this.start({ holder: 'the next session', waitTicks: 1000, leaseTicks: 1000, ...options });
    await session.hear('locked', 'stuck', 'held', 'unlocked');
    return session;
  };

  async end(): Promise<void> {
    for (const session of this.#sessions) session.cut();
    await Promise.all(this.#sessions.map((session) => Promise.race([session.exit, sleep(3000)])));
    this.home.remove();
  }
}

/** Plays a scenario under every shell at once: they mostly wait. */
const inEachShell =
  <Rest extends unknown[]>(play: (world: World, ...rest: Rest) => Promise<void>) =>
  async (...rest: Rest): Promise<void> => {
    const results = await Promise.allSettled(
      SHELLS.map(async (shell) => {
        const world = new World(shell);
        try {
          await play(world, ...rest);
        } catch (error) {
          throw new Error(`${shell.name}: ${error instanceof Error ? (error.stack ?? '') : ''}`, { cause: error });
        } finally {
          await world.end();
        }
      }),
    );
    const failures = results.flatMap((result) => (result.status === 'rejected' ? [String(result.reason)] : []));
    if (failures.length > 0) throw new Error(failures.join('\n\n'));
  };

/** A file system of its own needs root. */
const onSmallDisk = process.getuid?.() === 0 ? test.concurrent : test.concurrent.skip;

async function withDisk(folder: string, options: string, work: () => Promise<void>): Promise<void> {
  mkdirSync(folder, { recursive: true });
  execFileSync('mount', ['-t', 'tmpfs', '-o', `${options},mode=700`, 'tmpfs', folder]);
  try {
    await work();
  } finally {
    execFileSync('umount', ['-l', folder]);
  }
}

/** Takes what is left of it, too. */
function isFull(file: string): boolean {
  try {
    writeFileSync(file, Buffer.alloc(1 << 20));
    return false;
  } catch {
    return true;
  }
}

describe('steps', () => {
  test.concurrent(
    'output, errors, exit code and input',
    inEachShell(async ({ home, start }) => {
      const session = start();
      await session.hear('locked');
      expect(await session.run('ask', 'echo out; echo err >&2; cat; exit 3', { stdin: 'in' })).toEqual({
        code: 3,
        stdout: 'out\nin',
        stderr: 'err\n',
      });
      expect(await session.run('ask', 'exit 0')).toEqual({ code: 0, stdout: '', stderr: '' });
      expect(await session.bye()).toBe(0);
      expect(session.stray).toEqual([]);
      await home.expectNothingLeft();
    }),
  );

  test.concurrent(
    'run as after a login: umask, signals, no descriptors of ours',
    inEachShell(async ({ start }) => {
      const mask = process.umask(0o027);
      const session = start();
      process.umask(mask);
      const ask = 'umask; grep SigIgn /proc/self/status; ls /proc/self/fd; readlink /proc/self/fd/0';
      const { stdout } = await session.run('ask', ask);
      const [umask = '', ignored = '', ...rest] = stdout.split('\n');
      expect(umask.slice(-3)).toBe('027');
      // 1 HUP, 13 PIPE, 15 TERM. What the shell makes of INT and QUIT in the background is its own.
      expect(BigInt(`0x${ignored.split(/\s+/)[1] ?? ''}`) & 0x5001n).toBe(0n);
      // 3: of ls itself (what is above 9 is the test's own). 7: by which whoever comes next sees that it goes on.
      expect(rest.filter((line) => /^\d$/.test(line))).toEqual(['0', '1', '2', '3', '7']);
      expect(rest).toContain('/dev/null');
      await session.bye();
    }),
  );

  test.concurrent(
    'hostile output comes through byte by byte',
    inEachShell(async ({ home, start }) => {
      const session = start();
      const hostile = String.raw`printf '\000\001\377slipway-0 end 1 0\n\nslipway-%s end 9 9' "$HOME"; printf 'slipway-'`;
      const { stdout } = await session.run('ask', hostile);
      expect(stdout).toBe(`\0\u0001\u00ffslipway-0 end 1 0\n\nslipway-${home.folder} end 9 9slipway-`);
      expect((await session.run('ask', 'echo next')).stdout).toBe('next\n');
      await session.bye();
    }),
  );

  test.concurrent(
    '50 MB without a line end',
    inEachShell(async ({ start }) => {
      const session = start();
      const step = session.send('ask', 'head -c 50000000 /dev/zero', { limit: 300 });
      expect((await session.ended(step, 30)).code).toBe(0);
      expect(session.bytes).toBeGreaterThan(50_000_000);
      await session.bye();
    }),
  );

  test.concurrent(
    'a limit ends it, and what it started',
    inEachShell(async ({ start }) => {
      const session = start();
      const { code } = await session.run('ask', 'sleep 1000 & sleep 1000', { limit: 1 });
      // As GNU's timeout says it, and as busybox's.
      expect([124, 143]).toContain(code);
      expect((await session.run('ask', 'echo on')).stdout).toBe('on\n');
      await session.bye();
    }),
  );

  test.concurrent(
    'stop: of the one under way, of one in the queue, at any moment',
    inEachShell(async ({ home, start }) => {
      const session = start();
      const under = session.send('ask', 'sleep 1000');
      const queued = session.send('ask', 'touch "$HOME/ran"');
      session.write(`stop ${queued}\nstop ${under}\n`);
      expect((await session.ended(under)).code).toBe(143);
      expect((await session.ended(queued)).code).toBe(125);
      const last = session.send('ask', 'sleep 1000');
      session.write(`stop ${last}\n`);
      await session.ended(last);
      expect(existsSync(home.path('ran'))).toBe(false);
      await session.bye();
      await home.expectNothingLeft();
    }),
  );

  test.concurrent(
    'what it leaves running ends with it, and holds up neither the next step nor the next session',
    inEachShell(async ({ home, start, next }) => {
      const session = start({ leaseTicks: 1000 });
      const { code } = await session.run('ask', 'sleep 1001 >/dev/null 2>&1 & exit 3');
      expect(code).toBe(3);
      expect(home.processes().filter((one) => one.command.startsWith('sleep 1001'))).toEqual([]);
      expect((await session.run('ask', 'echo on', { limit: 5 })).stdout).toBe('on\n');
      // Nobody of its process group: it is left alone.
      const daemon = `rm -f "$HOME/out"
setsid sh -c 'echo >"$HOME/out"; exec sleep 1002' >/dev/null 2>&1 &
until [ -e "$HOME/out" ]; do sleep 0.05; done`;
      expect((await session.run('ask', daemon)).code).toBe(0);
      expect(await session.hear('note')).toMatch(/^note something that a step has started goes on/);
      expect((await session.run('ask', 'echo on', { limit: 5 })).stdout).toBe('on\n');
      expect(home.processes().filter((one) => one.command.startsWith('sleep 1002'))).toHaveLength(1);
      // Where the session is dead, the next one waits for it for a while.
      session.send('ask', `${daemon}\nsleep 1003`);
      await until('it runs', () => home.processes().some((one) => one.command.startsWith('sleep 1003')));
      for (const one of home.processes()) if (!one.command.startsWith('sleep 1002')) kill(one.pid, 'SIGKILL');
      const after = await next();
      expect(after.lines.some((line) => line.startsWith('note something that a step has started'))).toBe(true);
      expect((await after.run('ask', 'echo on')).stdout).toBe('on\n');
      await after.bye();
    }),
  );

  test.concurrent(
    'words like globs and options are only words',
    inEachShell(async ({ start }) => {
      const hostile = '*';
      const session = start({ holder: `-n ${hostile} \\c %s $(touch pwned) 'x` });
      await session.hear('locked');
      const waiting = start({ waitTicks: 0 });
      expect(await waiting.hear('held')).toBe(`held -n ${hostile} \\c %s $(touch pwned) 'x`);
      expect((await waiting.exit).code).toBe(75);
      await session.bye();
    }),
  );
});

describe('a transaction', () => {
  test.concurrent(
    'is committed: finish verbs, link for a plain docker compose, nothing left',
    inEachShell(async ({ home, open }) => {
      writeFileSync(home.path('shop', 'compose.yaml'), 'mine: true\n');
      const session = await open();
      expect((await session.run('do', makeFile('new-1'))).code).toBe(0);
      session.write('commit\n');
      await session.hear('finished');
      expect(home.state()).toEqual(NEW);
      expect(readlinkSync(home.path('shop', 'compose.yaml'))).toBe('.slipway/current/compose.yaml');
      expect(readFileSync(home.path('shop', 'compose.yaml.before-slipway'), 'utf8')).toBe('mine: true\n');
      expect(await session.bye()).toBe(0);
      await home.expectNothingLeft();
    }),
  );

  test.concurrent(
    'a failing step: undone, what was sent ahead is not carried out',
    inEachShell(async ({ home, open }) => {
      const session = await open();
      const failing = session.send('do', `${makeFile('new-1')}\nexit 9`);
      const ahead = session.send('do', 'touch "$HOME/ahead"');
      session.write('commit\n');
      expect((await session.ended(failing)).code).toBe(9);
      expect(await session.hear('undoing')).toBe(`undoing step ${failing} 9`);
      await session.hear('undone');
      const late = session.send('do', 'touch "$HOME/ahead"');
      expect((await session.ended(late)).code).toBe(125);
      expect(ahead).toBeLessThan(late);
      expect(existsSync(home.path('ahead'))).toBe(false);
      expect(home.state()).toEqual(OLD);
      // The session goes on: its end is told, and it may ask.
      expect((await session.run('ask', 'echo why')).stdout).toBe('why\n');
      expect(await session.bye()).toBe(0);
      await home.expectNothingLeft();
    }),
  );

  test.concurrent(
    'abort stops the step under way, and one that has not begun',
    inEachShell(async ({ home, open }) => {
      const session = await open();
      const step = session.send('do', `${makeFile('new-1')}\necho there\nsleep 1000`);
      await until('the step runs', () => session.output(step).includes('there'));
      const began = performance.now();
      session.write('abort\n');
      await session.hear('undone');
      expect(performance.now() - began).toBeLessThan(3000);
      expect(home.state()).toEqual(OLD);
      // A second one, the way to which is not mixed with that of the first.
      const asked = session.send('ask', 'sleep 0.5');
      session.begin(journal({ undo: ['remove-files old-1'] })).write('abort\n');
      await until('undone again', () => session.lines.filter((line) => line === 'undone').length === 2);
      expect(asked).toBeGreaterThan(step);
      session.begin(journal());
      await until('begun again', () => session.lines.filter((line) => line === 'begun').length === 2);
      await session.bye();
      await home.expectNothingLeft();
      expect(home.state()).toEqual(OLD);
    }),
  );

  test.concurrent.each(['abort', 'cut', 'silence', 'block', 'SIGTERM'] as const)(
    'a step that must not be killed is waited for: %s',
    inEachShell(async ({ home, open, next }, how) => {
      const session = await open({ leaseTicks: how === 'silence' || how === 'block' ? LEASE : 1000 });
      session.send('do', `sleep 1.5; head -c 300000 /dev/zero; ${makeFile('migrated')}`, { onAbort: 'finish' });
      await sleep(300);
      if (how === 'abort') session.write('abort\n');
      else if (how === 'SIGTERM') kill(-session.pid, 'SIGTERM');
      else session[how]();
      if (how === 'abort') {
        // Its session goes on.
        await session.hear('undone');
        expect(home.state()).toEqual({ ...OLD, files: ['migrated', 'old-1'] });
        await session.bye();
      }
      const after = await next();
      expect(after.lines.at(-1)).toMatch(/^locked r1 /);
      expect(home.state()).toEqual({ ...OLD, files: ['migrated', 'old-1'] });
      await after.bye();
      await session.bye();
    }),
  );

  test.concurrent.each(['main', 'group', 'all but steps'] as const)(
    'a step that must not be killed survives us: %s',
    inEachShell(async ({ home, open, next }, who) => {
      const session = await open();
      session.send(
        'do',
        `sleep 1; head -c 300000 /dev/zero; sleep 0.5; head -c 300000 /dev/zero; ${makeFile('migrated')}`,
        { onAbort: 'finish' },
      );
      await sleep(400);
      if (who === 'main') kill(session.pid, 'SIGKILL');
      if (who === 'group') kill(-session.pid, 'SIGKILL');
      if (who === 'all but steps') {
        for (const one of home.processes()) if (one.pgrp === session.pid) kill(one.pid, 'SIGKILL');
      }
      const after = await next();
      expect(home.state()).toEqual({ ...OLD, files: ['migrated', 'old-1'] });
      expect(await after.bye()).toBe(0);
      await home.expectNothingLeft();
    }),
  );

  test.concurrent(
    'SIGTERM is not enough for a step: SIGKILL',
    inEachShell(async ({ home, open }) => {
      const session = await open();
      const step = session.send('do', `trap '' TERM; ${makeFile('new-1')}\necho there; while :; do sleep 1; done`);
      await until('the step runs', () => session.output(step).includes('there'));
      session.write('abort\n');
      await session.hear('undone');
      await session.bye();
      await home.expectNothingLeft();
      expect(home.state()).toEqual(OLD);
    }),
  );

  test.concurrent(
    'a second one is refused while one is open, and in a look',
    inEachShell(async ({ home, start, open }) => {
      const session = await open();
      session.begin(journal());
      await session.hear('undone');
      const look = start({ mode: 'look' });
      const owner = await (async (): Promise<Session> => {
        await session.bye();
        return open();
      })();
      look.begin(journal());
      await look.hear('undone');
      // The journal of the one that has the lock is not touched.
      expect(existsSync(home.store('journal'))).toBe(true);
      expect(existsSync(home.store('releases', 'r2'))).toBe(true);
      await look.bye();
      await owner.bye();
      await home.expectNothingLeft();
    }),
  );

  test.concurrent(
    'one for a release that is in the store already is refused: its way back would remove that',
    inEachShell(async ({ home, start }) => {
      const session = start();
      session.begin(journal().replace('release r2', 'release r1'));
      expect(await session.hear('undoing')).toBe('undoing begin release r1 is in the store already');
      await session.hear('undone');
      expect(home.state()).toEqual(OLD);
      await session.bye();
    }),
  );

  test.concurrent(
    'a journal that cannot be read is neither begun nor carried out',
    inEachShell(async ({ home, start, next }) => {
      const session = start();
      const texts: readonly (readonly [string, string])[] = [
        ['no end', 'slipway 2\nrelease r2\nlimit 30\nundo remove-files old-1\n'],
        ['something after the end', `${journal()}undo remove-files old-1\n`],
        ['twice', journal() + journal()],
        ['half a last line', journal().slice(0, -2)],
        ['another version', journal().replace('slipway 2', 'slipway 3')],
        ['no release', journal().replace('release r2\n', '')],
        ['a release that leads out', journal().replace('release r2', 'release ../../x')],
        ['a limit that is no number', journal().replace('limit 30', 'limit 08')],
        ['an empty line', journal().replace('end\n', '\nend\n')],
        ['binary', '\0\u0001\u0002\n\n\n'],
        ['JSON of the older form', '{"version":1,"release":"r2","undo":[{"verb":"remove-files"}]}\n'],
      ];
      for (const [at, [what, text]] of texts.entries()) {
        session.begin(text);
        await until(what, () => session.lines.filter((line) => line === 'undone').length === at + 1);
        expect([what, session.lines.filter((line) => /^undoing begin /.test(line)).length]).toEqual([what, at + 1]);
        expect(home.state()).toEqual(OLD);
      }
      expect(session.has('begun')).toBe(false);
      await session.bye();
      for (const [what, text] of texts) {
        writeFileSync(home.store('journal'), text);
        const after = await next();
        expect([what, await after.hear('stuck')]).toEqual([
          what,
          expect.stringMatching(/^stuck unknown the journal .* cannot be read$/),
        ]);
        expect((await after.exit).code).toBe(70);
        expect(home.state()).toEqual(OLD);
        expect(readFileSync(home.store('journal'), 'utf8')).toBe(text);
      }
    }),
  );

  test.concurrent(
    'a verb that is not one of ours changes nothing',
    inEachShell(async ({ home, start }) => {
      const session = start();
      let undone = 0;
      for (const verb of [
        'remove-files ../releases',
        'remove-files /',
        'remove-files .',
        'remove-releases ../../x',
        'remove-files -rf',
        'remove-files $HOME',
        'remove-files *',
        'no-such-verb x',
        'rm -rf /',
        'remove-files x;touch pwned',
      ]) {
        session.begin(journal());
        expect([verb, (await session.run('verb', verb)).code]).toEqual([verb, 64]);
        undone += 1;
        await until('undone', () => session.lines.filter((line) => line === 'undone').length === undone);
        expect(home.state()).toEqual(OLD);
        expect(readdirSync(home.folder)).not.toContain('pwned');
      }
      await session.bye();
    }),
  );

  test.concurrent(
    'what cannot be undone stays in the journal, is told, and is tried again by the next one',
    inEachShell(async ({ home, open, next }) => {
      const session = await open();
      // A file in the place of the folder of files, which cannot be removed through.
      execFileSync('mv', [home.store('journal'), home.store('journal.was')]);
      writeFileSync(home.store('journal'), journal({ undo: ['remove-files ../x', 'remove-files new-1'] }));
      expect((await session.run('do', makeFile('new-1'))).code).toBe(0);
      session.write('abort\n');
      expect(await session.hear('unrestored')).toMatch(/^unrestored remove-files \.\.\/x: .*not a word for a verb/);
      // The others were carried out all the same.
      expect(home.state().files).toEqual(['old-1']);
      await session.bye();
      const after = await next();
      expect(await after.hear('stuck')).toMatch(/^stuck r2 remove-files/);
      execFileSync('mv', [home.store('journal.was'), home.store('journal')]);
      const last = await next();
      expect(last.lines).toContain('recovered r2 undone');
      await last.bye();
      await home.expectNothingLeft();
    }),
  );

  test.concurrent(
    'until a committed release is handed over to, its journal stays, and nothing that follows is done',
    inEachShell(async ({ home, start, next }) => {
      home.install('docker', '#!/bin/sh\n[ "$1" != ps ]\n');
      const session = start().begin(journal({ finish: ['hand-over c1', 'remove-files old-1'] }));
      await session.hear('begun');
      const written = session.run('do', `${storeRelease()} && ${makeFile('new-1')}`);
      expect((await written).code).toBe(0);
      session.write('commit\n');
      expect(await session.hear('unfinished')).toMatch(/^unfinished hand-over c1/);
      await session.bye();
      const kept = { ...NEW, files: ['new-1', 'old-1'] };
      const after = await next();
      expect(await after.hear('stuck')).toMatch(/^stuck r2 hand-over c1/);
      expect((await after.exit).code).toBe(70);
      expect(home.state()).toEqual(kept);
      expect(readFileSync(home.store('journal'), 'utf8')).toContain('hand-over');
      home.install('docker', '#!/bin/sh\n');
      const last = await next();
      expect(last.lines).toContain('recovered r2 committed');
      expect(home.state()).toEqual(NEW);
      await last.bye();
      await home.expectNothingLeft();
    }),
  );

  test.concurrent(
    'on the way down of the whole server it leaves at once, and the next one undoes',
    inEachShell(async ({ home, open, next }) => {
      const session = await open();
      session.send('do', `${makeFile('new-1')}\nsleep 1000`);
      await until('the step runs', () => home.state().files.includes('new-1'));
      home.install('systemctl', '#!/bin/sh\necho stopping\n');
      kill(session.pid, 'SIGTERM');
      expect((await session.exit).code).toBe(143);
      expect(existsSync(home.store('journal'))).toBe(true);
      home.install('systemctl', '#!/bin/sh\necho running\n');
      const after = await next();
      expect(after.lines).toContain('recovered r2 undone');
      expect(home.state()).toEqual(OLD);
      await after.bye();
      await home.expectNothingLeft();
    }),
  );

  test.concurrent(
    'whoever comes next puts it right: deploy, rollback and backup after each other; a look does not',
    inEachShell(async ({ home, open, start, next }) => {
      const holders = [
        { holder: 'deploy by alice', mode: 'change' },
        { holder: 'rollback by bob', mode: 'preempt' },
        { holder: 'backup by carol', mode: 'change' },
      ];
      for (const [at, dying] of holders.entries()) {
        await open(dying);
        const names = (): string[] => home.state().files;
        const last = home.processes();
        home.file('new-1');
        expect(names()).toEqual(['new-1', 'old-1']);
        for (const one of last) kill(one.pid, 'SIGKILL');
        const look = start({ mode: 'look' });
        expect((await look.run('ask', 'echo on')).stdout).toBe('on\n');
        await look.bye();
        expect(names()).toEqual(['new-1', 'old-1']);
        const after = await next(holders[(at + 1) % holders.length]);
        expect(after.lines).toContain('recovering r2');
        expect(after.lines).toContain('recovered r2 undone');
        expect(home.state()).toEqual(OLD);
        // It has the lock, under its own name.
        const third = start({ waitTicks: 0 });
        expect(await third.hear('held')).toBe(`held ${holders[(at + 1) % holders.length]?.holder ?? ''}`);
        await after.bye();
      }
      await home.expectNothingLeft();
    }),
  );

  test.concurrent(
    'an open transaction of a server that was switched off is undone; a committed one is finished',
    inEachShell(async ({ home, next }) => {
      home.file('new-1');
      mkdirSync(home.store('releases', 'r2'));
      writeFileSync(home.store('journal'), journal());
      // Of another boot: nobody must be ended for that.
      const bystander = spawn('sleep', ['1000'], { detached: true });
      writeFileSync(home.store('running'), `${bystander.pid ?? 0} 1 another-boot kill\n`);
      const first = await next();
      expect(first.lines).toContain('recovered r2 undone');
      expect(home.state()).toEqual(OLD);
      await first.bye();
      expect(bystander.exitCode).toBe(null);
      kill(bystander.pid ?? 0, 'SIGKILL');

      home.file('new-1');
      mkdirSync(home.store('releases', 'r2'));
      writeFileSync(home.store('releases', 'r2', 'compose.yaml'), '');
      writeFileSync(home.store('journal'), journal());
      execFileSync('ln', ['-sfn', 'releases/r2', home.store('current')]);
      const second = await next();
      expect(second.lines).toContain('recovered r2 committed');
      expect(home.state()).toEqual(NEW);
      await second.bye();
      await home.expectNothingLeft();
    }),
  );
});

describe('the lock', () => {
  test.concurrent(
    'by path and by name, and both holders are told apart',
    inEachShell(async ({ home, start }) => {
      const first = start({ holder: 'the first' });
      await first.hear('locked');
      const samePath = start({ project: 'other', waitTicks: 0 });
      expect(await samePath.hear('held')).toBe('held the first');
      const sameName = start({ path: home.path('elsewhere'), waitTicks: 0 });
      expect(await sameName.hear('held')).toBe('held the first');
      const neither = start({ path: home.path('a folder with * and blanks'), project: 'third' });
      await neither.hear('locked');
      await neither.bye();
      await first.bye();
      await home.expectNobody();
    }),
  );

  test.concurrent(
    'two paths of one project: what was left in one is put right by the next one there, and nobody waits for the other',
    inEachShell(async ({ home, open, next }) => {
      await open();
      home.file('new-1');
      for (const one of home.processes()) kill(one.pid, 'SIGKILL');
      const elsewhere = await next({ path: home.path('elsewhere') });
      expect(elsewhere.lines.at(-1)).toMatch(/^locked none /);
      expect(existsSync(home.store('journal'))).toBe(true);
      await elsewhere.bye();
      const after = await next();
      expect(after.lines).toContain('recovered r2 undone');
      expect(home.state()).toEqual(OLD);
      await after.bye();
      await home.expectNothingLeft();
    }),
  );

  test.concurrent(
    'is free at once after a clean end, also while something of ours still sleeps',
    inEachShell(async ({ start }) => {
      const first = start({ tickSeconds: 1 });
      await first.hear('locked');
      await first.bye();
      const second = start({ waitTicks: 0 });
      await second.hear('locked');
      await second.bye();
    }),
  );

  test.concurrent('forty wait; each gets it, one at a time, and is told who has it', async () => {
    const home = new Home().deployed();
    const begin = (n: number, options: SessionOptions): Session =>
      new Session(home, SHELLS[n % SHELLS.length] as Shell, options);
    try {
      const first = begin(0, { holder: 'the first' });
      await first.hear('locked');
      const waiting: Session[] = [];
      for (let n = 0; n < 40; n++) {
        waiting.push(begin(n, { holder: `number ${n}`, waitTicks: 10_000, leaseTicks: 10_000, tickSeconds: 0.3 }));
        // To start them all at once would hold up the beats of everybody else.
        await sleep(20);
      }
      const told = await Promise.all(waiting.map((session) => session.hear('waiting')));
      expect(new Set(told)).toEqual(new Set(['waiting r1 the first']));
      let holding = 0;
      await first.bye();
      await Promise.all(
        waiting.map(async (session) => {
          await until('it has the lock', () => session.has('locked'), 90);
          expect(++holding).toBe(1);
          await sleep(20);
          holding--;
          expect(await session.bye()).toBe(0);
        }),
      );
      await home.expectNothingLeft();
    } finally {
      home.remove();
    }
  });

  test.concurrent(
    'who waits and is cut, killed or tells us so leaves nothing',
    inEachShell(async ({ home, start, next }) => {
      const first = start();
      await first.hear('locked');
      const [cut, killed, aborted, silent] = [
        start(),
        start({ mode: 'preempt' }),
        start({ mode: 'preempt' }),
        start({ leaseTicks: LEASE }),
      ];
      for (const session of [cut, killed, aborted, silent]) await session.hear('waiting');
      cut.cut();
      kill(killed.pid, 'SIGKILL');
      aborted.write('abort\n');
      silent.silence();
      await Promise.all([cut, killed, aborted, silent].map((session) => session.exit));
      await first.bye();
      const last = await next();
      await last.bye();
      await home.expectNothingLeft();
    }),
  );

  test.concurrent(
    'preempt takes it from one that holds, also by its name alone, and not from one that is at work',
    inEachShell(async ({ home, start, open }) => {
      const holding = await open({ holder: 'the one that holds' });
      const busy = holding.send('do', 'sleep 1');
      const preempting = start({ mode: 'preempt', holder: 'a rollback', path: home.path('elsewhere'), waitTicks: 300 });
      expect(await preempting.hear('waiting')).toBe('waiting none the one that holds');
      expect((await holding.ended(busy)).code).toBe(0);
      expect(await holding.hear('undoing')).toBe('undoing preempted a rollback');
      await holding.hear('undone');
      expect((await holding.run('ask', 'echo report')).stdout).toBe('report\n');
      expect(preempting.has('locked')).toBe(false);
      await holding.bye();
      await preempting.hear('locked');
      expect(home.state()).toEqual(OLD);
      await preempting.bye();
    }),
  );

  test.concurrent(
    'preempt does not take it from one that could preempt itself: two rollbacks would undo each other',
    inEachShell(async ({ home, start }) => {
      const first = start({ mode: 'preempt', holder: 'a rollback' }).begin(journal());
      await first.hear('begun');
      const second = start({ mode: 'preempt', holder: 'another', waitTicks: 300 });
      expect(await second.hear('waiting')).toBe('waiting r1 a rollback');
      // Long enough for it to be asked to go.
      expect((await first.run('ask', 'sleep 1')).code).toBe(0);
      expect((await first.run('ask', 'sleep 1')).code).toBe(0);
      expect(first.has('undoing')).toBe(false);
      first.write('abort\n');
      await first.hear('undone');
      await first.bye();
      await second.hear('locked');
      await second.bye();
      await home.expectNothingLeft();
    }),
  );

  test.concurrent(
    'preempt takes it from one that yields, whatever that is at',
    inEachShell(async ({ home, start }) => {
      const yielding = start({ mode: 'yield', holder: 'a backup' });
      await yielding.hear('locked');
      yielding.send('ask', 'echo $$ >"$HOME/busy"; exec sleep 60');
      await until('it is at work', () => existsSync(home.path('busy')), 20);
      const preempting = start({ mode: 'preempt', holder: 'a rollback', waitTicks: 300 });
      expect(await preempting.hear('waiting')).toBe('waiting r1 a backup');
      expect(await yielding.hear('undoing')).toBe('undoing preempted a rollback');
      await yielding.hear('undone');
      const pid = Number(readFileSync(home.path('busy'), 'utf8'));
      expect(() => process.kill(pid, 0)).toThrow('ESRCH');
      await yielding.bye();
      await preempting.hear('locked');
      expect(home.state()).toEqual(OLD);
      await preempting.bye();
      await home.expectNothingLeft();
    }),
  );

  test.concurrent(
    'a store that cannot be written: said, and nothing is locked',
    inEachShell(async ({ home, start }) => {
      writeFileSync(home.path('file'), '');
      const session = start({ path: home.path('file', 'below') });
      expect(await session.hear('unlocked')).toMatch(/unlocked .*(Not a directory|not a directory)/);
      expect((await session.run('ask', 'echo look')).stdout).toBe('look\n');
      await session.bye();
      await home.expectNobody();
    }),
  );

  test.concurrent.each<[string, SessionOptions]>([
    ['a project that leads out', { project: '../x' }],
    ['a project like an option', { project: '-x' }],
    ['a lease that is no number', { leaseTicks: '$(touch pwned)' }],
    ['a lease like an octal number', { leaseTicks: '08' }],
    ['an unknown mode', { mode: 'destroy' }],
  ])(
    'refuses %s',
    inEachShell(async ({ home, start }, _, options) => {
      const session = start(options);
      await session.hear('refused');
      expect((await session.exit).code).toBe(64);
      expect(readdirSync(home.folder)).not.toContain('pwned');
    }),
  );

  test.concurrent(
    'without HOME and XDG_RUNTIME_DIR',
    inEachShell(async ({ home, start }) => {
      const session = start({ environment: { HOME: undefined, XDG_RUNTIME_DIR: undefined } });
      await session.hear('locked');
      expect((await session.run('ask', 'pwd')).stdout).toBe(`${home.folder}\n`);
      await session.bye();
      expect(existsSync(home.path('.slipway-locks', 'shop'))).toBe(true);
    }),
  );
});

describe('a runner that is not ours', () => {
  test.concurrent.each<[string, string | Uint8Array]>([
    ['a word that is none', 'help\n'],
    ['binary', Buffer.from([0, 1, 2, 255, 10, 0, 10])],
    ['a line of a megabyte', `beat ${'x'.repeat(1_000_000)}\n`],
    ['a file that leads out', 'put ../x 4\nabcd'],
    ['a file with a name like ..', 'put .. 4\nabcd'],
    ['a size that is none', 'put x -1\n'],
    ['a size beyond all bounds', 'put x 99999999999999999999\n'],
    ['a step that leads out', 'do ../x 10 kill\n'],
    ['a limit that is a program', 'ask 1 a[$(touch${IFS}pwned)] kill\n'],
    ['a limit like an octal number', 'ask 1 08 kill\n'],
    ['a kind of end that is none', 'ask 1 10 never\n'],
    ['glob', 'ask * * *\n'],
    ['several in one line', 'stop 1;commit\n'],
  ])(
    '%s: given up and undone',
    inEachShell(async ({ home, start }, _, text) => {
      const session = start().begin(journal());
      await session.hear('begun');
      session.write(text);
      await session.hear('undone');
      expect((await session.exit).code).toBe(0);
      expect(home.state()).toEqual(OLD);
      expect(readdirSync(home.folder)).not.toContain('pwned');
      await home.expectNothingLeft();
    }),
  );

  test.concurrent(
    'half a line at the end of input is not carried out',
    inEachShell(async ({ home, open }) => {
      const session = await open();
      session.write('commit');
      session.child.stdin.end();
      await session.hear('undone');
      expect(home.state()).toEqual(OLD);
      await home.expectNothingLeft();
    }),
  );

  test.concurrent(
    'half a file at the end of input is not carried out',
    inEachShell(async ({ home, open }) => {
      const session = await open();
      session.write('put 9.sh 1000\ntouch "$HOME/half"\ndo 9 10 kill\ncommit\n');
      session.child.stdin.end();
      await session.hear('undone');
      expect(readdirSync(home.folder)).not.toContain('half');
      expect(home.state()).toEqual(OLD);
    }),
  );

  test.concurrent.each(['cut', 'silence', 'block'] as const)(
    'one that is dead or blocked: the step under way is ended, all is undone, the lock is free: %s',
    inEachShell(async ({ home, open, next }, how) => {
      const session = await open({ leaseTicks: how === 'cut' ? 1000 : LEASE });
      session.send('do', `${makeFile('new-1')}\nwhile :; do head -c 100000 /dev/zero; done`);
      await until('the step runs', () => home.state().files.includes('new-1'));
      session[how]();
      const after = await next();
      expect(after.lines.at(-1)).toMatch(/^locked r1 /);
      expect(after.has('recovering')).toBe(false);
      expect(home.state()).toEqual(OLD);
      await after.bye();
      session.unblock();
      await home.expectNothingLeft();
    }),
  );

  onSmallDisk(
    'what does not fit into memory is not read as lines',
    inEachShell(async ({ home, open }) => {
      await withDisk(home.path('run'), 'size=64k', async () => {
        const session = await open();
        session.put('9.in', 'commit\n'.repeat(20_000));
        expect(await session.hear('note')).toContain('does not fit');
        await session.hear('undone');
        await session.exit;
        expect(home.state()).toEqual(OLD);
        expect(readdirSync(home.path('run'))).toEqual([]);
      });
    }),
  );

  test.concurrent(
    'hundreds of steps ahead, and it never reads: undone at the end of the lease',
    inEachShell(async ({ home, open, next }) => {
      const session = await open({ leaseTicks: LEASE });
      session.block();
      for (let n = 0; n < 300; n++) session.send('do', 'head -c 100000 /dev/zero');
      const after = await next();
      expect(after.lines.at(-1)).toMatch(/^locked r1 /);
      expect(home.state()).toEqual(OLD);
      await after.bye();
      session.unblock();
      await home.expectNothingLeft();
    }),
  );
});

describe('a full disk', () => {
  const fill = 'cat /dev/zero >"$HOME/shop/.slipway/filler"';

  onSmallDisk(
    'in a step, at the begin, and under a killed session: undone; nothing is locked where nothing can be written',
    inEachShell(async ({ home, start, open, next }) => {
      await withDisk(home.path('shop'), 'size=256k', async () => {
        home.deployed().file('old-1');
        const filling = await open();
        const { code } = await filling.run('do', `${makeFile('new-1')}\n${fill}`);
        expect(code).not.toBe(0);
        await filling.hear('undone');
        expect(home.state()).toEqual(OLD);
        // The filler is no file of ours.
        isFull(home.store('filler-2'));
        filling.begin(journal({ undo: Array.from({ length: 300 }, (_, n) => `remove-files new-${n}`) }));
        await until('undone', () => filling.lines.filter((line) => line === 'undone').length === 2);
        expect(filling.lines.at(-2)).toMatch(/^undoing begin .*is the disk full/);
        await filling.bye();

        rmSync(home.store('filler'));
        rmSync(home.store('filler-2'));
        const killed = await open();
        killed.send('do', `${makeFile('new-1')}\n${fill}; sleep 1000`);
        await until('it is full', () => isFull(home.store('probe')));
        for (const one of home.processes()) kill(one.pid, 'SIGKILL');
        const after = await next();
        expect(after.lines).toContain('recovered r2 undone');
        expect(after.lines.at(-1)).toMatch(/^locked r1 /);
        expect(home.state()).toEqual(OLD);
        await after.bye();

        isFull(home.store('filler'));
        const first = start({ path: home.path('shop', 'another'), project: 'another' });
        expect(await first.hear('unlocked', 'locked')).toMatch(/^unlocked /);
        await first.bye();
        rmSync(home.store('filler'));
        rmSync(home.store('probe'));
        await home.expectNothingLeft();
      });
    }),
  );

  onSmallDisk(
    'at the commit: all of it or nothing',
    inEachShell(async ({ home, open, next }) => {
      // No room for one more name.
      await withDisk(home.path('shop'), 'size=1m,nr_inodes=40', async () => {
        home.deployed().file('old-1');
        const session = await open();
        expect((await session.run('do', makeFile('new-1'))).code).toBe(0);
        for (let n = 0; n < 40; n++) {
          try {
            writeFileSync(home.path('shop', `filler-${n}`), '');
          } catch {
            break;
          }
        }
        session.write('commit\n');
        expect(await session.hear('undoing', 'committed')).toMatch(/^undoing commit /);
        await session.hear('undone');
        expect(home.state()).toEqual(OLD);
        await session.bye();
        const after = await next();
        expect(after.lines.at(-1)).toMatch(/^locked r1 /);
        await after.bye();
        await home.expectNothingLeft();
      });
    }),
  );
});

describe('what is left of a session that was killed', () => {
  test.concurrent.each(['the heir', 'the next session'])(
    'a step that had not quite begun does not begin after %s has undone it',
    inEachShell(async ({ home, start }, who) => {
      // The last moment before a step takes the lock of steps; and undoing lasts until the test has seen enough.
      home.install(
        'flock',
        `#!/bin/sh
if [ "$*" = 7 ] && [ -e "$HOME/hold" ]; then
  echo >"$HOME/held"
  while [ -e "$HOME/hold" ]; do /bin/sleep 0.05; done
fi
PATH=\${PATH#*:}
exec flock "$@"
`,
      );
      home.install(
        'docker',
        '#!/bin/sh\n[ "$1" = ps ] || exit 0\necho >"$HOME/undoing"\nwhile [ -e "$HOME/wait" ]; do /bin/sleep 0.05; done\n',
      );
      writeFileSync(home.path('wait'), '');
      const session = start({ leaseTicks: 1000 }).begin(journal({ undo: ['remove-files new-1', 'keep-only web'] }));
      expect((await session.run('do', storeRelease())).code).toBe(0);
      writeFileSync(home.path('hold'), '');
      session.send('do', makeFile('new-1'));
      await until('it is about to begin', () => existsSync(home.path('held')));
      const ours = home.processes();
      const held = ours.filter((one) => one.pgrp !== session.pid);
      expect(held.length).toBeGreaterThan(0);
      if (who === 'the heir') {
        kill(session.pid, 'SIGKILL');
      } else {
        const spared = new Set(held.map((one) => one.pid));
        for (const one of ours) if (!spared.has(one.pid)) kill(one.pid, 'SIGKILL');
      }
      const begin = (): Session => start({ holder: 'the next session', waitTicks: 1000, leaseTicks: 1000 });
      // Not yet where the heir undoes: it removes what the dead had stored of their steps.
      const early = who === 'the heir' ? undefined : begin();
      await until('it is being undone', () => existsSync(home.path('undoing')));
      rmSync(home.path('hold'));
      await until('the step has ended', () => {
        const alive = new Set(home.processes().map((one) => one.pid));
        return !held.some((one) => alive.has(one.pid));
      });
      rmSync(home.path('wait'));
      const after = early ?? begin();
      await after.hear('locked');
      expect(home.state()).toEqual(OLD);
      await after.bye();
      await home.expectNothingLeft();
    }),
  );

  test.concurrent(
    'main: the heir undoes within two ticks, and lets go',
    inEachShell(async ({ home, open }) => {
      const session = await open();
      session.send('do', `${makeFile('new-1')}\nsleep 1000`);
      await until(
        'the step runs',
        () => home.state().files.includes('new-1 (in part)') || home.state().files.includes('new-1'),
      );
      const began = performance.now();
      kill(session.pid, 'SIGKILL');
      await until('undone', () => !existsSync(home.store('journal')));
      expect(performance.now() - began).toBeLessThan(3000);
      await home.expectNothingLeft();
      expect(home.state()).toEqual(OLD);
    }),
  );

  test.concurrent(
    'the heir dies too: its own heir',
    inEachShell(async ({ home, start }) => {
      // Undoing takes a while.
      home.install('docker', `#!/bin/sh\ncase $1 in ps) sleep 1 ;; esac\n`);
      const session = start();
      session.begin(journal({ undo: ['keep-only web', 'remove-files new-1'] }));
      await session.hear('begun');
      await session.run('do', makeFile('new-1'));
      const heir = home
        .processes()
        .find((one) => one.command.includes(session.token) && one.ppid !== session.pid && one.pid !== session.pid);
      kill(session.pid, 'SIGKILL');
      await until('the heir is at work', () => home.processes().some((one) => one.command.includes('docker ps')));
      kill(heir?.pid ?? 0, 'SIGKILL');
      await until('undone', () => !existsSync(home.store('journal')));
      await home.expectNothingLeft();
    }),
  );

  test.concurrent(
    'everything: the next one undoes, and removes its files',
    inEachShell(async ({ home, open, next }) => {
      const session = await open();
      session.send('do', `${makeFile('new-1')}\nsleep 1000`, { stdin: 'a secret' });
      await until('the step runs', () => home.state().files.includes('new-1'));
      for (const one of home.processes()) kill(one.pid, 'SIGKILL');
      await session.exit;
      expect(readdirSync(home.path('run'))).toHaveLength(1);
      const after = await next();
      expect(after.lines).toContain('recovered r2 undone');
      await after.bye();
      await home.expectNothingLeft();
      expect(home.state()).toEqual(OLD);
    }),
  );

  test.concurrent(
    'an heir never touches the journal of the session that came after a clean end',
    inEachShell(async ({ home, start, open }) => {
      const first = start();
      await first.hear('locked');
      // Its ticker stands still over its end.
      const helpers = home.processes().filter((one) => one.pid !== first.pid && one.command.includes(first.token));
      for (const one of helpers) kill(one.pid, 'SIGSTOP');
      first.write('bye\n');
      await sleep(200);
      kill(first.pid, 'SIGKILL');
      for (const one of helpers) kill(one.pid, 'SIGCONT');
      const second = await open();
      await sleep(500);
      expect(existsSync(home.store('journal'))).toBe(true);
      second.write('commit\n');
      await second.hear('finished');
      await second.bye();
      await home.expectNothingLeft();
    }),
  );

  test.concurrent(
    'a ticker that was killed is replaced: the lease holds',
    inEachShell(async ({ home, open }) => {
      const session = await open({ leaseTicks: LEASE });
      const shells = home
        .processes()
        .filter((one) => one.command.includes(session.token) && one.ppid !== session.pid && one.pid !== session.pid);
      // The one whose parent is not main itself.
      expect(shells).toHaveLength(1);
      kill(shells[0]?.pid ?? 0, 'SIGKILL');
      session.silence();
      expect(await session.hear('undoing')).toBe('undoing lease');
      await session.hear('undone');
      await home.expectNothingLeft();
    }),
  );
});

test.concurrent(
  'no end of a store is left when its folder is a link, and the project goes on',
  inEachShell(async ({ home, start }) => {
    mkdirSync(home.path('real'));
    symlinkSync(home.path('real'), home.path('linked'));
    const first = start({ path: home.path('linked'), project: 'linked' });
    await first.hear('locked');
    const second = start({ path: home.path('real'), project: 'real', waitTicks: 0 });
    await second.hear('held');
    await first.bye();
  }),
);
