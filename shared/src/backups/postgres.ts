/** What the commands for PostgreSQL answer, read without trusting it: pure. */
import { type Json, parseJson, readMember } from '../json';

export interface Databases {
  /** As in `server_version_num`: 150020 is 15.20. */
  readonly serverVersion: number;
  /** As `pg_dump --version` says it. */
  readonly clientVersion: string;
  readonly user: string;
  readonly superuser: boolean;
  readonly databases: readonly { readonly name: string; readonly bytes: number }[];
}

/** A table, or all large objects of a database as one. */
export interface TableFigures {
  readonly kind: 'table' | 'largeObjects';
  /** Empty for large objects. */
  readonly schema: string;
  /** Empty for large objects. */
  readonly name: string;
  readonly rows: number;
  /** The sum of all rows' hashes, in decimal: larger than what a number holds. */
  readonly hash: string;
}

export interface DumpedFile {
  readonly bytes: number;
  readonly sha256: string;
  readonly seconds: number;
}

export interface DumpedDatabase extends DumpedFile {
  readonly database: string;
  readonly serverVersion: number;
  readonly tables: readonly TableFigures[];
}

export interface ProvenDump {
  readonly restoreSeconds: number;
  /** With the start of the server, the counting, and the rest. */
  readonly seconds: number;
  readonly tables: readonly TableFigures[];
}

type Line = { readonly [key: string]: Json };

const CUT_OFF = "the server's answer is cut off";

/** Lines of JSON. @throws SyntaxError for anything else. */
function readLines(output: string): Line[] {
  return output
    .split('\n')
    .filter((line) => line.trim() !== '')
    .map((line) => {
      const value = parseJson(line);
      if (typeof value !== 'object' || value === null || Array.isArray(value))
        throw new SyntaxError(`the server's answer has a line that is not JSON: ${line.slice(0, 200)}`);
      return value as Line;
    });
}

function text(line: Line, key: string): string {
  const value = readMember(line, key);
  if (typeof value !== 'string') throw new SyntaxError(`the server's answer has no text "${key}"`);
  return value;
}

function count(line: Line, key: string): number {
  const value = readMember(line, key);
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0)
    throw new SyntaxError(`the server's answer has no number "${key}"`);
  return value;
}

/** The one line of a kind. */
function only(lines: readonly Line[], kind: string): Line {
  const found = lines.filter((line) => readMember(line, 'kind') === kind);
  const [first] = found;
  if (first === undefined) throw new SyntaxError(CUT_OFF);
  if (found.length > 1) throw new SyntaxError(`the server's answer has more than one "${kind}"`);
  return first;
}

function readHash(line: Line, key: string, pattern: RegExp): string {
  const value = text(line, key);
  if (!pattern.test(value)) throw new SyntaxError(`the server's answer has no hash "${key}"`);
  return value;
}

function readTables(lines: readonly Line[]): TableFigures[] {
  return lines.flatMap((line): TableFigures[] => {
    const kind = readMember(line, 'kind');
    if (kind !== 'table' && kind !== 'largeObjects') return [];
    const named = kind === 'table';
    return [
      {
        kind,
        schema: named ? text(line, 'schema') : '',
        name: named ? text(line, 'name') : '',
        rows: count(line, 'rows'),
        hash: readHash(line, 'hash', /^-?\d{1,40}$/),
      },
    ];
  });
}

function readFile(lines: readonly Line[]): DumpedFile {
  const file = only(lines, 'file');
  return {
    bytes: count(file, 'bytes'),
    sha256: readHash(file, 'sha256', /^[0-9a-f]{64}$/),
    seconds: count(file, 'seconds'),
  };
}

/** @throws SyntaxError */
export function parseDatabases(output: string): Databases {
  const [clientVersion = '', ...rest] = output.split('\n');
  if (!clientVersion.startsWith('pg_dump ')) throw new SyntaxError(CUT_OFF);
  const lines = readLines(rest.join('\n'));
  const server = only(lines, 'server');
  return {
    serverVersion: count(server, 'version'),
    clientVersion: clientVersion.trim(),
    user: text(server, 'user'),
    superuser: readMember(server, 'superuser') === true,
    databases: lines
      .filter((line) => readMember(line, 'kind') === 'database')
      .map((line) => ({ name: text(line, 'name'), bytes: count(line, 'bytes') })),
  };
}

/** @throws SyntaxError */
export function parseDumpedDatabase(output: string): DumpedDatabase {
  const lines = readLines(output);
  const database = only(lines, 'database');
  return {
    database: text(database, 'name'),
    serverVersion: count(database, 'serverVersion'),
    tables: readTables(lines),
    ...readFile(lines),
  };
}

/** @throws SyntaxError */
export function parseDumpedRoles(output: string): DumpedFile {
  return readFile(readLines(output));
}

/** What a proof says, or a restore; of one that failed, the tables that were counted, as {@link parseTables} reads them. @throws SyntaxError */
export function parseProof(output: string, kind: 'proof' | 'restored'): ProvenDump {
  const lines = readLines(output);
  const done = only(lines, kind);
  return {
    restoreSeconds: count(done, 'restoreSeconds'),
    seconds: count(done, 'seconds'),
    tables: readTables(lines),
  };
}

/** @throws SyntaxError */
export function parseTables(output: string): TableFigures[] {
  return readTables(readLines(output));
}

/**
 * What a table has now, by `schema.table`, as in a backup's counts.
 *
 * @throws SyntaxError
 */
export function parseCounts(output: string): ReadonlyMap<string, number> {
  const lines = readLines(output);
  only(lines, 'counted');
  return new Map(
    lines
      .filter((line) => readMember(line, 'kind') === 'rows')
      .map((line) => [`${text(line, 'schema')}.${text(line, 'name')}`, count(line, 'rows')]),
  );
}

/** The names of the roles that were created, for the others were there. @throws SyntaxError */
export function parseRestoredRoles(output: string): readonly string[] {
  const created = readMember(only(readLines(output), 'roles'), 'created');
  if (!Array.isArray(created)) throw new SyntaxError('the server\'s answer has no list "created"');
  return created.map((name: Json) => {
    if (typeof name !== 'string') throw new SyntaxError("the server's answer has a role without a name");
    return name;
  });
}

/** @returns seconds that the swap took, with its waiting for sessions to end. @throws SyntaxError */
export function parseSwapped(output: string): number {
  return count(only(readLines(output), 'swapped'), 'seconds');
}

/** Why these tools cannot dump this server, as a sentence; undefined where they can. pg_dump reads older servers, not newer ones. */
export function compareVersions({ serverVersion, clientVersion }: Databases): string | undefined {
  const server = Math.floor(serverVersion / 10_000);
  const client = Number(/\(PostgreSQL\) (\d+)/.exec(clientVersion)?.[1] ?? 0);
  return client >= server
    ? undefined
    : `the server is PostgreSQL ${server}, and ${clientVersion} is older: use an image of PostgreSQL ${server} or newer for the backup`;
}

export interface TableDifference {
  readonly kind: TableFigures['kind'];
  readonly schema: string;
  readonly name: string;
  /** Undefined where the table is on one side only. */
  readonly expected: TableFigures | undefined;
  readonly restored: TableFigures | undefined;
}

/** Where a restored copy is not what was dumped, in the order of the backup. */
export function compareTables(
  expected: readonly TableFigures[],
  restored: readonly TableFigures[],
): readonly TableDifference[] {
  const keyOf = ({ kind, schema, name }: TableFigures): string => JSON.stringify([kind, schema, name]);
  const there = new Map(restored.map((table) => [keyOf(table), table]));
  const known = new Set(expected.map(keyOf));
  const pairs: [TableFigures | undefined, TableFigures | undefined][] = [
    ...expected.map((table): [TableFigures, TableFigures | undefined] => [table, there.get(keyOf(table))]),
    ...restored
      .filter((table) => !known.has(keyOf(table)))
      .map((table): [undefined, TableFigures] => [undefined, table]),
  ];
  return pairs.flatMap(([before, after]) => {
    const one = before ?? after;
    if (one === undefined || (before?.rows === after?.rows && before?.hash === after?.hash)) return [];
    return [{ kind: one.kind, schema: one.schema, name: one.name, expected: before, restored: after }];
  });
}
