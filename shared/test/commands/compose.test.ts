import { existsSync } from 'node:fs';
import { hashServices, startServices, stopServices } from '../../src/commands/compose';
import type { Command } from '../../src/model/command';
import { Secret } from '../../src/model/secret';
import { renderCommand } from '../../src/shell/render';
import { HOSTILE, Machine, SHELLS } from '../shells';

const target = { project: 'shop', projectDirectory: '/home/deploy/apps/shop' };
const file = '/home/deploy/apps/shop/.slipway/releases/R/compose.yaml';
const PREFIX = 'docker compose --ansi never --project-name shop --project-directory /home/deploy/apps/shop --file';

test('stops services', () => {
  expect(renderCommand(stopServices(target, file, ['web']))).toBe(`${PREFIX} ${file} stop web`);
});

test('hashes a file that is secret, so it travels on standard input', () => {
  const command = hashServices(target, new Secret('PASSWORD: hunter2'));
  expect(renderCommand(command)).toBe(`${PREFIX} - config --hash '*'`);
  expect(JSON.stringify(command)).not.toContain('hunter2');
  expect(command.stdin).toBeInstanceOf(Secret);
});

describe.each(SHELLS)('startServices, in $name', (shell) => {
  let machine: Machine;

  beforeEach(() => {
    machine = new Machine(shell);
  });

  afterEach(() => {
    machine.remove();
  });

  /** Two containers of web, one of db, none of any other service. */
  const PS = `case "$*" in *service=web*) printf 'w1\\nw2\\n' ;; *service=db*) echo d1 ;; esac`;
  const create = (...services: string[]): string =>
    `<compose><--ansi><never><--project-name><shop><--project-directory></home/deploy/apps/shop><--file><${file}><create><--no-build><--pull><never>${services.map((name) => `<${name}>`).join('')}`;
  const look = (service: string): string =>
    `<ps><-aq><--filter><label=com.docker.compose.project=shop><--filter><label=com.docker.compose.service=${service}><--filter><label=com.docker.compose.oneoff=False>`;
  const INSPECT = '<inspect><--format><{{if .State.Health}}{{.State.Health.Status}}{{end}}>';

  /** How often the health was asked about: once, and once a second after that. */
  const looks = (): number => machine.calls.filter((call) => call.startsWith(INSPECT)).length;

  test('makes all from images that are there, then starts the replicas of each in order', () => {
    machine.withDocker(`case $1 in ps) ${PS} ;; start) echo "$@" ;; esac`);
    expect(machine.run(startServices(target, file, ['web', 'db']))).toEqual({
      exitCode: 0,
      stdout: 'starting web\nstarting db\n',
      stderr: '',
    });
    expect(machine.calls).toEqual([create('web', 'db'), look('web'), '<start><w1><w2>', look('db'), '<start><d1>']);
  });

  test('a service without containers has none to start', () => {
    machine.withDocker(`case $1 in ps) ${PS} ;; esac`);
    expect(machine.run(startServices(target, file, ['none', 'db'], ['none']))).toMatchObject({
      exitCode: 0,
      stdout: 'starting db\n',
    });
    expect(machine.calls).toEqual([create('none', 'db'), look('none'), look('db'), '<start><d1>']);
  });

  test('waits until every replica of what others wait for is healthy, and for nothing else', () => {
    machine.withDocker(`case $1 in
ps) ${PS} ;;
inspect)
  echo x >>"$HOME/asked"
  case $(wc -l <"$HOME/asked") in *1) printf 'starting\\nstarting\\n' ;; *2) printf 'healthy\\nunhealthy\\n' ;; *) printf 'healthy\\nhealthy\\n' ;; esac ;;
esac`);
    expect(machine.run(startServices(target, file, ['web', 'db'], ['web'])).exitCode).toBe(0);
    expect(machine.calls).toEqual([
      create('web', 'db'),
      look('web'),
      '<start><w1><w2>',
      ...Array.from({ length: 3 }, () => `${INSPECT}<w1><w2>`),
      look('db'),
      '<start><d1>',
    ]);
  });

  test('does not wait for containers without a health check', () => {
    machine.withDocker(`case $1 in ps) ${PS} ;; inspect) printf '\\n\\n' ;; esac`);
    expect(machine.run(startServices(target, file, ['web'], ['web'])).exitCode).toBe(0);
    expect([looks(), machine.calls.at(-1)]).toEqual([1, `${INSPECT}<w1><w2>`]);
  });

  test('waits a minute at most, then starts the others all the same', () => {
    machine.withDocker(`case $1 in ps) ${PS} ;; inspect) echo unhealthy ;; esac`);
    const { words } = startServices(target, file, ['db', 'web'], ['db']);
    expect(words.slice(4, 7)).toEqual(['shop', '60', '2']);
    // The same with two seconds.
    const sooner: Command = { words: [words[0], ...words.slice(1, 5), '2', ...words.slice(6)] };
    expect(machine.run(sooner)).toMatchObject({ exitCode: 0, stdout: 'starting db\nstarting web\n' });
    expect(looks()).toBe(2);
    expect(machine.calls.at(-1)).toBe('<start><w1><w2>');
  });

  test.each([
    ['create', 'compose) echo "no such image" >&2; exit 3', 3, []],
    ['be asked', `compose) ;; ps) exit 4`, 4, [look('web')]],
    ['start', `compose) ;; ps) ${PS} ;; start) echo "port is taken" >&2; exit 5`, 5, [look('web'), '<start><w1><w2>']],
  ])('where docker cannot %s it stops, and says so', (_name, body, exitCode, calls) => {
    machine.withDocker(`case $1 in ${body} ;; esac`);
    const ran = machine.run(startServices(target, file, ['web', 'db'], ['web']));
    expect(ran).toMatchObject({ exitCode, stdout: calls.length > 1 ? 'starting web\n' : '' });
    expect(machine.calls).toEqual([create('web', 'db'), ...calls]);
  });

  test('a name that is part of another one is not waited for in its place', () => {
    machine.withDocker(`case $1 in ps) echo c1 ;; inspect) echo starting ;; esac`);
    expect(machine.run(startServices(target, file, ['db', 'b'], ['db-2', 'a.b'])).exitCode).toBe(0);
    expect(looks()).toBe(0);
  });

  test('hostile values are words, and none is carried out', () => {
    machine.withDocker('');
    for (const text of HOSTILE) {
      const command = startServices({ project: text, projectDirectory: `/p/${text}` }, `/f/${text}`, ['web'], ['web']);
      expect(machine.run({ words: ['sh', '-c', renderCommand(command)] }).exitCode).toBe(0);
      expect(machine.calls.join('\n')).toContain(
        `<--project-name><${text}><--project-directory></p/${text}><--file></f/${text}><create><--no-build><--pull><never><web>`,
      );
      expect(machine.calls.join('\n')).toContain(`<--filter><label=com.docker.compose.project=${text}>`);
      // Compose refuses such names of services; here they must not be more than words either.
      machine.run(startServices(target, file, [text, 'web'], [text]));
    }
    expect(existsSync(machine.path('pwned'))).toBe(false);
  });
});
