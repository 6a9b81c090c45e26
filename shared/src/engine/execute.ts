/** Carries the plan out, looks at the new release, and says what became of it. */
import { setTags, tagImages } from '../commands/images';
import { storeRelease } from '../commands/store';
import { recordSchema } from '../commands/stored-release';
import type { Service } from '../compose/project';
import { renderYaml } from '../compose/yaml';
import { CancelledError, ConnectError, ReleaseError } from '../errors';
import type { Release } from '../model/release';
import type { FinishVerb, Step, UndoVerb } from '../model/step';
import type { Check } from '../probes/check';
import type { ContainerState } from '../probes/container';
import { groupResults } from '../probes/outcome';
import { runChecks } from '../probes/run-checks';
import { treeEntries } from '../releases/shipped';
import { packTar } from '../releases/tar';
import type { ServerFacts } from '../server/facts';
import { executeTransaction, type Outcome } from '../transaction/execute';
import { orderUndo } from '../guardian/journal';
import { type DeployPlan, servicesWithOutage } from '../transaction/plan';
import {
  BadReleaseError,
  createVerifier,
  DEFAULT_STABLE_SECONDS,
  type Evidence,
  type VerifyContext,
  waitForRestored,
} from '../transaction/verify';
import { planCleaning } from './cleaning';
import { type Transaction, timed, warn } from './transaction';
import { THIS_PROJECT } from './inputs';
import type { Preparation } from './prepare';
import { settle } from './settle';
import { hideStoredEnv } from './stored';
import { tryEndToEnd } from './end-to-end';
import { beginWatch, type WatchedUrl } from './watch';

/**
 * @param keepReleases how many releases stay in the store in all.
 * @param first steps before any replica is started.
 * @throws ReleaseError that says what happened, what serves now, and what to do.
 */
export async function execute(
  preparation: Preparation,
  release: Release,
  keepReleases: number,
  transaction: Transaction,
  first: readonly Step[] = [],
): Promise<void> {
  const { task, guardian, session, facts, layout, target, inputs, ports, report } = transaction;
  const { plan, project } = preparation;
  const checks = inputs.checks.map((check) =>
    check.kind === 'container' && check.project === THIS_PROJECT ? { ...check, project: target.project } : check,
  );
  const watched = beginWatch(transaction);
  report.baseline = await timed(transaction, 'baseline', () => readBaseline(checks, transaction));
  const waits = new Set(
    project.services.filter(({ oneShot }) => preparation.runsOnce || !oneShot).map(({ name }) => name),
  );
  const changed = plan.services
    .filter(({ service, action }) => action !== 'keep' && action !== 'remove' && waits.has(service))
    .map(({ service }) => service);
  const { endToEnd } = inputs;
  const context: VerifyContext = {
    remote: guardian,
    session,
    project: target.project,
    services: project.services,
    changed,
    containers: facts.containers,
    // Where replicas are only added, those that are there are part of the new release.
    old: Object.fromEntries(
      plan.services.map(({ service, action }) => [
        service,
        action === 'scale' || action === 'start' ? [] : (plan.before[service] ?? []),
      ]),
    ),
    stopped: new Set(
      plan.services
        .filter(({ action, strategy }) => action === 'replace' && strategy.order === 'stop-first')
        .flatMap(({ service }) => plan.before[service] ?? []),
    ),
    kept: facts.containers.filter((one) => isKept(one.service, plan) && !one.oneoff),
    checks,
    baseline: new Set(report.baseline),
    bakeSeconds: inputs.bakeSeconds,
    tryOut:
      endToEnd === undefined
        ? undefined
        : (containers, signal) => tryEndToEnd(endToEnd, containers, plan, transaction, signal),
    ports,
  };
  const verifier = createVerifier(context);
  const cleaning = planCleaning(preparation, release, keepReleases, transaction);
  // What the gates before have seen a moment ago needs no second look: it would cost a round trip.
  const isProven = checks.length === 0 && endToEnd === undefined && inputs.bakeSeconds === 0;
  const isProof = (step: Step): boolean => step.kind === 'hold' && step.gate.gate === 'proven';
  const planned = plan.steps.filter((step) => !(isProven && isProof(step)));
  // All that migrates has run by then, and no visitor has come yet.
  const routing = planned.findIndex((step) => step.kind === 'route' || isProof(step));
  const changes = planned.toSpliced(routing < 0 ? planned.length : routing, 0, ...planSchema(preparation, transaction));
  // What can be done while the new replicas become ready costs nobody any time.
  const waiting = changes.findIndex((step) => step.kind !== 'run');
  const steps = [
    ...(await planStorage(preparation, release, transaction)),
    ...first,
    ...(waiting < 0 ? changes : changes.slice(0, waiting)),
    planTags(preparation, transaction),
    ...(waiting < 0 ? [] : changes.slice(waiting)),
  ];
  const told = inputs.metricsFile === '' ? [] : [{ verb: 'tell-metrics', file: inputs.metricsFile, task } as const];
  const isHandOver = ({ verb }: FinishVerb): boolean => verb === 'hand-over';
  await watched?.begin();
  const outcome = await timed(transaction, 'switch', () =>
    ports.reporter.group(describeChange(transaction, plan.release), () =>
      executeTransaction(
        {
          release: plan.release,
          steps,
          undo: orderUndo([...first.flatMap(undoOf), ...plan.undo, ...cleaning.undo, ...told], []),
          // As soon as it is safe that the new release stays: to drain and to stop the old one takes its time.
          finish: [
            ...plan.finish.filter(isHandOver),
            ...told,
            ...plan.finish.filter((verb) => !isHandOver(verb)),
            ...cleaning.finish,
          ],
          before: plan.before,
          hold: (step, signal) => verifier.hold(step, signal),
          containers: () => verifier.containers(),
          onCommitted: () => {
            ports.runner.saveState('settled', 'committed');
            ports.reporter.line(
              '- committed: the new release is live; the server lets the old one serve its last clients, and removes it by itself',
            );
          },
        },
        {
          guardian,
          reporter: ports.reporter,
          clock: ports.clock,
          target,
          layout,
          signal: watched === undefined ? ports.signal : AbortSignal.any([ports.signal, watched.failing]),
        },
      ),
    ),
  );
  report.timeline = outcome.timeline;
  report.checks = verifier.outcomes();
  report.containers = verifier.containers().filter((one) => !plan.retired.includes(one.id));
  await endWatch(watched, transaction);
  switch (outcome.kind) {
    case 'committed':
      report.result = DONE[task];
      report.release = plan.release;
      warnOfUnchecked(context, transaction);
      return;
    case 'undone':
      throw await explainFailure(outcome, preparation, context, transaction);
    case 'unknown':
      return explainLoss(outcome.cause, preparation, transaction);
  }
}

const undoOf = (step: Step): readonly UndoVerb[] => (step.kind === 'hold' ? [] : step.undo);

/** How it is called when it went well. */
const DONE = { deploy: 'deployed', rollback: 'rolled-back' } as const;

/** For the start of a sentence. */
function nameChange({ task }: Transaction, release: string): string {
  return task === 'deploy' ? `The deploy of ${release}` : `The rollback (release ${release})`;
}

function describeChange({ task }: Transaction, release: string): string {
  return task === 'deploy' ? `Deploy ${release}` : `Roll back, as release ${release}`;
}

async function endWatch(watched: WatchedUrl | undefined, { report, ports }: Transaction): Promise<void> {
  if (watched === undefined) return;
  report.watch = await watched.stop();
  ports.reporter.line(`Watched ${report.watch.url}: ${report.watch.text}`);
}

/** The connection is gone, and the server ends the transaction by itself: it is asked how. */
async function explainLoss(cause: ConnectError, { plan }: Preparation, transaction: Transaction): Promise<void> {
  const { ports, inputs, report, task } = transaction;
  report.release = '';
  report.result = 'unknown';
  ports.reporter.line(`${cause.message} The server ends this ${task} by itself; asking it how.`);
  const verdict = await settle(plan.release, transaction, ports).catch((error: unknown) => {
    const why = error instanceof Error ? error.message : String(error);
    throw new ReleaseError(
      `The connection was lost in the middle of the ${task} (release ${plan.release}), and what became of it cannot be asked: ${why}`,
      `The server goes back by itself within the lease (${inputs.leaseSeconds} s), unless the release had been committed. This step asks once more at the end of the job.`,
      { cause },
    );
  });
  ports.runner.saveState('settled', verdict.kind);
  report.release = verdict.current ?? '';
  if (verdict.kind === 'committed') {
    report.result = DONE[task];
    warn(transaction, `The connection was lost during the ${task}; the release had been committed. ${verdict.text}`);
    return;
  }
  report.result = 'reverted';
  throw new ReleaseError(`${nameChange(transaction, plan.release)} failed: ${cause.message}`, verdict.text, { cause });
}

/** What answers before the transaction is another release: that is no fault of it. */
const ONCE = { attempts: 1, successes: 1 };

/** Names of the checks that fail before anything was changed: one attempt each, it only tells what was broken before. */
async function readBaseline(checks: readonly Check[], transaction: Transaction): Promise<string[]> {
  const { facts, session, ports } = transaction;
  if (facts.current === undefined || checks.length === 0) return [];
  const once = checks.map((check) => ({
    ...check,
    ...ONCE,
    ...(check.kind === 'http' ? { releaseId: undefined } : {}),
  }));
  // A check that is new with this release, as what it looks at may be, must pass now.
  const before = facts.releases.find((release) => release.id === facts.current);
  const hadToPass = (name: string): boolean => before?.result === 'adopted' || before?.checks.includes(name) === true;
  const outcomes = groupResults(await runChecks(once, { ...ports, session, signal: ports.signal }));
  const failing = outcomes
    .filter((outcome) => !outcome.ok)
    .map((outcome) => outcome.check.name)
    .filter(hadToPass);
  for (const name of failing) {
    warn(
      transaction,
      `Check ${name} failed before this ${transaction.task} too: it is reported, and no reason to go back.`,
    );
  }
  return failing;
}

/** A service without a health check was only seen to run: people should know that this is all that was proven. */
function warnOfUnchecked({ services, changed }: VerifyContext, transaction: Transaction): void {
  const unchecked = services.filter(({ name, oneShot }) => {
    const replicas = transaction.report.containers.filter((one) => one.service === name && !one.oneoff);
    return changed.includes(name) && !oneShot && replicas.some((one) => one.health === 'none');
  });
  for (const { name, monitorSeconds = DEFAULT_STABLE_SECONDS } of unchecked) {
    warn(
      transaction,
      `Service ${name} has no health check: it counts as ready since it ran for ${monitorSeconds} s without a restart. Add a \`healthcheck\` to it in the Compose file.`,
    );
  }
}

/** The first steps: the release goes into the store, where nothing that serves knows of it yet. */
async function planStorage(
  { project, plan, candidate }: Preparation,
  release: Release,
  { facts, layout }: Transaction,
): Promise<Step[]> {
  const folder = `releases/${plan.release}`;
  const tar = await packTar([
    { path: `${folder}/compose.yaml`, content: candidate.text ?? renderYaml(project.raw) },
    { path: `${folder}/env`, content: candidate.env.reveal() },
    { path: `${folder}/release.json`, content: JSON.stringify(release) },
    ...('like' in candidate.source
      ? []
      : candidate.source.map((entry) => ({ ...entry, path: `${folder}/${entry.path}` }))),
    ...candidate.trees.flatMap(treeEntries),
  ]);
  const strayed = findStrayedTags(facts);
  return [
    ...(strayed.length === 0
      ? []
      : [
          {
            kind: 'run',
            id: 'hold-tags',
            title: 'let the tags of what stays name what runs',
            do: setTags(strayed),
            undo: [],
            timeoutSeconds: 60,
          } as const,
        ]),
    {
      kind: 'run',
      id: 'store',
      title: 'write the release into the store',
      do: storeRelease(layout, plan.release, tar, 'like' in candidate.source ? candidate.source.like : ''),
      undo: [],
      timeoutSeconds: 300,
    },
  ];
}

function planTags({ images }: Preparation, { target }: Transaction): Step {
  return {
    kind: 'run',
    id: 'tag',
    title: 'tag its images, so that pruning spares them',
    do: tagImages(
      target.project,
      images.map((image) => image.image),
    ),
    undo: [],
    timeoutSeconds: 60,
  };
}

/** Whoever wants to go back to this release must know what schema it had. */
function planSchema({ plan, schema }: Preparation, { layout, target }: Transaction): Step[] {
  if (schema === undefined) return [];
  const { service, command } = schema;
  return [
    {
      kind: 'run',
      id: 'schema',
      title: `note the state of the schema, as ${service} says it`,
      do: recordSchema(layout, plan.release, target.project, service, command),
      undo: [],
      timeoutSeconds: 60,
    },
  ];
}

function isKept(service: string, plan: DeployPlan): boolean {
  return plan.services.some((one) => one.service === service && one.action === 'keep');
}

/**
 * An image without a digest (of a project that was adopted) is named by its tag alone. Where that tag has moved on the server
 * since, Compose would recreate the service on the other image, though it is to stay; and on the way back, too.
 */
function findStrayedTags({ containers, images }: ServerFacts): { imageId: string; tag: string }[] {
  const unpinned = containers.filter((one) => !one.oneoff && !one.image.includes('@') && one.imageId !== '');
  return unpinned.flatMap(({ image, imageId }) => {
    const tag = /:[^/]+$/.test(image) ? image : `${image}:latest`;
    const named = images.find((local) => local.tags.includes(tag));
    return named === undefined || named.id === imageId ? [] : [{ imageId, tag }];
  });
}

async function explainFailure(
  outcome: Extract<Outcome, { kind: 'undone' }>,
  { plan, project }: Preparation,
  context: VerifyContext,
  transaction: Transaction,
): Promise<ReleaseError> {
  const { facts, layout, ports, report } = transaction;
  const { cause, unrestored } = outcome;
  const reason = cause instanceof Error ? cause.message : String(cause);
  const what = `${nameChange(transaction, plan.release)} ${cause instanceof CancelledError ? 'was cancelled.' : `failed: ${reason}`}`;
  report.release = '';
  report.result = 'failed';
  const ahead = describeSchema(plan, outcome);
  if (unrestored !== '') {
    return new ReleaseError(
      `${what}${ahead}\nAnd the server could NOT be put back wholly:\n- ${unrestored}`,
      `Look at the server now; the next session, too, first tries to put back what was under way (journal: ${layout.journal} on the server).`,
      { cause },
    );
  }
  ports.runner.saveState('settled', 'undone');
  const found = cause instanceof BadReleaseError ? cause.evidence : undefined;
  await showEvidence(found, transaction);
  const evidence = summarize(found);
  if (plan.previous === undefined) {
    report.result = 'reverted';
    return new ReleaseError(
      `${what}${ahead}`,
      `It was the first deploy: what it had started was removed again; volumes were left.${evidence}`,
      { cause },
    );
  }
  const problem = await awaitPrevious(plan, context, transaction);
  if (problem !== undefined) {
    return new ReleaseError(
      `${what}${ahead}\nRelease ${plan.previous} was put back, and is not ready: ${problem}`,
      `Look at the server now: the old release does not come up as it was.${evidence}`,
      { cause },
    );
  }
  report.result = 'reverted';
  report.release = plan.previous;
  const down = findDown(facts.containers, project.services);
  const back =
    down.length === 0
      ? 'was put back and serves again.'
      : `was put back as it was: ${down.join(', ')} did not run before either.`;
  return new ReleaseError(`${what}${ahead}`, `Release ${plan.previous} ${back}${evidence}`, { cause });
}

/** Services of which no replica ran, though one should: somebody has stopped them. */
export function findDown(containers: readonly ContainerState[], services: readonly Service[]): string[] {
  return services
    .filter(({ name, oneShot }) => {
      const replicas = containers.filter((one) => one.service === name && !one.oneoff);
      return !oneShot && replicas.length > 0 && replicas.every(({ state }) => state !== 'running');
    })
    .map(({ name }) => name);
}

/** A migration cannot be undone by us. */
function describeSchema(plan: DeployPlan, { timeline }: Outcome): string {
  const migrated = timeline.filter((step) => step.id.startsWith('migrate-') && step.ok);
  if (migrated.length === 0) return '';
  return `\nIts migration had ended well, and is not undone: the schema is ahead of release ${plan.previous ?? '(none)'}, which serves (${migrated.map(({ title }) => title).join('; ')}).`;
}

/** @returns why what was put back is not ready, or nothing. What was warm all the time needs no waiting. */
async function awaitPrevious(
  plan: DeployPlan,
  context: VerifyContext,
  transaction: Transaction,
): Promise<string | undefined> {
  const { facts, inputs, layout, session, ports } = transaction;
  const ran = (name: string): boolean =>
    facts.containers.some((one) => one.service === name && one.state === 'running');
  const away = new Set([...servicesWithOutage(plan), ...plan.removed]);
  // The guardian may have gone: it has done its work.
  const asked = { ...context, remote: session };
  try {
    await hideStoredEnv(facts.current, layout, session, ports.reporter);
    return await waitForRestored([...away].filter(ran), facts.currentCompose, inputs.readyTimeoutSeconds, asked);
  } catch (error) {
    if (!(error instanceof ConnectError)) throw error;
    ports.reporter.line(`${error.message} Connecting again, to see what serves.`);
    try {
      const { isReady, text } = await settle(plan.release, transaction, ports);
      return isReady ? undefined : text;
    } catch (unknown) {
      // Why the deploy has failed must be told, whatever else goes wrong.
      return `what serves cannot be asked: ${unknown instanceof Error ? unknown.message : String(unknown)}`;
    }
  }
}

async function showEvidence(evidence: Evidence | undefined, { ports: { reporter } }: Transaction): Promise<void> {
  if (evidence === undefined) return;
  await reporter.group('What the server says of it', () => {
    for (const line of evidence.states) reporter.remote(line);
    if (evidence.log.length > 0) reporter.line(`last ${evidence.log.length} log lines:`);
    for (const line of evidence.log) reporter.remote(`  ${line}`);
    return Promise.resolve();
  });
}

const SUMMARY_LOG_LINES = 20;

/** For the annotation and the summary: the states, and the end of the log. */
function summarize(evidence: Evidence | undefined): string {
  if (evidence === undefined) return '';
  const log = evidence.log.slice(-SUMMARY_LOG_LINES).map((line) => `  ${line}`);
  return [
    '\nWhat the server says of it:',
    ...evidence.states,
    ...(log.length > 0 ? ['its last log lines:', ...log] : []),
  ].join('\n');
}
