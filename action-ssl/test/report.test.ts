import { expect, test } from '@jest/globals';
import { type Certificate, parseChain } from '#shared/tls/certificate';
import { INTERMEDIATE, LEAF, SHORT_LIVED } from '../../shared/test/tls/sample-certificates';
import { decideRenewal } from '../src/plan';
import { createReport, renderLeft, renderOutputs, renderSummary, type Report } from '../src/report';

const [leaf] = parseChain(LEAF + INTERMEDIATE) as [Certificate];
const [short] = parseChain(SHORT_LIVED) as [Certificate];
/** Half of its life is over. */
const now = new Date((leaf.validFrom.getTime() + leaf.validTo.getTime()) / 2);

const report: Report = {
  ...createReport('obtain'),
  result: 'obtained',
  name: 'shop.example',
  certificate: leaf,
  renewal: decideRenewal(leaf, undefined),
  timers: [
    { unit: 'certbot.timer', isActive: true },
    { unit: 'other.timer', isActive: false },
  ],
  served: [
    {
      name: 'shop.example',
      address: '203.0.113.7',
      from: 'runner',
      certificate: leaf,
      chain: { kind: 'trusted' },
      problem: '',
    },
    {
      name: 'shop.example',
      address: '2001:db8::7',
      from: 'server',
      certificate: short,
      chain: { kind: 'trusted' },
      problem: '',
    },
  ],
  warnings: [{ title: 'Two', text: 'Several renew | it <b>' }],
};

test('outputs', () => {
  const { results, ...outputs } = renderOutputs(report, now);
  expect(outputs).toEqual({
    result: 'obtained',
    'certificate-name': 'shop.example',
    names: 'shop.example,www.shop.example',
    issuer: 'Test Authority T1',
    fingerprint: leaf.fingerprint,
    expires: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/),
    'days-left': '45.0',
    'life-left': '50',
    'next-renewal': expect.stringMatching(/Z$/),
    served: 'false',
  });
  expect(JSON.parse(results)).toMatchObject({
    renewal: { source: 'lifetime', until: '' },
    served: [
      { ok: true, problem: '' },
      { ok: false, address: '2001:db8::7', problem: expect.stringContaining('another certificate') },
    ],
    timers: ['certbot.timer'],
  });
  expect(renderOutputs(createReport('check'), now)).toMatchObject({ result: 'failed', served: '', expires: '' });
});

test('the summary has a row for each address, and nothing of others becomes Markdown', () => {
  const text = renderSummary(report, ['it failed: [link](https://evil.example)'], now);
  expect(text).toContain('### 🔒 Certificate obtained: shop.example');
  expect(text).toContain('| shop.example | 203.0.113.7 | runner | ✅ this certificate |');
  expect(text).toContain(
    '| shop.example | 2001:db8::7 | server | ❌ shop.example at 2001:db8::7 serves another certificate',
  );
  expect(text).toContain('| Renewed by | certbot.timer |');
  expect(text).toContain('| Chain | whole, to a root that is trusted |');
  expect(text).not.toContain('[link](https');
  expect(text).not.toContain('<b>');
});

test('what is left is told in days, or in hours', () => {
  expect(renderLeft(leaf, now)).toBe('45.0 days, 50% of its life');
  expect(renderLeft(leaf, new Date(leaf.validTo.getTime() - 3_600_000))).toBe('1.0 hours, 0% of its life');
});
