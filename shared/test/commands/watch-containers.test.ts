import { spawn } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { watchContainers } from '../../src/commands/watch-containers';
import { parseWatchLine, type ProbeResult } from '../../src/probes/container';
import { HOSTILE, Machine, SHELLS } from '../shells';

const ID = 'c0ffee';
const STARTED = '2026-11-23T05:51:44.801996042Z';

/** As Docker's templates print bytes: `73 68`. */
const hex = (text: string): string =>
  Buffer.from(text)
    .toString('hex')
    .replaceAll(/(..)(?!$)/g, '$1 ');
const health = (timeoutSeconds: number, ...words: readonly string[]): string =>
  `${timeoutSeconds}000000000 ${words.map((word) => `${hex(word)} , `).join('')}`;

/**
 * One container, whose state is in the file `state` and whose health command is in `health`. `exec` runs here what it is given, as
 * Docker does: it goes on when the client is killed, and only its input ends.
 */
const DOCKER = `here=\${0%/bin/docker}
case $1 in
ps) [ ! -e "$here/down" ] || exit 1; echo '${ID}/web other/web ; touch pwned/web' ;;
events) exec sleep 1000 ;;
inspect)
  case $5 in
  *Config.Shell*) cat "$here/health" ;;
  *) printf '%s\\n' '{"Id":"${ID}","Config":{"Labels":{"com.docker.compose.service":"web"}}}' "${ID} $(cat "$here/state")" ;;
  esac ;;
exec)
  shift
  if [ "$1" = -i ]; then
    shift 2
    exec setsid "$@"
  fi
  [ "$2" != /bin/sh ] || exit 127
  shift
  exec "$@" ;;
*) exit 64 ;;
esac`;

test('the command: what varies is a word, and nothing that is printed tells of the environment or of the health command', () => {
  const { words } = watchContainers('shop', ['web', 'db']);
  expect(words.slice(0, 2)).toEqual(['sh', '-c']);
  expect([words[4], ...words.slice(-2)]).toEqual(['shop', 'web', 'db']);
  expect(words[5]).not.toMatch(/\.Env|Healthcheck|json \.Config\.Labels|\.Test/);
});

describe.each(SHELLS)('in $name', (shell) => {
  let machine: Machine;

  beforeEach(() => {
    machine = new Machine(shell);
    machine.withDocker(DOCKER);
  });

  afterEach(() => {
    machine.remove();
  });

  const prepare = (state: string, healthText: string): void => {
    writeFileSync(machine.path('state'), state);
    writeFileSync(machine.path('health'), `${healthText}\n`);
  };

  /** Runs the watch until it ends, or until one of its lines is the last one wanted; then ends its group. */
  const watch = async (
    isLast: (line: string) => boolean,
  ): Promise<{ readonly lines: readonly string[]; readonly exitCode: number | null }> => {
    const [program, ...options] = shell.words;
    const child = spawn(program, [...options, ...watchContainers('shop', ['web']).words.slice(1)], {
      cwd: machine.folder,
      detached: true,
      stdio: ['ignore', 'pipe', 'ignore'],
      env: { PATH: `${machine.path('bin')}:${process.env['PATH'] ?? ''}` },
    });
    const ended = new Promise<number | null>((resolve) => child.once('exit', resolve));
    const lines: string[] = [];
    let rest = '';
    child.stdout.setEncoding('utf8');
    for await (const chunk of child.stdout as AsyncIterable<string>) {
      const whole = (rest + chunk).split('\n');
      rest = whole.pop() ?? '';
      lines.push(...whole);
      if (!whole.some(isLast)) continue;
      if (child.pid !== undefined) process.kill(-child.pid, 'SIGTERM');
      break;
    }
    return { lines, exitCode: await ended };
  };
  const probesOf = (lines: readonly string[]): ProbeResult[] =>
    lines.flatMap((line) => {
      const parsed = parseWatchLine(line);
      return parsed?.kind === 'probe' ? [parsed.probe] : [];
    });
  const isProbe = (line: string): boolean => line.startsWith('probe ');

  test('the words of a health command reach it byte for byte, and none of them is printed', async () => {
    const words = [...HOSTILE, 'ends with lines\n\n', '\\045 %s \\n', ',', ' , ', 'x'.repeat(3000)];
    const record = 'printf "%s\\0" "$@" >"$0"';
    prepare(`running starting ${STARTED}`, health(3, 'sh', '-c', record, machine.path('words'), ...words));
    const { lines } = await watch(isProbe);
    expect(probesOf(lines)).toEqual([{ containerId: ID, startedAt: STARTED, result: 0 }]);
    expect(readFileSync(machine.path('words'), 'utf8')).toBe(words.map((word) => `${word}\0`).join(''));
    expect(existsSync(machine.path('pwned'))).toBe(false);
    expect(lines[0]).toBe(`containers [{"Id":"${ID}","Config":{"Labels":{"com.docker.compose.service":"web"}}}]`);
    expect(lines.join('\n')).not.toContain('xxx');
  });

  test('it is run until it ends with 0, and a code is told once', async () => {
    const grow = 'echo >>"$0"; [ "$(wc -l <"$0")" -ge 4 ] || exit 3';
    prepare(`running starting ${STARTED}`, health(3, 'sh', '-c', grow, machine.path('count')));
    const { lines } = await watch((line) => line.endsWith(' 0'));
    expect(probesOf(lines).map(({ result }) => result)).toEqual([3, 0]);
    expect(readFileSync(machine.path('count'), 'utf8')).toBe('\n\n\n\n');
  });

  test('one that hangs is told at its time limit, and ends with the watch, with what it has started', async () => {
    const hang = 'sleep 1000 & echo $! >"$0"; wait';
    prepare(`running starting ${STARTED}`, health(1, 'sh', '-c', hang, machine.path('pid')));
    const { lines } = await watch(isProbe);
    expect(probesOf(lines)).toEqual([{ containerId: ID, startedAt: STARTED, result: 'timeout' }]);
    const pid = readFileSync(machine.path('pid'), 'utf8').trim();
    for (
      let tries = 0;
      tries < 40 && existsSync(`/proc/${pid}/cmdline`) && readFileSync(`/proc/${pid}/cmdline`).length > 0;
      tries++
    ) {
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    // A process that was killed and that nobody waits for is still there, without words.
    expect(existsSync(`/proc/${pid}/cmdline`) ? readFileSync(`/proc/${pid}/cmdline`, 'utf8') : '').toBe('');
  });

  test.each(['running healthy', 'running none', 'exited starting', 'running unhealthy'])(
    'a container that is %s is not probed',
    async (state) => {
      prepare(`${state} ${STARTED}`, health(3, 'true'));
      let looks = 0;
      const { lines } = await watch((line) => line.startsWith('containers ') && ++looks === 2);
      expect(probesOf(lines)).toEqual([]);
      expect(lines).toContain('same');
      expect(machine.calls.some((call) => call.startsWith('<exec>'))).toBe(false);
    },
  );

  test('a Docker that stays away ends it with 1', async () => {
    prepare(`running starting ${STARTED}`, health(3, 'true'));
    writeFileSync(machine.path('down'), '');
    expect(await watch(() => false)).toEqual({ lines: [], exitCode: 1 });
  }, 15_000);
});
