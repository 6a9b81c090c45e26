/** What Slipway asks of `docker compose`: pure. One project name and one project directory for every release. */
import type { Command } from '../model/command';
import type { Secret } from '../model/secret';
import type { StoreLayout } from '../releases/layout';
import { script } from '../shell/render';

export interface ComposeTarget {
  readonly project: string;
  /** Absolute. */
  readonly projectDirectory: string;
}

function composeWords(target: ComposeTarget, file: string, ...words: readonly string[]): [string, ...string[]] {
  const { project, projectDirectory } = target;
  return [
    'docker',
    'compose',
    '--ansi',
    'never',
    '--project-name',
    project,
    '--project-directory',
    projectDirectory,
    '--file',
    file,
    ...words,
  ];
}

/**
 * `$1` is the project. `replicas SERVICE OPTION...` prints the ids of a service's containers, `added SERVICE IDS OPTION...` those
 * that are not in a list with commas.
 */
const REPLICAS = `project=$1
shift
replicas() {
  of=$1
  shift
  docker ps -aq --no-trunc --filter "label=com.docker.compose.project=$project" --filter "label=com.docker.compose.service=$of" --filter label=com.docker.compose.oneoff=False "$@"
}
added() {
  from=$1 but=$2
  shift 2
  all=$(replicas "$from" "$@") || return
  for id in $all; do case ",$but," in *",$id,"*) ;; *) printf '%s\n' "$id" ;; esac; done
}
`;

/**
 * Sets `kept` to a `--scale` for each of some services that has containers. Measured with Compose 2.26: `create` scales what a
 * service depends on back to what the file says, and while old and new are side by side there, that would remove one of them.
 */
const KEPT_SCALES = `kept=
keep_scales() {
  [ -n "$1" ] || return 0
  counts=$(docker ps -a --filter "label=com.docker.compose.project=$project" --filter label=com.docker.compose.oneoff=False --format '{{.Label "com.docker.compose.service"}}' | sort | uniq -c) || return
  while read -r number name; do
    case ",$1," in *",$name,"*) [ -z "$name" ] || kept="$kept --scale $name=$number" ;; esac
  done <<END
$counts
END
}
`;

/** What both ways of creating begin with. After the project: the others that keep their scale, and how many are asked for. */
const CREATE = `set -f
${REPLICAS}${KEPT_SCALES}keep_scales "$1" || exit
count=$2
shift 2
`;

/**
 * Recreates these services in their place, then starts them in this order. Images are there already and pinned, so nothing
 * is pulled or built.
 *
 * Not by `up`, for two reasons that were measured with Compose 2.26 and 2.40. `up` starts every ended one-shot service
 * again that one of these depends on: a migration of the old release would run on the way back. And `up --no-deps` strips
 * `depends_on` before it hashes the configuration, so that the next plain `docker compose up -d` would recreate what runs.
 *
 * @param others names of all services that these depend on, and so on (Compose takes no others): those with containers keep them, whatever
 *   their number. None that these
 *   depend on may have old and new replicas side by side: Compose would recreate the old ones.
 */
export function replaceServices(
  target: ComposeTarget,
  file: string,
  services: readonly string[],
  others: readonly string[],
): Command {
  return script(
    `${CREATE}services=
while [ "$count" -gt 0 ]; do services="$services $1"; shift; count=$((count - 1)); done
"$@" $kept $services || exit
for service in $services; do
  ids=$(replicas "$service") || exit
  [ -z "$ids" ] || docker start $ids >/dev/null || exit
done`,
    target.project,
    others.filter((name) => !services.includes(name)).join(','),
    String(services.length),
    ...services,
    ...composeWords(target, file, 'create', '--no-build', '--pull', 'never'),
  );
}

/** New replicas of a service beside those that are there. */
export interface Addition {
  readonly service: string;
  /** How many. */
  readonly adding: number;
  /** Ids of all its containers that are there before. */
  readonly before: readonly string[];
}

const listIds = (ids: readonly string[]): string => (ids.length === 0 ? '-' : ids.join(','));

/**
 * Creates replicas beside those that are there, as `up --no-recreate --scale` does, and starts none. They get no restart
 * policy yet: a server that boots half-way must not start them. (One that was only created is not started by the daemon's
 * start either, whatever its policy says: measured with Docker 26.1, so there is no moment in between.)
 *
 * @param others names of all services that these depend on, and so on (Compose takes no others): those with containers keep them, whatever
 *   their number.
 */
export function createReplicas(
  target: ComposeTarget,
  file: string,
  additions: readonly Addition[],
  others: readonly string[],
): Command {
  return script(
    `${CREATE}plan= scales= names=
while [ "$count" -gt 0 ]; do
  plan="$plan $1:$2:$3" names="$names $1"
  ids=$(replicas "$1") || exit
  there=$(printf '%s' "$ids" | grep -c .)
  scales="$scales --scale $1=$((there + $2))"
  shift 3
  count=$((count - 1))
done
"$@" $kept $scales $names || exit
for one in $plan; do
  service=\${one%%:*} one=\${one#*:}
  new=$(added "$service" "\${one#*:}") || exit
  [ "$(printf '%s' "$new" | grep -c .)" = "\${one%%:*}" ] || { echo "docker compose made other replicas of $service than it was asked for" >&2; exit 70; }
  docker update --restart=no $new >/dev/null || exit
done`,
    target.project,
    others.filter((name) => additions.every(({ service }) => service !== name)).join(','),
    String(additions.length),
    ...additions.flatMap(({ service, adding, before }) => [service, String(adding), listIds(before)]),
    ...composeWords(target, file, 'create', '--no-build', '--pull', 'never', '--no-recreate'),
  );
}

/** A group of new replicas that is started at once: `update_config.parallelism`. */
export interface Start extends Pick<Addition, 'service' | 'before'> {
  readonly count: number;
}

/**
 * `start_alone ID...`: starts containers while none of `$stopped` runs. Two must never work on one volume, and a daemon that is restarted
 * brings back what was stopped for its successor, before it answers anybody (measured with Docker 26.1). So the start is asked for on a
 * connection that was open before the look: a daemon that was restarted since then never hears of it. A second look, just after the
 * start, is for those who start the old ones by hand.
 */
const START_ALONE = `no_other_runs() {
  running=$(docker ps -q --no-trunc) || return
  for id in $running; do
    case " $stopped " in *" $id "*)
      docker inspect --type container --format '{{slice .Name 1}} runs again, which was stopped for its successor: was Docker restarted? Both would work on the same data.' "$id" >&2
      return 70
      ;;
    esac
  done
}
ask_daemon() {
  printf '%s %s HTTP/1.1\\r\\nHost: docker\\r\\nContent-Length: 0\\r\\n\\r\\n' "$1" "$2" 2>/dev/null >&3
  status=
  read -r version status reason <&4
  while IFS= read -r header <&4 && [ "\${#header}" -gt 1 ]; do :; done
  case $status in 2?? | 304) return 0 ;; esac
  [ -n "$status" ] || { echo 'Docker went away: was it restarted?' >&2; return 69; }
  exec 3>&-
  sed 's/^{"message":"\\(.*\\)"}$/\\1/; s/\\\\"/"/g' <&4 >&2
  return 1
}
start_alone() {
  [ -n "$stopped" ] || { docker start "$@" >/dev/null; return; }
  pipes=$(mktemp -d) && mkfifo "$pipes/in" "$pipes/out" || return
  docker system dial-stdio <"$pipes/in" >"$pipes/out" &
  exec 3>"$pipes/in" 4<"$pipes/out"
  rm -rf "$pipes"
  trap '' PIPE
  ask_daemon HEAD /_ping && no_other_runs || return
  for id; do ask_daemon POST "/containers/$id/start" || return; done
  exec 3>&- 4<&-
  no_other_runs && return
  code=$?
  docker kill "$@" >/dev/null
  return "$code"
}
`;

/**
 * Starts a new container again that has ended.
 *
 * @param stopped ids of those that it replaces, and that must not run.
 */
export function startAgain(id: string, stopped: readonly string[]): Command {
  return script(
    `set -f
${START_ALONE}stopped=$2
start_alone "$1"`,
    id,
    stopped.join(' '),
  );
}

/**
 * Starts some of what {@link createReplicas} has created and that has not been started yet.
 *
 * @param delaySeconds to wait before.
 * @param stopped ids of those that these replace, and that must not run.
 */
export function startReplicas(
  target: ComposeTarget,
  starts: readonly Start[],
  delaySeconds: number,
  stopped: readonly string[] = [],
): Command {
  return script(
    `set -f
${REPLICAS}${START_ALONE}[ "$1" = 0 ] || sleep "$1"
stopped=$2
shift 2
group=
while [ "$#" -gt 0 ]; do
  new=$(added "$1" "$2" --filter status=created) || exit
  left=$3
  shift 3
  for id in $new; do
    [ "$left" -gt 0 ] || break
    group="$group $id" left=$((left - 1))
  done
done
[ -z "$group" ] || start_alone $group`,
    target.project,
    String(delaySeconds),
    stopped.join(' '),
    ...starts.flatMap(({ service, before, count }) => [service, listIds(before), String(count)]),
  );
}

/** A container that is stopped while its successor starts. */
export interface Stopped {
  readonly id: string;
  /** As `docker update --restart` takes it. */
  readonly restart: string;
}

/**
 * Stops containers by the time each has asked for. Until the commit they are what a boot brings back: one that was stopped
 * by hand comes back only with the policy `always` (measured).
 *
 * @param liveRestore of the daemon: its restart would bring them back beside their successors, which go on running. So no boot brings
 *   them back there; the next session does.
 */
export function stopContainers(
  layout: Pick<StoreLayout, 'store'>,
  containers: readonly Stopped[],
  liveRestore = false,
): Command {
  const lasting = containers.filter(({ restart }) => restart === 'always' || restart === 'unless-stopped');
  return script(
    `store=$1 lasting=$2 policy=$3
shift 3
printf '%s\n' "$@" >"$store/stopping" && { sync "$store/stopping" || :; } || exit
[ -z "$lasting" ] || docker update --restart=$policy $lasting >/dev/null || exit
docker stop "$@" >/dev/null`,
    layout.store,
    lasting.map(({ id }) => id).join(' '),
    liveRestore ? 'unless-stopped' : 'always',
    ...containers.map(({ id }) => id),
  );
}

export function startContainers(ids: readonly string[]): Command {
  return { words: ['docker', 'start', ...ids] };
}

/** Runs a command in a new container of a service, as \`docker compose run\` does, to its end. */
export function runOnce(
  target: ComposeTarget,
  file: string,
  run: { readonly service: string; readonly name: string; readonly command: readonly string[] },
): Command {
  return {
    words: composeWords(
      target,
      file,
      'run',
      '--rm',
      '--no-deps',
      '--no-TTY',
      '--quiet-pull',
      '--name',
      run.name,
      run.service,
      ...run.command,
    ),
  };
}

/** The configuration hash of each service of a rendered file given on standard input: lines `service hash`. */
export function hashServices(target: ComposeTarget, rendered: Secret): Command {
  return { words: composeWords(target, '-', 'config', '--hash', '*'), stdin: rendered };
}
