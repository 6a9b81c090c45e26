/** Which backup is meant: pure. */
import { type Backup, isBackupId, newestBackupsFirst } from '../model/backup';
import { excerpt } from '../shell/excerpt';

export type BackupChoice = { readonly backup: Backup } | { readonly problem: string };

/** Named in a message. */
const LISTED = 20;

/**
 * @param target `latest-proven`; `latest`, proven or not; an id, or a beginning that only one has; or a time, of which it is the newest one
 *   at or before: RFC 3339, or `2026-11-22 03:00` in UTC. A suspect backup is chosen by its whole id only.
 * @param backups of one project on this server, in any order.
 * @param foreign of other servers, in any order: each chosen by its whole id only.
 */
export function chooseBackup(
  target: string,
  backups: readonly Backup[],
  foreign: readonly Backup[] = [],
): BackupChoice {
  const newestFirst = newestBackupsFirst(backups);
  const good = newestFirst.filter(({ result }) => result !== 'suspect');
  const found = (backup: Backup | undefined, problem: string): BackupChoice =>
    backup === undefined ? { problem: `${problem} ${listBackups(newestFirst)}${listForeign(foreign)}` } : { backup };

  if (target === 'latest') return found(good[0], 'There is no backup that is not suspect.');
  if (target === 'latest-proven') {
    const proven = good.find(({ result }) => result === 'proven');
    const instead = good[0] === undefined ? '' : ' (`latest` would be one that is not proven as a whole)';
    return found(proven, `No backup is proven${instead}.`);
  }

  const exact = [...newestFirst, ...foreign].find(({ id }) => id === target);
  if (exact !== undefined) return { backup: exact };
  if (isBackupId(target)) return found(undefined, `Backup ${target} is not there: it was removed, or never completed.`);

  if (/^\d{4}-/.test(target)) {
    const time = parseTime(target);
    if ('problem' in time) return { problem: time.problem };
    const before = good.find(({ created }) => Date.parse(created) <= time.time);
    return found(before, `There is no backup at or before ${new Date(time.time).toISOString()} that is not suspect.`);
  }

  const begin = target === '' ? [] : newestFirst.filter(({ id }) => id.startsWith(target));
  const [one, ...others] = begin;
  if (one === undefined) {
    return found(
      undefined,
      `No backup is meant by \`${excerpt(target, 100)}\`: give latest-proven, latest, an id or its beginning, or a time (2026-11-22 03:00, in UTC).`,
    );
  }
  if (others.length > 0) return { problem: `It could be each of ${begin.length}. ${listBackups(begin)}` };
  return one.result === 'suspect'
    ? { problem: `${one.id} is suspect: ${describeSuspicions(one)} Give its whole id if you want it nevertheless.` }
    : { backup: one };
}

function describeSuspicions({ suspicions }: Backup): string {
  return excerpt(suspicions.join(' '), 500);
}

function listBackups(newestFirst: readonly Backup[]): string {
  if (newestFirst.length === 0) return 'There are no backups.';
  const named = newestFirst.slice(0, LISTED).map(({ id, result }) => `${id} (${result})`);
  const more = newestFirst.length - named.length;
  return `There ${newestFirst.length === 1 ? 'is' : 'are'} ${named.join(', ')}${more > 0 ? ` and ${more} older ones` : ''}.`;
}

/** A server that was lost has left its backups off-site: whoever restores them elsewhere says which. */
function listForeign(foreign: readonly Backup[]): string {
  if (foreign.length === 0) return '';
  const named = newestBackupsFirst(foreign)
    .slice(0, LISTED)
    .map(({ id, result, server }) => `${id} (${result}, ${excerpt(server, 100)})`);
  return ` Of other servers, each to be had by its whole id: ${named.join(', ')}.`;
}

/** https://www.rfc-editor.org/rfc/rfc3339#section-5.6; seconds and the offset may be left out, and a space may stand for the T. */
const TIME = /^(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d)(:\d\d)?(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)?$/;

function parseTime(text: string): { readonly time: number } | { readonly problem: string } {
  const [, date = '', minute = '', second = ':00', fraction = '', offset = 'Z'] = TIME.exec(text) ?? [];
  const local = `${date}T${minute}${second}`;
  const time = Date.parse(`${local}${fraction}${offset.toUpperCase()}`);
  // Date.parse takes the 30th of February for the 2nd of March.
  const exists = Number.isFinite(time) && new Date(Date.parse(`${local}Z`)).toISOString().startsWith(local);
  return exists
    ? { time }
    : {
        problem: `\`${excerpt(text, 100)}\` is not a time: write 2026-11-22 03:00 (in UTC) or 2026-11-22T03:00:00+01:00.`,
      };
}
