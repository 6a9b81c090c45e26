/** What serves after somebody else has gone back: it is looked at as closely as if we had. */
import { hideStoredEnv } from '#shared/engine/stored';
import { THIS_PROJECT } from '#shared/engine/inputs';
import { type Transaction, warn } from '#shared/engine/transaction';
import { ReleaseError } from '#shared/errors';
import { describeOutcome, groupResults } from '#shared/probes/outcome';
import { runChecks } from '#shared/probes/run-checks';
import { waitForRestored } from '#shared/transaction/verify';
import type { Before } from './choice';
import { readAhead } from './schema';

/** @throws ReleaseError where it is not ready, or a health check fails. */
export async function confirmServing(before: Before, transaction: Transaction): Promise<void> {
  const { facts, guardian, session, project, inputs, layout, ports, report } = transaction;
  const { reporter } = ports;
  const current = facts.current ?? '';
  const what =
    before.underWay === undefined
      ? `Another rollback was at work: release ${current} serves.`
      : `Release ${before.underWay}, which was being tried, did not go live: release ${current} serves, as before it.`;
  const stored = await hideStoredEnv(current, layout, guardian, reporter);
  const running = facts.containers.filter((one) => !one.oneoff && one.state === 'running').map((one) => one.service);
  const asked = { remote: guardian, session, project, ports };
  const problem = await waitForRestored(running, facts.currentCompose, inputs.readyTimeoutSeconds, asked);
  if (problem !== undefined) {
    throw new ReleaseError(
      `${what} But it is not ready: ${problem}`,
      'Look at the server now, or name a release to go further back.',
    );
  }
  const checks = inputs.checks.map((check) =>
    check.kind === 'container' && check.project === THIS_PROJECT ? { ...check, project } : check,
  );
  report.checks = groupResults(await runChecks(checks, { ...ports, session, signal: ports.signal }));
  const failed = report.checks.filter(({ ok }) => !ok);
  if (failed.length > 0) {
    throw new ReleaseError(
      `${what} But ${failed.map((one) => `check ${one.check.name} fails: ${describeOutcome(one)}`).join('; ')}`,
      'To go further back, name a release.',
    );
  }
  const serving = facts.releases.find(({ id }) => id === current);
  const ahead = serving && stored && (await readAhead(serving, stored, transaction));
  if (ahead?.kind === 'ahead' && ahead.lines.length > 0) {
    warn(transaction, `The schema is ahead of release ${current}, which serves: ${ahead.lines.join(', ')}.`);
  }
  reporter.notice('Slipway', `${what} To go further back, name a release.`);
}
