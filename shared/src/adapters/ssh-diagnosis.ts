/** What can go wrong between us and an SSH server, in plain words: what happened, where, and what to do next. */
import { ConnectError } from '../errors';
import { describeHost, type SshHost } from '../model/host';
import { excerpt } from '../shell/excerpt';
import {
  fingerprintOf,
  formatKnownHostsLine,
  type HostPins,
  judgeHostKey,
  nameKeyType,
  pinnedTypes,
  typeOfBlob,
} from '../shell/known-hosts';
import type { PrivateKey } from '../shell/private-key';
import { codeOf, field, inBrackets, messageOf } from './foreign-error';

export interface Progress {
  phase: 'tcp' | 'banner' | 'key-exchange' | 'login';
  /** What the other side said first. */
  greeting: string;
}

export interface LoginNotes {
  /** What the server says it would accept. */
  methods: readonly string[];
  /** It took our key, and wants something else as well. */
  isPartial: boolean;
}

export function isRevoked(pins: HostPins, key: Buffer): boolean {
  return judgeHostKey(pins, key).kind === 'revoked';
}

function describeAddress(host: SshHost): string {
  return `${host.address.includes(':') ? `[${host.address}]` : host.address} port ${host.port}`;
}

const IS_IT_REACHABLE = 'Is the address right, is the server up, and does its firewall let the runner in?';

export function describeSocketError(host: SshHost, cause: unknown): ConnectError {
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

export function connectTimedOut(host: SshHost, seconds: number, progress: Progress): ConnectError {
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

export function refuseUnusablePins(host: SshHost, pins: HostPins): void {
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
export function refuseHostKeys(host: SshHost, pins: HostPins, presented: readonly Buffer[]): ConnectError {
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

export function describeLoginError(
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

/** https://www.rfc-editor.org/rfc/rfc4254#section-5.1 */
const ADMINISTRATIVELY_PROHIBITED = 1;

export function describeDialError(where: string, target: string, cause: unknown): ConnectError {
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
