/**
 * Whether an authority would issue, found out before it is asked: its rate limits count failures, too. What it looks at, and
 * from where, is what Let's Encrypt does: https://letsencrypt.org/docs/challenge-types/#http-01-challenge
 */
import { isIPv6 } from 'node:net';
import { RequestError, type PreflightFinding } from '../errors';
import type { Dial, Dns, DnsAnswer, Http, HttpResponse } from '../ports';
import { excerpt } from '../shell/excerpt';
import type { Directory } from './authority';
import { type Applicant, judgeCaa, listCaaNames } from './caa';
import { isAtLeast, type Version } from './facts';

/** IPv6 addresses have many forms; this is one for each. */
export function normalizeAddress(address: string): string {
  return isIPv6(address) ? new URL(`http://[${address}]/`).hostname.slice(1, -1) : address;
}

// --- judgements, pure --------------------------------------------------------------------------------------------------

export interface NameAddresses {
  readonly name: string;
  readonly a: DnsAnswer<string>;
  readonly aaaa: DnsAnswer<string>;
}

const listRecords = <T>(answer: DnsAnswer<T>): readonly T[] => (answer.kind === 'records' ? answer.records : []);

/** The addresses of a name, in one form. */
export function listAddresses({ a, aaaa }: NameAddresses): string[] {
  return [...listRecords(a), ...listRecords(aaaa)].map(normalizeAddress);
}

/** @param own the server's addresses, and those in front of it */
export function judgeAddresses(asked: NameAddresses, own: readonly string[]): PreflightFinding[] {
  const { name, a, aaaa } = asked;
  const findings: PreflightFinding[] = [];
  for (const [type, answer] of [
    ['A', a],
    ['AAAA', aaaa],
  ] as const) {
    if (answer.kind === 'failed') {
      findings.push({
        message: `${name}: DNS gives no answer about its ${type} records: ${answer.reason}`,
        hint: 'The authority would not get one either.',
      });
    }
  }
  if (findings.length > 0) return findings;
  const server = own.join(', ');
  if (a.kind === 'none' && aaaa.kind === 'none') {
    return [
      {
        message: `${name} is unknown to DNS: it has neither an A nor an AAAA record`,
        hint: `Create an A record for it with this server's address (${server}). If you have just done that, wait until it is known.`,
      },
    ];
  }
  for (const [type, answer] of [
    ['A', a],
    ['AAAA', aaaa],
  ] as const) {
    for (const address of listRecords(answer)
      .map(normalizeAddress)
      .filter((one) => !own.includes(one))) {
      findings.push({
        message: `${name} has the ${type} record ${address}, and that is not this server (${server})`,
        hint:
          type === 'AAAA'
            ? 'The authority prefers IPv6: correct this record, or remove it. If it is an address in front of this server, name it in `addresses`.'
            : 'Correct this record, or remove it. If it is an address of a load balancer, a proxy or NAT in front of this server, name it in `addresses`.',
      });
    }
  }
  return findings;
}

/** What somebody got who asked for the token under one address. */
export type Fetched =
  | { readonly kind: 'answer'; readonly response: Pick<HttpResponse, 'status' | 'headers' | 'body'> }
  | { readonly kind: 'failed'; readonly reason: RequestError['reason']; readonly message: string };

export function judgeFetched(
  name: string,
  address: string,
  from: string,
  token: string,
  webroot: string,
  fetched: Fetched,
): PreflightFinding | undefined {
  if (fetched.kind === 'failed') {
    return {
      message: `${name}: port 80 of ${address} cannot be reached from ${from}: ${fetched.message}`,
      hint:
        fetched.reason === 'refused'
          ? 'Does nginx run, and listen on port 80 of this address?'
          : 'Open port 80 to everybody, in the firewall of the server and in that of its provider.',
    };
  }
  const { status, headers, body } = fetched.response;
  if (status === 200 && body.trim() === token) return undefined;
  const path = `http://${name}/.well-known/acme-challenge/ at ${address}`;
  const who = headers['server'] === undefined ? '' : ` (it calls itself ${excerpt(headers['server'], 60)})`;
  const rule = `Have \`location /.well-known/acme-challenge/ { root ${webroot}; }\` in the \`server\` of port 80 that ${name} gets.`;
  if (status >= 300 && status < 400) {
    return {
      message: `${path} is redirected to ${excerpt(headers['location'] ?? 'somewhere', 120)}`,
      hint: `${rule} The redirect to HTTPS comes after it, in \`location /\`.`,
    };
  }
  if (status === 404 || status === 403) {
    return { message: `${path} answers ${status}, although a file was put there${who}`, hint: rule };
  }
  return {
    message: `${path} answers ${status} with something else than the file that was put there${who}`,
    hint: `A proxy, an application or another server takes this path. ${rule}`,
  };
}

const MAX_SKEW_SECONDS = 120;

/** @param seconds by how much the server's clock is ahead of the authority's, or of ours */
export function judgeClock(where: string, seconds: number): PreflightFinding | undefined {
  if (Math.abs(seconds) <= MAX_SKEW_SECONDS) return undefined;
  const by = Math.abs(Math.round(seconds));
  return {
    message: `The clock of ${where} is ${by} s ${seconds > 0 ? 'ahead' : 'behind'}`,
    hint: 'Certificates would be too early or over: set it (`timedatectl set-ntp true`).',
  };
}

/** How to get a certbot that knows profiles and renewal information. */
export const NEWER_CERTBOT =
  'Debian 13 has certbot 4.0; elsewhere: `snap install --classic certbot` (remove the one of apt first), or pip: https://certbot.eff.org/instructions';

export function judgeProfile(
  profile: string,
  certbot: Version | undefined,
  directory: Directory | undefined,
): PreflightFinding[] {
  if (profile === '') return [];
  const findings: PreflightFinding[] = [];
  if (certbot !== undefined && !isAtLeast(certbot, 4, 0)) {
    findings.push({
      message: `The server's certbot ${certbot.major}.${certbot.minor} knows no profiles (they came with 4.0)`,
      hint: `Leave \`profile\` out, or get a newer one. ${NEWER_CERTBOT}`,
    });
  }
  if (directory !== undefined && directory.profiles?.includes(profile) !== true) {
    const offered = directory.profiles ?? [];
    findings.push({
      message: `The authority has no profile ${profile}`,
      hint: offered.length === 0 ? 'It has none at all: leave `profile` out.' : `It has ${offered.join(', ')}.`,
    });
  }
  return findings;
}

// --- questions ---------------------------------------------------------------------------------------------------------

export async function askAddresses(dns: Dns, names: readonly string[]): Promise<readonly NameAddresses[]> {
  return Promise.all(
    names.map(async (name) => {
      const [a, aaaa] = await Promise.all([dns.addresses(name, 4), dns.addresses(name, 6)]);
      return { name, a, aaaa };
    }),
  );
}

export interface Warning {
  readonly title: string;
  readonly text: string;
}

/** @returns what forbids it, and what cannot be known */
export async function rehearseCaa(
  dns: Dns,
  name: string,
  applicant: Applicant,
): Promise<{ readonly findings: readonly PreflightFinding[]; readonly warnings: readonly Warning[] }> {
  for (const asked of listCaaNames(name)) {
    const answer = await dns.caa(asked);
    if (answer.kind === 'none') continue;
    if (answer.kind === 'failed') {
      const message = `${name}: DNS gives no answer about the CAA records of ${asked}: ${answer.reason}`;
      return { findings: [{ message, hint: 'Without one, an authority must not issue.' }], warnings: [] };
    }
    const verdict = judgeCaa(answer.records, applicant);
    switch (verdict.kind) {
      case 'allowed':
        return { findings: [], warnings: [] };
      case 'forbidden': {
        const wanted = applicant.identities[0] ?? "the authority's own name";
        const hint = `Add the CAA record \`${asked} CAA 0 issue "${wanted}"\`, or remove those that are there.`;
        return {
          findings: [{ message: `${name}: the CAA records of ${asked} forbid it: ${verdict.reason}`, hint }],
          warnings: [],
        };
      }
      case 'unknown': {
        const text = `The CAA records of ${asked} allow only ${verdict.issuers.join(', ')}, and the authority does not say under which name it goes.`;
        return { findings: [], warnings: [{ title: `CAA of ${name}`, text }] };
      }
    }
  }
  return { findings: [], warnings: [] };
}

export interface ReachOptions {
  readonly http: Http;
  readonly signal: AbortSignal;
  /** From the server itself: for what the runner has no route to, as most have none for IPv6. */
  readonly dial: Dial;
}

/** Asks one address for the token as an authority would, for each name. */
export async function rehearsePath(
  name: string,
  address: string,
  token: string,
  webroot: string,
  { http, signal, dial }: ReachOptions,
): Promise<{ readonly finding: PreflightFinding | undefined; readonly from: 'runner' | 'server' }> {
  const fetch = async (via: Dial | undefined): Promise<Fetched> => {
    try {
      const response = await http.request({
        method: 'GET',
        url: `http://${name}/.well-known/acme-challenge/${token}`,
        connectTo: { host: address, port: 80 },
        timeoutSeconds: 10,
        maxBodyBytes: 4096,
        signal,
        dial: via,
      });
      return { kind: 'answer', response };
    } catch (error) {
      if (!(error instanceof RequestError)) throw error;
      return { kind: 'failed', reason: error.reason, message: error.message };
    }
  };
  const first = await fetch(undefined);
  if (first.kind === 'failed' && first.reason === 'unreachable' && isIPv6(address)) {
    const finding = judgeFetched(
      name,
      address,
      'the server (the runner has no IPv6)',
      token,
      webroot,
      await fetch(dial),
    );
    return { finding, from: 'server' };
  }
  return { finding: judgeFetched(name, address, 'the runner', token, webroot, first), from: 'runner' };
}
