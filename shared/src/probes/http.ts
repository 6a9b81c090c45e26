/** HTTP checks: which requests to make, and what to think of the answer. */
import { RequestError } from '../errors';
import type { Clock, ConnectionRequest, Http, HttpResponse, PeerCertificate } from '../ports';
import { excerpt } from '../shell/excerpt';
import type { HttpCheck, StatusRange } from './check-model';
import { type Json, parseJson, readMember, readPath } from '../json';
import { failed, passed, type Verdict } from './verdict';

export type Environment = Pick<ConnectionRequest, 'signal' | 'dial'> & { readonly http: Http; readonly clock: Clock };

const MAX_BODY_BYTES = 1024 * 1024;

/** One attempt: the request, the redirects that may be followed, the verdict. @throws RequestError, CancelledError */
export async function attemptHttp(
  check: HttpCheck,
  timeoutSeconds: number,
  { http, clock, ...connection }: Environment,
): Promise<Verdict> {
  const startedMs = clock.monotonicMs();
  let url = check.url;
  for (let hop = 0; ; hop++) {
    const remaining = timeoutSeconds - (clock.monotonicMs() - startedMs) / 1000;
    if (remaining <= 0)
      throw new RequestError('timeout', `no final answer within ${timeoutSeconds} s, after ${hop} redirects`, '');
    const response = await http.request({
      ...connection,
      method: check.method,
      url,
      headers: isSameHost(url, check.url) ? check.headers : {},
      timeoutSeconds: remaining,
      maxBodyBytes: MAX_BODY_BYTES,
      connectTo: chooseConnectTo(check, url),
      ca: check.ca,
    });
    const next = judgeRedirect(check, url, response, hop);
    if (next === undefined) {
      // The limit is for what a visitor waits: all hops.
      const latencyMs = clock.monotonicMs() - startedMs;
      return judgeHttp(
        check,
        hop === 0 ? response : { ...response, latencyMs: Math.max(latencyMs, response.latencyMs) },
        clock.now(),
      );
    }
    if (typeof next !== 'string') return next;
    url = next;
  }
}

const REDIRECTS = new Set([301, 302, 303, 307, 308]);

/** Where a redirect leads; a verdict if it must not be followed; undefined if the response is the final one. */
export function judgeRedirect(
  check: HttpCheck,
  from: string,
  response: HttpResponse,
  hop: number,
): string | Verdict | undefined {
  const location = response.headers['location'];
  // Who expects 301 wants to see the 301.
  if (!REDIRECTS.has(response.status) || location === undefined || includesStatus(check.status, response.status))
    return undefined;
  const target = URL.parse(location, from);
  const shown = excerpt(location, 200);
  if (target === null || !/^https?:$/.test(target.protocol)) {
    return failed(`status ${response.status} redirects to something that is not an http or https URL: ${shown}`);
  }
  const host = target.hostname.toLowerCase();
  if (!isSameHost(target.href, check.url) && !check.allowRedirectHosts.includes(host)) {
    return failed(
      `status ${response.status} redirects to another host, ${excerpt(host, 100)}; if that is right, say \`allow-redirect-host: ${excerpt(host, 100)}\``,
      shown,
    );
  }
  if (target.protocol === 'http:' && from.startsWith('https:')) {
    return failed(`status ${response.status} redirects from https to plain http`, shown);
  }
  if (hop >= check.maxRedirects) {
    return failed(`${hop + 1} redirects, more than ${check.maxRedirects}: the last one leads to ${shown}`);
  }
  target.hash = '';
  return target.href;
}

/** The answer to the last request. Pure. */
export function judgeHttp(check: HttpCheck, response: HttpResponse, now: Date): Verdict {
  const detail = response.body === '' ? '' : excerpt(response.body);
  const took = `${Math.round(response.latencyMs)} ms`;
  if (!includesStatus(check.status, response.status)) {
    return failed(`status ${response.status} instead of ${describeStatus(check.status)}`, detail);
  }
  const judged = [
    judgeHeaders(check, response),
    judgeBody(check, response),
    judgeReleaseId(check, response),
    check.maxLatencyMs !== undefined && response.latencyMs > check.maxLatencyMs
      ? failed(`answered in ${took}, slower than ${check.maxLatencyMs} ms`)
      : undefined,
    judgeCertificate(response.certificate, check.minCertificateDays, now),
  ].filter((verdict) => verdict !== undefined);
  const faults = judged.filter((verdict) => !verdict.ok).map((verdict) => verdict.reason);
  if (faults.length > 0)
    return failed(faults.join('; '), judged.find((verdict) => verdict.detail !== '')?.detail ?? detail);
  const notes = judged.map((verdict) => verdict.reason).filter((reason) => reason !== '');
  return passed(
    [`status ${response.status} in ${took}`, ...notes].join(', '),
    judged.find((verdict) => verdict.detail !== '')?.detail ?? '',
  );
}

export function includesStatus(ranges: readonly StatusRange[], status: number): boolean {
  return ranges.some(({ from, to }) => status >= from && status <= to);
}

function describeStatus(ranges: readonly StatusRange[]): string {
  return ranges
    .map(({ from, to }) =>
      from === to ? `${from}` : from % 100 === 0 && to === from + 99 ? `${from / 100}xx` : `${from}-${to}`,
    )
    .join(' or ');
}

function judgeHeaders(check: HttpCheck, response: HttpResponse): Verdict | undefined {
  const faults = check.header.flatMap(({ name, expected }) => {
    const found = Object.hasOwn(response.headers, name) ? response.headers[name] : undefined;
    if (found === undefined) return [`no header ${name}`];
    return matchesText(expected, found) ? [] : [`header ${name} is ${quote(found)} instead of ${quote(expected)}`];
  });
  return faults.length === 0 ? undefined : failed(faults.join('; '));
}

function judgeBody(check: HttpCheck, response: HttpResponse): Verdict | undefined {
  if (check.method === 'HEAD') return undefined;
  if (check.bodyContains.length + check.bodyMatches.length + check.json.length === 0) {
    return isSuccess(response.status) ? judgeHealthWords(response) : undefined;
  }
  const within = response.truncated ? ' within its first MiB' : '';
  const faults = [
    ...check.bodyContains
      .filter((text) => !response.body.includes(text))
      .map((text) => `the body does not contain ${quote(text)}${within}`),
    ...check.bodyMatches
      .filter((source) => !new RegExp(source, 'm').test(response.body))
      .map((source) => `the body does not match ${quote(source)}${within}`),
    ...judgeJson(check, response),
  ];
  return faults.length === 0 ? undefined : failed(faults.join('; '), excerpt(response.body));
}

function judgeJson(check: HttpCheck, response: HttpResponse): string[] {
  if (check.json.length === 0) return [];
  const document = parseJson(response.body);
  if (document === undefined)
    return [response.truncated ? 'the body is longer than 1 MiB, so its JSON cannot be read' : 'the body is not JSON'];
  return check.json.flatMap(({ path, pathText, expected }) => {
    const found = readPath(document, path);
    if (found === undefined) return [`JSON has no ${excerpt(pathText, 100)}`];
    return matchesJson(expected, found)
      ? []
      : [
          `JSON ${excerpt(pathText, 100)} is ${quote(typeof found === 'string' ? found : JSON.stringify(found))} instead of ${quote(expected)}`,
        ];
  });
}

/** `expected` is text, as it was written: `true` is equal to true and to "true", `1.0` to 1. */
function matchesJson(expected: string, found: Json): boolean {
  if (typeof found === 'string') return matchesText(expected, found);
  if (expected === '*') return true;
  if (typeof found === 'number' && /^-?\d+(?:\.\d+)?(?:e[+-]?\d+)?$/i.test(expected)) return Number(expected) === found;
  return JSON.stringify(found) === expected;
}

/** Equal, where `*` in the pattern stands for any text. Linear, unlike a regular expression made from the pattern. */
export function matchesText(pattern: string, text: string): boolean {
  const [first = '', ...rest] = pattern.split('*');
  const last = rest.pop();
  if (last === undefined) return text === pattern;
  if (!text.startsWith(first) || text.length < first.length + last.length || !text.endsWith(last)) return false;
  let at = first.length;
  const end = text.length - last.length;
  for (const part of rest) {
    const found = text.indexOf(part, at);
    if (found < 0 || found + part.length > end) return false;
    at = found + part.length;
  }
  return true;
}

// --- health words ------------------------------------------------------------------------------------------------------

const GOOD = new Set(['healthy', 'ready', 'alive', 'ok', 'okay', 'pass', 'passing', 'passed', 'up', 'true']);
const WARNING = new Set(['warn', 'warning', 'degraded']);
const BAD = new Set([
  'unhealthy',
  'not ready',
  'not-ready',
  'notready',
  'fail',
  'failed',
  'failing',
  'failure',
  'down',
  'error',
  'critical',
  'unavailable',
  'out_of_service',
  'dead',
  'ko',
  'false',
]);

type Health = 'good' | 'warning' | 'bad' | 'unknown';

/** `pass`, `warn` and `fail` are the draft's (draft-inadarei-api-health-check), with the synonyms that it lists. */
export function judgeHealthWord(word: string): Health {
  const lower = word.trim().toLowerCase();
  return GOOD.has(lower) ? 'good' : WARNING.has(lower) ? 'warning' : BAD.has(lower) ? 'bad' : 'unknown';
}

/** What a body says of itself where nothing was asked of it. Unknown words are no verdict. */
function judgeHealthWords(response: HttpResponse): Verdict | undefined {
  const type = (response.headers['content-type'] ?? '').toLowerCase();
  const json = /^application\/(?:[\w.-]+\+)?json\b/.test(type) ? parseJson(response.body) : undefined;
  const plain = type === '' || type.startsWith('text/plain');
  const word =
    json !== undefined
      ? readStatus(json)
      : plain && response.body.length <= 40
        ? response.body.trim().replace(/[.!]$/, '')
        : '';
  const shown = excerpt(word, 40);
  switch (judgeHealthWord(word)) {
    case 'good':
      return passed(shown.toLowerCase());
    case 'warning':
      return passed(`with a warning: the body says ${quote(shown)}`, excerpt(response.body));
    case 'bad':
      return failed(
        `status ${response.status}, but the body says ${quote(shown)}${describeBadParts(json)}`,
        excerpt(response.body),
      );
    case 'unknown':
      return undefined;
  }
}

function readStatus(json: Json): string {
  const status = typeof json === 'object' ? readMember(json, 'status') : json;
  return typeof status === 'string' || typeof status === 'boolean' ? String(status) : '';
}

/** The parts that are bad: `checks` of health+json and of many others, `components` of Spring Boot. */
function describeBadParts(json: Json | undefined): string {
  const names = ['checks', 'components', 'details'].flatMap((key) => {
    const parts = readMember(json, key);
    if (typeof parts !== 'object' || parts === null) return [];
    return Object.entries(parts as Readonly<Record<string, Json>>)
      .filter(([, part]) =>
        (Array.isArray(part) ? (part as readonly Json[]) : [part]).some(
          (item) => judgeHealthWord(readStatus(item)) === 'bad',
        ),
      )
      .map(([position, part]) => (Array.isArray(parts) ? nameOf(part, position) : position));
  });
  return names.length === 0 ? '' : ` (${excerpt(names.slice(0, 10).join(', '), 200)})`;
}

function nameOf(part: Json, position: string): string {
  const name = readMember(part, 'name');
  return typeof name === 'string' ? name : position;
}

function isSuccess(status: number): boolean {
  return status >= 200 && status < 300;
}

// --- release ------------------------------------------------------------------------------------------------------------

const RELEASE_MEMBERS = ['releaseId', 'release_id', 'release', 'version', 'commit'];
const RELEASE_HEADERS = ['x-release-id', 'x-release', 'x-version'];

/** The names under which a response may say which release it comes from: `releaseId` is health+json's. */
function judgeReleaseId(check: HttpCheck, response: HttpResponse): Verdict | undefined {
  const { releaseId } = check;
  if (releaseId === undefined) return undefined;
  const document = parseJson(response.body);
  const found = [
    ...RELEASE_HEADERS.flatMap((name) => response.headers[name] ?? []),
    ...RELEASE_MEMBERS.flatMap((name) => {
      const value = readMember(document, name);
      return typeof value === 'string' || typeof value === 'number' ? [String(value)] : [];
    }),
  ];
  if (found.some((id) => isSameRelease(id, releaseId))) return passed(`release ${excerpt(releaseId, 60)}`);
  return failed(
    found.length === 0
      ? `the answer does not say its release: expected ${quote(releaseId)} as \`releaseId\` in JSON or in the header x-release-id`
      : `release ${[...new Set(found)].map(quote).join(', ')} instead of ${quote(releaseId)}`,
    excerpt(response.body),
  );
}

/** Equal, or one the abbreviation of the other's commit (7 digits at least, as git prints them). */
function isSameRelease(a: string, b: string): boolean {
  const [short, long] = [a.trim().toLowerCase(), b.trim().toLowerCase()].sort((x, y) => x.length - y.length) as [
    string,
    string,
  ];
  return (
    a.trim() === b.trim() || (/^[0-9a-f]{7,40}$/.test(short) && /^[0-9a-f]{7,40}$/.test(long) && long.startsWith(short))
  );
}

// --- certificates, addresses ---------------------------------------------------------------------------------------------

const DAY_MS = 86_400_000;

/** Whether it holds long enough. That it holds now, and for this name, the connection itself has verified. */
export function judgeCertificate(
  certificate: PeerCertificate | undefined,
  minDays: number | undefined,
  now: Date,
): Verdict | undefined {
  if (certificate === undefined) return undefined;
  const days = Math.floor((certificate.validTo.getTime() - now.getTime()) / DAY_MS);
  const until = Number.isNaN(days) ? 'an unreadable date' : certificate.validTo.toISOString().slice(0, 10);
  const left = `the certificate is valid until ${until} (${describeDays(days)})`;
  if (minDays === undefined) return undefined;
  return days >= minDays
    ? passed(left)
    : failed(`${left}, less than ${minDays} days`, `issued by ${excerpt(certificate.issuer, 100)}`);
}

function describeDays(days: number): string {
  return `${days} ${Math.abs(days) === 1 ? 'day' : 'days'}`;
}

function isSameHost(a: string, b: string): boolean {
  return new URL(a).hostname.toLowerCase() === new URL(b).hostname.toLowerCase();
}

/** `connect-to` is for the URL's own host. Its port is for the URL's own port: a redirect from http to https keeps the host, not the port. */
function chooseConnectTo(check: HttpCheck, url: string): { host: string; port: number } | undefined {
  if (check.connectTo === undefined || !isSameHost(url, check.url)) return undefined;
  const port = readPort(url);
  return { host: check.connectTo.host, port: port === readPort(check.url) ? (check.connectTo.port ?? port) : port };
}

function readPort(text: string): number {
  const url = new URL(text);
  return Number(url.port) || (url.protocol === 'https:' ? 443 : 80);
}

function quote(text: string): string {
  return `"${excerpt(text, 100)}"`;
}
