/** What changes the release store on the server: pure. Every write is a rename that is synced, so that a power cut leaves old or new. */
import type { Command } from '../model/command';
import { script } from '../shell/render';
import type { StoreLayout } from '../releases/layout';

/** What a release was made from: see RenderSource. */
const SOURCE_FILES = 'source.json source.tar';

/**
 * Unpacks a tar from standard input (`releases/ID/...`, `files/ADDRESS/...`) into the store. What is addressed by content
 * and already there is left alone; the release appears whole, by one rename.
 *
 * @param like a release of which it takes what that was made from.
 */
export function storeRelease(layout: StoreLayout, releaseId: string, tar: Uint8Array, like = ''): Command {
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
for f in ${SOURCE_FILES}; do
  [ -z "$4" ] || [ ! -e "releases/$4/$f" ] || cp "releases/$4/$f" "incoming/releases/$2/$f"
done
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
      like,
    ),
    stdin: tar,
  };
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

/** Images that are about to be pulled: those of an interrupted deploy are nobody's. */
export function notePulling(layout: StoreLayout, images: readonly string[]): Command {
  return script(`umask 077; store=$1; shift; printf '%s\\n' "$@" >>"$store/pulling"`, layout.store, ...images);
}
