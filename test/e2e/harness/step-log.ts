import type { SecretMasker } from './secret-masker.ts';

export interface Annotation {
  readonly type: 'notice' | 'warning' | 'error';
  readonly title: string;
  readonly message: string;
  /** Empty where there is none. */
  readonly file: string;
  readonly line?: number;
  readonly column?: number;
  /** False beyond the tenth of its type in a step: GitHub keeps no more. */
  readonly shown: boolean;
}

export interface LogEntry {
  readonly kind: 'line' | 'group' | 'endgroup' | 'notice' | 'warning' | 'error' | 'debug';
  /** Masked. Annotations and groups may have more than one line. */
  readonly text: string;
}

const ANNOTATIONS_OF_A_TYPE = 10;

/** What GitHub shows of one step. Every text is masked with what is known at that moment, never afterwards. */
export class StepLog {
  readonly #masker: SecretMasker;
  readonly #entries: LogEntry[] = [];
  readonly #annotations: Annotation[] = [];
  readonly #onEntry: ((entry: LogEntry) => void) | undefined;

  constructor(masker: SecretMasker, onEntry?: (entry: LogEntry) => void) {
    this.#masker = masker;
    this.#onEntry = onEntry;
  }

  get entries(): readonly LogEntry[] {
    return this.#entries;
  }

  get annotations(): readonly Annotation[] {
    return this.#annotations;
  }

  write(kind: LogEntry['kind'], text: string): void {
    const entry = { kind, text: this.#masker.mask(text) };
    this.#entries.push(entry);
    this.#onEntry?.(entry);
  }

  /** Shows an annotation in the log and on the run's page. */
  annotate(annotation: Annotation): void {
    const before = this.#annotations.filter((other) => other.type === annotation.type).length;
    this.#annotations.push({
      ...annotation,
      title: this.#masker.mask(annotation.title),
      message: this.#masker.mask(annotation.message),
      shown: before < ANNOTATIONS_OF_A_TYPE,
    });
    this.write(annotation.type, annotation.message);
  }

  /** The log as a person sees it in the browser, all groups open. `debug` lines are there only if asked for. */
  render(options: { readonly debug?: boolean } = {}): string {
    return renderLog(this.#entries, options);
  }
}

/** The text of one entry, as the browser shows it. */
export function renderEntry(entry: LogEntry): string {
  switch (entry.kind) {
    case 'line':
      return entry.text;
    case 'group':
      return `▼ ${entry.text}`;
    case 'endgroup':
      return '';
    case 'notice':
      return `Notice: ${entry.text}`;
    case 'warning':
      return `Warning: ${entry.text}`;
    case 'error':
      return `Error: ${entry.text}`;
    case 'debug':
      return `##[debug]${entry.text}`;
  }
}

export function renderLog(entries: readonly LogEntry[], options: { readonly debug?: boolean } = {}): string {
  return entries
    .filter((entry) => entry.kind !== 'endgroup' && (entry.kind !== 'debug' || options.debug === true))
    .map(renderEntry)
    .join('\n');
}
