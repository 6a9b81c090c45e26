import { renderMarkdown } from '../scripts/markdown-in-terminal.mjs';

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
