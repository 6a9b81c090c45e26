/** What the Docker daemon says of itself, as far as images go: `docker info --format '{{json .}}'`. */
import { BlockList, isIP } from 'node:net';
import { ImageError } from '../errors';
import { parseJson, readList, readMember, readText } from '../json';
import { excerpt } from '../shell/excerpt';
import { DEFAULT_REGISTRY, normalizeRegistry } from './reference';

/** What an image is made for. */
export interface Platform {
  readonly os: string;
  /** Go's word: `amd64`, `arm64`, `arm`. */
  readonly architecture: string;
  /** `v7` and the like; empty where there is none. */
  readonly variant: string;
}

export interface DaemonFacts {
  readonly platform: Platform;
  /** Where Docker keeps its data: `/var/lib/docker`. */
  readonly rootDirectory: string;
  /** Images are kept by containerd (default of new installations since Engine 29), compressed layers included. */
  readonly containerdStore: boolean;
  /** The daemon reaches registries through a proxy, which we cannot imitate. */
  readonly usesProxy: boolean;
  /** `InsecureRegistryCIDRs`. */
  readonly insecureNetworks: readonly string[];
  /** Registries that the daemon's settings name: whether their certificate must be valid. */
  readonly secureByName: ReadonlyMap<string, boolean>;
  /** Base URLs that are asked first for images of Docker Hub. */
  readonly mirrors: readonly string[];
}

/** @throws ImageError for text that is not the answer of a running daemon. */
export function parseDaemon(infoJson: string): DaemonFacts {
  const info = parseJson(infoJson);
  const architecture = readText(info, 'Architecture');
  if (architecture === '') {
    const said = readText(readList(info, 'ServerErrors')[0]) || excerpt(infoJson, 120) || 'nothing';
    throw new ImageError(
      `docker info did not describe a running Docker Engine but said: ${excerpt(said, 300)}`,
      'Log in to the server as the same user and run `docker info`: it must show a Server section without errors.',
    );
  }
  const config = readMember(info, 'RegistryConfig');
  const indexes = readMember(config, 'IndexConfigs');
  const names = typeof indexes === 'object' && indexes !== null ? Object.keys(indexes) : [];
  return {
    platform: platformOf(readText(info, 'OSType') || 'linux', architecture),
    rootDirectory: readText(info, 'DockerRootDir') || '/var/lib/docker',
    containerdStore: readList(info, 'DriverStatus').some(
      (pair) => readMember(pair, 1) === 'io.containerd.snapshotter.v1',
    ),
    usesProxy: readText(info, 'HttpProxy') !== '' || readText(info, 'HttpsProxy') !== '',
    insecureNetworks: readList(config, 'InsecureRegistryCIDRs').filter((item) => typeof item === 'string'),
    secureByName: new Map(
      names.map((name) => [name.toLowerCase(), readMember(readMember(indexes, name), 'Secure') !== false]),
    ),
    mirrors: readList(config, 'Mirrors').filter((item) => typeof item === 'string'),
  };
}

/** `uname -m` words, which `docker info` shows, as Go's. */
function platformOf(os: string, machine: string): Platform {
  switch (machine) {
    case 'x86_64':
      return { os, architecture: 'amd64', variant: '' };
    case 'aarch64':
      return { os, architecture: 'arm64', variant: 'v8' };
    case 'armv5tel':
    case 'armv5l':
      return { os, architecture: 'arm', variant: 'v5' };
    case 'armv6l':
      return { os, architecture: 'arm', variant: 'v6' };
    case 'armv7l':
    case 'armhf':
      return { os, architecture: 'arm', variant: 'v7' };
    case 'armv8l':
      return { os, architecture: 'arm', variant: 'v8' };
    case 'i386':
    case 'i486':
    case 'i586':
    case 'i686':
      return { os, architecture: '386', variant: '' };
    case 'mipsel':
      return { os, architecture: 'mipsle', variant: '' };
    case 'loongarch64':
      return { os, architecture: 'loong64', variant: '' };
    default:
      return { os, architecture: machine, variant: '' };
  }
}

/**
 * A platform as Compose writes it in `platform:`: `linux/arm64`, `linux/arm/v7`, `arm64`. Undefined for other text.
 */
export function parsePlatform(text: string): Platform | undefined {
  const parts = text.trim().toLowerCase().split('/');
  if (parts.length > 3 || !parts.every((part) => /^[a-z0-9_.-]{1,50}$/.test(part))) return undefined;
  const [first = '', second, third = ''] = parts;
  if (second === undefined)
    return first === 'linux' ? undefined : normalizePlatform({ os: 'linux', architecture: first, variant: '' });
  return normalizePlatform({ os: first, architecture: second, variant: third });
}

function normalizePlatform({ os, architecture, variant }: Platform): Platform {
  switch (architecture) {
    case 'x86_64':
    case 'x86-64':
    case 'amd64':
      return { os, architecture: 'amd64', variant: variant === 'v1' ? '' : variant };
    case 'aarch64':
    case 'arm64':
      return { os, architecture: 'arm64', variant: variant === '' || variant === '8' ? 'v8' : variant };
    case 'armhf':
      return { os, architecture: 'arm', variant: 'v7' };
    case 'armel':
      return { os, architecture: 'arm', variant: 'v6' };
    case 'arm':
      return { os, architecture: 'arm', variant: variant === '' ? 'v7' : variant.replace(/^(\d)$/, 'v$1') };
    case 'i386':
      return { os, architecture: '386', variant };
    default:
      return { os, architecture, variant };
  }
}

/** `linux/arm/v7`; the variant that everybody takes for granted is left out. */
export function formatPlatform(platform: Platform): string {
  const { os, architecture, variant } = normalizePlatform(platform);
  return `${os}/${architecture}${variant === '' || (architecture === 'arm64' && variant === 'v8') ? '' : `/${variant}`}`;
}

/** What a machine runs, best first, as containerd's `platforms.Only` has it: its own, then what its processor also understands. */
function runnable(platform: Platform): Platform[] {
  const own = normalizePlatform(platform);
  const { os, architecture, variant } = own;
  const arms = (highest: number): Platform[] =>
    Array.from({ length: highest - 4 }, (_, index) => ({ os, architecture: 'arm', variant: `v${highest - index}` }));
  const level = /^v([5-8])$/.exec(variant)?.[1];
  switch (architecture) {
    case 'amd64': {
      const best = /^v([2-4])$/.exec(variant)?.[1];
      const lower = Array.from({ length: best === undefined ? 0 : Number(best) - 1 }, (_, index) => {
        const at = Number(best) - 1 - index;
        return { os, architecture, variant: at === 1 ? '' : `v${at}` };
      });
      return [own, ...lower, { os, architecture: '386', variant: '' }];
    }
    case 'arm64':
      return [...(variant === 'v8' ? [own] : [own, { ...own, variant: 'v8' }]), ...arms(8)];
    case 'arm':
      return level === undefined ? [own] : arms(Number(level));
    default:
      return [own];
  }
}

/** The best of several for a machine; undefined if it runs none of them. */
export function choosePlatform<T extends { readonly platform: Platform }>(
  machine: Platform,
  offered: readonly T[],
): T | undefined {
  for (const accepted of runnable(machine)) {
    const found = offered.find(({ platform }) => {
      const { os, architecture, variant } = normalizePlatform(platform);
      return os === accepted.os && architecture === accepted.architecture && variant === accepted.variant;
    });
    if (found !== undefined) return found;
  }
  return undefined;
}

/** One place where a registry answers. */
export interface Endpoint {
  /** `https://registry-1.docker.io`, without a slash at the end. */
  readonly url: string;
  /** Its certificate need not be valid. */
  readonly insecure: boolean;
  /** It may fail: the next endpoint is asked then. It never gets credentials. */
  readonly mirror: boolean;
}

/**
 * Where the daemon looks for a registry's images, in its order (moby `registry/service_v2.go`, `lookupV2Endpoints`).
 * Of an https and http pair the second is for when nobody speaks TLS at the first.
 *
 * @param addresses what the server resolves the registry's host name to: the daemon compares these with its networks.
 */
export function endpointsOf(registry: string, daemon: DaemonFacts, addresses: readonly string[] = []): Endpoint[] {
  if (normalizeRegistry(registry) === DEFAULT_REGISTRY) {
    const mirrors = daemon.mirrors.flatMap((text): Endpoint[] => {
      const url = /^https?:\/\//.test(text) ? text : `https://${text}`;
      if (!URL.canParse(url)) return [];
      const { host } = new URL(url);
      return [{ url: url.replace(/\/+$/, ''), insecure: !isSecure(host, daemon, []), mirror: true }];
    });
    return [...mirrors, { url: 'https://registry-1.docker.io', insecure: false, mirror: false }];
  }
  const insecure = !isSecure(registry, daemon, addresses);
  const https: Endpoint = { url: `https://${registry}`, insecure, mirror: false };
  return insecure ? [https, { ...https, url: `http://${registry}` }] : [https];
}

/** Whether a registry must have a valid certificate (moby `registry/config.go`, `isSecureIndex`). */
export function isSecure(registry: string, daemon: DaemonFacts, addresses: readonly string[]): boolean {
  const named = daemon.secureByName.get(registry.toLowerCase());
  if (named !== undefined) return named;
  const host = hostOf(registry);
  const all = host === 'localhost' ? ['127.0.0.1'] : isIP(host) !== 0 ? [host] : addresses;
  // The loopback is always among the daemon's networks, but old engines do not say so.
  return !all.some((address) =>
    ['127.0.0.0/8', '::1/128', ...daemon.insecureNetworks].some((network) => contains(network, address)),
  );
}

/** Whether the daemon's answer for this registry depends on what its name resolves to. */
export function needsAddresses(registry: string, daemon: DaemonFacts): boolean {
  const host = hostOf(registry);
  return (
    normalizeRegistry(registry) !== DEFAULT_REGISTRY &&
    host !== 'localhost' &&
    isIP(host) === 0 &&
    !daemon.secureByName.has(registry.toLowerCase()) &&
    daemon.insecureNetworks.some((network) => !/^(?:127\.0\.0\.0\/8|::1\/128)$/.test(network))
  );
}

function hostOf(registry: string): string {
  return registry
    .replace(/:\d+$/, '')
    .replace(/^\[(.*)\]$/, '$1')
    .toLowerCase();
}

function contains(network: string, address: string): boolean {
  const [base = '', bits = ''] = network.split('/');
  const family = isIP(base);
  if (family === 0 || family !== isIP(address) || !/^\d{1,3}$/.test(bits) || Number(bits) > (family === 4 ? 32 : 128))
    return false;
  const type = family === 4 ? 'ipv4' : 'ipv6';
  const list = new BlockList();
  list.addSubnet(base, Number(bits), type);
  return list.check(address, type);
}
