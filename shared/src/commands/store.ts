/** What changes the release store on the server: pure. Every write is a rename that is synced, so that a power cut leaves old or new. */
import type { Command } from '../model/command';
import { script } from '../shell/render';
import { isReleaseId, type StoreLayout } from '../releases/layout';

/**
 * Takes the project's lock and keeps it for as long as lines come in on standard input: the kernel frees it when this
 * process ends, however it ends. Prints `locked` and the current release; exits 75 with the holder's note when it is held.
 *
 * @param holder one line that says who we are, for whoever has to wait.
 * @param token random; written down for {@link guardStep}.
 * @param leaseSeconds without a line for so long, it ends by itself: a link that was cut gives no end of input for hours.
 */
export function holdLock(layout: StoreLayout, holder: string, leaseSeconds: number, token: string): Command {
  return script(
    `umask 077
mkdir -p "$1/releases" "$1/files" && chmod 700 "$1" && : >>"$1/step" || exit
exec 9>>"$1/lock" || exit
flock -n 9
case $? in 0) ;; 1) cat "$1/lock"; exit 75 ;; *) exit 71 ;; esac
printf '%s\\n' "$2" >"$1/lock"
printf '%s' "$4" >"$1/session.new" && mv -T "$1/session.new" "$1/session" || exit
printf 'locked %s\\n' "$(readlink "$1/current" || echo none)"
# Whoever waits for a line must not keep the lock when this shell is gone: it closes the descriptor.
while beat=$(exec 9>&-; timeout "$3" head -n 1) && [ -n "$beat" ]; do :; done`,
    layout.store,
    holder,
    String(leaseSeconds),
    token,
  );
}

/** The answer of {@link guardStep} when somebody else has taken the lock meanwhile. */
export const LOCK_LOST = 76;

/**
 * Something that changes the server, run only when nothing else does, and only while the lock is ours. A step may outlive
 * its session: when the link is cut, its `docker compose` goes on, and whoever puts things back must not work against it.
 * And a session may outlive its lock: a runner that was suspended does not know that another deploy has taken over.
 *
 * @param token as {@link holdLock} was given it. Exits 76 when the store names another one.
 */
export function guardStep(layout: StoreLayout, token: string, step: Command): Command {
  const guarded = script(
    `[ "$(cat "$1")" = "$2" ] || { echo 'another session has taken the lock of this project' >&2; exit ${LOCK_LOST}; }
shift 2
exec "$@"`,
    layout.session,
    token,
    ...step.words,
  );
  return { ...step, words: ['flock', layout.step, ...guarded.words] };
}

/**
 * Unpacks a tar from standard input (`releases/ID/...`, `files/ADDRESS/...`) into the store. What is addressed by content
 * and already there is left alone; the release appears whole, by one rename.
 */
export function storeRelease(layout: StoreLayout, releaseId: string, tar: Uint8Array): Command {
  return {
    ...script(
      `set -eu
umask 077
cd "$1"
rm -rf incoming
mkdir incoming
trap 'rm -rf "$1/incoming"' EXIT
trap 'exit 129' HUP INT TERM PIPE
[ ! -e "releases/$2" ] || { echo "release $2 is in the store already" >&2; exit 73; }
# A connection that breaks ends standard input early, and tar takes a cut between two files for the end.
cat >incoming/tar
[ "$(wc -c <incoming/tar)" -eq "$3" ] || { echo "the release arrived cut off" >&2; exit 74; }
tar -xpmf incoming/tar -C incoming
rm incoming/tar
chmod -R go= incoming/releases
find incoming -exec sync {} + || :
for f in incoming/files/*; do
  [ -e "$f" ] || continue
  [ -e "files/\${f##*/}" ] || mv "$f" files/
done
sync files || :
mv -T "incoming/releases/$2" "releases/$2"
sync releases || :`,
      layout.store,
      releaseId,
      String(tar.byteLength),
    ),
    stdin: tar,
  };
}

/** Makes a release the current one, and `compose.yaml` in the project folder a link to it: the commit. */
export function pointCurrent(layout: StoreLayout, releaseId: string): Command {
  return script(
    `set -eu
cd "$1"
[ -f "releases/$2/compose.yaml" ] || { echo "release $2 is not in the store" >&2; exit 66; }
rm -f .current.new
ln -s "releases/$2" .current.new
mv -T .current.new current
sync . || :
if [ "$(readlink ../compose.yaml || :)" != .slipway/current/compose.yaml ]; then
  if [ -e ../compose.yaml ] || [ -L ../compose.yaml ]; then
    kept=../compose.yaml.before-slipway
    [ ! -e "$kept" ] || kept=$kept.$2
    mv ../compose.yaml "$kept"
  fi
  ln -s .slipway/current/compose.yaml ../compose.yaml
fi
rm -f journal`,
    layout.store,
    releaseId,
  );
}

/**
 * Takes {@link pointCurrent} back, where it came through and its answer did not, before what the release started is undone.
 *
 * @param previous the release that served before; undefined for a first deploy.
 */
export function withdrawCurrent(layout: StoreLayout, releaseId: string, previous: string | undefined): Command {
  return script(
    `set -eu
cd "$1"
[ "$(readlink current || :)" = "releases/$2" ] || exit 0
if [ -n "$3" ]; then
  rm -f .current.new
  ln -s "releases/$3" .current.new
  mv -T .current.new current
else
  rm -f current
  if [ "$(readlink ../compose.yaml || :)" = .slipway/current/compose.yaml ]; then
    rm -f ../compose.yaml
    [ ! -e ../compose.yaml.before-slipway ] || mv ../compose.yaml.before-slipway ../compose.yaml
  fi
fi
sync . || :`,
    layout.store,
    releaseId,
    previous ?? '',
  );
}

/** Writes the journal of undo verbs before the first change. */
export function writeJournal(layout: StoreLayout, text: string): Command {
  return {
    ...script(
      `set -eu
umask 077
cd "$1"
cat >journal.new
[ "$(wc -c <journal.new)" -eq "$2" ] || { echo "the journal arrived cut off" >&2; exit 74; }
sync journal.new || :
mv journal.new journal
sync . || :`,
      layout.store,
      String(Buffer.byteLength(text)),
    ),
    stdin: text,
  };
}

/** Ends a transaction that was undone: the journal goes, and the release that did not make it. */
export function closeJournal(layout: StoreLayout, releaseId: string): Command {
  return script(
    `cd "$1" || exit
[ "$(readlink current)" = "releases/$2" ] || rm -rf "releases/$2" || exit
rm -f journal`,
    layout.store,
    releaseId,
  );
}

/** Removes releases and shipped files that nothing kept points to. The current release is never removed, whatever is asked. */
export function pruneStore(layout: StoreLayout, releases: readonly string[], files: readonly string[]): Command {
  return script(
    `set -eu
cd "$1"
shift
current=$(readlink current || :)
rm -rf .removed.* 2>/dev/null || :
for p in "$@"; do
  [ "$p" != "$current" ] && [ -e "$p" ] || continue
  # By a rename first: what is half removed would count as a release, or as files that need not be shipped.
  gone=.removed.$$.\${p##*/}
  mv -T "$p" "$gone"
  rm -rf "$gone" || echo "$PWD/$gone cannot be removed: a container has put files of another user there" >&2
done`,
    layout.store,
    ...releases.filter(isReleaseId).map((id) => `releases/${id}`),
    ...files.filter((address) => /^[0-9a-f]{64}$/.test(address)).map((address) => `files/${address}`),
  );
}

/** Makes the record of a project that ran before the current release; its Compose file in the project folder stays as it is. */
export function adoptCurrent(layout: StoreLayout, releaseId: string): Command {
  return script(
    `set -eu
cd "$1"
rm -f .current.new
ln -s "releases/$2" .current.new
mv -T .current.new current
sync . || :`,
    layout.store,
    releaseId,
  );
}
