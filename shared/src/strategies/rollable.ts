/**
 * The change to a Compose file after which old and new replicas can run side by side: a router in front of every HTTP service
 * that publishes a port itself. Pure.
 */
import { posix } from 'node:path';
import { canonical } from '../compose/difference';
import { isObject, type JsonObject, type Service } from '../compose/project';
import { type LocatedEntry, type LocatedNode, locateYaml, parseYaml } from '../compose/yaml';
import { type Json, readMember } from '../json';
import { ROUTER_MOUNT } from '../routers/nginx';
import { findObstacles, type Strategy } from './choose';
import { renderDiff } from './unified-diff';

/** `keepalive_min_timeout` and `resolve` need 1.27.4. */
const ROUTER_IMAGE = 'nginx:1.30';

/** They speak no HTTP, or speak TLS themselves: what publishes such a port of a container is left as it is. */
const OTHER_PORTS = new Set([
  21, 22, 25, 53, 110, 143, 389, 443, 465, 587, 636, 993, 995, 1433, 1521, 1883, 2181, 2379, 3306, 4222, 5432, 5671,
  5672, 6379, 6432, 8443, 8883, 9042, 9092, 11211, 26257, 27017,
]);

/** They are routers, or keep data; by the last part of the image's name. */
const OTHER_IMAGES =
  /^(nginx(-.*)?|angie|openresty|traefik|caddy|haproxy|envoy|httpd|nginx-proxy|postgres(ql)?|postgis|timescaledb|mysql|mariadb|percona|mongo(db)?|redis(-stack)?|valkey|keydb|memcached|rabbitmq|nats|kafka|zookeeper|etcd|eclipse-mosquitto|mosquitto|clickhouse-server|cassandra|elasticsearch|opensearch|minio)$/;

/**
 * @param composeFile `path` relative to the repository's root; `text` as the user wrote it.
 * @param services as Compose rendered them.
 * @returns a unified diff for `git apply` or `patch -p1`, to be run at the repository's root. Empty where nothing is to be made
 * rollable, or where it cannot be done without a doubt: then nothing is suggested.
 */
export function suggestPatch(
  composeFile: { readonly path: string; readonly text: string },
  services: readonly Service[],
  strategies: Readonly<Record<string, Strategy>>,
): string {
  const { path, text } = composeFile;
  const root = locateYaml(text);
  const located = root?.entries.find(({ key }) => key === 'services')?.value;
  if (root === undefined || located?.kind !== 'map' || located.isFlow || located.entries.length === 0) return '';
  const taken = new Set([...services.map(({ name }) => name), ...located.entries.map(({ key }) => key)]);
  const routerName = ['router', 'slipway-router', 'slipway-router-2'].find((name) => !taken.has(name));
  const folder = ['nginx', 'router', 'slipway-router'].find(
    (name) => !new RegExp(`(^|[^\\w.-])\\.?/?${name}/`, 'm').test(text) && !text.includes(`./${name}`),
  );
  if (routerName === undefined || folder === undefined) return '';
  const routed = giveListens(
    located.entries.flatMap((entry) => {
      const service = services.find(({ name }) => name === entry.key);
      const candidate = service === undefined ? undefined : findCandidate(service, services, entry, root, text);
      return candidate !== undefined && isWanted(candidate.service, strategies[entry.key]) ? [candidate] : [];
    }),
  );
  if (routed.length === 0) return '';
  const router: RouterPlan = { name: routerName, folder, routed, networks: joinNetworks(routed) };
  const edits = [
    ...routed.flatMap((one) => editService(one, located, root, routerName, text)),
    insertRouter(router, located, text),
  ];
  const changed = applyEdits(text, edits);
  if (changed === undefined || !isAsMeant(text, changed, router)) return '';
  const beside = (file: string): string => posix.join(posix.dirname(path), folder, file);
  return [
    renderDiff(posix.normalize(path), text, changed),
    renderDiff(beside('router.conf'), undefined, renderRouterConf(routed)),
    renderDiff(beside('slipway/upstreams.conf'), undefined, renderLocalUpstreams(routed)),
  ].join('');
}

interface Candidate {
  readonly service: Service;
  readonly entry: LocatedEntry;
  readonly ports: Found;
  readonly containerName: Found | undefined;
  /** Of the container. */
  readonly target: number;
  /** As the user wrote them: `8080`, `127.0.0.1:8080`, `${HTTP_PORT:-8080}`. */
  readonly hostPorts: readonly string[];
}

interface Routed extends Candidate {
  /** On which the router listens for it, inside its container. */
  readonly listen: number;
}

interface RouterPlan {
  readonly name: string;
  readonly folder: string;
  readonly routed: readonly Routed[];
  /** Empty for the default one. */
  readonly networks: readonly string[];
}

/** An entry of a service, or of what it merges (`<<: *defaults`). */
interface Found {
  readonly entry: LocatedEntry;
  readonly map: LocatedNode;
}

/** Who said stop-first means it. */
function isWanted(service: Service, strategy: Strategy | undefined): boolean {
  return strategy?.order !== 'start-first' && service.updateConfig?.order !== 'stop-first';
}

function findCandidate(
  service: Service,
  services: readonly Service[],
  entry: LocatedEntry,
  root: LocatedNode,
  text: string,
): Candidate | undefined {
  const obstacles = findObstacles(service, { services }, []);
  const others = services.some((other) => other.router?.service === service.name);
  const image = service.image.split('@')[0]?.split('/').at(-1)?.split(':')[0] ?? '';
  if (
    entry.value.kind !== 'map' ||
    !service.hasHostPort ||
    !obstacles.every(({ kind }) => kind === 'host-port' || kind === 'container-name') ||
    service.router !== undefined ||
    readMember(service.raw, 'x-slipway') !== undefined ||
    others ||
    service.networkMode !== '' ||
    OTHER_IMAGES.test(image)
  ) {
    return undefined;
  }
  const ports = findEntry(entry.value, 'ports', root);
  const containerName = findEntry(entry.value, 'container_name', root);
  const list = ports === undefined ? undefined : follow(ports.entry.value, root);
  if (ports === undefined || list?.kind !== 'list') return undefined;
  const parsed = list.items.map(parsePort);
  const targets = new Set(parsed.map((port) => port?.target));
  const [target] = targets;
  // One upstream has one port.
  if (targets.size !== 1 || target === undefined || OTHER_PORTS.has(target)) return undefined;
  // The name that goes away is known to others.
  const { containerName: name } = service;
  if (name !== '' && name !== service.name && countWords(text, name) > 1) return undefined;
  return { service, entry, ports, containerName, target, hostPorts: parsed.map((port) => port?.host ?? '') };
}

function countWords(text: string, word: string): number {
  const own = (character: string | undefined): boolean => character !== undefined && /[\w.-]/.test(character);
  let count = 0;
  for (let at = text.indexOf(word); at >= 0; at = text.indexOf(word, at + 1)) {
    if (!own(text[at - 1]) && !own(text[at + word.length])) count++;
  }
  return count;
}

function follow(node: LocatedNode, root: LocatedNode): LocatedNode | undefined {
  return node.alias === '' ? node : findAnchor(root, node.alias);
}

function findAnchor(node: LocatedNode, name: string): LocatedNode | undefined {
  if (node.anchor === name) return node;
  for (const child of [...node.entries.map(({ value }) => value), ...node.items]) {
    const found = findAnchor(child, name);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** Its own entry goes before what it merges, and the first that is merged before the next. */
function findEntry(map: LocatedNode, key: string, root: LocatedNode, depth = 0): Found | undefined {
  const own = map.entries.find((entry) => entry.key === key);
  if (own !== undefined) return { entry: own, map };
  const merge = map.entries.find((entry) => entry.key === '<<')?.value;
  if (merge === undefined || depth > 10) return undefined;
  for (const source of merge.kind === 'list' ? merge.items : [merge]) {
    const target = follow(source, root);
    const found = target === undefined ? undefined : findEntry(target, key, root, depth + 1);
    if (found !== undefined) return found;
  }
  return undefined;
}

interface PortText {
  readonly host: string;
  readonly target: number;
}

/** A fixed TCP port of the server. Anything else (ranges, UDP, chosen by Docker) gives undefined. */
function parsePort(node: LocatedNode): PortText | undefined {
  if (node.kind === 'text') {
    const match = /^(.+):(\d{1,5})(?:\/tcp)?$/s.exec(node.text);
    const [, host = '', target = ''] = match ?? [];
    return asPortText(host, Number(target));
  }
  if (node.kind !== 'map') return undefined;
  const read = (key: string): string => node.entries.find((entry) => entry.key === key)?.value.text ?? '';
  if (!['', 'tcp'].includes(read('protocol')) || !/^\d{1,5}$/.test(read('target'))) return undefined;
  const address = read('host_ip');
  const prefix = address === '' ? '' : address.includes(':') ? `[${address}]:` : `${address}:`;
  return asPortText(`${prefix}${read('published')}`, Number(read('target')));
}

const HOST_PORT =
  /^((\d{1,3}(\.\d{1,3}){3}|\[[0-9a-fA-F:.]+\]|\$\{[A-Za-z_][^{}\n]*\}|\$[A-Za-z_]\w*):)?(\d{1,5}|\$\{[A-Za-z_][^{}\n]*\}|\$[A-Za-z_]\w*)$/;

function asPortText(host: string, target: number): PortText | undefined {
  return HOST_PORT.test(host) && target >= 1 && target <= 65_535 ? { host, target } : undefined;
}

/** The router listens on the number that the server publishes, where the file has one, so that both are easily told to belong together. */
function giveListens(candidates: readonly Candidate[]): Routed[] {
  const used = new Set<number>();
  return candidates.map((candidate) => {
    const literal = candidate.hostPorts
      .map((host) => /(?:^|:)(\d+)$/.exec(host)?.[1])
      .find((port) => port !== undefined);
    let listen = literal === undefined ? candidate.target : Number(literal);
    while (used.has(listen)) listen = listen >= 65_535 ? 1024 : listen + 1;
    used.add(listen);
    return { ...candidate, listen };
  });
}

/** All of them: one that is `internal` publishes no ports. */
function joinNetworks(routed: readonly Routed[]): string[] {
  const networks = [...new Set(routed.flatMap(({ service }) => service.networks))];
  return networks.every((name) => name === 'default') ? [] : networks;
}

/** `start` to `end` become `text`. */
interface Edit {
  readonly start: number;
  readonly end: number;
  readonly text: string;
}

function editService(one: Routed, services: LocatedNode, root: LocatedNode, router: string, text: string): Edit[] {
  const additions = [
    // Anything but its own `expose` would be lost.
    ...(findEntry(one.entry.value, 'expose', root) === undefined ? [`expose: ['${one.target}']`] : []),
    `x-slipway: { router: ${router}, port: ${one.target} }`,
  ];
  const isOwn = one.ports.map === one.entry.value;
  const isService = (map: LocatedNode): boolean => services.entries.some(({ value }) => value === map);
  const edits: Edit[] = [];
  if (isOwn) edits.push(replaceEntry(one.ports, additions, text));
  else {
    // What another service has is that one's; it is changed there, if at all.
    if (!isService(one.ports.map)) edits.push(removeEntry(one.ports, text));
    const first = one.entry.value.entries[0];
    if (first !== undefined) edits.push(insertAfter({ entry: first, map: one.entry.value }, additions, text));
  }
  const { containerName } = one;
  if (containerName !== undefined && !(containerName.map !== one.entry.value && isService(containerName.map))) {
    edits.push(removeEntry(containerName, text));
  }
  return edits;
}

function replaceEntry({ entry, map }: Found, lines: readonly string[], text: string): Edit {
  if (map.isFlow) return { start: entry.start, end: entry.value.end, text: lines.join(', ') };
  const { start, end } = wholeLines(entry, text);
  return { start, end, text: layLines(lines, indentOf(entry.start, text), text) };
}

function insertAfter({ entry, map }: Found, lines: readonly string[], text: string): Edit {
  if (map.isFlow) return { start: entry.value.end, end: entry.value.end, text: `, ${lines.join(', ')}` };
  const { end } = wholeLines(entry, text);
  const line = layLines(lines, indentOf(entry.start, text), text);
  return { start: end, end, text: line };
}

function removeEntry({ entry, map }: Found, text: string): Edit {
  if (!map.isFlow) return { ...wholeLines(entry, text), text: '' };
  const index = map.entries.indexOf(entry);
  const [before, after] = [map.entries[index - 1], map.entries[index + 1]];
  if (after !== undefined) return { start: entry.start, end: after.start, text: '' };
  return { start: before?.value.end ?? entry.start, end: entry.value.end, text: '' };
}

function lineStart(offset: number, text: string): number {
  return text.lastIndexOf('\n', offset - 1) + 1;
}

/** Behind the end of the line that has the last character before `offset`. */
function lineEnd(offset: number, text: string): number {
  const end = text.indexOf('\n', Math.max(0, offset - 1));
  return end < 0 ? text.length : end + 1;
}

function wholeLines(entry: LocatedEntry, text: string): { start: number; end: number } {
  return { start: lineStart(entry.start, text), end: lineEnd(entry.value.end, text) };
}

function indentOf(offset: number, text: string): string {
  return text.slice(lineStart(offset, text), offset);
}

function layLines(lines: readonly string[], indent: string, text: string): string {
  const end = text.includes('\r\n') ? '\r\n' : '\n';
  return lines.map((line) => (line === '' ? end : `${indent}${line}${end}`)).join('');
}

function insertRouter(router: RouterPlan, services: LocatedNode, text: string): Edit {
  const { entries } = services;
  const indent = indentOf(entries[0]?.start ?? 0, text);
  const at = passComments(lineEnd(services.end, text), indent, text);
  const inner = entries.map(({ value }) => value).find((value) => value.kind === 'map' && !value.isFlow)?.entries[0];
  const step = inner === undefined ? '' : indentOf(inner.start, text).slice(indent.length);
  const tab = [step, indent].find((blanks) => /^ +$/.test(blanks)) ?? '  ';
  const [last, beforeLast] = [entries.at(-1), entries.at(-2)];
  const between =
    last === undefined || beforeLast === undefined || /\n[ \t\r]*\n/.test(text.slice(beforeLast.value.end, last.start));
  const lines = layLines([...(between ? [''] : []), ...renderRouterService(router, tab)], indent, text);
  const open = at > 0 && text[at - 1] !== '\n';
  return { start: at, end: at, text: open ? `${text.includes('\r\n') ? '\r\n' : '\n'}${lines}` : lines };
}

/** Comments that are further in than the services belong to the last one. */
function passComments(start: number, indent: string, text: string): number {
  let [passed, at] = [start, start];
  while (at < text.length) {
    const end = lineEnd(at + 1, text);
    const [, blanks = '', rest = ''] = /^([ \t]*)(.*)/.exec(text.slice(at, end)) ?? [];
    if (rest.startsWith('#') && blanks.length > indent.length) passed = end;
    else if (rest.trim() !== '') break;
    at = end;
  }
  return passed;
}

function renderRouterService({ name, folder, routed, networks }: RouterPlan, tab: string): string[] {
  const key = (words: string): string => `${tab}${words}`;
  const item = (words: string): string => `${tab}${tab}- ${words}`;
  return [
    '# Moves traffic from the old replicas to the new ones. It has no depends_on: it stays up while they come and go.',
    `${name}:`,
    key(`image: ${ROUTER_IMAGE}`),
    key('restart: unless-stopped'),
    key('ports:'),
    ...listPublished(routed).map((port) => item(quoteYaml(port))),
    key('volumes:'),
    item(`./${folder}:/etc/nginx/conf.d:ro`),
    item(`./${folder}/slipway:${ROUTER_MOUNT}:ro # on the server, Slipway's own`),
    ...(networks.length === 0 ? [] : [key('networks:'), ...networks.map((network) => item(network))]),
    key('stop_signal: SIGQUIT # nginx finishes the requests under way'),
    key('stop_grace_period: 30s'),
  ];
}

function listPublished(routed: readonly Routed[]): string[] {
  return routed.flatMap(({ hostPorts, listen }) => hostPorts.map((host) => `${host}:${listen}`));
}

function quoteYaml(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}

/** @returns undefined where two of them touch the same characters. */
function applyEdits(text: string, edits: readonly Edit[]): string | undefined {
  const sorted = [...edits].sort((a, b) => a.start - b.start || a.end - b.end);
  let result = '';
  let at = 0;
  for (const edit of sorted) {
    if (edit.start < at) return undefined;
    result += text.slice(at, edit.start) + edit.text;
    at = edit.end;
  }
  return result + text.slice(at);
}

/** Reads both texts and compares: whatever the layout was, nothing but what was meant has changed. */
function isAsMeant(before: string, after: string, router: RouterPlan): boolean {
  const [was, is] = [readYaml(before), readYaml(after)];
  const services = readMember(was, 'services');
  if (!isObject(was) || !isObject(is) || !isObject(services)) return false;
  const wanted: Record<string, Json> = { ...services };
  for (const { service, target } of router.routed) {
    const rest = Object.fromEntries(
      Object.entries(asObject(services[service.name])).filter(([key]) => !['ports', 'container_name'].includes(key)),
    );
    wanted[service.name] = {
      expose: [String(target)],
      ...rest,
      'x-slipway': { router: router.name, port: target },
    };
  }
  wanted[router.name] = {
    image: ROUTER_IMAGE,
    restart: 'unless-stopped',
    ports: listPublished(router.routed),
    volumes: [`./${router.folder}:/etc/nginx/conf.d:ro`, `./${router.folder}/slipway:${ROUTER_MOUNT}:ro`],
    ...(router.networks.length === 0 ? {} : { networks: [...router.networks] }),
    stop_signal: 'SIGQUIT',
    stop_grace_period: '30s',
  };
  // What is under `x-` is there to be merged, and says nothing by itself.
  const spoken = (file: JsonObject): JsonObject =>
    Object.fromEntries(Object.entries(file).filter(([key]) => key !== 'services' && !key.startsWith('x-')));
  return (
    canonical(readMember(is, 'services')) === canonical(wanted) && canonical(spoken(is)) === canonical(spoken(was))
  );
}

function readYaml(text: string): Json {
  try {
    return parseYaml(text);
  } catch {
    return null;
  }
}

function asObject(value: Json | undefined): JsonObject {
  return isObject(value) ? value : {};
}

function renderRouterConf(routed: readonly Routed[]): string {
  return `# The router. One "upstream" for each service is in ${ROUTER_MOUNT}: on the server Slipway writes it, and moves
# traffic by it; for \`docker compose up\` it is slipway/upstreams.conf beside this file.
include ${ROUTER_MOUNT}/*.conf;

# A reload lets idle keep-alive connections live this long (nginx >= 1.27.4): without it, clients that are just sending
# their next request lose it.
keepalive_min_timeout 10s;

# A proxy in front may have ended TLS.
map $http_x_forwarded_proto $forwarded_proto {
    default $scheme;
    https   https;
}
# WebSockets are passed on; everything else keeps its connection to the service.
map $http_upgrade $connection_upgrade {
    default upgrade;
    ""      "";
}

proxy_http_version 1.1;
proxy_set_header Connection $connection_upgrade;
proxy_set_header Upgrade $http_upgrade;
proxy_set_header Host $http_host;
proxy_set_header X-Real-IP $remote_addr;
proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
proxy_set_header X-Forwarded-Proto $forwarded_proto;
proxy_connect_timeout 2s;
# The service limits what it takes, as it did before.
client_max_body_size 0;
${routed
  .map(
    ({ service, listen }) => `
server {
    listen ${listen};
    location / { proxy_pass http://${service.name}; }
}
`,
  )
  .join('')}`;
}

function renderLocalUpstreams(routed: readonly Routed[]): string {
  return `# For \`docker compose up\`, where a service is reached by its name. On the server Slipway mounts a folder of its own here.
${routed
  .map(
    ({ service, target }) => `upstream ${service.name} {
    zone ${service.name} 64k;
    resolver 127.0.0.11 valid=1s ipv6=off;
    server ${service.name}:${target} resolve;
    keepalive 32;
    keepalive_timeout 4s;
}
`,
  )
  .join('')}`;
}
