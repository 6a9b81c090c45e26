import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import {
  createReplicas,
  hashServices,
  replaceServices,
  runOnce,
  type Start,
  startContainers,
  startReplicas,
  stopContainers,
} from '../../src/commands/compose';
import { Secret } from '../../src/model/secret';
import { renderCommand } from '../../src/shell/render';
import { ENGINE, HOSTILE, Machine, SHELLS } from '../shells';

const target = { project: 'shop', projectDirectory: '/home/deploy/apps/shop' };
const file = '/home/deploy/apps/shop/.slipway/releases/R/compose.yaml';
const PREFIX = 'docker compose --ansi never --project-name shop --project-directory /home/deploy/apps/shop --file';

test('hashes a file that is secret, so it travels on standard input', () => {
  const command = hashServices(target, new Secret('PASSWORD: hunter2'));
  expect(renderCommand(command)).toBe(`${PREFIX} - config --hash '*'`);
  expect(JSON.stringify(command)).not.toContain('hunter2');
  expect(command.stdin).toBeInstanceOf(Secret);
});

test('a command that runs once, in a container that can be found by its name', () => {
  const run = { service: 'api', name: 'shop-api-migrate-1', command: ['npm', 'run', 'it; all'] };
  expect(renderCommand(runOnce(target, file, run))).toBe(
    `${PREFIX} ${file} run --rm --no-deps --no-TTY --quiet-pull --name shop-api-migrate-1 api npm run 'it; all'`,
  );
  expect(renderCommand(startContainers(['c1', 'c2']))).toBe('docker start c1 c2');
});

describe.each(SHELLS)('in $name', (shell) => {
  let machine: Machine;

  beforeEach(() => {
    machine = new Machine(shell);
  });

  afterEach(() => {
    machine.remove();
  });

  /**
   * A project with w1, w2 of web and d1 of db, and the containers that `create` adds: those that the test names.
   * @param added by service: `case` lines such as `web) echo w3 ;;`. None of them has been started, until the script does.
   */
  const withProject = (added = '', more = ''): void => {
    machine.withDocker(`
case $1 in
ps)
  case "$*" in *--format*) printf 'web\\nweb\\ndb\\n'; exit ;; esac
  service= status=
  for a; do case $a in label=com.docker.compose.service=*) service=\${a#*service=} ;; status=*) status=\${a#*=} ;; esac; done
  # w2 was made and never started, by somebody else: what of it is new is for the caller to know.
  [ "$status" = created ] || echo "$service" | sed -n 's/web/w1/p; s/db/d1/p'
  [ "$service" != web ] || echo w2
  [ ! -e "$HOME/created" ] || case $service in ${added} *) ;; esac |
    if [ "$status" = created ]; then grep -vxF -f "$HOME/started"; else cat; fi
  ;;
compose) : >"$HOME/created" ;;
esac
${more}
${ENGINE}
[ "$1" != start ] || { shift; printf '%s\\n' "$@" >>"$HOME/started"; }`);
    writeFileSync(machine.path('started'), '');
  };
  /** All calls but questions. */
  const changes = (): string[] => machine.calls.filter((call) => !/^<(ps|system)>/.test(call));
  const create = (...words: string[]): string =>
    `<compose><--ansi><never><--project-name><shop><--project-directory></home/deploy/apps/shop><--file><${file}><create><--no-build><--pull><never>${words.map((word) => `<${word}>`).join('')}`;

  describe('createReplicas', () => {
    const additions = [
      { service: 'web', adding: 2, before: ['w1', 'w2'] },
      { service: 'new', adding: 1, before: [] },
    ];

    test('adds beside what is there, keeps the number of what they depend on, and lets no boot start them', () => {
      withProject("web) printf 'w3\\nw4\\n' ;; new) echo n1 ;;");
      expect(machine.run(createReplicas(target, file, additions, ['db', 'web', 'none']))).toEqual({
        exitCode: 0,
        stdout: '',
        stderr: '',
      });
      expect(changes()).toEqual([
        create('--no-recreate', '--scale', 'db=1', '--scale', 'web=4', '--scale', 'new=1', 'web', 'new'),
        '<update><--restart=no><w3><w4>',
        '<update><--restart=no><n1>',
      ]);
    });

    test('does not take fewer or others for what it asked for', () => {
      withProject('web) echo w3 ;; new) echo n1 ;;');
      expect(machine.run(createReplicas(target, file, additions, []))).toMatchObject({
        exitCode: 70,
        stderr: 'docker compose made other replicas of web than it was asked for\n',
      });
    });

    test.each([
      ['be asked', 'ps', 4],
      ['create', 'compose', 5],
      ['update', 'update', 6],
    ])('where docker cannot %s it stops, and says so', (_name, verb, exitCode) => {
      withProject("web) printf 'w3\\nw4\\n' ;; new) echo n1 ;;", `[ "$1" != ${verb} ] || exit ${exitCode}`);
      expect(machine.run(createReplicas(target, file, additions, ['db'])).exitCode).toBe(exitCode);
      expect(changes().some((call) => call.startsWith('<start>'))).toBe(false);
    });
  });

  test('replaceServices recreates in place, keeps the others, and starts in order', () => {
    withProject();
    expect(machine.run(replaceServices(target, file, ['db', 'web'], ['web', 'db', 'none'])).exitCode).toBe(0);
    expect(changes()).toEqual([create('db', 'web'), '<start><d1>', '<start><w1><w2>']);
    expect(machine.run(replaceServices(target, file, ['db'], ['web', 'db'])).exitCode).toBe(0);
    expect(changes().slice(3)).toEqual([create('--scale', 'web=2', 'db'), '<start><d1>']);
  });

  describe('startReplicas', () => {
    const web = (count: number): Start => ({ service: 'web', before: ['w1', 'w2'], count });

    test('starts as many as it is told of what is new and was not started yet, group by group', () => {
      withProject("web) printf 'w3\\nw4\\nw5\\n' ;; new) echo n1 ;;");
      writeFileSync(machine.path('created'), '');
      const new1 = { service: 'new', before: [], count: 1 };
      const none = { service: 'none', before: [], count: 1 };
      const start = (...starts: readonly Start[]): unknown => machine.run(startReplicas(target, starts, 0));
      const ok = { exitCode: 0, stdout: '', stderr: '' };
      expect(start(web(2), new1, none)).toEqual(ok);
      expect(changes()).toEqual(['<start><w3><w4><n1>']);
      expect(start(web(1), new1)).toEqual(ok);
      expect(changes().slice(1)).toEqual(['<start><w5>']);
      // All are started: there is nothing left to do, which is no failure.
      expect(start(web(2))).toEqual(ok);
      expect(changes()).toHaveLength(2);
    });

    test('asks for this project alone, and only for what was never started', () => {
      withProject();
      machine.run(startReplicas(target, [web(1)], 0));
      expect(machine.calls[0]).toBe(
        '<ps><-aq><--no-trunc><--filter><label=com.docker.compose.project=shop><--filter><label=com.docker.compose.service=web><--filter><label=com.docker.compose.oneoff=False><--filter><status=created>',
      );
      expect(changes()).toEqual([]);
    });

    test('waits first', () => {
      withProject('web) echo w3 ;;');
      writeFileSync(machine.path('created'), '');
      const beforeMs = Date.now();
      expect(machine.run(startReplicas(target, [web(1)], 1)).exitCode).toBe(0);
      expect(Date.now() - beforeMs).toBeGreaterThanOrEqual(1000);
      expect(machine.calls.at(-1)).toBe('<start><w3>');
    });

    describe('what was stopped for its successor, and runs again', () => {
      const start = (): ReturnType<Machine['run']> => machine.run(startReplicas(target, [web(2)], 0, ['o1', 'w1']));
      // Docker lists what runs: w2 alone, and w1 from the moment that the test names.
      const withReturn = (since: string): void => {
        withProject(
          "web) printf 'w3\\nw4\\n' ;;",
          `[ "$1" != start ] || : >"$HOME/back"
case "$1 $2" in "ps -q") echo w2; [ ! -e "$HOME/${since}" ] || echo w1 ;; "inspect "*) echo "$5 runs again" ;; esac`,
        );
        writeFileSync(machine.path('created'), '');
      };

      test('nothing is started', () => {
        withReturn('created');
        expect(start()).toMatchObject({ exitCode: 70, stderr: expect.stringContaining('runs again') as string });
        expect(changes().filter((call) => !call.startsWith('<inspect>'))).toEqual([]);
      });

      test('by the time that they have started: they are ended at once', () => {
        withReturn('back');
        expect(start().exitCode).toBe(70);
        expect(changes().filter((call) => !call.startsWith('<inspect>'))).toEqual([
          '<start><w3>',
          '<start><w4>',
          '<kill><w3><w4>',
        ]);
      });

      test('while they stay away, it is as always; where Docker cannot be asked, nothing starts', () => {
        withReturn('never');
        expect(start()).toEqual({ exitCode: 0, stdout: '', stderr: '' });
        expect(changes()).toEqual(['<start><w3>', '<start><w4>']);
        withProject('web) echo w3 ;;', '[ "$1 $2" != "ps -q" ] || exit 4');
        expect(start().exitCode).toBe(4);
        expect(changes()).toHaveLength(2);
      });

      test('between the look and the start: a daemon that was restarted since then is not asked', () => {
        // The connection breaks when the daemon ends.
        withProject(
          'web) echo w3 ;;',
          '[ "$1" != system ] || { read -r line; printf "HTTP/1.1 200 OK\\r\\n\\r\\n"; exit 0; }',
        );
        writeFileSync(machine.path('created'), '');
        expect(start()).toMatchObject({ exitCode: 69, stderr: 'Docker went away: was it restarted?\n' });
        expect(changes()).toEqual([]);
      });

      test('what the daemon says against a start is told', () => {
        withProject('web) echo w3 ;;', '[ "$1" != start ] || exit 9');
        writeFileSync(machine.path('created'), '');
        expect(start()).toMatchObject({ exitCode: 1, stderr: 'exec: "run": not found\n' });
        expect(changes()).toEqual(['<start><w3>']);
      });
    });

    test('fails when one cannot be started, or Docker cannot be asked', () => {
      withProject("web) printf 'w3\\nw4\\n' ;;", '[ "$1" != start ] || exit 9');
      writeFileSync(machine.path('created'), '');
      expect(machine.run(startReplicas(target, [web(1)], 0)).exitCode).toBe(9);
      expect(changes()).toEqual(['<start><w3>']);
      withProject('web) echo w3 ;;', '[ "$1" != ps ] || exit 4');
      expect(machine.run(startReplicas(target, [web(1)], 0)).exitCode).toBe(4);
      expect(changes()).toHaveLength(1);
    });
  });

  test('stopContainers notes whom, lets a boot bring back what has a policy, and stops', () => {
    machine.withDocker('[ "$1" != stop ] || cat "$HOME/stopping"');
    const ran = machine.run(
      stopContainers({ store: machine.folder }, [
        { id: 'c1', restart: 'always' },
        { id: 'c2', restart: 'no' },
        { id: 'c3', restart: 'unless-stopped' },
        { id: 'c4', restart: 'on-failure:3' },
      ]),
    );
    expect(ran).toEqual({ exitCode: 0, stdout: '', stderr: '' });
    expect(readFileSync(machine.path('stopping'), 'utf8')).toBe('c1\nc2\nc3\nc4\n');
    expect(changes()).toEqual(['<update><--restart=always><c1><c3>', '<stop><c1><c2><c3><c4>']);
  });

  test('stopContainers: a daemon that keeps containers alive over its restart must not bring back the old beside the new', () => {
    machine.withDocker('');
    machine.run(stopContainers({ store: machine.folder }, [{ id: 'c1', restart: 'always' }], true));
    expect(changes()).toEqual(['<update><--restart=unless-stopped><c1>', '<stop><c1>']);
  });

  test('stopContainers stops nothing where it cannot note it', () => {
    machine.withDocker('');
    expect(
      machine.run(stopContainers({ store: machine.path('none') }, [{ id: 'c1', restart: 'no' }])).exitCode,
    ).not.toBe(0);
    expect(changes()).toEqual([]);
  });

  test('hostile values are words, and none is carried out', () => {
    machine.withDocker(`[ "$1" != ps ] || echo 'c1'`);
    for (const text of HOSTILE) {
      const hostile = { project: text, projectDirectory: `/p/${text}` };
      const where = `/f/${text}`;
      const store = machine.path(`s${text.replaceAll('/', '')}`);
      mkdirSync(store, { recursive: true });
      for (const command of [
        createReplicas(hostile, where, [{ service: text, adding: 1, before: [text] }], [text]),
        replaceServices(hostile, where, ['web', text], [text]),
        startReplicas(hostile, [{ service: text, before: [text], count: 1 }], 0),
        stopContainers({ store }, [{ id: text, restart: 'always' }]),
        runOnce(hostile, where, { service: text, name: text, command: [text] }),
      ])
        machine.run({ words: ['sh', '-c', renderCommand(command)] });
      expect(machine.calls.join('\n')).toContain(`<--filter><label=com.docker.compose.project=${text}>`);
      expect(machine.calls.join('\n')).toContain(
        `<--project-name><${text}><--project-directory></p/${text}><--file></f/${text}>`,
      );
    }
    expect(existsSync(machine.path('pwned'))).toBe(false);
  });
});
