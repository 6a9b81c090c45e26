/** Outcomes as outputs, job summary and annotations. Pure. */
import { ProbeError } from '#shared/errors';
import { type Check, describeTarget } from '#shared/probes/check-model';
import { type CheckOutcome, describeOutcome, describeVantage } from '#shared/probes/outcome';
import type { CheckResult } from '#shared/probes/poll';
import { escapeMarkdown } from '#shared/reporters/markdown';
import { excerpt } from '#shared/shell/excerpt';

/** The output `results`. Fields are only ever added; what is there keeps its meaning. */
export interface Results {
  readonly healthy: boolean;
  readonly checks: readonly {
    readonly name: string;
    readonly kind: Check['kind'];
    readonly target: string;
    readonly healthy: boolean;
    /** What the two vantages say together; empty where there is one. */
    readonly explanation: string;
    readonly vantages: readonly {
      readonly via: 'runner' | 'ssh';
      readonly healthy: boolean;
      readonly reason: string;
      /** What the other side said, shortened. */
      readonly detail: string;
      /** 0: could not be made, there was no SSH connection. */
      readonly attempts: number;
      /** Of the last attempt; null without one. */
      readonly latencyMs: number | null;
      /** Of all attempts and pauses. */
      readonly durationMs: number;
    }[];
  }[];
}

export interface Outputs {
  readonly healthy: 'true' | 'false';
  /** {@link Results} as JSON. */
  readonly results: string;
  /** Names of the checks that failed, one a line. */
  readonly failed: string;
}

/** `redact` is applied to each text before it becomes JSON: a job output with a masked value in it would be dropped. */
export function renderOutputs(outcomes: readonly CheckOutcome[], redact: (text: string) => string): Outputs {
  const failed = outcomes.filter((outcome) => !outcome.ok);
  const results: Results = {
    healthy: failed.length === 0,
    checks: outcomes.map(({ check, ok, explanation, results: own }) => ({
      name: redact(check.name),
      kind: check.kind,
      target: redact(describeTarget(check)),
      healthy: ok,
      explanation,
      vantages: own.map((result) => ({
        via: result.vantage,
        healthy: result.ok,
        reason: redact(result.lastVerdict.reason),
        detail: redact(result.lastVerdict.detail),
        attempts: result.attempts,
        latencyMs: lastLatencyMs(result),
        durationMs: Math.round(result.durationMs),
      })),
    })),
  };
  return {
    healthy: results.healthy ? 'true' : 'false',
    results: JSON.stringify(results),
    failed: failed.map((outcome) => redact(outcome.check.name)).join('\n'),
  };
}

/** The job summary: every check, then what two vantages mean together. */
export function renderSummary(outcomes: readonly CheckOutcome[]): string {
  const failed = outcomes.filter((outcome) => !outcome.ok).length;
  const rows = outcomes.flatMap((outcome) => outcome.results.map((result) => renderRow(outcome, result)));
  const explanations = outcomes
    .filter((outcome) => outcome.explanation !== '')
    .map((outcome) => `- **${escapeMarkdown(outcome.check.name, 100)}** ${escapeMarkdown(outcome.explanation)}`);
  return [
    `### Health: ${failed === 0 ? `all ${count(outcomes.length, 'check')} passed` : `${failed} of ${count(outcomes.length, 'check')} failed`}`,
    '',
    '| Check | From | Result | Attempts | Last took | What was found |',
    '| --- | --- | --- | ---: | ---: | --- |',
    ...rows,
    ...(explanations.length === 0 ? [] : ['', ...explanations]),
    '',
  ].join('\n');
}

function renderRow(outcome: CheckOutcome, result: CheckResult): string {
  const latencyMs = lastLatencyMs(result);
  const { reason, detail } = result.lastVerdict;
  const cells = [
    escapeMarkdown(outcome.check.name, 100),
    result.vantage === 'ssh' ? 'server' : 'runner',
    result.ok ? '✅ passed' : '❌ failed',
    `${result.attempts}`,
    latencyMs === null ? '' : `${latencyMs} ms`,
    `${escapeMarkdown(reason, 400)}${detail === '' || result.ok ? '' : `<br>${escapeMarkdown(detail, 200)}`}`,
  ];
  return `| ${cells.join(' | ')} |`;
}

/** One line as a check ends, for the log. */
export function renderLine(result: CheckResult): string {
  const detail = result.ok || result.lastVerdict.detail === '' ? '' : `\n    ${excerpt(result.lastVerdict.detail)}`;
  return `${result.ok ? '✓' : '✗'} ${result.check.name} ${describeVantage(result)}: ${result.lastVerdict.reason}${detail}`;
}

export interface Annotation {
  readonly title: string;
  readonly text: string;
}

/** GitHub shows 10 errors a step, and the step's own failure is one of them. */
const MAX_ANNOTATIONS = 9;

/** One a failed check; the failure's own message counts the rest. */
export function renderAnnotations(outcomes: readonly CheckOutcome[]): Annotation[] {
  return outcomes
    .filter((outcome) => !outcome.ok)
    .slice(0, MAX_ANNOTATIONS)
    .map((outcome) => ({ title: `Check failed: ${outcome.check.name}`, text: describeOutcome(outcome) }));
}

/** The step's failure with every failed check in it, or undefined where all passed. */
export function describeFailure(outcomes: readonly CheckOutcome[]): ProbeError | undefined {
  const failed = outcomes.filter((outcome) => !outcome.ok);
  if (failed.length === 0) return undefined;
  const lines = failed.map((outcome) => `- ${outcome.check.name}: ${describeOutcome(outcome)}`);
  const hints = failed.flatMap((outcome) =>
    outcome.results.filter((result) => result.attempts === 0).map((result) => result.lastVerdict.detail),
  );
  return new ProbeError(
    `${failed.length} of ${count(outcomes.length, 'check')} failed:\n${lines.join('\n')}`,
    [
      ...new Set(hints.filter((hint) => hint !== '')),
      'The job summary and the output `results` tell of every check.',
    ].join('\n'),
  );
}

function lastLatencyMs(result: CheckResult): number | null {
  const last = result.latenciesMs.at(-1);
  return last === undefined ? null : Math.round(last);
}

function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? '' : 's'}`;
}
