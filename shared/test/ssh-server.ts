/**
 * An SSH server inside the test's own process: ssh2's server behind a small TCP relay, through which the network can be cut,
 * frozen or reset. Commands run with a real `sh`, as sshd does it, unless a test gives its own handler.
 */
import { spawn } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { connect, createServer, type AddressInfo, type Server as NetServer, type Socket } from 'node:net';
import { type Algorithms, type Client, type Connection, Server, type ServerChannel } from 'ssh2';
import type { SshHost } from '../src/model/host';
import { Secret } from '../src/model/secret';
import { parsePrivateKey, type PrivateKey } from '../src/shell/private-key';

/** A key as a file, and as it is used. */
export interface TestKey {
  readonly text: string;
  readonly key: PrivateKey;
}

export function makeKey(type: 'ed25519' | 'rsa' | 'ecdsa' = 'ed25519'): TestKey {
  const { privateKey } =
    type === 'rsa'
      ? generateKeyPairSync('rsa', { modulusLength: 2048 })
      : type === 'ecdsa'
        ? generateKeyPairSync('ec', { namedCurve: 'P-256' })
        : generateKeyPairSync('ed25519');
  const text = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
  return { text, key: parsePrivateKey(text, '') };
}

export interface SshServerOptions {
  /** Default: one Ed25519 key. */
  readonly hostKeys?: readonly TestKey[];
  /** Whose login is accepted. Default: a key made for the server, see {@link SshServer.clientKey}. */
  readonly authorized?: readonly PrivateKey[];
  /** What the server says it would accept. Default `publickey`. */
  readonly methods?: ('publickey' | 'password' | 'keyboard-interactive')[];
  /** The key is taken, but is not enough. */
  readonly secondFactor?: boolean;
  /** Answers a command instead of `sh`. */
  readonly onExec?: (command: string, channel: ServerChannel) => void;
  /** More open sessions than this are refused, as by sshd's MaxSessions. */
  readonly maxSessions?: number;
  readonly refuseForwarding?: boolean;
  /** Never answers the login, or never an exec. */
  readonly hangAt?: 'login' | 'exec';
  readonly algorithms?: Algorithms;
  /** The relay resets the connection when it has passed on this many bytes to the client. */
  readonly dropAfterBytes?: number;
  /** The relay passes on no more than this from the client. */
  readonly bytesPerSecond?: number;
}

export interface SshServer {
  readonly port: number;
  readonly clientKey: TestKey;
  readonly hostKey: TestKey;
  /** Commands as they arrived. */
  readonly commands: readonly string[];
  /** Signals that the client asked for. */
  readonly signals: readonly string[];
  /** Methods of login that the client tried. */
  readonly attempts: readonly string[];
  /** The most sessions that were open at once. */
  readonly peakSessions: number;
  /** A host that logs in, with what the test wants different. */
  host(changes?: Partial<SshHost>): SshHost;
  /** A line that pins the host key. */
  knownHostsLine(key?: TestKey): string;
  /** Nothing gets through any more, nobody is told. */
  freeze(): void;
  /** RST to the client. */
  reset(): void;
  /** FIN to the client. */
  hangUp(): void;
  close(): Promise<void>;
}

export async function startSshServer(options: SshServerOptions = {}): Promise<SshServer> {
  const clientKey = makeKey();
  const hostKeys = options.hostKeys ?? [makeKey()];
  const [hostKey = makeKey()] = hostKeys;
  const authorized = options.authorized ?? [clientKey.key];
  const commands: string[] = [];
  const signals: string[] = [];
  const attempts: string[] = [];
  const sessions = { open: 0, peak: 0 };
  const ssh = new Server(
    {
      // Wrapped: ssh2's server takes a parsed key only so, whatever its types say.
      hostKeys: hostKeys.map(({ key }) => ({ key: key.reveal() })),
      ...(options.algorithms === undefined ? {} : { algorithms: options.algorithms }),
    },
    (connection) => {
      connection.on('error', () => undefined);
      connection.setMaxListeners(0);
      // Without it each answer waits 40 ms for an acknowledgement.
      (connection as unknown as Client).setNoDelay(true);
      acceptLogin(connection, options, authorized, attempts);
      acceptSessions(connection, options, commands, signals, sessions);
      acceptForwarding(connection, options);
    },
  );
  const sshPort = await listen(ssh);
  const pairs = new Set<readonly [client: Socket, server: Socket]>();
  const relay = createServer((client) => {
    const server = connect({ port: sshPort, host: '127.0.0.1', noDelay: true });
    client.setNoDelay(true);
    const pair = [client, server] as const;
    pairs.add(pair);
    let passed = 0;
    client.on('data', (chunk: Buffer) => {
      server.write(chunk);
      if (options.bytesPerSecond === undefined) return;
      client.pause();
      setTimeout(() => client.resume(), (chunk.length / options.bytesPerSecond) * 1000);
    });
    server.on('data', (chunk: Buffer) => {
      passed += chunk.length;
      if (options.dropAfterBytes !== undefined && passed > options.dropAfterBytes) client.resetAndDestroy();
      else client.write(chunk);
    });
    for (const [socket, other] of [pair, [server, client] as const]) {
      socket.on('error', () => undefined);
      socket.on('end', () => other.end());
      socket.on('close', () => {
        other.destroy();
        pairs.delete(pair);
      });
    }
  });
  const port = await listen(relay);
  const knownHostsLine = (key = hostKey): string => `[127.0.0.1]:${port} ${key.key.publicLine}`;
  return {
    port,
    clientKey,
    hostKey,
    commands,
    signals,
    attempts,
    get peakSessions() {
      return sessions.peak;
    },
    knownHostsLine,
    host: (changes = {}) => ({
      kind: 'ssh',
      address: '127.0.0.1',
      port,
      user: 'deploy',
      privateKey: new Secret(clientKey.text),
      passphrase: new Secret(''),
      trust: { knownHosts: knownHostsLine(), fingerprint: '' },
      ...changes,
    }),
    freeze: () => {
      for (const [client, server] of pairs) {
        for (const socket of [client, server]) {
          socket.removeAllListeners('data');
          socket.pause();
        }
      }
    },
    reset: () => {
      for (const [client] of pairs) client.resetAndDestroy();
    },
    hangUp: () => {
      for (const [client] of pairs) client.end();
    },
    close: async () => {
      for (const [client, server] of pairs) {
        client.destroy();
        server.destroy();
      }
      await Promise.all([closeServer(relay), closeServer(ssh)]);
    },
  };
}

/** A TCP server that is no SSH server. */
export async function startPlainServer(
  onConnection: (socket: Socket) => void,
): Promise<{ port: number; close: () => Promise<void> }> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    socket.on('close', () => sockets.delete(socket));
    onConnection(socket);
  });
  const port = await listen(server);
  return {
    port,
    close: async () => {
      for (const socket of sockets) socket.destroy();
      await closeServer(server);
    },
  };
}

async function listen(server: NetServer): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return (server.address() as AddressInfo).port;
}

async function closeServer(server: NetServer): Promise<void> {
  await new Promise<void>((resolve) =>
    server.close(() => {
      resolve();
    }),
  );
}

function acceptLogin(
  connection: Connection,
  options: SshServerOptions,
  authorized: readonly PrivateKey[],
  attempts: string[],
): void {
  const methods = options.methods ?? ['publickey'];
  connection.on('authentication', (context) => {
    attempts.push(context.method);
    if (options.hangAt === 'login') return;
    if (context.method !== 'publickey' || !methods.includes('publickey')) {
      context.reject(methods);
      return;
    }
    const { algo, data } = context.key;
    const known = authorized.find((key) => key.reveal().getPublicSSH().equals(data));
    if (known === undefined) {
      context.reject(methods);
      return;
    }
    if (context.signature === undefined || context.blob === undefined) {
      context.accept();
      return;
    }
    const isValid = known.reveal().verify(context.blob, context.signature, context.hashAlgo);
    if (!isValid) throw new Error(`bad signature with ${algo}`);
    if (options.secondFactor === true) context.reject(['keyboard-interactive'], true);
    else context.accept();
  });
}

function acceptSessions(
  connection: Connection,
  options: SshServerOptions,
  commands: string[],
  signals: string[],
  sessions: { open: number; peak: number },
): void {
  let open = 0;
  connection.on('session', (accept, reject) => {
    if (open >= (options.maxSessions ?? 10)) {
      reject();
      return;
    }
    const session = accept();
    open++;
    sessions.open++;
    sessions.peak = Math.max(sessions.peak, sessions.open);
    let kill: (name: string) => void = () => undefined;
    session.on('signal', (_accept: unknown, _reject: unknown, info: { name: string }) => {
      signals.push(info.name);
      kill(info.name);
    });
    session.on('exec', (acceptExec, _rejectExec, info) => {
      commands.push(info.command);
      if (options.hangAt === 'exec') return;
      const channel = acceptExec();
      channel.on('error', () => undefined);
      let isCounted = true;
      const leave = (): void => {
        if (!isCounted) return;
        isCounted = false;
        open--;
        sessions.open--;
      };
      channel.on('close', leave);
      if (options.onExec !== undefined) {
        options.onExec(info.command, channel);
        return;
      }
      const child = spawn('sh', ['-c', `exec ${info.command}`], { detached: true, stdio: ['pipe', 'pipe', 'pipe'] });
      child.stdin.on('error', () => undefined);
      kill = (name) => {
        if (child.pid === undefined) return;
        try {
          process.kill(-child.pid, name.startsWith('SIG') ? name : `SIG${name}`);
        } catch {
          // Gone already.
        }
      };
      channel.pipe(child.stdin);
      child.stdout.pipe(channel, { end: false });
      child.stderr.pipe(channel.stderr, { end: false });
      child.on('close', (code, signal) => {
        if (code === null) channel.exit((signal ?? 'SIGKILL').slice(3), false, '');
        else channel.exit(code);
        channel.end();
        channel.close();
        leave();
      });
      connection.on('close', () => {
        kill('SIGKILL');
      });
    });
  });
}

function acceptForwarding(connection: Connection, options: SshServerOptions): void {
  // Without a listener ssh2 answers ADMINISTRATIVELY_PROHIBITED, as sshd does for what it does not allow.
  if (options.refuseForwarding === true) return;
  connection.on('tcpip', (accept, reject, info) => {
    const socket = connect({ host: info.destIP, port: info.destPort });
    socket.once('error', () => {
      reject();
    });
    socket.once('connect', () => {
      const channel = accept();
      channel.on('error', () => undefined);
      socket.removeAllListeners('error');
      socket.on('error', () => undefined);
      channel.pipe(socket).pipe(channel);
      channel.on('close', () => socket.destroy());
    });
  });
}
