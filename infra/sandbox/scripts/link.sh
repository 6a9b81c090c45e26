#!/bin/bash
# link.sh SERVER_DIR: makes a server's link to the lan be what SERVER_DIR/link.env says:
#   CUT=1          frames are dropped both ways; nobody is told (the carrier stays)
#   RATE=1mbit     both ways (tc tbf)
#   DELAY=50       milliseconds each way. Not every kernel has tc netem: a user-space relay between two taps does it.
#   DELAY_FROM=a   only what goes between this IPv4 address and the server
set -euo pipefail
SERVER_DIR=$1
CUT='' RATE='' DELAY='' DELAY_FROM=''
# shellcheck source=/dev/null
. "$SERVER_DIR/boot.env" # LAN NETNS PORT SCRIPTS
# shellcheck source=/dev/null
[ ! -e "$SERVER_DIR/link.env" ] || . "$SERVER_DIR/link.env"

start_time() { # of process $1
  local stat
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 0
  # shellcheck disable=SC2086
  set -- ${stat##*) }
  echo "${20}"
}

# the relay of before
if [ -e "$SERVER_DIR/relay.pid" ] && read -r pid since < "$SERVER_DIR/relay.pid"; then
  if [ "$(start_time "$pid")" = "$since" ]; then
    kill "$pid"
    while kill -0 "$pid" 2>/dev/null; do sleep 0.01; done
  fi
  rm -f "$SERVER_DIR/relay.pid"
fi
ip -n "$LAN" link set "$PORT" master br0
for bridge in "d-$PORT" "x-$PORT"; do ip -n "$LAN" link del "$bridge" 2>/dev/null || true; done

if [ -n "$DELAY" ]; then
  # server - PORT - [bridge d-PORT] - tap a-PORT - relay - tap b-PORT - br0
  ip -n "$LAN" link add "d-$PORT" type bridge
  setsid nsenter --net="/run/netns/$LAN" perl "$SCRIPTS/relay.pl" "a-$PORT" "b-$PORT" "$DELAY" "$SERVER_DIR/relay.pid" \
    ${DELAY_FROM:+"$DELAY_FROM"} \
    </dev/null >>"$SERVER_DIR/relay.log" 2>&1 &
  for _ in $(seq 200); do [ -s "$SERVER_DIR/relay.pid" ] && break; sleep 0.01; done
  [ -s "$SERVER_DIR/relay.pid" ] || { echo "The delay relay did not start, see $SERVER_DIR/relay.log" >&2; exit 1; }
  ip -n "$LAN" -batch - <<BATCH
link set d-$PORT up
link set a-$PORT master d-$PORT up
link set b-$PORT master br0 up
link set $PORT master d-$PORT
BATCH
fi

tc -n "$LAN" qdisc del dev "$PORT" root 2>/dev/null || true
tc -n "$NETNS" qdisc del dev eth0 root 2>/dev/null || true
if [ -n "$RATE" ]; then
  tc -n "$LAN" qdisc add dev "$PORT" root tbf rate "$RATE" burst 16kb latency 400ms
  tc -n "$NETNS" qdisc add dev eth0 root tbf rate "$RATE" burst 16kb latency 400ms
fi

if [ -n "$CUT" ]; then
  # onto a bridge that leads nowhere: the carrier stays, every frame is lost
  ip -n "$LAN" link add "x-$PORT" type bridge
  ip -n "$LAN" link set "x-$PORT" up
  ip -n "$LAN" link set "$PORT" master "x-$PORT"
fi
