/** Everything that can be known before the first change: the final project, its images and hashes, and the plan. */
import type { Project } from '#shared/compose/project';
import { parseYaml } from '#shared/compose/yaml';
import { type PreflightFinding, PreflightError } from '#shared/errors';
import type { Json } from '#shared/json';
import { estimateDisk, judgeDisk } from '#shared/images/disk';
import type { Release } from '#shared/model/release';
import { makeReleaseId } from '#shared/releases/layout';
import { judgeAnonymousVolumes, judgeDefinitions, judgeOwner } from '#shared/server/hazards';
import { judgePorts, judgeServer, judgeSharedPorts, judgeStoreSpace } from '#shared/server/preflight';
import { type Deployment, warn } from './deployment';
import { pinProject, readHashes, type RenderedProject, renderOnServer } from './facts';
import { type ChosenImage, chooseImages } from './images';
import { type DeployPlan, planDeploy } from './plan';

export interface Preparation {
  readonly rendered: RenderedProject;
  readonly images: readonly ChosenImage[];
  readonly project: Project;
  /** Compose's own, by service. */
  readonly hashes: Readonly<Record<string, string>>;
  readonly plan: DeployPlan;
}

/** @throws PreflightError with all findings at once. */
export async function prepare(deployment: Deployment): Promise<Preparation> {
  const { inputs, source, session, facts, layout, ports } = deployment;
  if (facts.docker.kind !== 'ready') throw new PreflightError(session.where, judgeServer(facts));
  const rendered = await renderOnServer(session, source, inputs, layout, ports);
  for (const message of [...rendered.warnings, ...warnOfOverrides(deployment)]) warn(deployment, message);
  const { images, findings } = await chooseImages(rendered.services, inputs, facts, facts.docker, session, ports);
  const names = rendered.services.map((service) => service.name);
  const all: PreflightFinding[] = [
    ...rendered.findings,
    ...findings,
    ...judgeOwner(facts.releases, source.project, facts.path),
    ...judgePaused(deployment),
    ...judgeDefinitions(parseCurrent(deployment), rendered.raw, facts),
    ...judgeAnonymousVolumes(facts.containers, rendered.services, rendered.raw),
    ...judgeSharedPorts(rendered.services),
    ...judgePorts(rendered.services, facts, source.project),
    ...judgeSpace(images, rendered, deployment),
    ...inputs.refresh
      .filter((name) => !names.includes(name))
      .map((name) => ({
        message: `Input refresh names ${name}, which is not a service of the Compose file.`,
        hint: `Its services: ${names.join(', ')}.`,
      })),
  ];
  if (all.length > 0) throw new PreflightError(session.where, all);
  const release = makeReleaseId(ports.clock.now(), ports.runner.context.commit);
  return planWith(images, release, rendered, deployment);
}

/** The same deploy with images that are known better now. */
export async function planWith(
  images: readonly ChosenImage[],
  release: string,
  rendered: RenderedProject,
  deployment: Deployment,
): Promise<Preparation> {
  const { inputs, session, facts, layout, target, ports } = deployment;
  const project = pinProject(rendered, Object.fromEntries(images.map((image) => [image.service, image.image])));
  const hashes = await readHashes(session, project.raw, target.project, layout, ports.signal);
  const plan = planDeploy({
    project,
    hashes,
    facts,
    before: parseCurrent(deployment),
    previous: facts.current,
    released: new Set(facts.releases.flatMap((one) => Object.keys(one.services))),
    release,
    target,
    layout,
    readyTimeoutSeconds: inputs.readyTimeoutSeconds,
    remarks: Object.fromEntries(
      images.filter((image) => image.remark !== '').map((image) => [image.service, image.remark]),
    ),
  });
  for (const name of plan.unknown) warn(deployment, describeUnknown(name, deployment));
  return { rendered, images, project, hashes, plan };
}

/** The current release's Compose file; undefined for a first deploy. */
function parseCurrent({ facts }: Deployment): Json | undefined {
  return facts.currentCompose === '' ? undefined : parseYaml(facts.currentCompose);
}

/** Compose leaves a paused container as it is, and its service would never become ready. */
function judgePaused({ facts }: Deployment): PreflightFinding[] {
  return facts.containers
    .filter((container) => container.state === 'paused')
    .map(({ name }) => ({ message: `Container ${name} is paused.`, hint: `On the server: docker unpause ${name}` }));
}

function describeUnknown(service: string, { facts, target }: Deployment): string {
  const names = facts.containers.filter((one) => one.service === service && !one.oneoff).map((one) => one.name);
  return `${names.join(', ')} (service ${service}) is of project ${target.project} and of no release: it is left alone. If nobody needs it: docker rm -f ${names.join(' ')}`;
}

function warnOfOverrides({ facts, layout }: Deployment): string[] {
  return facts.overrides.map(
    (file) =>
      `${layout.project}/${file} is on the server: a plain \`docker compose\` there merges it, Slipway does not.`,
  );
}

/** Room for what is not on the server yet: images in Docker's data root, the release in the project's folder. */
function judgeSpace(
  images: readonly ChosenImage[],
  rendered: RenderedProject,
  { facts }: Deployment,
): PreflightFinding[] {
  const findings: PreflightFinding[] = [];
  if (facts.dataRootSpace !== undefined && facts.docker.kind === 'ready') {
    const missing = images.flatMap(({ present, resolution }) =>
      !present && resolution?.kind === 'resolved' ? [resolution] : [],
    );
    const local = facts.images.map((image) => image.layerDiffIds);
    findings.push(...judgeDisk(estimateDisk(missing, local), { ...facts.dataRootSpace, path: facts.docker.dataRoot }));
  }
  const files = rendered.trees.flatMap((tree) => tree.files);
  const bytes = files.reduce((sum, file) => sum + file.content.byteLength, 0);
  findings.push(...judgeStoreSpace(facts, bytes, files.length));
  return findings;
}

/** The release as the store keeps it. */
export function describeRelease(
  { rendered, images, project, hashes, plan }: Preparation,
  { inputs, ports }: Deployment,
): Release {
  const { commit, ref, actor, runUrl } = ports.runner.context;
  return {
    id: plan.release,
    project: project.name,
    created: ports.clock.now().toISOString(),
    commit,
    ref,
    actor,
    runUrl,
    result: 'healthy',
    checks: inputs.checks.map((check) => check.name),
    services: Object.fromEntries(
      images.map(({ service, reference, image }) => [service, { reference, image, configHash: hashes[service] ?? '' }]),
    ),
    files: rendered.trees.map((tree) => tree.address),
  };
}
