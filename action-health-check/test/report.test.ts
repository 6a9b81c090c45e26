import fc from 'fast-check';
import { parseChecks } from '#shared/probes/check';
import { groupResults } from '#shared/probes/outcome';
import type { CheckResult } from '#shared/probes/poll';
import { failed, passed, type Verdict } from '#shared/probes/verdict';
import {
  describeFailure,
  renderAnnotations,
  renderLine,
  renderOutputs,
  renderSummary,
  type Results,
} from '../src/report';

function results(checks: string, verdicts: readonly Verdict[]): CheckResult[] {
  const parsed = parseChecks(checks, { input: 'checks', attempts: 3, intervalSeconds: 2, timeoutSeconds: 10 });
  expect(parsed.problems).toEqual([]);
  const slots = parsed.checks.flatMap((check) =>
    (check.via === 'both' ? (['ssh', 'runner'] as const) : [check.via]).map((vantage) => ({ check, vantage })),
  );
  return slots.map(({ check, vantage }, index) => {
    const lastVerdict = verdicts[index] ?? passed('status 200 in 5 ms');
    return {
      check,
      vantage,
      ok: lastVerdict.ok,
      attempts: lastVerdict.ok ? 1 : 3,
      lastVerdict,
      latenciesMs: [9.4, 5.2],
      durationMs: 4010.4,
    };
  });
}

/** As GitHub does: a pipe with a backslash before it is text. */
const splitRow = (row: string): string[] => row.split(/(?<!\\)\|/);

const keep = (text: string): string => text;
const outcomes = groupResults(
  results('https://a.test/health via:both\ntcp://db:5432 name:database', [
    passed('status 200 in 5 ms'),
    failed('a.test:443 refused the connection: nothing listens there'),
    failed('db:5432 has no address in DNS (ENOTFOUND)', 'Check the spelling.'),
  ]),
);

test('outputs', () => {
  const { healthy, failed: names, results: json } = renderOutputs(outcomes, keep);
  expect([healthy, names]).toEqual(['false', 'https://a.test/health\ndatabase']);
  expect(JSON.parse(json)).toEqual({
    healthy: false,
    checks: [
      {
        name: 'https://a.test/health',
        kind: 'http',
        target: 'https://a.test/health',
        healthy: false,
        explanation: 'answers on the server, not from outside: firewall, DNS or proxy',
        vantages: [
          {
            via: 'ssh',
            healthy: true,
            reason: 'status 200 in 5 ms',
            detail: '',
            attempts: 1,
            latencyMs: 5,
            durationMs: 4010,
          },
          {
            via: 'runner',
            healthy: false,
            reason: 'a.test:443 refused the connection: nothing listens there',
            detail: '',
            attempts: 3,
            latencyMs: 5,
            durationMs: 4010,
          },
        ],
      },
      {
        name: 'database',
        kind: 'tcp',
        target: 'tcp://db:5432',
        healthy: false,
        explanation: '',
        vantages: [
          {
            via: 'runner',
            healthy: false,
            reason: 'db:5432 has no address in DNS (ENOTFOUND)',
            detail: 'Check the spelling.',
            attempts: 3,
            latencyMs: 5,
            durationMs: 4010,
          },
        ],
      },
    ],
  } satisfies Results);
  expect(renderOutputs(groupResults(results('tcp://a:1', [])), keep)).toMatchObject({ healthy: 'true', failed: '' });
});

test('outputs hold no secret, and stay JSON whatever the secret is', () => {
  const secret = '","healthy":true,"x":"';
  const leaky = groupResults(results('tcp://a:1', [failed(`it said ${secret}`, secret)]));
  const { results: json } = renderOutputs(leaky, (text) => text.replaceAll(secret, '***'));
  expect((JSON.parse(json) as Results).checks[0]?.vantages[0]).toMatchObject({ reason: 'it said ***', detail: '***' });
});

test('summary', () => {
  expect(renderSummary(outcomes).replaceAll('\u200d', '')).toMatchInlineSnapshot(`
   "### Health: 2 of 2 checks failed

   | Check | From | Result | Attempts | Last took | What was found |
   | --- | --- | --- | ---: | ---: | --- |
   | https://a.test/health | server | ✅ passed | 1 | 5 ms | status 200 in 5 ms |
   | https://a.test/health | runner | ❌ failed | 3 | 5 ms | a.test:443 refused the connection: nothing listens there |
   | database | runner | ❌ failed | 3 | 5 ms | db:5432 has no address in DNS \\(ENOTFOUND\\)<br>Check the spelling. |

   - **https://a.test/health** answers on the server, not from outside: firewall, DNS or proxy
   "
  `);
  expect(renderSummary(groupResults(results('tcp://a:1', [])))).toContain('### Health: all 1 check passed');
});

test('remote text can form neither Markdown, HTML nor another row', () => {
  const hostile =
    'x | y |\r\n| <script>alert(1)</script> | [a](https://evil.test) ![i](http://x) `c` **b** <br> @team #1 www.evil.test \u202e';
  const summary = renderSummary(groupResults(results('tcp://a:1', [failed(hostile, hostile)])));
  const row = summary.split('\n').find((line) => line.startsWith('| tcp')) ?? '';
  expect(summary.split('\n').filter((line) => line.startsWith('|'))).toHaveLength(3);
  expect(splitRow(row)).toHaveLength(8);
  expect(row.replaceAll('<br>', '')).not.toMatch(/[<>\u202e]|(?<!\\)[[\]`*!#]|https?:\/\/|www\.|@t/);
});

test('whatever the remote text, the summary keeps its rows', () => {
  fc.assert(
    fc.property(
      fc.string({ unit: 'binary' }),
      fc.string({ unit: fc.constantFrom('|', '\n', '<', '`', '\\', '&', 'a') }),
      (a, b) => {
        const summary = renderSummary(
          groupResults(results('tcp://a:1\ntcp://b:1', [failed(`r${a}`, b), failed(`r${b}`, a)])),
        );
        const rows = summary.split('\n').filter((line) => line.startsWith('| tcp'));
        expect(rows.map((row) => splitRow(row).length)).toEqual([8, 8]);
      },
    ),
    { numRuns: 1000 },
  );
});

test('annotations: one a failed check, as many as are shown', () => {
  expect(renderAnnotations(outcomes)).toEqual([
    {
      title: 'Check failed: https://a.test/health',
      text: 'answers on the server, not from outside: firewall, DNS or proxy; from the runner: a.test:443 refused the connection: nothing listens there (3 attempts)',
    },
    { title: 'Check failed: database', text: 'db:5432 has no address in DNS (ENOTFOUND) (3 attempts)' },
  ]);
  const many = Array.from({ length: 15 }, (_, index) => `tcp://h${index}:1`).join('\n');
  const all = groupResults(
    results(
      many,
      Array.from({ length: 15 }, () => failed('no')),
    ),
  );
  expect(renderAnnotations(all)).toHaveLength(9);
  expect(describeFailure(all)?.message.split('\n')).toHaveLength(16);
});

test('the failure lists every failed check', () => {
  expect(describeFailure(outcomes)?.message).toBe(
    '2 of 2 checks failed:\n' +
      '- https://a.test/health: answers on the server, not from outside: firewall, DNS or proxy; from the runner: a.test:443 refused the connection: nothing listens there (3 attempts)\n' +
      '- database: db:5432 has no address in DNS (ENOTFOUND) (3 attempts)',
  );
  expect(describeFailure(groupResults(results('tcp://a:1', [])))).toBeUndefined();
});

test('lines of the log', () => {
  expect(outcomes.flatMap((outcome) => outcome.results).map(renderLine)).toEqual([
    '✓ https://a.test/health on the server: status 200 in 5 ms',
    '✗ https://a.test/health from the runner: a.test:443 refused the connection: nothing listens there',
    '✗ database from the runner: db:5432 has no address in DNS (ENOTFOUND)\n    Check the spelling.',
  ]);
});
