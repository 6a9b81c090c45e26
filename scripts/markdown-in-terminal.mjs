/** Shows the Markdown of our job summaries as text: headings, paragraphs, code blocks, quotes and tables. Pure. */
import { stripVTControlCharacters } from 'node:util';

const NARROWEST_COLUMN = 8;

/**
 * @param {string} markdown
 * @param {{ width?: number, bold?: (text: string) => string, dim?: (text: string) => string }} options width in characters
 */
export function renderMarkdown(markdown, { width = 120, bold = (text) => text, dim = (text) => text } = {}) {
  const lines = markdown.split('\n');
  const shown = [];
  for (let at = 0; at < lines.length; at++) {
    const line = lines[at];
    const fence = /^`{3,}/.exec(line)?.[0];
    if (fence !== undefined) {
      for (at++; at < lines.length && lines[at] !== fence; at++) shown.push(`  ${lines[at]}`);
    } else if (line.startsWith('|')) {
      const rows = [];
      for (; at < lines.length && lines[at].startsWith('|'); at++) rows.push(splitRow(lines[at]));
      at--;
      shown.push(...renderTable(rows, width, bold, dim));
    } else if (/^#+ /.test(line)) shown.push(bold(plain(line.replace(/^#+ /, ''))));
    else if (line.startsWith('> ')) shown.push(dim(`! ${plain(line.slice(2))}`));
    else shown.push(plain(line, bold));
  }
  return shown
    .join('\n')
    .replaceAll(/\n{3,}/g, '\n\n')
    .trim();
}

/** Cells of one row: `\|` is no border. The row of dashes gives cells of dashes. */
function splitRow(line) {
  return line
    .replace(/^\| ?/, '')
    .replace(/ ?\|$/, '')
    .split(/(?<!\\) ?\| ?/)
    .map((cell) => plain(cell));
}

function plain(text, bold = (words) => words) {
  return text
    .replaceAll(/<\/?sub>/g, '')
    .replaceAll(/(?<!\\)\*\*(.+?)(?<!\\)\*\*/g, (_, words) => bold(words))
    .replaceAll(/\\([\\`*_{}[\]()#+!|~-])/g, '$1')
    .replaceAll('\u200d', '')
    .replaceAll('&lt;', '<')
    .replaceAll('&gt;', '>')
    .replaceAll('&amp;', '&');
}

function renderTable([head = [], , ...body], width, bold, dim) {
  const rows = [head, ...body];
  const widths = head.map((_, column) => Math.max(...rows.map((row) => (row[column] ?? '').length)));
  const GAP = 2;
  const total = () => widths.reduce((sum, one) => sum + one + GAP, -GAP);
  while (total() > width) {
    const widest = Math.max(...widths);
    if (widest <= NARROWEST_COLUMN) break;
    widths[widths.indexOf(widest)] -= 1;
  }
  const render = (row) => {
    const cells = head.map((_, column) => wrap(row[column] ?? '', widths[column]));
    return Array.from({ length: Math.max(...cells.map((cell) => cell.length)) }, (_, index) =>
      cells
        .map((cell, column) => (cell[index] ?? '').padEnd(widths[column]))
        .join(' '.repeat(GAP))
        .trimEnd(),
    );
  };
  return [
    ...render(head).map(bold),
    dim(widths.map((one) => '-'.repeat(one)).join(' '.repeat(GAP))),
    ...body.flatMap(render),
  ];
}

/** At spaces, and where a word alone is too long, within it. */
function wrap(text, width) {
  const lines = [''];
  for (const word of text.split(' ')) {
    let rest = word;
    if (lines.at(-1) !== '' && lines.at(-1).length + 1 + rest.length <= width) {
      lines[lines.length - 1] += ` ${rest}`;
      continue;
    }
    if (lines.at(-1) !== '') lines.push('');
    while (rest.length > width) {
      lines[lines.length - 1] = rest.slice(0, width);
      lines.push('');
      rest = rest.slice(width);
    }
    lines[lines.length - 1] = rest;
  }
  return lines;
}

/**
 * Lines of at most so many characters, of which colours are none: broken at spaces, or within a long word.
 *
 * @param {string} text of one or more lines
 * @param {number} hang by how much more than the first the further lines of one are indented
 */
export function wrapText(text, width, hang = 0) {
  return text.split('\n').flatMap((line) => wrapLine(line, width, hang));
}

function wrapLine(line, width, hang) {
  if (visible(line) <= width) return [line];
  const indent = ' '.repeat(Math.min(/^ */.exec(line)[0].length + hang, Math.max(0, width - NARROWEST_COLUMN)));
  const lines = [''];
  // A word with the blanks before it; colours go with what follows them.
  for (const piece of line.match(/ *[^ ]+| +$/g) ?? []) {
    const last = lines.at(-1);
    if (visible(last) + visible(piece) <= width) {
      lines[lines.length - 1] += piece;
      continue;
    }
    let rest = piece.trimStart();
    const room = width - visible(last);
    // A word that is longer than a line begins where it is, if that is worth it.
    if (visible(rest) > width - indent.length && room > NARROWEST_COLUMN) {
      const blanks = piece.slice(0, piece.length - rest.length);
      const [head, tail] = splitAt(rest, room - blanks.length);
      lines[lines.length - 1] += blanks + head;
      rest = tail;
    }
    for (; visible(rest) > width - indent.length;) {
      const [head, tail] = splitAt(rest, width - indent.length);
      lines.push(indent + head);
      rest = tail;
    }
    lines.push(indent + rest);
  }
  return lines;
}

const visible = (text) => stripVTControlCharacters(text).length;

/** After so many visible characters. */
function splitAt(text, count) {
  // The last such place: a colour is not cut in two, since half of one counts as visible.
  let at = text.length;
  while (at > 0 && visible(text.slice(0, at)) > count) at--;
  return [text.slice(0, at), text.slice(at)];
}
