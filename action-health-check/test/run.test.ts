import { createPalette } from '#shared/model/palette';
import { CancelledError, ConnectError, InputError, ProbeError, RequestError } from '#shared/errors';
import type { Connect, Http, HttpResponse, Ports, Session } from '#shared/ports';
import { run } from '../src/run';
import { FakeClock } from '../../shared/test/fakes/clock';

const answer: HttpResponse = {
  status: 200,
  headers: {},
  body: 'ok',
  truncated: false,
  latencyMs: 5,
  certificate: undefined,
};

interface Scene {
  readonly ports: Ports;
  readonly outputs: Map<string, string>;
  readonly log: string[];
  readonly summaries: string[];
  readonly errors: string[];
  readonly hidden: string[];
  readonly closed: number[];
}

/** An action's surroundings: `outside` and `onServer` answer, or refuse. */
function stage(
  inputs: Record<string, string>,
  { outside = true, onServer = true, connect }: { outside?: boolean; onServer?: boolean; connect?: Connect } = {},
): Scene {
  const outputs = new Map<string, string>();
  const [log, summaries, errors, hidden]: [string[], string[], string[], string[]] = [[], [], [], []];
  const closed: number[] = [];
  const texts: Record<string, string> = {
    attempts: '3',
    interval: '2s',
    timeout: '10s',
    backoff: '1',
    successes: '1',
    user: 'deploy',
    port: '22',
    ...inputs,
  };
  const session: Session = {
    where: 'deploy@server',
    run: () => Promise.resolve({ exitCode: 0, stdout: '[]', stderr: '' }),
    start: () => Promise.reject(new Error('not asked for')),
    dial: () => Promise.reject(new Error('not asked for')),
    close: () => {
      closed.push(1);
      return Promise.resolve();
    },
  };
  const ask = ({ dial }: { dial?: unknown }): Promise<HttpResponse> =>
    (dial === undefined ? outside : onServer)
      ? Promise.resolve(answer)
      : Promise.reject(new RequestError('refused', 'refused the connection', ''));
  const http: Http = { request: ask, reach: ask };
  const ports: Ports = {
    runner: {
      context: { workspace: '', repository: '', commit: '', ref: '', actor: '', runUrl: '', event: '' },
      input: (name) => texts[name] ?? '',
      rawInput: (name) => texts[name] ?? '',
      setOutput: (name, value) => outputs.set(name, value),
      saveState: () => undefined,
      state: () => '',
    },
    github: () => {
      throw new Error('no GitHub here');
    },
    reporter: {
      palette: createPalette(false),
      hide: (value) => hidden.push(value),
      redact: (text) => hidden.reduce((shown, value) => shown.replaceAll(value, '***'), text),
      line: (text) => log.push(text),
      remote: (text) => log.push(text),
      group: (_, body) => body(),
      notice: () => undefined,
      warning: () => undefined,
      error: (title, text) => errors.push(`${title}: ${text}`),
      summary: (markdown) => {
        summaries.push(markdown);
        return Promise.resolve();
      },
    },
    clock: new FakeClock(),
    http,
    connect: connect ?? (() => Promise.resolve(session)),
    workspace: {
      read: () => Promise.reject(new Error('not asked for')),
      exists: () => Promise.reject(new Error('not asked for')),
      collect: () => Promise.reject(new Error('not asked for')),
    },
    signal: new AbortController().signal,
  };
  return { ports, outputs, log, summaries, errors, hidden, closed };
}

const login = { host: 'server', 'ssh-key': 'the private key', 'host-fingerprint': `SHA256:${'A'.repeat(43)}` };

test('all well', async () => {
  const scene = stage({ checks: 'https://a.test/\ntcp://b.test:1' });
  await run(scene.ports);
  expect(scene.outputs.get('healthy')).toBe('true');
  expect(scene.outputs.get('failed')).toBe('');
  expect(JSON.parse(scene.outputs.get('results') ?? '')).toMatchObject({ healthy: true });
  expect(scene.log).toContain('✓ https://a.test/ from the runner: status 200 in 5 ms, ok');
  expect(scene.summaries).toHaveLength(1);
  expect(scene.errors).toEqual([]);
});

test('a failed check fails the step, after everything has been told', async () => {
  const scene = stage({ checks: 'https://a.test/ via:both\ncommand: true', ...login }, { outside: false });
  await expect(run(scene.ports)).rejects.toThrow(ProbeError);
  expect(scene.outputs.get('healthy')).toBe('false');
  expect(scene.outputs.get('failed')).toBe('https://a.test/');
  expect(scene.errors).toEqual([
    'Check failed: https://a.test/: answers on the server, not from outside: firewall, DNS or proxy; from the runner: refused the connection (3 attempts)',
  ]);
  expect(scene.summaries).toHaveLength(1);
  expect(scene.closed).toEqual([1]);
  expect(scene.hidden).toContain('the private key');
});

test('a server that cannot be reached fails its own checks, says why, and the others are made', async () => {
  const scene = stage(
    { checks: 'https://a.test/\ncommand: true', ...login },
    { connect: () => Promise.reject(new ConnectError('refused', 'server refused.', 'Is sshd up?')) },
  );
  await expect(run(scene.ports)).rejects.toMatchObject({
    message: '1 of 2 checks failed:\n- command: true: not made, no SSH connection: server refused.',
    hint: 'Is sshd up?\nThe job summary and the output `results` tell of every check.',
  });
  expect(scene.outputs.get('failed')).toBe('command: true');
});

test('inputs that cannot be used: nothing is done', async () => {
  const scene = stage({ checks: 'nonsense' }, { connect: () => Promise.reject(new Error('not asked for')) });
  await expect(run(scene.ports)).rejects.toThrow(InputError);
  expect(scene.outputs.size).toBe(0);
});

test('no server is connected to where none is needed', async () => {
  const scene = stage(
    { checks: 'https://a.test/', ...login },
    { connect: () => Promise.reject(new Error('not asked for')) },
  );
  await run(scene.ports);
  expect(scene.outputs.get('healthy')).toBe('true');
});

test('a cancelled workflow is no verdict', async () => {
  const scene = stage(
    { checks: 'command: true', ...login },
    { connect: () => Promise.reject(new CancelledError('The workflow was cancelled.', '')) },
  );
  await expect(run(scene.ports)).rejects.toThrow(CancelledError);
  expect(scene.outputs.size).toBe(0);
});

test('secrets of headers are hidden, also where a server repeats them', async () => {
  const scene = stage({ checks: 'https://a.test/ headers.authorization:"Bearer verysecret" contains:"verysecret"' });
  await expect(run(scene.ports)).rejects.toThrow(ProbeError);
  expect(scene.hidden).toEqual(['Bearer verysecret', 'verysecret']);
  expect(scene.outputs.get('results')).not.toContain('verysecret');
});
