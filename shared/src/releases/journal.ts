/** The journal of an unfinished transaction: verbs and arguments, never shell text, never a secret. Pure. */
import { isReleaseId } from './layout';
import type { UndoVerb } from '../model/step';
import { type Json, parseJson, readList, readMember, readText } from '../json';

export interface Journal {
  /** The release that was on its way. */
  readonly release: string;
  /** The one that served before; empty for a first deploy. */
  readonly previous: string;
  readonly runUrl: string;
  readonly actor: string;
  /** In the order in which they are to be carried out. */
  readonly undo: readonly UndoVerb[];
}

export function renderJournal(journal: Journal): string {
  return `${JSON.stringify({ version: 1, ...journal })}\n`;
}

/** @throws SyntaxError when it is not one: nothing in it is carried out then. */
export function parseJournal(text: string): Journal {
  const value = parseJson(text);
  const release = readText(value, 'release');
  const previous = readText(value, 'previous');
  const undo = readMember(value, 'undo');
  if (
    readMember(value, 'version') !== 1 ||
    !isReleaseId(release) ||
    (previous !== '' && !isReleaseId(previous)) ||
    !Array.isArray(undo)
  ) {
    throw new SyntaxError('not a journal of this version');
  }
  return {
    release,
    previous,
    runUrl: readText(value, 'runUrl'),
    actor: readText(value, 'actor'),
    undo: readList(value, 'undo').map(parseVerb),
  };
}

/** Compose's own rule for names of services, without those that a program would take for an option; networks fit it too. */
const NAME = /^[a-zA-Z0-9._][a-zA-Z0-9._-]*$/;

function parseVerb(value: Json): UndoVerb {
  const names = (key: string): string[] => {
    const list = readList(value, key);
    if (list.length === 0 || !list.every((name): name is string => typeof name === 'string' && NAME.test(name))) {
      throw new SyntaxError(`a verb of the journal has unusable ${key}`);
    }
    return [...list];
  };
  switch (readText(value, 'verb')) {
    case 'restore-services': {
      const release = readText(value, 'release');
      if (!isReleaseId(release)) throw new SyntaxError('a verb of the journal names no release');
      return { verb: 'restore-services', release, services: names('services') };
    }
    case 'remove-services':
      return { verb: 'remove-services', services: names('services') };
    case 'remove-networks':
      return { verb: 'remove-networks', networks: names('networks') };
    default:
      throw new SyntaxError('a verb of the journal is not known');
  }
}
