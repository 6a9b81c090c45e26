import { parseProject } from '../../src/compose/project';
import { isStateful } from '../../src/strategies/stateful';

const volume = { type: 'volume', source: 'data', target: '/data' };
const bind = { type: 'bind', source: '/srv/data', target: '/data' };

test.each([
  ['nothing', undefined, false],
  ['a named volume', volume, true],
  ['an anonymous volume', { type: 'volume', target: '/data' }, true],
  ['a volume to read', { ...volume, read_only: true }, false],
  ['a folder of the server', bind, true],
  ['a folder of the server to read', { ...bind, read_only: true }, false],
  ['a shipped file', { ...bind, source: '/srv/shop/.slipway/files/abc/site.conf' }, false],
  ['the Docker socket', { ...bind, source: '/var/run/docker.sock' }, false],
  ['memory', { type: 'tmpfs', target: '/run' }, false],
])('a service that mounts %s', (_name, mount, expected) => {
  const [service] = parseProject(
    JSON.stringify({ services: { web: { volumes: mount === undefined ? [] : [mount] } } }),
  ).services;
  expect(service === undefined ? undefined : isStateful(service)).toBe(expected);
});
