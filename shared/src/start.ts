/** The composition root: builds the ports, catches once, sets the exit code. */
import { createReporter, createRunner, failRun } from './adapters/actions-runner';
import { systemClock } from './adapters/clock';
import { openGithub } from './adapters/github';
import { createHttp } from './adapters/http-client';
import { openLocal } from './adapters/local-session';
import { connectSsh } from './adapters/ssh-session';
import { openWorkspace } from './adapters/workspace';
import { SlipwayError } from './errors';
import type { Ports } from './ports';
import { Redactor } from './shell/redact';

/**
 * Runs an action. A cancelled workflow (SIGINT, then SIGTERM 7.5 s later) aborts `ports.signal`, so that `run` can put
 * things right in the 10 s before SIGKILL.
 */
export async function start(run: (ports: Ports) => Promise<void>): Promise<void> {
  const cancel = new AbortController();
  const onSignal = (): void => {
    cancel.abort();
  };
  process.on('SIGINT', onSignal);
  process.on('SIGTERM', onSignal);
  const redactor = new Redactor();
  const runner = createRunner(process.env);
  const redact = (text: string): string => redactor.redact(text);
  try {
    await run({
      runner,
      reporter: createReporter(redactor, process.env),
      clock: systemClock,
      http: createHttp(),
      connect: (host, options = {}) =>
        host.kind === 'local' ? openLocal(options, redact) : connectSsh(host, options, redact),
      github: (token) => openGithub(token, process.env),
      workspace: openWorkspace(runner.context.workspace),
      signal: cancel.signal,
    });
  } catch (error) {
    failRun(redact(describeFailure(error)));
  } finally {
    process.off('SIGINT', onSignal);
    process.off('SIGTERM', onSignal);
    // Sockets that linger (keep-alive, a dead peer) must not hold a finished step.
    setTimeout(() => process.exit(), 1000).unref();
  }
}

function describeFailure(error: unknown): string {
  if (error instanceof SlipwayError) return error.hint === '' ? error.message : `${error.message}\n${error.hint}`;
  // Not one of ours: a defect. The stack is what its report needs.
  return `Unexpected error in Slipway: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\nPlease report it with this text.`;
}
