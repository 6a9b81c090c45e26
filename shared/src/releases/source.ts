/** What a release was made from, kept with it: so that it can be rendered again with another environment. Pure. */
import { posix } from 'node:path';
import { parseJson, readList, readMember, readText } from '../json';
import { packTar, type TarEntry } from './tar';

/** In the folder of the first Compose file: variables that are not secret. */
export const VARIABLES_FILE = '.slipway-variables';

/** `source.json` beside `source.tar`. */
export interface RenderSource {
  /** Folder of the first Compose file, relative to the workspace. */
  readonly directory: string;
  /** Relative to `directory`. */
  readonly composeFiles: readonly string[];
  /** The workspace has a `.env` of its own. */
  readonly hasDotEnv: boolean;
  /** Path in the workspace of each mount that was shipped: path below `files/` of the store. */
  readonly mounts: Readonly<Record<string, string>>;
}

/** What Compose is given to read; later ones win. */
export function listEnvFiles(hasDotEnv: boolean): string[] {
  return [...(hasDotEnv ? ['.env'] : []), VARIABLES_FILE];
}

/** @param entries all that Compose may read, but the secret environment. */
export async function describeSource(
  source: Omit<RenderSource, 'hasDotEnv'>,
  entries: readonly TarEntry[],
): Promise<TarEntry[]> {
  const hasDotEnv = entries.some(({ path }) => path === posix.join(source.directory, '.env'));
  const described: RenderSource = { ...source, hasDotEnv };
  return [
    { path: 'source.json', content: JSON.stringify(described) },
    { path: 'source.tar', content: await packTar(entries) },
  ];
}

/** Undefined where it is none. */
export function parseSource(text: string): RenderSource | undefined {
  const value = parseJson(text);
  const mounts = readMember(value, 'mounts');
  if (typeof mounts !== 'object' || mounts === null) return undefined;
  return {
    directory: readText(value, 'directory'),
    composeFiles: readList(value, 'composeFiles').filter((file) => typeof file === 'string'),
    hasDotEnv: readMember(value, 'hasDotEnv') === true,
    mounts: Object.fromEntries(Object.keys(mounts).map((path) => [path, readText(mounts, path)])),
  };
}
