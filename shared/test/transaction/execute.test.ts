import { CommandError, ConnectError, TimeoutError } from '../../src/errors';
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
  run('stop-removed', { verb: 'restore-services', release: PREVIOUS, services: ['old'] }),
  run(
    'create-1',
    { verb: 'remove-networks', networks: ['shop_default'] },
    { verb: 'remove-services', services: ['db'] },
  ),
  hold('ready-1'),
  run('replace-2', { verb: 'restore-services', release: PREVIOUS, services: ['web'] }),
  hold('prove'),
];

const UNDO = [
  `put back web of release ${PREVIOUS}`,
  'remove db, which did not exist before',
  'remove the networks shop_default',
  `put back old of release ${PREVIOUS}`,
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

test('the journal holds the whole way back, last things first, before the first change', async () => {
  const { session } = await play();
  expect(parseJournal(session.commands[0]?.stdin ?? '')).toEqual({
    release: RELEASE,
    previous: PREVIOUS,
    runUrl: 'https://github.com/acme/shop/actions/runs/1',
    actor: 'alice',
    undo: [
      { verb: 'restore-services', release: PREVIOUS, services: ['web'] },
      { verb: 'remove-services', services: ['db'] },
      { verb: 'remove-networks', networks: ['shop_default'] },
      { verb: 'restore-services', release: PREVIOUS, services: ['old'] },
    ],
  });
});

test('what the server prints is shown as remote text', async () => {
  const { reporter } = await play({
    answer: ({ purpose }) => (purpose === 'do create-1' ? { stdout: '::error::x\n', stderr: 'pulling' } : undefined),
  });
  expect(reporter.shown).toEqual(expect.arrayContaining(['remote   ::error::x', 'remote   pulling']) as unknown);
});

test.each(['do stop-removed', 'do create-1', 'do replace-2'])(
  'when "%s" fails everything is undone in reverse, and the journal closed',
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
  expect(session.purposes.slice(-5)).toEqual([...UNDO, 'close the journal']);
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
  expect(session.purposes.slice(-2)).toEqual(UNDO.slice(2));
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
  expect(outcome.kind === 'undone' && outcome.unrestored).toHaveLength(4);
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
    expect(session.purposes.slice(-7)).toEqual([COMMIT, WITHDRAW, ...UNDO, 'close the journal']);
    expect(session.commands.find(({ purpose }) => purpose === WITHDRAW)?.command.words.slice(4)).toEqual([
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
      expect(session.purposes.slice(-5)).toEqual([...UNDO, 'close the journal']);
      expect(session.commands.slice(-5).some(({ cancellable }) => cancellable)).toBe(false);
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
