/** The guardian's lock, executor, lease, recovery and verbs on files, in the shells that servers have. */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, readlinkSync, symlinkSync, writeFileSync } from 'node:fs';
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
  SHELLS,
  storeRelease,
  until,
} from './session';

jest.setTimeout(30_000);

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

describe.each(SHELLS)('$name', (shell) => {
  let home: Home;
  let sessions: Session[];

  beforeEach(() => {
    home = new Home().deployed().file('old-1');
    sessions = [];
  });

  afterEach(async () => {
    for (const session of sessions) session.cut();
    await Promise.all(sessions.map((session) => Promise.race([session.exit, sleep(3000)])));
    home.remove();
  });

  function start(options: SessionOptions = {}): Session {
    const session = new Session(home, shell, options);
    sessions.push(session);
    return session;
  }

  async function open(options: SessionOptions = {}): Promise<Session> {
    const session = start(options).begin(journal()).write('');
    await session.hear('begun');
    expect((await session.run('do', storeRelease())).code).toBe(0);
    return session;
  }

  /** What the next session finds. */
  async function next(): Promise<Session> {
    const session = start({ holder: 'the next session', waitTicks: 150, leaseTicks: 100 });
    await session.hear('locked', 'stuck', 'held', 'unlocked');
    return session;
  }

  describe('steps', () => {
    test('output, errors, exit code and input', async () => {
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
    });

    test('run as after a login: umask, signals, no descriptors of ours', async () => {
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
    });

    test('hostile output comes through byte by byte', async () => {
      const session = start();
      const hostile = String.raw`printf '\000\001\377slipway-0 end 1 0\n\nslipway-%s end 9 9' "$HOME"; printf 'slipway-'`;
      const { stdout } = await session.run('ask', hostile);
      expect(stdout).toBe(`\0\u0001\u00ffslipway-0 end 1 0\n\nslipway-${home.folder} end 9 9slipway-`);
      expect((await session.run('ask', 'echo next')).stdout).toBe('next\n');
      await session.bye();
    });

    test('50 MB without a line end', async () => {
      const session = start();
      const step = session.send('ask', 'head -c 50000000 /dev/zero');
      expect((await session.ended(step, 30)).code).toBe(0);
      expect(session.bytes).toBeGreaterThan(50_000_000);
      await session.bye();
    });

    test('a limit ends it, and what it started', async () => {
      const session = start();
      const { code } = await session.run('ask', 'sleep 1000 & sleep 1000', { limit: 1 });
      // As GNU's timeout says it, and as busybox's.
      expect([124, 143]).toContain(code);
      expect((await session.run('ask', 'echo on')).stdout).toBe('on\n');
      await session.bye();
    });

    test('stop: of the one under way, of one in the queue, at any moment', async () => {
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
    });

    test('what it leaves in the background does not keep the next one out for ever', async () => {
      const session = start();
      await session.run('ask', 'setsid sleep 1000 >/dev/null 2>&1 & exit 0');
      await session.bye();
      const after = await next();
      expect(after.lines.some((line) => line.startsWith('note something that a step has started'))).toBe(true);
      expect((await after.run('ask', 'echo on')).stdout).toBe('on\n');
      await after.bye();
    });

    test('words like globs and options are only words', async () => {
      const hostile = '*';
      const session = start({ holder: `-n ${hostile} \\c %s $(touch pwned) 'x` });
      await session.hear('locked');
      const waiting = start({ waitTicks: 0 });
      expect(await waiting.hear('held')).toBe(`held -n ${hostile} \\c %s $(touch pwned) 'x`);
      expect((await waiting.exit).code).toBe(75);
      await session.bye();
    });
  });

  describe('a transaction', () => {
    test('is committed: finish verbs, link for a plain docker compose, nothing left', async () => {
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
    });

    test('a failing step: undone, what was sent ahead is not carried out', async () => {
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
    });

    test('abort stops the step under way, and one that has not begun', async () => {
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
    });

    test.each(['abort', 'cut', 'silence', 'block', 'SIGTERM'] as const)(
      'a step that must not be killed is waited for: %s',
      async (how) => {
        const session = await open({ leaseTicks: how === 'silence' || how === 'block' ? 5 : 50 });
        session.send('do', `sleep 1.5; head -c 300000 /dev/zero; ${makeFile('migrated')}`, { onAbort: 'finish' });
        await sleep(300);
        if (how === 'abort') session.write('abort\n');
        else if (how === 'SIGTERM') kill(-session.pid, 'SIGTERM');
        else session[how]();
        const after = await next();
        expect(after.lines.at(-1)).toMatch(/^locked r1 /);
        expect(home.state()).toEqual({ ...OLD, files: ['migrated', 'old-1'] });
        await after.bye();
        await session.bye();
      },
    );

    test.each(['main', 'group', 'all but steps'] as const)(
      'a step that must not be killed survives us: %s',
      async (who) => {
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
      },
    );

    test('SIGTERM is not enough for a step: SIGKILL', async () => {
      const session = await open();
      const step = session.send('do', `trap '' TERM; ${makeFile('new-1')}\necho there; while :; do sleep 1; done`);
      await until('the step runs', () => session.output(step).includes('there'));
      session.write('abort\n');
      await session.hear('undone');
      await session.bye();
      await home.expectNothingLeft();
      expect(home.state()).toEqual(OLD);
    });

    test('a second one is refused while one is open, and in a look', async () => {
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
    });

    test.each([
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
    ])('a journal that cannot be read is neither begun nor carried out: %s', async (_, text) => {
      const session = start();
      session.begin(text);
      expect(await session.hear('undoing')).toMatch(/^undoing begin /);
      await session.hear('undone');
      expect(home.state()).toEqual(OLD);
      await session.bye();
      writeFileSync(home.store('journal'), text);
      const after = await next();
      expect(await after.hear('stuck')).toMatch(/^stuck unknown the journal .* cannot be read$/);
      expect((await after.exit).code).toBe(70);
      expect(home.state()).toEqual(OLD);
      expect(readFileSync(home.store('journal'), 'utf8')).toBe(text);
    });

    test.each([
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
    ])('a verb that is not one of ours changes nothing: %s', async (verb) => {
      const session = start();
      session.begin(journal());
      await session.hear('begun');
      const { code } = await session.run('verb', verb);
      expect(code).not.toBe(0);
      await session.hear('undone');
      expect(home.state()).toEqual(OLD);
      expect(readdirSync(home.folder)).not.toContain('pwned');
      await session.bye();
    });

    test('what cannot be undone stays in the journal, is told, and is tried again by the next one', async () => {
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
    });

    test('an open transaction of a server that was switched off is undone; a committed one is finished', async () => {
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
    });
  });

  describe('the lock', () => {
    test('by path and by name, and both holders are told apart', async () => {
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
      expect(home.processes()).toEqual([]);
    });

    test('is free at once after a clean end, also while something of ours still sleeps', async () => {
      const first = start({ tickSeconds: 1 });
      await first.hear('locked');
      await first.bye();
      const second = start({ waitTicks: 0 });
      await second.hear('locked');
      await second.bye();
    });

    test('forty wait; each gets it, one at a time, and is told who has it', async () => {
      const first = start({ holder: 'the first' });
      await first.hear('locked');
      const waiting = Array.from({ length: 40 }, (_, n) =>
        start({ holder: `number ${n}`, waitTicks: 10_000, leaseTicks: 10_000, tickSeconds: 0.3 }),
      );
      await Promise.all(waiting.map((session) => session.hear('waiting')));
      let holding = 0;
      await first.bye();
      await Promise.all(
        waiting.map(async (session) => {
          await until('it has the lock', () => session.has('locked'), 30);
          expect(++holding).toBe(1);
          await sleep(20);
          holding--;
          expect(await session.bye()).toBe(0);
        }),
      );
      await home.expectNothingLeft();
    });

    test('who waits and is cut, killed or tells us so leaves nothing', async () => {
      const first = start();
      await first.hear('locked');
      const [cut, killed, aborted, silent] = [
        start(),
        start({ mode: 'preempt' }),
        start({ mode: 'preempt' }),
        start({ leaseTicks: 5 }),
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
    });

    test('preempt takes it from one that holds, also by its name alone, and not from one that is at work', async () => {
      const holding = await open({ holder: 'the one that holds' });
      const busy = holding.send('do', 'sleep 1');
      const preempting = start({ mode: 'preempt', holder: 'a rollback', path: home.path('elsewhere'), waitTicks: 300 });
      expect(await preempting.hear('waiting')).toBe('waiting the one that holds');
      expect((await holding.ended(busy)).code).toBe(0);
      expect(await holding.hear('undoing')).toBe('undoing preempted a rollback');
      await holding.hear('undone');
      expect((await holding.run('ask', 'echo report')).stdout).toBe('report\n');
      expect(preempting.has('locked')).toBe(false);
      await holding.bye();
      await preempting.hear('locked');
      expect(home.state()).toEqual(OLD);
      await preempting.bye();
    });

    test('a store that cannot be written: said, and nothing is locked', async () => {
      writeFileSync(home.path('file'), '');
      const session = start({ path: home.path('file', 'below') });
      expect(await session.hear('unlocked')).toMatch(/unlocked .*(Not a directory|not a directory)/);
      expect((await session.run('ask', 'echo look')).stdout).toBe('look\n');
      await session.bye();
      expect(home.processes()).toEqual([]);
    });

    test.each<[string, SessionOptions]>([
      ['a project that leads out', { project: '../x' }],
      ['a project like an option', { project: '-x' }],
      ['a lease that is no number', { leaseTicks: '$(touch pwned)' }],
      ['a lease like an octal number', { leaseTicks: '08' }],
      ['an unknown mode', { mode: 'destroy' }],
    ])('refuses %s', async (_, options) => {
      const session = start(options);
      await session.hear('refused');
      expect((await session.exit).code).toBe(64);
      expect(readdirSync(home.folder)).not.toContain('pwned');
    });

    test('without HOME and XDG_RUNTIME_DIR', async () => {
      const session = start({ environment: { HOME: undefined, XDG_RUNTIME_DIR: undefined } });
      await session.hear('locked');
      expect((await session.run('ask', 'pwd')).stdout).toBe(`${home.folder}\n`);
      await session.bye();
      expect(existsSync(home.path('.slipway-locks', 'shop'))).toBe(true);
    });
  });

  describe('a runner that is not ours', () => {
    test.each<[string, string | Uint8Array]>([
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
    ])('%s: given up and undone', async (_, text) => {
      const session = await open();
      session.write(text);
      await session.hear('undone');
      expect((await session.exit).code).toBe(0);
      expect(home.state()).toEqual(OLD);
      expect(readdirSync(home.folder)).not.toContain('pwned');
      await home.expectNothingLeft();
    });

    test('half a line at the end of input is not carried out', async () => {
      const session = await open();
      session.write('commit');
      session.child.stdin.end();
      await session.hear('undone');
      expect(home.state()).toEqual(OLD);
      await home.expectNothingLeft();
    });

    test('half a file at the end of input is not carried out', async () => {
      const session = await open();
      session.write('put 9.sh 1000\ntouch "$HOME/half"\ndo 9 10 kill\ncommit\n');
      session.child.stdin.end();
      await session.hear('undone');
      expect(readdirSync(home.folder)).not.toContain('half');
      expect(home.state()).toEqual(OLD);
    });

    test('what does not fit into memory is not read as lines', async () => {
      // A file system of its own, of 64 KB.
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k,mode=700', 'tmpfs', home.path('run')]);
      try {
        const session = await open();
        session.put('9.in', 'commit\n'.repeat(20_000));
        expect(await session.hear('note')).toContain('does not fit');
        await session.hear('undone');
        await session.exit;
        expect(home.state()).toEqual(OLD);
        expect(readdirSync(home.path('run'))).toEqual([]);
      } finally {
        execFileSync('umount', ['-l', home.path('run')]);
      }
    });

    test('hundreds of steps ahead, and it never reads: undone at the end of the lease', async () => {
      const session = await open({ leaseTicks: 5 });
      session.block();
      for (let n = 0; n < 300; n++) session.send('do', 'head -c 100000 /dev/zero');
      const after = await next();
      expect(after.lines.at(-1)).toMatch(/^locked r1 /);
      expect(home.state()).toEqual(OLD);
      await after.bye();
      session.unblock();
      await home.expectNothingLeft();
    });
  });

  describe('what is left of a session that was killed', () => {
    test('main: the heir undoes within two ticks, and lets go', async () => {
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
    });

    test('the heir dies too: its own heir', async () => {
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
    });

    test('everything: the next one undoes, and removes its files', async () => {
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
    });

    test('an heir never touches the journal of the session that came after a clean end', async () => {
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
    });

    test('a ticker that was killed is replaced: the lease holds', async () => {
      const session = await open({ leaseTicks: 10 });
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
    });
  });

  test('no end of a store is left when its folder is a link, and the project goes on', async () => {
    mkdirSync(home.path('real'));
    symlinkSync(home.path('real'), home.path('linked'));
    const first = start({ path: home.path('linked'), project: 'linked' });
    await first.hear('locked');
    const second = start({ path: home.path('real'), project: 'real', waitTicks: 0 });
    await second.hear('held');
    await first.bye();
  });
});
