/**
 * How checks are written: one a line, or a YAML list whose entries have the same words as keys.
 *
 * ```text
 * https://example.com/health 200 contains:ok
 * ssh+http://127.0.0.1:3000/health json.status:ready
 * tcp://db.example.com:5432
 * tls://example.com:443 min-days:14
 * container:api health:healthy
 * command: pg_isready --host 127.0.0.1
 * ```
 *
 * Both forms become the same {@link Entry} first, so neither can do what the other cannot, but for two things: values with
 * line breaks, and options of a `command`, want the list.
 */
import { parseDocument } from 'yaml';
import type { InputProblem } from '../errors';
import { isHostName } from '../inputs/connection';
import {
  duration,
  integer,
  joinOr,
  oneOf,
  optional,
  type Parse,
  type Parsed,
  quoteValue,
  suggest,
} from '../inputs/values';
import { Secret } from '../model/secret';
import { excerpt } from '../shell/excerpt';
import {
  type Check,
  type ContainerCheck,
  describeTarget,
  type HttpCheck,
  type Pace,
  type StatusRange,
  type Via,
} from './check-model';
import { parseJsonPath } from '../json';

export type * from './check-model';

/** What holds for checks that do not say otherwise. */
export interface CheckDefaults
  extends
    Pick<Pace, 'attempts' | 'intervalSeconds' | 'timeoutSeconds'>,
    Partial<Pick<Pace, 'backoff' | 'deadlineSeconds' | 'successes'>> {
  /** The input's name, for the problems. */
  readonly input: string;
  /** Compose project of `container` checks that name none; empty or missing: they must. */
  readonly project?: string;
}

export interface ParsedChecks {
  /** Those that can be used. Where there are problems, they are not all. */
  readonly checks: readonly Check[];
  readonly problems: readonly InputProblem[];
}

const MAX_LENGTH = 200_000;
const MAX_CHECKS = 100;

/**
 * Reads the text of an input with checks. Total: whatever the text, it gives checks or says what is wrong, with every
 * problem of every entry at once. No text, no checks. Pure.
 */
export function parseChecks(text: string, defaults: CheckDefaults): ParsedChecks {
  const report = (message: string): InputProblem => ({ input: defaults.input, message });
  if (text.length > MAX_LENGTH) return { checks: [], problems: [report('is longer than 200,000 characters.')] };
  const split = splitEntries(text);
  if ('problem' in split) return { checks: [], problems: [report(split.problem)] };
  if (split.value.length > MAX_CHECKS) {
    return { checks: [], problems: [report(`has ${split.value.length} checks; at most ${MAX_CHECKS} are accepted.`)] };
  }
  const checks: Check[] = [];
  const problems: InputProblem[] = [];
  const numbers = new Map<string, number>();
  for (const [index, values] of split.value.entries()) {
    const number = index + 1;
    if (typeof values === 'string') {
      problems.push(report(`check ${number}: ${values}`));
      continue;
    }
    const entry = new Entry(values);
    const check = readCheck(entry, defaults);
    if (check !== undefined) {
      const earlier = numbers.get(check.name);
      if (earlier !== undefined)
        entry.refuse(`has the same name as check ${earlier}: give one of them another \`name\`.`);
      numbers.set(check.name, earlier ?? number);
    }
    const label = check === undefined ? `check ${number}` : `check ${number} (${excerpt(check.name, 60)})`;
    problems.push(...entry.problems.map((problem) => report(`${label}: ${problem}`)));
    if (check !== undefined && entry.problems.length === 0) checks.push(check);
  }
  return { checks, problems };
}

// --- text -> entries ---------------------------------------------------------------------------------------------------

/** Every scalar as it is written: `1.10` stays `1.10`, and `true` is comparable to what JSON says. */
type RawValue = string | readonly string[] | ReadonlyMap<string, string>;

/** The keys of one check, or what is wrong with it as a whole. */
type RawEntry = ReadonlyMap<string, RawValue> | string;

function splitEntries(text: string): Parsed<RawEntry[]> {
  const first =
    /^(?:[ \t]*(?:#[^\r\n]*)?(?:\r\n|\r|\n|$))*(?<rest>[^\r\n]*)/.exec(text)?.groups?.['rest']?.trim() ?? '';
  if (/^(?:-(?:\s|$)|\[|---)/.test(first)) return splitYaml(text);
  if (/^[{}]/.test(first) || (/^(?!command\b)[a-z-]+:(?:\s|$)/.test(first) && !/^container:\s+\S/.test(first))) {
    return {
      problem: `starts with ${quoteValue(first)}, which looks like YAML but not like a list: begin each check with \`- \`, or write one check a line, such as \`https://example.com/health 200\`.`,
    };
  }
  const lines = text.split(/\r\n|\r|\n/).map((line) => line.trim());
  return { value: lines.filter((line) => line !== '' && !line.startsWith('#')).map(parseLine) };
}

function splitYaml(text: string): Parsed<RawEntry[]> {
  const document = parseDocument(text, { schema: 'failsafe', uniqueKeys: true, logLevel: 'silent' });
  const [error] = document.errors;
  if (error !== undefined) return { problem: `is not YAML: ${excerpt(error.message, 300)}` };
  let root: unknown;
  try {
    root = document.toJS({ mapAsMap: true, maxAliasCount: 50 });
  } catch (cause) {
    return { problem: `is not usable YAML: ${excerpt(cause instanceof Error ? cause.message : String(cause), 300)}` };
  }
  if (!Array.isArray(root)) return { problem: 'is not a YAML list: begin each check with `- `.' };
  return { value: root.map(readYamlEntry) };
}

function readYamlEntry(entry: unknown): RawEntry {
  if (typeof entry === 'string') return entry.trim() === '' ? 'is empty.' : parseLine(entry.trim());
  if (!(entry instanceof Map))
    return 'is neither a line such as `https://example.com/health` nor keys such as `url: https://example.com/health`.';
  const values = new Map<string, RawValue>();
  for (const [key, value] of entry) {
    if (typeof key !== 'string') return 'has a key that is not a word.';
    const name = ALIASES.get(key) ?? key;
    if (values.has(name)) return `has ${name} twice (${key} is another word for it).`;
    const raw = readYamlValue(value);
    if (raw === undefined) return `${excerpt(key, 60)} must be a text, a list of texts, or keys with texts.`;
    values.set(name, raw);
  }
  return values;
}

function readYamlValue(value: unknown): RawValue | undefined {
  if (typeof value === 'string') return value;
  if (value === null) return '';
  if (Array.isArray(value)) {
    const items = value.filter((item) => typeof item === 'string');
    return items.length === value.length ? items : undefined;
  }
  if (!(value instanceof Map)) return undefined;
  const pairs = new Map<string, string>();
  for (const [key, item] of value) {
    if (typeof key !== 'string' || typeof item !== 'string') return undefined;
    pairs.set(key, item);
  }
  return pairs;
}

const TARGET = /^(?<via>ssh\+)?(?<scheme>https?|tcp|tls):\/\/\S+$/i;
const OPTION =
  /(?<key>[A-Za-z][\w-]*)(?:\.(?<path>[^\s:]+))?:(?:"(?<double>[^"]*)"|'(?<single>[^']*)'|(?<bare>\S*))(?=\s|$)|(?<word>\S+)/g;

/** One line as the keys that it stands for. */
function parseLine(line: string): RawEntry {
  const command = /^command:\s*(?<text>.*)$/s.exec(line)?.groups?.['text'];
  if (command !== undefined) return new Map([['command', command]]);
  const { target = '', rest = '' } =
    /^(?<target>container:\s*\S+)(?<rest>.*)$/s.exec(line)?.groups ??
    /^(?<target>\S+)(?<rest>.*)$/s.exec(line)?.groups ??
    {};
  const values = new Map<string, RawValue>();
  const { via, scheme } = TARGET.exec(target)?.groups ?? {};
  if (target.startsWith('container:')) {
    values.set('container', target.slice('container:'.length).trim());
  } else if (scheme === undefined) {
    return `${quoteValue(target)} is not something to check: start with https://, http://, tcp://, tls:// (or ssh+http:// ... for ports of the server), container: or command:.`;
  } else {
    const address = via === undefined ? target : target.slice(via.length);
    if (via !== undefined) values.set('via', 'ssh');
    if (/^https?$/i.test(scheme)) values.set('url', address);
    else values.set(scheme.toLowerCase(), address.slice(scheme.length + '://'.length).replace(/\/$/, ''));
  }
  for (const { groups = {} } of rest.matchAll(OPTION)) {
    const problem = addOption(values, groups);
    if (problem !== undefined) return problem;
  }
  return values;
}

function addOption(
  values: Map<string, RawValue>,
  groups: Readonly<Record<string, string | undefined>>,
): string | undefined {
  const { word, path } = groups;
  if (word !== undefined) {
    if (!/^[1-5](?:\d\d|xx)(?:[-,][1-5\dx,-]+)?$/i.test(word)) {
      return `${quoteValue(word)} is neither a status such as 200 or 2xx nor an option such as contains:ok.`;
    }
    return addOption(values, { key: 'status', bare: word });
  }
  const key = ALIASES.get(groups['key'] ?? '') ?? groups['key'] ?? '';
  const value = groups['double'] ?? groups['single'] ?? groups['bare'] ?? '';
  const present = values.get(key);
  if (path !== undefined) {
    if (present instanceof Map && present.has(path)) return `has ${key}.${excerpt(path, 60)} twice.`;
    values.set(key, new Map([...(present instanceof Map ? present : []), [path, value]]));
    return undefined;
  }
  if (present === undefined) values.set(key, value);
  else if (!LIST_KEYS.has(key)) return `has ${excerpt(key, 60)} twice.`;
  else if (typeof present === 'string') values.set(key, [present, value]);
  else if (!(present instanceof Map)) values.set(key, [...(present as readonly string[]), value]);
  return undefined;
}

// --- entry -> check ----------------------------------------------------------------------------------------------------

const ALIASES: ReadonlyMap<string, string> = new Map([
  ['contains', 'body-contains'],
  ['matches', 'body-matches'],
  ['min-days', 'min-certificate-days'],
]);

const LIST_KEYS: ReadonlySet<string> = new Set(['status', 'body-contains', 'body-matches', 'allow-redirect-host']);

const COMMON_KEYS = ['name', 'via', 'attempts', 'interval', 'timeout', 'backoff', 'deadline', 'successes'];

const KIND_KEYS = {
  url: [
    'method',
    'status',
    'body-contains',
    'body-matches',
    'json',
    'header',
    'max-latency-ms',
    'max-redirects',
    'allow-redirect-host',
    'min-certificate-days',
    'release-id',
    'connect-to',
    'headers',
    'ca',
  ],
  tcp: [],
  tls: ['server-name', 'min-certificate-days', 'ca'],
  container: ['project', 'state', 'health', 'max-restarts'],
  command: [],
} as const satisfies Record<string, readonly string[]>;

type KindKey = keyof typeof KIND_KEYS;
const KINDS = Object.keys(KIND_KEYS) as KindKey[];

/** The keys of one check, with everything that is wrong with them. */
class Entry {
  readonly problems: string[] = [];
  readonly #values: ReadonlyMap<string, RawValue>;

  constructor(values: ReadonlyMap<string, RawValue>) {
    this.#values = values;
  }

  get keys(): string[] {
    return [...this.#values.keys()];
  }

  has(key: string): boolean {
    return this.#values.has(key);
  }

  refuse(problem: string): void {
    this.problems.push(problem);
  }

  /** One text; `instead` where the key is missing or cannot be used. */
  value<T>(key: string, parse: Parse<T>, instead: T): T {
    const raw = this.#values.get(key);
    if (raw === undefined) return instead;
    if (typeof raw !== 'string') {
      this.refuse(`${key} must be one text, not ${raw instanceof Map ? 'keys' : 'a list'}.`);
      return instead;
    }
    return this.#keep(key, parse(raw), instead);
  }

  text(key: string): string {
    return this.value<string>(key, (text) => ({ value: text.trim() }), '');
  }

  /** A text or a list of them; empty where the key is missing. */
  list<T>(key: string, parse: Parse<T>): T[] {
    const raw = this.#values.get(key);
    if (raw === undefined) return [];
    if (raw instanceof Map) {
      this.refuse(`${key} must be a text or a list of texts, not keys.`);
      return [];
    }
    const items = typeof raw === 'string' ? [raw] : (raw as readonly string[]);
    if (items.length === 0) this.refuse(`${key} is an empty list.`);
    return items.flatMap((item) => {
      const kept = this.#keep<T | undefined>(key, parse(item), undefined);
      return kept === undefined ? [] : [kept];
    });
  }

  pairs(key: string): [string, string][] {
    const raw = this.#values.get(key);
    if (raw === undefined) return [];
    if (raw instanceof Map) return [...(raw as ReadonlyMap<string, string>)];
    this.refuse(`${key} must have keys: \`${key}: {name: value}\` in the list form, \`${key}.name:value\` in a line.`);
    return [];
  }

  #keep<T>(key: string, parsed: Parsed<T>, instead: T): T {
    if ('value' in parsed) return parsed.value;
    this.refuse(`${key} ${parsed.problem}`);
    return instead;
  }
}

function readCheck(entry: Entry, defaults: CheckDefaults): Check | undefined {
  const [kind, ...more] = KINDS.filter((key) => entry.has(key));
  if (kind === undefined) {
    const hint = entry.keys.map((key) => suggest(key, KINDS)).find((text) => text !== '') ?? '';
    entry.refuse(`does not say what to check: one of the keys ${joinOr(KINDS)} is needed${hint || '.'}`);
    return undefined;
  }
  if (more.length > 0) {
    entry.refuse(`has ${[kind, ...more].join(' and ')}: make them separate checks.`);
    return undefined;
  }
  const known = [...COMMON_KEYS, kind, ...KIND_KEYS[kind]];
  for (const key of entry.keys.filter((name) => !known.includes(name))) {
    const other = KINDS.find((name) => (KIND_KEYS[name] as readonly string[]).includes(key));
    const hint = suggest(key, [...known, ...ALIASES.keys()]);
    entry.refuse(
      other === undefined
        ? `${quoteValue(key)} is not a key of a ${kind} check${hint || `; known are ${known.join(', ')}.`}`
        : `${key} belongs to ${other} checks, not to ${kind} checks.`,
    );
  }
  const pace = readPace(entry, defaults);
  const check = readKind(kind, entry, pace, defaults);
  if (check === undefined) return undefined;
  const name = excerpt(entry.has('name') ? entry.text('name') : describeTarget(check), 100);
  if (name === '') entry.refuse('name is empty.');
  return { ...check, name };
}

function readPace(entry: Entry, defaults: CheckDefaults): Pace {
  const pace: Pace = {
    attempts: entry.value('attempts', integer(1, 1000), defaults.attempts),
    intervalSeconds: entry.value('interval', duration(0, 3600), defaults.intervalSeconds),
    timeoutSeconds: entry.value('timeout', duration(0.1, 600), defaults.timeoutSeconds),
    backoff: entry.value('backoff', parseFactor, defaults.backoff ?? 1),
    deadlineSeconds: entry.value<number | undefined>(
      'deadline',
      optional(duration(1, 21_600)),
      defaults.deadlineSeconds,
    ),
    successes: entry.value('successes', integer(1, 100), defaults.successes ?? 1),
  };
  if (pace.successes > pace.attempts) {
    entry.refuse(
      `wants ${pace.successes} successes in a row, but makes only ${pace.attempts} attempts: raise attempts.`,
    );
  }
  return pace;
}

function readKind(kind: KindKey, entry: Entry, pace: Pace, defaults: CheckDefaults): Check | undefined {
  switch (kind) {
    case 'url':
      return readHttp(entry, pace);
    case 'tcp': {
      const address = readAddress(entry, kind, undefined);
      return address && { kind, name: '', via: readVia(entry), ...pace, ...address };
    }
    case 'tls': {
      const address = readAddress(entry, kind, 443);
      return (
        address && {
          kind,
          name: '',
          via: readVia(entry),
          ...pace,
          ...address,
          serverName: entry.value('server-name', parseHostName, address.host),
          minCertificateDays: readCertificateDays(entry),
          ca: entry.value<string | undefined>('ca', parseCa, undefined),
        }
      );
    }
    case 'container':
      return readContainer(entry, pace, defaults);
    case 'command': {
      const command = entry.text('command');
      if (command === '') entry.refuse('command is empty.');
      if (command.includes('\0')) entry.refuse('command holds a NUL character.');
      refuseOutside(entry, 'runs on the server', 'A command for the runner is an ordinary `run` step of the workflow.');
      return { kind, name: '', via: 'ssh', ...pace, command };
    }
  }
}

function readVia(entry: Entry): Via {
  return entry.value<Via>('via', oneOf('runner', 'ssh', 'both'), 'runner');
}

function refuseOutside(entry: Entry, what: string, hint: string): void {
  const via = entry.value<Via>('via', oneOf('ssh', 'runner', 'both'), 'ssh');
  if (via !== 'ssh') entry.refuse(`via must be ssh: it ${what}. ${hint}`);
}

function readContainer(entry: Entry, pace: Pace, defaults: CheckDefaults): ContainerCheck {
  const service = entry.text('container');
  if (!/^[a-zA-Z0-9][a-zA-Z0-9._-]*$/.test(service)) {
    entry.refuse(
      `container ${quoteValue(service)} is not the name of a Compose service: letters, digits, \`.\`, \`_\` and \`-\`.`,
    );
  }
  const project = entry.has('project') ? entry.text('project') : (defaults.project ?? '');
  if (project === '') entry.refuse('needs the Compose project: give it as `project` here or as the input project.');
  else if (!/^[a-z0-9][a-z0-9_-]*$/.test(project)) {
    entry.refuse(
      `project ${quoteValue(project)} is not the name of a Compose project: lower-case letters, digits, \`_\` and \`-\`.`,
    );
  }
  refuseOutside(entry, 'looks at containers on the server', 'Leave `via` out.');
  const state = entry.value<ContainerCheck['state']>('state', oneOf('running', 'exited'), 'running');
  if (state === 'exited' && entry.has('health')) entry.refuse('health cannot be asked of a container that has exited.');
  return {
    kind: 'container',
    name: '',
    via: 'ssh',
    ...pace,
    project,
    service,
    state,
    health: entry.value<ContainerCheck['health']>('health', oneOf('auto', 'healthy', 'any'), 'auto'),
    maxRestarts: entry.value<number | undefined>('max-restarts', integer(0, 1_000_000), undefined),
  };
}

const DEFAULT_STATUS: StatusRange = { from: 200, to: 299 };

function readHttp(entry: Entry, pace: Pace): HttpCheck | undefined {
  const url = entry.value<string>('url', parseHttpUrl, '');
  const check: HttpCheck = {
    kind: 'http',
    name: '',
    via: readVia(entry),
    ...pace,
    url,
    method: entry.value<HttpCheck['method']>('method', oneOf('GET', 'HEAD'), 'GET'),
    status: entry.has('status') ? entry.list('status', parseStatus).flat() : [DEFAULT_STATUS],
    bodyContains: entry.list('body-contains', parseNonEmpty),
    bodyMatches: entry.list('body-matches', parseRegex),
    json: entry.pairs('json').flatMap(([pathText, expected]) => {
      const path = parseJsonPath(pathText);
      if (path !== undefined) return [{ path, pathText, expected: expected.trim() }];
      entry.refuse(
        `json: ${quoteValue(pathText)} is not a path: write \`status\`, \`checks.postgres.status\` or \`items[0].id\`.`,
      );
      return [];
    }),
    header: entry.pairs('header').map(([name, expected]) => {
      if (!isHeaderName(name)) entry.refuse(`header: ${quoteValue(name)} is not the name of a header.`);
      return { name: name.toLowerCase(), expected: expected.trim() };
    }),
    maxLatencyMs: entry.value<number | undefined>('max-latency-ms', integer(1, 600_000), undefined),
    maxRedirects: entry.value('max-redirects', integer(0, 20), 5),
    allowRedirectHosts: entry.list('allow-redirect-host', parseHostName),
    minCertificateDays: readCertificateDays(entry),
    releaseId: entry.value<string | undefined>('release-id', parseNonEmpty, undefined),
    connectTo: entry.value<HttpCheck['connectTo']>('connect-to', parseConnectTo, undefined),
    headers: readHeaders(entry),
    ca: entry.value<string | undefined>('ca', parseCa, undefined),
  };
  const wantsBody = check.bodyContains.length + check.bodyMatches.length + check.json.length > 0;
  if (check.method === 'HEAD' && wantsBody) entry.refuse('method HEAD gets no body to look at: use GET.');
  if (url.startsWith('http:') && check.minCertificateDays !== undefined) {
    entry.refuse('min-certificate-days needs an https URL.');
  }
  return url === '' ? undefined : check;
}

/** Set by the connection itself: another value would make a different, or a malformed, request. */
const OWN_HEADERS = new Set([
  'connection',
  'content-length',
  'expect',
  'keep-alive',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
]);

function readHeaders(entry: Entry): Record<string, Secret> {
  const headers: [string, Secret][] = [];
  for (const [name, value] of entry.pairs('headers')) {
    const lower = name.toLowerCase();
    if (!isHeaderName(name)) entry.refuse(`headers: ${quoteValue(name)} is not the name of a header.`);
    else if (lower === 'host') {
      entry.refuse(
        'headers: Host comes from the URL: put the name into `url`, and the address to connect to into `connect-to`.',
      );
    } else if (OWN_HEADERS.has(lower)) entry.refuse(`headers: ${name} cannot be set.`);
    // Values may be secret: they are not repeated.
    else if (/[^\t\x20-\x7e\x80-\xff]/.test(value.trim())) {
      entry.refuse(`headers: the value of ${name} holds characters that a header cannot have.`);
    } else headers.push([lower, new Secret(value.trim())]);
  }
  return Object.fromEntries(headers);
}

function readCertificateDays(entry: Entry): number | undefined {
  return entry.value<number | undefined>('min-certificate-days', integer(0, 3650), undefined);
}

function readAddress(
  entry: Entry,
  key: 'tcp' | 'tls',
  defaultPort: number | undefined,
): { host: string; port: number } | undefined {
  return entry.value<{ host: string; port: number } | undefined>(
    key,
    (text) => {
      const parsed = parseHostPort(text);
      const port = parsed?.port ?? defaultPort;
      return parsed === undefined || port === undefined
        ? { problem: `${quoteValue(text)} is not an address such as \`db.example.com:5432\` or \`[::1]:5432\`.` }
        : { value: { host: parsed.host, port } };
    },
    undefined,
  );
}

// --- values ------------------------------------------------------------------------------------------------------------

function parseNonEmpty(text: string): Parsed<string> {
  return text.trim() === '' ? { problem: 'is empty.' } : { value: text.trim() };
}

/** A factor from 1 to 10. */
export function parseFactor(text: string): Parsed<number> {
  const value = /^\d{1,2}(?:\.\d{1,3})?$/.test(text.trim()) ? Number(text) : Number.NaN;
  return value >= 1 && value <= 10
    ? { value }
    : { problem: `${quoteValue(text)} is not a factor from 1 to 10, such as 1.5 or 2.` };
}

function parseRegex(text: string): Parsed<string> {
  if (text === '') return { problem: 'is empty.' };
  try {
    new RegExp(text, 'm');
    return { value: text };
  } catch (cause) {
    return {
      problem: `is not a regular expression: ${excerpt(cause instanceof Error ? cause.message : String(cause), 150)}`,
    };
  }
}

/** `200`, `2xx`, `200-299`, and lists of them with commas. */
function parseStatus(text: string): Parsed<StatusRange[]> {
  const ranges: StatusRange[] = [];
  for (const part of text.split(',').map((item) => item.trim().toLowerCase())) {
    const group = /^([1-5])xx$/.exec(part)?.[1];
    const [, low, high] = /^([1-5]\d\d)(?:-([1-5]\d\d))?$/.exec(part) ?? [];
    const from = group === undefined ? Number(low) : Number(group) * 100;
    const to = group === undefined ? Number(high ?? low) : from + 99;
    if (!(from <= to))
      return { problem: `${quoteValue(text)} is not a status: write 200, 2xx, 200-299, or several of them.` };
    ranges.push({ from, to });
  }
  return { value: ranges };
}

function parseHttpUrl(text: string): Parsed<string> {
  const url = URL.parse(text.trim());
  if (url === null || !/^https?:$/.test(url.protocol) || !/^https?:\/\//i.test(text.trim())) {
    return { problem: `${quoteValue(text)} is not an http or https URL, such as \`https://example.com/health\`.` };
  }
  if (url.username !== '' || url.password !== '') {
    return {
      problem: `holds a user or password, which would show up in logs: send \`headers: {authorization: ...}\` instead (to ${excerpt(url.host, 80)}).`,
    };
  }
  if (url.port === '0') return { problem: `${quoteValue(text)} has port 0.` };
  url.hash = '';
  return { value: url.href };
}

function parseHostPort(text: string): { host: string; port: number | undefined } | undefined {
  const [, bracketed, name, digits] = /^(?:\[([^\]]+)\]|([^:[\]]+))(?::(\d{1,5}))?$/.exec(text.trim()) ?? [];
  const host = bracketed ?? name ?? (isHostName(text.trim()) ? text.trim() : '');
  const port = digits === undefined ? undefined : Number(digits);
  if (!isHostName(host) || (bracketed !== undefined && !bracketed.includes(':'))) return undefined;
  return port === undefined || (port >= 1 && port <= 65_535) ? { host, port } : undefined;
}

function parseConnectTo(text: string): Parsed<HttpCheck['connectTo']> {
  const parsed = parseHostPort(text);
  return parsed === undefined
    ? { problem: `${quoteValue(text)} is not an address to connect to, such as \`203.0.113.7\` or \`127.0.0.1:8443\`.` }
    : { value: parsed };
}

function parseHostName(text: string): Parsed<string> {
  return isHostName(text.trim())
    ? { value: text.trim().toLowerCase() }
    : { problem: `${quoteValue(text)} is not a host name.` };
}

function parseCa(text: string): Parsed<string> {
  return /-----BEGIN CERTIFICATE-----[\s\S]+-----END CERTIFICATE-----/.test(text)
    ? { value: text.trim() }
    : { problem: 'is not a certificate in PEM form (-----BEGIN CERTIFICATE----- ...).' };
}

function isHeaderName(name: string): boolean {
  return /^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}$/.test(name);
}
