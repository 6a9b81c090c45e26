/**
 * A fresh application repository (the example, and the files of infra/workflows copied into it) deploys, rolls back and backs
 * up: the workflows themselves run, against a real server, and against an API that holds every request against GitHub's description.
 */
import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { jest } from '@jest/globals';
import { GithubApi } from '../github-api/server';
import { enforcePermissions } from '../workflows/api-permissions.ts';
import { runWorkflow, type WorkflowRequest, type WorkflowRun } from '../workflows/run-workflow.ts';
import type { Permissions } from '../workflows/workflow.ts';
import {
  type AskedOfOthers,
  copyWorkflow,
  makeApplication,
  makeTools,
  ROOT,
  standInsFor,
  SUITE,
} from './application-repository.ts';
import {
  appImage,
  deployKey,
  freshServer,
  get,
  onServer,
  publishApp,
  sandboxInfo,
  serverState,
  theServer,
  untilSettled,
  waitForFinish,
} from './sandbox.ts';

jest.setTimeout(180_000);

const APP_ENV = 'POSTGRES_PASSWORD=very-secret-password-of-the-database\nREDIS_PASSWORD=another-secret-of-the-cache';
const commitOf = (n: number): string => String(n).repeat(40);

let application: string;
let tools: string;
let api: GithubApi;
let variables: Record<string, string>;
let secrets: Record<string, string>;
let github: Record<string, string>;
let permissions: Permissions = {};
/** What was asked of actions of others. */
const asked: AskedOfOthers[] = [];

beforeAll(async () => {
  await freshServer();
  const { login } = sandboxInfo().registry;
  // The token of a run is good for the registry and for the API, as on GitHub.
  api = new GithubApi('acme/shop', login.password);
  enforcePermissions(api, () => permissions);
  github = { api_url: await api.listen(), actor: login.username, token: login.password, run_id: '1' };
  variables = {
    DEPLOY_HOST: theServer().address,
    SSH_KNOWN_HOSTS: theServer().knownHosts,
    URL: `http://${theServer().address}:8080/`,
    PROJECT: '',
  };
  secrets = { SSH_KEY: await deployKey(), APP_ENV };
  application = await makeApplication();
  const callers = await readdir(join(ROOT, 'infra/workflows'), { recursive: true });
  for (const path of callers.filter((name) => name.endsWith('.yml'))) {
    await copyWorkflow(application, path.replace(/\.yml$/, ''));
  }
  tools = await makeTools();
});
afterAll(async () => {
  await api.close();
  for (const folder of [application, tools]) await rm(folder, { recursive: true, force: true });
});

async function start(
  workflow: string,
  request: Partial<WorkflowRequest> & Pick<WorkflowRequest, 'event'>,
): Promise<WorkflowRun> {
  const { event } = request;
  return runWorkflow({
    repository: { name: 'acme/shop', folder: application },
    workflow: `.github/workflows/${workflow}.yml`,
    repositories: [SUITE],
    environments: {
      staging: { secrets, variables },
      production: { secrets, variables, review: 'approved' },
      'production-maintenance': { secrets, variables },
    },
    standIns: standInsFor(application, asked),
    path: [tools],
    onJob: (_job, may) => (permissions = may),
    ...request,
    event: { name: event.name, payload: { repository: { name: 'shop' }, ...event.payload } },
    github: { ...github, ...request.github },
  });
}

const push = (commit: number, request: Partial<WorkflowRequest> = {}): Promise<WorkflowRun> =>
  start('deploy', {
    ...request,
    event: { name: 'push' },
    github: { ref: 'refs/tags/v1', ref_type: 'tag', ref_name: 'v1', sha: commitOf(commit), ...request.github },
  });

const press = (workflow: string, inputs: Record<string, string | boolean>, request: Partial<WorkflowRequest> = {}) =>
  start(workflow, { ...request, event: { name: 'workflow_dispatch' }, inputs });

/** The run, where all went well; its log is the failure's message otherwise. */
async function must(running: Promise<WorkflowRun>): Promise<WorkflowRun> {
  const run = await running;
  if (run.result !== 'success') throw new Error(`the run ended with ${run.result}:\n${run.log}`);
  await waitForFinish();
  expect(api.problems).toEqual([]);
  for (const secret of ['very-secret-password', github['token'] ?? '']) {
    expect(`${run.log}${run.summary}`).not.toContain(secret);
  }
  return run;
}

const outputsOf = (run: WorkflowRun, job: string, step: string): Readonly<Record<string, string>> =>
  run.jobs[job]?.steps.find(({ label }) => label === step || label.includes(`/${step}`))?.outputs ?? {};
const served = async (): Promise<string> =>
  (JSON.parse(await get(8080, '/api/version')) as { releaseId: string }).releaseId;
const states = (): string[][] => api.deployments.map((one) => one.statuses.map(({ state }) => String(state)));

describe('with the callers of infra/workflows, as they are copied', () => {
  test('a tag is built, approved, deployed and recorded; nobody is cancelled by another', async () => {
    const run = await must(push(1));
    expect(run.environments).toEqual([{ job: 'deploy', name: 'production', review: 'approved', deployment: false }]);
    expect(run.concurrency).toEqual([
      { by: 'deploy', group: 'deploy-production', cancelInProgress: false, queue: 'max' },
    ]);
    expect(outputsOf(run, 'deploy', 'action-deploy')['result']).toBe('deployed');
    expect(await served()).toBe(commitOf(1));
    expect(states()).toEqual([['in_progress', 'success']]);
    // What was attested is what runs: by its digest.
    const digest = outputsOf(run, 'build', 'build')['digest'] ?? 'none';
    expect(asked.find(({ uses }) => uses.startsWith('actions/attest'))?.with['subject-digest']).toBe(digest);
    expect((await serverState()).containers.find(({ service }) => service === 'api')?.image).toContain(digest);
  });

  test('a deploy that is cancelled in the middle leaves what served, and its summary says so', async () => {
    const before = (await serverState()).containers.map(({ id, state }) => [id, state]);
    const run = await push(2, {
      cancel: { job: 'deploy', step: 'your-org/slipway/action-deploy@v1', when: /start api/ },
    });
    expect(run.result).toBe('cancelled');
    await untilSettled(40);
    expect(await served()).toBe(commitOf(1));
    expect((await serverState()).containers.map(({ id, state }) => [id, state])).toEqual(before);
    expect(run.summary).toContain('was cancelled');
    expect(states()[1]).toEqual(['in_progress', 'failure']);
  });

  test('what staging has shown goes to production as the same image, once that is approved', async () => {
    const run = await must(start('promote', { event: { name: 'push' }, github: { sha: commitOf(2) } }));
    expect(run.environments.map(({ job, name, review }) => [job, name, review])).toEqual([
      ['staging', 'staging', undefined],
      ['accept', 'staging', undefined],
      ['production', 'production', 'approved'],
    ]);
    const results = ['staging', 'production'].map((job) => outputsOf(run, job, 'action-deploy')['result']);
    // Both environments are this one server here.
    expect(results).toEqual(['deployed', 'unchanged']);
    expect(new Set(run.log.match(/API_IMAGE=\S+@sha256:\w+/g)).size).toBe(1);
    expect(await served()).toBe(commitOf(2));
  });

  test('the button lists, then goes back only where it is confirmed', async () => {
    const listed = await must(press('rollback', { environment: 'production' }));
    expect(outputsOf(listed, 'rollback', 'action-rollback')['result']).toBe('listed');
    expect(listed.concurrency.map(({ group, queue }) => [group, queue])).toEqual([['rollback-production', 'max']]);
    const refused = await press('rollback', { environment: 'production', release: 'previous', confirm: 'shpo' });
    expect(refused.jobs['rollback']?.result).toBe('failure');
    expect(await served()).toBe(commitOf(2));
    const back = await must(press('rollback', { environment: 'production', release: 'previous', confirm: 'shop' }));
    expect(outputsOf(back, 'rollback', 'action-rollback')['result']).toBe('rolled-back');
    expect(await served()).toBe(commitOf(1));
  });

  test('a nightly backup that fails has an issue, which is closed by the one that is proven', async () => {
    const night = { name: 'schedule', payload: { schedule: '17 3 * * *' } };
    const stranger = {
      ...variables,
      SSH_KNOWN_HOSTS: (variables['SSH_KNOWN_HOSTS'] ?? '').replace(/AAAA.{20}/, 'AAAA'),
    };
    const failed = await start('backup', {
      event: night,
      environments: { 'production-maintenance': { secrets, variables: stranger } },
    });
    expect(failed.result).toBe('failure');
    expect(failed.jobs['alert']?.result).toBe('success');
    expect(api.issues).toMatchObject([{ title: 'Backup of production is not well', state: 'open' }]);

    const run = await must(start('backup', { event: night }));
    expect(run.jobs['backup']?.steps.map((step) => step.outputs['result'])).toEqual(['proven', 'fresh']);
    expect(api.issues).toMatchObject([{ state: 'closed' }]);
    expect(run.concurrency.map(({ group }) => group)).toEqual(['backup-production']);
  });

  test('health is what visitors get and what runs', async () => {
    const run = await must(
      start('health', { event: { name: 'schedule', payload: { schedule: '7,22,37,52 * * * *' } } }),
    );
    expect(run.jobs['alert']?.result).toBe('success');
    expect(api.issues).toHaveLength(1);
  });

  test('TLS that cannot be renewed is looked at all the same, and has an issue of its own', async () => {
    const run = await start('ssl', {
      event: { name: 'schedule', payload: { schedule: '29 5 * * 1' } },
      environments: {
        'production-maintenance': { secrets, variables: { ...variables, DOMAINS: 'shop.example.com' } },
      },
    });
    // This server has no certificate, and no program that could get one: the deploy user may not.
    expect(run.jobs['ssl']?.steps.map(({ outcome, outputs }) => [outcome, outputs['result']])).toEqual([
      ['failure', 'failed'],
      ['failure', 'failed'],
    ]);
    expect(run.concurrency.map(({ group, queue }) => [group, queue])).toEqual([['ssl-production', 'max']]);
    expect(run.jobs['alert']?.result).toBe('success');
    expect(api.issues).toMatchObject([{ state: 'closed' }, { title: 'TLS of production is not well', state: 'open' }]);
    expect(api.problems).toEqual([]);
  });
});

describe("through the reusable workflows, with the repository's secrets", () => {
  // The environment has none: they would not reach a workflow of another owner.
  const request = () => ({
    secrets,
    variables,
    environments: { production: { review: 'approved' as const }, 'production-maintenance': {} },
  });

  test('a push is built, planned, approved, deployed, and looked at from outside', async () => {
    const before = api.deployments.length;
    const run = await must(
      start('reusable-deploy', { ...request(), event: { name: 'push' }, github: { sha: commitOf(2) } }),
    );
    expect(Object.values(run.jobs).map(({ path, result }) => [path, result])).toEqual([
      ['deploy/build', 'success'],
      ['deploy/plan', 'success'],
      ['deploy/deploy', 'success'],
      ['deploy/verify', 'success'],
      ['deploy', 'success'],
    ]);
    expect(run.jobs['deploy']?.outputs).toMatchObject({
      result: 'deployed',
      image: expect.stringMatching(/@sha256:/) as string,
    });
    expect(outputsOf(run, 'deploy/plan', 'action-deploy')['result']).toBe('planned');
    expect(run.concurrency.map(({ by, group, queue }) => [by, group, queue])).toEqual([
      ['deploy/deploy', 'slipway-deploy-production', 'max'],
    ]);
    expect(api.deployments.slice(before).map((one) => one.asked['environment'])).toEqual(['production']);
    expect(await served()).toBe(commitOf(2));
  });

  test('and back again, by the button', async () => {
    const run = await must(
      press('reusable-rollback', { environment: 'production', release: 'previous', confirm: 'shop' }, request()),
    );
    expect(run.jobs['rollback']?.outputs['result']).toBe('rolled-back');
    expect(await served()).toBe(commitOf(1));
  });

  test('a drill restores the newest backup once more', async () => {
    const drill = { name: 'schedule', payload: { schedule: '43 4 1 * *' } };
    const run = await must(start('reusable-backup', { ...request(), event: drill }));
    expect(run.jobs['backup/backup']?.steps.map((step) => step.outcome)).toEqual([
      'skipped',
      'skipped',
      'success',
      'success',
    ]);
    expect(run.jobs['backup']?.outputs).toMatchObject({
      result: 'proven',
      'age-seconds': expect.stringMatching(/^\d+$/) as string,
    });
  });

  test('health and TLS are looked at; what is not well has an issue of its own', async () => {
    const before = api.issues.length;
    const all = { ...variables, DOMAINS: 'shop.example.com' };
    const quarter = { name: 'schedule', payload: { schedule: '7,22,37,52 * * * *' } };
    const health = await must(start('reusable-health', { ...request(), variables: all, event: quarter }));
    expect(health.jobs['health']?.outputs).toEqual({ healthy: 'true', failed: '' });
    const monday = { name: 'schedule', payload: { schedule: '29 5 * * 1' } };
    const tls = await start('reusable-ssl', { ...request(), variables: all, event: monday });
    expect(Object.values(tls.jobs).map(({ path, result }) => [path, result])).toEqual([
      ['ssl/ssl', 'failure'],
      ['ssl/alert', 'success'],
      ['ssl', 'failure'],
    ]);
    expect(tls.jobs['ssl']?.outputs['result']).toBe('failed');
    // The one that the caller above has opened is brought up to date.
    expect(api.issues).toHaveLength(before);
    expect(api.problems).toEqual([]);
  });

  test('a pull request gets its plan as one comment; one from a fork no word with the server', async () => {
    const from = (repository: string) => ({
      name: 'pull_request',
      payload: { pull_request: { number: 7, head: { sha: commitOf(3), repo: { full_name: repository } } } },
    });
    const run = await must(start('plan', { ...request(), event: from('acme/shop') }));
    expect(run.jobs['plan/comment']?.result).toBe('success');
    expect(api.comments.filter(({ issue }) => issue === 7)).toHaveLength(1);
    expect(api.comments.find(({ issue }) => issue === 7)?.body).toMatch(/\| api \| replace, without an outage \|/);
    const fork = await start('plan', { ...request(), event: from('stranger/shop') });
    expect(Object.values(fork.jobs).map(({ path, result }) => [path, result])).toEqual([
      ['plan/validate', 'success'],
      ['plan/plan', 'skipped'],
      ['plan/comment', 'skipped'],
      ['plan', 'success'],
    ]);
    await writeFile(join(application, 'compose.yaml'), 'services: { api: { imge: x } }\n');
    const broken = await start('plan', { ...request(), event: from('stranger/shop') });
    expect(broken.jobs['plan/validate']?.result).toBe('failure');
    expect(broken.log).toContain('imge');
  });
});

// Last: it has a server and an application of its own.
describe('MIGRATING.md', () => {
  test("what a script deploys today is planned, then taken over, by the document's own workflow", async () => {
    const plain = (tag: string, setting: string): string =>
      `services:\n  api: { image: "${appImage(tag)}", environment: { SETTING: "${setting}" }, ports: ["8080:3000"] }\n`;
    await freshServer();
    for (const release of ['v1', 'v2']) await publishApp(release);
    const script = 'docker compose up -d --quiet-pull';
    await onServer(
      `mkdir /srv/shop && cd /srv/shop && cat >compose.yaml && echo TOKEN=of-the-env-file >.env && chown -R deploy: . && runuser -u deploy -- ${script}`,
      [],
      plain('v1', '$TOKEN'),
    );

    const text = await readFile(join(ROOT, 'infra/docs/MIGRATING.md'), 'utf8');
    const documented = [...text.matchAll(/^```yaml\n([^]*?)^```$/gm)][1]?.[1] ?? '';
    // Of the application, not of the way: its migration, and where it says how it is.
    const workflow = documented.replace('npm run migrate', 'node -e 1').replace('8080/health', '8080/');
    const deploy = async (content: string): Promise<WorkflowRun> => {
      await writeFile(join(application, '.github/workflows/deploy.yml'), content);
      return must(
        start('deploy', {
          event: { name: 'push' },
          secrets: { ...secrets, HOST: theServer().address, APP_ENV: 'TOKEN=of-the-env-file' },
          variables,
          github: { sha: 'v2' },
        }),
      );
    };
    await writeFile(join(application, 'compose.yaml'), plain('${TAG}', '$TOKEN'));
    const before = await serverState();
    const planned = await deploy(workflow);
    expect(outputsOf(planned, 'deploy', 'action-deploy')['result']).toBe('planned');
    // It says beforehand who will be away for a moment.
    expect(planned.log).toContain('replace: stop the old, then start the new');
    expect((await serverState()).containers).toEqual(before.containers);
    expect(await get(8080)).toBe('v1');

    const done = await deploy(workflow.replace(/^ *dry-run: true.*\n/m, ''));
    expect(outputsOf(done, 'deploy', 'action-deploy')).toMatchObject({
      result: 'deployed',
      'previous-release': expect.stringMatching(/-adopted$/) as string,
    });
    expect([await get(8080), await get(8080, '/setting')]).toEqual(['v2', 'of-the-env-file']);
  });
});
