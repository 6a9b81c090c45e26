/** The guardian's program as servers start it, with real pipes, real locks and real processes; and the runner's end of it. */
import { type ChildProcessWithoutNullStreams, execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { FrameReader } from '../../shared/src/guardian/frames';
import { SHELLS, type Shell } from '../../shared/test/shells';

const SOURCES = new URL('../../shared/src/guardian/', import.meta.url);
const MARK = '# --- the transaction ---';
const read = (name: string): string => readFileSync(new URL(name, SOURCES), 'utf8');

/** As `npm run build` puts it together: see scripts/embed-guardian.mjs. */
export const PROGRAM = read('guardian.sh')
  .replace(MARK, () => `${read('router.sh')}${MARK}`)
  .split('\n')
  .map((line) => line.trimStart())
  .filter((line) => !/^(#|$)/.test(line))
  .join('\n');

/** Lasts a tenth of the real one. */
export const TICK_SECONDS = 0.1;

/** A folder with the programs that a server with this shell has: `sh`, and for busybox whatever that brings. */
function programsFor(shell: Shell): string {
  const folder = mkdtempSync(join(tmpdir(), 'slipway-programs-'));
  const [program] = shell.words;
  const applets = shell.name.startsWith('busybox') ? execFileSync(program, ['--list']).toString().split('\n') : [];
  symlinkSync(program, join(folder, 'sh'));
  for (const name of [
    'cat',
    'chmod',
    'cmp',
    'cut',
    'dd',
    'flock',
    'grep',
    'head',
    'ln',
    'mkdir',
    'mkfifo',
    'mktemp',
    'mv',
    'readlink',
    'rm',
    'setsid',
    'sleep',
    'sync',
    'tail',
    'timeout',
    'touch',
    'tr',
    'true',
    'wc',
  ]) {
    if (applets.includes(name)) symlinkSync(program, join(folder, name));
  }
  return folder;
}

const programs = new Map<string, string>();

function folderOf(shell: Shell): string {
  let folder = programs.get(shell.name);
  if (folder === undefined) programs.set(shell.name, (folder = programsFor(shell)));
  return folder;
}

const pathFor = (shell: Shell): string =>
  `${folderOf(shell)}:/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin`;

process.once('exit', () => {
  for (const folder of programs.values()) rmSync(folder, { recursive: true, force: true });
});

export { SHELLS, type Shell };

/** Waits until something holds. @throws Error that says what did not */
export async function until(what: string, holds: () => boolean, seconds = 30): Promise<void> {
  const end = performance.now() + seconds * 1000;
  while (!holds()) {
    if (performance.now() > end) throw new Error(`not within ${seconds} s: ${what}`);
    await sleep(20);
  }
}

export interface ProcessRecord {
  readonly pid: number;
  readonly ppid: number;
  readonly pgrp: number;
  readonly command: string;
}

/** A server's home folder, with one project in it. */
export class Home {
  readonly folder = mkdtempSync(join(tmpdir(), 'slipway-guardian-'));
  /** Every process that a session of this home starts has this in its environment. */
  readonly #mark = `SLIPWAY_TEST=${randomBytes(8).toString('hex')}`;

  constructor() {
    mkdirSync(this.path('run'), { mode: 0o700 });
    // Not those of this machine: its Docker may be switched off, or busy.
    this.install('docker', '#!/bin/sh\n');
    this.install('systemctl', '#!/bin/sh\necho running\n');
  }

  path(...parts: string[]): string {
    return join(this.folder, ...parts);
  }

  store(...parts: string[]): string {
    return this.path('shop', '.slipway', ...parts);
  }

  environment(shell: Shell): NodeJS.ProcessEnv {
    const [name = '', value = ''] = this.#mark.split('=');
    return {
      PATH: `${this.path('bin')}:${pathFor(shell)}`,
      HOME: this.folder,
      XDG_RUNTIME_DIR: this.path('run'),
      [name]: value,
    };
  }

  /** Puts a program first in the PATH. */
  install(name: string, text: string): void {
    mkdirSync(this.path('bin'), { recursive: true });
    writeFileSync(this.path('bin', name), text, { mode: 0o755 });
  }

  /** A release that was deployed before: current, with what its files and those of the next ones' are in the verbs. */
  deployed(release = 'r1'): this {
    mkdirSync(this.store('releases', release), { recursive: true });
    writeFileSync(this.store('releases', release, 'compose.yaml'), 'services: {}\n');
    symlinkSync(`releases/${release}`, this.store('current'));
    return this;
  }

  file(address: string): this {
    mkdirSync(this.store('files', address), { recursive: true });
    writeFileSync(this.store('files', address, 'content'), 'whole\n');
    return this;
  }

  /** `current`, releases and files: what a transaction of the tests changes. */
  state(): { readonly current: string; readonly releases: string[]; readonly files: string[] } {
    const list = (folder: string): string[] => (existsSync(folder) ? readdirSync(folder).sort() : []);
    const current = ((): string => {
      try {
        return readlinkSync(this.store('current'));
      } catch {
        return 'none';
      }
    })();
    return {
      current,
      releases: list(this.store('releases')),
      files: list(this.store('files')).map((name) => {
        const file = this.store('files', name, 'content');
        return existsSync(file) && readFileSync(file, 'utf8') === 'whole\n' ? name : `${name} (in part)`;
      }),
    };
  }

  /** What is alive of every session, by number. Zombies do not count: they have ended. */
  processes(among: readonly string[] = readdirSync('/proc')): ProcessRecord[] {
    const found: ProcessRecord[] = [];
    for (const name of among) {
      if (!/^\d+$/.test(name)) continue;
      try {
        if (!readFileSync(`/proc/${name}/environ`, 'latin1').split('\0').includes(this.#mark)) continue;
        const stat = readFileSync(`/proc/${name}/stat`, 'latin1');
        const [state, ppid, pgrp] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
        if (state === 'Z' || state === 'X') continue;
        found.push({
          pid: Number(name),
          ppid: Number(ppid),
          pgrp: Number(pgrp),
          command: readFileSync(`/proc/${name}/cmdline`, 'latin1').split('\0').join(' '),
        });
      } catch {
        // It has ended meanwhile.
      }
    }
    return found;
  }

  /** What ticks sleeps on for a moment after a clean end. */
  async expectNobody(): Promise<void> {
    const end = performance.now() + 10_000;
    let left = this.processes();
    while (left.length > 0 && performance.now() < end) {
      await sleep(20);
      // Looking at all processes is much work: not before those are gone that are known.
      left = this.processes(left.map((one) => String(one.pid)));
      if (left.length === 0) left = this.processes();
    }
    expect(left.map((one) => ({ ...one, command: one.command.slice(0, 80) }))).toEqual([]);
  }

  async expectNothingLeft(): Promise<void> {
    await this.expectNobody();
    expect(readdirSync(this.path('run'))).toEqual([]);
    expect(readdirSync(this.store()).filter((name) => !EXPECTED.has(name))).toEqual([]);
  }

  remove(): void {
    for (const { pid } of this.processes()) kill(pid, 'SIGKILL');
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** What a store has when no transaction is open. */
const EXPECTED = new Set(['current', 'files', 'lock', 'releases', 'router', 'running', 'session', 'step', 'undo.log']);

/** @param pid of a process, or minus that of a group */
export function kill(pid: number, signal: NodeJS.Signals): void {
  // 0 is our own group.
  if (pid === 0) throw new Error('there is no such process to end');
  try {
    process.kill(pid, signal);
  } catch {
    // It has ended already.
  }
}

export interface SessionOptions {
  readonly path?: string;
  readonly project?: string;
  readonly mode?: string;
  readonly leaseTicks?: number | string;
  readonly waitTicks?: number;
  readonly holder?: string;
  readonly tickSeconds?: number;
  readonly environment?: NodeJS.ProcessEnv;
  /** Programs of the home's own that busybox would not look for: it has them built in. */
  readonly standIns?: readonly string[];
}

export interface Ended {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** One session, seen from the runner. Beats until it is told otherwise. */
export class Session {
  readonly token = `slipway-${randomBytes(16).toString('hex')}`;
  readonly child: ChildProcessWithoutNullStreams;
  /** Control lines, without the token. */
  readonly lines: string[] = [];
  /** Lines of standard error without the token. */
  readonly stray: string[] = [];
  readonly exit: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  exited: { code: number | null; signal: NodeJS.Signals | null } | undefined;
  bytes = 0;
  readonly #ended = new Map<number, { code: number | undefined; stdout: string; stderr: string }>();
  readonly #beat: NodeJS.Timeout;
  #steps = 0;

  constructor(home: Home, shell: Shell, options: SessionOptions = {}) {
    const {
      path = 'shop',
      project = 'shop',
      mode = 'change',
      leaseTicks = 1000,
      waitTicks = 100,
      holder = 'a test',
    } = options;
    const words = [this.token, path, project, mode, leaseTicks, waitTicks, holder, options.tickSeconds ?? TICK_SECONDS];
    const builtIn = shell.name.startsWith('busybox') ? (options.standIns ?? []) : [];
    const prelude = builtIn.map((name) => `${name}() { "$HOME/bin/${name}" "$@"; }\n`).join('');
    // As `sh`: by that name bash reads no files of its own.
    this.child = spawn(join(folderOf(shell), 'sh'), ['-c', prelude + PROGRAM, 'slipway', ...words.map(String)], {
      env: { ...home.environment(shell), ...options.environment },
      cwd: home.folder,
      // A session and a process group of its own, as sshd gives it.
      detached: true,
    });
    const frames = new FrameReader(this.token, (frame) => {
      const step = this.#of(frame.step);
      if (frame.kind === 'output') step.stdout += frame.chunk.toString('latin1').slice(0, 100_000);
      if (frame.kind === 'errors') step.stderr += frame.chunk.toString('latin1').slice(0, 100_000);
      if (frame.kind === 'close') step.code = frame.exitCode;
    });
    this.child.stdout.on('data', (chunk: Buffer) => {
      this.bytes += chunk.length;
      frames.write(chunk);
    });
    createInterface({ input: this.child.stderr }).on('line', (line) => {
      if (line.startsWith(`${this.token} `)) this.lines.push(line.slice(this.token.length + 1));
      else this.stray.push(line);
    });
    for (const stream of this.child.stdio) stream?.on('error', () => undefined);
    this.exit = new Promise((resolve) => {
      this.child.once('exit', (code, signal) => {
        this.exited = { code, signal };
        clearInterval(this.#beat);
        resolve(this.exited);
      });
    });
    this.#beat = setInterval(() => {
      this.write('beat\n');
    }, 200);
  }

  get pid(): number {
    return this.child.pid ?? 0;
  }

  #of(step: number): { code: number | undefined; stdout: string; stderr: string } {
    let found = this.#ended.get(step);
    if (found === undefined) this.#ended.set(step, (found = { code: undefined, stdout: '', stderr: '' }));
    return found;
  }

  write(text: string | Uint8Array): this {
    if (!this.child.stdin.destroyed) this.child.stdin.write(text);
    return this;
  }

  put(file: string, content: string | Uint8Array): this {
    const bytes = Buffer.from(content);
    return this.write(`put ${file} ${bytes.length}\n`).write(bytes);
  }

  begin(journal: string): this {
    return this.put('journal', journal).write('begin\n');
  }

  /** Sends a step. @returns its number */
  send(kind: 'ask' | 'do' | 'verb', text: string, { limit = 30, onAbort = 'kill', stdin = '' } = {}): number {
    const step = ++this.#steps;
    this.put(`${step}.sh`, text);
    if (stdin !== '') this.put(`${step}.in`, stdin);
    this.write(`${kind} ${step} ${limit} ${onAbort}\n`);
    return step;
  }

  async ended(step: number, seconds = 30): Promise<Ended> {
    await until(
      `step ${step} has ended (${this.lines.join(' | ')})`,
      () => this.#ended.get(step)?.code !== undefined,
      seconds,
    );
    const { code = -1, stdout, stderr } = this.#of(step);
    return { code, stdout, stderr };
  }

  /** So far. */
  output(step: number): string {
    return this.#of(step).stdout;
  }

  async run(kind: 'ask' | 'do' | 'verb', text: string, options = {}): Promise<Ended> {
    return this.ended(this.send(kind, text, options));
  }

  has(word: string): boolean {
    return this.lines.some((line) => line === word || line.startsWith(`${word} `));
  }

  /** Waits for a control line that begins with one of these words. */
  async hear(...words: string[]): Promise<string> {
    const matches = (line: string): boolean => words.some((word) => line === word || line.startsWith(`${word} `));
    await until(
      `the guardian says ${words.join(' or ')}`,
      () => this.lines.some(matches) || this.exited !== undefined,
    ).catch((error: unknown) => {
      throw new Error(`${String(error)}; it said ${this.lines.join(' | ')} ${this.stray.join(' | ')}`);
    });
    // Its last words may come after the news of its end.
    await until('its last words', () => this.lines.some(matches), 2).catch(() => undefined);
    const line = this.lines.find(matches);
    if (line === undefined)
      throw new Error(`it ended without ${words.join(' or ')}: ${this.lines.join(' | ')} ${this.stray.join(' | ')}`);
    return line;
  }

  async bye(): Promise<number | null> {
    this.write('bye\n');
    this.child.stdin.end();
    return (await this.exit).code;
  }

  /** The runner is suspended, or the link is cut: no word, and nobody reads, but every descriptor stays open. */
  block(): void {
    clearInterval(this.#beat);
    this.child.stdout.pause();
    this.child.stderr.pause();
  }

  unblock(): void {
    this.child.stdout.resume();
    this.child.stderr.resume();
  }

  silence(): void {
    clearInterval(this.#beat);
  }

  /** The connection ends. */
  cut(): void {
    clearInterval(this.#beat);
    this.child.stdin.destroy();
    this.child.stdout.destroy();
    this.child.stderr.destroy();
  }
}

/** Of a transaction whose steps make `new-N` and whose end removes `old-N`. */
export function journal({
  release = 'r2',
  undo = ['remove-files new-1'],
  finish = ['remove-files old-1'],
} = {}): string {
  return [
    'slipway 2',
    `release ${release}`,
    'limit 30',
    ...undo.map((verb) => `undo ${verb}`),
    ...finish.map((verb) => `finish ${verb}`),
    'end\n',
  ].join('\n');
}

const STORE = 'cd "$HOME/shop/.slipway"';

/** The step that stores the release. */
export const storeRelease = (release = 'r2'): string =>
  `${STORE} && mkdir -p releases/${release} && echo 'services: {}' >releases/${release}/compose.yaml`;

/** A step that changes something, in two moves. */
export const makeFile = (address: string, between = ''): string =>
  `${STORE} && mkdir -p files/${address} && echo part >files/${address}/content\n${between}\necho whole >files/${address}/content`;
