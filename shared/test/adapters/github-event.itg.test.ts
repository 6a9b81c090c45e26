import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openGithub } from '../../src/adapters/github';
import { Secret } from '../../src/model/secret';

// A file of its own: the library reads the event once, as it loads.
test('an event file that is cut off costs the record and nothing else', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'slipway-event-'));
  process.env['GITHUB_EVENT_PATH'] = join(folder, 'event.json');
  try {
    writeFileSync(join(folder, 'event.json'), '{"repository": {');
    const github = openGithub(new Secret('ghs_token'), { GITHUB_REPOSITORY: 'acme/shop' });
    expect(
      await github.find({ commit: 'abc', environment: 'production', task: 'deploy', description: '', payload: {} }),
    ).toEqual({
      ok: false,
      problem: {
        message: "The library for GitHub's API could not be loaded: is the file at GITHUB_EVENT_PATH whole?",
        hint: '',
        transient: false,
      },
    });
  } finally {
    Reflect.deleteProperty(process.env, 'GITHUB_EVENT_PATH');
    rmSync(folder, { recursive: true });
  }
});
