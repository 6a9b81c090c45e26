/**
 * A real S3 server for tests, on loopback and with a login: OpenStack Swift with its S3 interface, from Debian's package
 * python3-swift. `npm test` sees to the package.
 */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { createInterface } from 'node:readline';
import { CreateBucketCommand, S3Client } from '@aws-sdk/client-s3';

export interface ObjectStoreServer {
  /** `http://127.0.0.1:PORT` */
  readonly endpoint: string;
  readonly region: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  /** The file that holds an object that was not stored in parts, to damage it: what the server knows of it lies elsewhere. */
  file(bucket: string, key: string): Promise<string>;
  /** Ends the server and removes its folder. */
  close(): Promise<void>;
}

export interface ObjectStoreServerOptions {
  /** Those that there are from the beginning. Default: one, `backups`. */
  readonly buckets?: readonly string[];
}

const REGION = 'eu-central-1';
/** Swift's key ids have this form. */
const [ACCOUNT, USER] = ['slipway', 'tests'];
const SECRET = 'a+secret/for=tests-only';
const START_SECONDS = 30;

/** @throws where there is no Swift, or it does not start */
export async function startObjectStoreServer(options: ObjectStoreServerOptions = {}): Promise<ObjectStoreServer> {
  const packages = findSwift();
  // Not in /tmp, which is in memory on some machines, and there without extended attributes.
  const folder = await mkdtemp('/var/tmp/slipway-s3-');
  const login = { accessKeyId: `${ACCOUNT}:${USER}`, secretAccessKey: SECRET };
  const child = spawn('/usr/bin/python3', [join(import.meta.dirname, 'swift-server.py'), folder], {
    stdio: ['pipe', 'pipe', 'pipe'],
    env: {
      ...process.env,
      ...packages,
      PYTHONDONTWRITEBYTECODE: '1',
      // Not in argv: tests look for secrets there.
      SLIPWAY_TEST_KEY_ID: login.accessKeyId,
      SLIPWAY_TEST_SECRET: login.secretAccessKey,
    },
  });
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said = (said + text).slice(-4000);
  });
  // It ends with its standard input, so with this process as well.
  child.stdin.on('error', () => undefined);
  const ended = new Promise<void>((resolve) => {
    child.once('close', () => {
      resolve();
    });
    child.once('error', (error) => {
      said += error.message;
      resolve();
    });
  });
  const close = async (): Promise<void> => {
    child.kill('SIGKILL');
    await ended;
    await rm(folder, { recursive: true, force: true });
  };
  const port = await new Promise<string | undefined>((resolve) => {
    createInterface({ input: child.stdout }).on('line', (line) => {
      resolve(/^listening (\d+)$/.exec(line)?.[1]);
    });
    void ended.then(() => {
      resolve(undefined);
    });
    setTimeout(resolve, START_SECONDS * 1000, undefined).unref();
  });
  if (port === undefined) {
    await close();
    throw new Error(`The S3 server for the tests (Swift) did not start:\n${said}`);
  }
  const endpoint = `http://127.0.0.1:${port}`;
  try {
    await createBuckets({ endpoint, ...login }, options.buckets ?? ['backups']);
  } catch (error) {
    await close();
    throw new Error(`The S3 server for the tests (Swift) made no bucket:\n${said}`, { cause: error });
  }
  return {
    endpoint,
    region: REGION,
    ...login,
    file: (bucket, key) => findFile(folder, bucket, key),
    close,
  };
}

/** Where its modules and their libraries are: of the system, or unpacked by `npm test`, which puts their `usr/bin` in PATH. */
function findSwift(): Readonly<Record<string, string>> {
  const modules = 'lib/python3/dist-packages';
  const usr = (process.env['PATH'] ?? '')
    .split(delimiter)
    .map((bin) => join(bin, '..'))
    .find((base) => existsSync(join(base, modules, 'swift/proxy/server.py')));
  if (usr === undefined) {
    throw new Error(
      'The S3 server for the tests is not there: `npm test` sees to it, or `apt-get install python3-swift`.',
    );
  }
  const machine = { x64: 'x86_64', arm64: 'aarch64' }[process.arch as string] ?? process.arch;
  return { PYTHONPATH: join(usr, modules), LD_LIBRARY_PATH: join(usr, 'lib', `${machine}-linux-gnu`) };
}

async function createBuckets(
  { endpoint, ...credentials }: Pick<ObjectStoreServer, 'endpoint' | 'accessKeyId' | 'secretAccessKey'>,
  buckets: readonly string[],
): Promise<void> {
  const client = new S3Client({ endpoint, region: REGION, forcePathStyle: true, credentials });
  for (const bucket of buckets) await client.send(new CreateBucketCommand({ Bucket: bucket }));
  client.destroy();
}

/** https://docs.openstack.org/swift/latest/overview_architecture.html: the name's MD5 is the folder's, the time the file's. */
async function findFile(folder: string, bucket: string, key: string): Promise<string> {
  const name = createHash('md5').update(`/AUTH_${ACCOUNT}/${bucket}/${key}test`).digest('hex');
  const found = await readdir(join(folder, 'devices', 'd', 'objects'), { recursive: true });
  const file = found
    .filter((path) => path.includes(`/${name}/`) && path.endsWith('.data'))
    .sort()
    .at(-1);
  if (file === undefined) throw new Error(`There is no ${key} in ${bucket}.`);
  return join(folder, 'devices', 'd', 'objects', file);
}
