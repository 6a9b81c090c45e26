/** Each check finds the fault that it is for: a file that is right, with one thing wrong in it. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { validateFile } from '../e2e/harness/github-language.ts';
import { findFaults, RULES } from './rules.ts';
import { surroundingsOf } from './surroundings.ts';
import { readWorkflow } from './workflow.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const PATH = '.github/workflows/deploy.yml';
const CHECKOUT = 'actions/checkout@de0fac2e4500dabe0009e67214ff5f5447ce83dd # v6.0.2';
const GOOD = `
name: Deploy
on:
  workflow_call:
    inputs:
      host: { description: The server, type: string, required: true }
    secrets:
      SSH_KEY: { description: Its key, required: true }
    outputs:
      release: { description: What serves, value: '\${{ jobs.deploy.outputs.release }}' }
permissions: {}
jobs:
  deploy:
    runs-on: ubuntu-latest
    timeout-minutes: 10
    environment: { name: production, deployment: false }
    concurrency: { group: 'slipway-deploy-\${{ inputs.host }}', queue: max }
    permissions: { contents: read }
    outputs: { release: '\${{ steps.deploy.outputs.release }}' }
    steps:
      - uses: ${CHECKOUT}
        with: { persist-credentials: false }
      - id: deploy
        uses: $/action-deploy
        with: { host: '\${{ inputs.host }}', ssh-key: '\${{ secrets.SSH_KEY }}' }
      - run: echo "$HOST"
        env: { HOST: '\${{ inputs.host }}' }
`;
const CALLER = `
name: Deploy
on: push
permissions: {}
jobs:
  deploy:
    permissions: { contents: read, deployments: write, packages: write, id-token: write, attestations: write }
    uses: your-org/slipway/.github/workflows/deploy.yml@v1
    with: { host: shop.example.com, environment: production }
    secrets: { SSH_KEY: '\${{ secrets.SSH_KEY }}' }
`;

interface Found {
  /** Of GitHub's language service. */
  readonly service: string[];
  /** Of our own rules. */
  readonly rules: string[];
}

async function check(text: string, isReusable: boolean): Promise<Found> {
  const findings = await validateFile(PATH, text, surroundingsOf(ROOT));
  const service = findings.map((finding) => finding.message);
  const exists = (path: string): boolean => {
    try {
      readFileSync(ROOT + path);
      return true;
    } catch {
      return false;
    }
  };
  return { service, rules: findFaults(await readWorkflow(PATH, text), { exists, isReusable }) };
}

/** Rules that found the fault that was put there for them. */
const proven = new Set<string>();

function expectFault(faults: readonly string[], fault: string): void {
  const found = faults.find((one) => one.includes(fault));
  expect({ faults, found }).toMatchObject({ found: expect.any(String) as string });
  proven.add(found?.split(':')[0] ?? '');
}

function replace(text: string, from: string, to: string): string {
  if (!text.includes(from)) throw new Error(`there is no ${from} to replace`);
  return text.replace(from, to);
}

test('what is right has no faults', async () => {
  expect(await check(GOOD, true)).toEqual({ service: [], rules: [] });
  expect(await check(CALLER, false)).toEqual({ service: [], rules: [] });
});

test.each([
  ['an expression in a script', 'echo "$HOST"', 'echo "${{ inputs.host }}"', 'noInjection: deploy: '],
  ['a tag instead of a commit', CHECKOUT, 'actions/checkout@v6', 'pins: actions/checkout@v6 is not pinned'],
  ['a pin without its version', '# v6.0.2', '', 'has no # v6.0.2'],
  ['a pin with another version', '# v6.0.2', '# v6.0.1', 'has no # v6.0.2'],
  ['an action that nobody looks after', CHECKOUT, `a/b@${'0'.repeat(40)} # v1`, 'is not among those'],
  ['our own by the checkout', '$/action-deploy', './action-deploy', 'pins: ./action-deploy would be looked for in the'],
  ['our own by its version', '$/action-deploy', 'your-org/slipway/action-deploy@v1', 'must be $/'],
  ['a folder that is none', '$/action-deploy', '$/action-deplyo', 'references: $/action-deplyo leads nowhere'],
  ['permissions for all', 'permissions: {}\n', '', 'permissions: the file must begin with permissions: {}'],
  ['no permissions', 'permissions: { contents: read }', '', 'permissions: deploy does not say its permissions'],
  [
    'more than is needed',
    '{ contents: read }',
    '{ contents: read, issues: write }',
    'deploy has issues: write, which no',
  ],
  ['less than is needed', '{ contents: read }', '{}', 'permissions: deploy lacks contents: read'],
  ['no bound', 'timeout-minutes: 10', '', 'timeouts: deploy has no timeout-minutes'],
  ['no group', "concurrency: { group: 'slipway-deploy-${{ inputs.host }}', queue: max }", '', 'must be in a group'],
  ['the group of a backup', 'slipway-deploy-$', 'slipway-backup-$', 'must be in a group slipway-deploy-'],
  ['a queue of one', ', queue: max', '', 'concurrency: deploy must queue: max'],
  ['a deploy that is cancelled', 'queue: max', 'cancel-in-progress: true', 'must not cancel'],
  [
    'a group for the file',
    'permissions: {}\n',
    'permissions: {}\nconcurrency: x\n',
    'the file has a concurrency group',
  ],
  ['a schedule', 'on:\n', "on:\n  schedule: [{ cron: '7 3 * * *' }]\n", 'triggers: schedule would fire here'],
  ['a button', 'on:\n', 'on:\n  workflow_dispatch:\n', 'triggers: workflow_dispatch would fire here'],
  ['a pull request', 'on:\n', 'on:\n  pull_request:\n', 'triggers: pull_request would fire here'],
  ['an input without a word', 'description: The server, ', '', 'contract: host is not described'],
  [
    'an input that is not used',
    'inputs:\n',
    'inputs:\n      user: { description: x, type: string }\n',
    'user is declared',
  ],
  ['a secret that is not declared', 'secrets.SSH_KEY', 'secrets.KEY', 'contract: secrets.KEY is not declared'],
  ['a token in the checkout', 'with: { persist-credentials: false }', 'with: {}', 'credentials: deploy: '],
  ['a second Deployment', ', deployment: false', '', 'deployments: deploy: GitHub would make a second Deployment'],
  ['a release without its permission', 'echo "$HOST"', 'node scripts/release.mjs publish', 'lacks contents: write'],
])('%s is found in a reusable workflow', async (_what, from, to, fault) => {
  expectFault((await check(replace(GOOD, from, to), true)).rules, fault);
});

test.each([
  ['all secrets', "secrets: { SSH_KEY: '${{ secrets.SSH_KEY }}' }", 'secrets: inherit', 'hands over all secrets'],
  ['no version', 'deploy.yml@v1', 'deploy.yml@main', 'has no major version'],
  ['a file that is none', 'deploy.yml@v1', 'deplyo.yml@v1', 'leads nowhere'],
  ["its callee's group", 'permissions: { c', 'concurrency: slipway-deploy-x\n    permissions: { c', 'and has one, too'],
  ["strangers' files with secrets", 'on: push', 'on: pull_request_target', "runs strangers' files"],
  [
    'our own by $/',
    'your-org/slipway/.github/workflows/deploy.yml@v1',
    '$/.github/workflows/deploy.yml',
    "caller's own",
  ],
  ['a caller that is called', 'on: push', 'on: { push: {}, workflow_call: {} }', 'a caller is not called'],
])('%s is found in a caller', async (_what, from, to, fault) => {
  expectFault((await check(replace(CALLER, from, to), false)).rules, fault);
});

test('writing is permission to read, too', async () => {
  const text = replace(
    replace(GOOD, 'echo "$HOST"', 'node scripts/release.mjs publish'),
    'contents: read',
    'contents: write',
  );
  expect((await check(text, true)).rules).toEqual([]);
});

// After the two lists above: no rule is without a fault that it finds.
test('each rule has found a fault', () => {
  expect([...proven].sort()).toEqual(Object.keys(RULES).sort());
});

describe("GitHub's language service finds", () => {
  test.each([
    ['an input that the action has not', GOOD, '{ host: ', '{ hots: ', "Invalid action input 'hots'"],
    ['an input that is missing', GOOD, "host: '${{ inputs.host }}', ssh", 'ssh', 'Missing required input `host`'],
    ["another's input", GOOD, '{ persist-credentials', '{ keep-credentials', "Invalid action input 'keep-credentials'"],
    ['an unknown input of the workflow', GOOD, 'deploy-${{ inputs.host', 'deploy-${{ inputs.hots', 'hots'],
    [
      'an unknown context',
      GOOD,
      "HOST: '${{ inputs.host",
      "HOST: '${{ input.host",
      "Unrecognized named-value: 'input'",
    ],
    ['a context that is not there', GOOD, "group: 'slipway-deploy-${{ inputs", "group: 'x-${{ secrets", 'secrets'],
    ['an unknown step', GOOD, 'steps.deploy.outputs', 'steps.deplyo.outputs', 'deplyo'],
    ['an unknown output of a job', GOOD, 'jobs.deploy.outputs.release', 'jobs.deploy.outputs.relaese', 'relaese'],
    [
      'an unknown function',
      GOOD,
      "HOST: '${{ inputs.host",
      "HOST: '${{ trim(inputs.host)",
      "Unrecognized function: 'trim'",
    ],
    [
      'an action that is not there',
      GOOD,
      '$/action-deploy',
      '$/action-deplyo',
      'Unable to resolve action `$/action-deplyo`',
    ],
    ['a queue that is cancelled', GOOD, 'queue: max', 'queue: max, cancel-in-progress: true', 'cannot be combined'],
    ['a bad schedule', CALLER, 'on: push', "on: { schedule: [{ cron: '61 * * * *' }] }", 'cron'],
    ['an unknown input of the callee', CALLER, '{ host:', '{ hots: x, host:', 'hots'],
    ['a missing input of the callee', CALLER, 'with: { host: shop.example.com, ', 'with: { ', 'host'],
    ['an unknown secret of the callee', CALLER, '{ SSH_KEY:', '{ SSH_KYE:', 'SSH_KYE'],
  ])('%s', async (_what, text, from, to, message) => {
    const changed = replace(text, from, to);
    const findings = await validateFile(PATH, changed, surroundingsOf(ROOT));
    expect(findings.map((finding) => finding.message)).toContainEqual(expect.stringContaining(message));
  });
});

test.each([
  ['no steps', 'jobs: { a: { runs-on: x } }'],
  ['an unknown key', 'jobs: { a: { runs-on: x, steps: [{ run: x }], timeout: 5 } }'],
  ['no YAML', 'jobs: { a: ['],
])("GitHub's parser refuses %s", async (_what, jobs) => {
  await expect(readWorkflow(PATH, `on: push\n${jobs}\n`)).rejects.toThrow('.github/workflows/deploy.yml');
});

test.each([
  ['a matrix', 'strategy: { matrix: { n: [1] } }', 'has strategy'],
  ['a container', 'container: node:24', 'has container'],
  ['services', 'services: { db: { image: x } }', 'has services'],
  ['continue-on-error', 'continue-on-error: true', 'has continue-on-error'],
  ['defaults', 'defaults: { run: { shell: sh } }', 'has defaults'],
])('the harness refuses %s, which it does not imitate', async (_what, key, message) => {
  const text = `on: push\njobs:\n  a:\n    runs-on: x\n    ${key}\n    steps: [{ run: x }]\n`;
  await expect(readWorkflow(PATH, text)).rejects.toThrow(message);
});
