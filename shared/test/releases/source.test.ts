import fc from 'fast-check';
import { describeSource, listEnvFiles, parseSource } from '../../src/releases/source';

test('what a release was made from comes back as it was', async () => {
  const mounts = { 'deploy/nginx': `${'a'.repeat(64)}/nginx`, 'it; s $(x)': 'b/c' };
  const source = { directory: 'deploy', composeFiles: ['compose.yaml', '../more.yaml'], mounts };
  const entries = [{ path: 'deploy/compose.yaml', content: 'services: {}' }];
  const [json, tar] = await describeSource(source, entries);
  expect(json?.path).toBe('source.json');
  expect(parseSource(String(json?.content))).toEqual({ ...source, hasDotEnv: false });
  expect(tar?.path).toBe('source.tar');
  expect(Buffer.from(tar?.content ?? '').toString()).toContain('services: {}');
});

test('a .env of the workspace beside the Compose file counts, another one does not', async () => {
  const source = { directory: 'deploy', composeFiles: [], mounts: {} };
  const has = async (path: string): Promise<unknown> => {
    const [json] = await describeSource(source, [{ path, content: '' }]);
    return parseSource(String(json?.content))?.hasDotEnv;
  };
  expect(await has('deploy/.env')).toBe(true);
  expect(await has('.env')).toBe(false);
  expect(listEnvFiles(true)).toEqual(['.env', '.slipway-variables']);
  expect(listEnvFiles(false)).toEqual(['.slipway-variables']);
});

test('any other text is none, and never an exception', () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
      const source = parseSource(text);
      if (source === undefined) return;
      expect(Object.values(source.mounts).every((path) => typeof path === 'string')).toBe(true);
      expect(source.composeFiles.every((file) => typeof file === 'string')).toBe(true);
    }),
    { numRuns: 1000 },
  );
  expect(parseSource('')).toBeUndefined();
  expect(parseSource('{"mounts":null}')).toBeUndefined();
});
