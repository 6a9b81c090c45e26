import { spawnSync } from 'node:child_process';
import { describe, expect, test } from '@jest/globals';
import { readCertificateHost } from '../../src/commands/certificates';
import { isAtLeast, parseCertificateHost, parseLineage, parseVersion } from '../../src/tls/facts';
import { SHELLS } from '../shells';
import { INTERMEDIATE, LEAF } from './sample-certificates';

const TOKEN = 'slipway-0123456789abcdef';

describe.each(SHELLS)('the questions in $name', ({ words: [shell, ...options] }) => {
  test('are answered by any machine, without root and without certbot', () => {
    const [, ...words] = readCertificateHost(TOKEN, 'shop.example', ['localhost', '$(id).example']).words;
    const asked = spawnSync(shell, [...options, ...words], { encoding: 'utf8' });
    expect({ code: asked.status, stderr: asked.stderr }).toEqual({ code: 0, stderr: '' });
    const host = parseCertificateHost(asked.stdout, TOKEN);
    expect(host).toMatchObject({ user: spawnSync('id', ['-un'], { encoding: 'utf8' }).stdout.trim(), published: [] });
    expect(Math.abs(host.clockSeconds - Date.now() / 1000)).toBeLessThan(60);
    expect(host.seen.get('localhost')).toContain('127.0.0.1');
    expect([...host.seen.keys()]).toEqual(['localhost']);
  });
});

const answer = (sections: Readonly<Record<string, string>>): string =>
  Object.entries(sections)
    .map(([name, text]) => `${TOKEN} begin ${name}\n${text}\n${TOKEN} end ${name} 0\n\n${TOKEN} close ${name}\n`)
    .join('');

test('what root sees', () => {
  const lineage = parseLineage(
    answer({
      names: 'a.example\nshop.example\n',
      crons: 'cron /etc/cron.d/mine\n',
      settings: 'server = https://ca/dir\nwebroot_path = /var/www/acme,\nauthenticator = webroot\n',
      lineage: LEAF + INTERMEDIATE,
      owner: 'slipway\n',
      authorities: 'https://ca/dir\n',
      accounts: 'https://ca/acct/1\nhttps://other/acct/7\n',
    }),
    TOKEN,
  );
  expect(lineage).toMatchObject({
    names: ['a.example', 'shop.example'],
    crons: ['/etc/cron.d/mine'],
    isForeign: false,
    authorities: ['https://ca/dir'],
    accounts: ['https://ca/acct/1', 'https://other/acct/7'],
  });
  expect(lineage.chain).toHaveLength(2);
  expect(Object.fromEntries(lineage.settings)).toEqual({
    server: 'https://ca/dir',
    webroot_path: '/var/www/acme',
    authenticator: 'webroot',
  });
});

test('an answer that is cut off is none', () => {
  const whole = answer({
    names: '',
    crons: '',
    settings: '',
    owner: 'other',
    authorities: '',
    accounts: '',
    lineage: '',
  });
  expect(parseLineage(whole, TOKEN)).toMatchObject({ chain: [], isForeign: true });
  expect(() => parseLineage(whole.slice(0, -30), TOKEN)).toThrow(SyntaxError);
  expect(() => parseLineage(answer({ names: '' }), TOKEN)).toThrow('there is no answer to "settings"');
});

test('certbot’s version', () => {
  expect(parseVersion('certbot 2.1.0')).toEqual({ major: 2, minor: 1 });
  expect(parseVersion('')).toBeUndefined();
  const version = { major: 4, minor: 0 };
  expect([isAtLeast(version, 4, 0), isAtLeast(version, 4, 1), isAtLeast(version, 3, 9)]).toEqual([true, false, true]);
});
