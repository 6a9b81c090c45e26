import { lstat as lstatOf, realpath as realpathOf } from 'node:fs';
import { lstat, readFile, realpath, stat } from 'node:fs/promises';
import { isAbsolute, join, relative, resolve, sep } from 'node:path';
import { escapePath, type FileSystemAdapter, glob } from 'tinyglobby';
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
  const real = await realpath(root);
  const wayOut = await findWayOut(real, plain);
  if (wayOut !== undefined) return [wayOut];
  // A name that is there is meant, also where it could be read as a glob (`[id].html`); a folder's is everything below it.
  const named = await stat(join(real, plain)).catch(() => undefined);
  const literal = plain === '.' || plain === '' ? '**' : `${escapePath(plain)}/**`;
  const found = await glob(named === undefined ? plain : named.isDirectory() ? literal : escapePath(plain), {
    cwd: real,
    dot: true,
    onlyFiles: false,
    expandDirectories: false,
    followSymbolicLinks: true,
    fs: confine(real),
    ignore: ['**/.git/**'],
  });
  const files = found.filter((path) => !path.endsWith('/'));
  return files.length > 0 ? files : `\`${pattern}\` matches no file in the workspace.`;
}

/** The first part of a path that is a link out of the workspace, or to nowhere: a glob would start behind it. */
async function findWayOut(root: string, path: string): Promise<string | undefined> {
  const parts = path.split('/');
  for (let depth = 1; depth <= parts.length; depth++) {
    const start = parts.slice(0, depth).join('/');
    const facts = await lstat(join(root, start)).catch(() => undefined);
    if (facts === undefined) return undefined;
    if (!facts.isSymbolicLink()) continue;
    const target = await realpath(join(root, start)).catch(() => undefined);
    if (target === undefined || !isInside(root, target)) return start;
  }
  return undefined;
}

/**
 * For a search, links that lead out of the workspace, or nowhere, are files: so they are found, and refused, and a link to
 * `/` does not have the whole machine read.
 */
function confine(root: string): FileSystemAdapter {
  return {
    realpath: ((path: string, done: (error: null, resolved: string) => void) => {
      realpathOf(path, (error, target) => {
        done(null, error === null && isInside(root, target) ? target : path);
      });
    }) as typeof realpathOf,
    stat: lstatOf,
  };
}

function isInside(root: string, path: string): boolean {
  const way = relative(root, path);
  return way === '' || (!way.startsWith(`..${sep}`) && way !== '..' && !isAbsolute(way));
}
