import { setTimeout as delay } from 'node:timers/promises';
import { CancelledError } from '../errors';
import type { Clock } from '../ports';

export const systemClock: Clock = {
  now: () => new Date(),
  monotonicMs: () => performance.now(),
  sleep: async (seconds, signal) => {
    try {
      await delay(seconds * 1000, undefined, signal === undefined ? {} : { signal });
    } catch (cause) {
      throw new CancelledError('The workflow was cancelled.', '', { cause });
    }
  },
};
