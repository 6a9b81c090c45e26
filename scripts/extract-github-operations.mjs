/**
 * Takes the few operations that we use out of GitHub's own description of its API, for the tests to hold our requests
 * against: `node scripts/extract-github-operations.mjs [VERSION of @octokit/openapi]`. To be run again when we use another
 * operation (add it to the list), or to follow GitHub; it writes test/github-api/operations.json.
 *
 * The package is no dependency: it takes 385 MB once installed. Here its archive is downloaded, one file of it is read, and
 * nothing is kept.
 */
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const root = fileURLToPath(new URL('..', import.meta.url));
const target = join(root, 'test', 'github-api', 'operations.json');

const OPERATIONS = [
  'repos/create-deployment',
  'repos/create-deployment-status',
  'repos/list-deployments',
  'repos/list-deployment-statuses',
  'issues/list-for-repo',
  'issues/create',
  'issues/update',
  'issues/list-comments',
  'issues/create-comment',
  'issues/update-comment',
  'repos/list-releases',
  'repos/create-release',
  'repos/get-release',
  'repos/update-release',
  'repos/delete-release',
  'repos/upload-release-asset',
  'git/get-ref',
  'git/get-tag',
  'git/create-ref',
  'git/update-ref',
];

/** What explains and constrains nothing. Examples of whole answers are taken apart from this. */
const PROSE = new Set(['description', 'example', 'examples', 'externalDocs', 'title', 'summary']);

/** @param {string} version */
async function readDescription(version) {
  const folder = await mkdtemp(join(tmpdir(), 'slipway-openapi-'));
  const run = promisify(execFile);
  try {
    const { stdout } = await run('npm', ['pack', '--silent', `@octokit/openapi@${version}`], { cwd: folder });
    const file = 'package/generated/api.github.com.json';
    await run('tar', ['-xzf', stdout.trim(), file], { cwd: folder });
    return JSON.parse(await readFile(join(folder, file), 'utf8'));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** The value that a node stands for: references followed, prose dropped. `inNames`: the keys are names of properties, not keywords. */
function resolve(node, description, inNames = false, trail = []) {
  if (Array.isArray(node)) return node.map((item) => resolve(item, description, false, trail));
  if (typeof node !== 'object' || node === null) return node;
  if (!inNames && typeof node.$ref === 'string') {
    if (trail.includes(node.$ref)) throw new Error(`${node.$ref} refers to itself: it cannot be written out`);
    return resolve(follow(node.$ref, description), description, false, [...trail, node.$ref]);
  }
  return Object.fromEntries(
    Object.entries(node)
      .filter(([key]) => inNames || !(PROSE.has(key) || key.startsWith('x-')))
      .map(([key, value]) => [key, resolve(value, description, !inNames && key === 'properties', trail)]),
  );
}

/** @param {string} reference `#/components/schemas/deployment` */
function follow(reference, description) {
  const found = reference
    .replace(/^#\//, '')
    .split('/')
    .reduce((node, key) => node?.[key.replaceAll('~1', '/').replaceAll('~0', '~')], description);
  if (found === undefined) throw new Error(`${reference} leads nowhere`);
  return found.$ref === undefined ? found : follow(found.$ref, description);
}

/** GitHub's first example of an answer, for a stand-in to answer with. */
function readExample(media, description) {
  const [first] = Object.values(media?.examples ?? {});
  if (first === undefined) return undefined;
  return (first.$ref === undefined ? first : follow(first.$ref, description)).value;
}

function extractResponse(response, description) {
  const whole = response.$ref === undefined ? response : follow(response.$ref, description);
  const media = whole.content?.['application/json'];
  if (media === undefined) return {};
  return { schema: resolve(media.schema, description), example: readExample(media, description) };
}

function extractOperation(path, method, operation, description) {
  return {
    id: operation.operationId,
    method: method.toUpperCase(),
    path,
    parameters: resolve(operation.parameters ?? [], description),
    body: resolve(operation.requestBody?.content?.['application/json']?.schema, description),
    // A file as it is, such as an asset of a release.
    file: operation.requestBody?.content?.['application/octet-stream'] === undefined ? undefined : true,
    responses: Object.fromEntries(
      Object.entries(operation.responses).map(([status, response]) => [status, extractResponse(response, description)]),
    ),
  };
}

const [version = '23.0.2'] = process.argv.slice(2);
const description = await readDescription(version);
const operations = Object.entries(description.paths).flatMap(([path, methods]) =>
  Object.entries(methods)
    .filter(([, operation]) => OPERATIONS.includes(operation.operationId))
    .map(([method, operation]) => extractOperation(path, method, operation, description)),
);
const missing = OPERATIONS.filter((id) => !operations.some((operation) => operation.id === id));
if (missing.length > 0) throw new Error(`GitHub does not describe ${missing.join(', ')}`);
const extract = {
  source: `@octokit/openapi ${version}, generated/api.github.com.json (MIT)`,
  // Answers that most operations do not list, though all can give them (401, 403, 5xx).
  error: resolve(description.components.schemas['basic-error'], description),
  operations: operations.sort((a, b) => OPERATIONS.indexOf(a.id) - OPERATIONS.indexOf(b.id)),
};
await writeFile(target, `${JSON.stringify(extract, undefined, 2)}\n`);
await promisify(execFile)(process.execPath, [
  join(root, 'node_modules', 'prettier', 'bin', 'prettier.cjs'),
  '--write',
  target,
]);
console.log(`${target}: ${operations.length} operations of ${extract.source}`);
