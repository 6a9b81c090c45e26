import fc from 'fast-check';
import { type DatabaseServer, parseDatabaseUrls } from '../../src/inputs/database-urls';

function read(text: string): readonly DatabaseServer[] {
  const parsed = parseDatabaseUrls(text);
  if ('problem' in parsed) throw new Error(parsed.problem);
  return parsed.value;
}

function problemOf(text: string): string {
  const parsed = parseDatabaseUrls(text);
  return 'problem' in parsed ? parsed.problem : '';
}

test('one a line, with comments between', () => {
  const [cloud, other, six] = read(`# managed
cloud = postgres://shop:s3cret@db.example.com/app?sslmode=verify-full

my.other_db=postgresql://a%40b:p%2Fw%3A%25%40@10.0.0.7:6543
six = postgres://u:p:q@[2001:db8::1]:5433/my%20db`);
  expect(cloud).toMatchObject({
    name: 'cloud',
    user: 'shop',
    database: 'app',
    remote: { host: 'db.example.com', port: 5432, sslmode: 'verify-full' },
  });
  expect(other).toMatchObject({
    name: 'my.other_db',
    user: 'a@b',
    database: '',
    remote: { host: '10.0.0.7', port: 6543 },
  });
  expect(other?.remote).not.toHaveProperty('sslmode');
  expect(other?.remote.password.reveal()).toBe('p/w:%@');
  expect(six).toMatchObject({ database: 'my db', remote: { host: '2001:db8::1', port: 5433 } });
  expect(six?.remote.password.reveal()).toBe('p:q');
  expect(read('')).toEqual([]);
});

test('all that must not be printed: the URL, the password as it stands there and as it is', () => {
  const url = 'postgres://u:p%40w@h/d';
  expect(read(`a = ${url}`)[0]?.secrets.map((one) => one.reveal())).toEqual([url, 'p%40w', 'p@w']);
  expect(JSON.stringify(read(`a = ${url}`))).not.toMatch(/p%40w|p@w/);
});

test.each([
  ['postgres://u:hidden@h/d', 'is not `NAME = '],
  ['-a = postgres://u:hidden@h/d', 'is not `NAME = '],
  ['a/b = postgres://u:hidden@h/d', 'is not `NAME = '],
  ['a = hidden', 'begins with postgres://'],
  ['a = mysql://u:hidden@h/d', 'begins with postgres://'],
  ['a = postgres://u:hid den@h/d', 'write %20'],
  ['a = postgres://u:hidden#@h/d', 'write %20 or %23'],
  ['a = postgres://u:hid@den@h/d', 'write %40 for @'],
  ['a = postgres://u:hid/den@h/d', 'write %40 for @'],
  ['a = postgres://u:hid?den@h/d', 'write %40 for @'],
  ['a = postgres://hidden/d', 'write %40 for @'],
  ['a = postgres://u:hidden@h/d/e', 'write %40 for @'],
  ['a = postgres://u:hidden%@h/d', 'write %25 for %'],
  ['a = postgres://u:hidden%0Ax@h/d', 'a character that no line has'],
  ['a = postgres://u:hidden@h/d%00', 'a character that no line has'],
  ['a = postgres://hidden@h/d', 'without a user or without a password'],
  ['a = postgres://:hidden@h/d', 'without a user or without a password'],
  ['a = postgres://u:hidden@/d', 'without a host'],
  ['a = postgres://u:hidden@h:0/d', 'no host and port'],
  ['a = postgres://u:hidden@h:70000/d', 'no host and port'],
  ['a = postgres://u:hidden@-h/d', 'no host and port'],
  ['a = postgres://u:hidden@h1,h2/d', 'no host and port'],
  ['a = postgres://u:hidden@%2Frun/d', 'no host and port'],
  ['a = postgres://u:hidden@h/d?sslmode=hidden', 'another parameter than sslmode'],
  ['a = postgres://u:hidden@h/d?host=hidden', 'another parameter than sslmode'],
  ['a = postgres://u:hidden@h/d?sslmode=require&sslmode=disable', 'another parameter than sslmode'],
  ['a = postgres://u:hidden@h/d?sslmode=require?x', 'write %40 for @'],
])('%s: %s', (line, words) => {
  const problem = problemOf(`# one\n${line}`);
  expect(problem).toMatch(/^line 2 /);
  expect(problem).toContain(words);
  expect(problem).not.toContain('hid');
});

test('all that is wrong is said at once, and a name twice is', () => {
  const url = 'postgres://u:hidden@h/d';
  expect(problemOf(`a = ${url}\nb = nothing\na = ${url}x\nc`)).toMatch(
    /^line 2 has no URL [^;]+; line 3 has a name that another line has already; line 4 is not /,
  );
});

const part = fc.string({ minLength: 1, maxLength: 20 }).filter((text) => !/[\u0000-\u001f\u007f]/.test(text));

test('whatever user, password and database are, they arrive as they are (property)', () => {
  fc.assert(
    fc.property(part, part, fc.option(part, { nil: '' }), (user, password, database) => {
      const [server] = read(
        `a = postgres://${encodeURIComponent(user)}:${encodeURIComponent(password)}@h/${encodeURIComponent(database)}`,
      );
      expect(server).toMatchObject({ user, database });
      expect(server?.remote.password.reveal()).toBe(password);
      expect(server?.secrets.map((one) => one.reveal())).toContain(password);
    }),
  );
});

test('no problem says anything of the URL, whatever is wrong with it (property)', () => {
  const odd = fc.string({
    unit: fc.constantFrom('@', ':', '/', '?', '#', '%', ' ', '=', '&', '[', ']', '\n', '\t'),
    maxLength: 4,
  });
  fc.assert(
    fc.property(fc.array(odd, { minLength: 8, maxLength: 8 }), (odds) => {
      const [a, b, c, d, e, f, g, h] = odds;
      const text = `QXQ1${a}=${b}postgres://QXQ2${c}:QXQ3${d}QXQ4@QXQ5${e}/QXQ6${f}?sslmode=QXQ7${g}${h}`;
      const problem = problemOf(text);
      expect(problem).not.toBe('');
      expect(problem).not.toContain('QXQ');
      expect(problem).not.toMatch(/[\n\t]/);
    }),
  );
});
