/** Gets one image onto the server. */
import { CancelledError, ImageError } from '../errors';
import { Secret } from '../model/secret';
import type { Clock, Session } from '../ports';
import { parseJson, readList, readText } from '../json';
import { excerpt } from '../shell/excerpt';
import { type Credentials, credentialsFor } from './credentials';
import { formatPlatform, type Platform } from './daemon';
import { askEngine, EngineHungUp } from './engine';
import { explainPullFailure } from './pull-failure';
import { formatProgress, formatPulled, PullProgress } from './progress';
import {
  canonicalName,
  DEFAULT_REGISTRY,
  expectReference,
  familiarName,
  formatFamiliar,
  type ImageReference,
  isDigest,
  normalizeRegistry,
  parseReference,
  pin,
  sameRepository,
  wanted,
} from './reference';

export interface PullOptions {
  readonly clock: Clock;
  /** Used for its own registry only; without it the server's own logins apply. */
  readonly credentials?: Credentials | undefined;
  /** What is pulled, in progress lines: the service. Default: the image's name. */
  readonly label?: string | undefined;
  /** The image's layers, if known, for sizes in progress lines. */
  readonly layers?: readonly { readonly digest: string; readonly bytes: number }[] | undefined;
  /** Where it is not the server's own: a service's `platform:`. */
  readonly platform?: Platform | undefined;
  /** At most a line every 3 seconds, and one at the end. */
  readonly onProgress?: ((line: string) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
  /** For all tries together. Default 900. */
  readonly timeoutSeconds?: number | undefined;
}

export interface PulledImage {
  /** `name:tag@sha256:...`. */
  readonly pinned: string;
  readonly digest: string;
  /** `sha256:...`, by which `docker` knows it locally: of its configuration, with containerd's image store of its manifest. */
  readonly id: string;
}

const LINE_EVERY_MS = 3000;
const HEARTBEAT_MS = 15_000;
/** Waits before the second and the third try. */
const BACKOFF_SECONDS = [2, 6];

/**
 * Pulls an image and sees that it is there under its digest. A reference without a digest is pulled by its tag, and the
 * answer says what that was.
 *
 * With credentials for its registry it goes through the Engine API, which takes them for this one pull: nothing is left on
 * the server, and its other logins stay as they are. Without, it is `docker pull`, so that the server's own logins,
 * credential helpers and Docker context apply.
 *
 * @throws ImageError, TimeoutError, CancelledError, ConnectError
 */
export async function pullImage(session: Session, image: string, options: PullOptions): Promise<PulledImage> {
  const reference = expectReference(image);
  const { clock, signal } = options;
  const startedMs = clock.monotonicMs();
  const name = options.label ?? familiarName(reference);
  const deadlineSeconds = options.timeoutSeconds ?? 900;
  // containerd's image store would ask the registry all the same, and fail with it. What an index holds for another
  // platform than the server's own is not seen from here.
  if (reference.digest !== '' && options.platform === undefined) {
    const there = await findImage(session, reference, reference.digest, signal);
    if (there !== undefined) {
      options.onProgress?.(`${name} is there already`);
      return there;
    }
  }
  for (let attempt = 0; ; attempt++) {
    const progress = new PullProgress(options.layers);
    const watch = watchProgress(name, progress, startedMs, options);
    try {
      const left = Math.max(1, Math.round(deadlineSeconds - (clock.monotonicMs() - startedMs) / 1000));
      const credentials = credentialsFor(reference.registry, options.credentials);
      const failure =
        credentials === undefined
          ? await pullByCli(session, reference, progress, watch.update, options, left)
          : await orHangUp(pullByApi(session, reference, credentials, progress, watch.update, options, left));
      if (failure === undefined) {
        const pulled = await verify(session, reference, progress.digest, signal);
        options.onProgress?.(formatPulled(name, progress.state, (clock.monotonicMs() - startedMs) / 1000));
        return pulled;
      }
      const { error, passing, refused } = explainPullFailure(failure, reference, session.where, credentials?.username);
      // Registries say "denied" to a wrong password as to a missing right; a login tells the two apart.
      if (refused && credentials !== undefined) await checkLogin(session, credentials, signal);
      const wait = passing ? BACKOFF_SECONDS[attempt] : undefined;
      if (wait === undefined || (clock.monotonicMs() - startedMs) / 1000 + wait >= deadlineSeconds) throw error;
      options.onProgress?.(`pulling ${name} failed, next try in ${wait} s: ${excerpt(failure, 200)}`);
      await clock.sleep(wait, signal);
    } finally {
      watch.stop();
    }
  }
}

function watchProgress(
  name: string,
  progress: PullProgress,
  startedMs: number,
  { clock, onProgress }: PullOptions,
): { readonly update: () => void; readonly stop: () => void } {
  let shownMs = clock.monotonicMs();
  let shown = '';
  const update = (): void => {
    const nowMs = clock.monotonicMs();
    if (nowMs - shownMs < LINE_EVERY_MS) return;
    const state = progress.state;
    const key = JSON.stringify(state);
    // `docker pull` is silent while it loads a big layer: a line now and then shows that we are still there.
    if (key === shown && nowMs - shownMs < HEARTBEAT_MS) return;
    shownMs = nowMs;
    shown = key;
    onProgress?.(formatProgress(name, state, (nowMs - startedMs) / 1000));
  };
  const timer = setInterval(update, LINE_EVERY_MS);
  timer.unref();
  return {
    update,
    stop: () => {
      clearInterval(timer);
    },
  };
}

/** @returns what went wrong, or undefined. */
async function pullByCli(
  session: Session,
  reference: ImageReference,
  progress: PullProgress,
  update: () => void,
  { platform, signal }: PullOptions,
  timeoutSeconds: number,
): Promise<string | undefined> {
  const choice = platform === undefined ? [] : ['--platform', formatPlatform(platform)];
  const { exitCode, stdout, stderr } = await session.run(
    { words: ['docker', 'pull', ...choice, formatFamiliar(reference)] },
    {
      accept: 'any',
      timeoutSeconds,
      purpose: `pull ${formatFamiliar(reference)}`,
      onLine: (line, stream) => {
        if (stream !== 'stdout') return;
        progress.addLine(line);
        update();
      },
      ...withSignal(signal),
    },
  );
  if (exitCode === 0) return undefined;
  return excerpt(stderr, 1000) || excerpt(stdout.slice(-1000), 1000) || `docker pull ended with exit code ${exitCode}`;
}

/** @returns what went wrong, or undefined. */
async function pullByApi(
  session: Session,
  reference: ImageReference,
  credentials: Credentials,
  progress: PullProgress,
  update: () => void,
  { platform, signal }: PullOptions,
  timeoutSeconds: number,
): Promise<string | undefined> {
  const query = new URLSearchParams({ fromImage: canonicalName(reference), tag: wanted(reference) });
  if (platform !== undefined) query.set('platform', formatPlatform(platform));
  let failure: string | undefined;
  const { status, body } = await askEngine(session, {
    method: 'POST',
    path: `/images/create?${query.toString()}`,
    headers: { 'x-registry-auth': new Secret(encodeAuth(authConfig(credentials).reveal())) },
    onLine: (line) => {
      const message = parseJson(line);
      if (message === undefined) return;
      failure ??= readText(message, 'errorDetail', 'message') || readText(message, 'error') || undefined;
      progress.addMessage(message);
      update();
    },
    signal,
    timeoutSeconds,
    purpose: `pull ${formatFamiliar(reference)}`,
  });
  if (status !== 200) return readEngineError(status, body);
  return failure === undefined ? undefined : excerpt(failure, 1000);
}

/** A daemon that was restarted in the middle is worth another try, as it is for `docker pull` ("unexpected EOF"). */
async function orHangUp(pull: Promise<string | undefined>): Promise<string | undefined> {
  try {
    return await pull;
  } catch (error) {
    if (error instanceof EngineHungUp) return `unexpected EOF: ${error.message}`;
    throw error;
  }
}

function readEngineError(status: number, body: string): string {
  return excerpt(readText(parseJson(body), 'message'), 1000) || `Docker answered with status ${status}`;
}

/** https://docs.docker.com/reference/api/engine/#tag/Authentication: base64url, which Go reads with its padding only. */
function encodeAuth(json: string): string {
  return Buffer.from(json).toString('base64').replaceAll('+', '-').replaceAll('/', '_');
}

function authConfig({ registry, username, password }: Credentials): Secret {
  const host = normalizeRegistry(registry);
  return new Secret(
    JSON.stringify({
      username,
      password: password.reveal(),
      serveraddress: host === DEFAULT_REGISTRY ? 'https://index.docker.io/v1/' : host,
    }),
  );
}

/**
 * Asks the registry, through the server's daemon, whether a login is right. Nothing is stored.
 *
 * @throws ImageError if it is not, or the registry cannot be asked.
 */
export async function checkLogin(
  session: Session,
  credentials: Credentials,
  signal?: AbortSignal,
  timeoutSeconds = 60,
): Promise<void> {
  const registry = normalizeRegistry(credentials.registry);
  const { status, body } = await askEngine(session, {
    method: 'POST',
    path: '/auth',
    body: authConfig(credentials),
    signal,
    timeoutSeconds,
    purpose: `log in to ${registry}`,
  });
  if (status === 200 || status === 204) return;
  throw explainLoginFailure(registry, credentials.username, readEngineError(status, body));
}

function explainLoginFailure(registry: string, username: string, said: string): ImageError {
  const user = JSON.stringify(excerpt(username, 100));
  return /unauthorized|incorrect|denied|401|403/i.test(said)
    ? new ImageError(
        `Registry ${registry} refused the login of user ${user}: ${said}`,
        'Check registry-username and registry-password; many registries want an access token with the right to read packages.',
      )
    : new ImageError(
        `The login of user ${user} to registry ${registry} could not be checked: ${said}`,
        'Check the registry, and from the server its DNS, firewall and proxy: try `docker login` there.',
      );
}

const INSPECT = '{"id":{{json .Id}},"repoDigests":{{json .RepoDigests}}}';

/** "Pulled" is what the server has, not what somebody said. */
async function verify(
  session: Session,
  reference: ImageReference,
  pulledDigest: string,
  signal: AbortSignal | undefined,
): Promise<PulledImage> {
  const digest = reference.digest || pulledDigest;
  const found = await findImage(session, reference, digest, signal);
  if (found !== undefined) return found;
  throw new ImageError(
    `Docker on ${session.where} said that it pulled ${formatFamiliar({ ...reference, digest })}, but the image is not there under that digest.`,
    'Does another job prune images on this server at the same time? Run the deploy again.',
  );
}

/** The image on the server, if it is recorded there under its digest. @param digest empty: the one that the tag has there. */
async function findImage(
  session: Session,
  reference: ImageReference,
  digest: string,
  signal: AbortSignal | undefined,
): Promise<PulledImage | undefined> {
  const name =
    digest === ''
      ? formatFamiliar({ ...reference, tag: wanted(reference) })
      : formatFamiliar({ ...reference, tag: '', digest });
  const found = await session.run(
    { words: ['docker', 'image', 'inspect', '--format', INSPECT, name] },
    { accept: 'any', purpose: `look for the image ${name}`, ...withSignal(signal) },
  );
  const json = found.exitCode === 0 ? parseJson(found.stdout) : undefined;
  const recorded = readList(json, 'repoDigests').flatMap((entry): string[] => {
    const parsed = typeof entry === 'string' ? parseReference(entry) : { problem: '' };
    return 'value' in parsed && sameRepository(parsed.value, reference) ? [parsed.value.digest] : [];
  });
  // Of several digests of one image no tag says which is its own.
  const actual = digest === '' && recorded.length === 1 ? recorded[0] : recorded.find((entry) => entry === digest);
  const id = readText(json, 'id');
  if (actual === undefined || !isDigest(actual) || id === '') return undefined;
  return { pinned: reference.digest === '' ? pin(reference, actual) : formatFamiliar(reference), digest: actual, id };
}

function withSignal(signal: AbortSignal | undefined): { signal?: AbortSignal } {
  if (signal?.aborted === true) throw new CancelledError('The workflow was cancelled.', '');
  return signal === undefined ? {} : { signal };
}
