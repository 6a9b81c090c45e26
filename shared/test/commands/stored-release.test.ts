import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import {
  askSchema,
  parseSchema,
  parseStoredRelease,
  readStoredRelease,
  recordSchema,
} from '../../src/commands/stored-release';
import { layoutStore } from '../../src/releases/layout';
import { HOSTILE, Machine, SHELLS } from '../shells';

const ID = '20261122T010000Z-aaaaaaa';

describe.each(SHELLS)('in $name', (shell) => {
  let machine: Machine;
  const layout = () => layoutStore(machine.folder);
  const folder = (...parts: string[]): string => machine.path('.slipway', 'releases', ID, ...parts);

  beforeEach(() => {
    machine = new Machine(shell);
    mkdirSync(folder(), { recursive: true });
    writeFileSync(folder('compose.yaml'), 'services: {}\n');
    writeFileSync(folder('env'), 'A=1\n\nB="two\nlines"\n');
  });
  afterEach(() => {
    machine.remove();
  });

  const read = () => parseStoredRelease(machine.run(readStoredRelease('token-1', layout(), ID)).stdout, 'token-1');

  test('a release is read as it was stored, to the byte', () => {
    const stored = read();
    expect(stored.compose).toBe('services: {}\n');
    expect(stored.env.reveal()).toBe('A=1\n\nB="two\nlines"\n');
    expect(stored.schema).toBeUndefined();
    writeFileSync(folder('schema'), ' one \n\ntwo\n');
    expect(read().schema).toEqual(['one', 'two']);
    writeFileSync(folder('schema'), '');
    expect(read().schema).toEqual([]);
  });

  test('what is missing is no empty release', () => {
    writeFileSync(machine.path('empty'), '');
    const other = readStoredRelease('token-1', layout(), 'gone');
    expect(() => parseStoredRelease(machine.run(other).stdout, 'token-1')).toThrow(
      /No such file|no such file|can't open/,
    );
  });

  const QUESTION = ['psql', '-c', 'SELECT 1; --'];
  /** Answers the question in container c1. */
  const withAnswer = (answer: string, code = 0): void => {
    machine.withDocker(`case $1 in ps) echo c1; echo c0 ;; exec) printf '${answer}'; exit ${code} ;; esac`);
  };

  test('the schema is asked for in the newest running container, with the words as they are', () => {
    withAnswer('v1\\nv2\\n');
    for (const text of HOSTILE) {
      expect(machine.run(askSchema('shop', 'db', ['psql', text]))).toMatchObject({ exitCode: 0, stdout: 'v1\nv2\n' });
      if (!text.includes('\n')) expect(machine.calls.at(-1)).toBe(`<exec><c1><psql><${text}>`);
    }
    expect(machine.calls[0]).toContain('<status=running>');
    machine.withDocker('');
    expect(machine.run(askSchema('shop', 'db', QUESTION))).toMatchObject({
      exitCode: 69,
      stderr: 'service db has no running container\n',
    });
  });

  test('it is kept with the release, whole or not at all, and for nobody else to read', () => {
    withAnswer('v1\\nv2\\n');
    expect(machine.run(recordSchema(layout(), ID, 'shop', 'db', QUESTION)).exitCode).toBe(0);
    expect(readFileSync(folder('schema'), 'utf8')).toBe('v1\nv2\n');
    expect(statSync(folder('schema')).mode & 0o777).toBe(0o600);
    machine.withDocker('case $1 in ps) echo c1 ;; exec) head -c 300000 /dev/zero ;; esac');
    expect(machine.run(recordSchema(layout(), ID, 'shop', 'db', QUESTION))).toMatchObject({
      exitCode: 70,
      stderr: expect.stringContaining('more than 256 KiB') as string,
    });
    withAnswer('v1\\n', 3);
    expect(machine.run(recordSchema(layout(), ID, 'shop', 'db', QUESTION)).exitCode).toBe(3);
    expect(readFileSync(folder('schema'), 'utf8')).toBe('v1\nv2\n');
    expect(readdirSync(folder()).sort()).toEqual(['compose.yaml', 'env', 'schema']);
  });
});

test('what a command says of the schema: lines, without what is around them', () => {
  expect(parseSchema('\n 1|2026 \r\n\n2\n')).toEqual(['1|2026', '2']);
});
