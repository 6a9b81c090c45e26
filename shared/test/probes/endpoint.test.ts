import { parseChecks } from '../../src/probes/check';
import { attemptEndpoint, judgeEndpoint } from '../../src/probes/endpoint';
import type { ReachRequest } from '../../src/ports';
import { FakeClock } from '../fakes/clock';

const NOW = new Date('2026-11-22T12:00:00Z');

function read(line: string): Parameters<typeof judgeEndpoint>[0] {
  const [check] = parseChecks(line, { input: 'checks', attempts: 1, intervalSeconds: 1, timeoutSeconds: 5 }).checks;
  if (check?.kind !== 'tcp' && check?.kind !== 'tls') throw new Error('neither tcp nor tls');
  return check;
}

const certificate = (days: number): NonNullable<Parameters<typeof judgeEndpoint>[1]['certificate']> => ({
  validFrom: NOW,
  validTo: new Date(NOW.getTime() + days * 86_400_000),
  names: [],
  issuer: 'Example CA',
  fingerprint256: '',
});

test.each<[string, number, boolean, string]>([
  ['tcp://db:5432', 1, true, 'connected in 8 ms'],
  ['tls://a.test', 1.5, true, 'connected in 8 ms, the certificate is valid until 2026-11-24 (1 day)'],
  ['tls://a.test', -1, false, 'the certificate is valid until 2026-11-21 (-1 day), less than 0 days'],
  ['tls://a.test min-days:14', 30, true, 'connected in 8 ms, the certificate is valid until 2026-12-22 (30 days)'],
  ['tls://a.test min-days:31', 30, false, 'the certificate is valid until 2026-12-22 (30 days), less than 31 days'],
])('%s, %d days left', (line, days, ok, reason) => {
  const verdict = judgeEndpoint(read(line), { latencyMs: 8.4, certificate: certificate(days) }, NOW);
  expect(verdict).toMatchObject({ ok, reason });
});

test('asks for the name that the certificate must be for', async () => {
  const asked: ReachRequest[] = [];
  const http = {
    request: () => Promise.reject(new Error('not asked for')),
    reach: (one: ReachRequest) => {
      asked.push(one);
      return Promise.resolve({ latencyMs: 1, certificate: undefined });
    },
  };
  await attemptEndpoint(read('tls://127.0.0.1:8443 server-name:app.test'), 3, { http, clock: new FakeClock() });
  await attemptEndpoint(read('tcp://[::1]:25'), 3, { http, clock: new FakeClock() });
  expect(asked).toMatchObject([
    { host: '127.0.0.1', port: 8443, timeoutSeconds: 3, tls: { serverName: 'app.test' } },
    { host: '::1', port: 25 },
  ]);
  expect(asked[1]?.tls).toBeUndefined();
});
