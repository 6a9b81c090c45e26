#!/bin/sh
# shellcheck shell=dash
# bootstrap.sh: makes a bare Debian 12/13 or Ubuntu 22.04/24.04 server ready for Slipway. infra/server/README.md says what it
# changes, why, and how to undo it.
#
#   ssh root@server 'sh -s -- --key "ssh-ed25519 AAAA..." --project shop' < bootstrap.sh
#
# Run it again whenever you like: it changes what differs, and nothing else. --check tells what differs and changes nothing.
# Progress goes to standard error; what you need afterwards (or, with --check, what differs) to standard output.
set -eu
umask 022
export LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

usage() {
  cat <<'TEXT'
Usage: bootstrap.sh --key KEY [options]        as root, on the server

  --key KEY              public key of the deploys; "-" reads it from standard input; one a line
  --key-file FILE        the same, from a file on the server
  --user NAME            who deploys (default: deploy)
  --project NAME         makes the folder of a project: a name is ~NAME/apps/<name>, or an absolute path. May be repeated
  --host NAME            how the runner reaches this server, for the known-hosts line (default: this server's address)
  --allow PORT[/udp]     opens a port besides ssh, 80 and 443. May be repeated
  --nginx                installs nginx and certbot, and makes the folders for certificates
  --docker SOURCE        distribution, docker (its own repository), or auto (default: the distribution's if it has Compose v2)
  --docker-repository URL   a mirror of https://download.docker.com/linux
  --swap SIZE            such as 2G; none; or auto (default: as much as memory, at most 2G)
  --no-root-login        refuses root over ssh (otherwise that stays as it is)
  --keep-passwords       leaves password logins on for other users
  --no-firewall          leaves the firewall to somebody else
  --check                tells what differs, and changes nothing
  --help                 this text

The environment does the same where there are no arguments (cloud-init): SLIPWAY_KEY for --key, SLIPWAY_OPTIONS for the others.
Exit codes: 0 ready, or nothing differs; 1 failed; 2 wrong usage; 3 something differs (--check).
TEXT
}

# What Slipway asks of a server; shared/src/server/preflight.ts refuses an older one.
MINIMUM_COMPOSE=2.20.0
# https://docs.docker.com/engine/install/debian/: "Docker Release (CE deb)".
DOCKER_FINGERPRINT=9DC858229FC7DD38854AE2D88D81803C0EBFCD88
# What was written but not yet taken over by its service: so that a run that is interrupted is made whole by the next.
PENDING=/var/lib/slipway-bootstrap/pending

SSHD_FILE=/etc/ssh/sshd_config.d/00-slipway.conf
FIREWALL_FILE=/etc/slipway/firewall.nft
NFTABLES_FILE=/etc/systemd/system/nftables.service.d/slipway.conf
DAEMON_FILE=/etc/docker/daemon.json
NETWORK_DEVICES=/sys/class/net

mode=apply
changes=0
problems=''
scratch=''

# --- words -----------------------------------------------------------------------------------------------------------

say() { printf '%s\n' "$*" >&2; }
note() { say "  note: $*"; }

# die MESSAGE [HINT]
die() {
  say "bootstrap: $1"
  if [ -n "${2-}" ]; then say "  -> $2"; fi
  if [ "$mode" = apply ] && [ "$changes" -gt 0 ]; then
    say "  What was changed before this stays, and is whole. Once this is put right, run the same command again: it goes on from here."
  fi
  exit 1
}

# problem MESSAGE HINT: collected, so that all of them are told at once, before anything is changed.
problem() {
  problems="$problems
bootstrap: $1
  -> $2"
}

stop_on_problems() {
  [ -n "$problems" ] || return 0
  say "${problems#?}"
  say "Nothing was changed."
  exit "$1"
}

# change WHAT: announces a change. True when it is to be made; with --check it is only told and counted.
change() {
  changes=$((changes + 1))
  if [ "$mode" = check ]; then
    printf 'differs: %s\n' "$1"
    return 1
  fi
  say "* $1"
}

has() { command -v "$1" >/dev/null 2>&1; }
is_installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }
is_active() { systemctl is-active --quiet "$1"; }

# is_at_least VERSION MINIMUM
is_at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

# list_ports NUMBER...: each on a line, sorted, each once.
list_ports() { printf '%s\n' "$@" | sed '/^$/d' | sort -un; }
join_lines() { paste -sd , - | sed 's/,/, /g'; }

# --- files and services ----------------------------------------------------------------------------------------------

is_ours() { grep -qs "Slipway's bootstrap.sh" "$1"; }

# put_file FILE MODE NAME WHY: standard input becomes the file, by a rename, where it differs. NAME: who is to take it over
# afterwards (see settle), or "-".
put_file() {
  local new="$scratch/new"
  cat >"$new"
  if [ -f "$1" ] && cmp -s "$new" "$1" && [ "$(stat -c '%a %U' "$1")" = "$2 root" ]; then return 0; fi
  change "$1: $4" || {
    # What somebody else wrote may have passwords in it: daemon.json those of proxies, fstab those of shares.
    if is_ours "$1"; then diff -u "$1" "$new" | sed '1,2d; s/^/    /' || true; fi
    return 0
  }
  mkdir -p "${1%/*}" || die "cannot make the folder ${1%/*}"
  if [ "$3" != - ]; then mark_pending "$3"; fi
  # What was there before us is kept, once.
  if [ -f "$1" ] && [ ! -e "$1.before-slipway" ] && ! is_ours "$1"; then cp -p "$1" "$1.before-slipway" || die "cannot copy $1"; fi
  # Beside its place: a rename within a file system is whole or not at all. No service reads a name that ends so.
  { cp "$new" "$1.slipway-new" && chmod "$2" "$1.slipway-new" && mv -f "$1.slipway-new" "$1"; } || die "cannot write $1"
}

# if_active UNIT: the unit's name; or "-", where it is not running and reads what is new at its start anyway.
if_active() { if is_active "$1"; then echo "$1"; else echo -; fi; }

mark_pending() {
  mkdir -p "$PENDING"
  : >"$PENDING/$1"
}

# settle NAME WHAT COMMAND...: carries the command out if files of that name were written since it was carried out last.
settle() {
  local name="$1" what="$2"
  shift 2
  [ -e "$PENDING/$name" ] || return 0
  change "$what" || return 0
  "$@" >"$scratch/log" 2>&1 || die "$* failed:
$(tail -n 15 "$scratch/log")" "Look at: systemctl status $name; journalctl -u $name -n 30"
  rm -f "$PENDING/$name"
}

# run_unit UNIT: runs now, and after every boot.
run_unit() {
  if systemctl is-enabled --quiet "$1" 2>/dev/null && is_active "$1"; then return 0; fi
  change "$1 runs, now and after each boot" || return 0
  systemctl enable --now "$1" >"$scratch/log" 2>&1 || die "systemctl enable --now $1 failed:
$(tail -n 15 "$scratch/log")" "Look at: systemctl status $1; journalctl -u $1 -n 30"
}

# as_user COMMAND...: for whatever is in the home of the user that deploys, where a link may lead anywhere.
as_user() { setpriv --reuid="$user" --regid="$(id -g "$user")" --init-groups -- "$@"; }

# make_folder FOLDER MODE OWNER. A link to a folder is as good.
make_folder() {
  if [ -d "$1" ] && [ "$(stat -L -c '%a %U %G' "$1")" = "$2 $3 $(id -gn "$3" 2>/dev/null)" ]; then return 0; fi
  change "folder $1, of $3, $2" || return 0
  case $1 in
    "$home"/*)
      { as_user mkdir -p "$1" && as_user chmod "$2" "$1"; } 2>"$scratch/log" ||
        die "the user $3 cannot make the folder $1: $(tail -n 1 "$scratch/log")" "Whose is it? ls -ld $1. If it should be $3's: chown -h $3: $1"
      return 0
      ;;
  esac
  install -d -m "$2" -o "$3" -g "$(id -gn "$3")" "$1" || die "cannot make the folder $1"
}

# --- packages --------------------------------------------------------------------------------------------------------

lists_are_fresh=''

apt() { patiently apt-get -q -y -o DPkg::Lock::Timeout=600 -o Dpkg::Options::=--force-confold -o Acquire::Retries=3 "$@"; }

# patiently COMMAND...: again, while somebody else has the lock that it wants.
patiently() {
  local tries=0
  # needrestart must neither ask nor restart anything.
  until DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 "$@" >"$scratch/apt.log" 2>&1; do
    # The server's own services update its lists at the first boot. apt waits for dpkg's lock (above), and for no other.
    if [ "$tries" -ge 120 ] || ! grep -Eq 'Could not get lock|lock was locked by' "$scratch/apt.log"; then return 1; fi
    if [ "$tries" -eq 0 ]; then note "waiting for another apt to end."; fi
    tries=$((tries + 1))
    sleep 5
  done
}

apt_failed() { die "$1 failed:
$(tail -n 15 "$scratch/apt.log")" "$2"; }

refresh_lists() {
  [ -z "$lists_are_fresh" ] || return 0
  apt update || apt_failed "apt-get update" "Can this server reach the package sources of /etc/apt? Try it: apt-get update"
  lists_are_fresh=1
}

# heal_packages: what an installation that was killed left behind. A program that is unpacked looks as if it were installed.
heal_packages() {
  local halves
  halves=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' | sed -n 's/^\(half-installed\|unpacked\|half-configured\|triggers-[a-z]*\) //p' | join_lines)
  # dpkg's journal: apt does nothing while there is one.
  if [ -z "$halves" ] && [ -z "$(find /var/lib/dpkg/updates -name '[0-9]*' 2>/dev/null)" ]; then return 0; fi
  change "packages that were not installed to the end: ${halves:-dpkg says which}" || return 0
  patiently dpkg --force-confold --configure -a || apt install --fix-broken ||
    apt_failed 'dpkg --configure -a' 'Put that right first.'
}

# install_packages WHY PACKAGE...
install_packages() {
  local why="$1" missing='' package
  shift
  for package; do is_installed "$package" || missing="$missing $package"; done
  [ -n "$missing" ] || return 0
  change "packages:$missing ($why)" || return 0
  refresh_lists
  # shellcheck disable=SC2086 # words
  apt install --no-install-recommends $missing || apt_failed "apt-get install$missing" "Try it by hand: apt-get install$missing"
}

# candidate PACKAGE: the version that apt would install; empty if there is none.
candidate() { apt-cache policy "$1" 2>/dev/null | sed -n 's/^  Candidate: \([0-9].*\)/\1/p'; }

# --- inputs ----------------------------------------------------------------------------------------------------------

key='' key_file='' user=deploy projects='' host='' allowed='' with_nginx='' docker_source=auto swap_size=auto
docker_repository=https://download.docker.com/linux root_login=keep passwords=off firewall=on

read_inputs() {
  local key_given=''
  while [ $# -gt 0 ]; do
    case $1 in
      --key=* | --key-file=* | --user=* | --project=* | --host=* | --allow=* | --docker=* | --docker-repository=* | --swap=*)
        set -- "${1%%=*}" "${1#*=}" "$@"
        # The joined word is now the third: it goes, the two halves stay.
        local name="$1" value="$2"
        shift 3
        set -- "$name" "$value" "$@"
        ;;
    esac
    case $1 in
      --key | --key-file | --user | --project | --host | --allow | --docker | --docker-repository | --swap)
        if [ $# -lt 2 ]; then
          problem "$1 has no value." "See --help."
          shift
          continue
        fi
        ;;
    esac
    case $1 in
      --key) key=$2 key_given=1 && shift ;;
      --key-file) key_file=$2 key_given=1 && shift ;;
      --user) user=$2 && shift ;;
      --project) projects="$projects $(printf '%s' "$2" | tr ' \t\n' '???')" && shift ;;
      --host) host=$2 && shift ;;
      --allow) allowed="$allowed $(printf '%s' "$2" | tr ' \t\n' '???')" && shift ;;
      --docker) docker_source=$2 && shift ;;
      --docker-repository) docker_repository=${2%/} && shift ;;
      --swap) swap_size=$2 && shift ;;
      --nginx) with_nginx=1 ;;
      --no-root-login) root_login=no ;;
      --keep-passwords) passwords=keep ;;
      --no-firewall) firewall=off ;;
      --check) mode=check ;;
      --help | -h) usage && exit 0 ;;
      *) problem "There is no option $1." "See --help." ;;
    esac
    shift
  done
  if [ -z "$key_given" ]; then key=${SLIPWAY_KEY-}; fi
}

# judge_inputs: every wrong input becomes a problem.
judge_inputs() {
  local word
  { expr "x$user" : 'x[a-z_][a-z0-9_-]\{0,31\}$' >/dev/null && [ "$user" != root ]; } ||
    problem "--user $user is no usable name for the user that deploys." "Use a-z, 0-9, _ and -, at most 32; not root."
  set -f
  for word in $projects; do
    case $word in
      */./* | */. | */../* | */.. | *//* | *[!A-Za-z0-9._/-]*) false ;;
      # Neither / nor a folder of the system itself.
      /*/?*) case $word in /var/*/?*) ;; /var/* | /root/* | /bin/* | /boot/* | /dev/* | /etc/* | /lib*/* | /proc/* | /run/* | /sbin/* | /sys/* | /usr/* | */) false ;; esac ;;
      *) expr "x$word" : 'x[a-z0-9][a-z0-9_-]*$' >/dev/null ;;
    esac || problem "--project $word is neither a project's name nor the absolute path of a folder." \
      "A name has a-z, 0-9, _ and -, as Compose wants it; a path is such as /srv/shop."
  done
  for word in $allowed; do
    case $word in
      */tcp | */udp) is_port "${word%/*}" ;;
      *) is_port "$word" ;;
    esac || problem "--allow $word is no port." "Such as 8443, 8443/tcp or 443/udp."
  done
  set +f
  case $host in
    *[!A-Za-z0-9.:_-]* | -*) problem "--host $host is no host name or address." "Such as shop.example.com, 203.0.113.7 or 2001:db8::7." ;;
  esac
  case $docker_source in auto | distribution | docker) ;; *) problem "--docker $docker_source is not known." "Use auto, distribution or docker." ;; esac
  expr "x$docker_repository" : 'xhttps\{0,1\}://[A-Za-z0-9.:/_-]*$' >/dev/null ||
    problem "--docker-repository $docker_repository is no address." "Such as https://mirror.example.com/docker/linux."
  expr "x$swap_size" : 'x\(auto\|none\|[1-9][0-9]\{0,4\}[MG]\)$' >/dev/null || problem "--swap $swap_size is no size." "Such as 512M or 2G; auto; none."
  judge_key
}

is_port() { expr "x$1" : 'x[1-9][0-9]\{0,4\}$' >/dev/null && [ "$1" -le 65535 ]; }

# judge_key: leaves the keys, one a line without options, in $scratch/keys.
judge_key() {
  local line type number=0
  if [ -n "$key_file" ] && [ -n "$key" ]; then problem "Both --key and --key-file were given." "One of them."; fi
  if [ -n "$key_file" ]; then
    cat -- "$key_file" >"$scratch/given" 2>/dev/null || {
      problem "--key-file $key_file cannot be read." "It is a file on the server, with the public key in it."
      return 0
    }
  elif [ "$key" = - ]; then
    if [ ! -f "$0" ] || [ "${0##*/}" = sh ] || [ "${0##*/}" = dash ] || [ "${0##*/}" = bash ]; then
      problem "--key - reads the key from standard input, but that is where this program itself comes from." \
        "Give the key itself: --key \"\$(cat slipway.pub)\"; or copy the program to the server first."
      return 0
    fi
    cat <&3 >"$scratch/given"
  else
    printf '%s\n' "$key" >"$scratch/given"
  fi
  : >"$scratch/keys"
  # What Windows adds at the ends of lines is nobody's business.
  tr -d '\r' <"$scratch/given" | sed 's/^[[:space:]]*//; s/[[:space:]]*$//; /^#/d; /^$/d' >"$scratch/lines"
  if grep -q 'PRIVATE KEY' "$scratch/lines"; then
    problem "What was given as the key is a private key. It has no business on this server, and has just travelled there." \
      "Make a new pair (ssh-keygen -t ed25519 -N '' -C deploy -f slipway), and give the public half: slipway.pub."
    return 0
  fi
  while IFS= read -r line; do
    number=$((number + 1))
    type=${line%% *}
    case $type in
      ssh-ed25519 | ecdsa-sha2-nistp256 | ecdsa-sha2-nistp384 | ecdsa-sha2-nistp521 | ssh-rsa) ;;
      sk-*)
        # ssh2, by which the actions connect, cannot use it; nobody is there to touch it either.
        problem "The key $number is a hardware key ($type), which a workflow cannot use." "Make one for the deploys: ssh-keygen -t ed25519"
        continue
        ;;
      *)
        problem "The key $number is no public key: it begins with \"$(printf '%.20s' "$type" | tr -cd ' -~')\"." \
          "It is one line of a .pub file, such as: ssh-ed25519 AAAAC3Nz... deploy"
        continue
        ;;
    esac
    printf '%s\n' "$line" >"$scratch/one"
    if ! ssh-keygen -lf "$scratch/one" >"$scratch/print" 2>/dev/null; then
      problem "The key $number ($type) is damaged: ssh-keygen cannot read it." "Was all of the line copied? It is one line of a .pub file."
    elif [ "$type" = ssh-rsa ] && [ "$(cut -d' ' -f1 "$scratch/print")" -lt 2048 ]; then
      problem "The key $number is an RSA key of $(cut -d' ' -f1 "$scratch/print") bits, which sshd refuses." "Make a new one: ssh-keygen -t ed25519"
    else
      cat "$scratch/one" >>"$scratch/keys"
    fi
  done <"$scratch/lines"
  exec 3<&-
  if [ "$number" -eq 0 ]; then
    problem "No key was given." "Make a pair on your own computer (ssh-keygen -t ed25519 -N '' -C deploy -f slipway), then: --key \"\$(cat slipway.pub)\""
  fi
}

# --- facts -----------------------------------------------------------------------------------------------------------

os_id='' os_version='' os_codename='' container='' ssh_ports='' ssh_port='' ssh_address=127.0.0.1 home='' operators='' half_operators=''

read_facts() {
  local ID='' VERSION_ID='' VERSION_CODENAME='' PRETTY_NAME='this system'
  # shellcheck source=/dev/null
  if [ -r /etc/os-release ]; then . /etc/os-release; fi
  os_id=$ID os_version=$VERSION_ID os_codename=$VERSION_CODENAME
  case $os_id in
    debian | ubuntu) ;;
    *) problem "This is $PRETTY_NAME; the bootstrap knows Debian 12, 13 and Ubuntu 22.04, 24.04." "Do by hand what infra/server/README.md lists, or use one of these." ;;
  esac
  [ "$(id -u)" -eq 0 ] || problem "This is the user $(id -un); the bootstrap needs root." "Put sudo before the command: sudo sh bootstrap.sh ..."
  [ -d /run/systemd/system ] || problem "systemd does not run here." "Use a server, or a virtual machine, that was booted as one."
  has sshd || problem "There is no sshd." "Slipway comes over ssh: apt-get install openssh-server"
  has apt-get || problem "There is no apt-get." "The bootstrap installs with apt."
  container=$(systemd-detect-virt --container 2>/dev/null) || container=''
  case $(command -v docker || true) in
    /snap/*) problem "Docker is here as a snap, which keeps its own configuration and cannot mount every folder." "Remove it, with its data if it is not needed: snap remove docker" ;;
  esac
}

# judge_projects: a folder that becomes the user's must be nobody else's, wherever links lead.
judge_projects() {
  local word place own
  own=$(getent passwd "$user" | cut -d: -f6)
  for word in $projects; do
    case $word in /*) ;; *) continue ;; esac
    place=$(realpath -m "$word")
    if getent passwd | awk -F: -v place="$place/" -v own="${own%/}/" '
      { folder = $6; sub("/*$", "/", folder) }
      folder == own { next }
      folder == place { found = 1 }
      ($3 == 0 || $3 >= 1000) && folder != "/" && index(place, folder) == 1 { found = 1 }
      END { exit !found }'; then
      problem "--project $word is somebody else's home, or in it." "Take a folder of its own, such as /srv/shop."
    elif [ -e "$place" ] && [ ! -d "$place" ]; then
      problem "--project $word is no folder." "Take a folder of its own, such as /srv/shop."
    elif [ -d "$place" ] && [ "$(stat -c %U "$place")" != "$user" ] && [ -n "$(ls -A "$place")" ]; then
      problem "--project $word is there already, with files in it, and belongs to $(stat -c %U "$place")." \
        "Take an empty or a new folder. If this is the right one: chown $user: $word"
    fi
  done
}

is_supported() {
  case "$os_id $os_version" in 'debian 12' | 'debian 13' | 'ubuntu 22.04' | 'ubuntu 24.04') ;; *) false ;; esac
}

# sshd wants this folder even for a look; where it is socket-activated, it may not be there.
sshd_asks() {
  local made='' code=0
  if [ ! -d /run/sshd ]; then mkdir /run/sshd && made=1; fi
  sshd "$@" || code=$?
  if [ -n "$made" ]; then rmdir /run/sshd 2>/dev/null || true; fi
  return $code
}

# effective USER CONFIG PORT: what sshd would go by for a login there, in its own words. It wants all that a Match block may ask for.
effective() { sshd_asks -T -C "user=$1,host=localhost,addr=127.0.0.1,laddr=$ssh_address,lport=$3" -f "$2" 2>"$scratch/effective.log"; }
# Ports and host keys, which no Match block can change: any login will do.
effective_everywhere() { effective root /etc/ssh/sshd_config 22; }
setting() { sed -n "s/^$1 //p"; }

# read_ssh_ports: where sshd listens, where it would after its next reload, and where this session came in. Of its processes only the
# first counts: what a session listens on (ssh -R, X11) is not for others.
read_ssh_ports() {
  local first listening=''
  first=$(systemctl show -p MainPID --value ssh.service 2>/dev/null) || first=''
  if [ "${first:-0}" -gt 0 ]; then
    listening=$(ss -Hltnp 2>/dev/null | sed -n "/[(]\"sshd\",pid=$first,/s/^[^ ]* *[^ ]* *[^ ]* *[^ ]*:\([0-9]*\) .*/\1/p")
  fi
  if is_active ssh.socket; then
    listening="$listening $(systemctl show -p Listen --value ssh.socket | sed -n 's/.*:\([0-9]*\) (Stream).*/\1/p; s/^\([0-9]*\) (Stream).*/\1/p')"
  fi
  # With a port each, also where only Port is set.
  listening="$listening $(effective_everywhere | setting listenaddress | sed 's/.*://')"
  ssh_port=$(echo "${SSH_CONNECTION-}" | cut -d' ' -f4)
  # shellcheck disable=SC2086 # words
  ssh_ports=$(list_ports $listening "$ssh_port")
  [ -n "$ssh_ports" ] || problem "It cannot be told on which port sshd listens." "Is it running? systemctl status ssh"
  if [ -z "$ssh_port" ]; then ssh_port=$(echo "$ssh_ports" | head -n 1); fi
}

# read_ssh_address: by which this session reached the server; else the one by which the server goes out.
read_ssh_address() {
  ssh_address=$(echo "${SSH_CONNECTION-}" | cut -d' ' -f3)
  if [ -z "$ssh_address" ]; then ssh_address=$(ip -o route get 192.0.2.1 2>/dev/null | sed -n 's/.* src \([^ ]*\).*/\1/p'); fi
  ssh_address=${ssh_address%%%*}
  if [ -z "$ssh_address" ]; then ssh_address=127.0.0.1; fi
}

# --- who still gets in -------------------------------------------------------------------------------------------------

# matches_list NAME WORD...: as sshd compares AllowUsers, as far as it does not ask for the client's address.
matches_list() {
  local name="$1" pattern
  shift
  set -f
  for pattern; do
    # shellcheck disable=SC2254 # a pattern
    case $name in ${pattern%%@*}) set +f && return 0 ;; esac
  done
  set +f
  return 1
}

# may_log_in USER SETTINGS_FILE: by AllowUsers and its like.
may_log_in() {
  local allow_users deny_users allow_groups deny_groups group found=''
  allow_users=$(setting allowusers <"$2") deny_users=$(setting denyusers <"$2")
  allow_groups=$(setting allowgroups <"$2") deny_groups=$(setting denygroups <"$2")
  # shellcheck disable=SC2086 # words
  if [ -n "$deny_users" ] && matches_list "$1" $deny_users; then return 1; fi
  # shellcheck disable=SC2086
  if [ -n "$allow_users" ] && ! matches_list "$1" $allow_users; then return 1; fi
  for group in $(id -Gn "$1" 2>/dev/null || echo "$1"); do
    # shellcheck disable=SC2086
    if [ -n "$deny_groups" ] && matches_list "$group" $deny_groups; then return 1; fi
    # shellcheck disable=SC2086
    if [ -n "$allow_groups" ] && matches_list "$group" $allow_groups; then found=1; fi
  done
  [ -z "$allow_groups" ] || [ -n "$found" ]
}

# has_key USER SETTINGS_FILE: whether a key that leads to a shell lets the user in. Cloud images put one for root that only tells
# to log in as somebody else.
has_key() {
  local user_home file line
  user_home=$(getent passwd "$1" | cut -d: -f6)
  for file in $(setting authorizedkeysfile <"$2" | sed "s|%h|$user_home|g; s|%u|$1|g; s|%%|%|g"); do
    case $file in none) continue ;; /*) ;; *) file=$user_home/$file ;; esac
    [ -s "$file" ] || continue
    # StrictModes: sshd does not believe what others may write.
    if [ -n "$(find "$user_home" "${file%/*}" "$file" -maxdepth 0 \( -perm /022 -o ! -user root ! -user "$1" \) 2>/dev/null)" ]; then continue; fi
    while IFS= read -r line || [ -n "$line" ]; do
      case $line in '' | '#'* | *command=*) continue ;; esac
      if printf '%s\n' "$line" | ssh-keygen -lf - >/dev/null 2>&1; then return 0; fi
    done <"$file"
  done
  return 1
}

# is_key_enough SETTINGS_FILE: whether one of the lists of AuthenticationMethods asks for nothing besides a key.
is_key_enough() { setting authenticationmethods <"$1" | tr ' ' '\n' | grep -qE '^(any|publickey(:[^,]*)?)$'; }

# Whether it does for somebody who sits at a keyboard, and may go on answering there.
is_key_enough_for_people() {
  if [ "$(setting kbdinteractiveauthentication <"$1")" = yes ]; then
    sed 's/,keyboard-interactive\(:[a-z]*\)\{0,1\}//g; s/keyboard-interactive\(:[a-z]*\)\{0,1\},//g' "$1" >"$scratch/people"
    is_key_enough "$scratch/people"
  else
    is_key_enough "$1"
  fi
}

# read_operators CONFIG PORT: who can administer this server with a key, after the change; and who has one that is not enough.
read_operators() {
  local name candidates
  candidates="root ${SUDO_USER-} $(getent group sudo admin wheel | cut -d: -f4 | tr ',' ' ')"
  # shellcheck disable=SC2086 # words
  for name in $(printf '%s\n' $candidates | sort -u); do
    case $(getent passwd "$name" | cut -d: -f7) in '' | */nologin | */false) continue ;; esac
    effective "$name" "$1" "$2" >"$scratch/settings" || continue
    [ "$(setting pubkeyauthentication <"$scratch/settings")" = yes ] || continue
    if [ "$name" = root ]; then
      case $(setting permitrootlogin <"$scratch/settings") in no | forced-commands-only) continue ;; esac
    fi
    if ! may_log_in "$name" "$scratch/settings" || ! has_key "$name" "$scratch/settings"; then continue; fi
    if is_key_enough_for_people "$scratch/settings"; then operators="$operators $name"; else half_operators="$half_operators $name"; fi
  done
}

# --- sshd ------------------------------------------------------------------------------------------------------------

render_sshd() {
  cat <<TEXT
# Written by Slipway's bootstrap.sh, which writes it anew when it is run again.
# For sshd the first value wins, and files are read in the order of their names: this one comes before 50-cloud-init.conf.
TEXT
  if [ "$passwords" = off ]; then
    cat <<'TEXT'
PasswordAuthentication no
KbdInteractiveAuthentication no
TEXT
  fi
  if [ "$root_login" = no ]; then echo 'PermitRootLogin no'; fi
  cat <<TEXT
PermitEmptyPasswords no
X11Forwarding no
# Of those who have not logged in yet: room for a deploy also while somebody guesses passwords.
LoginGraceTime 30
MaxStartups 30:30:100
# A connection whose other end is gone is ended after a minute. Its lease (30 s) has long let Slipway go back by then.
ClientAliveInterval 15
ClientAliveCountMax 4

Match User $user
  PasswordAuthentication no
  KbdInteractiveAuthentication no
  # Health checks of ports that only the server reaches.
  AllowTcpForwarding yes
  AllowAgentForwarding no
  PermitTunnel no
TEXT
}

# Whether the main file reads our drop-in, before anything that could have the say instead.
is_dropin_first() {
  local dir="${SSHD_FILE%/*}"
  sed -n '/^[[:space:]]*#/d; /^[[:space:]]*$/d; p; q' /etc/ssh/sshd_config |
    grep -Eqi "^[[:space:]]*Include[[:space:]]+(\"?$dir/\\*\\.conf\"?|$dir/00-slipway\\.conf)([[:space:]]|\$)"
}

takes_passwords() {
  local port
  for port in $ssh_ports; do
    if effective root /etc/ssh/sshd_config "$port" | grep -qE '^(password|kbdinteractive)authentication yes'; then return 0; fi
  done
  return 1
}

# plan_sshd: the configuration as it would be, tried as a whole; nothing of it is in force.
plan_sshd() {
  local port
  render_sshd >"$scratch/sshd"
  printf 'Include %s\n' "$scratch/sshd" /etc/ssh/sshd_config >"$scratch/sshd-whole"
  if ! sshd_asks -t -f /etc/ssh/sshd_config 2>"$scratch/log"; then
    problem "sshd refuses its present configuration: $(tail -n 1 "$scratch/log")" "Put that right first: sshd -t"
    return 0
  fi
  if ! sshd_asks -t -f "$scratch/sshd-whole" 2>"$scratch/log"; then
    problem "sshd would refuse the new configuration: $(tail -n 1 "$scratch/log")" "Look for what is odd in /etc/ssh/sshd_config and its folder sshd_config.d."
    return 0
  fi
  for port in $ssh_ports; do
    if ! effective root "$scratch/sshd-whole" "$port" >/dev/null; then
      problem "sshd does not say what it would go by on port $port: $(tail -n 1 "$scratch/effective.log")" \
        "Look for an odd Match block in /etc/ssh: sshd -T -C user=root,host=localhost,addr=127.0.0.1,laddr=$ssh_address,lport=$port"
      return 0
    fi
    read_operators "$scratch/sshd-whole" "$port"
  done
  if [ "$root_login" = no ] || { [ "$passwords" = off ] && takes_passwords; }; then
    [ -n "$operators" ] ||
      problem "Nobody who administers this server could log in any more: neither root$([ "$root_login" = keep ] || echo ' (--no-root-login)') nor a member of the group sudo has a key that works.$(
        # shellcheck disable=SC2086 # words
        [ -z "$half_operators" ] || echo " AuthenticationMethods asks for more than the key of: $(printf '%s\n' $half_operators | sort -u | join_lines)."
      )" \
        "First add yours, and try it: ssh-copy-id root@<this server>. Or leave passwords on: --keep-passwords."
  fi
  if ! effective "$user" "$scratch/sshd-whole" "$ssh_port" >"$scratch/settings"; then
    problem "sshd does not say what it would go by for $user: $(tail -n 1 "$scratch/effective.log")" "Look for an odd Match block in /etc/ssh."
    return 0
  fi
  may_log_in "$user" "$scratch/settings" ||
    problem "sshd lets only some users in (AllowUsers, AllowGroups or DenyUsers), and $user is none of them." "Add $user there, in /etc/ssh."
  [ "$(setting pubkeyauthentication <"$scratch/settings")" = yes ] ||
    problem "sshd takes no public keys (PubkeyAuthentication no)." "Switch that on in /etc/ssh: Slipway logs in with a key."
  is_key_enough "$scratch/settings" ||
    problem "A key is not enough for $user: sshd asks for $(setting authenticationmethods <"$scratch/settings") (AuthenticationMethods)." \
      "Nobody is there to answer. In /etc/ssh, before that line: Match User $user, AuthenticationMethods publickey, Match all."
}

# take_back_sshd: the drop-in as it was before this run; none, where sshd does not take that one either.
take_back_sshd() {
  if [ -f "$scratch/sshd-before" ]; then cp "$scratch/sshd-before" "$SSHD_FILE"; else rm -f "$SSHD_FILE"; fi
  sshd_asks -t 2>/dev/null || rm -f "$SSHD_FILE"
}

secure_sshd() {
  if [ -f "$SSHD_FILE" ]; then cp "$SSHD_FILE" "$scratch/sshd-before"; fi
  put_file "$SSHD_FILE" 644 ssh "$([ "$passwords" = off ] && echo 'no passwords, ')limits that suit deploys" <"$scratch/sshd"
  if ! is_dropin_first; then
    { echo "Include $SSHD_FILE" && cat /etc/ssh/sshd_config; } >"$scratch/sshd_config"
    put_file /etc/ssh/sshd_config "$(stat -c %a /etc/ssh/sshd_config)" ssh "reads $SSHD_FILE before all else (the old one: sshd_config.before-slipway)" <"$scratch/sshd_config"
  fi
  if [ -e "$PENDING/ssh" ] && [ "$mode" = apply ]; then
    # Tried as a whole before; this is for what somebody else changed meanwhile.
    if ! sshd_asks -t 2>"$scratch/log" || { [ "$passwords" = off ] && takes_passwords; }; then
      take_back_sshd
      die "sshd does not take $SSHD_FILE: $(tail -n 1 "$scratch/log"). It is as it was before, and sshd was not reloaded." "Look at: sshd -T | grep -i password"
    fi
  fi
  # Present connections stay, whichever it is (KillMode=process). One that systemd has given its socket loses it with a reload
  # (Debian 13, measured; Ubuntu 24.04 has it so by default), and where it is idle, its next start reads the file.
  settle ssh 'sshd reads its configuration again' systemctl "$(if is_active ssh.socket; then echo try-restart; else echo try-reload-or-restart; fi)" ssh.service
}

# --- the user that deploys ----------------------------------------------------------------------------------------------

make_user() {
  if ! getent passwd "$user" >/dev/null; then
    # "*": no password, and not locked either: sshd without PAM refuses who is locked.
    if change "user $user, without a password"; then
      useradd --create-home --shell /bin/bash --password '*' "$user" 2>"$scratch/log" || die "useradd failed: $(cat "$scratch/log")" \
        "A group $user without a user of that name? See: getent group $user"
    else
      home=/home/$user
    fi
  fi
  if getent passwd "$user" >/dev/null; then
    home=$(getent passwd "$user" | cut -d: -f6)
    if [ -n "$(find "$home" -maxdepth 0 -perm /022)" ]; then
      if change "$home is not writable by others: sshd would not believe the keys in it"; then chmod go-w "$home"; fi
    fi
    case $(getent passwd "$user" | cut -d: -f7) in
      */nologin | */false) if change "user $user has a shell"; then usermod --shell /bin/bash "$user"; fi ;;
    esac
  fi
  if ! id -Gn "$user" 2>/dev/null | tr ' ' '\n' | grep -qx docker; then
    if change "user $user is in the group docker"; then usermod --append --groups docker "$user" || die "cannot add $user to the group docker"; fi
  fi
}

# The keys of the file come to those that are there: of no other it is known whose they are.
admit_keys() {
  local file line blob others added=''
  make_folder "$home/.ssh" 700 "$user"
  file=$home/.ssh/authorized_keys
  : >"$scratch/authorized"
  if [ -f "$file" ]; then as_user cat "$file" >"$scratch/authorized" || die "the user $user cannot read $file" "If it should be theirs: chown -h $user: $file"; fi
  if [ -n "$(tail -c 1 "$scratch/authorized")" ]; then echo >>"$scratch/authorized"; fi
  while IFS= read -r line; do
    blob=$(echo "$line" | cut -d' ' -f2)
    if ! grep -v '^#' "$scratch/authorized" | grep -qF "$blob"; then
      printf '%s\n' "$line" >>"$scratch/authorized"
      added=1
    fi
  done <"$scratch/keys"
  if [ -n "$added" ] || [ "$(stat -L -c '%a %U' "$file" 2>/dev/null)" != "600 $user" ]; then
    if change "$file: the key that deploys"; then
      # shellcheck disable=SC2016 # the other shell's
      as_user sh -c 'umask 077 && rm -f "$1.slipway-new" && cat >"$1.slipway-new" && mv -fT "$1.slipway-new" "$1"' sh "$file" <"$scratch/authorized" ||
        die "cannot write $file"
    fi
  fi
  others=$(grep -cvE '^[[:space:]]*(#|$)' "$scratch/authorized" || true)
  others=$((others - $(wc -l <"$scratch/keys")))
  if [ "$others" -gt 0 ]; then note "$file has $others more key(s), which stay. Remove what you do not know."; fi
}

make_projects() {
  local project
  for project in $projects; do
    case $project in
      /*) make_folder "$project" 755 "$user" ;;
      *)
        make_folder "$home/apps" 755 "$user"
        make_folder "$home/apps/$project" 755 "$user"
        ;;
    esac
  done
}

# --- firewall ----------------------------------------------------------------------------------------------------------

other_firewall=''

# judge_firewall: who has the say already.
judge_firewall() {
  local device member
  if has ufw && ufw status 2>/dev/null | grep -q '^Status: active'; then other_firewall=ufw; fi
  if is_active firewalld; then other_firewall=firewalld; fi
  for device in $({ ip -o route show default && ip -o -6 route show default; } 2>/dev/null | grep -o ' dev [^ ]*' | sort -u | cut -d' ' -f3); do
    case $device in docker* | br-*) problem "The server's own network goes through $device, which is named as Docker's bridges are: the firewall cannot tell them apart." \
      "Rename it (br0, for example), or leave the firewall to somebody else: --no-firewall." ;; esac
  done
  # A real device has a driver, or lies on one that has; what leads to a container has neither.
  for member in "$NETWORK_DEVICES"/docker*/brif/* "$NETWORK_DEVICES"/br-*/brif/*; do
    device=${member%/brif/*} member=${member##*/}
    if [ -e "$NETWORK_DEVICES/$member/device" ] || [ -n "$(find "$NETWORK_DEVICES/$member/" -maxdepth 1 -name 'lower_*' 2>/dev/null)" ]; then
      problem "The network device $member is part of the bridge ${device##*/}, which is named as Docker's are: the firewall would take what comes from there for a container's." \
        "Rename the bridge (br0, for example), or leave the firewall to somebody else: --no-firewall."
    fi
  done
}

# ports PROTOCOL PORT...: what nftables takes as a set.
ports() {
  local protocol="$1" word out=''
  shift
  for word; do
    case $word in */udp) if [ "$protocol" = udp ]; then out="$out ${word%/*}"; fi ;; *) if [ "$protocol" = tcp ]; then out="$out ${word%/*}"; fi ;; esac
  done
  # shellcheck disable=SC2086 # words
  list_ports $out | join_lines
}

render_firewall() {
  local tcp udp published
  # shellcheck disable=SC2086 # words
  {
    tcp=$(ports tcp $ssh_ports 80 443 $allowed)
    published=$(ports tcp 80 443 $allowed)
    udp=$(ports udp $allowed)
  }
  cat <<TEXT
# Written by Slipway's bootstrap.sh, which writes it anew when it is run again. Loaded by slipway-firewall.service.
# One table of its own: nobody else's rules are touched, and whoever rewrites theirs (Docker at each start) does not touch these.
# What one chain drops is dropped, whatever another accepts.
table inet slipway
delete table inet slipway
table inet slipway {
TEXT
  if [ -z "$other_firewall" ]; then
    cat <<TEXT
  # To the server itself.
  chain input {
    type filter hook input priority filter - 5; policy drop;
    ct state established,related accept
    ct state invalid drop
    iif lo accept
    meta l4proto { icmp, ipv6-icmp } accept
    ip6 saddr fe80::/10 udp sport 547 udp dport 546 accept comment "DHCPv6"
    iifname "docker*" accept comment "from containers"
    iifname "br-*" accept
    tcp dport { $tcp } accept
TEXT
    if [ -n "$udp" ]; then echo "    udp dport { $udp } accept"; fi
    echo '  }'
  fi
  cat <<TEXT
  # To containers. Docker rewrites the address of what comes for a published port, and then forwards it: past every rule for the
  # server itself, ufw's too. So published ports are judged here, by the port that was asked for.
  chain forward {
    type filter hook forward priority filter - 5; policy accept;
    ct state established,related accept
    iifname "docker*" accept comment "from containers"
    iifname "br-*" accept
    ct status dnat goto published
    oifname "docker*" drop comment "a container's own address, from a neighbour"
    oifname "br-*" drop
  }
  chain published {
    meta l4proto tcp ct original proto-dst { $published } accept
TEXT
  if [ -n "$udp" ]; then echo "    meta l4proto udp ct original proto-dst { $udp } accept"; fi
  cat <<'TEXT'
    drop
  }
}
TEXT
}

render_firewall_unit() {
  cat <<TEXT
# Written by Slipway's bootstrap.sh.
[Unit]
Description=Slipway's firewall: ssh, HTTP, HTTPS, and what was allowed besides
DefaultDependencies=no
Wants=network-pre.target
Before=network-pre.target docker.service shutdown.target
Conflicts=shutdown.target
# That one flushes all rules when it starts: these come after it, and again with it.
After=nftables.service
PartOf=nftables.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/sbin/nft -f $FIREWALL_FILE
ExecReload=/usr/sbin/nft -f $FIREWALL_FILE
# It may be gone already: who stops nftables.service flushes all rules.
ExecStop=-/usr/sbin/nft delete table inet slipway

[Install]
WantedBy=sysinit.target
TEXT
}

# Both of these flush all rules, ours too, and neither starts our unit anew while it is active.
render_nftables_dropin() {
  cat <<TEXT
# Written by Slipway's bootstrap.sh.
[Service]
ExecStartPost=-/usr/sbin/nft -f $FIREWALL_FILE
ExecReload=-/usr/sbin/nft -f $FIREWALL_FILE
TEXT
}

secure_network() {
  local open
  # shellcheck disable=SC2086 # words
  open="$(ports tcp $ssh_ports 80 443 $allowed)$(ports udp $allowed | sed 's/^./, udp &/')"
  if [ "$firewall" = off ]; then
    if [ -e "$FIREWALL_FILE" ] && change "$FIREWALL_FILE goes, and its rules with it"; then
      systemctl disable --quiet --now slipway-firewall.service 2>"$scratch/log" || die "the firewall cannot be stopped: $(cat "$scratch/log")"
      rm -f "$FIREWALL_FILE" /etc/systemd/system/slipway-firewall.service "$NFTABLES_FILE"
      rmdir "${NFTABLES_FILE%/*}" 2>/dev/null || true
      systemctl daemon-reload
    fi
    note "no firewall, as asked. What Docker publishes is open to everybody, unless it is bound to 127.0.0.1."
    return 0
  fi
  render_firewall >"$scratch/firewall"
  if has nft && ! nft -c -f "$scratch/firewall" 2>"$scratch/log"; then
    die "nftables does not take the firewall: $(head -n 3 "$scratch/log")" \
      "In a container, or with an old kernel, a firewall may be somebody else's business: --no-firewall."
  fi
  put_file "$FIREWALL_FILE" 644 "$(if_active slipway-firewall)" "open: $open; the same holds for what Docker publishes" <"$scratch/firewall"
  render_firewall_unit >"$scratch/unit"
  put_file /etc/systemd/system/slipway-firewall.service 644 systemd 'loads the firewall at boot, before the network' <"$scratch/unit"
  render_nftables_dropin >"$scratch/unit"
  put_file "$NFTABLES_FILE" 644 systemd 'who starts or reloads nftables.service loads the firewall again' <"$scratch/unit"
  settle systemd 'systemd reads its units again' systemctl daemon-reload
  run_unit slipway-firewall.service
  settle slipway-firewall 'the firewall is in force' systemctl reload-or-restart slipway-firewall.service
  if has nft && is_active slipway-firewall.service && ! nft list table inet slipway >/dev/null 2>&1; then
    if change 'the firewall is in force again: somebody has flushed it'; then systemctl restart slipway-firewall.service || die 'the firewall cannot be loaded'; fi
  fi
  if [ -n "$other_firewall" ]; then note "$other_firewall is active, and goes on deciding on the server's own ports: allow $open there. Docker's published ports are decided on here."; fi
}

# --- fail2ban, updates, log, time, swap -----------------------------------------------------------------------------------

render_fail2ban() {
  cat <<TEXT
# Written by Slipway's bootstrap.sh.
[sshd]
enabled = true
# There is no /var/log/auth.log any more, since Debian 12.
backend = systemd
port = $(echo "$ssh_ports" | join_lines | tr -d ' ')
banaction = nftables
maxretry = 5
findtime = 10m
bantime = 10m
bantime.increment = true
bantime.maxtime = 1d
TEXT
}

render_updates() {
  cat <<'TEXT'
// Written by Slipway's bootstrap.sh. What is updated is the distribution's choice: security, in 50unattended-upgrades.
APT::Periodic::Update-Package-Lists "1";
APT::Periodic::Unattended-Upgrade "1";
Unattended-Upgrade::Automatic-Reboot "false";
// An update of Docker restarts it, and with it every container, also in the middle of a deploy. That is done at a quiet time,
// by hand: infra/server/README.md.
Unattended-Upgrade::Package-Blacklist {
  "docker\.io$";
  "docker-ce$";
  "containerd$";
  "containerd\.io$";
};
TEXT
}

# Before the packages come: fail2ban's own defaults do not start on Debian 12.
secure_services() {
  # Not by a pipe: what it changes is counted in this shell.
  render_fail2ban >"$scratch/content"
  put_file /etc/fail2ban/jail.d/slipway.local 644 "$(if_active fail2ban)" 'who fails to log in five times is banned for a while' <"$scratch/content"
  render_updates >"$scratch/content"
  put_file /etc/apt/apt.conf.d/52slipway 644 - 'security updates every day, but for Docker, which would restart' <"$scratch/content"
  if [ -d /etc/needrestart/conf.d ]; then
    put_file /etc/needrestart/conf.d/slipway.conf 644 - 'no update of a library restarts Docker' <<'TEXT'
# Written by Slipway's bootstrap.sh: no update of a library restarts Docker, and with it every container.
$nrconf{override_rc}{qr(^(docker|containerd)\.service$)} = 0;
TEXT
  fi
  put_file /etc/systemd/journald.conf.d/slipway.conf 644 systemd-journald 'the journal takes at most 500 MB' <<'TEXT'
# Written by Slipway's bootstrap.sh.
[Journal]
SystemMaxUse=500M
TEXT
  settle systemd-journald 'journald reads its configuration again' systemctl restart systemd-journald.service
  # shellcheck disable=SC2046 # words
  install_packages 'firewall, bans, updates' ca-certificates nftables fail2ban python3-systemd unattended-upgrades $(needs_jq && echo jq)
  run_unit fail2ban.service
  settle fail2ban 'fail2ban reads its configuration again' systemctl restart fail2ban.service
  run_unit apt-daily.timer
  run_unit apt-daily-upgrade.timer
}

keep_time() {
  local unit
  if [ -n "$container" ]; then
    note "time: this is a container ($container), whose clock is its host's. Skipped."
    return 0
  fi
  for unit in systemd-timesyncd chrony chronyd ntpsec ntp openntpd; do if is_active "$unit.service"; then return 0; fi; done
  install_packages 'the right time: certificates and backups depend on it' systemd-timesyncd
  run_unit systemd-timesyncd.service
}

# write_swap COMMAND...: beside its place, so that /swapfile is never a part of itself.
write_swap() {
  local new=/swapfile.slipway-new
  rm -f "$new"
  case $1 in dd) set -- "$@" "of=$new" ;; *) set -- "$@" "$new" ;; esac
  (umask 077 && "$@") && chmod 600 "$new" && mkswap "$new" && mv "$new" /swapfile && { swapon /swapfile || { rm -f /swapfile && false; }; }
}

make_swap() {
  local size_mb memory_mb free_mb in_use
  if [ -n "$container" ]; then
    note "swap: this is a container ($container), whose swap is its host's. Skipped."
    return 0
  fi
  # Where there is swap, it is somebody else's, but for one of ours whose making was interrupted.
  in_use=$(swapon --noheadings --show=NAME)
  if [ "$swap_size" = none ] || { [ -n "$in_use" ] && [ ! -e "$PENDING/swap" ]; }; then return 0; fi
  memory_mb=$(awk '/^MemTotal:/ {print int($2 / 1024)}' /proc/meminfo)
  case $swap_size in
    auto) size_mb=$((memory_mb < 2048 ? memory_mb : 2048)) ;;
    *G) size_mb=$((${swap_size%G} * 1024)) ;;
    *) size_mb=${swap_size%M} ;;
  esac
  free_mb=$(df -Pm / | awk 'NR == 2 {print $4}')
  if [ ! -e /swapfile ] && [ "$free_mb" -lt $((size_mb + 2048)) ]; then
    note "swap: $free_mb MB are free, too little for $size_mb MB of swap beside what deploys need. Skipped; --swap gives another size."
    return 0
  fi
  change "/swapfile, $size_mb MB" || return 0
  if [ -e /swapfile ] && [ -z "$in_use" ] && ! swapon /swapfile 2>"$scratch/log"; then
    note "swap: /swapfile is there, but cannot be used ($(tail -n 1 "$scratch/log")). Skipped; remove it to have it made anew."
    rm -f "$PENDING/swap"
    return 0
  fi
  mark_pending swap
  # fallocate's blocks are no swap on every file system; then they are written.
  if [ ! -e /swapfile ] && ! { write_swap fallocate -l "${size_mb}M" || write_swap dd if=/dev/zero bs=1M count="$size_mb" status=none; } >"$scratch/log" 2>&1; then
    rm -f /swapfile /swapfile.slipway-new "$PENDING/swap"
    note "swap: not possible here ($(tail -n 1 "$scratch/log")). Skipped; --swap none does not try."
    return 0
  fi
  { grep -v '^/swapfile[[:space:]]' /etc/fstab 2>/dev/null || true; } >"$scratch/fstab"
  echo '/swapfile none swap sw 0 0' >>"$scratch/fstab"
  put_file /etc/fstab 644 - 'swap at each boot' <"$scratch/fstab"
  put_file /etc/sysctl.d/60-slipway.conf 644 sysctl 'swap as a last resort' <<'TEXT'
# Written by Slipway's bootstrap.sh: swap is for what nobody needs, not for what serves.
vm.swappiness = 10
TEXT
  settle sysctl 'the kernel takes that over' sysctl -q -p /etc/sysctl.d/60-slipway.conf
  rm -f "$PENDING/swap"
}

# --- Docker --------------------------------------------------------------------------------------------------------------

# Log rotation, and what a restart of Docker does to containers, said outright: it stops them. Slipway's promise for a boot in the
# middle of a deploy needs that (ARCHITECTURE.md, "Why beside"), and updates do not restart it.
render_daemon() {
  cat <<'TEXT'
{
  "log-driver": "json-file",
  "log-opts": {
    "max-size": "10m",
    "max-file": "3"
  },
  "live-restore": false
}
TEXT
}

# What is there has the last word: ours only fills the gaps.
# shellcheck disable=SC2016 # jq
MERGE='if type != "object" then error("it is no object") else . end
  | if (."log-driver" // "json-file") == "json-file"
    then ."log-driver" = "json-file" | ."log-opts" = ($ours[0]."log-opts" + (."log-opts" // {})) else . end
  | if has("live-restore") then . else . + {"live-restore": false} end'

needs_jq() { [ -s "$DAEMON_FILE" ] && render_daemon >"$scratch/daemon" && ! cmp -s "$scratch/daemon" "$DAEMON_FILE"; }

configure_docker() {
  render_daemon >"$scratch/daemon"
  if needs_jq; then
    if ! has jq; then
      note "$DAEMON_FILE is there already; what it lacks can be told once jq is installed."
      return 0
    fi
    cp "$scratch/daemon" "$scratch/ours"
    jq --slurpfile ours "$scratch/ours" "$MERGE" "$DAEMON_FILE" >"$scratch/daemon" 2>"$scratch/log" ||
      die "$DAEMON_FILE cannot be understood: $(tail -n 1 "$scratch/log")" "Docker does not start with it either. Correct it, or move it away."
    if [ "$(jq -S . "$DAEMON_FILE")" = "$(jq -S . "$scratch/daemon")" ]; then cp "$DAEMON_FILE" "$scratch/daemon"; fi
    if jq -e '."live-restore" == true' "$DAEMON_FILE" >/dev/null; then
      note "$DAEMON_FILE has live-restore, which stays. A server that boots in the middle of a deploy then starts nothing of what was stopped for its successor, until the next deploy."
    fi
  fi
  if has dockerd && dockerd --help 2>/dev/null | grep -q -e --validate && ! dockerd --validate --config-file "$scratch/daemon" >"$scratch/log" 2>&1; then
    die "Docker would not take the new $DAEMON_FILE: $(tail -n 1 "$scratch/log")" "Put right what it says there, then run this again."
  fi
  put_file "$DAEMON_FILE" "$(stat -c %a "$DAEMON_FILE" 2>/dev/null || echo 644)" "$(if_active docker)" 'logs of containers are rotated' <"$scratch/daemon"
}

compose_version() { docker compose version --short 2>/dev/null | sed 's/^v//; s/[-+].*//'; }
is_docker_ready() { has docker && has dockerd && is_at_least "$(compose_version || true)" "$MINIMUM_COMPOSE"; }

# The distribution's packages, if Compose v2 is among them: Debian 13, Ubuntu. Debian 12 has Docker 20.10 and no Compose v2.
distribution_packages() {
  local compose='' cli=''
  [ -n "$(candidate docker.io)" ] || return 0
  if is_at_least "$(candidate docker-compose-v2)" "$MINIMUM_COMPOSE"; then
    compose=docker-compose-v2
  elif is_at_least "$(candidate docker-compose)" "$MINIMUM_COMPOSE"; then
    compose=docker-compose
  fi
  # A package of its own since Debian 13.
  if [ -n "$(candidate docker-cli)" ]; then cli=docker-cli; fi
  if [ -n "$compose" ]; then echo "docker.io $cli $compose iptables"; fi
}

install_docker() {
  local packages
  if ! is_docker_ready; then
    if is_installed docker-ce; then
      packages=docker-compose-plugin
    elif [ "$mode" = check ]; then
      # From where is told by apt's lists, and those are not renewed by a look.
      change "Docker Engine with Compose $MINIMUM_COMPOSE or newer" || return 0
    else
      refresh_lists
      packages=''
      if [ "$docker_source" != docker ]; then packages=$(distribution_packages); fi
      if [ -z "$packages" ]; then
        [ "$docker_source" != distribution ] ||
          die "$os_id $os_version has no Compose $MINIMUM_COMPOSE or newer (docker.io: $(candidate docker.io), docker-compose: $(candidate docker-compose))." "Take Docker's own packages: --docker docker"
        # They conflict: one would go, with every container stopped for it.
        ! is_installed docker.io || die "docker.io $(candidate docker.io) is installed, without Compose $MINIMUM_COMPOSE or newer, which Docker's own packages have." \
          "At a quiet time: apt-get remove docker.io containerd runc (containers stop, their data stays), then run this again."
        add_docker_repository
        packages='docker-ce docker-ce-cli containerd.io docker-compose-plugin docker-buildx-plugin'
      fi
    fi
    # shellcheck disable=SC2086 # words
    install_packages 'Docker Engine and Compose' $packages
    is_docker_ready || die "Docker was installed, but \`docker compose version\` says \"$(compose_version || true)\"; Slipway needs $MINIMUM_COMPOSE or newer." \
      "Is there another one in the way? See: docker info; ls /usr/libexec/docker/cli-plugins /usr/local/lib/docker/cli-plugins"
  fi
  run_unit docker.service
  if [ -e "$PENDING/docker" ]; then
    if [ -n "$(docker ps -q 2>/dev/null)" ]; then
      # It matters to new containers only: nothing that serves is stopped for it.
      note "$DAEMON_FILE is in force from Docker's next start. Containers run, so that is left to you: systemctl restart docker"
      rm -f "$PENDING/docker"
    else
      settle docker 'Docker reads its configuration again' systemctl restart docker.service
    fi
  fi
}

# Updates of Docker are not made by themselves: so they are told.
note_docker_update() {
  local package waiting=''
  for package in docker.io docker-ce containerd containerd.io; do
    if is_installed "$package" && [ "$(dpkg-query -W -f '${Version}' "$package")" != "$(candidate "$package")" ] && [ -n "$(candidate "$package")" ]; then
      waiting="$waiting $package"
    fi
  done
  if [ -n "$waiting" ]; then note "an update of Docker waits for a quiet time, since it restarts every container: apt-get install --only-upgrade$waiting"; fi
}

# Docker's repository: the key is taken only if it is the one that its documentation names.
add_docker_repository() {
  local keyring=/etc/apt/keyrings/docker.asc source=/etc/apt/sources.list.d/docker.sources prints
  install_packages "to fetch Docker's key and look at it" ca-certificates curl gpg
  curl -fsSL --retry 3 -o "$scratch/docker.asc" "$docker_repository/$os_id/gpg" 2>"$scratch/log" ||
    die "Docker's key could not be fetched from $docker_repository/$os_id/gpg: $(tail -n 1 "$scratch/log")" \
      "Has this server a way there? A mirror: --docker-repository URL. Or install Docker with Compose v2 yourself, and run this again."
  prints=$(GNUPGHOME="$scratch" gpg --show-keys --with-colons "$scratch/docker.asc" 2>/dev/null | awk -F: '/^pub/ {want = 1} /^fpr/ && want {print $10; want = 0}')
  [ "$prints" = "$DOCKER_FINGERPRINT" ] ||
    die "The key at $docker_repository/$os_id/gpg has the fingerprint $(echo "${prints:-none}" | join_lines), not Docker's, which is $DOCKER_FINGERPRINT. It was not installed." \
      "Is that address right? If Docker has changed its key, https://docs.docker.com/engine/install/ says so."
  # Not written first and tried then: a source that does not answer ends every apt-get update, also the next run's.
  curl -fsSL --retry 3 -o /dev/null "$docker_repository/$os_id/dists/$os_codename/InRelease" 2>"$scratch/log" ||
    die "Docker's repository has no packages for $os_id $os_codename, or does not answer: $(tail -n 1 "$scratch/log")" \
      "See $docker_repository/$os_id/dists. Or install Docker with Compose v2 yourself, and run this again."
  put_file "$keyring" 644 - "Docker's key, $DOCKER_FINGERPRINT" <"$scratch/docker.asc"
  put_file "$source" 644 - "Docker's repository" <<TEXT
# Written by Slipway's bootstrap.sh.
Types: deb
URIs: $docker_repository/$os_id
Suites: $os_codename
Components: stable
Architectures: $(dpkg --print-architecture)
Signed-By: $keyring
TEXT
  lists_are_fresh=''
  if ! apt update || [ -z "$(candidate docker-ce)" ]; then
    rm -f "$source"
    apt_failed "apt-get update" "Docker's repository was taken away again. Has it packages for $os_id $os_codename? See $docker_repository/$os_id/dists"
  fi
  lists_are_fresh=1
}

# --- nginx ---------------------------------------------------------------------------------------------------------------

# Two cannot listen on one port: who has the router in a container has no use for another on the server.
judge_nginx() {
  local taken
  taken=$(ss -Hltnp '( sport = :80 or sport = :443 )' 2>/dev/null | grep -v '"nginx"' | sed 's/^[^ ]* *[^ ]* *[^ ]* *\([^ ]*\).*users:(("\([^"]*\)".*/\2 on \1/' | sort -u | join_lines)
  [ -z "$taken" ] || problem "--nginx: nginx on the server needs the ports 80 and 443, and another program has them: $taken." \
    "Publish that on another port (127.0.0.1:8080, say) and let nginx proxy to it; or leave --nginx away."
}

install_nginx() {
  [ -n "$with_nginx" ] || return 0
  install_packages 'nginx on the server, and certificates' nginx certbot sudo
  run_unit nginx.service
  # Of root, both: certbot and what hands certificates on run as root, and must not be led elsewhere by a link of somebody else's.
  make_folder /var/www/acme 755 root
  make_folder /etc/slipway/tls 755 root
}

# --- the end ---------------------------------------------------------------------------------------------------------------

# name_server: as a runner would name it, and so known_hosts.
name_server() {
  local address
  address=$host
  if [ -z "$address" ]; then address=$ssh_address; fi
  if [ "$address" = 127.0.0.1 ]; then address=$(hostname); fi
  echo "$address $ssh_port"
}

# list_host_keys NAME: lines of known_hosts, of the keys that sshd shows. One is enough, if it is the modern one.
list_host_keys() {
  local file
  for file in $(effective_everywhere | setting hostkey | sort | sed '/ed25519/!d') $(effective_everywhere | setting hostkey | sed '/ed25519/d'); do
    [ -r "$file.pub" ] || continue
    printf '%s %s\n' "$1" "$(cut -d' ' -f1,2 "$file.pub")"
    case $file in *ed25519*) return 0 ;; esac
  done
}

report() {
  local address port name project
  # shellcheck disable=SC2046 # words
  set -- $(name_server)
  address=$1 port=$2 name=$1
  if [ "$port" != 22 ]; then name="[$address]:$port"; fi
  cat <<TEXT
This server is ready for Slipway. Where the deploys' key is, with GH_REPO=you/shop set or in a checkout of your application's
repository (or in the browser: Settings, Secrets and variables, Actions):

gh secret set SSH_KEY < slipway     # the private half of $(ssh-keygen -lf "$scratch/keys" | cut -d' ' -f2 | join_lines)
gh variable set SSH_KNOWN_HOSTS <<'END'
$(list_host_keys "$name")
END
gh secret set APP_ENV < app.env     # NAME=value, of each secret variable of your Compose file, if it has any

In the step of action-deploy:

  host: $address
TEXT
  if [ "$port" != 22 ]; then printf '  port: %s\n' "$port"; fi
  if [ "$user" != deploy ]; then printf '  user: %s\n' "$user"; fi
  # shellcheck disable=SC2016 # GitHub's expressions
  printf '  %s\n' 'ssh-key: ${{ secrets.SSH_KEY }}' 'known-hosts: ${{ vars.SSH_KNOWN_HOSTS }}'
  for project in $projects; do
    case $project in /*) printf '  path: %s\n' "$project" ;; *) printf '  project: %s\n' "$project" ;; esac
  done
  if [ -z "$host" ]; then note "$address is how this server knows itself. If a runner reaches it by another name or address, put that in its place (--host)."; fi
  note_docker_update
  if [ -e /run/reboot-required ]; then note "an update waits for a reboot, at a quiet time."; fi
}

main() {
  scratch=$(mktemp -d /tmp/slipway-bootstrap.XXXXXX)
  trap 'rm -rf "$scratch"' EXIT
  trap 'exit 129' HUP
  trap 'exit 130' INT
  trap 'exit 143' TERM

  if [ $# -eq 0 ]; then
    set -f
    # shellcheck disable=SC2086 # words
    set -- ${SLIPWAY_OPTIONS-}
    set +f
  fi
  read_inputs "$@"
  judge_inputs
  stop_on_problems 2
  read_facts
  stop_on_problems 1
  is_supported || note "$os_id $os_version: this was made for Debian 12, 13 and Ubuntu 22.04, 24.04."
  read_ssh_ports
  read_ssh_address
  plan_sshd
  judge_projects
  if [ "$firewall" = on ]; then judge_firewall; fi
  if [ -n "$with_nginx" ]; then judge_nginx; fi
  stop_on_problems 1

  if [ "$mode" = apply ]; then
    exec 9>/run/slipway-bootstrap.lock
    flock -n 9 || die "Another bootstrap is under way here." "Wait for its end."
  fi

  heal_packages
  secure_services
  secure_network
  configure_docker
  install_docker
  make_user
  admit_keys
  make_projects
  secure_sshd
  keep_time
  make_swap
  install_nginx

  if [ "$mode" = check ]; then
    note_docker_update
    if [ "$changes" -gt 0 ]; then
      say "$changes differ. Nothing was changed: the same command without --check changes them."
      exit 3
    fi
    say "Nothing differs: this server is ready."
    exit 0
  fi
  if [ "$changes" -eq 0 ]; then say "Nothing differed; nothing was changed."; fi
  report
}

# The last line: what came only in part (a connection that broke) does nothing. Nothing that is started here reads the rest of the
# program from standard input; the key may come from there.
main "$@" 3<&0 </dev/null
