/** Whether what a deploy started is ready, and whether it stays so: pure, over a series of looks at the containers. */
import { type ContainerState, lastExitCode, type ProbeResult, times } from './container';

export interface ReadinessTarget {
  readonly service: string;
  readonly replicas: number;
  /** Runs to its end: ready once it has ended with exit code 0. */
  readonly oneShot: boolean;
  /** How long a container without a health check must run before it counts as ready. */
  readonly stableSeconds: number;
  /**
   * How long each container must stay good after it has become ready: `update_config.monitor`. Default 0. Where there is no health
   * check, to be ready is nothing but to have run for a while, so that the time counts once: the longer of this and `stableSeconds`.
   */
  readonly monitorSeconds?: number;
  /** Ids of containers that do not count: of the old release, which runs beside the new one. */
  readonly ignoring?: ReadonlySet<string>;
}

/** What earlier looks found, by container id. */
interface Sighting {
  /** Since when it has run without a stop. */
  readonly sinceMs: number;
  readonly restartCount: number;
  readonly startedAt: string;
  /** When it was ready first, and what it was then. */
  readonly ready?: { readonly sinceMs: number; readonly container: ContainerState };
}

export type Sightings = ReadonlyMap<string, Sighting>;

export type Readiness =
  | { readonly kind: 'ready' }
  | { readonly kind: 'waiting'; readonly reasons: readonly string[]; readonly sightings: Sightings }
  /** It will not become ready by waiting. */
  | {
      readonly kind: 'failed';
      readonly service: string;
      readonly reason: string;
      readonly containers: readonly ContainerState[];
    };

/** How the containers' own health commands ended last, by container id. */
export type Probes = ReadonlyMap<string, ProbeResult>;

/** @returns the same with one more result. One that passed stays, unless the container has been started again since. */
export function recordProbe(probes: Probes, probe: ProbeResult): Probes {
  const before = probes.get(probe.containerId);
  if (before?.result === 0 && before.startedAt === probe.startedAt) return probes;
  return new Map(probes).set(probe.containerId, probe);
}

/** A first start that fails because its database is not there yet is common in Compose files; a third one is a crash loop. */
const MAX_RESTARTS = 2;

/**
 * @param nowMs of the same monotonic clock for all looks: the server's clock may be off.
 * @param probes of the health commands that were run beside Docker's own. One that passed makes a container healthy that Docker still
 *   calls `starting`; one that failed does nothing. That a container is unhealthy is for Docker to say, after its retries.
 */
export function judgeReadiness(
  targets: readonly ReadinessTarget[],
  containers: readonly ContainerState[],
  sightings: Sightings,
  nowMs: number,
  probes: Probes = new Map(),
): Readiness {
  const next = new Map<string, Sighting>();
  const reasons: string[] = [];
  for (const target of targets) {
    const replicas = containers
      .filter((container) => isReplica(container, target))
      .map((container) => foresee(container, probes.get(container.id)));
    const broken = replicas.find((container) => findFault(container, target) !== undefined);
    if (target.monitorSeconds !== undefined && target.monitorSeconds > 0) {
      const wereReady = [...sightings.values()].flatMap(({ ready }) => (ready === undefined ? [] : [ready.container]));
      // It says more than the fault: that the container had been ready.
      const decline = findDecline(wereReady, replicas, [target]);
      if (decline !== undefined) return { kind: 'failed', ...decline };
    }
    if (broken !== undefined) {
      return { kind: 'failed', service: target.service, reason: findFault(broken, target) ?? '', containers: [broken] };
    }
    if (replicas.length < target.replicas) {
      reasons.push(`${target.service}: ${replicas.length} of ${target.replicas} replicas exist`);
    }
    for (const container of replicas) {
      const sighting = sight(container, sightings.get(container.id), nowMs);
      const wait = describeWait(container, target, (nowMs - sighting.sinceMs) / 1000, probes.get(container.id));
      const ready = wait === undefined ? (sighting.ready ?? { sinceMs: nowMs, container }) : undefined;
      next.set(container.id, ready === undefined ? sighting : { ...sighting, ready });
      const reason = wait ?? describeMonitoring(container, target, sighting.sinceMs, ready?.sinceMs ?? nowMs, nowMs);
      if (reason !== undefined) reasons.push(reason);
    }
  }
  return reasons.length === 0 ? { kind: 'ready' } : { kind: 'waiting', reasons, sightings: next };
}

function isReplica(container: ContainerState, target: ReadinessTarget): boolean {
  return container.service === target.service && !container.oneoff && target.ignoring?.has(container.id) !== true;
}

/** What Docker will say of it at its own next look, as far as its health command has said so already. */
export function foresee(container: ContainerState, probe: ProbeResult | undefined): ContainerState {
  const hasPassed = probe?.result === 0 && probe.startedAt === container.startedAt;
  return hasPassed && container.health === 'starting' ? { ...container, health: 'healthy' } : container;
}

function sight(container: ContainerState, seen: Sighting | undefined, nowMs: number): Sighting {
  const { restartCount, startedAt } = container;
  const same = seen?.restartCount === restartCount && seen.startedAt === startedAt;
  // A one-shot service is ready when it no longer runs.
  if (same && (container.state === 'running' || seen.ready !== undefined)) return seen;
  return { sinceMs: nowMs, restartCount, startedAt };
}

function findFault(container: ContainerState, target: ReadinessTarget): string | undefined {
  const { name } = container;
  if (container.oomKilled) return `${name} was killed for lack of memory (OOM), exit code ${container.exitCode}`;
  if (container.error !== '') return `${name} could not be started: ${container.error}`;
  if (container.restartCount > MAX_RESTARTS) {
    return `${name} is in a crash loop: restarted ${times(container.restartCount)}${lastExitCode(container)}`;
  }
  switch (container.state) {
    case 'exited':
    case 'dead':
      if (target.oneShot)
        return container.exitCode === 0 ? undefined : `${name} ended with exit code ${container.exitCode}`;
      return `${name} ended with exit code ${container.exitCode}${container.exitCode === 0 ? '; if ending is its job, say `x-slipway: { one-shot: true }` in its service' : ''}`;
    case 'running':
      return container.health === 'unhealthy' ? `${name} is unhealthy` : undefined;
    default:
      return undefined;
  }
}

function describeWait(
  container: ContainerState,
  target: ReadinessTarget,
  runningSeconds: number,
  probe: ProbeResult | undefined,
): string | undefined {
  const { name } = container;
  if (target.oneShot) return container.state === 'exited' ? undefined : `${name} has not ended yet`;
  if (container.state !== 'running') return `${name} is ${container.state}`;
  switch (container.health) {
    case 'healthy':
      return undefined;
    case 'starting':
      return `${name} is starting${probe?.startedAt === container.startedAt ? describeProbe(probe) : ''}`;
    case 'unhealthy':
      return `${name} is unhealthy`;
    case 'none':
      return runningSeconds >= target.stableSeconds
        ? undefined
        : `${name} has no health check: watching it for ${target.stableSeconds} s`;
  }
}

function describeProbe({ result }: ProbeResult): string {
  return result === 'timeout'
    ? ' (its health command takes longer than its time limit)'
    : ` (its health command ends with ${result})`;
}

function describeMonitoring(
  container: ContainerState,
  target: ReadinessTarget,
  runningSinceMs: number,
  readySinceMs: number,
  nowMs: number,
): string | undefined {
  const { monitorSeconds = 0 } = target;
  if (target.oneShot) return undefined;
  const sinceMs = container.health === 'none' ? runningSinceMs : readySinceMs;
  return nowMs - sinceMs >= monitorSeconds * 1000
    ? undefined
    : `${container.name} is ready: watching it for ${monitorSeconds} s`;
}

/** What became worse since the containers were ready; empty when nothing did. */
export function findDecline(
  ready: readonly ContainerState[],
  now: readonly ContainerState[],
  targets: readonly ReadinessTarget[],
): { readonly service: string; readonly reason: string; readonly containers: readonly ContainerState[] } | undefined {
  for (const target of targets) {
    for (const before of ready.filter((container) => isReplica(container, target))) {
      const after = now.find((container) => container.id === before.id);
      const fail = (reason: string): { service: string; reason: string; containers: ContainerState[] } => ({
        service: target.service,
        reason,
        containers: after === undefined ? [] : [after],
      });
      if (after === undefined) return fail(`${before.name} is gone`);
      if (after.oomKilled) return fail(`${after.name} was killed for lack of memory (OOM) after it had become ready`);
      if (
        after.restartCount > before.restartCount ||
        (after.state === 'running' && after.startedAt !== before.startedAt)
      ) {
        const restarts = after.restartCount - before.restartCount;
        return fail(
          restarts === 0
            ? `${after.name} was restarted by hand after it had become ready`
            : `${after.name} crashed after it had become ready (restarted ${times(restarts)}${lastExitCode(after)})`,
        );
      }
      if (!target.oneShot && after.state !== 'running')
        return fail(`${after.name} ended after it had become ready: ${after.state}, exit code ${after.exitCode}`);
      if (after.health === 'unhealthy') return fail(`${after.name} became unhealthy after it had been ready`);
    }
  }
  return undefined;
}
