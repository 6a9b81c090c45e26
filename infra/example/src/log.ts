/** Structured logs: one JSON object a line on stdout, which Docker's log driver and Loki take as it is. */

export const logLevels = ['debug', 'info', 'warn', 'error', 'fatal'] as const;
export type LogLevel = (typeof logLevels)[number];

export type Log = (level: LogLevel, message: string, fields?: Readonly<Record<string, unknown>>) => void;

export function createLog(
  releaseId: string,
  lowestLevel: LogLevel,
  write: (line: string) => void = (line) => process.stdout.write(line),
): Log {
  return (level, message, fields = {}) => {
    if (logLevels.indexOf(level) < logLevels.indexOf(lowestLevel)) return;
    write(`${JSON.stringify({ time: new Date().toISOString(), level, message, releaseId, ...fields })}\n`);
  };
}

/**
 * What of an error may be logged. Named fields only: some errors carry the whole input, which may be a connection
 * string with its password, in a property of their own (`TypeError: Invalid URL` does).
 */
export function describeError(error: unknown): { name: string; code?: string; message: string; stack?: string } {
  if (!(error instanceof Error)) return { name: 'unknown', message: typeof error };
  const code = readErrorCode(error);
  return {
    name: error.name,
    ...(code === undefined ? {} : { code }),
    message: error.message,
    ...(error.stack === undefined ? {} : { stack: error.stack }),
  };
}

/** The machine-readable code of an error or of what caused it, for example ECONNREFUSED or PostgreSQL's 28P01. */
export function readErrorCode(error: unknown): string | undefined {
  for (let current = error, depth = 0; current instanceof Error && depth < 5; depth += 1) {
    const { code, cause, errors } = current as Error & { code?: unknown; errors?: unknown };
    if (typeof code === 'string') return code;
    current = cause ?? (Array.isArray(errors) ? errors[0] : undefined); // AggregateError: one error for each address tried
  }
  return undefined;
}
