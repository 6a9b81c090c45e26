/** The read-only questions to the server, all in one round trip: pure. */
import type { Command } from '../model/command';
import { script } from '../shell/render';
import { SECTION_FUNCTION, SECTIONS_BESIDE } from './sections';

const QUESTIONS = `${SECTION_FUNCTION}${SECTIONS_BESIDE}
project=$3
case $2 in /*) path=$2 ;; *) path=$HOME/$2 ;; esac
store=$path/.slipway
nearest() { n=$1; while [ ! -e "$n" ]; do n=\${n%/*}; n=\${n:-/}; done; printf '%s' "$n"; }
account() { id -un; id -Gn; printf '%s\\n%s\\n' "$HOME" "$path"; }
tools() { for t in flock tar timeout mktemp readlink; do command -v "$t" >/dev/null || echo "$t"; done; }
folder() {
  if [ -d "$path" ]; then echo directory; elif [ -e "$path" ]; then echo other; else echo missing; fi
  n=$(nearest "$path")
  if [ -d "$n" ] && [ -w "$n" ]; then echo writable; else echo "not-writable $n"; fi
  [ ! -e "$store" ] || [ -w "$store" ] || echo "store-not-writable $(ls -ld "$store")"
  for f in compose.override.yaml compose.override.yml docker-compose.override.yaml docker-compose.override.yml; do
    [ ! -e "$path/$f" ] || echo "override $f"
  done
}
# After tell_all: \`docker info\` is the slowest question of all, and has been answered by then.
root_space() {
  root=
  [ -z "$answers" ] || root=$(sed -n 's/.*"DockerRootDir":"\\([^"]*\\)".*/\\1/p' "$answers/docker" | head -n 1)
  [ -n "$root" ] || root=$(docker info --format '{{.DockerRootDir}}')
  space "$(nearest "\${root:-/var/lib/docker}")"
}
space() { df -Pk "$1" && df -Pi "$1"; }
containers() {
  tries=0
  while :; do
    ids=$(docker ps -aq --no-trunc --filter "label=com.docker.compose.project=$project") || return
    [ -n "$ids" ] || return 0
    # A container that goes away between the two questions makes inspect fail: ask again.
    if answer=$(docker inspect --type container --format "$format" $ids); then printf '%s\\n' "$answer"; return 0; fi
    tries=$((tries + 1))
    [ "$tries" -lt 5 ] || return 1
  done
}
published() { docker ps --no-trunc --format '{{json .}}'; }
networks() { docker network ls --filter "label=com.docker.compose.project=$project" --format '{{.Name}}'; }
volumes() { docker volume ls --filter "label=com.docker.compose.project=$project" --format '{{.Name}}'; }
images() {
  ids=$(docker image ls -aq --no-trunc | sort -u) || return
  [ -n "$ids" ] || return 0
  docker image inspect --format '{"Id":{{json .ID}},"RepoTags":{{json .RepoTags}},"RepoDigests":{{json .RepoDigests}},"Size":{{json .Size}},"Layers":{{json .RootFS.Layers}}}' $ids
}
# Its version is on standard error, its configuration on standard output.
router() {
  id=$(docker ps -q --no-trunc --filter status=running --filter "label=com.docker.compose.project=$project" \\
    --filter "label=com.docker.compose.service=$1" --filter label=com.docker.compose.oneoff=False | head -n 1)
  [ -n "$id" ] || return 3
  timeout 20 docker exec "$id" nginx -v -T
}
listening() { cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk '$4 == "0A" { print $2 }'; }
releases() {
  [ -d "$store/releases" ] || return 0
  for f in "$store"/releases/*/release.json; do [ ! -e "$f" ] || { cat "$f" && echo; } || return; done
}
files() { [ ! -d "$store/files" ] || ls "$store/files"; }
current() { [ ! -e "$store/current" ] || readlink "$store/current"; }
rendered() { [ ! -e "$store/current" ] || cat "$store/current/compose.yaml"; }
pulling() { [ ! -e "$store/pulling" ] || cat "$store/pulling"; }
journal() { [ ! -e "$store/journal" ] || cat "$store/journal"; }
restoring() { [ ! -s "$store/backups/restoring" ] || echo yes; }
format=$4
section account account
section tools tools
section folder folder
section current current
section releases releases
section files files
section rendered rendered
section journal journal
section restoring restoring
section pulling pulling
if command -v docker >/dev/null; then
  beside docker docker info --format '{{json .}}'
  beside containers containers
  beside published published
  beside networks networks
  beside volumes volumes
  beside images images
  for folder in "$store"/router/*/; do
    [ ! -d "$folder" ] || { folder=\${folder%/} && beside "router-\${folder##*/}" router "\${folder##*/}"; }
  done
  tell_all
  section root-space root_space
fi
section space space "$(nearest "$path")"
section listening listening
`;

/** What the daemon says of itself, without the rest: `parseDaemon` reads it. */
export const DESCRIBE_DAEMON: Command = { words: ['docker', 'info', '--format', '{{json .}}'], secretOutput: true };

/** What is asked of every container. Only what is needed: `docker inspect` as a whole prints the environment, which holds secrets. */
export const CONTAINER_FORMAT =
  '{"Id":{{json .ID}},"Name":{{json .Name}},"Image":{{json .Image}},"RestartCount":{{json .RestartCount}},' +
  '"State":{{json .State}},"Mounts":{{json .Mounts}},"RestartPolicy":{{json .HostConfig.RestartPolicy}},' +
  // `null` stands before the first comma. A template has no other way to put commas between.
  '"Networks":[null{{range $name, $network := .NetworkSettings.Networks}},' +
  '{"Name":{{json $name}},"IPAddress":{{json $network.IPAddress}}}{{end}}],' +
  '"Config":{"Image":{{json .Config.Image}},"Labels":{{json .Config.Labels}},"StopTimeout":{{json .Config.StopTimeout}},' +
  // Not its words, which can hold a password.
  '"Healthcheck":{{with .Config.Healthcheck}}{"Interval":{{json .Interval}},"Timeout":{{json .Timeout}},' +
  '"StartPeriod":{{json .StartPeriod}},"Retries":{{json .Retries}}}{{else}}null{{end}}}}';

/**
 * @param token random, not guessable by what the server prints.
 * @param path of the project; relative to the login's home where it is not absolute.
 */
export function readServer(token: string, path: string, project: string): Command {
  return { ...script(QUESTIONS, token, path, project, CONTAINER_FORMAT), secretOutput: true };
}
