/**
 * Bundles each action into its dist/: `node scripts/build.mjs [--out DIR] [action ...]`.
 *
 * The bundle is committed, because GitHub runs what is in the repository; so it must be the same bytes on every machine:
 * no native modules, no paths of the machine, nothing minified (people shall be able to read what they run).
 */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs, promisify } from 'node:util';
import { actions } from './actions.mjs';
import { embedGuardian } from './embed-guardian.mjs';
import { embedTls } from './embed-tls.mjs';

const root = fileURLToPath(new URL('..', import.meta.url)).replace(/\/$/, '');

/** What a bundle consists of. */
const expected = ['index.js', 'licenses.txt'];
/** ssh2 names this helper for PuTTY's agent on Windows, so ncc copies it. Our runners are Linux; a binary has no place here. */
const unwanted = ['pagent.exe'];

/** Native modules that ssh2 does without when they are not there. */
const optional = ['../build/Release/cpufeatures.node', './crypto/build/Release/sshcrypto.node'];

/**
 * @param {{ out?: string, only?: string[], repository?: string, registry?: string[] }} [options] `out`: folder to build
 * into, as `<out>/<action>/`; default is each action's own dist/.
 * @returns {Promise<{ action: string, files: { name: string, bytes: number }[], seconds: number }[]>}
 */
export async function buildActions({ out, only = [], repository = root, registry = actions } = {}) {
  const unknown = only.filter((action) => !registry.includes(action));
  if (unknown.length > 0) {
    throw new Error(`not in scripts/actions.mjs: ${unknown.join(', ')}. There are: ${registry.join(', ')}.`);
  }
  await refuseNativeModules(repository);
  const queue = only.length > 0 ? [...only] : [...registry];
  const order = [...queue];
  const built = [];
  const work = async () => {
    for (let action = queue.shift(); action !== undefined; action = queue.shift()) {
      built.push(await buildAction(repository, action, out));
    }
  };
  await Promise.all(Array.from({ length: Math.min(availableParallelism(), queue.length) }, work));
  return built.sort((a, b) => order.indexOf(a.action) - order.indexOf(b.action));
}

async function buildAction(repository, action, out) {
  const target = out === undefined ? join(repository, action, 'dist') : join(out, action);
  const entry = join(action, 'src', 'main.ts');
  if (!existsSync(join(repository, entry))) throw new Error(`${action}: there is no ${entry}`);
  const started = performance.now();
  // Built elsewhere and moved at the end: a failed build leaves the old bundle as it was. (Moving wants one file system.)
  const workshop = out ?? join(repository, '.build');
  await mkdir(workshop, { recursive: true });
  const fresh = await mkdtemp(join(workshop, `${action}-`));
  try {
    await bundle(repository, action, entry, fresh);
    for (const name of unwanted) await rm(join(fresh, name), { force: true });
    const program = join(fresh, 'index.js');
    await writeFile(program, toAscii(await readFile(program, 'utf8')));
    const files = await inspectBundle(repository, action, fresh);
    await rm(target, { recursive: true, force: true });
    await rename(fresh, target);
    return { action, files, seconds: (performance.now() - started) / 1000 };
  } finally {
    await rm(fresh, { recursive: true, force: true });
  }
}

/** Types are checked by `npm run types`; the bundler only strips them. */
async function bundle(repository, action, entry, out) {
  // The repository's own copy: the path from the sources to ncc's loaders goes into the numbers of the modules.
  const ncc = join(repository, 'node_modules', '@vercel', 'ncc', 'dist', 'ncc', 'cli.js');
  const options = [
    '--license',
    'licenses.txt',
    '--no-cache',
    '--no-source-map-register',
    '--transpile-only',
    '--quiet',
  ];
  try {
    await promisify(execFile)(process.execPath, [ncc, 'build', entry, '--out', out, ...options], {
      cwd: repository,
      maxBuffer: 64 * 1024 * 1024,
    });
  } catch (error) {
    throw new Error(`${action}: ncc failed\n${error.stdout ?? ''}${error.stderr ?? error.message}`, { cause: error });
  }
}

/**
 * The same program in ASCII. V8 keeps a source with a single character beyond Latin-1 (a quotation mark in a comment of some
 * package) as UTF-16: twice the memory, and 5 % more time until it runs.
 *
 * @param {string} text JavaScript; an escape means the same as its character everywhere but in `String.raw`.
 * @returns {string}
 */
export function toAscii(text) {
  const raw = /String\.raw`[^`]*[^\0-\x7f][^`]*`/.exec(text);
  if (raw !== null) throw new Error(`this cannot be written in ASCII: ${raw[0]}`);
  return text.replaceAll(/[^\0-\x7f]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

async function inspectBundle(repository, action, folder) {
  const found = (await readdir(folder, { recursive: true })).sort();
  const stray = found.filter((name) => !expected.includes(name));
  const missing = expected.filter((name) => !found.includes(name));
  if (stray.length + missing.length > 0) {
    throw new Error(
      `${action}: the bundle must be ${expected.join(' and ')}, but ` +
        [stray.length > 0 && `has ${stray.join(', ')}`, missing.length > 0 && `lacks ${missing.join(', ')}`]
          .filter(Boolean)
          .join(' and '),
    );
  }
  const text = await readFile(join(folder, 'index.js'), 'utf8');
  const line = text.split('\n').findIndex((one) => one.includes(repository) || one.includes('file:///'));
  if (line >= 0) throw new Error(`${action}: line ${line + 1} of the bundle holds a path of this machine`);
  // ncc lets a module that it does not find fail at run time.
  const unresolved = [...text.matchAll(/eval\("require"\)\("([^"]+)"\)/g)]
    .map(([, module]) => module)
    .filter((module) => !optional.includes(module));
  if (unresolved.length > 0) throw new Error(`${action}: cannot find the module ${unresolved.join(', ')}`);
  return await Promise.all(found.map(async (name) => ({ name, bytes: (await readFile(join(folder, name))).length })));
}

/**
 * A native module that an install script built would be copied into the bundle, differs from machine to machine, and does
 * not load on another Node. `.npmrc` has ignore-scripts=true; whoever overrode it gets told.
 */
async function refuseNativeModules(repository) {
  for (const name of ['ssh2', 'cpu-features']) {
    const folder = join(repository, 'node_modules', name);
    if (!existsSync(folder)) continue;
    const native = (await readdir(folder, { recursive: true })).filter((file) => file.endsWith('.node'));
    if (native.length > 0) {
      throw new Error(
        `node_modules/${name} holds a native module (${native[0]}), so the bundle would not be the same everywhere. ` +
          'Install without install scripts: `rm -rf node_modules && npm ci --ignore-scripts`.',
      );
    }
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    const { values, positionals } = parseArgs({ options: { out: { type: 'string' } }, allowPositionals: true });
    await embedGuardian();
    await embedTls();
    for (const { action, files, seconds } of await buildActions({ out: values.out, only: positionals })) {
      const sizes = files.map(({ name, bytes }) => `${name} ${(bytes / 1024).toFixed(0)} KiB`).join(', ');
      console.log(`${action}: ${sizes} (${seconds.toFixed(1)} s)`);
    }
  } catch (error) {
    console.error(error.message);
    process.exitCode = 1;
  }
}
