/**
 * A value that must never be shown. Everything that prints an object, joins it into a
 * string or serialises it gets `***`; only `reveal` gives the value, so a search for
 * `reveal(` lists every place where a secret leaves this type.
 */
export class Secret {
  readonly #value: string;

  constructor(value: string) {
    this.#value = value;
  }

  /** The value itself. For standard input, SSH authentication and HTTP headers; never for argv, logs or errors. */
  reveal(): string {
    return this.#value;
  }

  get isEmpty(): boolean {
    return this.#value === '';
  }

  toString(): string {
    return '***';
  }

  toJSON(): string {
    return '***';
  }

  [Symbol.for('nodejs.util.inspect.custom')](): string {
    return 'Secret(***)';
  }
}
