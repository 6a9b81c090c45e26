/**
 * How a server proves that it is the one we mean: the lines of a known_hosts file, or a fingerprint.
 * The format: sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT" (https://man.openbsd.org/sshd#SSH_KNOWN_HOSTS_FILE_FORMAT).
 */
import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import { isIPv6, SocketAddress } from 'node:net';
import { InputError, type InputProblem } from '../errors';
import type { HostTrust } from '../model/host';

type Marker = 'pin' | 'revoked' | 'cert-authority';

type Names =
  | { readonly kind: 'patterns'; readonly patterns: readonly string[] }
  | { readonly kind: 'hashed'; readonly salt: Buffer; readonly digest: Buffer };

/** One line of a known_hosts file. */
export interface KnownHost {
  /** Counted from 1, as editors do. */
  readonly line: number;
  readonly marker: Marker;
  readonly names: Names;
  /** The key's type as the line says it and its blob confirms: `ssh-ed25519`, `ssh-rsa` ... */
  readonly type: string;
  readonly blob: Buffer;
}

/** What of the user's trust concerns one server. */
export interface HostPins {
  /** As known_hosts names the server: `host`, or `[host]:port` where the port is not 22. */
  readonly name: string;
  readonly pins: readonly KnownHost[];
  readonly revoked: readonly KnownHost[];
  readonly authorities: readonly KnownHost[];
  /** Lines for the same address and another port: they do not count, but explain what went wrong. */
  readonly otherPorts: readonly KnownHost[];
  /** `SHA256:...`, or empty. */
  readonly fingerprint: string;
  /** Whether known-hosts has lines to trust: then one of them must hold the key, whatever the fingerprint says. */
  readonly hasKnownHosts: boolean;
}

export type HostKeyVerdict =
  | { readonly kind: 'trusted' }
  /** Nothing given speaks of this key; `elsewhere` are lines for other ports of the address. */
  | { readonly kind: 'unknown'; readonly elsewhere: readonly KnownHost[] }
  /** Another key was expected: of the same type (`changed`) or of another one. */
  | { readonly kind: 'mismatch'; readonly expected: readonly string[]; readonly changed: boolean }
  | { readonly kind: 'revoked'; readonly line: number };

/**
 * The lines of a known_hosts text; comments and empty lines are skipped, nothing else is.
 *
 * @throws InputError with every line that cannot be understood, by number
 */
export function parseKnownHosts(text: string): KnownHost[] {
  const hosts: KnownHost[] = [];
  const problems: InputProblem[] = [];
  const lines = text.replace(/^\uFEFF/, '').split(/\r\n|\n|\r/);
  for (const [index, raw] of lines.entries()) {
    const line = raw.trim();
    if (line === '' || line.startsWith('#')) continue;
    const parsed = parseLine(line, index + 1);
    if (typeof parsed === 'string') problems.push({ input: 'known-hosts', message: `line ${index + 1} ${parsed}` });
    else hosts.push(parsed);
  }
  if (problems.length > 0) throw new InputError(problems);
  return hosts;
}

const MARKERS: Readonly<Partial<Record<string, Marker>>> = {
  '@revoked': 'revoked',
  '@cert-authority': 'cert-authority',
};
const KEY_TYPE = /^(?:ssh-|ecdsa-|sk-|rsa-|dsa-|webauthn-)[a-z0-9@.+-]{1,80}$/;
const FORM = 'a line is `host type key`, as `ssh-keyscan` prints it';

/** @returns the line, or what is wrong with it. */
function parseLine(text: string, line: number): KnownHost | string {
  const words = text.split(/[ \t]+/);
  let marker: Marker = 'pin';
  if (words[0]?.startsWith('@') === true) {
    const known = MARKERS[words.shift() ?? ''];
    if (known === undefined) return 'starts with a marker that is neither @revoked nor @cert-authority.';
    marker = known;
  }
  const [names = '', type = '', key = ''] = words;
  if (KEY_TYPE.test(names)) return `has a key but no host before it: ${FORM}.`;
  if (key === '') return `is not complete: ${FORM}.`;
  if (/^\d+$/.test(type)) return 'holds a key of SSH protocol 1, which nothing uses any more: remove the line.';
  if (!KEY_TYPE.test(type)) return `does not name a type of key as its second word: ${FORM}.`;
  const parsedNames = parseNames(names);
  if (typeof parsedNames === 'string') return parsedNames;
  const blob = decodeBase64(key);
  if (blob === undefined) return 'holds a key that is not whole: it is no base64.';
  if (keyType(blob) !== type) return `holds a key that is not whole, or not of the type it names.`;
  return { line, marker, names: parsedNames, type, blob };
}

function parseNames(text: string): Names | string {
  if (text.startsWith('|')) {
    const [, version, salt = '', digest = '', ...rest] = text.split('|');
    if (version !== '1' || rest.length > 0) return 'has a hashed host name of an unknown kind (known is |1|salt|hash).';
    const [saltBytes, digestBytes] = [decodeBase64(salt), decodeBase64(digest)];
    // OpenSSH writes and accepts a salt and a hash of SHA-1's length only (hostfile.c, extract_salt).
    if (saltBytes?.length !== 20 || digestBytes?.length !== 20) return 'has a hashed host name that is not whole.';
    return { kind: 'hashed', salt: saltBytes, digest: digestBytes };
  }
  const patterns = text.split(',');
  if (patterns.some((pattern) => !/^!?[A-Za-z0-9._:%*?[\]-]+$/.test(pattern)))
    return 'has something in its host names that no host name holds.';
  return { kind: 'patterns', patterns: patterns.map(lowerPattern) };
}

/** Patterns in lower case; IPv6 addresses in the form in which they are looked for. */
function lowerPattern(pattern: string): string {
  const lower = pattern.toLowerCase();
  const parts = /^(!?)(\[?)([0-9a-f:.]+)(\](?::\d+)?)?$/.exec(lower);
  if (parts === null || !isIPv6(parts[3] ?? '')) return lower;
  return `${parts[1] ?? ''}${parts[2] ?? ''}${canonicalAddress(parts[3] ?? '')}${parts[4] ?? ''}`;
}

/** Strict base64: Node would skip what it does not know. */
function decodeBase64(text: string): Buffer | undefined {
  if (!/^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/.test(text) || text === '') return undefined;
  return Buffer.from(text, 'base64');
}

const NUMBER_OF_FIELDS: Readonly<Partial<Record<string, number>>> = {
  'ssh-ed25519': 2,
  'ssh-rsa': 3,
  'ecdsa-sha2-nistp256': 3,
  'ecdsa-sha2-nistp384': 3,
  'ecdsa-sha2-nistp521': 3,
};

/** The type that a key's blob names; undefined where the blob is cut or has more to it (RFC 4253, section 6.6). */
function keyType(blob: Buffer): string | undefined {
  const fields: Buffer[] = [];
  let at = 0;
  while (at < blob.length) {
    if (at + 4 > blob.length) return undefined;
    const length = blob.readUInt32BE(at);
    if (length > blob.length - at - 4) return undefined;
    fields.push(blob.subarray(at + 4, at + 4 + length));
    at += 4 + length;
    // Of a type that we do not know we know no more than that it starts with its name.
    if (fields.length === 1 && NUMBER_OF_FIELDS[fields[0]?.toString('latin1') ?? ''] === undefined) break;
  }
  const type = fields[0]?.toString('latin1') ?? '';
  const expected = NUMBER_OF_FIELDS[type];
  if (expected !== undefined && fields.length !== expected) return undefined;
  if (type === 'ssh-ed25519' && fields[1]?.length !== 32) return undefined;
  return type;
}

/**
 * The fingerprint out of what people give: `SHA256:...` alone or the whole line of `ssh-keygen -lf`. Empty stays empty.
 *
 * @throws InputError for anything else, and for MD5
 */
export function parseFingerprint(text: string): string {
  const words = text.split(/\s+/).filter((word) => word !== '');
  if (words.length === 0) return '';
  const problem = (message: string): InputError => new InputError([{ input: 'host-fingerprint', message }]);
  const found = words.filter((word) => word.toUpperCase().startsWith('SHA256:'));
  if (found.length > 1) throw problem('holds more than one fingerprint: give one, or the lines in known-hosts.');
  if (found[0] !== undefined) {
    const digest = /^sha256:([A-Za-z0-9+/]{43})=?$/i.exec(found[0])?.[1];
    if (digest === undefined) throw problem('is not whole: SHA256: is followed by 43 characters.');
    return `SHA256:${digest}`;
  }
  if (words.some((word) => /^(?:md5:)?(?:[0-9a-f]{2}:){15}[0-9a-f]{2}$/i.test(word))) {
    throw problem(
      'is an MD5 fingerprint, which can be forged: give the one that starts with SHA256:, from `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` on the server.',
    );
  }
  throw problem('is not a fingerprint: give SHA256: and 43 characters, as `ssh-keygen -lf` prints it.');
}

/** A key's fingerprint as `ssh-keygen -l` prints it. */
export function fingerprintOf(blob: Uint8Array): string {
  return `SHA256:${createHash('sha256').update(blob).digest('base64').replace(/=+$/, '')}`;
}

/** How known_hosts names a server. */
export function knownHostsName(address: string, port: number): string {
  const bare = canonicalAddress(address.replace(/^\[(.*)\]$/, '$1'));
  return port === 22 ? bare : `[${bare}]:${port}`;
}

/** The line that pins a key to a server. */
export function formatKnownHostsLine(address: string, port: number, blob: Uint8Array): string {
  const bytes = Buffer.from(blob);
  return `${knownHostsName(address, port)} ${keyType(bytes) ?? 'unknown'} ${bytes.toString('base64')}`;
}

/** A key's type for people: `ED25519`, `RSA`, `ECDSA`. */
export function nameKeyType(type: string): string {
  if (type === 'ssh-ed25519') return 'ED25519';
  if (type === 'ssh-rsa') return 'RSA';
  return type.startsWith('ecdsa-') ? 'ECDSA' : type;
}

/** The type of a key as its blob names it; empty for what is no key. */
export function typeOfBlob(blob: Uint8Array): string {
  return keyType(Buffer.from(blob)) ?? '';
}

/** Names compare without regard to case and to a last dot; an IPv6 address has many spellings. */
function canonicalAddress(address: string): string {
  const lower = address.toLowerCase();
  if (!isIPv6(lower)) return lower.length > 1 && lower.endsWith('.') ? lower.slice(0, -1) : lower;
  const [bare = '', zone] = lower.split('%');
  const canonical = new SocketAddress({ address: bare, family: 'ipv6' }).address;
  return zone === undefined ? canonical : `${canonical}%${zone}`;
}

/**
 * What the user's trust says of one server.
 *
 * @throws InputError where it cannot be understood
 */
export function selectPins(trust: HostTrust, address: string, port: number): HostPins {
  const hosts = parseKnownHosts(trust.knownHosts);
  const name = knownHostsName(address, port);
  const bare = knownHostsName(address, 22);
  // A hash is of the text as it was typed: `ssh` and `ssh-keyscan` lower names, but keep the spelling of addresses.
  const typed = address.replace(/^\[(.*)\]$/, '$1').toLowerCase();
  const names = port === 22 ? [name, typed, `[${bare}]:22`] : [name, `[${typed}]:${port}`];
  const mine = hosts.filter((host) => names.some((candidate) => matchesHost(host.names, candidate)));
  const bareNames = [bare, typed];
  const ports = new RegExp(`^\\[${RegExp.escape(bare)}\\]:\\d+$`);
  return {
    name,
    pins: mine.filter((host) => host.marker === 'pin'),
    revoked: mine.filter((host) => host.marker === 'revoked'),
    authorities: mine.filter((host) => host.marker === 'cert-authority'),
    otherPorts: hosts.filter(
      (host) =>
        host.marker === 'pin' &&
        !mine.includes(host) &&
        (bareNames.some((candidate) => matchesHost(host.names, candidate)) ||
          (host.names.kind === 'patterns' && host.names.patterns.some((pattern) => ports.test(pattern)))),
    ),
    fingerprint: parseFingerprint(trust.fingerprint),
    hasKnownHosts: hosts.some((host) => host.marker !== 'revoked'),
  };
}

/** One negated pattern that matches takes the whole line out. */
function matchesHost(names: Names, name: string): boolean {
  switch (names.kind) {
    case 'hashed':
      return timingSafeEqual(createHmac('sha1', names.salt).update(name).digest(), names.digest);
    case 'patterns':
      return (
        names.patterns.some((pattern) => !pattern.startsWith('!') && matchesPattern(pattern, name)) &&
        !names.patterns.some((pattern) => pattern.startsWith('!') && matchesPattern(pattern.slice(1), name))
      );
  }
}

/** `*` and `?` as in a shell, over the whole name. Without a RegExp, so that no pattern can take for ever. */
function matchesPattern(pattern: string, name: string): boolean {
  let [p, n, star, resume] = [0, 0, -1, 0];
  while (n < name.length) {
    if (pattern[p] === '*') {
      star = p++;
      resume = n;
    } else if (p < pattern.length && (pattern[p] === '?' || pattern[p] === name[n])) {
      p++;
      n++;
    } else if (star >= 0) {
      p = star + 1;
      n = ++resume;
    } else {
      return false;
    }
  }
  while (pattern[p] === '*') p++;
  return p === pattern.length;
}

/** Whether the key that a server presented is one that the user trusts. Where two proofs were given, both must hold. */
export function judgeHostKey(pins: HostPins, blob: Uint8Array): HostKeyVerdict {
  const same = (host: KnownHost): boolean => host.blob.equals(blob);
  const revoked = pins.revoked.find(same);
  if (revoked !== undefined) return { kind: 'revoked', line: revoked.line };
  const fingerprint = fingerprintOf(blob);
  if (pins.fingerprint !== '' && pins.fingerprint !== fingerprint)
    return { kind: 'mismatch', expected: [pins.fingerprint], changed: false };
  if (pins.fingerprint !== '' && !pins.hasKnownHosts) return { kind: 'trusted' };
  if (pins.pins.some(same)) return { kind: 'trusted' };
  if (pins.pins.length === 0) return { kind: 'unknown', elsewhere: pins.otherPorts };
  return {
    kind: 'mismatch',
    expected: pins.pins.map((host) => `${fingerprintOf(host.blob)} (${nameKeyType(host.type)}, line ${host.line})`),
    changed: pins.pins.some((host) => host.type === typeOfBlob(blob)),
  };
}

/** The signatures in which a key of each type can prove itself. SHA-1 (`ssh-rsa`) is not among them. */
const ALGORITHMS = {
  'ssh-ed25519': ['ssh-ed25519'],
  'ecdsa-sha2-nistp256': ['ecdsa-sha2-nistp256'],
  'ecdsa-sha2-nistp384': ['ecdsa-sha2-nistp384'],
  'ecdsa-sha2-nistp521': ['ecdsa-sha2-nistp521'],
  'ssh-rsa': ['rsa-sha2-512', 'rsa-sha2-256'],
} as const;

export type HostKeyType = keyof typeof ALGORITHMS;
export type HostKeyAlgorithm = (typeof ALGORITHMS)[HostKeyType][number];

export const HOST_KEY_TYPES = Object.keys(ALGORITHMS) as readonly HostKeyType[];

/** What to ask the server for: only types that are pinned, because a server shows one key, and the other ones would look unknown. */
export function pinnedTypes(pins: HostPins): HostKeyType[] {
  const types = new Set(pins.pins.map((host) => host.type));
  return types.size === 0 ? [...HOST_KEY_TYPES] : HOST_KEY_TYPES.filter((type) => types.has(type));
}

export function algorithmsFor(types: readonly HostKeyType[]): HostKeyAlgorithm[] {
  return types.flatMap((type) => ALGORITHMS[type]);
}
