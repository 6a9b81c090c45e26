/** action-health-check as a workflow step runs it: the committed bundle, a real sshd, real containers, real certificates. */
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { jest } from '@jest/globals';
import { stringify } from 'yaml';
import { type ActionRequest, type ActionRun, runAction } from './harness/index.ts';
import { deployKey, errorsOf, freshServer, onServer, theServer } from './sandbox.ts';

jest.setTimeout(120_000);

// --- what is checked ---------------------------------------------------------------------------------------------------

/** Every way of answering that the checks tell apart; `hits` counts the requests of each address. */
const APPLICATION = `
const fs = require('fs'), http = require('http'), https = require('https');
const since = new Map(), hits = new Map();
const answer = (request, response) => {
  const url = new URL(request.url, 'http://x'), path = url.pathname;
  const say = (status, body, headers = {}) => { response.writeHead(status, headers); response.end(body); };
  const json = (status, body) => say(status, JSON.stringify(body), { 'content-type': 'application/json' });
  hits.set(path, (hits.get(path) ?? 0) + 1);
  if (path === '/hits') return say(200, String(hits.get(url.searchParams.get('of')) ?? 0));
  if (path.startsWith('/status/')) return say(Number(path.slice(8)), '');
  if (path === '/health') return json(200, { status: 'ready', releaseId: 'v1', checks: { postgres: { status: 'ok' } }, replicas: [{ id: 7 }] });
  if (path === '/sick') return json(200, { status: 'fail', checks: { postgres: { status: 'fail' }, redis: { status: 'ok' } } });
  if (path === '/text') return say(200, 'Welcome to the shop', { 'content-type': 'text/html', 'x-frame-options': 'DENY' });
  if (path === '/slow') return setTimeout(() => say(200, 'late'), 400);
  if (path === '/never') return;
  if (path === '/to') return say(302, '', { location: url.searchParams.get('url') });
  if (path === '/reflect') return json(500, request.headers);
  if (path === '/hostile') return say(500, fs.readFileSync('/app/hostile.txt'));
  if (path.startsWith('/warming/')) {
    if (!since.has(path)) since.set(path, Date.now());
    return Date.now() - since.get(path) < 2000 ? say(503, 'warming up') : say(200, 'ok');
  }
  if (path.startsWith('/flaky/')) return hits.get(path) === 2 ? say(500, 'hiccup') : say(200, 'ok');
  say(404, 'no such page');
};
http.createServer(answer).listen(3000);
http.createServer(answer).listen(3001);
for (const [port, name] of [[3443, 'shop'], [3444, 'expired']])
  https.createServer({ key: fs.readFileSync('/app/' + name + '.key'), cert: fs.readFileSync('/app/' + name + '.pem') }, answer).listen(port);
`;

/** What a broken application, or one that was broken into, may say: none of it may reach the runner as anything but text. */
const HOSTILE = [
  '::error::owned by the body',
  '::add-mask::healthy',
  '##[error]owned again',
  '::stop-commands::forever',
  '| a | b |',
  '</td></table><img src=x onerror=alert(1)>',
  '# heading',
  '[click](https://evil.example)',
  '\u001b[31mred\u001b[0m',
  '@octocat',
].join('\n');

const COMPOSE = `
services:
  web:
    image: node:24
    init: true
    command: node /app/app.js
    volumes: ['./app:/app:ro']
    ports:
      - '8080:3000'
      - '127.0.0.1:8081:3000'
      - '8083:3001'
      - '8443:3443'
      - '8444:3444'
  well:
    image: busybox:1
    init: true
    command: sleep 3600
    healthcheck: { test: 'true', interval: 500ms }
    deploy: { replicas: 2 }
  ill:
    image: busybox:1
    init: true
    command: sleep 3600
    healthcheck: { test: 'echo the database is away; exit 1', interval: 500ms, retries: 1 }
  plain:
    image: busybox:1
    init: true
    command: sleep 3600
  crashing:
    image: busybox:1
    command: sh -c 'exit 3'
    restart: on-failure:2
  job:
    image: busybox:1
    command: 'true'
  bad-job:
    image: busybox:1
    command: sh -c 'exit 4'
`;

const run = promisify(execFile);
let workshop: string;
/** Of the private authority that issued both certificates. */
let ca: string;

/** An authority, a certificate for shop.test that holds 20 days, and one that has expired. */
async function makeCertificates(): Promise<Record<string, string>> {
  const openssl = (...argv: string[]): Promise<unknown> => run('openssl', argv, { cwd: workshop });
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  await openssl(
    'req',
    '-x509',
    ...key,
    '-keyout',
    'ca.key',
    '-out',
    'ca.pem',
    '-subj',
    '/O=Shop Authority',
    '-days',
    '3',
  );
  await writeFile(join(workshop, 'names'), 'subjectAltName = DNS:shop.test\n');
  for (const name of ['shop', 'expired']) {
    await openssl('req', ...key, '-keyout', `${name}.key`, '-out', `${name}.csr`, '-subj', '/CN=shop.test');
    const issue = ['x509', '-req', '-in', `${name}.csr`, '-CA', 'ca.pem', '-CAkey', 'ca.key', '-out', `${name}.pem`];
    // openssl 3.0 knows no -not_after: a certificate without a day left has expired, too.
    await openssl(...issue, '-extfile', 'names', '-days', name === 'shop' ? '20' : '0');
  }
  const files: Record<string, string> = {};
  for (const file of ['shop.key', 'shop.pem', 'expired.key', 'expired.pem']) {
    files[file] = await readFile(join(workshop, file), 'utf8');
  }
  ca = await readFile(join(workshop, 'ca.pem'), 'utf8');
  return files;
}

/** Listens on the runner's own loopback: the server cannot reach it. */
let outside: Server;
const asked: IncomingMessage[] = [];
const outsidePort = (): number => (outside.address() as AddressInfo).port;

beforeAll(async () => {
  await freshServer();
  workshop = await mkdtemp(join(tmpdir(), 'slipway-certificates-'));
  outside = createServer((request, response) => {
    asked.push(request);
    response.end('ok');
  });
  await new Promise<void>((listening) => outside.listen(0, '127.0.0.1', listening));
  const files = { 'app.js': APPLICATION, 'hostile.txt': HOSTILE, ...(await makeCertificates()) };
  await onServer('mkdir -p /srv/shop/app && cat > /srv/shop/compose.yaml', [], COMPOSE);
  for (const [name, text] of Object.entries(files)) await onServer('cat > "/srv/shop/app/$1"', [name], text);
  await onServer(`cd /srv/shop && docker compose up -d --quiet-pull 2>&1
    for i in $(seq 100); do
      curl -fs -o /dev/null http://127.0.0.1:8080/health &&
        [ "$(docker inspect --format '{{.State.Health.Status}}' shop-ill-1)" = unhealthy ] &&
        [ "$(docker inspect --format '{{.State.Health.Status}}' shop-well-1 shop-well-2 | sort -u)" = healthy ] &&
        [ "$(docker inspect --format '{{.RestartCount}} {{.State.Status}}' shop-crashing-1)" = '2 exited' ] && exit 0
      sleep 0.2
    done
    docker compose ps -a; docker compose logs; exit 1`);
  // A firewall that lets nobody in from outside; what comes from the server itself does not pass it.
  await onServer(
    'iptables -I DOCKER-USER -p tcp -m conntrack --ctorigdstport 8083 --ctdir ORIGINAL -j REJECT --reject-with tcp-reset',
  );
});

afterAll(async () => {
  outside.closeAllConnections();
  outside.close();
  await rm(workshop, { recursive: true, force: true });
});

// --- asking and reading --------------------------------------------------------------------------------------------------

type Check = Readonly<Record<string, unknown>> | string;

interface VantageResult {
  readonly via: 'runner' | 'ssh';
  readonly healthy: boolean;
  readonly reason: string;
  readonly detail: string;
  readonly attempts: number;
  readonly latencyMs: number | null;
  readonly durationMs: number;
}

interface Results {
  readonly healthy: boolean;
  readonly checks: readonly {
    readonly name: string;
    readonly kind: string;
    readonly healthy: boolean;
    readonly explanation: string;
    readonly vantages: readonly VantageResult[];
  }[];
}

/** One attempt of each check, over SSH where some check needs it. */
async function check(
  checks: readonly Check[] | string,
  inputs: Readonly<Record<string, string>> = {},
  options: Partial<ActionRequest> = {},
): Promise<ActionRun> {
  const { address, knownHosts } = theServer();
  return runAction({
    action: 'action-health-check',
    ...options,
    with: {
      checks: typeof checks === 'string' ? checks : stringify(checks, { lineWidth: 0 }),
      attempts: '1',
      host: address,
      'ssh-key': await deployKey(),
      'known-hosts': knownHosts,
      project: 'shop',
      ...inputs,
    },
  });
}

const resultsOf = (done: ActionRun): Results => JSON.parse(done.outputs['results'] ?? '{}') as Results;

function resultOf(done: ActionRun, name: string): Results['checks'][number] {
  const found = resultsOf(done).checks.find((one) => one.name === name);
  if (found === undefined) throw new Error(`no result of ${name}:\n${done.log}`);
  return found;
}

/** What was found, from the one vantage that the check has. */
function verdictOf(done: ActionRun, name: string): string {
  const [vantage, ...more] = resultOf(done, name).vantages;
  if (vantage === undefined || more.length > 0) throw new Error(`${name} has not one vantage`);
  return `${vantage.healthy ? 'passed' : 'failed'}: ${vantage.reason}`;
}

const site = (path: string, port = 8080): string => `http://${theServer().address}:${port}${path}`;

/** Checks by name, each with what must come of it. All are made in one run, so that all must be reported. */
type Table = Readonly<Record<string, readonly [check: () => Readonly<Record<string, unknown>>, expected: RegExp]>>;

function describeTable(
  title: string,
  table: Table,
  common: () => Readonly<Record<string, unknown>> = () => ({}),
): void {
  describe(title, () => {
    let done: ActionRun;
    beforeAll(async () => {
      done = await check(Object.entries(table).map(([name, [one]]) => ({ name, ...common(), ...one() })));
    });

    test.each(Object.keys(table))('%s', (name) => {
      expect(verdictOf(done, name)).toMatch(table[name]?.[1] ?? /never/);
    });

    test('all of them are in the outputs, in order, and in the summary', () => {
      const names = Object.keys(table);
      const failing = names.filter((name) => table[name]?.[1].source.startsWith('^failed'));
      expect(resultsOf(done).checks.map((one) => one.name)).toEqual(names);
      expect(done.outputs).toMatchObject({
        healthy: failing.length === 0 ? 'true' : 'false',
        failed: failing.join('\n'),
      });
      expect(done.exitCode).toBe(failing.length === 0 ? 0 : 1);
      expect(rowsOf(done)).toHaveLength(names.length);
      expect(rowsOf(done).filter((row) => row.includes('❌ failed'))).toHaveLength(failing.length);
    });
  });
}

/** The rows of the summary's table, without the head. */
const rowsOf = (done: ActionRun): string[] =>
  done.summary.split('\n').filter((line) => /^\| .* ms \||^\| .*❌/.test(line));

// --- http ----------------------------------------------------------------------------------------------------------------

const HTTP: Table = {
  'a health document': [() => ({ url: site('/health') }), /^passed: status 200 in \d+ ms, ready$/],
  'a document that says fail under 200': [
    () => ({ url: site('/sick') }),
    /^failed: status 200, but the body says "fail" \(postgres\)$/,
  ],
  'a status of a list': [() => ({ url: site('/status/204'), status: ['404', '200-299'] }), /^passed: status 204 in/],
  'a status that is none of a list': [
    () => ({ url: site('/status/503'), status: [200, '4xx'] }),
    /^failed: status 503 instead of 200 or 4xx$/,
  ],
  'a redirect that is asked for': [() => ({ url: site('/to?url=/text'), status: 302 }), /^passed: status 302 in/],
  'text in the body': [
    () => ({ url: site('/text'), contains: ['Welcome', 'shop'], matches: '^Wel.*shop$' }),
    /^passed: /,
  ],
  'text that is not in the body': [
    () => ({ url: site('/text'), contains: ['Welcome', 'Goodbye'], matches: '^shop' }),
    /^failed: the body does not contain "Goodbye"; the body does not match "\^shop"$/,
  ],
  'JSON paths': [
    () => ({ url: site('/health'), json: { 'checks.postgres.status': 'o*', 'replicas[0].id': 7 } }),
    /^passed: /,
  ],
  'JSON paths that differ or are missing': [
    () => ({ url: site('/health'), json: { 'checks.postgres.status': 'bad', 'checks.redis': '*' } }),
    /^failed: JSON checks\.postgres\.status is "ok" instead of "bad"; JSON has no checks\.redis$/,
  ],
  'a JSON path of what is not JSON': [() => ({ url: site('/text'), json: { a: 1 } }), /^failed: the body is not JSON$/],
  'a header': [
    () => ({ url: site('/text'), header: { 'X-Frame-Options': 'DENY', 'content-type': 'text/*' } }),
    /^passed: /,
  ],
  'headers that differ or are missing': [
    () => ({ url: site('/text'), header: { 'x-frame-options': 'SAMEORIGIN', 'content-security-policy': '*' } }),
    /^failed: header x-frame-options is "DENY" instead of "SAMEORIGIN"; no header content-security-policy$/,
  ],
  'fast enough': [
    () => ({ url: site('/slow'), 'max-latency-ms': 30_000 }),
    /^passed: status 200 in (?:[4-9]\d\d|\d{4,}) ms$/,
  ],
  'too slow': [
    () => ({ url: site('/slow'), 'max-latency-ms': 300 }),
    /^failed: answered in \d{3,} ms, slower than 300 ms$/,
  ],
  'no answer in time': [
    () => ({ url: site('/never'), timeout: '500ms' }),
    /^failed: no complete answer from .*:8080 within 0\.5 s$/,
  ],
  'nobody there': [() => ({ url: site('/', 9) }), /^failed: .*:9 refused the connection: nothing listens there$/],
  'not HTTP': [() => ({ url: site('/', 22) }), /^failed: .*:22 does not speak HTTP on this port, or not properly/],
  'a redirect on the same host': [() => ({ url: site('/to?url=/text'), contains: 'Welcome' }), /^passed: /],
  'a redirect to another host': [
    () => ({
      url: site(`/to?url=http://127.0.0.1:${outsidePort()}/refused`),
      headers: { authorization: 'Basic none' },
    }),
    /^failed: status 302 redirects to another host, 127\.0\.0\.1; if that is right, say `allow-redirect-host: 127\.0\.0\.1`$/,
  ],
  'a redirect to another host that is allowed': [
    () => ({
      url: site(`/to?url=http://127.0.0.1:${outsidePort()}/allowed`),
      'allow-redirect-host': '127.0.0.1',
      headers: { authorization: 'Basic for-the-first-host-only' },
    }),
    /^passed: status 200 in \d+ ms, ok$/,
  ],
  'too many redirects': [
    () => ({ url: site('/to?url=/text'), 'max-redirects': 0 }),
    /^failed: 1 redirects, more than 0: the last one leads to \/text$/,
  ],
  'the release': [
    () => ({ url: site('/health'), 'release-id': 'v1' }),
    /^passed: status 200 in \d+ ms, ready, release v1$/,
  ],
  'another release': [() => ({ url: site('/health'), 'release-id': 'v2' }), /^failed: release "v1" instead of "v2"$/],
  'no release': [
    () => ({ url: site('/text'), 'release-id': 'v2' }),
    /^failed: the answer does not say its release: expected "v2"/,
  ],
};

describeTable('http from the runner', HTTP);

test('a host that a redirect may not lead to is not asked, and one that it may lead to gets none of our headers', () => {
  const pathsAndHeaders = asked.map((request) => [request.url, request.headers.authorization]);
  expect(pathsAndHeaders).toEqual([['/allowed', undefined]]);
});

describe('the line form', () => {
  test('means the same, and its defaults come from the inputs', async () => {
    const done = await check(
      [
        '# what visitors see',
        `${site('/text')} 200,204 contains:"the shop" header.x-frame-options:DENY`,
        `ssh+http://127.0.0.1:8081/health json.checks.postgres.status:bad attempts:2 interval:100ms`,
        `ssh+tcp://127.0.0.1:8081`,
        'container:well health:healthy',
        'command: test "$(id -un)" = deploy # as the login',
      ].join('\n'),
    );
    expect(resultsOf(done).checks.map(({ kind, healthy }) => `${kind} ${healthy}`)).toEqual([
      'http true',
      'http false',
      'tcp true',
      'container true',
      'command true',
    ]);
    expect(resultsOf(done).checks.map((one) => one.vantages[0]?.attempts)).toEqual([1, 2, 1, 1, 1]);
  });

  test('a public address needs neither host nor key', async () => {
    const done = await check(`${site('/health')} 200`, { host: '', 'ssh-key': '', 'known-hosts': '', project: '' });
    expect(done.outputs).toMatchObject({ healthy: 'true', failed: '' });
    expect(done.outcome).toBe('success');
    expect(done.annotations).toEqual([]);
    expect(done.summary).toContain('### Health: all 1 check passed');
    expect(done.leftFiles).toEqual({});
  });
});

// --- certificates --------------------------------------------------------------------------------------------------------

const secure = (port: number, more: object = {}): Record<string, unknown> => ({
  url: `https://shop.test${port === 8443 ? '' : `:${port}`}/health`,
  'connect-to': `${theServer().address}:${port}`,
  ...more,
});
const tls = (more: object = {}): Record<string, unknown> => ({
  tls: `${theServer().address}:8443`,
  'server-name': 'shop.test',
  ca,
  ...more,
});

const CERTIFICATES: Table = {
  'https, an authority of our own': [() => secure(8443, { ca }), /^passed: status 200 in \d+ ms, ready$/],
  'https, enough days': [
    () => secure(8443, { ca, 'min-days': 15 }),
    /^passed: status 200 in \d+ ms, ready, the certificate is valid until \d{4}-\d\d-\d\d \((?:19|20) days\)$/,
  ],
  'https, too few days': [
    () => secure(8443, { ca, 'min-days': 30 }),
    /^failed: the certificate is valid until \d{4}-\d\d-\d\d \((?:19|20) days\), less than 30 days$/,
  ],
  'https, an unknown authority': [
    () => secure(8443),
    /^failed: the certificate of .*:8443 (?:cannot be verified|comes from an authority that is not trusted here)$/,
  ],
  'https, another name': [
    () => ({ ...secure(8443, { ca }), url: 'https://other.test/health' }),
    /^failed: the certificate of .*:8443 is for another name$/,
  ],
  'https, expired': [() => secure(8444, { ca }), /^failed: the certificate of .*:8444 has expired$/],
  'https, not TLS': [() => secure(8080, { ca }), /^failed: no TLS with .*:8080 .*it may speak plain text on this port/],
  'https through SSH': [
    () => secure(8443, { ca, via: 'ssh', 'connect-to': '127.0.0.1:8443', 'min-days': 15 }),
    /^passed: status 200 in \d+ ms, ready, the certificate is valid/,
  ],
  tls: [() => tls(), /^passed: connected in \d+ ms, the certificate is valid until .* \((?:19|20) days\)$/],
  'tls, too few days': [
    () => tls({ 'min-days': 30 }),
    /^failed: the certificate is valid until .*, less than 30 days$/,
  ],
  'tls, another name': [
    () => tls({ 'server-name': 'other.test' }),
    /^failed: the certificate of .* is for another name$/,
  ],
  'tls, expired': [() => tls({ tls: `${theServer().address}:8444` }), /^failed: the certificate of .* has expired$/],
  'tls through SSH': [
    () => tls({ tls: '127.0.0.1:8443', via: 'ssh' }),
    /^passed: connected in \d+ ms, the certificate/,
  ],
  'tls, an unknown authority, through SSH': [
    () => tls({ tls: '127.0.0.1:8443', via: 'ssh', ca: undefined }),
    /^failed: the certificate of 127\.0\.0\.1:8443 /,
  ],
};

describeTable('certificates', CERTIFICATES);

// --- through SSH ---------------------------------------------------------------------------------------------------------

const VIA_SSH: Table = {
  'a private port': [() => ({ url: 'http://127.0.0.1:8081/health' }), /^passed: status 200 in \d+ ms, ready$/],
  'the name localhost is the server': [() => ({ url: 'http://localhost:8081/text', contains: 'shop' }), /^passed: /],
  'a private port that says no': [
    () => ({ url: 'http://127.0.0.1:8081/status/500' }),
    /^failed: status 500 instead of 2xx$/,
  ],
  'a private port without anybody': [() => ({ url: 'http://127.0.0.1:9/' }), /^failed: .*127\.0\.0\.1:9/],
  tcp: [() => ({ tcp: '127.0.0.1:8081' }), /^passed: connected in \d+ ms$/],
  'tcp, nobody there': [() => ({ tcp: '127.0.0.1:9' }), /^failed: .*127\.0\.0\.1:9/],
  'tcp of a name that does not exist': [() => ({ tcp: 'nowhere.invalid:80' }), /^failed: .*nowhere\.invalid/],
  'a command': [() => ({ command: 'test "$(id -un)" = deploy' }), /^passed: exit code 0$/],
  'a command that fails': [() => ({ command: 'echo out; echo err >&2; exit 42' }), /^failed: exit code 42$/],
  'a command that does not exist': [() => ({ command: 'no-such-program' }), /^failed: exit code 127$/],
  'a command that is killed': [() => ({ command: 'kill -9 $$' }), /^failed: (?!exit code 0)/],
  'a command that takes too long': [() => ({ command: 'sleep 30', timeout: '1s' }), /^failed: .*1 s/],
};

describeTable('through SSH', VIA_SSH, () => ({ via: 'ssh' }));

const CONTAINERS: Table = {
  'healthy, all replicas': [
    () => ({ container: 'well', health: 'healthy', 'max-restarts': 0 }),
    /^passed: shop-well-[12] is running, healthy; shop-well-[12] is running, healthy$/,
  ],
  unhealthy: [() => ({ container: 'ill' }), /^failed: shop-ill-1 is unhealthy$/],
  'unhealthy, but not asked': [
    () => ({ container: 'ill', health: 'any' }),
    /^passed: shop-ill-1 is running, unhealthy$/,
  ],
  'no health check': [() => ({ container: 'plain' }), /^passed: shop-plain-1 is running$/],
  'no health check, but asked': [
    () => ({ container: 'plain', health: 'healthy' }),
    /^failed: shop-plain-1 has no health check: give its service a `healthcheck`/,
  ],
  'crashed in the end': [
    () => ({ container: 'crashing' }),
    /^failed: shop-crashing-1 has exited with code 3, restarted 2 times$/,
  ],
  'too many restarts': [
    () => ({ container: 'looping', project: 'loop', 'max-restarts': 0, attempts: 5, interval: '100ms' }),
    /^failed: loop-looping-1 (?:was restarted (?:once|\d+ times), more than 0: it may be in a crash loop|keeps restarting: it ended with exit code 5, restarted .*)$/,
  ],
  'ended well': [() => ({ container: 'job', state: 'exited' }), /^passed: shop-job-1 is exited$/],
  'ended badly': [() => ({ container: 'bad-job', state: 'exited' }), /^failed: shop-bad-job-1 has exited with code 4$/],
  'ended, and should not have': [() => ({ container: 'job' }), /^failed: shop-job-1 has exited with code 0$/],
  'running, and should have ended': [
    () => ({ container: 'plain', state: 'exited' }),
    /^failed: shop-plain-1 is running, and was expected to have exited$/,
  ],
  'no such service': [
    () => ({ container: 'nope' }),
    /^failed: project shop has no container of service nope, only of: bad-job, crashing, ill, job, plain, web, well$/,
  ],
  'no such project': [
    () => ({ container: 'web', project: 'shoppe' }),
    /^failed: project shoppe has no containers on this server$/,
  ],
};

describe('with a crash loop beside', () => {
  beforeAll(async () => {
    await onServer(
      `mkdir -p /srv/loop && cd /srv/loop && cat > compose.yaml && docker compose up -d 2>&1
       until [ "$(docker inspect --format '{{.RestartCount}}' loop-looping-1)" -ge 1 ]; do sleep 0.2; done`,
      [],
      `services:\n  looping:\n    image: busybox:1\n    command: sh -c 'sleep 1; exit 5'\n    restart: always\n`,
    );
  });
  afterAll(async () => {
    await onServer('cd /srv/loop && docker compose down -t 0 2>&1');
  });

  describeTable('containers', CONTAINERS);
});

test('what an unhealthy container says of itself is shown', async () => {
  const done = await check(['container:ill']);
  expect(resultOf(done, 'container:ill').vantages[0]?.detail).toBe('health check exit code 1: the database is away');
  expect(done.summary).toContain('the database is away');
});

// --- two vantages --------------------------------------------------------------------------------------------------------

describe('both vantages', () => {
  let done: ActionRun;
  const both = (name: string, url: string): Check => ({ name, url, via: 'both' });
  beforeAll(async () => {
    done = await check([
      both('open', site('/health')),
      both('behind the firewall', site('/health', 8083)),
      both('not on the server', `http://127.0.0.1:${outsidePort()}/both`),
      both('broken', site('/status/500')),
      both('loopback', 'http://127.0.0.1:8081/health'),
    ]);
  });

  test.each([
    ['open', [true, true], 'answers on the server and from outside'],
    ['behind the firewall', [true, false], 'answers on the server, not from outside: firewall, DNS or proxy'],
    [
      'not on the server',
      [false, true],
      'answers from outside, not on the server: another server may be answering, or the server cannot reach its own public address',
    ],
    ['broken', [false, false], 'fails on the server and from outside alike: the application itself'],
    ['loopback', [true, false], 'answers on the server, not from outside: firewall, DNS or proxy'],
  ])('%s', (name, healthy, explanation) => {
    const result = resultOf(done, name);
    expect(result.vantages.map((vantage) => vantage.via)).toEqual(['ssh', 'runner']);
    expect(result.vantages.map((vantage) => vantage.healthy)).toEqual(healthy);
    expect(result.explanation).toBe(explanation);
  });

  test('the sentence is where people look', () => {
    const sentence = 'answers on the server, not from outside: firewall, DNS or proxy';
    expect(done.summary).toContain(`- **behind the firewall** ${sentence}`);
    expect(errorsOf(done)).toEqual(expect.arrayContaining([expect.stringContaining(`${sentence}; from the runner: `)]));
    expect(done.log).toMatch(/^✓ behind the firewall on the server: status 200/m);
    expect(done.log).toMatch(/^✗ behind the firewall from the runner: .*:8083 refused the connection/m);
  });

  test('a loopback address from the runner is explained', () => {
    expect(resultOf(done, 'loopback').vantages[1]?.reason).toContain('127.0.0.1 is the runner itself');
  });

  test('a check fails if one of its vantages does', () => {
    expect(done.outputs['failed']).toBe('behind the firewall\nnot on the server\nbroken\nloopback');
    expect(done.exitCode).toBe(1);
  });
});

// --- attempts ------------------------------------------------------------------------------------------------------------

describe('attempts', () => {
  test('a service that needs 2 s passes at the third attempt, 1 s apart', async () => {
    const done = await check([{ name: 'warming', url: site('/warming/a') }], { attempts: '5', interval: '1s' });
    const [vantage] = resultOf(done, 'warming').vantages;
    expect(vantage).toMatchObject({
      healthy: true,
      attempts: 3,
      reason: expect.stringMatching(/^status 200 in \d+ ms, ok$/) as string,
    });
    expect(vantage?.durationMs).toBeGreaterThanOrEqual(2000);
    expect(vantage?.durationMs).toBeLessThan(3000);
    expect(await hits('/warming/a')).toBe(3);
  });

  test('too few of them fail, and no more are made', async () => {
    const done = await check([{ name: 'warming', url: site('/warming/b') }], { attempts: '2', interval: '200ms' });
    expect(resultOf(done, 'warming').vantages[0]).toMatchObject({
      healthy: false,
      attempts: 2,
      reason: 'status 503 instead of 2xx',
      detail: 'warming up',
    });
    expect(await hits('/warming/b')).toBe(2);
  });

  test('the deadline ends them', async () => {
    const done = await check([{ name: 'down', url: site('/status/500') }], {
      attempts: '100',
      interval: '300ms',
      deadline: '1s',
    });
    const [vantage] = resultOf(done, 'down').vantages;
    expect(vantage?.attempts).toBeGreaterThanOrEqual(2);
    expect(vantage?.attempts).toBeLessThanOrEqual(4);
    expect(vantage?.durationMs).toBeLessThan(1500);
  });

  test('backoff makes the pauses longer', async () => {
    const done = await check([{ name: 'down', url: site('/status/500') }], {
      attempts: '4',
      interval: '100ms',
      backoff: '3',
    });
    // 100 + 300 + 900 ms
    expect(resultOf(done, 'down').vantages[0]?.durationMs).toBeGreaterThanOrEqual(1300);
    expect(resultOf(done, 'down').vantages[0]?.durationMs).toBeLessThan(2300);
  });

  test('successes are counted in a row', async () => {
    const pace = { attempts: '10', interval: '50ms', successes: '3' };
    const done = await check([{ name: 'flaky', url: site('/flaky/a'), via: 'ssh' }], pace);
    // Passed, failed, passed, passed, passed.
    expect(resultOf(done, 'flaky').vantages[0]).toMatchObject({ healthy: true, attempts: 5 });
    expect(await hits('/flaky/a')).toBe(5);
  });

  test('an attempt that passed is not enough where three must', async () => {
    const done = await check([{ name: 'flaky', url: site('/flaky/b') }], {
      attempts: '3',
      interval: '50ms',
      successes: '3',
    });
    expect(resultOf(done, 'flaky').vantages[0]).toMatchObject({ healthy: false, attempts: 2 });
  });

  async function hits(path: string): Promise<number> {
    return Number(await (await fetch(site(`/hits?of=${path}`))).text());
  }
});

// --- what is wrong with the way there --------------------------------------------------------------------------------------

describe('a server that cannot be asked', () => {
  const checks: Check[] = [
    { name: 'page', url: `http://HOST:8080/health` },
    { name: 'private', url: 'http://127.0.0.1:8081/health', via: 'ssh' },
    { name: 'two', url: 'http://HOST:8080/health', via: 'both' },
    'container:web',
  ];
  const forServer = (): Check[] =>
    checks.map((one) =>
      typeof one === 'string' ? one : { ...one, url: String(one['url']).replace('HOST', theServer().address) },
    );

  function expectOnlySshFailed(done: ActionRun, why: RegExp): void {
    expect(done.outputs['failed']).toBe('private\ntwo\ncontainer:web');
    expect(verdictOf(done, 'page')).toMatch(/^passed: status 200/);
    expect(verdictOf(done, 'private')).toMatch(why);
    expect(resultOf(done, 'private').vantages[0]).toMatchObject({ attempts: 0, latencyMs: null });
    expect(resultOf(done, 'two').explanation).toBe('answers from outside; the server could not be asked');
    expect(done.summary).toContain('### Health: 3 of 4 checks failed');
    expect(done.exitCode).toBe(1);
  }

  test('its host key is another one', async () => {
    const type = 'ssh-ed25519';
    const file = join(workshop, 'other-key');
    await run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', file]);
    const [, key = ''] = (await readFile(`${file}.pub`, 'utf8')).split(' ');
    const done = await check(forServer(), { 'known-hosts': `${theServer().address} ${type} ${key}` });
    expectOnlySshFailed(done, /^failed: not made, no SSH connection: .*host key/i);
    // What would be right to pin, and that it may be an attack, is told.
    const known =
      theServer()
        .knownHosts.split('\n')
        .find((line) => line.includes(type)) ?? 'none';
    expect(known).toContain(type);
    expect(done.stdout).toMatch(/SHA256:[A-Za-z0-9+/]{43}/);
  });

  test('its address answers nobody', async () => {
    const done = await check(forServer(), {
      host: '127.0.0.1',
      port: '9',
      'known-hosts': `[127.0.0.1]:9 ${theServer().knownHosts.split('\n')[0]?.split(' ').slice(1).join(' ') ?? ''}`,
    });
    expectOnlySshFailed(done, /^failed: not made, no SSH connection: Nothing listens on 127\.0\.0\.1 port 9/);
  });

  test('it does not know the key', async () => {
    const file = join(workshop, 'login-key');
    await run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', file]);
    const done = await check(forServer(), { 'ssh-key': await readFile(file, 'utf8') });
    expectOnlySshFailed(done, /^failed: not made, no SSH connection: .*deploy/);
    expectNoSecret(
      done,
      (await readFile(file, 'utf8')).split('\n').filter((line) => line.length > 30),
    );
  });
});

test('everything that is wrong with the inputs is said at once, and nothing is asked', async () => {
  const before = asked.length;
  const done = await check(
    [
      { url: `http://127.0.0.1:${outsidePort()}/never-asked` },
      { url: 'ftp://example.com' },
      { url: site('/'), contain: 'x' },
      { tcp: 'example.com' },
      { container: 'web', health: 'good' },
      { command: 'true', via: 'runner' },
      'ssh+tcp://127.0.0.1:8081',
    ],
    { attempts: '0', interval: 'soon', 'ssh-key': '', host: 'deploy@example.com', 'known-hosts': '' },
  );
  expect(done.exitCode).toBe(1);
  expect(done.outputs).toEqual({});
  const [message = '', ...more] = errorsOf(done);
  expect(more).toEqual([]);
  for (const part of [
    /attempts.*0/,
    /interval.*soon/,
    /ssh-key.*is empty/,
    /host.*holds a user name/,
    /check 2.*ftp/,
    /check 3.*contain.*contains/,
    /check 4.*example\.com/,
    /check 5.*health.*good/,
    /check 6.*via must be ssh/,
  ]) {
    expect(message).toMatch(part);
  }
  expect(asked.length).toBe(before);
});

test('no checks at all are an error', async () => {
  expect(errorsOf(await check('\n \n'))).toEqual([expect.stringContaining('is empty: give at least one check')]);
  expect(errorsOf(await check('# only a comment'))).toEqual([expect.stringContaining('is empty')]);
  expect(errorsOf(await check('[]'))).toEqual([expect.stringContaining('is empty')]);
});

// --- many failures, secrets, hostile text ----------------------------------------------------------------------------------

test('twelve failures are twelve results; nine annotations and the failure itself fit into what GitHub shows', async () => {
  const names = Array.from({ length: 12 }, (_, index) => `check ${index + 1}`);
  const done = await check(names.map((name, index) => ({ name, url: site(`/status/${500 + index}`) })));
  expect(done.outputs['failed']).toBe(names.join('\n'));
  expect(rowsOf(done)).toHaveLength(12);
  expect(done.summary).toContain('### Health: 12 of 12 checks failed');
  const errors = done.annotations.filter((annotation) => annotation.type === 'error');
  expect(errors).toHaveLength(10);
  expect(errors.every((annotation) => annotation.shown)).toBe(true);
  expect(errors[0]).toMatchObject({ title: 'Check failed: check 1', message: 'status 500 instead of 2xx' });
  for (const name of names) expect(errors[9]?.message).toContain(`- ${name}: status`);
});

/** Of all that leaves the action, only the commands that hide a value may hold it. */
function expectNoSecret(done: ActionRun, secrets: readonly string[]): void {
  expect(secrets.length).toBeGreaterThan(0);
  const said = done.stdout.split('\n').filter((line) => !line.startsWith('::add-mask::'));
  const places = {
    stdout: said.join('\n'),
    stderr: done.stderr,
    outputs: JSON.stringify(done.outputs),
    summary: done.summary,
    annotations: JSON.stringify(done.annotations),
    leftFiles: JSON.stringify(done.leftFiles),
  };
  for (const [place, text] of Object.entries(places)) {
    for (const secret of secrets) expect({ place, found: text.includes(secret) }).toEqual({ place, found: false });
  }
}

test('no secret gets out, not even when the other side sends it back', async () => {
  const token = 'tok-5up3r-s3cr3t-value';
  const apiKey = 'key-0f-the-4pi';
  const done = await check([
    {
      name: 'reflects',
      url: site('/reflect'),
      via: 'both',
      headers: { authorization: `Bearer ${token}`, 'x-api-key': apiKey },
    },
    {
      name: 'compares',
      url: site('/reflect'),
      status: 500,
      headers: { 'x-api-key': apiKey },
      json: { 'x-api-key': 'other' },
    },
    { name: 'prints', command: `curl -s -H "accept: ${'x'.repeat(5)}" http://127.0.0.1:8081/reflect; exit 1` },
  ]);
  expect(done.outputs['failed']).toBe('reflects\ncompares\nprints');
  // The headers were sent, and came back.
  expect(resultOf(done, 'reflects').vantages.map((vantage) => vantage.detail)).toEqual([
    expect.stringMatching(/"authorization":"\*\*\*"|"authorization":"Bearer \*\*\*"/),
    expect.stringMatching(/"authorization":"\*\*\*"|"authorization":"Bearer \*\*\*"/),
  ]);
  expect(verdictOf(done, 'compares')).toBe('failed: JSON x-api-key is "***" instead of "other"');
  const keyLines = (await deployKey()).split('\n').filter((line) => line.length > 30 && !line.startsWith('-----'));
  expectNoSecret(done, [token, apiKey, ...keyLines]);
  expect(done.droppedOutputs).toEqual([]);
});

describe('hostile text', () => {
  let done: ActionRun;
  beforeAll(async () => {
    // The harness throws if a command that came from outside is obeyed, or would be by a runner that knows more.
    done = await check([
      { name: 'body', url: site('/hostile') },
      { name: 'command', command: 'cat /srv/shop/app/hostile.txt; cat /srv/shop/app/hostile.txt >&2; exit 1' },
      { name: 'redirect', url: site(`/to?url=${encodeURIComponent('http://evil.example/|x|<b>::error::owned')}`) },
      { name: '::error::by its name | *b* <i>', url: site('/status/500') },
    ]);
  });

  test('is not obeyed', () => {
    const titles = done.annotations.map((annotation) => annotation.title);
    expect(titles).toEqual([
      'Check failed: body',
      'Check failed: command',
      'Check failed: redirect',
      'Check failed: ::error::by its name | *b* <i>',
      '',
    ]);
    expect(done.masks).not.toContain('healthy');
    expect(done.commandsStopped).toBe(false);
  });

  test('is shown all the same', () => {
    expect(resultOf(done, 'body').vantages[0]?.detail).toContain('::error::owned by the body');
    expect(done.log).toContain('owned by the body');
    expect(done.summary).toContain('owned by the body');
  });

  test('has no control characters left', () => {
    const found = resultsOf(done).checks.flatMap((one) =>
      one.vantages.flatMap(({ reason, detail }) => [reason, detail]),
    );
    const shown = [done.summary, ...found, ...errorsOf(done)];
    for (const text of shown) expect(text).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/);
  });

  test('stays in its cell of the table, as text', () => {
    const rows = rowsOf(done);
    expect(rows).toHaveLength(4);
    for (const row of rows) {
      // Six cells: pipes within are escaped.
      expect(row.split(/(?<!\\)\|/)).toHaveLength(8);
      expect(row.replaceAll('<br>', '')).not.toMatch(/[<>]/);
      expect(row).not.toMatch(/(?<!\\)[[\]*_#`]/);
      expect(row).not.toMatch(/@octocat|https:\/\//);
    }
    expect(done.summary.split('\n').filter((line) => line.startsWith('#'))).toHaveLength(1);
  });
});
