import { CancelledError, CommandError } from '../../src/errors';
import type { Command } from '../../src/model/command';
import { Secret } from '../../src/model/secret';
import type { Completed, RunOptions, ServerProcess, Session } from '../../src/ports';
import { renderCommand } from '../../src/shell/render';

export interface RecordedCommand {
  readonly purpose: string;
  /** As the server's shell would get it. */
  readonly text: string;
  readonly command: Command;
  readonly stdin: string;
  readonly timeoutSeconds: number | undefined;
  readonly cancellable: boolean;
}

/** What a server answers. An Error is thrown; an exit code other than 0 is one too, unless it is accepted. */
export type Answer = Partial<Completed> | Error;

/** A server that records what it is asked for, and answers as the test says. */
export class FakeSession implements Session {
  readonly where = 'deploy@server';
  readonly commands: RecordedCommand[] = [];
  isClosed = false;
  readonly #answer: (recorded: RecordedCommand, index: number) => Answer | undefined | Promise<Answer | undefined>;

  /** @param answer undefined is success without output. */
  constructor(
    answer: (recorded: RecordedCommand, index: number) => Answer | undefined | Promise<Answer | undefined> = () =>
      undefined,
  ) {
    this.#answer = answer;
  }

  /** In the order in which they were asked. */
  get purposes(): string[] {
    return this.commands.map((command) => command.purpose);
  }

  async run(command: Command, options: RunOptions = {}): Promise<Completed> {
    if (options.signal?.aborted === true) throw new CancelledError('The workflow was cancelled.', '');
    const { stdin } = command;
    const recorded: RecordedCommand = {
      purpose: options.purpose ?? '',
      text: renderCommand(command),
      command,
      stdin: stdin instanceof Secret ? stdin.reveal() : Buffer.from(stdin ?? '').toString('latin1'),
      timeoutSeconds: options.timeoutSeconds,
      cancellable: options.signal !== undefined,
    };
    this.commands.push(recorded);
    const answer = await this.#answer(recorded, this.commands.length - 1);
    if (answer instanceof Error) throw answer;
    const completed = { exitCode: 0, stdout: '', stderr: '', ...answer };
    for (const stream of ['stdout', 'stderr'] as const) {
      for (const line of completed[stream].split('\n')) if (line !== '') options.onLine?.(line, stream);
    }
    const accepted = options.accept ?? [0];
    if (accepted !== 'any' && !accepted.includes(completed.exitCode)) {
      throw new CommandError(`exit code ${completed.exitCode}`, '', completed.exitCode, completed.stderr);
    }
    return completed;
  }

  start(): Promise<ServerProcess> {
    return Promise.reject(new Error('this server starts no processes'));
  }

  dial(): Promise<never> {
    return Promise.reject(new Error('this server makes no connections'));
  }

  close(): Promise<void> {
    this.isClosed = true;
    return Promise.resolve();
  }
}
