/** What must hold for every workflow file that we give to others; each rule gives a sentence for each fault. Pure. */
import { Expression, type Mapping, type Template } from './template.ts';
import { OWN_THIRD_PARTY, THIRD_PARTY } from './third-party.ts';
import type { StepsJob, Workflow, WorkflowJob } from './workflow.ts';

/** The name under which callers know this repository. */
export const SUITE = 'your-org/slipway';

export interface Surrounding {
  /** Whether there is such a path in the repository. */
  readonly exists: (path: string) => boolean;
  /** Whether it is one of ours that others call: `.github/workflows/deploy.yml`. */
  readonly isReusable: boolean;
}

type Rule = (workflow: Workflow, surrounding: Surrounding) => string[];

const stepsJobs = (workflow: Workflow): StepsJob[] => workflow.jobs.filter((job) => job.kind === 'steps');
const allSteps = (workflow: Workflow) =>
  stepsJobs(workflow).flatMap((job) => job.steps.map((step) => ({ job, step, where: `${job.id}: ${step.label}` })));
const usesOf = (workflow: Workflow): string[] => [
  ...allSteps(workflow).flatMap(({ step }) => step.uses ?? []),
  ...workflow.jobs.flatMap((job) => (job.kind === 'call' ? [job.uses] : [])),
];

/**
 * `${{ }}` in a script is code before the shell sees it: whatever it is, it comes through `env`.
 * https://docs.github.com/actions/reference/security/secure-use#good-practices-for-mitigating-script-injection-attacks
 */
const noInjection: Rule = (workflow) =>
  allSteps(workflow).flatMap(({ step, where }) =>
    step.run instanceof Expression ? [`${where} has an expression in its script: hand it over in env`] : [],
  );

const PIN = /^[^@]+@[0-9a-f]{40}$/;

/** By commit, with the version in a comment: a tag can be moved. Ours are named by `$/` here and by their version elsewhere. */
const pins: Rule = (workflow, { isReusable }) =>
  [...new Set(usesOf(workflow))].flatMap((uses) => {
    if (uses.startsWith('$/')) return isReusable ? [] : [`${uses} would be looked for in the caller's own repository`];
    if (uses.startsWith('./')) return [`${uses} would be looked for in the checkout`];
    if (uses.startsWith(`${SUITE}/`)) {
      return isReusable
        ? [`${uses} must be $/: the same commit`]
        : /@v\d+$/.test(uses)
          ? []
          : [`${uses} has no major version`];
    }
    const version = { ...THIRD_PARTY, ...OWN_THIRD_PARTY }[uses]?.version;
    if (!PIN.test(uses)) return [`${uses} is not pinned by commit`];
    if (version === undefined) return [`${uses} is not among those that are looked after`];
    const lines = workflow.text.split('\n').filter((line) => line.includes(uses));
    return lines.every((line) => line.trimEnd().endsWith(`${uses} # ${version}`))
      ? []
      : [`${uses} has no # ${version}`];
  });

/** Every action and workflow of ours that is named is one. */
const references: Rule = (workflow, { exists }) =>
  usesOf(workflow).flatMap((uses) => {
    const path = uses.startsWith('$/') ? uses.slice(2) : new RegExp(`^${SUITE}/([^@]+)@`).exec(uses)?.[1];
    if (path === undefined) return [];
    return exists(path.endsWith('.yml') ? path : `${path}/action.yml`) ? [] : [`${uses} leads nowhere`];
  });

/** What an action needs of the job's token. A job may have no more than its steps need together. */
const NEEDS: readonly (readonly [uses: RegExp, input: string | undefined, permissions: readonly string[]])[] = [
  [/^actions\/checkout@/, undefined, ['contents: read']],
  [/action-(deploy|rollback)(@|$)/, 'github-token', ['deployments: write']],
  [/action-(deploy|rollback)(@|$)/, 'registry-password', ['packages: read']],
  [/alert-issue(@|$)/, 'github-token', ['issues: write']],
  [/plan-comment(@|$)/, 'github-token', ['pull-requests: write']],
  [/^docker\/login-action@/, undefined, ['packages: write']],
  [/^github\/codeql-action\/analyze@/, undefined, ['security-events: write']],
  [/^github\/codeql-action\/upload-sarif@/, undefined, ['security-events: write']],
  [/^ossf\/scorecard-action@/, 'publish_results', ['id-token: write']],
  [/^actions\/attest@/, undefined, ['id-token: write', 'attestations: write']],
];

/** The same, for what a script of ours does. */
const SCRIPT_NEEDS: readonly (readonly [run: RegExp, permissions: readonly string[]])[] = [
  [/\bscripts\/release\.mjs (publish|move-major)\b/, ['contents: write']],
];

const permissions: Rule = (workflow) => [
  ...(workflow.permissions !== undefined && Object.keys(workflow.permissions).length === 0
    ? []
    : ['the file must begin with permissions: {}']),
  ...workflow.jobs.flatMap((job) => {
    if (job.permissions === undefined) return [`${job.id} does not say its permissions`];
    // What a called workflow needs is held against this by `runWorkflow` and by GitHub.
    if (job.kind === 'call') return [];
    const given = Object.entries(job.permissions).map(([name, level]) => `${name}: ${level}`);
    const asked = job.steps.flatMap((step) => [
      ...NEEDS.flatMap(([uses, input, names]) =>
        uses.test(step.uses ?? '') && (input === undefined || input in step.with) ? names : [],
      ),
      ...SCRIPT_NEEDS.flatMap(([run, names]) => (typeof step.run === 'string' && run.test(step.run) ? names : [])),
    ]);
    // Who may write may read.
    const needed = asked.filter((one) => !asked.includes(one.replace(/: read$/, ': write')) || one.endsWith(': write'));
    return [
      ...given.filter((one) => !needed.includes(one)).map((one) => `${job.id} has ${one}, which no step of it needs`),
      ...[...new Set(needed)].filter((one) => !given.includes(one)).map((one) => `${job.id} lacks ${one}`),
    ];
  }),
];

const timeouts: Rule = (workflow) =>
  stepsJobs(workflow).flatMap((job) => (job.timeoutMinutes === undefined ? [`${job.id} has no timeout-minutes`] : []));

/** A text and a bare `true` are the same to an action. */
const isWord = (value: Template | undefined, word: string): boolean =>
  (typeof value === 'string' || typeof value === 'boolean') && String(value) === word;

/** What a job does to a server, by the action and mode that does it; undefined where it changes nothing. */
function changes(job: StepsJob): 'deploy' | 'rollback' | 'backup' | 'ssl' | undefined {
  for (const step of job.steps) {
    const name = /action-(deploy|rollback|backup|ssl)(@|$)/.exec(step.uses ?? '')?.[1];
    const isDry = isWord(step.with['dry-run'], 'true') || isWord(step.with['mode'], 'check');
    if (name !== undefined && !isDry) return name as 'deploy' | 'rollback' | 'backup' | 'ssl';
  }
  return undefined;
}

const groupOf = (template: Template | undefined): Template | undefined =>
  template instanceof Expression || typeof template === 'string'
    ? template
    : (template as Mapping | undefined)?.['group'];

const sourceOf = (template: Template | undefined): string =>
  template instanceof Expression ? template.source : typeof template === 'string' ? template : '';

/**
 * One group for each environment and kind of change, where nobody is thrown out: a deploy is never cancelled by the next, and
 * a rollback stands in no queue behind a backup.
 */
const concurrency: Rule = (workflow, { isReusable }) => [
  ...(workflow.concurrency === undefined || !workflow.jobs.some((job) => job.kind === 'call' || changes(job))
    ? []
    : ['the file has a concurrency group; jobs have them']),
  ...workflow.jobs.flatMap((job: WorkflowJob) => {
    if (job.kind === 'call') {
      return job.concurrency === undefined ? [] : [`${job.id} calls a workflow that has groups, and has one, too`];
    }
    const kind = changes(job);
    if (kind === undefined) return [];
    const settings = job.concurrency as Mapping | undefined;
    const group = sourceOf(groupOf(job.concurrency));
    // `slipway-` is for the reusable ones, so that a caller can never hold its callee's group.
    const prefix = isReusable ? `slipway-${kind}-` : `${kind}-`;
    return [
      ...(group.replace(/^format\('/, '').startsWith(prefix)
        ? []
        : [`${job.id} must be in a group ${prefix}ENVIRONMENT`]),
      ...(settings?.['queue'] === 'max' ? [] : [`${job.id} must queue: max, or a third run throws out the second`]),
      ...(settings?.['cancel-in-progress'] === undefined ? [] : [`${job.id} must not cancel what is in progress`]),
    ];
  }),
];

/** A trigger in a reusable file would fire in the repository of the actions themselves. */
const triggers: Rule = (workflow, { isReusable }) => {
  const events = Object.keys(workflow.triggers);
  if (isReusable) return events.filter((event) => event !== 'workflow_call').map((event) => `${event} would fire here`);
  return [
    ...(events.includes('pull_request_target') ? ["pull_request_target runs strangers' files with secrets"] : []),
    ...(events.includes('workflow_call') ? ['a caller is not called'] : []),
  ];
};

/** One by one, so that a workflow gets what it says and no more; and everything is described. */
const contract: Rule = (workflow, { isReusable }) => [
  ...workflow.jobs.flatMap((job) =>
    job.kind === 'call' && job.secrets === 'inherit' ? [`${job.id} hands over all secrets`] : [],
  ),
  ...(isReusable
    ? Object.entries({ ...workflow.call?.inputs, ...workflow.call?.secrets, ...workflow.call?.outputs }).flatMap(
        ([name, { description }]) => (description === '' ? [`${name} is not described`] : []),
      )
    : []),
  ...(isReusable ? unusedAndUndeclared(workflow) : []),
];

/** Inputs and secrets are those that are used: GitHub's language service does not look at secrets. */
function unusedAndUndeclared({ text, call }: Workflow): string[] {
  const found = (context: string): Set<string> =>
    new Set([...text.matchAll(new RegExp(`\\b${context}\\.([\\w-]+)`, 'g'))].map((match) => match[1] ?? ''));
  const compare = (context: string, declared: readonly string[]): string[] => {
    const used = found(context);
    return [
      ...declared.filter((name) => !used.has(name)).map((name) => `${context}.${name} is declared and not used`),
      ...[...used].filter((name) => !declared.includes(name)).map((name) => `${context}.${name} is not declared`),
    ];
  };
  return [
    ...compare('inputs', Object.keys(call?.inputs ?? {})),
    ...compare('secrets', Object.keys(call?.secrets ?? {})),
  ];
}

/** The checkout needs no token afterwards, and what is checked out must not find one. */
const credentials: Rule = (workflow) =>
  allSteps(workflow).flatMap(({ step, where }) =>
    step.uses?.startsWith('actions/checkout@') === true && !isWord(step.with['persist-credentials'], 'false')
      ? [`${where} leaves the token in the checkout: persist-credentials: false`]
      : [],
  );

/** Environments: the Deployment is made by the action, with what became of it. */
const deployments: Rule = (workflow) =>
  stepsJobs(workflow).flatMap(({ id, environment }) =>
    environment === undefined ||
    (typeof environment === 'object' && (environment as Mapping | null)?.['deployment'] === false)
      ? []
      : [`${id}: GitHub would make a second Deployment: environment: { name: ..., deployment: false }`],
  );

export const RULES = {
  noInjection,
  pins,
  references,
  permissions,
  timeouts,
  concurrency,
  triggers,
  contract,
  credentials,
  deployments,
} as const satisfies Record<string, Rule>;

/** @returns every fault, each with the rule that it breaks */
export function findFaults(workflow: Workflow, surrounding: Surrounding): string[] {
  return Object.entries(RULES).flatMap(([name, rule]) =>
    rule(workflow, surrounding).map((fault) => `${name}: ${fault}`),
  );
}
