/** Which image each service gets: by digest, and without restarting a database because a tag has moved. */
import { explainDifference } from '#shared/compose/difference';
import type { Service } from '#shared/compose/project';
import { type ChosenImage, isPresent } from '#shared/engine/images';
import type { AskImage } from '#shared/images/ask';
import { parseReference, unpin } from '#shared/images/reference';
import { type Json, readMember } from '#shared/json';
import type { PreflightFinding } from '#shared/errors';
import type { ContainerState } from '#shared/probes/container';
import type { ServerFacts } from '#shared/server/facts';
import { isStateful } from '#shared/strategies/stateful';

export interface ImageChoice {
  readonly images: readonly ChosenImage[];
  readonly findings: readonly PreflightFinding[];
}

/**
 * Asks for all of them at once; changes nothing. What only builds has none, which is told elsewhere.
 *
 * @param refresh services with data that follow their tag all the same.
 * @param before the Compose file of what runs, as it is known.
 */
export async function chooseImages(
  services: readonly Service[],
  refresh: readonly string[],
  facts: Pick<ServerFacts, 'containers' | 'images'>,
  before: Json | undefined,
  ask: AskImage,
): Promise<ImageChoice> {
  const named = services.filter(({ image }) => image !== '');
  const findings: PreflightFinding[] = judgeNames(named);
  const images = await Promise.all(
    named.map(async (service): Promise<ChosenImage> => {
      const kept = refresh.includes(service.name) ? undefined : keepImage(service, facts.containers);
      const answer = await ask(service.image);
      if (kept !== undefined) {
        const newer =
          !(answer instanceof Error) &&
          answer.kind === 'resolved' &&
          kept.includes('@') &&
          !kept.endsWith(answer.digest);
        return {
          service: service.name,
          reference: service.image,
          image: kept,
          present: isPresent(kept, facts.images),
          remark: newer ? `newer image exists, kept (to follow it: \`refresh: ${service.name}\`)` : '',
          resolution: undefined,
        };
      }
      if (answer instanceof Error && isNamed(service)) {
        if (!findings.some((finding) => finding.message === answer.message))
          findings.push({ message: answer.message, hint: answer.hint });
      }
      const resolution = answer instanceof Error ? undefined : answer;
      const pinned = resolution?.kind === 'resolved' ? resolution.pinned : service.image;
      const stays = isSameUnpinned(service, pinned, facts, before);
      const image = stays ? service.image : pinned;
      return {
        service: service.name,
        reference: service.image,
        image,
        present: stays || (image.includes('@') && isPresent(image, facts.images)),
        remark: '',
        resolution,
      };
    }),
  );
  return { images, findings };
}

function isNamed({ image }: Service): boolean {
  return !('problem' in parseReference(image));
}

/** Names that are none, each once for all services that want it. */
function judgeNames(services: readonly Service[]): PreflightFinding[] {
  const wrong = services.filter((service) => !isNamed(service));
  return [...new Set(wrong.map(({ image }) => image))].flatMap((image) => {
    const parsed = parseReference(image);
    if (!('problem' in parsed)) return [];
    const names = wrong.filter((service) => service.image === image).map(({ name }) => name);
    return {
      message: `Image of ${names.join(', ')}: ${parsed.problem}`,
      hint: 'Is a variable empty? Put it into `variables` or `env`. An image is written as in `docker pull`: [registry/]name[:tag].',
    };
  });
}

/**
 * Whether it runs under its moving name already, and is what the registry has under that name: then it stays, under that name.
 * The digest in the text would change Compose's hash of the service, and so replace its containers by the same ones. A service
 * that changes otherwise is pinned.
 */
function isSameUnpinned(
  service: Service,
  pinned: string,
  { containers, images }: Pick<ServerFacts, 'containers' | 'images'>,
  before: Json | undefined,
): boolean {
  const replicas = containers.filter((one) => one.service === service.name && !one.oneoff);
  const was = readMember(readMember(before, 'services'), service.name);
  if (replicas.length === 0 || was === undefined || explainDifference(was, service.raw).length > 0) return false;
  return images.some(
    (local) =>
      isPresent(pinned, [local]) &&
      isPresent(service.image, [local]) &&
      replicas.every(({ image, imageId }) => image === service.image && imageId === local.id),
  );
}

/** A service with data keeps the image that it runs, as long as the Compose file asks for the same reference. */
function keepImage(service: Service, containers: readonly ContainerState[]): string | undefined {
  if (!isStateful(service)) return undefined;
  const running = containers.find((container) => container.service === service.name && !container.oneoff);
  if (running === undefined) return undefined;
  if (running.image === service.image) return running.image;
  // A digest in the Compose file does not move: another one is meant.
  return !isPinned(service.image) && movingName(running.image) === movingName(service.image)
    ? running.image
    : undefined;
}

function isPinned(text: string): boolean {
  const reference = parseReference(text);
  return !('problem' in reference) && reference.value.digest !== '';
}

/** What was asked for before a digest was added: `redis` and `redis:latest@sha256:...` are both `redis:latest`. */
function movingName(text: string): string {
  const reference = parseReference(text);
  if ('problem' in reference) return text;
  const { tag, digest } = reference.value;
  return unpin({ ...reference.value, tag: tag === '' && digest === '' ? 'latest' : tag });
}
