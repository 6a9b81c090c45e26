/** What is served under the names of a certificate, on every address, against what is on the server's disk. */
import { isIPv6 } from 'node:net';
import { RequestError } from '../errors';
import type { Clock, Dial, ReadServedChain } from '../ports';
import { type Certificate, type ChainVerdict, judgeChain, parseChain } from './certificate';
import { listAddresses, type NameAddresses } from './rehearsal';

export interface Served {
  readonly name: string;
  readonly address: string;
  readonly from: 'runner' | 'server';
  /** Undefined where nothing answered with a certificate. */
  readonly certificate: Certificate | undefined;
  readonly chain: ChainVerdict | undefined;
  /** Why not; empty where there is one. */
  readonly problem: string;
  /** Set where the runner has no way to it, and no server is at hand that might: nothing is known of it. */
  readonly isOutOfReach?: boolean;
  /** Set where something in front of the server ends TLS itself, with a certificate of its own, as a CDN does. */
  readonly isFront?: boolean;
}

export interface LookOptions {
  readonly readServedChain: ReadServedChain;
  /** Certificates of a private authority in PEM form, to trust beside the usual ones. */
  readonly ca: string | undefined;
  readonly signal: AbortSignal;
  /** From the server itself, for addresses that the runner has no route to. */
  readonly dial: Dial | undefined;
  /** What is served has to be valid then. */
  readonly now: Date;
  /** Undefined without a server. */
  readonly server: ServerAddresses | undefined;
}

export interface ServerAddresses {
  /** The server's own, and the one that SSH uses. */
  readonly own: readonly string[];
  /** Of what stands in front of it. */
  readonly front: readonly string[];
}

/**
 * Each name on each of its addresses. Where something in front of the server shows another certificate than the expected one,
 * the server itself is looked at, too.
 */
export async function lookAtServed(
  asked: readonly NameAddresses[],
  expected: Certificate | undefined,
  options: LookOptions,
): Promise<readonly Served[]> {
  const all = await Promise.all(
    asked.flatMap((one) => listAddresses(one).map((address) => lookAtOne(one.name, address, options))),
  );
  const { server } = options;
  if (server === undefined || expected === undefined) return all;
  const marked = all.map((one) => ({ ...one, isFront: isFront(one, expected, server) }));
  const behind = new Set(marked.filter((one) => one.isFront).map((one) => one.name));
  const seen = new Set(marked.filter((one) => !one.isFront).map((one) => one.name));
  const unseen = [...behind].filter((name) => !seen.has(name));
  return [...marked, ...(await Promise.all(unseen.map((name) => lookPast(name, server.own, options))))];
}

const isFront = ({ address, certificate }: Served, expected: Certificate, { front }: ServerAddresses): boolean =>
  certificate !== undefined && certificate.fingerprint !== expected.fingerprint && front.includes(address);

/** The server itself, past what is in front of it: from there, since its firewall may let nobody else in. */
async function lookPast(name: string, own: readonly string[], options: LookOptions): Promise<Served> {
  const { dial } = options;
  const ways = [
    ...(dial === undefined ? [] : [...own, '127.0.0.1'].map((address) => ({ address, via: dial }))),
    ...own.map((address) => ({ address, via: undefined })),
  ];
  let last: Served | undefined;
  for (const { address, via } of ways) {
    last = await lookFrom(via, name, address, options).catch((error: unknown) => describeFailure(error, name, address));
    if (last.certificate !== undefined) return last;
  }
  const problem = `the server itself, past what is in front of it, gives no certificate: ${last?.problem ?? 'its addresses are unknown'}`;
  return { name, address: last?.address ?? '', from: 'server', certificate: undefined, chain: undefined, problem };
}

async function lookFrom(
  via: Dial | undefined,
  name: string,
  address: string,
  { readServedChain, ca, signal, now }: LookOptions,
): Promise<Served> {
  const request = { host: address, port: 443, serverName: name, timeoutSeconds: 10, signal, ca, dial: via };
  const { certificates, refusal } = await readServedChain(request);
  return {
    name,
    address,
    from: via === undefined ? 'runner' : 'server',
    certificate: parseChain(certificates[0] ?? '')[0],
    chain: judgeChain(certificates, refusal, now),
    problem: '',
  };
}

/** @throws what is no failure of the request */
function describeFailure(error: unknown, name: string, address: string): Served {
  if (!(error instanceof RequestError)) throw error;
  return { name, address, from: 'runner', certificate: undefined, chain: undefined, problem: error.message };
}

async function lookAtOne(name: string, address: string, options: LookOptions): Promise<Served> {
  const { dial } = options;
  // GitHub's own runners have no IPv6.
  const isForServer = (error: unknown): boolean =>
    error instanceof RequestError && error.reason === 'unreachable' && isIPv6(address);
  try {
    return await lookFrom(undefined, name, address, options).catch((error: unknown) => {
      if (!isForServer(error) || dial === undefined) throw error;
      return lookFrom(dial, name, address, options);
    });
  } catch (error) {
    return { ...describeFailure(error, name, address), isOutOfReach: dial === undefined && isForServer(error) };
  }
}

/**
 * Sets apart what could not be looked at from here. A name of which no address at all was seen stays: of that, nothing good is
 * known. Pure.
 */
export function setUnseenApart(all: readonly Served[]): {
  readonly served: readonly Served[];
  readonly unseen: readonly Served[];
} {
  const seen = new Set(all.filter((one) => one.certificate !== undefined).map((one) => one.name));
  const isUnseen = (one: Served): boolean => one.isOutOfReach === true && seen.has(one.name);
  return { served: all.filter((one) => !isUnseen(one)), unseen: all.filter(isUnseen) };
}

const RELOAD_SECONDS = 10;
const PAUSE_SECONDS = 0.3;

/**
 * nginx needs a moment for a reload: looks until all is as it should be, or it has had that moment. What is in front may have been
 * looked at just before the reload, and so gets a second look.
 */
export async function waitForServed(
  asked: readonly NameAddresses[],
  expected: Certificate,
  options: LookOptions,
  clock: Clock,
): Promise<readonly Served[]> {
  const until = clock.monotonicMs() + RELOAD_SECONDS * 1000;
  for (let isSecond = false; ;) {
    const served = await lookAtServed(asked, expected, options);
    const rest = served.filter((one) => one.isFront !== true);
    // A clock that is a little behind the authority's holds a fresh certificate for one of the future.
    const isDone = rest.every(
      (one) => one.certificate?.fingerprint === expected.fingerprint && one.chain?.kind !== 'broken',
    );
    if ((isDone && (isSecond || rest.length === served.length)) || clock.monotonicMs() >= until) return served;
    isSecond = isDone;
    await clock.sleep(PAUSE_SECONDS, options.signal);
  }
}

/** What is seen of those who show a certificate of their own; a sentence each. Pure. */
export function describeFronts(served: readonly Served[]): string[] {
  return served.flatMap(({ name, address, certificate, isFront: isOne }) =>
    isOne === true && certificate !== undefined
      ? [
          `${name} at ${address}: what stands in front of the server there ends TLS itself, and visitors get its certificate, ` +
            `from ${certificate.issuer}, until ${certificate.validTo.toISOString()}. The server was looked at past it.`,
        ]
      : [],
  );
}

/** What is wrong with what is served; a sentence each. Of a front, only what is wrong with its own certificate. Pure. */
export function judgeServed(
  served: readonly Served[],
  expected: Certificate | undefined,
  options: { readonly mustBeTrusted: boolean },
): string[] {
  return served.flatMap(({ name, address, certificate, chain, problem, isFront: isOne }) => {
    const where = `${name} at ${address}`;
    if (certificate === undefined) return [`${where}: ${problem}.`];
    const problems: string[] = [];
    if (isOne !== true && expected !== undefined && certificate.fingerprint !== expected.fingerprint) {
      problems.push(
        `${where} serves another certificate than the one on the server: from ${certificate.issuer}, until ${certificate.validTo.toISOString()}.`,
      );
    }
    if (!certificate.names.some((one) => covers(one, name))) {
      problems.push(
        `${where} serves a certificate for other names: ${certificate.names.slice(0, 10).join(', ') || 'none'}.`,
      );
    }
    if (chain?.kind === 'broken') problems.push(`${where}: ${chain.problem}.`);
    if (chain?.kind === 'unknown-root' && options.mustBeTrusted) {
      problems.push(`${where} serves a certificate that leads to ${chain.root}, which nobody trusts.`);
    }
    return problems;
  });
}

/** `*.shop.example` covers one label. */
function covers(pattern: string, name: string): boolean {
  return pattern === name || (pattern.startsWith('*.') && pattern.slice(1) === name.slice(name.indexOf('.')));
}
