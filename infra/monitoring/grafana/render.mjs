/**
 * Writes the dashboards that Grafana is given from their sources: `node infra/monitoring/grafana/render.mjs [--check]`.
 * With `--check` nothing is written, and the exit code is 1 where a file is not what its source says.
 */
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import application from './source/application.mjs';
import containers from './source/containers.mjs';
import deploys from './source/deploys.mjs';
import host from './source/host.mjs';
import nginx from './source/nginx.mjs';
import overview from './source/overview.mjs';
import postgresql from './source/postgresql.mjs';
import redis from './source/redis.mjs';

const folder = fileURLToPath(new URL('dashboards', import.meta.url));

/** File name to text. */
export function renderDashboards() {
  const all = { overview, application, host, containers, postgresql, redis, nginx, deploys };
  return Object.fromEntries(
    Object.entries(all).map(([name, dashboard]) => [`${name}.json`, `${JSON.stringify(dashboard, undefined, 2)}\n`]),
  );
}

/** @returns {Promise<string[]>} the files that are not as their sources say, before they were written */
async function renew({ check }) {
  await mkdir(folder, { recursive: true });
  const rendered = renderDashboards();
  const stale = [];
  for (const name of await readdir(folder)) {
    if (name in rendered) continue;
    stale.push(name);
    if (!check) await rm(join(folder, name));
  }
  for (const [name, text] of Object.entries(rendered)) {
    if ((await readFile(join(folder, name), 'utf8').catch(() => '')) === text) continue;
    stale.push(name);
    if (!check) await writeFile(join(folder, name), text);
  }
  return stale;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { values } = parseArgs({ options: { check: { type: 'boolean', default: false } } });
  const stale = await renew({ check: values.check });
  if (values.check && stale.length > 0) {
    console.error(
      `infra/monitoring/grafana/dashboards is not what the sources say (${stale.join(', ')}): run \`npm run docs\``,
    );
    process.exitCode = 1;
  }
}
