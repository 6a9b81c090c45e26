/**
 * infra/docs/INFRASTRUCTURE.md, followed word for word on a bare server: its commands are read from it and run in its order. The names
 * that it uses lead to the sandbox's server, `gh` writes down what it is told, and the workflows' steps are run as they stand.
 */
import { execFileSync } from 'node:child_process';
import { chmod, cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { jest } from '@jest/globals';
import { parse } from 'yaml';
import { mustRunSsl, runSsl, setRecords, startAcme, stopAcme, theAcme } from './certificate-site.ts';
import { runAction } from './harness/index.ts';
import {
  bareServer,
  buildExample,
  errorsOf,
  EXAMPLE,
  freshServer,
  onServer,
  projectFiles,
  removeCheckouts,
  sandboxInfo,
} from './sandbox.ts';

jest.setTimeout(180_000);

const REPOSITORY = fileURLToPath(new URL('../..', import.meta.url));
const GUIDE = join(REPOSITORY, 'infra', 'docs', 'INFRASTRUCTURE.md');
const NAME = 'shop.example.com';

/** The owner's own computer: a folder with a copy of the repository's parts, and programs that know where the name leads. */
let home: string;
let blocks: { language: string; text: string }[];

/** The commands of the guide that have this in them: all of one block, as they stand there. */
function commandsWith(part: string): string {
  const found = blocks.filter(({ language, text }) => language === 'sh' && text.includes(part));
  if (found.length !== 1) throw new Error(`${found.length} blocks of the guide have ${part}`);
  return found[0]?.text ?? '';
}

const run = (commands: string): string =>
  execFileSync('bash', ['-euo', 'pipefail', '-c', commands], {
    cwd: home,
    env: { ...process.env, PATH: `${home}/bin:${process.env['PATH'] ?? ''}` },
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
  });

async function program(name: string, body: string): Promise<void> {
  await writeFile(join(home, 'bin', name), `#!/bin/sh\n${body}\n`);
  await chmod(join(home, 'bin', name), 0o755);
}

beforeAll(async () => {
  blocks = [...(await readFile(GUIDE, 'utf8')).matchAll(/^```(\w*)\n([^]*?)^```$/gm)].map(
    ([, language = '', text = '']) => ({ language, text }),
  );
  await freshServer();
  const image = await buildExample('v1');
  const server = await bareServer();
  await onServer('mkdir -p /etc/docker && printf %s "$1" > /etc/docker/daemon.json', [
    JSON.stringify({
      'insecure-registries': [sandboxInfo().registry.open],
      'registry-mirrors': [`http://${sandboxInfo().registry.open}`],
    }),
  ]);
  await startAcme(3600);
  await setRecords(NAME, { a: [server.address] });
  home = await mkdtemp(join(tmpdir(), 'slipway-owner-'));
  execFileSync('mkdir', [join(home, 'bin')]);
  execFileSync('ln', ['-s', join(REPOSITORY, 'infra'), join(home, 'infra')]);
  await writeFile(join(home, 'image'), image);
  await writeFile(join(home, 'root.pem'), theAcme().root);
  await writeFile(join(home, 'known_hosts'), server.knownHosts.replaceAll(server.address, NAME));
  const options = [
    `-o HostName=${server.address}`,
    `-o HostKeyAlias=${NAME}`,
    `-o UserKnownHostsFile=${home}/known_hosts`,
    `-o IdentitiesOnly=yes -o BatchMode=yes -i ${server.rootKeyFile}`,
  ].join(' ');
  await program('ssh', `exec /usr/bin/ssh ${options} "$@"`);
  await program('scp', `exec /usr/bin/scp ${options} "$@"`);
  await program('curl', `exec /usr/bin/curl --resolve ${NAME}:443:${server.address} --cacert ${home}/root.pem "$@"`);
  await program('gh', `{ printf '%s\\n' "$*"; case "$*" in *--body*) ;; *) cat ;; esac; echo END; } >>${home}/github`);
});

afterAll(async () => {
  await stopAcme();
  await removeCheckouts();
  await rm(home, { recursive: true, force: true });
});

test('from a bare server to HTTPS', async () => {
  // 2. The server. What it prints is what is run next.
  const printed = run(commandsWith('infra/server/bootstrap.sh'));
  const repository = /^gh secret set SSH_KEY[^]*?^gh secret set APP_ENV .*$/m.exec(printed)?.[0] ?? '';
  expect(repository).toMatch(/gh variable set SSH_KNOWN_HOSTS <<'END'\nshop\.example\.com ssh-ed25519 \S+\nEND/);
  await writeFile(join(home, 'app.env'), 'POSTGRES_PASSWORD=a-password\nREDIS_PASSWORD=another-one\n');
  run(repository);
  run(commandsWith('gh variable set SSH_HOST'));
  const told = await readFile(join(home, 'github'), 'utf8');
  const toldOf = (what: string): string => told.split(`${what}\n`)[1]?.split('END\n')[0] ?? '';
  const [key, knownHosts] = [toldOf('secret set SSH_KEY'), toldOf('variable set SSH_KNOWN_HOSTS')];
  expect(key).toContain('PRIVATE KEY');
  expect(told).toContain(`variable set SSH_HOST --body ${NAME}\n`);
  const address = sandboxInfo().servers[0]?.address ?? '';
  const login = {
    host: address,
    'ssh-key': key,
    'known-hosts': knownHosts.replaceAll(NAME, address),
  };

  // 3. nginx.
  run(commandsWith('install.sh'));

  // 4. The first deploy.
  const checkout = await projectFiles({
    'compose.yaml': await readFile(join(EXAMPLE, 'compose.yaml'), 'utf8'),
  });
  for (const folder of ['nginx', 'public'])
    await cp(join(EXAMPLE, folder), join(checkout.folder, folder), { recursive: true });
  const image = await readFile(join(home, 'image'), 'utf8');
  const deployed = await runAction({
    action: 'action-deploy',
    workspace: checkout.folder,
    secrets: [key],
    with: {
      ...login,
      project: 'shop',
      'compose-file': 'compose.yaml',
      files: 'nginx\npublic',
      env: toldOf('secret set APP_ENV'),
      variables: `API_IMAGE=${image}\nHTTP_PORT=127.0.0.1:8080`,
    },
  });
  if (deployed.outcome !== 'success') throw new Error(deployed.log);
  run(commandsWith('curl --insecure'));
  expect(() => run(commandsWith('curl --fail'))).toThrow('SSL certificate problem');

  // 5. The certificate: the guide's own step, but for the authority, which is the test's.
  const workflow = parse(blocks.find(({ text }) => text.includes('action-ssl@v1'))?.text ?? '') as {
    jobs: { certificate: { steps: [{ with: Record<string, string> }] } };
  };
  const inputs = { ...workflow.jobs.certificate.steps[0].with, ...login };
  expect(inputs).toMatchObject({ domains: NAME });
  const refused = await runSsl(inputs, { secrets: [key] });
  expect(refused.outcome).toBe('failure');
  const lines = linesForRoot(errorsOf(refused).join('\n'));
  run(`ssh root@${NAME} sh -e <<'TYPED'\n${lines}\nTYPED`);
  const issued = await mustRunSsl(inputs);
  expect(issued.outputs['names']).toContain(NAME);
  run(commandsWith('curl --fail'));

  // 6. Nothing on the server is otherwise than it was set up.
  const check = (await readFile(GUIDE, 'utf8')).match(/`(ssh root@\S+ "sh -s -- --check [^`]*)`/)?.[1] ?? '';
  run(check.replace('--key ...', `--key '${(await readFile(join(home, 'slipway.pub'), 'utf8')).trim()}'`));
});

/** What the message tells root to type. */
function linesForRoot(message: string): string {
  return /^install -o root [^]*visudo --check$/m.exec(message)?.[0] ?? '';
}
