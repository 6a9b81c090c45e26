import { CancelledError, CommandError, ConnectError, ReleaseError } from '../../src/errors';
import type { Guardian, StepOptions, Verdict } from '../../src/guardian/client';
import { renderJournal } from '../../src/guardian/journal';
import type { Command } from '../../src/model/command';
import type { FinishVerb, RoutedService, RouteStep, Step, UndoVerb } from '../../src/model/step';
import type { Completed } from '../../src/ports';
import type { ContainerState } from '../../src/probes/container';
import { layoutStore } from '../../src/releases/layout';
import { routerFiles } from '../../src/routers/nginx';
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
const api: RoutedService = { service: 'api', port: 3000, before: ['c1'], staying: [], retiring: [] };
const route: RouteStep = {
  kind: 'route',
  id: 'route-web',
  title: 'route',
  router: 'web',
  upstreams: [api],
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
  readonly waitedFor = undefined;
  readonly recovery = undefined;
  readonly heard: string[] = [];
  readonly commands: Command[] = [];
  readonly options: StepOptions[] = [];
  readonly #committed = Promise.withResolvers<undefined>();
  readonly #verdict = Promise.withResolvers<Verdict>();
  readonly committed = this.#committed.promise;
  readonly verdict = this.#verdict.promise;
  readonly #clock: FakeClock;
  readonly #answer: (what: string) => Error | undefined;
  #end: Verdict | ConnectError = { kind: 'undone', why: '', unrestored: '' };
  #finishing: Promise<Verdict> = Promise.resolve({ kind: 'committed' });
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

  /** What comes after the commit. */
  finishes(finishing: Promise<Verdict>): this {
    this.#finishing = finishing;
    return this;
  }

  begin(journal: string): void {
    this.heard.push(`begin ${journal}`);
  }

  run(): Promise<Completed> {
    return Promise.reject(new Error('nothing is asked'));
  }

  step(command: Command, options: StepOptions): Promise<Completed> {
    this.commands.push(command);
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
    this.#finishing.then(this.#verdict.resolve, this.#verdict.reject);
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
  readonly finishing?: Promise<Verdict>;
  readonly signal?: AbortSignal;
  readonly transaction?: Partial<Transaction>;
}

async function play({ steps = [], answer, end, finishing, signal, transaction = {} }: Scene): Promise<{
  outcome: Outcome;
  guardian: FakeGuardian;
  reporter: FakeReporter;
  clock: FakeClock;
}> {
  const clock = new FakeClock();
  const guardian = new FakeGuardian(clock, answer);
  if (end !== undefined) guardian.endsWith(end);
  if (finishing !== undefined) guardian.finishes(finishing);
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
  return { outcome, guardian, reporter, clock };
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

describe('a route', () => {
  const container = (id: string, service: string, over: Partial<ContainerState> = {}): ContainerState =>
    ({ id, name: `shop-${service}-${id}`, service, oneoff: false, ...over }) as ContainerState;
  const there = [
    container('c1', 'api'),
    container('c2', 'api'),
    container('c3', 'api', { oneoff: true }),
    container('d1', 'db'),
  ];
  const { both: bothFile, next: nextFile, final: finalFile } = routerFiles(layoutStore('/srv/shop'), 'web');
  interface Staged {
    /** By file: its lines `server NAME PARAMETERS`. */
    readonly servers: Readonly<Record<string, readonly string[]>>;
    readonly moves: readonly string[];
    readonly options: readonly StepOptions[];
  }
  /** What is staged, as the stage script would write it. */
  async function stage(step: RouteStep, old: readonly string[] = ['c1']): Promise<Staged> {
    const { guardian } = await play({
      steps: [run('a'), hold('ready'), step],
      transaction: { before: { api: old }, containers: () => there },
    });
    const words = guardian.commands[1]?.words.slice(5) ?? [];
    const files = words.flatMap((word, at) => (at % 2 === 0 ? [[word, words[at + 1] ?? ''] as const] : []));
    const read = (text: string): string[] =>
      [...text.matchAll(/^ +server (shop-[^;]*);$/gm)].map(([, server = '']) => server);
    return {
      servers: Object.fromEntries(files.map(([file, text]) => [file, read(text)])),
      moves: guardian.heard.slice(3, -1),
      options: guardian.options.slice(1),
    };
  }

  test('stages the old, while the new wait; then the new ones, with the old as the last resort; then the new ones alone', async () => {
    const step = { ...route, upstreams: [{ ...api, retiring: ['c1'] }] };
    const { servers, moves, options } = await stage(step);
    expect(servers).toEqual({
      [bothFile]: [
        'shop-api-c1:3000 resolve max_fails=0',
        'shop-api-c2:3000 resolve max_fails=0 down',
        // To be tried out, where no visitor comes.
        'shop-api-c1:3000 resolve max_fails=0',
        'shop-api-c2:3000 resolve max_fails=0',
      ],
      [nextFile]: [
        'shop-api-c2:3000 resolve max_fails=1 fail_timeout=2s',
        'shop-api-c1:3000 resolve max_fails=1 fail_timeout=2s down',
        'shop-api-c1:3000 resolve max_fails=1 fail_timeout=2s backup',
      ],
      [finalFile]: ['shop-api-c2:3000 resolve max_fails=1 fail_timeout=2s'],
    });
    expect(moves).toEqual(['verb switch-router web both c2', 'verb switch-router web new c2']);
    expect(options.map(({ onAbort, timeoutSeconds }) => [onAbort, timeoutSeconds])).toEqual(
      Array(3).fill(['finish', 60]),
    );
  });

  test('those that stay go on serving beside the new ones, and what leaves is the last resort', async () => {
    const scaled = { ...route, upstreams: [{ ...api, before: ['c1', 'c2'], staying: ['c1'], retiring: ['c2'] }] };
    const { servers, moves } = await stage(scaled, ['c1', 'c2']);
    expect(servers).toMatchObject({
      [nextFile]: [
        expect.stringMatching(/^shop-api-c1:.*s$/),
        expect.stringMatching(/^shop-api-c2:.* down$/),
        expect.stringMatching(/^shop-api-c2:.* backup$/),
      ],
      [finalFile]: [expect.stringMatching(/^shop-api-c1:/)],
    });
    // None is new that it would have to be asked about.
    expect(moves).toEqual(['verb switch-router web both', 'verb switch-router web new']);
  });

  // An nginx that resolves names once does not take a configuration with the name of one that is stopped.
  test.each([
    [
      true,
      [
        'shop-api-c2:3000 resolve max_fails=1 fail_timeout=2s',
        expect.stringMatching(/^shop-api-c1:.* down$/),
        expect.stringMatching(/^shop-api-c1:.* backup$/),
      ],
    ],
    [false, ['shop-api-c2:3000 max_fails=1 fail_timeout=2s']],
  ])('what was stopped is a last resort where names are resolved again (%p), else not', async (resolve, next) => {
    const stopped = { ...route, resolve, upstreams: [{ ...api, before: [], retiring: ['c1'] }] };
    const { servers } = await stage(stopped);
    expect(servers[bothFile]).toEqual([
      expect.stringMatching(/^shop-api-c2:.*max_fails=0$/),
      expect.stringMatching(/^shop-api-c2:.*max_fails=0$/),
    ]);
    expect(servers[nextFile]).toEqual(next);
    expect(servers[finalFile]).toEqual([expect.stringMatching(/^shop-api-c2:/)]);
  });
});

test('nobody stands by while old replicas serve their last clients', async () => {
  const { outcome, clock } = await play({ steps: [run('a')], finishing: new Promise(() => undefined) });
  expect(outcome.kind).toBe('committed');
  expect(clock.sleeps).toEqual([]);
});

test('a connection that is lost after the commit is no failure', async () => {
  const told: string[] = [];
  const lost = new ConnectError('lost', 'gone', '');
  const { outcome } = await play({
    steps: [run('a')],
    finishing: Promise.reject(lost),
    transaction: { onCommitted: () => told.push('told') },
  });
  expect(told).toEqual(['told']);
  expect(outcome.kind).toBe('committed');
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

test.each([
  ['lease', /had not heard of this runner/],
  ['preempted rollback by ann', /Another session has taken over: rollback by ann/],
])('what failed because the guardian went back by itself (%s) is not the reason', async (why, message) => {
  const { outcome } = await play({
    steps: [run('a'), hold('ready')],
    end: { kind: 'undone', why, unrestored: '' },
    transaction: { hold: () => Promise.reject(new Error('the watch ended with exit code 143')) },
  });
  expect(outcome).toMatchObject({ kind: 'undone', cause: { message: expect.stringMatching(message) as string } });
});

test('a lost connection: the end is unknown; one that was heard of after all is known', async () => {
  const lost = new ConnectError('lost', 'gone', '');
  const scene: Scene = { steps: [run('a')], answer: () => lost };
  expect((await play({ ...scene, end: lost })).outcome).toMatchObject({ kind: 'unknown', cause: lost });
  const { outcome } = await play({ ...scene, end: { kind: 'committed' } });
  expect(outcome.kind).toBe('committed');
});
