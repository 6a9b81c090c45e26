/** DNS and TLS as they are spoken: a small DNS server and a TLS server in this process. */
import { execFileSync } from 'node:child_process';
import { createSocket, type Socket } from 'node:dgram';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, connect, createServer as createTcpServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createSecureContext, createServer, type Server } from 'node:tls';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { openDns } from '../../src/adapters/dns';
import { readServedChain } from '../../src/adapters/tls-inspection';
import { CancelledError, RequestError } from '../../src/errors';
import { judgeChain, parseChain } from '../../src/tls/certificate';

describe('DNS', () => {
  const TYPES = { A: 1, AAAA: 28, CAA: 257 } as const;
  const caa = (flags: number, tag: string, value: string): Buffer =>
    Buffer.concat([Buffer.from([flags, tag.length]), Buffer.from(tag + value)]);
  const ZONE: Readonly<Record<string, readonly [type: number, data: Buffer][]>> = {
    'shop.test': [
      [TYPES.A, Buffer.from([203, 0, 113, 7])],
      [TYPES.AAAA, Buffer.from('20010db8000000000000000000000007', 'hex')],
      [TYPES.CAA, caa(0, 'issue', 'letsencrypt.org')],
      [TYPES.CAA, caa(128, 'iodef', 'mailto:owner@shop.test')],
    ],
    'bare.test': [],
  };
  let socket: Socket;
  let server: string;

  /** https://www.rfc-editor.org/rfc/rfc1035#section-4 */
  const answer = (question: Buffer): Buffer => {
    let at = 12;
    const labels: string[] = [];
    for (let length = question[at] ?? 0; length > 0; length = question[at] ?? 0) {
      labels.push(question.subarray(at + 1, at + 1 + length).toString());
      at += length + 1;
    }
    const type = question.readUInt16BE(at + 1);
    const name = labels.join('.');
    const code = name === 'broken.test' ? 2 : ZONE[name] === undefined ? 3 : 0;
    const records = (ZONE[name] ?? []).filter(([one]) => one === type);
    const header = Buffer.alloc(12);
    question.copy(header, 0, 0, 2);
    header.writeUInt16BE(0x8180 | code, 2);
    header.writeUInt16BE(1, 4);
    header.writeUInt16BE(records.length, 6);
    const answers = records.map(([, data]) => {
      const fixed = Buffer.from('c00c000000010000003c0000', 'hex');
      fixed.writeUInt16BE(type, 2);
      fixed.writeUInt16BE(data.length, 10);
      return Buffer.concat([fixed, data]);
    });
    return Buffer.concat([header, question.subarray(12, at + 5), ...answers]);
  };

  beforeAll(async () => {
    socket = createSocket('udp4', (question, peer) => {
      socket.send(answer(question), peer.port, peer.address);
    });
    await new Promise<void>((resolve) => socket.bind(0, '127.0.0.1', resolve));
    server = `127.0.0.1:${socket.address().port}`;
  });
  afterAll(() => {
    socket.close();
  });

  test('addresses and CAA records, none, and no answer are three things', async () => {
    const dns = openDns([server]);
    expect(await dns.addresses('shop.test', 4)).toEqual({ kind: 'records', records: ['203.0.113.7'] });
    expect(await dns.addresses('shop.test', 6)).toEqual({ kind: 'records', records: ['2001:db8::7'] });
    expect(await dns.caa('shop.test')).toEqual({
      kind: 'records',
      records: [
        { critical: false, tag: 'issue', value: 'letsencrypt.org' },
        { critical: true, tag: 'iodef', value: 'mailto:owner@shop.test' },
      ],
    });
    expect(await dns.addresses('bare.test', 4)).toEqual({ kind: 'none' });
    expect(await dns.caa('unknown.test')).toEqual({ kind: 'none' });
    expect(await dns.caa('broken.test')).toEqual({ kind: 'failed', reason: expect.stringContaining('SERVFAIL') });
  });
});

describe('the certificates that a server shows', () => {
  let folder: string;
  let server: Server;
  let port: number;
  const names: string[] = [];

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'slipway-tls-'));
    const openssl = (...words: string[]): void => {
      execFileSync('openssl', words, { cwd: folder, stdio: 'ignore' });
    };
    const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
    openssl('req', '-x509', ...key, '-subj', '/CN=Test CA', '-keyout', 'ca.key', '-out', 'ca.pem');
    openssl('req', ...key, '-subj', '/CN=shop.test', '-keyout', 'leaf.key', '-out', 'leaf.csr');
    openssl(
      'x509',
      '-req',
      '-in',
      'leaf.csr',
      '-CA',
      'ca.pem',
      '-CAkey',
      'ca.key',
      '-set_serial',
      '7',
      '-out',
      'leaf.pem',
    );
    const read = (name: string): string => readFileSync(join(folder, name), 'utf8');
    server = createServer({
      key: read('leaf.key'),
      cert: read('leaf.pem') + read('ca.pem'),
      SNICallback: (name, callback) => {
        names.push(name);
        callback(null);
      },
    });
    server.on('tlsClientError', () => undefined);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    port = (server.address() as AddressInfo).port;
  });
  afterAll(() => {
    server.close();
    rmSync(folder, { recursive: true });
  });
  const asked = () => ({ host: '127.0.0.1', port, serverName: 'shop.test', timeoutSeconds: 5 });

  test('are read whatever they are worth, by the name that is asked for, and through another way', async () => {
    const shown = await readServedChain(asked());
    expect(parseChain(shown.certificates.join('')).map((one) => one.issuer)).toEqual(['Test CA', 'Test CA']);
    const dial = () => Promise.resolve(connect(port, '127.0.0.1'));
    expect(await readServedChain({ ...asked(), host: 'nowhere.invalid', dial })).toEqual(shown);
    expect(names).toEqual(['shop.test', 'shop.test']);
  });

  test('nobody there, no TLS, no answer, cancelled', async () => {
    const silent = createTcpServer();
    const plain = createTcpServer((socket) => socket.end('HTTP/1.1 400\r\n\r\n'));
    for (const one of [silent, plain]) await new Promise<void>((resolve) => one.listen(0, '127.0.0.1', resolve));
    const portOf = (one: ReturnType<typeof createTcpServer>): number => (one.address() as AddressInfo).port;
    try {
      const reason = async (more: object): Promise<string> =>
        readServedChain({ ...asked(), ...more }).then(
          () => 'none',
          (error: unknown) => (error instanceof RequestError ? error.reason : String(error)),
        );
      expect(await reason({ port: 1 })).toBe('refused');
      expect(await reason({ port: portOf(plain) })).toBe('tls');
      expect(await reason({ port: portOf(silent), timeoutSeconds: 0.2 })).toBe('timeout');
      const cancel = new AbortController();
      const cancelled = readServedChain({ ...asked(), port: portOf(silent), signal: cancel.signal });
      cancel.abort();
      await expect(cancelled).rejects.toThrow(CancelledError);
    } finally {
      silent.close();
      plain.close();
    }
  });
});

describe('whether TLS trusts a chain', () => {
  const DAY_MS = 86_400_000;
  let folder: string;
  let server: Server;
  let port: number;

  const read = (name: string): string => readFileSync(join(folder, name), 'utf8');
  const openssl = (...words: string[]): void => {
    execFileSync('openssl', words, { cwd: folder, stdio: 'ignore' });
  };
  /** Days from today. `openssl x509` cannot sign for the past. */
  const sign = (name: string, by: string, kind: 'authority' | 'leaf', from = -1, until = 30, key = name): void => {
    const time = (days: number): string =>
      `${new Date(Date.now() + days * DAY_MS).toISOString().replace(/[-:T]/g, '').slice(0, 14)}Z`;
    const subject = `/CN=${key}`;
    if (!existsSync(join(folder, `${key}.key`))) {
      openssl('genpkey', '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256', '-out', `${key}.key`);
      openssl('req', '-new', '-key', `${key}.key`, '-subj', subject, '-out', `${key}.csr`);
    }
    const issuer = by === name ? ['-selfsign'] : ['-cert', `${by}.pem`];
    const times = ['-startdate', time(from), '-enddate', time(until)];
    const files = ['-config', 'ca.cnf', '-in', `${key}.csr`, '-keyfile', `${by}.key`, '-out', `${name}.pem`];
    openssl('ca', '-batch', '-notext', '-rand_serial', ...files, ...issuer, ...times, '-extensions', kind);
  };
  const SERVED: Readonly<Record<string, readonly string[]>> = {
    'whole.test': ['good', 'middle'],
    'with-root.test': ['good', 'middle', 'root'],
    'alone.test': ['good'],
    // Whoever has a certificate may not make more of them.
    'forged.test': ['forged', 'good', 'middle'],
    'stranger.test': ['good', 'other-root'],
    'self.test': ['self'],
    'over.test': ['over', 'middle'],
    'early.test': ['early', 'middle'],
    'middle-over.test': ['late', 'old-middle'],
    // The root once more, signed by an old one that is over.
    'crossed.test': ['good', 'middle', 'crossed', 'old-root'],
  };

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'slipway-tls-'));
    writeFileSync(join(folder, 'index.txt'), '');
    writeFileSync(join(folder, 'index.txt.attr'), 'unique_subject = no\n');
    writeFileSync(
      join(folder, 'ca.cnf'),
      `[ca]
default_ca = all
[all]
database = index.txt
serial = serial
new_certs_dir = .
default_md = sha256
policy = any
[any]
commonName = supplied
[authority]
basicConstraints = critical, CA:TRUE
[leaf]
basicConstraints = CA:FALSE
`,
    );
    for (const [name, by, kind, from, until, key] of [
      ['root', 'root', 'authority'],
      ['other-root', 'other-root', 'authority'],
      ['old-root', 'old-root', 'authority', -9, -1],
      ['middle', 'root', 'authority'],
      ['old-middle', 'root', 'authority', -9, -1],
      ['crossed', 'old-root', 'authority', -9, 30, 'root'],
      ['good', 'middle', 'leaf'],
      ['over', 'middle', 'leaf', -9, -1],
      ['early', 'middle', 'leaf', 3, 9],
      ['late', 'old-middle', 'leaf'],
      ['forged', 'good', 'leaf'],
      ['self', 'self', 'leaf'],
    ] as const) {
      sign(name, by, kind, from, until, key);
    }
    server = createServer({
      SNICallback: (name, callback) => {
        const [leaf = '', ...more] = SERVED[name] ?? [];
        const cert = [leaf, ...more].map((one) => read(`${one}.pem`)).join('');
        callback(null, createSecureContext({ key: read(`${leaf}.key`), cert }));
      },
    });
    server.on('tlsClientError', () => undefined);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    port = (server.address() as AddressInfo).port;
  });
  afterAll(() => {
    server.close();
    rmSync(folder, { recursive: true });
  });

  const judge = async (serverName: string, ca?: string) => {
    const asked = { host: '127.0.0.1', port, serverName, timeoutSeconds: 5, ca: ca && read(`${ca}.pem`) };
    const { certificates, refusal } = await readServedChain(asked);
    return judgeChain(certificates, refusal, new Date());
  };

  test.each<[string, string | undefined, object]>([
    ['whole.test', 'root', { kind: 'trusted' }],
    ['with-root.test', 'root', { kind: 'trusted' }],
    ['crossed.test', 'root', { kind: 'trusted' }],
    ['self.test', 'self', { kind: 'trusted' }],
    ['whole.test', undefined, { kind: 'unknown-root', root: 'root' }],
    ['whole.test', 'other-root', { kind: 'unknown-root', root: 'root' }],
    ['with-root.test', undefined, { kind: 'unknown-root', root: 'root' }],
    ['self.test', undefined, { kind: 'unknown-root', root: 'self' }],
    [
      'alone.test',
      'root',
      { kind: 'broken', problem: expect.stringContaining('intermediate certificate (middle) is missing') },
    ],
    [
      'stranger.test',
      'root',
      { kind: 'broken', problem: expect.stringContaining('intermediate certificate (middle) is missing') },
    ],
    ['forged.test', 'root', { kind: 'broken', problem: expect.stringContaining('(OpenSSL: INVALID_PURPOSE)') }],
    ['over.test', 'root', { kind: 'broken', problem: expect.stringMatching(/^the certificate is over since 20/) }],
    [
      'early.test',
      'root',
      { kind: 'broken', problem: expect.stringMatching(/^the certificate is not valid before 20/) },
    ],
    [
      'middle-over.test',
      'root',
      { kind: 'broken', problem: expect.stringMatching(/^certificate 2 of the chain \(old-middle\) is over since 20/) },
    ],
  ])('%s, to a client that trusts %s beside the usual ones', async (name, ca, verdict) => {
    expect(await judge(name, ca)).toEqual(verdict);
  });
});
