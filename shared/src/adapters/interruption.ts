import { CancelledError, type SlipwayError } from '../errors';

/** The one signal under which an effect runs: its deadline, the workflow's cancellation, and the loss of what it runs on. */
export interface Interruption {
  /** Its reason is always one of our errors. */
  readonly signal: AbortSignal;
  /** Settles as `work` does, or rejects with the signal's reason as soon as that is given. */
  race<T>(work: Promise<T>): Promise<T>;
  /** To be called when the effect is over, in `finally`. */
  dispose(): void;
}

/**
 * @param timeout makes the error when the seconds have passed
 * @param cancel the workflow's signal
 * @param lost a signal whose reason is one of our errors
 */
export function interruption(
  seconds: number,
  timeout: () => SlipwayError,
  cancel: AbortSignal | undefined,
  lost?: AbortSignal,
): Interruption {
  const controller = new AbortController();
  const onCancel = (): void => {
    controller.abort(new CancelledError('The workflow was cancelled.', '', { cause: cancel?.reason }));
  };
  const onLost = (): void => {
    controller.abort(lost?.reason);
  };
  const timer = setTimeout(() => {
    controller.abort(timeout());
  }, seconds * 1000);
  cancel?.addEventListener('abort', onCancel, { once: true });
  lost?.addEventListener('abort', onLost, { once: true });
  if (lost?.aborted === true) onLost();
  if (cancel?.aborted === true) onCancel();
  const { signal } = controller;
  let raise = (): void => undefined;
  const raised = new Promise<never>((_, reject) => {
    raise = () => {
      // Whatever aborts it gives one of our errors.
      reject(signal.reason as SlipwayError);
    };
    if (signal.aborted) raise();
    else signal.addEventListener('abort', raise, { once: true });
  });
  // It may be raised while nobody races against it.
  raised.catch(() => undefined);
  return {
    signal,
    race: (work) => Promise.race([work, raised]),
    dispose: () => {
      clearTimeout(timer);
      cancel?.removeEventListener('abort', onCancel);
      lost?.removeEventListener('abort', onLost);
      signal.removeEventListener('abort', raise);
    },
  };
}
