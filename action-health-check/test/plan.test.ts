import { parseChecks } from '#shared/probes/check';
import { renderPlan } from '../src/plan';

test('says what is asked, from where, how often', () => {
  const { checks } = parseChecks(
    'https://a.test/ attempts:1\ntcp://db:5432 name:database via:both attempts:10 backoff:2 successes:3 deadline:2m\ncommand: true',
    { input: 'checks', attempts: 3, intervalSeconds: 2, timeoutSeconds: 10 },
  );
  expect(renderPlan(checks)).toEqual([
    'https://a.test/, from the runner, 1 attempt, 10s each',
    'database: tcp://db:5432, on the server and from the runner, up to 10 attempts 2s apart, each pause 2 times the last, 10s each, 3 successes in a row, 2m in all',
    'command: true, on the server, up to 3 attempts 2s apart, 10s each',
  ]);
});
