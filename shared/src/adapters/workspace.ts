import { lstat, readFile, realpath, stat } from 'node:fs/promises';
import { isAbsolute, join, relative, resolve, sep } from 'node:path';
import { escapePath, glob } from 'tinyglobby';
import type { ShippedFile, Workspace } from '../ports';

/** What is shipped passes through the runner's memory, and is configuration: images are the place for more. */
const MAX_TOTAL_BYTES = 256 * 1024 * 1024;

export function openWorkspace(root: string, maxTotalBytes = MAX_TOTAL_BYTES): Workspace {
  /**
   * The real place of a path, or undefined where it does not exist or lies outside. A link in a pull request that points to
   * /etc/passwd or to the runner's credentials must not be shipped.
   */
  const locate = async (path: string): Promise<string | undefined> => {
    try {
      const real = await realpath(resolve(root, path));
      return isInside(await realpath(root), real) ? real : undefined;
    } catch {
      return undefined;
    }
  };
  return {
    read: async (path) => {
      const real = await locate(path);
      if (real === undefined || !(await stat(real)).isFile()) return undefined;
      return readFile(real, 'utf8');
    },
    exists: async (path) => (await locate(path)) !== undefined,
    collect: async (globs) => {
      const problems: string[] = [];
      const paths = new Set<string>();
      for (const pattern of globs) {
        const found = await expand(root, pattern);
        if (typeof found === 'string') problems.push(found);
        else for (const path of found) paths.add(path);
      }
      const files: ShippedFile[] = [];
      let total = 0;
      for (const path of [...paths].sort()) {
        const real = await locate(path);
        if (real === undefined) {
          problems.push(
            `\`${path}\` is a link that leaves the workspace (or leads nowhere): such files are not shipped.`,
          );
          continue;
        }
        const facts = await stat(real);
        if (!facts.isFile()) continue;
        total += facts.size;
        if (total > maxTotalBytes) {
          problems.push(
            `The files are more than ${maxTotalBytes / 1024 / 1024} MiB together (at \`${path}\`): put large data into an image or a volume.`,
          );
          break;
        }
        files.push({ path, executable: (facts.mode & 0o111) !== 0, content: await readFile(real) });
      }
      return { files, problems };
    },
  };
}

async function expand(root: string, pattern: string): Promise<string[] | string> {
  const plain = pattern.replace(/^(\.\/+)+/, '').replace(/\/+$/, '');
  if (isAbsolute(plain) || plain.split('/').includes('..')) {
    return `\`${pattern}\` is not below the workspace: give paths and globs relative to it.`;
  }
  // A name that is there is meant, also where it could be read as a glob (`[id].html`).
  const named = await lstat(join(root, plain)).catch(() => undefined);
  const files = named === undefined ? await search(root, plain) : await listBelow(root, plain, new Set());
  return files.length > 0 ? files : `\`${pattern}\` matches no file in the workspace.`;
}

/**
 * The files at or below a path: a folder's name means everything in it, as people expect of a path. Links to folders are
 * followed once, and only within the workspace: one to `/` would have the whole machine read.
 */
async function listBelow(root: string, path: string, seen: Set<string>): Promise<string[]> {
  const real = await realpath(join(root, path)).catch(() => undefined);
  if (real === undefined || !isInside(await realpath(root), real) || !(await stat(real)).isDirectory()) return [path];
  if (seen.has(real)) return [];
  seen.add(real);
  const found = await search(root, path === '' || path === '.' ? '**' : `${escapePath(path)}/**`);
  const below = await Promise.all(
    found.map(async (one) => ((await lstat(join(root, one))).isSymbolicLink() ? listBelow(root, one, seen) : [one])),
  );
  return below.flat();
}

async function search(root: string, pattern: string): Promise<string[]> {
  const found = await glob(pattern, {
    cwd: root,
    dot: true,
    onlyFiles: false,
    expandDirectories: false,
    followSymbolicLinks: false,
    ignore: ['**/.git/**'],
  });
  return found.filter((path) => !path.endsWith('/'));
}

function isInside(root: string, path: string): boolean {
  const way = relative(root, path);
  return way === '' || (!way.startsWith(`..${sep}`) && way !== '..' && !isAbsolute(way));
}
