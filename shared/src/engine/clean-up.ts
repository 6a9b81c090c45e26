/** The post step: when the main step could not see the end itself (killed, or its connection was lost). */
import { ConnectError, ReleaseError } from '../errors';
import type { Ports } from '../ports';
import { RECORD_STATE } from '../reporters/deployment-record';
import { ANNOTATION_STATE, endAnnotation } from './annotation';
import { endDeploymentRecord } from './record';
import { settle } from './settle';
import type { TransactionRequest } from './transaction';

/**
 * Asks the server what became of a transaction that did not settle. Nothing to do after one that did.
 *
 * @param readRequest asked only where there is something to do.
 */
export async function cleanUp(ports: Ports, readRequest: () => Promise<TransactionRequest>): Promise<void> {
  const { runner, reporter } = ports;
  const release = runner.state('release');
  const settled = runner.state('settled');
  const isTold = runner.state(RECORD_STATE) !== 'open' && runner.state(ANNOTATION_STATE) === '';
  if (release === '' || (settled !== '' && isTold)) return;
  const request = await readRequest();
  const endRecord = async (result: 'deployed' | 'reverted' | 'failed' | 'unknown', current = ''): Promise<void> => {
    await Promise.all([endDeploymentRecord(result, current, request, ports), endAnnotation(result, request, ports)]);
  };
  if (settled !== '') return endRecord(settled === 'committed' ? 'deployed' : 'reverted');
  reporter.line(`The ${request.task} (release ${release}) was interrupted; looking at the server.`);
  try {
    const { kind, current, text, isReady } = await settle(release, request, ports);
    reporter.notice('Slipway', text);
    await reporter.summary(`### After the interruption\n\n${text}\n`);
    if (!isReady) throw new ReleaseError(text, 'Look at the server now.');
    await endRecord(kind === 'committed' ? 'deployed' : 'reverted', current);
  } catch (error) {
    await endRecord(error instanceof ConnectError ? 'unknown' : 'failed');
    throw error;
  }
}
