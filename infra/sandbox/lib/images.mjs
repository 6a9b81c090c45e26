// Images: built on a server, pushed to the sandbox's registry.
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { getCacheDir, isImagesReady, keepRegistry, SANDBOX_DIR, withCacheLock, copyRegistry } from './cache.mjs';
import { describeRegistry, getRegistryStorage, mountBlobs, readDigest, readLayers } from './instance.mjs';
import {
  describeServer,
  execInServer,
  isRunning,
  keepImageStore,
  listServers,
  resetServer,
  toExecArgv,
} from './server.mjs';
import { progress, readText, SandboxError } from './system.mjs';

/** nginx's minor version is what Debian's "forky" has; the others are fixed by what they are made from. */
function describeBaseImages(images) {
  const nginx = readText(path.join(images, 'nginx.version'))?.trim() ?? '1.30';
  const [major, minor] = nginx.split('.');
  return { postgres: ['15'], redis: ['7'], node: ['24'], busybox: ['1'], nginx: [`${major}.${minor}`] };
}

/** Builds the base images on the first server and pushes them, or takes them from the cache if another sandbox just did. */
export async function ensureBaseImages(instance) {
  const servers = listServers(instance).map((name) => describeServer(instance, name));
  await withCacheLock(async () => {
    const storage = getRegistryStorage(instance);
    if (isImagesReady(instance.cacheKey)) return copyRegistry(instance.cacheKey, storage);
    const [server] = servers;
    const contents = path.join(getCacheDir(instance.cacheKey), 'images');
    progress('building the base images');
    const context = await openContext(server, [
      ['-C', contents, '.'],
      ['-C', path.join(SANDBOX_DIR, 'images'), '.'],
    ]);
    const base = Object.entries(describeBaseImages(contents));
    for (const [name, tags] of base) {
      await buildAndPush(instance, server, { context, name, tags, target: name });
      progress(`image ${name}:${tags.join(', ')}`);
    }
    await resetServer(server, { empty: true }); // leaves no trace of the builds on it
    for (const [name, [tag]] of base) {
      const pulled = await execInServer(server, ['docker', 'pull', '--quiet', `${name}:${tag}`]);
      if (pulled.code !== 0)
        throw new SandboxError(`Pulling ${name}:${tag} on ${server.name} failed: ${pulled.stderr.trim()}`);
    }
    await keepImageStore(server);
    await keepRegistry(instance.cacheKey, storage);
    progress('base images cached');
  });
  await Promise.all(servers.map((server) => resetServer(server))); // now with the base images on them
}

/** Sends files into a fresh folder on the server. @returns the folder */
async function openContext(server, parts, excludes = []) {
  const dir = `/var/tmp/sandbox-build-${randomBytes(4).toString('hex')}`;
  for (const part of parts) {
    const pack = spawn('tar', [...excludes.map((name) => `--exclude=./${name}`), '-cf', '-', ...part], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const argv = toExecArgv(server, ['sh', '-c', 'mkdir -p "$1" && exec tar -C "$1" --no-same-owner -xf -', 'sh', dir]);
    const unpack = spawn(argv[0], argv.slice(1), { stdio: ['pipe', 'ignore', 'pipe'] });
    let said = '';
    for (const child of [pack, unpack]) child.stderr.on('data', (data) => (said += data));
    unpack.stdin.on('error', () => {});
    pack.stdout.pipe(unpack.stdin);
    const [[packed], [unpacked]] = await Promise.all([once(pack, 'close'), once(unpack, 'close')]);
    if (packed !== 0 || unpacked !== 0)
      throw new SandboxError(`Sending the build context to ${server.name} failed:\n${said.trim()}`);
  }
  return dir;
}

/** A name without a slash is also pushed as Docker Hub names it, so that "image: postgres:15" finds it through the mirror. */
const listNames = (name) => (name.includes('/') ? [name] : [name, `library/${name}`]);

async function buildAndPush(instance, server, { context, name, tags, dockerfile, target, buildArgs = [], onOutput }) {
  const { open } = describeRegistry(instance);
  const references = tags.flatMap((tag) => listNames(name).map((each) => `${open}/${each}:${tag}`));
  const argv = ['docker', 'build', '--quiet'];
  if (onOutput) argv[2] = '--progress=plain';
  if (dockerfile) argv.push('-f', path.posix.join(context, dockerfile));
  if (target) argv.push('--target', target);
  for (const value of buildArgs) argv.push('--build-arg', value);
  for (const reference of references) argv.push('-t', reference);
  const built = await execInServer(server, [...argv, context]);
  if (onOutput) onOutput(built.stdout + built.stderr);
  if (built.code !== 0)
    throw new SandboxError(
      `Building the image ${name} on ${server.name} failed.\n${built.stderr.trimEnd()}`,
      'A build here reaches only the sandbox’s registry, not the internet: copy what is built beforehand.',
    );
  for (const reference of references) {
    const pushed = await execInServer(server, ['docker', 'push', '--quiet', reference]);
    if (pushed.code !== 0)
      throw new SandboxError(`Pushing ${reference} from ${server.name} failed: ${pushed.stderr.trim()}`);
  }
  await execInServer(server, ['docker', 'image', 'rm', ...references]);
}

/**
 * Builds an image from a folder and pushes it.
 * @param {{on?: string, dockerfile?: string, target?: string, buildArgs?: string[], verbose?: boolean}} options on: the server to build on
 * @returns {Promise<{name: string, tag: string, reference: string, hubReference: string, digest: string}>}
 */
export async function buildImage(instance, nameAndTag, dir, options = {}) {
  const match = /^([a-z0-9]+(?:[._/-][a-z0-9]+)*)(?::([A-Za-z0-9_][\w.-]{0,127}))?$/.exec(nameAndTag);
  if (!match) throw new SandboxError(`"${nameAndTag}" is no image name.`, 'Use NAME or NAME:TAG, such as web:1.');
  const [, name, tag = 'latest'] = match;
  const dockerfile = options.dockerfile ?? 'Dockerfile';
  if (!fs.existsSync(path.join(dir, dockerfile)))
    throw new SandboxError(
      `There is no ${dockerfile} in ${path.resolve(dir)}.`,
      'Give the folder that has it, or --dockerfile FILE relative to the folder.',
    );
  const on = options.on ?? listServers(instance).find((each) => isRunning(describeServer(instance, each)));
  if (!on) throw new SandboxError('No server is running to build on.', 'Start one: sandbox.mjs up');
  const server = describeServer(instance, on);
  const context = await openContext(server, [['-C', dir, '.']], listPlainExcludes(dir));
  await mountBaseLayers(instance, listNames(name), fs.readFileSync(path.join(dir, dockerfile), 'utf8'));
  try {
    await buildAndPush(instance, server, {
      context,
      name,
      tags: [tag],
      dockerfile,
      target: options.target,
      buildArgs: options.buildArgs,
      onOutput: options.verbose ? (text) => process.stderr.write(text) : undefined,
    });
  } finally {
    await execInServer(server, ['rm', '-rf', context]);
  }
  const { open } = describeRegistry(instance);
  return {
    name,
    tag,
    reference: `${open}/${name}:${tag}`,
    hubReference: `${name}:${tag}`,
    digest: await readDigest(instance, name, tag),
  };
}

/**
 * Lets the registry know the layers of what a Dockerfile builds on under the new name, too: Docker would compress and send them
 * again (it does not know that its mirror and its push target are one), which takes ten times as long as the rest.
 */
async function mountBaseLayers(instance, names, text) {
  const bases = new Set([...text.matchAll(/^FROM\s+(?:--\S+\s+)*([a-z0-9._-]+:[\w.-]+)/gim)].map((match) => match[1]));
  for (const base of bases) {
    const [name, tag] = base.split(':');
    const layers = await readLayers(instance, `library/${name}`, tag);
    for (const target of names) await mountBlobs(instance, target, `library/${name}`, layers);
  }
}

/** .dockerignore's plain top-level names need not even be sent; everything finer is Docker's to judge. */
function listPlainExcludes(dir) {
  const lines = (readText(path.join(dir, '.dockerignore')) ?? '').split('\n').map((line) => line.trim());
  if (lines.some((line) => line.startsWith('!'))) return [];
  return lines
    .map((line) => line.replace(/^\/|\/$/g, ''))
    .filter((line) => /^[\w.@-]+$/.test(line) && line !== '.' && line !== 'Dockerfile');
}
