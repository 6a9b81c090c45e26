#!/bin/sh
# Inside the server, before systemd: gives it a writable cgroup tree of its own (v1 or v2, as the host has it), then
# becomes systemd. Called with the host's /proc/self/cgroup controllers in SANDBOX_CGROUPS ("v2" or "cpu cpuacct,cpu memory ...").
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
umount -R /sys/fs/cgroup 2>/dev/null
if [ "$SANDBOX_CGROUPS" = v2 ]; then
  mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 /sys/fs/cgroup
else
  mount -t tmpfs -o mode=755,nosuid,nodev,noexec tmpfs /sys/fs/cgroup
  for c in $SANDBOX_CGROUPS; do
    mkdir -p "/sys/fs/cgroup/$c"
    mount -t cgroup -o "nosuid,nodev,noexec,$c" cgroup "/sys/fs/cgroup/$c" || { rmdir "/sys/fs/cgroup/$c"; continue; }
    case $c in *,*) for one in $(echo "$c" | tr , ' '); do ln -s "$c" "/sys/fs/cgroup/$one"; done ;; esac
  done
  mkdir -p /sys/fs/cgroup/systemd
  mount -t cgroup -o nosuid,nodev,noexec,none,name=systemd,xattr cgroup /sys/fs/cgroup/systemd ||
    mount -t cgroup -o nosuid,nodev,noexec,none,name=systemd cgroup /sys/fs/cgroup/systemd
fi
unset SANDBOX_CGROUPS
exec /sbin/init
