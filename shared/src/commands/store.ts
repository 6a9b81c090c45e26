/** What changes the release store on the server: pure. Every write is a rename that is synced, so that a power cut leaves old or new. */
import type { Command } from '../model/command';
import { script } from '../shell/render';
import type { StoreLayout } from '../releases/layout';

/**
 * Takes the project's lock and keeps it for as long as lines come in on standard input: the kernel frees it when this
 * process ends, however it ends. Prints `locked` and the current release; exits 75 with the holder's note when it is held.
 *
 * @param holder one line that says who we are, for whoever has to wait.
 * @param leaseSeconds without a line for so long, it ends by itself: a link that was cut gives no end of input for hours.
 */
export function holdLock(layout: StoreLayout, holder: string, leaseSeconds: number): Command {
  return script(
    `umask 077
mkdir -p "$1/releases" "$1/files" && chmod 700 "$1" || exit
exec 9>>"$1/lock" || exit
flock -n 9 || { cat "$1/lock"; exit 75; }
printf '%s\\n' "$2" >"$1/lock"
printf 'locked %s\\n' "$(readlink "$1/current" || echo none)"
while beat=$(timeout "$3" head -n 1) && [ -n "$beat" ]; do :; done`,
    layout.store,
    holder,
    String(leaseSeconds),
  );
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
tar -xpf - -C incoming
chmod -R go= incoming/releases
for f in incoming/files/*; do
  [ -e "$f" ] || continue
  [ -e "files/\${f##*/}" ] || mv "$f" files/
done
sync files || :
mv "incoming/releases/$2" "releases/$2"
sync releases || :`,
      layout.store,
      releaseId,
    ),
    stdin: tar,
  };
}

/** Makes a release the current one, and `compose.yaml` in the project folder a link to it: the commit. */
export function pointCurrent(layout: StoreLayout, releaseId: string): Command {
  return script(
    `set -eu
cd "$1"
ln -s "releases/$2" .current.new 2>/dev/null || { rm -f .current.new; ln -s "releases/$2" .current.new; }
mv -T .current.new current
sync . || :
if [ "$(readlink ../compose.yaml || :)" != .slipway/current/compose.yaml ]; then
  [ ! -e ../compose.yaml ] || mv ../compose.yaml "../compose.yaml.before-slipway"
  ln -s .slipway/current/compose.yaml ../compose.yaml
fi
rm -f journal`,
    layout.store,
    releaseId,
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
sync journal.new || :
mv journal.new journal
sync . || :`,
      layout.store,
    ),
    stdin: text,
  };
}

/** Ends a transaction that was undone: the journal goes, and the release that did not make it. */
export function closeJournal(layout: StoreLayout, releaseId: string): Command {
  return script(`cd "$1" && rm -rf "releases/$2" && rm -f journal`, layout.store, releaseId);
}

/** Removes releases and shipped files that nothing kept points to. The current release is never removed, whatever is asked. */
export function pruneStore(layout: StoreLayout, releases: readonly string[], files: readonly string[]): Command {
  return script(
    `set -eu
cd "$1"
shift
current=$(readlink current || :)
for p in "$@"; do
  [ "$p" = "$current" ] || rm -rf "./$p"
done`,
    layout.store,
    ...releases.map((id) => `releases/${id}`),
    ...files.map((address) => `files/${address}`),
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
