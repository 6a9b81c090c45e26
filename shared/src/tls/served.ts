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
}

export interface LookOptions {
  readonly readServedChain: ReadServedChain;
  readonly roots: readonly string[];
  readonly signal: AbortSignal;
  /** From the server itself, for addresses that the runner has no route to. */
  readonly dial: Dial | undefined;
  /** What is served has to be valid then. */
  readonly now: Date;
}

/** Each name on each of its addresses. */
export async function lookAtServed(asked: readonly NameAddresses[], options: LookOptions): Promise<readonly Served[]> {
  return Promise.all(
    asked.flatMap((one) => listAddresses(one).map((address) => lookAtOne(one.name, address, options))),
  );
}

async function lookAtOne(name: string, address: string, options: LookOptions): Promise<Served> {
  const { readServedChain, roots, signal, dial, now } = options;
  const look = async (via: Dial | undefined): Promise<Served> => {
    const request = { host: address, port: 443, serverName: name, timeoutSeconds: 10, signal, dial: via };
    const chain = await readServedChain(request);
    const from = via === undefined ? 'runner' : 'server';
    return {
      name,
      address,
      from,
      certificate: parseChain(chain[0] ?? '')[0],
      chain: judgeChain(chain, roots, now),
      problem: '',
    };
  };
  // GitHub's own runners have no IPv6.
  const isForServer = (error: unknown): boolean =>
    error instanceof RequestError && error.reason === 'unreachable' && isIPv6(address);
  try {
    return await look(undefined).catch((error: unknown) => {
      if (!isForServer(error) || dial === undefined) throw error;
      return look(dial);
    });
  } catch (error) {
    if (!(error instanceof RequestError)) throw error;
    const isOutOfReach = dial === undefined && isForServer(error);
    const problem = error.message;
    return { name, address, from: 'runner', certificate: undefined, chain: undefined, problem, isOutOfReach };
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

/** nginx needs a moment for a reload: looks until all is as it should be, or it has had that moment. */
export async function waitForServed(
  asked: readonly NameAddresses[],
  fingerprint: string,
  options: LookOptions,
  clock: Clock,
): Promise<readonly Served[]> {
  const until = clock.monotonicMs() + RELOAD_SECONDS * 1000;
  for (;;) {
    const served = await lookAtServed(asked, options);
    const isDone = served.every((one) => one.certificate?.fingerprint === fingerprint);
    if (isDone || clock.monotonicMs() >= until) return served;
    await clock.sleep(PAUSE_SECONDS, options.signal);
  }
}

/** What is wrong with what is served; a sentence each. Pure. */
export function judgeServed(
  served: readonly Served[],
  expected: Certificate | undefined,
  options: { readonly mustBeTrusted: boolean },
): string[] {
  return served.flatMap(({ name, address, certificate, chain, problem }) => {
    const where = `${name} at ${address}`;
    if (certificate === undefined) return [`${where}: ${problem}.`];
    const problems: string[] = [];
    if (expected !== undefined && certificate.fingerprint !== expected.fingerprint) {
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
