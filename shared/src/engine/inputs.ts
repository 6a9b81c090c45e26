/** The inputs that every change of releases takes. Pure. */
import type { InputProblem } from '../errors';
import type { Credentials } from '../images/credentials';
import { readConnection } from '../inputs/connection';
import { boolean, duration, integer, optional, quoteValue, readValue, type Parsed } from '../inputs/values';
import type { Host } from '../model/host';
import { Secret } from '../model/secret';
import { type Check, parseChecks } from '../probes/check';
import { parseWatchUrl, type WatchTarget } from '../probes/watch-url';
import { parseEnvironment, parseEnvironmentUrl } from '../reporters/deployment-record';
import { type GrafanaLogin, parseGrafanaToken, parseGrafanaUrl } from '../reporters/grafana-annotation';
import { splitWords } from '../shell/words';

export interface TransactionInputs {
  readonly host: Host;
  /** Empty: `apps/<project>`. */
  readonly path: string;
  readonly credentials: Credentials | undefined;
  readonly checks: readonly Check[];
  readonly readyTimeoutSeconds: number;
  readonly dryRun: boolean;
  /** How long to wait for another session on the project. */
  readonly lockWaitSeconds: number;
  /** After so long without a word of ours the server goes back by itself. */
  readonly leaseSeconds: number;
  /** On the server, for the textfile collector of node-exporter; empty: none. */
  readonly metricsFile: string;
  /** How long the release must serve well, with the one before it warm beside it, before it is final. */
  readonly bakeSeconds: number;
  readonly endToEnd: EndToEnd | undefined;
  readonly watch: WatchTarget | undefined;
  readonly maxFailedRequests: number;
  readonly githubToken: Secret;
  /** Empty without a GitHub token or a Grafana that it could be told to. */
  readonly environment: string;
  readonly environmentUrl: string;
  readonly grafana: GrafanaLogin | undefined;
}

/** A command that must end well while the release serves, before it is final. */
export type EndToEnd =
  { readonly where: 'runner'; readonly command: string } | ({ readonly where: 'service' } & ServiceCommand);

/** A command in a container of a service. */
export interface ServiceCommand {
  readonly service: string;
  readonly command: readonly string[];
}

/** @param problems gets all that is wrong. */
export function readTransactionInputs(
  input: (name: string) => string,
  problems: InputProblem[],
): Omit<TransactionInputs, 'host'> & { readonly host: Host | undefined } {
  return {
    host: readConnection(input, problems),
    path: readValue(input, problems, 'path', parsePath, ''),
    credentials: readCredentials(input, problems),
    checks: readChecks(input('health-checks'), problems),
    readyTimeoutSeconds: readValue(input, problems, 'timeout', duration(1, 3600), 120),
    dryRun: readValue(input, problems, 'dry-run', boolean, false),
    lockWaitSeconds: readValue(input, problems, 'lock-wait', duration(0, 86_400), 600),
    leaseSeconds: readValue(input, problems, 'lease', duration(10, 600), 30),
    metricsFile: readValue(input, problems, 'metrics-file', parseMetricsFile, ''),
    bakeSeconds: readValue(input, problems, 'bake-time', duration(0, 3600), 0),
    endToEnd: readValue(input, problems, 'e2e-command', optional(parseEndToEnd), undefined),
    watch: readValue(input, problems, 'watch-url', optional(parseWatchUrl), undefined),
    maxFailedRequests: readValue(input, problems, 'max-failed-requests', integer(0, 1_000_000), 0),
    githubToken: new Secret(input('github-token')),
    environment: isEnvironmentTold(input) ? readValue(input, problems, 'environment', parseEnvironment, '') : '',
    environmentUrl: readValue(input, problems, 'environment-url', parseEnvironmentUrl, ''),
    grafana: readGrafana(input, problems),
  };
}

/** A Deployment needs one, an annotation takes one. What nobody is told of is not judged. */
function isEnvironmentTold(input: (name: string) => string): boolean {
  return input('github-token') !== '' || (input('grafana-url') !== '' && input('environment') !== '');
}

/** A token alone is no wish: it may be a secret of the whole organisation. */
function readGrafana(input: (name: string) => string, problems: InputProblem[]): GrafanaLogin | undefined {
  if (input('grafana-url') === '') return undefined;
  return {
    url: readValue(input, problems, 'grafana-url', parseGrafanaUrl, ''),
    token: readValue(input, problems, 'grafana-token', parseGrafanaToken, new Secret('')),
  };
}

/** A word of the journal, as the guardian takes it: no blank, no part that begins with `-`, none that is `.` or `..`. */
const METRICS_FILE = /^(?:\/(?![-.])[A-Za-z0-9._@:,-]+)+(?<=.\.prom)$/;

function parseMetricsFile(text: string): Parsed<string> {
  return text === '' || METRICS_FILE.test(text)
    ? { value: text }
    : {
        problem: `${quoteValue(text)} is not a file for the textfile collector: give an absolute path of letters, digits and . _ @ : , - that ends in .prom.`,
      };
}

const SERVICE = /^[a-zA-Z0-9._-]+$/;

/** `service: command` */
export function parseServiceCommand(line: string): Parsed<ServiceCommand> {
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

/** Stands for the project's name, which may be known only once the Compose file has been read. */
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

/** https://docs.docker.com/reference/compose-file/version-and-name/ */
const PROJECT_NAME = /^[a-z0-9][a-z0-9_-]{0,62}$/;

export function parseProjectName(text: string): Parsed<string> {
  return text === '' || PROJECT_NAME.test(text)
    ? { value: text }
    : {
        problem: `${quoteValue(text)} is not a Compose project name: lower-case letters, digits, - and _, a letter or digit first.`,
      };
}

/** Compose's own way of making a name from a folder's: https://docs.docker.com/compose/how-tos/project-name/ */
export function guessProjectName(repository: string): string {
  return (repository.split('/').at(-1) ?? '')
    .toLowerCase()
    .replaceAll(/[^a-z0-9_-]/g, '')
    .replace(/^[_-]+/, '');
}

export function parsePath(text: string): Parsed<string> {
  const value = text.replace(/^(~\/+)?(\.\/+)*/, '').replace(/(\/+\.?)+$/, '');
  if (text !== '' && ['', '~', '.'].includes(value))
    return { problem: `${quoteValue(text)} is too wide: give a folder of the project's own.` };
  if (/[\0\n\r\\]/.test(value) || value.split('/').includes('..')) {
    return { problem: `${quoteValue(text)} is not a plain path: no line breaks, no backslashes, and no \`..\`.` };
  }
  return { value };
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
