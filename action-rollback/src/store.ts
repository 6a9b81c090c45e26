/** Whether there is anything to go back to, before a lock is made in a folder that is none of ours. */
import type { TransactionRequest } from '#shared/engine/transaction';
import { projectPath } from '#shared/engine/request';
import { ReleaseError } from '#shared/errors';
import type { Remote } from '#shared/ports';
import { script } from '#shared/shell/render';

const LOOK = `case $1 in /*) path=$1 ;; *) path=$HOME/$1 ;; esac
if [ -e "$path/.slipway/current" ] || [ -e "$path/.slipway/journal" ]; then echo here; fi
for store in "$HOME"/apps/*/.slipway/current; do
  [ ! -e "$store" ] || { name=\${store%/.slipway/current} && printf '%s\\n' "\${name##*/}"; }
done`;

/** @throws ReleaseError with the projects that there are. */
export async function requireStore(remote: Remote, request: TransactionRequest, signal: AbortSignal): Promise<void> {
  const path = projectPath(request);
  const { stdout } = await remote.run(script(LOOK, path), { purpose: 'look for releases', signal });
  const [first = '', ...others] = stdout.split('\n').filter((line) => line !== '');
  if (first === 'here') return;
  const names = [first, ...others].filter((name) => name !== '');
  throw new ReleaseError(
    `There is no release of project ${request.project} in ${path} on ${remote.where}. Nothing was changed.`,
    `Is it the right project (input project, else the repository's name) and folder (input path, else apps/<project>)? ${names.length === 0 ? 'No project has releases there' : `Projects with releases in apps: ${names.join(', ')}`}. A release is there once action-deploy has run.`,
  );
}
