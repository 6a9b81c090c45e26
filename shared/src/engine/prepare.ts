/** Everything that can be known before the first change: the final project, its hashes, and the plan. */
import { randomBytes } from 'node:crypto';
import { hashServices } from '../commands/compose';
import { isObject, type JsonObject, type Project, readProject, type Service } from '../compose/project';
import { pinImages } from '../compose/rewrite';
import { parseYaml, renderYaml } from '../compose/yaml';
import { type PreflightFinding, PreflightError, ServerAnswerError } from '../errors';
import { estimateDisk, judgeDisk } from '../images/disk';
import type { Json } from '../json';
import type { Release, SchemaQuestion } from '../model/release';
import { Secret } from '../model/secret';
import type { Remote } from '../ports';
import { makeReleaseId, nextReleaseTime, type StoreLayout } from '../releases/layout';
import type { ShippedTree } from '../releases/shipped';
import type { TarEntry } from '../releases/tar';
import { canResolve, judgeRouter, parseRouter, parseRunning, readRouter, type RouterFacts } from '../routers/nginx';
import { judgeAnonymousVolumes, judgeDefinitions, judgeOwner } from '../server/hazards';
import { judgePorts, judgeServer, judgeSharedPorts, judgeStoreSpace } from '../server/preflight';
import { chooseStrategies, type Strategy } from '../strategies/choose';
import { type DeployPlan, type Migration, planDeploy } from '../transaction/plan';
import { warnOfAnnotation } from './annotation';
import type { ChosenImage } from './images';
import { renderPlan } from './report';
import { type Transaction, warn } from './transaction';

/** A release that may go live, with the paths that it has on the server; its images are chosen apart from it. */
export interface Candidate {
  readonly raw: JsonObject;
  readonly services: readonly Service[];
  /** Shipped files that come with it; what the store has already need not come again. */
  readonly trees: readonly ShippedTree[];
  /** All content addresses below `files/` that its mounts point to. */
  readonly files: readonly string[];
  /** Secret environment in dotenv form. */
  readonly env: Secret;
  /** What it was made from, so that it can be made again with another environment. */
  readonly source: readonly TarEntry[] | { readonly like: string };
  /** Its Compose file, byte for byte, where it has one already. */
  readonly text?: string;
  readonly findings: readonly PreflightFinding[];
  readonly warnings: readonly string[];
}

export interface Preparation {
  readonly candidate: Candidate;
  readonly migrations: readonly Migration[];
  readonly schema: SchemaQuestion | undefined;
  /** Whether one-shot services run: an old migration must not run on a new schema. */
  readonly runsOnce: boolean;
  readonly images: readonly ChosenImage[];
  /** With the images pinned. */
  readonly project: Project;
  /** Compose's own, by service. */
  readonly hashes: Readonly<Record<string, string>>;
  readonly strategies: Readonly<Record<string, Strategy>>;
  /** Names of routers whose nginx is not known yet: their image is not on the server. */
  readonly unknownRouters: readonly string[];
  readonly plan: DeployPlan;
}

/** What is known of a release before it is planned. */
export interface Proposal {
  readonly candidate: Candidate;
  readonly images: readonly ChosenImage[];
  readonly migrations: readonly Migration[];
  /** Asked once its services are ready, and kept with it. */
  readonly schema: SchemaQuestion | undefined;
  readonly runsOnce: boolean;
  /** Commit that it is of. */
  readonly commit: string;
  readonly findings: readonly PreflightFinding[];
}

/** @throws PreflightError with all findings at once. */
export async function prepareRelease(
  { candidate, images, migrations, schema, runsOnce, commit, findings }: Proposal,
  transaction: Transaction,
): Promise<Preparation> {
  const { project, session, facts, ports } = transaction;
  if (facts.docker.kind !== 'ready') throw new PreflightError(session.where, judgeServer(facts));
  const chosen = chooseStrategies(readProject(candidate.raw), facts.containers);
  for (const message of [
    ...candidate.warnings,
    ...chosen.warnings,
    ...warnOfOverrides(transaction),
    ...warnOfAnnotation(transaction.inputs),
  ]) {
    warn(transaction, message);
  }
  const { endToEnd } = transaction.inputs;
  const all: PreflightFinding[] = [
    ...candidate.findings,
    ...chosen.findings,
    ...findings,
    ...judgeCommands(candidate.services, [
      ...migrations.map(({ service }) => ({ input: 'migrate', service })),
      ...(schema === undefined ? [] : [{ input: 'schema-state', service: schema.service }]),
      ...(endToEnd?.where === 'service' ? [{ input: 'e2e-command', service: endToEnd.service }] : []),
    ]),
    ...judgeOwner(facts.releases, project, facts.path),
    ...judgePaused(transaction),
    ...judgeDefinitions(parseCurrent(transaction), candidate.raw, facts),
    ...judgeAnonymousVolumes(facts.containers, candidate.services, candidate.raw),
    ...judgeSharedPorts(candidate.services),
    ...judgePorts(candidate.services, facts, project),
    ...judgeSpace(images, candidate, transaction),
  ];
  if (all.length > 0) throw new PreflightError(session.where, all);
  const ids = facts.releases.map(({ id }) => id);
  const release = makeReleaseId(nextReleaseTime(ports.clock.now(), ids), commit);
  return planWith(
    { images, candidate, migrations, schema, runsOnce, strategies: chosen.strategies },
    release,
    transaction,
  );
}

/** The same change with images that are known better now. */
export async function planWith(
  known: Pick<Preparation, 'images' | 'candidate' | 'migrations' | 'schema' | 'runsOnce' | 'strategies'>,
  release: string,
  transaction: Transaction,
): Promise<Preparation> {
  const { inputs, guardian, facts, layout, target, ports } = transaction;
  const { images, candidate, migrations, runsOnce, strategies } = known;
  const project = readProject(
    pinImages(candidate.raw, Object.fromEntries(images.map((image) => [image.service, image.image]))),
  );
  const [hashes, routers] = await Promise.all([
    readHashes(guardian, project.raw, target.project, layout, ports.signal),
    readRouters(images, candidate.services, transaction),
  ]);
  if (routers.findings.length > 0) throw new PreflightError(guardian.where, routers.findings);
  for (const message of routers.warnings) warn(transaction, message);
  const plan = planDeploy({
    project,
    hashes,
    facts,
    strategies,
    resolve: routers.resolve,
    migrations,
    runsOnce,
    before: parseCurrent(transaction),
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
  for (const name of plan.unknown) warn(transaction, describeUnknown(name, transaction));
  return { ...known, project, hashes, unknownRouters: routers.unknown, plan };
}

/** Compose's own hash of each service of the final file. */
export async function readHashes(
  remote: Remote,
  raw: JsonObject,
  project: string,
  layout: StoreLayout,
  signal: AbortSignal,
): Promise<Record<string, string>> {
  const { stdout } = await remote.run(
    hashServices({ project, projectDirectory: layout.project }, new Secret(renderYaml(raw))),
    { purpose: 'compute the configuration hashes', signal },
  );
  return Object.fromEntries(
    stdout.split('\n').flatMap((line) => {
      const [name, hash] = line.trim().split(/\s+/);
      return name !== undefined && hash !== undefined ? [[name, hash]] : [];
    }),
  );
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
  transaction: Transaction,
): Promise<Routers> {
  const { facts } = transaction;
  const names = [...new Set(services.flatMap((service) => service.router?.service ?? []))];
  const answers = await Promise.all(
    names.map(async (router) => {
      const image = images.find((one) => one.service === router)?.image ?? '';
      const before = facts.containers.find((one) => one.service === router && !one.oneoff);
      const known = facts.routers.get(router);
      const answer =
        known !== undefined && before?.image === image
          ? { running: parseRunning(known), image: NOTHING_KNOWN }
          : await askRouter(router, before?.image === image ? '' : image, transaction);
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
  { guardian, target, ports }: Transaction,
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
function judgeCommands(
  services: readonly Service[],
  wanted: readonly { readonly input: string; readonly service: string }[],
): PreflightFinding[] {
  const names = services.map((service) => service.name);
  return wanted
    .filter(({ service }) => !names.includes(service))
    .map(({ input, service }) => ({
      message: `Input ${input} names ${service}, which is not a service of the Compose file.`,
      hint: `Its services: ${names.join(', ')}.`,
    }));
}

/** The current release's Compose file; undefined for a first deploy. */
export function parseCurrent({ facts, guardian }: Transaction): Json | undefined {
  return facts.currentCompose === ''
    ? undefined
    : parseStored(facts.currentCompose, facts.current ?? '', guardian.where);
}

/** @throws ServerAnswerError where it is none. What YAML itself says of it would quote it, and it holds secrets. */
export function parseStored(compose: string, release: string, where: string): JsonObject {
  try {
    const raw = parseYaml(compose);
    if (isObject(raw)) return raw;
  } catch {
    // Said below.
  }
  throw new ServerAnswerError(
    `The Compose file of release ${release} in the store at ${where} is damaged.`,
    'Nothing was changed. Deploy again, or choose another release; if it is the one that serves, put back its compose.yaml first.',
  );
}

/** Compose leaves a paused container as it is, and its service would never become ready. */
function judgePaused({ facts }: Transaction): PreflightFinding[] {
  return facts.containers
    .filter((container) => container.state === 'paused')
    .map(({ name }) => ({ message: `Container ${name} is paused.`, hint: `On the server: docker unpause ${name}` }));
}

function describeUnknown(service: string, { facts, target }: Transaction): string {
  const names = facts.containers.filter((one) => one.service === service && !one.oneoff).map((one) => one.name);
  return `${names.join(', ')} (service ${service}) is of project ${target.project} and of no release: it is left alone. If nobody needs it: docker rm -f ${names.join(' ')}`;
}

function warnOfOverrides({ facts, layout }: Transaction): string[] {
  return facts.overrides.map(
    (file) =>
      `${layout.project}/${file} is on the server: a plain \`docker compose\` there merges it, Slipway does not.`,
  );
}

/** Room for what is not on the server yet: images in Docker's data root, the release in the project's folder. */
function judgeSpace(images: readonly ChosenImage[], candidate: Candidate, { facts }: Transaction): PreflightFinding[] {
  const findings: PreflightFinding[] = [];
  if (facts.dataRootSpace !== undefined && facts.docker.kind === 'ready') {
    const missing = images.flatMap(({ present, resolution }) =>
      !present && resolution?.kind === 'resolved' ? [resolution] : [],
    );
    const local = facts.images.map((image) => image.layerDiffIds);
    findings.push(...judgeDisk(estimateDisk(missing, local), { ...facts.dataRootSpace, path: facts.docker.dataRoot }));
  }
  const files = candidate.trees.flatMap((tree) => tree.files);
  const bytes = files.reduce((sum, file) => sum + file.content.byteLength, 0);
  findings.push(...judgeStoreSpace(facts, bytes, files.length));
  return findings;
}

/** The release as the store keeps it. */
export function describeRelease(
  { candidate, images, schema, project, hashes, plan }: Preparation,
  { inputs, ports }: Pick<Transaction, 'inputs' | 'ports'>,
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
    ...(schema === undefined ? {} : { schema }),
    files: candidate.files,
  };
}

export async function showPlan({ plan }: Preparation, { report, ports: { reporter } }: Transaction): Promise<void> {
  report.plan = plan;
  await reporter.group('Plan', () => {
    reporter.line(renderPlan(plan, reporter.palette));
    return Promise.resolve();
  });
}
