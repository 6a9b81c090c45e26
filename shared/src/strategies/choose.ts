/** How each service of a project is replaced, and why: pure. */
import type { PreflightFinding } from '../errors';
import { quoteValue, suggest } from '../inputs/values';
import { type Json, readList, readMember, readText } from '../json';
import type { ContainerMount, ContainerState } from '../probes/container';
import { isObject, type Mount, type Project, type Service } from '../compose/project';
import { isReplicaCount, judgeKeys, type ReplacementOrder, splitReplicas } from './keys';
import { isStatefulMount } from './stateful';

export interface Strategy {
  /**
   * `start-first`: the new replicas come up beside the old, which stay, warm, until the commit. `stop-first`: the old are
   * stopped and kept, the new are made beside them. `in-place`: stop-first by Compose's own recreate, where beside cannot be had.
   */
  readonly order: ReplacementOrder;
  /** Why, in words: `behind router web`, `has the volume postgres-data`. Names only, never a value. */
  readonly reasons: readonly string[];
  /** What moves its traffic; undefined where nothing does. */
  readonly router: { readonly service: string; readonly port: number } | undefined;
  /** How many new replicas are started at a time; together all of them. Empty without replicas. */
  readonly groups: readonly number[];
  /** Between a group that is ready and the start of the next. */
  readonly groupDelaySeconds: number;
  /** How long what is ready must stay so; undefined where the file does not say. */
  readonly monitorSeconds: number | undefined;
  /** Services that this one is replaced with: `depends_on: restart: true`, shared namespaces, `volumes_from`, `links`. */
  readonly replacedWith: readonly string[];
}

export interface ChosenStrategies {
  /** By service. Where there are findings, only good to be shown. */
  readonly strategies: Readonly<Record<string, Strategy>>;
  readonly findings: readonly PreflightFinding[];
  readonly warnings: readonly string[];
}

/** @param containers that the server has of this project, running or not. */
export function chooseStrategies(project: Project, containers: readonly ContainerState[]): ChosenStrategies {
  const chosen = project.services.map((service) => chooseStrategy(service, project, containers));
  return {
    strategies: Object.fromEntries(
      chosen.map(({ strategy }, index) => [project.services[index]?.name ?? '', strategy]),
    ),
    findings: [...chosen.flatMap(({ findings }) => findings), ...judgeRouters(project)],
    warnings: project.services.flatMap((service, index) => warnOf(service, chosen[index]?.strategy)),
  };
}

interface Choice {
  readonly strategy: Strategy;
  readonly findings: readonly PreflightFinding[];
}

function chooseStrategy(service: Service, project: Project, containers: readonly ContainerState[]): Choice {
  const asked = service.updateConfig?.order ?? '';
  const routed = service.router === undefined ? [] : [`behind router ${service.router.service}`];
  const obstacles = findObstacles(service, project, containers);
  const wantsBeside = asked === 'start-first' || (asked === '' && service.router !== undefined);
  const order: ReplacementOrder = obstacles.some(({ inPlace }) => inPlace)
    ? 'in-place'
    : wantsBeside && obstacles.length === 0
      ? 'start-first'
      : 'stop-first';
  const said = asked === '' ? [] : [`its \`update_config\` says ${asked}`];
  const reasons = [
    ...(order === 'start-first' ? [...routed, ...said] : [...said, ...obstacles.map(({ text }) => text)]),
  ];
  // A router for a one-shot service is refused in any order; see judgeRouter.
  const against = obstacles.filter(({ kind }) => kind !== 'one-shot' || service.router === undefined);
  const refused: PreflightFinding[] =
    wantsBeside && against.length > 0
      ? [
          {
            message: `Service ${service.name} is ${asked === '' ? `behind router ${service.router?.service ?? ''}` : 'to be replaced with `order: start-first`'}, so that old and new replicas run side by side, but it ${joinWords(against.map(({ text }) => text))}.`,
            hint: `${[...new Set(against.map(({ hint }) => hint))].join(' ')} Or say \`deploy: { update_config: { order: stop-first } }\`: it is away for a moment then.`,
          },
        ]
      : [];
  const { router } = service;
  return {
    strategy: {
      order,
      reasons: reasons.length > 0 ? reasons : ['no router moves its traffic'],
      router: router?.port === undefined ? undefined : { service: router.service, port: router.port },
      groups:
        order === 'in-place'
          ? splitReplicas(service.replicas)
          : splitReplicas(service.replicas, service.updateConfig?.parallelism),
      groupDelaySeconds: service.updateConfig?.delaySeconds ?? 0,
      monitorSeconds: service.updateConfig?.monitorSeconds,
      replacedWith: listReplacers(service, project),
    },
    findings: [
      ...judgeExtension(service),
      ...refused,
      ...judgeKeys(service, order),
      ...judgeContradictions(service, project),
    ],
  };
}

/** What stands against old and new replicas side by side. */
export interface Obstacle {
  readonly kind: 'data' | 'host-port' | 'container-name' | 'network' | 'address' | 'joined' | 'one-shot';
  /** Follows the service's name: `has the volume postgres-data`. */
  readonly text: string;
  readonly hint: string;
  /** Not even a stopped container may stay beside the new one. */
  readonly inPlace?: boolean;
}

export function findObstacles(
  service: Service,
  project: Pick<Project, 'services'>,
  containers: readonly ContainerState[],
): Obstacle[] {
  const others = project.services.filter((other) => other.joins.includes(service.name));
  const own = containers.filter((container) => container.service === service.name && !container.oneoff);
  const inherited = findAnonymous(service, own);
  return [
    ...(service.oneShot
      ? [
          {
            kind: 'one-shot',
            text: 'is a one-shot service, which runs to its end',
            hint: 'Remove the router or the order.',
          } as const,
        ]
      : []),
    ...(service.containerName === ''
      ? []
      : [
          {
            kind: 'container-name',
            text: `has the container_name ${service.containerName}`,
            hint: 'Remove `container_name`: the name of the service is its name in the network.',
            inPlace: true,
          } as const,
        ]),
    ...[...service.joins, ...others.map(({ name }) => name)].map(
      (name) =>
        ({
          kind: 'joined',
          text: service.joins.includes(name)
            ? `lives in the container of ${name}`
            : `has ${name} living in its container`,
          hint: 'Connect them by a network instead.',
          // Compose looks for one container of the other service, takes any, and removes those that it finds too many
          // (measured with 2.26): with two of them, the wrong one.
          inPlace: true,
        }) as const,
    ),
    ...project.services
      .filter((other) => other.name !== service.name && listLinks(other).includes(service.name))
      .map(
        ({ name }) =>
          ({
            kind: 'joined',
            text: `is linked to by ${name}`,
            hint: 'Remove `links`: the name of the service is its name in the network.',
            // A link names one container. With two of them the alias leads to the old one, and to nothing when that is gone
            // (measured with Compose 2.26).
            inPlace: true,
          }) as const,
      ),
    ...service.mounts
      .filter((mount) => isStatefulMount(mount) && !inherited.some(({ destination }) => destination === mount.target))
      .map((mount) => ({ kind: 'data', ...describeData(mount) }) as const),
    ...listForeignVolumes(service).map(
      (from) =>
        ({
          kind: 'data',
          text: `writes to the volumes of ${from}`,
          hint: 'Take them to read only (`:ro`).',
        }) as const,
    ),
    ...inherited.map(
      (mount) =>
        ({
          kind: 'data',
          text: `has an anonymous volume at ${mount.destination}, which is handed on from container to container`,
          hint: `Give ${mount.destination} a \`tmpfs\`, if nothing in it is worth keeping.`,
          inPlace: true,
        }) as const,
    ),
    ...service.ports.map(
      ({ port, protocol }) =>
        ({
          kind: 'host-port',
          text: `publishes port ${port}${protocol === 'udp' ? '/udp' : ''} of the server`,
          hint: 'Let the router alone publish ports, and name them with `expose` here.',
        }) as const,
    ),
    ...describeNetwork(service),
  ];
}

function describeData(mount: Mount): Pick<Obstacle, 'text' | 'hint'> {
  if (mount.type !== 'volume') {
    return {
      text: `may write to the folder ${mount.source}`,
      hint: 'Mount it to read only (`:ro`), if it is only read.',
    };
  }
  return mount.source === ''
    ? {
        text: `has an anonymous volume at ${mount.target}`,
        hint: `Give ${mount.target} a \`tmpfs\`, if nothing in it is worth keeping.`,
      }
    : { text: `has the volume ${mount.source}`, hint: 'Mount it to read only (`:ro`), if it is only read.' };
}

/** `volumes_from` of containers and services that may be written to. */
function listForeignVolumes(service: Service): string[] {
  return readList(service.raw, 'volumes_from').flatMap((from) =>
    typeof from !== 'string' || from.endsWith(':ro') ? [] : [from.replace(/:rw$/, '')],
  );
}

/**
 * Volumes that nobody named, at places where the new container would inherit them: those of the image's VOLUME. Where the
 * file mounts something of its own, nothing is inherited.
 */
function findAnonymous(service: Service, containers: readonly ContainerState[]): ContainerMount[] {
  const covered = new Set([
    ...service.mounts.map(({ target }) => target),
    ...[readText(service.raw, 'tmpfs'), ...readList(service.raw, 'tmpfs')].map((entry) =>
      typeof entry === 'string' ? (entry.split(':')[0] ?? '') : '',
    ),
  ]);
  // What the file itself mounts without a name is in its mounts, and handed on as well.
  for (const mount of service.mounts) if (mount.type === 'volume' && mount.source === '') covered.delete(mount.target);
  const found = containers
    .flatMap(({ mounts }) => mounts)
    .filter(
      ({ type, name, destination }) => type === 'volume' && /^[0-9a-f]{64}$/.test(name) && !covered.has(destination),
    );
  return found.filter(({ destination }, index) => found.findIndex((one) => one.destination === destination) === index);
}

function describeNetwork(service: Service): Obstacle[] {
  const { networkMode } = service;
  if (networkMode === 'host') {
    return [
      {
        kind: 'network',
        text: 'uses the network of the server (`network_mode: host`)',
        hint: 'Let it use a network of the project.',
      },
    ];
  }
  if (networkMode.startsWith('container:')) {
    return [
      {
        kind: 'network',
        text: `uses the network of another container (\`network_mode: ${networkMode}\`)`,
        hint: 'Let it use a network of the project.',
      },
    ];
  }
  const networks = readMember(service.raw, 'networks');
  const fixed = isObject(networks)
    ? Object.entries(networks).filter(([, how]) =>
        ['ipv4_address', 'ipv6_address', 'mac_address'].some((key) => readText(how, key) !== ''),
      )
    : [];
  const places = [
    ...fixed.map(([name]) => `in network ${name}`),
    ...(readText(service.raw, 'mac_address') === '' ? [] : ['(`mac_address`)']),
  ];
  return places.map((place) => ({
    kind: 'address',
    text: `has a fixed address ${place}`,
    hint: 'Remove the address: the name of the service is enough.',
  }));
}

function listReplacers(service: Service, project: Project): string[] {
  const restarted = Object.entries(service.dependencies).flatMap(([name, how]) => (how.restart ? [name] : []));
  const names = new Set([...service.joins, ...restarted, ...listLinks(service)]);
  return project.services.map(({ name }) => name).filter((name) => names.has(name) && name !== service.name);
}

/** Services of `links`, which are written into a container with the other one's name. */
function listLinks(service: Service): string[] {
  return readList(service.raw, 'links').map((link) => (typeof link === 'string' ? (link.split(':')[0] ?? '') : ''));
}

const EXTENSION_KEYS = ['one-shot', 'router', 'port'];

/** `x-slipway`: a key that is not known would be ignored in silence, which is worse than an error. */
function judgeExtension(service: Service): PreflightFinding[] {
  const extension = readMember(service.raw, 'x-slipway');
  if (extension === undefined) return [];
  const known = 'Known are: `x-slipway: { router: web, port: 3000 }` and `x-slipway: { one-shot: true }`.';
  if (!isObject(extension)) {
    return [{ message: `Service ${service.name} has an \`x-slipway\` that is no mapping.`, hint: known }];
  }
  const refuse = (what: string, hint = known): PreflightFinding => ({
    message: `Service ${service.name} has an \`x-slipway\` with ${what}.`,
    hint,
  });
  const findings = Object.keys(extension)
    .filter((key) => !EXTENSION_KEYS.includes(key))
    .map((key) => refuse(`the unknown key ${quoteValue(key)}`, endHint(known, suggest(key, EXTENSION_KEYS))));
  const { 'one-shot': oneShot, router, port } = extension;
  if (oneShot !== undefined && typeof oneShot !== 'boolean') {
    findings.push(refuse(`a \`one-shot\` that is neither true nor false`));
  }
  if (router !== undefined && (typeof router !== 'string' || router === '')) {
    findings.push(refuse('a `router` that is no name of a service'));
  }
  if (port !== undefined && !isPort(port)) {
    findings.push(
      refuse('a `port` that is no number from 1 to 65535', 'It is the port inside the container, without quotes.'),
    );
  }
  if (port !== undefined && router === undefined) findings.push(refuse('a `port` and no `router`'));
  if (service.router !== undefined && port === undefined && service.router.port === undefined) {
    findings.push(
      refuse(
        `a \`router\` and no \`port\`, and ${readList(service.raw, 'expose').length === 0 ? 'no `expose`' : 'an `expose` that names not exactly one TCP port'}`,
        `Say on which port the container listens: \`x-slipway: { router: ${service.router.service}, port: 3000 }\`.`,
      ),
    );
  }
  return findings;
}

function isPort(value: Json): boolean {
  return typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= 65_535;
}

function judgeRouters(project: Project): PreflightFinding[] {
  return project.services.flatMap((service) =>
    service.router === undefined ? [] : judgeRouter(service, service.router.service, project),
  );
}

function judgeRouter(service: Service, name: string, project: Project): PreflightFinding[] {
  const refuse = (what: string, hint: string): PreflightFinding => ({
    message: `Service ${service.name} names the router ${quoteValue(name)}, ${what}.`,
    hint,
  });
  const router = project.services.find((one) => one.name === name);
  if (name === service.name) return [refuse('which is itself', 'Name the service of the nginx in front of it.')];
  if (router === undefined) {
    const names = project.services.map((one) => one.name);
    const hint = endHint(`The services are: ${names.join(', ')}.`, suggest(name, names));
    return [refuse('which is no service of the project', hint)];
  }
  const findings: PreflightFinding[] = [];
  if (router.router !== undefined) {
    findings.push(refuse('which is behind a router itself', 'Name the nginx that publishes the ports for both.'));
  }
  if (router.oneShot) findings.push(refuse('which is a one-shot service', 'A router is an nginx that stays up.'));
  if (router.replicas !== 1) {
    findings.push(
      refuse(
        `which has ${router.replicas} replicas`,
        'Give it one: they would not learn of a new release at the same moment.',
      ),
    );
  }
  if (service.oneShot) {
    findings.push(
      refuse('and is a one-shot service, which runs to its end', 'Remove its `router`, or its `one-shot`.'),
    );
  }
  if (service.replicas === 0) {
    findings.push(refuse('and has no replicas that it could send requests to', 'Give it one, or remove its `router`.'));
  }
  if (router.dependencies[service.name]?.restart === true) {
    findings.push(
      refuse(
        `which depends on it with \`restart: true\`, and would go away with each release of it`,
        'Remove `restart`: the router follows the release without it.',
      ),
    );
  }
  if (router.networkMode !== '' || service.networkMode !== '') {
    const [who, mode] = router.networkMode === '' ? [service.name, service.networkMode] : [name, router.networkMode];
    findings.push(
      refuse(
        `and ${who} has \`network_mode: ${mode}\`, where the names of the project's containers are not known`,
        'Let both use a network of the project.',
      ),
    );
  } else if (!service.networks.some((network) => router.networks.includes(network))) {
    findings.push(
      refuse(
        `and they share no network: ${service.name} is in ${service.networks.join(', ')}, ${name} in ${router.networks.join(', ')}`,
        `Add one of ${service.name}'s networks to ${name}.`,
      ),
    );
  }
  return findings;
}

/** Words of the file that cannot all hold. */
function judgeContradictions(service: Service, project: Project): PreflightFinding[] {
  const findings: PreflightFinding[] = [];
  const { name } = service;
  if (!isReplicaCount(service.replicas)) {
    findings.push({
      message: `Service ${name} asks for ${service.replicas} replicas.`,
      hint: 'Write a whole number, up to 10000.',
    });
  }
  if (service.containerName !== '' && service.replicas > 1) {
    findings.push({
      message: `Service ${name} has ${service.replicas} replicas and the container_name ${service.containerName}, which only one of them can have.`,
      hint: 'Remove `container_name`.',
    });
  }
  if (service.oneShot && /^(always|unless-stopped)$/.test(service.restartPolicy)) {
    findings.push({
      message: `Service ${name} is a one-shot service and has the restart policy ${service.restartPolicy}: it would run again and again.`,
      hint: "Say `restart: 'no'` or `restart: on-failure`.",
    });
  }
  const mode = readText(service.raw, 'deploy', 'mode');
  if (mode.endsWith('-job')) {
    findings.push({
      message: `Service ${name} has \`deploy.mode: ${mode}\`, which Docker Compose ignores.`,
      hint: 'Say `x-slipway: { one-shot: true }`.',
    });
  }
  const check = readMember(service.raw, 'healthcheck');
  if (
    check !== undefined &&
    (readMember(check, 'disable') === true || readMember(readMember(check, 'test'), 0) === 'NONE')
  ) {
    const waiting = project.services.filter((other) => other.dependsOn[name] === 'service_healthy');
    findings.push(
      ...waiting.map((other) => ({
        message: `Service ${other.name} waits for ${name} to be healthy (\`service_healthy\`), and ${name} has its health check switched off.`,
        hint: `Give ${name} a \`healthcheck\`, or wait for \`service_started\`.`,
      })),
    );
  }
  return findings;
}

function warnOf(service: Service, strategy: Strategy | undefined): string[] {
  const warnings: string[] = [];
  if (strategy?.order === 'stop-first' && strategy.groups.length > 1) {
    warnings.push(
      `Service ${service.name} is replaced stop-first: \`parallelism\` and \`delay\` pace the start of its new replicas, but all old ones are stopped before.`,
    );
  }
  const policy = readMember(readMember(service.raw, 'deploy'), 'restart_policy');
  const ignored = ['delay', 'window'].filter((key) => (readMember(policy, key) ?? null) !== null);
  if (ignored.length > 0) {
    warnings.push(
      `Service ${service.name} has \`deploy.restart_policy.${ignored.join('` and `')}\`, which Docker Compose ignores: Docker waits 100 ms before the first restart, and twice as long before each further one.`,
    );
  }
  return warnings;
}

/** A suggestion ends the sentence itself. */
function endHint(hint: string, suggestion: string): string {
  return suggestion === '' ? hint : hint.replace(/\.$/, suggestion);
}

function joinWords(words: readonly string[]): string {
  return words.length < 2 ? words.join('') : `${words.slice(0, -1).join(', ')} and ${words.at(-1) ?? ''}`;
}
