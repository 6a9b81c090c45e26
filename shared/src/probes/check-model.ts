/** What can be checked. How it is written is in `check.ts`. */
import type { Secret } from '../model/secret';
import type { ContainerExpectation } from './container';
import type { JsonPath } from '../json';

/** From where a check is made. */
export type Vantage = 'runner' | 'ssh';

export type Via = Vantage | 'both';

/** How often, how long, how patiently. */
export interface Pace {
  /** Attempts at most, the first included. */
  readonly attempts: number;
  /** Pause after an attempt. */
  readonly intervalSeconds: number;
  /** Of one attempt, redirects included. */
  readonly timeoutSeconds: number;
  /** Each pause is this many times the one before; 1 keeps them equal. */
  readonly backoff: number;
  /** Of all attempts together; undefined: only `attempts` ends it. */
  readonly deadlineSeconds: number | undefined;
  /** Attempts in a row that must pass. */
  readonly successes: number;
}

interface CheckBase extends Pace {
  /** Unique among the checks of a run. */
  readonly name: string;
  readonly via: Via;
}

/** Status codes, bounds included: 200-299 is `2xx`. */
export interface StatusRange {
  readonly from: number;
  readonly to: number;
}

export interface HttpCheck extends CheckBase {
  readonly kind: 'http';
  /** http or https, without credentials and fragment. */
  readonly url: string;
  readonly method: 'GET' | 'HEAD';
  /** Any of them. */
  readonly status: readonly StatusRange[];
  readonly bodyContains: readonly string[];
  /** Sources of regular expressions, as JavaScript has them, with the flag `m`. */
  readonly bodyMatches: readonly string[];
  readonly json: readonly { readonly path: JsonPath; readonly pathText: string; readonly expected: string }[];
  /** Response headers: names in lower case. */
  readonly header: readonly { readonly name: string; readonly expected: string }[];
  readonly maxLatencyMs: number | undefined;
  readonly maxRedirects: number;
  /** Other hosts that a redirect may lead to, in lower case. */
  readonly allowRedirectHosts: readonly string[];
  readonly minCertificateDays: number | undefined;
  readonly releaseId: string | undefined;
  /** Without a port: the URL's. */
  readonly connectTo: { readonly host: string; readonly port: number | undefined } | undefined;
  /** Sent with the request, to the URL's own host only. */
  readonly headers: Readonly<Record<string, Secret>>;
  /** PEM text. */
  readonly ca: string | undefined;
}

export interface TcpCheck extends CheckBase {
  readonly kind: 'tcp';
  readonly host: string;
  readonly port: number;
}

export interface TlsCheck extends CheckBase {
  readonly kind: 'tls';
  readonly host: string;
  readonly port: number;
  /** The name that the certificate must be for. */
  readonly serverName: string;
  readonly minCertificateDays: number | undefined;
  readonly ca: string | undefined;
}

export interface ContainerCheck extends CheckBase, ContainerExpectation {
  readonly kind: 'container';
  readonly via: 'ssh';
  readonly project: string;
  readonly service: string;
}

export interface CommandCheck extends CheckBase {
  readonly kind: 'command';
  readonly via: 'ssh';
  /** POSIX sh text, written by whoever wrote the workflow. */
  readonly command: string;
}

export type Check = HttpCheck | TcpCheck | TlsCheck | ContainerCheck | CommandCheck;

/** What a check looks at, for people. */
export function describeTarget(check: Check): string {
  switch (check.kind) {
    case 'http':
      return check.url;
    case 'tcp':
    case 'tls':
      return `${check.kind}://${joinHostPort(check.host, check.port)}`;
    case 'container':
      return `container:${check.service}`;
    case 'command':
      return `command: ${check.command}`;
  }
}

/** The places from which a check is made. */
export function listVantages(check: Check): Vantage[] {
  return check.via === 'both' ? ['ssh', 'runner'] : [check.via];
}

export function needsSession(checks: readonly Check[]): boolean {
  return checks.some((check) => check.via !== 'runner');
}

export function joinHostPort(host: string, port: number): string {
  return `${host.includes(':') ? `[${host}]` : host}:${port}`;
}
