import type { Command } from '../model/command';
import type { UndoVerb } from '../model/step';
import { releaseComposeFile, type StoreLayout } from '../releases/layout';
import { script } from '../shell/render';
import { type ComposeTarget, startServices } from './compose';

/** What a verb of the journal does. Every one may be carried out again, and on what was never done. */
export function renderUndo(verb: UndoVerb, target: ComposeTarget, layout: StoreLayout): Command {
  switch (verb.verb) {
    case 'restore-services':
      return startServices(target, releaseComposeFile(layout, verb.release), verb.services, verb.awaited);
    case 'remove-services':
      return removeServices(target, verb.services);
    case 'remove-networks':
      return removeNetworks(target, verb.networks);
  }
}

/** Stops (as each asked to be stopped) and removes the replicas of services; volumes stay, and what `compose run` made. */
export function removeServices(target: ComposeTarget, services: readonly string[]): Command {
  return script(
    `project=$1
shift
for s in "$@"; do
  ids=$(docker ps -aq --filter "label=com.docker.compose.project=$project" --filter "label=com.docker.compose.service=$s" --filter label=com.docker.compose.oneoff=False) || exit
  [ -n "$ids" ] || continue
  docker stop $ids && docker rm -f $ids || exit
done`,
    target.project,
    ...services,
  );
}

/** Removes networks of this project that nothing is connected to. One of somebody else may have the same name. */
function removeNetworks(target: ComposeTarget, networks: readonly string[]): Command {
  return script(
    `project=$1
shift
for n in "$@"; do
  facts=$(docker network inspect --format '{{index .Labels "com.docker.compose.project"}} {{len .Containers}}' "$n" 2>/dev/null) || continue
  [ "$facts" = "$project 0" ] || continue
  docker network rm "$n" || exit
done`,
    target.project,
    ...networks,
  );
}

/** Why an undo verb is there, for people. */
export function describeUndo(verb: UndoVerb): string {
  switch (verb.verb) {
    case 'restore-services':
      return `put back ${verb.services.join(', ')} of release ${verb.release}`;
    case 'remove-services':
      return `remove ${verb.services.join(', ')}, which did not exist before`;
    case 'remove-networks':
      return `remove the networks ${verb.networks.join(', ')}`;
  }
}
