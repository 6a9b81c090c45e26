/** What the texts of inputs mean. Everything here is pure and says what is accepted; nothing throws. */
import type { InputProblem } from '../errors';
import { excerpt } from '../shell/excerpt';

/** A value, or a full sentence that says what is wrong with the text and what is accepted. */
export type Parsed<T> = { readonly value: T } | { readonly problem: string };

export type Parse<T> = (text: string) => Parsed<T>;

/** The trimmed text of an input by its name; `Runner.input` is one. */
export type ReadInput = (name: string) => string;

/**
 * One input. Where it cannot be used the problem is collected and `instead` returned, so that all inputs are read before
 * anyone gives up: throw an InputError when `problems` is not empty in the end.
 */
export function readValue<T>(input: ReadInput, problems: InputProblem[], name: string, parse: Parse<T>, instead: T): T {
  const parsed = parse(input(name));
  if ('value' in parsed) return parsed.value;
  problems.push({ input: name, message: parsed.problem });
  return instead;
}

const EMPTY = 'is empty; leave the input out to get its default, or give';

/** An empty text means "not given"; everything else is up to `parse`. */
export function optional<T>(parse: Parse<T>): Parse<T | undefined> {
  return (text) => (text.trim() === '' ? { value: undefined } : parse(text));
}

/** Any text but an empty one. `what` completes "is empty: give ...". */
export function required(what: string): Parse<string> {
  return (text) => (text.trim() === '' ? { problem: `is empty: give ${what}.` } : { value: text.trim() });
}

/** A whole number, bounds included. */
export function integer(least: number, most: number): Parse<number> {
  const accepted = `a whole number from ${least} to ${most}`;
  return (text) => {
    const trimmed = text.trim();
    if (trimmed === '') return { problem: `${EMPTY} ${accepted}.` };
    const value = /^\d{1,15}$/.test(trimmed) ? Number(trimmed) : Number.NaN;
    return value >= least && value <= most ? { value } : { problem: `${quoteValue(trimmed)} is not ${accepted}.` };
  };
}

const UNIT_SECONDS: Readonly<Record<string, number>> = { ms: 0.001, s: 1, m: 60, min: 60, h: 3600, d: 86_400 };

/** `10`, `10s`, `500ms`, `1.5s`, `2m`, `1h` as seconds, bounds (in seconds) included. */
export function duration(leastSeconds: number, mostSeconds: number): Parse<number> {
  const accepted = `a duration such as 10, 10s, 500ms or 2m, from ${describeSeconds(leastSeconds)} to ${describeSeconds(mostSeconds)}`;
  return (text) => {
    const trimmed = text.trim();
    if (trimmed === '') return { problem: `${EMPTY} ${accepted}.` };
    const [, digits, unit] = /^(\d{1,9}(?:\.\d{1,6})?) ?(ms|s|m|min|h|d)?$/.exec(trimmed) ?? [];
    // In milliseconds first, so that 0.3 s is not 0.30000000000000004 s.
    const value =
      digits === undefined ? Number.NaN : Math.round(Number(digits) * (UNIT_SECONDS[unit ?? 's'] ?? 1) * 1000) / 1000;
    return value >= leastSeconds && value <= mostSeconds
      ? { value }
      : { problem: `${quoteValue(trimmed)} is not ${accepted}.` };
  };
}

/** `true` or `false`, in any case (the YAML 1.2 core schema, as actions know it). */
export function boolean(text: string): Parsed<boolean> {
  switch (text.trim().toLowerCase()) {
    case 'true':
      return { value: true };
    case 'false':
      return { value: false };
    case '':
      return { problem: `${EMPTY} true or false.` };
    default:
      return { problem: `${quoteValue(text)} is neither true nor false.` };
  }
}

/** One of a few words. */
export function oneOf<const W extends string>(...words: readonly W[]): Parse<W> {
  return (text) => {
    const found = words.find((word) => word === text.trim());
    if (found !== undefined) return { value: found };
    if (text.trim() === '') return { problem: `${EMPTY} ${joinOr(words)}.` };
    return { problem: `${quoteValue(text)} is not ${joinOr(words)}${suggest(text.trim(), words) || '.'}` };
  };
}

/** The lines of a list, trimmed, without empty ones and without comment lines (`# ...`). */
export function parseLines(text: string): string[] {
  return text
    .split(/\r\n|\r|\n/)
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'));
}

/** Seconds as people write them: `500ms`, `10s`, `2m`, `1m 30s`. */
export function describeSeconds(seconds: number): string {
  if (seconds > 0 && seconds < 1) return `${Math.round(seconds * 1000)}ms`;
  if (seconds < 60) return `${Math.round(seconds * 10) / 10}s`;
  const whole = Math.round(seconds);
  const parts = [
    [Math.floor(whole / 3600), 'h'],
    [Math.floor(whole / 60) % 60, 'm'],
    [whole % 60, 's'],
  ] as const;
  return parts
    .filter(([count]) => count > 0)
    .map(([count, unit]) => `${count}${unit}`)
    .join(' ');
}

/** A value for a message, in backticks. Never for secret inputs. */
export function quoteValue(text: string): string {
  return `\`${excerpt(text, 80).replaceAll('`', "'")}\``;
}

export function joinOr(words: readonly string[]): string {
  const last = words.at(-1) ?? '';
  return words.length < 2 ? last : `${words.slice(0, -1).join(', ')} or ${last}`;
}

/** `; did you mean X?` (which ends the sentence) for a word that is nearly one of those known, or nothing. */
export function suggest(word: string, known: readonly string[]): string {
  const lower = word.slice(0, 60).toLowerCase().replaceAll('_', '-');
  let best: { name: string; distance: number } | undefined;
  for (const name of known) {
    const distance = editDistance(lower, name.toLowerCase());
    if (distance <= Math.max(1, Math.floor(name.length / 3)) && (best === undefined || distance < best.distance)) {
      best = { name, distance };
    }
  }
  return best === undefined ? '' : `; did you mean ${best.name}?`;
}

/** Insertions, deletions and substitutions from one word to the other (Levenshtein). */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (const [i, fromA] of Array.from(a).entries()) {
    const next = [i + 1];
    for (const [j, fromB] of Array.from(b).entries()) {
      next.push(Math.min((row[j + 1] ?? 0) + 1, (next[j] ?? 0) + 1, (row[j] ?? 0) + (fromA === fromB ? 0 : 1)));
    }
    row = next;
  }
  return row.at(-1) ?? 0;
}
