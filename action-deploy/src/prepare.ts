/** Everything that can be known before the first change: the final project, its images and hashes, and the plan. */
import { randomBytes } from 'node:crypto';
import { type Project, readProject, type Service } from '#shared/compose/project';
import { parseYaml } from '#shared/compose/yaml';
import { type PreflightFinding, PreflightError } from '#shared/errors';
import type { Json } from '#shared/json';
import { estimateDisk, judgeDisk } from '#shared/images/disk';
import type { Release } from '#shared/model/release';
import { makeReleaseId } from '#shared/releases/layout';
import { judgeAnonymousVolumes, judgeDefinitions, judgeOwner } from '#shared/server/hazards';
import { judgePorts, judgeServer, judgeSharedPorts, judgeStoreSpace } from '#shared/server/preflight';
import { chooseStrategies, type Strategy } from '#shared/strategies/choose';
import { type DeployPlan, planDeploy } from '#shared/transaction/plan';
import {
  canResolve,
  judgeRouter,
  parseRouter,
  parseRunning,
  readRouter,
  type RouterFacts,
} from '#shared/routers/nginx';
import { type Deployment, warn } from './deployment';
import { pinProject, readHashes, relocate, type RenderedProject, type Rendering } from './facts';
import { type ChosenImage, chooseImages } from './images';
import type { Inputs } from './inputs';

export interface Preparation {
  readonly rendered: RenderedProject;
  readonly images: readonly ChosenImage[];
  readonly project: Project;
  /** Compose's own, by service. */
  readonly hashes: Readonly<Record<string, string>>;
  readonly strategies: Readonly<Record<string, Strategy>>;
  /** Names of routers whose nginx is not known yet: their image is not on the server. */
  readonly unknownRouters: readonly string[];
  readonly plan: DeployPlan;
}

/** @throws PreflightError with all findings at once. */
export async function prepare(rendering: Rendering, deployment: Deployment): Promise<Preparation> {
  const { inputs, source, session, guardian, facts, layout, ports } = deployment;
  if (facts.docker.kind !== 'ready') throw new PreflightError(session.where, judgeServer(facts));
  const rendered = await relocate(rendering, source, layout, guardian, ports);
  const chosen = chooseStrategies(readProject(rendered.raw), facts.containers);
  const { images, findings } = await chooseImages(rendered.services, inputs, facts, facts.docker, session, ports);
  for (const message of [...rendered.warnings, ...chosen.warnings, ...warnOfOverrides(deployment)]) {
    warn(deployment, message);
  }
  const names = rendered.services.map((service) => service.name);
  const all: PreflightFinding[] = [
    ...rendered.findings,
    ...chosen.findings,
    ...findings,
    ...judgeCommands(names, inputs),
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
  return planWith({ images, rendered, strategies: chosen.strategies }, release, deployment);
}

/** The same deploy with images that are known better now. */
export async function planWith(
  known: Pick<Preparation, 'images' | 'rendered' | 'strategies'>,
  release: string,
  deployment: Deployment,
): Promise<Preparation> {
  const { inputs, guardian, facts, layout, target, ports } = deployment;
  const { images, rendered, strategies } = known;
  const project = pinProject(rendered, Object.fromEntries(images.map((image) => [image.service, image.image])));
  const [hashes, routers] = await Promise.all([
    readHashes(guardian, project.raw, target.project, layout, ports.signal),
    readRouters(images, rendered.services, deployment),
  ]);
  if (routers.findings.length > 0) throw new PreflightError(guardian.where, routers.findings);
  for (const message of routers.warnings) warn(deployment, message);
  const plan = planDeploy({
    project,
    hashes,
    facts,
    strategies,
    resolve: routers.resolve,
    migrations: inputs.migrations,
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
  return { ...known, project, hashes, unknownRouters: routers.unknown, plan };
}

interface Routers {
  /** By router service: whether its nginx resolves names while it runs. */
  readonly resolve: Readonly<Record<string, boolean>>;
  readonly unknown: readonly string[];
  readonly findings: readonly PreflightFinding[];
  readonly warnings: readonly string[];
}

/** What the routers can do, and whether they read what Slipway writes for them. */
async function readRouters(
  images: readonly ChosenImage[],
  services: readonly Service[],
  deployment: Deployment,
): Promise<Routers> {
  const { facts } = deployment;
  const names = [...new Set(services.flatMap((service) => service.router?.service ?? []))];
  const answers = await Promise.all(
    names.map(async (router) => {
      const image = images.find((one) => one.service === router)?.image ?? '';
      const before = facts.containers.find((one) => one.service === router && !one.oneoff);
      const known = facts.routers.get(router);
      const answer =
        known !== undefined && before?.image === image
          ? { running: parseRunning(known), image: NOTHING_KNOWN }
          : await askRouter(router, before?.image === image ? '' : image, deployment);
      const upstreams = services.filter((service) => service.router?.service === router).map(({ name }) => name);
      // One that stays reads the file now, one that is new reads it when it starts.
      const version =
        before?.image === image ? answer.running.version : (answer.image.version ?? answer.running.version);
      const found = { version, configuration: before?.image === image ? answer.running.configuration : undefined };
      const verdict = version === undefined ? { findings: [], warnings: [] } : judgeRouter(router, found, upstreams);
      return { router, resolve: canResolve(version), isKnown: version !== undefined, ...verdict };
    }),
  );
  return {
    resolve: Object.fromEntries(answers.map(({ router, resolve }) => [router, resolve])),
    unknown: answers.filter(({ isKnown }) => !isKnown).map(({ router }) => router),
    findings: answers.flatMap(({ findings }) => findings),
    warnings: answers.flatMap(({ warnings }) => warnings),
  };
}

const NOTHING_KNOWN: RouterFacts = { version: undefined, configuration: undefined };

/** @param image of which it will be made; empty where only the running one matters. */
async function askRouter(
  router: string,
  image: string,
  { guardian, target, ports }: Deployment,
): Promise<{ readonly running: RouterFacts; readonly image: RouterFacts }> {
  const token = `slipway-${randomBytes(16).toString('hex')}`;
  const { stdout } = await guardian.run(readRouter(token, target.project, router, image), {
    purpose: `look at the router ${router}`,
    accept: 'any',
    signal: ports.signal,
  });
  return parseRouter(stdout, token);
}

/** Commands for services that are not there. */
function judgeCommands(names: readonly string[], { migrations, endToEnd }: Inputs): PreflightFinding[] {
  const wanted = [
    ...migrations.map(({ service }) => ({ input: 'migrate', service })),
    ...(endToEnd?.where === 'service' ? [{ input: 'e2e-command', service: endToEnd.service }] : []),
  ];
  return wanted
    .filter(({ service }) => !names.includes(service))
    .map(({ input, service }) => ({
      message: `Input ${input} names ${service}, which is not a service of the Compose file.`,
      hint: `Its services: ${names.join(', ')}.`,
    }));
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
