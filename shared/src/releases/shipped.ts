/** Shipped files, addressed by their content: pure. A mount points to `files/<address>/<name>`, so it changes exactly when its content does. */
import { createHash } from 'node:crypto';
import type { ShippedFile } from '../ports';
import type { TarEntry } from './tar';

export interface ShippedTree {
  /** SHA-256, hexadecimal. */
  readonly address: string;
  /** Last part of the mounted path: the file's or the folder's name. */
  readonly name: string;
  readonly files: readonly ShippedFile[];
}

/**
 * What lies at or below a path of the workspace, or undefined where nothing shipped does.
 *
 * @param path relative to the workspace, without a slash at its end; empty for the workspace itself.
 */
export function findTree(files: readonly ShippedFile[], path: string): ShippedTree | undefined {
  const prefix = path === '' ? '' : `${path}/`;
  const inside = files
    .filter((file) => file.path === path || file.path.startsWith(prefix))
    .map((file) => ({ ...file, path: file.path === path ? '' : file.path.slice(prefix.length) }))
    .sort((a, b) => (a.path < b.path ? -1 : 1));
  if (inside.length === 0) return undefined;
  const name = path.split('/').at(-1) || 'workspace';
  const hash = createHash('sha256').update(name);
  // Lengths keep ("ab", "c") and ("a", "bc") apart.
  for (const file of inside) {
    hash.update(`\0${file.path}\0${file.executable ? 'x' : '-'}\0${file.content.byteLength}\0`).update(file.content);
  }
  return { address: hash.digest('hex'), name, files: inside };
}

/** Modes as git has them: containers read these with users of their own; the store around them is 0700. */
export function treeEntries(tree: ShippedTree): TarEntry[] {
  return tree.files.map((file) => ({
    path: ['files', tree.address, tree.name, file.path].filter((part) => part !== '').join('/'),
    content: file.content,
    mode: file.executable ? 0o755 : 0o644,
  }));
}
