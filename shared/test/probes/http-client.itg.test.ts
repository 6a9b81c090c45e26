import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer as createHttpServer, type RequestListener } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import { type AddressInfo, connect, createServer as createTcpServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Duplex } from 'node:stream';
import { createHttp } from '../../src/adapters/http-client';
import { CancelledError, ConnectError, RequestError } from '../../src/errors';
import { Secret } from '../../src/model/secret';
import type { HttpRequest } from '../../src/ports';
import { attemptHttp, type Environment } from '../../src/probes/http';
import { systemClock } from '../../src/adapters/clock';
import { parseChecks } from '../../src/probes/check';
import type { Verdict } from '../../src/probes/verdict';

const http = createHttp();
const folder = mkdtempSync(join(tmpdir(), 'slipway-http-'));
const closers: (() => void)[] = [];

/** An authority and certificates made by openssl: what users have, not what a library thinks they have. */
function makeCertificate(name: string, subjectAltName: string, ...options: string[]): { key: string; cert: string } {
  const file = (suffix: string): string => join(folder, `${name}.${suffix}`);
  writeFileSync(file('ext'), `subjectAltName=${subjectAltName}`);
  execFileSync(
    'openssl',
    ['req', '-newkey', 'rsa:2048', '-nodes', '-subj', `/CN=${name}`, '-keyout', file('key'), '-out', file('csr')],
    { stdio: 'pipe' },
  );
  execFileSync(
    'openssl',
    [
      'x509',
      '-req',
      '-in',
      file('csr'),
      '-CA',
      join(folder, 'ca.pem'),
      '-CAkey',
      join(folder, 'ca.key'),
      '-CAcreateserial',
      '-extfile',
      file('ext'),
      '-out',
      file('pem'),
      ...options,
    ],
    { stdio: 'pipe' },
  );
  return { key: readFileSync(file('key'), 'utf8'), cert: readFileSync(file('pem'), 'utf8') };
}

async function listen(server: Server): Promise<number> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  closers.push(() => server.close());
  return (server.address() as AddressInfo).port;
}

const serve = (listener: RequestListener): Promise<number> => listen(createHttpServer(listener));
const serveTls = (files: { key: string; cert: string }, listener: RequestListener): Promise<number> =>
  listen(createHttpsServer(files, listener));

const request = (url: string, more: Partial<HttpRequest> = {}): ReturnType<typeof http.request> =>
  http.request({ method: 'GET', url, timeoutSeconds: 5, ...more });

async function failure(promise: Promise<unknown>): Promise<RequestError> {
  const error: unknown = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!(error instanceof RequestError)) throw new Error('expected a RequestError', { cause: error });
  return error;
}

const environment: Environment = { http, clock: systemClock };

async function attempt(line: string, more: Partial<Environment> = {}): Promise<Verdict> {
  const { checks, problems } = parseChecks(line, {
    input: 'checks',
    attempts: 1,
    intervalSeconds: 1,
    timeoutSeconds: 5,
  });
  const [check] = checks;
  if (check?.kind !== 'http') throw new Error(JSON.stringify(problems));
  return attemptHttp(check, 5, { ...environment, ...more });
}

let ca = '';
let good: { key: string; cert: string };

beforeAll(() => {
  execFileSync(
    'openssl',
    [
      'req',
      '-x509',
      '-newkey',
      'rsa:2048',
      '-nodes',
      '-subj',
      '/CN=Test Authority',
      '-days',
      '30',
      '-keyout',
      join(folder, 'ca.key'),
      '-out',
      join(folder, 'ca.pem'),
    ],
    { stdio: 'pipe' },
  );
  ca = readFileSync(join(folder, 'ca.pem'), 'utf8');
  good = makeCertificate('good', 'DNS:app.test,DNS:www.app.test,IP:127.0.0.1', '-days', '20');
});

afterAll(() => {
  for (const close of closers) close();
  rmSync(folder, { recursive: true });
});

describe('request', () => {
  test('gives status, headers, body and latency; sends headers, secret ones too', async () => {
    const port = await serve((incoming, response) => {
      response.setHeader(
        'X-Seen',
        `${incoming.headers.authorization ?? ''} ${incoming.headers['accept-encoding'] ?? ''} ${incoming.headers.host ?? ''}`,
      );
      response.setHeader('Set-Cookie', ['a=1', 'b=2']);
      response.end('{"status":"ok"}');
    });
    const answer = await request(`http://127.0.0.1:${port}/health?a=b`, {
      headers: { Authorization: new Secret('Bearer abc') },
    });
    expect(answer).toMatchObject({ status: 200, body: '{"status":"ok"}', truncated: false, certificate: undefined });
    expect(answer.headers['x-seen']).toBe(`Bearer abc identity 127.0.0.1:${port}`);
    expect(answer.headers['set-cookie']).toBe('a=1, b=2');
    expect(answer.latencyMs).toBeGreaterThan(0);
  });

  test('a redirect is an answer', async () => {
    const port = await serve((_, response) => response.writeHead(302, { location: '/x' }).end());
    expect(await request(`http://127.0.0.1:${port}/`)).toMatchObject({ status: 302, headers: { location: '/x' } });
  });

  test('stops reading at the limit, even if the body never ends, and cuts no character', async () => {
    const port = await serve((_, response) => {
      const timer = setInterval(() => response.write('ä'.repeat(5000)), 1);
      response.on('close', () => {
        clearInterval(timer);
      });
    });
    const answer = await request(`http://127.0.0.1:${port}/`, { maxBodyBytes: 10_001 });
    expect(answer.truncated).toBe(true);
    expect(answer.body).toBe('ä'.repeat(5000));
  });

  test('HEAD has no body', async () => {
    const port = await serve((_, response) => response.writeHead(200, { 'content-length': '5' }).end());
    expect(await request(`http://127.0.0.1:${port}/`, { method: 'HEAD' })).toMatchObject({ status: 200, body: '' });
  });

  test('the time-out covers a silent server', async () => {
    const port = await serve(() => undefined);
    const error = await failure(request(`http://127.0.0.1:${port}/`, { timeoutSeconds: 0.2 }));
    expect(error).toMatchObject({
      reason: 'timeout',
      message: `no complete answer from 127.0.0.1:${port} within 0.2 s`,
    });
  });

  test('the time-out covers a body that drips', async () => {
    const port = await serve((_, response) => {
      response.writeHead(200);
      const timer = setInterval(() => response.write('.'), 20);
      response.on('close', () => {
        clearInterval(timer);
      });
    });
    expect(await failure(request(`http://127.0.0.1:${port}/`, { timeoutSeconds: 0.3 }))).toMatchObject({
      reason: 'timeout',
    });
  });

  test('a connection that is cut within the body is no answer', async () => {
    const port = await serve((_, response) => {
      response.writeHead(200, { 'content-length': '1000' });
      response.write('half', () => response.destroy());
    });
    expect(await failure(request(`http://127.0.0.1:${port}/`))).toMatchObject({ reason: 'closed' });
  });

  test('a connection that is closed at once is no answer', async () => {
    const port = await listen(createTcpServer((socket) => socket.destroy()));
    expect(await failure(request(`http://127.0.0.1:${port}/`))).toMatchObject({ reason: 'closed' });
  });

  test('something that is not HTTP', async () => {
    const port = await listen(createTcpServer((socket) => socket.end('SSH-2.0-OpenSSH_9.2\r\n')));
    expect(await failure(request(`http://127.0.0.1:${port}/`))).toMatchObject({ reason: 'protocol' });
  });

  test('more headers than anyone needs', async () => {
    const port = await serve((_, response) => response.writeHead(200, { big: 'x'.repeat(70_000) }).end());
    expect(await failure(request(`http://127.0.0.1:${port}/`))).toMatchObject({
      reason: 'protocol',
      message: expect.stringContaining('64 KiB of headers') as string,
    });
  });

  test('nobody listens', async () => {
    const server = createTcpServer();
    const port = await listen(server);
    server.close();
    await once(server, 'close');
    const error = await failure(request(`http://127.0.0.1:${port}/`));
    expect(error).toMatchObject({
      reason: 'refused',
      message: `127.0.0.1:${port} refused the connection: nothing listens there`,
    });
  });

  test('no such name', async () => {
    expect(await failure(request('http://nowhere.invalid/'))).toMatchObject({ reason: 'unresolved' });
  });

  test('an aborted signal is a cancelled workflow', async () => {
    const port = await serve(() => undefined);
    const abort = new AbortController();
    const asked = request(`http://127.0.0.1:${port}/`, { signal: abort.signal });
    setTimeout(() => {
      abort.abort();
    }, 50);
    await expect(asked).rejects.toBeInstanceOf(CancelledError);
    await expect(request(`http://127.0.0.1:${port}/`, { signal: abort.signal })).rejects.toBeInstanceOf(CancelledError);
  });
});

describe('TLS', () => {
  test('trusts a given authority, verifies the name against connectTo, and tells of the certificate', async () => {
    const port = await serveTls(good, (incoming, response) => response.end(`host ${incoming.headers.host ?? ''}`));
    const answer = await request(`https://app.test:${port}/`, { ca, connectTo: { host: '127.0.0.1', port } });
    expect(answer.body).toBe(`host app.test:${port}`);
    expect(answer.certificate).toMatchObject({
      names: ['app.test', 'www.app.test', '127.0.0.1'],
      issuer: 'Test Authority',
    });
    expect(answer.certificate?.fingerprint256).toMatch(/^([0-9A-F]{2}:){31}[0-9A-F]{2}$/);
    const days = ((answer.certificate?.validTo.getTime() ?? 0) - Date.now()) / 86_400_000;
    expect(days).toBeGreaterThan(19);
    expect(days).toBeLessThan(20.1);
  });

  test('an address in the URL is verified against the certificate too', async () => {
    const port = await serveTls(good, (_, response) => response.end());
    expect((await request(`https://127.0.0.1:${port}/`, { ca })).status).toBe(200);
  });

  test('an authority that is not trusted', async () => {
    const port = await serveTls(good, (_, response) => response.end());
    const error = await failure(request(`https://127.0.0.1:${port}/`));
    expect(error).toMatchObject({ reason: 'tls' });
    expect(error.hint).toContain('`ca`');
  });

  test('another name', async () => {
    const port = await serveTls(good, (_, response) => response.end());
    const error = await failure(request(`https://other.test:${port}/`, { ca, connectTo: { host: '127.0.0.1', port } }));
    expect(error).toMatchObject({ reason: 'tls', message: `the certificate of 127.0.0.1:${port} is for another name` });
    expect(error.hint).toBe('It is for app.test, www.app.test, 127.0.0.1.');
  });

  test('expired', async () => {
    const old = makeCertificate('old', 'IP:127.0.0.1', '-days', '-1');
    const port = await serveTls(old, (_, response) => response.end());
    expect(await failure(request(`https://127.0.0.1:${port}/`, { ca }))).toMatchObject({
      reason: 'tls',
      message: `the certificate of 127.0.0.1:${port} has expired`,
    });
  });

  test('self-signed', async () => {
    const own = { key: readFileSync(join(folder, 'ca.key'), 'utf8'), cert: ca };
    const port = await serveTls(own, (_, response) => response.end());
    expect(await failure(request(`https://127.0.0.1:${port}/`))).toMatchObject({
      reason: 'tls',
      message: `the certificate of 127.0.0.1:${port} is self-signed`,
    });
  });

  test('plain text where TLS is expected', async () => {
    const port = await serve((_, response) => response.end('ok'));
    expect(await failure(request(`https://127.0.0.1:${port}/`))).toMatchObject({ reason: 'tls' });
  });

  test('a server that hangs up during the handshake', async () => {
    const port = await listen(createTcpServer((socket) => socket.once('data', () => socket.destroy())));
    expect(await failure(request(`https://127.0.0.1:${port}/`))).toMatchObject({ reason: 'closed' });
  });

  test('a server that says nothing during the handshake', async () => {
    const port = await listen(createTcpServer(() => undefined));
    expect(await failure(request(`https://127.0.0.1:${port}/`, { timeoutSeconds: 0.2 }))).toMatchObject({
      reason: 'timeout',
    });
  });
});

/** A stream that is no socket, as `Session.dial` gives over SSH. */
async function dialForeign(_host: string, port: number): Promise<Duplex> {
  const socket = connect(port, '127.0.0.1');
  await once(socket, 'connect');
  const foreign = new Duplex({
    read: () => socket.resume(),
    write: (chunk: Uint8Array, _encoding, done) => {
      socket.write(chunk, () => {
        done();
      });
    },
    final: (done) => {
      socket.end();
      done();
    },
    destroy: (error, done) => {
      socket.destroy();
      done(error);
    },
  });
  socket.on('data', (chunk: Uint8Array) => {
    if (!foreign.push(chunk)) socket.pause();
  });
  socket.on('end', () => foreign.push(null));
  socket.on('close', () => foreign.destroy());
  socket.on('error', () => foreign.destroy());
  return foreign;
}

describe('through a dialled stream', () => {
  test('http, with a large body', async () => {
    const port = await serve((_, response) => response.end('x'.repeat(300_000)));
    expect((await request(`http://app.internal:${port}/`, { dial: dialForeign })).body).toHaveLength(300_000);
  });

  test('https: TLS is layered on the stream', async () => {
    const port = await serveTls(good, (_, response) => response.end('ok'));
    expect(await request(`https://app.test:${port}/`, { dial: dialForeign, ca })).toMatchObject({
      status: 200,
      body: 'ok',
    });
  });

  test('a stream that ends within TLS or the answer', async () => {
    const port = await listen(createTcpServer((socket) => socket.once('data', () => socket.destroy())));
    expect(await failure(request(`https://app.test:${port}/`, { dial: dialForeign, ca }))).toMatchObject({
      reason: 'closed',
    });
    expect(await failure(request(`http://app.test:${port}/`, { dial: dialForeign }))).toMatchObject({
      reason: 'closed',
    });
  });

  test('a dial that is refused keeps its words', async () => {
    const dial = (): Promise<Duplex> =>
      Promise.reject(new ConnectError('refused', 'server: 127.0.0.1:3000 refused', 'Start it.'));
    expect(await failure(request('http://127.0.0.1:3000/', { dial }))).toMatchObject({
      reason: 'refused',
      message: 'server: 127.0.0.1:3000 refused',
      hint: 'Start it.',
    });
  });

  test('a dial that never comes back is bounded, and closed when it does', async () => {
    const late = new Duplex({ read: () => undefined, write: () => undefined });
    let give: (stream: Duplex) => void = () => undefined;
    const dial = (): Promise<Duplex> => new Promise((resolve) => (give = resolve));
    expect(await failure(request('http://127.0.0.1:3000/', { dial, timeoutSeconds: 0.1 }))).toMatchObject({
      reason: 'timeout',
    });
    give(late);
    await once(late, 'close');
    expect(late.destroyed).toBe(true);
  });
});

describe('reach', () => {
  test('tcp', async () => {
    const port = await listen(createTcpServer((socket) => socket.on('error', () => undefined)));
    const reached = await http.reach({ host: '127.0.0.1', port, timeoutSeconds: 5 });
    expect(reached.certificate).toBeUndefined();
    expect(await failure(http.reach({ host: '127.0.0.1', port: 1, timeoutSeconds: 5 }))).toMatchObject({
      reason: 'refused',
    });
  });

  test('tls', async () => {
    const port = await serveTls(good, (_, response) => response.end());
    const reached = await http.reach({
      host: '127.0.0.1',
      port,
      timeoutSeconds: 5,
      ca,
      tls: { serverName: 'www.app.test' },
    });
    expect(reached.certificate?.names).toContain('app.test');
    expect(
      await failure(http.reach({ host: '127.0.0.1', port, timeoutSeconds: 5, ca, tls: { serverName: 'other.test' } })),
    ).toMatchObject({ reason: 'tls' });
  });
});

describe('redirects', () => {
  test('are followed on the same host, with the headers; not to another one', async () => {
    const port = await serve((incoming, response) => {
      if (incoming.url === '/') response.writeHead(301, { location: '/login?x=1#top' }).end();
      else if (incoming.url === '/away') response.writeHead(302, { location: 'http://localhost:1/' }).end();
      else if (incoming.url === '/loop') response.writeHead(302, { location: '/loop' }).end();
      else response.end(`${incoming.url ?? ''} ${incoming.headers.authorization ?? 'nothing'}`);
    });
    const base = `http://127.0.0.1:${port}`;
    expect(await attempt(`${base}/ headers.authorization:secret contains:"/login?x=1 secret"`)).toMatchObject({
      ok: true,
    });
    expect(await attempt(`${base}/away`)).toMatchObject({
      ok: false,
      reason: expect.stringContaining('another host, localhost') as string,
    });
    expect(await attempt(`${base}/loop`)).toMatchObject({
      ok: false,
      reason: '6 redirects, more than 5: the last one leads to /loop',
    });
    expect(await attempt(`${base}/ 301`)).toMatchObject({ ok: true });
  });

  test('to a host that is allowed go without the headers', async () => {
    const other = await serve((incoming, response) => response.end(incoming.headers.authorization ?? 'nothing'));
    const port = await serve((_, response) =>
      response.writeHead(302, { location: `http://localhost:${other}/` }).end(),
    );
    expect(
      await attempt(
        `http://127.0.0.1:${port}/ allow-redirect-host:localhost headers.authorization:secret contains:nothing`,
      ),
    ).toMatchObject({ ok: true });
  });
});
