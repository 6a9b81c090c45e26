/**
 * The computer of somebody who follows the documents: a folder to work in, and programs that know that the name in them is the sandbox's server.
 * `gh` writes down what it is told, as GitHub would, and for which repository.
 */
import { execFileSync } from 'node:child_process';
import { chmod, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const REPOSITORY = fileURLToPath(new URL('../..', import.meta.url));

/** As the documents call the server. */
export const NAME = 'shop.example.com';

export interface Owner {
  readonly home: string;
  /** Commands at a prompt. @returns what they print @throws Error when one fails */
  run(commands: string): string;
  /** The repositories that `gh` was told by GH_REPO, each once; an empty one where it took the folder's. */
  repositories(): Promise<string[]>;
  /** What `gh` was given for this: `secret set SSH_KEY`. Empty where it was not. */
  told(what: string): Promise<string>;
  remove(): Promise<void>;
}

/**
 * @param server with a key that lets root in
 * @param root certificate of an authority that curl is to trust besides, PEM
 */
export async function makeOwner(
  server: { readonly address: string; readonly knownHosts: string; readonly rootKeyFile: string },
  { root }: { readonly root?: string } = {},
): Promise<Owner> {
  const home = await mkdtemp(join(tmpdir(), 'slipway-owner-'));
  const program = async (name: string, body: string): Promise<void> => {
    await writeFile(join(home, 'bin', name), `#!/bin/sh\n${body}\n`);
    await chmod(join(home, 'bin', name), 0o755);
  };
  await mkdir(join(home, 'bin'));
  await symlink(join(REPOSITORY, 'infra'), join(home, 'infra'));
  await writeFile(join(home, 'known_hosts'), server.knownHosts.replaceAll(server.address, NAME));
  const options = [
    `-o HostName=${server.address}`,
    `-o HostKeyAlias=${NAME}`,
    `-o UserKnownHostsFile=${home}/known_hosts`,
    `-o IdentitiesOnly=yes -o BatchMode=yes -i ${server.rootKeyFile}`,
  ].join(' ');
  await program('ssh', `exec /usr/bin/ssh ${options} "$@"`);
  await program('scp', `exec /usr/bin/scp ${options} "$@"`);
  const trust = root === undefined ? '' : `--cacert ${home}/root.pem`;
  if (root !== undefined) await writeFile(join(home, 'root.pem'), root);
  await program(
    'curl',
    `exec /usr/bin/curl --resolve ${NAME}:443:${server.address} --connect-to 127.0.0.1:8080:${server.address}:8080 ${trust} "$@"`,
  );
  await program(
    'gh',
    `echo "\${GH_REPO-}" >>${home}/repositories; { printf '%s\\n' "$*"; case "$*" in *--body*) ;; *) cat ;; esac; echo END; } >>${home}/github`,
  );
  await program('sudo', 'exec "$@"');
  await writeFile(join(home, 'github'), '');
  return {
    home,
    run: (commands) =>
      execFileSync('bash', ['-euo', 'pipefail', '-c', commands], {
        cwd: home,
        env: { ...process.env, PATH: `${home}/bin:${process.env['PATH'] ?? ''}` },
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'pipe'],
      }),
    repositories: async () => [...new Set((await readFile(join(home, 'repositories'), 'utf8')).trim().split('\n'))],
    told: async (what) => (await readFile(join(home, 'github'), 'utf8')).split(`${what}\n`)[1]?.split('END\n')[0] ?? '',
    remove: () => rm(home, { recursive: true, force: true }),
  };
}
