// The process behind index.ts: takes the options as its argument, says `{"startedAtMs":..}` when the load has begun, and gives
// the report when its standard input ends. Nobody has to end it: with whoever started it, its standard input ends too.
import { writeFileSync } from 'node:fs';
import { setPriority } from 'node:os';
import { generateLoad, type LoadOptions, warmUp } from './generator.ts';

// What else the machine does must not delay what is measured. Only root may; else the report says how late it was.
try {
  setPriority(-15);
  // Between sessions the kernel looks at this instead, and we have one of our own (sched(7), autogroup).
  writeFileSync('/proc/self/autogroup', '-15');
} catch {
  // No permission, or no such kernel.
}
const options = JSON.parse(process.argv[2] ?? '{}') as LoadOptions;
await warmUp();
const load = generateLoad(options);
process.stdout.write(`${JSON.stringify({ startedAtMs: Date.now() })}\n`);
process.stdin.resume();
process.stdin.once('end', () => {
  void load.stop().then((report) => {
    process.stdout.write(`${JSON.stringify(report)}\n`);
  });
});
