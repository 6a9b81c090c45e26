import fc from 'fast-check';
import type { Step, UndoVerb } from '../../src/model/step';
import { parseJournal, planUndo, renderJournal } from '../../src/releases/journal';

const RELEASE = '20261122T110000Z-bbbbbbb';
const PREVIOUS = '20261122T100000Z-aaaaaaa';
const base = {
  project: 'shop',
  timeoutSeconds: 180,
  release: RELEASE,
  previous: PREVIOUS,
  runUrl: 'https://github.com/acme/shop/actions/runs/1',
  actor: 'alice',
};
const undo: UndoVerb[] = [
  { verb: 'restore-services', release: PREVIOUS, services: ['web', '_db', 'a.b-c'], awaited: ['_db'] },
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
    names.map(
      (services) => ({ verb: 'restore-services', release: PREVIOUS, services, awaited: services.slice(1) }) as const,
    ),
    names.map((services) => ({ verb: 'remove-services', services }) as const),
    names.map((networks) => ({ verb: 'remove-networks', networks }) as const),
  );
  fc.assert(
    fc.property(
      fc.array(verb),
      fc.string({ unit: 'binary' }),
      fc.integer({ min: 60, max: 3600 }),
      (verbs, actor, timeoutSeconds) => {
        const journal = { ...base, actor, timeoutSeconds, undo: verbs };
        expect(parseJournal(renderJournal(journal))).toEqual(journal);
      },
    ),
  );
});

const withUndo = (verb: unknown): string => JSON.stringify({ version: 1, ...base, undo: [verb] });

test.each([
  ['nothing', ''],
  ['a cut one', renderJournal({ ...base, undo }).slice(0, 80)],
  ['another version', JSON.stringify({ version: 2, ...base, undo: [] })],
  ['no version', JSON.stringify({ ...base, undo: [] })],
  ['no project', JSON.stringify({ version: 1, ...base, project: undefined, undo: [] })],
  ['a project that is an option', JSON.stringify({ version: 1, ...base, project: '--all', undo: [] })],
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
  ['an empty project', JSON.stringify({ version: 1, ...base, project: '', undo: [] })],
  ['a project that is no text', JSON.stringify({ version: 1, ...base, project: ['shop'], undo: [] })],
  ['shell text as a project', JSON.stringify({ version: 1, ...base, project: '$(reboot)', undo: [] })],
  ['a project that ends with a line break', JSON.stringify({ version: 1, ...base, project: 'shop\n', undo: [] })],
])('%s is refused', (_name, text) => {
  expect(() => parseJournal(text)).toThrow(SyntaxError);
});

test.each([
  [1, 60],
  [-5, 60],
  [60, 60],
  [3600, 3600],
  [1e9, 3600],
  ['1000', 60],
  [null, 60],
  [undefined, 60],
])('a time of %p for each verb is taken as %i s', (timeoutSeconds, expected) => {
  const text = JSON.stringify({ version: 1, ...base, timeoutSeconds, undo: [] });
  expect(parseJournal(text).timeoutSeconds).toBe(expected);
});

test.each([
  [undefined, []],
  ['web', []],
  [{ web: 1 }, []],
  [[1, null, '--all', '$(reboot)', 'other'], []],
  [['other', 'web', 5], ['web']],
])('services that are awaited are some of those that are put back: %j', (awaited, expected) => {
  const verb = { verb: 'restore-services', release: PREVIOUS, services: ['db', 'web'], awaited };
  expect(parseJournal(withUndo(verb)).undo).toEqual([{ ...verb, awaited: expected }]);
});

describe('the way back of some steps', () => {
  const step = (...verbs: UndoVerb[]): Step => ({
    kind: 'run',
    id: '',
    title: '',
    do: { words: ['true'] },
    undo: verbs,
    timeoutSeconds: 1,
  });
  const hold: Step = { kind: 'hold', id: '', title: '', gate: { gate: 'proven' }, timeoutSeconds: 1 };
  const restore = (services: string[], awaited: string[] = [], release = PREVIOUS): UndoVerb => ({
    verb: 'restore-services',
    release,
    services,
    awaited,
  });
  const remove = (...services: string[]): UndoVerb => ({ verb: 'remove-services', services });
  const networks = (...names: string[]): UndoVerb => ({ verb: 'remove-networks', networks: names });

  test('what is new goes first, last things first; then all comes back in one go, as it went; networks go last', () => {
    expect(
      planUndo([
        step(networks('a'), restore(['db'], ['db'])),
        hold,
        step(remove('cache')),
        step(remove('stray'), restore(['api', 'db'], ['api', 'db'])),
        hold,
        step(remove('page'), restore(['web'])),
        step(networks('b')),
      ]),
    ).toEqual([
      remove('page'),
      remove('stray'),
      remove('cache'),
      restore(['db', 'api', 'web'], ['db', 'api']),
      networks('b'),
      networks('a'),
    ]);
  });

  test('what comes back from two releases comes back from each', () => {
    expect(planUndo([step(restore(['a'])), step(restore(['b'], [], RELEASE)), step(restore(['c']))])).toEqual([
      restore(['a', 'c']),
      restore(['b'], [], RELEASE),
    ]);
  });

  test('of nothing is nothing', () => {
    expect(planUndo([])).toEqual([]);
    expect(planUndo([hold, step()])).toEqual([]);
  });
});

test('any JSON is a journal or a SyntaxError (property)', () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.json(),
        fc.string(),
        fc.json().map((json) => `{"version":1,"project":"shop","release":"${RELEASE}","previous":"","undo":[${json}]}`),
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

test.each([
  [0, 60],
  [240, 240],
  [1e9, 3600],
])('a time of %p s for a verb is taken as %p s', (given, taken) => {
  expect(parseJournal(renderJournal({ ...base, timeoutSeconds: given, undo: [] })).timeoutSeconds).toBe(taken);
});

test('only services that are put back are waited for', () => {
  const text = withUndo({ verb: 'restore-services', release: PREVIOUS, services: ['web'], awaited: ['web', 'x', 1] });
  expect(parseJournal(text).undo).toEqual([
    { verb: 'restore-services', release: PREVIOUS, services: ['web'], awaited: ['web'] },
  ]);
});

test('the way back: what is new goes, what was there comes back as one and in order, networks last', () => {
  const step = (...way: UndoVerb[]): Step => ({
    kind: 'run',
    id: '',
    title: '',
    do: { words: ['x'] },
    undo: way,
    timeoutSeconds: 1,
  });
  const restore = (services: string[], awaited: string[] = []): UndoVerb => ({
    verb: 'restore-services',
    release: PREVIOUS,
    services,
    awaited,
  });
  expect(
    planUndo([
      step({ verb: 'remove-networks', networks: ['n'] }, restore(['old'])),
      step({ verb: 'remove-services', services: ['first'] }),
      step(restore(['db', 'old'], ['db'])),
      step({ verb: 'remove-services', services: ['second'] }, restore(['web'])),
    ]),
  ).toEqual([
    { verb: 'remove-services', services: ['second'] },
    { verb: 'remove-services', services: ['first'] },
    restore(['old', 'db', 'web'], ['db']),
    { verb: 'remove-networks', networks: ['n'] },
  ]);
  expect(planUndo([])).toEqual([]);
});
