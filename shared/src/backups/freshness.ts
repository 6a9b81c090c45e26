/** How much would be lost, and how long a recovery would take, if everything burnt down now: pure. */
import { type Backup, type FoundItem, isInScope, listLivingSources, listNewestProven } from '../model/backup';
import { excerpt } from '../shell/excerpt';

/** Two machines' clocks differ by less. A backup that is dated further ahead says nothing about its age. */
export const CLOCK_SKEW_SECONDS = 300;

export interface SourceFreshness {
  readonly source: string;
  /** The newest proven backup of it whose time can be believed. */
  readonly backup: string | undefined;
  /** Of that one: what would be lost (RPO). Never below 0. */
  readonly ageSeconds: number | undefined;
  /** What its proof took: a recovery takes that at least (RTO). */
  readonly proofSeconds: number | undefined;
  /** Older than allowed, or none at all. */
  readonly stale: boolean;
  /** A sentence about it, with what is odd about the clocks. */
  readonly words: string;
}

/**
 * One for each source, by name.
 *
 * @param maxAgeSeconds of the newest proven backup.
 * @param required sources, or the beginning of several (`postgres:db`), that must have one; all that any backup has where it is left out,
 *   but for those that somebody accepted as gone.
 */
export function judgeFreshness(
  backups: readonly Backup[],
  maxAgeSeconds: number,
  now: Date,
  required?: readonly string[],
): SourceFreshness[] {
  const secondsAhead = ({ created }: Backup): number => (Date.parse(created) - now.getTime()) / 1000;
  // The other way round, a time that cannot be read would be believed.
  const believed = backups.filter((backup) => secondsAhead(backup) <= CLOCK_SKEW_SECONDS);
  const [proven, ofAll] = [listNewestProven(believed), listNewestProven(backups)];
  return listJudged(listLivingSources(backups), required).map((source) => {
    const found = proven.get(source);
    const ahead = ofAll.get(source);
    const odd =
      ahead === undefined || ahead.backup === found?.backup
        ? ''
        : ` ${ahead.backup.id} does not count: it is dated ${describeSpan(secondsAhead(ahead.backup))} in the future, so a clock is wrong.`;
    return { source, ...judgeSource(found, maxAgeSeconds, now, odd, excerpt(source)) };
  });
}

/** Those of each requirement, or the requirement itself where there are none. */
function listJudged(sources: readonly string[], required: readonly string[] | undefined): string[] {
  if (required === undefined) return [...sources];
  const judged = required.flatMap((asked) => {
    const found = sources.filter((source) => isInScope([asked], source));
    return found.length === 0 ? [asked] : found;
  });
  return [...new Set(judged)].sort();
}

function judgeSource(
  found: FoundItem | undefined,
  maxAgeSeconds: number,
  now: Date,
  odd: string,
  name: string,
): Omit<SourceFreshness, 'source'> {
  if (found === undefined) {
    const words = `${name} has no proven backup.${odd}`;
    return { backup: undefined, ageSeconds: undefined, proofSeconds: undefined, stale: true, words };
  }
  const age = (now.getTime() - Date.parse(found.backup.created)) / 1000;
  const skew = age < 0 ? ` It is dated ${describeSpan(-age)} in the future: the clocks differ.` : '';
  const ageSeconds = Math.max(0, age);
  const proofSeconds = found.item.proof?.seconds;
  const fresh = ageSeconds <= maxAgeSeconds;
  const words =
    `The newest proven backup of ${name} is ${found.backup.id}, ${describeSpan(ageSeconds)} old` +
    `${fresh ? '' : `, which is more than ${describeSpan(maxAgeSeconds)}`}; its proof took ${describeSpan(proofSeconds ?? 0)}.${skew}${odd}`;
  return { backup: found.backup.id, ageSeconds, proofSeconds, stale: !fresh, words };
}

/** `2 d 3 h`, `3 h 20 min`, `4 min 10 s`, `12 s`: two units say enough. */
export function describeSpan(seconds: number): string {
  if (!Number.isFinite(seconds)) return 'an unknown time';
  const whole = Math.round(seconds);
  const parts = [
    [Math.floor(whole / 86_400), 'd'],
    [Math.floor(whole / 3600) % 24, 'h'],
    [Math.floor(whole / 60) % 60, 'min'],
    [whole % 60, 's'],
  ] as const;
  const first = parts.findIndex(([count]) => count > 0);
  if (first < 0) return '0 s';
  return parts
    .slice(first, first + 2)
    .filter(([count]) => count > 0)
    .map(([count, unit]) => `${count} ${unit}`)
    .join(' ');
}
