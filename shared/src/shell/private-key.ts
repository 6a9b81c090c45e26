/**
 * The private key that we log in with, out of what reaches us through a secret: with CRLF, without the last newline, with
 * `\n` spelled out, indented, quoted, in base64. No message of this file quotes any of it.
 */
import { createPrivateKey, type KeyObject } from 'node:crypto';
import { type ParsedKey, utils } from 'ssh2';
import { ConnectError } from '../errors';
import { Secret } from '../model/secret';
import { fingerprintOf } from './known-hosts';

/** A private key, ready to sign. */
export class PrivateKey {
  readonly #parsed: ParsedKey;
  /** `ssh-ed25519`, `ssh-rsa`, `ecdsa-sha2-nistp256` ... */
  readonly type: string;
  /** Of the public half: `SHA256:...`, as `ssh-keygen -lf` prints it. */
  readonly fingerprint: string;
  /** The line for the server's authorized_keys. */
  readonly publicLine: string;
  /** The key's text after tidying: another spelling of the secret that was given, to be hidden as well. */
  readonly tidied: Secret;

  constructor(parsed: ParsedKey, tidied: string) {
    const blob = parsed.getPublicSSH();
    this.#parsed = parsed;
    this.type = parsed.type;
    this.fingerprint = fingerprintOf(blob);
    this.publicLine = `${parsed.type} ${blob.toString('base64')}`;
    this.tidied = new Secret(tidied);
  }

  /** The key itself, for the login. */
  reveal(): ParsedKey {
    return this.#parsed;
  }
}

/**
 * Reads an OpenSSH or PEM (PKCS#1, SEC1, PKCS#8) private key, encrypted or not.
 *
 * @throws ConnectError with the reason `key-unusable`, saying what the text is instead of a key we can use
 */
export function parsePrivateKey(text: string, passphrase: string): PrivateKey {
  const block = findBlock(tidyText(text));
  // A passphrase that came out of a file brings the file's last line end along; none can hold one.
  const phrase = passphrase.replace(/[\r\n]+$/, '');
  try {
    const parsed = block.label === 'OPENSSH PRIVATE KEY' ? readOpenSsh(block, phrase) : readPem(block, phrase);
    return new PrivateKey(parsed, block.text);
  } catch (error) {
    if (error instanceof ConnectError) throw error;
    // What OpenSSL and ssh2 say of a key they cannot read may quote it: their error does not leave this file.
    throw damaged();
  }
}

function unusable(message: string, hint: string): ConnectError {
  return new ConnectError('key-unusable', `The private key cannot be used: ${message}`, hint);
}

const COPY_WHOLE =
  'Put the whole file into the secret, from the line -----BEGIN ... to the line -----END ..., for example with `gh secret set SSH_KEY < key`.';
const NEW_KEY =
  'Make one with `ssh-keygen -t ed25519 -f slipway -N ""`, add slipway.pub to ~/.ssh/authorized_keys on the server, and put the file slipway into the secret.';

function damaged(): ConnectError {
  return unusable('it is damaged or cut short.', COPY_WHOLE);
}

/** Undoes what editors, shells, JSON and web forms do to a key's lines. */
function tidyText(text: string): string {
  let tidied = text
    .replaceAll(/[\uFEFF\u200B]/g, '')
    // A key holds no backslash, so these are line ends that someone spelled out (JSON, .env files, `echo`).
    .replaceAll(/\\+r/g, '')
    .replaceAll(/\\+n/g, '\n')
    .replaceAll(/\r\n?|[\u2028\u2029]/g, '\n')
    .replaceAll(/[\t\u00A0]/g, ' ')
    .trim();
  for (let quoted; (quoted = /^(["'`])([\s\S]*)\1$/.exec(tidied)) !== null;) tidied = (quoted[2] ?? '').trim();
  return tidied;
}

interface Block {
  readonly label: string;
  /** `DEK-Info` of an old encrypted PEM file. */
  readonly encryption: string;
  readonly body: string;
  /** The block as a file would hold it. */
  readonly text: string;
}

/** The one private key in a text. */
function findBlock(text: string, decoded = false): Block {
  if (text === '') {
    throw unusable(
      'it is empty.',
      'The secret is not set in this repository, organisation or environment, or it is not handed on: a called workflow needs `secrets: inherit` or the secret by name, and pull requests from forks get none.',
    );
  }
  const blocks = [...text.matchAll(/-----BEGIN ([A-Z0-9 ]+)-----([\s\S]*?)-----END \1-----/g)];
  const keys = blocks.filter((block) => block[1]?.endsWith('PRIVATE KEY') === true);
  if (keys.length > 1) throw unusable('the text holds more than one key.', 'Give the one that the server knows.');
  const [found] = keys;
  if (found === undefined) return rescue(text, decoded);
  const label = found[1] ?? '';
  const headers = /^\s*Proc-Type:\s*4\s*,\s*ENCRYPTED\s+DEK-Info:\s*([A-Za-z0-9-]+)\s*,\s*([0-9A-Fa-f]+)\s+/.exec(
    found[2] ?? '',
  );
  const body = (found[2] ?? '').slice(headers?.[0].length ?? 0).replaceAll(/\s+/g, '');
  if (!/^[A-Za-z0-9+/]+={0,2}$/.test(body) || body.length % 4 !== 0) throw damaged();
  const encryption = headers === null ? '' : `${headers[1] ?? ''},${headers[2] ?? ''}`;
  const head = encryption === '' ? '' : `Proc-Type: 4,ENCRYPTED\nDEK-Info: ${encryption}\n\n`;
  const wrapped = body.replaceAll(/.{64}(?=.)/g, '$&\n');
  return { label, encryption, body, text: `-----BEGIN ${label}-----\n${head}${wrapped}\n-----END ${label}-----\n` };
}

/** A text without a private key between its lines: base64 of one, or something else that we can name. */
function rescue(text: string, decoded: boolean): Block {
  const joined = text.replaceAll(/\s+/g, '');
  if (!decoded && /^[A-Za-z0-9+/_-]{40,}={0,2}$/.test(joined)) {
    const inner = Buffer.from(joined, 'base64').toString('latin1');
    if (inner.startsWith('openssh-key-v1\0')) {
      throw unusable('its first and last line are missing.', COPY_WHOLE);
    }
    if (inner.includes('-----BEGIN') || inner.includes('PuTTY-User-Key-File')) return findBlock(tidyText(inner), true);
  }
  if (/^PuTTY-User-Key-File-/m.test(text)) {
    throw unusable(
      "it is in PuTTY's format (.ppk).",
      'Convert it with `puttygen key.ppk -O private-openssh -o key`, or in PuTTYgen with Conversions > Export OpenSSH key, and put the new file into the secret.',
    );
  }
  if (/^(?:ssh|ecdsa|sk)-[a-z0-9-]+-cert-v01@openssh\.com /m.test(text)) {
    throw unusable('it is a certificate.', `Certificates are not supported: a plain key is. ${NEW_KEY}`);
  }
  if (/^(?:ssh-(?:rsa|dss|ed25519)|ecdsa-sha2-\S+|sk-\S+@openssh\.com) |BEGIN (?:SSH2 |RSA )?PUBLIC KEY/m.test(text)) {
    throw unusable(
      'it is the public half.',
      'Give the private one: the file without .pub. The public half belongs into ~/.ssh/authorized_keys on the server.',
    );
  }
  if (text.includes('BEGIN CERTIFICATE')) throw unusable('it is a TLS certificate.', NEW_KEY);
  if (/PRIVATE KEY/.test(text)) throw damaged();
  if (/^(?:~|\.{0,2}\/|[A-Za-z]:\\)[^\n]{0,300}$/.test(text)) {
    throw unusable("it looks like a file's path.", 'The secret must hold what is in the file, not where it is.');
  }
  throw unusable('it is no private key.', `${COPY_WHOLE} ${NEW_KEY}`);
}

/** More rounds than anyone's key has; each costs some 10 ms in JavaScript, and a damaged number could ask for years. */
const MAX_ROUNDS = 2000;

/** https://github.com/openssh/openssh-portable/blob/master/PROTOCOL.key */
function readOpenSsh(block: Block, passphrase: string): ParsedKey {
  const fields = readFields(Buffer.from(block.body, 'base64'));
  refuseType(fields.type);
  const encrypted = fields.cipher !== 'none';
  if (encrypted) {
    if (passphrase === '') throw passphraseMissing();
    if (fields.rounds > MAX_ROUNDS) {
      throw unusable(
        `its passphrase is stretched with ${fields.rounds} rounds, more than the ${MAX_ROUNDS} that can be done in time.`,
        'Save it with fewer rounds: `ssh-keygen -p -a 32 -f key`.',
      );
    }
  }
  const parsed = utils.parseKey(block.text, encrypted ? passphrase : undefined);
  if (!(parsed instanceof Error)) return parsed;
  if (/unsupported cipher/i.test(parsed.message)) {
    throw unusable(
      `it is encrypted with ${fields.cipher.replaceAll(/[^\w@.-]/g, '')}, which is not supported.`,
      'Save it with another cipher: `ssh-keygen -p -Z aes256-ctr -f key`.',
    );
  }
  throw encrypted ? passphraseWrong() : damaged();
}

function readFields(data: Buffer): { cipher: string; rounds: number; type: string } {
  const magic = 'openssh-key-v1\0';
  if (data.subarray(0, magic.length).toString('latin1') !== magic) throw damaged();
  let at = magic.length;
  const next = (): Buffer => {
    const length = at + 4 <= data.length ? data.readUInt32BE(at) : Infinity;
    if (length > data.length - at - 4) throw damaged();
    at += 4 + length;
    return data.subarray(at - length, at);
  };
  const cipher = next().toString('latin1');
  next();
  const kdfOptions = next();
  const rounds = kdfOptions.length >= 4 ? kdfOptions.readUInt32BE(kdfOptions.length - 4) : 0;
  if (at + 4 > data.length || data.readUInt32BE(at) !== 1) throw damaged();
  at += 4;
  const publicKey = next();
  next();
  const typeLength = publicKey.length >= 4 ? publicKey.readUInt32BE(0) : 0;
  return { cipher, rounds, type: publicKey.subarray(4, 4 + typeLength).toString('latin1') };
}

function refuseType(type: string): void {
  if (type.startsWith('sk-')) {
    throw unusable(
      'it belongs to a security key (FIDO), which has to be touched.',
      `A deploy needs a plain key. ${NEW_KEY}`,
    );
  }
  if (type.includes('-cert-')) {
    throw unusable('it is a certificate.', `Certificates are not supported: a plain key is. ${NEW_KEY}`);
  }
  if (type === 'ssh-dss') throw unusable('it is a DSA key, which no current server accepts.', NEW_KEY);
}

function passphraseMissing(): ConnectError {
  return unusable(
    'it is encrypted, and no passphrase was given.',
    'Give the passphrase in ssh-key-passphrase (from a secret of its own), or save the key without one: `ssh-keygen -p -f key`.',
  );
}

function passphraseWrong(): ConnectError {
  return unusable(
    'the passphrase does not open it.',
    'Try both on your machine: `ssh-keygen -y -f key` asks for the passphrase and prints the public key. If that works, the secret with the key may have been cut short.',
  );
}

/** PEM of all kinds is OpenSSL's trade; ssh2 then gets the plain form that it knows. */
function readPem(block: Block, passphrase: string): ParsedKey {
  if (block.label === 'DSA PRIVATE KEY') refuseType('ssh-dss');
  const encrypted = block.encryption !== '' || block.label === 'ENCRYPTED PRIVATE KEY';
  if (encrypted && passphrase === '') throw passphraseMissing();
  let key: KeyObject;
  try {
    key = createPrivateKey({ key: block.text, format: 'pem', ...(encrypted ? { passphrase } : {}) });
  } catch {
    throw encrypted ? passphraseWrong() : damaged();
  }
  const parsed = utils.parseKey(plainText(key));
  if (parsed instanceof Error) throw damaged();
  return parsed;
}

function plainText(key: KeyObject): string {
  switch (key.asymmetricKeyType) {
    case 'rsa':
      return key.export({ type: 'pkcs1', format: 'pem' }).toString();
    case 'ec': {
      const curve = key.asymmetricKeyDetails?.namedCurve ?? '';
      if (!['prime256v1', 'secp384r1', 'secp521r1'].includes(curve))
        throw unusable('it is on an elliptic curve that SSH does not know.', NEW_KEY);
      return key.export({ type: 'sec1', format: 'pem' }).toString();
    }
    case 'ed25519':
      return openSshText(key);
    case 'dsa':
      refuseType('ssh-dss');
      throw damaged();
    default:
      throw unusable(`it is of the type ${key.asymmetricKeyType ?? 'unknown'}, which SSH does not know.`, NEW_KEY);
  }
}

/** ssh2 reads Ed25519 keys in OpenSSH's own format only, so it gets that one. */
function openSshText(key: KeyObject): string {
  const jwk = key.export({ format: 'jwk' });
  const seed = Buffer.from(jwk.d ?? '', 'base64url');
  const point = Buffer.from(jwk.x ?? '', 'base64url');
  const field = (value: Buffer | string): Buffer => {
    const bytes = Buffer.from(value);
    const length = Buffer.alloc(4);
    length.writeUInt32BE(bytes.length);
    return Buffer.concat([length, bytes]);
  };
  const one = Buffer.from([0, 0, 0, 1]);
  const check = Buffer.alloc(8);
  const secret = Buffer.concat([
    check,
    field('ssh-ed25519'),
    field(point),
    field(Buffer.concat([seed, point])),
    field(''),
  ]);
  const padding = Buffer.from([1, 2, 3, 4, 5, 6, 7].slice(0, (8 - (secret.length % 8)) % 8));
  const body = Buffer.concat([
    Buffer.from('openssh-key-v1\0'),
    field('none'),
    field('none'),
    field(''),
    one,
    field(Buffer.concat([field('ssh-ed25519'), field(point)])),
    field(Buffer.concat([secret, padding])),
  ]);
  return `-----BEGIN OPENSSH PRIVATE KEY-----\n${body.toString('base64')}\n-----END OPENSSH PRIVATE KEY-----\n`;
}
