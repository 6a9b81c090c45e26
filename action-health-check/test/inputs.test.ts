import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';
import { InputError } from '#shared/errors';
import { listSecrets, readInputs } from '../src/inputs';

interface Action {
  readonly inputs: Readonly<Record<string, { readonly default?: string; readonly required?: boolean }>>;
}

const root = join(import.meta.dirname, '..');
const action = parse(readFileSync(join(root, 'action.yml'), 'utf8')) as Action;

/** The inputs as the runner gives them: what the workflow says, else the defaults of action.yml. */
function give(more: Record<string, string>): (name: string) => string {
  return (name) => {
    const declared = action.inputs[name];
    if (declared === undefined) throw new Error(`action.yml has no input ${name}`);
    return (more[name] ?? declared.default ?? '').trim();
  };
}

function problemsOf(more: Record<string, string>): string[] {
  try {
    readInputs(give(more));
  } catch (error) {
    if (error instanceof InputError) return error.problems.map(({ input, message }) => `${input}: ${message}`);
    throw error;
  }
  return [];
}

const login = { host: 'server.example.com', 'ssh-key': 'the key', 'host-fingerprint': `SHA256:${'A'.repeat(43)}` };

test('a public check needs no server, with the defaults that users know', () => {
  const { checks, host } = readInputs(give({ checks: 'https://example.com/health' }));
  expect(host).toBeUndefined();
  expect(checks).toMatchObject([
    { attempts: 3, intervalSeconds: 2, timeoutSeconds: 10, backoff: 1, successes: 1, deadlineSeconds: undefined },
  ]);
});

test('the inputs are the defaults of every check', () => {
  const { checks } = readInputs(
    give({
      checks: 'tcp://a.test:1\ntcp://b.test:1 attempts:1 successes:1',
      attempts: '9',
      interval: '500ms',
      timeout: '3',
      backoff: '2',
      deadline: '1m',
      successes: '2',
    }),
  );
  expect(checks).toMatchObject([
    { attempts: 9, intervalSeconds: 0.5, timeoutSeconds: 3, backoff: 2, deadlineSeconds: 60, successes: 2 },
    { attempts: 1, intervalSeconds: 0.5, successes: 1 },
  ]);
});

test('checks via ssh need a server', () => {
  expect(readInputs(give({ checks: 'container:web', project: 'shop', ...login })).host).toMatchObject({
    kind: 'ssh',
    user: 'deploy',
    port: 22,
  });
  expect(readInputs(give({ checks: 'container:web', project: 'shop', host: 'local' })).host).toEqual({ kind: 'local' });
  expect(problemsOf({ checks: 'https://a.test/ via:both' }).map((problem) => problem.slice(0, 30))).toEqual([
    'host: is empty: give the name ',
    'ssh-key: is empty: the secret ',
  ]);
});

test('a host that no check needs is not looked at', () => {
  expect(readInputs(give({ checks: 'https://a.test/', host: 'user@nonsense:22' })).host).toBeUndefined();
});

test('all problems at once', () => {
  expect(
    problemsOf({
      checks: 'https://a.test/ statsu:200\ncontainer:web',
      attempts: '0',
      interval: 'soon',
      deadline: '1y',
      project: 'shop',
      host: 'a b',
    }).map((problem) => problem.slice(0, 50)),
  ).toEqual(
    [
      'attempts: `0` is not a whole number from 1 to 1000.',
      'interval: `soon` is not a duration such as 10, 10s',
      'deadline: `1y` is not a duration such as 10, 10s, ',
      'checks: check 1 (https://a.test/): `statsu` is not',
      'host: `a b` is not one host: give one name or addre',
      'ssh-key: is empty: the secret is not set in this re',
    ].map((problem) => problem.slice(0, 50)),
  );
  expect(problemsOf({ checks: ' ' })).toEqual([
    'checks: is empty: give at least one check, for example `https://example.com/health`.',
  ]);
});

test('secrets: the key, the passphrase, and headers that log in, also without their scheme', () => {
  const checks =
    'https://a.test/ headers.authorization:"Bearer abcdef" headers.accept:text/html headers.x-api-key:k123';
  const inputs = readInputs(give({ checks: `${checks}\ncommand: true`, ...login, 'ssh-key-passphrase': 'phrase' }));
  expect(listSecrets(inputs)).toEqual(['the key', 'phrase', 'Bearer abcdef', 'k123', 'abcdef']);
});

describe('README', () => {
  const readme = readFileSync(join(root, 'README.md'), 'utf8');
  const blocks = [...readme.matchAll(/```yaml\n([\s\S]*?)```/g)].map(
    ([, text]) => parse(text ?? '') as Record<string, unknown>[],
  );
  const steps = blocks.flat().filter((step) => String(step['uses']).includes('action-health-check'));

  test('its examples are accepted as they are, once their expressions have values', () => {
    expect(steps).toHaveLength(4);
    for (const step of steps) {
      const given = Object.fromEntries(
        Object.entries(step['with'] as Record<string, unknown>).map(([name, value]) => {
          const text = String(value).replaceAll(/\$\{\{ *(.*?) *\}\}/g, (_, expression: string) =>
            expression.endsWith('HOST') ? 'server.example.com' : expression.endsWith('HOSTS') ? '' : 'ab12cd3',
          );
          return [name, text];
        }),
      );
      expect(problemsOf(given)).toEqual([]);
    }
  });

  test('the line and the list that it calls the same are the same', () => {
    const line = /```text\n(.*)\n```/.exec(readme)?.[1] ?? '';
    const list = /```text[\s\S]*?```yaml\n([\s\S]*?)```/.exec(readme)?.[1] ?? '';
    expect(readInputs(give({ checks: line }))).toEqual(readInputs(give({ checks: list })));
  });
});
