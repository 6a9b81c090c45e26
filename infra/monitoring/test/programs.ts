/** Real programs for the tests: on loopback ports, in a folder of their own, ended with the test. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, chmodSync, chownSync, constants, existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { delimiter, dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const PATH = (process.env['PATH'] ?? '').split(delimiter);

/** @throws Error that says how to get it */
export function findProgram(name: string): string {
  // Debian keeps PostgreSQL's outside of PATH, and nginx in sbin.
  const packaged = '/usr/lib/postgresql';
  const folders = [
    ...PATH,
    ...PATH.map((folder) => join(dirname(folder), 'sbin')),
    ...(existsSync(packaged) ? readdirSync(packaged).map((version) => join(packaged, version, 'bin')) : []),
  ];
  const found = folders.map((folder) => join(folder, name)).find(isExecutable);
  if (found === undefined) throw new Error(`there is no ${name}: \`npm test -- adapter\` fetches it`);
  return found;
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

interface Owner {
  readonly uid?: number;
  readonly gid?: number;
}

/** Whoever root starts servers as: PostgreSQL refuses to run as root. */
function findOwner(): Owner {
  if (process.getuid?.() !== 0) return {};
  const readId = (flag: string): number => Number(execFileSync('id', [flag, 'nobody'], { encoding: 'utf8' }));
  return { uid: readId('-u'), gid: readId('-g') };
}

export interface Programs {
  /** Writable for everything that is started. */
  readonly folder: string;
  /** Starts one and waits until `answers` no longer throws or rejects. @throws Error with what it printed */
  start(name: string, args: readonly string[], answers: () => unknown, env?: Record<string, string>): Promise<void>;
  /** Runs one to its end. */
  run(name: string, args: readonly string[]): string;
  /** Ends all, and removes the folder. */
  close(): Promise<void>;
}

const START_SECONDS = 30;

export function openPrograms(): Programs {
  const folder = mkdtempSync('/var/tmp/slipway-monitoring-');
  const owner = findOwner();
  chmodSync(folder, 0o755);
  if (owner.uid !== undefined && owner.gid !== undefined) chownSync(folder, owner.uid, owner.gid);
  const running: ChildProcess[] = [];
  return {
    folder,
    async start(name, args, answers, env = {}) {
      const child = spawn(findProgram(name), args, {
        ...owner,
        cwd: folder,
        env: { ...process.env, ...env },
        stdio: ['ignore', 'pipe', 'pipe'],
      });
      running.push(child);
      let output = '';
      for (const stream of [child.stdout, child.stderr]) {
        stream.on('data', (chunk: Buffer) => (output = (output + chunk.toString()).slice(-4000)));
      }
      const deadlineMs = performance.now() + START_SECONDS * 1000;
      for (;;) {
        let problem: unknown;
        try {
          await answers();
          return;
        } catch (error) {
          problem = error;
        }
        if (child.exitCode !== null || performance.now() > deadlineMs) {
          throw new Error(`${name} does not answer: ${String(problem)}\n${output}`);
        }
        await sleep(50);
      }
    },
    run: (name, args) => execFileSync(findProgram(name), args, { ...owner, cwd: folder, encoding: 'utf8' }),
    async close() {
      for (const child of running.reverse()) {
        if (child.exitCode !== null || child.signalCode !== null) continue;
        const exited = once(child, 'exit');
        child.kill('SIGINT'); // PostgreSQL: ends the sessions
        const late = setTimeout(() => child.kill('SIGKILL'), 3000);
        await exited;
        clearTimeout(late);
      }
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

export async function findFreePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer().listen(0, '127.0.0.1');
      await once(server, 'listening');
      return server;
    }),
  );
  const ports = servers.map((server) => (server.address() as AddressInfo).port);
  await Promise.all(servers.map(async (server) => once(server.close(), 'close')));
  return ports;
}
