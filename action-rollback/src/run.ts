/** A rollback, readable aloud: inputs -> facts -> choice -> plan -> execute -> report. */
import { beginAnnotation } from '#shared/engine/annotation';
import { cleanUp } from '#shared/engine/clean-up';
import { execute } from '#shared/engine/execute';
import { notePull, pullImages } from '#shared/engine/images';
import { guessProjectName } from '#shared/engine/inputs';
import { describeRelease, planWith, type Preparation, showPlan } from '#shared/engine/prepare';
import { type OpenProject, withProject } from '#shared/engine/project';
import { beginDeploymentRecord } from '#shared/engine/record';
import { concludeReport, createReport } from '#shared/engine/report';
import { hideSecrets } from '#shared/engine/secrets';
import { timed, type Transaction, type TransactionRequest, warn } from '#shared/engine/transaction';
import { InputError, LockHeldError, ReleaseError } from '#shared/errors';
import type { Release } from '#shared/model/release';
import type { Ports, Session } from '#shared/ports';
import { layoutStore } from '#shared/releases/layout';
import { describeChanges, isUnchanged } from '#shared/transaction/plan';
import { type Before, decide, isDone, lookBefore } from './choice';
import { judgeConfirmation } from './confirm';
import { type DataChange, planData, prepareData, settleRestore } from '#shared/vault/around-change';
import { type Inputs, readInputs } from './inputs';
import { describeReleases, renderReleases } from './list';
import { prepare } from './prepare';
import { type RollbackReport, setOutputs } from './report';
import { requireStore } from './store';
import { confirmServing } from './serving';

export async function run(ports: Ports): Promise<void> {
  const { runner, clock, reporter } = ports;
  if (runner.state('phase') === 'post') return cleanUp(ports, () => Promise.resolve(readRequest(ports)));
  runner.saveState('phase', 'post');
  const startedMs = clock.monotonicMs();
  const report: RollbackReport = { ...createReport('rollback'), releases: [], target: '' };
  try {
    await rollBack(ports, report);
  } catch (error) {
    report.failure = error;
    throw error;
  } finally {
    report.durations['total'] = (clock.monotonicMs() - startedMs) / 1000;
    setOutputs(report, runner, (text) => reporter.redact(text));
    await concludeReport(report, ports, report.releases.length === 0 ? [] : [renderReleases(report.releases)]);
  }
}

interface RollbackRequest extends TransactionRequest {
  readonly inputs: Inputs;
  /** Empty: nothing is wanted but the list. */
  readonly wanted: string;
}

/** What is wanted, and where. From here on its secrets are hidden. */
function readRequest({ runner, reporter }: Ports): RollbackRequest {
  const inputs = readInputs((name) => runner.input(name));
  const { host, credentials, githubToken, grafana } = inputs;
  hideSecrets({ host, credentials, githubToken, grafana }, reporter);
  const project = inputs.project || guessProjectName(runner.context.repository);
  if (project === '') {
    throw new InputError([
      { input: 'project', message: 'is empty, and the repository gives no name: give the Compose project.' },
    ]);
  }
  const byHand = runner.context.event === 'workflow_dispatch';
  // Whoever presses the button and chooses nothing wants to see what there is.
  const wanted = inputs.list || (byHand && inputs.release === '') ? '' : inputs.release || 'previous';
  if (wanted !== '') judgeConfirmation(inputs.confirm, { byHand, project, wanted, dryRun: inputs.dryRun });
  return { task: 'rollback', project, inputs, wanted };
}

/** One run on one server. */
interface Run {
  readonly request: RollbackRequest;
  readonly session: Session;
  readonly ports: Ports;
  readonly report: RollbackReport;
}

async function rollBack(ports: Ports, report: RollbackReport): Promise<void> {
  const request = readRequest(ports);
  const { inputs, project, wanted } = request;
  report.project = project;
  const phase = { ports, report };
  const session = await timed(phase, 'connect', () => ports.connect(inputs.host, { signal: ports.signal }));
  report.where = session.where;
  ports.reporter.line(`Connected to ${session.where}.`);
  const one: Run = { request, session, ports, report };
  try {
    await requireStore(session, request, ports.signal);
    if (wanted === '' || inputs.dryRun) {
      await withProject(session, request, { mode: 'look', waitSeconds: 0 }, phase, (open) => act(open, one));
      return;
    }
    try {
      // Without waiting, it takes the lock from nobody.
      await withProject(session, request, { mode: 'preempt', waitSeconds: 0 }, phase, (open) => change(open, one));
    } catch (error) {
      if (!(error instanceof LockHeldError)) throw error;
      ports.reporter.line(error.message);
      await takeOver(one);
    }
  } finally {
    await session.close();
  }
}

/** Somebody is at work. Nobody loses the lock before it is known that there is something to be done with it. */
async function takeOver(one: Run): Promise<void> {
  const { request, session, ports, report } = one;
  const { inputs, wanted } = request;
  let before: Before | undefined;
  await withProject(session, request, { mode: 'look', waitSeconds: 0 }, { ports, report }, async (open) => {
    before = lookBefore(wanted, open.facts);
    note(open, report);
    const choice = decide(wanted, open.facts, report.releases);
    if (choice === 'take back' && inputs.restoreBackup !== '') refuseData(open, session.where);
    // Throws with all that stands in the way.
    if (choice !== 'take back') await prepare(choice, inputs, openTransaction(open, one));
  });
  const mode = inputs.preempt ? 'preempt' : 'change';
  const opening = { mode, waitSeconds: inputs.lockWaitSeconds } as const;
  await withProject(session, request, opening, { ports, report }, async (open) => {
    const known = before;
    if (known === undefined || !isDone(known, open.facts)) return change(open, one);
    if (inputs.restoreBackup !== '') refuseData(open, session.where);
    note(open, report);
    const transaction = openTransaction(open, one);
    await timed(transaction, 'confirm', () => confirmServing(known, transaction));
    report.result = 'rolled-back';
    report.previous = known.underWay ?? known.current;
    report.target = open.facts.current ?? '';
  });
}

/** What is only tried is taken back as it is: its data is that of now. */
function refuseData({ facts }: OpenProject, where: string): never {
  throw new ReleaseError(
    `A deploy is under way at ${where}, or was just taken back: data cannot come back together with that. Release ${facts.current ?? '(none)'} is the one that serves, or will.`,
    'Nothing was changed. Let it end, or roll back without restore-backup first; then look at what serves, and run this again with the release that you want.',
  );
}

function note({ facts }: OpenProject, report: RollbackReport): void {
  report.previous = facts.current ?? '';
  report.release = facts.current ?? '';
  report.releases = describeReleases(facts);
}

/** With the lock. */
async function change(open: OpenProject, one: Run): Promise<void> {
  const { request, session, ports, report } = one;
  await act({ ...open, facts: await settleRestore(open, request, session, { ports, report }) }, one);
}

async function act(open: OpenProject, one: Run): Promise<void> {
  const { request, ports, report } = one;
  note(open, report);
  if (request.wanted === '') {
    report.result = 'listed';
    await ports.reporter.group('Releases', () => {
      for (const { line } of report.releases) ports.reporter.remote(line);
      return Promise.resolve();
    });
    return;
  }
  const target = decide(request.wanted, open.facts, report.releases);
  if (target === 'take back') {
    if (request.inputs.restoreBackup !== '') refuseData(open, one.session.where);
    // A dry run, while a deploy is being tried.
    report.result = 'planned';
    ports.reporter.line(
      `Dry run: the deploy that is under way would be taken back, and release ${report.release} serve.`,
    );
    return;
  }
  report.target = target.id;
  await rollBackTo(target, request.inputs, openTransaction(open, one));
}

function openTransaction({ guardian, facts }: OpenProject, { request, session, ports, report }: Run): Transaction {
  const { task, project, inputs } = request;
  const layout = layoutStore(facts.path);
  const target = { project, projectDirectory: layout.project };
  return { task, project, inputs, session, guardian, facts, layout, target, ports, report };
}

async function rollBackTo(target: Release, inputs: Inputs, transaction: Transaction): Promise<void> {
  const { session, facts, ports, report } = transaction;
  const { reporter } = ports;
  reporter.line(`Rolling back from ${facts.current ?? 'nothing'} to ${target.id}.`);
  let preparation = await timed(transaction, 'plan', () => prepare(target, inputs, transaction));
  await showPlan(preparation, transaction);
  const data =
    inputs.restoreBackup === '' ? undefined : await planData(inputs.restoreBackup, preparation.plan, transaction);
  if (data !== undefined) noteData(data, transaction);
  if (inputs.dryRun) {
    report.result = 'planned';
    reporter.line('Dry run: nothing was changed.');
    return;
  }
  preparation = await pullMissing(preparation, transaction);
  const release: Release = {
    ...describeRelease(preparation, transaction),
    commit: target.commit,
    ref: target.ref,
    rollback: { of: target.id, from: facts.current ?? '' },
  };
  const first = data === undefined ? [] : [await prepareData(data, release.id, transaction)];
  ports.runner.saveState('release', release.id);
  beginDeploymentRecord(release.id, transaction, target.commit);
  beginAnnotation(release.id, transaction, target.commit);
  // Nothing is cleaned up now: what it was gone back from may still be wanted, to see what was wrong with it.
  await execute(preparation, release, facts.releases.length + 1, transaction, first);
  const changes = isUnchanged(preparation.plan) ? 'nothing had to change' : describeChanges(preparation.plan);
  reporter.line(`Release ${target.id} is live again on ${session.where}, as ${release.id}: ${changes}.`);
}

const SHOWN_TABLES = 20;

/** Nobody should learn afterwards what was lost. */
function noteData({ backup, differences }: DataChange, transaction: Transaction): void {
  const lost = differences.filter(({ now, then }) => (now ?? 0) > (then ?? 0));
  const shown = lost
    .slice(0, SHOWN_TABLES)
    .map(({ table, now = 0, then = 0 }) => `${table} (${now - then} row${now - then === 1 ? '' : 's'})`);
  warn(
    transaction,
    `The databases go back to ${backup.created} (backup ${backup.id}): ${
      lost.length === 0
        ? 'no table has more rows now than then, but what was changed since is as it was'
        : `what was written since is no longer in service, as in ${shown.join(', ')}${lost.length > shown.length ? ` and ${lost.length - shown.length} more tables` : ''}`
    }. The databases of now are kept under another name.`,
  );
}

/** A kept release's images are on the server, unless somebody else has removed them. */
async function pullMissing(preparation: Preparation, transaction: Transaction): Promise<Preparation> {
  const { images, unknownRouters, plan } = preparation;
  const missing = images.filter((image) => !image.present);
  if (missing.length === 0) return preparation;
  const { inputs, session, ports } = transaction;
  await timed(transaction, 'pull', () =>
    ports.reporter.group('Images', async () => {
      await notePull(missing, transaction);
      await pullImages(images, inputs, session, ports);
    }),
  );
  // What the router's image can do is known only now.
  return unknownRouters.length === 0 ? preparation : planWith(preparation, plan.release, transaction);
}
