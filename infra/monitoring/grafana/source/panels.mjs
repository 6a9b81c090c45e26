/**
 * The words in which the dashboards are written: each function returns a piece of Grafana's dashboard JSON
 * (https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/view-dashboard-json-model/). Nothing here knows a metric.
 */

const PROMETHEUS = { type: 'prometheus', uid: 'prometheus' };
const LOKI = { type: 'loki', uid: 'loki' };

const GRID_COLUMNS = 24;
const SCHEMA_VERSION = 39;

/** Colours mean something: green is well, orange wants a look, red hurts. */
export const calm = [{ color: 'text', value: null }];
export const goodBelow = (orange, red) => [
  { color: 'green', value: null },
  { color: 'orange', value: orange },
  { color: 'red', value: red },
];
export const goodAbove = (red, orange) => [
  { color: 'red', value: null },
  { color: 'orange', value: red },
  { color: 'green', value: orange },
];
export const yesIsGood = [
  { color: 'red', value: null },
  { color: 'green', value: 1 },
];
export const zeroIsGood = [
  { color: 'green', value: null },
  { color: 'red', value: 1 },
];

/** What a number that is really a word is shown as. */
export const words = (texts) => [
  { type: 'value', options: Object.fromEntries(Object.entries(texts).map(([value, text]) => [value, { text }])) },
];

/** A query over the time shown. `legend` is Grafana's: `{{label}}`. */
export const over = (expr, legend = '') => ({
  datasource: PROMETHEUS,
  expr,
  legendFormat: legend || '__auto',
  range: true,
});

/** A query at the end of the time shown. */
export const now = (expr, legend = '') => ({ ...over(expr, legend), range: false, instant: true });

/** A LogQL query: of lines, or of numbers counted from lines. */
export const logs = (expr, legend = '') => ({ datasource: LOKI, expr, legendFormat: legend, queryType: 'range' });

function panel(
  type,
  title,
  { description, unit, thresholds = calm, mappings = [], min, max, decimals, width, height, overrides },
  queries,
) {
  const targets = queries.map((query, index) => ({ refId: String.fromCharCode(65 + index), ...query }));
  return {
    type,
    title,
    description,
    datasource: targets[0].datasource,
    targets,
    width,
    height,
    fieldConfig: {
      defaults: {
        unit,
        mappings,
        thresholds: { mode: 'absolute', steps: thresholds },
        ...(min === undefined ? {} : { min }),
        ...(max === undefined ? {} : { max }),
        ...(decimals === undefined ? {} : { decimals }),
      },
      overrides: overrides ?? [],
    },
  };
}

/** One number, or one for each series. `show: 'name'` shows what it is called instead. */
export function stat(title, settings, ...queries) {
  return {
    ...panel('stat', title, { width: 4, height: 4, ...settings }, queries),
    options: {
      reduceOptions: { calcs: ['lastNotNull'], fields: '', values: false },
      colorMode: settings.thresholds === undefined ? 'none' : 'value',
      graphMode: queries.some(({ range }) => range) ? 'area' : 'none',
      textMode: settings.show ?? 'auto',
    },
  };
}

/** @param expr 1 where an exporter reaches its server */
export const upOrDown = (expr, size) =>
  stat(
    'Server',
    {
      unit: 'none',
      thresholds: yesIsGood,
      mappings: words({ 0: 'down', 1: 'up' }),
      ...size,
      description: 'As its exporter finds it.',
    },
    now(expr, '{{instance}}'),
  );

/** Lines over time. `stack` where the sum means something, `limit` names the series that is a limit: dashed, not filled. */
export function graph(title, settings, ...queries) {
  const { stack = false, limit } = settings;
  const dashed = [
    { id: 'custom.lineStyle', value: { fill: 'dash', dash: [8, 8] } },
    { id: 'custom.fillOpacity', value: 0 },
    { id: 'custom.stacking', value: { mode: 'none' } },
  ];
  const overrides = limit === undefined ? [] : [{ matcher: { id: 'byName', options: limit }, properties: dashed }];
  const drawn = panel('timeseries', title, { width: 12, height: 8, min: 0, overrides, ...settings }, queries);
  drawn.fieldConfig.defaults.custom = {
    drawStyle: 'line',
    lineWidth: 1,
    fillOpacity: stack ? 30 : 8,
    showPoints: 'never',
    spanNulls: false,
    stacking: { mode: stack ? 'normal' : 'none', group: 'A' },
    thresholdsStyle: { mode: settings.thresholds === undefined ? 'off' : 'dashed' },
  };
  return {
    ...drawn,
    options: {
      legend: { displayMode: 'table', placement: 'bottom', showLegend: true, calcs: ['mean', 'max', 'lastNotNull'] },
      tooltip: { mode: 'multi', sort: 'desc' },
    },
  };
}

/** A row for each series: its labels, in the order of `columns` (label: heading), and its value, headed `value`. */
export function table(title, { columns, value, ...settings }, query) {
  const order = Object.fromEntries([...Object.keys(columns), 'Value'].map((name, index) => [name, index]));
  return {
    ...panel('table', title, { width: 12, height: 8, ...settings }, [{ ...query, format: 'table' }]),
    options: { showHeader: true, cellHeight: 'sm', footer: { show: false } },
    transformations: [
      { id: 'filterFieldsByName', options: { include: { names: Object.keys(order) } } },
      {
        id: 'organize',
        options: { excludeByName: {}, indexByName: order, renameByName: { ...columns, Value: value } },
      },
    ],
  };
}

/** The lines themselves, the newest first. */
export function lines(title, settings, query) {
  return {
    ...panel('logs', title, { width: 24, height: 10, unit: 'none', ...settings }, [query]),
    options: {
      showTime: true,
      wrapLogMessage: true,
      prettifyLogMessage: false,
      enableLogDetails: true,
      dedupStrategy: 'none',
      sortOrder: 'Descending',
    },
  };
}

/** A choice of values of a label; all of them at first. */
export function variable(name, title, metric, label = name) {
  const query = `label_values(${metric}, ${label})`;
  return {
    name,
    label: title,
    type: 'query',
    datasource: PROMETHEUS,
    definition: query,
    query: { qryType: 1, query, refId: `variable-${name}` },
    refresh: 2, // when the time changes: a project that was removed has values in the past only
    sort: 1,
    multi: true,
    includeAll: true,
    allValue: '.*',
    current: { selected: true, text: ['All'], value: ['$__all'] },
    hide: 0,
    options: [],
    regex: '',
    skipUrlSync: false,
  };
}

/**
 * A line through every graph for each release. The first comes with every example application, without a deploy tool's help: it
 * draws one where a release id answers that did not within the five minutes before (so that a failed scrape draws none).
 */
const RELEASES = {
  name: 'Releases',
  datasource: PROMETHEUS,
  enable: true,
  iconColor: 'purple',
  expr:
    'count by (job, release_id) (build_info{job="app"}) unless on (job, release_id) ' +
    'count by (job, release_id) (last_over_time(build_info{job="app"}[5m] offset 1m))',
  step: '60s',
  titleFormat: 'Release {{release_id}}',
  textFormat: 'answers for the first time',
  tagKeys: 'job',
  useValueForTime: false,
};

/** What action-deploy and action-rollback write (inputs `grafana-url` and `grafana-token`): reverted deploys too. */
const DEPLOYS = {
  name: 'Deploys',
  datasource: { type: 'grafana', uid: '-- Grafana --' },
  enable: true,
  iconColor: 'blue',
  target: { type: 'tags', tags: ['slipway'], limit: 100, matchAny: false },
};

/** Rows of panels, from left to right and wrapped, as one dashboard. */
export function dashboard({ uid, title, description, variables = [], rows, refresh = '1m', from = 'now-6h' }) {
  const panels = [];
  let y = 0;
  for (const { title: heading, panels: members } of rows) {
    panels.push({
      type: 'row',
      title: heading,
      collapsed: false,
      panels: [],
      gridPos: { x: 0, y, w: GRID_COLUMNS, h: 1 },
    });
    y += 1;
    let x = 0;
    let tallest = 0;
    for (const { width, height, ...member } of members) {
      if (x + width > GRID_COLUMNS) {
        [x, y, tallest] = [0, y + tallest, 0];
      }
      panels.push({ ...member, gridPos: { x, y, w: width, h: height } });
      x += width;
      tallest = Math.max(tallest, height);
    }
    y += tallest;
  }
  return {
    uid,
    title,
    description,
    tags: ['slipway'],
    schemaVersion: SCHEMA_VERSION,
    editable: false,
    graphTooltip: 1, // one cross-hair through all graphs
    refresh,
    time: { from, to: 'now' },
    timezone: 'browser',
    links: [
      { type: 'dashboards', title: 'Slipway', tags: ['slipway'], asDropdown: true, includeVars: false, keepTime: true },
    ],
    annotations: { list: [RELEASES, DEPLOYS] },
    templating: { list: variables },
    panels: panels.map((one, index) => ({ id: index + 1, ...one })),
  };
}
