/** Root's part on the server: one program with few verbs, installed once. */
import { createHash } from 'node:crypto';
import { posix } from 'node:path';
import { gunzipSync } from 'node:zlib';
import {
  allowAuthorities,
  AUTHORITIES_PATH,
  installTlsProgram,
  offerTlsProgram,
  type Privilege,
  PUBLISHED_FOLDER,
  runTlsProgram,
  TLS_PROGRAM_PATH,
} from '../commands/certificates';
import { CertificateError, CommandError } from '../errors';
import type { Session } from '../ports';
import { excerptEnd } from '../shell/excerpt';
import { renderCommand } from '../shell/render';
import type { CertificateHost } from './facts';
import { TLS_PROGRAM } from './program';

export interface VerbOptions {
  readonly timeoutSeconds?: number;
  readonly signal?: AbortSignal | undefined;
  readonly stdin?: string;
  readonly onLine?: (line: string) => void;
  /** For messages: "obtain the certificate". */
  readonly purpose: string;
}

/** Runs one verb. @returns its standard output @throws CertificateError with what it said */
export type RunVerb = (verb: string, words: readonly string[], options: VerbOptions) => Promise<string>;

const text = (): string => gunzipSync(Buffer.from(TLS_PROGRAM, 'base64')).toString();

export type Access =
  | { readonly kind: 'ready'; readonly privilege: Privilege }
  /** Missing or of another release, and we may put that right. */
  | { readonly kind: 'install'; readonly privilege: Privilege }
  | { readonly kind: 'refused'; readonly isInstalled: boolean };

/** Pure. */
export function judgeAccess(host: CertificateHost, checksum: string): Access {
  const privilege = host.isRoot ? 'root' : 'sudo';
  const isCurrent = host.programChecksum === checksum;
  if (isCurrent && (host.isRoot || host.mayRunProgram)) return { kind: 'ready', privilege };
  if (host.isRoot || host.hasAllOfSudo) return { kind: 'install', privilege };
  return { kind: 'refused', isInstalled: isCurrent };
}

export function programChecksum(): string {
  return createHash('sha256').update(text()).digest('hex');
}

/**
 * @param authorities URLs of ACME directories that it has to know beside those of Let's Encrypt
 * @throws CertificateError with what root has to do once, where we may not do it
 */
export async function openProgram(
  session: Session,
  host: CertificateHost,
  authorities: readonly string[],
  signal: AbortSignal,
): Promise<RunVerb> {
  const checksum = programChecksum();
  const access = judgeAccess(host, checksum);
  switch (access.kind) {
    case 'refused': {
      const offered = await session.run(offerTlsProgram(text()), { purpose: 'offer slipway-tls to root', signal });
      throw refuseAccess(session.where, host, access.isInstalled, { offered: offered.stdout, checksum, authorities });
    }
    case 'install':
      await session.run(installTlsProgram(access.privilege, text()), { purpose: 'install slipway-tls', signal });
      break;
    case 'ready':
  }
  if (authorities.length > 0 && (host.isRoot || host.hasAllOfSudo)) {
    await session.run(allowAuthorities(access.privilege, authorities), { purpose: 'allow the authority', signal });
  }
  return (verb, words, options) => runVerb(session, access.privilege, verb, words, options);
}

/** What slipway-tls says of itself, if its verbs are those that are meant here. */
const VERSION = 'slipway-tls 2';

/** As it is, without anything new: also the program of another release that is spoken to in the same way. */
export function useProgram(session: Session, host: CertificateHost): RunVerb | { readonly obstacle: string } {
  const obstacle = findObstacle(host);
  if (obstacle !== '') return { obstacle };
  return (verb, words, options) => runVerb(session, host.isRoot ? 'root' : 'sudo', verb, words, options);
}

/** Why the program cannot be asked; empty where it can. Pure. */
export function findObstacle({ programChecksum: installed, programVersion, user }: CertificateHost): string {
  if (installed === '') return `there is no ${TLS_PROGRAM_PATH}`;
  if (programVersion === '') return `${user} may not run ${TLS_PROGRAM_PATH} as root`;
  if (programVersion === VERSION) return '';
  return `${TLS_PROGRAM_PATH} is of another release of Slipway (it is ${programVersion}, and ${VERSION} is needed)`;
}

/**
 * What root has to type once. The file is the login's, who may change it meanwhile, or make it a link: so nobody may run or read the copy, nor
 * is a program replaced that works, before its checksum is known to be right. A rule that is there stays as its owner wants it. Pure.
 */
export function renderSetUp(user: string, { offered, checksum, authorities }: SetUp): string {
  const fresh = `${TLS_PROGRAM_PATH}.new`;
  const rule = '/etc/sudoers.d/slipway-tls';
  return [
    `install -o root -g root -m 700 ${offered} ${fresh}`,
    `echo '${checksum}  ${fresh}' | sha256sum --check && chmod 755 ${fresh} && mv ${fresh} ${TLS_PROGRAM_PATH} || rm -f ${fresh}`,
    ...(authorities.length === 0 ? [] : [renderAllowance(authorities)]),
    `[ -e ${rule} ] || echo '${user} ALL=(root) NOPASSWD: ${TLS_PROGRAM_PATH}' > ${rule}`,
    `chmod 440 ${rule} && visudo --check`,
  ].join('\n');
}

/** What root has to type to have slipway-tls order from these. Pure. */
export function renderAllowance(authorities: readonly string[]): string {
  const lines = renderCommand({ words: ['printf', '%s\\n', ...authorities] });
  return `mkdir -p ${posix.dirname(AUTHORITIES_PATH)} && ${lines} >> ${AUTHORITIES_PATH}`;
}

/** What root has to type to have slipway-tls deal with a certificate that certbot has for somebody else. Pure. */
export function renderHandover(name: string): string {
  return `mkdir -p ${PUBLISHED_FOLDER}/${name} && touch ${PUBLISHED_FOLDER}/${name}/managed`;
}

interface SetUp {
  /** Where the login has put the program. */
  readonly offered: string;
  readonly checksum: string;
  readonly authorities: readonly string[];
}

function refuseAccess(where: string, host: CertificateHost, isInstalled: boolean, setUp: SetUp): CertificateError {
  const what = isInstalled
    ? `may not run ${TLS_PROGRAM_PATH} as root`
    : host.programChecksum === ''
      ? `lacks ${TLS_PROGRAM_PATH}, and ${host.user} may not install it`
      : `has ${TLS_PROGRAM_PATH} of another release of Slipway, and ${host.user} may not replace it`;
  return new CertificateError(
    `${where} ${what}.`,
    'Certificates need root on the server, through this one program: it takes few verbs, checks every word, and shows no private key. ' +
      `Run this once on the server, as root (sudo must be installed):\n${renderSetUp(host.user, setUp)}`,
  );
}

async function runVerb(
  session: Session,
  privilege: Privilege,
  verb: string,
  words: readonly string[],
  { stdin, purpose, signal, timeoutSeconds = 60, onLine }: VerbOptions,
): Promise<string> {
  const lines: string[] = [];
  const done = await session.run(runTlsProgram(privilege, verb, words, stdin), {
    purpose,
    timeoutSeconds,
    accept: 'any',
    ...(signal === undefined ? {} : { signal }),
    onLine: (line) => {
      lines.push(line);
      onLine?.(line);
    },
  });
  if (done.exitCode === 0) return done.stdout;
  throw explainFailure(session.where, purpose, done.exitCode, lines);
}

/** What slipway-tls gives as exit codes; see there. */
const CODES = { refused: 2, busy: 3, certbot: 4, nginx: 5, missing: 7, docker: 10 } as const;

const HINTS: readonly (readonly [pattern: RegExp, hint: string])[] = [
  [
    /rateLimited|too many/i,
    'The authority has had too many requests: wait until the time that it names, and use `acme-server: staging` to try things.',
  ],
  [
    /(:|Type: +)unauthorized\b/,
    'Something else than this server answered the authority: a proxy, or another server behind the same name.',
  ],
  [
    /(:|Type: +)connection\b/,
    'The authority could not reach port 80: a firewall or a security group that lets the runner in, but not everybody?',
  ],
  [/(:|Type: +)caa\b/, 'A CAA record in DNS forbids this authority.'],
  [
    /key usage extension|Missing Authority Key Identifier|Basic Constraints of CA cert not marked critical/,
    "A newer Python is strict about a private authority's certificates: its root needs keyUsage (keyCertSign), the others an authorityKeyIdentifier. Make them anew.",
  ],
  [/(:|Type: +)dns\b/, 'The authority got no answer from DNS for a name.'],
];

/** Pure. */
export function explainFailure(where: string, purpose: string, code: number, lines: readonly string[]): Error {
  const said = lines.filter((line) => line.trim() !== '' && !/^(Saving debug log|Ask for help|- - )/.test(line));
  const output = said
    .slice(-12)
    .map((line) => `  ${line}`)
    .join('\n');
  if (code === 126 || code === 127) {
    return new CommandError(
      `Could not ${purpose} on ${where}: exit code ${code}.`,
      'Is sudo installed there?',
      code,
      output,
    );
  }
  const known = HINTS.find(([pattern]) => said.some((line) => pattern.test(line)))?.[1];
  const hint =
    known ??
    (code === CODES.nginx
      ? 'What nginx serves has not changed. Put its configuration right (`nginx -t`), and run this again.'
      : code === CODES.certbot
        ? 'The whole story is in /var/log/letsencrypt/letsencrypt.log on the server.'
        : code === CODES.busy
          ? 'Run this again when the other one has ended.'
          : code === CODES.docker
            ? 'nginx still serves what it served before. Start Docker, and run this again; the timer on the server tries, too.'
            : '');
  return new CertificateError(
    `Could not ${purpose} on ${where}:\n${output === '' ? `  ${excerptEnd(`exit code ${code}`)}` : output}`,
    hint,
  );
}
