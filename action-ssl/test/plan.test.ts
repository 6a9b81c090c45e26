import { expect, test } from '@jest/globals';
import { chooseAuthority } from '#shared/tls/authority';
import { type Certificate, parseChain } from '#shared/tls/certificate';
import type { Lineage } from '#shared/tls/facts';
import { INTERMEDIATE, LEAF } from '../../shared/test/tls/sample-certificates';
import type { Inputs } from '../src/inputs';
import { decideOrder, decideRenewal, judgeTimers } from '../src/plan';

const chain = parseChain(LEAF + INTERMEDIATE);
const [leaf] = chain as [Certificate];
const HOUR_MS = 3_600_000;
const hoursAfter = (date: Date, hours: number): Date => new Date(date.getTime() + hours * HOUR_MS);

const authority = chooseAuthority('production');
const inputs: Inputs = {
  mode: 'obtain',
  host: { kind: 'local' },
  name: 'shop.example',
  domains: ['shop.example', 'www.shop.example'],
  email: '',
  authority,
  acmeCa: '',
  challenge: 'webroot',
  webroot: '/var/www/acme',
  keyType: 'ecdsa',
  profile: '',
  renewNow: false,
  nginx: { kind: 'host' },
  addresses: [],
  dnsServers: [],
  dryRun: false,
  minimumLife: 0.2,
  reason: 'unspecified',
};
const lineage: Lineage = {
  names: ['shop.example'],
  crons: [],
  settings: new Map([['server', authority.url]]),
  isForeign: false,
  authorities: [],
  accounts: [],
  chain,
};
const early = hoursAfter(leaf.validFrom, 1);
const renewal = decideRenewal(leaf, undefined);

test('none yet, good, changed, due: what is ordered, and why', () => {
  expect(decideOrder(inputs, { ...lineage, chain: [] }, undefined, early).kind).toBe('first');
  expect(decideOrder(inputs, lineage, renewal, early)).toEqual({ kind: 'keep', reasons: [] });
  // Their order means nothing.
  const turned = { ...inputs, domains: [...inputs.domains].reverse() };
  expect(decideOrder(turned, lineage, renewal, early).kind).toBe('keep');
  const changed = { ...inputs, domains: ['shop.example', 'api.shop.example'], keyType: 'rsa' } as const;
  const elsewhere = { ...lineage, settings: new Map([['server', 'https://staging/']]) };
  expect(decideOrder(changed, elsewhere, renewal, early)).toEqual({
    kind: 'change',
    reasons: [
      'its names change: + api.shop.example, - www.shop.example',
      'it is from another authority (https://staging/)',
      'its key is ecdsa, and rsa is wanted',
    ],
  });
  // A renewal takes all that as it is.
  expect(decideOrder({ ...changed, mode: 'renew' }, elsewhere, renewal, early).kind).toBe('keep');
  expect(decideOrder({ ...inputs, renewNow: true }, lineage, renewal, early).kind).toBe('renewal');
  const late = hoursAfter(renewal.at, 1);
  expect(decideOrder(inputs, lineage, renewal, late)).toMatchObject({
    kind: 'renewal',
    reasons: [expect.stringContaining('its life')],
  });
});

test('the authority’s word counts more than the lifetime', () => {
  const window = { from: hoursAfter(leaf.validFrom, 2), to: hoursAfter(leaf.validFrom, 4) };
  const asked = decideRenewal(leaf, window);
  expect(asked).toEqual({ at: window.from, until: window.to, source: 'authority' });
  expect(decideOrder(inputs, lineage, asked, early).kind).toBe('keep');
  expect(decideOrder(inputs, lineage, asked, hoursAfter(early, 2)).reasons[0]).toContain('the authority asks for it');
});

test('a window that is longer than the whole life would have it renewed by every run: it says nothing', () => {
  const window = { from: hoursAfter(leaf.validFrom, -1), to: hoursAfter(leaf.validTo, 1) };
  expect(decideRenewal(leaf, window).source).toBe('lifetime');
  // One that is over already is an authority in a hurry: what it has issued is to be revoked.
  const past = { from: hoursAfter(leaf.validFrom, -2), to: hoursAfter(leaf.validFrom, -1) };
  expect(decideOrder(inputs, lineage, decideRenewal(leaf, past), early).kind).toBe('renewal');
});

test('one timer is right', () => {
  const timer = (unit: string, isActive: boolean) => ({ unit, isActive });
  expect(judgeTimers([timer('certbot.timer', true), timer('snap.certbot.renew.timer', false)], [])).toEqual({
    problem: '',
    warning: '',
  });
  expect(judgeTimers([timer('certbot.timer', false)], []).problem).toContain('nothing renews it');
  expect(judgeTimers([timer('certbot.timer', true)], ['/etc/cron.d/mine']).warning).toContain(
    'certbot.timer, /etc/cron.d/mine',
  );
  expect(judgeTimers([], ['/etc/cron.d/mine'])).toEqual({ problem: '', warning: '' });
});
