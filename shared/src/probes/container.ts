/** Containers of a Compose project: the question, the answer, and what to think of it. */
import { CONTAINER_FORMAT } from '../commands/server';
import type { Command } from '../model/command';
import { excerpt } from '../shell/excerpt';
import { script } from '../shell/render';
import { type Json, parseJson, readList, readMember, readNumber, readText } from '../json';
import { failed, passed, type Verdict } from './verdict';

/** One run of a container's own health check. */
export interface HealthLogEntry {
  readonly exitCode: number;
  /** The health command's output, at most 4 KiB (Docker's limit). Remote text. */
  readonly output: string;
}

/** One thing mounted into a container. */
export interface ContainerMount {
  /** `volume`, `bind` or `tmpfs`. */
  readonly type: string;
  /** The volume's; 64 hex digits where nobody gave it one. Empty for what is no volume. */
  readonly name: string;
  readonly destination: string;
}

/** What Docker says of one container. */
export interface ContainerState {
  readonly id: string;
  /** Without the leading slash. */
  readonly name: string;
  readonly project: string;
  readonly service: string;
  /** As the Compose file names it: `ghcr.io/acme/web@sha256:...`. */
  readonly image: string;
  /** `sha256:...` of the image's configuration. */
  readonly imageId: string;
  /** `created`, `running`, `paused`, `restarting`, `removing`, `exited` or `dead`. */
  readonly state: string;
  /** `none` where the container has no health check. */
  readonly health: 'none' | 'starting' | 'healthy' | 'unhealthy';
  /** Oldest first, at most the last 5 (Docker keeps no more). */
  readonly healthLog: readonly HealthLogEntry[];
  readonly exitCode: number;
  readonly oomKilled: boolean;
  /** Why Docker could not start it; mostly empty. */
  readonly error: string;
  readonly restartCount: number;
  /** RFC 3339; `0001-01-01T00:00:00Z` if never started. */
  readonly startedAt: string;
  /** Label `com.docker.compose.config-hash`: equals `docker compose config --hash`. */
  readonly configHash: string;
  /** Label `com.docker.compose.container-number`; 0 without it. */
  readonly number: number;
  /** Made by `docker compose run`, so not a replica. */
  readonly oneoff: boolean;
  readonly mounts: readonly ContainerMount[];
  /** Process id on the server; 0 if it does not run. */
  readonly pid?: number;
  /** `no`, `always`, `unless-stopped`, `on-failure` or `on-failure:5`, as `docker update --restart` takes it. Not in a watch's lines. */
  readonly restartPolicy?: string;
  /** `stop_grace_period`, where one is set. */
  readonly stopTimeoutSeconds?: number;
  /** Not in a watch's lines. */
  readonly networks?: readonly ContainerNetwork[];
  /** As set; 0 stands for Docker's default. Not in a watch's lines, nor where there is no health check. */
  readonly healthcheck?: HealthcheckTimes;
}

export interface ContainerNetwork {
  readonly name: string;
  /** IPv4; empty while the container does not run. Changes with every start. */
  readonly address: string;
}

export interface HealthcheckTimes {
  readonly intervalSeconds: number;
  readonly timeoutSeconds: number;
  readonly startPeriodSeconds: number;
  readonly retries: number;
}

/** A container that goes away between the two questions makes `inspect` fail: ask again, at most five times. */
const INSPECT = `n=0
while :; do
  ids=$(docker ps -aq --no-trunc --filter "label=com.docker.compose.project=$1") || exit
  [ -n "$ids" ] || { echo '[]'; exit 0; }
  if out=$(docker inspect --type container --format "$2" $ids); then
    printf '%s\\n' "$out" | sed '1s/^/[/;$!s/$/,/;$s/$/]/'
    exit 0
  fi
  n=$((n + 1))
  [ "$n" -lt 5 ] || exit 1
done`;

/**
 * Every container of a Compose project, running or not, in one round trip. Prints what {@link parseContainers} reads:
 * a JSON array, empty if there is none. Exits with docker's code if Docker cannot be asked.
 */
export function inspectContainers(project: string): Command {
  return script(INSPECT, project, CONTAINER_FORMAT);
}

/**
 * Reads the answer to {@link inspectContainers}, or plain `docker inspect` output.
 *
 * @throws SyntaxError for text that is not a JSON array: an answer that cannot be read is not "no containers".
 */
export function parseContainers(inspectJson: string): ContainerState[] {
  const parsed = parseJson(inspectJson);
  if (!Array.isArray(parsed)) {
    throw new SyntaxError(`docker inspect did not print a JSON array but: ${excerpt(inspectJson, 120) || 'nothing'}`);
  }
  return readList(parsed).map(parseContainer);
}

/** One line of `watchContainers`. */
export type WatchLine =
  | { readonly kind: 'containers'; readonly containers: readonly ContainerState[] }
  /** Docker has told of no change since. */
  | { readonly kind: 'same' }
  | { readonly kind: 'probe'; readonly probe: ProbeResult };

/** How a container's own health command ended, when the watch ran it. */
export interface ProbeResult {
  readonly containerId: string;
  /** Of the run that was asked: a container that has restarted since must prove itself anew. */
  readonly startedAt: string;
  /** The exit code; `timeout` if it took longer than the health check allows. */
  readonly result: number | 'timeout';
}

const PROBE_LINE = /^probe ([0-9a-f]+) (\S+) (\d{1,3}|timeout)$/;

/**
 * Reads what `watchContainers` prints, line by line.
 *
 * @returns undefined for a line that is none of its own.
 * @throws SyntaxError for a `containers` line whose JSON cannot be read: that is not "no containers".
 */
export function parseWatchLine(line: string): WatchLine | undefined {
  if (line === 'same') return { kind: 'same' };
  if (line.startsWith('containers ')) {
    return { kind: 'containers', containers: parseContainers(line.slice('containers '.length)) };
  }
  const [, containerId, startedAt, result] = PROBE_LINE.exec(line) ?? [];
  if (containerId === undefined || startedAt === undefined) return undefined;
  return { kind: 'probe', probe: { containerId, startedAt, result: result === 'timeout' ? result : Number(result) } };
}

function parseContainer(container: Json): ContainerState {
  const state = readMember(container, 'State');
  const label = (name: string): string => readText(container, 'Config', 'Labels', `com.docker.compose.${name}`);
  return {
    id: readText(container, 'Id'),
    name: readText(container, 'Name').replace(/^\//, ''),
    project: label('project'),
    service: label('service'),
    image: readText(container, 'Config', 'Image'),
    imageId: readText(container, 'Image'),
    state: readText(state, 'Status'),
    health: parseHealth(readText(state, 'Health', 'Status')),
    healthLog: readList(state, 'Health', 'Log').map((entry) => ({
      exitCode: readNumber(entry, 'ExitCode'),
      output: readText(entry, 'Output'),
    })),
    exitCode: readNumber(state, 'ExitCode'),
    oomKilled: readMember(state, 'OOMKilled') === true,
    error: readText(state, 'Error'),
    restartCount: readNumber(container, 'RestartCount'),
    startedAt: readText(state, 'StartedAt'),
    configHash: label('config-hash'),
    number: Number.parseInt(label('container-number'), 10) || 0,
    oneoff: label('oneoff').toLowerCase() === 'true',
    mounts: readList(container, 'Mounts').map((mount) => ({
      type: readText(mount, 'Type'),
      name: readText(mount, 'Name'),
      destination: readText(mount, 'Destination'),
    })),
    ...parseSettings(container),
  };
}

/** What only {@link CONTAINER_FORMAT} asks for. What was not asked is undefined, not "none". */
function parseSettings(container: Json): Partial<ContainerState> {
  const pid = readMember(readMember(container, 'State'), 'Pid');
  const policy = readText(container, 'RestartPolicy', 'Name');
  const retries = readNumber(container, 'RestartPolicy', 'MaximumRetryCount');
  const stopTimeout = readMember(readMember(container, 'Config'), 'StopTimeout');
  const networks = readMember(container, 'Networks');
  const check = readMember(readMember(container, 'Config'), 'Healthcheck');
  const seconds = (name: string): number => readNumber(check, name) / 1e9;
  return {
    ...(typeof pid === 'number' && { pid }),
    ...(policy !== '' && { restartPolicy: policy === 'on-failure' && retries > 0 ? `${policy}:${retries}` : policy }),
    ...(typeof stopTimeout === 'number' && { stopTimeoutSeconds: stopTimeout }),
    ...(Array.isArray(networks) && {
      networks: readList(networks)
        .filter((network) => network !== null)
        .map((network) => ({ name: readText(network, 'Name'), address: readText(network, 'IPAddress') })),
    }),
    ...(typeof check === 'object' &&
      check !== null && {
        healthcheck: {
          intervalSeconds: seconds('Interval'),
          timeoutSeconds: seconds('Timeout'),
          startPeriodSeconds: seconds('StartPeriod'),
          retries: readNumber(check, 'Retries'),
        },
      }),
  };
}

function parseHealth(status: string): ContainerState['health'] {
  switch (status) {
    case 'starting':
    case 'healthy':
    case 'unhealthy':
      return status;
    default:
      return 'none';
  }
}

export interface ContainerExpectation {
  /** `exited` is for one-shot services and also wants exit code 0. */
  readonly state: 'running' | 'exited';
  /** `auto`: healthy if the container has a health check. `healthy`: it must have one. `any`: not looked at. */
  readonly health: 'auto' | 'healthy' | 'any';
  /** More restarts than this fail. Undefined: not looked at. */
  readonly maxRestarts?: number | undefined;
}

/** One container. Total: every state that Docker knows has an answer. */
export function judgeContainer(container: ContainerState, expected: ContainerExpectation): Verdict {
  const { name } = container;
  const restarts = container.restartCount === 0 ? '' : `, restarted ${times(container.restartCount)}`;
  if (container.state !== expected.state) {
    const instead = container.state === 'running' ? ', and was expected to have exited' : '';
    return failed(`${name} ${describeStop(container)}${instead}${restarts}`, lastOutput(container));
  }
  if (expected.state === 'exited' && (container.exitCode !== 0 || container.oomKilled)) {
    return failed(`${name} ${describeStop(container)}${restarts}`, lastOutput(container));
  }
  if (expected.maxRestarts !== undefined && container.restartCount > expected.maxRestarts) {
    return failed(
      `${name} was restarted ${times(container.restartCount)}, more than ${expected.maxRestarts}: it may be in a crash loop`,
      lastOutput(container),
    );
  }
  if (expected.state === 'running' && expected.health !== 'any') {
    switch (container.health) {
      case 'healthy':
        break;
      case 'none':
        if (expected.health === 'healthy') {
          return failed(
            `${name} has no health check: give its service a \`healthcheck\` in the Compose file, or its image a HEALTHCHECK, or ask for \`health: any\``,
          );
        }
        break;
      case 'starting':
        return failed(`${name} is still starting (health: starting)${restarts}`, lastOutput(container));
      case 'unhealthy':
        return failed(`${name} is unhealthy${restarts}`, lastOutput(container));
    }
  }
  const health = expected.state === 'running' && container.health !== 'none' ? `, ${container.health}` : '';
  return passed(`${name} is ${container.state}${health}${restarts}`);
}

/** All replicas of one service: every one must hold. Containers of other services, and one-off ones, are left out. */
export function judgeService(
  service: string,
  project: string,
  containers: readonly ContainerState[],
  expected: ContainerExpectation,
): Verdict {
  const replicas = containers
    .filter((container) => container.service === service && !container.oneoff)
    .sort((a, b) => a.number - b.number);
  if (replicas.length === 0) {
    const others = [...new Set(containers.filter((c) => !c.oneoff).map((c) => c.service))].sort();
    return failed(
      others.length === 0
        ? `project ${project} has no containers on this server`
        : `project ${project} has no container of service ${service}, only of: ${excerpt(others.join(', '), 200)}`,
    );
  }
  const verdicts = replicas.map((replica) => judgeContainer(replica, expected));
  const bad = verdicts.filter((verdict) => !verdict.ok);
  const shown = bad.length > 0 ? bad : verdicts;
  const reason = shown.map((verdict) => verdict.reason).join('; ');
  const detail = shown.map((verdict) => verdict.detail).find((text) => text !== '') ?? '';
  if (bad.length === 0) return passed(reason, detail);
  return failed(replicas.length === 1 ? reason : `${bad.length} of ${replicas.length} replicas: ${reason}`, detail);
}

function describeStop(container: ContainerState): string {
  const error = container.error === '' ? '' : ` (${excerpt(container.error, 200)})`;
  switch (container.state) {
    case 'exited':
    case 'dead':
      if (container.oomKilled) return `was killed for lack of memory (exit code ${container.exitCode})${error}`;
      return `has exited with code ${container.exitCode}${error}`;
    case 'restarting':
      return `keeps restarting: it ended with exit code ${container.exitCode}${container.oomKilled ? ', killed for lack of memory' : ''}${error}`;
    case 'created':
      return `was created but not started${error}`;
    case '':
      return 'has no state that can be read';
    default:
      return `is ${excerpt(container.state, 40)}${error}`;
  }
}

function lastOutput(container: ContainerState): string {
  const last = container.healthLog.at(-1);
  if (last === undefined || container.health === 'healthy') return '';
  return excerpt(`health check exit code ${last.exitCode}: ${last.output}`);
}

export function times(count: number): string {
  return count === 1 ? 'once' : `${count} times`;
}

/** `, last exit code 3`; nothing while it runs again, since Docker has set the code back to 0 then. */
export function lastExitCode({ state, exitCode }: ContainerState): string {
  return state === 'running' ? '' : `, last exit code ${exitCode}`;
}
