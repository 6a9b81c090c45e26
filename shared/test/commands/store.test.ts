import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createInterface } from 'node:readline';
import {
  adoptCurrent,
  closeJournal,
  guardStep,
  holdLock,
  LOCK_LOST,
  pointCurrent,
  pruneStore,
  storeRelease,
  withdrawCurrent,
  writeJournal,
} from '../../src/commands/store';
import type { Command } from '../../src/model/command';
import { layoutStore, type StoreLayout } from '../../src/releases/layout';
import { packTar } from '../../src/releases/tar';
import { HOSTILE, Machine, SHELLS } from '../shells';

const FIRST = '20261122T100000Z-aaaaaaa';
const SECOND = '20261122T110000Z-bbbbbbb';
const ADDRESS = 'f'.repeat(64);

function release(id: string, address = ADDRESS, text = 'server {}'): Promise<Uint8Array> {
  return packTar([
    { path: `releases/${id}/compose.yaml`, content: `# ${id}\n` },
    { path: `releases/${id}/env`, content: 'PASSWORD=secret\n' },
    { path: `releases/${id}/release.json`, content: JSON.stringify({ id }) },
    { path: `files/${address}/nginx/site.conf`, content: text, mode: 0o644 },
    { path: `files/${address}/nginx/bin/start.sh`, content: '#!/bin/sh', mode: 0o755 },
  ]);
}

const mode = (path: string): string => (lstatSync(path).mode & 0o777).toString(8);

describe.each(SHELLS)('the store, in $name', (shell) => {
  let machine: Machine;
  let layout: StoreLayout;

  beforeEach(() => {
    machine = new Machine(shell);
    layout = layoutStore(machine.path("apps/it's $(touch pwned) ☃"));
  });

  afterEach(() => {
    machine.remove();
  });

  const prepare = (): void => {
    mkdirSync(layout.releases, { recursive: true, mode: 0o700 });
    mkdirSync(layout.files, { mode: 0o700 });
    chmodSync(layout.store, 0o700);
  };

  const succeed = (command: Parameters<Machine['run']>[0], stdin?: string | Uint8Array): string => {
    const { exitCode, stdout, stderr } = machine.run(command, stdin === undefined ? {} : { stdin });
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
    return stdout;
  };

  const store = async (id: string, address?: string, text?: string): Promise<void> => {
    succeed(storeRelease(layout, id, await release(id, address, text)));
  };

  describe('storeRelease', () => {
    beforeEach(prepare);

    test('writes the release for its owner alone, and shipped files for the users of containers', async () => {
      await store(FIRST);
      expect(readFileSync(`${layout.releases}/${FIRST}/env`, 'utf8')).toBe('PASSWORD=secret\n');
      expect(mode(`${layout.releases}/${FIRST}`)).toBe('700');
      for (const file of ['compose.yaml', 'env', 'release.json'])
        expect(mode(`${layout.releases}/${FIRST}/${file}`)).toBe('600');
      expect(mode(`${layout.files}/${ADDRESS}`)).toBe('755');
      expect(mode(`${layout.files}/${ADDRESS}/nginx/site.conf`)).toBe('644');
      expect(mode(`${layout.files}/${ADDRESS}/nginx/bin/start.sh`)).toBe('755');
      expect(readdirSync(layout.store).sort()).toEqual(['files', 'releases']);
    });

    test('leaves files alone that are there: a container may have them mounted', async () => {
      await store(FIRST);
      const { ino } = lstatSync(`${layout.files}/${ADDRESS}/nginx/site.conf`);
      await store(SECOND);
      expect(lstatSync(`${layout.files}/${ADDRESS}/nginx/site.conf`).ino).toBe(ino);
    });

    test('does not touch a release that is there', async () => {
      await store(FIRST);
      const again = machine.run(storeRelease(layout, FIRST, await release(FIRST, 'e'.repeat(64))));
      expect(again).toMatchObject({ exitCode: 73, stderr: `release ${FIRST} is in the store already\n` });
      expect(readdirSync(`${layout.releases}/${FIRST}`).sort()).toEqual(['compose.yaml', 'env', 'release.json']);
    });

    test('leaves nothing of a release that arrived cut off, wherever the cut is', async () => {
      const tar = await release(FIRST);
      for (const length of [0, 100, 512, 1024, 2048, 3072, tar.length - 2048, tar.length - 512, tar.length - 1]) {
        const { exitCode } = machine.run(storeRelease(layout, FIRST, tar), { stdin: tar.subarray(0, length) });
        expect([length, exitCode]).toEqual([length, 74]);
        expect([
          readdirSync(layout.releases),
          readdirSync(layout.files),
          existsSync(`${layout.store}/incoming`),
        ]).toEqual([[], [], false]);
      }
    });

    test('clears away what a killed session left', async () => {
      mkdirSync(`${layout.store}/incoming/files/${ADDRESS}`, { recursive: true });
      await store(FIRST);
      expect(existsSync(`${layout.files}/${ADDRESS}/nginx/site.conf`)).toBe(true);
      expect(existsSync(`${layout.store}/incoming`)).toBe(false);
    });

    test('stops and leaves nothing when the connection hangs up', async () => {
      const tar = await release(FIRST);
      const process = machine.start(storeRelease(layout, FIRST, tar));
      process.stdin.on('error', () => undefined);
      process.stdin.write(tar.subarray(0, 512));
      for (let tries = 0; tries < 200 && !existsSync(`${layout.store}/incoming/tar`); tries++) {
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
      process.kill('SIGHUP');
      process.stdin.end();
      await once(process, 'close');
      expect(readdirSync(layout.releases)).toEqual([]);
      expect(existsSync(`${layout.store}/incoming`)).toBe(false);
    });
  });

  describe('pointCurrent', () => {
    beforeEach(async () => {
      prepare();
      await store(FIRST);
      await store(SECOND);
    });

    test('switches current, links compose.yaml, keeps the file that was there, and ends the journal', () => {
      writeFileSync(layout.composeLink, 'services: {}\n');
      writeFileSync(layout.journal, '{}');
      succeed(pointCurrent(layout, FIRST));
      expect(readlinkSync(layout.current)).toBe(`releases/${FIRST}`);
      expect(readFileSync(layout.composeLink, 'utf8')).toBe(`# ${FIRST}\n`);
      expect(readFileSync(`${layout.composeLink}.before-slipway`, 'utf8')).toBe('services: {}\n');
      expect(existsSync(layout.journal)).toBe(false);
      succeed(pointCurrent(layout, SECOND));
      succeed(pointCurrent(layout, SECOND));
      expect(readFileSync(layout.composeLink, 'utf8')).toBe(`# ${SECOND}\n`);
      expect(readFileSync(`${layout.composeLink}.before-slipway`, 'utf8')).toBe('services: {}\n');
    });

    test('a file that was kept before is kept, and the one that is there now is, too', () => {
      const kept = `${layout.composeLink}.before-slipway`;
      writeFileSync(kept, '# oldest\n');
      writeFileSync(layout.composeLink, '# by hand\n');
      succeed(pointCurrent(layout, FIRST));
      expect(readFileSync(kept, 'utf8')).toBe('# oldest\n');
      expect(readFileSync(`${kept}.${FIRST}`, 'utf8')).toBe('# by hand\n');
      expect(readFileSync(layout.composeLink, 'utf8')).toBe(`# ${FIRST}\n`);
      rmSync(layout.composeLink);
      writeFileSync(layout.composeLink, '# by hand again\n');
      succeed(pointCurrent(layout, SECOND));
      expect(readFileSync(kept, 'utf8')).toBe('# oldest\n');
      expect(readFileSync(`${kept}.${FIRST}`, 'utf8')).toBe('# by hand\n');
      expect(readFileSync(`${kept}.${SECOND}`, 'utf8')).toBe('# by hand again\n');
    });

    test('what a killed session left half-way does not lead it to another release', () => {
      succeed(pointCurrent(layout, FIRST));
      symlinkSync(`releases/${FIRST}`, `${layout.store}/.current.new`);
      succeed(pointCurrent(layout, SECOND));
      expect(readlinkSync(layout.current)).toBe(`releases/${SECOND}`);
      expect(readdirSync(`${layout.releases}/${FIRST}`).sort()).toEqual(['compose.yaml', 'env', 'release.json']);
    });

    test('refuses a release that is not in the store, and changes nothing', () => {
      succeed(pointCurrent(layout, FIRST));
      writeFileSync(layout.journal, '{}');
      expect(machine.run(pointCurrent(layout, '20261122T120000Z-ccccccc')).exitCode).toBe(66);
      expect(readlinkSync(layout.current)).toBe(`releases/${FIRST}`);
      expect(existsSync(layout.journal)).toBe(true);
    });

    test('adoptCurrent leaves the Compose file in the project folder as it is', () => {
      writeFileSync(layout.composeLink, 'services: {}\n');
      symlinkSync(`releases/${SECOND}`, `${layout.store}/.current.new`);
      succeed(adoptCurrent(layout, FIRST));
      succeed(adoptCurrent(layout, FIRST));
      expect(readlinkSync(layout.current)).toBe(`releases/${FIRST}`);
      expect(readFileSync(layout.composeLink, 'utf8')).toBe('services: {}\n');
    });
  });

  describe('withdrawCurrent', () => {
    beforeEach(async () => {
      prepare();
      await store(FIRST);
      await store(SECOND);
    });

    test('goes back to the release before, and only from the one that it is asked to withdraw', () => {
      succeed(pointCurrent(layout, FIRST));
      succeed(withdrawCurrent(layout, SECOND, FIRST));
      expect(readlinkSync(layout.current)).toBe(`releases/${FIRST}`);
      succeed(pointCurrent(layout, SECOND));
      succeed(withdrawCurrent(layout, SECOND, FIRST));
      succeed(withdrawCurrent(layout, SECOND, FIRST));
      expect(readlinkSync(layout.current)).toBe(`releases/${FIRST}`);
    });

    test('of a first deploy leaves no current release, and the Compose file that was there', () => {
      writeFileSync(layout.composeLink, 'services: {}\n');
      succeed(pointCurrent(layout, FIRST));
      succeed(withdrawCurrent(layout, FIRST, undefined));
      expect(existsSync(layout.current)).toBe(false);
      expect(readFileSync(layout.composeLink, 'utf8')).toBe('services: {}\n');
      expect(existsSync(`${layout.composeLink}.before-slipway`)).toBe(false);
    });

    test('without anything current does nothing', () => {
      succeed(withdrawCurrent(layout, FIRST, undefined));
      expect(existsSync(layout.current)).toBe(false);
    });
  });

  describe('the journal', () => {
    beforeEach(prepare);

    test('is written whole, for its owner alone', () => {
      for (const text of ['{"version":1}\n', `{"x":"ünï☃ ${HOSTILE.join('|')}"}\n`]) {
        succeed(writeJournal(layout, text));
        expect(readFileSync(layout.journal, 'utf8')).toBe(text);
        expect(mode(layout.journal)).toBe('600');
        expect(readdirSync(layout.store).sort()).toEqual(['files', 'journal', 'releases']);
      }
      expect(existsSync(machine.path('pwned'))).toBe(false);
    });

    test('that arrives cut off is none: nobody could read it, and every later deploy would stop at it', () => {
      const text = '{"version":1,"undo":[]}\n';
      for (const length of [0, 1, text.length - 1]) {
        expect(machine.run(writeJournal(layout, text), { stdin: text.slice(0, length) }).exitCode).toBe(74);
        expect(existsSync(layout.journal)).toBe(false);
      }
      succeed(writeJournal(layout, text));
      expect(machine.run(writeJournal(layout, '{"other":"journal"}\n'), { stdin: '{' }).exitCode).toBe(74);
      expect(readFileSync(layout.journal, 'utf8')).toBe(text);
    });

    test('closes with the release that did not make it, and may be closed again', async () => {
      await store(FIRST);
      await store(SECOND);
      succeed(pointCurrent(layout, FIRST));
      succeed(writeJournal(layout, '{}\n'));
      succeed(closeJournal(layout, SECOND));
      succeed(closeJournal(layout, SECOND));
      expect(readdirSync(layout.releases)).toEqual([FIRST]);
      expect(existsSync(layout.journal)).toBe(false);
    });

    test('never takes the current release with it', async () => {
      await store(FIRST);
      succeed(pointCurrent(layout, FIRST));
      succeed(closeJournal(layout, FIRST));
      expect(readdirSync(layout.releases)).toEqual([FIRST]);
    });
  });

  describe('pruneStore', () => {
    beforeEach(async () => {
      prepare();
      await store(FIRST, 'a'.repeat(64));
      await store(SECOND, 'b'.repeat(64));
      succeed(pointCurrent(layout, SECOND));
    });

    test('removes what it is told, once or twice', () => {
      for (let time = 0; time < 2; time++) succeed(pruneStore(layout, [FIRST], ['a'.repeat(64)]));
      expect(readdirSync(layout.releases)).toEqual([SECOND]);
      expect(readdirSync(layout.files)).toEqual(['b'.repeat(64)]);
      expect(readdirSync(layout.store).sort()).toEqual(['current', 'files', 'releases']);
    });

    test('never removes the current release', () => {
      succeed(pruneStore(layout, [SECOND, FIRST], []));
      expect(readdirSync(layout.releases)).toEqual([SECOND]);
    });

    test('removes nothing but releases and addresses, whatever it is told', () => {
      mkdirSync(machine.path('apps', 'other'), { recursive: true });
      succeed(
        pruneStore(
          layout,
          ['', '.', '..', '../..', '../../../other', `${FIRST}/..`, ...HOSTILE],
          ['', '.', '..', '../releases', ...HOSTILE],
        ),
      );
      expect(readdirSync(layout.releases).sort()).toEqual([FIRST, SECOND]);
      expect(readdirSync(layout.files).sort()).toEqual(['a'.repeat(64), 'b'.repeat(64)]);
      expect(existsSync(machine.path('apps', 'other'))).toBe(true);
      expect(existsSync(machine.path('pwned'))).toBe(false);
    });

    test('finishes what a killed session began', () => {
      mkdirSync(`${layout.store}/.removed.1.x/x`, { recursive: true });
      succeed(pruneStore(layout, [FIRST], []));
      expect(existsSync(`${layout.store}/.removed.1.x`)).toBe(false);
      expect(readdirSync(layout.releases)).toEqual([SECOND]);
    });

    test('what cannot be removed is told, and does not stop the rest', async () => {
      const [stuck, gone] = ['a'.repeat(64), 'c'.repeat(64)];
      succeed(closeJournal(layout, FIRST));
      await store(FIRST, gone);
      const {
        words: [sh, c, text = '', ...words],
      } = pruneStore(layout, [FIRST], [stuck, gone]);
      // A stand-in for `rm` that refuses one tree, as the kernel refuses it to all but root: the tests may run as root.
      const refusing = `rm() { case "$*" in *${stuck}*) return 1 ;; esac; command rm "$@"; }\n${text}`;
      const { exitCode, stderr } = machine.run({ words: [sh, c ?? '', refusing, ...words] });
      expect([exitCode, stderr]).toEqual([
        0,
        expect.stringMatching(
          new RegExp(
            `/\\.removed\\.\\d+\\.${stuck} cannot be removed: a container has put files of another user there\\n$`,
          ),
        ),
      ]);
      expect(readdirSync(layout.releases)).toEqual([SECOND]);
      expect(readdirSync(layout.files)).toEqual(['b'.repeat(64)]);
      // The next one tries again.
      succeed(pruneStore(layout, [], []));
      expect(readdirSync(layout.store).sort()).toEqual(['current', 'files', 'releases']);
    });
  });

  describe('guardStep', () => {
    const take = (token: string): void => {
      machine.run(holdLock(layout, 'deploy by alice', 30, token), { stdin: '' });
    };

    test('runs a step of the session that has the lock: input, output and exit code are its own', () => {
      take('token-1');
      const step = guardStep(layout, 'token-1', {
        words: ['sh', '-c', 'cat; echo "$1"; exit 7', 'x', "it's $(x)"],
        stdin: 'in ',
      });
      expect(machine.run(step, { stdin: 'in ' })).toEqual({ exitCode: 7, stdout: "in it's $(x)\n", stderr: '' });
    });

    test('and none of a session that has lost it', () => {
      take('token-1');
      take('token-2');
      const mark = machine.path('ran');
      const refused = machine.run(guardStep(layout, 'token-1', { words: ['touch', mark] }));
      expect(refused).toMatchObject({ exitCode: LOCK_LOST, stdout: '' });
      expect(refused.stderr).toContain('another session has taken the lock');
      expect(existsSync(mark)).toBe(false);
      expect(machine.run(guardStep(layout, 'token-2', { words: ['touch', mark] })).exitCode).toBe(0);
      expect(existsSync(mark)).toBe(true);
      expect(mode(layout.session)).toBe('600');
    });
  });

  describe('guardStep, closely', () => {
    const step = (text: string, ...words: string[]): Command => ({ words: ['sh', '-c', text, 'slipway', ...words] });
    const guard = (command: Command, token = 'our-token', stdin = ''): ReturnType<Machine['run']> =>
      machine.run(guardStep(layout, token, command), { stdin });

    beforeEach(() => {
      prepare();
      writeFileSync(layout.session, 'our-token');
    });

    test('the step gets its words and its input as they are, and its answer comes through', () => {
      expect(guard(step('printf "<%s>" "$@"; cat; echo problem >&2', ...HOSTILE), 'our-token', 'in\0put ☃')).toEqual({
        exitCode: 0,
        stdout: `${HOSTILE.map((text) => `<${text}>`).join('')}in\0put ☃`,
        stderr: 'problem\n',
      });
      expect(existsSync(machine.path('pwned'))).toBe(false);
    });

    test('input that belongs to the step goes with it', async () => {
      const tar = await release(FIRST);
      succeed(guardStep(layout, 'our-token', storeRelease(layout, FIRST, tar)));
      expect(readFileSync(`${layout.releases}/${FIRST}/env`, 'utf8')).toBe('PASSWORD=secret\n');
    });

    test.each([0, 1, 75, 77, 125, 130])('exit code %i passes through', (code) => {
      expect(guard(step(`exit ${code}`)).exitCode).toBe(code);
    });

    test.each(['other-token', 'our-token2', 'our', '', '*', '\n'])(
      'where the store names another session than %j the step is not run',
      (token) => {
        expect(guard(step('touch "$HOME/ran"'), token)).toEqual({
          exitCode: LOCK_LOST,
          stdout: '',
          stderr: 'another session has taken the lock of this project\n',
        });
        expect(existsSync(machine.path('ran'))).toBe(false);
      },
    );

    test('where the store names nobody the step is not run', () => {
      rmSync(layout.session);
      expect(guard(step('touch "$HOME/ran"')).exitCode).toBe(LOCK_LOST);
      expect(existsSync(machine.path('ran'))).toBe(false);
    });

    test('waits for the step that is at work, and looks at the token only then', async () => {
      const first = machine.start(guardStep(layout, 'our-token', step('echo here; read -r x')));
      const ended = once(first, 'close');
      await once(first.stdout, 'data');
      const second = machine.start(guardStep(layout, 'our-token', step('touch "$HOME/ran"')));
      const answer = once(second, 'close');
      await new Promise((resolve) => setTimeout(resolve, 200));
      expect(second.exitCode).toBeNull();
      writeFileSync(layout.session, 'other-token');
      first.stdin.end('go\n');
      expect(await ended).toEqual([0, null]);
      expect(await answer).toEqual([LOCK_LOST, null]);
      expect(existsSync(machine.path('ran'))).toBe(false);
    });
  });

  describe('holdLock', () => {
    const hold = (leaseSeconds = 30, holder = 'deploy by alice'): ReturnType<Machine['start']> => {
      const process = machine.start(holdLock(layout, holder, leaseSeconds, 'token-1'));
      process.stdin.on('error', () => undefined);
      return process;
    };
    const firstLine = async (process: ReturnType<Machine['start']>): Promise<string> => {
      for await (const line of createInterface({ input: process.stdout })) return line;
      return '';
    };
    const tryLock = (holder = 'deploy by bob'): ReturnType<Machine['run']> =>
      machine.run(holdLock(layout, holder, 30, 'token-2'), { stdin: '' });
    const untilFree = async (limitMs: number): Promise<boolean> => {
      for (
        const end = Date.now() + limitMs;
        Date.now() < end;
        await new Promise((resolve) => setTimeout(resolve, 20))
      ) {
        if (tryLock().exitCode !== 75) return true;
      }
      return false;
    };

    test('makes the store for its owner alone, and says what is current', async () => {
      const process = hold();
      expect(await firstLine(process)).toBe('locked none');
      expect(mode(layout.store)).toBe('700');
      process.stdin.end();
      await once(process, 'close');
      symlinkSync(`releases/${FIRST}`, layout.current);
      expect(tryLock().stdout).toBe(`locked releases/${FIRST}\n`);
      expect(mode(layout.lock)).toBe('600');
    });

    test('whoever comes second is told who has it', async () => {
      for (const holder of ['deploy by alice', ...HOSTILE.filter((text) => text !== '')]) {
        const process = hold(30, holder);
        await firstLine(process);
        expect(tryLock()).toMatchObject({ exitCode: 75, stdout: `${holder}\n` });
        process.stdin.end();
        await once(process, 'close');
      }
      expect(existsSync(machine.path('pwned'))).toBe(false);
    });

    test('is free when the holder ends', async () => {
      const process = hold();
      await firstLine(process);
      process.stdin.end();
      const [code] = (await once(process, 'close')) as [number];
      expect(code).toBeLessThan(2);
      expect(tryLock().exitCode).not.toBe(75);
    });

    test('is free at once when the holder is killed, though what it waited with may live on', async () => {
      const process = hold();
      await firstLine(process);
      // So that it waits for the next line.
      await new Promise((resolve) => setTimeout(resolve, 100));
      process.kill('SIGKILL');
      expect(await untilFree(2000)).toBe(true);
      process.stdin.end();
    });

    test('is kept by heartbeats, and lost without them', async () => {
      const process = hold(1);
      const ended = once(process, 'close');
      await firstLine(process);
      for (let beat = 0; beat < 4; beat++) {
        process.stdin.write('beat\n');
        await new Promise((resolve) => setTimeout(resolve, 500));
      }
      expect(tryLock().exitCode).toBe(75);
      await ended;
      expect(tryLock().exitCode).not.toBe(75);
    });

    test('writes down whose it is; whoever does not get it changes nothing there', async () => {
      const process = hold();
      await firstLine(process);
      expect(readFileSync(layout.session, 'utf8')).toBe('token-1');
      expect(mode(layout.session)).toBe('600');
      expect(tryLock().exitCode).toBe(75);
      expect(readFileSync(layout.session, 'utf8')).toBe('token-1');
      process.stdin.end();
      await once(process, 'close');
      expect(tryLock().exitCode).not.toBe(75);
      expect(readFileSync(layout.session, 'utf8')).toBe('token-2');
      expect(readdirSync(layout.store).sort()).toEqual(['files', 'lock', 'releases', 'session', 'step']);
    });

    test('a folder that cannot be made is not "held"', () => {
      writeFileSync(machine.path('apps'), 'a file');
      expect([0, 75]).not.toContain(tryLock().exitCode);
    });
  });
});
