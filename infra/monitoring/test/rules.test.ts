/** Each rule has what a person needs who is woken by it, and tests that show when it fires, when not, and what happens without its exporter. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { MONITORING, readCases, readRules, type Rule } from './rules.ts';

const rules = await readRules();
const cases = await readCases();
const runbook = await readFile(join(MONITORING, '../docs/RUNBOOK.md'), 'utf8');
const sections = [...runbook.matchAll(/^### (.+)\n\n(.+)/gm)].map(([, title, first]) => ({ title, first }));

/** Which alert tells, when what these rules look at is no longer measured. Those of a profile, and the blackbox exporter's second job, have the general ones. */
const COMPANIONS: Readonly<Record<string, readonly string[]>> = {
  application: ['ApplicationDown', 'EndpointNotWatched'],
  backups: ['BackupNotWatched', 'HostNotWatched'],
  certificates: ['CertificateUnreadable', 'EndpointNotWatched', 'TargetDown'],
  containers: ['TargetMissing', 'TargetDown'],
  deploys: ['HostNotWatched'],
  host: ['HostNotWatched'],
  monitoring: ['Watchdog', 'TargetMissing', 'AlertmanagerUnreachable'],
  nginx: ['NginxDown'],
  postgres: ['PostgresDown'],
  redis: ['RedisDown'],
};

test('there are rules, and each has a name of its own', () => {
  expect(rules.length).toBeGreaterThan(40);
  expect(new Set(rules.map(({ alert }) => alert)).size).toBe(rules.length);
});

test.each(rules.map((rule): [string, Rule] => [rule.alert, rule]))('%s', (alert, rule) => {
  const { severity = '', area = '' } = rule.labels;
  const { summary = '', description = '', runbook_url: url = '' } = rule.annotations;
  expect(['critical', 'warning', 'info', 'none']).toContain(severity);
  expect(area).toBe(rule.file);
  expect(summary).not.toBe('');
  // A description tells a value, or for want of one what was asked.
  if (severity !== 'none' && !/^absent\(/.test(rule.expr)) expect(description).toMatch(/\{\{ \$(value|labels\.\w+)/);

  expect(url).toBe(`https://github.com/your-org/slipway/blob/main/infra/docs/RUNBOOK.md#${alert.toLowerCase()}`);
  const section = sections.filter(({ title }) => title === alert);
  expect(section).toHaveLength(1);
  expect(section[0]?.first).not.toMatch(/^#/);

  const own = cases.filter((one) => one.alert === alert);
  const firing = own.filter((one) => one.firing.length > 0);
  expect(firing).not.toEqual([]);
  if (severity !== 'none') expect(own.filter((one) => one.firing.length === 0)).not.toEqual([]);

  // A label that an alert does not have is written as nothing, in a sentence that somebody has to understand at night.
  const asked = [...`${summary} ${description}`.matchAll(/\$labels\.(\w+)/g)].map(([, label]) => label ?? '');
  for (const labels of firing.flatMap((one) => one.firing)) expect(labels).toEqual(expect.arrayContaining(asked));
});

test('no case is about an alert that there is not, and no section of the runbook either', () => {
  const known = rules.map(({ alert }) => alert).sort();
  expect([...new Set(cases.map(({ alert }) => alert))].sort()).toEqual(known);
  const alerts = runbook.slice(runbook.indexOf('\n## Alerts'));
  const end = alerts.indexOf('\n## ', 1);
  const titles = [...alerts.slice(0, end < 0 ? undefined : end).matchAll(/^### (.+)$/gm)].map(([, title]) => title);
  expect(titles.sort()).toEqual(known);
});

test('what is not measured any more is told: each file has a case in which its exporter is gone', () => {
  const files = [...new Set(rules.map(({ file }) => file))].sort();
  expect(Object.keys(COMPANIONS)).toEqual(files);
  for (const file of files) {
    expect([file, cases.some((one) => one.file === file && one.name.startsWith('gone:'))]).toEqual([file, true]);
    const told = (COMPANIONS[file] ?? []).filter((alert) =>
      cases.some((one) => one.alert === alert && one.name.startsWith('gone:') && one.firing.length > 0),
    );
    expect([file, told.length > 0]).toEqual([file, true]);
  }
});

test('no gauge is asked for its rate, and nothing is divided by what may be 0', () => {
  for (const { alert, expr } of rules) {
    expect([alert, /(rate|increase)\(\w*(max_tx_duration|_bytes|_ratio|pg_stat_activity_count)\b/.test(expr)]).toEqual([
      alert,
      false,
    ]);
    expect([alert, /\/\s*(\w*max_bytes|\w*limit_bytes\{[^}]*\}|node_filesystem_files\b)/.test(expr)]).toEqual([
      alert,
      false,
    ]);
  }
});
