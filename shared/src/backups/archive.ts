/** What the commands for archives answer, read without trusting it: pure. */
import type { TreeFigures } from '../model/backup';
import { type Json, parseJson, readMember } from '../json';

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

function readLines(output: string): Json[] {
  return output
    .split('\n')
    .filter((line) => line.trim() !== '')
    .map((line) => {
      const value = parseJson(line);
      if (value === undefined)
        throw new SyntaxError(`the server's answer has a line that is not JSON: ${line.slice(0, 200)}`);
      return value;
    });
}

function ofKind(output: string, kind: string): Json {
  const [first, second] = readLines(output).filter((line) => readMember(line, 'kind') === kind);
  if (first === undefined || second !== undefined) throw new SyntaxError("the server's answer is cut off");
  return first;
}

function count(line: Json, key: string): number {
  const value = readMember(line, key);
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0)
    throw new SyntaxError(`the server's answer has no number "${key}"`);
  return value;
}

function match(line: Json, key: string, pattern: RegExp): string {
  const value = readMember(line, key);
  if (typeof value !== 'string' || !pattern.test(value))
    throw new SyntaxError(`the server's answer has no usable "${key}"`);
  return value;
}

const SHA256 = /^[0-9a-f]{64}$/;

/** @throws SyntaxError */
export function parseArchived(output: string): Archived {
  const line = ofKind(output, 'archive');
  const changed = readMember(line, 'changed');
  if (typeof changed !== 'boolean') throw new SyntaxError('the server\'s answer does not say "changed"');
  return {
    bytes: count(line, 'bytes'),
    sha256: match(line, 'sha256', SHA256),
    plainBytes: count(line, 'plainBytes'),
    plainSha256: match(line, 'plainSha256', SHA256),
    tree: { entries: count(line, 'entries'), hash: match(line, 'hash', SHA256) },
    changed,
    quietSeconds: count(line, 'quietSeconds'),
    seconds: count(line, 'seconds'),
  };
}

/** @throws SyntaxError */
export function parseArchiveProof(output: string): ProvenArchive {
  const line = ofKind(output, 'proof');
  return { restoreSeconds: count(line, 'restoreSeconds'), seconds: count(line, 'seconds') };
}

/** @throws SyntaxError */
export function parseRestoredArchive(output: string): RestoredArchive {
  const line = ofKind(output, 'restored');
  return {
    kept: match(line, 'kept', /^[A-Za-z0-9./_-]*$/),
    downSeconds: count(line, 'downSeconds'),
    seconds: count(line, 'seconds'),
    entries: count(line, 'entries'),
  };
}
