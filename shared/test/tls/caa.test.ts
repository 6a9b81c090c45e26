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
  expect(judgeCaa(records, { identities, accounts: [] })).toMatchObject(verdict);
});

const ACCOUNT = 'https://ca.example/acct/Ours';
test.each<[string, string[], string[], string]>([
  ['our account', [`letsencrypt.org; accounturi=${ACCOUNT}`], [ACCOUNT], ''],
  [
    'another account',
    ['letsencrypt.org; accounturi=https://ca.example/acct/2'],
    [ACCOUNT],
    `\`issue "letsencrypt.org; accounturi=https://ca.example/acct/2"\` allows only one account (\`accounturi\`), and this server has other accounts (${ACCOUNT})`,
  ],
  [
    'an account, and we have none',
    [`letsencrypt.org; accounturi=${ACCOUNT}`],
    [],
    'and this server has no account yet',
  ],
  [
    'an account whose URL has other case',
    [`letsencrypt.org; accounturi=${ACCOUNT.toLowerCase()}`],
    [ACCOUNT],
    'other accounts',
  ],
  [
    'ours in the second record',
    ['letsencrypt.org; accounturi=https://ca.example/acct/2', `letsencrypt.org; AccountURI = ${ACCOUNT}`],
    [ACCOUNT],
    '',
  ],
  [
    'ours, and not by HTTP',
    [`letsencrypt.org; validationmethods=dns-01; accounturi=${ACCOUNT}`],
    [ACCOUNT],
    '`validationmethods` lacks http-01',
  ],
  [
    'two at once',
    [`letsencrypt.org; accounturi=${ACCOUNT}; accounturi=${ACCOUNT}`],
    [ACCOUNT],
    'names a parameter twice',
  ],
  ['a parameter that nobody knows', ['letsencrypt.org; policy=ev'], [], ''],
])('%s (RFC 8657)', (_, values, accounts, reason) => {
  const verdict = judgeCaa(values.map(issue), { identities: US, accounts });
  expect(verdict).toEqual(
    reason === '' ? { kind: 'allowed' } : { kind: 'forbidden', reason: expect.stringContaining(reason) },
  );
});
