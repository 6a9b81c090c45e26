import { readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  checkDirection,
  checkEnvironment,
  checkFileNames,
  checkInputs,
  checkMains,
  checkPackages,
  checkQuoting,
  type Files,
  LAYERS,
  listPackages,
} from './architecture-rules';

const ROOT = fileURLToPath(new URL('..', import.meta.url));

/** Every file of ours below the repository's root, without what is generated or installed. */
function listFiles(folder = ROOT): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) {
      return entry.name.startsWith('.') || ['node_modules', 'dist', 'infra', 'coverage'].includes(entry.name)
        ? []
        : listFiles(path);
    }
    return [relative(ROOT, path)];
  });
}

const paths = listFiles();
const files: Files = new Map(
  paths.filter((path) => path.endsWith('.ts')).map((path) => [path, readFileSync(join(ROOT, path), 'utf8')]),
);

const one = (path: string, text: string): Files => new Map([[path, text]]);

test('the rules see the sources', () => {
  expect([...files.keys()]).toEqual(expect.arrayContaining(['shared/src/start.ts', 'action-deploy/src/main.ts']));
  // A folder of the list that is nowhere would be a rule about nothing.
  const shared = new Set(paths.map((path) => /^shared\/src\/([^/.]+)/.exec(path)?.[1]));
  for (const layer of ['model', 'errors', 'ports', 'shell', 'commands', 'adapters', 'start'] as const) {
    expect(LAYERS).toContain(layer);
    expect(shared).toContain(layer);
  }
});

describe('imports go one way', () => {
  test('here', () => {
    expect(checkDirection(files)).toEqual([]);
  });

  test.each([
    ['shared/src/model/host.ts', `import { InputError } from '../errors';`, 'errors comes after model'],
    ['shared/src/shell/render.ts', `import type { Session } from '../commands/compose';`, 'commands comes after shell'],
    ['shared/src/probes/http.ts', `import { start } from '../start';`, 'start comes after probes'],
    ['shared/src/probes/http.ts', `export { connect } from '../adapters/ssh-session';`, 'adapters comes after probes'],
    ['shared/src/probes/http.ts', `const x = await import('../adapters/clock');`, 'adapters comes after probes'],
    ['shared/src/adapters/clock.ts', `import { plan } from '#shared/strategies/plan';`, 'adapters import only'],
    ['shared/src/errors.ts', `import { plan } from '../../action-deploy/src/plan';`, 'nothing outside shared/src'],
    ['shared/src/magic/wand.ts', ``, 'give it its place there'],
    [
      'action-deploy/src/run.ts',
      `import { connectSsh } from '#shared/adapters/ssh-session';`,
      'only shared/src/start.ts',
    ],
    ['action-deploy/src/run.ts', `import { start } from '#shared/start';`, 'only main.ts does'],
    ['action-deploy/src/run.ts', `import { x } from '../../action-ssl/src/plan';`, 'through shared/ only'],
  ])('a fault in %s is found: %s', (path, text, message) => {
    expect(checkDirection(one(path, text))).toEqual([expect.stringContaining(message)]);
  });
});

describe('each third-party package has one file', () => {
  test('here', () => {
    expect(checkPackages(files)).toEqual([]);
  });

  test('two importers, or one in an action, are found', () => {
    const faulty: Files = new Map([
      ['shared/src/adapters/http-client.ts', `import { Client } from 'undici';`],
      ['shared/src/probes/http.ts', `import type { Client } from 'undici/types/client';`],
      ['action-deploy/src/run.ts', `import * as core from '@actions/core';`],
      ['shared/src/adapters/clock.ts', `import 'node:os';`],
    ]);
    expect([...listPackages(faulty).keys()]).toEqual(['@actions/core', 'undici']);
    expect(checkPackages(faulty)).toEqual([
      'action-deploy/src/run.ts imports @actions/core: only shared/ does',
      'undici is imported in shared/src/adapters/http-client.ts, shared/src/probes/http.ts: keep it to one of them',
    ]);
  });

  test('a third file for a package that has two is found', () => {
    expect(checkPackages(one('shared/src/images/manifest.ts', `import 'yaml';`))).toHaveLength(1);
  });
});

describe('only inputs.ts reads inputs', () => {
  test('here', () => {
    expect(checkInputs(files)).toEqual([]);
  });

  test('handing the reader over is no reading; a call elsewhere is found', () => {
    expect(checkInputs(one('action-ssl/src/run.ts', `const i = readInputs((name) => runner.input(name));`))).toEqual(
      [],
    );
    expect(checkInputs(one('action-ssl/src/run.ts', `\nconst host = runner.input('host');`))).toEqual([
      'action-ssl/src/run.ts:2 reads an input: only inputs.ts does',
    ]);
    expect(checkInputs(one('shared/src/probes/http.ts', `ports.runner.rawInput('x');`))).toHaveLength(1);
  });
});

describe('only adapters and start.ts touch the environment', () => {
  test('here', () => {
    expect(checkEnvironment(files)).toEqual([]);
  });

  test.each([
    `const home = process.env['HOME'];`,
    `const { HOME } = process.env;`,
    `import { env } from 'node:process';`,
  ])('%s elsewhere is found', (text) => {
    expect(checkEnvironment(one('shared/src/commands/compose.ts', text))).toHaveLength(1);
    expect(checkEnvironment(one('shared/src/adapters/clock.ts', text))).toEqual([]);
  });
});

describe('only shell/ quotes and redacts', () => {
  test('here', () => {
    expect(checkQuoting(files)).toEqual([]);
  });

  test.each([
    String.raw`const quoted = word.replaceAll("'", "'\\''");`,
    `const blank = text.replaceAll(secret, '***');`,
    `const line = command.words.join(' ');`,
    `function shellQuote(word: string) {}`,
    `function redactSecrets(text: string) {}`,
  ])('%s elsewhere is found', (text) => {
    expect(checkQuoting(one('shared/src/commands/compose.ts', text))).toHaveLength(1);
    expect(checkQuoting(one('shared/src/shell/render.ts', text))).toEqual([]);
  });
});

describe('file names', () => {
  test('here', () => {
    expect(checkFileNames(paths)).toEqual([]);
  });

  test.each([
    'shared/src/shell/string-utils.ts',
    'shared/src/helpers.ts',
    'shared/src/lockManager.ts',
    'scripts/Build.mjs',
  ])('%s is found', (path) => {
    expect(checkFileNames([path])).not.toEqual([]);
  });

  test('documents and generated files may be called as their tools want', () => {
    expect(checkFileNames(['action-deploy/README.md', 'shared/test/fakes/clock.ts', 'test/a.itg.test.ts'])).toEqual([]);
  });
});

describe('main.ts hands run to start', () => {
  test('here', () => {
    expect(checkMains(files)).toEqual([]);
  });

  test.each([
    `import { start } from '#shared/start';\nimport { run } from './run';\nconsole.log(1);\nvoid start(run);`,
    `import { run } from './run';\nvoid run();`,
    `import { start } from '#shared/start';\nimport { run } from './run';\nstart(run).catch(() => {});`,
  ])('%j does more, or less', (text) => {
    expect(checkMains(one('action-deploy/src/main.ts', text))).toHaveLength(1);
  });
});
