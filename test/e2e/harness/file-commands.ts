/**
 * The files through which an action speaks to the runner (`GITHUB_OUTPUT` and the like), read as
 * https://github.com/actions/runner/blob/main/src/Runner.Worker/FileCommandManager.cs reads them.
 */
import { randomUUID } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

/** A file that the runner would refuse: the step fails with this message. */
export class FileCommandError extends Error {}

/** GitHub keeps no more of a step's summary (bytes). */
export const SUMMARY_LIMIT = 1024 * 1024;

const FILES = {
  output: { variable: 'GITHUB_OUTPUT', prefix: 'set_output_' },
  state: { variable: 'GITHUB_STATE', prefix: 'save_state_' },
  env: { variable: 'GITHUB_ENV', prefix: 'set_env_' },
  path: { variable: 'GITHUB_PATH', prefix: 'add_path_' },
  summary: { variable: 'GITHUB_STEP_SUMMARY', prefix: 'step_summary_' },
} as const;

type FileName = keyof typeof FILES;

/** The command files of one process: fresh, empty, and named anew each time. */
export class FileCommands {
  readonly #paths: Readonly<Record<FileName, string>>;

  private constructor(paths: Readonly<Record<FileName, string>>) {
    this.#paths = paths;
  }

  static async create(runnerTemp: string): Promise<FileCommands> {
    const folder = join(runnerTemp, '_runner_file_commands');
    await mkdir(folder, { recursive: true });
    const suffix = randomUUID();
    const path = (name: FileName): string => join(folder, FILES[name].prefix + suffix);
    const paths = {
      output: path('output'),
      state: path('state'),
      env: path('env'),
      path: path('path'),
      summary: path('summary'),
    };
    for (const file of Object.values(paths)) await writeFile(file, '');
    return new FileCommands(paths);
  }

  /** The variables that tell the action where its files are. */
  get environment(): Readonly<Record<string, string>> {
    return Object.fromEntries(
      Object.entries(FILES).map(([name, { variable }]) => [variable, this.#paths[name as FileName]]),
    );
  }

  /** @throws FileCommandError */
  async pairs(name: 'output' | 'state' | 'env'): Promise<Map<string, string>> {
    return new Map(parsePairs(await this.#read(name)));
  }

  async lines(name: 'path'): Promise<string[]> {
    return (await this.#read(name)).split(/\r\n|\r|\n/).filter((line) => line !== '');
  }

  async summary(): Promise<string> {
    return await this.#read('summary');
  }

  async #read(name: FileName): Promise<string> {
    try {
      return (await readFile(this.#paths[name], 'utf8')).replace(/^\uFEFF/, '');
    } catch (error) {
      // As the runner: a file that the action removed is an empty one.
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return '';
      throw error;
    }
  }
}

/**
 * `name=value` and `name<<delimiter` records.
 *
 * @throws FileCommandError with the runner's own words
 */
export function parsePairs(text: string): [name: string, value: string][] {
  const pairs: [string, string][] = [];
  // On Linux the runner knows one line end; a CR is part of the value.
  const lines = text.split('\n');
  // What follows the last line end is a line of its own only if there is something in it.
  const ended = lines.at(-1) === '';
  if (ended) lines.pop();
  for (let at = 0; at < lines.length; at++) {
    const line = lines[at] ?? '';
    if (line === '') continue;
    const equals = line.indexOf('=');
    const heredoc = line.indexOf('<<');
    if (equals >= 0 && (heredoc < 0 || equals < heredoc)) {
      pairs.push([line.slice(0, equals), line.slice(equals + 1)]);
    } else if (heredoc >= 0) {
      const name = line.slice(0, heredoc);
      const delimiter = line.slice(heredoc + 2);
      if (name === '' || delimiter === '') {
        throw new FileCommandError(`Invalid format '${line}'. Name must not be empty and delimiter must not be empty`);
      }
      const end = lines.indexOf(delimiter, at + 1);
      if (end < 0) {
        throw new FileCommandError(
          ended || at === lines.length - 1
            ? `Invalid value. Matching delimiter not found '${delimiter}'`
            : 'Invalid value. EOF marker missing new line.',
        );
      }
      pairs.push([name, lines.slice(at + 1, end).join('\n')]);
      at = end;
    } else {
      throw new FileCommandError(`Invalid format '${line}'`);
    }
  }
  return pairs;
}
