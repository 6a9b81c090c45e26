/** Control characters, terminal escapes, line breaks, and the invisible marks that reorder text. */
const UNFIT = /[\u0000-\u001f\u007f-\u009f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]+/g;

/**
 * Text of others made fit to be quoted within one line: shortened, without control characters, well-formed.
 * It stays their text: escape it for Markdown, and redact it, where it is shown.
 */
export function excerpt(text: string, maxLength = 500): string {
  // Only the beginning is looked at: a body may have a mebibyte.
  const line = joinLine(text.slice(0, maxLength * 4));
  return line.length <= maxLength ? line : `${line.slice(0, maxLength).toWellFormed()}…`;
}

/** As {@link excerpt}, but the end is kept: where a program's output says why it failed. */
export function excerptEnd(text: string, maxLength = 500): string {
  const line = joinLine(text.slice(-maxLength * 4));
  return line.length <= maxLength ? line : `…${line.slice(-maxLength).toWellFormed()}`;
}

function joinLine(text: string): string {
  return text.replaceAll(UNFIT, ' ').replaceAll(/ {2,}/g, ' ').trim().toWellFormed();
}
