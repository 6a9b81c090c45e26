/** Rendering the user's Compose files by the server's own `docker compose`: pure. */
import { parseJson } from '../json';
import type { Command } from '../model/command';
import { script } from '../shell/render';

/** Prints the staging folder on the first line, then the rendered project: as YAML, since Compose leaves `x-` keys out of its JSON. */
const render = (fill: string): string => `umask 077
base=\${XDG_RUNTIME_DIR:-/dev/shm}
[ -d "$base" ] && [ -w "$base" ] || base=\${TMPDIR:-/tmp}
root=$(mktemp -d "$base/slipway.XXXXXXXX") || exit
trap 'rm -rf "$root"' EXIT
trap 'exit 129' HUP INT TERM PIPE
# So deep that \`../..\` in a path stays below a folder of ours, where it can be told.
stage=$root/_/_/_/_/_/_/_/_
directory=$stage/$1
project=$2
shift 2
mkdir -p "$directory" || exit
${fill} || exit
cd "$directory" || exit
printf '%s\\n' "$stage"
unset COMPOSE_FILE COMPOSE_PROJECT_NAME COMPOSE_ENV_FILES COMPOSE_PROFILES
docker compose --ansi never --project-name "$project" --project-directory "$directory" "$@" config`;

export interface RenderRequest {
  readonly project: string;
  /** Folder of the first Compose file, relative to the workspace; empty for the workspace itself. */
  readonly directory: string;
  /** Relative to `directory`. */
  readonly composeFiles: readonly string[];
  /** Relative to `directory`; later ones win. */
  readonly envFiles: readonly string[];
  /** The workspace's files that rendering may read. */
  readonly tar: Uint8Array;
}

/**
 * Renders in a folder of its own in memory (`XDG_RUNTIME_DIR`, else /dev/shm), readable by nobody else and removed at the
 * end, also when the connection breaks: what it unpacks holds secrets. Changes nothing else.
 */
export function renderProject(request: RenderRequest): Command {
  return {
    ...script(render('tar -xf - -C "$stage"'), ...listArguments(request)),
    stdin: request.tar,
    secretOutput: true,
  };
}

function listArguments({ directory, project, envFiles, composeFiles }: Omit<RenderRequest, 'tar'>): string[] {
  return [
    directory,
    project,
    ...envFiles.flatMap((file) => ['--env-file', file]),
    ...composeFiles.flatMap((file) => ['--file', file]),
  ];
}

/** As {@link renderProject}, of what a release of the store was made from, with the environment of another one. */
export function renderStored(
  request: Omit<RenderRequest, 'tar'>,
  releases: { readonly source: string; readonly env: string },
): Command {
  const fill = `source=$1 env=$2
shift 2
tar -xf "$source/source.tar" -C "$stage" && { [ ! -s "$env/env" ] || cat "$env/env" >"$directory/.env"; }`;
  // What is shifted comes before what is handed on to Compose.
  const [directory = '', project = '', ...words] = listArguments(request);
  return {
    ...script(render(fill), directory, project, releases.source, releases.env, ...words),
    secretOutput: true,
  };
}

/** @throws SyntaxError when the staging folder's line is missing. */
export function parseRendered(stdout: string): { readonly stagingRoot: string; readonly rendered: string } {
  const end = stdout.indexOf('\n');
  const stagingRoot = stdout.slice(0, Math.max(end, 0));
  if (!stagingRoot.startsWith('/')) throw new SyntaxError('the server did not name the staging folder');
  return { stagingRoot, rendered: stdout.slice(end + 1) };
}

/**
 * What Compose warns of while rendering: above all a variable that is not set and becomes an empty text, which nobody would
 * notice otherwise. Its lines look like `time="..." level=warning msg="..."`.
 */
export function parseComposeWarnings(stderr: string): string[] {
  const messages = [...stderr.matchAll(/level=warning msg=("(?:[^"\\]|\\.)*")/g)].map(([, quoted = '']) => {
    const text = parseJson(quoted);
    return typeof text === 'string' ? text : quoted;
  });
  return [...new Set(messages)];
}
