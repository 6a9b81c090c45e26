import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseManifest } from '../../test/e2e/harness/action-manifest.ts';
import { readInputs, type Inputs } from '../src/inputs';

const MANIFEST = readFileSync(fileURLToPath(new URL('../action.yml', import.meta.url)), 'utf8');
const DEFAULTS = Object.fromEntries(
  parseManifest(MANIFEST, 'action-rollback').inputs.map(({ name, default: value }) => [name, value ?? '']),
);

const read = (given: Readonly<Record<string, string>> = {}): Inputs =>
  readInputs((name) => ({ ...DEFAULTS, host: 'local', ...given })[name] ?? '');

test('the defaults of action.yml', () => {
  expect(read()).toMatchObject({
    release: '',
    list: false,
    confirm: '',
    env: 'target',
    allowSchemaAhead: false,
    preempt: true,
    restoreBackup: '',
    dryRun: false,
    leaseSeconds: 30,
  });
});

test.each(['previous', '20261122T010000Z-aaaaaaa', 'abc1234', 'v1.2', 'release/2026-11', 'v1+build'])(
  '%s can be meant',
  (release) => {
    expect(read({ release }).release).toBe(release);
  },
);

test('all that is wrong is said at once', () => {
  const given = { release: 'a b; $(x)', env: 'old', preempt: 'maybe', 'allow-schema-ahead': 'y', project: 'A B' };
  let message = '';
  try {
    read(given);
  } catch (error) {
    message = String(error);
  }
  for (const name of Object.keys(given)) expect(message).toContain(name);
  expect(message).toMatch(/neither `target` nor `current`/);
});

test('the data of a backup comes back only where its whole id is given', () => {
  expect(read({ 'restore-backup': '20261122T223100Z-k3v9qa' }).restoreBackup).toBe('20261122T223100Z-k3v9qa');
  for (const given of [
    'latest',
    'latest-proven',
    '20261122T223100Z',
    '20261122T223100Z-K3V9QA',
    '../x',
    ' ; true',
    'a\n',
  ]) {
    expect(() => read({ 'restore-backup': given })).toThrow(/restore-backup[^]*mode: list/);
  }
});
