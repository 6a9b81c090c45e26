import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { readServer } from '../../src/commands/server';
import { parseServerFacts, type ServerFacts } from '../../src/server/facts';
import { HOSTILE, Machine, SHELLS } from '../shells';

const TOKEN = 'slipway-0123456789abcdef';

/** What it takes to ask a server without docker. */
const TOOLS = ['id', 'ls', 'df', 'cat', 'awk', 'readlink', 'sort', 'flock', 'tar', 'timeout', 'mktemp', 'sed'];

const DOCKER = `case "$1 $2" in
"info --format")
  case $3 in
  *DockerRootDir*) echo /var ;;
  *) echo '{"ServerVersion":"26.1.5","Architecture":"x86_64","DockerRootDir":"/var","ClientInfo":{"Plugins":[{"Name":"compose","Version":"v2.26.1"}]}}' ;;
  esac ;;
"ps -aq") printf 'c1\\nc2\\n' ;;
"ps --no-trunc") echo '{"Names":"shop-web-1","Labels":"com.docker.compose.project=shop","Ports":"127.0.0.1:8080->80/tcp"}' ;;
"inspect --type") printf '%s\\n' '{"Id":"c1","Name":"/shop-web-1"}' '{"Id":"c2","Name":"/shop-db-1"}'; echo warning >&2 ;;
"network ls") echo shop_default ;;
"volume ls") echo shop_data ;;
"image ls") printf 'i2\\ni1\\ni1\\n' ;;
"image inspect") shift 4; for i; do echo "{\\"Id\\":\\"$i\\",\\"Size\\":5}"; done ;;
*) exit 64 ;;
esac`;

test('the command', () => {
  const { words, secretOutput } = readServer(TOKEN, 'apps/shop', 'shop');
  expect([words[0], words[1], words[3], words.slice(4, 7), secretOutput]).toEqual([
    'sh',
    '-c',
    'slipway',
    [TOKEN, 'apps/shop', 'shop'],
    true,
  ]);
});

describe.each(SHELLS)('in $name', (shell) => {
  let machine: Machine;

  beforeEach(() => {
    machine = new Machine(shell);
  });

  afterEach(() => {
    machine.remove();
  });

  const read = (path = 'apps/shop', project = 'shop', environmentPath?: string): ServerFacts => {
    const { stdout, exitCode } = machine.run(
      readServer(TOKEN, path, project),
      environmentPath === undefined ? {} : { path: environmentPath },
    );
    expect(exitCode).toBe(0);
    return parseServerFacts(stdout, TOKEN);
  };

  test('reads all of a server with a project on it', () => {
    machine.withDocker(DOCKER);
    const store = machine.path('apps/shop/.slipway');
    mkdirSync(`${store}/releases/20261122T100000Z-aaaaaaa`, { recursive: true });
    mkdirSync(`${store}/files/${'a'.repeat(64)}`, { recursive: true });
    writeFileSync(
      `${store}/releases/20261122T100000Z-aaaaaaa/release.json`,
      '{"id":"20261122T100000Z-aaaaaaa","project":"shop"}',
    );
    writeFileSync(`${store}/releases/20261122T100000Z-aaaaaaa/compose.yaml`, 'services: {}\n');
    writeFileSync(`${store}/journal`, '{"version":1}\n');
    mkdirSync(`${store}/backups`);
    writeFileSync(`${store}/backups/restoring`, '{}');
    writeFileSync(machine.path('apps/shop/compose.override.yaml'), '');
    const link = machine.run({ words: ['ln', '-s', 'releases/20261122T100000Z-aaaaaaa', `${store}/current`] });
    expect(link.exitCode).toBe(0);
    const facts = read();
    expect(facts).toMatchObject({
      home: machine.folder,
      path: machine.path('apps/shop'),
      folder: 'directory',
      notWritable: '',
      storeProblem: '',
      overrides: ['compose.override.yaml'],
      missingTools: [],
      docker: { kind: 'ready', version: '26.1.5', composeVersion: '2.26.1' },
      containers: [{ name: 'shop-web-1' }, { name: 'shop-db-1' }],
      publishedPorts: [{ port: 8080, address: '127.0.0.1', project: 'shop' }],
      networks: ['shop_default'],
      volumes: ['shop_data'],
      images: [{ id: 'i1' }, { id: 'i2' }],
      releases: [{ id: '20261122T100000Z-aaaaaaa' }],
      current: '20261122T100000Z-aaaaaaa',
      storedFiles: ['a'.repeat(64)],
      journal: '{"version":1}',
      isRestoring: true,
    });
    expect(facts.currentCompose).toBe('services: {}\n');
    expect(facts.space?.freeBytes).toBeGreaterThan(0);
    expect(facts.dataRootSpace?.freeBytes).toBeGreaterThan(0);
  });

  test('a server where nothing is yet', () => {
    machine.withDocker(DOCKER.replace("printf 'c1\\nc2\\n'", ':').replace("printf 'i2\\ni1\\ni1\\n'", ':'));
    expect(read()).toMatchObject({
      folder: 'missing',
      notWritable: '',
      containers: [],
      images: [],
      releases: [],
      current: undefined,
      journal: '',
      isRestoring: false,
      currentCompose: '',
    });
  });

  test('a server without docker', () => {
    machine.withOnly(...TOOLS.filter((tool) => tool !== 'flock'));
    expect(read('apps/shop', 'shop', machine.path('bin'))).toMatchObject({
      docker: { kind: 'missing' },
      missingTools: ['flock'],
    });
  });

  test('containers that cannot be listed are an error, not "no containers"', () => {
    machine.withDocker(DOCKER.replace("printf 'c1\\nc2\\n'", 'echo "daemon hiccup" >&2; exit 1'));
    expect(() => read()).toThrow(/could not list the project's containers: daemon hiccup/);
  });

  test.each([
    ['networks', 'shop_default'],
    ['volumes', 'shop_data'],
  ])('%s that cannot be listed are an error too', (kind, name) => {
    machine.withDocker(DOCKER.replace(`echo ${name}`, 'exit 1'));
    expect(() => read()).toThrow(`could not list the project's ${kind}`);
  });

  test('a container that goes away meanwhile is asked for again, five times at most', () => {
    machine.withDocker(
      DOCKER.replace(
        '"inspect --type")',
        `"inspect --type") [ -e "${machine.path('second')}" ] || { : >"${machine.path('second')}"; exit 1; };`,
      ),
    );
    expect(read().containers).toHaveLength(2);
    rmSync(machine.path('docker.log'));
    machine.withDocker(DOCKER.replace('"inspect --type")', '"inspect --type") exit 1;'));
    expect(() => read()).toThrow(SyntaxError);
    expect(machine.calls.filter((call) => call.startsWith('<inspect>'))).toHaveLength(5);
  });

  test('hostile paths and names are words, and what the folder is called cannot frame an answer', () => {
    machine.withDocker(DOCKER);
    for (const text of [...HOSTILE, `x\n${TOKEN} end`].filter((one) => one !== '')) {
      expect(read(`apps/${text}`, text).docker.kind).toBe('ready');
      expect(machine.calls.join('\n')).toContain(`<label=com.docker.compose.project=${text}>`);
    }
    expect(machine.run({ words: ['ls', machine.path('pwned')] }).exitCode).not.toBe(0);
  });

  test('a file where a folder should be', () => {
    machine.withDocker(DOCKER);
    writeFileSync(machine.path('apps'), '');
    expect(read('apps').folder).toBe('other');
    expect(read().notWritable).toBe(machine.path('apps'));
  });

  test('every answer that is cut off is an error', () => {
    machine.withDocker(DOCKER);
    const { stdout } = machine.run(readServer(TOKEN, 'apps/shop', 'shop'));
    const lines = stdout.split('\n');
    for (let kept = 0; kept < lines.length - 1; kept++) {
      expect(() => parseServerFacts(lines.slice(0, kept).join('\n'), TOKEN)).toThrow(SyntaxError);
    }
    for (let cut = 2; cut < stdout.length; cut += 7) {
      expect(() => parseServerFacts(stdout.slice(0, -cut), TOKEN)).toThrow(SyntaxError);
    }
  });
});
