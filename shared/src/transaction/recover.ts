/** Puts right what an interrupted session left behind. */
import { closeJournal } from '../commands/store';
import { ReleaseError } from '../errors';
import { parseJournal } from '../releases/journal';
import type { ServerFacts } from '../server/facts';
import { type TransactionContext, undo } from './execute';

export interface Recovery {
  /** The release that had been on its way. */
  readonly release: string;
  /** `committed`: it had gone live, only the journal was left. */
  readonly verdict: 'undone' | 'committed';
  /** Services that were put back: they may need a while to be ready. */
  readonly restored: readonly string[];
}

/**
 * Ends what a journal on the server tells of: undoes it, unless the release it speaks of had become the current one. The
 * caller holds the lock.
 *
 * @throws ReleaseError when something could not be undone; SyntaxError when the journal cannot be read.
 */
export async function recover(
  { journal: text, current }: Pick<ServerFacts, 'journal' | 'current'>,
  context: Omit<TransactionContext, 'signal'>,
): Promise<Recovery> {
  const { session, reporter, layout } = context;
  const journal = parseJournal(text);
  const { release, runUrl } = journal;
  if (current === release) {
    await session.run(closeJournal(layout, release), { purpose: 'close the journal of a release that is live' });
    return { release, verdict: 'committed', restored: [] };
  }
  return reporter.group(`Put back what an interrupted deploy (${release}) left behind`, async () => {
    const unrestored = await undo(journal, context);
    if (unrestored.length > 0) {
      throw new ReleaseError(
        `The deploy of ${release}${runUrl === '' ? '' : ` (${runUrl})`} was interrupted, and could not be put back:\n${unrestored.join('\n')}`,
        `Look at the server. The journal is kept (${layout.journal}), and the next session tries again.`,
      );
    }
    const restored = journal.undo.flatMap((verb) => (verb.verb === 'restore-services' ? verb.services : []));
    return { release, verdict: 'undone', restored };
  });
}
