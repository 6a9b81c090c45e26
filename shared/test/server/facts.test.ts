import { readFileSync } from 'node:fs';
import { parseRelease, parseServerFacts, type ServerFacts } from '../../src/server/facts';

/**
 * Recorded from a Debian 12 server with Docker 26.1 and Compose 2.26: `readServer('TOKEN0123', 'apps/shop', 'shop')`. The
 * empty section `volumes` was added later, when it became a question; the containers are without `Mounts` still.
 */
function readAnswer(name: string): string {
  return readFileSync(new URL(`./answers/docker-${name}.txt`, import.meta.url), 'utf8');
}

const parse = (text: string): ServerFacts => parseServerFacts(text, 'TOKEN0123');

/** The recorded answer with another text as the answer of one section. */
function answer(section: string, stdout: string, exitCode = 0, stderr = ''): string {
  const text = readAnswer('ready');
  const begin = text.indexOf(`TOKEN0123 begin ${section}\n`);
  const close = `TOKEN0123 close ${section}\n`;
  const end = text.indexOf(close) + close.length;
  return `${text.slice(0, begin)}TOKEN0123 begin ${section}\n${stdout}\nTOKEN0123 end ${section} ${exitCode}\n${stderr}\n${close}${text.slice(end)}`;
}

test('a server with a running project', () => {
  const facts = parse(readAnswer('ready'));
  expect(facts).toMatchObject({
    user: 'deploy',
    groups: ['deploy', 'docker'],
    home: '/home/deploy',
    path: '/home/deploy/apps/shop',
    folder: 'directory',
    notWritable: '',
    storeProblem: '',
    overrides: [],
    missingTools: [],
    docker: {
      kind: 'ready',
      version: expect.stringMatching(/^26\.1/) as string,
      composeVersion: '2.26.1-4',
      architecture: 'x86_64',
      dataRoot: '/var/lib/docker',
    },
    networks: ['shop_default'],
    volumes: [],
    releases: [],
    current: undefined,
    currentCompose: '',
    storedFiles: [],
    journal: '',
    isRestoring: false,
  });
  expect(facts.containers.map(({ service, state, image, exitCode }) => ({ service, state, image, exitCode }))).toEqual(
    expect.arrayContaining([
      { service: 'web', state: 'running', image: 'busybox:1', exitCode: 0 },
      { service: 'job', state: 'exited', image: 'busybox:1', exitCode: 0 },
    ]) as unknown,
  );
  expect(
    facts.publishedPorts.map(({ port, address, container, project }) => [port, address, container, project]),
  ).toEqual([
    [8080, '127.0.0.1', 'shop-web-1', 'shop'],
    [9090, '0.0.0.0', 'shop-web-1', 'shop'],
    [9090, '::', 'shop-web-1', 'shop'],
  ]);
  expect(facts.listeningPorts).toEqual(
    expect.arrayContaining([
      { address: '0.0.0.0', port: 22 },
      { address: '127.0.0.1', port: 8080 },
      { address: '0.0.0.0', port: 9090 },
      { address: '::', port: 22 },
    ]) as unknown,
  );
  expect(
    facts.images.some((image) => image.tags.includes('busybox:1') && image.bytes > 0 && image.layerDiffIds.length > 0),
  ).toBe(true);
  expect(facts.space).toMatchObject({ mountPoint: '/' });
  expect(facts.dataRootSpace?.freeBytes).toBeGreaterThan(1e6);
  expect(facts.dataRootSpace?.freeInodes).toBeGreaterThan(1000);
  expect(readAnswer('ready')).not.toContain('hunter2');
});

test.each([
  ['denied', { kind: 'unreachable', problem: expect.stringMatching(/permission denied/) as string }, ['deploy']],
  [
    'down',
    { kind: 'unreachable', problem: expect.stringMatching(/^Cannot connect to the Docker daemon/) as string },
    ['deploy', 'docker'],
  ],
  ['missing', { kind: 'missing' }, ['deploy', 'docker']],
])('docker is %s', (name, docker, groups) => {
  expect(parse(readAnswer(name))).toMatchObject({
    docker,
    groups,
    containers: [],
    networks: [],
    volumes: [],
    images: [],
  });
});

test.each(['ready', 'denied', 'down', 'missing'])('an answer (%s) that is cut off anywhere is an error', (name) => {
  const text = readAnswer(name).trimEnd();
  for (let end = 0; end < text.length; end += 41) expect(() => parse(text.slice(0, end))).toThrow(SyntaxError);
  expect(() => parse(text.slice(0, -1))).toThrow(SyntaxError);
});

test('what docker could not answer is not "nothing"', () => {
  expect(() => parse(answer('containers', '', 1, 'daemon hiccup'))).toThrow(
    "docker could not list the project's containers: daemon hiccup",
  );
  expect(() => parse(answer('containers', '{"Id":'))).toThrow(SyntaxError);
  expect(() => parse(answer('networks', '', 1, 'x'))).toThrow("docker could not list the project's networks: x");
  expect(() => parse(answer('volumes', '', 1, 'x'))).toThrow("docker could not list the project's volumes: x");
});

test('a store that cannot be read is a problem, not an empty store', () => {
  for (const section of ['current', 'releases', 'files', 'rendered', 'journal']) {
    expect(parse(answer(section, '', 1, 'Permission denied')).storeProblem).toBe('Permission denied');
  }
  expect(parse(answer('folder', 'directory\nwritable\nstore-not-writable drwx------ 2 root root')).storeProblem).toBe(
    'drwx------ 2 root root',
  );
});

test.each([
  ['0100007F:1F90', { address: '127.0.0.1', port: 8080 }],
  ['0500000A:0050', { address: '10.0.0.5', port: 80 }],
  ['00000000:0016', { address: '0.0.0.0', port: 22 }],
  ['00000000000000000000000000000000:0016', { address: '::', port: 22 }],
  ['00000000000000000000000001000000:1538', { address: '::1', port: 5432 }],
  ['B80D01200000000067452301EFCDAB89:01BB', { address: '2001:db8::123:4567:89ab:cdef', port: 443 }],
  ['0000000000000000FFFF00000100007F:1F90', { address: '127.0.0.1', port: 8080 }],
])('the socket %s', (line, expected) => {
  expect(parse(answer('listening', `${line}\n${line}`)).listeningPorts).toEqual([expected]);
});

test('lines of /proc that are none are left out', () => {
  expect(parse(answer('listening', 'x\n:\n12:34\n\n')).listeningPorts).toEqual([]);
});

test.each([
  [
    '0.0.0.0:8080->80/tcp, :::8080->80/tcp',
    [
      [8080, '0.0.0.0', 'tcp'],
      [8080, '::', 'tcp'],
    ],
  ],
  ['[::]:53->53/udp', [[53, '::', 'udp']]],
  ['[::1]:53->53/udp', [[53, '::1', 'udp']]],
  [
    '10.0.0.1:8000-8002->8000-8002/tcp',
    [
      [8000, '10.0.0.1', 'tcp'],
      [8001, '10.0.0.1', 'tcp'],
      [8002, '10.0.0.1', 'tcp'],
    ],
  ],
  ['80/tcp, 443/tcp', []],
  ['80/tcp, 0.0.0.0:443->443/tcp', [[443, '0.0.0.0', 'tcp']]],
  ['', []],
])('published: %s', (ports, expected) => {
  const line = JSON.stringify({ Names: 'x', Labels: 'a=b,com.docker.compose.project=blog,c=d', Ports: ports });
  expect(
    parse(answer('published', line)).publishedPorts.map(({ port, address, protocol, project }) => [
      port,
      address,
      protocol,
      project,
    ]),
  ).toEqual(expected.map((one) => [...one, 'blog']));
});

test.each([
  [
    'busybox',
    'Filesystem     1024-blocks    Used Available Capacity Mounted on\n/dev/vda1      20000 5000 15000  25% /\nFilesystem      Inodes Used Available Capacity Mounted on\n/dev/vda1 1000 100 900 10% /\n',
    { mountPoint: '/', freeBytes: 15_360_000, freeInodes: 900 },
  ],
  [
    'btrfs',
    'Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/sda 20 5 15 25% /data\nFilesystem Inodes IUsed IFree IUse% Mounted on\n/dev/sda 0 0 0 - /data\n',
    { mountPoint: '/data', freeBytes: 15_360, freeInodes: undefined },
  ],
  [
    'German',
    'Dateisystem 1024-Blöcke Benutzt Verfügbar Kapazität Eingehängt auf\n/dev/sda 20 5 15 25% /\nDateisystem Inodes IBenutzt IFrei IUse% Eingehängt auf\n/dev/sda 10 1 9 10% /\n',
    { mountPoint: '/', freeBytes: 15_360, freeInodes: 9 },
  ],
  [
    'full',
    'Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/sda 20 20 0 100% /\n',
    { mountPoint: '/', freeBytes: 0, freeInodes: undefined },
  ],
  ['nothing', '', undefined],
])('disk space: %s', (_name, text, expected) => {
  expect(parse(answer('space', text)).space).toEqual(expected);
});

test('the store', () => {
  const facts = parse(answer('current', 'releases/20261122T100000Z-aaaaaaa'));
  expect(facts.current).toBe('20261122T100000Z-aaaaaaa');
  expect(parse(answer('volumes', 'shop_data\nshop_files')).volumes).toEqual(['shop_data', 'shop_files']);
  expect(parse(answer('files', 'aa\nbb')).storedFiles).toEqual(['aa', 'bb']);
  expect(parse(answer('rendered', 'services: {}\n')).currentCompose).toBe('services: {}\n');
  expect(parse(answer('tools', 'flock\ntimeout')).missingTools).toEqual(['flock', 'timeout']);
});

describe('parseRelease', () => {
  const release = {
    id: '20261122T100000Z-aaaaaaa',
    project: 'shop',
    created: '2026-11-22T10:00:00Z',
    commit: 'a'.repeat(40),
    ref: 'main',
    actor: 'alice',
    runUrl: 'https://x',
    result: 'healthy',
    checks: ['web'],
    services: { web: { reference: 'web:1', image: 'web:1@sha256:a', configHash: 'h' } },
    files: ['f'],
  };

  test('reads what was written', () => {
    expect(parseRelease(JSON.stringify(release))).toEqual([release]);
    expect(parseRelease(JSON.stringify({ ...release, result: 'adopted' }))[0]?.result).toBe('adopted');
  });

  test('one that names no checks had none to pass', () => {
    expect(parseRelease(JSON.stringify({ ...release, checks: undefined }))).toEqual([{ ...release, checks: [] }]);
    expect(parseRelease(JSON.stringify({ ...release, checks: ['web', 5, null] }))[0]?.checks).toEqual(['web']);
  });

  test.each(['', '{', 'null', '[]', '{}', '{"id":""}', '{"id":"../.."}', '{"id":"20261122T100000Z-aaaaaaa/.."}'])(
    '%j is left out',
    (line) => {
      expect(parseRelease(line)).toEqual([]);
    },
  );

  test('members of other types are empty', () => {
    expect(parseRelease(JSON.stringify({ id: release.id, services: [], files: [1, 'f'], actor: 5 }))).toMatchObject([
      { services: {}, files: ['f'], actor: '' },
    ]);
  });
});
