# The guardian: lock, journal, executor and dead man's switch of one session with one project on one server.
# POSIX sh (dash, busybox ash, bash). Started as `sh -c PROGRAM slipway TOKEN PATH PROJECT MODE LEASE WAIT HOLDER [TICK]`.
#
#   standard input   lines from the runner (see `reader`)
#   standard output  what steps print, each framed by lines that begin with TOKEN. Written by `cat` alone (the pump)
#   standard error   control lines, each begins with TOKEN: few and short, so writing them never blocks
#
# MODE: `change` takes the lock, `preempt` takes it from a session that only holds, `yield` gives it up to such a one at any
# moment, `look` does without.
# LEASE: ticks without a line from the runner after which it counts as lost. WAIT: ticks to wait for the lock.
# TICK: seconds, 1 but for tests.
#
# Two rules of the shell that decide how things are written here: a redirection that fails ends the whole shell where the
# command is a special builtin (`:`, `exec`), so files are written with `true` and `printf`; and what runs in the background
# without job control ignores INT and QUIT for good, steps as well: without a terminal nobody sends those.
token=$1 path=$2 project=$3 mode=$4 lease=$5 wait=$6 holder=$7 tick=${8:-1}
case $path in /*) ;; *) path=${HOME:-$PWD}/$path ;; esac
store=$path/.slipway locks=${HOME:-$PWD}/.slipway-locks
# Steps get back what a login has: the signals, too (see `child`).
login_umask=$(umask)
umask 077
# TERM ends it until there is a lock that it could hold: ignored until then, it would be lost.
trap '' HUP PIPE INT QUIT

# One write of less than 4096 bytes is never torn.
tell() { printf '%s %.3000s\n' "$token" "$*" >&2 2>/dev/null || :; }
note() { tell note "$*"; }
one_line() { tr '\n' ' ' | cut -c 1-500; }
first_line() { line=; { read -r line <"$1"; } 2>/dev/null; printf %.500s "$line"; }

# What is no number would end the shell in $((...)): leading zeros are octal there.
is_number() { case $1 in '' | *[!0-9]* | 0?* | ??????????*) return 1 ;; esac; }

for number in "$lease" "$wait"; do
  is_number "$number" || { tell refused 'LEASE and WAIT are to be numbers'; exit 64; }
done
case $project in '' | [!A-Za-z0-9]* | *[!A-Za-z0-9_.-]*) tell refused 'not the name of a project'; exit 64 ;; esac
case $mode in change | preempt | yield | look) ;; *) tell refused 'not a mode'; exit 64 ;; esac

# A killed process stays in /proc (and `kill -0` finds it) until its parent has asked for its end.
is_gone() {
  stat=
  { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 0
  case ${stat##*) } in Z* | X*) return 0 ;; esac
  return 1
}

# Ends a process of this session; not one of somebody else who got its number meanwhile. Ours have one of these words.
end_process() {
  [ -n "$1" ] || return 0
  case $({ tr '\000' ' ' <"/proc/$1/cmdline"; } 2>/dev/null) in *"$token"* | *"$dir"*) kill -KILL "$1" ;; esac
} 2>/dev/null

# Where the runner's files are while they wait for their step. In memory: they may hold secrets. What a session left there
# that was killed is removed by the next one.
sweep() {
  for old in "$1"/slipway.*.*; do
    pid=${old##*/slipway.}
    pid=${pid%%.*}
    if is_number "$pid" && is_gone "$pid"; then rm -rf "$old" 2>/dev/null; fi
  done
}
dir=
for base in "${XDG_RUNTIME_DIR:-}" /dev/shm "${TMPDIR:-/tmp}"; do
  if ! [ -d "$base" ] || ! [ -w "$base" ]; then continue; fi
  sweep "$base"
  [ -n "$dir" ] || dir=$(mktemp -d "$base/slipway.$$.XXXXXXXX" 2>/dev/null) || dir=
done
[ -n "$dir" ] || { tell refused 'no folder for temporary files: neither /dev/shm nor /tmp can be written'; exit 73; }
mkfifo "$dir/events" "$dir/output" 2>/dev/null || { tell refused 'mkfifo does not work here'; rm -rf "$dir"; exit 73; }
# Opened for both ways, so that neither end ever blocks or ends because the other one is gone.
# By 7 the output can be thrown away also when the folder is gone: others remove that of a session whose main loop is dead.
exec 3<>"$dir/events" 4<>"$dir/output" 5<&0 6>&1
exec 7<"$dir/output"
rm -f "$dir/events"

# --- processes that do one thing each, and tell the main loop by lines to 3 ------------------------------------------
# Each ignores signals to the whole session, and gives up the lock's descriptors (8, 9), but for the heir. A line is less
# than 4096 bytes: what is longer would be torn.

# Lines from the runner become events. `put FILE BYTES` is followed by so many bytes, which are added to a file. Whoever
# sends anything else is not our runner, or no longer in step with us: the end.
reader() {
  trap '' HUP PIPE INT QUIT TERM
  why=
  while [ -z "$why" ] && IFS=' ' read -r key a b c; do
    case $key in
      put) take_file "$a" "$b" && echo beat >&3 ;;
      beat | begin | commit | abort | bye | stop | ask | do | verb)
        if is_event "$key" "$a" "$b" "$c"; then echo "$key $a $b $c" >&3; else why='it sent what is no line for us'; fi
        ;;
      *) why='it sent what is no line for us' ;;
    esac
  done
  echo "eof $why" >&3
}

is_event() {
  case $1 in
    ask | do | verb) is_number "$2" && is_number "$3" && case $4 in kill | finish) ;; *) false ;; esac ;;
    stop) is_number "$2" && [ -z "$3$4" ] ;;
    *) [ -z "$2$3$4" ] ;;
  esac
}

# What does not fit must not be read as lines.
take_file() {
  case $1 in '' | *[!a-z0-9.]*) why='it sent a file with no name for us'; return 1 ;; esac
  why="what it sent does not fit into $dir: is that full?"
  is_number "$2" && dd bs="$2" count=1 iflag=fullblock >>"$dir/$1" 2>/dev/null || return
  why=
  tell took "$1"
}

# One `tick` at a time: leases and time limits are counted, not read off a clock. Keeps the lock, so it is also the heir:
# if the main loop is killed, it ends what that one began.
ticker() {
  read -r self _ </proc/self/stat
  echo "ticker $self" >&3
  until is_main_gone; do
    sleep "$tick" 8>&- 9>&-
    is_main_gone || echo tick >&3
  done
  inherit
  true
}

# By its start time, too: its number may belong to somebody else by now.
is_main_gone() {
  is_gone "$main" && return
  read_start "$main"
  [ "$began" != "$main_start" ]
}

# Sets `began`: in ticks of the kernel since boot; nothing for a process that is gone. Its name, in parentheses, may have
# blanks.
read_start() {
  stat='' began=''
  { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 0
  # shellcheck disable=SC2086
  set -- ${stat##*) }
  began=${20}
}

# A ticker that is killed is replaced: without ticks, the main loop would hold the lock for ever.
start_ticker() {
  (
    trap '' HUP PIPE INT QUIT TERM
    exec 4>&- </dev/null >/dev/null 2>&1
    until ( ticker ); do sleep "$tick" 8>&- 9>&-; done
  ) &
  watching=$!
}

inherit() {
  # The runner sees its connection end, and asks whoever comes next. What still runs goes on writing: it must not block.
  start_drain
  end_process "$reading"
  end_process "$pump"
  if [ "$mode" != look ] && [ "$(session)" = "$token" ]; then
    # A verb under way would go on with its next command.
    if read -r shell <"$dir/verb"; then end_process "$shell"; fi
    # What main or that verb has just started is done by then.
    sleep 0.2
    # What was begun in the name of the dead does not begin any more (see `child`): what follows is in ours.
    main=$self
    read_start "$main"
    main_start=$began
    drop_pending
    settle
    forget_session
  fi
  rm -rf "$dir"
}

# Throws away what steps print. Ends when the last one that may write has.
start_drain() {
  ( trap '' HUP PIPE INT QUIT TERM; exec cat <&7 3>&- 4>&- 7<&- 8>&- 9>&- >/dev/null 2>&1 ) &
}

# Carries out step N: KIND is `ask` (its errors are told apart, at the end), `do`, or `verb`; `end`: only says that it ended,
# with the exit code LIMIT.
runner() {
  trap '' HUP PIPE INT QUIT TERM
  # For writing alone: when nobody is left who reads, it must not wait for ever.
  exec 4>"$dir/output"
  n=$1 kind=$2 limit=$3 abort=$4 err=$dir/$1.err
  in=/dev/null
  [ ! -e "$dir/$n.in" ] || in=$dir/$n.in
  [ "$kind" = end ] || printf '%s begin %s\n' "$token" "$n" >&4
  true >"$err"
  case $kind in
    ask) ( child "$limit" "$abort" sh "$dir/$n.sh" <"$in" >&4 2>"$err" ) & ;;
    do)
      if [ "$abort" = kill ]; then
        ( child "$limit" "$abort" sh "$dir/$n.sh" <"$in" >&4 2>&1 ) &
      else
        # It goes on when everything of ours is dead: then nobody reads, and a write would end it.
        # shellcheck disable=SC2016
        ( child "$limit" "$abort" sh -c 'exec 4>&1
code=$({ { sh "$1" 3>&- 4>&-; echo "$?" >&3; } 2>&1 | { trap "" PIPE; cat >&4 || cat >/dev/null; } 2>/dev/null 3>&-; } 3>&1)
exit "${code:-137}"' slipway "$dir/$n.sh" <"$in" >&4 2>&1 ) &
      fi
      ;;
    verb)
      (
        # shellcheck disable=SC2030
        log=$err
        carry_out "$(cat "$dir/$n.sh")"
      ) >&4 &
      ;;
    end) ( exit "$limit" ) & ;;
  esac
  pid=$!
  [ "$kind" = end ] || echo "group $n $pid" >&3
  wait "$pid"
  code=$?
  # What it leaves running in its process group ends with it: the timeout of busybox ends its child alone, and the next
  # step would wait for the rest. Where it was killed itself, it may be one that must not be.
  case $mode.$kind.$code in
    *.end.* | *.verb.*) ;;
    look.*) kill -KILL "-$pid" 2>/dev/null ;;
    *.137) end_leftover killed ;;
    *) end_leftover over ;;
  esac
  { printf '%s end %s %s\n' "$token" "$n" "$code"; cat "$err"; printf '%s close %s\n' "$token" "$n"; } >&4 2>/dev/null
  rm -f "$dir/$n.sh" "$dir/$n.in" "$err" "$dir/verb"
  echo "done $n $code" >&3
}

# Becomes the given command, as the leader of a new process group, with the signals and the umask of a login. Whoever
# comes after us can wait for it (what it starts holds `step`), and end it (`running` says which group it is). It does not
# begin when whoever wants it is dead by then: others may have put everything right meanwhile, and even begun anew.
child() {
  limit=$1 abort=$2
  shift 2
  trap - HUP PIPE INT QUIT TERM
  umask "$login_umask"
  if [ "$mode" = look ]; then
    exec setsid timeout -k 10 "$limit" "$@" 3>&- 4>&- 5>&- 6>&- 8>&- 9>&-
  fi
  # `step` is opened behind `timeout`: that of busybox leaves a process for a second after the end. Written in place, which
  # needs no room on the disk.
  # shellcheck disable=SC2016
  exec setsid timeout -k 10 "$limit" sh -c 'exec 7>>"$1/step"
flock 7 || exit 75
read -r _ _ state _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ start _ <"/proc/$3/stat" || exit 75
case $state.$start in [ZX].*) exit 75 ;; *".$4") ;; *) exit 75 ;; esac
read -r _ _ _ _ leader _ </proc/self/stat
read -r _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ start _ <"/proc/$leader/stat"
read -r boot </proc/sys/kernel/random/boot_id
printf "%-119s\n" "$leader $start $boot $2" 1<>"$1/running"
shift 4
exec "$@"' slipway "$store" "$abort" "$main" "$main_start" "$@" 3>&- 4>&- 5>&- 6>&- 8>&- 9>&-
}

# --- the lock --------------------------------------------------------------------------------------------------------

# By path and by name: neither two projects in one folder nor one project in two folders. The kernel frees it.
open_lock() {
  mkdir -p "$store/releases" "$store/files" "$locks" && chmod 700 "$store" && true >>"$store/step" &&
    { [ -s "$store/running" ] || write_line 119 "$store/running" ''; } &&
    exec 9>>"$store/lock" 8>>"$locks/$project"
}

# In place and always of one length: once it is there, it needs no room on a full disk.
write_line() { printf "%-$1.$1s\n" "$3" 1<>"$2"; } 2>/dev/null

session() { { read -r session <"$store/session" && printf %s "$session"; } 2>/dev/null; }
forget_session() { [ "$(session)" != "$token" ] || write_line 64 "$store/session" ''; }

try_lock() {
  blocker=$store/lock
  flock -n 9 || return
  blocker=$locks/$project
  flock -n 8 || { flock -u 9; return 1; }
}

# Once a tick while somebody else has it.
want_lock() {
  # One that has just ended is gone in a moment.
  for _ in 1 2 3 4 5; do
    try_lock && locked=1
    if [ -n "$locked" ] || [ "$waited" != 0 ]; then break; fi
    sleep 0.1 8>&- 9>&-
  done
  if [ -z "$locked" ]; then
    other=$(first_line "$blocker")
    [ "$waited" -lt "$wait" ] || { tell held "$other"; leave 75; }
    # Its session may be that of another folder.
    [ "$mode" != preempt ] || { printf '%s\n' "$holder" >"$store/preempt"; printf '%s\n' "$holder" >"$locks/$project.preempt"; } 2>/dev/null
    [ "$waited" -gt 0 ] || tell waiting "$(current)" "$other"
    waited=$((waited + 1))
    return
  fi
  state=ready
  rm -f "$store/preempt" "$locks/$project.preempt"
  written=1
  write_line 500 "$store/lock" "$holder" && write_line 500 "$locks/$project" "$holder" &&
    write_line 64 "$store/session" "$token" || written=''
  drop_pending
  # Also where nothing could be written: the way back needs no room, and may make some.
  if [ -e "$store/journal" ]; then
    read_head "$store/journal"
    tell recovering "${release:-unknown}"
    if settle; then
      tell recovered "$release" "$verdict"
    elif [ "$verdict" = committed ] && [ -n "$handed_over" ]; then
      # What serves is decided. What could not be removed is one of the old containers to the next deploy, and tried again.
      note "what was left of the release before $release could not be removed: $unsettled"
      rm -f "$store/journal"
      tell recovered "$release" "$verdict"
    else
      tell stuck "${release:-unknown}" "$unsettled"
      leave 70
    fi
  fi
  end_leftover
  sweep "${dir%/*}"
  if [ -z "$written" ]; then
    unlock
    mode=look
    tell unlocked "the store $store cannot be written: is the disk full?"
    return
  fi
  tell locked "$(current)" "$waited"
}

# Of one that was killed at its begin or its commit. First of all: what it has just started must not carry them out later.
drop_pending() { rm -f "$store/journal.new" "$store/.current.new"; }

# For everybody who shares the descriptors, at once.
unlock() {
  [ -n "$locked" ] || return 0
  forget_session
  flock -u 9
  flock -u 8
  locked=''
}

current() {
  at=$(readlink "$store/current") || at=none
  printf '%s' "${at##*/}"
}

# --- the journal -----------------------------------------------------------------------------------------------------
# Written whole, before the first change: verbs and words, never shell text and never a secret.
#   slipway 2 / release ID / limit SECONDS / undo VERB WORD... / finish VERB WORD... / end
# The link `current` says which half is to be carried out: one rename of it is the commit.

# Nothing of a journal is carried out of which one line cannot be read. Sets `release`, `limit`.
read_head() {
  read_lines "$1" && return
  release=''
  return 1
}

read_lines() {
  release='' limit='' at=1 whole=''
  while read -r key value rest; do
    [ -z "$whole" ] || return 1
    case $at.$key in
      1.slipway) [ "$value$rest" = 2 ] || return 1 ;;
      2.release) release=$value ;;
      3.limit) limit=$value ;;
      [123].*) return 1 ;;
      *.undo | *.finish) [ -n "$value" ] || return 1 ;;
      *.end) whole=1 ;;
      *) return 1 ;;
    esac
    at=$((at + 1))
  done <"$1"
  case $release in '' | -* | *[!A-Za-z0-9-]*) return 1 ;; esac
  is_number "$limit" && [ -n "$whole" ]
}

# Carries out what the journal on the disk asks for. Sets `verdict`; or `unsettled`, and fails.
settle() {
  verdict='' unsettled='' handed_over=1 patience_for_docker=40
  end_leftover
  [ -e "$store/journal" ] || return 0
  read_head "$store/journal" || { unsettled="the journal $store/journal cannot be read"; return 1; }
  if [ "$(current)" = "$release" ]; then half=finish verdict=committed; else half=undo verdict=undone; fi
  while read -r which words; do
    [ "$which" = "$half" ] || continue
    # As long as a boot brings back the old release, it must stay the last resort of the routers; and stay.
    case $handed_over.$words in 1.* | .tell-metrics*) ;; *) continue ;; esac
    # shellcheck disable=SC2031
    try_verb "$words" && continue
    # shellcheck disable=SC2031
    unsettled="$unsettled${unsettled:+; }$(printf %.150s "$words"): $(tail -c 300 "$log" 2>/dev/null | one_line)"
    case $half.$words in finish.hand-over*) handed_over='' ;; esac
  done <"$store/journal"
  [ "$half" = undo ] || link_compose || :
  [ -z "$unsettled" ] || return 1
  [ "$half" = finish ] || rm -rf "$store/releases/$release" || { unsettled="remove releases/$release"; return 1; }
  rm -rf "$store/incoming" "$store/stopping" "$store/pulling"
  rm -f "$store/journal" || { unsettled='remove the journal'; return 1; }
}

# Whether the whole server is going down.
is_stopping() { [ "$(timeout 5 systemctl is-system-running 2>/dev/null </dev/null)" = stopping ]; }

# A verb under its number, for the heir. If that one was too early to see it, then we see that main is gone.
carry_out() {
  read -r self _ </proc/self/stat
  { echo "$self" >"$dir/verb"; } 2>/dev/null
  ! is_main_gone || return 75
  verb "$1"
  code=$?
  { true >"$dir/verb"; } 2>/dev/null
  return "$code"
}

# Three tries: what was stopped half-way may still be at work in the Docker daemon, and that may just be restarting.
# Nothing may read standard input: that is the journal.
try_verb() {
  for pause in 1 2 ''; do
    ( trap '' TERM; carry_out "$1" ) </dev/null && return
    [ -n "$pause" ] || return
    # Everything is on its way down: whoever comes next puts it right, and nobody waits for us.
    ! is_stopping || return
    sleep "$pause"
    command -v docker >/dev/null || continue
    while [ "$patience_for_docker" -gt 0 ] && ! timeout -k 1 5 docker version </dev/null >/dev/null 2>&1; do
      ! is_stopping || return
      sleep 1
      patience_for_docker=$((patience_for_docker - 1))
    done
  done
}

# What a step that was killed, or that survived us, still has running: ended, or waited for where it must not be killed.
# What has left its process group and goes on (a daemon that it started) is no reason to wait for ever.
# Within a session, of its last step: `over`, which has ended by itself, or `killed`.
end_leftover() {
  { read -r now </proc/sys/kernel/random/boot_id; } 2>/dev/null
  patience=150 rest=50 asked=''
  [ "${1-}" != over ] || rest=10
  until flock -n "$store/step" true 8>&- 9>&-; do
    # It is the business of others by now.
    [ -z "${1-}" ] || ! is_main_gone || return 0
    # Each time: one that has just taken `step` has yet to say who it is.
    leader='' start='' boot='' abort=''
    { read -r leader start boot abort <"$store/running"; } 2>/dev/null
    # Another process may have got the number; as long as one of the group lives, none can.
    read_start "${leader:-none}"
    if ! is_number "$leader" || [ "$boot" != "$now" ] || [ "$began" != "${began:+$start}" ]; then leader=''; fi
    if [ -n "$leader" ] && kill -0 "-$leader" 2>/dev/null; then
      if [ "$abort" = kill ] || [ "${1-}" = over ]; then
        [ -n "$asked" ] || kill -TERM "-$leader" 2>/dev/null
        asked=1
        [ "$patience" -gt 100 ] || kill -KILL "-$leader" 2>/dev/null
      else
        patience=150
      fi
    elif [ "$patience" -gt "$rest" ] && [ "$patience" -lt 150 ]; then patience=$rest
    fi
    if [ "$patience" = 0 ]; then
      note 'something that a step has started goes on in the background'
      # Whoever still has it open holds the old file.
      rm -f "$store/step" && true >>"$store/step"
      break
    fi
    patience=$((patience - 1))
    sleep 0.2 8>&- 9>&-
  done
  [ -n "${1-}" ] || write_line 119 "$store/running" '' || :
}

# --- verbs: each may be carried out again, and on what was never done; none needs free disk space --------------------

# Something that changes the server, for the way back: bounded, and held against whoever comes after us.
# shellcheck disable=SC2031
run() {
  ( child "$limit" kill "$@" </dev/null ) >>"$log" 2>&1
}
# shellcheck disable=SC2031
ask_docker() { timeout -k 5 60 docker "$@" 2>>"$log" </dev/null 8>&- 9>&-; }

# Whether there is such a container; 2 where the daemon cannot be asked, which is no answer.
has_container() {
  found=$(ask_docker ps -aq --no-trunc --filter "$1") || return 2
  [ -n "$found" ]
}
# replicas SERVICE [OPTION...]: ids of its containers, in any state.
replicas() {
  service=$1
  shift
  ask_docker ps -aq --no-trunc --filter "label=com.docker.compose.project=$project" \
    --filter "label=com.docker.compose.service=$service" --filter label=com.docker.compose.oneoff=False "$@"
}

# find_added SERVICE ID...: its replicas that are none of these. Sets `added`.
find_added() {
  there=$(replicas "$1") || return
  shift
  added=
  for id in $there; do case " $* " in *" $id "*) ;; *) added="$added $id" ;; esac; done
}

# shellcheck disable=SC2031
verb() {
  set -f
  # shellcheck disable=SC2086
  set -- $1
  for word; do
    # Neither an option, nor out of a folder.
    case /$word/ in
      /-/) ;;
      /-* | */../* | */./* | *[!A-Za-z0-9._@:/,-]*) log_line "not a word for a verb: $word"; return 64 ;;
    esac
  done
  name=${1-}
  [ "$#" = 0 ] || shift
  # Only what the last verb said is worth telling; on a full disk, not even that.
  { echo >"$log"; } 2>/dev/null || log=/dev/null
  case $name in
    keep-only) v_keep_only "$@" ;;
    revive) v_revive "$@" ;;
    restore-services) v_restore_services "$@" ;;
    remove-services) v_remove_services "$@" ;;
    remove-networks) v_remove_networks "$@" ;;
    remove-run) v_remove_run "$@" ;;
    take-back-data) v_take_back_data "$@" ;;
    drain-new) v_drain_new "$@" ;;
    switch-router | restore-router | settle-router | drain) "v_$(printf %s "$name" | tr - _)" "$@" ;;
    hand-over) v_hand_over "$@" ;;
    tell-metrics) v_tell_metrics "$@" ;;
    retire) v_retire "$@" ;;
    remove-files) v_remove_files "$@" ;;
    remove-releases) v_remove_releases "$@" ;;
    forget-images) v_forget_images "$@" ;;
    *) log_line "the verb $name is not known here"; return 64 ;;
  esac
}

# shellcheck disable=SC2031
log_line() { { printf '%s\n' "$*" >>"$log"; } 2>/dev/null || :; }

# keep-only SERVICE ID...: removes the replicas that the deploy has added; with what only they had written.
v_keep_only() {
  find_added "$@" || return
  [ -n "$added" ] || return 0
  # shellcheck disable=SC2086
  { run docker update --restart=no $added && run docker stop $added && run docker rm -f -v $added; }
}

# drain-new ROUTER PORT BOUND SERVICE ID...: see drain, for the replicas that the deploy has added.
v_drain_new() {
  wanted="$1 $2 $3"
  shift 3
  find_added "$@" || return
  # shellcheck disable=SC2086
  [ -z "$added" ] || v_drain $wanted $added
}

# revive ID POLICY: a container that was there before serves again, as it was.
v_revive() {
  ask_docker inspect --type container --format '{{.Id}}' "$1" >/dev/null || return
  # A stop that was begun goes on in the daemon: a start meanwhile would say "running", and then nothing would serve.
  if grep -qs "^$1\$" "$store/stopping"; then run docker stop "$1" || return; fi
  [ "$(ask_docker inspect --format '{{.HostConfig.RestartPolicy.Name}}' "$1")" = "${2%:*}" ] ||
    run docker update "--restart=$2" "$1" || return
  [ "$(ask_docker inspect --format '{{.State.Running}}' "$1")" = true ] || run docker start "$1" || return
  [ "$(ask_docker inspect --format '{{.State.Running}}' "$1")" = true ]
}

# restore-services RELEASE AWAITED SERVICE...: what was replaced in its place is made again as that release says, and
# started in this order. AWAITED: those, with commas, for which the next ones wait until they are healthy; or `-`.
v_restore_services() {
  from=$1 awaited=,$2,
  shift 2
  run docker compose --ansi never --project-name "$project" --project-directory "$path" \
    --file "$store/releases/$from/compose.yaml" create --no-build --pull never "$@" || return
  for service in "$@"; do
    there=$(replicas "$service") || return
    [ -n "$there" ] || continue
    # shellcheck disable=SC2086
    run docker start $there || return
    case $awaited in *",$service,"*) ;; *) continue ;; esac
    left=60
    while [ "$left" -gt 0 ]; do
      # shellcheck disable=SC2086
      case $(ask_docker inspect --format '{{if .State.Health}}{{.State.Health.Status}}{{end}}' $there) in
        *starting* | *unhealthy*) ;;
        *) break ;;
      esac
      sleep 1
      left=$((left - 1))
    done
  done
}

# remove-services SERVICE...: their volumes stay, and what `compose run` made.
v_remove_services() {
  for service in "$@"; do
    there=$(replicas "$service") || return
    [ -n "$there" ] || continue
    # shellcheck disable=SC2086
    { run docker update --restart=no $there && run docker stop $there && run docker rm -f $there; } || return
  done
}

# remove-networks NAME...: of this project, where nothing is connected. One of somebody else may have the same name.
v_remove_networks() {
  for network in "$@"; do
    found=$(ask_docker network ls -q --filter "name=^$network\$") || return
    [ -n "$found" ] || continue
    found=$(ask_docker network inspect --format '{{index .Labels "com.docker.compose.project"}} {{len .Containers}}' "$network") || continue
    [ "$found" = "$project 0" ] || continue
    run docker network rm "$network" || return
  done
}

# remove-run NAME: a one-off container (a migration) has its end awaited: it must not be cut off.
v_remove_run() {
  has_container "name=^/?$1\$"
  case $? in 1) return 0 ;; 2) return 1 ;; esac
  # Longer than a migration may take.
  ( limit=7200; run docker wait "$1" ) || return
  run docker rm -f -v "$1"
}

# take-back-data RELEASE: databases that were swapped for it get their names and their data back. How, stands in its folder before the
# swap begins; it can be done again, and on what was never swapped.
v_take_back_data() {
  [ -e "$store/releases/$1/take-back-data" ] || return 0
  ( limit=600; run sh "$store/releases/$1/take-back-data" )
}

# hand-over RETIRED,...|- SERVICE/POLICY/OLD,...|- ...: from here on a boot brings back the new release. Until the commit it
# brought back the old one: what was stopped for its successor had the policy `always`, and no new replica had one. Never
# both at once, not for a moment: two databases would write to one volume. Nor neither: with `unless-stopped` what was
# stopped by hand stays away and what runs comes back, so one `docker update` gives it to both sides, and there is no moment
# between them but the one between two of its requests. RETIRED: what was stopped; OLD: all ids of a service that are not
# new. Where a boot came in between, the new ones do not run yet.
v_hand_over() {
  retired='' returning='' new='' lasting='' down=''
  for id in $(printf '%s' "${1#-}" | tr , ' '); do
    has_container "id=$id"
    case $? in 0) ;; 1) continue ;; *) return 1 ;; esac
    retired="$retired $id"
    [ "$(ask_docker inspect --type container --format '{{.HostConfig.RestartPolicy.Name}}' "$id")" != always ] || returning="$returning $id"
  done
  shift
  for one in "$@"; do
    # shellcheck disable=SC2046
    find_added "${one%%/*}" $(printf '%s' "${one##*/}" | tr , ' ') || return
    for id in $added; do
      new="$new $id/${one#*/}"
      case $one in */always/* | */unless-stopped/*) lasting="$lasting $id" ;; esac
    done
  done
  # What a boot has brought back is stopped while it is still what a boot brings back.
  # shellcheck disable=SC2086
  [ -z "$retired" ] || run docker stop $retired || return
  # shellcheck disable=SC2086
  [ -z "$returning" ] || run docker update --restart=unless-stopped $returning $lasting || return
  # shellcheck disable=SC2086
  [ -z "$retired" ] || { run docker update --restart=no $retired && run docker stop $retired; } || return
  for policy in always unless-stopped on-failure; do
    group=''
    for one in $new; do
      rest=${one#*/}
      case ${rest%%/*} in "$policy") group="$group ${one%%/*}" ;; esac
    done
    # shellcheck disable=SC2086
    [ -z "$group" ] || run docker update "--restart=$policy" $group || return
  done
  for one in $new; do
    rest=${one#*/}
    case ${rest%%/*} in on-failure:*) run docker update "--restart=${rest%%/*}" "${one%%/*}" || return ;; esac
  done
  # Not before: the daemon may be restarted as long as they have no policy.
  for one in $new; do
    [ "$(ask_docker inspect --type container --format '{{.State.Running}}' "${one%%/*}")" = true ] || down="$down ${one%%/*}"
  done
  # shellcheck disable=SC2086
  [ -z "$down" ] || run docker start $down
}

# tell-metrics FILE TASK: how it ended, for the textfile collector of node-exporter. The duration is that of the transaction, from
# its journal on. What cannot be written is no reason to keep a journal open: monitoring hears less, that is all.
v_tell_metrics() {
  # shellcheck disable=SC2031
  ( describe_outcome "$2" >"$1.new" && chmod 644 "$1.new" && mv -fT "$1.new" "$1" ) 2>>"$log" && return
  note "the metrics could not be written to $1: the user of the login must be able to write to that folder"
  rm -f "$1.new" 2>/dev/null || :
}

# describe_outcome TASK: text in https://prometheus.io/docs/instrumenting/exposition_formats/. All words are plain: nothing to escape.
describe_outcome() {
  ended=$(date +%s) || return
  began=$(date -r "$store/journal" +%s 2>/dev/null) || began=$ended
  success=0 result=undone stuck=0
  [ "$half" = undo ] || { success=1; result=committed; }
  [ -z "$unsettled" ] || stuck=1
  gauge last_timestamp_seconds "$ended"
  gauge last_success "$success"
  gauge last_duration_seconds "$((ended - began))"
  gauge recovery_failed "$stuck"
  gauge last_info 1 ",release=\"$release\",task=\"$1\",result=\"$result\""
}
# What each means is in infra/monitoring/README.md: here it would not fit into the first packets of a connection.
gauge() { printf '# TYPE slipway_deploy_%s gauge\nslipway_deploy_%s{project="%s"%s} %s\n' "$1" "$1" "$project" "${3-}" "$2"; }

# retire ID...: replicas of the release before. By the time each has asked for (stop_grace_period).
v_retire() {
  old=
  for id in "$@"; do
    has_container "id=$id"
    case $? in 0) old="$old $id" ;; 2) return 1 ;; esac
  done
  [ -n "$old" ] || return 0
  # shellcheck disable=SC2086
  run docker update --restart=no $old && run docker stop $old && run docker rm -f $old
}

v_remove_files() {
  for address in "$@"; do
    case $address in */* | .*) return 64 ;; esac
    rm -rf "$store/files/${address:?}" || return
  done
}

v_remove_releases() {
  for old in "$@"; do
    case $old in */* | .*) return 64 ;; esac
    # What a try before has left half removed.
    rm -rf "$store/.removed.$old" || return
    [ "$old" != "$(current)" ] || continue
    [ -e "$store/releases/$old" ] || continue
    # By a rename first: what is half removed would count as a release.
    mv -f "$store/releases/$old" "$store/.removed.$old" && rm -rf "$store/.removed.$old" || return
  done
}

# Whether there is such an image; 2 where the daemon cannot be asked, which is no answer.
has_image() {
  answer=$(timeout -k 5 60 docker image inspect --format '{{.Id}}' "$1" 2>&1 </dev/null 8>&- 9>&-) && return
  case $answer in *[Nn]'o such image'*) return 1 ;; esac
  printf '%s\n' "$answer" >>"$log"
  return 2
}

# rm_image NAME: 2 where the daemon cannot be asked. What it refuses is needed by somebody.
rm_image() {
  answer=$(timeout -k 5 60 docker image rm "$1" 2>&1 </dev/null 8>&- 9>&-) && return
  case $answer in *'response from daemon'*) return 0 ;; esac
  printf '%s\n' "$answer" >>"$log"
  return 2
}

# forget-images IMAGE TAG...: our tag goes, and the image, if nothing else names or uses it. Once the tag is gone nobody would
# find the image again: so it is not done before the daemon has answered.
v_forget_images() {
  while [ "$#" -gt 1 ]; do
    forget_image "$1" "$2" || return
    shift 2
  done
}

forget_image() {
  has_image "$1"
  case $? in 1) return 0 ;; 2) return 1 ;; esac
  id=$(printf '%s\n' "$answer" | tail -n 1)
  rm_image "$2" || return
  has_image "$id"
  case $? in 1) return 0 ;; 2) return 1 ;; esac
  tags=$(ask_docker image inspect --format '{{len .RepoTags}}' "$id") || return
  [ "$tags" = 0 ] || return 0
  users=$(ask_docker ps -aq --filter "ancestor=$id") || return
  [ -n "$users" ] || rm_image "$1"
}

# --- the transaction -------------------------------------------------------------------------------------------------

# The whole way back is on the disk before the first change.
begin() {
  refusal='the journal could not be written: is the disk full?'
  [ -n "$locked" ] && [ ! -e "$store/journal" ] && read_head "$dir/journal" || return
  # The way back removes it: it must be this transaction's own.
  if [ -e "$store/releases/$release" ]; then refusal="release $release is in the store already" && return 1; fi
  if cat "$dir/journal" >"$store/journal.new" && sync "$store/journal.new" && mv -f "$store/journal.new" "$store/journal"; then
    rm -f "$dir/journal"
    sync "$store" || :
    open=1
  else
    rm -f "$store/journal.new"
    return 1
  fi
} 2>/dev/null

# The one write that decides.
commit() {
  read_head "$store/journal" && [ -f "$store/releases/$release/compose.yaml" ] || return
  rm -f "$store/.current.new"
  ln -s "releases/$release" "$store/.current.new" && mv -fT "$store/.current.new" "$store/current" || return
  sync "$store" || :
} 2>/dev/null

# So that a plain `docker compose` in the project's folder sees what runs.
link_compose() {
  [ "$(readlink "$path/compose.yaml")" != .slipway/current/compose.yaml ] || return 0
  if [ -e "$path/compose.yaml" ] || [ -L "$path/compose.yaml" ]; then
    kept=$path/compose.yaml.before-slipway
    [ ! -e "$kept" ] || kept=$kept.$release
    mv "$path/compose.yaml" "$kept" || return
  fi
  ln -s .slipway/current/compose.yaml "$path/compose.yaml"
} 2>/dev/null

# A transaction that waits for the runner's word; or one who has said so (a backup), at any moment. Not one who may take it from
# others: two rollbacks would undo each other.
may_be_preempted() {
  [ "$mode" != preempt ] && [ -n "$locked" ] && { [ -n "$open" ] || [ "$mode" = yield ]; }
}

undo() {
  open='' queue=''
  tell undoing "$*"
  stop_step
  # What was sent for a transaction that has not begun must not become part of the next one.
  rm -f "$dir/journal"
  # Without the lock, a journal is somebody else's.
  if [ -z "$locked" ] || settle; then tell undone; else tell unrestored "$unsettled"; fi
}

# A verb is a shell of ours: what it runs has a process group of its own, and is ended like any leftover.
signal_step() {
  [ -n "$group" ] || return
  if [ "$step_kind" = verb ]; then end_process "$group"; else kill "-$1" "-$group"; fi
} 2>/dev/null

# Asks the step to end, once: a second SIGTERM makes some programs (docker compose) drop everything. Where its process group
# is not there yet, at the next tick.
ask_to_end() {
  [ "$step_abort" != finish ] || return 0
  stopping=$step
  if signal_step TERM; then stopping=''; fi
}

# Ends the step under way; or waits for its end, where it must not be killed. What else is heard meanwhile: see `hear`.
stop_step() {
  [ -z "$step" ] || ask_to_end
  patience=10
  while [ -n "$step" ]; do
    read -r event a b c <&3 || continue
    case $event in
      tick)
        hear
        patience=$((patience - 1))
        [ "$patience" -gt 0 ] || [ "$step_abort" = finish ] || signal_step KILL
        # Held up by output that nobody takes.
        [ "$patience" -gt -5 ] || [ "$step_abort" = finish ] || { end_process "$stepping"; step=''; }
        ;;
      beat | group | done | eof | term | bye | ticker) hear ;;
    esac
  done
  group=''
}

# What is taken in at any time.
hear() {
  case $event in
    tick)
      idle=$((idle + 1))
      if [ "$idle" -ge "$lease" ]; then ending=lease; lose; fi
      # What we write is not taken any more: whatever is missing there cannot be made up for.
      if [ -n "$alive" ] && is_gone "$pump"; then ending=eof; lose; fi
      if [ -n "$step" ] && [ "$stopping" = "$step" ]; then ask_to_end; fi
      if [ -n "$step" ] && is_gone "$stepping"; then missed=$((missed + 1)); fi
      # What it had to say of its end would have come before this.
      if [ "$missed" -ge 2 ]; then
        missed=0 lost=$step
        [ "$step_abort" = finish ] || signal_step KILL
        echo "done $step 137" >&3
      fi
      ;;
    beat) idle=0 ;;
    group)
      if [ "$a" = "$step" ]; then
        group=$b
        [ "$stopping" != "$step" ] || ask_to_end
      fi
      ;;
    done) [ "$a" != "$step" ] || step='' group='' missed=0 ;;
    eof)
      [ -z "$a" ] || note "The connection is given up: $a $b $c"
      reading='' ending=eof
      lose
      ;;
    bye | term) ending=$event ;;
    ticker) ticking=$a ;;
  esac
}

# Carries out what waits in the queue, as far as it can be without waiting.
next() {
  while [ "$state" = ready ] && [ -z "$step" ] && [ -z "$ending" ] && [ -n "$queue" ]; do
    first=${queue%%;*}
    queue=${queue#*;}
    # shellcheck disable=SC2086
    set -- $first
    case $1 in
      begin) if begin; then tell begun; else undo "begin $refusal"; fi ;;
      commit)
        [ -n "$open" ] || continue
        if commit; then
          open=''
          tell committed
          if settle; then tell finished; else tell unfinished "$unsettled"; fi
        else
          undo 'commit the release could not be made the current one'
        fi
        ;;
      ask | end) start_step "$2" "$1" "$3" "$4" ;;
      do | verb)
        # What was sent ahead of a step that failed is not carried out. Told in turn with what steps print: whoever
        # waits for room there must not be us.
        if [ -n "$open" ]; then start_step "$2" "$1" "$3" "$4"; else start_step "$2" end 125 kill; fi
        ;;
    esac
  done
}

start_step() {
  step=$1 step_kind=$2 left=$(($3 + 15)) step_abort=$4 group='' missed=0 lost=''
  # By `exec`: where a function has redirections, dash and busybox keep what they replace under other numbers.
  ( exec 7<&- 8>&- 9>&-; runner "$1" "$2" "$3" "$4" ) &
  stepping=$!
}

# A question that was given up before its turn.
forget_ask() {
  case ";$queue" in
    *";ask $1 "*)
      rest=";$queue"
      queue=${rest%%";ask $1 "*}
      queue=${queue#;}
      rest=${rest#*";ask $1 "}
      queue="${queue:+$queue;}end $1 125 kill;${rest#*;}"
      ;;
  esac
}

# The runner is gone: nobody reads what steps print. It is thrown away, so that none of them blocks.
lose() {
  [ -n "$alive" ] || return 0
  alive=''
  start_drain
  end_process "$pump"
}

leave() {
  # No heir must take our end for a death: neither the one that ticks, nor one that is just being started.
  end_process "$watching"
  end_process "$ticking"
  [ "$state" != waiting ] || [ "$mode" != preempt ] || rm -f "$store/preempt" "$locks/$project.preempt"
  unlock
  end_process "$reading"
  end_process "$pump"
  rm -rf "$dir"
  exit "$1"
}

main=$$ log=$store/undo.log alive=1 locked='' open='' queue='' step='' step_kind='' step_abort='' group='' stepping=''
read_start "$main"
main_start=$began
missed=0 lost='' stopping='' idle=0 ending='' waited=0 watching='' ticking='' reading=''
tell hello 2
state=ready
if [ "$mode" = look ]; then
  :
elif problem=$( { open_lock; } 2>&1 ); then
  open_lock
  state=waiting
else
  mode=look
  tell unlocked "$(printf '%s' "$problem" | one_line)"
fi
( trap '' HUP PIPE INT QUIT TERM; exec cat "$dir/output" >&6 3>&- 4>&- 5<&- 6>&- 7<&- 8>&- 9>&- </dev/null ) &
pump=$!
( exec <&5 4>&- 5<&- 6>&- 7<&- 8>&- 9>&- >/dev/null; reader ) &
reading=$!
exec 5<&- 6>&- </dev/null >/dev/null
start_ticker
trap 'echo term >&3' TERM
[ "$state" != waiting ] || want_lock

while :; do
  read -r event a b c <&3 || continue
  case $event in
    tick)
      hear
      if [ "$state" = waiting ] && [ -z "$ending" ]; then want_lock; fi
      if [ -n "$step" ]; then
        left=$((left - 1))
        [ "$left" -gt 0 ] || [ "$step_abort" = finish ] || signal_step KILL
      fi
      if may_be_preempted && { [ -z "$step" ] || [ "$step_kind" = ask ]; }; then
        for request in "$store/preempt" "$locks/$project.preempt"; do
          if ! may_be_preempted || ! [ -s "$request" ]; then continue; fi
          # Not while it is being written: it has to say whose it is.
          who=$(first_line "$request")
          [ -n "$who" ] || continue
          rm -f "$store/preempt" "$locks/$project.preempt"
          undo "preempted $who"
        done
      fi
      ;;
    term)
      # On the way down of the whole server, what there is of time belongs to the others: whoever comes next puts it right.
      ! is_stopping || leave 143
      hear
      ;;
    begin | commit) idle=0 queue="$queue$event;" ;;
    ask | do | verb) idle=0 queue="$queue$event $a $b $c;" ;;
    stop)
      idle=0
      if [ "$a" = "$step" ]; then ask_to_end; else forget_ask "$a"; fi
      ;;
    abort)
      idle=0
      case $open$queue in
        1* | begin\;* | *\;begin\;*) undo abort ;;
        *) [ "$state" != waiting ] || leave 0 ;;
      esac
      ;;
    done)
      ended=$step
      hear
      if [ "$a" = "$ended" ]; then
        # Its frames were not closed.
        if [ "$lost" = "$a" ]; then lost='' queue="end $a 137 kill;$queue"; fi
        if [ "$step_kind" != ask ] && [ "$b" != 0 ] && [ -n "$open" ]; then undo "step $a $b"; fi
      fi
      ;;
    *) hear ;;
  esac
  if [ -n "$ending" ]; then
    [ "$ending" = bye ] || lose
    [ -z "$open" ] || undo "$ending"
    stop_step
    leave 0
  fi
  next
done
