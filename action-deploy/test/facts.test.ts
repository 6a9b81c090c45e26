import { once } from 'node:events';
import { extract } from 'tar-stream';
import { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { InputError, PreflightError } from '#shared/errors';
import type { Runner, ShippedFile, Workspace } from '#shared/ports';
import { layoutStore } from '#shared/releases/layout';
import { FakeSession, type Answer } from '../../shared/test/fakes/session';
import { readSource, relocate, renderOnServer, type Source } from '../src/facts';
import { readInputs, type Inputs } from '../src/inputs';
import { type Candidate, readHashes } from '#shared/engine/prepare';

const STAGE = '/dev/shm/slipway.abcd1234/_/_/_/_/_/_/_/_';
const layout = layoutStore('/srv/shop');

function inputs(over: Readonly<Record<string, string>> = {}): Inputs {
  const given: Readonly<Record<string, string>> = {
    host: 'local',
    'compose-file': 'compose.yaml',
    'keep-releases': '5',
    timeout: '120',
    'dry-run': 'false',
    'lock-wait': '10m',
    lease: '30',
    'bake-time': '0',
    'max-failed-requests': '0',
    ...over,
  };
  return readInputs((name) => given[name] ?? '');
}

function workspace(files: Readonly<Record<string, string>>, problems: readonly string[] = []): Workspace {
  return {
    read: (path) => Promise.resolve(files[path]),
    exists: (path) => Promise.resolve(Object.keys(files).some((file) => file === path || file.startsWith(`${path}/`))),
    collect: (globs) =>
      Promise.resolve({
        files: Object.entries(files)
          .filter(([path]) => globs.some((glob) => path === glob || path.startsWith(`${glob}/`)))
          .map(([path, content]): ShippedFile => ({ path, executable: false, content: Buffer.from(content) })),
        problems,
      }),
  };
}

function runner(repository = 'acme/My.Shop', commit = 'c0ffee0'): Runner {
  const refuse = (): never => {
    throw new Error('only inputs.ts reads inputs');
  };
  return {
    context: { workspace: '', repository, commit, ref: '', actor: '', runUrl: '', event: '' },
    input: refuse,
    rawInput: refuse,
    setOutput: refuse,
    saveState: refuse,
    state: refuse,
  };
}

const source = (
  files: Readonly<Record<string, string>>,
  over: Readonly<Record<string, string>> = {},
  repository?: string,
): Promise<Source> => readSource(inputs(over), { workspace: workspace(files), runner: runner(repository) });

describe('readSource', () => {
  test.each([
    ['the input', { project: 'given' }, 'name: filed', 'acme/shop', 'given'],
    ['the file', {}, 'name: filed', 'acme/shop', 'filed'],
    ['the repository, where the file has a variable', {}, 'name: ${NAME}', 'acme/My.Shop_2', 'myshop_2'],
    ['the repository, where the file cannot be parsed', {}, 'name: [', 'acme/-_shop', 'shop'],
  ])('the name comes from %s', async (_name, over, compose, repository, expected) => {
    expect((await source({ 'compose.yaml': compose }, over, repository)).project).toBe(expected);
  });

  test('files, once each, and the folder that paths start from', async () => {
    const found = await source(
      { 'deploy/compose.yaml': 'a', 'deploy/b.yaml': 'b', 'nginx/x': 'x' },
      { 'compose-file': 'deploy/compose.yaml\ndeploy/b.yaml', files: 'nginx\ndeploy' },
    );
    expect(found.directory).toBe('deploy');
    expect(found.files.map(({ path }) => path).sort()).toEqual(['deploy/b.yaml', 'deploy/compose.yaml', 'nginx/x']);
    expect((await source({ 'compose.yaml': '' })).directory).toBe('');
  });

  test('all that is missing at once', async () => {
    const failure = readSource(inputs({ 'compose-file': 'a.yaml\nb.yaml' }), {
      workspace: workspace({}, ['`x` matches no file in the workspace.']),
      runner: runner(''),
    });
    await expect(failure).rejects.toThrow(InputError);
    await expect(failure).rejects.toMatchObject({
      problems: [{ input: 'files' }, { input: 'compose-file' }, { input: 'compose-file' }, { input: 'project' }],
    });
  });

  test('a name that Compose would refuse is told here', async () => {
    await expect(source({ 'compose.yaml': 'name: My Shop' })).rejects.toMatchObject({
      problems: [{ input: 'project' }],
    });
  });

  test('two .env files are one too many', async () => {
    await expect(source({ 'compose.yaml': '', '.env': 'A=1' }, { env: 'A=2', files: '.env' })).rejects.toMatchObject({
      problems: [{ input: 'env' }],
    });
    await expect(source({ 'compose.yaml': '', '.env': 'A=1' }, { files: '.env' })).resolves.toBeDefined();
  });
});

describe('the project as the server renders it', () => {
  interface Scene {
    readonly files?: Readonly<Record<string, string>>;
    readonly over?: Readonly<Record<string, string>>;
    readonly services?: object;
    readonly rest?: object;
    readonly answer?: Answer;
    readonly there?: string;
  }

  async function render({
    files = {},
    over = {},
    services = { web: { image: 'web:1' } },
    rest = {},
    answer,
    there = '',
  }: Scene): Promise<{ rendered: Candidate; session: FakeSession }> {
    const session = new FakeSession(({ purpose }) =>
      purpose === 'look for mounted folders'
        ? { stdout: there }
        : (answer ?? { stdout: `${STAGE}\n${JSON.stringify({ name: 'shop', services, ...rest })}` }),
    );
    const all = { 'compose.yaml': 'services: {}', ...files };
    const given = inputs(over);
    const ports = { workspace: workspace(all), runner: runner(), signal: new AbortController().signal };
    const read = await readSource(given, ports);
    const rendering = await renderOnServer(session, read, given, ports);
    return { rendered: await relocate(rendering, read, given.env, layout, session, ports), session };
  }

  const unpack = async (session: FakeSession): Promise<Record<string, string>> => {
    const found: Record<string, string> = {};
    const tar = extract();
    tar.on('entry', (header, stream, next) => {
      void text(stream).then((content) => {
        if (header.type === 'file') found[header.name] = content;
        next();
      });
    });
    Readable.from([Buffer.from(session.commands[0]?.stdin ?? '', 'latin1')]).pipe(tar);
    await once(tar, 'finish');
    return found;
  };

  test('sends the files, the .env and the variables, which win', async () => {
    const { session } = await render({
      over: { env: 'A=1', variables: 'PLAIN=v 1\nQUOTE=it\'s $HOME\nBACK=C:\\\nDOLLAR=a$$b "q"' },
    });
    expect(await unpack(session)).toEqual({
      'compose.yaml': 'services: {}',
      '.env': 'A=1\n',
      // Read back by Compose 2.26 and 2.40 as they were given (measured).
      '.slipway-variables':
        "SLIPWAY_COMMIT='c0ffee0'\nPLAIN='v 1'\nQUOTE=\"it's \\$HOME\"\nBACK=\"C:\\\\\"\nDOLLAR='a$$b \"q\"'\n",
    });
    expect(session.commands[0]?.command.words.slice(4)).toEqual([
      '',
      'myshop',
      '--env-file',
      '.env',
      '--env-file',
      '.slipway-variables',
      '--file',
      'compose.yaml',
    ]);
  });

  test('a folder of its own is the place of the .env and of relative names', async () => {
    const { session } = await render({
      files: { 'deploy/c.yaml': 'x' },
      over: { 'compose-file': 'deploy/c.yaml\ncompose.yaml', env: 'A=1' },
    });
    expect(Object.keys(await unpack(session)).sort()).toEqual([
      'compose.yaml',
      'deploy/.env',
      'deploy/.slipway-variables',
      'deploy/c.yaml',
    ]);
    expect(session.commands[0]?.command.words.slice(-4)).toEqual(['--file', 'c.yaml', '--file', '../compose.yaml']);
  });

  test('large files only keep their place', async () => {
    const { session } = await render({
      files: { big: 'x'.repeat(1024 * 1024 + 1), small: 'y' },
      over: { files: 'big\nsmall' },
    });
    expect(await unpack(session)).toMatchObject({ big: '', small: 'y' });
  });

  const bind = (source: string, over: object = {}): object => ({
    web: { image: 'web:1', volumes: [{ type: 'bind', source, target: '/x', ...over }] },
  });

  test('a shipped mount points to its content', async () => {
    const { rendered } = await render({
      files: { 'nginx/site.conf': 'server {}' },
      over: { files: 'nginx' },
      services: bind(`${STAGE}/nginx`),
    });
    const [tree] = rendered.trees;
    expect(tree?.name).toBe('nginx');
    expect(rendered.services[0]?.mounts[0]?.source).toBe(`/srv/shop/.slipway/files/${tree?.address ?? ''}/nginx`);
    expect(rendered.findings).toEqual([]);
  });

  test.each([
    [STAGE, 'A service mounts the whole project folder (`.`): the release store is in it.'],
    [
      `${STAGE.slice(0, -2)}/data`,
      'A service mounts `../data`, which is outside of the project folder and not shipped.',
    ],
    ['/srv/shop', 'Service web mounts a folder that holds the release store /srv/shop/.slipway, writable.'],
    ['/', 'Service web mounts a folder that holds the release store /srv/shop/.slipway, writable.'],
  ])('a mount of %s is refused', async (path, message) => {
    expect((await render({ services: bind(path) })).rendered.findings).toEqual([
      expect.objectContaining({ message }) as unknown,
    ]);
  });

  test('to read, a folder around the store is fine, and so is one beside it', async () => {
    expect((await render({ services: bind('/srv', { read_only: true }) })).rendered.findings).toEqual([]);
    expect((await render({ services: bind('/srv/shop2') })).rendered.findings).toEqual([]);
  });

  test("the server's own folder is mounted from there", async () => {
    const { rendered, session } = await render({ services: bind(`${STAGE}/data`) });
    expect(rendered.services[0]?.mounts[0]?.source).toBe('/srv/shop/data');
    expect([rendered.findings, rendered.warnings, session.commands.length]).toEqual([[], [], 2]);
    expect(session.commands[1]?.command.words.slice(4)).toEqual(['/srv/shop/data']);
    expect(rendered.services[0]?.mounts[0]?.readOnly).toBe(false);
  });

  describe('a mount of the project', () => {
    const judge = async (
      there: string,
      mount: object = {},
      shipped = false,
    ): Promise<{ findings: { message: string; hint: string }[]; warnings: readonly string[]; readOnly: unknown }> => {
      const { rendered } = await render({
        ...(shipped ? { files: { 'data/x': 'x' }, over: { files: 'data' } } : {}),
        services: bind(`${STAGE}/data`, mount),
        there,
      });
      return {
        findings: [...rendered.findings],
        warnings: rendered.warnings,
        readOnly: rendered.services[0]?.mounts[0]?.readOnly,
      };
    };

    test('shipped, to read: nobody needs to ask', async () => {
      const { rendered, session } = await render({
        files: { 'data/x': 'x' },
        over: { files: 'data' },
        services: bind(`${STAGE}/data`, { read_only: true }),
      });
      expect([rendered.findings, rendered.warnings, session.commands.length]).toEqual([[], [], 1]);
    });

    test('shipped, to write, and the server has data of its own there: refused', async () => {
      const { findings, warnings } = await judge('1\n', {}, true);
      expect(findings).toEqual([
        {
          message:
            'The Compose file mounts `data` writable, it is shipped, and the server has one of its own (/srv/shop/data), which may hold data.',
          hint: expect.stringContaining(':ro') as string,
        },
      ]);
      expect(warnings).toEqual([]);
    });

    test('shipped, to write, and the server has none: a warning, and it is mounted to read', async () => {
      const { findings, warnings, readOnly } = await judge('0\n', {}, true);
      expect(findings).toEqual([]);
      expect(warnings).toEqual([expect.stringContaining('`data` writable. It is shipped') as string]);
      expect(readOnly).toBe(true);
    });

    test('to read, and it is nowhere: refused, Docker would make an empty folder of it', async () => {
      const { findings } = await judge('0\n', { read_only: true });
      expect(findings).toEqual([
        {
          message: expect.stringContaining(
            '`data` read-only, and it is neither in the workspace nor on the server',
          ) as string,
          hint: expect.stringContaining('/srv/shop/data') as string,
        },
      ]);
    });

    test('to read, and the server has it; to write, and it is nowhere: fine', async () => {
      expect(await judge('1\n', { read_only: true })).toMatchObject({ findings: [], warnings: [] });
      expect(await judge('0\n')).toMatchObject({ findings: [], warnings: [], readOnly: false });
    });

    test('each is asked about in its turn', async () => {
      const mounts = ['kept', 'lost', 'made'].map((name) => ({
        type: 'bind',
        source: `${STAGE}/${name}`,
        target: `/${name}`,
        read_only: name !== 'made',
      }));
      const { rendered } = await render({
        services: { web: { image: 'web:1', volumes: mounts } },
        there: '1\n0\n0\n',
      });
      expect(rendered.findings.map(({ message }) => /`(\w+)`/.exec(message)?.[1])).toEqual(['lost']);
    });
  });

  test.each([
    ['1\n', 0, 1],
    ['0\n', 1, 0],
  ])('a folder that the workspace has too and does not ship (there: %j)', async (there, findings, warnings) => {
    const { rendered } = await render({ files: { 'data/x': '' }, services: bind(`${STAGE}/data`), there });
    expect([rendered.findings.length, rendered.warnings.length]).toEqual([findings, warnings]);
  });

  test.each([
    [{}, 'The Compose file has no services.'],
    [
      { web: { build: {} } },
      'Service web has a `build` and no `image`: Slipway deploys images, and builds nothing on the server.',
    ],
    [{ '-it': { image: 'w' } }, 'Service -it has a name that `docker compose` takes for an option.'],
  ])('what cannot be deployed: %j', async (services, message) => {
    expect((await render({ services })).rendered.findings.map((finding) => finding.message)).toEqual([message]);
  });

  test('a router gets the folder that Slipway writes into, in the place of what is mounted there', async () => {
    const { rendered } = await render({
      files: { 'nginx/slipway/upstreams.conf': '# for development' },
      over: { files: 'nginx' },
      services: {
        web: {
          image: 'nginx:1',
          volumes: [{ type: 'bind', source: `${STAGE}/nginx/slipway`, target: '/etc/nginx/slipway', read_only: true }],
        },
        api: { image: 'api:1', 'x-slipway': { router: 'web', port: 3000 } },
        bare: { image: 'nginx:1' },
        shop: { image: 'shop:1', 'x-slipway': { router: 'bare', port: 80 } },
      },
    });
    const mountsOf = (name: string): unknown[] =>
      (rendered.services.find((service) => service.name === name)?.mounts ?? []).map(
        ({ type, source, target, readOnly }) => [type, source, target, readOnly],
      );
    expect(mountsOf('web')).toEqual([['bind', '/srv/shop/.slipway/router/web', '/etc/nginx/slipway', true]]);
    expect(mountsOf('bare')).toEqual([['bind', '/srv/shop/.slipway/router/bare', '/etc/nginx/slipway', true]]);
    expect([mountsOf('api'), rendered.findings]).toEqual([[], []]);
  });

  test("Compose's own words, without our folders", async () => {
    const failure = render({
      answer: {
        exitCode: 15,
        stderr: `validating ${STAGE}/deploy/compose.yaml: services.web Additional property imag is not allowed`,
      },
    });
    await expect(failure).rejects.toThrow(PreflightError);
    await expect(failure).rejects.toThrow(
      'Docker Compose refuses the Compose file: validating deploy/compose.yaml: services.web Additional property imag is not allowed',
    );
  });

  test('a lost connection stays one', async () => {
    const lost = new Error('lost');
    await expect(render({ answer: lost })).rejects.toBe(lost);
  });

  test('the hashes come from Compose', async () => {
    const { rendered } = await render({ services: { web: { image: 'web:1', environment: { TOKEN: 'SENTINEL' } } } });
    const session = new FakeSession(() => ({ stdout: 'web abc\ndb  def\n\n' }));
    expect(await readHashes(session, rendered.raw, 'shop', layout, new AbortController().signal)).toEqual({
      web: 'abc',
      db: 'def',
    });
    expect(session.commands[0]?.text).not.toContain('SENTINEL');
    expect(session.commands[0]?.stdin).toContain('SENTINEL');
  });
});
