/**
 * What streams is garbage at once, outside of V8's own heap: V8 knows little of it, and lets tens of megabytes of it gather.
 * Counted here where content passes, it is collected before that. Measured: see "Backups" in BENCHMARKS.md.
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/** A collection of the young takes 1 to 2 ms. */
const COLLECT_AFTER_BYTES = 2 * 1024 * 1024;

let passed = 0;
let collect: (() => void) | undefined;

/** Once, before anything streams: memory before speed. The heap would grow with the stream by some 60 MB. */
export function spareMemory(): void {
  setFlagsFromString('--semi-space-growth-factor=1');
  setFlagsFromString('--optimize-for-size');
}

/** @param bytes that have passed through this process, and are needed no more. */
export function discard(bytes: number): void {
  passed += bytes;
  if (passed < COLLECT_AFTER_BYTES) return;
  passed = 0;
  collect ??= findCollector();
  collect();
}

/** As Node's own tests get at it without a flag on the command line: https://nodejs.org/api/v8.html#v8setflagsfromstringflags */
function findCollector(): () => void {
  setFlagsFromString('--expose-gc');
  const gc = runInNewContext('gc') as NodeJS.GCFunction;
  return () => {
    gc({ type: 'minor' });
  };
}
