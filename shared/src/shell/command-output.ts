/** What a command prints, collected and judged: the same over SSH and on this machine. */
import { constants } from 'node:os';
import { StringDecoder } from 'node:string_decoder';
import { CommandError, TimeoutError } from '../errors';
import type { Command } from '../model/command';
import type { Completed, RunOptions } from '../ports';

/** More output than any answer that we ask for has; what has no end must not fill the runner's memory. */
export const MAX_OUTPUT_BYTES = 64 * 1024 * 1024;

/** Longer lines are shown cut. */
export const MAX_LINE_LENGTH = 64 * 1024;

/** A secret shorter than this cannot slip through the cut of a long line by halves: see {@link LineSplitter}. */
const CUT_MARGIN = 4096;

export type Redact = (text: string) => string;

/** How a command ended: an exit code, or the signal that killed it. */
export type Ending =
  { readonly kind: 'exit'; readonly code: number } | { readonly kind: 'signal'; readonly name: string };

/** Text in pieces, as whole lines. */
class LineSplitter {
  #rest = '';
  #isSkipping = false;
  readonly #redact: Redact;
  readonly #emit: (line: string) => void;

  constructor(redact: Redact, emit: (line: string) => void) {
    this.#redact = redact;
    this.#emit = emit;
  }

  write(text: string): void {
    const lines = text.split('\n');
    const last = lines.pop() ?? '';
    for (const line of lines) {
      this.#append(line);
      this.#flush();
    }
    this.#append(last);
  }

  end(): void {
    if (this.#rest !== '') this.#flush();
  }

  #append(text: string): void {
    if (this.#isSkipping) return;
    this.#rest += text;
    if (this.#rest.length <= MAX_LINE_LENGTH) return;
    // A secret that straddles the cut would not be known by its first half. So the last part of what is kept, in which it
    // would begin, is not shown either.
    const redacted = this.#redact(this.#rest.slice(0, MAX_LINE_LENGTH));
    this.#emit(`${redacted.slice(0, Math.max(0, redacted.length - CUT_MARGIN))} ... (a longer line, cut)`);
    this.#rest = '';
    this.#isSkipping = true;
  }

  #flush(): void {
    if (!this.#isSkipping) this.#emit(this.#redact(this.#rest.replace(/\r$/, '')));
    this.#rest = '';
    this.#isSkipping = false;
  }
}

/** Both outputs of one command. */
export class CommandOutput {
  readonly #text = { stdout: '', stderr: '' };
  // A character's bytes can come in two pieces.
  readonly #decoders = { stdout: new StringDecoder('utf8'), stderr: new StringDecoder('utf8') };
  readonly #splitters: { stdout?: LineSplitter; stderr?: LineSplitter } = {};
  #bytes = 0;

  constructor(command: Command, onLine: RunOptions['onLine'], redact: Redact) {
    if (onLine === undefined) return;
    this.#splitters.stderr = new LineSplitter(redact, (line) => {
      onLine(line, 'stderr');
    });
    if (command.secretOutput === true) return;
    this.#splitters.stdout = new LineSplitter(redact, (line) => {
      onLine(line, 'stdout');
    });
  }

  /** @returns false when there is more than we take. */
  add(stream: 'stdout' | 'stderr', chunk: Uint8Array): boolean {
    this.#bytes += chunk.length;
    if (this.#bytes > MAX_OUTPUT_BYTES) return false;
    this.#addText(stream, this.#decoders[stream].write(chunk));
    return true;
  }

  end(): { readonly stdout: string; readonly stderr: string } {
    for (const stream of ['stdout', 'stderr'] as const) {
      this.#addText(stream, this.#decoders[stream].end());
      this.#splitters[stream]?.end();
    }
    return { ...this.#text };
  }

  #addText(stream: 'stdout' | 'stderr', text: string): void {
    this.#text[stream] += text;
    this.#splitters[stream]?.write(text);
  }
}

/** What the command does, for messages. Its words are not shown: they can be a whole script. */
export function describePurpose(command: Command, options: RunOptions): string {
  return options.purpose ?? `run ${command.words[0]}`;
}

/** @throws CommandError unless the ending is one that the caller takes for an answer; a signal never is. */
export function judgeEnding(
  ending: Ending,
  output: { readonly stdout: string; readonly stderr: string },
  command: Command,
  options: RunOptions,
  where: string,
  redact: Redact,
): Completed {
  const { accept = [0] } = options;
  if (ending.kind === 'exit' && (accept === 'any' || accept.includes(ending.code))) {
    return { exitCode: ending.code, ...output };
  }
  const stderr = redact(output.stderr);
  // Many programs complain on standard output.
  const shown = stderr.trim() === '' && command.secretOutput !== true ? redact(output.stdout) : stderr;
  const tail = lastLines(shown);
  const [program] = command.words;
  const what = ending.kind === 'exit' ? `ended with exit code ${ending.code}` : `was killed by signal ${ending.name}`;
  throw new CommandError(
    `Could not ${describePurpose(command, options)} on ${where}: it ${what}.${tail === '' ? '' : `\n${tail}`}`,
    hintFor(ending, program, tail),
    ending.kind === 'exit' ? ending.code : 128 + signalNumber(ending.name),
    stderr,
  );
}

/** ` Container shop-web-1  Recreate`: says what went well, above what did not. */
const COMPOSE_PROGRESS = /^ (Container|Network|Volume) \S+ +[A-Z][a-z]+$/;

function lastLines(text: string): string {
  return text
    .slice(-8192)
    .split('\n')
    .map((line) => line.trimEnd())
    .filter((line) => line !== '' && !COMPOSE_PROGRESS.test(line))
    .slice(-5)
    .map((line) => `  ${line.length > 500 ? `${line.slice(0, 500)} ...` : line}`)
    .join('\n');
}

function hintFor(ending: Ending, program: string, tail: string): string {
  if (ending.kind === 'signal') {
    return ending.name === 'SIGKILL'
      ? 'Nobody sends SIGKILL by chance: look for the out-of-memory killer with `dmesg | grep -i "out of memory"` on the server.'
      : 'Someone, or the system, ended it on the server.';
  }
  if (ending.code === 127)
    return `${program} is not installed on the server, or not in the PATH of a login without a terminal.`;
  if (ending.code === 126) return `${program} is there, but the user may not run it.`;
  return tail === ''
    ? 'It printed nothing. Run it by hand on the server to see more.'
    : 'Above are the last lines that it printed.';
}

export function tooMuchOutput(command: Command, options: RunOptions, where: string): CommandError {
  return new CommandError(
    `Could not ${describePurpose(command, options)} on ${where}: ${command.words[0]} printed more than ${MAX_OUTPUT_BYTES / 1024 / 1024} MiB and was stopped.`,
    'That much is no answer to what was asked. Run it by hand on the server to see what it prints.',
    -1,
    '',
  );
}

export function timedOut(
  command: Command,
  options: RunOptions,
  where: string,
  seconds: number,
  hint: string,
): TimeoutError {
  return new TimeoutError(
    `Could not ${describePurpose(command, options)} on ${where}: ${command.words[0]} did not end within ${seconds} s and was told to stop.`,
    hint,
  );
}

/** A command's standard input as bytes; none is an empty one. */
export function stdinOf(command: Command): string | Uint8Array {
  const { stdin = '' } = command;
  return typeof stdin === 'string' || stdin instanceof Uint8Array ? stdin : stdin.reveal();
}

/** As shells count it in exit codes. */
function signalNumber(name: string): number {
  return (constants.signals as Readonly<Partial<Record<string, number>>>)[name] ?? 0;
}
