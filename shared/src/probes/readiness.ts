/** Whether what a deploy started is ready, and whether it stays so: pure, over a series of looks at the containers. */
import { type ContainerState, lastExitCode, times } from './container';

export interface ReadinessTarget {
  readonly service: string;
  readonly replicas: number;
  /** Runs to its end: ready once it has ended with exit code 0. */
  readonly oneShot: boolean;
  /** How long a container without a health check must run before it counts as ready. */
  readonly stableSeconds: number;
}

/** What earlier looks found, by container id. */
interface Sighting {
  readonly sinceMs: number;
  readonly restartCount: number;
  readonly startedAt: string;
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

/** A first start that fails because its database is not there yet is common in Compose files; a third one is a crash loop. */
const MAX_RESTARTS = 2;

/** @param nowMs of the same monotonic clock for all looks: the server's clock may be off. */
export function judgeReadiness(
  targets: readonly ReadinessTarget[],
  containers: readonly ContainerState[],
  sightings: Sightings,
  nowMs: number,
): Readiness {
  const next = new Map<string, Sighting>();
  const reasons: string[] = [];
  for (const target of targets) {
    const replicas = containers.filter((container) => container.service === target.service && !container.oneoff);
    const broken = replicas.find((container) => findFault(container, target) !== undefined);
    if (broken !== undefined) {
      return { kind: 'failed', service: target.service, reason: findFault(broken, target) ?? '', containers: [broken] };
    }
    if (replicas.length < target.replicas) {
      reasons.push(`${target.service}: ${replicas.length} of ${target.replicas} replicas exist`);
    }
    for (const container of replicas) {
      const seen = sightings.get(container.id);
      const same = seen?.restartCount === container.restartCount && seen.startedAt === container.startedAt;
      const sighting =
        same && container.state === 'running'
          ? seen
          : { sinceMs: nowMs, restartCount: container.restartCount, startedAt: container.startedAt };
      next.set(container.id, sighting);
      const reason = describeWait(container, target, (nowMs - sighting.sinceMs) / 1000);
      if (reason !== undefined) reasons.push(reason);
    }
  }
  return reasons.length === 0 ? { kind: 'ready' } : { kind: 'waiting', reasons, sightings: next };
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

function describeWait(container: ContainerState, target: ReadinessTarget, runningSeconds: number): string | undefined {
  const { name } = container;
  if (target.oneShot) return container.state === 'exited' ? undefined : `${name} has not ended yet`;
  if (container.state !== 'running') return `${name} is ${container.state}`;
  switch (container.health) {
    case 'healthy':
      return undefined;
    case 'starting':
      return `${name} is starting`;
    case 'unhealthy':
      return `${name} is unhealthy`;
    case 'none':
      return runningSeconds >= target.stableSeconds
        ? undefined
        : `${name} has no health check: watching it for ${target.stableSeconds} s`;
  }
}

/** What became worse since the containers were ready; empty when nothing did. */
export function findDecline(
  ready: readonly ContainerState[],
  now: readonly ContainerState[],
  targets: readonly ReadinessTarget[],
): { readonly service: string; readonly reason: string; readonly containers: readonly ContainerState[] } | undefined {
  for (const target of targets) {
    for (const before of ready.filter((container) => container.service === target.service && !container.oneoff)) {
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
