/** The annotation of a transaction, over the real HTTP client, to a server that holds requests against Grafana's documentation. */
import { connect } from 'node:net';
import { createHttp } from '../../src/adapters/http-client';
import { systemClock } from '../../src/adapters/clock';
import { beginAnnotation, endAnnotation, warnOfAnnotation } from '../../src/engine/annotation';
import { concludeReport, createReport, type TransactionReport } from '../../src/engine/report';
import type { Transaction } from '../../src/engine/transaction';
import { Secret } from '../../src/model/secret';
import type { Ports, Session } from '../../src/ports';
import { FakeReporter } from '../fakes/reporter';
import { GrafanaApi } from '../grafana-api';

const TOKEN = 'glsa_annotation-token-0000000000';
const RELEASE = '20261122T223100Z-ab12cd3';

let api: GrafanaApi;
let port: number;

beforeEach(async () => {
  api = new GrafanaApi(TOKEN, '/grafana');
  port = await api.listen();
});
afterEach(() => api.close());

interface Scene {
  readonly transaction: Transaction;
  readonly report: TransactionReport;
  readonly ports: Ports;
  readonly reporter: FakeReporter;
  readonly state: Record<string, string>;
  /** Times that the server was connected to. */
  readonly connected: string[];
}

/** @param host of the server; `local` is this machine, whose loopback is ours. */
function stage(
  over: {
    token?: string;
    url?: string;
    host?: Transaction['inputs']['host'];
    cancelled?: boolean;
    hangs?: boolean;
  } = {},
): Scene {
  const reporter = new FakeReporter();
  const report = createReport('deploy');
  const state: Record<string, string> = { release: RELEASE };
  const connected: string[] = [];
  const session: Partial<Session> = {
    dial: (to, number) => {
      connected.push(`dial ${to}:${number}`);
      return Promise.resolve(connect(number, to));
    },
    close: () => {
      connected.push('close');
      return over.hangs === true ? new Promise(() => undefined) : Promise.resolve();
    },
  };
  const ports = {
    http: createHttp(),
    clock: systemClock,
    reporter,
    runner: {
      context: { commit: 'ab12cd3'.padEnd(40, '0'), runUrl: 'https://github.com/acme/shop/actions/runs/1' },
      state: (name: string) => state[name] ?? '',
      saveState: (name: string, value: string) => {
        state[name] = value;
      },
    },
    connect: () => Promise.resolve(session as Session),
    signal: over.cancelled === true ? AbortSignal.abort() : new AbortController().signal,
  } as unknown as Ports;
  const token = over.token ?? TOKEN;
  if (token !== '') reporter.hide(token);
  const transaction = {
    task: 'deploy',
    project: 'shop',
    inputs: {
      host: over.host ?? { kind: 'local' },
      environment: 'production',
      grafana: { url: over.url ?? `http://127.0.0.1:${port}/grafana`, token: new Secret(token) },
    },
    ports,
    report,
  } as unknown as Transaction;
  return { transaction, report, ports, reporter, state, connected };
}

const summariesOf = ({ shown }: FakeReporter): string[] => shown.filter((line) => line.startsWith('summary '));

test.each(['deployed', 'reverted', 'failed'] as const)('a release that was %s', async (result) => {
  const { transaction, report, ports, reporter, state } = stage();
  const before = Date.now();
  beginAnnotation(RELEASE, transaction);
  report.result = result;
  await concludeReport(report, ports);
  expect(api.problems).toEqual([]);
  expect(api.annotations).toMatchObject([{ tags: ['slipway', 'shop', 'production', result] }]);
  const [{ time, timeEnd, text } = { time: 0, timeEnd: 0, text: '' }] = api.annotations;
  expect(time).toBeGreaterThanOrEqual(before);
  expect(timeEnd).toBeLessThanOrEqual(Date.now());
  expect(text).toContain(RELEASE);
  expect(report.warnings).toEqual([]);
  expect(reporter.shown.join('\n')).not.toContain(TOKEN);
  // The post step has nothing left to tell.
  await endAnnotation('deployed', transaction, ports);
  expect([state['annotation'], api.annotations.length]).toEqual(['', 1]);
});

test('what nobody knows yet, the post step tells once it knows', async () => {
  const { transaction, report, ports } = stage();
  beginAnnotation(RELEASE, transaction);
  report.result = 'unknown';
  await concludeReport(report, ports);
  expect(api.annotations).toEqual([]);
  await endAnnotation('deployed', transaction, ports);
  expect(api.annotations).toMatchObject([{ tags: ['slipway', 'shop', 'production', 'deployed'] }]);
});

test.each([
  ['not well is told by the post step', 503, 1],
  ['against it is not asked again', 403, 0],
])('a Grafana that is %s', async (_what, status, told) => {
  let answers = 0;
  api.before = (response) => {
    if (++answers > 1) return false;
    response.writeHead(status).end();
    return true;
  };
  const { transaction, report, ports, reporter } = stage();
  beginAnnotation(RELEASE, transaction);
  report.result = 'deployed';
  await concludeReport(report, ports);
  // What comes after the summary is in it all the same.
  const summaries = summariesOf(reporter);
  expect(summaries).toHaveLength(2);
  expect(summaries[1]).toContain('was not told of this deploy');
  await endAnnotation('deployed', transaction, ports);
  expect([api.annotations.length, answers]).toEqual([told, 1 + told]);
});

test('without a token nobody is asked, and a warning says so', async () => {
  const { transaction, report, ports, state } = stage({ token: '' });
  beginAnnotation(RELEASE, transaction);
  report.result = 'deployed';
  await concludeReport(report, ports);
  expect([api.annotations, api.problems, state['annotation']]).toEqual([[], [], undefined]);
  expect(warnOfAnnotation(transaction.inputs)).toEqual([expect.stringContaining('`grafana-token` is empty')]);
  expect(warnOfAnnotation(stage().transaction.inputs)).toEqual([]);
  expect(warnOfAnnotation({ ...transaction.inputs, grafana: undefined })).toEqual([]);
});

test('without a Grafana, and where nothing was begun, nobody is asked', async () => {
  const { transaction, report, ports } = stage();
  const inputs = { ...transaction.inputs, grafana: undefined };
  beginAnnotation(RELEASE, { ...transaction, inputs });
  await concludeReport(report, ports);
  await endAnnotation('deployed', { ...transaction, inputs }, ports);
  await endAnnotation('deployed', transaction, ports);
  expect(api.annotations).toEqual([]);
});

test.each([
  ['', 'Failed, and removed again'],
  ['20261121T090000Z-9f8e7d6', 'Failed, and put back'],
])('the post step tells what a killed main step could not; before it served: %s', async (previous, title) => {
  const { transaction, report, ports, state } = stage();
  report.previous = previous;
  beginAnnotation(RELEASE, transaction, 'f'.repeat(40));
  expect(JSON.stringify(state)).not.toContain(TOKEN);
  await endAnnotation('reverted', transaction, ports);
  expect(api.annotations).toMatchObject([{ tags: ['slipway', 'shop', 'production', 'reverted'] }]);
  expect(api.annotations[0]?.text).toContain('commit ffffffffffff');
  expect(api.annotations[0]?.text).toContain(title);
});

test('a Grafana of the server itself is reached through the server', async () => {
  const { transaction, report, ports, connected } = stage({
    host: { kind: 'ssh', address: 'server.example', port: 22 } as Transaction['inputs']['host'],
  });
  beginAnnotation(RELEASE, transaction);
  report.result = 'deployed';
  await concludeReport(report, ports);
  expect(api.annotations).toHaveLength(1);
  expect(connected).toEqual([`dial 127.0.0.1:${port}`, 'close']);
});

test('a connection to the server that does not close takes no time, and the summary was written before', async () => {
  const { transaction, report, ports, reporter } = stage({
    host: { kind: 'ssh', address: 'server.example', port: 22 } as Transaction['inputs']['host'],
    hangs: true,
  });
  api.before = () => {
    expect(summariesOf(reporter)).toHaveLength(1);
    return false;
  };
  beginAnnotation(RELEASE, transaction);
  report.result = 'deployed';
  const startedMs = performance.now();
  await concludeReport(report, ports);
  expect(performance.now() - startedMs).toBeLessThan(2000);
  expect(api.annotations).toHaveLength(1);
});

describe('what goes wrong is a warning, in bounded time, without the token', () => {
  const failing = async (over: Parameters<typeof stage>[0] = {}): Promise<string> => {
    const { transaction, report, ports, reporter } = stage(over);
    beginAnnotation(RELEASE, transaction);
    report.result = 'deployed';
    const startedMs = performance.now();
    await concludeReport(report, ports);
    expect(performance.now() - startedMs).toBeLessThan(over.cancelled === true ? 3500 : 6500);
    expect(report.warnings).toHaveLength(1);
    const shown = reporter.shown.join('\n');
    expect(shown).not.toContain(over.token ?? TOKEN);
    return shown;
  };

  test('a wrong token', async () => {
    expect(await failing({ token: 'glsa_another-token-0000000000' })).toContain('does not accept the token');
  });
  test('a wrong path', async () => {
    expect(await failing({ url: `http://127.0.0.1:${port}` })).toContain('no such address (404)');
  });
  test('nobody there', async () => {
    expect(await failing({ url: 'http://127.0.0.1:9' })).toContain('refused the connection');
  });
  test('an answer that repeats the token', async () => {
    api.before = (response) => {
      response.writeHead(500).end(`Bearer ${TOKEN}`);
      return true;
    };
    expect(await failing()).toContain('it answered 500');
  });
  test('no answer, in a cancelled run', async () => {
    api.before = () => true;
    expect(await failing({ cancelled: true })).toContain('within 2 s');
  });
});
