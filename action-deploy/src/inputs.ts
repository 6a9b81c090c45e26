/** The inputs as one typed object, or all that is wrong with them at once. Pure. */
import {
  parseProjectName,
  parseServiceCommand,
  readTransactionInputs,
  type TransactionInputs,
} from '#shared/engine/inputs';
import { type InputProblem, InputError } from '#shared/errors';
import { integer, optional, parseLines, quoteValue, readValue, type Parsed } from '#shared/inputs/values';
import { Secret } from '#shared/model/secret';
import type { SchemaQuestion } from '#shared/model/release';
import type { Migration } from '#shared/transaction/plan';
import { parseWanted, type Wanted } from '#shared/vault/sources';

export interface Inputs extends TransactionInputs {
  /** Relative to the workspace, at least one. */
  readonly composeFiles: readonly string[];
  /** Empty: to be taken from the Compose file or the repository. */
  readonly project: string;
  readonly files: readonly string[];
  readonly env: Secret;
  readonly variables: Readonly<Record<string, string>>;
  readonly refresh: readonly string[];
  readonly keepReleases: number;
  readonly migrations: readonly Migration[];
  readonly schema: SchemaQuestion | undefined;
  /** Taken before anything is changed, where it is given; empty: every PostgreSQL and Redis that runs. */
  readonly backup: readonly Wanted[] | undefined;
}

/** @throws InputError with every problem. */
export function readInputs(input: (name: string) => string): Inputs {
  const problems: InputProblem[] = [];
  const { host, ...common } = readTransactionInputs(input, problems);
  const own = {
    composeFiles: readValue(input, problems, 'compose-file', parseComposeFiles, []),
    project: readValue(input, problems, 'project', parseProjectName, ''),
    files: parseLines(input('files')),
    env: readValue(input, problems, 'env', parseEnv, new Secret('')),
    variables: readValue(input, problems, 'variables', parseVariables, {}),
    refresh: parseLines(input('refresh')),
    keepReleases: readValue(input, problems, 'keep-releases', integer(2, 100), 5),
    migrations: readValue(input, problems, 'migrate', parseMigrations, []),
    schema: readValue(input, problems, 'schema-state', optional(parseSchemaState), undefined),
    backup: readValue(input, problems, 'backup', parseBackup, undefined),
  };
  if (problems.length > 0 || host === undefined) throw new InputError(problems);
  return { host, ...common, ...own };
}

/** `true`, `false`, or lines of what action-backup takes as `what`. */
function parseBackup(text: string): Parsed<readonly Wanted[] | undefined> {
  if (text === 'true') return { value: [] };
  return text === 'false' || text === '' ? { value: undefined } : parseWanted(text);
}

/** `service: command` a line. */
function parseMigrations(text: string): Parsed<Migration[]> {
  const migrations: Migration[] = [];
  for (const line of parseLines(text)) {
    const parsed = parseServiceCommand(line);
    if ('problem' in parsed) return parsed;
    migrations.push(parsed.value);
  }
  const twice = migrations.find(({ service }, index) => migrations.findIndex((one) => one.service === service) < index);
  return twice === undefined
    ? { value: migrations }
    : { problem: `names the service ${quoteValue(twice.service)} twice: put both commands into one script.` };
}

const TABLE = /^table\s+([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)?)$/;

/** By the variables of the official image: https://hub.docker.com/_/postgres */
const READ_TABLE = `exec psql -X -q -A -t -v ON_ERROR_STOP=1 -U "\${POSTGRES_USER:-postgres}" -d "\${POSTGRES_DB:-\${POSTGRES_USER:-postgres}}" -c "SELECT * FROM $1 ORDER BY 1"`;

/** `service: command`, or `service: table NAME` of a PostgreSQL service. */
function parseSchemaState(text: string): Parsed<SchemaQuestion> {
  const parsed = parseServiceCommand(text);
  if ('problem' in parsed) {
    return { problem: `${quoteValue(text)} is neither \`service: command\` nor \`service: table schema_migrations\`.` };
  }
  const { service, command } = parsed.value;
  const table = TABLE.exec(command.join(' '))?.[1];
  if (table !== undefined) return { value: { service, command: ['sh', '-c', READ_TABLE, 'slipway', table] } };
  return { value: { service, command } };
}

function parseComposeFiles(text: string): Parsed<string[]> {
  const files = parseLines(text).map((file) => file.replace(/^(\.\/)+/, ''));
  if (files.length === 0) return { problem: 'is empty: give the path of a Compose file in the workspace.' };
  const outside = files.find((file) => file.startsWith('/') || file.split('/').includes('..'));
  return outside === undefined
    ? { value: files }
    : { problem: `${quoteValue(outside)} is not below the workspace: give a path relative to it.` };
}

const NAME = /^[A-Za-z_][A-Za-z0-9_.-]*$/;

/** Only what would be silently misread is refused here; the server's own Compose has the last word. */
function parseEnv(text: string): Parsed<Secret> {
  const lines = text.split(/\r\n|\r|\n/);
  let quote = '';
  for (const [index, line] of lines.entries()) {
    if (quote !== '') {
      if (line.replaceAll(`\\${quote}`, '').includes(quote)) quote = '';
      continue;
    }
    if (/^\s*(#|$)/.test(line)) continue;
    const match = /^\s*(?:export\s+)?([^=\s]+)\s*=(.*)$/.exec(line);
    if (match === null || !NAME.test(match[1] ?? '')) {
      // The line itself may be part of a secret (a key without quotes): only its number is told.
      return { problem: `line ${index + 1} is not \`NAME=value\`. A value of several lines needs quotes around it.` };
    }
    const opening = /^\s*(["'])/.exec(match[2] ?? '')?.[1];
    if (opening !== undefined) {
      const rest = (match[2] ?? '').trimStart().slice(1).replaceAll(`\\${opening}`, '');
      if (!rest.includes(opening)) quote = opening;
    }
  }
  return quote === ''
    ? { value: new Secret(text.replaceAll(/\r\n?/g, '\n')) }
    : { problem: `a quote (${quote}) is opened and never closed.` };
}

function parseVariables(text: string): Parsed<Record<string, string>> {
  const variables: Record<string, string> = {};
  for (const line of parseLines(text)) {
    const match = /^([^=\s]+)=(.*)$/.exec(line);
    const name = match?.[1] ?? '';
    if (match === null || !NAME.test(name)) return { problem: `${quoteValue(line)} is not \`NAME=value\`.` };
    if (Object.hasOwn(variables, name)) return { problem: `${quoteValue(name)} is given twice.` };
    variables[name] = match[2] ?? '';
  }
  return { value: variables };
}
