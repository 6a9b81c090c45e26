/** Asks everything that the application needs, for real, in parallel, each within a time-out. */
import { readErrorCode } from './log.ts';

export interface CheckResult {
  readonly status: 'ok' | 'failed';
  readonly ms: number;
  /** Short and fit for the public: an error code or `timeout`, never a message, which could name hosts and users. */
  readonly reason?: string;
}

export type Checks = Readonly<Record<string, (signal: AbortSignal) => Promise<void>>>;

/** Callers at the same moment share one run, so that asking often costs the dependencies nothing. */
export function createReadinessCheck(checks: Checks, timeoutMs: number): () => Promise<Record<string, CheckResult>> {
  let running: Promise<Record<string, CheckResult>> | undefined;
  return () => {
    running ??= runChecks(checks, timeoutMs).finally(() => {
      running = undefined;
    });
    return running;
  };
}

async function runChecks(checks: Checks, timeoutMs: number): Promise<Record<string, CheckResult>> {
  const results = await Promise.all(
    Object.entries(checks).map(async ([name, check]) => [name, await runCheck(check, timeoutMs)] as const),
  );
  return Object.fromEntries(results);
}

async function runCheck(check: Checks[string], timeoutMs: number): Promise<CheckResult> {
  const startedMs = performance.now();
  const readElapsedMs = () => Math.round(performance.now() - startedMs);
  const timeout = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const timedOut = new Promise<'timeout'>((resolve) => {
    timer = setTimeout(() => {
      resolve('timeout');
      timeout.abort();
    }, timeoutMs);
  });
  try {
    const outcome = await Promise.race([check(timeout.signal).then(() => 'ok' as const), timedOut]);
    return outcome === 'ok' ? { status: 'ok', ms: readElapsedMs() } : { status: 'failed', ms: readElapsedMs(), reason: 'timeout' };
  } catch (error) {
    return { status: 'failed', ms: readElapsedMs(), reason: describeReason(error) };
  } finally {
    clearTimeout(timer);
  }
}

function describeReason(error: unknown): string {
  if (error instanceof UnexpectedStatus) return error.message;
  return readErrorCode(error) ?? (error instanceof Error ? error.name : 'error');
}

class UnexpectedStatus extends Error {}

export async function checkExternalApi(url: string, signal: AbortSignal): Promise<void> {
  const response = await fetch(url, { signal, headers: { accept: '*/*' } });
  await response.body?.cancel();
  if (!response.ok) throw new UnexpectedStatus(`HTTP ${response.status}`);
}
