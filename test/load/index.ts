/**
 * Load on a URL while something else happens: half of it over kept connections, half over new ones, and some connections that
 * are mostly idle. It never waits for an answer before it asks again, and never tries again: what a visitor would have met is
 * in the report.
 *
 * ```ts
 * const load = await runLoad({ url: 'http://10.0.0.2/', release: { header: 'x-release-id' } });
 * await deploy();
 * const report = await load.stop();
 * expect(report.failed).toBe(0);
 * ```
 */
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { findNode24 } from '../e2e/harness/node-binary.ts';
import type { LoadOptions } from './generator.ts';
import type { LoadReport } from './load-report.ts';

export type { LoadOptions } from './generator.ts';
export * from './load-report.ts';

export interface Load {
  /** Where the report's clock stands now: to mark what happens meanwhile. */
  elapsedSeconds(): number;
  /** Ends the load; those under way get their answers first. The same report each time. */
  stop(): Promise<LoadReport>;
}

/** Resolves when the load has begun. @throws Error if it cannot, such as for what is no URL */
export async function runLoad(options: LoadOptions): Promise<Load> {
  if (!/^https?:$/.test(new URL(options.url).protocol)) throw new Error(`${options.url} is not an http or https URL`);
  const script = fileURLToPath(new URL('./generator-process.ts', import.meta.url));
  const env = { ...process.env };
  // Options of the test runner's own Node.
  delete env['NODE_OPTIONS'];
  const child = spawn(findNode24(), [script, JSON.stringify(options)], {
    stdio: ['pipe', 'pipe', 'pipe'],
    env,
    // A session of its own: Ctrl-C at a terminal is for us, and the report is still to come.
    detached: true,
  });
  let complaint = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (complaint += text));
  // Without a reader there is nothing to end any more; how it ended is told below.
  child.stdin.on('error', () => undefined);
  const started = Promise.withResolvers<number>();
  const reported = Promise.withResolvers<LoadReport>();
  reported.promise.catch(() => undefined);
  createInterface({ input: child.stdout }).on('line', (line) => {
    const message = JSON.parse(line) as LoadReport;
    if ('generator' in message) reported.resolve(message);
    else started.resolve((message as LoadReport).startedAtMs);
  });
  const give = (error: Error): void => {
    started.reject(error);
    reported.reject(error);
  };
  child.once('error', give);
  child.once('close', (code, signal) => {
    give(new Error(`the load generator ended (${signal ?? code ?? 0}) before its report: ${complaint.trim()}`));
  });
  const startedAtMs = await started.promise;
  return {
    elapsedSeconds: () => (Date.now() - startedAtMs) / 1000,
    stop: () => {
      child.stdin.end();
      return reported.promise;
    },
  };
}
