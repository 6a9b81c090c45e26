import { expect, test } from '@jest/globals';
import type { CaaRecord } from '../../src/ports';
import { judgeCaa, listCaaNames } from '../../src/tls/caa';

const issue = (value: string): CaaRecord => ({ critical: false, tag: 'issue', value });
const US = ['letsencrypt.org'];

test('the name itself is asked first, then all above it', () => {
  expect(listCaaNames('www.shop.example')).toEqual(['www.shop.example', 'shop.example', 'example']);
});

test.each<[string, CaaRecord[], string[], object]>([
  ['others only', [issue('pki.goog')], US, { kind: 'forbidden', reason: 'they allow only pki.goog' }],
  ['us among others', [issue('pki.goog'), issue('LetsEncrypt.org')], US, { kind: 'allowed' }],
  ['nobody', [issue(';')], US, { kind: 'forbidden' }],
  ['nobody, whoever we are', [issue(';')], [], { kind: 'forbidden' }],
  ['some, and we do not know who we are', [issue('pki.goog')], [], { kind: 'unknown', issuers: ['pki.goog'] }],
  ['proof by DNS only', [issue('letsencrypt.org; validationmethods=dns-01')], US, { kind: 'forbidden' }],
  ['proof by HTTP, too', [issue('letsencrypt.org;validationmethods = dns-01,http-01')], US, { kind: 'allowed' }],
  ['wildcards only are ruled', [{ critical: false, tag: 'issuewild', value: ';' }], US, { kind: 'allowed' }],
  ['only where to complain', [{ critical: false, tag: 'iodef', value: 'mailto:a@b.example' }], US, { kind: 'allowed' }],
  [
    'something critical that nobody knows',
    [issue('letsencrypt.org'), { critical: true, tag: 'tbs', value: '1' }],
    US,
    { kind: 'forbidden' },
  ],
])('%s', (_, records, identities, verdict) => {
  expect(judgeCaa(records, identities)).toMatchObject(verdict);
});
