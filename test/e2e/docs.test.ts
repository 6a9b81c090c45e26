/**
 * The commands of the documents, run as they stand there (test/docs/commands.ts says which): by somebody with a computer of their own, on one server,
 * whose name in the documents leads to the sandbox's. What INFRASTRUCTURE.md needs a bare server for is in infrastructure.test.ts.
 */
import { execFileSync } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { jest } from '@jest/globals';
import { type Example, exampleOf } from '../docs/examples.ts';
import { exampleWith, type Guide, openGuide } from '../docs/guide.ts';
import { allDocuments, blocksOf, ROOT } from '../docs/markdown.ts';
import { runWorkflow, type WorkflowRun } from '../workflows/run-workflow.ts';
import { makeOwner, NAME, type Owner } from './owner.ts';
import {
  asDeploy,
  buildExample,
  EXAMPLE,
  freshServer,
  get,
  onServer,
  publishApp,
  sandboxInfo,
  waitForFinish,
} from './sandbox.ts';

jest.setTimeout(180_000);

const THIS = 'test/e2e/docs.test.ts';
const CHECKOUT = 'actions/checkout@de0fac2e4500dabe0009e67214ff5f5447ce83dd';

let owner: Owner;
let address: string;
/** The application's repository. */
let repository: string;
/** As GitHub got them. */
let secrets: Record<string, string>;
let variables: Record<string, string>;

beforeAll(async () => {
  const server = await freshServer();
  address = server.address;
  const keys = await mkdtemp(join(tmpdir(), 'slipway-root-'));
  execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', 'operator', '-f', join(keys, 'id')]);
  // Whoever follows the documents is root there, and nobody deploys yet.
  const script = 'userdel --remove deploy 2>/dev/null; install -d -m 700 /root/.ssh && cat >/root/.ssh/authorized_keys';
  await onServer(script, [], execFileSync('cat', [join(keys, 'id.pub')], { encoding: 'utf8' }));
  owner = await makeOwner({ ...server, rootKeyFile: join(keys, 'id') });
  repository = join(owner.home, 'shop');
  await mkdir(join(repository, '.git'), { recursive: true });
  await writeFile(join(repository, '.git/HEAD'), 'ref: refs/heads/main\n');
});

afterAll(async () => {
  await rm(dirname(keyFile()), { recursive: true, force: true });
  await owner.remove();
});

const keyFile = (): string =>
  /-i (\S+)/.exec(execFileSync('cat', [join(owner.home, 'bin/ssh')], { encoding: 'utf8' }))?.[1] ?? '';

const open = (document: string, replace: Readonly<Record<string, string>> = {}): Guide =>
  openGuide(document, THIS, replace);

const exampleIn = (document: string, part: string): Example =>
  exampleOf({ document, language: 'yaml', text: exampleWith(document, part) });

/** A block for root at the server's prompt. */
const asRoot = async (commands: readonly string[]): Promise<string> => onServer(`set -e\n${commands.join('\n')}`);

/** The workflow of a document as the reader has it, with the sandbox's names for the reader's own. */
async function follow(
  example: Example,
  github: Readonly<Record<string, string>> = {},
  inputs = {},
): Promise<WorkflowRun> {
  const { login } = sandboxInfo().registry;
  const path = '.github/workflows/followed.yml';
  await mkdir(join(repository, dirname(path)), { recursive: true });
  await writeFile(join(repository, path), example.text.replaceAll(NAME, address).replaceAll('ghcr.io', login.address));
  const run = await runWorkflow({
    repository: { name: 'acme/shop', folder: repository },
    workflow: path,
    repositories: [{ name: 'your-org/slipway', folder: ROOT }],
    event: {
      name: /^on:[\s{]*(\w+)/m.exec(example.text)?.[1] ?? '',
      payload: { repository: { name: 'shop' }, schedule: /cron: '([^']+)'/.exec(example.text)?.[1] ?? '' },
    },
    inputs,
    secrets,
    environments: { production: { secrets, variables } },
    variables,
    github: {
      ref: 'refs/heads/main',
      ref_name: 'main',
      actor: login.username,
      token: login.password,
      run_id: '1',
      ...github,
    },
    standIns: [
      {
        uses: CHECKOUT,
        run: ({ workspace }) => {
          execFileSync('cp', ['-r', `${repository}/.`, workspace]);
          return Promise.resolve({});
        },
      },
    ],
  });
  if (run.result !== 'success') throw new Error(run.log);
  await waitForFinish();
  return run;
}

test('infra/docs/DEPLOYMENT.md and README.md: a server by hand, a key, the first deploy, the next, and back', async () => {
  const guide = open('infra/docs/DEPLOYMENT.md');
  await asRoot(guide.take('useradd ', 1));
  for (const command of guide.take('ssh-keygen -t', 3)) owner.run(command);
  const knownHosts = await asRoot(guide.take('echo "shop.example.com', 1));
  expect(guide.left()).toEqual([]);

  secrets = { SSH_KEY: await owner.told('secret set SSH_KEY'), APP_ENV: 'SETTING=of-the-secret' };
  variables = { SSH_KNOWN_HOSTS: knownHosts.replace(NAME, address) };
  const image = `${sandboxInfo().registry.open}/app:\${TAG}`;
  await writeFile(
    join(repository, 'compose.yaml'),
    `services:\n  api: { image: "${image}", environment: { SETTING: "$SETTING" }, ports: ["8080:3000"] }\n`,
  );
  for (const release of ['v1', 'v2']) await publishApp(release);
  const quickStart = exampleIn('README.md', 'action-deploy@v1');
  await follow(quickStart, { sha: 'v1' });
  expect([await get(8080), await get(8080, '/setting')]).toEqual(['v1', 'of-the-secret']);
  await follow(quickStart, { sha: 'v2' });
  expect(await get(8080)).toBe('v2');
  const rollback = exampleIn('action-rollback/README.md', 'name: Roll back');
  await follow(rollback, {}, { release: 'previous', confirm: 'shop' });
  expect(await get(8080)).toBe('v1');
  await asDeploy('docker compose --project-directory apps/shop down && rm -r apps/shop');
});

test('infra/example/README.md: with Docker alone', async () => {
  const readme = open('infra/example/README.md');
  await buildExample('v1');
  const archive = execFileSync('tar', ['-C', EXAMPLE, '--exclude=node_modules', '-cz', '.'], { maxBuffer: 2 ** 26 });
  await asDeploy('mkdir example && base64 -d | tar -C example -xz', [], archive.toString('base64'));
  for (const command of readme.take('docker build', 5)) {
    if (command.startsWith('curl ')) expect(owner.run(command)).toContain('"ready"');
    else await asDeploy(`cd example && ${command}`);
  }
  expect(readme.left()).toEqual([]);
});

test('infra/docs/RUNBOOK.md: what is typed on the server and at the own prompt', async () => {
  const runbook = open('infra/docs/RUNBOOK.md');
  execFileSync('cp', [
    '-r',
    join(EXAMPLE, 'compose.yaml'),
    join(EXAMPLE, 'nginx'),
    join(EXAMPLE, 'public'),
    repository,
  ]);
  secrets['APP_ENV'] = 'POSTGRES_PASSWORD=a-password-of-the-database';
  const example = exampleIn('infra/docs/DEPLOYMENT.md', 'registry-username');
  const image = (await buildExample('v1')).replace(/^[^/]+/, sandboxInfo().registry.login.address);
  const text = example.text
    .replace('TAG=${{ github.sha }}', `API_IMAGE=${image}`)
    .replace(/^( *)(project: .*)$/m, '$1$2\n$1files: |\n$1  nginx\n$1  public');
  await follow({ ...example, text });
  await follow({ ...example, text: text.replace(/^( *)variables: /m, '$1variables: |\n$1  LOG_LEVEL=debug\n$1  ') });

  const inProject = async (part: string, count = 1): Promise<string[]> => {
    const said: string[] = [];
    for (const command of runbook.take(part, count)) said.push(await asDeploy(`cd apps/shop && ${command}`));
    return said;
  };
  await onServer('cat /root/.ssh/authorized_keys >>/home/deploy/.ssh/authorized_keys');
  for (const command of runbook.take('cd apps/shop', 2)) {
    if (command.startsWith('cd ')) await asDeploy(command);
    else owner.run(command);
  }
  await inProject('free -m', 3);
  const [services, log, current] = await inProject('--since 10m', 3);
  expect(services).toContain('(healthy)');
  expect(log).toContain('listening');
  expect(current).toMatch(/^releases\/\d{8}T/);
  expect((await inProject("pg_stat_activity'", 2)).at(-1)).toContain('most');
  await inProject('nginx -t', 4);
  const [, , , , sizes] = await inProject('docker builder prune', 5);
  expect(sizes).toContain('.slipway/files');
  expect((await inProject('OOMKilled', 2)).at(-1)).toMatch(/out-of-memory=false/);
  expect((await inProject('pg_blocking_pids', 3)).at(-1)).toContain('used_memory');
  // Without GitHub: the release before, by hand.
  const logLevel = async (): Promise<string> =>
    asDeploy('cd apps/shop && docker compose exec -T api node -p process.env.LOG_LEVEL');
  expect(await logLevel()).toBe('debug\n');
  const [list = '', serving = '', images = ''] = await inProject('ls .slipway/releases', 3);
  const [first = '', second = ''] = list.split('\n');
  expect(serving).toBe(`releases/${second}\n`);
  for (const id of [first, second])
    expect(images).toContain(`.slipway/releases/${id}/compose.yaml:    image: "${image}@sha256:`);
  const [goBack = ''] = runbook.take('20261122T223100Z-ab12cd3', 1);
  await asDeploy(`cd apps/shop && ${goBack.replace('20261122T223100Z-ab12cd3', first)}`);
  expect(await logLevel()).toBe('info\n');
  expect(owner.run('curl --retry 5 --retry-all-errors -fsS http://127.0.0.1:8080/health/ready')).toContain('"ready"');
  await inProject('compose stop api');
  // What the table of the symptoms says of a service that is stopped.
  const said = `docker compose logs --tail 100 web 2>&1 | grep -q 'could not be resolved'`;
  await asDeploy(`cd apps/shop && for i in 1 2 3 4 5 6 7 8 9 10; do ${said} && exit 0; sleep 1; done; exit 1`);
  expect(owner.run(`curl -so /dev/null -w '%{http_code}' http://127.0.0.1:8080/health/ready`)).toMatch(/^50[24]$/);
  await inProject('compose start api');
  await inProject('cat .slipway/session');
  await follow(exampleIn('action-backup/README.md', "cron: '17 3"));
  expect(await inProject('ls .slipway/backups')).toEqual([expect.stringMatching(/^\d{8}T\d{6}Z-\w+\n$/)]);
  // The key of the deploys: the new one lets in, the old one does not any more.
  for (const command of runbook.take('deploy-new', 3)) owner.run(command);
  for (const command of runbook.take('sed -i', 1)) owner.run(command);
  expect(await onServer('cut -d" " -f3 /home/deploy/.ssh/authorized_keys')).toBe('operator\ndeploy-new\n');
  expect(runbook.left()).toEqual([]);
});

test('on the own computer: the sandbox, keys of backups', () => {
  const { instance, network } = sandboxInfo();
  const number = /^10\.78\.(\d+)\./.exec(network.host)?.[1] ?? '';
  const sandbox = open('infra/sandbox/README.md', {
    'slipway-sandbox/default': `slipway-sandbox/${instance}`,
    'slipway-0-lan': `slipway-${number}-lan`,
  });
  expect(owner.run(sandbox.take('sandbox.mjs status', 6).join('\n'))).toContain(address);
  const backup = open('action-backup/README.md', { 'age1...': 'age1example' });
  expect(owner.run(`{ ${backup.take('age-keygen', 2).join('\n')}\n} 2>&1`)).toMatch(/age1[0-9a-z]{20}/);
  expect(sandbox.left()).toEqual([]);
  expect(backup.left()).toEqual([]);
});

test('action-ssl/README.md: a placeholder, as root', async () => {
  const readme = open('action-ssl/README.md');
  const commands = readme.take('openssl ', 4);
  await asRoot(['mkdir -p /etc/slipway/tls/shop.example.com', ...commands]);
  const subject = 'openssl x509 -noout -subject -in /etc/slipway/tls/shop.example.com/current/fullchain.pem';
  expect(await onServer(subject)).toContain('Slipway placeholder');
  expect(readme.left()).toEqual([]);
});

test('every Compose file of the documents is one for Docker Compose', async () => {
  const files = allDocuments()
    .flatMap((document) => blocksOf(document))
    .filter(({ language }) => language === 'yaml')
    .map(exampleOf)
    .filter(({ kind }) => kind === 'compose');
  expect(files.map(({ document }) => document)).toEqual(expect.arrayContaining(['infra/docs/ZERO-DOWNTIME.md']));
  for (const { document, text } of files) {
    await onServer(
      'cd "$(mktemp -d)" && docker compose --project-name "$1" -f - config --quiet',
      [basename(document, '.md').toLowerCase()],
      text,
    );
  }
});
