/** `watch-url`: the transaction as a visitor sees it, and the end of it when visitors are turned away. */
import { ReleaseError } from '../errors';
import { describeWatch, judgeBaseline, type WatchStats, watchUrl } from '../probes/watch-url';
import { type Transaction, warn } from './transaction';

export interface WatchResult {
  readonly url: string;
  /** One line for people. */
  readonly text: string;
  readonly stats: WatchStats;
}

export interface WatchedUrl {
  /** Aborted, with the reason, when more requests have failed than may. */
  readonly failing: AbortSignal;
  /** From here on, failures are this transaction's. */
  begin(): Promise<void>;
  stop(): Promise<WatchResult>;
}

/** Starts to watch, where that is asked for. */
export function beginWatch(transaction: Transaction): WatchedUrl | undefined {
  const { inputs, session, ports } = transaction;
  const { watch, maxFailedRequests } = inputs;
  if (watch === undefined) return undefined;
  const failing = new AbortController();
  let isToBlame = true;
  const started = watchUrl(
    {
      ...watch,
      onFailure: (failure, failures) => {
        if (!isToBlame || failures <= maxFailedRequests) return;
        const allowed = maxFailedRequests === 0 ? '' : ` (input max-failed-requests allows ${maxFailedRequests})`;
        failing.abort(
          new ReleaseError(
            `${failures} ${failures === 1 ? 'request' : 'requests'} to ${watch.url} failed during the ${transaction.task}${allowed}: ${failure.reason}`,
            '',
          ),
        );
      },
    },
    { ...ports, session },
  );
  return {
    failing: failing.signal,
    begin: async () => {
      // Before its first answer nothing is known of the URL, and what was broken before would count against this one.
      await started.ready;
      const verdict = judgeBaseline(started.begin());
      if (verdict.ok) return;
      isToBlame = false;
      warn(transaction, `watch-url: ${verdict.reason}. What fails from here on is counted, and no reason to go back.`);
    },
    stop: async () => {
      const stats = await started.stop();
      return { url: watch.url, text: describeWatch(stats), stats };
    },
  };
}
