import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { isDnsName, parseDomains } from '../../src/tls/names';
import { SHELLS } from '../shells';

test('names on lines, with commas and with spaces; each once, in their order', () => {
  expect(parseDomains('Shop.example, www.shop.example\n# a comment\n\nshop.example xn--mnchen-3ya.example')).toEqual({
    value: ['shop.example', 'www.shop.example', 'xn--mnchen-3ya.example'],
  });
  expect(parseDomains('')).toEqual({ value: [] });
});

test.each([
  ['*.shop.example', 'is a wildcard'],
  ['https://shop.example/', 'is a URL: give only its host name.'],
  ['203.0.113.7', 'is an address'],
  ['[2001:db8::1]', 'is an address'],
  ['münchen.example', 'is an international name: give it as it is in DNS, `xn--mnchen-3ya.example`.'],
  ['shop.example.', 'ends with a dot'],
  ['localhost', 'has no dot'],
  ['-shop.example', 'is not a host name'],
  ['shop_1.example', 'is not a host name'],
  ['shop..example', 'is not a host name'],
  ['shop.example;id', 'is not a host name'],
  [`${'a'.repeat(64)}.example`, 'is not a host name'],
])('%s is refused', (text, problem) => {
  expect(parseDomains(text)).toEqual({ problem: expect.stringContaining(problem) });
});

test('all that is wrong is said at once; more than an authority takes is refused', () => {
  expect(parseDomains('*.a.example b')).toEqual({ problem: expect.stringMatching(/wildcard.*no dot/) });
  const many = Array.from({ length: 101 }, (_, index) => `n${index}.example`).join('\n');
  expect(parseDomains(many)).toEqual({ problem: 'holds 101 names, and a certificate has 100 at most.' });
});

// --- the same words, judged by root's program -------------------------------------------------------------------------

const source = readFileSync(join(import.meta.dirname, '../../src/tls/slipway-tls.sh'), 'utf8');
const words = source.slice(source.indexOf('# --- words ---'), source.indexOf('# --- one at a time ---'));
const JUDGE = `set -eu
LC_ALL=C
${words}
for word; do
  if is_dns_name "$word"; then printf n; else printf -- -; fi
  if is_word "$word"; then printf w; else printf -- -; fi
done`;

describe.each(SHELLS)('slipway-tls in $name', ({ words: [shell, ...options] }) => {
  const judge = (given: readonly string[]): string[] => {
    const { stdout } = spawnSync(shell, [...options, '-c', JUDGE, 'sh', ...given], { encoding: 'utf8' });
    return stdout.match(/../g) ?? [];
  };

  test('takes no word that could be a path, an option, or more than a word', () => {
    const hostile = fc.oneof(
      fc.string().filter((text) => !text.includes('\0')),
      fc.stringMatching(/^[a-z0-9.\-/ \n*$`'"~]{0,12}$/),
      fc.constantFrom(
        '..',
        '.',
        '-',
        '--',
        '-a',
        'a-',
        'a/b',
        '../a',
        'a\n',
        '\na',
        'a b',
        'a..b',
        '.a',
        'a.',
        '',
        '*',
        '~',
        'ä',
      ),
    );
    const names = fc.domain();
    fc.assert(
      fc.property(fc.array(fc.oneof(hostile, names), { minLength: 1, maxLength: 40 }), (given) => {
        const said = judge(given);
        expect(said).toHaveLength(given.length);
        for (const [index, word] of given.entries()) {
          if (said[index]?.startsWith('n') === true)
            expect(word).toMatch(/^(?!.*\.\.)[a-z0-9]([a-z0-9.-]*[a-z0-9])?$(?!\n)/);
          if (said[index]?.endsWith('w') === true) expect(word).toMatch(/^[A-Za-z0-9][A-Za-z0-9_.-]*$(?!\n)/);
          // What the action lets through, the program takes, too.
          if (isDnsName(word)) expect(said[index]?.startsWith('n')).toBe(true);
        }
      }),
      { numRuns: 60 },
    );
  });
});
