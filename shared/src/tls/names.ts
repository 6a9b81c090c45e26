/** The names that a certificate is for. Pure. */
import { isIP } from 'node:net';
import { domainToASCII } from 'node:url';
import { type Parsed, parseLines, quoteValue } from '../inputs/values';

const LABEL = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;
/** Let's Encrypt's limit: https://letsencrypt.org/docs/rate-limits/ */
const MAX_NAMES = 100;

/** Letters, digits and hyphens between dots, as they go into DNS, a file's name and a command. */
export function isDnsName(text: string): boolean {
  const labels = text.split('.');
  return text.length <= 253 && labels.every((label) => LABEL.test(label)) && !/^\d+$/.test(labels.at(-1) ?? '');
}

/** Names on lines, or with commas or spaces between; each once, in their order. */
export function parseDomains(text: string): Parsed<readonly string[]> {
  const words = parseLines(text)
    .flatMap((line) => line.split(/[\s,]+/))
    .filter((word) => word !== '');
  const problems = words.flatMap((word) => judgeDomain(word) ?? []);
  const names = [...new Set(words.map((word) => word.toLowerCase()))];
  if (names.length > MAX_NAMES)
    problems.push(`holds ${names.length} names, and a certificate has ${MAX_NAMES} at most.`);
  return problems.length > 0 ? { problem: problems.join(' ') } : { value: names };
}

function judgeDomain(word: string): string | undefined {
  const name = word.toLowerCase();
  if (isDnsName(name) && name.includes('.')) return undefined;
  const quoted = quoteValue(word);
  if (name.startsWith('*.')) {
    return `${quoted} is a wildcard: that needs proof by DNS, which this action does not do. Name each host.`;
  }
  if (name.includes('://')) return `${quoted} is a URL: give only its host name.`;
  if (isIP(name.replace(/^\[|\]$/g, '')) !== 0) return `${quoted} is an address: give a host name.`;
  if (name.endsWith('.')) return `${quoted} ends with a dot: give it without.`;
  if (/[^\u0000-\u007f]/.test(name)) {
    const punycode = domainToASCII(name);
    return isDnsName(punycode)
      ? `${quoted} is an international name: give it as it is in DNS, ${quoteValue(punycode)}.`
      : `${quoted} is not a name that DNS can have.`;
  }
  if (isDnsName(name)) return `${quoted} has no dot: no public authority issues for it. Give the whole name.`;
  return `${quoted} is not a host name: letters, digits and hyphens, with dots between.`;
}
