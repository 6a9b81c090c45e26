/**
 * Looks at the arguments of every process of this machine while something runs. Processes in containers share the
 * kernel, so what a sandbox server runs is seen too. A process that lives shorter than the interval can be missed:
 * let a test run its case more than once, or slow the command down.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface, type Interface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { findNode24 } from './node-binary.ts';

export interface SampledProcess {
  readonly pid: number;
  readonly argv: readonly string[];
}

export interface SamplerOptions {
  /** Milliseconds between two looks. Default 20. */
  readonly intervalMs?: number;
  /** Which processes count. Default: all. */
  readonly only?: (process: SampledProcess) => boolean;
}

export class ArgvSampler {
  readonly #child: ChildProcess;
  readonly #lines: Interface;
  readonly #seen: SampledProcess[] = [];
  readonly #only: (process: SampledProcess) => boolean;

  private constructor(child: ChildProcess, lines: Interface, only: (process: SampledProcess) => boolean) {
    this.#child = child;
    this.#lines = lines;
    this.#only = only;
  }

  /** Resolves after the first look. The sampler is a process of its own, so that a busy test does not blind it. */
  static async start(options: SamplerOptions = {}): Promise<ArgvSampler> {
    const script = fileURLToPath(new URL('./argv-sampler-process.mjs', import.meta.url));
    const child = spawn(findNode24(), [script, String(options.intervalMs ?? 20)], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    const sampler = new ArgvSampler(child, createInterface({ input: child.stdout }), options.only ?? (() => true));
    await new Promise<void>((resolve, reject) => {
      child.once('error', reject);
      child.once('exit', () => {
        reject(new Error('the sampler ended before its first look'));
      });
      sampler.#lines.on('line', (line) => {
        const [pid, argv] = JSON.parse(line) as [number, string[]];
        if (pid === 0) resolve();
        else sampler.#seen.push({ pid, argv });
      });
    });
    return sampler;
  }

  /** Takes a last look. @returns each distinct process and argument list once */
  async stop(): Promise<SampledProcess[]> {
    const closed = new Promise<void>((resolve) =>
      this.#lines.once('close', () => {
        resolve();
      }),
    );
    this.#child.stdin?.end();
    await closed;
    return this.#seen.filter(this.#only);
  }
}

/** Runs `body` under a sampler. */
export async function sampleArgv<T>(
  body: () => Promise<T>,
  options: SamplerOptions = {},
): Promise<{ readonly result: T; readonly processes: readonly SampledProcess[] }> {
  const sampler = await ArgvSampler.start(options);
  try {
    const result = await body();
    return { result, processes: await sampler.stop() };
  } catch (error) {
    await sampler.stop();
    throw error;
  }
}
