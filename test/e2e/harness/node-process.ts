/**
 * One process of a step, started, read, cancelled and waited for as
 * https://github.com/actions/runner/blob/main/src/Runner.Sdk/ProcessInvoker.cs does it.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { HarnessError } from './harness-error.ts';
import { LineSplitter } from './line-splitter.ts';

/** The runner's own times, in milliseconds. */
const AFTER_SIGINT = 7_500;
const AFTER_SIGTERM = 2_500;
/** How long a process that has ended may keep its output open (a child of its inherited it). */
const AFTER_EXIT = 5_000;
const RSS_INTERVAL = 20;

export interface SentSignal {
  readonly signal: NodeJS.Signals;
  /** Milliseconds after the start of the process. */
  readonly atMs: number;
}

export interface ProcessRequest {
  readonly program: string;
  readonly args: readonly string[];
  readonly cwd: string;
  readonly env: Readonly<Record<string, string>>;
  /** Multiplies the runner's times; 1 is the truth. */
  readonly timeScale: number;
  readonly onLine: (line: string, stream: 'stdout' | 'stderr') => void;
}

/** All times in milliseconds. */
export interface ProcessEnd {
  /** 128 + signal number where a signal ended it. */
  readonly exitCode: number;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
  readonly startedAt: Date;
  /** Start to the first byte of output. */
  readonly firstOutputMs: number | undefined;
  readonly durationMs: number;
  /** As sampled, so a little low. */
  readonly peakRssBytes: number;
  readonly signals: readonly SentSignal[];
}

export class NodeProcess {
  readonly pid: number;
  readonly end: Promise<ProcessEnd>;
  readonly #child: ChildProcess;
  readonly #scale: number;
  readonly #startedAt = new Date();
  readonly #start = performance.now();
  readonly #signals: SentSignal[] = [];
  readonly #raw = { stdout: [] as Buffer[], stderr: [] as Buffer[] };
  #firstOutputMs: number | undefined;
  #peakRssBytes = 0;
  #ended = false;

  static async start(request: ProcessRequest): Promise<NodeProcess> {
    const child = spawn(request.program, request.args, {
      cwd: request.cwd,
      env: { ...request.env },
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    // The runner closes it: nobody is there to type.
    child.stdin.end();
    await new Promise<void>((resolve, reject) => {
      child.once('spawn', resolve);
      child.once('error', (cause) => {
        reject(new HarnessError(`${request.program} did not start: ${cause.message}`));
      });
    });
    return new NodeProcess(child, request);
  }

  private constructor(child: ChildProcess, request: ProcessRequest) {
    this.#child = child;
    this.#scale = request.timeScale;
    this.pid = child.pid ?? 0;
    for (const stream of ['stdout', 'stderr'] as const) {
      const lines = new LineSplitter((line) => {
        request.onLine(line, stream);
      });
      child[stream]?.on('data', (bytes: Buffer) => {
        this.#firstOutputMs ??= this.elapsedMs;
        this.#sampleRss();
        this.#raw[stream].push(bytes);
        lines.push(bytes);
      });
      child[stream]?.on('close', () => {
        lines.end();
      });
    }
    this.end = this.#waitForEnd();
  }

  get elapsedMs(): number {
    return Math.round(performance.now() - this.#start);
  }

  get hasEnded(): boolean {
    return this.#ended;
  }

  /** To this process only; its children hear nothing, as with the runner. */
  signal(signal: NodeJS.Signals): void {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    this.#signals.push({ signal, atMs: this.elapsedMs });
    this.#child.kill(signal);
  }

  /** SIGINT, 7.5 s, SIGTERM, 2.5 s, SIGKILL. Resolves when the process has ended. */
  async cancel(): Promise<void> {
    this.signal('SIGINT');
    if (await this.#endsWithin(AFTER_SIGINT)) return;
    this.signal('SIGTERM');
    if (await this.#endsWithin(AFTER_SIGTERM)) return;
    this.signal('SIGKILL');
    await this.end;
  }

  async #endsWithin(milliseconds: number): Promise<boolean> {
    const timer = new AbortController();
    const late = sleep(milliseconds * this.#scale, false, { signal: timer.signal }).catch(() => false);
    const ended = await Promise.race([this.end.then(() => true), late]);
    timer.abort();
    return ended;
  }

  async #waitForEnd(): Promise<ProcessEnd> {
    this.#sampleRss();
    const sampler = setInterval(() => {
      this.#sampleRss();
    }, RSS_INTERVAL);
    const closed = new Promise<void>((resolve) =>
      this.#child.once('close', () => {
        resolve();
      }),
    );
    const [code, signal] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve) =>
      this.#child.once('exit', (...end) => {
        resolve(end);
      }),
    );
    clearInterval(sampler);
    const durationMs = this.elapsedMs;
    const timer = new AbortController();
    await Promise.race([
      closed,
      sleep(AFTER_EXIT * this.#scale, undefined, { signal: timer.signal }).catch(() => undefined),
    ]);
    timer.abort();
    this.#child.stdout?.destroy();
    this.#child.stderr?.destroy();
    this.#ended = true;
    return {
      exitCode: code ?? 128 + (signal === null ? 0 : constants.signals[signal]),
      signal,
      stdout: Buffer.concat(this.#raw.stdout).toString('utf8'),
      stderr: Buffer.concat(this.#raw.stderr).toString('utf8'),
      startedAt: this.#startedAt,
      firstOutputMs: this.#firstOutputMs,
      durationMs,
      peakRssBytes: this.#peakRssBytes,
      signals: this.#signals,
    };
  }

  #sampleRss(): void {
    try {
      const kilobytes = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${this.pid}/status`, 'utf8'))?.[1];
      if (kilobytes !== undefined) this.#peakRssBytes = Number(kilobytes) * 1024;
    } catch {
      // It has just ended, or this is not Linux.
    }
  }
}
