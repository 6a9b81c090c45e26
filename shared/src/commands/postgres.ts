/**
 * Dumps of PostgreSQL that are proven, and the way back: pure.
 *
 * Each table is counted and hashed in the very snapshot that the dump is made of, so that a restored copy must have the same
 * figures although the application goes on writing. No pipeline carries a dump: POSIX sh forgets how its first part ended.
 */
import type { Command } from '../model/command';
import { script } from '../shell/render';
import { BACKUP_HOST, type Scratch } from './backup-script';

/** A server of the official image's kind, running in a container. */
export interface PostgresTarget {
  /** Its id or name. */
  readonly container: string;
  /** A superuser; as the image's variables say where it is not given. */
  readonly user?: string;
}

/** What is run in the container begins with this: `$1` is the user, `$2` the database; empty for what the image's variables say. */
const CONNECT = `[ -z "$POSTGRES_USER_FILE" ] || POSTGRES_USER=$(cat "$POSTGRES_USER_FILE")
[ -z "$POSTGRES_DB_FILE" ] || POSTGRES_DB=$(cat "$POSTGRES_DB_FILE")
[ -z "$POSTGRES_PASSWORD_FILE" ] || POSTGRES_PASSWORD=$(cat "$POSTGRES_PASSWORD_FILE" 2>/dev/null)
PGUSER=\${1:-\${POSTGRES_USER:-postgres}}
PGDATABASE=\${2:-\${POSTGRES_DB:-\${POSTGRES_USER:-postgres}}}
[ -n "$PGPASSWORD" ] || PGPASSWORD=$POSTGRES_PASSWORD
PGAPPNAME=slipway
export PGUSER PGDATABASE PGPASSWORD PGAPPNAME
unset PGHOST PGHOSTADDR PGSERVICE PGOPTIONS
shift 2
`;

/** SQL as `$1`, then psql's arguments. The names of databases go in as psql's variables, never as text. */
const ASK = `${CONNECT}sql=$1
shift
printf '%s\\n' "$sql" | psql -XAtqw -v ON_ERROR_STOP=1 "$@"`;

const RUN = `${CONNECT}exec "$@"`;

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

/** `$1` is the snapshot. */
const DUMP = `${CONNECT}${STOPPABLE}{ read -r word <&4; stop; } &
watch=$!
pg_dump -w -Fc "--snapshot=$1"
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
 * A line for each table with content of its own: partitions, but not the tables that they are of; no temporary, foreign or extension's tables;
 * no materialized views, since a dump has their queries and not their content, and those that were stale come back fresh. The
 * columns go by name, because a column that was added to a parent has another place in the restored child.
 */
const COUNT = `SELECT format('SELECT json_build_object(''kind'', ''table'', ''schema'', %L::text, ''name'', %L::text, ''rows'', count(*), ''hash'', coalesce(sum(hashtextextended(ROW(%s)::text COLLATE "C", 0)), 0)::text) FROM ONLY %I.%I AS t', n.nspname, c.relname, a.columns, n.nspname, c.relname)
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (
  SELECT coalesce(string_agg(format('t.%I', attname), ', ' ORDER BY attname COLLATE "C"), '') AS columns
  FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped
) a
WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C" \\gexec
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
  return script(
    `${BACKUP_HOST}running "$3"
run docker exec "$3" sh -c "$2" slipway "$4" '' pg_dump --version 6</dev/null || fail 69 'the container has no pg_dump: a backup needs an image with the client programs of PostgreSQL, such as the official one.'
run docker exec "$3" sh -c "$1" slipway "$4" '' "$5" 6</dev/null || fail 69 'PostgreSQL does not say what databases it has (its own words are above): check that it accepts connections, and the user that the backup is made with.'`,
    ASK,
    RUN,
    target.container,
    target.user ?? '',
    `SET client_encoding = 'UTF8';
SELECT json_build_object('kind', 'server', 'version', current_setting('server_version_num')::int, 'user', current_user, 'superuser', current_setting('is_superuser') = 'on');
SELECT json_build_object('kind', 'database', 'name', datname, 'bytes', pg_database_size(oid)) FROM pg_database WHERE NOT datistemplate AND datallowconn ORDER BY datname COLLATE "C";`,
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
  return script(
    `${BACKUP_HOST}hold=$1 dump=$2 sql=$3 ask=$4 container=$5 user=$6 database=$7 file=$8
running "$container"
make_work "$file"
version=$(docker exec "$container" sh -c "$ask" slipway "$user" "$database" 'SHOW server_version_num' </dev/null) || fail 69 'the database cannot be reached (its own words are above): check its name and the user that the backup is made with.'
[ "$version" -ge 110000 ] || fail 69 'this PostgreSQL is older than 11 and cannot hash its rows: update it, its support has ended.'
mkfifo "$work/hold" "$work/told" "$work/dump" || fail 73 "no named pipe can be made beside $file: is that a file system of Linux?"
docker exec -i "$container" sh -c "$hold" slipway "$user" "$database" "$sql" <"$work/hold" >"$work/told" 2>"$work/hold.err" &
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
docker exec -i "$container" sh -c "$dump" slipway "$user" "$database" "$snapshot" <"$work/dump" >"$work/data" 2>"$work/dump.err" 3>&- 4<&- &
dumper=$! clients="$holder $!"
exec 4<&- 5>"$work/dump"
wait "$dumper"
dumped=$?
clients=$holder
exec 5>&-
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
run docker exec -i "$container" pg_restore -f /dev/null 6<"$work/data" || fail 65 'the dump cannot be read to its end, and was not kept: look whether the disk is full (\`df\`), and try again.'
sum=$(sha256sum "$work/data") && bytes=$(wc -c <"$work/data") || fail 74 'the dump cannot be read back from the disk of the server: look at its logs (\`dmesg\`).'
grep -E '^\\{"kind" : "(table|largeObjects)"' "$work/answer" >"$work/tables"
sync "$work/data" "$work/tables" || :
mv "$work/tables" "$file.tables" && mv "$work/data" "$file" || fail 73 "the dump cannot be given its name, $file: check who may write there."
grep '^{' "$work/answer"
printf '{"kind" : "file", "bytes" : %s, "sha256" : "%s", "seconds" : %s}\\n' "$((bytes))" "\${sum%% *}" "$(($(date +%s) - started))"`,
    HOLD,
    DUMP,
    SNAPSHOT,
    ASK,
    target.container,
    target.user ?? '',
    database,
    file,
  );
}

/** Roles, with the hashes of their passwords, and tablespaces: what no dump of a single database has. */
export function dumpRoles(target: PostgresTarget, file: string): Command {
  return script(
    `${BACKUP_HOST}container=$2 file=$4
running "$container"
make_work "$file"
run docker exec "$container" sh -c "$1" slipway "$3" '' pg_dumpall -w --globals-only 6</dev/null >"$work/data" || fail 70 'the roles could not be dumped (the own words of pg_dumpall are above): the user of the backup must be a superuser.'
tail -n 12 "$work/data" | grep -q '^-- PostgreSQL database cluster dump complete' || fail 65 'the dump of the roles has no end, and was not kept: look whether the disk is full (\`df\`), and try again.'
sum=$(sha256sum "$work/data") && bytes=$(wc -c <"$work/data") || fail 74 'the dump cannot be read back from the disk of the server: look at its logs (\`dmesg\`).'
sync "$work/data" || :
mv "$work/data" "$file" || fail 73 "the dump cannot be given its name, $file: check who may write there."
printf '{"kind" : "file", "bytes" : %s, "sha256" : "%s", "seconds" : %s}\\n' "$((bytes))" "\${sum%% *}" "$(($(date +%s) - started))"`,
    RUN,
    target.container,
    target.user ?? '',
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
  return script(
    `${BACKUP_HOST}${COMPARE}ask=$1 run=$2 count=$3 container=$4 user=$5
shift 5
database=$1 file=$2 tables=$3 roles=$4
shift 4
scratch=$1 project=$2 memory=$3 seconds=$4
running "$container"
[ -r "$file" ] && [ -r "$tables" ] && [ -r "$roles" ] || fail 66 "the backup is not complete on the server: $file, $tables and $roles must all be there."
image=$(docker inspect --type container --format '{{.Image}}' "$container") || fail 69 "the image of the container $container is not known: is it still there?"
owner=$(docker exec "$container" sh -c "$ask" slipway "$user" template1 'SELECT rolname FROM pg_roles WHERE oid = 10' </dev/null) &&
  known=$(docker exec "$container" sh -c "$ask" slipway "$user" template1 "SELECT format('CREATE ROLE %I;', rolname) FROM pg_roles WHERE oid = 10" </dev/null) &&
  preload=$(docker exec "$container" sh -c "$ask" slipway "$user" template1 'SHOW shared_preload_libraries' </dev/null) ||
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
restoring=$(date +%s)
grep -vxF -e "$known" "$roles" | grep -v -e '^CREATE TABLESPACE ' -e '^ALTER TABLESPACE ' -e ' ON TABLESPACE ' >"$work/roles"
run docker exec -i "$scratch" sh -c "$run" slipway "$owner" template1 psql -Xqw -o /dev/null -v ON_ERROR_STOP=1 -f - 6<"$work/roles" || fail 65 'the roles of the backup cannot be restored (the own words of PostgreSQL are above): do not rely on this backup, and make a new one.'
run docker exec -i "$scratch" sh -c "$run" slipway "$owner" template1 pg_restore -w --exit-on-error --clean --if-exists --create --no-tablespaces -d '' 6<"$file" || fail 65 'the dump cannot be restored (the own words of pg_restore are above): do not rely on this backup, and make a new one.'
seconds=$(($(date +%s) - restoring))
run docker exec "$scratch" sh -c "$ask" slipway "$owner" "$database" "$count" 6</dev/null >"$work/answer" || fail 70 'the restored tables cannot be counted (the own words of PostgreSQL are above).'
compare 'the restored database'
printf '{"kind" : "proof", "restoreSeconds" : %s, "seconds" : %s}\\n' "$seconds" "$(($(date +%s) - started))"`,
    ASK,
    RUN,
    COUNT_RESTORED,
    target.container,
    target.user ?? '',
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

/** The new database is made as the one in service is: owner, encoding, locale, limits. */
const CREATE = `SELECT format('CREATE DATABASE %I OWNER %I TEMPLATE template0 ENCODING %L LC_COLLATE %L LC_CTYPE %L TABLESPACE %I CONNECTION LIMIT %s',
    :'fresh', pg_get_userbyid(d.datdba), pg_encoding_to_char(d.encoding), d.datcollate, d.datctype, s.spcname, d.datconnlimit)
  || CASE j ->> 'datlocprovider'
    WHEN 'c' THEN ' LOCALE_PROVIDER libc'
    WHEN 'i' THEN format(' LOCALE_PROVIDER icu ICU_LOCALE %L', coalesce(j ->> 'datlocale', j ->> 'daticulocale'))
      || coalesce(format(' ICU_RULES %L', j ->> 'daticurules'), '')
    WHEN 'b' THEN format(' LOCALE_PROVIDER builtin BUILTIN_LOCALE %L', j ->> 'datlocale')
    ELSE '' END
FROM pg_database d JOIN pg_tablespace s ON s.oid = d.dattablespace CROSS JOIN LATERAL to_jsonb(d) AS j WHERE d.datname = :'live' \\gexec
`;

/** What belongs to a database and stands in no dump of it: its settings and who may use it. Each setting in a transaction of its own. */
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
 * Both names in one transaction: there is no moment without a database of that name. Who connects meanwhile waits for its end.
 * The sessions are ended by the same message, so that hardly one can come in between; where one does, it is tried again.
 */
const SWAP = `SELECT format('SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname IN (%1$L, %2$L) AND pid <> pg_backend_pid(); ALTER DATABASE %1$I RENAME TO %3$I; ALTER DATABASE %2$I RENAME TO %1$I', :'live', :'fresh', :'kept') \\gexec
`;

const DROP = `SET client_min_messages = warning;
SELECT format('DROP DATABASE IF EXISTS %I', :'fresh') || CASE WHEN current_setting('server_version_num')::int >= 130000 THEN ' WITH (FORCE)' ELSE '' END \\gexec
`;

/**
 * Restores a dump into a new database, compares each table, and only then gives it the name of the one in service, which is kept
 * under another name. Until that one moment the old data is in service, whatever dies.
 *
 * @param fresh the name of the new database until then; whatever has it is dropped first.
 * @param kept the name of the old one from then on; {@link nameKept}.
 */
export function restoreDatabase(target: PostgresTarget, dump: StoredDump, fresh: string, kept: string): Command {
  return script(
    `${BACKUP_HOST}${COMPARE}ask=$1 run=$2 count=$3 create=$4 copy=$5 swap=$6 drop=$7
shift 7
container=$1 user=$2 database=$3 file=$4 tables=$5 fresh=$6 kept=$7
shift 7
running "$container"
[ -r "$file" ] && [ -r "$tables" ] || fail 66 "the backup is not complete on the server: $file and $tables must both be there."
sql() { run docker exec "$container" sh -c "$ask" slipway "$user" template1 "$1" -v "live=$database" -v "fresh=$fresh" -v "kept=$kept" 6</dev/null; }
there=$(sql "SELECT (SELECT count(*) FROM pg_database WHERE datname = :'live') || ' ' || (SELECT count(*) FROM pg_database WHERE datname = :'kept')") || fail 69 'PostgreSQL does not say what databases it has (its own words are above): check that it accepts connections.'
case $there in
  '1 0') ;;
  0*) fail 66 "there is no database \\"$database\\" to take the place of: create an empty one (\\\`createdb\\\`), which says the owner, the encoding and the locale." ;;
  *) fail 75 "there is a database \\"$kept\\" from an earlier restore already: drop it when nobody needs it any more." ;;
esac
make_work "$file"
run docker exec -i "$container" pg_restore -f /dev/null 6<"$file" || fail 65 'the dump cannot be read to its end; nothing was changed: take another backup.'
sql "$drop" || fail 75 "the unfinished database \\"$fresh\\" of an earlier restore cannot be dropped (see above): end its sessions, and try again."
tidy() { [ -n "$accepted" ] || sql "$drop" || say "the unfinished database \\"$fresh\\" is still there: the next restore drops it."; }
sql "$create" || fail 70 'no new database can be made (the own words of PostgreSQL are above); nothing was changed: the user of the restore must be a superuser.'
run docker exec -i "$container" sh -c "$run" slipway "$user" "$fresh" pg_restore -w --exit-on-error -d '' 6<"$file" || fail 65 'the dump cannot be restored (the own words of pg_restore are above); the old data is in service, nothing was changed: look whether the disk is full, and whether a role or an extension is missing here.'
run docker exec "$container" sh -c "$ask" slipway "$user" "$fresh" "$count" 6</dev/null >"$work/answer" || fail 70 'the restored tables cannot be counted (the own words of PostgreSQL are above); the old data is in service, nothing was changed.'
compare 'the restored database, which was not put into service,'
sql "$copy" || fail 70 "the settings and privileges of \\"$database\\" cannot be given to the restored one (see above); the old data is in service, nothing was changed."
run docker exec "$container" sh -c "$run" slipway "$user" "$fresh" psql -Xqw -v ON_ERROR_STOP=1 -c ANALYZE 6</dev/null || fail 70 'the restored tables cannot be analyzed (see above); the old data is in service, nothing was changed.'
seconds=$(($(date +%s) - started))
for try in 1 2 3 4 5; do
  if sql "$swap" >/dev/null 2>"$work/swap.err"; then accepted=1; break; fi
done
if [ -z "$accepted" ]; then
  cat "$work/swap.err" >&2
  fail 75 "the sessions of \\"$database\\" do not end, so the restored one could not take its name (see above); the old data is in service: stop the application, and restore again."
fi
printf '{"kind" : "restored", "restoreSeconds" : %s, "seconds" : %s}\\n' "$seconds" "$(($(date +%s) - started))"`,
    ASK,
    RUN,
    COUNT_RESTORED,
    CREATE,
    COPY_SETTINGS,
    SWAP,
    DROP,
    target.container,
    target.user ?? '',
    dump.database,
    dump.file,
    dump.tables,
    fresh,
    kept,
  );
}

/** PostgreSQL cuts longer names off, and two of them would become one. */
const NAME_BYTES = 63;

/**
 * The name under which a database is kept that a restore has replaced.
 *
 * @param id of the restore or the backup: letters, digits and dashes.
 */
export function nameKept(database: string, id: string): string {
  const start = `slipway-kept-${id}-`;
  let name = start;
  for (const character of database) {
    if (Buffer.byteLength(name + character) > NAME_BYTES) break;
    name += character;
  }
  return name;
}

/** Drops a database that {@link restoreDatabase} has kept, and no other. */
export function dropKept(target: PostgresTarget, kept: string): Command {
  if (!kept.startsWith('slipway-kept-')) throw new RangeError(`${kept} is not the name of a kept database`);
  return script(
    `${BACKUP_HOST}running "$3"
run docker exec "$3" sh -c "$1" slipway "$4" template1 "$2" -v "fresh=$5" 6</dev/null || fail 75 "the kept database \\"$5\\" could not be dropped (see above): end the sessions that use it, and try again."`,
    ASK,
    DROP,
    target.container,
    target.user ?? '',
    kept,
  );
}
