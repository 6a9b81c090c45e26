/** What visitors, certificate authorities and exporters see of nginx as install.sh sets it up: the same for each version of nginx. */
import { setTimeout as sleep } from 'node:timers/promises';
import { constants } from 'node:crypto';
import { connect as connectTls, getCiphers } from 'node:tls';
import { ask, askAtOnce, askRaw, shakeHands, visit, type Answer, type Question } from './visitor.ts';
import type { Machine } from './machine.ts';

/** What this nginx can. */
interface Version {
  /** 1.19.4 or newer: no certificate for a name that nobody has. */
  readonly rejectHandshake: boolean;
  /** 1.27.4 or newer. */
  readonly keepaliveMinTimeout: boolean;
  /** OpenSSL 3.5 or newer. */
  readonly postQuantum: boolean;
  /** 1.25.0 or newer, built with it. */
  readonly http3: boolean;
}

function readVersion(machine: Machine): Version {
  const about = machine.run('nginx -V').output;
  const numbers = (text = ''): number => text.split('.').reduce((sum, part) => sum * 1000 + Number(part), 0);
  const nginx = numbers(/nginx\/(\d+\.\d+\.\d+)/.exec(about)?.[1]);
  const openssl = numbers(/(?:running with|built with) OpenSSL (\d+\.\d+\.\d+)[^(]*\)?$/m.exec(about)?.[1]);
  return {
    rejectHandshake: nginx >= numbers('1.19.4'),
    keepaliveMinTimeout: nginx >= numbers('1.27.4'),
    postQuantum: openssl >= numbers('3.5.0'),
    http3: nginx >= numbers('1.25.0') && about.includes('--with-http_v3_module'),
  };
}

const [SHOP, SPA, POOL, DOWN] = ['shop.example.com', 'spa.example.com', 'pool.example.com', 'down.example.com'];
const CSP = "default-src 'none'; script-src 'self'; report-uri /csp?a=1&b={2}#@names@";

/** As in a container: a daemon has no standard output, and that is where an image's log leads. */
export function startNginx(machine: Machine): void {
  const { code, output } = machine.run(
    `nginx -g 'daemon off;' >>/tmp/nginx.out 2>>/tmp/nginx.err &
tries=0
until [ -s /run/nginx.pid ]; do
  tries=$((tries + 1))
  [ "$tries" -lt 100 ] || { cat /tmp/nginx.err; exit 1; }
  sleep 0.1
done`,
  );
  if (code !== 0) throw new Error(output);
}

/** Installs the sites on a machine whose nginx runs. */
function setUp(machine: Machine, { http3 }: Version): void {
  const must = (ran: { code: number | null; output: string }): void => {
    if (ran.code !== 0) throw new Error(ran.output);
  };
  must(
    machine.run(`set -e
mkdir -p /srv/spa/assets /srv/spa/.git /var/www/acme/.well-known/acme-challenge /etc/slipway/tls/pool/v1
echo '<title>spa</title>' >/srv/spa/index.html
echo 'body{}' >/srv/spa/assets/index-BxY3_abc.css
echo 'body{}' >/srv/spa/assets/plain.css
echo secret >/srv/spa/.git/config
printf token.thumbprint >/var/www/acme/.well-known/acme-challenge/token-1
cd /etc/slipway/tls/pool
openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=${POOL} -keyout v1/privkey.pem -out v1/fullchain.pem
ln -s v1 current`),
  );
  must(
    machine.install(
      ...['--name', SHOP, '--name', `www.${SHOP}`, '--upstream', '127.0.0.1:3001', '--websocket-path', '/live/'],
    ),
  );
  must(
    machine.install(
      ...['--name', SPA, '--upstream', '127.0.0.1:3001', '--static-root', '/srv/spa', '--spa', '--hsts-preload'],
      ...['--csp', CSP, ...(http3 ? ['--http3'] : [])],
    ),
  );
  must(
    machine.install(
      ...['--name', POOL, '--certificate-name', 'pool', '--upstream', '127.0.0.1:3001', '--upstream', '127.0.0.1:3002'],
      ...['--no-hsts', '--max-body', '1k'],
    ),
  );
  must(machine.install('--name', DOWN, '--upstream', '127.0.0.1:3009'));
}

const STRICT_TRANSPORT = 'max-age=31536000';
const POLICY =
  "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'";
const YEAR = 'public, max-age=31536000, immutable';

/** What every response has. */
const SECURITY = {
  'content-security-policy': POLICY,
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  'referrer-policy': 'strict-origin-when-cross-origin',
  'permissions-policy': 'camera=(), geolocation=(), microphone=(), payment=(), usb=()',
  server: 'nginx',
};
const SHOWN = ['strict-transport-security', 'cache-control', ...Object.keys(SECURITY)];

function shown({ status, headers, rawHeaders }: Answer): Readonly<Record<string, unknown>> {
  const twice = SHOWN.filter(
    (name) => rawHeaders.filter((raw, at) => at % 2 === 0 && raw.toLowerCase() === name).length > 1,
  );
  return {
    status,
    ...Object.fromEntries(SHOWN.map((name) => [name, headers[name]])),
    ...(twice.length > 0 ? { twice } : {}),
  };
}

/** As bundlers name them. */
const HASHED: readonly string[] = [
  // Vite, Rollup
  ...['index-BxY3_abc.js', 'vendor-Dk3PqX9b.mjs', 'index-C4qRtv2W.css', 'logo-Bq1xW7Zk.png', 'inter-B2yZk3Qa.woff2'],
  // webpack, Create React App
  ...['main.3f2a1b9cdd.chunk.css', 'runtime.9f8e7d6c5b4a3f2e1d0c.js', '787.28cb0dcd.chunk.js', 'main.f855e6bc.js.map'],
  'media/logo.6ce24c58023cc2f8fd88fe9d219db6c6.svg',
  // esbuild
  ...['app-5ZQKIA2T.js', 'chunk-QX4YB3KD.css.map'],
  // Parcel, Angular
  ...['index.4a1e7c3b.js', 'photo.2c7f9ab1.jpg', 'main.0d2c5b7f9e1a3c4d.js'],
  // Next.js
  ...['chunks/main-app-1c9d2f0b7e6a5d43.js', 'chunks/255-6f0a6b8e9c3d1f24.js?dpl=1'],
];
/** As people name them, or as good as. */
const NOT_HASHED: readonly string[] = [
  ...['hero-1280x720.jpg', 'photo-1024x768.webp', 'menu-20250114.pdf', 'terms-20240101.pdf', 'hero-image-2x.png'],
  ...['logo-version2.png', 'x.IMG_1234.jpg', 'app-en-US-v1.js', 'menu-20feb2024.pdf', 'price-20250114a.pdf'],
  ...['talk-face2face.jpg', 'app-v2-Final.js', 'page-MySetup2.js', 'page-myPage2b.js', 'shoe-AB12CD34.jpg'],
  ...[
    'x-SECTION2.css',
    'x-2COLUMNS.css',
    'clip.DSC01234.jpg',
    'page-Settings.js',
    'jquery-3.6.0.min.js',
    'x-deadbeef.js',
  ],
  ...['avatar-1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed.png', 'build-12345678.js', 'doc-Dk3PqX9b.pdf', 'a.b.3f2a1b9.js'],
  // Written so that somebody may read another path.
  ...['a%2Fmain.3f2a1b9cdd.css', 'a//main.3f2a1b9cdd.css', 'a..b/main.3f2a1b9cdd.css', 'a;/main.3f2a1b9cdd.css'],
  ...['list?file=main.3f2a1b9cdd.css', 'account%3f/main.3f2a1b9cdd.css'],
];
/** Headers that applications believe, and that only a proxy has to say. */
const DROPPED = [
  ...['x-forwarded-prefix', 'x-forwarded-ssl', 'x-forwarded-scheme', 'x-forwarded-server'],
  ...['x-original-url', 'x-rewrite-url', 'x-client-ip'],
];

type Row = readonly [
  what: string,
  host: string,
  path: string,
  status: number,
  cache: string | undefined,
  question?: Question,
];

const PLAIN: Question = { port: 80 };
/** Every location, and every way in which a response comes about. */
const ROWS: readonly Row[] = [
  ['a page', SHOP, '/', 200, undefined],
  ['the second name', `www.${SHOP}`, '/', 200, undefined],
  ['a page that says how it is cached', SHOP, '/?header=Cache-Control:private', 200, 'private'],
  ["the application's 404", SHOP, '/?status=404', 404, undefined],
  ["the application's 500", SHOP, '/?status=500', 500, undefined],
  ["the application's redirect", SHOP, '/?status=302&header=Location:/there', 302, undefined],
  ['API', SHOP, '/api/orders', 200, undefined],
  ["API: the application's 401", SHOP, '/api/orders?status=401', 401, undefined],
  ['API without its last slash', SHOP, '/api', 301, 'no-cache'],
  ['API: DELETE', SHOP, '/api/orders/1', 200, undefined, { method: 'DELETE' }],
  ['health', SHOP, '/health', 200, undefined],
  ['asset with a hash', SHOP, '/assets/index-BxY3_abc.js', 200, YEAR],
  ['asset with a hash in hex', SHOP, '/assets/js/main.3f2a1b9cdd.chunk.css?v=1', 200, YEAR],
  [
    'asset that is asked for again each time, says the application',
    SHOP,
    '/assets/a-3F2A1B9C.js?header=Cache-Control:public,max-age=0',
    200,
    YEAR,
  ],
  [
    'asset with a hash that is not for everybody',
    SHOP,
    '/assets/a-3F2A1B9C.js?header=Cache-Control:private',
    200,
    'private',
  ],
  ['asset with a hash in hex, last', SHOP, '/assets/js/main.3f2a1b9cdd.css?v=1', 200, YEAR],
  ['asset with a hash, source map', SHOP, '/assets/a-3F2A1B9C.js.map', 200, YEAR],
  [
    'asset that the application forbids to cache',
    SHOP,
    '/assets/a-3F2A1B9C.js?header=Cache-Control:no-store',
    200,
    'no-store',
  ],
  [
    'asset with a hash that comes with a cookie',
    SHOP,
    '/assets/a-3F2A1B9C.js?header=Set-Cookie:a=b',
    200,
    'private, no-cache',
  ],
  ['asset with a hash, 304', SHOP, '/assets/a-3F2A1B9C.js?status=304', 304, YEAR],
  ['asset with a hash, not there', SHOP, '/assets/index-BxY3_abc.js?status=404', 404, 'no-cache'],
  ['asset with a hash, broken', SHOP, '/assets/index-BxY3_abc.js?status=500', 500, 'no-cache'],
  ['asset without a hash', SHOP, '/assets/jquery-validation.js', 200, 'no-cache'],
  ['asset with a word of eight letters', SHOP, '/assets/page-Settings.js', 200, 'no-cache'],
  ['asset with a version', SHOP, '/assets/jquery-3.6.0.min.js', 200, 'no-cache'],
  ['asset that says how it is cached', SHOP, '/assets/logo.svg?header=Cache-Control:max-age=60', 200, 'max-age=60'],
  ['a name with a hash outside of the assets', SHOP, '/files/a-3F2A1B9C.js', 200, undefined],
  ['WebSocket path, asked without one', SHOP, '/live/', 200, undefined],
  ['a body that is too large', POOL, '/', 413, 'no-cache', { method: 'POST', body: 'x'.repeat(2000) }],
  ['a header that is too large', SHOP, '/', 400, 'no-cache', { headers: { 'x-much': 'x'.repeat(9000) } }],
  ['an address that is too long', SHOP, `/${'x'.repeat(9000)}`, 414, 'no-cache'],
  ['TRACE', SHOP, '/', 405, 'no-cache', { method: 'TRACE' }],
  ['the application is gone', DOWN, '/', 502, undefined],
  ['the application is gone: API', DOWN, '/api/', 502, undefined],
  ['the application is gone: asset with a hash', DOWN, '/assets/index-BxY3_abc.js', 502, 'no-cache'],
  ['the application hangs up', SHOP, '/?drop', 502, undefined],
  ['files: page', SPA, '/', 200, 'no-cache'],
  ['files: a route of the browser', SPA, '/orders/17', 200, 'no-cache'],
  ['files: asset with a hash', SPA, '/assets/index-BxY3_abc.css', 200, YEAR],
  ['files: asset without a hash', SPA, '/assets/plain.css', 200, 'no-cache'],
  ['files: asset that is not there', SPA, '/assets/other-BxY3_abc.css', 404, 'no-cache'],
  ['files: hidden', SPA, '/.git/config', 404, 'no-cache'],
  ['files: API', SPA, '/api/orders', 200, undefined],
  ['files: health', SPA, '/health', 200, undefined],
  ['redirect to HTTPS', SHOP, '/a?b=c', 308, 'no-cache', PLAIN],
  ['ACME challenge', SHOP, '/.well-known/acme-challenge/token-1', 200, 'no-cache', PLAIN],
  ['ACME challenge that is not there', SHOP, '/.well-known/acme-challenge/token-2', 404, 'no-cache', PLAIN],
];

function expected([, host, , status, cache, { port } = {}]: Row): Readonly<Record<string, unknown>> {
  const hsts =
    host === SPA ? 'max-age=63072000; includeSubDomains; preload' : host === POOL ? undefined : STRICT_TRANSPORT;
  return {
    status,
    'strict-transport-security': port === 80 ? undefined : hsts,
    'cache-control': cache,
    ...SECURITY,
    ...(host === SPA ? { 'content-security-policy': CSP } : {}),
  };
}

/**
 * @param start a machine whose nginx is not yet running
 * @param current it can all that is known of here
 */
export function describeBehaviour(start: () => Promise<Machine>, { current = false } = {}): void {
  let machine: Machine;
  let version: Version;
  beforeAll(async () => {
    machine = await start();
    startNginx(machine);
    version = readVersion(machine);
    setUp(machine, version);
  }, 60_000);
  afterAll(() => {
    machine.close();
  });

  const log = (): Record<string, unknown>[] => {
    const { output } = machine.run('cat /var/log/nginx/slipway.access.log 2>/dev/null || cat /tmp/nginx.out');
    return output
      .split('\n')
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line) as Record<string, unknown>);
  };

  test.each(ROWS.map((row) => [row[0], row] as const))('headers: %s', async (_, row) => {
    const [, host, path, , , question] = row;
    const answer = await ask(machine, host, path, question);
    expect(shown(answer)).toEqual(expected(row));
    expect(answer.body).not.toMatch(/nginx\/\d/);
  });

  test('headers: what is not even a request', async () => {
    for (const raw of [
      await askRaw(machine, 443, 'GET / HTTP/1.1\r\nHost: x\r\n\r\n'),
      await askRaw(machine, 443, 'NONSENSE\r\n\r\n', SHOP),
      await askRaw(machine, 80, 'GET /%zz HTTP/1.1\r\nHost: shop.example.com\r\n\r\n'),
      await askRaw(machine, 80, `GET / HTTP/1.1\r\nHost: a\r\nX: ${'x'.repeat(9000)}\r\n\r\n`),
    ]) {
      expect(raw).toMatch(/^HTTP\/1.1 400 /);
      expect(raw).not.toMatch(/nginx\/\d/);
      for (const name of [
        'Content-Security-Policy',
        'X-Content-Type-Options',
        'X-Frame-Options',
        'Referrer-Policy',
        'Permissions-Policy',
      ]) {
        expect(raw).toContain(`\r\n${name}: `);
      }
    }
  });

  test('headers of the application: its policies are kept, once; what is nginx to say is not said twice', async () => {
    const own = [
      'Content-Security-Policy:default-src *',
      'X-Frame-Options:SAMEORIGIN',
      'Referrer-Policy:no-referrer',
      'Permissions-Policy:usb=*',
    ];
    const hidden = [
      'Strict-Transport-Security:max-age=1',
      'X-Content-Type-Options:sniff',
      'X-Powered-By:php',
      'Server:app/1.2.3',
    ];
    const query = [...own, ...hidden].map((header) => `header=${encodeURIComponent(header)}`).join('&');
    for (const path of ['/', '/api/', '/health', '/assets/a-3F2A1B9C.js']) {
      const answer = await ask(machine, SHOP, `${path}?${query}`);
      expect(shown(answer)).toMatchObject({
        ...SECURITY,
        'strict-transport-security': STRICT_TRANSPORT,
        'content-security-policy': 'default-src *',
        'x-frame-options': 'SAMEORIGIN',
        'referrer-policy': 'no-referrer',
        'permissions-policy': 'usb=*',
      });
      expect(shown(answer)).not.toHaveProperty('twice');
      expect(answer.headers).not.toHaveProperty('x-powered-by');
    }
  });

  test('HTTP leads to HTTPS with method, path and query; a name that nobody has gets nothing', async () => {
    const { status, headers } = await ask(machine, `www.${SHOP}`, '/a%20b?c=d', { port: 80, method: 'POST' });
    expect([status, headers.location]).toEqual([308, `https://www.${SHOP}/a%20b?c=d`]);
    await expect(ask(machine, 'other.example.com', '/', PLAIN)).rejects.toThrow('socket hang up');
    await expect(ask(machine, 'other.example.com', '/')).rejects.toThrow(
      version.rejectHandshake ? /unrecognized name|EPROTO|alert/ : 'socket hang up',
    );
    expect((await shakeHands(machine, {})) === undefined).toBe(version.rejectHandshake);
    // Asked for one site over a connection that is for another: nothing of a site that does not exist.
    expect((await askRaw(machine, 443, 'GET / HTTP/1.1\r\nHost: other.example.com\r\n\r\n', SHOP)).length).toBe(0);
  });

  test('ACME: on port 80 of every name, of names without a site, and as plain text', async () => {
    for (const host of [SHOP, `www.${SHOP}`, SPA, POOL, DOWN, 'other.example.com', '127.0.0.1']) {
      const { status, body, headers } = await ask(machine, host, '/.well-known/acme-challenge/token-1', PLAIN);
      expect([status, body, headers['content-type']]).toEqual([200, 'token.thumbprint', 'text/plain']);
    }
    const outside = await ask(machine, SHOP, '/.well-known/acme-challenge/../../../../../etc/passwd', PLAIN);
    expect(outside.status).toBe(400);
  });

  test('limits: API 10/s, else 30/s, with a burst; health and the files of a page are not held up', async () => {
    const at = (path: string, times: number): string[] =>
      Array.from({ length: times }, (_, index) => `${path}?${index}`);
    const good = (answers: readonly { status: number }[]): number =>
      answers.filter(({ status }) => status === 200).length;

    await visit(machine, SHOP, async (askMany) => {
      const first = await askMany(at('/api/limited', 60));
      expect(good(first)).toBeGreaterThanOrEqual(21);
      expect(good(first)).toBeLessThanOrEqual(26);
      const refused = first.find(({ status }) => status === 429);
      expect(refused?.headers).toMatchObject({
        ...SECURITY,
        'strict-transport-security': STRICT_TRANSPORT,
        'retry-after': '1',
        'cache-control': 'no-cache',
      });
      expect(new Set(first.map(({ status }) => status))).toEqual(new Set([200, 429]));
      // The burst is used up: from here on it is the rate.
      await sleep(1000);
      const second = good(await askMany(at('/api/limited', 60)));
      expect(second).toBeGreaterThanOrEqual(9);
      expect(second).toBeLessThanOrEqual(15);
      // The API's limit is its own.
      expect(good(await askMany(at('/', 10)))).toBe(10);
      expect(good(await askMany(at('/health', 100)))).toBe(100);
    });
    await visit(machine, SHOP, async (askMany) => {
      const first = good(await askMany(at('/page', 100)));
      expect(first).toBeGreaterThanOrEqual(61);
      expect(first).toBeLessThanOrEqual(72);
      await sleep(500);
      const second = good(await askMany(at('/page', 60)));
      expect(second).toBeGreaterThanOrEqual(14);
      expect(second).toBeLessThanOrEqual(24);
    });
    const page = await askAtOnce(machine, SHOP, [
      '/',
      ...Array.from({ length: 100 }, (_, at) => `/assets/${at}-3F2A1B9C.js`),
    ]);
    expect(page.every(({ status }) => status === 200)).toBe(true);
  });

  test('a file is cached for a year when its name is one that a bundler makes, and else asked for again', async () => {
    const cached = async (names: readonly string[]): Promise<string[]> => {
      const answers = await askAtOnce(
        machine,
        SHOP,
        names.map((name) => `/assets/${name}`),
      );
      return names.filter((_, at) => answers[at]?.headers['cache-control'] === YEAR);
    };
    expect(await cached(HASHED)).toEqual(HASHED);
    expect(await cached(NOT_HASHED)).toEqual([]);
  });

  test('a path that the application may read otherwise than nginx is refused; another spelling of health is health', async () => {
    const seen = async (path: string): Promise<unknown[]> => {
      const said = await askRaw(
        machine,
        443,
        `GET ${path} HTTP/1.1\r\nHost: ${SHOP}\r\nConnection: close\r\n\r\n`,
        SHOP,
      );
      return [Number(said.slice(9, 12)), /"url":"([^"]*)"/.exec(said)?.[1]];
    };
    for (const path of [
      ...['/api/login/..%2f..%2fhealth', '/api/login/../../health', '/api/login/%2E%2e/%2e./health'],
      ...['/account/..%2fassets/app.3f2a1b9cdd.css', '/x/..;/api/login', '/x%5c..%5capi/login', '/x\\..\\api/login'],
      ...['/api/.', '/api/..?a', '/api/./x', '/%2e%2e%2fx%2f..', '/api/x/..#/y'],
    ]) {
      expect([path, (await seen(path))[0]]).toEqual([path, 400]);
    }
    // What begins with a dot, an encoded slash (GitLab's API has them) and whatever a query says are as good as any.
    for (const path of ['/api/v4/projects/a%2Fb', '/x/.well-known/..a/b...', '/x?to=/../y', '/%61pi//x']) {
      expect([path, ...(await seen(path))]).toEqual([path, 200, path]);
    }
    expect(await seen('/%68ealth?a=b')).toEqual([200, '/health?a=b']);
    const refused = log().filter(({ path }) => String(path).startsWith('/api/login/'));
    expect(refused.length).toBeGreaterThanOrEqual(3);
  });

  test('files of a site: routes of the browser lead to its page, files are files, and compressed', async () => {
    const route = await ask(machine, SPA, '/orders/17');
    expect([route.body, route.headers['content-type']]).toEqual(['<title>spa</title>\n', 'text/html']);
    expect((await ask(machine, SPA, '/assets/index-BxY3_abc.css')).headers['content-type']).toBe('text/css');
    expect((await ask(machine, SPA, '/api/orders')).headers['x-served-by']).toBe('a');
    const gzip = { headers: { 'accept-encoding': 'gzip' } };
    const large = await ask(machine, SHOP, '/?padding=5000', gzip);
    expect(large.headers).toMatchObject({ 'content-encoding': 'gzip', vary: 'Accept-Encoding' });
    expect(large.body.length).toBeLessThan(1000);
    expect((await ask(machine, SHOP, '/?padding=1', gzip)).headers).not.toHaveProperty('content-encoding');
    const image = await ask(machine, SHOP, '/?padding=5000&header=Content-Type:image/png', gzip);
    expect(image.headers).not.toHaveProperty('content-encoding');
  });

  test('the application learns who asks, from nginx alone', async () => {
    const { body } = await ask(machine, SHOP, '/a%2Fb?c=d', {
      headers: {
        ...{
          'x-forwarded-for': '6.6.6.6',
          'x-forwarded-proto': 'http',
          'x-forwarded-host': 'evil',
          'x-real-ip': '6.6.6.6',
        },
        ...{
          forwarded: 'for=6.6.6.6',
          proxy: 'evil',
          'x-request-id': 'sane-id-1',
          upgrade: 'h2c',
          connection: 'upgrade',
        },
        'x-forwarded-port': '8',
        ...Object.fromEntries(DROPPED.map((name) => [name, 'evil'])),
      },
    });
    const { url, headers } = JSON.parse(body) as { url: string; headers: Record<string, string> };
    expect(url).toBe('/a%2Fb?c=d');
    expect(headers).toMatchObject({
      host: SHOP,
      'x-forwarded-for': expect.stringMatching(/^127\.1\.\d+\.\d+$/) as string,
      'x-real-ip': expect.stringMatching(/^127\.1\.\d+\.\d+$/) as string,
      'x-forwarded-proto': 'https',
      'x-forwarded-host': SHOP,
      'x-forwarded-port': '443',
      'x-request-id': 'sane-id-1',
    });
    for (const name of ['upgrade', 'forwarded', 'proxy', ...DROPPED]) expect(headers).not.toHaveProperty(name);
    const odd = await ask(machine, SHOP, '/', { headers: { 'x-request-id': 'x"y' } });
    expect((JSON.parse(odd.body) as { headers: Record<string, string> }).headers['x-request-id']).toMatch(
      /^[0-9a-f]{32}$/,
    );
  });

  test.each(['/live/', '/api/live', '/'])('WebSocket at %s', async (path) => {
    // RFC 6455's own example. The frame comes back as it was sent; nginx closes what is half closed.
    const upgrade = `GET ${path} HTTP/1.1\r\nHost: ${SHOP}\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n`;
    const said = await echo(machine, upgrade, '\x81\x05hello');
    expect(said).toMatch(/^HTTP\/1.1 101 /);
    expect(said).toContain('s3pPLMBiTxaQ9kYGzzhZRbK+xOo=');
    expect(said).toContain('\r\nStrict-Transport-Security: ');
    expect(said.endsWith('\r\n\r\n\x81\x05hello')).toBe(true);
  });

  test('several servers: both serve; one that fails is left out; all that fail are not; a POST is sent once', async () => {
    const served = async (path: string, times: number): Promise<string[]> => {
      const answers: string[] = [];
      for (let at = 0; at < times; at++) {
        const { status, headers } = await ask(machine, POOL, path);
        answers.push(status === 200 ? String(headers['x-served-by']) : String(status));
      }
      return answers;
    };
    const asked = async (): Promise<Record<string, number>> =>
      JSON.parse((await ask(machine, SHOP, '/asked')).body) as Record<string, number>;

    expect(new Set(await served('/', 6))).toEqual(new Set(['a', 'b']));
    // A POST that was sent is not sent again, to nobody; nor is a GET lost.
    const posts = [];
    for (let at = 0; at < 2; at++)
      posts.push((await ask(machine, POOL, '/pay?drop=a', { method: 'POST', body: 'x' })).status);
    expect(posts).toContain(502);
    const counted = await asked();
    expect((counted['POST /pay a'] ?? 0) + (counted['POST /pay b'] ?? 0)).toBe(2);
    expect(await served('/cart?drop=a', 12)).toEqual(Array.from({ length: 12 }, () => 'b'));
    // Three failures, and it was left out.
    expect((await asked())['GET /cart a'] ?? 0).toBeLessThanOrEqual(3);
    expect(new Set(await served('/', 4))).toEqual(new Set(['b']));
    // As when a whole new release fails for a moment: whoever comes next is served.
    expect(new Set(await served('/?drop', 8))).toEqual(new Set(['502']));
    expect((await served('/', 6)).filter((one) => one === '502')).toEqual([]);
  });

  test('TLS: a scan finds TLS 1.2 and 1.3 with forward secrecy and authenticated encryption, and nothing else', async () => {
    expect(await scan(machine, SHOP)).toEqual({
      protocols: ['TLSv1.2', 'TLSv1.3'],
      suites: [
        'TLS_AES_128_GCM_SHA256',
        'TLS_AES_256_GCM_SHA384',
        'TLS_CHACHA20_POLY1305_SHA256',
        'TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256',
        'TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384',
        'TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256',
      ],
      groups: [...(version.postQuantum ? ['X25519MLKEM768'] : []), 'X25519', 'P-256', 'P-384'],
    });
    // With a certificate of the other kind.
    expect((await scan(machine, POOL)).suites).toEqual([
      'TLS_AES_128_GCM_SHA256',
      'TLS_AES_256_GCM_SHA384',
      'TLS_CHACHA20_POLY1305_SHA256',
      'TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256',
      'TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384',
      'TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256',
    ]);
  });

  test.each(['TLSv1.2', 'TLSv1.3'] as const)('%s: a session is taken up again', async (maxVersion) => {
    const first = await shakeHands(machine, { servername: SHOP, maxVersion });
    expect(first?.session).toBeDefined();
    const again = await shakeHands(machine, { servername: SHOP, maxVersion, session: first?.session });
    expect(again).toMatchObject({ protocol: maxVersion, reused: true });
  });

  test('the placeholder says that it is one; a certificate that was there is served', () => {
    const subject = (host: string): string =>
      machine.run(
        `openssl s_client -connect 127.0.0.1:443 -servername ${host} </dev/null 2>/dev/null | openssl x509 -noout -subject -ext subjectAltName`,
      ).output;
    expect(subject(SHOP)).toMatch(/subject=O ?= ?Slipway placeholder\n/);
    expect(subject(SHOP)).toContain(`DNS:${SHOP}, DNS:www.${SHOP}`);
    expect(subject(POOL)).toMatch(/subject=CN ?= ?pool\.example\.com\n/);
    expect(
      machine.run(
        'cd /etc/slipway/tls && for link in */current; do readlink $link; done && stat -c %a */placeholder/privkey.pem',
      ).output,
    ).toBe('placeholder\nv1\nplaceholder\nplaceholder\n600\n600\n600\n');
  });

  test('HTTP/2, and what this version of nginx can besides', async () => {
    const [page] = await askAtOnce(machine, SHOP, ['/']);
    expect(page?.headers).toMatchObject({ ':status': 200, ...SECURITY });
    if (current) expect(Object.values(version)).toEqual([true, true, true, true]);
    const { output } = machine.run('nginx -T 2>&1');
    expect(output.includes('keepalive_min_timeout 10s;')).toBe(version.keepaliveMinTimeout);
    expect(output).not.toContain('[warn]');
    const { headers } = await ask(machine, SPA, '/');
    expect(headers['alt-svc']).toBe(version.http3 ? 'h3=":443"; ma=86400' : undefined);
    if (version.http3) {
      const quic = machine.run(
        `openssl s_client -quic -alpn h3 -connect 127.0.0.1:443 -servername ${SPA} </dev/null 2>&1`,
      ).output;
      expect(quic).toMatch(/ALPN protocol: h3/);
      expect(quic).toMatch(/Protocol *: QUIC|Protocol version: QUICv1/);
    }
  });

  test('the exporter finds stub_status, on loopback', async () => {
    const { status, body } = await ask(machine, '127.0.0.1', '/nginx-status', { port: 8081 });
    expect(status).toBe(200);
    expect(body).toMatch(/^Active connections: \d+ \nserver accepts handled requests\n/);
    const listening = machine.run('awk \'$4 == "0A" { print $2 }\' /proc/net/tcp /proc/net/tcp6').output.split('\n');
    // 8081 is 1F91, and 127.0.0.1 is written backwards.
    expect(listening.filter((address) => address.endsWith(':1F91'))).toEqual(['0100007F:1F91']);
  });

  test('the log is JSON: what was asked, without the query; nothing of health checks', async () => {
    await ask(machine, SHOP, '/logged"\\?token=secret', { headers: { 'user-agent': 'a "b"\\\n'.trim() } });
    await sleep(100);
    const lines = log();
    expect(lines.find(({ path }) => String(path).startsWith('/logged'))).toMatchObject({
      ...{
        host: SHOP,
        method: 'GET',
        path: '/logged"\\',
        status: 200,
        protocol: 'HTTP/1.1',
        tls: 'TLSv1.3',
        userAgent: 'a "b"\\',
      },
      ...{ upstream: '127.0.0.1:3001', upstreamStatus: '200', limited: 'PASSED' },
    });
    expect(JSON.stringify(lines)).not.toContain('secret');
    expect(lines.some(({ status, limited }) => status === 429 && limited === 'REJECTED')).toBe(true);
    expect(lines.filter(({ path }) => path === '/health')).toEqual([]);
  });
}

/** What comes back of a WebSocket's frame. */
async function echo(machine: Machine, head: string, frame: string): Promise<string> {
  const socket = connectTls({ path: `${machine.folder}/443.sock`, servername: SHOP, rejectUnauthorized: false });
  let said = '';
  let sent = false;
  socket.write(head);
  for await (const part of socket) {
    said += (part as Buffer).toString('latin1');
    if (!sent && said.includes('\r\n\r\n')) {
      sent = true;
      socket.write(Buffer.from(frame, 'latin1'));
    }
    if (said.endsWith(frame) || said.startsWith('HTTP/1.1 4')) break;
  }
  socket.destroy();
  return said;
}

const LOOSE = 'DEFAULT@SECLEVEL=0';

/** Offers each protocol, each cipher suite and each group that this client knows, alone. */
export async function scan(
  machine: Pick<Machine, 'folder'>,
  servername: string,
): Promise<{ readonly protocols: string[]; readonly suites: string[]; readonly groups: string[] }> {
  const protocols: string[] = [];
  for (const protocol of ['TLSv1', 'TLSv1.1', 'TLSv1.2', 'TLSv1.3'] as const) {
    const seen = await shakeHands(machine, { servername, minVersion: protocol, maxVersion: protocol, ciphers: LOOSE });
    if (seen !== undefined) protocols.push(seen.protocol ?? '');
  }
  const suites = new Set<string>();
  for (const name of getCiphers()) {
    const modern = name.startsWith('tls_');
    const seen = await shakeHands(machine, {
      servername,
      ciphers: modern ? name.toUpperCase() : `${name.toUpperCase()}:@SECLEVEL=0`,
      minVersion: modern ? 'TLSv1.3' : 'TLSv1',
      maxVersion: modern ? 'TLSv1.3' : 'TLSv1.2',
      secureOptions: constants.SSL_OP_LEGACY_SERVER_CONNECT,
    });
    if (seen !== undefined) suites.add(seen.cipher);
  }
  const groups: string[] = [];
  for (const group of ['X25519MLKEM768', 'X25519', 'P-256', 'P-384', 'P-521', 'X448', 'ffdhe2048']) {
    if ((await shakeHands(machine, { servername, ecdhCurve: group })) !== undefined) groups.push(group);
  }
  return { protocols, suites: [...suites].sort(), groups };
}
