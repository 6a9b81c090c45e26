import { createHash, randomBytes } from 'node:crypto';
import { truncate } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { once } from 'node:events';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import { ListMultipartUploadsCommand, S3Client } from '@aws-sdk/client-s3';
import { jest } from '@jest/globals';
import {
  type Fate,
  type SabotagingProxy,
  type SeenRequest,
  startSabotagingProxy,
} from '../../../test/object-store/proxy';
import { type ObjectStoreServer, startObjectStoreServer } from '../../../test/object-store/server';
import { choosePartBytes, type ObjectStoreLimits, openObjectStore } from '../../src/adapters/object-store';
import { CancelledError, StorageError } from '../../src/errors';
import { Secret } from '../../src/model/secret';
import type { ObjectStore, ObjectStoreRequest } from '../../src/ports';
import { measureProgram } from './measured-program';

const MIB = 1024 * 1024;
/** Time enough for all that answers, on a busy machine too. */
const CALM: Partial<ObjectStoreLimits> = { connectSeconds: 10, idleSeconds: 15, attempts: 3 };
/** Not to wait for what does not answer. */
const QUICK: Partial<ObjectStoreLimits> = { ...CALM, idleSeconds: 2 };

jest.setTimeout(30_000);

/**
 * Node's own errors come from outside of Jest's realm and are no instance of its `Error`. The library asks that way, and
 * would wrap them, and lose what they are.
 */
Object.defineProperty(Error, Symbol.hasInstance, {
  value(this: unknown, value: unknown): boolean {
    return this === Error
      ? Object.prototype.toString.call(value) === '[object Error]'
      : Function.prototype[Symbol.hasInstance].call(this as () => void, value);
  },
});

let server: ObjectStoreServer;
let proxy: SabotagingProxy;
let store: ObjectStore;

beforeAll(async () => {
  server = await startObjectStoreServer();
}, 30_000);

afterAll(() => server.close());

beforeEach(async () => {
  proxy = await startSabotagingProxy(server.endpoint);
  store = open();
});

afterEach(() => proxy.close());

function open(changes: Partial<ObjectStoreRequest> = {}, limits = CALM): ObjectStore {
  const request: ObjectStoreRequest = {
    endpoint: proxy.endpoint,
    region: 'eu-central-1',
    bucket: 'backups',
    accessKeyId: server.accessKeyId,
    secretAccessKey: new Secret(server.secretAccessKey),
    ...changes,
  };
  return openObjectStore(request, limits);
}

let counter = 0;
const freshKey = (): string => `shop/run-${++counter}/dump.age`;

const put = (key: string, content: Uint8Array, signal?: AbortSignal): Promise<void> =>
  store.put(key, inChunks(content), content.length, signal);

function inChunks(content: Uint8Array, size = 100_000): Readable {
  return Readable.from(
    (function* () {
      for (let at = 0; at < content.length; at += size) yield content.subarray(at, at + size);
    })(),
    { objectMode: false },
  );
}

async function failure(promise: Promise<unknown>): Promise<StorageError> {
  try {
    await promise;
  } catch (error) {
    // Whatever it is, it must not show what nobody may see.
    expect(`${String(error)} ${JSON.stringify(error)}`).not.toContain(server.secretAccessKey);
    return error as StorageError;
  }
  throw new Error('it did not fail');
}

async function storageFailure(promise: Promise<unknown>): Promise<StorageError> {
  const error = await failure(promise);
  expect(error).toBeInstanceOf(StorageError);
  expect(error.hint).not.toBe('');
  return error;
}

/** Hardly any patience where nothing will come. */
const impatience = (fate: Fate): Partial<ObjectStoreLimits> => (fate === 'hang' ? QUICK : CALM);

/** The first `times` requests that fit meet this fate, all others pass. */
function sabotage(fits: (request: SeenRequest) => boolean, fate: Fate, times = Infinity): () => number {
  let met = 0;
  proxy.decide((request) => {
    if (!fits(request) || met >= times) return 'pass';
    met++;
    return fate;
  });
  return () => met;
}

const isPart = ({ method, url }: SeenRequest): boolean => method === 'PUT' && url.includes('partNumber=');
const isPut = ({ method }: SeenRequest): boolean => method === 'PUT';
const isGet = ({ method }: SeenRequest): boolean => method === 'GET';
const isCompletion = ({ method, url }: SeenRequest): boolean => method === 'POST' && url.includes('uploadId=');
const isClearing = ({ method, url }: SeenRequest): boolean => method === 'DELETE' && url.includes('uploadId=');

/** Asked past the proxy. */
const isStored = async (key: string): Promise<boolean> =>
  (await open({ endpoint: server.endpoint }).list(key)).length > 0;

async function countOpenUploads(key: string): Promise<number> {
  const client = new S3Client({
    region: 'eu-central-1',
    endpoint: server.endpoint,
    forcePathStyle: true,
    credentials: { accessKeyId: server.accessKeyId, secretAccessKey: server.secretAccessKey },
  });
  const { Uploads } = await client.send(new ListMultipartUploadsCommand({ Bucket: 'backups', Prefix: key }));
  client.destroy();
  return Uploads?.length ?? 0;
}

describe('what is stored is read again', () => {
  test.each([0, 1, 100_000, 5 * MIB - 1, 5 * MIB, 5 * MIB + 1, 15 * MIB, 25_000_000])('%i bytes', async (bytes) => {
    const [key, content] = [freshKey(), randomBytes(bytes)];
    await put(key, content);
    expect((await buffer(await store.get(key))).equals(content)).toBe(true);
    expect(await store.list(key)).toEqual([{ key, bytes }]);
    const parts = proxy.seen.filter(isPart).length;
    expect(parts).toBe(bytes > 5 * MIB ? Math.ceil(bytes / (5 * MIB)) : 0);
    expect(await countOpenUploads(key)).toBe(0);
  });

  test('each request has checksums that every storage knows, and no other', async () => {
    await put(freshKey(), randomBytes(10 * MIB));
    await put(freshKey(), Buffer.from('small'));
    for (const { headers } of proxy.seen.filter(isPut)) {
      expect(headers['content-md5']).toMatch(/^[\w+/]{22}==$/);
      expect(headers['x-amz-content-sha256']).toMatch(/^[0-9a-f]{64}$/);
      expect(Object.keys(headers).filter((name) => /checksum|trailer|expect|transfer-encoding/.test(name))).toEqual([]);
    }
    await buffer(await store.get((await store.list(''))[0]?.key ?? ''));
    expect(
      proxy.seen.flatMap(({ headers }) => Object.keys(headers)).filter((name) => name.includes('checksum')),
    ).toEqual([]);
  });

  test('an object replaces the one of the same key', async () => {
    const key = freshKey();
    await put(key, Buffer.from('old'));
    await put(key, Buffer.from('new!'));
    expect(String(await buffer(await store.get(key)))).toBe('new!');
  });

  test('keys with what needs care in URLs', async () => {
    const key = `shop/2026-11-23T00:00:00Z/ä b+c&d=e%20'(1)!*.age`;
    await put(key, Buffer.from('x'));
    expect(await store.list('shop/2026-11-23T00:00:00Z/ä')).toEqual([{ key, bytes: 1 }]);
    expect(String(await buffer(await store.get(key)))).toBe('x');
    await store.remove([key]);
    expect(await store.list('shop/2026-11-23T00:00:00Z/')).toEqual([]);
  });
});

test('the size of parts', () => {
  expect(choosePartBytes(0)).toBe(5 * MIB);
  expect(choosePartBytes(70e9)).toBe(8 * MIB);
  for (const bytes of [80e9, 500e9, 5e12]) {
    const size = choosePartBytes(bytes);
    expect(Math.ceil(bytes / size)).toBeLessThanOrEqual(10_000);
    expect(size % MIB).toBe(0);
  }
  // Two at once must fit into the runner's memory.
  expect(choosePartBytes(1e12)).toBeLessThan(120 * MIB);
});

test('a list has all pages', async () => {
  const prefix = `many-${++counter}/`;
  const keys = Array.from({ length: 205 }, (_, at) => `${prefix}${String(at).padStart(5, '0')}`);
  const queue = [...keys];
  const work = async (): Promise<void> => {
    for (let key = queue.shift(); key !== undefined; key = queue.shift()) await put(key, Buffer.alloc(0));
  };
  await Promise.all(Array.from({ length: 8 }, work));
  const found = await store.list(prefix);
  expect(found.map(({ key }) => key)).toEqual(keys);
  expect(proxy.seen.filter(isGet)).toHaveLength(3);
  await store.remove(keys.slice(0, 20));
  expect(await store.list(prefix)).toHaveLength(185);
});

test('what is not there needs no removing', async () => {
  await store.remove(['shop/never-was']);
  await store.remove([]);
});

describe('a passing fault is tried again', () => {
  const content = randomBytes(20 * MIB);

  test.each([
    ['a connection that drops in the middle of a part', isPart, 'reset'],
    ['an answer to a part that gets lost', isPart, 'lose-answer'],
    ['500 to a part', isPart, { status: 500, body: '<Error><Code>InternalError</Code></Error>' }],
    ['503 to a part', isPart, { status: 503, body: '<Error><Code>SlowDown</Code></Error>' }],
    ['a part that hangs', isPart, 'hang'],
    ['an answer to the completion that gets lost', isCompletion, 'lose-answer'],
    ['500 to the completion', isCompletion, { status: 500, body: '' }],
    [
      '200 to the completion, with an error in it',
      isCompletion,
      { status: 200, body: '<?xml version="1.0"?><Error><Code>InternalError</Code><Message>again</Message></Error>' },
    ],
  ] satisfies [string, (request: SeenRequest) => boolean, Fate][])('%s', async (_title, fits, fate) => {
    const key = freshKey();
    store = open({}, impatience(fate));
    const met = sabotage(fits, fate, 1);
    await put(key, content);
    expect(met()).toBe(1);
    expect((await buffer(await store.get(key))).equals(content)).toBe(true);
    expect(await countOpenUploads(key)).toBe(0);
  });

  test.each([
    ['a connection that drops', { cutAnswerAt: 5_000_000 }],
    ['a connection that drops at once', { cutAnswerAt: 1 }],
    ['no answer', 'hang'],
    ['500', { status: 500, body: '' }],
  ] satisfies [string, Fate][])('reading: %s', async (_title, fate) => {
    const key = freshKey();
    await put(key, content);
    store = open({}, impatience(fate));
    const met = sabotage(isGet, fate, 2);
    expect((await buffer(await store.get(key))).equals(content)).toBe(true);
    expect(met()).toBe(2);
  });

  test('a reader that takes longer than a connection may be idle', async () => {
    const key = freshKey();
    await put(key, content);
    const hash = createHash('sha256');
    let bytes = 0;
    for await (const chunk of (await open({}, QUICK).get(key)) as AsyncIterable<Buffer>) {
      hash.update(chunk);
      if (bytes === 0) await delay(4000);
      bytes += chunk.length;
    }
    expect(hash.digest('hex')).toBe(createHash('sha256').update(content).digest('hex'));
  });
});

describe('a lasting fault is a StorageError, and leaves nothing behind', () => {
  const content = randomBytes(20 * MIB);

  test.each([
    ['dropped connections', 'reset', /closed the connection, also at the last try/],
    ['500', { status: 500, body: '' }, /answered 500/],
    [
      'an internal error',
      { status: 500, body: '<Error><Code>InternalError</Code></Error>' },
      /out of order \(InternalError\)/,
    ],
    ['no answer', 'hang', /did not answer in time/],
    ['a full storage', { status: 507, body: '<Error><Code>InsufficientStorage</Code></Error>' }, /answered 507/],
    [
      'changed content',
      { status: 400, body: '<Error><Code>BadDigest</Code></Error>' },
      /was not what was sent \(BadDigest\)/,
    ],
  ] satisfies [string, Fate, RegExp][])('storing: %s', async (_title, fate, words) => {
    const key = freshKey();
    let parts = 0;
    store = open({}, impatience(fate));
    proxy.decide((request) => (isPart(request) && ++parts > 1 ? fate : 'pass'));
    const source = inChunks(content);
    const error = await storageFailure(store.put(key, source, content.length));
    expect(error.message).toMatch(words);
    expect(error.message).toContain(`Could not store ${key} in s3://backups: `);
    expect(error.message).toContain(new URL(proxy.endpoint).host);
    expect(source.destroyed).toBe(true);
    expect(proxy.seen.filter(isClearing).length).toBeGreaterThan(0);
    expect(await countOpenUploads(key)).toBe(0);
    expect(await isStored(key)).toBe(false);
  });

  test('says so where it cannot even clear away', async () => {
    proxy.decide((request) => (isPart(request) || isClearing(request) ? { status: 500, body: '' } : 'pass'));
    const error = await storageFailure(put(freshKey(), content));
    expect(error.message).toMatch(/answered 500/);
    expect(error.hint).toContain('AbortIncompleteMultipartUpload');
  });

  test.each([
    ['dropped connections', { cutAnswerAt: 0 }, /closed the connection/],
    ['no answer', 'hang', /did not answer in time/],
    ['500', { status: 500, body: '' }, /answered 500/],
  ] satisfies [string, Fate, RegExp][])('reading: %s', async (_title, fate, words) => {
    const key = freshKey();
    await put(key, content);
    let asked = 0;
    store = open({}, impatience(fate));
    proxy.decide((request) => (isGet(request) ? (asked++ === 0 ? { cutAnswerAt: 3_000_000 } : fate) : 'pass'));
    const error = await storageFailure(store.get(key).then(buffer));
    expect(error.message).toMatch(words);
    expect(error.message).toContain(`Could not read ${key} from s3://backups`);
  });

  test('a list, and removing', async () => {
    proxy.decide(() => ({ status: 403, body: '<Error><Code>AccessDenied</Code><Message>no</Message></Error>' }));
    const listed = await storageFailure(store.list('shop/'));
    expect(listed.message).toMatch(/Could not list shop\/\* of s3:\/\/backups: the access key may not do that/);
    expect(listed.hint).toContain('s3:ListBucket');
    const removed = await storageFailure(store.remove(['shop/a', 'shop/b']));
    expect(removed.hint).toContain('object lock');
  });

  test('a server that is not S3', async () => {
    proxy.decide(() => ({ status: 200, body: '<html><body>Welcome to nginx!</body></html>' }));
    expect((await storageFailure(put(freshKey(), content))).hint).toContain('endpoint');
    proxy.decide(() => ({ status: 404, body: '<html>not found</html>' }));
    const missing = await storageFailure(store.list(''));
    expect(missing.hint).toContain('endpoint');
  });

  test('the content that fails is not blamed on the storage', async () => {
    const lost = new TypeError('the connection to the server was lost');
    for (const bytes of [1000, 20 * MIB]) {
      const key = freshKey();
      const failing = Readable.from(
        (function* () {
          for (let at = 0; at < bytes; at += 100_000) yield content.subarray(at, at + 100_000);
          throw lost;
        })(),
      );
      expect(await failure(store.put(key, failing, bytes))).toBe(lost);
      expect(await isStored(key)).toBe(false);
      expect(await countOpenUploads(key)).toBe(0);
    }
  });
});

describe('what was set wrongly is said', () => {
  test.each([
    [
      'the secret',
      { secretAccessKey: new Secret('not-that-one') },
      /does not accept this access key id with this secret/,
      /access key/,
    ],
    [
      'the key',
      { accessKeyId: 'nobody' },
      /does not accept this access key id|does not know the access key id/,
      /access key/,
    ],
    ['the region', { region: 'us-west-1' }, /is not in the region us-west-1/, /region/],
    ['the bucket', { bucket: 'nowhere' }, /has no bucket nowhere/, /region/],
    ['the port', { endpoint: 'http://127.0.0.1:9' }, /refused the connection/, /endpoint/],
    ['the name', { endpoint: 'http://s3.invalid' }, /could not be looked up/, /endpoint/],
  ] satisfies [string, Partial<ObjectStoreRequest>, RegExp, RegExp][])('%s', async (_title, changes, words, hint) => {
    const wrong = open(changes);
    const calls: (() => Promise<unknown>)[] = [
      () => wrong.list(''),
      () => wrong.get('shop/a'),
      () => wrong.put('shop/a', Readable.from([Buffer.from('x')]), 1),
      () => wrong.put('shop/a', inChunks(randomBytes(9 * MIB)), 9 * MIB),
    ];
    for (const call of calls) {
      const error = await storageFailure(call());
      expect(error.message).toMatch(words);
      expect(error.hint).toMatch(hint);
    }
  });

  test('an object that is not there', async () => {
    const error = await storageFailure(store.get('shop/never-was'));
    expect(error.message).toBe('Could not read shop/never-was from s3://backups: it is not there.');
  });

  test('an endpoint that is no URL', () => {
    for (const endpoint of ['s3.example.com', 'ftp://s3.example.com', 'localhost:9000']) {
      expect(() => open({ endpoint })).toThrow(StorageError);
    }
  });

  test('a login in the endpoint is not shown', () => {
    expect(open({ endpoint: 'https://user:password@s3.example.com' }).where).toBe('s3://backups');
  });

  test('TLS where there is none', async () => {
    const error = await storageFailure(open({ endpoint: proxy.endpoint.replace('http:', 'https:') }).list(''));
    expect(error.message).toMatch(/no TLS with|gave no usable answer/);
  });
});

describe('an object that was changed where it is stored', () => {
  test('a file of the storage that became shorter', async () => {
    const key = freshKey();
    await put(key, randomBytes(100_000));
    await truncate(await server.file('backups', key), 60_000);
    await storageFailure(store.get(key).then(buffer));
  });

  test.each([6_000_000, 7_000_000, 500_000])('while it is read: never a mixture (%i bytes now)', async (bytes) => {
    const key = freshKey();
    const old = randomBytes(6_000_000);
    await put(key, old);
    sabotage(isGet, { cutAnswerAt: 1_000_000 }, 1);
    const reading = await store.get(key);
    await put(key, randomBytes(bytes));
    const outcome = await buffer(reading).catch((error: unknown) => error);
    // On a busy machine the cut may come before the answer was looked at: then all of it is asked for once more.
    if (Buffer.isBuffer(outcome)) expect(outcome.equals(old)).toBe(true);
    else expect((outcome as Error).message).toMatch(/it was changed while it was read/);
  });

  test('on its way there: it is refused', async () => {
    const key = freshKey();
    for (const bytes of [1000, 9 * MIB]) {
      sabotage((request) => isPut(request), 'flip-a-bit');
      const error = await storageFailure(put(key, randomBytes(bytes)));
      expect(error.message).toMatch(/what arrived at 127\.0\.0\.1:\d+ was not what was sent/);
      expect(await isStored(key)).toBe(false);
      expect(await countOpenUploads(key)).toBe(0);
    }
  });
});

describe('a cancelled workflow', () => {
  test.each(['put', 'get', 'list', 'remove'] as const)('%s ends at once', async (what) => {
    const key = freshKey();
    await put(key, randomBytes(1000));
    proxy.decide((request) =>
      isClearing(request)
        ? 'pass'
        : isPart(request) || (!isPut(request) && request.method !== 'POST')
          ? 'hang'
          : 'pass',
    );
    const patient = open({}, { connectSeconds: 10, idleSeconds: 30 });
    const cancel = new AbortController();
    const source = inChunks(randomBytes(20 * MIB));
    const doing = {
      put: () => patient.put(key, source, 20 * MIB, cancel.signal),
      get: () => patient.get(key, cancel.signal),
      list: () => patient.list('', cancel.signal),
      remove: () => patient.remove([key], cancel.signal),
    }[what]();
    setTimeout(() => {
      cancel.abort();
    }, 300);
    const startedMs = performance.now();
    expect(await failure(doing)).toBeInstanceOf(CancelledError);
    expect(performance.now() - startedMs).toBeLessThan(3000);
    if (what === 'put') expect(source.destroyed).toBe(true);
    expect(await countOpenUploads(key)).toBe(0);
  });

  test('before it began', async () => {
    const source = inChunks(randomBytes(10));
    expect(await failure(store.put(freshKey(), source, 10, AbortSignal.abort()))).toBeInstanceOf(CancelledError);
    expect(source.destroyed).toBe(true);
    expect(proxy.seen).toEqual([]);
  });

  test('in the middle of reading', async () => {
    const key = freshKey();
    await put(key, randomBytes(20 * MIB));
    const cancel = new AbortController();
    const reading = await store.get(key, cancel.signal);
    const startedMs = performance.now();
    const error = await failure(
      (async () => {
        for await (const chunk of reading) {
          expect(chunk).toBeDefined();
          cancel.abort();
        }
      })(),
    );
    expect(error).toBeInstanceOf(CancelledError);
    expect(performance.now() - startedMs).toBeLessThan(1000);
  });
});

describe('a server that is no help', () => {
  let deaf: Server;
  const sockets = new Set<Socket>();

  beforeEach(async () => {
    deaf = createServer((socket) => {
      sockets.add(socket.on('error', () => undefined));
    }).listen(0, '127.0.0.1');
    await once(deaf, 'listening');
  });

  afterEach(() => {
    for (const socket of sockets) socket.destroy();
    deaf.close();
  });

  test('takes connections and nothing else', async () => {
    const address = deaf.address();
    if (address === null || typeof address === 'string') throw new Error('no port');
    const silent = open({ endpoint: `http://127.0.0.1:${address.port}` }, { ...QUICK, attempts: 2 });
    const calls: (() => Promise<unknown>)[] = [
      () => silent.list(''),
      () => silent.get('a'),
      () => silent.put('a', inChunks(randomBytes(8 * MIB)), 8 * MIB),
    ];
    for (const call of calls) expect((await storageFailure(call())).message).toMatch(/did not answer in time/);
  });
});

test('a reader that leaves closes the connection', async () => {
  const key = freshKey();
  await put(key, randomBytes(20 * MIB));
  (await store.get(key)).destroy();
  const begun = await store.get(key);
  await once(begun, 'readable');
  begun.destroy();
  await delay(100);
  expect(begun.destroyed).toBe(true);
});

test('300 MB are stored and read with the memory of a few parts', async () => {
  const { peakMib, value } = await measureProgram(
    `
    const store = objectStore.openObjectStore({
      endpoint: process.env.ENDPOINT, region: 'eu-central-1', bucket: 'backups', accessKeyId: process.env.KEY_ID,
      secretAccessKey: new secret.Secret(process.env.SECRET),
    });
    const total = 300_000_000;
    const chunk = crypto.randomBytes(65_536);
    const source = stream.Readable.from((function* () {
      for (let given = 0; given < total; given += chunk.length) yield chunk.subarray(0, total - given);
    })(), { objectMode: false });
    const startedMs = performance.now();
    await store.put('large', source, total);
    const storedMs = performance.now();
    let read = 0;
    for await (const piece of await store.get('large')) read += piece.length;
    const rate = (ms) => Math.round(total / 1e3 / ms);
    report({ read, putMbPerSecond: rate(storedMs - startedMs), getMbPerSecond: rate(performance.now() - storedMs) });
    `,
    { ENDPOINT: server.endpoint, KEY_ID: server.accessKeyId, SECRET: server.secretAccessKey },
  );
  expect(value).toMatchObject({ read: 300_000_000 });
  // Node and the library take 60 to 80, three parts 15: 80 to 95. On a busy machine V8's own threads lag behind, up to 210.
  expect(peakMib).toBeLessThan(300);
}, 120_000);
