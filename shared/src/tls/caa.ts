/** Which authority may issue for a name: CAA records. Pure. https://www.rfc-editor.org/rfc/rfc8659 */
import type { CaaRecord } from '../ports';

export type CaaVerdict =
  | { readonly kind: 'allowed' }
  | { readonly kind: 'forbidden'; readonly reason: string }
  /** Only some may, and whether ours is one of them we cannot know. */
  | { readonly kind: 'unknown'; readonly issuers: readonly string[] };

const KNOWN_TAGS = ['issue', 'issuewild', 'iodef', 'contactemail', 'contactphone', 'issuemail', 'issuevmc'];

/** The names that are asked, one after the other, until one has records: the name itself and all above it. */
export function listCaaNames(name: string): string[] {
  const labels = name.split('.');
  return labels.map((_, index) => labels.slice(index).join('.'));
}

/**
 * @param records those of the first name that has any
 * @param identities how the authority calls itself in CAA records; none: it does not say
 */
export function judgeCaa(records: readonly CaaRecord[], identities: readonly string[]): CaaVerdict {
  const strange = records.find(({ critical, tag }) => critical && !KNOWN_TAGS.includes(tag.toLowerCase()));
  if (strange !== undefined) {
    return { kind: 'forbidden', reason: `a record "${strange.tag}" is marked critical, and no authority knows it` };
  }
  const rules = records.filter(({ tag }) => tag.toLowerCase() === 'issue').map(({ value }) => parseRule(value));
  if (rules.length === 0) return { kind: 'allowed' };
  const issuers = [...new Set(rules.map(({ issuer }) => issuer).filter((issuer) => issuer !== ''))];
  if (issuers.length === 0) return { kind: 'forbidden', reason: 'they allow nobody (`issue ";"`)' };
  if (identities.length === 0) return { kind: 'unknown', issuers };
  const ours = rules.filter(({ issuer }) => identities.includes(issuer));
  if (ours.length === 0) return { kind: 'forbidden', reason: `they allow only ${issuers.join(', ')}` };
  return ours.some(({ methods }) => methods === undefined || methods.includes('http-01'))
    ? { kind: 'allowed' }
    : { kind: 'forbidden', reason: 'they do not allow proof by HTTP (`validationmethods` lacks http-01)' };
}

/** `ca.example; validationmethods=dns-01,http-01` */
function parseRule(value: string): { readonly issuer: string; readonly methods: readonly string[] | undefined } {
  const [issuer = '', ...parameters] = value.split(';').map((part) => part.trim().toLowerCase());
  const methods = parameters
    .map((one) => /^validationmethods\s*=\s*(.*)$/.exec(one)?.[1])
    .find((one) => one !== undefined);
  return { issuer, methods: methods?.split(',').map((method) => method.trim()) };
}
