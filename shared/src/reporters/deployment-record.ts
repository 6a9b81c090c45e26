/**
 * The deploy as GitHub shows it: a Deployment, in progress when the transaction begins, and in the end what became of it.
 * It is a record beside the deploy. It can neither fail it nor hold it up: what does not work becomes one warning.
 */
import type { Clock, DeploymentRequest, DeploymentStatus, GithubDeployments, GithubProblem, Runner } from '../ports';
import type { Parsed } from '../inputs/values';
import { excerpt } from '../shell/excerpt';

/** What is recorded. Anyone who can read the repository can read it: so no server's name or address, and no error's text. */
export interface RecordIntent {
  readonly task: DeploymentRequest['task'];
  /** The commit that is deployed, in full. */
  readonly commit: string;
  readonly environment: string;
  /** Where the application answers; empty if that is not said. */
  readonly environmentUrl: string;
  readonly project: string;
  /** Id of the new release. */
  readonly release: string;
  /** Id of the release before it; empty for a first deploy. */
  readonly previous: string;
  readonly runUrl: string;
}

/** The output `result` of a deploy or a rollback. */
export type RecordResult =
  'deployed' | 'rolled-back' | 'listed' | 'unchanged' | 'planned' | 'reverted' | 'refused' | 'failed' | 'unknown';

export interface RecordEnd {
  readonly result: RecordResult;
  /** The workflow was cancelled, and that was why. */
  readonly cancelled?: boolean;
}

type Redact = (text: string) => string;

/** "The maximum description length is 140 characters": https://docs.github.com/rest/deployments/statuses#create-a-deployment-status */
export const MAX_DESCRIPTION_LENGTH = 140;

export function planDeployment(intent: RecordIntent, redact: Redact): DeploymentRequest {
  const { task, commit, environment, project, release } = intent;
  return {
    commit,
    environment,
    task,
    description: describe(
      task === 'deploy'
        ? `Slipway deploys release ${release} of ${project}`
        : `Slipway brings back release ${release} of ${project}`,
      redact,
    ),
    // What the post step knows too: by this it finds the record again.
    payload: { project: redact(project), release: redact(release) },
  };
}

/** While the transaction is under way. */
export function planProgress(intent: RecordIntent, redact: Redact): DeploymentStatus {
  return planStatus('in_progress', `Release ${intent.release} is on its way.`, intent, redact);
}

/** What became of it, in GitHub's words: `failure` did not go live, `error` left the server in an unknown state. */
export function planEnd(intent: RecordIntent, end: RecordEnd, redact: Redact): DeploymentStatus {
  const { state, description } = describeEnd(intent, end);
  return planStatus(state, description, intent, redact);
}

function describeEnd(
  { release, previous }: RecordIntent,
  { result, cancelled = false }: RecordEnd,
): Pick<DeploymentStatus, 'state' | 'description'> {
  const why = cancelled ? 'was cancelled' : 'failed';
  switch (result) {
    case 'deployed':
    case 'rolled-back':
      return {
        state: 'success',
        description: `Release ${release} serves${previous === '' ? '' : `; before it ${previous}`}.`,
      };
    case 'reverted':
      return {
        state: 'failure',
        description:
          previous === ''
            ? `Release ${release} ${why}, and was removed again; none served before.`
            : `Release ${release} ${why}; ${previous} was put back and serves.`,
      };
    case 'refused':
      return { state: 'failure', description: `Release ${release} ${why} before anything was changed.` };
    case 'failed':
    case 'unknown':
      return { state: 'error', description: `Release ${release} ${why}; what serves is not known. See the log.` };
    // Neither gets a record; should one have been begun, it is none of a release that was ever live.
    case 'unchanged':
    case 'planned':
    case 'listed':
      return { state: 'inactive', description: 'Nothing was changed.' };
  }
}

function planStatus(
  state: DeploymentStatus['state'],
  description: string,
  { runUrl, environmentUrl }: RecordIntent,
  redact: Redact,
): DeploymentStatus {
  return {
    state,
    description: describe(description, redact),
    logUrl: withoutSecrets(runUrl, redact),
    // Shown as a button that leads to the application: not before it is this release that answers there.
    environmentUrl: state === 'success' ? withoutSecrets(environmentUrl, redact) : '',
  };
}

/** Redacted first: what is cut in two is not recognised any more. */
function describe(text: string, redact: Redact): string {
  return excerpt(redact(text), MAX_DESCRIPTION_LENGTH - 1);
}

/** A blanked URL leads nowhere. */
function withoutSecrets(url: string, redact: Redact): string {
  return redact(url) === url ? url : '';
}

/** Parses the input `environment`: https://docs.github.com/actions/how-tos/deploy/configure-and-manage-deployments/manage-environments */
export function parseEnvironment(text: string): Parsed<string> {
  if (text === '') return { problem: 'is empty: give the name of an environment, such as `production`.' };
  if (text.length > 255) return { problem: `has ${text.length} characters: an environment's name has at most 255.` };
  return excerpt(text) === text
    ? { value: text }
    : { problem: 'is not the name of an environment: no line breaks, control characters or repeated spaces.' };
}

/** Parses the input `environment-url`. The value may be a secret by mistake, so no message shows it. */
export function parseEnvironmentUrl(text: string): Parsed<string> {
  if (text === '') return { value: '' };
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !['http:', 'https:'].includes(url.protocol) || /\s/.test(text)) {
    return { problem: 'is not an address: give an `https://` or `http://` URL.' };
  }
  return url.username === '' && url.password === ''
    ? { value: url.href }
    : { problem: 'has a login in it: everyone who can read the repository would see it.' };
}

/** Of the step's state: `open` while GitHub has not been told how it ended. */
export const RECORD_STATE = 'deployment-record';

export interface RecordPorts {
  readonly github: GithubDeployments;
  readonly clock: Clock;
  readonly runner: Pick<Runner, 'saveState'>;
  readonly redact: Redact;
  readonly warn: (message: string) => void;
}

export interface DeploymentRecord {
  /**
   * Tells GitHub how it ended. Never rejects, and takes `limitSeconds` (default 10) at most; after that, when GitHub is not
   * well, or for `unknown`, the state stays `open`, so that the post step can tell it.
   */
  settle(end: RecordEnd, limitSeconds?: number): Promise<void>;
}

const LIMIT_SECONDS = 10;
/** Even where creating it took all the time there was. */
const LEAST_SECONDS = 1;

/** Begins a record, and returns at once: GitHub is told while the deploy goes on. */
export function beginRecord(intent: RecordIntent, ports: RecordPorts): DeploymentRecord {
  const { github, redact, runner } = ports;
  const complain = createComplaint(ports);
  runner.saveState(RECORD_STATE, 'open');
  const begin = async (): Promise<number | undefined> => {
    const created = await github.create(planDeployment(intent, redact));
    if (!created.ok) {
      complain(created.problem);
      if (!created.problem.transient) runner.saveState(RECORD_STATE, 'closed');
      return undefined;
    }
    const shown = await github.setStatus(created.value, planProgress(intent, redact));
    if (!shown.ok) complain(shown.problem);
    return created.value;
  };
  return createRecord(intent, ports, begin(), complain);
}

/** The record that an interrupted step has begun, if it came so far. */
export function resumeRecord(intent: RecordIntent, ports: RecordPorts): DeploymentRecord {
  const complain = createComplaint(ports);
  const find = async (): Promise<number | undefined> => {
    const found = await ports.github.find(planDeployment(intent, ports.redact));
    if (found.ok) return found.value;
    complain(found.problem);
    return undefined;
  };
  return createRecord(intent, ports, find(), complain);
}

type Complain = (problem: Pick<GithubProblem, 'message' | 'hint'>) => void;

/** Once is enough: what follows has most often the same cause. */
function createComplaint({ redact, warn }: RecordPorts): Complain {
  let told = false;
  return ({ message, hint }) => {
    if (told) return;
    told = true;
    warn(
      redact(
        `The deploy is not (fully) shown among GitHub's Deployments, and is not affected: ${message} ${hint}`.trim(),
      ),
    );
  };
}

function createRecord(
  intent: RecordIntent,
  { github, clock, runner, redact }: RecordPorts,
  beginning: Promise<number | undefined>,
  complain: Complain,
): DeploymentRecord {
  // Nobody awaits it until the deploy is over; a rejection, which can only be a defect, must not end the process before.
  const begun = beginning.catch((error: unknown) => {
    complain({ message: `unexpected: ${error instanceof Error ? error.message : String(error)}`, hint: '' });
    return undefined;
  });
  const settle = async (end: RecordEnd, limitSeconds: number): Promise<void> => {
    const startedMs = clock.monotonicMs();
    const deployment = await waitFor(begun, limitSeconds, clock);
    if (deployment === 'late') {
      complain({ message: `GitHub did not answer within ${limitSeconds} s.`, hint: '' });
      return;
    }
    if (deployment === undefined) return;
    const leftSeconds = limitSeconds - (clock.monotonicMs() - startedMs) / 1000;
    const answer = await github.setStatus(
      deployment,
      planEnd(intent, end, redact),
      Math.max(Math.min(LEAST_SECONDS, limitSeconds), leftSeconds),
    );
    if (!answer.ok) complain(answer.problem);
    // Who does not know yet what became of it leaves it to the post step to say.
    const isFinal = answer.ok ? end.result !== 'unknown' : !answer.problem.transient;
    if (isFinal) runner.saveState(RECORD_STATE, 'closed');
  };
  return {
    settle: async (end, limitSeconds = LIMIT_SECONDS) => {
      try {
        await settle(end, limitSeconds);
      } catch (error) {
        complain({ message: `unexpected: ${error instanceof Error ? error.message : String(error)}`, hint: '' });
      }
    },
  };
}

async function waitFor<T>(work: Promise<T>, seconds: number, clock: Clock): Promise<T | 'late'> {
  const done = new AbortController();
  const late = clock.sleep(seconds, done.signal).then(
    () => 'late' as const,
    () => 'late' as const,
  );
  try {
    return await Promise.race([work, late]);
  } finally {
    done.abort();
  }
}
