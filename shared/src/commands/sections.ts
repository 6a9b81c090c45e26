/** Many questions in one round trip: each answer framed by a token that no answer can know. Pure. */

export interface Section {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * Defines the sh function `section NAME PROGRAM ARGUMENT...`, for scripts that are given the token as `$1`. Standard output
 * goes straight through; standard error follows it, so that a warning cannot end up inside JSON.
 */
/**
 * Defines `beside NAME PROGRAM ARGUMENT...`, a `section` that runs beside the others, and `tell_all`, which prints them when
 * all have ended: `docker` takes longer to start than to answer. Where there is no folder in memory they run one by one.
 */
export const SECTIONS_BESIDE = `answers=
for base in "\${XDG_RUNTIME_DIR:-}" /dev/shm; do
  [ -d "$base" ] && [ -w "$base" ] && answers=$(mktemp -d "$base/slipway.XXXXXXXX" 2>/dev/null) && break
done
trap '[ -z "$answers" ] || rm -rf "$answers"' EXIT
trap 'exit 129' HUP INT TERM PIPE
beside() {
  if [ -z "$answers" ]; then section "$@"; return; fi
  { exec 3>&1; section "$@"; } >"$answers/$1" &
}
tell_all() {
  wait
  [ -n "$answers" ] || return 0
  for answer in "$answers"/*; do [ ! -e "$answer" ] || cat "$answer" || exit; done
}
`;

export const SECTION_FUNCTION = `token=$1
exec 3>&1
section() {
  name=$1
  shift
  printf '%s begin %s\\n' "$token" "$name"
  problem=$({ "$@" 2>&1 >&3 3>&- </dev/null; })
  printf '\\n%s end %s %s\\n%s\\n%s close %s\\n' "$token" "$name" "$?" "$problem" "$token" "$name"
}
`;

/** @throws SyntaxError when an answer is cut off. */
export function parseSections(output: string, token: string): ReadonlyMap<string, Section> {
  const sections = new Map<string, Section>();
  let rest = output;
  for (;;) {
    const begin = rest.indexOf(`${token} begin `);
    if (begin < 0) return sections;
    const nameEnd = rest.indexOf('\n', begin);
    const name = rest.slice(begin + token.length + 7, nameEnd);
    const end = rest.indexOf(`\n${token} end ${name} `, nameEnd);
    const close = rest.indexOf(`\n${token} close ${name}\n`, Math.max(end, 0));
    if (nameEnd < 0 || end < 0 || close < 0) throw new SyntaxError(`the server's answer to "${name}" is cut off`);
    const codeEnd = rest.indexOf('\n', end + 1);
    sections.set(name, {
      stdout: rest.slice(nameEnd + 1, end),
      exitCode: Number.parseInt(rest.slice(end + token.length + 7 + name.length, codeEnd), 10),
      stderr: rest.slice(codeEnd + 1, close),
    });
    rest = rest.slice(close + token.length + name.length + 9);
  }
}
