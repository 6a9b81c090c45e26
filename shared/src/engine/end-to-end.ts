/** The user's own command that must end well while the new release serves, and can still go back. */
import { CommandError, ProbeError } from '../errors';
import type { ContainerState } from '../probes/container';
import { script } from '../shell/render';
import type { DeployPlan } from '../transaction/plan';
import type { EndToEnd } from './inputs';
import type { Transaction } from './transaction';

/** It says itself when it has waited long enough; this is for one that hangs. */
const LIMIT_SECONDS = 1800;

/** @throws ProbeError with what it printed last. */
export async function tryEndToEnd(
  endToEnd: EndToEnd,
  containers: readonly ContainerState[],
  plan: DeployPlan,
  transaction: Transaction,
  signal: AbortSignal,
): Promise<void> {
  const { reporter } = transaction.ports;
  const options = {
    purpose: 'run the e2e-command',
    timeoutSeconds: LIMIT_SECONDS,
    signal,
    onLine: (line: string) => {
      reporter.remote(`  ${line}`);
    },
  };
  try {
    if (endToEnd.where === 'runner') {
      const { workspace } = transaction.ports.runner.context;
      const here = await transaction.ports.connect({ kind: 'local' });
      try {
        await here.run(script('cd "$1" && exec sh -c "$2"', workspace, endToEnd.command), options);
      } finally {
        await here.close();
      }
      return;
    }
    const { service, command } = endToEnd;
    const old = new Set(plan.retired);
    const container = containers.find(
      (one) => one.service === service && !one.oneoff && one.state === 'running' && !old.has(one.id),
    );
    if (container === undefined) throw new ProbeError(`e2e-command: service ${service} has no running container.`, '');
    await transaction.session.run({ words: ['docker', 'exec', container.id, ...command] }, options);
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    throw new ProbeError(`e2e-command: ${error.message}`, error.hint, { cause: error });
  }
}
