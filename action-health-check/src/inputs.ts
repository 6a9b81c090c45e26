/** The inputs as one typed object, or all that is wrong with them at once. Pure. */
import { InputError, type InputProblem } from '#shared/errors';
import { listHostSecrets, readConnection } from '#shared/inputs/connection';
import { duration, integer, optional, readValue, type ReadInput } from '#shared/inputs/values';
import type { Host } from '#shared/model/host';
import { type Check, needsSession } from '#shared/probes/check-model';
import { parseChecks, parseFactor } from '#shared/probes/check';

export interface Inputs {
  /** At least one. */
  readonly checks: readonly Check[];
  /** Undefined where no check is made via ssh. */
  readonly host: Host | undefined;
}

/** @throws InputError with every problem. */
export function readInputs(input: ReadInput): Inputs {
  const problems: InputProblem[] = [];
  const { checks, problems: checkProblems } = parseChecks(input('checks'), {
    input: 'checks',
    project: input('project'),
    attempts: readValue(input, problems, 'attempts', integer(1, 1000), 3),
    intervalSeconds: readValue(input, problems, 'interval', duration(0, 3600), 2),
    timeoutSeconds: readValue(input, problems, 'timeout', duration(0.1, 600), 10),
    backoff: readValue(input, problems, 'backoff', parseFactor, 1),
    deadlineSeconds: readValue<number | undefined>(
      input,
      problems,
      'deadline',
      optional(duration(1, 21_600)),
      undefined,
    ),
    successes: readValue(input, problems, 'successes', integer(1, 100), 1),
  });
  problems.push(...checkProblems);
  if (checks.length === 0 && checkProblems.length === 0) {
    problems.push({
      input: 'checks',
      message: 'is empty: give at least one check, for example `https://example.com/health`.',
    });
  }
  // Which server it is matters only to those checks: a public address can be checked without any login.
  // (One that could not be read may be one of them.)
  const maybe = checkProblems.length > 0 && input('host').trim() !== '';
  const host = needsSession(checks) || maybe ? readConnection(input, problems) : undefined;
  if (problems.length > 0) throw new InputError(problems);
  return { checks, host };
}

/** Headers whose values are secret for all that their names tell. Others (`accept: text/html`) would only blank the log. */
const SECRET_HEADER = /auth|cookie|key|pass|secret|session|signature|token/;

/** What must not be shown: key, passphrase, and the headers that log in; of `Bearer abc`, also `abc`. */
export function listSecrets({ host, checks }: Inputs): string[] {
  const login = listHostSecrets(host);
  const headers = checks.flatMap((check) => (check.kind === 'http' ? Object.entries(check.headers) : []));
  const values = headers.filter(([name]) => SECRET_HEADER.test(name)).map(([, value]) => value.reveal());
  const credentials = values.map((value) => value.replace(/^\w+ +/, ''));
  return [...new Set([...login, ...values, ...credentials])].filter((value) => value !== '');
}
