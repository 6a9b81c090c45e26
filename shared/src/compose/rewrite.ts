/** From what Compose rendered in the staging folder to the release's own, self-contained Compose file: pure. */
import { createHash } from 'node:crypto';
import type { PreflightFinding } from '../errors';
import { type Json, readList, readMember, readText } from '../json';
import { isObject, type JsonObject, type Project } from './project';

/** Where a staged path belongs: a shipped tree in the store, or the server's own project folder. */
export type Relocate = (stagedPath: string, isWritable: boolean) => Relocated;

export type Relocated =
  /** `shipped`: mounted read-only, whatever the file says: what a release has shipped does not change. */
  { readonly path: string; readonly shipped: boolean } | { readonly finding: PreflightFinding };

export interface RewriteResult {
  readonly raw: JsonObject;
  readonly findings: readonly PreflightFinding[];
}

const NOT_RELEASED = new Set(['build', 'profiles', 'env_file', 'develop']);

/**
 * Points mounts, configs and secrets from the staging folder to their final places, and drops what a release must not
 * have: `build` (a release runs the image), `profiles` (what was chosen is what is in the release), `env_file` (already in
 * `environment`), `develop`, and dependencies that are not in the release (`required: false` on a service of another profile:
 * Compose 2.26 renders them, and then refuses what it has rendered).
 */
export function relocateProject(project: Project, stagingRoot: string, relocate: Relocate): RewriteResult {
  const findings: PreflightFinding[] = [];
  // `../data` leads out of the workspace, and must not become a folder beside the staging one.
  const outer = /^.*?\/slipway\.[A-Za-z0-9]{8}(?=\/|$)/.exec(stagingRoot)?.[0] ?? stagingRoot;
  const move = (path: string, isWritable: boolean): { path: string; shipped: boolean } => {
    if (path !== outer && !path.startsWith(`${outer}/`)) return { path, shipped: false };
    // Compose doubles `$` in what it renders, and reads it so again.
    const moved = relocate(path.replaceAll('$$', '$'), isWritable);
    if ('path' in moved) return { ...moved, path: moved.path.replaceAll('$', '$$$$') };
    findings.push(moved.finding);
    return { path, shipped: false };
  };
  const moveMount = (mount: JsonObject): JsonObject => {
    const { path: source, shipped } = move(readText(mount, 'source'), readMember(mount, 'read_only') !== true);
    return { ...mount, source, ...(shipped ? { read_only: true } : {}) };
  };
  const services = mapValues(readMember(project.raw, 'services'), (service) => {
    const rest = Object.fromEntries(
      Object.entries(service)
        .filter(([key]) => !NOT_RELEASED.has(key))
        .map(([key, value]) => [key, key === 'depends_on' ? keepPresent(value, project) : value]),
    );
    const volumes = rest['volumes'];
    if (!Array.isArray(volumes)) return rest;
    return {
      ...rest,
      volumes: (volumes as readonly Json[]).map((mount) =>
        isObject(mount) && mount['type'] === 'bind' ? moveMount(mount) : mount,
      ),
    };
  });
  const moveFile = (entry: JsonObject): JsonObject =>
    typeof entry['file'] === 'string' ? { ...entry, file: move(entry['file'], false).path } : entry;
  const raw: Record<string, Json> = { ...project.raw, services };
  for (const kind of ['configs', 'secrets']) {
    if (!isObject(raw[kind])) continue;
    raw[kind] = mapValues(raw[kind], moveFile);
    for (const [name, entry] of Object.entries(raw[kind])) {
      if (readText(entry, 'environment') !== '') findings.push(refuseEnvironment(kind, name));
    }
  }
  raw['services'] = mapValues(raw['services'], (service) => labelContent(service, raw));
  if (findings.length === 0) {
    for (const place of findStrings(raw, outer)) {
      findings.push({
        message: `${place} points to a file of the workspace, and Slipway does not know how to ship that.`,
        hint: 'Use a bind mount, a config or a secret for it.',
      });
    }
  }
  return { raw, findings };
}

function keepPresent(dependencies: Json, { services }: Project): Json {
  if (!isObject(dependencies)) return dependencies;
  const names = new Set(services.map((service) => service.name));
  return Object.fromEntries(Object.entries(dependencies).filter(([name]) => names.has(name)));
}

/** Measured with Compose 2.26 and 2.40: the rendered file keeps the variable's name only, and `up` would need its value again. */
function refuseEnvironment(kind: string, name: string): PreflightFinding {
  return {
    message: `${kind}.${name} takes its value from an environment variable, which a release does not keep.`,
    hint: "Use `file:`, and ship it with the input files, or put the variable into the service's `environment`.",
  };
}

/**
 * Compose's hash of a service leaves out what its configs and secrets hold (measured with Compose 2.26 and 2.40), so a
 * changed file would recreate nothing. This label changes with it: a file is named by its content.
 */
export const CONTENT_LABEL = 'io.slipway.content';

function labelContent(service: JsonObject, raw: JsonObject): JsonObject {
  const used = ['configs', 'secrets'].flatMap((kind) =>
    readList(service, kind).map((use) => readMember(readMember(raw, kind), readText(use, 'source')) ?? null),
  );
  if (used.length === 0) return service;
  const labels = readMember(service, 'labels');
  const digest = createHash('sha256').update(JSON.stringify(used)).digest('hex').slice(0, 16);
  return { ...service, labels: { ...(isObject(labels) ? labels : {}), [CONTENT_LABEL]: digest } };
}

/** Every service's image replaced by the pinned one. */
export function pinImages(raw: JsonObject, images: Readonly<Record<string, string>>): JsonObject {
  return {
    ...raw,
    services: mapValues(readMember(raw, 'services'), (service, name) => ({
      ...service,
      image: images[name] ?? readText(service, 'image'),
    })),
  };
}

/** Services with a folder of the server mounted read-only, in the place of what they mount there themselves. */
export function mountFolders(
  raw: JsonObject,
  mounts: Readonly<Record<string, { readonly source: string; readonly target: string }>>,
): JsonObject {
  return {
    ...raw,
    services: mapValues(readMember(raw, 'services'), (service, name) => {
      const mount = mounts[name];
      if (mount === undefined) return service;
      const others = readList(service, 'volumes').filter((one) => readText(one, 'target') !== mount.target);
      return { ...service, volumes: [...others, { type: 'bind', ...mount, read_only: true }] };
    }),
  };
}

function mapValues(
  entries: Json | undefined,
  change: (entry: JsonObject, name: string) => JsonObject,
): Record<string, Json> {
  if (!isObject(entries)) return {};
  return Object.fromEntries(
    Object.entries(entries).map(([name, entry]) => [name, isObject(entry) ? change(entry, name) : entry]),
  );
}

/** The paths (`services.web.label_file`) of every text that still names the staging folder. */
function findStrings(value: Json, needle: string, path = ''): string[] {
  if (typeof value === 'string') return value.includes(needle) ? [path] : [];
  if (typeof value !== 'object' || value === null) return [];
  return Object.entries(value as JsonObject).flatMap(([key, member]) =>
    findStrings(member, needle, path === '' ? key : `${path}.${key}`),
  );
}
