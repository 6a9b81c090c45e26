/**
 * `host: local`: a self-hosted runner that is the server itself. Programs run as they would after a login over SSH: in the
 * home folder, without the runner's variables.
 *
 * Node's own `spawn` and not @actions/exec: that has neither deadline nor abort signal, prints every command into the log, and
 * joins and splits words by rules of its own.
 */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createConnection } from 'node:net';
import { homedir } from 'node:os';
import type { Duplex } from 'node:stream';
import { CancelledError, CommandError, ConnectError, TimeoutError } from '../errors';
import type { Command } from '../model/command';
import { describeHost } from '../model/host';
import type { Completed, ConnectOptions, RunOptions, ServerProcess, Session } from '../ports';
import {
  CommandOutput,
  type Ending,
  judgeEnding,
  type Redact,
  stdinOf,
  timedOut,
  tooMuchOutput,
} from '../shell/command-output';
import { inBrackets } from './foreign-error';
import { interruption } from './interruption';

const RUN_SECONDS = 60;
const DIAL_SECONDS = 30;
/** Between SIGTERM and SIGKILL. */
const GRACE_SECONDS = 5;

/**
 * What a child gets of our environment: what a login would give, and how to reach Docker and the network. The runner's
 * variables hold secrets (INPUT_*, GITHUB_TOKEN, ACTIONS_*) and the files through which a step speaks to the runner
 * (GITHUB_OUTPUT ...), and a Compose file would interpolate any of them.
 */
const PASSED_ON =
  /^(?:PATH|HOME|USER|LOGNAME|SHELL|LANG|LANGUAGE|LC_[A-Z]+|TZ|TMPDIR|XDG_(?:RUNTIME_DIR|CONFIG_HOME)|DOCKER_(?:HOST|CONTEXT|CONFIG|CERT_PATH|TLS_VERIFY)|(?:https?|no|all)_proxy|(?:HTTPS?|NO|ALL)_PROXY)$/;

/** By this variable the runner finds what a job left running, and ends it with the job. */
const TRACKING = 'RUNNER_TRACKING_ID';

/** The machine itself as a session. */
export function openLocal(
  options: ConnectOptions,
  redact: Redact,
  environment: NodeJS.ProcessEnv = process.env,
): Promise<Session> {
  if (options.signal?.aborted === true) return Promise.reject(new CancelledError('The workflow was cancelled.', ''));
  return Promise.resolve(new LocalSession(redact, environment));
}

class LocalSession implements Session {
  readonly where = describeHost({ kind: 'local' });
  readonly #redact: Redact;
  readonly #environment: NodeJS.ProcessEnv;
  readonly #closed = new AbortController();

  constructor(redact: Redact, environment: NodeJS.ProcessEnv) {
    this.#redact = redact;
    this.#environment = environment;
  }

  async run(command: Command, options: RunOptions = {}): Promise<Completed> {
    const seconds = options.timeoutSeconds ?? RUN_SECONDS;
    let hasExited = false;
    const limit = interruption(
      seconds,
      () =>
        timedOut(
          command,
          options,
          this.where,
          seconds,
          hasExited
            ? 'The program itself has ended, but something that it left in the background holds its output open: redirect that to a file or /dev/null.'
            : 'Is the machine overloaded or its disk full? A command that asks a question waits for ever, too.',
        ),
      options.signal,
      this.#closed.signal,
    );
    let child: ChildProcessWithoutNullStreams | undefined;
    try {
      limit.signal.throwIfAborted();
      const running = this.#spawn(command, true);
      child = running;
      const output = new CommandOutput(command, options.onLine, this.#redact);
      let isTooMuch = (): void => undefined;
      const tooMuch = new Promise<never>((_, reject) => {
        isTooMuch = () => {
          reject(tooMuchOutput(command, options, this.where));
        };
      });
      for (const stream of ['stdout', 'stderr'] as const) {
        running[stream].on('data', (chunk: Buffer) => {
          if (!output.add(stream, chunk)) isTooMuch();
        });
      }
      running.once('exit', () => {
        hasExited = true;
      });
      const ending = endingOf(running, 'close');
      running.stdin.end(stdinOf(command));
      const [program] = command.words;
      const how = await limit.race(Promise.race([ending, tooMuch]));
      if (how.kind !== 'unstarted') {
        child = undefined;
        return judgeEnding(how, output.end(), command, options, this.where, this.#redact);
      }
      // As a shell would say it.
      const complaint = { stdout: '', stderr: `${program}: ${how.message}\n` };
      return judgeEnding({ kind: 'exit', code: how.code }, complaint, command, options, this.where, this.#redact);
    } finally {
      limit.dispose();
      if (child !== undefined) endGroup(child);
    }
  }

  async start(command: Command): Promise<ServerProcess> {
    this.#closed.signal.throwIfAborted();
    const child = this.#spawn(command, false);
    const [program] = command.words;
    const ending = endingOf(child, 'exit');
    await Promise.race([
      ending,
      new Promise<void>((resolve) => {
        child.once('spawn', resolve);
      }),
    ]);
    const exit = this.#exitOf(ending, program);
    // Who does not wait for it must not be ended by its rejection.
    exit.catch(() => undefined);
    if (command.stdin !== undefined) child.stdin.write(stdinOf(command));
    const close = (): void => {
      // As when a connection is gone: end of input, nobody reads, and it may go on.
      child.stdin.destroy();
      child.stdout.destroy();
      child.stderr.destroy();
      child.unref();
    };
    this.#closed.signal.addEventListener('abort', close, { once: true });
    return {
      stdin: child.stdin,
      stdout: child.stdout,
      stderr: child.stderr,
      exit,
      close,
    };
  }

  async #exitOf(ending: Promise<Ending | Unstarted>, program: string): Promise<number> {
    const how = await ending;
    switch (how.kind) {
      case 'exit':
        return how.code;
      case 'signal':
        throw new ConnectError(
          'lost',
          `${program} on ${this.where} was killed by signal ${how.name}.`,
          'Someone, or the system, ended it.',
        );
      case 'unstarted':
        throw new CommandError(
          `Could not run ${program} on ${this.where}: ${how.message}.`,
          `Install ${program} on this machine.`,
          how.code,
          '',
        );
    }
  }

  /** In a session of its own: a signal to the step is not one to the program, and we can end it with all its children. */
  #spawn(command: Command, isTracked: boolean): ChildProcessWithoutNullStreams {
    const env = Object.fromEntries(
      Object.entries(this.#environment).filter(([name]) => PASSED_ON.test(name) || (isTracked && name === TRACKING)),
    );
    const [program, ...rest] = command.words;
    const child = spawn(program, rest, {
      cwd: homeOf(this.#environment),
      env,
      detached: true,
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    // A program need not read its input.
    for (const stream of [child.stdin, child.stdout, child.stderr]) stream.on('error', () => undefined);
    return child;
  }

  async dial(host: string, port: number): Promise<Duplex> {
    const target = `${host.includes(':') ? `[${host}]` : host}:${port}`;
    const limit = interruption(
      DIAL_SECONDS,
      () =>
        new TimeoutError(
          `Could not connect to ${target} from ${this.where}: no answer within ${DIAL_SECONDS} s.`,
          'Does something listen there, and does a firewall drop packets?',
        ),
      undefined,
      this.#closed.signal,
    );
    const socket = createConnection({ host, port, noDelay: true });
    socket.on('error', () => undefined);
    try {
      await limit.race(
        new Promise<void>((resolve, reject) => {
          socket.once('connect', resolve);
          socket.once('error', reject);
        }),
      );
      return socket;
    } catch (error) {
      socket.destroy();
      limit.signal.throwIfAborted();
      throw new ConnectError(
        'refused',
        `From ${this.where}, ${target} cannot be reached${inBrackets(error)}.`,
        'Does something listen there?',
        { cause: error },
      );
    } finally {
      limit.dispose();
    }
  }

  close(): Promise<void> {
    this.#closed.abort(new ConnectError('lost', `The session on ${this.where} was closed.`, ''));
    return Promise.resolve();
  }
}

/** A service's home need not exist; then a program could not be started in it. */
function homeOf(environment: NodeJS.ProcessEnv): string {
  const home = environment['HOME'] ?? homedir();
  return existsSync(home) ? home : '/';
}

/** The program could not be started at all; the code is the one that a shell would give. */
interface Unstarted {
  readonly kind: 'unstarted';
  readonly code: 126 | 127;
  readonly message: string;
}

/** `exit` does not wait for the end of all output, `close` does. */
function endingOf(child: ChildProcessWithoutNullStreams, event: 'exit' | 'close'): Promise<Ending | Unstarted> {
  return new Promise((resolve) => {
    child.once('error', (error: NodeJS.ErrnoException) => {
      if (child.pid !== undefined) return;
      const isMissing = error.code === 'ENOENT';
      resolve({ kind: 'unstarted', code: isMissing ? 127 : 126, message: isMissing ? 'not found' : 'cannot be run' });
    });
    child.once(event, (code: number | null, signal: NodeJS.Signals | null) => {
      resolve(code === null ? { kind: 'signal', name: signal ?? 'unknown' } : { kind: 'exit', code });
    });
  });
}

/** Ends a program and what it started. */
function endGroup(child: ChildProcessWithoutNullStreams): void {
  const { pid } = child;
  child.stdin.destroy();
  child.stdout.destroy();
  child.stderr.destroy();
  if (pid === undefined) return;
  const signal = (name: NodeJS.Signals): void => {
    try {
      process.kill(-pid, name);
    } catch {
      // None of the group is left.
    }
  };
  signal('SIGTERM');
  setTimeout(() => {
    signal('SIGKILL');
  }, GRACE_SECONDS * 1000).unref();
}
