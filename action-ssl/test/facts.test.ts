import { expect, test } from '@jest/globals';
import { adviseOnAuthority } from '../src/facts';

test('an authority that cannot be reached: what to do depends on why', () => {
  expect(adviseOnAuthority('tls', false)).toContain('root goes into `acme-ca`');
  expect(adviseOnAuthority('tls', true)).toContain(
    '`acme-ca` has to hold the root of the certificate that the ACME server itself shows',
  );
  expect(adviseOnAuthority('unreachable', true)).toContain('certbot runs on the server');
});
