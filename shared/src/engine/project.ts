/** A session on one project of a server: its lock, what an interrupted session left, its facts. */
import { PreflightError } from '../errors';
import type { Guardian } from '../guardian/client';
import { readJournalRelease } from '../guardian/journal';
import type { Session } from '../ports';
import type { ServerFacts } from '../server/facts';
import { judgeServer } from '../server/preflight';
import { type Opening, openGuardian, readFacts } from './request';
import { type Phase, type SessionRequest, timed, warn } from './transaction';

/** A project on a server that is ready for it. */
export interface OpenProject {
  readonly guardian: Guardian;
  readonly facts: ServerFacts;
}

/**
 * Works on a project while nobody else does.
 *
 * @throws PreflightError with all findings where the server is not ready; LockHeldError, ConnectError, CancelledError.
 */
export async function withProject<T>(
  session: Session,
  request: SessionRequest,
  opening: Omit<Opening, 'onStart'>,
  phase: Phase,
  work: (project: OpenProject) => Promise<T>,
): Promise<T> {
  const { ports } = phase;
  // The question is sent with the wish for the lock: that saves a round trip.
  const asked = Promise.withResolvers<ServerFacts>();
  asked.promise.catch(() => undefined);
  const onStart: Opening['onStart'] = (remote) => {
    readFacts(remote, request, ports.signal).then(asked.resolve, asked.reject);
  };
  const guardian = await timed(phase, 'lock', () => openGuardian(session, request, { ...opening, onStart }, ports));
  try {
    if (guardian.recovery !== undefined) {
      const { release, verdict } = guardian.recovery;
      warn(
        phase,
        `What was to bring release ${release} had been interrupted: ${verdict === 'undone' ? 'it was undone' : 'it had gone live, and was cleaned up after'}.`,
      );
    }
    const facts = await timed(phase, 'facts', () => asked.promise);
    const findings = judgeServer(facts);
    if (findings.length === 0 && !guardian.isLocked && opening.mode !== 'look') {
      findings.push({
        message: `The project's lock cannot be taken: ${guardian.problem}`,
        hint: `Look at ${facts.path}/.slipway on the server.`,
      });
    }
    if (findings.length > 0) throw new PreflightError(session.where, findings);
    if (opening.mode === 'look' && facts.journal !== '') {
      const release = readJournalRelease(facts.journal) ?? '';
      warn(
        phase,
        `Release ${release} is on its way on this server, or was interrupted there: then the next session first puts that right.`,
      );
    }
    return await work({ guardian, facts });
  } finally {
    await guardian.close();
  }
}
