/**
 * Dumps one database in turn as people do and as Slipway does, and compares the times:
 *
 * `node_modules/.bin/node scripts/backup-throughput.mjs [--megabytes 2048] [--rounds 3] [--image postgres:15] [--json]`
 *
 * As people do: `docker exec db pg_dump -Fc >file`, which proves nothing. As Slipway does: with every table counted and hashed in the dump's own
 * snapshot, the file read to its end and summed. Exit code 1: Slipway has less than 0.8 of the throughput; 2: it could not start.
 * Needs root and Linux (infra/sandbox). Its server is that of the end-to-end tests, or of the instance that SLIPWAY_SANDBOX names;
 * it is empty afterwards.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { build } from 'esbuild';
import { findTestPrograms } from './set-up.mjs';

const USAGE = `usage: backup-throughput.mjs [--megabytes 2048] [--rounds 3] [--image postgres:15] [--json]`;

const LEAST_SHARE = 0.8;

export class UsageError extends Error {}

/** Rows as applications have them, which gzip makes a third of: ids, times, states, names, prices, JSON, sentences, a few hashes. */
const FILL = (
  megabytes,
) => `CREATE TABLE words AS SELECT i, translate(substr(md5(i::text), 1, 4 + i % 6), '0123456789', 'aeioustnrl') AS word FROM generate_series(1, 5000) i;
CREATE UNIQUE INDEX ON words (i);
CREATE TABLE orders (id bigint, customer int, created timestamptz, state text, total numeric(10, 2), note text, detail jsonb, token text);
CREATE FUNCTION sentence(n bigint, length int) RETURNS text LANGUAGE sql STABLE AS $$
  SELECT string_agg(word, ' ') FROM generate_series(1, length) k JOIN words w ON w.i = 1 + (n * 7919 + k * k * 104729 + n * k * 31) % 5000
$$;
INSERT INTO orders SELECT n, (n * 7907) % 90000, '2024-01-01'::timestamptz + n * interval '7.3 s', (ARRAY['new', 'paid', 'sent', 'closed'])[1 + n % 4],
  (n * 37 % 100000) / 100.0, sentence(n, 20), jsonb_build_object('items', n % 9, 'sku', 'A-' || n % 4000, 'city', sentence(n % 300, 2), 'gift', n % 7 = 0), md5(n::text)
FROM generate_series(1, 50000) n;
CREATE TABLE events (LIKE orders);
CREATE TABLE archive (LIKE orders);
DO $$
DECLARE turn int := 1;
BEGIN
  WHILE pg_database_size(current_database()) < ${megabytes}::bigint * 1024 * 1024 LOOP
    EXECUTE format('INSERT INTO %I SELECT id + %s * 50000, customer, created + interval ''%s days'', state, total, overlay(note placing substr(md5((id + %s)::text), 1, 6) from (1 + id %% 60)::int), detail, md5((id * %s)::text) FROM orders WHERE id <= 50000',
      (ARRAY['orders', 'events', 'archive'])[1 + turn % 3], turn, turn, turn, turn + 1);
    turn := turn + 1;
  END LOOP;
END $$;
ALTER TABLE orders ADD PRIMARY KEY (id);
VACUUM ANALYZE;
CHECKPOINT;`;

/** The commands, bundled: they are TypeScript that Node.js cannot import by itself. */
async function importCommands() {
  const folder = await mkdtemp(join(tmpdir(), 'slipway-throughput-'));
  try {
    const outfile = join(folder, 'commands.mjs');
    const source = fileURLToPath(new URL('../shared/src/', import.meta.url));
    await build({
      stdin: {
        contents: `export { dumpDatabase } from './commands/postgres'; export { parseDumpedDatabase } from './backups/postgres'; export { renderCommand } from './shell/render';`,
        resolveDir: source,
      },
      bundle: true,
      platform: 'node',
      format: 'esm',
      outfile,
      logLevel: 'error',
    });
    return await import(pathToFileURL(outfile).href);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

const median = (numbers) => {
  const sorted = numbers.toSorted((a, b) => a - b);
  return (sorted[Math.floor((sorted.length - 1) / 2)] + sorted[Math.floor(sorted.length / 2)]) / 2;
};

/**
 * @param e2e test/e2e/sandbox.ts, started
 * @param {{ megabytes: number, rounds: number, image: string }} options
 */
export async function measureDumps(e2e, { megabytes, rounds, image }) {
  const { dumpDatabase, parseDumpedDatabase, renderCommand } = await importCommands();
  await e2e.freshServer();
  await e2e.asDeploy('mkdir -p backups');
  await e2e.onServer(
    `docker run -d --name db --label com.docker.compose.project=shop --label com.docker.compose.service=db \\
  --label com.docker.compose.container-number=1 --label com.docker.compose.oneoff=False -e POSTGRES_PASSWORD=secret "$1" postgres -c max_wal_size=4GB -c fsync=off >/dev/null
until docker exec db pg_isready -q -h 127.0.0.1; do sleep 0.2; done
docker exec -i db psql -Xq -U postgres -v ON_ERROR_STOP=1`,
    [image],
    FILL(megabytes),
  );
  const size = Number(
    await e2e.onServer(`docker exec db psql -XAtq -U postgres -c 'SELECT pg_database_size(current_database())'`),
  );
  const time = async (script) => {
    await e2e.onServer('sync; rm -f /home/deploy/backups/*');
    const startedMs = performance.now();
    const output = await e2e.asDeploy(script);
    return { seconds: (performance.now() - startedMs) / 1000, output };
  };
  const bare = () => time('exec docker exec db pg_dump -U postgres -Fc >backups/bare');
  const ours = () => time(renderCommand(dumpDatabase({ container: 'db' }, '', '/home/deploy/backups/ours')));
  const pairs = [];
  let dumped;
  for (let round = 1; round <= rounds; round++) {
    const first = await bare();
    const bytes = Number(await e2e.onServer('wc -c </home/deploy/backups/bare'));
    const second = await ours();
    dumped = parseDumpedDatabase(second.output);
    pairs.push({ bareSeconds: first.seconds, oursSeconds: second.seconds, bareBytes: bytes, oursBytes: dumped.bytes });
    process.stderr.write(`round ${round}: bare ${first.seconds.toFixed(1)} s, ours ${second.seconds.toFixed(1)} s\n`);
  }
  const runner = await measureRunner(e2e);
  const bareSeconds = median(pairs.map((one) => one.bareSeconds));
  const oursSeconds = median(pairs.map((one) => one.oursSeconds));
  return {
    image,
    databaseBytes: size,
    bareBytes: pairs[0].bareBytes,
    oursBytes: pairs[0].oursBytes,
    rows: dumped.tables.reduce((sum, { rows: count }) => sum + count, 0),
    bareSeconds,
    oursSeconds,
    share: bareSeconds / oursSeconds,
    pairs,
    runner,
  };
}

/** The whole action with its proof: what it takes of the runner's memory, with the data staying on the server, and passing through. */
async function measureRunner(e2e) {
  // The storage is a program of the tests.
  process.env.PATH = (await findTestPrograms()).PATH;
  const { startObjectStoreServer } = await import('../test/object-store/server.ts');
  const { generateX25519Identity, identityToRecipient } = await import('age-encryption');
  const storage = await startObjectStoreServer();
  const run = async (inputs) => {
    await e2e.asDeploy('rm -rf apps/shop/.slipway/backups');
    const startedMs = performance.now();
    // The sandbox's disk may be memory, and counts as that of the container which writes to it.
    const wanted = { what: 'postgres: db/postgres', 'proof-memory': '8192' };
    const done = await e2e.backUp({ ...wanted, ...inputs }, { limitSeconds: 3600 });
    if (done.outputs.result !== 'proven') throw new Error(done.log);
    return { peakBytes: done.peakRssBytes, seconds: (performance.now() - startedMs) / 1000 };
  };
  try {
    return {
      onServer: await run({}),
      away: await run({
        'age-recipients': await identityToRecipient(await generateX25519Identity()),
        's3-endpoint': storage.endpoint,
        's3-region': storage.region,
        's3-bucket': 'backups',
        's3-access-key-id': storage.accessKeyId,
        's3-secret-access-key': storage.secretAccessKey,
      }),
    };
  } finally {
    await storage.close();
  }
}

/** As Markdown. */
export function renderDumps({ databaseBytes, bareBytes, oursBytes, bareSeconds, oursSeconds, share, runner }) {
  const mib = (bytes) => `${Math.round(bytes / 1024 ** 2)} MiB`;
  const mb = (bytes) => `${Math.round(bytes / 1e6)} MB`;
  const rate = (seconds) => `${(databaseBytes / 1e6 / seconds).toFixed(1)} MB/s`;
  return `## Backups

Medians; the database runs beside. \`node_modules/.bin/node scripts/backup-throughput.mjs\` measures this alone.

| dump of ${mb(databaseBytes)} | seconds | throughput | file |
| --- | ---: | ---: | ---: |
| bare \`pg_dump -Fc\` | ${bareSeconds.toFixed(1)} | ${rate(bareSeconds)} | ${mb(bareBytes)} |
| Slipway, counted, hashed, read back | ${oursSeconds.toFixed(1)} | ${rate(oursSeconds)} | ${mb(oursBytes)} |

Slipway has ${share.toFixed(2)} of the throughput.

| the whole action, proven | seconds | peak memory of the runner process |
| --- | ---: | ---: |
| the backup stays on the server | ${runner.onServer.seconds.toFixed(0)} | ${mib(runner.onServer.peakBytes)} |
| encrypted, copied to S3, read back | ${runner.away.seconds.toFixed(0)} | ${mib(runner.away.peakBytes)} |`;
}

function readArguments(args) {
  let values;
  try {
    ({ values } = parseArgs({
      args,
      options: {
        megabytes: { type: 'string', default: '2048' },
        rounds: { type: 'string', default: '3' },
        image: { type: 'string', default: 'postgres:15' },
        json: { type: 'boolean', default: false },
      },
    }));
  } catch (error) {
    throw new UsageError(error.message);
  }
  const number = (name, least, most) => {
    const value = Number(values[name]);
    if (!Number.isInteger(value) || value < least || value > most) {
      throw new UsageError(`--${name}: ${JSON.stringify(values[name])} is not a whole number from ${least} to ${most}`);
    }
    return value;
  };
  return { ...values, megabytes: number('megabytes', 10, 100_000), rounds: number('rounds', 1, 100) };
}

async function main(args) {
  const { json, ...options } = readArguments(args);
  const e2e = await import('../test/e2e/sandbox.ts');
  await e2e.startSandbox();
  let result;
  try {
    result = await measureDumps(e2e, options);
  } finally {
    await e2e.freshServer();
  }
  process.stdout.write(`${json ? JSON.stringify(result, null, 1) : renderDumps(result)}\n`);
  return result.share < LEAST_SHARE ? 1 : 0;
}

if (import.meta.main) {
  try {
    process.exitCode = await main(process.argv.slice(2));
  } catch (error) {
    process.stderr.write(error instanceof UsageError ? `${error.message}\n${USAGE}\n` : `${error.stack}\n`);
    process.exitCode = error instanceof UsageError ? 2 : 1;
  }
}
