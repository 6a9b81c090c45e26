/** From what is wanted and what is there to what is to be done, and why. Pure. */
import { stopServices, upServices, type ComposeTarget } from '#shared/commands/compose';
import { explainDifference } from '#shared/compose/difference';
import { isObject, orderServices, type Project, type Service } from '#shared/compose/project';
import type { Step, UndoVerb } from '#shared/model/step';
import type { ContainerState } from '#shared/probes/container';
import { type Json, readMember, readText } from '#shared/json';
import { releaseComposeFile, type StoreLayout } from '#shared/releases/layout';
import type { ServerFacts } from '#shared/server/facts';
import { isStateful } from '#shared/strategies/stateful';

export type ServiceAction = 'create' | 'replace' | 'start' | 'keep' | 'remove';

export interface ServicePlan {
  readonly service: string;
  readonly action: ServiceAction;
  /** Why, in words; names only, never a value. */
  readonly reasons: readonly string[];
  readonly stateful: boolean;
  /** As they run now and as they will; undefined where there is none. */
  readonly imageBefore: string | undefined;
  readonly imageAfter: string | undefined;
  readonly replicas: number;
}

export interface DeployPlan {
  readonly release: string;
  readonly previous: string | undefined;
  readonly services: readonly ServicePlan[];
  readonly steps: readonly Step[];
  /** Services that leave the project; removed after the commit. */
  readonly removed: readonly string[];
}

export interface PlanRequest {
  readonly project: Project;
  /** By service: Compose's hash of the new configuration. */
  readonly hashes: Readonly<Record<string, string>>;
  readonly facts: Pick<ServerFacts, 'containers' | 'networks'>;
  /** The current release's Compose file as JSON; undefined for a first deploy. */
  readonly before: Json | undefined;
  readonly previous: string | undefined;
  readonly release: string;
  readonly target: ComposeTarget;
  readonly layout: StoreLayout;
  readonly readyTimeoutSeconds: number;
  /** Remarks by service, such as "newer image exists, kept". */
  readonly remarks?: Readonly<Record<string, string>>;
}

export function planDeploy(request: PlanRequest): DeployPlan {
  const services = [
    ...request.project.services.map((service) => planService(service, request)),
    ...planRemovals(request),
  ];
  return {
    release: request.release,
    previous: request.previous,
    services,
    steps: planSteps(services, request),
    removed: named(services, 'remove'),
  };
}

/** Nothing would change on the server. */
export function isUnchanged(plan: DeployPlan): boolean {
  return plan.services.every((service) => service.action === 'keep');
}

export function changedServices(plan: DeployPlan): string[] {
  return plan.services.filter((service) => service.action !== 'keep').map((service) => service.service);
}

function planService(service: Service, request: PlanRequest): ServicePlan {
  const replicas = replicasOf(request.facts.containers, service.name);
  const common = {
    service: service.name,
    stateful: isStateful(service),
    imageBefore: replicas[0]?.image,
    imageAfter: service.image,
    replicas: service.replicas,
  };
  const remark = request.remarks?.[service.name];
  if (replicas.length === 0) {
    return service.replicas === 0
      ? { ...common, action: 'keep', reasons: ['no replicas wanted'] }
      : { ...common, action: 'create', reasons: ['has no container yet'] };
  }
  if (replicas.some((container) => container.configHash !== request.hashes[service.name])) {
    return { ...common, action: 'replace', reasons: explainReplacement(service, replicas, request) };
  }
  if (replicas.length !== service.replicas) {
    return { ...common, action: 'replace', reasons: [`replicas ${replicas.length} -> ${service.replicas}`] };
  }
  const down = replicas.find((container) => !isUp(container, service.oneShot));
  if (down !== undefined) {
    return { ...common, action: 'start', reasons: [`${down.name} is ${down.state}, exit code ${down.exitCode}`] };
  }
  return { ...common, action: 'keep', reasons: remark === undefined ? [] : [remark] };
}

function isUp(container: ContainerState, oneShot: boolean): boolean {
  return container.state === 'running' || (oneShot && container.state === 'exited' && container.exitCode === 0);
}

function explainReplacement(service: Service, replicas: readonly ContainerState[], request: PlanRequest): string[] {
  const before = readMember(readMember(request.before, 'services'), service.name);
  const reasons = before === undefined ? [] : explainDifference(before, service.raw);
  if (reasons.length > 0) return reasons;
  if (replicas.some((container) => container.image !== service.image)) return ['image'];
  // The container is not what the store says of it: changed by hand, or another version of Compose hashes differently.
  return ['the running container differs from its release'];
}

function planRemovals(request: PlanRequest): ServicePlan[] {
  const wanted = new Set(request.project.services.map((service) => service.name));
  const there = [...new Set(request.facts.containers.filter((c) => !c.oneoff).map((c) => c.service))].sort();
  return there
    .filter((name) => !wanted.has(name))
    .map((name) => {
      const replicas = replicasOf(request.facts.containers, name);
      return {
        service: name,
        action: 'remove',
        reasons: ['no longer in the Compose file'],
        stateful: false,
        imageBefore: replicas[0]?.image,
        imageAfter: undefined,
        replicas: 0,
      };
    });
}

function planSteps(services: readonly ServicePlan[], request: PlanRequest): Step[] {
  const { project, target, layout, release, previous, readyTimeoutSeconds } = request;
  const file = releaseComposeFile(layout, release);
  const steps: Step[] = [];
  const released = readMember(request.before, 'services');
  /** The release before can only bring back what it has: others were left by a deploy or a person before it. */
  const isReleased = (name: string): boolean => readMember(released, name) !== undefined;
  const removed = named(services, 'remove').filter(isReleased);
  if (removed.length > 0 && previous !== undefined) {
    // Before the others start: a service that was renamed must not hold its port or its volume against its successor.
    steps.push({
      kind: 'run',
      id: 'stop-removed',
      title: `stop ${removed.join(', ')}`,
      do: stopServices(target, releaseComposeFile(layout, previous), removed),
      undo: [{ verb: 'restore-services', release: previous, services: removed }],
      timeoutSeconds: 60 + readyTimeoutSeconds,
    });
  }
  const newNetworks = listNetworks(project).filter((name) => !request.facts.networks.includes(name));
  let networksUndone = newNetworks.length === 0;
  for (const [index, wave] of orderServices(project.services).entries()) {
    const plans = wave.flatMap((service) =>
      services.filter((plan) => plan.service === service.name && plan.action !== 'keep'),
    );
    const created = named(plans, 'create');
    const changed = plans
      .filter((plan) => plan.action === 'replace' || plan.action === 'start')
      .map((plan) => plan.service);
    const longestStop = Math.max(0, ...wave.map((service) => service.stopGraceSeconds));
    for (const [verb, names] of [
      ['create', created],
      ['replace', changed],
    ] as const) {
      if (names.length === 0) continue;
      const undo: UndoVerb[] = [];
      if (!networksUndone) undo.push({ verb: 'remove-networks', networks: newNetworks });
      networksUndone = true;
      if (verb === 'create') undo.push({ verb: 'remove-services', services: names });
      else if (previous !== undefined) undo.push(...undoReplacement(previous, names, isReleased));
      steps.push({
        kind: 'run',
        id: `${verb}-${index + 1}`,
        title: `${verb} ${names.join(', ')}`,
        do: upServices(target, file, names),
        undo,
        timeoutSeconds: 60 + longestStop + readyTimeoutSeconds,
      });
    }
    if (plans.length > 0) {
      const names = [...created, ...changed];
      steps.push({
        kind: 'hold',
        id: `ready-${index + 1}`,
        title: `wait until ${names.join(', ')} ${names.length === 1 ? 'is' : 'are'} ready`,
        gate: { gate: 'ready', services: names },
        timeoutSeconds: readyTimeoutSeconds,
      });
    }
  }
  if (steps.length > 0) {
    steps.push({
      kind: 'hold',
      id: 'prove',
      title: 'prove the release',
      gate: { gate: 'proven' },
      timeoutSeconds: readyTimeoutSeconds,
    });
  }
  return steps;
}

function undoReplacement(
  previous: string,
  names: readonly string[],
  isReleased: (name: string) => boolean,
): UndoVerb[] {
  const [back, away] = [names.filter(isReleased), names.filter((name) => !isReleased(name))];
  return [
    ...(away.length > 0 ? [{ verb: 'remove-services', services: away } as const] : []),
    ...(back.length > 0 ? [{ verb: 'restore-services', release: previous, services: back } as const] : []),
  ];
}

/** Names on the server of the networks that Compose will make. */
function listNetworks(project: Project): string[] {
  const networks = readMember(project.raw, 'networks');
  if (!isObject(networks)) return [];
  return Object.values(networks).flatMap((network) => {
    const name = readText(network, 'name');
    return name === '' || readMember(network, 'external') === true ? [] : [name];
  });
}

function named(services: readonly ServicePlan[], action: ServiceAction): string[] {
  return services.filter((service) => service.action === action).map((service) => service.service);
}

function replicasOf(containers: readonly ContainerState[], service: string): ContainerState[] {
  return containers.filter((container) => container.service === service && !container.oneoff);
}
