/** The release of the store as one that may go live again: its files, its environment, its images, its data. */
import type { StoredRelease } from '#shared/commands/stored-release';
import { type Service, readProject } from '#shared/compose/project';
import { listImages } from '#shared/engine/images';
import { type Candidate, parseStored, prepareRelease, type Preparation } from '#shared/engine/prepare';
import { hideStoredEnv, readStored } from '#shared/engine/stored';
import { type Transaction, warn } from '#shared/engine/transaction';
import { type PreflightFinding, ServerAnswerError } from '#shared/errors';
import { readMember, readText } from '#shared/json';
import type { Release } from '#shared/model/release';
import { script } from '#shared/shell/render';
import { isStateful } from '#shared/strategies/stateful';
import { renderAgain } from './environment';
import type { Inputs } from './inputs';
import { judgeSchema } from './schema';

/** @throws PreflightError with all that stands in the way. */
export async function prepare(target: Release, inputs: Inputs, transaction: Transaction): Promise<Preparation> {
  const { facts, layout, guardian, ports } = transaction;
  // Both, whatever is made of them: from here on the secrets of both are hidden.
  const [stored, serving] = await Promise.all([
    readStored(target.id, layout, guardian, ports.reporter, ports.signal),
    hideStoredEnv(facts.current, layout, guardian, ports.reporter),
  ]);
  const candidate =
    inputs.env === 'target'
      ? makeCandidate(target, stored, transaction)
      : await renderAgain(target, stored, serving, transaction);
  const schema = await judgeSchema(target, stored, inputs, transaction);
  warnOfData(target, candidate.services, transaction);
  return prepareRelease(
    {
      candidate,
      images: listImages(target, facts.images),
      migrations: [],
      schema: schema.canBeAsked ? target.schema : undefined,
      runsOnce: false,
      commit: target.commit,
      findings: [
        ...schema.findings,
        ...judgeImages(target),
        ...judgeFiles(target, transaction),
        ...(await judgeData(candidate, transaction)),
      ],
    },
    transaction,
  );
}

/** As it was, byte for byte. */
function makeCandidate(target: Release, { compose, env }: StoredRelease, { guardian }: Transaction): Candidate {
  const raw = parseStored(compose, target.id, guardian.where);
  return {
    raw,
    services: readProject(raw).services,
    trees: [],
    files: target.files,
    env,
    source: { like: target.id },
    text: compose,
    findings: [],
    warnings: [],
  };
}

/** A project that was found running may build its images where it was made. */
function judgeImages(target: Release): PreflightFinding[] {
  return Object.entries(target.services)
    .filter(([, { image }]) => image === '')
    .map(([service]) => ({
      message: `Release ${target.id} was found running, and its service ${service} has no image's name: it was built on the server.`,
      hint: 'Choose another release, or start that one by hand with its own Compose file.',
    }));
}

function judgeFiles(target: Release, { facts }: Transaction): PreflightFinding[] {
  return target.files
    .filter((address) => !facts.storedFiles.includes(address))
    .map((address) => ({
      message: `Files of release ${target.id} are gone from the store: ${address}.`,
      hint: 'Choose another release, or deploy its commit again.',
    }));
}

/** What holds its data must be there: Docker would make an empty one, and all would look well. */
async function judgeData({ raw, services }: Candidate, transaction: Transaction): Promise<PreflightFinding[]> {
  const { facts, guardian, layout, project, ports } = transaction;
  const mounts = services.flatMap((service) => service.mounts.map((mount) => ({ service: service.name, ...mount })));
  const volumes = mounts
    .filter(({ type, source }) => type === 'volume' && source !== '')
    // Compose itself says when one of somebody else is not there.
    .filter(({ source }) => readMember(readMember(readMember(raw, 'volumes'), source), 'external') !== true)
    .map(({ service, source }) => ({
      service,
      source,
      name: readText(raw, 'volumes', source, 'name') || `${project}_${source}`,
    }))
    .filter(({ name }) => !facts.volumes.includes(name))
    .map(({ service, source, name }) => ({
      message: `The volume ${name} of service ${service} is not there any more: with a new one it would start empty.`,
      hint: `Put its data back first; or, if it may start empty, make it: docker volume create --label com.docker.compose.project=${project} --label com.docker.compose.volume=${source} ${name}`,
    }));
  const binds = mounts.filter(
    ({ type, source }) =>
      type === 'bind' && source.startsWith(`${layout.project}/`) && !source.startsWith(`${layout.store}/`),
  );
  if (binds.length === 0) return volumes;
  const { stdout } = await guardian.run(
    script('for p; do if [ -e "$p" ]; then echo 1; else echo 0; fi; done', ...binds.map(({ source }) => source)),
    { purpose: 'look for mounted folders', signal: ports.signal },
  );
  const there = stdout.split('\n');
  return [
    ...volumes,
    ...binds
      .filter((_, index) => there[index] !== '1')
      .map(({ service, source }) => ({
        message: `${source}, which service ${service} mounts, is not there any more: Docker would make an empty folder.`,
        hint: 'Put it back first; or, if it may be empty, make it.',
      })),
  ];
}

/** Containers go back, data does not: people should know where that may hurt. */
function warnOfData(target: Release, services: readonly Service[], transaction: Transaction): void {
  const { facts } = transaction;
  const now = facts.currentCompose === '' ? [] : readCurrent(transaction);
  for (const service of services.filter(isStateful)) {
    const serving = now.find(({ name }) => name === service.name);
    const image = facts.releases.find(({ id }) => id === facts.current)?.services[service.name]?.reference;
    const before = target.services[service.name]?.reference;
    if (image !== undefined && before !== undefined && image !== before) {
      warn(
        transaction,
        `Service ${service.name} has data, and goes from ${image} back to ${before}: an older version may not read what the newer one has written.`,
      );
    }
    if (serving !== undefined && dataOf(serving) !== dataOf(service)) {
      warn(
        transaction,
        `Service ${service.name} goes back to other volumes than it has now: what was written since is not in them.`,
      );
    }
  }
}

/** Named volumes alone: shipped files have a new path with each change. */
const dataOf = ({ mounts }: Service): string =>
  mounts
    .filter(({ type }) => type === 'volume')
    .map(({ source }) => source)
    .sort()
    .join(' ');

function readCurrent({ facts, guardian }: Transaction): readonly Service[] {
  try {
    return readProject(parseStored(facts.currentCompose, facts.current ?? '', guardian.where)).services;
  } catch (error) {
    if (error instanceof ServerAnswerError) return [];
    throw error;
  }
}
