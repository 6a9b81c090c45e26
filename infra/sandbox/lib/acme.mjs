// An ACME certificate authority on the lan: pebble, which is as strict as it can be, and its test server as DNS for everybody.
import { execFile } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { promisify } from 'node:util';
import { getCacheDir, SCRIPTS, withCacheLock } from './cache.mjs';
import { describeNetwork } from './instance.mjs';
import { execInServer } from './server.mjs';
import {
  endPidFile,
  progress,
  readPidFile,
  readText,
  removeTree,
  run,
  SandboxError,
  startDetached,
  waitUntil,
  writePidFile,
} from './system.mjs';

const acmeDir = (instance) => path.join(instance.stateDir, 'acme');
const cacheOf = (instance) => path.join(getCacheDir(instance.cacheKey), 'acme');
const PROGRAMS = ['dns', 'pebble'];

/** Fetched when it is first wanted, since most uses of the sandbox need no certificates; and again when the script is another one. */
async function ensurePrograms(instance) {
  const cache = cacheOf(instance);
  const script = path.join(SCRIPTS, 'fetch-acme.sh');
  const state = fs.readFileSync(script, 'utf8');
  const isReady = () => readText(`${cache}.ready`) === state;
  if (isReady()) return;
  await withCacheLock(async () => {
    if (isReady()) return;
    progress('fetching the ACME authority, and the packages for servers that use it (once)');
    await removeTree(cache);
    await run([script, cache, path.join(getCacheDir(instance.cacheKey), 'rootfs')], {
      what: 'Fetching pebble and certbot (fetch-acme.sh)',
      hint: 'Is the package mirror reachable?',
    });
    fs.writeFileSync(`${cache}.ready`, state);
  });
}

/** What a test needs to know of it. */
export function describeAcme(instance) {
  const { registry: address } = describeNetwork(instance);
  const dir = acmeDir(instance);
  return {
    /** Its ACME directory; `ca` has the authorities of this URL's certificate and of what it issues. */
    directory: `https://${address}:14000/dir`,
    ca: fs.existsSync(`${dir}/trust.pem`) ? fs.readFileSync(`${dir}/trust.pem`, 'utf8') : '',
    /** Of what it issues alone; another one after each start. */
    root: fs.existsSync(`${dir}/root.pem`) ? fs.readFileSync(`${dir}/root.pem`, 'utf8') : '',
    dns: address,
    /** POST /add-a, /add-aaaa, /add-caa, /clear-a ...: https://github.com/letsencrypt/pebble/blob/main/cmd/pebble-challtestsrv/README.md */
    dnsControl: `http://${address}:8055`,
    /** Every request that the authority got, and what it thought of it. */
    log: path.join(dir, 'pebble.log'),
    /** A flat repository of packages for a server's apt. */
    packages: path.join(cacheOf(instance), 'packages'),
  };
}

/**
 * @param {{validitySeconds?: number, nonceRejectPercent?: number}} options how long its certificates live, and how many of
 * the good nonces it refuses, as an authority may
 */
export async function startAcme(instance, { validitySeconds = 90 * 86_400, nonceRejectPercent = 5 } = {}) {
  await ensurePrograms(instance);
  const dir = acmeDir(instance);
  const { registry: address, lan } = describeNetwork(instance);
  await stopAcme(instance);
  await removeTree(dir);
  fs.mkdirSync(dir, { recursive: true, mode: 0o700 });
  await makeEndpointCertificate(dir, address);
  fs.writeFileSync(
    path.join(dir, 'pebble.json'),
    JSON.stringify({
      pebble: {
        listenAddress: `${address}:14000`,
        managementListenAddress: `${address}:15000`,
        certificate: `${dir}/endpoint.pem`,
        privateKey: `${dir}/endpoint.key`,
        httpPort: 80,
        tlsPort: 443,
        ocspResponderURL: '',
        externalAccountBindingRequired: false,
        retryAfter: { authz: 1, order: 1 },
        certificateValidityPeriod: validitySeconds,
      },
    }),
  );
  const bin = path.join(cacheOf(instance), 'bin');
  const launch = (name, argv, env) => {
    const words = ['nsenter', `--net=/run/netns/${lan}`, path.join(bin, argv[0]), ...argv.slice(1)];
    writePidFile(path.join(dir, `${name}.pid`), startDetached(words, { log: path.join(dir, `${name}.log`), env }));
  };
  const off = ['-http01', '', '-https01', '', '-tlsalpn01', '', '-doh', '', '-defaultIPv4', '', '-defaultIPv6', ''];
  launch('dns', ['pebble-challtestsrv', '-dns01', `${address}:53`, '-management', `${address}:8055`, ...off]);
  launch('pebble', ['pebble', '-config', `${dir}/pebble.json`, '-dnsserver', `${address}:53`, '-strict'], {
    PEBBLE_VA_NOSLEEP: '1',
    PEBBLE_AUTHZREUSE: '0',
    PEBBLE_WFE_NONCEREJECT: String(nonceRejectPercent),
  });
  const trust = path.join(dir, 'endpoint-ca.pem');
  const curl = (...words) => run(['curl', '-sf', '--cacert', trust, ...words], { check: false });
  const answers = async () => (await curl(`https://${address}:14000/dir`)).code === 0;
  if (!(await waitUntil(answers, 10_000)) || !isAcmeRunning(instance))
    throw new SandboxError('The ACME authority does not answer.', `Its logs: ${dir}/*.log`);
  fs.writeFileSync(path.join(dir, 'root.pem'), (await curl(`https://${address}:15000/roots/0`)).stdout);
  fs.writeFileSync(
    path.join(dir, 'trust.pem'),
    fs.readFileSync(trust, 'utf8') + fs.readFileSync(path.join(dir, 'root.pem'), 'utf8'),
  );
  return describeAcme(instance);
}

/** The certificate of the authority's own HTTPS endpoint, from a private authority: as a private ACME server has it. */
async function makeEndpointCertificate(dir, address) {
  const openssl = (...words) => run(['openssl', ...words], { cwd: dir, what: 'Making a certificate (openssl)' });
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
  const subject = (name) => ['-subj', `/CN=${name}`];
  await openssl(
    'req',
    '-x509',
    ...key,
    '-days',
    '3650',
    ...subject('sandbox endpoints'),
    '-keyout',
    'ca.key',
    '-out',
    'endpoint-ca.pem',
  );
  await openssl('req', ...key, ...subject('acme'), '-keyout', 'endpoint.key', '-out', 'endpoint.csr');
  fs.writeFileSync(path.join(dir, 'names'), `subjectAltName = IP:${address}\n`);
  const issue = ['-CA', 'endpoint-ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', '-days', '3650', '-extfile', 'names'];
  await openssl('x509', '-req', '-in', 'endpoint.csr', ...issue, '-out', 'endpoint.pem');
}

export async function stopAcme(instance) {
  for (const name of PROGRAMS) await endPidFile(path.join(acmeDir(instance), `${name}.pid`));
}

export const isAcmeRunning = (instance) =>
  PROGRAMS.every((name) => readPidFile(path.join(acmeDir(instance), `${name}.pid`)) !== undefined);

/** Lets a server install certbot, nginx and sudo with apt, and look names up in the authority's DNS. */
export async function offerPackages(instance, server) {
  const { packages, dns } = describeAcme(instance);
  const { stdout: archive } = await promisify(execFile)('tar', ['-C', packages, '-cf', '-', '.'], {
    encoding: 'buffer',
    maxBuffer: 256 * 1024 * 1024,
  });
  const unpack = `set -eu
mkdir -p /srv/packages
tar -C /srv/packages -xf -
echo 'deb [trusted=yes] file:/srv/packages ./' > /etc/apt/sources.list
echo "nameserver $1" > /etc/resolv.conf
apt-get -qq update`;
  const { code, stderr } = await execInServer(server, ['sh', '-c', unpack, 'sh', dns], { input: archive });
  if (code !== 0) throw new SandboxError(`${server.name} could not be given packages: ${stderr.trim()}`);
}
