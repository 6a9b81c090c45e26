/** Our end of the guardian: starts it on the server, sends it steps ahead of time, and hears what became of them. */
import { randomBytes } from 'node:crypto';
import { createInterface } from 'node:readline';
import { CancelledError, ConnectError, LockHeldError, ReleaseError } from '../errors';
import type { Command } from '../model/command';
import type { Clock, Completed, RunOptions, ServerProcess, Session } from '../ports';
import { CommandOutput, judgeEnding, type Redact, stdinOf, timedOut, tooMuchOutput } from '../shell/command-output';
import { renderCommand, script } from '../shell/render';
import { FrameReader } from './frames';
import { GUARDIAN } from './program';

export interface GuardianRequest {
  /** Of the project; relative to the login's home where it is not absolute. */
  readonly path: string;
  readonly project: string;
  /**
   * `look`: without the lock, changes nothing. `preempt`: takes it from a session that only holds or bakes, or that is there to `yield`: which
   * opens no transaction, and whose commands fail then.
   */
  readonly mode: 'change' | 'preempt' | 'yield' | 'look';
  /** After so long without a word of ours it gives us up for lost, and undoes what is open. */
  readonly leaseSeconds: number;
  /** How long to wait for another session. */
  readonly waitSeconds: number;
  /** One line that says who we are, for whoever has to wait. */
  readonly holder: string;
  /** Told once, when there is somebody to wait for. */
  readonly onWait?: (holder: string) => void;
  /** What it does by itself, for people. Remote text. */
  readonly onNote?: (text: string) => void;
  /** Told at once, before there is a lock: what is asked here is on its way already, and has its turn right after the lock. */
  readonly onStart?: (guardian: Pick<Guardian, 'where' | 'run'>) => void;
}

/** What an interrupted session had left, and what became of it before we got the lock. */
export interface Recovery {
  readonly release: string;
  readonly verdict: 'undone' | 'committed';
}

/** How a transaction ended. */
export type Verdict =
  | { readonly kind: 'committed' }
  /** `why`: of the guardian's own accord (`lease`, `preempted ...`); `unrestored`: empty means the server is as it was. */
  | { readonly kind: 'undone'; readonly why: string; readonly unrestored: string };

export interface Guardian {
  readonly where: string;
  /** False in a `look`, and where the store could not be written (`problem` says why). */
  readonly isLocked: boolean;
  readonly problem: string;
  /** The current release at the moment the lock was taken; undefined before the first one. */
  readonly current: string | undefined;
  readonly recovery: Recovery | undefined;
  /** Who had the lock before us, where we had to wait for it, and the current release at that time. */
  readonly waitedFor: { readonly holder: string; readonly current: string | undefined } | undefined;
  /** A command outside of the transaction, in turn with what was sent before. As Session.run. */
  run(command: Command, options?: RunOptions): Promise<Completed>;
  /** Opens a transaction. */
  begin(journal: string): void;
  /** A step of the transaction, sent at once, carried out in turn. Rejects when it fails: then the guardian undoes. */
  step(command: Command, options: StepOptions): Promise<Completed>;
  /** As `step`, for a verb that the guardian knows. */
  verb(words: string, options: StepOptions): Promise<Completed>;
  /** Ends the transaction well, after all that was sent before. Resolves as soon as it is decided. */
  commit(): void;
  /** Asks for the way back. */
  abort(): void;
  /** Resolves at the commit; rejects when it was undone instead. */
  readonly committed: Promise<void>;
  /** How it ended, with everything cleaned up. Rejects with ConnectError when that cannot be heard. */
  readonly verdict: Promise<Verdict>;
  close(): Promise<void>;
}

export interface StepOptions extends RunOptions {
  readonly onAbort?: 'kill' | 'finish';
}

/** A program in words of base64 is short enough for the first packets; `gzip` and `base64` are wherever `tar` is. */
const START = `program=$1
shift
eval "$(printf %s "$program" | base64 -d | gzip -dc)"`;

const HEARTBEAT_SECONDS = 5;

/** One put is one program's work there; what is sent ahead without an answer must not fill a slow line. */
const BURST_BYTES = { first: 128 * 1024, least: 16 * 1024, most: 1024 * 1024 };
const BURST_MS = { quick: 250, slow: 2000 };

/**
 * Starts the guardian of a project and waits for the lock.
 *
 * @throws LockHeldError that says who has it; ReleaseError where what an interrupted session left cannot be put right;
 * CancelledError, ConnectError.
 */
export async function startGuardian(
  session: Session,
  request: GuardianRequest,
  {
    clock,
    redact,
    signal,
  }: { readonly clock: Clock; readonly redact: Redact; readonly signal?: AbortSignal | undefined },
): Promise<Guardian> {
  const token = `slipway-${randomBytes(16).toString('hex')}`;
  const { path, project, mode, leaseSeconds, waitSeconds, holder } = request;
  const process = await session.start(
    script(
      START,
      GUARDIAN,
      token,
      path,
      project,
      mode,
      String(leaseSeconds),
      String(waitSeconds),
      holder.replaceAll(/[\r\n]/g, ' '),
    ),
  );
  const client = new GuardianClient(session, process, token, request, clock, redact);
  const onCancel = (): void => {
    client.abort();
  };
  signal?.addEventListener('abort', onCancel, { once: true });
  try {
    if (signal?.aborted === true) throw new CancelledError('The workflow was cancelled.', '');
    request.onStart?.(client);
    await client.ready;
    return client;
  } catch (error) {
    await client.close();
    if (signal?.aborted === true && !(error instanceof ReleaseError)) {
      throw new CancelledError(
        "The workflow was cancelled while it waited for the project's lock.",
        'Nothing was changed.',
        { cause: error },
      );
    }
    throw error;
  } finally {
    signal?.removeEventListener('abort', onCancel);
  }
}

/** A step under way, or sent ahead. */
interface Pending {
  readonly output: CommandOutput;
  readonly resolve: (exitCode: number) => void;
  readonly reject: (error: unknown) => void;
  readonly onBegin: () => void;
  readonly isTooMuch: () => void;
}

class GuardianClient implements Guardian {
  readonly where: string;
  isLocked = false;
  problem = '';
  current: string | undefined;
  waitedFor: Guardian['waitedFor'];
  recovery: Recovery | undefined;
  readonly ready: Promise<void>;
  readonly committed: Promise<void>;
  readonly verdict: Promise<Verdict>;
  readonly #process: ServerProcess;
  readonly #request: GuardianRequest;
  readonly #clock: Clock;
  readonly #redact: Redact;
  readonly #heartbeat: NodeJS.Timeout;
  readonly #pending = new Map<number, Pending>();
  readonly #ready = Promise.withResolvers<undefined>();
  readonly #committed = Promise.withResolvers<undefined>();
  readonly #verdict = Promise.withResolvers<Verdict>();
  /** What is sent goes in one row: the parts of a long upload are not mixed with anything. */
  #sending: Promise<void> = Promise.resolve();
  #took: () => void = () => undefined;
  #untaken = 0;
  #steps = 0;
  #undoing = '';
  #loss: { readonly error: Error } | undefined;
  #strayErrors = '';

  constructor(
    session: Session,
    process: ServerProcess,
    token: string,
    request: GuardianRequest,
    clock: Clock,
    redact: Redact,
  ) {
    this.where = session.where;
    this.#process = process;
    this.#request = request;
    this.#clock = clock;
    this.#redact = redact;
    this.ready = this.#ready.promise;
    this.committed = this.#committed.promise;
    this.verdict = this.#verdict.promise;
    // Who does not wait for one of them must not be ended by its rejection.
    for (const promise of [this.ready, this.committed, this.verdict]) promise.catch(() => undefined);
    const frames = new FrameReader(token, (frame) => {
      const pending = this.#pending.get(frame.step);
      switch (frame.kind) {
        case 'begin':
          pending?.onBegin();
          return;
        case 'output':
          if (pending?.output.add('stdout', frame.chunk) === false) pending.isTooMuch();
          return;
        case 'errors':
          if (pending?.output.add('stderr', frame.chunk) === false) pending.isTooMuch();
          return;
        case 'close':
          this.#pending.delete(frame.step);
          pending?.resolve(frame.exitCode);
      }
    });
    process.stdout.on('data', (chunk: Buffer) => {
      frames.write(chunk);
    });
    createInterface({ input: process.stderr }).on('line', (line) => {
      if (line.startsWith(`${token} `)) this.#hear(line.slice(token.length + 1));
      else this.#strayErrors = `${this.#strayErrors}${line}\n`.slice(-2000);
    });
    process.stdin.on('error', () => undefined);
    process.exit.then(
      (code) => {
        this.#lose(
          new ConnectError(
            'lost',
            `The guardian at ${this.where} ended by itself (exit code ${code})${this.#strayErrors.trim() === '' ? '.' : `: ${redact(this.#strayErrors.trim())}`}`,
            'Someone, or the system, ended it on the server; whatever was under way is put back there, or by the next session.',
          ),
        );
      },
      (error: unknown) => {
        this.#lose(error);
      },
    );
    this.#heartbeat = setInterval(() => {
      this.#write('beat\n');
    }, HEARTBEAT_SECONDS * 1000);
    this.#heartbeat.unref();
  }

  #lose(cause: unknown): void {
    const error = cause instanceof Error ? cause : new Error(String(cause));
    clearInterval(this.#heartbeat);
    this.#loss = { error };
    this.#took();
    this.#ready.reject(error);
    this.#committed.reject(error);
    this.#verdict.reject(error);
    for (const pending of this.#pending.values()) pending.reject(error);
    this.#pending.clear();
  }

  /** A control line. What follows the first word may come from the server's files: remote text. */
  #hear(line: string): void {
    const [word = ''] = line.split(' ', 1);
    const rest = line.slice(word.length + 1).trim();
    const { onWait, onNote, waitSeconds } = this.#request;
    switch (word) {
      case 'took':
        this.#untaken--;
        this.#took();
        return;
      case 'waiting': {
        const [current = 'none'] = rest.split(' ', 1);
        const holder = this.#redact(rest.slice(current.length + 1));
        this.waitedFor = { holder, current: current === 'none' ? undefined : current };
        onWait?.(holder);
        return;
      }
      case 'held':
        this.#ready.reject(
          new LockHeldError(
            `Another session is at work on this project at ${this.where}: ${this.#redact(rest) || 'it left no name'}.`,
            `Nothing was changed. We waited ${waitSeconds} s (input lock-wait). Run this again when that one has ended; a lock never outlives its session by more than the lease.`,
          ),
        );
        return;
      case 'recovering':
        onNote?.(`An interrupted session left release ${rest} half-way; the server puts that right first.`);
        return;
      case 'recovered': {
        const [release = '', verdict] = rest.split(' ');
        this.recovery = { release, verdict: verdict === 'committed' ? 'committed' : 'undone' };
        return;
      }
      case 'stuck': {
        const [release = ''] = rest.split(' ', 1);
        const journal = `${this.#request.path}/.slipway/journal`;
        this.#ready.reject(
          new ReleaseError(
            `The deploy of ${release} was interrupted, and could not be brought to an end: ${this.#redact(rest.slice(release.length + 1))}`,
            `Look at the server. The next session tries again. If all is well there, or you have put it right by hand, make an end of it: mv ${journal} ${journal}.ended`,
          ),
        );
        return;
      }
      case 'refused':
      case 'unlocked':
        this.problem = this.#redact(rest);
        this.#ready.resolve(undefined);
        return;
      case 'hello':
        if (this.#request.mode === 'look') this.#ready.resolve(undefined);
        return;
      case 'locked': {
        const [current = 'none'] = rest.split(' ');
        this.isLocked = true;
        this.current = current === 'none' ? undefined : current;
        this.#ready.resolve(undefined);
        return;
      }
      case 'note':
        onNote?.(this.#redact(rest));
        return;
      case 'committed':
        this.#committed.resolve(undefined);
        return;
      case 'finished':
      case 'unfinished':
        this.#verdict.resolve({ kind: 'committed' });
        return;
      case 'undoing':
        this.#undoing = rest;
        return;
      case 'undone':
      case 'unrestored':
        this.#giveUpAfter(/^step (\d+)/.exec(this.#undoing)?.[1], new ReleaseError(describeReason(this.#undoing), ''));
        this.#verdict.resolve({
          kind: 'undone',
          why: this.#redact(this.#undoing),
          unrestored: word === 'undone' ? '' : this.#redact(rest) || 'it does not say what',
        });
    }
  }

  /** The step that failed says why, on the other stream, which may be behind: it is heard first. */
  #giveUpAfter(step: string | undefined, error: ReleaseError): void {
    const failed = this.#pending.get(Number(step));
    if (failed === undefined) {
      this.#giveUp(error);
      return;
    }
    const timer = setTimeout(() => {
      this.#giveUp(error);
    }, 2000);
    this.#pending.set(Number(step), {
      ...failed,
      resolve: (exitCode) => {
        clearTimeout(timer);
        failed.resolve(exitCode);
        this.#giveUp(error);
      },
    });
  }

  /** What was sent ahead is not carried out any more. */
  #giveUp(error: ReleaseError): void {
    this.#committed.reject(error);
    for (const pending of this.#pending.values()) pending.reject(error);
    this.#pending.clear();
  }

  #write(text: string | Uint8Array): void {
    if (!this.#process.stdin.destroyed) this.#process.stdin.write(text);
  }

  /** Puts lines into the row. */
  #send(...parts: readonly (string | { readonly file: string; readonly content: string | Uint8Array })[]): void {
    const pieces = parts.map((part) =>
      typeof part === 'string' ? part : { file: part.file, rest: Buffer.from(part.content) },
    );
    const work = async (): Promise<void> => {
      for (const piece of pieces) {
        if (typeof piece === 'string') this.#write(`${piece}\n`);
        else await this.#upload(piece.file, piece.rest);
      }
    };
    this.#sending = this.#sending.then(work);
  }

  /**
   * In bursts: the first without waiting, the next ones each when the one before has arrived, so that on a slow line the
   * heartbeat does not wait behind megabytes.
   */
  async #upload(file: string, content: Buffer): Promise<void> {
    let rest = content;
    for (let bytes = BURST_BYTES.first; rest.length > 0;) {
      const burst = rest.subarray(0, bytes);
      rest = rest.subarray(burst.length);
      const sentMs = this.#clock.monotonicMs();
      this.#untaken++;
      this.#write(`put ${file} ${burst.length}\n`);
      this.#write(burst);
      if (rest.length === 0) return;
      while (this.#untaken > 0) {
        await new Promise<void>((resolve) => (this.#took = resolve));
        if (this.#loss !== undefined) return;
      }
      const tookMs = this.#clock.monotonicMs() - sentMs;
      if (tookMs < BURST_MS.quick) bytes = Math.min(bytes * 2, BURST_BYTES.most);
      else if (tookMs > BURST_MS.slow) bytes = Math.max(bytes / 2, BURST_BYTES.least);
    }
  }

  run(command: Command, options: RunOptions = {}): Promise<Completed> {
    return this.#carryOut('ask', renderCommand(command), command, { ...options, onAbort: 'kill' });
  }

  begin(journal: string): void {
    this.#send({ file: 'journal', content: journal }, 'begin');
  }

  step(command: Command, options: StepOptions): Promise<Completed> {
    return this.#carryOut('do', renderCommand(command), command, options);
  }

  verb(words: string, options: StepOptions): Promise<Completed> {
    return this.#carryOut('verb', words, { words: ['slipway', words] }, options);
  }

  async #carryOut(
    kind: 'ask' | 'do' | 'verb',
    text: string,
    command: Command,
    options: StepOptions,
  ): Promise<Completed> {
    const { timeoutSeconds = 60, signal, onAbort = 'kill' } = options;
    if (signal?.aborted === true) throw new CancelledError('The workflow was cancelled.', '', { cause: signal.reason });
    const id = ++this.#steps;
    const output = new CommandOutput(command, options.onLine, this.#redact);
    const ended = Promise.withResolvers<number>();
    let timer: NodeJS.Timeout | undefined;
    const stop = (): void => {
      this.#send(`stop ${id}`);
    };
    const onCancel = (): void => {
      // A question is given up at once; a step of the transaction ends with the transaction.
      stop();
      ended.reject(new CancelledError('The workflow was cancelled.', '', { cause: signal?.reason }));
    };
    if (this.#loss !== undefined) throw this.#loss.error;
    this.#pending.set(id, {
      output,
      resolve: ended.resolve,
      reject: ended.reject,
      onBegin: () => {
        timer = setTimeout(
          () => {
            stop();
            ended.reject(
              timedOut(command, options, this.where, timeoutSeconds, 'Is the server overloaded or its disk full?'),
            );
          },
          (timeoutSeconds + 20) * 1000,
        );
      },
      isTooMuch: () => {
        stop();
        ended.reject(tooMuchOutput(command, options, this.where));
      },
    });
    if (kind === 'ask') signal?.addEventListener('abort', onCancel, { once: true });
    const input = stdinOf(command);
    this.#send(
      { file: `${id}.sh`, content: text },
      ...(input.length === 0 ? [] : [{ file: `${id}.in`, content: input }]),
      `${kind} ${id} ${Math.ceil(timeoutSeconds)} ${onAbort}`,
    );
    try {
      const exitCode = await ended.promise;
      // As `timeout` of coreutils says it.
      if (exitCode === 124)
        throw timedOut(command, options, this.where, timeoutSeconds, 'It was told to stop on the server.');
      return judgeEnding({ kind: 'exit', code: exitCode }, output.end(), command, options, this.where, this.#redact);
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onCancel);
    }
  }

  commit(): void {
    this.#send('commit');
  }

  abort(): void {
    this.#send('abort');
  }

  async close(): Promise<void> {
    clearInterval(this.#heartbeat);
    this.#send('bye');
    await this.#sending.catch(() => undefined);
    this.#process.stdin.end();
    this.#process.close();
  }
}

/** It was not asked to: what else failed, failed because of that. */
export function isOfItsOwnAccord(why: string): boolean {
  return why === 'lease' || why.startsWith('preempted ');
}

/** Why the guardian has gone back by itself. */
export function describeReason(why: string): string {
  if (why === 'lease')
    return 'The server had not heard of this runner for the time of the lease, and went back by itself.';
  if (why.startsWith('preempted ')) return `Another session has taken over: ${why.slice('preempted '.length)}.`;
  if (why.startsWith('begin ') || why.startsWith('commit '))
    return `On the server, ${why.slice(why.indexOf(' ') + 1)}.`;
  return 'The transaction was undone.';
}
