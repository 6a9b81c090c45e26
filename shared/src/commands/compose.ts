/** What Slipway asks of `docker compose`: pure. One project name and one project directory for every release. */
import type { Command } from '../model/command';
import type { Secret } from '../model/secret';
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

/** How long a service that others wait for may take until it is healthy, before they are started all the same. */
const AWAIT_SECONDS = 60;

/**
 * Creates or recreates these services, then starts them in this order. Images are there already and pinned, so nothing is
 * pulled or built.
 *
 * Not by `up`, for two reasons that were measured with Compose 2.26 and 2.40. `up` starts every ended one-shot service
 * again that one of these depends on: a migration of the old release would run on the way back. And `up --no-deps` strips
 * `depends_on` before it hashes the configuration, so that the next plain `docker compose up -d` would recreate what runs.
 *
 * @param awaited those of them for which the next ones wait until they are healthy
 */
export function startServices(
  target: ComposeTarget,
  file: string,
  services: readonly string[],
  awaited: readonly string[] = [],
): Command {
  return script(
    `set -f
project=$1 limit=$2 count=$3
shift 3
services= awaited=' '
while [ "$count" -gt 0 ]; do services="$services $1"; shift; count=$((count - 1)); done
count=$1
shift
while [ "$count" -gt 0 ]; do awaited="$awaited$1 "; shift; count=$((count - 1)); done
"$@" $services || exit
for s in $services; do
  ids=$(docker ps -aq --filter "label=com.docker.compose.project=$project" --filter "label=com.docker.compose.service=$s" --filter label=com.docker.compose.oneoff=False) || exit
  [ -n "$ids" ] || continue
  echo "starting $s"
  docker start $ids >/dev/null || exit
  case $awaited in *" $s "*) ;; *) continue ;; esac
  left=$limit
  while [ "$left" -gt 0 ]; do
    unready=$(docker inspect --format '{{if .State.Health}}{{.State.Health.Status}}{{end}}' $ids | grep -v '^healthy$' | grep -c .)
    [ "$unready" != 0 ] || break
    sleep 1
    left=$((left - 1))
  done
done`,
    target.project,
    String(AWAIT_SECONDS),
    String(services.length),
    ...services,
    String(awaited.length),
    ...awaited,
    ...composeWords(target, file, 'create', '--no-build', '--pull', 'never'),
  );
}

export function stopServices(target: ComposeTarget, file: string, services: readonly string[]): Command {
  return { words: composeWords(target, file, 'stop', ...services) };
}

/** The configuration hash of each service of a rendered file given on standard input: lines `service hash`. */
export function hashServices(target: ComposeTarget, rendered: Secret): Command {
  return { words: composeWords(target, '-', 'config', '--hash', '*'), stdin: rendered };
}
