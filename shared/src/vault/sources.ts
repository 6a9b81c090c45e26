/** What a backup is of: from the input's lines, and what runs, to what is to be read. Pure. */
import type { Quiet } from '../commands/archive';
import { parseProject, type Project } from '../compose/project';
import { BackupError, type PreflightFinding } from '../errors';
import type { DatabaseServer } from '../inputs/database-urls';
import { parseLines, type Parsed, quoteValue } from '../inputs/values';
import { readText } from '../json';
import type { ContainerState } from '../probes/container';
import type { ServerFacts } from '../server/facts';

/** One line of the input. */
export type Wanted =
  | { readonly kind: 'postgres'; readonly service: string; readonly database: string }
  | { readonly kind: 'redis'; readonly service: string }
  | { readonly kind: 'volume'; readonly volume: string; readonly quiet: Quiet }
  | { readonly kind: 'files'; readonly globs: readonly string[] }
  | { readonly kind: 'release' };

export type Source =
  /** No databases: all of them. */
  | {
      readonly kind: 'postgres';
      readonly service: string;
      readonly container: ContainerState;
      readonly databases: readonly string[];
    }
  /** PostgreSQL behind a URL, with an image of its client programs. No databases: all of them. */
  | { readonly kind: 'remote'; readonly server: string; readonly image: string; readonly databases: readonly string[] }
  | { readonly kind: 'redis'; readonly service: string; readonly container: ContainerState }
  | {
      readonly kind: 'volume';
      /** As the Compose file calls it, and as Docker does. */
      readonly volume: string;
      readonly name: string;
      readonly quiet: Quiet;
      /** Images to read it with, the likeliest first. */
      readonly images: readonly string[];
    }
  | { readonly kind: 'files'; readonly globs: readonly string[] }
  | { readonly kind: 'release'; readonly release: string };

export interface Selection {
  readonly sources: readonly Source[];
  readonly findings: readonly PreflightFinding[];
  readonly warnings: readonly string[];
}

const FORMS =
  '`postgres: SERVICE`, `postgres: SERVICE/DATABASE` (SERVICE may also be a name of the input database-urls), `redis: SERVICE`, `volume: NAME` (with ` paused` or ` stopped` behind it), `files: GLOBS` or `release`';

/** @returns what is wanted; nothing for an empty text: the default. */
export function parseWanted(text: string): Parsed<readonly Wanted[]> {
  const wanted: Wanted[] = [];
  for (const line of parseLines(text)) {
    const parsed = parseLine(line);
    if ('problem' in parsed) return parsed;
    wanted.push(parsed.value);
  }
  const keys = wanted.map((one) => JSON.stringify(one.kind === 'volume' ? { ...one, quiet: '' } : one));
  const twice = keys.findIndex((key, index) => keys.indexOf(key) !== index);
  if (twice >= 0) return { problem: `${quoteValue(parseLines(text)[twice] ?? '')} is there twice.` };
  return { value: wanted };
}

const SERVICE = /^[a-zA-Z0-9][a-zA-Z0-9._-]*$/;

function parseLine(line: string): Parsed<Wanted> {
  const unknown = { problem: `${quoteValue(line)} is not something to back up: give ${FORMS}.` };
  if (/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]/.test(line)) return unknown;
  if (line === 'release') return { value: { kind: 'release' } };
  const [, kind = '', rest = ''] = /^([a-z]+)\s*:\s*(\S.*)$/.exec(line) ?? [];
  switch (kind) {
    case 'postgres': {
      const [, service = '', database = ''] = /^([^/\s]+)(?:\/(.+))?$/.exec(rest) ?? [];
      return SERVICE.test(service) ? { value: { kind, service, database } } : unknown;
    }
    case 'redis':
      return SERVICE.test(rest) ? { value: { kind, service: rest } } : unknown;
    case 'volume': {
      const [volume = '', quiet = 'live', more] = rest.split(/\s+/);
      if (!SERVICE.test(volume) || more !== undefined) return unknown;
      return quiet === 'live' || quiet === 'paused' || quiet === 'stopped'
        ? { value: { kind, volume, quiet } }
        : { problem: `${quoteValue(line)}: behind a volume's name stands nothing, paused or stopped.` };
    }
    case 'files': {
      const globs = rest.split(/\s+/);
      const taken = globs.find((glob) => glob.startsWith('!'));
      if (taken !== undefined)
        return { problem: `${quoteValue(taken)}: globs say what is to be backed up, and none takes anything away.` };
      const outside = globs.find((glob) => glob.startsWith('/') || glob.split('/').includes('..'));
      return outside === undefined
        ? { value: { kind, globs } }
        : { problem: `${quoteValue(outside)} leaves the project's folder on the server: globs are relative to it.` };
    }
    default:
      return unknown;
  }
}

/** By the last part of the image's name, whoever made it. */
const POSTGRES = /(?:^|\/)(?:postgres|postgresql|postgis|pgvector|timescaledb(?:-ha)?)(?=[:@]|$)/;
const REDIS = /(?:^|\/)(?:redis|redis-stack-server|valkey)(?=[:@]|$)/;

/** PostgreSQL behind URLs, and an image with the client programs; empty where none is known. */
export interface Reachable {
  readonly servers: readonly DatabaseServer[];
  readonly image: string;
}

/** Everything that is asked for, found on the server; or why it is not, all at once. */
export function selectSources(
  wanted: readonly Wanted[],
  facts: Pick<ServerFacts, 'containers' | 'currentCompose' | 'current' | 'volumes'>,
  reachable: Reachable = { servers: [], image: '' },
): Selection {
  const project = readCompose(facts.currentCompose);
  const selection =
    wanted.length === 0 ? selectAll(facts, reachable, project) : selectWanted(wanted, facts, reachable, project);
  const { sources, findings } = selection;
  return { ...selection, findings: [...judgeServers(reachable, facts, project, sources), ...findings] };
}

function selectWanted(
  wanted: readonly Wanted[],
  facts: Pick<ServerFacts, 'containers' | 'current' | 'volumes'>,
  { servers, image }: Reachable,
  project: Project | undefined,
): Selection {
  const services = listServices(facts.containers);
  const findings: PreflightFinding[] = [];
  const sources: Source[] = [];
  for (const one of wanted) {
    switch (one.kind) {
      case 'postgres':
      case 'redis': {
        const container = services.get(one.service);
        const server = servers.find(({ name }) => name === one.service);
        if (one.kind === 'postgres' && server !== undefined) {
          addServer(sources, server, one.database || server.database, image);
        } else if (container === undefined) {
          findings.push(describeMissing(one.service, facts.containers));
        } else if (one.kind === 'postgres') addDatabase(sources, one, container);
        else sources.push({ kind: 'redis', service: one.service, container });
        break;
      }
      case 'volume': {
        const name = findVolume(one.volume, project, facts.volumes);
        if (name === undefined) {
          findings.push({
            message: `The project has no volume ${one.volume} on the server.`,
            hint:
              facts.volumes.length === 0 ? 'It has no volumes at all.' : `Its volumes: ${facts.volumes.join(', ')}.`,
          });
          break;
        }
        sources.push({
          kind: 'volume',
          volume: one.volume,
          name,
          quiet: one.quiet,
          images: listImages(name, facts.containers),
        });
        break;
      }
      case 'files':
        sources.push(one);
        break;
      case 'release':
        if (facts.current === undefined) {
          findings.push({
            message: 'The project has no release on the server.',
            hint: 'Leave `release` out, or deploy it with action-deploy first.',
          });
        } else sources.push({ kind: 'release', release: facts.current });
    }
  }
  return { sources, findings, warnings: [] };
}

/** Databases of one service are read with one list of its roles. */
function addDatabase(
  sources: Source[],
  { service, database }: Extract<Wanted, { kind: 'postgres' }>,
  container: ContainerState,
): void {
  const index = sources.findIndex((one) => one.kind === 'postgres' && one.service === service);
  const there = sources[index];
  if (there?.kind !== 'postgres') {
    sources.push({ kind: 'postgres', service, container, databases: database === '' ? [] : [database] });
    return;
  }
  sources[index] = { ...there, databases: mergeDatabases(there.databases, database) };
}

function addServer(sources: Source[], { name }: DatabaseServer, database: string, image: string): void {
  const index = sources.findIndex((one) => one.kind === 'remote' && one.server === name);
  const there = sources[index];
  if (there?.kind === 'remote') sources[index] = { ...there, databases: mergeDatabases(there.databases, database) };
  else sources.push({ kind: 'remote', server: name, image, databases: database === '' ? [] : [database] });
}

/** None means all. */
function mergeDatabases(databases: readonly string[], database: string): string[] {
  return database === '' || databases.length === 0 ? [] : [...new Set([...databases, database])];
}

/** What is wrong with the servers behind URLs that can be told before anything is asked. */
function judgeServers(
  { servers, image }: Reachable,
  { containers }: Pick<ServerFacts, 'containers'>,
  project: Project | undefined,
  sources: readonly Source[],
): PreflightFinding[] {
  const services = new Set([
    ...containers.filter(({ oneoff }) => !oneoff).map(({ service }) => service),
    ...(project?.services ?? []).map(({ name }) => name),
  ]);
  return [
    ...servers
      .filter(({ name }) => services.has(name))
      .map(({ name }) => ({
        message: `${name} is both a service of the project and a server of the input database-urls.`,
        hint: 'Give the server another name there, so that their backups are told apart.',
      })),
    ...(image === '' && sources.some(({ kind }) => kind === 'remote')
      ? [
          {
            message:
              'The servers of the input database-urls need the client programs of PostgreSQL, and the project runs none to take them from.',
            hint: 'Give an image in the input `database-image`, as new as the servers or newer, such as postgres:17. It must be on the server: `docker pull postgres:17`.',
          },
        ]
      : []),
  ];
}

/** The databases that are known by their images, and the release. What else keeps data is said. */
function selectAll(
  { containers, current }: Pick<ServerFacts, 'containers' | 'current'>,
  { servers, image }: Reachable,
  project: Project | undefined,
): Selection {
  const services = listServices(containers);
  const sources: Source[] = [];
  for (const [service, container] of services) {
    if (POSTGRES.test(container.image)) sources.push({ kind: 'postgres', service, container, databases: [] });
    else if (REDIS.test(container.image)) sources.push({ kind: 'redis', service, container });
  }
  for (const server of servers) addServer(sources, server, server.database, image);
  const read = new Set(sources.flatMap((one) => ('container' in one ? [one.service] : [])));
  const stopped = [...new Set(containers.map(({ service, image, oneoff }) => (oneoff ? '' : `${service} ${image}`)))]
    .filter((one) => one !== '')
    .flatMap((one) => {
      const [service = '', image = ''] = one.split(' ');
      return !services.has(service) && (POSTGRES.test(image) || REDIS.test(image)) ? [service] : [];
    });
  const volumes = new Set(
    [...services]
      .filter(([service]) => !read.has(service))
      .flatMap(([service, { mounts }]) =>
        mounts
          .filter(({ type, name }) => type === 'volume' && name !== '')
          .map(({ name }) => `${name} (of ${service})`),
      ),
  );
  if (current !== undefined) sources.push({ kind: 'release', release: current });
  return {
    sources,
    findings: [
      ...stopped.map((service) => ({
        message: `Service ${service} is a database, and does not run.`,
        hint: `Start it (\`docker compose up -d ${service}\`), or say in the input \`what\` what is to be backed up without it.`,
      })),
      ...(sources.length === 0
        ? [
            {
              message:
                'There is nothing to back up: no running service is known as PostgreSQL or Redis by its image, and there is no release.',
              hint: `Say what it is in the input \`what\`: ${FORMS}.`,
            },
          ]
        : []),
    ],
    warnings:
      volumes.size === 0
        ? []
        : [
            `Not in this backup: ${[...volumes].sort().join(', ')}. Is there data in it that no database has? Then name all that is wanted in the input \`what\`, with a line \`volume: ${shortName([...volumes].sort()[0] ?? '', project)}\`.`,
          ],
  };
}

function shortName(described: string, project: Project | undefined): string {
  const [name = ''] = described.split(' ');
  const prefix = project === undefined ? '' : `${project.name}_`;
  return name.startsWith(prefix) ? name.slice(prefix.length) : name;
}

/** By service: its first replica that runs. */
function listServices(containers: readonly ContainerState[]): ReadonlyMap<string, ContainerState> {
  const found = new Map<string, ContainerState>();
  for (const one of [...containers].sort((a, b) =>
    a.service < b.service ? -1 : a.service > b.service ? 1 : a.number - b.number,
  )) {
    if (!one.oneoff && one.state === 'running' && !found.has(one.service)) found.set(one.service, one);
  }
  return found;
}

export function findContainer(service: string, containers: readonly ContainerState[]): ContainerState | undefined {
  return listServices(containers).get(service);
}

/** The image of a PostgreSQL that runs in the project: it has the client programs, too. Empty where none does. */
export function findPostgresImage(containers: readonly ContainerState[]): string {
  return [...listServices(containers).values()].find(({ image }) => POSTGRES.test(image))?.image ?? '';
}

/** @throws BackupError where none runs. */
export function requireContainer(service: string, containers: readonly ContainerState[]): string {
  const container = findContainer(service, containers);
  if (container !== undefined) return container.id;
  const { message, hint } = describeMissing(service, containers);
  throw new BackupError(message, hint);
}

export function describeMissing(service: string, containers: readonly ContainerState[]): PreflightFinding {
  const known = [...new Set(containers.filter(({ oneoff }) => !oneoff).map((one) => one.service))].sort();
  return known.includes(service)
    ? { message: `Service ${service} has no running container.`, hint: `Start it: docker compose up -d ${service}` }
    : {
        message: `The project has no service ${service} on the server.`,
        hint: known.length === 0 ? 'It has no containers at all.' : `Its services: ${known.join(', ')}.`,
      };
}

/** An adopted project has a Compose file, too; one that cannot be read names no volumes. */
function readCompose(text: string): Project | undefined {
  if (text === '') return undefined;
  try {
    return parseProject(text);
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

/** What Docker calls a volume of the Compose file. */
function findVolume(volume: string, project: Project | undefined, there: readonly string[]): string | undefined {
  const declared = readText(project?.raw, 'volumes', volume, 'name');
  return [declared, volume, `${project?.name ?? ''}_${volume}`].find(
    (name) => name !== '' && (there.includes(name) || name === declared),
  );
}

function listImages(volume: string, containers: readonly ContainerState[]): string[] {
  const uses = ({ mounts }: ContainerState): boolean => mounts.some(({ name }) => name === volume);
  return [...new Set([...containers.filter(uses), ...containers].map(({ image }) => image))].filter(
    (image) => image !== '',
  );
}
