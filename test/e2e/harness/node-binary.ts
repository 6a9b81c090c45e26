import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { HarnessError } from './harness-error.ts';

/** The Node that `using: node24` means: this process's own where it is one, else the one that npm installed. */
export function findNode24(): string {
  if (process.versions.node.startsWith('24.')) return process.execPath;
  const installed = fileURLToPath(
    new URL(`../../../node_modules/node-linux-${process.arch}/bin/node`, import.meta.url),
  );
  if (!existsSync(installed)) throw new HarnessError(`there is no Node 24 at ${installed}: run \`npm ci\``);
  return installed;
}
