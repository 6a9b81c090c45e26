/**
 * Writes shared/src/guardian/program.ts from the guardian's sh sources, without comments and indentation: a bundle holds one
 * file and reads none at run time. `embedGuardian({ check: true })` only says whether it is up to date.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import zopfli from '@gfx/zopfli';

const sources = new URL('../shared/src/guardian/', import.meta.url);

/** Functions first, then the main loop: the router's verbs belong between them. */
const MARK = '# --- the transaction ---';

async function renderProgram(folder) {
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
async function pack(text) {
  return Buffer.from(await zopfli.gzipAsync(Buffer.from(text), { numiterations: 50 })).toString('base64');
}

function renderModule(packed) {
  return `/**
 * The guardian as one sh program, compressed by gzip, in base64: so it fits into the first packets of a connection. Made
 * from guardian.sh and router.sh by \`npm run build\`; do not edit.
 */
export const GUARDIAN: string =
  '${packed}';
`;
}

/**
 * Whether a module holds this text and nothing else: what stands around the packed text gets into the bundles too. Another version of the compressor may
 * choose other bytes, so of those the text is what is compared.
 * @param {string} module
 * @param {string} text
 * @param {(packed: string) => string} render the module around the packed text
 */
export function holdsOnly(module, text, render) {
  const packed = /'([A-Za-z0-9+/=]+)'/.exec(module)?.[1];
  if (packed === undefined || module !== render(packed)) return false;
  try {
    return gunzipSync(Buffer.from(packed, 'base64')).toString() === text;
  } catch {
    return false; // damaged
  }
}

/** @returns {Promise<boolean>} whether program.ts was what the sources give */
export async function embedGuardian({ check = false, folder = sources } = {}) {
  const text = await renderProgram(folder);
  const file = new URL('program.ts', folder);
  if (holdsOnly(await readFile(file, 'utf8').catch(() => ''), text, renderModule)) return true;
  if (!check) await writeFile(file, renderModule(await pack(text)));
  return false;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await embedGuardian();
