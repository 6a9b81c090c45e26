/** What is known of a server and a project on it, read from the answers to `readServer`: pure. */
import { parseSections, type Section } from '../commands/sections';
import type { Release } from '../model/release';
import { isReleaseId } from '../releases/layout';
import { parseContainers, type ContainerState } from '../probes/container';
import { type Json, parseJson, readList, readMember, readNumber, readText } from '../json';

export type DockerFacts =
  | {
      readonly kind: 'ready';
      readonly version: string;
      /** Empty where the plugin is not installed. */
      readonly composeVersion: string;
      /** As `uname -m` says it: `x86_64`. */
      readonly architecture: string;
      readonly dataRoot: string;
      /** The whole answer of `docker info`, for what the registry client reads. */
      readonly info: Json;
    }
  | { readonly kind: 'missing' }
  /** The client works, the daemon cannot be asked: not running, or not allowed. */
  | { readonly kind: 'unreachable'; readonly problem: string };

export interface DiskSpace {
  readonly mountPoint: string;
  readonly freeBytes: number;
  /** Undefined where the file system does not count them (btrfs). */
  readonly freeInodes: number | undefined;
}

export interface LocalImage {
  readonly id: string;
  readonly tags: readonly string[];
  /** `name@sha256:...` */
  readonly digests: readonly string[];
  readonly bytes: number;
  readonly layerDiffIds: readonly string[];
}

export interface PortOwner {
  readonly port: number;
  readonly address: string;
  readonly protocol: string;
  readonly container: string;
  readonly project: string;
}

export interface Listener {
  readonly address: string;
  readonly port: number;
}

export interface ServerFacts {
  readonly user: string;
  readonly groups: readonly string[];
  readonly home: string;
  /** The project's folder, absolute. */
  readonly path: string;
  readonly folder: 'directory' | 'missing' | 'other';
  /** Empty when we may write; otherwise what stands in the way. */
  readonly notWritable: string;
  readonly storeProblem: string;
  /** Compose files in the folder that a plain `docker compose` would merge. */
  readonly overrides: readonly string[];
  readonly missingTools: readonly string[];
  readonly docker: DockerFacts;
  readonly containers: readonly ContainerState[];
  readonly publishedPorts: readonly PortOwner[];
  readonly networks: readonly string[];
  /** The project's own, as Compose labels them. */
  readonly volumes: readonly string[];
  readonly images: readonly LocalImage[];
  /** TCP sockets of any program. */
  readonly listeningPorts: readonly Listener[];
  readonly space: DiskSpace | undefined;
  readonly dataRootSpace: DiskSpace | undefined;
  readonly releases: readonly Release[];
  /** Id of the release that `current` points to. */
  readonly current: string | undefined;
  /** The current release's Compose file; secret. Empty without one. */
  readonly currentCompose: string;
  readonly storedFiles: readonly string[];
  /** Images that an interrupted deploy was pulling, by name and digest. */
  readonly pulling: readonly string[];
  /** By service: what the routers said of themselves that run, as far as the store knows of them. `parseRunning` reads it. */
  readonly routers: ReadonlyMap<string, Section>;
  /** A journal of an unfinished transaction; empty without one. */
  readonly journal: string;
  /** Whether a restore was cut off that nobody has settled yet. */
  readonly isRestoring: boolean;
}

/** There is a folder for a router, but none that runs. */
const NO_ROUTER = 3;

/** @throws SyntaxError when the answer is cut off or not what the question gives. */
export function parseServerFacts(output: string, token: string): ServerFacts {
  const sections = parseSections(output, token);
  const section = (name: string): Section => sections.get(name) ?? { exitCode: 127, stdout: '', stderr: '' };
  const lines = (name: string): string[] =>
    section(name)
      .stdout.split('\n')
      .filter((line) => line !== '');
  const [user = '', groups = '', home = '', path = ''] = section('account').stdout.split('\n');
  // The last question: an answer without it was cut off between two others.
  if (!sections.has('listening')) throw new SyntaxError("the server's answers are cut off");
  const folder = lines('folder');
  const prefixed = (prefix: string): string[] =>
    folder.filter((line) => line.startsWith(`${prefix} `)).map((line) => line.slice(prefix.length + 1));
  const current = section('current').stdout.trim();
  const docker = parseDocker(sections.get('docker'));
  const routers = [...sections].filter(([name, { exitCode }]) => name.startsWith('router-') && exitCode !== NO_ROUTER);
  return {
    user,
    groups: groups.split(' ').filter((group) => group !== ''),
    home,
    path: path.length > 1 ? path.replace(/\/+$/, '') : path,
    folder: folder[0] === 'directory' || folder[0] === 'missing' ? folder[0] : 'other',
    notWritable: prefixed('not-writable')[0] ?? '',
    storeProblem: prefixed('store-not-writable')[0] ?? findUnreadable(sections),
    overrides: prefixed('override'),
    missingTools: lines('tools'),
    docker,
    containers: docker.kind === 'ready' ? readContainers(section('containers')) : [],
    publishedPorts: lines('published').flatMap(parsePublished),
    networks: docker.kind === 'ready' ? readNames('networks', section('networks')) : [],
    volumes: docker.kind === 'ready' ? readNames('volumes', section('volumes')) : [],
    images: lines('images').map(parseImage),
    listeningPorts: [...new Set(lines('listening'))].flatMap(parseListener),
    space: parseSpace(section('space').stdout),
    dataRootSpace: parseSpace(section('root-space').stdout),
    releases: lines('releases').flatMap(parseRelease),
    current: current === '' ? undefined : current.split('/').at(-1),
    currentCompose: section('rendered').stdout,
    storedFiles: lines('files'),
    pulling: lines('pulling'),
    routers: new Map(routers.map(([name, answer]) => [name.slice('router-'.length), answer])),
    journal: section('journal').stdout.trim(),
    isRestoring: section('restoring').stdout.trim() !== '',
  };
}

/** Where a part of the store cannot be read: "no release" would be a wrong answer, and "no journal" a dangerous one. */
function findUnreadable(sections: ReadonlyMap<string, Section>): string {
  const failed = ['current', 'releases', 'files', 'rendered', 'journal'].find(
    (name) => sections.get(name)?.exitCode !== 0,
  );
  return failed === undefined
    ? ''
    : sections.get(failed)?.stderr.trim().slice(0, 300) || `its ${failed} cannot be read`;
}

/** An answer that failed is not "none": the undo of a deploy that believed it would take the networks away. */
function readNames(kind: 'networks' | 'volumes', section: Section): string[] {
  if (section.exitCode !== 0) {
    throw new SyntaxError(`docker could not list the project's ${kind}: ${section.stderr.trim().slice(0, 300)}`);
  }
  return section.stdout.split('\n').filter((line) => line !== '');
}

/** An answer that failed is not "no containers": a deploy that believed it would start a second database. */
function readContainers(section: Section): ContainerState[] {
  if (section.exitCode !== 0)
    throw new SyntaxError(`docker could not list the project's containers: ${section.stderr.trim().slice(0, 300)}`);
  return parseContainers(
    `[${section.stdout
      .split('\n')
      .filter((line) => line !== '')
      .join(',')}]`,
  );
}

function parseDocker(section: Section | undefined): DockerFacts {
  if (section === undefined) return { kind: 'missing' };
  const info = parseJson(section.stdout);
  const errors = readList(info, 'ServerErrors').filter((text) => typeof text === 'string');
  const version = readText(info, 'ServerVersion');
  if (info === undefined || version === '' || errors.length > 0) {
    // The daemon's answer and the client's words for it are often the same.
    const words = [...errors, ...section.stderr.split('\n')].map((text) => text.trim().replace(/^ERROR: /, ''));
    return {
      kind: 'unreachable',
      problem: [...new Set(words)].filter((text) => text !== '' && text !== 'errors pretty printing info').join(' '),
    };
  }
  const compose = readList(info, 'ClientInfo', 'Plugins').find((plugin) => readText(plugin, 'Name') === 'compose');
  return {
    kind: 'ready',
    version,
    composeVersion: readText(compose, 'Version').replace(/^v/, ''),
    architecture: readText(info, 'Architecture'),
    dataRoot: readText(info, 'DockerRootDir'),
    info,
  };
}

/** `0.0.0.0:8080->80/tcp, :::8080->80/tcp` */
function parsePublished(line: string): PortOwner[] {
  const container = parseJson(line);
  const project = /(?:^|,)com\.docker\.compose\.project=([^,]*)/.exec(readText(container, 'Labels'))?.[1] ?? '';
  return [...readText(container, 'Ports').matchAll(/(\S+?):(\d+)(?:-(\d+))?->[\d-]+\/(tcp|udp|sctp)/g)].flatMap(
    ([, address = '', from = '', to = from, protocol = '']) =>
      Array.from({ length: Number(to) - Number(from) + 1 }, (_, index) => ({
        port: Number(from) + index,
        address: address.replace(/^\[(.*)\]$/, '$1'),
        protocol,
        container: readText(container, 'Names'),
        project,
      })),
  );
}

function parseImage(line: string): LocalImage {
  const image = parseJson(line);
  const texts = (...keys: string[]): string[] => readList(image, ...keys).filter((text) => typeof text === 'string');
  return {
    id: readText(image, 'Id'),
    tags: texts('RepoTags'),
    digests: texts('RepoDigests'),
    bytes: readNumber(image, 'Size'),
    layerDiffIds: texts('Layers'),
  };
}

/** `0100007F:1F90`: https://www.kernel.org/doc/Documentation/networking/proc_net_tcp.txt, each 32 bits in the server's (little-endian) order. */
function parseListener(line: string): Listener[] {
  const [, words = '', port = ''] = /^((?:[0-9A-F]{8}){1,4}):([0-9A-F]{4})$/i.exec(line) ?? [];
  if (port === '') return [];
  const bytes = (words.match(/.{8}/g) ?? []).flatMap((word) => (word.match(/../g) ?? []).toReversed());
  const mapped = bytes.length === 16 && /^0{20}ffff/i.test(bytes.join(''));
  const address =
    bytes.length === 4 || mapped
      ? bytes
          .slice(-4)
          .map((byte) => Number.parseInt(byte, 16))
          .join('.')
      : new URL(`http://[${bytes.join('').replaceAll(/(.{4})(?=.)/g, '$1:')}]`).hostname.slice(1, -1);
  return [{ address, port: Number.parseInt(port, 16) }];
}

/** The output of `df -Pk` and then `df -Pi` for one path. */
function parseSpace(text: string): DiskSpace | undefined {
  const rows = text.split('\n').filter((line) => /\s\d+%?\s|\s-\s/.test(line) && !line.startsWith('Filesystem'));
  const [kilobytes, inodes] = rows.map((row) => row.trim().split(/\s+/));
  const free = Number(kilobytes?.[3]);
  if (kilobytes === undefined || !Number.isFinite(free)) return undefined;
  const freeInodes = Number(inodes?.[3]);
  // A file system that makes inodes as it goes says 0 of 0.
  const counted = inodes !== undefined && Number(inodes[1]) > 0 && Number.isFinite(freeInodes);
  return { mountPoint: kilobytes[5] ?? '', freeBytes: free * 1024, freeInodes: counted ? freeInodes : undefined };
}

/** A release.json that cannot be read is left out: its folder is not touched, and it cannot be chosen. */
export function parseRelease(line: string): Release[] {
  const value = parseJson(line);
  const text = (key: string): string => readText(value, key);
  if (!isReleaseId(text('id'))) return [];
  const services = readMember(value, 'services') ?? {};
  return [
    {
      id: text('id'),
      project: text('project'),
      created: text('created'),
      commit: text('commit'),
      ref: text('ref'),
      actor: text('actor'),
      runUrl: text('runUrl'),
      result: text('result') === 'adopted' ? 'adopted' : 'healthy',
      checks: readList(value, 'checks').filter((name) => typeof name === 'string'),
      services: Object.fromEntries(
        Object.entries(services).map(([name, service]: [string, Json]) => [
          name,
          {
            reference: readText(service, 'reference'),
            image: readText(service, 'image'),
            configHash: readText(service, 'configHash'),
          },
        ]),
      ),
      ...parseSchemaQuestion(readMember(value, 'schema')),
      ...parseRollback(readMember(value, 'rollback')),
      ...(readText(value, 'backup') === '' ? {} : { backup: readText(value, 'backup') }),
      files: readList(value, 'files').filter((address) => typeof address === 'string'),
    },
  ];
}

function parseSchemaQuestion(value: Json | undefined): Pick<Release, 'schema'> {
  const command = readList(value, 'command').filter((word) => typeof word === 'string');
  return command.length === 0 ? {} : { schema: { service: readText(value, 'service'), command } };
}

function parseRollback(value: Json | undefined): Pick<Release, 'rollback'> {
  const [of, from] = [readText(value, 'of'), readText(value, 'from')];
  return isReleaseId(of) ? { rollback: { of, from } } : {};
}
