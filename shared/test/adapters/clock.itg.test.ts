import { systemClock } from '../../src/adapters/clock';
import { CancelledError } from '../../src/errors';

test('sleeps', async () => {
  const before = systemClock.monotonicMs();
  await systemClock.sleep(0.05);
  expect(systemClock.monotonicMs() - before).toBeGreaterThanOrEqual(49);
  expect(Math.abs(systemClock.now().getTime() - Date.now())).toBeLessThan(1000);
});

test('a sleep ends when it is cancelled', async () => {
  const cancel = new AbortController();
  const sleep = systemClock.sleep(60, cancel.signal);
  cancel.abort();
  await expect(sleep).rejects.toThrow(CancelledError);
  await expect(systemClock.sleep(60, cancel.signal)).rejects.toThrow(CancelledError);
});
