/** ACME authorities, and what they say of themselves. Pure. */
import { parseJson, readList, readMember, readText } from '../json';

export interface Authority {
  /** Of its directory (RFC 8555, section 7.1.1). */
  readonly url: string;
  readonly label: string;
  /** Where a rehearsal may order; empty: nowhere. certbot's dry run orders for good, and throws away what it gets. */
  readonly rehearsalUrl: string;
}

const PRODUCTION = 'https://acme-v02.api.letsencrypt.org/directory';
const STAGING = 'https://acme-staging-v02.api.letsencrypt.org/directory';

/**
 * @param text `production`, `staging`, or the URL of another authority's directory, already checked.
 * @param rehearsalUrl of another authority's directory for tests; Let's Encrypt's is known.
 */
export function chooseAuthority(text: string, rehearsalUrl = ''): Authority {
  switch (text) {
    case 'production':
      return { url: PRODUCTION, label: "Let's Encrypt", rehearsalUrl: STAGING };
    case 'staging':
      return { url: STAGING, label: "Let's Encrypt (staging)", rehearsalUrl: STAGING };
    default:
      return text === PRODUCTION
        ? chooseAuthority('production')
        : text === STAGING
          ? chooseAuthority('staging')
          : { url: text, label: new URL(text).host, rehearsalUrl };
  }
}

/** Whether root has to allow it first: slipway-tls knows those that visitors trust. */
export function isAllowedAnyway(url: string): boolean {
  return url === PRODUCTION || url === STAGING;
}

export interface Directory {
  /** Its names in CAA records. */
  readonly identities: readonly string[];
  /** Profiles that can be asked for; undefined where it has none. */
  readonly profiles: readonly string[] | undefined;
  /** Where renewal information is (RFC 9773); empty where there is none. */
  readonly renewalInfoUrl: string;
}

/** @returns undefined for what is no directory */
export function parseDirectory(text: string): Directory | undefined {
  const json = parseJson(text);
  if (readText(json, 'newOrder') === '') return undefined;
  const profiles = readMember(readMember(json, 'meta'), 'profiles');
  return {
    identities: readList(json, 'meta', 'caaIdentities').filter((one) => typeof one === 'string'),
    profiles: typeof profiles === 'object' && profiles !== null ? Object.keys(profiles) : undefined,
    renewalInfoUrl: readText(json, 'renewalInfo'),
  };
}

export interface RenewalWindow {
  readonly from: Date;
  readonly to: Date;
}

/** @returns undefined for what is no renewal information */
export function parseRenewalWindow(text: string): RenewalWindow | undefined {
  const json = parseJson(text);
  const [from, to] = ['start', 'end'].map((key) => new Date(readText(json, 'suggestedWindow', key)));
  if (from === undefined || to === undefined || !(from.getTime() <= to.getTime())) return undefined;
  return { from, to };
}
