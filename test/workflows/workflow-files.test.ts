/** Every workflow file: GitHub's parser, GitHub's language service and our own rules find nothing in it. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { validateFile } from '../e2e/harness/github-language.ts';
import { findFaults } from './rules.ts';
import { surroundingsOf } from './surroundings.ts';
import { readWorkflow } from './workflow.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));

const list = (folder: string, name = /^[^.].*\.ya?ml$/): string[] =>
  readdirSync(join(ROOT, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && name.test(entry.name))
    .map((entry) => relative(ROOT, join(entry.parentPath, entry.name)))
    .sort();

const REUSABLE = list('.github/workflows');
const CALLERS = list('infra/workflows');
/** This repository's own have a leading dot, and are nobody's to copy. */
const OWN = list('.github/workflows', /^\..*\.ya?ml$/);
const surroundings = surroundingsOf(ROOT);

test('all of them are looked at', () => {
  expect(REUSABLE.map((path) => path.replace('.github/workflows/', ''))).toEqual([
    'backup.yml',
    'deploy.yml',
    'health.yml',
    'plan.yml',
    'rollback.yml',
    'ssl.yml',
  ]);
});

test.each([...REUSABLE, ...CALLERS, ...OWN])('%s', async (path) => {
  const text = readFileSync(join(ROOT, path), 'utf8');
  const inPlace = path.replace('infra/workflows/', '.github/workflows/');
  const workflow = await readWorkflow(inPlace, text);
  expect(await validateFile(inPlace, text, surroundings)).toEqual([]);
  const exists = (one: string): boolean => existsSync(join(ROOT, one));
  expect(findFaults(workflow, { exists, isReusable: REUSABLE.includes(path) })).toEqual([]);
});
