import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { utils } from 'ssh2';
import { ConnectError } from '../src/errors';
import { parsePrivateKey, type PrivateKey } from '../src/shell/private-key';

const PASSPHRASE = 'correct horse';
const ed25519 = generateKeyPairSync('ed25519').privateKey;
const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
const ec = generateKeyPairSync('ec', { namedCurve: 'P-384' }).privateKey;

const pem = (key: KeyObject, type: 'pkcs8' | 'pkcs1' | 'sec1', isEncrypted = false): string =>
  (isEncrypted
    ? key.export({ type, format: 'pem', cipher: 'aes-256-cbc', passphrase: PASSPHRASE })
    : key.export({ type, format: 'pem' })
  ).toString();

/** ssh2 makes a key that it cannot read now and then: the leading zeros of a number. */
function openSsh(type: 'ed25519' | 'ecdsa' | 'rsa', passphrase?: string): string {
  const none: Record<string, never> = {};
  const options = passphrase === undefined ? none : { passphrase, cipher: 'aes256-ctr', rounds: 4 };
  for (;;) {
    const pair =
      type === 'ed25519'
        ? utils.generateKeyPairSync('ed25519', options)
        : type === 'rsa'
          ? utils.generateKeyPairSync('rsa', { bits: 2048, ...options })
          : utils.generateKeyPairSync('ecdsa', { bits: 256, ...options });
    if (!(utils.parseKey(pair.private, passphrase) instanceof Error)) return pair.private;
  }
}

const plainKeys: readonly (readonly [name: string, text: string])[] = [
  ['OpenSSH Ed25519', openSsh('ed25519')],
  ['OpenSSH ECDSA', openSsh('ecdsa')],
  ['OpenSSH RSA', openSsh('rsa')],
  ['PKCS#8 Ed25519', pem(ed25519, 'pkcs8')],
  ['PKCS#8 RSA', pem(rsa, 'pkcs8')],
  ['PKCS#8 EC', pem(ec, 'pkcs8')],
  ['PKCS#1 RSA', pem(rsa, 'pkcs1')],
  ['SEC1 EC', pem(ec, 'sec1')],
];

const encryptedKeys: readonly (readonly [name: string, text: string])[] = [
  ['OpenSSH Ed25519', openSsh('ed25519', PASSPHRASE)],
  ['OpenSSH RSA', openSsh('rsa', PASSPHRASE)],
  ['PKCS#8 Ed25519', pem(ed25519, 'pkcs8', true)],
  ['PKCS#8 RSA', pem(rsa, 'pkcs8', true)],
  ['PKCS#1 RSA', pem(rsa, 'pkcs1', true)],
  ['SEC1 EC', pem(ec, 'sec1', true)],
];

function refusal(text: string, passphrase = ''): ConnectError {
  try {
    parsePrivateKey(text, passphrase);
  } catch (error) {
    if (error instanceof ConnectError) return error;
    throw error;
  }
  throw new Error('it was taken');
}

function signs(key: PrivateKey): boolean {
  const data = Buffer.from('to be signed');
  const signature: unknown = key.reveal().sign(data);
  return Buffer.isBuffer(signature) && key.reveal().verify(data, signature);
}

describe('keys', () => {
  test.each(plainKeys)('%s', (_name, text) => {
    const key = parsePrivateKey(text, '');
    expect(signs(key)).toBe(true);
    expect(key.fingerprint).toMatch(/^SHA256:[A-Za-z0-9+/]{43}$/);
    expect(key.publicLine).toMatch(/^(ssh|ecdsa)-\S+ AAAA\S+$/);
    expect(JSON.stringify(key)).not.toContain('PRIVATE');
    // A passphrase for a key that has none is not needed, and no failure.
    expect(parsePrivateKey(text, 'unneeded').fingerprint).toBe(key.fingerprint);
  });

  test('one key is the same in every form', () => {
    const forms = [pem(rsa, 'pkcs8'), pem(rsa, 'pkcs1'), pem(rsa, 'pkcs8', true), pem(rsa, 'pkcs1', true)];
    expect(new Set(forms.map((text) => parsePrivateKey(text, PASSPHRASE).fingerprint)).size).toBe(1);
  });

  test.each(encryptedKeys)('%s, encrypted', (_name, text) => {
    expect(signs(parsePrivateKey(text, PASSPHRASE))).toBe(true);
    expect(signs(parsePrivateKey(text, `${PASSPHRASE}\n`))).toBe(true);
    const missing = refusal(text);
    expect(missing.reason).toBe('key-unusable');
    expect(missing.message).toContain('no passphrase was given');
    const wrong = refusal(text, 'wrong horse');
    expect(wrong.message).toContain('passphrase does not open it');
    expect(wrong.message + wrong.hint).not.toContain('wrong horse');
  });
});

describe('what is no key of ours', () => {
  const field = (value: string | Buffer): Buffer => {
    const bytes = Buffer.from(value as string);
    const length = Buffer.alloc(4);
    length.writeUInt32BE(bytes.length);
    return Buffer.concat([length, bytes]);
  };
  const file = (type: string, kdfOptions = Buffer.alloc(0), cipher = 'none', kdf = 'none'): string => {
    const parts = [
      field(cipher),
      field(kdf),
      field(kdfOptions),
      Buffer.from([0, 0, 0, 1]),
      field(field(type)),
      field('x'),
    ];
    const body = Buffer.concat([Buffer.from('openssh-key-v1\0'), ...parts]).toString('base64');
    return `-----BEGIN OPENSSH PRIVATE KEY-----\n${body}\n-----END OPENSSH PRIVATE KEY-----\n`;
  };
  const whole = pem(ed25519, 'pkcs8');
  const long = plainKeys[0]?.[1] ?? '';
  const publicLine = parsePrivateKey(whole, '').publicLine;
  const rounds = Buffer.concat([field(Buffer.alloc(16)), Buffer.from([0xff, 0xff, 0xff, 0xff])]);

  test.each([
    ['nothing', ' \r\n\t', 'empty', 'secrets: inherit'],
    ['a public key', `${publicLine} me@laptop`, 'public half', 'without .pub'],
    ['a PEM public key', '-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----', 'public half', 'without .pub'],
    [
      'a PuTTY key',
      'PuTTY-User-Key-File-3: ssh-ed25519\r\nEncryption: none\r\n',
      "PuTTY's",
      'puttygen key.ppk -O private-openssh',
    ],
    ['a certificate', 'ssh-ed25519-cert-v01@openssh.com AAAA me', 'certificate', 'not supported'],
    [
      'a TLS certificate',
      '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----',
      'TLS certificate',
      'ssh-keygen',
    ],
    ['a path', '~/.ssh/id_ed25519', 'path', 'not where it is'],
    ['a password', 'hunter2hunter2', 'no private key', 'ssh-keygen'],
    ['the body alone', long.split('\n').slice(1, -1).join('\n'), 'first and last line', 'whole file'],
    ['without its end', whole.slice(0, -30), 'damaged or cut', 'whole file'],
    ['without its middle', long.replace(/\n.{20}/, '\n'), 'damaged or cut', 'whole file'],
    ['two keys', whole + pem(rsa, 'pkcs8'), 'more than one', 'the server knows'],
    ['a FIDO key', file('sk-ssh-ed25519@openssh.com'), 'security key', 'ssh-keygen'],
    ['a DSA key', file('ssh-dss'), 'DSA', 'ssh-keygen'],
    [
      'an unknown curve',
      pem(generateKeyPairSync('ec', { namedCurve: 'secp256k1' }).privateKey, 'pkcs8'),
      'curve',
      'ssh-keygen',
    ],
    ['an Ed448 key', pem(generateKeyPairSync('ed448').privateKey, 'pkcs8'), 'ed448', 'ssh-keygen'],
  ])('%s', (_name, text, message, hint) => {
    const error = refusal(text);
    expect(error.reason).toBe('key-unusable');
    expect(error.message).toContain(message);
    expect(error.hint).toContain(hint);
  });

  test('a number of rounds that would take for ever', () => {
    const error = refusal(file('ssh-ed25519', rounds, 'aes256-ctr', 'bcrypt'), 'any');
    expect(error.message).toContain('4294967295 rounds');
  });
});

describe('properties', () => {
  const manglings: readonly (readonly [name: string, mangle: (text: string) => string])[] = [
    ['CRLF', (text) => text.replaceAll('\n', '\r\n')],
    ['CR', (text) => text.replaceAll('\n', '\r')],
    ['no last newline', (text) => text.trimEnd()],
    ['many newlines', (text) => `\n\n${text}\n\n`],
    ['literal \\n', (text) => text.replaceAll('\n', '\\n')],
    ['literal \\r\\n', (text) => text.replaceAll('\n', '\\r\\n')],
    ['twice escaped', (text) => text.replaceAll('\n', '\\\\n')],
    ['indented', (text) => text.replaceAll(/^/gm, '    ')],
    ['tabs', (text) => text.replaceAll(/^/gm, '\t')],
    ['spaces at line ends', (text) => text.replaceAll('\n', '  \n')],
    ['spaces for newlines', (text) => text.trim().replaceAll('\n', ' ')],
    ['double quotes', (text) => `"${text}"`],
    ['single quotes', (text) => `'${text}'`],
    ['byte order mark', (text) => `\uFEFF${text}`],
    ['empty lines between', (text) => text.replaceAll('\n', '\n\n')],
    ['non-breaking spaces', (text) => `\u00A0${text}\u00A0`],
  ];
  const keys = [...plainKeys, ...encryptedKeys.slice(2)].map(([name, text]) => ({
    name,
    text,
    fingerprint: parsePrivateKey(text, PASSPHRASE).fingerprint,
  }));

  test('any mangling, and several of them, gives the same key', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...keys),
        fc.array(fc.constantFrom(...manglings), { maxLength: 4 }),
        fc.boolean(),
        (key, chosen, isEncoded) => {
          const mangled = chosen.reduce((text, [, mangle]) => mangle(text), key.text);
          const text = isEncoded ? Buffer.from(mangled).toString('base64') : mangled;
          expect(parsePrivateKey(text, PASSPHRASE).fingerprint).toBe(key.fingerprint);
        },
      ),
      { numRuns: 1500 },
    );
  });

  const words = (text: string): string[] => text.match(/[A-Za-z0-9+/]{16,}/g) ?? [];

  test('garbage gives our error, and none of it is quoted', () => {
    const garbage = fc.oneof(
      fc.string({ unit: 'binary', maxLength: 300 }),
      fc.base64String({ maxLength: 300 }),
      fc
        .tuple(fc.constantFrom('OPENSSH ', 'RSA ', 'EC ', 'ENCRYPTED ', ''), fc.base64String({ maxLength: 400 }))
        .map(([label, body]) => `-----BEGIN ${label}PRIVATE KEY-----\n${body}\n-----END ${label}PRIVATE KEY-----\n`),
    );
    fc.assert(
      fc.property(garbage, fc.constantFrom('', PASSPHRASE), (text, passphrase) => {
        const error = refusal(text, passphrase);
        expect(error.reason).toBe('key-unusable');
        for (const word of words(text)) expect(error.message + error.hint + String(error.cause)).not.toContain(word);
      }),
      { numRuns: 2000 },
    );
  });

  test('a damaged key is the same key or our error, and is not quoted', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...keys),
        fc.double({ min: 0, max: 0.999, noNaN: true }),
        fc.nat(40),
        (key, where, cut) => {
          const at = Math.floor(where * key.text.length);
          const text = key.text.slice(0, at) + key.text.slice(at + cut);
          try {
            parsePrivateKey(text, PASSPHRASE);
          } catch (error) {
            expect(error).toBeInstanceOf(ConnectError);
            for (const word of words(text)) expect(String(error) + (error as ConnectError).hint).not.toContain(word);
          }
        },
      ),
      { numRuns: 1000 },
    );
  });
});
