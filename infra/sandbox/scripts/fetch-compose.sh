#!/bin/bash
# fetch-compose.sh OUT_DIR: a second, newer Compose v2 (Debian "forky") as a single CLI plugin file, for tests that must hold with
# two versions: OUT_DIR/docker-compose-VERSION
#
# Environment: MIRROR, FORKY_KEYRING, MMDEBSTRAP, TMPDIR.
set -euo pipefail
OUT=${1:?usage: fetch-compose.sh OUT_DIR}
: "${MIRROR:?}" "${FORKY_KEYRING:?}" "${MMDEBSTRAP:=mmdebstrap}"
mkdir -p "$OUT"
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
"$MMDEBSTRAP" --quiet --mode=root --variant=extract --format=directory --include=docker-compose --keyring="$FORKY_KEYRING" \
  --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Languages "none"' --aptopt='Acquire::Retries "3"' --aptopt='Acquire::Check-Valid-Until "false"' \
  forky "$WORK/root" "deb $MIRROR forky main"
plugin=$(find "$WORK/root/usr" -path '*cli-plugins/docker-compose' -type f | head -n 1)
[ -n "$plugin" ] || { echo "Debian forky's docker-compose package has no CLI plugin in it any more." >&2; exit 1; }
version=$("$plugin" version --short 2>/dev/null | sed 's/^v//; s/[-+].*//') || true
[ -n "$version" ] || { echo "The plugin $plugin of Debian forky does not run here." >&2; exit 1; }
install -m 755 "$plugin" "$OUT/docker-compose-$version"
