/** install.sh on a machine with Debian's nginx: what it changes, what it leaves, and how it goes back. */
import { jest } from '@jest/globals';
import { startNginx } from './behaviour.ts';
import { startDebianMachine, versionsOf, type Machine, type Ran } from './machine.ts';
import { ask } from './visitor.ts';

const SHOP = ['--name', 'shop.example.com', '--upstream', '127.0.0.1:3001'] as const;
const SECOND = ['--name', 'second.example.com', '--upstream', '127.0.0.1:3001'] as const;
const [SAME, FAILED, WRONG, DIFFERENT] = [0, 1, 2, 3];

jest.setTimeout(60_000);

let machine: Machine;
beforeAll(async () => {
  machine = await startDebianMachine();
  startNginx(machine);
});
afterAll(() => {
  machine.close();
});

/** Every path, link, mode and content that nginx might read. */
const state = (): string =>
  machine.run(
    `find /etc/nginx /etc/slipway /var/www ! -path '*/versions*' ! -name lock ! -type d -printf '%p %m %l\\n' | sort
find /etc/nginx/ /etc/nginx/slipway-ssl/current/ /etc/slipway ! -path '*/versions*' ! -name lock -type f -exec sha256sum {} + 2>/dev/null | sort -k 2`,
  ).output;
const workers = (): string =>
  machine.run('for one in /proc/[0-9]*; do grep -q "^nginx: worker" $one/cmdline && echo ${one#/proc/}; done').output;
/** Nothing changed that nginx reads, and nginx was not even reloaded. */
function leaves(run: () => Ran, code: number, message: RegExp, { reloads = false } = {}): Ran {
  const [before, processes] = [state(), workers()];
  const ran = run();
  expect({ code: ran.code, output: ran.output }).toEqual({ code, output: expect.stringMatching(message) as string });
  expect(state()).toBe(before);
  if (!reloads) expect(workers()).toBe(processes);
  return ran;
}
const serves = async (host: string): Promise<number> => (await ask(machine, host, '/')).status;
const succeeds = (ran: Ran): string => {
  if (ran.code !== SAME) throw new Error(ran.output);
  return ran.output;
};

test('--check shows it all and changes nothing; flags that are wrong are told at once', () => {
  leaves(() => machine.install(...SHOP, '--check'), DIFFERENT, /\+ {4}server_name shop\.example\.com;/);
  leaves(
    () => machine.install(...SHOP, '--print'),
    SAME,
    /# file: \/etc\/nginx\/slipway-ssl\/current\/nginx-ssl\.conf\n/,
  );
  leaves(() => machine.install('--check'), WRONG, /there is no site yet/);
  leaves(() => machine.install('--remove', 'shop.example.com'), FAILED, /there is no site shop\.example\.com/);
  leaves(() => machine.install(...SHOP, '--http3'), WRONG, /--http3: nginx 1\.\d+\.\d+ here has no HTTP\/3/);
});

test('the first run puts a placeholder, takes the distribution’s page away and reloads; the second changes nothing', async () => {
  const output = succeeds(machine.install(...SHOP));
  expect(output).toMatch(/^placeholder certificate: \/etc\/slipway\/tls\/shop\.example\.com /m);
  expect(output).toMatch(/^disabled: the distribution's page/m);
  expect(output).toMatch(/^reloaded: nginx$/m);
  expect(await serves('shop.example.com')).toBe(200);
  leaves(() => machine.install(...SHOP), SAME, /^nothing to change\n$/);
  leaves(() => machine.install(...SHOP, '--check'), SAME, /^nothing to change\n$/);
  leaves(() => machine.install(), SAME, /^nothing to change\n$/);
  expect(machine.run('id -u www-data && stat -c "%U %a" /etc/slipway/tls/shop.example.com/placeholder/*').output).toBe(
    '33\nroot 644\nroot 600\n',
  );
});

test('a change is shown, the version before stays, and other sites are as they were', async () => {
  const before = machine.read('/etc/nginx/slipway-ssl/current/sites/shop.example.com/site.conf');
  succeeds(machine.install(...SECOND));
  expect(machine.read('/etc/nginx/slipway-ssl/current/sites/shop.example.com/site.conf')).toBe(before);
  const output = succeeds(machine.install(...SHOP, '--no-hsts'));
  expect(output).toMatch(/^- {4}on "max-age=31536000";$/m);
  expect(output).toMatch(/^kept: {5}the configuration before this one, in \/etc\/nginx\/slipway-ssl\/versions\//m);
  expect((await ask(machine, 'shop.example.com', '/')).headers).not.toHaveProperty('strict-transport-security');
  expect((await ask(machine, 'second.example.com', '/')).headers).toHaveProperty('strict-transport-security');
  leaves(
    () => machine.install('--name', 'third.example.com', '--name', 'shop.example.com', '--upstream', '127.0.0.1:1'),
    WRONG,
    /the name shop\.example\.com is in two sites/,
  );
  succeeds(machine.install('--remove', 'second.example.com'));
  await expect(serves('second.example.com')).rejects.toThrow();
  expect(await serves('shop.example.com')).toBe(200);
});

test('what somebody changed by hand is shown, and kept', () => {
  const file = '/etc/nginx/slipway-ssl/current/snippets/tls.conf';
  machine.run(`echo '# mine' >>${file}`);
  const mine = machine.run('readlink -f /etc/nginx/slipway-ssl/current').output.trim();
  leaves(() => machine.install('--check'), DIFFERENT, /^-# mine$/m);
  expect(succeeds(machine.install())).toMatch(/^-# mine$/m);
  expect(machine.read(file)).not.toContain('# mine');
  expect(machine.read(`${mine}/snippets/tls.conf`)).toContain('# mine');
});

test('a file of that name that is not ours is kept as a backup, and shown', () => {
  machine.run(
    'rm /etc/nginx/conf.d/slipway-ssl.conf; echo "# the user wrote this" >/etc/nginx/conf.d/slipway-ssl.conf',
  );
  const output = succeeds(machine.install());
  expect(output).toMatch(/^-# the user wrote this$/m);
  expect(machine.run('cat /etc/nginx/conf.d/slipway-ssl.conf.*.backup').output).toBe('# the user wrote this\n');
});

test('a certificate that is there is never touched', () => {
  const tls = '/etc/slipway/tls/shop.example.com';
  machine.run(
    `mkdir ${tls}/v1 && cp ${tls}/placeholder/* ${tls}/v1 && ln -s v1 ${tls}/current.new && mv -T ${tls}/current.new ${tls}/current`,
  );
  succeeds(machine.install(...SHOP));
  expect(machine.run(`readlink ${tls}/current`).output).toBe('v1\n');
});

test('what nginx refuses, or what would not be reached, is put back', async () => {
  const conf = '/etc/nginx/conf.d/user.conf';
  const withUser = (text: string, run: () => void): void => {
    machine.run('printf %s "$1" >"$2"', text, conf);
    run();
    machine.run('rm -f "$1"', conf);
  };
  // Broken before: not ours to judge.
  withUser('nonsense;', () => {
    leaves(() => machine.install(...SECOND), FAILED, /nginx -t fails already, before any change:[^]*nonsense/);
  });
  // Fine before, broken by ours.
  succeeds(machine.install('--remove', 'shop.example.com'));
  machine.run(
    'rm -f /etc/nginx/conf.d/slipway-ssl.conf /etc/nginx/slipway-ssl/current; ln -s /etc/nginx/sites-available/default /etc/nginx/sites-enabled/default; nginx -s reload; sleep 0.3',
  );
  withUser('log_format slipway "mine";', () => {
    leaves(() => machine.install(...SHOP), FAILED, /duplicate "log_format" name "slipway"[^]*Everything is as it was/);
  });
  // Names of others' that are in conflict, and a comment that says so, are not ours to judge.
  const other = 'server { listen 80; server_name other.example.com; }\n';
  withUser(`${other}${other}# conflicting server name "shop.example.com"\n`, () => {
    succeeds(machine.install(...SHOP));
    succeeds(machine.install('--remove', 'shop.example.com'));
  });
  withUser('server { listen 80; server_name shop.example.com; }', () => {
    leaves(
      () => machine.install(...SHOP),
      FAILED,
      /conflicting server name "shop\.example\.com"[^]*Everything is as it was/,
    );
  });
  machine.run("sed -i 's|include /etc/nginx/conf.d|# &|' /etc/nginx/nginx.conf");
  leaves(
    () => machine.install(...SHOP),
    FAILED,
    /nginx does not read \/etc\/nginx\/conf\.d\/slipway-ssl\.conf[^]*add to the http block/,
  );
  machine.run("sed -i 's|# include /etc/nginx/conf.d|include /etc/nginx/conf.d|' /etc/nginx/nginx.conf");
  // nginx -t does not see that a port is taken: the stand-in is a server of nginx's own kind.
  machine.run(
    'perl -MIO::Socket::INET -e \'$s = IO::Socket::INET->new(LocalAddr => "127.0.0.1", LocalPort => 8099, Listen => 1) or die; sleep 60\' >/dev/null 2>&1 & sleep 0.3',
  );
  leaves(
    () => machine.install(...SHOP, '--status-port', '8099'),
    FAILED,
    /did not take the new configuration[^]*is a port taken\?/,
    { reloads: true },
  );
  succeeds(machine.install(...SHOP));
  expect(await serves('shop.example.com')).toBe(200);
});

test('ended in the middle, it puts back; killed, the next run does', async () => {
  // The moment after the rename, before nginx has said anything of it; and the one after nginx has taken it.
  const slow = {
    judging: '-T) [ ! -e /etc/nginx/slipway-ssl/journal ] || { touch /tmp/there; sleep 0.4; } ;;',
    reloading: '-s*) /usr/sbin/nginx "$@"; sleep 0.3; touch /tmp/there; sleep 0.4; exit ;;',
  };
  const during = (signal: string, moment: keyof typeof slow = 'judging'): Ran =>
    machine.run(
      `rm -f /tmp/there
printf '%s\\n' "$1" >/usr/local/sbin/nginx; chmod 755 /usr/local/sbin/nginx
sh /slipway/install.sh --name second.example.com --upstream 127.0.0.1:3001 >/tmp/install.out 2>&1 & pid=$!
until [ -e /tmp/there ] || ! kill -0 $pid; do sleep 0.02; done
kill -${signal} $pid; wait $pid; code=$?
sleep 0.5
rm /usr/local/sbin/nginx; cat /tmp/install.out; exit $code`,
      `#!/bin/sh\ncase $* in ${slow[moment]} esac\nexec /usr/sbin/nginx "$@"`,
    );
  leaves(() => during('TERM'), FAILED, /interrupted; everything is as it was/);
  leaves(() => during('TERM', 'reloading'), FAILED, /interrupted; everything is as it was/, { reloads: true });
  await expect(serves('second.example.com')).rejects.toThrow();
  expect(await serves('shop.example.com')).toBe(200);
  // What was here before any install.sh comes back as well: a file of the user's, the distribution's page.
  machine.run(`cd /etc/nginx && rm conf.d/slipway-ssl.conf* && echo '# the user wrote this too' >conf.d/slipway-ssl.conf
ln -s /etc/nginx/sites-available/default sites-enabled/default`);
  const before = workers();
  expect(during('KILL').code).toBe(137);
  expect(workers()).toBe(before);
  expect(machine.run('cat /etc/nginx/conf.d/slipway-ssl.conf; ls /etc/nginx/sites-enabled').output).not.toMatch(
    /the user|default$/m,
  );
  leaves(() => machine.install('--check'), DIFFERENT, /an interrupted run has left its change here/);
  const again = succeeds(machine.install(...SHOP));
  expect(again).toMatch(/^an interrupted run is taken back first$/m);
  expect(again).toMatch(/^-# the user wrote this too$/m);
  expect(again).toMatch(/^disabled: the distribution's page/m);
  expect(machine.run('cat /etc/nginx/conf.d/slipway-ssl.conf.*.backup').output).toBe('# the user wrote this too\n');
  // Killed when nginx had taken it: it reads again what was there before.
  expect(during('KILL', 'reloading').code).toBe(137);
  expect(await serves('second.example.com')).toBe(200);
  expect(succeeds(machine.install(...SHOP))).toMatch(
    /^an interrupted run is taken back first\n(?:[^]*\n)?nothing to change$/m,
  );
  await expect(serves('second.example.com')).rejects.toThrow();
  expect(await serves('shop.example.com')).toBe(200);
  leaves(() => machine.install(...SHOP), SAME, /^nothing to change\n$/);
  expect(versionsOf(machine).length).toBeGreaterThan(5);
});

test('the last ten versions stay, and the one before; one that was gone back to by hand is in force', () => {
  machine.run(
    'cd /etc/nginx/slipway-ssl/versions && for day in 1 2 3 4 5 6 7 8 9; do for hour in 1 2; do cp -R ../current/ 2020010${day}T0${hour}0000Z-1; done; done; cd ..; ln -s versions/20200101T010000Z-1 new && mv -T new current',
  );
  leaves(() => machine.install(), SAME, /^nothing to change\n$/);
  const output = succeeds(machine.install(...SHOP, '--max-body', '2m'));
  expect(output).toMatch(/^kept: .*\/versions\/20200101T010000Z-1$/m);
  expect(output).not.toContain('interrupted');
  const versions = versionsOf(machine);
  expect(versions).toContain('20200101T010000Z-1');
  expect(versions).not.toContain('20200101T020000Z-1');
  expect(versions).toHaveLength(11);
  expect(machine.run('cat /etc/nginx/slipway-ssl/current/sites/*/flags').output).toContain('2m');
  succeeds(machine.install(...SHOP));
});

test('a default site that somebody has changed stays, and keeps its word', async () => {
  succeeds(machine.install('--remove', 'shop.example.com'));
  machine.run(
    `rm -f /etc/nginx/conf.d/slipway-ssl.conf /etc/nginx/slipway-ssl/current
sed 's|root /var/www/html;|&\\n\\treturn 418;|' /etc/nginx/sites-available/default >/etc/nginx/sites-enabled/default`,
  );
  const output = succeeds(machine.install(...SHOP));
  expect(output).not.toContain('disabled:');
  expect((await ask(machine, 'other.example.com', '/', { port: 80 })).status).toBe(418);
  expect((await ask(machine, 'shop.example.com', '/', { port: 80 })).status).toBe(308);
  expect((await ask(machine, 'shop.example.com', '/')).status).toBe(200);
  leaves(() => machine.install(...SHOP), SAME, /^nothing to change\n$/);
});

test('as the router of a project: it starts before the first deploy, and leads to what a deploy writes', async () => {
  succeeds(machine.install('--name', 'router.example.com', '--service', 'api'));
  expect(await serves('router.example.com')).toBe(502);
  machine.run(
    'echo "upstream api { server 127.0.0.1:3002; }" >/etc/nginx/slipway/upstreams.conf && nginx -s reload; sleep 0.3',
  );
  expect((await ask(machine, 'router.example.com', '/')).headers['x-served-by']).toBe('b');
  leaves(() => machine.install(), SAME, /^nothing to change\n$/);
});
