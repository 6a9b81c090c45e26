/** Puts right what an interrupted session left behind. */
import { closeJournal, guardStep } from '../commands/store';
import { ReleaseError } from '../errors';
import { type Journal, parseJournal } from '../releases/journal';
import type { StoreLayout } from '../releases/layout';
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
  const { session, reporter, layout, target, token } = context;
  const journal = readJournal(text, context);
  const { release, runUrl } = journal;
  if (journal.project !== target.project) {
    throw new ReleaseError(
      `An interrupted deploy of another project, ${journal.project}, left its journal in ${layout.project}.`,
      `Deploy ${journal.project} again first; and give each project a folder of its own (input path).`,
    );
  }
  if (current === release) {
    await session.run(guardStep(layout, token, closeJournal(layout, release)), {
      purpose: 'close the journal of a release that is live',
    });
    return { release, verdict: 'committed', restored: [] };
  }
  return reporter.group(`Put back what an interrupted deploy (${release}) left behind`, async () => {
    const unrestored = await undo(journal, context);
    if (unrestored.length > 0) {
      throw new ReleaseError(
        `The deploy of ${release}${runUrl === '' ? '' : ` (${runUrl})`} was interrupted, and could not be put back:\n${unrestored.join('\n')}`,
        `Look at the server. The next session tries again. If all is well there, or you have put it right by hand, make an end of it: ${forget(layout)}`,
      );
    }
    const restored = journal.undo.flatMap((verb) => (verb.verb === 'restore-services' ? verb.services : []));
    return { release, verdict: 'undone', restored };
  });
}

function readJournal(text: string, { session, layout }: Omit<TransactionContext, 'signal'>): Journal {
  try {
    return parseJournal(text);
  } catch (cause) {
    throw new ReleaseError(
      `A deploy was interrupted at ${session.where}, and its journal ${layout.journal} cannot be read: ${cause instanceof Error ? cause.message : ''}.`,
      `Compare \`docker compose ps\` in ${layout.project} with the release in ${layout.current}. If all is well, make an end of it: ${forget(layout)}`,
      { cause },
    );
  }
}

/** What a person types when nothing is left to be undone. */
function forget({ journal }: StoreLayout): string {
  return `mv ${journal} ${journal}.ended`;
}
