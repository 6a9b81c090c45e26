import type { Release } from '../model/release';

export interface Retention {
  readonly keep: readonly Release[];
  readonly remove: readonly Release[];
}

/**
 * Which releases stay: the current one, the one before it (the way back), and the newest up to `keepReleases` in all.
 *
 * @param keepReleases at least 2.
 */
export function planRetention(
  releases: readonly Release[],
  keepReleases: number,
  currentId: string,
  previousId: string | undefined,
): Retention {
  const newestFirst = [...releases].sort((a, b) => (a.id < b.id ? 1 : -1));
  const must = newestFirst.filter((release) => release.id === currentId || release.id === previousId);
  const others = newestFirst.filter((release) => !must.includes(release));
  const keep = [...must, ...others.slice(0, Math.max(0, keepReleases - must.length))];
  return { keep, remove: newestFirst.filter((release) => !keep.includes(release)) };
}

/** Content addresses that only removed releases point to. */
export function unusedFiles(stored: readonly string[], keep: readonly Release[]): string[] {
  const used = new Set(keep.flatMap((release) => release.files));
  return stored.filter((address) => !used.has(address));
}

/** Images of which a kept release needs none; one image may be named by several tags, so its digest counts. */
export function unusedImages(images: readonly string[], keep: readonly Release[]): string[] {
  const contentOf = (image: string): string => image.split('@').at(-1) ?? image;
  const used = new Set(keep.flatMap((release) => Object.values(release.services).map(({ image }) => contentOf(image))));
  return [...new Set(images)].filter((image) => !used.has(contentOf(image)));
}
