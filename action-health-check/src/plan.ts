/** What will be asked, from where, how often: said before it is done. Pure. */
import { describeSeconds } from '#shared/inputs/values';
import { type Check, describeTarget, listVantages } from '#shared/probes/check-model';

/** One line a check. */
export function renderPlan(checks: readonly Check[]): string[] {
  return checks.map((check) => {
    const target = describeTarget(check);
    const title = check.name === target ? target : `${check.name}: ${target}`;
    const places = listVantages(check).map((vantage) => (vantage === 'ssh' ? 'on the server' : 'from the runner'));
    return `${title}, ${places.join(' and ')}, ${renderPace(check)}`;
  });
}

function renderPace(check: Check): string {
  const parts = [
    check.attempts === 1
      ? '1 attempt'
      : `up to ${check.attempts} attempts ${describeSeconds(check.intervalSeconds)} apart`,
    ...(check.backoff === 1 ? [] : [`each pause ${check.backoff} times the last`]),
    `${describeSeconds(check.timeoutSeconds)} each`,
    ...(check.successes === 1 ? [] : [`${check.successes} successes in a row`]),
    ...(check.deadlineSeconds === undefined ? [] : [`${describeSeconds(check.deadlineSeconds)} in all`]),
  ];
  return parts.join(', ');
}
