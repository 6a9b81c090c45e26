/**
 * S3 and what speaks like it. Of S3 only what every storage knows is used: objects in parts, Content-MD5, one object removed
 * at a time.
 *
 * The parts are cut here and not by @aws-sdk/lib-storage: so each has a checksum that every storage checks, never more than
 * `PARTS_AT_ONCE` are in memory, and an upload that failed is cleared away before its failure is told.
 */
import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  type GetObjectCommandOutput,
  HeadObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  S3Client,
  UploadPartCommand,
} from '@aws-sdk/client-s3';
import { CancelledError, StorageError } from '../errors';
import type { ObjectStore, ObjectStoreRequest, StoredObject } from '../ports';
import { excerpt } from '../shell/excerpt';
import { systemClock } from './clock';
import { codeOf, field, messageOf } from './foreign-error';
import { discard } from './garbage';

export interface ObjectStoreLimits {
  /** Until a connection stands, TLS not included. */
  readonly connectSeconds: number;
  /** A connection on which nothing moves for so long counts as dead. */
  readonly idleSeconds: number;
  /** How often one request is tried in all; the pauses between double. */
  readonly attempts: number;
}

const LIMITS: ObjectStoreLimits = { connectSeconds: 10, idleSeconds: 60, attempts: 5 };

/** https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html */
const MAX_PARTS = 10_000;
const MIB = 1024 * 1024;
/** Of a part, where the object is not too large for it: S3's least, since parts are most of what a backup takes of memory. */
const PART_BYTES = 5 * MIB;
const PARTS_AT_ONCE = 2;
const REMOVALS_AT_ONCE = 4;
/** For clearing away what a failed upload left; the failure waits for it. */
const CLEAR_SECONDS = 30;
/** Before the first repetition of a read; doubled before each further one. */
const READ_PAUSE_SECONDS = 0.5;

/** @throws StorageError where the endpoint is not a URL */
export function openObjectStore(request: ObjectStoreRequest, limits: Partial<ObjectStoreLimits> = {}): ObjectStore {
  const bounds = { ...LIMITS, ...limits };
  const store: Store = {
    client: createClient(request, bounds),
    bucket: request.bucket,
    where: `s3://${request.bucket}`,
    address: request.endpoint === '' ? `S3 in ${request.region}` : new URL(request.endpoint).host,
    region: request.region,
    attempts: bounds.attempts,
  };
  return {
    where: store.where,
    put: (key, content, bytes, signal) => put(store, key, content, bytes, signal),
    get: (key, signal) => get(store, key, signal),
    list: (prefix, signal) => list(store, prefix, signal),
    remove: (keys, signal) => remove(store, keys, signal),
  };
}

interface Store {
  readonly client: S3Client;
  readonly bucket: string;
  readonly where: string;
  /** Whom the requests go to, for messages. */
  readonly address: string;
  readonly region: string;
  readonly attempts: number;
}

function createClient(request: ObjectStoreRequest, limits: ObjectStoreLimits): S3Client {
  const own = request.endpoint !== '';
  if (own && !/^https?:$/.test(URL.parse(request.endpoint)?.protocol ?? '')) {
    throw new StorageError(
      "The storage's endpoint is not a URL.",
      'It begins with https:// (or http://); without one, AWS is meant.',
    );
  }
  const quiet = (): void => undefined;
  return new S3Client({
    region: request.region,
    // The bucket as a part of the host's name wants a DNS entry and a certificate for each; few storages of one's own have them.
    ...(own ? { endpoint: request.endpoint, forcePathStyle: true } : { followRegionRedirects: true }),
    credentials: { accessKeyId: request.accessKeyId, secretAccessKey: request.secretAccessKey.reveal() },
    maxAttempts: limits.attempts,
    retryMode: 'standard',
    // Else it sends CRC-32 in headers that several storages refuse: https://github.com/aws/aws-sdk-js-v3/issues/6810.
    // What protects the content instead: the signature covers its SHA-256, and Content-MD5 is there for object locks.
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    // A proxy that does not know it would cost 6 s for each part.
    expectContinueHeader: false,
    requestHandler: {
      connectionTimeout: Math.round(limits.connectSeconds * 1000),
      socketTimeout: Math.round(limits.idleSeconds * 1000),
    },
    logger: { trace: quiet, debug: quiet, info: quiet, warn: quiet, error: quiet },
  });
}

/** The size of a part, so that there are enough of them, and some to spare where `bytes` was a little too low. */
export function choosePartBytes(bytes: number): number {
  return Math.max(PART_BYTES, Math.ceil(bytes / (MAX_PARTS * 0.9) / MIB) * MIB);
}

interface Part {
  readonly number: number;
  readonly body: Buffer;
}

interface StoredPart {
  readonly PartNumber: number;
  readonly ETag: string;
}

async function put(
  store: Store,
  key: string,
  content: Readable,
  bytes: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  const stop = new AbortController();
  const either = signal === undefined ? stop.signal : AbortSignal.any([signal, stop.signal]);
  // Whoever waits for content hears of the end, too.
  const leave = (): void => {
    content.destroy();
  };
  content.on('error', () => undefined);
  either.addEventListener('abort', leave);
  try {
    either.throwIfAborted();
    const pool: Buffer[] = [];
    const parts = cut(content, choosePartBytes(bytes), pool);
    const first = await parts.next();
    const second = first.done === true ? first : await parts.next();
    if (second.done === true) {
      const body = first.done === true ? Buffer.alloc(0) : first.value.body;
      await store.client.send(
        new PutObjectCommand({ Bucket: store.bucket, Key: key, Body: body, ContentMD5: md5(body, 'base64') }),
        { abortSignal: either },
      );
    } else {
      await putParts(store, key, chain([first.value as Part, second.value], parts), pool, stop, either);
    }
  } catch (error) {
    leave();
    throw explain(error, store, `store ${key} in ${store.where}`, signal);
  } finally {
    either.removeEventListener('abort', leave);
  }
}

async function* chain<T>(first: readonly T[], rest: AsyncIterable<T>): AsyncGenerator<T> {
  yield* first;
  yield* rest;
}

async function putParts(
  store: Store,
  key: string,
  parts: AsyncGenerator<Part>,
  pool: Buffer[],
  stop: AbortController,
  signal: AbortSignal,
): Promise<void> {
  const target = { Bucket: store.bucket, Key: key };
  const { UploadId } = await store.client.send(new CreateMultipartUploadCommand(target), { abortSignal: signal });
  if (UploadId === undefined) throw new UnusableAnswer();
  const stored: StoredPart[] = [];
  let failure: { readonly error: unknown } | undefined;
  const work = async (): Promise<void> => {
    try {
      // Two of these take turns: a part is read only by who has none under way.
      for (let next = await parts.next(); next.done !== true; next = await parts.next()) {
        stored.push(await putPart(store, { ...target, UploadId }, next.value, signal));
        pool.push(next.value.body);
      }
    } catch (error) {
      failure ??= { error };
      stop.abort();
    }
  };
  await Promise.all(Array.from({ length: PARTS_AT_ONCE }, work));
  try {
    if (failure !== undefined) throw failure.error;
    stored.sort((a, b) => a.PartNumber - b.PartNumber);
    await completeUpload(store, { ...target, UploadId }, stored, signal);
  } catch (error) {
    const cleared = await clearUpload(store, { ...target, UploadId });
    throw cleared ? error : new LeftBehind(error);
  }
}

interface Upload {
  readonly Bucket: string;
  readonly Key: string;
  readonly UploadId: string;
}

async function putPart(store: Store, upload: Upload, part: Part, signal: AbortSignal): Promise<StoredPart> {
  if (part.number > MAX_PARTS) throw new TooManyParts();
  const { ETag } = await store.client.send(
    new UploadPartCommand({
      ...upload,
      PartNumber: part.number,
      Body: part.body,
      ContentMD5: md5(part.body, 'base64'),
    }),
    { abortSignal: signal },
  );
  if (ETag === undefined) throw new UnusableAnswer();
  return { PartNumber: part.number, ETag };
}

/** Where the answer was lost, a repetition is told that there is no such upload (any more): then the object itself says it. */
async function completeUpload(
  store: Store,
  upload: Upload,
  parts: readonly StoredPart[],
  signal: AbortSignal,
): Promise<void> {
  try {
    await store.client.send(new CompleteMultipartUploadCommand({ ...upload, MultipartUpload: { Parts: [...parts] } }), {
      abortSignal: signal,
    });
  } catch (error) {
    if (signal.aborted) throw error;
    const expected = combineTags(parts);
    const found = await store.client
      .send(new HeadObjectCommand({ Bucket: upload.Bucket, Key: upload.Key }), { abortSignal: signal })
      .catch(() => undefined);
    if (found?.ETag?.replaceAll('"', '') !== expected) throw error;
  }
}

/** The tag that an object of these parts has: the MD5 of their MD5s, and how many they are. */
function combineTags(parts: readonly StoredPart[]): string {
  const sums = parts.map(({ ETag }) => Buffer.from(ETag.replaceAll('"', ''), 'hex'));
  return `${md5(Buffer.concat(sums), 'hex')}-${parts.length}`;
}

/** Parts that are left lying are not listed with the objects, but paid for. */
async function clearUpload(store: Store, upload: Upload): Promise<boolean> {
  try {
    await store.client.send(new AbortMultipartUploadCommand(upload), {
      abortSignal: AbortSignal.timeout(CLEAR_SECONDS * 1000),
    });
    return true;
  } catch (error) {
    return field(error, 'name') === 'NoSuchUpload';
  }
}

/** S3 asks for it where objects are locked, and every storage checks it. Nothing secret hangs on it. */
function md5(content: Uint8Array, encoding: 'base64' | 'hex'): string {
  return createHash('md5').update(content).digest(encoding);
}

/**
 * Pieces of equal size, the last one smaller.
 *
 * @param pool bodies of which nobody has any more use: garbage of this size is collected late.
 */
async function* cut(content: Readable, size: number, pool: Buffer[]): AsyncGenerator<Part> {
  const take = (): Buffer => pool.pop() ?? Buffer.allocUnsafeSlow(size);
  let number = 1;
  let body = take();
  let length = 0;
  try {
    for await (const chunk of content as AsyncIterable<Uint8Array>) {
      discard(chunk.length);
      for (let rest = chunk; rest.length > 0;) {
        const taken = rest.subarray(0, size - length);
        body.set(taken, length);
        length += taken.length;
        rest = rest.subarray(taken.length);
        if (length < size) continue;
        yield { number, body };
        number++;
        body = take();
        length = 0;
      }
    }
  } catch (error) {
    throw new ContentFailed(error);
  }
  if (length > 0) yield { number, body: body.subarray(0, length) };
}

async function get(store: Store, key: string, signal: AbortSignal | undefined): Promise<Readable> {
  const what = `read ${key} from ${store.where}`;
  const options = signal === undefined ? {} : { abortSignal: signal };
  const ask = async (offset: number, tag: string | undefined): Promise<GetObjectCommandOutput> => {
    try {
      return await store.client.send(
        new GetObjectCommand({
          Bucket: store.bucket,
          Key: key,
          ...(offset === 0 ? {} : { Range: `bytes=${offset}-` }),
          // Else the end of another object could follow the beginning of this one.
          ...(tag === undefined || offset === 0 ? {} : { IfMatch: tag }),
        }),
        options,
      );
    } catch (error) {
      throw explain(error, store, what, signal);
    }
  };
  const opened = await ask(0, undefined);
  const stream = Readable.from(read(store, what, opened, ask, signal), { objectMode: false });
  // Not read at all: the generator has not begun, so it cannot clean up.
  stream.once('close', () => {
    bodyOf(opened).destroy();
  });
  return stream;
}

/**
 * The whole of an object, over as many connections as it takes: a storage closes one that a slow reader (a database that
 * builds an index) leaves idle.
 */
async function* read(
  store: Store,
  what: string,
  opened: GetObjectCommandOutput,
  ask: (offset: number, tag: string | undefined) => Promise<GetObjectCommandOutput>,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array> {
  const total = opened.ContentLength;
  let body = bodyOf(opened);
  let offset = 0;
  // The library heeds the signal only until the answer begins.
  const leave = (): void => {
    body.destroy();
  };
  signal?.addEventListener('abort', leave);
  try {
    for (let failed = 0; ;) {
      let failure: unknown;
      try {
        if (signal?.aborted === true) leave();
        for await (const chunk of body as AsyncIterable<Uint8Array>) {
          failed = 0;
          offset += chunk.length;
          yield chunk;
          discard(chunk.length);
        }
        if (total === undefined || offset === total) return;
      } catch (error) {
        failure = error;
      }
      failed++;
      if (signal?.aborted === true || failed >= store.attempts) {
        throw explain(failure ?? new CutOff(offset, total ?? 0), store, what, signal);
      }
      await systemClock.sleep(READ_PAUSE_SECONDS * 2 ** (failed - 1), signal);
      const answer = await ask(offset, opened.ETag);
      body = bodyOf(answer);
      if (offset > 0 && answer.$metadata.httpStatusCode !== 206) {
        throw explain(new UnusableAnswer(), store, what, signal);
      }
    }
  } finally {
    leave();
    signal?.removeEventListener('abort', leave);
  }
}

function bodyOf(answer: GetObjectCommandOutput): Readable {
  // In Node it is always one; the declaration also covers browsers.
  const body = answer.Body instanceof Readable ? answer.Body : Readable.from([]);
  return body.on('error', () => undefined);
}

async function list(store: Store, prefix: string, signal: AbortSignal | undefined): Promise<readonly StoredObject[]> {
  const found: StoredObject[] = [];
  try {
    for (let token: string | undefined, more = true; more;) {
      const page = await store.client.send(
        new ListObjectsV2Command({
          Bucket: store.bucket,
          Prefix: prefix,
          ...(token === undefined ? {} : { ContinuationToken: token }),
        }),
        signal === undefined ? {} : { abortSignal: signal },
      );
      for (const { Key, Size } of page.Contents ?? []) {
        if (Key === undefined || Size === undefined) throw new UnusableAnswer();
        found.push({ key: Key, bytes: Size });
      }
      more = page.IsTruncated === true;
      // A list that does not go on would never end.
      if (more && (page.NextContinuationToken ?? token) === token) throw new UnusableAnswer();
      token = page.NextContinuationToken;
    }
  } catch (error) {
    throw explain(error, store, `list ${prefix === '' ? 'the objects' : `${prefix}*`} of ${store.where}`, signal);
  }
  return found.sort((a, b) => (a.key < b.key ? -1 : 1));
}

/** One by one: not every storage can remove several at once, or wants the same checksum for it. */
async function remove(store: Store, keys: readonly string[], signal: AbortSignal | undefined): Promise<void> {
  const queue = [...keys];
  const failures: Error[] = [];
  const work = async (): Promise<void> => {
    for (let key = queue.shift(); key !== undefined; key = queue.shift()) {
      try {
        await store.client.send(
          new DeleteObjectCommand({ Bucket: store.bucket, Key: key }),
          signal === undefined ? {} : { abortSignal: signal },
        );
      } catch (error) {
        if (field(error, 'name') === 'NoSuchKey') continue;
        failures.push(explain(error, store, `remove ${key} from ${store.where}`, signal, LOCK_HINT));
        // The others would meet the same.
        queue.length = 0;
      }
    }
  };
  await Promise.all(Array.from({ length: REMOVALS_AT_ONCE }, work));
  if (failures[0] !== undefined) throw failures[0];
}

/** The storage answered with success, but without what must be in the answer. */
class UnusableAnswer extends Error {}

/** There is more content than `put` was told. */
class TooManyParts extends Error {}

/** What was to be stored could not be read: not the storage's fault, and told as it came. */
class ContentFailed extends Error {
  readonly reason: Error;

  constructor(reason: unknown) {
    super('the content could not be read');
    this.reason = reason as Error;
  }
}

/** A failed upload of which parts may be left. */
class LeftBehind extends Error {
  constructor(cause: unknown) {
    super('parts may be left', { cause });
  }
}

class CutOff extends Error {
  constructor(bytes: number, total: number) {
    super(`it gave ${bytes} of ${total} bytes`);
  }
}

const LEFT_HINT =
  'Parts of the failed upload may be left there, which are not listed but paid for: a lifecycle rule `AbortIncompleteMultipartUpload` removes them.';
const LOCK_HINT = 'An object lock (retention) or a legal hold on the bucket may forbid it, too.';
const CREDENTIALS_HINT = 'Check the access key id and the secret access key; were they replaced or switched off?';
const RIGHTS_HINT =
  'The access key needs s3:ListBucket on the bucket and s3:GetObject, s3:PutObject, s3:DeleteObject and s3:AbortMultipartUpload on its objects.';
const ENDPOINT_HINT =
  "Check the endpoint: it is the address of the storage's S3 interface, with its port and without the bucket.";

/** @param hint added to what is said of a refusal */
function explain(error: unknown, store: Store, what: string, signal: AbortSignal | undefined, hint = ''): Error {
  if (signal?.aborted === true) return new CancelledError('The workflow was cancelled.', '', { cause: error });
  if (error instanceof StorageError || error instanceof CancelledError) return error;
  const left = error instanceof LeftBehind;
  const cause = left ? error.cause : error;
  if (cause instanceof ContentFailed) return cause.reason;
  const [why, next] = diagnose(cause, store);
  const advice = [next, field(field(cause, '$metadata'), 'httpStatusCode') === 403 ? hint : '', left ? LEFT_HINT : ''];
  return new StorageError(`Could not ${what}: ${why}.`, advice.filter((one) => one !== '').join(' '), { cause });
}

/** https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html; other storages use the same words, some fewer. */
function diagnose(error: unknown, { address, bucket, region }: Store): readonly [why: string, hint: string] {
  if (error instanceof UnusableAnswer) return [`${address} gave an answer that S3 does not give`, ENDPOINT_HINT];
  if (error instanceof CutOff) return [`${address} ended too early: ${error.message}`, 'Try again later.'];
  if (error instanceof TooManyParts) {
    return [`it is much longer than announced, so it would have more than ${MAX_PARTS} parts`, ''];
  }
  const status = field(field(error, '$metadata'), 'httpStatusCode');
  const name = field(error, 'name');
  const code = typeof name === 'string' ? name : '';
  // The library calls a connection that was closed a time-out, too.
  if (['ECONNRESET', 'EPIPE'].includes(codeOf(error))) return diagnoseNetwork(error, address);
  switch (code) {
    case 'InvalidAccessKeyId':
      return [`${address} does not know the access key id`, CREDENTIALS_HINT];
    case 'SignatureDoesNotMatch':
      return [
        `${address} does not accept this access key id with this secret access key`,
        `${CREDENTIALS_HINT} A proxy that changes the Host header or the path spoils signatures, too.`,
      ];
    case 'ExpiredToken':
    case 'InvalidToken':
    case 'TokenRefreshRequired':
      return [`the credentials have expired (${code})`, CREDENTIALS_HINT];
    case 'RequestTimeTooSkewed':
      return [
        `the clocks of this machine and of ${address} differ too much`,
        "Set this machine's clock: S3 allows 15 minutes.",
      ];
    case 'NoSuchBucket':
      return [`${address} has no bucket ${bucket}`, 'Check its name and the region, or create it.'];
    case 'NoSuchKey':
      return [
        'it is not there',
        'Was it removed, or never stored? A lifecycle rule of the bucket may remove objects, too.',
      ];
    case 'PermanentRedirect':
    case 'AuthorizationHeaderMalformed':
    case 'IllegalLocationConstraintException':
      return [`the bucket ${bucket} is not in the region ${region} (${code})`, 'Check the region and the endpoint.'];
    case 'InvalidBucketName':
      return [`${bucket} is not a name for a bucket`, 'It is the plain name, without s3:// and without a path.'];
    case 'BadDigest':
    case 'InvalidDigest':
    case 'XAmzContentSHA256Mismatch':
    case 'XAmzContentChecksumMismatch':
      return [
        `what arrived at ${address} was not what was sent (${code})`,
        'Something on the way changes content. Try again.',
      ];
    case 'PreconditionFailed':
    case 'InvalidRange':
      return ['it was changed while it was read', 'Read it again, when nothing else writes there.'];
    case 'EntityTooLarge':
      return [`${address} does not take objects of this size`, ''];
    case 'InvalidObjectState':
      return [
        'it is in an archive (Glacier)',
        'Restore it to a storage class that can be read at once, and try again.',
      ];
    case 'AccessDenied':
    case 'AllAccessDisabled':
    case 'AccountProblem':
      return [`the access key may not do that (${code})`, RIGHTS_HINT];
    case 'SlowDown':
    case 'TooManyRequests':
    case 'ServiceUnavailable':
    case 'InternalError':
      return [`${address} is overloaded or out of order (${code}), also at the last try`, 'Try again later.'];
    case 'TimeoutError':
    case 'RequestTimeout':
      return [
        `${address} did not answer in time, or took and gave nothing for a while`,
        'Is a firewall in between, or the storage overloaded? Check the endpoint and the region, too.',
      ];
    default:
      return typeof status === 'number'
        ? diagnoseStatus(status, code, error, address)
        : diagnoseNetwork(error, address);
  }
}

function diagnoseStatus(
  status: number,
  code: string,
  error: unknown,
  address: string,
): readonly [why: string, hint: string] {
  const said = excerpt([code, messageOf(error)].filter((text) => text !== '' && text !== 'Error').join(': '), 200);
  const words = `${address} answered ${status}${said === '' ? '' : ` (${said})`}`;
  if (status === 401 || status === 403) return [words, `${CREDENTIALS_HINT} ${RIGHTS_HINT}`];
  if (status === 404) return [words, `Check the bucket's name and the endpoint. ${ENDPOINT_HINT}`];
  if (status === 507) return [words, 'The storage is full, or its quota used up.'];
  if (status >= 500 || status === 429) return [words, 'Try again later.'];
  return [words, ENDPOINT_HINT];
}

function diagnoseNetwork(error: unknown, address: string): readonly [why: string, hint: string] {
  const code = codeOf(error) || codeOf(field(error, 'cause'));
  switch (code) {
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return [
        `the name of ${address} could not be looked up (${code})`,
        'Check the spelling of the endpoint or the region.',
      ];
    case 'ECONNREFUSED':
      return [`${address} refused the connection: nothing listens there`, ENDPOINT_HINT];
    case 'ENETUNREACH':
    case 'EHOSTUNREACH':
    case 'ETIMEDOUT':
      return [`there is no way to ${address} (${code})`, 'A firewall may be in between. Check the endpoint, too.'];
    case 'ECONNRESET':
    case 'EPIPE':
    case 'ERR_STREAM_PREMATURE_CLOSE':
      return [`${address} closed the connection, also at the last try`, 'Try again later.'];
    case 'EPROTO':
      return [`no TLS with ${address} (${code})`, 'It may speak plain HTTP on this port: http:// in the endpoint.'];
    default:
      if (code.includes('CERT') || code.includes('SIGNATURE')) {
        return [
          `the certificate of ${address} is not trusted here (${code})`,
          "For an authority of one's own, the environment variable NODE_EXTRA_CA_CERTS names a file with its certificate.",
        ];
      }
      return [
        `${address} gave no usable answer${code === '' ? '' : ` (${code})`}: ${excerpt(messageOf(error), 200)}`,
        ENDPOINT_HINT,
      ];
  }
}
