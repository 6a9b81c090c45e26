/**
 * Every way in which Slipway fails, as a type. A message says what happened and where; the hint says
 * what to do next. Neither may hold a secret: they are shown as they are.
 */
export abstract class SlipwayError extends Error {
  /** Stable word for outputs, docs and tests. */
  abstract readonly code: string;
  /** What to do next: full sentences, may have several lines. */
  readonly hint: string;

  constructor(message: string, hint: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
    this.hint = hint;
  }
}

/** One input that cannot be used. */
export interface InputProblem {
  /** The input's name as in action.yml. */
  readonly input: string;
  /** What is wrong with it, and what is accepted; a full sentence. Never the value of a secret input. */
  readonly message: string;
}

/** Inputs that cannot be used: all of them at once, found before anything was touched. */
export class InputError extends SlipwayError {
  readonly code = 'input';
  readonly problems: readonly InputProblem[];

  constructor(problems: readonly InputProblem[]) {
    super(
      problems.length === 1
        ? `Input ${problems.map((p) => `${p.input}: ${p.message}`).join('')}`
        : `${problems.length} inputs cannot be used:\n${problems.map((p) => `- ${p.input}: ${p.message}`).join('\n')}`,
      'Nothing was done.',
    );
    this.problems = problems;
  }
}

export type ConnectReason =
  | 'unresolved'
  | 'refused'
  | 'timeout'
  | 'unreachable'
  | 'not-ssh'
  | 'host-key-unknown'
  | 'host-key-mismatch'
  | 'host-key-revoked'
  | 'key-rejected'
  | 'key-unusable'
  | 'handshake'
  | 'lost';

/** The server could not be reached, was not the one expected, or went away. */
export class ConnectError extends SlipwayError {
  readonly code = 'connect';
  readonly reason: ConnectReason;

  constructor(reason: ConnectReason, message: string, hint: string, options?: ErrorOptions) {
    super(message, hint, options);
    this.reason = reason;
  }
}

/** A command on the server ended with another exit code than expected. */
export class CommandError extends SlipwayError {
  readonly code = 'command';
  readonly exitCode: number;
  readonly stderr: string;

  constructor(message: string, hint: string, exitCode: number, stderr: string) {
    super(message, hint);
    this.exitCode = exitCode;
    this.stderr = stderr;
  }
}

/** What the server said of itself cannot be read. */
export class ServerAnswerError extends SlipwayError {
  readonly code = 'server-answer';
}

/** Something took longer than it may. */
export class TimeoutError extends SlipwayError {
  readonly code = 'timeout';
}

/** The workflow was cancelled. */
export class CancelledError extends SlipwayError {
  readonly code = 'cancelled';
}

/** One thing about the server or the project that makes a deploy impossible. */
export interface PreflightFinding {
  readonly message: string;
  readonly hint: string;
}

/** The server or the project is not ready: all findings at once; nothing was touched. */
export class PreflightError extends SlipwayError {
  readonly code = 'preflight';
  readonly findings: readonly PreflightFinding[];

  /** @param what for: `deploy`. */
  constructor(where: string, findings: readonly PreflightFinding[], what = 'deploy') {
    super(
      `${where} is not ready for this ${what}:\n${findings.map((f) => `- ${endSentence(f.message)} ${f.hint}`).join('\n')}`,
      'Nothing was changed on the server.',
    );
    this.findings = findings;
  }
}

/** A certificate would not be issued, or could not be used: all findings at once, before an order has reached the authority. */
export class RehearsalError extends SlipwayError {
  readonly code = 'rehearsal';
  readonly findings: readonly PreflightFinding[];

  constructor(what: string, findings: readonly PreflightFinding[]) {
    super(
      `${what} cannot be issued yet:\n${findings.map((f) => `- ${endSentence(f.message)} ${f.hint}`).join('\n')}`,
      'No order has reached the certificate authority, so no rate limit was touched.',
    );
    this.findings = findings;
  }
}

/** A certificate could not be obtained, is not what is served, or has too little of its life left. */
export class CertificateError extends SlipwayError {
  readonly code = 'certificate';
}

/** Another session holds the project's lock. */
export class LockHeldError extends SlipwayError {
  readonly code = 'lock-held';
}

/** One or more checks did not pass. */
export class ProbeError extends SlipwayError {
  readonly code = 'probe';
}

/** An image could not be pulled or resolved. */
export class ImageError extends SlipwayError {
  readonly code = 'image';
}

/** The new release did not become healthy or a step of the deploy failed; says what became of the server. */
export class ReleaseError extends SlipwayError {
  readonly code = 'release';
}

export type RequestFailure = 'unresolved' | 'refused' | 'unreachable' | 'timeout' | 'tls' | 'closed' | 'protocol';

/** An address gave no (complete) HTTP answer, or could not be connected to. */
export class RequestError extends SlipwayError {
  readonly code = 'request';
  readonly reason: RequestFailure;

  constructor(reason: RequestFailure, message: string, hint: string, options?: ErrorOptions) {
    super(message, hint, options);
    this.reason = reason;
  }
}

/** A backup could not be taken, proven, opened or restored. */
export class BackupError extends SlipwayError {
  readonly code = 'backup';
}

/** What a backup has is not what it should have: it must not be relied on. */
export class DamageError extends BackupError {}

/** An object storage (S3) did not do what it was asked for. */
export class StorageError extends SlipwayError {
  readonly code = 'storage';
}

/** What others say often ends without a full stop, and something of ours follows. */
function endSentence(text: string): string {
  return /[.!?:]$/.test(text) ? text : `${text}.`;
}
