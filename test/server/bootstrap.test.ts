/**
 * What infra/server/bootstrap.sh makes of its inputs, in each shell. Every call here has at least one wrong input, so none of them gets
 * beyond reading: what it changes is tested on a real server (test/e2e/bootstrap.test.ts).
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
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
      "--project /srv/../etc is neither a project's name nor the absolute path of a folder.",
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
