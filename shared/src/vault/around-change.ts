/** Backups around a change of releases: one before a deploy, and the data of one together with a rollback. */
import { chooseBackup } from '../backups/choose';
import { swapBack, swapDatabases } from '../commands/postgres';
import type { OpenProject } from '../engine/project';
import { readFacts } from '../engine/request';
import { timed, type Transaction, type TransactionRequest, warn } from '../engine/transaction';
import { BackupError } from '../errors';
import type { Backup, BackupItem } from '../model/backup';
import type { Command } from '../model/command';
import type { RunStep } from '../model/step';
import type { Session } from '../ports';
import { backupFolder, layoutBackups } from '../releases/backup-layout';
import { layoutStore } from '../releases/layout';
import type { ServerFacts } from '../server/facts';
import { checkFiles } from '../commands/backup-store';
import { renderChecksums } from '../backups/manifest';
import { renderCommand, script } from '../shell/render';
import type { DeployPlan } from '../transaction/plan';
import {
  beginRestore,
  compareWithNow,
  describeDifference,
  type Difference,
  endWith,
  recover,
  restoreDatabasesBeside,
  takeBackAfter,
} from './restore';
import { readShelf } from './shelf';
import { requireContainer, selectSources, type Wanted } from './sources';
import { keep, read, sweep } from './take';
import { carryOut, ofChanges, type Vault } from './vault';

/** Nobody gave other ones: those of action-backup. */
const LIMITS = { stepSeconds: 2 * 3600, memoryMegabytes: 1024 };
const COLLAPSE_THRESHOLD = 0.5;

function vaultOf({
  project,
  layout,
  session,
  guardian,
  ports,
}: Pick<Transaction, 'project' | 'layout' | 'session' | 'guardian' | 'ports'>): Vault {
  return ofChanges({
    project,
    layout: layoutBackups(layout),
    session,
    remote: guardian,
    ports,
    limits: LIMITS,
    scratch: project,
  });
}

/**
 * What a restore that was cut off had half done is taken back before anything else is changed: later it would be taken from under the
 * data of the new release.
 *
 * @returns what is known of the server now.
 * @throws BackupError where it cannot be taken back: nothing was changed then.
 */
export async function settleRestore(
  { facts, guardian }: OpenProject,
  request: TransactionRequest,
  session: Session,
  phase: Pick<Transaction, 'ports' | 'report'>,
): Promise<ServerFacts> {
  if (!facts.isRestoring) return facts;
  if (request.inputs.dryRun) {
    warn(phase, 'A restore was cut off on this server: the next change first takes back what that has half done.');
    return facts;
  }
  const { ports } = phase;
  const layout = layoutStore(facts.path);
  await recover(facts, vaultOf({ project: request.project, layout, session, guardian, ports }));
  warn(phase, 'A restore had been cut off: what it had half done was taken back first.');
  return readFacts(guardian, request, ports.signal);
}

/**
 * Takes and proves a backup, before anything is changed.
 *
 * @param wanted nothing for every PostgreSQL and Redis that runs.
 * @returns its id; empty where there is nothing yet that could be lost.
 * @throws BackupError, PreflightError: then the change must not happen.
 */
export async function backUpBefore(wanted: readonly Wanted[], transaction: Transaction): Promise<string> {
  const { facts, ports } = transaction;
  const vault = vaultOf(transaction);
  const found = selectSources(wanted, facts);
  // The store has it already.
  const sources = found.sources.filter(({ kind }) => kind !== 'release');
  for (const warning of found.warnings) warn(transaction, warning);
  if (wanted.length === 0 && sources.length === 0 && !facts.containers.some(({ oneoff }) => !oneoff)) {
    ports.reporter.line('No backup: nothing of the project runs yet.');
    return '';
  }
  if (sources.length === 0 && found.findings.length === 0) {
    throw new BackupError(
      'A backup is wanted before the deploy, and no running service is known as PostgreSQL or Redis by its image.',
      'Say in the input `backup` what is to be backed up, or leave it out. Nothing was changed.',
    );
  }
  return timed(transaction, 'backup', async () => {
    await sweep(vault);
    const { backups } = await readShelf(undefined, vault);
    const options = {
      proves: true,
      recipients: [],
      cipher: undefined,
      offsite: undefined,
      collapseThreshold: COLLAPSE_THRESHOLD,
    };
    const draft = await read({ ...found, sources, warnings: [] }, facts, backups, options, vault);
    const { backup, problem } = await keep(draft, backups, options, vault);
    if (problem !== undefined) throw problem;
    for (const suspicion of backup.suspicions)
      warn(transaction, `The backup before this deploy is suspect: ${suspicion}`);
    ports.reporter.line(`Backup ${backup.id} is ${backup.result}.`);
    return backup.id;
  });
}

/** Data that comes back together with a release. */
export interface DataChange {
  readonly backup: Backup;
  /** What is there now, against the backup: what would be lost. */
  readonly differences: readonly Difference[];
  readonly items: readonly BackupItem[];
}

/**
 * What a rollback would do to the databases of PostgreSQL.
 *
 * @param target id of a backup, or its beginning.
 * @throws BackupError where that is not possible: nothing was changed.
 */
export async function planData(target: string, plan: DeployPlan, transaction: Transaction): Promise<DataChange> {
  const { facts, ports } = transaction;
  const vault = vaultOf(transaction);
  const choice = chooseBackup(target, (await readShelf(undefined, vault)).backups);
  if ('problem' in choice) throw new BackupError(`Input restore-backup: ${choice.problem}`, 'Nothing was changed.');
  const { backup } = choice;
  const items = backup.items.filter(({ kind }) => kind === 'roles' || kind === 'postgres');
  if (backup.result !== 'proven') {
    warn(
      transaction,
      `Backup ${backup.id} is ${backup.result}, and not proven: ${backup.suspicions.join(' ') || 'not all of it was restored and compared.'}`,
    );
  }
  const refuse = (why: string): never => {
    throw new BackupError(
      `Backup ${backup.id} cannot come back together with a release: ${why}.`,
      'Restore it with action-backup first (mode: restore), and roll back with allow-schema-ahead: true then. Nothing was changed.',
    );
  };
  if (backup.encrypted.length > 0) refuse('it is encrypted');
  if (items.length === 0) refuse('it has no database of PostgreSQL');
  if (items.some(({ service }) => service === '')) refuse('it has databases of a server that is reached by a URL');
  for (const service of new Set(items.map((item) => item.service))) {
    const action = plan.services.find((one) => one.service === service)?.action;
    if (action !== 'keep') refuse(`service ${service} would itself be changed by this rollback`);
  }
  await carryOut(
    checkFiles(backupFolder(vault.layout, backup.id), renderChecksums(items)),
    `find the files of backup ${backup.id} undamaged`,
    vault,
  );
  const differences = await compareWithNow(items, facts.containers, vault);
  await ports.reporter.group(`The data of backup ${backup.id} (${backup.created}), against what there is now`, () => {
    for (const difference of differences) ports.reporter.remote(describeDifference(difference));
    if (differences.length === 0) ports.reporter.line('every table has as many rows as in the backup');
    return Promise.resolve();
  });
  return { backup, differences, items };
}

/**
 * Makes the data ready beside what serves.
 *
 * @returns the step of the transaction that puts it into service; undone, the databases have their names and their data again.
 */
export async function prepareData(
  { backup, items }: DataChange,
  release: string,
  transaction: Transaction,
): Promise<RunStep> {
  const { facts, layout, ports } = transaction;
  const vault = vaultOf(transaction);
  return timed(transaction, 'restore', async () => {
    await sweep(vault);
    const folder = backupFolder(vault.layout, backup.id);
    const undo = await beginRestore(items, { files: 'side' }, facts.containers, vault);
    await ports.reporter
      .group(`Restore ${backup.id} beside what serves`, () =>
        restoreDatabasesBeside(items, folder, undo, facts.containers, vault),
      )
      .catch(async (error: unknown) => {
        throw await takeBackAfter(error, undo, facts, vault);
      });
    const targets = undo.databases.map(({ service, user, swaps }) => ({
      target: { container: requireContainer(service, facts.containers), user },
      swaps,
    }));
    const swap = chain(targets.map(({ target, swaps }) => swapDatabases(target, swaps)));
    const takeBack = targets.map(({ target, swaps }) => renderCommand(swapBack(target, swaps))).join(' &&\n');
    for (const { kept } of undo.databases.flatMap(({ swaps }) => swaps)) {
      ports.reporter.remote(`What is in service now will be kept as the database ${kept}.`);
    }
    const file = `${layout.releases}/${release}/take-back-data`;
    const { words } = endWith(swap, vault.layout.restoring);
    return {
      kind: 'run',
      id: 'swap-data',
      title: `put the data of backup ${backup.id} into service`,
      do: {
        ...script(
          // On the disk before the swap begins: without it nobody would know the way back.
          'umask 077; cat >"$1.new" && sync "$1.new" && mv "$1.new" "$1" && sync "${1%/*}" || exit; shift; exec "$@" </dev/null',
          file,
          ...words,
        ),
        stdin: takeBack,
      },
      undo: [{ verb: 'take-back-data', release }],
      timeoutSeconds: 120,
    };
  });
}

/** One after the other, each only when the one before went well. */
function chain(commands: readonly Command[]): Command {
  return script(commands.map(renderCommand).join(' &&\n'));
}
