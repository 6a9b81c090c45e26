import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { CancelledError, ImageError, TimeoutError } from '../../src/errors';
import { checkLogin, pullImage, type PulledImage, type PullOptions } from '../../src/images/pull';
import type { Command } from '../../src/model/command';
import { Secret } from '../../src/model/secret';
import type { Completed } from '../../src/ports';
import { FakeClock } from '../fakes/clock';
import { LocalSession, type LocalSessionOptions } from './local-session';

const PASSWORD = 'hunter2-very-secret???>>>';
const DIGEST = `sha256:${'d'.repeat(64)}`;
const ID = `sha256:${'1'.repeat(64)}`;
const A = 'a'.repeat(12);
const IMAGE = `reg.lan/acme/web:1@${DIGEST}`;
const credentials = { registry: 'reg.lan', username: 'deploy', password: new Secret(PASSWORD) };

type Handler = (request: IncomingMessage, response: ServerResponse, body: string) => void;

/** Stands in for the Docker Engine's API. */
class TestEngine {
  readonly seen: { readonly method: string; readonly url: string; readonly auth: string; readonly body: string }[] = [];
  readonly #server: Server;

  constructor(handler: Handler) {
    this.#server = createServer((request, response) => {
      void this.#handle(request, response, handler);
    });
  }

  async #handle(request: IncomingMessage, response: ServerResponse, handler: Handler): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk);
    const body = Buffer.concat(chunks).toString();
    const auth = request.headers['x-registry-auth'];
    this.seen.push({
      method: request.method ?? '',
      url: request.url ?? '',
      auth: typeof auth === 'string' ? Buffer.from(auth, 'base64url').toString() : '',
      body,
    });
    handler(request, response, body);
  }

  async listen(): Promise<number> {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    return (this.#server.address() as AddressInfo).port;
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, 'close');
  }
}

const engines: TestEngine[] = [];

afterEach(async () => {
  await Promise.all(engines.splice(0).map((engine) => engine.close()));
});

const inspected = (digests: readonly string[] = [`reg.lan/acme/web@${DIGEST}`]): Partial<Completed> => ({
  exitCode: 0,
  stdout: JSON.stringify({ id: ID, repoDigests: digests }),
});

/** The image is found from the second question on: the first one is whether it is there already. */
function later(
  found: Partial<Completed> = inspected(),
  first: Partial<Completed> = { exitCode: 1 },
): LocalSessionOptions['answer'] {
  let asked = 0;
  return ({ words }) => (words[1] === 'image' ? (asked++ === 0 ? first : found) : undefined);
}

async function engine(
  handler: Handler,
  answer: LocalSessionOptions['answer'] = later(),
): Promise<[LocalSession, TestEngine]> {
  const started = new TestEngine(handler);
  engines.push(started);
  return [new LocalSession({ enginePort: await started.listen(), answer }), started];
}

interface Pull {
  readonly pulled: PulledImage;
  readonly lines: readonly string[];
  readonly clock: FakeClock;
}

async function pull(session: LocalSession, options: Partial<PullOptions> = {}, image = IMAGE): Promise<Pull> {
  const clock = options.clock instanceof FakeClock ? options.clock : new FakeClock();
  const lines: string[] = [];
  const pulled = await pullImage(session, image, {
    clock,
    label: 'web',
    onProgress: (line) => lines.push(line),
    ...options,
  });
  return { pulled, lines, clock };
}

const lines = (...messages: readonly unknown[]): string =>
  messages.map((message) => `${JSON.stringify(message)}\r\n`).join('');
const DONE = lines(
  { status: 'Pulling from acme/web', id: DIGEST },
  { status: 'Pulling fs layer', progressDetail: {}, id: A },
  { status: 'Downloading', progressDetail: { current: 500, total: 1000 }, id: A },
  { status: 'Download complete', progressDetail: {}, id: A },
  { status: 'Pull complete', progressDetail: {}, id: A },
  { status: `Digest: ${DIGEST}` },
);

describe('with a login: the Engine API', () => {
  test('the image comes, and the password is nowhere but in the header', async () => {
    const [session, { seen }] = await engine((_request, response) => response.end(DONE));
    const { pulled, lines: shown } = await pull(session, { credentials });
    expect(pulled).toEqual({ pinned: IMAGE, digest: DIGEST, id: ID });
    expect(shown).toEqual(['pulled web: 1 layer, 1.0 kB, 0 s']);
    expect(seen).toEqual([
      {
        method: 'POST',
        url: `/images/create?fromImage=reg.lan%2Facme%2Fweb&tag=sha256%3A${'d'.repeat(64)}`,
        auth: JSON.stringify({ username: 'deploy', password: PASSWORD, serveraddress: 'reg.lan' }),
        body: '',
      },
    ]);
    expect(session.commands.map((words) => words.slice(0, 3).join(' '))).toEqual([
      'docker image inspect',
      'docker system dial-stdio',
      'docker image inspect',
    ]);
    expect(JSON.stringify(session.commands)).not.toContain(PASSWORD);
    expect(session.processes.every(({ destroyed }) => destroyed)).toBe(true);
  });

  test('the header is base64url with padding, as Go reads it', async () => {
    let header = '';
    const [session] = await engine((request, response) => {
      header = String(request.headers['x-registry-auth']);
      response.end(DONE);
    });
    await pull(session, { credentials });
    expect(header).toMatch(/^[A-Za-z0-9_-]+={0,2}$/);
    expect(header.length % 4).toBe(0);
  });

  test('Docker Hub has a name of its own, and a platform can be asked for', async () => {
    const answer = ({ words }: Command): Partial<Completed> | undefined =>
      words[1] === 'image' ? inspected([`acme/web@${DIGEST}`]) : undefined;
    const [session, { seen }] = await engine((_request, response) => response.end(DONE), answer);
    await pull(
      session,
      {
        credentials: { ...credentials, registry: 'docker.io' },
        platform: { os: 'linux', architecture: 'arm64', variant: '' },
      },
      `acme/web@${DIGEST}`,
    );
    expect(seen[0]?.url).toContain('fromImage=docker.io%2Facme%2Fweb&');
    expect(seen[0]?.url).toContain('&platform=linux%2Farm64');
    expect(seen[0]?.auth).toContain('"serveraddress":"https://index.docker.io/v1/"');
  });

  test('at most a line every 3 seconds, and one at the end', async () => {
    const clock = new FakeClock();
    const [session] = await engine((_request, response) => {
      const step = (percent: number): void => {
        clock.advance(1);
        response.write(
          lines({ status: 'Downloading', progressDetail: { current: percent * 1e6, total: 100e6 }, id: A }),
        );
        if (percent < 10) setTimeout(step, 15, percent + 1);
        else response.end(lines({ status: 'Pull complete', progressDetail: {}, id: A }));
      };
      step(1);
    });
    const { lines: shown } = await pull(session, { credentials, clock });
    expect(shown).toEqual([
      'pulling web 0/1 layers, 3.0 of 100.0 MB, 3 s',
      'pulling web 0/1 layers, 6.0 of 100.0 MB, 6 s',
      'pulling web 0/1 layers, 9.0 of 100.0 MB, 9 s',
      'pulled web: 1 layer, 100.0 MB, 10 s',
    ]);
  });

  test('messages may be cut anywhere', async () => {
    const [session] = await engine((_request, response) => {
      const bytes = Buffer.from(`${lines({ status: 'grüße' })}\n\nnot json\n${DONE.trimEnd()}`);
      const send = (at: number): void => {
        if (at >= bytes.length) response.end();
        else response.write(bytes.subarray(at, at + 7), () => setImmediate(send, at + 7));
      };
      send(0);
    });
    expect((await pull(session, { credentials })).lines).toEqual(['pulled web: 1 layer, 1.0 kB, 0 s']);
  });

  test('an error in the stream', async () => {
    const [session] = await engine((_request, response) => {
      response.end(
        DONE +
          lines({
            errorDetail: { message: 'write /x: no space left on device' },
            error: 'write /x: no space left on device',
          }),
      );
    });
    await expect(pull(session, { credentials })).rejects.toThrow('The disk of deploy@server is full');
  });

  test('a status that is an error', async () => {
    const [session] = await engine((_request, response) => {
      response.writeHead(404);
      response.end(JSON.stringify({ message: 'manifest for reg.lan/acme/web:1 not found: manifest unknown' }));
    });
    await expect(pull(session, { credentials })).rejects.toThrow('has no image reg.lan/acme/web with digest');
    expect(session.commands).toHaveLength(2);
  });

  test('a wrong login is told apart from a missing right', async () => {
    let login = 401;
    const [session] = await engine(
      (request, response) => {
        response.writeHead(request.url === '/auth' ? login : 500);
        response.end(JSON.stringify({ message: 'unauthorized: authentication required' }));
      },
      () => ({ exitCode: 1 }),
    );
    await expect(pull(session, { credentials })).rejects.toThrow('Registry reg.lan refused the login of user "deploy"');
    login = 200;
    await expect(pull(session, { credentials })).rejects.toThrow('does not let user "deploy" pull reg.lan/acme/web');
  });

  test('a passing trouble is tried three times', async () => {
    const [session, { seen }] = await engine((_request, response) => {
      response.writeHead(500);
      response.end(JSON.stringify({ message: 'Get "https://reg.lan/v2/": net/http: TLS handshake timeout' }));
    });
    const clock = new FakeClock();
    await expect(pull(session, { credentials, clock })).rejects.toThrow('could not be pulled');
    expect(seen).toHaveLength(3);
    expect(clock.sleeps).toEqual([2, 6]);
  });

  test('a daemon that goes away in the middle is asked again', async () => {
    let first = true;
    const [session] = await engine((request, response) => {
      if (!first) {
        response.end(DONE);
        return;
      }
      first = false;
      response.write(DONE, () => request.socket.destroy());
    });
    const { pulled, lines: shown } = await pull(session, { credentials });
    expect(pulled.digest).toBe(DIGEST);
    expect(shown[0]).toMatch(/^pulling web failed, next try in 2 s: unexpected EOF/);
  });

  test('a daemon that always goes away', async () => {
    const [session] = await engine((request) => request.socket.destroy());
    await expect(pull(session, { credentials })).rejects.toThrow(/hung up before it was done/);
  });

  test('no daemon: the words of the CLI', async () => {
    const session = new LocalSession({
      engineError:
        'failed to open the raw stream connection: dial unix /var/run/docker.sock: connect: permission denied\n',
    });
    await expect(pull(session, { credentials })).rejects.toThrow(
      `Could not pull ${IMAGE} on deploy@server: failed to open the raw stream connection: dial unix /var/run/docker.sock: connect: permission denied`,
    );
  });

  test('a pull that never ends', async () => {
    const [session] = await engine((_request, response) => response.write(DONE));
    await expect(pull(session, { credentials, timeoutSeconds: 1 })).rejects.toThrow(TimeoutError);
    expect(session.processes.every(({ destroyed }) => destroyed)).toBe(true);
  });

  test('cancelled', async () => {
    const cancel = new AbortController();
    const [session] = await engine((_request, response) => {
      response.write(DONE, () => {
        cancel.abort();
      });
    });
    await expect(pull(session, { credentials, signal: cancel.signal })).rejects.toThrow(CancelledError);
    expect(session.processes.every(({ destroyed }) => destroyed)).toBe(true);
    await expect(pull(session, { credentials, signal: cancel.signal })).rejects.toThrow(CancelledError);
  });

  test.each([
    '',
    'garbage',
    '[]',
    '{"id":5,"repoDigests":[7]}',
    JSON.stringify({ id: ID, repoDigests: [`other/web@${DIGEST}`] }),
  ])('it is there only if Docker knows it by its digest: %j', async (stdout) => {
    const [session] = await engine(
      (_request, response) => response.end(DONE),
      () => ({ exitCode: 0, stdout }),
    );
    await expect(pull(session, { credentials })).rejects.toThrow('the image is not there under that digest');
  });
});

describe('without a login for that registry: docker pull', () => {
  /** What `docker pull` says, and what is there after it. */
  const cli = (result: Partial<Completed>, found = inspected()): LocalSessionOptions['answer'] => {
    let pulled = false;
    return ({ words }) => {
      if (words[1] === 'image') return pulled ? found : { exitCode: 1 };
      pulled = result.exitCode === 0;
      return result;
    };
  };
  const OUTPUT = `${DIGEST}: Pulling from acme/web\n${A}: Pulling fs layer\n${A}: Pull complete\nDigest: ${DIGEST}\nStatus: Downloaded newer image\n`;

  test("the server's own logins apply", async () => {
    const session = new LocalSession({ answer: cli({ exitCode: 0, stdout: OUTPUT }) });
    const { pulled, lines: shown } = await pull(session, {
      credentials: { ...credentials, registry: 'ghcr.io' },
      layers: [{ digest: `sha256:${A}${'0'.repeat(52)}`, bytes: 5e6 }],
    });
    expect(pulled).toEqual({ pinned: IMAGE, digest: DIGEST, id: ID });
    expect(shown).toEqual(['pulled web: 1 layer, 5.0 MB, 0 s']);
    expect(session.commands).toEqual([
      ['docker', 'image', 'inspect', '--format', expect.any(String), `reg.lan/acme/web@${DIGEST}`],
      ['docker', 'pull', IMAGE],
      ['docker', 'image', 'inspect', '--format', expect.any(String), `reg.lan/acme/web@${DIGEST}`],
    ]);
  });

  test('what is there already is not pulled: the registry may be away', async () => {
    const session = new LocalSession({ answer: () => inspected() });
    const { pulled, lines: shown } = await pull(session, { credentials });
    expect(pulled).toEqual({ pinned: IMAGE, digest: DIGEST, id: ID });
    expect(shown).toEqual(['web is there already']);
    expect(session.commands).toHaveLength(1);
  });

  test('by tag: the digest is the one that Docker says', async () => {
    const found = inspected([`reg.lan/acme/web@sha256:${'e'.repeat(64)}`, `reg.lan/acme/web@${DIGEST}`]);
    const session = new LocalSession({ answer: cli({ exitCode: 0, stdout: OUTPUT }, found) });
    expect((await pull(session, {}, 'reg.lan/acme/web:1')).pulled).toEqual({ pinned: IMAGE, digest: DIGEST, id: ID });
  });

  test('by tag, if it does not say: the one that there is, but no guess', async () => {
    const said = { exitCode: 0, stdout: 'reg.lan/acme/web:1\n' };
    expect((await pull(new LocalSession({ answer: cli(said) }), {}, 'reg.lan/acme/web:1')).pulled.pinned).toBe(IMAGE);
    const two = inspected([`reg.lan/acme/web@sha256:${'e'.repeat(64)}`, `reg.lan/acme/web@${DIGEST}`]);
    const session = new LocalSession({ answer: cli(said, two) });
    await expect(pull(session, {}, 'reg.lan/acme/web:1')).rejects.toThrow(ImageError);
  });

  test('a platform', async () => {
    const session = new LocalSession({ answer: cli({ exitCode: 0, stdout: OUTPUT }) });
    await pull(session, { platform: { os: 'linux', architecture: 'arm', variant: 'v7' } });
    expect(session.commands[0]).toEqual(['docker', 'pull', '--platform', 'linux/arm/v7', IMAGE]);
  });

  test('what is not there is not asked for twice', async () => {
    const session = new LocalSession({
      answer: cli({ exitCode: 1, stderr: 'Error response from daemon: manifest unknown' }),
    });
    await expect(pull(session)).rejects.toThrow('has no image reg.lan/acme/web');
    expect(session.commands).toHaveLength(2);
  });

  test('no time is left for another try', async () => {
    const session = new LocalSession({ answer: cli({ exitCode: 1, stderr: 'connection reset by peer' }) });
    await expect(pull(session, { timeoutSeconds: 5 })).rejects.toThrow('could not be pulled');
    expect(session.commands.filter(([, verb]) => verb === 'pull')).toHaveLength(2);
  });

  test('no words at all', async () => {
    const session = new LocalSession({ answer: cli({ exitCode: 125 }) });
    await expect(pull(session)).rejects.toThrow('docker pull ended with exit code 125');
  });

  test.each(['--all-tags', 'web;reboot', '$(reboot)', 'Web', ''])('%j never reaches the server', async (image) => {
    const session = new LocalSession({});
    await expect(pull(session, {}, image)).rejects.toThrow(ImageError);
    expect(session.commands).toEqual([]);
  });
});

describe('checking a login', () => {
  test('goes as a body, not as a word of a command', async () => {
    const [session, { seen }] = await engine((_request, response) =>
      response.end('{"Status":"Login Succeeded","IdentityToken":""}'),
    );
    await checkLogin(session, { ...credentials, registry: 'https://reg.lan/' });
    expect(seen).toEqual([
      {
        method: 'POST',
        url: '/auth',
        auth: '',
        body: JSON.stringify({ username: 'deploy', password: PASSWORD, serveraddress: 'reg.lan' }),
      },
    ]);
    expect(session.commands).toEqual([['docker', 'system', 'dial-stdio']]);
  });

  test.each([
    [
      401,
      'Get "https://reg.lan/v2/": unauthorized: incorrect username or password',
      'Registry reg.lan refused the login of user "deploy"',
    ],
    [500, 'Get "https://reg.lan/v2/": dial tcp: connection refused', 'could not be checked'],
    [500, '', 'could not be checked: Docker answered with status 500'],
  ])('%d %s', async (status, message, expected) => {
    const [session] = await engine((_request, response) => {
      response.writeHead(status);
      response.end(JSON.stringify({ message }));
    });
    await expect(checkLogin(session, credentials)).rejects.toThrow(expected);
  });
});
