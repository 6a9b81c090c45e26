import { readFile, realpath, stat } from 'node:fs/promises';
import { isAbsolute, join, relative, resolve, sep } from 'node:path';
import { glob, isDynamicPattern } from 'tinyglobby';
import type { ShippedFile, Workspace } from '../ports';

/** What is shipped passes through the runner's memory, and is configuration: images are the place for more. */
const MAX_TOTAL_BYTES = 256 * 1024 * 1024;

export function openWorkspace(root: string): Workspace {
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
        if (total > MAX_TOTAL_BYTES) {
          problems.push(
            `The files are more than ${MAX_TOTAL_BYTES / 1024 / 1024} MiB together (at \`${path}\`): put large data into an image or a volume.`,
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
  const plain = pattern.replace(/\/+$/, '');
  if (isAbsolute(plain) || plain.split('/').includes('..')) {
    return `\`${pattern}\` is not below the workspace: give paths and globs relative to it.`;
  }
  // A folder's name means everything below it, as people expect of a path.
  const isFolder = !isDynamicPattern(plain) && (await stat(join(root, plain)).catch(() => undefined))?.isDirectory();
  const found = await glob(isFolder ? `${plain}/**` : plain, {
    cwd: root,
    dot: true,
    onlyFiles: false,
    expandDirectories: false,
    followSymbolicLinks: true,
    ignore: ['**/.git/**'],
  });
  const files = found.filter((path) => !path.endsWith('/'));
  return files.length > 0 ? files : `\`${pattern}\` matches no file in the workspace.`;
}

function isInside(root: string, path: string): boolean {
  const way = relative(root, path);
  return way === '' || (!way.startsWith(`..${sep}`) && way !== '..' && !isAbsolute(way));
}
