/** A deploy, readable aloud: inputs -> facts -> plan -> execute -> report. */
import { FILES_GONE, renderRunning } from '#shared/commands/adopt';
import { pruneImages, tagImages } from '#shared/commands/images';
import { adoptCurrent, pruneStore, storeRelease } from '#shared/commands/store';
import { removeServices } from '#shared/commands/undo';
import { parseProject, type Project } from '#shared/compose/project';
import { parseYaml, renderYaml } from '#shared/compose/yaml';
import { CancelledError, CommandError, ConnectError, type PreflightFinding, PreflightError, ReleaseError } from '#shared/errors';
import { estimateDisk, judgeDisk } from '#shared/images/disk';
import type { Release } from '#shared/model/release';
import type { Ports, Session } from '#shared/ports';
import { groupResults } from '#shared/probes/outcome';
import { runChecks } from '#shared/probes/run-checks';
import { parseJournal } from '#shared/releases/journal';
import { layoutStore, makeReleaseId, type StoreLayout } from '#shared/releases/layout';
import { planRetention, unusedFiles, unusedImages } from '#shared/releases/retention';
import { treeEntries } from '#shared/releases/shipped';
import { packTar } from '#shared/releases/tar';
import type { ServerFacts } from '#shared/server/facts';
import { judgePorts, judgeServer } from '#shared/server/preflight';
import { readServerFacts } from '#shared/server/read';
import { executeTransaction, undo } from '#shared/transaction/execute';
import { type Lock, takeLock } from '#shared/transaction/lock';
import { pinProject, readHashes, readSource, type RenderedProject, renderOnServer, type Source } from './facts';
import { type ChosenImage, chooseImages, pullImages } from './images';
import { type Inputs, readInputs, THIS_PROJECT } from './inputs';
import { changedServices, type DeployPlan, isUnchanged, planDeploy } from './plan';
import { type DeployReport, renderPlan, renderSummary, setOutputs } from './report';
import { hideSecrets } from './secrets';
import { BadReleaseError, createVerifier, type VerifyContext, waitForRestored } from './verify';

/** The lock ends by itself after this, if the server never hears of us again. */
const MAX_SESSION_SECONDS = 3600;

export async function run(ports: Ports): Promise<void> {
  if (ports.runner.state('phase') === 'post') return cleanUp(ports);
  ports.runner.saveState('phase', 'post');
  const startedMs = ports.clock.monotonicMs();
  const report: DeployReport = { result: 'refused', release: '', previous: '', where: '', warnings: [], durations: {}, timeline: [], checks: [], containers: [], baseline: [] };
  const timed = async <T>(phase: string, work: () => Promise<T>): Promise<T> => {
    const began = ports.clock.monotonicMs();
    try {
      return await work();
    } finally {
      report.durations[phase] = (report.durations[phase] ?? 0) + (ports.clock.monotonicMs() - began) / 1000;
    }
  };
  try {
    await deploy(ports, report, timed);
  } catch (error) {
    report.failure ??= error;
    throw error;
  } finally {
    report.durations['total'] = (ports.clock.monotonicMs() - startedMs) / 1000;
    setOutputs(report, ports.runner);
    await ports.reporter.summary(renderSummary(report));
  }
}

type Timed = <T>(phase: string, work: () => Promise<T>) => Promise<T>;

async function deploy(ports: Ports, report: DeployReport, timed: Timed): Promise<void> {
  const { runner, reporter, signal } = ports;
  const inputs = readInputs((name) => runner.input(name));
  hideSecrets(inputs, reporter);
  const source = await readSource(inputs, ports);
  report.project = source.project;

  const session = await timed('connect', () => ports.connect(inputs.host, { signal }));
  report.where = session.where;
  let lock: Lock | undefined;
  try {
    reporter.line(`Connected to ${session.where}.`);
    const path = inputs.path || `apps/${source.project}`;
    let facts = await timed('facts', () => readServerFacts(session, path, source.project, signal));
    assertReady(session, judgeServer(facts));
    const layout = layoutStore(facts.path);
    if (!inputs.dryRun) {
      lock = await takeLock(session, layout, describeHolder(ports), MAX_SESSION_SECONDS);
      if (lock.current !== facts.current || facts.journal !== '') {
        await recover(session, facts, source.project, layout, ports);
        facts = await readServerFacts(session, path, source.project, signal);
      }
      facts = await adopt(session, facts, source.project, layout, ports, report);
    } else if (facts.journal !== '') {
      report.warnings.push('An earlier session was interrupted on this server; the next deploy will first put that right.');
    }
    report.previous = facts.current ?? '';

    const prepared = await timed('plan', () => prepare(session, source, inputs, facts, layout, ports, report));
    const { rendered, images } = prepared;
    let { plan, project, hashes } = prepared;
    report.plan = plan;
    await reporter.group('Plan', async () => {
      reporter.line(renderPlan(plan));
      await Promise.resolve();
    });
    for (const warning of report.warnings) reporter.warning('Slipway', warning);
    if (inputs.dryRun) {
      report.result = 'planned';
      report.release = facts.current ?? '';
      reporter.line('Dry run: nothing was changed.');
      return;
    }
    if (isUnchanged(plan) && facts.current !== undefined) {
      report.result = 'unchanged';
      report.release = facts.current;
      reporter.line(`Nothing to do: release ${facts.current} already is what the workspace asks for.`);
      return;
    }

    const pinned = await timed('pull', () => reporter.group('Images', () => pullImages(images, inputs, session, ports)));
    if (pinned.some((image, index) => image.image !== images[index]?.image)) {
      // A digest that could not be had before the pull: the plan again, now with what was pulled.
      project = pinProject(rendered, Object.fromEntries(pinned.map((image) => [image.service, image.image])));
      hashes = await readHashes(session, project.raw, source.project, layout, signal);
      plan = planFor(project, hashes, facts, layout, source.project, plan.release, inputs, pinned);
      report.plan = plan;
      if (isUnchanged(plan) && facts.current !== undefined) {
        report.result = 'unchanged';
        report.release = facts.current;
        return;
      }
    }
    await timed('stage', () => stage(session, source, inputs, project, hashes, plan, rendered, pinned, layout, ports));
    runner.saveState('release', plan.release);
    await execute(session, inputs, facts, plan, project, layout, source.project, ports, report, timed);
    await timed('finish', () => finish(session, inputs, facts, plan, project, hashes, rendered, pinned, layout, source, ports, report));
  } finally {
    await lock?.release();
    await session.close();
  }
}

function assertReady(session: Session, findings: readonly PreflightFinding[]): void {
  if (findings.length > 0) throw new PreflightError(session.where, findings);
}

function describeHolder(ports: Ports): string {
  const { actor, runUrl } = ports.runner.context;
  return `deploy${actor === '' ? '' : ` by ${actor}`}${runUrl === '' ? '' : `, ${runUrl}`}, since ${ports.clock.now().toISOString()}`.replaceAll(/[\r\n]/g, ' ');
}

/** Puts right what an interrupted session left behind: its journal says how. */
async function recover(session: Session, facts: ServerFacts, project: string, layout: StoreLayout, ports: Ports): Promise<void> {
  if (facts.journal === '') return;
  const journal = parseJournal(facts.journal);
  await ports.reporter.group(`Putting back what an interrupted deploy (${journal.release}) left behind`, async () => {
    const unrestored = await undo(journal, { ...ports, session, target: { project, projectDirectory: layout.project }, layout });
    if (unrestored.length > 0) {
      throw new ReleaseError(
        `An earlier deploy (${journal.release}${journal.runUrl === '' ? '' : `, ${journal.runUrl}`}) was interrupted, and could not be put back:\n${unrestored.join('\n')}`,
        `Its journal is kept at ${layout.journal} on the server, and the next session tries again.`,
      );
    }
  });
}

/** A project that already runs becomes a release of its own, so that the first deploy has a way back too. */
async function adopt(session: Session, facts: ServerFacts, project: string, layout: StoreLayout, ports: Ports, report: DeployReport): Promise<ServerFacts> {
  const running = facts.containers.filter((container) => !container.oneoff);
  if (facts.current !== undefined || running.length === 0) return facts;
  let rendered: string;
  try {
    ({ stdout: rendered } = await session.run(renderRunning(project), { purpose: 'read the Compose files of the running project', signal: ports.signal }));
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    throw new PreflightError(session.where, [
      {
        message: `A project ${project} runs there that Slipway did not deploy, and ${error.exitCode === FILES_GONE ? `its Compose file ${error.stderr.trim() || 'is not known or'} cannot be read` : `its Compose files cannot be rendered: ${error.stderr.trim().slice(0, 300)}`}: a failed deploy could not be put back.`,
        hint: 'Put that file back, or choose another name with the input project, or take the running project down first (`docker compose -p ' + project + ' down`).',
      },
    ]);
  }
  const before = parseProject(rendered);
  const release: Release = {
    id: makeReleaseId(ports.clock.now(), '').replace(/manual$/, 'adopted'),
    project,
    created: ports.clock.now().toISOString(),
    commit: '',
    ref: '',
    actor: '',
    runUrl: '',
    result: 'adopted',
    services: Object.fromEntries(
      before.services.map((service) => [
        service.name,
        { reference: service.image, image: service.image, configHash: running.find((container) => container.service === service.name)?.configHash ?? '' },
      ]),
    ),
    files: [],
  };
  const tar = await packTar([
    { path: `releases/${release.id}/compose.yaml`, content: renderYaml(before.raw) },
    { path: `releases/${release.id}/env`, content: '' },
    { path: `releases/${release.id}/release.json`, content: JSON.stringify(release) },
  ]);
  await session.run(storeRelease(layout, release.id, tar), { purpose: 'record the running project as a release', signal: ports.signal });
  await session.run(adoptCurrent(layout, release.id), { purpose: 'record the running project as the current release', signal: ports.signal });
  report.warnings.push(`The project ${project} ran already: what ran is recorded as release ${release.id}, the way back of this deploy.`);
  return { ...facts, current: release.id, currentCompose: renderYaml(before.raw), releases: [...facts.releases, release] };
}

interface Prepared {
  readonly rendered: RenderedProject;
  readonly images: readonly ChosenImage[];
  readonly project: Project;
  readonly hashes: Readonly<Record<string, string>>;
  readonly plan: DeployPlan;
}

/** Everything that can be known before the first change. @throws PreflightError with all findings at once. */
async function prepare(session: Session, source: Source, inputs: Inputs, facts: ServerFacts, layout: StoreLayout, ports: Ports, report: DeployReport): Promise<Prepared> {
  const rendered = await renderOnServer(session, source, inputs, layout, ports);
  report.warnings.push(...rendered.warnings, ...facts.overrides.map((file) => `${layout.project}/${file} is on the server: a plain \`docker compose\` there merges it, Slipway does not.`));
  if (facts.docker.kind !== 'ready') throw new PreflightError(session.where, judgeServer(facts));
  const { images, findings } = await chooseImages(rendered.services, inputs, facts, facts.docker, session, ports);
  const unknown = inputs.refresh.filter((name) => !rendered.services.some((service) => service.name === name));
  assertReady(session, [
    ...rendered.findings,
    ...findings,
    ...judgePorts(rendered.services, facts, source.project),
    ...judgeSpace(images, facts),
    ...unknown.map((name) => ({ message: `Input refresh names ${name}, which is not a service of the Compose file.`, hint: `Its services: ${rendered.services.map((service) => service.name).join(', ')}.` })),
  ]);
  const project = pinProject(rendered, Object.fromEntries(images.map((image) => [image.service, image.image])));
  const hashes = await readHashes(session, project.raw, source.project, layout, ports.signal);
  const release = makeReleaseId(ports.clock.now(), ports.runner.context.commit);
  return { rendered, images, project, hashes, plan: planFor(project, hashes, facts, layout, source.project, release, inputs, images) };
}

/** Room for what is not on the server yet. */
function judgeSpace(images: readonly ChosenImage[], facts: ServerFacts): PreflightFinding[] {
  const wanted = images.flatMap((image) => (image.present || image.resolution?.kind !== 'resolved' ? [] : [image.resolution]));
  const space = facts.dataRootSpace;
  if (space === undefined || facts.docker.kind !== 'ready') return [];
  const estimate = estimateDisk(wanted, facts.images.map((image) => image.layerDiffIds));
  return judgeDisk(estimate, { ...space, path: facts.docker.dataRoot });
}

function planFor(project: Project, hashes: Readonly<Record<string, string>>, facts: ServerFacts, layout: StoreLayout, name: string, release: string, inputs: Inputs, images: readonly ChosenImage[]): DeployPlan {
  return planDeploy({
    project,
    hashes,
    facts,
    before: facts.currentCompose === '' ? undefined : parseYaml(facts.currentCompose),
    previous: facts.current,
    release,
    target: { project: name, projectDirectory: layout.project },
    layout,
    readyTimeoutSeconds: inputs.readyTimeoutSeconds,
    remarks: Object.fromEntries(images.map((image) => [image.service, image.remark]).filter(([, remark]) => remark !== '')),
  });
}

/** The release as it will be kept. */
function describeRelease(plan: DeployPlan, project: Project, hashes: Readonly<Record<string, string>>, rendered: RenderedProject, images: readonly ChosenImage[], ports: Ports): Release {
  const { context } = ports.runner;
  return {
    id: plan.release,
    project: project.name,
    created: ports.clock.now().toISOString(),
    commit: context.commit,
    ref: context.ref,
    actor: context.actor,
    runUrl: context.runUrl,
    result: 'healthy',
    services: Object.fromEntries(
      images.map((image) => [image.service, { reference: image.reference, image: image.image, configHash: hashes[image.service] ?? '' }]),
    ),
    files: rendered.trees.map((tree) => tree.address),
  };
}

/** Writes the release into the store; nothing that serves knows of it yet. */
async function stage(session: Session, source: Source, inputs: Inputs, project: Project, hashes: Readonly<Record<string, string>>, plan: DeployPlan, rendered: RenderedProject, images: readonly ChosenImage[], layout: StoreLayout, ports: Ports): Promise<void> {
  const folder = `releases/${plan.release}`;
  const tar = await packTar([
    { path: `${folder}/compose.yaml`, content: renderYaml(project.raw) },
    { path: `${folder}/env`, content: inputs.env.reveal() },
    { path: `${folder}/release.json`, content: JSON.stringify(describeRelease(plan, project, hashes, rendered, images, ports)) },
    ...rendered.trees.flatMap(treeEntries),
  ]);
  await session.run(storeRelease(layout, plan.release, tar), { purpose: 'write the release into the store', timeoutSeconds: 300, signal: ports.signal });
  // A local tag keeps the images of kept releases from `docker image prune`.
  await session.run(tagImages(source.project, images.map((image) => image.image).filter((image) => image.includes('@'))), { purpose: 'tag the images of the release', signal: ports.signal });
}

async function execute(session: Session, inputs: Inputs, facts: ServerFacts, plan: DeployPlan, project: Project, layout: StoreLayout, name: string, ports: Ports, report: DeployReport, timed: Timed): Promise<void> {
  const { reporter, clock, http, signal } = ports;
  const checks = inputs.checks.map((check) => (check.kind === 'container' && check.project === THIS_PROJECT ? { ...check, project: name } : check));
  if (facts.current !== undefined && checks.length > 0) {
    // One attempt each: this only tells what was broken before.
    const once = checks.map((check) => ({ ...check, attempts: 1, successes: 1 }));
    const before = groupResults(await timed('baseline', () => runChecks(once, { http, clock, session, signal })));
    report.baseline = before.filter((outcome) => !outcome.ok).map((outcome) => outcome.check.name);
    for (const failing of report.baseline) report.warnings.push(`Check ${failing} failed before this deploy too: it is reported, and no reason to go back.`);
  }
  const verifyContext: VerifyContext = {
    session,
    project: name,
    services: project.services,
    changed: plan.services.filter((service) => service.action !== 'keep' && service.action !== 'remove').map((service) => service.service),
    checks,
    baseline: new Set(report.baseline),
    ports,
  };
  const verifier = createVerifier(verifyContext);
  const outcome = await timed('switch', () =>
    reporter.group(`Deploy ${plan.release}`, () =>
      executeTransaction(
        {
          release: plan.release,
          previous: plan.previous,
          steps: plan.steps,
          runUrl: ports.runner.context.runUrl,
          actor: ports.runner.context.actor,
          hold: (step, stop) => verifier.hold(step, stop),
        },
        { session, reporter, clock, target: { project: name, projectDirectory: layout.project }, layout, signal },
      ),
    ),
  );
  report.timeline = outcome.timeline;
  report.checks = verifier.outcomes();
  report.containers = verifier.containers();
  if (outcome.kind === 'committed') {
    report.result = 'deployed';
    report.release = plan.release;
    return;
  }
  ports.runner.saveState('settled', outcome.unrestored.length === 0 ? 'undone' : '');
  report.release = plan.previous ?? '';
  const evidence = outcome.cause instanceof BadReleaseError ? outcome.cause.evidence : [];
  report.evidence = evidence;
  if (evidence.length > 0) {
    await reporter.group('What the server says of it', async () => {
      for (const line of evidence) reporter.remote(line);
      await Promise.resolve();
    });
  }
  throw await explainFailure(outcome, plan, project, facts, layout, verifyContext, report, ports);
}

/** What happened, what serves now, what to do. */
async function explainFailure(
  outcome: { readonly cause: unknown; readonly unrestored: readonly string[] },
  plan: DeployPlan,
  project: Project,
  facts: ServerFacts,
  layout: StoreLayout,
  context: VerifyContext,
  report: DeployReport,
  ports: Ports,
): Promise<Error> {
  const { cause } = outcome;
  const reason = cause instanceof Error ? cause.message : String(cause);
  const what = cause instanceof CancelledError ? 'was cancelled' : `failed: ${reason}`;
  if (cause instanceof ConnectError) {
    report.result = 'failed';
    return new ReleaseError(
      `The deploy of ${plan.release} lost its connection: ${reason}`,
      `Run it again as soon as the server can be reached: it first puts back what was under way (journal: ${layout.journal}).`,
      { cause },
    );
  }
  if (outcome.unrestored.length > 0) {
    report.result = 'failed';
    return new ReleaseError(
      `The deploy of ${plan.release} ${what}\nAnd the server could NOT be put back wholly:\n${outcome.unrestored.map((line) => `- ${line}`).join('\n')}`,
      `Look at the server now. The next deploy first tries again to put it back (journal: ${layout.journal}).`,
      { cause },
    );
  }
  report.result = 'reverted';
  if (plan.previous === undefined) {
    return new ReleaseError(`The first deploy, ${plan.release}, ${what}`, `What it had started was removed again; volumes were left. ${describeEvidence(report)}`, { cause });
  }
  const replaced = plan.services.filter((service) => service.action === 'replace' || service.action === 'start').map((service) => service.service);
  const restored = parseProject(JSON.stringify(parseYaml(facts.currentCompose)));
  const problem = await waitForRestored(replaced.concat(plan.removed), context.services.length > 0 ? 60 : 0, { ...context, services: restored.services, changed: [], checks: [] }, AbortSignal.timeout(90_000));
  if (problem !== undefined) {
    report.result = 'failed';
    return new ReleaseError(
      `The deploy of ${plan.release} ${what}\nRelease ${plan.previous} was put back, and is not ready: ${problem}`,
      'Look at the server now: the old release does not come up as it was.',
      { cause },
    );
  }
  void project;
  void ports;
  return new ReleaseError(`The deploy of ${plan.release} ${what}`, `Release ${plan.previous} was put back and serves again. ${describeEvidence(report)}`, { cause });
}

function describeEvidence(report: DeployReport): string {
  const lines = (report.evidence ?? []).slice(-12);
  return lines.length === 0 ? '' : `\nWhat the server says of it:\n${lines.join('\n')}`;
}

/** After the commit: nothing here can fail the deploy. */
async function finish(session: Session, inputs: Inputs, facts: ServerFacts, plan: DeployPlan, project: Project, hashes: Readonly<Record<string, string>>, rendered: RenderedProject, images: readonly ChosenImage[], layout: StoreLayout, source: Source, ports: Ports, report: DeployReport): Promise<void> {
  const { reporter } = ports;
  ports.runner.saveState('settled', 'committed');
  const attempt = async (what: string, work: () => Promise<unknown>): Promise<void> => {
    try {
      await work();
    } catch (error) {
      const message = `The release is live, but this was left: ${what}: ${error instanceof Error ? error.message : String(error)} The next deploy does it.`;
      report.warnings.push(message);
      reporter.warning('Slipway', message);
    }
  };
  if (plan.removed.length > 0) {
    await attempt(`remove ${plan.removed.join(', ')}`, () => session.run(removeServices({ project: source.project, projectDirectory: layout.project }, plan.removed), { purpose: 'remove what is no longer in the Compose file', timeoutSeconds: 120 }));
  }
  const releases = [...facts.releases, describeRelease(plan, project, hashes, rendered, images, ports)];
  const retention = planRetention(releases, inputs.keepReleases, plan.release, plan.previous);
  const stored = [...facts.storedFiles, ...rendered.trees.map((tree) => tree.address)];
  await attempt('remove old releases', async () => {
    const files = unusedFiles(stored, retention.keep);
    if (retention.remove.length + files.length > 0) {
      await session.run(pruneStore(layout, retention.remove.map((release) => release.id), files), { purpose: 'remove old releases' });
    }
    const unused = unusedImages(retention);
    if (unused.length > 0) await session.run(pruneImages(source.project, unused), { purpose: 'remove images of old releases', timeoutSeconds: 120 });
  });
  reporter.line(`Release ${plan.release} is live on ${session.where}: ${changedServices(plan).join(', ')}.`);
}

/** The post step: after a cancel that came too hard for the main step to put things right itself. */
async function cleanUp(ports: Ports): Promise<void> {
  const { runner, reporter } = ports;
  const release = runner.state('release');
  if (release === '' || runner.state('settled') !== '') return;
  reporter.line(`The deploy of ${release} was interrupted; looking at the server.`);
  const inputs = readInputs((name) => runner.input(name));
  hideSecrets(inputs, reporter);
  const source = await readSource(inputs, ports);
  const session = await ports.connect(inputs.host);
  let lock: Lock | undefined;
  try {
    const facts = await readServerFacts(session, inputs.path || `apps/${source.project}`, source.project);
    const layout = layoutStore(facts.path);
    lock = await takeLock(session, layout, describeHolder(ports), 600);
    const fresh = await readServerFacts(session, facts.path, source.project);
    let verdict: string;
    if (fresh.journal === '') {
      verdict = fresh.current === release ? `Release ${release} had been committed: it is live.` : `Nothing was left to put back; ${fresh.current === undefined ? 'no release is' : `release ${fresh.current} is`} the current one.`;
    } else {
      await recover(session, fresh, source.project, layout, ports);
      verdict = fresh.current === undefined ? 'What the interrupted first deploy had started was removed again.' : `The interrupted deploy was undone: release ${fresh.current} was put back.`;
    }
    reporter.notice('Slipway', verdict);
    await reporter.summary(`### Slipway: after the interruption\n\n${verdict}\n`);
  } finally {
    await lock?.release();
    await session.close();
  }
}
