/**
 * Archives of files and volumes that are proven, and the way back: pure.
 *
 * A tree is known by the sorted list of all that is in it, with modes, times and each file's SHA-256. It is made before the
 * archive and after it: where both are equal, nothing changed meanwhile, and whatever is unpacked must have the same. No pipeline
 * carries an archive: named pipes do, and each program's exit code is asked for.
 */
import type { TreeFigures } from '../model/backup';
import type { Command } from '../model/command';
import { script } from '../shell/render';
import { AFTERWARDS, AT_BOOT, BACKUP_HOST, type Scratch } from './backup-script';

/**
 * How consistent a volume is read. `live`: as it is. `paused`, `stopped`: the running containers that use it, of other projects
 * too, stand still meanwhile and go on afterwards, whatever dies.
 */
export type Quiet = 'live' | 'paused' | 'stopped';

/**
 * Lists a tree, one entry a line: on the server, and in containers with GNU's tools or busybox's. `$1` is what: `files` without owners,
 * which a restore that is not root's cannot keep, `volume` with them, or `paths`, which is `files` of the given ones. `$2` is the folder.
 * The rest are the paths.
 *
 * sha256sum escapes some characters of names, and not everywhere the same ones, so such files are hashed on their own. Folders and links
 * go without times, and links without owners: not every tar restores these. Sockets are not data. `//` is in no path, so what begins
 * with a letter and it is an entry.
 */
const TREE = `what=$1 lf='
' cr=$(printf '\\r')
cd "$2" || exit
shift 2
LC_ALL=C
export LC_ALL
owner=
case $what in
  paths) set -- "$@" -maxdepth 0 ;;
  files) set -- . ;;
  volume)
    owner='%u %g '
    set -- . '(' -path './.slipway-kept-*' -o -path './.slipway-new-*' ')' -prune -o
    stat -c "r//%a $owner" . || exit
    ;;
esac
code=0
find "$@" -type f ! -path "*$lf*" ! -path "*$cr*" ! -path '*\\\\*' -exec sha256sum {} + || code=1
find "$@" -type f '(' -path "*$lf*" -o -path "*$cr*" -o -path '*\\\\*' ')' -exec sh -c 'for one; do sum=$(sha256sum <"$one") 2>/dev/null || { [ -e "$one" ] || echo "$one: No such file or directory" >&2; exit 1; }; printf "%s  %s\\n" "\${sum%% *}" "$one"; done' sh {} + || code=1
find "$@" -type f -exec stat -c "f//%a $owner%Y %s %n" {} + || code=1
find "$@" -type d ! -path . -exec stat -c "d//%a $owner%n" {} + || code=1
find "$@" -type l -exec stat -c 'l//%n' {} + || code=1
find "$@" -type l -exec sh -c 'for one; do to=$(readlink "$one") || { echo "$one: No such file or directory" >&2; exit 1; }; printf "%s -> %s\\n" "$one" "$to"; done' sh {} + || code=1
find "$@" ! -type f ! -type d ! -type l ! -type s -exec stat -c "o//%f $owner%t %T %n" {} + || code=1
exit "$code"`;

/** `weigh LIST`: the figures of what {@link TREE} has listed; what is older than 1970 is of 1970 to some tars. `is_tree` compares them with those that are expected. */
const FIGURES = `sum_of() { sum=$(sha256sum "$1") && sum=\${sum%% *}; }
weigh() {
  sed 's#^\\(f//[0-7]* \\([0-9]* [0-9]* \\)\\{0,1\\}\\)-[0-9]* #\\10 #' "$1" >"$1.since" && sort -o "$1" "$1.since" && sum_of "$1" || fail 73 'the list of the files cannot be written on the server: look whether the disk is full (\`df\`).'
  hash=$sum
  entries=$(grep -c '^[flo]//' "$1") || [ "$entries" = 0 ] || fail 70 'the list of the files cannot be counted.'
}
is_tree() {
  weigh "$1"
  [ "$entries" = "$expected" ] && [ "$hash" = "$expected_hash" ]
}
need() {
  for tool; do command -v "$tool" >/dev/null || fail 69 "the server has no program \\\`$tool\\\`, which archives need: install it."; done
}
`;

/**
 * `check_data`: is what was written an archive that can be read to its end? Sets what is known of it. An archive ends in zeros, by
 * which one that just stops is told.
 */
const CHECK_DATA = `check_data() {
  mkfifo "$work/plain" "$work/sum" "$work/count" "$work/names" "$work/tail" || fail 73 'no named pipe can be made on the server: is that a file system of Linux?'
  gzip -dc <"$work/data" >"$work/plain" 2>/dev/null 5>&- 7>&- &
  clients=$! fed=$!
  sha256sum <"$work/sum" >"$work/sum.out" 5>&- 7>&- &
  clients="$clients $!"
  wc -c <"$work/count" >"$work/count.out" 5>&- 7>&- &
  clients="$clients $!"
  tail -c 1024 <"$work/tail" >"$work/tail.out" 5>&- 7>&- &
  clients="$clients $!"
  { tar -tf - >/dev/null && cat >/dev/null; } <"$work/names" 2>"$work/names.err" 5>&- 7>&- &
  clients="$clients $!"
  tee "$work/sum" "$work/count" "$work/tail" <"$work/plain" >"$work/names" 5>&- 7>&- &
  clients="$clients $!"
  bad=
  for one in $clients; do wait "$one" || bad=1; done
  clients= fed=
  rm -f "$work/plain" "$work/sum" "$work/count" "$work/names" "$work/tail"
  [ -z "$bad" ] && plain_bytes=$(wc -c <"$work/tail.out") && [ "$((plain_bytes))" = 1024 ] && rest=$(tr -d '\\000' <"$work/tail.out" | wc -c) && [ "$((rest))" = 0 ] || return
  plain_bytes=$(($(cat "$work/count.out"))) plain_sum=$(cat "$work/sum.out")
  plain_sum=\${plain_sum%% *}
  sum_of "$work/data" && bytes=$(wc -c <"$work/data")
}
`;

/**
 * Takes the archive once or twice: `list FILE` lists the tree, `pack` writes the archive to `$work/tar` and its words to `$work/tar.err`.
 * GNU's tar exits with 1 when a file changed under it, busybox's with 1 for whatever it was. The words of `list` tell a file that
 * vanished, which is a change, from one that cannot be read, which is none.
 */
const TAKE = `list_with() {
  to=$1
  shift
  "$@" <&6 >"$to" 2>"$to.err" 3>&- 4<&- 5>&- 6<&- 7>&- &
  clients=$! fed=$!
  wait "$clients"
  code=$?
  clients= fed=
  return "$code"
}
look() {
  seen=
  list "$1" && return
  if grep -v 'No such file or directory$' "$1.err" >&2 || [ ! -s "$1.err" ]; then
    fail 74 'not all files can be read (see above), and nothing was kept: may the user that deploys read them, and is the disk sound (\`dmesg\`)?'
  fi
  seen=vanished
}
take() {
  look "$work/before"
  changed=$seen
  mkfifo "$work/tar" || fail 73 'no named pipe can be made on the server: is that a file system of Linux?'
  gzip -3 <"$work/tar" >"$work/data" 2>"$work/gzip.err" 5>&- 7>&- &
  zipper=$! clients=$!
  pack &
  packer=$! clients="$! $clients" fed=$!
  wait "$packer"
  packed=$?
  clients=$zipper fed=
  wait "$zipper"
  zipped=$?
  clients=
  rm -f "$work/tar"
  if [ "$zipped" != 0 ]; then
    cat "$work/gzip.err" >&2
    fail 73 'the archive cannot be written, and nothing was kept: look whether the disk of the server is full (\`df\`).'
  fi
  look "$work/after"
  weigh "$work/before"
  before=$hash
  weigh "$work/after"
  [ -z "$changed$seen" ] && [ "$before" = "$hash" ] && [ "$packed" = 0 ] && changed=false || changed=true
}
accept() {
  [ "$packed" -le 1 ] && check_data || {
    tail -n 8 "$work/tar.err" >&2
    fail 70 "the archive is not complete (exit code $packed, the words of tar are above), and was not kept: look whether the disk is full (\\\`df\\\`), and try again."
  }
  sync "$work/data" || :
  mv "$work/data" "$file" || fail 73 "the archive cannot be given its name, $file: check who may write there."
  printf '{"kind" : "archive", "bytes" : %s, "sha256" : "%s", "plainBytes" : %s, "plainSha256" : "%s", "entries" : %s, "hash" : "%s", "changed" : %s, "quietSeconds" : %s, "seconds" : %s}\\n' "$((bytes))" "$sum" "$plain_bytes" "$plain_sum" "$entries" "$hash" "$changed" "$quiet_seconds" "$(($(date +%s) - started))"
}
`;

/**
 * `unpack WORD...`: gunzips `$file` into the program that is named, which reads the tar from standard input.
 */
const UNPACK = `unpack() {
  mkfifo "$work/tar" || fail 73 'no named pipe can be made on the server: is that a file system of Linux?'
  gzip -dc <"$file" >"$work/tar" 2>"$work/gzip.err" 5>&- 7>&- &
  zipper=$! clients=$!
  "$@" <"$work/tar" 2>"$work/tar.err" 3>&- 4<&- 5>&- 7>&- &
  packer=$! clients="$! $clients" fed=$!
  wait "$packer"
  packed=$?
  clients=$zipper fed=
  wait "$zipper"
  zipped=$?
  clients=
  rm -f "$work/tar"
  [ "$packed" = 0 ] && [ "$zipped" = 0 ] && return
  tail -n 4 "$work/gzip.err" >&2
  tail -n 8 "$work/tar.err" >&2
  # On a full disk the words of tar have no room either.
  head -c 1000000 /dev/zero >"$work/room" 2>/dev/null || return 73
  rm -f "$work/room"
  if grep -q -i -e 'no space left' -e 'quota exceeded' -e 'short write' -e 'write error' "$work/tar.err"; then return 73; fi
  return 65
}
`;

/**
 * A container that stands by until the script is gone: its input ends then, and with it all that runs in it. `inside TEXT WORD...` runs
 * in it. Of the project it has the image, and what `stand_by` is told to give it.
 */
const CONTAINER = `stand_by() {
  docker rm -fv "$scratch" >/dev/null 2>&1
  mkfifo "$work/in" "$work/out" || fail 73 'no named pipe can be made on the server: is that a file system of Linux?'
  docker run -i --rm --pull never --name "$scratch" --label "slipway.scratch=$project" --network none --memory "\${memory}m" --user 0 "$@" --entrypoint sh "$image" -c "$ready" <"$work/in" >"$work/out" 2>"$work/err" 7>&- &
  holder=$!
  exec 5>"$work/in" 4<"$work/out"
  answer=
  IFS= read -r answer <&4
  [ "$answer" = ready ] && return
  cat "$work/err" >&2
  fail 69 "the image $image cannot be used to archive volumes (\${answer:-see above}): name another one that is on the server and has a shell and tar, such as debian, alpine or busybox."
}
tidy_container() {
  docker rm -fv "$scratch" >/dev/null 2>&1
  [ -z "$holder" ] || wait "$holder" 2>/dev/null
  docker rm -fv "$scratch" >/dev/null 2>&1 || :
}
holder=
inside() {
  text=$1
  shift
  run docker exec "$scratch" sh -c "$text" slipway "$@" 6</dev/null
}
volume_exists() { docker volume inspect "$volume" >/dev/null 2>&1 || fail 78 "there is no volume $volume on the server."; }
`;

const READY = `for tool in tar find stat sha256sum readlink; do
  command -v "$tool" >/dev/null || { echo "it has no $tool"; exit 1; }
done
echo ready
cat >/dev/null`;

/** `users`: ids of the running containers that use the volume, the oldest first; scratch containers are none. */
const USERS = `users() {
  ids=$(docker ps --no-trunc --filter "volume=$volume" --filter status=running "$@" --format '{{.Label "slipway.scratch"}} {{.ID}}') ||
    fail 69 'Docker does not say what containers use the volume (its own words are above).'
  found=
  while IFS= read -r one; do
    case $one in ' '*) found="\${one# } $found" ;; esac
  done <<END
$ids
END
}
can_stop() {
  for one in $found; do
    [ "$(docker inspect --type container --format '{{.HostConfig.AutoRemove}}' "$one")" != true ] ||
      fail 75 "the container $one uses the volume and would be gone when it is stopped (\\\`docker run --rm\\\`): wait for its end, and try again."
  done
}
`;

/**
 * `$1` is how they were made to stand still, then come their ids, and `ID/POLICY` for whoever gets a restart policy back. Those that are gone
 * meanwhile stay so. A stop that was interrupted goes on
 * in the daemon, so its end is waited for before anything is started.
 */
const GO_ON = `how=$1
shift
ids= own=
for one; do case $one in */*) own="$own $one" ;; *) ids="$ids $one" ;; esac; done
[ "$how" != stopped ] || docker stop $ids >/dev/null 2>&1
for try in 1 2 3 4 5; do
  left=
  for id in $ids; do
    if [ "$how" = paused ]; then
      docker unpause "$id" >/dev/null 2>&1
      state=$(docker inspect --type container --format '{{.State.Paused}}' "$id" 2>/dev/null) || continue
      [ "$state" = false ] || left="$left $id"
    else
      docker start "$id" >/dev/null 2>&1
      state=$(docker inspect --type container --format '{{.State.Running}}' "$id" 2>/dev/null) || continue
      [ "$state" = true ] || left="$left $id"
    fi
  done
  [ -n "$left" ] || break
  sleep 1
done
for one in $own; do docker update "--restart=\${one#*/}" "\${one%%/*}" >/dev/null 2>&1; done
[ -n "$left" ] || exit 0
echo "these containers do not go on: $left" >&2
exit 1`;

/** Everything but what we have set aside. Where tar cannot leave out names: the folder alone, which is one block, then all that is in it. */
const PACK = `cd "$1" || exit
aside=
for one in .slipway-kept-* .slipway-new-*; do [ ! -e "$one" ] || aside=1; done
[ -n "$aside" ] || exec tar --numeric-owner -cf - .
if tar --exclude x --no-recursion -cf /dev/null . 2>/dev/null; then
  exec tar --numeric-owner --exclude './.slipway-kept-*' --exclude './.slipway-new-*' -cf - .
fi
set --
for one in * .[!.]* ..?*; do
  case $one in .slipway-kept-* | .slipway-new-*) continue ;; esac
  if [ -e "$one" ] || [ -h "$one" ]; then set -- "$@" "./$one"; fi
done
[ "$#" -gt 0 ] || exec tar --numeric-owner --no-recursion -cf - .
tar --numeric-owner --no-recursion -cf - . | head -c 512
exec tar --numeric-owner -cf - "$@"`;

/** Regular files, links and empty folders below the folder: relative, each with a NUL behind it. A folder that cannot be read stands for itself. */
export function listFiles(folder: string): Command {
  return script(
    `LC_ALL=C
export LC_ALL
cd "$1" || exit 66
{
  said=$(
    find . '(' -path ./.slipway -o -path './restored-*' ')' -prune -o '(' -type f -o -type l ')' -exec sh -c 'for one; do printf "%s\\0" "\${one#./}"; done' sh {} + \\
      -o -type d ! -path . -exec sh -c 'for one; do
  if [ -r "$one" ] && [ -x "$one" ]; then
    for inner in "$one"/* "$one"/.[!.]* "$one"/..?*; do
      if [ -e "$inner" ] || [ -h "$inner" ]; then continue 2; fi
    done
  fi
  printf "%s\\0" "\${one#./}"
done' sh {} + 2>&1 >&3
  ) && exit
} 3>&1
printf '%s\\n' "$said" | grep -v -e 'Permission denied$' -e 'No such file or directory$' >&2 || exit 0
exit 74`,
    folder,
  );
}

/** The paths with the folders that they are in, which have modes too: each begins with `./`, folders come first. */
function withFolders(paths: readonly string[]): string[] {
  const all = new Set<string>();
  for (const path of paths) {
    const parts = path.split('/');
    if (
      parts.some((part) => part === '' || part === '.' || part === '..') ||
      path.includes('\0') ||
      parts[0] === '.slipway'
    )
      throw new RangeError(`${JSON.stringify(path)} is no path in the folder`);
    for (let end = 1; end <= parts.length; end++) all.add(`./${parts.slice(0, end).join('/')}`);
  }
  return [...all].sort();
}

/** Packs these paths of the folder, and no more of a folder than itself. @throws RangeError for no path, or one that leads out of the folder. */
export function archiveFiles(folder: string, paths: readonly string[], file: string): Command {
  if (paths.length === 0) throw new RangeError('no path to archive');
  const command = script(
    `${BACKUP_HOST}${FIGURES}${CHECK_DATA}${TAKE}folder=$1 file=$2 tree=$3
quiet_seconds=0
need tar gzip
make_work "$file"
cat >"$work/paths" || fail 73 "nothing can be written beside $file: look whether the disk is full (\\\`df\\\`)."
cd "$folder" || fail 66 "there is no folder $folder on the server."
run xargs -0 sh -c 'for one; do
  if [ -h "$one" ]; then continue; fi
  if [ ! -e "$one" ]; then echo "$one is not there any more" >&2; exit 1; fi
  if [ ! -r "$one" ] || { [ -d "$one" ] && [ ! -x "$one" ]; }; then echo "$one cannot be read" >&2; exit 1; fi
done' slipway 6<"$work/paths" || fail 74 'not all files can be read by the user that deploys (see above), and nothing was kept: give it the permission, or leave them out.'
if tar --version 2>/dev/null | grep -q GNU; then
  pack() { exec tar --numeric-owner --no-recursion --null -T "$work/paths" -cf - </dev/null >"$work/tar" 2>"$work/tar.err" 5>&- 7>&-; }
else
  # The tar of busybox reads no list with such names, so they are its arguments, as many as there may be.
  pack() {
    rm -f "$work/once"
    exec xargs -0 -s 1000000 sh -c '[ ! -e "$0" ] || { echo "there are too many files for the tar of this server: install GNU tar." >&2; exit 255; }
: >"$0"
exec tar --numeric-owner --no-recursion -cf - "$@"' "$work/once" <"$work/paths" >"$work/tar" 2>"$work/tar.err" 5>&- 7>&-
  }
fi
list() { list_with "$1" xargs -0 sh -c "$tree" slipway paths . 6<"$work/paths"; }
take
[ "$changed" = false ] || take
accept`,
    folder,
    file,
    TREE,
  );
  return {
    ...command,
    stdin: withFolders(paths)
      .map((path) => `${path}\0`)
      .join(''),
  };
}

/**
 * Packs a named volume. Containers that must stand still do so while it is read, and not while it is checked.
 *
 * @param image on the server; its shell and its tar are what reads the volume.
 * @param file absolute; its folder is there. Nothing has that name before the archive is accepted.
 */
export function archiveVolume(volume: string, image: string, quiet: Quiet, file: string, scratch: Scratch): Command {
  return script(
    `${BACKUP_HOST}${AFTERWARDS}${AT_BOOT}${FIGURES}${CHECK_DATA}${TAKE}${CONTAINER}${USERS}volume=$1 image=$2 quiet=$3 file=$4
shift 4
scratch=$1 project=$2 memory=$3 ready=$4 tree=$5 pack_volume=$6 go_on=$7
quiet_seconds=0 still=
need tar gzip setsid
volume_exists
make_work "$file"
release() {
  [ -n "$still" ] || return 0
  sh -c "$go_on" slipway "$quiet" $found $returning || say 'not all containers that stood still for the backup of the volume go on (see above): start them (\`docker unpause\`, \`docker start\`).'
  quiet_seconds=$(($(date +%s) - still)) still=
  never_mind
}
tidy() {
  release
  tidy_container
}
stand_by --volume "$volume:/volume:ro"
list() { list_with "$1" docker exec "$scratch" sh -c "$tree" slipway volume /volume 6</dev/null; }
pack() { exec docker exec "$scratch" sh -c "$pack_volume" slipway /volume </dev/null >"$work/tar" 2>"$work/tar.err" 3>&- 4<&- 5>&- 7>&-; }
found=
case $quiet in
  paused) users ;;
  stopped) users --filter status=restarting; can_stop ;;
esac
if [ -n "$found" ]; then
  [ "$quiet" = paused ] || find_returning $found
  afterwards "$go_on" "$quiet" $found $returning
  still=$(date +%s)
  at_boot come
  if [ "$quiet" = paused ]; then change docker pause $found >/dev/null; else change docker stop $found >/dev/null; fi ||
    fail 70 'not all containers that use the volume can be made to stand still (the own words of Docker are above); they go on, and nothing was kept.'
fi
take
release
[ "$quiet" != live ] || [ "$changed" = false ] || take
accept`,
    volume,
    image,
    quiet,
    file,
    scratch.name,
    scratch.project,
    String(scratch.memoryMegabytes),
    READY,
    TREE,
    PACK,
    GO_ON,
  );
}

const DAMAGED = `what was unpacked is not what was packed: do not rely on this backup, and make a new one.`;

/** `unpacked CODE WHAT`: fails as {@link UNPACK} did. */
const UNPACKED = `unpacked() {
  case $1 in
    0) ;;
    73) fail 73 "the archive cannot be unpacked (see above)$2: make room on the disk of the server (\\\`df\\\`)." ;;
    *) fail 65 "the archive cannot be unpacked (see above)$2: do not rely on this backup, and make a new one." ;;
  esac
}
`;

/** Unpacks into a folder beside the archive, which goes again, and compares. */
export function proveFiles(file: string, tree: TreeFigures): Command {
  return script(
    `${BACKUP_HOST}${FIGURES}${UNPACK}${UNPACKED}file=$1 tree=$2 expected=$3 expected_hash=$4
need tar gzip
[ -r "$file" ] || fail 66 "the archive $file is not on the server."
make_work "$file"
tidy() { chmod -R u+rwx "$work" 2>/dev/null; }
restoring=$(date +%s)
mkdir "$work/tree" || fail 73 "nothing can be written beside $file: look whether the disk is full (\\\`df\\\`)."
unpack tar --no-same-owner -xpf - -C "$work/tree"
unpacked "$?" ''
restored=$(($(date +%s) - restoring))
run sh -c "$tree" slipway files "$work/tree" 6</dev/null >"$work/list" || fail 74 'what was unpacked cannot be read (see above).'
is_tree "$work/list" || fail 65 "there are $entries files of $expected, or their content differs: ${DAMAGED}"
printf '{"kind" : "proof", "restoreSeconds" : %s, "seconds" : %s}\\n' "$restored" "$(($(date +%s) - started))"`,
    file,
    TREE,
    String(tree.entries),
    tree.hash,
  );
}

const UNPACK_INSIDE = 'mkdir -p "$1" && exec tar --numeric-owner -xpf - -C "$1"';

/** Unpacks into a scratch container, which goes again, and compares. */
export function proveVolume(file: string, image: string, tree: TreeFigures, scratch: Scratch): Command {
  return script(
    `${BACKUP_HOST}${FIGURES}${UNPACK}${UNPACKED}${CONTAINER}file=$1 image=$2 scratch=$3 project=$4 memory=$5 ready=$6
shift 6
tree=$1 unpack_inside=$2 expected=$3 expected_hash=$4
need gzip
[ -r "$file" ] || fail 66 "the archive $file is not on the server."
make_work "$file"
tidy() { tidy_container; }
restoring=$(date +%s)
stand_by
unpack docker exec -i "$scratch" sh -c "$unpack_inside" slipway /slipway
unpacked "$?" ''
restored=$(($(date +%s) - restoring))
inside "$tree" volume /slipway >"$work/list" || fail 74 'what was unpacked cannot be read (see above).'
is_tree "$work/list" || fail 65 "there are $entries files of $expected, or their content differs: ${DAMAGED}"
printf '{"kind" : "proof", "restoreSeconds" : %s, "seconds" : %s}\\n' "$restored" "$(($(date +%s) - started))"`,
    file,
    image,
    scratch.name,
    scratch.project,
    String(scratch.memoryMegabytes),
    READY,
    TREE,
    UNPACK_INSIDE,
    String(tree.entries),
    tree.hash,
  );
}

/** It becomes part of paths. */
function checkId(id: string): string {
  if (!/^[A-Za-z0-9][A-Za-z0-9-]*$/.test(id)) throw new RangeError(`${JSON.stringify(id)} is not the id of a restore`);
  return id;
}

/**
 * `$1` is the folder. What is kept of a restore, `.slipway/kept-ID`, has the old files, and in a `.slipway` of its own, which no archive has, what
 * tells a put back how far it came: `plan`, what goes in, each with `o` where there is an old one and `n` where there is none; `tree`,
 * what is not in yet; `done`. A folder that is on both sides is not in the plan, but what is in it.
 *
 * This makes the plan, with `$2` as the tree.
 */
const PLAN_FILES = `to=$1
cd "$2" || exit
exec find . -type d -exec sh -c 'to=$1
shift
for dir; do
  part=$dir
  while :; do
    if [ -h "$to/$part" ] || [ ! -d "$to/$part" ]; then continue 2; fi
    case $part in */*) part=\${part%/*} ;; *) break ;; esac
  done
  for one in "$dir"/* "$dir"/.[!.]* "$dir"/..?*; do
    if [ ! -e "$one" ] && [ ! -h "$one" ]; then continue; fi
    if [ -d "$one" ] && [ ! -h "$one" ] && [ -d "$to/$one" ] && [ ! -h "$to/$one" ]; then continue; fi
    if [ -e "$to/$one" ] || [ -h "$to/$one" ]; then printf "o%s\\0" "$one"; else printf "n%s\\0" "$one"; fi
  done
done' slipway "$to" {} +`;

/** `$1` is the folder, `$2` the id. Moves are renames, and parents of what is kept are made as they are needed. */
const PLACE_FILES = `to=$1 kept=$1/.slipway/kept-$2
xargs -0 sh -c 'to=$1 kept=$2
shift 2
made=
for one; do
  path=\${one#?}
  dir=\${path%/*}
  case $one in
    o*)
      [ "$dir" = "$made" ] || mkdir -p "$kept/$dir" || exit 255
      made=$dir
      mv -f "$to/$path" "$kept/$path" || exit 255
      ;;
  esac
  mv -f "$kept/.slipway/tree/$path" "$to/$path" || exit 255
done' slipway "$to" "$kept" <"$kept/.slipway/plan"`;

/**
 * `$1` is the folder, `$2` the id; without, all that is not done. Can be repeated at any point: what is in `kept` was moved, and
 * what is not in `tree` any more is in the folder.
 */
const PUT_BACK_FILES = `to=$1
for kept in "$to"/.slipway/kept-*; do
  [ -d "$kept/.slipway" ] || continue
  if [ -n "$2" ]; then [ "\${kept##*/}" = "kept-$2" ] || continue; else [ ! -e "$kept/.slipway/done" ] || continue; fi
  xargs -0 sh -c 'to=$1 kept=$2
shift 2
for one; do
  path=\${one#?}
  case $one in
    o*)
      if [ -e "$kept/$path" ] || [ -h "$kept/$path" ]; then rm -rf "\${to:?}/$path" && mv -f "$kept/$path" "$to/$path" || exit 255; fi
      ;;
    n*)
      if [ ! -e "$kept/.slipway/tree/$path" ] && [ ! -h "$kept/.slipway/tree/$path" ]; then rm -rf "\${to:?}/$path" || exit 255; fi
      ;;
  esac
done' slipway "$to" "$kept" <"$kept/.slipway/plan" || exit
  sync -f "$to" 2>/dev/null || sync
  # Without its plan it is no restore any more, so that a put back that is killed here is not begun again.
  mv "$kept" "$to/.slipway/restore.putback" && rm -rf "$to/.slipway/restore.putback" || exit
done
for one in "$to"/.slipway/restore.*; do
  [ ! -d "$one" ] || [ "$one" = "$3" ] || { chmod -R u+rwx "$one" 2>/dev/null; rm -rf "$one" || exit; }
done`;

/**
 * Unpacks and compares beside, in `.slipway`, and then puts it all where it belongs by renames: the old files come back if one of them fails, SIGKILL
 * included; after a power cut {@link putBackFiles} does that. Owners are those of who deploys.
 *
 * @param id of the restore: `restored-ID` is the folder of `side`, `.slipway/kept-ID` has what `in-place` replaced.
 */
export function restoreFiles(
  folder: string,
  file: string,
  tree: TreeFigures,
  id: string,
  where: 'side' | 'in-place',
): Command {
  return script(
    `${BACKUP_HOST}${AFTERWARDS}${FIGURES}${UNPACK}${UNPACKED}folder=$1 file=$2 id=$3 where=$4 tree=$5 expected=$6 expected_hash=$7
shift 7
plan=$1 place=$2 put_back=$3
need tar gzip setsid
[ -r "$file" ] || fail 66 "the archive $file is not on the server."
[ -d "$folder" ] || fail 66 "there is no folder $folder on the server."
side=$folder/restored-$id kept=$folder/.slipway/kept-$id
[ ! -e "$side" ] && [ ! -e "$kept" ] || fail 75 "there is a restore $id in $folder already: choose another id."
for one in "$folder"/.slipway/kept-*/.slipway; do
  [ ! -e "$one/plan" ] || [ -e "$one/done" ] || fail 75 "\${one%/.slipway} is of a restore that was interrupted: put it back first."
done
mkdir -p "$folder/.slipway" || fail 73 "$folder cannot be written by the user that deploys."
make_work "$folder/.slipway/restore"
placing=
tidy() {
  chmod -R u+rwx "$work" 2>/dev/null
  [ -n "$placing" ] && [ -z "$accepted" ] || return 0
  if sh -c "$put_back" slipway "$folder" "$id" "$work"; then say 'the old files were put back.'
  else say "the old files could not all be put back (see above): they are in $kept, each by its path."; fi
}
mkdir -p "$work/kept/.slipway/tree" && chmod 755 "$work/kept/.slipway/tree" || fail 73 "$folder cannot be written: look whether the disk is full (\\\`df\\\`)."
unpack tar --no-same-owner -xpf - -C "$work/kept/.slipway/tree"
unpacked "$?" '; nothing was changed'
run sh -c "$tree" slipway files "$work/kept/.slipway/tree" 6</dev/null >"$work/list" || fail 74 'what was unpacked cannot be read (see above); nothing was changed.'
is_tree "$work/list" || fail 65 "there are $entries files of $expected, or their content differs; nothing was changed: ${DAMAGED}"
sync -f "$work" 2>/dev/null || sync
if [ "$where" = side ]; then
  mv "$work/kept/.slipway/tree" "$side" || fail 73 "$side cannot be made; nothing was changed: may the user that deploys write there?"
  kept=
else
  run sh -c "$plan" slipway "$folder" "$work/kept/.slipway/tree" 6</dev/null >"$work/kept/.slipway/plan" || fail 73 'it cannot be told what is to be replaced (see above); nothing was changed.'
  afterwards "$put_back" "$folder" "$id" ''
  sync -f "$work" 2>/dev/null || sync
  placing=1
  mv "$work/kept" "$kept" && sync -f "$folder" 2>/dev/null || fail 73 "$kept cannot be made: may the user that deploys write there?"
  change sh -c "$place" slipway "$folder" "$id" || fail 73 'not all files can be replaced (see above): may the user that deploys do that?'
  sync -f "$folder" 2>/dev/null || sync
  : >"$kept/.slipway/done" || fail 73 "$kept cannot be written: look whether the disk is full (\\\`df\\\`)."
  sync "$kept/.slipway/done" "$kept/.slipway" 2>/dev/null || sync
  kept=.slipway/kept-$id
fi
accepted=1
never_mind
printf '{"kind" : "restored", "kept" : "%s", "downSeconds" : 0, "entries" : %s, "seconds" : %s}\\n' "$kept" "$entries" "$(($(date +%s) - started))"`,
    folder,
    file,
    checkId(id),
    where,
    TREE,
    String(tree.entries),
    tree.hash,
    PLAN_FILES,
    PLACE_FILES,
    PUT_BACK_FILES,
  );
}

/**
 * Puts back what a restore of files had begun and not ended. Nothing where there is none.
 *
 * @param id of a restore that is to be taken back although it ended.
 */
export function putBackFiles(folder: string, id = ''): Command {
  return script(PUT_BACK_FILES, folder, id === '' ? '' : checkId(id), '');
}

/** What runs in a container with the volume: moves by renames, and gives a folder another's owner and mode. */
const MOVES = `move_all() {
  (cd "$1" && exec find . -mindepth 1 -maxdepth 1 ! -name '.slipway-kept-*' ! -name '.slipway-new-*' -exec sh -c 'to=$1
shift
exec mv -f "$@" "$to"' sh "$2" {} +)
}
be_like() {
  owner=$(stat -c %u:%g "$1") && mode=$(stat -c %a "$1") && chown "$owner" "$2" && chmod "$mode" "$2"
}
flush() { sync "$@" 2>/dev/null || sync; }
`;

/** `$1` is the volume's place, `$2` the id. */
const PREPARE_VOLUME = `cd "$1" || exit
[ ! -e ".slipway-kept-$2" ] || { echo "there is a restore $2 in the volume already: choose another id." >&2; exit 75; }
for one in .slipway-kept-*; do
  [ ! -d "$one/content" ] || [ -e "$one/done" ] || { echo "$one is of a restore that was interrupted: put it back first." >&2; exit 75; }
done
umask 077
rm -rf ".slipway-new-$2" && mkdir ".slipway-new-$2"`;

/** Notes the containers by which they go on after a power cut, `ID/POLICY` behind those that a boot brings back. All of the new data is on the disk then. */
const NOTE_USERS = `cd "$1/.slipway-new-$2" || exit
shift 2
printf '%s\\n' "$@" >containers && { sync -f . 2>/dev/null || sync; }`;

/**
 * The containers stand. The old content goes into `.slipway-kept-ID/content`, the new comes in. `moved` says that nothing old is
 * in the volume's root any more.
 */
const SWAP_VOLUME = `${MOVES}cd "$1" || exit
new=.slipway-new-$2 kept=.slipway-kept-$2
umask 077
mkdir "$new/kept" "$new/kept/content" && be_like . "$new/kept/content" && cp "$new/containers" "$new/kept/containers" || exit
flush "$new/kept/containers" "$new/kept"
mv "$new/kept" "$kept" || exit
flush .
move_all . "$1/$kept/content" || exit
: >"$kept/moved" || exit
flush "$kept/moved" "$kept" "$kept/content" .
move_all "$new/content" "$1" && be_like "$new/content" . || exit
flush .`;

const DONE_VOLUME = `cd "$1" && : >".slipway-kept-$2/done" && { sync ".slipway-kept-$2/done" ".slipway-kept-$2" 2>/dev/null || sync; } && rm -rf ".slipway-new-$2"`;

/**
 * `begun` where containers may stand for a restore, `half` where names have changed, then the containers that must go on. `$2` is the id;
 * without, all that is not done.
 */
const LIST_BEGUN = `cd "$1" || exit
if [ -n "$2" ]; then set -- "$2" ".slipway-new-$2" ".slipway-kept-$2"; else set -- '' .slipway-new-* .slipway-kept-*; fi
id=$1
shift
for one; do
  case $one in .slipway-kept-*) if [ -d "$one/content" ] && { [ -n "$id" ] || [ ! -e "$one/done" ]; }; then echo half; fi ;; esac
  if [ -e "$one/done" ]; then [ -z "$id" ] || echo begun
  elif [ -e "$one/containers" ]; then echo begun; cat "$one/containers"
  fi
done`;

/** `$2` is the id; without, all that is not done. Can be repeated at any point. */
const PUT_BACK_VOLUME = `${MOVES}cd "$1" || exit
for kept in .slipway-kept-*; do
  [ -d "$kept/content" ] || continue
  if [ -n "$2" ]; then [ "$kept" = ".slipway-kept-$2" ] || continue; else [ ! -e "$kept/done" ] || continue; fi
  rm -f "$kept/done" || exit
  if [ -e "$kept/moved" ]; then
    find . -mindepth 1 -maxdepth 1 ! -name '.slipway-kept-*' ! -name '.slipway-new-*' -exec rm -rf {} + || exit
    flush .
    rm -f "$kept/moved" || exit
    flush "$kept"
  fi
  move_all "$kept/content" "$1" && be_like "$kept/content" . || exit
  flush .
  rm -rf "$kept" || exit
done
if [ -n "$2" ]; then rm -rf ".slipway-new-$2"; else rm -rf .slipway-new-*; fi`;

/** `with_volume TEXT WORD...`: a script in a container of its own; whoever still works in that container is ended first. */
const WITH_VOLUME = `with_volume() {
  text=$1
  shift
  docker rm -fv "$scratch" >/dev/null 2>&1
  change docker run --rm --pull never --name "$scratch" --label "slipway.scratch=$project" --network none --restart no --user 0 --volume "$volume:/volume" --entrypoint sh "$image" -c "$text" slipway /volume "$@"
}
volume_exists() { docker volume inspect "$volume" >/dev/null 2>&1 || fail 78 "there is no volume $volume on the server."; }
`;

/** `$1` is the volume, then come image, scratch container, project, id or nothing, and the scripts. */
const PUT_BACK_ON_SERVER = `${BACKUP_HOST}${AT_BOOT}${WITH_VOLUME}${USERS}volume=$1 image=$2 scratch=$3 project=$4 id=$5 list=$6 put_back=$7 go_on=$8
volume_exists
begun=$(with_volume "$list" "$id") || fail 69 "the volume cannot be looked into (see above): is the image $image on the server?"
users --filter status=restarting
case $begun in
  *begun*)
    for one in $begun; do
      case $one in
        begun | half) ;;
        */*) returning="$returning $one" ;;
        *) case " $found " in *" $one "*) ;; *) found="$found $one" ;; esac ;;
      esac
    done
    [ -n "$returning" ] || find_returning $found
    case $begun in *half*) at_boot stay ;; esac
    [ -z "$found" ] || for one in $found; do
      docker inspect --type container "$one" >/dev/null 2>&1 || continue
      change docker stop "$one" >/dev/null || fail 70 'a container that uses the volume cannot be stopped (the own words of Docker are above).'
    done
    ;;
esac
with_volume "$put_back" "$id" || fail 70 'the old content of the volume could not be put back (see above): it is still in the volume; try again.'
case $begun in
  *begun*)
    at_boot come
    [ -z "$found" ] || change sh -c "$go_on" slipway stopped $found $returning || fail 70 'not all containers that use the volume start (see above): look at their logs.'
    ;;
esac`;

/**
 * Puts the content of an archive in the place of what is in the volume. It is unpacked beside it and compared while the old is in service; then the
 * containers that use it stand for as long as some renames take. If anything fails, the old content comes back, SIGKILL included; after a
 * power cut {@link putBackVolume} does that.
 *
 * @param id of the restore: `.slipway-kept-ID` in the volume has the old content then, which {@link dropKeptVolume} removes.
 */
export function restoreVolume(
  volume: string,
  image: string,
  file: string,
  tree: TreeFigures,
  id: string,
  scratch: Scratch,
): Command {
  return script(
    `${BACKUP_HOST}${AFTERWARDS}${AT_BOOT}${FIGURES}${UNPACK}${UNPACKED}${CONTAINER}${USERS}volume=$1 image=$2 file=$3 id=$4 scratch=$5 project=$6 memory=$7
shift 7
ready=$1 tree=$2 unpack_inside=$3 expected=$4 expected_hash=$5
shift 5
prepare=$1 note=$2 swap=$3 done_text=$4 put_back_on_server=$5 list=$6 put_back=$7 go_on=$8
need gzip setsid
[ -r "$file" ] || fail 66 "the archive $file is not on the server."
volume_exists
make_work "$file"
prepared= swapping=
tidy() {
  if [ -n "$prepared" ] && [ -z "$accepted" ]; then
    if sh -c "$put_back_on_server" slipway "$volume" "$image" "$scratch" "$project" "$id" "$list" "$put_back" "$go_on"; then
      [ -z "$swapping" ] || say 'the old content of the volume was put back and is in service.'
    else say 'the old content of the volume could not be put back (see above): where something is missing, it is in a folder of the volume that is called .slipway-kept- and the id of the restore.'
    fi
  fi
  tidy_container
}
stand_by --volume "$volume:/volume"
inside "$prepare" /volume "$id" || fail 75 'the volume cannot take a restore (see above); nothing was changed.'
afterwards "$put_back_on_server" "$volume" "$image" "$scratch" "$project" "$id" "$list" "$put_back" "$go_on"
prepared=1
unpack docker exec -i "$scratch" sh -c "$unpack_inside" slipway "/volume/.slipway-new-$id/content"
unpacked "$?" '; the old content is in service, nothing was changed'
inside "$tree" volume "/volume/.slipway-new-$id/content" >"$work/list" || fail 74 'what was unpacked cannot be read (see above); nothing was changed.'
is_tree "$work/list" || fail 65 "there are $entries files of $expected, or their content differs; nothing was changed: ${DAMAGED}"
users --filter status=restarting
can_stop
find_returning $found
inside "$note" /volume "$id" $found $returning || fail 73 'nothing can be written in the volume (see above); nothing was changed: look whether the disk is full (\`df\`).'
down=$(date +%s)
swapping=1
at_boot come
if [ -n "$found" ]; then change docker stop $found >/dev/null || fail 70 'not all containers that use the volume can be stopped (the own words of Docker are above).'; fi
at_boot stay && none_runs $found || fail 75 'a container that was just stopped runs again: was Docker restarted? Try again.'
change docker exec "$scratch" sh -c "$swap" slipway /volume "$id" || fail 70 'the new content could not be put in the place of the old (see above).'
at_boot come
if [ -n "$found" ]; then change sh -c "$go_on" slipway stopped $found $returning || fail 70 'not all containers start on the restored content (see above).'; fi
down=$(($(date +%s) - down))
[ -n "$found" ] || down=0
change docker exec "$scratch" sh -c "$done_text" slipway /volume "$id" || fail 73 'it cannot be noted in the volume that the restore is done (see above).'
accepted=1
never_mind
printf '{"kind" : "restored", "kept" : ".slipway-kept-%s", "downSeconds" : %s, "entries" : %s, "seconds" : %s}\\n' "$id" "$down" "$entries" "$(($(date +%s) - started))"`,
    volume,
    image,
    file,
    checkId(id),
    scratch.name,
    scratch.project,
    String(scratch.memoryMegabytes),
    READY,
    TREE,
    UNPACK_INSIDE,
    String(tree.entries),
    tree.hash,
    PREPARE_VOLUME,
    NOTE_USERS,
    SWAP_VOLUME,
    DONE_VOLUME,
    PUT_BACK_ON_SERVER,
    LIST_BEGUN,
    PUT_BACK_VOLUME,
    GO_ON,
  );
}

/**
 * Puts back what a restore of a volume had begun and not ended, and starts the containers that stand for it. Nothing where there is none.
 *
 * @param id of a restore that is to be taken back although it ended: what was written since is lost.
 */
export function putBackVolume(volume: string, image: string, scratch: Scratch, id = ''): Command {
  return script(
    PUT_BACK_ON_SERVER,
    volume,
    image,
    scratch.name,
    scratch.project,
    id === '' ? '' : checkId(id),
    LIST_BEGUN,
    PUT_BACK_VOLUME,
    GO_ON,
  );
}

/** Removes what {@link restoreVolume} has kept. */
export function dropKeptVolume(volume: string, image: string, id: string, scratch: Scratch): Command {
  return script(
    `${BACKUP_HOST}${WITH_VOLUME}volume=$1 image=$2 scratch=$3 project=$4 id=$5
volume_exists
with_volume 'rm -rf "$1/.slipway-kept-$2" "$1/.slipway-new-$2"' "$id" || fail 70 'the kept content could not be removed (see above): try again.'`,
    volume,
    image,
    scratch.name,
    scratch.project,
    checkId(id),
  );
}
