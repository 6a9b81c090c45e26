/** What the commands for Redis answer, read without trusting it: pure. */
import { type Json, parseJson, readMember } from '../json';

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

function ofKind(lines: readonly Json[], kind: string): Json {
  const [first, second] = lines.filter((line) => readMember(line, 'kind') === kind);
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

function readKeyspace(lines: readonly Json[], when: string): Keyspace[] {
  return lines
    .filter((line) => readMember(line, 'kind') === 'keyspace' && readMember(line, 'when') === when)
    .map((line) => ({
      database: count(line, 'database'),
      keys: count(line, 'keys'),
      expires: count(line, 'expires'),
    }));
}

/** @throws SyntaxError */
export function parseDumpedRedis(output: string): DumpedRedis {
  const lines = readLines(output);
  const file = ofKind(lines, 'file');
  return {
    version: match(ofKind(lines, 'server'), 'version', /^[0-9.]*$/),
    before: readKeyspace(lines, 'before'),
    after: readKeyspace(lines, 'after'),
    bytes: count(file, 'bytes'),
    sha256: match(file, 'sha256', /^[0-9a-f]{64}$/),
    keys: count(file, 'keys'),
    expires: count(file, 'expires'),
    seconds: count(file, 'seconds'),
  };
}

/** @throws SyntaxError */
export function parseProvenRedis(output: string): ProvenRedis {
  const lines = readLines(output);
  const proof = ofKind(lines, 'proof');
  return {
    keys: count(proof, 'keys'),
    restoreSeconds: count(proof, 'restoreSeconds'),
    seconds: count(proof, 'seconds'),
    databases: readKeyspace(lines, 'restored'),
  };
}

/** @throws SyntaxError */
export function parseRestoredRedis(output: string): RestoredRedis {
  const restored = ofKind(readLines(output), 'restored');
  return {
    keys: count(restored, 'keys'),
    downSeconds: count(restored, 'downSeconds'),
    seconds: count(restored, 'seconds'),
  };
}
