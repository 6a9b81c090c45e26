import fc from 'fast-check';
import type { UndoVerb } from '../../src/model/step';
import { parseJournal, renderJournal } from '../../src/releases/journal';

const RELEASE = '20261122T110000Z-bbbbbbb';
const PREVIOUS = '20261122T100000Z-aaaaaaa';
const base = {
  release: RELEASE,
  previous: PREVIOUS,
  runUrl: 'https://github.com/acme/shop/actions/runs/1',
  actor: 'alice',
};
const undo: UndoVerb[] = [
  { verb: 'restore-services', release: PREVIOUS, services: ['web', '_db', 'a.b-c'] },
  { verb: 'remove-services', services: ['new'] },
  { verb: 'remove-networks', networks: ['shop_default'] },
];

test('one line, read back as it was', () => {
  const text = renderJournal({ ...base, undo });
  expect(text).toMatch(/^\{"version":1,.*\}\n$/);
  expect(parseJournal(text)).toEqual({ ...base, undo });
  expect(parseJournal(renderJournal({ ...base, previous: '', undo: [] }))).toEqual({ ...base, previous: '', undo: [] });
});

test('every journal that a plan can make reads back (property)', () => {
  const name = fc
    .string({ unit: fc.constantFrom('a', 'b', 'Z', '0', '9', '.', '_', '-'), minLength: 1, maxLength: 20 })
    .filter((text) => !text.startsWith('-'));
  const names = fc.array(name, { minLength: 1, maxLength: 4 });
  const verb: fc.Arbitrary<UndoVerb> = fc.oneof(
    names.map((services) => ({ verb: 'restore-services', release: PREVIOUS, services }) as const),
    names.map((services) => ({ verb: 'remove-services', services }) as const),
    names.map((networks) => ({ verb: 'remove-networks', networks }) as const),
  );
  fc.assert(
    fc.property(fc.array(verb), fc.string({ unit: 'binary' }), (verbs, actor) => {
      const journal = { ...base, actor, undo: verbs };
      expect(parseJournal(renderJournal(journal))).toEqual(journal);
    }),
  );
});

const withUndo = (verb: unknown): string => JSON.stringify({ version: 1, ...base, undo: [verb] });

test.each([
  ['nothing', ''],
  ['a cut one', renderJournal({ ...base, undo }).slice(0, 80)],
  ['another version', JSON.stringify({ version: 2, ...base, undo: [] })],
  ['no version', JSON.stringify({ ...base, undo: [] })],
  ['no undo', JSON.stringify({ version: 1, ...base })],
  ['an undo that is no list', JSON.stringify({ version: 1, ...base, undo: {} })],
  ['a release that is a path', JSON.stringify({ version: 1, ...base, release: '../../x', undo: [] })],
  ['a previous release that is a path', JSON.stringify({ version: 1, ...base, previous: `${PREVIOUS}/..`, undo: [] })],
  ['an unknown verb', withUndo({ verb: 'run-command', command: 'rm -rf /' })],
  ['an inherited verb', withUndo({ verb: 'constructor' })],
  ['a verb without names', withUndo({ verb: 'remove-services', services: [] })],
  ['names that are no list', withUndo({ verb: 'remove-services', services: 'web' })],
  ['a name that is no text', withUndo({ verb: 'remove-services', services: [1] })],
  ['an option as a name', withUndo({ verb: 'remove-services', services: ['--all'] })],
  ['shell text as a name', withUndo({ verb: 'remove-services', services: ['$(reboot)'] })],
  ['a name with a line break', withUndo({ verb: 'remove-networks', networks: ['a\nb'] })],
  ['a name that ends with a line break', withUndo({ verb: 'remove-networks', networks: ['a\n'] })],
  ['an empty name', withUndo({ verb: 'remove-networks', networks: [''] })],
  ['a path as a name', withUndo({ verb: 'remove-networks', networks: ['a/../b'] })],
  ['a restore to no release', withUndo({ verb: 'restore-services', services: ['web'] })],
  ['a restore to a path', withUndo({ verb: 'restore-services', release: '../x', services: ['web'] })],
  ['a verb that is null', withUndo(null)],
])('%s is refused', (_name, text) => {
  expect(() => parseJournal(text)).toThrow(SyntaxError);
});

test('any JSON is a journal or a SyntaxError (property)', () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.json(),
        fc.string(),
        fc.json().map((json) => `{"version":1,"release":"${RELEASE}","previous":"","undo":[${json}]}`),
      ),
      (text) => {
        try {
          parseJournal(text);
        } catch (error) {
          expect(error).toBeInstanceOf(SyntaxError);
        }
      },
    ),
    { numRuns: 1000 },
  );
});
