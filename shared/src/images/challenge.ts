/** How a registry asks for a login (RFC 9110, 11.6.1; https://distribution.github.io/distribution/spec/auth/token/). */

export interface Challenge {
  /** In lower case: `basic`, `bearer`. */
  readonly scheme: string;
  /** Names in lower case. */
  readonly parameters: ReadonlyMap<string, string>;
}

const SEPARATORS = /[\s,]*/y;
const TOKEN = /[!#$%&'*+.^_`|~0-9A-Za-z-]+/y;
const EQUALS = /\s*=\s*/y;
const QUOTED = /"((?:[^"\\]|\\.)*)"/y;
const MAX_HEADER = 8192;

/** The challenges of a WWW-Authenticate header as far as it can be read. Remote text: it may be anything. */
export function parseChallenges(header: string): Challenge[] {
  const text = header.slice(0, MAX_HEADER);
  const challenges: { scheme: string; parameters: Map<string, string> }[] = [];
  let at = 0;
  const take = (pattern: RegExp): RegExpExecArray | null => {
    pattern.lastIndex = at;
    const match = pattern.exec(text);
    if (match !== null) at = pattern.lastIndex;
    return match;
  };
  for (;;) {
    take(SEPARATORS);
    const name = take(TOKEN)?.[0].toLowerCase();
    if (name === undefined) return challenges;
    if (take(EQUALS) === null) {
      challenges.push({ scheme: name, parameters: new Map() });
      continue;
    }
    const quoted = take(QUOTED);
    const value = quoted === null ? take(TOKEN)?.[0] : quoted[1]?.replaceAll(/\\(.)/gs, '$1');
    const current = challenges.at(-1);
    if (value === undefined || current === undefined) return challenges;
    if (!current.parameters.has(name)) current.parameters.set(name, value);
  }
}

/**
 * Where to get a token from, or undefined if that place is not to be trusted with a login: a token service must speak TLS
 * or be the registry itself, and its address may hold no login of its own.
 */
export function tokenUrl(challenge: Challenge, registryUrl: string, repository: string): string | undefined {
  const realm = challenge.parameters.get('realm') ?? '';
  if (realm.length > 2000 || !URL.canParse(realm)) return undefined;
  const url = new URL(realm);
  if (url.username !== '' || url.password !== '') return undefined;
  if (
    url.protocol !== 'https:' &&
    !(url.protocol === 'http:' && url.host === new URL(registryUrl).host && registryUrl.startsWith('http:'))
  ) {
    return undefined;
  }
  url.hash = '';
  const service = challenge.parameters.get('service');
  if (service !== undefined && service.length <= 500) url.searchParams.set('service', service);
  // Our own scope, not the one asked for: a token that can do no more than we need.
  url.searchParams.set('scope', `repository:${repository}:pull`);
  return url.href;
}
