/** Puts right what an interrupted session left behind. */
import { ReleaseError } from '../errors';
import { parseJournal } from '../releases/journal';
import { type TransactionContext, undo } from './execute';

/**
 * Carries out a journal that was found on the server. The caller holds the lock.
 *
 * @returns the release that had been on its way.
 * @throws ReleaseError when something could not be undone; SyntaxError when the journal cannot be read.
 */
export async function recover(journalText: string, context: Omit<TransactionContext, 'signal'>): Promise<string> {
  const { reporter, layout } = context;
  const journal = parseJournal(journalText);
  return reporter.group(`Put back what an interrupted deploy (${journal.release}) left behind`, async () => {
    const unrestored = await undo(journal, context);
    if (unrestored.length > 0) {
      throw new ReleaseError(
        `The deploy of ${journal.release}${journal.runUrl === '' ? '' : ` (${journal.runUrl})`} was interrupted, and could not be put back:\n${unrestored.join('\n')}`,
        `Look at the server. The journal is kept (${layout.journal}), and the next session tries again.`,
      );
    }
    return journal.release;
  });
}
