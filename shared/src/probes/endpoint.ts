/** TCP and TLS checks: somebody answers, and with a certificate that holds. */
import type { Reached } from '../ports';
import type { TcpCheck, TlsCheck } from './check-model';
import { type Environment, judgeCertificate } from './http';
import { passed, type Verdict } from './verdict';

/** @throws RequestError, CancelledError */
export async function attemptEndpoint(
  check: TcpCheck | TlsCheck,
  timeoutSeconds: number,
  { http, clock, ...connection }: Environment,
): Promise<Verdict> {
  const { host, port } = check;
  const tls = check.kind === 'tls' ? { tls: { serverName: check.serverName }, ca: check.ca } : {};
  return judgeEndpoint(check, await http.reach({ ...connection, host, port, timeoutSeconds, ...tls }), clock.now());
}

/** Pure. That a certificate holds now, and for this name, the connection itself has verified. */
export function judgeEndpoint(check: TcpCheck | TlsCheck, reached: Reached, now: Date): Verdict {
  const connected = `connected in ${Math.round(reached.latencyMs)} ms`;
  if (check.kind === 'tcp') return passed(connected);
  const certificate = judgeCertificate(reached.certificate, check.minCertificateDays ?? 0, now);
  if (certificate === undefined) return passed(connected);
  return certificate.ok ? passed(`${connected}, ${certificate.reason}`) : certificate;
}
