/** Which image each service gets: by digest, and without restarting a database because a tag has moved. */
import type { Service } from '#shared/compose/project';
import { type ChosenImage, isPresent } from '#shared/engine/images';
import { parseDaemon } from '#shared/images/daemon';
import { parseReference, pin, unpin } from '#shared/images/reference';
import { resolveImage, type Resolution } from '#shared/images/registry';
import { ImageError, type PreflightFinding, type SlipwayError } from '#shared/errors';
import type { Ports, Session } from '#shared/ports';
import type { ContainerState } from '#shared/probes/container';
import type { DockerFacts, ServerFacts } from '#shared/server/facts';
import { isStateful } from '#shared/strategies/stateful';
import type { Inputs } from './inputs';

export interface ImageChoice {
  readonly images: readonly ChosenImage[];
  readonly findings: readonly PreflightFinding[];
}

/** Asks the registries, all at once; changes nothing. */
export async function chooseImages(
  services: readonly Service[],
  inputs: Inputs,
  facts: ServerFacts,
  docker: Extract<DockerFacts, { kind: 'ready' }>,
  session: Session,
  ports: Pick<Ports, 'http' | 'clock' | 'signal'>,
): Promise<ImageChoice> {
  const daemon = parseDaemon(JSON.stringify(docker.info));
  const asked = new Map<string, Promise<Resolution | SlipwayError>>();
  const ask = (text: string): Promise<Resolution | SlipwayError> => {
    const known = asked.get(text);
    if (known !== undefined) return known;
    const reference = parseReference(text);
    const answer =
      'problem' in reference
        ? Promise.resolve(new ImageError(`Image \`${text}\`: ${reference.problem}`, ''))
        : resolveImage(reference.value, {
            http: ports.http,
            clock: ports.clock,
            session,
            daemon,
            credentials: inputs.credentials,
            isPresent: (digest) => isPresent(pin(reference.value, digest), facts.images),
            signal: ports.signal,
          }).catch((error: unknown) => {
            if (error instanceof ImageError) return error;
            throw error;
          });
    asked.set(text, answer);
    return answer;
  };
  const findings: PreflightFinding[] = [];
  const images = await Promise.all(
    services.map(async (service): Promise<ChosenImage> => {
      const kept = inputs.refresh.includes(service.name) ? undefined : keepImage(service, facts.containers);
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
