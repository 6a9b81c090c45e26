/** From what happened to outputs and job summary. Pure. */
import { SlipwayError } from '../errors';
import type { Palette } from '../model/palette';
import type { Ports } from '../ports';
import type { ContainerState } from '../probes/container';
import { describeOutcome, type CheckOutcome } from '../probes/outcome';
import { escapeMarkdown, formatTable } from '../reporters/markdown';
import type { StepRecord } from '../transaction/execute';
import { changedServices, type DeployPlan, type ServicePlan } from '../transaction/plan';
import type { DeploymentRecord } from '../reporters/deployment-record';
import type { ReleaseAnnotation } from './annotation';
import type { Task } from './transaction';
import type { WatchResult } from './watch';

export type TransactionResult =
  'deployed' | 'rolled-back' | 'listed' | 'unchanged' | 'planned' | 'reverted' | 'refused' | 'failed' | 'unknown';

/** Filled while it goes on, so that a failure reports everything up to it. */
export interface TransactionReport {
  readonly task: Task;
  result: TransactionResult;
  /** What serves now; empty where nothing does, or where that is not known. */
  release: string;
  previous: string;
  where: string;
  project?: string;
  plan?: DeployPlan;
  warnings: string[];
  /** Seconds by phase. */
  durations: Record<string, number>;
  timeline: readonly StepRecord[];
  checks: readonly CheckOutcome[];
  containers: readonly ContainerState[];
  /** Names of checks that failed before. */
  baseline: readonly string[];
  watch?: WatchResult;
  /** To the Compose file, so that it can be deployed without an outage. */
  patch?: string;
  /** On GitHub, where one is wanted. */
  record?: DeploymentRecord;
  /** In Grafana, where one is wanted. */
  annotation?: ReleaseAnnotation;
  failure?: unknown;
}

export function createReport(task: Task): TransactionReport {
  return {
    task,
    result: 'refused',
    release: '',
    previous: '',
    where: '',
    warnings: [],
    durations: {},
    timeline: [],
    checks: [],
    containers: [],
    baseline: [],
  };
}

/** What every action of this kind sets; the names are those of the outputs. */
export interface TransactionOutputs {
  readonly release: string;
  readonly 'previous-release': string;
  readonly result: string;
  readonly 'changed-services': string;
  readonly plan: string;
  readonly watch: string;
  readonly durations: string;
}

/** @param redact since a job output that holds a masked value is dropped as a whole. */
export function describeOutputs(report: TransactionReport, redact: (text: string) => string): TransactionOutputs {
  const { plan, watch } = report;
  const touched = report.result !== 'refused' && report.result !== 'planned';
  return {
    release: report.release,
    'previous-release': report.previous,
    result: report.result,
    'changed-services': JSON.stringify(touched && plan !== undefined ? changedServices(plan) : []),
    plan: plan === undefined ? '' : redact(JSON.stringify(describePlan(plan))),
    watch: watch === undefined ? '' : redact(JSON.stringify({ url: watch.url, ...watch.stats })),
    durations: JSON.stringify(roundAll(report.durations)),
  };
}

/** The plan for machines: stable names, no commands. */
function describePlan(plan: DeployPlan): object {
  return {
    release: plan.release,
    previousRelease: plan.previous ?? '',
    services: plan.services,
    steps: plan.steps.map(({ id, title }) => ({ id, title })),
  };
}

function roundAll(durations: Readonly<Record<string, number>>): Record<string, number> {
  return Object.fromEntries(
    Object.entries(durations).map(([phase, seconds]) => [phase, Math.round(seconds * 100) / 100]),
  );
}

/** The plan for the log: one line a service, what happens and why. */
export function renderPlan(plan: DeployPlan, palette: Palette): string {
  const width = Math.max(0, ...plan.services.map((service) => service.service.length));
  return plan.services
    .map((service) => {
      const paint = palette[ACTIONS[service.action].colour];
      const reasons = service.reasons.length === 0 ? '' : `: ${service.reasons.join(', ')}`;
      return `${ACTIONS[service.action].sign} ${service.service.padEnd(width)}  ${paint(describeAction(service))}${reasons}`;
    })
    .join('\n');
}

/** How it is done, and why so. */
function describeAction({ action, strategy }: ServicePlan): string {
  if (action !== 'replace') return ACTIONS[action].words;
  const why = strategy.reasons.length === 0 ? '' : ` (${strategy.reasons.join(', ')})`;
  return strategy.order === 'start-first'
    ? `replace without an outage: start the new, then stop the old${why}`
    : `replace: stop the old, then start the new${why}`;
}

const ACTIONS: Readonly<Record<ServicePlan['action'], { sign: string; words: string; colour: keyof Palette }>> = {
  create: { sign: '+', words: 'create', colour: 'good' },
  replace: { sign: '~', words: 'replace', colour: 'change' },
  scale: { sign: '~', words: 'scale', colour: 'change' },
  start: { sign: '~', words: 'start again', colour: 'change' },
  keep: { sign: '=', words: 'keep as it is', colour: 'quiet' },
  remove: { sign: '-', words: 'remove', colour: 'bad' },
};

const TITLES: Readonly<Record<TransactionResult, string>> = {
  deployed: 'Deployed',
  'rolled-back': 'Rolled back',
  listed: 'Releases',
  unchanged: 'Nothing to do',
  planned: 'Plan (dry run)',
  reverted: 'Failed, and put back',
  refused: 'Refused; nothing was changed',
  failed: 'FAILED; look at the server',
  unknown: 'UNKNOWN: the server cannot be asked',
};

/** The end of a run: the job summary, the record on GitHub, and the annotation in Grafana. */
export async function concludeReport(
  report: TransactionReport,
  { reporter, signal }: Pick<Ports, 'reporter' | 'signal'>,
  more: readonly string[] = [],
): Promise<void> {
  // The server is free by now. A cancelled job has no time to lose: first what is ours, then what others have to say to it.
  const { aborted: cancelled } = signal;
  await reporter.summary(renderSummary(report, more));
  const known = report.warnings.length;
  await Promise.all([
    report.record?.settle({ result: report.result, cancelled }, cancelled ? 2 : 10),
    report.annotation?.settle(report.result, cancelled ? 2 : 5),
  ]);
  const late = report.warnings.slice(known);
  if (late.length > 0) await reporter.summary(`${late.map(renderWarning).join('\n\n')}\n`);
}

/** @param more what the action itself has to tell, below what serves. */
export function renderSummary(report: TransactionReport, more: readonly string[] = []): string {
  const title = `### ${describeResult(report)}${report.project === undefined ? '' : `: ${escapeMarkdown(report.project)}`}${report.where === '' ? '' : ` on ${escapeMarkdown(report.where)}`}`;
  const parts = [title];
  if (report.failure !== undefined) parts.push(renderFailure(report.failure));
  parts.push(describeServing(report), ...more);
  if (report.plan !== undefined) parts.push(renderServices(report.plan, report.containers));
  if (report.checks.length > 0) {
    parts.push(
      formatTable(
        ['Check', 'Verdict', 'Detail'],
        report.checks.map((outcome) => [
          outcome.check.name,
          describeVerdict(outcome, report),
          describeOutcome(outcome),
        ]),
      ),
    );
  }
  if (report.watch !== undefined) {
    parts.push(`Watched ${escapeMarkdown(report.watch.url)}: ${escapeMarkdown(report.watch.text)}.`);
  }
  if (report.timeline.length > 0) {
    parts.push(
      formatTable(
        ['Step', 'Seconds', ''],
        report.timeline.map((step) => [step.title, step.seconds.toFixed(1), step.ok ? 'done' : 'failed']),
      ),
    );
  }
  if (report.patch !== undefined) {
    parts.push(
      `<details><summary>To deploy without an outage, apply this (git apply)</summary>\n\n${fence(report.patch, 'diff')}\n\n</details>`,
    );
  }
  parts.push(...report.warnings.map(renderWarning));
  const durations = Object.entries(report.durations).map(([phase, seconds]) => `${phase} ${seconds.toFixed(1)} s`);
  if (durations.length > 0) parts.push(`<sub>${escapeMarkdown(durations.join(', '))}</sub>`);
  return `${parts.filter((part) => part !== '').join('\n\n')}\n`;
}

function renderWarning(warning: string): string {
  return `> ${escapeMarkdown(warning)}`;
}

/** There was nothing to put back. */
function hasLeftNothing({ result, release, previous }: TransactionReport): boolean {
  return result === 'reverted' && release === '' && previous === '';
}

function describeResult(report: TransactionReport): string {
  return hasLeftNothing(report) ? 'Failed, and removed again' : TITLES[report.result];
}

function describeServing(report: TransactionReport): string {
  const { task, result, release, previous } = report;
  if (hasLeftNothing(report)) return `No release serves, as before this ${task}.`;
  if (release === '')
    return previous === '' ? '' : `Before this ${task}, release **${escapeMarkdown(previous)}** served.`;
  const before =
    (result === 'deployed' || result === 'rolled-back') && previous !== ''
      ? `; before it ${escapeMarkdown(previous)}`
      : '';
  return `Release **${escapeMarkdown(release)}** serves${before}.`;
}

function describeVerdict(outcome: CheckOutcome, { baseline, task }: TransactionReport): string {
  if (outcome.ok) return 'passed';
  return baseline.includes(outcome.check.name) ? `failed (as before the ${task})` : 'failed';
}

/** A summary over 1 MiB is dropped as a whole; the log has everything. */
const MAX_FAILURE_LENGTH = 50_000;

function renderFailure(failure: unknown): string {
  const message = failure instanceof Error ? failure.message : String(failure);
  const hint = failure instanceof SlipwayError ? failure.hint : '';
  const whole = [message, hint].filter((part) => part !== '').join('\n');
  const text = whole.length > MAX_FAILURE_LENGTH ? `${whole.slice(0, MAX_FAILURE_LENGTH)}\n(cut)` : whole;
  return fence(text, 'text');
}

/** More backticks than any run of them inside: remote text cannot leave the block. */
function fence(text: string, language: string): string {
  const ticks = '`'.repeat(Math.max(4, ...[...text.matchAll(/`+/g)].map(([run]) => run.length + 1)));
  return `${ticks}${language}\n${text}\n${ticks}`;
}

function renderServices(plan: DeployPlan, containers: readonly ContainerState[]): string {
  return formatTable(
    ['Service', 'Action', 'Why', 'Image', 'State', 'Restarts'],
    plan.services.map((service) => {
      const replicas = containers.filter((container) => container.service === service.service && !container.oneoff);
      const health = [
        ...new Set(replicas.map((container) => (container.health === 'none' ? container.state : container.health))),
      ].join(', ');
      const restarts = replicas.reduce((sum, container) => sum + container.restartCount, 0);
      return [
        service.service,
        service.action,
        service.reasons.join(', '),
        describeImages(service),
        health,
        replicas.length === 0 ? '' : String(restarts),
      ];
    }),
  );
}

function describeImages(service: ServicePlan): string {
  const short = (image: string | undefined): string => image?.replace(/@sha256:([0-9a-f]{12})[0-9a-f]*$/, '@$1') ?? '';
  const [before, after] = [short(service.imageBefore), short(service.imageAfter)];
  if (before === after || before === '') return after;
  return after === '' ? before : `${before} -> ${after}`;
}
