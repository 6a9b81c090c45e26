import { createPalette } from '../../src/model/palette';
import type { Reporter } from '../../src/ports';
import { Redactor } from '../../src/shell/redact';

/** Keeps what people would read: `line ...`, `remote ...`, `warning ...`. */
export class FakeReporter implements Reporter {
  readonly palette = createPalette(false);
  readonly shown: string[] = [];
  readonly #redactor = new Redactor();

  hide(value: string): void {
    this.#redactor.add(value);
  }

  redact(text: string): string {
    return this.#redactor.redact(text);
  }

  line(text: string): void {
    this.#show('line', text);
  }

  remote(text: string): void {
    this.#show('remote', text);
  }

  async group<T>(title: string, body: () => Promise<T>): Promise<T> {
    this.#show('group', title);
    return body();
  }

  notice(title: string, text: string): void {
    this.#show('notice', `${title}: ${text}`);
  }

  warning(title: string, text: string): void {
    this.#show('warning', `${title}: ${text}`);
  }

  error(title: string, text: string): void {
    this.#show('error', `${title}: ${text}`);
  }

  summary(markdown: string): Promise<void> {
    this.#show('summary', markdown);
    return Promise.resolve();
  }

  #show(kind: string, text: string): void {
    this.shown.push(`${kind} ${this.redact(text)}`);
  }
}
