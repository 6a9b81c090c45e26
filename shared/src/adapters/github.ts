/**
 * GitHub's API, for what the repository's page shows. It is beside the deploy, so nothing here rejects: whatever goes wrong
 * is an answer with words for it, within the time that was given.
 */
import { Redactor } from '../shell/redact';
import type { Secret } from '../model/secret';
import type { DeploymentRequest, DeploymentStatus, GithubAnswer, GithubDeployments, GithubProblem } from '../ports';
import { excerpt } from '../shell/excerpt';
import { systemClock } from './clock';
import { codeOf, field } from './foreign-error';

export interface GithubLimits {
  /** For a whole call, with its repetitions. */
  readonly limitSeconds: number;
  /** For one attempt, so that one lost answer leaves time for another try. */
  readonly attemptSeconds: number;
  /** Before the first repetition; doubled before each further one. */
  readonly pauseSeconds: number;
}

const LIMITS: GithubLimits = { limitSeconds: 10, attemptSeconds: 4, pauseSeconds: 0.5 };

/** https://docs.github.com/rest/about-the-rest-api/api-versions */
const API_VERSION = '2022-11-28';

const HEADERS = { accept: 'application/vnd.github+json', 'x-github-api-version': API_VERSION };

/** @param env of the runner: GITHUB_API_URL (another one on GitHub Enterprise Server), GITHUB_REPOSITORY */
export function openGithub(
  token: Secret,
  env: NodeJS.ProcessEnv,
  limits: Partial<GithubLimits> = {},
): GithubDeployments {
  const connection: Connection = {
    token,
    baseUrl: (env['GITHUB_API_URL'] ?? '').replace(/\/+$/, '') || 'https://api.github.com',
    repository: env['GITHUB_REPOSITORY'] ?? '',
    limits: { ...LIMITS, ...limits },
  };
  return {
    create: (request, limitSeconds) =>
      call(connection, 'create a Deployment', limitSeconds, async (github, attempt) => {
        // The attempt before got no answer, but may have got through: a second Deployment would stay for ever.
        const made = attempt === 1 ? undefined : await findDeployment(github, request);
        return made ?? createDeployment(github, request);
      }),
    find: (request, limitSeconds) =>
      call(connection, 'list the Deployments', limitSeconds, (github) => findDeployment(github, request)),
    setStatus: (deployment, status, limitSeconds) =>
      call(connection, "set a Deployment's status", limitSeconds, (github) => setStatus(github, deployment, status)),
  };
}

interface Connection {
  readonly token: Secret;
  readonly baseUrl: string;
  /** `owner/name`. */
  readonly repository: string;
  readonly limits: GithubLimits;
}

/**
 * Loaded at the first call: the package reads the file of the event as it loads, and fails where that is broken. `eager`
 * keeps it in the one file of the bundle.
 */
const loadLibrary = () => import(/* webpackMode: "eager" */ '@actions/github/lib/utils');

type Library = Awaited<ReturnType<typeof loadLibrary>>;
type Octokit = InstanceType<Library['GitHub']>;

/** One attempt's way to speak to GitHub. */
interface Attempt {
  readonly octokit: Octokit;
  /** What every request has in common. */
  readonly options: {
    readonly owner: string;
    readonly repo: string;
    readonly headers: typeof HEADERS;
    readonly request: { readonly signal: AbortSignal; readonly log: typeof log };
  };
}

async function createDeployment({ octokit, options }: Attempt, request: DeploymentRequest): Promise<number> {
  const { data } = await octokit.rest.repos.createDeployment({
    ...options,
    ref: request.commit,
    environment: request.environment,
    task: request.task,
    description: request.description,
    payload: { ...request.payload },
    // Else GitHub merges the default branch into what is deployed, or refuses while the commit's own checks, this very
    // workflow among them, have not ended.
    auto_merge: false,
    required_contexts: [],
  });
  const id = readId(data);
  if (id === undefined) throw new UnusableAnswer();
  return id;
}

async function findDeployment({ octokit, options }: Attempt, request: DeploymentRequest): Promise<number | undefined> {
  const { data } = await octokit.rest.repos.listDeployments({
    ...options,
    sha: request.commit,
    environment: request.environment,
    task: request.task,
    per_page: 100,
  });
  if (!Array.isArray(data)) throw new UnusableAnswer();
  return readId(data.find((one: unknown) => hasPayload(one, request.payload)));
}

/** GitHub gives a payload back as it was given, or as JSON in a text. */
function hasPayload(deployment: unknown, payload: DeploymentRequest['payload']): boolean {
  const given = field(deployment, 'payload');
  const found = typeof given === 'string' ? parse(given) : given;
  return Object.entries(payload).every(([name, value]) => field(found, name) === value);
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

async function setStatus(
  { octokit, options }: Attempt,
  deployment: number,
  { state, description, logUrl, environmentUrl }: DeploymentStatus,
): Promise<undefined> {
  const { data } = await octokit.rest.repos.createDeploymentStatus({
    ...options,
    deployment_id: deployment,
    state,
    description,
    ...(logUrl === '' ? {} : { log_url: logUrl }),
    ...(environmentUrl === '' ? {} : { environment_url: environmentUrl }),
    // Those that were live before in the environment are not any more.
    ...(state === 'success' ? { auto_inactive: true } : {}),
  });
  if (readId(data) === undefined) throw new UnusableAnswer();
  return undefined;
}

function readId(data: unknown): number | undefined {
  const id = field(data, 'id');
  return typeof id === 'number' && Number.isSafeInteger(id) && id > 0 ? id : undefined;
}

/** An answer of success without what it must hold: cut off, or not GitHub's. */
class UnusableAnswer extends Error {}

async function call<T>(
  connection: Connection,
  what: string,
  limitSeconds = connection.limits.limitSeconds,
  body: (github: Attempt, attempt: number) => Promise<T>,
): Promise<GithubAnswer<T>> {
  const { limits } = connection;
  const deadlineMs = performance.now() + limitSeconds * 1000;
  const unusable = findUnusable(connection);
  if (unusable !== undefined) return { ok: false, problem: unusable };
  const library = await loadLibrary().catch(() => undefined);
  if (library === undefined) {
    const message = "The library for GitHub's API could not be loaded: is the file at GITHUB_EVENT_PATH whole?";
    return { ok: false, problem: { message, hint: '', transient: false } };
  }
  for (let attempt = 1; ; attempt++) {
    const leftMs = Math.max(1, deadlineMs - performance.now());
    const signal = AbortSignal.timeout(Math.ceil(Math.min(limits.attemptSeconds * 1000, leftMs)));
    try {
      return { ok: true, value: await body(open(library, connection, signal), attempt) };
    } catch (error) {
      const problem = explain(error, what, connection, signal.aborted);
      const pauseSeconds = Math.max(limits.pauseSeconds * 2 ** (attempt - 1), readRetryAfterSeconds(error));
      const hasTime = performance.now() + pauseSeconds * 1000 < deadlineMs;
      if (!problem.transient || !hasTime) return { ok: false, problem };
      await systemClock.sleep(pauseSeconds);
    }
  }
}

/** What would fail in ways that show more than they should, or reach someone else. */
function findUnusable({ token, baseUrl, repository }: Connection): GithubProblem | undefined {
  const problem = (message: string, hint: string): GithubProblem => ({ message, hint, transient: false });
  // The HTTP library puts a header's value that it refuses into its error.
  if (!/^[\x21-\x7e]+$/.test(token.reveal())) {
    return problem('The input github-token holds no token.', 'Give it `${{ github.token }}`.');
  }
  if (!/^[\w.-]+\/[\w.-]+$/.test(repository)) {
    return problem('The environment variable GITHUB_REPOSITORY does not name a repository.', '');
  }
  if (!URL.canParse(baseUrl) || !/^https?:\/\//.test(baseUrl)) {
    return problem("The environment variable GITHUB_API_URL does not hold the address of GitHub's API.", '');
  }
  return undefined;
}

const quiet = (): void => undefined;
/**
 * The library prints headers of the answer to the log (that an operation is deprecated), where the runner could take them
 * for commands. It has two loggers: the client's, and the request's.
 */
const log = { debug: quiet, info: quiet, warn: quiet, error: quiet };

function open(
  { GitHub, getOctokitOptions }: Library,
  { token, baseUrl, repository }: Connection,
  signal: AbortSignal,
): Attempt {
  const [owner = '', repo = ''] = repository.split('/');
  return {
    octokit: new GitHub(getOctokitOptions(token.reveal(), { baseUrl, userAgent: 'slipway', log })),
    options: { owner, repo, headers: HEADERS, request: { signal, log } },
  };
}

const PERMISSION_HINT =
  'Add `deployments: write` under `permissions:` of the job (and `contents: read`, which is lost where there were no ' +
  '`permissions:` before); the caller of a reusable workflow has to grant it too.';

function explain(error: unknown, what: string, connection: Connection, timedOut: boolean): GithubProblem {
  const { baseUrl, repository, token } = connection;
  const problem = (message: string, hint: string, transient = false): GithubProblem => ({ message, hint, transient });
  const host = new URL(baseUrl).host;
  const response = field(error, 'response');
  const status = field(response, 'status');
  if (timedOut && typeof status !== 'number') {
    return problem(`${host} did not answer in time when asked to ${what}.`, '', true);
  }
  if (error instanceof UnusableAnswer) {
    return problem(`${host} gave no usable answer when asked to ${what}.`, '', true);
  }
  if (typeof status !== 'number') {
    const code = /^[A-Z][A-Z0-9_]{1,40}$/.exec(findCode(error))?.[0];
    return problem(`${host} could not be asked to ${what}${code === undefined ? '' : ` (${code})`}.`, '', true);
  }
  const said = quoteAnswer(response, token);
  if (status === 429 || (status === 403 && isRateLimited(response))) {
    return problem(`GitHub's rate limit is reached (${status}), so it did not ${what}${said}.`, '', true);
  }
  switch (status) {
    case 401:
      return problem(
        `GitHub does not accept the token (401)${said}.`,
        'Give the input github-token `${{ github.token }}`; other tokens may have expired.',
      );
    case 403:
      return problem(`The token of github-token may not ${what} in ${repository} (403)${said}.`, PERMISSION_HINT);
    case 404:
      return problem(
        `GitHub knows no repository ${repository}, or no such Deployment, for the token of github-token (404)${said}.`,
        PERMISSION_HINT,
      );
    case 409:
    case 422:
      return problem(
        `GitHub refused to ${what} (${status})${said}.`,
        'Check the input environment, and that the commit is in this repository.',
      );
    default:
      return problem(`GitHub answered ${status} when asked to ${what}${said}.`, '', status >= 500 || status === 408);
  }
}

/** The innermost error that has a code: the libraries wrap it. */
function findCode(error: unknown, depth = 0): string {
  const code = codeOf(error);
  return code !== '' || depth > 5 || error === undefined ? code : findCode(field(error, 'cause'), depth + 1);
}

/** A rate limit looks like a missing permission: https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api */
function isRateLimited(response: unknown): boolean {
  const headers = field(response, 'headers');
  return field(headers, 'retry-after') !== undefined || field(headers, 'x-ratelimit-remaining') === '0';
}

function readRetryAfterSeconds(error: unknown): number {
  const seconds = Number(field(field(field(error, 'response'), 'headers'), 'retry-after') ?? 0);
  return Number.isFinite(seconds) && seconds > 0 ? seconds : 0;
}

/** Nothing that GitHub writes in words has such a run of characters; tokens, keys and encodings do. */
const OPAQUE = /[\w+/=.~%-]{20,}/g;
/** No word of a sentence shares as much with a token by chance. */
const REVEALING_LENGTH = 8;

/** What the answer says, as ` (...)`: in words only, and not at all if it could show a piece of the token. */
function quoteAnswer(response: unknown, token: Secret): string {
  const data = field(response, 'data');
  const parts = [field(data, 'message'), field(field(field(data, 'errors'), '0'), 'message')];
  const redactor = new Redactor();
  redactor.add(token.reveal());
  const text = redactor
    .redact(parts.filter((part) => typeof part === 'string').join(': '))
    .slice(0, 2000)
    .replaceAll(OPAQUE, '…');
  const words = excerpt(text, 200).replace(/[.\s]+$/, '');
  return words === '' || sharesRun(words, token.reveal()) ? '' : ` (${words})`;
}

/** Also where something stands between the characters, or their case is another. */
function sharesRun(text: string, secret: string): boolean {
  const [where, what] = [text, secret].map((one) => one.replaceAll(/[^A-Za-z0-9]/g, '').toLowerCase());
  if (where === undefined || what === undefined) return true;
  const length = Math.min(REVEALING_LENGTH, what.length);
  return Array.from({ length: what.length - length + 1 }, (_, at) => what.slice(at, at + length)).some((run) =>
    where.includes(run),
  );
}
