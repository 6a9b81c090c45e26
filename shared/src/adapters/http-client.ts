/** HTTP, TCP and TLS connections, each made for one question and closed again. */
import { once } from 'node:events';
import { connect as connectTcp, isIP, type Socket } from 'node:net';
import type { Duplex, Readable } from 'node:stream';
import {
  connect as connectTls,
  type PeerCertificate as NodeCertificate,
  rootCertificates,
  type TLSSocket,
} from 'node:tls';
import { type buildConnector, Client } from 'undici';
import { CancelledError, ConnectError, RequestError } from '../errors';
import { Secret } from '../model/secret';
import type {
  ConnectionRequest,
  Http,
  HttpRequest,
  HttpResponse,
  PeerCertificate,
  Reached,
  ReachRequest,
} from '../ports';
import { excerpt } from '../shell/excerpt';
import { field, messageOf } from './foreign-error';

const MAX_BODY_BYTES = 1024 * 1024;
const MAX_HEADER_BYTES = 64 * 1024;

export function createHttp(): Http {
  return { request, reach };
}

async function request(asked: HttpRequest): Promise<HttpResponse> {
  const url = new URL(asked.url);
  const secure = url.protocol === 'https:';
  const name = url.hostname.replace(/^\[|\]$/g, '');
  const port = Number(url.port) || (secure ? 443 : 80);
  const target = asked.connectTo ?? { host: name, port };
  const startedMs = performance.now();
  return bounded(asked, describeAddress(target.host, target.port), async (signal) => {
    const line = await openLine(asked, { ...target, tls: secure ? { serverName: name } : undefined }, signal);
    // One connection, made above: undici speaks HTTP on it and nothing else. Its own time-outs are off, the signal has ours.
    const client = new Client(url.origin, {
      connect: (_options: buildConnector.Options, callback: buildConnector.Callback) => {
        if (isUsable(line.stream)) callback(null, line.stream);
        else callback(Object.assign(new Error('closed before the request'), { code: 'ECONNRESET' }), null);
      },
      headersTimeout: 0,
      bodyTimeout: 0,
      maxHeaderSize: MAX_HEADER_BYTES,
      pipelining: 0,
    });
    try {
      const response = await client.request({
        method: asked.method,
        path: url.pathname + url.search,
        body: asked.content ?? null,
        // Compressed bodies could not be looked into, and "ok" gains nothing from gzip.
        headers: {
          'user-agent': 'slipway',
          'accept-encoding': 'identity',
          accept: '*/*',
          ...revealHeaders(asked.headers ?? {}),
        },
        signal,
        reset: true,
      });
      const { body, truncated } = await readBody(response.body, asked.maxBodyBytes ?? MAX_BODY_BYTES);
      return {
        status: response.statusCode,
        headers: joinHeaders(response.headers),
        body,
        truncated,
        latencyMs: performance.now() - startedMs,
        certificate: line.certificate,
      };
    } finally {
      line.stream.destroy();
      await client.destroy();
    }
  });
}

/** undici's type asks for a Socket, but it only reads and writes: a channel of an SSH connection will do. */
function isUsable(stream: Duplex): stream is Socket {
  return !stream.destroyed && stream.readable && stream.writable;
}

async function reach(asked: ReachRequest): Promise<Reached> {
  const startedMs = performance.now();
  return bounded(asked, describeAddress(asked.host, asked.port), async (signal) => {
    const line = await openLine(asked, asked, signal);
    line.stream.destroy();
    return { latencyMs: performance.now() - startedMs, certificate: line.certificate };
  });
}

interface Line {
  readonly stream: Duplex;
  readonly certificate: PeerCertificate | undefined;
}

async function openLine(
  asked: ConnectionRequest,
  to: Pick<ReachRequest, 'host' | 'port' | 'tls'>,
  signal: AbortSignal,
): Promise<Line> {
  const raw =
    asked.dial === undefined
      ? await openSocket(to.host, to.port, signal)
      : await dialWithin(asked.dial(to.host, to.port), signal);
  try {
    if (to.tls === undefined) return { stream: raw, certificate: undefined };
    const secured = guard(
      connectTls({
        socket: raw,
        // An address cannot be an SNI name (RFC 6066, section 3), but the certificate is checked against it all the same.
        ...(isIP(to.tls.serverName) === 0 ? { servername: to.tls.serverName } : {}),
        host: to.tls.serverName,
        ALPNProtocols: ['http/1.1'],
        ...(asked.ca === undefined ? {} : { ca: [...rootCertificates, asked.ca] }),
      }),
    );
    return { stream: secured, certificate: await shakeHands(secured, raw, signal) };
  } catch (error) {
    raw.destroy();
    throw error;
  }
}

async function openSocket(host: string, port: number, signal: AbortSignal): Promise<Socket> {
  const socket = guard(connectTcp({ host, port, noDelay: true }));
  try {
    await once(socket, 'connect', { signal });
    return socket;
  } catch (error) {
    socket.destroy();
    throw error;
  }
}

/** `dial` knows no signal: whoever loses patience leaves, and a stream that comes too late is closed. */
async function dialWithin(dialing: Promise<Duplex>, signal: AbortSignal): Promise<Duplex> {
  const aborted = new AbortController();
  try {
    const gaveUp = once(signal, 'abort', { signal: aborted.signal }).then(() => undefined);
    gaveUp.catch(() => undefined);
    const stream = signal.aborted ? undefined : await Promise.race([dialing, gaveUp]);
    if (stream !== undefined) return guard(stream);
    dialing.then(
      (late) => guard(late).destroy(),
      () => undefined,
    );
    throw signal.reason;
  } finally {
    aborted.abort();
  }
}

async function shakeHands(secured: TLSSocket, raw: Duplex, signal: AbortSignal): Promise<PeerCertificate> {
  const ended = new AbortController();
  // A peer that closes during the handshake over a foreign stream may give no error event at all.
  const onClose = (): void => {
    // Over SSH the channel closes before the TLS socket tells what it did not like.
    ended.abort(secured.errored ?? Object.assign(new Error('closed during the TLS handshake'), { code: 'ECONNRESET' }));
  };
  raw.once('close', onClose);
  try {
    await once(secured, 'secureConnect', { signal: AbortSignal.any([signal, ended.signal]) });
    return readCertificate(secured.getPeerCertificate());
  } catch (error) {
    secured.destroy();
    throw ended.signal.aborted && !signal.aborted && isAbort(error) ? ended.signal.reason : error;
  } finally {
    raw.off('close', onClose);
  }
}

/** An error event without a listener ends the process; whoever uses the stream hears of it by other ways. */
function guard<S extends Duplex>(stream: S): S {
  return stream.on('error', () => undefined);
}

function isAbort(error: unknown): boolean {
  return field(error, 'name') === 'AbortError';
}

/** Runs the exchange within its time and turns whatever goes wrong into plain words. */
async function bounded<T>(
  asked: ConnectionRequest,
  where: string,
  body: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const timeout = AbortSignal.timeout(Math.max(1, Math.round(asked.timeoutSeconds * 1000)));
  const signal = asked.signal === undefined ? timeout : AbortSignal.any([asked.signal, timeout]);
  try {
    return await body(signal);
  } catch (error) {
    if (asked.signal?.aborted === true) throw new CancelledError('The workflow was cancelled.', '', { cause: error });
    if (timeout.aborted) {
      throw new RequestError(
        'timeout',
        `no complete answer from ${where} within ${Math.max(0.1, Math.round(asked.timeoutSeconds * 10) / 10)} s`,
        '',
        {
          cause: error,
        },
      );
    }
    throw explain(error, where);
  }
}

async function readBody(stream: Readable, maxBytes: number): Promise<{ body: string; truncated: boolean }> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of stream as AsyncIterable<Uint8Array>) {
    chunks.push(chunk);
    length += chunk.length;
    // Leaving the loop destroys the stream, and so ends the transfer.
    if (length > maxBytes) break;
  }
  const bytes = Buffer.concat(chunks);
  // A decoder in stream mode keeps back a character that the cut went through.
  return {
    body: new TextDecoder().decode(bytes.subarray(0, maxBytes), { stream: length > maxBytes }),
    truncated: length > maxBytes,
  };
}

function revealHeaders(headers: Readonly<Record<string, string | Secret>>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(headers).map(([name, value]) => [
      name.toLowerCase(),
      value instanceof Secret ? value.reveal() : value,
    ]),
  );
}

function joinHeaders(headers: Readonly<Record<string, string | string[] | undefined>>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(headers).flatMap(([name, value]) =>
      value === undefined ? [] : [[name.toLowerCase(), typeof value === 'string' ? value : value.join(', ')]],
    ),
  );
}

function readCertificate(certificate: NodeCertificate): PeerCertificate {
  const issuer: Readonly<Record<string, string | string[] | undefined>> = { ...certificate.issuer };
  const named = issuer['O'] ?? issuer['CN'] ?? '';
  return {
    validFrom: new Date(certificate.valid_from),
    validTo: new Date(certificate.valid_to),
    names: listNames(certificate),
    issuer: typeof named === 'string' ? named : named.join(', '),
    fingerprint256: certificate.fingerprint256,
  };
}

function listNames(certificate: Pick<NodeCertificate, 'subjectaltname'>): string[] {
  return (certificate.subjectaltname ?? '').split(', ').flatMap((entry) => {
    const name = /^(?:DNS|IP Address):(.+)$/.exec(entry)?.[1];
    return name === undefined ? [] : [name];
  });
}

function describeAddress(host: string, port: number): string {
  return `${host.includes(':') ? `[${host}]` : host}:${port}`;
}

/** OpenSSL's and Node's words for a certificate that does not hold: https://nodejs.org/api/tls.html#x509-certificate-error-codes */
const CERTIFICATE_FAULTS: ReadonlyMap<string, readonly [what: string, hint: string]> = new Map([
  ['CERT_HAS_EXPIRED', ['has expired', 'Renew it, and reload the web server.']],
  ['CERT_NOT_YET_VALID', ['is not valid yet', 'Check the clocks of the server and of the runner.']],
  ['CERT_REVOKED', ['was revoked', 'Issue a new one.']],
  ['DEPTH_ZERO_SELF_SIGNED_CERT', ['is self-signed', 'Give it as `ca`, or use one of a public authority.']],
  [
    'SELF_SIGNED_CERT_IN_CHAIN',
    ['comes from an authority that is not trusted here', "Give that authority's certificate as `ca`."],
  ],
  [
    'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
    [
      'cannot be verified',
      "The server probably does not send the intermediate certificate (use fullchain.pem); a private authority's certificate goes into `ca`.",
    ],
  ],
  [
    'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
    [
      'comes from an authority that is not trusted here',
      "Send the whole chain (fullchain.pem); a private authority's certificate goes into `ca`.",
    ],
  ],
  [
    'UNABLE_TO_GET_ISSUER_CERT',
    [
      'comes from an authority that is not trusted here',
      "Send the whole chain (fullchain.pem); a private authority's certificate goes into `ca`.",
    ],
  ],
]);

function explain(error: unknown, where: string): Error {
  if (error instanceof RequestError || error instanceof CancelledError) return error;
  // The SSH session's own words say best what it could not reach.
  if (error instanceof ConnectError) {
    const known = {
      unresolved: 'unresolved',
      refused: 'refused',
      unreachable: 'unreachable',
      timeout: 'timeout',
    } as const;
    const reason = error.reason in known ? known[error.reason as keyof typeof known] : 'closed';
    return new RequestError(reason, error.message, error.hint, { cause: error });
  }
  const { code, message, cert } = readCause(error);
  const fail = (reason: RequestError['reason'], text: string, hint = ''): RequestError =>
    new RequestError(reason, text, hint, { cause: error });
  const fault = CERTIFICATE_FAULTS.get(code);
  if (fault !== undefined) return fail('tls', `the certificate of ${where} ${fault[0]}`, fault[1]);
  switch (code) {
    case 'ENOTFOUND':
    case 'EAI_NODATA':
    case 'EAI_NONAME':
      return fail(
        'unresolved',
        `${where} has no address in DNS (${code})`,
        'Check the spelling, and the A and AAAA records.',
      );
    case 'EAI_AGAIN':
      return fail('unresolved', `the name of ${where} could not be looked up: no answer from DNS (${code})`);
    case 'ECONNREFUSED':
      return fail('refused', `${where} refused the connection: nothing listens there`);
    case 'ENETUNREACH':
    case 'EHOSTUNREACH':
    case 'EADDRNOTAVAIL':
      return fail('unreachable', `there is no route to ${where} (${code})`);
    case 'ETIMEDOUT':
      return fail('timeout', `${where} did not answer (${code}): a firewall may drop the packets`);
    case 'ERR_TLS_CERT_ALTNAME_INVALID': {
      const names = cert === undefined ? [] : listNames(cert);
      return fail(
        'tls',
        `the certificate of ${where} is for another name`,
        names.length === 0 ? '' : `It is for ${excerpt(names.slice(0, 10).join(', '), 200)}.`,
      );
    }
    case 'ECONNRESET':
    case 'EPIPE':
    case 'UND_ERR_SOCKET':
    case 'UND_ERR_CLOSED':
    case 'UND_ERR_DESTROYED':
    case 'UND_ERR_RES_CONTENT_LENGTH_MISMATCH':
      return fail('closed', `${where} closed the connection before the answer was complete`);
    case 'UND_ERR_HEADERS_OVERFLOW':
      return fail('protocol', `${where} sent more than ${MAX_HEADER_BYTES / 1024} KiB of headers`);
    default:
      if (code.startsWith('HPE_'))
        return fail('protocol', `${where} does not speak HTTP on this port, or not properly (${code})`);
      if (code.startsWith('ERR_SSL_') || code === 'EPROTO') {
        return fail(
          'tls',
          `no TLS with ${where} (${code}): it may speak plain text on this port, or only outdated TLS`,
        );
      }
      return fail(
        'protocol',
        `${where} gave no usable answer: ${excerpt(code === '' ? message : `${message} (${code})`, 200)}`,
      );
  }
}

interface Cause {
  readonly code: string;
  readonly message: string;
  readonly cert: NodeCertificate | undefined;
}

/** The innermost error with a code: undici wraps it, and Node gives one error with `errors` for several addresses. */
function readCause(error: unknown, depth = 0): Cause {
  const several = field(error, 'errors');
  const code = field(error, 'code');
  const inner = Array.isArray(several)
    ? (several.at(-1) as unknown)
    : typeof code === 'string'
      ? undefined
      : field(error, 'cause');
  if (inner !== undefined && depth < 5) return readCause(inner, depth + 1);
  return {
    code: typeof code === 'string' ? code : '',
    message: messageOf(error),
    cert: field(error, 'cert') as NodeCertificate | undefined,
  };
}
