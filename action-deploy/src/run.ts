/** A deploy, readable aloud: inputs -> facts -> plan -> execute -> report. */
import { parseEnv } from 'node:util';
import { beginAnnotation } from '#shared/engine/annotation';
import { cleanUp } from '#shared/engine/clean-up';
import { execute } from '#shared/engine/execute';
import { isPresent, notePull, pullImages } from '#shared/engine/images';
import { describeRelease, planWith, type Preparation, showPlan } from '#shared/engine/prepare';
import { withProject } from '#shared/engine/project';
import { beginDeploymentRecord } from '#shared/engine/record';
import { concludeReport, createReport, type TransactionReport } from '#shared/engine/report';
import { hideSecrets } from '#shared/engine/secrets';
import { timed, type Transaction, type TransactionRequest, warn } from '#shared/engine/transaction';
import type { Ports, Session } from '#shared/ports';
import { type AskImage, askRegistries, readDaemon } from '#shared/images/ask';
import { type DaemonFacts, parseDaemon } from '#shared/images/daemon';
import { dialAhead, guessImages, registriesOf } from '#shared/images/dial-ahead';
import { layoutStore } from '#shared/releases/layout';
import type { ServerFacts } from '#shared/server/facts';
import { adoptProject, isAdoptable } from '#shared/transaction/adopt';
import { suggestPatch } from '#shared/strategies/rollable';
import { describeChanges, isUnchanged, servicesWithOutage } from '#shared/transaction/plan';
import { readSource, type Rendering, renderOnServer, type Source } from './facts';
import { backUpBefore, settleRestore } from '#shared/vault/around-change';
import { type Inputs, readInputs } from './inputs';
import { prepare } from './prepare';
import { setOutputs } from './report';

export async function run(ports: Ports): Promise<void> {
  const { runner, clock } = ports;
  if (runner.state('phase') === 'post') return cleanUp(ports, () => readRequest(ports));
  runner.saveState('phase', 'post');
  const startedMs = clock.monotonicMs();
  const report = createReport('deploy');
  try {
    await deploy(ports, report);
  } catch (error) {
    report.failure = error;
    throw error;
  } finally {
    report.durations['total'] = (clock.monotonicMs() - startedMs) / 1000;
    setOutputs(report, runner, (text) => ports.reporter.redact(text));
    await concludeReport(report, ports);
  }
}

interface DeployRequest extends TransactionRequest {
  readonly inputs: Inputs;
  readonly source: Source;
}

/** What is to be deployed, and where. From here on its secrets are hidden. */
async function readRequest(ports: Ports): Promise<DeployRequest> {
  const inputs = readInputs((name) => ports.runner.input(name));
  hideSecrets(inputs, ports.reporter);
  const source = await readSource(inputs, ports);
  return { task: 'deploy', project: source.project, inputs, source };
}

/** What a registry said stays good for so long. */
const ASKED_AHEAD_SECONDS = 60;

async function deploy(ports: Ports, report: TransactionReport): Promise<void> {
  const request = await readRequest(ports);
  const { inputs, source, project } = request;
  report.project = project;
  const phase = { ports, report };
  const session = await timed(phase, 'connect', () => ports.connect(inputs.host, { signal: ports.signal }));
  report.where = session.where;
  ports.reporter.line(`Connected to ${session.where}.`);
  const guessed = guessImages(composeTexts(source), knownVariables(inputs));
  const ahead = dialAhead(session, registriesOf(guessed));
  const found = Promise.withResolvers<ServerFacts>();
  const askedMs = ports.clock.monotonicMs();
  const opening = { mode: inputs.dryRun ? 'look' : 'change', waitSeconds: inputs.lockWaitSeconds } as const;
  try {
    const opened = withProject(session, request, opening, phase, async (open) => {
      const { guardian } = open;
      let facts = await settleRestore(open, request, session, phase);
      const layout = layoutStore(facts.path);
      if (!inputs.dryRun && isAdoptable(facts)) {
        facts = await adoptProject(project, facts, layout, guardian, ports.clock, ports.signal);
        warn(
          phase,
          `The project ran already: what ran is recorded as release ${facts.current ?? ''}, the way back of this deploy.`,
        );
      }
      // After another session, or a long time, a tag may be another image's, and a registry's token has run out.
      const isLate =
        guardian.waitedFor !== undefined || ports.clock.monotonicMs() - askedMs > ASKED_AHEAD_SECONDS * 1000;
      const late = Promise.resolve(facts);
      const ask = isLate ? askFor(request, session, describedBy(late), late, ports) : askedAhead;
      if (!isLate) found.resolve(facts);
      const target = { project, projectDirectory: layout.project };
      const { task } = request;
      const transaction = {
        task,
        project,
        inputs,
        session: ahead.session,
        guardian,
        facts,
        layout,
        target,
        ports,
        report,
      };
      await deployTo(rendering, ask, request, transaction);
    });
    // What needs nothing but the workspace goes on beside the lock, and after the guardian, which fills the first packets.
    // What is wrong with the server is said by the facts.
    const rendering = renderOnServer(session, source, inputs, ports);
    rendering.catch(() => undefined);
    const daemon = readDaemon(session, ports.signal).catch(() => describedBy(found.promise));
    const askedAhead = askFor(request, ahead.session, daemon, found.promise, ports);
    for (const image of guessed) void askedAhead(image);
    await opened;
  } finally {
    ahead.drop();
    await session.close();
  }
}

async function describedBy(found: Promise<ServerFacts>): Promise<DaemonFacts> {
  const { docker } = await found;
  return parseDaemon(docker.kind === 'ready' ? JSON.stringify(docker.info) : '');
}

/** @param daemon is known before all the rest that is found on the server */
function askFor(
  { inputs }: DeployRequest,
  session: Session,
  daemon: Promise<DaemonFacts>,
  found: Promise<ServerFacts>,
  { http, clock, signal }: Ports,
): AskImage {
  return askRegistries({
    http,
    clock,
    session,
    credentials: inputs.credentials,
    signal,
    daemon,
    isPresent: async (pinned) => isPresent(pinned, (await found).images),
  });
}

function composeTexts({ files, composeFiles }: Source): string[] {
  return composeFiles.flatMap((path) => {
    const file = files.find((one) => one.path === path);
    return file === undefined ? [] : [Buffer.from(file.content).toString()];
  });
}

function knownVariables({ env, variables }: Inputs): Record<string, string | undefined> {
  return { ...parseEnv(env.reveal()), ...variables };
}

/** The server is known and ours: plan, and unless that is all that was asked for, carry it out. */
async function deployTo(
  rendering: Promise<Rendering>,
  ask: AskImage,
  { inputs, source }: DeployRequest,
  transaction: Transaction,
): Promise<void> {
  const { session, facts, ports, report } = transaction;
  const { reporter } = ports;
  report.previous = facts.current ?? '';
  report.release = facts.current ?? '';
  let preparation = await timed(transaction, 'plan', async () =>
    prepare(await rendering, source, inputs, ask, transaction),
  );
  await showPlan(preparation, transaction);
  await showPatch(preparation, source, transaction);
  if (inputs.dryRun) {
    report.result = 'planned';
    reporter.line('Dry run: nothing was changed.');
    return;
  }
  const missing = preparation.images.filter((image) => !image.present);
  if (!isLive(preparation, transaction) && missing.length > 0) {
    const { images, unknownRouters, plan } = preparation;
    const pulled = await timed(transaction, 'pull', () =>
      reporter.group('Images', async () => {
        await notePull(missing, transaction);
        return pullImages(images, inputs, session, ports);
      }),
    );
    if (unknownRouters.length > 0 || pulled.some((image, index) => image.image !== images[index]?.image)) {
      // What could not be known before the pull: the plan again, with what was pulled.
      preparation = await planWith({ ...preparation, images: pulled }, plan.release, transaction);
      await showPlan(preparation, transaction);
    }
  }
  if (isLive(preparation, transaction)) {
    report.result = 'unchanged';
    reporter.line(`Nothing to do: release ${facts.current ?? ''} already is what the workspace asks for.`);
    return;
  }
  const backup = inputs.backup === undefined ? '' : await backUpBefore(inputs.backup, transaction);
  const release = { ...describeRelease(preparation, transaction), ...(backup === '' ? {} : { backup }) };
  ports.runner.saveState('release', release.id);
  beginDeploymentRecord(release.id, transaction);
  beginAnnotation(release.id, transaction);
  await execute(preparation, release, inputs.keepReleases, transaction);
  reporter.line(`Release ${release.id} is live on ${session.where}: ${describeChanges(preparation.plan)}.`);
}

/** Also a server that runs everything as wanted gets a release, if it has none yet. */
function isLive({ plan }: Preparation, { facts }: Transaction): boolean {
  return isUnchanged(plan) && facts.current !== undefined;
}

/** What would make it deployable without an outage, to the letter. */
async function showPatch(
  { plan, candidate, strategies }: Preparation,
  source: Source,
  { ports, report }: Transaction,
): Promise<void> {
  const [path, ...others] = source.composeFiles;
  const file = source.files.find((one) => one.path === path);
  if (servicesWithOutage(plan).length === 0 || path === undefined || file === undefined || others.length > 0) return;
  const patch = suggestPatch({ path, text: Buffer.from(file.content).toString() }, candidate.services, strategies);
  if (patch === '') return;
  report.patch = patch;
  await ports.reporter.group('To deploy without an outage: apply this to the repository (git apply)', () => {
    for (const line of patch.split('\n')) ports.reporter.remote(line);
    return Promise.resolve();
  });
}
