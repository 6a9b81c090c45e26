#!/bin/bash
# build-bare.sh OUT_DIR: what turns the servers' root file system into that of a bare server, as a layer to lie above it: no
# Docker, no deploy user, no firewall tools, nothing but systemd, sshd and apt. OUT_DIR/upper is the layer.
#
# Servers have no way out, so what one may want to install lies in the layer itself, as a package source of its own.
#
# Environment: ROOTFS (the servers' root file system), MIRROR, SECURITY (package mirrors).
set -euo pipefail
OUT=${1:?usage: build-bare.sh OUT_DIR}
: "${ROOTFS:?}" "${MIRROR:?}" "${SECURITY:?}"

UNWANTED=(docker.io docker-cli docker-compose docker-buildx containerd runc tini docker-registry iptables pigz curl netcat-openbsd busybox-static)
# What a server is likely to be asked to install, with all that these need. Docker comes from Debian 13, as on the other servers.
WANTED=(docker.io docker-cli docker-compose docker-buildx iptables nftables fail2ban python3-systemd unattended-upgrades jq curl gpg
  ca-certificates sudo systemd-timesyncd nginx certbot ufw)
SOURCE=/usr/share/sandbox-packages

mkdir -p "$OUT/upper" "$OUT/work" "$OUT/root"
mount -t overlay overlay -o "lowerdir=$ROOTFS,upperdir=$OUT/upper,workdir=$OUT/work" "$OUT/root"
trap 'umount -R "$OUT/root"' EXIT
R=$OUT/root
mount -t proc proc "$R/proc"
mount --rbind /dev "$R/dev"
run() { chroot "$R" /usr/bin/env -i DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"; }
install_policy() { printf '#!/bin/sh\nexit 101\n' > "$R/usr/sbin/policy-rc.d" && chmod 755 "$R/usr/sbin/policy-rc.d"; }

install_policy
run apt-get -qq -y --allow-remove-essential purge "${UNWANTED[@]}" >/dev/null
run apt-get -qq -y --purge autoremove >/dev/null
run userdel --remove deploy 2>/dev/null
if grep -q '^docker:' "$R/etc/group"; then run groupdel docker; fi
rm -rf "$R/etc/docker" "$R/srv/registry" "$R/var/lib/docker" "$R/var/lib/containerd"
# These run on any Debian server.
rm -f "$R"/etc/systemd/system/apt-daily.timer "$R"/etc/systemd/system/apt-daily-upgrade.timer

cp /etc/resolv.conf "$R/etc/resolv.conf"
# Debian 12 alone but for Docker: the pins of the root file system say so.
cat > "$R/etc/apt/sources.list" <<SOURCES
deb $MIRROR bookworm main
deb $MIRROR bookworm-updates main
deb $SECURITY bookworm-security main
deb $MIRROR trixie main
deb $SECURITY trixie-security main
SOURCES
run apt-get -qq -o Acquire::Languages=none -o Acquire::Retries=3 update
run apt-get -qq -y --no-install-recommends -o Acquire::Retries=3 --download-only install "${WANTED[@]}" >/dev/null

mkdir -p "$R$SOURCE"
mv "$R"/var/cache/apt/archives/*.deb "$R$SOURCE/"
(
  cd "$R$SOURCE"
  for deb in *.deb; do
    dpkg-deb --field "$deb"
    printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' "$deb" "$(stat -c %s "$deb")" "$(sha256sum "$deb" | cut -d' ' -f1)"
  done > Packages
  cat > Release <<RELEASE
Origin: Debian
Label: Debian
Suite: oldstable
Codename: bookworm
Date: $(LC_ALL=C date -Ru)
Architectures: all $(dpkg --print-architecture)
SHA256:
 $(sha256sum Packages | cut -d' ' -f1) $(stat -c %s Packages) Packages
RELEASE
)
chmod -R a+rX "$R$SOURCE"
echo "deb [trusted=yes] file:$SOURCE ./" > "$R/etc/apt/sources.list"
rm -f "$R/etc/apt/preferences.d/docker-from-debian-13" "$R/usr/sbin/policy-rc.d"
rm -rf "$R"/var/lib/apt/lists/* "$R"/var/cache/apt/* "$R"/var/log/apt/* "$R"/var/log/dpkg.log
: > "$R/etc/resolv.conf"
install -d -m 700 "$R/root/.ssh"
