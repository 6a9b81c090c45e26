/** Results of one check from all its vantages, and what they mean together. Pure. */
import type { Check } from './check-model';
import type { CheckResult } from './poll';

/** One check, from wherever it was made. */
export interface CheckOutcome {
  readonly check: Check;
  readonly ok: boolean;
  readonly results: readonly CheckResult[];
  /** What the two vantages say together; empty where there is one. */
  readonly explanation: string;
}

/** Joins the results of each check, in order. */
export function groupResults(results: readonly CheckResult[]): CheckOutcome[] {
  const byCheck = Map.groupBy(results, (result) => result.check);
  return [...byCheck].map(([check, own]) => {
    const server = own.find((result) => result.vantage === 'ssh');
    const outside = own.find((result) => result.vantage === 'runner');
    return {
      check,
      ok: own.every((result) => result.ok),
      results: own,
      explanation: server === undefined || outside === undefined ? '' : explainVantages(server, outside),
    };
  });
}

/** What it means that a check passed or failed on the server and from outside. */
export function explainVantages(server: CheckResult, outside: CheckResult): string {
  if (server.attempts === 0) {
    return outside.ok
      ? 'answers from outside; the server could not be asked'
      : 'does not answer from outside; the server could not be asked';
  }
  if (server.ok && outside.ok) return 'answers on the server and from outside';
  if (server.ok) return 'answers on the server, not from outside: firewall, DNS or proxy';
  if (outside.ok)
    return 'answers from outside, not on the server: another server may be answering, or the server cannot reach its own public address';
  return server.lastVerdict.reason === outside.lastVerdict.reason
    ? 'fails on the server and from outside alike: the application itself'
    : 'fails on the server and from outside: begin with the application, then look at firewall, DNS and proxy';
}

/** One line about a check that failed: `api: answers on the server, not from outside: ... (from the runner: ...)`. */
export function describeOutcome(outcome: CheckOutcome): string {
  const bad = outcome.results.filter((result) => !result.ok);
  const reasons = bad.map((result) =>
    outcome.results.length === 1 ? describeResult(result) : `${describeVantage(result)}: ${describeResult(result)}`,
  );
  return [outcome.explanation, ...(outcome.ok ? [] : reasons)].filter((text) => text !== '').join('; ');
}

export function describeVantage(result: CheckResult): string {
  return result.vantage === 'ssh' ? 'on the server' : 'from the runner';
}

function describeResult(result: CheckResult): string {
  const attempts = result.attempts > 1 ? ` (${result.attempts} attempts)` : '';
  return `${result.lastVerdict.reason}${attempts}`;
}
