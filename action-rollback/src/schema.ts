/** Going back behind a migration: the release's code may not know the schema that there is now. */
import { askSchema, parseSchema, type StoredRelease } from '#shared/commands/stored-release';
import { type Transaction, warn } from '#shared/engine/transaction';
import { CommandError, type PreflightFinding, TimeoutError } from '#shared/errors';
import type { Release } from '#shared/model/release';
import { excerpt } from '#shared/shell/excerpt';
import type { Inputs } from './inputs';

const SHOWN_MIGRATIONS = 20;
const SHOWN_LENGTH = 200;

/** What has been migrated since a release was proven; why that cannot be said; undefined where nobody has asked for it. */
export type Ahead =
  | { readonly kind: 'ahead'; readonly lines: readonly string[] }
  /** Not with the release that is to come back. */
  | { readonly kind: 'unrecorded' }
  | { readonly kind: 'unknown'; readonly problem: string }
  | undefined;

export async function readAhead(
  target: Release,
  { schema }: StoredRelease,
  { facts, guardian, project, ports }: Transaction,
): Promise<Ahead> {
  const question = target.schema ?? facts.releases.find(({ id }) => id === facts.current)?.schema;
  if (question === undefined) return undefined;
  if (schema === undefined) return { kind: 'unrecorded' };
  const then = new Set(schema);
  try {
    const { stdout } = await guardian.run(askSchema(project, question.service, question.command), {
      purpose: 'ask what the schema is',
      timeoutSeconds: 30,
      signal: ports.signal,
    });
    const ahead = parseSchema(stdout).filter((line) => !then.has(line));
    const shown = ahead.slice(0, SHOWN_MIGRATIONS).map((line) => excerpt(line, SHOWN_LENGTH));
    return {
      kind: 'ahead',
      lines: ahead.length > shown.length ? [...shown, `and ${ahead.length - shown.length} more`] : shown,
    };
  } catch (error) {
    if (error instanceof CommandError)
      return { kind: 'unknown', problem: excerpt(error.stderr.trim() || error.message, 300) };
    if (error instanceof TimeoutError) return { kind: 'unknown', problem: error.message };
    throw error;
  }
}

export interface SchemaVerdict {
  readonly findings: readonly PreflightFinding[];
  /** Whether it can be asked again when the release serves. */
  readonly canBeAsked: boolean;
}

export async function judgeSchema(
  target: Release,
  stored: StoredRelease,
  { allowSchemaAhead, restoreBackup }: Inputs,
  transaction: Transaction,
): Promise<SchemaVerdict> {
  // The schema comes back with the data; it can be asked again then.
  if (restoreBackup !== '') return { findings: [], canBeAsked: true };
  const ahead = await readAhead(target, stored, transaction);
  const canBeAsked = ahead?.kind !== 'unknown';
  const message = describeAhead(target, ahead);
  if (message === '') return { findings: [], canBeAsked };
  if (ahead?.kind !== 'unrecorded' && !allowSchemaAhead) {
    const hint = `If that release works with the schema of now (its migrations only added things), set allow-schema-ahead: true. Else ${describeBackup(transaction)}`;
    return { findings: [{ message, hint }], canBeAsked };
  }
  warn(transaction, message);
  return { findings: [], canBeAsked };
}

/** The other way on: with the data of before. */
function describeBackup({ facts }: Transaction): string {
  const backup = facts.releases.find(({ id }) => id === facts.current)?.backup;
  return backup === undefined
    ? 'deploy a release that does, or let its data come back with it (restore-backup: the id of a backup; action-backup lists them).'
    : `let the data come back with it that was there before the deploy of ${facts.current ?? ''}: restore-backup: ${backup} (dry-run: true shows which rows that would lose).`;
}

/** Empty where there is nothing to be said. */
function describeAhead({ id }: Release, ahead: Ahead): string {
  switch (ahead?.kind) {
    case undefined:
      return '';
    case 'unrecorded':
      return `Whether release ${id} suits the schema of now is not known: it was not recorded with it (input schema-state of the deploy).`;
    case 'unknown':
      return `What the schema is cannot be asked, so it may be ahead of release ${id}: ${ahead.problem}`;
    case 'ahead':
      return ahead.lines.length === 0
        ? ''
        : `The schema is ahead of release ${id}, which was made for one without: ${ahead.lines.join(', ')}.`;
  }
}
