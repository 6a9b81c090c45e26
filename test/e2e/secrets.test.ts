/**
 * Secrets stay where they belong: in the container, and in the 0600 files of the release store. Every secret here holds a
 * token that is nowhere else, so a token that turns up anywhere, in whatever quoting, is a leak.
 */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { jest } from '@jest/globals';
import { type ActionRun, sampleArgv, type SampledProcess } from './harness/index.ts';
import {
  appImage,
  asDeploy,
  type Checkout,
  deploy,
  type DeployOptions,
  errorsOf,
  freshServer,
  get,
  onServer,
  projectFiles,
  publishApp,
  removeCheckouts,
  sandboxInfo,
  startSandbox,
} from './sandbox.ts';

jest.setTimeout(120_000);

const token = (): string => randomBytes(8).toString('hex');

/** Of the application: value by name. */
const SECRETS = {
  PLAIN: `plain-${token()}`,
  QUOTES: `it's "${token()}" said\\he`,
  LINES: `first-${token()}\n  second "${token()}"\nthird-${token()}`,
  DOLLARS: `a$HOME$$${token()}\${NOT_SET}$(id)\`id\``,
  UNICODE: `schlüssel-${token()}-ключ-🔑`,
  HASH: `before # after-${token()}=`,
  DATABASE_URL: `postgres://app:p%40ss-${token()}@db:5432/app`,
  PERCENT: `50%0A::error::${token()}`,
};

const ENV = [
  '# what the workflow holds as one secret',
  `PLAIN=${SECRETS.PLAIN}`,
  `QUOTES="${SECRETS.QUOTES.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`,
  `LINES="${SECRETS.LINES.replaceAll('"', '\\"')}"`,
  `DOLLARS='${SECRETS.DOLLARS}'`,
  `UNICODE=${SECRETS.UNICODE}`,
  `HASH='${SECRETS.HASH}'`,
  `export DATABASE_URL=${SECRETS.DATABASE_URL}`,
  `PERCENT="${SECRETS.PERCENT}"`,
].join('\n');

const PASSPHRASE = `open "${token()}" sesame`;
const WRONG_PASSPHRASE = `wrong-${token()}`;
const WRONG_PASSWORD = `wrong ${token()}!`;

let key: string;
let checkout: Checkout;
/** What must not be seen: every token, and what of the key is not public. */
let needles: Record<string, string>;
/** Those that the store may hold. */
let stored: string[];

function compose(image: string, more: object = {}): string {
  const environment = Object.fromEntries(Object.keys(SECRETS).map((name) => [name, `\${${name}}`]));
  return JSON.stringify({
    name: 'vault',
    services: { app: { image, ports: ['8080:3000'], environment, env_file: '.env', ...more } },
  });
}

function inputs(more: Readonly<Record<string, string>> = {}): Record<string, string> {
  const { address, username, password } = sandboxInfo().registry.login;
  return {
    'ssh-key': key,
    'ssh-key-passphrase': PASSPHRASE,
    env: ENV,
    registry: address,
    'registry-username': username,
    'registry-password': password,
    ...more,
  };
}

interface Watched {
  readonly run: ActionRun;
  readonly processes: readonly SampledProcess[];
}

/** A deploy under a look at every process of the machine, the server's among them. */
async function watch(with_: Readonly<Record<string, string>>, options: DeployOptions = {}): Promise<Watched> {
  const secrets = ['ssh-key', 'ssh-key-passphrase', 'env', 'registry-password'].map((name) => with_[name] ?? '');
  const { result, processes } = await sampleArgv(() => deploy(checkout, with_, { secrets, ...options }), {
    intervalMs: 5,
  });
  return { run: result, processes };
}

/** `where: which` for each needle in a text. */
function find(where: string, text: string): string[] {
  return Object.entries(needles)
    .filter(([, needle]) => text.includes(needle))
    .map(([name]) => `${where}: ${name}`);
}

/** Nothing was seen anywhere. The raw streams count, not what the runner's own masks make of them. */
async function expectNoLeak({ run, processes }: Watched): Promise<void> {
  const raw = (text: string): string => text.replaceAll(/^::add-mask::.*$/gm, '');
  const parts = [run, run.post].filter((part) => part !== undefined);
  const leaks = parts.flatMap((part) => [
    ...find('stdout', raw(part.stdout)),
    ...find('stderr', raw(part.stderr)),
    ...find('log', part.log),
    ...find('summary', part.summary),
    ...find('outputs', JSON.stringify(part.outputs)),
    ...find('state', JSON.stringify(part.state)),
    ...find('annotations', part.annotations.map((one) => `${one.title} ${one.message}`).join('\n')),
    ...part.droppedOutputs.map((name) => `output ${name} holds a masked value`),
  ]);
  for (const [name, text] of Object.entries(run.leftFiles)) leaks.push(...find(`runner's ${name}`, text));
  for (const { argv } of processes) leaks.push(...find(`argv of ${argv[0] ?? ''}`, argv.join('\0')));
  leaks.push(...(await searchServer()));
  expect(leaks).toEqual([]);
  // The watch was awake: it saw what this deploy ran on the server.
  expect(run.orphans).toEqual([]);
}

/**
 * Docker's own records of containers are not ours: /var/lib/docker, containerd's in /run, and what runc is handed for each
 * command in a container (a health check, say) while it runs.
 */
const SEARCH = `needles=$(cat)
needles() { printf '%s\\n' "$needles"; }
cd /
needles | grep -raoHF -f - home root tmp var/tmp run var/log var/spool dev/shm etc \\
  --exclude-dir=containerd --exclude-dir=docker --exclude='runc-process*' 2>/dev/null | sort -u
journalctl --no-pager --output=export 2>/dev/null | { needles >/dev/shm/needles; grep -aoF -f /dev/shm/needles; } | sort -u | sed 's/^/journal:/'
rm /dev/shm/needles`;

async function searchServer(): Promise<string[]> {
  const leaks: string[] = [];
  for (const line of (await onServer(SEARCH, [], `${Object.values(needles).join('\n')}\n`)).split('\n')) {
    const [where = '', found] = line.split(/:(.*)/, 2);
    if (where === '') continue;
    const name = Object.keys(needles).find((one) => needles[one] === found) ?? `(unknown) ${line}`;
    const allowed = /^home\/deploy\/apps\/vault\/\.slipway\/releases\/[^/]+\/(env|compose\.yaml)$/.test(where);
    if (!allowed || !stored.includes(name)) leaks.push(`server ${where}: ${name}`);
  }
  const open = await onServer(
    `find /home/deploy/apps/vault/.slipway \\( -name env -o -name compose.yaml \\) -type f ! -perm 600 2>/dev/null || :`,
  );
  for (const file of open.split('\n').filter((line) => line !== '')) leaks.push(`server ${file}: not 0600`);
  return leaks;
}

beforeAll(async () => {
  await startSandbox();
  await publishApp('v1');
  await publishApp('v2');
  await publishApp('unhealthy', ['TEST_UNHEALTHY=true']);
  await freshServer();
  checkout = await projectFiles({});

  const folder = await mkdtemp(join(tmpdir(), 'slipway-key-'));
  execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', PASSPHRASE, '-C', 'deploy', '-f', join(folder, 'id')]);
  key = await readFile(join(folder, 'id'), 'utf8');
  await asDeploy('cat >>.ssh/authorized_keys', [], await readFile(join(folder, 'id.pub'), 'utf8'));
  await rm(folder, { recursive: true });

  const tokens = (text: string): string[] => text.match(/[0-9a-f]{16}/g) ?? [];
  const application = Object.entries(SECRETS).flatMap(([name, value]) => [
    ...tokens(value).map((found, index): [string, string] => [`${name} ${index + 1}`, found]),
    [`${name} in base64`, Buffer.from(value).toString('base64')] satisfies [string, string],
  ]);
  const { username, password } = sandboxInfo().registry.login;
  stored = application.map(([name]) => name);
  needles = {
    ...Object.fromEntries(application),
    passphrase: tokens(PASSPHRASE)[0] ?? '',
    'wrong passphrase': tokens(WRONG_PASSPHRASE)[0] ?? '',
    'wrong registry password': tokens(WRONG_PASSWORD)[0] ?? '',
    'registry password': password,
    'registry login in base64': Buffer.from(`${username}:${password}`).toString('base64'),
    'key, third line': key.split('\n')[3] ?? '',
    'key, fourth line': key.split('\n')[4] ?? '',
  };
  if (Object.values(needles).some((needle) => needle.length < 8))
    throw new Error('a needle is too short to mean a leak');
});

afterAll(removeCheckouts);

test('a leak would be found: in a file of the server, in the journal and in argv', async () => {
  // Of its own: what the journal has, it keeps.
  const canary = token();
  needles = { ...needles, canary };
  await onServer('cat >/dev/shm/leak; systemd-cat -t leak cat /dev/shm/leak; journalctl --sync', [], `x${canary}x\n`);
  const { processes } = await sampleArgv(() => onServer('sleep 0.2; : "$1"', [canary]), { intervalMs: 5 });
  const found = await searchServer();
  await onServer('rm /dev/shm/leak');
  needles = Object.fromEntries(Object.entries(needles).filter(([name]) => name !== 'canary'));
  expect(found).toContain('server dev/shm/leak: canary');
  expect(found).toContain('server journal: canary');
  expect(processes.some(({ argv }) => argv.join('\0').includes(canary))).toBe(true);
  expect(find('stdout', `PLAIN=${SECRETS.PLAIN}`)).toEqual(['stdout: PLAIN 1']);
  expect(await searchServer()).toEqual([]);
});

describe('a deploy that goes well', () => {
  test('shows no secret, and every value arrives in the container as it was given', async () => {
    await checkout.write({ 'compose.yaml': compose(`${sandboxInfo().registry.login.address}/app:v1`) });
    const watched = await watch(inputs(), { debug: true });
    expect(watched.run.outputs['result']).toBe('deployed');
    expect(await get(8080)).toBe('v1');
    const environment = JSON.parse(
      await onServer("docker exec vault-app-1 node -e 'process.stdout.write(JSON.stringify(process.env))'"),
    ) as Record<string, string>;
    expect(Object.fromEntries(Object.keys(SECRETS).map((name) => [name, environment[name]]))).toEqual(SECRETS);
    expect(watched.processes.some(({ argv }) => argv.includes('compose'))).toBe(true);
    await expectNoLeak(watched);
  });

  test('a dry run that has a changed secret to tell names it, and no value', async () => {
    const before = SECRETS.PLAIN;
    const changed = ENV.replace(before, `${before}-new`);
    const watched = await watch(inputs({ env: changed, 'dry-run': 'true' }));
    expect(watched.run.outputs['result']).toBe('planned');
    expect(watched.run.outputs['plan']).toContain('environment PLAIN');
    await expectNoLeak(watched);
  });

  test('the same again', async () => {
    const watched = await watch(inputs());
    expect(watched.run.outputs['result']).toBe('unchanged');
    await expectNoLeak(watched);
  });
});

describe('a deploy that fails', () => {
  test('unhealthy, and the container’s log tells the secrets', async () => {
    await checkout.write({
      'compose.yaml': compose(appImage('unhealthy'), {
        environment: {
          ...Object.fromEntries(Object.keys(SECRETS).map((name) => [name, `\${${name}}`])),
          TEST_SAY: Object.keys(SECRETS)
            .map((name) => `${name} is \${${name}} !`)
            .join('\n'),
        },
      }),
    });
    const watched = await watch(inputs());
    expect(watched.run.outputs['result']).toBe('reverted');
    expect(errorsOf(watched.run)).toHaveLength(1);
    expect(watched.run.log).toContain('PLAIN is ***');
    expect(await get(8080)).toBe('v1');
    await expectNoLeak(watched);
  });

  test.each([
    ['a port', { ports: ['${PLAIN}:3000'] }],
    ['an amount of memory', { mem_limit: '${QUOTES}' }],
    ['a duration', { stop_grace_period: '${DOLLARS}' }],
    ['an image', { image: '${UNICODE}' }],
  ])('a secret where Compose wants %s, and its message would quote it', async (_what, service) => {
    await checkout.write({ 'compose.yaml': compose(appImage('v2'), service) });
    const watched = await watch(inputs());
    expect(watched.run.outputs['result']).toBe('refused');
    expect(errorsOf(watched.run)).toHaveLength(1);
    await expectNoLeak(watched);
  });

  test('an env that cannot be read', async () => {
    await checkout.write({ 'compose.yaml': compose(appImage('v2')) });
    const watched = await watch(inputs({ env: `${ENV}\n${SECRETS.LINES}` }));
    expect(watched.run.outputs['result']).toBe('refused');
    expect(errorsOf(watched.run)[0]).toMatch(/^Input env: line \d+ is not `NAME=value`/);
    await expectNoLeak(watched);
  });

  test('a wrong registry password', async () => {
    await checkout.write({ 'compose.yaml': compose(`${sandboxInfo().registry.login.address}/app:v2`) });
    const watched = await watch(inputs({ 'registry-password': WRONG_PASSWORD }));
    expect(watched.run.outputs['result']).toBe('refused');
    await expectNoLeak(watched);
  });

  test('a wrong passphrase', async () => {
    const watched = await watch(inputs({ 'ssh-key-passphrase': WRONG_PASSPHRASE }));
    expect(watched.run.outputs['result']).toBe('refused');
    expect(errorsOf(watched.run)).toEqual([expect.stringMatching(/passphrase/)]);
    await expectNoLeak(watched);
  });

  test('a command that fails, and says what it was given', async () => {
    await checkout.write({
      'compose.yaml': compose(appImage('v2'), { entrypoint: ['/no/such/program-${PLAIN}'] }),
    });
    const watched = await watch(inputs());
    expect(watched.run.outputs['result']).toBe('reverted');
    expect(errorsOf(watched.run)[0]).toContain('/no/such/program-***');
    // Docker runs what it was told to: that name is the container's own, and gone with it.
    await expectNoLeak(watched);
  });

  test('a health check that prints the environment of the container', async () => {
    await checkout.write({ 'compose.yaml': compose(appImage('v2')) });
    const watched = await watch(
      inputs({
        'health-checks': "command: docker exec vault-app-1 sh -c 'export -p; export -p >&2; test $RELEASE_ID = v1'",
      }),
    );
    expect(watched.run.outputs['result']).toBe('reverted');
    expect(await get(8080)).toBe('v1');
    await expectNoLeak(watched);
  });

  test('killed in the middle: neither the post step nor what is left tells anything', async () => {
    await checkout.write({ 'compose.yaml': compose(appImage('unhealthy'), { healthcheck: { start_period: '60s' } }) });
    const watched = await watch(inputs(), { killAfter: /^- start app/ });
    expect(watched.run.post?.outcome).toBe('success');
    await expectNoLeak(watched);
  });
});
