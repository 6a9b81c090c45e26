/** A release of the store, rendered again with the environment of what serves: an old one may hold a revoked secret. */
import { posix } from 'node:path';
import { parseEnv } from 'node:util';
import { parseComposeWarnings, parseRendered, renderStored } from '#shared/commands/render';
import type { StoredRelease } from '#shared/commands/stored-release';
import { parseProject, readProject } from '#shared/compose/project';
import { relocateProject } from '#shared/compose/rewrite';
import { mountRouters } from '#shared/engine/candidate';
import type { Candidate } from '#shared/engine/prepare';
import type { Transaction } from '#shared/engine/transaction';
import { CommandError, type PreflightFinding, PreflightError } from '#shared/errors';
import type { Release } from '#shared/model/release';
import { listEnvFiles, parseSource, type RenderSource } from '#shared/releases/source';
import { script } from '#shared/shell/render';

const WITH_ITS_OWN = 'With `env: target` it comes back with the environment that it had.';

/** @throws PreflightError where that cannot be had wholly, or Compose refuses it. */
export async function renderAgain(
  target: Release,
  stored: StoredRelease,
  serving: StoredRelease | undefined,
  transaction: Transaction,
): Promise<Candidate> {
  const { guardian, project, facts, layout, ports } = transaction;
  const folderOf = (id: string): string => `${layout.releases}/${id}`;
  const source = await readSource(target.id, transaction);
  const servingSource = await readSource(facts.current ?? '', transaction);
  if (serving === undefined || source === undefined || servingSource === undefined) {
    const id = source === undefined ? target.id : (facts.current ?? '');
    throw refuse(
      transaction,
      `Release ${id} was stored without what it was made from, so \`env: current\` cannot be had.`,
      WITH_ITS_OWN,
    );
  }
  // It is among the shipped files then, with everything else that is in it.
  if (source.hasDotEnv || servingSource.hasDotEnv) {
    throw refuse(
      transaction,
      `Release ${source.hasDotEnv ? target.id : (facts.current ?? '')} has its .env from the input files of the deploy, not from env: \`env: current\` cannot tell its secrets from its settings.`,
      WITH_ITS_OWN,
    );
  }
  let answer;
  try {
    answer = await guardian.run(
      renderStored(
        {
          project,
          directory: source.directory,
          composeFiles: source.composeFiles,
          envFiles: listEnvFiles(!serving.env.isEmpty),
        },
        { source: folderOf(target.id), env: folderOf(facts.current ?? '') },
      ),
      { purpose: `render release ${target.id} with the environment of now`, signal: ports.signal },
    );
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    throw refuse(
      transaction,
      `Docker Compose refuses release ${target.id} with the environment of now: ${error.stderr.trim().slice(0, 500) || error.message}`,
      `Does that release need a variable that the environment of now does not have? ${WITH_ITS_OWN}`,
    );
  }
  const { stagingRoot, rendered } = parseRendered(answer.stdout);
  const { raw: moved, findings } = relocateProject(parseProject(rendered), stagingRoot, (stagedPath) => {
    const shipped = source.mounts[posix.relative(stagingRoot, stagedPath)];
    if (shipped !== undefined) return { path: `${layout.files}/${shipped}`, shipped: true };
    const projectPath = posix.relative(posix.join(stagingRoot, source.directory), stagedPath);
    return { path: posix.join(layout.project, projectPath), shipped: false };
  });
  const raw = mountRouters(moved, layout);
  const { services } = readProject(raw);
  const remarks = parseComposeWarnings(answer.stderr);
  return {
    raw,
    services,
    trees: [],
    files: target.files,
    env: serving.env,
    source: { like: target.id },
    findings: [
      ...findings,
      ...judgeServices(
        target,
        services.map(({ name }) => name),
      ),
      ...judgeVariables(target, stored, remarks),
    ],
    warnings: remarks.map((message) => `Docker Compose: ${message}`),
  };
}

/** Profiles may come from the environment: then it is another set of services, of which the release knows no images. */
function judgeServices(target: Release, names: readonly string[]): PreflightFinding[] {
  const [then, now] = [Object.keys(target.services).sort().join(', '), [...names].sort().join(', ')];
  if (then === now) return [];
  return [
    {
      message: `With the environment of now, release ${target.id} would have the services ${now}, and it had ${then}.`,
      hint: WITH_ITS_OWN,
    },
  ];
}

/** Compose makes an empty text of a variable that is not set, and only says so: of a secret that would be a bad surprise. */
function judgeVariables(target: Release, { env }: StoredRelease, remarks: readonly string[]): PreflightFinding[] {
  const had = Object.keys(parseEnv(env.reveal()));
  return remarks.flatMap((remark) => {
    const name = /The \\?"(\w+)\\?" variable is not set/.exec(remark)?.[1] ?? '';
    if (!had.includes(name)) return [];
    return [
      {
        message: `Release ${target.id} had the variable ${name}, and the environment of now does not have it: it would be empty.`,
        hint: WITH_ITS_OWN,
      },
    ];
  });
}

async function readSource(id: string, { guardian, layout, ports }: Transaction): Promise<RenderSource | undefined> {
  const { stdout } = await guardian.run(
    script('[ ! -e "$1/source.json" ] || cat "$1/source.json"', `${layout.releases}/${id}`),
    { purpose: 'read what a release was made from', signal: ports.signal },
  );
  return parseSource(stdout);
}

function refuse({ guardian }: Transaction, message: string, hint: string): PreflightError {
  return new PreflightError(guardian.where, [{ message, hint }]);
}
