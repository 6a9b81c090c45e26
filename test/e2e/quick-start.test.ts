/**
 * A bare server and a fresh application repository become ones that deploy, roll back and back up, by what the documents say and nothing else: the
 * shell commands are those of the README's quick start, and those that these print; the files, the lines to edit and the settings are those of
 * WORKFLOWS.md.
 */
import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { jest } from '@jest/globals';
import { openGuide } from '../docs/guide.ts';
import { GithubApi } from '../github-api/server';
import { enforcePermissions } from '../workflows/api-permissions.ts';
import { type Environment, runWorkflow, type WorkflowRequest, type WorkflowRun } from '../workflows/run-workflow.ts';
import type { Permissions } from '../workflows/workflow.ts';
import { copyWorkflow, makeApplication, makeTools, ROOT, standInsFor, SUITE } from './application-repository.ts';
import { makeOwner, NAME, type Owner } from './owner.ts';
import { bareServer, freshServer, get, onServer, sandboxInfo, theServer, waitForFinish } from './sandbox.ts';

jest.setTimeout(180_000);

const THIS = 'test/e2e/quick-start.test.ts';
/** What the firewall lets through, as the quick start says. */
const PORT = 80;
const APP_ENV = `POSTGRES_PASSWORD=very-secret-password-of-the-database\nREDIS_PASSWORD=another-secret-of-the-cache\nHTTP_PORT=${PORT}\n`;

let api: GithubApi;
let apiUrl: string;
let application: string;
let tools: string;
let owner: Owner;
let permissions: Permissions = {};

/** A section of a document, with those below it. */
async function readSection(path: string, heading: string): Promise<string> {
  const text = await readFile(join(ROOT, path), 'utf8');
  const found = text.split(/^(?=## )/m).find((section) => section.startsWith(`## ${heading}\n`));
  if (found === undefined) throw new Error(`${path} has no section ${heading}`);
  return found;
}

const sectionOfReadme = () => readSection('README.md', 'Quick start');
const sectionOfWorkflows = () => readSection('infra/docs/WORKFLOWS.md', 'Copy, and edit four lines');

beforeAll(async () => {
  await freshServer();
  const server = await bareServer();
  const { login, open } = sandboxInfo().registry;
  // The sandbox has no other registry.
  await onServer('mkdir -p /etc/docker && printf %s "$1" > /etc/docker/daemon.json', [
    JSON.stringify({ 'insecure-registries': [open, login.address], 'registry-mirrors': [`http://${open}`] }),
  ]);
  owner = await makeOwner(server);
  api = new GithubApi('acme/shop', login.password);
  enforcePermissions(api, () => permissions);
  apiUrl = await api.listen();
  application = await makeApplication();
  tools = await makeTools();
});
afterAll(async () => {
  await api.close();
  await owner.remove();
  for (const folder of [application, tools]) await rm(folder, { recursive: true, force: true });
});

let settings: Readonly<Record<string, string>> = {};

test('the commands of the quick start set the server up, and put its key and the proof that it is ours to GitHub', async () => {
  const quickStart = openGuide('README.md', THIS);
  const [repository = '', ...setUp] = quickStart.take('bootstrap.sh', 3);
  const printed = owner.run(setUp.join('\n'));
  expect(quickStart.left()).toEqual([]);
  const commands = /^gh secret set SSH_KEY[^]*?^gh secret set APP_ENV .*$/m.exec(printed)?.[0] ?? '';
  await writeFile(join(owner.home, 'app.env'), APP_ENV);
  owner.run(`${repository}\n${commands}`);
  expect(await owner.repositories()).toEqual(['you/shop']);
  const key = await owner.told('secret set SSH_KEY');
  const { address, knownHosts } = theServer();
  const told = (await owner.told('variable set SSH_KNOWN_HOSTS')).replaceAll(NAME, address);
  expect(key).toContain('BEGIN OPENSSH PRIVATE KEY');
  expect(knownHosts).toContain(told.trim());
  settings = {
    DEPLOY_HOST: address,
    SSH_KNOWN_HOSTS: told,
    URL: `http://${address}/`,
    SSH_KEY: key,
    APP_ENV: await owner.told('secret set APP_ENV'),
  };
});

test('the files to copy are there, and the lines to edit are in them', async () => {
  const section = await sectionOfWorkflows();
  const files = [...section.matchAll(/\.\.\/workflows\/([\w-]+)\.yml/g)].map(([, name = '']) => name);
  const there = (await readdir(join(ROOT, 'infra/workflows'))).filter((name) => name.endsWith('.yml'));
  expect(files.map((name) => `${name}.yml`).sort()).toEqual(there.sort());
  for (const name of ['deploy', 'rollback', 'backup']) await copyWorkflow(application, name);
  const texts = await Promise.all(
    ['deploy', 'rollback', 'backup'].map((name) => readFile(join(ROOT, 'infra/workflows', `${name}.yml`), 'utf8')),
  );
  const edits = [...section.matchAll(/^\d\. `([^`]+)`/gm)].map(([, edit = '']) => edit);
  expect(edits).toEqual(['your-org', 'API_IMAGE', 'files', 'ghcr.io']);
  expect(edits.filter((edit) => !texts.some((text) => text.includes(edit)))).toEqual([]);
  // What the README calls for is what WORKFLOWS.md explains.
  const named = [...(await sectionOfReadme()).matchAll(/infra\/workflows\/([\w-]+)\.yml/g)].map(
    ([, name = '']) => name,
  );
  expect(named.filter((name) => !files.includes(name))).toEqual([]);
});

/** Each environment of the table, with the settings that it names and no other. */
async function readEnvironments(): Promise<Record<string, Environment>> {
  const environments: Record<string, Environment> = {};
  let before: readonly string[] = [];
  const namesIn = (cell: string): string[] => [...cell.matchAll(/`([A-Z_]+)`/g)].map(([, name = '']) => name);
  for (const line of (await sectionOfWorkflows()).split('\n')) {
    const [, names = '', reviewers = '', variables = '', secrets = ''] = line.split('|');
    const environmentNames = [...names.matchAll(/`([\w-]+)`/g)].map(([, name = '']) => name);
    if (!environmentNames.includes('production') && !environmentNames.includes('production-maintenance')) continue;
    const variableNames = variables.trim() === 'the same' ? before : namesIn(variables);
    before = variableNames;
    const pick = (wanted: readonly string[]) => Object.fromEntries(wanted.map((name) => [name, settings[name] ?? '']));
    for (const name of environmentNames) {
      environments[name] = {
        // PROJECT is for projects that are not called like their repository.
        variables: { ...pick(variableNames), PROJECT: '' },
        secrets: pick(namesIn(secrets)),
        ...(/\bif you like\b/.test(reviewers) ? { review: 'approved' as const } : {}),
      };
    }
  }
  return environments;
}

async function start(workflow: string, request: Partial<WorkflowRequest> & Pick<WorkflowRequest, 'event'>) {
  const { login } = sandboxInfo().registry;
  const run: WorkflowRun = await runWorkflow({
    repository: { name: 'acme/shop', folder: application },
    workflow: `.github/workflows/${workflow}.yml`,
    repositories: [SUITE],
    environments: await readEnvironments(),
    standIns: standInsFor(application, []),
    path: [tools],
    onJob: (_job, may) => (permissions = may),
    ...request,
    event: { name: request.event.name, payload: { repository: { name: 'shop' }, ...request.event.payload } },
    github: { api_url: apiUrl, actor: login.username, token: login.password, run_id: '1', ...request.github },
  });
  if (run.result !== 'success') throw new Error(`${workflow} ended with ${run.result}:\n${run.log}`);
  await waitForFinish();
  expect(api.problems).toEqual([]);
  return run;
}
const served = async (): Promise<unknown> =>
  (JSON.parse(await get(PORT, '/api/version')) as { readonly releaseId: string }).releaseId;
const resultsOf = (run: WorkflowRun, job: string) =>
  run.jobs[job]?.steps.flatMap(({ label, outputs }) => (label.includes(SUITE.name) ? [outputs['result']] : []));

test('then a tag is deployed, and the next; the button goes back; the night is backed up and proven', async () => {
  expect(Object.keys(await readEnvironments()).sort()).toEqual(['production', 'production-maintenance', 'staging']);
  for (const commit of ['1'.repeat(40), '2'.repeat(40)]) {
    const run = await start('deploy', {
      event: { name: 'push' },
      github: { ref: 'refs/tags/v1', ref_type: 'tag', ref_name: 'v1', sha: commit },
    });
    expect(resultsOf(run, 'deploy')).toEqual(['deployed']);
    expect(await served()).toBe(commit);
  }
  const inputs = { environment: 'production', release: 'previous', confirm: 'shop' };
  const back = await start('rollback', { event: { name: 'workflow_dispatch' }, inputs });
  expect(resultsOf(back, 'rollback')).toEqual(['rolled-back']);
  expect(await served()).toBe('1'.repeat(40));
  const night = { name: 'schedule', payload: { schedule: '17 3 * * *' } };
  const backup = await start('backup', { event: night });
  expect(resultsOf(backup, 'backup')).toEqual(['proven', 'fresh']);
  expect(api.deployments.map(({ asked }) => asked['environment'])).toEqual(['production', 'production', 'production']);
});
