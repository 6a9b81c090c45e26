/** The harness itself: what it must do as GitHub does, and what it must refuse. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { runWorkflow, type SelfHostedRunner, type WorkflowRequest, type WorkflowRun } from './run-workflow.ts';

const FIXTURES = {
  name: 'your-org/fixtures',
  folder: fileURLToPath(new URL('../e2e/harness/fixtures', import.meta.url)),
};
const CHECKOUT = 'actions/checkout@de0fac2e4500dabe0009e67214ff5f5447ce83dd';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'slipway-application-'));
});
afterEach(async () => {
  await rm(folder, { recursive: true, force: true });
});

/** Runs the first of these files, by name below `.github/workflows`. */
async function run(
  files: Readonly<Record<string, string>>,
  request: Partial<WorkflowRequest> = {},
): Promise<WorkflowRun> {
  for (const [name, text] of Object.entries(files)) {
    const path = join(folder, '.github/workflows', name);
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, text);
  }
  return runWorkflow({
    repository: { name: 'acme/shop', folder },
    workflow: `.github/workflows/${Object.keys(files)[0] ?? ''}`,
    event: { name: 'push' },
    repositories: [FIXTURES],
    ...request,
  });
}

const jobs = (text: string): string => `name: Test\non: push\njobs:\n${text}`;
const one = (steps: string, more = ''): string => jobs(`  a:\n    runs-on: x\n${more}    steps:\n${steps}`);
const results = ({ jobs: all }: WorkflowRun): Record<string, string> =>
  Object.fromEntries(Object.values(all).map(({ path, result }) => [path, result]));
const outcomes = (done: WorkflowRun, job = 'a'): string[] => done.jobs[job]?.steps.map((step) => step.outcome) ?? [];

describe('steps', () => {
  test('scripts run in bash -e -o pipefail, and give outputs, environment and summary on', async () => {
    const done = await run({
      'a.yml': one(
        `      - id: first
        env: { NAME: "\${{ github.repository }}" }
        run: |
          echo "said=$NAME" >>"$GITHUB_OUTPUT"
          echo "ADDED=by first" >>"$GITHUB_ENV"
          echo "# Heading" >>"$GITHUB_STEP_SUMMARY"
      - id: second
        run: echo "said=$ADDED, \${{ steps.first.outputs.said }}, \${{ env.ADDED }}, $JOB" >>"$GITHUB_OUTPUT"
      - run: "false | true"
      - run: echo never
`,
        '    env: { JOB: "of the job" }\n',
      ),
    });
    expect(done.result).toBe('failure');
    expect(outcomes(done)).toEqual(['success', 'success', 'failure', 'skipped']);
    expect(done.jobs['a']?.steps[1]?.outputs).toEqual({ said: 'by first, acme/shop, by first, of the job' });
    expect(done.summary).toContain('# Heading');
  });

  test('conditions: success, failure, always; and the post of an action that failed', async () => {
    const done = await run({
      'a.yml': one(`      - uses: your-org/fixtures/stateful@v1
        with: { exit: 3 }
      - run: echo "not this"
      - if: failure()
        run: echo "because of it"
      - if: always() && steps.never.outcome != 'success'
        id: always
        run: echo "in any case"
      - if: \${{ github.event_name == 'push' }}
        run: echo "not this either"
`).replace('      - run: echo "not this"\n', '      - id: never\n        run: echo "not this"\n'),
    });
    expect(outcomes(done)).toEqual(['failure', 'skipped', 'success', 'success', 'skipped']);
    expect(done.log).toContain('["line one\\nline two","","by main","/added/bin"]');
  });

  test("secrets are masked, and the job's outputs are those that it declares", async () => {
    const done = await run(
      {
        'a.yml': one(
          `      - id: a
        env: { KEY: "\${{ secrets.KEY }}" }
        run: |
          echo "the key is $KEY"
          echo "length=\${#KEY}" >>"$GITHUB_OUTPUT"
`,
          '    outputs: { length: "${{ steps.a.outputs.length }}" }\n',
        ),
      },
      { secrets: { KEY: 'very-secret' } },
    );
    expect(done.log).toContain('the key is ***');
    expect(done.jobs['a']?.outputs).toEqual({ length: '11' });
  });

  test('a stand-in runs for exactly the action and commit that it is for', async () => {
    const text = one(`      - id: c\n        uses: ${CHECKOUT}\n        with: { ref: main }\n      - run: cat made\n`);
    const seen: unknown[] = [];
    const done = await run(
      { 'a.yml': text },
      {
        standIns: [
          {
            uses: CHECKOUT,
            run: async ({ with: inputs, workspace }) => {
              seen.push(inputs);
              await writeFile(join(workspace, 'made'), 'by the stand-in');
              return { commit: 'abc' };
            },
          },
        ],
      },
    );
    expect(seen).toEqual([{ ref: 'main' }]);
    expect(done.log).toContain('by the stand-in');
    await expect(run({ 'a.yml': text })).rejects.toThrow(`nothing stands in for ${CHECKOUT}`);
    const failing = await run(
      { 'a.yml': text },
      { standIns: [{ uses: CHECKOUT, run: () => Promise.reject(new Error('no')) }] },
    );
    expect(outcomes(failing)).toEqual(['failure', 'skipped']);
  });
});

describe('jobs', () => {
  test('needs, outputs, and conditions that look at all that was before', async () => {
    const done = await run({
      'a.yml': jobs(`  first:
    runs-on: x
    outputs: { n: "\${{ steps.s.outputs.n }}" }
    steps: [{ id: s, run: 'echo n=7 >>"$GITHUB_OUTPUT"' }]
  left-out: { if: false, runs-on: x, steps: [{ run: "true" }] }
  after: { needs: [first, left-out], runs-on: x, steps: [{ run: "true" }] }
  anyway:
    needs: [first, left-out]
    if: "!failure() && !cancelled()"
    runs-on: x
    steps: [{ run: 'test "$N" = 7', env: { N: "\${{ needs.first.outputs.n }}" } }]
  hidden: { needs: anyway, runs-on: x, steps: [{ run: "true" }] }
  fails: { needs: anyway, if: "!cancelled()", runs-on: x, steps: [{ run: "false" }] }
  alarm: { needs: fails, if: failure(), runs-on: x, steps: [{ run: 'test failure = "\${{ needs.fails.result }}"' }] }
  never: { needs: [fails, alarm], runs-on: x, steps: [{ run: "true" }] }
`),
    });
    expect(results(done)).toEqual({
      first: 'success',
      'left-out': 'skipped',
      after: 'skipped',
      anyway: 'success',
      // Far behind a job that was left out: https://github.com/actions/runner/issues/491
      hidden: 'skipped',
      fails: 'failure',
      alarm: 'success',
      never: 'skipped',
    });
    expect(done.result).toBe('failure');
  });

  test('a job that takes longer than its bound is cancelled; what is always done still is', async () => {
    const done = await run(
      {
        'a.yml': one(
          `      - uses: your-org/fixtures/stubborn@v1\n      - run: echo "not this"\n      - if: always()\n        run: echo "at the end"\n`,
          '    timeout-minutes: 1\n',
        ),
      },
      { minuteMs: 1500 },
    );
    expect(done.jobs['a']).toMatchObject({ result: 'cancelled', timeoutMinutes: 1 });
    expect(outcomes(done).slice(0, 2)).toEqual(['cancelled', 'skipped']);
  });

  test('somebody presses Cancel: the step is cancelled, the rest left out, always() runs', async () => {
    const done = await run(
      {
        'a.yml': one(`      - id: slow
        uses: your-org/fixtures/stubborn@v1
      - run: echo "not this"
      - if: cancelled()
        run: echo "cancelled it was"
  b: { needs: a, runs-on: x, steps: [{ run: "true" }] }
`),
      },
      { cancel: { job: 'a', step: 'slow', when: /ready/ } },
    );
    expect(results(done)).toEqual({ a: 'cancelled', b: 'skipped' });
    expect(outcomes(done)).toEqual(['cancelled', 'skipped', 'success']);
    expect(done.result).toBe('cancelled');
  });

  test('environments: their secrets and variables, reviewers, and whose Deployment it is', async () => {
    const text = one(
      `      - run: test "$A $B" = "of production stage"\n        env: { A: "\${{ secrets.A }}", B: "\${{ vars.B }}" }\n`,
      '    environment: { name: "${{ github.ref_name }}", deployment: false }\n',
    );
    const environment = { secrets: { A: 'of production' }, variables: { B: 'stage' } };
    const asked = { secrets: { A: 'of all' }, github: { ref_name: 'production' } };
    const done = await run(
      { 'a.yml': text },
      { ...asked, environments: { production: { ...environment, review: 'approved' } } },
    );
    expect(done.result).toBe('success');
    expect(done.environments).toEqual([{ job: 'a', name: 'production', review: 'approved', deployment: false }]);
    const rejected = await run(
      { 'a.yml': text },
      { ...asked, environments: { production: { ...environment, review: 'rejected' } } },
    );
    expect(rejected.jobs['a']).toMatchObject({ result: 'failure', steps: [] });
    await expect(run({ 'a.yml': text }, asked)).rejects.toThrow('wants the environment "production"');
  });

  test('on a self-hosted runner: the one that the test gives, and never on this machine', async () => {
    const text = `${jobs('  a:\n    runs-on: [self-hosted, linux]\n    steps:\n')}      - uses: your-org/fixtures/talkative@v1\n`;
    await expect(run({ 'a.yml': text })).rejects.toThrow('job a wants a self-hosted runner, which the test did not');
    const asked: string[] = [];
    const selfHosted: SelfHostedRunner = {
      run(action) {
        asked.push(action.replace(FIXTURES.folder, ''));
        return Promise.resolve({ outcome: 'failure', outputs: {}, log: 'no' });
      },
    };
    expect(results(await run({ 'a.yml': text }, { selfHosted }))).toEqual({ a: 'failure' });
    expect(asked).toEqual(['/talkative']);
    const script = text.replace(/uses: .*/, 'run: id');
    await expect(run({ 'a.yml': script }, { selfHosted })).rejects.toThrow('a script on a self-hosted runner is not');
  });
});

describe('reusable workflows', () => {
  const CALLER = `name: Caller
on: push
jobs:
  release:
    permissions: { contents: read }
    concurrency: outer
    uses: ./.github/workflows/callee.yml
    with: { host: shop, dry: false }
    secrets: { KEY: "\${{ secrets.SSH_KEY }}" }
  after:
    needs: release
    runs-on: x
    steps: [{ run: 'test "\${{ needs.release.outputs.said }}" = "shop 22 11 false"' }]
`;
  const CALLEE = `name: Callee
on:
  workflow_call:
    inputs:
      host: { type: string, required: true }
      port: { type: string, default: '22' }
      dry: { type: boolean, default: true }
    secrets: { KEY: { required: true }, OTHER: { required: false } }
    outputs: { said: { value: "\${{ jobs.inner.outputs.said }}" } }
jobs:
  inner:
    runs-on: x
    permissions: { contents: read }
    environment: "production"
    concurrency: { group: "inner-\${{ inputs.host }}", queue: max }
    outputs: { said: "\${{ steps.s.outputs.said }}" }
    steps:
      - id: s
        env: { KEY: "\${{ secrets.KEY }}", OTHER: "\${{ secrets.OTHER }}" }
        run: echo "said=\${{ inputs.host }} \${{ inputs.port }} $((\${#KEY} + \${#OTHER})) \${{ inputs.dry }}" >>"$GITHUB_OUTPUT"
      - uses: your-org/fixtures/talkative@v1
        with: { script: '[["print","GITHUB_REPOSITORY"]]' }
`;
  const request = { secrets: { SSH_KEY: 'very-secret' }, environments: { production: { secrets: { OTHER: 'x' } } } };

  test('inputs, secrets one by one, outputs; jobs by path; groups are computed', async () => {
    const done = await run({ 'a.yml': CALLER.replace(' 11 ', ' 12 '), 'callee.yml': CALLEE }, request);
    expect(results(done)).toEqual({ 'release/inner': 'success', release: 'success', after: 'success' });
    expect(done.concurrency).toEqual([
      { by: 'release', group: 'outer', cancelInProgress: false, queue: 'single' },
      { by: 'release/inner', group: 'inner-shop', cancelInProgress: false, queue: 'max' },
    ]);
    expect(done.jobs['release/inner']?.log).toContain('"acme/shop"');
    expect(done.environments).toMatchObject([{ job: 'release/inner', deployment: true }]);
  });

  test("an environment's secrets do not reach a workflow of another owner", async () => {
    const other = await mkdtemp(join(tmpdir(), 'slipway-other-'));
    await mkdir(join(other, '.github/workflows'), { recursive: true });
    await writeFile(join(other, '.github/workflows/callee.yml'), CALLEE);
    const caller = CALLER.replace('./.github/workflows/callee.yml', 'others/theirs/.github/workflows/callee.yml@v1');
    const done = await run(
      { 'a.yml': caller },
      { ...request, repositories: [FIXTURES, { name: 'others/theirs', folder: other }] },
    );
    await rm(other, { recursive: true });
    // 11 letters of SSH_KEY, and none of OTHER.
    expect(results(done)).toEqual({ 'release/inner': 'success', release: 'success', after: 'success' });
  });

  test.each([
    [
      'more permissions than the caller has',
      'permissions: { contents: read }\n    env',
      'permissions: { issues: write }\n    env',
      'asks for issues: write, and the caller has issues: none',
    ],
    ["the caller's group", 'inner-${{ inputs.host }}', 'OUTER', 'which its own caller holds'],
    [
      'a required input more',
      'port: { type: string, default',
      'more: { type: string, required: true }\n      port: { type: string, default',
      'does not give the input more',
    ],
    ['an input less', '      dry: { type: boolean, default: true }\n', '', 'gives an input dry that it has not'],
    [
      'another type',
      'dry: { type: boolean, default: true }',
      'dry: { type: string }',
      'gives dry as boolean, which is a string',
    ],
    [
      'a required secret more',
      'OTHER: { required: false }',
      'OTHER: { required: true }',
      'does not give the secret OTHER',
    ],
    ['a secret less', 'KEY: { required: true }, ', '', 'gives a secret KEY that it has not'],
    ['a secret that it did not declare', 'secrets.OTHER', 'secrets.ANOTHER', 'there is no secrets.ANOTHER'],
    ['an output that is not there', 'jobs.inner.outputs.said', 'jobs.inner.outputs.nothing', 'there is no jobs.inner'],
  ])('a callee with %s is refused', async (_what, from, to, message) => {
    expect(CALLEE).toContain(from);
    const done = run({ 'a.yml': CALLER, 'callee.yml': CALLEE.replace(from, to) }, request);
    await expect(done).rejects.toThrow(message);
  });
});

describe('the harness refuses', () => {
  test.each([
    ['an unknown value of a context', 'run: echo "${{ github.no_such }}"', 'there is no github.no_such'],
    ['a variable that was not given', 'run: echo "${{ vars.NONE }}"', 'there is no vars.NONE'],
    ['a secret that was not given', 'run: echo "${{ secrets.NONE }}"', 'there is no secrets.NONE'],
    ['hashFiles', 'run: echo "${{ hashFiles(\'x\') }}"', 'hashFiles'],
    ['an action that nobody gave', `uses: a/b@${'0'.repeat(40)}`, 'Expected'],
    ['an input that the action has not', 'uses: your-org/fixtures/talkative@v1\n        with: { scrpit: x }', 'scrpit'],
    ["an unknown input of another's action", `uses: ${CHECKOUT}\n        with: { depth: 1 }`, 'has no input depth'],
  ])('%s', async (what, step, message) => {
    const standIns = [{ uses: CHECKOUT, run: () => Promise.resolve({}) }];
    const done = run({ 'a.yml': one(`      - ${step}\n`) }, { standIns });
    await expect(done).rejects.toThrow(what.startsWith('an action that') ? 'there is no repository for a/b@' : message);
  });

  test('an output with a secret in it, which GitHub would drop', async () => {
    const text = one(
      `      - { id: s, run: 'echo "key=$KEY" >>"$GITHUB_OUTPUT"', env: { KEY: "\${{ secrets.KEY }}" } }\n`,
      '    outputs: { key: "${{ steps.s.outputs.key }}" }\n',
    );
    await expect(run({ 'a.yml': text }, { secrets: { KEY: 'secret' } })).rejects.toThrow(
      'GitHub drops the output key of a',
    );
  });

  test('an event that would not start it', async () => {
    const text = one('      - run: "true"\n').replace(
      'on: push',
      "on: { push: { branches: [main], tags: ['v*'] }, schedule: [{ cron: '1 2 * * *' }] }",
    );
    const start = (name: string, ref: string, payload = {}) =>
      run({ 'a.yml': text }, { event: { name, payload }, github: { ref } });
    expect((await start('push', 'refs/heads/main')).result).toBe('success');
    expect((await start('push', 'refs/tags/v1')).result).toBe('success');
    expect((await start('schedule', 'refs/heads/main', { schedule: '1 2 * * *' })).result).toBe('success');
    await expect(start('push', 'refs/heads/other')).rejects.toThrow('do not have refs/heads/other');
    await expect(start('push', 'refs/tags/x')).rejects.toThrow('do not have refs/tags/x');
    await expect(start('schedule', 'refs/heads/main', { schedule: '1 3 * * *' })).rejects.toThrow('its schedules are');
    await expect(start('release', 'refs/heads/main')).rejects.toThrow('does not name this event');
  });

  test('a form that is filled in wrongly; the rest is typed as it says', async () => {
    const text = one(
      `      - run: test "\${{ inputs.where }} \${{ inputs.dry }} \${{ inputs.text }}" = "b true none"\n`,
    ).replace(
      'on: push',
      'on: { workflow_dispatch: { inputs: { where: { type: choice, options: [a, b] }, dry: { type: boolean }, text: { default: none } } } }',
    );
    const press = (inputs: Record<string, string | boolean>) =>
      run({ 'a.yml': text }, { event: { name: 'workflow_dispatch' }, inputs });
    expect((await press({ where: 'b', dry: true })).result).toBe('success');
    await expect(press({ where: 'c' })).rejects.toThrow('where has no choice "c"');
    await expect(press({ wehre: 'a' })).rejects.toThrow('the form has no wehre');
  });
});
