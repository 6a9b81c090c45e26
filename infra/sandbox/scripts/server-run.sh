#!/bin/bash
# server-run.sh SERVER_DIR: keeps one server running: makes its network namespace, boots it, boots it again after a
# reboot (systemd's reboot ends PID 1 of a pid namespace with SIGHUP, its power-off with SIGINT), and ends with it.
# Started detached, in a session of its own; it is the only long-lived process outside the server.
set -euo pipefail
SERVER_DIR=$1
# shellcheck source=/dev/null
. "$SERVER_DIR/boot.env" # SCRIPTS NETNS LAN PORT ADDRESS MAC GATEWAY NEIGHBOURS CGROUP_DIRS
trap '' HUP INT

network() {
  ip netns del "$NETNS" 2>/dev/null || true
  for link in "$PORT" "d-$PORT" "x-$PORT"; do ip -n "$LAN" link del "$link" 2>/dev/null || true; done
  ip netns add "$NETNS"
  ip -n "$LAN" link add "$PORT" type veth peer name eth0 address "$MAC" netns "$NETNS"
  ip -n "$LAN" link set "$PORT" master br0 up
  ip -n "$NETNS" -batch - <<BATCH
link set lo up
addr add $ADDRESS/24 dev eth0
link set eth0 up
route add default via $GATEWAY
BATCH
  # Known for good: a cut link then looks as it does behind a router (silence), not as on one's own cable ("no route to host")
  for n in $NEIGHBOURS; do ip -n "$NETNS" neigh replace "${n%=*}" lladdr "${n#*=}" dev eth0 nud permanent; done
  # cut off or slowed: so it stays over a restart
  if [ -e "$SERVER_DIR/link.env" ]; then "$SCRIPTS/link.sh" "$SERVER_DIR"; fi
}

while :; do
  rm -f "$SERVER_DIR/init.pid"
  network
  set +e
  (
    # shellcheck disable=SC2086
    for c in $CGROUP_DIRS; do
      mkdir -p "$c"
      if [ -e "$c/cpuset.cpus" ] && [ ! -e "$c/cgroup.controllers" ]; then
        cat "$c/../cpuset.cpus" > "$c/cpuset.cpus"
        cat "$c/../cpuset.mems" > "$c/cpuset.mems"
      fi
      echo "$BASHPID" > "$c/cgroup.procs"
    done
    exec nsenter --net="/run/netns/$NETNS" unshare --mount --uts --ipc --pid --cgroup --fork --kill-child --propagation private \
      /bin/bash "$SCRIPTS/server-boot.sh" "$SERVER_DIR"
  ) &
  unshare=$!
  # the server's PID 1: that child which is number 1 in a pid namespace of its own
  for _ in $(seq 500); do
    init=
    read -r init _ < "/proc/$unshare/task/$unshare/children" # no newline at its end: returns 1
    if [ -n "$init" ] && grep -qE '^NSpid:.*[[:space:]]1$' "/proc/$init/status"; then break; fi
    init=
    kill -0 "$unshare" || break
    sleep 0.01
  done 2>/dev/null
  if [ -n "$init" ]; then
    # PID and start time: a PID alone may be another process by the time somebody wants to end it
    stat=$(cat "/proc/$init/stat")
    # shellcheck disable=SC2086
    set -- ${stat##*) }
    echo "$init ${20}" > "$SERVER_DIR/init.pid.new"
    mv "$SERVER_DIR/init.pid.new" "$SERVER_DIR/init.pid"
  fi
  wait "$unshare"
  status=$?
  set -e
  rm -f "$SERVER_DIR/init.pid"
  # what was started in the server from outside (exec) ends with its pid namespace; its cgroups are made anew at the next boot
  # shellcheck disable=SC2086
  for c in $CGROUP_DIRS; do find "$c" -depth -type d -exec rmdir {} + 2>/dev/null || true; done
  case $status in
    129) echo "reboot" ;;
    130) echo "powered off"; break ;;
    137) echo "power cut"; break ;;
    *) echo "PID 1 ended with status $status"; break ;;
  esac
done
ip netns del "$NETNS" 2>/dev/null || true
