import { CancelledError, ProbeError } from '../../src/errors';
import type { HoldStep } from '../../src/model/step';
import { setImmediate } from 'node:timers/promises';
import { readProject, type Service } from '../../src/compose/project';
import type { Http, Remote } from '../../src/ports';
import { parseContainers } from '../../src/probes/container';
import { parseChecks } from '../../src/probes/check';
import type { Check } from '../../src/probes/check-model';
import { FakeClock } from '../fakes/clock';
import { FakeReporter } from '../fakes/reporter';
import { FakeSession } from '../fakes/session';
import {
  BadReleaseError,
  createVerifier,
  waitForRestored,
  type Verifier,
  type VerifyContext,
} from '../../src/transaction/verify';

interface Look {
  readonly id?: string;
  readonly service?: string;
  readonly status?: string;
  readonly health?: string;
  readonly restarts?: number;
  readonly exitCode?: number;
  readonly startedAt?: string;
}

function inspected(look: Look): object {
  const {
    service = 'web',
    id = `id-${service}`,
    status = 'running',
    health,
    restarts = 0,
    exitCode = 0,
    startedAt = '2026-11-22T12:00:00Z',
  } = look;
  return {
    Id: id,
    Name: `/shop-${service}-1`,
    RestartCount: restarts,
    State: {
      Status: status,
      ExitCode: exitCode,
      StartedAt: startedAt,
      ...(health === undefined
        ? {}
        : { Health: { Status: health, Log: [{ ExitCode: 1, Output: 'connection refused' }] } }),
    },
    Config: { Image: 'web:1', Labels: { 'com.docker.compose.project': 'shop', 'com.docker.compose.service': service } },
  };
}

const services = (over: object = {}): readonly Service[] =>
  readProject({ services: { web: { image: 'web:1', ...over } } }).services;

interface Scene {
  readonly services?: readonly Service[];
  readonly checks?: readonly Check[];
  readonly baseline?: readonly string[];
  readonly kept?: VerifyContext['kept'];
  readonly http?: Http;
  readonly log?: string | Error;
  readonly bakeSeconds?: number;
  readonly old?: VerifyContext['old'];
  readonly stopped?: readonly string[];
  readonly tryOut?: VerifyContext['tryOut'];
}

/** A server whose containers are watched: a line each quarter of a second, until it is told to stop. */
function watched(looks: readonly string[], clock: FakeClock): Remote {
  let asked = 0;
  return {
    where: 'deploy@server',
    run: async (_command, { signal, onLine } = {}) => {
      for (;;) {
        await setImmediate();
        if (signal?.aborted === true) throw new CancelledError('The watch was ended.', '');
        onLine?.(looks[Math.min(asked++, looks.length - 1)] ?? '', 'stdout');
        clock.advance(0.25);
      }
    },
  };
}

/** @param looks one a question; the last one stays. */
function scene(
  looks: readonly (readonly Look[])[],
  over: Scene = {},
): { context: VerifyContext; verifier: Verifier; session: FakeSession; clock: FakeClock; reporter: FakeReporter } {
  const session = new FakeSession(() =>
    over.log instanceof Error ? over.log : { stdout: over.log ?? 'starting\n\nboom\n' },
  );
  const clock = new FakeClock();
  const reporter = new FakeReporter();
  const refuse: Http = {
    request: () => Promise.reject(new Error('no request is expected')),
    reach: () => Promise.reject(new Error('no request is expected')),
  };
  const context: VerifyContext = {
    remote: watched(
      looks.map((look) => `containers ${JSON.stringify(look.map(inspected))}`),
      clock,
    ),
    session,
    project: 'shop',
    services: over.services ?? services(),
    changed: ['web'],
    containers: [],
    old: over.old ?? {},
    stopped: new Set(over.stopped),
    bakeSeconds: over.bakeSeconds ?? 0,
    tryOut: over.tryOut,
    kept: over.kept ?? [],
    checks: over.checks ?? [],
    baseline: new Set(over.baseline),
    ports: { http: over.http ?? refuse, clock, reporter },
  };
  return { context, verifier: createVerifier(context), session, clock, reporter };
}

const ready = (names: readonly string[] = ['web'], timeoutSeconds = 30): HoldStep => ({
  kind: 'hold',
  id: 'ready',
  title: '',
  gate: { gate: 'ready', services: names },
  timeoutSeconds,
});
const proven: HoldStep = { kind: 'hold', id: 'prove', title: '', gate: { gate: 'proven' }, timeoutSeconds: 30 };
const signal = new AbortController().signal;

async function failureOf(promise: Promise<unknown>): Promise<BadReleaseError> {
  const failure: unknown = await promise.catch((error: unknown) => error);
  if (!(failure instanceof BadReleaseError)) throw new Error(`not a bad release: ${String(failure)}`);
  return failure;
}

describe('ready', () => {
  test('as soon as it is healthy', async () => {
    const { verifier, clock } = scene([[], [{ health: 'starting' }], [{ health: 'healthy' }]]);
    await verifier.hold(ready(), signal);
    expect(clock.monotonicMs()).toBeLessThan(1000);
    expect(verifier.containers()).toMatchObject([{ service: 'web', health: 'healthy' }]);
  });

  test.each([
    ['5 s', services(), 5],
    ['what monitor says', services({ deploy: { update_config: { monitor: '2s' } } }), 2],
  ])('without a health check after %s', async (_name, wanted, seconds) => {
    const { verifier, clock } = scene([[{}]], { services: wanted });
    await verifier.hold(ready(), signal);
    expect(clock.monotonicMs()).toBeGreaterThanOrEqual(seconds * 1000);
    expect(clock.monotonicMs()).toBeLessThan(seconds * 1000 + 600);
  });

  test('a bad one brings all that is known of it', async () => {
    const { verifier, session } = scene([[{ health: 'starting' }], [{ health: 'unhealthy', restarts: 1 }]]);
    const failure = await failureOf(verifier.hold(ready(), signal));
    expect(failure).toMatchObject({ service: 'web', message: 'shop-web-1 is unhealthy' });
    expect(failure.evidence).toEqual({
      states: [
        'shop-web-1: running, restarted once, unhealthy',
        'its last health check: exit code 1: connection refused',
      ],
      log: ['starting', 'boom'],
    });
    expect(session.commands.map(({ text }) => text)).toEqual([
      `sh -c 'docker logs --tail "$2" "$1" 2>&1' slipway id-web 30`,
    ]);
  });

  test.each([
    ['', 'shop-web-1 has logged nothing'],
    [new Error('gone'), 'the log of shop-web-1 could not be read: gone'],
  ])('a log that is %p', async (log, expected) => {
    const failure = await failureOf(
      scene([[{ status: 'exited', exitCode: 1 }]], { log }).verifier.hold(ready(), signal),
    );
    expect(failure.evidence).toMatchObject({ log: [], states: expect.arrayContaining([expected]) as unknown });
  });

  test('in time, or not', async () => {
    const { verifier, reporter } = scene([[{ health: 'starting' }]]);
    const failure = await failureOf(verifier.hold(ready(['web'], 12), signal));
    expect(failure.message).toBe('not ready within 12s (input timeout): shop-web-1 is starting');
    expect(reporter.shown.filter((line) => line.includes('is starting'))).toHaveLength(2);
    expect(reporter.shown[0]).toMatch(/^line {3}5\.\d+s: /);
  });

  test('can be cancelled', async () => {
    await expect(scene([[{}]]).verifier.hold(ready(), AbortSignal.abort())).rejects.toThrow(CancelledError);
  });

  test('an answer that cannot be read is an error, not "no containers"', async () => {
    const { context, clock } = scene([]);
    const verifier = createVerifier({ ...context, remote: watched(['containers [{'], clock) });
    await expect(verifier.hold(ready(), signal)).rejects.toThrow(SyntaxError);
  });

  test('a watch that ends by itself is an error', async () => {
    const { context } = scene([]);
    const remote: Remote = { ...context.remote, run: () => Promise.resolve({ exitCode: 0, stdout: '', stderr: '' }) };
    await expect(createVerifier({ ...context, remote }).hold(ready(), signal)).rejects.toThrow(
      'The watch of the containers at deploy@server ended by itself.',
    );
  });

  test('old replicas that run beside the new ones do not count', async () => {
    const { verifier } = scene(
      [
        [{ id: 'old', health: 'healthy' }],
        [
          { id: 'old', health: 'unhealthy' },
          { id: 'new', health: 'healthy' },
        ],
      ],
      {
        old: { web: ['old'] },
      },
    );
    await verifier.hold(ready(), signal);
    expect(verifier.containers().map(({ id }) => id)).toEqual(['old', 'new']);
  });

  test('what a health command of our own has found is enough', async () => {
    const { context, clock } = scene([]);
    const look = `containers ${JSON.stringify([inspected({ id: 'abc123', health: 'starting' })])}`;
    const lines = [look, 'noise', 'probe abc123 2026-11-22T12:00:00Z 0', 'same'];
    const verifier = createVerifier({ ...context, remote: watched(lines, clock) });
    await verifier.hold(ready(), signal);
    expect(verifier.containers()).toMatchObject([{ health: 'healthy' }]);
  });
});

describe('what was stopped for its successor, and runs again', () => {
  const old: Look = { id: 'old', status: 'exited' };
  const back: Look = { id: 'old', status: 'running', health: 'healthy' };
  const stopped = { old: { web: ['old'] }, stopped: ['old'] };

  test.each<[string, Look]>([
    ['beside the new one', { health: 'starting' }],
    ['instead of the new one', { status: 'exited', exitCode: 137 }],
  ])('%s: that is the end', async (_name, new_) => {
    const { verifier } = scene(
      [
        [old, { health: 'starting' }],
        [back, new_],
      ],
      stopped,
    );
    const failure = await failureOf(verifier.hold(ready(), signal));
    expect(failure.message).toBe('shop-web-1 is running, which was stopped for its successor: was Docker restarted?');
  });

  test('also after all is ready; but not before its turn to be stopped', async () => {
    const { verifier } = scene(
      [
        [old, { health: 'healthy' }],
        [back, { health: 'healthy' }],
      ],
      stopped,
    );
    await verifier.hold(ready(), signal);
    expect((await failureOf(verifier.hold(proven, signal))).message).toContain('was Docker restarted?');
    const later = scene([[back, { service: 'api', health: 'healthy' }]], {
      ...stopped,
      services: readProject({ services: { web: { image: 'web:1' }, api: { image: 'api:1' } } }).services,
    });
    await later.verifier.hold(ready(['api']), signal);
  });

  test('a new one that has ended is started again beside none of them', async () => {
    const { verifier, session } = scene(
      [
        [old, { status: 'exited', exitCode: 1 }],
        [old, { health: 'healthy', startedAt: 'later' }],
      ],
      // `later` is of a service whose turn to be stopped is still to come: it runs.
      { old: { ...stopped.old, api: ['later'] }, stopped: ['old', 'later'], services: services({ restart: 'always' }) },
    );
    await verifier.hold(ready(), signal);
    expect(session.commands.map(({ command }) => command.words.slice(4))).toEqual([['id-web', 'old']]);
    // The summary counts what the messages count.
    expect(verifier.containers().find(({ id }) => id !== 'old')).toMatchObject({ restartCount: 1 });
  });
});

describe('proven', () => {
  const fine: Look = { health: 'healthy' };

  test('at once, where nothing is to be tried or watched', async () => {
    const { verifier, clock } = scene([[fine]]);
    await verifier.hold(ready(), signal);
    await verifier.hold(proven, signal);
    expect(clock.monotonicMs()).toBeLessThan(1000);
  });

  test('after the bake time', async () => {
    const { verifier, clock } = scene([[fine]], { bakeSeconds: 30 });
    await verifier.hold(ready(), signal);
    await verifier.hold(proven, signal);
    expect(clock.sleeps).toEqual([30]);
  });

  test.each<[string, Look, string]>([
    [
      'crashes',
      { health: 'healthy', restarts: 1, exitCode: 1 },
      'shop-web-1 crashed after it had become ready (restarted once)',
    ],
    ['becomes unhealthy', { health: 'unhealthy' }, 'shop-web-1 became unhealthy after it had been ready'],
    ['ends', { status: 'exited', exitCode: 2 }, 'shop-web-1 ended after it had become ready: exited, exit code 2'],
  ])('what %s meanwhile is not', async (_name, later, message) => {
    let ended = false;
    const { verifier } = scene([[fine], [fine], [fine], [later]], {
      // Goes on until it is told that something else has failed.
      tryOut: (_containers, during) =>
        new Promise((_, reject) => {
          during.addEventListener('abort', () => {
            ended = true;
            reject(new Error('ended'));
          });
        }),
    });
    await verifier.hold(ready(), signal);
    expect((await failureOf(verifier.hold(proven, signal))).message).toBe(message);
    expect(ended).toBe(true);
  });

  test('what is tried and fails is the reason', async () => {
    const { verifier } = scene([[fine]], {
      tryOut: () => Promise.reject(new ProbeError('e2e-command: exit code 1', '')),
    });
    await verifier.hold(ready(), signal);
    await expect(verifier.hold(proven, signal)).rejects.toThrow('e2e-command: exit code 1');
  });

  describe('with checks', () => {
    const checks = parseChecks('https://shop.example/health', {
      input: 'health-checks',
      attempts: 1,
      intervalSeconds: 1,
      timeoutSeconds: 5,
      project: 'shop',
    }).checks;
    const answering = (status: number): Http => ({
      request: () =>
        Promise.resolve({
          status,
          headers: {},
          body: '',
          bodyTruncated: false,
          latencyMs: 5,
          certificate: undefined,
          location: undefined,
        } as never),
      reach: () => Promise.reject(new Error('not expected')),
    });

    test('that pass', async () => {
      const { verifier } = scene([[{ health: 'healthy' }]], { checks, http: answering(200) });
      await verifier.hold(ready(), signal);
      await verifier.hold(proven, signal);
      expect(verifier.outcomes()).toMatchObject([{ ok: true }]);
    });

    test('that fail', async () => {
      const { verifier } = scene([[{ health: 'healthy' }]], { checks, http: answering(503) });
      await verifier.hold(ready(), signal);
      await expect(verifier.hold(proven, signal)).rejects.toThrow(ProbeError);
      expect(verifier.outcomes()).toMatchObject([{ ok: false }]);
    });

    test('that failed before the deploy too', async () => {
      const { verifier } = scene([[{ health: 'healthy' }]], {
        checks,
        http: answering(503),
        baseline: checks.map(({ name }) => name),
      });
      await verifier.hold(ready(), signal);
      await verifier.hold(proven, signal);
      expect(verifier.outcomes()).toMatchObject([{ ok: false }]);
    });
  });
});

describe('what was to be left alone', () => {
  const [db] = parseContainers(JSON.stringify([inspected({ service: 'db', id: 'db-before' })]));
  if (db === undefined) throw new Error('no container was read');
  const fine: Look = { health: 'healthy' };
  const prove = async (later: readonly Look[], services?: readonly Service[]): Promise<unknown> => {
    const { verifier } = scene([[fine, { service: 'db', id: 'db-before' }], later], {
      kept: [db],
      ...(services === undefined ? {} : { services }),
    });
    await verifier.hold(ready(), signal);
    return verifier.hold(proven, signal);
  };

  test('and is still there is fine, whatever it does', async () => {
    await expect(prove([fine, { service: 'db', id: 'db-before' }])).resolves.toBeUndefined();
    await expect(
      prove([fine, { service: 'db', id: 'db-before', status: 'exited', exitCode: 1 }]),
    ).resolves.toBeUndefined();
  });

  test.each<[string, readonly Look[]]>([
    ['is gone', [fine]],
    ['is another container now', [fine, { service: 'db', id: 'db-after' }]],
  ])('and %s fails the release, and names it', async (_name, later) => {
    const failure = await failureOf(prove(later));
    expect(failure).toMatchObject({
      service: 'db',
      message: 'shop-db-1 was to be left alone, and is gone or was replaced',
    });
  });
});

test('what was put back is waited for, and its trouble is told', async () => {
  const compose = '{"services":{"web":{"image":"web:1"}}}';
  const wait = (names: readonly string[], ...looks: Look[][]): Promise<string | undefined> =>
    waitForRestored(names, compose, 30, scene(looks).context);
  expect(await wait(['web'], [{ health: 'starting' }], [{ health: 'healthy' }])).toBeUndefined();
  expect(await wait(['web'], [{ status: 'exited', exitCode: 1 }])).toBe('shop-web-1 ended with exit code 1');
  expect(await wait(['other'])).toBeUndefined();
});
