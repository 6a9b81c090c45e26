import { PassThrough } from 'node:stream';
import { CancelledError, ConnectError, RequestError } from '../../src/errors';
import type { Completed, Http, HttpResponse, RunOptions, Session } from '../../src/ports';
import type { Command } from '../../src/model/command';
import { parseChecks } from '../../src/probes/check';
import type { Check } from '../../src/probes/check-model';
import { describeOutcome, explainVantages, groupResults } from '../../src/probes/outcome';
import type { CheckResult } from '../../src/probes/poll';
import { judgeCommand, runChecks } from '../../src/probes/run-checks';
import { failed, passed } from '../../src/probes/verdict';
import { FakeClock } from '../fakes/clock';

function read(text: string, attempts = 1): readonly Check[] {
  const { checks, problems } = parseChecks(text, {
    input: 'checks',
    attempts,
    intervalSeconds: 2,
    timeoutSeconds: 10,
    project: 'shop',
  });
  expect(problems).toEqual([]);
  return checks;
}

const answer: HttpResponse = {
  status: 200,
  headers: {},
  body: '',
  truncated: false,
  latencyMs: 5,
  certificate: undefined,
};

/** Answers on the server and from outside as told. */
function fakeHttp(onServer: boolean, outside: boolean): Http {
  const reach = (up: boolean): Promise<HttpResponse> =>
    up ? Promise.resolve(answer) : Promise.reject(new RequestError('refused', 'refused the connection', 'Start it.'));
  return {
    request: ({ dial }) => reach(dial === undefined ? outside : onServer),
    reach: ({ dial }) => reach(dial === undefined ? outside : onServer),
  };
}

function fakeSession(run: (command: Command, options: RunOptions) => Promise<Completed>): Session {
  return {
    where: 'deploy@server',
    run: (command, options = {}) => run(command, options),
    start: () => Promise.reject(new Error('not asked for')),
    dial: () => Promise.resolve(new PassThrough()),
    close: () => Promise.resolve(),
  };
}

const nothing = fakeSession(() => Promise.resolve({ exitCode: 0, stdout: '[]', stderr: '' }));

test('every check is made to its end, in parallel, and reported in order', async () => {
  const seen: string[] = [];
  const results = await runChecks(
    read('tcp://a.test:1\nhttps://b.test/ attempts:1\ncontainer:api\ntcp://c.test:1', 3),
    {
      http: fakeHttp(true, false),
      clock: new FakeClock(),
      session: nothing,
      onResult: (result) => seen.push(result.check.name),
    },
  );
  expect(results.map((result) => [result.check.name, result.ok, result.attempts])).toEqual([
    ['tcp://a.test:1', false, 3],
    ['https://b.test/', false, 1],
    ['container:api', false, 3],
    ['tcp://c.test:1', false, 3],
  ]);
  expect(seen).toHaveLength(4);
});

test.each([
  [true, true, true, 'answers on the server and from outside'],
  [true, false, false, 'answers on the server, not from outside: firewall, DNS or proxy'],
  [
    false,
    true,
    false,
    'answers from outside, not on the server: another server may be answering, or the server cannot reach its own public address',
  ],
  [false, false, false, 'fails on the server and from outside alike: the application itself'],
])('two vantages: server %s, outside %s', async (onServer, outside, ok, explanation) => {
  const results = await runChecks(read('https://a.test/ via:both'), {
    http: fakeHttp(onServer, outside),
    clock: new FakeClock(),
    session: nothing,
  });
  expect(results.map((result) => result.vantage)).toEqual(['ssh', 'runner']);
  const [outcome] = groupResults(results);
  expect(outcome).toMatchObject({ ok, explanation });
  if (outcome !== undefined && onServer && !outside) {
    expect(describeOutcome(outcome)).toBe(`${explanation}; from the runner: refused the connection`);
  }
});

test('two vantages that fail in different ways, or of which one could not be asked', () => {
  const [check] = read('https://a.test/ via:both');
  if (check === undefined) throw new Error('no check');
  const base: CheckResult = {
    check,
    vantage: 'ssh',
    ok: false,
    attempts: 1,
    lastVerdict: failed('status 502'),
    latenciesMs: [1],
    durationMs: 1,
  };
  expect(explainVantages(base, { ...base, lastVerdict: failed('timeout') })).toMatch(
    /^fails on the server and from outside: begin with the application/,
  );
  expect(explainVantages({ ...base, attempts: 0 }, { ...base, ok: true, lastVerdict: passed('x') })).toBe(
    'answers from outside; the server could not be asked',
  );
  expect(explainVantages({ ...base, attempts: 0 }, base)).toBe(
    'does not answer from outside; the server could not be asked',
  );
});

test('without a connection the checks via ssh fail with its reason, and the others are made', async () => {
  const session = new ConnectError('refused', 'deploy@server refused the connection.', 'Is sshd up?');
  const results = await runChecks(read('https://a.test/ via:both\ncontainer:api\ncommand: true'), {
    http: fakeHttp(true, true),
    clock: new FakeClock(),
    session,
  });
  expect(results.map((result) => [result.vantage, result.ok, result.attempts])).toEqual([
    ['ssh', false, 0],
    ['runner', true, 1],
    ['ssh', false, 0],
    ['ssh', false, 0],
  ]);
  expect(results[0]?.lastVerdict).toEqual(
    failed('not made, no SSH connection: deploy@server refused the connection.', 'Is sshd up?'),
  );
  const [none] = await runChecks(read('container:api'), { http: fakeHttp(true, true), clock: new FakeClock() });
  expect(none?.lastVerdict.reason).toBe('there is no SSH connection to make it from');
});

test('containers and commands are asked of the server', async () => {
  const asked: [string, number | undefined][] = [];
  const inspected = [
    {
      Name: '/shop-api-1',
      State: { Status: 'running' },
      Config: { Labels: { 'com.docker.compose.service': 'api', 'com.docker.compose.project': 'shop' } },
    },
  ];
  const session = fakeSession(({ words }, { timeoutSeconds, accept }) => {
    asked.push([words.slice(0, 2).join(' '), timeoutSeconds]);
    if (words[2]?.startsWith('pg_isready') === true && accept === 'any')
      return Promise.resolve({ exitCode: 2, stdout: 'x'.repeat(2000), stderr: 'no response\n' });
    return Promise.resolve({ exitCode: 0, stdout: JSON.stringify(inspected), stderr: '' });
  });
  const checks = read(`container:api\ncommand: pg_isready -h '$HOME'; exit 2`);
  const results = await runChecks(checks, { http: fakeHttp(true, true), clock: new FakeClock(), session });
  expect(results.map((result) => result.lastVerdict.reason)).toEqual(['shop-api-1 is running', 'exit code 2']);
  expect(results[1]?.lastVerdict.detail).toContain('x');
  expect(asked).toEqual([
    ['sh -c', 10],
    ['sh -c', 10],
  ]);
});

test('Docker that cannot be asked fails the check, with its words', async () => {
  const stderr = 'Cannot connect to the Docker daemon\nIs it running?';
  const session = fakeSession(() => Promise.resolve({ exitCode: 1, stdout: '', stderr }));
  const [result] = await runChecks(read('container:api'), {
    http: fakeHttp(true, true),
    clock: new FakeClock(),
    session,
  });
  expect(result?.lastVerdict).toEqual(
    failed('Docker could not be asked (exit code 1)', 'Cannot connect to the Docker daemon Is it running?'),
  );
});

test('a connection that is lost on the way fails the check, in one line', async () => {
  const session = fakeSession(() =>
    Promise.reject(new ConnectError('lost', 'The connection\nwas lost.', 'Try\nagain.')),
  );
  const [result] = await runChecks(read('command: true'), {
    http: fakeHttp(true, true),
    clock: new FakeClock(),
    session,
  });
  expect(result?.lastVerdict).toEqual(failed('The connection was lost.', 'Try again.'));
});

test('an answer of docker that cannot be read fails the check and stops nothing else', async () => {
  const session = fakeSession(() => Promise.resolve({ exitCode: 0, stdout: 'podman says hello', stderr: '' }));
  const results = await runChecks(read('container:api\ntcp://a.test:1'), {
    http: fakeHttp(true, true),
    clock: new FakeClock(),
    session,
  });
  expect(results.map((result) => result.ok)).toEqual([false, true]);
  expect(results[0]?.lastVerdict.reason).toBe('docker inspect did not print a JSON array but: podman says hello');
});

test('at most 6 commands and 16 connections at a time', async () => {
  const counts = { commands: [0, 0], connections: [0, 0] };
  const count = async <T>(kind: keyof typeof counts, value: T): Promise<T> => {
    const [now = 0, most = 0] = counts[kind];
    counts[kind] = [now + 1, Math.max(most, now + 1)];
    await new Promise((resolve) => setImmediate(resolve));
    counts[kind][0] = (counts[kind][0] ?? 0) - 1;
    return value;
  };
  const session = fakeSession(() => count('commands', { exitCode: 0, stdout: '', stderr: '' }));
  const http: Http = { request: () => count('connections', answer), reach: () => count('connections', answer) };
  const lines = Array.from({ length: 40 }, (_, index) => `tcp://h${index}.test:1\ncommand: echo ${index}`);
  const results = await runChecks(read(lines.join('\n')), { http, clock: new FakeClock(), session });
  expect(results).toHaveLength(80);
  expect(results.every((result) => result.ok)).toBe(true);
  expect(counts).toEqual({ commands: [0, 6], connections: [0, 16] });
});

test('loopback seen from the runner gets a hint', async () => {
  const [result] = await runChecks(read('http://localhost:3000/'), {
    http: fakeHttp(true, false),
    clock: new FakeClock(),
  });
  expect(result?.lastVerdict.reason).toBe(
    'refused the connection (seen from the runner, localhost is the runner itself: for a port of the server say `via: ssh`)',
  );
});

test('a cancelled workflow ends it', async () => {
  const http = fakeHttp(true, true);
  await expect(
    runChecks(read('tcp://a.test:1'), { http, clock: new FakeClock(), signal: AbortSignal.abort() }),
  ).rejects.toBeInstanceOf(CancelledError);
});

test('commands: the end of the output is shown, in one line', () => {
  expect(judgeCommand({ exitCode: 0, stdout: 'ok\n', stderr: '' })).toEqual(passed('exit code 0', 'ok'));
  const verdict = judgeCommand({ exitCode: 1, stdout: '', stderr: `${'x'.repeat(5000)}\nlast words` });
  expect(verdict.detail).toContain('last words');
});
