/** Runs the built application as its container would: `node dist/server.js` with an environment, signals and exit codes. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { password } from './servers.ts';

export interface LogLine {
  readonly level: string;
  readonly message: string;
  readonly [field: string]: unknown;
}

export interface ApplicationProcess {
  readonly pid: number;
  readonly lines: readonly LogLine[];
  readonly output: () => string;
  /** Resolves once it listens. */
  readonly listening: Promise<string>;
  readonly exited: Promise<number | null>;
  /** @returns the status and the parsed JSON body */
  get(path: string): Promise<{ status: number; body: Record<string, any>; headers: Headers }>;
  kill(signal: NodeJS.Signals): void;
}

export const dist = join(__dirname, '..', '..', 'dist');

export function startApplicationProcess(environment: Readonly<Record<string, string>>, command: readonly string[] = []): ApplicationProcess {
  const child = spawn(process.execPath, [join(dist, 'server.js'), ...command], {
    env: { PATH: process.env['PATH'], HOST: '127.0.0.1', PORT: '0', RELEASE_ID: 'r1', DATABASE_PASSWORD: password, REDIS_PASSWORD: password, ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const lines: LogLine[] = [];
  let output = '';
  let rest = '';
  let announce: (baseUrl: string) => void = () => {};
  const exited = once(child, 'close').then(([code]) => code as number | null);
  const listening = new Promise<string>((resolve, reject) => {
    announce = resolve;
    void exited.then((code) => reject(new Error(`the application ended with ${code} before it listened:\n${output}`)));
  });
  listening.catch(() => {}); // not every test waits for it
  child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()));
  child.stdout.on('data', (chunk: Buffer) => {
    output += chunk.toString();
    rest += chunk.toString();
    const complete = rest.split('\n');
    rest = complete.pop() ?? '';
    for (const text of complete) {
      const line = JSON.parse(text) as LogLine; // every line must be JSON
      lines.push(line);
      if (line.message === 'listening') announce(`http://127.0.0.1:${String(line['port'])}`);
    }
  });
  return {
    pid: child.pid ?? 0,
    lines,
    output: () => output,
    listening,
    exited,
    kill: (signal) => void child.kill(signal),
    async get(path) {
      const response = await fetch(`${await listening}${path}`);
      const text = await response.text();
      const isJson = response.headers.get('content-type')?.startsWith('application/json') ?? false;
      return { status: response.status, headers: response.headers, body: (isJson ? JSON.parse(text) : { text }) as Record<string, any> };
    },
  };
}

/** Ends it whatever state it is in. */
export async function endApplicationProcess(application: ApplicationProcess | undefined): Promise<void> {
  application?.kill('SIGKILL');
  await application?.exited;
}

export async function waitUntil(what: string, isTrue: () => boolean | Promise<boolean>, timeoutMs = 8000): Promise<void> {
  const deadlineMs = performance.now() + timeoutMs;
  while (!(await isTrue())) {
    if (performance.now() > deadlineMs) throw new Error(`waited ${timeoutMs} ms in vain until ${what}`);
    await sleep(25);
  }
}
