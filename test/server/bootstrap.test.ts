/**
 * What infra/server/bootstrap.sh makes of its inputs, in each shell. Every call here has at least one wrong input, so none of them gets
 * beyond reading: what it changes is tested on a real server (test/e2e/bootstrap.test.ts).
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { type Shell, SHELLS } from '../../shared/test/shells.ts';

const SCRIPT = fileURLToPath(new URL('../../infra/server/bootstrap.sh', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'slipway-bootstrap-'));
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

interface Told {
  readonly code: number | null;
  readonly problems: readonly string[];
  readonly stdout: string;
}

function bootstrap(
  shell: Shell,
  options: readonly string[],
  { env = {}, piped = false, input = '' }: { env?: Record<string, string>; piped?: boolean; input?: string } = {},
): Told {
  const [program, ...words] = shell.words;
  const { status, stdout, stderr } = spawnSync(program, [...words, ...(piped ? ['-s', '--'] : [SCRIPT]), ...options], {
    env,
    cwd: folder,
    input: piped ? readFileSync(SCRIPT) : input,
    encoding: 'utf8',
  });
  return {
    code: status,
    problems: stderr.split('\n').flatMap((line) => (line.startsWith('bootstrap: ') ? [line.slice(11)] : [])),
    stdout,
  };
}

test('shellcheck has nothing to say', () => {
  const { stdout, error } = spawnSync('shellcheck', ['-s', 'dash', '-f', 'gcc', SCRIPT], { encoding: 'utf8' });
  if (error !== undefined) throw new Error('shellcheck is not in PATH: apt-get install shellcheck');
  expect(stdout).toBe('');
});

describe.each(SHELLS)('$name', (shell) => {
  test('all wrong inputs are told at once', () => {
    const told = bootstrap(shell, [
      ...[
        '--user',
        'root',
        '--project',
        'Shop',
        '--project=/etc/shop',
        '--project',
        '/srv/../etc',
        '--project',
        'shop',
        ...['/../etc', '/srv/./shop', '/var/tmp', '/root/.ssh'].flatMap((path) => ['--project', path]),
      ],
      ...[
        '--allow',
        '0',
        '--allow',
        '8443/sctp',
        '--allow',
        '9000',
        '--allow=443/udp',
        '--host',
        'a b',
        '--docker',
        'snap',
      ],
      ...['--docker-repository', 'ftp://mirror', '--swap', '2 GB', '--nonsense'],
    ]);
    expect(told.code).toBe(2);
    expect(told.stdout).toBe('');
    expect(told.problems).toEqual([
      'There is no option --nonsense.',
      '--user root is no usable name for the user that deploys.',
      "--project Shop is neither a project's name nor the absolute path of a folder.",
      "--project /etc/shop is neither a project's name nor the absolute path of a folder.",
      ...['/srv/../etc', '/../etc', '/srv/./shop', '/var/tmp', '/root/.ssh'].map(
        (path) => `--project ${path} is neither a project's name nor the absolute path of a folder.`,
      ),
      '--allow 0 is no port.',
      '--allow 8443/sctp is no port.',
      '--host a b is no host name or address.',
      '--docker snap is not known.',
      '--docker-repository ftp://mirror is no address.',
      '--swap 2 GB is no size.',
      'No key was given.',
    ]);
  });

  test('a key is looked at, not taken on trust', () => {
    writeFileSync(
      join(folder, 'keys'),
      [
        '# those of two people, as Windows writes it\r',
        'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHyICvnfdNn+YkYhRIXgPVoj9sLUhpHY4dQus1dNZcWR one\r',
        'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHyICvnfdNn+YkYh cut',
        'command="sh" ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHyICvnfdNn+YkYhRIXgPVoj9sLUhpHY4dQus1dNZcWR',
        'sk-ssh-ed25519@openssh.com AAAA hardware',
        '',
      ].join('\n'),
    );
    expect(bootstrap(shell, ['--key-file', 'keys']).problems).toEqual([
      'The key 2 (ssh-ed25519) is damaged: ssh-keygen cannot read it.',
      'The key 3 is no public key: it begins with "command="sh"".',
      'The key 4 is a hardware key (sk-ssh-ed25519@openssh.com), which a workflow cannot use.',
    ]);
    const secret = [
      '-----BEGIN OPENSSH PRIVATE KEY-----',
      'b3BlbnNzaC1rZXktdjEAAAAA',
      '-----END OPENSSH PRIVATE KEY-----',
    ];
    const leaked = bootstrap(shell, ['--key', '-'], { input: secret.join('\n') });
    expect(leaked.problems).toEqual([expect.stringMatching(/^What was given as the key is a private key\./)]);
    expect(JSON.stringify(leaked)).not.toContain('b3BlbnNz');
    expect(bootstrap(shell, ['--key-file', 'nowhere', '--swap', 'x']).problems[1]).toBe(
      '--key-file nowhere cannot be read.',
    );
  });

  test('piped into a shell, it neither waits for a key nor takes itself for one', () => {
    expect(bootstrap(shell, ['--key', '-'], { piped: true }).problems).toEqual([
      expect.stringMatching(
        /^--key - reads the key from standard input, but that is where this program itself comes from/,
      ),
    ]);
  });

  test('without arguments the environment has the say, as cloud-init needs it', () => {
    const env = { SLIPWAY_KEY: 'nonsense', SLIPWAY_OPTIONS: '--swap=* --project shop' };
    expect(bootstrap(shell, [], { env, piped: true }).problems).toEqual([
      '--swap * is no size.',
      'The key 1 is no public key: it begins with "nonsense".',
    ]);
  });

  test('what came only in part does nothing', () => {
    const [program, ...words] = shell.words;
    const text = readFileSync(SCRIPT, 'utf8');
    const cut = text.slice(0, text.lastIndexOf('main "$@"'));
    const done = spawnSync(program, [...words, '-s', '--', '--nonsense'], { input: cut, encoding: 'utf8', env: {} });
    expect(done).toMatchObject({ status: 0, stdout: '', stderr: '' });
  });
});

/** What the functions say where the program itself has not run. */
function inside(script: string): string {
  const [dash] = SHELLS;
  if (dash === undefined) throw new Error('no shell');
  const text = readFileSync(SCRIPT, 'utf8');
  const done = spawnSync(dash.words[0], ['-s'], {
    input: `${text.slice(0, text.lastIndexOf('main "$@"'))}\n${script}`,
    cwd: folder,
    encoding: 'utf8',
    env: {},
  });
  return done.stdout + done.stderr;
}

test("a project's folder is nobody else's, wherever links lead", () => {
  const root = mkdtempSync(join(folder, 'projects-'));
  mkdirSync(join(root, 'full'));
  mkdirSync(join(root, 'empty'));
  writeFileSync(join(root, 'full', 'file'), '');
  symlinkSync('/root', join(root, 'link'));
  const paths = ['full', 'empty', 'new', 'link', 'link/.ssh', 'full/file'].map((name) => join(root, name));
  const told = inside(`user=somebody projects='shop ${paths.join(' ')}'; judge_projects; echo "$problems"`);
  expect(
    [...told.matchAll(/--project \S*\/projects-[^/]*\/(\S+) (is .*)/g)].map(([, name, what]) => [name, what]),
  ).toEqual([
    ['full', expect.stringMatching(/^is there already, with files in it, and belongs to/)],
    ['link', "is somebody else's home, or in it."],
    ['link/.ssh', "is somebody else's home, or in it."],
    ['full/file', 'is no folder.'],
  ]);
});

test("a network of the server's own is not taken for Docker's", () => {
  const devices = mkdtempSync(join(folder, 'net-'));
  for (const [bridge, member, sign] of [
    ['br-lan', 'eth0', 'device'],
    ['br-vlan', 'eth1.7', 'lower_eth1'],
    ['br-0a1b2c3d4e5f', 'veth1', 'master'],
  ] as const) {
    mkdirSync(join(devices, bridge, 'brif', member), { recursive: true });
    mkdirSync(join(devices, member, sign), { recursive: true });
  }
  const judge = (route: string): string[] => {
    const told = inside(`is_active() { false; }
ip() { case $* in *-6*) echo 'default via fe80::1 dev ${route} proto ra' ;; *) echo 'default via 192.0.2.1 dev eth0' ;; esac; }
NETWORK_DEVICES='${devices}'; judge_firewall; echo "$problems"`);
    return [...told.matchAll(/(part of the bridge|goes through) ([^ ,]+)/g)].map(([, , device = '']) => device);
  };
  expect(judge('eth0')).toEqual(['br-lan', 'br-vlan']);
  expect(judge('br-uplink')).toEqual(['br-uplink', 'br-lan', 'br-vlan']);
});

test('--check shows nothing of what somebody else wrote: it may hold passwords', () => {
  writeFileSync(join(folder, 'daemon.json'), '{"proxies":{"http-proxy":"http://me:hunter2@proxy"}}\n');
  writeFileSync(join(folder, 'ours'), "# Written by Slipway's bootstrap.sh.\nold\n");
  const told = inside(`mode=check scratch=$PWD
for file in daemon.json ours; do echo 'something else' | put_file "$PWD/$file" 644 - why; done`);
  expect(told.match(/^differs: /gm)).toHaveLength(2);
  expect(told).toContain('-old');
  expect(told).not.toContain('hunter2');
});

test('no input reaches a shell, whatever it is', () => {
  const [dash] = SHELLS;
  if (dash === undefined) throw new Error('no shell');
  const hostile = fc.oneof(
    fc.constantFrom(
      '$(touch pwned)',
      '`touch pwned`',
      "'; touch pwned; '",
      '"; touch pwned; "',
      '*',
      '?',
      '-n',
      '\\',
      'a\nb',
    ),
    fc.string({ unit: 'grapheme-ascii', minLength: 1, maxLength: 20 }),
  );
  const options = [
    '--user',
    '--project',
    '--host',
    '--allow',
    '--docker',
    '--docker-repository',
    '--swap',
    '--key-file',
  ];
  fc.assert(
    fc.property(fc.tuple(...options.map(() => hostile)), (values) => {
      const given = options.flatMap((option, index) => [option, values[index] ?? '']);
      const told = bootstrap(dash, [...given, '--nonsense', '--key', '$(touch pwned)']);
      expect(told.code).toBe(2);
      expect(told.problems[0]).toBe('There is no option --nonsense.');
      expect(spawnSync('ls', ['-A', folder], { encoding: 'utf8' }).stdout).not.toContain('pwned');
    }),
    { numRuns: 40 },
  );
});
