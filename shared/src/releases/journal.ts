/** The journal of an unfinished transaction: verbs and arguments, never shell text, never a secret. Pure. */
import { isReleaseId } from './layout';
import type { Step, UndoVerb } from '../model/step';
import { type Json, parseJson, readList, readMember, readNumber, readText } from '../json';

export interface Journal {
  /** Compose project name. */
  readonly project: string;
  /** The release that was on its way. */
  readonly release: string;
  /** The one that served before; empty for a first deploy. */
  readonly previous: string;
  readonly runUrl: string;
  readonly actor: string;
  /** For each verb: as long as the longest of the steps. */
  readonly timeoutSeconds: number;
  /** In the order in which they are to be carried out. */
  readonly undo: readonly UndoVerb[];
}

/** A deploy may ask its services for a long farewell (`stop_grace_period`); an hour is more than that. */
const MAX_TIMEOUT_SECONDS = 3600;

/**
 * The way back of some steps. First what is new goes, so that its ports and volumes are free; then what was there is put
 * back, all of it by one verb: made in one go and started in the order of the steps, since a service may need another one.
 */
export function planUndo(steps: readonly Step[]): UndoVerb[] {
  const verbs = steps.flatMap((step) => (step.kind === 'run' ? step.undo : []));
  const restores = verbs.filter((verb) => verb.verb === 'restore-services');
  const merged = [...Map.groupBy(restores, (verb) => verb.release)].map(([release, own]): UndoVerb => ({
    verb: 'restore-services',
    release,
    services: [...new Set(own.flatMap((verb) => verb.services))],
    awaited: [...new Set(own.flatMap((verb) => verb.awaited))],
  }));
  return [
    ...verbs.filter((verb) => verb.verb === 'remove-services').reverse(),
    ...merged,
    ...verbs.filter((verb) => verb.verb === 'remove-networks').reverse(),
  ];
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
    !NAME.test(readText(value, 'project')) ||
    !isReleaseId(release) ||
    (previous !== '' && !isReleaseId(previous)) ||
    !Array.isArray(undo)
  ) {
    throw new SyntaxError('not a journal of this version');
  }
  const timeoutSeconds = readNumber(value, 'timeoutSeconds');
  return {
    project: readText(value, 'project'),
    release,
    previous,
    runUrl: readText(value, 'runUrl'),
    actor: readText(value, 'actor'),
    timeoutSeconds: Math.min(Math.max(timeoutSeconds, 60), MAX_TIMEOUT_SECONDS),
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
      const services = names('services');
      const awaited = readList(value, 'awaited').filter((name) => typeof name === 'string');
      return {
        verb: 'restore-services',
        release,
        services,
        awaited: awaited.filter((name) => services.includes(name)),
      };
    }
    case 'remove-services':
      return { verb: 'remove-services', services: names('services') };
    case 'remove-networks':
      return { verb: 'remove-networks', networks: names('networks') };
    default:
      throw new SyntaxError('a verb of the journal is not known');
  }
}
