/** Every workflow file: GitHub's parser, GitHub's language service and our own rules find nothing in it. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { validateFile } from '../e2e/harness/github-language.ts';
import { CALLERS, OWN, REUSABLE, ROOT } from './files.ts';
import { findFaults } from './rules.ts';
import { surroundingsOf } from './surroundings.ts';
import { readWorkflow } from './workflow.ts';

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
