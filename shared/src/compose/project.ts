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

export interface Service {
  readonly name: string;
  /** Empty where there is only a `build`. */
  readonly image: string;
  readonly hasBuild: boolean;
  readonly dependsOn: Readonly<Record<string, DependencyCondition>>;
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
