#!/bin/bash
# fetch-acme.sh OUT_DIR ROOTFS: an ACME authority for the lan (pebble, with its test DNS server) as OUT_DIR/bin, and what a server
# needs to get certificates (certbot, nginx, sudo) as OUT_DIR/packages: a repository that apt on a server can install from.
#
# Resolved against ROOTFS, with its keys and sources, and installed nowhere.
set -euo pipefail
OUT=${1:?usage: fetch-acme.sh OUT_DIR ROOTFS}
ROOTFS=${2:?usage: fetch-acme.sh OUT_DIR ROOTFS}
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
mkdir -p "$WORK/lists/partial" "$WORK/cache/archives/partial" "$OUT/packages"
cd "$WORK"

debian() { # debian apt-get WORDS...: apt as ROOTFS would have it
  local program=$1
  shift
  "$program" -qq -o Dir::Etc="$ROOTFS/etc/apt" -o Dir::Etc::TrustedParts="$ROOTFS/etc/apt/trusted.gpg.d" \
    -o Dir::State::status="$ROOTFS/var/lib/dpkg/status" -o Dir::State::Lists="$WORK/lists" -o Dir::Cache="$WORK/cache" \
    -o APT::Sandbox::User=root -o APT::Install-Recommends=false -o Acquire::Languages=none -o Acquire::Retries=3 "$@"
}
debian apt-get update
# Debian 13's pebble: it has renewal information (RFC 9773), and runs with Debian 12's libc.
debian apt-get download pebble/trixie
dpkg-deb -x pebble_*.deb pebble
install -D -t "$OUT/bin" pebble/usr/bin/pebble pebble/usr/bin/pebble-challtestsrv
debian apt-get -y --download-only install certbot nginx-light sudo
mv "$WORK"/cache/archives/*.deb "$OUT/packages/"
cd "$OUT/packages"
for file in *.deb; do
  dpkg-deb -f "$file"
  printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' "$file" "$(stat -c %s "$file")" "$(sha256sum "$file" | cut -d' ' -f1)"
done > Packages
