/** A rendered Compose project (`docker compose config`), read as far as Slipway needs it: pure. */
import { type Json, readList, readMember, readNumber, readText } from '../json';
import { parseYaml } from './yaml';

export interface Mount {
  readonly type: string;
  readonly source: string;
  readonly target: string;
  readonly readOnly: boolean;
}

export interface PublishedPort {
  /** Host address; empty for all. */
  readonly address: string;
  readonly port: number;
  readonly protocol: 'tcp' | 'udp';
}

export type DependencyCondition = 'service_started' | 'service_healthy' | 'service_completed_successfully';

export interface Dependency {
  readonly condition: DependencyCondition;
  /** The dependent is replaced when this one is. Compose itself says so of shared namespaces and `volumes_from`. */
  readonly restart: boolean;
  /** False: the dependent does without it where the project has none. */
  readonly required: boolean;
}

/** `deploy.update_config` or `deploy.rollback_config`; undefined is what the file does not say, or says in a way that cannot be read. */
export interface PaceConfig {
  /** Replicas at a time; 0 for all at once. */
  readonly parallelism: number | undefined;
  readonly delaySeconds: number | undefined;
  readonly monitorSeconds: number | undefined;
  /** Empty where not said; `start-first` and `stop-first` are what Compose accepts. */
  readonly order: string;
  /** Empty where not said. Compose accepts every word. */
  readonly failureAction: string;
  readonly maxFailureRatio: number | undefined;
}

/** `x-slipway: { router: web, port: 3000 }`. */
export interface RouterLink {
  /** Service of the router. */
  readonly service: string;
  /** Port of the container, from `port` or the only one of `expose`; undefined where neither gives one. */
  readonly port: number | undefined;
}

export interface Service {
  readonly name: string;
  /** Empty where there is only a `build`. */
  readonly image: string;
  readonly hasBuild: boolean;
  readonly dependsOn: Readonly<Record<string, DependencyCondition>>;
  /** The same by name, with what else the file says of them. */
  readonly dependencies: Readonly<Record<string, Dependency>>;
  /** What moves its traffic; undefined where nothing does. */
  readonly router: RouterLink | undefined;
  /** Empty where Compose chooses it. */
  readonly containerName: string;
  /** `host`, `none`, `service:web` and the like; empty for networks of the project. */
  readonly networkMode: string;
  /** Names of `networks` as the file calls them; empty with a `networkMode`. */
  readonly networks: readonly string[];
  /** Services in whose containers this one lives: namespaces (`network_mode: service:x`, `pid`, `ipc`) and `volumes_from`. */
  readonly joins: readonly string[];
  /** What Compose makes of it, as `docker update --restart` takes it: `no`, `always`, `unless-stopped`, `on-failure[:N]`. */
  readonly restartPolicy: string;
  readonly updateConfig: PaceConfig | undefined;
  readonly rollbackConfig: PaceConfig | undefined;
  /** Publishes a fixed port of the server, which only one container can have. */
  readonly hasHostPort: boolean;
  readonly mounts: readonly Mount[];
  readonly ports: readonly PublishedPort[];
  readonly replicas: number;
  /** True for a `healthcheck` in the Compose file that is not disabled; the image may bring one too. */
  readonly hasHealthcheck: boolean;
  /** Ends by itself with exit code 0: others depend on its completion, or `x-slipway: { one-shot: true }` says so. */
  readonly oneShot: boolean;
  /** `deploy.update_config.monitor`; undefined where not said. */
  readonly monitorSeconds: number | undefined;
  readonly updateOrder: string;
  readonly failureAction: string;
  readonly stopGraceSeconds: number;
  /** As rendered. Its environment holds secrets. */
  readonly raw: Json;
}

export interface Project {
  readonly name: string;
  readonly services: readonly Service[];
  /** As rendered. Holds secrets. */
  readonly raw: JsonObject;
}

export type JsonObject = { readonly [key: string]: Json };

/**
 * Reads what `docker compose config` printed, or a Compose file of the store.
 *
 * @throws SyntaxError when it cannot be read. Its message quotes nothing: the text is secret.
 */
export function parseProject(rendered: string): Project {
  let raw: Json;
  try {
    raw = parseYaml(rendered);
  } catch {
    throw new SyntaxError('the rendered Compose file is not YAML');
  }
  if (!isObject(raw)) throw new SyntaxError('the rendered Compose file is not a mapping');
  return readProject(raw);
}

export function readProject(raw: JsonObject): Project {
  const services = readMember(raw, 'services');
  const entries = isObject(services) ? Object.entries(services) : [];
  const awaitedToComplete = new Set(
    entries.flatMap(([, service]) =>
      Object.entries(readDependencies(service))
        .filter(([, condition]) => condition === 'service_completed_successfully')
        .map(([name]) => name),
    ),
  );
  return {
    name: readText(raw, 'name'),
    services: entries.map(([name, service]) => ({
      name,
      image: readText(service, 'image'),
      hasBuild: readMember(service, 'build') !== undefined,
      dependsOn: readDependencies(service),
      dependencies: readDependencyFlags(service),
      router: readRouter(service),
      containerName: readText(service, 'container_name'),
      networkMode: readText(service, 'network_mode'),
      networks: readNetworks(service),
      joins: readJoins(service),
      restartPolicy: readRestartPolicy(service),
      updateConfig: readPace(service, 'update_config'),
      rollbackConfig: readPace(service, 'rollback_config'),
      hasHostPort: readList(service, 'ports').some((port) => readPort(port).length > 0),
      mounts: readList(service, 'volumes').map((mount) => ({
        type: readText(mount, 'type'),
        source: readText(mount, 'source'),
        target: readText(mount, 'target'),
        readOnly: readMember(mount, 'read_only') === true,
      })),
      ports: readList(service, 'ports').flatMap(readPort),
      replicas: readReplicas(service),
      hasHealthcheck: hasHealthcheck(readMember(service, 'healthcheck')),
      oneShot: awaitedToComplete.has(name) || readMember(readMember(service, 'x-slipway'), 'one-shot') === true,
      monitorSeconds: parseGoDuration(readText(service, 'deploy', 'update_config', 'monitor')),
      updateOrder: readText(service, 'deploy', 'update_config', 'order'),
      failureAction: readText(service, 'deploy', 'update_config', 'failure_action'),
      stopGraceSeconds: parseGoDuration(readText(service, 'stop_grace_period')) ?? 10,
      raw: service,
    })),
    raw,
  };
}

function readDependencies(service: Json): Record<string, DependencyCondition> {
  const dependsOn = readMember(service, 'depends_on');
  if (!isObject(dependsOn)) return {};
  return Object.fromEntries(
    Object.entries(dependsOn).map(([name, how]) => {
      const condition = readText(how, 'condition');
      return [
        name,
        condition === 'service_healthy' || condition === 'service_completed_successfully'
          ? condition
          : 'service_started',
      ];
    }),
  );
}

function readDependencyFlags(service: Json): Record<string, Dependency> {
  return Object.fromEntries(
    Object.entries(readDependencies(service)).map(([name, condition]) => {
      const how = readMember(readMember(service, 'depends_on'), name);
      return [
        name,
        { condition, restart: readMember(how, 'restart') === true, required: readMember(how, 'required') !== false },
      ];
    }),
  );
}

function readRouter(service: Json): RouterLink | undefined {
  const extension = readMember(service, 'x-slipway');
  const router = readText(extension, 'router');
  if (router === '') return undefined;
  const port = readMember(extension, 'port');
  return { service: router, port: port === undefined ? readOnlyExposed(service) : asPort(port) };
}

/** `expose` is rendered as texts: `3000`, `3000/tcp`, `4000-4002`, `53/udp` (measured with Compose 2.26). */
function readOnlyExposed(service: Json): number | undefined {
  const exposed = readList(service, 'expose');
  const [only] = exposed;
  if (exposed.length !== 1 || (typeof only !== 'string' && typeof only !== 'number')) return undefined;
  const digits = /^(\d{1,5})(?:\/tcp)?$/.exec(String(only))?.[1];
  return digits === undefined ? undefined : asPort(Number(digits));
}

function asPort(value: Json): number | undefined {
  return typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= 65_535 ? value : undefined;
}

function readNetworks(service: Json): string[] {
  if (readText(service, 'network_mode') !== '') return [];
  const networks = readMember(service, 'networks');
  if (isObject(networks)) return Object.keys(networks);
  const names = readList(service, 'networks').filter((name) => typeof name === 'string');
  return names.length > 0 ? names : ['default'];
}

function readJoins(service: Json): string[] {
  const modes = ['network_mode', 'pid', 'ipc'].map((key) => readText(service, key));
  const volumes = readList(service, 'volumes_from').map((from) => (typeof from === 'string' ? from : ''));
  return [
    ...new Set([
      ...modes.flatMap((mode) => /^service:(.+)$/.exec(mode)?.[1] ?? []),
      ...volumes
        .filter((from) => from !== '' && !from.startsWith('container:'))
        .map((from) => from.split(':')[0] ?? ''),
    ]),
  ];
}

/**
 * `deploy.restart_policy` wins over `restart`, also when it is empty; `any` and `none` become `always` and `no`, other words
 * are passed on; the number behind the colon is 0 where it is none (measured with Compose 2.26 and Engine 26.1).
 */
function readRestartPolicy(service: Json): string {
  const policy = readMember(readMember(service, 'deploy'), 'restart_policy');
  const [word = '', digits = ''] = isObject(policy)
    ? [readText(policy, 'condition'), String(readNumber(policy, 'max_attempts'))]
    : readText(service, 'restart').split(':');
  const name = word === 'any' ? 'always' : word === 'none' || word === '' ? 'no' : word;
  const attempts = /^\d+$/.test(digits) ? Number(digits) : 0;
  return name === 'on-failure' && attempts > 0 ? `on-failure:${attempts}` : name;
}

function readPace(service: Json, key: 'update_config' | 'rollback_config'): PaceConfig | undefined {
  const config = readMember(readMember(service, 'deploy'), key);
  if (!isObject(config)) return undefined;
  const count = readMember(config, 'parallelism');
  const ratio = readMember(config, 'max_failure_ratio');
  return {
    parallelism: typeof count === 'number' && Number.isInteger(count) && count >= 0 ? count : undefined,
    delaySeconds: parseGoDuration(readText(config, 'delay')),
    monitorSeconds: parseGoDuration(readText(config, 'monitor')),
    order: readText(config, 'order'),
    failureAction: readText(config, 'failure_action'),
    maxFailureRatio: typeof ratio === 'number' ? ratio : undefined,
  };
}

function readReplicas(service: Json): number {
  const deploy = readMember(readMember(service, 'deploy'), 'replicas');
  const scale = readMember(service, 'scale');
  if (typeof deploy === 'number') return deploy;
  return typeof scale === 'number' ? scale : 1;
}

function hasHealthcheck(healthcheck: Json | undefined): boolean {
  if (!isObject(healthcheck) || readMember(healthcheck, 'disable') === true) return false;
  const test = readList(healthcheck, 'test');
  return test.length > 0 && test[0] !== 'NONE';
}

function readPort(port: Json): PublishedPort[] {
  // A range ("8000-8010") is rendered as text; Docker chooses from it, so it cannot be known to be taken.
  const published = readText(port, 'published') || String(readNumber(port, 'published') || '');
  if (!/^\d+$/.test(published)) return [];
  return [
    {
      address: readText(port, 'host_ip'),
      port: Number(published),
      protocol: readText(port, 'protocol') === 'udp' ? 'udp' : 'tcp',
    },
  ];
}

const GO_UNITS: Readonly<Record<string, number>> = { h: 3600, m: 60, s: 1, ms: 1e-3, us: 1e-6, µs: 1e-6, ns: 1e-9 };

/** `1m30s` as 90. Undefined for an empty or unreadable text. https://pkg.go.dev/time#ParseDuration */
export function parseGoDuration(text: string): number | undefined {
  if (!/^(\d+(\.\d+)?(h|ms|m|s|us|µs|ns))+$/.test(text)) return undefined;
  return [...text.matchAll(/(\d+(?:\.\d+)?)(h|ms|m|s|us|µs|ns)/g)].reduce(
    (sum, [, digits, unit]) => sum + Number(digits) * (GO_UNITS[unit ?? ''] ?? 0),
    0,
  );
}

export function isObject(value: Json | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Services by waves: each wave only depends on earlier ones. A cycle, which Compose refuses itself, ends up in the last wave. */
export function orderServices(services: readonly Service[]): Service[][] {
  const names = new Set(services.map((service) => service.name));
  const done = new Set<string>();
  const waves: Service[][] = [];
  let left = [...services];
  while (left.length > 0) {
    const free = left.filter((service) =>
      Object.keys(service.dependsOn).every((name) => done.has(name) || !names.has(name)),
    );
    const wave = free.length > 0 ? free : left;
    waves.push(wave);
    for (const service of wave) done.add(service.name);
    left = left.filter((service) => !wave.includes(service));
  }
  return waves;
}
