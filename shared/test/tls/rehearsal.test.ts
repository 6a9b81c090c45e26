import { describe, expect, test } from '@jest/globals';
import { RequestError } from '../../src/errors';
import type { Dial, DnsAnswer, Http } from '../../src/ports';
import {
  judgeAddresses,
  judgeClock,
  judgeFetched,
  judgeProfile,
  listAddresses,
  normalizeAddress,
  rehearseCaa,
  rehearsePath,
} from '../../src/tls/rehearsal';

const OWN = ['203.0.113.7', '2001:db8::7'];
const records = (...list: string[]): DnsAnswer<string> => ({ kind: 'records', records: list });
const none: DnsAnswer<string> = { kind: 'none' };
const messages = (a: DnsAnswer<string>, aaaa: DnsAnswer<string>): string[] =>
  judgeAddresses({ name: 'shop.example', a, aaaa }, OWN).map(({ message }) => message);

test('an IPv6 address has one form', () => {
  expect(normalizeAddress('2001:DB8:0:0::0007')).toBe('2001:db8::7');
  expect(normalizeAddress('203.0.113.7')).toBe('203.0.113.7');
  expect(listAddresses({ name: 'x', a: records('203.0.113.7'), aaaa: records('2001:db8:0::7') })).toEqual(OWN);
});

test('every address of a name must be the server', () => {
  expect(messages(records('203.0.113.7'), none)).toEqual([]);
  expect(messages(records('203.0.113.7'), records('2001:db8::0:7'))).toEqual([]);
  expect(messages(records('203.0.113.7', '203.0.113.8'), records('2001:db8::1'))).toEqual([
    'shop.example has the A record 203.0.113.8, and that is not this server (203.0.113.7, 2001:db8::7)',
    'shop.example has the AAAA record 2001:db8::1, and that is not this server (203.0.113.7, 2001:db8::7)',
  ]);
  expect(messages(none, none)).toEqual(['shop.example is unknown to DNS: it has neither an A nor an AAAA record']);
  // That DNS fails is no "none".
  expect(messages(records('203.0.113.7'), { kind: 'failed', reason: 'SERVFAIL' })).toEqual([
    'shop.example: DNS gives no answer about its AAAA records: SERVFAIL',
  ]);
});

describe('what answers on port 80', () => {
  const judge = (status: number, body: string, headers: Record<string, string> = {}): string => {
    const fetched = { kind: 'answer', response: { status, body, headers } } as const;
    return judgeFetched('shop.example', '203.0.113.7', 'the runner', 'token', '/var/www/acme', fetched)?.message ?? '';
  };

  test('is the file that was put there, or it is named', () => {
    expect(judge(200, 'token\n')).toBe('');
    expect(judge(200, '<html>', { server: 'cloudflare' })).toMatch(/answers 200 with something else.*cloudflare/);
    expect(judge(404, '')).toMatch(/answers 404, although a file was put there/);
    expect(judge(301, '', { location: 'https://shop.example/' })).toMatch(/is redirected to https:\/\/shop.example\//);
    expect(judge(502, 'token')).toMatch(/answers 502/);
  });

  test('or nobody', () => {
    const fetched = { kind: 'failed', reason: 'timeout', message: 'no answer' } as const;
    expect(judgeFetched('shop.example', '203.0.113.7', 'the runner', 't', '/var/www/acme', fetched)).toEqual({
      message: 'shop.example: port 80 of 203.0.113.7 cannot be reached from the runner: no answer',
      hint: expect.stringContaining('Open port 80 to everybody'),
    });
  });
});

test('a clock may be a little wrong', () => {
  expect(judgeClock('server', 119)).toBeUndefined();
  expect(judgeClock('server', -121)?.message).toBe('The clock of server is 121 s behind');
  expect(judgeClock('server', 7200)?.message).toBe('The clock of server is 7200 s ahead');
});

test('a profile needs a certbot and an authority that know it', () => {
  const directory = { identities: [], profiles: ['classic', 'shortlived'], renewalInfoUrl: '' };
  const judge = (profile: string, major: number, profiles: string[] | undefined): string[] =>
    judgeProfile(profile, { major, minor: 0 }, { ...directory, profiles }).map((one) => `${one.message}. ${one.hint}`);
  expect(judge('', 2, undefined)).toEqual([]);
  expect(judge('shortlived', 4, ['shortlived'])).toEqual([]);
  expect(judge('shortlived', 2, ['shortlived'])).toEqual([
    expect.stringMatching(/certbot 2\.0 knows no profiles.*snap install/),
  ]);
  expect(judge('fast', 4, ['classic'])).toEqual(['The authority has no profile fast. It has classic.']);
  expect(judge('fast', 4, undefined)).toEqual([expect.stringContaining('It has none at all')]);
  expect(judgeProfile('fast', undefined, undefined)).toEqual([]);
});

test('CAA: the nearest records count, also those of a parent; no answer is no consent', async () => {
  const asked: string[] = [];
  const us = { identities: ['letsencrypt.org'], accounts: [] };
  const dns = (answers: Record<string, DnsAnswer<{ critical: boolean; tag: string; value: string }>>) => ({
    addresses: () => Promise.resolve(none),
    caa: (name: string) => {
      asked.push(name);
      return Promise.resolve(answers[name] ?? ({ kind: 'none' } as const));
    },
  });
  const others = { kind: 'records', records: [{ critical: false, tag: 'issue', value: 'pki.goog' }] } as const;
  const forbidden = await rehearseCaa(dns({ example: others }), 'www.shop.example', us);
  expect(asked).toEqual(['www.shop.example', 'shop.example', 'example']);
  expect(forbidden.findings).toEqual([
    {
      message: 'www.shop.example: the CAA records of example forbid it: they allow only pki.goog',
      hint: expect.stringContaining('example CAA 0 issue "letsencrypt.org"'),
    },
  ]);
  expect(
    (await rehearseCaa(dns({ example: others }), 'shop.example', { ...us, identities: [] })).warnings,
  ).toHaveLength(1);
  const failed = { 'shop.example': { kind: 'failed', reason: 'SERVFAIL' } } as const;
  expect((await rehearseCaa(dns(failed), 'shop.example', us)).findings).toHaveLength(1);
});

test('the server asks where the runner has no way, and only there', async () => {
  const dial: Dial = () => Promise.reject(new Error('not used'));
  const asked: string[] = [];
  const ask = async (address: string, reason: 'unreachable' | 'timeout') => {
    const request: Http['request'] = (question) => {
      asked.push(`${question.connectTo?.host ?? ''} ${question.dial === undefined ? 'runner' : 'server'}`);
      if (question.dial === undefined) return Promise.reject(new RequestError(reason, 'no way', ''));
      return Promise.resolve({
        status: 200,
        headers: {},
        body: 'token',
        truncated: false,
        latencyMs: 1,
        certificate: undefined,
      });
    };
    const http: Http = { request, reach: () => Promise.reject(new Error('not used')) };
    const { signal } = new AbortController();
    return rehearsePath('shop.example', address, 'token', '/var/www/acme', { http, signal, dial });
  };
  expect(await ask('2001:db8::7', 'unreachable')).toEqual({ finding: undefined, from: 'server' });
  expect((await ask('2001:db8::7', 'timeout')).finding?.message).toContain('cannot be reached from the runner');
  expect((await ask('203.0.113.7', 'unreachable')).finding?.message).toContain('cannot be reached from the runner');
  expect(asked).toEqual(['2001:db8::7 runner', '2001:db8::7 server', '2001:db8::7 runner', '203.0.113.7 runner']);
});
