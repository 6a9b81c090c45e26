#!/bin/sh
# registry-run.sh LAN ROOTFS DIR NAME: becomes a registry that serves DIR/storage as DIR/NAME.yml says, on the lan only, out of the
# servers' root file system (so that nothing has to be installed on this machine).
set -eu
export SANDBOX_ROOTFS="$2" SANDBOX_DIR="$3" SANDBOX_CONFIG="$4"
# shellcheck disable=SC2016
exec nsenter --net="/run/netns/$1" unshare --mount --propagation private sh -c '
  set -eu
  mount --bind "$SANDBOX_DIR" "$SANDBOX_ROOTFS/srv/registry"
  exec chroot "$SANDBOX_ROOTFS" /usr/bin/docker-registry serve "/srv/registry/$SANDBOX_CONFIG.yml"'
