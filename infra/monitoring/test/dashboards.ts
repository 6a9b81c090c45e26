/** The dashboards as Grafana gets them, and what they ask. */
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

export const MONITORING = fileURLToPath(new URL('..', import.meta.url));
const DASHBOARDS = `${MONITORING}grafana/dashboards/`;

export interface Datasource {
  readonly type: string;
  readonly uid: string;
}

export interface Target {
  readonly refId: string;
  readonly datasource: Datasource;
  readonly expr: string;
  readonly instant?: boolean;
}

export interface Panel {
  readonly id: number;
  readonly type: string;
  readonly title: string;
  readonly description?: string;
  readonly datasource?: Datasource;
  readonly targets?: readonly Target[];
  readonly gridPos: Readonly<Record<'x' | 'y' | 'w' | 'h', number>>;
  readonly fieldConfig?: { readonly defaults: { readonly unit?: string } };
}

export interface Variable {
  readonly name: string;
  readonly datasource: Datasource;
  readonly query: { readonly query: string };
}

export interface Annotation {
  readonly name: string;
  readonly datasource: Datasource;
  readonly expr?: string;
  readonly target?: { readonly tags: readonly string[] };
}

export interface Dashboard {
  readonly uid: string;
  readonly title: string;
  readonly schemaVersion: number;
  readonly panels: readonly Panel[];
  readonly templating: { readonly list: readonly Variable[] };
  readonly annotations: { readonly list: readonly Annotation[] };
}

export const dashboards: ReadonlyMap<string, Dashboard> = new Map(
  readdirSync(DASHBOARDS).map((name) => [name, JSON.parse(readFileSync(DASHBOARDS + name, 'utf8')) as Dashboard]),
);

export interface Question {
  /** Where it is asked, for people. */
  readonly where: string;
  readonly expr: string;
  readonly instant: boolean;
}

/** Every query of panels and annotations to one datasource. */
export function listQuestions(uid: string): Question[] {
  return [...dashboards].flatMap(([file, { panels, annotations }]) => [
    ...panels.flatMap(({ title, targets = [] }) =>
      targets
        .filter(({ datasource }) => datasource.uid === uid)
        .map(({ refId, expr, instant = false }) => ({ where: `${file}: ${title} (${refId})`, expr, instant })),
    ),
    ...annotations.list.flatMap(({ name, datasource, expr }) =>
      datasource.uid === uid && expr !== undefined
        ? [{ where: `${file}: annotation ${name}`, expr, instant: false }]
        : [],
    ),
  ]);
}

/** `label_values(selector, label)` of every variable. */
export function listVariables(): { where: string; name: string; selector: string; label: string }[] {
  return [...dashboards].flatMap(([file, { templating }]) =>
    templating.list.map(({ name, query }) => {
      const match = /^label_values\((.+), (\w+)\)$/.exec(query.query);
      if (match === null) throw new Error(`${file}: the variable ${name} asks ${query.query}`);
      return { where: `${file}: $${name}`, name, selector: match[1] ?? '', label: match[2] ?? '' };
    }),
  );
}

/**
 * What Grafana makes of a query before it sends it. Variables have "All", whose value is `.*`.
 * https://grafana.com/docs/grafana/latest/dashboards/variables/add-template-variables/#global-variables
 *
 * @param times in Prometheus' notation, for `$__rate_interval`, `$__range` and the like
 */
export function expandVariables(expr: string, times: Readonly<Record<string, string>>): string {
  return expr.replaceAll(/\$(?:\{(\w+)\}|(\w+))/g, (whole, braced: string | undefined, bare: string | undefined) => {
    const name = braced ?? bare ?? '';
    if (/^\d+$/.test(name)) return whole; // label_replace's own
    if (!name.startsWith('__')) return '.*';
    const time = times[name];
    if (time === undefined) throw new Error(`${whole} is not known here: ${expr}`);
    return time;
  });
}
