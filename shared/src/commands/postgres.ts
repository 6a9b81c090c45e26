/**
 * Dumps of PostgreSQL that are proven, and the way back: pure.
 *
 * Each table is counted and hashed in the very snapshot that the dump is made of, so that a restored copy must have the same
 * figures although the application goes on writing. No pipeline carries a dump: POSIX sh forgets how its first part ended.
 */
import { createHash } from 'node:crypto';
import type { Command } from '../model/command';
import { Secret } from '../model/secret';
import { script } from '../shell/render';
import { BACKUP_HOST, type Scratch } from './backup-script';

/** A server of the official image's kind, running in a container. */
export interface PostgresTarget {
  /** Its id or name. */
  readonly container: string;
  /** A superuser; as the image's variables say where it is not given. */
  readonly user?: string;
  /** A server that is no container of the project: `container` is then one that {@link startClient} has started. */
  readonly remote?: RemotePostgres;
}

/** A server that is reached over the network: a managed one. */
export interface RemotePostgres {
  readonly host: string;
  readonly port: number;
  readonly password: Secret;
  /** As libpq calls them: `require`, `verify-full`; libpq's own default where it is not given. */
  readonly sslmode?: string;
  /** Where to ask for what is of no database in particular; `postgres` where it is not given. */
  readonly database?: string;
}

/**
 * What is run in the container begins with this: `$1` is the user, `$2` the database; empty for what the image's variables say. Where
 * {@link POSTGRES_HOST} has put the address of a remote server, that is where it goes.
 */
const CONNECT = `[ -z "$POSTGRES_USER_FILE" ] || POSTGRES_USER=$(cat "$POSTGRES_USER_FILE")
[ -z "$POSTGRES_DB_FILE" ] || POSTGRES_DB=$(cat "$POSTGRES_DB_FILE")
[ -z "$POSTGRES_PASSWORD_FILE" ] || POSTGRES_PASSWORD=$(cat "$POSTGRES_PASSWORD_FILE" 2>/dev/null)
unset PGHOST PGHOSTADDR PGSERVICE PGOPTIONS
if [ -e /run/slipway/remote ]; then
  { IFS= read -r PGHOST; IFS= read -r PGPORT; IFS= read -r PGSSLMODE; IFS= read -r POSTGRES_DB; IFS= read -r PGPASSWORD; } </run/slipway/remote
  export PGHOST PGPORT
  if [ -n "$PGSSLMODE" ]; then export PGSSLMODE; else unset PGSSLMODE; fi
fi
PGUSER=\${1:-\${POSTGRES_USER:-postgres}}
PGDATABASE=\${2:-\${POSTGRES_DB:-\${POSTGRES_USER:-postgres}}}
[ -n "$PGPASSWORD" ] || PGPASSWORD=$POSTGRES_PASSWORD
PGAPPNAME=slipway
export PGUSER PGDATABASE PGPASSWORD PGAPPNAME
shift 2
`;

/** SQL as `$1`, then psql's arguments. The names of databases go in as psql's variables, never as text. */
const ASK = `${CONNECT}sql=$1
shift
printf '%s\\n' "$sql" | psql -XAtqw -v ON_ERROR_STOP=1 "$@"`;

/** The same, and psql's `\\set name \`cat <&3\`` has what comes in: what is too long for an argument, or too secret. */
const ASK_WITH = `${CONNECT}exec 3<&0
sql=$1
shift
printf '%s\\n' "$sql" | psql -XAtqw -v ON_ERROR_STOP=1 -v VERBOSITY=terse "$@"`;

const RUN = `${CONNECT}exec "$@"`;

/**
 * What the scripts of PostgreSQL have in common. `sql DATABASE TEXT [ARGUMENTS OF PSQL]` asks the server; `$any` is a database to ask about what is
 * of none in particular. The password of a remote server is in the memory of the helper's container, and nowhere else; who is killed takes it along.
 */
const POSTGRES_HOST = `container=$1 user=$2 remote=$3 ask=$4 tool=$5
shift 5
any=template1
running "$container"
if [ -n "$remote" ]; then
  any=
  docker exec -i "$container" sh -c 'umask 077; cat >/run/slipway/remote' || fail 69 "the helper $container does not take the address of the server (see above): is it still there?"
fi
sql() { run docker exec "$container" sh -c "$ask" slipway "$user" "$@" 6</dev/null; }
leave() { [ -z "$remote" ] || [ "$ended" -lt 128 ] || docker rm -fv "$container" </dev/null >/dev/null 2>&1; }
`;

function postgresScript(target: PostgresTarget, text: string, ...parameters: readonly string[]): Command {
  const { container, user = '', remote } = target;
  const command = script(
    `${BACKUP_HOST}${POSTGRES_HOST}${text}`,
    container,
    user,
    remote === undefined ? '' : 'remote',
    ASK,
    RUN,
    ...parameters,
  );
  if (remote === undefined) return command;
  const { host, port, sslmode = '', database = 'postgres', password } = remote;
  const lines = [host, String(port), sslmode, database, password.reveal()];
  if (lines.some((line) => /[\n\r\0]/.test(line)))
    throw new RangeError('the address and the password of a PostgreSQL server cannot have more than one line');
  return { ...command, stdin: new Secret(`${lines.join('\n')}\n`) };
}

/** How often a helper looks whether somebody uses it, in seconds, and how many times nobody may before it ends: starting one again takes a second. */
const WATCH_SECONDS = 5;
const WATCHES = 6;

/**
 * What the helper's container does: it ends when nothing but itself has run in it for so long. It knows a password, and whoever has started it may be
 * gone. Whoever opens it again says so by a file.
 */
const WATCH = `idle=0
while [ "$idle" -lt "$2" ]; do
  sleep "$1"
  idle=$((idle + 1))
  set -- "$1" "$2" /proc/[0-9]*
  if [ "$#" -gt 3 ] || [ -e /run/slipway/used ]; then
    rm -f /run/slipway/used
    idle=0
  fi
  set -- "$1" "$2"
done`;

/**
 * Starts a container that has nothing but the client programs, for a server that is reached over the network. One of that name that runs is kept.
 *
 * @param scratch its name, and the label by which {@link removeScratch} finds it.
 * @param network of Docker.
 */
export function startClient(image: string, scratch: Scratch, network = 'host'): Command {
  return script(
    `docker exec "$2" sh -c ': >/run/slipway/used' </dev/null >/dev/null 2>&1 && exit
docker rm -fv "$2" >/dev/null 2>&1
docker image inspect "$1" </dev/null >/dev/null 2>&1 || {
  echo "the image $1, for the client programs of PostgreSQL, is not on the server: run \\\`docker pull $1\\\` there." >&2
  exit 69
}
docker run -d --rm --pull never --name "$2" --label "slipway.scratch=$3" --network "$5" --memory "\${4}m" --tmpfs /run/slipway:rw,noexec,nosuid,mode=1777,size=64k --entrypoint sh "$1" -c "$6" slipway "$7" "$8" </dev/null >/dev/null || {
  echo "no container with the client programs could be started from $1 (Docker's own words are above): look whether the disk is full (\\\`df\\\`)." >&2
  exit 69
}`,
    image,
    scratch.name,
    scratch.project,
    String(scratch.memoryMegabytes),
    network,
    WATCH,
    String(WATCH_SECONDS),
    String(WATCHES),
  );
}

/**
 * What a killed `docker exec` has started lives on in the container. But its input ends then, and whoever holds it open dies with
 * us: so `stop`, at the end of the input, interrupts what was started here, by the process group that each exec has of its own.
 * PostgreSQL's own tools cancel their queries on SIGINT. Nothing may be left behind to process 1: the server takes a stranger's
 * death by a signal for a crash of one of its own, and restarts.
 */
const STOPPABLE = `exec 4<&0 </dev/null
trap '' INT
read -r pid name state parent group rest </proc/$$/stat || group=
stop() {
  for try in 1 2 3; do
    [ "$group" = "$$" ] || return 0
    kill -INT 0
    sleep 1
  done
}
`;

/** `$1` is the SQL of a transaction, which is committed when `end` comes in. */
const HOLD = `${CONNECT}${STOPPABLE}{
  printf '%s\\n' "$1"
  read -r word <&4
  if [ "$word" = end ]; then printf 'COMMIT;\\n'; else stop; fi
} | psql -XAtqw -v ON_ERROR_STOP=1`;

/**
 * `$1` is the snapshot. Compressed at gzip's level 4: against the default of 6 that is seven tenths of gzip's time for a file that is 2.5 % larger, and
 * so pays for the proof. Every pg_restore reads it, as it does not zstd.
 */
const DUMP = `${CONNECT}${STOPPABLE}{ read -r word <&4; stop; } &
watch=$!
pg_dump -w -Fc "--snapshot=$1" -Z 4
code=$?
kill "$watch" 2>/dev/null
wait "$watch"
exit "$code"`;

/**
 * How a row looks as text depends on the session, so this fixes it; `row_security` off means that what cannot be seen is an error.
 * Since version 14 a server can notice in the middle of a query that its client is gone.
 */
const SESSION = `SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SET search_path = '';
SET DateStyle = 'ISO, MDY';
SET IntervalStyle = 'postgres';
SET TimeZone = 'UTC';
SET bytea_output = 'hex';
SET extra_float_digits = 3;
SET lc_monetary = 'C';
SET xmloption = 'content';
SET row_security = off;
SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
\\o /dev/null
SELECT set_config('client_connection_check_interval', '2s', false) WHERE current_setting('server_version_num')::int >= 140000;
SELECT set_config('transaction_timeout', '0', false) WHERE current_setting('server_version_num')::int >= 170000;
\\o
`;

/**
 * Tables with content of their own: partitions, but not the tables that they are of; no temporary, foreign or extension's tables; no materialized
 * views, since a dump has their queries and not their content, and those that were stale come back fresh.
 */
const TABLES = `FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (
  SELECT coalesce(string_agg(format('t.%I', attname), ', ' ORDER BY attname COLLATE "C"), '') AS columns
  FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped
) a
WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C"`;

/** A line for each table. The columns go by name, because a column that was added to a parent has another place in the restored child. */
const COUNT = `SELECT format('SELECT json_build_object(''kind'', ''table'', ''schema'', %L::text, ''name'', %L::text, ''rows'', count(*), ''hash'', coalesce(sum(hashtextextended(ROW(%s)::text COLLATE "C", 0)), 0)::text) FROM ONLY %I.%I AS t', n.nspname, c.relname, a.columns, n.nspname, c.relname)
${TABLES} \\gexec
SELECT 'SELECT json_build_object(''kind'', ''largeObjects'', ''rows'', count(DISTINCT m.oid), ''hash'', sum(hashtextextended(concat(m.oid, '' '', p, '' '', encode(lo_get(m.oid, p * 1048576, 1048576), ''hex'')) COLLATE "C", 0))::text) FROM pg_largeobject_metadata m CROSS JOIN LATERAL generate_series(0::bigint, (SELECT coalesce(max(l.pageno), 0) / 512 FROM pg_largeobject l WHERE l.loid = m.oid)::bigint) AS p'
WHERE EXISTS (SELECT FROM pg_largeobject_metadata) \\gexec
`;

const SNAPSHOT = `${SESSION}BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SELECT pg_export_snapshot();
SELECT json_build_object('kind', 'database', 'name', current_database(), 'serverVersion', current_setting('server_version_num')::int);
${COUNT}\\echo counted`;

const COUNT_RESTORED = `${SESSION}BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
${COUNT}COMMIT;
\\echo counted`;

/** Server, tools and databases: for {@link ../backups/postgres.parseDatabases}. */
export function listDatabases(target: PostgresTarget): Command {
  return postgresScript(
    target,
    `run docker exec "$container" sh -c "$tool" slipway "$user" '' pg_dump --version 6</dev/null || fail 69 'the container has no pg_dump: a backup needs an image with the client programs of PostgreSQL, such as the official one.'
sql '' "$1" || fail 69 'PostgreSQL does not say what databases it has (its own words are above): check that it accepts connections, and the user that the backup is made with.'`,
    `SET client_encoding = 'UTF8';
SELECT json_build_object('kind', 'server', 'version', current_setting('server_version_num')::int, 'user', current_user, 'superuser', current_setting('is_superuser') = 'on');
SELECT json_build_object('kind', 'database', 'name', datname, 'bytes', pg_database_size(oid)) FROM pg_database WHERE NOT datistemplate AND datallowconn AND has_database_privilege(oid, 'CONNECT') ORDER BY datname COLLATE "C";`,
  );
}

/**
 * Dumps one database into a file of the server, and accepts only what can be read to its end. Beside it, in `FILE.tables`, stands
 * what every table was in the dump's own snapshot; that is printed, too.
 *
 * @param database the image's own where it is empty.
 * @param file absolute; its folder is there. Nothing has that name before the dump is accepted.
 */
export function dumpDatabase(target: PostgresTarget, database: string, file: string): Command {
  return postgresScript(
    target,
    `hold=$1 dump=$2 statements=$3 database=$4 file=$5
make_work "$file"
version=$(sql "$database" 'SHOW server_version_num') || fail 69 'the database cannot be reached (its own words are above): check its name and the user that the backup is made with.'
[ "$version" -ge 110000 ] || fail 69 'this PostgreSQL is older than 11 and cannot hash its rows: update it, its support has ended.'
mkfifo "$work/hold" "$work/told" "$work/dump" "$work/out" "$work/check" || fail 73 "no named pipe can be made beside $file: is that a file system of Linux?"
docker exec -i "$container" sh -c "$hold" slipway "$user" "$database" "$statements" <"$work/hold" >"$work/told" 2>"$work/hold.err" &
holder=$! clients=$!
exec 3>"$work/hold" 4<"$work/told"
snapshot=
IFS= read -r snapshot <&4
case $snapshot in
  '' | *[!0-9A-F-]*)
    cat "$work/hold.err" >&2
    fail 70 'PostgreSQL gave no snapshot to dump (its own words are above): look at its logs, and try again.'
    ;;
esac
cat <&4 >"$work/answer" 3>&- &
teller=$!
# Read to its end while it is written: afterwards that would take a fifth of the time once more. What is left over keeps tee from a broken pipe.
{
  docker exec -i "$container" pg_restore -f /dev/null 2>"$work/check.err"
  code=$?
  cat >/dev/null
  exit "$code"
} <"$work/check" 3>&- 4<&- &
checker=$!
tee "$work/check" <"$work/out" >"$work/data" 2>"$work/write.err" 3>&- 4<&- &
writer=$!
docker exec -i "$container" sh -c "$dump" slipway "$user" "$database" "$snapshot" <"$work/dump" >"$work/out" 2>"$work/dump.err" 3>&- 4<&- &
dumper=$! clients="$holder $checker $writer $!"
exec 4<&- 5>"$work/dump"
wait "$dumper"
dumped=$?
wait "$writer"
written=$?
wait "$checker"
checked=$?
clients=$holder
exec 5>&-
if [ "$written" != 0 ]; then
  cat "$work/write.err" >&2
  fail 73 'the dump cannot be written (see above), and nothing was kept: look whether the disk is full (\`df\`).'
fi
if [ "$dumped" != 0 ]; then
  cat "$work/dump.err" >&2
  fail 70 "pg_dump failed with exit code $dumped (its own words are above), and nothing was kept: look whether the disk is full (\\\`df\\\`) and whether the server ended the session, and try again."
fi
printf 'end\\n' >&3
exec 3>&-
wait "$holder"
held=$?
clients=
wait "$teller"
if [ "$held" != 0 ] || [ "$(tail -n 1 "$work/answer")" != counted ]; then
  cat "$work/hold.err" >&2
  fail 70 "PostgreSQL could not count the tables of the dump (exit code $held, its own words are above), and nothing was kept: may the user of the backup read every table?"
fi
if [ "$checked" != 0 ]; then
  cat "$work/check.err" >&2
  fail 65 'the dump cannot be read to its end, and was not kept: look whether the disk is full (\`df\`), and try again.'
fi
sum=$(sha256sum "$work/data") && bytes=$(wc -c <"$work/data") || fail 74 'the dump cannot be read back from the disk of the server: look at its logs (\`dmesg\`).'
grep -E '^\\{"kind" : "(table|largeObjects)"' "$work/answer" >"$work/tables"
sync "$work/data" "$work/tables" || :
mv "$work/tables" "$file.tables" && mv "$work/data" "$file" || fail 73 "the dump cannot be given its name, $file: check who may write there."
grep '^{' "$work/answer"
printf '{"kind" : "file", "bytes" : %s, "sha256" : "%s", "seconds" : %s}\\n' "$((bytes))" "\${sum%% *}" "$(($(date +%s) - started))"`,
    HOLD,
    DUMP,
    SNAPSHOT,
    database,
    file,
  );
}

/**
 * Roles, with the hashes of their passwords, and tablespaces: what no dump of a single database has. A managed server shows nobody the
 * hashes; there the roles are without.
 */
export function dumpRoles(target: PostgresTarget, file: string): Command {
  return postgresScript(
    target,
    `file=$1
make_work "$file"
set -- --globals-only
if [ -n "$remote" ]; then
  super=$(sql "$any" 'SHOW is_superuser') || fail 69 'the server cannot be reached (its own words are above): check its address and the user that the backup is made with.'
  [ "$super" = on ] || set -- --globals-only --no-role-passwords -l postgres
fi
run docker exec "$container" sh -c "$tool" slipway "$user" '' pg_dumpall -w "$@" 6</dev/null >"$work/data" || fail 70 'the roles could not be dumped (the own words of pg_dumpall are above): the user of the backup must be a superuser.'
tail -n 12 "$work/data" | grep -q '^-- PostgreSQL database cluster dump complete' || fail 65 'the dump of the roles has no end, and was not kept: look whether the disk is full (\`df\`), and try again.'
sum=$(sha256sum "$work/data") && bytes=$(wc -c <"$work/data") || fail 74 'the dump cannot be read back from the disk of the server: look at its logs (\`dmesg\`).'
sync "$work/data" || :
mv "$work/data" "$file" || fail 73 "the dump cannot be given its name, $file: check who may write there."
printf '{"kind" : "file", "bytes" : %s, "sha256" : "%s", "seconds" : %s}\\n' "$((bytes))" "\${sum%% *}" "$(($(date +%s) - started))"`,
    file,
  );
}

/** What a dump is compared with: the files of {@link dumpDatabase}. */
export interface StoredDump {
  readonly database: string;
  readonly file: string;
  /** Its `FILE.tables`. */
  readonly tables: string;
}

/**
 * `compare WHERE`: the tables that were counted into `$work/answer` against `$tables`. Prints them all; each that differs stands on
 * standard error as well.
 */
/**
 * `restore WORD...`: `run`, behind `make_work`, for what meets the rows of a dump. PostgreSQL quotes those that do not fit: as a detail or
 * the context, with their own line breaks, and as a value behind its own words. Data is nothing for a log, so only lines that begin as
 * messages do are passed on, without such values.
 */
const RESTORE = `restore() {
  run "$@" 2>"$work/words"
  restored=$?
  awk '/^(pg_restore|psql|sh|timeout|ERROR|FATAL|PANIC|WARNING): / || /^psql:[^ ]*: / || /^(Error response from daemon|OCI runtime|error during connect|Cannot connect to the Docker daemon|unexpected EOF)/ {
    sub(/: ".*/, ": (a value, not shown)")
    sub(/value ".*/, "value (not shown)")
    print
  }' "$work/words" >&2
  # Of what was killed there are no words.
  [ "$restored" = 0 ] || echo "it ended with exit code $restored" >&2
  return "$restored"
}
`;

const COMPARE = `compare() {
  [ "$(tail -n 1 "$work/answer")" = counted ] || fail 70 "the tables of $1 were not all counted."
  grep '^{' "$work/answer" >"$work/restored"
  cat "$work/restored"
  cmp -s "$tables" "$work/restored" && return
  { grep -vxF -f "$work/restored" "$tables" | sed 's/^/< /'; grep -vxF -f "$tables" "$work/restored" | sed 's/^/> /'; } | head -n 20 >&2
  fail 65 "$1 differs from the backup (above: < as it was, > as it came back): do not rely on this backup, and make a new one."
}
`;

/**
 * Restores roles and dump into a scratch container and compares each table.
 *
 * @param roles the file of {@link dumpRoles}.
 */
export function proveDump(target: PostgresTarget, dump: StoredDump, roles: string, scratch: Scratch): Command {
  return postgresScript(
    target,
    `${RESTORE}${COMPARE}count=$1 database=$2 file=$3 tables=$4 roles=$5
shift 5
scratch=$1 project=$2 memory=$3 seconds=$4
[ -r "$file" ] && [ -r "$tables" ] && [ -r "$roles" ] || fail 66 "the backup is not complete on the server: $file, $tables and $roles must all be there."
image=$(docker inspect --type container --format '{{.Image}}' "$container") || fail 69 "the image of the container $container is not known: is it still there?"
owner=$(sql "$any" 'SELECT rolname FROM pg_roles WHERE oid = 10') &&
  known=$(sql "$any" "SELECT format('CREATE ROLE %I;', rolname) FROM pg_roles WHERE oid = 10") &&
  # Those of a managed server are its provider's, and not in the image; nor does it tell everybody.
  preload=$([ -n "$remote" ] || sql "$any" 'SHOW shared_preload_libraries') ||
  fail 69 'PostgreSQL does not say how it is set up (its own words are above): check that it accepts connections.'
make_work "$file"
docker rm -fv "$scratch" >/dev/null 2>&1
tidy() {
  docker rm -fv "$scratch" >/dev/null 2>&1
  [ "$ended" -lt 128 ] || { sleep 1; docker rm -fv "$scratch" >/dev/null 2>&1; } || :
}
run docker run -d --pull never --name "$scratch" --label "slipway.scratch=$project" --network none --memory "\${memory}m" --restart no \\
  -e "POSTGRES_USER=$owner" -e POSTGRES_DB=postgres -e POSTGRES_HOST_AUTH_METHOD=trust "$image" \\
  postgres -c fsync=off -c full_page_writes=off -c autovacuum=off -c max_parallel_workers_per_gather=0 -c max_parallel_maintenance_workers=0 -c "shared_preload_libraries=$preload" 6</dev/null >/dev/null ||
  fail 69 "no scratch container could be started from the image of PostgreSQL (Docker's own words are above): look whether the disk is full (\\\`df\\\`)."
until=$(($(date +%s) + seconds))
until docker exec "$scratch" pg_isready -q -h 127.0.0.1 </dev/null 2>/dev/null; do
  state=$(docker inspect --type container --format '{{.State.Running}}' "$scratch")
  if [ "$state" != true ] || [ "$(date +%s)" -ge "$until" ]; then
    docker logs --tail 10 "$scratch" >&2
    fail 70 "the scratch server was not ready within $seconds seconds (its last lines are above): give the proof more memory or time."
  fi
  sleep 0.2
done
unproven() {
  ! docker logs --tail 200 "$scratch" 2>&1 | grep -E '(LOG|ERROR|FATAL|PANIC):  ([^"]*|could not [^:]*: )(No space left on device|terminated by signal|out of memory)|PANIC:  ' >&2 ||
    fail 70 "the scratch server had no room or no memory, so the dump could not be tried (its own words are above): make room on the disk of Docker (\\\`df\\\`), or give the proof more memory."
  state=$(docker inspect --type container --format '{{.State.Running}} {{.State.OOMKilled}}' "$scratch" 2>/dev/null)
  case $state in
    true | 'true false') fail 65 "$1" ;;
    *) fail 70 "the scratch server ended while the dump was restored (running, out of memory: \${state:-it is gone}): give the proof more memory, or look whether the disk is full (\\\`df\\\`)." ;;
  esac
}
restoring=$(date +%s)
grep -vxF -e "$known" "$roles" | grep -v -e '^CREATE TABLESPACE ' -e '^ALTER TABLESPACE ' -e ' ON TABLESPACE ' >"$work/roles"
run docker exec -i "$scratch" sh -c "$tool" slipway "$owner" template1 psql -Xqw -o /dev/null -v ON_ERROR_STOP=1 -v VERBOSITY=terse -f - 6<"$work/roles" || unproven 'the roles of the backup cannot be restored (the own words of PostgreSQL are above): do not rely on this backup, and make a new one.'
restore docker exec -i "$scratch" sh -c "$tool" slipway "$owner" template1 pg_restore -w --exit-on-error --clean --if-exists --create --no-tablespaces -d '' 6<"$file" || unproven 'the dump cannot be restored (the own words of pg_restore are above): do not rely on this backup, and make a new one.'
seconds=$(($(date +%s) - restoring))
run docker exec "$scratch" sh -c "$ask" slipway "$owner" "$database" "$count" 6</dev/null >"$work/answer" || fail 70 'the restored tables cannot be counted (the own words of PostgreSQL are above).'
compare 'the restored database'
printf '{"kind" : "proof", "restoreSeconds" : %s, "seconds" : %s}\\n' "$seconds" "$(($(date +%s) - started))"`,
    COUNT_RESTORED,
    dump.database,
    dump.file,
    dump.tables,
    roles,
    scratch.name,
    scratch.project,
    String(scratch.memoryMegabytes),
    String(scratch.startSeconds),
  );
}

/** The new database is made as the one in service is: owner, encoding, locale, limits. Only superusers may name the usual tablespace. */
const CREATE = `SELECT format('CREATE DATABASE %I OWNER %I TEMPLATE template0 ENCODING %L LC_COLLATE %L LC_CTYPE %L CONNECTION LIMIT %s',
    :'fresh', pg_get_userbyid(d.datdba), pg_encoding_to_char(d.encoding), d.datcollate, d.datctype, d.datconnlimit)
  || CASE WHEN d.dattablespace <> (SELECT dattablespace FROM pg_database WHERE datname = 'template0') THEN format(' TABLESPACE %I', s.spcname) ELSE '' END
  || CASE j ->> 'datlocprovider'
    WHEN 'c' THEN ' LOCALE_PROVIDER libc'
    WHEN 'i' THEN format(' LOCALE_PROVIDER icu ICU_LOCALE %L', coalesce(j ->> 'datlocale', j ->> 'daticulocale'))
      || coalesce(format(' ICU_RULES %L', j ->> 'daticurules'), '')
    WHEN 'b' THEN format(' LOCALE_PROVIDER builtin BUILTIN_LOCALE %L', j ->> 'datlocale')
    ELSE '' END
FROM pg_database d JOIN pg_tablespace s ON s.oid = d.dattablespace CROSS JOIN LATERAL to_jsonb(d) AS j WHERE d.datname = :'live' \\gexec
`;

/** What belongs to a database and not to its content: its settings and who may use it. Each setting in a transaction of its own. */
const COPY_SETTINGS = `\\o /dev/null
SELECT format('BEGIN; SELECT set_config(%L, %L, true); %s SET %I FROM CURRENT; COMMIT', split_part(c, '=', 1), substr(c, strpos(c, '=') + 1),
  CASE s.setrole WHEN 0 THEN format('ALTER DATABASE %I', :'fresh') ELSE format('ALTER ROLE %I IN DATABASE %I', pg_get_userbyid(s.setrole), :'fresh') END,
  split_part(c, '=', 1))
FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase CROSS JOIN LATERAL unnest(s.setconfig) AS c WHERE d.datname = :'live' \\gexec
SELECT format('REVOKE ALL ON DATABASE %I FROM PUBLIC', :'fresh') FROM pg_database WHERE datname = :'live' AND datacl IS NOT NULL \\gexec
SELECT format('GRANT %s ON DATABASE %I TO %s%s', a.privilege_type, :'fresh',
  CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END, CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
FROM pg_database d CROSS JOIN LATERAL aclexplode(d.datacl) AS a WHERE d.datname = :'live' \\gexec
`;

/**
 * Splits SQL of PostgreSQL's own tools into statements, as JSON: the text, its words, and what follows the third word. A quoted name is a word
 * without its quotes and with one `"` before it, so that it is not taken for a keyword. What is in quotes is never taken for anything else, and
 * psql's own commands are left out.
 */
const STATEMENTS = String.raw`function json(text, i, c, out) {
  for (i = 1; i <= length(text); i++) { c = substr(text, i, 1); out = out (c in escape ? escape[c] : c) }
  return "\"" out "\""
}
function word(name) { words = words (count++ ? "," : "") json(name); token = ""; if (count == 3) third = length(text) }
function add(c) { if (text != "" || (c != " " && c != "\n")) text = text c }
BEGIN {
  for (i = 1; i < 32; i++) escape[sprintf("%c", i)] = sprintf("\\u%04x", i)
  escape["\""] = "\\\""
  escape["\\"] = "\\\\"
  printf "["
}
{
  if (quote == "" && substr($0, 1, 1) == "\\") next
  for (i = 1; i <= length($0); i++) {
    c = substr($0, i, 1)
    if (quote == "\"") {
      add(c)
      if (c != "\"") token = token c
      else if (substr($0, i + 1, 1) == "\"") { add(c); token = token c; i++ }
      else { quote = ""; word("\"" token) }
    } else if (quote != "") {
      add(c)
      if (c == quote) quote = ""
    } else if (c ~ /[A-Za-z0-9_]/) {
      add(c)
      token = token c
    } else {
      if (token != "") word(token)
      if (c == "-" && substr($0, i + 1, 1) == "-") break
      if (c == ";") {
        print (any++ ? "," : "") "{\"text\":" json(text) ",\"rest\":" json(third ? substr(text, third + 1) : "") ",\"words\":[" words "]}"
        text = words = ""
        count = third = 0
      } else {
        add(c)
        if (c == "\"" || c == "\047") quote = c
      }
    }
  }
  if (quote == "\"") token = token "\n"
  else if (token != "") word(token)
  add("\n")
}
END { if (text != "" || quote != "") exit 65; print "]" }`;

/** The statements as rows; of `names`, quoted or not, each is what it means. */
const STATEMENT_ROWS = `s AS (
  SELECT n, x ->> 'text' AS text, x ->> 'rest' AS rest, w, ARRAY(SELECT substr(one, 1 + (left(one, 1) = '"')::int) FROM unnest(w) WITH ORDINALITY AS u (one, i) ORDER BY i) AS names
  FROM json_array_elements(:'statements'::json) WITH ORDINALITY AS j (x, n)
  CROSS JOIN LATERAL (SELECT ARRAY(SELECT json_array_elements_text(x -> 'words')) AS w) AS words
)`;

/** Errors must not have the hashes of passwords in them, nor the log of the server. */
const QUIET = `\\o /dev/null
SELECT set_config(name, value, false) FROM (VALUES ('log_statement', 'none'), ('log_min_duration_statement', '-1'), ('log_min_error_statement', 'panic')) AS v (name, value) WHERE current_setting('is_superuser') = 'on';
\\o
SET standard_conforming_strings = on;
SET client_encoding = :'encoding';
\\set statements \`cat <&3\`
`;

/**
 * A role that is there is left as it is. A membership is given where one of the two is new: it is part of both, and a group that comes back
 * without its members would be none.
 */
const MISSING = `WITH ${STATEMENT_ROWS}, missing AS (
  SELECT names[3] AS role FROM s WHERE w[1] = 'CREATE' AND w[2] = 'ROLE' AND NOT EXISTS (SELECT FROM pg_roles WHERE rolname = names[3])
)`;
const CREATE_ROLES = `${QUIET}BEGIN;
${MISSING} SELECT json_build_object('kind', 'roles', 'created', coalesce(json_agg(role ORDER BY role COLLATE "C"), '[]')) FROM missing;
${MISSING} SELECT text FROM s WHERE EXISTS (SELECT FROM missing WHERE role = ANY (CASE
  WHEN w[1] IN ('CREATE', 'ALTER') AND w[2] = 'ROLE' THEN names[3:3]
  WHEN w[1] = 'COMMENT' AND w[3] = 'ROLE' THEN names[4:4]
  WHEN w[1] = 'SECURITY' AND w[6] = 'ROLE' THEN names[7:7]
  WHEN w[1] = 'GRANT' AND w[3] = 'TO' THEN ARRAY[names[2], names[4]]
  WHEN w[1] = 'GRANT' AND 'PARAMETER' = ANY (w) THEN ARRAY[names[array_position(w, 'TO') + 1]]
END)) ORDER BY n \\gexec
COMMIT;`;

/**
 * Creates the roles that the server does not have, with their attributes, passwords, settings and memberships, all or none. Those that it has are left
 * as they are. Answers with the names of the new ones: {@link ../backups/postgres.parseRestoredRoles}.
 *
 * @param file of {@link dumpRoles}.
 */
export function restoreRoles(target: PostgresTarget, file: string): Command {
  return postgresScript(
    target,
    `split=$1 with=$2 create=$3 file=$4
[ -r "$file" ] || fail 66 "the roles of the backup, $file, are not on the server."
tail -n 12 "$file" | grep -q '^-- PostgreSQL database cluster dump complete' || fail 65 "the roles of the backup, $file, are cut off; nothing was changed: take another backup."
encoding=$(sed -n "s/^SET client_encoding = '\\([A-Za-z0-9_-]*\\)';\\$/\\1/p" "$file" | head -n 1)
awk "$split" "$file" | docker exec -i "$container" sh -c "$with" slipway "$user" "$any" "$create" -v "encoding=\${encoding:-UTF8}" || fail 70 'the roles cannot be created (the own words of PostgreSQL are above); nothing was changed: the user of the restore must be a superuser.'`,
    STATEMENTS,
    ASK_WITH,
    CREATE_ROLES,
    file,
  );
}

/** `$1` is the list of the entries that are wanted, by their numbers; the dump comes in. The script of SQL goes out. */
const EXTRACT = `exec 4<&0
printf '%s\\n' "$1" | pg_restore --create -f - -L /dev/fd/3 3<&0 0<&4`;

/** Made as the dump says, under another name. */
const CREATE_AS_DUMPED = `${QUIET}WITH ${STATEMENT_ROWS} SELECT format('CREATE DATABASE %I%s', :'fresh', rest) FROM s WHERE w[1] = 'CREATE' AND w[2] = 'DATABASE' \\gexec
`;

/**
 * Owner, settings, privileges, as the dump says them: of a database that has its name. So it gets it, for one message, which is one transaction:
 * nobody sees that. One that is in the way is put aside meanwhile; it is empty, so its sessions may be ended.
 */
const GIVE_AS_DUMPED = `${QUIET}SET lock_timeout = '5s';
WITH ${STATEMENT_ROWS}, own AS (
  SELECT names[3] AS name, EXISTS (SELECT FROM pg_database WHERE datname = names[3]) AS there FROM s WHERE w[1] = 'CREATE' AND w[2] = 'DATABASE'
)
SELECT concat_ws('; ',
  CASE WHEN there THEN format('SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %1$L AND pid <> pg_backend_pid(); ALTER DATABASE %1$I RENAME TO "slipway-aside"', name) END,
  format('ALTER DATABASE %I RENAME TO %I', :'fresh', name),
  (SELECT string_agg(text, '; ' ORDER BY n) FROM s
    WHERE w[1] IN ('ALTER', 'GRANT', 'REVOKE', 'COMMENT', 'SECURITY', 'RESET') OR w[1] = 'SET' AND w[2] = 'SESSION'),
  format('ALTER DATABASE %I RENAME TO %I', name, :'fresh'),
  CASE WHEN there THEN format('ALTER DATABASE "slipway-aside" RENAME TO %I', name) END)
FROM own \\gexec
`;

/** Of a database that nobody has used yet: the one that the image makes by itself on an empty volume. */
const PRISTINE = `SELECT NOT EXISTS (SELECT FROM pg_class WHERE oid >= 16384)
  AND NOT EXISTS (SELECT FROM pg_database d WHERE datname = current_database() AND (datacl IS NOT NULL OR EXISTS (SELECT FROM pg_db_role_setting WHERE setdatabase = d.oid)))`;

const DROP = `SET client_min_messages = warning;
SELECT format('DROP DATABASE IF EXISTS %I', :'fresh') || CASE WHEN current_setting('server_version_num')::int >= 130000 THEN ' WITH (FORCE)' ELSE '' END \\gexec
`;

/**
 * Restores a dump into a new database beside the one in service, and compares each table. What is in service is not touched. The new database is
 * as the one in service is (owner, encoding, locale, settings, privileges); where there is none, or one that nobody has used yet, as the dump says.
 * It is dropped when anything fails. Answers as {@link ../backups/postgres.parseProof} reads it.
 *
 * @param fresh its name; whatever has it is dropped first. {@link nameFresh}.
 */
export function restoreBeside(target: PostgresTarget, dump: StoredDump, fresh: string): Command {
  mustBe('new', fresh);
  return postgresScript(
    target,
    `${RESTORE}${COMPARE}count=$1 create=$2 copy=$3 drop=$4 pristine=$5 split=$6 with=$7
shift 7
extract=$1 create_as_dumped=$2 give=$3 database=$4 file=$5 tables=$6 fresh=$7
[ -r "$file" ] && [ -r "$tables" ] || fail 66 "the backup is not complete on the server: $file and $tables must both be there."
about() { text=$1; shift; sql "$any" "$text" -v "live=$database" -v "fresh=$fresh" "$@"; }
there=$(about "SELECT count(*) FROM pg_database WHERE datname = :'live'") || fail 69 'PostgreSQL does not say what databases it has (its own words are above): check that it accepts connections.'
# One that cannot be asked is damaged, and was used.
[ "$there" = 0 ] || [ "$(sql "$database" "$pristine" 2>/dev/null)" != t ] || there=0
make_work "$file"
run docker exec -i "$container" pg_restore -f /dev/null 6<"$file" || fail 65 'the dump cannot be read to its end; nothing was changed: take another backup.'
about "$drop" || fail 75 "the unfinished database \\"$fresh\\" of an earlier restore cannot be dropped (see above): end its sessions, and try again."
tidy() { [ -n "$accepted" ] || about "$drop" || say "the unfinished database \\"$fresh\\" is still there: the next restore drops it."; }
if [ "$there" = 0 ]; then
  run docker exec -i "$container" pg_restore -l --create 6<"$file" >"$work/list" || fail 65 'the dump does not say what is in it (see above); nothing was changed: take another backup.'
  entries=$(sed -n -e 's/^\\([0-9]*;\\) [0-9]* [0-9]* DATABASE - .*/\\1/p' -e 's/^\\([0-9]*;\\) [0-9]* [0-9]* DATABASE PROPERTIES - .*/\\1/p' -e 's/^\\([0-9]*;\\) [0-9]* [0-9]* ACL - DATABASE .*/\\1/p' -e 's/^\\([0-9]*;\\) [0-9]* [0-9]* COMMENT - DATABASE .*/\\1/p' -e 's/^\\([0-9]*;\\) [0-9]* [0-9]* SECURITY LABEL - DATABASE .*/\\1/p' "$work/list")
  run docker exec -i "$container" sh -c "$extract" slipway "$entries" 6<"$file" >"$work/sql" && awk "$split" "$work/sql" >"$work/statements" ||
    fail 65 "the dump does not say how its database was made (see above); nothing was changed: create \\"$database\\" with a table in it, whose owner, encoding and settings the restored one then gets."
  encoding=$(sed -n "s/^SET client_encoding = '\\([A-Za-z0-9_-]*\\)';\\$/\\1/p" "$work/sql" | head -n 1)
  as_dumped() { run docker exec -i "$container" sh -c "$with" slipway "$user" "$any" "$1" -v "encoding=\${encoding:-UTF8}" -v "fresh=$fresh" 6<"$work/statements"; }
  as_dumped "$create_as_dumped" || fail 70 'no new database can be made as the dump says (the own words of PostgreSQL are above); nothing was changed: the user of the restore must be a superuser, and the server must know the locale.'
else
  about "$create" || fail 70 'no new database can be made (the own words of PostgreSQL are above); nothing was changed: the user of the restore must be a superuser.'
fi
restore docker exec -i "$container" sh -c "$tool" slipway "$user" "$fresh" pg_restore -w --exit-on-error -d '' 6<"$file" || fail 65 'the dump cannot be restored (the own words of pg_restore are above); the old data is in service, nothing was changed: look whether the disk is full, and whether a role or an extension is missing here.'
sql "$fresh" "$count" >"$work/answer" || fail 70 'the restored tables cannot be counted (the own words of PostgreSQL are above); the old data is in service, nothing was changed.'
compare 'the restored database, which was not put into service,'
if [ "$there" = 0 ]; then
  for try in 1 2 3 4 5; do
    given=1
    as_dumped "$give" >/dev/null 2>"$work/give.err" && break
    given=
  done
  [ -n "$given" ] || { cat "$work/give.err" >&2; fail 70 'the restored database cannot get the owner, settings and privileges that the dump says (see above); nothing was changed: look whether a role is missing.'; }
else
  about "$copy" || fail 70 "the settings and privileges of \\"$database\\" cannot be given to the restored one (see above); the old data is in service, nothing was changed."
fi
restore docker exec "$container" sh -c "$tool" slipway "$user" "$fresh" psql -Xqw -v ON_ERROR_STOP=1 -c ANALYZE 6</dev/null || fail 70 'the restored tables cannot be analyzed (see above); the old data is in service, nothing was changed.'
accepted=1
seconds=$(($(date +%s) - started))
printf '{"kind" : "restored", "restoreSeconds" : %s, "seconds" : %s}\\n' "$seconds" "$seconds"`,
    COUNT_RESTORED,
    CREATE,
    COPY_SETTINGS,
    DROP,
    PRISTINE,
    STATEMENTS,
    ASK_WITH,
    EXTRACT,
    CREATE_AS_DUMPED,
    GIVE_AS_DUMPED,
    dump.database,
    dump.file,
    dump.tables,
    fresh,
  );
}

/** Of a database that takes the name of another. */
export interface Swap {
  readonly database: string;
  /** The restored one: {@link restoreBeside}. */
  readonly fresh: string;
  /** What the one in service is called from then on: {@link nameKept}. */
  readonly kept: string;
}

const SWAPS = `swaps AS (
  SELECT n, x ->> 'database' AS database, x ->> 'fresh' AS fresh, x ->> 'kept' AS kept, x ->> 'was' AS was,
    EXISTS (SELECT FROM pg_database WHERE datname = x ->> 'database') AS there,
    EXISTS (SELECT FROM pg_database WHERE datname = x ->> 'fresh') AS restored,
    EXISTS (SELECT FROM pg_database WHERE datname = x ->> 'kept') AS aside
  FROM json_array_elements(:'swaps'::json) WITH ORDINALITY AS j (x, n)
)`;

const CHECK_SWAPS = `WITH ${SWAPS} SELECT coalesce(
  (SELECT 'missing ' || fresh FROM swaps WHERE NOT restored ORDER BY n LIMIT 1),
  (SELECT 'kept ' || kept FROM swaps WHERE aside ORDER BY n LIMIT 1), 'ready')`;

/** How many of the restored databases have not gone live. */
const UNSWAPPED = `WITH ${SWAPS} SELECT count(*) FROM swaps WHERE restored OR NOT there`;

/** The name of a session that renames. The time is bounded, because who connects to the databases waits meanwhile. */
const RENAMING = `SET application_name = 'slipway-swap';
SET statement_timeout = 0;
SET lock_timeout = '5s';
`;

/**
 * All names in one message, which is one transaction: there is no moment without a database of that name. Who connects meanwhile waits for its end.
 * Sessions are ended just before the rename, so that hardly one can come in between; where one does, it is tried again. Within a transaction
 * the list of sessions stays as it was first read, unless it is cleared.
 */
const END_SESSIONS =
  'SELECT pg_stat_clear_snapshot(); SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname IN (%L, %L) AND pid <> pg_backend_pid()';

const SWAP = `${RENAMING}WITH ${SWAPS} SELECT string_agg(concat_ws('; ',
  format('${END_SESSIONS}', database, fresh),
  CASE WHEN there THEN format('ALTER DATABASE %I RENAME TO %I', database, kept) END,
  format('ALTER DATABASE %I RENAME TO %I', fresh, database)), '; ' ORDER BY n) FROM swaps \\gexec
`;

/** The other way round: what was restored becomes an unfinished one again. */
const SWAP_BACK = `${RENAMING}WITH ${SWAPS} SELECT string_agg(concat_ws('; ',
  format('${END_SESSIONS}', database, kept),
  CASE WHEN there THEN format('ALTER DATABASE %I RENAME TO %I', database, was) END,
  format('ALTER DATABASE %I RENAME TO %I', kept, database)), '; ' ORDER BY n) FROM swaps WHERE aside HAVING count(*) > 0 \\gexec
`;

const FORCE = `CASE WHEN current_setting('server_version_num')::int >= 130000 THEN ' WITH (FORCE)' ELSE '' END`;

const DROP_FRESH = `SET client_min_messages = warning;
WITH ${SWAPS} SELECT format('DROP DATABASE IF EXISTS %I', fresh) || ${FORCE} FROM swaps WHERE restored ORDER BY n \\gexec
`;

const NOT_BACK = `WITH ${SWAPS} SELECT count(*) FROM swaps WHERE restored OR aside`;

/** `docker exec` may be dead while its psql is still renaming: `settle` ends that, and afterwards what the names are is what they stay. */
const SETTLE = `settle() {
  for try in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    busy=$(sql "$any" "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'slipway-swap' AND pid <> pg_backend_pid()") || return
    [ "$busy" != 0 ] || return 0
    sleep 0.5
  done
  return 75
}
`;

function renderSwaps(swaps: readonly Swap[]): string {
  for (const { fresh, kept } of swaps) {
    mustBe('new', fresh);
    mustBe('kept', kept);
  }
  return JSON.stringify(swaps.map(({ database, fresh, kept }) => ({ database, fresh, kept, was: nameWas(fresh) })));
}

/**
 * Gives restored databases the names of those in service, which are kept under other names: all of them, or none. The sessions of those in service are
 * ended. Where there is none of that name, the restored one just gets it. Where it fails, nothing has happened; where it is killed, it may have,
 * and {@link swapBack} makes that undone. Answers as {@link ../backups/postgres.parseSwapped} reads it.
 */
export function swapDatabases(target: PostgresTarget, swaps: readonly Swap[]): Command {
  return postgresScript(
    target,
    `${SETTLE}check=$1 swap=$2 unswapped=$3 swaps=$4
state=$(sql "$any" "$check" -v "swaps=$swaps") || fail 69 'PostgreSQL does not say what databases it has (its own words are above): check that it accepts connections.'
case $state in
  ready) ;;
  missing*) fail 66 "there is no restored database \\"\${state#missing }\\"; nothing was changed: restore again." ;;
  *) fail 75 "there is a database \\"\${state#kept }\\" from an earlier restore already; nothing was changed: drop it when nobody needs it any more." ;;
esac
for try in 1 2 3 4 5; do
  if problem=$(sql "$any" "$swap" -v "swaps=$swaps" 2>&1 >/dev/null); then accepted=1; break; fi
  # Its end may have come after the swap's.
  if settle && [ "$(sql "$any" "$unswapped" -v "swaps=$swaps")" = 0 ]; then accepted=1; break; fi
done
[ -n "$accepted" ] || fail 75 "$problem
the sessions of the databases in service do not end, so the restored ones could not take their names (see above); the old data is in service: stop the application, and restore again."
printf '{"kind" : "swapped", "seconds" : %s}\\n' "$(($(date +%s) - started))"`,
    CHECK_SWAPS,
    SWAP,
    UNSWAPPED,
    renderSwaps(swaps),
  );
}

/**
 * The way back from {@link swapDatabases}, whether it has happened, was killed or is still under way. Where a database is kept it gets its name back, and
 * the restored one stays as {@link nameWas} says: somebody may have written into it. One that has not gone live is dropped. Can be repeated. A restored
 * database that took nobody's name has nothing to go back to, and stays.
 */
export function swapBack(target: PostgresTarget, swaps: readonly Swap[]): Command {
  return postgresScript(
    target,
    `${SETTLE}back=$1 drop=$2 left=$3 swaps=$4
settle || fail 69 'PostgreSQL does not say who is connected (its own words are above): check that it accepts connections, and try again.'
for try in 1 2 3 4 5; do
  sql "$any" "$drop" -v "swaps=$swaps" && sql "$any" "$back" -v "swaps=$swaps" >/dev/null
  [ "$(sql "$any" "$left" -v "swaps=$swaps")" != 0 ] || exit 0
done
fail 75 'the old databases could not get their names back (see above); they are kept: stop the application, and try again.'`,
    SWAP_BACK,
    DROP_FRESH,
    NOT_BACK,
    renderSwaps(swaps),
  );
}

/** Drops every unfinished database that a killed {@link restoreBeside} has left. Not while a restore is under way. */
export function dropUnfinished(target: PostgresTarget): Command {
  return postgresScript(
    target,
    `sql "$any" "$1" || fail 75 'an unfinished database of an earlier restore could not be dropped (see above): end its sessions, and try again.'`,
    `SET client_min_messages = warning;
SELECT format('DROP DATABASE IF EXISTS %I', datname) || ${FORCE} FROM pg_database WHERE starts_with(datname::text, 'slipway-new-') ORDER BY datname \\gexec
`,
  );
}

/** What a restored database is called that was in service and had to go again: somebody may have written into it meanwhile. */
export function nameWas(fresh: string): string {
  mustBe('new', fresh);
  return fresh.replace('slipway-new-', 'slipway-was-');
}

/** PostgreSQL cuts longer names off, and two of them would become one. */
const NAME_BYTES = 63;

/** Where the name of the database does not fit, a few digits of its hash keep it apart from one that begins in the same way. */
function nameAside(kind: 'new' | 'kept', database: string, id: string): string {
  const start = `slipway-${kind}-${id}-`;
  if (Buffer.byteLength(start + database) <= NAME_BYTES) return start + database;
  const end = `-${createHash('sha256').update(database).digest('hex').slice(0, 8)}`;
  let name = start;
  for (const character of database) {
    if (Buffer.byteLength(name + character + end) > NAME_BYTES) break;
    name += character;
  }
  return name + end;
}

/** @throws RangeError for the name of a database that is not ours. */
function mustBe(kind: 'new' | 'kept', name: string): void {
  if (!name.startsWith(`slipway-${kind}-`)) throw new RangeError(`${name} is not the name of a ${kind} database`);
}

/**
 * The name under which a database is kept that a restore has replaced.
 *
 * @param id of the restore or the backup: letters, digits and dashes.
 */
export function nameKept(database: string, id: string): string {
  return nameAside('kept', database, id);
}

/** The name of a restored database until it goes live; {@link nameKept}. */
export function nameFresh(database: string, id: string): string {
  return nameAside('new', database, id);
}

/** Drops a database that {@link swapDatabases} has kept, and no other. */
export function dropKept(target: PostgresTarget, kept: string): Command {
  mustBe('kept', kept);
  return postgresScript(
    target,
    `sql "$any" "$1" -v "fresh=$2" || fail 75 "the kept database \\"$2\\" could not be dropped (see above): end the sessions that use it, and try again."`,
    DROP,
    kept,
  );
}

const COUNT_ROWS = `${SESSION}BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SELECT format('SELECT json_build_object(''kind'', ''rows'', ''schema'', %L::text, ''name'', %L::text, ''rows'', count(*)) FROM ONLY %I.%I', n.nspname, c.relname, n.nspname, c.relname)
${TABLES} \\gexec
SELECT json_build_object('kind', 'counted');
COMMIT;`;

/**
 * How many rows each table has now: {@link ../backups/postgres.parseCounts}. Exit code 66 where there is no such database.
 *
 * @param database the image's own where it is empty.
 */
export function countTables(target: PostgresTarget, database: string): Command {
  return postgresScript(
    target,
    `database=$2
if [ -n "$database" ]; then
  there=$(sql "$any" "SELECT count(*) FROM pg_database WHERE datname = :'live'" -v "live=$database") || fail 69 'PostgreSQL does not say what databases it has (its own words are above): check that it accepts connections.'
  [ "$there" != 0 ] || fail 66 "there is no database \\"$database\\"."
fi
sql "$database" "$1" || fail 70 'the tables cannot be counted (the own words of PostgreSQL are above): may the user read every table?'`,
    COUNT_ROWS,
    database,
  );
}
