/** TROUBLESHOOTING.md has every way to fail: the catalogue is read from the sources, and no class of theirs is without a message. */
import * as errors from '../../shared/src/errors.ts';
import { readCatalogue, renderCatalogue } from '../../scripts/error-catalogue.mjs';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
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

test('what is said most often is still said: each quoted beginning is in a source', () => {
  const [, section = ''] = readDocument('infra/docs/TROUBLESHOOTING.md').split('\n## Most often\n');
  const cells = [...(section.split('\n## ')[0] ?? '').matchAll(/^\| (`[^|]*) \|/gm)].map(([, cell = '']) => cell);
  const quoted = cells.flatMap((cell) => [...cell.matchAll(/`([^`]+)`/g)].map(([, words = '']) => words));
  expect(quoted.length).toBeGreaterThan(12);
  const sources = readdirSync(join(ROOT, 'shared/src'), { recursive: true, encoding: 'utf8' })
    .filter((path) => /\.(ts|sh)$/.test(path))
    .map((path) => readFileSync(join(ROOT, 'shared/src', path), 'utf8'));
  const isSaid = (words: string): boolean =>
    words.split('...').every((part) => sources.some((text) => text.includes(part.trim())));
  expect(quoted.filter((words) => !isSaid(words))).toEqual([]);
});

test('a beginning goes with the endings of its own callers: two functions of one file may have one name', () => {
  expect(rowsWith('names the router …, which is itself')).toHaveLength(1);
  expect(rowsWith('x-slipway` with which is itself')).toEqual([]);
  expect(rowsWith('names the router …, a `port`')).toEqual([]);
  // What a parameter is where no argument is given.
  expect(rowsWith('with a `port` and no `router`')).toContainEqual(expect.stringContaining('Known are: '));
});

test('code in a cell is what is to be typed', () => {
  const document = renderCatalogue(catalogue);
  expect(document).toContain('`gh secret set SSH_KEY < key`');
  expect([...document.matchAll(/`[^`\n]*&lt;[^`\n]*`/g)]).toEqual([]);
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
  // Why a container is not well, and what becomes of the deploy: of several ways through conditions, and from a program of the server.
  ['The deploy of … failed', /Release … was put back and serves again/],
  ['The deploy of … failed', /It was the first deploy: what it had started was removed/],
  ['is unhealthy', /^… is unhealthy/],
  ['not ready within …', /\(input timeout\): …/],
  ['does not answer through the router', /^replica … /],
  ['is not an image reference', /: it is empty\./],
])('%s', (part, expected) => {
  expect(rowsWith(part)).toContainEqual(expect.stringMatching(expected));
});
