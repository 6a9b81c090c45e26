import fc from 'fast-check';
import { excerpt, excerptEnd } from '../../src/shell/excerpt';

test('one line, short, without anything that moves the cursor or the reading direction', () => {
  expect(excerpt('a\r\n\tb\u001b[31mc\u202ed\u0000')).toBe('a b [31mc d');
  expect(excerpt('x'.repeat(9), 5)).toBe('xxxxx…');
  expect(excerptEnd('12345', 3)).toBe('…345');
  expect(excerptEnd('123', 3)).toBe('123');
});

test('whatever the text, what is shown of it is fit', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), fc.integer({ min: 1, max: 20 }), (text, length) => {
      for (const shown of [excerpt(text, length), excerptEnd(text, length)]) {
        expect(shown.length).toBeLessThanOrEqual(length + 1);
        expect(shown).not.toMatch(/[\u0000-\u001f\u007f-\u009f\u2028-\u202e]/);
        expect(shown.isWellFormed()).toBe(true);
      }
    }),
    { numRuns: 2000 },
  );
});
