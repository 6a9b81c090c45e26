/** The images of a release on the server: which are there, and those that are not are pulled. */
import { notePulling } from '../commands/store';
import { ImageError } from '../errors';
import { pullImage } from '../images/pull';
import { familiarName, parseReference } from '../images/reference';
import type { Resolution } from '../images/registry';
import type { Release } from '../model/release';
import type { Ports, Session } from '../ports';
import type { LocalImage } from '../server/facts';
import type { TransactionInputs } from './inputs';
import type { Transaction } from './transaction';

export interface ChosenImage {
  readonly service: string;
  /** What the Compose file says. */
  readonly reference: string;
  /** `name:tag@sha256:...`; the reference itself where the digest cannot be had before the pull. */
  readonly image: string;
  readonly present: boolean;
  /** For people: "newer image exists, kept". Empty mostly. */
  readonly remark: string;
  readonly resolution: Resolution | undefined;
}

/** Those of a release of the store. */
export function listImages(release: Release, images: readonly LocalImage[]): ChosenImage[] {
  return Object.entries(release.services).map(([service, { reference, image }]) => ({
    service,
    reference,
    image,
    present: isPresent(image, images),
    remark: '',
    resolution: undefined,
  }));
}

/** Under its name and digest, or for an image that was never pinned under its tag. */
export function isPresent(image: string, images: readonly LocalImage[]): boolean {
  const parsed = parseReference(image);
  if ('problem' in parsed) return false;
  const { digest, tag } = parsed.value;
  const name = familiarName(parsed.value);
  return images.some((local) =>
    digest === '' ? local.tags.includes(`${name}:${tag || 'latest'}`) : local.digests.includes(`${name}@${digest}`),
  );
}

/** Notes what is about to be pulled, so that whoever comes after an interruption can tell it from images of others. */
export async function notePull(
  images: readonly ChosenImage[],
  { guardian, layout, ports }: Transaction,
): Promise<void> {
  const list = images.map(({ image }) => image).filter((image) => image.includes('@sha256:'));
  if (list.length === 0) return;
  await guardian.run(notePulling(layout, list), { purpose: 'note what is pulled', signal: ports.signal });
}

/** Pulls what is not there yet; where the digest was not known before, it is afterwards. */
export async function pullImages(
  images: readonly ChosenImage[],
  { credentials }: Pick<TransactionInputs, 'credentials'>,
  session: Session,
  ports: Pick<Ports, 'reporter' | 'clock' | 'signal'>,
): Promise<ChosenImage[]> {
  const missing = Map.groupBy(
    images.filter((image) => !image.present),
    (image) => image.image,
  );
  // All at once: the daemon shares layers and limits downloads itself.
  const pulls = [...missing].map(async ([image, wanted]): Promise<[string, string]> => {
    const resolution = wanted[0]?.resolution;
    const pulled = await pullImage(session, image, {
      clock: ports.clock,
      credentials,
      label: wanted.map((one) => one.service).join(', '),
      layers: resolution?.kind === 'resolved' ? resolution.layers : undefined,
      onProgress: (line) => {
        ports.reporter.remote(`  ${line}`);
      },
      signal: ports.signal,
    }).catch((error: unknown) => {
      if (!(error instanceof ImageError)) throw error;
      throw new ImageError(error.message, `${error.hint} Nothing that serves was changed.`.trim(), { cause: error });
    });
    return [image, pulled.pinned];
  });
  const pinned = new Map(await Promise.all(pulls));
  return images.map((image) => ({ ...image, image: pinned.get(image.image) ?? image.image }));
}
