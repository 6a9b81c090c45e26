/**
 * Writes shared/src/guardian/program.ts from the guardian's sh sources, without their comments: a bundle holds one file and
 * reads none at run time. `--check` only says whether it is up to date.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { gunzipSync, gzipSync } from 'node:zlib';

const folder = new URL('../shared/src/guardian/', import.meta.url);

/** Functions first, then the main loop: the router's verbs belong between them. */
const MARK = '# --- the transaction ---';

export async function renderProgram() {
  const [guardian, router] = await Promise.all(
    ['guardian.sh', 'router.sh'].map((name) => readFile(new URL(name, folder), 'utf8')),
  );
  const at = guardian.indexOf(MARK);
  if (at < 0) throw new Error(`guardian.sh has lost its line "${MARK}"`);
  const text = [guardian.slice(0, at), router, guardian.slice(at)]
    .join('')
    .split('\n')
    .filter((line) => !/^\s*(#|$)/.test(line))
    .join('\n');
  // The compressor of another Node may choose other bytes, so the text is what is compared.
  return { text: `${text}\n`, packed: gzipSync(`${text}\n`, { level: 9 }).toString('base64') };
}

function renderModule({ packed }) {
  return `/**
 * The guardian as one sh program, compressed by gzip, in base64: so it fits into the first packets of a connection. Made
 * from guardian.sh and router.sh by \`npm run build\`; do not edit.
 */
export const GUARDIAN: string =
  '${packed}';
`;
}

/** The program that a module holds; empty where there is none. */
export function unpackProgram(module) {
  const packed = /'([A-Za-z0-9+/=]+)'/.exec(module)?.[1];
  return packed === undefined ? '' : gunzipSync(Buffer.from(packed, 'base64')).toString();
}

/** @returns {Promise<boolean>} whether program.ts was what the sources give */
export async function embedGuardian({ check = false } = {}) {
  const program = await renderProgram();
  const file = new URL('program.ts', folder);
  const found = await readFile(file, 'utf8').catch(() => '');
  if (unpackProgram(found) === program.text) return true;
  if (!check) await writeFile(file, renderModule(program));
  return false;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await embedGuardian();
