#!/bin/sh
# slipway-tls: the only program that needs root for certificates. Installed as /usr/local/sbin/slipway-tls, owned by root.
#
# A user who may run this with sudo can get and renew certificates for names that lead to this server, put them in front of
# nginx, and no more: it takes few verbs, checks every word, gives certbot no hook and no option of its caller's, asks only
# authorities that root has allowed, leaves what certbot has for others alone, writes to fixed places, and never shows a private
# key. Allow it with one line in /etc/sudoers.d:
#
#   deploy ALL=(root) NOPASSWD: /usr/local/sbin/slipway-tls
#
# Certificates reach nginx as copies: /etc/slipway/tls/NAME/current/{fullchain,privkey}.pem, where `current` is a link to a folder
# beside it and changes by one rename. Whatever dies on the way, nginx has a whole pair, and the next run ends the work.
# shellcheck disable=SC2015 # `a && b || fail` fails where either does: that is what is meant
set -eu
# The order is finished also when the one who asked for it is gone: half of it would be a certificate that nobody serves.
trap '' HUP INT TERM PIPE
umask 022
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/snap/bin
LC_ALL=C
export PATH LC_ALL
cd /

SELF=/usr/local/sbin/slipway-tls
LETSENCRYPT=/etc/letsencrypt
TLS=/etc/slipway/tls
AUTHORITIES=/etc/slipway/acme-servers
HOOK=$LETSENCRYPT/renewal-hooks/deploy/slipway
RUN=/run/slipway-tls
BUNDLE=$RUN/ca-bundle.pem
ENVIRONMENT=$RUN/certbot.env

make_folder() { [ -d "$1" ] || install -d -m 755 "$1"; }

# --- words -----------------------------------------------------------------------------------------------------------------

# Nobody may listen any more: that is no reason to stop.
say() { printf '%s\n' "$*" 2>/dev/null || :; }
fail() { # fail CODE MESSAGE
  printf 'slipway-tls: %s\n' "$2" >&2 || :
  exit "$1"
}
refuse() { fail 2 "$1"; }

# Letters, digits, dots and hyphens; no way out of a folder, and no option.
is_dns_name() {
  [ ${#1} -le 253 ] || return 1
  case $1 in '' | *[!a-z0-9.-]* | .* | *. | *..* | -* | *.-* | *-.* | *-) return 1 ;; esac
}
need_name() { is_dns_name "${1-}" || refuse 'a certificate name has only a-z, 0-9, dots and hyphens'; }
need_server() {
  case $1 in https://?*) ;; *) refuse 'the server is no https URL' ;; esac
  case $1 in *[!A-Za-z0-9_.:/?=\&%~+\[\]-]*) refuse 'the server is no plain URL' ;; esac
  list_authorities | grep -qxF -e "$1" || refuse "root has not allowed the authority $1 yet: echo '$1' >> $AUTHORITIES"
}
# Those that visitors trust, and those of which root says so: who may run this must not have the site serve what a stranger has issued.
list_authorities() {
  printf '%s\n' https://acme-v02.api.letsencrypt.org/directory https://acme-staging-v02.api.letsencrypt.org/directory
  [ ! -e "$AUTHORITIES" ] || cat "$AUTHORITIES"
}
is_fingerprint() { case $1 in '' | *[!0-9A-F:]*) return 1 ;; esac }
is_word() { case $1 in '' | *[!A-Za-z0-9_.-]* | [!A-Za-z0-9]*) return 1 ;; esac }
is_one_line() { case $1 in *"
"*) return 1 ;; esac }

# Each part of the path is root's own and no link, so that nobody can lead what is written there elsewhere.
need_webroot() {
  is_one_line "$1" || refuse 'a webroot is one line'
  case $1 in
    *[!A-Za-z0-9_./-]* | *//* | */./* | */../* | */. | */.. | */) refuse "the webroot $1 is no plain path" ;;
    /var/www/?* | /srv/?*) ;;
    *) refuse "the webroot $1 is not below /var/www or /srv" ;;
  esac
  part=$1/.well-known/acme-challenge
  while [ "$part" != / ]; do
    if [ -L "$part" ] || { [ -e "$part" ] && [ "$(stat -c %u "$part")" != 0 ]; } ||
      { [ -d "$part" ] && [ -n "$(find "$part" -maxdepth 0 -perm /022)" ]; }; then
      refuse "$part belongs to somebody else than root, others can write to it, or it is a link: chown root and chmod 755 it"
    fi
    part=$(dirname "$part")
  done
  for part in "$1" "$1/.well-known" "$1/.well-known/acme-challenge"; do make_folder "$part"; done
}

# --- one at a time ---------------------------------------------------------------------------------------------------------

prepare() {
  install -d -m 700 "$RUN"
  make_folder "$TLS"
}
# The kernel frees it when its holder is gone. certbot holds it too: an order whose caller was killed comes to its end first.
lock_orders() {
  prepare
  exec 9>"$RUN/orders.lock"
  flock -n 9 || { say 'another run has the certificates: waiting for it'; flock -w 300 9; } || fail 3 'another run has had the certificates for 5 minutes'
}
lock_publishing() {
  prepare
  exec 8>"$RUN/publishing.lock"
  flock -w 120 8 || fail 3 'another run has been publishing a certificate for 2 minutes'
}

# --- certbot ---------------------------------------------------------------------------------------------------------------

# What certbot's connections trust: the usual authorities, and the private ones of the certificates here. The timer's service
# reads ENVIRONMENT, if it is there: so it never looks for a bundle that is gone, and needs none where there is no private one.
bundle() {
  prepare
  set -- "$TLS"/*/acme-ca*.pem
  if [ "$#" -eq 1 ] && [ ! -e "$1" ]; then
    rm -f "$ENVIRONMENT" "$BUNDLE"
    return 0
  fi
  # One that somebody wrote by hand may lack its last line end.
  for part in /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt "$@"; do
    if [ -e "$part" ]; then cat "$part" && echo; fi
  done >"$BUNDLE.$$"
  mv "$BUNDLE.$$" "$BUNDLE"
  printf 'REQUESTS_CA_BUNDLE=%s\n' "$BUNDLE" >"$ENVIRONMENT.$$"
  mv "$ENVIRONMENT.$$" "$ENVIRONMENT"
}

# certbot WORDS...; nothing of the caller's environment, and never a question. Its output is told at its end.
run_certbot() {
  command -v certbot >/dev/null || fail 6 'certbot is not installed'
  bundle
  tries=0
  waited=0
  while :; do
    set +e
    if [ -s "$BUNDLE" ]; then
      env -i PATH="$PATH" HOME=/root LC_ALL=C.UTF-8 REQUESTS_CA_BUNDLE="$BUNDLE" timeout -k 5 900 certbot --non-interactive "$@" >"$RUN/certbot.out" 2>&1 </dev/null
    else
      env -i PATH="$PATH" HOME=/root LC_ALL=C.UTF-8 timeout -k 5 900 certbot --non-interactive "$@" >"$RUN/certbot.out" 2>&1 </dev/null
    fi
    code=$?
    set -e
    if [ "$code" -eq 0 ]; then
      tell_certbot
      return 0
    fi
    if grep -q 'Another instance of Certbot is already running' "$RUN/certbot.out" && [ "$waited" -lt 60 ]; then
      waited=$((waited + 1))
      sleep 3
      continue
    fi
    # certbot 2.1 on Python 3.11 (Debian 12) says this in place of whatever the authority has said; its log knows better:
    # https://github.com/certbot/certbot/issues/9539
    if grep -q "AttributeError: can't set attribute" "$RUN/certbot.out"; then
      grep -o 'acme\.messages\.Error: .*' /var/log/letsencrypt/letsencrypt.log 2>/dev/null | tail -n 1 >>"$RUN/certbot.out" || :
    fi
    # An authority may refuse a nonce at any time (RFC 8555, section 6.5), and certbot tries again only once.
    tries=$((tries + 1))
    if grep -q ':badNonce' "$RUN/certbot.out" && [ "$tries" -lt 5 ]; then
      sleep 1
      continue
    fi
    tell_certbot
    fail 4 "certbot ended with exit code $code"
  done
}

# Without what it says each time: rulers, thanks, and how to set up what is set up here.
tell_certbot() {
  grep -v -e '^$' -e '^- - ' -e '^Saving debug log' -e '^If you like Certbot' -e '^ \* Donating' -e '^NEXT STEPS' \
    -e '^- The certificate will need to be renewed' -e '^Certbot has set up a scheduled' "$RUN/certbot.out" 2>/dev/null || :
}

# What a certbot that was killed at its first issuance leaves is in its own way, so it goes aside. Nothing is removed.
set_half_aside() {
  [ -e "$LETSENCRYPT/live/$1" ] || [ -e "$LETSENCRYPT/archive/$1" ] || [ -e "$LETSENCRYPT/renewal/$1.conf" ] || return 0
  if [ -s "$LETSENCRYPT/renewal/$1.conf" ] && [ -s "$LETSENCRYPT/live/$1/fullchain.pem" ] && [ -s "$LETSENCRYPT/live/$1/privkey.pem" ]; then
    return 0
  fi
  aside=$LETSENCRYPT/slipway-set-aside/$1.$(date -u +%Y%m%dT%H%M%SZ).$$
  install -d -m 700 "$LETSENCRYPT/slipway-set-aside" "$aside"
  for part in live archive; do
    [ ! -e "$LETSENCRYPT/$part/$1" ] || mv "$LETSENCRYPT/$part/$1" "$aside/$part"
  done
  [ ! -e "$LETSENCRYPT/renewal/$1.conf" ] || mv "$LETSENCRYPT/renewal/$1.conf" "$aside/renewal.conf"
  say "what an interrupted certbot left of $1 was put into $aside"
}

# certbot before 4.1 knows no renewal information and renews 30 days before the end, whatever the lifetime: that is too early
# or too late for most. A third of the lifetime, half under 10 days. A value that somebody else has set stays; ours goes when a
# newer certbot comes, which would renew then although the authority asks for it later.
set_renewal_time() {
  conf=$LETSENCRYPT/renewal/$1.conf
  ours='^renew_before_expiry = .*# by slipway-tls$'
  if certbot_is 4 1; then
    grep -q "$ours" "$conf" || return 0
    line=''
  else
    if grep '^renew_before_expiry' "$conf" | grep -qv "$ours"; then return 0; fi
    from=$(date -d "$(openssl x509 -noout -startdate -in "$LETSENCRYPT/live/$1/cert.pem" | cut -d= -f2)" +%s)
    to=$(date -d "$(openssl x509 -noout -enddate -in "$LETSENCRYPT/live/$1/cert.pem" | cut -d= -f2)" +%s)
    life=$((to - from))
    if [ "$life" -lt 864000 ]; then before=$((life / 2)); else before=$((life / 3)); fi
    line="renew_before_expiry = $before seconds # by slipway-tls"
  fi
  # (certbot rewrites the file, and then without the space before the mark.)
  {
    [ -z "$line" ] || printf '%s\n' "$line"
    grep -v -e '^renew_before_expiry' -e '^# renew_before_expiry' "$conf"
  } >"$conf.slipway"
  chmod 644 "$conf.slipway"
  sync "$conf.slipway"
  mv "$conf.slipway" "$conf"
}
certbot_is() { # certbot_is MAJOR MINOR, or newer
  version=$(certbot --version 2>&1 | sed -n 's/^certbot \([0-9]*\)\.\([0-9]*\).*/\1 \2/p')
  major=${version% *}
  minor=${version#* }
  [ "${major:-0}" -gt "$1" ] || { [ "${major:-0}" -eq "$1" ] && [ "${minor:-0}" -ge "$2" ]; }
}

# What certbot has here for somebody else is none of ours: who may run this must not replace, revoke or serve it. What is ours
# bears a mark beside what nginx reads, made before its first order.
need_own() { # need_own NAME
  [ -e "$TLS/$1/managed" ] && return 0
  [ -e "$LETSENCRYPT/renewal/$1.conf" ] || [ -e "$LETSENCRYPT/live/$1" ] || [ -e "$LETSENCRYPT/archive/$1" ] || return 0
  refuse "certbot has the certificate $1 for somebody else: root hands it over with mkdir -p $TLS/$1; touch $TLS/$1/managed"
}
need_lineage() {
  need_name "${1-}"
  [ -s "$LETSENCRYPT/renewal/$1.conf" ] || fail 7 "there is no certificate $1 on this server"
  need_own "$1"
}
claim() {
  make_folder "$TLS/$1"
  [ ! -e "$TLS/$1/managed" ] || return 0
  : >"$TLS/$1/managed"
  sync "$TLS/$1"
  claimed=$1
  # A name for which nothing was issued stays everybody's.
  trap '[ -e "$LETSENCRYPT/renewal/$claimed.conf" ] || rm -f "$TLS/$claimed/managed"' EXIT
}
fingerprint_of() { openssl x509 -noout -fingerprint -sha256 -in "$LETSENCRYPT/live/$1/cert.pem" 2>/dev/null | cut -d= -f2; }
# is_to_replace NAME FINGERPRINT: asked with the orders locked. Whoever ordered between the look at it and this has done the work.
is_to_replace() {
  is_fingerprint "$2" || refuse 'that is no fingerprint'
  [ "$(fingerprint_of "$1")" != "$2" ] || return 0
  say "another run has renewed $1 meanwhile: a good certificate stays"
  return 1
}

# need_another NAME FINGERPRINT: a certbot that cannot read its own file of NAME begins a second certificate, NAME-0001, and is content.
need_another() {
  [ -z "$2" ] || [ "$(fingerprint_of "$1")" != "$2" ] ||
    fail 4 "certbot ended well, and $1 is still the certificate that was to be replaced: can certbot read $LETSENCRYPT/renewal/$1.conf? See \`certbot certificates\`"
}

# obtain NAME KEY=VALUE...: a certificate for the names, or a rehearsal of it (try=dry), which changes nothing here. What is
# good stays, unless its fingerprint is the one to replace.
obtain() {
  need_name "${1-}"
  name=$1
  shift
  domains='' server='' email='' key=ecdsa profile='' challenge=webroot webroot=/var/www/acme try=real replace=''
  for word; do
    value=${word#*=}
    is_one_line "$word" || refuse 'a word has more than one line'
    case $word in
      domains=*) domains=$value ;;
      server=*)
        need_server "$value"
        server=$value
        ;;
      email=*)
        case $value in '' | *[!A-Za-z0-9_.%+@-]* | -* | @* | *@ | *@*@*) refuse 'that is no email address' ;; *@*) ;; *) refuse 'that is no email address' ;; esac
        email=$value
        ;;
      key=ecdsa | key=rsa) key=$value ;;
      profile=*)
        is_word "$value" || refuse 'that is no profile'
        profile=$value
        ;;
      challenge=webroot | challenge=standalone) challenge=$value ;;
      webroot=*) webroot=$value ;;
      try=real | try=dry) try=$value ;;
      replace=*)
        is_fingerprint "$value" || refuse 'that is no fingerprint'
        replace=$value
        ;;
      *) refuse "obtain does not know $word" ;;
    esac
  done
  [ -n "$server" ] || refuse 'obtain needs server='
  set -- certonly --cert-name "$name" --server "$server" --agree-tos --key-type "$key" --renew-with-new-domains
  rest=$domains,
  while [ -n "$rest" ]; do
    is_dns_name "${rest%%,*}" || refuse "${rest%%,*} is no host name"
    set -- "$@" --domain "${rest%%,*}"
    rest=${rest#*,}
  done
  if [ -n "$email" ]; then set -- "$@" --email "$email"; else set -- "$@" --register-unsafely-without-email; fi
  [ -z "$profile" ] || set -- "$@" --required-profile "$profile"
  if [ "$challenge" = standalone ]; then set -- "$@" --standalone; else
    need_webroot "$webroot"
    set -- "$@" --webroot --webroot-path "$webroot"
  fi
  lock_orders
  need_own "$name"
  [ -z "$profile" ] || certbot_is 4 0 || fail 6 "this server's certbot knows no profiles: they came with 4.0"
  set_half_aside "$name"
  if [ "$try" = dry ]; then
    run_certbot "$@" --dry-run
    return
  fi
  if [ -n "$replace" ] && is_to_replace "$name" "$replace"; then set -- "$@" --force-renewal; else set -- "$@" --keep-until-expiring; fi
  claim "$name"
  install_hook
  run_certbot "$@"
  need_another "$name" "$replace"
  settle_ca "$name"
  set_renewal_time "$name"
  run_hook "$name"
}

# renew NAME wait, renew NAME now [FINGERPRINT], or renew NAME dry SERVER: as the timer does it; with a fingerprint only while the
# certificate is that one; `dry` tells whether it would work. certbot's dry run orders for good and throws away what it gets, so
# SERVER is an authority's place for tests.
renew() {
  need_lineage "${1-}"
  name=$1
  how=${2-wait}
  more=${3-}
  set -- renew --cert-name "$name" --no-random-sleep-on-renew
  case $how in
    wait | now) ;;
    dry)
      need_server "$more"
      set -- "$@" --dry-run --server "$more"
      ;;
    *) refuse 'renew knows wait, now and dry' ;;
  esac
  lock_orders
  replace=''
  if [ "$how" = now ]; then
    replace=$(fingerprint_of "$name")
    if [ -z "$more" ] || is_to_replace "$name" "$more"; then set -- "$@" --force-renewal; else replace=''; fi
  fi
  if [ "$how" = dry ]; then
    run_certbot "$@"
    return
  fi
  install_hook
  run_certbot "$@"
  need_another "$name" "$replace"
  set_renewal_time "$name"
  run_hook "$name"
}

server_of() { sed -n 's/^server = \(https:.*\)$/\1/p' "$LETSENCRYPT/renewal/$1.conf" | head -n 1; }

revoke() { # revoke NAME REASON
  need_name "${1-}"
  case ${2-} in unspecified | keycompromise | affiliationchanged | superseded | cessationofoperation) ;; *) refuse 'that is no reason to revoke' ;; esac
  need_lineage "$1"
  lock_orders
  server=$(server_of "$1")
  run_certbot revoke --cert-name "$1" --reason "$2" --no-delete-after-revoke ${server:+--server "$server"}
}

# --- from certbot to nginx -------------------------------------------------------------------------------------------------

install_hook() {
  make_folder "${HOOK%/*}"
  text="#!/bin/sh
# Installed by slipway-tls. certbot runs it after each renewal.
exec $SELF renewed"
  if [ ! -x "$HOOK" ] || [ "$(cat "$HOOK")" != "$text" ]; then
    printf '%s\n' "$text" >"$HOOK.new"
    chmod 755 "$HOOK.new"
    mv "$HOOK.new" "$HOOK"
  fi
}
# By the hook itself, so that it is proven before a timer needs it.
run_hook() {
  env -i PATH="$PATH" RENEWED_LINEAGE="$LETSENCRYPT/live/$1" "$HOOK" || exit
}

# publish NAME: what certbot has is what nginx reads. May be repeated at any time, and ends what was interrupted.
publish() {
  need_name "${1-}"
  need_own "$1"
  live=$LETSENCRYPT/live/$1
  folder=$TLS/$1
  [ -s "$live/fullchain.pem" ] && [ -s "$live/privkey.pem" ] || fail 7 "there is no certificate $1 on this server"
  lock_publishing
  make_folder "$folder"
  if [ -e "$folder/current" ] && [ ! -L "$folder/current" ]; then
    fail 8 "$folder/current is not a link of ours: move it away"
  fi
  rm -rf "$folder"/new.* "$folder/.current.new"
  version=v-$(cat "$live/fullchain.pem" "$live/privkey.pem" | sha256sum | cut -c 1-16)
  if [ ! -d "$folder/$version" ]; then
    fresh=$(mktemp -d "$folder/new.XXXXXXXX")
    cat "$live/fullchain.pem" >"$fresh/fullchain.pem"
    (umask 077 && cat "$live/privkey.pem" >"$fresh/privkey.pem")
    # A certbot that was killed while it changed its links shows one of each.
    [ "$(openssl x509 -noout -pubkey -in "$fresh/fullchain.pem")" = "$(openssl pkey -pubout -in "$fresh/privkey.pem")" ] ||
      fail 8 "the key of $live does not belong to its certificate: the next renewal puts that right"
    chmod 755 "$fresh"
    sync "$fresh/fullchain.pem" "$fresh/privkey.pem" "$fresh"
    mv -T "$fresh" "$folder/$version"
    sync "$folder"
  fi
  before=$(readlink "$folder/current" || :)
  served=$(cat "$folder/reloaded" 2>/dev/null || :)
  [ "$before" = "$version" ] || point_current "$version"
  # Whoever pointed `current` elsewhere by hand may have reloaded nginx, too.
  if [ "$served" != "$version" ] || [ "$before" != "$version" ]; then
    # What nginx serves, or what was there first: it goes back there where nginx does not like the new one.
    back=$served
    [ -n "$back" ] && [ -d "$folder/$back" ] || back=$before
    [ "$back" != "$version" ] || back=$before
    [ "$back" != "$version" ] || back=placeholder
    if ! reload_nginx "$1"; then
      [ -z "$docker_said" ] || fail 10 "nginx in a container was not reloaded, since Docker does not answer: $docker_said"
      if [ -n "$back" ] && [ -d "$folder/$back" ]; then
        point_current "$back"
        fail 5 "nginx refused its configuration, and serves what it served before; $folder/current was put back to $back"
      fi
      fail 5 'nginx refused its configuration, and serves what it served before'
    fi
    printf '%s\n' "$version" >"$folder/reloaded.new"
    mv "$folder/reloaded.new" "$folder/reloaded"
    sync "$folder/reloaded" "$folder"
    say "$1: $version is what nginx reads"
  else
    back=
  fi
  # The one before stays, for a look or a way back by hand.
  kept=${back:-$(cat "$folder/before" 2>/dev/null || :)}
  printf '%s\n' "$kept" >"$folder/before"
  for old in "$folder"/v-* "$folder/placeholder"; do
    case ${old##*/} in "$version" | "$kept") ;; *) rm -rf "$old" ;; esac
  done
}
point_current() {
  ln -s "$1" "$folder/.current.new"
  mv -T "$folder/.current.new" "$folder/current"
  sync "$folder"
}

# Not by its name: that of a container can be seen from here, too.
runs_nginx() {
  command -v nginx >/dev/null || return 1
  systemctl is-active --quiet nginx 2>/dev/null || { [ -s /run/nginx.pid ] && kill -0 "$(cat /run/nginx.pid)" 2>/dev/null; }
}

# Where there is nothing to reload, the next start reads the files.
reload_nginx() {
  docker_said=''
  target=$(cat "$TLS/$1/nginx" 2>/dev/null || echo host)
  case $target in
    none) say 'no nginx is to be reloaded' ;;
    host)
      if ! runs_nginx; then
        say 'nginx does not run on this server: it reads the certificate when it starts'
        return 0
      fi
      nginx -t 2>&1 </dev/null || return 1
      if systemctl is-active --quiet nginx 2>/dev/null; then systemctl reload nginx; else nginx -s reload; fi
      ;;
    'compose '*)
      service=${target##* }
      project=${target#compose }
      project=${project% *}
      if ! ids=$(timeout 60 docker ps -q --no-trunc --filter status=running --filter "label=com.docker.compose.project=$project" \
        --filter "label=com.docker.compose.service=$service" --filter label=com.docker.compose.oneoff=False 2>&1); then
        docker_said=${ids:-it said nothing for 60 seconds}
        return 1
      fi
      [ -n "$ids" ] || say "no container of $project/$service runs (docker compose ls shows the projects): it reads the certificate when it starts"
      for id in $ids; do
        timeout 30 docker exec "$id" nginx -t 2>&1 </dev/null || return 1
        timeout 30 docker exec "$id" nginx -s reload 2>&1 </dev/null || return 1
      done
      ;;
    *)
      say "$TLS/$1/nginx is not understood"
      return 1
      ;;
  esac
}

set_nginx() { # set-nginx NAME host|none|compose [PROJECT SERVICE]
  need_name "${1-}"
  case ${2-} in
    host | none) target=$2 ;;
    compose)
      is_word "${3-}" && is_word "${4-}" || refuse 'compose needs a project and a service'
      target="compose $3 $4"
      ;;
    *) refuse 'set-nginx knows host, none and compose' ;;
  esac
  prepare
  make_folder "$TLS/$1"
  [ "$(cat "$TLS/$1/nginx" 2>/dev/null || :)" != "$target" ] || return 0
  printf '%s\n' "$target" >"$TLS/$1/nginx.new"
  mv "$TLS/$1/nginx.new" "$TLS/$1/nginx"
  # Another nginx has not read it yet.
  rm -f "$TLS/$1/reloaded"
}

# What was renewed and could not be published then (nginx was broken, the server went down) is published now.
refresh() {
  bundle
  for entry in "$TLS"/*/managed; do
    [ -e "$entry" ] || continue
    one=${entry%/managed}
    one=${one##*/}
    is_dns_name "$one" && [ -s "$LETSENCRYPT/live/$one/fullchain.pem" ] || continue
    "$SELF" publish "$one" || :
  done
}

# --- what is set up once ---------------------------------------------------------------------------------------------------

install_certbot() {
  command -v certbot >/dev/null && return 0
  command -v apt-get >/dev/null || fail 6 'certbot is not installed, and this is no Debian or Ubuntu: install it with what your distribution has'
  lock_orders
  apt-get -qq -o DPkg::Lock::Timeout=120 update </dev/null || say 'apt-get update had errors: going on with what is there'
  # needrestart would restart services that have nothing to do with this.
  if ! DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 apt-get -qq -y -o DPkg::Lock::Timeout=120 --no-install-recommends install certbot >"$RUN/apt.out" 2>&1 </dev/null 9>&-; then
    tail -n 20 "$RUN/apt.out"
    fail 6 'certbot could not be installed with apt-get'
  fi
  certbot --version 2>&1
}

# set-ca NAME < PEM: the authority of the private ACME server that NAME is ordered from next, for certbot's connections alone; nothing
# means none. It counts beside the one that is there until the order is done: renewals go on if that fails.
set_ca() {
  need_name "${1-}"
  need_own "$1"
  prepare
  fresh=$RUN/ca.$$
  head -c 262144 >"$fresh.in"
  openssl crl2pkcs7 -nocrl -certfile "$fresh.in" 2>/dev/null | openssl pkcs7 -print_certs 2>/dev/null |
    sed -n '/^-----BEGIN CERT/,/^-----END CERT/p' >"$fresh.pem"
  if [ -s "$fresh.in" ] && ! [ -s "$fresh.pem" ]; then
    rm "$fresh.in" "$fresh.pem"
    refuse 'that is no certificate'
  fi
  make_folder "$TLS/$1"
  cat "$fresh.pem" >"$TLS/$1/.acme-ca.new"
  sync "$TLS/$1/.acme-ca.new"
  mv "$TLS/$1/.acme-ca.new" "$TLS/$1/acme-ca.next.pem"
  rm "$fresh.in" "$fresh.pem"
  bundle
}
settle_ca() {
  next=$TLS/$1/acme-ca.next.pem
  [ -e "$next" ] || return 0
  if [ -s "$next" ]; then mv "$next" "$TLS/$1/acme-ca.pem"; else rm -f "$TLS/$1/acme-ca.pem" "$next"; fi
  bundle
}

list_timers() {
  [ -d /run/systemd/system ] || return 0
  systemctl list-unit-files --no-legend --type=timer '*certbot*.timer' | while read -r unit _; do
    printf '%s %s %s\n' "$(systemctl is-active "$unit" || :)" "$unit" "$(systemctl show -p NextElapseUSecRealtime --value "$unit" || :)"
  done
}
# Those that systemd makes superfluous say so themselves.
list_crons() {
  for file in /etc/crontab /etc/cron.d/* /etc/cron.daily/* /etc/cron.weekly/* /var/spool/cron/crontabs/*; do
    [ -f "$file" ] || continue
    if grep -v '^[[:space:]]*#' "$file" | grep -v '/run/systemd/system' | grep -q 'certbot.*renew'; then printf 'cron %s\n' "$file"; fi
  done
}

# set-timer: one runs, also after a reboot, and its service knows the private authorities and ends what was interrupted. That of
# the distribution where there is one; what others have set up besides stays theirs, and the action warns of it.
set_timer() {
  prepare
  [ -d /run/systemd/system ] || fail 9 'no systemd: renew with a cron entry of root, twice a day: certbot -q renew'
  own=slipway-certbot.timer
  all=$(list_timers)
  timer=$(printf '%s\n' "$all" | sed -n "/ $own /d; s/^active \([^ ]*\).*/\1/p" | head -n 1)
  [ -n "$timer" ] || timer=$(printf '%s\n' "$all" | sed -n "/ $own /d; s/^[^ ]* \([^ ]*\).*/\1/p" | head -n 1)
  if [ -n "$timer" ]; then
    case $all in *" $own "*) systemctl disable --now "$own" 2>&1 && rm -f "/etc/systemd/system/$own" /etc/systemd/system/slipway-certbot.service && systemctl daemon-reload ;; esac
  else
    timer=$own
    printf '[Unit]\nDescription=Renews certificates\n[Service]\nType=oneshot\nExecStart=%s -q renew --no-random-sleep-on-renew\n' "$(command -v certbot)" >/etc/systemd/system/slipway-certbot.service
    printf '[Unit]\nDescription=Renews certificates twice a day\n[Timer]\nOnCalendar=*-*-* 00,12:00:00\nRandomizedDelaySec=43200\nPersistent=true\n[Install]\nWantedBy=timers.target\n' >/etc/systemd/system/slipway-certbot.timer
    systemctl daemon-reload
  fi
  case $(systemctl is-enabled "$timer" 2>/dev/null || :) in
    masked*) fail 9 "$timer is masked, so nothing renews: systemctl unmask $timer" ;;
  esac
  unit=$(systemctl show -p Unit --value "$timer")
  is_word "$unit" || fail 9 "systemd does not know what $timer starts"
  drop=/etc/systemd/system/$unit.d
  text="# Written by slipway-tls.
[Service]
ExecStartPre=-$SELF refresh
EnvironmentFile=-$ENVIRONMENT"
  if [ "$(cat "$drop/slipway.conf" 2>/dev/null || :)" != "$text" ]; then
    make_folder "$drop"
    printf '%s\n' "$text" >"$drop/slipway.conf"
    systemctl daemon-reload
  fi
  if ! systemctl is-enabled --quiet "$timer" || ! systemctl is-active --quiet "$timer"; then
    said=$(systemctl enable --now "$timer" 2>&1) || fail 9 "$timer cannot be switched on: $said"
    say "$timer was switched on"
  fi
}

# --- questions -------------------------------------------------------------------------------------------------------------

# probe WEBROOT TOKEN: what an authority would ask for, put where certbot would put it. `unprobe` takes it away.
probe() {
  case ${2-} in *[!A-Za-z0-9_-]* | '' | ????????????????????????????????????????????????????????????????*) refuse 'that is no token' ;; slipway-?*) ;; *) refuse 'that is no token' ;; esac
  need_webroot "${1-}"
  # Those that a killed run left.
  find "$1/.well-known/acme-challenge" -maxdepth 1 -name 'slipway-*' -mmin +60 -delete
  rm -f "$1/.well-known/acme-challenge/$2"
  if [ "$3" = put ]; then printf '%s\n' "$2" >"$1/.well-known/acme-challenge/$2"; fi
}

# facts TOKEN NAME: what root alone can see. Sections as those of the action's own questions.
facts() {
  case ${1-} in *[!0-9a-f]* | '') refuse 'that is no token' ;; esac
  token=$1
  need_name "${2-}"
  exec 3>&1
  section names list_names
  section crons list_crons
  section settings show_settings "$2"
  section owner show_owner "$2"
  section authorities list_authorities
  section accounts list_accounts
  section lineage show_file "$LETSENCRYPT/live/$2/fullchain.pem"
}
section() {
  section=$1
  shift
  printf '%s begin %s\n' "$token" "$section"
  set +e
  problem=$({ "$@" 2>&1 >&3 3>&- </dev/null; })
  code=$?
  set -e
  printf '\n%s end %s %s\n%s\n%s close %s\n' "$token" "$section" "$code" "$problem" "$token" "$section"
}
list_names() { for conf in "$LETSENCRYPT"/renewal/*.conf; do [ ! -s "$conf" ] || basename "$conf" .conf; done; }
show_settings() {
  set -- "$1" "$TLS/$1"/acme-ca*.pem
  [ ! -e "$2" ] || say 'private_ca = yes'
  [ -e "$LETSENCRYPT/renewal/$1.conf" ] || return 0
  sed -n -e 's/ *# by slipway-tls$//' -e '/^\(server\|authenticator\|webroot_path\|key_type\|renew_before_expiry\) = /p' "$LETSENCRYPT/renewal/$1.conf"
}
show_owner() { if (need_own "$1") 2>/dev/null; then say slipway; else say other; fi; }
# How authorities call the accounts that certbot has with them.
list_accounts() {
  [ ! -d "$LETSENCRYPT/accounts" ] || find "$LETSENCRYPT/accounts" -type f -name regr.json -exec sed -n 's/.*"uri": *"\([^"]*\)".*/\1/p' {} +
}
show_file() { [ ! -e "$1" ] || cat "$1"; }

[ "$(id -u)" = 0 ] || fail 2 'this needs root: run it with sudo'
verb=${1-}
[ $# -eq 0 ] || shift
case $verb in
  # The number changes with the verbs and their words; each change of the text gives another checksum.
  version) say slipway-tls 2 ;;
  facts) facts "$@" ;;
  install-certbot) install_certbot ;;
  set-ca) set_ca "$@" ;;
  set-nginx) set_nginx "$@" ;;
  set-timer) set_timer ;;
  probe) probe "${1-}" "${2-}" put ;;
  unprobe) probe "${1-}" "${2-}" remove ;;
  obtain) obtain "$@" ;;
  renew) renew "$@" ;;
  revoke) revoke "$@" ;;
  publish) publish "$@" ;;
  refresh) refresh ;;
  renewed)
    case ${RENEWED_LINEAGE-} in "$LETSENCRYPT"/live/*) ;; *) refuse 'renewed is for certbot alone' ;; esac
    name=${RENEWED_LINEAGE#"$LETSENCRYPT"/live/}
    # certbot tells of each certificate that it has renewed; most may be others'.
    is_dns_name "$name" && [ -e "$TLS/$name/managed" ] || exit 0
    publish "$name"
    ;;
  *) refuse 'the verbs: version facts install-certbot set-ca set-nginx set-timer probe unprobe obtain renew revoke publish refresh' ;;
esac
