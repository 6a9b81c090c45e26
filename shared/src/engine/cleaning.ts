/** What goes with a release: what only it needs, on the way back; what nothing needs any more, after the commit. Pure. */
import { isTagged } from '../commands/images';
import type { FinishVerb, UndoVerb } from '../model/step';
import type { Release } from '../model/release';
import { planRetention, unusedFiles, unusedImages } from '../releases/retention';
import type { Preparation } from './prepare';
import type { Transaction } from './transaction';

export interface Cleaning {
  readonly undo: readonly UndoVerb[];
  readonly finish: readonly FinishVerb[];
}

/** @param keepReleases how many releases stay in all. */
export function planCleaning(
  { plan, candidate }: Preparation,
  release: Release,
  keepReleases: number,
  { facts, target }: Pick<Transaction, 'facts' | 'target'>,
): Cleaning {
  const added = candidate.trees.map((tree) => tree.address).filter((address) => !facts.storedFiles.includes(address));
  const onlyHere = unusedImages(namesOf([release]), facts.releases);
  const retention = planRetention([...facts.releases, release], keepReleases, plan.release, plan.previous);
  const stored = [...facts.storedFiles, ...candidate.trees.map((tree) => tree.address)];
  const files = unusedFiles(stored, retention.keep).filter((address) => /^[0-9a-f]{64}$/.test(address));
  // Also what deploys left that were interrupted: their records are gone, our tags on their images are not.
  const tagged = facts.images.filter((image) => isTagged(target.project, image.tags)).flatMap((image) => image.digests);
  const images = unusedImages([...namesOf(retention.remove), ...tagged, ...facts.pulling], retention.keep);
  return {
    undo: [
      ...(added.length === 0 ? [] : [{ verb: 'remove-files', addresses: added } as const]),
      ...(onlyHere.length === 0 ? [] : [{ verb: 'forget-images', images: onlyHere } as const]),
    ],
    finish: [
      ...(retention.remove.length === 0
        ? []
        : [{ verb: 'remove-releases', releases: retention.remove.map(({ id }) => id) } as const]),
      ...(files.length === 0 ? [] : [{ verb: 'remove-files', addresses: files } as const]),
      ...(images.length === 0 ? [] : [{ verb: 'forget-images', images } as const]),
    ],
  };
}

function namesOf(releases: readonly Release[]): string[] {
  return releases.flatMap((release) => Object.values(release.services).map((service) => service.image));
}
