/** Certificates: what they say, how much of their life is left, and whether a chain holds. Pure. */
import { X509Certificate } from 'node:crypto';

export interface Certificate {
  readonly pem: string;
  /** Host names that it is for, sorted. */
  readonly names: readonly string[];
  /** Organisation and name of whoever signed it. */
  readonly issuer: string;
  readonly validFrom: Date;
  readonly validTo: Date;
  /** SHA-256, in hexadecimal with colons. */
  readonly fingerprint: string;
  /** `rsa` or `ec`. */
  readonly keyType: string;
  /** How the authority knows it when it is asked for renewal information; empty where it cannot be asked. */
  readonly renewalId: string;
}

const PEM = /-----BEGIN CERTIFICATE-----[\sA-Za-z0-9+/=]+-----END CERTIFICATE-----/g;

/** The certificates of a PEM file, in their order. @throws SyntaxError for one that cannot be read */
export function parseChain(text: string): readonly Certificate[] {
  return (text.match(PEM) ?? []).map((pem) => readCertificate(openCertificate(pem)));
}

function openCertificate(pem: string): X509Certificate {
  try {
    return new X509Certificate(pem);
  } catch (cause) {
    throw new SyntaxError('a certificate cannot be read', { cause });
  }
}

function readCertificate(certificate: X509Certificate): Certificate {
  const names = (certificate.subjectAltName ?? '').split(', ').flatMap((entry) => /^DNS:(.+)$/.exec(entry)?.[1] ?? []);
  return {
    pem: certificate.toString(),
    names: names.map((name) => name.toLowerCase()).sort(),
    issuer: describeSubject(certificate.issuer),
    validFrom: new Date(certificate.validFrom),
    validTo: new Date(certificate.validTo),
    fingerprint: certificate.fingerprint256,
    keyType: certificate.publicKey.asymmetricKeyType ?? 'unknown',
    renewalId: readRenewalId(certificate),
  };
}

/** `O=Let's Encrypt\nCN=R11` as `Let's Encrypt R11`. The subject of a site's certificate may be empty, and Node gives none then. */
function describeSubject(text: string | undefined): string {
  if (text === undefined) return 'one without a name of its own';
  const fields = new Map(text.split('\n').map((line) => [line.split('=', 1)[0], line.slice(line.indexOf('=') + 1)]));
  return [fields.get('O'), fields.get('CN')].filter((part) => part !== undefined && part !== '').join(' ');
}

/** How much of its life is left, from 1 (just begun) to 0 (over). */
export function shareLeft({ validFrom, validTo }: Certificate, now: Date): number {
  const share = (validTo.getTime() - now.getTime()) / (validTo.getTime() - validFrom.getTime());
  return Math.min(1, Math.max(0, share));
}

const DAY_MS = 86_400_000;

/** Days until its end; with a fraction, and below 0 when it is over. */
export function daysLeft({ validTo }: Certificate, now: Date): number {
  return (validTo.getTime() - now.getTime()) / DAY_MS;
}

/**
 * When it is to be renewed if the authority does not say: with a third of its life left, with half where it lives less than
 * 10 days. https://letsencrypt.org/docs/integration-guide/#when-to-renew
 */
export function planRenewal({ validFrom, validTo }: Certificate): Date {
  const lifeMs = validTo.getTime() - validFrom.getTime();
  return new Date(validTo.getTime() - (lifeMs < 10 * DAY_MS ? lifeMs / 2 : lifeMs / 3));
}

export type ChainVerdict =
  | { readonly kind: 'trusted' }
  /** Whole, but its root is none of those that are trusted. */
  | { readonly kind: 'unknown-root'; readonly root: string }
  | { readonly kind: 'broken'; readonly problem: string };

/** An authority may not backdate what it issues, and the clocks of two machines differ a little. */
const CLOCK_SKEW_MS = 60_000;

/** What is wrong with the time: `is over since ...`, `is not valid before ...`; empty where it is valid. */
export function judgeTime({ validFrom, validTo }: Pick<Certificate, 'validFrom' | 'validTo'>, now: Date): string {
  if (now > validTo) return `is over since ${validTo.toISOString()}`;
  return validFrom.getTime() > now.getTime() + CLOCK_SKEW_MS ? `is not valid before ${validFrom.toISOString()}` : '';
}

/** Codes of OpenSSL (x509_vfy.h) for a chain that ends before a root that is trusted. */
const UNKNOWN_ROOT = ['SELF_SIGNED_CERT_IN_CHAIN', 'DEPTH_ZERO_SELF_SIGNED_CERT', 'UNABLE_TO_GET_ISSUER_CERT_LOCALLY'];
/** The same, of a certificate that came alone. */
const NO_ISSUER = ['UNABLE_TO_VERIFY_LEAF_SIGNATURE', 'UNABLE_TO_GET_ISSUER_CERT', 'UNABLE_TO_GET_ISSUER_CERT_LOCALLY'];

/**
 * What TLS thinks of a chain, in words. Pure.
 *
 * @param chain PEM texts, one certificate each, as they were shown
 * @param refusal OpenSSL's code; empty where it trusts the chain
 */
export function judgeChain(chain: readonly string[], refusal: string, now: Date): ChainVerdict {
  if (refusal === '') return { kind: 'trusted' };
  const certificates = chain.map(openCertificate);
  const last = certificates.at(-1);
  if (last === undefined) return { kind: 'broken', problem: 'there is no certificate' };
  const root = describeSubject(last.issuer);
  // Without an intermediate certificate, most programs cannot verify it, although some browsers can.
  if (NO_ISSUER.includes(refusal) && certificates.length === 1 && last.subject !== last.issuer) {
    return { kind: 'broken', problem: `the intermediate certificate (${root}) is missing: nginx needs fullchain.pem` };
  }
  if (UNKNOWN_ROOT.includes(refusal)) return { kind: 'unknown-root', root };
  const overdue = certificates.map((one, index) => describeTime(one, index, now)).find((one) => one !== '');
  return { kind: 'broken', problem: overdue ?? `TLS does not trust its chain (OpenSSL: ${refusal})` };
}

function describeTime(certificate: X509Certificate, index: number, now: Date): string {
  const { validFrom, validTo } = certificate;
  const problem = judgeTime({ validFrom: new Date(validFrom), validTo: new Date(validTo) }, now);
  const what =
    index === 0 ? 'the certificate' : `certificate ${index + 1} of the chain (${describeSubject(certificate.subject)})`;
  return problem === '' ? '' : `${what} ${problem}`;
}

// --- renewal information -----------------------------------------------------------------------------------------------

/** https://www.rfc-editor.org/rfc/rfc9773#section-4.1 */
export function renderRenewalId(keyIdentifier: Uint8Array, serialHex: string): string {
  // As in DER: a number whose first bit is set gets a zero before it, or it would be negative.
  const even = serialHex.length % 2 === 0 ? serialHex : `0${serialHex}`;
  const serial = Buffer.from(/^[89a-f]/i.test(even) ? `00${even}` : even, 'hex');
  return `${Buffer.from(keyIdentifier).toString('base64url')}.${serial.toString('base64url')}`;
}

function readRenewalId(certificate: X509Certificate): string {
  const identifier = readAuthorityKeyIdentifier(certificate.raw);
  return identifier === undefined ? '' : renderRenewalId(identifier, certificate.serialNumber);
}

interface Element {
  readonly tag: number;
  readonly content: Uint8Array;
}

/** The elements of a DER value. Stops where they end or make no sense. */
export function listElements(bytes: Uint8Array): Element[] {
  const elements: Element[] = [];
  let at = 0;
  while (at + 2 <= bytes.length) {
    const tag = bytes[at] ?? 0;
    let length = bytes[at + 1] ?? 0;
    at += 2;
    if (length >= 0x80) {
      const count = length & 0x7f;
      if (count === 0 || count > 4 || at + count > bytes.length) return elements;
      length = bytes.subarray(at, at + count).reduce((sum, byte) => sum * 256 + byte, 0);
      at += count;
    }
    if (at + length > bytes.length) return elements;
    elements.push({ tag, content: bytes.subarray(at, at + length) });
    at += length;
  }
  return elements;
}

/** 2.5.29.35, https://www.rfc-editor.org/rfc/rfc5280#section-4.2.1.1 */
const AUTHORITY_KEY_IDENTIFIER = '551d23';
const EXTENSIONS_TAG = 0xa3;
const KEY_IDENTIFIER_TAG = 0x80;

function readAuthorityKeyIdentifier(certificate: Uint8Array): Uint8Array | undefined {
  const first = (bytes: Uint8Array | undefined): Uint8Array | undefined => bytes && listElements(bytes)[0]?.content;
  const signed = first(first(certificate));
  const extensions = signed && listElements(signed).find(({ tag }) => tag === EXTENSIONS_TAG)?.content;
  for (const extension of listElements(first(extensions) ?? new Uint8Array())) {
    const parts = listElements(extension.content);
    if (Buffer.from(parts[0]?.content ?? []).toString('hex') !== AUTHORITY_KEY_IDENTIFIER) continue;
    return listElements(first(parts.at(-1)?.content) ?? new Uint8Array()).find(({ tag }) => tag === KEY_IDENTIFIER_TAG)
      ?.content;
  }
  return undefined;
}
