/** From what Compose rendered in the staging folder to the release's own, self-contained Compose file: pure. */
import type { PreflightFinding } from '../errors';
import { type Json, readMember, readText } from '../json';
import { isObject, type JsonObject, type Project } from './project';

/** Where a staged path belongs: a shipped tree in the store, or the server's own project folder. */
export type Relocate = (stagedPath: string) => Relocated;

export type Relocated = { readonly path: string } | { readonly finding: PreflightFinding };

export interface RewriteResult {
  readonly raw: JsonObject;
  readonly findings: readonly PreflightFinding[];
}

const NOT_RELEASED = new Set(['build', 'profiles', 'env_file', 'develop']);

/**
 * Points mounts, configs and secrets from the staging folder to their final places, and drops what a release must not
 * have: `build` (a release runs the image), `profiles` (what was chosen is what is in the release), `env_file` (already in
 * `environment`) and `develop`.
 */
export function relocateProject(project: Project, stagingRoot: string, relocate: Relocate): RewriteResult {
  const findings: PreflightFinding[] = [];
  // `../data` leads out of the workspace, and must not become a folder beside the staging one.
  const outer = /^.*?\/slipway\.[A-Za-z0-9]{8}(?=\/|$)/.exec(stagingRoot)?.[0] ?? stagingRoot;
  const move = (path: string): string => {
    if (path !== outer && !path.startsWith(`${outer}/`)) return path;
    // Compose doubles `$` in what it renders, and reads it so again.
    const moved = relocate(path.replaceAll('$$', '$'));
    if ('path' in moved) return moved.path.replaceAll('$', '$$$$');
    findings.push(moved.finding);
    return path;
  };
  const services = mapValues(readMember(project.raw, 'services'), (service) => {
    const rest = Object.fromEntries(Object.entries(service).filter(([key]) => !NOT_RELEASED.has(key)));
    const volumes = rest['volumes'];
    if (!Array.isArray(volumes)) return rest;
    return {
      ...rest,
      volumes: (volumes as readonly Json[]).map((mount) =>
        isObject(mount) && mount['type'] === 'bind' ? { ...mount, source: move(readText(mount, 'source')) } : mount,
      ),
    };
  });
  const moveFile = (entry: JsonObject): JsonObject =>
    typeof entry['file'] === 'string' ? { ...entry, file: move(entry['file']) } : entry;
  const raw: Record<string, Json> = { ...project.raw, services };
  for (const kind of ['configs', 'secrets']) {
    if (isObject(raw[kind])) raw[kind] = mapValues(raw[kind], moveFile);
  }
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
