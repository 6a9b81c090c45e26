/** After the commit: removes what the new release does not need. Nothing here can fail the deploy. */
import { isTagged, pruneImages } from '#shared/commands/images';
import { pruneStore } from '#shared/commands/store';
import { removeServices } from '#shared/commands/undo';
import type { Release } from '#shared/model/release';
import { planRetention, unusedFiles, unusedImages } from '#shared/releases/retention';
import { type Deployment, warn } from './deployment';
import type { Preparation } from './prepare';

export async function finish({ plan, rendered }: Preparation, release: Release, deployment: Deployment): Promise<void> {
  const { inputs, session, facts, layout, target } = deployment;
  if (plan.removed.length > 0) {
    await attempt(`removing ${plan.removed.join(', ')}`, deployment, () =>
      session.run(removeServices(target, plan.removed), {
        purpose: 'remove what is no longer in the Compose file',
        timeoutSeconds: 120,
      }),
    );
  }
  const retention = planRetention([...facts.releases, release], inputs.keepReleases, plan.release, plan.previous);
  const stored = [...facts.storedFiles, ...rendered.trees.map((tree) => tree.address)];
  const files = unusedFiles(stored, retention.keep);
  if (retention.remove.length + files.length > 0) {
    const ids = retention.remove.map((old) => old.id);
    await attempt('removing old releases', deployment, () =>
      session.run(pruneStore(layout, ids, files), { purpose: 'remove old releases' }),
    );
  }
  // Also what deploys left that were interrupted: their records are gone, our tags on their images are not.
  const tagged = facts.images.filter((image) => isTagged(target.project, image.tags)).flatMap((image) => image.digests);
  await removeImages([...namesOf(retention.remove), ...tagged], retention.keep, deployment);
}

/** After a deploy was undone: the images that only it needed. */
export async function discard(release: Release, deployment: Deployment): Promise<void> {
  await removeImages(namesOf([release]), deployment.facts.releases, deployment);
}

function namesOf(releases: readonly Release[]): string[] {
  return releases.flatMap((release) => Object.values(release.services).map((service) => service.image));
}

async function removeImages(
  images: readonly string[],
  keep: readonly Release[],
  deployment: Deployment,
): Promise<void> {
  const unused = unusedImages(images, keep);
  if (unused.length === 0) return;
  await attempt('removing images that no release needs', deployment, () =>
    deployment.session.run(pruneImages(deployment.target.project, unused), {
      purpose: 'remove images that no release needs',
      timeoutSeconds: 120,
    }),
  );
}

async function attempt(what: string, deployment: Deployment, work: () => Promise<unknown>): Promise<void> {
  try {
    await work();
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    warn(deployment, `${what} did not work, and is left to the next deploy: ${why}`);
  }
}
