/** The journal of a transaction: the whole way back and all that is left after the commit, written before the first change. Pure. */
import type { FinishVerb, UndoVerb } from '../model/step';
import { isReleaseId } from '../releases/layout';
import { renderVerb } from './verbs';

export interface Journal {
  readonly project: string;
  /** The release that is on its way. */
  readonly release: string;
  /** For each command that a verb runs. */
  readonly limitSeconds: number;
  /** In the order in which they are to be carried out. */
  readonly undo: readonly UndoVerb[];
  readonly finish: readonly FinishVerb[];
}

/** A service may ask for a long farewell (`stop_grace_period`); an hour is more than that. */
const LIMITS = { least: 120, most: 3600 };

/** @throws RangeError for what is not an id of ours, or not a plain word. */
/** The release that a journal on the server is about; undefined where there is none. */
export function readJournalRelease(journal: string): string | undefined {
  return /^release (\S+)$/m.exec(journal)?.[1];
}

export function renderJournal(journal: Journal): string {
  if (!isReleaseId(journal.release)) throw new RangeError('not the id of a release');
  const limit = Math.ceil(Math.min(Math.max(journal.limitSeconds, LIMITS.least), LIMITS.most));
  return [
    'slipway 2',
    `release ${journal.release}`,
    `limit ${limit}`,
    ...journal.undo.map((verb) => `undo ${renderVerb(verb, journal.project)}`),
    ...journal.finish.map((verb) => `finish ${renderVerb(verb, journal.project)}`),
    'end\n',
  ].join('\n');
}

/** Every verb has its place: one without would never be undone. */
const UNDO_ORDER: Readonly<Record<UndoVerb['verb'], true>> = {
  // A migration must have ended before anything else is touched.
  'remove-run': true,
  // Before visitors: what they write from then on must not be in what is thrown away.
  'take-back-data': true,
  // Traffic first goes back to what is still warm.
  'restore-router': true,
  // What is new may still be answering.
  'drain-new': true,
  // Then what is new goes, so that its ports and volumes are free for what comes back.
  'keep-only': true,
  revive: true,
  'restore-services': true,
  'remove-networks': true,
  'remove-files': true,
  'forget-images': true,
  // It tells whether all of them went well.
  'tell-metrics': true,
};

/** The way back of some steps, each verb in its place; services that come back in the order in which they depend on each other. */
export function orderUndo(verbs: readonly UndoVerb[], serviceOrder: readonly string[]): UndoVerb[] {
  return Object.keys(UNDO_ORDER).flatMap((name) => {
    const own = verbs.filter((verb) => verb.verb === name);
    return name === 'restore-services' ? mergeRestores(own, serviceOrder) : own;
  });
}

/** By one verb: what is made again in one go finds its dependencies. */
function mergeRestores(verbs: readonly UndoVerb[], serviceOrder: readonly string[]): UndoVerb[] {
  const restores = verbs.filter((verb) => verb.verb === 'restore-services');
  const [first] = restores;
  if (first === undefined) return [];
  const services = new Set(restores.flatMap((verb) => verb.services));
  return [
    {
      ...first,
      services: [
        ...serviceOrder.filter((name) => services.has(name)),
        ...[...services].filter((name) => !serviceOrder.includes(name)),
      ],
      awaited: [...new Set(restores.flatMap((verb) => verb.awaited))],
    },
  ];
}
