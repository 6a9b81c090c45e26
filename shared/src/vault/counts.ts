/** What an item has in it, as its manifest counts it: pure. */
import type { Keyspace } from '../backups/redis';
import type { TableFigures } from '../backups/postgres';
import { BackupError } from '../errors';
import type { BackupItem, TableCount, TreeFigures } from '../model/backup';

type Counts = BackupItem['counts'];

/** Large objects of a database are one table to us. */
const LARGE_OBJECTS = '(large objects)';

/** Of a tree of files: all its entries are one row each. */
const ENTRIES = 'entries';

/** By `schema.table`, without control characters. */
export function countTables(tables: readonly TableFigures[]): Counts {
  const counts: Record<string, TableCount> = {};
  for (const { kind, schema, name, rows, hash } of tables) {
    const plain = kind === 'largeObjects' ? LARGE_OBJECTS : `${schema}.${name}`;
    // `a.b` in schema `c` and `b` in schema `c.a` read alike.
    const key = Object.hasOwn(counts, plain) ? JSON.stringify([schema, name]) : plain;
    counts[key] = { rows, hash };
  }
  return counts;
}

/** By database of the Redis: `db0`. */
export function countKeys(databases: readonly Keyspace[]): Counts {
  return Object.fromEntries(databases.map(({ database, keys }) => [`db${database}`, { rows: keys, hash: '' }]));
}

export function countTree({ entries, hash }: TreeFigures): Counts {
  return { [ENTRIES]: { rows: entries, hash } };
}

/** @throws BackupError where the manifest does not say it. */
export function readTree({ source, counts }: BackupItem): TreeFigures {
  const found = counts[ENTRIES];
  if (found === undefined || !/^[0-9a-f]{64}$/.test(found.hash)) {
    throw new BackupError(`The manifest does not say what is in ${source}.`, 'Choose another backup.');
  }
  return { entries: found.rows, hash: found.hash };
}

export function sumRows(counts: Counts): number {
  return Object.values(counts).reduce((sum, { rows }) => sum + rows, 0);
}

/** Whether the figures of a dump are those that its manifest has: the file beside it is not in the manifest itself. */
export function isSameCounts(a: Counts, b: Counts): boolean {
  const keys = Object.keys(a);
  return (
    keys.length === Object.keys(b).length &&
    keys.every((key) => a[key]?.rows === b[key]?.rows && a[key]?.hash === b[key]?.hash)
  );
}
