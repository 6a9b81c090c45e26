import { guardStep, LOCK_LOST, pointCurrent } from '../../src/commands/store';
import { CommandError, ConnectError, LockLostError, TimeoutError } from '../../src/errors';
import type { Step, UndoVerb } from '../../src/model/step';
import { parseJournal } from '../../src/releases/journal';
import { layoutStore } from '../../src/releases/layout';
import {
  executeTransaction,
  type Outcome,
  type Transaction,
  type TransactionContext,
} from '../../src/transaction/execute';
import { FakeClock } from '../fakes/clock';
import { FakeReporter } from '../fakes/reporter';
import { FakeSession, type Answer, type RecordedCommand } from '../fakes/session';

const RELEASE = '20261122T110000Z-bbbbbbb';
const PREVIOUS = '20261122T100000Z-aaaaaaa';
const TOKEN = 'token-1';
const layout = layoutStore('/srv/shop');

const run = (id: string, ...undo: UndoVerb[]): Step => ({
  kind: 'run',
  id,
  title: `do ${id}`,
  do: { words: ['docker', id] },
  undo,
  timeoutSeconds: 42,
});
const hold = (id: string): Step => ({
  kind: 'hold',
  id,
  title: `hold ${id}`,
  gate: { gate: 'proven' },
  timeoutSeconds: 10,
});

const STEPS: readonly Step[] = [
  run('stop-removed', { verb: 'restore-services', release: PREVIOUS, services: ['old'], awaited: ['old'] }),
  run(
    'create-1',
    { verb: 'remove-networks', networks: ['shop_default'] },
    { verb: 'remove-services', services: ['db'] },
  ),
  hold('ready-1'),
  run('replace-2', { verb: 'restore-services', release: PREVIOUS, services: ['web'], awaited: [] }),
  hold('prove'),
];

/** What is new goes first; what was there comes back as one, in the order of the steps. */
const UNDO = [
  'remove db, which did not exist before',
  `put back old, web of release ${PREVIOUS}`,
  'remove the networks shop_default',
];

interface Scene {
  readonly answer?: ((recorded: RecordedCommand, index: number) => Answer | undefined) | undefined;
  readonly transaction?: Partial<Transaction>;
  readonly signal?: AbortSignal;
}

async function play({ answer, transaction = {}, signal = new AbortController().signal }: Scene = {}): Promise<{
  outcome: Outcome;
  session: FakeSession;
  clock: FakeClock;
  reporter: FakeReporter;
}> {
  const clock = new FakeClock();
  const session = new FakeSession((recorded, index) => {
    clock.advance(1);
    return answer?.(recorded, index);
  });
  const reporter = new FakeReporter();
  const context: TransactionContext = {
    session,
    reporter,
    clock,
    target: { project: 'shop', projectDirectory: layout.project },
    layout,
    token: 'token-1',
    signal,
  };
  const outcome = await executeTransaction(
    {
      release: RELEASE,
      previous: PREVIOUS,
      steps: STEPS,
      runUrl: 'https://github.com/acme/shop/actions/runs/1',
      actor: 'alice',
      hold: () => Promise.resolve(),
      ...transaction,
    },
    context,
  );
  return { outcome, session, clock, reporter };
}

const failing =
  (...purposes: string[]): Scene['answer'] =>
  ({ purpose }) =>
    purposes.includes(purpose) ? { exitCode: 1, stderr: `${purpose} failed` } : undefined;

test('journal, steps in order, commit', async () => {
  const { outcome, session, reporter } = await play();
  expect(session.purposes).toEqual([
    'write the journal',
    'do stop-removed',
    'do create-1',
    'do replace-2',
    'make the release the current one',
  ]);
  expect(outcome).toEqual({
    kind: 'committed',
    timeline: STEPS.map(({ id, title, kind }) => ({ id, title, seconds: kind === 'run' ? 1 : 0, ok: true })),
  });
  expect(session.commands.map(({ timeoutSeconds }) => timeoutSeconds).slice(1, 4)).toEqual([42, 42, 42]);
  expect(reporter.shown.filter((line) => line.startsWith('line - '))).toEqual(
    STEPS.map(({ title }) => `line - ${title}`),
  );
});

test('the journal holds the whole way back before the first change', async () => {
  const { session } = await play();
  expect(parseJournal(session.commands[0]?.stdin ?? '')).toEqual({
    project: 'shop',
    release: RELEASE,
    previous: PREVIOUS,
    runUrl: 'https://github.com/acme/shop/actions/runs/1',
    actor: 'alice',
    timeoutSeconds: 180,
    undo: [
      { verb: 'remove-services', services: ['db'] },
      { verb: 'restore-services', release: PREVIOUS, services: ['old', 'web'], awaited: ['old'] },
      { verb: 'remove-networks', networks: ['shop_default'] },
    ],
  });
});

test('every change goes through the guard of the lock', async () => {
  for (const { session } of [await play(), await play({ answer: failing('do replace-2') })]) {
    for (const { command, purpose } of session.commands) {
      // `flock FILE sh -c TEXT slipway SESSION TOKEN` come before the words of the change itself.
      const [program = '', ...words] = command.words.slice(8);
      expect([purpose, command.words]).toEqual([
        purpose,
        guardStep(layout, TOKEN, { words: [program, ...words] }).words,
      ]);
    }
  }
  const { session } = await play();
  expect(session.commands[1]?.command).toEqual(guardStep(layout, TOKEN, { words: ['docker', 'stop-removed'] }));
  expect(session.commands.at(-1)?.command).toEqual(guardStep(layout, TOKEN, pointCurrent(layout, RELEASE)));
});

test('each way back has as long as the longest step, and three minutes at least', async () => {
  const times = async (timeoutSeconds: number): Promise<(number | undefined)[]> => {
    const steps = [
      { ...run('create-1', { verb: 'remove-services', services: ['web'] }), timeoutSeconds },
      hold('prove'),
    ];
    const { session } = await play({ transaction: { steps }, answer: failing('do create-1') });
    expect(parseJournal(session.commands[0]?.stdin ?? '').timeoutSeconds).toBe(Math.max(180, timeoutSeconds));
    return session.commands
      .filter(({ purpose }) => purpose.startsWith('remove'))
      .map((recorded) => recorded.timeoutSeconds);
  };
  expect(await times(20)).toEqual([180]);
  expect(await times(900)).toEqual([900]);
});

describe('when another session has taken the lock', () => {
  const COMMIT = 'make the release the current one';
  const overtakenAt = (name: string): Scene['answer'] => {
    let overtaken = false;
    return ({ purpose }) => {
      overtaken ||= purpose === name;
      return overtaken ? { exitCode: LOCK_LOST } : undefined;
    };
  };

  test.each(['do stop-removed', 'do replace-2', COMMIT])('at "%s" nothing is undone by this one', async (purpose) => {
    const { outcome, session, clock } = await play({ answer: overtakenAt(purpose) });
    expect(outcome).toMatchObject({ kind: 'overtaken', cause: { code: 'lock-lost' } });
    // Whatever this session still asks for, the guard refuses, and it asks for no more.
    expect(session.purposes.slice(session.purposes.indexOf(purpose) + 1).length).toBeLessThan(2);
    expect(session.purposes).not.toContain('close the journal');
    expect(clock.sleeps).toEqual([]);
    expect(outcome.timeline.at(-1)?.ok).toBe(purpose === COMMIT);
  });

  test('on the way back, the rest of the way is not ours either', async () => {
    const { outcome, session, clock } = await play({
      answer: overtakenAt(UNDO[1] ?? ''),
      transaction: {
        hold: (step) => (step.id === 'prove' ? Promise.reject(new Error('db is unhealthy')) : Promise.resolve()),
      },
    });
    expect(outcome).toMatchObject({ kind: 'overtaken', cause: { code: 'lock-lost' } });
    expect(session.purposes.slice(-2)).toEqual(UNDO.slice(0, 2));
    expect(clock.sleeps).toEqual([]);
  });

  test('before the journal, nothing was begun', async () => {
    await expect(play({ answer: overtakenAt('write the journal') })).rejects.toThrow(LockLostError);
  });

  test('while the commit is withdrawn, the rest is left to it', async () => {
    const WITHDRAW = 'make the old release the current one';
    const { outcome, session } = await play({
      answer: ({ purpose }) => {
        if (purpose === COMMIT) return { exitCode: 1 };
        return purpose === WITHDRAW ? { exitCode: LOCK_LOST } : undefined;
      },
    });
    expect(outcome.kind).toBe('overtaken');
    expect(session.purposes.at(-1)).toBe(WITHDRAW);
  });
});

test("Compose's advice on orphans is not shown: they are removed after the commit", async () => {
  const orphans = 'level=warning msg="Found orphan containers ([shop-old-1]) for this project."';
  const { reporter } = await play({
    answer: ({ purpose }) => {
      if (purpose === 'do replace-2') return { exitCode: 1 };
      const shown = purpose === 'do create-1' || purpose.startsWith('put back');
      return shown ? { stderr: `${orphans}\nof ${purpose}` } : undefined;
    },
  });
  expect(reporter.shown).toEqual(
    expect.arrayContaining(['remote   of do create-1', `remote   of ${UNDO[1] ?? ''}`]) as unknown,
  );
  expect(reporter.shown.join('\n')).not.toContain('orphan');
});

test('what the server prints is shown as remote text', async () => {
  const { reporter } = await play({
    answer: ({ purpose }) => (purpose === 'do create-1' ? { stdout: '::error::x\n', stderr: 'pulling' } : undefined),
  });
  expect(reporter.shown).toEqual(expect.arrayContaining(['remote   ::error::x', 'remote   pulling']) as unknown);
});

test.each(['do stop-removed', 'do create-1', 'do replace-2'])(
  'when "%s" fails everything is undone, and the journal closed',
  async (purpose) => {
    const { outcome, session } = await play({ answer: failing(purpose) });
    const at = session.purposes.indexOf(purpose);
    expect(session.purposes.slice(at + 1)).toEqual([...UNDO, 'close the journal']);
    expect(outcome).toMatchObject({ kind: 'undone', unrestored: [], timeline: expect.arrayContaining([]) as unknown });
    expect(outcome.timeline.map(({ ok }) => ok)).toEqual([
      ...Array.from({ length: outcome.timeline.length - 1 }, () => true),
      false,
    ]);
    expect(outcome.kind === 'undone' && outcome.cause).toBeInstanceOf(CommandError);
  },
);

test('when a gate says no everything is undone', async () => {
  const cause = new Error('db is unhealthy');
  const { outcome, session } = await play({
    transaction: { hold: (step) => (step.id === 'prove' ? Promise.reject(cause) : Promise.resolve()) },
  });
  expect(outcome).toMatchObject({ kind: 'undone', cause, unrestored: [] });
  expect(session.purposes.slice(-4)).toEqual([...UNDO, 'close the journal']);
  expect(session.purposes).not.toContain('make the release the current one');
});

test('an undo is tried three times, with a pause', async () => {
  let failures = 2;
  const { outcome, session, clock } = await play({
    answer: ({ purpose }) =>
      purpose === 'do replace-2' || (purpose === UNDO[0] && failures-- > 0) ? { exitCode: 1 } : undefined,
  });
  expect(outcome).toMatchObject({ kind: 'undone', unrestored: [] });
  expect(session.purposes.filter((purpose) => purpose === UNDO[0])).toHaveLength(3);
  expect(clock.sleeps).toEqual([1, 2]);
});

test('what cannot be undone is named, the rest is undone all the same, and the journal stays', async () => {
  const { outcome, session } = await play({ answer: failing('do replace-2', UNDO[1] ?? '') });
  expect(outcome).toMatchObject({ kind: 'undone', unrestored: [`${UNDO[1] ?? ''}: exit code 1`] });
  expect(session.purposes.slice(-1)).toEqual(UNDO.slice(2));
});

test('a connection that is lost loses nothing that is known', async () => {
  const lost = new ConnectError('lost', 'The connection was lost.', '');
  let isLost = false;
  const { outcome, session } = await play({
    answer: ({ purpose }) => {
      isLost ||= purpose === 'do replace-2';
      return isLost ? lost : undefined;
    },
  });
  expect(outcome).toMatchObject({ kind: 'undone', cause: lost });
  expect(outcome.kind === 'undone' && outcome.unrestored).toHaveLength(3);
  expect(session.purposes).not.toContain('close the journal');
});

test('a journal that cannot be closed is told, with the cause', async () => {
  const { outcome } = await play({ answer: failing('do replace-2', 'close the journal') });
  expect(outcome).toMatchObject({
    kind: 'undone',
    cause: expect.any(CommandError) as unknown,
    unrestored: ['close the journal: exit code 1'],
  });
});

test('without a journal nothing is changed', async () => {
  const sessions: FakeSession[] = [];
  const session = new FakeSession(failing('write the journal'));
  sessions.push(session);
  await expect(
    executeTransaction(
      { release: RELEASE, previous: undefined, steps: STEPS, runUrl: '', actor: '', hold: () => Promise.resolve() },
      {
        session,
        reporter: new FakeReporter(),
        clock: new FakeClock(),
        target: { project: 'shop', projectDirectory: '/srv/shop' },
        layout,
        token: 'token-1',
        signal: new AbortController().signal,
      },
    ),
  ).rejects.toThrow(CommandError);
  expect(session.purposes).toEqual(['write the journal']);
});

describe('the commit', () => {
  const COMMIT = 'make the release the current one';
  const WITHDRAW = 'make the old release the current one';

  test.each([
    ['fails', { exitCode: 1 }],
    ['gives no answer in time', new TimeoutError('took too long', '')],
  ])('that %s is withdrawn first, and then undone', async (_name, answer) => {
    const { outcome, session } = await play({ answer: ({ purpose }) => (purpose === COMMIT ? answer : undefined) });
    expect(session.purposes.slice(-6)).toEqual([COMMIT, WITHDRAW, ...UNDO, 'close the journal']);
    expect(session.commands.find(({ purpose }) => purpose === WITHDRAW)?.command.words.slice(-3)).toEqual([
      '/srv/shop/.slipway',
      RELEASE,
      PREVIOUS,
    ]);
    expect(outcome).toMatchObject({ kind: 'undone', unrestored: [] });
  });

  test('of which nothing is known, since the connection is lost, is not undone: it may have come through', async () => {
    const lost = new ConnectError('lost', 'The connection was lost.', '');
    const { outcome, session } = await play({
      answer: ({ purpose }) => (purpose === COMMIT || purpose === WITHDRAW ? lost : undefined),
    });
    expect(session.purposes.slice(-2)).toEqual([COMMIT, WITHDRAW]);
    expect(outcome).toMatchObject({
      kind: 'undone',
      cause: lost,
      unrestored: [`make ${PREVIOUS} the current one: The connection was lost.`],
    });
  });

  test('cannot be cancelled half-way', async () => {
    const cancel = new AbortController();
    const { outcome } = await play({
      signal: cancel.signal,
      answer: ({ purpose }) => {
        if (purpose === COMMIT) cancel.abort();
        return undefined;
      },
    });
    expect(outcome.kind).toBe('committed');
  });
});

describe('cancelled', () => {
  test.each(STEPS.map((step, index) => [step.id, index] as const))(
    'during %s: undone, and the undo goes to its end',
    async (id, index) => {
      const cancel = new AbortController();
      const { outcome, session } = await play({
        signal: cancel.signal,
        answer: ({ purpose }) => {
          if (purpose === `do ${id}`) cancel.abort();
          return undefined;
        },
        transaction: {
          hold: (step) => {
            if (step.id === id) cancel.abort();
            return Promise.resolve();
          },
        },
      });
      expect(outcome).toMatchObject({ kind: 'undone', unrestored: [], cause: { code: 'cancelled' } });
      expect(session.purposes.slice(-4)).toEqual([...UNDO, 'close the journal']);
      expect(session.commands.slice(-4).some(({ cancellable }) => cancellable)).toBe(false);
      expect(outcome.timeline.length).toBeLessThanOrEqual(index + 3);
      expect(session.purposes).not.toContain('make the release the current one');
    },
  );

  test('before the journal: nothing is touched', async () => {
    await expect(play({ signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'cancelled' });
  });
});

test('a first deploy has no release before it', async () => {
  const { session } = await play({
    transaction: { previous: undefined, steps: [run('create-1', { verb: 'remove-services', services: ['web'] })] },
  });
  expect(parseJournal(session.commands[0]?.stdin ?? '')).toMatchObject({
    previous: '',
    undo: [{ verb: 'remove-services' }],
  });
});

describe('a lock that was lost', () => {
  test.each(['write the journal', 'do create-1', 'make the release the current one', UNDO[1] ?? ''])(
    'is seen at "%s": from there on nothing is changed',
    async (purpose) => {
      let isLost = false;
      const play1 = play({
        answer: (recorded) => {
          isLost ||= recorded.purpose === purpose;
          if (isLost) return { exitCode: 76 };
          return purpose === UNDO[1] && recorded.purpose === 'do replace-2' ? { exitCode: 1 } : undefined;
        },
      });
      if (purpose === 'write the journal') {
        await expect(play1).rejects.toMatchObject({ code: 'lock-lost' });
        return;
      }
      const { outcome, session } = await play1;
      expect(outcome).toMatchObject({ kind: 'overtaken', cause: { code: 'lock-lost' } });
      // One more command finds out, at most: it is refused by the server like the first.
      expect(session.purposes.length - session.purposes.indexOf(purpose)).toBeLessThanOrEqual(2);
    },
  );

  test('every change goes under the guard of the token', async () => {
    const { session } = await play({ answer: failing('do replace-2') });
    for (const { command } of session.commands) {
      expect(command.words.slice(0, 2)).toEqual(['flock', '/srv/shop/.slipway/step']);
      expect(command.words).toContain('token-1');
    }
  });
});

test('what Compose says of orphans is not shown: Slipway removes them itself', async () => {
  const { reporter } = await play({
    answer: ({ purpose }) =>
      purpose === 'do create-1' ? { stdout: 'level=warning msg="Found orphan containers ([a])"\nCreating' } : undefined,
  });
  expect(reporter.shown.join('\n')).not.toContain('orphan');
  expect(reporter.shown).toContain('remote   Creating');
});
