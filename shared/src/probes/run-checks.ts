/** All checks at once, every one to its end. */
import { CancelledError, SlipwayError } from '../errors';
import type { Clock, Dial, Http, Session } from '../ports';
import { excerptEnd } from '../shell/excerpt';
import {
  type Check,
  type CommandCheck,
  type ContainerCheck,
  describeTarget,
  listVantages,
  type Vantage,
} from './check-model';
import { type ContainerState, inspectContainers, judgeService, parseContainers } from './container';
import { attemptEndpoint } from './endpoint';
import { attemptHttp } from './http';
import { type CheckResult, pollCheck } from './poll';
import { failed, passed, type Verdict } from './verdict';

export interface CheckPorts {
  readonly http: Http;
  readonly clock: Clock;
  readonly signal?: AbortSignal | undefined;
  /** Needed for checks via ssh: the session, or why there is none. Then those checks fail with it, and the others are made all the same. */
  readonly session?: Session | SlipwayError | undefined;
  /** What a check of a service is to see of its project's containers. A deploy knows more of them than Docker says. */
  readonly view?: ((containers: readonly ContainerState[]) => readonly ContainerState[]) | undefined;
  /** Called as each check ends. */
  readonly onResult?: (result: CheckResult) => void;
}

/** Connections at a time. */
const MAX_PARALLEL = 16;

/** sshd's MaxSessions is 10 by default, and a command takes one (a forwarded connection does not): some are left to others. */
const MAX_PARALLEL_COMMANDS = 6;

interface Task {
  readonly check: Check;
  readonly vantage: Vantage;
}

/**
 * Makes every check from each of its vantages, in parallel, and waits for all of them. Results are in the order of the
 * checks, the server's vantage before the runner's.
 *
 * @throws CancelledError
 */
export async function runChecks(checks: readonly Check[], ports: CheckPorts): Promise<CheckResult[]> {
  const tasks = checks.flatMap((check) => listVantages(check).map((vantage) => ({ check, vantage })));
  const isCommand = ({ check }: Task): boolean => check.kind === 'container' || check.kind === 'command';
  const results = new Map<Task, CheckResult>();
  const work = async (queue: Task[]): Promise<void> => {
    for (let task = queue.shift(); task !== undefined; task = queue.shift()) {
      const result = await runCheck(task.check, task.vantage, ports);
      results.set(task, result);
      ports.onResult?.(result);
    }
  };
  const start = (queue: Task[], limit: number): Promise<void>[] =>
    Array.from({ length: Math.min(limit, queue.length) }, () => work(queue));
  await Promise.all([
    ...start(tasks.filter(isCommand), MAX_PARALLEL_COMMANDS),
    ...start(
      tasks.filter((task) => !isCommand(task)),
      MAX_PARALLEL,
    ),
  ]);
  return tasks.flatMap((task) => results.get(task) ?? []);
}

/** One check from one vantage. @throws CancelledError */
export async function runCheck(check: Check, vantage: Vantage, ports: CheckPorts): Promise<CheckResult> {
  const { http, clock, signal, session, view } = ports;
  if (vantage === 'ssh' && (session === undefined || session instanceof SlipwayError)) {
    const lastVerdict =
      session === undefined
        ? failed('there is no SSH connection to make it from')
        : failed(`not made, no SSH connection: ${session.message}`, session.hint);
    return { check, vantage, ok: false, attempts: 0, lastVerdict, latenciesMs: [], durationMs: 0 };
  }
  const server = vantage === 'ssh' && !(session instanceof SlipwayError) ? session : undefined;
  const dial: Dial | undefined = server && ((host, port) => server.dial(host, port));
  const environment = { http, clock, signal, dial };
  const attemptOnce = async (timeoutSeconds: number): Promise<Verdict> => {
    if (signal?.aborted === true) throw new CancelledError('The workflow was cancelled.', '');
    switch (check.kind) {
      case 'http':
        return attemptHttp(check, timeoutSeconds, environment);
      case 'tcp':
      case 'tls':
        return attemptEndpoint(check, timeoutSeconds, environment);
      case 'container':
        return server === undefined ? failed(ONLY_SSH) : attemptContainer(check, timeoutSeconds, server, signal, view);
      case 'command':
        return server === undefined ? failed(ONLY_SSH) : attemptCommand(check, timeoutSeconds, server, signal);
    }
  };
  const result = await pollCheck(check, vantage, attemptOnce, clock, signal);
  return result.ok || vantage !== 'runner'
    ? result
    : { ...result, lastVerdict: addLoopbackHint(check, result.lastVerdict) };
}

const ONLY_SSH = 'can only be made on the server';

async function attemptContainer(
  check: ContainerCheck,
  timeoutSeconds: number,
  session: Session,
  signal: AbortSignal | undefined,
  view: CheckPorts['view'] = (containers) => containers,
): Promise<Verdict> {
  const { exitCode, stdout, stderr } = await session.run(inspectContainers(check.project), {
    timeoutSeconds,
    accept: 'any',
    purpose: `look at the containers of project ${check.project}`,
    ...(signal === undefined ? {} : { signal }),
  });
  if (exitCode !== 0) return failed(`Docker could not be asked (exit code ${exitCode})`, excerptEnd(stderr));
  try {
    return judgeService(check.service, check.project, view(parseContainers(stdout)), check);
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    return failed(error.message);
  }
}

async function attemptCommand(
  check: CommandCheck,
  timeoutSeconds: number,
  session: Session,
  signal: AbortSignal | undefined,
): Promise<Verdict> {
  const completed = await session.run(
    { words: ['sh', '-c', check.command] },
    {
      timeoutSeconds,
      accept: 'any',
      purpose: `run ${describeTarget(check)}`,
      ...(signal === undefined ? {} : { signal }),
    },
  );
  return judgeCommand(completed);
}

/** Exit code 0 passes. The end of the output tells more than its beginning. Pure. */
export function judgeCommand(completed: {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}): Verdict {
  const output = [excerptEnd(completed.stdout, 240), excerptEnd(completed.stderr, 240)]
    .filter((text) => text !== '')
    .join(' ');
  return completed.exitCode === 0 ? passed('exit code 0', output) : failed(`exit code ${completed.exitCode}`, output);
}

const LOOPBACK = /^(?:localhost|127\.\d+\.\d+\.\d+|::1|\[::1\])$/i;

function addLoopbackHint(check: Check, verdict: Verdict): Verdict {
  const host =
    check.kind === 'http' ? (check.connectTo?.host ?? new URL(check.url).hostname) : 'host' in check ? check.host : '';
  if (!LOOPBACK.test(host)) return verdict;
  return {
    ...verdict,
    reason: `${verdict.reason} (seen from the runner, ${host} is the runner itself: for a port of the server say \`via: ssh\`)`,
  };
}
