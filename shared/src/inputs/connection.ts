/** The inputs that every action shares: which server, and how to get in. */
import { isIP, isIPv6 } from 'node:net';
import { InputError, type InputProblem } from '../errors';
import type { Host } from '../model/host';
import { Secret } from '../model/secret';
import { parsePrivateKey } from '../shell/private-key';
import { parseFingerprint, parseKnownHosts } from '../shell/known-hosts';
import { integer, type Parsed, quoteValue, type ReadInput, readValue, required } from './values';

/** The names of the inputs that {@link readConnection} reads. */
export const CONNECTION_INPUTS = [
  'host',
  'user',
  'port',
  'ssh-key',
  'ssh-key-passphrase',
  'known-hosts',
  'host-fingerprint',
] as const;

/**
 * The server to talk to. All problems are collected; undefined is returned if there were any. With `host: local` the other
 * inputs are not looked at. The key's form is checked by whoever uses it. Neither known-hosts nor host-fingerprint is no
 * problem yet: the connection is refused then with the server's key in the message, so that it can be compared and pinned.
 */
export function readConnection(input: ReadInput, problems: InputProblem[]): Host | undefined {
  if (input('host').trim() === 'local') return { kind: 'local' };
  const before = problems.length;
  const address = readValue(input, problems, 'host', parseAddress, '');
  const user = readValue(input, problems, 'user', parseUser, '');
  const port = readValue(input, problems, 'port', integer(1, 65_535), 22);
  const privateKey = readValue(input, problems, 'ssh-key', parseKey, new Secret(''));
  const trust = { knownHosts: input('known-hosts'), fingerprint: input('host-fingerprint') };
  collectProblems(problems, () => parseKnownHosts(trust.knownHosts));
  collectProblems(problems, () => parseFingerprint(trust.fingerprint));
  if (problems.length > before) return undefined;
  return {
    kind: 'ssh',
    address,
    port,
    user,
    privateKey,
    passphrase: new Secret(input('ssh-key-passphrase')),
    trust,
  };
}

const LABEL = /^[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?$/;

/** A host name, an IPv4 or an IPv6 address without brackets. `256.1.1.1` is none of them. */
export function isHostName(text: string): boolean {
  if (isIP(text) !== 0) return true;
  const labels = (text.endsWith('.') ? text.slice(0, -1) : text).split('.');
  return text.length <= 254 && !/^\d+$/.test(labels.at(-1) ?? '') && labels.every((label) => LABEL.test(label));
}

/** A host name, an IPv4 or an IPv6 address (brackets are taken off). Says where a user or a port belongs. */
export function parseAddress(text: string): Parsed<string> {
  const value = text.trim();
  if (value === '') {
    return {
      problem:
        'is empty: give the name or the address of the server, or `local` on a self-hosted runner that is the server itself. ' +
        'If it comes from a secret or a variable, that is not set in this repository or environment.',
    };
  }
  if (/[\s,;]/.test(value)) return { problem: `${quoteValue(value)} is not one host: give one name or address.` };
  if (value.includes('://'))
    return { problem: `${quoteValue(value)} is a URL: give only the name or the address of the server.` };
  const at = value.lastIndexOf('@');
  if (at >= 0) {
    return {
      problem: `${quoteValue(value)} holds a user name: give ${quoteValue(value.slice(0, at))} in the input user, and here only ${quoteValue(value.slice(at + 1))}.`,
    };
  }
  const bracketed = /^\[([^\]]*)\](?::(\d+))?$/.exec(value);
  const bare = bracketed?.[1] ?? value;
  if (bracketed !== null) {
    if (!isIPv6(bare)) return { problem: `${quoteValue(value)} is not an IPv6 address in brackets.` };
    if (bracketed[2] !== undefined) return { problem: portBelongsElsewhere(value, bracketed[2], bare) };
    return { value: bare };
  }
  if (isIP(bare) !== 0) return { value: bare };
  const withPort = /^([^:]+):(\d+)$/.exec(bare);
  if (withPort !== null) return { problem: portBelongsElsewhere(value, withPort[2] ?? '', withPort[1] ?? '') };
  if (/(?:^|\.)\d+\.?$/.test(bare)) {
    return {
      problem: `${quoteValue(value)} is not an IPv4 address: that has four numbers from 0 to 255, joined by dots.`,
    };
  }
  if (!isHostName(bare)) {
    return {
      problem: `${quoteValue(value)} is neither a host name nor an IPv4 or IPv6 address (international names: give the xn-- form).`,
    };
  }
  return { value: bare };
}

function portBelongsElsewhere(value: string, port: string, address: string): string {
  return `${quoteValue(value)} holds a port: give ${quoteValue(port)} in the input port, and here only ${quoteValue(address)}.`;
}

function parseUser(text: string): Parsed<string> {
  const value = text.trim();
  if (value === '') return required('the user to log in as, who may run docker on the server')(value);
  return /^[^\s:-][^\s:\u0000-\u001f\u007f]{0,255}$/.test(value)
    ? { value }
    : { problem: `${quoteValue(value)} is not a user name: no spaces, no colon, no hyphen at the start.` };
}

function parseKey(text: string): Parsed<Secret> {
  if (text.trim() === '') {
    return {
      problem:
        'is empty: the secret is not set in this repository or environment, or it is not handed to this (reusable) workflow ' +
        "or to a fork's pull request.",
    };
  }
  if (/^(ssh-(rsa|ed25519)|ecdsa-sha2-\S+) AAAA/.test(text.trim())) {
    return {
      problem:
        'is a public key: give the private one (the file without .pub) here; the public one belongs in ~/.ssh/authorized_keys on the server.',
    };
  }
  return { value: new Secret(text) };
}

function collectProblems(problems: InputProblem[], parse: () => unknown): void {
  try {
    parse();
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    problems.push(...error.problems);
  }
}

/**
 * What must not be shown of a login: key, passphrase, and the key as it is decoded (one given in base64 or with escaped line
 * ends has other lines than its input). A key that cannot be read is reported by the login.
 */
export function listHostSecrets(host: Host | undefined): string[] {
  if (host?.kind !== 'ssh') return [];
  const [key, passphrase] = [host.privateKey.reveal(), host.passphrase.reveal()];
  try {
    return [key, passphrase, parsePrivateKey(key, passphrase).tidied.reveal()];
  } catch {
    return [key, passphrase];
  }
}
