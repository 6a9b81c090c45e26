/** No link within the repository is dead: neither the file, nor the heading in it. */
import { existsSync, statSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { allDocuments, anchorsOf, linksOf, readDocument, ROOT } from './markdown.ts';

const documents = allDocuments();

/** What is wrong with a link; undefined where nothing is, or where it leads out of the repository. */
function faultOf(document: string, target: string): string | undefined {
  if (/^[a-z][a-z+.-]*:/i.test(target)) return undefined;
  const [path = '', anchor] = target.split('#');
  const file = path === '' ? document : normalize(join(dirname(document), decodeURI(path)));
  if (file.startsWith('..')) return 'leads out of the repository';
  if (!existsSync(join(ROOT, file))) return `there is no ${file}`;
  if (anchor === undefined) return undefined;
  if (statSync(join(ROOT, file)).isDirectory() || !file.endsWith('.md')) return `${file} has no headings`;
  return anchorsOf(readDocument(file)).has(anchor) ? undefined : `${file} has no heading #${anchor}`;
}

test.each(documents)('%s', (document) => {
  const dead = linksOf(document).flatMap(({ target }) => {
    const fault = faultOf(document, target);
    return fault === undefined ? [] : [`${target}: ${fault}`];
  });
  expect(dead).toEqual([]);
});

test('dead links are seen', () => {
  expect(faultOf('README.md', 'infra/docs/NONE.md')).toBe('there is no infra/docs/NONE.md');
  expect(faultOf('README.md', '#none')).toBe('README.md has no heading #none');
  expect(faultOf('README.md', 'LICENSE#none')).toBe('LICENSE has no headings');
  expect(faultOf('README.md', '../LICENSE')).toBe('leads out of the repository');
  expect(faultOf('infra/docs/ARCHITECTURE.md', '../../README.md#quick-start')).toBeUndefined();
});

test('anchors are those of GitHub', () => {
  const text = '# `known-hosts`, and how\n\n## A *b* [c](d)\n\n## A b c\n\n```\n# no heading\n```\n';
  expect([...anchorsOf(text)]).toEqual(['known-hosts-and-how', 'a-b-c', 'a-b-c-1']);
});

test('links are found in tables, lists and references, and not in code', () => {
  const text = '| [a](b.md) |\n| --- |\n| [c](d.md) |\n\n- [e][f]\n\n`[g](h.md)`\n\n[f]: i.md\n';
  expect(linksOf('x.md', text).map(({ target }) => target)).toEqual(['b.md', 'd.md', 'i.md']);
});
