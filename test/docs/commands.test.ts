/** Every command of the documents has its place in commands.ts: it is run by a test, from the document's own text, or there is a reason. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beginningOf, COMMANDS, whereIs } from './commands.ts';
import { openGuide } from './guide.ts';
import { allDocuments, blocksOf, commandsOf, ROOT, SHELLS } from './markdown.ts';

const documents = allDocuments();
const blocks = documents.flatMap((document) => blocksOf(document)).filter(({ language }) => SHELLS.includes(language));
const commands = blocks.flatMap((block) => commandsOf(block).map((text) => ({ document: block.document, text })));

test('every command is run, or there is a reason why not', () => {
  expect(commands.filter(({ document, text }) => whereIs(document, text) === undefined)).toEqual([]);
});

test('what commands.ts names is there', () => {
  const listed = Object.entries(COMMANDS).flatMap(([document, entries]) =>
    Object.keys(entries).map((beginning) => ({ document, beginning })),
  );
  const gone = listed.filter(
    ({ document, beginning }) =>
      !commands.some((one) => one.document === document && beginningOf(document, one.text) === beginning),
  );
  expect(gone).toEqual([]);
});

test('each test that is named opens the document, and asks at its end what is left', () => {
  const named = Object.entries(COMMANDS).flatMap(([document, entries]) =>
    Object.values(entries).flatMap((where) => ('by' in where ? [{ document, by: where.by }] : [])),
  );
  const missing = named.filter(({ document, by }) => {
    const text = existsSync(join(ROOT, by)) ? readFileSync(join(ROOT, by), 'utf8') : '';
    return !asksWhatIsLeft(text, document);
  });
  expect(missing).toEqual([]);
});

/** Of this document: a guide is opened under a name, and behind that the same name is asked. */
function asksWhatIsLeft(test: string, document: string): boolean {
  const [, name = '', after = ''] =
    new RegExp(`const (\\w+) = open(?:Guide)?\\('${document.replaceAll('.', '\\.')}'([^]*)`).exec(test) ?? [];
  const [own = ''] = after.split(`const ${name} = open`);
  return name !== '' && new RegExp(`\\bexpect\\(${name}\\.left\\(\\)\\)\\.toEqual\\(\\[\\]\\)`).test(own);
}

test('a document whose guide is not asked is seen, beside one that is', () => {
  const test = `
const guide = openGuide('A.md', THIS);
expect(guide.left()).toEqual([]);
const other = openGuide('B.md', THIS);
other.left();
const guide = openGuide('C.md', THIS);
`;
  expect(['A.md', 'B.md', 'C.md', 'D.md'].filter((document) => asksWhatIsLeft(test, document))).toEqual(['A.md']);
});

test('a command without a place is seen, and one that a test has not taken', () => {
  expect(whereIs('README.md', 'reboot')).toBeUndefined();
  expect(whereIs('NONE.md', 'npm test')).toBeUndefined();
  const guide = openGuide('README.md', 'test/e2e/quick-start.test.ts', { 'shop.example.com': '192.0.2.1' });
  expect(guide.left()).toHaveLength(3);
  expect(guide.take('bootstrap.sh', 3).join('\n')).toMatch(/^export .*\nssh-keygen .*\nssh root@192\.0\.2\.1 /);
  expect(guide.left()).toEqual([]);
  expect(() => guide.take('none of it', 1)).toThrow('0 blocks of README.md have none of it');
  expect(() => guide.take('bootstrap.sh', 1)).toThrow('README.md has 3 commands for test/e2e/quick-start.test.ts');
});

test('commands are told from comments, and go over lines', () => {
  const text = '# no command\na --b \\\n  c # why\n\ncat <<END\n# text\nEND\nfor x in 1; do\n  y\ndone\nd "e\nf"';
  expect(commandsOf({ document: 'x.md', language: 'sh', text })).toEqual([
    'a --b \\\n  c # why',
    'cat <<END\n# text\nEND',
    'for x in 1; do\n  y\ndone',
    'd "e\nf"',
  ]);
  expect(() => commandsOf({ document: 'x.md', language: 'sh', text: 'echo "' })).toThrow('no whole command');
});

afterAll(() => {
  const places = commands.map(({ document, text }) => whereIs(document, text));
  const not = commands.filter((_, index) => 'not' in (places[index] ?? {}));
  const reasons = not.map(({ document, text }) => {
    const where = whereIs(document, text);
    return `  ${document}: ${text.split('\n')[0] ?? ''}\n    ${where && 'not' in where ? where.not : ''}`;
  });
  process.stdout.write(
    `Commands in the documents: ${commands.length}; run by a test: ${commands.length - not.length}; not run: ${not.length}\n${reasons.join('\n')}\n`,
  );
});
