import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { renderOrder, runTlsProgram } from '../../src/commands/certificates';
import { CertificateError } from '../../src/errors';
import { renderCommand } from '../../src/shell/render';
import type { CertificateHost } from '../../src/tls/facts';
import { explainFailure, findObstacle, judgeAccess, programChecksum, renderSetUp } from '../../src/tls/privileged';
import { TLS_PROGRAM } from '../../src/tls/program';

test('what the bundles install is the program in the repository, byte for byte', () => {
  const source = readFileSync(join(import.meta.dirname, '../../src/tls/slipway-tls.sh'), 'utf8');
  expect(gunzipSync(Buffer.from(TLS_PROGRAM, 'base64')).toString()).toBe(source);
});

const host = (more: Partial<CertificateHost>): CertificateHost => ({
  user: 'deploy',
  isRoot: false,
  programChecksum: '',
  programVersion: '',
  hasAllOfSudo: false,
  mayRunProgram: false,
  clockSeconds: 0,
  addresses: [],
  system: { id: 'debian', name: 'Debian' },
  certbot: undefined,
  timers: [],
  published: [],
  seen: new Map(),
  isHttpPortTaken: false,
  ...more,
});

test.each<[string, Partial<CertificateHost>, object]>([
  ['root installs it', { isRoot: true }, { kind: 'install', privilege: 'root' }],
  ['root uses it', { isRoot: true, programChecksum: 'now' }, { kind: 'ready', privilege: 'root' }],
  ['sudo for it alone', { mayRunProgram: true, programChecksum: 'now' }, { kind: 'ready', privilege: 'sudo' }],
  ['sudo for everything', { hasAllOfSudo: true, mayRunProgram: true }, { kind: 'install', privilege: 'sudo' }],
  [
    'sudo for everything, another release',
    { hasAllOfSudo: true, mayRunProgram: true, programChecksum: 'old' },
    { kind: 'install', privilege: 'sudo' },
  ],
  [
    'sudo for another release of it alone',
    { mayRunProgram: true, programChecksum: 'old' },
    { kind: 'refused', isInstalled: false },
  ],
  ['it is there, and no sudo', { programChecksum: 'now' }, { kind: 'refused', isInstalled: true }],
  ['nothing', {}, { kind: 'refused', isInstalled: false }],
])('%s', (_, more, access) => {
  expect(judgeAccess(host(more), 'now')).toEqual(access);
});

test('the commands for root compare what they install', () => {
  const setUp = { offered: '/home/deploy/slipway-tls', checksum: programChecksum(), authorities: [] };
  const text = renderSetUp('deploy', setUp);
  expect(text).toMatch(
    /^install -o root -g root -m 700 \/home\/deploy\/slipway-tls (\S+\.new)\necho '[0-9a-f]{64} {2}\1' \| sha256sum --check && chmod 755 \1 && mv \1 \/usr\/local\/sbin\/slipway-tls \|\| rm -f \1\n\[ -e \/etc\/sudoers\.d\/slipway-tls \] \|\| echo /,
  );
  // An authority that root does not know yet is a line more.
  const lines = renderSetUp('deploy', { ...setUp, authorities: ['https://ca/dir', 'https://ca/test?a=b'] }).split('\n');
  const line = `mkdir -p /etc/slipway && printf '%s\\n' https://ca/dir 'https://ca/test?a=b' >> /etc/slipway/acme-servers`;
  expect(lines.filter((one) => !text.split('\n').includes(one))).toEqual([line]);
  expect(lines.filter((one) => one !== line).join('\n')).toBe(text);
});

test.each<[string, Partial<CertificateHost>, string]>([
  ['this release', { programChecksum: 'now', programVersion: 'slipway-tls 2' }, ''],
  ['another text, and the same verbs', { programChecksum: 'older', programVersion: 'slipway-tls 2' }, ''],
  [
    'other verbs',
    { programChecksum: 'old', programVersion: 'slipway-tls 1' },
    'it is slipway-tls 1, and slipway-tls 2 is needed',
  ],
  ['not to be run', { programChecksum: 'now' }, 'deploy may not run /usr/local/sbin/slipway-tls as root'],
  ['not there', {}, 'there is no /usr/local/sbin/slipway-tls'],
])('what is only looked at asks the program that is there: %s', (_, more, obstacle) => {
  if (obstacle === '') expect(findObstacle(host(more))).toBe('');
  else expect(findObstacle(host(more))).toContain(obstacle);
});

test('an order is words, each of which stays one', () => {
  const order = {
    name: 'shop.example',
    domains: ['shop.example', 'www.shop.example'],
    server: 'https://ca/dir?a=b&c=d',
    email: 'a@b.example',
    keyType: 'rsa',
    profile: 'shortlived',
    challenge: 'webroot',
    webroot: '/var/www/acme',
  } as const;
  expect(renderCommand(runTlsProgram('sudo', 'obtain', renderOrder(order, 'rehearse')))).toBe(
    "sudo -n /usr/local/sbin/slipway-tls obtain shop.example 'server=https://ca/dir?a=b&c=d' domains=shop.example,www.shop.example " +
      'key=rsa challenge=webroot webroot=/var/www/acme email=a@b.example profile=shortlived try=dry',
  );
  expect(renderOrder({ ...order, email: '', profile: '', challenge: 'standalone' }, 'obtain')).toEqual([
    'shop.example',
    'server=https://ca/dir?a=b&c=d',
    'domains=shop.example,www.shop.example',
    'key=rsa',
    'challenge=standalone',
  ]);
  expect(renderOrder(order, 'obtain', 'AB:CD').at(-1)).toBe('replace=AB:CD');
  fc.assert(
    fc.property(fc.string(), (word) => {
      expect(runTlsProgram('root', 'publish', [word]).words.at(-1)).toBe(word);
    }),
  );
});

test('what certbot says is told with what to do about it', () => {
  const fail = (code: number, ...lines: string[]): Error =>
    explainFailure('server', 'obtain the certificate', code, lines);
  const limited = fail(4, 'Saving debug log to x', 'urn:ietf:params:acme:error:rateLimited :: too many certificates');
  expect(limited).toBeInstanceOf(CertificateError);
  expect(limited).toMatchObject({
    message:
      'Could not obtain the certificate on server:\n  urn:ietf:params:acme:error:rateLimited :: too many certificates',
    hint: expect.stringContaining('acme-server: staging'),
  });
  expect(fail(4, '  Type:   connection')).toMatchObject({ hint: expect.stringContaining('could not reach port 80') });
  expect(fail(4, 'urn:ietf:params:acme:error:caa :: no')).toMatchObject({
    hint: expect.stringContaining('CAA record'),
  });
  expect(fail(5, 'nginx: [emerg] unknown directive')).toMatchObject({ hint: expect.stringContaining('nginx -t') });
  expect(fail(127, 'sudo: not found')).toMatchObject({ hint: 'Is sudo installed there?' });
  expect(fail(4, '[SSL: CERTIFICATE_VERIFY_FAILED] CA cert does not include key usage extension')).toMatchObject({
    hint: expect.stringContaining('its root needs keyUsage'),
  });
  expect(fail(10, 'slipway-tls: Docker does not answer')).toMatchObject({
    hint: expect.stringContaining('Start Docker'),
  });
  expect(fail(3)).toMatchObject({ message: expect.stringContaining('exit code 3') });
});
