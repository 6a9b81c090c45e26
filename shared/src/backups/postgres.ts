/** What the commands for PostgreSQL answer, read without trusting it: pure. */
import { type Json, readMember } from '../json';
import { type Answer, CUT_OFF, onlyAnswer, readAnswers, readCount, readString, SHA256 } from './answers';

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

function readTables(lines: readonly Answer[]): TableFigures[] {
  return lines.flatMap((line): TableFigures[] => {
    const kind = readMember(line, 'kind');
    if (kind !== 'table' && kind !== 'largeObjects') return [];
    const named = kind === 'table';
    return [
      {
        kind,
        schema: named ? readString(line, 'schema') : '',
        name: named ? readString(line, 'name') : '',
        rows: readCount(line, 'rows'),
        hash: readString(line, 'hash', /^-?\d{1,40}$/),
      },
    ];
  });
}

function readFile(lines: readonly Answer[]): DumpedFile {
  const file = onlyAnswer(lines, 'file');
  return {
    bytes: readCount(file, 'bytes'),
    sha256: readString(file, 'sha256', SHA256),
    seconds: readCount(file, 'seconds'),
  };
}

/** @throws SyntaxError */
export function parseDatabases(output: string): Databases {
  const [clientVersion = '', ...rest] = output.split('\n');
  if (!clientVersion.startsWith('pg_dump ')) throw new SyntaxError(CUT_OFF);
  const lines = readAnswers(rest.join('\n'));
  const server = onlyAnswer(lines, 'server');
  return {
    serverVersion: readCount(server, 'version'),
    clientVersion: clientVersion.trim(),
    user: readString(server, 'user'),
    superuser: readMember(server, 'superuser') === true,
    databases: lines
      .filter((line) => readMember(line, 'kind') === 'database')
      .map((line) => ({ name: readString(line, 'name'), bytes: readCount(line, 'bytes') })),
  };
}

/** @throws SyntaxError */
export function parseDumpedDatabase(output: string): DumpedDatabase {
  const lines = readAnswers(output);
  const database = onlyAnswer(lines, 'database');
  return {
    database: readString(database, 'name'),
    serverVersion: readCount(database, 'serverVersion'),
    tables: readTables(lines),
    ...readFile(lines),
  };
}

/** @throws SyntaxError */
export function parseDumpedRoles(output: string): DumpedFile {
  return readFile(readAnswers(output));
}

/** What a proof says, or a restore; of one that failed, the tables that were counted, as {@link parseTables} reads them. @throws SyntaxError */
export function parseProof(output: string, kind: 'proof' | 'restored'): ProvenDump {
  const lines = readAnswers(output);
  const done = onlyAnswer(lines, kind);
  return {
    restoreSeconds: readCount(done, 'restoreSeconds'),
    seconds: readCount(done, 'seconds'),
    tables: readTables(lines),
  };
}

/** @throws SyntaxError */
export function parseTables(output: string): TableFigures[] {
  return readTables(readAnswers(output));
}

/**
 * What a table has now, by `schema.table`, as in a backup's counts.
 *
 * @throws SyntaxError
 */
export function parseCounts(output: string): ReadonlyMap<string, number> {
  const lines = readAnswers(output);
  onlyAnswer(lines, 'counted');
  return new Map(
    lines
      .filter((line) => readMember(line, 'kind') === 'rows')
      .map((line) => [`${readString(line, 'schema')}.${readString(line, 'name')}`, readCount(line, 'rows')]),
  );
}

/** The names of the roles that were created, for the others were there. @throws SyntaxError */
export function parseRestoredRoles(output: string): readonly string[] {
  const created = readMember(onlyAnswer(readAnswers(output), 'roles'), 'created');
  if (!Array.isArray(created)) throw new SyntaxError('the server\'s answer has no list "created"');
  return created.map((name: Json) => {
    if (typeof name !== 'string') throw new SyntaxError("the server's answer has a role without a name");
    return name;
  });
}

/** @returns seconds that the swap took, with its waiting for sessions to end. @throws SyntaxError */
export function parseSwapped(output: string): number {
  return readCount(onlyAnswer(readAnswers(output), 'swapped'), 'seconds');
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
