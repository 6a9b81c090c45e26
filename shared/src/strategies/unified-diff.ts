/** A change as `git apply` and `patch -p1` take it: pure. */

/** Unchanged lines around a change. */
const CONTEXT = 3;

/** Larger texts are compared between their equal beginnings and ends as one change: still right, only longer. */
const MAX_CELLS = 4_000_000;

/** @param before undefined for a new file. Empty when nothing differs. */
export function renderDiff(path: string, before: string | undefined, after: string): string {
  if (before === after) return '';
  const changes = compareLines(splitLines(before ?? ''), splitLines(after));
  // A tab ends a name with a blank in it, as git writes it.
  const name = /\s/.test(path) ? `${path}\t` : path;
  const lines = changes.flatMap((change, index) =>
    change.sign === ' ' &&
    !changes.slice(Math.max(0, index - CONTEXT), index + CONTEXT + 1).some(({ sign }) => sign !== ' ')
      ? []
      : [index],
  );
  const hunks = lines.reduce<number[][]>((found, index) => {
    const last = found.at(-1);
    if (last?.at(-1) === index - 1) last.push(index);
    else found.push([index]);
    return found;
  }, []);
  return [
    before === undefined ? '--- /dev/null\n' : `--- a/${name}\n`,
    `+++ b/${name}\n`,
    ...hunks.map((hunk) => renderHunk(changes, hunk[0] ?? 0, hunk.length)),
  ].join('');
}

interface Change {
  readonly sign: ' ' | '-' | '+';
  /** With its end of line, which the last one of a text may lack. */
  readonly line: string;
}

function renderHunk(changes: readonly Change[], start: number, length: number): string {
  const lines = changes.slice(start, start + length);
  const range = (other: '-' | '+'): string => {
    const before = changes.slice(0, start).filter(({ sign }) => sign !== other).length;
    const count = lines.filter(({ sign }) => sign !== other).length;
    // An empty range is named by the line before it.
    return `${count === 0 ? before : before + 1},${count}`;
  };
  const text = lines
    .map(({ sign, line }) => `${sign}${line}${line.endsWith('\n') ? '' : '\n\\ No newline at end of file\n'}`)
    .join('');
  return `@@ -${range('+')} +${range('-')} @@\n${text}`;
}

function splitLines(text: string): string[] {
  return text.match(/[^\n]*\n|[^\n]+$/g) ?? [];
}

/** The longest common subsequence of lines, between what is equal at the beginning and at the end. */
function compareLines(before: readonly string[], after: readonly string[]): Change[] {
  const shorter = Math.min(before.length, after.length);
  let head = 0;
  while (head < shorter && before[head] === after[head]) head++;
  let tail = 0;
  while (tail < shorter - head && before.at(-1 - tail) === after.at(-1 - tail)) tail++;
  const same = (line: string): Change => ({ sign: ' ', line });
  return [
    ...before.slice(0, head).map(same),
    ...compareMiddle(before.slice(head, before.length - tail), after.slice(head, after.length - tail)),
    ...before.slice(before.length - tail).map(same),
  ];
}

function compareMiddle(before: readonly string[], after: readonly string[]): Change[] {
  const removed = before.map((line): Change => ({ sign: '-', line }));
  const added = after.map((line): Change => ({ sign: '+', line }));
  const width = after.length + 1;
  if ((before.length + 1) * width > MAX_CELLS) return [...removed, ...added];
  // lengths[i * width + j]: of the longest common subsequence of before[i..] and after[j..].
  const lengths = new Uint32Array((before.length + 1) * width);
  const at = (i: number, j: number): number => lengths[i * width + j] ?? 0;
  for (let i = before.length - 1; i >= 0; i--) {
    for (let j = after.length - 1; j >= 0; j--) {
      lengths[i * width + j] = before[i] === after[j] ? at(i + 1, j + 1) + 1 : Math.max(at(i + 1, j), at(i, j + 1));
    }
  }
  const changes: Change[] = [];
  let [i, j] = [0, 0];
  while (i < before.length || j < after.length) {
    const [old, now] = [removed[i], added[j]];
    if (old !== undefined && now !== undefined && old.line === now.line) {
      changes.push({ sign: ' ', line: old.line });
      i++;
      j++;
    } else if (old !== undefined && (now === undefined || at(i + 1, j) >= at(i, j + 1))) {
      changes.push(old);
      i++;
    } else if (now !== undefined) {
      changes.push(now);
      j++;
    }
  }
  return changes;
}
