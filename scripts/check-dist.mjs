/** Fails unless each committed dist/ is, byte for byte, what its sources give: `node scripts/check-dist.mjs`. */
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
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
    if (differences.length > 0) {
      console.error(
        `${differences.join('\n')}\nThe bundles are not those of the sources: run \`npm run build\` and commit dist/.`,
      );
      process.exitCode = 1;
    } else console.log(`dist/ of ${actions.join(', ')} is what the sources give.`);
  } catch (error) {
    console.error(error.message);
    process.exitCode = 1;
  } finally {
    await rm(out, { recursive: true, force: true });
  }
}
