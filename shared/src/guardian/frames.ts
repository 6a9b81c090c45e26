/** What the guardian writes, taken apart: pure, over chunks as they come. */

export type Frame =
  /** Step N has begun. */
  | { readonly kind: 'begin'; readonly step: number }
  | { readonly kind: 'output'; readonly step: number; readonly chunk: Buffer }
  /** Its errors, where they are told apart from its output. */
  | { readonly kind: 'errors'; readonly step: number; readonly chunk: Buffer }
  | { readonly kind: 'close'; readonly step: number; readonly exitCode: number };

/** A marker begins with the token, which nothing that a step prints can know; so it may stand anywhere. */
export class FrameReader {
  readonly #token: Buffer;
  readonly #emit: (frame: Frame) => void;
  #rest: Buffer = Buffer.alloc(0);
  #at: { step: number; exitCode: number | undefined } | undefined;

  constructor(token: string, emit: (frame: Frame) => void) {
    this.#token = Buffer.from(token);
    this.#emit = emit;
  }

  write(chunk: Uint8Array): void {
    this.#rest = this.#rest.length === 0 ? Buffer.from(chunk) : Buffer.concat([this.#rest, chunk]);
    for (;;) {
      const start = this.#rest.indexOf(this.#token);
      if (start < 0) {
        // The end of what came may be the beginning of the token.
        const kept = this.#overlap();
        this.#data(this.#rest.subarray(0, this.#rest.length - kept));
        this.#rest = this.#rest.subarray(this.#rest.length - kept);
        return;
      }
      const end = this.#rest.indexOf(0x0a, start);
      if (end < 0) {
        this.#data(this.#rest.subarray(0, start));
        this.#rest = this.#rest.subarray(start);
        return;
      }
      this.#data(this.#rest.subarray(0, start));
      const [, word = '', step = '', code = ''] = this.#rest.subarray(start, end).toString().split(' ');
      this.#rest = this.#rest.subarray(end + 1);
      this.#mark(word, Number(step), Number(code));
    }
  }

  #mark(word: string, step: number, code: number): void {
    switch (word) {
      case 'begin':
        this.#at = { step, exitCode: undefined };
        this.#emit({ kind: 'begin', step });
        return;
      case 'end':
        this.#at = { step, exitCode: code };
        return;
      case 'close':
        this.#emit({ kind: 'close', step, exitCode: this.#at?.exitCode ?? -1 });
        this.#at = undefined;
    }
  }

  #data(chunk: Buffer): void {
    // Outside of a step: what a login's profile prints.
    if (chunk.length === 0 || this.#at === undefined) return;
    const { step, exitCode } = this.#at;
    this.#emit({ kind: exitCode === undefined ? 'output' : 'errors', step, chunk });
  }

  #overlap(): number {
    for (let length = Math.min(this.#token.length - 1, this.#rest.length); length > 0; length--) {
      if (this.#rest.subarray(this.#rest.length - length).equals(this.#token.subarray(0, length))) return length;
    }
    return 0;
  }
}
