/** The post step: when the main step could not see the end itself (killed, or its connection was lost). */
import { ReleaseError } from '#shared/errors';
import type { Ports } from '#shared/ports';
import { RECORD_STATE } from '#shared/reporters/deployment-record';
import { endDeploymentRecord } from './record';
import { readRequest } from './request';
import { settle } from './settle';

/** Asks the server what became of a deploy that did not settle. Nothing to do after one that did. */
export async function cleanUp(ports: Ports): Promise<void> {
  const { runner, reporter } = ports;
  const release = runner.state('release');
  const settled = runner.state('settled');
  if (release === '' || (settled !== '' && runner.state(RECORD_STATE) !== 'open')) return;
  const { inputs, source } = await readRequest(ports);
  const endRecord = (result: 'deployed' | 'reverted' | 'failed', current = ''): Promise<void> =>
    endDeploymentRecord(result, current, inputs, source.project, ports);
  if (settled !== '') return endRecord(settled === 'committed' ? 'deployed' : 'reverted');
  reporter.line(`The deploy of ${release} was interrupted; looking at the server.`);
  try {
    const { kind, current, text, isReady } = await settle(release, inputs, source, ports);
    reporter.notice('Slipway', text);
    await reporter.summary(`### After the interruption\n\n${text}\n`);
    if (!isReady) throw new ReleaseError(text, 'Look at the server now.');
    await endRecord(kind === 'committed' ? 'deployed' : 'reverted', current);
  } catch (error) {
    await endRecord('failed');
    throw error;
  }
}
