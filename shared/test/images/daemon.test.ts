import fc from 'fast-check';
import {
  choosePlatform,
  type DaemonFacts,
  endpointsOf,
  formatPlatform,
  isSecure,
  needsAddresses,
  parseDaemon,
  parsePlatform,
} from '../../src/images/daemon';

const INFO = {
  OSType: 'linux',
  Architecture: 'x86_64',
  DockerRootDir: '/srv/docker',
  HttpProxy: '',
  HttpsProxy: '',
  DriverStatus: [['Backing Filesystem', 'extfs']],
  RegistryConfig: {
    AllowNondistributableArtifactsCIDRs: null,
    InsecureRegistryCIDRs: ['10.0.0.0/8', '127.0.0.0/8'],
    IndexConfigs: {
      'docker.io': { Name: 'docker.io', Mirrors: ['http://10.0.0.1:5000/'], Secure: true, Official: true },
      'registry.lan:5000': { Name: 'registry.lan:5000', Mirrors: null, Secure: false, Official: false },
    },
    Mirrors: ['http://10.0.0.1:5000/'],
  },
};

const daemon = (changes: Partial<DaemonFacts> = {}): DaemonFacts => ({
  ...parseDaemon(JSON.stringify(INFO)),
  ...changes,
});

test('what docker info says', () => {
  expect(daemon()).toEqual({
    platform: { os: 'linux', architecture: 'amd64', variant: '' },
    rootDirectory: '/srv/docker',
    containerdStore: false,
    usesProxy: false,
    insecureNetworks: ['10.0.0.0/8', '127.0.0.0/8'],
    secureByName: new Map([
      ['docker.io', true],
      ['registry.lan:5000', false],
    ]),
    mirrors: ['http://10.0.0.1:5000/'],
  });
});

test("a proxy and containerd's image store", () => {
  const info = {
    ...INFO,
    HttpsProxy: 'http://proxy:3128',
    DriverStatus: [['driver-type', 'io.containerd.snapshotter.v1']],
  };
  expect(parseDaemon(JSON.stringify(info))).toMatchObject({ usesProxy: true, containerdStore: true });
});

test('Mirrors is null without any', () => {
  const info = { ...INFO, RegistryConfig: { ...INFO.RegistryConfig, Mirrors: null } };
  expect(parseDaemon(JSON.stringify(info)).mirrors).toEqual([]);
});

test.each([
  ['', 'but said: nothing'],
  [
    '{"ServerErrors":["Cannot connect to the Docker daemon"],"ClientInfo":{}}',
    'but said: Cannot connect to the Docker daemon',
  ],
  ['permission denied', 'but said: permission denied'],
])('no daemon: %j', (text, message) => {
  expect(() => parseDaemon(text)).toThrow(message);
});

test.each([
  ['x86_64', 'linux/amd64'],
  ['aarch64', 'linux/arm64'],
  ['armv7l', 'linux/arm/v7'],
  ['armv6l', 'linux/arm/v6'],
  ['i686', 'linux/386'],
  ['ppc64le', 'linux/ppc64le'],
  ['s390x', 'linux/s390x'],
  ['riscv64', 'linux/riscv64'],
])('%s is %s', (machine, platform) => {
  expect(formatPlatform(parseDaemon(JSON.stringify({ ...INFO, Architecture: machine })).platform)).toBe(platform);
});

test.each([
  ['linux/amd64', 'linux/amd64'],
  ['linux/x86_64', 'linux/amd64'],
  ['arm64', 'linux/arm64'],
  ['linux/arm64/v8', 'linux/arm64'],
  ['linux/arm', 'linux/arm/v7'],
  ['linux/arm/v6', 'linux/arm/v6'],
  ['Linux/AMD64', 'linux/amd64'],
])('platform: %s is %s', (text, platform) => {
  const parsed = parsePlatform(text);
  expect(parsed && formatPlatform(parsed)).toBe(platform);
});

test.each(['', 'linux', 'a/b/c/d', 'linux/am d64', 'linux/', '$(x)'])('%j is no platform', (text) => {
  expect(parsePlatform(text)).toBeUndefined();
});

test.each([
  ['linux/amd64', ['linux/arm64', 'linux/amd64'], 'linux/amd64'],
  ['linux/amd64', ['linux/386', 'linux/arm64'], 'linux/386'],
  ['linux/amd64', ['linux/arm64', 'windows/amd64'], undefined],
  ['linux/arm64', ['linux/arm/v7', 'linux/arm64'], 'linux/arm64'],
  ['linux/arm64', ['linux/arm/v6', 'linux/arm/v7'], 'linux/arm/v7'],
  ['linux/arm/v7', ['linux/arm/v5', 'linux/arm/v6', 'linux/arm64'], 'linux/arm/v6'],
  ['linux/arm/v6', ['linux/arm/v7'], undefined],
  ['linux/amd64/v3', ['linux/amd64', 'linux/amd64/v2'], 'linux/amd64/v2'],
  ['linux/amd64', ['linux/amd64/v3'], undefined],
  ['linux/s390x', ['linux/s390x'], 'linux/s390x'],
])('on %s, of %j runs %s', (machine, offered, expected) => {
  const parse = (text: string) => parsePlatform(text) ?? { os: '', architecture: '', variant: '' };
  const chosen = choosePlatform(
    parse(machine),
    offered.map((text) => ({ platform: parse(text) })),
  );
  expect(chosen && formatPlatform(chosen.platform)).toBe(expected);
});

test.each([
  ['docker.io', ['http://10.0.0.1:5000 insecure mirror', 'https://registry-1.docker.io']],
  ['ghcr.io', ['https://ghcr.io']],
  ['registry.lan:5000', ['https://registry.lan:5000 insecure', 'http://registry.lan:5000 insecure']],
  ['REGISTRY.lan:5000', ['https://REGISTRY.lan:5000 insecure', 'http://REGISTRY.lan:5000 insecure']],
  ['registry.lan:5001', ['https://registry.lan:5001']],
  ['10.1.2.3:5000', ['https://10.1.2.3:5000 insecure', 'http://10.1.2.3:5000 insecure']],
  ['11.1.2.3:5000', ['https://11.1.2.3:5000']],
  ['localhost:5000', ['https://localhost:5000 insecure', 'http://localhost:5000 insecure']],
  ['127.1.2.3', ['https://127.1.2.3 insecure', 'http://127.1.2.3 insecure']],
  ['[::1]:5000', ['https://[::1]:5000 insecure', 'http://[::1]:5000 insecure']],
  ['localhost.evil.example', ['https://localhost.evil.example']],
  ['127.0.0.1.evil.example', ['https://127.0.0.1.evil.example']],
])('where %s is asked', (registry, expected) => {
  const shown = endpointsOf(registry, daemon()).map(
    ({ url, insecure, mirror }) => `${url}${insecure ? ' insecure' : ''}${mirror ? ' mirror' : ''}`,
  );
  expect(shown).toEqual(expected);
});

test('a name is as secure as the addresses behind it', () => {
  expect(isSecure('build.lan', daemon(), ['10.9.9.9'])).toBe(false);
  expect(isSecure('build.lan', daemon(), ['192.0.2.1'])).toBe(true);
  expect(
    isSecure('build.lan', daemon({ insecureNetworks: ['not a network', '10.0.0.0/99', 'fd00::/8'] }), ['fd00::1']),
  ).toBe(false);
  expect(needsAddresses('build.lan', daemon())).toBe(true);
  expect(needsAddresses('build.lan', daemon({ insecureNetworks: ['127.0.0.0/8', '::1/128'] }))).toBe(false);
  expect(needsAddresses('registry.lan:5000', daemon())).toBe(false);
  expect(needsAddresses('docker.io', daemon())).toBe(false);
  expect(needsAddresses('10.1.1.1:5000', daemon())).toBe(false);
});

test('mirrors without a scheme speak https, and what is no URL is passed over', () => {
  expect(
    endpointsOf('docker.io', daemon({ mirrors: ['mirror.example', 'http://[', 'https://m2.example/path/'] })),
  ).toEqual([
    { url: 'https://mirror.example', insecure: false, mirror: true },
    { url: 'https://m2.example/path', insecure: false, mirror: true },
    { url: 'https://registry-1.docker.io', insecure: false, mirror: false },
  ]);
});

test('no answer of the daemon makes http of a public registry, unless it names it', () => {
  fc.assert(
    fc.property(fc.array(fc.string(), { maxLength: 4 }), (networks) => {
      expect(endpointsOf('ghcr.io', daemon({ insecureNetworks: networks }))).toHaveLength(1);
    }),
    { numRuns: 1000 },
  );
});
