/**
 * infra/docs/INFRASTRUCTURE.md, followed word for word on a bare server: its commands are read from it and run in its order. The names
 * that it uses lead to the sandbox's server, `gh` writes down what it is told, and the workflows' steps are run as they stand.
 */
import { cp, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { jest } from '@jest/globals';
import { parse } from 'yaml';
import { exampleWith, openGuide } from '../docs/guide.ts';
import { readDocument } from '../docs/markdown.ts';
import { mustRunSsl, runSsl, setRecords, startAcme, stopAcme, theAcme } from './certificate-site.ts';
import { runAction } from './harness/index.ts';
import { makeOwner, NAME, type Owner } from './owner.ts';
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
  tryOnServer,
} from './sandbox.ts';

jest.setTimeout(180_000);

const THIS = 'test/e2e/infrastructure.test.ts';
const GUIDE = 'infra/docs/INFRASTRUCTURE.md';

const guide = openGuide('infra/docs/INFRASTRUCTURE.md', THIS);
let owner: Owner;
let image: string;

/** The commands of the guide that have this in them: all of one block, as they stand there. */
const commandsWith = (part: string, count = 1): string => guide.take(part, count).join('\n');
const run = (commands: string): string => owner.run(commands);

beforeAll(async () => {
  await freshServer();
  image = await buildExample('v1');
  const server = await bareServer();
  await onServer('mkdir -p /etc/docker && printf %s "$1" > /etc/docker/daemon.json', [
    JSON.stringify({
      'insecure-registries': [sandboxInfo().registry.open],
      'registry-mirrors': [`http://${sandboxInfo().registry.open}`],
    }),
  ]);
  await startAcme(3600);
  await setRecords(NAME, { a: [server.address] });
  owner = await makeOwner(server, { root: theAcme().root });
});

afterAll(async () => {
  await stopAcme();
  await removeCheckouts();
  await owner.remove();
});

test('from a bare server to HTTPS', async () => {
  // 2. The server. What it prints is what is run next.
  const [exportRepository = '', ...setUp] = guide.take('infra/server/bootstrap.sh', 3);
  const printed = run(setUp.join('\n'));
  const secrets = /^gh secret set SSH_KEY[^]*?^gh secret set APP_ENV .*$/m.exec(printed)?.[0] ?? '';
  expect(secrets).toMatch(/gh variable set SSH_KNOWN_HOSTS <<'END'\nshop\.example\.com ssh-ed25519 \S+\nEND/);
  await writeFile(join(owner.home, 'app.env'), 'POSTGRES_PASSWORD=a-password\nREDIS_PASSWORD=another-one\n');
  run([exportRepository, secrets, commandsWith('gh variable set DEPLOY_HOST', 2)].join('\n'));
  expect(await owner.repositories()).toEqual(['you/shop']);
  const [key, knownHosts] = [await owner.told('secret set SSH_KEY'), await owner.told('variable set SSH_KNOWN_HOSTS')];
  expect(key).toContain('PRIVATE KEY');
  expect(await readFile(join(owner.home, 'github'), 'utf8')).toContain(`variable set DEPLOY_HOST --body ${NAME}\n`);
  const address = sandboxInfo().servers[0]?.address ?? '';
  const login = {
    host: address,
    'ssh-key': key,
    'known-hosts': knownHosts.replaceAll(NAME, address),
  };

  // 3. nginx.
  run(commandsWith('install.sh', 2));

  // 4. The first deploy.
  const checkout = await projectFiles({
    'compose.yaml': await readFile(join(EXAMPLE, 'compose.yaml'), 'utf8'),
  });
  for (const folder of ['nginx', 'public'])
    await cp(join(EXAMPLE, folder), join(checkout.folder, folder), { recursive: true });
  const deployed = await runAction({
    action: 'action-deploy',
    workspace: checkout.folder,
    secrets: [key],
    with: {
      ...login,
      project: 'shop',
      'compose-file': 'compose.yaml',
      files: 'nginx\npublic',
      env: await owner.told('secret set APP_ENV'),
      variables: `API_IMAGE=${image}\nHTTP_PORT=127.0.0.1:8080`,
    },
  });
  if (deployed.outcome !== 'success') throw new Error(deployed.log);
  run(commandsWith('curl --insecure'));
  expect(() => run(commandsWith('curl --fail'))).toThrow('SSL certificate problem');

  // 5. The certificate: the guide's own step, but for the authority, which is the test's.
  const workflow = parse(exampleWith(GUIDE, 'action-ssl@v1')) as {
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
  const check = readDocument(GUIDE).match(/`(ssh root@\S+ "sh -s -- --check [^`]*)`/)?.[1] ?? '';
  run(check.replace('--key ...', `--key '${(await readFile(join(owner.home, 'slipway.pub'), 'utf8')).trim()}'`));
  expect(guide.left()).toEqual([]);
});

test('infra/docs/RUNBOOK.md: what it takes HTTPS or root for', async () => {
  const runbook = openGuide('infra/docs/RUNBOOK.md', THIS);
  run(runbook.take('health/ready', 1).join('\n'));
  expect(run(runbook.take('expire date', 1).join('\n'))).toContain('expire date: ');
  const [bans = ''] = await Promise.all(runbook.take('fail2ban-client', 2).map((command) => onServer(command)));
  expect(bans).toContain('Status for the jail: sshd');
  const [timer = ''] = await Promise.all(runbook.take('certbot.timer', 2).map((command) => onServer(command)));
  expect(timer).toContain('1 timers listed');
  expect(runbook.left()).toEqual([]);
});

test("the way of infra/nginx's own README, on the same server", async () => {
  const readme = openGuide('infra/nginx/README.md', THIS);
  const [install = '', check = '', change = '', visit = ''] = readme.take('apt-get install nginx', 4);
  await onServer(install);
  expect((await tryOnServer(`cd /root/slipway-nginx && ${check}`)).code).toBe(3);
  await onServer(`cd /root/slipway-nginx && ${change}`);
  expect(run(visit)).toContain('<html');
  expect(await onServer('nginx -T 2>/dev/null')).toContain('www.shop.example.com');
  expect(readme.left()).toEqual([]);
});

test("the way of infra/server's own README, and back", async () => {
  const readme = openGuide('infra/server/README.md', THIS);
  expect(run(readme.take('< infra/server/bootstrap.sh', 3).join('\n'))).toContain('gh variable set SSH_KNOWN_HOSTS');
  run(readme.take('user-data', 1).join('\n'));
  const userData = gunzipSync(await readFile(join(owner.home, 'user-data'))).toString();
  expect(userData).toMatch(/^#!.*\nSLIPWAY_KEY='ssh-ed25519 /);
  await onServer('exec sh -s', [], userData);
  for (const command of readme.take('--only-upgrade', 1)) await onServer(command);
  for (const command of readme.take('# sshd as before', 7)) await onServer(command);
  expect(await onServer('getent passwd deploy || echo none; ls /etc/slipway/firewall.nft 2>&1 || true')).toMatch(
    /^none\n.*No such file/,
  );
  expect(readme.left()).toEqual([]);
});

/** What the message tells root to type. */
function linesForRoot(message: string): string {
  return /^install -o root [^]*visudo --check$/m.exec(message)?.[0] ?? '';
}
