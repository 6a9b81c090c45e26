/** What everything works with that takes, keeps and restores the backups of a project. */
import { BackupError, CommandError, DamageError } from '../errors';
import type { Command } from '../model/command';
import type { Completed, Ports, Remote, RunOptions, Session } from '../ports';
import { type BackupLayout, layoutBackups } from '../releases/backup-layout';
import type { Scratch } from '../commands/backup-script';
import type { PostgresTarget } from '../commands/postgres';

export interface Vault {
  /** Compose project name. */
  readonly project: string;
  readonly layout: BackupLayout;
  /** For content that streams. */
  readonly session: Session;
  /** Commands go through a guardian: it ends them with the session that wanted them. */
  readonly remote: Remote;
  readonly ports: Pick<Ports, 'clock' | 'reporter' | 'runner' | 'signal'>;
  readonly limits: Limits;
  /**
   * Whose scratch containers they are, by their label: proofs of a deploy and of action-backup may go on at once, and neither may remove
   * the other's.
   */
  readonly scratch: string;
  /** PostgreSQL behind URLs; undefined where none was given. */
  readonly clients?: Clients;
}

/** PostgreSQL servers that are no services of the project, by their names. */
export interface Clients {
  /**
   * Starts the client programs where they do not run.
   *
   * @param image to take them from where no other one is given.
   */
  open(name: string, image: string, vault: Vault): Promise<PostgresTarget>;
}

/** No Compose project has a dot in its name. */
export const scratchOfChanges = (project: string): string => `${project}.change`;

/** As it is for a deploy or a rollback, which has the project's lock alone. */
export const ofChanges = (vault: Vault): Vault => ({
  ...vault,
  layout: layoutBackups(vault.layout, '.change.partial'),
  scratch: scratchOfChanges(vault.project),
});

export interface Limits {
  /** Of each dump, proof, transfer and restore. */
  readonly stepSeconds: number;
  /** Of a scratch container. */
  readonly memoryMegabytes: number;
}

/** How long a server in a scratch container may take until it answers. */
const SCRATCH_START_SECONDS = 300;

export function scratchFor({ scratch, limits }: Vault, name: string): Scratch {
  return {
    name: `slipway-scratch-${scratch}-${name}`,
    project: scratch,
    memoryMegabytes: limits.memoryMegabytes,
    startSeconds: SCRATCH_START_SECONDS,
  };
}

/** What the server says stands in the message: the scripts of backups say what happened, and what to do. */
export async function carryOut(
  command: Command,
  purpose: string,
  { remote, ports, limits }: Vault,
  options: RunOptions = {},
): Promise<Completed> {
  try {
    return await remote.run(command, { purpose, timeoutSeconds: limits.stepSeconds, signal: ports.signal, ...options });
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    throw new BackupCommandError(purpose, remote.where, error);
  }
}

/** A step of a backup or a restore failed on the server. */
export class BackupCommandError extends BackupError {
  readonly exitCode: number;

  constructor(purpose: string, where: string, { exitCode, stderr }: CommandError) {
    super(`Could not ${purpose} at ${where} (exit code ${exitCode}): ${tail(stderr)}`, '');
    this.exitCode = exitCode;
  }
}

/** What was read is damaged, and not only something that could not be tried. */
export function isDamage(error: unknown): boolean {
  return error instanceof DamageError || (error instanceof BackupCommandError && error.exitCode === 65);
}

/** Scripts say what to do in their last line, and programs have their own words before it. */
function tail(stderr: string): string {
  const lines = stderr.trim().split('\n');
  return lines.length === 0 || lines[0] === '' ? 'it gave no reason.' : lines.slice(-25).join('\n');
}
