/** What can be said of the dashboards without a server. Their queries to Prometheus are asked in dashboards.itg.test.ts. */
import { readFileSync } from 'node:fs';
import { parser as logql } from '@grafana/lezer-logql';
import { parser as promql } from '@prometheus-io/lezer-promql';
import { parse } from 'yaml';
import { dashboards, expandVariables, listQuestions, listVariables, MONITORING } from './dashboards';

interface Provisioned {
  readonly name: string;
  readonly uid: string;
  readonly type: string;
  readonly url: string;
}

const provisioned = (
  parse(readFileSync(`${MONITORING}grafana/provisioning/datasources/datasources.yaml`, 'utf8')) as {
    datasources: Provisioned[];
  }
).datasources;

const TIMES = { __rate_interval: '1m', __range: '6h', __interval: '15s', __auto: '5m' };

/** Where the parser was at a loss. */
function findFaults(parser: typeof promql, text: string): string[] {
  const faults: string[] = [];
  parser.parse(text).iterate({
    enter: (node) => {
      if (node.type.isError)
        faults.push(`at ${node.from}: ...${text.slice(Math.max(0, node.from - 20), node.to + 20)}`);
    },
  });
  return faults;
}

test('the datasources have the names that dashboards call them by, and reach services of the project', () => {
  expect(provisioned.map(({ uid, type, url }) => `${uid} ${type} ${url}`)).toEqual([
    'prometheus prometheus http://prometheus:9090',
    'loki loki http://loki:3100',
    'alertmanager alertmanager http://alertmanager:9093',
    'tempo tempo http://tempo:3200',
  ]);
});

test('there is one for each subject, and no two are taken for the same', () => {
  expect([...dashboards.keys()].sort()).toEqual(
    ['application', 'containers', 'deploys', 'host', 'nginx', 'overview', 'postgresql', 'redis'].map(
      (name) => `${name}.json`,
    ),
  );
  const uids = [...dashboards.values()].map(({ uid }) => uid);
  const titles = [...dashboards.values()].map(({ title }) => title);
  expect(new Set(uids).size).toBe(uids.length);
  expect(new Set(titles).size).toBe(titles.length);
  // Grafana's limit: https://grafana.com/docs/grafana/latest/developers/http_api/dashboard/
  for (const uid of uids) expect(uid).toMatch(/^[\w-]{1,40}$/);
});

describe.each([...dashboards])('%s', (_file, { panels, annotations, templating }) => {
  const drawn = panels.filter(({ type }) => type !== 'row');

  test('panels: ids of their own, a unit, words on what they show, a datasource that is there', () => {
    expect(drawn.length).toBeGreaterThan(4);
    expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length);
    const known = provisioned.map(({ uid, type }) => `${type} ${uid}`);
    for (const { title, description, datasource, targets = [], fieldConfig } of drawn) {
      const missing = Object.entries({ title, unit: fieldConfig?.defaults.unit, description })
        .filter(([, text]) => text === undefined || text === '')
        .map(([name]) => `${title}: ${name}`);
      expect(missing).toEqual([]);
      expect(targets.length).toBeGreaterThan(0);
      expect(new Set(targets.map(({ refId }) => refId)).size).toBe(targets.length);
      for (const one of [datasource, ...targets.map((target) => target.datasource)]) {
        expect(known).toContain(`${one?.type ?? ''} ${one?.uid ?? ''}`);
      }
    }
    for (const { datasource } of templating.list) expect(known).toContain(`${datasource.type} ${datasource.uid}`);
  });

  test('panels lie within the 24 columns, and none on another', () => {
    const taken = new Set<string>();
    for (const { title, gridPos } of panels) {
      expect(gridPos.x + gridPos.w).toBeLessThanOrEqual(24);
      for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++) {
        for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
          const cell = `${x},${y}`;
          if (taken.has(cell)) throw new Error(`${title} lies on another panel at ${cell}`);
          taken.add(cell);
        }
      }
    }
  });

  test('each release is marked, and each deploy that Slipway told of', () => {
    expect(annotations.list.map(({ datasource, target }) => [datasource.uid, target?.tags])).toEqual([
      ['prometheus', undefined],
      ['-- Grafana --', ['slipway']],
    ]);
  });

  test('a variable that a query uses is one that the dashboard has', () => {
    const has = templating.list.map(({ name }) => name);
    const used =
      [...panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr)), ...templating.list.map(({ query }) => query.query)] // prettier-ignore
        .flatMap((expr) => [...expr.matchAll(/\$([a-z]\w*)/g)].map(([, name]) => name));
    expect([...new Set(used)].filter((name) => !has.includes(name ?? ''))).toEqual([]);
    expect(has.filter((name) => !used.includes(name))).toEqual([]);
  });
});

test('queries to Prometheus and Loki are of their languages', () => {
  const prometheus = listQuestions('prometheus');
  const loki = listQuestions('loki');
  expect(prometheus.length).toBeGreaterThan(80);
  expect(loki.length).toBeGreaterThanOrEqual(5);
  const faults = [
    ...prometheus.map(({ where, expr }) => [where, findFaults(promql, expandVariables(expr, TIMES))] as const),
    ...listVariables().map(
      ({ where, selector }) => [where, findFaults(promql, expandVariables(selector, TIMES))] as const,
    ),
    ...loki.map(({ where, expr }) => [where, findFaults(logql, expandVariables(expr, TIMES))] as const),
  ];
  expect(faults.filter(([, found]) => found.length > 0)).toEqual([]);
  // The parsers do find what is wrong.
  expect(findFaults(promql, 'sum by (a (x)')).not.toEqual([]);
  expect(findFaults(logql, '{a="b"} | json | status >=')).not.toEqual([]);
});

test('nothing is made up where there is no data', () => {
  for (const { where, expr } of listQuestions('prometheus')) {
    expect({ where, madeUp: /\bvector\s*\(|\babsent/.test(expr) }).toEqual({ where, madeUp: false });
  }
});
