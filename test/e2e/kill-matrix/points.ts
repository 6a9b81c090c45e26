/** The moments of a deploy at which something may die, out of what a real one did: pure. */
import type { When } from './server.ts';

/** Where in the transaction: on the way forth, at the one write that decides, afterwards, on the way back. */
export type Phase = 'do' | 'commit' | 'finish' | 'undo';

export interface Point {
  readonly phase: Phase;
  /** Which changing command of the session, from 1. */
  readonly at: number;
  readonly when: When;
  /** `docker stop` */
  readonly label: string;
}

export interface Seen {
  readonly label: string;
  readonly words: string;
}

const isBegin = ({ label }: Seen): boolean => label === 'mv journal';
const isCommit = ({ label }: Seen): boolean => label === 'mv current';
const isCommitBegin = ({ label }: Seen): boolean => label === 'rm .current.new';

/**
 * @param good the changing commands of a deploy that went well
 * @param bad those of one that was undone when all had been done: the same ones first, without the commit
 */
export function listPoints(good: readonly Seen[], bad: readonly Seen[]): Point[] {
  const begin = good.findIndex(isBegin);
  const commitBegin = good.findIndex((seen, index) => index > begin && isCommitBegin(seen));
  const commit = good.findIndex((seen, index) => index > begin && isCommit(seen));
  if (begin < 0 || commitBegin < 0 || commit < commitBegin) {
    throw new Error(`no begin or commit among: ${good.map(({ label }) => label).join(', ')}`);
  }
  const forth = good.slice(begin, commitBegin);
  const same = bad.slice(bad.findIndex(isBegin), bad.findIndex(isBegin) + forth.length);
  if (!same.every(({ label }, index) => label === forth[index]?.label)) {
    throw new Error(`the two deploys differ:\n${forth.map(nameOf).join('\n')}\n--\n${same.map(nameOf).join('\n')}`);
  }
  return [
    ...expand(good, begin, commitBegin, 'do'),
    ...expand(good, commitBegin, commit + 1, 'commit'),
    ...expand(good, commit + 1, good.length, 'finish'),
    ...expand(bad, bad.findIndex(isBegin) + forth.length, bad.length, 'undo'),
  ];
}

const nameOf = ({ label }: Seen): string => label;

/** What nobody reads yet, or nobody reads any more: with it or without it, the server is the same to all who come. */
const INERT =
  /^(rm (incoming|pulling|\.current\.new|\.removed|router\/)|ln \.current\.new|mv router\/\w+\/upstreams\.(new|both|final))/;
/** One step of the deploy names or forgets all images. */
const ONE_OF_MANY = /^docker image (tag|rm)$/;

const LOOK = 'docker look';

/**
 * What Docker and tar do takes time; a rename is done or not done. After a command is before the next one: the server is in the same
 * state, and what is told of it has not left the shell. So `after` is a moment of its own where the phase ends, and where a wait follows.
 */
function expand(seen: readonly Seen[], from: number, to: number, phase: Phase): Point[] {
  return seen.slice(from, to).flatMap(({ label }, index): Point[] => {
    const at = from + index + 1;
    const isLast = at === to;
    const isWait = isWaitNext(seen, from + index, to, phase);
    if (INERT.test(label) && !isLast) return [];
    const isRepeated = ONE_OF_MANY.test(label) && seen[from + index - 1]?.label === label;
    const isGoingOn = ONE_OF_MANY.test(label) && seen[from + index + 1]?.label === label;
    // Between the look and what is done upon it.
    if (label === LOOK)
      return [{ phase, at, when: 'after', label }, ...(isWait ? [{ phase, at, when: 'later', label } as const] : [])];
    const moments: When[] = [];
    if (!isRepeated) moments.push('before');
    if (/^(docker|tar) /.test(label) && !isGoingOn) moments.push('during');
    if (isWait || isLast) moments.push('after');
    if (isWait) moments.push('later');
    return moments.map((when) => ({ phase, at, when, label }));
  });
}

const isStart = (seen: Seen | undefined): boolean => seen?.label === 'docker start' || seen?.label === LOOK;

/** New replicas become ready; the release is proven; old connections are drained. */
function isWaitNext(seen: readonly Seen[], index: number, to: number, phase: Phase): boolean {
  const isLast = index === to - 1;
  switch (phase) {
    case 'do':
      return isLast || (isStart(seen[index]) && !isStart(seen[index + 1]));
    case 'commit':
      return isLast;
    case 'finish':
    case 'undo':
      return false;
  }
}

export type Expected = 'old' | 'new' | 'either';

/** Which release must serve when all has settled, if nobody but the server itself had a word in it. */
export function expectedAfter(point: Point): Expected {
  switch (point.phase) {
    case 'do':
    case 'undo':
      return 'old';
    case 'commit':
      return 'either';
    case 'finish':
      return 'new';
  }
}
