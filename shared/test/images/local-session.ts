import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { PassThrough } from 'node:stream';
import { ConnectError } from '../../src/errors';
import type { Command } from '../../src/model/command';
import type { Completed, RunOptions, ServerProcess, Session } from '../../src/ports';

export interface LocalSessionOptions {
  /** Where names lead to: a port of this machine. What is not listed is refused. */
  readonly ports?: Readonly<Record<string, number>>;
  /** Answers to commands; undefined: exit code 127. */
  readonly answer?: ((command: Command) => Partial<Completed> | undefined) | undefined;
  /** Port of what `docker system dial-stdio` leads to. */
  readonly enginePort?: number;
  /** What `docker system dial-stdio` says on stderr instead of connecting. */
  readonly engineError?: string;
}

/** A session whose server is this machine, for tests: connections are real, commands are answered by the test. */
export class LocalSession implements Session {
  readonly where = 'deploy@server';
  readonly dialed: string[] = [];
  readonly commands: (readonly string[])[] = [];
  readonly processes: Socket[] = [];
  readonly #options: LocalSessionOptions;

  constructor(options: LocalSessionOptions) {
    this.#options = options;
  }

  async run(command: Command, options: RunOptions = {}): Promise<Completed> {
    await Promise.resolve();
    this.commands.push(command.words);
    const answer = { exitCode: 127, stdout: '', stderr: '', ...this.#options.answer?.(command) };
    for (const stream of ['stdout', 'stderr'] as const) {
      for (const line of answer[stream].split('\n')) if (line !== '') options.onLine?.(line, stream);
    }
    return answer;
  }

  async start(command: Command): Promise<ServerProcess> {
    this.commands.push(command.words);
    const stderr = new PassThrough();
    if (this.#options.engineError !== undefined) {
      stderr.end(this.#options.engineError);
      const stdout = new PassThrough();
      stdout.end();
      return { stdin: new PassThrough(), stdout, stderr, exit: Promise.resolve(1), close: () => undefined };
    }
    const socket = connect(this.#options.enginePort ?? 1, '127.0.0.1');
    await once(socket, 'connect');
    this.processes.push(socket);
    const { promise: exit, resolve } = Promise.withResolvers<number>();
    socket.once('close', () => {
      resolve(0);
    });
    return { stdin: socket, stdout: socket, stderr, exit, close: () => socket.destroy() };
  }

  async dial(host: string, port: number): Promise<Socket> {
    const target = `${host}:${port}`;
    this.dialed.push(target);
    const local = this.#options.ports?.[target];
    if (local === undefined) throw new ConnectError('refused', `From ${this.where}, ${target} cannot be reached.`, '');
    const socket = connect(local, '127.0.0.1');
    await once(socket, 'connect');
    return socket;
  }

  async close(): Promise<void> {
    await Promise.resolve();
  }
}
