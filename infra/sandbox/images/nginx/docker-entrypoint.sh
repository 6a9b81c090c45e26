#!/bin/sh
# As the official image's entry point: runs /docker-entrypoint.d/*.sh before the server.
set -e
if [ "$1" = nginx ] || [ "$1" = nginx-debug ]; then
  for f in /docker-entrypoint.d/*; do
    # shellcheck disable=SC1090 # whatever the user put there
    case $f in
      *.envsh) [ ! -x "$f" ] || . "$f" ;;
      *.sh) [ ! -x "$f" ] || "$f" ;;
    esac
  done
fi
exec "$@"
