/**
 * A fresh application repository becomes one that deploys, rolls back and backs up, by what the documents say and nothing else: the shell commands
 * are those of the README's quick start, run where it says; the files, the lines to edit and the settings are those of WORKFLOWS.md.
 */
import { execFile } from 'node:child_process';
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { jest } from '@jest/globals';
import { GithubApi } from '../github-api/server';
import { enforcePermissions } from '../workflows/api-permissions.ts';
import { type Environment, runWorkflow, type WorkflowRequest, type WorkflowRun } from '../workflows/run-workflow.ts';
import type { Permissions } from '../workflows/workflow.ts';
import { copyWorkflow, makeApplication, makeTools, ROOT, standInsFor, SUITE } from './application-repository.ts';
import { freshServer, get, onServer, sandboxInfo, theServer, waitForFinish } from './sandbox.ts';

jest.setTimeout(180_000);

/** What the documents call the server of whoever reads them. */
const NAMED = 'shop.example.com';
const APP_ENV = 'POSTGRES_PASSWORD=very-secret-password-of-the-database\nREDIS_PASSWORD=another-secret-of-the-cache';

let api: GithubApi;
let apiUrl: string;
let application: string;
let tools: string;
/** The computer of whoever follows the quick start. */
let computer: string;
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

/** Fenced blocks of a language, without the indent of a list. */
const blocksOf = (text: string, language: string): string[] =>
  [...text.matchAll(new RegExp(`^( *)\`\`\`${language}\\n([^]*?)^\\1\`\`\`$`, 'gm'))].map(
    ([, indent = '', block = '']) => block.replaceAll(new RegExp(`^${indent}`, 'gm'), ''),
  );

/** Commands for the reader's own computer name one of these; for the server, one of those. */
const OWN = /^(ssh|ssh-keygen|gh|cp|mkdir) /m;
const SERVERS = /^useradd |\/etc\/ssh\//m;

beforeAll(async () => {
  await freshServer();
  const { login } = sandboxInfo().registry;
  api = new GithubApi('acme/shop', login.password);
  enforcePermissions(api, () => permissions);
  apiUrl = await api.listen();
  application = await makeApplication();
  tools = await makeTools();
  computer = await mkdtemp(join(tmpdir(), 'slipway-computer-'));
});
afterAll(async () => {
  await api.close();
  for (const folder of [application, tools, computer]) await rm(folder, { recursive: true, force: true });
});

/** Root's way in, as the provider gave it; `ssh` is the real one, `gh` keeps what it is given. */
async function equipComputer(): Promise<void> {
  const bin = join(computer, 'bin');
  await mkdir(bin);
  await mkdir(join(computer, 'settings'));
  await promisify(execFile)('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', join(computer, 'provider')]);
  await onServer(
    'install -d -m 700 ~root/.ssh && cat >> ~root/.ssh/authorized_keys',
    [],
    await readFile(join(computer, 'provider.pub'), 'utf8'),
  );
  await writeFile(join(computer, 'known_hosts'), theServer().knownHosts);
  const options = `-o BatchMode=yes -o UserKnownHostsFile='${computer}/known_hosts' -i '${computer}/provider'`;
  const programs = {
    ssh: `exec /usr/bin/ssh -F none ${options} "$@"`,
    gh: `case "$1 $2" in 'secret set' | 'variable set') cat > '${computer}'/settings/"$3" ;; *) echo "gh: $*" >&2; exit 1 ;; esac`,
  };
  for (const [name, text] of Object.entries(programs)) {
    await writeFile(join(bin, name), `#!/bin/sh\n${text}\n`);
    await chmod(join(bin, name), 0o755);
  }
}

async function runOnComputer(script: string): Promise<void> {
  const env = { PATH: `${computer}/bin:/usr/bin:/bin`, HOME: computer };
  await promisify(execFile)('bash', ['-euo', 'pipefail', '-c', script], { cwd: computer, env });
}

let settings: Readonly<Record<string, string>> = {};

test('the commands of the quick start make the deploy user, its key, and the proof that the server is ours', async () => {
  // As before the quick start: the sandbox has made that user already.
  await onServer('pkill -u deploy; userdel --remove deploy 2>/dev/null; ! id deploy 2>/dev/null');
  await equipComputer();
  const said: string[] = [];
  const blocks = blocksOf(await sectionOfReadme(), 'sh').map((block) => block.replaceAll(NAMED, theServer().address));
  for (const block of blocks) {
    const where = [SERVERS.test(block), OWN.test(block)];
    // Each block is for one place; what says neither would be left out unseen.
    expect({ block, isClear: where[0] !== where[1] }).toEqual({ block, isClear: true });
    if (where[0]) said.push(await onServer(block));
    else await runOnComputer(block);
  }
  expect(blocks.length).toBeGreaterThan(0);
  const knownHosts =
    said
      .join('\n')
      .split('\n')
      .find((line) => line.startsWith(`${theServer().address} ssh-`)) ?? '';
  expect(theServer().knownHosts).toContain(knownHosts.trim());
  const key = await readFile(join(computer, 'settings/SSH_KEY'), 'utf8');
  expect(key).toContain('BEGIN OPENSSH PRIVATE KEY');
  // The private key is at GitHub, and nowhere else.
  expect((await readdir(computer)).sort()).toEqual([
    'bin',
    'known_hosts',
    'provider',
    'provider.pub',
    'settings',
    'slipway.pub',
  ]);
  settings = {
    DEPLOY_HOST: theServer().address,
    SSH_KNOWN_HOSTS: knownHosts,
    URL: `http://${theServer().address}:8080/`,
    SSH_KEY: key,
    APP_ENV,
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
  (JSON.parse(await get(8080, '/api/version')) as { readonly releaseId: string }).releaseId;
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
