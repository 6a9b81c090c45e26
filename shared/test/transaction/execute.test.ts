import { CancelledError, CommandError, ConnectError, ReleaseError } from '../../src/errors';
import type { Guardian, StepOptions, Verdict } from '../../src/guardian/client';
import { renderJournal } from '../../src/guardian/journal';
import type { Command } from '../../src/model/command';
import type { FinishVerb, Step, UndoVerb } from '../../src/model/step';
import type { Completed } from '../../src/ports';
import type { ContainerState } from '../../src/probes/container';
import { layoutStore } from '../../src/releases/layout';
import { executeTransaction, type Outcome, type Transaction } from '../../src/transaction/execute';
import { FakeClock } from '../fakes/clock';
import { FakeReporter } from '../fakes/reporter';

const RELEASE = '20261122T110000Z-bbbbbbb';
const UNDO: readonly UndoVerb[] = [{ verb: 'keep-only', service: 'web', ids: ['c1'] }];
const FINISH: readonly FinishVerb[] = [{ verb: 'retire', ids: ['c1'] }];

const run = (id: string, over: Partial<Extract<Step, { kind: 'run' }>> = {}): Step => ({
  kind: 'run',
  id,
  title: `do ${id}`,
  do: { words: ['docker', id] },
  undo: [],
  timeoutSeconds: 42,
  ...over,
});
const hold = (id: string): Step => ({
  kind: 'hold',
  id,
  title: `hold ${id}`,
  gate: { gate: 'proven' },
  timeoutSeconds: 10,
});
const route: Step = {
  kind: 'route',
  id: 'route-web',
  title: 'route',
  router: 'web',
  upstreams: [{ service: 'api', port: 3000, before: ['c1'], staying: [], retiring: [] }],
  resolve: true,
  undo: [],
  timeoutSeconds: 60,
};

/** A guardian in one process: it carries out what it is sent in turn, goes back at the first failure, and writes all down. */
class FakeGuardian implements Guardian {
  readonly where = 'deploy@server';
  readonly isLocked = true;
  readonly problem = '';
  readonly current = undefined;
  readonly recovery = undefined;
  readonly heard: string[] = [];
  readonly options: StepOptions[] = [];
  readonly #committed = Promise.withResolvers<undefined>();
  readonly #verdict = Promise.withResolvers<Verdict>();
  readonly committed = this.#committed.promise;
  readonly verdict = this.#verdict.promise;
  readonly #clock: FakeClock;
  readonly #answer: (what: string) => Error | undefined;
  #end: Verdict | ConnectError = { kind: 'undone', why: '', unrestored: '' };
  #turn: Promise<unknown> = Promise.resolve();
  #failure: Error | undefined;

  constructor(clock: FakeClock, answer: (what: string) => Error | undefined = () => undefined) {
    this.#clock = clock;
    this.#answer = answer;
    this.committed.catch(() => undefined);
    this.verdict.catch(() => undefined);
  }

  /** How it ends when it is not committed. */
  endsWith(end: Verdict | ConnectError): this {
    this.#end = end;
    return this;
  }

  begin(journal: string): void {
    this.heard.push(`begin ${journal}`);
  }

  run(): Promise<Completed> {
    return Promise.reject(new Error('nothing is asked'));
  }

  step(command: Command, options: StepOptions): Promise<Completed> {
    return this.#carryOut(command.words.join(' '), options);
  }

  verb(words: string, options: StepOptions): Promise<Completed> {
    return this.#carryOut(`verb ${words}`, options);
  }

  async #carryOut(what: string, options: StepOptions): Promise<Completed> {
    this.heard.push(what);
    this.options.push(options);
    const before = this.#turn;
    const { promise, resolve } = Promise.withResolvers<undefined>();
    this.#turn = promise;
    await before;
    try {
      this.#failure ??= this.#answer(what);
      if (this.#failure !== undefined) {
        const cause = this.#failure;
        // It first has to hear of it.
        setImmediate(() => {
          this.goBack(cause);
        });
        throw cause;
      }
      this.#clock.advance(1);
      return { exitCode: 0, stdout: '', stderr: '' };
    } finally {
      resolve(undefined);
    }
  }

  goBack(cause: Error): void {
    this.#failure ??= cause;
    this.#committed.reject(cause);
    if (this.#end instanceof Error) this.#verdict.reject(this.#end);
    else this.#verdict.resolve(this.#end);
  }

  commit(): void {
    this.heard.push('commit');
    this.#committed.resolve(undefined);
    this.#verdict.resolve({ kind: 'committed', unfinished: '' });
  }

  abort(): void {
    this.heard.push('abort');
    this.goBack(new ReleaseError('aborted', ''));
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

interface Scene {
  readonly steps?: readonly Step[];
  readonly answer?: ((what: string) => Error | undefined) | undefined;
  readonly end?: Verdict | ConnectError;
  readonly signal?: AbortSignal;
  readonly transaction?: Partial<Transaction>;
}

async function play({ steps = [], answer, end, signal, transaction = {} }: Scene): Promise<{
  outcome: Outcome;
  guardian: FakeGuardian;
  reporter: FakeReporter;
}> {
  const clock = new FakeClock();
  const guardian = new FakeGuardian(clock, answer);
  if (end !== undefined) guardian.endsWith(end);
  const reporter = new FakeReporter();
  const outcome = await executeTransaction(
    {
      release: RELEASE,
      steps,
      undo: UNDO,
      finish: FINISH,
      before: { api: ['c1'] },
      // It sees what the steps before it have done.
      hold: () =>
        new Promise((resolve) => {
          setTimeout(resolve, 5);
        }),
      containers: () => [],
      ...transaction,
    },
    {
      guardian,
      reporter,
      clock,
      target: { project: 'shop', projectDirectory: '/srv/shop' },
      layout: layoutStore('/srv/shop'),
      signal: signal ?? new AbortController().signal,
    },
  );
  return { outcome, guardian, reporter };
}

const failing =
  (...words: string[]): Scene['answer'] =>
  (what) =>
    words.includes(what) ? new CommandError(`${what} failed`, '', 1, '') : undefined;

test('the journal first, the steps in order, then the commit', async () => {
  const committed: string[] = [];
  const steps = [run('a'), run('b'), hold('ready'), run('c'), hold('prove')];
  const { outcome, guardian } = await play({
    steps,
    transaction: { onCommitted: () => committed.push('told') },
  });
  expect(guardian.heard).toEqual([
    `begin ${renderJournal({ project: 'shop', release: RELEASE, limitSeconds: 42, undo: UNDO, finish: FINISH })}`,
    'docker a',
    'docker b',
    'docker c',
    'commit',
  ]);
  expect(outcome).toEqual({
    kind: 'committed',
    isFinishing: false,
    unfinished: '',
    timeline: steps.map(({ id, title }) => ({ id, title, seconds: expect.any(Number) as number, ok: true })),
  });
  expect(outcome.timeline.reduce((sum, { seconds }) => sum + seconds, 0)).toBe(3);
  expect(committed).toEqual(['told']);
});

test('steps are sent ahead, all up to the next gate, whose watch begins at once', async () => {
  const seen: string[][] = [];
  const clock = new FakeClock();
  const guardian = new FakeGuardian(clock);
  await executeTransaction(
    {
      release: RELEASE,
      steps: [run('a'), run('b'), hold('ready'), run('c')],
      undo: [],
      finish: [],
      before: {},
      hold: () => {
        seen.push([...guardian.heard.slice(1)]);
        return Promise.resolve();
      },
      containers: () => [],
    },
    {
      guardian,
      clock,
      reporter: new FakeReporter(),
      target: { project: 'shop', projectDirectory: '/srv/shop' },
      layout: layoutStore('/srv/shop'),
      signal: new AbortController().signal,
    },
  );
  expect(seen).toEqual([['docker a', 'docker b']]);
});

test('a step that must not be cut off does not make the others wait', async () => {
  const migrate = run('migrate', { timeoutSeconds: 3600, onAbort: 'finish' });
  const { guardian } = await play({ steps: [migrate, run('a', { timeoutSeconds: 200 })] });
  expect(guardian.heard[0]).toContain('\nlimit 200\n');
  expect(guardian.options.map(({ onAbort }) => onAbort)).toEqual(['finish', 'kill']);
});

test('a route names the replicas that serve: both sides, then those that stay and the new ones', async () => {
  const container = (id: string, service: string, over: Partial<ContainerState> = {}): ContainerState =>
    ({ id, name: `shop-${service}-${id}`, service, oneoff: false, ...over }) as ContainerState;
  const { guardian } = await play({
    steps: [run('a'), hold('ready'), route],
    transaction: {
      containers: () => [
        container('c1', 'api'),
        container('c2', 'api'),
        container('c3', 'api', { oneoff: true }),
        container('d1', 'db'),
      ],
    },
  });
  const [stage = '', both, next] = guardian.heard.slice(2);
  // What is there by the second move, and what by the first: in that order it was given.
  expect(stage.match(/shop-\w+-\w+/g)?.sort()).toEqual(['shop-api-c1', 'shop-api-c2', 'shop-api-c2', 'shop-api-c2']);
  expect([both, next]).toEqual(['verb switch-router web both c2', 'verb switch-router web new c2']);
  expect(guardian.options.slice(1).map(({ onAbort }) => onAbort)).toEqual(['finish', 'finish', 'finish']);
});

test('the first step that fails is the cause; what was sent ahead of it is no news', async () => {
  const { outcome, reporter, guardian } = await play({
    steps: [run('a'), run('b'), run('c'), hold('ready'), run('never')],
    answer: failing('docker b'),
  });
  expect(outcome).toMatchObject({ kind: 'undone', cause: { message: 'docker b failed' }, unrestored: '' });
  expect(outcome.timeline.map(({ id, ok }) => [id, ok])).toEqual([
    ['a', true],
    ['b', false],
  ]);
  expect(reporter.shown.filter((line) => line.includes('failed'))).toHaveLength(1);
  expect(guardian.heard).not.toContain('docker never');
  expect(guardian.heard).not.toContain('commit');
  expect(guardian.heard).toContain('abort');
});

test('a gate that says no ends it, and what could not be put back is told', async () => {
  const bad = new ReleaseError('web is unhealthy', '');
  const { outcome } = await play({
    steps: [run('a'), hold('ready'), run('never')],
    end: { kind: 'undone', why: 'abort', unrestored: 'revive c1' },
    transaction: { hold: () => Promise.reject(bad) },
  });
  expect(outcome).toMatchObject({ kind: 'undone', cause: bad, unrestored: 'revive c1' });
});

test('a failing step ends the watch that began beside it', async () => {
  let reason: unknown;
  const { outcome } = await play({
    steps: [run('a'), hold('ready')],
    answer: failing('docker a'),
    transaction: {
      hold: (_step, signal) =>
        new Promise((_, reject) => {
          signal.addEventListener('abort', () => {
            reason = signal.reason;
            reject(new Error('watch ended'));
          });
        }),
    },
  });
  expect(reason).toMatchObject({ message: 'docker a failed' });
  expect(outcome).toMatchObject({ kind: 'undone', cause: { message: 'docker a failed' } });
});

test('a cancel during a gate goes back, and is the cause', async () => {
  const cancel = new AbortController();
  const { outcome, guardian } = await play({
    steps: [run('a'), hold('ready'), run('never')],
    signal: cancel.signal,
    transaction: {
      hold: () => {
        cancel.abort();
        return new Promise(() => undefined);
      },
    },
  });
  expect(outcome).toMatchObject({ kind: 'undone', cause: expect.any(CancelledError) as unknown });
  expect(guardian.heard.at(-1)).toBe('abort');
});

test('a signal with a reason of ours (too many failed requests) goes back for that', async () => {
  const reason = new ReleaseError('3 requests failed', '');
  const { outcome } = await play({ steps: [run('a')], signal: AbortSignal.abort(reason) });
  expect(outcome).toMatchObject({ kind: 'undone', cause: reason });
});

test('what the guardian decides by itself ends a gate', async () => {
  const clock = new FakeClock();
  const guardian = new FakeGuardian(clock);
  const lease = new ReleaseError('the lease has run out', '');
  const outcome = await executeTransaction(
    {
      release: RELEASE,
      steps: [run('a'), hold('ready')],
      undo: [],
      finish: [],
      before: {},
      hold: () => {
        guardian.goBack(lease);
        return new Promise(() => undefined);
      },
      containers: () => [],
    },
    {
      guardian,
      clock,
      reporter: new FakeReporter(),
      target: { project: 'shop', projectDirectory: '/srv/shop' },
      layout: layoutStore('/srv/shop'),
      signal: new AbortController().signal,
    },
  );
  expect(outcome).toMatchObject({ kind: 'undone', cause: lease });
});

test('a lost connection: the end is unknown; one that was heard of after all is known', async () => {
  const lost = new ConnectError('lost', 'gone', '');
  const scene: Scene = { steps: [run('a')], answer: () => lost };
  expect((await play({ ...scene, end: lost })).outcome).toMatchObject({ kind: 'unknown', cause: lost });
  expect((await play({ ...scene, end: { kind: 'committed', unfinished: 'retire c1' } })).outcome).toMatchObject({
    kind: 'committed',
    unfinished: 'retire c1',
  });
});
