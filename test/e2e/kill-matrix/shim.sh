#!/bin/sh
# Stands before a program of the same name in the PATH of the login that deploys (/usr/local/bin comes first there), and
# lets a test stop the world at a command that changes something: before it, while it is under way, or after it.
#
#   seen    a line for each command that changes something: LABEL, a tab, its words
#   armed   `N before|during|after SECONDS`: stop at the N-th; SECONDS: how long after its begin `during` is
#   hit     is there as soon as that point is reached
#   go      it goes on as soon as this is there
#
# The folder is in memory: after a boot nothing is armed.
name=${0##*/} state=/run/kill-matrix
real=/usr/bin/$name
[ -e "$state/seen" ] && [ "$LOGNAME" = deploy ] || exec "$real" "$@"

label=
case $name in
  docker)
    case "$1 $2" in
      'create '* | 'start '* | 'stop '* | 'update '* | 'rm '* | 'kill '* | 'restart '* | 'run '*) label="docker $1" ;;
      # A start that must be alone: on a connection that is open before it is looked who runs. Images are pulled by one as well.
      'system dial-stdio') for journal in "$HOME"/apps/*/.slipway/journal; do [ ! -e "$journal" ] || label='docker start'; done ;;
      'ps -q') [ "$#,$3" != 3,--no-trunc ] || label='docker look' ;;
      'image rm' | 'image tag' | 'network rm' | 'volume rm') label="docker $1 $2" ;;
      # The router's program: the only `exec` that changes something.
      'exec '*) case $* in *'kill -HUP "$master"'*) label='docker exec router' ;; esac ;;
      'compose '*) case " $* " in *' create '* | *' up '* | *' run '*) label='docker compose create' ;; esac ;;
    esac
    ;;
  *)
    # Of the store; but not who has the lock.
    case "$PWD $*" in
      *.slipway/preempt | *.slipway/session) ;;
      *.slipway*)
        for last; do :; done
        label="$name ${last##*.slipway/}"
        ;;
    esac
    ;;
esac
[ -n "$label" ] || exec "$real" "$@"

printf '%s\t%s\n' "$label" "$(printf '%s ' "$@" | tr '\n\t' '  ' | cut -c 1-400)" >>"$state/seen"
at='' when='' delay=''
[ ! -e "$state/armed" ] || read -r at when delay <"$state/armed"
[ "$(wc -l <"$state/seen")" = "$at" ] || exec "$real" "$@"

stop_here() {
  printf '%s\n' "$label" >"$state/hit"
  patience=1200
  while [ ! -e "$state/go" ] && [ "$patience" -gt 0 ]; do
    sleep 0.05
    patience=$((patience - 1))
  done
}
case $when in
  before)
    stop_here
    exec "$real" "$@"
    ;;
  during)
    "$real" "$@" <&0 &
    under_way=$!
    sleep "$delay"
    stop_here
    wait "$under_way"
    exit
    ;;
  after)
    "$real" "$@"
    code=$?
    stop_here
    exit "$code"
    ;;
esac
