import type { Secret } from './secret';

/**
 * One program and its arguments, as typed words. Only `shell/render.ts` turns it into text.
 *
 * `words` are plain strings: a {@link Secret} does not fit by its type, because argv is readable by
 * every user of a server (`ps`, /proc). What is secret travels in `stdin`.
 */
export interface Command {
  readonly words: readonly [string, ...string[]];
  readonly stdin?: string | Uint8Array | Secret;
  /** The output itself is secret (a rendered compose file, an environment): it is neither logged nor quoted in errors. */
  readonly secretOutput?: boolean;
}
