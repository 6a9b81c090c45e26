/** From what is wanted and what is there to what is to be done, and why. Pure. */
import {
  type Addition,
  type ComposeTarget,
  createReplicas,
  replaceServices,
  runOnce,
  startContainers,
  startReplicas,
  stopContainers,
} from '../commands/compose';
import { explainDifference } from '../compose/difference';
import { isObject, orderServices, type Project, readProject, type Service } from '../compose/project';
import { orderUndo } from '../guardian/journal';
import { type Json, readMember, readText } from '../json';
import type { FinishVerb, RoutedService, Step, UndoVerb } from '../model/step';
import type { ContainerState } from '../probes/container';
import { releaseComposeFile, type StoreLayout } from '../releases/layout';
import type { ServerFacts } from '../server/facts';
import type { Strategy } from '../strategies/choose';
import { isStateful } from '../strategies/stateful';

export type ServiceAction = 'create' | 'replace' | 'scale' | 'start' | 'keep' | 'remove';

export interface ServicePlan {
  readonly service: string;
  readonly action: ServiceAction;
  /** Why, in words; names only, never a value. */
  readonly reasons: readonly string[];
  readonly stateful: boolean;
  /** How a changed service is replaced, and why so. */
  readonly strategy: Strategy;
  /** As they run now and as they will; undefined where there is none. */
  readonly imageBefore: string | undefined;
  readonly imageAfter: string | undefined;
  readonly replicas: number;
}

/** A command of the new image that runs once before the switch. */
export interface Migration {
  readonly service: string;
  readonly command: readonly string[];
}

export interface DeployPlan {
  readonly release: string;
  readonly previous: string | undefined;
  readonly services: readonly ServicePlan[];
  readonly steps: readonly Step[];
  /** The whole way back, in order. */
  readonly undo: readonly UndoVerb[];
  /** What is left after the commit, in order. */
  readonly finish: readonly FinishVerb[];
  /** Ids of containers that the plan leaves behind: old replicas, which go after the commit. */
  readonly retired: readonly string[];
  /** By service: ids of containers that are there before, none of which is a new replica. */
  readonly before: Readonly<Record<string, readonly string[]>>;
  /** Services that leave the project; removed after the commit. */
  readonly removed: readonly string[];
  /** Services with containers of this project that no release knows: they are left alone. */
  readonly unknown: readonly string[];
  readonly migrations: readonly string[];
}

export interface PlanRequest {
  readonly project: Project;
  /** By service: Compose's hash of the new configuration. */
  readonly hashes: Readonly<Record<string, string>>;
  readonly facts: Pick<ServerFacts, 'containers' | 'networks'> & Partial<Pick<ServerFacts, 'docker'>>;
  readonly strategies: Readonly<Record<string, Strategy>>;
  /** By router service: whether its nginx resolves names again while it runs. Default yes. */
  readonly resolve?: Readonly<Record<string, boolean>>;
  readonly migrations?: readonly Migration[];
  /**
   * Whether one-shot services run, or are only made: one of an older release would do old work on newer data. Default true.
   */
  readonly runsOnce?: boolean;
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
    ...settleInPlace(
      request.project.services.map((service) => planService(service, request)),
      request,
    ),
    ...planRemovals(request),
  ];
  const planner = new Planner(services, request);
  const steps = planner.steps();
  const order = orderServices(readServices(request.before)).flatMap((wave) => wave.map((service) => service.name));
  return {
    release: request.release,
    previous: request.previous,
    services,
    steps,
    undo: orderUndo(
      [...planner.networksAway(), ...steps.flatMap((step) => (step.kind === 'hold' ? [] : step.undo))],
      order,
    ),
    finish: planner.finish(),
    retired: planner.retired(),
    before: Object.fromEntries(services.map(({ service }) => [service, idsOf(request, service)])),
    removed: named(services, 'remove'),
    unknown: listLeavers(request).filter((name) => !request.released.has(name)),
    migrations: (request.migrations ?? []).map((migration) => nameRun(migration, request)),
  };
}

/** Nothing would change on the server. */
export function isUnchanged(plan: DeployPlan): boolean {
  return plan.services.every((service) => service.action === 'keep');
}

/** `created db, replaced api, removed web`. */
export function describeChanges(plan: DeployPlan): string {
  const done = {
    create: 'created',
    replace: 'replaced',
    scale: 'scaled',
    start: 'started',
    remove: 'removed',
  } as const;
  return (['create', 'replace', 'scale', 'start', 'remove'] as const)
    .map((action) => ({ words: done[action], names: named(plan.services, action) }))
    .filter(({ names }) => names.length > 0)
    .map(({ words, names }) => `${words} ${names.join(', ')}`)
    .join('; ');
}

export function changedServices(plan: DeployPlan): string[] {
  return plan.services.filter((service) => service.action !== 'keep').map((service) => service.service);
}

/** Services that do not serve between the stop of the old and the start of the new. */
export function servicesWithOutage(plan: DeployPlan): string[] {
  return plan.services
    .filter(
      ({ action, strategy, imageBefore }) =>
        action === 'replace' && imageBefore !== undefined && strategy.order !== 'start-first',
    )
    .map(({ service }) => service);
}

const NO_STRATEGY: Strategy = {
  order: 'stop-first',
  reasons: [],
  router: undefined,
  groups: [],
  groupDelaySeconds: 0,
  monitorSeconds: undefined,
  replacedWith: [],
};

function planService(service: Service, request: PlanRequest): ServicePlan {
  const replicas = replicasOf(request.facts.containers, service.name);
  const common = {
    service: service.name,
    stateful: isStateful(service),
    strategy: request.strategies[service.name] ?? NO_STRATEGY,
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
  const before = readMember(readMember(request.before, 'services'), service.name);
  const asBefore = before !== undefined && explainDifference(before, service.raw).length === 0;
  const down = replicas.find((container) => !isUp(container, service.oneShot, asBefore));
  if (replicas.length !== service.replicas) {
    const scaling = [`replicas ${replicas.length} -> ${service.replicas}`];
    // What is down besides, or cannot have one beside it, is made anew.
    const action = down === undefined && common.strategy.order !== 'in-place' ? 'scale' : 'replace';
    return { ...common, action, reasons: scaling };
  }
  if (down !== undefined) {
    return { ...common, action: 'start', reasons: [`${down.name} is ${down.state}, exit code ${down.exitCode}`] };
  }
  return { ...common, action: 'keep', reasons: remark === undefined ? [] : [remark] };
}

/** As Compose sees it: what it says it depends on, and what it lives with or links to. */
function listDependencies(
  name: string,
  { project, strategies }: Pick<PlanRequest, 'project' | 'strategies'>,
): string[] {
  const service = project.services.find((one) => one.name === name);
  const names = new Set(project.services.map((one) => one.name));
  const all = [
    ...Object.keys(service?.dependsOn ?? {}),
    ...(service?.joins ?? []),
    ...(strategies[name]?.replacedWith ?? []),
  ];
  return [...new Set(all)].filter((one) => names.has(one));
}

/**
 * Compose recreates a service in its place together with what it depends on, as far as that differs. So that it finds no old
 * replicas there that stand beside new ones, what changes of its dependencies is replaced in its place as well.
 */
function settleInPlace(plans: readonly ServicePlan[], request: PlanRequest): ServicePlan[] {
  const isInPlace = ({ action, strategy }: ServicePlan): boolean =>
    action === 'replace' && strategy.order === 'in-place';
  const reached = new Map<string, string>();
  const reach = (name: string): void => {
    for (const next of listDependencies(name, request)) {
      if (reached.has(next)) continue;
      reached.set(next, name);
      reach(next);
    }
  };
  for (const plan of plans.filter(isInPlace)) reach(plan.service);
  return plans.map((plan) => {
    const dependent = reached.get(plan.service);
    if (dependent === undefined || !['replace', 'scale'].includes(plan.action) || isInPlace(plan)) return plan;
    const reasons = [`${dependent}, which depends on it, is replaced in its place`];
    return { ...plan, action: 'replace', strategy: { ...plan.strategy, order: 'in-place', reasons } };
  });
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
  const isReplaced = (name: string): boolean => {
    const other = request.project.services.find((one) => one.name === name);
    return other !== undefined && ['create', 'replace'].includes(planService(other, request).action);
  };
  const following = (request.strategies[service.name]?.replacedWith ?? [])
    .filter(isReplaced)
    .map((name) => `${name}, which it is replaced with, is replaced`);
  if (service.joins.length > 0 && before !== undefined) {
    // Compose puts the other container's ID in the place of its name, so the hash of the file is never that of the container.
    return [...differences, ...following];
  }
  if (replicas.every((container) => container.configHash === request.hashes[service.name])) return following;
  if (differences.length > 0) return [...differences, ...following];
  if (replicas.some((container) => container.image !== service.image)) return ['image'];
  // The container is not what the store says of it: changed by hand, or another version of Compose hashes differently.
  return ['the running container differs from its release'];
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
      strategy: NO_STRATEGY,
      imageBefore: replicasOf(request.facts.containers, name)[0]?.image,
      imageAfter: undefined,
      replicas: 0,
    }));
}

/** Services with containers that the Compose file does not have. */
function listLeavers({ project, facts }: Pick<PlanRequest, 'project' | 'facts'>): string[] {
  const wanted = new Set(project.services.map((service) => service.name));
  const there = new Set(
    facts.containers.filter((container) => !container.oneoff).map((container) => container.service),
  );
  return [...there].filter((name) => !wanted.has(name)).sort();
}

/** How long nginx keeps its old workers for idle clients (`keepalive_min_timeout`), and a request may take meanwhile. */
const DRAIN_SECONDS = 15;

class Planner {
  readonly #plans: ReadonlyMap<string, ServicePlan>;
  readonly #request: PlanRequest;
  /** Services of the Compose file that route to others. */
  readonly #routers: ReadonlySet<string>;

  constructor(plans: readonly ServicePlan[], request: PlanRequest) {
    this.#plans = new Map(plans.map((plan) => [plan.service, plan]));
    this.#request = request;
    this.#routers = new Set(request.project.services.flatMap((service) => service.router?.service ?? []));
  }

  steps(): Step[] {
    const { project, readyTimeoutSeconds } = this.#request;
    const changed = project.services.filter((service) => this.#plan(service).action !== 'keep');
    if (changed.length === 0 && this.#leavers().length === 0) return [];
    const waves = orderServices(project.services);
    const isRouter = (service: Service): boolean => this.#routers.has(service.name);
    const routers = waves.flat().filter(isRouter);
    const others = waves.map((wave) => wave.filter((service) => !isRouter(service)));
    return [
      ...this.#stopLeavers(),
      ...others.flatMap((wave, index) => this.#wave(String(index + 1), wave)),
      ...routers.flatMap((router) => this.#route(router)),
      ...this.#wave('routers', routers),
      {
        kind: 'hold',
        id: 'prove',
        title: 'prove the release',
        gate: { gate: 'proven' },
        timeoutSeconds: readyTimeoutSeconds,
      },
    ];
  }

  /** Compose makes them with the first service. */
  networksAway(): UndoVerb[] {
    const networks = listNetworks(this.#request.project).filter((name) => !this.#request.facts.networks.includes(name));
    return networks.length === 0 ? [] : [{ verb: 'remove-networks', networks }];
  }

  retired(): string[] {
    const { project } = this.#request;
    return [...project.services.flatMap((service) => this.#retiredOf(service)), ...this.#leavers().map(({ id }) => id)];
  }

  finish(): FinishVerb[] {
    const { project } = this.#request;
    const retired = project.services.flatMap((service) => this.#retiredOf(service));
    const routers = [...this.#routers].filter((name) => this.#isRouteChanged(name));
    const leaving = named([...this.#plans.values()], 'remove');
    return [
      ...this.#handOver(),
      // First of all: a drain is of those who came by what was in force before.
      ...routers.map((router) => ({ verb: 'settle-router', router }) as const),
      ...project.services.flatMap((service): FinishVerb[] => {
        const ids = this.#retiredOf(service).filter((id) => this.#container(id)?.state === 'running');
        const { router } = service;
        const { action, strategy } = this.#plan(service);
        if (router?.port === undefined || ids.length === 0 || !routers.includes(router.service)) return [];
        // What was stopped for its successor has no connections left.
        if (action === 'replace' && strategy.order !== 'start-first') return [];
        return [{ verb: 'drain', router: router.service, port: router.port, boundSeconds: DRAIN_SECONDS, ids }];
      }),
      ...(retired.length === 0 ? [] : [{ verb: 'retire', ids: retired } as const]),
      ...(leaving.length === 0 ? [] : [{ verb: 'remove-services', services: leaving } as const]),
    ];
  }

  #plan(service: Service): ServicePlan {
    const plan = this.#plans.get(service.name);
    if (plan === undefined) throw new Error(`service ${service.name} has no plan`);
    return plan;
  }

  #container(id: string): ContainerState | undefined {
    return this.#request.facts.containers.find((container) => container.id === id);
  }

  /** Old replicas that go after the commit. */
  #retiredOf(service: Service): string[] {
    const { action, strategy } = this.#plan(service);
    const replicas = replicasOf(this.#request.facts.containers, service.name);
    if (action === 'replace' && strategy.order !== 'in-place') return replicas.map(({ id }) => id);
    // The newest ones go: the oldest have proven themselves the longest.
    if (action === 'scale') return replicas.slice(service.replicas).map(({ id }) => id);
    return [];
  }

  #leavers(): ContainerState[] {
    return named([...this.#plans.values()], 'remove').flatMap((name) =>
      replicasOf(this.#request.facts.containers, name),
    );
  }

  /** Stops what leaves before the others start: a service that was renamed must not hold its port or volume against its successor. */
  #stopLeavers(): Step[] {
    const running = this.#leavers().filter(isAlive);
    if (running.length === 0) return [];
    return [this.#stop('stop-removed', running, 10)];
  }

  #stop(id: string, containers: readonly ContainerState[], longestStopSeconds: number): Step {
    const { layout, readyTimeoutSeconds, facts } = this.#request;
    const services = [...new Set(containers.map((container) => container.service))];
    return {
      kind: 'run',
      id,
      title: `stop ${services.join(', ')}`,
      do: stopContainers(
        layout,
        containers.map((container) => ({ id: container.id, restart: container.restartPolicy ?? 'no' })),
        facts.docker?.kind === 'ready' && readMember(facts.docker.info, 'LiveRestoreEnabled') === true,
      ),
      undo: containers.map((container) => ({
        verb: 'revive',
        id: container.id,
        restart: container.restartPolicy ?? 'no',
      })),
      timeoutSeconds: 60 + longestStopSeconds + readyTimeoutSeconds,
    };
  }

  /** Services that do not depend on each other: made, replaced, and waited for together. */
  #wave(name: string, wave: readonly Service[]): Step[] {
    const { target, layout, release, readyTimeoutSeconds, facts } = this.#request;
    const file = releaseComposeFile(layout, release);
    // What is replaced in its place cannot be made without being started.
    const isLeft = (service: Service): boolean =>
      !this.#runs(service) && this.#plan(service).strategy.order === 'in-place';
    const act = (...actions: ServiceAction[]): Service[] =>
      wave.filter((service) => actions.includes(this.#plan(service).action) && !isLeft(service));
    const inPlace = act('replace').filter((service) => this.#plan(service).strategy.order === 'in-place');
    const additions = [...act('create', 'replace', 'scale')]
      .filter((service) => !inPlace.includes(service))
      .map((service): Addition & { readonly of: Service } => {
        const before = idsOf(this.#request, service.name);
        const adding = this.#plan(service).action === 'scale' ? service.replicas - before.length : service.replicas;
        return { service: service.name, adding, before, of: service };
      })
      .filter(({ adding }) => adding > 0);
    // What runs to its end is made, so that Compose finds what it looks for.
    const launched = additions.filter(({ of }) => this.#runs(of));
    const replaced = additions
      .filter(({ of }) => this.#plan(of).action === 'replace' && this.#plan(of).strategy.order === 'stop-first')
      .flatMap(({ service }) => replicasOf(facts.containers, service));
    const stopping = replaced.filter(isAlive);
    const stopped = [...this.#leavers(), ...replaced];
    const warm = additions
      .filter(({ of }) => this.#plan(of).strategy.order === 'start-first')
      .flatMap(({ service }) => replicasOf(facts.containers, service))
      .filter((container) => container.state === 'running');
    const again = act('start').filter((service) => this.#runs(service));
    const down = again.flatMap((service) =>
      replicasOf(facts.containers, service.name).filter((container) => container.state !== 'running'),
    );
    const longestStop = Math.max(0, ...wave.map((service) => service.stopGraceSeconds));
    const timeoutSeconds = 60 + longestStop + readyTimeoutSeconds;
    const waiting = [
      ...launched.map(({ service }) => service),
      ...[...inPlace, ...again].map((service) => service.name),
    ];
    const migrations = (this.#request.migrations ?? []).filter(({ service }) =>
      wave.some((one) => one.name === service),
    );
    const steps: Step[] = [...migrations.map((migration) => this.#migrate(migration, file))];
    if (additions.length > 0) {
      steps.push({
        kind: 'run',
        id: `create-${name}`,
        title: `create ${additions.map(({ service, before }) => (before.length === 0 ? service : `new ${service}`)).join(', ')}`,
        do: createReplicas(target, file, additions, this.#dependenciesOf(additions.map(({ of }) => of))),
        undo: [
          ...additions.map(({ service, before }) => ({ verb: 'keep-only', service, ids: before }) as const),
          // They are not touched; but a boot half-way does not bring back those without a restart policy.
          ...warm.map(({ id, restartPolicy }) => ({ verb: 'revive', id, restart: restartPolicy ?? 'no' }) as const),
        ],
        timeoutSeconds,
      });
    }
    if (stopping.length > 0) steps.push(this.#stop(`stop-${name}`, stopping, longestStop));
    if (inPlace.length > 0) {
      steps.push({
        kind: 'run',
        id: `replace-${name}`,
        title: `replace ${inPlace.map((service) => service.name).join(', ')}`,
        do: replaceServices(
          target,
          file,
          inPlace.map((service) => service.name),
          this.#dependenciesOf(inPlace),
        ),
        undo: this.#restore(inPlace),
        timeoutSeconds,
      });
    }
    const groupsOf = ({ of, adding }: (typeof additions)[number]): readonly number[] => {
      const { groups } = this.#plan(of).strategy;
      return this.#plan(of).action === 'scale' || groups.length === 0 ? [adding] : groups;
    };
    const groupCount = Math.max(0, ...launched.map((one) => groupsOf(one).length));
    for (let group = 0; group < groupCount; group++) {
      const starting = launched.filter((one) => groupsOf(one).length > group);
      const names = starting.map(({ service }) => service).join(', ');
      const suffix = groupCount === 1 ? '' : `-${group + 1}`;
      const delaySeconds =
        group === 0 ? 0 : Math.max(0, ...starting.map(({ of }) => this.#plan(of).strategy.groupDelaySeconds));
      steps.push({
        kind: 'run',
        id: `start-${name}${suffix}`,
        title: groupCount === 1 ? `start ${names}` : `start ${names} (group ${group + 1} of ${groupCount})`,
        do: startReplicas(
          target,
          starting.map((one) => ({ service: one.service, before: one.before, count: groupsOf(one)[group] ?? 0 })),
          delaySeconds,
          stopped.map(({ id }) => id),
        ),
        undo: [],
        timeoutSeconds: timeoutSeconds + delaySeconds,
      });
      if (group + 1 === groupCount) continue;
      // The next group starts when this one is ready.
      steps.push({
        kind: 'hold',
        id: `ready-${name}${suffix}`,
        title: `wait until ${names} (group ${group + 1} of ${groupCount}) is ready`,
        gate: {
          gate: 'ready',
          services: starting.map(({ service }) => service),
          started: Object.fromEntries(
            starting.map((one) => [
              one.service,
              groupsOf(one)
                .slice(0, group + 1)
                .reduce((sum, count) => sum + count, 0),
            ]),
          ),
        },
        timeoutSeconds: readyTimeoutSeconds,
      });
    }
    if (down.length > 0) {
      steps.push({
        kind: 'run',
        id: `start-again-${name}`,
        title: `start ${[...new Set(down.map((container) => container.service))].join(', ')} again`,
        do: startContainers(down.map(({ id }) => id)),
        undo: [],
        timeoutSeconds,
      });
    }
    if (waiting.length > 0) {
      steps.push({
        kind: 'hold',
        id: `ready-${name}`,
        title: `wait until ${waiting.join(', ')} ${waiting.length === 1 ? 'is' : 'are'} ready`,
        gate: { gate: 'ready', services: waiting },
        timeoutSeconds: readyTimeoutSeconds,
      });
    }
    return steps;
  }

  #runs({ oneShot }: Service): boolean {
    return !oneShot || this.#request.runsOnce !== false;
  }

  /** All that these depend on, and what those depend on: what Compose looks at, and takes a `--scale` for. */
  #dependenciesOf(services: readonly Service[]): string[] {
    const found = new Set<string>();
    const add = (name: string): void => {
      for (const next of listDependencies(name, this.#request)) {
        if (found.has(next)) continue;
        found.add(next);
        add(next);
      }
    };
    for (const { name } of services) add(name);
    return [...found].sort();
  }

  #migrate(migration: Migration, file: string): Step {
    const name = nameRun(migration, this.#request);
    return {
      kind: 'run',
      id: `migrate-${migration.service}`,
      title: `migrate: ${migration.service}: ${migration.command.join(' ')}`,
      do: runOnce(this.#request.target, file, { ...migration, name }),
      undo: [{ verb: 'remove-run', name }],
      // It is not for us to say how long a table takes; and a migration that is cut off is worse than one that is late.
      timeoutSeconds: 3600,
      onAbort: 'finish',
    };
  }

  /** The way back of what is replaced in its place. */
  #restore(services: readonly Service[]): UndoVerb[] {
    const { before, previous } = this.#request;
    const released = readServices(before);
    const names = services.map((service) => service.name);
    // Left by somebody before that release: there is nothing to bring back.
    const away = names.filter((name) => released.every((service) => service.name !== name));
    // What has run to its end is not put back: an old migration must not run on a new schema.
    const back = released
      .filter((service) => names.includes(service.name) && !service.oneShot)
      .map((service) => service.name);
    const awaited = new Set(
      released.flatMap((service) =>
        Object.entries(service.dependsOn).flatMap(([name, how]) => (how === 'service_healthy' ? [name] : [])),
      ),
    );
    return [
      ...away.map((service) => ({ verb: 'keep-only', service, ids: [] }) as const),
      ...(back.length > 0 && previous !== undefined
        ? [
            {
              verb: 'restore-services',
              release: previous,
              services: back,
              awaited: back.filter((name) => awaited.has(name)),
            } as const,
          ]
        : []),
    ];
  }

  /** Until the commit a boot brings back the old release, and from then on the new one. */
  #handOver(): FinishVerb[] {
    const { project } = this.#request;
    const added = project.services.filter((service) => {
      const { action, strategy } = this.#plan(service);
      // What has run to its end is not to be started again.
      if (service.oneShot) return false;
      return ['create', 'scale'].includes(action) || (action === 'replace' && strategy.order !== 'in-place');
    });
    const stopped = project.services
      .filter((service) => this.#plan(service).strategy.order === 'stop-first')
      .filter((service) => this.#plan(service).action === 'replace')
      .flatMap((service) => this.#retiredOf(service));
    // Also what did not run: a restart policy of its own would bring it up at a boot, beside its successor.
    const retired = [...stopped, ...this.#leavers().map(({ id }) => id)];
    if (added.length + retired.length === 0) return [];
    const services = added.map((service) => ({
      service: service.name,
      restart: service.restartPolicy,
      before: idsOf(this.#request, service.name),
    }));
    return [{ verb: 'hand-over', retired, services }];
  }

  #routedBy(router: string): Service[] {
    return this.#request.project.services.filter((service) => service.router?.service === router);
  }

  /** Its file must name other replicas than before, or it is new itself. */
  #isRouteChanged(router: string): boolean {
    const own = this.#plans.get(router);
    return (
      own?.action === 'create' ||
      own?.action === 'replace' ||
      this.#routedBy(router).some((service) => ['create', 'replace', 'scale'].includes(this.#plan(service).action))
    );
  }

  #route(router: Service): Step[] {
    if (!this.#isRouteChanged(router.name)) return [];
    const upstreams = this.#routedBy(router.name).map((service): RoutedService => {
      const { action, strategy } = this.#plan(service);
      const running = replicasOf(this.#request.facts.containers, service.name)
        .filter((container) => container.state === 'running')
        .map(({ id }) => id);
      const before = running
        // A service that was stopped for its successor is no longer there to be asked.
        .filter(() => action !== 'replace' || strategy.order === 'start-first');
      const retired = new Set(this.#retiredOf(service));
      return {
        service: service.name,
        port: service.router?.port ?? 0,
        before,
        staying: action === 'replace' ? [] : before.filter((id) => !retired.has(id)),
        retiring: running.filter((id) => retired.has(id)),
      };
    });
    return [
      {
        kind: 'route',
        id: `route-${router.name}`,
        title: `let ${router.name} route to ${upstreams.map(({ service }) => service).join(', ')} of the new release`,
        router: router.name,
        upstreams,
        resolve: this.#request.resolve?.[router.name] ?? true,
        undo: [
          { verb: 'restore-router', router: router.name },
          ...upstreams
            .filter(({ before }) => before.length > 0)
            .map(({ service, port }): UndoVerb => {
              const ids = idsOf(this.#request, service);
              return { verb: 'drain-new', router: router.name, port, boundSeconds: DRAIN_SECONDS, service, ids };
            }),
        ],
        timeoutSeconds: 60,
      },
    ];
  }
}

/** One-off containers have a name, so that whoever comes next can find them. */
function nameRun({ service }: Migration, { target, release }: PlanRequest): string {
  return `${target.project}-${service}-migrate-${release.toLowerCase()}`;
}

function readServices(project: Json | undefined): readonly Service[] {
  return isObject(project) ? readProject(project).services : [];
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

/** Its processes are there, or will be in a moment: a crash loop works on its volume as well. */
function isAlive({ state }: ContainerState): boolean {
  return ['running', 'restarting', 'paused'].includes(state);
}

function named(services: readonly ServicePlan[], action: ServiceAction): string[] {
  return services.filter((service) => service.action === action).map((service) => service.service);
}

function idsOf({ facts }: Pick<PlanRequest, 'facts'>, service: string): string[] {
  return replicasOf(facts.containers, service).map((container) => container.id);
}

/** Oldest first; Docker lists them the other way round. */
function replicasOf(containers: readonly ContainerState[], service: string): ContainerState[] {
  return containers
    .filter((container) => container.service === service && !container.oneoff)
    .sort((a, b) => a.number - b.number);
}
