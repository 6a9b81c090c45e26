/** What goes with a release: what only it needs, on the way back; what nothing needs any more, after the commit. Pure. */
import { isTagged } from '#shared/commands/images';
import type { FinishVerb, UndoVerb } from '#shared/model/step';
import type { Release } from '#shared/model/release';
import { planRetention, unusedFiles, unusedImages } from '#shared/releases/retention';
import type { Deployment } from './deployment';
import type { Preparation } from './prepare';

export interface Cleaning {
  readonly undo: readonly UndoVerb[];
  readonly finish: readonly FinishVerb[];
}

export function planCleaning(
  { plan, rendered }: Preparation,
  release: Release,
  { inputs, facts, target }: Pick<Deployment, 'inputs' | 'facts' | 'target'>,
): Cleaning {
  const added = rendered.trees.map((tree) => tree.address).filter((address) => !facts.storedFiles.includes(address));
  const onlyHere = unusedImages(namesOf([release]), facts.releases);
  const retention = planRetention([...facts.releases, release], inputs.keepReleases, plan.release, plan.previous);
  const stored = [...facts.storedFiles, ...rendered.trees.map((tree) => tree.address)];
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
