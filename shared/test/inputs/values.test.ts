import fc from 'fast-check';
import type { InputProblem } from '../../src/errors';
import {
  boolean,
  describeSeconds,
  duration,
  integer,
  joinOr,
  oneOf,
  optional,
  parseLines,
  quoteValue,
  readValue,
  required,
  suggest,
} from '../../src/inputs/values';

test.each<[string, number]>([
  ['10', 10],
  [' 10s ', 10],
  ['500ms', 0.5],
  ['300ms', 0.3],
  ['1.5s', 1.5],
  ['2m', 120],
  ['2 min', 120],
  ['1h', 3600],
  ['0', 0],
])('duration %s', (text, seconds) => {
  expect(duration(0, 3600)(text)).toEqual({ value: seconds });
});

test.each(['-1', '1y', 'ten', '1 0', '10S', '2h', '1e3', '.5', 'Infinity', '٣'])('no duration: %s', (text) => {
  expect(duration(0, 3600)(text)).toEqual({
    problem: `\`${text}\` is not a duration such as 10, 10s, 500ms or 2m, from 0s to 1h.`,
  });
});

test('integers', () => {
  const parse = integer(1, 65_535);
  expect(parse('1')).toEqual({ value: 1 });
  expect(parse(' 65535 ')).toEqual({ value: 65_535 });
  for (const text of ['0', '65536', '1.0', '0x10', '-1', '1e3', '9'.repeat(30)])
    expect(parse(text)).toHaveProperty('problem');
  expect(parse('')).toEqual({
    problem: 'is empty; leave the input out to get its default, or give a whole number from 1 to 65535.',
  });
});

test('booleans', () => {
  expect(boolean('TRUE')).toEqual({ value: true });
  expect(boolean('false')).toEqual({ value: false });
  expect(boolean('yes')).toEqual({ problem: '`yes` is neither true nor false.' });
  expect(boolean('')).toHaveProperty('problem');
});

test('words', () => {
  const parse = oneOf('runner', 'ssh', 'both');
  expect(parse('ssh')).toEqual({ value: 'ssh' });
  expect(parse('runer')).toEqual({ problem: '`runer` is not runner, ssh or both; did you mean runner?' });
  expect(parse('moon')).toEqual({ problem: '`moon` is not runner, ssh or both.' });
  expect(optional(parse)('')).toEqual({ value: undefined });
  expect(required('a name')('  ')).toEqual({ problem: 'is empty: give a name.' });
  expect(joinOr(['a'])).toBe('a');
  expect(suggest('TIME_OUT', ['timeout', 'deadline'])).toBe('; did you mean timeout?');
});

test('problems are collected, and reading goes on', () => {
  const problems: InputProblem[] = [];
  const input = (name: string): string => ({ a: 'x', b: '2' })[name] ?? '';
  expect(readValue(input, problems, 'a', integer(0, 9), 5)).toBe(5);
  expect(readValue(input, problems, 'b', integer(0, 9), 5)).toBe(2);
  expect(problems).toEqual([{ input: 'a', message: '`x` is not a whole number from 0 to 9.' }]);
});

test('lines', () => {
  expect(parseLines(' a \r\n\n# no\r b # yes')).toEqual(['a', 'b # yes']);
});

test('values in messages stay in one line and short', () => {
  expect(quoteValue('a`b\n::error::x\u001b[0m')).toBe("`a'b ::error::x [0m`");
  expect(quoteValue('x'.repeat(500)).length).toBeLessThan(90);
});

test('seconds as people write them are read back', () => {
  expect([0, 0.25, 1.5, 59, 60, 90, 3661].map(describeSeconds)).toEqual([
    '0s',
    '250ms',
    '1.5s',
    '59s',
    '1m',
    '1m 30s',
    '1h 1m 1s',
  ]);
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 59 }), (seconds) => {
      expect(duration(0, 60)(describeSeconds(seconds))).toEqual({ value: seconds });
    }),
    { numRuns: 1000 },
  );
});

test('no text crashes a parser', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (text) => {
      for (const parse of [integer(0, 9), duration(0, 9), boolean, oneOf('a', 'b'), required('it')]) {
        const parsed = parse(text);
        if ('problem' in parsed) expect(parsed.problem).not.toMatch(/[\u0000-\u001f]/);
      }
    }),
    { numRuns: 1000 },
  );
});
