/** Runs rendered commands in the shells that servers have, with stand-ins for docker. */
import { spawn, spawnSync, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Command } from '../src/model/command';
import { Secret } from '../src/model/secret';

export interface Shell {
  readonly name: string;
  readonly words: readonly [string, ...string[]];
}

function find(program: string): string {
  const folders = (process.env['PATH'] ?? '').split(':');
  const path = folders.map((folder) => join(folder, program)).find((candidate) => existsSync(candidate));
  if (path === undefined)
    throw new Error(`${program} is not in PATH: \`npm test -- unit\` fetches it, or apt-get install ${program}`);
  return path;
}

/** What `sh` is on servers: dash (Debian, Ubuntu), bash (the Red Hat family), busybox ash (Alpine). */
export const SHELLS: readonly Shell[] = [
  { name: 'dash', words: [find('dash')] },
  { name: 'bash', words: [find('bash'), '--posix'] },
  { name: 'busybox ash', words: [find('busybox'), 'ash'] },
];

export interface Ran {
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A folder with a `docker` in it, which writes its arguments down and then does what the test says. */
export class Machine {
  readonly folder = mkdtempSync(join(tmpdir(), 'slipway-unit-'));
  readonly #shell: Shell;

  constructor(shell: Shell) {
    this.#shell = shell;
  }

  path(...parts: string[]): string {
    return join(this.folder, ...parts);
  }

  /** @param body POSIX sh; `$@` are docker's arguments. */
  withDocker(body: string): this {
    const bin = this.path('bin');
    spawnSync('mkdir', ['-p', bin]);
    writeFileSync(
      join(bin, 'docker'),
      // One write a call: several may be under way at once.
      `#!/bin/sh\ncall=\nfor a in "$@"; do call="$call<$a>"; done\nprintf '%s\\n' "$call" >>"${this.path('docker.log')}"\n${body}\n`,
    );
    chmodSync(join(bin, 'docker'), 0o755);
    return this;
  }

  /** Puts a program of the machine, and nothing else, into the PATH: for servers that lack docker. */
  withOnly(...programs: readonly string[]): this {
    const bin = this.path('bin');
    spawnSync('mkdir', ['-p', bin]);
    for (const program of programs) symlinkSync(find(program), join(bin, program));
    return this;
  }

  /** Each call of docker as `<arg><arg>`. */
  get calls(): string[] {
    const log = this.path('docker.log');
    return existsSync(log)
      ? readFileSync(log, 'utf8')
          .split('\n')
          .filter((line) => line !== '')
      : [];
  }

  #argv(command: Command): string[] {
    const [program, ...rest] = command.words;
    // `sh -c TEXT slipway ...` with the shell under test in the place of `sh`, also behind `flock FILE`.
    if (program === 'sh') return [...this.#shell.words, ...rest];
    const [file, inner, ...words] = rest;
    if (program === 'flock' && file !== undefined && inner === 'sh')
      return [program, file, ...this.#shell.words, ...words];
    return [program, ...rest];
  }

  #env(path?: string): NodeJS.ProcessEnv {
    return {
      PATH: path ?? `${this.path('bin')}:/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin`,
      HOME: this.folder,
      LC_ALL: 'C.UTF-8',
    };
  }

  run(command: Command, options: { readonly path?: string; readonly stdin?: string | Uint8Array } = {}): Ran {
    const [program = '', ...rest] = this.#argv(command);
    const given = options.stdin ?? (command.stdin instanceof Secret ? command.stdin.reveal() : (command.stdin ?? ''));
    const { status, stdout, stderr } = spawnSync(program, rest, {
      env: this.#env(options.path),
      cwd: this.folder,
      input: Buffer.from(given),
    });
    return { exitCode: status, stdout: stdout.toString(), stderr: stderr.toString() };
  }

  start(command: Command): ChildProcessWithoutNullStreams {
    const [program = '', ...rest] = this.#argv(command);
    return spawn(program, rest, { env: this.#env(), cwd: this.folder });
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/**
 * For {@link Machine.withDocker}: `docker system dial-stdio` leads to a daemon that is asked to start containers, which this stand-in
 * does by a call of itself.
 */
export const ENGINE = `
[ "$1" != system ] || while IFS= read -r line; do
  case $line in
    HEAD*) printf 'HTTP/1.1 200 OK\\r\\nApi-Version: 1.45\\r\\n\\r\\n' ;;
    POST*)
      id=\${line#POST /containers/}
      if "$0" start "\${id%%/*}"; then
        printf 'HTTP/1.1 204 No Content\\r\\nServer: Docker\\r\\n\\r\\n'
      else
        printf 'HTTP/1.1 500 Internal Server Error\\r\\nContent-Type: application/json\\r\\n\\r\\n{"message":"exec: \\\\"run\\\\": not found"}\\n'
        exit 1
      fi
      ;;
  esac
done`;

/** Texts that break what quotes badly. */
export const HOSTILE: readonly string[] = [
  "it's",
  '"double"',
  '$(touch pwned)',
  '`touch pwned`',
  '; touch pwned #',
  'two\nlines',
  '-rf',
  '--help',
  'ünï☃ 😀',
  ' spaces  inside ',
  '$HOME',
  '*',
  '\\',
  '~',
  '&&',
  '',
];
