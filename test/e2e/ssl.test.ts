/**
 * action-ssl as a workflow step runs it, against an ACME authority that is strict and refuses good nonces now and then. One
 * story on one server, as its owner lives it: set up, refused, rehearsed, obtained, renewed, broken, killed, renewed by a timer.
 */
import { jest } from '@jest/globals';
import {
  countOrders,
  mustRunSsl,
  prepareServer,
  runSsl,
  setRecords,
  startAcme,
  stopAcme,
  theAcme,
  visit,
} from './certificate-site.ts';
import { runLoad } from '../load/index.ts';
import {
  allKills,
  asDeploy,
  errorsOf,
  freshServer,
  onServer,
  removeCheckouts,
  theServer,
  tryOnServer,
} from './sandbox.ts';

jest.setTimeout(180_000);

const LIFE_SECONDS = 200;
const NAMES = ['shop.test', 'www.shop.test'];

/** One more address of the server each: another one that serves, and one whose port 80 is closed. */
const network = (): string => theServer().address.replace(/\.\d+$/, '');
const secondAddress = (): string => `${network()}.211`;
const closedAddress = (): string => `${network()}.212`;
/** Of something in front of the server that ends TLS itself: its interface is none that the server calls its own. */
const frontAddress = (): string => `${network()}.213`;

/** A site with a placeholder instead of a certificate, as a server has it before its first one. */
const SITE = `set -eu
ip addr add "$1/24" dev eth0
ip addr add "$2/24" dev eth0
iptables -A INPUT -d "$2" -p tcp --dport 80 -j REJECT
ip link add br-front type bridge
ip addr add "$3/32" dev br-front
ip link set br-front up
mkdir -p /etc/slipway/tls/shop.test/placeholder
cd /etc/slipway/tls/shop.test
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout placeholder/privkey.pem \\
  -out placeholder/fullchain.pem -days 30 -subj '/O=Slipway placeholder' 2>/dev/null
ln -s placeholder current
mkdir front
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout front/privkey.pem -out front/fullchain.pem \\
  -days 30 -subj '/O=Front' -addext 'subjectAltName=DNS:www.shop.test' 2>/dev/null
rm -f /etc/nginx/sites-enabled/default
cat > /etc/nginx/conf.d/shop.conf <<'END'
server {
  listen 80 default_server;
  listen [::]:80 default_server;
  location /.well-known/acme-challenge/ { root /var/www/acme; }
  location / { return 301 https://$host$request_uri; }
}
server {
  listen 443 ssl;
  listen [::]:443 ssl;
  server_name shop.test www.shop.test;
  ssl_certificate /etc/slipway/tls/shop.test/current/fullchain.pem;
  ssl_certificate_key /etc/slipway/tls/shop.test/current/privkey.pem;
  location / { return 200 shop; }
}
server {
  listen FRONT:443 ssl;
  ssl_certificate /etc/slipway/tls/shop.test/front/fullchain.pem;
  ssl_certificate_key /etc/slipway/tls/shop.test/front/privkey.pem;
  location / { return 200 shop; }
}
# A proxy that takes everything.
server { listen 80; server_name eaten.test; location / { return 200 application; } }
END
sed -i "s/FRONT/$3/" /etc/nginx/conf.d/shop.conf
nginx -t 2>&1
systemctl restart nginx`;

/** The same site in a container; nginx on the server itself makes room. */
const CONTAINER_SITE = `set -eu
systemctl stop nginx
mkdir -p /root/edge
sed -e '/^# A proxy/,$d' -e '/http2/d' /etc/nginx/conf.d/shop.conf > /root/edge/shop.conf
sed -i '1i keepalive_min_timeout 10s;' /root/edge/shop.conf
cat > /root/edge/compose.yaml <<'END'
services:
  web:
    image: nginx:1.30
    network_mode: host
    volumes:
      - /etc/slipway/tls/shop.test:/etc/slipway/tls/shop.test:ro
      - /var/www/acme:/var/www/acme:ro
      - /root/edge:/from:ro
    command: sh -c 'rm -f /etc/nginx/conf.d/*; cp /from/shop.conf /etc/nginx/conf.d/ && exec nginx -g "daemon off;"'
END
cd /root/edge
docker compose up -d 2>&1
for attempt in $(seq 100); do curl -ks -o /dev/null https://127.0.0.1/ && break; sleep 0.1; done`;

/**
 * Publishes as after a renewal (the versions that are there are gone, all but the one that is served), and dies before the
 * command of that number. bash tells of each command; what runs is the program as it is.
 */
const KILL_AT = `cat > /tmp/kill-at <<'END'
set -T
trap 'STEP=$((\${STEP:-0} + 1)); [ $BASHPID != $$ ] || { echo $STEP > /tmp/steps; [ $STEP != $DIE_AT ] || kill -9 $$; }' DEBUG
END
kill_at() {
  slipway-tls publish shop.test > /dev/null
  cd /etc/slipway/tls/shop.test
  other=$(ls -d v-* | grep -v "$(readlink current)" | head -n 1)
  rm -rf "$other"
  cp -a "$(readlink current)" v-before
  ln -sfn v-before current
  echo v-before > reloaded
  rm -rf "$(ls -d v-* | grep -v v-before)"
  cd /
  DIE_AT=$1 BASH_ENV=/tmp/kill-at bash /usr/local/sbin/slipway-tls publish shop.test > /dev/null 2>&1
  echo "ended with $?"
}
kill_at`;

function seededRandom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

const ORDER = ['obtain', 'shop.test', 'server=https://ca.test/dir'];

/** What somebody who has taken over the deploy user may try. */
const HOSTILE: readonly (readonly string[])[] = [
  [],
  ['sh'],
  ['obtain', '../../etc', 'server=https://ca.test/dir', 'domains=a.test'],
  ['obtain', '--deploy-hook', 'server=https://ca.test/dir', 'domains=a.test'],
  ['obtain', 'shop.test', 'domains=a.test'],
  [...ORDER, 'domains='],
  [...ORDER, 'domains=a.test,--deploy-hook=id'],
  [...ORDER, 'domains=a.test,$(id)'],
  [...ORDER, 'domains=a.test', '--deploy-hook=id'],
  [...ORDER, 'domains=a.test', 'hook=id'],
  [...ORDER, 'domains=a.test', 'server=file:///etc/passwd'],
  [...ORDER, 'domains=a.test', 'server=https://ca.test/ --hook'],
  [...ORDER, 'domains=a.test', 'email=--config=/tmp/x@y'],
  [...ORDER, 'domains=a.test', 'key=--x'],
  [...ORDER, 'domains=a.test', 'profile=-x'],
  [...ORDER, 'domains=a.test', 'profile=a\nb'],
  [...ORDER, 'domains=a.test', 'webroot=/etc'],
  [...ORDER, 'domains=a.test', 'webroot=/srv/../etc'],
  [...ORDER, 'domains=a.test', 'webroot=/srv/mine'],
  ['probe', '/etc/cron.d', 'slipway-x'],
  ['probe', '/srv/mine/acme', 'slipway-x'],
  ['probe', '/srv/link/acme', 'slipway-x'],
  ['probe', '/var/www/acme', '../slipway-x'],
  ['probe', '/var/www/acme', 'index.html'],
  ['unprobe', '/var/www/acme', 'slipway-/../../x'],
  ['set-nginx', 'shop.test', 'compose', '--filter', 'x y'],
  ['set-nginx', '../shop', 'host'],
  ['facts', '$(id)', 'shop.test'],
  ['facts', 'ab', '/root'],
  ['publish', '../../root'],
  ['renew', 'shop.test/../x', 'now'],
  ['revoke', 'shop.test', '--reason'],
  ['set-ca'],
  ['set-ca', '../shop'],
  ['renewed'],
  // An authority that root has not allowed, and a certificate that root's own certbot has.
  ['obtain', 'shop.test', 'server=https://other.test/dir', 'domains=a.test'],
  [...ORDER, 'domains=a.test', 'replace=$(id)'],
  ['obtain', 'foreign.test', 'server=https://ca.test/dir', 'domains=a.test'],
  ['obtain', 'foreign.test', 'server=https://ca.test/dir', 'domains=a.test', 'try=dry'],
  ['renew', 'foreign.test', 'now'],
  ['revoke', 'foreign.test', 'superseded'],
  ['publish', 'foreign.test'],
  ['set-ca', 'foreign.test'],
];

/** As root's own certbot has it, whatever it is worth. */
const FOREIGN = `set -eu
echo https://ca.test/dir >> /etc/slipway/acme-servers
mkdir -p /etc/letsencrypt/live/foreign.test /etc/letsencrypt/renewal
cp /etc/slipway/tls/shop.test/front/*.pem /etc/letsencrypt/live/foreign.test/
echo 'server = https://ca.test/dir' > /etc/letsencrypt/renewal/foreign.test.conf`;

/** What a certbot of another version is told: it says that it is that one, and writes its words down. */
const OTHER_CERTBOT = `cat > /usr/local/bin/certbot <<'END'
#!/bin/sh
if [ "$1" = --version ]; then echo "certbot VERSION"; else echo "$*" > /tmp/certbot-words; fi
END
sed -i "s/VERSION/$1/" /usr/local/bin/certbot
chmod 755 /usr/local/bin/certbot`;

async function untilOnServer(condition: string): Promise<void> {
  await onServer(`for attempt in $(seq 300); do if ${condition} >/dev/null; then exit 0; fi; sleep 0.1; done; exit 1`);
}

const current = async (): Promise<string> => (await onServer('readlink /etc/slipway/tls/shop.test/current')).trim();
const diskFingerprint = async (): Promise<string> =>
  (await onServer('openssl x509 -noout -fingerprint -sha256 -in /etc/slipway/tls/shop.test/current/fullchain.pem'))
    .trim()
    .replace(/^.*=/, '');

beforeAll(async () => {
  await freshServer();
  await startAcme(LIFE_SECONDS);
  await prepareServer();
  await onServer(SITE, [secondAddress(), closedAddress(), frontAddress()]);
  await setRecords('shop.test', { a: [theServer().address, secondAddress()] });
  await setRecords('www.shop.test', { a: [theServer().address] });
});

afterAll(async () => {
  await stopAcme();
  await removeCheckouts();
});

test('a deploy user without sudo is refused, and told what root has to type once; that is enough', async () => {
  const refused = await runSsl({ domains: NAMES.join('\n') });
  expect(refused.outcome).toBe('failure');
  const [message = ''] = errorsOf(refused);
  expect(message).toContain('lacks /usr/local/sbin/slipway-tls, and deploy may not install it');
  expect(refused.outputs['result']).toBe('failed');
  const commands = message.slice(message.indexOf('install -o root'));
  await onServer(commands);
  expect(await asDeploy('sudo -n /usr/local/sbin/slipway-tls version')).toBe('slipway-tls 2\n');
  // That, and nothing else: each of these is refused before anything is done.
  await expect(asDeploy('sudo -n certbot --version || sudo -n id')).rejects.toThrow('password is required');
  await onServer('mkdir -p /srv/mine && chown deploy /srv/mine && ln -s /etc /srv/link');
  await onServer(FOREIGN);
  for (const words of HOSTILE) {
    const done = await tryOnServer('runuser -u deploy -- sudo -n /usr/local/sbin/slipway-tls "$@" </dev/null', words);
    expect({ words, code: done.code, said: done.stderr.startsWith('slipway-tls: ') }).toEqual({
      words,
      code: 2,
      said: true,
    });
  }
  // Nor does a renewal of it reach nginx.
  await onServer('RENEWED_LINEAGE=/etc/letsencrypt/live/foreign.test slipway-tls renewed');
  await onServer('RENEWED_LINEAGE=/etc/letsencrypt/live/../../slipway slipway-tls renewed');
  expect(await onServer('ls /etc/slipway/tls')).toBe('shop.test\n');
  await onServer('rm -r /etc/letsencrypt; sed -i /ca.test/d /etc/slipway/acme-servers');
  expect(
    await onServer('ls -A /etc/slipway /etc/letsencrypt 2>/dev/null; find /srv/mine /etc/.well-known 2>/dev/null || :'),
  ).toBe('/etc/slipway:\nacme-servers\ntls\n/srv/mine\n');
});

test('everything that an authority would refuse is named at once, and no order reaches it', async () => {
  const own = theServer().address;
  await setRecords('wrong.test', { a: [`${network()}.99`] });
  await setRecords('stale.test', { a: [own], aaaa: ['fd00::1'] });
  await setRecords('forbidden.test', { a: [own], caa: [';'] });
  await setRecords('eaten.test', { a: [own] });
  await setRecords('closed.test', { a: [closedAddress()] });
  const names = [
    'good.test',
    'wrong.test',
    'stale.test',
    'unknown.test',
    'forbidden.test',
    'eaten.test',
    'closed.test',
  ];
  await setRecords('good.test', { a: [own] });
  await onServer('echo 192.0.2.1 good.test >> /etc/hosts');
  const run = await runSsl({ domains: names.join(',') });
  expect(run.outcome).toBe('failure');
  expect(run.annotations.filter((one) => one.type === 'warning').map((one) => one.message)).toEqual([
    expect.stringContaining(`good.test is ${own} for the runner, and 192.0.2.1 for the server itself`),
  ]);
  const [message = ''] = errorsOf(run);
  const findings = message.split('\n').filter((line) => line.startsWith('- '));
  expect(findings).toEqual([
    expect.stringContaining(`wrong.test has the A record ${network()}.99, and that is not this server (${own},`),
    expect.stringContaining('stale.test has the AAAA record fd00::1, and that is not this server'),
    expect.stringContaining('unknown.test is unknown to DNS'),
    expect.stringContaining('forbidden.test: the CAA records of forbidden.test forbid it: they allow nobody'),
    expect.stringContaining(`http://eaten.test/.well-known/acme-challenge/ at ${own} answers 200 with something else`),
    expect.stringContaining(`closed.test: port 80 of ${closedAddress()} cannot be reached from the runner`),
  ]);
  expect(message).toContain('No order has reached the certificate authority');
  expect(await countOrders()).toBe(0);
  expect(await onServer('ls /var/www/acme/.well-known/acme-challenge')).toBe('');
});

test('the first certificate takes the placeholder’s place, and every address serves it', async () => {
  await expect(visit('shop.test')).rejects.toThrow('self-signed');
  // As needrestart asks, which restarts services after each installation.
  await onServer(
    `echo 'DPkg::Post-Invoke {"echo suspended=$NEEDRESTART_SUSPEND >> /tmp/needrestart";};' > /etc/apt/apt.conf.d/99restart`,
  );
  const run = await mustRunSsl({ domains: NAMES.join(','), email: 'owner@shop.test' });
  expect(run.outputs).toMatchObject({
    result: 'obtained',
    'certificate-name': 'shop.test',
    names: 'shop.test,www.shop.test',
    served: 'true',
    fingerprint: await diskFingerprint(),
  });
  for (const [name, address] of [['shop.test'], ['shop.test', secondAddress()], ['www.shop.test']] as const) {
    expect(await visit(name, address)).toBe(run.outputs['fingerprint']);
  }
  expect(run.summary).toContain('Certificate obtained');
  expect(run.log).toContain('certbot was installed');
  expect(new Set((await onServer('cat /tmp/needrestart')).trim().split('\n'))).toEqual(new Set(['suspended=1']));
  expect(JSON.parse(run.outputs['results'] ?? '')).toMatchObject({
    timers: ['certbot.timer'],
    served: [{ ok: true }, { ok: true }, { ok: true }],
  });
  expect(await onServer('stat -c "%U %a" /etc/slipway/tls/shop.test/current/privkey.pem')).toBe('root 600\n');
  await expect(asDeploy('cat /etc/slipway/tls/shop.test/current/privkey.pem')).rejects.toThrow('Permission denied');
  const orders = await countOrders();
  const again = await mustRunSsl({ domains: NAMES.join(',') });
  expect(again.outputs['result']).toBe('kept');
  // What this certbot cannot do is said, and how to get one that can.
  const profile = await runSsl({
    domains: NAMES.join(','),
    profile: 'shortlived',
    'renew-now': 'true',
    challenge: 'standalone',
  });
  expect(errorsOf(profile)[0]).toMatch(
    /certbot 2\.1 knows no profiles.*snap install.*\n- The authority has no profile shortlived.*\n- Something listens on port 80/,
  );
  expect(await countOrders()).toBe(orders);
});

test('renewed under load, in a container: no visitor loses a request', async () => {
  await onServer(CONTAINER_SITE);
  // The certificate is the same, and another nginx has it from now on.
  const moved = await mustRunSsl({ domains: NAMES.join(','), nginx: 'edge/web' });
  expect(moved.outputs['result']).toBe('kept');
  const before = await visit('shop.test');
  const load = await runLoad({
    url: 'https://shop.test/',
    connectTo: { host: theServer().address, port: 443 },
    ca: theAcme().root,
    ratePerSecond: 100,
  });
  const run = await mustRunSsl({ mode: 'renew', domains: NAMES.join(','), 'renew-now': 'true', nginx: 'edge/web' });
  const report = await load.stop();
  expect(run.outputs['result']).toBe('renewed');
  expect(await visit('shop.test', secondAddress())).toBe(run.outputs['fingerprint']);
  expect(run.outputs['fingerprint']).not.toBe(before);
  expect({ failed: report.failed, some: report.requests > 100 }).toEqual({ failed: 0, some: true });
  expect(await onServer('ls -d /etc/slipway/tls/shop.test/v-* | wc -l')).toBe('2\n');
});

test('cancelled while an order is under way, and run again at once: the server brings it to its end, and orders once', async () => {
  const before = await current();
  const issued = async (): Promise<number> =>
    Number(await onServer('ls /etc/letsencrypt/archive/shop.test/cert*.pem | wc -l'));
  const count = await issued();
  const inputs = { domains: NAMES.join(','), 'renew-now': 'true', nginx: 'edge/web' };
  const ordering = 'pgrep -f "^/usr/bin/python3.*certbot --no[n]-.*--force-renewal"';
  const run = await runSsl(inputs, {
    cancelAfter: async () => {
      await untilOnServer(ordering);
      await onServer(`kill -STOP $(${ordering})`);
    },
  });
  expect(run.outcome).toBe('cancelled');
  // The next one has looked at the certificate that is about to go, and waits.
  const next = mustRunSsl(inputs);
  await untilOnServer('pgrep -x flock').finally(async () => onServer(`kill -CONT $(${ordering})`));
  expect((await next).log).toContain('another run has renewed shop.test meanwhile');
  expect(await issued()).toBe(count + 1);
  await untilOnServer(
    `[ "$(readlink /etc/slipway/tls/shop.test/current)" != ${before} ] && flock -n /run/slipway-tls/orders.lock true`,
  );
  const again = await mustRunSsl({ domains: NAMES.join(','), nginx: 'edge/web' });
  expect(again.outputs).toMatchObject({ result: 'kept', served: 'true', fingerprint: await diskFingerprint() });
  expect(await onServer('ls -A /var/www/acme/.well-known/acme-challenge')).toBe('');
});

test('what is served and not what is on the disk is found; obtain puts it right', async () => {
  await onServer('slipway-tls set-nginx shop.test none; slipway-tls renew shop.test now');
  const run = await runSsl({ mode: 'check', domains: NAMES.join(','), 'minimum-life': '1%' });
  expect(run.outcome).toBe('failure');
  const [message = ''] = errorsOf(run);
  for (const address of [theServer().address, secondAddress()]) {
    expect(message).toContain(`shop.test at ${address} serves another certificate than the one on the server`);
  }
  expect(run.outputs['served']).toBe('false');
  // From outside alone it looks good: only the server knows better.
  const outside = await runSsl({ mode: 'check', host: '', domains: NAMES.join(','), 'minimum-life': '1%' });
  expect(outside.outcome).toBe('success');
  const old = await runSsl({ mode: 'check', host: '', domains: NAMES.join(','), 'minimum-life': '100%' });
  expect(errorsOf(old)[0]).toMatch(/has only .* of its life left; 100% is the least/);
  const repaired = await mustRunSsl({ domains: NAMES.join(','), nginx: 'edge/web' });
  expect(repaired.outputs).toMatchObject({ result: 'kept', served: 'true', fingerprint: await diskFingerprint() });
});

test('something in front of the server that ends TLS itself is told of, and the server is looked at past it', async () => {
  await setRecords('www.shop.test', { a: [frontAddress()] });
  const inputs = { domains: NAMES.join(','), nginx: 'edge/web', addresses: frontAddress() };
  const run = await mustRunSsl(inputs);
  expect(run.outputs).toMatchObject({ result: 'kept', served: 'true' });
  const results = JSON.parse(run.outputs['results'] ?? '') as { served: { name: string }[] };
  expect(results.served.filter((one) => one.name === 'www.shop.test')).toMatchObject([
    { address: frontAddress(), from: 'runner', inFront: true, ok: true },
    { address: theServer().address, from: 'server', inFront: false, ok: true, fingerprint: await diskFingerprint() },
  ]);
  const warnings = run.annotations.filter((one) => one.type === 'warning').map((one) => one.message);
  expect(warnings).toContainEqual(
    expect.stringMatching(/^www\.shop\.test at \S+\.213: what stands in front .* from Front, until 20/),
  );
  // Its own certificate is what visitors get, so a check is not content with one that nobody trusts.
  const check = await runSsl({ ...inputs, mode: 'check', 'minimum-life': '1%' });
  expect(
    errorsOf(check)[0]
      ?.split('\n')
      .filter((line) => line.startsWith('- ')),
  ).toEqual([
    expect.stringContaining(
      `www.shop.test at ${frontAddress()} serves a certificate that leads to Front, which nobody trusts`,
    ),
  ]);
  await setRecords('www.shop.test', { a: [theServer().address] });
});

test('a configuration that nginx refuses takes the new certificate back', async () => {
  const before = await current();
  const broken = await tryOnServer(`docker exec $(docker ps -q) sh -c 'echo broken >> /etc/nginx/conf.d/shop.conf'
slipway-tls renew shop.test now`);
  expect(broken.code).toBe(5);
  expect(broken.stderr).toContain(`current was put back to ${before}`);
  expect(await current()).toBe(before);
  await visit('shop.test');
  await onServer(`docker exec $(docker ps -q) sed -i '$d' /etc/nginx/conf.d/shop.conf`);
  // The timer's next run brings it to where it belongs.
  await onServer('systemctl start certbot.service');
  expect(await current()).not.toBe(before);
  expect(await visit('shop.test')).toBe(await diskFingerprint());
  // Docker that does not answer is no fault of nginx.
  const mute = await tryOnServer(`rm /etc/slipway/tls/shop.test/reloaded
DOCKER_HOST=unix:///nowhere slipway-tls publish shop.test`);
  expect(mute.code).toBe(10);
  expect(mute.stderr).toMatch(
    /^slipway-tls: nginx in a container was not reloaded, since Docker does not answer: .*nowhere/,
  );
  await onServer('slipway-tls publish shop.test');
});

test('a newer certbot renews when the authority asks, knows profiles, and is told so in its own words', async () => {
  const conf = '/etc/letsencrypt/renewal/shop.test.conf';
  const order = 'slipway-tls obtain shop.test domains=shop.test,www.shop.test server=$1 profile=shortlived';
  const refused = await tryOnServer(order, [theAcme().directory]);
  expect([refused.code, refused.stderr]).toEqual([6, expect.stringContaining('knows no profiles: they came with 4.0')]);
  const tell = async (version: string): Promise<string> => {
    await onServer(OTHER_CERTBOT, [version]);
    await onServer(order, [theAcme().directory]);
    return onServer(`cat /tmp/certbot-words; grep -c ^renew_before_expiry ${conf} || :`);
  };
  expect(await tell('4.0.0')).toMatch(/ --required-profile shortlived .*--keep-until-expiring\n1\n$/);
  expect(await tell('4.1.0')).toMatch(/ --required-profile shortlived .*\n0\n$/);
  // One that does nothing, and says that all went well.
  const idle = await tryOnServer(`${order} replace=$2`, [theAcme().directory, await diskFingerprint()]);
  expect([idle.code, idle.stderr]).toEqual([
    4,
    expect.stringContaining('still the certificate that was to be replaced'),
  ]);
  await onServer('rm /usr/local/bin/certbot; slipway-tls renew shop.test wait');
  expect(await onServer(`grep -c '^renew_before_expiry = .*# by slipway-tls$' ${conf}`)).toBe('1\n');
});

test('killed at any step of publishing, nginx has a whole pair, and the next run ends the work', async () => {
  const steps = Number((await onServer(`${KILL_AT} 100000; cat /tmp/steps`)).replace('ended with 0\n', ''));
  expect(steps).toBeGreaterThan(40);
  const random = seededRandom(20261123);
  const chosen = allKills
    ? Array.from({ length: steps }, (_, index) => index + 1)
    : Array.from({ length: 8 }, () => 1 + Math.floor(random() * steps));
  for (const step of chosen) {
    const said = await onServer(`${KILL_AT} ${step}
cd /etc/slipway/tls/shop.test/current
[ "$(openssl x509 -noout -pubkey -in fullchain.pem)" = "$(openssl pkey -pubout -in privkey.pem)" ]
docker exec $(docker ps -q) nginx -t 2>/dev/null
slipway-tls publish shop.test >/dev/null
readlink ../current; cat ../reloaded; ls .. | grep -c -e ^new -e '^v-'`);
    const [end, link, reloaded, folders] = said.trim().split('\n');
    expect({ step, end, reloaded, folders: Number(folders) <= 2 }).toEqual({
      step,
      end: 'ended with 137',
      reloaded: link,
      folders: true,
    });
  }
  expect(await visit('shop.test')).toBe(await diskFingerprint());
});

test('certbot killed in its first order leaves nothing in the way', async () => {
  const delays = allKills ? [0.6, 0.9, 1.2, 1.5, 1.8, 2.1, 2.4, 2.7, 3] : [0.9, 2];
  for (const [index, seconds] of delays.entries()) {
    const name = `kill${index}.test`;
    await setRecords(name, { a: [theServer().address] });
    await onServer(
      `slipway-tls set-nginx $1 none
setsid slipway-tls obtain $1 domains=$1 server=$2 >/dev/null 2>&1 &
sleep $3
for process in /proc/[0-9]*; do
  if tr '\\0' ' ' < $process/cmdline 2>/dev/null | grep -q -e 'slipway-tls obtain' -e 'certbot --non'; then
    [ "\${process#/proc/}" = $$ ] || kill -9 \${process#/proc/} 2>/dev/null || :
  fi
done`,
      [name, theAcme().directory, String(seconds)],
    );
    await visit('shop.test');
    await onServer('slipway-tls obtain $1 domains=$1 server=$2', [name, theAcme().directory]);
    expect(await onServer('ls /etc/letsencrypt/live')).not.toContain(`${name}-0001`);
    expect(await onServer('ls /etc/slipway/tls/$1/current/fullchain.pem | wc -l', [name])).toBe('1\n');
    await onServer('certbot delete -n --cert-name $1 2>&1; rm -r /etc/slipway/tls/$1', [name]);
  }
});

test('a certificate that lives for minutes is renewed by the timer itself', async () => {
  const conf = '/etc/letsencrypt/renewal/shop.test.conf';
  const seconds = /^renew_before_expiry = (\d+) seconds/.exec(await onServer(`head -n 1 ${conf}`))?.[1];
  expect(Number(seconds)).toBe(Math.floor((LIFE_SECONDS - 1) / 2));
  // Half of its life is long to wait: a value of the owner's own makes it sooner.
  if (!allKills) await onServer(`sed -i '1s/.*/renew_before_expiry = ${LIFE_SECONDS - 5} seconds/' ${conf}`);
  const before = await visit('shop.test');
  // A second private authority does not take the place of the first.
  await onServer('slipway-tls set-ca two.test < /etc/slipway/tls/shop.test/front/fullchain.pem');
  // What a reboot takes away is made anew.
  await onServer(`rm -r /run/slipway-tls
mkdir -p /etc/systemd/system/certbot.timer.d
printf '[Timer]\\nOnCalendar=\\nOnCalendar=*:*:0/4\\nRandomizedDelaySec=0\\nAccuracySec=100ms\\n' > /etc/systemd/system/certbot.timer.d/often.conf
systemctl daemon-reload
systemctl restart certbot.timer`);
  const until = performance.now() + LIFE_SECONDS * 1000;
  while ((await visit('shop.test')) === before && performance.now() < until) {
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
  expect(await visit('shop.test')).not.toBe(before);
  expect(await visit('shop.test')).toBe(await diskFingerprint());
  await onServer('systemctl stop certbot.timer; rm -r /etc/systemd/system/certbot.timer.d; systemctl daemon-reload');
  await onServer('systemctl start certbot.timer');
  // Its authority is one of the system's from now on: what was noted for it can go.
  await untilOnServer('systemctl show -p ActiveState --value certbot.service | grep -x inactive');
  const renewed = await diskFingerprint();
  await onServer(`cat /etc/slipway/tls/shop.test/acme-ca.pem >> /etc/ssl/certs/ca-certificates.crt
rm /etc/slipway/tls/*/acme-ca*.pem
sed -i '/^renew_before_expiry/s/[0-9]* seconds.*/${LIFE_SECONDS * 2} seconds/' ${conf}
systemctl start certbot.service`);
  expect(await diskFingerprint()).not.toBe(renewed);
  // One timer, that starts after a reboot, too.
  await onServer(`systemctl --quiet disable certbot.timer
cp /lib/systemd/system/certbot.timer /etc/systemd/system/slipway-certbot.timer
cp /lib/systemd/system/certbot.service /etc/systemd/system/slipway-certbot.service
systemctl daemon-reload
systemctl --quiet enable --now slipway-certbot.timer
slipway-tls set-timer`);
  expect(
    await onServer(`systemctl list-unit-files --no-legend --type=timer '*certbot*' | awk '{ print $1, $2 }'`),
  ).toBe('certbot.timer enabled\n');
  expect(await onServer('systemctl is-active certbot.timer')).toBe('active\n');
  const masked = await tryOnServer(
    'systemctl --quiet mask certbot.timer; slipway-tls set-timer; code=$?; systemctl --quiet unmask certbot.timer; slipway-tls set-timer; exit $code',
  );
  expect([masked.code, masked.stderr]).toEqual([
    9,
    expect.stringContaining('certbot.timer is masked, so nothing renews'),
  ]);
  const info = await mustRunSsl({ mode: 'info', domains: NAMES.join(',') });
  expect(info.outputs).toMatchObject({ result: 'reported', served: 'true' });
});

test('another release brings another program: root’s login replaces it, a deploy user is told', async () => {
  await onServer(`echo '# older' >> /usr/local/sbin/slipway-tls
install -d -m 700 /root/.ssh
cp /home/deploy/.ssh/authorized_keys /root/.ssh/`);
  const told = await runSsl({ domains: NAMES.join(','), nginx: 'edge/web' });
  expect(errorsOf(told)[0]).toContain('of another release of Slipway, and deploy may not replace it');
  // To look at things it will do, as long as its verbs are the same; else what was not looked at is said.
  const check = { mode: 'check', domains: NAMES.join(','), 'minimum-life': '1%' };
  const older = await mustRunSsl(check);
  expect(older.annotations.filter((one) => one.type === 'warning')).toEqual([]);
  await onServer(`sed -i 's/say slipway-tls 2/say slipway-tls 1/' /usr/local/sbin/slipway-tls`);
  const old = await mustRunSsl(check);
  expect(old.annotations.filter((one) => one.type === 'warning').map((one) => one.message)).toEqual([
    expect.stringMatching(
      /certbot's own files on .* not looked at, since .*it is slipway-tls 1, and slipway-tls 2 is needed/,
    ),
  ]);
  const replaced = await mustRunSsl({ domains: NAMES.join(','), nginx: 'edge/web', user: 'root' });
  expect(replaced.outputs['served']).toBe('true');
  expect((await mustRunSsl(check)).outputs['result']).toBe('checked');
});

test('revoked with its name typed in, and not without', async () => {
  const refused = await runSsl({ mode: 'revoke', 'certificate-name': 'shop.test', confirm: 'shop' });
  expect(errorsOf(refused)[0]).toContain('confirm');
  await mustRunSsl({ mode: 'revoke', 'certificate-name': 'shop.test', confirm: 'shop.test', reason: 'superseded' });
  const status = await onServer(
    `serial=$(openssl x509 -noout -serial -in /etc/letsencrypt/live/shop.test/cert.pem | cut -d= -f2)
curl -s --cacert /etc/ssl/certs/ca-certificates.crt "https://$1:15000/cert-status-by-serial/$serial"`,
    [theAcme().dns],
  );
  expect(JSON.parse(status)).toMatchObject({ Status: 'Revoked', Reason: 4 });
});
