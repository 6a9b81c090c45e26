/**
 * A stand-in for GitHub's API that keeps Deployments, issues, comments, releases and tags, and holds every request and every answer of its own against GitHub's
 * description. What is wrong is answered with 422, and stays in `problems`: a test ends with `expect(api.problems).toEqual([])`.
 */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { findOperation, judgeAnswer, judgeRequest, type Matched, type Operation } from './description';

export interface KeptDeployment {
  readonly id: number;
  /** As it came in the request. */
  readonly asked: Readonly<Record<string, unknown>>;
  /** In the order in which they came. */
  readonly statuses: Record<string, unknown>[];
}

export interface KeptIssue {
  readonly number: number;
  readonly title: string;
  body: string;
  readonly labels: readonly string[];
  state: string;
}

export interface KeptComment {
  readonly id: number;
  /** Of the issue or pull request. */
  readonly issue: number;
  body: string;
  /** `Bot` where a workflow wrote it. */
  readonly by: 'Bot' | 'User';
}

export interface KeptRelease {
  readonly id: number;
  /** As it came in the requests, the later ones over the earlier. */
  asked: Readonly<Record<string, unknown>>;
  /** Content by file name. */
  readonly assets: Record<string, string>;
  immutable: boolean;
}

export interface SeenRequest {
  readonly method: string;
  readonly url: string;
  readonly authorization: string;
  readonly body: string;
}

/** Sees a request before it is answered; answers it itself by returning true. It has been kept as if it had come through. */
export type Hook = (request: SeenRequest, response: ServerResponse, index: number) => boolean | Promise<boolean>;

interface Answer {
  readonly status: number;
  readonly body: unknown;
}

export class GithubApi {
  readonly seen: SeenRequest[] = [];
  /** What was not as GitHub describes it. */
  readonly problems: string[] = [];
  readonly deployments: KeptDeployment[] = [];
  readonly issues: KeptIssue[] = [];
  readonly comments: KeptComment[] = [];
  readonly releases: KeptRelease[] = [];
  /** Commits, or annotated tags, by ref: `refs/tags/v1`. */
  readonly refs: Record<string, string> = {};
  /** What annotated tags lead to, by their ids: a commit, or another of them. */
  readonly annotatedTags: Record<string, string> = {};
  /** The repository's setting: what is published can never be changed. */
  makesImmutable = true;
  /** Asked before the request is carried out. */
  before: Hook = () => false;
  /** Asked once it has been carried out: an answer that is lost on its way. */
  after: Hook = () => false;
  readonly #server: Server;

  /** @param repository `owner/name`, the only one there is. @param prefix of all paths: `/api/v3` on GitHub Enterprise Server. */
  constructor(
    readonly repository: string,
    readonly token: string,
    readonly prefix = '',
  ) {
    this.#server = createServer((request, response) => {
      this.#handle(request, response).catch((error: unknown) => {
        this.problems.push(String(error));
        response.destroy();
      });
    });
  }

  /** @param address of this machine, where others shall reach it. @returns what to give as GITHUB_API_URL */
  async listen(address = '127.0.0.1'): Promise<string> {
    this.#server.listen(0, address);
    await once(this.#server, 'listening');
    return this.#url();
  }

  #url(): string {
    const { address, port } = this.#server.address() as AddressInfo;
    return `http://${address}:${port}${this.prefix}`;
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, 'close');
  }

  async #handle(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of incoming) chunks.push(chunk as Buffer);
    const request: SeenRequest = {
      method: incoming.method ?? '',
      url: (incoming.url ?? '').startsWith(this.prefix)
        ? (incoming.url ?? '').slice(this.prefix.length)
        : `outside of ${this.prefix}`,
      authorization: incoming.headers.authorization ?? '',
      body: Buffer.concat(chunks).toString(),
    };
    const index = this.seen.push(request) - 1;
    if (await this.before(request, response, index)) return;
    const problems = judgeRequest({ ...request, headers: incoming.headers });
    this.problems.push(...problems);
    const matched = findOperation(request.method, request.url);
    const answer =
      problems.length > 0 || matched === undefined
        ? { status: 422, body: { message: 'Validation Failed', documentation_url: '', errors: [] } }
        : this.#carryOut(matched, request);
    if (await this.after(request, response, index)) return;
    if (matched !== undefined) this.problems.push(...judgeAnswer(matched.operation, answer.status, answer.body));
    if (answer.body === undefined) response.writeHead(answer.status).end();
    else answerJson(response, answer.status, answer.body);
  }

  #carryOut({ operation, path, query }: Matched, request: SeenRequest): Answer {
    // GitHub hides what a token may not see.
    const notFound = { status: 404, body: { message: 'Not Found', documentation_url: 'https://docs.github.com/rest' } };
    if (request.authorization.replace(/^\S+ /, '') !== this.token) {
      return { status: 401, body: { message: 'Bad credentials', documentation_url: 'https://docs.github.com/rest' } };
    }
    if (`${path['owner'] ?? ''}/${path['repo'] ?? ''}` !== this.repository) return notFound;
    const isJson = request.body !== '' && operation.file !== true;
    const body = (isJson ? JSON.parse(request.body) : {}) as Record<string, unknown>;
    const deployment = this.deployments.find((one) => String(one.id) === path['deployment_id']);
    switch (operation.id) {
      case 'repos/create-deployment': {
        const kept: KeptDeployment = { id: this.deployments.length + 1001, asked: body, statuses: [] };
        this.deployments.push(kept);
        return { status: 201, body: showDeployment(operation, kept) };
      }
      case 'repos/list-deployments': {
        const found = this.deployments.filter(
          ({ asked }) =>
            [undefined, asked['ref']].includes(query['sha']) &&
            [undefined, asked['environment'] ?? 'production'].includes(query['environment']) &&
            [undefined, asked['task'] ?? 'deploy'].includes(query['task']),
        );
        const newestFirst = [...found].reverse().slice(0, Number(query['per_page'] ?? 30));
        return { status: 200, body: newestFirst.map((one) => showDeployment(operation, one)) };
      }
      case 'repos/create-deployment-status':
        if (deployment === undefined) return notFound;
        deployment.statuses.push(body);
        return { status: 201, body: showStatus(operation, deployment, deployment.statuses.length) };
      case 'repos/list-deployment-statuses':
        if (deployment === undefined) return notFound;
        return {
          status: 200,
          body: deployment.statuses.map((_, at) => showStatus(operation, deployment, at + 1)).reverse(),
        };
      default:
        return (
          (operation.id.startsWith('issues/')
            ? this.#carryOutIssue({ operation, path, query }, body)
            : operation.id.startsWith('git/')
              ? this.#carryOutRef({ operation, path, query }, body)
              : this.#carryOutRelease({ operation, path, query }, body, request.body)) ?? notFound
        );
    }
  }

  #carryOutRelease({ operation, path, query }: Matched, body: Readonly<Record<string, unknown>>, file: string) {
    const release = this.releases.find((one) => String(one.id) === path['release_id']);
    const show = (status: number, one: KeptRelease): Answer => ({ status, body: this.#showRelease(operation, one) });
    const refuse = (): Answer => ({
      status: 422,
      body: { message: 'Validation Failed', documentation_url: '', errors: [{ resource: 'Release', code: 'custom' }] },
    });
    switch (operation.id) {
      case 'repos/list-releases':
        return {
          status: 200,
          body: takePage([...this.releases].reverse(), query).map((one) => this.#showRelease(operation, one)),
        };
      case 'repos/create-release': {
        if (body['draft'] !== true && this.releases.some(({ asked }) => asked['tag_name'] === body['tag_name'])) {
          return refuse();
        }
        const kept = { id: this.seen.length + 2001, asked: body, assets: {}, immutable: false };
        this.releases.push(kept);
        return show(201, kept);
      }
      case 'repos/get-release':
        return release && show(200, release);
      case 'repos/update-release':
        if (release === undefined) return undefined;
        release.asked = { ...release.asked, ...body };
        if (body['draft'] === false) release.immutable = this.makesImmutable;
        return show(200, release);
      case 'repos/delete-release':
        if (release === undefined) return undefined;
        if (release.immutable) return refuse();
        this.releases.splice(this.releases.indexOf(release), 1);
        return { status: 204, body: undefined };
      case 'repos/upload-release-asset': {
        const name = query['name'] ?? '';
        if (release === undefined) return undefined;
        if (release.immutable || name in release.assets) return refuse();
        release.assets[name] = file;
        return { status: 201, body: { ...readExample(operation), name, size: Buffer.byteLength(file) } };
      }
      default:
        throw new Error(`${operation.id} is not imitated`);
    }
  }

  #showRelease(operation: Operation, { id, asked, assets, immutable }: KeptRelease): object {
    const example = readExample(operation);
    const [asset] = example['assets'] as object[];
    return {
      ...example,
      assets: Object.entries(assets).map(([name, file]) => ({
        ...asset,
        name,
        size: Buffer.byteLength(file),
        digest: `sha256:${createHash('sha256').update(file).digest('hex')}`,
      })),
      ...pick(asked, ['tag_name', 'name', 'body', 'draft', 'prerelease']),
      id,
      immutable,
      upload_url: `${this.#url()}/repos/${this.repository}/releases/${id}/assets{?name,label}`,
    };
  }

  /** An object as a ref or an annotated tag shows what it leads to. */
  #showObject(example: Readonly<Record<string, unknown>>, sha: string | undefined): object {
    const type = sha !== undefined && sha in this.annotatedTags ? 'tag' : 'commit';
    return { ...example, object: { ...(example['object'] as object), sha, type } };
  }

  #carryOutRef({ operation, path }: Matched, body: Readonly<Record<string, unknown>>): Answer | undefined {
    if (operation.id === 'git/get-tag') {
      const sha = path['tag_sha'] ?? '';
      if (!(sha in this.annotatedTags)) return undefined;
      return { status: 200, body: { ...this.#showObject(readExample(operation), this.annotatedTags[sha]), sha } };
    }
    const name = operation.id === 'git/create-ref' ? (body['ref'] as string) : `refs/${path['ref'] ?? ''}`;
    const isThere = name in this.refs;
    if (isThere === (operation.id === 'git/create-ref')) {
      return isThere ? { status: 422, body: { message: 'Reference already exists' } } : undefined;
    }
    if (operation.id !== 'git/get-ref') this.refs[name] = body['sha'] as string;
    const shown = this.#showObject(readExample(operation), this.refs[name]);
    return { status: operation.id === 'git/create-ref' ? 201 : 200, body: { ...shown, ref: name } };
  }

  #carryOutIssue({ operation, path, query }: Matched, body: Readonly<Record<string, unknown>>): Answer | undefined {
    const issue = this.issues.find((one) => String(one.number) === path['issue_number']);
    switch (operation.id) {
      case 'issues/list-for-repo': {
        const labels = (query['labels'] ?? '').split(',').filter((label) => label !== '');
        const found = this.issues.filter(
          (one) =>
            [one.state, 'all'].includes(query['state'] ?? 'open') &&
            labels.every((label) => one.labels.includes(label)),
        );
        if (query['direction'] !== 'asc') found.reverse();
        return { status: 200, body: takePage(found, query).map((one) => showIssue(operation, one)) };
      }
      case 'issues/create': {
        const kept: KeptIssue = {
          number: this.issues.length + 1,
          title: body['title'] as string,
          body: (body['body'] ?? '') as string,
          labels: (body['labels'] ?? []) as string[],
          state: 'open',
        };
        this.issues.push(kept);
        return { status: 201, body: showIssue(operation, kept) };
      }
      case 'issues/update':
        if (issue === undefined) return undefined;
        if (typeof body['body'] === 'string') issue.body = body['body'];
        if (typeof body['state'] === 'string') issue.state = body['state'];
        return { status: 200, body: showIssue(operation, issue) };
      case 'issues/list-comments': {
        const found = this.comments.filter((one) => String(one.issue) === path['issue_number']);
        return { status: 200, body: takePage(found, query).map((one) => showComment(operation, one)) };
      }
      case 'issues/create-comment': {
        const kept: KeptComment = {
          id: this.comments.length + 501,
          issue: Number(path['issue_number']),
          body: body['body'] as string,
          by: 'Bot',
        };
        this.comments.push(kept);
        return { status: 201, body: showComment(operation, kept) };
      }
      case 'issues/update-comment': {
        const comment = this.comments.find((one) => String(one.id) === path['comment_id']);
        if (comment === undefined) return undefined;
        comment.body = body['body'] as string;
        return { status: 200, body: showComment(operation, comment) };
      }
      default:
        throw new Error(`${operation.id} is not imitated`);
    }
  }
}

function takePage<T>(all: readonly T[], query: Matched['query']): T[] {
  const size = Number(query['per_page'] ?? 30);
  const from = (Number(query['page'] ?? 1) - 1) * size;
  return all.slice(from, from + size);
}

/** GitHub's own example of an answer, with what was asked for in it. */
function readExample({ responses, id }: Operation): Record<string, unknown> {
  const example = (responses['201'] ?? responses['200'])?.example;
  const one: unknown = Array.isArray(example) ? example[0] : example;
  if (typeof one !== 'object' || one === null) throw new Error(`${id} has no example`);
  return one as Record<string, unknown>;
}

function showDeployment(operation: Operation, { id, asked }: KeptDeployment): object {
  return { ...readExample(operation), sha: asked['ref'], ...pick(asked, DEPLOYMENT_SHOWS), id };
}

function showStatus(operation: Operation, { statuses }: KeptDeployment, number: number): object {
  return { ...readExample(operation), ...pick(statuses[number - 1] ?? {}, STATUS_SHOWS), id: number };
}

function showIssue(operation: Operation, { number, title, body, labels, state }: KeptIssue): object {
  // GitHub's example of a list is of pull requests, too.
  return {
    ...readExample(operation),
    pull_request: undefined,
    number,
    title,
    body,
    state,
    labels: labels.map((name) => ({ name })),
  };
}

function showComment(operation: Operation, { id, body, by }: KeptComment): object {
  const example = readExample(operation);
  return { ...example, id, body, user: { ...(example['user'] as object), type: by } };
}

const DEPLOYMENT_SHOWS = ['ref', 'task', 'payload', 'environment', 'description'];
const STATUS_SHOWS = ['state', 'description', 'log_url', 'environment_url'];

function pick(asked: Readonly<Record<string, unknown>>, names: readonly string[]): object {
  return Object.fromEntries(Object.entries(asked).filter(([name]) => names.includes(name)));
}

export function answerJson(
  response: ServerResponse,
  status: number,
  document: unknown,
  headers: Readonly<Record<string, string>> = {},
): void {
  response.writeHead(status, { 'content-type': 'application/json; charset=utf-8', ...headers });
  response.end(JSON.stringify(document));
}
