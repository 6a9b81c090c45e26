/**
 * A job: what its steps share on a runner. One folder tree, one environment, one set of masks, one tracking id, and the
 * `post` parts that wait for the end. `runAction` makes a job of one step; a workflow would make one of many.
 */
import { randomUUID } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { isAbsolute, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type ActionManifest, readManifest } from './action-manifest.ts';
import { evaluateTemplate } from './expressions.ts';
import { FileCommandError, FileCommands, SUMMARY_LIMIT } from './file-commands.ts';
import { githubContext } from './github-context.ts';
import { HarnessError } from './harness-error.ts';
import { findNode24 } from './node-binary.ts';
import { NodeProcess, type ProcessEnd, type SentSignal } from './node-process.ts';
import { killTracked, type Orphan } from './orphans.ts';
import { SecretMasker } from './secret-masker.ts';
import { type Annotation, type LogEntry, StepLog } from './step-log.ts';
import { CommandReader, type Unsupported } from './workflow-commands.ts';

const REPOSITORY = fileURLToPath(new URL('../../../', import.meta.url));

/** A file that an action left, longer than this, is cut in `leftFiles`. */
const LEFT_FILE_LIMIT = 1024 * 1024;

/**
 * When to cancel or kill: after so many milliseconds, at the first line of raw output that matches, or when a function's
 * promise resolves.
 */
export type Trigger = number | RegExp | ((running: RunningAction) => Promise<void> | void);

/** The process under way, for triggers. */
export interface RunningAction {
  readonly pid: number;
  /** Raw lines of both streams so far, unmasked. */
  readonly lines: readonly string[];
  /** Waits for a raw line, past ones included. Never resolves if none comes. */
  line(pattern: RegExp): Promise<string>;
}

export interface JobOptions {
  /** The checkout. Default: an empty folder that goes with the job. */
  readonly workspace?: string;
  /** Values of the `secrets` context: masked from the start. */
  readonly secrets?: readonly string[];
  /** The job's `env:`. The rest of the environment is the runner's, nothing is inherited from this process. */
  readonly env?: Readonly<Record<string, string>>;
  /** Folders with programs that a hosted runner has, before the machine's own. */
  readonly path?: readonly string[];
  /** Overrides of the `github` context: `{ sha: '...', ref: '...', api_url: '...' }`. */
  readonly github?: Readonly<Record<string, string>>;
  /** The event's payload, as in the file at GITHUB_EVENT_PATH. Default: an empty one. */
  readonly event?: Readonly<Record<string, unknown>>;
  /** As if the run had been started with debug logging. */
  readonly debug?: boolean;
  /** Multiplies the times of the cancel sequence; 1, the default, is the truth. */
  readonly timeScale?: number;
  /** Bound on each process, in seconds; when it passes, everything is killed and HarnessError thrown. Default 120. */
  readonly limitSeconds?: number;
  /** Return what is not supported in `unsupported` instead of throwing. */
  readonly allowUnsupported?: boolean;
  /** Each entry of the log as it comes, masked. */
  readonly onEntry?: (entry: LogEntry) => void;
}

export interface StepRequest extends Faults {
  /** The action's folder: from the repository's root, or absolute. */
  readonly action: string;
  readonly with?: Readonly<Record<string, string>>;
  /** The step's `env:`. */
  readonly env?: Readonly<Record<string, string>>;
}

export interface ScriptRequest extends Faults {
  /** What `run:` says, its expressions evaluated. */
  readonly script: string;
  /** The step's `env:`. */
  readonly env?: Readonly<Record<string, string>>;
}

export interface Faults {
  /** Cancels the run as GitHub does: SIGINT, 7.5 s, SIGTERM, 2.5 s, SIGKILL; then `post`. */
  readonly cancelAfter?: Trigger | undefined;
  /** SIGKILL for the action's process only, as the kernel does when memory is short; then `post`. */
  readonly killAfter?: Trigger | undefined;
  /** The machine goes away: SIGKILL for everything of the job; no `post`, no outputs. */
  readonly loseAfter?: Trigger | undefined;
}

export type Outcome = 'success' | 'failure' | 'cancelled' | 'lost';

/** What one process of an action did. */
export interface StepRun {
  readonly outcome: Outcome;
  /** 128 + signal number where a signal ended it. */
  readonly exitCode: number;
  readonly signal: NodeJS.Signals | null;
  /** As a person sees it in the browser: masked, groups open, `Error: ` and the like before annotations. */
  readonly log: string;
  readonly entries: readonly LogEntry[];
  readonly annotations: readonly Annotation[];
  readonly outputs: Readonly<Record<string, string>>;
  /** Outputs that hold a masked value: GitHub would not hand them to another job. */
  readonly droppedOutputs: readonly string[];
  readonly state: Readonly<Record<string, string>>;
  /** Markdown, masked line by line as GitHub does. */
  readonly summary: string;
  /** What was registered as a secret: the job's and by `::add-mask::`. */
  readonly masks: readonly string[];
  /** Raw, for leak tests. */
  readonly stdout: string;
  readonly stderr: string;
  readonly unsupported: readonly Unsupported[];
  /** The process ended with commands still stopped. */
  readonly commandsStopped: boolean;
  readonly pid: number;
  readonly startedAt: Date;
  readonly firstOutputMs: number | undefined;
  readonly durationMs: number;
  readonly peakRssBytes: number;
  /** What the harness sent to the process. */
  readonly signals: readonly SentSignal[];
}

export interface JobEnd {
  /** In the order they ran: the last step's first. */
  readonly posts: readonly StepRun[];
  /** Processes that outlived the job's steps, and were killed. */
  readonly orphans: readonly Orphan[];
  /** Files that the actions left in HOME, RUNNER_TEMP and /tmp's stand-in TMPDIR: name to text. */
  readonly leftFiles: Readonly<Record<string, string>>;
}

interface Post {
  readonly manifest: ActionManifest;
  readonly task: Task;
  readonly state: Readonly<Record<string, string>>;
}

/** One process, and what the runner says and takes of it. */
interface Task {
  /** As a person reads it. */
  readonly name: string;
  readonly title: string;
  readonly program: string;
  readonly args: readonly string[];
  readonly inputs: ReadonlyMap<string, string>;
  /** The step's `env:`. */
  readonly env: Readonly<Record<string, string>>;
  /** Those that action.yml declares; undefined where anything may be set (`run:`). */
  readonly outputs: readonly string[] | undefined;
  /** Messages for inputs that are given and deprecated. */
  readonly deprecations: readonly string[];
}

export class Job {
  readonly trackingId = `github_${randomUUID()}`;
  readonly workspace: string;
  readonly #root: string;
  readonly #options: JobOptions;
  readonly #masker = new SecretMasker();
  readonly #github: Readonly<Record<string, string>>;
  /** What steps added through GITHUB_ENV and GITHUB_PATH. */
  readonly #addedEnv: Record<string, string> = {};
  readonly #addedPath: string[] = [];
  readonly #posts: Post[] = [];
  #status: Outcome = 'success';

  static async open(options: JobOptions = {}): Promise<Job> {
    const root = await mkdtemp(join(tmpdir(), 'slipway-runner-'));
    for (const folder of ['home', 'temp', 'tools', 'tmp', 'work']) await mkdir(join(root, folder));
    await mkdir(join(root, 'temp', '_github_workflow'));
    await writeFile(join(root, 'temp', '_github_workflow', 'event.json'), JSON.stringify(options.event ?? {}));
    return new Job(root, options);
  }

  private constructor(root: string, options: JobOptions) {
    this.#root = root;
    this.#options = options;
    this.workspace = options.workspace === undefined ? join(root, 'work') : resolve(options.workspace);
    this.#github = { ...githubContext(this.workspace, root), ...options.github };
    for (const secret of options.secrets ?? []) this.#masker.add(secret);
    this.#masker.add(this.#github['token'] ?? '');
  }

  /** Runs the main part of an action; its `post`, if it has one, waits for `close`. */
  async step(request: StepRequest): Promise<StepRun> {
    const manifest = await readManifest(
      isAbsolute(request.action) ? request.action : resolve(REPOSITORY, request.action),
    );
    const inputs = this.#inputs(manifest, request.with ?? {});
    const task: Task = {
      name: manifest.name,
      title: `Run ./${relative(REPOSITORY, manifest.folder)}`,
      program: findNode24(),
      args: [join(manifest.folder, manifest.main)],
      inputs,
      env: request.env ?? {},
      outputs: manifest.outputs.map((output) => output.name),
      deprecations: manifest.inputs.flatMap(({ name, deprecationMessage }) =>
        deprecationMessage === undefined || !inputs.get(name)
          ? []
          : [`Input '${name}' has been deprecated with message: ${deprecationMessage}`],
      ),
    };
    const run = await this.#run(task, 'main', {}, request);
    if (run.outcome !== 'success') this.#status = run.outcome;
    if (manifest.post !== undefined) {
      const post = { ...task, args: [join(manifest.folder, manifest.post)] };
      this.#posts.unshift({ manifest, task: post, state: run.state });
    }
    return run;
  }

  /** Runs a `run:` step, in bash as `shell: bash` says. */
  async script(request: ScriptRequest): Promise<StepRun> {
    const file = join(this.#root, 'temp', `${randomUUID()}.sh`);
    await writeFile(file, request.script);
    const task: Task = {
      name: 'run',
      title: `Run ${request.script.split('\n')[0] ?? ''}`,
      program: 'bash',
      // https://docs.github.com/actions/reference/workflows-and-actions/workflow-syntax#jobsjob_idstepsshell
      args: ['--noprofile', '--norc', '-e', '-o', 'pipefail', file],
      inputs: new Map(),
      env: request.env ?? {},
      outputs: undefined,
      deprecations: [],
    };
    const run = await this.#run(task, 'main', {}, request);
    await rm(file);
    if (run.outcome !== 'success') this.#status = run.outcome;
    return run;
  }

  /** The job's `env:`, and what steps added to it. */
  get env(): Readonly<Record<string, string>> {
    return { ...this.#options.env, ...this.#addedEnv };
  }

  /** A step that ran elsewhere (a stand-in) ended so. */
  note(outcome: Outcome): void {
    if (outcome !== 'success') this.#status = outcome;
  }

  mask(text: string): string {
    return this.#masker.mask(text);
  }

  /** The end of the job: every `post` that its `post-if` allows, then what still runs is killed, and the folders go. */
  async close(): Promise<JobEnd> {
    const posts: StepRun[] = [];
    try {
      for (const post of this.#status === 'lost' ? [] : this.#posts) {
        if (!allows(post.manifest, this.#status)) continue;
        posts.push(await this.#run(post.task, 'post', post.state, {}));
      }
      return { posts, orphans: killTracked(this.trackingId), leftFiles: await this.#leftFiles() };
    } finally {
      await this.abandon();
    }
  }

  /** After a fault of the harness: no `post`, everything is killed and removed. */
  async abandon(): Promise<void> {
    killTracked(this.trackingId);
    await rm(this.#root, { recursive: true, force: true });
  }

  #inputs(manifest: ActionManifest, given: Readonly<Record<string, string>>): ReadonlyMap<string, string> {
    // The runner compares names without regard to case, and only warns of an unknown one. A test must not go on.
    const known = new Set(manifest.inputs.map((input) => input.name.toLowerCase()));
    const unknown = Object.keys(given).filter((name) => !known.has(name.toLowerCase()));
    if (unknown.length > 0) {
      throw new HarnessError(
        `Unexpected input(s) '${unknown.join("', '")}', valid inputs are ['${manifest.inputs.map((input) => input.name).join("', '")}']`,
      );
    }
    const inputs = new Map(Object.entries(given));
    const has = new Set([...inputs.keys()].map((name) => name.toLowerCase()));
    for (const input of manifest.inputs) {
      // `required` is a word for people: the runner passes an empty text.
      if (!has.has(input.name.toLowerCase())) {
        inputs.set(input.name, evaluateTemplate(input.default ?? '', { github: this.#github }));
      }
    }
    return inputs;
  }

  async #run(
    task: Task,
    stage: 'main' | 'post',
    state: Readonly<Record<string, string>>,
    faults: Faults,
  ): Promise<StepRun> {
    const log = new StepLog(this.#masker, this.#options.onEntry);
    const reader = new CommandReader(log, this.#masker);
    const files = await FileCommands.create(join(this.#root, 'temp'));
    const isPost = stage === 'post';
    this.#announce(log, task, isPost);

    const lines: string[] = [];
    const listeners = new Set<(line: string) => void>();
    const child = await NodeProcess.start({
      program: task.program,
      args: task.args,
      cwd: this.workspace,
      env: this.#environment(task, state, files),
      timeScale: this.#options.timeScale ?? 1,
      onLine: (line) => {
        lines.push(line);
        reader.read(line);
        for (const listener of listeners) listener(line);
      },
    });
    const running: RunningAction = {
      pid: child.pid,
      lines,
      line: async (pattern) => {
        const past = lines.find((line) => pattern.test(line));
        if (past !== undefined) return past;
        return await new Promise<string>((found) => {
          const listener = (line: string): void => {
            if (!pattern.test(line)) return;
            listeners.delete(listener);
            found(line);
          };
          listeners.add(listener);
        });
      },
    };

    const { end, fault } = await this.#watch(child, running, faults, log);
    const results = fault === 'lost' ? NOTHING : await this.#readFiles(files, log, task, isPost);
    const unsupported = [...reader.unsupported, ...results.unsupported];
    const run: StepRun = {
      ...end,
      outcome: fault ?? (end.exitCode !== 0 || reader.failed || results.failed ? 'failure' : 'success'),
      log: log.render({ debug: this.#options.debug === true }),
      entries: log.entries,
      annotations: log.annotations,
      outputs: results.outputs,
      droppedOutputs: Object.entries(results.outputs)
        .filter(([, value]) => this.#masker.mask(value) !== value)
        .map(([name]) => name),
      state: { ...state, ...results.state },
      summary: results.summary,
      masks: [...this.#masker.values],
      unsupported,
      commandsStopped: reader.stopped,
      pid: child.pid,
    };
    if (unsupported.length > 0 && this.#options.allowUnsupported !== true) {
      throw new HarnessError(
        `${task.name} did what the harness does not support:\n${unsupported.map((one) => `- ${one.what}: ${one.text}`).join('\n')}`,
        run.log,
      );
    }
    return run;
  }

  /** What the runner prints before it starts an action. */
  #announce(log: StepLog, task: Task, isPost: boolean): void {
    if (isPost) {
      log.write('line', 'Post job cleanup.');
      return;
    }
    log.write('group', task.title);
    const given = [...task.inputs].filter(([, value]) => value !== '');
    if (given.length > 0) log.write('line', 'with:');
    for (const [name, value] of given) log.write('line', `  ${name}: ${value}`);
    const variables = Object.entries({ ...this.env, ...task.env });
    if (variables.length > 0) log.write('line', 'env:');
    for (const [name, value] of variables) log.write('line', `  ${name}: ${value}`);
    log.write('endgroup', '');
    for (const message of task.deprecations) {
      log.annotate({ type: 'warning', title: '', message, file: '', shown: true });
    }
  }

  #environment(task: Task, state: Readonly<Record<string, string>>, files: FileCommands): Record<string, string> {
    const variables: Record<string, string> = {
      HOME: join(this.#root, 'home'),
      TMPDIR: join(this.#root, 'tmp'),
      LANG: 'C.UTF-8',
      USER: 'runner',
      CI: 'true',
      ...this.env,
      ...task.env,
      GITHUB_ACTIONS: 'true',
      GITHUB_ACTION: task.name.replace(/[^A-Za-z0-9]/g, '_'),
      GITHUB_WORKSPACE: this.workspace,
      RUNNER_NAME: 'slipway-harness',
      RUNNER_ENVIRONMENT: 'self-hosted',
      RUNNER_OS: 'Linux',
      RUNNER_ARCH: process.arch === 'arm64' ? 'ARM64' : 'X64',
      RUNNER_TEMP: join(this.#root, 'temp'),
      RUNNER_TOOL_CACHE: join(this.#root, 'tools'),
      RUNNER_WORKSPACE: resolve(this.workspace, '..'),
      RUNNER_TRACKING_ID: this.trackingId,
      ...(this.#options.debug === true ? { RUNNER_DEBUG: '1' } : {}),
      ...files.environment,
    };
    for (const [key, value] of Object.entries(this.#github)) {
      // The token is in the context only: an action gets it as an input or not at all.
      if (key !== 'token') variables[`GITHUB_${key.toUpperCase()}`] = value;
    }
    for (const [name, value] of task.inputs) variables[`INPUT_${name.replaceAll(' ', '_').toUpperCase()}`] = value;
    for (const [name, value] of Object.entries(state)) variables[`STATE_${name}`] = value;
    const path = variables['PATH'] ?? '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
    variables['PATH'] = [...this.#addedPath.toReversed(), ...(this.#options.path ?? []), path].join(':');
    return variables;
  }

  /** Waits for the end of the process, and brings about what the test asked for. */
  async #watch(
    child: NodeProcess,
    running: RunningAction,
    faults: Faults,
    log: StepLog,
  ): Promise<{ readonly end: ProcessEnd; readonly fault: 'cancelled' | 'lost' | undefined }> {
    const limitSeconds = this.#options.limitSeconds ?? 120;
    const over = new AbortController();
    let fault: 'cancelled' | 'lost' | undefined;
    let failure: Error | undefined;
    const killAll = (): void => {
      child.signal('SIGKILL');
      killTracked(this.trackingId);
    };
    const limit = setTimeout(() => {
      failure = new HarnessError(`the action did not end within ${limitSeconds} s and was killed`, log.render());
      killAll();
    }, limitSeconds * 1000);

    const arm = async (
      trigger: Trigger | undefined,
      name: keyof Faults,
      strike: () => Promise<void>,
    ): Promise<void> => {
      if (trigger === undefined) return;
      try {
        const struck = await Promise.race([
          triggered(trigger, running, over.signal),
          child.end.then(() => 'ended' as const),
        ]);
        if (struck === 'ended' || child.hasEnded) {
          if (typeof trigger !== 'number') {
            failure ??= new HarnessError(`the action ended before ${name} came: ${String(trigger)}`, log.render());
          }
          return;
        }
        await strike();
      } catch (error) {
        failure ??= error instanceof Error ? error : new Error(String(error));
        killAll();
      }
    };
    const armed = [
      arm(faults.cancelAfter, 'cancelAfter', async () => {
        fault ??= 'cancelled';
        await child.cancel();
      }),
      arm(faults.killAfter, 'killAfter', () => {
        child.signal('SIGKILL');
        return Promise.resolve();
      }),
      arm(faults.loseAfter, 'loseAfter', () => {
        fault = 'lost';
        killAll();
        return Promise.resolve();
      }),
    ];
    const end = await child.end;
    clearTimeout(limit);
    over.abort();
    await Promise.all(armed);
    if (failure) {
      killTracked(this.trackingId);
      throw failure;
    }
    if (fault === 'cancelled') {
      log.annotate({ type: 'error', title: '', message: 'The operation was canceled.', file: '', shown: true });
    }
    return { end, fault };
  }

  async #readFiles(files: FileCommands, log: StepLog, task: Task, isPost: boolean): Promise<Results> {
    const unsupported: Unsupported[] = [];
    let failed = false;
    const complain = (message: string): void => {
      log.annotate({ type: 'error', title: '', message, file: '', shown: true });
    };
    const read = async (name: 'output' | 'state' | 'env'): Promise<ReadonlyMap<string, string>> => {
      try {
        return await files.pairs(name);
      } catch (error) {
        if (!(error instanceof FileCommandError)) throw error;
        complain(`Unable to process file command '${name}' successfully.`);
        complain(error.message);
        failed = true;
        return new Map();
      }
    };
    const outputs = await read('output');
    const state = await read('state');
    for (const name of outputs.keys()) {
      if (task.outputs !== undefined && !task.outputs.includes(name)) {
        unsupported.push({ what: 'an output that action.yml does not declare', text: name });
      }
    }
    if (isPost && outputs.size > 0)
      unsupported.push({ what: 'outputs set by post', text: [...outputs.keys()].join(', ') });
    for (const [name, value] of await read('env')) {
      if (name.toUpperCase() === 'NODE_OPTIONS') {
        complain("Can't store NODE_OPTIONS output parameter using '$GITHUB_ENV' command.");
        failed = true;
      } else this.#addedEnv[name] = value;
    }
    this.#addedPath.push(...(await files.lines('path')));

    let summary = await files.summary();
    const size = Buffer.byteLength(summary);
    if (size > SUMMARY_LIMIT) {
      complain(
        `$GITHUB_STEP_SUMMARY upload aborted, supports content up to a size of ${SUMMARY_LIMIT / 1024}k, got ${Math.floor(size / 1024)}k.`,
      );
      summary = '';
    }
    return {
      outputs: Object.fromEntries(outputs),
      state: Object.fromEntries(state),
      summary: summary
        .split('\n')
        .map((line) => this.#masker.mask(line))
        .join('\n'),
      failed,
      unsupported,
    };
  }

  async #leftFiles(): Promise<Record<string, string>> {
    const left: Record<string, string> = {};
    for (const folder of ['home', 'temp', 'tmp']) {
      for (const entry of await readdir(join(this.#root, folder), { recursive: true, withFileTypes: true })) {
        const path = join(entry.parentPath, entry.name);
        const name = relative(this.#root, path);
        if (!entry.isFile() || /^temp\/_(runner_file_commands|github_workflow)\//.test(name)) continue;
        const { size } = await stat(path);
        left[name] = (await readFile(path)).subarray(0, Math.min(size, LEFT_FILE_LIMIT)).toString('latin1');
      }
    }
    return left;
  }
}

interface Results {
  readonly outputs: Readonly<Record<string, string>>;
  readonly state: Readonly<Record<string, string>>;
  readonly summary: string;
  readonly failed: boolean;
  readonly unsupported: readonly Unsupported[];
}

const NOTHING: Results = { outputs: {}, state: {}, summary: '', failed: false, unsupported: [] };

async function triggered(trigger: Trigger, running: RunningAction, over: AbortSignal): Promise<'now'> {
  if (typeof trigger === 'function') await trigger(running);
  else if (trigger instanceof RegExp) await running.line(trigger);
  else {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, trigger);
      over.addEventListener('abort', () => {
        clearTimeout(timer);
        resolve();
      });
    });
  }
  return 'now';
}

/** @throws HarnessError for a condition other than the three that need no evaluation */
function allows(manifest: ActionManifest, status: Outcome): boolean {
  switch (manifest.postIf.replace(/^\$\{\{\s*(.*?)\s*\}\}$/, '$1')) {
    case 'always()':
      return true;
    case 'success()':
      return status === 'success';
    case 'failure()':
      return status === 'failure';
    default:
      throw new HarnessError(`post-if: ${manifest.postIf} is not supported; always(), success() and failure() are`);
  }
}
