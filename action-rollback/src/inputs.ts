/** The inputs as one typed object, or all that is wrong with them at once. Pure. */
import { parseProjectName, readTransactionInputs, type TransactionInputs } from '#shared/engine/inputs';
import { type InputProblem, InputError } from '#shared/errors';
import { boolean, type Parsed, quoteValue, readValue } from '#shared/inputs/values';

export interface Inputs extends TransactionInputs {
  /** Empty: the repository's name. */
  readonly project: string;
  /** `previous`, an id or its beginning, a commit or a tag. Empty: the run decides. */
  readonly release: string;
  readonly list: boolean;
  readonly confirm: string;
  readonly env: 'target' | 'current';
  readonly allowSchemaAhead: boolean;
  readonly preempt: boolean;
  /** Backup whose databases come back with the release; empty: none. */
  readonly restoreBackup: string;
}

/** @throws InputError with every problem. */
export function readInputs(input: (name: string) => string): Inputs {
  const problems: InputProblem[] = [];
  const { host, ...common } = readTransactionInputs(input, problems);
  const own = {
    project: readValue(input, problems, 'project', parseProjectName, ''),
    release: readValue(input, problems, 'release', parseTarget, ''),
    list: readValue(input, problems, 'list', boolean, false),
    confirm: input('confirm'),
    env: readValue<'target' | 'current'>(input, problems, 'env', parseEnv, 'target'),
    allowSchemaAhead: readValue(input, problems, 'allow-schema-ahead', boolean, false),
    preempt: readValue(input, problems, 'preempt', boolean, true),
    restoreBackup: readValue(input, problems, 'restore-backup', parseBackup, ''),
  };
  if (problems.length > 0 || host === undefined) throw new InputError(problems);
  return { host, ...common, ...own };
}

/** Ids, commits and names of tags: nothing that could be read as something else. */
function parseTarget(text: string): Parsed<string> {
  return /^[\w.+@/-]{0,200}$/.test(text)
    ? { value: text }
    : {
        problem: `${quoteValue(text)} is not a release: give \`previous\`, an id or its beginning, a commit, or a tag. Without it the releases are listed.`,
      };
}

function parseBackup(text: string): Parsed<string> {
  return /^(\d{8}T\d{6}Z-[a-z0-9]{4,8})?$/.test(text)
    ? { value: text }
    : {
        problem: `${quoteValue(text)} is not the id of a backup, such as 20261122T223100Z-k3v9qa: action-backup lists them (mode: list).`,
      };
}

function parseEnv(text: string): Parsed<'target' | 'current'> {
  return text === 'target' || text === 'current'
    ? { value: text }
    : { problem: `${quoteValue(text)} is neither \`target\` nor \`current\`.` };
}
