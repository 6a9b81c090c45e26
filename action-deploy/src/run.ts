/** A deploy, readable aloud: inputs -> facts -> plan -> execute -> report. */
import { PreflightError } from '#shared/errors';
import type { Ports } from '#shared/ports';
import { layoutStore } from '#shared/releases/layout';
import type { ServerFacts } from '#shared/server/facts';
import { judgeServer } from '#shared/server/preflight';
import { adoptProject, isAdoptable } from '#shared/transaction/adopt';
import type { Lock } from '#shared/transaction/lock';
import { recover } from '#shared/transaction/recover';
import { cleanUp } from './clean-up';
import { type Deployment, timed, warn } from './deployment';
import { execute } from './execute';
import { discard, finish } from './finish';
import { pullImages } from './images';
import { describeChanges, isUnchanged } from './plan';
import { describeRelease, planWith, prepare, type Preparation } from './prepare';
import { createReport, type DeployReport, renderPlan, renderSummary, setOutputs } from './report';
import { lockProject, readFacts, readRequest } from './request';

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
    await reporter.summary(renderSummary(report));
  }
}

async function deploy(ports: Ports, report: DeployReport): Promise<void> {
  const { inputs, source } = await readRequest(ports);
  report.project = source.project;
  const session = await timed({ ports, report }, 'connect', () => ports.connect(inputs.host, { signal: ports.signal }));
  report.where = session.where;
  ports.reporter.line(`Connected to ${session.where}.`);
  let lock: Lock | undefined;
  try {
    const look = (): Promise<ServerFacts> => readFacts(session, inputs, source, ports.signal);
    let facts = await timed({ ports, report }, 'facts', look);
    const findings = judgeServer(facts);
    if (findings.length > 0) throw new PreflightError(session.where, findings);
    const layout = layoutStore(facts.path);
    const target = { project: source.project, projectDirectory: layout.project };
    if (!inputs.dryRun) {
      lock = await lockProject(session, layout, ports);
      if (lock.waited || lock.current !== facts.current) facts = await look();
      if (facts.journal !== '') {
        // Until it has come through, nobody can say what serves.
        report.result = 'failed';
        await recover(facts, { ...ports, session, target, layout, token: lock.token });
        report.result = 'refused';
        facts = await look();
      }
      if (isAdoptable(facts)) {
        facts = await adoptProject(source.project, facts, layout, session, ports.clock, ports.signal);
        warn(
          { ports, report },
          `The project ran already: what ran is recorded as release ${facts.current ?? ''}, the way back of this deploy.`,
        );
      }
    } else if (facts.journal !== '') {
      warn({ ports, report }, 'An earlier deploy was interrupted on this server; the next one first puts that right.');
    }
    await deployTo({ inputs, source, session, facts, layout, target, token: lock?.token ?? '', ports, report });
  } finally {
    await lock?.release();
    await session.close();
  }
}

/** The server is known and ours: plan, and unless that is all that was asked for, carry it out. */
async function deployTo(deployment: Deployment): Promise<void> {
  const { inputs, session, facts, ports, report } = deployment;
  const { reporter } = ports;
  report.previous = facts.current ?? '';
  report.release = facts.current ?? '';
  let preparation = await timed(deployment, 'plan', () => prepare(deployment));
  await showPlan(preparation, deployment);
  if (inputs.dryRun) {
    report.result = 'planned';
    reporter.line('Dry run: nothing was changed.');
    return;
  }
  if (!isLive(preparation, deployment)) {
    const pulled = await timed(deployment, 'pull', () =>
      reporter.group('Images', () => pullImages(preparation.images, inputs, session, ports)),
    );
    if (pulled.some((image, index) => image.image !== preparation.images[index]?.image)) {
      // A digest that could not be had before the pull: the plan again, with what was pulled.
      preparation = await planWith(pulled, preparation.plan.release, preparation.rendered, deployment);
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
  try {
    await execute(preparation, release, deployment);
  } catch (error) {
    if (report.result === 'reverted') await discard(release, deployment);
    throw error;
  }
  ports.runner.saveState('settled', 'committed');
  await timed(deployment, 'finish', () => finish(preparation, release, deployment));
  reporter.line(`Release ${release.id} is live on ${session.where}: ${describeChanges(preparation.plan)}.`);
}

/** Also a server that runs everything as wanted gets a release, if it has none yet. */
function isLive({ plan }: Preparation, { facts }: Deployment): boolean {
  return isUnchanged(plan) && facts.current !== undefined;
}

async function showPlan({ plan }: Preparation, { report, ports: { reporter } }: Deployment): Promise<void> {
  report.plan = plan;
  await reporter.group('Plan', () => {
    reporter.line(renderPlan(plan, reporter.palette));
    return Promise.resolve();
  });
}
