/** Our end of the guardian against the real one: its program under `sh` on this machine, with the real pipes, locks and clock. */
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openLocal } from '../../src/adapters/local-session';
import { CancelledError, CommandError, ConnectError, LockHeldError, ReleaseError } from '../../src/errors';
import { type Guardian, type GuardianRequest, startGuardian } from '../../src/guardian/client';
import { renderJournal } from '../../src/guardian/journal';
import type { Clock, Completed, ServerProcess, Session } from '../../src/ports';
import { script } from '../../src/shell/render';

const RELEASE = '20261122T110000Z-bbbbbbb';
const clock: Clock = {
  now: () => new Date(),
  monotonicMs: () => performance.now(),
  sleep: (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000)),
};

let home: string;
let session: Session;
let processes: ServerProcess[];
let guardians: Guardian[];

beforeEach(async () => {
  home = mkdtempSync(join(tmpdir(), 'slipway-client-'));
  const local = await openLocal({}, (text) => text, { PATH: process.env['PATH'], HOME: home });
  processes = [];
  guardians = [];
  session = {
    where: local.where,
    run: (command, options) => local.run(command, options),
    dial: (host, port) => local.dial(host, port),
    close: () => local.close(),
    start: async (command) => {
      const started = await local.start(command);
      processes.push(started);
      return started;
    },
  };
});

afterEach(async () => {
  for (const guardian of guardians) await guardian.close();
  await session.close();
  // What it has refused may still be at its own end.
  rmSync(home, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
});

const store = (...parts: string[]): string => join(home, 'apps/shop/.slipway', ...parts);

async function start(over: Partial<GuardianRequest> = {}, signal?: AbortSignal): Promise<Guardian> {
  const guardian = await startGuardian(
    session,
    {
      path: 'apps/shop',
      project: 'shop',
      mode: 'change',
      leaseSeconds: 30,
      waitSeconds: 0,
      holder: "deploy by it's\nalice",
      ...over,
    },
    { clock, redact: (text) => text.replaceAll('hunter2', '***'), signal },
  );
  guardians.push(guardian);
  return guardian;
}

const journal = (): string =>
  renderJournal({
    project: 'shop',
    release: RELEASE,
    limitSeconds: 120,
    undo: [{ verb: 'remove-files', addresses: ['a'.repeat(64)] }],
    finish: [{ verb: 'remove-releases', releases: ['20261122T090000Z-ccccccc'] }],
  });

function putRelease(): void {
  mkdirSync(store('releases', RELEASE), { recursive: true });
  writeFileSync(store('releases', RELEASE, 'compose.yaml'), 'services: {}\n');
  mkdirSync(store('files', 'a'.repeat(64)), { recursive: true });
}

/** As a deploy does: the release is written into the store by the first step. */
function beginRelease(guardian: Guardian): void {
  guardian.begin(journal());
  const store = script(
    'cd "$HOME/apps/shop/.slipway" && mkdir -p "releases/$1" "files/$2" && echo "services: {}" >"releases/$1/compose.yaml"',
    RELEASE,
    'a'.repeat(64),
  );
  guardian.step(store, { purpose: 'store' }).catch(() => undefined);
}

test('the lock is taken, questions are answered in turn, and a second session hears who has it', async () => {
  const first = await start();
  expect([first.isLocked, first.current, first.recovery, first.problem]).toEqual([true, undefined, undefined, '']);
  const lines: string[] = [];
  const asked = await first.run(script('cat; echo "$1" hunter2; echo err >&2; exit 3', "it's $HOME\n2"), {
    accept: [3],
    onLine: (line, stream) => lines.push(`${stream} ${line}`),
  });
  expect(asked).toEqual({ exitCode: 3, stdout: "it's $HOME\n2 hunter2\n", stderr: 'err\n' });
  expect(lines).toEqual(["stdout it's $HOME", 'stdout 2 ***', 'stderr err']);
  await expect(first.run(script('echo bad >&2; exit 4'))).rejects.toThrow(CommandError);

  const held = start({ holder: 'second' });
  await expect(held).rejects.toThrow(LockHeldError);
  await expect(held).rejects.toThrow("deploy by it's alice");

  const waits: string[] = [];
  const holder = script('cat "$HOME/apps/shop/.slipway/lock"');
  let atOnce: Promise<Completed> | undefined;
  const waiting = start({
    waitSeconds: 30,
    holder: 'third',
    onWait: (other) => waits.push(other),
    onStart: (remote) => {
      atOnce = remote.run(holder);
    },
  });
  await clock.sleep(1.5);
  await first.close();
  expect((await waiting).isLocked).toBe(true);
  expect(waits).toEqual(["deploy by it's alice"]);
  // It was sent before there was a lock, and had its turn with it.
  expect((await atOnce)?.stdout.trim()).toBe('third');
}, 30_000);

test('a look needs no lock', async () => {
  await start();
  const look = await start({ mode: 'look' });
  expect(look.isLocked).toBe(false);
  expect((await look.run({ words: ['echo', 'seen'] })).stdout).toBe('seen\n');
}, 30_000);

test('steps sent ahead are carried out in order, then committed', async () => {
  const guardian = await start();
  beginRelease(guardian);
  const steps = ['a', 'b', 'c'].map((name) =>
    guardian.step(script('printf %s "$1" >>"$HOME/done"; cat >>"$HOME/done"', name), { purpose: name }),
  );
  guardian.commit();
  await Promise.all(steps);
  await guardian.committed;
  expect(await guardian.verdict).toEqual({ kind: 'committed' });
  expect(readFileSync(join(home, 'done'), 'utf8')).toBe('abc');
  expect(readlinkSync(store('current'))).toBe(`releases/${RELEASE}`);
  expect(existsSync(store('journal'))).toBe(false);
  expect(existsSync(store('files', 'a'.repeat(64)))).toBe(true);
}, 30_000);

test('a step that fails ends it: what was sent ahead is not carried out, and all is undone', async () => {
  const guardian = await start();
  beginRelease(guardian);
  const failing = guardian.step(script('echo no space >&2; exit 9'), { purpose: 'fill the disk' });
  const ahead = guardian.step(script(': >"$HOME/never"'), {});
  guardian.commit();
  await expect(failing).rejects.toThrow(/fill the disk[\s\S]*no space|exit code 9/);
  await expect(ahead).rejects.toThrow();
  await expect(guardian.committed).rejects.toThrow(ReleaseError);
  expect(await guardian.verdict).toMatchObject({ kind: 'undone', unrestored: '' });
  expect([existsSync(join(home, 'never')), existsSync(store('files', 'a'.repeat(64)))]).toEqual([false, false]);
  expect(existsSync(store('releases', RELEASE))).toBe(false);
}, 30_000);

test('an abort ends the step under way', async () => {
  const guardian = await start();
  beginRelease(guardian);
  const long = guardian.step({ words: ['sleep', '60'] }, {});
  long.catch(() => undefined);
  await clock.sleep(0.5);
  guardian.abort();
  expect(await guardian.verdict).toMatchObject({ kind: 'undone', why: 'abort', unrestored: '' });
  await expect(long).rejects.toThrow();
}, 30_000);

test('a verb that is not known fails, and is undone; one that is works', async () => {
  const guardian = await start();
  beginRelease(guardian);
  await guardian.verb(`remove-files ${'a'.repeat(64)}`, {});
  expect(existsSync(store('files', 'a'.repeat(64)))).toBe(false);
  await expect(guardian.verb('rm -rf /', {})).rejects.toThrow(/the verb rm is not known here|exit code 64/);
  expect(await guardian.verdict).toMatchObject({ kind: 'undone' });
}, 30_000);

test('5 MB go up whole', async () => {
  const guardian = await start();
  const content = Buffer.alloc(5 * 1024 * 1024 + 7, 'slipway\0\n\xff', 'latin1');
  const { stdout } = await guardian.run({ ...script('cat >"$HOME/big"; wc -c <"$HOME/big"'), stdin: content });
  expect(Number(stdout)).toBe(content.length);
  expect(readFileSync(join(home, 'big')).equals(content)).toBe(true);
  expect(statSync(store()).mode & 0o777).toBe(0o700);
}, 60_000);

test('what an interrupted session left is put right first, and told', async () => {
  putRelease();
  writeFileSync(store('journal'), journal());
  const notes: string[] = [];
  let atOnce: Promise<Completed> | undefined;
  const guardian = await start({
    onNote: (text) => notes.push(text),
    onStart: (remote) => {
      atOnce = remote.run(script('ls "$HOME/apps/shop/.slipway/releases"'));
    },
  });
  expect((await atOnce)?.stdout).toBe('');
  expect(guardian.recovery).toEqual({ release: RELEASE, verdict: 'undone' });
  expect(notes).toEqual([`An interrupted session left release ${RELEASE} half-way; the server puts that right first.`]);
  expect(existsSync(store('releases', RELEASE))).toBe(false);
}, 30_000);

test('what cannot be put right is told, and nothing new begins', async () => {
  putRelease();
  writeFileSync(store('journal'), journal().replace('end\n', ''));
  await expect(start()).rejects.toThrow(ReleaseError);
  expect(existsSync(store('releases', RELEASE))).toBe(true);
}, 30_000);

test('a cancelled question is given up; a cancel while it waits for the lock ends the wait', async () => {
  const first = await start();
  const cancel = new AbortController();
  const asked = first.run({ words: ['sleep', '60'] }, { signal: cancel.signal });
  setTimeout(() => {
    cancel.abort();
  }, 300);
  await expect(asked).rejects.toThrow(CancelledError);
  expect((await first.run({ words: ['echo', 'on'] })).stdout).toBe('on\n');

  const waiting = new AbortController();
  let atOnce: Promise<Completed> | undefined;
  const second = start(
    {
      waitSeconds: 60,
      onStart: (remote) => {
        atOnce = remote.run({ words: ['true'] }, { signal: waiting.signal });
        atOnce.catch(() => undefined);
      },
      onWait: () => {
        waiting.abort();
      },
    },
    waiting.signal,
  );
  await expect(second).rejects.toThrow(CancelledError);
  await expect(atOnce).rejects.toThrow(CancelledError);
}, 30_000);

test('a step that lasts too long is stopped, and says so', async () => {
  const guardian = await start();
  await expect(guardian.run({ words: ['sleep', '60'] }, { timeoutSeconds: 1, purpose: 'wait' })).rejects.toMatchObject({
    name: 'TimeoutError',
  });
}, 30_000);

test('a connection that is lost rejects what is under way; the server undoes by itself', async () => {
  const guardian = await start();
  beginRelease(guardian);
  const long = guardian.step({ words: ['sleep', '60'] }, {});
  long.catch(() => undefined);
  await clock.sleep(0.5);
  processes[0]?.stdin.destroy();
  for (let tries = 0; tries < 100 && existsSync(store('journal')); tries++) await clock.sleep(0.1);
  expect([existsSync(store('journal')), existsSync(store('releases', RELEASE))]).toEqual([false, false]);
  await expect(long).rejects.toThrow();
  const ended = await guardian.run({ words: ['true'] }).catch((error: unknown) => error);
  expect(ended).toBeInstanceOf(ConnectError);
}, 30_000);
