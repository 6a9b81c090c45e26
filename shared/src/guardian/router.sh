# The verbs that move a router, an nginx of the project. Follows the functions of guardian.sh: `run`, `ask_docker`, `note`.
#
# <store>/router/SERVICE/ is mounted in the router at /etc/nginx/slipway. nginx reads *.conf there, so only what is in
# force has that ending:
#   upstreams.conf   in force. Its first line is `# slipway GENERATION`
#   upstreams.both   old and new replicas; upstreams.new: the new ones alone. Put there before the switch begins
#   upstreams.old    what was in force before, since the switch began; or the line `# none`
#   upstreams.undone that was upstreams.new: the way back is nearly done
#   upstreams.final  the new ones, without the old as the last resort: after the commit
# The way back needs renames only.

# switch-router ROUTER both|new ID...: nginx knows both sides, or the new one alone (the only move, where nothing serves yet).
# Returns when that is in force and each of these replicas was reached through the router: names are resolved after a
# reload, so a request that came before that would find nobody.
v_switch_router() {
  router=$1 which=$2
  shift 2
  folder=$store/router/$router closed=open before=upstreams.old
  case $which in both | new) ;; *) return 64 ;; esac
  if ! [ -e "$folder/upstreams.both" ] || ! [ -e "$folder/upstreams.new" ]; then
    echo "$folder lacks upstreams.both or upstreams.new" >>"$log"
    return 1
  fi
  if [ ! -e "$folder/upstreams.old" ]; then
    put_upstreams "$folder" upstreams.conf upstreams.old || return
  elif [ "$which" = new ]; then
    # They were reached, and nginx hands on what it has resolved. Questions that they cannot read would count against them now.
    before=upstreams.both
    set --
  fi
  put_upstreams "$folder" "upstreams.$which" upstreams.conf || return
  # The old workers go on taking connections for a moment: they must not, once the new release is looked at from outside.
  [ "$which" = both ] || closed=closed
  make_live "$router" 10 "$closed" strict "$@"
  code=$?
  if [ "$code" = 3 ]; then
    # nginx would not even start with it.
    if [ "$(cat "$folder/$before")" = '# none' ]; then
      rm -f "$folder/upstreams.conf"
    else
      put_upstreams "$folder" "$before" upstreams.conf
    fi
  fi
  return "$code"
}

# restore-router ROUTER: the way back, by both sides as on the way forth. It goes on also where an old replica is gone.
v_restore_router() {
  folder=$store/router/$1
  if [ "$(cat "$folder/upstreams.old" 2>/dev/null)" = '# none' ]; then
    rm -f "$folder/upstreams.conf" || return
    # There is nothing to go back to. It may well be that its own files need ours: then it stays as it is until it is replaced.
    make_live "$1" 10 closed lenient || :
  else
    if [ -e "$folder/upstreams.old" ] && ! cmp -s "$folder/upstreams.old" "$folder/upstreams.conf"; then
      if [ ! -e "$folder/upstreams.undone" ]; then
        if cmp -s "$folder/upstreams.new" "$folder/upstreams.conf" && [ -e "$folder/upstreams.both" ]; then
          mv -f "$folder/upstreams.both" "$folder/upstreams.conf" && flush "$folder" || return
        fi
        # shellcheck disable=SC2046
        make_live "$1" 5 open lenient $(names_in "$folder/upstreams.old") || :
        # From here on it says that the last move may not be done yet.
        mv -f "$folder/upstreams.new" "$folder/upstreams.undone" && flush "$folder" || return
      fi
      mv -f "$folder/upstreams.old" "$folder/upstreams.conf" && flush "$folder" || return
    fi
    [ ! -e "$folder/upstreams.undone" ] || make_live "$1" 10 closed lenient || return
  fi
  forget_moves "$store/router/$1"
}

# settle-router ROUTER: after the commit there is no way back: the old replicas are no longer a resort.
v_settle_router() {
  folder=$store/router/$1
  if [ -e "$folder/upstreams.final" ]; then
    if cmp -s "$folder/upstreams.final" "$folder/upstreams.conf"; then
      rm -f "$folder/upstreams.final"
    else
      mv -f "$folder/upstreams.final" "$folder/upstreams.conf" && flush "$folder" || return
    fi
  fi
  # Also where the move was made and its end was not seen: with the same file it costs a moment.
  [ ! -e "$folder/upstreams.new" ] || cmp -s "$folder/upstreams.new" "$folder/upstreams.conf" || make_live "$1" 10 open lenient ||
    note "the router $1 did not take up its last change at once; it will at its next start"
  forget_moves "$folder"
}

forget_moves() {
  rm -f "$1/upstreams.final" "$1/upstreams.put" "$1/upstreams.old" "$1/upstreams.both" "$1/upstreams.new" "$1/upstreams.undone"
}

# drain ROUTER PORT BOUND ID...: until the router's old workers are gone, which go on sending to the old replicas for clients
# of theirs, and these replicas have no connection at their port; at most for so many seconds.
v_drain() {
  router=$1 port=$(printf '%04X' "$2") bound=$3 pause=0.1
  shift 3
  uptime
  began=$seconds
  while :; do
    left=
    for id in $(routers "$router"); do
      count=$(ask_docker top "$id" -eo pid,args | grep -c 'nginx: worker process is shutting down')
      [ "$count" = 0 ] || left="$count old workers of $router"
    done
    # Connections can end only after those workers.
    if [ -z "$left" ]; then
      for id in "$@"; do
        count=$(count_connections "$id" "$port")
        [ "$count" = 0 ] || left="$left${left:+, }$count connections of $(printf '%s' "$id" | cut -c 1-12)"
      done
    fi
    uptime
    if [ -z "$left" ]; then note "drained after $((seconds - began)) s"; return 0; fi
    if [ $((seconds - began)) -ge "$bound" ]; then note "after $bound s still $left"; return 0; fi
    sleep "$pause"
    pause=0.5
  done
}

# Established connections to a replica, at port $2 (hexadecimal). 0 where the container is gone.
count_connections() {
  pid=$(ask_docker inspect --type container --format '{{.State.Pid}}' "$1")
  if [ -z "$pid" ] || [ "$pid" = 0 ]; then echo 0; return; fi
  if [ -r "/proc/$pid/net/tcp" ]; then
    cat "/proc/$pid/net/tcp" "/proc/$pid/net/tcp6" 2>/dev/null
  else
    ask_docker exec "$1" cat /proc/net/tcp /proc/net/tcp6
  fi | {
    count=0
    while read -r _ local _ state _; do
      [ "$state" != 01 ] || [ "${local##*:}" != "$2" ] || count=$((count + 1))
    done
    echo "$count"
  }
}

# Seconds since the machine started: not moved by whoever sets the clock.
uptime() { read -r seconds _ </proc/uptime; seconds=${seconds%.*}; }
flush() { sync "$1" 2>/dev/null || :; }

# put_upstreams FOLDER FROM TO: a copy takes the place of TO at once. Without a FROM, `# none`.
put_upstreams() {
  if [ -e "$1/$2" ]; then cat "$1/$2"; else echo '# none'; fi >"$1/upstreams.put" 2>>"$log" || return
  chmod 644 "$1/upstreams.put" && flush "$1/upstreams.put" && mv -f "$1/upstreams.put" "$1/$3" && flush "$1"
}

# The names of the containers that an upstreams.conf sends to.
names_in() {
  while read -r word name _; do
    case "$word $name" in 'server {') ;; 'server '*) printf '%s\n' "${name%%:*}" ;; esac
  done <"$1"
}

# A router that does not run has nothing to reload: nginx reads its files at the start.
routers() { replicas "$1" --filter status=running; }

# The new replicas that do not run any more, and their last words.
tell_dead() {
  for id in "$@"; do
    case $(ask_docker inspect --type container --format '{{.Name}} {{.State.Status}}, exit code {{.State.ExitCode}}' "$id") in
      *' running, '*) ;;
      *)
        {
          ask_docker inspect --type container --format '{{slice .Name 1}} was ready, and is {{.State.Status}} now, exit code {{.State.ExitCode}}; its last words:' "$id" ||
            echo "a new replica that was ready is gone"
          timeout -k 5 20 docker logs --tail 3 "$id" 2>&1 </dev/null
        } >>"$log"
        ;;
    esac
  done
}

# make_live ROUTER PATIENCE closed|open strict|lenient CONTAINER...: the router takes upstreams.conf up, within so many
# seconds. `closed`: its old workers take no connection any more. Each container was reached through it; lenient: of those
# that run. Fails with 3 where nginx refuses the file, which was then not taken up.
make_live() {
  router=$1 patience=$2 closed=$3 strict=$4
  shift 4
  generation=-
  if [ -e "$store/router/$router/upstreams.conf" ]; then
    read -r mark who word _ <"$store/router/$router/upstreams.conf"
    [ "$mark $who" != '# slipway' ] || generation=$word
  fi
  # Both questions at once: each line with a slash is a replica, SERVICE/NAME,ADDRESS,ADDRESS; each other one a router.
  answer=$(
    [ "$#" = 0 ] || ask_docker inspect --type container --format \
      '{{if .State.Running}}{{index .Config.Labels "com.docker.compose.service"}}{{.Name}}{{range .NetworkSettings.Networks}},{{.IPAddress}}{{end}}{{end}}' "$@" &
    routers "$router" || echo failed
    wait
  )
  there='' replicas=''
  for line in $answer; do
    case $line in
      failed) return 1 ;;
      */*) replicas="$replicas $line" ;;
      *) there="$there $line" ;;
    esac
  done
  if [ "$strict" = strict ]; then
    # shellcheck disable=SC2086
    [ "$(printf '%s\n' $replicas | grep -c /)" = "$#" ] || { tell_dead "$@"; return 1; }
  fi
  router_program
  for id in $there; do
    # shellcheck disable=SC2086
    run docker exec "$id" sh -c "$program" slipway "$generation" "$patience" "$closed" $replicas
    code=$?
    case $code in
      0) continue ;;
      126 | 127) make_live_outside "$id"; code=$? ;;
      # One from before it had the folder: its successor reads the file when it starts.
      5) note "router $router does not read $store/router/$router yet"; continue ;;
    esac
    [ "$code" != 0 ] || continue
    # One that has stopped meanwhile reads its files when it starts.
    [ "$(ask_docker inspect --format '{{.State.Status}}' "$id")" = running ] || continue
    [ "$code" = 3 ] || timeout 10 docker logs --since 15s "$id" 2>&1 </dev/null | grep -E '\[(error|crit|alert|emerg)\]' | tail -n 3 >>"$log"
    return "$code"
  done
}

# In a router without a shell, or on a full disk, where `docker exec` fails: nobody can ask it from inside, so what its
# workers are called has to do.
make_live_outside() {
  before=" $(workers_of "$1" | tr '\n' ' ') "
  run docker exec "$1" nginx -t -q
  case $? in
    # Where it cannot be asked either: it tests the file again itself, and stays with what it has.
    0 | 126 | 127) ;;
    *) return 3 ;;
  esac
  run docker kill --signal HUP "$1" || return
  left=100
  while [ "$left" -gt 0 ]; do
    still=
    for pid in $(workers_of "$1"); do
      case $before in *" $pid "*) still=1 ;; esac
    done
    # Its names are resolved after the reload.
    [ -n "$still" ] || { sleep 2; return 0; }
    sleep 0.1
    left=$((left - 1))
  done
  echo 'the router did not take the new configuration up within 10 s' >>"$log"
  return 4
}

# Those that take connections.
workers_of() {
  ask_docker top "$1" -eo pid,args | while read -r pid title; do
    [ "$title" != 'nginx: worker process' ] || echo "$pid"
  done
}

# Runs in the router's container, all in one `docker exec`: GENERATION|- PATIENCE closed|open REPLICA...
# The generated configuration has a server for this alone, on a loopback address. It answers with a header
# `X-Slipway: GENERATION ADDRESS STATUS CONNECT-TIME`; /SERVICE goes through that service's upstream.
# shellcheck disable=SC2016
router_program() {
  program='
generation=$1 patience=$2 closed=$3
shift 3
unset http_proxy HTTP_PROXY all_proxy ALL_PROXY
now() { read -r seconds _ </proc/uptime; seconds=${seconds%.*}; }
title() { title=""; { read -r title <"/proc/$1/cmdline"; } 2>/dev/null; }
workers() {
  workers=""
  for process in /proc/[0-9]*; do
    title "${process#/proc/}"
    [ "$title" != "nginx: worker process" ] || workers="$workers ${process#/proc/}"
  done
}
ask() {
  case $asker in
    curl) curl -s -I -A slipway --max-time 5 "http://127.0.87.1:18787/$1" 2>/dev/null ;;
    wget) wget -S --spider -U slipway "http://127.0.87.1:18787/$1" 2>&1 ;;
    bash) bash -c "exec 3<>/dev/tcp/127.0.87.1/18787 && printf \"HEAD /%s HTTP/1.0\r\n\r\n\" \"\$1\" >&3 && cat <&3" bash "$1" 2>/dev/null ;;
  esac
}
asker=""
for tool in curl wget bash; do
  if command -v "$tool" >/dev/null 2>&1; then asker=$tool; break; fi
done

now
end=$((seconds + patience)) master=""
while :; do
  for process in /proc/[0-9]*; do
    title "${process#/proc/}"
    case $title in "nginx: master process"*) master=${process#/proc/}; break ;; esac
  done
  [ -z "$master" ] || break
  now
  [ "$seconds" -lt "$end" ] || { echo "there is no nginx running in the router"; exit 4; }
  sleep 0.1
done

if [ "$generation" != - ]; then
  found=""
  { read -r _ _ found _ </etc/nginx/slipway/upstreams.conf; } 2>/dev/null
  [ "$found" = "$generation" ] || exit 5
fi

# Tested with the file that it was started with.
set -f
options="" flag=""
for word in ${title#nginx: master process}; do
  case $flag in -c | -p) options="$options $flag $word" ;; esac
  flag=$word
done
nginx=nginx
command -v nginx >/dev/null 2>&1 || nginx=/proc/$master/exe
problem=$("$nginx" $options -t -q 2>&1) || { printf "%s\n" "$problem"; exit 3; }
set +f

workers
before=$workers
kill -HUP "$master" || exit 4

live="" unseen=$* last="" pause=0.02
if [ "$generation" = - ] || [ -z "$asker" ]; then live=unknown unseen="" closed=closed; fi
while :; do
  if [ -z "$live" ] || [ -n "$unseen" ]; then
    # nginx takes its servers in turn: twice as many questions as there are replicas meet each of them soon.
    answers=$(
      [ -n "$unseen" ] || ask ""
      for replica in $unseen; do ask "${replica%%/*}" & ask "${replica%%/*}" & done
      wait
    )
    set -f
    set -- $answers
    set +f
    while [ "$#" -gt 0 ]; do
      case $1 in
        [Xx]-[Ss]lipway:)
          # GENERATION ADDRESS STATUS SECONDS
          if [ "${2-}" = "$generation" ]; then
            live=1
            case ${5-} in
              [0-9]*)
                missing=""
                for replica in $unseen; do
                  case ",${replica#*,}," in *",${3%:*},"*) ;; *) missing="$missing $replica" ;; esac
                done
                unseen=$missing
                ;;
              *) last="${3-} ${4-}" ;;
            esac
          fi
          ;;
      esac
      shift
    done
  fi
  still=""
  if [ "$closed" = closed ]; then
    workers
    for process in $before; do case " $workers " in *" $process "*) still=1 ;; esac; done
  fi
  if [ -n "$live" ] && [ -z "$unseen" ] && [ -z "$still" ]; then
    # Where nobody could be asked: names are resolved after the reload.
    [ -n "$asker" ] || sleep 2
    exit 0
  fi
  now
  [ "$seconds" -lt "$end" ] || break
  [ "$seconds" -lt $((end - patience + 2)) ] || pause=0.2
  sleep "$pause"
done
if [ -z "$live" ]; then
  echo "the router did not take the new configuration up within $patience s: does its nginx configuration include /etc/nginx/slipway/*.conf?"
elif [ -n "$still" ]; then
  echo "old workers of the router still take connections after $patience s"
fi
for replica in $unseen; do
  name=${replica%%,*}
  [ -z "$live" ] || echo "replica ${name#*/} does not answer through the router after $patience s${last:+ (last answer of the router: $last)}"
done
exit 4'
}
