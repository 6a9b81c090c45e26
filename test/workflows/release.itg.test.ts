/**
 * `.release.yml` runs: a tag in a repository of its own becomes a release at a stand-in for GitHub's API. The actions of others and `npm test`
 * are stand-ins; `npm sbom`, Git and scripts/release.mjs are real.
 */
import { execFile } from 'node:child_process';
import { chmod, cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { actions } from '../../scripts/actions.mjs';
import { GithubApi } from '../github-api/server';
import { enforcePermissions } from './api-permissions.ts';
import { runWorkflow, type Environment, type WorkflowRun } from './run-workflow.ts';
import type { StandIn, StandInRequest } from './third-party.ts';
import type { Permissions } from './workflow.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const CHANGELOG =
  '# Changelog\n\n## [1.2.3] - 2026-11-23\n\n- The first.\n\n## [1.2.4-rc.1] - 2026-11-24\n\n- A try.\n';
const run = promisify(execFile);

let folder: string;
let origin: string;
let tools: string;
let api: GithubApi;
let apiUrl: string;
let permissions: Permissions = {};
let attested: StandInRequest['with'][] = [];

const git = async (...args: string[]): Promise<string> =>
  (await run('git', ['-C', origin, '-c', 'user.name=x', '-c', 'user.email=x@example.com', ...args])).stdout.trim();

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'slipway-release-'));
  origin = join(folder, 'origin');
  tools = join(folder, 'tools');
  await mkdir(origin);
  await mkdir(tools);
  await git('init', '--quiet', '--initial-branch', 'main');
  const bundles = actions.map((action) => `${action}/dist`);
  for (const path of ['.github', 'scripts', 'package.json', 'package-lock.json', ...bundles]) {
    await cp(join(ROOT, path), join(origin, path), { recursive: true });
  }
  await writeFile(join(origin, 'CHANGELOG.md'), CHANGELOG);
  await setVersion('1.2.3');
  await git('tag', 'v1.2.3');
  // The stages have their own place in `npm test`; all else is npm's own.
  const npm = (await run('sh', ['-c', 'command -v npm'])).stdout.trim();
  await writeFile(join(tools, 'npm'), `#!/bin/sh\n[ "$1" = test ] && echo "asked: $*" && exit\nexec '${npm}' "$@"\n`);
  await chmod(join(tools, 'npm'), 0o755);
});
afterAll(async () => {
  await rm(folder, { recursive: true, force: true });
});

beforeEach(async () => {
  api = new GithubApi('your-org/slipway', 'token-of-the-run');
  enforcePermissions(api, () => permissions);
  apiUrl = await api.listen();
  attested = [];
});
afterEach(async () => {
  await api.close();
});

async function setVersion(version: string): Promise<void> {
  for (const name of ['package.json', 'package-lock.json']) {
    const text = await readFile(join(origin, name), 'utf8');
    const file = JSON.parse(text) as { version: string; packages?: { '': { version: string } } };
    file.version = version;
    if (file.packages) file.packages[''].version = version;
    await writeFile(join(origin, name), JSON.stringify(file, undefined, 2));
  }
  await git('add', '--all');
  await git('commit', '--quiet', '--message', version);
}

const standIns: readonly StandIn[] = [
  {
    uses: 'actions/checkout@de0fac2e4500dabe0009e67214ff5f5447ce83dd',
    async run({ with: inputs, workspace, github }) {
      // A shallow one knows no other branch.
      const depth = inputs['fetch-depth'] === '0' ? [] : ['--single-branch'];
      const branch = ['--branch', github['ref_name'] ?? ''];
      await run('git', ['clone', '--quiet', '--shared', ...depth, ...branch, origin, workspace]);
      return {};
    },
  },
  { uses: 'actions/setup-node@53b83947a5a98c8d113130e565377fae1a50d02f', run: () => Promise.resolve({}) },
  {
    uses: 'actions/attest@1e69f48acb82d1966a394da916b4c1698aa569d6',
    async run({ with: inputs, workspace }) {
      attested.push(inputs);
      // What it would sign must be there.
      if (inputs['sbom-path'] !== undefined) JSON.parse(await readFile(join(workspace, inputs['sbom-path']), 'utf8'));
      await readFile(join(workspace, (inputs['subject-path'] ?? '').replace('*', 'deploy')));
      return {};
    },
  },
];

async function push(tag: string, environment: Environment = { review: 'approved' }): Promise<WorkflowRun> {
  return runWorkflow({
    repository: { name: 'your-org/slipway', folder: origin },
    workflow: '.github/workflows/.release.yml',
    event: { name: 'push' },
    github: {
      ref: `refs/tags/${tag}`,
      ref_type: 'tag',
      ref_name: tag,
      sha: await git('rev-parse', `${tag}^{commit}`),
      api_url: apiUrl,
      repository: 'your-org/slipway',
      token: 'token-of-the-run',
    },
    environments: { release: environment },
    standIns,
    path: [tools],
    onJob: (_job, may) => (permissions = may),
  });
}

const results = (done: WorkflowRun) => Object.values(done.jobs).map(({ path, result }) => [path, result]);

test('a tag becomes a release that nobody can change, with what is in it, and the major tag follows', async () => {
  const commit = await git('rev-parse', 'v1.2.3');
  api.refs['refs/tags/v1'] = '0'.repeat(40);
  // A run that died half-way.
  api.releases.push({ id: 7, asked: { tag_name: 'v1.2.3', draft: true }, assets: { half: '' }, immutable: false });
  const done = await push('v1.2.3');
  expect(done.log).not.toContain('Error');
  expect(done.result).toBe('success');
  expect(done.log).toContain('v1.2.3 fits package.json, package-lock.json, CHANGELOG.md and main.');
  expect(done.log).toContain('asked: test -- types lint dist docs');
  expect(done.environments).toEqual([{ job: 'publish', name: 'release', review: 'approved', deployment: false }]);
  expect(api.problems).toEqual([]);

  expect(api.releases).toHaveLength(1);
  const [release] = api.releases;
  expect(release).toMatchObject({
    immutable: true,
    asked: { tag_name: 'v1.2.3', body: '- The first.', draft: false, prerelease: false, make_latest: 'true' },
  });
  expect(Object.keys(release?.assets ?? {})).toEqual(['slipway.cdx.json', 'SHA256SUMS']);
  const sbom = JSON.parse(release?.assets['slipway.cdx.json'] ?? '') as {
    readonly bomFormat: string;
    readonly components: readonly { readonly name: string }[];
  };
  const names = sbom.components.map(({ name }) => name);
  expect(sbom.bomFormat).toBe('CycloneDX');
  // `yaml` is a dev dependency's dependency, too; ncc has a runtime of its own in the bundles.
  expect(names).toEqual(expect.arrayContaining(['ssh2', 'undici', 'yaml', 'picomatch', '@vercel/ncc']));
  expect(names).not.toContain('jest');
  const sums = (release?.assets['SHA256SUMS'] ?? '').trim().split('\n');
  expect(sums.map((line) => line.replace(/^[0-9a-f]{64} {2}/, ''))).toEqual(
    [...actions].sort().map((action) => `${action}/dist/index.js`),
  );
  expect(attested).toEqual([
    { 'subject-path': 'action-*/dist/index.js' },
    { 'subject-path': 'action-*/dist/index.js', 'sbom-path': 'slipway.cdx.json' },
  ]);
  // In this order: nothing can be added to it afterwards.
  const changed = api.seen.filter(({ method }) => method !== 'GET').map(({ method, url }) => `${method} ${url}`);
  expect(changed.map((one) => one.replaceAll(/\d{4}/g, 'ID').replace('/repos/your-org/slipway/', ''))).toEqual([
    'DELETE releases/7',
    'POST releases',
    'POST releases/ID/assets?name=slipway.cdx.json',
    'POST releases/ID/assets?name=SHA256SUMS',
    'PATCH releases/ID',
    'PATCH git/refs/tags%2Fv1',
  ]);
  expect(api.refs).toEqual({ 'refs/tags/v1': commit });

  // Once more: a release stays what it is.
  const again = await push('v1.2.3');
  expect(results(again)).toEqual([
    ['build', 'success'],
    ['publish', 'failure'],
    ['major-tag', 'skipped'],
  ]);
  expect(again.log).toContain('v1.2.3 is published already, and a release is never changed');
});

test('what does not fit, or is not on main, is refused before anything is published', async () => {
  await git('tag', 'v2.0.0', 'v1.2.3');
  await git('checkout', '--quiet', '-b', 'other');
  await setVersion('2.0.1');
  await git('tag', 'v2.0.1');
  await git('checkout', '--quiet', 'main');
  const refused = [await push('v2.0.0'), await push('v2.0.1')];
  for (const one of refused) {
    expect(results(one)).toEqual([
      ['build', 'failure'],
      ['publish', 'skipped'],
      ['major-tag', 'skipped'],
    ]);
  }
  expect(refused[0]?.log).toContain('package.json has the version 1.2.3, the tag is v2.0.0');
  expect(refused[0]?.log).toContain('has no section "## [2.0.0]');
  expect(refused[1]?.log).toMatch(/The commit \w{40} is not on main/);
  expect(api.seen).toEqual([]);
});

test('nothing is published that its reviewers refuse', async () => {
  expect(results(await push('v1.2.3', { review: 'rejected' }))).toEqual([
    ['build', 'success'],
    ['publish', 'failure'],
    ['major-tag', 'skipped'],
  ]);
  expect(api.seen).toEqual([]);
});

test('a prerelease is not the latest, and no major tag follows it', async () => {
  await setVersion('1.2.4-rc.1');
  await git('tag', 'v1.2.4-rc.1');
  const done = await push('v1.2.4-rc.1');
  expect(results(done)).toEqual([
    ['build', 'success'],
    ['publish', 'success'],
    ['major-tag', 'skipped'],
  ]);
  expect(api.releases[0]?.asked).toMatchObject({ prerelease: true, make_latest: 'false', body: '- A try.' });
  expect(api.problems).toEqual([]);
});

test('a release that could still be changed is told, and the major tag stays where it is', async () => {
  api.makesImmutable = false;
  const done = await push('v1.2.3');
  expect(done.log).toContain('Switch on "Enable release immutability"');
  expect(results(done).at(-1)).toEqual(['major-tag', 'skipped']);
  expect(api.refs).toEqual({});
});
