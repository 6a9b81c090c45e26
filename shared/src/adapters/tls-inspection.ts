/** The certificates that a server shows: also those that nobody should trust, since they are to be looked at. */
import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { connect as connectTcp } from 'node:net';
import { connect as connectTls, type DetailedPeerCertificate, rootCertificates } from 'node:tls';
import { CancelledError, ConnectError, RequestError, type RequestFailure } from '../errors';
import type { ReadServedChain } from '../ports';
import { field, messageOf } from './foreign-error';

const REASONS: ReadonlyMap<unknown, readonly [RequestFailure, string]> = new Map([
  ['ECONNREFUSED', ['refused', 'refused the connection: nothing listens there']],
  ['ENETUNREACH', ['unreachable', 'cannot be reached from here: there is no route']],
  ['EHOSTUNREACH', ['unreachable', 'cannot be reached from here: there is no route']],
  ['EADDRNOTAVAIL', ['unreachable', 'cannot be reached from here: there is no route']],
  ['ECONNRESET', ['closed', 'closed the connection']],
]);

export const readServedChain: ReadServedChain = async (request) => {
  const { host, port, serverName, timeoutSeconds } = request;
  const where = `${host.includes(':') ? `[${host}]` : host}:${port}`;
  const limit = AbortSignal.timeout(Math.max(1, Math.round(timeoutSeconds * 1000)));
  const signal = request.signal === undefined ? limit : AbortSignal.any([limit, request.signal]);
  let raw: Awaited<ReturnType<NonNullable<typeof request.dial>>> | undefined;
  try {
    if (request.dial === undefined) {
      const socket = connectTcp({ host, port });
      raw = socket.on('error', () => undefined);
      await once(socket, 'connect', { signal });
    } else {
      raw = (await request.dial(host, port)).on('error', () => undefined);
    }
    // Nothing is sent over this connection: whoever is at its other end only gets to show what it has.
    const secured = connectTls({
      socket: raw,
      servername: serverName,
      rejectUnauthorized: false,
      checkServerIdentity: () => undefined,
      ...(request.ca === undefined ? {} : { ca: [...rootCertificates, request.ca] }),
    });
    try {
      await once(secured, 'secureConnect', { signal });
      const certificates = listChain(secured.getPeerCertificate(true));
      return { certificates, refusal: secured.authorized ? '' : describeRefusal(secured.authorizationError) };
    } finally {
      secured.destroy();
    }
  } catch (error) {
    if (request.signal?.aborted === true) throw new CancelledError('The workflow was cancelled.', '', { cause: error });
    if (limit.aborted) throw new RequestError('timeout', `${where} did not answer within ${timeoutSeconds} s`, '');
    if (error instanceof ConnectError)
      throw new RequestError('unreachable', error.message, error.hint, { cause: error });
    const [reason, text] = REASONS.get(field(error, 'code')) ?? ['tls', `gave no certificate: ${messageOf(error)}`];
    throw new RequestError(reason, `${where} ${text}`, '', { cause: error });
  } finally {
    raw?.destroy();
  }
};

/** Node gives the code alone, and says an error in its types. */
function describeRefusal(error: unknown): string {
  return typeof error === 'string' ? error : messageOf(error);
}

/** A root points to itself. */
function listChain(first: DetailedPeerCertificate): string[] {
  const chain: string[] = [];
  const seen = new Set<string>();
  let next: DetailedPeerCertificate | undefined = first;
  while (next !== undefined && field(next, 'raw') !== undefined && !seen.has(next.fingerprint256)) {
    seen.add(next.fingerprint256);
    chain.push(new X509Certificate(next.raw).toString());
    next = field(next, 'issuerCertificate') as DetailedPeerCertificate | undefined;
  }
  return chain;
}
