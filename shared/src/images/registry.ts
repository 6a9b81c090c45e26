/**
 * Asks a registry for an image, from where the server stands and as its daemon would ask, without changing anything there
 * (https://github.com/opencontainers/distribution-spec/blob/main/spec.md).
 */
import { createHash } from 'node:crypto';
import { CancelledError, ConnectError, ImageError, RequestError } from '../errors';
import { Secret } from '../model/secret';
import type { Clock, Http, HttpResponse, Session } from '../ports';
import { parseJson, readList, readText } from '../json';
import { excerpt } from '../shell/excerpt';
import { script } from '../shell/render';
import { parseChallenges, tokenUrl } from './challenge';
import { type Credentials, credentialsFor } from './credentials';
import {
  choosePlatform,
  type DaemonFacts,
  type Endpoint,
  endpointsOf,
  formatPlatform,
  needsAddresses,
  type Platform,
} from './daemon';
import { ACCEPT, type Descriptor, type Manifest, parseConfig, parseManifest } from './manifest';
import { familiarName, formatFamiliar, type ImageReference, isDigest, pin, wanted } from './reference';

export interface ResolveOptions {
  readonly http: Http;
  readonly session: Session;
  readonly clock: Clock;
  readonly daemon: DaemonFacts;
  /** What the image must run on; default: the daemon's. A service's `platform:` goes here. */
  readonly platform?: Platform | undefined;
  /** Used for its own registry only. */
  readonly credentials?: Credentials | undefined;
  /**
   * Whether the server has this digest of this repository already: then its sizes are not asked for. Asking for a digest
   * alone is a HEAD request, which does not count against Docker Hub's pull limit.
   */
  readonly isPresent?: ((digest: string) => boolean | Promise<boolean>) | undefined;
  readonly signal?: AbortSignal | undefined;
  /** For each request. Default 20. */
  readonly timeoutSeconds?: number;
}

export interface ImageLayer extends Descriptor {
  /** Digest of the unpacked layer, as in `docker image inspect`'s RootFS.Layers. Empty if unknown. */
  readonly diffId: string;
}

export interface ResolvedImage {
  readonly kind: 'resolved';
  /** `name:tag@sha256:...`. */
  readonly pinned: string;
  /** Of the index if there is one: what `docker pull` records in RepoDigests. */
  readonly digest: string;
  readonly mediaType: string;
  /** The server has it: sizes and layers are not known and not needed. */
  readonly present: boolean;
  /** What a server without any of the layers would download. */
  readonly compressedBytes: number;
  /** In the order in which they are stacked. */
  readonly layers: readonly ImageLayer[];
  /** The one image, made for another platform, is all there is: a full sentence. Empty otherwise. */
  readonly warning: string;
}

/** We cannot tell, but `docker pull` on the server may. */
export interface UnresolvedImage {
  /**
   * `needs-login`: the registry wants a login that we do not have (the server may: credential helpers, `docker login`).
   * `needs-daemon`: the registry can only be reached in a way that the daemon knows (proxy, unverified TLS, no forwarding over SSH).
   */
  readonly kind: 'needs-login' | 'needs-daemon';
  /** Why, with what to do about it; full sentences. */
  readonly message: string;
}

export type Resolution = ResolvedImage | UnresolvedImage;

const MAX_DOCUMENT = 8 * 1024 * 1024;
const MAX_TOKEN = 16 * 1024;
const MAX_REDIRECTS = 5;
const RETRY_SECONDS = 1;

/**
 * The digest and sizes of an image.
 *
 * @throws ImageError if there is no such image, the login is wrong, or the registry cannot be talked to; ConnectError if
 *   the server is lost; CancelledError.
 */
export async function resolveImage(reference: ImageReference, options: ResolveOptions): Promise<Resolution> {
  if (reference.digest !== '' && (await options.isPresent?.(reference.digest)) === true) {
    return present(reference, reference.digest, '');
  }
  const addresses = needsAddresses(reference.registry, options.daemon)
    ? await readAddresses(options, reference.registry)
    : [];
  const endpoints = endpointsOf(reference.registry, options.daemon, addresses);
  const before: string[] = [];
  // A registry that need not be encrypted is tried both ways at once; a login never goes over the open one before that is
  // known to be the only one.
  const [, open] = endpoints;
  const isOpenToAll = credentialsFor(reference.registry, options.credentials) === undefined;
  const ahead =
    open?.url.startsWith('http:') === true && !open.mirror && isOpenToAll
      ? resolveAt(open, reference, options)
      : undefined;
  ahead?.catch(() => undefined);
  for (const [index, endpoint] of endpoints.entries()) {
    const last = index === endpoints.length - 1;
    try {
      const resolution = await (endpoint === open && ahead !== undefined
        ? ahead
        : resolveAt(endpoint, reference, options));
      if (resolution.kind === 'resolved' || !endpoint.mirror) return resolution;
      before.push(resolution.message);
    } catch (error) {
      if (!(error instanceof ImageError || error instanceof RequestError)) throw error;
      if (endpoint.mirror && !last) {
        before.push(excerpt(error.message, 300));
        continue;
      }
      if (error instanceof ImageError) throw withMirrors(error, before);
      const unresolved = giveUp(error, endpoint, reference, options.daemon, last, before);
      if (unresolved !== undefined) return unresolved;
    }
  }
  // The last endpoint is no mirror: it has returned or thrown.
  throw new ImageError(`No registry answers for ${familiarName(reference)}.`, HINT_REACH);
}

/** Why a request got no answer: thrown, or returned where `docker pull` may do better; undefined: go on with the next endpoint. */
function giveUp(
  error: RequestError,
  endpoint: Endpoint,
  reference: ImageReference,
  daemon: DaemonFacts,
  last: boolean,
  before: readonly string[],
): UnresolvedImage | undefined {
  const where = `registry ${reference.registry}`;
  if (endpoint.insecure && isCertificateTrouble(error)) {
    return {
      kind: 'needs-daemon',
      message: `The certificate of ${where} is not valid; the daemon accepts it because the registry is one of its insecure-registries, but we do not.`,
    };
  }
  if (daemon.usesProxy && error.reason !== 'tls') {
    return {
      kind: 'needs-daemon',
      message: `Registry ${reference.registry} did not answer directly; the daemon reaches it through a proxy.`,
    };
  }
  if (isForwardingRefused(error)) {
    return {
      kind: 'needs-daemon',
      message: `The server's sshd does not forward connections (AllowTcpForwarding), so ${where} cannot be asked for the size of an image.`,
    };
  }
  if (!last) return undefined;
  if (error.reason === 'tls') {
    throw new ImageError(
      `The TLS certificate of ${where} cannot be verified: ${excerpt(error.message, 300)}`,
      'Put the certificate of its authority on the server into ' +
        `/etc/docker/certs.d/${reference.registry}/ca.crt, which Docker and Slipway then trust for this registry alone.`,
      { cause: error },
    );
  }
  throw withMirrors(
    new ImageError(`The server cannot reach ${where}: ${excerpt(error.message, 300)}`, HINT_REACH, { cause: error }),
    before,
  );
}

/** Who has set up a mirror expects it to answer: what it said must not get lost. */
function withMirrors(error: ImageError, before: readonly string[]): ImageError {
  if (before.length === 0) return error;
  return new ImageError(`${error.message} Asked before that: ${before.join(' ')}`, error.hint, { cause: error });
}

const HINT_REACH =
  'Check the registry in the image name, and on the server its DNS, firewall and proxy: try `docker pull` there.';

function present(reference: ImageReference, digest: string, mediaType: string): ResolvedImage {
  return {
    kind: 'resolved',
    pinned: pin(reference, digest),
    digest,
    mediaType,
    present: true,
    compressedBytes: 0,
    layers: [],
    warning: '',
  };
}

/** Thrown inside this file when the registry wants a login that we do not have. */
class NeedsLogin extends Error {}

async function resolveAt(endpoint: Endpoint, reference: ImageReference, options: ResolveOptions): Promise<Resolution> {
  const client = new RegistryClient(endpoint, reference, options);
  try {
    return await resolveWith(client, reference, options);
  } catch (error) {
    if (!(error instanceof NeedsLogin)) throw error;
    return { kind: 'needs-login', message: error.message };
  }
}

async function resolveWith(
  client: RegistryClient,
  reference: ImageReference,
  options: ResolveOptions,
): Promise<ResolvedImage> {
  if (options.isPresent !== undefined && reference.digest === '') {
    const head = await client.fetch('HEAD', `manifests/${wanted(reference)}`, ACCEPT);
    const digest = head.headers['docker-content-digest'] ?? '';
    if (isDigest(digest) && (await options.isPresent(digest)))
      return present(reference, digest, head.headers['content-type'] ?? '');
  }
  const top = await client.fetchManifest(wanted(reference), reference.digest);
  const platform = options.platform ?? options.daemon.platform;
  const image =
    top.manifest.kind === 'index' ? await fetchForPlatform(client, top.manifest, platform, reference) : top.manifest;
  const config = parseConfig(await client.fetchConfig(image.config));
  const runs = config.platform === undefined || choosePlatform(platform, [{ platform: config.platform }]) !== undefined;
  const known = config.diffIds.length === image.layers.length ? config.diffIds : [];
  return {
    kind: 'resolved',
    pinned: pin(reference, top.digest),
    digest: top.digest,
    mediaType: top.manifest.mediaType,
    present: false,
    compressedBytes: sumOnce(image.layers),
    layers: image.layers.map((layer, index) => ({ ...layer, diffId: known[index] ?? '' })),
    warning: runs
      ? ''
      : `${formatFamiliar(reference)} is made for ${formatPlatform(config.platform)}, and the server is ${formatPlatform(platform)}: ` +
        'it will only run under emulation.',
  };
}

type ImageManifest = Extract<Manifest, { kind: 'image' }>;
type UsableManifest = Exclude<Manifest, { kind: 'unusable' }>;

async function fetchForPlatform(
  client: RegistryClient,
  index: Extract<Manifest, { kind: 'index' }>,
  platform: Platform,
  reference: ImageReference,
): Promise<ImageManifest> {
  const chosen = choosePlatform(platform, index.manifests);
  if (chosen === undefined) {
    const available = [...new Set(index.manifests.map((entry) => formatPlatform(entry.platform)))];
    const shown = available.slice(0, 20).map((text) => excerpt(text, 50));
    throw new ImageError(
      `${formatFamiliar(reference)} is not available for ${formatPlatform(platform)}: it is made for ` +
        `${shown.join(', ') || 'no platform at all'}${available.length > shown.length ? ', ...' : ''}.`,
      'Build the image for the server too (`docker buildx build --platform`), or set `platform:` of the service if the server can emulate another.',
    );
  }
  const { manifest } = await client.fetchManifest(chosen.digest, chosen.digest);
  if (manifest.kind === 'image') return manifest;
  throw new ImageError(
    `${formatFamiliar(reference)} is an index within an index, which Docker does not pull.`,
    HINT_REGISTRY,
  );
}

/** Equal layers are downloaded once. */
function sumOnce(layers: readonly Descriptor[]): number {
  return [...new Map(layers.map((layer) => [layer.digest, layer.bytes])).values()].reduce(
    (sum, bytes) => sum + bytes,
    0,
  );
}

const HINT_REGISTRY = 'Check that the image name points to a container registry, and push the image again.';

/** One repository at one endpoint, with the login that it has asked for. */
class RegistryClient {
  readonly #endpoint: Endpoint;
  readonly #reference: ImageReference;
  readonly #options: ResolveOptions;
  readonly #credentials: Credentials | undefined;
  #authorization: Secret | undefined;
  #ca: string | undefined;

  constructor(endpoint: Endpoint, reference: ImageReference, options: ResolveOptions) {
    this.#endpoint = endpoint;
    this.#reference = reference;
    this.#options = options;
    this.#credentials = endpoint.mirror ? undefined : credentialsFor(reference.registry, options.credentials);
  }

  /** A manifest or index, and the digest of its bytes. */
  async fetchManifest(
    name: string,
    digest: string,
  ): Promise<{ readonly manifest: UsableManifest; readonly digest: string }> {
    const response = await this.fetch('GET', `manifests/${name}`, ACCEPT);
    const actual = this.#verify(response, digest, 'manifest');
    const manifest = parseManifest(response.body, response.headers['content-type'] ?? '');
    if (manifest.kind === 'unusable') {
      throw new ImageError(
        `What ${this.#place} has for ${formatFamiliar(this.#reference)} ${manifest.why}.`,
        HINT_REGISTRY,
      );
    }
    return { manifest, digest: actual };
  }

  async fetchConfig(config: Descriptor): Promise<string> {
    const response = await this.fetch('GET', `blobs/${config.digest}`, '*/*');
    this.#verify(response, config.digest, 'configuration');
    return response.body;
  }

  /** @returns the digest of the body. @throws ImageError if it is not the one that was asked for. */
  #verify(response: HttpResponse, digest: string, what: string): string {
    const actual = `sha256:${createHash('sha256').update(response.body).digest('hex')}`;
    // Other algorithms are rare, and the daemon checks them at the pull.
    if (!response.truncated && (digest === '' || !digest.startsWith('sha256:') || digest === actual)) {
      return digest === '' ? actual : digest;
    }
    throw new ImageError(
      response.truncated
        ? `The ${what} of ${formatFamiliar(this.#reference)} has more than ${MAX_DOCUMENT / 1024 / 1024} MiB.`
        : `${this.#subject} answered with another ${what} of ${formatFamiliar(this.#reference)} than its digest says: it may be damaged or forged.`,
      HINT_REGISTRY,
    );
  }

  /** An answer with status 200; logs in when asked to. */
  async fetch(method: 'GET' | 'HEAD', path: string, accept: string): Promise<HttpResponse> {
    const url = `${this.#endpoint.url}/v2/${this.#reference.repository}/${path}`;
    let response = await this.#follow(method, url, accept);
    if (response.status === 401) {
      // A second 401 with the login at hand is an answer.
      if (this.#authorization === undefined) {
        await this.#logIn(response.headers['www-authenticate'] ?? '');
        response = await this.#follow(method, url, accept);
      }
    }
    if (response.status === 200) return response;
    throw this.#explain(response);
  }

  /** Blobs are mostly kept elsewhere. The login stays with the registry: another host gets none. */
  async #follow(method: 'GET' | 'HEAD', from: string, accept: string): Promise<HttpResponse> {
    let url = from;
    for (let hop = 0; hop <= MAX_REDIRECTS; hop++) {
      const own = new URL(url).origin === new URL(from).origin;
      const response = await this.#send(method, url, accept, own ? this.#authorization : undefined);
      if (![301, 302, 303, 307, 308].includes(response.status)) return response;
      const location = response.headers['location'] ?? '';
      const next = location.length <= 8192 && URL.canParse(location, url) ? new URL(location, url) : undefined;
      const secure = next?.protocol === 'https:' || (next?.protocol === 'http:' && url.startsWith('http:'));
      if (next === undefined || !secure) {
        throw new ImageError(`${this.#subject} redirects to a place that is not safe to follow.`, HINT_REGISTRY);
      }
      next.username = '';
      next.password = '';
      next.hash = '';
      url = next.href;
    }
    throw new ImageError(`${this.#subject} redirects in a circle.`, HINT_REGISTRY);
  }

  /** One request, once more after a passing trouble, and once more with the server's own certificate authorities. */
  async #send(
    method: 'GET' | 'HEAD',
    url: string,
    accept: string,
    authorization: Secret | undefined,
  ): Promise<HttpResponse> {
    const { http, session, clock, signal, timeoutSeconds = 20 } = this.#options;
    let retried = false;
    for (;;) {
      try {
        const response = await http.request({
          method,
          url,
          headers: {
            accept,
            'user-agent': 'slipway',
            ...(authorization === undefined ? {} : { authorization }),
          },
          timeoutSeconds,
          maxBodyBytes: MAX_DOCUMENT,
          dial: (host, port) => session.dial(host, port),
          ca: this.#ca,
          signal,
        });
        if (response.status < 500 || retried) return response;
      } catch (error) {
        if (error instanceof CancelledError) throw error;
        const failure = asRequestError(error);
        if (isCertificateTrouble(failure) && !this.#endpoint.insecure && this.#ca === undefined) {
          this.#ca = await readAuthorities(this.#options, this.#reference.registry);
          if (this.#ca !== '') continue;
        }
        const passing = failure.reason === 'timeout' || failure.reason === 'closed';
        // A mirror or a proxy has somebody behind it who is asked next.
        if (retried || !passing || this.#endpoint.mirror || this.#options.daemon.usesProxy) throw failure;
      }
      retried = true;
      await clock.sleep(RETRY_SECONDS, signal);
    }
  }

  async #logIn(header: string): Promise<void> {
    const challenges = parseChallenges(header);
    const bearer = challenges.find(({ scheme }) => scheme === 'bearer');
    if (bearer === undefined) {
      if (challenges.some(({ scheme }) => scheme === 'basic') && this.#credentials !== undefined) {
        this.#authorization = basic(this.#credentials);
        return;
      }
      throw this.#needsLogin();
    }
    const url = tokenUrl(bearer, this.#endpoint.url, this.#reference.repository);
    if (url === undefined) {
      throw new ImageError(
        `${this.#subject} names no token service that a login could safely be sent to: ${excerpt(bearer.parameters.get('realm') ?? '', 200)}`,
        'A token service must be reached by https, or be the registry itself. Check the registry with its operator.',
      );
    }
    const response = await this.#send('GET', url, 'application/json', this.#credentials && basic(this.#credentials));
    if (response.status !== 200) throw this.#explain(response, 'token service');
    const json = response.truncated ? undefined : parseJson(response.body);
    const token = readText(json, 'token') || readText(json, 'access_token');
    if (token === '' || token.length > MAX_TOKEN || !/^[\x21-\x7e]+$/.test(token)) {
      throw new ImageError(`The token service of ${this.#place} answered without a usable token.`, HINT_LATER);
    }
    this.#authorization = new Secret(`Bearer ${token}`);
  }

  /** To begin a sentence with. */
  get #subject(): string {
    return this.#place.replace(/^[mr]/, (letter) => letter.toUpperCase());
  }

  get #place(): string {
    return this.#endpoint.mirror
      ? `mirror ${new URL(this.#endpoint.url).host}`
      : `registry ${this.#reference.registry}`;
  }

  #needsLogin(): NeedsLogin {
    return new NeedsLogin(
      `${this.#subject} does not show ${familiarName(this.#reference)} without a login: it is private, or it does not exist. ` +
        'Set registry, registry-username and registry-password, or log in on the server with `docker login`.',
    );
  }

  /** What an answer other than 200 means. */
  #explain(response: HttpResponse, from = 'registry'): Error {
    const { status } = response;
    const image = formatFamiliar(this.#reference);
    const name = familiarName(this.#reference);
    const { code, message } = readRegistryError(response.body);
    const said = message === '' ? '' : ` It says: ${message}`;
    if (status === 429 || code === 'TOOMANYREQUESTS') {
      return new ImageError(
        `${this.#subject} answers no more for now: too many requests from this server's address.${said}`,
        this.#credentials === undefined
          ? 'Log in: set registry, registry-username and registry-password (a login has a higher limit), use a registry mirror, or wait.'
          : 'Wait before the next deploy, or use a registry mirror.',
      );
    }
    if (status === 401 || status === 403) {
      if (this.#credentials === undefined) return this.#needsLogin();
      const user = JSON.stringify(excerpt(this.#credentials.username, 100));
      if (status === 401 && (from === 'token service' || this.#authorization?.reveal().startsWith('Basic ') === true)) {
        return new ImageError(`${this.#subject} refused the login of user ${user}.${said}`, HINT_LOGIN);
      }
      return new ImageError(
        `${this.#subject} does not let user ${user} read ${name}, or the image does not exist.${said}`,
        `${HINT_LOGIN} Give that user the right to read the image, and check its name.`,
      );
    }
    if (status === 404) {
      return new ImageError(
        code === 'NAME_UNKNOWN'
          ? `${this.#subject} has no image ${name}.`
          : this.#reference.digest === ''
            ? `${this.#subject} has no image ${name} with tag ${wanted(this.#reference)}.`
            : `${this.#subject} has no image ${name} with digest ${this.#reference.digest}.`,
        `Check the name, and that the image was pushed before this deploy: \`docker manifest inspect ${image}\` shows what is there.`,
      );
    }
    return new ImageError(
      `The ${from === 'registry' ? '' : `${from} of `}${this.#place} answered with status ${status}.${said}`,
      HINT_LATER,
    );
  }
}

const HINT_LOGIN =
  'Check registry-username and registry-password; many registries want an access token with the right to read packages.';
const HINT_LATER = "Look at the registry's status page or its logs, and run the deploy again.";

function basic({ username, password }: Credentials): Secret {
  return new Secret(`Basic ${Buffer.from(`${username}:${password.reveal()}`).toString('base64')}`);
}

/** The first error of a registry's answer; texts shortened, since they come from outside. */
function readRegistryError(body: string): { readonly code: string; readonly message: string } {
  const json = parseJson(body);
  const [first] = readList(json, 'errors');
  return {
    code: readText(first, 'code').toUpperCase(),
    message: excerpt(readText(first, 'message') || readText(json, 'message') || readText(json, 'details'), 200),
  };
}

function asRequestError(error: unknown): RequestError {
  // Of our own connection: the server is gone, not the registry.
  const lost = [...causes(error)].find((cause) => cause instanceof ConnectError && cause.reason === 'lost');
  if (error instanceof RequestError && lost === undefined) return error;
  throw lost ?? error;
}

function* causes(error: unknown): Generator<object> {
  let next = error;
  for (let depth = 0; typeof next === 'object' && next !== null && depth < 10; depth++) {
    yield next;
    next = 'cause' in next ? next.cause : undefined;
  }
}

/** A certificate was shown and not accepted; other TLS errors mean that nobody speaks TLS there. */
function isCertificateTrouble(error: RequestError): boolean {
  if (error.reason !== 'tls') return false;
  return [...causes(error)].some(
    (cause) => 'code' in cause && /CERT|LEAF_SIGNATURE|CRL|ISSUER/.test(String(cause.code)),
  );
}

/** https://www.rfc-editor.org/rfc/rfc4254#section-5.1 */
const ADMINISTRATIVELY_PROHIBITED = 1;

function isForwardingRefused(error: RequestError): boolean {
  return [...causes(error)].some((cause) => 'reason' in cause && cause.reason === ADMINISTRATIVELY_PROHIBITED);
}

async function readAddresses(options: ResolveOptions, registry: string): Promise<string[]> {
  const host = registry.replace(/:\d+$/, '');
  const { stdout } = await options.session.run(
    { words: ['getent', 'ahosts', host] },
    {
      accept: 'any',
      timeoutSeconds: 15,
      purpose: `resolve ${host}`,
      ...(options.signal === undefined ? {} : { signal: options.signal }),
    },
  );
  return [...new Set(stdout.split('\n').map((line) => line.split(/\s/)[0] ?? ''))].filter((address) => address !== '');
}

/** What the daemon trusts: its own folder for the registry, then the system's. */
const AUTHORITIES = `for file in "/etc/docker/certs.d/$1"/*.crt "$HOME/.config/docker/certs.d/$1"/*.crt \\
  /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/ca-bundle.pem; do
  if [ -f "$file" ] && [ -r "$file" ]; then cat "$file"; echo; fi
done
exit 0`;

async function readAuthorities(options: ResolveOptions, registry: string): Promise<string> {
  const { stdout } = await options.session.run(script(AUTHORITIES, registry), {
    timeoutSeconds: 15,
    purpose: 'read the certificate authorities that the server trusts',
    ...(options.signal === undefined ? {} : { signal: options.signal }),
  });
  return [...stdout.matchAll(/-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----/g)]
    .map(([pem]) => pem)
    .join('\n');
}
