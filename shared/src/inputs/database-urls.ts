/** PostgreSQL servers by their URLs. A whole URL is secret: no problem quotes any part of one. Pure. */
import type { RemotePostgres } from '../commands/postgres';
import { Secret } from '../model/secret';
import type { Parsed } from './values';

/** A server that is no service of the project. */
export interface DatabaseServer {
  /** What it is called in sources of backups, as a service is. */
  readonly name: string;
  readonly user: string;
  /** Of the URL; empty where it has none. */
  readonly database: string;
  readonly remote: RemotePostgres;
  /** The URL, and its password as it stands there and as it is. */
  readonly secrets: readonly Secret[];
}

const FORM = 'NAME = postgres://user:password@host:5432/database?sslmode=require';
const NAME = /^[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}$/;
const HOST = /^(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9.])?))(?::(\d{1,5}))?$/;
const SSL_MODES = ['disable', 'allow', 'prefer', 'require', 'verify-ca', 'verify-full'];

/** One a line; empty lines and comments are left out. All that is wrong is said, by the number of its line. */
export function parseDatabaseUrls(text: string): Parsed<readonly DatabaseServer[]> {
  const servers: DatabaseServer[] = [];
  const problems: string[] = [];
  const lines = text.split(/\r\n|\r|\n/).map((line) => line.trim());
  for (const [index, line] of lines.entries()) {
    if (line === '' || line.startsWith('#')) continue;
    const parsed = parseServer(line);
    if ('problem' in parsed) problems.push(`line ${index + 1} ${parsed.problem}`);
    else if (servers.some(({ name }) => name === parsed.value.name))
      problems.push(`line ${index + 1} has a name that another line has already`);
    else servers.push(parsed.value);
  }
  return problems.length === 0 ? { value: servers } : { problem: `${problems.join('; ')}.` };
}

function parseServer(line: string): Parsed<DatabaseServer> {
  const [, name = '', url = ''] = /^([^\s=:/@]+)\s*=\s*(\S.*)$/.exec(line) ?? [];
  if (!NAME.test(name)) return { problem: `is not \`${FORM}\`, with a name like that of a service` };
  const [, rest] = /^postgres(?:ql)?:\/\/(.*)$/s.exec(url) ?? [];
  if (rest === undefined) return { problem: 'has no URL that begins with postgres:// or postgresql://' };
  if (/[\s#]/.test(rest)) return { problem: 'has a URL with a space or a # in it: write %20 or %23' };
  const [address = '', query, ...queries] = rest.split('?');
  const [authority = '', database = '', ...paths] = address.split('/');
  const [login, host, ...more] = authority.split('@');
  if (login === undefined || host === undefined || more.length > 0 || queries.length > 0 || paths.length > 0) {
    return {
      problem: `has a URL that is not \`${FORM}\`: in user and password, write %40 for @, %3A for :, %2F for /, %3F for ?, and %25 for %`,
    };
  }
  const [rawUser, rawPassword] = splitOnce(login, ':');
  const [user, password] = [decode(rawUser), decode(rawPassword)];
  const decoded = decode(database);
  if (user === undefined || password === undefined || decoded === undefined)
    return { problem: 'has a URL with a % that encodes nothing, or a character that no line has: write %25 for %' };
  if (user === '' || password === '') return { problem: 'has a URL without a user or without a password' };
  const [, six, four, port = '5432'] = HOST.exec(host) ?? [];
  const hostName = six ?? four;
  if (hostName === undefined || Number(port) < 1 || Number(port) > 65_535)
    return { problem: 'has a URL without a host, or with something that is no host and port' };
  const sslmode = parseQuery(query ?? '');
  if (sslmode === undefined)
    return { problem: `has a URL with another parameter than sslmode, which is one of ${SSL_MODES.join(', ')}` };
  return {
    value: {
      name,
      user,
      database: decoded,
      remote: {
        host: hostName,
        port: Number(port),
        password: new Secret(password),
        ...(sslmode === '' ? {} : { sslmode }),
      },
      secrets: [...new Set([url, rawPassword, password])].map((text) => new Secret(text)),
    },
  };
}

function splitOnce(text: string, separator: string): [string, string] {
  const index = text.indexOf(separator);
  return index < 0 ? [text, ''] : [text.slice(0, index), text.slice(index + 1)];
}

/** @returns undefined for what is no percent-encoding, and for what can stand in no line. */
function decode(text: string): string | undefined {
  try {
    const decoded = decodeURIComponent(text);
    return /[\u0000-\u001f\u007f]/.test(decoded) ? undefined : decoded;
  } catch {
    return undefined;
  }
}

/** @returns sslmode, empty without one; undefined for anything else. */
function parseQuery(query: string): string | undefined {
  if (query === '') return '';
  const [, mode = ''] = /^sslmode=([a-z-]+)$/.exec(query) ?? [];
  return SSL_MODES.includes(mode) ? mode : undefined;
}
