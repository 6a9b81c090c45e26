import { createHash, createHmac, randomBytes } from 'node:crypto';
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { InputError } from '../src/errors';
import type { HostTrust } from '../src/model/host';
import {
  algorithmsFor,
  fingerprintOf,
  formatKnownHostsLine,
  judgeHostKey,
  parseFingerprint,
  parseKnownHosts,
  pinnedTypes,
  selectPins,
} from '../src/shell/known-hosts';

function field(value: string | Uint8Array): Buffer {
  const bytes = Buffer.from(value as string);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(bytes.length);
  return Buffer.concat([length, bytes]);
}

function ed25519(fill: number): Buffer {
  return Buffer.concat([field('ssh-ed25519'), field(createHash('sha256').update(String(fill)).digest())]);
}

const rsa = Buffer.concat([field('ssh-rsa'), field(Buffer.from([1, 0, 1])), field(Buffer.alloc(257, 3))]);
const [key, other] = [ed25519(1), ed25519(2)];

const line = (names: string, blob = key, type = 'ssh-ed25519'): string => `${names} ${type} ${blob.toString('base64')}`;

function hashed(name: string, salt = randomBytes(20)): string {
  return `|1|${salt.toString('base64')}|${createHmac('sha1', salt).update(name).digest('base64')}`;
}

function verdict(trust: Partial<HostTrust>, address: string, port = 22, blob = key): string {
  return judgeHostKey(selectPins({ knownHosts: '', fingerprint: '', ...trust }, address, port), blob).kind;
}

const judge = (knownHosts: string, address: string, port = 22, blob = key): string =>
  verdict({ knownHosts }, address, port, blob);

function problem(text: string): string {
  try {
    parseKnownHosts(text);
  } catch (error) {
    if (error instanceof InputError) return error.message;
    throw error;
  }
  return '';
}

describe('names', () => {
  test.each([
    ['example.com', 'example.com', 22, 'trusted'],
    ['Example.COM', 'eXample.com', 22, 'trusted'],
    ['example.com', 'example.com.', 22, 'trusted'],
    ['example.com', 'example.com', 2222, 'unknown'],
    ['[example.com]:2222', 'example.com', 2222, 'trusted'],
    ['[example.com]:2222', 'example.com', 22, 'unknown'],
    ['[example.com]:22', 'example.com', 22, 'trusted'],
    ['a,b,example.com', 'example.com', 22, 'trusted'],
    ['*.example.com', 'www.example.com', 22, 'trusted'],
    ['*.example.com', 'example.com', 22, 'unknown'],
    ['web?.example.com', 'web1.example.com', 22, 'trusted'],
    ['web?.example.com', 'web12.example.com', 22, 'unknown'],
    ['[*.example.com]:2222', 'www.example.com', 2222, 'trusted'],
    ['*', 'www.example.com', 2222, 'trusted'],
    ['*.example.com,!bad.example.com', 'good.example.com', 22, 'trusted'],
    ['*.example.com,!bad.example.com', 'bad.example.com', 22, 'unknown'],
    ['!bad.example.com,*.example.com', 'bad.example.com', 22, 'unknown'],
    ['!example.com', 'example.org', 22, 'unknown'],
    ['2001:db8::1', '2001:DB8:0:0::1', 22, 'trusted'],
    ['2001:DB8:0::1', '2001:db8::1', 22, 'trusted'],
    ['[2001:db8::1]:2222', '[2001:db8::1]', 2222, 'trusted'],
    ['203.0.113.7', '203.0.113.70', 22, 'unknown'],
    ['203.0.113.*', '203.0.113.70', 22, 'trusted'],
  ])('%s for %s port %i: %s', (names, address, port, expected) => {
    expect(judge(line(names), address, port)).toBe(expected);
  });

  test('hashed', () => {
    expect(judge(line(hashed('example.com')), 'Example.com')).toBe('trusted');
    expect(judge(line(hashed('example.com')), 'example.org')).toBe('unknown');
    expect(judge(line(hashed('[example.com]:2222')), 'example.com', 2222)).toBe('trusted');
    expect(judge(line(hashed('example.com')), 'example.com', 2222)).toBe('unknown');
    // As ssh-keygen -H wrote it.
    const known = '|1|F1E1KeoE/eEWhi10WpGv4OdiO6Y=|3988QV0VE8wmZL7suNrYQLITLCg=';
    const salt = Buffer.from('F1E1KeoE/eEWhi10WpGv4OdiO6Y=', 'base64');
    expect(known.endsWith(createHmac('sha1', salt).update('192.168.1.61').digest('base64'))).toBe(true);
    expect(judge(line(known), '192.168.1.61')).toBe('trusted');
  });

  test('a pattern made to take for ever does not', () => {
    const started = performance.now();
    expect(judge(line(`${'*a'.repeat(200)}*b`), 'a'.repeat(250))).toBe('unknown');
    expect(performance.now() - started).toBeLessThan(1000);
  });
});

describe('verdicts', () => {
  test('several lines, comments, CRLF, tabs, a byte order mark', () => {
    const text = `\uFEFF# mine\r\n\r\n  \t${line('example.com', other)} old laptop\r\n${line('example.com').replaceAll(' ', '\t')}\tnew one\r\n`;
    expect(judge(text, 'example.com')).toBe('trusted');
    expect(parseKnownHosts(text).map((host) => host.line)).toEqual([3, 4]);
  });

  test('mismatch, with what was expected', () => {
    const pins = selectPins({ knownHosts: line('example.com'), fingerprint: '' }, 'example.com', 22);
    expect(judgeHostKey(pins, other)).toEqual({
      kind: 'mismatch',
      expected: [`${fingerprintOf(key)} (ED25519, line 1)`],
      changed: true,
    });
    expect(judgeHostKey(pins, rsa)).toMatchObject({ kind: 'mismatch', changed: false });
  });

  test('revoked wins over everything', () => {
    const text = `${line('example.com')}\n@revoked ${line('*')}`;
    expect(judge(text, 'example.com')).toBe('revoked');
    expect(verdict({ knownHosts: text, fingerprint: fingerprintOf(key) }, 'example.com')).toBe('revoked');
    expect(judge(`${line('example.com')}\n@revoked ${line('example.org')}`, 'example.com')).toBe('trusted');
  });

  test('a certificate authority vouches for nobody', () => {
    const pins = selectPins({ knownHosts: `@cert-authority ${line('*')}`, fingerprint: '' }, 'example.com', 22);
    expect(pins.authorities).toHaveLength(1);
    expect(judgeHostKey(pins, key).kind).toBe('unknown');
  });

  test('a fingerprint alone, and both', () => {
    const fingerprint = fingerprintOf(key);
    expect(verdict({ fingerprint }, 'example.com')).toBe('trusted');
    expect(verdict({ fingerprint }, 'example.com', 22, other)).toBe('mismatch');
    expect(verdict({ fingerprint, knownHosts: line('example.com') }, 'example.com')).toBe('trusted');
    expect(verdict({ fingerprint, knownHosts: line('example.com', other) }, 'example.com')).toBe('mismatch');
    expect(verdict({ fingerprint, knownHosts: line('example.org') }, 'example.com')).toBe('unknown');
    expect(verdict({ fingerprint: fingerprintOf(other), knownHosts: line('example.com') }, 'example.com')).toBe(
      'mismatch',
    );
    expect(verdict({ fingerprint, knownHosts: `@revoked ${line('*', other)}` }, 'example.com')).toBe('trusted');
  });

  test('types to ask for', () => {
    const types = (knownHosts: string) => pinnedTypes(selectPins({ knownHosts, fingerprint: '' }, 'example.com', 22));
    expect(types(line('example.com', rsa, 'ssh-rsa'))).toEqual(['ssh-rsa']);
    expect(algorithmsFor(['ssh-rsa'])).toEqual(['rsa-sha2-512', 'rsa-sha2-256']);
    expect(types('')).toHaveLength(5);
    const sk = Buffer.concat([field('sk-ssh-ed25519@openssh.com'), field(Buffer.alloc(32)), field('ssh:')]);
    expect(types(line('example.com', sk, 'sk-ssh-ed25519@openssh.com'))).toEqual([]);
  });
});

describe('lines that cannot be understood', () => {
  const base64 = key.toString('base64');

  test.each([
    ['example.com', 'not complete'],
    ['example.com ssh-ed25519', 'not complete'],
    [`ssh-ed25519 ${base64}`, 'no host before it'],
    [`ssh-ed25519 ${base64} me@laptop`, 'no host before it'],
    [`@trusted example.com ssh-ed25519 ${base64}`, 'neither @revoked nor @cert-authority'],
    [`example.com ssh-ed25519 ${base64.slice(0, -5)}`, 'not whole'],
    [`example.com ssh-ed25519 ${base64.slice(0, -4)}`, 'not whole'],
    [`example.com ssh-ed25519 ${base64.replace('A', '!')}`, 'no base64'],
    [`example.com ssh-rsa ${base64}`, 'not of the type'],
    ['example.com 1024 35 1234567890', 'SSH protocol 1'],
    [`|2|AAAA|AAAA ssh-ed25519 ${base64}`, 'unknown kind'],
    [`|1|AAAA|AAAA ssh-ed25519 ${base64}`, 'not whole'],
    [`exa$mple.com ssh-ed25519 ${base64}`, 'no host name holds'],
    ['getaddrinfo example.com: Name or service not known', 'second word'],
  ])('%s', (text, message) => {
    expect(problem(`# one\n${text}\n`)).toContain(`known-hosts: line 2 `);
    expect(problem(text)).toContain(message);
  });

  test('all at once', () => {
    expect(problem(`a\n${line('good.example.com')}\nb\n`)).toMatch(/line 1 [\s\S]*line 3 /);
  });
});

describe('fingerprints', () => {
  const fingerprint = fingerprintOf(key);

  test.each([
    ['', ''],
    [' \n', ''],
    [fingerprint, fingerprint],
    [` ${fingerprint}=\n`, fingerprint],
    [`256 ${fingerprint} root@server (ED25519)`, fingerprint],
  ])('%j', (text, expected) => {
    expect(parseFingerprint(text)).toBe(expected);
  });

  test.each([
    ['MD5:16:27:ac:a5:76:28:2d:36:63:1b:56:4d:eb:df:a6:48', 'MD5'],
    ['16:27:ac:a5:76:28:2d:36:63:1b:56:4d:eb:df:a6:48', 'MD5'],
    [fingerprint.slice(0, -1), 'not whole'],
    [`${fingerprint} ${fingerprintOf(other)}`, 'more than one'],
    ['yes', 'not a fingerprint'],
  ])('%s is refused', (text, message) => {
    expect(() => parseFingerprint(text)).toThrow(InputError);
    expect(() => parseFingerprint(text)).toThrow(message);
  });
});

describe('properties', () => {
  const label = fc.stringMatching(/^[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?$/);
  const address = fc.oneof(
    fc.array(label, { minLength: 1, maxLength: 4 }).map((labels) => labels.join('.')),
    fc.ipV4(),
    fc.ipV6(),
  );
  const port = fc.oneof(fc.constant(22), fc.integer({ min: 1, max: 65_535 }));
  const blob = fc.integer().map(ed25519);

  test('the line that we give pins that key for that server, and for no other', () => {
    fc.assert(
      fc.property(address, port, blob, fc.boolean(), (host, at, pinned, isHashed) => {
        const plain = formatKnownHostsLine(host, at, pinned);
        const [name = ''] = plain.split(' ');
        const text = isHashed ? plain.replace(name, () => hashed(name)) : plain;
        expect(judge(text, host, at, pinned)).toBe('trusted');
        expect(judge(text, host.toUpperCase(), at, pinned)).toBe('trusted');
        expect(
          judge(text, host, at, Buffer.concat([pinned.subarray(0, -1), Buffer.from([(pinned.at(-1) ?? 0) ^ 1])])),
        ).toBe('mismatch');
        expect(judge(text, `x${host}`.replaceAll(':', '-'), at, pinned)).toBe('unknown');
        expect(judge(text, host, at === 22 ? 23 : 22, pinned)).toBe('unknown');
      }),
      { numRuns: 1000 },
    );
  });

  test('hostile text: our error or a list, and never trust in a key that it does not hold', () => {
    const word = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.constantFrom(
        '*',
        '!*',
        '@revoked',
        '@cert-authority',
        '|1|',
        '#',
        ' ',
        '\t',
        '\n',
        '\r\n',
        '\0',
        'ssh-ed25519',
      ),
      fc.constantFrom('example.com', '[example.com]:22', hashed('example.com'), other.toString('base64'), 'AAAA', '='),
    );
    fc.assert(
      fc.property(fc.array(word, { maxLength: 12 }), fc.constantFrom('', ' '), (words, glue) => {
        let kind = 'unknown';
        try {
          kind = judge(words.join(glue), 'example.com');
        } catch (error) {
          expect(error).toBeInstanceOf(InputError);
        }
        expect(['unknown', 'mismatch']).toContain(kind);
      }),
      { numRuns: 5000 },
    );
  });

  test('a good line damaged anywhere never trusts another key', () => {
    const good = line('example.com');
    fc.assert(
      fc.property(fc.nat(good.length - 1), fc.string({ unit: 'binary', maxLength: 3 }), (at, insertion) => {
        const text = good.slice(0, at) + insertion + good.slice(at + 1);
        try {
          const hosts = parseKnownHosts(text);
          const kind = judge(text, 'example.com', 22, other);
          expect(kind).not.toBe('trusted');
          for (const host of hosts) expect(host.type).toBe('ssh-ed25519');
        } catch (error) {
          expect(error).toBeInstanceOf(InputError);
        }
      }),
      { numRuns: 2000 },
    );
  });

  test('any text as a fingerprint: itself or our error', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string({ unit: 'binary' }),
          fc.base64String().map((text) => `SHA256:${text}`),
        ),
        (text) => {
          try {
            expect(parseFingerprint(text)).toMatch(/^(SHA256:[A-Za-z0-9+/]{43})?$/);
          } catch (error) {
            expect(error).toBeInstanceOf(InputError);
          }
        },
      ),
      { numRuns: 2000 },
    );
  });
});
