import { once } from 'node:events';
import { existsSync, readdirSync } from 'node:fs';
import { parseRendered, renderProject } from '../../src/commands/render';
import { packTar } from '../../src/releases/tar';
import { Machine, SHELLS } from '../shells';

const request = async (
  over: Partial<Parameters<typeof renderProject>[0]> = {},
): Promise<Parameters<typeof renderProject>[0]> => ({
  project: 'shop',
  directory: '',
  composeFiles: ['compose.yaml'],
  envFiles: ['.env', '.slipway-variables'],
  tar: await packTar([
    { path: 'compose.yaml', content: 'services: {}' },
    { path: 'deploy/x.yaml', content: 'x' },
    { path: '.env', content: 'A=1' },
  ]),
  ...over,
});

test('the command', async () => {
  const { words, secretOutput, stdin } = renderProject(await request());
  expect(words.slice(3)).toEqual([
    'slipway',
    '',
    'shop',
    '--env-file',
    '.env',
    '--env-file',
    '.slipway-variables',
    '--file',
    'compose.yaml',
  ]);
  expect(secretOutput).toBe(true);
  expect(stdin).toBeInstanceOf(Uint8Array);
});

test('the answer begins with the staging folder', () => {
  expect(parseRendered('/dev/shm/slipway.abcdefgh\n{}\n')).toEqual({
    stagingRoot: '/dev/shm/slipway.abcdefgh',
    rendered: '{}\n',
  });
  for (const text of ['', '\n', '{}', '{}\n', 'warning\n/dev/shm/x\n{}'])
    expect(() => parseRendered(text)).toThrow(SyntaxError);
});

describe.each(SHELLS)('in $name', (shell) => {
  let machine: Machine;
  const before = new Set(readdirSync('/dev/shm'));
  const left = (): string[] =>
    // Other tests, at the same time, have other folders of ours there.
    readdirSync('/dev/shm').filter((name) => !before.has(name) && existsSync(`/dev/shm/${name}/_`));

  beforeEach(() => {
    machine = new Machine(shell);
  });

  afterEach(() => {
    machine.remove();
  });

  test('unpacks where nobody else looks, deep enough for paths that lead out, and leaves nothing', async () => {
    machine.withDocker(
      `pwd; cat compose.yaml; echo; ls -ld "$(pwd | cut -d/ -f1-4)" | cut -c1-10; echo "COMPOSE_FILE=$COMPOSE_FILE"`,
    );
    const { exitCode, stdout } = machine.run(renderProject(await request()));
    const { stagingRoot, rendered } = parseRendered(stdout);
    expect(exitCode).toBe(0);
    expect(stagingRoot).toMatch(/^\/dev\/shm\/slipway\.[A-Za-z0-9]{8}(\/_){8}$/);
    expect(rendered).toBe(`${stagingRoot}/\nservices: {}\ndrwx------\nCOMPOSE_FILE=\n`.replace('/\n', '\n'));
    expect(machine.calls).toEqual([
      `<compose><--ansi><never><--project-name><shop><--project-directory><${stagingRoot}/><--env-file><.env><--env-file><.slipway-variables><--file><compose.yaml><config>`,
    ]);
    expect(left()).toEqual([]);
  });

  test('works in a folder that the files do not bring, with names that break bad quoting', async () => {
    machine.withDocker('pwd');
    const { stdout } = machine.run(
      renderProject(
        await request({ directory: "it's $(touch pwned)", composeFiles: ['-f', '`x`', '☃ 1.yaml'], project: '$HOME' }),
      ),
    );
    expect(stdout.trim().endsWith("/it's $(touch pwned)")).toBe(true);
    expect(machine.calls[0]).toContain('<--project-name><$HOME>');
    expect(machine.calls[0]).toContain('<--file><-f><--file><`x`><--file><☃ 1.yaml>');
    expect(existsSync(machine.path('pwned'))).toBe(false);
  });

  test('leaves nothing when Compose refuses, and hands its exit code on', async () => {
    machine.withDocker('echo "no configuration file" >&2; exit 14');
    expect(machine.run(renderProject(await request()))).toMatchObject({
      exitCode: 14,
      stderr: 'no configuration file\n',
    });
    expect(left()).toEqual([]);
  });

  test('leaves nothing when the tar is broken', async () => {
    machine.withDocker('');
    expect(
      machine.run(renderProject(await request({ tar: Buffer.from('not a tar, but long enough'.repeat(100)) })))
        .exitCode,
    ).not.toBe(0);
    expect(machine.calls).toEqual([]);
    expect(left()).toEqual([]);
  });

  test('leaves nothing when the connection hangs up', async () => {
    machine.withDocker('sleep 0.3');
    const process = machine.start(renderProject(await request()));
    const closed = once(process, 'close');
    process.stdin.on('error', () => undefined);
    process.stdin.end((await request()).tar);
    for (let tries = 0; tries < 200 && machine.calls.length === 0; tries++)
      await new Promise((resolve) => setTimeout(resolve, 10));
    process.kill('SIGHUP');
    await closed;
    expect(left()).toEqual([]);
  });
});
