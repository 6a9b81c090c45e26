import { readProject } from '../../src/compose/project';
import { findDown } from '../../src/engine/execute';
import type { ContainerState } from '../../src/probes/container';

test('what somebody had stopped before is put back as it was: it does not serve again', () => {
  const { services } = readProject({
    services: { web: {}, half: {}, stopped: {}, job: { 'x-slipway': { 'one-shot': true } }, added: {} },
  });
  const one = (service: string, state: string, oneoff = false): ContainerState =>
    ({ service, state, oneoff }) as ContainerState;
  const containers = [
    one('web', 'running'),
    one('half', 'exited'),
    one('half', 'running'),
    one('stopped', 'exited'),
    one('stopped', 'running', true),
    one('job', 'exited'),
    one('leaves', 'exited'),
  ];
  expect(findDown(containers, services)).toEqual(['stopped']);
});
