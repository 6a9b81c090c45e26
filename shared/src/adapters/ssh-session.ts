/**
 * One SSH connection to one server. The host key is verified or the connection refused; the only login is our key; a lost
 * connection, a signal or a missing exit code is an error, never a success.
 */
import { createConnection, type Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { NodeSSH } from 'node-ssh';
import type { AuthHandlerMiddleware, Channel, Client, ClientChannel } from 'ssh2';
import { ConnectError, SlipwayError, TimeoutError } from '../errors';
import type { Command } from '../model/command';
import { describeHost, type SshHost } from '../model/host';
import type { Completed, ConnectOptions, RunOptions, ServerProcess, Session } from '../ports';
import { excerpt } from '../shell/excerpt';
import {
  algorithmsFor,
  HOST_KEY_TYPES,
  type HostKeyType,
  type HostPins,
  judgeHostKey,
  pinnedTypes,
  selectPins,
  typeOfBlob,
} from '../shell/known-hosts';
import { parsePrivateKey, type PrivateKey } from '../shell/private-key';
import { renderCommand } from '../shell/render';
import {
  CommandOutput,
  describePurpose,
  type Ending,
  judgeEnding,
  type Redact,
  stdinOf,
  timedOut,
  tooMuchOutput,
} from '../shell/command-output';
import { field, inBrackets, messageOf } from './foreign-error';
import { interruption, type Interruption } from './interruption';
import {
  connectTimedOut,
  describeDialError,
  describeLoginError,
  describeSocketError,
  isRevoked,
  type LoginNotes,
  type Progress,
  refuseHostKeys,
  refuseUnusablePins,
} from './ssh-diagnosis';

export interface SshOptions extends ConnectOptions {
  /** Seconds between two questions whether the server is still there; after three without a sign of life it counts as lost. Default 5. */
  readonly keepaliveSeconds?: number;
}

const CONNECT_SECONDS = 20;
const RUN_SECONDS = 60;
/** For opening a channel: no more than a round trip, and the wait for a free one. */
const OPEN_SECONDS = 30;
const KEEPALIVE_SECONDS = 5;
const MISSED_KEEPALIVES = 3;
/** sshd's MaxSessions is 10 by default; what is above it is refused, not queued. */
const MAX_CHANNELS = 8;
/** How much of a program's input is under way at once: at first, at least, and at most. */
const BURST_BYTES = { first: 64 * 1024, least: 16 * 1024, most: 1024 * 1024 };
/** How long a burst may take until it has arrived: what is quicker is doubled, what is slower halved. */
const BURST_MS = { quick: 1000, slow: 2000 };

/**
 * Connects, verifies the host key and logs in.
 *
 * @throws ConnectError, InputError (trust that cannot be understood), CancelledError
 */
export async function connectSsh(host: SshHost, options: SshOptions, redact: Redact): Promise<Session> {
  const key = parsePrivateKey(host.privateKey.reveal(), host.passphrase.reveal());
  const pins = selectPins(host.trust, host.address, host.port);
  refuseUnusablePins(host, pins);
  const seconds = options.timeoutSeconds ?? CONNECT_SECONDS;
  const progress: Progress = { phase: 'tcp', greeting: '' };
  const limit = interruption(seconds, () => connectTimedOut(host, seconds, progress), options.signal);
  try {
    return await logIn(host, key, pins, options, redact, limit, progress);
  } finally {
    limit.dispose();
  }
}

/**
 * A server shows one key a connection. Where only a fingerprint was given, we do not know of which type: if the first key
 * is another one, the other types are asked for, each with a connection of its own.
 */
async function logIn(
  host: SshHost,
  key: PrivateKey,
  pins: HostPins,
  options: SshOptions,
  redact: Redact,
  limit: Interruption,
  progress: Progress,
): Promise<Session> {
  const presented: Buffer[] = [];
  let types = pinnedTypes(pins);
  for (;;) {
    const attempt = await tryLogIn(host, key, pins, types, options, redact, limit, progress);
    switch (attempt.kind) {
      case 'in':
        return attempt.session;
      case 'failed':
        throw attempt.error;
      case 'no-common-key':
        if (presented.length > 0) throw refuseHostKeys(host, pins, presented);
        // The server has no key of a pinned type. Ask what it has, only to show it: none of these can be trusted.
        types = HOST_KEY_TYPES.filter((type) => !types.includes(type));
        if (types.length === 0) throw attempt.error;
        break;
      case 'refused-key': {
        const { key: shown } = attempt;
        presented.push(shown);
        types = types.filter((type) => type !== typeOfBlob(shown));
        if (pins.hasKnownHosts || pins.fingerprint === '' || types.length === 0 || isRevoked(pins, shown))
          throw refuseHostKeys(host, pins, presented);
      }
    }
  }
}

type Attempt =
  | { readonly kind: 'in'; readonly session: Session }
  /** The key that the server presented is not trusted. */
  | { readonly kind: 'refused-key'; readonly key: Buffer }
  | { readonly kind: 'no-common-key'; readonly error: ConnectError }
  | { readonly kind: 'failed'; readonly error: ConnectError };

async function tryLogIn(
  host: SshHost,
  key: PrivateKey,
  pins: HostPins,
  types: readonly HostKeyType[],
  options: SshOptions,
  redact: Redact,
  limit: Interruption,
  progress: Progress,
): Promise<Attempt> {
  progress.phase = 'tcp';
  progress.greeting = '';
  const socket = createConnection({
    host: host.address,
    port: host.port,
    // Small packets go at once: a turn took 135 to 244 ms with Nagle's algorithm and 89 ms without.
    noDelay: true,
    // Node gives each address of a name 250 ms by default, less than a far server needs.
    autoSelectFamilyAttemptTimeout: 2000,
  });
  // For the socket's whole life: an error without a listener would end the process.
  socket.on('error', () => undefined);
  try {
    await limit.race(connected(socket));
  } catch (error) {
    socket.destroy();
    throw error instanceof SlipwayError ? error : describeSocketError(host, error);
  }
  progress.phase = 'banner';
  let refusedKey: Buffer | undefined;
  const login: LoginNotes = { methods: [], isPartial: false };
  const errors: Error[] = [];
  const ssh = new NodeSSH();
  const keepaliveSeconds = options.keepaliveSeconds ?? KEEPALIVE_SECONDS;
  const connecting = ssh.connect({
    sock: socket,
    host: host.address,
    username: host.user,
    authHandler: offerOnly(key, host.user, login, progress),
    hostVerifier: (presented: Buffer) => {
      progress.phase = 'key-exchange';
      if (judgeHostKey(pins, presented).kind === 'trusted') return true;
      refusedKey = Buffer.from(presented);
      return false;
    },
    algorithms: { serverHostKey: algorithmsFor(types), compress: ['none'] },
    // Our own deadline rules, over all attempts.
    readyTimeout: 0,
    // ssh2 asks; whether the server is gone is judged by Liveness.
    keepaliveInterval: keepaliveSeconds * 1000,
    keepaliveCountMax: Number.MAX_SAFE_INTEGER,
  });
  // node-ssh makes its client and connects it before it first waits, so the client is here, and nothing was missed.
  const client = ssh.connection;
  if (client === null) {
    socket.destroy();
    await connecting;
    throw new Error('node-ssh made no client');
  }
  client.on('error', (error) => errors.push(error));
  client.on('handshake', () => {
    progress.phase = 'login';
  });
  const onData = (chunk: Buffer): void => {
    if (progress.greeting.length < 256) progress.greeting += chunk.toString('latin1', 0, 256);
    if (progress.greeting.includes('SSH-2.0-') && progress.phase === 'banner') progress.phase = 'key-exchange';
  };
  socket.prependListener('data', onData);
  try {
    await limit.race(connecting);
    socket.off('data', onData);
    // The error listener above stays: it hears what comes when nobody waits.
    return { kind: 'in', session: new SshSession(host, client, socket, redact, errors, keepaliveSeconds) };
  } catch (error) {
    socket.destroy();
    if (error instanceof SlipwayError) throw error;
    if (refusedKey !== undefined) return { kind: 'refused-key', key: refusedKey };
    const [first = error] = errors;
    const isKeyMissing = messageOf(first).includes('no matching host key');
    return {
      kind: isKeyMissing ? 'no-common-key' : 'failed',
      error: describeLoginError(host, key, first, login, progress),
    };
  }
}

async function connected(socket: Socket): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve);
    socket.once('error', reject);
  });
}

/** Our key, once. Never a password, a keyboard, an agent, nor `none`. */
function offerOnly(key: PrivateKey, username: string, notes: LoginNotes, progress: Progress): AuthHandlerMiddleware {
  let isOffered = false;
  // `false` says that there is nothing else to try: ssh2 documents it, its types know only `next`.
  return (methodsLeft: readonly string[] | null, partialSuccess: boolean | null, next): false | undefined => {
    progress.phase = 'login';
    if (isOffered) {
      notes.methods = methodsLeft ?? [];
      notes.isPartial = partialSuccess === true;
      return false;
    }
    isOffered = true;
    next({ type: 'publickey', username, key: key.reveal() });
    return undefined;
  };
}

/** The places for channels; who comes when all are taken waits in line. */
class Slots {
  readonly #count: number;
  #inUse = 0;
  readonly #waiting: (() => void)[] = [];

  constructor(count: number) {
    this.#count = count;
  }

  get inUse(): number {
    return this.#inUse;
  }

  /** @returns what gives the place back; calling it twice does no harm. */
  async take(limit: Interruption): Promise<() => void> {
    limit.signal.throwIfAborted();
    while (this.#inUse >= this.#count) {
      let wake = (): void => undefined;
      const turn = new Promise<void>((resolve) => {
        wake = resolve;
      });
      this.#waiting.push(wake);
      try {
        await limit.race(turn);
      } catch (error) {
        const at = this.#waiting.indexOf(wake);
        if (at >= 0) this.#waiting.splice(at, 1);
        // It was our turn at the very moment we gave up: the next one's.
        else this.#waiting.shift()?.();
        throw error;
      }
    }
    this.#inUse++;
    let isTaken = true;
    return () => {
      if (!isTaken) return;
      isTaken = false;
      this.#inUse--;
      this.#waiting.shift()?.();
    };
  }
}

/** A program could not be started; the connection is all right. */
class ChannelRefusedError extends ConnectError {}

class SshSession implements Session {
  readonly where: string;
  readonly #client: Client;
  readonly #socket: Socket;
  readonly #redact: Redact;
  readonly #errors: readonly Error[];
  readonly #slots = new Slots(MAX_CHANNELS);
  /** Aborted with a ConnectError as soon as the connection is gone. */
  readonly #lost = new AbortController();
  /** Programs that go on until they are told to end; they hold their places for long. */
  #started = 0;
  #isClosing = false;

  constructor(
    host: SshHost,
    client: Client,
    socket: Socket,
    redact: Redact,
    errors: readonly Error[],
    keepaliveSeconds: number,
  ) {
    this.where = describeHost(host);
    this.#client = client;
    this.#socket = socket;
    this.#redact = redact;
    this.#errors = errors;
    const lose = (): void => {
      this.#lose();
    };
    client.on('error', lose);
    client.on('end', lose);
    client.on('close', lose);
    this.#watch(keepaliveSeconds);
    if (errors.length > 0) lose();
  }

  lostError(cause: unknown = this.#errors[0]): ConnectError {
    if (this.#isClosing) return new ConnectError('lost', `The connection to ${this.where} was closed.`, '');
    const why = excerpt(messageOf(cause), 120) || 'it was closed by the server or on the way';
    return new ConnectError(
      'lost',
      `The connection to ${this.where} was lost: ${why}.`,
      'What ran there may have gone on or stopped. Is the server up, and did sshd or the network restart?',
      { cause },
    );
  }

  #lose(cause?: Error): void {
    if (this.#lost.signal.aborted) return;
    this.#lost.abort(this.lostError(cause));
    this.#socket.destroy();
  }

  /**
   * Nothing heard, while the server is asked all the time, means that it is gone. ssh2's own count looks at answers to its
   * questions only, and so calls a server lost whose answer waits behind megabytes of output on a slow line.
   */
  #watch(keepaliveSeconds: number): void {
    let heard = this.#socket.bytesRead;
    // Turns are counted, not time: after this process itself was held up, what came meanwhile is still to be read.
    let silentTurns = 0;
    const timer = setInterval(() => {
      const { bytesRead } = this.#socket;
      silentTurns = bytesRead === heard ? silentTurns + 1 : 0;
      heard = bytesRead;
      if (silentTurns < MISSED_KEEPALIVES) return;
      this.#lose(new Error(`nothing was heard from it for ${silentTurns * keepaliveSeconds} s`));
    }, keepaliveSeconds * 1000);
    timer.unref();
    this.#lost.signal.addEventListener('abort', () => {
      clearInterval(timer);
    });
  }

  async run(command: Command, options: RunOptions = {}): Promise<Completed> {
    const text = renderCommand(command);
    const seconds = options.timeoutSeconds ?? RUN_SECONDS;
    let lastEnding: Ending | undefined;
    const limit = interruption(
      seconds,
      () => timedOut(command, options, this.where, seconds, hintForTimeout(lastEnding)),
      options.signal,
      this.#lost.signal,
    );
    const over = new AbortController();
    let claimed: { program: Program; giveBack: () => void } | undefined;
    try {
      claimed = await this.#claim(text, limit);
      const { channel, exited, closed } = claimed.program;
      void exited.then((ending) => {
        lastEnding = ending;
      });
      const output = new CommandOutput(command, options.onLine, this.#redact);
      let isTooMuch = (): void => undefined;
      const tooMuch = new Promise<never>((_, reject) => {
        isTooMuch = () => {
          reject(tooMuchOutput(command, options, this.where));
        };
      });
      channel.on('data', (chunk: Buffer) => {
        if (!output.add('stdout', chunk)) isTooMuch();
      });
      channel.stderr.on('data', (chunk: Buffer) => {
        if (!output.add('stderr', chunk)) isTooMuch();
      });
      const fed = feed(this.#client, channel, stdinOf(command), over.signal);
      const ending = await limit.race(Promise.race([closed, tooMuch, fed.then(async () => closed)]));
      // Where both came at once, the loss counts: the output may be cut.
      limit.signal.throwIfAborted();
      if (ending === undefined) throw this.#withoutExitCode(describePurpose(command, options));
      return judgeEnding(ending, output.end(), command, options, this.where, this.#redact);
    } finally {
      limit.dispose();
      over.abort();
      if (claimed !== undefined) {
        stop(this.#client, claimed.program.channel);
        claimed.giveBack();
      }
    }
  }

  async start(command: Command): Promise<ServerProcess> {
    const text = renderCommand(command);
    const [name] = command.words;
    const limit = interruption(OPEN_SECONDS, () => noAnswer(this.where, `start ${name}`), undefined, this.#lost.signal);
    try {
      const { program, giveBack } = await this.#claim(text, limit);
      const { channel } = program;
      this.#started++;
      const exit = this.#exitOf(program, name, () => {
        this.#started--;
        giveBack();
      });
      // Who does not wait for it must not be ended by its rejection.
      exit.catch(() => undefined);
      if (command.stdin !== undefined) channel.write(stdinOf(command));
      return {
        stdin: channel,
        stdout: channel,
        stderr: channel.stderr,
        exit,
        close: () => {
          channel.destroy();
          // What nobody reads any more must not keep the channel from closing.
          channel.resume();
          channel.stderr.resume();
        },
      };
    } finally {
      limit.dispose();
    }
  }

  /**
   * A channel with a program, as soon as there is place for one. sshd counts a session until it has tidied up after it, a
   * while after we saw it closed, and its MaxSessions may be less than our number: a refusal is asked again. It is final
   * when, for a while, nothing was under way that could make place.
   */
  async #claim(text: string, limit: Interruption): Promise<{ program: Program; giveBack: () => void }> {
    for (let patience = 10; ;) {
      const giveBack = await this.#slots.take(limit);
      const isAlone = this.#slots.inUse - 1 <= this.#started;
      try {
        return { program: await this.#open(text, limit), giveBack };
      } catch (error) {
        giveBack();
        if (!(error instanceof ChannelRefusedError) || (isAlone && --patience === 0)) throw error;
        await limit.race(delay(50));
      }
    }
  }

  async #exitOf(program: Program, name: string, giveBack: () => void): Promise<number> {
    const { signal } = this.#lost;
    let onLost = (): void => undefined;
    const lost = new Promise<never>((_, reject) => {
      onLost = () => {
        reject(signal.reason as SlipwayError);
      };
      signal.addEventListener('abort', onLost, { once: true });
    });
    try {
      const ending = await Promise.race([program.closed, exitedUnread(program), lost]);
      signal.throwIfAborted();
      if (ending === undefined) throw this.#withoutExitCode(`run ${name}`);
      if (ending.kind === 'exit') return ending.code;
      throw new ConnectError(
        'lost',
        `${name} on ${this.where} was killed by signal ${ending.name}.`,
        'Someone, or the system, ended it on the server.',
      );
    } finally {
      signal.removeEventListener('abort', onLost);
      giveBack();
    }
  }

  #withoutExitCode(purpose: string): ConnectError {
    return new ConnectError(
      'lost',
      `Could not ${purpose} on ${this.where}: its channel was closed without an exit code.`,
      'What ran there may have gone on or stopped. sshd does so when it is stopped or its session process is killed.',
    );
  }

  /** Opens a channel for a program. What is opened after the limit has struck is closed again. */
  async #open(text: string, limit: Interruption): Promise<Program> {
    const opened = new Promise<Program>((resolve, reject) => {
      this.#client.exec(text, (error, channel) => {
        if (error !== undefined) {
          reject(error);
          return;
        }
        channel.on('error', () => undefined);
        channel.stderr.on('error', () => undefined);
        if (limit.signal.aborted) {
          channel.on('data', () => undefined);
          channel.stderr.on('data', () => undefined);
          stop(this.#client, channel);
        }
        resolve(watchProgram(channel));
      });
    });
    try {
      return await limit.race(opened);
    } catch (error) {
      if (error instanceof SlipwayError) throw error;
      limit.signal.throwIfAborted();
      throw new ChannelRefusedError(
        'refused',
        `${this.where} does not let us run a program${inBrackets(error)}.`,
        `Look at the server's sshd_config: MaxSessions must be ${MAX_CHANNELS} or more, and no ForceCommand or restricted shell may stand in the way.`,
        { cause: error },
      );
    }
  }

  async dial(host: string, port: number): Promise<Duplex> {
    const target = `${host.includes(':') ? `[${host}]` : host}:${port}`;
    const limit = interruption(
      OPEN_SECONDS,
      () => noAnswer(this.where, `connect to ${target}`),
      undefined,
      this.#lost.signal,
    );
    try {
      limit.signal.throwIfAborted();
      const opened = new Promise<Tunnel>((resolve, reject) => {
        this.#client.forwardOut('127.0.0.1', 0, host, port, (error, channel) => {
          if (error !== undefined) {
            reject(error);
            return;
          }
          const tunnel = new Tunnel(channel, this.#lost.signal);
          if (limit.signal.aborted) tunnel.destroy();
          resolve(tunnel);
        });
      });
      return await limit.race(opened);
    } catch (error) {
      if (error instanceof SlipwayError) throw error;
      limit.signal.throwIfAborted();
      throw describeDialError(this.where, target, error);
    } finally {
      limit.dispose();
    }
  }

  async close(): Promise<void> {
    this.#isClosing = true;
    if (this.#socket.closed) return;
    // All that was written is on its way then; the server's own farewell would cost a round trip.
    const sent = new Promise<void>((resolve) => {
      this.#socket.once('finish', resolve);
      this.#socket.once('close', () => {
        resolve();
      });
    });
    this.#client.end();
    this.#socket.end();
    // A server that takes nothing any more is not waited for.
    const timer = setTimeout(() => this.#socket.destroy(), 2000);
    await sent;
    clearTimeout(timer);
    this.#socket.unref();
    setTimeout(() => this.#socket.destroy(), 2000).unref();
  }
}

function hintForTimeout(exited: Ending | undefined): string {
  return exited === undefined
    ? "Is the server overloaded or its disk full? A command that asks a question waits for ever, too. Commands wait for a free channel as well, if sshd's MaxSessions is small."
    : 'The program itself has ended, but something that it left in the background holds its output open: redirect that to a file or /dev/null.';
}

function noAnswer(where: string, purpose: string): TimeoutError {
  return new TimeoutError(
    `Could not ${purpose} on ${where}: no answer within ${OPEN_SECONDS} s.`,
    'Is the server overloaded?',
  );
}

/** A channel with a program behind it. */
interface Program {
  readonly channel: ClientChannel;
  /** How the program ended. */
  readonly exited: Promise<Ending>;
  /** The same, when all output was read as well; undefined where the channel was closed without a word. */
  readonly closed: Promise<Ending | undefined>;
}

/** To be called in the very turn in which the channel was opened: the end of a short program comes in the same packet. */
function watchProgram(channel: ClientChannel): Program {
  let ending: Ending | undefined;
  const exited = new Promise<Ending>((resolve) => {
    channel.on('exit', (code: number | null, name?: string) => {
      ending = toEnding(code, name);
      resolve(ending);
    });
  });
  const closed = new Promise<Ending | undefined>((resolve) => {
    channel.on('close', () => {
      resolve(ending);
    });
  });
  return { channel, exited, closed };
}

/** For who does not read all output: a second after the program's end it counts as ended, read or not. */
async function exitedUnread(program: Program): Promise<Ending> {
  const ending = await program.exited;
  await delay(1000, undefined, { ref: false });
  return ending;
}

function toEnding(code: number | null, name = 'unknown'): Ending {
  return code === null ? { kind: 'signal', name } : { kind: 'exit', code };
}

/**
 * Gives a program its input in bursts, each when the one before has arrived. All at once, up to a window's 2 MB would lie
 * between here and the server, on a slow link for most of a minute, and the heartbeat of another channel behind it. How
 * full the socket is does not tell: the kernel and the routers on the way have queues of their own.
 *
 * @param over ends it: loss, time, cancellation, or the program's end. A program that does not read is no failure.
 */
async function feed(client: Client, channel: Channel, input: string | Uint8Array, over: AbortSignal): Promise<void> {
  let rest = Buffer.from(input);
  for (let bytes = BURST_BYTES.first; rest.length > bytes;) {
    const burst = rest.subarray(0, bytes);
    rest = rest.subarray(bytes);
    // ssh2 calls back when the window had room for all of it, and never where the channel was closed.
    await calledBack(over, (done) => channel.write(burst, done));
    const sentMs = performance.now();
    await calledBack(over, (done) => {
      ask(client, done);
    });
    if (over.aborted) return;
    const tookMs = performance.now() - sentMs;
    if (tookMs < BURST_MS.quick) bytes = Math.min(bytes * 2, BURST_BYTES.most);
    else if (tookMs > BURST_MS.slow) bytes = Math.max(bytes / 2, BURST_BYTES.least);
  }
  channel.end(rest);
}

/**
 * Asks the server something that changes nothing, to stop a forwarding that there is not: it answers in turn, so when all
 * that was sent before has arrived.
 */
function ask(client: Client, answered: () => void): void {
  try {
    client.unforwardIn('127.0.0.1', 0, answered);
  } catch {
    // Not connected any more: whoever waits for the answer hears of the loss.
  }
}

/** Resolves when `begin` calls back, at the latest with the signal. */
async function calledBack(over: AbortSignal, begin: (done: () => void) => void): Promise<void> {
  if (over.aborted) return;
  await new Promise<void>((resolve) => {
    const done = (): void => {
      over.removeEventListener('abort', done);
      resolve();
    };
    over.addEventListener('abort', done);
    begin(done);
  });
}

/** Ends what still runs behind a channel, as far as the server lets us: SIGTERM, then no more input, output or channel. */
function stop(client: Client, channel: ClientChannel): void {
  const outgoing = field(channel, 'outgoing');
  const state = field(outgoing, 'state');
  if (state !== 'open' && state !== 'eof') return;
  // Channel.signal() does nothing any more once our end of input was sent; the protocol has no such rule. So this reaches
  // into ssh2; should its inside change, the program is left to notice by itself that nobody reads.
  const protocol = field(client, '_protocol');
  const signal = field(protocol, 'signal');
  if (typeof signal === 'function') Reflect.apply(signal, protocol, [field(outgoing, 'id'), 'TERM']);
  channel.close();
  // What nobody reads would keep the channel from closing.
  channel.resume();
  channel.stderr.resume();
}

/** A forwarded connection as an ordinary stream: ssh2's channel knows neither errors nor a destroyed state. */
class Tunnel extends Duplex {
  readonly #channel: Channel;
  readonly #lost: AbortSignal;
  readonly #onLost: () => void;
  #isClosed = false;
  #pending: ((error?: Error) => void) | undefined;

  constructor(channel: Channel, lost: AbortSignal) {
    super({ allowHalfOpen: false });
    this.#channel = channel;
    this.#lost = lost;
    this.#onLost = () => {
      this.destroy(lost.reason as SlipwayError);
    };
    // Nobody may be listening when the connection goes.
    this.on('error', () => undefined);
    lost.addEventListener('abort', this.#onLost, { once: true });
    channel.on('error', () => undefined);
    channel.on('data', (chunk: Buffer) => {
      if (!this.push(chunk)) channel.pause();
    });
    channel.on('end', () => this.push(null));
    channel.on('close', () => {
      this.#isClosed = true;
      // ssh2 forgets what was to be written to a channel that is closed.
      this.#settle(this.#pending, new Error('the other side closed the connection'));
    });
  }

  #settle(done: ((error?: Error) => void) | undefined, error?: Error): void {
    if (done === undefined || this.#pending !== done) return;
    this.#pending = undefined;
    done(error);
  }

  override _read(): void {
    this.#channel.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error) => void): void {
    this.#pending = done;
    if (this.#isClosed) this.#settle(done, new Error('the other side closed the connection'));
    else
      this.#channel.write(chunk, () => {
        this.#settle(done);
      });
  }

  override _final(done: () => void): void {
    this.#channel.end();
    done();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#lost.removeEventListener('abort', this.#onLost);
    this.#channel.destroy();
    this.#channel.resume();
    done(error);
  }
}
