/** The verbs of the guardian as they are on a server, without its locks and processes: for tests with a `docker` that writes down. */
import { readFileSync } from 'node:fs';

const read = (name: string): string => readFileSync(new URL(`../../src/guardian/${name}`, import.meta.url), 'utf8');
const guardian = read('guardian.sh');
const verbs = guardian.slice(guardian.indexOf('# --- verbs:'), guardian.indexOf('# --- the transaction ---'));

/** Its parameters are a function of the verbs and what that is given. What the verb says of failures is on standard error. */
export const VERBS_PROGRAM = `project=shop store=$PWD/store log=$PWD/log limit=60
current() { printf none; }
${verbs}
${read('router.sh')}
note() { echo "note $*"; }
run() { "$@" </dev/null >>"$log" 2>&1; }
: >"$log"
set -f
"$@"
code=$?
cat "$log" >&2
exit "$code"`;
