import { CancelledError } from '../../src/errors';
import type { Clock } from '../../src/ports';

/** A clock that stands still until someone sleeps or `advance`s it. */
export class FakeClock implements Clock {
  /** Every sleep asked for, in seconds. */
  readonly sleeps: number[] = [];
  #elapsedMs = 0;
  readonly #epochMs: number;

  constructor(start = '2026-11-22T12:00:00Z') {
    this.#epochMs = Date.parse(start);
  }

  now(): Date {
    return new Date(this.#epochMs + this.#elapsedMs);
  }

  monotonicMs(): number {
    return this.#elapsedMs;
  }

  async sleep(seconds: number, signal?: AbortSignal): Promise<void> {
    if (signal?.aborted === true) throw new CancelledError('The workflow was cancelled.', '');
    this.sleeps.push(seconds);
    this.advance(seconds);
    await Promise.resolve();
  }

  advance(seconds: number): void {
    this.#elapsedMs += seconds * 1000;
  }
}
