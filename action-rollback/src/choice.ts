/** Which release is to come back, and whether that has happened already. Pure. */
import { InputError, ReleaseError } from '#shared/errors';
import type { Release } from '#shared/model/release';
import { chooseRelease } from '#shared/releases/choose';
import type { ServerFacts } from '#shared/server/facts';
import { findUnderWay, type ListedRelease } from './list';

type Facts = Pick<ServerFacts, 'releases' | 'current' | 'journal'>;

/** How things stood when somebody else was at work. */
export interface Before {
  readonly wanted: string;
  /** Id of the release that was decided. */
  readonly current: string;
  /** Id of one that was being tried beside it. */
  readonly underWay: string | undefined;
}

/** @throws ReleaseError where nothing could be gone back to. */
export function lookBefore(wanted: string, facts: Facts): Before {
  const { current } = facts;
  if (current === undefined) {
    throw new ReleaseError(
      'The first deploy of the project is under way: there is nothing yet to go back to.',
      'To take it back, cancel its workflow. Nothing was changed.',
    );
  }
  return { wanted, current, underWay: findUnderWay(facts) };
}

/**
 * The release that is meant; or `take back`, where it is the one that serves, or did a moment ago, while another is being tried.
 *
 * @throws InputError with the releases that there are.
 */
export function decide(wanted: string, facts: Facts, listed: readonly ListedRelease[]): Release | 'take back' {
  const underWay = findUnderWay(facts);
  if (wanted === 'previous' && underWay !== undefined) return 'take back';
  const refuse = (problem: string): InputError => {
    const lines = listed.map(({ line }) => line).join('\n');
    return new InputError([{ input: 'release', message: `${wanted}: ${problem} There are:\n${lines}` }]);
  };
  const releases = facts.releases.filter(({ id }) => id !== underWay);
  const choice = chooseRelease(wanted, releases, facts.current ?? '');
  if ('problem' in choice) throw refuse(choice.problem);
  if (choice.release.id !== facts.current) return choice.release;
  if (underWay !== undefined) return 'take back';
  throw refuse('That release serves already.');
}

/** After waiting: what was wanted has come about without us. */
export function isDone({ wanted, current, underWay }: Before, facts: Facts): boolean {
  const serving = facts.releases.find(({ id }) => id === facts.current);
  if (serving === undefined) return false;
  const isBack = wanted === 'previous' || chooses(wanted, facts, current);
  // The one that was being tried is gone from the store, and what served before serves.
  if (serving.id === current) {
    return isBack && underWay !== undefined && facts.releases.every(({ id }) => id !== underWay);
  }
  // Another rollback has gone back from the very release that was to go; or to the one that was wanted.
  if (serving.rollback?.from !== current) return false;
  return wanted === 'previous' || chooses(wanted, facts, serving.rollback.of) || chooses(wanted, facts, serving.id);
}

function chooses(wanted: string, facts: Facts, id: string): boolean {
  const choice = chooseRelease(wanted, facts.releases, facts.current ?? '');
  return 'release' in choice && choice.release.id === id;
}
