/** What is said to a server about certificates. Pure: nothing runs here. */
import type { Command } from '../model/command';
import { script } from '../shell/render';
import { SECTION_FUNCTION } from './sections';

/** The one program that needs root: shared/src/tls/slipway-tls.sh. */
export const TLS_PROGRAM_PATH = '/usr/local/sbin/slipway-tls';
/** A line for each ACME directory that root allows beside those of Let's Encrypt. */
export const AUTHORITIES_PATH = '/etc/slipway/acme-servers';
/** Below it, by the certificate's name, is what nginx reads. */
export const PUBLISHED_FOLDER = '/etc/slipway/tls';

const QUESTIONS = `${SECTION_FUNCTION}
certificate=$2
shift 2
program=${TLS_PROGRAM_PATH}
account() { id -u; id -un; }
installed() { [ ! -r "$program" ] || sha256sum "$program" | cut -d' ' -f1; }
# Without a password: nobody is there to type one.
unlimited() { [ "$(id -u)" = 0 ] || sudo -n sh -c true; }
# (Whoever is root may; what there is of it says which one it is.)
allowed() { if [ "$(id -u)" != 0 ]; then sudo -n "$program" version; elif [ -x "$program" ]; then "$program" version; fi; }
clock() { date +%s; }
# An address of a container's network leads nobody here.
addresses() { ip -o addr show scope global | awk '$2 !~ /^(docker|br-|veth)/ { sub("/.*", "", $4); print $4 }'; }
system() { . /etc/os-release; printf '%s\\n%s\\n' "$ID" "$PRETTY_NAME"; }
certbot_version() { ! command -v certbot >/dev/null || certbot --version 2>&1; }
timers() {
  [ -d /run/systemd/system ] || return 0
  systemctl list-unit-files --no-legend --type=timer '*certbot*.timer' | while read -r unit rest; do
    printf '%s %s\\n' "$(systemctl is-active "$unit" || :)" "$unit"
  done
}
published() { [ ! -e "${PUBLISHED_FOLDER}/$certificate/current/fullchain.pem" ] || cat "${PUBLISHED_FOLDER}/$certificate/current/fullchain.pem"; }
seen() {
  for domain; do
    { getent ahostsv4 "$domain"; getent ahostsv6 "$domain"; } | awk -v name="$domain" '$2 == "STREAM" && $1 !~ /^::ffff:/ { print name, $1 }'
  done
}
http_port() { cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk '$4 == "0A" && $2 ~ /:0050$/ { print "taken"; exit }'; }
section account account
section installed installed
section unlimited unlimited
section allowed allowed
section clock clock
section addresses addresses
section system system
section certbot certbot_version
section timers timers
section published published
section seen seen "$@"
section http-port http_port
`;

/**
 * What can be asked without root, in one round trip.
 *
 * @param token random, not guessable by what the server prints
 */
export function readCertificateHost(token: string, name: string, domains: readonly string[]): Command {
  return script(QUESTIONS, token, name, ...domains);
}

/** How root's part is run: as root, or through sudo. */
export type Privilege = 'root' | 'sudo';

function withPrivilege(privilege: Privilege, [program, ...rest]: readonly [string, ...string[]]): Command['words'] {
  return privilege === 'root' ? [program, ...rest] : ['sudo', '-n', program, ...rest];
}

/** One verb of slipway-tls with its words. */
export function runTlsProgram(privilege: Privilege, verb: string, words: readonly string[], stdin?: string): Command {
  const command = { words: withPrivilege(privilege, [TLS_PROGRAM_PATH, verb, ...words]) };
  return stdin === undefined ? command : { ...command, stdin };
}

/** Needs all of root. The program changes by one rename. */
export function installTlsProgram(privilege: Privilege, text: string): Command {
  const { words } = script(
    `set -eu
umask 022
mkdir -p "\${1%/*}"
cat > "$1.new"
chown 0:0 "$1.new"
chmod 755 "$1.new"
sync "$1.new"
mv "$1.new" "$1"`,
    TLS_PROGRAM_PATH,
  );
  return { words: withPrivilege(privilege, words), stdin: text };
}

/** Needs all of root. From then on slipway-tls orders from these ACME directories, too. */
export function allowAuthorities(privilege: Privilege, urls: readonly string[]): Command {
  const { words } = script(
    `set -eu
umask 022
file=$1
shift
mkdir -p "\${file%/*}"
for url; do grep -qxF -e "$url" "$file" 2>/dev/null || printf '%s\\n' "$url" >> "$file"; done`,
    AUTHORITIES_PATH,
    ...urls,
  );
  return { words: withPrivilege(privilege, words) };
}

/** Puts the program where its user can show it to root. Says where. */
export function offerTlsProgram(text: string): Command {
  return {
    ...script(
      'set -eu; umask 022; cat > "$HOME/slipway-tls.new"; mv "$HOME/slipway-tls.new" "$HOME/slipway-tls"; printf %s "$HOME/slipway-tls"',
    ),
    stdin: text,
  };
}

export interface Order {
  readonly name: string;
  readonly domains: readonly string[];
  readonly server: string;
  readonly email: string;
  readonly keyType: 'ecdsa' | 'rsa';
  readonly profile: string;
  readonly challenge: 'webroot' | 'standalone';
  readonly webroot: string;
}

/**
 * The words of the verb `obtain`.
 *
 * @param replaced fingerprint of the certificate that is to be replaced although it may be good; empty: a good one stays
 */
export function renderOrder(order: Order, how: 'rehearse' | 'obtain', replaced = ''): readonly string[] {
  return [
    order.name,
    `server=${order.server}`,
    `domains=${order.domains.join(',')}`,
    `key=${order.keyType}`,
    `challenge=${order.challenge}`,
    ...(order.challenge === 'webroot' ? [`webroot=${order.webroot}`] : []),
    ...(order.email === '' ? [] : [`email=${order.email}`]),
    ...(order.profile === '' ? [] : [`profile=${order.profile}`]),
    ...(how === 'rehearse' ? ['try=dry'] : replaced === '' ? [] : [`replace=${replaced}`]),
  ];
}
