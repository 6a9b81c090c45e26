/** From what is wanted and what is there to what is to be done, and why. Pure. */
import { type ComposeTarget, startServices, stopServices } from '#shared/commands/compose';
import { explainDifference } from '#shared/compose/difference';
import { isObject, orderServices, type Project, readProject, type Service } from '#shared/compose/project';
import type { Step, UndoVerb } from '#shared/model/step';
import type { ContainerState } from '#shared/probes/container';
import { type Json, readList, readMember, readText } from '#shared/json';
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
  /** Services with containers of this project that no release knows: they are left alone. */
  readonly unknown: readonly string[];
}

export interface PlanRequest {
  readonly project: Project;
  /** By service: Compose's hash of the new configuration. */
  readonly hashes: Readonly<Record<string, string>>;
  readonly facts: Pick<ServerFacts, 'containers' | 'networks'>;
  /** The current release's Compose file as JSON; undefined for a first deploy. */
  readonly before: Json | undefined;
  readonly previous: string | undefined;
  /** Names of all services that any release of the store has. */
  readonly released: ReadonlySet<string>;
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
    unknown: listLeavers(request).filter((name) => !request.released.has(name)),
  };
}

/** Nothing would change on the server. */
export function isUnchanged(plan: DeployPlan): boolean {
  return plan.services.every((service) => service.action === 'keep');
}

/** `created db, replaced api, removed web`. */
export function describeChanges(plan: DeployPlan): string {
  const done = { create: 'created', replace: 'replaced', start: 'started', remove: 'removed' } as const;
  return (['create', 'replace', 'start', 'remove'] as const)
    .map((action) => ({ words: done[action], names: named(plan.services, action) }))
    .filter(({ names }) => names.length > 0)
    .map(({ words, names }) => `${words} ${names.join(', ')}`)
    .join('; ');
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
  const reasons = explainReplacement(service, replicas, request);
  if (reasons.length > 0) return { ...common, action: 'replace', reasons };
  if (replicas.length !== service.replicas) {
    return { ...common, action: 'replace', reasons: [`replicas ${replicas.length} -> ${service.replicas}`] };
  }
  const before = readMember(readMember(request.before, 'services'), service.name);
  const asBefore = before !== undefined && explainDifference(before, service.raw).length === 0;
  const down = replicas.find((container) => !isUp(container, service.oneShot, asBefore));
  if (down !== undefined) {
    return { ...common, action: 'start', reasons: [`${down.name} is ${down.state}, exit code ${down.exitCode}`] };
  }
  return { ...common, action: 'keep', reasons: remark === undefined ? [] : [remark] };
}

/**
 * A one-shot service of the release before that was put back is there and has not run again: that is as it should be. One of
 * this release that was made and never started has not done its work.
 */
function isUp(container: ContainerState, oneShot: boolean, asBefore: boolean): boolean {
  if (container.state === 'running') return true;
  return (
    oneShot &&
    ((container.state === 'created' && asBefore) || (container.state === 'exited' && container.exitCode === 0))
  );
}

/** Why its containers cannot stay; empty when they can. */
function explainReplacement(service: Service, replicas: readonly ContainerState[], request: PlanRequest): string[] {
  const before = readMember(readMember(request.before, 'services'), service.name);
  const differences = before === undefined ? [] : explainDifference(before, service.raw);
  const joined = findJoined(service);
  if (joined.length > 0 && before !== undefined) {
    // Compose puts the other container's ID in the place of its name, so the hash of the file is never that of the container.
    const replaced = joined.filter((name) => {
      const other = request.project.services.find((one) => one.name === name);
      return other !== undefined && !['keep', 'start'].includes(planService(other, request).action);
    });
    return [...differences, ...replaced.map((name) => `${name}, whose namespace it shares, is replaced`)];
  }
  if (replicas.every((container) => container.configHash === request.hashes[service.name])) return [];
  if (differences.length > 0) return differences;
  if (replicas.some((container) => container.image !== service.image)) return ['image'];
  // The container is not what the store says of it: changed by hand, or another version of Compose hashes differently.
  return ['the running container differs from its release'];
}

/** Services in whose containers this one lives (`network_mode: service:web` and the like). Compose refuses circles. */
function findJoined(service: Service): string[] {
  const modes = ['network_mode', 'pid', 'ipc'].map((key) => readText(service.raw, key));
  const volumes = readList(service.raw, 'volumes_from').map((from) => (typeof from === 'string' ? from : ''));
  return [
    ...modes.flatMap((mode) => /^service:(.+)$/.exec(mode)?.[1] ?? []),
    ...volumes.filter((from) => from !== '' && !from.startsWith('container:')).map((from) => from.split(':')[0] ?? ''),
  ];
}

/** What leaves the project. Containers that no release knows are not ours to remove. */
function planRemovals(request: PlanRequest): ServicePlan[] {
  return listLeavers(request)
    .filter((name) => request.released.has(name))
    .map((name) => ({
      service: name,
      action: 'remove',
      reasons: ['no longer in the Compose file'],
      stateful: false,
      imageBefore: replicasOf(request.facts.containers, name)[0]?.image,
      imageAfter: undefined,
      replicas: 0,
    }));
}

/** Services with containers that the Compose file does not have. */
function listLeavers({ project, facts }: PlanRequest): string[] {
  const wanted = new Set(project.services.map((service) => service.name));
  const there = new Set(
    facts.containers.filter((container) => !container.oneoff).map((container) => container.service),
  );
  return [...there].filter((name) => !wanted.has(name)).sort();
}

function planSteps(services: readonly ServicePlan[], request: PlanRequest): Step[] {
  const undo = createUndo(request);
  const networks = listNetworks(request.project).filter((name) => !request.facts.networks.includes(name));
  const steps = [
    ...planLeave(services, undo, request),
    ...orderServices(request.project.services).flatMap((wave, index) => {
      const names = new Set(wave.map((service) => service.name));
      const plans = services.filter((plan) => names.has(plan.service) && plan.action !== 'keep');
      const longestStop = Math.max(0, ...wave.map((service) => service.stopGraceSeconds));
      return plans.length === 0 ? [] : planWave(index + 1, plans, longestStop, undo, request);
    }),
  ];
  const [first, ...rest] = steps;
  if (first === undefined) return [];
  // Compose makes the networks with the first service; and what is put back is started in the order of its own release.
  const networksAway = networks.length > 0 ? [{ verb: 'remove-networks', networks } as const] : [];
  const wholeWay =
    first.kind === 'run'
      ? [{ ...first, undo: [...networksAway, ...undo.inOrder(steps), ...first.undo] }, ...rest]
      : steps;
  return [
    ...wholeWay,
    {
      kind: 'hold',
      id: 'prove',
      title: 'prove the release',
      gate: { gate: 'proven' },
      timeoutSeconds: request.readyTimeoutSeconds,
    },
  ];
}

/** Stops what leaves before the others start: a service that was renamed must not hold its port or volume against its successor. */
function planLeave(services: readonly ServicePlan[], undo: Undo, request: PlanRequest): Step[] {
  const { previous, target, layout, readyTimeoutSeconds } = request;
  // Compose can only stop, and only bring back, what the release before has.
  const leaving = named(services, 'remove').filter((name) => undo.isReleased(name));
  if (leaving.length === 0 || previous === undefined) return [];
  return [
    {
      kind: 'run',
      id: 'stop-removed',
      title: `stop ${leaving.join(', ')}`,
      do: stopServices(target, releaseComposeFile(layout, previous), leaving),
      undo: undo.replacement(leaving),
      timeoutSeconds: 60 + readyTimeoutSeconds,
    },
  ];
}

/** Services that do not depend on each other: made, replaced, and waited for together. */
function planWave(
  number: number,
  plans: readonly ServicePlan[],
  longestStopSeconds: number,
  undo: Undo,
  { target, layout, release, readyTimeoutSeconds }: PlanRequest,
): Step[] {
  const created = named(plans, 'create');
  const changed = plans.filter((plan) => plan.action !== 'create').map((plan) => plan.service);
  const run = (verb: 'create' | 'replace', names: readonly string[], way: readonly UndoVerb[]): Step[] =>
    names.length === 0
      ? []
      : [
          {
            kind: 'run',
            id: `${verb}-${number}`,
            title: `${verb} ${names.join(', ')}`,
            do: startServices(target, releaseComposeFile(layout, release), names),
            undo: way,
            timeoutSeconds: 60 + longestStopSeconds + readyTimeoutSeconds,
          },
        ];
  const names = [...created, ...changed];
  return [
    ...run('create', created, [{ verb: 'remove-services', services: created }]),
    ...run('replace', changed, undo.replacement(changed)),
    {
      kind: 'hold',
      id: `ready-${number}`,
      title: `wait until ${names.join(', ')} ${names.length === 1 ? 'is' : 'are'} ready`,
      gate: { gate: 'ready', services: names },
      timeoutSeconds: readyTimeoutSeconds,
    },
  ];
}

interface Undo {
  /** Whether the release before has this service. */
  isReleased(name: string): boolean;
  /** The way back of services that are stopped or replaced. */
  replacement(names: readonly string[]): UndoVerb[];
  /** All that these steps put back, as one verb in the order of dependencies. */
  inOrder(steps: readonly Step[]): UndoVerb[];
}

function createUndo({ before, previous }: PlanRequest): Undo {
  const services = isObject(before) ? readProject(before).services : [];
  const released = new Map(services.map((service) => [service.name, service]));
  const awaited = new Set(
    services.flatMap((service) =>
      Object.entries(service.dependsOn).flatMap(([name, how]) => (how === 'service_healthy' ? [name] : [])),
    ),
  );
  const replacement = (names: readonly string[]): UndoVerb[] => {
    // Left by somebody before that release: there is nothing to bring back.
    const away = names.filter((name) => !released.has(name));
    // What has run to its end is not put back: an old migration must not run on a new schema.
    const back = names.filter((name) => released.get(name)?.oneShot === false);
    const restored = back.filter((name) => awaited.has(name));
    return [
      ...(away.length > 0 ? [{ verb: 'remove-services', services: away } as const] : []),
      ...(back.length > 0 && previous !== undefined
        ? [{ verb: 'restore-services', release: previous, services: back, awaited: restored } as const]
        : []),
    ];
  };
  return {
    isReleased: (name) => released.has(name),
    replacement,
    inOrder: (steps) => {
      const verbs = steps.flatMap((step) => (step.kind === 'run' ? step.undo : []));
      const names = new Set(verbs.flatMap((verb) => (verb.verb === 'restore-services' ? verb.services : [])));
      const ordered = orderServices(services).flatMap((wave) => wave.map((service) => service.name));
      return replacement(ordered.filter((name) => names.has(name)));
    },
  };
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
