import { ReleaseError } from '../../src/errors';
import { createPalette } from '../../src/model/palette';
import type { WatchStats } from '../../src/probes/watch-url';
import type { DeployPlan, ServicePlan } from '../../src/transaction/plan';
import {
  createReport,
  renderPlan,
  renderSummary,
  describeOutputs,
  type TransactionReport,
  type TransactionResult,
} from '../../src/engine/report';

const strategy: ServicePlan['strategy'] = {
  order: 'stop-first',
  reasons: [],
  router: undefined,
  groups: [2],
  groupDelaySeconds: 0,
  monitorSeconds: undefined,
  replacedWith: [],
};

const plan: DeployPlan = {
  release: '20261122T110000Z-bbbbbbb',
  previous: '20261122T100000Z-aaaaaaa',
  services: [
    {
      service: 'web',
      action: 'replace',
      reasons: ['image', 'environment TOKEN'],
      stateful: false,
      strategy: { ...strategy, order: 'start-first', reasons: ['behind router proxy'] },
      imageBefore: `web:1@sha256:${'a'.repeat(64)}`,
      imageAfter: `web:2@sha256:${'b'.repeat(64)}`,
      replicas: 2,
    },
    {
      service: 'database',
      action: 'keep',
      reasons: [],
      stateful: true,
      strategy,
      imageBefore: 'postgres:17',
      imageAfter: 'postgres:17',
      replicas: 1,
    },
    {
      service: 'old',
      action: 'remove',
      reasons: ['no longer in the Compose file'],
      stateful: false,
      strategy,
      imageBefore: 'old:1',
      imageAfter: undefined,
      replicas: 0,
    },
  ],
  steps: [{ kind: 'hold', id: 'prove', title: 'prove the release', gate: { gate: 'proven' }, timeoutSeconds: 1 }],
  undo: [{ verb: 'revive', id: 'c1', restart: 'always' }],
  finish: [{ verb: 'retire', ids: ['c1'] }],
  retired: ['c1'],
  before: { web: ['c1'] },
  removed: ['old'],
  unknown: [],
  migrations: [],
};

const report = (over: Partial<TransactionReport> = {}): TransactionReport => ({
  ...createReport('deploy'),
  where: 'deploy@server',
  project: 'shop',
  release: plan.release,
  previous: plan.previous ?? '',
  ...over,
});

function outputs(one: TransactionReport, redact = (text: string): string => text): Record<string, string> {
  return { ...describeOutputs(one, redact) };
}

const NAMES = ['changed-services', 'durations', 'plan', 'previous-release', 'release', 'result', 'watch'];

test.each<TransactionResult>(['deployed', 'unchanged', 'planned', 'reverted', 'refused', 'failed', 'unknown'])(
  'every output is there when the result is %s',
  (result) => {
    for (const one of [
      report({ result, plan, durations: { total: 1.23456 } }),
      { ...createReport('deploy'), result },
    ]) {
      const set = outputs(one);
      expect(Object.keys(set).sort()).toEqual(NAMES);
      expect(set['result']).toBe(result);
      const touched = one.plan !== undefined && result !== 'refused' && result !== 'planned';
      expect(JSON.parse(set['changed-services'] ?? '')).toEqual(touched ? ['web', 'old'] : []);
      expect(() => JSON.parse(set['durations'] ?? '') as unknown).not.toThrow();
      expect(renderSummary(one)).toMatch(/^### \S/);
    }
  },
);

test('the plan as an output: services and steps, no commands', () => {
  const set = outputs(report({ plan, durations: { plan: 1.23456, total: 2 } }));
  expect(JSON.parse(set['plan'] ?? '')).toEqual({
    release: plan.release,
    previousRelease: plan.previous,
    services: plan.services.map((service) => JSON.parse(JSON.stringify(service)) as unknown),
    steps: [{ id: 'prove', title: 'prove the release' }],
  });
  expect(set['durations']).toBe('{"plan":1.23,"total":2}');
});

test('an output that holds a masked value would be dropped: it is redacted', () => {
  expect(outputs(report({ plan }), (text) => text.replaceAll('web', '***'))['plan']).not.toContain('web');
});

test('the plan in the log, one line a service', () => {
  expect(renderPlan(plan, createPalette(false)).split('\n')).toEqual([
    expect.stringMatching(
      /web {7}replace without an outage: start the new, then stop the old \(behind router proxy\): image, environment TOKEN$/,
    ) as string,
    expect.stringMatching(/database {2}keep as it is$/) as string,
    expect.stringMatching(/old {7}remove: no longer in the Compose file$/) as string,
  ]);
});

test('how a service is replaced is in the plan, and that one is scaled or started', () => {
  const line = (over: Partial<ServicePlan>): string => {
    const [first] = plan.services;
    if (first === undefined) throw new Error('the plan has a service');
    return renderPlan({ ...plan, services: [{ ...first, reasons: [], strategy, ...over }] }, createPalette(false));
  };
  expect([
    line({ strategy: { ...strategy, reasons: ['has the volume data', 'publishes port 80'] } }),
    line({ strategy: { ...strategy, order: 'in-place' } }),
    line({ action: 'scale', reasons: ['replicas 1 -> 2'] }),
    line({ action: 'start' }),
    line({ action: 'create' }),
  ]).toEqual([
    '~ web  replace: stop the old, then start the new (has the volume data, publishes port 80)',
    '~ web  replace: stop the old, then start the new',
    '~ web  scale: replicas 1 -> 2',
    '~ web  start again',
    '+ web  create',
  ]);
});

const stats: WatchStats = {
  seconds: 12,
  requests: 120,
  failures: 1,
  longestGapSeconds: 0.3,
  latencyMs: { p50: 2, p95: 5, max: 40 },
  statuses: { 200: 119, 502: 1 },
  firstFailures: [{ atSeconds: 3, tookMs: 5, reason: 'status 502' }],
  underWay: 0,
  cutOff: 0,
  skipped: 0,
  latenessMs: 1,
};

test('what a visitor saw is an output and a line of the summary', () => {
  const watch = { url: 'https://shop.example/', text: '120 requests, 1 failed', stats };
  expect(JSON.parse(outputs(report({ watch }))['watch'] ?? '')).toEqual({ url: watch.url, ...stats });
  expect(outputs(report())['watch']).toBe('');
  expect(outputs(report({ watch }), (text) => text.replaceAll('shop', '***'))['watch']).not.toContain('shop');
  expect(renderSummary(report({ watch }))).toMatch(/^Watched .*shop.*: 120 requests, 1 failed\.$/m);
});

test.each<[string, Partial<TransactionReport>, string]>([
  ['a lost server', { result: 'unknown', release: '' }, '### UNKNOWN: the server cannot be asked'],
  ['a way back that failed', { result: 'failed', release: '' }, '### FAILED; look at the server'],
  ['a way back that worked', { result: 'reverted', release: 'R1' }, '### Failed, and put back'],
])('the summary of %s says so first, and what serves', (_name, over, title) => {
  const [first, , serving] = renderSummary(report(over)).split('\n');
  expect(first).toContain(title);
  expect(serving).toBe(
    over.release === '' ? `Before this deploy, release **${plan.previous ?? ''}** served.` : 'Release **R1** serves.',
  );
});

test('the summary of a first deploy that failed says that nothing serves', () => {
  const [first, , serving] = renderSummary(report({ result: 'reverted', release: '', previous: '' })).split('\n');
  expect(first).toBe('### Failed, and removed again: shop on deploy@\u200dserver');
  expect(serving).toBe('No release serves, as before this deploy.');
});

test('the summary of a deploy', () => {
  const text = renderSummary(
    report({
      result: 'deployed',
      plan,
      durations: { connect: 0.5, total: 12.34 },
      timeline: [{ id: 'x', title: 'replace web', seconds: 2.34, ok: true }],
    }),
  );
  expect(text).toContain('### Deployed: shop on deploy@\u200dserver');
  expect(text).toContain('web:1@\u200daaaaaaaaaaaa -&gt; web:2@\u200dbbbbbbbbbbbb');
  expect(text).toContain('replace web');
  expect(text).not.toContain('a'.repeat(13));
});

const EVIL = [
  '|',
  '<script>alert(1)</script>',
  '`x`',
  '@octocat',
  '[x](javascript:y)',
  'http://evil.example',
  '\n\n# title',
  '<!--',
  '````',
  '\u202e',
  '\r| a | b |',
].join(' ');

test('nothing that comes from a server is Markdown, HTML, a mention or a link', () => {
  const text = renderSummary(
    report({
      where: EVIL,
      project: EVIL,
      release: EVIL,
      previous: EVIL,
      result: 'failed',
      plan: {
        ...plan,
        services: plan.services.map((service) => ({
          ...service,
          service: EVIL,
          reasons: [EVIL],
          imageBefore: EVIL,
          imageAfter: EVIL,
        })),
      },
      warnings: [EVIL],
      durations: { [EVIL]: 1 },
      timeline: [{ id: EVIL, title: EVIL, seconds: 1, ok: false }],
      failure: new ReleaseError(EVIL, EVIL),
      watch: { url: EVIL, text: EVIL, stats },
    }),
  );
  // The one block that is shown as it is: its fence is longer than any inside.
  const block = /^(`{4,})text\n([\s\S]*?)\n\1$/m.exec(text);
  expect(block?.[1]?.length).toBe(5);
  const rest = text.replace(block?.[0] ?? '', '');
  expect(rest).not.toMatch(/<(?!\/?sub>)|@[A-Za-z]|https?:\/\/|\u202e|\r/);
  expect(rest).not.toMatch(/^# title/m);
  const rows = rest.split('\n').filter((line) => line.startsWith('|'));
  for (const row of rows) expect([7, 4]).toContain(row.replaceAll('\\|', '').split('|').length - 1);
});

test.each([new Error('plain'), 'text', undefined, null, new ReleaseError('what', 'hint')])(
  'a failure that is %p',
  (failure) => {
    expect(() => renderSummary(report({ result: 'failed', failure }))).not.toThrow();
  },
);

test('a summary stays far below 1 MiB, whatever a server says', () => {
  const huge = `${'`'.repeat(100_000)}${'x'.repeat(3_000_000)}`;
  const services = Array.from(
    { length: 50 },
    (_, index) =>
      ({
        ...plan.services[0],
        service: `s${index}`,
        reasons: [huge],
        imageBefore: huge,
        imageAfter: huge,
      }) as DeployPlan['services'][number],
  );
  const text = renderSummary(
    report({ result: 'failed', failure: new ReleaseError(huge, huge), warnings: [huge], plan: { ...plan, services } }),
  );
  expect(Buffer.byteLength(text)).toBeLessThan(1024 * 1024);
});
