import { mkdirSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { layoutStore } from '../../src/releases/layout';
import {
  canResolve,
  judgeRouter,
  parseRouter,
  readRouter,
  renderUpstreams,
  ROUTER_MOUNT,
  routerFiles,
  routerFolder,
  stageUpstreams,
  type Upstream,
} from '../../src/routers/nginx';
import { HOSTILE, Machine, SHELLS } from '../shells';

const TOKEN = 'slipway-0123456789abcdef';
const API: Upstream = { service: 'api', port: 3000, replicas: ['shop-api-1', 'shop-api-2'] };

describe('the upstreams', () => {
  test('an upstream with the replicas in their order', () => {
    expect(renderUpstreams([API], { resolve: true }).split('\n').slice(1, 15)).toEqual([
      '# Written by Slipway at each deploy: what you change here is lost.',
      'upstream api {',
      '    zone slipway_api 256k;',
      '    # Docker answers for containers by name: a replica that was restarted has another address.',
      '    resolver 127.0.0.11 valid=1s ipv6=off;',
      '    resolver_timeout 1s;',
      '    server shop-api-1:3000 resolve max_fails=1 fail_timeout=2s;',
      '    server shop-api-2:3000 resolve max_fails=1 fail_timeout=2s;',
      '    keepalive 32;',
      '    # Less than the 5 s after which many servers close an idle connection: nginx must be the first.',
      '    keepalive_timeout 4s;',
      '}',
      '# For Slipway, inside this container alone.',
      'server {',
    ]);
  });

  test('an older nginx knows neither `resolve` nor a resolver in an upstream', () => {
    const text = renderUpstreams([API], { resolve: false });
    expect(text).toContain('    server shop-api-1:3000 max_fails=1 fail_timeout=2s;\n');
    expect(text).not.toMatch(/resolve/);
  });

  test('while it moves, a replica is not counted out', () => {
    const text = renderUpstreams([API], { resolve: true, moving: true });
    expect(text).toContain('    server shop-api-2:3000 resolve max_fails=0;\n');
    expect(text.match(/slipway\.try\.api/g)).toHaveLength(3);
    expect(text).toContain('        proxy_pass http://slipway.try.api/;\n');
  });

  test('each service has its upstream, and its place to be asked at', () => {
    const text = renderUpstreams([API, { service: 'admin', port: 80, replicas: ['shop-admin-1'] }], { resolve: true });
    expect(text.match(/^upstream .*$/gm)).toEqual(['upstream api {', 'upstream admin {']);
    expect(text.match(/location = .*|proxy_pass .*/g)).toEqual([
      'location = /api {',
      'proxy_pass http://api/;',
      'location = /admin {',
      'proxy_pass http://admin/;',
    ]);
  });

  test('the generation is one word for all of the text, told by the router too', () => {
    const generation = (text: string): string => /^# slipway ([0-9a-f]{16})\n/.exec(text)?.[1] ?? '';
    const text = renderUpstreams([API], { resolve: true });
    expect(generation(text)).toHaveLength(16);
    expect(text).toContain(`add_header X-Slipway "${generation(text)} $upstream_addr`);
    expect(renderUpstreams([API], { resolve: true })).toBe(text);
    const others = [
      renderUpstreams([{ ...API, port: 3001 }], { resolve: true }),
      renderUpstreams([{ ...API, replicas: ['shop-api-2', 'shop-api-1'] }], { resolve: true }),
      renderUpstreams([API], { resolve: false }),
      renderUpstreams([API], { resolve: true, moving: true }),
    ].map(generation);
    expect(new Set([generation(text), ...others]).size).toBe(5);
    expect(text).not.toContain('@generation@');
  });

  test.each([...HOSTILE, 'a;b', 'a b', 'a{', 'a:1', '$host', '../a', '.a'])('no hostile name: %j', (name) => {
    expect(() => renderUpstreams([{ ...API, service: name }], { resolve: true })).toThrow(RangeError);
    expect(() => renderUpstreams([{ ...API, replicas: ['a', name] }], { resolve: true })).toThrow(RangeError);
    expect(() => routerFolder(layoutStore('/srv/shop'), name)).toThrow(RangeError);
  });

  test.each([0, 65536, 1.5, Number.NaN, -1])('no port: %d', (port) => {
    expect(() => renderUpstreams([{ ...API, port }], { resolve: true })).toThrow(RangeError);
  });

  test('nginx would refuse an upstream without a server', () => {
    expect(() => renderUpstreams([{ ...API, replicas: [] }], { resolve: true })).toThrow('has no replicas');
  });
});

test('backups are asked last, and only where the file names them', () => {
  const upstream = { service: 'api', port: 3000, replicas: ['shop-api-2'] };
  const text = renderUpstreams([{ ...upstream, backups: ['shop-api-1'] }], { resolve: true });
  expect(text).toContain('server shop-api-1:3000 resolve max_fails=1 fail_timeout=2s backup;');
  expect(text).toContain('server shop-api-2:3000 resolve max_fails=1 fail_timeout=2s;');
  expect(renderUpstreams([upstream], { resolve: true })).not.toContain('backup');
  expect(() => renderUpstreams([{ ...upstream, backups: ['x; }'] }], { resolve: true })).toThrow(RangeError);
});

test('what is prepared is not what the router includes', () => {
  const files = routerFiles(layoutStore('/srv/shop'), 'web');
  expect(files).toEqual({
    live: '/srv/shop/.slipway/router/web/upstreams.conf',
    both: '/srv/shop/.slipway/router/web/upstreams.both',
    next: '/srv/shop/.slipway/router/web/upstreams.new',
    final: '/srv/shop/.slipway/router/web/upstreams.final',
  });
  expect(Object.values(files).filter((file) => file.endsWith('.conf'))).toEqual([files.live]);
});

describe.each(SHELLS)('in $name', (shell) => {
  let machine: Machine;
  beforeEach(() => {
    machine = new Machine(shell);
  });
  afterEach(() => {
    machine.remove();
  });

  test('the files of a switch are readable for the users of nginx, and what is in force stays', () => {
    const layout = layoutStore(machine.path('shop'));
    const folder = routerFolder(layout, 'web');
    mkdirSync(layout.store, { recursive: true, mode: 0o700 });
    for (const text of ['one\n', "it's $HOME `x` \\ %s\n"]) {
      expect(
        machine.run(stageUpstreams(layout, 'web', { both: `${text}both`, next: `${text}new`, final: `${text}final` }))
          .exitCode,
      ).toBe(0);
      expect(readdirSync(folder).sort()).toEqual(['upstreams.both', 'upstreams.final', 'upstreams.new']);
      expect(readFileSync(`${folder}/upstreams.both`, 'utf8')).toBe(`${text}both`);
      expect(readFileSync(`${folder}/upstreams.new`, 'utf8')).toBe(`${text}new`);
      expect(readFileSync(`${folder}/upstreams.final`, 'utf8')).toBe(`${text}final`);
    }
    expect(statSync(folder).mode & 0o777).toBe(0o755);
    expect(statSync(`${folder}/upstreams.both`).mode & 0o777).toBe(0o644);
  });

  test('files that cannot be written are an error', () => {
    const layout = layoutStore(machine.path('shop'));
    mkdirSync(`${routerFolder(layout, 'web')}/upstreams.both.put`, { recursive: true });
    expect(machine.run(stageUpstreams(layout, 'web', { both: 'both', next: 'new', final: 'final' })).exitCode).not.toBe(
      0,
    );
    expect(readdirSync(routerFolder(layout, 'web'))).not.toContain('upstreams.both');
  });

  const RUNNING = `case "$1 $2 $4" in
"ps -q "*) echo aaaa; echo bbbb ;;
"exec aaaa -v") printf '# configuration file /etc/nginx/nginx.conf:\\nhttp {}\\n'; printf 'nginx version: nginx/1.30.6\\nnginx: test is successful\\n' >&2 ;;
"image inspect "*) case $* in *json*) echo '["PATH=/bin","NGINX_VERSION=1.29.1~x","NGINX_VERSION_X=3"]' ;; *) echo '[PATH=/bin NGINX_VERSION=1.29.1~x]' ;; esac ;;
*) exit 64 ;;
esac`;

  test('asks the one that runs, and the image by its environment', () => {
    machine.withDocker(RUNNING);
    const command = readRouter(TOKEN, 'shop', 'web', 'nginx:1');
    expect(command.secretOutput).toBe(true);
    expect(parseRouter(machine.run(command).stdout, TOKEN)).toEqual({
      running: { version: '1.30.6', configuration: '# configuration file /etc/nginx/nginx.conf:\nhttp {}\n' },
      image: { version: '1.29.1', configuration: undefined },
    });
    expect(machine.calls.some((call) => call.startsWith('<run>'))).toBe(false);
  });

  test('an image that does not tell is tried; a router that cannot be asked is unknown, one with a broken configuration tells its version', () => {
    machine.withDocker(`case "$1 $2" in
"ps -q") echo aaaa ;;
"image inspect") case $* in *json*) echo null ;; *) echo '[]' ;; esac ;;
"run --rm") echo 'nginx version: openresty/1.27.1.2' >&2 ;;
*) echo 'nginx version: nginx/1.30.0' >&2; exit 1 ;;
esac`);
    expect(parseRouter(machine.run(readRouter(TOKEN, 'shop', 'web', 'x')).stdout, TOKEN)).toEqual({
      running: { version: '1.30.0', configuration: undefined },
      image: { version: '1.27.1', configuration: undefined },
    });
    machine.withDocker('case "$1 $2" in "ps -q") echo aaaa ;; *) exit 1 ;; esac');
    expect(parseRouter(machine.run(readRouter(TOKEN, 'shop', 'web')).stdout, TOKEN).running).toEqual({
      version: undefined,
      configuration: undefined,
    });
  });

  test('nothing runs, no image, hostile names', () => {
    machine.withDocker('exit 1');
    for (const text of HOSTILE) {
      expect(parseRouter(machine.run(readRouter(TOKEN, text, text)).stdout, TOKEN).running.version).toBeUndefined();
      expect(machine.calls.join('\n')).toContain(`<label=com.docker.compose.service=${text}>`);
    }
    expect(readdirSync(machine.folder)).not.toContain('pwned');
  });
});

test.each([
  ['1.27.2', false],
  ['1.27.3', true],
  ['1.9.15', false],
  ['1.30.0', true],
  ['2.0.0', true],
  [undefined, false],
])('nginx %s can resolve: %s', (version, expected) => {
  expect(canResolve(version)).toBe(expected);
});

describe('judging', () => {
  const GOOD = `nginx: noise
# configuration file /etc/nginx/nginx.conf:
http { include /etc/nginx/conf.d/*.conf; }
# configuration file /etc/nginx/conf.d/site.conf:
include	/etc/nginx/slipway/*.conf; keepalive_min_timeout 10s;
log_format x '{"a;b": "$c"}' "it's; upstream api {";
server { location /api { proxy_pass http://api; } }
# configuration file /etc/nginx/slipway/upstreams.conf:
upstream api { server shop-api-1:3000; }
`;
  const judge = (configuration: string | undefined, version: string | undefined = '1.30.0') =>
    judgeRouter('web', { version, configuration }, ['api']);

  test('nothing to say', () => {
    expect(judge(GOOD)).toEqual({ findings: [], warnings: [] });
    expect(
      judge(GOOD.replace('include	/etc/nginx/slipway/*.conf', 'include "/etc/nginx/slipway/upstreams.conf"')),
    ).toEqual({
      findings: [],
      warnings: [],
    });
    expect(judge(undefined)).toEqual({ findings: [], warnings: [] });
  });

  test.each([
    ['gone', 'gzip on'],
    ['in a comment', '# include /etc/nginx/slipway/*.conf;\ngzip on'],
    ['in a text', 'set $x "; include /etc/nginx/slipway/*.conf; "'],
    ['another folder', 'include /etc/nginx/slipway-old/*.conf'],
  ])('no include: %s', (_, instead) => {
    const { findings } = judge(GOOD.replace('include	/etc/nginx/slipway/*.conf', instead));
    expect(findings).toHaveLength(1);
    expect(findings[0]?.message).toContain(`does not include ${ROUTER_MOUNT}`);
    expect(findings[0]?.hint).toContain('include /etc/nginx/slipway/*.conf;');
    expect(findings[0]?.hint).toContain('proxy_pass http://api;');
  });

  test('an include of everything would read what is only prepared', () => {
    expect(judge(GOOD.replace('slipway/*.conf', 'slipway/*')).findings).toMatchObject([
      { hint: 'Write: include /etc/nginx/slipway/*.conf;' },
    ]);
  });

  test('an upstream of the same name, in a file of the user', () => {
    const [finding, ...others] = judge(
      GOOD.replace('server { location', "upstream api { server '}'; } server { location"),
    ).findings;
    expect(finding?.message).toContain('upstream api of its own, in /etc/nginx/conf.d/site.conf');
    expect(others).toEqual([]);
  });

  test('requests that may be lost', () => {
    expect(judge(GOOD, '1.27.3').warnings).toEqual([
      expect.stringMatching(
        /nginx 1\.27\.3, requests may be lost when it is reloaded: those of clients that send on an idle keep-alive connection in that moment/,
      ),
    ]);
    expect(judge(GOOD.replace('keepalive_min_timeout 10s', 'gzip on')).warnings).toEqual([
      expect.stringContaining('Add to the http block of its configuration: keepalive_min_timeout 10s;'),
    ]);
    expect(judge(GOOD.replace('keepalive_min_timeout 10s', 'keepalive_min_timeout 0')).warnings).toHaveLength(1);
  });

  test('an old nginx, and an unknown one', () => {
    expect(judge(GOOD, '1.26.3').warnings).toEqual([
      expect.stringContaining(
        'nginx is 1.26.3; before 1.27.3 it resolves the names of containers only when it is reloaded',
      ),
      expect.stringContaining('requests may be lost'),
    ]);
    const { warnings } = judgeRouter('web', { version: undefined, configuration: undefined }, ['api']);
    expect(warnings[0]).toContain('The version of nginx is not known');
    expect(warnings).toHaveLength(2);
  });
});
