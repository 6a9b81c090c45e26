import fc from 'fast-check';
import { Secret } from '../../src/model/secret';
import { Redactor } from '../../src/shell/redact';
import { hideSecrets, listSecrets } from '../../src/engine/secrets';

type Inputs = Parameters<typeof listSecrets>[0];

function inputs(over: Partial<Inputs> = {}): Inputs {
  return {
    host: { kind: 'local' },
    credentials: undefined,
    githubToken: new Secret(''),
    grafana: undefined,
    ...over,
  };
}

const ofEnv = (env: string): string[] => listSecrets(inputs({ env: new Secret(env) }));

/** Each `.env` line, and the value that Compose 2.26 and 2.40 make of it (measured). */
test.each([
  ['A=hunter2hunter2', 'hunter2hunter2'],
  ['A= hunter2hunter2 ', 'hunter2hunter2'],
  ['export A=hunter2hunter2', 'hunter2hunter2'],
  ['  export   A = hunter2hunter2', 'hunter2hunter2'],
  ['A="hunter2 hunter2"', 'hunter2 hunter2'],
  ["A='hunter2 hunter2'", 'hunter2 hunter2'],
  ['A=hunter2 # comment', 'hunter2'],
  ['A=hunter2#kept', 'hunter2#kept'],
  ['A="hunter2" # comment', 'hunter2'],
  ['A=pa$$word', 'pa$word'],
  ['A="pa$$word"', 'pa$word'],
  ["A='pa$$word'", 'pa$$word'],
  ['A="pa\\$word"', 'pa$word'],
  ['A="say \\"hunter2\\""', 'say "hunter2"'],
  ["A='it\\'s hunter2'", "it's hunter2"],
  ['A="back\\\\slash"', 'back\\slash'],
  ['A="line one\\nline two"', 'line one\nline two'],
  ['A="tab\\tbed-value"', 'tab\tbed-value'],
  ["A='line one\\nline two'", 'line one\\nline two'],
  ['A="first line\nsecond line"', 'first line\nsecond line'],
  ["A='first line\nsecond line'\nB=x", 'first line\nsecond line'],
  ['A="first \\"quoted\\"\nsecond $$line"', 'first "quoted"\nsecond $line'],
  ['A.B-C=hunter2hunter2', 'hunter2hunter2'],
])('%j hides %j', (env, value) => {
  expect(ofEnv(env)).toContain(value);
});

test.each([
  ['A=postgres://shop:hunter2hunter2@db:5432/shop', 'hunter2hunter2'],
  ['A="redis://:hunter2hunter2@cache"', 'hunter2hunter2'],
  ['A=https://user:p%40ss%3Aword@host/', 'p@ss:word'],
  ['A=https://user:p%40ss%3Aword@host/', 'p%40ss%3Aword'],
  ['A=amqp://u:100%sure@host', '100%sure'],
])('the password in %j', (env, password) => {
  expect(ofEnv(env)).toContain(password);
});

test('keys, passphrases and logins', () => {
  const secrets = listSecrets(
    inputs({
      host: {
        kind: 'ssh',
        address: 'h',
        port: 22,
        user: 'u',
        privateKey: new Secret('KEY'),
        passphrase: new Secret('PASSPHRASE'),
        trust: { knownHosts: '', fingerprint: '' },
      },
      credentials: { registry: 'ghcr.io', username: 'alice', password: new Secret('TOKEN') },
    }),
  );
  expect(secrets).toEqual(['KEY', 'PASSPHRASE', 'TOKEN', 'alice:TOKEN']);
});

test('the token for the Deployment record', () => {
  expect(listSecrets(inputs({ githubToken: new Secret('ghs_TOKEN') }))).toEqual(['ghs_TOKEN']);
});

test('the token for Grafana', () => {
  const grafana = { url: 'https://grafana.example', token: new Secret('glsa_TOKEN') };
  expect(listSecrets(inputs({ grafana }))).toEqual(['glsa_TOKEN']);
});

test('nothing secret, nothing hidden; nothing empty is', () => {
  expect(listSecrets(inputs())).toEqual([]);
  expect(ofEnv('A=\nB=""\n# comment\n')).not.toContain('');
});

test('the reporter is told each once', () => {
  const hidden: string[] = [];
  hideSecrets(inputs({ env: new Secret('A=hunter2\nB=hunter2') }), { hide: (value) => hidden.push(value) });
  expect(hidden.length).toBe(new Set(hidden).size);
  expect(hidden).toContain('hunter2');
});

test('a value is not readable in a log any more, however it was quoted (property)', () => {
  const value = fc
    .array(fc.constantFrom('hunter2', 'S3CRET', '$', '"', "'", '\\', ' ', '#', '=', 'ü', ':', '@', '/'), {
      minLength: 3,
      maxLength: 8,
    })
    .map((parts) => `Q${parts.join('')}Q`)
    .filter((text) => text.length >= 6);
  const forms = (text: string): string[] => [
    `A="${text.replaceAll(/["\\$]/g, '\\$&')}"`,
    ...(/['\\]/.test(text) ? [] : [`A='${text}'`]),
  ];
  fc.assert(
    fc.property(value, fc.boolean(), (text, wantsExport) => {
      for (const form of forms(text)) {
        const redactor = new Redactor();
        for (const secret of ofEnv(`${wantsExport ? 'export ' : ''}${form}\nOTHER=plain`)) redactor.add(secret);
        expect(redactor.redact(`before ${text} after`)).toBe('before *** after');
      }
    }),
    { numRuns: 1000 },
  );
});
