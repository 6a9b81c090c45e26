#!/usr/bin/env node
// The sandbox: disposable, production-like servers on one Linux machine. See README.md, or: sandbox.mjs help
//
// Also a module: import { up, info, execute } from '.../infra/sandbox/sandbox.mjs'. The functions are about the instance that
// SLIPWAY_SANDBOX names, throw SandboxError with a message for the user, and print nothing but progress on stderr.
import * as fs from 'node:fs';
import { isIPv4 } from 'node:net';
import * as path from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import * as acme from './lib/acme.mjs';
import * as cache from './lib/cache.mjs';
import * as images from './lib/images.mjs';
import * as inst from './lib/instance.mjs';
import { checkRequirements, checkRoot } from './lib/requirements.mjs';
import * as srv from './lib/server.mjs';
import { listMounts, progress, removeTree, SandboxError, setQuiet } from './lib/system.mjs';

export { SandboxError, setQuiet };

const serverOf = (name) => srv.describeServer(inst.getInstance(), name);

/**
 * Makes what is missing and reuses what runs.
 * @param {{servers?: number}} options how many servers there shall be at least (default: those there are, else 1)
 * @returns the same as info()
 */
export async function up({ servers } = {}) {
  if (servers !== undefined && !(Number.isInteger(servers) && servers >= 1 && servers <= 200)) {
    throw new SandboxError(`--servers ${servers} is no usable number of servers.`, 'Use 1 to 200.');
  }
  await checkRequirements();
  return inst.withInstanceLock(async () => {
    const instance = await prepareInstance();
    await cache.ensureRootfs(instance.cacheKey);
    await inst.ensureNetwork(instance);
    const haveImages = cache.isImagesReady(instance.cacheKey);
    if (haveImages && !fs.existsSync(inst.getRegistryStorage(instance)))
      await cache.copyRegistry(instance.cacheKey, inst.getRegistryStorage(instance));
    await srv.ensureDeployKey(instance);
    const there = srv.listServers(instance);
    const names = Array.from({ length: Math.max(servers ?? 1, there.length) }, (_, index) => `s${index + 1}`);
    const [registry, ...results] = await Promise.allSettled([
      inst.startRegistry(instance),
      ...names.map(async (name) => {
        const server = srv.describeServer(instance, name, { mustExist: false });
        if (srv.isRunning(server) && there.includes(name)) {
          if (!srv.isFrozen(server)) await srv.waitReady(server);
          return;
        }
        await srv.createServer(instance, name);
        await srv.startServer(server);
        progress(`server ${name} is up at ${server.address}`);
      }),
    ]);
    const failed = [registry, ...results].find((result) => result.status === 'rejected');
    if (failed) throw failed.reason;
    if (!haveImages) await images.ensureBaseImages(instance);
    progress(
      `the sandbox "${instance.instance}" is up: ${names.length} server(s), registry ${inst.describeRegistry(instance).open}`,
    );
    return describe(instance);
  });
}

/** The instance's record; a new one, or one on a newer cache, where nothing of the old one runs. */
async function prepareInstance() {
  const key = await cache.chooseCacheKey();
  let instance = inst.findInstance();
  if (instance && instance.cacheKey !== key) {
    const running = srv.listServers(instance).some((name) => srv.isRunning(srv.describeServer(instance, name)));
    if (running && fs.existsSync(cache.getCacheDir(instance.cacheKey))) {
      progress(
        'note: the servers that run were built from an older state of infra/sandbox or of Debian; "down" and "up" renews them',
      );
      return instance;
    }
    await removeInstance(instance);
    instance = undefined;
  }
  if (!instance) {
    await removeTree(inst.getStateDir()); // what is left without a record is nobody's
    instance = await inst.createInstance(key);
  }
  return instance;
}

function describe(instance) {
  const servers = srv.listServers(instance).map((name) => {
    const server = srv.describeServer(instance, name);
    return {
      name,
      address: server.address,
      port: 22,
      user: 'deploy',
      keyFile: srv.getDeployKey(instance),
      knownHosts: srv.readKnownHosts(server),
      ...(srv.isBare(server) && { bare: true, rootKeyFile: srv.getRootKey(instance) }),
    };
  });
  const net = inst.describeNetwork(instance);
  return {
    instance: instance.instance,
    network: { cidr: net.cidr, host: net.host, interface: net.hostLink },
    servers,
    registry: inst.describeRegistry(instance),
    composePlugins: cache.listComposePlugins(instance.cacheKey),
    stateDir: instance.stateDir,
  };
}

/** What a test needs to know: addresses, keys, registry. */
export function info() {
  checkRoot();
  return describe(inst.getInstance());
}

/** Removes this instance; with all: every instance and the caches. */
export async function down({ all = false } = {}) {
  checkRoot();
  if (!all) {
    return inst.withInstanceLock(
      async () => {
        const instance = inst.findInstance();
        if (instance) await removeInstance(instance);
        else await removeTree(inst.getStateDir());
        progress(`the sandbox "${inst.getInstanceName()}" is gone`);
      },
      { remove: true },
    );
  }
  for (const record of cache.listInstances()) {
    await removeInstance(inst.findInstance(record.instance));
    progress(`the sandbox "${record.instance}" is gone`);
  }
  await cache.removeCache();
  await removeTree(cache.getHome());
  progress(`caches and ${cache.getHome()} are gone`);
}

async function removeInstance(instance) {
  const results = await Promise.allSettled([
    ...srv.listServers(instance).map((name) => srv.removeServer(srv.describeServer(instance, name))),
    inst.stopRegistry(instance),
    acme.stopAcme(instance),
  ]);
  for (const result of results) if (result.status === 'rejected') progress(`while removing: ${result.reason.message}`);
  await srv.removeCgroups(instance);
  await inst.removeNetwork(instance);
  await removeTree(instance.stateDir);
  if (listMounts(instance.stateDir).length > 0)
    throw new SandboxError(`Something is still mounted below ${instance.stateDir}.`);
}

/** Runs a command as root in a server. @returns {Promise<{code: number, stdout: string, stderr: string}>} */
export async function execute(name, argv, { input } = {}) {
  const server = serverOf(name);
  srv.requireRunning(server);
  return srv.execInServer(server, argv, { input });
}

const forEach = (action) => async (names) => {
  checkRoot();
  const servers = [names].flat().map(serverOf);
  return inst.withInstanceLock(async () => {
    await Promise.all(servers.map(action));
  });
};
/**
 * Servers (one name or several) back to pristine: same address, same host keys, empty disk but for the base images.
 * @param {{empty?: boolean, bare?: boolean}} options empty: without the base images, too; bare: as a provider hands a server over, without
 *   Docker and the user deploy; `info` then has the key of root
 */
export const reset = (names, { empty = false, bare = false } = {}) =>
  forEach((server) => srv.resetServer(server, { empty, bare }))(names);
/** Clean reboot; returns when the server is up again. */
export const reboot = forEach(srv.rebootServer);
/** The power plug pulled: nothing is flushed, stopped or said. */
export const poweroff = forEach(srv.killServer);
/** Power back on (also after a power-off from inside); returns when the server is up. */
export const start = forEach((server) => srv.startServer(server));
/** All processes stand still, sshd too; connections hang. */
export const hang = forEach(srv.freeze);
export const resume = forEach(srv.thaw);
/** The cable pulled: packets vanish both ways, nobody is told. */
export const cut = forEach((server) => srv.changeLink(server, { cut: true }));
export const join = forEach((server) => srv.changeLink(server, { cut: false }));
export const unslow = forEach((server) =>
  srv.changeLink(server, { rate: undefined, delay: undefined, from: undefined }),
);
export const unfill = forEach(srv.unfillDisk);

/**
 * @param {{rate?: string, delay?: number, from?: string}} link rate as tc says it (1mbit); delay in milliseconds each way, of
 *   everything or only of what goes between an IPv4 address (this machine's is `info().network.host`) and the server
 */
export async function slow(names, { rate, delay, from } = {}) {
  if (rate === undefined && delay === undefined)
    throw new SandboxError('slow: neither a rate nor a delay was given.', 'Use --rate 1mbit, --delay 50, or --off.');
  if (rate !== undefined && !/^\d+[kmg]?(bit|bps)$/.test(rate))
    throw new SandboxError(`slow: "${rate}" is no rate.`, 'Use tc’s words, such as 1mbit or 200kbit.');
  if (delay !== undefined && !(Number(delay) > 0 && Number(delay) <= 60000))
    throw new SandboxError(`slow: "${delay}" is no delay.`, 'Use milliseconds, more than 0.');
  if (from !== undefined && (delay === undefined || !isIPv4(from)))
    throw new SandboxError(
      `slow: "${from}" is no IPv4 address, or there is no delay.`,
      'Use --delay 50 --from 10.0.0.1.',
    );
  const change = {};
  if (rate !== undefined) change.rate = rate;
  if (delay !== undefined) Object.assign(change, { delay: String(Number(delay)), from });
  await forEach((server) => srv.changeLink(server, change))(names);
}

/** Leaves only so much room ("20M") on the server's one disk. */
export async function fill(names, { leave } = {}) {
  await forEach((server) => srv.fillDisk(server, leave))(names);
}

/** Builds an image from a folder on a server and pushes it to the registry. See images.mjs for the options. */
export async function build(nameAndTag, dir, options) {
  checkRoot();
  return images.buildImage(inst.getInstance(), nameAndTag, dir, options);
}

/** The registry goes away and comes back, as registries do. */
export async function stopRegistry() {
  checkRoot();
  await inst.stopRegistry(inst.getInstance());
}
export async function startRegistry() {
  checkRoot();
  await inst.startRegistry(inst.getInstance());
}

/**
 * An ACME certificate authority and the DNS that it asks, on the lan. Starting it again makes another authority.
 * @param {{validitySeconds?: number, nonceRejectPercent?: number}} [options]
 */
export async function startAcme(options) {
  checkRoot();
  return inst.withInstanceLock(() => acme.startAcme(inst.getInstance(), options));
}
export async function stopAcme() {
  checkRoot();
  await acme.stopAcme(inst.getInstance());
}
/** Lets a server install certbot, nginx and sudo with apt, and look names up in the authority's DNS. */
export async function offerPackages(name) {
  checkRoot();
  await acme.offerPackages(inst.getInstance(), serverOf(name));
}

export function status() {
  checkRoot();
  const instance = inst.findInstance();
  if (!instance) return { instance: inst.getInstanceName(), up: false, servers: [] };
  return {
    instance: instance.instance,
    up: true,
    network: inst.describeNetwork(instance).cidr,
    registry: { ...inst.describeRegistry(instance), running: inst.isRegistryRunning(instance) },
    servers: srv.listServers(instance).map((name) => {
      const server = srv.describeServer(instance, name);
      const link = srv.readLink(server);
      const state = !srv.isRunning(server) ? 'off' : srv.isFrozen(server) ? 'hung' : 'running';
      return {
        name,
        address: server.address,
        state,
        link: [link.cut && 'cut', link.rate, link.delay && `${link.delay} ms`].filter(Boolean).join(', ') || 'good',
        console: server.console,
      };
    }),
  };
}

const HELP = `Disposable, production-like servers on this machine: systemd, sshd, Docker Engine and Compose v2 each.

  up [--servers N] [--json]       make what is missing, reuse what runs
  down [--all]                    remove this sandbox (--all: every sandbox, and the caches)
  info [--json]                   addresses, keys, known_hosts, registry
  status [--json]                 what runs, for people
  exec NAME -- CMD...             run as root in a server (stdin and exit code are passed on)
  ssh NAME [CMD...]               log in as the unprivileged user "deploy"
  build NAME[:TAG] DIR [--dockerfile F] [--target T] [--build-arg K=V]... [--on NAME] [--verbose] [--json]
                                  build an image on a server, push it to the registry
  reset NAME... [--empty|--bare]  pristine again: same address and host keys, nothing on its disk but the base images
                                  (--empty: not even these; --bare: no Docker and no user deploy either, root has a key)
  reboot NAME...                  clean reboot
  poweroff NAME... / start NAME...   hard power-off / power on
  hang NAME... / resume NAME...   all its processes stand still / go on
  cut NAME... / join NAME...      drop all its packets silently / let them through
  slow NAME... [--rate 1mbit] [--delay 50 [--from IP]] | --off   limit the rate, delay packets (ms each way)
  fill NAME... [--leave 20M] / unfill NAME...          fill its disk / give it back
  registry stop|start             the registry goes away / comes back
  acme start [--validity SECONDS] | stop               an ACME authority (pebble) and its test DNS server, on the lan
  offer-packages NAME...          lets a server install certbot, nginx and sudo, and ask that DNS server

Servers are named s1, s2 ... The environment variable SLIPWAY_SANDBOX names the sandbox (default "default"), several
can live side by side; SLIPWAY_SANDBOX_HOME says where they live (default /var/tmp/slipway-sandbox).
`;

async function main(args) {
  const dashes = args.indexOf('--');
  const own = dashes === -1 ? args : args.slice(0, dashes);
  const rest = dashes === -1 ? [] : args.slice(dashes + 1);
  const [verb = 'help', ...words] = own;
  const parse = (options) => {
    try {
      return parseArgs({ args: words, options, allowPositionals: true });
    } catch (error) {
      throw new SandboxError(`${verb}: ${error.message}`, 'See: sandbox.mjs help');
    }
  };
  const print = (text) => process.stdout.write(text);
  const printJson = (value) => print(`${JSON.stringify(value, null, 2)}\n`);
  const needNames = (names) => {
    if (names.length === 0) throw new SandboxError(`${verb}: which server?`, `For example: sandbox.mjs ${verb} s1`);
    return names;
  };
  const json = { type: 'boolean', default: false };

  switch (verb) {
    case 'up': {
      const { values } = parse({ servers: { type: 'string' }, json });
      const result = await up({ servers: values.servers === undefined ? undefined : Number(values.servers) });
      if (values.json) printJson(result);
      return 0;
    }
    case 'down':
      await down(parse({ all: { type: 'boolean', default: false } }).values);
      return 0;
    case 'info': {
      const { values } = parse({ json });
      const result = info();
      if (values.json) printJson(result);
      else {
        for (const server of result.servers)
          print(`${server.name}  ssh -i ${server.keyFile} -p ${server.port} ${server.user}@${server.address}\n`);
        const { login } = result.registry;
        print(
          `registry  ${result.registry.open}, with login ${login.address} (${login.username} / ${login.password})\n`,
        );
      }
      return 0;
    }
    case 'status': {
      const { values } = parse({ json });
      const result = status();
      if (values.json) printJson(result);
      else if (!result.up) print(`The sandbox "${result.instance}" is not up. Make it: sandbox.mjs up\n`);
      else {
        print(`sandbox "${result.instance}", network ${result.network}\n`);
        for (const { name, address, state, link } of result.servers)
          print(`  ${name.padEnd(5)} ${address.padEnd(14)} ${state.padEnd(8)} link: ${link}\n`);
        print(
          `  registry ${result.registry.open} and ${result.registry.login.address} ${result.registry.running ? 'running' : 'stopped'}\n`,
        );
      }
      return 0;
    }
    case 'exec': {
      const [name, ...more] = words;
      const argv = rest.length > 0 ? rest : more;
      if (!name || argv.length === 0)
        throw new SandboxError('exec: give a server and a command.', 'For example: sandbox.mjs exec s1 -- docker ps');
      checkRoot();
      const server = serverOf(name);
      srv.requireRunning(server);
      return srv.execAttached(server, argv);
    }
    case 'ssh': {
      const [name, ...more] = words;
      checkRoot();
      const server = serverOf(needNames(name ? [name] : [])[0]);
      const knownHosts = path.join(server.dir, 'known_hosts');
      fs.writeFileSync(knownHosts, srv.readKnownHosts(server));
      const key = srv.getDeployKey(inst.getInstance());
      return srv.spawnAttached([
        'ssh',
        '-i',
        key,
        '-o',
        'IdentitiesOnly=yes',
        '-o',
        `UserKnownHostsFile=${knownHosts}`,
        '-o',
        'StrictHostKeyChecking=yes',
        '-o',
        'LogLevel=ERROR',
        `deploy@${server.address}`,
        ...more,
        ...rest,
      ]);
    }
    case 'build': {
      const { values, positionals } = parse({
        dockerfile: { type: 'string' },
        target: { type: 'string' },
        'build-arg': { type: 'string', multiple: true },
        on: { type: 'string' },
        verbose: { type: 'boolean', default: false },
        json,
      });
      const [name, dir] = positionals;
      if (!name || !dir)
        throw new SandboxError(
          'build: give an image name and a folder.',
          'For example: sandbox.mjs build web:1 infra/example',
        );
      const result = await build(name, dir, { ...values, buildArgs: values['build-arg'] });
      if (values.json) printJson(result);
      else print(`${result.reference}@${result.digest}\n`);
      return 0;
    }
    case 'slow': {
      const { values, positionals } = parse({
        rate: { type: 'string' },
        delay: { type: 'string' },
        from: { type: 'string' },
        off: { type: 'boolean', default: false },
      });
      if (values.off) await unslow(needNames(positionals));
      else await slow(needNames(positionals), values);
      return 0;
    }
    case 'fill': {
      const { values, positionals } = parse({ leave: { type: 'string' } });
      await fill(needNames(positionals), values);
      return 0;
    }
    case 'registry':
      if (words[0] === 'stop') await stopRegistry();
      else if (words[0] === 'start') await startRegistry();
      else throw new SandboxError('registry: stop or start?');
      return 0;
    case 'acme': {
      const { values, positionals } = parse({ validity: { type: 'string', default: String(90 * 86_400) } });
      if (positionals[0] === 'stop') await stopAcme();
      else if (positionals[0] === 'start' && /^[1-9]\d{0,8}$/.test(values.validity))
        printJson(await startAcme({ validitySeconds: Number(values.validity) }));
      else throw new SandboxError('acme: stop, or start [--validity SECONDS]?');
      return 0;
    }
    case 'offer-packages':
      for (const name of needNames(parse({}).positionals)) await offerPackages(name);
      return 0;
    case 'reset': {
      const { values, positionals } = parse({
        empty: { type: 'boolean', default: false },
        bare: { type: 'boolean', default: false },
      });
      await reset(needNames(positionals), values);
      return 0;
    }
    case 'reboot':
    case 'poweroff':
    case 'start':
    case 'hang':
    case 'resume':
    case 'cut':
    case 'join':
    case 'unfill':
      await { reboot, poweroff, start, hang, resume, cut, join, unfill }[verb](needNames(parse({}).positionals));
      return 0;
    case 'help':
    case '--help':
    case '-h':
      print(HELP);
      return 0;
    default:
      throw new SandboxError(`There is no command "${verb}".`, 'See: sandbox.mjs help');
  }
}

if (
  process.argv[1] &&
  fs.existsSync(process.argv[1]) &&
  fs.realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)
) {
  try {
    process.exitCode = await main(process.argv.slice(2));
  } catch (error) {
    process.stderr.write(
      error instanceof SandboxError ? `sandbox: ${error.message}\n` : `sandbox: unexpected error\n${error.stack}\n`,
    );
    process.exitCode = 1;
  }
}
