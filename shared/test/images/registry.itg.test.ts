import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createHttp } from '../../src/adapters/http-client';
import { CancelledError, ConnectError, ImageError } from '../../src/errors';
import { type DaemonFacts, parseDaemon } from '../../src/images/daemon';
import { expectReference } from '../../src/images/reference';
import { resolveImage, type Resolution, type ResolveOptions } from '../../src/images/registry';
import { Secret } from '../../src/model/secret';
import { FakeClock } from '../fakes/clock';
import { LocalSession, type LocalSessionOptions } from './local-session';
import { answerError, answerJson, digestOf, type Hook, TestRegistry } from './test-registry';

const PASSWORD = 'hunter2-very-secret';
const LOGIN = `Basic ${Buffer.from(`deploy:${PASSWORD}`).toString('base64')}`;
const INDEX = 'application/vnd.oci.image.index.v1+json';

const open: TestRegistry[] = [];
let registry: TestRegistry;
let port: number;

async function startRegistry(tls?: { key: string; cert: string }): Promise<[TestRegistry, number]> {
  const started = new TestRegistry(tls);
  open.push(started);
  return [started, await started.listen()];
}

beforeEach(async () => {
  [registry, port] = await startRegistry();
});

afterEach(async () => {
  await Promise.all(open.splice(0).map((one) => one.close()));
});

function daemon(changes: Partial<DaemonFacts> = {}): DaemonFacts {
  const facts = parseDaemon(JSON.stringify({ OSType: 'linux', Architecture: 'x86_64' }));
  return {
    ...facts,
    secureByName: new Map([
      ['reg.lan:5000', false],
      ['other.lan:5000', false],
    ]),
    ...changes,
  };
}

const credentials = { registry: 'reg.lan:5000', username: 'deploy', password: new Secret(PASSWORD) };

/** Asks for an image; `reg.lan:5000` is the registry of this test. */
async function resolve(
  image: string,
  options: Partial<ResolveOptions> & { readonly local?: LocalSessionOptions } = {},
): Promise<{ readonly resolution: Resolution; readonly session: LocalSession; readonly clock: FakeClock }> {
  const session = new LocalSession({ ports: { 'reg.lan:5000': port }, ...options.local });
  const clock = new FakeClock();
  const resolution = await resolveImage(expectReference(image), {
    http: createHttp(),
    session,
    clock,
    daemon: daemon(),
    timeoutSeconds: 5,
    ...options,
  });
  return { resolution, session, clock };
}

async function failure(promise: Promise<unknown>): Promise<ImageError> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof ImageError) {
      const text = `${error.message}\n${error.hint}`;
      expect(text).not.toContain(PASSWORD);
      expect(text).not.toContain(LOGIN.slice(6));
      expect(error.message).not.toMatch(/[\u0000-\u001f\u007f]/);
      return error;
    }
    throw error;
  }
  throw new Error('nothing was thrown');
}

/** Wants `Authorization: <expected>`, else answers 401 with the challenge. */
const guarded =
  (expected: string, challenge: string): Hook =>
  (request, response) => {
    if (request.headers.authorization === expected) return false;
    answerError(response, 401, 'UNAUTHORIZED', 'authentication required', { 'www-authenticate': challenge });
    return true;
  };

describe('what is there', () => {
  test('an image without an index', async () => {
    const { digest } = registry.putImage('acme/web', '1', [1000, 234]);
    const { resolution, session } = await resolve('reg.lan:5000/acme/web:1');
    expect(resolution).toEqual({
      kind: 'resolved',
      pinned: `reg.lan:5000/acme/web:1@${digest}`,
      digest,
      mediaType: 'application/vnd.oci.image.manifest.v1+json',
      present: false,
      compressedBytes: 1234,
      layers: [1000, 234].map((bytes) => ({
        bytes,
        digest: digestOf(`layer ${bytes}`),
        diffId: digestOf(`diff ${bytes}`),
        mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip',
      })),
      warning: '',
    });
    // https was tried first, as the daemon does; the server was asked nothing else.
    expect(session.dialed.length).toBeGreaterThan(1);
    expect(session.commands).toEqual([]);
  });

  test('an index: its digest, the layers of our platform', async () => {
    const amd = registry.putImage('acme/web', 'amd', [10]);
    const arm = registry.putImage('acme/web', 'arm', [20], { os: 'linux', architecture: 'arm64', variant: 'v8' });
    const index = registry.put('acme/web/manifests/1', INDEX, {
      schemaVersion: 2,
      manifests: [
        { ...amd, platform: { os: 'linux', architecture: 'amd64' } },
        { ...arm, platform: { os: 'linux', architecture: 'arm64', variant: 'v8' } },
        { ...arm, platform: { os: 'unknown', architecture: 'unknown' } },
      ],
    });
    const { resolution } = await resolve('reg.lan:5000/acme/web:1');
    expect(resolution).toMatchObject({ digest: index.digest, mediaType: INDEX, compressedBytes: 10, warning: '' });
    const other = await resolve('reg.lan:5000/acme/web:1', {
      platform: { os: 'linux', architecture: 'arm64', variant: '' },
    });
    expect(other.resolution).toMatchObject({ digest: index.digest, compressedBytes: 20, warning: '' });

    const error = await failure(
      resolve('reg.lan:5000/acme/web:1', { platform: { os: 'linux', architecture: 's390x', variant: '' } }),
    );
    expect(error.message).toBe(
      'reg.lan:5000/acme/web:1 is not available for linux/s390x: it is made for linux/amd64, linux/arm64.',
    );
  });

  test('an image for another platform is warned of, not refused', async () => {
    registry.putImage('acme/web', '1', [10], { os: 'linux', architecture: 'arm64' });
    const { resolution } = await resolve('reg.lan:5000/acme/web:1');
    expect(resolution).toMatchObject({
      warning:
        'reg.lan:5000/acme/web:1 is made for linux/arm64, and the server is linux/amd64: it will only run under emulation.',
    });
  });

  test('by digest', async () => {
    const { digest } = registry.putImage('acme/web', '1', [10]);
    const { resolution } = await resolve(`reg.lan:5000/acme/web:anything@${digest}`);
    expect(resolution).toMatchObject({ digest, pinned: `reg.lan:5000/acme/web:anything@${digest}` });
  });

  test('what the server has is asked for with HEAD alone, or not at all', async () => {
    const { digest } = registry.putImage('acme/web', '1', [10]);
    const isPresent = (candidate: string): boolean => candidate === digest;
    const { resolution } = await resolve('reg.lan:5000/acme/web:1', { isPresent });
    expect(resolution).toMatchObject({ kind: 'resolved', present: true, digest, layers: [] });
    expect(registry.seen.map(({ method }) => method)).toEqual(['HEAD']);
    const byDigest = await resolve(`reg.lan:5000/acme/web@${digest}`, { isPresent });
    expect(byDigest.resolution).toMatchObject({ present: true });
    expect(registry.seen).toHaveLength(1);
    const other = await resolve('reg.lan:5000/acme/web:1', { isPresent: () => false });
    expect(other.resolution).toMatchObject({ present: false, compressedBytes: 10 });
  });
});

describe('what is not', () => {
  test('no such tag', async () => {
    const error = await failure(resolve('reg.lan:5000/acme/web:9'));
    expect(error.message).toBe('Registry reg.lan:5000 has no image reg.lan:5000/acme/web with tag 9.');
    expect(error.hint).toContain('was pushed before this deploy');
  });

  test('no such repository', async () => {
    registry.hook = (_request, response) => {
      answerError(response, 404, 'NAME_UNKNOWN', 'repository name not known to registry');
      return true;
    };
    expect((await failure(resolve('reg.lan:5000/acme/web:9'))).message).toBe(
      'Registry reg.lan:5000 has no image reg.lan:5000/acme/web.',
    );
  });

  test('something else than a registry', async () => {
    registry.hook = (_request, response) => {
      response.writeHead(200, { 'content-type': 'text/html' });
      response.end('<html>Welcome');
      return true;
    };
    expect((await failure(resolve('reg.lan:5000/acme/web:9'))).message).toBe(
      'What registry reg.lan:5000 has for reg.lan:5000/acme/web:9 is not an image manifest but text/html.',
    );
  });

  test('forged bytes', async () => {
    const { digest } = registry.putImage('acme/web', '1', [10]);
    registry.hook = (_request, response) => {
      answerJson(response, 200, { schemaVersion: 2, layers: [], config: {} });
      return true;
    };
    expect((await failure(resolve(`reg.lan:5000/acme/web@${digest}`))).message).toContain(
      'it may be damaged or forged',
    );
  });

  test.each<[string, unknown, string]>([
    ['schema 1', { schemaVersion: 1, fsLayers: [] }, 'the old format "schema 1"'],
    [
      'a negative size',
      { schemaVersion: 2, config: { digest: digestOf('x'), size: 2 }, layers: [{ digest: digestOf('y'), size: -5 }] },
      'damaged',
    ],
    [
      'a digest that is a path',
      { schemaVersion: 2, config: { digest: 'sha256:../../../x', size: 2 }, layers: [] },
      'damaged',
    ],
    ['an artifact', { schemaVersion: 2, mediaType: 'application/x\u001b[31m' }, 'of the type "application/x [31m"'],
    ['null', null, 'not an image manifest'],
    ['an empty index', { schemaVersion: 2, manifests: [] }, 'no platform at all'],
  ])('%s', async (_name, document, message) => {
    registry.put('acme/web/manifests/1', 'application/json', document);
    expect((await failure(resolve('reg.lan:5000/acme/web:1'))).message).toContain(message);
  });
});

describe('logging in', () => {
  test('Basic', async () => {
    registry.putImage('acme/web', '1', [10]);
    registry.hook = guarded(LOGIN, 'Basic realm="r"');
    const { resolution } = await resolve('reg.lan:5000/acme/web:1', { credentials });
    expect(resolution).toMatchObject({ kind: 'resolved', compressedBytes: 10 });
    // Not before it was asked for.
    expect(registry.seen[0]).toMatchObject({ authorization: '' });

    const anonymous = await resolve('reg.lan:5000/acme/web:1');
    expect(anonymous.resolution).toEqual({
      kind: 'needs-login',
      message:
        'Registry reg.lan:5000 does not show reg.lan:5000/acme/web without a login: it is private, or it does not exist. ' +
        'Set registry, registry-username and registry-password, or log in on the server with `docker login`.',
    });
    const wrong = await failure(
      resolve('reg.lan:5000/acme/web:1', { credentials: { ...credentials, password: new Secret('wrong-password') } }),
    );
    expect(wrong.message).toBe(
      'Registry reg.lan:5000 refused the login of user "deploy". It says: authentication required',
    );
    expect(wrong.message + wrong.hint).not.toContain('wrong-password');
  });

  test('the login of another registry stays at home', async () => {
    registry.hook = guarded(LOGIN, 'Basic realm="r"');
    const { resolution } = await resolve('reg.lan:5000/acme/web:1', {
      credentials: { ...credentials, registry: 'ghcr.io' },
    });
    expect(resolution.kind).toBe('needs-login');
    expect(registry.seen.every(({ authorization }) => authorization === '')).toBe(true);
  });

  test('Bearer: the token service gets the login, the registry the token', async () => {
    registry.putImage('acme/web', '1', [10]);
    const ask = guarded(
      'Bearer tok.en',
      'Bearer realm="http://reg.lan:5000/token",service="reg",scope="repository:acme/web:pull,push"',
    );
    registry.hook = (request, response) => {
      if (!(request.url ?? '').startsWith('/token')) return ask(request, response);
      if (request.headers.authorization === LOGIN) answerJson(response, 200, { access_token: 'tok.en' });
      else answerJson(response, 401, { details: 'incorrect username or password' });
      return true;
    };
    const { resolution } = await resolve('reg.lan:5000/acme/web:1', { credentials });
    expect(resolution.kind).toBe('resolved');
    expect(registry.seen).toEqual([
      { method: 'GET', url: '/v2/acme/web/manifests/1', authorization: '' },
      { method: 'GET', url: '/token?service=reg&scope=repository%3Aacme%2Fweb%3Apull', authorization: LOGIN },
      { method: 'GET', url: '/v2/acme/web/manifests/1', authorization: 'Bearer tok.en' },
      expect.objectContaining({ authorization: 'Bearer tok.en' }),
    ]);
    const anonymous = await resolve('reg.lan:5000/acme/web:1');
    expect(anonymous.resolution.kind).toBe('needs-login');
    const wrong = await failure(
      resolve('reg.lan:5000/acme/web:1', { credentials: { ...credentials, password: new Secret('wrong-password') } }),
    );
    expect(wrong.message).toBe(
      'Registry reg.lan:5000 refused the login of user "deploy". It says: incorrect username or password',
    );
  });

  test('a token that gives no right', async () => {
    const ask = guarded('never', 'Bearer realm="http://reg.lan:5000/token"');
    registry.hook = (request, response) => {
      if (!(request.url ?? '').startsWith('/token')) return ask(request, response);
      answerJson(response, 200, { token: 'tok' });
      return true;
    };
    expect((await resolve('reg.lan:5000/acme/web:1')).resolution.kind).toBe('needs-login');
    expect((await failure(resolve('reg.lan:5000/acme/web:1', { credentials }))).message).toContain(
      'does not let user "deploy" read reg.lan:5000/acme/web, or the image does not exist',
    );
  });

  test.each(['http://other.lan:5000/token', 'ftp://reg.lan/', 'https://a:b@reg.lan/token', '\u001b[2J'])(
    'no login goes to the token service %j',
    async (realm) => {
      const [other, otherPort] = await startRegistry();
      registry.hook = guarded('never', `Bearer realm="${realm.replaceAll('\u001b', '')}"`);
      const local = { ports: { 'reg.lan:5000': port, 'other.lan:5000': otherPort } };
      expect((await failure(resolve('reg.lan:5000/acme/web:1', { credentials, local }))).message).toContain(
        'names no token service that a login could safely be sent to',
      );
      expect(other.seen).toEqual([]);
    },
  );

  test.each<[string, unknown]>([
    ['nothing', {}],
    ['a number', { token: 5 }],
    ['two lines', { token: 'a\r\nx-injected: 1' }],
    ['a giant', { token: 'a'.repeat(100_000) }],
  ])('%s is no token', async (_name, document) => {
    const ask = guarded('never', 'Bearer realm="http://reg.lan:5000/token"');
    registry.hook = (request, response) => {
      if (!(request.url ?? '').startsWith('/token')) return ask(request, response);
      answerJson(response, 200, document);
      return true;
    };
    expect((await failure(resolve('reg.lan:5000/acme/web:1'))).message).toBe(
      'The token service of registry reg.lan:5000 answered without a usable token.',
    );
  });

  test('a redirect to another host takes no login along', async () => {
    const [storage, storagePort] = await startRegistry();
    const { digest } = registry.putImage('acme/web', '1', [10]);
    expect(storage.putImage('acme/web', '1', [10]).digest).toBe(digest);
    registry.hook = (request, response) => {
      if (guarded(LOGIN, 'Basic realm="r"')(request, response)) return true;
      if (!(request.url ?? '').includes('/blobs/')) return false;
      response.writeHead(307, { location: `http://user:pw@storage.lan:5000${request.url ?? ''}` });
      response.end();
      return true;
    };
    const local = { ports: { 'reg.lan:5000': port, 'storage.lan:5000': storagePort } };
    const { resolution } = await resolve('reg.lan:5000/acme/web:1', { credentials, local });
    expect(resolution.kind).toBe('resolved');
    expect(storage.seen).toEqual([
      { method: 'GET', url: expect.stringContaining('/blobs/sha256:') as string, authorization: '' },
    ]);
  });

  test.each(['ftp://reg.lan/x', 'javascript:1', 'http://[', ''])(
    'a redirect to %j is not followed',
    async (location) => {
      registry.hook = (_request, response) => {
        response.writeHead(302, { location });
        response.end();
        return true;
      };
      expect((await failure(resolve('reg.lan:5000/acme/web:1'))).message).toMatch(/redirects/);
    },
  );
});

describe('troubles', () => {
  test.each([
    [undefined, 'Log in: set registry'],
    [credentials, 'Wait before the next deploy'],
  ])('too many requests', async (login, hint) => {
    registry.hook = (_request, response) => {
      answerError(response, 429, 'TOOMANYREQUESTS', 'You have reached your pull rate limit.\r\n::error::x');
      return true;
    };
    const error = await failure(resolve('reg.lan:5000/acme/web:1', { credentials: login }));
    expect(error.message).toBe(
      "Registry reg.lan:5000 answers no more for now: too many requests from this server's address. It says: You have reached your pull rate limit. ::error::x",
    );
    expect(error.hint).toContain(hint);
  });

  test('one 503 is forgiven', async () => {
    registry.putImage('acme/web', '1', [10]);
    let failures = 1;
    registry.hook = (_request, response) => {
      if (failures-- <= 0) return false;
      answerError(response, 503, 'UNAVAILABLE', 'later');
      return true;
    };
    const { resolution, clock } = await resolve('reg.lan:5000/acme/web:1');
    expect(resolution.kind).toBe('resolved');
    expect(clock.sleeps).toEqual([1]);
  });

  test('two are not', async () => {
    registry.hook = (_request, response) => {
      answerError(response, 503, 'UNAVAILABLE', 'later');
      return true;
    };
    expect((await failure(resolve('reg.lan:5000/acme/web:1'))).message).toBe(
      'The registry reg.lan:5000 answered with status 503. It says: later',
    );
    expect(registry.seen).toHaveLength(2);
  });

  test('one lost connection is forgiven', async () => {
    registry.putImage('acme/web', '1', [10]);
    let losses = 1;
    registry.hook = (request) => {
      if (losses-- <= 0) return false;
      request.socket.destroy();
      return true;
    };
    expect((await resolve('reg.lan:5000/acme/web:1')).resolution.kind).toBe('resolved');
  });

  test('an answer that never comes', async () => {
    registry.hook = () => true;
    expect((await failure(resolve('reg.lan:5000/acme/web:1', { timeoutSeconds: 0.3 }))).message).toContain(
      'The server cannot reach registry reg.lan:5000',
    );
  });

  test('nobody there', async () => {
    expect((await failure(resolve('ghcr.io/acme/web:1'))).message).toBe(
      'The server cannot reach registry ghcr.io: From deploy@server, ghcr.io:443 cannot be reached.',
    );
  });

  test('a daemon behind a proxy may do better', async () => {
    const { resolution } = await resolve('ghcr.io/acme/web:1', { daemon: daemon({ usesProxy: true }) });
    expect(resolution.kind).toBe('needs-daemon');
  });

  test('a server that forwards no connections leaves it to the daemon', async () => {
    class Refusing extends LocalSession {
      override async dial(): Promise<never> {
        await Promise.resolve();
        const cause = Object.assign(new Error('(SSH) Channel open failure'), { reason: 1 });
        throw new ConnectError('refused', 'sshd does not let us connect through it.', '', { cause });
      }
    }
    const { resolution } = await resolve('ghcr.io/acme/web:1', { session: new Refusing({}) });
    expect(resolution).toMatchObject({ kind: 'needs-daemon' });
  });

  test('a lost server is not taken for a lost registry', async () => {
    class Lost extends LocalSession {
      override async dial(): Promise<never> {
        await Promise.resolve();
        throw new ConnectError('lost', 'The connection to deploy@server was lost.', '');
      }
    }
    await expect(resolve('ghcr.io/acme/web:1', { session: new Lost({}) })).rejects.toThrow(ConnectError);
    const behindMirror = daemon({ mirrors: ['http://reg.lan:5000/'] });
    await expect(resolve('postgres', { session: new Lost({}), daemon: behindMirror })).rejects.toThrow(ConnectError);
  });

  test('cancelled', async () => {
    await expect(resolve('reg.lan:5000/acme/web:1', { signal: AbortSignal.abort() })).rejects.toThrow(CancelledError);
  });
});

describe('mirrors', () => {
  const mirrored = (): DaemonFacts => daemon({ mirrors: ['http://reg.lan:5000/'] });

  test('are asked first for images of Docker Hub, without the login', async () => {
    const { digest } = registry.putImage('library/postgres', '15', [10]);
    const { resolution, session } = await resolve('postgres:15', {
      daemon: mirrored(),
      credentials: { ...credentials, registry: 'docker.io' },
    });
    expect(resolution).toMatchObject({ pinned: `postgres:15@${digest}` });
    expect(new Set(session.dialed)).toEqual(new Set(['reg.lan:5000']));
    expect(registry.seen.every(({ authorization }) => authorization === '')).toBe(true);
  });

  test.each<[string, Hook]>([
    ['lacks the image', () => false],
    [
      'wants a login',
      (_request, response) => {
        answerError(response, 401, 'UNAUTHORIZED', 'no', { 'www-authenticate': 'Basic realm="r"' });
        return true;
      },
    ],
    [
      'is broken',
      (_request, response) => {
        answerError(response, 500, 'UNKNOWN', 'no');
        return true;
      },
    ],
  ])('that %s is passed over', async (_name, hook) => {
    registry.hook = hook;
    const { message } = await failure(
      resolve('postgres:15', { daemon: mirrored(), credentials: { ...credentials, registry: 'docker.io' } }),
    );
    expect(message).toContain(
      'The server cannot reach registry docker.io: From deploy@server, registry-1.docker.io:443',
    );
    expect(message).toContain('Asked before that: ');
    expect(message).toContain('irror reg.lan:5000');
    expect(registry.seen.every(({ authorization }) => authorization === '')).toBe(true);
  });
});

describe('certificates', () => {
  let folder: string;
  let pair: { key: string; cert: string };

  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'slipway-registry-'));
    const subject = ['-subj', '/CN=reg.lan', '-addext', 'subjectAltName=DNS:reg.lan'];
    const files = ['-keyout', join(folder, 'key'), '-out', join(folder, 'cert')];
    const kind = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'];
    execFileSync('openssl', ['req', '-x509', ...kind, ...subject, ...files], { stdio: 'ignore' });
    pair = { key: readFileSync(join(folder, 'key'), 'utf8'), cert: readFileSync(join(folder, 'cert'), 'utf8') };
  });

  afterAll(() => {
    rmSync(folder, { recursive: true });
  });

  async function ask(facts: Partial<DaemonFacts>, authorities: string): Promise<Resolution> {
    const [tls, tlsPort] = await startRegistry(pair);
    tls.putImage('acme/web', '1', [10]);
    const local: LocalSessionOptions = {
      ports: { 'reg.lan:5000': tlsPort },
      answer: ({ words }) => (words[0] === 'sh' ? { exitCode: 0, stdout: authorities } : undefined),
    };
    return (await resolve('reg.lan:5000/acme/web:1', { daemon: daemon(facts), local })).resolution;
  }

  test('what the server trusts, we trust', async () => {
    expect((await ask({ secureByName: new Map() }, `junk\n${pair.cert}`)).kind).toBe('resolved');
  });

  test.each(['', 'junk'])('what it does not trust, we refuse, and say how to trust it', async (authorities) => {
    const error = await failure(ask({ secureByName: new Map() }, authorities));
    expect(error.message).toContain('The TLS certificate of registry reg.lan:5000 cannot be verified');
    expect(error.hint).toContain('/etc/docker/certs.d/reg.lan:5000/ca.crt');
  });

  test('what the daemon accepts unverified is left to the daemon', async () => {
    expect(await ask({}, '')).toMatchObject({ kind: 'needs-daemon' });
  });
});

test('a name in an insecure network speaks http', async () => {
  registry.putImage('acme/web', '1', [10]);
  const answer: LocalSessionOptions['answer'] = ({ words }) =>
    words[0] === 'getent'
      ? { exitCode: 0, stdout: '10.1.2.3      STREAM build.lan\n10.1.2.3      DGRAM\n' }
      : undefined;
  const local = { ports: { 'build.lan:5000': port }, answer };
  const facts = daemon({ insecureNetworks: ['10.0.0.0/8'] });
  expect((await resolve('build.lan:5000/acme/web:1', { daemon: facts, local })).resolution.kind).toBe('resolved');
  const elsewhere = daemon({ insecureNetworks: ['192.168.0.0/16'] });
  await failure(resolve('build.lan:5000/acme/web:1', { daemon: elsewhere, local }));
});
