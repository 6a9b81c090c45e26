/** A rollback, readable aloud: inputs -> facts -> choice -> plan -> execute -> report. */
import { cleanUp } from '#shared/engine/clean-up';
import { execute } from '#shared/engine/execute';
import { notePull, pullImages } from '#shared/engine/images';
import { guessProjectName } from '#shared/engine/inputs';
import { describeRelease, type Preparation, showPlan } from '#shared/engine/prepare';
import { type OpenProject, withProject } from '#shared/engine/project';
import { beginDeploymentRecord } from '#shared/engine/record';
import { concludeReport, createReport } from '#shared/engine/report';
import { hideSecrets } from '#shared/engine/secrets';
import { timed, type Transaction, type TransactionRequest } from '#shared/engine/transaction';
import { InputError, ReleaseError } from '#shared/errors';
import type { Release } from '#shared/model/release';
import type { Ports } from '#shared/ports';
import { chooseRelease } from '#shared/releases/choose';
import { layoutStore } from '#shared/releases/layout';
import { describeChanges, isUnchanged } from '#shared/transaction/plan';
import { judgeConfirmation } from './confirm';
import { type Inputs, readInputs } from './inputs';
import { describeReleases, renderReleases } from './list';
import { prepare } from './prepare';
import { type RollbackReport, setOutputs } from './report';

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
  const { host, credentials, githubToken } = inputs;
  hideSecrets({ host, credentials, githubToken }, reporter);
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

async function rollBack(ports: Ports, report: RollbackReport): Promise<void> {
  const request = readRequest(ports);
  const { inputs, project, wanted } = request;
  report.project = project;
  const phase = { ports, report };
  const session = await timed(phase, 'connect', () => ports.connect(inputs.host, { signal: ports.signal }));
  report.where = session.where;
  ports.reporter.line(`Connected to ${session.where}.`);
  const look = wanted === '' || inputs.dryRun;
  const mode = look ? 'look' : inputs.preempt ? 'preempt' : 'change';
  try {
    await withProject(session, request, { mode, waitSeconds: inputs.lockWaitSeconds }, phase, async (open) => {
      const { facts } = open;
      const current = facts.current ?? '';
      report.previous = current;
      report.release = current;
      report.releases = describeReleases(facts);
      if (facts.releases.length === 0) {
        throw new ReleaseError(
          `There is no release of project ${project} in ${facts.path} on ${session.where}.`,
          "Is it the right project (input project, else the repository's name) and folder (input path, else apps/<project>)? A release is there once action-deploy has run.",
        );
      }
      if (wanted === '') {
        report.result = 'listed';
        await showReleases(report, ports);
        return;
      }
      if (isDone(open, wanted)) {
        report.result = 'rolled-back';
        ports.reporter.notice(
          'Slipway',
          `A deploy was under way (${open.guardian.waitedFor?.holder ?? ''}) and did not go live: release ${current} serves, as before it. To go further back, name a release.`,
        );
        return;
      }
      const target = chooseTarget(wanted, report, open);
      report.target = target.id;
      const layout = layoutStore(facts.path);
      const transaction: Transaction = {
        task: request.task,
        project,
        inputs,
        session,
        guardian: open.guardian,
        facts,
        layout,
        target: { project, projectDirectory: layout.project },
        ports,
        report,
      };
      await rollBackTo(target, inputs, transaction);
    });
  } finally {
    await session.close();
  }
}

/** `previous` was said of a release that was still being tried, and that has been taken back before we got the lock. */
function isDone({ guardian, facts }: OpenProject, wanted: string): boolean {
  const { waitedFor } = guardian;
  return (
    wanted === 'previous' &&
    waitedFor !== undefined &&
    /^(deploy|rollback)\b/.test(waitedFor.holder) &&
    waitedFor.current === facts.current
  );
}

/** @throws InputError with the releases that there are. */
function chooseTarget(wanted: string, { releases }: RollbackReport, { facts }: OpenProject): Release {
  const refuse = (problem: string): InputError =>
    new InputError([
      { input: 'release', message: `${wanted}: ${problem} There are:\n${releases.map(({ line }) => line).join('\n')}` },
    ]);
  const choice = chooseRelease(wanted, facts.releases, facts.current ?? '');
  if ('problem' in choice) throw refuse(choice.problem);
  if (choice.release.id === facts.current) throw refuse('That release serves already.');
  return choice.release;
}

async function showReleases({ releases }: RollbackReport, { reporter }: Ports): Promise<void> {
  await reporter.group('Releases', () => {
    for (const { line } of releases) reporter.remote(line);
    return Promise.resolve();
  });
}

async function rollBackTo(target: Release, inputs: Inputs, transaction: Transaction): Promise<void> {
  const { session, facts, ports, report } = transaction;
  const { reporter } = ports;
  reporter.line(`Rolling back from ${facts.current ?? 'nothing'} to ${target.id}.`);
  const preparation = await timed(transaction, 'plan', () => prepare(target, inputs, transaction));
  await showPlan(preparation, transaction);
  if (inputs.dryRun) {
    report.result = 'planned';
    reporter.line('Dry run: nothing was changed.');
    return;
  }
  await pullMissing(preparation, transaction);
  const release: Release = {
    ...describeRelease(preparation, transaction),
    commit: target.commit,
    ref: target.ref,
    checks: target.checks,
    rollback: { of: target.id, from: facts.current ?? '' },
  };
  ports.runner.saveState('release', release.id);
  beginDeploymentRecord(release.id, transaction);
  // Nothing is cleaned up now: what it was gone back from may still be wanted, to see what was wrong with it.
  await execute(preparation, release, facts.releases.length + 1, transaction);
  const changes = isUnchanged(preparation.plan) ? 'nothing had to change' : describeChanges(preparation.plan);
  reporter.line(`Release ${target.id} is live again on ${session.where}, as ${release.id}: ${changes}.`);
}

/** A kept release's images are on the server, unless somebody else has removed them. */
async function pullMissing({ images }: Preparation, transaction: Transaction): Promise<void> {
  const missing = images.filter((image) => !image.present);
  if (missing.length === 0) return;
  const { inputs, session, ports } = transaction;
  await timed(transaction, 'pull', () =>
    ports.reporter.group('Images', async () => {
      await notePull(missing, transaction);
      await pullImages(images, inputs, session, ports);
    }),
  );
}
