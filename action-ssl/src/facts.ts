/** Read-only questions: to the server, to DNS, and to the authority. */
import { randomBytes } from 'node:crypto';
import { readCertificateHost } from '#shared/commands/certificates';
import {
  CancelledError,
  type PreflightFinding,
  RequestError,
  type RequestFailure,
  ServerAnswerError,
} from '#shared/errors';
import type { CertificatePorts, Dns, HttpResponse, Session } from '#shared/ports';
import { type Directory, parseDirectory, parseRenewalWindow, type RenewalWindow } from '#shared/tls/authority';
import { type CertificateHost, type Lineage, parseCertificateHost, parseLineage } from '#shared/tls/facts';
import type { RunVerb } from '#shared/tls/privileged';
import { listAddresses, normalizeAddress, askAddresses } from '#shared/tls/rehearsal';
import type { Certificate } from '#shared/tls/certificate';
import type { ServerAddresses } from '#shared/tls/served';
import type { Inputs } from './inputs';

/** What the server says of itself, without root. */
export async function readHost(session: Session, inputs: Inputs, signal: AbortSignal): Promise<CertificateHost> {
  const token = `slipway-${randomBytes(16).toString('hex')}`;
  const command = readCertificateHost(token, inputs.name, inputs.domains);
  const { stdout } = await session.run(command, { purpose: 'look at the server', signal });
  return trust(session, () => parseCertificateHost(stdout, token));
}

/** What only root sees: certbot's own files. */
export async function readLineage(
  session: Session,
  verb: RunVerb,
  inputs: Inputs,
  signal: AbortSignal,
): Promise<Lineage> {
  const token = randomBytes(16).toString('hex');
  const stdout = await verb('facts', [token, inputs.name], { purpose: 'look at the certificate', signal });
  return trust(session, () => parseLineage(stdout, token));
}

function trust<T>(session: Session, parse: () => T): T {
  try {
    return parse();
  } catch (cause) {
    if (!(cause instanceof SyntaxError)) throw cause;
    throw new ServerAnswerError(
      `${session.where} gave no answer that can be trusted: ${cause.message}.`,
      'Run this again.',
      { cause },
    );
  }
}

/** Addresses that lead to this server: its own with the one that SSH uses, and those that the user says are in front of it. */
export async function listServerAddresses(inputs: Inputs, host: CertificateHost, dns: Dns): Promise<ServerAddresses> {
  const own = [...new Set([...host.addresses.map(normalizeAddress), ...(await listReached(inputs, dns))])];
  return { own, front: inputs.addresses.filter((address) => !own.includes(address)) };
}

async function listReached(inputs: Inputs, dns: Dns): Promise<readonly string[]> {
  if (inputs.host?.kind !== 'ssh') return [];
  const { address } = inputs.host;
  // Of a name only IPv4: the server behind NAT does not know that address, but has its IPv6 addresses itself, and a stale
  // AAAA record of this very name must not vouch for itself.
  const [asked] = /[a-z]/i.test(address) && !address.includes(':') ? await askAddresses(dns, [address]) : [];
  return asked === undefined ? [normalizeAddress(address)] : listAddresses({ ...asked, aaaa: { kind: 'none' } });
}

export interface AuthorityFacts {
  readonly directory: Directory | undefined;
  /** By the authority's clock; undefined where it does not say. */
  readonly date: Date | undefined;
  readonly finding: PreflightFinding | undefined;
}

/** The authority as the server reaches it: it is certbot there that will. */
export async function readDirectory(
  ports: CertificatePorts,
  session: Session,
  inputs: Inputs,
): Promise<AuthorityFacts> {
  const { url, label } = inputs.authority;
  const answer = await askAuthority(ports, session, inputs, url);
  if (answer instanceof RequestError) {
    const message = `${label} cannot be reached: ${answer.message}`;
    const hint = adviseOnAuthority(answer.reason, inputs.acmeCa !== '');
    return { directory: undefined, date: undefined, finding: { message, hint } };
  }
  const directory = answer.status === 200 ? parseDirectory(answer.body) : undefined;
  const date = new Date(answer.headers['date'] ?? '');
  return {
    directory,
    date: Number.isNaN(date.getTime()) ? undefined : date,
    finding:
      directory === undefined
        ? {
            message: `${url} answers ${answer.status} with something that is no ACME directory`,
            hint: 'Correct `acme-server`, or try again later.',
          }
        : undefined,
  };
}

/** What to do where the authority cannot be reached. Pure. */
export function adviseOnAuthority(reason: RequestFailure, hasCa: boolean): string {
  if (reason !== 'tls')
    return 'certbot runs on the server: it has to know the name in its DNS, and its firewall has to let it out to that port.';
  return hasCa
    ? '`acme-ca` has to hold the root of the certificate that the ACME server itself shows, beside that of what it issues.'
    : "A private authority's root goes into `acme-ca`; for a public one, look who answers in its place.";
}

/** When the authority wants the certificate to be renewed (RFC 9773); undefined where it does not say. */
export async function readWindow(
  ports: CertificatePorts,
  session: Session,
  inputs: Inputs,
  directory: Directory | undefined,
  certificate: Certificate | undefined,
): Promise<RenewalWindow | undefined> {
  if (!directory?.renewalInfoUrl || !certificate?.renewalId) return undefined;
  const url = `${directory.renewalInfoUrl.replace(/\/$/, '')}/${certificate.renewalId}`;
  if (!URL.canParse(url)) return undefined;
  const answer = await askAuthority(ports, session, inputs, url);
  return answer instanceof RequestError || answer.status !== 200 ? undefined : parseRenewalWindow(answer.body);
}

/** From the server; from the runner where sshd forwards nothing. */
async function askAuthority(
  { http, signal }: CertificatePorts,
  session: Session,
  inputs: Inputs,
  url: string,
): Promise<HttpResponse | RequestError> {
  const ca = inputs.acmeCa === '' ? undefined : inputs.acmeCa;
  const question = { method: 'GET', url, timeoutSeconds: 15, signal, ca } as const;
  try {
    return await http.request({ ...question, dial: (host, port) => session.dial(host, port) });
  } catch (error) {
    if (error instanceof CancelledError || !(error instanceof RequestError)) throw error;
    if (!['unreachable', 'closed', 'refused'].includes(error.reason)) return error;
    try {
      return await http.request(question);
    } catch (second) {
      if (!(second instanceof RequestError)) throw second;
      return error;
    }
  }
}
