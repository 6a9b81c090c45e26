/** The release of the store as one that may go live again: its files, its environment, its images, its schema. */
import { randomBytes } from 'node:crypto';
import {
  askSchema,
  parseSchema,
  parseStoredRelease,
  readStoredRelease,
  type StoredRelease,
} from '#shared/commands/stored-release';
import { isObject, readProject } from '#shared/compose/project';
import { parseYaml } from '#shared/compose/yaml';
import { listImages } from '#shared/engine/images';
import { type Candidate, prepareRelease, type Preparation } from '#shared/engine/prepare';
import { hideEnv } from '#shared/engine/secrets';
import { type Transaction, warn } from '#shared/engine/transaction';
import { CommandError, ServerAnswerError, type PreflightFinding } from '#shared/errors';
import type { Release } from '#shared/model/release';
import { renderAgain } from './environment';
import type { Inputs } from './inputs';

/** @throws PreflightError with all that stands in the way. */
export async function prepare(target: Release, inputs: Inputs, transaction: Transaction): Promise<Preparation> {
  const { facts } = transaction;
  const stored = await readStored(target.id, transaction);
  // What its containers say in their logs may hold what was secret then.
  hideEnv(stored.env, transaction.ports.reporter);
  const candidate =
    inputs.env === 'target'
      ? makeCandidate(target, stored, transaction)
      : await renderAgain(target, await readStored(facts.current ?? '', transaction), transaction);
  return prepareRelease(
    {
      candidate,
      images: listImages(target, facts.images),
      migrations: [],
      schema: target.schema,
      commit: target.commit,
      findings: await judgeSchema(target, stored, inputs, transaction),
    },
    transaction,
  );
}

async function readStored(id: string, { guardian, layout, ports }: Transaction): Promise<StoredRelease> {
  const token = `slipway-${randomBytes(16).toString('hex')}`;
  const { stdout } = await guardian.run(readStoredRelease(token, layout, id), {
    purpose: `read release ${id} in the store`,
    signal: ports.signal,
  });
  try {
    return parseStoredRelease(stdout, token);
  } catch (cause) {
    if (!(cause instanceof SyntaxError)) throw cause;
    throw new ServerAnswerError(
      `Release ${id} cannot be read in the store at ${guardian.where}: ${cause.message}.`,
      `Nothing was changed. Choose another release, or look at ${layout.releases}/${id} on the server.`,
      { cause },
    );
  }
}

/** As it was, byte for byte. */
function makeCandidate(target: Release, { compose, env }: StoredRelease, { guardian, facts }: Transaction): Candidate {
  const raw = parseYaml(compose);
  if (!isObject(raw)) {
    throw new ServerAnswerError(
      `The Compose file of release ${target.id} at ${guardian.where} is none.`,
      'Nothing was changed. Choose another release.',
    );
  }
  const gone = target.files.filter((address) => !facts.storedFiles.includes(address));
  return {
    raw,
    services: readProject(raw).services,
    trees: [],
    files: target.files,
    env,
    source: { like: target.id },
    text: compose,
    findings: gone.map((address) => ({
      message: `The release's files ${address.slice(0, 12)}... are gone from the store.`,
      hint: 'Choose another release, or deploy its commit again.',
    })),
    warnings: [],
  };
}

const SHOWN_MIGRATIONS = 20;

/** Going back behind a migration: the release's code may not know the schema that there is now. */
async function judgeSchema(
  target: Release,
  { schema }: StoredRelease,
  { allowSchemaAhead }: Inputs,
  transaction: Transaction,
): Promise<PreflightFinding[]> {
  const { facts } = transaction;
  const question = target.schema ?? facts.releases.find(({ id }) => id === facts.current)?.schema;
  if (question === undefined) return [];
  if (schema === undefined) {
    warn(
      transaction,
      `Release ${target.id} did not record what its schema was (input schema-state of the deploy): whether it suits the schema of now is not known.`,
    );
    return [];
  }
  const waysOn =
    'If that release works with the schema of now (its migrations only added things), set allow-schema-ahead: true. Else deploy a release that does.';
  const now = await readSchema(question, transaction);
  if ('problem' in now) {
    if (allowSchemaAhead) {
      warn(transaction, `What the schema is cannot be asked: ${now.problem}`);
      return [];
    }
    return [
      {
        message: `What the schema is cannot be asked, so it may be ahead of release ${target.id}: ${now.problem}`,
        hint: waysOn,
      },
    ];
  }
  const ahead = now.lines.filter((line) => !schema.includes(line));
  if (ahead.length === 0) return [];
  const list = [
    ...ahead.slice(0, SHOWN_MIGRATIONS),
    ...(ahead.length > SHOWN_MIGRATIONS ? [`and ${ahead.length - SHOWN_MIGRATIONS} more`] : []),
  ];
  const message = `The schema is ahead of release ${target.id}, which was made for one without: ${list.join(', ')}.`;
  if (allowSchemaAhead) {
    warn(transaction, message);
    return [];
  }
  return [{ message, hint: waysOn }];
}

async function readSchema(
  { service, command }: NonNullable<Release['schema']>,
  { guardian, project, ports }: Transaction,
): Promise<{ readonly lines: readonly string[] } | { readonly problem: string }> {
  try {
    const { stdout } = await guardian.run(askSchema(project, service, command), {
      purpose: 'ask what the schema is',
      timeoutSeconds: 60,
      signal: ports.signal,
    });
    return { lines: parseSchema(stdout) };
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    return { problem: error.stderr.trim().slice(0, 300) || error.message };
  }
}
