import { createHash } from 'node:crypto';
import { afterEach, describe, expect, test } from '@jest/globals';
import { utils } from 'ssh2';
import { connectSsh, type SshOptions } from '../src/adapters/ssh-session';
import { CancelledError, CommandError, ConnectError, InputError, SlipwayError, TimeoutError } from '../src/errors';
import type { SshHost } from '../src/model/host';
import { Secret } from '../src/model/secret';
import type { Session } from '../src/ports';
import { makeKey, type SshServer, type SshServerOptions, startPlainServer, startSshServer } from './ssh-server';

const open: { close(): Promise<void> }[] = [];

afterEach(async () => {
  for (const one of open.splice(0).reverse()) await one.close();
});

async function serve(options: SshServerOptions = {}): Promise<SshServer> {
  const server = await startSshServer(options);
  open.push(server);
  return server;
}

async function connect(host: SshHost, options: SshOptions = {}, redact = (text: string) => text): Promise<Session> {
  const session = await connectSsh(host, { timeoutSeconds: 10, ...options }, redact);
  open.push(session);
  return session;
}

async function failure(work: Promise<unknown>): Promise<SlipwayError> {
  try {
    await work;
  } catch (error) {
    if (error instanceof SlipwayError) return error;
    throw error;
  }
  throw new Error('it did not fail');
}

async function refusal(work: Promise<unknown>): Promise<ConnectError> {
  const error = await failure(work);
  if (error instanceof ConnectError) return error;
  throw error;
}

const echo = (...words: string[]) => ({ words: ['printf', '%s\n', ...words] as const });
const sh = (text: string, ...parameters: string[]) => ({ words: ['sh', '-c', text, 'sh', ...parameters] as const });

async function waitFor(condition: () => boolean): Promise<void> {
  for (let turn = 0; turn < 300 && !condition(); turn++) await new Promise((resolve) => setTimeout(resolve, 10));
  expect(condition()).toBe(true);
}

describe('the host key', () => {
  test.each(['ed25519', 'rsa', 'ecdsa'] as const)('a pinned %s key is trusted', async (type) => {
    const server = await serve({ hostKeys: [makeKey(type)] });
    const session = await connect(server.host());
    expect((await session.run(echo('in'))).stdout).toBe('in\n');
  });

  test('only types with a pin are asked for', async () => {
    const [ed25519, rsa] = [makeKey(), makeKey('rsa')];
    const server = await serve({ hostKeys: [ed25519, rsa] });
    await connect(server.host({ trust: { knownHosts: server.knownHostsLine(rsa), fingerprint: '' } }));
  });

  test('nothing given: refused, with the fingerprint, the line to pin, and the way to compare it', async () => {
    const server = await serve();
    const error = await refusal(connect(server.host({ trust: { knownHosts: '', fingerprint: '' } })));
    expect(error.reason).toBe('host-key-unknown');
    expect(error.message).toContain(`${server.hostKey.key.fingerprint} (ED25519)`);
    expect(error.hint).toContain(`[127.0.0.1]:${server.port} ${server.hostKey.key.publicLine}`);
    expect(error.hint).toContain("server's own console");
    expect(error.hint).toContain('ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub');
    expect(server.attempts).toEqual([]);
    // The line that it gives is one that works.
    const line = error.hint.split('\n').at(-1) ?? '';
    await connect(server.host({ trust: { knownHosts: line, fingerprint: '' } }));
  });

  test('a line for another port does not count, and is named', async () => {
    const server = await serve();
    const knownHosts = `127.0.0.1 ${server.hostKey.key.publicLine}`;
    const error = await refusal(connect(server.host({ trust: { knownHosts, fingerprint: '' } })));
    expect(error.reason).toBe('host-key-unknown');
    expect(error.hint).toContain('another port (line 1)');
    expect(error.hint).toContain(`starts with [127.0.0.1]:${server.port}`);
  });

  test('another key of the same type is refused', async () => {
    const server = await serve();
    const other = makeKey();
    const trust = { knownHosts: server.knownHostsLine(other), fingerprint: '' };
    const error = await refusal(connect(server.host({ trust })));
    expect(error.reason).toBe('host-key-mismatch');
    expect(error.message).toContain(server.hostKey.key.fingerprint);
    expect(error.message).toContain(other.key.fingerprint);
    expect(error.hint).toContain('someone else answers');
    expect(server.attempts).toEqual([]);
  });

  test('a pin of a type that the server has not: what it has is shown', async () => {
    const server = await serve();
    const trust = { knownHosts: server.knownHostsLine(makeKey('ecdsa')), fingerprint: '' };
    const error = await refusal(connect(server.host({ trust })));
    expect(error.reason).toBe('host-key-mismatch');
    expect(error.message).toContain(server.hostKey.key.fingerprint);
    expect(error.message).toContain('ECDSA');
    expect(error.hint).toContain('another key of the server was pinned');
    expect(server.attempts).toEqual([]);
  });

  test('a revoked key is refused, even with its fingerprint given', async () => {
    const server = await serve();
    const knownHosts = `${server.knownHostsLine()}\n@revoked * ${server.hostKey.key.publicLine}\n`;
    const trust = { knownHosts, fingerprint: server.hostKey.key.fingerprint };
    const error = await refusal(connect(server.host({ trust })));
    expect(error.reason).toBe('host-key-revoked');
    expect(error.message).toContain('line 2');
  });

  test('a certificate authority is refused before anything is sent', async () => {
    const server = await serve();
    const trust = { knownHosts: `@cert-authority * ${makeKey().key.publicLine}`, fingerprint: '' };
    const error = await refusal(connect(server.host({ trust })));
    expect(error.message).toContain('line 1: @cert-authority');
    expect(error.message).toContain('not supported');
    expect(error.hint).toContain('ssh-keyscan');
  });

  test('a malformed line is an input error with its number', async () => {
    const server = await serve();
    const error = await failure(
      connect(server.host({ trust: { knownHosts: '# mine\n127.0.0.1 ssh-rsa', fingerprint: '' } })),
    );
    expect(error).toBeInstanceOf(InputError);
    expect(error.message).toContain('line 2');
  });

  test('a fingerprint is found among all of the keys that the server has', async () => {
    const keys = [makeKey(), makeKey('ecdsa'), makeKey('rsa')];
    const server = await serve({ hostKeys: keys });
    for (const { key } of keys) await connect(server.host({ trust: { knownHosts: '', fingerprint: key.fingerprint } }));
  });

  test('a fingerprint that no key of the server has', async () => {
    const keys = [makeKey(), makeKey('rsa')];
    const server = await serve({ hostKeys: keys });
    const { fingerprint } = makeKey().key;
    const error = await refusal(connect(server.host({ trust: { knownHosts: '', fingerprint } })));
    expect(error.reason).toBe('host-key-mismatch');
    for (const { key } of keys) expect(error.message).toContain(key.fingerprint);
    expect(error.message).toContain(`expected was ${fingerprint}`);
    expect(server.attempts).toEqual([]);
  });

  test('both given: both must hold', async () => {
    const server = await serve();
    const { fingerprint } = server.hostKey.key;
    const other = makeKey();
    await connect(server.host({ trust: { knownHosts: server.knownHostsLine(), fingerprint } }));
    for (const trust of [
      { knownHosts: server.knownHostsLine(), fingerprint: other.key.fingerprint },
      { knownHosts: server.knownHostsLine(other), fingerprint },
      { knownHosts: `example.com ${server.hostKey.key.publicLine}`, fingerprint },
    ])
      expect((await refusal(connect(server.host({ trust })))).reason).toMatch(/^host-key-(mismatch|unknown)$/);
    expect(server.attempts).toEqual(['publickey', 'publickey']);
  });
});

describe('the login', () => {
  test.each(['ed25519', 'rsa', 'ecdsa'] as const)('with an %s key', async (type) => {
    const client = makeKey(type);
    const server = await serve({ authorized: [client.key] });
    await connect(server.host({ privateKey: new Secret(client.text) }));
    expect(new Set(server.attempts)).toEqual(new Set(['publickey']));
  });

  test('with an encrypted OpenSSH key in a mangled secret', async () => {
    const options = { passphrase: 'a good one', cipher: 'aes256-ctr', rounds: 4 };
    const pair = utils.generateKeyPairSync('ecdsa', { bits: 256, ...options });
    const parsed = await import('../src/shell/private-key').then((m) => m.parsePrivateKey(pair.private, 'a good one'));
    const server = await serve({ authorized: [parsed] });
    const privateKey = new Secret(pair.private.trim().replaceAll('\n', '\\n'));
    await connect(server.host({ privateKey, passphrase: new Secret('a good one') }));
  });

  test('a refused key: our fingerprint, the user, the line to add, and nothing else is tried', async () => {
    const server = await serve({ authorized: [], methods: ['publickey', 'password', 'keyboard-interactive'] });
    const error = await refusal(connect(server.host()));
    expect(error.reason).toBe('key-rejected');
    expect(error.message).toContain(
      `deploy@127.0.0.1:${server.port} refused our key ${server.clientKey.key.fingerprint}`,
    );
    expect(error.message).toContain('publickey, password, keyboard-interactive');
    expect(error.hint).toContain('.ssh/authorized_keys');
    expect(error.hint).toContain(server.clientKey.key.publicLine);
    expect(new Set(server.attempts)).toEqual(new Set(['publickey']));
  });

  test('a server that takes no keys', async () => {
    const server = await serve({ methods: ['password'] });
    const error = await refusal(connect(server.host()));
    expect(error.hint).toContain('PubkeyAuthentication');
  });

  test('a server that wants a second factor', async () => {
    const server = await serve({ secondFactor: true });
    const error = await refusal(connect(server.host()));
    expect(error.reason).toBe('key-rejected');
    expect(error.message).toContain('accepts our key');
    expect(error.message).toContain('keyboard-interactive');
    expect(error.hint).toContain('AuthenticationMethods publickey');
  });

  test('an empty secret, and a public key', async () => {
    const server = await serve();
    const empty = await refusal(connect(server.host({ privateKey: new Secret(' \n') })));
    expect([empty.reason, empty.message]).toEqual(['key-unusable', expect.stringContaining('empty')]);
    expect(empty.hint).toContain('secrets: inherit');
    const half = await refusal(connect(server.host({ privateKey: new Secret(server.clientKey.key.publicLine) })));
    expect(half.message).toContain('public half');
  });

  test('no common key exchange, no common cipher', async () => {
    const kex = await serve({ algorithms: { kex: ['diffie-hellman-group14-sha1'] } });
    const error = await refusal(connect(kex.host()));
    expect(error.reason).toBe('handshake');
    expect(error.message).toContain('no method of key exchange in common');
    expect(error.hint).toContain('curve25519-sha256');
    const cipher = await serve({ algorithms: { cipher: ['aes128-cbc'] } });
    expect((await refusal(connect(cipher.host()))).message).toContain('no cipher in common');
  });

  test('a server that never answers the login', async () => {
    const server = await serve({ hangAt: 'login' });
    const error = await refusal(connect(server.host(), { timeoutSeconds: 0.5 }));
    expect(error.reason).toBe('timeout');
    expect(error.message).toContain('login as deploy@127.0.0.1');
    expect(error.message).toContain('0.5 s');
  });

  test('a connection that breaks during the login', async () => {
    const server = await serve({ dropAfterBytes: 1200 });
    const error = await refusal(connect(server.host()));
    expect(['lost', 'handshake']).toContain(error.reason);
    expect(error.hint).toContain('sshd log');
  });
});

describe('the way there', () => {
  test('a name that does not exist', async () => {
    const server = await serve();
    const error = await refusal(connect(server.host({ address: 'nowhere.invalid' })));
    expect(error.reason).toBe('unresolved');
    expect(error.message).toContain('nowhere.invalid');
    expect(error.hint).toContain('input host');
  });

  test('nothing listens', async () => {
    const server = await serve();
    const host = server.host();
    await server.close();
    const error = await refusal(connect(host));
    expect(error.reason).toBe('refused');
    expect(error.message).toContain(`Nothing listens on 127.0.0.1 port ${host.port}`);
    expect(error.hint).toContain('sshd');
  });

  test('a server that says nothing', async () => {
    const server = await serve();
    const silent = await startPlainServer(() => undefined);
    open.push(silent);
    const error = await refusal(connect(server.host({ port: silent.port }), { timeoutSeconds: 0.3 }));
    expect(error.reason).toBe('timeout');
    expect(error.message).toContain('said nothing for 0.3 s');
  });

  test('an HTTP server', async () => {
    const server = await serve();
    const http = await startPlainServer((socket) => {
      socket.once('data', () => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'));
    });
    open.push(http);
    const error = await refusal(connect(server.host({ port: http.port })));
    expect(error.reason).toBe('not-ssh');
    expect(error.message).toContain('HTTP/1.1 400 Bad Request');
    expect(error.hint).toContain('input port');
  });

  test('a server that hangs up at once', async () => {
    const server = await serve();
    for (const hangUp of ['end', 'resetAndDestroy'] as const) {
      const rude = await startPlainServer((socket) => {
        socket[hangUp]();
      });
      open.push(rude);
      const error = await refusal(connect(server.host({ port: rude.port })));
      // A reset can be so quick that the connection is never seen open.
      expect(error.message).toMatch(hangUp === 'end' ? /before it named itself/ : /before it named itself|broke off/);
      expect(error.hint).toContain('MaxStartups');
    }
  });

  test('cancelled before and during the connect', async () => {
    const server = await serve({ hangAt: 'login' });
    expect(await failure(connect(server.host(), { signal: AbortSignal.abort() }))).toBeInstanceOf(CancelledError);
    const cancel = new AbortController();
    const started = performance.now();
    const connecting = failure(connect(server.host(), { signal: cancel.signal }));
    setTimeout(() => {
      cancel.abort();
    }, 50);
    expect(await connecting).toBeInstanceOf(CancelledError);
    expect(performance.now() - started).toBeLessThan(2000);
  });
});

describe('run', () => {
  test('words arrive as they are, output comes whole', async () => {
    const server = await serve();
    const session = await connect(server.host());
    const words = ["it's", '$HOME `id`', 'two\nlines', '', '-n', 'žluť 🎉', '\\', '"'];
    const { stdout, stderr, exitCode } = await session.run({
      words: ['sh', '-c', 'printf "%s|" "$@"; echo no >&2', 'sh', ...words],
    });
    expect(stdout).toBe(words.map((word) => `${word}|`).join(''));
    expect(stderr).toBe('no\n');
    expect(exitCode).toBe(0);
    expect(session.where).toBe(`deploy@127.0.0.1:${server.port}`);
  });

  test('standard input as text, bytes and secret', async () => {
    const session = await connect((await serve()).host());
    const bytes = Buffer.alloc(3_000_000, 'ab\n');
    expect((await session.run({ words: ['cat'], stdin: 'té\n' })).stdout).toBe('té\n');
    expect((await session.run({ words: ['cat'], stdin: new Secret('quiet') })).stdout).toBe('quiet');
    expect((await session.run({ words: ['wc', '-c'], stdin: bytes })).stdout.trim()).toBe('3000000');
    // Who does not read its input is no failure.
    expect((await session.run({ words: ['true'], stdin: bytes })).exitCode).toBe(0);
  });

  test('a heartbeat gets through between the pieces of a long input on a slow link', async () => {
    const server = await serve({ bytesPerSecond: 600_000 });
    const session = await connect(server.host());
    const heart = await session.start({ words: ['cat'] });
    let sentMs = performance.now();
    let longestMs = 0;
    const beat = (): void => {
      sentMs = performance.now();
      heart.stdin.write('beat\n');
    };
    heart.stdout.on('data', () => {
      longestMs = Math.max(longestMs, performance.now() - sentMs);
      beat();
    });
    const stdin = Buffer.alloc(2_400_000, 'ab\n');
    const running = session.run({ words: ['sha256sum'], stdin });
    await waitFor(() => server.commands.length === 2);
    beat();
    const { stdout } = await running;
    // All of the input takes 4 s, the 2 MB of ssh2's window more than 3 s.
    expect(Math.max(longestMs, performance.now() - sentMs)).toBeLessThan(2700);
    expect(stdout).toContain(createHash('sha256').update(stdin).digest('hex'));
    heart.close();
  }, 20_000);

  test.each(['reset', 'hangUp'] as const)('a long input on its way, then a %s', async (way) => {
    const server = await serve({ bytesPerSecond: 500_000 });
    const session = await connect(server.host());
    const running = refusal(session.run({ words: ['cat'], stdin: Buffer.alloc(8_000_000) }));
    await waitFor(() => server.commands.length === 1);
    await new Promise((resolve) => setTimeout(resolve, 200));
    server[way]();
    expect((await running).reason).toBe('lost');
  });

  test('8 MB of output', async () => {
    const session = await connect((await serve()).host());
    const { stdout } = await session.run(sh('head -c 8000000 /dev/zero | tr "\\0" x'));
    expect(stdout.length).toBe(8_000_000);
  });

  test('characters that come in two pieces, lines that come in many', async () => {
    const server = await serve({
      onExec: (_command, channel) => {
        const bytes = Buffer.from('žlutý kůň\r\nsecret line\nlast');
        let at = 0;
        const timer = setInterval(() => {
          if (at < bytes.length) channel.write(bytes.subarray(at, ++at));
          else {
            clearInterval(timer);
            channel.exit(0);
            channel.end();
          }
        }, 1);
      },
    });
    const session = await connect(server.host(), {}, (text) => text.replaceAll('secret', '***'));
    const lines: string[] = [];
    const { stdout } = await session.run(echo(), { onLine: (line, stream) => lines.push(`${stream}: ${line}`) });
    expect(stdout).toBe('žlutý kůň\r\nsecret line\nlast');
    expect(lines).toEqual(['stdout: žlutý kůň', 'stdout: *** line', 'stdout: last']);
  });

  test('a line without end is shown cut, and no half of a secret with it', async () => {
    const secret = 'sesame-open-sesame';
    const server = await serve();
    const session = await connect(server.host(), {}, (text) => text.replaceAll(secret, '***'));
    for (const before of [65_536 - 5, 65_536 - secret.length, 61_440 - 5]) {
      const lines: string[] = [];
      const text = `${'x'.repeat(before)}${secret}${'y'.repeat(9000)}`;
      await session.run({ words: ['cat'], stdin: `${text}\nnext\n` }, { onLine: (line) => lines.push(line) });
      expect(lines).toHaveLength(2);
      expect(lines[0]).toMatch(/ \.\.\. \(a longer line, cut\)$/);
      expect(lines[0]).not.toContain('ses');
      expect(lines[1]).toBe('next');
    }
  });

  test('secret output is neither logged nor quoted', async () => {
    const session = await connect((await serve()).host());
    const lines: string[] = [];
    const command = { ...sh('echo hidden; echo why >&2; exit 3'), secretOutput: true };
    const error = await failure(session.run(command, { onLine: (line) => lines.push(line) }));
    expect(lines).toEqual(['why']);
    expect(error.message).not.toContain('hidden');
    expect(error.message).toContain('why');
  });

  test('an exit code that is not accepted', async () => {
    const session = await connect((await serve()).host(), {}, (text) => text.replaceAll('hunter22', '***'));
    const command = {
      ...sh('cat >&2; for i in 1 2 3 4 5 6; do echo "line $i hunter22" >&2; done; exit 4'),
      stdin: 'first\n',
    };
    const error = await failure(session.run(command, { purpose: 'read the release store' }));
    expect(error).toBeInstanceOf(CommandError);
    expect(error).toMatchObject({ exitCode: 4, stderr: expect.stringContaining('line 1 ***') as unknown });
    expect(error.message).toContain('Could not read the release store on deploy@127.0.0.1');
    expect(error.message).toContain('it ended with exit code 4.');
    expect(error.message).toContain('  line 6 ***');
    expect(error.message).not.toContain('line 1');
    expect(error.message).not.toContain('hunter22');
    expect((await session.run(command, { accept: [0, 4] })).exitCode).toBe(4);
    expect((await session.run(command, { accept: 'any' })).exitCode).toBe(4);
  });

  test('a program that is not there', async () => {
    const session = await connect((await serve()).host());
    const error = await failure(session.run({ words: ['no-such-program'] }));
    expect(error.hint).toContain('no-such-program is not installed');
  });

  test('a signal is a failure, whatever is accepted', async () => {
    const session = await connect((await serve()).host());
    const error = await failure(session.run(sh('kill -9 $$'), { accept: 'any' }));
    expect(error).toBeInstanceOf(CommandError);
    expect(error.message).toContain('killed by signal SIGKILL');
    expect(error).toMatchObject({ exitCode: 137 });
    expect(error.hint).toContain('out of memory');
  });

  test('a channel closed without an exit code is a failure', async () => {
    const server = await serve({
      onExec: (_command, channel) => {
        channel.write('all fine');
        channel.end();
        channel.close();
      },
    });
    const session = await connect(server.host());
    const error = await refusal(session.run(echo(), { accept: 'any' }));
    expect(error.reason).toBe('lost');
    expect(error.message).toContain('without an exit code');
  });

  test('too long: told to stop, and the session goes on', async () => {
    const server = await serve();
    const session = await connect(server.host());
    // With input that is not read, because ssh2's server (not sshd) ignores signals after the end of input.
    const command = { words: ['sleep', '30'], stdin: Buffer.alloc(8_000_000) } as const;
    const error = await failure(session.run(command, { timeoutSeconds: 0.3, purpose: 'nap' }));
    expect(error).toBeInstanceOf(TimeoutError);
    expect(error.message).toContain('Could not nap');
    expect(error.message).toContain('within 0.3 s');
    await waitFor(() => server.signals.includes('TERM'));
    expect((await session.run(echo('still'))).stdout).toBe('still\n');
  });

  test('a left-behind child that holds the output open is named', async () => {
    const session = await connect(
      (
        await serve({
          onExec: (_command, channel) => {
            channel.exit(0);
          },
        })
      ).host(),
    );
    const error = await failure(session.run(echo(), { timeoutSeconds: 0.3 }));
    expect(error).toBeInstanceOf(TimeoutError);
    expect(error.hint).toContain('in the background');
  });

  test('cancelled: at once, told to stop', async () => {
    const server = await serve();
    const session = await connect(server.host());
    const cancel = new AbortController();
    const command = { words: ['sleep', '30'], stdin: Buffer.alloc(8_000_000) } as const;
    const running = failure(session.run(command, { signal: cancel.signal }));
    await waitFor(() => server.commands.length === 1);
    const started = performance.now();
    cancel.abort();
    expect(await running).toBeInstanceOf(CancelledError);
    expect(performance.now() - started).toBeLessThan(500);
    await waitFor(() => server.signals.includes('TERM'));
    expect(await failure(session.run(echo(), { signal: cancel.signal }))).toBeInstanceOf(CancelledError);
    expect(server.commands).toHaveLength(1);
  });

  test('more output than anything has is stopped', async () => {
    const session = await connect((await serve()).host());
    const error = await failure(session.run({ words: ['cat', '/dev/zero'] }));
    expect(error).toBeInstanceOf(CommandError);
    expect(error.message).toContain('more than 64 MiB');
    expect((await session.run(echo('still'))).stdout).toBe('still\n');
  });

  test('many at once wait in line for one of eight channels', async () => {
    const server = await serve();
    const session = await connect(server.host());
    const runs = Array.from({ length: 30 }, (_, index) => session.run(sh('sleep 0.02; echo "$1"', String(index))));
    const outputs = (await Promise.all(runs)).map(({ stdout }) => stdout.trim());
    expect(outputs).toEqual(Array.from({ length: 30 }, (_, index) => String(index)));
    expect(server.peakSessions).toBeLessThanOrEqual(8);
    expect(server.peakSessions).toBeGreaterThan(1);
  });

  test('a server with a smaller MaxSessions is met with fewer', async () => {
    const server = await serve({ maxSessions: 2 });
    const session = await connect(server.host());
    const runs = Array.from({ length: 12 }, (_, index) => session.run(sh('sleep 0.02; echo "$1"', String(index))));
    expect((await Promise.all(runs)).map(({ stdout }) => Number(stdout))).toEqual(
      Array.from({ length: 12 }, (_, i) => i),
    );
  });

  test('no place left beside a program that goes on: refused, not waited for', async () => {
    const server = await serve({ maxSessions: 1 });
    const session = await connect(server.host());
    const guardian = await session.start({ words: ['cat'] });
    const error = await refusal(session.run(echo()));
    expect(error.reason).toBe('refused');
    expect(error.hint).toContain('MaxSessions');
    guardian.stdin.end();
    guardian.stdout.resume();
    guardian.stderr.resume();
    expect(await guardian.exit).toBe(0);
    expect((await session.run(echo('in'))).stdout).toBe('in\n');
  });

  test('cancelled while waiting in line', async () => {
    const server = await serve();
    const session = await connect(server.host());
    const cancel = new AbortController();
    const busy = Array.from({ length: 8 }, () =>
      failure(session.run({ words: ['sleep', '30'] }, { signal: cancel.signal })),
    );
    await waitFor(() => server.commands.length === 8);
    const error = await failure(session.run(echo('9'), { timeoutSeconds: 0.2 }));
    expect(error).toBeInstanceOf(TimeoutError);
    cancel.abort();
    await Promise.all(busy);
    expect((await session.run(echo('free'))).stdout).toBe('free\n');
  });
});

describe('a lost connection', () => {
  const ways = ['reset', 'hangUp'] as const;

  test.each(ways)('%s: everything under way fails, and all that comes after', async (way) => {
    const server = await serve();
    const session = await connect(server.host());
    const started = await session.start({ words: ['cat'] });
    const running = [refusal(session.run({ words: ['sleep', '30'] })), refusal(session.run({ words: ['cat'] }))];
    await waitFor(() => server.commands.length === 3);
    server[way]();
    for (const error of [...(await Promise.all(running)), await refusal(started.exit)]) {
      expect(error.reason).toBe('lost');
      expect(error.message).toContain(`The connection to deploy@127.0.0.1:${server.port} was lost`);
    }
    expect((await refusal(session.run(echo()))).reason).toBe('lost');
    expect((await refusal(session.start(echo()))).reason).toBe('lost');
    expect((await refusal(session.dial('127.0.0.1', 1))).reason).toBe('lost');
  });

  test('while output floods', async () => {
    const server = await serve({ dropAfterBytes: 3_000_000 });
    const session = await connect(server.host());
    expect((await refusal(session.run(sh('head -c 30000000 /dev/zero'), { accept: 'any' }))).reason).toBe('lost');
  });

  test('a silent network is noticed by the keepalive', async () => {
    const server = await serve();
    const session = await connect(server.host(), { keepaliveSeconds: 0.1 });
    // Quiet, but alive.
    expect((await session.run({ words: ['sleep', '1'] })).exitCode).toBe(0);
    const running = refusal(session.run({ words: ['sleep', '30'] }));
    await waitFor(() => server.commands.length === 2);
    const frozen = performance.now();
    server.freeze();
    const error = await running;
    expect(error.reason).toBe('lost');
    expect(error.message).toContain('nothing was heard');
    expect(performance.now() - frozen).toBeLessThan(1500);
  });

  test('close() ends what is under way', async () => {
    const server = await serve();
    const session = await connect(server.host());
    const running = refusal(session.run({ words: ['sleep', '30'] }));
    await waitFor(() => server.commands.length === 1);
    await session.close();
    expect((await running).message).toContain('was closed');
    await session.close();
  });

  test('close() does not wait for a frozen server', async () => {
    const server = await serve();
    const session = await connect(server.host());
    server.freeze();
    const started = performance.now();
    await session.close();
    expect(performance.now() - started).toBeLessThan(3500);
  });
});

describe('start', () => {
  test('talks both ways until told to end', async () => {
    const session = await connect((await serve()).host());
    const process = await session.start({
      ...sh('read first; echo "got $first"; cat; echo bye >&2; exit 7'),
      stdin: 'one\n',
    });
    let [out, err] = ['', ''];
    process.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()));
    process.stderr.on('data', (chunk: Buffer) => (err += chunk.toString()));
    await waitFor(() => out === 'got one\n');
    process.stdin.write('two\n');
    await waitFor(() => out === 'got one\ntwo\n');
    process.stdin.end();
    expect(await process.exit).toBe(7);
    expect(err).toBe('bye\n');
  });

  test('ends also where nobody reads its output', async () => {
    const session = await connect((await serve()).host());
    const process = await session.start(sh('echo unread; exit 2'));
    expect(await process.exit).toBe(2);
  });

  test('a signal is a loss', async () => {
    const session = await connect((await serve()).host());
    const process = await session.start(sh('kill -9 $$'));
    process.stdout.resume();
    process.stderr.resume();
    const error = await refusal(process.exit);
    expect(error.reason).toBe('lost');
    expect(error.message).toContain('SIGKILL');
  });

  test('close() gives the end of input', async () => {
    const session = await connect((await serve()).host());
    const process = await session.start({ words: ['cat'] });
    process.close();
    await expect(process.exit).rejects.toThrow(ConnectError);
    expect((await session.run(echo('still'))).stdout).toBe('still\n');
  });

  test('an exec that is never answered', async () => {
    const server = await serve({ hangAt: 'exec' });
    const session = await connect(server.host());
    expect(await failure(session.run(echo(), { timeoutSeconds: 0.2 }))).toBeInstanceOf(TimeoutError);
  });
});

describe('dial', () => {
  test('a connection made from the server', async () => {
    const server = await serve();
    const session = await connect(server.host());
    const target = await startPlainServer((socket) => socket.pipe(socket));
    open.push(target);
    const stream = await session.dial('127.0.0.1', target.port);
    const bytes = Buffer.alloc(1_000_000, 'z');
    stream.end(bytes);
    let length = 0;
    for await (const chunk of stream as AsyncIterable<Buffer>) length += chunk.length;
    expect(length).toBe(bytes.length);
  });

  test('not allowed, and nothing there', async () => {
    const strict = await connect((await serve({ refuseForwarding: true })).host());
    const error = await refusal(strict.dial('127.0.0.1', 80));
    expect(error.reason).toBe('refused');
    expect(error.hint).toContain('AllowTcpForwarding');
    const session = await connect((await serve()).host());
    const nothing = await refusal(session.dial('127.0.0.1', 1));
    expect(nothing.message).toContain('127.0.0.1:1 cannot be reached');
  });

  test('a lost connection is an error of the stream, not its end', async () => {
    const server = await serve();
    const session = await connect(server.host());
    const target = await startPlainServer((socket) => socket.write('half an answer'));
    open.push(target);
    const stream = await session.dial('127.0.0.1', target.port);
    const read = (async () => {
      for await (const chunk of stream as AsyncIterable<Buffer>) if (chunk.length > 0) server.reset();
    })();
    await expect(read).rejects.toThrow(ConnectError);
  });

  test('destroying the stream closes the connection', async () => {
    const session = await connect((await serve()).host());
    let isClosed = false;
    const target = await startPlainServer((socket) => socket.on('close', () => (isClosed = true)));
    open.push(target);
    const stream = await session.dial('127.0.0.1', target.port);
    stream.destroy();
    await waitFor(() => isClosed);
    expect(stream.destroyed).toBe(true);
  });
});
