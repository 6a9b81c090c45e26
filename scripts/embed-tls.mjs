/**
 * Writes shared/src/tls/program.ts from slipway-tls.sh, as it is: whoever installs the program by hand takes the same file, and
 * the action compares checksums. `embedTls({ check: true })` only says whether it is up to date.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { unpackProgram } from './embed-guardian.mjs';

const folder = new URL('../shared/src/tls/', import.meta.url);

function renderModule(text) {
  return `/** slipway-tls.sh, compressed by gzip, in base64. Made by \`npm run build\`; do not edit. */
export const TLS_PROGRAM: string =
  '${gzipSync(text, { level: 9 }).toString('base64')}';
`;
}

/** @returns {Promise<boolean>} whether program.ts was what the source gives */
export async function embedTls({ check = false } = {}) {
  const text = await readFile(new URL('slipway-tls.sh', folder), 'utf8');
  const file = new URL('program.ts', folder);
  if (unpackProgram(await readFile(file, 'utf8').catch(() => '')) === text) return true;
  if (!check) await writeFile(file, renderModule(text));
  return false;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await embedTls();
