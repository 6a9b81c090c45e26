import { describe, expect, test } from '@jest/globals';
import { RequestError } from '../../src/errors';
import type { Dial, ReadServedChain, ServedChain } from '../../src/ports';
import { parseChain } from '../../src/tls/certificate';
import { describeFronts, judgeServed, lookAtServed, setUnseenApart, waitForServed } from '../../src/tls/served';
import { FakeClock } from '../fakes/clock';
import { INTERMEDIATE, LEAF, LONGER_LEAF, SHORT_LIVED } from './sample-certificates';

const [leaf] = parseChain(LEAF);
if (leaf === undefined) throw new Error('the sample cannot be read');
const show = (certificates: readonly string[], refusal = ''): ServedChain => ({ certificates, refusal });
const asked = (name: string, ...aaaa: string[]) => ({
  name,
  a: { kind: 'records', records: ['203.0.113.7'] } as const,
  aaaa: { kind: 'records', records: aaaa } as const,
});
const dial = () => Promise.reject(new Error('nobody dials here'));
const look = (readServedChain: ReadServedChain) => ({
  readServedChain,
  ca: undefined,
  server: undefined,
  signal: new AbortController().signal,
  dial,
  now: new Date('2026-11-25T12:00:00Z'),
});

test('the certificate that is on the disk, on every address: also where only the server has a way', async () => {
  const seen: string[] = [];
  const options = look(({ host, dial: via }) => {
    seen.push(`${host} ${via === undefined ? 'runner' : 'server'}`);
    if (host.includes(':') && via === undefined) return Promise.reject(new RequestError('unreachable', 'no route', ''));
    return Promise.resolve(show([LEAF, INTERMEDIATE]));
  });
  const served = await lookAtServed([asked('shop.example', '2001:db8::7')], leaf, options);
  expect(seen).toEqual(['203.0.113.7 runner', '2001:db8::7 runner', '2001:db8::7 server']);
  expect(served.map((one) => one.from)).toEqual(['runner', 'server']);
  expect(judgeServed(served, leaf, { mustBeTrusted: true })).toEqual([]);
});

test('an IPv6 address without a way to it is no fault of the site, as long as another address of the name was seen', async () => {
  const judge = async (failing: (host: string) => RequestError | undefined, via?: Dial) => {
    const read: ReadServedChain = ({ host }) => {
      const failure = failing(host);
      return failure === undefined ? Promise.resolve(show([LEAF, INTERMEDIATE])) : Promise.reject(failure);
    };
    const all = await lookAtServed([asked('shop.example', '2001:db8::7')], leaf, { ...look(read), dial: via });
    const { served, unseen } = setUnseenApart(all);
    return {
      unseen: unseen.map((one) => one.address),
      problems: judgeServed(served, leaf, { mustBeTrusted: true }),
    };
  };
  const noRoute = new RequestError('unreachable', 'no route', '');
  const onV6 = (failure: RequestError) => (host: string) => (host.includes(':') ? failure : undefined);
  expect(await judge(onV6(noRoute))).toEqual({ unseen: ['2001:db8::7'], problems: [] });
  // All else is a problem: no address seen, refused, IPv4, and the server itself without a way.
  expect((await judge(() => noRoute)).problems).toHaveLength(2);
  expect(await judge(onV6(new RequestError('refused', 'refused', '')))).toEqual({
    unseen: [],
    problems: ['shop.example at 2001:db8::7: refused.'],
  });
  expect((await judge((host) => (host.includes(':') ? undefined : noRoute))).problems).toEqual([
    'shop.example at 203.0.113.7: no route.',
  ]);
  expect((await judge(onV6(noRoute), () => Promise.reject(noRoute))).problems).toEqual([
    'shop.example at 2001:db8::7: no route.',
  ]);
});

test('another certificate, other names, no chain, no trust, no answer: each is said', async () => {
  const judge = async (name: string, chain: readonly string[] | Error, refusal = ''): Promise<string[]> => {
    const read: ReadServedChain = () =>
      chain instanceof Error ? Promise.reject(chain) : Promise.resolve(show(chain, refusal));
    return judgeServed(await lookAtServed([asked(name)], leaf, look(read)), leaf, { mustBeTrusted: true });
  };
  expect(await judge('shop.example', [SHORT_LIVED, INTERMEDIATE])).toEqual([
    expect.stringContaining('shop.example at 203.0.113.7 serves another certificate than the one on the server'),
  ]);
  expect(await judge('api.example', [LEAF, INTERMEDIATE])).toEqual([
    expect.stringContaining('for other names: shop.example, www.shop.example'),
  ]);
  expect(await judge('shop.example', [LEAF], 'UNABLE_TO_VERIFY_LEAF_SIGNATURE')).toEqual([
    expect.stringContaining('intermediate certificate (Test Authority T1) is missing'),
  ]);
  expect(await judge('shop.example', [LEAF, INTERMEDIATE], 'UNABLE_TO_GET_ISSUER_CERT_LOCALLY')).toEqual([
    expect.stringContaining('which nobody trusts'),
  ]);
  expect(await judge('shop.example', new RequestError('refused', '203.0.113.7:443 refused', ''))).toEqual([
    'shop.example at 203.0.113.7: 203.0.113.7:443 refused.',
  ]);
});

test('nginx gets a moment to reload, and no more', async () => {
  const clock = new FakeClock();
  let looks = 0;
  const options = look(() => Promise.resolve(show([++looks < 4 ? SHORT_LIVED : LEAF, INTERMEDIATE])));
  const served = await waitForServed([asked('shop.example')], leaf, options, clock);
  expect(judgeServed(served, leaf, { mustBeTrusted: true })).toEqual([]);
  expect(looks).toBe(4);
  // As does a clock that is a little behind.
  let early = 0;
  const waiting = look(() => Promise.resolve(show([LEAF, INTERMEDIATE], ++early < 3 ? 'CERT_NOT_YET_VALID' : '')));
  await waitForServed([asked('shop.example')], leaf, waiting, clock);
  expect(early).toBe(3);
  const from = clock.monotonicMs();
  await waitForServed(
    [asked('shop.example')],
    leaf,
    look(() => Promise.resolve(show([SHORT_LIVED]))),
    clock,
  );
  expect(clock.monotonicMs() - from).toBeLessThan(12_000);
});

describe('something in front of the server that ends TLS itself', () => {
  const [front, own] = ['203.0.113.7', '10.0.0.5'];
  const through = () => Promise.reject(new Error('only handed on'));
  /** @param origin what the server shows to itself on that address; else nothing listens there */
  const at = (atFront: ServedChain, origin: Readonly<Record<string, ServedChain>>, seen: string[] = []) => ({
    ...look(({ host, dial: via }) => {
      seen.push(`${host} ${via === undefined ? 'runner' : 'server'}`);
      const shown = host === front ? atFront : via === undefined ? undefined : origin[host];
      return shown === undefined
        ? Promise.reject(new RequestError('refused', `${host}:443 refused the connection`, ''))
        : Promise.resolve(shown);
    }),
    dial: through,
    server: { own: [own], front: [front] },
  });
  const judge = (served: Awaited<ReturnType<typeof lookAtServed>>): string[] =>
    judgeServed(served, leaf, { mustBeTrusted: true });

  test('is seen and told, and the server is looked at past it', async () => {
    const clock = new FakeClock();
    const seen: string[] = [];
    const options = at(show([LONGER_LEAF, INTERMEDIATE]), { '127.0.0.1': show([LEAF, INTERMEDIATE]) }, seen);
    const served = await waitForServed([asked('shop.example')], leaf, options, clock);
    expect(judge(served)).toEqual([]);
    expect(served.map(({ address, from, isFront }) => [address, from, isFront === true])).toEqual([
      [front, 'runner', true],
      ['127.0.0.1', 'server', false],
    ]);
    expect(describeFronts(served)).toEqual([
      expect.stringMatching(
        /^shop\.example at 203\.0\.113\.7: what stands in front .* from Test Authority T2, until 20/,
      ),
    ]);
    // The one that only hands connections on may have been looked at just before the reload: two looks, and not ten seconds of them.
    expect(seen.filter((one) => one.startsWith(front))).toHaveLength(2);
    expect(clock.monotonicMs()).toBeLessThan(1000);
  });

  test('does not hide what is wrong behind it, nor what is wrong with its own', async () => {
    const stale = at(show([LONGER_LEAF]), { [own]: show([SHORT_LIVED]) });
    expect(judge(await lookAtServed([asked('shop.example')], leaf, stale))).toEqual([
      expect.stringContaining(`shop.example at ${own} serves another certificate than the one on the server`),
    ]);
    const silent = at(show([LONGER_LEAF]), {});
    expect(judge(await lookAtServed([asked('shop.example')], leaf, silent))).toEqual([
      expect.stringContaining(
        'the server itself, past what is in front of it, gives no certificate: 10.0.0.5:443 refused',
      ),
    ]);
    const broken = at(show([LONGER_LEAF], 'CERT_HAS_EXPIRED'), { [own]: show([LEAF]) });
    expect(judge(await lookAtServed([asked('other.example')], leaf, broken))).toEqual([
      expect.stringContaining(`other.example at ${front} serves a certificate for other names`),
      expect.stringContaining(`other.example at ${front}: TLS does not trust its chain`),
      expect.stringContaining(`other.example at ${own} serves a certificate for other names`),
    ]);
  });

  test('is none where it shows the certificate of the server, or is the server', async () => {
    const same = at(show([LEAF, INTERMEDIATE]), {});
    expect(await lookAtServed([asked('shop.example')], leaf, same)).toHaveLength(1);
    const itself = { ...at(show([SHORT_LIVED]), {}), server: { own: [front], front: [] } };
    expect(judge(await lookAtServed([asked('shop.example')], leaf, itself))).toHaveLength(1);
  });
});
