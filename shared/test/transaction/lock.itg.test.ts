import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { CommandError, LockHeldError } from '../../src/errors';
import type { Command } from '../../src/model/command';
import type { ServerProcess } from '../../src/ports';
import { layoutStore, type StoreLayout } from '../../src/releases/layout';
import { takeLock } from '../../src/transaction/lock';
import { FakeClock } from '../fakes/clock';
import { FakeSession } from '../fakes/session';
import { Machine, SHELLS } from '../shells';

/** Starts processes on this machine. */
class StartingSession extends FakeSession {
  readonly #machine: Machine;

  constructor(machine: Machine) {
    super();
    this.#machine = machine;
  }

  override start(command?: Command): Promise<ServerProcess> {
    if (command === undefined) throw new Error('a command is given');
    const process = this.#machine.start(command);
    return Promise.resolve({
      stdin: process.stdin,
      stdout: process.stdout,
      stderr: process.stderr,
      exit: once(process, 'close').then(([code]) => Number(code)),
      close: () => {
        process.kill();
      },
    });
  }
}

const [shell] = SHELLS;
if (shell === undefined) throw new Error('this machine has no shell');
let machine: Machine;
let layout: StoreLayout;

beforeEach(() => {
  machine = new Machine(shell);
  layout = layoutStore(machine.path('shop'));
});

afterEach(() => {
  machine.remove();
});

const request = (holder: string, waitSeconds = 3): Parameters<typeof takeLock>[2] => ({
  holder,
  waitSeconds,
  onWait: () => undefined,
});

test('one at a time; whoever waits is told for whom, once', async () => {
  const session = new StartingSession(machine);
  const first = await takeLock(session, layout, request('deploy by alice'), new FakeClock());
  expect(first.current).toBeUndefined();
  expect(first.token).toMatch(/^[0-9a-f-]{36}$/);
  expect(readFileSync(layout.session, 'utf8')).toBe(first.token);
  const told: string[] = [];
  const clock = new FakeClock();
  const second = takeLock(
    session,
    layout,
    { ...request('deploy by bob'), onWait: (holder) => told.push(holder) },
    clock,
  );
  await expect(second).rejects.toThrow(LockHeldError);
  await expect(second).rejects.toThrow('Another session is at work on this project at deploy@server: deploy by alice.');
  expect(told).toEqual(['deploy by alice']);
  expect(clock.sleeps).toEqual([1, 1, 1]);
  await first.release();
  expect(readFileSync(layout.session, 'utf8')).toBe(first.token);
  const third = await takeLock(session, layout, request('deploy by bob'), new FakeClock());
  expect(third.token).not.toBe(first.token);
  expect(readFileSync(layout.session, 'utf8')).toBe(third.token);
  await third.release();
});

test('a wait can be cancelled', async () => {
  const session = new StartingSession(machine);
  const first = await takeLock(session, layout, request('alice'), new FakeClock());
  await expect(
    takeLock(session, layout, { ...request('bob'), signal: AbortSignal.abort() }, new FakeClock()),
  ).rejects.toMatchObject({ code: 'cancelled' });
  await first.release();
});

test('what cannot be locked says why', async () => {
  layout = layoutStore('/proc/shop');
  await expect(takeLock(new StartingSession(machine), layout, request('alice'), new FakeClock())).rejects.toThrow(
    CommandError,
  );
  await expect(takeLock(new StartingSession(machine), layout, request('alice'), new FakeClock())).rejects.toThrow(
    /could not be taken at deploy@server: .*\/proc\/shop/s,
  );
});
