/** The composition root of an action that deals with certificates. */
import { openDns } from './adapters/dns';
import { readServedChain } from './adapters/tls-inspection';
import type { CertificatePorts } from './ports';
import { start } from './start';

/** As `start`, with what certificates need beside. */
export function startCertificates(run: (ports: CertificatePorts) => Promise<void>): Promise<void> {
  return start((ports) => run({ ...ports, openDns, readServedChain }));
}
