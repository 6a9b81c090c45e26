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

describe('what TLS thinks of a chain, in words', () => {
  test.each<[string, string[], string, object]>([
    ['it is trusted', [LEAF, INTERMEDIATE], '', { kind: 'trusted' }],
    [
      'its root is not trusted',
      [LEAF, INTERMEDIATE],
      'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
      { kind: 'unknown-root', root: 'Test Authority Test Root' },
    ],
    [
      'nor is one that comes along',
      [LEAF, INTERMEDIATE, ROOT],
      'SELF_SIGNED_CERT_IN_CHAIN',
      { kind: 'unknown-root', root: 'Test Authority Test Root' },
    ],
    [
      'it lacks its intermediate',
      [LEAF],
      'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
      {
        kind: 'broken',
        problem: 'the intermediate certificate (Test Authority T1) is missing: nginx needs fullchain.pem',
      },
    ],
    [
      'it signed itself',
      [SELF_SIGNED],
      'DEPTH_ZERO_SELF_SIGNED_CERT',
      { kind: 'unknown-root', root: 'Slipway placeholder' },
    ],
    ['there is none', [], 'UNABLE_TO_GET_ISSUER_CERT', { kind: 'broken', problem: 'there is no certificate' }],
    [
      'it is for something else than a web server',
      [LEAF, INTERMEDIATE],
      'INVALID_PURPOSE',
      { kind: 'broken', problem: 'TLS does not trust its chain (OpenSSL: INVALID_PURPOSE)' },
    ],
  ])('%s', (_, chain, refusal, verdict) => {
    expect(judgeChain(chain, refusal, at(0.5))).toEqual(verdict);
  });

  test.each<[string, string[], Date, string]>([
    [
      'an intermediate',
      [LONGER_LEAF, BRIEF_INTERMEDIATE, CROSS_SIGNED],
      at(0.5),
      'certificate 2 of the chain (Test Authority T2) is over since 2026-',
    ],
    ['the certificate', [LEAF, INTERMEDIATE], at(1.1), 'the certificate is over since 2027-02-21T20:04:22.000Z'],
    ['one to come', [LEAF, INTERMEDIATE], at(-0.1), 'the certificate is not valid before 2026-11-23T20:04:22'],
    ['a root', [SELF_SIGNED], new Date('2127-01-01'), 'is over since 2126-10-30'],
    ['a root that is not shown', [LEAF, INTERMEDIATE], at(0.5), '(OpenSSL: CERT_HAS_EXPIRED)'],
  ])('has to be valid now: %s', (_, chain, now, problem) => {
    const verdict = judgeChain(chain, 'CERT_HAS_EXPIRED', now);
    expect(verdict).toEqual({ kind: 'broken', problem: expect.stringContaining(problem) });
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
