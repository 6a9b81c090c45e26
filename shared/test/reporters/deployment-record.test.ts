import fc from 'fast-check';
import { systemClock } from '../../src/adapters/clock';
import type {
  DeploymentRequest,
  DeploymentStatus,
  GithubAnswer,
  GithubDeployments,
  GithubProblem,
} from '../../src/ports';
import {
  beginRecord,
  MAX_DESCRIPTION_LENGTH,
  parseEnvironment,
  parseEnvironmentUrl,
  planDeployment,
  planEnd,
  planProgress,
  type RecordIntent,
  type RecordPorts,
  type RecordResult,
  resumeRecord,
} from '../../src/reporters/deployment-record';
import { Redactor } from '../../src/shell/redact';

const intent: RecordIntent = {
  task: 'deploy',
  commit: 'a84d88e7554fc1fa21bcbc4efae3c782a70d2b9d',
  environment: 'production',
  environmentUrl: 'https://shop.example.com/',
  project: 'shop',
  release: '20261122T223100Z-a84d88e',
  previous: '20261121T080000Z-0123abc',
  runUrl: 'https://github.com/acme/shop/actions/runs/42',
};
const plain = (text: string): string => text;

describe('what is sent', () => {
  test('a deploy', () => {
    expect(planDeployment(intent, plain)).toEqual({
      commit: intent.commit,
      environment: 'production',
      task: 'deploy',
      description: 'Slipway deploys release 20261122T223100Z-a84d88e of shop',
      payload: { project: 'shop', release: intent.release },
    });
  });

  test('a rollback', () => {
    expect(planDeployment({ ...intent, task: 'rollback' }, plain)).toMatchObject({
      task: 'rollback',
      description: 'Slipway brings back release 20261122T223100Z-a84d88e of shop',
    });
  });

  test('while it goes on: with the log, and without a way to what is not there yet', () => {
    expect(planProgress(intent, plain)).toEqual({
      state: 'in_progress',
      description: 'Release 20261122T223100Z-a84d88e is on its way.',
      logUrl: intent.runUrl,
      environmentUrl: '',
    });
  });

  test.each<[RecordResult, DeploymentStatus['state'], string]>([
    ['deployed', 'success', 'Release NEW serves; before it OLD.'],
    ['reverted', 'failure', 'Release NEW failed; OLD was put back and serves.'],
    ['refused', 'failure', 'Release NEW failed before anything was changed.'],
    ['failed', 'error', 'Release NEW failed; what serves is not known. See the log.'],
    ['unknown', 'error', 'Release NEW failed; what serves is not known. See the log.'],
    ['unchanged', 'inactive', 'Nothing was changed.'],
    ['planned', 'inactive', 'Nothing was changed.'],
  ])('%s is %s', (result, state, description) => {
    expect(planEnd({ ...intent, release: 'NEW', previous: 'OLD' }, { result }, plain)).toEqual({
      state,
      description,
      logUrl: intent.runUrl,
      environmentUrl: state === 'success' ? intent.environmentUrl : '',
    });
  });

  test.each<[RecordResult, string]>([
    ['deployed', 'Release NEW serves.'],
    ['reverted', 'Release NEW was cancelled, and was removed again; none served before.'],
    ['failed', 'Release NEW was cancelled; what serves is not known. See the log.'],
  ])('a first deploy, cancelled: %s', (result, description) => {
    const end = { result, cancelled: result !== 'deployed' };
    expect(planEnd({ ...intent, release: 'NEW', previous: '' }, end, plain).description).toBe(description);
  });

  test('no description is too long, has a line break, or half a character', () => {
    fc.assert(
      fc.property(
        fc.record({
          project: fc.string({ unit: 'binary', maxLength: 400 }),
          release: fc.string({ unit: 'binary', maxLength: 400 }),
          previous: fc.string({ unit: 'binary', maxLength: 400 }),
        }),
        fc.constantFrom<RecordResult[]>('deployed', 'reverted', 'refused', 'failed'),
        (hostile, result) => {
          const whole = { ...intent, ...hostile };
          for (const { description } of [
            planDeployment(whole, plain),
            planProgress(whole, plain),
            planEnd(whole, { result }, plain),
          ]) {
            expect(description.length).toBeLessThanOrEqual(MAX_DESCRIPTION_LENGTH);
            expect(description.isWellFormed()).toBe(true);
            expect(description).not.toMatch(/[\0-\x1f\x7f-\x9f]/);
          }
        },
      ),
    );
  });

  test('a secret that got into a name is not sent, nor is any piece of it at the cut', () => {
    const secret = 'hunter2-hunter2';
    const redactor = new Redactor();
    redactor.add(secret);
    const redact = (text: string): string => redactor.redact(text);
    fc.assert(
      fc.property(fc.nat(200), fc.constantFrom('project', 'release', 'previous'), (before, where) => {
        const whole = {
          ...intent,
          [where]: 'x'.repeat(before) + secret,
          runUrl: `https://github.com/${secret}`,
          environmentUrl: `https://example.com/?key=${secret}`,
        };
        const sent = JSON.stringify([
          planDeployment(whole, redact),
          planProgress(whole, redact),
          planEnd(whole, { result: 'deployed' }, redact),
        ]);
        expect(sent).not.toContain('hunt');
      }),
    );
  });
});

describe('inputs', () => {
  test.each(['production', 'Review app #12', 'staging/eu', 'ünï', 'x'.repeat(255)])('environment %s', (text) => {
    expect(parseEnvironment(text)).toEqual({ value: text });
  });

  test.each([
    ['', 'is empty'],
    ['x'.repeat(256), 'has 256 characters'],
    ['a\nb', 'is not the name'],
    ['a\u202eb', 'is not the name'],
    ['a\0', 'is not the name'],
  ])('environment %j is refused', (text, problem) => {
    expect(parseEnvironment(text)).toEqual({ problem: expect.stringContaining(problem) as string });
  });

  test.each([
    ['', ''],
    ['https://shop.example.com', 'https://shop.example.com/'],
    ['http://10.0.0.1:8080/a?b=c', 'http://10.0.0.1:8080/a?b=c'],
  ])('environment-url %j', (text, value) => {
    expect(parseEnvironmentUrl(text)).toEqual({ value });
  });

  test.each([
    'shop.example.com',
    'javascript:alert(1)',
    'https://u:hunter2@a.example',
    'https://u@a.example',
    'ftp://a',
  ])('environment-url %s is refused, and not shown', (text) => {
    const parsed = parseEnvironmentUrl(text);
    expect(parsed).toEqual({ problem: expect.any(String) as string });
    expect(JSON.stringify(parsed)).not.toContain(text);
  });
});

/** Writes down what it is asked; a call whose answer is a function waits for it. */
class FakeGithub implements GithubDeployments {
  readonly calls: string[] = [];
  create_: GithubAnswer<number> | Promise<GithubAnswer<number>> = { ok: true, value: 7 };
  found: GithubAnswer<number | undefined> = { ok: true, value: 7 };
  set: (status: DeploymentStatus) => GithubAnswer<undefined> | Promise<GithubAnswer<undefined>> = () => ({
    ok: true,
    value: undefined,
  });

  async create(request: DeploymentRequest): Promise<GithubAnswer<number>> {
    this.calls.push(`create ${request.payload['release'] ?? ''}`);
    return this.create_;
  }

  async find(request: DeploymentRequest): Promise<GithubAnswer<number | undefined>> {
    this.calls.push(`find ${request.payload['release'] ?? ''}`);
    return Promise.resolve(this.found);
  }

  async setStatus(deployment: number, status: DeploymentStatus): Promise<GithubAnswer<undefined>> {
    this.calls.push(`${deployment} ${status.state}`);
    return this.set(status);
  }
}

const problem = (transient: boolean): { ok: false; problem: GithubProblem } => ({
  ok: false,
  problem: { message: 'It did not work with hunter2-hunter2.', hint: 'Do this.', transient },
});

function createPorts(github: GithubDeployments): RecordPorts & { warnings: string[]; states: string[] } {
  const redactor = new Redactor();
  redactor.add('hunter2-hunter2');
  const warnings: string[] = [];
  const states: string[] = [];
  return {
    github,
    clock: systemClock,
    runner: { saveState: (name, value) => states.push(`${name}=${value}`) },
    redact: (text) => redactor.redact(text),
    warn: (message) => warnings.push(message),
    warnings,
    states,
  };
}

describe('the record', () => {
  test('of a deploy that goes well', async () => {
    const github = new FakeGithub();
    const ports = createPorts(github);
    const record = beginRecord(intent, ports);
    await record.settle({ result: 'deployed' });
    expect(github.calls).toEqual([`create ${intent.release}`, '7 in_progress', '7 success']);
    expect(ports.warnings).toEqual([]);
    expect(ports.states).toEqual(['deployment-record=open', 'deployment-record=closed']);
  });

  test('the end never overtakes the beginning', async () => {
    const github = new FakeGithub();
    let begin: () => void = () => undefined;
    github.set = ({ state }) =>
      state === 'in_progress'
        ? new Promise((resolve) => {
            begin = () => {
              resolve({ ok: true, value: undefined });
            };
          })
        : { ok: true, value: undefined };
    const record = beginRecord(intent, createPorts(github));
    const settled = record.settle({ result: 'reverted' });
    await systemClock.sleep(0.05);
    expect(github.calls.at(-1)).toBe('7 in_progress');
    begin();
    await settled;
    expect(github.calls.at(-1)).toBe('7 failure');
  });

  test('one that cannot be created: one warning that says so, and nothing more is asked', async () => {
    const github = new FakeGithub();
    github.create_ = problem(false);
    const ports = createPorts(github);
    await beginRecord(intent, ports).settle({ result: 'deployed' });
    expect(github.calls).toEqual([`create ${intent.release}`]);
    expect(ports.warnings).toEqual([
      "The deploy is not (fully) shown among GitHub's Deployments, and is not affected: It did not work with ***. Do this.",
    ]);
    expect(ports.states.at(-1)).toBe('deployment-record=closed');
  });

  test.each([
    [true, 'open'],
    [false, 'closed'],
  ])('where GitHub is not well (%s), the post step may try again: %s', async (transient, state) => {
    const github = new FakeGithub();
    github.set = () => problem(transient);
    const ports = createPorts(github);
    await beginRecord(intent, ports).settle({ result: 'deployed' });
    expect(github.calls).toEqual([`create ${intent.release}`, '7 in_progress', '7 success']);
    expect(ports.warnings).toHaveLength(1);
    expect(ports.states.at(-1)).toBe(`deployment-record=${state}`);
  });

  test('what became of it is not known: said, and left to the post step', async () => {
    const github = new FakeGithub();
    const ports = createPorts(github);
    await beginRecord(intent, ports).settle({ result: 'unknown' });
    expect(github.calls.at(-1)).toBe('7 error');
    expect(ports.states).toEqual(['deployment-record=open']);
  });

  test('GitHub that never answers does not hold up anyone', async () => {
    const github = new FakeGithub();
    github.create_ = new Promise(() => undefined);
    const ports = createPorts(github);
    const startedMs = performance.now();
    await beginRecord(intent, ports).settle({ result: 'deployed' }, 0.1);
    expect(performance.now() - startedMs).toBeLessThan(1000);
    expect(ports.warnings).toEqual([expect.stringContaining('GitHub did not answer within 0.1 s.')]);
    expect(ports.states).toEqual(['deployment-record=open']);
  });

  test('a defect is a warning too, in the beginning and at the end', async () => {
    for (const method of ['create', 'setStatus'] as const) {
      const github = new FakeGithub();
      Object.assign(github, {
        [method]: () => Promise.reject(new TypeError('hunter2-hunter2 is not a function')),
      });
      const ports = createPorts(github);
      await beginRecord(intent, ports).settle({ result: 'deployed' });
      expect(ports.warnings).toEqual([expect.stringContaining('unexpected: *** is not a function')]);
    }
  });

  test('the post step finds it, and ends it', async () => {
    const github = new FakeGithub();
    const ports = createPorts(github);
    await resumeRecord(intent, ports).settle({ result: 'reverted', cancelled: true });
    expect(github.calls).toEqual([`find ${intent.release}`, '7 failure']);
    expect(ports.states).toEqual(['deployment-record=closed']);
  });

  test('the post step makes none', async () => {
    const github = new FakeGithub();
    github.found = { ok: true, value: undefined };
    const ports = createPorts(github);
    await resumeRecord(intent, ports).settle({ result: 'reverted' });
    expect(github.calls).toEqual([`find ${intent.release}`]);
    expect(ports.warnings).toEqual([]);
  });
});
