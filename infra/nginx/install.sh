#!/bin/sh
# Puts an nginx in front of your project: TLS, redirects, security headers, rate limits. Renders the templates beside it for the
# nginx that is installed, tries the whole configuration, and reloads nginx if something changed. See README.md.
#
# What nginx reads changes by one rename, of the link `current`; what it read before stays where it was.
set -u
umask 022
LC_ALL=C
export LC_ALL
unset CDPATH
templates=$(cd "$(dirname "$0")" && pwd -P) || exit 1

TLS=/etc/slipway/tls
ACME=/var/www/acme
ENTRY=../slipway-ssl/current/nginx-ssl.conf
SAME=0 FAILED=1 WRONG=2 DIFFERENT=3
NEWLINE='
'

usage() {
  cat <<USAGE
usage: sh install.sh --name NAME (--upstream ADDRESS | --service NAME) [flag...]     sets up a site, or changes it
       sh install.sh                                                              renders all sites again
       sh install.sh --remove NAME                                                takes a site away

  --name NAME              host name; several. The first one names the site
  --upstream ADDRESS       where requests go: 127.0.0.1:8080, [::1]:8080 or app:8080; several share the load
  --service NAME           instead: a service of the Compose project whose router this nginx is (x-slipway)
  --certificate-name NAME  folder in $TLS; default: the first name
  --api-path /PATH/        limited to 10 requests/s; several; default: /api/
  --health-path /PATH      neither limited nor logged; several; default: /health
  --websocket-path /PATH/  connections may be silent for an hour; several; default: none
  --static-path /PATH/     files with a hash in their name are cached for a year; several; default: /assets/
  --static-root FOLDER     files are served from here, and only what is not there comes from the application
  --spa                    with --static-root: other pages are its index.html
  --csp TEXT               Content-Security-Policy, where the application sends none
  --no-hsts                no Strict-Transport-Security
  --hsts-preload           for two years, with all subdomains, and asking to be in browsers' lists
  --http3                  HTTP/3 as well (UDP port 443)
  --max-body SIZE          largest request body, such as 512k or 20m; default: 10m
  --status-port PORT       on 127.0.0.1, for the exporter: /nginx-status; default: 8081

  --check                  shows what would change, and changes nothing. Exit code 0: nothing, 3: something
  --print                  prints what would be rendered, and changes nothing
  --remove NAME            takes the site of that name away

Exit codes: $SAME done, $FAILED nothing was changed or all was put back, $WRONG wrong flags, $DIFFERENT --check found a difference.
USAGE
}

say() { printf '%s\n' "$*"; }
die() {
  printf 'install.sh: %s\n' "$1" >&2
  [ $# -lt 2 ] || printf '  -> %s\n' "$2" >&2
  exit "$FAILED"
}

# --- flags: each is checked here, so that no value can say anything else in nginx's configuration ---

problem() { problems="$problems  $*$NEWLINE"; }

is_name() {
  case $1 in '' | *[!a-z0-9.-]* | .* | *. | -* | *- | *..* | *.-* | *-.*) return 1 ;; esac
  # A label has at most 63 characters. The last one holds a letter: an address has no name.
  [ "${#1}" -le 253 ] || return 1
  case ${1##*.} in *[a-z]*) ;; *) return 1 ;; esac
  rest=$1.
  while [ -n "$rest" ]; do
    label=${rest%%.*}
    [ "${#label}" -le 63 ] || return 1
    rest=${rest#*.}
  done
}
is_port() {
  case $1 in '' | *[!0-9]* | 0* | ??????*) return 1 ;; esac
  [ "$1" -le 65535 ]
}
is_path() {
  [ "${#1}" -le 200 ] || return 1
  case $1 in *[!A-Za-z0-9._~/-]* | *//* | */./* | */../* | */. | */..) return 1 ;; esac
  case $1 in /*) ;; *) return 1 ;; esac
}
is_folder_path() {
  is_path "$1" || return 1
  case $1 in / | [!/]* | *[!/]) return 1 ;; esac
}
is_ipv4() {
  case $1 in *[!0-9.]* | .* | *. | *..*) return 1 ;; esac
  number=1
  rest=$1.
  while [ -n "$rest" ]; do
    part=${rest%%.*}
    rest=${rest#*.}
    case $part in ????* | 0?*) return 1 ;; esac
    [ "$part" -le 255 ] || return 1
    number=$((number + 1))
  done
  [ "$number" -eq 5 ]
}
is_address() {
  is_port "${1##*:}" || return 1
  case $1 in
    \[*\]:*)
      inside=${1%]:*}
      inside=${inside#[}
      case $inside in *[!0-9a-fA-F:.]*) return 1 ;; *:*:*) return 0 ;; esac
      return 1
      ;;
    *:*:* | *[\[\]]* | :*) return 1 ;;
    *[!0-9.:]*) is_label "${1%:*}" || is_name "${1%:*}" ;;
    *) is_ipv4 "${1%:*}" ;;
  esac
}
# A container or a service: Compose allows underscores.
is_label() {
  [ "${#1}" -le 63 ] || return 1
  case $1 in '' | [!A-Za-z0-9]* | *[!A-Za-z0-9_.-]* | *..* | *.) return 1 ;; esac
}
is_policy() {
  # nginx reads a statement in pieces of 4096 bytes.
  [ "${#1}" -le 3000 ] || return 1
  case $1 in '' | *[!\ -~]* | *[\"\\\$]*) return 1 ;; esac
}
is_size() {
  case $1 in [1-9]*[km]) ;; *) return 1 ;; esac
  case ${1%[km]} in *[!0-9]* | ??????*) return 1 ;; esac
}

check_value() { # check_value FLAG VALUE TEST ACCEPTED
  "$3" "$2" && return 0
  problem "$1 is ${2:-empty}, which is not $4"
  return 1
}
add() { # add LIST VALUE
  case " $1 " in *" $2 "*) printf '%s' "$1" ;; *) printf '%s' "${1:+$1 }$2" ;; esac
}

clear_site() {
  names='' upstreams='' service='' certificate='' api_paths='' health_paths='' websocket_paths='' static_paths=''
  root='' spa='' csp='' hsts=on http3='' max_body='' given=''
}

# Words that are about a site go into `given`, one a line: they are kept beside what was rendered from them.
parse() {
  while [ $# -gt 0 ]; do
    flag=$1
    shift
    case $flag in
      --spa) spa=yes given="$given$flag$NEWLINE" ;;
      --http3) http3=yes given="$given$flag$NEWLINE" ;;
      --no-hsts | --hsts-preload)
        [ "$hsts" = on ] || problem "$flag: --no-hsts and --hsts-preload do not go together"
        hsts=${flag#--}
        given="$given$flag$NEWLINE"
        ;;
      --check | --print) mode=${flag#--} ;;
      --help | -h)
        usage
        exit 0
        ;;
      --name | --upstream | --service | --certificate-name | --api-path | --health-path | --websocket-path | --static-path | \
        --static-root | --csp | --max-body | --status-port | --remove)
        case ${1-} in
          '' | --*)
            problem "$flag needs a value"
            continue
            ;;
        esac
        parse_value "$flag" "$1"
        case $flag in --status-port | --remove) ;; *) given="$given$flag$NEWLINE$1$NEWLINE" ;; esac
        shift
        ;;
      *) problem "$flag is no flag of install.sh; --help lists them" ;;
    esac
  done
}
parse_value() {
  case $1 in
    --name) check_value "$1" "$2" is_name 'a host name, in small letters and without * (such as shop.example.com)' && names=$(add "$names" "$2") ;;
    --upstream) check_value "$1" "$2" is_address 'an address with a port (such as 127.0.0.1:8080)' && upstreams=$(add "$upstreams" "$2") ;;
    --service) check_value "$1" "$2" is_label 'the name of a service (such as api)' && service=$2 ;;
    --certificate-name) check_value "$1" "$2" is_name 'a name of small letters, digits, dots and hyphens' && certificate=$2 ;;
    --api-path) check_value "$1" "$2" is_folder_path 'a path that begins and ends with / (such as /api/)' && api_paths=$(add "$api_paths" "$2") ;;
    --websocket-path) check_value "$1" "$2" is_folder_path 'a path that begins and ends with / (such as /ws/)' && websocket_paths=$(add "$websocket_paths" "$2") ;;
    --static-path) check_value "$1" "$2" is_folder_path 'a path that begins and ends with / (such as /assets/)' && static_paths=$(add "$static_paths" "$2") ;;
    --health-path) check_value "$1" "$2" is_path 'a path (such as /health)' && health_paths=$(add "$health_paths" "$2") ;;
    --static-root) check_value "$1" "$2" is_path 'an absolute path of letters, digits and . _ ~ -' && root=${2%/} ;;
    --csp) check_value "$1" "$2" is_policy "printable ASCII without \" \\ and \$, of at most 3000 characters" && csp=$2 ;;
    --max-body) check_value "$1" "$2" is_size 'a size such as 512k or 20m' && max_body=$2 ;;
    --status-port) check_value "$1" "$2" is_port 'a port, 1 to 65535' && status_port=$2 ;;
    --remove) check_value "$1" "$2" is_name 'a host name' && remove=$2 ;;
  esac
}

is_given() { case $NEWLINE$given in *"$NEWLINE$1$NEWLINE"*) return 0 ;; *) return 1 ;; esac; }

# What no flag can say alone; then the defaults.
complete_site() {
  site=${names%% *}
  is_given --name || problem '--name is missing'
  is_given --upstream || is_given --service || problem '--upstream or --service is missing: where do requests go?'
  [ -z "$upstreams" ] || [ -z "$service" ] || problem '--upstream and --service do not go together'
  [ -z "$spa" ] || [ -n "$root" ] || problem '--spa needs --static-root: the folder with index.html'
  certificate=${certificate:-$site}
  api_paths=${api_paths:-/api/}
  health_paths=${health_paths:-/health}
  static_paths=${static_paths:-/assets/}
  max_body=${max_body:-10m}
  csp=${csp:-"default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"}
  seen=' / '
  for path in $api_paths $health_paths $websocket_paths $static_paths; do
    case $seen in *" $path "*) problem "the path $path is given for two things, or is /" ;; esac
    seen="$seen$path "
  done
}

# --- rendering ---

# Fills a template in: `@word@` is the variable V_word, a line `?word ...` is there if that one is not empty, `?!word` if it is.
# What is filled in is not looked at again, so a value cannot be a template.
fill() {
  awk '
    {
      line = $0
      if (line ~ /^\?!?[a-z0-9_]+( |$)/) {
        word = line
        sub(/^\?/, "", word)
        sub(/ .*/, "", word)
        negated = sub(/^!/, "", word)
        if ((ENVIRON["V_" word] != "") == negated) next
        if (!sub(/^\?!?[a-z0-9_]+ /, "", line)) line = ""
      }
      out = ""
      while (match(line, /@[a-z0-9_]+@/)) {
        word = "V_" substr(line, RSTART + 1, RLENGTH - 2)
        if (!(word in ENVIRON)) { print FILENAME ": nothing for " word > "/dev/stderr"; exit 1 }
        out = out substr(line, 1, RSTART - 1) ENVIRON[word]
        line = substr(line, RSTART + RLENGTH)
      }
      print out line
    }' "$templates/$1" || die "the template $1 could not be filled in"
}

# A short name for nginx's variables and zones, whose tables have room for 46 characters a name.
hash_name() {
  printf '%s\n' "$1" | awk '{
    for (i = 1; i <= length($0); i++) h = (h * 41 + index("abcdefghijklmnopqrstuvwxyz0123456789.-", substr($0, i, 1))) % 2147483647
    printf "%d", h
  }'
}
fill_location() { # fill_location PATH WORD...: the location of which these words are true
  (
    V_path=$1
    shift
    for word in health api websocket static_proxied static_files hidden general general_spa general_files general_proxied; do
      eval "V_$word="
    done
    for word; do eval "V_$word=yes"; done
    export V_path V_health V_api V_websocket V_static_proxied V_static_files V_hidden V_general V_general_spa V_general_files V_general_proxied
    fill locations.conf
  ) || exit "$FAILED"
}
fill_locations() {
  for path in $health_paths; do fill_location "$path" health; done
  for path in $api_paths; do fill_location "$path" api; done
  for path in $websocket_paths; do fill_location "$path" websocket; done
  for path in $static_paths; do fill_location "$path" "${root:+static_files}" "${V_proxied:+static_proxied}"; done
  [ -z "$root" ] || fill_location '' hidden
  if [ -n "$spa" ]; then
    fill_location '' general general_spa
  elif [ -n "$root" ]; then
    fill_location '' general general_files
  else
    fill_location '' general general_proxied
  fi
}

render_site() { # render_site FOLDER: from the variables that parse and complete_site have set
  mkdir -p "$1/sites/$site" || exit "$FAILED"
  printf '%s' "$given" >"$1/sites/$site/flags"
  (
    V_site=$site V_id=$(hash_name "$site") V_names=$names V_certificate=$certificate V_csp=$csp V_max_body=$max_body
    V_root=$root V_http3=$http3 V_http3_ipv6=${http3:+$V_ipv6} V_upstream='' V_several='' V_servers='' V_proxied=''
    [ -n "$root" ] || V_proxied=yes
    case $hsts in
      on) V_hsts='max-age=31536000' ;;
      hsts-preload) V_hsts='max-age=63072000; includeSubDomains; preload' ;;
      *) V_hsts='' ;;
    esac
    if [ -n "$service" ]; then
      V_target=$service
    else
      V_target=slipway_$V_id V_upstream=yes
      case $upstreams in *' '*) V_several=yes ;; esac
      for address in $upstreams; do
        # nginx never counts a server out that is alone in its upstream.
        V_servers="${V_servers:+$V_servers$NEWLINE}    server $address${V_several:+ max_fails=3 fail_timeout=5s};"
      done
      if [ -n "$V_several" ]; then
        V_servers="$V_servers$NEWLINE    # The same ones again, never counted out: when all of them have failed, as when a new release starts, they are all tried"
        V_servers="$V_servers$NEWLINE    # instead of none."
        for address in $upstreams; do V_servers="$V_servers$NEWLINE    server $address max_fails=0 backup;"; done
      fi
    fi
    V_static_pattern=$(printf '%s' "$static_paths" | sed 's/\./\\./g; s/ /|/g')
    export V_site V_id V_names V_certificate V_csp V_max_body V_root V_http3 V_http3_ipv6 V_upstream V_several V_servers V_hsts V_target V_static_pattern
    V_locations=$(fill_locations) || exit "$FAILED"
    export V_locations
    fill site.conf >"$1/sites/$site/site.conf"
    fill snippets/headers.conf >"$1/sites/$site/headers.conf"
  ) || exit "$FAILED"
}

# All of it, into an empty folder: the site of the flags, every other one from the flags that it was last rendered from.
render() { # render FOLDER
  folder=$1
  mkdir -p "$folder/snippets" "$folder/sites" || exit "$FAILED"
  all_names=' ' services='' any_http3='' V_long_names='' site_count=0
  [ -z "$names" ] || take_site "$folder"
  for flags in "$current"/sites/*/flags; do
    other=${flags%/flags}
    other=${other##*/}
    [ -f "$flags" ] || continue
    case $other in "$new_site" | "$remove") continue ;; esac
    set --
    while IFS= read -r word; do set -- "$@" "$word"; done <"$flags"
    clear_site
    parse "$@"
    complete_site
    stop_for_problems "in $flags"
    take_site "$folder"
  done
  V_service='' V_default_80_ipv6='' V_default_443_ipv6='' V_default_443_http3='' V_default_443_http3_ipv6=''
  V_default_443_reject='' V_default_443_placeholder='' V_http3='' V_site='' V_id=''
  [ -z "$services" ] || [ -n "$included" ] || V_service=yes
  V_status_port=$status_port
  [ -z "$V_default_80" ] || V_default_80_ipv6=$V_ipv6
  if [ -n "$V_default_443" ]; then
    V_default_443_ipv6=$V_ipv6 V_default_443_http3=$any_http3
    V_default_443_http3_ipv6=${any_http3:+$V_ipv6}
    if is_since 1 19 4; then V_default_443_reject=yes; else V_default_443_placeholder=yes; fi
  fi
  export V_service V_long_names V_status_port V_default_80_ipv6 V_default_443_ipv6 V_default_443_http3 V_default_443_http3_ipv6 \
    V_default_443_reject V_default_443_placeholder V_http3 V_site V_id
  printf '%s\n' "$status_port" >"$folder/status-port"
  fill nginx-ssl.conf >"$folder/nginx-ssl.conf"
  for snippet in acme compression headers proxy tls; do fill "snippets/$snippet.conf" >"$folder/snippets/$snippet.conf"; done
}
take_site() {
  for name in $names; do
    case $all_names in *" $name "*) problem "the name $name is in two sites: --remove one of them, or leave the name out" ;; esac
    all_names="$all_names$name "
    [ "${#name}" -le 46 ] || V_long_names=yes
  done
  [ -z "$http3" ] || [ -n "$has_http3" ] ||
    problem "--http3: nginx $V_nginx_version here has no HTTP/3 (1.25.0 or newer, built with http_v3_module)"
  [ -z "$http3" ] || [ -n "$V_default_443" ] ||
    problem '--http3: another site is the default_server of port 443; take that word out there, so that this can be the one'
  stop_for_problems
  services=$(add "$services" "$service") any_http3=${any_http3:-$http3}
  site_count=$((site_count + 1)) certificates="$certificates$certificate $names$NEWLINE"
  render_site "$1"
}
stop_for_problems() {
  [ -n "$problems" ] || return 0
  printf 'install.sh: nothing was changed%s:\n%s' "${1:+ ($1)}" "$problems" >&2
  exit "$WRONG"
}

# --- what is here ---

is_since() { # is_since MAJOR MINOR PATCH
  [ "$major" -gt "$1" ] || { [ "$major" -eq "$1" ] && { [ "$minor" -gt "$2" ] || { [ "$minor" -eq "$2" ] && [ "$patch" -ge "$3" ]; }; }; }
}

read_nginx() {
  PATH=$PATH:/usr/sbin:/sbin:/usr/local/sbin
  command -v nginx >/dev/null || die 'there is no nginx here' 'apt-get install nginx, then run this again'
  about=$(nginx -V 2>&1) || die "\`nginx -V\` failed: $about"
  V_nginx_version=$(printf '%s\n' "$about" | sed -n 's|^nginx version: [^/]*/\([0-9][0-9]*\.[0-9][0-9]*\.[0-9][0-9]*\).*|\1|p')
  [ -n "$V_nginx_version" ] || die "nginx does not tell its version: $about"
  major=${V_nginx_version%%.*} minor=${V_nginx_version#*.}
  patch=${minor#*.} minor=${minor%%.*}
  is_since 1 18 0 || die "nginx is $V_nginx_version, and 1.18.0 or newer is needed"
  missing=''
  for module in http_limit_req http_map http_gzip http_proxy http_upstream_zone http_upstream_keepalive http_upstream_least_conn; do
    case $about in *"--without-${module}_module"*) missing="$missing $module" ;; esac
  done
  for module in http_ssl http_v2 http_stub_status; do
    case $about in *"--with-${module}_module"*) ;; *) missing="$missing $module" ;; esac
  done
  [ -z "$missing" ] || die "this nginx is built without$missing" 'nginx-light of older distributions is; apt-get install nginx-core has them'
  # What it runs with counts, where that is not what it was built with.
  V_openssl_version=$(printf '%s\n' "$about" | sed -n 's/^built with OpenSSL \([0-9.]*\).*(running with OpenSSL \([0-9.]*\).*/\2/p; t
    s/^built with OpenSSL \([0-9.]*\).*/\1/p')
  V_openssl_version=${V_openssl_version:-unknown}
  configuration=$(printf '%s\n' "$about" | sed -n 's/.* --conf-path=\([^ ]*\).*/\1/p')
  configuration=${configuration:-/etc/nginx/nginx.conf}
  etc=${configuration%/*}
  case $etc in *[!A-Za-z0-9._/-]* | '') die "nginx's configuration is in $etc: only letters, digits and . _ / - can be dealt with" ;; esac
  V_home=$etc/slipway-ssl
  current=$V_home/current V_current=$V_home/current entry=$etc/conf.d/slipway-ssl.conf

  has_http3='' V_http2_directive='' V_listen_http2=' http2' V_keepalive_min_timeout=''
  case $about in *--with-http_v3_module*) ! is_since 1 25 0 || has_http3=yes ;; esac
  ! is_since 1 25 1 || { V_http2_directive=yes V_listen_http2=''; }
  ! is_since 1 27 4 || V_keepalive_min_timeout=yes
  # A key exchange that a quantum computer would not open later: https://openssl-library.org/post/2025-02-04-release-announcement-3.5/
  V_curves=X25519:prime256v1:secp384r1
  case $V_openssl_version in 3.[5-9]* | 3.[1-9][0-9]* | [4-9].* | [1-9][0-9].*) V_curves=X25519MLKEM768:$V_curves ;; esac
  V_ipv6=''
  [ ! -e /proc/net/if_inet6 ] || V_ipv6=yes
  # In the official image the log is a link to standard output.
  V_access_log=/var/log/nginx/slipway.access.log
  [ ! -L /var/log/nginx/access.log ] || V_access_log=/var/log/nginx/access.log
  export V_nginx_version V_openssl_version V_home V_current V_http2_directive V_listen_http2 V_keepalive_min_timeout V_curves V_ipv6 V_access_log
}

# Debian's own page for whoever calls, as long as nobody has changed it. It would be the default of port 80.
# shellcheck disable=SC2016 # nginx's own variable
DISTRIBUTION_SITE='server{listen 80 default_server;listen [::]:80 default_server;root /var/www/html;index index.html index.htm index.nginx-debian.html;server_name _;location /{try_files $uri $uri/ =404;}}'
is_distribution_site() {
  [ -L "$1" ] && [ -f "$1" ] || return 1
  [ "$(sed 's/#.*//' "$1" | tr -s ' \t\n' '   ' | sed 's/ *\([{};]\) */\1/g; s/^ //')" = "$DISTRIBUTION_SITE" ]
}

# Whose word it is what happens on a port to names that nobody has: `listen ... default_server` outside of our files.
read_others() {
  replaced_site=''
  ! is_distribution_site "$etc/sites-enabled/default" || replaced_site=$etc/sites-enabled/default
  dump=$(nginx -T 2>&1) || dump=''
  found=$(printf '%s\n' "$dump" | awk -v ours="$V_home/" -v entry="$entry" -v gone="$replaced_site" '
    /^# configuration file .*:$/ { file = substr($0, 22); file = substr(file, 1, length(file) - 1) }
    file == entry || index(file, ours) == 1 || (gone != "" && file == gone) { next }
    { sub(/#.*/, "") }
    /^[ \t]*include[ \t]+["'"'"']?\/etc\/nginx\/slipway\// { print "included" }
    match($0, /listen[ \t]+[^;]*[ \t]default(_server)?([ \t;])/) {
      split($0, words, /[ \t;]+/)
      for (i in words) if (words[i] == "listen") port = words[i + 1]
      if (port ~ /\]$/ || port !~ /(^|:)[0-9]+$/) port = 80
      sub(/.*:/, "", port)
      print "default " port
    }')
  V_default_80=yes V_default_443=yes included=''
  case $NEWLINE$found$NEWLINE in *"${NEWLINE}default 80$NEWLINE"*) V_default_80='' ;; esac
  case $NEWLINE$found$NEWLINE in *"${NEWLINE}default 443$NEWLINE"*) V_default_443='' ;; esac
  case $NEWLINE$found$NEWLINE in *"${NEWLINE}included$NEWLINE"*) included=yes ;; esac
  export V_default_80 V_default_443
}

# --- changing it ---

# nginx does not start without the files of a certificate. Nobody trusts this one: it is replaced when the real one comes.
put_placeholder() { # put_placeholder FOLDER NAMES
  mkdir -p "$1" || return 1
  alternatives=''
  for name in $2; do alternatives="${alternatives:+$alternatives,}DNS:$name"; done
  (
    umask 077
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 -subj '/O=Slipway placeholder' \
      ${alternatives:+-addext "subjectAltName=$alternatives"} -keyout "$1/privkey.pem" -out "$1/fullchain.pem" 2>"$work/openssl"
  ) || {
    cat "$work/openssl" >&2
    return 1
  }
  chmod 644 "$1/fullchain.pem"
}
put_certificates() {
  while read -r certificate names; do
    [ -n "$certificate" ] || continue
    folder=$TLS/$certificate
    # What is there is not ours, whatever it is.
    if [ -e "$folder/current" ] || [ -L "$folder/current" ]; then continue; fi
    command -v openssl >/dev/null || die "there is no certificate in $folder, and no openssl to make a placeholder" 'apt-get install openssl'
    put_placeholder "$folder/placeholder" "$names" || die "a placeholder certificate could not be made in $folder/placeholder"
    ln -s placeholder "$folder/current" || die "$folder/current could not be made"
    say "placeholder certificate: $folder (until action-ssl, or you, put a real one there)"
  done <<CERTIFICATES
$certificates
CERTIFICATES
  if grep -q "$V_home/placeholder/" "$rendered/nginx-ssl.conf" && [ ! -f "$V_home/placeholder/fullchain.pem" ]; then
    put_placeholder "$V_home/placeholder" '' || die 'a placeholder certificate could not be made'
  fi
}

# nginx does not start either without the upstreams that the first deploy writes into the mount of this folder (an image that is
# built has none yet). Nobody can be reached by this one.
put_upstreams() {
  file=/etc/nginx/slipway/upstreams.conf
  [ -n "$services" ] && [ ! -e "$file" ] || return 0
  mkdir -p "${file%/*}" || return 1
  {
    say '# Until a deploy writes the real ones, in a mount over this folder.'
    for service in $services; do say "upstream $service { server 127.0.0.1:9 down; }"; done
  } >"$file.new" && mv -f "$file.new" "$file"
}

# point LINK TARGET: by one rename
point() {
  rm -f "$1.new"
  ln -s "$2" "$1.new" && mv -T "$1.new" "$1"
}

# Written before anything changes, and removed when nginx has taken the change: as long as it is there, the change is not one.
write_journal() {
  {
    printf '%s\n' "$was_current" "$made_entry" "$backup" "$replaced_site" "$removed_site" "$version"
  } >"$V_home/journal.new" && mv -f "$V_home/journal.new" "$V_home/journal"
}
read_journal() {
  {
    IFS= read -r was_current && IFS= read -r made_entry && IFS= read -r backup && IFS= read -r replaced_site &&
      IFS= read -r removed_site && IFS= read -r version
  } <"$V_home/journal"
}

# Everything as it was, in reverse, however much of the change has been made. Also when we are told to end in the middle.
put_back() {
  trap '' HUP INT TERM
  if [ -n "$was_current" ]; then point "$current" "$was_current"; else rm -f "$current"; fi
  if [ -n "$made_entry" ]; then
    [ "$(readlink "$entry" 2>/dev/null)" != "$ENTRY" ] || rm -f "$entry"
    if [ -n "$backup" ] && { [ -e "$backup" ] || [ -L "$backup" ]; }; then mv -f "$backup" "$entry"; fi
  fi
  [ -z "$removed_site" ] || [ -e "$replaced_site" ] || [ -L "$replaced_site" ] || ln -s "$removed_site" "$replaced_site"
  # nginx may have taken the change, or take it late: it reads again what was there before.
  if [ -n "$reloading" ] && is_running; then
    old=" $(workers "$master" | tr '\n' ' ')"
    reload_nginx
    await_workers || printf 'install.sh: nginx has not yet read again what was there before; its error log may say why\n' >&2
  fi
  rm -rf "$version"
  rm -f "$V_home/journal"
}
interrupted() {
  put_back
  printf 'install.sh: interrupted; everything is as it was\n' >&2
  exit "$FAILED"
}

# One at a time. What a run left that was killed before nginx had taken its change is taken back first.
begin_change() {
  mkdir -p "$V_home/versions" "$ACME/.well-known/acme-challenge" "$etc/conf.d" || die "$V_home or $ACME could not be made"
  if command -v flock >/dev/null; then
    exec 9>"$V_home/lock"
    flock -n 9 || die 'another install.sh is at work' 'wait for it, then run this again'
  fi
  [ -e "$V_home/journal" ] || return 0
  say 'an interrupted run is taken back first'
  read_journal || die "$V_home/journal cannot be read" 'see with nginx -t whether all is well, then remove that file'
  reloading=yes
  put_back
  trap - HUP INT TERM
}

apply() {
  put_certificates
  put_upstreams || die '/etc/nginx/slipway/upstreams.conf could not be written'
  [ "$changed" = yes ] || { say 'nothing to change'; return 0; }

  # Only with what works now can it be told whether the change works.
  before=$(nginx -t 2>&1) || die "nginx -t fails already, before any change:$NEWLINE$before" 'put that right first'
  version=$V_home/versions/$(date -u +%Y%m%dT%H%M%SZ)-$$
  cp -R "$rendered" "$version" || { rm -rf "$version"; die "$version could not be written"; }
  was_current=$(readlink "$current" 2>/dev/null) made_entry='' backup='' removed_site='' reloading=''
  if [ "$entry_is" != ours ]; then
    made_entry=yes
    if [ -e "$entry" ] || [ -L "$entry" ]; then backup=$entry.$(date -u +%Y%m%dT%H%M%SZ).backup; fi
  fi
  [ -z "$replaced_site" ] || removed_site=$(readlink "$replaced_site")
  write_journal || { rm -rf "$version"; die "$V_home/journal could not be written"; }
  trap interrupted HUP INT TERM
  [ -z "$backup" ] || mv "$entry" "$backup" || { put_back; die "$entry could not be kept as a backup"; }
  point "$current" "versions/${version##*/}" || { put_back; die "$current could not be changed"; }
  [ -z "$made_entry" ] || point "$entry" "$ENTRY" || { put_back; die "$entry could not be made"; }
  [ -z "$removed_site" ] || rm -f "$replaced_site" || { put_back; die "$replaced_site could not be removed"; }
  judged=$(nginx -T 2>&1) || {
    put_back
    printf '%s\n' "$judged" | grep -e '^nginx: ' -e ' \[emerg\] ' >&2
    die 'nginx refuses the new configuration. Everything is as it was' 'nginx says above what it does not like, and where'
  }
  conflicts=$(find_conflicts)
  [ -z "$conflicts" ] || {
    put_back
    printf '%s\n' "$conflicts" >&2
    die 'another site of this nginx has one of the names already, and would win. Everything is as it was' 'take the name out there (nginx -T shows all files), then run this again'
  }
  case $judged in
    *"# configuration file $entry:"*) ;;
    *)
      put_back
      die "nginx does not read $entry. Everything is as it was" "add to the http block of $configuration: include $etc/conf.d/*.conf;"
      ;;
  esac
  [ -z "$backup" ] || say "kept:     what was in $entry is in $backup"
  [ -z "$removed_site" ] || say "disabled: the distribution's page, $replaced_site (ln -s $removed_site $replaced_site brings it back)"
  [ -z "$was_current" ] || say "kept:     the configuration before this one, in $V_home/$was_current"
  say "written:  $current ($site_count site$([ "$site_count" = 1 ] || printf s))"
  take_up
}

# What nginx says of our names, and more often than before: names of others are not ours to judge.
find_conflicts() {
  { printf '%s\n' "$before"; say '--- after'; printf '%s\n' "$judged"; } | awk -v names="$all_names" '
    /^--- after$/ { after = 1 }
    !/^[0-9a-z][0-9a-z:\/ ]* \[warn\] [0-9#: ]*conflicting server name "/ { next }
    # Without the time, which is always new.
    { sub(/^.*\[warn\] [0-9#: ]*/, "") }
    { split($0, words, "\""); if (!index(names, " " words[2] " ")) next }
    !after { seen[$0]++; next }
    --seen[$0] < 0'
}

workers() { # workers MASTER: its children
  for stat in /proc/[0-9]*/stat; do
    IFS= read -r line 2>/dev/null <"$stat" || continue
    # shellcheck disable=SC2086 # pid (name) state parent ...; a name may have blanks in it
    set -- "${line%% *}" "$1" ${line##*) }
    [ "$4" != "$2" ] || printf '%s\n' "$1"
    set -- "$2"
  done 2>/dev/null
}
is_running() {
  pid_file=$(printf '%s\n' "$about" | sed -n 's/.* --pid-path=\([^ ]*\).*/\1/p')
  named=$(nginx -T 2>/dev/null | sed -n 's/^[ \t]*pid[ \t][ \t]*\([^; ]*\);.*/\1/p' | head -n 1)
  pid_file=${named:-${pid_file:-/run/nginx.pid}}
  master=''
  [ -s "$pid_file" ] || return 1
  read -r master <"$pid_file"
  case $master in '' | *[!0-9]*) return 1 ;; esac
  kill -0 "$master" 2>/dev/null
}

reload_nginx() {
  if [ -d /run/systemd/system ] && systemctl is-active --quiet nginx 2>/dev/null; then
    systemctl reload nginx
  else
    nginx -s reload 2>"$work/reload" || cat "$work/reload" >&2
  fi
}

# nginx answers a reload that it cannot carry out (a port that is taken, say) in its log alone: new workers are what tells.
take_up() {
  if is_running; then
    old=" $(workers "$master" | tr '\n' ' ')"
    reloading=yes
    reload_nginx
    if ! await_workers; then
      put_back
      die 'nginx did not take the new configuration. Everything is as it was' 'its error log says why (/var/log/nginx/error.log, or journalctl -u nginx): is a port taken?'
    fi
    say 'reloaded: nginx'
  else
    say 'nginx is not running: it will read this when it starts'
  fi
  # Nothing is written after the reload, since a disk can be full.
  trap '' HUP INT TERM
  rm -f "$V_home/journal" || { put_back; die "$V_home/journal could not be removed. Everything is as it was"; }
  trap - HUP INT TERM
  prune_versions
}
# The last ten stay, and those that somebody may want to go back to now.
prune_versions() {
  for folder in "$V_home/versions"/*/; do printf '%s\n' "${folder%/}"; done | sort -r | tail -n +11 | while IFS= read -r folder; do
    case versions/${folder##*/} in "$was_current" | "$(readlink "$current")") ;; *) rm -rf "$folder" ;; esac
  done
}
# Until new workers are there and old ones take no connections any more; for some 4 s at most (nginx tries to get a port for 2.5 s).
await_workers() {
  tries=0 came=''
  while [ "$tries" -lt 35 ]; do
    still=''
    for pid in $(workers "$master"); do
      case $old in
        *" $pid "*) grep -q 'shutting down' "/proc/$pid/cmdline" 2>/dev/null || [ ! -e "/proc/$pid" ] || still=yes ;;
        *) came=yes ;;
      esac
    done
    [ -z "$came" ] || [ -n "$still" ] || break
    tries=$((tries + 1))
    sleep 0.1
  done
  [ -n "$came" ]
}

main() {
  problems='' mode=apply remove='' status_port='' certificates=''
  clear_site
  parse "$@"
  new_site=''
  if [ -n "$given" ]; then
    complete_site
    new_site=$site
    [ -z "$remove" ] || problem '--remove goes with no flag of a site'
  fi
  stop_for_problems
  read_nginx
  if [ -n "$remove" ] && [ ! -d "$current/sites/$remove" ]; then
    die "there is no site $remove" "the sites: $(cd "$current/sites" 2>/dev/null && echo *)"
  fi
  # nginx tells its whole configuration to nobody else.
  [ "$mode" = print ] || [ "$(id -u)" = 0 ] || die 'this needs root' "sudo sh $0 ..."
  work=$(mktemp -d) || die 'there is no room for a temporary folder'
  trap 'rm -rf "$work"' EXIT
  [ "$mode" != apply ] || begin_change
  rendered=$work/after
  status_port=${status_port:-$(cat "$current/status-port" 2>/dev/null)}
  status_port=${status_port:-8081}
  is_port "$status_port" || die "$current/status-port is not a port"
  read_others
  render "$rendered"
  [ "$site_count" -gt 0 ] || [ -n "$remove" ] || {
    problem 'there is no site yet: --name and --upstream are missing (--help)'
    stop_for_problems
  }

  if [ "$mode" = print ]; then
    (cd "$rendered" && find . -name '*.conf' | sort | while read -r file; do
      printf '# file: %s/%s\n' "$current" "${file#./}"
      cat "$file"
    done)
    return "$SAME"
  fi

  # Shown before it is changed: also what somebody changed by hand, which stays in the version before.
  mkdir "$work/nothing"
  ln -s "$(cd "$current" 2>/dev/null && pwd -P || printf %s "$work/nothing")" "$work/before"
  entry_is=ours changed=''
  (cd "$work" && diff -ruN before after) >"$work/diff" || changed=yes
  if [ "$mode" = check ] || [ -e "$current" ]; then cat "$work/diff"; fi
  if [ "$(readlink "$entry" 2>/dev/null)" != "$ENTRY" ]; then
    entry_is=other changed=yes
    if [ -f "$entry" ]; then
      say "$entry is not of this program: it will be kept as a backup."
      diff -u "$entry" "$rendered/nginx-ssl.conf"
    fi
  fi
  if [ -n "$replaced_site" ]; then
    changed=yes
    say "$replaced_site, the distribution's page, will be disabled."
  fi
  if [ "$mode" = check ]; then
    [ ! -e "$V_home/journal" ] || { changed=yes; say 'an interrupted run has left its change here; it will be taken back first.'; }
    [ "$changed" = yes ] && return "$DIFFERENT"
    say 'nothing to change'
    return "$SAME"
  fi
  apply
}

main "$@"
