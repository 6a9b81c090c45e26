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
import { answerJson, GithubApi } from '../github-api/server';
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
  await showTag('v1.2.3');
});
afterEach(async () => {
  await git('checkout', '--quiet', '--', '.github');
  await api.close();
});

/** As GitHub shows a tag of the repository, annotated or not. */
async function showTag(tag: string): Promise<void> {
  const id = await git('rev-parse', tag);
  const commit = await git('rev-parse', `${tag}^{commit}`);
  api.refs[`refs/tags/${tag}`] = id;
  if (id !== commit) api.annotatedTags[id] = commit;
}

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

/** A test must not take the minute that the workflow gives GitHub. */
async function lookBriefly(): Promise<void> {
  const path = join(origin, '.github/workflows/.release.yml');
  const text = await readFile(path, 'utf8');
  const brief = text.replace('release.mjs publish', 'release.mjs publish --look-seconds=1');
  if (brief === text) throw new Error('.release.yml does not publish');
  await writeFile(path, brief);
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

/** scripts/release.mjs alone, as a step runs it. @returns what it says, after its exit code */
async function release(...words: string[]): Promise<string> {
  const env = {
    ...process.env,
    GITHUB_API_URL: apiUrl,
    GITHUB_REPOSITORY: 'your-org/slipway',
    GITHUB_TOKEN: 'token-of-the-run',
    GITHUB_SHA: await git('rev-parse', 'v1.2.3^{commit}'),
  };
  permissions = { contents: 'write' };
  const cwd = origin;
  try {
    return `0 ${(await run(process.execPath, ['scripts/release.mjs', ...words], { cwd, env })).stdout}`;
  } catch (error) {
    const { code, stderr } = error as { readonly code: number; readonly stderr: string };
    return `${code} ${stderr}`;
  }
}

/** Requests that change something. */
const listChanges = () =>
  api.seen
    .filter(({ method }) => method !== 'GET')
    .map(({ method, url }) => `${method} ${url}`.replaceAll(/\d{4}/g, 'ID').replace('/repos/your-org/slipway/', ''));

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
    asked: { tag_name: 'v1.2.3', body: '- The first.', draft: false, prerelease: false, make_latest: 'legacy' },
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
  expect(listChanges()).toEqual([
    'DELETE releases/7',
    'POST releases',
    'POST releases/ID/assets?name=slipway.cdx.json',
    'POST releases/ID/assets?name=SHA256SUMS',
    'PATCH releases/ID',
    'PATCH git/refs/tags%2Fv1',
  ]);
  expect(api.refs).toEqual({ 'refs/tags/v1': commit, 'refs/tags/v1.2.3': commit });

  // Once more, with other files: a release stays what it is.
  Object.assign(release?.assets ?? {}, { SHA256SUMS: 'others' });
  api.seen.length = 0;
  const again = await push('v1.2.3');
  expect(results(again)).toEqual([
    ['build', 'success'],
    ['publish', 'failure'],
    ['major-tag', 'skipped'],
  ]);
  expect(again.log).toContain('v1.2.3 is published already, and a release is never changed');
  expect(listChanges()).toEqual([]);
});

test('a run whose last answer was lost goes on when it is run again, and publishes nothing twice', async () => {
  api.makesImmutable = false;
  api.after = ({ method, url }, response) => {
    const isLost = method === 'PATCH' && url.includes('/releases/');
    if (isLost) response.destroy();
    return isLost;
  };
  expect(results(await push('v1.2.3'))).toEqual([
    ['build', 'success'],
    ['publish', 'failure'],
    ['major-tag', 'skipped'],
  ]);
  // Published, and GitHub takes a while to make it immutable.
  expect(api.releases[0]?.asked).toMatchObject({ draft: false });
  api.seen.length = 0;
  let looks = 0;
  api.after = ({ method, url }) => {
    if (method === 'GET' && /\/releases\/\d+$/.test(url) && ++looks === 4)
      for (const one of api.releases) one.immutable = true;
    return false;
  };
  const again = await push('v1.2.3');
  expect(again.log).not.toContain('Error');
  expect(again.result).toBe('success');
  expect(again.log).toContain('nobody can change it');
  expect(listChanges()).toEqual(['POST git/refs']);
  expect(api.refs['refs/tags/v1']).toBe(await git('rev-parse', 'v1.2.3'));
  expect(api.problems).toEqual([]);
});

test('an annotated tag, on the commit of the run, becomes a release too', async () => {
  await git('tag', '--annotate', '--message', 'signed', 'annotated', 'v1.2.3');
  const id = await git('rev-parse', 'annotated');
  api.refs['refs/tags/v1.2.3'] = id;
  api.annotatedTags[id] = await git('rev-parse', 'v1.2.3');
  expect(await release('publish', 'v1.2.3', 'CHANGELOG.md')).toMatch(/^0 v1.2.3 is published with CHANGELOG.md/);
  expect(api.problems).toEqual([]);
});

describe('a release is of the commit that was checked and approved', () => {
  const other = 'f'.repeat(40);

  test('a tag that was moved or deleted while its run waited is not published', async () => {
    const approved = await git('rev-parse', 'v1.2.3');
    api.refs['refs/tags/v1.2.3'] = other;
    const moved = await push('v1.2.3');
    expect(results(moved)).toEqual([
      ['build', 'success'],
      ['publish', 'failure'],
      ['major-tag', 'skipped'],
    ]);
    expect(moved.log).toContain(`The tag v1.2.3 leads to ${other} now`);
    expect(moved.log).toContain(`approved in this run is ${approved}`);

    const annotated = 'e'.repeat(40);
    Object.assign(api.annotatedTags, { [annotated]: other });
    Object.assign(api.refs, { 'refs/tags/v1.2.3': annotated });
    expect(await release('publish', 'v1.2.3')).toContain(`1 The tag v1.2.3 leads to ${other} now`);
    delete api.refs['refs/tags/v1.2.3'];
    expect(await release('publish', 'v1.2.3')).toContain('1 The tag v1.2.3 is gone');
    expect(listChanges()).toEqual([]);
    expect(api.problems).toEqual([]);
  });

  test('nor one that was moved while its files were uploaded: what is left is a draft', async () => {
    api.after = ({ url }) => {
      if (url.includes('/assets?')) api.refs['refs/tags/v1.2.3'] = other;
      return false;
    };
    expect(await release('publish', 'v1.2.3', 'CHANGELOG.md')).toContain(`1 The tag v1.2.3 leads to ${other} now`);
    expect(api.releases).toMatchObject([{ asked: { draft: true }, immutable: false }]);
  });
});

describe('the major tag', () => {
  const commit = 'c'.repeat(40);
  const publish = (tag: string, draft = false, prerelease = false): void => {
    api.releases.push({ id: 1, asked: { tag_name: tag, draft, prerelease }, assets: {}, immutable: true });
  };

  test('never goes back by itself, only when somebody says so', async () => {
    // More than one page of them, and in the last place the one that counts.
    for (const tag of ['v1.10.0', 'v2.0.0', ...Array.from({ length: 110 }, (_, at) => `v1.2.${at}`)]) publish(tag);
    const refused = await release('move-major', 'v1.9.0', commit);
    expect(refused).toContain('1 v1.10.0 is published, which is higher than v1.9.0: v1 stays where it is');
    expect(api.refs['refs/tags/v1']).toBeUndefined();
    expect(await release('move-major', '--back', 'v1.9.0', commit)).toMatch(/^0 v1 is c{40} now/);
    expect(await release('move-major', 'v1.10.0', commit)).toMatch(/^0 /);
    expect(api.problems).toEqual([]);
  });

  test('passes over drafts, prereleases and other major versions', async () => {
    publish('v1.3.0', true);
    publish('v1.3.1', false, true);
    publish('v1.3.0-rc.1', false, true);
    publish('v10.0.0');
    publish('v0.9.9');
    publish('nightly');
    expect(await release('move-major', 'v1.2.3', commit)).toMatch(/^0 /);
  });

  test('that the token of a job may not move is told, with what to type', async () => {
    api.refs['refs/tags/v1'] = '0'.repeat(40);
    const allow = api.before;
    api.before = (request, response, index) => {
      if (request.method !== 'PATCH' || !request.url.includes('/git/refs/')) return allow(request, response, index);
      answerJson(response, 403, { message: 'Resource not accessible by integration', documentation_url: '' });
      return true;
    };
    const done = await push('v1.2.3');
    expect(results(done)).toEqual([
      ['build', 'success'],
      ['publish', 'success'],
      ['major-tag', 'failure'],
    ]);
    const sha = await git('rev-parse', 'v1.2.3');
    expect(done.log).toContain(`By hand, as somebody who may: git push --force origin ${sha}:refs/tags/v1`);
  });
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
  await showTag('v1.2.4-rc.1');
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
  await lookBriefly();
  const done = await push('v1.2.3');
  expect(done.log).toContain('Switch on "Enable release immutability"');
  expect(results(done).at(-1)).toEqual(['major-tag', 'skipped']);
  expect(api.refs).toEqual({ 'refs/tags/v1.2.3': await git('rev-parse', 'v1.2.3') });
});
