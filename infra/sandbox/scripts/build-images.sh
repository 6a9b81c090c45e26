#!/bin/bash
# build-images.sh OUT_DIR: the files that go into the base images, as tar archives:
#   base.tar      libc, libstdc++, certificates, busybox as shell and tools   (under postgres, redis, node, busybox)
#   postgres.tar  PostgreSQL 15 with its client tools, without what base.tar has
#   redis.tar     Redis 7, likewise
#   nginx.tar     nginx from Debian's "forky" (>= 1.27.4 is wanted for keepalive_min_timeout; Debian 13 has 1.26),
#                 complete, since it needs that suite's libc
#
# Environment: MIRROR, SECURITY, KEYRING (Debian 12), FORKY_KEYRING, MMDEBSTRAP, TMPDIR.
set -euo pipefail
OUT=${1:?usage: build-images.sh OUT_DIR}
: "${MIRROR:?}" "${SECURITY:?}" "${KEYRING:?}" "${FORKY_KEYRING:?}" "${MMDEBSTRAP:=mmdebstrap}"
mkdir -p "$OUT"
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
BASE=busybox-static,libc-bin,libstdc++6,libgcc-s1,ca-certificates,openssl,tzdata

# Unpacks packages with all they depend on, without running their scripts.
unpack() { # unpack DIR SUITE KEYRING PACKAGES SOURCE...
  local dir=$1 suite=$2 keyring=$3 packages=$4
  shift 4
  # Valid-Until is not checked: a mirror may be a few days behind, and these images are for tests only.
  "$MMDEBSTRAP" --quiet --mode=root --variant=extract --format=directory --include="$packages" --keyring="$keyring" \
    --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Languages "none"' --aptopt='Acquire::Retries "3"' \
    --aptopt='Acquire::Check-Valid-Until "false"' \
    "$suite" "$dir" "$@" >&2
}
unpack_12() { unpack "$1" bookworm "$KEYRING" "$2" "deb $MIRROR bookworm main" "deb $SECURITY bookworm-security main"; }

# Makes the unpacked tree a small, complete image root.
finish() { # finish DIR
  local r=$1 a name
  (
    cd "$r"
    mkdir -p tmp etc bin sbin usr/bin usr/sbin usr/local/bin root run proc sys dev var/lib var/log home
    chmod 1777 tmp
    rm -rf usr/share/{doc,man,info,locale,lintian,bug,perl,perl5,debconf,i18n,common-licenses,gcc,gdb,python3,postgresql-common} \
      var/lib/{dpkg,apt} var/cache/* etc/{apt,dpkg,init.d,systemd,postgresql-common,cron.daily,logrotate.d} lib/systemd usr/lib/systemd \
      usr/lib/*-linux-gnu/{perl,perl-base,gconv} usr/bin/perl* usr/lib/*-linux-gnu/lib{perl,LLVM,z3}* \
      usr/lib/postgresql/*/lib/{bitcode,llvmjit*} usr/lib/python3* usr/share/zoneinfo/right
    cat usr/share/ca-certificates/mozilla/*.crt > etc/ssl/certs/ca-certificates.crt 2>/dev/null || true
    local bb=bin/busybox
    [ -e "$bb" ] || bb=usr/bin/busybox
    for a in $("./$bb" --list); do
      [ -e "bin/$a" ] || [ -e "usr/bin/$a" ] || [ -e "sbin/$a" ] || [ -e "usr/sbin/$a" ] || ln -s "/$bb" "usr/bin/$a"
    done
    # a merged /usr, as in today's Debian, so that /bin/sh is found whatever the suite
    for name in bin sbin lib lib64; do
      if [ -d "$name" ] && [ ! -L "$name" ]; then
        mkdir -p "usr/$name"
        cp -a --no-clobber "$name/." "usr/$name/"
        rm -rf "$name"
      fi
      [ ! -d "usr/$name" ] || [ -L "$name" ] || ln -s "usr/$name" "$name"
    done
    ln -sf /usr/bin/busybox usr/bin/sh
    [ -e usr/bin/env ] || ln -sf /usr/bin/busybox usr/bin/env
    cat > etc/passwd <<'PASSWD'
root:x:0:0:root:/root:/bin/sh
www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
nginx:x:101:101:nginx:/nonexistent:/bin/false
redis:x:999:1000:redis:/data:/bin/sh
postgres:x:70:70:postgres:/var/lib/postgresql:/bin/sh
node:x:1000:1001:node:/home/node:/bin/sh
PASSWD
    printf '%s\n' root:x:0: tty:x:5: www-data:x:33: nogroup:x:65534: nginx:x:101: redis:x:1000: postgres:x:70: node:x:1001: > etc/group
    printf 'passwd: files\ngroup: files\nhosts: files dns\n' > etc/nsswitch.conf
    mkdir -p home/node && chown 1000:1001 home/node
  )
  chroot "$r" /sbin/ldconfig
}

# Leaves in DIR only what BASE_DIR does not have.
subtract() { # subtract DIR BASE_DIR
  ( cd "$1" && find . ! -type d -print0 ) | while IFS= read -r -d '' f; do
    case $f in ./etc/ld.so.cache) continue ;; esac
    if [ -e "$2/$f" ] || [ -L "$2/$f" ]; then rm -f "$1/$f"; fi
  done
  find "$1" -mindepth 1 -depth -type d -empty -delete
}
pack() { tar --numeric-owner --sort=name -C "$1" -cf "$OUT/$2.tar" .; }

( unpack "$WORK/nginx" forky "$FORKY_KEYRING" nginx,base-files,libc-bin,busybox-static,gettext-base,ca-certificates \
    "deb $MIRROR forky main"
  finish "$WORK/nginx"
  rm -rf "$WORK"/nginx/etc/nginx/{sites-*,modules-*,snippets,conf.d,nginx.conf} "$WORK"/nginx/var/www "$WORK"/nginx/usr/share/nginx/html
  pack "$WORK/nginx" nginx ) &
nginx_job=$!
unpack_12 "$WORK/base" "$BASE"
finish "$WORK/base"
pack "$WORK/base" base
for name in postgres redis; do
  case $name in postgres) extra=postgresql-15 ;; redis) extra=redis-server ;; esac
  unpack_12 "$WORK/$name" "$BASE,$extra"
  finish "$WORK/$name"
  subtract "$WORK/$name" "$WORK/base"
  pack "$WORK/$name" "$name"
done
wait "$nginx_job"
"$WORK/nginx/usr/sbin/nginx" -v >/dev/null 2>&1 || true
chroot "$WORK/nginx" /usr/sbin/nginx -v 2>&1 | sed 's#.*nginx/##' > "$OUT/nginx.version"
