/** One long look at a project's containers, from the server itself: pure, this is the command alone. */
import type { Command } from '../model/command';
import { script } from '../shell/render';

/**
 * What is asked of every container, as `parseWatchLine` reads it. A line a second goes over the network and through a limit on
 * a line's length, so it is less than `CONTAINER_FORMAT`: of the labels only Compose's, of the health log only the last entry
 * and only of an unhealthy container. The health command's own words are not in it: they can hold a password.
 */
const LINE_FORMAT =
  '{"Id":{{json .ID}},"Name":{{json .Name}},"Image":{{json .Image}},"RestartCount":{{json .RestartCount}},' +
  '"State":{"Status":{{json .State.Status}},"OOMKilled":{{json .State.OOMKilled}},"Pid":{{json .State.Pid}},' +
  '"ExitCode":{{json .State.ExitCode}},"Error":{{json .State.Error}},"StartedAt":{{json .State.StartedAt}}' +
  '{{with .State.Health}},"Health":{"Status":{{json .Status}},"FailingStreak":{{json .FailingStreak}}' +
  '{{if eq .Status "unhealthy"}}{{$last := ""}}{{range .Log}}{{$last = .}}{{end}}{{with $last}},"Log":[{{json .}}]{{end}}{{end}}}' +
  '{{end}}},"Config":{"Image":{{json .Config.Image}},"Labels":{' +
  ['project', 'service', 'config-hash', 'container-number', 'oneoff']
    .map((name) => `com.docker.compose.${name}`)
    .map((label) => `"${label}":{{json (index .Config.Labels "${label}")}}`)
    .join(',') +
  '}}}';

/** For the script itself, on a line of its own: what can be split at spaces whatever the container is called. */
const STATE_FORMAT =
  '{{"\\n"}}{{.ID}} {{.State.Status}} {{with .State.Health}}{{.Status}}{{else}}none{{end}} {{.State.StartedAt}}';

/**
 * The time limit of a health command in nanoseconds, and its words. A word can hold anything, and a shell can read no JSON: so
 * each byte is printed in hexadecimal, and each word ends with a comma of its own. What the words are is Docker's rule:
 * https://github.com/moby/moby/blob/v26.1.5/daemon/health.go (getProbe, getShell). A text with one word, `[NONE]`, has none.
 */
const HEALTH_FORMAT =
  '{{with .Config.Healthcheck}}{{printf "%d" .Timeout}} {{range $i, $word := .Test}}{{if $i}}{{printf "% x" $word}} , ' +
  '{{else}}{{if eq $word "CMD-SHELL"}}{{range $.Config.Shell}}{{printf "% x" .}} , {{else}}2f 62 69 6e 2f 73 68 , 2d 63 , {{end}}' +
  '{{end}}{{end}}{{end}}{{end}}';

/**
 * Runs a health command inside the container, and ends it with us. `docker exec` alone leaves what it has started running in
 * the container when it is ended itself. But its standard input then closes: so one process waits for just that, and ends the
 * group. Docker makes every `exec` the leader of a group of its own; where it should not be, `kill` finds no such group.
 * `exec` in the parentheses, since a word like `exit` is the name of a program here.
 */
const GUARD = `exec 3<&0 </dev/null
{ read -r _ <&3; kill -9 "-$$" || kill -9 "$$"; } >/dev/null 2>&1 &
guard=$!
exec 3<&-
(exec "$@")
code=$?
kill -9 "$guard"
exit "$code"`;

/**
 * One loop reads events, and it alone writes: what two write at once into a pipe can be torn. Events come from a ticker, from
 * `docker events`, and from one worker for each container that is starting. They come by a pipe of the shell's own, opened
 * for writing by its name in /proc, since a FIFO would need a folder, and room on the disk. Its writers do not hold the
 * reading end, so that none of them outlives the loop by more than one tick.
 *
 * A second pipe, on which nothing is ever written, is what keeps the guards in the containers quiet. Only the loop holds
 * its writing end: however the loop dies, health commands end with it.
 */
const WATCH = `project=$1 line_format=$2 health_format=$3 guard=$4
shift 4
set -f
LC_ALL=C
export LC_ALL
newline='
'
: | {
exec 3<>/proc/self/fd/0 4>/proc/self/fd/0
: | {
exec 5<>/proc/self/fd/0 6</proc/self/fd/0 0</dev/null

workers= ticker= events=
finish() {
  trap '' HUP INT TERM PIPE
  for one in $workers; do eval "kill -TERM \\"\\$pid_$one\\""; done 2>/dev/null
  kill -9 "$ticker" "$events" 2>/dev/null
}
trap finish EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 141' PIPE
trap 'exit 143' TERM

# Turns hexadecimal text into words, and goes on as the worker of a container: its health command again and again.
work() {
  id=$1 started=$2 pause=$3 bytes=
  shift 3
  for token; do
    shift
    case $token in
    ,)
      # Without something behind it, a line break at the end would be lost.
      word=$(printf '%bx' "$bytes")
      set -- "$@" "\${word%x}"
      bytes=
      ;;
    *) bytes="$bytes\\\\0$((0x$token >> 6))$((0x$token >> 3 & 7))$((0x$token & 7))" ;;
    esac
  done
  trap 'kill -9 $!; exit' TERM
  guarded=yes attempts=0
  while :; do
    echo "begin $id" >&4 || exit
    if [ "$guarded" = yes ]; then
      docker exec -i "$id" /bin/sh -c "$guard" slipway "$@" <&6 6<&- 4>&- &
    else
      docker exec "$id" "$@" 6<&- 4>&- &
    fi
    wait $!
    code=$?
    # Is it the health command that is missing, or the shell for the guard?
    case $guarded.$code in
    yes.126 | yes.127)
      docker exec "$id" /bin/sh -c : 6<&- 4>&- &
      wait $! || guarded=no
      [ "$guarded" = yes ] || { echo "unguarded $id" >&4; continue; }
      ;;
    esac
    echo "end $id $started $code" >&4 || exit
    [ "$code" -ne 0 ] || exit
    # What takes long to start is in no hurry.
    attempts=$((attempts + 1))
    [ "$attempts" -lt 100 ] || pause=1
    sleep "$pause" 2>/dev/null || sleep 1
  done
}

start_worker() {
  eval "started_$1=\\$2 last_$1= age_$1= guarded_$1=yes"
  health=$(docker inspect --type container --format "$health_format" "$1") || { eval "started_$1="; return; }
  timeout=\${health%% *} health=\${health#* }
  case $health in *,*) ;; *) return ;; esac
  # As Docker counts: no limit means 30 seconds. In ticks, and one more for the way there.
  [ "$timeout" -gt 0 ] || timeout=30000000000
  eval "limit_$1=$((timeout / 250000000 + 2))"
  # An exec costs some 70 ms of a processor, which the containers that start could use: the more there are, the longer the pause.
  pause=5
  for other in $starting; do pause=$((pause + 5)); done
  if [ "$pause" -lt 100 ]; then pause=0.$pause; else pause=1; fi
  work "$1" "$2" "$pause" $health </dev/null >/dev/null 2>&1 3<&- 5<&- &
  eval "pid_$1=$!"
  workers="$workers $1"
}

stop_worker() {
  eval "kill -TERM \\"\\$pid_$1\\"" 2>/dev/null
  forget_worker "$1"
}

forget_worker() {
  others=
  for other in $workers; do [ "$other" = "$1" ] || others="$others $other"; done
  workers=$others
}

is_worker() { case " $workers " in *" $1 "*) ;; *) return 1 ;; esac; }

look() {
  ids=
  for line in $(docker ps -a --no-trunc --filter "label=com.docker.compose.project=$project" \\
    --format '{{.ID}}/{{.Label "com.docker.compose.service"}}' || echo failed); do
    [ "$line" != failed ] || return
    case \${line%%/*} in '' | *[!0-9a-f]*) continue ;; esac
    for service; do [ "\${line#*/}" != "$service" ] || ids="$ids \${line%%/*}"; done
  done
  answer=
  [ -z "$ids" ] || answer=$(docker inspect --type container --format "$line_format" $ids) || return
  json= starting=
  IFS=$newline
  for line in $answer; do
    IFS=' '
    case $line in
    '{'*) json="$json,$line" ;;
    *' running starting '*) starting="$starting \${line%% *}/\${line##* }" ;;
    esac
  done
  IFS=" $newline	"
  printf 'containers [%s]\\n' "\${json#,}" || exit 141
  for one in $workers; do
    case $starting in *" $one/"*) ;; *) stop_worker "$one" ;; esac
  done
  for one in $starting; do
    id=\${one%%/*} started=\${one#*/}
    eval "before=\\\${started_$id-}"
    [ "$started" != "$before" ] || continue
    ! is_worker "$id" || stop_worker "$id"
    start_worker "$id" "$started"
  done
}

while sleep 0.25 2>/dev/null || sleep 1; do echo tick || exit; done >&4 2>/dev/null 3<&- 5<&- 6<&- &
ticker=$!
# So that what happens between two looks is seen at once. Without it there is still a look a second.
docker events --filter type=container --filter "label=com.docker.compose.project=$project" --filter event=create \\
  --filter event=start --filter event=die --filter event=oom --filter event=destroy --filter event=pause \\
  --filter event=unpause --filter event=rename --filter event=health_status --format event >&4 2>/dev/null 3<&- 5<&- 6<&- &
events=$!

due=yes fresh= ticks=0 failures=0
echo tick >&4
while read -r kind id started code <&3; do
  case $kind in
  tick)
    ticks=$((ticks + 1)) fresh=yes
    [ "$ticks" -lt 4 ] || due=yes
    for one in $workers; do
      eval "age=\\$age_$one limit=\\$limit_$one guarded=\\$guarded_$one started=\\$started_$one"
      [ -n "$age" ] || continue
      eval "age_$one=$((age + 1))"
      [ "$age" -ge "$limit" ] || continue
      printf 'probe %s %s timeout\\n' "$one" "$started" || exit 141
      stop_worker "$one"
      # What has no guard lives on in the container: one is enough. Otherwise the next look starts anew.
      [ "$guarded" = no ] || eval "started_$one= due=yes"
    done
    ;;
  event) due=yes ;;
  begin) eval "age_$id=0" ;;
  unguarded) eval "guarded_$id=no" ;;
  end)
    eval "age_$id= last=\\$last_$id last_$id=\\$code current=\\$started_$id"
    # It has ended by itself. Its process id must not be used again.
    [ "$code.$started" != "0.$current" ] || forget_worker "$id"
    [ "$code" = "$last" ] || printf 'probe %s %s %s\\n' "$id" "$started" "$code" || exit 141
    ;;
  esac
  if [ -n "$due" ] && [ -n "$fresh" ]; then
    due= fresh= ticks=0
    if look "$@"; then
      failures=0
    else
      # A container that goes away between two questions is no failure, a daemon that stays away is one.
      due=yes failures=$((failures + 1))
      [ "$failures" -lt 20 ] || { echo 'Docker could not be asked for 5 seconds' >&2; exit 1; }
    fi
  elif [ "$kind" = tick ] && kill -0 "$events" 2>/dev/null; then
    echo same || exit 141
  fi
done
}
}`;

/**
 * Watches the containers of some services, running or not, until it is ended (a signal to its process group, or output that
 * nobody takes). It prints, each on a line, what `parseWatchLine` reads:
 *
 * - `containers [...]`: all of them as JSON, at once when Docker tells of a change, and every second.
 * - `same`: nothing has happened since, four times a second.
 * - `probe ID STARTED CODE`: the container's own health command ended with this code. While Docker says `starting` it is run
 *   about every 0.2 s, until it ends with 0; a code that repeats itself is not repeated. `timeout` for a code: it took longer
 *   than the health check allows. `STARTED` is `State.StartedAt` of the run that was asked.
 *
 * It never ends by itself, but with 1 when Docker cannot be asked for 5 seconds.
 *
 * A health command is ended with the watch, if the container has `/bin/sh`. Without, one that hangs goes on until its container
 * ends; it is not run twice.
 */
export function watchContainers(project: string, services: readonly string[]): Command {
  return script(WATCH, project, LINE_FORMAT + STATE_FORMAT, HEALTH_FORMAT, GUARD, ...services);
}
