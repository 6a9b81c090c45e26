/**
 * What `.github/workflows/.release.yml` does with a tag: `node scripts/release.mjs VERB vX.Y.Z ...`.
 *
 *     check vX.Y.Z               refuses a tag that does not fit package.json, CHANGELOG.md and main
 *     notes vX.Y.Z               prints that version's section of CHANGELOG.md
 *     sbom vX.Y.Z                reads what `npm sbom` gives of everything, prints what of it is in the bundles
 *     publish vX.Y.Z FILE ...    drafts the release, uploads the files, publishes it, and sees that it can never be changed;
 *                                goes on where an earlier run of the same commit has published it. --look-seconds=60
 *     move-major vX.Y.Z COMMIT   points vX to it, unless a higher release of vX is published. --back: even then
 *
 * The last two ask GitHub: GITHUB_TOKEN, GITHUB_API_URL, GITHUB_REPOSITORY and GITHUB_SHA, as in every job.
 */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs, promisify } from 'node:util';
import { actions } from './actions.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));

/** https://docs.github.com/rest/about-the-rest-api/api-versions */
const API_VERSION = '2022-11-28';
const REQUEST_MS = 60_000;
/** GitHub makes a release immutable after it answered that it is published: for how long it is looked at, and how often. */
const LOOK_SECONDS = '60';
const PAUSE_MS = 1000;

/**
 * @param {string} tag `v1.2.3` or `v1.2.3-rc.1`
 * @returns {{ version: string, major: string, isPrerelease: boolean } | undefined} undefined for anything else
 */
export function readTag(tag) {
  const number = '(?:0|[1-9]\\d*)';
  const match = new RegExp(`^v((${number})\\.${number}\\.${number}(-[0-9A-Za-z-]+(?:\\.[0-9A-Za-z-]+)*)?)$`).exec(tag);
  return match === null
    ? undefined
    : { version: match[1], major: `v${match[2]}`, isPrerelease: match[3] !== undefined };
}

/**
 * A version's section of a changelog in the form of https://keepachangelog.com, without its heading.
 * @throws {Error} where there is none, or nothing in it
 */
export function extractNotes(changelog, version) {
  const sections = changelog.split(/^(?=## )/m);
  const section = sections.find((one) => one.startsWith(`## [${version}]`));
  if (section === undefined) {
    throw new Error(
      `CHANGELOG.md has no section "## [${version}] - YYYY-MM-DD". Move what is under [Unreleased] there.`,
    );
  }
  // Addresses of the headings stand at the end of the file.
  const notes = section
    .slice(section.indexOf('\n') + 1)
    .replaceAll(/^\[[^\]]+\]: \S+$/gm, '')
    .trim();
  if (notes.replaceAll(/^#.*$/gm, '').trim() === '') throw new Error(`CHANGELOG.md says nothing under [${version}].`);
  return notes;
}

/**
 * @param {{ tag: string, manifest: { version: string }, lock: { version: string, packages: Record<string, { version?: string }> }, changelog: string }} files
 * @returns {string[]} everything that is wrong, one sentence each
 */
export function findProblems({ tag, manifest, lock, changelog }) {
  const read = readTag(tag);
  if (read === undefined) return [`The tag ${tag} is no version: it must be vX.Y.Z, or vX.Y.Z-rc.1.`];
  const { version } = read;
  const problems = [];
  if (manifest.version !== version)
    problems.push(`package.json has the version ${manifest.version}, the tag is ${tag}.`);
  if (lock.version !== version || lock.packages['']?.version !== version) {
    problems.push(
      `package-lock.json has the version ${lock.version}, the tag is ${tag}. Run \`npm install --package-lock-only\`.`,
    );
  }
  try {
    extractNotes(changelog, version);
    const heading = changelog.split('\n').find((line) => line.startsWith(`## [${version}]`));
    if (!/^## \[[^\]]+\] - \d{4}-\d\d-\d\d$/.test(heading)) {
      problems.push(`CHANGELOG.md has no date after [${version}]: "## [${version}] - YYYY-MM-DD".`);
    }
  } catch (error) {
    problems.push(error.message);
  }
  return problems;
}

/**
 * What of a whole SBOM is in the bundles. `npm sbom --omit=dev` leaves out what is a dependency of both kinds, such as `yaml` here,
 * so that is done from the lock file; and the bundler's own runtime, a dev dependency, is in them too.
 * @param {{ components: { name: string, version: string, 'bom-ref': string }[], dependencies: { ref: string, dependsOn: string[] }[] }} sbom CycloneDX
 * @param {{ packages: Record<string, { version: string, dev?: boolean }> }} lock
 * @param {string} licenses text of every dist/licenses.txt, in which each package's name has a line of its own
 * @throws {Error} where a package of the bundles is not in the SBOM
 */
export function keepBundled(sbom, lock, licenses) {
  const name = (path) => path.replace(/^.*node_modules\//, '');
  const installed = Object.entries(lock.packages).filter(([path]) => path !== '');
  const production = installed.filter(([, { dev }]) => dev !== true);
  const kept = new Set(production.map(([path, { version }]) => `${name(path)}@${version}`));
  const lines = new Set(licenses.split('\n'));
  const bundled = installed.map(([path]) => name(path)).filter((one) => lines.has(one));
  for (const [path, { version }] of installed) {
    const isOther = !production.some(([other]) => name(other) === name(path));
    if (isOther && bundled.includes(name(path))) kept.add(`${name(path)}@${version}`);
  }
  const components = sbom.components.filter(({ name: one, version }) => kept.has(`${one}@${version}`));
  const missing = bundled.filter((one) => !components.some((component) => component.name === one));
  if (missing.length > 0) throw new Error(`The SBOM lacks ${missing.join(', ')}, which is in a bundle.`);
  const refs = new Set(components.map((component) => component['bom-ref']));
  const dependencies = sbom.dependencies
    .filter(({ ref }) => refs.has(ref) || ref === sbom.metadata?.component?.['bom-ref'])
    .map((one) => ({ ...one, dependsOn: one.dependsOn.filter((ref) => refs.has(ref)) }));
  return { ...sbom, components, dependencies };
}

/**
 * The same file from each run of one commit, so that a second one can tell that what is published is its own: npm makes up a serial number and takes
 * the time of day.
 * @param {object} sbom CycloneDX
 * @param {string} committed when, ISO 8601
 */
export function pinSbom(sbom, committed) {
  const pinned = { ...sbom, metadata: { ...sbom.metadata, timestamp: new Date(committed).toISOString() } };
  delete pinned.serialNumber;
  // A UUID of version 8, made from what it names: https://www.rfc-editor.org/rfc/rfc9562#section-5.8
  const hash = digest(JSON.stringify(pinned));
  const uuid = `${hash.slice(0, 8)}-${hash.slice(8, 12)}-8${hash.slice(13, 16)}-a${hash.slice(17, 20)}-${hash.slice(20, 32)}`;
  return { ...pinned, serialNumber: `urn:uuid:${uuid}` };
}

const digest = (content) => createHash('sha256').update(content).digest('hex');

async function printSbom() {
  const licenses = await Promise.all(
    actions.map((action) => readFile(join(root, action, 'dist/licenses.txt'), 'utf8')),
  );
  const lock = JSON.parse(await readFile(join(root, 'package-lock.json'), 'utf8'));
  const bundled = keepBundled(JSON.parse(readFileSync(0, 'utf8')), lock, licenses.join('\n'));
  console.log(JSON.stringify(pinSbom(bundled, await git('log', '-1', '--format=%cI')), undefined, 2));
}

const git = async (...args) => (await promisify(execFile)('git', args, { cwd: root })).stdout.trim();

async function check(tag) {
  const read = async (name) => await readFile(join(root, name), 'utf8');
  const problems = findProblems({
    tag,
    manifest: JSON.parse(await read('package.json')),
    lock: JSON.parse(await read('package-lock.json')),
    changelog: await read('CHANGELOG.md'),
  });
  const head = await git('rev-parse', 'HEAD');
  if ((await git('rev-parse', `${tag}^{commit}`).catch(() => '')) !== head) {
    problems.push(`The tag ${tag} is not on the commit that is checked out, ${head}.`);
  }
  const isOnMain = await git('merge-base', '--is-ancestor', head, 'origin/main').then(
    () => true,
    () => false,
  );
  if (!isOnMain)
    problems.push(`The commit ${head} is not on main: only what was reviewed and tested there is released.`);
  if (problems.length > 0) throw new Error(problems.join('\n'));
  console.log(`${tag} fits package.json, package-lock.json, CHANGELOG.md and main.`);
}

/** @returns {Promise<any>} the answer's JSON; undefined for one without, and for a 404 where `orNothing` */
async function ask(method, path, { body, file, orNothing = false, base = process.env.GITHUB_API_URL } = {}) {
  const response = await fetch(
    path.startsWith('http') ? path : `${base}/repos/${process.env.GITHUB_REPOSITORY}/${path}`,
    {
      method,
      headers: {
        accept: 'application/vnd.github+json',
        authorization: `Bearer ${process.env.GITHUB_TOKEN}`,
        'user-agent': 'slipway',
        'x-github-api-version': API_VERSION,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...(file === undefined ? {} : { 'content-type': 'application/octet-stream' }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      ...(file === undefined ? {} : { body: file }),
      signal: AbortSignal.timeout(REQUEST_MS),
    },
  );
  if (orNothing && response.status === 404) return undefined;
  if (!response.ok) {
    const said = (await response.text()).slice(0, 300);
    throw Object.assign(new Error(`GitHub answered ${response.status} to ${method} ${path}: ${said}`), {
      status: response.status,
    });
  }
  return response.status === 204 ? undefined : await response.json();
}

/** Newest first, drafts too. */
async function listReleases() {
  const size = 100;
  const releases = [];
  for (let page = 1; releases.length === (page - 1) * size; page++) {
    releases.push(...(await ask('GET', `releases?per_page=${size}&page=${page}`)));
  }
  return releases;
}

/**
 * Between the check of a tag and the word of the reviewers there may be days. A release is made by the tag's name alone: to give GitHub the commit as
 * `target_commitish`, too, asks for a right that no job's token can have (https://github.com/cli/cli/issues/9514).
 */
async function mustLeadTo(tag, commit, advice = 'cancel it, and let the run of the tag as it is now be approved.') {
  if (!/^[0-9a-f]{40}$/.test(commit ?? '')) throw new Error(`GITHUB_SHA is ${commit}, which is no commit.`);
  let object = (await ask('GET', `git/ref/${encodeURIComponent(`tags/${tag}`)}`, { orNothing: true }))?.object;
  // An annotated tag, a signed one too, is an object of its own.
  while (object?.type === 'tag') object = (await ask('GET', `git/tags/${object.sha}`)).object;
  if (object?.sha === commit) return;
  throw new Error(
    `The tag ${tag} ${object === undefined ? 'is gone' : `leads to ${object.sha} now`}. What was checked and approved in this run is ${commit}: ` +
      advice,
  );
}

/** In this order, since nothing can be added to an immutable release once it is published. A draft that a run left half is begun anew. */
async function publish(tag, files, lookSeconds) {
  const { version, isPrerelease } = mustRead(tag);
  const commit = process.env.GITHUB_SHA;
  const notes = extractNotes(await readFile(join(root, 'CHANGELOG.md'), 'utf8'), version);
  const assets = await Promise.all(files.map(async (path) => ({ name: basename(path), file: await readFile(path) })));
  await mustLeadTo(tag, commit);
  const earlier = (await listReleases()).filter((release) => release.tag_name === tag);
  const published = earlier.find((release) => !release.draft);
  const release = await waitUntilImmutable(published ?? (await publishNew()), lookSeconds);
  if (published !== undefined) mustHold(release, assets);
  if (release.immutable !== true) {
    throw new Error(
      `${tag} is published, but can still be changed. Switch on "Enable release immutability" in the repository's settings, and make a ` +
        'new version: it does not hold for a release that was there before. Is it on already? Then run this job again in a while.',
    );
  }
  await mustLeadTo(
    tag,
    commit,
    'it was moved at the very moment of the release. Warn of this release, and make a new one.',
  );
  console.log(
    `${tag} is published with ${assets.map(({ name }) => name).join(', ')}, and nobody can change it: ${release.html_url}`,
  );

  async function publishNew() {
    for (const { id } of earlier) await ask('DELETE', `releases/${id}`);
    const draft = await ask('POST', 'releases', {
      body: { tag_name: tag, name: tag, body: notes, draft: true, prerelease: isPrerelease },
    });
    for (const { name, file } of assets) {
      const address = `${draft.upload_url.replace(/\{.*$/, '')}?name=${encodeURIComponent(name)}`;
      await ask('POST', address, { file });
    }
    await mustLeadTo(tag, commit);
    // `legacy`: the highest version is the latest, whichever comes last.
    return await ask('PATCH', `releases/${draft.id}`, {
      body: { draft: false, make_latest: isPrerelease ? 'false' : 'legacy' },
    });
  }
}

async function waitUntilImmutable(release, lookSeconds) {
  const end = performance.now() + lookSeconds * 1000;
  let seen = release;
  while (seen.immutable !== true && performance.now() < end) {
    await pause(PAUSE_MS);
    seen = await ask('GET', `releases/${release.id}`);
  }
  return seen;
}

/** @throws {Error} unless a release that was there before has these files and no others: then an earlier run has made it */
function mustHold(release, assets) {
  const list = (all) => JSON.stringify(all.map(([name, sum]) => `${name} ${sum}`).sort());
  const theirs = list(release.assets.map((asset) => [asset.name, asset.digest]));
  if (theirs === list(assets.map(({ name, file }) => [name, `sha256:${digest(file)}`]))) return;
  throw new Error(
    `${release.tag_name} is published already, and a release is never changed. Its files are not those of this run: ${theirs}. Make a new version.`,
  );
}

async function moveMajor(tag, commit, isBack) {
  const { version, major, isPrerelease } = mustRead(tag);
  if (isPrerelease) throw new Error(`${tag} is a prerelease: ${major} stays where it is.`);
  if (!/^[0-9a-f]{40}$/.test(commit ?? '')) throw new Error(`${commit} is no commit.`);
  const higher = (await listReleases())
    .filter(({ draft, prerelease }) => !draft && !prerelease)
    .map((release) => readTag(release.tag_name))
    .filter((read) => read?.major === major && !read.isPrerelease && isHigher(read.version, version));
  if (higher.length > 0 && !isBack) {
    throw new Error(
      `v${higher[0].version} is published, which is higher than ${tag}: ${major} stays where it is. To put it back for good reason: ` +
        `node scripts/release.mjs move-major --back ${tag} ${commit}`,
    );
  }
  const ref = `tags/${major}`;
  const before = await ask('GET', `git/ref/${encodeURIComponent(ref)}`, { orNothing: true });
  try {
    if (before === undefined) await ask('POST', 'git/refs', { body: { ref: `refs/${ref}`, sha: commit } });
    else await ask('PATCH', `git/refs/${encodeURIComponent(ref)}`, { body: { sha: commit, force: true } });
  } catch (error) {
    if (error.status !== 403) throw error;
    throw new Error(
      `${error.message}\n${tag} is published; ${major} is not moved. A job's token may not point a tag to a commit whose workflow files differ from those ` +
        `of the default branch. By hand, as somebody who may: git push --force origin ${commit}:refs/${ref}`,
      { cause: error },
    );
  }
  console.log(`${major} is ${commit} now; before, ${before?.object.sha ?? 'there was none'}.`);
}

/** Of two versions X.Y.Z. */
function isHigher(one, other) {
  return one.localeCompare(other, 'en', { numeric: true }) > 0;
}

function mustRead(tag) {
  const read = readTag(tag);
  if (read === undefined) throw new Error(`${tag} is no version: vX.Y.Z.`);
  return read;
}

async function main(words) {
  const { values, positionals } = parseArgs({
    args: words,
    allowPositionals: true,
    options: { back: { type: 'boolean', default: false }, 'look-seconds': { type: 'string', default: LOOK_SECONDS } },
  });
  const [verb, tag, ...rest] = positionals;
  if (tag === undefined) throw new Error('node scripts/release.mjs check|notes|sbom|publish|move-major vX.Y.Z ...');
  switch (verb) {
    case 'check':
      return await check(tag);
    case 'notes':
      return console.log(extractNotes(await readFile(join(root, 'CHANGELOG.md'), 'utf8'), mustRead(tag).version));
    case 'sbom':
      return await printSbom();
    case 'publish':
      return await publish(tag, rest, Number(values['look-seconds']));
    case 'move-major':
      return await moveMajor(tag, rest[0], values.back);
    default:
      throw new Error(`There is no ${verb}: check, notes, sbom, publish, move-major.`);
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    await main(process.argv.slice(2));
  } catch (error) {
    console.error(error.message);
    process.exitCode = 1;
  }
}
