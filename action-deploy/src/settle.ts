/** After a connection was lost: what became of the deploy, from the server's own record. */
import { PreflightError } from '#shared/errors';
import type { Ports } from '#shared/ports';
import { judgeServer } from '#shared/server/preflight';
import { waitForRestored } from '#shared/transaction/verify';
import type { Source } from './facts';
import type { Inputs } from './inputs';
import { openGuardian, readFacts, reconnect } from './request';

export interface Settlement {
  readonly kind: 'committed' | 'undone';
  /** The release that serves. */
  readonly current: string | undefined;
  /** What serves is ready. */
  readonly isReady: boolean;
  /** One sentence, for people. */
  readonly text: string;
}

/** More than the lease: the session that was lost may still be putting things back. */
const PATIENCE_SECONDS = 120;

/**
 * Connects anew, waits for the session that was lost, and asks what serves. Not cancellable: it is the way back.
 *
 * @throws ConnectError when the server cannot be reached; ReleaseError when it could not be put right, or does not serve.
 */
export async function settle(
  release: string,
  inputs: Inputs,
  source: Source,
  ports: Pick<Ports, 'connect' | 'clock' | 'reporter' | 'runner' | 'http'>,
): Promise<Settlement> {
  const { runner, reporter, clock } = ports;
  const session = await reconnect(inputs, ports, inputs.leaseSeconds + 60);
  try {
    const guardian = await openGuardian(
      session,
      { ...inputs, dryRun: false },
      source,
      { runner, reporter, clock },
      inputs.leaseSeconds + PATIENCE_SECONDS,
    );
    try {
      const facts = await readFacts(guardian, inputs, source);
      if (!guardian.isLocked) throw new PreflightError(session.where, judgeServer(facts));
      const { current } = facts;
      if (current === release)
        return { kind: 'committed', current, isReady: true, text: `Release ${release} is live.` };
      const serves = current === undefined ? 'no release serves' : `release ${current} serves`;
      const problem = await waitForRestored(
        facts.containers.filter((one) => !one.oneoff && one.state === 'running').map((one) => one.service),
        facts.currentCompose,
        inputs.readyTimeoutSeconds,
        { remote: guardian, session, project: source.project, ports },
      );
      return {
        kind: 'undone',
        current,
        isReady: problem === undefined,
        text:
          problem === undefined
            ? `The interrupted deploy of ${release} was undone: ${serves}.`
            : `The interrupted deploy of ${release} was undone, and ${serves}, but is not ready: ${problem}`,
      };
    } finally {
      await guardian.close();
    }
  } finally {
    await session.close();
  }
}
