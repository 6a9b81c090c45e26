import fc from 'fast-check';
import { describeDifference, endWith, selectItems } from '../../src/vault/restore';
import { backup, item } from '../backups/sample-backups';
import { HOSTILE, Machine, SHELLS } from '../shells';
import { existsSync, writeFileSync } from 'node:fs';

const SOURCES = [
  'postgres:db/app',
  'postgres:db/other',
  'redis:cache',
  'roles:db',
  'postgres:audit/app',
  'roles:audit',
  'volume:uploads',
  'files:conf',
];
const whole = backup(1, { items: SOURCES.map((source) => item(source)) });
const select = (...only: readonly string[]): string[] => selectItems(whole, only).map(({ source }) => source);

describe('what is restored', () => {
  test('nothing named: all, files first and databases last', () => {
    expect(select()).toEqual([
      'files:conf',
      'volume:uploads',
      'redis:cache',
      'roles:db',
      'roles:audit',
      'postgres:db/app',
      'postgres:db/other',
      'postgres:audit/app',
    ]);
  });

  test('a database brings the roles of its own service, and no others', () => {
    expect(select('postgres:db/app')).toEqual(['roles:db', 'postgres:db/app']);
    expect(select('postgres:db')).toEqual(['roles:db', 'postgres:db/app', 'postgres:db/other']);
    expect(select('redis:cache', 'postgres:audit')).toEqual(['redis:cache', 'roles:audit', 'postgres:audit/app']);
    expect(select('roles:db', 'postgres:db/app')).toEqual(['roles:db', 'postgres:db/app']);
  });

  test('all that is not there is said, with what is', () => {
    expect(() => select('postgres:d', 'redis:cache', 'volume:\u001b[31mx\n')).toThrow(
      expect.objectContaining({
        message: `Backup ${whole.id} has no postgres:d, volume: [31mx.`,
        hint: `It has ${SOURCES.join(', ')}.`,
      }) as Error,
    );
  });

  test('each once, and never a database before its roles (property)', () => {
    fc.assert(
      fc.property(fc.subarray([...SOURCES, 'postgres:db', 'postgres:audit'], { minLength: 1 }), (only) => {
        const selected = select(...only);
        expect(new Set(selected).size).toBe(selected.length);
        for (const [index, source] of selected.entries()) {
          const [, service] = /^postgres:([^/]*)/.exec(source) ?? [];
          if (service === undefined) continue;
          const roles = selected.indexOf(`roles:${service}`);
          expect(roles).toBeGreaterThanOrEqual(0);
          expect(roles).toBeLessThan(index);
        }
      }),
    );
  });
});

test.each([
  [10, 4, 'now 10 rows, then 4 rows (-6)'],
  [1, 2, 'now 1 row, then 2 rows (+1)'],
  [undefined, 3, 'now is not there, then 3 rows (+3)'],
  [3, undefined, 'now 3 rows, then is not there (-3)'],
  [undefined, 0, 'now is not there, then 0 rows (0)'],
])('%p rows now and %p then', (now, then, words) => {
  const difference = { source: 'postgres:db/app', table: 'public.orders', now, then };
  expect(describeDifference(difference)).toBe(`postgres:db/app: public.orders: ${words}`);
});

test.each(HOSTILE)('the table %j stays within its line', (table) => {
  const line = describeDifference({
    source: 'postgres:db/app',
    table: `${table}\u001b[2J\r\n::error::x`,
    now: 1,
    then: 2,
  });
  expect(line).not.toMatch(/[\u0000-\u001f]/);
});

describe.each(SHELLS)('the note of what is to be taken back, in $name', (shell) => {
  let machine: Machine;
  beforeEach(() => {
    machine = new Machine(shell);
  });
  afterEach(() => {
    machine.remove();
  });

  test.each(HOSTILE)('goes with the last step, and only when that went well: %j', (word) => {
    const note = machine.path("it's $(touch pwned)");
    writeFileSync(note, '{}');
    const step = (code: number) => ({
      words: ['sh', '-c', 'printf %s "$1"; exit "$2"', 'slipway', word, String(code)] as const,
    });
    expect(machine.run(endWith(step(7), note))).toEqual({ exitCode: 7, stdout: word, stderr: '' });
    expect(existsSync(note)).toBe(true);
    expect(machine.run(endWith(step(0), note))).toEqual({ exitCode: 0, stdout: word, stderr: '' });
    expect(existsSync(note)).toBe(false);
    expect(existsSync(machine.path('pwned'))).toBe(false);
  });
});
