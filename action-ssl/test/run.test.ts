import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { parse } from 'yaml';
import { RequestError } from '#shared/errors';
import type { CertificatePorts, Dns, ReadServedChain } from '#shared/ports';
import { parseChain } from '#shared/tls/certificate';
import { FakeClock } from '../../shared/test/fakes/clock';
import { FakeReporter } from '../../shared/test/fakes/reporter';
import { INTERMEDIATE, LEAF } from '../../shared/test/tls/sample-certificates';
import { decideRenewal } from '../src/plan';
import { judgeLife, listUnread, run } from '../src/run';

const action = parse(readFileSync(join(import.meta.dirname, '..', 'action.yml'), 'utf8')) as {
  readonly inputs: Readonly<Record<string, { readonly default?: string }>>;
};

const dns: Dns = {
  addresses: (_, family) =>
    Promise.resolve({ kind: 'records', records: [family === 4 ? '203.0.113.7' : '2001:db8::7'] }),
  caa: () => Promise.resolve({ kind: 'none' }),
};

/** `check` without `host`, as in the README. */
async function checkFromOutside(
  readServedChain: ReadServedChain,
  inputs: Readonly<Record<string, string>> = {},
  now = '2026-12-01T12:00:00Z',
  asked = dns,
) {
  const outputs: Record<string, string> = {};
  const reporter = new FakeReporter();
  const all: Readonly<Record<string, string>> = { mode: 'check', domains: 'shop.example', ...inputs };
  const ports = {
    runner: {
      input: (name: string) => (all[name] ?? action.inputs[name]?.default ?? '').trim(),
      setOutput: (name: string, value: string) => void (outputs[name] = value),
    },
    reporter,
    clock: new FakeClock(now),
    signal: new AbortController().signal,
    openDns: () => asked,
    readServedChain,
  } as unknown as CertificatePorts;
  const error = await run(ports).then(
    () => '',
    (thrown: unknown) => (thrown as Error).message,
  );
  return { error, outputs, shown: reporter.shown };
}

test('check from a runner without IPv6: what it cannot look at is a warning', async () => {
  const { error, outputs, shown } = await checkFromOutside(({ host }) =>
    host.includes(':')
      ? Promise.reject(new RequestError('unreachable', `[${host}]:443 cannot be reached from here`, ''))
      : Promise.resolve({ certificates: [LEAF, INTERMEDIATE], refusal: '' }),
  );
  expect(error).toBe('');
  expect(outputs).toMatchObject({ result: 'checked', served: 'true' });
  expect(shown).toContainEqual(expect.stringMatching(/^warning .*2001:db8::7 was not looked at/));
});

test('check of what is over, or not valid yet, fails whatever minimum-life is', async () => {
  const read =
    (refusal: string): ReadServedChain =>
    () =>
      Promise.resolve({ certificates: [LEAF, INTERMEDIATE], refusal });
  const all = { 'minimum-life': '0%' };
  expect((await checkFromOutside(read(''), all)).error).toBe('');
  const over = await checkFromOutside(read('CERT_HAS_EXPIRED'), all, '2027-03-01T00:00:00Z');
  expect(over.error).toContain('shop.example at 203.0.113.7: the certificate is over since 2027-02-21T20:04:22.000Z.');
  expect(over.outputs).toMatchObject({ result: 'failed', served: 'false' });
  const early = await checkFromOutside(read('CERT_NOT_YET_VALID'), all, '2026-11-01T00:00:00Z');
  expect(early.error).toContain('is not valid before 2026-11-23T20:04:22.000Z.');
});

test('a certificate on the server that nobody serves is judged, too', () => {
  const [certificate] = parseChain(LEAF);
  const judge = (now: string): string[] => judgeLife({ certificate, served: [], renewal: undefined }, 0, new Date(now));
  expect(judge('2027-02-21T00:00:00Z')).toEqual([]);
  expect(judge('2027-03-01T00:00:00Z')).toEqual([
    'The certificate for shop.example, www.shop.example is over since 2027-02-21T20:04:22.000Z.',
  ]);
});

test('a renewal that the authority asked for, and that was not done in its time', () => {
  const [certificate] = parseChain(LEAF);
  const [from, to] = [new Date('2026-11-24T00:00:00Z'), new Date('2026-11-26T00:00:00Z')];
  const renewal = certificate && decideRenewal(certificate, { from, to });
  const judge = (now: string, asked = renewal): string[] =>
    judgeLife({ certificate, served: [], renewal: asked }, 0.2, new Date(now));
  // In its window there is time for the server to do it.
  expect(judge('2026-11-25T00:00:00Z')).toEqual([]);
  expect(judge('2026-11-26T00:00:01Z')).toEqual([
    expect.stringMatching(/renewal by 2026-11-26T00:00:00.000Z, .*`mode: obtain`/),
  ]);
  // Where the authority says nothing, minimum-life judges.
  expect(judge('2027-01-25T00:00:00Z', certificate && decideRenewal(certificate, undefined))).toEqual([]);
});

test('DNS that gives no answer is not a name without addresses', async () => {
  const read: ReadServedChain = () => Promise.reject(new Error('nobody is asked'));
  const answering = (kind: 'none' | 'failed'): Dns => ({
    ...dns,
    addresses: () => Promise.resolve(kind === 'none' ? { kind } : { kind, reason: 'no answer from the DNS server' }),
  });
  const said = async (kind: 'none' | 'failed') => (await checkFromOutside(read, {}, undefined, answering(kind))).error;
  expect(await said('none')).toContain('- shop.example has no address in DNS.');
  expect(await said('failed')).toContain('- DNS gives no answer about shop.example: no answer from the DNS server.');
});

test('where there was no nginx to be reloaded, a proof that fails says so', () => {
  const line =
    'no container of shop/web runs (docker compose ls shows the projects): it reads the certificate when it starts';
  expect(
    listUnread(`Successfully received certificate.\n ${line}\n${line}\nshop.example: v-1 is what nginx reads\n`),
  ).toEqual([`${line}.`]);
  expect(listUnread('nginx: configuration file /etc/nginx/nginx.conf test is successful\n')).toEqual([]);
});
