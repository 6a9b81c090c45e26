/**
 * Snapshots of Redis that are proven, and the way back: pure.
 *
 * A snapshot is one file with a checksum over all of it, and `redis-check-rdb` counts what is in it: those figures are exact, while those of
 * the running server move on.
 */
import type { Command } from '../model/command';
import { Secret } from '../model/secret';
import { script } from '../shell/render';
import { AFTERWARDS, AT_BOOT, BACKUP_HOST, type Scratch } from './backup-script';

/** A server of the official image's kind, running in a container. */
export interface RedisTarget {
  /** Its id or name. */
  readonly container: string;
  /** Of the access control list; the default user where it is not given. */
  readonly user?: string;
  /** 6379 where it is not given. */
  readonly port?: number;
  /** The variable of the container that has the password, or with `_FILE` behind it the file; REDIS_PASSWORD where it is not given. */
  readonly passwordVariable?: string;
  /** Where the container does not have it. Travels on standard input only. */
  readonly password?: Secret;
}

/** What is run in the container begins with this. The first line of its input is the password, or empty; `$1` to `$3` are user, port and variable. */
const CONNECT = `user=$1 port=$2 variable=$3
shift 3
IFS= read -r given
[ -z "$given" ] || REDISCLI_AUTH=$given
if [ -z "$REDISCLI_AUTH" ]; then
  eval "from=\\\${\${variable}_FILE-} REDISCLI_AUTH=\\\${$variable-}"
  [ -z "$from" ] || REDISCLI_AUTH=$(cat "$from")
fi
if [ -n "$REDISCLI_AUTH" ]; then export REDISCLI_AUTH; else unset REDISCLI_AUTH; fi
cli() {
  if [ -n "$user" ]; then redis-cli -h 127.0.0.1 -p "$port" --user "$user" "$@"; else redis-cli -h 127.0.0.1 -p "$port" "$@"; fi
}
answer=$(cli PING 2>&1)
case $answer in
  *PONG*) ;;
  *NOAUTH* | *WRONGPASS* | *"invalid password"*)
    echo "Redis wants another password than the one that $variable of the container has, or that was given: set the right one." >&2
    exit 77
    ;;
  *NOPERM*) echo 'the user of the backup may not do this in Redis: give it the permissions +ping +info +config|get +psync +sync +replconf.' >&2; exit 77 ;;
  *LOADING*) echo 'Redis is still loading its data: try again in a while.' >&2; exit 75 ;;
  *) printf '%s\\n' "$answer" >&2; echo "Redis does not answer on port $port of its container (its own words are above): look at its logs." >&2; exit 69 ;;
esac
`;

const ASK = `${CONNECT}cli "$@"`;

/**
 * Writes a snapshot where there is room in the container, then prints it: redis-cli appends 40 bytes to one that it prints itself. What a
 * killed `docker exec` has started lives on, but its input ends, and then all of its process group is ended from within; the shell is the last.
 */
const DUMP = `${CONNECT}exec 4<&0 </dev/null
umask 077
read -r pid name state parent group rest </proc/$$/stat || group=
stopped=
trap 'stopped=1' TERM
{ trap '' TERM; read -r word <&4; [ "$group" != "$$" ] || kill -TERM 0; } >/dev/null 2>&1 &
watch=$!
stoppable() {
  "$@" &
  pid=$!
  wait "$pid"
  code=$?
  [ -z "$stopped" ] || wait "$pid"
  return "$code"
}
end() {
  code=$1
  [ -z "$file" ] || rm -f "$file"
  [ -z "$stopped" ] || code=143
  kill -KILL "$watch"
  wait "$watch" 2>/dev/null
  exit "$code"
}
code=73 file=
for folder in /tmp "$(cli CONFIG GET dir 2>/dev/null | tail -n 1)" /dev/shm; do
  case $folder in /*) [ -d "$folder" ] && [ -w "$folder" ] || continue ;; *) continue ;; esac
  file=$folder/slipway-$$.rdb
  if [ -n "$user" ]; then set -- --user "$user"; else set --; fi
  if stoppable redis-cli -h 127.0.0.1 -p "$port" "$@" --rdb "$file" >&2; then
    stoppable cat "$file"
    end "$?"
  fi
  rm -f "$file"
  [ -z "$stopped" ] || break
done
end "$code"`;

/**
 * What the scripts of Redis have in common. `ask WORD...` talks to the running server, `figures FILE` sets what is in a snapshot, `loaded INFO`
 * says whether a server has all of it; what has expired since is not in it any more.
 */
const REDIS_HOST = `container=$1 user=$2 port=$3 variable=$4 given=$5 talk=$6
shift 6
password=
[ -z "$given" ] || IFS= read -r password
ask() {
  printf '%s\\n' "$password" | docker exec -i "$container" sh -c "$talk" slipway "$user" "$port" "$variable" "$@" | tr -d '\\r'
}
must_answer() {
  printf '%s\\n' "$password" | docker exec -i "$container" sh -c "$talk" slipway "$user" "$port" "$variable" INFO server >/dev/null || exit
}
# Keys may be secrets, and have line breaks.
figures() {
  run docker exec -i "$container" redis-check-rdb /dev/stdin 6<"$1" >"$work/check" || { grep -E '^(\\[|---)' "$work/check" | grep -v 'Reading key' | tail -n 8 >&2; return 65; }
  keys=$(sed -n 's/^\\[info\\] \\([0-9]*\\) keys read.*/\\1/p' "$work/check")
  expires=$(sed -n 's/^\\[info\\] \\([0-9]*\\) expires.*/\\1/p' "$work/check")
  [ -n "$keys" ] && [ -n "$expires" ]
}
info_value() { sed -n "s/^$2:\\([0-9]*\\).*/\\1/p" "$1"; }
keyspace() { sed -n "s/^db\\([0-9]*\\):keys=\\([0-9]*\\),expires=\\([0-9]*\\).*/{\\"kind\\" : \\"keyspace\\", \\"when\\" : \\"$2\\", \\"database\\" : \\1, \\"keys\\" : \\2, \\"expires\\" : \\3}/p" "$1"; }
sum_keys() {
  sum=0
  for one in $(sed -n 's/^db[0-9]*:keys=\\([0-9]*\\).*/\\1/p' "$1"); do sum=$((sum + one)); done
}
loaded() {
  there=$(info_value "$1" rdb_last_load_keys_loaded) gone=$(info_value "$1" rdb_last_load_keys_expired)
  if [ -n "$there" ] && [ -n "$gone" ]; then
    [ "$((there + gone))" = "$keys" ]
  else
    sum_keys "$1"
    there=$sum
    [ "$sum" -le "$keys" ] && [ "$sum" -ge "$((keys - expires))" ]
  fi
}
`;

/** The scratch server of a proof or a restore: `up SECONDS` waits until it has loaded its data. It has no password and no network. */
const SCRATCH_HOST = `up() {
  until=$(($(date +%s) + $1))
  until [ "$(docker exec "$scratch" redis-cli -h 127.0.0.1 PING </dev/null 2>/dev/null)" = PONG ]; do
    case $(docker inspect --type container --format '{{.State.Status}}' "$scratch" 2>/dev/null) in
      exited | dead)
        docker logs --tail 10 "$scratch" >&2
        fail 70 'the scratch server ended while it was loading the snapshot (its last lines are above): give it more memory.'
        ;;
    esac
    if [ "$(date +%s)" -ge "$until" ]; then
      docker logs --tail 10 "$scratch" >&2
      fail 70 "the scratch server has not loaded the snapshot within $1 seconds (its last lines are above): give it more time."
    fi
    sleep 0.2
  done
}
`;

function redisScript(target: RedisTarget, text: string, ...parameters: readonly string[]): Command {
  const { password, port = 6379, user = '', passwordVariable = 'REDIS_PASSWORD' } = target;
  // Becomes a variable's name in the container's shell, so it may be nothing else.
  if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(passwordVariable))
    throw new RangeError(`${JSON.stringify(passwordVariable)} is not the name of a variable`);
  const command = script(
    `${BACKUP_HOST}${REDIS_HOST}${text}`,
    target.container,
    user,
    String(port),
    passwordVariable,
    password === undefined ? '' : 'given',
    ASK,
    ...parameters,
  );
  if (password === undefined) return command;
  if (/[\n\r\0]/.test(password.reveal()))
    throw new RangeError('a password of Redis cannot have more than one line here');
  return { ...command, stdin: new Secret(`${password.reveal()}\n`) };
}

/** Takes a snapshot into a file of the server; it is accepted when it can be read to its end and its checksum is right. */
export function dumpRedis(target: RedisTarget, file: string): Command {
  return redisScript(
    target,
    `dump=$1 file=$2
running "$container"
must_answer
make_work "$file"
mkfifo "$work/in" || fail 73 "no named pipe can be made beside $file: is that a file system of Linux?"
ask INFO >"$work/before"
docker exec -i "$container" sh -c "$dump" slipway "$user" "$port" "$variable" <"$work/in" >"$work/data" 2>"$work/err" &
clients=$!
exec 5>"$work/in"
printf '%s\\n' "$password" >&5
wait "$clients"
code=$?
clients=
exec 5>&-
if [ "$code" != 0 ]; then
  cat "$work/err" >&2
  fail 70 "Redis gave no snapshot (exit code $code, the words of redis-cli are above), and nothing was kept: look whether the disk is full (\\\`df\\\`) and at the logs of Redis."
fi
ask INFO keyspace >"$work/after"
figures "$work/data" || fail 65 'the snapshot is damaged (the words of redis-check-rdb are above), and was not kept: look whether the disk is full (\`df\`), and try again.'
sum=$(sha256sum "$work/data") && bytes=$(wc -c <"$work/data") || fail 74 'the snapshot cannot be read back from the disk of the server: look at its logs (\`dmesg\`).'
sync "$work/data" || :
mv "$work/data" "$file" || fail 73 "the snapshot cannot be given its name, $file: check who may write there."
printf '{"kind" : "server", "version" : "%s"}\\n' "$(sed -n 's/^redis_version:\\([0-9.]*\\).*/\\1/p' "$work/before")"
keyspace "$work/before" before
keyspace "$work/after" after
printf '{"kind" : "file", "bytes" : %s, "sha256" : "%s", "keys" : %s, "expires" : %s, "seconds" : %s}\\n' "$((bytes))" "\${sum%% *}" "$keys" "$expires" "$(($(date +%s) - started))"`,
    DUMP,
    file,
  );
}

/** Runs in the scratch container: the snapshot comes in on its input. */
const LOAD = `umask 077
cd /data 2>/dev/null && [ -w . ] || cd /tmp || exit
cat >slipway.rdb && exec redis-server --dir "$PWD" --dbfilename slipway.rdb --appendonly no --save '' --bind 127.0.0.1 --port 6379`;

/** Starts a server on a snapshot, in a container that has nothing of the project but the image, and counts what it has loaded. */
export function proveRedis(target: RedisTarget, file: string, scratch: Scratch): Command {
  return redisScript(
    { container: target.container },
    `${SCRATCH_HOST}load=$1 file=$2 scratch=$3 project=$4 memory=$5 seconds=$6
running "$container"
[ -r "$file" ] || fail 66 "the snapshot $file is not on the server."
image=$(docker inspect --type container --format '{{.Image}}' "$container") || fail 69 "the image of the container $container is not known: is it still there?"
make_work "$file"
figures "$file" || fail 65 'the snapshot is damaged (the words of redis-check-rdb are above): do not rely on this backup, and make a new one.'
docker rm -fv "$scratch" >/dev/null 2>&1
loader=
tidy() {
  docker rm -fv "$scratch" >/dev/null 2>&1
  [ "$ended" -lt 128 ] || { sleep 1; docker rm -fv "$scratch" >/dev/null 2>&1; } || :
  [ -z "$loader" ] || kill "$loader" 2>/dev/null
}
restoring=$(date +%s)
docker run -i --pull never --name "$scratch" --label "slipway.scratch=$project" --network none --memory "\${memory}m" --restart no --entrypoint sh "$image" -c "$load" <"$file" >/dev/null 2>&1 &
loader=$!
up "$seconds"
restored=$(($(date +%s) - restoring))
docker exec "$scratch" redis-cli -h 127.0.0.1 INFO </dev/null | tr -d '\\r' >"$work/info"
keyspace "$work/info" restored
loaded "$work/info" || fail 65 "the snapshot has $keys keys, and a server that was started on it has \${there:-none}: do not rely on this backup, and make a new one."
printf '{"kind" : "proof", "keys" : %s, "restoreSeconds" : %s, "seconds" : %s}\\n' "$there" "$restored" "$(($(date +%s) - started))"`,
    LOAD,
    file,
    scratch.name,
    scratch.project,
    String(scratch.memoryMegabytes),
    String(scratch.startSeconds),
  );
}

/**
 * Runs in a scratch container with the volumes of the one in service, and prepares the new data in a folder beside the old. `$1` is the
 * data's folder, `$2` the id, `$3` the file's name, `$4` and `$5` those of the append-only file.
 */
const PREPARE = `umask 077
folder=$1/.slipway-new-$2
rm -rf "$folder" && mkdir "$folder" && cd "$folder" && cat >"$3" || exit
set -- redis-server --dir "$folder" --dbfilename "$3" --appendonly no --save '' --bind 127.0.0.1 --port 6379 --appendfilename "$4" \${5:+--appenddirname "$5"}
exec "$@"`;

/**
 * The same container, while Redis stands: old data aside, new data in. What is noted says to `PUT_BACK` how far it came.
 */
const SWAP = `cd "$1" || exit
kept=.slipway-kept-$2 new=.slipway-new-$2
shift 2
[ ! -e "$kept" ] || { echo "$PWD/$kept is there already" >&2; exit 75; }
owner=$(stat -c %u:%g .) && mkdir "$kept" && chmod 700 "$kept" || exit
for one; do [ -z "$one" ] || printf '%s\\n' "$one"; done >"$kept/names.new"
for one; do [ -z "$one" ] || [ ! -e "$one" ] || printf '%s\\n' "$one"; done >"$kept/had"
cp "$new/standing" "$kept/standing" && mv "$kept/names.new" "$kept/names" && sync || exit
for one; do [ -z "$one" ] || [ ! -e "$one" ] || mv "$one" "$kept/$one" || exit; done
: >"$kept/moved" && sync || exit
for one; do [ -z "$one" ] || [ ! -e "$new/$one" ] || mv "$new/$one" "$one" || exit; [ ! -e "$one" ] || chown -R "$owner" "$one" || exit; done
rm -rf "$new"
sync`;

/** From here on Redis may stand; `$3` is what a boot does with it by its own policy, or nothing. */
const NOTE_STANDING = `printf '%s\\n' "$3" >"$1/.slipway-new-$2/standing" && sync`;

/** What that says, where it is, and `half` where names have changed. `$1` is the id, then the places of the volumes. */
const READ_STANDING = `id=$1
shift
for volume; do
  for kept in "$volume/.slipway-kept-$id" "$volume"/*/.slipway-kept-"$id"; do [ ! -d "$kept" ] || echo half; done
  cat "$volume/.slipway-new-$id/standing" "$volume"/*/.slipway-new-"$id"/standing "$volume/.slipway-kept-$id/standing" "$volume"/*/.slipway-kept-"$id"/standing 2>/dev/null
done
:`;

/** `$1` is the id, then the places of the volumes. Can be repeated at any point. */
const PUT_BACK = `id=$1
shift
for volume; do
  rm -rf "$volume/.slipway-new-$id" "$volume"/*/.slipway-new-"$id" || exit
  for kept in "$volume/.slipway-kept-$id" "$volume"/*/.slipway-kept-"$id"; do
    [ -d "$kept" ] || continue
    folder=\${kept%/*}
    if [ -e "$kept/names" ]; then
      while IFS= read -r one; do
        if [ -e "$kept/$one" ]; then rm -rf "\${folder:?}/$one" && mv "$kept/$one" "$folder/$one" || exit
        elif [ -e "$kept/moved" ] && ! grep -qxF -e "$one" "$kept/had"; then rm -rf "\${folder:?}/$one"
        fi
      done <"$kept/names"
    fi
    sync
    rm -rf "$kept"
  done
done`;

/** `$1` is the id, then the places of the volumes. */
const DROP = `id=$1
shift
for volume; do rm -rf "$volume/.slipway-kept-$id" "$volume"/*/.slipway-kept-"$id" "$volume/.slipway-new-$id" "$volume"/*/.slipway-new-"$id" || exit; done`;

/**
 * `volumes` prints where the container's volumes are, one a line; `among_volumes SCRIPT WORD...` runs with them, as root. After `stand_by`
 * there is a container for `within SCRIPT WORD...`, which loses no time.
 */
const VOLUMES_HOST = `volumes() { docker inspect --type container --format '{{range .Mounts}}{{if .RW}}{{println .Destination}}{{end}}{{end}}' "$container"; }
among_volumes() {
  inner=$1
  shift
  docker rm -f "$scratch" >/dev/null 2>&1
  change docker run --pull never --name "$scratch" --label "slipway.scratch=$project" --network none --restart no --user 0 --volumes-from "$container" --entrypoint sh "$image" -c "$inner" slipway "$@"
  code=$?
  docker rm -f "$scratch" >/dev/null 2>&1
  return "$code"
}
stand_by() {
  docker rm -f "$scratch" >/dev/null 2>&1
  change docker run -d --pull never --name "$scratch" --label "slipway.scratch=$project" --network none --restart no --user 0 --volumes-from "$container" --entrypoint sleep "$image" 86400 >/dev/null
}
within() {
  inner=$1
  shift
  change docker exec "$scratch" sh -c "$inner" slipway "$@"
}
with_places() {
  inner=$1 id=$2
  set -f
  IFS='
'
  set -- $(volumes)
  unset IFS
  set +f
  among_volumes "$inner" "$id" "$@"
}
`;

/** `$1` is the container, then come id, scratch container, project and {@link PUT_BACK} or {@link DROP}; `text` is what to do with them. */
function amongVolumesOf(text: string): string {
  return `${BACKUP_HOST}${AT_BOOT}container=$1 id=$2 scratch=$3 project=$4 inner_script=$5
${VOLUMES_HOST}image=$(docker inspect --type container --format '{{.Image}}' "$container") || fail 69 "the image of the container $container is not known: is it still there?"
${text}`;
}

const PUT_BACK_ON_SERVER = amongVolumesOf(
  `read_standing=$6
noted=$(with_places "$read_standing" "$id") || fail 70 'the volume of Redis cannot be looked at (see above): try again.'
find_returning "$container"
half=
for one in $noted; do if [ "$one" = half ]; then half=1; else returning=$container/$one; fi; done
[ -z "$half" ] || at_boot stay
change docker stop "$container" >/dev/null || fail 70 'Redis cannot be stopped (the own words of Docker are above).'
with_places "$inner_script" "$id" || fail 70 'the old data could not be put back (see above): it is still in the volume; try again.'
at_boot come
change docker start "$container" >/dev/null || fail 70 'Redis does not start (the own words of Docker are above): look at its logs.'
at_boot own`,
);

/**
 * Loads a snapshot in place of the data of a running server. The new data is made ready in the volume while the old is in service,
 * the append-only file too: a server that is started with one does not look at the snapshot. Then Redis stands for as long as some
 * renames take. If anything fails, the old data comes back, SIGKILL included; after a power cut {@link putBackRedis} does that.
 *
 * @param id of the backup or the restore; the old data is kept in the volume in a folder that has it in its name.
 */
export function restoreRedis(target: RedisTarget, file: string, id: string, scratch: Scratch): Command {
  return redisScript(
    target,
    `${AFTERWARDS}${AT_BOOT}${SCRATCH_HOST}${VOLUMES_HOST}prepare=$1 swap=$2 put_back=$3 file=$4 id=$5 scratch=$6 project=$7
shift 7
memory=$1 seconds=$2 put_back_on_server=$3 note_standing=$4 read_standing=$5
running "$container"
[ -r "$file" ] || fail 66 "the snapshot $file is not on the server."
must_answer
image=$(docker inspect --type container --format '{{.Image}}' "$container") || fail 69 "the image of the container $container is not known: is it still there?"
setting() { ask CONFIG GET "$1" | sed -n 2p; }
folder=$(setting dir) name=$(setting dbfilename) append=$(setting appendonly) append_name=$(setting appendfilename) append_folder=$(setting appenddirname)
case $folder in /*) ;; *) fail 69 'Redis does not say where its data is: the user of the restore needs the permission for CONFIG GET.' ;; esac
inside=
places=$(volumes)
while IFS= read -r place; do
  [ -z "$place" ] || case $folder/ in "$place"/*) inside=1 ;; esac
done <<END
$places
END
[ -n "$inside" ] || fail 78 "the data of Redis, $folder, is in no volume, and would not outlive its container: give the service a volume for it first."
make_work "$file"
figures "$file" || fail 65 'the snapshot is damaged (the words of redis-check-rdb are above); nothing was changed: take another backup.'
docker rm -f "$scratch" >/dev/null 2>&1
loader= swapping= cleaning=1
tidy() {
  [ -z "$loader" ] || kill "$loader" 2>/dev/null
  if [ -n "$swapping" ] && [ -z "$accepted" ]; then
    if sh -c "$put_back_on_server" slipway "$container" "$id" "$scratch" "$project" "$put_back" "$read_standing"; then say 'the old data of Redis was put back and is in service.'
    else say 'the old data of Redis could not be put back: it is in the volume, in a folder that is called .slipway-kept- and the id of the restore.'; fi
  elif [ -z "$accepted" ]; then
    among_volumes 'rm -rf "$1/.slipway-new-$2"' "$folder" "$id"
  fi
  docker rm -f "$scratch" >/dev/null 2>&1
}
docker run -i --pull never --name "$scratch" --label "slipway.scratch=$project" --network none --memory "\${memory}m" --restart no --user 0 --volumes-from "$container" --entrypoint sh "$image" -c "$prepare" slipway "$folder" "$id" "$name" "$append_name" "$append_folder" <"$file" >/dev/null 2>&1 &
loader=$!
up "$seconds"
inner() { docker exec "$scratch" redis-cli -h 127.0.0.1 "$@" </dev/null | tr -d '\\r'; }
inner INFO >"$work/info"
loaded "$work/info" || fail 65 "the snapshot has $keys keys, and a server that was started on it has \${there:-none}; nothing was changed: take another backup."
if [ "$append" = yes ]; then
  [ "$(inner CONFIG SET appendonly yes)" = OK ] || fail 70 'the scratch server cannot write an append-only file; nothing was changed: look whether the disk is full (\`df\`).'
  until=$(($(date +%s) + seconds))
  while :; do
    inner INFO persistence >"$work/info"
    case $(info_value "$work/info" aof_rewrite_in_progress)$(info_value "$work/info" aof_rewrite_scheduled) in 00) break ;; esac
    [ "$(date +%s)" -lt "$until" ] || fail 70 "the append-only file was not written within $seconds seconds; nothing was changed: give the restore more time."
    sleep 0.2
  done
  grep -q '^aof_last_bgrewrite_status:ok' "$work/info" || fail 70 'the scratch server could not write the append-only file; nothing was changed: look whether the disk is full (\`df\`).'
fi
inner SHUTDOWN NOSAVE >/dev/null 2>&1
wait "$loader"
loader=
docker rm -f "$scratch" >/dev/null
find_returning "$container"
stand_by && within "$note_standing" "$folder" "$id" "\${returning##*/}" || fail 70 'nothing can be written into the volume (see above); nothing was changed: look whether the disk is full (\`df\`).'
afterwards "$put_back_on_server" "$container" "$id" "$scratch" "$project" "$put_back" "$read_standing"
down=$(date +%s)
swapping=1
at_boot come
change docker stop "$container" >/dev/null || fail 70 'Redis cannot be stopped (the own words of Docker are above).'
at_boot stay && none_runs "$container" || fail 75 'Redis was started again, although it was just stopped: was Docker restarted? Try again.'
within "$swap" "$folder" "$id" "$name" "$append_name" "$append_folder" || fail 70 'the new data could not be put in the place of the old (see above).'
at_boot come
change docker start "$container" >/dev/null || fail 70 'Redis does not start on the restored data (the own words of Docker are above).'
until=$(($(date +%s) + seconds))
until ask INFO >"$work/info" 2>/dev/null && grep -q '^loading:0' "$work/info"; do
  [ "$(date +%s)" -lt "$until" ] || { docker logs --tail 10 "$container" >&2; fail 70 "Redis has not loaded the restored data within $seconds seconds (its last lines are above)."; }
  sleep 0.2
done
down=$(($(date +%s) - down))
there=$(info_value "$work/info" rdb_last_load_keys_loaded)
[ -n "$there" ] || { sum_keys "$work/info"; there=$sum; }
[ "$there" -ge "$((keys - expires))" ] || fail 65 "Redis has loaded $there keys of $keys."
at_boot own
change docker exec --user 0 "$container" rm -f "$folder/.slipway-kept-$id/standing" || fail 70 'it cannot be noted that the restore is done (see above).'
accepted=1
never_mind
printf '{"kind" : "restored", "keys" : %s, "downSeconds" : %s, "seconds" : %s}\\n' "$there" "$down" "$(($(date +%s) - started))"`,
    PREPARE,
    SWAP,
    PUT_BACK,
    file,
    id,
    scratch.name,
    scratch.project,
    String(scratch.memoryMegabytes),
    String(scratch.startSeconds),
    PUT_BACK_ON_SERVER,
    NOTE_STANDING,
    READ_STANDING,
  );
}

/**
 * Puts back what {@link restoreRedis} has set aside, after it was killed or when the restored data is not wanted: what was written since is
 * lost. The server is stopped for it, and started; where nothing was set aside, that is all.
 */
export function putBackRedis(container: string, id: string, scratch: Scratch): Command {
  return script(PUT_BACK_ON_SERVER, container, id, scratch.name, scratch.project, PUT_BACK, READ_STANDING);
}

/**
 * Says how far it came: `half`, Redis stands and what there is of a swap is to be put back; `over POLICY`, all of the new data is in its place,
 * and Redis may stand. What was only made ready goes.
 */
const LOOK = `id=$1
shift
for volume; do
  for new in "$volume/.slipway-new-$id" "$volume"/*/.slipway-new-"$id"; do
    [ -d "$new" ] || continue
    if [ -e "$new/standing" ] || [ -d "\${new%/*}/.slipway-kept-$id" ]; then echo half; else rm -rf "$new" || exit; fi
  done
  for kept in "$volume/.slipway-kept-$id" "$volume"/*/.slipway-kept-"$id"; do
    [ ! -e "$kept/standing" ] || [ -d "\${kept%/*}/.slipway-new-$id" ] || { printf 'over '; cat "$kept/standing"; }
  done
done`;

/** As {@link putBackRedis}, where a restore was cut off in the middle; one that came to its end stays, and its server is not touched. */
export function putBackUnfinishedRedis(container: string, id: string, scratch: Scratch): Command {
  return script(
    amongVolumesOf(`look=$6 put_back_on_server=$7 read_standing=$8
found=$(with_places "$look" "$id") || fail 70 'the volume of Redis cannot be looked at (see above): try again.'
case $found in
  *half*) change sh -c "$put_back_on_server" slipway "$container" "$id" "$scratch" "$project" "$inner_script" "$read_standing" ;;
  over*)
    policy=\${found#over}
    returning=\${policy:+$container/\${policy# }}
    at_boot come
    change docker start "$container" >/dev/null || fail 70 'Redis does not start on the restored data (the own words of Docker are above): look at its logs.'
    at_boot own
    with_places 'id=$1; shift; for volume; do rm -f "$volume/.slipway-kept-$id/standing" "$volume"/*/.slipway-kept-"$id"/standing; done' "$id" || fail 70 'it cannot be noted that the restore is done (see above).'
    ;;
esac`),
    container,
    id,
    scratch.name,
    scratch.project,
    PUT_BACK,
    LOOK,
    PUT_BACK_ON_SERVER,
    READ_STANDING,
  );
}

/** Removes the data that {@link restoreRedis} has kept. */
export function dropKeptRedis(container: string, id: string, scratch: Scratch): Command {
  return script(
    amongVolumesOf(
      `with_places "$inner_script" "$id" || fail 70 'the kept data could not be removed (see above): try again.'`,
    ),
    container,
    id,
    scratch.name,
    scratch.project,
    DROP,
  );
}
