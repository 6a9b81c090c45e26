/** Local image tags of kept releases: pure. They keep `docker image prune` away, and tell our images from those of others. */
import type { Command } from '../model/command';
import { script } from '../shell/render';

/** Never the name of a registry: nothing is pulled from or pushed to it. */
const TAG_HOST = 'slipway.local';

/** `slipway.local/<project>:<first 32 digits of the digest>` */
export function localTag(project: string, image: string): string {
  return `${TAG_HOST}/${project}:${image.split('@sha256:').at(-1)?.slice(0, 32) ?? ''}`;
}

/** Whether one of an image's tags is ours: a deploy of this project had put it there. */
export function isTagged(project: string, tags: readonly string[]): boolean {
  return tags.some((tag) => tag.startsWith(`${TAG_HOST}/${project}:`));
}

/** Pinned: an image that was never pulled by its digest is not ours to tag or to remove. */
function isPinned(image: string): boolean {
  return image.includes('@sha256:');
}

/** @param images as the release names them. */
export function tagImages(project: string, images: readonly string[]): Command {
  return script(
    `set -eu
while [ "$#" -gt 1 ]; do
  docker image tag "$1" "$2"
  shift 2
done`,
    ...[...new Set(images)].filter(isPinned).flatMap((image) => [image, localTag(project, image)]),
  );
}

/** Lets tags name these images again. */
export function setTags(images: readonly { readonly imageId: string; readonly tag: string }[]): Command {
  return script(
    `while [ "$#" -gt 1 ]; do
  docker image tag "$1" "$2" || exit
  shift 2
done`,
    ...images.flatMap(({ imageId, tag }) => [imageId, tag]),
  );
}
