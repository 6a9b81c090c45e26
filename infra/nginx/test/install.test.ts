/** What install.sh renders for versions of nginx that are not here, and which flags it takes: with a stand-in that tells a version. */
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { HOSTILE, SHELLS } from '../../../shared/test/shells.ts';

const PROGRAM = fileURLToPath(new URL('../install.sh', import.meta.url));
const SHOP = ['--name', 'shop.example.com', '--upstream', '127.0.0.1:8080'] as const;
const WRONG = 2;

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'slipway-nginx-'));
});
afterAll(() => {
  rmSync(folder, { recursive: true });
});

/** @param about what `nginx -V` says after its name; @param dump of `nginx -T` */
function render(
  flags: readonly string[],
  about = '1.30.6',
  dump = '',
  shell = SHELLS[0],
): { code: number | null; output: string } {
  const [version = '', openssl = 'OpenSSL 3.0.2 15 Mar 2022', options = ''] = about.split('|');
  writeFileSync(join(folder, 'dump'), dump);
  writeFileSync(
    join(folder, 'nginx'),
    `#!/bin/sh
case $1 in
  -V) echo 'nginx version: nginx/${version}' >&2; echo 'built with ${openssl}' >&2; echo 'configure arguments: --prefix=/x --conf-path=${folder}/etc/nginx.conf --with-http_ssl_module --with-http_v2_module --with-http_stub_status_module ${options}' >&2 ;;
  -T) cat '${folder}/dump' ;;
  *) exit 1 ;;
esac
`,
  );
  chmodSync(join(folder, 'nginx'), 0o755);
  const [program = 'sh', ...words] = shell?.words ?? [];
  const { status, stdout, stderr } = spawnSync(program, [...words, PROGRAM, ...flags, '--print'], {
    encoding: 'utf8',
    env: { PATH: `${folder}:/usr/bin:/bin` },
  });
  return { code: status, output: stdout + stderr };
}
const rendered = (flags: readonly string[], about?: string, dump?: string): string => {
  const { code, output } = render([...flags], about, dump);
  expect({ code, output: code === 0 ? '' : output }).toEqual({ code: 0, output: '' });
  return output;
};

/** nginx's words, each statement a line, without comments; a quoted text is one word. */
const tokens = (configuration: string): string[] =>
  [...configuration.matchAll(/#[^\n]*|"(?:\\[^]|[^"\\])*"|'(?:\\[^]|[^'\\])*'|[;{}]|(?:\\[^]|\$\{[^}]*\}|[^\s;{}])+/g)]
    .map(([token]) => token)
    .filter((token) => !token.startsWith('#'));
/** How it is built: the words that are not values. */
const structure = (configuration: string): string =>
  tokens(configuration)
    .filter((token) => /^[;{}]$/.test(token))
    .join('');

test('each shell renders the same', () => {
  const [first, ...others] = SHELLS.map((shell) =>
    render([...SHOP, '--websocket-path', '/live/'], undefined, undefined, shell),
  );
  expect(first?.code).toBe(0);
  for (const other of others) expect(other).toEqual(first);
});

test.each([
  // version | OpenSSL | build
  [
    '1.18.0 (Ubuntu)|OpenSSL 3.0.2 15 Mar 2022',
    { http2: 'listen', reject: false, keepAlive: false, postQuantum: false },
  ],
  [
    '1.22.1|OpenSSL 3.0.8 7 Feb 2023 (running with OpenSSL 3.0.17 1 Jul 2025)',
    { http2: 'listen', reject: true, keepAlive: false, postQuantum: false },
  ],
  [
    '1.25.0|OpenSSL 3.0.8 7 Feb 2023|--with-http_v3_module',
    { http2: 'listen', reject: true, keepAlive: false, postQuantum: false },
  ],
  [
    '1.25.1|OpenSSL 3.0.8 7 Feb 2023 (running with OpenSSL 3.5.1 1 Jul 2025)|--with-http_v3_module',
    { http2: 'directive', reject: true, keepAlive: false, postQuantum: true },
  ],
  [
    '1.26.3|OpenSSL 3.5.0 8 Apr 2025|--with-http_v3_module',
    { http2: 'directive', reject: true, keepAlive: false, postQuantum: true },
  ],
  [
    '1.27.3|OpenSSL 3.4.0 22 Oct 2024|--with-http_v3_module',
    { http2: 'directive', reject: true, keepAlive: false, postQuantum: false },
  ],
  [
    '1.27.4|OpenSSL 3.10.0 1 Jan 2028|--with-http_v3_module',
    { http2: 'directive', reject: true, keepAlive: true, postQuantum: true },
  ],
  ['1.30.6|BoringSSL|--with-http_v3_module', { http2: 'directive', reject: true, keepAlive: true, postQuantum: false }],
  [
    '2.0.0|OpenSSL 4.0.0 14 Apr 2026|--with-http_v3_module',
    { http2: 'directive', reject: true, keepAlive: true, postQuantum: true },
  ],
])('only what this nginx knows: %s', (about, { http2, reject, keepAlive, postQuantum }) => {
  const output = rendered(SHOP, about);
  expect(/listen 443 ssl http2;/.test(output)).toBe(http2 === 'listen');
  expect(/^ +http2 on;/m.test(output)).toBe(http2 === 'directive');
  expect(output.includes('ssl_reject_handshake on;')).toBe(reject);
  expect(output.includes('/placeholder/fullchain.pem')).toBe(!reject);
  expect(output.includes('keepalive_min_timeout 10s;')).toBe(keepAlive);
  expect(output.includes('ssl_ecdh_curve X25519MLKEM768:X25519:prime256v1:secp384r1;')).toBe(postQuantum);
  expect(output.includes('ssl_ecdh_curve X25519:prime256v1:secp384r1;')).toBe(!postQuantum);
  expect(output).not.toMatch(/quic|http3|^\?|@[a-z0-9_]+@/m);
});

test('HTTP/3 where it can be had', () => {
  const output = rendered([...SHOP, '--http3'], '1.26.3|OpenSSL 3.5.0|--with-http_v3_module');
  expect(output.match(/listen 443 quic reuseport default_server;/g)).toHaveLength(1);
  expect(output).toMatch(/listen 443 quic;[^]*http3 on;/);
  expect(output).toContain('add_header Alt-Svc');
  for (const about of ['1.24.0|OpenSSL 3.0.8|--with-http_v3_module', '1.26.3|OpenSSL 3.5.0']) {
    expect(render([...SHOP, '--http3'], about)).toMatchObject({
      code: WRONG,
      output: expect.stringContaining('--http3') as string,
    });
  }
});

test('too old, or built without what is needed', () => {
  expect(render(SHOP, '1.18.0|OpenSSL 1.1.1n|--without-http_limit_req_module')).toMatchObject({
    code: 1,
    output: expect.stringContaining('this nginx is built without http_limit_req\n  -> ') as string,
  });
  expect(render(SHOP, '1.16.1')).toMatchObject({
    code: 1,
    output: expect.stringMatching(/nginx is 1\.16\.1, and 1\.18\.0/) as string,
  });
});

test.each([
  ['listen 80 default_server;', { port80: false, port443: true }],
  ['listen [::]:80 default_server;', { port80: false, port443: true }],
  ['listen 127.0.0.1 default_server;', { port80: false, port443: true }],
  ['  listen   443 ssl  default_server ;', { port80: true, port443: false }],
  ['listen 10.0.0.1:443 ssl http2 default;', { port80: true, port443: false }],
  ['listen 8080 default_server;', { port80: true, port443: true }],
  ['# listen 80 default_server;', { port80: true, port443: true }],
  ['server_name default_server;', { port80: true, port443: true }],
])("whose word it is for names that nobody has: the user's `%s`", (statement, { port80, port443 }) => {
  const output = rendered(
    SHOP,
    undefined,
    `# configuration file /etc/nginx/conf.d/user.conf:\nserver { ${statement}\n}\n`,
  );
  expect(output.includes('listen 80 default_server;')).toBe(port80);
  expect(output.includes('listen 443 ssl default_server;')).toBe(port443);
});

test('as the router of a project: upstreams are those that a deploy writes, included once', () => {
  const flags = ['--name', 'shop.example.com', '--service', 'api'];
  const output = rendered(flags);
  expect(output).toContain('\ninclude /etc/nginx/slipway/*.conf;\n');
  expect(output).toContain('proxy_pass http://api;');
  expect(output).not.toContain('upstream slipway_');
  const user = '# configuration file /etc/nginx/conf.d/site.conf:\ninclude /etc/nginx/slipway/*.conf;\n';
  expect(rendered(flags, undefined, user)).not.toContain('\ninclude /etc/nginx/slipway/*.conf;');
});

test('several servers are listed twice: once with what they have failed, and once without', () => {
  const one = rendered(SHOP);
  expect(one).toContain('    server 127.0.0.1:8080;\n');
  expect(one).not.toContain('backup');
  const two = rendered([...SHOP, '--upstream', '[2001:db8::1]:8080', '--upstream', 'app:3000']);
  for (const address of ['127.0.0.1:8080', '[2001:db8::1]:8080', 'app:3000']) {
    expect(two).toContain(`    server ${address} max_fails=3 fail_timeout=5s;\n`);
    expect(two).toContain(`    server ${address} max_fails=0 backup;\n`);
  }
  expect(two).not.toMatch(/non_idempotent|http_5/);
});

test('what no flag can say alone', () => {
  const refused = (flags: string[], message: RegExp): void => {
    expect(render(flags)).toMatchObject({ code: WRONG, output: expect.stringMatching(message) as string });
  };
  refused(['--name', 'a.example.com'], /--upstream or --service is missing/);
  refused(['--upstream', '127.0.0.1:1'], /--name is missing/);
  refused([...SHOP, '--service', 'api'], /do not go together/);
  refused([...SHOP, '--spa'], /--spa needs --static-root/);
  refused([...SHOP, '--no-hsts', '--hsts-preload'], /do not go together/);
  refused([...SHOP, '--api-path', '/assets/'], /the path \/assets\/ is given for two things/);
  refused([...SHOP, '--name'], /--name needs a value/);
  refused([...SHOP, '--name', '--spa'], /--name needs a value/);
  refused([...SHOP, '--colour', 'x'], /--colour is no flag[^]*x is no flag/);
});

/** What each flag accepts, said a second time, in other words. */
const label = '[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?';
const folders = /^\/(?:[A-Za-z0-9._~-]+\/)+$/;
const isPlain = (path: string): boolean =>
  path.length <= 200 && !path.split('/').some((part) => part === '.' || part === '..');
const isHostName = (text: string): boolean =>
  text.length <= 253 && new RegExp(`^(?:${label}\\.)*${label}$`).test(text) && /[a-z][^.]*$/.test(text);
const isFolder = (text: string): boolean => folders.test(text) && isPlain(text);
const isPortText = (text: string): boolean => /^[1-9][0-9]{0,4}$/.test(text) && Number(text) <= 65535;
const ACCEPTS: Readonly<Record<string, (text: string) => boolean>> = {
  '--name': isHostName,
  '--certificate-name': isHostName,
  '--api-path': isFolder,
  '--websocket-path': isFolder,
  '--static-path': isFolder,
  '--health-path': (text) => /^\/(?:[A-Za-z0-9._~-]+\/)*[A-Za-z0-9._~-]*$/.test(text) && isPlain(text),
  '--csp': (text) => /^[ -~]{1,3000}$/.test(text) && !/["\\$]/.test(text),
  '--max-body': (text) => /^[1-9][0-9]{0,4}[km]$/.test(text),
  '--status-port': isPortText,
  '--service': (text) => /^[A-Za-z0-9](?:[A-Za-z0-9_-]|\.(?=.)(?!\.)){0,62}$/.test(text),
};
const FLAGS = [...Object.keys(ACCEPTS), '--upstream', '--static-root', '--remove'];

const characters = (text: string): string[] => Array.from(text);

/** Texts that are nearly right, and texts of what is dangerous in a configuration or a shell. */
const nearly = fc.oneof(
  fc.string({
    unit: fc.constantFrom(...characters('abcXYZ019.-_~/:[]*@?% \t\n;{}"\'\\$`#&|<>é')),
    maxLength: 12,
  }),
  fc.constantFrom(...HOSTILE.filter((text) => text !== '')),
  fc.constantFrom(
    'a.example.com;',
    'a b',
    '*.example.com',
    'A.example.com',
    '10.0.0.1',
    'a..b',
    '-a.example',
    'a-.example',
    `${'a'.repeat(64)}.example`,
  ),
  fc.constantFrom(
    '/a/',
    '/',
    '//',
    '/../',
    '/a/../b/',
    '/a/./',
    '/a//b/',
    '/a b/',
    '/a/{',
    '/a/;x/',
    '/$uri/',
    '/a\n/',
    'a/',
    '/a',
    '/.well-known/',
  ),
  fc.constantFrom(
    "default-src 'self'",
    'x"; return 200 "',
    'a\\',
    '$request_body',
    "a'; }",
    '@names@',
    '?spa',
    '65535',
    '65536',
    '0',
    '08',
    '10m',
    '0k',
    '1g',
  ),
);

test('each flag takes what it accepts and nothing else; all that is wrong is told at once, and nothing is rendered', () => {
  fc.assert(
    fc.property(
      fc.constantFrom(...Object.keys(ACCEPTS)),
      fc.array(
        nearly.filter((text) => text !== '' && !text.startsWith('--') && !text.includes('\0')),
        { minLength: 20, maxLength: 20 },
      ),
      (flag, values) => {
        const wrong = values.filter((value) => ACCEPTS[flag]?.(value) === false);
        // Another flag is wrong for certain, so that nothing is rendered, however many of these are right.
        const { code, output } = render(['--name', 'a_b', ...values.flatMap((value) => [flag, value])]);
        expect(code).toBe(WRONG);
        for (const value of wrong) expect(output).toContain(`  ${flag} is ${value}, which is not `);
        expect(output.split(`  ${flag} is `).length - 1).toBe(wrong.length + (flag === '--name' ? 1 : 0));
      },
    ),
    { numRuns: 40 },
  );
});

test('what is taken changes words of the configuration, never how it is built', () => {
  const usual = { name: 'a.example.com', path: '/x/', csp: 'y', size: '1k', upstream: '10.0.0.1:1', root: '/srv/a' };
  const flags = ({ name, path, csp, size, upstream, root }: typeof usual): string[] => [
    ...['--name', name, '--upstream', upstream, '--api-path', path, '--csp', csp, '--max-body', size],
    ...['--certificate-name', name, '--static-root', root, '--health-path', `${path}h`],
  ];
  const expected = structure(rendered(flags(usual)));
  const text = (accepts: ((value: string) => boolean) | undefined, usually: string): fc.Arbitrary<string> =>
    nearly.map((value) => (accepts?.(value) === true && !value.startsWith('--') ? value : usually));
  fc.assert(
    fc.property(
      fc.record({
        name: text(isHostName, usual.name),
        path: text((value) => isFolder(value) && value !== '/assets/', usual.path),
        csp: fc.oneof(
          text(ACCEPTS['--csp'], usual.csp),
          fc
            .string({ unit: fc.constantFrom(...characters(";{}#'@?= ~/*abc")), minLength: 1, maxLength: 40 })
            .filter((value) => !value.startsWith('--')),
        ),
        size: text(ACCEPTS['--max-body'], usual.size),
        upstream: fc.constantFrom(
          '127.0.0.1:65535',
          '[::1]:80',
          '[2001:db8::1]:8080',
          'app:3000',
          'my_app-1:1',
          'app.example.com:443',
        ),
        root: fc.constantFrom('/srv/a', '/var/www/a-b_c.d/', '/x/~y'),
      }),
      (values) => {
        expect(structure(rendered(flags(values)))).toBe(expected);
      },
    ),
    { numRuns: 15 },
  );
});

test('addresses and folders that are refused', () => {
  const addresses = [
    '127.0.0.1',
    '127.0.0.1:0',
    '127.0.0.1:65536',
    '127.0.0.1:80;',
    '256.0.0.1:80',
    '1.2.3:80',
    '01.2.3.4:80',
    '::1:80',
    '[::1]',
    '[::1]:x',
    '[::1;]:80',
    '[1]:80',
    'unix:/run/a.sock',
    'http://a:80',
    'a b:80',
    'a:80/x',
    '-a:80',
    ':80',
    'a..b:80',
    '$a:80',
    '{a}:80',
  ];
  const roots = ['srv', '/srv/../etc', '/srv//a', '/srv/a b', '/srv/a;', '/srv/$uri', '/srv/"a"', '/srv/{a}'];
  const { code, output } = render([
    '--name',
    'a.example.com',
    ...addresses.flatMap((value) => ['--upstream', value]),
    ...roots.flatMap((value) => ['--static-root', value]),
  ]);
  expect(code).toBe(WRONG);
  for (const value of addresses) expect(output).toContain(`  --upstream is ${value}, which is not `);
  for (const value of roots) expect(output).toContain(`  --static-root is ${value}, which is not `);
});

test('--help and the README tell of every flag', () => {
  const help = spawnSync('sh', [PROGRAM, '--help'], { encoding: 'utf8' }).stdout;
  const readme = readFileSync(fileURLToPath(new URL('../README.md', import.meta.url)), 'utf8');
  const flags = [...FLAGS, '--spa', '--no-hsts', '--hsts-preload', '--http3', '--check', '--print'];
  for (const flag of flags) {
    expect(help).toContain(`  ${flag} `);
    expect(readme).toContain(`\`${flag}`);
  }
  const told = new Set([...help.matchAll(/^ {2}(--[a-z0-9-]+)/gm)].map(([, flag]) => flag));
  expect([...told].sort()).toEqual([...flags].sort());
});
