/** infra/nginx with a current nginx: that of the image which the sandbox's projects have. Debian's own is tried in infra/nginx/test. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { jest } from '@jest/globals';
import { describeBehaviour } from '../../infra/nginx/test/behaviour.ts';
import { startMachine } from '../../infra/nginx/test/machine.ts';
import { onServer, startSandbox } from './sandbox.ts';

jest.setTimeout(120_000);

const folder = mkdtempSync('/var/tmp/slipway-nginx-image-');
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

describeBehaviour(
  async () => {
    await startSandbox();
    const image = await onServer(
      'id=$(docker create nginx:1.30) && docker export "$id" | gzip -1 | base64 -w 0; docker rm "$id" >/dev/null',
    );
    execFileSync('tar', ['-xz', '-C', folder], {
      input: Buffer.from(image, 'base64'),
      stdio: ['pipe', 'ignore', 'ignore'],
    });
    return await startMachine(folder);
  },
  { current: true },
);
