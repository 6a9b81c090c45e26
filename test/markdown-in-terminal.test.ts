import { renderMarkdown, wrapText } from '../scripts/markdown-in-terminal.mjs';

const SUMMARY = `### Failed, and put back: shop on deploy@\u200d192.0.2.1

\`\`\`\`text
crash loop: \`web\` | 3 times
\`\`\`\`

Release **20260101T000000Z-abc\\_1** serves.

| Service | Why | Image |
| --- | --- | --- |
| api | a \\| b &lt;c&gt; | 192.0.2.1:5000/app:1 -&gt; 192.0.2.1:5000/app:2 |
| db |  |  |

> a warning

<sub>connect 0.1 s, total 2.0 s</sub>
`;

test('a summary as text: escapes undone, columns aligned, code left alone', () => {
  expect(renderMarkdown(SUMMARY)).toBe(`Failed, and put back: shop on deploy@192.0.2.1

  crash loop: \`web\` | 3 times

Release 20260101T000000Z-abc_1 serves.

Service  Why        Image
-------  ---------  --------------------------------------------
api      a | b <c>  192.0.2.1:5000/app:1 -> 192.0.2.1:5000/app:2
db

! a warning

connect 0.1 s, total 2.0 s`);
});

test('what is too wide is wrapped at spaces, or within a long word', () => {
  expect(renderMarkdown('| a | b |\n| --- | --- |\n| one | two three fourfivesixseven |', { width: 15 })).toBe(
    ['a    b', '---  ----------', 'one  two three', '     fourfivesi', '     xseven'].join('\n'),
  );
});

test('bold and dim are for headings, emphasis and lines', () => {
  const options = { bold: (text: string) => `<b>${text}</b>`, dim: (text: string) => `<d>${text}</d>` };
  expect(renderMarkdown('### T\n**x** \\*\\*y\\*\\*\n| a |\n| --- |\n| 1 |', options)).toBe(
    '<b>T</b>\n<b>x</b> **y**\n<b>a</b>\n<d>-</d>\n1',
  );
});

describe('wrapText', () => {
  test('what fits is left alone, with its blanks', () => {
    expect(wrapText('  a   b\n\nc', 7)).toEqual(['  a   b', '', 'c']);
  });

  test('breaks at spaces, and indents what follows', () => {
    expect(wrapText('  one two three four', 14, 2)).toEqual(['  one two', '    three four']);
  });

  test('breaks within a word that no line has room for, and loses none of it', () => {
    const lines = wrapText(`see ${'x'.repeat(30)} end`, 20, 2);
    expect(lines.every((line) => line.length <= 20)).toBe(true);
    expect(lines.join('').replaceAll(' ', '')).toBe(`see${'x'.repeat(30)}end`);
  });

  test('colours take no room, and stay whole', () => {
    const red = '\u001b[31mred\u001b[39m';
    expect(wrapText(`${red} ${red}`, 7)).toEqual([`${red} ${red}`]);
    expect(wrapText(`${red} ${red} ${red}`, 7)).toEqual([`${red} ${red}`, red]);
    expect(wrapText(`\u001b[31m${'y'.repeat(12)}\u001b[39m`, 10).join('')).toBe(
      `\u001b[31m${'y'.repeat(12)}\u001b[39m`,
    );
  });
});
