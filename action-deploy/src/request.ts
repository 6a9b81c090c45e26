/** What the main step and the post step both begin with. */
import type { Ports, Session } from '#shared/ports';
import type { StoreLayout } from '#shared/releases/layout';
import type { ServerFacts } from '#shared/server/facts';
import { readServerFacts } from '#shared/server/read';
import { LEASE_SECONDS, type Lock, takeLock } from '#shared/transaction/lock';
import { readSource, type Source } from './facts';
import { type Inputs, readInputs } from './inputs';
import { hideSecrets } from './secrets';

/** What is to be deployed, and where. From here on its secrets are hidden. */
export async function readRequest(ports: Ports): Promise<{ inputs: Inputs; source: Source }> {
  const inputs = readInputs((name) => ports.runner.input(name));
  hideSecrets(inputs, ports.reporter);
  return { inputs, source: await readSource(inputs, ports) };
}

/** @param signal undefined where a cancel must not stop it */
export function readFacts(
  session: Session,
  inputs: Inputs,
  source: Source,
  signal?: AbortSignal,
): Promise<ServerFacts> {
  return readServerFacts(session, inputs.path === '' ? `apps/${source.project}` : inputs.path, source.project, signal);
}

/** Waits longer than the lock of a session that has died can last. */
export function lockProject(
  session: Session,
  layout: StoreLayout,
  { runner, reporter, clock, signal }: Ports,
): Promise<Lock> {
  const { actor, runUrl } = runner.context;
  const holder = ['deploy', actor === '' ? '' : `by ${actor}`, runUrl, `since ${clock.now().toISOString()}`]
    .filter((part) => part !== '')
    .join(' ');
  const onWait = (other: string): void => {
    reporter.remote(`Waiting for another session on this project: ${other}`);
  };
  return takeLock(
    session,
    layout,
    { holder: holder.replaceAll(/[\r\n]/g, ' '), waitSeconds: LEASE_SECONDS + 15, onWait, signal },
    clock,
  );
}
