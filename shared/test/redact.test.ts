import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { derivedForms, MASK, MIN_SECRET_LENGTH, Redactor } from '../src/shell/redact';

function redactorOf(...secrets: string[]): Redactor {
  const redactor = new Redactor();
  for (const secret of secrets) redactor.add(secret);
  return redactor;
}

describe('Redactor', () => {
  test('the value and its encodings', () => {
    const secret = `pa$$'w"ö rd`;
    const redactor = redactorOf(secret);
    for (const form of [
      secret,
      encodeURIComponent(secret),
      Buffer.from(secret).toString('base64'),
      Buffer.from(secret).toString('base64url'),
      JSON.stringify(secret),
      secret.replaceAll('$', '$$$$'),
      secret.replaceAll("'", `'\\''`),
    ])
      expect(redactor.redact(`<${form}>`)).toMatch(/^<"?\*\*\*"?>$/);
  });

  test('the lines of a key, but not its frame', () => {
    const key = `-----BEGIN X KEY-----\nAAAABBBBCCCC\nDDDDEEEEFFFF\n-----END X KEY-----\n`;
    const redactor = redactorOf(key);
    expect(redactor.redact('saw DDDDEEEEFFFF')).toBe('saw ***');
    expect(redactor.redact('-----BEGIN X KEY-----')).toBe('-----BEGIN X KEY-----');
    expect(redactor.redact(key)).not.toContain('AAAA');
  });

  test('short values are not masked', () => {
    const redactor = redactorOf('true', '3000', '');
    expect(redactor.redact('true 3000')).toBe('true 3000');
    expect('x'.repeat(MIN_SECRET_LENGTH)).toHaveLength(6);
  });

  test('overlapping secrets go wholly', () => {
    const redactor = redactorOf('abcdefgh', 'efghijkl', 'bcdefg');
    expect(redactor.redact('1abcdefghijkl2')).toBe(`1${MASK}2`);
    expect(redactorOf('aaaaaa').redact('aaaaaaaaaaaaa')).toBe(MASK);
    expect(redactorOf('secret1', 'secret2').redact('secret1secret2')).not.toContain('secret');
  });

  test('add() tells what is new', () => {
    const redactor = new Redactor();
    expect(redactor.add('sesame-1')).toContain('sesame-1');
    expect(redactor.add('sesame-1')).toEqual([]);
  });
});

describe('properties', () => {
  const secret = fc
    .oneof(
      fc.string({ unit: 'binary', minLength: MIN_SECRET_LENGTH, maxLength: 40 }),
      fc.string({ unit: 'grapheme', minLength: MIN_SECRET_LENGTH, maxLength: 20 }),
      fc.string({ unit: fc.constantFrom('a', 'b', '*'), minLength: MIN_SECRET_LENGTH, maxLength: 12 }),
      fc.string({ unit: fc.constantFrom('$', "'", '"', '\\', '\n', ' ', 'x', '%'), minLength: 8, maxLength: 16 }),
    )
    .filter((text) => text.length >= MIN_SECRET_LENGTH);
  // Text that can never be part of a secret of the third kind, nor of a mask.
  const between = fc.string({ unit: fc.constantFrom('.', '|', '~', '<', '>'), maxLength: 5 });

  /**
   * What is to come out, found in the slowest and plainest way: every character that any form covers is hidden, and a run of
   * them is one mask. (To look for the forms in the result would not do: a secret may hold `*`, and so does the mask.)
   */
  function maskSlowly(text: string, forms: readonly string[]): string {
    const hidden = Array.from({ length: text.length }, () => false);
    for (let at = 0; at < text.length; at++) {
      for (const form of forms) if (text.startsWith(form, at)) hidden.fill(true, at, at + form.length);
    }
    let masked = '';
    for (const [at, isHidden] of hidden.entries()) {
      if (!isHidden) masked += text.charAt(at);
      else if (at === 0 || hidden[at - 1] === false) masked += MASK;
    }
    return masked;
  }

  test('no secret survives in any form, alone, side by side, or overlapping', () => {
    fc.assert(
      fc.property(
        fc.array(secret, { minLength: 1, maxLength: 4 }),
        fc.array(fc.tuple(fc.nat(), fc.nat(), between), { minLength: 1, maxLength: 6 }),
        (secrets, parts) => {
          const redactor = redactorOf(...secrets);
          const forms = secrets.flatMap(derivedForms);
          const text = parts.map(([which, cut, glue]) => {
            const form = forms[which % forms.length] ?? '';
            // Whole, followed by the end of another one, so that they can overlap.
            return form + (forms[cut % forms.length] ?? '').slice(cut % 7) + glue;
          });
          expect(redactor.redact(text.join(''))).toBe(maskSlowly(text.join(''), forms));
        },
      ),
      { numRuns: 3000 },
    );
  });

  test('every derived form is found in the middle of anything', () => {
    fc.assert(
      fc.property(
        secret,
        fc.string({ unit: 'binary', maxLength: 30 }),
        fc.string({ unit: 'binary', maxLength: 30 }),
        (value, before, after) => {
          const redactor = redactorOf(value);
          for (const form of derivedForms(value)) {
            const redacted = redactor.redact(before + form + after);
            expect(redacted).toContain(MASK);
            expect(redacted).toBe(maskSlowly(before + form + after, derivedForms(value)));
          }
        },
      ),
      { numRuns: 2000 },
    );
  });

  test('what JSON, URLs and base64 make of a secret is masked', () => {
    fc.assert(
      fc.property(secret, (value) => {
        const redactor = redactorOf(value);
        const texts = [JSON.stringify({ value }), `https://u:${encodeURIComponent(value.toWellFormed())}@h`];
        texts.push(Buffer.from(value).toString('base64'), value.replaceAll('$', '$$$$'));
        for (const text of texts) expect(redactor.redact(text)).toContain(MASK);
      }),
      { numRuns: 1000 },
    );
  });

  test('text without a secret comes back as it is', () => {
    fc.assert(
      fc.property(
        fc.array(secret, { maxLength: 3 }),
        fc.string({ unit: 'binary', maxLength: 200 }),
        (secrets, text) => {
          const forms = secrets.flatMap(derivedForms);
          fc.pre(!forms.some((form) => text.includes(form)));
          expect(redactorOf(...secrets).redact(text)).toBe(text);
        },
      ),
      { numRuns: 2000 },
    );
  });

  test('what is not secret stays: before, between and after', () => {
    fc.assert(
      fc.property(fc.array(between, { minLength: 2, maxLength: 5 }), (glues) => {
        // Secrets that touch become one mask.
        const expected = glues.join(MASK).replaceAll(/(\*\*\*)+/g, MASK);
        expect(redactorOf('sesame').redact(glues.join('sesame'))).toBe(expected);
      }),
      { numRuns: 1000 },
    );
  });
});
