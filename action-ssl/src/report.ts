/** The outcome as outputs, job summary and log lines. Pure. */
import { escapeMarkdown, formatTable } from '#shared/reporters/markdown';
import { type Certificate, type ChainVerdict, daysLeft, shareLeft } from '#shared/tls/certificate';
import type { Warning } from '#shared/tls/rehearsal';
import { judgeServed, type Served } from '#shared/tls/served';
import type { Mode } from './inputs';
import type { Renewal } from './plan';

export type Result = 'obtained' | 'renewed' | 'kept' | 'rehearsed' | 'checked' | 'reported' | 'revoked' | 'failed';

/** Filled as the run goes on. */
export interface Report {
  readonly mode: Mode;
  result: Result;
  name: string;
  authority: string;
  certificate: Certificate | undefined;
  renewal: Renewal | undefined;
  /** Why there is a new one. */
  reasons: readonly string[];
  /** What the rehearsal has looked at, a line each. */
  rehearsed: string[];
  served: readonly Served[];
  timers: readonly { readonly unit: string; readonly isActive: boolean }[];
  readonly warnings: Warning[];
}

export function createReport(mode: Mode): Report {
  return {
    mode,
    result: 'failed',
    name: '',
    authority: '',
    certificate: undefined,
    renewal: undefined,
    reasons: [],
    rehearsed: [],
    served: [],
    timers: [],
    warnings: [],
  };
}

/** The output `results`. Fields are only ever added; what is there keeps its meaning. */
export interface Results {
  readonly result: Result;
  readonly name: string;
  readonly certificate: {
    readonly names: readonly string[];
    readonly issuer: string;
    readonly fingerprint: string;
    readonly from: string;
    readonly until: string;
    readonly keyType: string;
  } | null;
  readonly renewal: { readonly at: string; readonly until: string; readonly source: Renewal['source'] } | null;
  readonly served: readonly {
    readonly name: string;
    readonly address: string;
    readonly from: 'runner' | 'server';
    readonly ok: boolean;
    readonly fingerprint: string;
    readonly expires: string;
    readonly problem: string;
    /** Whether something in front of the server shows a certificate of its own there. */
    readonly inFront: boolean;
  }[];
  readonly timers: readonly string[];
  readonly warnings: readonly string[];
}

/** To the second, as people and programs read it. */
export const renderTime = (date: Date): string => `${date.toISOString().slice(0, 19)}Z`;

const renderPercent = (share: number): string => `${Math.floor(share * 1000) / 10}`;

const isServedWell = (one: Served, expected: Certificate | undefined): boolean =>
  judgeServed([one], expected, { mustBeTrusted: false }).length === 0;

export interface Outputs {
  readonly result: string;
  readonly 'certificate-name': string;
  readonly names: string;
  readonly issuer: string;
  readonly fingerprint: string;
  readonly expires: string;
  readonly 'days-left': string;
  readonly 'life-left': string;
  readonly 'next-renewal': string;
  readonly served: string;
  readonly results: string;
}

export function renderOutputs(report: Report, now: Date): Outputs {
  const { certificate, renewal, served } = report;
  return {
    result: report.result,
    'certificate-name': report.name,
    names: certificate?.names.join(',') ?? '',
    issuer: certificate?.issuer ?? '',
    fingerprint: certificate?.fingerprint ?? '',
    expires: certificate === undefined ? '' : renderTime(certificate.validTo),
    'days-left': certificate === undefined ? '' : daysLeft(certificate, now).toFixed(1),
    'life-left': certificate === undefined ? '' : renderPercent(shareLeft(certificate, now)),
    'next-renewal': renewal === undefined ? '' : renderTime(renewal.at),
    served: served.length === 0 ? '' : String(served.every((one) => isServedWell(one, certificate))),
    results: JSON.stringify(renderResults(report)),
  };
}

function renderResults(report: Report): Results {
  const { certificate, renewal } = report;
  return {
    result: report.result,
    name: report.name,
    certificate:
      certificate === undefined
        ? null
        : {
            names: certificate.names,
            issuer: certificate.issuer,
            fingerprint: certificate.fingerprint,
            from: renderTime(certificate.validFrom),
            until: renderTime(certificate.validTo),
            keyType: certificate.keyType,
          },
    renewal:
      renewal === undefined
        ? null
        : {
            at: renderTime(renewal.at),
            until: renewal.until === undefined ? '' : renderTime(renewal.until),
            source: renewal.source,
          },
    served: report.served.map((one) => ({
      name: one.name,
      address: one.address,
      from: one.from,
      ok: isServedWell(one, certificate),
      fingerprint: one.certificate?.fingerprint ?? '',
      expires: one.certificate === undefined ? '' : renderTime(one.certificate.validTo),
      problem: judgeServed([one], certificate, { mustBeTrusted: false }).join(' '),
      inFront: one.isFront === true,
    })),
    timers: report.timers.filter((one) => one.isActive).map((one) => one.unit),
    warnings: report.warnings.map((one) => one.text),
  };
}

const TITLES: Readonly<Record<Result, string>> = {
  obtained: '🔒 Certificate obtained',
  renewed: '🔒 Certificate renewed',
  kept: '🔒 Certificate is good, nothing was due',
  rehearsed: '🔒 Rehearsal went well',
  checked: '✅ Certificate is as it should be',
  reported: 'Certificate',
  revoked: 'Certificate revoked',
  failed: '❌ Certificate',
};

/** @param problems what failed it, a sentence each */
export function renderSummary(report: Report, problems: readonly string[], now: Date): string {
  const { certificate, renewal } = report;
  const rows: [string, string][] = [];
  if (certificate !== undefined) {
    rows.push(
      ['Names', certificate.names.join(', ')],
      ['Issuer', certificate.issuer],
      ['Key', certificate.keyType],
      ['Valid', `${renderTime(certificate.validFrom)} to ${renderTime(certificate.validTo)}`],
      ['Left', renderLeft(certificate, now)],
      ['SHA-256', certificate.fingerprint],
    );
    const chain = report.served.find((one) => one.certificate?.fingerprint === certificate.fingerprint)?.chain;
    if (chain !== undefined) rows.push(['Chain', renderChain(chain)]);
  }
  if (renewal !== undefined) rows.push(['Next renewal', renderRenewal(renewal)]);
  const timers = report.timers.filter((one) => one.isActive).map((one) => one.unit);
  if (timers.length > 0) rows.push(['Renewed by', timers.join(', ')]);
  if (report.reasons.length > 0) rows.push(['Why a new one', report.reasons.join('; ')]);
  const list = (items: readonly string[]): string[] => items.map((item) => `- ${escapeMarkdown(item)}`);
  return [
    `### ${TITLES[report.result]}${report.name === '' ? '' : `: ${escapeMarkdown(report.name, 253)}`}`,
    '',
    ...(problems.length === 0 ? [] : [...list(problems), '']),
    ...(rows.length === 0 ? [] : [formatTable(['', ''], rows), '']),
    ...(report.served.length === 0
      ? []
      : [
          '**What is served**',
          '',
          formatTable(
            ['Name', 'Address', 'Seen from', 'Result', 'SHA-256'],
            report.served.map((one) => [
              one.name,
              one.address,
              one.from,
              isServedWell(one, certificate)
                ? one.isFront === true
                  ? `⚠️ one of its own, from ${one.certificate?.issuer ?? ''}`
                  : '✅ this certificate'
                : `❌ ${judgeServed([one], certificate, { mustBeTrusted: false }).join(' ')}`,
              one.certificate === undefined ? '' : `${one.certificate.fingerprint.slice(0, 23)}…`,
            ]),
          ),
          '',
        ]),
    ...(report.rehearsed.length === 0 ? [] : ['**Rehearsed**', '', ...list(report.rehearsed), '']),
    ...(report.warnings.length === 0
      ? []
      : ['**Worth knowing**', '', ...list(report.warnings.map((one) => one.text)), '']),
  ].join('\n');
}

/** `12.3 days, 54.1% of its life`, in hours where it is less than two days. */
export function renderLeft(certificate: Certificate, now: Date): string {
  const days = daysLeft(certificate, now);
  const time = days < 2 ? `${(days * 24).toFixed(1)} hours` : `${days.toFixed(1)} days`;
  return `${time}, ${renderPercent(shareLeft(certificate, now))}% of its life`;
}

function renderChain(chain: ChainVerdict): string {
  switch (chain.kind) {
    case 'trusted':
      return 'whole, to a root that is trusted';
    case 'unknown-root':
      return `whole, to ${chain.root}, which visitors do not trust`;
    case 'broken':
      return chain.problem;
  }
}

function renderRenewal(renewal: Renewal): string {
  return renewal.until === undefined
    ? `${renderTime(renewal.at)}, by its lifetime`
    : `between ${renderTime(renewal.at)} and ${renderTime(renewal.until)}, as the authority asks`;
}
