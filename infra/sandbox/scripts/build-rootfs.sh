#!/bin/bash
# build-rootfs.sh OUT_DIR: the root filesystem that all servers share as their read-only lower layer.
#
# Debian 12 (its systemd still runs on cgroup v1 and v2 hosts alike) with Docker Engine, Compose v2 and buildx from
# Debian 13. runc and tini stay Debian 12's: Debian 13's need a newer libc.
#
# Environment: MIRROR, SECURITY (package mirrors), KEYRING (Debian's archive keys), MMDEBSTRAP (the program), TMPDIR.
set -euo pipefail
OUT=${1:?usage: build-rootfs.sh OUT_DIR}
: "${MIRROR:?}" "${SECURITY:?}" "${KEYRING:?}" "${MMDEBSTRAP:=mmdebstrap}"

BASE=systemd,systemd-sysv,dbus,libpam-systemd,openssh-server,openssh-client,curl,ca-certificates,openssl,iproute2,iptables
BASE+=,procps,netcat-openbsd,busybox-static,pigz
DOCKER=docker.io,docker-cli,docker-compose,docker-buildx,containerd,docker-registry

HOOKS=$(mktemp -d)
trap 'rm -rf "$HOOKS"' EXIT

cat > "$HOOKS/setup" <<'HOOK'
#!/bin/sh
set -e
mkdir -p "$1/etc/apt/preferences.d" "$1/etc/dpkg/dpkg.cfg.d"
# Not with mmdebstrap's --dpkgopt: that would want Python on this machine.
printf '%s\n' force-unsafe-io 'path-exclude=/usr/share/man/*' 'path-exclude=/usr/share/doc/*' 'path-exclude=/usr/share/locale/*' \
  'path-exclude=/usr/share/info/*' > "$1/etc/dpkg/dpkg.cfg.d/sandbox"
cat > "$1/etc/apt/preferences.d/docker-from-debian-13" <<'PIN'
Package: *
Pin: release n=trixie*
Pin-Priority: 100

Package: docker.io docker-cli docker-compose docker-buildx containerd
Pin: release n=trixie*
Pin-Priority: 990
PIN
HOOK

cat > "$HOOKS/customize" <<'HOOK'
#!/bin/bash
set -e
R=$1
chroot "$R" useradd --create-home --shell /bin/bash --groups docker deploy
chroot "$R" usermod --password '*' deploy
install -d -m 700 -o 1000 -g 1000 "$R/home/deploy/.ssh"
install -d -m 755 "$R/etc/docker" "$R/srv/registry"

# What makes no sense in a server that shares its host's kernel, or would write the host's settings (systemd-sysctl).
for unit in systemd-udevd.service systemd-udevd-control.socket systemd-udevd-kernel.socket systemd-udev-trigger.service \
  systemd-modules-load.service kmod-static-nodes.service sys-kernel-config.mount sys-kernel-debug.mount \
  sys-kernel-tracing.mount sys-fs-fuse-connections.mount dev-hugepages.mount dev-mqueue.mount proc-sys-fs-binfmt_misc.automount \
  systemd-remount-fs.service systemd-timesyncd.service systemd-sysctl.service systemd-networkd.service \
  systemd-resolved.service systemd-random-seed.service systemd-journal-flush.service getty.target console-getty.service \
  e2scrub_reap.service e2scrub_all.timer apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer fstrim.timer \
  docker-registry.service; do
  ln -sf /dev/null "$R/etc/systemd/system/$unit"
done
ln -sf /lib/systemd/system/multi-user.target "$R/etc/systemd/system/default.target"
# The registry runs beside the servers, from this same root: its own start-up files are not wanted.
rm -f "$R"/etc/ssh/ssh_host_* "$R/etc/machine-id" "$R/var/lib/dbus/machine-id" "$R/etc/resolv.conf" "$R/etc/hostname"
: > "$R/etc/machine-id"
: > "$R/etc/resolv.conf"
rm -rf "$R"/usr/share/{man,doc,locale,info}/* "$R"/var/cache/apt/* "$R"/var/lib/apt/lists/*
HOOK
chmod +x "$HOOKS"/*

"$MMDEBSTRAP" --quiet --mode=root --variant=minbase --format=directory --include="$BASE,$DOCKER" --keyring="$KEYRING" \
  --setup-hook="$HOOKS/setup" --customize-hook="$HOOKS/customize" \
  --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Languages "none"' --aptopt='Acquire::Retries "3"' \
  bookworm "$OUT" - <<SOURCES
deb $MIRROR bookworm main
deb $MIRROR bookworm-updates main
deb $SECURITY bookworm-security main
deb $MIRROR trixie main
deb $SECURITY trixie-security main
SOURCES
