/**
 * Every query of every dashboard, asked as Grafana asks it, of a real Prometheus that scrapes real exporters: of this machine, of a
 * PostgreSQL, a Redis and an nginx, and of the example application with requests under way. cAdvisor alone is a recording.
 */
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer as createHttpServer, type Server } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parser as promql } from '@prometheus-io/lezer-promql';
import { build } from 'esbuild';
import { renderMetrics } from '#shared/backups/metrics';
import { backup, item, proof } from '../../../shared/test/backups/sample-backups';
import { expandVariables, listQuestions, listVariables, MONITORING } from './dashboards';
import { findFreePorts, openPrograms, type Programs } from './programs';

const EXAMPLE = join(MONITORING, '..', 'example');

/** Seconds between two scrapes; Grafana's `$__rate_interval` is at least four of them. */
const SCRAPE_SECONDS = 1;
/** How far back a mark is looked for: a release is new for a minute only, and this machine may be slow. */
const MARKS_SECONDS = 300;
const TIMES = { __rate_interval: `${4 * SCRAPE_SECONDS}s`, __range: '1h', __interval: '1s' };
const RELEASE = '20261122T223100Z-ab12cd3';
const PROJECT = 'shop';

interface Series {
  readonly metric: Readonly<Record<string, string>>;
  readonly value?: readonly [number, string];
  readonly values?: readonly (readonly [number, string])[];
}

let programs: Programs;
let prometheus: string;
const servers: Server[] = [];
let traffic = true;
let passing: Promise<unknown> | undefined;

/** @throws Error when it is not 200 */
async function get(url: string): Promise<string> {
  const response = await fetch(url);
  const text = await response.text();
  if (!response.ok) throw new Error(`${url}: ${response.status} ${text}`);
  return text;
}

async function ask<T>(path: string, parameters: Readonly<Record<string, string>>): Promise<T> {
  const answer = JSON.parse(await get(`${prometheus}/api/v1/${path}?${new URLSearchParams(parameters).toString()}`)) as { data: T }; // prettier-ignore
  return answer.data;
}

async function queryNow(expr: string): Promise<readonly Series[]> {
  return (await ask<{ result: Series[] }>('query', { query: expr })).result;
}

async function queryRange(expr: string, seconds: number): Promise<readonly Series[]> {
  const end = Date.now() / 1000;
  const span = { start: String(end - seconds), end: String(end), step: '1' };
  return (await ask<{ result: Series[] }>('query_range', { query: expr, ...span })).result;
}

/** The selectors of a query, each without its range and offset. */
function listSelectors(expr: string): string[] {
  const selectors: string[] = [];
  promql.parse(expr).iterate({
    enter: ({ name, from, to }) => {
      if (name === 'VectorSelector') selectors.push(expr.slice(from, to));
    },
  });
  return selectors;
}

/** Counters grow, as those of containers do that have something to do. */
function playCadvisor(seconds: number): string {
  const label = (service: string): string =>
    `container_label_com_docker_compose_project="${PROJECT}",container_label_com_docker_compose_service="${service}",` +
    `id="/docker/${service}",image="registry.example.com/${service}:1",name="${PROJECT}-${service}-1"`;
  return readFileSync(join(MONITORING, 'test', 'cadvisor.prom'), 'utf8')
    .replaceAll('SHOP_API', label('api'))
    .replaceAll('SHOP_DB', label('db'))
    .replaceAll(/^(\w+_total\{.*\}) (.+)$/gm, (_line, series: string, value: string) =>
      series.startsWith('container_oom_events') ? `${series} ${value}` : `${series} ${Number(value) + 10 * seconds}`,
    );
}

/** The example application as its image has it. */
async function bundleExample(folder: string): Promise<string> {
  const outdir = join(folder, 'example', 'dist');
  await build({
    absWorkingDir: EXAMPLE,
    bundle: true,
    platform: 'node',
    format: 'cjs',
    logLevel: 'error',
    entryPoints: ['src/server.ts'],
    external: ['pg-native', './opentelemetry.js'],
    outdir,
  });
  cpSync(join(EXAMPLE, 'migrations'), join(folder, 'example', 'migrations'), { recursive: true });
  return join(outdir, 'server.js');
}

beforeAll(async () => {
  programs = openPrograms();
  const { folder } = programs;
  const ports = await findFreePorts(14);
  const [postgres, redis, nginx, app, node, pgExporter, redisExporter, nginxExporter, blackbox, main, cadvisor, https] =
    ports as [number, number, number, number, number, number, number, number, number, number, number, number];
  const at = (port: number, path = '/'): string => `http://127.0.0.1:${port}${path}`;
  prometheus = at(main, '').replace(/\/$/, '');
  const bundling = bundleExample(folder);

  programs.run('initdb', [
    '-D',
    join(folder, 'data'),
    '-U',
    'app',
    '-A',
    'trust',
    '--no-sync',
    '--locale=C',
    '-E',
    'UTF8',
  ]);
  const databaseUrl = `postgres://app@127.0.0.1:${postgres}/postgres`;
  const startDatabase = programs.start(
    'postgres',
    ['-D', join(folder, 'data'), '-p', String(postgres), '-c', 'listen_addresses=127.0.0.1', '-c', 'unix_socket_directories=', '-c', 'fsync=off'], // prettier-ignore
    () => programs.run('pg_isready', ['-h', '127.0.0.1', '-p', String(postgres)]),
  );
  const redisCli = (...words: string[]): string => programs.run('redis-cli', ['-p', String(redis), ...words]);
  const startCache = programs.start(
    'redis-server',
    ['--port', String(redis), '--bind', '127.0.0.1', '--save', '', '--dir', folder, '--maxmemory', '64mb'],
    () => redisCli('ping'),
  );
  writeFileSync(
    join(folder, 'nginx.conf'),
    `daemon off; pid ${folder}/nginx.pid; error_log stderr; events {}
http {
  access_log off;
  ${['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((kind) => `${kind}_temp_path ${folder}/${kind};`).join(' ')}
  server { listen 127.0.0.1:${nginx}; location = /nginx-status { stub_status; } }
}`,
  );
  const startRouter = programs.start('nginx', ['-e', 'stderr', '-p', folder, '-c', join(folder, 'nginx.conf')], () =>
    get(at(nginx, '/nginx-status')),
  );
  await Promise.all([startDatabase, startCache, startRouter]);

  mkdirSync(join(folder, 'textfile'));
  const now = Date.now();
  const newest = { ...backup(1, { items: [item('postgres:db/app', { proof: proof(4.5) })] }), created: new Date(now - 3_600_000).toISOString() }; // prettier-ignore
  writeFileSync(
    join(folder, 'textfile', 'backup.prom'),
    renderMetrics(PROJECT, [newest], { ended: new Date(now), succeeded: true }),
  );
  writeFileSync(
    join(folder, 'textfile', 'deploy.prom'),
    `slipway_deploy_last_timestamp_seconds{project="${PROJECT}"} ${now / 1000 - 600}
slipway_deploy_last_success{project="${PROJECT}"} 1
slipway_deploy_last_duration_seconds{project="${PROJECT}"} 4.2
slipway_deploy_recovery_failed{project="${PROJECT}"} 0
slipway_deploy_last_info{project="${PROJECT}",release="${RELEASE}",task="deploy",result="committed"} 1
`,
  );
  const startedMs = performance.now();
  const recording = createHttpServer((_request, response) => {
    response.setHeader('content-type', 'text/plain; version=0.0.4');
    response.end(playCadvisor((performance.now() - startedMs) / 1000));
  }).listen(cadvisor, '127.0.0.1');
  const [key, certificate] = [join(folder, 'key.pem'), join(folder, 'certificate.pem')];
  execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '90', '-subj', '/CN=localhost', '-keyout', key, '-out', certificate], { stdio: 'ignore' }); // prettier-ignore
  const page = createHttpsServer({ key: readFileSync(key), cert: readFileSync(certificate) }, (_request, response) => {
    response.end('ok');
  }).listen(https, '127.0.0.1');
  servers.push(recording, page);
  writeFileSync(
    join(folder, 'blackbox.yml'),
    'modules: { http: { prober: http, http: { tls_config: { insecure_skip_verify: true } } }, tls: { prober: tcp, tcp: { tls: true, tls_config: { insecure_skip_verify: true } } } }',
  );
  const listen = (port: number): string => `--web.listen-address=127.0.0.1:${port}`;
  // As infra/monitoring/compose.yaml starts them.
  const withoutNetwork = ['arp', 'netclass', 'netdev', 'netstat', 'sockstat', 'softnet'].map(
    (name) => `--no-collector.${name}`,
  );
  await Promise.all([
    programs.start(
      'prometheus-node-exporter',
      [listen(node), ...withoutNetwork, `--collector.textfile.directory=${join(folder, 'textfile')}`],
      () => get(at(node)),
    ),
    programs.start('prometheus-postgres-exporter', [listen(pgExporter)], () => get(at(pgExporter)), {
      DATA_SOURCE_NAME: `${databaseUrl}?sslmode=disable`,
    }),
    programs.start(
      'prometheus-redis-exporter',
      [`-web.listen-address=127.0.0.1:${redisExporter}`, `-redis.addr=redis://127.0.0.1:${redis}`],
      () => get(at(redisExporter)),
    ),
    programs.start(
      'prometheus-nginx-exporter',
      [`-web.listen-address=127.0.0.1:${nginxExporter}`, `-nginx.scrape-uri=${at(nginx, '/nginx-status')}`],
      () => get(at(nginxExporter)),
    ),
    programs.start('prometheus-blackbox-exporter', [listen(blackbox), `--config.file=${folder}/blackbox.yml`], () =>
      get(at(blackbox)),
    ),
    bundling.then((program) =>
      programs.start('node', [program], () => get(at(app, '/health/live')), {
        HOST: '127.0.0.1',
        PORT: String(app),
        RELEASE_ID: RELEASE,
        DATABASE_URL: databaseUrl,
        REDIS_URL: `redis://127.0.0.1:${redis}`,
        MIGRATE_ON_START: 'true',
        TEST_ERROR_RATE: '0.3',
      }),
    ),
  ]);

  const job = (name: string, port: number): object => ({
    job_name: name,
    static_configs: [{ targets: [`127.0.0.1:${port}`] }],
  });
  const probe = (name: string, module: string, target: string): object => ({
    ...job(name, blackbox),
    metrics_path: '/probe',
    params: { module: [module], target: [target] },
  });
  writeFileSync(
    join(folder, 'prometheus.yml'),
    JSON.stringify({
      global: { scrape_interval: `${SCRAPE_SECONDS}s`, evaluation_interval: '1s' },
      rule_files: [`${folder}/rules.yml`],
      scrape_configs: [
        job('app', app),
        job('node', node),
        job('postgres', pgExporter),
        job('redis', redisExporter),
        job('nginx', nginxExporter),
        job('cadvisor', cadvisor),
        job('alloy', ports[12] ?? 0), // nobody is there: a target that is down
        probe('blackbox-http', 'http', `https://127.0.0.1:${https}/`),
        probe('blackbox-tls', 'tls', `127.0.0.1:${https}`),
      ],
    }),
  );
  writeFileSync(
    join(folder, 'rules.yml'),
    JSON.stringify({
      groups: [{ name: 'test', rules: [{ alert: 'TargetDown', expr: 'up == 0', labels: { severity: 'warning' } }] }],
    }),
  );
  // Something to count, until the test ends.
  passing = (async () => {
    for (let turn = 0; traffic; turn++) {
      for (const path of ['/api/notes', '/api/visits', '/api/version', '/api/nothing']) await fetch(at(app, path));
      await get(at(nginx, '/nginx-status'));
      if (turn % 10 === 0) redisCli('mget', 'example:visits', 'nothing');
      await sleep(20);
    }
  })();
  await programs.start(
    'prometheus',
    [`--config.file=${folder}/prometheus.yml`, `--storage.tsdb.path=${folder}/tsdb`, `--web.listen-address=127.0.0.1:${main}`], // prettier-ignore
    () => get(`${prometheus}/-/ready`),
  );
  // It begins to scrape some seconds after it is ready; a rate needs two samples, and everything a few to be steady.
  const enough = 'min(count_over_time(up[1m])) >= 6 and on () ALERTS{alertstate="firing"}';
  const deadlineMs = performance.now() + 60_000;
  while ((await queryNow(enough)).length === 0) {
    if (performance.now() > deadlineMs) throw new Error('Prometheus has scraped nothing for a minute');
    await sleep(200);
  }
}, 120_000);

afterAll(async () => {
  traffic = false;
  await passing;
  for (const server of servers) server.close();
  await programs.close();
});

test('every exporter is read', async () => {
  const series = await queryNow('up');
  const down = series.filter(({ value }) => value?.[1] !== '1').map(({ metric }) => metric['job']);
  expect(down).toEqual(['alloy']);
  expect(series.length).toBe(9);
});

test('every query of every panel and annotation brings data', async () => {
  const silent: string[] = [];
  for (const { where, expr, instant } of listQuestions('prometheus')) {
    const query = expandVariables(expr, TIMES);
    const seconds = where.includes('annotation') ? MARKS_SECONDS : 4;
    const found = instant ? await queryNow(query) : await queryRange(query, seconds);
    const numbers = found.flatMap(({ value, values = [] }) => (value === undefined ? values : [value]));
    if (!numbers.some(([, text]) => Number.isFinite(Number(text)))) silent.push(`${where}: ${query}`);
  }
  expect(silent).toEqual([]);
});

test('so does each part of them: none is there only because the other side of an `or` answers', async () => {
  const selectors = new Set(
    listQuestions('prometheus').flatMap(({ expr }) => listSelectors(expandVariables(expr, TIMES))),
  );
  expect(selectors.size).toBeGreaterThan(60);
  const silent: string[] = [];
  for (const selector of selectors) if ((await queryNow(`count(${selector})`)).length === 0) silent.push(selector);
  expect(silent).toEqual([]);
});

test('every variable has values to choose from', async () => {
  for (const { where, selector, label } of listVariables()) {
    const values = await ask<string[]>(`label/${label}/values`, { 'match[]': expandVariables(selector, TIMES) });
    expect({ where, some: values.some((value) => value !== '') }).toEqual({ where, some: true });
  }
});

test('a release is marked where it answers for the first time, and an error is charged to it', async () => {
  const marked = await queryRange(
    expandVariables(listQuestions('prometheus').find(({ where }) => where.includes('annotation'))?.expr ?? '', TIMES),
    MARKS_SECONDS,
  );
  expect(marked.map(({ metric }) => metric)).toEqual([{ job: 'app', release_id: RELEASE }]);
  const errors = listQuestions('prometheus').find(({ where }) => where.includes('Share of errors by release'));
  const [share, ...others] = await queryRange(
    expandVariables(errors?.expr ?? '', { ...TIMES, __rate_interval: '15s' }),
    4,
  );
  expect(others).toEqual([]);
  expect(share?.metric).toEqual({ release_id: RELEASE });
  // Three of the four addresses answer 500 to 3 of 10 requests.
  const last = Number(share?.values?.at(-1)?.[1]);
  expect(last).toBeGreaterThan(0.05);
  expect(last).toBeLessThan(0.5);
});
