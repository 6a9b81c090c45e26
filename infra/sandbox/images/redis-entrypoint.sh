#!/bin/sh
set -e
case "$1" in -* | *.conf) set -- redis-server "$@" ;; esac
[ "$1" = redis-server ] || exec "$@"
shift
# As in the official image: no protected mode (the container's network is the boundary), and not as root.
case " $* " in *" --protected-mode "*) ;; *) set -- "$@" --protected-mode no ;; esac
if [ "$(id -u)" = 0 ]; then
  chown -R redis:redis /data
  # busybox su keeps the environment and execs, so redis-server is PID 1 and gets the stop signal
  # shellcheck disable=SC2016
  exec su -s /bin/sh redis -c 'cd /data && exec redis-server "$@"' -- sh "$@"
fi
exec redis-server "$@"
