/** The stack as it is written: what can be said of every service without an image of it. */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parse } from 'yaml';
import { MONITORING } from './rules.ts';

interface Service {
  readonly image: string;
  readonly command?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  readonly restart?: string;
  readonly security_opt?: readonly string[];
  readonly cap_drop?: readonly string[];
  readonly privileged?: boolean;
  readonly network_mode?: string;
  readonly ports?: readonly string[];
  readonly volumes?: readonly string[];
  readonly profiles?: readonly string[];
  readonly healthcheck?: { readonly test: readonly string[] };
  readonly deploy: { readonly resources: { readonly limits: { readonly memory: string } } };
}

const text = await readFile(join(MONITORING, 'compose.yaml'), 'utf8');
const { services, volumes } = parse(text, { merge: true }) as {
  readonly services: Readonly<Record<string, Service>>;
  readonly volumes: Readonly<Record<string, unknown>>;
};
const all = Object.entries(services);

/** Their images have the one program and nothing else, and it does not ask itself. */
const WITHOUT_HEALTH_CHECK = ['nginx-exporter', 'tempo'];

const megabytes = (limit: string): number => Number(/^(\d+)M$/.exec(limit)?.[1]);

test('the services are those that README, dashboards and scrape configuration are about', () => {
  expect(Object.keys(services).sort()).toEqual([
    'alertmanager',
    'alloy',
    'blackbox-exporter',
    'cadvisor',
    'grafana',
    'loki',
    'nginx-exporter',
    'node-exporter',
    'postgres-exporter',
    'prometheus',
    'redis-exporter',
    'tempo',
  ]);
});

test.each(all)('%s', (name, service) => {
  // An exact version: three numbers.
  expect(service.image).toMatch(/^[\w./-]+:v?\d+\.\d+\.\d+(-[a-z]+)?$/);
  expect(service.restart).toBe('unless-stopped');
  expect(service.security_opt).toEqual(['no-new-privileges:true']);
  expect(service.cap_drop).toEqual(['ALL']);
  expect(service.privileged).toBeUndefined();
  expect(service.network_mode).toBeUndefined();
  expect(megabytes(service.deploy.resources.limits.memory)).toBeGreaterThan(0);
  for (const port of service.ports ?? []) expect(port).toMatch(/^127\.0\.0\.1:/);
  // No secret in an argument or in the environment: they are read from files.
  for (const word of service.command ?? []) expect(word).not.toMatch(/(password|token|secret)=/i);
  for (const variable of Object.keys(service.environment ?? {})) expect(variable).not.toMatch(/(PASS|PASSWORD|TOKEN)$/);
  if (WITHOUT_HEALTH_CHECK.includes(name)) expect(service.healthcheck).toBeUndefined();
  else expect(service.healthcheck?.test[0]).toBe('CMD');

  for (const volume of service.volumes ?? []) {
    const { source = '', mode } = /^(?<source>\$\{[^}]+\}[^:]*|[^:]+):[^:]+(:(?<mode>.+))?$/.exec(volume)?.groups ?? {};
    if (source in volumes) continue;
    expect([volume, mode?.split(',')[0]]).toEqual([volume, 'ro']);
    if (source.startsWith('./')) expect([source, existsSync(join(MONITORING, source))]).toEqual([source, true]);
    else expect(source).toMatch(/^(\/|\$\{(SECRETS|METRICS)_FOLDER:-\/)/);
  }
});

test('memory fits a server of 4 GB, as the file says', () => {
  const sum = (some: readonly Service[]): number =>
    some.reduce((total, { deploy }) => total + megabytes(deploy.resources.limits.memory), 0);
  const core = sum(all.map(([, service]) => service).filter(({ profiles }) => profiles === undefined));
  expect(text).toContain(`metrics and alerts ${core} MB, all profiles ${sum(all.map(([, service]) => service))} MB`);
  expect(sum(all.map(([, service]) => service))).toBeLessThan(2048);
});

test('every volume is used', () => {
  const used = all.flatMap(([, service]) => service.volumes ?? []).map((volume) => volume.split(':')[0]);
  for (const name of Object.keys(volumes)) expect(used).toContain(name);
});
