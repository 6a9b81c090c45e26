import { jest } from '@jest/globals';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createReporter, createRunner } from '../../src/adapters/actions-runner';
import type { Reporter } from '../../src/ports';
import { Redactor } from '../../src/shell/redact';

let folder: string;
let written: string;
let reporter: Reporter;
const saved = { ...process.env };

/** One for all tests: the toolkit remembers the first summary file it has seen. */
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'slipway-runner-'));
});

afterAll(() => {
  rmSync(folder, { recursive: true });
});

beforeEach(() => {
  for (const name of ['GITHUB_OUTPUT', 'GITHUB_STATE', 'GITHUB_STEP_SUMMARY']) {
    process.env[name] = join(folder, name);
    writeFileSync(join(folder, name), '');
  }
  written = '';
  jest.spyOn(process.stdout, 'write').mockImplementation((text) => {
    written += String(text);
    return true;
  });
  reporter = createReporter(new Redactor(), { NO_COLOR: '1' });
});

afterEach(() => {
  jest.restoreAllMocks();
  process.env = { ...saved };
});

/** Workflow commands that a runner would obey. */
function obeyed(): string[] {
  const commands: string[] = [];
  let stopped: string | undefined;
  for (const line of written.split(/\r\n|\r|\n/)) {
    if (stopped !== undefined) {
      if (line === `::${stopped}::`) stopped = undefined;
    } else if (line.startsWith('::stop-commands::')) stopped = line.slice('::stop-commands::'.length);
    else if (/^\s*::/.test(line) || line.includes('##[')) commands.push(line);
  }
  expect(stopped).toBeUndefined();
  return commands;
}

test.each([
  '::error::owned',
  '  ::set-env name=PATH::/evil',
  'fine\n::add-mask::e',
  'fine\r::warning::x',
  '##[error]owned',
  '::stop-commands::guess\n::guess::\n::error::x',
  'a\0b::error::',
])('%j of a server is shown and not obeyed', (text) => {
  reporter.remote(text);
  reporter.line(text);
  expect(obeyed()).toEqual([]);
  expect(written).not.toContain('\0');
});

test('secrets are hidden in everything that is shown', async () => {
  reporter.hide('hunter2hunter2');
  expect(obeyed().some((command) => command === '::add-mask::hunter2hunter2')).toBe(true);
  written = '';
  reporter.line('password hunter2hunter2');
  reporter.remote('password hunter2hunter2');
  reporter.notice('hunter2hunter2', 'hunter2hunter2');
  reporter.warning('hunter2hunter2', 'hunter2hunter2');
  reporter.error('hunter2hunter2', 'hunter2hunter2');
  await reporter.group('hunter2hunter2', () => Promise.resolve());
  await reporter.summary('hunter2hunter2');
  expect(written + readFileSync(join(folder, 'GITHUB_STEP_SUMMARY'), 'utf8')).not.toContain('hunter2');
  expect(reporter.redact('hunter2hunter2')).toBe('***');
});

test('after ten annotations of a kind the rest goes to the log', () => {
  for (let count = 0; count < 12; count++) reporter.warning('Slipway', `number ${count}`);
  expect(obeyed()).toHaveLength(10);
  expect(written).toContain('warning: Slipway: number 11');
});

test('a summary stays below 1 MiB, and is whole text', async () => {
  await reporter.summary('é'.repeat(1024 * 1024));
  const bytes = readFileSync(join(folder, 'GITHUB_STEP_SUMMARY'));
  expect(bytes.byteLength).toBeLessThan(1024 * 1024);
  expect(bytes.toString()).toMatch(/^é[\s\S]*\(cut: over 1 MiB\)\s*$/);
  expect(bytes.toString()).not.toContain('\u{fffd}');
});

test('inputs, outputs, state and context', () => {
  process.env['INPUT_KEEP-RELEASES'] = ' 5 ';
  process.env['STATE_release'] = 'R';
  const runner = createRunner({
    GITHUB_REPOSITORY: 'acme/shop',
    GITHUB_RUN_ID: '7',
    GITHUB_SHA: 'abc',
    GITHUB_REF: 'refs/heads/main',
    GITHUB_ACTOR: 'alice',
    GITHUB_WORKSPACE: '/w',
    GITHUB_EVENT_NAME: 'workflow_dispatch',
  });
  expect(runner.context).toEqual({
    event: 'workflow_dispatch',
    workspace: '/w',
    repository: 'acme/shop',
    commit: 'abc',
    ref: 'refs/heads/main',
    actor: 'alice',
    runUrl: 'https://github.com/acme/shop/actions/runs/7',
  });
  expect(createRunner({}).context).toMatchObject({ repository: '', runUrl: '', actor: '' });
  expect([
    runner.input('keep-releases'),
    runner.rawInput('keep-releases'),
    runner.input('missing'),
    runner.state('release'),
  ]).toEqual(['5', ' 5 ', '', 'R']);
  runner.setOutput('plan', 'two\nlines\nresult=forged');
  runner.saveState('phase', 'post');
  const output = readFileSync(join(folder, 'GITHUB_OUTPUT'), 'utf8');
  expect(output).toMatch(/^plan<<(ghadelimiter_[0-9a-f-]+)\ntwo\nlines\nresult=forged\n\1\n$/);
  expect(readFileSync(join(folder, 'GITHUB_STATE'), 'utf8')).toContain('post');
});
