import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));
let folder: string;
let program: string;

/** An action whose run() does what its first argument says. */
const ACTION = `import { start } from '${root}shared/src/start';
import { ReleaseError } from '${root}shared/src/errors';
void start(async ({ reporter, signal, clock, workspace, runner }) => {
  reporter.hide('hunter2hunter2');
  switch (process.argv[2]) {
    case 'well': reporter.line('in ' + String(await workspace.exists('here')) + ' ' + runner.context.repository); return;
    case 'known': throw new ReleaseError('It failed with hunter2hunter2.', 'Look at it.');
    case 'defect': throw new TypeError('x is not a function hunter2hunter2');
    case 'text': throw 'only text';
    case 'lingers': setInterval(() => undefined, 1000); return;
    case 'waits': reporter.line('waiting'); await clock.sleep(60, signal); return;
  }
});
`;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'slipway-start-'));
  writeFileSync(join(folder, 'action.ts'), ACTION);
  writeFileSync(join(folder, 'here'), '');
  program = join(folder, 'action.cjs');
  execFileSync(join(root, 'node_modules/.bin/esbuild'), [
    join(folder, 'action.ts'),
    '--bundle',
    '--platform=node',
    '--format=cjs',
    `--outfile=${program}`,
    '--log-level=error',
    '--external:cpu-features',
    '--loader:.node=empty',
    '--define:import.meta.url=importMetaUrl',
    "--banner:js=const importMetaUrl = require('node:url').pathToFileURL(__filename).href;",
  ]);
});

afterAll(() => {
  rmSync(folder, { recursive: true });
});

function begin(what: string): { child: ChildProcess; output: () => string } {
  const child = spawn(process.execPath, [program, what], {
    env: { PATH: process.env['PATH'], GITHUB_WORKSPACE: folder, GITHUB_REPOSITORY: 'acme/shop' },
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (output += String(chunk)));
  return { child, output: () => output };
}

async function run(what: string): Promise<{ code: number | null; output: string }> {
  const { child, output } = begin(what);
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, output: output() };
}

test('an action that ends well', async () => {
  const { code, output } = await run('well');
  expect(code).toBe(0);
  expect(output).toContain('in true acme/shop\n');
});

test('a failure that we know: what happened and what to do, without secrets', async () => {
  const { code, output } = await run('known');
  expect(code).toBe(1);
  expect(output).toContain('::error::It failed with ***.%0ALook at it.');
  expect(output.replaceAll(/^::add-mask::.*$/gm, '')).not.toContain('hunter2');
});

test('a defect: with its stack, without secrets', async () => {
  const { code, output } = await run('defect');
  expect(code).toBe(1);
  expect(output).toMatch(/::error::Unexpected error in Slipway: TypeError: x is not a function \*\*\*%0A {4}at /);
  expect((await run('text')).output).toContain('::error::Unexpected error in Slipway: only text');
});

test('what lingers does not hold a finished step', async () => {
  const started = performance.now();
  expect((await run('lingers')).code).toBe(0);
  expect(performance.now() - started).toBeLessThan(5000);
});

test.each(['SIGINT', 'SIGTERM'] as const)('%s cancels', async (name) => {
  const { child, output } = begin('waits');
  for (let tries = 0; tries < 200 && !output().includes('waiting'); tries++)
    await new Promise((resolve) => setTimeout(resolve, 20));
  child.kill(name);
  const [code] = (await once(child, 'close')) as [number | null];
  expect(code).toBe(1);
  expect(output()).toContain('::error::The workflow was cancelled.');
});
