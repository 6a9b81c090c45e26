/** What the commands for Redis answer, read without trusting it: pure. */
import { readMember } from '../json';
import { type Answer, onlyAnswer, readAnswers, readCount, readString, SHA256 } from './answers';

export interface Keyspace {
  readonly database: number;
  readonly keys: number;
  readonly expires: number;
}

export interface DumpedRedis {
  /** Of the server. */
  readonly version: string;
  /** Of the running server, just before and just after: for people. What the file has is exact. */
  readonly before: readonly Keyspace[];
  readonly after: readonly Keyspace[];
  readonly bytes: number;
  readonly sha256: string;
  /** In the file, in all databases. */
  readonly keys: number;
  /** How many of them have a time to live. */
  readonly expires: number;
  readonly seconds: number;
}

export interface ProvenRedis {
  /** What has not expired since. */
  readonly keys: number;
  readonly restoreSeconds: number;
  readonly seconds: number;
  readonly databases: readonly Keyspace[];
}

export interface RestoredRedis {
  readonly keys: number;
  /** How long nobody answered. */
  readonly downSeconds: number;
  readonly seconds: number;
}

function readKeyspace(lines: readonly Answer[], when: string): Keyspace[] {
  return lines
    .filter((line) => readMember(line, 'kind') === 'keyspace' && readMember(line, 'when') === when)
    .map((line) => ({
      database: readCount(line, 'database'),
      keys: readCount(line, 'keys'),
      expires: readCount(line, 'expires'),
    }));
}

/** @throws SyntaxError */
export function parseDumpedRedis(output: string): DumpedRedis {
  const lines = readAnswers(output);
  const file = onlyAnswer(lines, 'file');
  return {
    version: readString(onlyAnswer(lines, 'server'), 'version', /^[0-9.]*$/),
    before: readKeyspace(lines, 'before'),
    after: readKeyspace(lines, 'after'),
    bytes: readCount(file, 'bytes'),
    sha256: readString(file, 'sha256', SHA256),
    keys: readCount(file, 'keys'),
    expires: readCount(file, 'expires'),
    seconds: readCount(file, 'seconds'),
  };
}

/** @throws SyntaxError */
export function parseProvenRedis(output: string): ProvenRedis {
  const lines = readAnswers(output);
  const proof = onlyAnswer(lines, 'proof');
  return {
    keys: readCount(proof, 'keys'),
    restoreSeconds: readCount(proof, 'restoreSeconds'),
    seconds: readCount(proof, 'seconds'),
    databases: readKeyspace(lines, 'restored'),
  };
}

/** @throws SyntaxError */
export function parseRestoredRedis(output: string): RestoredRedis {
  const restored = onlyAnswer(readAnswers(output), 'restored');
  return {
    keys: readCount(restored, 'keys'),
    downSeconds: readCount(restored, 'downSeconds'),
    seconds: readCount(restored, 'seconds'),
  };
}
