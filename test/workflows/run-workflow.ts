/**
 * Runs a workflow as GitHub does: jobs in the order of their needs, reusable workflows inside of them, steps in one job of the
 * runner harness each. One thing at a time: what would wait for each other here would do so there.
 */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import picomatch from 'picomatch';
import { githubContext } from '../e2e/harness/github-context.ts';
import { HarnessError, Job, readManifest, type StepRun, type Trigger } from '../e2e/harness/index.ts';
import {
  asText,
  evaluate,
  evaluateText,
  evaluateTexts,
  Expression,
  holds,
  type Json,
  type Mapping,
  type Scope,
  type Template,
} from './template.ts';
import { OWN_THIRD_PARTY, THIRD_PARTY, type StandIn } from './third-party.ts';
import {
  type CallJob,
  type Level,
  type Permissions,
  readWorkflow,
  type StepsJob,
  type Workflow,
  type WorkflowJob,
  type WorkflowStep,
} from './workflow.ts';

/** A repository on this machine that stands for one on GitHub. */
export interface Repository {
  /** `owner/name` */
  readonly name: string;
  readonly folder: string;
}

export interface Environment {
  readonly secrets?: Readonly<Record<string, string>>;
  readonly variables?: Readonly<Record<string, string>>;
  /** What the reviewers say; undefined where nobody is asked. */
  readonly review?: 'approved' | 'rejected';
}

/** A runner of one's own, on another machine than this: takes the jobs whose `runs-on` has `self-hosted`. */
export interface SelfHostedRunner {
  /** One of our actions. @param action its folder here */
  run(
    action: string,
    step: {
      readonly with: Readonly<Record<string, string>>;
      readonly env: Readonly<Record<string, string>>;
      readonly github: Readonly<Record<string, string>>;
      /** As the steps before have left it, on this machine. */
      readonly workspace: string;
    },
  ): Promise<Pick<StepResult, 'outcome' | 'outputs' | 'log'>>;
}

export interface WorkflowRequest {
  readonly repository: Repository;
  /** `.github/workflows/deploy.yml` */
  readonly workflow: string;
  readonly event: { readonly name: string; readonly payload?: Readonly<Record<string, Json>> };
  /** Typed into the form of `workflow_dispatch`. */
  readonly inputs?: Readonly<Record<string, string | boolean>>;
  readonly secrets?: Readonly<Record<string, string>>;
  readonly variables?: Readonly<Record<string, string>>;
  readonly environments?: Readonly<Record<string, Environment>>;
  /** Repositories whose actions and workflows may be named besides, by `owner/name`. */
  readonly repositories?: readonly Repository[];
  readonly standIns?: readonly StandIn[];
  readonly selfHosted?: SelfHostedRunner;
  /** Of the `github` context; `token` is the one that every job gets. */
  readonly github?: Readonly<Record<string, string>>;
  /** Somebody presses Cancel while this step runs. */
  readonly cancel?: { readonly job: string; readonly step: string; readonly when: Trigger };
  /** Folders with programs that a hosted runner has. */
  readonly path?: readonly string[];
  /** A minute of `timeout-minutes`, in milliseconds. */
  readonly minuteMs?: number;
  /** Before a job starts: what its token may do. */
  readonly onJob?: (job: string, permissions: Permissions) => void;
}

export type Result = 'success' | 'failure' | 'cancelled' | 'skipped';

export interface StepResult {
  readonly label: string;
  readonly outcome: Result;
  readonly outputs: Readonly<Record<string, string>>;
  readonly log: string;
  /** Of its process; undefined where there was none. */
  readonly run: StepRun | undefined;
}

export interface JobResult {
  /** `deploy`, or `release/deploy` in a workflow that job `release` calls. */
  readonly path: string;
  readonly result: Result;
  readonly outputs: Readonly<Record<string, string>>;
  readonly steps: readonly StepResult[];
  readonly permissions: Permissions;
  readonly timeoutMinutes: number | undefined;
  readonly environment: string;
  /** As it is shown beside the environment; evaluated when the steps have run. */
  readonly environmentUrl: string;
  readonly summary: string;
  readonly log: string;
}

export interface ConcurrencyUse {
  /** Path of the job, or of the workflow file. */
  readonly by: string;
  readonly group: string;
  readonly cancelInProgress: boolean;
  readonly queue: string;
}

export interface WorkflowRun {
  readonly result: Result;
  /** What `on.workflow_call.outputs` gives, where it was called. */
  readonly outputs: Readonly<Record<string, string>>;
  readonly jobs: Readonly<Record<string, JobResult>>;
  readonly concurrency: readonly ConcurrencyUse[];
  readonly environments: readonly {
    readonly job: string;
    readonly name: string;
    readonly review: Environment['review'];
    /** Whether GitHub makes a Deployment of its own for it. */
    readonly deployment: boolean;
  }[];
  readonly log: string;
  readonly summary: string;
}

/** @throws HarnessError for what GitHub refuses to start, and for what the harness does not support or was not given */
export async function runWorkflow(request: WorkflowRequest): Promise<WorkflowRun> {
  return new Run(request).start();
}

/** A workflow file, where it comes from, and what it was given. */
interface Called {
  readonly workflow: Workflow;
  readonly source: Repository;
  /** Path of the job that calls it, with a slash; empty for the first. */
  readonly prefix: string;
  readonly inputs: Readonly<Record<string, Json>>;
  readonly secrets: Readonly<Record<string, string>>;
  /** What it may ask for; undefined for the first, whose token has what the repository allows. */
  readonly ceiling: Permissions | undefined;
  /** Concurrency groups that are held around it. */
  readonly held: readonly string[];
}

interface RunningJob {
  readonly called: Called;
  readonly runner: Job;
  readonly path: string;
  /** When its time is over, by `performance.now()`. */
  readonly until: number;
  readonly isSelfHosted: boolean;
}

interface Finished {
  readonly result: Result;
  readonly outputs: Readonly<Record<string, string>>;
}

const LEVELS: Readonly<Record<Level, number>> = { none: 0, read: 1, write: 2 };
/** Nothing of others runs here: each needs a stand-in. */
const OTHERS = { ...THIRD_PARTY, ...OWN_THIRD_PARTY };
const DEFAULT_TIMEOUT_MINUTES = 360;
const PROCESS_LIMIT_SECONDS = 300;

class Run {
  readonly #request: WorkflowRequest;
  readonly #github: Readonly<Record<string, Json>>;
  readonly #jobs: Record<string, JobResult> = {};
  readonly #concurrency: ConcurrencyUse[] = [];
  readonly #environments: WorkflowRun['environments'][number][] = [];
  #cancelled = false;

  constructor(request: WorkflowRequest) {
    this.#request = request;
    const [owner = ''] = request.repository.name.split('/');
    this.#github = {
      ...githubContext(tmpdir(), tmpdir()),
      repository: request.repository.name,
      repository_owner: owner,
      event_name: request.event.name,
      ...request.github,
      event: {
        ...request.event.payload,
        ...(request.inputs === undefined ? {} : { inputs: mapValues(request.inputs, String) }),
      },
    };
  }

  async start(): Promise<WorkflowRun> {
    const { repository, workflow: path, secrets = {}, cancel } = this.#request;
    const workflow = await read(repository, path);
    this.#checkTrigger(workflow);
    const { result, outputs } = await this.#runFile({
      workflow,
      source: repository,
      prefix: '',
      inputs: this.#typedInputs(workflow),
      secrets: { ...secrets, GITHUB_TOKEN: this.#token },
      ceiling: undefined,
      held: [],
    });
    if (cancel && !this.#cancelled) throw new HarnessError(`the step ${cancel.step} of job ${cancel.job} never ran`);
    const jobs = Object.values(this.#jobs);
    return {
      result,
      outputs,
      jobs: this.#jobs,
      concurrency: this.#concurrency,
      environments: this.#environments,
      log: jobs.map((job) => job.log).join('\n'),
      summary: jobs.map((job) => job.summary).join('\n'),
    };
  }

  get #token(): string {
    return asText(this.#github['token']);
  }

  /** @throws HarnessError where this event would not start it */
  #checkTrigger(workflow: Workflow): void {
    const { name, payload } = this.#request.event;
    const filters = workflow.triggers[name];
    const refuse = (why: string): never => {
      throw new HarnessError(`${workflow.path} is not started by ${name}: ${why}`);
    };
    if (filters === undefined || name === 'workflow_call') return refuse('it does not name this event');
    const ref = asText(this.#github['ref']);
    for (const key of Object.keys(filters)) {
      const value = filters[key];
      if (key === 'branches' || key === 'tags') {
        const prefix = key === 'branches' ? 'refs/heads/' : 'refs/tags/';
        const other = filters[key === 'branches' ? 'tags' : 'branches'];
        if (ref.startsWith(prefix) ? !picomatch.isMatch(ref.slice(prefix.length), value as string[]) : !other) {
          refuse(`its ${key} do not have ${ref}`);
        }
      } else if (key === 'entries') {
        const crons = (value as readonly { readonly cron: string }[]).map(({ cron }) => cron);
        if (!crons.includes(asText(payload?.['schedule']))) refuse(`its schedules are ${crons.join(', ')}`);
      } else if (key !== 'inputs' && key !== 'types') refuse(`the filter ${key} is not supported`);
    }
  }

  /** What was typed into the form, checked and typed as GitHub does it. */
  #typedInputs(workflow: Workflow): Record<string, Json> {
    const given = this.#request.inputs ?? {};
    const declared = (workflow.triggers['workflow_dispatch']?.['inputs'] ?? {}) as Readonly<Record<string, Mapping>>;
    for (const name of Object.keys(given)) {
      if (!(name in declared)) throw new HarnessError(`${workflow.path}: the form has no ${name}`);
    }
    return Object.fromEntries(
      Object.entries(declared).map(([name, { type = 'string', default: usual, options, required }]) => {
        const empty = type === 'boolean' ? false : type === 'choice' ? (options as string[])[0] : '';
        const value = given[name] ?? (usual as Json | undefined) ?? empty ?? '';
        if (required === true && value === '') throw new HarnessError(`${workflow.path}: the form needs ${name}`);
        if (type === 'choice' && !(options as string[]).includes(asText(value))) {
          throw new HarnessError(`${workflow.path}: ${name} has no choice ${JSON.stringify(value)}`);
        }
        return [name, type === 'boolean' ? value === true || value === 'true' : asText(value)];
      }),
    );
  }

  async #runFile(called: Called): Promise<Finished> {
    const { workflow } = called;
    const base = this.#scope(called);
    this.#checkPermissions(called);
    const held = [...called.held, ...this.#enter(workflow.concurrency, workflow.path, base, called.held)];
    const done: Record<string, Finished> = {};
    for (const job of inOrder(workflow)) {
      done[job.id] = await this.#runJob(job, { ...called, held }, done);
    }
    const results = Object.values(done).map((one) => one.result);
    const result = results.includes('failure') ? 'failure' : results.includes('cancelled') ? 'cancelled' : 'success';
    const jobs = mapValues(done, ({ result: end, outputs }) => ({ result: end, outputs }));
    const scope = { ...base, contexts: { ...base.contexts, jobs }, lenient: lenientOutputs('jobs', done, base) };
    const outputs = mapValues(workflow.call?.outputs ?? {}, ({ value }) => evaluateText(value, scope));
    return { result: this.#cancelled && result === 'success' ? 'cancelled' : result, outputs };
  }

  /** Asks for more than it may: GitHub then refuses the whole run, also where the job would be skipped. */
  #checkPermissions({ workflow, ceiling, prefix }: Called): void {
    if (ceiling === undefined) return;
    for (const job of workflow.jobs) {
      for (const [name, level] of Object.entries(job.permissions ?? workflow.permissions ?? {})) {
        if (LEVELS[level] > LEVELS[ceiling[name] ?? 'none']) {
          throw new HarnessError(
            `${workflow.path}: job ${prefix}${job.id} asks for ${name}: ${level}, and the caller has ${name}: ${ceiling[name] ?? 'none'}`,
          );
        }
      }
    }
  }

  /** Notes the use of a concurrency group. @throws HarnessError where it would wait for itself */
  #enter(template: StepsJob['concurrency'], by: string, scope: Scope, held: readonly string[]): string[] {
    if (template === undefined) return [];
    const value = evaluate(template, scope);
    const {
      group,
      'cancel-in-progress': cancel = false,
      queue = 'single',
    } = (typeof value === 'string' ? { group: value } : value) as Readonly<Record<string, Json>>;
    const name = asText(group);
    this.#concurrency.push({ by, group: name, cancelInProgress: cancel === true, queue: asText(queue) });
    if (held.some((one) => one.toLowerCase() === name.toLowerCase())) {
      throw new HarnessError(`${by} waits for the concurrency group ${name}, which its own caller holds`);
    }
    return [name];
  }

  #scope({ inputs, workflow }: Called): Scope {
    return {
      contexts: {
        github: { ...this.#github, workflow: workflow.name },
        inputs,
        vars: { ...this.#request.variables },
      },
      lenient: new Set(['github.event']),
    };
  }

  async #runJob(job: WorkflowJob, called: Called, done: Readonly<Record<string, Finished>>): Promise<Finished> {
    const path = called.prefix + job.id;
    const base = this.#scope(called);
    const needs = Object.fromEntries(job.needs.map((id) => [id, { ...done[id] }]));
    const needed = Object.fromEntries(job.needs.flatMap((id) => (done[id] === undefined ? [] : [[id, done[id]]])));
    const lenient = lenientOutputs('needs', needed, base);
    const scope: Scope = { ...base, contexts: { ...base.contexts, needs }, lenient };
    const before = ancestors(job, called.workflow).map((id) => done[id]?.result ?? 'skipped');
    const functions = statusFunctions(before, this.#cancelled);
    const permissions = job.permissions ?? called.workflow.permissions ?? called.ceiling ?? {};
    const finish = (end: Partial<JobResult> & Pick<JobResult, 'result'>): Finished => {
      this.#jobs[path] = {
        path,
        outputs: {},
        steps: [],
        permissions,
        timeoutMinutes: undefined,
        environment: '',
        environmentUrl: '',
        summary: '',
        log: '',
        ...end,
      };
      return { result: end.result, outputs: end.outputs ?? {} };
    };
    if (!holds(job.condition, { ...scope, functions })) return finish({ result: 'skipped' });
    const held = [...called.held, ...this.#enter(job.concurrency, path, scope, called.held)];
    if (job.kind === 'call') {
      return finish(await this.#call(job, { ...called, held }, scope, permissions));
    }
    const environment = this.#askForEnvironment(job, path, scope);
    if (environment?.review === 'rejected') return finish({ result: 'failure', environment: environment.name });
    this.#request.onJob?.(path, permissions);
    return finish(await this.#runSteps(job, { ...called, held }, scope, path, environment));
  }

  async #call(job: CallJob, called: Called, scope: Scope, permissions: Permissions): Promise<Finished> {
    const { source, path } = this.#resolve(job.uses, called.source);
    const workflow = await read(source, path);
    const refuse = (what: string): never => {
      throw new HarnessError(`${called.workflow.path}: job ${job.id} calls ${job.uses}, and ${what}`);
    };
    const { call } = workflow;
    if (call === undefined) return refuse('that cannot be called');
    const withSecrets: Scope = { ...scope, contexts: { ...scope.contexts, secrets: { ...called.secrets } } };
    for (const name of Object.keys(job.with))
      if (!(name in call.inputs)) refuse(`gives an input ${name} that it has not`);
    const inputs = mapValues(call.inputs, ({ type, required, default: usual }, name): Json => {
      const given = job.with[name];
      if (given === undefined && required) return refuse(`does not give the input ${name}`);
      const value = evaluate(given ?? usual ?? (type === 'string' ? '' : type === 'boolean' ? false : 0), scope);
      return typeof value === type || value === null
        ? (value ?? (type === 'string' ? '' : false))
        : refuse(`gives ${name} as ${typeof value}, which is a ${type}`);
    });
    const handed = job.secrets === 'inherit' ? called.secrets : evaluateTexts(job.secrets, withSecrets);
    if (job.secrets !== 'inherit') {
      for (const name of Object.keys(handed))
        if (!(name in call.secrets)) refuse(`gives a secret ${name} that it has not`);
    }
    const secrets = mapValues(call.secrets, ({ required }, name) => {
      const value = handed[name] ?? '';
      return value === '' && required ? refuse(`does not give the secret ${name}`) : value;
    });
    return this.#runFile({
      workflow,
      source,
      prefix: `${called.prefix}${job.id}/`,
      inputs,
      secrets: { ...secrets, GITHUB_TOKEN: this.#token },
      ceiling: permissions,
      held: called.held,
    });
  }

  /** `$/path` and `./path` of the repository that holds the file, or `owner/name/path@ref` of one that was given. */
  #resolve(uses: string, source: Repository): { readonly source: Repository; readonly path: string } {
    if (/^[$.]\//.test(uses)) return { source, path: uses.slice(2) };
    const [, name = '', path = ''] = /^([^/@]+\/[^/@]+)\/([^@]+)@[^@]+$/.exec(uses) ?? [];
    const found = [this.#request.repository, ...(this.#request.repositories ?? [])].find((one) => one.name === name);
    if (found === undefined) throw new HarnessError(`there is no repository for ${uses}`);
    return { source: found, path };
  }

  #askForEnvironment(job: StepsJob, path: string, scope: Scope): (Environment & { readonly name: string }) | undefined {
    if (job.environment === undefined) return undefined;
    // The name is needed before there is a runner, and with it the environment's variables; the URL is for the end.
    const { name: wanted = null, deployment: makes = true } = asMapping(job.environment);
    const name = evaluate(wanted, scope);
    const deployment = evaluate(makes, scope);
    if (name === '' || name === null) return undefined;
    const environment = this.#request.environments?.[asText(name)];
    if (environment === undefined) {
      throw new HarnessError(`job ${path} wants the environment ${JSON.stringify(name)}, which the test did not give`);
    }
    const { review } = environment;
    this.#environments.push({ job: path, name: asText(name), review, deployment: deployment === true });
    return { ...environment, name: asText(name) };
  }

  async #runSteps(
    job: StepsJob,
    called: Called,
    jobScope: Scope,
    path: string,
    environment: (Environment & { readonly name: string }) | undefined,
  ): Promise<Partial<JobResult> & Pick<JobResult, 'result'>> {
    // An environment's secrets stay in its own repository: https://github.com/actions/runner/issues/3206
    const isOwn = ownerOf(called.source) === ownerOf(this.#request.repository);
    const own = isOwn ? (environment?.secrets ?? {}) : {};
    const secrets: Record<string, string> = {
      ...called.secrets,
      ...(called.workflow.call === undefined || called.prefix === ''
        ? own
        : Object.fromEntries(Object.entries(own).filter(([name]) => name in called.secrets))),
    };
    const scope: Scope = {
      ...jobScope,
      contexts: {
        ...jobScope.contexts,
        secrets,
        vars: { ...this.#request.variables, ...environment?.variables },
      },
    };
    const env = evaluateTexts({ ...called.workflow.env, ...job.env }, scope);
    const labels = evaluate(job.runsOn, scope);
    const isSelfHosted = (Array.isArray(labels) ? labels : [labels]).includes('self-hosted');
    if (isSelfHosted && this.#request.selfHosted === undefined) {
      throw new HarnessError(`job ${path} wants a self-hosted runner, which the test did not give`);
    }
    const minutes =
      job.timeoutMinutes === undefined ? DEFAULT_TIMEOUT_MINUTES : Number(evaluate(job.timeoutMinutes, scope));
    const until = performance.now() + minutes * (this.#request.minuteMs ?? 60_000);
    const { event, ...plain }: Record<string, Json> = {
      ...(scope.contexts['github'] as Record<string, Json>),
      job: job.id,
    };
    const runner = await Job.open({
      env,
      secrets: Object.values(secrets).filter((value) => value !== ''),
      github: omit(mapValues(plain, asText), ['workspace', 'event_path']),
      event: event as Record<string, Json>,
      limitSeconds: PROCESS_LIMIT_SECONDS,
      path: this.#request.path ?? [],
    });
    const steps: StepResult[] = [];
    const contexts: Record<string, Json> = {};
    const lenient = new Set(scope.lenient);
    let status: Result = 'success';
    try {
      for (const step of job.steps) {
        const stepScope: Scope = {
          contexts: {
            ...scope.contexts,
            github: { ...(scope.contexts['github'] as Record<string, Json>), job: job.id, workspace: runner.workspace },
            steps: contexts,
            env: { ...runner.env },
            job: { status },
            runner: { os: 'Linux', environment: 'self-hosted' },
          },
          functions: statusFunctions([status], this.#cancelled || status === 'cancelled'),
          lenient,
        };
        const declared = await this.#declaredOutputs(step, called.source, runner);
        if (declared === undefined) lenient.add(`steps.${step.id}.outputs`);
        const done = holds(step.condition, stepScope)
          ? await this.#runStep(step, { called, runner, path, until, isSelfHosted }, stepScope)
          : { label: step.label, outcome: 'skipped' as const, outputs: {}, log: '', run: undefined };
        if (done.outcome === 'cancelled' || (done.outcome === 'failure' && status === 'success')) status = done.outcome;
        steps.push(done);
        if (step.id !== '') {
          const outputs = { ...Object.fromEntries((declared ?? []).map((name) => [name, ''])), ...done.outputs };
          contexts[step.id] = { outcome: done.outcome, conclusion: done.outcome, outputs };
        }
      }
    } catch (error) {
      await runner.abandon();
      throw error;
    }
    const outputScope = { ...scope, contexts: { ...scope.contexts, steps: contexts, env: { ...runner.env } }, lenient };
    const outputs = evaluateTexts(job.outputs, outputScope);
    const url = job.environment === undefined ? '' : evaluateText(asMapping(job.environment)['url'], outputScope);
    for (const [name, value] of Object.entries(outputs)) {
      if (runner.mask(value) !== value)
        throw new HarnessError(`GitHub drops the output ${name} of ${path}: a secret is in it`);
    }
    const { posts } = await runner.close();
    if (status === 'success' && posts.some((post) => post.outcome === 'failure')) status = 'failure';
    const runs = [...steps.flatMap((step) => step.run ?? []), ...posts];
    return {
      result: status,
      outputs,
      steps,
      timeoutMinutes: minutes,
      environment: environment?.name ?? '',
      environmentUrl: url,
      summary: runs.map((run) => run.summary).join('\n'),
      log: [...steps.map((step) => step.log), ...posts.map((post) => post.log)].join('\n'),
    };
  }

  /** @returns undefined where a step may set what it likes */
  async #declaredOutputs(step: WorkflowStep, source: Repository, runner: Job): Promise<readonly string[] | undefined> {
    if (step.uses === undefined) return undefined;
    const known = OTHERS[step.uses];
    if (known !== undefined) return known.outputs;
    return (await readManifest(this.#actionFolder(step.uses, source, runner))).outputs.map((output) => output.name);
  }

  #actionFolder(uses: string, source: Repository, runner: Job): string {
    // `./` is the checkout: in a reusable workflow, the caller's.
    if (uses.startsWith('./')) return join(runner.workspace, uses);
    const found = this.#resolve(uses, source);
    return join(found.source.folder, found.path);
  }

  async #runStep(
    step: WorkflowStep,
    { called, runner, path, until, isSelfHosted }: RunningJob,
    bare: Scope,
  ): Promise<StepResult> {
    const env = evaluateTexts(step.env, bare);
    const scope: Scope = { ...bare, contexts: { ...bare.contexts, env: { ...runner.env, ...env } } };
    const { cancel } = this.#request;
    const isCancelled = cancel?.job === path && cancel.step === step.label;
    if (isCancelled) this.#cancelled = true;
    const cancelAfter = isCancelled ? cancel.when : Math.max(until - performance.now(), 0);
    const finish = (run: StepRun): StepResult => ({
      label: step.label,
      outcome: run.outcome === 'lost' ? 'failure' : run.outcome,
      outputs: run.outputs,
      log: run.log,
      run,
    });
    const showGithub = () => mapValues({ ...(scope.contexts['github'] as Record<string, Json>), event: '' }, asText);
    if (step.uses === undefined) {
      if (isSelfHosted) throw new HarnessError(`${path}: a script on a self-hosted runner is not supported`);
      return finish(await runner.script({ script: evaluateText(step.run, scope), env, cancelAfter }));
    }
    const inputs = evaluateTexts(step.with, scope);
    const known = OTHERS[step.uses];
    if (known === undefined) {
      const action = this.#actionFolder(step.uses, called.source, runner);
      if (isSelfHosted && this.#request.selfHosted !== undefined) {
        const { workspace } = runner;
        const done = await this.#request.selfHosted.run(action, { with: inputs, env, github: showGithub(), workspace });
        if (done.outcome === 'failure') runner.note('failure');
        return { ...done, log: runner.mask(done.log), label: step.label, run: undefined };
      }
      return finish(await runner.step({ action, with: inputs, env, cancelAfter }));
    }
    const standIn = this.#request.standIns?.find((one) => one.uses === step.uses);
    if (standIn === undefined) throw new HarnessError(`nothing stands in for ${step.uses}`);
    for (const name of Object.keys(inputs)) {
      if (!known.inputs.includes(name)) throw new HarnessError(`${step.uses} has no input ${name}`);
    }
    try {
      const github = showGithub();
      const outputs = await standIn.run({
        with: inputs,
        workspace: runner.workspace,
        env: scope.contexts['env'] as Record<string, string>,
        github,
      });
      for (const name of Object.keys(outputs)) {
        if (!known.outputs.includes(name)) throw new HarnessError(`${step.uses} has no output ${name}`);
      }
      return { label: step.label, outcome: 'success', outputs, log: '', run: undefined };
    } catch (error) {
      if (error instanceof HarnessError) throw error;
      runner.note('failure');
      const log = `Error: ${runner.mask(error instanceof Error ? error.message : String(error))}`;
      return { label: step.label, outcome: 'failure', outputs: {}, log, run: undefined };
    }
  }
}

async function read(repository: Repository, path: string): Promise<Workflow> {
  const file = join(repository.folder, path);
  if (!existsSync(file)) throw new HarnessError(`${repository.name} has no ${path}`);
  return readWorkflow(path, await readFile(file, 'utf8'));
}

const asMapping = (environment: Template): Mapping =>
  typeof environment === 'object' && environment !== null && !(environment instanceof Expression)
    ? (environment as Mapping)
    : { name: environment };

const ownerOf = ({ name }: Repository): string => (name.split('/')[0] ?? '').toLowerCase();

/** Jobs after those that they need. @throws HarnessError for a need that is not there, or a circle */
function inOrder({ jobs, path }: Workflow): WorkflowJob[] {
  const ordered: WorkflowJob[] = [];
  let left = [...jobs];
  while (left.length > 0) {
    const ready = left.filter((job) => job.needs.every((id) => ordered.some((done) => done.id === id)));
    if (ready.length === 0)
      throw new HarnessError(`${path}: nothing gives what ${left.map((job) => job.id).join(', ')} need`);
    ordered.push(...ready);
    left = left.filter((job) => !ready.includes(job));
  }
  return ordered;
}

/** Everything that must have been before it; its `success()` asks all of them. */
function ancestors(job: WorkflowJob, workflow: Workflow): string[] {
  const found = new Set<string>();
  const visit = (id: string): void => {
    if (found.has(id)) return;
    found.add(id);
    for (const next of workflow.jobs.find((one) => one.id === id)?.needs ?? []) visit(next);
  };
  for (const id of job.needs) visit(id);
  return [...found];
}

function statusFunctions(before: readonly Result[], cancelled: boolean): Record<string, () => boolean> {
  return {
    always: () => true,
    cancelled: () => cancelled,
    failure: () => !cancelled && before.includes('failure'),
    success: () => !cancelled && before.every((one) => one === 'success'),
  };
}

/** A job that was left out or failed has no outputs, or not all; one that went well has exactly what it declares. */
function lenientOutputs(context: string, jobs: Readonly<Record<string, Finished>>, base: Scope): ReadonlySet<string> {
  const unsure = Object.entries(jobs).filter(([, { result }]) => result !== 'success');
  return new Set([...(base.lenient ?? []), ...unsure.map(([id]) => `${context}.${id}.outputs`)]);
}

function mapValues<T, R>(
  values: Readonly<Record<string, T>>,
  change: (value: T, name: string) => R,
): Record<string, R> {
  return Object.fromEntries(Object.entries(values).map(([name, value]) => [name, change(value, name)]));
}

function omit(values: Readonly<Record<string, string>>, names: readonly string[]): Record<string, string> {
  return Object.fromEntries(Object.entries(values).filter(([name]) => !names.includes(name)));
}
