/** A word every few seconds while something long goes on. */
import { measureGrowth } from '../commands/backup-store';
import { formatBytes } from '../images/size';
import type { Ports, Session } from '../ports';

const EVERY_SECONDS = 5;
/** Somebody who reads the log an hour later must not scroll through hundreds of lines. */
const SLOWLY_AFTER_SECONDS = 60;
const SLOWLY_EVERY_SECONDS = 30;

type Speaker = Pick<Ports, 'clock' | 'reporter'>;

/** @param read how many bytes there are by now; undefined where that has no meaning, or cannot be told. */
export async function withProgress<T>(
  title: string,
  { clock, reporter }: Speaker,
  read: () => Promise<number | undefined>,
  work: () => Promise<T>,
): Promise<T> {
  const ended = new AbortController();
  const startedMs = clock.monotonicMs();
  const speak = async (): Promise<void> => {
    let [lastMs, lastBytes] = [startedMs, 0];
    for (;;) {
      const elapsed = (clock.monotonicMs() - startedMs) / 1000;
      // Throws when the work has ended.
      await clock.sleep(elapsed < SLOWLY_AFTER_SECONDS ? EVERY_SECONDS : SLOWLY_EVERY_SECONDS, ended.signal);
      const bytes = await read();
      ended.signal.throwIfAborted();
      const nowMs = clock.monotonicMs();
      const seconds = Math.round((nowMs - startedMs) / 1000);
      const rate = bytes === undefined ? 0 : ((bytes - lastBytes) / (nowMs - lastMs)) * 1000;
      reporter.line(
        bytes === undefined
          ? `  ${title}: ${seconds} s`
          : `  ${title}: ${formatBytes(bytes)}, ${formatBytes(Math.max(0, rate))}/s, ${seconds} s`,
      );
      [lastMs, lastBytes] = [nowMs, bytes ?? 0];
    }
  };
  const speaking = speak().catch(() => undefined);
  try {
    return await work();
  } finally {
    ended.abort();
    await speaking;
  }
}

/** How far a file of the server has grown. What cannot be asked is no failure of what it asks about. */
export function growthOf(file: string, session: Session): () => Promise<number | undefined> {
  return async () => {
    try {
      const { stdout } = await session.run(measureGrowth(file), { timeoutSeconds: 20 });
      const bytes = Number(stdout.trim());
      return Number.isFinite(bytes) ? bytes : undefined;
    } catch {
      return undefined;
    }
  };
}

export const unknownGrowth = (): Promise<undefined> => Promise.resolve(undefined);
