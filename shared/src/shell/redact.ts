/** What stands in place of a secret. */
export const MASK = '***';

/**
 * Shorter values are not masked: `true`, `3000` or `prod` would blank half of every log, and hide nothing that
 * could not be guessed. The README states this number.
 */
export const MIN_SECRET_LENGTH = 6;

/** Lines of a multi-line secret (a key, a certificate) are masked one by one, but not its short or structural lines. */
const MIN_LINE_LENGTH = 8;

const STRUCTURE = /^-----(BEGIN|END) [A-Z0-9 ]+-----$/;

/** Every text under which a value may turn up again: itself, its lines, and the encodings that tools print. */
export function derivedForms(value: string): string[] {
  const forms = new Set<string>();
  const add = (text: string, least: number): void => {
    if (text.length >= least && !STRUCTURE.test(text)) forms.add(text);
  };
  const addEncodings = (text: string): void => {
    if (text.length < MIN_SECRET_LENGTH) return;
    add(text, MIN_SECRET_LENGTH);
    add(JSON.stringify(text).slice(1, -1), MIN_SECRET_LENGTH);
    add(encodeURIComponent(text.toWellFormed()), MIN_SECRET_LENGTH);
    add(Buffer.from(text).toString('base64'), MIN_SECRET_LENGTH);
    add(Buffer.from(text).toString('base64url'), MIN_SECRET_LENGTH);
    // Compose doubles `$` in what it renders; shells show `'` as `'\''`.
    add(text.replaceAll('$', '$$$$'), MIN_SECRET_LENGTH);
    add(text.replaceAll("'", `'\\''`), MIN_SECRET_LENGTH);
  };
  addEncodings(value);
  addEncodings(value.trim());
  const lines = value.split(/\r\n|\r|\n/);
  if (lines.length > 1) for (const line of lines) add(line.trim(), MIN_LINE_LENGTH);
  return [...forms];
}

/** Replaces every known secret in a text by {@link MASK}. Add values before the first text that may hold them. */
export class Redactor {
  readonly #forms = new Set<string>();

  /** @returns the forms that were new, for the runner's own mask. */
  add(value: string): string[] {
    const fresh = derivedForms(value).filter((form) => !this.#forms.has(form));
    for (const form of fresh) this.#forms.add(form);
    return fresh;
  }

  redact(text: string): string {
    const hits: [start: number, end: number][] = [];
    for (const form of this.#forms) {
      // Overlapping hits count too: two secrets that share an end must both go wholly.
      for (let at = text.indexOf(form); at >= 0; at = text.indexOf(form, at + 1)) hits.push([at, at + form.length]);
    }
    if (hits.length === 0) return text;
    hits.sort((a, b) => a[0] - b[0]);
    let result = '';
    let shownUpTo = 0;
    let maskedUpTo = -1;
    for (const [start, end] of hits) {
      if (start > maskedUpTo) {
        result += text.slice(shownUpTo, start) + MASK;
        maskedUpTo = end;
      }
      maskedUpTo = Math.max(maskedUpTo, end);
      shownUpTo = maskedUpTo;
    }
    return result + text.slice(shownUpTo);
  }
}
