/** What the commands of backups have in common on the server: pure. */
import type { Command } from '../model/command';
import { script } from '../shell/render';

/**
 * What the scripts on the server have in common. `run` is for what may take long: the shell hears of a signal while it waits, not while
 * a program is in the foreground. `change` is for what changes what serves: its end is waited for, by us and by the watcher of
 * {@link AFTERWARDS}. `tidy` is each script's own, `leave` that of its kind.
 */
export const BACKUP_HOST = `umask 077
LC_ALL=C
export LC_ALL
started=$(date +%s)
work= clients= fed= accepted= watched=
say() { printf '%s\\n' "$1" >&2; }
fail() { say "$2"; exit "$1"; }
tidy() { :; }
leave() { :; }
finish() {
  ended=$?
  trap '' HUP INT TERM PIPE
  trap - EXIT
  exec 3>&- 5>&-
  [ -z "$fed" ] || kill "$fed" 2>/dev/null
  if [ -n "$clients" ]; then
    { trap - TERM; sleep 5; kill -KILL $clients; } >/dev/null 2>&1 &
    timer=$!
    wait $clients 2>/dev/null
    kill "$timer" 2>/dev/null
  fi
  tidy
  never_mind
  leave
  [ -z "$work" ] || rm -rf "$work"
  exit "$ended"
}
trap finish EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
run() {
  "$@" <&6 3>&- 4<&- 5>&- 6<&- 7>&- &
  clients=$! fed=$!
  wait "$clients"
  code=$?
  clients= fed=
  return "$code"
}
change() {
  "$@" </dev/null 3>&- 4<&- 5>&- &
  clients=$!
  wait "$clients"
  code=$?
  clients=
  return "$code"
}
never_mind() {
  [ -z "$watched" ] || printf 'done\\n' >&7
  watched=
}
make_work() {
  work=$(mktemp -d "$1.XXXXXX") || fail 73 "the folder of $1 cannot be written: check that it is there, that it belongs to the user that deploys, and that the disk is not full (\\\`df\\\`)."
}
running() {
  state=$(docker inspect --type container --format '{{.State.Running}}' "$1") && [ "$state" = true ] ||
    fail 69 "the container $1 does not run: start it (\\\`docker compose up -d\\\`) and look at its logs."
}
`;

/**
 * `afterwards TEXT WORD...`, behind `make_work`: runs a script of ours when this one is gone, by SIGKILL of its whole process group too. The
 * watcher has a session of its own and reads a pipe that ends with us. It says nothing, and does nothing once it heard `never_mind`.
 * Whoever still works in our name in `change` has the pipe as well, so the watcher waits for its end. After a power cut nobody does it.
 */
export const AFTERWARDS = `afterwards() {
  mkfifo "$work/watch" || fail 73 'no named pipe can be made on the server: is that a file system of Linux?'
  exec 7<>"$work/watch"
  watched=1
  setsid sh -c 'trap "" HUP INT TERM
work=$1 text=$2
shift 2
: >"$work/watching"
IFS= read -r word
[ "$word" != done ] || exit 0
exec </dev/null
for try in 1 2 3; do
  sh -c "$text" slipway "$@" && break
  sleep 2
done
rm -rf "$work"' slipway "$work" "$@" <"$work/watch" >/dev/null 2>&1 3>&- 4<&- 5>&- 7>&- &
  watcher_started=$(date +%s)
  until [ -e "$work/watching" ]; do
    [ "$(($(date +%s) - watcher_started))" -lt 10 ] || fail 69 'the server has no program \`setsid\`, by which a watcher survives this one: install util-linux.'
    sleep 0.05
  done
}
`;

/**
 * What a boot does with containers that stand while names change in a volume. `find_returning ID...` notes in `returning` those that it
 * brings back, as `ID/POLICY`; `at_boot come` has it bring them back although they were stopped, `at_boot stay` not (nobody may start on
 * half of the data), and `at_boot own` gives each its own policy. Measured: one that was stopped comes back only with the policy `always`.
 */
export const AT_BOOT = `returning=
find_returning() {
  returning=
  for one; do
    case $(docker inspect --type container --format '{{.HostConfig.RestartPolicy.Name}}' "$one") in
      always) returning="$returning $one/always" ;;
      unless-stopped) returning="$returning $one/unless-stopped" ;;
    esac
  done
}
at_boot() {
  for one in $returning; do
    case $1 in come) policy=always ;; stay) policy=unless-stopped ;; *) policy=\${one#*/} ;; esac
    docker inspect --type container "\${one%%/*}" >/dev/null 2>&1 || continue
    change docker update "--restart=$policy" "\${one%%/*}" >/dev/null || return
  done
}
none_runs() {
  for one; do
    [ "$(docker inspect --type container --format '{{.State.Running}}' "$one")" != true ] || return
  done
}
`;

/** Where a dump is tried: a container that has nothing of the project but the image, and no network. */
export interface Scratch {
  readonly name: string;
  /** The label `slipway.scratch`: {@link removeScratch} finds by it what a killed proof has left. */
  readonly project: string;
  readonly memoryMegabytes: number;
  /** How long the server in it may take to start. */
  readonly startSeconds: number;
}

/** Removes the scratch containers of a project, with their data: those of proofs that were killed. */
export function removeScratch(project: string): Command {
  return script(
    `ids=$(docker ps -aq --no-trunc --filter "label=slipway.scratch=$1") || exit
[ -z "$ids" ] || docker rm -fv $ids >/dev/null`,
    project,
  );
}
