/**
 * One backup: read under the project's lock, then proven, sealed, copied and accepted without it. So a deploy waits for the reading alone.
 */
import { randomBytes } from 'node:crypto';
import { judgeCollapse } from '../backups/anomaly';
import { GUIDE_FILE, MANIFEST_FILE, renderManifest } from '../backups/manifest';
import { renderRestoreGuide } from '../backups/restore-guide';
import { removeScratch } from '../commands/backup-script';
import { acceptBackup, beginBackup, dropPartial, sweepBackups, writeFile } from '../commands/backup-store';
import { BackupError, PreflightError, SlipwayError, TimeoutError } from '../errors';
import { type Backup, BACKUP_VERSION, type BackupItem, judgeResult, makeBackupId } from '../model/backup';
import type { Cipher } from '../ports';
import type { ContainerState } from '../probes/container';
import { partialFolder } from '../releases/backup-layout';
import type { ServerFacts } from '../server/facts';
import { dumpAll } from './dump';
import { describeScope, judgeRoom, listJobs } from './jobs';
import { type Offsite, publish, storeAll } from './offsite';
import { proveAll } from './prove';
import { sealAll } from './seal';
import type { Selection } from './sources';
import { carryOut, isDamage, type Vault } from './vault';

export interface TakeOptions {
  /** Restore and compare everything that was read. */
  readonly proves: boolean;
  /** age's public keys; none: it stays as it is. */
  readonly recipients: readonly string[];
  readonly cipher: Cipher | undefined;
  readonly offsite: Offsite | undefined;
  /** The part of the data that may be gone since the last proven backup, from 0 to 1. */
  readonly collapseThreshold: number;
}

/** What was read. */
export interface Draft {
  readonly id: string;
  readonly created: Date;
  readonly release: string;
  readonly scope: readonly string[];
  readonly items: readonly BackupItem[];
  readonly containers: readonly ContainerState[];
}

export interface Taken {
  readonly backup: Backup;
  /** It is on the server, and yet not all went well. */
  readonly problem: Error | undefined;
}

/**
 * Removes what killed sessions of this vault's kind have left: plain data, maybe.
 *
 * @param vault of who has the lock that they had.
 */
export async function sweep(vault: Vault): Promise<void> {
  const [{ stdout }] = await Promise.all([
    carryOut(sweepBackups(vault.layout), 'remove what was left half-way', vault),
    carryOut(removeScratch(vault.scratch), 'remove scratch containers that were left', vault),
  ]);
  const left = stdout.split('\n').filter((name) => name !== '');
  if (left.length > 0) vault.ports.reporter.remote(`Removed what an interrupted run had left: ${left.join(', ')}`);
}

/**
 * @param vault whose commands have the project's lock.
 * @throws PreflightError with all findings; BackupError. Nothing is left then.
 */
export async function read(
  selection: Selection,
  facts: ServerFacts,
  history: readonly Backup[],
  options: Pick<TakeOptions, 'proves' | 'recipients'>,
  vault: Vault,
): Promise<Draft> {
  const { clock, reporter } = vault.ports;
  if (selection.findings.length > 0) throw new PreflightError(vault.session.where, selection.findings, 'backup');
  const created = clock.now();
  const id = makeBackupId(created, randomBytes(6));
  const jobs = await listJobs(selection.sources, vault);
  const room = judgeRoom(jobs, history, facts, { isSealed: options.recipients.length > 0, isProven: options.proves });
  if (room.length > 0) throw new PreflightError(vault.session.where, room, 'backup');
  await carryOut(beginBackup(vault.layout, id), 'make a folder for the backup', vault);
  return dropOnFailure(id, vault, async () => {
    const folder = partialFolder(vault.layout, id);
    const items = await reporter.group(`Back up ${vault.project} (${id})`, () => dumpAll(jobs, folder, vault));
    const { containers, current = '' } = facts;
    return { id, created, release: current, scope: describeScope(selection.sources), items, containers };
  });
}

/**
 * From what was read to a backup that readers see.
 *
 * @throws BackupError where it cannot be kept: nothing is left of it then.
 */
export async function keep(
  draft: Draft,
  history: readonly Backup[],
  options: TakeOptions,
  vault: Vault,
): Promise<Taken> {
  const { id, created } = draft;
  const { reporter, clock, runner } = vault.ports;
  const folder = partialFolder(vault.layout, id);
  return dropOnFailure(id, vault, async () => {
    let problem: Error | undefined;
    let items = draft.items;
    if (options.proves) {
      try {
        items = await reporter.group('Prove it: restore into scratch containers, and compare', () =>
          proveAll(items, folder, draft.containers, vault),
        );
      } catch (error) {
        // What is damaged is no backup. What could not be tried is one, and nobody calls it proven.
        if (vault.ports.signal.aborted || isDamage(error)) throw error;
        if (!(error instanceof BackupError || error instanceof TimeoutError)) throw error;
        problem = new BackupError(
          `The backup could not be proven. ${error.message}`,
          `It is kept as ${id}, as one that is taken and not proven.`,
        );
      }
    }
    const describe = (
      state: readonly BackupItem[],
      encrypted: readonly string[],
      suspicions: readonly string[],
    ): Backup => ({
      version: BACKUP_VERSION,
      id,
      project: vault.project,
      server: vault.session.where,
      created: `${created.toISOString().slice(0, 19)}Z`,
      release: draft.release,
      actor: runner.context.actor,
      runUrl: runner.context.runUrl,
      seconds: Math.round((clock.now().getTime() - created.getTime()) / 100) / 10,
      result: judgeResult(state, suspicions),
      suspicions,
      encrypted,
      scope: draft.scope,
      items: state,
    });
    const suspicions = judgeCollapse(describe(items, [], []), history, options.collapseThreshold);
    if (options.recipients.length > 0 && options.cipher !== undefined) {
      const { cipher, recipients } = options;
      items = await reporter.group('Encrypt it', () => sealAll(items, folder, recipients, cipher, vault));
    }
    const { offsite } = options;
    let isOffsite = false;
    if (offsite !== undefined) {
      try {
        items = await reporter.group(`Copy it to ${offsite.store.where}`, () =>
          storeAll(items, id, folder, offsite, vault),
        );
        isOffsite = true;
      } catch (error) {
        if (vault.ports.signal.aborted || !(error instanceof SlipwayError)) throw error;
        problem ??= describeOffsiteFailure(error, id);
      }
    }
    const backup = describe(items, options.recipients, suspicions);
    const [guide, manifest] = [renderRestoreGuide(backup), renderManifest(backup)];
    await carryOut(writeFile(`${folder}/${GUIDE_FILE}`, guide), 'write the instructions of the backup', vault);
    await carryOut(writeFile(`${folder}/${MANIFEST_FILE}`, manifest), 'write the manifest of the backup', vault);
    await carryOut(acceptBackup(vault.layout, id), 'give the backup its name', vault);
    if (offsite !== undefined && isOffsite) {
      try {
        await publish(id, { guide, manifest }, offsite, vault);
      } catch (error) {
        if (!(error instanceof SlipwayError)) throw error;
        problem ??= describeOffsiteFailure(error, id);
      }
    }
    return { backup, problem };
  });
}

function describeOffsiteFailure(error: SlipwayError, id: string): BackupError {
  return new BackupError(
    `The backup is not off-site: ${error.message}`,
    `It is on the server, as ${id}. ${error.hint}`,
    { cause: error },
  );
}

/** How long a session that is given up may take to tidy up. Who comes next does what it could not. */
const TIDY_SECONDS = 5;

/** A backup that failed leaves nothing, also where the workflow was cancelled. */
async function dropOnFailure<T>(id: string, vault: Vault, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    const options = { timeoutSeconds: TIDY_SECONDS, purpose: 'remove what was left half-way' };
    // Past the guardian, which may be gone; but what has no name of its own may be somebody else's then.
    await vault.session.run(dropPartial(vault.layout, id), options).catch(() => undefined);
    await vault.remote.run(removeScratch(vault.scratch), options).catch(() => undefined);
    throw error;
  }
}
