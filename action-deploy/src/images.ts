/** Which image each service gets: by digest, and without restarting a database because a tag has moved. */
import type { Service } from '#shared/compose/project';
import { type ChosenImage, isPresent } from '#shared/engine/images';
import type { AskImage } from '#shared/images/ask';
import { parseReference, unpin } from '#shared/images/reference';
import type { PreflightFinding } from '#shared/errors';
import type { ContainerState } from '#shared/probes/container';
import type { ServerFacts } from '#shared/server/facts';
import { isStateful } from '#shared/strategies/stateful';

export interface ImageChoice {
  readonly images: readonly ChosenImage[];
  readonly findings: readonly PreflightFinding[];
}

/** Asks for all of them at once; changes nothing. @param refresh services with data that follow their tag all the same. */
export async function chooseImages(
  services: readonly Service[],
  refresh: readonly string[],
  facts: Pick<ServerFacts, 'containers' | 'images'>,
  ask: AskImage,
): Promise<ImageChoice> {
  const findings: PreflightFinding[] = [];
  const images = await Promise.all(
    services.map(async (service): Promise<ChosenImage> => {
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
      if (answer instanceof Error) {
        if (!findings.some((finding) => finding.message === answer.message))
          findings.push({ message: answer.message, hint: answer.hint });
      }
      const resolution = answer instanceof Error ? undefined : answer;
      const image = resolution?.kind === 'resolved' ? resolution.pinned : service.image;
      return {
        service: service.name,
        reference: service.image,
        image,
        present: image.includes('@') && isPresent(image, facts.images),
        remark: '',
        resolution,
      };
    }),
  );
  return { images, findings };
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
