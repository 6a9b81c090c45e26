/** A deploy, readable aloud: inputs -> facts -> plan -> execute -> report. */
import { parseEnv } from 'node:util';
import { PreflightError } from '#shared/errors';
import type { Guardian } from '#shared/guardian/client';
import type { Ports } from '#shared/ports';
import { dialAhead, guessRegistries } from '#shared/images/dial-ahead';
import { layoutStore } from '#shared/releases/layout';
import { judgeServer } from '#shared/server/preflight';
import { adoptProject, isAdoptable } from '#shared/transaction/adopt';
import { suggestPatch } from '#shared/strategies/rollable';
import { describeChanges, isUnchanged, servicesWithOutage } from '#shared/transaction/plan';
import { cleanUp } from './clean-up';
import { type Deployment, timed, warn } from './deployment';
import { execute } from './execute';
import { type Rendering, renderOnServer, type Source } from './facts';
import type { Inputs } from './inputs';
import { notePull, pullImages } from './images';
import { describeRelease, planWith, prepare, type Preparation } from './prepare';
import { beginDeploymentRecord } from './record';
import { createReport, type DeployReport, renderPlan, renderSummary, setOutputs } from './report';
import { openGuardian, readFacts, readRequest } from './request';

export async function run(ports: Ports): Promise<void> {
  const { runner, reporter, clock } = ports;
  if (runner.state('phase') === 'post') return cleanUp(ports);
  runner.saveState('phase', 'post');
  const startedMs = clock.monotonicMs();
  const report = createReport();
  try {
    await deploy(ports, report);
  } catch (error) {
    report.failure = error;
    throw error;
  } finally {
    report.durations['total'] = (clock.monotonicMs() - startedMs) / 1000;
    setOutputs(report, runner, (text) => reporter.redact(text));
    // The server is free by now. A cancelled job has no time to lose.
    const { aborted: cancelled } = ports.signal;
    await report.record?.settle({ result: report.result, cancelled }, cancelled ? 2 : 10);
    await reporter.summary(renderSummary(report));
  }
}

async function deploy(ports: Ports, report: DeployReport): Promise<void> {
  const { inputs, source } = await readRequest(ports);
  report.project = source.project;
  const phase = { ports, report };
  const session = await timed(phase, 'connect', () => ports.connect(inputs.host, { signal: ports.signal }));
  report.where = session.where;
  ports.reporter.line(`Connected to ${session.where}.`);
  let guardian: Guardian | undefined;
  // It needs nothing but the workspace, so it goes on beside the rest. What is wrong with the server is said by the facts.
  const rendering = renderOnServer(session, source, inputs, ports);
  rendering.catch(() => undefined);
  const ahead = dialAhead(session, guessRegistries(composeTexts(source), knownVariables(inputs)));
  try {
    const opened = await timed(phase, 'lock', () => openGuardian(session, inputs, source, ports));
    guardian = opened;
    if (opened.recovery !== undefined) {
      const { release, verdict } = opened.recovery;
      warn(
        phase,
        `The deploy of ${release} had been interrupted: ${verdict === 'undone' ? 'it was undone' : 'it had gone live, and was cleaned up after'}.`,
      );
    }
    let facts = await timed(phase, 'facts', () => readFacts(opened, inputs, source, ports.signal));
    const findings = judgeServer(facts);
    if (findings.length === 0 && !opened.isLocked && !inputs.dryRun) {
      findings.push({
        message: `The project's lock cannot be taken: ${opened.problem}`,
        hint: `Look at ${facts.path}/.slipway on the server.`,
      });
    }
    if (findings.length > 0) throw new PreflightError(session.where, findings);
    const layout = layoutStore(facts.path);
    if (inputs.dryRun && facts.journal !== '') {
      warn(phase, 'An earlier deploy was interrupted on this server; the next one first puts that right.');
    }
    if (!inputs.dryRun && isAdoptable(facts)) {
      facts = await adoptProject(source.project, facts, layout, opened, ports.clock, ports.signal);
      warn(
        phase,
        `The project ran already: what ran is recorded as release ${facts.current ?? ''}, the way back of this deploy.`,
      );
    }
    const target = { project: source.project, projectDirectory: layout.project };
    const deployment = {
      inputs,
      source,
      session: ahead.session,
      guardian: opened,
      facts,
      layout,
      target,
      ports,
      report,
    };
    await deployTo(rendering, deployment);
  } finally {
    ahead.drop();
    await guardian?.close();
    await session.close();
  }
}

function composeTexts({ files, composeFiles }: Source): string[] {
  return files.filter(({ path }) => composeFiles.includes(path)).map(({ content }) => Buffer.from(content).toString());
}

function knownVariables({ env, variables }: Inputs): Record<string, string | undefined> {
  return { ...parseEnv(env.reveal()), ...variables };
}

/** The server is known and ours: plan, and unless that is all that was asked for, carry it out. */
async function deployTo(rendering: Promise<Rendering>, deployment: Deployment): Promise<void> {
  const { inputs, session, facts, ports, report } = deployment;
  const { reporter } = ports;
  report.previous = facts.current ?? '';
  report.release = facts.current ?? '';
  let preparation = await timed(deployment, 'plan', async () => prepare(await rendering, deployment));
  await showPlan(preparation, deployment);
  await showPatch(preparation, deployment);
  if (inputs.dryRun) {
    report.result = 'planned';
    reporter.line('Dry run: nothing was changed.');
    return;
  }
  const missing = preparation.images.filter((image) => !image.present);
  if (!isLive(preparation, deployment) && missing.length > 0) {
    const { images, unknownRouters, plan } = preparation;
    const pulled = await timed(deployment, 'pull', () =>
      reporter.group('Images', async () => {
        await notePull(missing, deployment);
        return pullImages(images, inputs, session, ports);
      }),
    );
    if (unknownRouters.length > 0 || pulled.some((image, index) => image.image !== images[index]?.image)) {
      // What could not be known before the pull: the plan again, with what was pulled.
      preparation = await planWith({ ...preparation, images: pulled }, plan.release, deployment);
      await showPlan(preparation, deployment);
    }
  }
  if (isLive(preparation, deployment)) {
    report.result = 'unchanged';
    reporter.line(`Nothing to do: release ${facts.current ?? ''} already is what the workspace asks for.`);
    return;
  }
  const release = describeRelease(preparation, deployment);
  ports.runner.saveState('release', release.id);
  beginDeploymentRecord(release.id, deployment);
  await execute(preparation, release, deployment);
  reporter.line(`Release ${release.id} is live on ${session.where}: ${describeChanges(preparation.plan)}.`);
}

/** Also a server that runs everything as wanted gets a release, if it has none yet. */
function isLive({ plan }: Preparation, { facts }: Deployment): boolean {
  return isUnchanged(plan) && facts.current !== undefined;
}

/** What would make it deployable without an outage, to the letter. */
async function showPatch({ plan, rendered, strategies }: Preparation, deployment: Deployment): Promise<void> {
  const { source, ports, report } = deployment;
  const [path, ...others] = source.composeFiles;
  const file = source.files.find((one) => one.path === path);
  if (servicesWithOutage(plan).length === 0 || path === undefined || file === undefined || others.length > 0) return;
  const patch = suggestPatch({ path, text: Buffer.from(file.content).toString() }, rendered.services, strategies);
  if (patch === '') return;
  report.patch = patch;
  await ports.reporter.group('To deploy without an outage: apply this to the repository (git apply)', () => {
    for (const line of patch.split('\n')) ports.reporter.remote(line);
    return Promise.resolve();
  });
}

async function showPlan({ plan }: Preparation, { report, ports: { reporter } }: Deployment): Promise<void> {
  report.plan = plan;
  await reporter.group('Plan', () => {
    reporter.line(renderPlan(plan, reporter.palette));
    return Promise.resolve();
  });
}
