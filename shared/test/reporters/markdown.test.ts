import fc from 'fast-check';
import { escapeMarkdown, formatTable } from '../../src/reporters/markdown';

test.each([
  ['plain text, 1.2.3 and a-b', 'plain text, 1.2.3 and a-b'],
  ['a | b', 'a \\| b'],
  ['<script>alert(1)</script>', '&lt;script&gt;alert\\(1\\)&lt;/script&gt;'],
  ['`code` **bold** _it_ ~~no~~', '\\`code\\` \\*\\*bold\\*\\* \\_it\\_ \\~\\~no\\~\\~'],
  ['[link](javascript:x) ![image](x)', '\\[link\\]\\(javascript:x\\) \\!\\[image\\]\\(x\\)'],
  ['&lt;b&gt;', '&amp;lt;b&amp;gt;'],
  ['two\nlines\r\n# title', 'two lines \\# title'],
  ['\u001b[31mred\u001b[0m', '\\[31mred \\[0m'],
  ['\u202eevil', 'evil'],
])('%j shows as it is', (text, expected) => {
  expect(escapeMarkdown(text)).toBe(expected);
});

test.each(['@octocat', 'mail me@example.com', '@org/team'])('%s notifies nobody', (text) => {
  expect(escapeMarkdown(text)).not.toMatch(/@\w/);
});

test.each(['http://evil.example', 'HTTPS://evil.example', 'www.evil.example', 'see https://a.example/x'])(
  '%s is no link',
  (text) => {
    expect(escapeMarkdown(text)).not.toMatch(/https?:\/\/|www\.\w/i);
  },
);

test('no text leaves its cell, its line or its place (property)', () => {
  const hostile = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 80 }),
    fc
      .array(
        fc.constantFrom(
          '|',
          '`',
          '<',
          '>',
          '@a',
          '\n',
          '\r',
          '\\',
          '[x](y)',
          '<!--',
          '-->',
          'http://',
          '&#',
          'www.',
          '*',
          '#',
          '\u2028',
        ),
        { maxLength: 20 },
      )
      .map((parts) => parts.join('')),
  );
  fc.assert(
    fc.property(hostile, (text) => {
      const escaped = escapeMarkdown(text);
      expect(escaped).not.toMatch(/[\n\r\u2028\u2029<>\0]/);
      // Every mark that Markdown knows has a backslash of its own before it.
      const marks = escaped.replaceAll(/\\[\\`*_{}[\]()#+!|~]/g, '');
      expect(marks).not.toMatch(/[\\`*_{}[\]|~]/);
      expect(marks).not.toMatch(/@[A-Za-z]|https?:\/\//i);
      expect(marks.replaceAll(/&(amp|lt|gt);/g, '')).not.toContain('&');
    }),
    { numRuns: 2000 },
  );
});

test('long texts are cut, before they are escaped', () => {
  expect(escapeMarkdown('|'.repeat(100_000)).length).toBeLessThan(4100);
  expect(escapeMarkdown('x'.repeat(10), 4)).toBe('xxxx…');
});

test('a table has as many columns in every row, whatever is in them', () => {
  const table = formatTable(
    ['A|B', 'C'],
    [
      ['x\ny', '|'],
      ['', '<br>'],
    ],
  );
  expect(table).toBe('| A\\|B | C |\n| --- | --- |\n| x y | \\| |\n|  | &lt;br&gt; |');
});
