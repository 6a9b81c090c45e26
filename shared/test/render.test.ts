import { spawnSync } from 'node:child_process';
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { quoteWord, renderCommand, script } from '../src/shell/render';

/** What a real `sh` makes of a text: the words that `printf` was given. */
function wordsOf(text: string): string[] {
  // Over standard input: an argument may not be longer than 128 KiB.
  const result = spawnSync('sh', [], { input: text, encoding: 'utf8', maxBuffer: 1 << 28 });
  expect(result.stderr).toBe('');
  expect(result.status).toBe(0);
  return result.stdout.split('\0').slice(0, -1);
}

describe('renderCommand', () => {
  test.each([
    [['docker', 'compose', 'up', '-d'], 'docker compose up -d'],
    [['printf', '%s'], 'printf %s'],
    [['echo', ''], "echo ''"],
    [['echo', "it's"], `echo 'it'\\''s'`],
    [['echo', '$HOME', '`id`', '*'], `echo '$HOME' '\`id\`' '*'`],
    [['A=b', 'c'], `'A=b' c`],
    [['if', 'then'], `'if' then`],
    [['echo', '~root'], `echo '~root'`],
  ])('%j', (words, expected) => {
    const [program = '', ...rest] = words;
    expect(renderCommand({ words: [program, ...rest] })).toBe(expected);
  });

  test('a NUL is refused, wherever it is', () => {
    expect(() => quoteWord('a\0b')).toThrow(RangeError);
    expect(() => renderCommand({ words: ['a\0b'] })).toThrow(RangeError);
    expect(() => renderCommand({ words: ['echo', '\0'] })).toThrow(RangeError);
  });

  test('a first word is always a program, never shell syntax', () => {
    for (const program of [
      'if',
      'A=b',
      '!',
      '{',
      '(',
      '.',
      '~',
      '#',
      '[[',
      'a;b',
      '$x',
      '-v',
      'coproc',
      '%1',
      'namespace',
    ]) {
      const text = `${renderCommand({ words: [program, 'injected'] })}; echo over\n`;
      const options = { input: text, encoding: 'utf8', env: { PATH: '/nonexistent' } } as const;
      const { status, stdout } = spawnSync('/bin/sh', [], options);
      // `.` is a builtin: it looks for a file and, in some shells, ends the script.
      if (program !== '.') expect([program, status, stdout]).toEqual([program, 0, 'over\n']);
    }
  });

  test('script(): the parameters are parameters', () => {
    const hostile = ['$(id)', "'; id; '", '-e', '', '"', 'two\nlines'];
    const command = script('printf "%s\\0" "$@"', ...hostile);
    expect(wordsOf(renderCommand(command))).toEqual(hostile);
    expect(wordsOf(renderCommand(script('printf "%s\\0" "$0"')))).toEqual(['slipway']);
  });
});

describe('properties', () => {
  const piece = fc.oneof(
    fc.string({ unit: 'grapheme' }),
    fc.string({ unit: 'grapheme-ascii' }),
    fc.constantFrom(
      "'",
      '"',
      '\\',
      '$',
      '`',
      '\n',
      '\r',
      '\t',
      ' ',
      '$(id)',
      '${IFS}',
      '`id`',
      '&&',
      '||',
      ';',
      '|',
      '>',
      '<',
    ),
    fc.constantFrom(
      '-',
      '--',
      '-n',
      '-e',
      '*',
      '?',
      '[a]',
      '~',
      '#',
      '!',
      '{a,b}',
      '=',
      'a=b',
      "'\\''",
      '\\0',
      '%s',
      '\\n',
      '\x7f',
    ),
    fc.constantFrom('\u00A0', '\u2028', '\u202E', '\uFEFF', '🎉', 'é', 'e\u0301'),
  );
  // What is no character (a lone surrogate) cannot be said in UTF-8, so it is not promised.
  const word = fc.array(piece, { maxLength: 6 }).map((pieces) => pieces.join('').replaceAll('\0', '').toWellFormed());

  test('a real sh gets the very words, 20,000 hostile ones', () => {
    fc.assert(
      fc.property(fc.array(word, { minLength: 500, maxLength: 500 }), (words) => {
        const text = renderCommand({ words: ['printf', '%s\\0', ...words] });
        expect(wordsOf(text)).toEqual(words);
      }),
      { numRuns: 40 },
    );
  });

  test('through two shells, as a command over SSH goes', () => {
    fc.assert(
      fc.property(fc.array(word, { minLength: 200, maxLength: 200 }), (words) => {
        const inner = renderCommand({ words: ['printf', '%s\\0', ...words] });
        expect(wordsOf(renderCommand({ words: ['sh', '-c', inner] }))).toEqual(words);
      }),
      { numRuns: 10 },
    );
  });

  test('a rendered command is one command: nothing outside quotes but plain words', () => {
    fc.assert(
      fc.property(word, fc.array(word, { maxLength: 5 }), (program, rest) => {
        const text = renderCommand({ words: [program, ...rest] });
        const outside = text.replaceAll(/'[^']*'|\\'/g, '');
        expect(outside).toMatch(/^[A-Za-z0-9_@%+=:,./ -]*$/);
      }),
      { numRuns: 5000 },
    );
  });
});
