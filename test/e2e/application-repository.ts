/** What the workflows' tests share: an application's repository with the callers in it, and what stands in for the actions of others. */
import { chmod, cp, mkdir, mkdtemp, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { StandIn, StandInRequest } from '../workflows/third-party.ts';
import { buildImage, EXAMPLE, sandboxInfo } from './sandbox.ts';

export const ROOT = fileURLToPath(new URL('../../', import.meta.url));
export const SUITE = { name: 'your-org/slipway', folder: ROOT };

/** A folder with the example's files, as somebody has them who never heard of us. */
export async function makeApplication(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'slipway-shop-'));
  const isOurs = (path: string): boolean => !/\/(node_modules|build)(\/|$)/.test(path.slice(EXAMPLE.length));
  await cp(EXAMPLE, folder, { recursive: true, filter: isOurs });
  return folder;
}

/** Copies a file of infra/workflows; the registry is the one thing that is changed in it. @param name `reusable/deploy` */
export async function copyWorkflow(application: string, name: string): Promise<void> {
  const target = join(application, '.github/workflows', `${name.replace('reusable/', 'reusable-')}.yml`);
  const text = await readFile(join(ROOT, 'infra/workflows', `${name}.yml`), 'utf8');
  await mkdir(dirname(target), { recursive: true });
  await writeFile(target, text.replaceAll('ghcr.io', sandboxInfo().registry.login.address));
}

/** What a hosted runner has: `docker compose`. */
export async function makeTools(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'slipway-tools-'));
  const plugin = Object.values(sandboxInfo().composePlugins).at(-1) ?? '';
  await writeFile(join(folder, 'docker'), `#!/bin/sh\n[ "$1" = compose ] && shift && exec '${plugin}' "$@"\n`);
  await chmod(join(folder, 'docker'), 0o755);
  return folder;
}

export interface AskedOfOthers {
  readonly uses: string;
  readonly with: StandInRequest['with'];
}

/** @param asked gets what was asked of them */
export function standInsFor(application: string, asked: AskedOfOthers[]): readonly StandIn[] {
  const standIn = (uses: string, run: StandIn['run']): StandIn => ({
    uses,
    run: (request) => {
      asked.push({ uses, with: request.with });
      return run(request);
    },
  });
  return [
    standIn('actions/checkout@de0fac2e4500dabe0009e67214ff5f5447ce83dd', async ({ workspace }) => {
      await cp(application, workspace, { recursive: true });
      await mkdir(join(workspace, '.git'));
      await writeFile(join(workspace, '.git/HEAD'), 'ref: refs/heads/main\n');
      return {};
    }),
    standIn('docker/setup-buildx-action@4d04d5d9486b7bd6fa91e7baf45bbb4f8b9deedd', () => Promise.resolve({})),
    standIn(
      'docker/login-action@4907a6ddec9925e35a0a9e82d7399ccc52663121',
      ({ with: { username, password }, github }) => {
        if (username !== github['actor'] || password !== github['token']) throw new Error('unauthorized');
        return Promise.resolve({});
      },
    ),
    // Builds for real, on the server, and pushes to the sandbox's registry.
    standIn(
      'docker/build-push-action@bcafcacb16a39f128d818304e6c9c0c18556b85f',
      async ({ with: inputs, workspace }) => {
        const { tags = '', context = '', 'build-args': argument = '' } = inputs;
        const name = tags.slice(tags.indexOf('/') + 1);
        return { digest: await buildImage(name, join(workspace, context), argument.split('\n')) };
      },
    ),
    standIn('actions/attest@1e69f48acb82d1966a394da916b4c1698aa569d6', () => Promise.resolve({})),
  ];
}
