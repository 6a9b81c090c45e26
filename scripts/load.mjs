/**
 * Load on a URL, and a table of what became of it:
 *
 * `node_modules/.bin/node scripts/load.mjs http://10.0.0.2/ [--rate 200] [--seconds 10] [--keep-alive 0.5] [--timeout 10]
 * [--header 'name: value'] [--release-header x-release-id | --release-pattern 'release=(\S+)'] [--json]`
 *
 * Ctrl-C ends it early, with its report. Exit code 1: some request failed; 2: it could not start.
 */
import { parseArgs } from 'node:util';

const USAGE = `usage: load.mjs URL [--rate 200] [--seconds 10] [--keep-alive 0.5] [--timeout 10] [--header 'name: value']
                [--release-header NAME | --release-pattern REGEX] [--json]`;

class UsageError extends Error {}

function readArguments(args) {
  let parsed;
  try {
    parsed = parseArgs({
      args,
      allowPositionals: true,
      options: {
        rate: { type: 'string', default: '200' },
        seconds: { type: 'string', default: '10' },
        'keep-alive': { type: 'string', default: '0.5' },
        timeout: { type: 'string', default: '10' },
        header: { type: 'string', multiple: true, default: [] },
        'release-header': { type: 'string' },
        'release-pattern': { type: 'string' },
        json: { type: 'boolean', default: false },
      },
    });
  } catch (error) {
    throw new UsageError(error.message);
  }
  const { values, positionals } = parsed;
  const number = (name, least, most) => {
    const value = Number(values[name]);
    if (values[name].trim() === '' || !(value >= least && value <= most)) {
      throw new UsageError(`--${name} ${values[name]} is not a number from ${least} to ${most}`);
    }
    return value;
  };
  const [url, ...more] = positionals;
  if (url === undefined || more.length > 0) throw new UsageError('give one URL');
  if (!/^https?:$/.test(URL.parse(url)?.protocol ?? '')) throw new UsageError(`${url} is not an http or https URL`);
  const headers = values.header.map((line) => {
    const [, name, value] = /^([^:\s]+):\s*(.*)$/.exec(line) ?? [];
    if (name === undefined) throw new UsageError(`--header ${line} is not of the form 'name: value'`);
    return [name.toLowerCase(), value];
  });
  const { 'release-header': header, 'release-pattern': pattern } = values;
  if (header !== undefined && pattern !== undefined)
    throw new UsageError('give one of --release-header and --release-pattern');
  if (pattern !== undefined) {
    try {
      new RegExp(pattern);
    } catch (error) {
      throw new UsageError(`--release-pattern: ${error.message}`);
    }
  }
  const release = header !== undefined ? { header } : pattern !== undefined ? { pattern } : undefined;
  return {
    seconds: number('seconds', 0.1, 86_400),
    json: values.json,
    options: {
      url,
      ratePerSecond: number('rate', 0.1, 5000),
      keepAliveShare: number('keep-alive', 0, 1),
      timeoutSeconds: number('timeout', 0.1, 600),
      headers: Object.fromEntries(headers),
      ...(release === undefined ? {} : { release }),
    },
  };
}

async function main(args) {
  if (!process.versions.node.startsWith('24.')) {
    throw new UsageError('run it with what comes with the packages: node_modules/.bin/node scripts/load.mjs');
  }
  const { seconds, json, options } = readArguments(args);
  const { renderReport, runLoad } = await import('../test/load/index.ts');
  const load = await runLoad(options);
  await new Promise((resolve) => {
    const timer = setTimeout(resolve, seconds * 1000);
    process.once('SIGINT', () => {
      clearTimeout(timer);
      resolve();
    });
  });
  const report = await load.stop();
  process.stdout.write(`${json ? JSON.stringify(report) : renderReport(report)}\n`);
  return report.failed === 0 ? 0 : 1;
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  process.stderr.write(error instanceof UsageError ? `${error.message}\n${USAGE}\n` : `${error.stack}\n`);
  process.exitCode = 2;
}
