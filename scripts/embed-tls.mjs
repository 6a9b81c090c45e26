/**
 * Writes shared/src/tls/program.ts from slipway-tls.sh, as it is: whoever installs the program by hand takes the same file, and
 * the action compares checksums. `embedTls({ check: true })` only says whether it is up to date.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { holdsOnly } from './embed-guardian.mjs';

const sources = new URL('../shared/src/tls/', import.meta.url);

function renderModule(packed) {
  return `/** slipway-tls.sh, compressed by gzip, in base64. Made by \`npm run build\`; do not edit. */
export const TLS_PROGRAM: string =
  '${packed}';
`;
}

/** @returns {Promise<boolean>} whether program.ts was what the source gives */
export async function embedTls({ check = false, folder = sources } = {}) {
  const text = await readFile(new URL('slipway-tls.sh', folder), 'utf8');
  const file = new URL('program.ts', folder);
  if (holdsOnly(await readFile(file, 'utf8').catch(() => ''), text, renderModule)) return true;
  if (!check) await writeFile(file, renderModule(gzipSync(text, { level: 9 }).toString('base64')));
  return false;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await embedTls();
