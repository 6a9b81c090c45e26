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
  fingerprintOf,
  formatKnownHostsLine,
  HOST_KEY_TYPES,
  type HostKeyType,
  type HostPins,
  judgeHostKey,
  nameKeyType,
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
} from './command-output';
import { codeOf, field, inBrackets, messageOf } from './foreign-error';
import { interruption, type Interruption } from './interruption';

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

interface Progress {
  phase: 'tcp' | 'banner' | 'key-exchange' | 'login';
  /** What the other side said first. */
  greeting: string;
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

function isRevoked(pins: HostPins, key: Buffer): boolean {
  return judgeHostKey(pins, key).kind === 'revoked';
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

interface LoginNotes {
  /** What the server says it would accept. */
  methods: readonly string[];
  /** It took our key, and wants something else as well. */
  isPartial: boolean;
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

// --- What went wrong, in plain words -----------------------------------------------------------------------------------

function describeAddress(host: SshHost): string {
  return `${host.address.includes(':') ? `[${host.address}]` : host.address} port ${host.port}`;
}

const IS_IT_REACHABLE = 'Is the address right, is the server up, and does its firewall let the runner in?';

function describeSocketError(host: SshHost, cause: unknown): ConnectError {
  const code = codeOf(cause);
  const address = describeAddress(host);
  switch (code) {
    case 'ENOTFOUND':
      return new ConnectError(
        'unresolved',
        `The name ${host.address} does not exist in DNS.`,
        'Check the input host for a typing error, and the DNS record of the name.',
        { cause },
      );
    case 'EAI_AGAIN':
      return new ConnectError(
        'unresolved',
        `The name ${host.address} could not be resolved: the DNS server did not answer.`,
        "Check the input host and the runner's DNS; it may work when run again.",
        { cause },
      );
    case 'ECONNREFUSED':
      return new ConnectError(
        'refused',
        `Nothing listens on ${address}: the connection was refused.`,
        'Is sshd running there, is the input port right, or does a firewall refuse?',
        { cause },
      );
    case 'ETIMEDOUT':
      return new ConnectError('timeout', `${address} did not answer.`, IS_IT_REACHABLE, { cause });
    case 'EHOSTUNREACH':
    case 'ENETUNREACH':
    case 'EADDRNOTAVAIL':
      return new ConnectError(
        'unreachable',
        `There is no way from the runner to ${address} (${code}).`,
        `${IS_IT_REACHABLE} A private or an IPv6 address cannot be reached from GitHub's own runners.`,
        { cause },
      );
    default:
      return new ConnectError(
        'lost',
        `The connection to ${address} broke off (${code}).`,
        `A firewall, fail2ban or sshd's MaxStartups looks like this; see the server's sshd log. ${IS_IT_REACHABLE}`,
        { cause },
      );
  }
}

function connectTimedOut(host: SshHost, seconds: number, progress: Progress): ConnectError {
  const address = describeAddress(host);
  switch (progress.phase) {
    case 'tcp':
      return new ConnectError(
        'timeout',
        `${address} did not answer within ${seconds} s.`,
        `${IS_IT_REACHABLE} A firewall that drops packets looks like this.`,
      );
    case 'banner':
      return new ConnectError(
        'timeout',
        `${address} took the connection but said nothing for ${seconds} s, where an SSH server names itself at once.`,
        'Is the input port that of sshd? An overloaded server or a port forwarding without a target looks like this, too.',
      );
    case 'key-exchange':
    case 'login':
      return new ConnectError(
        'timeout',
        `The login as ${describeHost(host)} was not finished within ${seconds} s.`,
        "The server is there but slow: look at its load, its DNS (sshd's UseDNS) and its PAM modules.",
      );
  }
}

function refuseUnusablePins(host: SshHost, pins: HostPins): void {
  const where = describeAddress(host);
  if (pins.pins.length === 0 && pins.authorities.length > 0) {
    throw new ConnectError(
      'host-key-unknown',
      `known-hosts trusts ${where} through a certificate authority (line ${pins.authorities.map((line) => line.line).join(', ')}: @cert-authority), which is not supported.`,
      `Pin the server's own key: run \`ssh-keyscan ${host.port === 22 ? '' : `-p ${host.port} `}${host.address}\`, compare it with \`ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub\` on the server's own console, and put the line into known-hosts.`,
    );
  }
  if (pins.pins.length > 0 && pinnedTypes(pins).length === 0) {
    throw new ConnectError(
      'host-key-unknown',
      `known-hosts pins ${where} only with keys of the type ${[...new Set(pins.pins.map((pin) => pin.type))].join(', ')}, which is not supported.`,
      'Add the line of its ED25519, ECDSA or RSA key.',
    );
  }
}

/** Says which key was shown, how to pin it, and that it must be compared where no one can be in between. */
function refuseHostKeys(host: SshHost, pins: HostPins, presented: readonly Buffer[]): ConnectError {
  const where = describeAddress(host);
  const [first = Buffer.alloc(0)] = presented;
  const verdict = judgeHostKey(pins, presented.find((key) => isRevoked(pins, key)) ?? first);
  const shown = presented.map((key) => `${fingerprintOf(key)} (${nameKeyType(typeOfBlob(key))})`).join(', ');
  const files = { 'ssh-ed25519': 'ed25519', 'ssh-rsa': 'rsa' } as Readonly<Partial<Record<string, string>>>;
  const commands = presented.map(
    (key) => `ssh-keygen -lf /etc/ssh/ssh_host_${files[typeOfBlob(key)] ?? 'ecdsa'}_key.pub`,
  );
  const lines = presented.map((key) => `  ${formatKnownHostsLine(host.address, host.port, key)}`);
  const howToPin = [
    `Log in to the server's own console (not over this network) and run: ${commands.join('; ')}`,
    'Only if it prints the same fingerprint, put this line into known-hosts:',
    ...lines,
  ].join('\n');
  switch (verdict.kind) {
    case 'revoked':
      return new ConnectError(
        'host-key-revoked',
        `The host key of ${where} is ${shown}, which known-hosts revokes (line ${verdict.line}).`,
        'A revoked key may be in the hands of others: nothing was sent. Give the server a new host key, or find out who answers at this address.',
      );
    case 'mismatch':
      return new ConnectError(
        'host-key-mismatch',
        `The host key of ${where} is ${shown}, but expected was ${verdict.expected.join(' or ')}.`,
        `${
          verdict.changed
            ? 'Either the server was set up anew, or someone else answers in its place: nothing was sent.'
            : 'Either another key of the server was pinned, or someone else answers in its place: nothing was sent.'
        }\n${howToPin}`,
      );
    case 'unknown':
    case 'trusted':
      return new ConnectError(
        'host-key-unknown',
        `The host key of ${where} is ${shown}, which ${pins.hasKnownHosts ? `known-hosts does not list for ${pins.name}` : 'nothing vouches for: known-hosts and host-fingerprint are empty'}.`,
        `${
          verdict.kind === 'unknown' && verdict.elsewhere.length > 0
            ? `known-hosts has lines for this address with another port (line ${verdict.elsewhere.map((line) => line.line).join(', ')}); for port ${host.port} a line starts with ${pins.name}\n`
            : ''
        }${howToPin}`,
      );
  }
}

function describeLoginError(
  host: SshHost,
  key: PrivateKey,
  cause: unknown,
  login: LoginNotes,
  progress: Progress,
): ConnectError {
  const message = messageOf(cause);
  const address = describeAddress(host);
  if (message.includes('authentication methods failed')) return describeRefusedKey(host, key, login, cause);
  if (message.includes('signing data with key')) {
    return new ConnectError(
      'key-unusable',
      'The private key cannot be used: it does not sign.',
      'It is damaged: put the file into the secret again.',
    );
  }
  const mismatch = /no matching (key exchange algorithm|host key format|.*)$/.exec(message);
  if (mismatch !== null) {
    const what = mismatch[1] ?? '';
    const [plain, setting] = what.startsWith('key exchange')
      ? ['method of key exchange', 'KexAlgorithms (curve25519-sha256)']
      : what.startsWith('host key')
        ? ['type of host key', 'HostKey (ed25519) and HostKeyAlgorithms']
        : what.includes('cipher')
          ? ['cipher', 'Ciphers (aes256-gcm@openssh.com)']
          : ['method of integrity check', 'MACs (hmac-sha2-256-etm@openssh.com)'];
    return new ConnectError(
      'handshake',
      `The SSH server at ${address} and Slipway have no ${plain} in common.`,
      `Allow the one in brackets in its sshd_config: ${setting}. Methods on SHA-1 are refused, and purely post-quantum ones are not known here.`,
      { cause },
    );
  }
  const said = excerpt(progress.greeting, 80);
  if (progress.phase === 'banner' || progress.phase === 'tcp') {
    if (said === '') {
      return new ConnectError(
        'not-ssh',
        `${address} closed the connection before it named itself as an SSH server.`,
        "Is the input port that of sshd? fail2ban, sshd's MaxStartups and hosts.deny look like this, too: see the server's sshd log.",
        { cause },
      );
    }
    return new ConnectError(
      'not-ssh',
      `${address} is no SSH server: it answers "${said}".`,
      'Give the port of sshd in the input port.',
      { cause },
    );
  }
  if (progress.phase === 'login') {
    return new ConnectError(
      'lost',
      `${describeHost(host)} closed the connection during the login${inBrackets(cause)}.`,
      "See the server's sshd log: `journalctl -u ssh -n 50`. A locked account, AllowUsers and MaxAuthTries look like this.",
      { cause },
    );
  }
  return new ConnectError(
    'handshake',
    `The SSH handshake with ${address} failed${message === '' ? '' : `: ${excerpt(message, 120)}`}.`,
    "See the server's sshd log: `journalctl -u ssh -n 50`.",
    { cause },
  );
}

function describeRefusedKey(host: SshHost, key: PrivateKey, login: LoginNotes, cause: unknown): ConnectError {
  const ours = `${key.fingerprint} (${nameKeyType(key.type)})`;
  if (login.isPartial) {
    return new ConnectError(
      'key-rejected',
      `${describeHost(host)} accepts our key ${ours} but wants more: ${login.methods.join(', ')}.`,
      `A deploy cannot answer a second question. Let this user in with the key alone (sshd_config: Match User ${host.user}, AuthenticationMethods publickey).`,
      { cause },
    );
  }
  const accepts = login.methods.length === 0 ? '' : ` The server would accept: ${login.methods.join(', ')}.`;
  const noKeys = login.methods.length > 0 && !login.methods.includes('publickey');
  return new ConnectError(
    'key-rejected',
    `${describeHost(host)} refused our key ${ours}.${accepts}`,
    [
      ...(noKeys ? ['It takes no keys at all: see PubkeyAuthentication in its sshd_config.'] : []),
      `Is the input user right? Then this line belongs into the file .ssh/authorized_keys in the home of ${host.user}:`,
      `  ${key.publicLine}`,
      `sshd ignores the file if others may write to it, to .ssh or to the home: chmod go-w ~${host.user}; chmod 700 ~${host.user}/.ssh; chmod 600 ~${host.user}/.ssh/authorized_keys`,
    ].join('\n'),
    { cause },
  );
}

// --- The session -------------------------------------------------------------------------------------------------------

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
      channel.end(stdinOf(command));
      const ending = await limit.race(Promise.race([closed, tooMuch]));
      // Where both came at once, the loss counts: the output may be cut.
      limit.signal.throwIfAborted();
      if (ending === undefined) throw this.#withoutExitCode(describePurpose(command, options));
      return judgeEnding(ending, output.end(), command, options, this.where, this.#redact);
    } finally {
      limit.dispose();
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
    const closed = new Promise<void>((resolve) => {
      this.#socket.once('close', () => {
        resolve();
      });
    });
    this.#client.end();
    // A server that does not answer is not waited for.
    const timer = setTimeout(() => this.#socket.destroy(), 2000);
    await closed;
    clearTimeout(timer);
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

/** https://www.rfc-editor.org/rfc/rfc4254#section-5.1 */
const ADMINISTRATIVELY_PROHIBITED = 1;

function describeDialError(where: string, target: string, cause: unknown): ConnectError {
  if (field(cause, 'reason') === ADMINISTRATIVELY_PROHIBITED) {
    return new ConnectError(
      'refused',
      `sshd on ${where} does not let us connect to ${target} through it.`,
      'Allow it in its sshd_config: AllowTcpForwarding local (and no PermitOpen that leaves this target out, no DisableForwarding, no `restrict` before our key in authorized_keys).',
      { cause },
    );
  }
  return new ConnectError(
    'refused',
    `From ${where}, ${target} cannot be reached${inBrackets(cause)}.`,
    'Does something listen there? The address is one as seen from the server.',
    { cause },
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
