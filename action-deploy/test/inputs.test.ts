import fc from 'fast-check';
import { InputError } from '#shared/errors';
import { parseProjectName } from '#shared/engine/inputs';
import { readInputs, type Inputs } from '../src/inputs';

/** The defaults of action.yml, and what a caller must give. */
const GOOD: Readonly<Record<string, string>> = {
  host: 'server.example',
  user: 'deploy',
  port: '22',
  'ssh-key': '-----BEGIN OPENSSH PRIVATE KEY-----\nPRIVATE-KEY-TEXT\n-----END OPENSSH PRIVATE KEY-----',
  'known-hosts': '',
  'compose-file': 'compose.yaml',
  'keep-releases': '5',
  timeout: '120',
  'dry-run': 'false',
  'lock-wait': '10m',
  lease: '30',
  'bake-time': '0',
  'max-failed-requests': '0',
};

function read(over: Readonly<Record<string, string>> = {}): Inputs {
  const given = { ...GOOD, ...over };
  return readInputs((name) => given[name]?.trim() ?? '');
}

function problems(over: Readonly<Record<string, string>>): string[] {
  try {
    read(over);
    return [];
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    return error.problems.map(({ input, message }) => `${input}: ${message}`);
  }
}

test('what is not given has its default', () => {
  expect(read()).toMatchObject({
    host: { kind: 'ssh', address: 'server.example', port: 22, user: 'deploy' },
    composeFiles: ['compose.yaml'],
    project: '',
    path: '',
    files: [],
    variables: {},
    credentials: undefined,
    refresh: [],
    checks: [],
    keepReleases: 5,
    readyTimeoutSeconds: 120,
    dryRun: false,
    lockWaitSeconds: 600,
    leaseSeconds: 30,
    metricsFile: '',
    bakeSeconds: 0,
    migrations: [],
    endToEnd: undefined,
    watch: undefined,
    maxFailedRequests: 0,
    environment: '',
    environmentUrl: '',
    grafana: undefined,
  });
  expect([read().env.isEmpty, read().githubToken.isEmpty]).toEqual([true, true]);
});

test('everything given', () => {
  const inputs = read({
    'compose-file': './deploy/compose.yaml\n# more\ndeploy/compose.prod.yaml\n',
    project: 'shop',
    path: '~/apps/shop/',
    files: 'nginx\n*.conf',
    env: 'A=1\r\nB="two\r\nlines"\r\n',
    variables: 'TAG=v1=2\nEMPTY=',
    registry: 'ghcr.io',
    'registry-username': 'alice',
    'registry-password': 'pass word',
    refresh: 'db\ncache',
    'keep-releases': '2',
    timeout: '5m',
    'dry-run': 'True',
    'lock-wait': '90s',
    lease: '1m',
    'bake-time': '30s',
    migrate: 'api: npm run migrate\n# the shop last\nshop:  php "artisan migrate" --force',
    'e2e-command': 'runner: npm run e2e && echo "done"',
    'watch-url': 'ssh+http://127.0.0.1:8080/',
    'max-failed-requests': '3',
    'metrics-file': '/var/lib/node_exporter/shop-deploy.prom',
    'github-token': 'ghs_TOKEN',
    environment: 'production',
    'environment-url': 'https://shop.example/',
    'grafana-url': 'https://grafana.example/team/',
    'grafana-token': 'glsa_TOKEN',
  });
  expect(inputs).toMatchObject({
    composeFiles: ['deploy/compose.yaml', 'deploy/compose.prod.yaml'],
    project: 'shop',
    path: 'apps/shop',
    files: ['nginx', '*.conf'],
    variables: { TAG: 'v1=2', EMPTY: '' },
    refresh: ['db', 'cache'],
    keepReleases: 2,
    readyTimeoutSeconds: 300,
    dryRun: true,
    lockWaitSeconds: 90,
    leaseSeconds: 60,
    metricsFile: '/var/lib/node_exporter/shop-deploy.prom',
    bakeSeconds: 30,
    migrations: [
      { service: 'api', command: ['npm', 'run', 'migrate'] },
      { service: 'shop', command: ['php', 'artisan migrate', '--force'] },
    ],
    endToEnd: { where: 'runner', command: 'npm run e2e && echo "done"' },
    watch: { url: 'http://127.0.0.1:8080/', vantage: 'ssh' },
    maxFailedRequests: 3,
    environment: 'production',
    environmentUrl: 'https://shop.example/',
    grafana: { url: 'https://grafana.example/team' },
  });
  expect(inputs.grafana?.token.reveal()).toBe('glsa_TOKEN');
  expect(inputs.githubToken.reveal()).toBe('ghs_TOKEN');
  expect(inputs.env.reveal()).toBe('A=1\nB="two\nlines"');
  expect(inputs.credentials).toMatchObject({ registry: 'ghcr.io', username: 'alice' });
  expect(inputs.credentials?.password.reveal()).toBe('pass word');
  expect(JSON.stringify(inputs)).not.toMatch(/PRIVATE-KEY-TEXT|pass word|two|ghs_TOKEN|glsa_TOKEN/);
});

test.each([
  ['compose-file', '', 'is empty: give the path of a Compose file in the workspace.'],
  ['compose-file', '/etc/compose.yaml', '`/etc/compose.yaml` is not below the workspace: give a path relative to it.'],
  ['compose-file', 'a.yaml\n../b.yaml', '`../b.yaml` is not below the workspace: give a path relative to it.'],
  [
    'project',
    'My Shop',
    '`My Shop` is not a Compose project name: lower-case letters, digits, - and _, a letter or digit first.',
  ],
  [
    'project',
    '-shop',
    '`-shop` is not a Compose project name: lower-case letters, digits, - and _, a letter or digit first.',
  ],
  ['path', '/', "`/` is too wide: give a folder of the project's own."],
  ['path', '~', "`~` is too wide: give a folder of the project's own."],
  ['path', '~/', "`~/` is too wide: give a folder of the project's own."],
  ['path', './', "`./` is too wide: give a folder of the project's own."],
  ['path', '.', "`.` is too wide: give a folder of the project's own."],
  ['path', '//', "`//` is too wide: give a folder of the project's own."],
  ['path', '/.', "`/.` is too wide: give a folder of the project's own."],
  ['path', 'apps/../../etc', '`apps/../../etc` is not a plain path: no line breaks, no backslashes, and no `..`.'],
  ['path', 'a\nb', '`a b` is not a plain path: no line breaks, no backslashes, and no `..`.'],
  ['env', 'A=1\nnot a line', 'line 2 is not `NAME=value`. A value of several lines needs quotes around it.'],
  ['env', '1A=x', 'line 1 is not `NAME=value`. A value of several lines needs quotes around it.'],
  ['env', '-----BEGIN KEY-----', 'line 1 is not `NAME=value`. A value of several lines needs quotes around it.'],
  ['env', 'A="open\nB=2', 'a quote (") is opened and never closed.'],
  ['env', "A='it\\'s", "a quote (') is opened and never closed."],
  ['variables', 'TAG', '`TAG` is not `NAME=value`.'],
  ['variables', 'A=1\nA=2', '`A` is given twice.'],
  ['variables', 'A B=1', '`A B=1` is not `NAME=value`.'],
  ['keep-releases', '1', '`1` is not a whole number from 2 to 100.'],
  ['keep-releases', '', 'is empty; leave the input out to get its default, or give a whole number from 2 to 100.'],
  ['timeout', '0', '`0` is not a duration such as 10, 10s, 500ms or 2m, from 1s to 1h.'],
  ['timeout', 'soon', '`soon` is not a duration such as 10, 10s, 500ms or 2m, from 1s to 1h.'],
  ['dry-run', 'yes', '`yes` is neither true nor false.'],
  ['lock-wait', '2d', '`2d` is not a duration such as 10, 10s, 500ms or 2m, from 0s to 24h.'],
  ['lease', '5', '`5` is not a duration such as 10, 10s, 500ms or 2m, from 10s to 10m.'],
  ['bake-time', '2h', '`2h` is not a duration such as 10, 10s, 500ms or 2m, from 0s to 1h.'],
  ['max-failed-requests', '-1', '`-1` is not a whole number from 0 to 1000000.'],
  [
    'watch-url',
    'shop.example',
    'is not one http or https URL: give `https://example.com/health`, or `ssh+http://127.0.0.1:8080/health` for a port of the server as it sees it itself.',
  ],
  ['migrate', 'npm run migrate', '`npm run migrate` is not `service: command`, such as `api: npm run migrate`.'],
  ['migrate', '-it: sh', '`-it: sh` is not `service: command`, such as `api: npm run migrate`.'],
  ['migrate', 'api:', '`api:` is not `service: command`, such as `api: npm run migrate`.'],
  ['migrate', 'api: "" x', '`api: "" x` gives no command.'],
  ['migrate', 'api: a\napi: b', 'names the service `api` twice: put both commands into one script.'],
  ['migrate', 'api: a\nweb: "open', '`web: "open`: a quote (") is opened and never closed.'],
  [
    'migrate',
    'api: a && b',
    "`api: a && b`: it is not run by a shell, so `&` would not do what it says. Quote it, or run one yourself: `sh -c '...'`.",
  ],
  [
    'e2e-command',
    'npm test',
    '`npm test` is neither `runner: command` (on the runner) nor `service: command` (in a container of the new release).',
  ],
  [
    'e2e-command',
    'runner:',
    '`runner:` is neither `runner: command` (on the runner) nor `service: command` (in a container of the new release).',
  ],
])('%s: %j', (input, value, message) => {
  expect(problems({ [input]: value })).toEqual([`${input}: ${message}`]);
});

test.each([
  [
    { 'registry-username': 'a', 'registry-password': 'p' },
    ['registry: is empty, but a login is given: name the registry that it is for, such as `ghcr.io` or `docker.io`.'],
  ],
  [
    { registry: 'ghcr.io' },
    [
      'registry-username: is empty, but registry `ghcr.io` is given.',
      'registry-password: is empty: the secret is not set in this repository or environment, or it is not handed to this (reusable) workflow.',
    ],
  ],
  [
    { registry: 'https://ghcr.io', 'registry-username': 'a', 'registry-password': 'p' },
    ['registry: `https://ghcr.io` is not a registry: give its host name only, with the port if it has one.'],
  ],
  [
    { registry: 'ghcr.io/acme', 'registry-username': 'a', 'registry-password': 'p' },
    ['registry: `ghcr.io/acme` is not a registry: give its host name only, with the port if it has one.'],
  ],
])('a login: %j', (over, expected) => {
  expect(problems(over)).toEqual(expected);
});

test('all problems at once', () => {
  const found = problems({
    host: '',
    'ssh-key': '',
    port: '0',
    'compose-file': '',
    project: 'X',
    path: '/',
    env: 'x',
    variables: 'x',
    registry: 'ghcr.io',
    'keep-releases': 'x',
    timeout: 'x',
    'dry-run': 'x',
    'health-checks': 'nonsense',
    'lock-wait': 'x',
    lease: 'x',
    'bake-time': 'x',
    migrate: 'x',
    'e2e-command': 'x',
    'watch-url': 'x',
    'max-failed-requests': 'x',
    'github-token': 'x',
    environment: 'a'.repeat(300),
    'environment-url': 'x',
    'grafana-url': 'x',
    'grafana-token': 'x x',
  });
  expect(found.map((text) => text.slice(0, text.indexOf(':')))).toEqual(
    expect.arrayContaining([
      'host',
      'ssh-key',
      'port',
      'compose-file',
      'project',
      'path',
      'env',
      'variables',
      'registry-username',
      'registry-password',
      'keep-releases',
      'timeout',
      'dry-run',
      'health-checks',
      'lock-wait',
      'lease',
      'bake-time',
      'migrate',
      'e2e-command',
      'watch-url',
      'max-failed-requests',
      'environment',
      'environment-url',
      'grafana-url',
      'grafana-token',
    ]) as unknown,
  );
});

test('Grafana is told only where its address is given; a token alone, or an address alone, refuses nothing', () => {
  expect(read({ 'grafana-token': 'glsa_x' }).grafana).toBeUndefined();
  expect(problems({ 'grafana-token': 'no token' })).toEqual([]);
  expect(read({ 'grafana-url': 'https://grafana.example' }).grafana?.token.isEmpty).toBe(true);
  expect(problems({ 'grafana-url': 'http://grafana.example', 'grafana-token': 'x' })).toEqual([
    expect.stringContaining('shows the token'),
  ]);
});

test('an e2e-command in a container, and one on the runner that is a script', () => {
  expect(read({ 'e2e-command': 'api: npm "run e2e"' }).endToEnd).toEqual({
    where: 'service',
    service: 'api',
    command: ['npm', 'run e2e'],
  });
  expect(read({ 'e2e-command': 'runner: set -e\nnpm ci\nnpm run e2e | tee log' }).endToEnd).toEqual({
    where: 'runner',
    command: 'set -e\nnpm ci\nnpm run e2e | tee log',
  });
});

test('the environment matters only where somebody is told of it', () => {
  const tooLong = { environment: 'a'.repeat(300) };
  expect(problems(tooLong)).toEqual([]);
  expect(problems({ ...tooLong, 'github-token': 'x' })).toHaveLength(1);
  const grafana = { 'grafana-url': 'https://grafana.example', 'grafana-token': 'x' };
  expect(problems({ ...tooLong, ...grafana })).toHaveLength(1);
  expect(problems(grafana)).toEqual([]);
});

test.each([
  'A=1',
  'export A=1',
  'A = 1',
  '# comment\n\nA=1',
  'A=',
  'A="q"',
  "A='q' # c",
  'A="two\nlines"',
  "A='two\nlines'",
  'A="a\\"b"',
  'A.B-C=1',
  'A="x\ny=\nz"',
])('the env %j is fine', (env) => {
  expect(problems({ env })).toEqual([]);
  expect(read({ env }).env.reveal()).toBe(env.trim());
});

test.each(['', 'a', 'shop', 'shop-2_x', '0shop', 'a'.repeat(63)])('%j is a project name', (name) => {
  expect(parseProjectName(name)).toEqual({ value: name });
});

test.each(['A', 'a b', '_a', 'a.b', 'a'.repeat(64), 'ä', 'a\n'])('%j is none', (name) => {
  expect(parseProjectName(name)).toHaveProperty('problem');
});

test('garbage is a problem, never another error, and no secret is told (property)', () => {
  const text = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 40 }),
    fc
      .array(
        fc.constantFrom('=', '"', "'", '\\', '\n', '\r', 'A', ' ', '#', '$', '{', '..', '/', 'export ', '\0', '`', ':'),
        { maxLength: 15 },
      )
      .map((parts) => parts.join('')),
  );
  const secret = text.map((value) => `${value}=S3CRET-${value}"S3CRET`);
  const inputs = fc.record(
    {
      host: text,
      user: text,
      port: text,
      'known-hosts': text,
      'host-fingerprint': text,
      'compose-file': text,
      project: text,
      path: text,
      files: text,
      variables: text,
      registry: text,
      'registry-username': text,
      refresh: text,
      'keep-releases': text,
      timeout: text,
      'dry-run': text,
      'lock-wait': text,
      lease: text,
      'bake-time': text,
      migrate: text,
      'e2e-command': text,
      'watch-url': text,
      'max-failed-requests': text,
      environment: text,
      'environment-url': text,
      env: secret,
      'ssh-key': secret,
      'ssh-key-passphrase': secret,
      'registry-password': secret,
      'github-token': secret,
    },
    { requiredKeys: [] },
  );
  fc.assert(
    fc.property(inputs, (over) => {
      try {
        read(over);
      } catch (error) {
        if (!(error instanceof InputError)) throw error;
        expect(`${error.message} ${error.hint}`).not.toContain('S3CRET');
        expect(error.problems.length).toBeGreaterThan(0);
      }
    }),
    { numRuns: 2000 },
  );
});

describe('a backup before the deploy', () => {
  test('is none, or of all that is found, or of what is named', () => {
    expect(read().backup).toBeUndefined();
    expect(read({ backup: 'false' }).backup).toBeUndefined();
    expect(read({ backup: 'true' }).backup).toEqual([]);
    expect(read({ backup: 'postgres: db/app\nvolume: uploads paused' }).backup).toEqual([
      { kind: 'postgres', service: 'db', database: 'app' },
      { kind: 'volume', volume: 'uploads', quiet: 'paused' },
    ]);
  });

  test.each(['yes', 'True', 'postgres: db\ntrue', 'files: /etc', 'volume: a\nvolume: a'])(
    '%j is refused, or a deploy would go on without it',
    (backup) => {
      expect(problems({ backup })).toEqual([expect.stringMatching(/^backup: /)]);
    },
  );
});

test.each([
  'shop.prom',
  '/var/lib/shop.txt',
  '/var/lib/.prom',
  '/var/lib/../shop.prom',
  '/var/lib/-x/shop.prom',
  '/var/lib/my shop.prom',
  '/var/lib/$(id).prom',
  '/var/lib//shop.prom',
])('%s is no file for metrics', (file) => {
  expect(() => read({ 'metrics-file': file })).toThrow(/metrics-file: .* is not a file for the textfile collector/);
});
