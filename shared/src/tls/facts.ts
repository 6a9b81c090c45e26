/** What a server says of itself and its certificates. Pure. */
import { parseSections, type Section } from '../commands/sections';
import { type Certificate, parseChain } from './certificate';

export interface Version {
  readonly major: number;
  readonly minor: number;
}

export interface CertificateHost {
  readonly user: string;
  readonly isRoot: boolean;
  /** SHA-256 of the installed slipway-tls; empty where there is none. */
  readonly programChecksum: string;
  /** What it says of itself; empty where it does not run, or we may not run it. */
  readonly programVersion: string;
  /** May run anything as root without a password. */
  readonly hasAllOfSudo: boolean;
  readonly mayRunProgram: boolean;
  /** Seconds since 1970, as the server has them. */
  readonly clockSeconds: number;
  /** Those of its interfaces, without loopback and containers. */
  readonly addresses: readonly string[];
  readonly system: { readonly id: string; readonly name: string };
  readonly certbot: Version | undefined;
  readonly timers: readonly { readonly unit: string; readonly isActive: boolean }[];
  /** What nginx reads; empty where there is nothing. */
  readonly published: readonly Certificate[];
  /** What the server itself takes a name for. */
  readonly seen: ReadonlyMap<string, readonly string[]>;
  readonly isHttpPortTaken: boolean;
}

/** @throws SyntaxError when an answer is cut off or cannot be read */
export function parseCertificateHost(output: string, token: string): CertificateHost {
  const sections = parseSections(output, token);
  const lines = (name: string): string[] => linesOf(find(sections, name));
  const [id = '', user = ''] = lines('account');
  const seen = new Map<string, string[]>();
  for (const line of lines('seen')) {
    const [name = '', address = ''] = line.split(' ');
    seen.set(name, [...(seen.get(name) ?? []), address]);
  }
  const [systemId = '', systemName = ''] = lines('system');
  return {
    user,
    isRoot: id === '0',
    programChecksum: lines('installed')[0] ?? '',
    programVersion: lines('allowed')[0] ?? '',
    hasAllOfSudo: find(sections, 'unlimited').exitCode === 0,
    mayRunProgram: find(sections, 'allowed').exitCode === 0,
    clockSeconds: Number(lines('clock')[0] ?? Number.NaN),
    addresses: lines('addresses'),
    system: { id: systemId, name: systemName },
    certbot: parseVersion(find(sections, 'certbot').stdout),
    timers: lines('timers').map((line) => {
      const [state, unit = ''] = line.split(' ');
      return { unit, isActive: state === 'active' };
    }),
    published: parseChain(find(sections, 'published').stdout),
    seen,
    isHttpPortTaken: lines('http-port').length > 0,
  };
}

/** What root alone can see. */
export interface Lineage {
  /** Certificates that certbot has on this server. */
  readonly names: readonly string[];
  /** Files in which cron renews certificates, too. */
  readonly crons: readonly string[];
  /**
   * `server`, `authenticator`, `webroot_path`, `key_type`, as certbot wrote them, none where it has no such certificate; and
   * `private_ca`, where one is noted.
   */
  readonly settings: ReadonlyMap<string, string>;
  /** Set where certbot has this certificate for somebody else, and slipway-tls will not touch it. */
  readonly isForeign: boolean;
  /** URLs of the ACME directories that root allows. */
  readonly authorities: readonly string[];
  /** URLs of the accounts that certbot has, with whatever authority. */
  readonly accounts: readonly string[];
  readonly chain: readonly Certificate[];
}

/** @throws SyntaxError when an answer is cut off or cannot be read */
export function parseLineage(output: string, token: string): Lineage {
  const sections = parseSections(output, token);
  const settings = linesOf(find(sections, 'settings')).map((line): [string, string] => {
    const at = line.indexOf(' = ');
    return [line.slice(0, at), line.slice(at + 3).replace(/,$/, '')];
  });
  return {
    names: linesOf(find(sections, 'names')),
    crons: linesOf(find(sections, 'crons')).map((line) => line.replace(/^cron /, '')),
    settings: new Map(settings),
    isForeign: linesOf(find(sections, 'owner'))[0] !== 'slipway',
    authorities: linesOf(find(sections, 'authorities')),
    accounts: linesOf(find(sections, 'accounts')),
    chain: parseChain(find(sections, 'lineage').stdout),
  };
}

function find(sections: ReadonlyMap<string, Section>, name: string): Section {
  const section = sections.get(name);
  if (section === undefined) throw new SyntaxError(`there is no answer to "${name}"`);
  return section;
}

function linesOf({ stdout }: Section): string[] {
  return stdout
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '');
}

/** `certbot 2.1.0`; undefined where there is none. */
export function parseVersion(text: string): Version | undefined {
  const [, major, minor] = /\bcertbot (\d{1,4})\.(\d{1,4})/.exec(text) ?? [];
  return major === undefined || minor === undefined ? undefined : { major: Number(major), minor: Number(minor) };
}

export function isAtLeast(version: Version, major: number, minor: number): boolean {
  return version.major > major || (version.major === major && version.minor >= minor);
}
