/** A project that already runs becomes a release of its own, so that the first deploy has a way back too. */
import { FILES_GONE, renderRunning } from '../commands/adopt';
import { adoptCurrent, storeRelease } from '../commands/store';
import { parseProject } from '../compose/project';
import { renderYaml } from '../compose/yaml';
import { CommandError, PreflightError } from '../errors';
import type { Release } from '../model/release';
import type { Clock, Session } from '../ports';
import { makeReleaseId, type StoreLayout } from '../releases/layout';
import { packTar } from '../releases/tar';
import type { ServerFacts } from '../server/facts';

/** Runs, and is not in the store. */
export function isAdoptable(facts: Pick<ServerFacts, 'current' | 'containers'>): boolean {
  return facts.current === undefined && facts.containers.some((container) => !container.oneoff);
}

/**
 * Records what runs, from the Compose files that its containers name. Nothing that runs is touched.
 *
 * @returns the facts as they are then.
 * @throws PreflightError when those files cannot be read: a failed deploy could not be put back.
 */
export async function adoptProject(
  project: string,
  facts: ServerFacts,
  layout: StoreLayout,
  session: Session,
  clock: Clock,
  signal: AbortSignal,
): Promise<ServerFacts> {
  const running = await renderWhatRuns(project, session, signal);
  const release: Release = {
    id: makeReleaseId(clock.now(), '', 'adopted'),
    project,
    created: clock.now().toISOString(),
    commit: '',
    ref: '',
    actor: '',
    runUrl: '',
    result: 'adopted',
    services: Object.fromEntries(
      running.services.map((service) => [
        service.name,
        {
          reference: service.image,
          image: service.image,
          configHash: facts.containers.find((container) => container.service === service.name)?.configHash ?? '',
        },
      ]),
    ),
    files: [],
  };
  const compose = renderYaml(running.raw);
  const tar = await packTar([
    { path: `releases/${release.id}/compose.yaml`, content: compose },
    { path: `releases/${release.id}/env`, content: '' },
    { path: `releases/${release.id}/release.json`, content: JSON.stringify(release) },
  ]);
  await session.run(storeRelease(layout, release.id, tar), {
    purpose: 'record the running project as a release',
    signal,
  });
  await session.run(adoptCurrent(layout, release.id), { purpose: 'make that record the current release', signal });
  return { ...facts, current: release.id, currentCompose: compose, releases: [...facts.releases, release] };
}

async function renderWhatRuns(
  project: string,
  session: Session,
  signal: AbortSignal,
): Promise<ReturnType<typeof parseProject>> {
  try {
    const { stdout } = await session.run(renderRunning(project), {
      purpose: 'read the Compose files of the running project',
      signal,
    });
    return parseProject(stdout);
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    const why =
      error.exitCode === FILES_GONE
        ? `its Compose file ${error.stderr.trim().slice(0, 300)} cannot be read`
        : `its Compose files cannot be rendered: ${error.stderr.trim().slice(0, 300)}`;
    throw new PreflightError(session.where, [
      {
        message: `A project ${project} runs there that Slipway did not deploy, and ${why}: a failed deploy could not be put back.`,
        hint: `Put those files back, or take the running project down first (\`docker compose -p ${project} down\`), or choose another name with the input project.`,
      },
    ]);
  }
}
