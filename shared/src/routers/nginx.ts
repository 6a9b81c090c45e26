/** Moving traffic by an nginx of the project: what it reads, and what to know about it. Pure. The moves are guardian/router.sh. */
import { createHash } from 'node:crypto';
import { parseSections, SECTION_FUNCTION, type Section } from '../commands/sections';
import type { PreflightFinding } from '../errors';
import { parseJson, readList } from '../json';
import type { Command } from '../model/command';
import type { StoreLayout } from '../releases/layout';
import { script } from '../shell/render';

/** Where the router has the folder, read-only. */
export const ROUTER_MOUNT = '/etc/nginx/slipway';

/** Only what is in force ends in `.conf`, which is what the router's own configuration includes. */
const FILES = {
  live: 'upstreams.conf',
  both: 'upstreams.both',
  next: 'upstreams.new',
  final: 'upstreams.final',
} as const;

/** A loopback address and a port that nobody has by chance: a router is not in the host's network. Known to router.sh too. */
const INSIDE = '127.0.87.1:18787';

export interface Upstream {
  readonly service: string;
  /** Inside the containers. */
  readonly port: number;
  /** Names of containers. */
  readonly replicas: readonly string[];
  /**
   * Those of the other release, which get no request: only their names are resolved. At a reload nginx hands on what it has resolved,
   * but neither from its backups nor to them, so only like this can the next file let them serve at once
   * (`ngx_http_upstream_zone_preresolve`): https://github.com/nginx/nginx/blob/master/src/http/modules/ngx_http_upstream_zone_module.c
   */
  readonly waiting?: readonly string[];
  /**
   * Asked when none of the replicas can be reached: the old ones, until the commit. So a server that boots half-way, and brings
   * up the old release alone, serves it.
   */
  readonly backups?: readonly string[];
}

export interface UpstreamOptions {
  /** nginx 1.27.3 or newer: names are resolved while it runs. Without, at a reload only. */
  readonly resolve: boolean;
  /**
   * Slipway tries all of them out, also those that wait, by an upstream of its own. And none is counted out: a single replica, which
   * nginx never counts out, is not alone in its upstream now.
   */
  readonly moving?: boolean;
}

/** The folder of the router on the server: the source of its mount at {@link ROUTER_MOUNT}. Not secret: 0755, its files 0644. */
export function routerFolder(layout: StoreLayout, service: string): string {
  return `${layout.store}/router/${checkName(service)}`;
}

/** @returns absolute paths: `both` and `next` are put there before the verb `switch-router`, `final` before `settle-router`. */
export function routerFiles(layout: StoreLayout, service: string): Readonly<Record<keyof typeof FILES, string>> {
  const folder = routerFolder(layout, service);
  return {
    live: `${folder}/${FILES.live}`,
    both: `${folder}/${FILES.both}`,
    next: `${folder}/${FILES.next}`,
    final: `${folder}/${FILES.final}`,
  };
}

/** Puts the files of a switch beside what is in force. Changes nothing that nginx reads. Each file as a whole, or not at all. */
export function stageUpstreams(
  layout: StoreLayout,
  service: string,
  { both, next, final }: { readonly both: string; readonly next: string; readonly final: string },
): Command {
  const files = routerFiles(layout, service);
  return script(
    `umask 022
mkdir -p "$1" && chmod 755 "$1" || exit
put() { printf '%s' "$2" >"$1.put" && sync "$1.put" && mv -f "$1.put" "$1" || { rm -f "$1.put"; exit 1; }; }
put "$2" "$3"
put "$4" "$5"
put "$6" "$7"`,
    routerFolder(layout, service),
    files.next,
    next,
    files.both,
    both,
    files.final,
    final,
  );
}

/**
 * What nginx reads: an `upstream` for each service, and a server, reachable inside the router's container alone, that tells
 * which generation of this file is in force and whom its upstreams reach.
 *
 * @throws RangeError for a name or a port that is none, or a service without replicas.
 */
export function renderUpstreams(upstreams: readonly Upstream[], options: UpstreamOptions): string {
  const text = [
    '# Written by Slipway at each deploy: what you change here is lost.',
    ...upstreams.map((upstream) => renderUpstream(upstream.service, upstream, options)),
    ...(options.moving === true ? upstreams.map((upstream) => renderTrial(upstream, options)) : []),
    renderInside(
      upstreams.map(({ service }) => ({ service, upstream: options.moving === true ? trialOf(service) : service })),
    ),
    '',
  ].join('\n');
  const generation = createHash('sha256').update(text).digest('hex').slice(0, 16);
  return `# slipway ${generation}\n${text.replace(GENERATION, generation)}`;
}

const GENERATION = '@generation@';

const trialOf = (service: string): string => `slipway.try.${service}`;

function renderTrial({ service, port, replicas, waiting = [] }: Upstream, options: UpstreamOptions): string {
  return renderUpstream(trialOf(service), { service, port, replicas: [...replicas, ...waiting] }, options);
}

function renderUpstream(
  name: string,
  { service, port, replicas, waiting = [], backups = [] }: Upstream,
  options: UpstreamOptions,
): string {
  checkName(service);
  if (!Number.isInteger(port) || port < 1 || port > 65535) throw new RangeError(`${port} is not a port`);
  if (replicas.length === 0) throw new RangeError(`service ${service} has no replicas to route to`);
  const limits = options.moving === true ? 'max_fails=0' : 'max_fails=1 fail_timeout=2s';
  const parameters = `${options.resolve ? 'resolve ' : ''}${limits}`;
  return [
    `upstream ${name} {`,
    // nginx knows its shared zones by name, over all modules.
    `    zone slipway_${name} 256k;`,
    ...(options.resolve
      ? [
          '    # Docker answers for containers by name: a replica that was restarted has another address.',
          '    resolver 127.0.0.11 valid=1s ipv6=off;',
          '    resolver_timeout 1s;',
        ]
      : []),
    ...replicas.map((replica) => `    server ${checkName(replica)}:${port} ${parameters};`),
    ...waiting.map((replica) => `    server ${checkName(replica)}:${port} ${parameters} down;`),
    ...backups.map((replica) => `    server ${checkName(replica)}:${port} ${parameters} backup;`),
    '    keepalive 32;',
    '    # Less than the 5 s after which many servers close an idle connection: nginx must be the first.',
    '    keepalive_timeout 4s;',
    '}',
  ].join('\n');
}

/** Every answer ends as a 200: busybox's wget shows the headers of no other. */
const ANSWERS =
  '300 301 302 303 304 307 308 400 401 402 403 404 405 406 407 408 409 410 411 412 413 414 415 416 417 418 421 422 423 424 ' +
  '425 426 428 429 431 451 500 501 502 503 504 505 506 507 508 510 511';

function renderInside(services: readonly { readonly service: string; readonly upstream: string }[]): string {
  return [
    '# For Slipway, inside this container alone.',
    'server {',
    `    listen ${INSIDE};`,
    '    access_log off;',
    '    auth_basic off;',
    '    allow all;',
    `    add_header X-Slipway "${GENERATION} $upstream_addr $upstream_status $upstream_connect_time" always;`,
    '    location / { return 200; }',
    '    location @answered { return 200; }',
    ...services.flatMap(({ service, upstream }) => [
      `    location = /${service} {`,
      `        proxy_pass http://${upstream}/;`,
      '        proxy_method HEAD;',
      '        proxy_http_version 1.1;',
      '        proxy_set_header Host localhost;',
      '        proxy_set_header Connection "";',
      '        proxy_next_upstream off;',
      '        proxy_connect_timeout 1s;',
      '        proxy_send_timeout 2s;',
      '        proxy_read_timeout 2s;',
      '        proxy_hide_header Location;',
      '        proxy_ignore_headers X-Accel-Redirect;',
      '        proxy_intercept_errors on;',
      `        error_page ${ANSWERS} =200 @answered;`,
      '    }',
    ]),
    '}',
  ].join('\n');
}

/** @throws RangeError: in a configuration, a name must not be able to say anything else. */
function checkName(name: string): string {
  if (!/^[A-Za-z0-9][A-Za-z0-9_.-]*$/.test(name)) throw new RangeError(`not a name: ${JSON.stringify(name)}`);
  return name;
}

/** What a router says of itself. */
export interface RouterFacts {
  /** `1.30.0`: of the one that runs, else of the image. Undefined where neither can be asked. */
  readonly version: string | undefined;
  /** `nginx -T` of the one that runs. It may hold secrets. Undefined where none runs, or it cannot be read. */
  readonly configuration: string | undefined;
}

const QUESTIONS = `${SECTION_FUNCTION}
project=$2 service=$3 image=$4
routers() {
  docker ps -q --no-trunc --filter status=running --filter "label=com.docker.compose.project=$project" \\
    --filter "label=com.docker.compose.service=$service" --filter label=com.docker.compose.oneoff=False
}
id=$(routers </dev/null 2>/dev/null | head -n 1)
[ -z "$id" ] || section running timeout 20 docker exec "$id" nginx -v -T
[ -n "$image" ] || exit 0
section environment docker image inspect --format '{{json .Config.Env}}' "$image"
case $(docker image inspect --format '{{.Config.Env}}' "$image" </dev/null 2>/dev/null) in
*NGINX_VERSION=*) ;;
*) section image timeout 20 docker run --rm --pull never --network none --entrypoint nginx "$image" -v ;;
esac
`;

/**
 * Asks the router that runs, and the image that the next one is made of.
 *
 * @param token random, not guessable by what the server prints.
 * @param image that is on the server already; empty where only the running one matters.
 */
export function readRouter(token: string, project: string, service: string, image = ''): Command {
  return { ...script(QUESTIONS, token, project, service, image), secretOutput: true };
}

/**
 * @returns `running` and `image` apart: a router that is replaced in this deploy is judged by its image.
 * @throws SyntaxError when the answer is cut off.
 */
export function parseRouter(
  output: string,
  token: string,
): { readonly running: RouterFacts; readonly image: RouterFacts } {
  const sections = parseSections(output, token);
  const environment = readList(parseJson(sections.get('environment')?.stdout ?? ''))
    .filter((entry) => typeof entry === 'string')
    .find((entry) => entry.startsWith('NGINX_VERSION='));
  return {
    running: parseRunning(sections.get('running')),
    image: {
      version:
        environment === undefined
          ? parseVersion(sections.get('image')?.exitCode === 0 ? sections.get('image') : undefined)
          : /^\d+\.\d+\.\d+/.exec(environment.slice('NGINX_VERSION='.length))?.[0],
      configuration: undefined,
    },
  };
}

/** @param answer of `nginx -v -T`: where the configuration is broken, the version is told nevertheless. */
export function parseRunning(answer: Section | undefined): RouterFacts {
  return { version: parseVersion(answer), configuration: answer?.exitCode === 0 ? answer.stdout : undefined };
}

/** nginx tells its version on standard error; OpenResty has a fourth number of its own. */
function parseVersion(section: Section | undefined): string | undefined {
  if (section === undefined) return undefined;
  return /^nginx version: \S+?\/(\d+\.\d+\.\d+)/m.exec(`${section.stderr}\n${section.stdout}`)?.[1];
}

/** Whether names can be resolved while nginx runs. Unknown counts as no: an older nginx would not start with the word. */
export function canResolve(version: string | undefined): boolean {
  return version !== undefined && isAtLeast(version, [1, 27, 3]);
}

function isAtLeast(version: string, [major, minor, patch]: readonly [number, number, number]): boolean {
  const [a = 0, b = 0, c = 0] = version.split('.').map(Number);
  return a !== major ? a > major : b !== minor ? b > minor : c >= patch;
}

export interface RouterVerdict {
  /** With which a switch cannot work. */
  readonly findings: readonly PreflightFinding[];
  /** What may be lost nevertheless, for people. */
  readonly warnings: readonly string[];
}

/**
 * @param service the router's.
 * @param routed the services behind it.
 */
export function judgeRouter(service: string, facts: RouterFacts, routed: readonly string[]): RouterVerdict {
  const { version, configuration } = facts;
  const statements = configuration === undefined ? undefined : listStatements(configuration);
  return {
    findings: statements === undefined ? [] : judgeConfiguration(service, statements, routed),
    warnings: [...judgeVersion(service, version), ...judgeKeepAlive(service, version, statements)],
  };
}

function judgeVersion(service: string, version: string | undefined): string[] {
  if (canResolve(version)) return [];
  const what = version === undefined ? 'The version of nginx is not known' : `nginx is ${version}`;
  return [
    `Router ${service}: ${what}; before 1.27.3 it resolves the names of containers only when it is reloaded. A replica that is restarted outside of a deploy may get another address, and is not found until then; and nginx does not start while one of the replicas is down.`,
  ];
}

const KEEP_ALIVE = 'keepalive_min_timeout 10s;';

function judgeKeepAlive(
  service: string,
  version: string | undefined,
  statements: readonly Statement[] | undefined,
): string[] {
  const lost =
    'requests may be lost when it is reloaded: those of clients that send on an idle keep-alive connection in that moment';
  if (version === undefined || !isAtLeast(version, [1, 27, 4])) {
    const since = version === undefined ? 'an nginx before 1.27.4' : `nginx ${version}`;
    return [`Router ${service}: with ${since}, ${lost}. Newer ones can wait for them (\`${KEEP_ALIVE}\`).`];
  }
  if (statements === undefined || statements.some(({ text }) => /^keepalive_min_timeout [^0]/.test(text))) return [];
  return [`Router ${service}: ${lost}. Add to the http block of its configuration: ${KEEP_ALIVE}`];
}

function judgeConfiguration(
  service: string,
  statements: readonly Statement[],
  routed: readonly string[],
): PreflightFinding[] {
  const own = statements.filter(({ file }) => !file.startsWith(`${ROUTER_MOUNT}/`));
  const includes = own.filter(({ text }) =>
    new RegExp(`^include ["']?${ROUTER_MOUNT}/(\\*|upstreams|\\*\\.conf|upstreams\\.conf)["']?$`).test(text),
  );
  const findings: PreflightFinding[] = [];
  if (includes.length === 0) {
    findings.push({
      message: `Router ${service} does not read what Slipway writes: its configuration does not include ${ROUTER_MOUNT}.`,
      hint: `Add to the http block (a file in /etc/nginx/conf.d is in it): include ${ROUTER_MOUNT}/*.conf; and send to the services by their names: ${routed.map((name) => `proxy_pass http://${name};`).join(' ')}`,
    });
  } else if (includes.every(({ text }) => /\/\*["']?$/.test(text))) {
    findings.push({
      message: `Router ${service} includes every file of ${ROUTER_MOUNT}, also those of a switch that is only prepared.`,
      hint: `Write: include ${ROUTER_MOUNT}/*.conf;`,
    });
  }
  for (const name of routed) {
    const twice = own.find(({ text }) => text === `upstream ${name}`);
    if (twice === undefined) continue;
    findings.push({
      message: `Router ${service} has an upstream ${name} of its own, in ${twice.file}: nginx takes only one of a name.`,
      hint: `Remove it: Slipway writes one into ${ROUTER_MOUNT}/${FILES.live}.`,
    });
  }
  return findings;
}

interface Statement {
  /** Where it stands. */
  readonly file: string;
  /** A directive or the head of a block, with single blanks, without its end. */
  readonly text: string;
}

/** The statements of `nginx -T`: no comments, and nothing that only stands in a quoted text. */
function listStatements(configuration: string): Statement[] {
  const statements: Statement[] = [];
  let [file, words] = ['', [] as string[]];
  // A comment, a quoted text, a word (`${name}` has braces of its own), or an end.
  const tokens = /#[^\n]*|"(?:\\[^]|[^"\\])*"|'(?:\\[^]|[^'\\])*'|[;{}]|(?:\\[^]|\$\{[^}]*\}|[^\s;{}])+/g;
  for (const [token] of configuration.matchAll(tokens)) {
    if (token.startsWith('#')) file = /^# configuration file (.*):$/.exec(token)?.[1] ?? file;
    else if (/^[;{}]$/.test(token)) {
      if (words.length > 0) statements.push({ file, text: words.join(' ') });
      words = [];
    } else words.push(token);
  }
  return statements;
}
