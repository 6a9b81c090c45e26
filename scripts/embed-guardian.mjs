/**
 * Writes shared/src/guardian/program.ts from the guardian's sh sources, without comments and indentation: a bundle holds one
 * file and reads none at run time. `--check` only says whether it is up to date.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import zopfli from '@gfx/zopfli';

const folder = new URL('../shared/src/guardian/', import.meta.url);

/** Functions first, then the main loop: the router's verbs belong between them. */
const MARK = '# --- the transaction ---';

async function renderProgram() {
  const [guardian, router] = await Promise.all(
    ['guardian.sh', 'router.sh'].map((name) => readFile(new URL(name, folder), 'utf8')),
  );
  const at = guardian.indexOf(MARK);
  if (at < 0) throw new Error(`guardian.sh has lost its line "${MARK}"`);
  const text = [guardian.slice(0, at), router, guardian.slice(at)]
    .join('')
    .split('\n')
    // Nothing in it is text of which the indentation would count.
    .map((line) => line.trimStart())
    .filter((line) => !/^(#|$)/.test(line))
    .join('\n');
  return `${text}\n`;
}

/**
 * The most that a gzip can do. A connection begins with 10 packets (14 KB): what fits into them together with the words
 * around it is there a whole turn earlier (https://www.rfc-editor.org/rfc/rfc6928).
 */
async function renderModule(text) {
  const packed = Buffer.from(await zopfli.gzipAsync(Buffer.from(text), { numiterations: 50 })).toString('base64');
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
  const text = await renderProgram();
  const file = new URL('program.ts', folder);
  const found = await readFile(file, 'utf8').catch(() => '');
  // Another version of the compressor may choose other bytes, so the text is what is compared.
  if (unpackProgram(found) === text) return true;
  if (!check) await writeFile(file, await renderModule(text));
  return false;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await embedGuardian();
