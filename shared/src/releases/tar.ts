import { buffer } from 'node:stream/consumers';
import { pack } from 'tar-stream';

export interface TarEntry {
  readonly path: string;
  readonly content: Uint8Array | string;
  /** Default 0600. */
  readonly mode?: number;
}

/** One tar of plain files; parent folders come with the mode 0755. Same entries, same bytes. */
export async function packTar(entries: readonly TarEntry[]): Promise<Uint8Array> {
  const tar = pack();
  const mtime = new Date(0);
  const folders = new Set<string>();
  for (const entry of entries) {
    const parts = entry.path.split('/').slice(0, -1);
    for (let depth = 1; depth <= parts.length; depth++) folders.add(parts.slice(0, depth).join('/'));
  }
  for (const folder of [...folders].sort()) tar.entry({ name: folder, type: 'directory', mode: 0o755, mtime });
  for (const entry of entries) {
    tar.entry({ name: entry.path, mode: entry.mode ?? 0o600, mtime }, Buffer.from(entry.content));
  }
  tar.finalize();
  return buffer(tar);
}
