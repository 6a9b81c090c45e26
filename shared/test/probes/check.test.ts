import fc from 'fast-check';
import { stringify } from 'yaml';
import { type CheckDefaults, parseChecks } from '../../src/probes/check';
import type { Check } from '../../src/probes/check-model';

const defaults: CheckDefaults = {
  input: 'checks',
  attempts: 3,
  intervalSeconds: 2,
  timeoutSeconds: 10,
  project: 'shop',
};

function read(text: string, more: Partial<CheckDefaults> = {}): readonly Check[] {
  const { checks, problems } = parseChecks(text, { ...defaults, ...more });
  expect(problems).toEqual([]);
  return checks;
}

function problemsOf(text: string, more: Partial<CheckDefaults> = {}): string[] {
  const { problems } = parseChecks(text, { ...defaults, ...more });
  expect(problems.every((problem) => problem.input === 'checks')).toBe(true);
  return problems.map((problem) => problem.message);
}

describe('one a line', () => {
  test('an address is enough', () => {
    expect(read('https://example.com/health')).toEqual([
      {
        kind: 'http',
        name: 'https://example.com/health',
        via: 'runner',
        attempts: 3,
        intervalSeconds: 2,
        timeoutSeconds: 10,
        backoff: 1,
        deadlineSeconds: undefined,
        successes: 1,
        url: 'https://example.com/health',
        method: 'GET',
        status: [{ from: 200, to: 299 }],
        bodyContains: [],
        bodyMatches: [],
        json: [],
        header: [],
        maxLatencyMs: undefined,
        maxRedirects: 5,
        allowRedirectHosts: [],
        minCertificateDays: undefined,
        releaseId: undefined,
        connectTo: undefined,
        headers: {},
        ca: undefined,
      },
    ]);
  });

  test('all kinds, comments and empty lines', () => {
    const checks = read(`
      # the public side
      https://example.com/health 200,204 contains:ok contains:"all good" json.checks.db:ok

      ssh+http://127.0.0.1:3000/health name:internal attempts:10 interval:500ms
      http://127.0.0.1:3001/ via:both
      tcp://db.example.com:5432
      ssh+tcp://[::1]:6379/
      tls://example.com min-days:14
      container:api health:healthy max-restarts:0
      container: worker
      command: pg_isready --host "127.0.0.1" # all of it
    `);
    expect(checks.map(({ name, kind, via }) => [name, kind, via])).toEqual([
      ['https://example.com/health', 'http', 'runner'],
      ['internal', 'http', 'ssh'],
      ['http://127.0.0.1:3001/', 'http', 'both'],
      ['tcp://db.example.com:5432', 'tcp', 'runner'],
      ['tcp://[::1]:6379', 'tcp', 'ssh'],
      ['tls://example.com:443', 'tls', 'runner'],
      ['container:api', 'container', 'ssh'],
      ['container:worker', 'container', 'ssh'],
      ['command: pg_isready --host "127.0.0.1" # all of it', 'command', 'ssh'],
    ]);
    expect(checks[0]).toMatchObject({
      status: [
        { from: 200, to: 200 },
        { from: 204, to: 204 },
      ],
      bodyContains: ['ok', 'all good'],
      json: [{ path: ['checks', 'db'], pathText: 'checks.db', expected: 'ok' }],
    });
    expect(checks[1]).toMatchObject({ attempts: 10, intervalSeconds: 0.5 });
    expect(checks[5]).toMatchObject({
      host: 'example.com',
      port: 443,
      serverName: 'example.com',
      minCertificateDays: 14,
    });
    expect(checks[6]).toMatchObject({
      service: 'api',
      project: 'shop',
      state: 'running',
      health: 'healthy',
      maxRestarts: 0,
    });
  });

  test('nothing is no check', () => {
    expect(read('')).toEqual([]);
    expect(read('\n  # only a comment\n\r\n')).toEqual([]);
  });

  test.each<[string, string]>([
    [
      'example.com/health',
      'check 1: `example.com/health` is not something to check: start with https://, http://, tcp://, tls:// (or ssh+http:// ... for ports of the server), container: or command:.',
    ],
    ['https://a.test/ 700', 'check 1: `700` is neither a status such as 200 or 2xx nor an option such as contains:ok.'],
    ['https://a.test/ ok', 'check 1: `ok` is neither a status such as 200 or 2xx nor an option such as contains:ok.'],
    ['https://a.test/ timeout:5 timeout:6', 'check 1: has timeout twice.'],
    ['https://a.test/ json.a:1 json.a:2', 'check 1: has json.a twice.'],
    [
      'https://a.test/ timout:5',
      'check 1 (https://a.test/): `timout` is not a key of a url check; did you mean timeout?',
    ],
    [
      'https://a.test/ health:healthy',
      'check 1 (https://a.test/): health belongs to container checks, not to url checks.',
    ],
    [
      'https://a.test/ json:ok',
      'check 1 (https://a.test/): json must have keys: `json: {name: value}` in the list form, `json.name:value` in a line.',
    ],
    ['https://a.test/ status.x:ok', 'check 1 (https://a.test/): status must be a text or a list of texts, not keys.'],
    ['https://a.test/ via:shh', 'check 1 (https://a.test/): via `shh` is not runner, ssh or both; did you mean ssh?'],
    [
      'https://u:p@a.test/',
      'check 1: url holds a user or password, which would show up in logs: send `headers: {authorization: ...}` instead (to a.test).',
    ],
    ['tcp://db', 'check 1: tcp `db` is not an address such as `db.example.com:5432` or `[::1]:5432`.'],
    ['tcp://db:70000', 'check 1: tcp `db:70000` is not an address such as `db.example.com:5432` or `[::1]:5432`.'],
    [
      'container:api via:both',
      'check 1 (container:api): via must be ssh: it looks at containers on the server. Leave `via` out.',
    ],
    [
      'https://a.test/ matches:"("',
      'check 1 (https://a.test/): body-matches is not a regular expression: Invalid regular expression: /(/m: Unterminated group',
    ],
    [
      'https://a.test/ min-days:x',
      'check 1 (https://a.test/): min-certificate-days `x` is not a whole number from 0 to 3650.',
    ],
    ['http://a.test/ min-days:3', 'check 1 (http://a.test/): min-certificate-days needs an https URL.'],
    [
      'https://a.test/ method:HEAD contains:x',
      'check 1 (https://a.test/): method HEAD gets no body to look at: use GET.',
    ],
    [
      'https://a.test/ successes:4',
      'check 1 (https://a.test/): wants 4 successes in a row, but makes only 3 attempts: raise attempts.',
    ],
    [
      'https://a.test/ timeout:1y',
      'check 1 (https://a.test/): timeout `1y` is not a duration such as 10, 10s, 500ms or 2m, from 100ms to 10m.',
    ],
    [
      'https://a.test/ headers.host:b.test',
      'check 1 (https://a.test/): headers: Host comes from the URL: put the name into `url`, and the address to connect to into `connect-to`.',
    ],
    [
      'https://a.test/ ca:x',
      'check 1 (https://a.test/): ca is not a certificate in PEM form (-----BEGIN CERTIFICATE----- ...).',
    ],
    ['command:', 'check 1 (command:): command is empty.'],
  ])('%s', (line, problem) => {
    expect(problemsOf(line)).toEqual([problem]);
  });

  test('secrets in headers are not repeated', () => {
    const problems = problemsOf('https://a.test/ headers.authorization:"Bearer ungeheuer geheim \u2603"');
    expect(problems).toEqual([
      'check 1 (https://a.test/): headers: the value of authorization holds characters that a header cannot have.',
    ]);
    const [check] = read('https://a.test/ headers.Authorization:"Bearer abc"');
    expect(JSON.stringify(check)).not.toContain('abc');
    expect(check).toMatchObject({ headers: { authorization: expect.anything() as unknown } });
  });
});

describe('the YAML list', () => {
  test('has the same words as keys, and keeps values as they are written', () => {
    const checks = read(`
- https://example.com/ 200
- url: https://example.com/health
  name: api
  via: both
  status: [200, 204]
  contains: ok
  json: {version: 1.10, ready: true, "items[0].id": 7, note: null}
  header: {Content-Type: "application/json*"}
  headers:
    authorization: Bearer abc
  deadline: 2m
  backoff: 1.5
  release-id: 0123
- tcp: db:5432
- tls: example.com:8443
  server-name: www.example.com
- container: api
  project: other
- command: |
    set -e
    pg_isready
  timeout: 30s
`);
    expect(checks).toHaveLength(6);
    expect(checks[1]).toMatchObject({
      name: 'api',
      via: 'both',
      bodyContains: ['ok'],
      json: [
        { pathText: 'version', expected: '1.10' },
        { pathText: 'ready', expected: 'true' },
        { pathText: 'items[0].id', path: ['items', 0, 'id'], expected: '7' },
        { pathText: 'note', expected: 'null' },
      ],
      header: [{ name: 'content-type', expected: 'application/json*' }],
      deadlineSeconds: 120,
      backoff: 1.5,
      releaseId: '0123',
    });
    expect(checks[3]).toMatchObject({ host: 'example.com', port: 8443, serverName: 'www.example.com' });
    expect(checks[4]).toMatchObject({ project: 'other' });
    expect(checks[5]).toMatchObject({
      command: 'set -e\npg_isready',
      timeoutSeconds: 30,
      name: 'command: set -e pg_isready',
    });
  });

  test('every problem of every check at once; those that are right stay usable', () => {
    const { checks, problems } = parseChecks(
      `
- url: ftp://example.com
  statsu: 200
  timeout: -1
- container: api
- conatiner: api
- url: https://example.com/
  tcp: db:1
- [1, 2]
- container: api
- url: https://b.test/
  status: {a: b}
  json: {a..b: 1}
- url: [https://c.test/]
- url: https://d.test/
  json: {a: {b: 1}}
`,
      defaults,
    );
    expect(problems.map((problem) => problem.message)).toEqual([
      'check 1: `statsu` is not a key of a url check; did you mean status?',
      'check 1: timeout `-1` is not a duration such as 10, 10s, 500ms or 2m, from 100ms to 10m.',
      'check 1: url `ftp://example.com` is not an http or https URL, such as `https://example.com/health`.',
      'check 3: does not say what to check: one of the keys url, tcp, tls, container or command is needed; did you mean container?',
      'check 4: has url and tcp: make them separate checks.',
      'check 5: is neither a line such as `https://example.com/health` nor keys such as `url: https://example.com/health`.',
      'check 6 (container:api): has the same name as check 2: give one of them another `name`.',
      'check 7 (https://b.test/): status must be a text or a list of texts, not keys.',
      'check 7 (https://b.test/): json: `a..b` is not a path: write `status`, `checks.postgres.status` or `items[0].id`.',
      'check 8: url must be one text, not a list.',
      'check 9: json must be a text, a list of texts, or keys with texts.',
    ]);
    expect(checks.map((check) => check.name)).toEqual(['container:api']);
  });

  test.each<[string, RegExp]>([
    ['- "x', /^is not YAML: Missing closing "quote at line 1/],
    ['- a: 1\n  a: 2', /^is not YAML: Map keys must be unique/],
    ['- &a [*a]', /^check 1: is neither a line/],
    [
      'url: https://example.com/',
      /^starts with `url: https:\/\/example.com\/`, which looks like YAML but not like a list/,
    ],
    ['checks:\n  - url: https://example.com/', /^starts with `checks:`/],
    ['{url: x}', /^starts with/],
    [
      '- url: https://a.test/\n  contains: a\n  body-contains: b',
      /^check 1: has body-contains twice \(body-contains is another word for it\)\.$/,
    ],
    ['- container: api', /needs the Compose project/],
    [
      '- command: x\n  via: runner',
      /via must be ssh: it runs on the server\. A command for the runner is an ordinary `run` step/,
    ],
    ['- {? [1, 2] : 3}', /^check 1: has a key that is not a word/],
    ['- ', /^check 1: is empty/],
  ])('%j', (text, problem) => {
    expect(problemsOf(text, { project: '' })[0]).toMatch(problem);
  });

  test('bounds', () => {
    expect(problemsOf('x'.repeat(200_001))).toEqual(['is longer than 200,000 characters.']);
    expect(problemsOf('https://a.test/\n'.repeat(101))).toEqual(['has 101 checks; at most 100 are accepted.']);
    const bomb = `- &a [x, x, x, x]\n${Array.from({ length: 20 }, (_, i) => `- &a${i} [*a${i === 0 ? '' : i - 1}, *a${i === 0 ? '' : i - 1}]`).join('\n')}`;
    expect(problemsOf(bomb).length).toBeGreaterThan(0);
  });
});

describe('properties', () => {
  const piece = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 20 }),
    fc.constantFrom(
      '\n',
      '- ',
      'url: ',
      'https://a.test/',
      ' 200',
      ' contains:"',
      '"',
      ': ',
      '{',
      '}',
      '[',
      '&a',
      '*a',
      '#',
      'ssh+',
      'tcp://',
      'container:',
      'command: ',
      ' json.a:',
      'name:',
      '  ',
      '|\n',
      '__proto__: ',
      'constructor: x',
      ' __proto__.x:y',
    ),
  );

  test('garbage never crashes: there are checks or problems', () => {
    fc.assert(
      fc.property(fc.array(piece, { minLength: 1, maxLength: 12 }), (pieces) => {
        const text = pieces.join('');
        const { checks, problems } = parseChecks(text, defaults);
        const nothing = text.split(/\r\n|\r|\n/).every((line) => line.trim() === '' || line.trim().startsWith('#'));
        if (!nothing && !/^\s*(#.*\s*)*(\[\s*\]|---)/.test(text))
          expect(checks.length + problems.length).toBeGreaterThan(0);
        for (const { message } of problems) expect(message).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f]/);
      }),
      { numRuns: 5000 },
    );
  });

  /** Options by key; values that need quotes in a line, colons, and stars among them. */
  const value = fc.stringMatching(/^[a-z0-9*:/# .-]{1,12}$/).filter((text) => text.trim() === text);
  const options = fc.record(
    {
      name: value,
      via: fc.constantFrom('runner', 'ssh', 'both'),
      attempts: fc.integer({ min: 1, max: 1000 }).map(String),
      interval: fc.constantFrom('0', '500ms', '2s', '1.5', '2m'),
      deadline: fc.constantFrom('10', '2m', '1h'),
      status: fc.oneof(
        fc.constantFrom('200', '2xx', '200-204,301'),
        fc.array(fc.constantFrom('200', '3xx'), { minLength: 2, maxLength: 3 }),
      ),
      contains: fc.oneof(value, fc.array(value, { minLength: 2, maxLength: 3 })),
      json: fc.dictionary(fc.constantFrom('a', 'b.c', 'd[0].e'), value, { minKeys: 1 }),
      header: fc.dictionary(fc.constantFrom('x-a', 'Content-Type'), value, { minKeys: 1 }),
      headers: fc.dictionary(fc.constantFrom('accept', 'Authorization'), value, { minKeys: 1 }),
      'release-id': value,
      'connect-to': fc.constantFrom('203.0.113.7', '[::1]:8443', 'proxy:80'),
    },
    { requiredKeys: [] },
  );

  test('a line and its YAML form are the same check', () => {
    fc.assert(
      fc.property(options, (chosen) => {
        const words = Object.entries(chosen).flatMap(([key, option]) => {
          const write = (name: string, text: string): string => `${name}:"${text}"`;
          if (typeof option === 'string') return [write(key, option)];
          if (Array.isArray(option)) return option.map((item) => write(key, item));
          return Object.entries(option).map(([name, item]) => write(`${key}.${name}`, item));
        });
        const url = 'https://example.com/health';
        const line = parseChecks([url, ...words].join(' '), defaults);
        const yaml = parseChecks(stringify([{ url, ...chosen }]), defaults);
        const reveal = ({ checks }: typeof line): unknown =>
          checks.map((check) =>
            check.kind === 'http' ? Object.values(check.headers).map((secret) => secret.reveal()) : [],
          );
        expect(line).toEqual(yaml);
        expect(reveal(line)).toEqual(reveal(yaml));
        expect(line.checks.length + line.problems.length).toBe(1);
      }),
      { numRuns: 2000 },
    );
  });
});
