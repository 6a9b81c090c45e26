/** Verbs as the guardian reads them: a name and plain words on one line. Pure. */
import { localTag } from '../commands/images';
import type { FinishVerb, UndoVerb } from '../model/step';

/** @throws RangeError for a word that the guardian's shell would not read as one. */
export function renderVerb(verb: UndoVerb | FinishVerb, project: string): string {
  const words = [verb.verb, ...listWords(verb, project)];
  const bad = words.find((word) => !PLAIN_WORD.test(word));
  if (bad !== undefined) throw new RangeError(`a verb of the journal has an unusable word: ${JSON.stringify(bad)}`);
  return words.join(' ');
}

/** Names of services, containers, networks, images, releases. */
const PLAIN_WORD = /^[A-Za-z0-9._@:/,-]+$/;

const listIds = (ids: readonly string[]): string => (ids.length === 0 ? '-' : ids.join(','));

function listWords(verb: UndoVerb | FinishVerb, project: string): string[] {
  switch (verb.verb) {
    case 'keep-only':
      return [verb.service, ...verb.ids];
    case 'revive':
      return [verb.id, verb.restart];
    case 'restore-services':
      return [verb.release, verb.awaited.length === 0 ? '-' : verb.awaited.join(','), ...verb.services];
    case 'remove-networks':
      return [...verb.networks];
    case 'remove-run':
      return [verb.name];
    case 'take-back-data':
      return [verb.release];
    case 'restore-router':
    case 'settle-router':
      return [verb.router];
    case 'hand-over':
      return [
        listIds(verb.retired),
        ...verb.services.map(({ service, restart, before }) => `${service}/${restart}/${listIds(before)}`),
      ];
    case 'tell-metrics':
      return [verb.file, verb.task];
    case 'drain-new':
      return [verb.router, String(verb.port), String(verb.boundSeconds), verb.service, ...verb.ids];
    case 'drain':
      return [verb.router, String(verb.port), String(verb.boundSeconds), ...verb.ids];
    case 'retire':
      return [...verb.ids];
    case 'remove-services':
      return [...verb.services];
    case 'remove-releases':
      return [...verb.releases];
    case 'remove-files':
      return [...verb.addresses];
    case 'forget-images':
      // An image that was never pulled by its digest is not ours to tag or to remove.
      return [...new Set(verb.images)]
        .filter((image) => image.includes('@sha256:'))
        .flatMap((image) => [image, localTag(project, image)]);
  }
}
