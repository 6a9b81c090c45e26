/** After a connection was lost: what became of the transaction, from the server's own record. */
import { PreflightError } from '../errors';
import type { Ports } from '../ports';
import { judgeServer } from '../server/preflight';
import { waitForRestored } from '../transaction/verify';
import { layoutStore } from '../releases/layout';
import { hideStoredEnv } from './stored';
import { openGuardian, readFacts, reconnect } from './request';
import type { TransactionRequest } from './transaction';

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
  request: TransactionRequest,
  ports: Pick<Ports, 'connect' | 'clock' | 'reporter' | 'runner' | 'http'>,
): Promise<Settlement> {
  const { runner, reporter, clock } = ports;
  const { inputs, project, task } = request;
  const session = await reconnect(request, ports, inputs.leaseSeconds + 60);
  try {
    const guardian = await openGuardian(
      session,
      request,
      { mode: 'change', waitSeconds: inputs.leaseSeconds + PATIENCE_SECONDS },
      { runner, reporter, clock },
    );
    try {
      const facts = await readFacts(guardian, request);
      if (!guardian.isLocked) throw new PreflightError(session.where, judgeServer(facts));
      const { current } = facts;
      await hideStoredEnv(current, layoutStore(facts.path), guardian, reporter);
      // An undo takes it out of the store; and what went live may have been followed by another one since.
      if (facts.releases.some(({ id }) => id === release))
        return {
          kind: 'committed',
          current,
          isReady: true,
          text:
            current === release
              ? `Release ${release} is live.`
              : `Release ${release} went live; ${current ?? 'none'} has followed it since.`,
        };
      const serves = current === undefined ? 'no release serves' : `release ${current} serves`;
      const problem = await waitForRestored(
        facts.containers.filter((one) => !one.oneoff && one.state === 'running').map((one) => one.service),
        facts.currentCompose,
        inputs.readyTimeoutSeconds,
        { remote: guardian, session, project, ports },
      );
      return {
        kind: 'undone',
        current,
        isReady: problem === undefined,
        text:
          problem === undefined
            ? `The interrupted ${task} (release ${release}) was undone: ${serves}.`
            : `The interrupted ${task} (release ${release}) was undone, and ${serves}, but is not ready: ${problem}`,
      };
    } finally {
      await guardian.close();
    }
  } finally {
    await session.close();
  }
}
