/** The inputs as one typed object, or all that is wrong with them at once. Pure. */
import { isIP, isIPv6 } from 'node:net';
import { InputError, type InputProblem } from '#shared/errors';
import { listHostSecrets, readConnection } from '#shared/inputs/connection';
import { boolean, oneOf, type Parsed, parseLines, quoteValue, type ReadInput, readValue } from '#shared/inputs/values';
import type { Host } from '#shared/model/host';
import { type Authority, chooseAuthority } from '#shared/tls/authority';
import { parseChain } from '#shared/tls/certificate';
import { isDnsName, parseDomains } from '#shared/tls/names';
import { normalizeAddress } from '#shared/tls/rehearsal';

export type Mode = 'obtain' | 'renew' | 'check' | 'info' | 'revoke';

export type NginxTarget =
  | { readonly kind: 'host' }
  | { readonly kind: 'none' }
  | { readonly kind: 'compose'; readonly project: string; readonly service: string };

export interface Inputs {
  readonly mode: Mode;
  /** Undefined only for `check`: then everything is seen from outside. */
  readonly host: Host | undefined;
  /** None where certbot knows them (`renew`, `info`, `check` with a host). */
  readonly domains: readonly string[];
  /** What certbot calls the certificate. */
  readonly name: string;
  readonly email: string;
  readonly authority: Authority;
  /** PEM text; empty: none. */
  readonly acmeCa: string;
  readonly challenge: 'webroot' | 'standalone';
  readonly webroot: string;
  readonly keyType: 'ecdsa' | 'rsa';
  readonly profile: string;
  readonly renewNow: boolean;
  readonly nginx: NginxTarget;
  readonly addresses: readonly string[];
  readonly dnsServers: readonly string[];
  readonly dryRun: boolean;
  /** From 0 to 1. */
  readonly minimumLife: number;
  readonly reason: string;
}

const REASONS = ['unspecified', 'keycompromise', 'affiliationchanged', 'superseded', 'cessationofoperation'] as const;

/** @throws InputError with every problem. */
export function readInputs(input: ReadInput): Inputs {
  const problems: InputProblem[] = [];
  const mode = readValue<Mode>(input, problems, 'mode', oneOf('obtain', 'renew', 'check', 'info', 'revoke'), 'obtain');
  const domains = readValue(input, problems, 'domains', parseDomains, []);
  const name = readValue(input, problems, 'certificate-name', parseName, '') || (domains[0] ?? '');
  const isMissingName =
    name === '' && !problems.some((one) => one.input === 'domains' || one.input === 'certificate-name');
  if (isMissingName) {
    problems.push(
      mode === 'obtain' || mode === 'check'
        ? { input: 'domains', message: 'is empty: give the names of the certificate, such as `shop.example.com`.' }
        : {
            input: 'certificate-name',
            message: 'is empty: give the name of the certificate, or its first name in domains.',
          },
    );
  } else if (mode === 'obtain' && domains.length === 0 && !problems.some((one) => one.input === 'domains')) {
    problems.push({ input: 'domains', message: 'is empty: give the names that the certificate is for.' });
  }
  const isFromOutside = mode === 'check' && input('host').trim() === '';
  if (isFromOutside && domains.length === 0 && !isMissingName) {
    problems.push({ input: 'domains', message: 'is empty: without `host` they are all that a check has to go by.' });
  }
  const inputs: Inputs = {
    mode,
    host: isFromOutside ? undefined : readConnection(input, problems),
    domains,
    name,
    email: readValue(input, problems, 'email', parseEmail, ''),
    authority: readAuthority(input, problems),
    acmeCa: readValue(input, problems, 'acme-ca', parseCa, ''),
    challenge: readValue<Inputs['challenge']>(input, problems, 'challenge', oneOf('webroot', 'standalone'), 'webroot'),
    webroot: readValue(input, problems, 'webroot', parseWebroot, ''),
    keyType: readValue<Inputs['keyType']>(input, problems, 'key-type', oneOf('ecdsa', 'rsa'), 'ecdsa'),
    profile: readValue(input, problems, 'profile', parseProfile, ''),
    renewNow: readValue(input, problems, 'renew-now', boolean, false),
    nginx: readValue<NginxTarget>(input, problems, 'nginx', parseNginx, { kind: 'none' }),
    addresses: readValue(input, problems, 'addresses', parseAddresses, []),
    dnsServers: readValue(input, problems, 'dns-server', parseDnsServer, []),
    dryRun: readValue(input, problems, 'dry-run', boolean, false),
    minimumLife: readValue(input, problems, 'minimum-life', parseShare, 0.2),
    reason: readValue<string>(input, problems, 'reason', oneOf(...REASONS), 'unspecified'),
  };
  if (mode === 'revoke' && name !== '' && input('confirm').trim() !== name) {
    problems.push({
      input: 'confirm',
      message: `must be the name of the certificate that is to be revoked, ${quoteValue(name)}.`,
    });
  }
  if (problems.length > 0) throw new InputError(problems);
  return inputs;
}

/** What must not be shown. */
export function listSecrets({ host }: Inputs): string[] {
  return listHostSecrets(host).filter((value) => value !== '');
}

function parseName(text: string): Parsed<string> {
  const value = text.trim().toLowerCase();
  return value === '' || isDnsName(value)
    ? { value }
    : { problem: `${quoteValue(text)} is not a certificate's name: letters, digits and hyphens, with dots between.` };
}

function parseEmail(text: string): Parsed<string> {
  const value = text.trim();
  return value === '' || (/^[A-Za-z0-9_.%+][A-Za-z0-9_.%+-]*@[A-Za-z0-9.-]+$/.test(value) && value.length <= 254)
    ? { value }
    : { problem: `${quoteValue(value)} is not an email address.` };
}

function readAuthority(input: ReadInput, problems: InputProblem[]): Authority {
  const server = readValue(input, problems, 'acme-server', parseAuthority, 'production');
  return chooseAuthority(server, readValue(input, problems, 'acme-rehearsal-server', parseRehearsalServer, ''));
}

function parseAuthority(text: string): Parsed<string> {
  const value = text.trim();
  return value === 'production' || value === 'staging' || isDirectoryUrl(value)
    ? { value }
    : { problem: `${quoteValue(value)} is neither production, nor staging, nor the https URL of an ACME directory.` };
}

function parseRehearsalServer(text: string): Parsed<string> {
  const value = text.trim();
  return value === '' || isDirectoryUrl(value)
    ? { value }
    : { problem: `${quoteValue(value)} is not the https URL of an ACME directory.` };
}

function isDirectoryUrl(value: string): boolean {
  return /^https:\/\/[A-Za-z0-9_.:/?=&%~+[\]-]+$/.test(value) && URL.canParse(value) && new URL(value).username === '';
}

function parseCa(text: string): Parsed<string> {
  if (text.trim() === '') return { value: '' };
  if (/PRIVATE KEY/.test(text)) return { problem: 'holds a private key: give certificates alone.' };
  try {
    const certificates = parseChain(text);
    if (certificates.length > 0) return { value: certificates.map(({ pem }) => pem).join('') };
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  return { problem: 'holds no certificate that can be read: it begins with -----BEGIN CERTIFICATE-----.' };
}

function parseWebroot(text: string): Parsed<string> {
  const value = text.trim().replace(/\/$/, '');
  const parts = value.split('/').slice(1);
  return /^\/(?:var\/www|srv)\/[A-Za-z0-9_./-]+$/.test(value) && parts.every((part) => !/^\.{0,2}$/.test(part))
    ? { value }
    : {
        problem: `${quoteValue(text)} is not a folder below /var/www or /srv, with letters, digits, \`.\`, \`_\` and \`-\`.`,
      };
}

function parseProfile(text: string): Parsed<string> {
  const value = text.trim();
  return /^(?:[A-Za-z0-9][A-Za-z0-9_.-]{0,63})?$/.test(value)
    ? { value }
    : { problem: `${quoteValue(value)} is not the name of a profile.` };
}

const WORD = '[A-Za-z0-9][A-Za-z0-9_.-]*';

function parseNginx(text: string): Parsed<NginxTarget> {
  const value = text.trim();
  if (value === 'host' || value === 'none') return { value: { kind: value } };
  const [, project, service] = new RegExp(`^(${WORD})/(${WORD})$`).exec(value) ?? [];
  return project !== undefined && service !== undefined
    ? { value: { kind: 'compose', project, service } }
    : {
        problem: `${quoteValue(value)} is neither host, nor none, nor a Compose project and its service, such as \`shop/web\`.`,
      };
}

function parseAddresses(text: string): Parsed<readonly string[]> {
  const words = parseLines(text)
    .flatMap((line) => line.split(/[\s,]+/))
    .filter((word) => word !== '');
  const wrong = words.find((word) => isIP(word) === 0);
  return wrong === undefined
    ? { value: words.map(normalizeAddress) }
    : { problem: `${quoteValue(wrong)} is neither an IPv4 nor an IPv6 address.` };
}

function parseDnsServer(text: string): Parsed<readonly string[]> {
  const value = text.trim();
  if (value === '') return { value: [] };
  const [, bracketed, v4, port] = /^(?:\[([^\]]+)\]|([0-9.]+))(?::(\d{1,5}))?$/.exec(value) ?? [];
  const address = isIPv6(value) ? value : (bracketed ?? v4 ?? '');
  return isIP(address) !== 0 && Number(port ?? 53) > 0 && Number(port ?? 53) <= 65_535
    ? { value: [isIPv6(value) ? `[${value}]` : value] }
    : { problem: `${quoteValue(value)} is not the address of a DNS server: such as 9.9.9.9, or [2620:fe::fe]:53.` };
}

/** `20%` or `20`, as 0.2. */
function parseShare(text: string): Parsed<number> {
  const [, digits] = /^(\d{1,3}(?:\.\d{1,3})?) ?%?$/.exec(text.trim()) ?? [];
  const value = digits === undefined ? Number.NaN : Number(digits) / 100;
  return value >= 0 && value <= 1 ? { value } : { problem: `${quoteValue(text)} is not a share from 0% to 100%.` };
}
