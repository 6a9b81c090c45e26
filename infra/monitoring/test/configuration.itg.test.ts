/** The programs themselves judge what is shipped: configuration, rules, the rules' tests, and who is told what. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { listYaml, MONITORING, readRules } from './rules.ts';

const run = promisify(execFile);
const ALERTMANAGER = join(MONITORING, 'alertmanager/alertmanager.yml');

test('Prometheus takes its configuration, with all rules', async () => {
  const { stdout } = await run('promtool', ['check', 'config', join(MONITORING, 'prometheus/prometheus.yml')]);
  expect(stdout.match(/SUCCESS: \d+ rules found/g)).toHaveLength((await listYaml('prometheus/rules')).length);
});

test.each(await listYaml('prometheus/tests'))('rules and time: %s', async (name) => {
  const { stdout } = await run('promtool', ['test', 'rules', join(MONITORING, 'prometheus/tests', name)]);
  expect(stdout).toContain('SUCCESS');
});

test('the blackbox exporter takes its configuration', async () => {
  await run('prometheus-blackbox-exporter', [
    '--config.check',
    `--config.file=${join(MONITORING, 'blackbox/blackbox.yml')}`,
  ]);
});

describe('Alertmanager', () => {
  test('takes its configuration', async () => {
    const { stdout } = await run('amtool', ['check-config', ALERTMANAGER]);
    expect(stdout).toMatch(/SUCCESS[^]*6 receivers/);
  });

  const route = async (labels: Readonly<Record<string, string>>): Promise<string> => {
    const words = Object.entries(labels).map(([name, value]) => `${name}=${value}`);
    const { stdout } = await run('amtool', ['config', 'routes', 'test', `--config.file=${ALERTMANAGER}`, ...words]);
    return stdout.trim();
  };

  test('sends each alert to somebody, and the watchdog to nobody but the switch', async () => {
    for (const { alert, labels } of await readRules()) {
      expect([alert, await route({ alertname: alert, ...labels })]).toEqual([
        alert,
        alert === 'Watchdog' ? 'dead-mans-switch' : 'webhook',
      ]);
    }
    expect(await route({ alertname: 'OfYourOwn' })).toBe('webhook');
  });
});
