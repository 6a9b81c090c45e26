/** Ways to misbehave on purpose, so that deploys of bad releases can be tried. Delete this file from an application of your own. */
import type { TestSwitches } from './config.ts';
import type { Log } from './log.ts';

const megabyte = 1024 * 1024;
const held: Buffer[] = []; // keeps the memory from being freed

/** Starts those that act by themselves, once the application listens. */
export function startTestSwitches(switches: TestSwitches, log: Log): void {
  const { crashAfterSeconds, memoryMegabytes } = switches;
  if (switches.unhealthy || switches.requestDelayMs > 0 || switches.errorRate > 0) {
    log('warn', 'test switches are on', { ...switches });
  }
  if (crashAfterSeconds !== undefined) {
    setTimeout(() => {
      log('fatal', 'test switch: crash', { crashAfterSeconds });
      process.exit(1);
    }, crashAfterSeconds * 1000);
  }
  if (memoryMegabytes > 0) {
    // Filled, as the kernel gives memory only when it is written to; in pieces, so that requests are answered meanwhile.
    const allocate = () => {
      const missing = memoryMegabytes - held.reduce((sum, buffer) => sum + buffer.length / megabyte, 0);
      if (missing <= 0) return log('warn', 'test switch: memory allocated', { memoryMegabytes });
      held.push(Buffer.alloc(Math.min(missing, 16) * megabyte, 1));
      setTimeout(allocate, 10);
    };
    setTimeout(allocate, 0);
  }
}
