/** A release of the store, rendered again with the environment of what serves: an old one may hold a revoked secret. */
import { posix } from 'node:path';
import { parseRendered, renderStored } from '#shared/commands/render';
import { parseProject, readProject } from '#shared/compose/project';
import { relocateProject } from '#shared/compose/rewrite';
import { mountRouters } from '#shared/engine/candidate';
import type { Candidate } from '#shared/engine/prepare';
import { hideEnv } from '#shared/engine/secrets';
import type { Transaction } from '#shared/engine/transaction';
import { CommandError, PreflightError } from '#shared/errors';
import type { Release } from '#shared/model/release';
import type { StoredRelease } from '#shared/commands/stored-release';
import { listEnvFiles, parseSource, type RenderSource } from '#shared/releases/source';
import { script } from '#shared/shell/render';

/** @throws PreflightError where the release was stored without what it was made from, or Compose refuses it. */
export async function renderAgain(
  target: Release,
  serving: StoredRelease,
  transaction: Transaction,
): Promise<Candidate> {
  const { guardian, project, facts, layout, ports } = transaction;
  hideEnv(serving.env, ports.reporter);
  const folder = `${layout.releases}/${target.id}`;
  const source = await readSource(target, folder, transaction);
  let answer;
  try {
    answer = await guardian.run(
      renderStored(
        {
          project,
          directory: source.directory,
          composeFiles: source.composeFiles,
          envFiles: listEnvFiles(source.hasDotEnv || !serving.env.isEmpty),
        },
        { source: folder, env: `${layout.releases}/${facts.current ?? ''}` },
      ),
      { purpose: `render release ${target.id} with the environment of now`, signal: ports.signal },
    );
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    throw refuse(
      transaction,
      `Docker Compose refuses release ${target.id} with the environment of now: ${error.stderr.trim().slice(0, 500) || error.message}`,
      'Does that release need a variable that the environment of now does not have? With `env: target` it gets its own.',
    );
  }
  const { stagingRoot, rendered } = parseRendered(answer.stdout);
  const { raw: moved, findings } = relocateProject(parseProject(rendered), stagingRoot, (stagedPath) => {
    const shipped = source.mounts[posix.relative(stagingRoot, stagedPath)];
    if (shipped !== undefined) return { path: `${layout.files}/${shipped}`, shipped: true };
    return {
      path: posix.join(layout.project, posix.relative(posix.join(stagingRoot, source.directory), stagedPath)),
      shipped: false,
    };
  });
  const raw = mountRouters(moved, layout);
  return {
    raw,
    services: readProject(raw).services,
    trees: [],
    files: target.files,
    env: serving.env,
    source: { like: target.id },
    findings,
    warnings: [],
  };
}

async function readSource(target: Release, folder: string, transaction: Transaction): Promise<RenderSource> {
  const { guardian, ports } = transaction;
  const { stdout } = await guardian.run(script('[ ! -e "$1/source.json" ] || cat "$1/source.json"', folder), {
    purpose: 'read what the release was made from',
    signal: ports.signal,
  });
  const source = parseSource(stdout);
  if (source === undefined) {
    throw refuse(
      transaction,
      `Release ${target.id} was stored without what it was made from, so it cannot be made again with another environment.`,
      'With `env: target` it comes back with the environment that it had.',
    );
  }
  return source;
}

function refuse({ guardian }: Transaction, message: string, hint: string): PreflightError {
  return new PreflightError(guardian.where, [{ message, hint }]);
}
