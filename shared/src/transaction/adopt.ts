/** A project that already runs becomes a release of its own, so that the first deploy has a way back too. */
import { FILES_GONE, renderRunning, splitRunning } from '../commands/adopt';
import { adoptCurrent, storeRelease } from '../commands/store';
import { parseProject, type Project } from '../compose/project';
import { renderYaml } from '../compose/yaml';
import { CommandError, PreflightError } from '../errors';
import type { Release } from '../model/release';
import type { Clock, Remote } from '../ports';
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
  remote: Remote,
  clock: Clock,
  signal: AbortSignal,
): Promise<ServerFacts> {
  const { release, compose } = await describeAdoption(project, facts, layout, remote, clock, signal);
  const tar = await packTar([
    { path: `releases/${release.id}/compose.yaml`, content: compose },
    { path: `releases/${release.id}/env`, content: '' },
    { path: `releases/${release.id}/release.json`, content: JSON.stringify(release) },
  ]);
  await remote.run(storeRelease(layout, release.id, tar), {
    purpose: 'record the running project as a release',
    signal,
  });
  await remote.run(adoptCurrent(layout, release.id), { purpose: 'make that record the current release', signal });
  return { ...facts, current: release.id, currentCompose: compose, releases: [...facts.releases, release] };
}

/**
 * What runs, as the release that {@link adoptProject} makes of it. Only looks.
 *
 * @throws PreflightError as that does.
 */
export async function describeAdoption(
  project: string,
  facts: Pick<ServerFacts, 'containers'>,
  layout: StoreLayout,
  remote: Remote,
  clock: Clock,
  signal: AbortSignal,
): Promise<{ readonly release: Release; readonly compose: string }> {
  const running = await renderWhatRuns(project, layout, remote, signal);
  const release: Release = {
    id: makeReleaseId(clock.now(), '', 'adopted'),
    project,
    created: clock.now().toISOString(),
    commit: '',
    ref: '',
    actor: '',
    runUrl: '',
    result: 'adopted',
    checks: [],
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
  return { release, compose: renderYaml(running.raw) };
}

async function renderWhatRuns(
  project: string,
  layout: StoreLayout,
  remote: Remote,
  signal: AbortSignal,
): Promise<Project> {
  const refuse = (message: string, hint: string): PreflightError =>
    new PreflightError(remote.where, [{ message, hint }]);
  let answer: string;
  try {
    const { stdout } = await remote.run(renderRunning(project), {
      purpose: 'read the Compose files of the running project',
      signal,
    });
    answer = stdout;
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    const words = error.stderr.trim().slice(0, 300);
    const why =
      error.exitCode === FILES_GONE
        ? `its Compose file ${words} cannot be read`
        : `its Compose files cannot be rendered: ${words}`;
    throw refuse(
      `A project ${project} runs there that Slipway did not deploy, and ${why}: a failed deploy could not be put back.`,
      `Put those files back, or take the running project down first (\`docker compose -p ${project} down\`), or choose another name with the input project.`,
    );
  }
  const { directory, rendered } = splitRunning(answer);
  if (directory !== layout.project) {
    // Its relative mounts are there: elsewhere Docker would make empty folders, and a database would start anew.
    throw refuse(
      `A project ${project} runs there already, in ${directory}, and this deploy is for ${layout.project}.`,
      `Set the input path to ${directory}: the project's own folders, and what is in them, are there.`,
    );
  }
  return parseProject(rendered);
}
