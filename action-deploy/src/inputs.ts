/** The inputs as one typed object, or all that is wrong with them at once. Pure. */
import { type InputProblem, InputError } from '#shared/errors';
import { type Credentials } from '#shared/images/credentials';
import { readConnection } from '#shared/inputs/connection';
import {
  boolean,
  duration,
  integer,
  optional,
  parseLines,
  quoteValue,
  readValue,
  type Parsed,
} from '#shared/inputs/values';
import type { Host } from '#shared/model/host';
import { Secret } from '#shared/model/secret';
import { type Check, parseChecks } from '#shared/probes/check';
import { parseWatchUrl, type WatchTarget } from '#shared/probes/watch-url';
import { parseEnvironment, parseEnvironmentUrl } from '#shared/reporters/deployment-record';
import type { Migration } from '#shared/transaction/plan';
import { splitWords } from '#shared/shell/words';

export interface Inputs {
  readonly host: Host;
  /** Relative to the workspace, at least one. */
  readonly composeFiles: readonly string[];
  /** Empty: to be taken from the Compose file or the repository. */
  readonly project: string;
  /** Empty: `apps/<project>`. */
  readonly path: string;
  readonly files: readonly string[];
  readonly env: Secret;
  readonly variables: Readonly<Record<string, string>>;
  readonly credentials: Credentials | undefined;
  readonly refresh: readonly string[];
  readonly checks: readonly Check[];
  readonly keepReleases: number;
  readonly readyTimeoutSeconds: number;
  readonly dryRun: boolean;
  /** How long to wait for another session on the project. */
  readonly lockWaitSeconds: number;
  /** After so long without a word of ours the server goes back by itself. */
  readonly leaseSeconds: number;
  /** How long the new release must serve well, with the old one warm beside it, before it is final. */
  readonly bakeSeconds: number;
  readonly migrations: readonly Migration[];
  readonly endToEnd: EndToEnd | undefined;
  readonly watch: WatchTarget | undefined;
  readonly maxFailedRequests: number;
  readonly githubToken: Secret;
  readonly environment: string;
  readonly environmentUrl: string;
}

/** A command that must end well while the new release serves, before it is final. */
export type EndToEnd =
  | { readonly where: 'runner'; readonly command: string }
  | { readonly where: 'service'; readonly service: string; readonly command: readonly string[] };

/** @throws InputError with every problem. */
export function readInputs(input: (name: string) => string): Inputs {
  const problems: InputProblem[] = [];
  const host = readConnection(input, problems);
  const composeFiles = readValue(input, problems, 'compose-file', parseComposeFiles, []);
  const project = readValue(input, problems, 'project', parseProjectName, '');
  const path = readValue(input, problems, 'path', parsePath, '');
  const env = readValue(input, problems, 'env', parseEnv, new Secret(''));
  const variables = readValue(input, problems, 'variables', parseVariables, {});
  const credentials = readCredentials(input, problems);
  const checks = readChecks(input('health-checks'), problems);
  const keepReleases = readValue(input, problems, 'keep-releases', integer(2, 100), 5);
  const readyTimeoutSeconds = readValue(input, problems, 'timeout', duration(1, 3600), 120);
  const dryRun = readValue(input, problems, 'dry-run', boolean, false);
  const lockWaitSeconds = readValue(input, problems, 'lock-wait', duration(0, 86_400), 600);
  const leaseSeconds = readValue(input, problems, 'lease', duration(10, 600), 30);
  const bakeSeconds = readValue(input, problems, 'bake-time', duration(0, 3600), 0);
  const migrations = readValue(input, problems, 'migrate', parseMigrations, []);
  const endToEnd = readValue(input, problems, 'e2e-command', optional(parseEndToEnd), undefined);
  const watch = readValue(input, problems, 'watch-url', optional(parseWatchUrl), undefined);
  const maxFailedRequests = readValue(input, problems, 'max-failed-requests', integer(0, 1_000_000), 0);
  const [githubToken, environment, environmentUrl] = [
    new Secret(input('github-token')),
    input('github-token') === '' ? '' : readValue(input, problems, 'environment', parseEnvironment, ''),
    readValue(input, problems, 'environment-url', parseEnvironmentUrl, ''),
  ];
  if (problems.length > 0 || host === undefined) throw new InputError(problems);
  return {
    host,
    composeFiles,
    project,
    path,
    files: parseLines(input('files')),
    env,
    variables,
    credentials,
    refresh: parseLines(input('refresh')),
    checks,
    keepReleases,
    readyTimeoutSeconds,
    dryRun,
    lockWaitSeconds,
    leaseSeconds,
    bakeSeconds,
    migrations,
    endToEnd,
    watch,
    maxFailedRequests,
    githubToken,
    environment,
    environmentUrl,
  };
}

const SERVICE = /^[a-zA-Z0-9._-]+$/;

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

function parseServiceCommand(line: string): Parsed<Migration> {
  const [, service = '', rest = ''] = /^([^:\s]+)\s*:\s+(.*)$/.exec(line) ?? [];
  if (!SERVICE.test(service) || service.startsWith('-')) {
    return { problem: `${quoteValue(line)} is not \`service: command\`, such as \`api: npm run migrate\`.` };
  }
  const words = splitWords(rest);
  if ('problem' in words) return { problem: `${quoteValue(line)}: ${words.problem}` };
  return (words.value[0] ?? '') === ''
    ? { problem: `${quoteValue(line)} gives no command.` }
    : { value: { service, command: words.value } };
}

/** `runner: command`, or `service: command`. */
function parseEndToEnd(text: string): Parsed<EndToEnd> {
  const onRunner = /^runner\s*:\s+(\S[\s\S]*)$/.exec(text)?.[1];
  if (onRunner !== undefined) return { value: { where: 'runner', command: onRunner } };
  const parsed = parseServiceCommand(text);
  if ('problem' in parsed) {
    return {
      problem: `${quoteValue(text)} is neither \`runner: command\` (on the runner) nor \`service: command\` (in a container of the new release).`,
    };
  }
  return { value: { where: 'service', ...parsed.value } };
}

/** Stands for the project's name, which is known only once the Compose file has been read. */
export const THIS_PROJECT = 'this-project';

/** The defaults are those of action-health-check. */
function readChecks(text: string, problems: InputProblem[]): readonly Check[] {
  const parsed = parseChecks(text, {
    input: 'health-checks',
    attempts: 3,
    intervalSeconds: 2,
    timeoutSeconds: 10,
    project: THIS_PROJECT,
  });
  problems.push(...parsed.problems);
  return parsed.checks;
}

function parseComposeFiles(text: string): Parsed<string[]> {
  const files = parseLines(text).map((file) => file.replace(/^(\.\/)+/, ''));
  if (files.length === 0) return { problem: 'is empty: give the path of a Compose file in the workspace.' };
  const outside = files.find((file) => file.startsWith('/') || file.split('/').includes('..'));
  return outside === undefined
    ? { value: files }
    : { problem: `${quoteValue(outside)} is not below the workspace: give a path relative to it.` };
}

/** https://docs.docker.com/reference/compose-file/version-and-name/ */
const PROJECT_NAME = /^[a-z0-9][a-z0-9_-]{0,62}$/;

export function parseProjectName(text: string): Parsed<string> {
  return text === '' || PROJECT_NAME.test(text)
    ? { value: text }
    : {
        problem: `${quoteValue(text)} is not a Compose project name: lower-case letters, digits, - and _, a letter or digit first.`,
      };
}

function parsePath(text: string): Parsed<string> {
  const value = text.replace(/^(~\/+)?(\.\/+)*/, '').replace(/(\/+\.?)+$/, '');
  if (text !== '' && ['', '~', '.'].includes(value))
    return { problem: `${quoteValue(text)} is too wide: give a folder of the project's own.` };
  if (/[\0\n\r]/.test(value) || value.split('/').includes('..')) {
    return { problem: `${quoteValue(text)} is not a plain path: no line breaks, and no \`..\`.` };
  }
  return { value };
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

function readCredentials(input: (name: string) => string, problems: InputProblem[]): Credentials | undefined {
  const [registry, username, password] = [input('registry'), input('registry-username'), input('registry-password')];
  if (registry === '' && username === '' && password === '') return undefined;
  const before = problems.length;
  if (registry === '')
    problems.push({
      input: 'registry',
      message: 'is empty, but a login is given: name the registry that it is for, such as `ghcr.io` or `docker.io`.',
    });
  else if (/[\s/]|:\/\//.test(registry))
    problems.push({
      input: 'registry',
      message: `${quoteValue(registry)} is not a registry: give its host name only, with the port if it has one.`,
    });
  if (username === '')
    problems.push({ input: 'registry-username', message: `is empty, but registry ${quoteValue(registry)} is given.` });
  if (password === '') {
    problems.push({
      input: 'registry-password',
      message:
        'is empty: the secret is not set in this repository or environment, or it is not handed to this (reusable) workflow.',
    });
  }
  return problems.length > before ? undefined : { registry, username, password: new Secret(password) };
}
