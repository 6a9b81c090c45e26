import fc from 'fast-check';
import type { InputProblem } from '../../src/errors';
import { isHostName, parseAddress, readConnection } from '../../src/inputs/connection';
import type { Host } from '../../src/model/host';

const complete = {
  host: 'server.example.com',
  user: 'deploy',
  port: '22',
  'ssh-key': '-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n-----END OPENSSH PRIVATE KEY-----',
  'ssh-key-passphrase': 'phrase',
  'known-hosts': '',
  'host-fingerprint': `SHA256:${'A'.repeat(43)}`,
};

function read(more: Record<string, string> = {}): { host: Host | undefined; problems: InputProblem[] } {
  const problems: InputProblem[] = [];
  const texts: Record<string, string> = { ...complete, ...more };
  return { host: readConnection((name) => texts[name] ?? '', problems), problems };
}

test('a complete connection', () => {
  const { host, problems } = read();
  expect(problems).toEqual([]);
  expect(host).toMatchObject({
    kind: 'ssh',
    address: 'server.example.com',
    port: 22,
    user: 'deploy',
    trust: { fingerprint: complete['host-fingerprint'] },
  });
  expect(host?.kind === 'ssh' && [host.privateKey.reveal(), host.passphrase.reveal()]).toEqual([
    complete['ssh-key'],
    'phrase',
  ]);
});

test('local needs nothing else', () => {
  expect(read({ host: ' local ', user: '', port: 'x', 'ssh-key': '' })).toEqual({
    host: { kind: 'local' },
    problems: [],
  });
});

test('all problems at once, each with its input', () => {
  const { host, problems } = read({
    host: '',
    user: '-oProxyCommand=x',
    port: '0',
    'ssh-key': ' \n',
    'known-hosts': 'nonsense',
    'host-fingerprint': 'abc',
  });
  expect(host).toBeUndefined();
  expect(problems.map((problem) => problem.input)).toEqual([
    'host',
    'user',
    'port',
    'ssh-key',
    'known-hosts',
    'host-fingerprint',
  ]);
  expect(problems[3]?.message).toBe(
    "is empty: the secret is not set in this repository or environment, or it is not handed to this (reusable) workflow or to a fork's pull request.",
  );
});

test('trust that is not given is for the connection to refuse, with the key that it saw', () => {
  expect(read({ 'host-fingerprint': '' }).problems).toEqual([]);
});

test('a public key is told from a private one, and neither is shown', () => {
  const { problems } = read({ 'ssh-key': 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA deploy' });
  expect(problems).toHaveLength(1);
  expect(problems[0]?.message).toMatch(/^is a public key/);
  expect(problems[0]?.message).not.toContain('AAAA');
});

test.each<[string, string]>([
  ['example.com', 'example.com'],
  [' web-1 ', 'web-1'],
  ['my_host.internal', 'my_host.internal'],
  ['203.0.113.7', '203.0.113.7'],
  ['2001:db8::7', '2001:db8::7'],
  ['[2001:db8::7]', '2001:db8::7'],
  ['xn--bcher-kva.example', 'xn--bcher-kva.example'],
])('address %s', (text, value) => {
  expect(parseAddress(text)).toEqual({ value });
});

test.each<[string, string]>([
  [
    'deploy@example.com',
    '`deploy@example.com` holds a user name: give `deploy` in the input user, and here only `example.com`.',
  ],
  ['example.com:2222', '`example.com:2222` holds a port: give `2222` in the input port, and here only `example.com`.'],
  [
    '[2001:db8::7]:2222',
    '`[2001:db8::7]:2222` holds a port: give `2222` in the input port, and here only `2001:db8::7`.',
  ],
  ['ssh://example.com', '`ssh://example.com` is a URL: give only the name or the address of the server.'],
  ['a.test, b.test', '`a.test, b.test` is not one host: give one name or address.'],
  ['256.1.1.1', '`256.1.1.1` is not an IPv4 address: that has four numbers from 0 to 255, joined by dots.'],
  ['[example.com]', '`[example.com]` is not an IPv6 address in brackets.'],
  [
    '-oProxyCommand=id',
    '`-oProxyCommand=id` is neither a host name nor an IPv4 or IPv6 address (international names: give the xn-- form).',
  ],
  [
    'bücher.example',
    '`bücher.example` is neither a host name nor an IPv4 or IPv6 address (international names: give the xn-- form).',
  ],
  ['a..b', '`a..b` is neither a host name nor an IPv4 or IPv6 address (international names: give the xn-- form).'],
])('no address: %s', (text, problem) => {
  expect(parseAddress(text)).toEqual({ problem });
});

test('whatever the text, what is accepted is a host name without anything a program could take for an option', () => {
  fc.assert(
    fc.property(
      fc.oneof(fc.string(), fc.string({ unit: fc.constantFrom('a', '.', '-', ':', '[', ']', '1', '@') })),
      (text) => {
        const parsed = parseAddress(text);
        if (!('value' in parsed)) return;
        expect(isHostName(parsed.value)).toBe(true);
        expect(parsed.value).toMatch(/^[A-Za-z0-9_:][A-Za-z0-9_.:%-]*$/);
      },
    ),
    { numRuns: 3000 },
  );
});
