import { expect, test } from '@jest/globals';
import { chooseAuthority, parseDirectory, parseRenewalWindow } from '../../src/tls/authority';

test('each authority has its place for rehearsals', () => {
  const production = chooseAuthority('production');
  expect(production.rehearsalUrl).toBe(chooseAuthority('staging').url);
  expect(chooseAuthority('staging').rehearsalUrl).toBe(chooseAuthority('staging').url);
  expect(chooseAuthority(production.url)).toEqual(production);
  expect(chooseAuthority('https://ca.internal:9000/acme/directory')).toEqual({
    url: 'https://ca.internal:9000/acme/directory',
    label: 'ca.internal:9000',
    // A dry run of certbot orders for good there.
    rehearsalUrl: '',
  });
  expect(chooseAuthority('https://ca.internal/dir', 'https://test.internal/dir').rehearsalUrl).toBe(
    'https://test.internal/dir',
  );
  expect(chooseAuthority('production', 'https://test.internal/dir')).toEqual(production);
});

test('a directory says who it is, what it has, and where it tells of renewals', () => {
  const meta = { caaIdentities: ['letsencrypt.org', 7], profiles: { classic: 'a', shortlived: 'b' } };
  const directory = { newOrder: 'https://ca/order', renewalInfo: 'https://ca/renewal', meta };
  expect(parseDirectory(JSON.stringify(directory))).toEqual({
    identities: ['letsencrypt.org'],
    profiles: ['classic', 'shortlived'],
    renewalInfoUrl: 'https://ca/renewal',
  });
  expect(parseDirectory('{"newOrder":"https://ca/order"}')).toEqual({
    identities: [],
    profiles: undefined,
    renewalInfoUrl: '',
  });
  expect(parseDirectory('<html>')).toBeUndefined();
  expect(parseDirectory('{"newOrder":7}')).toBeUndefined();
});

test('a window of renewal', () => {
  const text = (start: string, end: string): string => JSON.stringify({ suggestedWindow: { start, end } });
  expect(parseRenewalWindow(text('2026-11-22T00:00:00Z', '2026-11-24T00:00:00Z'))).toEqual({
    from: new Date('2026-11-22T00:00:00Z'),
    to: new Date('2026-11-24T00:00:00Z'),
  });
  expect(parseRenewalWindow(text('2026-11-24T00:00:00Z', '2026-11-22T00:00:00Z'))).toBeUndefined();
  expect(parseRenewalWindow(text('soon', 'later'))).toBeUndefined();
  expect(parseRenewalWindow('')).toBeUndefined();
});
