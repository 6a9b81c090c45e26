/** The environment, read once and checked as a whole: every problem is reported at once, none shows a value that may be secret. */
import { logLevels, type LogLevel } from './log.ts';

export interface TestSwitches {
  readonly unhealthy: boolean;
  readonly startDelaySeconds: number;
  readonly crashAfterSeconds: number | undefined;
  readonly requestDelayMs: number;
  readonly errorRate: number;
  readonly memoryMegabytes: number;
}

export interface TelemetrySettings {
  /** Of an OTLP receiver over HTTP, without `/v1/traces`. */
  readonly endpoint: string;
  readonly serviceName: string;
  readonly traces: boolean;
  readonly metrics: boolean;
  /** Part of the traces that begin here. */
  readonly traceRatio: number;
}

export interface Config {
  readonly releaseId: string;
  readonly host: string;
  readonly port: number;
  readonly logLevel: LogLevel;
  readonly databaseUrl: string;
  readonly databasePassword: string | undefined;
  readonly databasePoolSize: number;
  readonly redisUrl: string;
  readonly redisPassword: string | undefined;
  readonly externalApiUrl: string | undefined;
  readonly healthTimeoutMs: number;
  readonly shutdownDelaySeconds: number;
  readonly shutdownTimeoutSeconds: number;
  readonly migrateOnStart: boolean;
  readonly publicDir: string | undefined;
  /** Undefined: nobody is sent any. */
  readonly telemetry: TelemetrySettings | undefined;
  readonly testSwitches: TestSwitches;
}

export type Environment = Readonly<Record<string, string | undefined>>;

export class ConfigError extends Error {
  readonly problems: readonly string[];
  constructor(problems: readonly string[]) {
    super(`the configuration has ${problems.length} problem(s):\n${problems.map((problem) => `  - ${problem}`).join('\n')}`);
    this.name = 'ConfigError';
    this.problems = problems;
  }
}

/** Names in TEST_SWITCHES and the variables that they stand for. */
const testSwitchVariables: Readonly<Record<string, string>> = {
  unhealthy: 'TEST_UNHEALTHY',
  'start-delay': 'TEST_START_DELAY_SECONDS',
  'crash-after': 'TEST_CRASH_AFTER_SECONDS',
  'request-delay': 'TEST_REQUEST_DELAY_MS',
  'error-rate': 'TEST_ERROR_RATE',
  memory: 'TEST_MEMORY_MB',
};

/** An empty variable counts as one that is not set: Compose's `${NAME:-}` passes the empty string.
 *  @throws {ConfigError} with all problems */
export function parseConfig(environment: Environment): Config {
  const problems: string[] = [];
  const values = expandTestSwitches(environment, problems);

  const readText = (name: string): string | undefined => values[name] || undefined;

  const readNumber = (name: string, limits: { min: number; max: number; whole?: boolean }): number | undefined => {
    const text = readText(name);
    if (text === undefined) return undefined;
    const value = /^\d+(\.\d+)?$/.test(text) ? Number(text) : Number.NaN;
    const isWhole = limits.whole === false || Number.isInteger(value);
    if (isWhole && value >= limits.min && value <= limits.max) return value;
    problems.push(`${name} is "${text}": expected a ${limits.whole === false ? '' : 'whole '}number from ${limits.min} to ${limits.max}`);
    return undefined;
  };

  const readBoolean = (name: string): boolean => {
    const text = readText(name);
    if (text !== undefined && text !== 'true' && text !== 'false') {
      problems.push(`${name} is "${text}": expected true or false`);
    }
    return text === 'true';
  };

  const readUrl = (name: string, protocols: readonly string[]): string | undefined => {
    const text = readText(name);
    if (text === undefined) return undefined;
    if (URL.canParse(text) && protocols.includes(new URL(text).protocol)) return text;
    problems.push(`${name} is not a URL that starts with ${protocols.map((protocol) => `${protocol}//`).join(' or ')} (its value is not shown: it may hold a password)`);
    return undefined;
  };

  const requireUrl = (name: string, protocols: readonly string[], example: string): string => {
    if (readText(name) === undefined) problems.push(`${name} is not set: expected a URL such as ${example}`);
    return readUrl(name, protocols) ?? '';
  };

  /** OpenTelemetry's own variables: https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/ */
  const readTelemetry = (): TelemetrySettings | undefined => {
    const endpoint = readUrl('OTEL_EXPORTER_OTLP_ENDPOINT', ['http:', 'https:']);
    const readExporter = (name: string): boolean => {
      const text = readText(name) ?? 'otlp';
      if (text !== 'otlp' && text !== 'none') problems.push(`${name} is "${text}": expected otlp or none`);
      return text === 'otlp';
    };
    const settings = {
      serviceName: readText('OTEL_SERVICE_NAME') ?? 'example',
      traces: readExporter('OTEL_TRACES_EXPORTER'),
      metrics: readExporter('OTEL_METRICS_EXPORTER'),
      traceRatio: readNumber('OTEL_TRACES_SAMPLER_ARG', { min: 0, max: 1, whole: false }) ?? 1,
    };
    return endpoint === undefined ? undefined : { endpoint, ...settings };
  };

  const logLevel = readText('LOG_LEVEL') ?? 'info';
  if (!isLogLevel(logLevel)) problems.push(`LOG_LEVEL is "${logLevel}": expected one of ${logLevels.join(', ')}`);

  const config: Config = {
    releaseId: readText('RELEASE_ID') ?? 'dev',
    host: readText('HOST') ?? '0.0.0.0',
    port: readNumber('PORT', { min: 0, max: 65_535 }) ?? 3000,
    logLevel: isLogLevel(logLevel) ? logLevel : 'info',
    databaseUrl: requireUrl('DATABASE_URL', ['postgres:', 'postgresql:'], 'postgres://app@db:5432/app'),
    databasePassword: readText('DATABASE_PASSWORD'),
    databasePoolSize: readNumber('DATABASE_POOL_SIZE', { min: 1, max: 1000 }) ?? 10,
    redisUrl: requireUrl('REDIS_URL', ['redis:', 'rediss:'], 'redis://cache:6379'),
    redisPassword: readText('REDIS_PASSWORD'),
    externalApiUrl: readUrl('EXTERNAL_API_URL', ['http:', 'https:']),
    healthTimeoutMs: readNumber('HEALTH_TIMEOUT_MS', { min: 1, max: 60_000 }) ?? 2000,
    shutdownDelaySeconds: readNumber('SHUTDOWN_DELAY_SECONDS', { min: 0, max: 300, whole: false }) ?? 0,
    shutdownTimeoutSeconds: readNumber('SHUTDOWN_TIMEOUT_SECONDS', { min: 0, max: 3600, whole: false }) ?? 10,
    migrateOnStart: readBoolean('MIGRATE_ON_START'),
    publicDir: readText('PUBLIC_DIR'),
    telemetry: readTelemetry(),
    testSwitches: {
      unhealthy: readBoolean('TEST_UNHEALTHY'),
      startDelaySeconds: readNumber('TEST_START_DELAY_SECONDS', { min: 0, max: 3600, whole: false }) ?? 0,
      crashAfterSeconds: readNumber('TEST_CRASH_AFTER_SECONDS', { min: 0, max: 86_400, whole: false }),
      requestDelayMs: readNumber('TEST_REQUEST_DELAY_MS', { min: 0, max: 600_000 }) ?? 0,
      errorRate: readNumber('TEST_ERROR_RATE', { min: 0, max: 1, whole: false }) ?? 0,
      memoryMegabytes: readNumber('TEST_MEMORY_MB', { min: 0, max: 65_536 }) ?? 0,
    },
  };
  if (problems.length > 0) throw new ConfigError(problems);
  return config;
}

/** `TEST_SWITCHES=unhealthy,crash-after=5` sets TEST_UNHEALTHY and TEST_CRASH_AFTER_SECONDS, unless those are set themselves. */
function expandTestSwitches(environment: Environment, problems: string[]): Environment {
  const expanded: Record<string, string | undefined> = { ...environment };
  const parts = (environment['TEST_SWITCHES'] ?? '').split(',').map((part) => part.trim());
  for (const part of parts.filter((text) => text !== '')) {
    const [name = '', ...rest] = part.split('=');
    const variable = Object.hasOwn(testSwitchVariables, name) ? testSwitchVariables[name] : undefined;
    if (variable === undefined) {
      problems.push(`TEST_SWITCHES contains "${name}": expected ${Object.keys(testSwitchVariables).join(', ')}, separated by commas`);
    } else if (name !== 'unhealthy' && rest.length === 0) {
      problems.push(`TEST_SWITCHES contains "${name}" without a value: expected ${name}=NUMBER`);
    } else {
      expanded[variable] ||= rest.length === 0 ? 'true' : rest.join('=');
    }
  }
  return expanded;
}

function isLogLevel(text: string): text is LogLevel {
  return (logLevels as readonly string[]).includes(text);
}
