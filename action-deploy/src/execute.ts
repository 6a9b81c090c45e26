/** Carries the plan out, looks at the new release, and says what became of it. */
import { setTags, tagImages } from '#shared/commands/images';
import { storeRelease } from '#shared/commands/store';
import { renderYaml } from '#shared/compose/yaml';
import { CancelledError, ConnectError, ReleaseError } from '#shared/errors';
import type { Release } from '#shared/model/release';
import type { Step } from '#shared/model/step';
import type { Check } from '#shared/probes/check';
import { groupResults } from '#shared/probes/outcome';
import { runChecks } from '#shared/probes/run-checks';
import { treeEntries } from '#shared/releases/shipped';
import { packTar } from '#shared/releases/tar';
import type { ServerFacts } from '#shared/server/facts';
import { executeTransaction, type Outcome } from '#shared/transaction/execute';
import { type Deployment, timed, warn } from './deployment';
import { THIS_PROJECT } from './inputs';
import type { DeployPlan } from './plan';
import type { Preparation } from './prepare';
import {
  BadReleaseError,
  createVerifier,
  DEFAULT_STABLE_SECONDS,
  type Evidence,
  type VerifyContext,
  waitForRestored,
} from './verify';

/** @throws ReleaseError that says what happened, what serves now, and what to do. */
export async function execute(preparation: Preparation, release: Release, deployment: Deployment): Promise<void> {
  const { session, facts, layout, target, token, ports, report } = deployment;
  const { plan, project } = preparation;
  const checks = deployment.inputs.checks.map((check) =>
    check.kind === 'container' && check.project === THIS_PROJECT ? { ...check, project: target.project } : check,
  );
  report.baseline = await timed(deployment, 'baseline', () => readBaseline(checks, deployment));
  const context: VerifyContext = {
    session,
    project: target.project,
    services: project.services,
    changed: plan.services
      .filter((service) => service.action !== 'keep' && service.action !== 'remove')
      .map((service) => service.service),
    kept: facts.containers.filter((one) => isKept(one.service, plan) && !one.oneoff),
    checks,
    baseline: new Set(report.baseline),
    ports,
  };
  const verifier = createVerifier(context);
  const steps = [...(await planStorage(preparation, release, deployment)), ...plan.steps];
  const { runUrl, actor } = ports.runner.context;
  const outcome = await timed(deployment, 'switch', () =>
    ports.reporter.group(`Deploy ${plan.release}`, () =>
      executeTransaction(
        {
          release: plan.release,
          previous: plan.previous,
          steps,
          runUrl,
          actor,
          hold: (step, signal) => verifier.hold(step, signal),
        },
        { ...ports, session, target, layout, token },
      ),
    ),
  );
  report.timeline = outcome.timeline;
  report.checks = verifier.outcomes();
  report.containers = verifier.containers();
  if (outcome.kind === 'overtaken') {
    report.result = 'failed';
    report.release = '';
    throw outcome.cause;
  }
  if (outcome.kind === 'undone') throw await explainFailure(outcome, preparation, context, deployment);
  report.result = 'deployed';
  report.release = plan.release;
  warnOfUnchecked(context, deployment);
}

/** What answers before the deploy is another release: that is no fault of it. */
const ONCE = { attempts: 1, successes: 1 };

/** Names of the checks that fail before anything was changed: one attempt each, it only tells what was broken before. */
async function readBaseline(checks: readonly Check[], deployment: Deployment): Promise<string[]> {
  const { facts, session, ports } = deployment;
  if (facts.current === undefined || checks.length === 0) return [];
  const once = checks.map((check) => ({
    ...check,
    ...ONCE,
    ...(check.kind === 'http' ? { releaseId: undefined } : {}),
  }));
  // A check that is new with this release, as what it looks at may be, must pass now.
  const before = facts.releases.find((release) => release.id === facts.current);
  const hadToPass = (name: string): boolean => before?.result === 'adopted' || before?.checks.includes(name) === true;
  const outcomes = groupResults(await runChecks(once, { ...ports, session }));
  const failing = outcomes
    .filter((outcome) => !outcome.ok)
    .map((outcome) => outcome.check.name)
    .filter(hadToPass);
  for (const name of failing) {
    warn(deployment, `Check ${name} failed before this deploy too: it is reported, and no reason to go back.`);
  }
  return failing;
}

/** A service without a health check was only seen to run: people should know that this is all that was proven. */
function warnOfUnchecked({ services, changed }: VerifyContext, deployment: Deployment): void {
  const unchecked = services.filter(({ name, oneShot }) => {
    const replicas = deployment.report.containers.filter((one) => one.service === name && !one.oneoff);
    return changed.includes(name) && !oneShot && replicas.some((one) => one.health === 'none');
  });
  for (const { name, monitorSeconds = DEFAULT_STABLE_SECONDS } of unchecked) {
    warn(
      deployment,
      `Service ${name} has no health check: it counts as ready since it ran for ${monitorSeconds} s without a restart. Add a \`healthcheck\` to it in the Compose file.`,
    );
  }
}

/** The first steps: the release goes into the store, where nothing that serves knows of it yet. */
async function planStorage(
  { project, plan, rendered, images }: Preparation,
  release: Release,
  { inputs, facts, layout, target }: Deployment,
): Promise<Step[]> {
  const folder = `releases/${plan.release}`;
  const tar = await packTar([
    { path: `${folder}/compose.yaml`, content: renderYaml(project.raw) },
    { path: `${folder}/env`, content: inputs.env.reveal() },
    { path: `${folder}/release.json`, content: JSON.stringify(release) },
    ...rendered.trees.flatMap(treeEntries),
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
      do: storeRelease(layout, plan.release, tar),
      undo: [],
      timeoutSeconds: 300,
    },
    {
      kind: 'run',
      id: 'tag',
      title: 'tag its images, so that pruning spares them',
      do: tagImages(
        target.project,
        images.map((image) => image.image),
      ),
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
  preparation: Preparation,
  context: VerifyContext,
  deployment: Deployment,
): Promise<ReleaseError> {
  const { plan } = preparation;
  const { layout, ports, report } = deployment;
  const { cause, unrestored } = outcome;
  const reason = cause instanceof Error ? cause.message : String(cause);
  const what = `The deploy of ${plan.release} ${cause instanceof CancelledError ? 'was cancelled.' : `failed: ${reason}`}`;
  report.release = '';
  report.result = 'failed';
  if (cause instanceof ConnectError || unrestored.length > 0) {
    const lost = cause instanceof ConnectError;
    return new ReleaseError(
      lost
        ? what
        : `${what}\nAnd the server could NOT be put back wholly:\n${unrestored.map((line) => `- ${line}`).join('\n')}`,
      `${lost ? 'This step tries once more at the end of the job' : 'Look at the server now'}; the next deploy, too, first puts back what was under way (journal: ${layout.journal} on the server).`,
      { cause },
    );
  }
  ports.runner.saveState('settled', 'undone');
  const found = cause instanceof BadReleaseError ? cause.evidence : undefined;
  await showEvidence(found, deployment);
  const evidence = summarize(found);
  if (plan.previous === undefined) {
    report.result = 'reverted';
    return new ReleaseError(
      what,
      `It was the first deploy: what it had started was removed again; volumes were left.${evidence}`,
      { cause },
    );
  }
  const problem = await awaitPrevious(preparation, context, deployment);
  if (problem !== undefined) {
    return new ReleaseError(
      `${what}\nRelease ${plan.previous} was put back, and is not ready: ${problem}`,
      `Look at the server now: the old release does not come up as it was.${evidence}`,
      { cause },
    );
  }
  report.result = 'reverted';
  report.release = plan.previous;
  return new ReleaseError(what, `Release ${plan.previous} was put back and serves again.${evidence}`, { cause });
}

/** @returns why what was put back is not ready, or nothing. */
function awaitPrevious(
  { plan }: Preparation,
  context: VerifyContext,
  { facts, inputs }: Deployment,
): Promise<string | undefined> {
  const ran = (name: string): boolean =>
    facts.containers.some((one) => one.service === name && one.state === 'running');
  const touched = plan.services.filter((service) => service.action !== 'keep').map((service) => service.service);
  return waitForRestored(touched.filter(ran), facts.currentCompose, inputs.readyTimeoutSeconds, context);
}

async function showEvidence(evidence: Evidence | undefined, { ports: { reporter } }: Deployment): Promise<void> {
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
