/**
 * Fails unless each committed dist/ is, byte for byte, what its sources give, here and in another folder under other conditions:
 * `node scripts/check-dist.mjs`.
 */
import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { actions } from './actions.mjs';
import { buildActions } from './build.mjs';
import { embedGuardian } from './embed-guardian.mjs';
import { embedTls } from './embed-tls.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));

/** @returns {Promise<string[]>} what differs, one sentence each */
export async function compareFolders(committed, built, label) {
  const list = async (folder) => {
    try {
      return (await readdir(folder, { recursive: true })).sort();
    } catch (error) {
      if (error.code === 'ENOENT') return [];
      throw error;
    }
  };
  const [before, after] = [await list(committed), await list(built)];
  const differences = [];
  for (const name of new Set([...before, ...after])) {
    if (!before.includes(name)) differences.push(`${label}/${name} is missing`);
    else if (!after.includes(name)) differences.push(`${label}/${name} does not belong there`);
    else {
      const [old, fresh] = [await readFile(join(committed, name)), await readFile(join(built, name))];
      if (old.equals(fresh)) continue;
      const at = old.findIndex((byte, index) => byte !== fresh[index]);
      const line = old
        .subarray(0, at < 0 ? old.length : at)
        .toString('latin1')
        .split('\n').length;
      differences.push(`${label}/${name} differs from line ${line} on`);
    }
  }
  return differences;
}

const run = promisify(execFile);

/** What another machine has otherwise; Node formats dates and numbers by it, new files get their mode by it. */
const ELSEWHERE = { umask: '0077', env: { TZ: 'Pacific/Kiritimati', LANG: 'de_DE.UTF-8', LC_ALL: 'de_DE.UTF-8' } };

/**
 * Builds a clean copy of the sources in a folder with a path of another length, with another umask, time zone and language.
 * @param {{ repository?: string, registry?: string[], out: string }} options `out`: a new folder, gets `<out>/<action>/`
 */
export async function buildElsewhere({ repository = root, registry = actions, out }) {
  const folder = await mkdtemp(join(tmpdir(), 'slipway-elsewhere-'));
  const copy = join(folder, 'where-the-path-is-longer', 'than-that-of', 'the-repository');
  try {
    await mkdir(copy, { recursive: true });
    for (const name of ['package.json', 'tsconfig.json', 'shared/src', ...registry.map((action) => `${action}/src`)]) {
      await cp(join(repository, name), join(copy, name), { recursive: true });
    }
    // Only read, so links do, where both folders are on one file system.
    const [from, to] = [join(repository, 'node_modules'), join(copy, 'node_modules')];
    await run('cp', ['-al', from, to]).catch(async () => {
      await rm(to, { recursive: true, force: true });
      await run('cp', ['-a', from, to]);
    });
    const options = JSON.stringify({ repository: copy, registry, out });
    const program = `const { buildActions } = await import(process.argv[1]); await buildActions(JSON.parse(process.argv[2]));`;
    const node = [
      process.execPath,
      '--input-type=module',
      '-e',
      program,
      new URL('build.mjs', import.meta.url).href,
      options,
    ];
    await run('sh', ['-c', `umask ${ELSEWHERE.umask}; exec "$@"`, 'sh', ...node], {
      env: { ...process.env, ...ELSEWHERE.env },
    });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** @returns {Promise<string[]>} where the build elsewhere differs from the one in `built`, one sentence each */
export async function findIrreproducible({ repository = root, registry = actions, built }) {
  const out = await mkdtemp(join(tmpdir(), 'slipway-dist-'));
  try {
    await buildElsewhere({ repository, registry, out });
    const found = [];
    for (const action of registry) {
      found.push(
        ...(await compareFolders(join(built, action), join(out, action), `${action}/dist, built in two folders`)),
      );
    }
    return found;
  } finally {
    await rm(out, { recursive: true, force: true });
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const out = await mkdtemp(join(tmpdir(), 'slipway-dist-'));
  try {
    const differences = (await embedGuardian({ check: true }))
      ? []
      : ['shared/src/guardian/program.ts is not what guardian.sh and router.sh give'];
    if (!(await embedTls({ check: true }))) {
      differences.push('shared/src/tls/program.ts is not what slipway-tls.sh gives');
    }
    await buildActions({ out });
    for (const action of actions) {
      differences.push(...(await compareFolders(join(root, action, 'dist'), join(out, action), `${action}/dist`)));
    }
    const irreproducible = await findIrreproducible({ built: out });
    if (differences.length > 0) {
      console.error(
        `${differences.join('\n')}\nThe bundles are not those of the sources: run \`npm run build\` and commit dist/.`,
      );
    }
    if (irreproducible.length > 0) {
      console.error(
        `${irreproducible.join('\n')}\nThe build depends on where it runs: nobody could check what is committed.`,
      );
    }
    if (differences.length + irreproducible.length > 0) process.exitCode = 1;
    else console.log(`dist/ of ${actions.join(', ')} is what the sources give, here and elsewhere.`);
  } catch (error) {
    console.error(error.message);
    process.exitCode = 1;
  } finally {
    await rm(out, { recursive: true, force: true });
  }
}
