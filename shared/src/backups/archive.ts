/** What the commands for archives answer, read without trusting it: pure. */
import type { TreeFigures } from '../model/backup';
import { readMember } from '../json';
import { onlyAnswer, readAnswers, readCount, readString, SHA256 } from './answers';

export interface Archived {
  readonly bytes: number;
  readonly sha256: string;
  /** Of the tar, before gzip. */
  readonly plainBytes: number;
  readonly plainSha256: string;
  /** Of what is in the archive. */
  readonly tree: TreeFigures;
  /** The source was written to while it was read, so that its files may not fit each other. */
  readonly changed: boolean;
  /** How long containers were paused or stopped. */
  readonly quietSeconds: number;
  readonly seconds: number;
}

export interface ProvenArchive {
  readonly restoreSeconds: number;
  /** With the comparison, and the rest. */
  readonly seconds: number;
}

export interface RestoredArchive {
  /** Where the old content is kept: a path relative to the folder or the volume. Empty where nothing was replaced. */
  readonly kept: string;
  /** How long containers were stopped. */
  readonly downSeconds: number;
  readonly seconds: number;
  readonly entries: number;
}

/** @throws SyntaxError */
export function parseArchived(output: string): Archived {
  const line = onlyAnswer(readAnswers(output), 'archive');
  const changed = readMember(line, 'changed');
  if (typeof changed !== 'boolean') throw new SyntaxError('the server\'s answer does not say "changed"');
  return {
    bytes: readCount(line, 'bytes'),
    sha256: readString(line, 'sha256', SHA256),
    plainBytes: readCount(line, 'plainBytes'),
    plainSha256: readString(line, 'plainSha256', SHA256),
    tree: { entries: readCount(line, 'entries'), hash: readString(line, 'hash', SHA256) },
    changed,
    quietSeconds: readCount(line, 'quietSeconds'),
    seconds: readCount(line, 'seconds'),
  };
}

/** @throws SyntaxError */
export function parseArchiveProof(output: string): ProvenArchive {
  const line = onlyAnswer(readAnswers(output), 'proof');
  return { restoreSeconds: readCount(line, 'restoreSeconds'), seconds: readCount(line, 'seconds') };
}

/** @throws SyntaxError */
export function parseRestoredArchive(output: string): RestoredArchive {
  const line = onlyAnswer(readAnswers(output), 'restored');
  return {
    kept: readString(line, 'kept', /^[A-Za-z0-9./_-]*$/),
    downSeconds: readCount(line, 'downSeconds'),
    seconds: readCount(line, 'seconds'),
    entries: readCount(line, 'entries'),
  };
}
