#!/bin/bash
# fetch-tools.sh OUT_DIR: what the builds need and what should not be installed on this machine: mmdebstrap, and the
# archive keys of Debian 12 and of what came after it. Each key set comes out of an archive that the one before it vouches
# for: this machine's keyring -> Debian 12 -> Debian 13 -> "forky".
#
# Environment: MIRROR, TMPDIR.
set -euo pipefail
OUT=${1:?usage: fetch-tools.sh OUT_DIR}
: "${MIRROR:?}"
mkdir -p "$OUT"
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
# apt drops its rights to the user _apt for downloads, who must be able to write here
chmod 755 "$WORK"
cd "$WORK"

apt-get -qq -o APT::Sandbox::User=root download mmdebstrap
dpkg-deb -x mmdebstrap_*.deb "$OUT/mmdebstrap"
PATH=$OUT/mmdebstrap/usr/bin:$PATH

host_keyring=/usr/share/keyrings/debian-archive-keyring.gpg
if [ ! -s "$host_keyring" ]; then # Ubuntu
  apt-get -qq -o APT::Sandbox::User=root download debian-archive-keyring
  dpkg-deb -x debian-archive-keyring_*.deb host
  host_keyring=$WORK/host/usr/share/keyrings/debian-archive-keyring.gpg
fi
next_keyring() { # next_keyring SUITE KEYRING OUT_FILE
  mmdebstrap --quiet --mode=root --variant=extract --format=directory --include=debian-archive-keyring --keyring="$2" \
    --aptopt='Acquire::Languages "none"' --aptopt='Acquire::Retries "3"' --aptopt='APT::Install-Recommends "false"' "$1" "$WORK/$1" "deb $MIRROR $1 main" >&2
  local f=$WORK/$1/usr/share/keyrings/debian-archive-keyring
  if [ -s "$f.gpg" ]; then cp "$f.gpg" "$3"; else cp "$f.pgp" "$3"; fi
}
next_keyring bookworm "$host_keyring" "$OUT/debian-12.gpg"
next_keyring trixie "$OUT/debian-12.gpg" "$OUT/debian-13.gpg"
