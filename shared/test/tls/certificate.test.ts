import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import {
  daysLeft,
  judgeChain,
  judgeTime,
  listElements,
  parseChain,
  planRenewal,
  renderRenewalId,
  shareLeft,
} from '../../src/tls/certificate';
import {
  BRIEF_INTERMEDIATE,
  CROSS_SIGNED,
  INTERMEDIATE,
  LEAF,
  LONGER_LEAF,
  NEW_ROOT,
  OTHER_ROOT,
  ROOT,
  SELF_SIGNED,
  SHORT_LIVED,
} from './sample-certificates';

const DAY_MS = 86_400_000;
const [leaf, short] = [LEAF, SHORT_LIVED].map((pem) => parseChain(pem)[0]);
if (leaf === undefined || short === undefined) throw new Error('the samples cannot be read');
const at = (share: number): Date =>
  new Date(leaf.validFrom.getTime() + share * (leaf.validTo.getTime() - leaf.validFrom.getTime()));

test('what a certificate says', () => {
  expect(leaf).toMatchObject({
    names: ['shop.example', 'www.shop.example'],
    issuer: 'Test Authority T1',
    keyType: 'ec',
    fingerprint: expect.stringMatching(/^([0-9A-F]{2}:){31}[0-9A-F]{2}$/),
  });
  expect(parseChain(`text\n${LEAF}more${INTERMEDIATE}`).map((one) => one.issuer)).toEqual([
    'Test Authority T1',
    'Test Authority Test Root',
  ]);
  expect(parseChain('')).toEqual([]);
  expect(() => parseChain('-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----')).toThrow(SyntaxError);
});

test('life is a share, whatever its length', () => {
  expect(shareLeft(leaf, leaf.validFrom)).toBe(1);
  expect(shareLeft(leaf, at(0.75))).toBeCloseTo(0.25);
  expect(shareLeft(leaf, at(2))).toBe(0);
  expect(shareLeft(leaf, at(-1))).toBe(1);
  expect(daysLeft(leaf, leaf.validFrom)).toBeCloseTo(90, 1);
  expect(daysLeft(leaf, new Date(leaf.validTo.getTime() + DAY_MS))).toBe(-1);
});

test('renewal with a third of its life left, with half where that is short', () => {
  expect((leaf.validTo.getTime() - planRenewal(leaf).getTime()) / DAY_MS).toBeCloseTo(30, 1);
  expect((short.validTo.getTime() - planRenewal(short).getTime()) / DAY_MS).toBeCloseTo(3, 1);
});

describe('a chain', () => {
  test.each<[string, string[], string[], object]>([
    ['that is whole', [LEAF, INTERMEDIATE], [ROOT], { kind: 'trusted' }],
    ['with its root', [LEAF, INTERMEDIATE, ROOT], [ROOT], { kind: 'trusted' }],
    [
      'to a root that is not trusted',
      [LEAF, INTERMEDIATE],
      [],
      { kind: 'unknown-root', root: 'Test Authority Test Root' },
    ],
    ['to a root of that name with another key', [LEAF, INTERMEDIATE], [OTHER_ROOT], { kind: 'unknown-root' }],
    [
      'without its intermediate',
      [LEAF],
      [ROOT],
      { kind: 'broken', problem: expect.stringContaining('(Test Authority T1) is missing') },
    ],
    ['in the wrong order', [INTERMEDIATE, LEAF], [ROOT], { kind: 'broken' }],
    [
      'with a stranger in it',
      [LEAF, ROOT],
      [ROOT],
      { kind: 'broken', problem: expect.stringContaining('signed by Test Authority T1') },
    ],
    ['of one that signed itself', [SELF_SIGNED], [ROOT], { kind: 'unknown-root', root: 'Slipway placeholder' }],
    ['of one that signed itself and is trusted', [SELF_SIGNED], [SELF_SIGNED], { kind: 'trusted' }],
    ['of nothing', [], [ROOT], { kind: 'broken' }],
  ])('%s', (_, chain, roots, verdict) => {
    expect(judgeChain(chain, roots, at(0.5))).toMatchObject(verdict);
  });

  const cross = [LONGER_LEAF, BRIEF_INTERMEDIATE, CROSS_SIGNED];
  const meanwhile = new Date('2026-11-24T12:00:00Z');

  test('is trusted where it passes a trusted root, whoever has signed that one once more', () => {
    expect(judgeChain(cross, [NEW_ROOT], meanwhile)).toEqual({ kind: 'trusted' });
    expect(judgeChain(cross, [ROOT], meanwhile)).toEqual({ kind: 'unknown-root', root: 'Test Authority Old Root' });
  });

  test.each<[string, string[], string[], Date, string]>([
    [
      'an intermediate',
      cross,
      [NEW_ROOT],
      at(0.5),
      'certificate 2 of the chain (Test Authority T2) is over since 2026-',
    ],
    [
      'one to a root of nobody',
      cross,
      [],
      at(0.5),
      'certificate 2 of the chain (Test Authority T2) is over since 2026-',
    ],
    [
      'the certificate',
      [LEAF, INTERMEDIATE],
      [ROOT],
      at(1.1),
      'the certificate is over since 2027-02-21T20:04:22.000Z',
    ],
    ['one to come', [LEAF, INTERMEDIATE], [ROOT], at(-0.1), 'the certificate is not valid before 2026-11-23T20:04:22'],
    ['a root', [SELF_SIGNED], [SELF_SIGNED], new Date('2127-01-01'), 'is over since 2126-10-30'],
  ])('has to be valid now: %s', (_, chain, roots, now, problem) => {
    expect(judgeChain(chain, roots, now)).toEqual({ kind: 'broken', problem: expect.stringContaining(problem) });
  });

  test('the clock of an authority may be a little ahead', () => {
    const before = (seconds: number): Date => new Date(leaf.validFrom.getTime() - seconds * 1000);
    expect(judgeTime(leaf, before(30))).toBe('');
    expect(judgeTime(leaf, before(90))).toBe('is not valid before 2026-11-23T20:04:22.000Z');
    expect(judgeTime(leaf, leaf.validTo)).toBe('');
  });
});

describe('renewal information', () => {
  test('the example of RFC 9773, appendix A', () => {
    const identifier = Buffer.from('69885b6b87464041e1b37b847ba0ae2cde01c8d4', 'hex');
    expect(renderRenewalId(identifier, '87654321')).toBe('aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE');
    expect(renderRenewalId(identifier, '7')).toBe('aYhba4dGQEHhs3uEe6CuLN4ByNQ.Bw');
  });

  test('is read from the certificate; one without a key identifier cannot be asked about', () => {
    expect(leaf.renewalId).toMatch(/^[A-Za-z0-9_-]{27}\.AIdlQyE$/);
    expect(short.renewalId).toBe(leaf.renewalId.replace(/\..*/, '.EQ'));
  });

  test('bytes of any kind are read without harm', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        const length = listElements(bytes).reduce((sum, { content }) => sum + content.length + 2, 0);
        expect(length).toBeLessThanOrEqual(bytes.length);
      }),
    );
  });
});
