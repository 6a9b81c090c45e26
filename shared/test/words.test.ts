import { spawnSync } from 'node:child_process';
import fc from 'fast-check';
import { splitWords } from '../src/shell/words';
import { SHELLS } from './shells';

test.each<[string, string[]]>([
  ['', []],
  ['  \t\n ', []],
  ['npm run e2e', ['npm', 'run', 'e2e']],
  [`node "my script.js" --name='a b'`, ['node', 'my script.js', '--name=a b']],
  [`a "" ''`, ['a', '', '']],
  [String.raw`a\ b \"c\" "\$x \\ \n"`, ['a b', '"c"', String.raw`$x \ \n`]],
  ['a#b', ['a#b']],
  [`'$HOME *'"it's"`, [`$HOME *it's`]],
])('%j', (text, words) => {
  expect(splitWords(text)).toEqual({ value: words });
});

test.each([
  'a && b',
  'a | b',
  'a; b',
  '$HOME',
  '`id`',
  '"$(id)"',
  '*.js',
  'a > b',
  '# no',
  '~/x',
  "a 'b",
  'a "b',
  'a\\',
])('%j is not what it looks like, and is refused', (text) => {
  expect(splitWords(text)).toHaveProperty('problem');
});

test('what is taken is what a shell would make of it (property)', () => {
  const [shell] = SHELLS;
  if (shell === undefined) throw new Error('this machine has no shell');
  const text = fc
    .array(
      fc.constantFrom(
        'a',
        'b',
        ' ',
        '  ',
        '"',
        "'",
        '\\',
        '\\"',
        '$',
        '*',
        '#',
        '=',
        '-',
        '\t',
        'ü',
        ':',
        '!',
        '^',
        '%',
      ),
      {
        maxLength: 12,
      },
    )
    .map((parts) => parts.join(''));
  fc.assert(
    fc.property(text, (line) => {
      const split = splitWords(line);
      if ('problem' in split) return;
      const [program, ...options] = shell.words;
      const { stdout } = spawnSync(program, [...options, '-c', `printf '%s\\0' x ${line}`], { encoding: 'utf8' });
      expect(stdout).toBe(['x', ...split.value].map((word) => `${word}\0`).join(''));
    }),
    { numRuns: 300 },
  );
});
