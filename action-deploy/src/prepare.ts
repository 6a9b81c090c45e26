/** The release of the workspace: what the server's Compose makes of it, and its images. */
import { parseCurrent, prepareRelease, type Preparation } from '#shared/engine/prepare';
import type { Transaction } from '#shared/engine/transaction';
import { PreflightError } from '#shared/errors';
import type { AskImage } from '#shared/images/ask';
import { judgeServer } from '#shared/server/preflight';
import { describeAdoption, isAdoptable } from '#shared/transaction/adopt';
import { relocate, type Rendering, type Source } from './facts';
import { chooseImages } from './images';
import type { Inputs } from './inputs';

/** @throws PreflightError with all findings at once. */
export async function prepare(
  rendering: Rendering,
  source: Source,
  inputs: Inputs,
  ask: AskImage,
  known: Transaction,
): Promise<Preparation> {
  if (known.facts.docker.kind !== 'ready') throw new PreflightError(known.session.where, judgeServer(known.facts));
  const transaction = { ...known, facts: await readAdoption(known) };
  const { guardian, facts, layout, ports } = transaction;
  const candidate = await relocate(rendering, source, inputs.env, layout, guardian, ports);
  const { images, findings } = await chooseImages(
    candidate.services,
    inputs.refresh,
    facts,
    parseCurrent(transaction),
    ask,
  );
  const names = candidate.services.map((service) => service.name);
  const unknown = inputs.refresh
    .filter((name) => !names.includes(name))
    .map((name) => ({
      message: `Input refresh names ${name}, which is not a service of the Compose file.`,
      hint: `Its services: ${names.join(', ')}.`,
    }));
  const { commit } = ports.runner.context;
  const proposal = {
    candidate,
    images,
    migrations: inputs.migrations,
    schema: inputs.schema,
    runsOnce: true,
    commit,
    findings: [...findings, ...unknown],
  };
  return prepareRelease(proposal, transaction);
}

/** What runs already, and is not in the store: a dry run compares with it, as the deploy that adopts it will. */
async function readAdoption({ project, facts, layout, guardian, ports }: Transaction): Promise<Transaction['facts']> {
  if (!isAdoptable(facts)) return facts;
  const { release, compose } = await describeAdoption(project, facts, layout, guardian, ports.clock, ports.signal);
  return { ...facts, currentCompose: compose, releases: [...facts.releases, release] };
}
