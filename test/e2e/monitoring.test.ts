/**
 * infra/monitoring on a real server, by its own quick start: the stack is deployed by action-deploy, then what it watches breaks, and each
 * alert comes to a receiver through Alertmanager, and is taken back after the repair.
 */
import { execFile } from 'node:child_process';
import { copyFile, cp, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { createServer as createTlsServer, type Server as TlsServer } from 'node:tls';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { existsSync } from 'node:fs';
import { jest } from '@jest/globals';
import { openGuide } from '../docs/guide.ts';
import {
  backUp,
  buildExample,
  buildImage,
  type Checkout,
  deploy,
  EXAMPLE,
  freshServer,
  mustDeploy,
  onServer,
  projectFiles,
  publishImage,
  removeCheckouts,
  running,
  sandboxInfo,
  tryOnServer,
} from './sandbox.ts';

jest.setTimeout(180_000);

const MONITORING = fileURLToPath(new URL('../../infra/monitoring/', import.meta.url));
const run = promisify(execFile);

/** How much faster time goes by. */
const TIMES = 30;

// --- what is deployed ----------------------------------------------------------------------------------------------------

const UNITS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86_400 };

/** `5m` becomes `10000ms`: Prometheus and Alertmanager take no fractions. */
function divide(duration: string): string {
  const [, count, unit = ''] = /^(\d+)([smhd])$/.exec(duration) ?? [];
  const seconds = UNITS[unit];
  if (seconds === undefined) throw new Error(`${duration} is no duration`);
  return `${Math.round((Number(count) * seconds * 1000) / TIMES)}ms`;
}

const DURATION_KEY =
  /^(\s*(?:- )?)(for|interval|scrape_interval|evaluation_interval|refresh_interval|group_wait|group_interval|repeat_interval): (\w+)/gm;

/**
 * The files as they are shipped, but for their durations: after `for:` and the like, and in the brackets of a range. A time-out of a
 * thirtieth would be too short for a busy machine: whoever is asked has the whole interval.
 */
function quicken(text: string): string {
  return text
    .replaceAll(
      DURATION_KEY,
      (_, before: string, key: string, duration: string) => `${before}${key}: ${divide(duration)}`,
    )
    .replaceAll(/\[(\d+[smhd])\]/g, (_, duration: string) => `[${divide(duration)}]`)
    .replace('  scrape_timeout: 10s\n', '')
    .replaceAll(/^( +)scrape_interval: (\w+)$/gm, '$&\n$1scrape_timeout: $2');
}

/** The programs of Debian's packages by the names that the images of the stack have for them. */
const PROGRAMS: Readonly<Record<string, string>> = {
  prometheus: 'prometheus',
  alertmanager: 'prometheus-alertmanager',
  'node-exporter': 'prometheus-node-exporter',
  'blackbox-exporter': 'prometheus-blackbox-exporter',
  'postgres-exporter': 'prometheus-postgres-exporter',
  'redis-exporter': 'prometheus-redis-exporter',
  'nginx-exporter': 'prometheus-nginx-exporter',
};

function findProgram(name: string): string {
  const found = (process.env['PATH'] ?? '')
    .split(delimiter)
    .map((folder) => join(folder, name))
    .find((path) => existsSync(path));
  if (found === undefined) throw new Error(`${name} is not in PATH: npm test fetches it`);
  return found;
}

/** One image with all of them, and one by the name of each service's image that starts its own, as nobody. */
async function publishStack(compose: string): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'slipway-monitoring-'));
  try {
    const names = Object.values(PROGRAMS);
    for (const name of names) await copyFile(findProgram(name), join(folder, name));
    // Debian's Alertmanager reads its own templates from there.
    const templates = join(dirname(findProgram('prometheus-alertmanager')), '../share/prometheus/alertmanager');
    for (const name of ['default.tmpl', 'email.tmpl']) await copyFile(join(templates, name), join(folder, name));
    await writeFile(
      join(folder, 'Dockerfile'),
      `FROM busybox:1
COPY --chmod=755 ${names.join(' ')} /bin/
COPY *.tmpl /usr/share/prometheus/alertmanager/
RUN mkdir /prometheus /alertmanager && chown 65534:65534 /prometheus /alertmanager
`,
    );
    await buildImage('monitoring/programs:1', folder, []);
  } finally {
    await rm(folder, { recursive: true });
  }
  for (const [service, program] of Object.entries(PROGRAMS)) {
    const image = new RegExp(`\\n  ${service}:\\n(?:    .*\\n)*?    image: (\\S+)`).exec(compose)?.[1] ?? '';
    await publishImage('monitoring/programs:1', image, {
      Entrypoint: [`/bin/${program}`],
      Cmd: null,
      User: '65534:65534',
      WorkingDir: service === 'alertmanager' ? '/alertmanager' : '/prometheus',
    });
  }
}

/** A disk to be filled. What lives in memory is none to node-exporter, and the sandbox has nothing else. */
const DISK = '/mnt/uploads';

// --- who is told ---------------------------------------------------------------------------------------------------------

interface Alert {
  readonly status: 'firing' | 'resolved';
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
}

class Receiver {
  readonly alerts: Alert[] = [];
  heartbeats = 0;
  /** By its path: all that Slack, Discord and PagerDuty would have been told. */
  readonly messages = new Map<string, string>();
  readonly #server: Server = createServer((request, response) => {
    let text = '';
    request.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
    request.on('end', () => {
      if (request.url === '/switch') this.heartbeats++;
      else if (request.url === '/alerts') this.alerts.push(...(JSON.parse(text) as { alerts: Alert[] }).alerts);
      else this.messages.set(request.url ?? '', (this.messages.get(request.url ?? '') ?? '') + text);
      // As PagerDuty answers; the others are content with it.
      response.writeHead(202).end();
    });
  });

  async listen(host: string): Promise<string> {
    await new Promise<void>((resolve) => this.#server.listen(0, host, resolve));
    return `http://${host}:${(this.#server.address() as AddressInfo).port}`;
  }

  close(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }

  /** The last word on an alert. */
  last(name: string): Alert | undefined {
    return this.alerts.findLast(({ labels }) => labels['alertname'] === name);
  }
}

// --- a site with a certificate -------------------------------------------------------------------------------------------

class Site {
  #server: TlsServer | undefined;
  #folder = '';

  async listen(host: string, seconds: number): Promise<string> {
    this.#folder = await mkdtemp(join(tmpdir(), 'slipway-certificate-'));
    const server = createTlsServer(await this.#certify(seconds));
    server.on('tlsClientError', () => undefined);
    this.#server = server;
    await new Promise<void>((resolve) => server.listen(0, host, resolve));
    return `${host}:${(server.address() as AddressInfo).port}`;
  }

  /** Shows another certificate from now on. */
  async show(seconds: number): Promise<void> {
    this.#server?.setSecureContext(await this.#certify(seconds));
  }

  async close(): Promise<void> {
    this.#server?.close();
    if (this.#folder !== '') await rm(this.#folder, { recursive: true, force: true });
  }

  /** To the second: openssl 3.0 can do that with `ca` alone. */
  async #certify(seconds: number): Promise<{ key: string; cert: string }> {
    const at = (name: string): string => join(this.#folder, name);
    const end = new Date(Date.now() + seconds * 1000).toISOString().replaceAll(/[-:T]|\.\d+/g, '');
    await writeFile(
      at('ca.conf'),
      `[ca]\ndefault_ca = one\n[one]\ndatabase = ${at('index')}\nserial = ${at('serial')}\nnew_certs_dir = ${this.#folder}
default_md = sha256\npolicy = any\nunique_subject = no\n[any]\ncommonName = supplied\n`,
    );
    await writeFile(at('index'), '');
    await writeFile(at('serial'), '01');
    const subject = ['-subj', '/CN=shop.example.com'];
    await run('openssl', ['req', '-newkey', 'rsa:2048', '-nodes', '-keyout', at('key'), '-out', at('csr'), ...subject]);
    const words = ['-config', at('ca.conf'), '-selfsign', '-keyfile', at('key'), '-in', at('csr'), '-out', at('cert')];
    await run('openssl', ['ca', '-batch', '-notext', ...words, '-enddate', end]);
    return { key: await readFile(at('key'), 'utf8'), cert: await readFile(at('cert'), 'utf8') };
  }
}

// --- the story -----------------------------------------------------------------------------------------------------------

/** Their secrets are files. */
const OTHER_WAYS = ['slack', 'discord', 'pagerduty'];
const PAGERDUTY_KEY = 'key-of-the-integration';

const receiver = new Receiver();
const site = new Site();
let shop: Checkout;
let image: string;

const shopInputs = (more: Readonly<Record<string, string>> = {}): Record<string, string> => ({
  project: 'shop',
  files: 'nginx\npublic',
  env: 'POSTGRES_PASSWORD=correct-horse-battery\nREDIS_PASSWORD=staple-of-redis',
  variables: `API_IMAGE=${image}`,
  'metrics-file': '/var/lib/node_exporter/shop-deploy.prom',
  ...more,
});

async function backUpShop(): Promise<void> {
  const { outcome, log } = await backUp({ 'metrics-file': '/var/lib/node_exporter/shop-backup.prom' });
  if (outcome !== 'success') throw new Error(`the backup ended with ${outcome}:\n${log}`);
}

async function until(what: string, seconds: number, holds: () => boolean | Promise<boolean>): Promise<void> {
  const end = performance.now() + seconds * 1000;
  while (!(await holds())) {
    if (performance.now() > end) throw new Error(`${what}: not within ${seconds} s; ${await describeState()}`);
    await new Promise((resolve) => setTimeout(resolve, 250));
  }
}

const ask = async (path: string): Promise<unknown> =>
  JSON.parse(await onServer('curl -sSg "http://127.0.0.1:9090/api/v1/$1"', [path]));

async function describeState(): Promise<string> {
  const { stdout } = await tryOnServer(
    `curl -sS http://127.0.0.1:9090/api/v1/alerts; docker ps -a --format '{{.Names}} {{.Status}}'; docker logs --tail 5 monitoring-alertmanager-1 2>&1`,
  );
  return `received ${JSON.stringify(receiver.alerts.map(({ status, labels }) => `${status} ${labels['alertname'] ?? ''}`))}\n${stdout}`;
}

beforeAll(async () => {
  await freshServer();
  const readme = openGuide('infra/monitoring/README.md', 'test/e2e/monitoring.test.ts');
  const compose = await readFile(join(MONITORING, 'compose.yaml'), 'utf8');
  // A server with systemd shares its mounts; the sandbox's PID 1 finds itself in a container, and does not.
  await onServer(`mount --make-rshared / && mkdir -p ${DISK} && mount -t tmpfs -o size=20m uploads ${DISK}
install -d -m 755 -o deploy -g deploy /var/lib/node_exporter`);
  image = await buildExample('v1');
  const stack = publishStack(compose);
  stack.catch(() => undefined);
  shop = await projectFiles({ 'compose.yaml': await readFile(join(EXAMPLE, 'compose.yaml'), 'utf8') });
  for (const folder of ['nginx', 'public'])
    await cp(join(EXAMPLE, folder), join(shop.folder, folder), { recursive: true });
  await mustDeploy(shop, shopInputs());
  await onServer(`set -e\n${readme.take('project=shop', 11).join('\n')}`);
  expect(readme.left()).toEqual([]);
  await stack;

  const { host } = sandboxInfo().network;
  const address = await receiver.listen(host);
  const certificate = await site.listen(host, 3600);
  const monitoring = await projectFiles({});
  await cp(MONITORING, join(monitoring.folder, 'monitoring'), { recursive: true });
  const change = async (path: string, edit: (text: string) => string): Promise<void> => {
    const file = join(monitoring.folder, 'monitoring', path);
    await writeFile(file, edit(await readFile(file, 'utf8')));
  };
  // What a user puts there.
  await change('alertmanager/alertmanager.yml', (text) =>
    quicken(text)
      .replace('https://alerts.example.com/', `${address}/alerts`)
      .replace('https://dead-mans-switch.example.com/', `${address}/switch`)
      // Other ways for the same alerts, as the README says.
      .replace('global:', `$&\n  pagerduty_url: ${address}/pagerduty`)
      .replace(
        '    # Somebody has to look now',
        `${OTHER_WAYS.map((name) => `    - { matchers: [severity = critical], receiver: ${name}, continue: true }\n`).join('')}$&`,
      ),
  );
  await onServer(
    `cd /etc/slipway-monitoring/alertmanager && umask 022 && echo "$1/slack" >slack-url && echo "$1/discord" >discord-url && echo ${PAGERDUTY_KEY} >pagerduty-key`,
    [address],
  );
  await change('prometheus/targets/tls.yml', () => `- targets: ['${certificate}']\n`);
  // Faster, and a disk in memory is one.
  await change('prometheus/prometheus.yml', quicken);
  for (const name of await readdir(join(MONITORING, 'prometheus/rules')))
    await change(`prometheus/rules/${name}`, quicken);
  await change('compose.yaml', (text) =>
    text
      .replace('fs-types-exclude=^(tmpfs|', 'fs-types-exclude=^(')
      // A minute by default: what was sent before Alertmanager listened is sent again after that.
      .replace('- --web.enable-lifecycle', `- --rules.alert.resend-delay=${divide('1m')}\n      $&`)
      // It answers half a second before the one who asks gives up; there is no half a second.
      .replace('--config.file=/etc/blackbox/blackbox.yml', '$&, --timeout-offset=0.1'),
  );
  await Promise.all([
    backUpShop(),
    mustDeploy(monitoring, {
      project: 'monitoring',
      'compose-file': 'monitoring/compose.yaml',
      files: 'monitoring',
      variables: 'APPLICATION_NETWORK=shop_default',
    }),
  ]);
});

afterAll(async () => {
  receiver.close();
  await site.close();
  await removeCheckouts();
});

test('all targets are up, and the watchdog barks', async () => {
  interface Targets {
    readonly data: {
      readonly activeTargets: readonly { labels: { job: string }; health: string; lastError: string }[];
    };
  }
  await until('all targets are up', 30, async () => {
    const { data } = (await ask('targets?state=active')) as Targets;
    const up = data.activeTargets.filter(({ health }) => health === 'up').map(({ labels }) => labels.job);
    return (
      [...new Set(up)].sort().join() ===
      'alertmanager,app,blackbox-http,blackbox-tls,nginx,node,postgres,prometheus,redis'
    );
  });
  await until('the dead man’s switch hears', 10, () => receiver.heartbeats > 0);
});

const BROKEN = ['ApplicationDown', 'BackupStale', 'CertificateExpired', 'CriticalDisk', 'DeployReverted'] as const;

test('what breaks is told', async () => {
  const reverted = await deploy(
    shop,
    shopInputs({ variables: `API_IMAGE=${image}\nLOG_LEVEL=debug`, 'e2e-command': 'runner: false' }),
  );
  expect(reverted.outputs['result']).toBe('reverted');
  await onServer(`docker stop -t 1 ${running('api')}
head -c 20600000 /dev/zero >${DISK}/full
perl -pi -e 's/(_last_(?:success|proven)_timestamp_seconds\\{.*\\}) (\\d+)/"$1 " . ($2 - 3 * 86400)/e' /var/lib/node_exporter/shop-backup.prom`);
  await site.show(3);
  await until(`${BROKEN.join(', ')} are told`, 40, () =>
    BROKEN.every((name) => receiver.last(name)?.status === 'firing'),
  );
  for (const name of BROKEN) {
    const { labels = {}, annotations = {} }: Partial<Alert> = receiver.last(name) ?? {};
    expect([name, labels['severity']]).toEqual([name, name === 'DeployReverted' ? 'warning' : 'critical']);
    expect(annotations['runbook_url']).toMatch(new RegExp(`#${name.toLowerCase()}$`));
    // What a template could not fill in.
    expect(Object.values(annotations).join()).not.toMatch(/<no value>|<error|\{\{/);
  }
  await until('all ways are taken', 20, () =>
    OTHER_WAYS.every((name) => receiver.messages.get(`/${name}`)?.includes('No replica of the application answers')),
  );
  expect(receiver.messages.get('/pagerduty')).toContain(PAGERDUTY_KEY);
  expect(receiver.last('BackupStale')?.annotations['summary']).toMatch(/^No backup of \S+ for 3d /);
  expect(receiver.last('CriticalDisk')?.labels['mountpoint']).toBe(DISK);
});

test('and taken back after the repair', async () => {
  await onServer(`rm ${DISK}/full`);
  await site.show(90 * 86_400);
  await mustDeploy(shop, shopInputs());
  await backUpShop();
  await until('all is taken back', 40, () => BROKEN.every((name) => receiver.last(name)?.status === 'resolved'));
});

test('what there is no image of here: Compose takes the whole file, and no port is open to the world', async () => {
  const compose = await readFile(join(MONITORING, 'compose.yaml'), 'utf8');
  const rendered = await onServer(
    `cd "$(mktemp -d)" && APPLICATION_NETWORK=shop_default COMPOSE_PROFILES=containers,dashboards,logs,tracing docker compose -f - config --format json`,
    [],
    compose,
  );
  const { services } = JSON.parse(rendered) as {
    services: Record<string, { ports?: { host_ip?: string }[]; deploy: { resources: { limits: { memory: string } } } }>;
  };
  expect(Object.keys(services)).toHaveLength(12);
  for (const { ports = [], deploy: limits } of Object.values(services)) {
    expect(Number(limits.resources.limits.memory)).toBeGreaterThan(0);
    for (const port of ports) expect(port.host_ip).toBe('127.0.0.1');
  }
});
