/** Archives of files and volumes on a real server: what is packed comes back, and whoever is killed leaves all containers running. */
import { jest } from '@jest/globals';
import {
  type Archived,
  parseArchived,
  parseArchiveProof,
  parseRestoredArchive,
} from '../../shared/src/backups/archive';
import {
  archiveFiles,
  archiveVolume,
  dropKeptVolume,
  listFiles,
  proveFiles,
  proveVolume,
  putBackFiles,
  putBackVolume,
  restoreFiles,
  restoreVolume,
} from '../../shared/src/commands/archive';
import type { Command } from '../../shared/src/model/command';
import { renderCommand } from '../../shared/src/shell/render';
import {
  allKills,
  asDeploy,
  type Executed,
  fillDisk,
  freshServer,
  onServer,
  sampled,
  tryOnServer,
  unfillDisk,
} from './sandbox.ts';

jest.setTimeout(300_000);

/** As the login that deploys. Whatever the exit code. */
async function tryRun(command: Command): Promise<Executed> {
  const input = typeof command.stdin === 'string' ? command.stdin : '';
  return tryOnServer(
    'exec runuser -u deploy -- env HOME=/home/deploy sh -c "$1"',
    [`cd && ${renderCommand(command)}`],
    input,
  );
}

async function run(command: Command): Promise<string> {
  const done = await tryRun(command);
  if (done.code !== 0) throw new Error(`exit code ${done.code}\n${done.stdout}${done.stderr}`);
  return done.stdout;
}

const HOME = '/home/deploy/backups';
const PROJECT = '/home/deploy/apps/shop';
const SCRATCH = { name: 'scratch-shop', project: 'shop', memoryMegabytes: 1024, startSeconds: 60 };
const IMAGE = 'busybox:1';

/** Sends a signal when something is so, to the script alone (`$inner`) or to all of its group (`-- -$pid`), and says what the exit code was. */
async function killWhen(command: Command, ready: string, signal: string, whom = '$inner'): Promise<Executed> {
  const started =
    'setsid runuser -u deploy -- env HOME=/home/deploy sh -c "cd && exec $1" >/tmp/killed.log 2>&1 & pid=$!';
  const wait = `n=0; until ${ready}; do sleep 0.02; n=$((n + 1)); [ $n -lt 1500 ] || { cat /tmp/killed.log; exit 99; }; done`;
  return tryOnServer(
    `${started}; ${wait}; inner=$(pgrep -P $pid); kill -s ${signal} ${whom}; wait $pid; code=$?; cat /tmp/killed.log; exit $code`,
    [renderCommand(command)],
  );
}

/** All that a tree is, seen by the server's root and by other means than those under test. */
const DESCRIBE = `cd "$1" && find . \\( -path './.slipway*' -o -path './restored-*' \\) -prune -o \\( -type f -printf '%y %m %U:%G %n %Ts %s %p\\n' -o -type d -printf '%y %m %U:%G %p\\n' -o -printf '%y %m %U:%G %l %p\\n' \\) | sort; find . \\( -path './.slipway*' -o -path './restored-*' \\) -prune -o -type f -exec sha256sum {} + | sort`;
const describeTree = async (folder: string): Promise<string> => onServer(DESCRIBE, [folder]);
const data = (volume: string): string => `/var/lib/docker/volumes/${volume}/_data`;
const describeVolume = async (volume: string): Promise<string> => describeTree(data(volume));

const state = async (name: string): Promise<string> =>
  (await onServer('docker inspect --format \'{{.State.Status}}\' "$1"', [name])).trim();

/** No container, process or file of a command is left. */
async function nothingLeft(): Promise<void> {
  await onServer(
    `n=0
while [ -n "$(docker ps -aq --filter label=slipway.scratch)$(pgrep -u deploy -f slipway)$(find /home/deploy -name '[!.]*.??????' -not -name '*.*.*')$(ls -d /home/deploy/apps/shop/.slipway/restore* 2>/dev/null)" ]; do
  sleep 0.1; n=$((n + 1))
  [ $n -lt 200 ] || { docker ps -a; pgrep -u deploy -af slipway; find /home/deploy -name '*.??????'; exit 1; }
done`,
  );
}

/** Names and entries that break what quotes badly, or what cannot read all kinds of them. */
const ODD = `umask 022
mkdir -p 'a dir' 'ünï☃ 😀' deep/er/and/er empty 'new
line' .hidden
for name in plain 'with space' "it's" '"double"' '$(touch pwned)' -rf --help 'back\\slash' 'star*' '~' '!' '(' '#x' '.dot' '..dots' 'trailing ' "$(printf 'car\\rriage')" 'two
lines' "$(printf 'bad\\377utf8')"; do
  for dir in . 'a dir' 'new
line' deep/er/and/er; do printf '%s\\n' "$name in $dir" >"$dir/$name"; done
done
long=$(printf 'x%.0s' $(seq 1 200))
mkdir "$long"; echo long >"$long/$long"
: >nothing
head -c 300000 /dev/urandom >random
ln -s plain link; ln -s 'not there' broken; ln -s ../.. "a dir/up"; ln -s 'two
lines' 'odd
link'
ln plain hard
mkfifo fifo
truncate -s 5M sparse
chmod 4755 plain; chmod 600 random; chmod 1777 empty; chmod 2750 deep; chmod 000 nothing
touch -d '2001-02-03 04:05:06' 'a dir/plain' random; touch -d '1970-01-01 00:00:00Z' "it's"`;

beforeAll(async () => {
  await freshServer();
  await asDeploy(`mkdir -p ${HOME} ${PROJECT}/.slipway`);
});

async function newVolume(name: string, fill: string): Promise<void> {
  await onServer(
    `ids=$(docker ps -aq --filter "volume=$1"); [ -z "$ids" ] || docker rm -f $ids >/dev/null; docker volume rm -f "$1" >/dev/null; docker volume create "$1" >/dev/null; cd "$2" && ${fill}`,
    [name, data(name)],
  );
}

const archive = async (
  volume: string,
  name: string,
  quiet: 'live' | 'paused' | 'stopped' = 'live',
): Promise<Archived> => parseArchived(await run(archiveVolume(volume, IMAGE, quiet, `${HOME}/${name}`, SCRATCH)));

describe('files', () => {
  test('odd ones come back as they were, beside and in place, and what they replaced comes back too', async () => {
    await asDeploy(`cd ${PROJECT} && ${ODD}
chmod 644 nothing; rm fifo "$(printf 'bad\\377utf8')" */"$(printf 'bad\\377utf8')" deep/er/and/er/"$(printf 'bad\\377utf8')"
mkdir restored-old && echo x >restored-old/x && echo x >.slipway/x`);
    const before = await describeTree(PROJECT);
    const paths = (await run(listFiles(PROJECT))).split('\0').filter((path) => path !== '');
    expect(paths).toEqual(expect.arrayContaining(['empty', 'new\nline/two\nlines', '-rf', 'a dir/up', '.hidden']));
    expect(paths.filter((path) => /^\.slipway|^restored|^deep$|^\.$/.test(path))).toEqual([]);
    const packed = parseArchived(await run(archiveFiles(PROJECT, paths, `${HOME}/files`)));
    expect(packed).toMatchObject({ changed: false, quietSeconds: 0 });
    expect(packed.tree.entries).toBe(paths.length - 3);
    expect(await onServer(`stat -c '%a %U %s' ${HOME}/files`)).toBe(`600 deploy ${packed.bytes}\n`);
    expect(await onServer(`gzip -dc ${HOME}/files | sha256sum`)).toContain(packed.plainSha256);
    expect(await onServer(`sha256sum <${HOME}/files`)).toContain(packed.sha256);
    parseArchiveProof(await run(proveFiles(`${HOME}/files`, packed.tree)));

    await run(restoreFiles(PROJECT, `${HOME}/files`, packed.tree, 'id-side', 'side'));
    const beside = await describeTree(`${PROJECT}/restored-id-side`);
    const withoutTop = (text: string): string => text.replace(/^d \d+ \S+ \.\n/m, '');
    expect(withoutTop(beside)).toBe(withoutTop(before));
    expect(await tryRun(restoreFiles(PROJECT, `${HOME}/files`, packed.tree, 'id-side', 'side'))).toMatchObject({
      code: 75,
    });

    // A file where a folder was, a folder where a file was, a link out of the folder where a folder was, what is newer.
    await asDeploy(`mkdir -p outside; cd ${PROJECT} && rm -rf 'a dir' deep link random && echo f >'a dir' && ln -s ../../outside deep && mkdir link && echo in >link/in &&
echo changed >plain && chmod 640 plain && echo newer >newer && rm -rf 'new
line'`);
    const changed = await describeTree(PROJECT);
    const restore = restoreFiles(PROJECT, `${HOME}/files`, packed.tree, 'id-1', 'in-place');
    expect(parseRestoredArchive(await run(restore))).toMatchObject({
      kept: '.slipway/kept-id-1',
      entries: packed.tree.entries,
    });
    await asDeploy(
      `cd ${PROJECT} && [ "$(cat newer)" = newer ] && mv newer /tmp/newer && [ "$(cat .slipway/kept-id-1/plain)" = changed ] && [ -h .slipway/kept-id-1/deep ] && [ -f .slipway/kept-id-1/link/in ] && [ -z "$(ls -A ../../outside)" ]`,
    );
    expect(await describeTree(PROJECT)).toBe(before);
    expect(await tryRun(restore)).toMatchObject({ code: 75 });
    await asDeploy(`mv /tmp/newer ${PROJECT}/newer`);
    // It ended, so it is left alone, unless it is named.
    await run(putBackFiles(PROJECT));
    expect(await onServer(`cat ${PROJECT}/plain`)).toContain('plain in .');
    await run(putBackFiles(PROJECT, 'id-1'));
    expect(withoutTop(await describeTree(PROJECT))).toBe(withoutTop(changed));
    await nothingLeft();
  });

  test.each(sampled(['TERM', 'KILL'], [1]))('a restore in place that gets %s is put back by itself', async (signal) => {
    await asDeploy(`cd ${PROJECT} && rm -rf ./* .[!.s]* && mkdir many && cd many && seq 1 3000 | xargs touch`);
    const paths = (await run(listFiles(PROJECT))).split('\0').filter((path) => path !== '');
    const packed = parseArchived(await run(archiveFiles(PROJECT, paths, `${HOME}/many-${signal}`)));
    await asDeploy(`cd ${PROJECT}/many && for i in $(seq 2 2 3000); do echo new >$i; done && rm 1`);
    const before = await describeTree(PROJECT);
    const restore = restoreFiles(PROJECT, `${HOME}/many-${signal}`, packed.tree, `id-${signal}`, 'in-place');
    const killed = await killWhen(
      restore,
      `[ -e ${PROJECT}/.slipway/kept-id-${signal}/many/1000 ]`,
      signal,
      '-- -$pid',
    );
    expect(killed.code).toBeGreaterThan(128);
    await nothingLeft();
    expect(await describeTree(PROJECT)).toBe(before);
    // A power cut: nobody puts it back but the next one.
    await killWhen(
      restore,
      `[ -e ${PROJECT}/.slipway/kept-id-${signal}/many/500 ] && pkill -9 -f watching`,
      'KILL',
      '-- -$pid',
    );
    await onServer('sleep 1');
    expect(await tryRun(restore)).toMatchObject({ code: 75 });
    await run(putBackFiles(PROJECT));
    expect(await describeTree(PROJECT)).toBe(before);
    await run(putBackFiles(PROJECT));
    await run(restore);
    expect(await onServer(`cat ${PROJECT}/many/*`)).toBe('');
    await nothingLeft();
  });

  test('what cannot be read or is not there is an error, and what is damaged is found out', async () => {
    await asDeploy(`cd ${PROJECT} && echo 1 >one && echo 2 >two && mkdir in && echo 3 >in/three`);
    await onServer(`cd ${PROJECT} && mkdir closed && echo x >closed/x && chmod 700 closed`);
    expect((await run(listFiles(PROJECT))).split('\0')).toContain('closed');
    expect(await tryRun(archiveFiles(PROJECT, ['one', 'closed'], `${HOME}/no`))).toMatchObject({
      code: 74,
      stderr: expect.stringContaining('./closed cannot be read') as string,
    });
    expect(await tryRun(archiveFiles(PROJECT, ['gone'], `${HOME}/no`))).toMatchObject({ code: 74 });
    await onServer(`rm -r ${PROJECT}/closed`);
    const packed = parseArchived(await run(archiveFiles(PROJECT, ['one', 'in/three'], `${HOME}/two`)));
    await asDeploy(`cd ${HOME} && head -c 100 two >cut && { head -c 60 two; printf X; tail -c +62 two; } >flipped`);
    const before = await describeTree(PROJECT);
    for (const name of ['cut', 'flipped']) {
      expect(await tryRun(proveFiles(`${HOME}/${name}`, packed.tree))).toMatchObject({ code: 65 });
      for (const where of ['side', 'in-place'] as const)
        expect(await tryRun(restoreFiles(PROJECT, `${HOME}/${name}`, packed.tree, 'id-3', where))).toMatchObject({
          code: 65,
        });
    }
    const other = { ...packed.tree, hash: packed.tree.hash.replace(/./, (digit) => (digit === '0' ? '1' : '0')) };
    expect(await tryRun(proveFiles(`${HOME}/two`, other))).toMatchObject({ code: 65 });
    expect(await tryRun(restoreFiles(PROJECT, `${HOME}/two`, other, 'id-3', 'in-place'))).toMatchObject({ code: 65 });
    expect(await tryRun(proveFiles(`${HOME}/none`, packed.tree))).toMatchObject({ code: 66 });
    expect(await describeTree(PROJECT)).toBe(before);
    await nothingLeft();
  });
});

describe('volumes', () => {
  test('odd entries come back as they were, and the old ones too', async () => {
    await newVolume(
      'odd',
      `${ODD}; mknod dev c 1 3; chown 999:998 'a dir' 'a dir/plain'; chown -R 70:71 deep; chown 999:999 .; chmod 700 .`,
    );
    await onServer(
      `docker run -d --stop-timeout 2 --name user -v odd:/data ${IMAGE} sleep 100000 >/dev/null; docker create --name idle -v odd:/data ${IMAGE} sleep 9 >/dev/null`,
    );
    const before = await describeVolume('odd');
    const packed = await archive('odd', 'odd');
    expect(packed.changed).toBe(false);
    parseArchiveProof(await run(proveVolume(`${HOME}/odd`, IMAGE, packed.tree, SCRATCH)));
    await onServer(
      `cd ${data('odd')} && rm -rf ./* .hidden && echo new >new && mkdir .other && chown 5:5 . && chmod 711 .`,
    );
    const changed = await describeVolume('odd');
    const started = await onServer("docker inspect --format '{{.State.StartedAt}}' user");
    const restored = parseRestoredArchive(
      await run(restoreVolume('odd', IMAGE, `${HOME}/odd`, packed.tree, 'id-1', SCRATCH)),
    );
    expect(restored).toMatchObject({ kept: '.slipway-kept-id-1', entries: packed.tree.entries });
    expect(await describeVolume('odd')).toBe(before);
    expect([await state('user'), await state('idle')]).toEqual(['running', 'created']);
    expect(await onServer("docker inspect --format '{{.State.StartedAt}}' user")).not.toBe(started);
    // What is kept is no data.
    const again = await archive('odd', 'odd-2');
    expect(again.tree).toEqual(packed.tree);
    parseArchiveProof(await run(proveVolume(`${HOME}/odd-2`, IMAGE, packed.tree, SCRATCH)));
    expect(await tryRun(restoreVolume('odd', IMAGE, `${HOME}/odd`, packed.tree, 'id-1', SCRATCH))).toMatchObject({
      code: 75,
    });
    await run(putBackVolume('odd', IMAGE, SCRATCH));
    expect(await describeVolume('odd')).toBe(before);
    await run(putBackVolume('odd', IMAGE, SCRATCH, 'id-1'));
    expect(await describeVolume('odd')).toBe(changed);
    await run(restoreVolume('odd', IMAGE, `${HOME}/odd-2`, packed.tree, 'id-2', SCRATCH));
    await run(dropKeptVolume('odd', IMAGE, 'id-2', SCRATCH));
    expect(await onServer(`ls -A ${data('odd')}`)).not.toContain('slipway');
    expect(await describeVolume('odd')).toBe(before);
    expect(await state('user')).toBe('running');
    await onServer('docker rm -f user idle >/dev/null');
    await nothingLeft();
  });

  test("GNU's tools and busybox's agree on every entry, and read each other's archives", async () => {
    await onServer(
      `mkdir -p /tmp/gnu && cd /tmp/gnu && for tool in sh tar find stat sha256sum readlink cat mkdir mv cp rm chown chmod sync head; do
  path=$(command -v $tool); cp --parents -L "$path" . ; ldd "$path" | grep -o '/[^ ]*' | while read -r lib; do cp --parents -L "$lib" .; done
done; ln -s usr/bin bin 2>/dev/null; tar -c . | docker import --change 'ENV PATH=/usr/bin:/bin:/usr/sbin' - gnu:1 >/dev/null`,
    );
    await newVolume('both', ODD);
    const before = await describeVolume('both');
    const bb = await archive('both', 'both-bb');
    const gnu = parseArchived(await run(archiveVolume('both', 'gnu:1', 'live', `${HOME}/both-gnu`, SCRATCH)));
    expect(gnu.tree).toEqual(bb.tree);
    parseArchiveProof(await run(proveVolume(`${HOME}/both-gnu`, IMAGE, bb.tree, SCRATCH)));
    parseArchiveProof(await run(proveVolume(`${HOME}/both-bb`, 'gnu:1', bb.tree, SCRATCH)));
    await run(restoreVolume('both', 'gnu:1', `${HOME}/both-bb`, bb.tree, 'id-g', SCRATCH));
    expect(await describeVolume('both')).toBe(before);
    // With what was kept in it.
    const again = parseArchived(await run(archiveVolume('both', 'gnu:1', 'live', `${HOME}/both-3`, SCRATCH)));
    expect(again.tree).toEqual(bb.tree);
    await run(proveVolume(`${HOME}/both-3`, IMAGE, bb.tree, SCRATCH));
    await run(putBackVolume('both', 'gnu:1', SCRATCH, 'id-g'));
    expect(await describeVolume('both')).toBe(before);
  });

  /** Of each of two folders. */
  const MANY = allKills ? 25_000 : 1500;

  test(`an empty volume, and one of ${2 * MANY} small files`, async () => {
    await newVolume('void', ':');
    const nothing = await archive('void', 'void', 'paused');
    expect(nothing).toMatchObject({ tree: { entries: 0 }, changed: false, quietSeconds: 0 });
    await run(proveVolume(`${HOME}/void`, IMAGE, nothing.tree, SCRATCH));
    await onServer(`echo x >${data('void')}/x`);
    await run(restoreVolume('void', IMAGE, `${HOME}/void`, nothing.tree, 'id-1', SCRATCH));
    expect(await onServer(`ls ${data('void')}; cat ${data('void')}/.slipway-kept-id-1/content/x`)).toBe('x\n');

    await newVolume(
      'many',
      `mkdir d && seq 1 ${MANY} | split -l 1 -a 6 - f && cd d && seq 1 ${MANY} | split -l 1 -a 6 - f`,
    );
    const before = await describeVolume('many');
    const packed = await archive('many', 'fifty');
    expect(packed.tree.entries).toBe(2 * MANY);
    const proof = parseArchiveProof(await run(proveVolume(`${HOME}/fifty`, IMAGE, packed.tree, SCRATCH)));
    await onServer(`rm -r ${data('many')}/d; echo x >${data('many')}/faaaaaa`);
    const restored = parseRestoredArchive(
      await run(restoreVolume('many', IMAGE, `${HOME}/fifty`, packed.tree, 'id-1', SCRATCH)),
    );
    expect(await describeVolume('many')).toBe(before);
    process.stderr.write(`${2 * MANY} files: ${JSON.stringify({ packed, proof, restored })}\n`);
    // Beside all the names that tar is told one by one.
    expect((await archive('many', 'fifty-2')).tree).toEqual(packed.tree);
    await nothingLeft();
  });

  /** Writes the same number into two files, one after the other, and leaves others behind that come and go. */
  const WRITER =
    'n=0; while :; do n=$((n + 1)); echo $n >/data/.new; mv /data/.new /data/a; echo $n >/data/.new; mv /data/.new /data/b; echo $n >/data/t$n; rm -f /data/t$((n - 3)); done';
  const startWriter = async (): Promise<void> => {
    await newVolume('busy', 'head -c 30000000 /dev/urandom >bulk');
    await onServer(
      `docker run -d --stop-timeout 2 --name writer -v busy:/data ${IMAGE} sh -c "$1" >/dev/null; docker run -d --stop-timeout 2 --name other --restart unless-stopped -v busy:/data ${IMAGE} sleep 100000 >/dev/null; docker run -d --name off -v busy:/data ${IMAGE} true >/dev/null; docker run -d --name stranger ${IMAGE} sleep 100000 >/dev/null; sleep 0.5`,
      [WRITER],
    );
  };
  const bothWrite = async (): Promise<void> => {
    await onServer(
      `n=0; until [ "$(docker inspect --format '{{.State.Status}}' writer other)" = "$(printf 'running\\nrunning')" ]; do sleep 0.1; n=$((n + 1)); [ $n -lt 300 ] || { docker ps -a; exit 1; }; done
one=$(cat ${data('busy')}/a); n=0; until [ "$(cat ${data('busy')}/a)" != "$one" ]; do sleep 0.1; n=$((n + 1)); [ $n -lt 100 ] || exit 2; done`,
    );
    expect(await state('off')).toBe('exited');
  };
  const stopWriter = async (): Promise<void> => {
    await onServer('docker rm -f writer other off stranger >/dev/null');
  };
  const content = async (name: string): Promise<string[]> =>
    (
      await onServer(
        `mkdir -p /tmp/x && rm -rf /tmp/x/* && tar -xzf ${HOME}/${name} -C /tmp/x && cat /tmp/x/a /tmp/x/b`,
      )
    ).split('\n');

  test('what is written to while it is read is said to have changed, and what stands still is of one moment', async () => {
    await startWriter();
    const live = await archive('busy', 'live');
    expect(live).toMatchObject({ changed: true, quietSeconds: 0 });
    for (const [name, quiet] of [
      ['busy-1', 'paused'],
      ['busy-2', 'paused'],
      ['busy-3', 'stopped'],
    ] as const) {
      const packed = await archive('busy', name, quiet);
      await bothWrite();
      expect(packed.changed).toBe(false);
      expect(packed.quietSeconds).toBeGreaterThan(0);
      const [a, b] = (await content(name)).map(Number);
      expect([a, (a ?? 0) - 1]).toContain(b);
      parseArchiveProof(await run(proveVolume(`${HOME}/${name}`, IMAGE, packed.tree, SCRATCH)));
    }
    expect(await onServer("docker inspect --format '{{.HostConfig.RestartPolicy.Name}}' other")).toBe(
      'unless-stopped\n',
    );
    // One who would be gone is not stopped.
    await onServer(`docker run -d --rm --name fleeting -v busy:/data ${IMAGE} sleep 1000 >/dev/null`);
    expect(await tryRun(archiveVolume('busy', IMAGE, 'stopped', `${HOME}/no`, SCRATCH))).toMatchObject({ code: 75 });
    expect(await state('fleeting')).toBe('running');
    await onServer('docker rm -f fleeting >/dev/null');
    await stopWriter();
    await nothingLeft();
  });

  const isPaused = `[ "$(docker inspect --format '{{.State.Status}}' other)" = paused ]`;
  const isStopped = `[ "$(docker inspect --format '{{.State.Status}}' other)" = exited ]`;
  const packs = `ls -s ${HOME}/killed.*/data 2>/dev/null | grep -q '^[1-9][0-9][0-9][0-9]'`;

  const kills = [
    ['paused', 'TERM', '$inner', isPaused],
    ['paused', 'KILL', '$inner', isPaused],
    ['paused', 'KILL', '-- -$pid', `pgrep -f 'docker [p]ause' >/dev/null`],
    ['paused', 'KILL', '-- -$pid', isPaused],
    ['paused', 'KILL', '-- -$pid', packs],
    ['paused', 'TERM', '-- -$pid', packs],
    ['paused', 'KILL', '-- -$pid', `pgrep -f 'docker [u]npause' >/dev/null`],
    ['stopped', 'TERM', '-- -$pid', `pgrep -f 'docker [s]top' >/dev/null`],
    ['stopped', 'KILL', '-- -$pid', `pgrep -f 'docker [s]top' >/dev/null`],
    ['stopped', 'KILL', '$inner', isStopped],
  ] as const;
  test.each(sampled<(typeof kills)[number]>(kills, [1, 4, 7, 9]))(
    'containers that are %s for a backup that gets %s (%s) go on: %s',
    async (quiet, signal, whom, ready) => {
      await startWriter();
      const command = archiveVolume('busy', IMAGE, quiet, `${HOME}/killed`, SCRATCH);
      const killed = await killWhen(command, ready, signal, whom);
      expect(killed.code).toBeGreaterThan(128);
      await bothWrite();
      await nothingLeft();
      await bothWrite();
      expect(await onServer(`ls -d ${HOME}/killed* 2>/dev/null || true`)).toBe('');
      await stopWriter();
    },
  );

  const restores = `ls ${data('busy')}/.slipway-kept-id-k/content 2>/dev/null | grep -q .`;
  const restoreKills = [
    ['KILL', '-- -$pid', `[ -e ${data('busy')}/.slipway-new-id-k/content/f500 ]`],
    ['TERM', '$inner', `[ -e ${data('busy')}/.slipway-new-id-k/containers ]`],
    ['KILL', '-- -$pid', `pgrep -f 'docker [s]top' >/dev/null`],
    ['TERM', '-- -$pid', isStopped],
    ['KILL', '$inner', isStopped],
    ['TERM', '-- -$pid', restores],
    ['KILL', '$inner', restores],
    ['KILL', '-- -$pid', restores],
    ['KILL', '-- -$pid', `[ -e ${data('busy')}/.slipway-kept-id-k/moved ]`],
    ['TERM', '-- -$pid', `[ -e ${data('busy')}/.slipway-kept-id-k/moved ]`],
    ['KILL', '-- -$pid', `pgrep -f 'docker [s]tart' >/dev/null`],
  ] as const;
  test.each(sampled<(typeof restoreKills)[number]>(restoreKills, [1, 4, 7]))(
    'a restore that gets %s (%s) leaves the old or the new, whole: %s',
    async (signal, whom, ready) => {
      const files = 'for i in $(seq 1 1000); do echo';
      await newVolume('busy', `${files} new >f$i; done; echo new >only-new`);
      const packed = await archive('busy', `new-${signal}`);
      const wanted = await describeVolume('busy');
      await onServer(`cd ${data('busy')} && rm -f ./* && ${files} old >f$i; done; chmod 750 .; chown 7:7 .`);
      const old = await describeVolume('busy');
      await onServer(
        `docker run -d --stop-timeout 2 --name other -v busy:/data ${IMAGE} sleep 100000 >/dev/null; docker run -d --name off -v busy:/data ${IMAGE} true >/dev/null`,
      );
      const restore = restoreVolume('busy', IMAGE, `${HOME}/new-${signal}`, packed.tree, 'id-k', SCRATCH);
      const killed = await killWhen(restore, ready, signal, whom);
      expect(killed.code).toBeGreaterThan(128);
      await nothingLeft();
      expect([await state('other'), await state('off')]).toEqual(['running', 'exited']);
      expect(await describeVolume('busy')).toBe(old);
      expect(await onServer(`ls -A ${data('busy')}`)).not.toContain('slipway');
      await run(restore);
      expect(await describeVolume('busy')).toBe(wanted);
      expect(await state('other')).toBe('running');
      await onServer('docker rm -f other off >/dev/null');
      await nothingLeft();
    },
  );

  test.each(sampled([isStopped, restores, `[ -e ${data('busy')}/.slipway-kept-id-k/moved ]`], [0]))(
    'after a power cut the next one puts the old content back and starts the containers: %s',
    async (ready) => {
      await newVolume('busy', 'for i in $(seq 1 1000); do echo new >f$i; done');
      const packed = await archive('busy', 'new-power');
      await onServer(`cd ${data('busy')} && rm -f ./* && for i in $(seq 1 900); do echo old >f$i; done`);
      const old = await describeVolume('busy');
      await onServer(`docker run -d --stop-timeout 2 --name other -v busy:/data ${IMAGE} sleep 100000 >/dev/null`);
      const restore = restoreVolume('busy', IMAGE, `${HOME}/new-power`, packed.tree, 'id-k', SCRATCH);
      await killWhen(restore, `${ready} && pkill -9 -f watching`, 'KILL', '-- -$pid');
      await onServer('docker rm -f scratch-shop >/dev/null 2>&1; sleep 1');
      expect(await state('other')).toBe('exited');
      expect(
        await tryRun(restoreVolume('busy', IMAGE, `${HOME}/new-power`, packed.tree, 'id-l', SCRATCH)),
      ).toMatchObject({
        code: ready === isStopped ? 0 : 75,
      });
      if (ready !== isStopped) {
        await run(putBackVolume('busy', IMAGE, SCRATCH));
        await run(putBackVolume('busy', IMAGE, SCRATCH));
        expect(await describeVolume('busy')).toBe(old);
        expect(await state('other')).toBe('running');
      }
      // Who was killed that hard could not tidy up.
      await onServer(`docker rm -f other >/dev/null; rm -rf ${HOME}/*.??????`);
    },
  );

  test('damaged archives, wrong images and a full disk change nothing', async () => {
    await newVolume('safe', 'head -c 3000000 /dev/urandom >bulk; echo 1 >one');
    const packed = await archive('safe', 'safe');
    await onServer(
      `docker rm -f other >/dev/null 2>&1; docker run -d --stop-timeout 2 --name other -v safe:/data ${IMAGE} sleep 100000 >/dev/null`,
    );
    const started = await onServer("docker inspect --format '{{.State.StartedAt}}' other");
    const before = await describeVolume('safe');
    await asDeploy(
      `cd ${HOME} && head -c 1000000 safe >cut && { head -c 500000 safe; printf XYZ; tail -c +500004 safe; } >flipped && gzip -dc safe | head -c 3000832 | gzip >no-end`,
    );
    for (const name of ['cut', 'flipped', 'no-end']) {
      expect(await tryRun(proveVolume(`${HOME}/${name}`, IMAGE, packed.tree, SCRATCH))).toMatchObject({ code: 65 });
      expect(await tryRun(restoreVolume('safe', IMAGE, `${HOME}/${name}`, packed.tree, 'id-1', SCRATCH))).toMatchObject(
        { code: 65 },
      );
    }
    await onServer('tar -c -T /dev/null | docker import - bare:1 >/dev/null');
    for (const image of ['bare:1', 'not-there:1'])
      expect(await tryRun(archiveVolume('safe', image, 'paused', `${HOME}/no`, SCRATCH))).toMatchObject({
        code: 69,
        stderr: expect.stringContaining('name another one') as string,
      });
    expect(await tryRun(archiveVolume('none', IMAGE, 'live', `${HOME}/no`, SCRATCH))).toMatchObject({ code: 78 });
    expect(await tryRun(archiveVolume('safe', IMAGE, 'live', `${HOME}/no/no`, SCRATCH))).toMatchObject({ code: 73 });
    await fillDisk('2M');
    const full = [
      await tryRun(archiveVolume('safe', IMAGE, 'paused', `${HOME}/full`, SCRATCH)),
      await tryRun(proveVolume(`${HOME}/safe`, IMAGE, packed.tree, SCRATCH)),
      await tryRun(restoreVolume('safe', IMAGE, `${HOME}/safe`, packed.tree, 'id-1', SCRATCH)),
    ];
    await unfillDisk();
    expect(full.map(({ code, stderr }) => [code, stderr])).toEqual(
      [73, 73, 73].map((code) => [code, expect.stringContaining('df') as string]),
    );
    expect(await describeVolume('safe')).toBe(before);
    expect(await onServer("docker inspect --format '{{.State.StartedAt}}' other")).toBe(started);
    expect(await state('other')).toBe('running');
    expect(await onServer(`ls -A ${data('safe')}; ls ${HOME}`)).not.toMatch(/slipway|full/);
    await nothingLeft();
  });
});
