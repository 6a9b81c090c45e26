/** Whoever starts a rollback by hand says so twice. Pure. */
import { InputError } from '#shared/errors';
import { quoteValue } from '#shared/inputs/values';
import { isReleaseId } from '#shared/releases/layout';

export interface Wanted {
  /** Started with the button, not by another event. */
  readonly byHand: boolean;
  readonly project: string;
  readonly wanted: string;
  readonly dryRun: boolean;
}

/** @throws InputError that says what to type. */
export function judgeConfirmation(confirm: string, { byHand, project, wanted, dryRun }: Wanted): void {
  if (confirm === project || (confirm === wanted && isReleaseId(wanted))) return;
  if (confirm === '' && (!byHand || dryRun)) return;
  throw new InputError([
    {
      input: 'confirm',
      message: `${confirm === '' ? 'is empty' : `is ${quoteValue(confirm)}`}: to roll back to ${wanted}, type the project's name, ${quoteValue(project)}, there${isReleaseId(wanted) ? ` (or ${quoteValue(wanted)})` : ''}. Nothing was changed.`,
    },
  ]);
}
