import fc from 'fast-check';
import { parseSections, SECTION_FUNCTION } from '../../src/commands/sections';
import { script } from '../../src/shell/render';
import { Machine, SHELLS } from '../shells';

describe.each(SHELLS)('in $name', (shell) => {
  let machine: Machine;

  beforeEach(() => {
    machine = new Machine(shell);
  });

  afterEach(() => {
    machine.remove();
  });

  const ask = (body: string): ReturnType<typeof parseSections> =>
    parseSections(machine.run(script(`${SECTION_FUNCTION}${body}`, 'TOKEN')).stdout, 'TOKEN');

  test('keeps output, problems and exit codes apart', () => {
    const sections = ask(`both() { echo out; echo problem >&2; printf more; return 3; }
section both both
section quiet true
section missing no-such-program
section input cat
section words printf '<%s>' "a b" "c'd"`);
    expect(sections.get('both')).toEqual({ exitCode: 3, stdout: 'out\nmore', stderr: 'problem' });
    expect(sections.get('quiet')).toEqual({ exitCode: 0, stdout: '', stderr: '' });
    expect(sections.get('missing')).toMatchObject({ exitCode: 127, stdout: '' });
    expect(sections.get('input')).toEqual({ exitCode: 0, stdout: '', stderr: '' });
    expect(sections.get('words')?.stdout).toBe(`<a b><c'd>`);
  });
});

test('reads back whatever is inside, as long as it does not know the token', () => {
  const text = fc.string({ unit: 'binary', maxLength: 60 }).filter((value) => !value.includes('TOKEN'));
  fc.assert(
    fc.property(
      fc.array(fc.record({ stdout: text, stderr: text, exitCode: fc.nat(255) }), { maxLength: 5 }),
      (answers) => {
        const output = answers
          .map(
            ({ stdout, stderr, exitCode }, index) =>
              `TOKEN begin s${index}\n${stdout}\nTOKEN end s${index} ${exitCode}\n${stderr}\nTOKEN close s${index}\n`,
          )
          .join('');
        expect([...parseSections(output, 'TOKEN').values()]).toEqual(answers);
      },
    ),
    { numRuns: 500 },
  );
});

test.each([
  'TOKEN begin a',
  'TOKEN begin a\nx',
  'TOKEN begin a\nx\nTOKEN end a 0\n',
  'TOKEN begin a\nx\nTOKEN end b 0\n\nTOKEN close a\n',
])('%j is cut off', (text) => {
  expect(() => parseSections(text, 'TOKEN')).toThrow(SyntaxError);
});
