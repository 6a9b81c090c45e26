/** The workflow files of this repository, each with what it is. */
import { readdirSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = fileURLToPath(new URL('../../', import.meta.url));

const list = (folder: string, name: RegExp): string[] =>
  readdirSync(join(ROOT, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && name.test(entry.name))
    .map((entry) => relative(ROOT, join(entry.parentPath, entry.name)))
    .sort();

/** Those that others call. */
export const REUSABLE = list('.github/workflows', /^[^.].*\.ya?ml$/);
/** Those that others copy. */
export const CALLERS = list('infra/workflows', /^[^.].*\.ya?ml$/);
/** This repository's own have a leading dot, and are nobody's to copy. */
export const OWN = list('.github/workflows', /^\..*\.ya?ml$/);
