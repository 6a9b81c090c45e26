/** Whether a certificate is to be ordered, and why: what is wanted against what is there. Pure. */
import type { RenewalWindow } from '#shared/tls/authority';
import { type Certificate, planRenewal } from '#shared/tls/certificate';
import type { Lineage } from '#shared/tls/facts';
import type { Inputs } from './inputs';

export interface Decision {
  /** `first`: there is none yet. */
  readonly kind: 'first' | 'change' | 'renewal' | 'keep';
  readonly reasons: readonly string[];
}

export interface Renewal {
  readonly at: Date;
  /** The end of the authority's window. */
  readonly until: Date | undefined;
  /** Who says so. */
  readonly source: 'authority' | 'lifetime';
}

/**
 * When a certificate is to be renewed: when the authority says, else by its lifetime. A window that is longer than the life of
 * the certificate says nothing, and would have it renewed by every run.
 */
export function decideRenewal(certificate: Certificate, window: RenewalWindow | undefined): Renewal {
  return window === undefined || (window.from <= certificate.validFrom && window.to >= certificate.validTo)
    ? { at: planRenewal(certificate), until: undefined, source: 'lifetime' }
    : { at: window.from, until: window.to, source: 'authority' };
}

const same = (a: readonly string[], b: readonly string[]): boolean =>
  a.length === b.length && [...a].sort().every((one, index) => one === [...b].sort()[index]);

export function decideOrder(inputs: Inputs, lineage: Lineage, renewal: Renewal | undefined, now: Date): Decision {
  const [certificate] = lineage.chain;
  if (certificate === undefined) return { kind: 'first', reasons: [`there is no certificate ${inputs.name} yet`] };
  const reasons = inputs.mode === 'obtain' ? listChanges(inputs, lineage, certificate) : [];
  if (reasons.length > 0) return { kind: 'change', reasons };
  if (inputs.renewNow) return { kind: 'renewal', reasons: ['`renew-now` is set'] };
  if (renewal !== undefined && renewal.at <= now) {
    const who = renewal.source === 'authority' ? 'the authority asks for it' : 'its life is nearly over';
    return { kind: 'renewal', reasons: [`it is due since ${renewal.at.toISOString()}: ${who}`] };
  }
  return { kind: 'keep', reasons: [] };
}

function listChanges(inputs: Inputs, { settings }: Lineage, certificate: Certificate): string[] {
  const reasons: string[] = [];
  if (!same(certificate.names, inputs.domains)) {
    const added = inputs.domains.filter((name) => !certificate.names.includes(name));
    const removed = certificate.names.filter((name) => !inputs.domains.includes(name));
    const parts = [...added.map((name) => `+ ${name}`), ...removed.map((name) => `- ${name}`)];
    reasons.push(`its names change: ${parts.join(', ')}`);
  }
  const server = settings.get('server') ?? '';
  if (server !== inputs.authority.url) reasons.push(`it is from another authority (${server || 'unknown'})`);
  const keyType = certificate.keyType === 'ec' ? 'ecdsa' : certificate.keyType;
  if (keyType !== inputs.keyType) reasons.push(`its key is ${keyType}, and ${inputs.keyType} is wanted`);
  return reasons;
}

/** What is said of the timers that renew. One is right. */
export function judgeTimers(
  timers: readonly { readonly unit: string; readonly isActive: boolean }[],
  crons: readonly string[],
): {
  readonly problem: string;
  readonly warning: string;
} {
  const active = [...timers.filter((one) => one.isActive).map((one) => one.unit), ...crons];
  if (active.length === 0) {
    return {
      problem: 'nothing renews it: no timer of certbot is active (`systemctl enable --now certbot.timer`).',
      warning: '',
    };
  }
  return {
    problem: '',
    warning: active.length === 1 ? '' : `Several renew certificates: ${active.join(', ')}. Leave one of them.`,
  };
}
