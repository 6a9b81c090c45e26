/** TROUBLESHOOTING.md has every way to fail: the catalogue is read from the sources, and no class of theirs is without a message. */
import * as errors from '../../shared/src/errors.ts';
import { readCatalogue, renderCatalogue } from '../../scripts/error-catalogue.mjs';
import { readDocument, ROOT } from './markdown.ts';

const catalogue = await readCatalogue(ROOT);

test('every class of errors.ts that can be thrown has a row', () => {
  const thrown = Object.keys(errors).filter((name) => name !== 'SlipwayError');
  expect(catalogue.classes.filter(({ rows }) => rows > 0).map(({ name }) => name)).toEqual(
    expect.arrayContaining(thrown),
  );
});

test('the document is what the sources give', () => {
  expect(readDocument('infra/docs/TROUBLESHOOTING.md')).toContain(renderCatalogue(catalogue));
});

test('a class without a message is refused', () => {
  const silent = { name: 'NewError', file: 'shared/src/errors.ts', code: 'new', meaning: 'New.', rows: 0 };
  expect(() => renderCatalogue({ ...catalogue, classes: [...catalogue.classes, silent] })).toThrow('NewError');
});

const rowsWith = (part: string): string[] =>
  catalogue.rows.flatMap(({ message, hint }) => (message.includes(part) ? [`${message} ${hint}`] : []));

test.each([
  // A text, one with parts that are known later, one whose function is given the words, a class that has them itself, a verdict, a constant.
  ['Docker has no Compose plugin', /^Docker has no Compose plugin .* Install it: https/],
  ['publishes port', /^Service … publishes port …\/…, on which another program/],
  ['it is empty', /^The private key cannot be used: it is empty\. The secret is not set/],
  ['inputs cannot be used', /Nothing was done\.$/],
  ['crash loop', /^… is in a crash loop: restarted …/],
  ['Compose is …', /2\.20\.0/],
])('%s', (part, expected) => {
  expect(rowsWith(part)).toContainEqual(expect.stringMatching(expected));
});
