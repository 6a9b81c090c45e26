/** Markdown for job summaries, from texts of which nothing is trusted: pure. */
import { excerpt } from '../shell/excerpt';

/** Text that shows as it is, on one line, shortened: neither Markdown, nor HTML, nor a mention, nor a link. */
export function escapeMarkdown(text: string, maxLength = 2000): string {
  return (
    excerpt(text, maxLength)
      .replaceAll('&', '&amp;')
      .replaceAll('<', '&lt;')
      .replaceAll('>', '&gt;')
      .replaceAll(/[\\`*_{}[\]()#+!|~]/g, '\\$&')
      // A zero-width joiner: GitHub would notify whoever is named, and link addresses by itself.
      .replaceAll('@', '@\u200d')
      .replaceAll(/(https?):\/\//gi, '$1:\u200d//')
      // A bare address would become a link: www. and commit hashes stay harmless, schemes do not.
      .replaceAll(/\b(www)\./gi, '$1\u200d.')
  );
}

/** A table; every cell is escaped. */
export function formatTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.map((cell) => escapeMarkdown(cell)).join(' | ')} |`;
  return [line(head), `| ${head.map(() => '---').join(' | ')} |`, ...rows.map(line)].join('\n');
}
