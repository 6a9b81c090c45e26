/** What the store has of one release: pure. */
import type { Command } from '../model/command';
import { Secret } from '../model/secret';
import type { StoreLayout } from '../releases/layout';
import { script } from '../shell/render';
import { parseSections, SECTION_FUNCTION } from './sections';

/** Everything of a release but its record, which the facts have. */
export interface StoredRelease {
  /** Its Compose file as YAML, with all values in it. */
  readonly compose: string;
  /** Its secret environment in dotenv form. */
  readonly env: Secret;
  /** What its schema was, one line each; undefined where that was not recorded. */
  readonly schema: readonly string[] | undefined;
}

/** @param token random, not guessable by what is in the store. */
export function readStoredRelease(token: string, { releases }: StoreLayout, id: string): Command {
  return {
    ...script(
      `${SECTION_FUNCTION}section compose cat "$2/compose.yaml"
section env cat "$2/env"
[ ! -e "$2/schema" ] || section schema cat "$2/schema"`,
      token,
      `${releases}/${id}`,
    ),
    secretOutput: true,
  };
}

/** @throws SyntaxError where a part of it is missing, or cannot be read. */
export function parseStoredRelease(output: string, token: string): StoredRelease {
  const sections = parseSections(output, token);
  const read = (name: string): string => {
    const section = sections.get(name);
    if (section?.exitCode !== 0) throw new SyntaxError(section?.stderr.trim() || `it has no ${name}`);
    return section.stdout;
  };
  return {
    compose: read('compose'),
    env: new Secret(read('env')),
    schema: sections.has('schema') ? parseSchema(read('schema')) : undefined,
  };
}

/** What a command says of the schema. */
export function parseSchema(output: string): string[] {
  return output
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '');
}

const MAX_SCHEMA_BYTES = 256 * 1024;

const FIND_REPLICA = `project=$1 service=$2
shift 2
id=$(docker ps -q --no-trunc --filter status=running --filter "label=com.docker.compose.project=$project" --filter "label=com.docker.compose.service=$service" --filter label=com.docker.compose.oneoff=False | head -n 1) || exit
[ -n "$id" ] || { echo "service $service has no running container" >&2; exit 69; }
`;

/** Asks what the schema is, in the newest running container of a service. */
export function askSchema(project: string, service: string, command: readonly string[]): Command {
  return script(`${FIND_REPLICA}exec docker exec "$id" "$@"`, project, service, ...command);
}

/** The same, kept with a release of the store. */
export function recordSchema(
  { releases }: StoreLayout,
  release: string,
  project: string,
  service: string,
  command: readonly string[],
): Command {
  return script(
    `folder=$1
shift
${FIND_REPLICA}umask 077
docker exec "$id" "$@" >"$folder/.schema.new" || { code=$?; rm -f "$folder/.schema.new"; exit "$code"; }
[ "$(wc -c <"$folder/.schema.new")" -le ${MAX_SCHEMA_BYTES} ] || {
  rm -f "$folder/.schema.new"
  echo 'the command of schema-state prints more than 256 KiB: a line for each migration is meant' >&2
  exit 70
}
sync "$folder/.schema.new" || :
mv "$folder/.schema.new" "$folder/schema"`,
    `${releases}/${release}`,
    project,
    service,
    ...command,
  );
}
