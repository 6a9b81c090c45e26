import type { Command } from '../model/command';

const PLAIN_WORD = /^[A-Za-z0-9_@%+=:,./-]+$/;

/**
 * One word as POSIX sh text. Single quotes keep everything but themselves
 * (https://pubs.opengroup.org/onlinepubs/9799919799/utilities/V3_chap02.html#tag_19_02_02).
 *
 * @throws RangeError for a NUL: no program can receive it in an argument, and the shell would cut the word there.
 */
export function quoteWord(word: string): string {
  if (word.includes('\0')) throw new RangeError('a NUL character cannot be part of a command');
  // `a=b` as a first word would be an assignment and `~` or `-` need no quotes elsewhere: the rule is only for plain words.
  return PLAIN_WORD.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}

/** The text that a POSIX shell splits into exactly the command's words. */
export function renderCommand(command: Command): string {
  const [program, ...rest] = command.words;
  // Quoted, a word with `=` is a program's name and not an assignment, and a reserved word (`if`) is a name too.
  const first =
    /^[A-Za-z0-9_./-]+$/.test(program) && !RESERVED.has(program) ? program : `'${program.replaceAll("'", `'\\''`)}'`;
  if (program.includes('\0')) throw new RangeError('a NUL character cannot be part of a command');
  return [first, ...rest.map(quoteWord)].join(' ');
}

const RESERVED = new Set([
  'if',
  'then',
  'else',
  'elif',
  'fi',
  'do',
  'done',
  'case',
  'esac',
  'while',
  'until',
  'for',
  'in',
  'function',
  'select',
  'time',
]);

/**
 * A POSIX sh script with parameters. The script's text is a constant of ours; whatever varies comes in as `$1`, `$2`, ...
 * and is never part of the text.
 */
export function script(text: string, ...parameters: readonly string[]): Command {
  return { words: ['sh', '-c', text, 'slipway', ...parameters] };
}
