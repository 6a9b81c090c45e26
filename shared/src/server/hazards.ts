/** What Compose would do to a running project without asking: cut it off from its data or its network. Pure. */
import { posix } from 'node:path';
import { canonical } from '../compose/difference';
import { isObject, type JsonObject, type Service } from '../compose/project';
import type { PreflightFinding } from '../errors';
import { type Json, readMember, readText } from '../json';
import type { Release } from '../model/release';
import type { ContainerState } from '../probes/container';
import type { ServerFacts } from './facts';

/**
 * Networks and volumes that are on the server and that the new Compose file defines otherwise. Compose cannot change one:
 * it takes it away and makes it anew, with every container on it cut off, or leaves it as it is without a word.
 *
 * @param before the current release's Compose file; undefined without one.
 * @param existing names of what is on the server: what is not there is made as it is wanted.
 */
export function judgeDefinitions(
  before: Json | undefined,
  after: JsonObject,
  existing: Pick<ServerFacts, 'networks' | 'volumes'>,
): PreflightFinding[] {
  const networks = listChanged('networks', before, after, existing.networks).map(({ name, keys }) => ({
    message: `Network ${name} is defined otherwise than in the running release (${keys.join(', ')}): Compose would have to make it anew, and cut off every container on it.`,
    hint: `Give it a new name (\`name:\`), or take the project down first: \`docker compose -p ${readText(after, 'name')} down\`.`,
  }));
  const volumes = listChanged('volumes', before, after, existing.volumes).map(({ name, keys }) => ({
    message: `Volume ${name} is defined otherwise than in the running release (${keys.join(', ')}): Compose would have to make it anew, and its data is in the old one.`,
    hint: 'Give the new one another name (`name:`), and copy the data.',
  }));
  return [...networks, ...volumes];
}

function listChanged(
  kind: 'networks' | 'volumes',
  before: Json | undefined,
  after: JsonObject,
  existing: readonly string[],
): { readonly name: string; readonly keys: readonly string[] }[] {
  const old = readDefinitions(before, kind);
  return [...readDefinitions(after, kind)].flatMap(([name, definition]) => {
    const was = old.get(name);
    if (was === undefined || !existing.includes(name)) return [];
    const keys = [...new Set([...Object.keys(was), ...Object.keys(definition)])]
      .filter((key) => canonical(settle(key, was[key])) !== canonical(settle(key, definition[key])))
      .sort();
    return keys.length === 0 ? [] : [{ name, keys }];
  });
}

/** By the name on the server; without those that are made elsewhere (`external`), and without what Compose does not read. */
function readDefinitions(project: Json | undefined, kind: 'networks' | 'volumes'): ReadonlyMap<string, JsonObject> {
  const entries = readMember(project, kind);
  if (!isObject(entries)) return new Map();
  return new Map(
    Object.entries(entries)
      .filter(([, entry]) => (readMember(entry, 'external') ?? false) === false)
      .map(([key, entry]) => [
        nameOnServer(project, kind, key),
        isObject(entry)
          ? Object.fromEntries(
              Object.entries(entry).filter(([member]) => member !== 'name' && !member.startsWith('x-')),
            )
          : {},
      ]),
  );
}

function nameOnServer(project: Json | undefined, kind: 'networks' | 'volumes', key: string): string {
  return readText(project, kind, key, 'name') || `${readText(project, 'name')}_${key}`;
}

/** Where "no" is another answer than none: none is then the daemon's own setting. */
const THREE_STATES = new Set(['enable_ipv4', 'enable_ipv6']);

/** What says nothing becomes undefined: versions of Compose differ in whether they render it. */
function settle(key: string, value: Json | undefined): Json | undefined {
  if (value === '' || (value === false && !THREE_STATES.has(key))) return undefined;
  return dropEmpty(value);
}

function dropEmpty(value: Json | undefined): Json | undefined {
  if (value === undefined || value === null) return undefined;
  if (Array.isArray(value)) {
    // Its items keep their places.
    return value.length === 0 ? undefined : (value as readonly Json[]).map((item) => dropEmpty(item) ?? null);
  }
  if (!isObject(value)) return value;
  const members = Object.entries(value).flatMap(([key, member]): [string, Json][] => {
    const kept = dropEmpty(member);
    return kept === undefined ? [] : [[key, kept]];
  });
  return members.length === 0 ? undefined : Object.fromEntries(members);
}

/**
 * Data in a volume without a name (an image's VOLUME) that the new Compose file covers with another mount. Compose hands
 * such a volume on to the next container only where nothing else is mounted.
 *
 * @param after the new Compose file, which `services` were read from.
 */
export function judgeAnonymousVolumes(
  containers: readonly Pick<ContainerState, 'name' | 'service' | 'image' | 'oneoff' | 'mounts'>[],
  services: readonly Pick<Service, 'name' | 'mounts'>[],
  after: JsonObject,
): PreflightFinding[] {
  return containers
    .filter((container) => !container.oneoff)
    .flatMap((container) => {
      const wanted = services.find((service) => service.name === container.service)?.mounts ?? [];
      return container.mounts.filter(isAnonymous).flatMap(({ name: volume, destination }) => {
        const next = wanted.find((mount) => plainPath(mount.target) === plainPath(destination));
        if (next === undefined || next.source === '' || !['volume', 'bind'].includes(next.type)) return [];
        // Compose doubles `$` in what it renders.
        const source =
          next.type === 'volume' ? nameOnServer(after, 'volumes', next.source) : next.source.replaceAll('$$', '$');
        const { name, image } = container;
        return [
          {
            message: `Container ${name} keeps data in an anonymous volume at ${destination}, and the new Compose file mounts ${next.type === 'volume' ? `volume ${source} there, which would start empty` : `${source} there, which does not hold it`}.`,
            hint: `Keep the mount as it is, or copy the data first, and remove the container (its volume stays): docker stop ${name} && docker run --rm --user 0 --entrypoint cp -v ${volume}:/from:ro -v ${source}:/to ${image} -a /from/. /to/ && docker rm ${name}`,
          },
        ];
      });
    });
}

function isAnonymous({ type, name }: ContainerState['mounts'][number]): boolean {
  return type === 'volume' && /^[0-9a-f]{64}$/.test(name);
}

function plainPath(path: string): string {
  return posix.normalize(path).replace(/(?<=.)\/+$/, '');
}

/** A folder is one project's: its relative mounts are there, and its store's `current` is one release of one project. */
export function judgeOwner(
  releases: readonly Pick<Release, 'id' | 'project'>[],
  project: string,
  path: string,
): PreflightFinding[] {
  const other = releases.findLast((release) => release.project !== '' && release.project !== project);
  if (other === undefined) return [];
  return [
    {
      message: `The folder ${path} belongs to project ${other.project} (release ${other.id}): two projects in one folder would share its data.`,
      hint: `Choose another folder with the input path, or deploy as project ${other.project} (input project).`,
    },
  ];
}
