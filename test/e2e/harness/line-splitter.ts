import { StringDecoder } from 'node:string_decoder';

/**
 * Bytes to lines as .NET's StreamReader.ReadLine splits them: at LF, CR LF and at a lone CR. (So a progress bar's CR
 * starts a new line, and a command after it is obeyed.)
 */
export class LineSplitter {
  readonly #decoder = new StringDecoder('utf8');
  readonly #onLine: (line: string) => void;
  #rest = '';
  #skipLineFeed = false;

  constructor(onLine: (line: string) => void) {
    this.#onLine = onLine;
  }

  push(bytes: Buffer): void {
    this.#split(this.#decoder.write(bytes));
  }

  /** Gives out what is left as a last line. */
  end(): void {
    this.#split(this.#decoder.end());
    if (this.#rest !== '') this.#onLine(this.#rest);
    this.#rest = '';
  }

  #split(text: string): void {
    if (text === '') return;
    const fresh = this.#skipLineFeed && text.startsWith('\n') ? text.slice(1) : text;
    this.#skipLineFeed = text.endsWith('\r');
    const lines = (this.#rest + fresh).split(/\r\n|\r|\n/);
    this.#rest = lines.pop() ?? '';
    for (const line of lines) this.#onLine(line);
  }
}
