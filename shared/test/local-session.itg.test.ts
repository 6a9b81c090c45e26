import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { openLocal } from '../src/adapters/local-session';
import { CancelledError, CommandError, ConnectError, TimeoutError } from '../src/errors';
import { Secret } from '../src/model/secret';
import type { Session } from '../src/ports';
import { startPlainServer } from './ssh-server';

const sh = (text: string, ...parameters: string[]) => ({ words: ['sh', '-c', text, 'sh', ...parameters] as const });
const environment = {
  PATH: process.env['PATH'],
  HOME: tmpdir(),
  LANG: 'C',
  DOCKER_HOST: 'unix:///x.sock',
  RUNNER_TRACKING_ID: 'github_1',
  INPUT_SSH_KEY: 'key',
  'INPUT_HOST-NAME': 'x',
  GITHUB_TOKEN: 't',
  GITHUB_OUTPUT: '/out',
  ACTIONS_RUNTIME_TOKEN: 't',
  STATE_x: 's',
  MY_SECRET: 's',
};

let folder = '';
const sessions: Session[] = [];

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'slipway-'));
});

afterAll(async () => {
  await rm(folder, { recursive: true });
});

afterEach(async () => {
  for (const session of sessions.splice(0)) await session.close();
});

async function open(redact = (text: string) => text): Promise<Session> {
  const session = await openLocal({}, redact, environment);
  sessions.push(session);
  return session;
}

async function failure(work: Promise<unknown>): Promise<unknown> {
  try {
    await work;
  } catch (error) {
    return error;
  }
  throw new Error('it did not fail');
}

async function waitFor(condition: () => boolean): Promise<void> {
  for (let turn = 0; turn < 300 && !condition(); turn++) await new Promise((resolve) => setTimeout(resolve, 10));
  expect(condition()).toBe(true);
}

function isAlive(pid: number): boolean {
  try {
    // A process that has ended but was not yet waited for is still there by name.
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

describe('run', () => {
  test('words, input and output', async () => {
    const session = await open();
    expect(session.where).toBe('this machine');
    const words = ["it's", '$HOME', 'two\nlines', '', 'ž'];
    expect((await session.run(sh('printf "%s|" "$@"', ...words))).stdout).toBe(
      words.map((word) => `${word}|`).join(''),
    );
    expect((await session.run({ words: ['cat'], stdin: new Secret('quiet') })).stdout).toBe('quiet');
    expect((await session.run({ words: ['true'], stdin: Buffer.alloc(3_000_000) })).exitCode).toBe(0);
    expect((await session.run(sh('head -c 8000000 /dev/zero | tr "\\0" x'))).stdout.length).toBe(8_000_000);
  });

  test("the runner's variables stay with us", async () => {
    const session = await open();
    const { stdout } = await session.run({ words: ['env'] });
    const names = stdout.split('\n').map((line) => line.split('=')[0]);
    for (const name of ['PATH', 'HOME', 'LANG', 'DOCKER_HOST', 'RUNNER_TRACKING_ID']) expect(names).toContain(name);
    expect(stdout).not.toMatch(/^(INPUT_|GITHUB_|ACTIONS_|STATE_|MY_)/m);
    const process = await session.start({ words: ['env'] });
    let started = '';
    process.stdout.on('data', (chunk: Buffer) => (started += chunk.toString()));
    expect(await process.exit).toBe(0);
    await waitFor(() => started.includes('PATH='));
    // By it the runner would find and end what must outlive the step.
    expect(started).not.toContain('RUNNER_TRACKING_ID');
  });

  test('in the home folder, as after a login', async () => {
    expect((await (await open()).run({ words: ['pwd'] })).stdout.trim()).toBe(tmpdir());
  });

  test('lines are redacted, a failure is told', async () => {
    const session = await open((text) => text.replaceAll('hunter22', '***'));
    const lines: string[] = [];
    const error = await failure(
      session.run(sh('echo hunter22; echo "no hunter22" >&2; exit 3'), {
        onLine: (line) => lines.push(line),
        purpose: 'try',
      }),
    );
    expect(error).toBeInstanceOf(CommandError);
    expect(error).toMatchObject({ exitCode: 3 });
    expect(String(error)).toContain('Could not try on this machine: it ended with exit code 3.\n  no ***');
    expect(lines.sort()).toEqual(['***', 'no ***']);
    expect((await session.run(sh('exit 3'), { accept: [3] })).exitCode).toBe(3);
  });

  test('not found, killed', async () => {
    const session = await open();
    const missing = await failure(session.run({ words: ['no-such-program'] }));
    expect(missing).toMatchObject({ exitCode: 127, hint: expect.stringContaining('not installed') as unknown });
    const killed = await failure(session.run(sh('kill -9 $$'), { accept: 'any' }));
    expect(killed).toMatchObject({ exitCode: 137 });
    expect(String(killed)).toContain('SIGKILL');
  });

  test('too long, cancelled: ended with its children', async () => {
    const session = await open();
    for (const how of ['timeout', 'cancel'] as const) {
      const cancel = new AbortController();
      let pid = 0;
      const work = session.run(sh('sleep 60 & echo $!; wait'), {
        timeoutSeconds: how === 'timeout' ? 0.5 : 60,
        signal: cancel.signal,
        onLine: (line) => {
          pid = Number(line);
          if (how === 'cancel') cancel.abort();
        },
      });
      expect(await failure(work)).toBeInstanceOf(how === 'timeout' ? TimeoutError : CancelledError);
      expect(pid).toBeGreaterThan(1);
      await waitFor(() => !isAlive(pid));
    }
  });

  test('more output than anything has', async () => {
    const error = await failure((await open()).run({ words: ['cat', '/dev/zero'] }));
    expect(String(error)).toContain('more than 64 MiB');
  });

  test('a closed session, a cancelled workflow', async () => {
    const session = await open();
    const running = failure(session.run({ words: ['sleep', '60'] }));
    await session.close();
    expect(await running).toMatchObject({ reason: 'lost' });
    expect(await failure(session.run({ words: ['true'] }))).toBeInstanceOf(ConnectError);
    expect(await failure(openLocal({ signal: AbortSignal.abort() }, String))).toBeInstanceOf(CancelledError);
  });
});

describe('start', () => {
  test('talks both ways', async () => {
    const process = await (await open()).start({ ...sh('read a; echo "got $a"; cat; exit 7'), stdin: 'one\n' });
    let out = '';
    process.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()));
    await waitFor(() => out === 'got one\n');
    process.stdin.end('two\n');
    expect(await process.exit).toBe(7);
    await waitFor(() => out === 'got one\ntwo\n');
  });

  test('outlives the session, and sees the end of its input', async () => {
    const session = await open();
    const file = join(folder, 'outlived');
    await session.start(sh('cat >/dev/null; sleep 0.2; echo yes > "$1"', file));
    await session.close();
    await waitFor(() => {
      try {
        return readFileSync(file, 'utf8') === 'yes\n';
      } catch {
        return false;
      }
    });
  });

  test('a signal, a missing program', async () => {
    const session = await open();
    const killed = await session.start(sh('kill -9 $$'));
    expect(await failure(killed.exit)).toMatchObject({ reason: 'lost' });
    const missing = await session.start({ words: ['no-such-program'] });
    expect(await failure(missing.exit)).toMatchObject({ exitCode: 127 });
  });
});

describe('dial', () => {
  test('there, and not', async () => {
    const session = await open();
    const server = await startPlainServer((socket) => socket.end('hello'));
    const stream = await session.dial('127.0.0.1', server.port);
    let text = '';
    for await (const chunk of stream as AsyncIterable<Buffer>) text += chunk.toString();
    expect(text).toBe('hello');
    await server.close();
    expect(await failure(session.dial('127.0.0.1', server.port))).toMatchObject({ reason: 'refused' });
  });
});
