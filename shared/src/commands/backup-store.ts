/** The folder of backups on the server: pure. */
import { type BackupLayout, backupFolder, partialFolder } from '../releases/backup-layout';
import type { Command } from '../model/command';
import { script } from '../shell/render';
import { parseSections, SECTION_FUNCTION } from './sections';

/** @param token random, not guessable by what is in the folder. */
export function readBackups(token: string, { folder }: BackupLayout): Command {
  return script(
    `${SECTION_FUNCTION}for manifest in "$2"/*/manifest.json; do
  [ -e "$manifest" ] || continue
  name=\${manifest%/manifest.json}
  name=\${name##*/}
  case $name in *.partial | *.removing) ;; *) section "$name" cat "$manifest" ;; esac
done
section end true`,
    token,
    folder,
  );
}

export interface StoredManifest {
  /** Of its folder. */
  readonly id: string;
  readonly text: string;
}

/** @throws SyntaxError where the answer is cut off. */
export function parseBackups(output: string, token: string): StoredManifest[] {
  const sections = parseSections(output, token);
  if (!sections.has('end')) throw new SyntaxError("the server's answer is cut off");
  return [...sections].filter(([name]) => name !== 'end').map(([id, { stdout }]) => ({ id, text: stdout }));
}

/** A folder for a backup in the making. */
export function beginBackup(layout: BackupLayout, id: string): Command {
  return script('umask 077; mkdir -p "$1" && mkdir "$2"', layout.folder, partialFolder(layout, id));
}

/**
 * Removes what killed sessions of our kind have left in the folder, and prints one line each. Only for who has the lock that they had:
 * nothing of a living session may go.
 */
export function sweepBackups({ folder, partial }: BackupLayout): Command {
  return script(
    `for left in "$1"/*"$2" "$1"/*.removing; do
  case $2:$left in .partial:*.change.partial | .change.partial:*.removing) continue ;; esac
  [ ! -e "$left" ] || { rm -rf "$left" && printf '%s\\n' "\${left##*/}"; } || exit
done`,
    folder,
    partial,
  );
}

/** Puts the input into a file, whole or not at all. */
export function writeFile(file: string, content: string | Uint8Array): Command {
  return {
    ...script('umask 077; cat >"$1.new" && { sync "$1.new" || :; } && mv "$1.new" "$1"', file),
    stdin: content,
  };
}

/** Of a file that others read, such as Prometheus; its folder is there. */
export function writePublicFile(file: string, content: string): Command {
  return { ...script('cat >"$1.new" && chmod 644 "$1.new" && mv "$1.new" "$1"', file), stdin: content };
}

/** From now on readers see it. */
export function acceptBackup(layout: BackupLayout, id: string): Command {
  return script(
    `[ ! -e "$2" ] || { echo "$2 is there already" >&2; exit 75; }
sync "$1"/* "$1" || :
mv "$1" "$2" && { sync "\${2%/*}" || :; }`,
    partialFolder(layout, id),
    backupFolder(layout, id),
  );
}

export function dropPartial(layout: BackupLayout, id: string): Command {
  return script('rm -rf "$1"', partialFolder(layout, id));
}

/** No reader sees half of one that is being removed. */
export function removeBackups(layout: BackupLayout, ids: readonly string[]): Command {
  return script(
    `cd "$1" || exit
shift
for id; do [ ! -e "$id" ] || { mv "$id" "$id.removing" && rm -rf "$id.removing"; } || exit; done`,
    layout.folder,
    ...ids,
  );
}

/** @param checksums as `renderChecksums` makes them; exit code 65 and the names of those that differ. */
export function checkFiles(folder: string, checksums: string): Command {
  return {
    ...script(
      'cd "$1" && { bad=$(sha256sum -c - 2>&1) || { printf "%s\\n" "$bad" | grep -v ": OK$" >&2; exit 65; }; }',
      folder,
    ),
    stdin: checksums,
  };
}

/** `sha256 bytes` of a file. It comes in on standard input: a name with a backslash would put one before the checksum. */
export function measureFile(file: string): Command {
  return script('sum=$(sha256sum <"$1") && bytes=$(wc -c <"$1") && printf "%s %s\\n" "${sum%% *}" "$((bytes))"', file);
}

/** @throws SyntaxError */
export function parseMeasured(output: string): { readonly sha256: string; readonly bytes: number } {
  const [, sha256, bytes] = /^([0-9a-f]{64}) (\d+)\n$/.exec(output) ?? [];
  if (sha256 === undefined) throw new SyntaxError("the server's answer is cut off");
  return { sha256, bytes: Number(bytes) };
}

/**
 * How many bytes there are of files in the making: 0 before there is one. For progress only. Beside them are the named pipes of the
 * dump: whoever opens one takes away what goes through it.
 */
export function measureGrowth(file: string): Command {
  return script(
    `sum=0
for one in "$1" "$1".*/*; do
  [ -f "$one" ] || continue
  bytes=$(wc -c <"$one") && sum=$((sum + bytes))
done 2>/dev/null
echo "$sum"`,
    file,
  );
}

/** Its standard output is the file's content. */
export function readContent(file: string): Command {
  return { words: ['cat', '--', file] };
}

/** Its standard input becomes the file's content; it ends well when all of it is on the disk. */
export function writeContent(file: string): Command {
  return script('umask 077; cat >"$1" && { sync "$1" || :; }', file);
}

export function removeFiles(files: readonly string[]): Command {
  return { words: ['rm', '-f', '--', ...files] };
}

export function readFileIfAny(file: string): Command {
  return script('[ ! -e "$1" ] || cat "$1"', file);
}
