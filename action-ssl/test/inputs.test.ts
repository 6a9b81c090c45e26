import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { parse } from 'yaml';
import { InputError } from '#shared/errors';
import { LEAF, ROOT } from '../../shared/test/tls/sample-certificates';
import { readInputs } from '../src/inputs';

interface Action {
  readonly inputs: Readonly<Record<string, { readonly default?: string }>>;
}

const action = parse(readFileSync(join(import.meta.dirname, '..', 'action.yml'), 'utf8')) as Action;

/** The inputs as the runner gives them: what the workflow says, else the defaults of action.yml. */
function give(more: Record<string, string>): (name: string) => string {
  return (name) => {
    const declared = action.inputs[name];
    if (declared === undefined) throw new Error(`action.yml has no input ${name}`);
    return (more[name] ?? declared.default ?? '').trim();
  };
}

function problemsOf(more: Record<string, string>): string[] {
  try {
    readInputs(give(more));
  } catch (error) {
    if (error instanceof InputError) return error.problems.map(({ input, message }) => `${input}: ${message}`);
    throw error;
  }
  return [];
}

const login = { host: 'server.example.com', 'ssh-key': 'the key', 'host-fingerprint': `SHA256:${'A'.repeat(43)}` };
const names = { ...login, domains: 'Shop.example, www.shop.example' };

test('names and a login are enough', () => {
  expect(readInputs(give(names))).toMatchObject({
    mode: 'obtain',
    domains: ['shop.example', 'www.shop.example'],
    name: 'shop.example',
    authority: { label: "Let's Encrypt" },
    challenge: 'webroot',
    webroot: '/var/www/acme',
    keyType: 'ecdsa',
    nginx: { kind: 'host' },
    minimumLife: 0.2,
    renewNow: false,
    dryRun: false,
  });
});

test('only a check from outside can do without a server', () => {
  expect(readInputs(give({ mode: 'check', domains: 'shop.example' })).host).toBeUndefined();
  expect(problemsOf({ mode: 'check', 'certificate-name': 'shop.example' })).toEqual([
    'domains: is empty: without `host` they are all that a check has to go by.',
  ]);
  expect(problemsOf({ mode: 'info', domains: 'shop.example' })).toEqual(
    expect.arrayContaining([expect.stringContaining('host: is empty')]),
  );
});

test('a certificate that is there is known by its name', () => {
  expect(readInputs(give({ ...login, mode: 'renew', 'certificate-name': 'shop.example' }))).toMatchObject({
    name: 'shop.example',
    domains: [],
  });
  expect(problemsOf({ ...login, mode: 'renew' })).toEqual([expect.stringContaining('certificate-name: is empty')]);
  expect(problemsOf({ ...login, 'certificate-name': 'shop.example' })).toEqual([
    'domains: is empty: give the names that the certificate is for.',
  ]);
});

test('nothing is revoked without its name typed in', () => {
  expect(problemsOf({ ...names, mode: 'revoke' })).toEqual([expect.stringContaining('confirm: must be the name')]);
  expect(readInputs(give({ ...names, mode: 'revoke', confirm: 'shop.example' })).reason).toBe('unspecified');
});

test('addresses, DNS servers, authorities and nginx in their forms', () => {
  const given = {
    ...names,
    addresses: '203.0.113.7, 2001:DB8::0:7',
    'dns-server': '2620:fe::fe',
    'acme-server': 'https://ca.internal:9000/acme/acme/directory',
    'acme-rehearsal-server': 'https://test.internal:9000/acme/acme/directory',
    'acme-ca': `${ROOT}${LEAF}`,
    nginx: 'shop/web',
    'minimum-life': '12.5',
  };
  expect(readInputs(give(given))).toMatchObject({
    addresses: ['203.0.113.7', '2001:db8::7'],
    dnsServers: ['[2620:fe::fe]'],
    authority: {
      url: 'https://ca.internal:9000/acme/acme/directory',
      rehearsalUrl: 'https://test.internal:9000/acme/acme/directory',
    },
    nginx: { kind: 'compose', project: 'shop', service: 'web' },
    minimumLife: 0.125,
  });
  expect(readInputs(give({ ...names, 'dns-server': '127.0.0.1:5353' })).dnsServers).toEqual(['127.0.0.1:5353']);
});

test('everything that cannot be used is said at once', () => {
  const wrong = {
    ...login,
    domains: '*.shop.example',
    'certificate-name': '../shop',
    email: '--help@x.example x',
    'acme-server': 'http://ca.example/',
    'acme-rehearsal-server': 'staging',
    'acme-ca': '-----BEGIN PRIVATE KEY-----',
    challenge: 'dns',
    webroot: '/var/www/../../etc',
    'key-type': 'dsa',
    profile: '-x',
    'renew-now': 'perhaps',
    nginx: 'a/b/c',
    addresses: '256.1.1.1',
    'dns-server': 'dns.example',
    'dry-run': 'yes',
    'minimum-life': '120%',
    reason: 'because',
  };
  expect(problemsOf(wrong).map((one) => one.replace(/:.*/s, ''))).toEqual(
    Object.keys(wrong).filter((name) => !(name in login)),
  );
});

test.each(['/etc', '/var/www', '/srv/', '/srv/a b', '/var/www/./a', '/var/www//a', '/srv/$(id)', 'srv/a', ''])(
  'the webroot %j is refused',
  (webroot) => {
    expect(problemsOf({ ...names, webroot })).toEqual([expect.stringContaining('webroot: ')]);
  },
);

test.each([
  'https://user@ca.example/',
  'https://ca.example/ --server',
  "https://ca.example/'",
  'https://',
  'ftp://ca.example',
])('the authority %j is refused', (server) => {
  expect(problemsOf({ ...names, 'acme-server': server })).toEqual([expect.stringContaining('acme-server: ')]);
});
