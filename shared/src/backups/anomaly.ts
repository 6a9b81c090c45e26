/** Whether a backup has lost so much that its source may be damaged: pure. */
import {
  type Backup,
  type BackupItem,
  compareBackups,
  findProven,
  isInScope,
  newestBackupsFirst,
} from '../model/backup';
import { excerpt } from '../shell/excerpt';

/** A table, or all tables of an item, that had fewer rows cries no wolf: ten jobs done are not a catastrophe. */
export const MANY_ROWS = 100;

/** An item that was smaller does not either: its headers weigh more than its data. */
export const MANY_BYTES = 65_536;

/** Tables that are named in reasons, for each item. */
const NAMED_TABLES = 10;

/**
 * What has collapsed against the last proven backup of the same source, one sentence each with its numbers; empty where nothing has.
 *
 * - Bytes are compared before compression and encryption, so that switching these on is no collapse.
 * - A table counts, whether it fell or vanished, where it had at least {@link MANY_ROWS} rows. The rows of all tables together count
 *   likewise, so that many small ones cannot vanish without a word. Bytes count from {@link MANY_BYTES} on.
 * - A source has vanished where this backup asked for it (its scope), and the last one that asked for it and is not suspect had it.
 *   So once somebody has accepted that it is gone, it stays accepted.
 *
 * @param history in any order; what is newer than this backup does not count.
 * @param threshold the part that may be lost, from 0 (nothing) to 1, which accepts everything, vanished sources included.
 * @throws RangeError for any other threshold.
 */
export function judgeCollapse(backup: Backup, history: readonly Backup[], threshold: number): string[] {
  if (!(threshold >= 0 && threshold <= 1)) throw new RangeError(`a threshold is from 0 to 1, and not ${threshold}`);
  if (threshold === 1) return [];
  const earlier = newestBackupsFirst(history).filter((one) => one.id !== backup.id && compareBackups(one, backup) < 0);
  return [
    ...listVanished(backup, earlier),
    ...backup.items.flatMap((item) => {
      const before = earlier.map((one) => findProven(one, item.source)).find((one) => one !== undefined);
      return before === undefined ? [] : compareItems(item, before.item, before.backup.id, threshold);
    }),
  ];
}

function listVanished(backup: Backup, earlier: readonly Backup[]): string[] {
  const has = ({ items }: Backup, source: string): boolean => items.some((item) => item.source === source);
  const trusted = earlier.filter(({ result }) => result !== 'suspect');
  const sources = new Set(trusted.flatMap(({ items }) => items.map(({ source }) => source)));
  return [...sources]
    .sort()
    .filter((source) => isInScope(backup.scope, source) && !has(backup, source))
    .flatMap((source) => {
      const last = trusted.find(({ scope }) => isInScope(scope, source));
      return last !== undefined && has(last, source)
        ? [`${excerpt(source)} has vanished: ${last.id} had it, and it was asked for again.`]
        : [];
    });
}

function compareItems(item: BackupItem, before: BackupItem, id: string, threshold: number): string[] {
  const source = excerpt(item.source);
  const fell = (was: number, is: number): boolean => (was - is) / was > threshold;
  const now = new Map(Object.entries(item.counts));
  const tables = Object.entries(before.counts).map(([name, { rows }]) => ({
    name,
    was: rows,
    is: now.get(name)?.rows,
  }));
  const total = (counts: BackupItem['counts']): number =>
    Object.values(counts).reduce((sum, { rows }) => sum + rows, 0);
  const [was, is] = [total(before.counts), total(item.counts)];
  const collapsed = tables
    .filter((table) => table.was >= MANY_ROWS && (table.is === undefined || fell(table.was, table.is)))
    .sort((a, b) => b.was - (b.is ?? 0) - (a.was - (a.is ?? 0)) || (a.name < b.name ? -1 : 1));
  return [
    ...(before.plainBytes >= MANY_BYTES && fell(before.plainBytes, item.plainBytes)
      ? [`${source} ${describeFall(before.plainBytes, item.plainBytes, 'bytes')} (against ${id}).`]
      : []),
    ...(was >= MANY_ROWS && fell(was, is)
      ? [`${source} ${describeFall(was, is, 'rows in all')} (against ${id}).`]
      : []),
    ...collapsed
      .slice(0, NAMED_TABLES)
      .map((table) =>
        table.is === undefined
          ? `Table ${excerpt(table.name)} of ${source} has vanished: it had ${table.was} rows in ${id}.`
          : `Table ${excerpt(table.name)} of ${source} ${describeFall(table.was, table.is, 'rows')} (against ${id}).`,
      ),
    ...(collapsed.length > NAMED_TABLES
      ? [`${collapsed.length - NAMED_TABLES} more tables of ${source} have collapsed against ${id}.`]
      : []),
  ];
}

function describeFall(was: number, is: number, what: string): string {
  // Rounded down: 99.97 % must not read as all of it.
  const percent = Math.floor(((was - is) / was) * 1000) / 10;
  return `has ${is} ${what}, and had ${was}: ${percent} % less`;
}
