import fc from 'fast-check';
import { RequestError } from '../../src/errors';
import type { Http, HttpRequest, HttpResponse } from '../../src/ports';
import { parseChecks } from '../../src/probes/check';
import type { HttpCheck } from '../../src/probes/check-model';
import { attemptHttp, judgeHttp, judgeRedirect, matchesText } from '../../src/probes/http';
import { FakeClock } from '../fakes/clock';
import cases from './cases/http-verdicts.json' with { type: 'json' };

const NOW = new Date('2026-11-22T12:00:00Z');

function readCheck(options: string, url = 'https://app.test/health'): HttpCheck {
  const { checks, problems } = parseChecks(`${url} ${options}`, {
    input: 'checks',
    attempts: 1,
    intervalSeconds: 1,
    timeoutSeconds: 5,
  });
  const [check] = checks;
  if (check?.kind !== 'http') throw new Error(JSON.stringify(problems));
  return check;
}

function respond(more: Partial<HttpResponse> = {}): HttpResponse {
  return { status: 200, headers: {}, body: '', truncated: false, latencyMs: 12, certificate: undefined, ...more };
}

interface Case {
  title: string;
  check: string;
  status?: number;
  type?: string;
  headers?: Record<string, string>;
  body?: string;
  truncated?: boolean;
  certificateDays?: number;
  ok: boolean;
  reason: string;
  detail?: string;
}

describe('judgeHttp', () => {
  test.each(cases as Case[])('$title', (one) => {
    const validTo = new Date(NOW.getTime() + (one.certificateDays ?? 0) * 86_400_000);
    const response = respond({
      status: one.status ?? 200,
      headers: { ...one.headers, ...(one.type === undefined ? {} : { 'content-type': one.type }) },
      body: one.body ?? '',
      truncated: one.truncated ?? false,
      certificate:
        one.certificateDays === undefined
          ? undefined
          : { validFrom: NOW, validTo, names: ['app.test'], issuer: 'Example CA', fingerprint256: 'AB' },
    });
    const verdict = judgeHttp(readCheck(one.check), response, NOW);
    expect({ ok: verdict.ok, reason: verdict.reason }).toEqual({ ok: one.ok, reason: one.reason });
    if (one.detail !== undefined) expect(verdict.detail).toBe(one.detail);
  });

  test('whatever comes back, there is a verdict in one line', () => {
    const check = readCheck('json.a[0].b:1 header.x:y* release-id:v1 min-days:1');
    const plain = readCheck('');
    const responses = fc.record({
      status: fc.integer({ min: 100, max: 599 }),
      headers: fc.dictionary(
        fc.constantFrom('content-type', 'x', 'location', '__proto__', 'x-release'),
        fc.oneof(fc.string({ unit: 'binary' }), fc.constant('application/json')),
      ),
      body: fc.oneof(
        fc.json(),
        fc.string({ unit: 'binary' }),
        fc.constantFrom('ok', 'fail', '{"status":{}}', '{"status":"fail","checks":[null,{"name":7,"status":"fail"}]}'),
      ),
      truncated: fc.boolean(),
      latencyMs: fc.double({ min: 0, max: 1e6, noNaN: true }),
    });
    fc.assert(
      fc.property(responses, (response) => {
        for (const one of [check, plain]) {
          const verdict = judgeHttp(one, respond(response), NOW);
          expect(verdict.reason).not.toBe('');
          expect(verdict.reason + verdict.detail).not.toMatch(/[\u0000-\u001f\u007f\u202e]/);
          expect(verdict.detail.length).toBeLessThanOrEqual(501);
        }
      }),
      { numRuns: 2000 },
    );
  });
});

describe('judgeRedirect', () => {
  const follow = (
    options: string,
    location: string,
    hop = 0,
    from = 'https://app.test/health',
    status = 302,
  ): unknown => judgeRedirect(readCheck(options), from, respond({ status, headers: { location } }), hop);

  test('the same host is followed, whatever the port', () => {
    expect(follow('', '/login#top')).toBe('https://app.test/login');
    expect(follow('', 'https://APP.test:8443/x')).toBe('https://app.test:8443/x');
    expect(follow('', 'x?y=1')).toBe('https://app.test/x?y=1');
  });

  test('another host is not, unless allowed', () => {
    expect(follow('', 'https://evil.test/')).toMatchObject({
      ok: false,
      reason: 'status 302 redirects to another host, evil.test; if that is right, say `allow-redirect-host: evil.test`',
    });
    expect(follow('', '//evil.test/')).toMatchObject({ ok: false });
    expect(follow('', 'https://app.test@evil.test/')).toMatchObject({ ok: false });
    expect(follow('allow-redirect-host:Evil.test', 'https://evil.test/')).toBe('https://evil.test/');
  });

  test('never from https to http, and never to anything else', () => {
    expect(follow('', 'http://app.test/')).toMatchObject({
      ok: false,
      reason: 'status 302 redirects from https to plain http',
    });
    expect(follow('', 'file:///etc/passwd')).toMatchObject({ ok: false });
    expect(follow('', 'https://[')).toMatchObject({ ok: false });
  });

  test('ends at the limit, and where a redirect is what is expected', () => {
    expect(follow('', '/x', 5)).toMatchObject({
      ok: false,
      reason: '6 redirects, more than 5: the last one leads to /x',
    });
    expect(follow('max-redirects:0', '/x', 0)).toMatchObject({ ok: false });
    expect(follow('302', '/x')).toBeUndefined();
    expect(follow('', '/x', 0, undefined, 304)).toBeUndefined();
    expect(judgeRedirect(readCheck(''), 'https://app.test/', respond({ status: 302 }), 0)).toBeUndefined();
  });
});

describe('attemptHttp', () => {
  /** Answers each request in turn, each after a second. */
  function script(clock: FakeClock, ...responses: HttpResponse[]): { http: Http; asked: HttpRequest[] } {
    const asked: HttpRequest[] = [];
    const request = (one: HttpRequest): Promise<HttpResponse> => {
      asked.push(one);
      clock.advance(1);
      return Promise.resolve(responses[asked.length - 1] ?? respond());
    };
    return { http: { request, reach: () => Promise.reject(new Error('not asked for')) }, asked };
  }

  test('connect-to keeps to its host and port, headers to their host, and the time-out shrinks', async () => {
    const clock = new FakeClock();
    const { http, asked } = script(
      clock,
      respond({ status: 301, headers: { location: 'https://app.test/' } }),
      respond({ status: 302, headers: { location: 'https://www.app.test/' } }),
    );
    const check = readCheck(
      'connect-to:203.0.113.7:8080 headers.authorization:abc allow-redirect-host:www.app.test',
      'http://app.test/',
    );
    const verdict = await attemptHttp(check, 5, { http, clock });
    expect(
      asked.map(({ url, connectTo, headers, timeoutSeconds }) => [
        url,
        connectTo,
        Object.keys(headers ?? {}),
        timeoutSeconds,
      ]),
    ).toEqual([
      ['http://app.test/', { host: '203.0.113.7', port: 8080 }, ['authorization'], 5],
      ['https://app.test/', { host: '203.0.113.7', port: 443 }, ['authorization'], 4],
      ['https://www.app.test/', undefined, [], 3],
    ]);
    expect(verdict).toMatchObject({ ok: true, reason: 'status 200 in 3000 ms' });
  });

  test('redirects do not outlast the attempt', async () => {
    const clock = new FakeClock();
    const { http } = script(
      clock,
      ...Array.from({ length: 9 }, () => respond({ status: 302, headers: { location: '/x' } })),
    );
    await expect(attemptHttp(readCheck('max-redirects:20'), 2, { http, clock })).rejects.toBeInstanceOf(RequestError);
  });
});

describe('matchesText', () => {
  test.each([
    ['abc', 'abc', true],
    ['abc', 'abcd', false],
    ['*', '', true],
    ['a*', 'abc', true],
    ['*c', 'abc', true],
    ['a*c', 'ac', true],
    ['a*c', 'a', false],
    ['ab*bc', 'abc', false],
    ['a*b*c', 'a-b-b-c', true],
    ['a*b*c', 'a-c-b', false],
    ['.*', 'x', false],
  ])('%s and %s', (pattern, text, expected) => {
    expect(matchesText(pattern, text)).toBe(expected);
  });

  test('agrees with a regular expression', () => {
    const words = fc.string({ unit: fc.constantFrom('a', 'b', '*'), maxLength: 8 });
    const texts = fc.string({ unit: fc.constantFrom('a', 'b'), maxLength: 10 });
    fc.assert(
      fc.property(words, texts, (pattern, text) => {
        expect(matchesText(pattern, text)).toBe(new RegExp(`^${pattern.replaceAll(/\*+/g, '.*')}$`, 's').test(text));
      }),
      { numRuns: 2000 },
    );
  });
});
