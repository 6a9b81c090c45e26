/** Real PostgreSQL and Redis servers for the tests: on random loopback ports, in a folder of their own, not as root. */
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, chownSync, constants, existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { createClient } from '@redis/client';
import { Client } from 'pg';

export const password = 'pa:ss/w@rd "1" $x'; // hostile in a URL and in a shell

export interface TestServer {
  readonly url: string;
  readonly port: number;
  start(): Promise<void>;
  stop(): Promise<void>;
  /** SIGSTOP and SIGCONT: it keeps its connections and no longer answers. */
  freeze(): void;
  thaw(): void;
  /** Stops it for good and removes its files. */
  remove(): Promise<void>;
}

export async function startPostgres(): Promise<TestServer & { connect(): Promise<Client> }> {
  const binDir = findPostgresBinDir();
  const owner = findOwner();
  const dir = createFolder('example-postgres-', owner);
  const passwordFile = join(dir, 'password');
  writeFileSync(passwordFile, password, { mode: 0o644 });
  const data = join(dir, 'data');
  const initdbArgs = ['-D', data, '-U', 'app', '-A', 'scram-sha-256', '--pwfile', passwordFile, '--no-sync', '--locale=C', '-E', 'UTF8'];
  execFileSync(join(binDir, 'initdb'), initdbArgs, { ...owner, cwd: dir, stdio: ['ignore', 'ignore', 'inherit'] });

  const port = await findFreePort();
  const connect = async () => {
    const client = new Client({ host: '127.0.0.1', port, user: 'app', database: 'postgres', password });
    client.on('error', () => {});
    await client.connect();
    return client;
  };
  const args = ['-D', data, '-p', String(port), '-c', 'listen_addresses=127.0.0.1', '-c', 'unix_socket_directories=', '-c', 'fsync=off'];
  const server = createServerProcess(join(binDir, 'postgres'), args, owner, dir, async () => (await connect()).end());
  await server.start();
  return { ...server, port, url: `postgres://app@127.0.0.1:${port}/postgres`, connect };
}

export async function startRedis(): Promise<TestServer> {
  const owner = findOwner();
  const program = findInPath('redis-server') ?? failWithHint('redis-server');
  const dir = createFolder('example-redis-', owner);
  const port = await findFreePort();
  const args = ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--dir', dir, '--requirepass', password];
  const server = createServerProcess(program, args, owner, dir, async () => {
    const client = createClient({ url: `redis://127.0.0.1:${port}`, password, socket: { reconnectStrategy: false } });
    client.on('error', () => {});
    await client.connect();
    await client.close();
  });
  await server.start();
  return { ...server, port, url: `redis://127.0.0.1:${port}` };
}

type Owner = { uid: number; gid: number } | Record<string, never>;

function createServerProcess(program: string, args: readonly string[], owner: Owner, dir: string, connect: () => Promise<void>) {
  let child: ChildProcess | undefined;
  const stop = async () => {
    const running = child;
    child = undefined;
    if (running === undefined || running.exitCode !== null || running.signalCode !== null) return;
    const exited = once(running, 'exit');
    running.kill('SIGINT'); // PostgreSQL: "fast shutdown", ends the sessions
    const killTimer = setTimeout(() => running.kill('SIGKILL'), 5000);
    await exited;
    clearTimeout(killTimer);
  };
  return {
    async start() {
      let output = '';
      const started = spawn(program, args, { ...owner, cwd: dir, stdio: ['ignore', 'pipe', 'pipe'] });
      child = started;
      for (const stream of [started.stdout, started.stderr]) stream.on('data', (chunk: Buffer) => (output += chunk.toString()));
      const deadlineMs = performance.now() + 15_000;
      for (;;) {
        if (started.exitCode !== null) throw new Error(`${program} ended with ${started.exitCode}:\n${output}`);
        const error = await connect().then(() => undefined, (reason: unknown) => reason);
        if (error === undefined) return;
        if (performance.now() > deadlineMs) throw new Error(`${program} accepts no connection: ${String(error)}\n${output}`);
        await sleep(30);
      }
    },
    stop,
    freeze: () => void child?.kill('SIGSTOP'),
    thaw: () => void child?.kill('SIGCONT'),
    async remove() {
      await stop();
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

export async function findFreePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

/** initdb and postgres refuse to run as root. */
function findOwner(): Owner {
  if (process.getuid?.() !== 0) return {};
  const readId = (flag: string) => Number(execFileSync('id', [flag, 'nobody'], { encoding: 'utf8' }));
  return { uid: readId('-u'), gid: readId('-g') };
}

function createFolder(prefix: string, owner: Owner): string {
  const dir = mkdtempSync(join(tmpdir(), prefix));
  if ('uid' in owner && owner.uid !== undefined) chownSync(dir, owner.uid, owner.gid);
  return dir;
}

/** Debian and Ubuntu keep the server's programs outside PATH. */
function findPostgresBinDir(): string {
  const packaged = '/usr/lib/postgresql';
  const versions = existsSync(packaged) ? readdirSync(packaged).sort((a, b) => Number(b) - Number(a)) : [];
  const dirs = [...versions.map((version) => join(packaged, version, 'bin')), ...(process.env['PATH'] ?? '').split(delimiter)];
  return dirs.find((dir) => isExecutable(join(dir, 'initdb')) && isExecutable(join(dir, 'postgres'))) ?? failWithHint('initdb and postgres');
}

function findInPath(name: string): string | undefined {
  return (process.env['PATH'] ?? '').split(delimiter).map((dir) => join(dir, name)).find(isExecutable);
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function failWithHint(what: string): never {
  throw new Error(`${what} not found. These tests use real servers; on Debian and Ubuntu: apt-get install postgresql redis-server`);
}
