/** The harness cannot or will not go on: it does not know how the real runner would, or its bound has passed. */
export class HarnessError extends Error {
  /** The log up to here, masked. */
  readonly log: string;

  constructor(message: string, log = '') {
    super(log === '' ? message : `${message}\n--- log ---\n${log}\n--- end of log ---`);
    this.name = 'HarnessError';
    this.log = log;
  }
}
