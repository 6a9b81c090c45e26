/** The inputs as one typed object, or all that is wrong with them at once. Pure. */
import { parseProjectName, parsePath } from '#shared/engine/inputs';
import { type InputProblem, InputError } from '#shared/errors';
import { readConnection } from '#shared/inputs/connection';
import { type DatabaseServer, parseDatabaseUrls } from '#shared/inputs/database-urls';
import {
  boolean,
  duration,
  integer,
  oneOf,
  optional,
  type Parsed,
  parseLines,
  quoteValue,
  readValue,
} from '#shared/inputs/values';
import type { Host } from '#shared/model/host';
import { Secret } from '#shared/model/secret';
import type { Cipher, ObjectStoreRequest } from '#shared/ports';
import { parseWanted, type Wanted } from '#shared/vault/sources';

export const MODES = ['backup', 'restore', 'verify', 'list', 'prune', 'check'] as const;
export type Mode = (typeof MODES)[number];

export interface Inputs {
  readonly host: Host;
  /** Empty: the repository's name. */
  readonly project: string;
  /** Empty: `apps/<project>`. */
  readonly path: string;
  readonly mode: Mode;
  /** Empty: what is found. */
  readonly what: readonly Wanted[];
  readonly databaseUrls: readonly DatabaseServer[];
  /** With the client programs of PostgreSQL; empty: that of a service. */
  readonly databaseImage: string;
  readonly proves: boolean;
  readonly keepDays: number;
  readonly keepCount: number;
  /** From 0 to 1. */
  readonly collapseThreshold: number;
  readonly recipients: readonly string[];
  readonly identity: Secret | undefined;
  readonly storage: (ObjectStoreRequest & { readonly prefix: string }) | undefined;
  /** Id, beginning of one, `latest`, `latest-proven` or a time. */
  readonly backup: string;
  /** Sources or the beginning of several; empty: all. */
  readonly only: readonly string[];
  readonly files: 'side' | 'in-place';
  readonly confirm: string;
  readonly dryRun: boolean;
  readonly maxAgeSeconds: number;
  /** On the server; empty: none. */
  readonly metricsFile: string;
  readonly proofMemoryMegabytes: number;
  readonly timeoutSeconds: number;
  readonly lockWaitSeconds: number;
  readonly leaseSeconds: number;
}

const DAY = 86_400;

/** @throws InputError with every problem. */
export function readInputs(
  input: (name: string) => string,
  cipher: Pick<Cipher, 'isRecipient' | 'isIdentity'>,
): Inputs {
  const problems: InputProblem[] = [];
  const host = readConnection(input, problems);
  const mode = readValue<Mode>(input, problems, 'mode', oneOf(...MODES), 'backup');
  const rest = {
    project: readValue(input, problems, 'project', parseProjectName, ''),
    path: readValue(input, problems, 'path', parsePath, ''),
    mode,
    what: readValue<readonly Wanted[]>(input, problems, 'what', parseWanted, []),
    databaseUrls: readValue<readonly DatabaseServer[]>(input, problems, 'database-urls', parseDatabaseUrls, []),
    databaseImage: readValue(input, problems, 'database-image', parseImage, ''),
    proves: readValue<'full' | 'none'>(input, problems, 'verify', oneOf('full', 'none'), 'full') === 'full',
    keepDays: readValue(input, problems, 'keep-days', integer(1, 36_500), 30),
    keepCount: readValue(input, problems, 'keep', integer(1, 100_000), 7),
    collapseThreshold: readValue(input, problems, 'collapse-threshold', parsePercent, 0.5),
    recipients: readValue(input, problems, 'age-recipients', parseRecipients(cipher), []),
    identity: readValue(input, problems, 'age-key', parseIdentity(cipher), undefined),
    storage: readStorage(input, problems),
    backup: readValue(input, problems, 'backup', parseTarget, ''),
    only: parseLines(input('only')),
    files: readValue<'side' | 'in-place'>(input, problems, 'restore-files', oneOf('side', 'in-place'), 'side'),
    confirm: input('confirm'),
    dryRun: readValue(input, problems, 'dry-run', boolean, false),
    maxAgeSeconds: readValue(input, problems, 'max-age', duration(60, 3650 * DAY), 26 * 3600),
    metricsFile: readValue(input, problems, 'metrics-file', parseMetricsFile, ''),
    proofMemoryMegabytes: readValue(input, problems, 'proof-memory', integer(64, 1_048_576), 1024),
    timeoutSeconds: readValue(input, problems, 'timeout', duration(10, 7 * DAY), 2 * 3600),
    lockWaitSeconds: readValue(input, problems, 'lock-wait', duration(0, DAY), 600),
    leaseSeconds: readValue(input, problems, 'lease', duration(10, 600), 30),
  };
  if (rest.dryRun && mode !== 'restore' && mode !== 'prune') {
    problems.push({ input: 'dry-run', message: `is for the modes restore and prune, and not for ${mode}.` });
  }
  if (problems.length > 0 || host === undefined) throw new InputError(problems);
  return { host, ...rest };
}

/** Whoever restores says so twice. @throws InputError that says what to type. */
export function judgeConfirmation({ mode, dryRun, confirm }: Inputs, project: string): void {
  if (mode !== 'restore' || dryRun || confirm === project) return;
  throw new InputError([
    {
      input: 'confirm',
      message: `${confirm === '' ? 'is empty' : `is ${quoteValue(confirm)}`}: a restore replaces the data that is in service, so type the project's name, ${quoteValue(project)}, there. \`dry-run: true\` shows what would be lost.`,
    },
  ]);
}

function parsePercent(text: string): Parsed<number> {
  const [, digits] = /^(\d{1,3})\s*%?$/.exec(text) ?? [];
  const percent = Number(digits ?? Number.NaN);
  return percent >= 0 && percent <= 100
    ? { value: percent / 100 }
    : {
        problem: `${quoteValue(text)} is not a part in percent, from 0% (nothing may be lost) to 100% (whatever is lost is accepted).`,
      };
}

function parseImage(text: string): Parsed<string> {
  return text === '' || /^[a-zA-Z0-9][\w.:/@-]{0,500}$/.test(text)
    ? { value: text }
    : { problem: `${quoteValue(text)} is not an image, such as postgres:17.` };
}

function parseRecipients({ isRecipient }: Pick<Cipher, 'isRecipient'>) {
  return (text: string): Parsed<readonly string[]> => {
    const recipients = parseLines(text).flatMap((line) => line.split(/[\s,]+/));
    if (recipients.some((one) => /AGE-SECRET-KEY-/i.test(one))) {
      return {
        problem:
          'holds a private key. Public keys, which begin with age1, belong there; the private one stays with you.',
      };
    }
    const wrong = recipients.find((one) => !isRecipient(one));
    return wrong === undefined
      ? { value: [...new Set(recipients)] }
      : {
          problem: `${quoteValue(wrong)} is not a public key of age: they begin with age1 (make one with \`age-keygen\`).`,
        };
  };
}

function parseIdentity({ isIdentity }: Pick<Cipher, 'isIdentity'>) {
  return optional<Secret>((text) =>
    isIdentity(text)
      ? { value: new Secret(text) }
      : {
          problem:
            'is not a private key of age: give the content of the file that `age-keygen` made, with the line AGE-SECRET-KEY-1...',
        },
  );
}

function parseTarget(text: string): Parsed<string> {
  return /^[\w.+: -]{0,100}$/.test(text)
    ? { value: text }
    : {
        problem: `${quoteValue(text)} is not a backup: give latest-proven, latest, an id or its beginning, or a time (2026-11-22 03:00, in UTC).`,
      };
}

function parseMetricsFile(text: string): Parsed<string> {
  return text === '' || /^\/[^\0\n\r]*\.prom$/.test(text)
    ? { value: text }
    : {
        problem: `${quoteValue(text)} is not a file for the textfile collector: give an absolute path that ends in .prom.`,
      };
}

function readStorage(input: (name: string) => string, problems: InputProblem[]): Inputs['storage'] {
  const [bucket, endpoint, region, prefix] = [
    input('s3-bucket'),
    input('s3-endpoint'),
    input('s3-region'),
    input('s3-prefix'),
  ];
  const [accessKeyId, secretAccessKey] = [input('s3-access-key-id'), input('s3-secret-access-key')];
  if ([bucket, endpoint, accessKeyId, secretAccessKey].every((text) => text === '')) return undefined;
  const before = problems.length;
  const missing = (name: string, what: string): void => {
    problems.push({ input: name, message: `is empty, but off-site storage is wanted: give ${what}.` });
  };
  if (bucket === '') missing('s3-bucket', 'the name of the bucket');
  else if (!/^[a-zA-Z0-9][a-zA-Z0-9._-]{1,254}$/.test(bucket)) {
    problems.push({
      input: 's3-bucket',
      message: `${quoteValue(bucket)} is not a name of a bucket: no URL, no slashes.`,
    });
  }
  if (accessKeyId === '') missing('s3-access-key-id', 'the id of the access key');
  if (secretAccessKey === '') {
    missing('s3-secret-access-key', 'the secret of the access key (it is not set in this repository or environment)');
  }
  const url = endpoint === '' ? undefined : URL.parse(endpoint);
  if (endpoint.includes('@') || endpoint.includes('?')) {
    // Not quoted: it may hold a secret.
    problems.push({ input: 's3-endpoint', message: 'holds a login or a query: these have inputs of their own.' });
  } else if (url === null || (url !== undefined && !['https:', 'http:'].includes(url.protocol))) {
    problems.push({
      input: 's3-endpoint',
      message: `${quoteValue(endpoint)} is not a URL of a storage, such as https://s3.eu-central-003.backblazeb2.com.`,
    });
  }
  if (/(^|\/)\.\.?(\/|$)|^\/|[^\w./=+-]/.test(prefix)) {
    problems.push({
      input: 's3-prefix',
      message: `${quoteValue(prefix)} is not a folder in a bucket, such as backups/shop.`,
    });
  }
  if (problems.length > before) return undefined;
  return {
    bucket,
    endpoint,
    region: region || 'us-east-1',
    accessKeyId,
    secretAccessKey: new Secret(secretAccessKey),
    prefix: prefix === '' ? '' : `${prefix.replace(/\/+$/, '')}/`,
  };
}
