/** Going back behind a migration: the release's code may not know the schema that there is now. */
import { askSchema, parseSchema } from '#shared/commands/stored-release';
import { readStored } from '#shared/engine/stored';
import { type Transaction, warn } from '#shared/engine/transaction';
import { CommandError, type PreflightFinding, TimeoutError } from '#shared/errors';
import type { Release } from '#shared/model/release';
import { excerpt } from '#shared/shell/excerpt';
import type { Inputs } from './inputs';

const SHOWN_MIGRATIONS = 20;
const SHOWN_LENGTH = 200;

/** What has been migrated since a release was proven; why that cannot be said; undefined where nobody has asked for it. */
export type Ahead = { readonly lines: readonly string[] } | { readonly problem: string } | undefined;

export async function readAhead(target: Release, transaction: Transaction): Promise<Ahead> {
  const { facts, guardian, layout, project, ports } = transaction;
  const question = target.schema ?? facts.releases.find(({ id }) => id === facts.current)?.schema;
  if (question === undefined) return undefined;
  const { schema } = await readStored(target.id, layout, guardian, ports.reporter, ports.signal);
  if (schema === undefined) {
    return { problem: `it was not recorded with the release (input schema-state of the deploy)` };
  }
  const then = new Set(schema);
  try {
    const { stdout } = await guardian.run(askSchema(project, question.service, question.command), {
      purpose: 'ask what the schema is',
      timeoutSeconds: 30,
      signal: ports.signal,
    });
    const ahead = parseSchema(stdout).filter((line) => !then.has(line));
    const shown = ahead.slice(0, SHOWN_MIGRATIONS).map((line) => excerpt(line, SHOWN_LENGTH));
    return { lines: ahead.length > shown.length ? [...shown, `and ${ahead.length - shown.length} more`] : shown };
  } catch (error) {
    if (error instanceof CommandError) return { problem: excerpt(error.stderr.trim() || error.message, 300) };
    if (error instanceof TimeoutError) return { problem: error.message };
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
  { allowSchemaAhead }: Inputs,
  transaction: Transaction,
): Promise<SchemaVerdict> {
  const ahead = await readAhead(target, transaction);
  if (ahead === undefined) return { findings: [], canBeAsked: true };
  const hint =
    'If that release works with the schema of now (its migrations only added things), set allow-schema-ahead: true. Else deploy a release that does.';
  const isUnrecorded = 'problem' in ahead && ahead.problem.startsWith('it was not recorded');
  if (isUnrecorded) {
    warn(transaction, `Whether release ${target.id} suits the schema of now is not known: ${ahead.problem}.`);
    return { findings: [], canBeAsked: true };
  }
  const canBeAsked = !('problem' in ahead);
  const message =
    'problem' in ahead
      ? `What the schema is cannot be asked, so it may be ahead of release ${target.id}: ${ahead.problem}`
      : ahead.lines.length === 0
        ? ''
        : `The schema is ahead of release ${target.id}, which was made for one without: ${ahead.lines.join(', ')}.`;
  if (message === '') return { findings: [], canBeAsked };
  if (!allowSchemaAhead) return { findings: [{ message, hint }], canBeAsked };
  warn(transaction, message);
  return { findings: [], canBeAsked };
}
