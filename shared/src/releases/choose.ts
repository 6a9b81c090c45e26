/** Which release of the store is meant: pure. */
import type { Release } from '../model/release';
import { isReleaseId } from './layout';

/** What a release is the same as: a rollback is what it brought back, however often. */
export function originOf(release: Release, releases: readonly Release[]): string {
  const of = release.rollback?.of;
  if (of === undefined) return release.id;
  // Ids sort by time, and what is brought back is older: this ends.
  const older = releases.find((one) => one.id === of && one.id < release.id);
  return older === undefined ? of : originOf(older, releases);
}

/** Ids of releases that somebody went back from. Of a release and what brought it back, the newest counts: the last verdict. */
export function listFailed(releases: readonly Release[]): ReadonlySet<string> {
  const left = new Set(releases.flatMap(({ rollback }) => (rollback === undefined ? [] : [rollback.from])));
  const same = Map.groupBy(releases, (release) => originOf(release, releases));
  return new Set(
    [...same.values()]
      .filter((copies) => left.has(newestFirst(copies)[0]?.id ?? ''))
      .flatMap((copies) => copies.map(({ id }) => id)),
  );
}

export function newestFirst(releases: readonly Release[]): Release[] {
  return [...releases].sort((a, b) => (a.id < b.id ? 1 : -1));
}

export type Choice = { readonly release: Release } | { readonly problem: string };

/**
 * The last release before the current one that served well: none that somebody went back from. Where the current one is a
 * rollback itself, before what that brought back: whoever goes back again wants to go further.
 */
function choosePrevious(releases: readonly Release[], current: string): Choice {
  const failed = listFailed(releases);
  const serving = releases.find(({ id }) => id === current);
  const origin = serving === undefined ? current : originOf(serving, releases);
  const found = newestFirst(releases).find((release) => release.id < origin && !failed.has(release.id));
  return found === undefined
    ? { problem: 'There is no release before the current one that served well.' }
    : { release: found };
}

/**
 * @param target `previous`, an id or the beginning of one, a commit (7 digits at least), or the name of the tag that it was
 *   deployed from.
 */
export function chooseRelease(target: string, releases: readonly Release[], current: string): Choice {
  if (target === 'previous') return choosePrevious(releases, current);
  const exact = releases.find(({ id }) => id === target);
  if (exact !== undefined) return { release: exact };
  const isCommit = /^[0-9a-f]{7,40}$/i.test(target);
  // A tag may look like the beginning of an id.
  const tagged = releases.filter(({ ref }) => ref === target);
  const found =
    tagged.length > 0
      ? tagged
      : releases.filter(
          ({ id, commit }) =>
            id.startsWith(target) || (isCommit && commit.toLowerCase().startsWith(target.toLowerCase())),
        );
  // A release and what brought it back are one and the same.
  const origins = Map.groupBy(found, (release) => originOf(release, releases));
  const [one, ...others] = [...origins.values()].map((same) => newestFirst(same)[0]);
  if (one === undefined) {
    return {
      problem: isReleaseId(target)
        ? `Release ${target} is not in the store: it never went live, or was removed since (input keep-releases of the deploy).`
        : 'No release of the store is meant by that.',
    };
  }
  return others.length === 0
    ? { release: one }
    : { problem: `It could be each of ${origins.size}: ${found.map(({ id }) => id).join(', ')}.` };
}
