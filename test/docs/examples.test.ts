/**
 * Every YAML block of the documents: workflows and parts of them are valid for GitHub's language service, with the inputs that the actions have;
 * checks are such that action-health-check reads them. Compose files are for test/e2e/docs.test.ts.
 */
import { parseChecks } from '../../shared/src/probes/check.ts';
import { type Surroundings, validateFile } from '../e2e/harness/github-language.ts';
import { surroundingsOf } from '../workflows/surroundings.ts';
import { type Example, exampleOf } from './examples.ts';
import { allDocuments, blocksOf, ROOT } from './markdown.ts';

const OURS = surroundingsOf(ROOT);
/** And what a reader has today, in MIGRATING.md. */
const surroundings: Surroundings = {
  ...OURS,
  actionsMetadataProvider: {
    async fetchActionMetadata(action) {
      if (`${action.owner}/${action.name}` !== 'appleboy/ssh-action')
        return OURS.actionsMetadataProvider?.fetchActionMetadata(action);
      const inputs = ['host', 'username', 'key', 'script'].map((name) => [name, { description: name }] as const);
      return { name: action.name, description: action.name, inputs: Object.fromEntries(inputs) };
    },
  },
};
const blocks = allDocuments()
  .flatMap((document) => blocksOf(document))
  .filter(({ language }) => ['yaml', 'yml'].includes(language));

const faultsOf = async ({ text }: Example): Promise<string[]> =>
  (await validateFile('.github/workflows/example.yml', text, surroundings)).map(
    ({ line, message }) => `${line}: ${message}`,
  );

test.each([...new Set(blocks.map(({ document }) => document))])('%s', async (document) => {
  for (const example of blocks.filter((block) => block.document === document).map(exampleOf)) {
    const faults =
      example.kind === 'workflow' ? await faultsOf(example) : example.kind === 'checks' ? problemsOf(example.text) : [];
    if (faults.length > 0) throw new Error(`${faults.join('\n')}\n\n${example.text}`);
  }
});

test('checks in a line', () => {
  const [block] = blocksOf('action-health-check/README.md').filter(({ language }) => language === 'text');
  expect(problemsOf(block?.text ?? '')).toEqual([]);
});

function problemsOf(text: string): string[] {
  const defaults = { input: 'checks', attempts: 1, intervalSeconds: 1, timeoutSeconds: 1, project: 'shop' };
  const { checks, problems } = parseChecks(text, defaults);
  return checks.length === 0 && problems.length === 0 ? ['no check'] : problems.map(({ message }) => message);
}

test('faults are seen', async () => {
  const of = async (text: string): Promise<string[]> =>
    faultsOf(exampleOf({ document: 'README.md', language: 'yaml', text }));
  expect(await of('- uses: your-org/slipway/action-deploy@v1\n  with: { hots: x, host: y }')).toEqual([
    expect.stringContaining('hots'),
  ]);
  expect(await of('- run: echo ${{ secret.X }}')).toEqual([expect.stringContaining('secret')]);
  expect(problemsOf('- url: https://example.com/\n  statsu: 200')).not.toEqual([]);
  expect(() => exampleOf({ document: 'README.md', language: 'yaml', text: 'migrat: "api: true"' })).toThrow(
    'neither a workflow',
  );
});
