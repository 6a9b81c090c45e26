import { expect, test } from '@jest/globals';
import { RequestError } from '../../src/errors';
import type { Dial, ReadServedChain } from '../../src/ports';
import { parseChain } from '../../src/tls/certificate';
import { judgeServed, lookAtServed, setUnseenApart, waitForServed } from '../../src/tls/served';
import { FakeClock } from '../fakes/clock';
import { INTERMEDIATE, LEAF, ROOT, SHORT_LIVED } from './sample-certificates';

const [leaf] = parseChain(LEAF);
const asked = (name: string, ...aaaa: string[]) => ({
  name,
  a: { kind: 'records', records: ['203.0.113.7'] } as const,
  aaaa: { kind: 'records', records: aaaa } as const,
});
const dial = () => Promise.reject(new Error('nobody dials here'));
const look = (readServedChain: ReadServedChain, roots = [ROOT]) => ({
  readServedChain,
  roots,
  signal: new AbortController().signal,
  dial,
  now: new Date('2026-11-25T12:00:00Z'),
});

test('the certificate that is on the disk, on every address: also where only the server has a way', async () => {
  const seen: string[] = [];
  const options = look(({ host, dial: via }) => {
    seen.push(`${host} ${via === undefined ? 'runner' : 'server'}`);
    if (host.includes(':') && via === undefined) return Promise.reject(new RequestError('unreachable', 'no route', ''));
    return Promise.resolve([LEAF, INTERMEDIATE]);
  });
  const served = await lookAtServed([asked('shop.example', '2001:db8::7')], options);
  expect(seen).toEqual(['203.0.113.7 runner', '2001:db8::7 runner', '2001:db8::7 server']);
  expect(served.map((one) => one.from)).toEqual(['runner', 'server']);
  expect(judgeServed(served, leaf, { mustBeTrusted: true })).toEqual([]);
});

test('an IPv6 address without a way to it is no fault of the site, as long as another address of the name was seen', async () => {
  const judge = async (failing: (host: string) => RequestError | undefined, via?: Dial) => {
    const read: ReadServedChain = ({ host }) => {
      const failure = failing(host);
      return failure === undefined ? Promise.resolve([LEAF, INTERMEDIATE]) : Promise.reject(failure);
    };
    const all = await lookAtServed([asked('shop.example', '2001:db8::7')], { ...look(read), dial: via });
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
  const judge = async (name: string, chain: readonly string[] | Error, roots = [ROOT]): Promise<string[]> => {
    const read: ReadServedChain = () => (chain instanceof Error ? Promise.reject(chain) : Promise.resolve(chain));
    return judgeServed(await lookAtServed([asked(name)], look(read, roots)), leaf, { mustBeTrusted: true });
  };
  expect(await judge('shop.example', [SHORT_LIVED, INTERMEDIATE])).toEqual([
    expect.stringContaining('shop.example at 203.0.113.7 serves another certificate than the one on the server'),
  ]);
  expect(await judge('api.example', [LEAF, INTERMEDIATE])).toEqual([
    expect.stringContaining('for other names: shop.example, www.shop.example'),
  ]);
  expect(await judge('shop.example', [LEAF])).toEqual([
    expect.stringContaining('intermediate certificate (Test Authority T1) is missing'),
  ]);
  expect(await judge('shop.example', [LEAF, INTERMEDIATE], [])).toEqual([
    expect.stringContaining('which nobody trusts'),
  ]);
  expect(await judge('shop.example', new RequestError('refused', '203.0.113.7:443 refused', ''))).toEqual([
    'shop.example at 203.0.113.7: 203.0.113.7:443 refused.',
  ]);
});

test('nginx gets a moment to reload, and no more', async () => {
  const clock = new FakeClock();
  let looks = 0;
  const options = look(() => Promise.resolve([++looks < 4 ? SHORT_LIVED : LEAF, INTERMEDIATE]));
  const served = await waitForServed([asked('shop.example')], leaf?.fingerprint ?? '', options, clock);
  expect(judgeServed(served, leaf, { mustBeTrusted: true })).toEqual([]);
  expect(looks).toBe(4);
  await waitForServed([asked('shop.example')], 'never', options, clock);
  expect(clock.monotonicMs()).toBeLessThan(12_000);
});
