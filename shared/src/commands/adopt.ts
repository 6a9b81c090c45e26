/** A project that ran before its first deploy by Slipway: how it can be put back. Pure. */
import type { Command } from '../model/command';
import { script } from '../shell/render';

/**
 * Prints the folder of the running project, then the project as rendered from the Compose files that its containers were
 * made from, as their labels name them. Exits 66 when the files are gone. Its output is secret.
 */
export function renderRunning(project: string): Command {
  return {
    ...script(
      `id=$(docker ps -aq --filter "label=com.docker.compose.project=$1" --filter label=com.docker.compose.oneoff=False | head -n 1) || exit
label() { docker inspect --format "{{index .Config.Labels \\"com.docker.compose.project.$1\\"}}" "$id"; }
directory=$(label working_dir) || exit
files=$(label config_files) || exit
environment=$(label environment_file) || exit
project=$1
set -f --
IFS=,
for f in $files; do
  [ -r "$f" ] || { echo "$f" >&2; exit 66; }
  set -- "$@" --file "$f"
done
[ "$#" -gt 0 ] || exit 66
for f in $environment; do [ ! -r "$f" ] || set -- "$@" --env-file "$f"; done
cd "$directory" || exit 66
printf '%s\\n' "$directory"
docker compose --ansi never --project-name "$project" --project-directory "$directory" "$@" config`,
      project,
    ),
    secretOutput: true,
  };
}

export const FILES_GONE = 66;

/** The two parts of the answer to {@link renderRunning}. */
export function splitRunning(stdout: string): { readonly directory: string; readonly rendered: string } {
  const end = stdout.indexOf('\n');
  return { directory: stdout.slice(0, Math.max(end, 0)).replace(/(?<=.)\/+$/, ''), rendered: stdout.slice(end + 1) };
}
