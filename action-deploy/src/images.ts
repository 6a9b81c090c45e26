/** Which image each service gets: by digest, and without restarting a database because a tag has moved. */
import type { Service } from '#shared/compose/project';
import { parseDaemon } from '#shared/images/daemon';
import { familiarName, parseReference, pin, unpin } from '#shared/images/reference';
import { pullImage } from '#shared/images/pull';
import { resolveImage, type Resolution } from '#shared/images/registry';
import { ImageError, type PreflightFinding, type SlipwayError } from '#shared/errors';
import type { Ports, Session } from '#shared/ports';
import type { ContainerState } from '#shared/probes/container';
import type { DockerFacts, LocalImage, ServerFacts } from '#shared/server/facts';
import { isStateful } from '#shared/strategies/stateful';
import { notePulling } from '#shared/commands/store';
import type { Deployment } from './deployment';
import type { Inputs } from './inputs';

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

/** Under its name and digest, or for an image that was never pinned under its tag. */
function isPresent(image: string, images: readonly LocalImage[]): boolean {
  const parsed = parseReference(image);
  if ('problem' in parsed) return false;
  const { digest, tag } = parsed.value;
  const name = familiarName(parsed.value);
  return images.some((local) =>
    digest === '' ? local.tags.includes(`${name}:${tag || 'latest'}`) : local.digests.includes(`${name}@${digest}`),
  );
}

/** Notes what is about to be pulled, so that whoever comes after an interruption can tell it from images of others. */
export async function notePull(images: readonly ChosenImage[], { guardian, layout, ports }: Deployment): Promise<void> {
  const list = images.map(({ image }) => image).filter((image) => image.includes('@sha256:'));
  if (list.length === 0) return;
  await guardian.run(notePulling(layout, list), { purpose: 'note what is pulled', signal: ports.signal });
}

/** Pulls what is not there yet; where the digest was not known before, it is afterwards. */
export async function pullImages(
  images: readonly ChosenImage[],
  inputs: Inputs,
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
      credentials: inputs.credentials,
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
