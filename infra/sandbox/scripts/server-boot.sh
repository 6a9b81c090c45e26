#!/bin/bash
# server-boot.sh SERVER_DIR: stage 2 of a boot, already in the server's own namespaces (mount, uts, ipc, net, pid, cgroup):
# puts its root together and hands over to server-init. Settings come from SERVER_DIR/boot.env.
set -euo pipefail
SERVER_DIR=$1
# shellcheck source=/dev/null
. "$SERVER_DIR/boot.env" # NAME ROOTFS CGROUPS SCRIPTS
disk=$SERVER_DIR/disk
mount --make-rprivate /
hostname "$NAME"
mount -t overlay overlay -o "lowerdir=$ROOTFS,upperdir=$disk/upper,workdir=$disk/work" "$SERVER_DIR/root"
cd "$SERVER_DIR/root"
mount -t proc -o nosuid,nodev,noexec proc proc
# The kernel's settings belong to the host: only this server's own network's may be written.
mount --bind proc/sys proc/sys
mount --bind proc/sys/net proc/sys/net
mount -o remount,bind,ro proc/sys
mount -t sysfs -o nosuid,nodev,noexec sysfs sys
mount -t tmpfs -o mode=755,nosuid tmpfs dev
mkdir dev/pts dev/shm dev/mqueue dev/net
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5,nosuid,noexec devpts dev/pts
ln -s pts/ptmx dev/ptmx
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs dev/shm
mount -t mqueue mqueue dev/mqueue
for d in null:1:3 zero:1:5 full:1:7 random:1:8 urandom:1:9 tty:5:0; do
  IFS=: read -r node major minor <<< "$d"
  mknod -m 666 "dev/$node" c "$major" "$minor"
done
mknod -m 666 dev/fuse c 10 229
mknod -m 666 dev/net/tun c 10 200
ln -s /proc/self/fd dev/fd
ln -s fd/0 dev/stdin
ln -s fd/1 dev/stdout
ln -s fd/2 dev/stderr
: > dev/console
mount -t tmpfs -o mode=755,nosuid,nodev tmpfs run
mkdir run/lock
mkdir -p var/lib/docker var/lib/containerd
mount --bind "$disk/docker" var/lib/docker
mount --bind "$disk/containerd" var/lib/containerd
install -m 755 "$SCRIPTS/server-init.sh" run/server-init
mkdir -p .host
pivot_root . .host
cd /
exec /usr/bin/env -i container=other "SANDBOX_CGROUPS=$CGROUPS" PATH=/usr/sbin:/usr/bin:/sbin:/bin \
  /bin/sh -c 'umount -l /.host && rmdir /.host; exec /run/server-init'
