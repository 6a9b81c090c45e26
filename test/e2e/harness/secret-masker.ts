/**
 * What the runner blanks in everything that it shows, after
 * https://github.com/actions/runner/blob/main/src/Sdk/DTLogging/Logging/SecretMasker.cs and ValueEncoders.cs:
 * each value as it is and in the encodings below. Nothing cleverer: a test that passes here must pass there.
 */
export class SecretMasker {
  readonly #added: string[] = [];
  readonly #forms = new Set<string>();

  /** The values as they were registered, in order. */
  get values(): readonly string[] {
    return this.#added;
  }

  /** Registers a value and each of its lines, as the runner does for a job's secrets and for `::add-mask::`. */
  add(value: string): void {
    if (value.trim() === '') return;
    this.#added.push(value);
    this.#addForms(value);
    this.#addForms(value.trim());
    for (const line of value.split(/[\r\n]/)) this.#addForms(line);
  }

  mask(text: string): string {
    const hits: [start: number, end: number][] = [];
    for (const form of this.#forms) {
      for (let at = text.indexOf(form); at >= 0; at = text.indexOf(form, at + 1)) hits.push([at, at + form.length]);
    }
    if (hits.length === 0) return text;
    hits.sort((a, b) => a[0] - b[0]);
    let masked = '';
    let end = -1;
    for (const [from, to] of hits) {
      // Overlapping and adjoining hits become one mask.
      if (from > end || end < 0) masked += `${text.slice(Math.max(end, 0), from)}***`;
      end = Math.max(end, to);
    }
    return masked + text.slice(end);
  }

  #addForms(value: string): void {
    if (value.trim() === '') return;
    this.#forms.add(value);
    for (const encode of ENCODERS) {
      const form = encode(value);
      if (form !== '') this.#forms.add(form);
    }
  }
}

const XML: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&apos;' };

const ENCODERS: readonly ((value: string) => string)[] = [
  (value) => base64(value, 0),
  // The value may stand at any of three offsets in a longer encoded text (`user:password`).
  (value) => base64(value, 1),
  (value) => base64(value, 2),
  (value) => value.replaceAll("'", "''"),
  (value) => JSON.stringify(value).slice(1, -1),
  (value) =>
    encodeURIComponent(value.toWellFormed()).replace(
      /[!'()*]/g,
      (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
    ),
  (value) => value.replace(/[&<>"']/g, (character) => XML[character] ?? character),
  (value) => (value.length > 8 && value.startsWith('"') && value.endsWith('"') ? value.slice(1, -1) : ''),
];

function base64(value: string, shift: number): string {
  const bytes = Buffer.from(value);
  return (bytes.length > shift ? bytes.subarray(shift) : bytes).toString('base64');
}
