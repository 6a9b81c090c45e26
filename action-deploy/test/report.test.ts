import { ReleaseError } from '#shared/errors';
import { createPalette } from '#shared/model/palette';
import type { DeployPlan } from '../src/plan';
import {
  createReport,
  renderPlan,
  renderSummary,
  setOutputs,
  type DeployReport,
  type DeployResult,
} from '../src/report';

const plan: DeployPlan = {
  release: '20261122T110000Z-bbbbbbb',
  previous: '20261122T100000Z-aaaaaaa',
  services: [
    {
      service: 'web',
      action: 'replace',
      reasons: ['image', 'environment TOKEN'],
      stateful: false,
      imageBefore: `web:1@sha256:${'a'.repeat(64)}`,
      imageAfter: `web:2@sha256:${'b'.repeat(64)}`,
      replicas: 2,
    },
    {
      service: 'database',
      action: 'keep',
      reasons: [],
      stateful: true,
      imageBefore: 'postgres:17',
      imageAfter: 'postgres:17',
      replicas: 1,
    },
    {
      service: 'old',
      action: 'remove',
      reasons: ['no longer in the Compose file'],
      stateful: false,
      imageBefore: 'old:1',
      imageAfter: undefined,
      replicas: 0,
    },
  ],
  steps: [{ kind: 'hold', id: 'prove', title: 'prove the release', gate: { gate: 'proven' }, timeoutSeconds: 1 }],
  removed: ['old'],
  unknown: [],
};

const report = (over: Partial<DeployReport> = {}): DeployReport => ({
  ...createReport(),
  where: 'deploy@server',
  project: 'shop',
  release: plan.release,
  previous: plan.previous ?? '',
  ...over,
});

function outputs(one: DeployReport, redact = (text: string): string => text): Record<string, string> {
  const set: Record<string, string> = {};
  setOutputs(one, { setOutput: (name, value) => (set[name] = value) }, redact);
  return set;
}

const NAMES = ['changed-services', 'durations', 'plan', 'previous-release', 'release', 'result'];

test.each<DeployResult>(['deployed', 'unchanged', 'planned', 'reverted', 'refused', 'failed'])(
  'every output is there when the result is %s',
  (result) => {
    for (const one of [report({ result, plan, durations: { total: 1.23456 } }), { ...createReport(), result }]) {
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
    expect.stringMatching(/web {7}replace.*: image, environment TOKEN$/) as string,
    expect.stringMatching(/database {2}keep as it is$/) as string,
    expect.stringMatching(/old {7}remove: no longer in the Compose file$/) as string,
  ]);
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
