import { once } from 'node:events';
import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { inspect } from 'node:util';
import { jest } from '@jest/globals';
import fc from 'fast-check';
import { answerJson, GithubApi, type Hook } from '../../../test/github-api/server';
import { systemClock } from '../../src/adapters/clock';
import { type GithubLimits, openGithub } from '../../src/adapters/github';
import { Secret } from '../../src/model/secret';
import type {
  DeploymentRequest,
  DeploymentStatus,
  GithubAnswer,
  GithubDeployments,
  GithubProblem,
} from '../../src/ports';

import {
  beginRecord,
  planEnd,
  type RecordIntent,
  type RecordPorts,
  type RecordResult,
  resumeRecord,
} from '../../src/reporters/deployment-record';

const TOKEN = 'ghs_q7R2mZ0wVb8KxY4nTc1LdPf6JhGs9EuAo3Bi';
const request: DeploymentRequest = {
  commit: 'a84d88e7554fc1fa21bcbc4efae3c782a70d2b9d',
  environment: 'production',
  task: 'deploy',
  description: 'Slipway deploys release 1 of shop',
  payload: { project: 'shop', release: '20261122T223100Z-a84d88e' },
};
const status: DeploymentStatus = {
  state: 'success',
  description: 'Release 1 serves.',
  logUrl: 'https://github.com/acme/shop/actions/runs/42',
  environmentUrl: 'https://shop.example.com/',
};
/** Time enough for all that answers, and not to wait for what does not. */
const QUICK: GithubLimits = { limitSeconds: 3, attemptSeconds: 1, pauseSeconds: 0.01 };

let api: GithubApi;
let github: GithubDeployments;
let environment: NodeJS.ProcessEnv;

beforeAll(() => {
  // The library reads them as it loads, and would send the tests' requests there.
  for (const name of ['http_proxy', 'https_proxy', 'HTTP_PROXY', 'HTTPS_PROXY'])
    Reflect.deleteProperty(process.env, name);
});

const start = async (prefix = ''): Promise<void> => {
  api = new GithubApi('acme/shop', TOKEN, prefix);
  environment = { GITHUB_API_URL: await api.listen(), GITHUB_REPOSITORY: 'acme/shop' };
  github = openGithub(new Secret(TOKEN), environment, QUICK);
};

beforeEach(() => start());
afterEach(() => api.close());

const valueOf = <T>(answer: GithubAnswer<T>): T => {
  if (!answer.ok) throw new Error(answer.problem.message);
  return answer.value;
};
const problemOf = <T>(answer: GithubAnswer<T>): GithubProblem => {
  if (answer.ok) throw new Error('it worked');
  return answer.problem;
};
const answers =
  (code: number, body: unknown = { message: 'Sorry.' }, headers: Readonly<Record<string, string>> = {}): Hook =>
  (_request, response) => {
    answerJson(response, code, body, headers);
    return true;
  };
/** The first `times` requests are answered by the hook. */
const first =
  (times: number, hook: Hook): Hook =>
  (seen, response, index) =>
    index < times && hook(seen, response, index);
const drops: Hook = (_request, response) => {
  response.destroy();
  return true;
};

describe('a deploy', () => {
  afterEach(() => {
    expect(api.problems).toEqual([]);
  });

  test('is created, and gets its statuses, in requests as GitHub describes them', async () => {
    const id = valueOf(await github.create(request));
    valueOf(await github.setStatus(id, { ...status, state: 'in_progress', environmentUrl: '' }));
    valueOf(await github.setStatus(id, status));
    expect(api.deployments).toEqual([
      {
        id,
        asked: {
          ref: request.commit,
          environment: 'production',
          task: 'deploy',
          description: request.description,
          payload: request.payload,
          auto_merge: false,
          required_contexts: [],
        },
        statuses: [
          { state: 'in_progress', description: status.description, log_url: status.logUrl },
          {
            state: 'success',
            description: status.description,
            log_url: status.logUrl,
            environment_url: status.environmentUrl,
            auto_inactive: true,
          },
        ],
      },
    ]);
    expect(api.seen.map(({ method, url }) => `${method} ${url}`)).toEqual([
      'POST /repos/acme/shop/deployments',
      `POST /repos/acme/shop/deployments/${id}/statuses`,
      `POST /repos/acme/shop/deployments/${id}/statuses`,
    ]);
  });

  test.each(['failure', 'error', 'inactive'] as const)('may end in %s', async (state) => {
    const id = valueOf(await github.create(request));
    valueOf(await github.setStatus(id, { ...status, state, logUrl: '', environmentUrl: '' }));
    expect(api.deployments[0]?.statuses).toEqual([{ state, description: status.description }]);
  });

  test('is found again by another process, among others', async () => {
    valueOf(await github.create({ ...request, payload: { ...request.payload, release: 'before' } }));
    const id = valueOf(await github.create(request));
    valueOf(await github.create({ ...request, payload: { ...request.payload, project: 'blog' } }));
    valueOf(await github.create({ ...request, environment: 'staging' }));
    valueOf(await github.create({ ...request, commit: 'b'.repeat(40) }));
    expect(valueOf(await github.find(request))).toBe(id);
    expect(valueOf(await github.find({ ...request, payload: { release: 'another' } }))).toBeUndefined();
  });

  test('names and texts of every kind arrive as they are', async () => {
    const hostile = fc.string({ unit: 'binary', minLength: 1, maxLength: 100 });
    await fc.assert(
      fc.asyncProperty(hostile, hostile, hostile, async (name, description, project) => {
        const odd = { ...request, environment: name, description, payload: { project } };
        const id = valueOf(await github.create(odd));
        expect(api.deployments.at(-1)?.asked).toMatchObject({ environment: name, description, payload: { project } });
        expect(valueOf(await github.find(odd))).toBe(id);
        api.deployments.length = 0;
      }),
      { numRuns: 30 },
    );
  });

  test('on GitHub Enterprise Server, below its path', async () => {
    await api.close();
    await start('/api/v3');
    expect(valueOf(await github.create(request))).toBe(1001);
    const slashed = openGithub(new Secret(TOKEN), {
      ...environment,
      GITHUB_API_URL: `${environment['GITHUB_API_URL'] ?? ''}/`,
    });
    expect(valueOf(await slashed.find(request))).toBe(1001);
  });
});

describe('the record of a deploy', () => {
  const name = fc.string({ unit: 'binary', maxLength: 200 });

  test('is as GitHub wants it, whatever the names are and however it ends', async () => {
    const results: readonly RecordResult[] = ['deployed', 'reverted', 'refused', 'failed', 'unchanged'];
    await fc.assert(
      fc.asyncProperty(
        fc.record({ project: name, release: name, previous: name }),
        fc.constantFrom<RecordIntent['task'][]>('deploy', 'rollback'),
        fc.constantFrom(...results),
        fc.boolean(),
        async (names, task, result, resumed) => {
          const intent: RecordIntent = {
            ...names,
            task,
            commit: request.commit,
            environment: 'production',
            environmentUrl: status.environmentUrl,
            runUrl: status.logUrl,
          };
          const warnings: string[] = [];
          const ports: RecordPorts = {
            github,
            clock: systemClock,
            runner: { saveState: () => undefined },
            redact: (text) => text,
            warn: (message) => warnings.push(message),
          };
          api.deployments.length = 0;
          const begun = beginRecord(intent, ports);
          if (resumed) {
            // The main step was killed once GitHub had been told of its beginning.
            while (api.deployments[0]?.statuses.length !== 1) await systemClock.sleep(0.005);
            await resumeRecord({ ...intent, previous: 'as found on the server' }, ports).settle({ result });
          } else {
            await begun.settle({ result });
          }
          expect(warnings).toEqual([]);
          expect(api.deployments.map(({ statuses }) => statuses.map(({ state }) => state))).toEqual([
            ['in_progress', planEnd(intent, { result }, ports.redact).state],
          ]);
        },
      ),
      { numRuns: 60 },
    );
    expect(api.problems).toEqual([]);
  }, 30_000);

  test('does without GitHub: one warning, which names the permission', async () => {
    api.before = answers(403, { message: 'Resource not accessible by integration' });
    const warnings: string[] = [];
    const record = beginRecord(
      { ...request, project: 'shop', release: 'r2', previous: 'r1', environmentUrl: '', runUrl: '' },
      {
        github,
        clock: systemClock,
        runner: { saveState: () => undefined },
        redact: (text) => text,
        warn: (message) => warnings.push(message),
      },
    );
    await record.settle({ result: 'deployed' });
    expect(warnings).toEqual([expect.stringContaining('Add `deployments: write` under `permissions:`')]);
    expect(api.seen).toHaveLength(1);
  });
});

describe('GitHub is not well', () => {
  test.each([
    ['500', answers(500)],
    [
      '502 in HTML',
      (_request, response) => (response.writeHead(502, { 'content-type': 'text/html' }).end('<h1>'), true),
    ],
    ['503 with a time to wait', answers(503, {}, { 'retry-after': '0' })],
    ['a secondary rate limit', answers(403, { message: 'secondary rate limit' }, { 'retry-after': '1' })],
    ['429', answers(429)],
    ['a connection that is cut', drops],
    [
      'an answer that is cut',
      (_request, response) => {
        response.writeHead(201, { 'content-type': 'application/json', 'content-length': '100' });
        response.write('{"id": 1', () => response.destroy());
        return true;
      },
    ],
    ['an answer without an id', answers(201, { message: 'fine' })],
    ['an answer of another kind', answers(200, 'ok')],
    ['an id that is none', answers(201, { id: '../../../user' })],
  ] satisfies [string, Hook][])('%s: tried again', async (_what, hook) => {
    api.before = first(2, hook);
    expect(valueOf(await github.create(request))).toBe(1001);
    expect(api.deployments).toHaveLength(1);
    expect(api.problems).toEqual([]);
  });

  test.each(['cut', 'late'])('a Deployment whose answer is %s is not made twice', async (how) => {
    api.after = first(1, async (_request, response) => {
      if (how === 'late') await new Promise((resolve) => setTimeout(resolve, 1300));
      response.destroy();
      return true;
    });
    expect(valueOf(await github.create(request))).toBe(1001);
    expect(api.deployments).toHaveLength(1);
    expect(api.seen.map(({ method }) => method)).toEqual(['POST', 'GET']);
  });

  test('for long: a problem that may pass, in time', async () => {
    for (const hook of [
      answers(500),
      drops,
      answers(429, {}, { 'retry-after': '3600' }),
      () => new Promise<boolean>(() => undefined),
    ]) {
      api.before = hook;
      const startedMs = performance.now();
      const problem = problemOf(await github.setStatus(7, status, 0.6));
      expect(performance.now() - startedMs).toBeLessThan(1100);
      expect(problem.transient).toBe(true);
      expect(problem.message).toMatch(/^(GitHub('s)?|127\.0\.0\.1:\d+) .*\.$/);
    }
  });

  test('an answer without end does not take longer', async () => {
    api.before = (_request, response) => {
      response.writeHead(201, { 'content-type': 'application/json' });
      const timer = setInterval(() => response.write(' '.repeat(1000)), 5);
      response.on('close', () => {
        clearInterval(timer);
      });
      return true;
    };
    const startedMs = performance.now();
    expect(problemOf(await github.create(request, 0.5)).message).toContain('did not answer in time');
    expect(performance.now() - startedMs).toBeLessThan(1000);
  });

  test('nobody listens, and there is no such name', async () => {
    const gone = createServer().listen(0, '127.0.0.1');
    await once(gone, 'listening');
    const { port } = gone.address() as AddressInfo;
    gone.close();
    await once(gone, 'close');
    const open = (url: string): GithubDeployments =>
      openGithub(new Secret(TOKEN), { ...environment, GITHUB_API_URL: url }, { ...QUICK, limitSeconds: 0.5 });
    expect(problemOf(await open(`http://127.0.0.1:${port}`).create(request))).toEqual({
      message: `127.0.0.1:${port} could not be asked to create a Deployment (ECONNREFUSED).`,
      hint: '',
      transient: true,
    });
    expect(problemOf(await open('https://github.invalid').create(request)).message).toMatch(
      /^github\.invalid (could not be asked to create a Deployment \(E[A-Z_]+\)|did not answer in time.*)\.$/,
    );
  });
});

describe('GitHub refuses: said once, with what to do, and not tried again', () => {
  const PERMISSION = expect.stringContaining('Add `deployments: write` under `permissions:`') as string;

  test.each<[number, unknown, string, unknown]>([
    [
      403,
      { message: 'Resource not accessible by integration', documentation_url: 'https://docs.github.com/rest' },
      'The token of github-token may not create a Deployment in acme/shop (403) (Resource not accessible by integration).',
      PERMISSION,
    ],
    [
      404,
      { message: 'Not Found' },
      'GitHub knows no repository acme/shop, or no such Deployment, for the token of github-token (404) (Not Found).',
      PERMISSION,
    ],
    [
      401,
      { message: 'Bad credentials' },
      'GitHub does not accept the token (401) (Bad credentials).',
      expect.stringContaining('${{ github.token }}'),
    ],
    [
      422,
      { message: 'Validation Failed', errors: [{ resource: 'Deployment', message: 'No ref found for: abc' }] },
      'GitHub refused to create a Deployment (422) (Validation Failed: No ref found for: abc).',
      expect.stringContaining('environment'),
    ],
    [409, null, 'GitHub refused to create a Deployment (409).', expect.stringContaining('environment')],
    [410, '', 'GitHub answered 410 when asked to create a Deployment.', ''],
  ])('%i', async (code, body, message, hint) => {
    api.before = answers(code, body);
    expect(problemOf(await github.create(request))).toEqual({ message, hint, transient: false });
    expect(api.seen).toHaveLength(1);
  });

  test('what the stand-in itself refuses: another token, another repository', async () => {
    const other = openGithub(new Secret('ghs_another'), environment, QUICK);
    expect(problemOf(await other.create(request)).message).toContain('(401)');
    const elsewhere = openGithub(new Secret(TOKEN), { ...environment, GITHUB_REPOSITORY: 'acme/other' }, QUICK);
    expect(problemOf(await elsewhere.create(request)).message).toContain('no repository acme/other');
    expect(api.deployments).toEqual([]);
  });

  test.each<[string, string, NodeJS.ProcessEnv]>([
    ['github-token holds no token', '', {}],
    ['github-token holds no token', `${TOKEN}\nX-Evil: 1`, {}],
    ['github-token holds no token', `${TOKEN}\u{1f511}`, {}],
    ['GITHUB_REPOSITORY', TOKEN, { GITHUB_REPOSITORY: '' }],
    ['GITHUB_REPOSITORY', TOKEN, { GITHUB_REPOSITORY: 'acme/shop/../../user' }],
    ['GITHUB_API_URL', TOKEN, { GITHUB_API_URL: 'file:///etc/passwd' }],
    ['GITHUB_API_URL', TOKEN, { GITHUB_API_URL: 'nonsense' }],
  ])('%s (%#): nothing is sent', async (message, token, other) => {
    const odd = openGithub(new Secret(token), { ...environment, ...other }, QUICK);
    const problem = problemOf(await odd.create(request));
    expect(problem).toMatchObject({ message: expect.stringContaining(message) as string, transient: false });
    expect(JSON.stringify(problem)).not.toContain(TOKEN);
    expect(api.seen).toEqual([]);
  });
});

describe('the token', () => {
  /** Ways in which an answer could give a token back. */
  const echoes: readonly ((token: string) => string)[] = [
    (token) => token,
    (token) => `Bad token ${token}!`,
    (token) => token.toUpperCase(),
    (token) => token.split('').join(' '),
    (token) => token.split('').join('\u200b'),
    (token) => token.replace(/(.{9})/g, '$1\n'),
    (token) => token.replace(/(.{12})/g, '$1 and '),
    (token) => token.slice(0, 19),
    (token) => token.slice(-12),
    (token) => Buffer.from(`x-access-token:${token}`).toString('base64'),
    (token) => Buffer.from(token).toString('hex'),
    (token) => encodeURIComponent(`token ${token}`),
    (token) => JSON.stringify({ authorization: `token ${token}` }),
    (token) => `${'x'.repeat(190)} ${token}`,
    (token) => `::error::${token}\n::set-env name=A::${token}`,
  ];
  const tokens = fc.oneof(
    fc.stringMatching(/^gh[spou]_[A-Za-z0-9]{36}$/),
    fc.stringMatching(/^github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}$/),
    fc.stringMatching(/^[0-9a-f]{40}$/),
  );
  /** No 12 characters of it, in whatever case and with whatever between them, nor of its encodings. */
  const expectHidden = (text: string, token: string): void => {
    const squeeze = (one: string): string => one.replaceAll(/[^A-Za-z0-9]/g, '').toLowerCase();
    const forms = [
      token,
      ...[0, 1, 2].map((n) =>
        Buffer.from('x'.repeat(n) + token)
          .toString('base64')
          .slice(4, -4),
      ),
    ];
    for (const form of [...forms, Buffer.from(token).toString('hex')].map(squeeze)) {
      for (let at = 0; at + 12 <= form.length; at++) expect(squeeze(text)).not.toContain(form.slice(at, at + 12));
    }
  };

  test('is in no answer and no output, whatever GitHub sends back', async () => {
    const written: string[] = [];
    // A test's console is none of the process's streams.
    const spies = [
      ...(['stdout', 'stderr'] as const).map((stream) => jest.spyOn(process[stream], 'write')),
      ...(['debug', 'info', 'log', 'warn', 'error'] as const).map((level) => jest.spyOn(console, level)),
    ].map((spy) =>
      spy.mockImplementation((...texts: unknown[]) => {
        written.push(texts.join(' '));
        return true;
      }),
    );
    let checked = 0;
    try {
      await fc.assert(
        fc.asyncProperty(
          tokens,
          fc.constantFrom(...echoes),
          fc.constantFrom(200, 201, 204, 301, 304, 400, 401, 403, 404, 409, 418, 422, 429, 500, 503),
          fc.constantFrom('message', 'errors', 'text', 'json', 'id', 'headers'),
          fc.constantFrom('create', 'find', 'setStatus'),
          async (token, echo, code, where, what) => {
            const echoed = echo(token);
            api.before = (_request, response) => {
              answerWith(response, code, where, echoed, token);
              return true;
            };
            const hostile = openGithub(new Secret(token), environment, { ...QUICK, limitSeconds: 0.02 });
            const answer = what === 'setStatus' ? await hostile.setStatus(7, status) : await hostile[what](request);
            checked += answer.ok ? 0 : 1;
            expectHidden(JSON.stringify(answer), token);
            expectHidden(inspect(hostile), token);
          },
        ),
        { numRuns: 300 },
      );
    } finally {
      for (const spy of spies) spy.mockRestore();
    }
    // The library has warnings of its own, for headers; none may come through.
    expect(written).toEqual([]);
    expect(checked).toBeGreaterThan(100);
  }, 60_000);

  function answerWith(response: ServerResponse, code: number, where: string, echoed: string, token: string): void {
    const documents: Readonly<Record<string, unknown>> = {
      message: { message: echoed, documentation_url: `https://docs.github.com/${echoed}` },
      errors: { message: 'Validation Failed', errors: [{ message: echoed, field: echoed, code: token }] },
      json: [echoed, { [echoed]: token }],
      id: { id: echoed, message: `No Deployment ${echoed}` },
    };
    const body = documents[where];
    const line = echoed.replaceAll(/[^\x20-\x7e]/g, ' ');
    const headers = {
      'x-echo': token,
      ...(where === 'headers'
        ? { deprecation: line, sunset: line, link: `<${line}>; rel="deprecation"`, location: '/elsewhere' }
        : {}),
    };
    if (body === undefined) {
      response.writeHead(code, line, { 'content-type': 'text/plain', ...headers });
      response.end(code === 204 || code === 304 ? undefined : echoed);
    } else {
      response.writeHead(code, { 'content-type': 'application/json', ...headers });
      response.end(code === 204 || code === 304 ? undefined : JSON.stringify(body));
    }
  }

  test('does not follow a redirect to somewhere else', async () => {
    const authorizations: (string | undefined)[] = [];
    const other: Server = createServer((incoming, response) => {
      authorizations.push(incoming.headers.authorization);
      answerJson(response, 201, { id: 666 });
    }).listen(0, '127.0.0.1');
    await once(other, 'listening');
    try {
      api.before = (_request, response) => {
        response.writeHead(307, { location: `http://127.0.0.1:${(other.address() as AddressInfo).port}/` }).end();
        return true;
      };
      await github.create(request, 0.5);
      expect(authorizations).not.toContainEqual(expect.stringContaining(TOKEN));
      expect(authorizations).toHaveLength(1);
    } finally {
      other.closeAllConnections();
      other.close();
    }
  });
});

test('by default, a call ends within 10 seconds', async () => {
  api.before = () => new Promise<boolean>(() => undefined);
  const startedMs = performance.now();
  expect((await openGithub(new Secret(TOKEN), environment).create(request)).ok).toBe(false);
  expect(performance.now() - startedMs).toBeLessThan(10_500);
  expect(api.seen.length).toBeGreaterThan(1);
}, 20_000);
