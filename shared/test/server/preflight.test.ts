import fc from 'fast-check';
import { parseProject, type Service } from '../../src/compose/project';
import type { PortOwner, ServerFacts } from '../../src/server/facts';
import { compareVersions, judgePorts, judgeServer, judgeSharedPorts } from '../../src/server/preflight';

const ready: ServerFacts['docker'] = {
  kind: 'ready',
  version: '26.1',
  composeVersion: '2.26.1',
  architecture: 'x86_64',
  dataRoot: '/var/lib/docker',
  info: {},
};

function facts(over: Partial<ServerFacts> = {}): ServerFacts {
  return {
    user: 'deploy',
    groups: ['deploy', 'docker'],
    home: '/home/deploy',
    path: '/home/deploy/apps/shop',
    folder: 'directory',
    notWritable: '',
    storeProblem: '',
    overrides: [],
    missingTools: [],
    docker: ready,
    containers: [],
    publishedPorts: [],
    networks: [],
    volumes: [],
    images: [],
    listeningPorts: [],
    space: undefined,
    dataRootSpace: undefined,
    releases: [],
    current: undefined,
    currentCompose: '',
    storedFiles: [],
    pulling: [],
    journal: '',
    isRestoring: false,
    routers: new Map(),
    ...over,
  };
}

const findings = (over: Partial<ServerFacts>): string[] =>
  judgeServer(facts(over)).map(({ message, hint }) => `${message} ${hint}`);

test('a server that is ready', () => {
  expect(findings({})).toEqual([]);
  expect(findings({ folder: 'missing' })).toEqual([]);
});

test.each<[string, Partial<ServerFacts>, string]>([
  [
    'docker is missing',
    { docker: { kind: 'missing' } },
    'Docker is not installed: there is no program `docker` in the PATH of the login. Install Docker Engine with the Compose plugin: https://docs.docker.com/engine/install/',
  ],
  [
    'not in the group',
    { docker: { kind: 'unreachable', problem: 'permission denied while trying' }, groups: ['deploy', 'adm'] },
    'The user deploy may not use Docker: it is not in the group docker (its groups: deploy, adm). On the server, as root: usermod -aG docker deploy',
  ],
  [
    'in the group, and refused',
    { docker: { kind: 'unreachable', problem: 'Permission denied' } },
    'The user deploy may not use Docker. It is in the group docker, but the socket refuses it: look at `ls -l /var/run/docker.sock` and `docker context ls`.',
  ],
  [
    'the daemon is down',
    { docker: { kind: 'unreachable', problem: 'Cannot connect to the Docker daemon.' } },
    'Docker does not answer: Cannot connect to the Docker daemon. On the server: systemctl status docker; journalctl -u docker -n 50',
  ],
  [
    'the daemon says nothing',
    { docker: { kind: 'unreachable', problem: '' } },
    'Docker does not answer: it gives no reason. On the server: systemctl status docker; journalctl -u docker -n 50',
  ],
  [
    'no Compose',
    { docker: { ...ready, composeVersion: '' } },
    'Docker has no Compose plugin (`docker compose`); the old `docker-compose` is not enough. Install it: https://docs.docker.com/compose/install/linux/',
  ],
  [
    'an old Compose',
    { docker: { ...ready, composeVersion: '2.17.3' } },
    'Docker Compose is 2.17.3; Slipway needs 2.20.0 or newer. Update the Compose plugin: https://docs.docker.com/compose/install/linux/',
  ],
  [
    'missing tools',
    { missingTools: ['flock', 'timeout'] },
    'These programs are missing on the server: flock, timeout. They are in coreutils, tar and util-linux (or busybox).',
  ],
  [
    'a file in the way',
    { folder: 'other' },
    'The path /home/deploy/apps/shop is there and is not a folder. Choose another one with the input path.',
  ],
  [
    'a folder of somebody else',
    { notWritable: '/srv', path: '/srv/shop', folder: 'missing' },
    "The user deploy may not write to /srv, so /srv/shop cannot be used. On the server, as root: install -d -o deploy /srv/shop (or set the input path to a folder of deploy's own).",
  ],
  [
    'a store of somebody else',
    { storeProblem: 'drwx------ root' },
    'The release store belongs to somebody else: drwx------ root. Deploy as its owner, or give it to deploy with chown -R.',
  ],
])('%s', (_name, over, expected) => {
  expect(findings(over)).toEqual([expected]);
});

test('all at once', () => {
  expect(findings({ docker: { kind: 'missing' }, missingTools: ['tar'], notWritable: '/' })).toHaveLength(3);
});

test.each([
  ['2.26.1', '2.26.1', 0],
  ['2.26.1-4', '2.26.1', 0],
  ['2.9.0', '2.20.0', -1],
  ['2.40.3', '2.20.0', 1],
  ['2.20', '2.20.0', 0],
  ['2.20.0.1', '2.20', 1],
  ['5.0.0-rc.1', '2.20.0', 1],
  ['', '2.20.0', -1],
  ['dev', '0', 0],
])('compareVersions(%j, %j) is %d', (a, b, expected) => {
  expect(compareVersions(a, b)).toBe(expected);
});

test('compareVersions is an order (property)', () => {
  const version = fc.array(fc.nat(30), { minLength: 1, maxLength: 4 }).map((numbers) => numbers.join('.'));
  fc.assert(
    fc.property(version, version, version, (a, b, c) => {
      expect(compareVersions(a, b) + compareVersions(b, a)).toBe(0);
      if (compareVersions(a, b) <= 0 && compareVersions(b, c) <= 0)
        expect(compareVersions(a, c)).toBeLessThanOrEqual(0);
    }),
  );
});

describe('judgePorts', () => {
  const services = (...ports: object[]): readonly Service[] =>
    parseProject(JSON.stringify({ services: { web: { image: 'w', ports } } })).services;
  const wanted = (published: string, host_ip = '', protocol = 'tcp'): object => ({
    target: 80,
    published,
    protocol,
    ...(host_ip === '' ? {} : { host_ip }),
  });
  const owner = (port: number, over: Partial<PortOwner> = {}): PortOwner => ({
    port,
    address: '0.0.0.0',
    protocol: 'tcp',
    container: 'blog-web-1',
    project: 'blog',
    ...over,
  });
  const judge = (ports: readonly object[], over: Partial<ServerFacts>): string[] =>
    judgePorts(services(...ports), facts(over), 'shop').map(({ message }) => message);

  test('free, or its own', () => {
    expect(judge([wanted('8080')], {})).toEqual([]);
    expect(
      judge([wanted('8080')], {
        publishedPorts: [owner(8080, { project: 'shop' })],
        listeningPorts: [{ address: '0.0.0.0', port: 8080 }],
      }),
    ).toEqual([]);
  });

  test('taken by another container, with and without a project', () => {
    expect(
      judge([wanted('8080'), wanted('53', '', 'udp')], {
        publishedPorts: [owner(8080), owner(53, { project: '', protocol: 'udp', container: 'dns' })],
      }),
    ).toEqual([
      'Service web publishes port 8080/tcp, which container blog-web-1 of project blog has.',
      'Service web publishes port 53/udp, which container dns has.',
    ]);
  });

  test('taken by another container besides its own', () => {
    expect(
      judge([wanted('8080')], {
        publishedPorts: [owner(8080, { project: 'shop', address: '127.0.0.1' }), owner(8080, { address: '10.0.0.1' })],
      }),
    ).toEqual(['Service web publishes port 8080/tcp, which container blog-web-1 of project blog has.']);
  });

  test.each([
    ['0.0.0.0', '', true],
    ['::', '', true],
    ['127.0.0.1', '', true],
    ['0.0.0.0', '127.0.0.1', true],
    ['127.0.0.1', '127.0.0.1', true],
    ['127.0.0.53', '10.0.0.5', false],
    ['127.0.0.1', '10.0.0.5', false],
  ])('a program that listens on %s is in the way of one published on %j: %p', (address, published, inTheWay) => {
    expect(judge([wanted('5432', published)], { listeningPorts: [{ address, port: 5432 }] })).toEqual(
      inTheWay ? ['Service web publishes port 5432/tcp, on which another program of the server listens.'] : [],
    );
    expect(judge([wanted('5432', published)], { publishedPorts: [owner(5432, { address })] })).toHaveLength(
      inTheWay ? 1 : 0,
    );
  });

  test('another protocol is another port', () => {
    expect(
      judge([wanted('53', '', 'udp')], {
        publishedPorts: [owner(53)],
        listeningPorts: [{ address: '0.0.0.0', port: 53 }],
      }),
    ).toEqual([]);
  });
});

describe('ports that the project gives away twice', () => {
  const judge = (services: object): string[] =>
    judgeSharedPorts(parseProject(JSON.stringify({ services })).services).map(({ message }) => message);
  const port = (published: string, over: object = {}): object => ({ target: 80, published, protocol: 'tcp', ...over });

  test('by two services', () => {
    expect(judge({ a: { ports: [port('80')] }, b: { ports: [port('80')] } })).toEqual([
      'Services a and b both publish port 80/tcp of the server.',
    ]);
    expect(judge({ a: { ports: [port('80', { host_ip: '127.0.0.1' })] }, b: { ports: [port('80')] } })).toHaveLength(1);
  });

  test('not where the port, the protocol or the address is another', () => {
    expect(judge({ a: { ports: [port('80')] }, b: { ports: [port('81')] } })).toEqual([]);
    expect(judge({ a: { ports: [port('53')] }, b: { ports: [port('53', { protocol: 'udp' })] } })).toEqual([]);
    expect(
      judge({
        a: { ports: [port('80', { host_ip: '127.0.0.1' })] },
        b: { ports: [port('80', { host_ip: '10.0.0.1' })] },
      }),
    ).toEqual([]);
  });

  test('by several replicas of one', () => {
    expect(judge({ web: { deploy: { replicas: 3 }, ports: [port('443')] } })).toEqual([
      'Service web has 3 replicas and publishes the fixed port 443/tcp, which only one of them can have.',
    ]);
    expect(judge({ web: { deploy: { replicas: 1 }, ports: [port('443')] } })).toEqual([]);
    expect(judge({ web: { deploy: { replicas: 3 }, ports: [{ target: 80, protocol: 'tcp' }] } })).toEqual([]);
  });
});
