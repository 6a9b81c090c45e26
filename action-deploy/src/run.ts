/** A deploy, readable aloud: inputs -> facts -> plan -> execute -> report. */
import { PreflightError, ReleaseError } from '#shared/errors';
import type { Ports, Session } from '#shared/ports';
import { layoutStore, type StoreLayout } from '#shared/releases/layout';
import type { ServerFacts } from '#shared/server/facts';
import { judgeServer } from '#shared/server/preflight';
import { readServerFacts } from '#shared/server/read';
import { adoptProject, isAdoptable } from '#shared/transaction/adopt';
import { LEASE_SECONDS, type Lock, takeLock } from '#shared/transaction/lock';
import { recover } from '#shared/transaction/recover';
import { type Deployment, timed } from './deployment';
import { execute } from './execute';
import { readSource, type Source } from './facts';
import { discard, finish } from './finish';
import { pullImages } from './images';
import { type Inputs, readInputs } from './inputs';
import { changedServices, isUnchanged } from './plan';
import { describeRelease, planWith, prepare, type Preparation } from './prepare';
import { createReport, type DeployReport, renderPlan, renderSummary, setOutputs } from './report';
import { hideSecrets } from './secrets';

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
    if (inputs.dryRun) {
      if (facts.journal !== '')
        report.warnings.push('An earlier deploy was interrupted on this server; the next one first puts that right.');
    } else {
      lock = await lockProject(session, layout, ports);
      if (lock.current !== facts.current) facts = await look();
      if (facts.journal !== '') {
        await recover(facts.journal, { ...ports, session, target, layout });
        facts = await look();
      }
      if (isAdoptable(facts)) {
        facts = await adoptProject(source.project, facts, layout, session, ports.clock, ports.signal);
        report.warnings.push(
          `The project ran already: what ran is recorded as release ${facts.current ?? ''}, the way back of this deploy.`,
        );
      }
    }
    await deployTo({ inputs, source, session, facts, layout, target, ports, report });
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
  reporter.line(`Release ${release.id} is live on ${session.where}: ${changedServices(preparation.plan).join(', ')}.`);
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
  for (const warning of report.warnings) reporter.warning('Slipway', warning);
}

async function readRequest(ports: Ports): Promise<{ inputs: Inputs; source: Source }> {
  const inputs = readInputs((name) => ports.runner.input(name));
  hideSecrets(inputs, ports.reporter);
  return { inputs, source: await readSource(inputs, ports) };
}

function readFacts(session: Session, inputs: Inputs, source: Source, signal?: AbortSignal): Promise<ServerFacts> {
  return readServerFacts(session, inputs.path === '' ? `apps/${source.project}` : inputs.path, source.project, signal);
}

/** Waits longer than the lock of a session that has died can last. */
function lockProject(session: Session, layout: StoreLayout, { runner, reporter, clock, signal }: Ports): Promise<Lock> {
  const { actor, runUrl } = runner.context;
  const holder = ['deploy', actor === '' ? '' : `by ${actor}`, runUrl, `since ${clock.now().toISOString()}`]
    .filter((part) => part !== '')
    .join(' ');
  const onWait = (other: string): void => {
    reporter.remote(`Waiting for another session on this project: ${other}`);
  };
  return takeLock(
    session,
    layout,
    { holder: holder.replaceAll(/[\r\n]/g, ' '), waitSeconds: LEASE_SECONDS + 15, onWait, signal },
    clock,
  );
}

/** The post step: when the main step could not put things right itself (killed, or its connection was lost). */
async function cleanUp(ports: Ports): Promise<void> {
  const { runner, reporter } = ports;
  const release = runner.state('release');
  if (release === '' || runner.state('settled') !== '') return;
  reporter.line(`The deploy of ${release} was interrupted; looking at the server.`);
  const { inputs, source } = await readRequest(ports);
  const session = await ports.connect(inputs.host);
  let lock: Lock | undefined;
  try {
    const layout = layoutStore((await readFacts(session, inputs, source)).path);
    lock = await lockProject(session, layout, ports);
    const facts = await readFacts(session, inputs, source);
    const verdict = await settle(facts, release, {
      ...ports,
      session,
      layout,
      target: { project: source.project, projectDirectory: layout.project },
    });
    reporter.notice('Slipway', verdict);
    await reporter.summary(`### After the interruption\n\n${verdict}\n`);
  } finally {
    await lock?.release();
    await session.close();
  }
}

async function settle(facts: ServerFacts, release: string, context: Parameters<typeof recover>[1]): Promise<string> {
  const current = facts.current === undefined ? 'no release serves' : `release ${facts.current} serves`;
  if (facts.journal === '') {
    return facts.current === release
      ? `Release ${release} had been committed: it is live.`
      : `Nothing was left to put back: ${current}.`;
  }
  const undone = await recover(facts.journal, context);
  if (undone !== release)
    throw new ReleaseError(
      `The journal on the server was of another deploy, ${undone}.`,
      'It was carried out. Look at the server.',
    );
  return `The interrupted deploy of ${release} was undone: ${current}.`;
}
