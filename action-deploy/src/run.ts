/** A deploy, readable aloud: inputs -> facts -> plan -> execute -> report. */
import { ConnectError, type ConnectReason, PreflightError, ReleaseError } from '#shared/errors';
import type { Ports, Session } from '#shared/ports';
import { layoutStore, type StoreLayout } from '#shared/releases/layout';
import type { ServerFacts } from '#shared/server/facts';
import { judgeServer } from '#shared/server/preflight';
import { readServerFacts } from '#shared/server/read';
import { adoptProject, isAdoptable } from '#shared/transaction/adopt';
import { LEASE_SECONDS, type Lock, takeLock } from '#shared/transaction/lock';
import { recover } from '#shared/transaction/recover';
import { type Deployment, timed, warn } from './deployment';
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
    if (!inputs.dryRun) {
      lock = await lockProject(session, layout, ports);
      if (lock.waited || lock.current !== facts.current) facts = await look();
      if (facts.journal !== '') {
        await recover(facts, { ...ports, session, target, layout });
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
  const session = await reconnect(inputs, ports);
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

const RECONNECT_SECONDS = 60;

/** The connection may have been what was lost: it gets a minute to come back. */
async function reconnect(inputs: Inputs, { connect, clock, reporter, signal }: Ports): Promise<Session> {
  const startedMs = clock.monotonicMs();
  for (;;) {
    try {
      return await connect(inputs.host, { signal });
    } catch (error) {
      const goneSeconds = (clock.monotonicMs() - startedMs) / 1000;
      const mayReturn = error instanceof ConnectError && MAY_RETURN.has(error.reason);
      if (!mayReturn || goneSeconds > RECONNECT_SECONDS) throw error;
      reporter.line(`${error.message} Trying again.`);
      await clock.sleep(5, signal);
    }
  }
}

const MAY_RETURN: ReadonlySet<ConnectReason> = new Set(['refused', 'timeout', 'unreachable', 'lost', 'handshake']);

async function settle(facts: ServerFacts, release: string, context: Parameters<typeof recover>[1]): Promise<string> {
  const current = facts.current === undefined ? 'no release serves' : `release ${facts.current} serves`;
  const { verdict, release: found } =
    facts.journal === ''
      ? { verdict: facts.current === release ? 'committed' : 'nothing', release }
      : await recover(facts, context);
  if (found !== release) {
    throw new ReleaseError(
      `The journal on the server was of another deploy, ${found}, and was carried out: ${current}.`,
      'Look at the server.',
    );
  }
  switch (verdict) {
    case 'committed':
      return `Release ${release} had been committed: it is live.`;
    case 'undone':
      return `The interrupted deploy of ${release} was undone: ${current}.`;
    default:
      return `Nothing was left to put back: ${current}.`;
  }
}
