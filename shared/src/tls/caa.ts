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

/** Who would issue, and to whom. */
export interface Applicant {
  /** How the authority calls itself in CAA records; none: it does not say. */
  readonly identities: readonly string[];
  /** URLs of the accounts that the server has, with whatever authority. */
  readonly accounts: readonly string[];
}

/** @param records those of the first name that has any */
export function judgeCaa(records: readonly CaaRecord[], { identities, accounts }: Applicant): CaaVerdict {
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
  const obstacles = ours.map((rule) => findObstacle(rule, accounts));
  // One record that allows it is enough.
  return obstacles.includes('') ? { kind: 'allowed' } : { kind: 'forbidden', reason: obstacles.join(', and ') };
}

interface Rule {
  readonly text: string;
  readonly issuer: string;
  /** Values of `validationmethods` and `accounturi`: https://www.rfc-editor.org/rfc/rfc8657 */
  readonly methods: readonly string[];
  readonly accounts: readonly string[];
}

/** `ca.example; validationmethods=dns-01,http-01; accounturi=https://ca.example/acct/1`. Only the URL is told apart by case. */
function parseRule(text: string): Rule {
  const [issuer = '', ...parameters] = text.split(';').map((part) => part.trim());
  const values = (name: string): string[] =>
    parameters.flatMap((one) => {
      const at = one.indexOf('=');
      return at > 0 && one.slice(0, at).trim().toLowerCase() === name ? [one.slice(at + 1).trim()] : [];
    });
  return { text, issuer: issuer.toLowerCase(), methods: values('validationmethods'), accounts: values('accounturi') };
}

/** Why a record for our authority does not allow it; empty where it does. */
function findObstacle({ text, methods, accounts: named }: Rule, accounts: readonly string[]): string {
  const record = `\`issue "${text}"\``;
  if (methods.length > 1 || named.length > 1) return `${record} names a parameter twice, and so allows nothing`;
  const [method] = methods;
  if (
    method !== undefined &&
    !method
      .toLowerCase()
      .split(',')
      .map((one) => one.trim())
      .includes('http-01')
  )
    return `${record} does not allow proof by HTTP (\`validationmethods\` lacks http-01)`;
  const [account] = named;
  if (account === undefined || accounts.includes(account)) return '';
  const own = accounts.length === 0 ? 'no account yet' : `other accounts (${accounts.join(', ')})`;
  return `${record} allows only one account (\`accounturi\`), and this server has ${own}`;
}
