/** The server of the matrix: how it is stopped at a moment, how it dies, and what it looks like from inside. */
import { readFileSync, existsSync, statSync } from 'node:fs';
import { chown, mkdir, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { onServer, sandboxInfo, theServer, tryOnServer } from '../sandbox.ts';

interface Sandbox {
  reboot(name: string): Promise<void>;
  poweroff(name: string): Promise<void>;
  start(name: string): Promise<void>;
  reset(name: string): Promise<void>;
}

// By a name that the compiler does not follow: the sandbox is plain JavaScript.
const SANDBOX_MODULE: string = new URL('../../../infra/sandbox/sandbox.mjs', import.meta.url).href;
const sandbox = (await import(SANDBOX_MODULE)) as Sandbox;

const DEPLOY_UID = 1000;
const SHIMMED = ['docker', 'mv', 'ln', 'rm', 'tar'];

/** A path of the server, seen from here: asking by it starts no process there, and needs no network. */
export function pathOn(path: string): string {
  const folder = join(dirname(theServer().keyFile), 'servers', theServer().name);
  const [init = ''] = readFileSync(join(folder, 'init.pid'), 'utf8').split(' ');
  return join(`/proc/${init.trim()}/root`, path);
}

/** Puts the programs in place that stop at a moment; they do nothing until a moment is armed. */
export async function installShims(): Promise<void> {
  const shim = await readFile(new URL('shim.sh', import.meta.url), 'utf8');
  await onServer(
    `cat >/usr/local/bin/.kill-matrix && chmod 755 /usr/local/bin/.kill-matrix
for name in "$@"; do ln -f /usr/local/bin/.kill-matrix "/usr/local/bin/$name"; done`,
    SHIMMED,
    shim,
  );
}

/** `later`: some tenths of a second after it, when the guardian is left alone with what comes next: a wait, a hold, a drain. */
export type When = 'before' | 'during' | 'after' | 'later';

export interface Moment {
  /** Which changing command of the session, from 1. */
  readonly at: number;
  readonly when: When;
  /** For `during`: so long after it has begun. */
  readonly delaySeconds: number;
}

const STATE = '/run/kill-matrix';

/** From now on commands are counted; and the server stops at the moment, if there is one. */
export async function arm(moment?: Moment): Promise<void> {
  const folder = pathOn(STATE);
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { mode: 0o755 });
  if (moment !== undefined) {
    await writeFile(
      join(folder, 'armed'),
      `${moment.at} ${moment.when === 'later' ? 'after' : moment.when} ${moment.delaySeconds}\n`,
    );
  }
  await writeFile(join(folder, 'seen'), '');
  for (const name of ['', 'seen']) await chown(join(folder, name), DEPLOY_UID, DEPLOY_UID);
}

export async function disarm(): Promise<void> {
  await rm(pathOn(STATE), { recursive: true, force: true });
}

/** What the commands have been that changed something: label and words. */
export async function listSeen(): Promise<{ readonly label: string; readonly words: string }[]> {
  const text = await readFile(join(pathOn(STATE), 'seen'), 'utf8');
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const [label = '', words = ''] = line.split('\t');
      // Ids of releases and addresses of files are others each time.
      return { label: label.replace(/\d{8}T\d{6}Z-[0-9a-f]+/, 'ID').replace(/[0-9a-f]{64}/, 'ADDRESS'), words };
    });
}

/** @returns whether it was reached before the signal */
export async function waitForHit(signal: AbortSignal): Promise<boolean> {
  while (!signal.aborted) {
    if (existsSync(pathOn(`${STATE}/hit`))) return true;
    await sleep(4);
  }
  return existsSync(pathOn(`${STATE}/hit`));
}

export async function release(): Promise<void> {
  try {
    await writeFile(pathOn(`${STATE}/go`), '');
  } catch {
    // The server is down, or nothing is armed any more.
  }
}

// --- deaths ------------------------------------------------------------------------------------------------------------

/** A guardian's shells carry its token in their words; its main loop is the one whose parent is none of them. */
const GUARDIANS = `guardians=$(pgrep -f ' slipway-[0-9a-f]{32} ') || exit 0
for pid in $guardians; do
  read -r parent <<END
$(ps -o ppid= -p "$pid" | tr -d ' ')
END
  case " $(echo $guardians) " in *" $parent "*) kind=part ;; *) kind=main ;; esac
  printf '%s %s %s\\n' "$kind" "$pid" "$(ps -o comm= -p "$pid")"
  case $kind in main) pgrep -s "$(ps -o sid= -p "$pid" | tr -d ' ')" | sed 's/^/session /' ;; esac
done`;

interface GuardianProcess {
  /** `session`: it, or whatever else runs in its session: its helpers, and no step of it. */
  readonly kind: 'main' | 'part' | 'session';
  readonly pid: string;
}

async function listGuardians(): Promise<GuardianProcess[]> {
  const text = await onServer(GUARDIANS);
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const [kind = '', pid = ''] = line.split(' ');
      return { kind: kind === 'main' || kind === 'session' ? kind : 'part', pid };
    });
}

/** @param which its main loop, or all of its shells and what they run for themselves; never a step's own processes, which live on */
export async function killGuardian(which: 'main' | 'all'): Promise<void> {
  const guardians = await listGuardians();
  const kinds = which === 'all' ? ['session'] : ['main'];
  const pids = guardians.filter(({ kind }) => kinds.includes(kind)).map(({ pid }) => pid);
  if (pids.length === 0) throw new Error('there is no guardian to be killed');
  // All at once: none of them gets to see another one's end.
  await onServer('kill -STOP "$@" 2>/dev/null; kill -KILL "$@" 2>/dev/null || :', pids);
}

export async function hasGuardian(): Promise<boolean> {
  return (await listGuardians()).length > 0;
}

export async function restartDocker(): Promise<void> {
  await onServer('systemctl reset-failed docker docker.socket 2>/dev/null; systemctl restart docker');
}

export async function reboot(): Promise<void> {
  await sandbox.reboot(theServer().name);
}

export async function pullPlug(): Promise<void> {
  await sandbox.poweroff(theServer().name);
  await sandbox.start(theServer().name);
}

export async function resetServer(): Promise<void> {
  await sandbox.reset(theServer().name);
}

// --- from inside -------------------------------------------------------------------------------------------------------

const VOLUMES = '/var/lib/docker/volumes';

/** Who lives on a volume right now: the releases that have written there within the last half second. */
export async function readBeats(volume: string): Promise<string[]> {
  const folder = pathOn(`${VOLUMES}/${volume}/_data`);
  const releases: string[] = [];
  for (const name of await readdir(folder).catch(() => [])) {
    if (!name.startsWith('beat-')) continue;
    try {
      if (Date.now() - statSync(join(folder, name)).mtimeMs < 500) {
        releases.push(await readFile(join(folder, name), 'utf8'));
      }
    } catch {
      // Gone meanwhile.
    }
  }
  return releases;
}

/** What says that two containers lived on one volume at once; empty when none did. Forgotten once read. */
export async function takeDoubled(volume: string): Promise<string> {
  const file = pathOn(`${VOLUMES}/${volume}/_data/doubled`);
  const text = await readFile(file, 'utf8').catch(() => '');
  await rm(file, { force: true });
  return text.split('\n', 1)[0] ?? '';
}

export interface Traces {
  /** `service state policy image`, sorted. */
  readonly containers: readonly string[];
  readonly images: readonly string[];
  readonly volumes: readonly string[];
  readonly networks: readonly string[];
  readonly releases: readonly string[];
  /** Addresses of shipped files, and those that no kept release names. */
  readonly files: readonly string[];
  readonly unnamed: readonly string[];
  /** Whatever is in the store and in the home besides. */
  readonly others: readonly string[];
  readonly processes: readonly string[];
  readonly temporary: readonly string[];
  readonly locked: boolean;
}

const TRACES = `set -u
home=/home/deploy store=/home/deploy/apps/shop/.slipway
section() { printf '== %s\\n' "$1"; }
section containers
ids=$(docker ps -aq --no-trunc)
[ -z "$ids" ] || docker inspect --format '{{index .Config.Labels "com.docker.compose.service"}} {{.State.Status}} {{.HostConfig.RestartPolicy.Name}} {{.Config.Image}}' $ids
section images
docker image ls -aq --no-trunc | sort -u
section volumes
docker volume ls --format '{{.Name}}'
section networks
docker network ls --format '{{.Name}}'
section releases
ls "$store/releases"
section files
ls "$store/files"
section unnamed
for file in $(ls "$store/files"); do grep -qs "$file" "$store"/releases/*/release.json || echo "$file"; done
section others
cd "$store" && find . -mindepth 1 \\( -path './releases/*/*' -o -path './files/*/*' \\) -prune -o -mindepth 1 -print |
  grep -Ev '^\\./(releases|files|router)(/[^/]*)?$|^\\./(lock|session|step|undo\\.log|current|running)$|^\\./router/web/upstreams\\.conf$'
read -r leader start _ <running && [ "$(cut -d ' ' -f 22 "/proc/$leader/stat" 2>/dev/null)" = "$start" ] && echo "running: $leader"
cd "$home" && find . -mindepth 1 -maxdepth 3 ! -path './.ssh*' ! -path './apps/shop/.slipway/*' ! -path './.docker*' | sort
section processes
ps -u deploy -o pid=,args= | cut -c 1-200 | grep -Ev 'systemd --user|\\(sd-pam\\)|sshd: deploy'
section temporary
ls -d /run/user/*/slipway.* /dev/shm/slipway.* /tmp/slipway.* 2>/dev/null
section locked
runuser -u deploy -- flock -n "$store/lock" true || echo store
runuser -u deploy -- flock -n "$home/.slipway-locks/shop" true || echo name
:`;

export async function readTraces(): Promise<Traces> {
  const done = await tryOnServer(TRACES);
  const sections: Record<string, string[]> = {};
  let lines: string[] = [];
  for (const line of done.stdout.split('\n')) {
    const name = /^== (\w+)$/.exec(line)?.[1];
    if (name !== undefined) sections[name] = lines = [];
    else if (line.trim() !== '') lines.push(line.trim());
  }
  const of = (name: string): string[] => [...(sections[name] ?? [])].sort();
  return {
    containers: of('containers'),
    images: of('images'),
    volumes: of('volumes'),
    networks: of('networks'),
    releases: of('releases'),
    files: of('files'),
    unnamed: of('unnamed'),
    others: of('others'),
    processes: of('processes'),
    temporary: of('temporary'),
    locked: of('locked').length > 0,
  };
}

/** The link that decides; empty where there is none. */
export async function readCurrent(): Promise<string> {
  return (await tryOnServer('readlink /home/deploy/apps/shop/.slipway/current')).stdout.trim().replace('releases/', '');
}

/** No transaction is open any more, and nobody is at work on one. */
export async function isSettled(): Promise<boolean> {
  return !existsSync(pathOn('/home/deploy/apps/shop/.slipway/journal')) && !(await hasGuardian());
}

export const registryHost = (): string => sandboxInfo().registry.open;
