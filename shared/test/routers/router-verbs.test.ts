/** guardian/router.sh: which file is in force after what, also where the way back begins or breaks off at any point. */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { renderUpstreams } from '../../src/routers/nginx';
import { VERBS_PROGRAM } from '../guardian/verbs-program';
import { Machine, type Ran, SHELLS } from '../shells';

const NEW_ID = 'a'.repeat(64);

/** One router; what it is asked to take up is written down. */
const DOCKER = `case "$1 $2" in
"ps -aq") echo router ;;
"inspect --type") shift 5; for id; do case $id in gone) exit 1 ;; *) echo "api/$id,10.0.0.9" ;; esac; done ;;
"inspect --format") echo running ;;
"exec router")
  shift 6
  read -r _ _ generation _ <store/router/web/upstreams.conf
  [ "$generation" = "$1" ] || [ "$1" = - ] || exit 9
  echo "$*" >>taken-up
  [ ! -e refuse ] || { echo 'nginx: [emerg] no'; exit 3; } ;;
*) exit 64 ;;
esac`;

describe.each(SHELLS)('in $name', (shell) => {
  let machine: Machine;
  let folder: string;

  const render = (...replicas: string[]): string =>
    renderUpstreams([{ service: 'api', port: 3000, replicas }], { resolve: true });
  const [old, both, next] = [render('old-1', 'old-2'), render('old-1', 'old-2', 'new-1'), render('new-1')];
  const write = (name: string, text: string): void => {
    writeFileSync(`${folder}/${name}`, text);
  };
  const inForce = (): string => readFileSync(`${folder}/upstreams.conf`, 'utf8');
  const generation = (text: string): string => text.slice(10, 26);
  const takenUp = (): string[] => {
    const path = machine.path('taken-up');
    return existsSync(path) ? readFileSync(path, 'utf8').trimEnd().split('\n') : [];
  };
  const verb = (...words: string[]): Ran => machine.run({ words: ['sh', '-c', VERBS_PROGRAM, 'slipway', ...words] });
  const toBoth = (): Ran => verb('v_switch_router', 'web', 'both', NEW_ID);
  const toNew = (): Ran => verb('v_switch_router', 'web', 'new', NEW_ID);

  beforeEach(() => {
    machine = new Machine(shell).withDocker(DOCKER);
    folder = machine.path('store/router/web');
    mkdirSync(folder, { recursive: true });
    write('upstreams.conf', old);
    write('upstreams.both', both);
    write('upstreams.new', next);
  });
  afterEach(() => {
    machine.remove();
  });

  test('both, then new; the new replicas are asked for once; then nothing is left of it', () => {
    expect(toBoth()).toMatchObject({ exitCode: 0, stderr: '' });
    expect(inForce()).toBe(both);
    expect(toNew()).toMatchObject({ exitCode: 0, stderr: '' });
    expect(inForce()).toBe(next);
    expect(takenUp()).toEqual([`${generation(both)} 10 open api/${NEW_ID},10.0.0.9`, `${generation(next)} 10 closed`]);
    expect(verb('v_settle_router', 'web').exitCode).toBe(0);
    expect(readdirSync(folder)).toEqual(['upstreams.conf']);
  });

  test('back by both sides, as often as it is asked for', () => {
    toBoth();
    toNew();
    for (let time = 1; time <= 2; time++) {
      expect(verb('v_restore_router', 'web')).toMatchObject({ exitCode: 0, stderr: '' });
      expect(inForce()).toBe(old);
      expect(readdirSync(folder)).toEqual(['upstreams.conf']);
    }
    expect(takenUp().slice(2)).toEqual([
      `${generation(both)} 5 open api/old-1,10.0.0.9 api/old-2,10.0.0.9`,
      `${generation(old)} 10 closed`,
    ]);
  });

  test('back where nothing had begun: the router is left alone', () => {
    expect(verb('v_restore_router', 'web').exitCode).toBe(0);
    expect([inForce(), takenUp()]).toEqual([old, []]);
    expect(readdirSync(folder)).toEqual(['upstreams.conf']);
    expect(verb('v_restore_router', 'never-seen').exitCode).toBe(0);
  });

  test.each([
    ['old is kept, nothing moved', { 'upstreams.old': old, 'upstreams.new': next, 'upstreams.both': both }, old, []],
    ['both', { 'upstreams.old': old, 'upstreams.new': next, 'upstreams.both': both }, both, [both, old]],
    ['new', { 'upstreams.old': old, 'upstreams.new': next, 'upstreams.both': both }, next, [both, old]],
    ['back at both', { 'upstreams.old': old, 'upstreams.new': next }, both, [both, old]],
    ['before the last move', { 'upstreams.old': old, 'upstreams.undone': next }, both, [old]],
    ['moved, perhaps not taken up', { 'upstreams.undone': next }, old, [old]],
    ['half a copy', { 'upstreams.put': '# sl', 'upstreams.new': next, 'upstreams.both': both }, old, []],
  ])('broken off: %s', (_, files, live, expected) => {
    for (const name of readdirSync(folder)) machine.run({ words: ['rm', `${folder}/${name}`] });
    for (const [name, text] of Object.entries(files)) write(name, text);
    write('upstreams.conf', live);
    expect(verb('v_restore_router', 'web').exitCode).toBe(0);
    expect(inForce()).toBe(old);
    expect(takenUp().map((line) => line.slice(0, 16))).toEqual(expected.map(generation));
    expect(readdirSync(folder)).toEqual(['upstreams.conf']);
  });

  test('nothing was there before: nothing is there after', () => {
    machine.run({ words: ['rm', `${folder}/upstreams.conf`] });
    expect(toNew().exitCode).toBe(0);
    expect(readFileSync(`${folder}/upstreams.old`, 'utf8')).toBe('# none\n');
    expect(takenUp()).toEqual([`${generation(next)} 10 closed api/${NEW_ID},10.0.0.9`]);
    expect(verb('v_restore_router', 'web').exitCode).toBe(0);
    expect(readdirSync(folder)).toEqual([]);
  });

  test.each([
    ['both', old],
    ['new', both],
  ])('what nginx refuses is taken back at once, with its words: %s', (which, before) => {
    if (which === 'new') toBoth();
    writeFileSync(machine.path('refuse'), '');
    const { exitCode, stderr } = verb('v_switch_router', 'web', which, NEW_ID);
    expect([exitCode, stderr.trim(), inForce()]).toEqual([3, 'nginx: [emerg] no', before]);
  });

  test('a replica that is gone', () => {
    const { exitCode, stderr } = verb('v_switch_router', 'web', 'both', NEW_ID, 'gone');
    expect(exitCode).toBe(1);
    expect(stderr).toContain('a new replica that was ready is gone');
  });

  test('a router that does not run gets its file', () => {
    machine.withDocker(DOCKER.replace('echo router', ':'));
    expect(toBoth().exitCode).toBe(0);
    expect(inForce()).toBe(both);
    expect(verb('v_restore_router', 'web').exitCode).toBe(0);
    expect([inForce(), takenUp()]).toEqual([old, []]);
  });

  test('a router from before it had the folder goes on as it is, until it is replaced', () => {
    machine.withDocker(DOCKER.replace('shift 6', 'exit 5'));
    const { exitCode, stdout } = toBoth();
    expect([exitCode, stdout]).toEqual([0, expect.stringContaining('note router web does not read')]);
    expect(inForce()).toBe(both);
  });

  test('a router that does not take it up is named with what it said', () => {
    machine.withDocker(DOCKER.replace('shift 6', 'echo "replica new-1 does not answer"; exit 4'));
    const { exitCode, stderr } = toBoth();
    expect([exitCode, stderr.includes('replica new-1 does not answer')]).toEqual([4, true]);
    machine.withDocker(DOCKER.replace('shift 6', 'exit 1').replace('echo running', 'echo exited'));
    expect(toBoth().exitCode).toBe(0);
  });

  test('a daemon that does not answer is no router that does not run', () => {
    machine.withDocker('exit 1');
    expect(verb('v_switch_router', 'web', 'both').exitCode).not.toBe(0);
  });

  test('not without its files, and to nowhere else', () => {
    expect(verb('v_switch_router', 'web', 'old').exitCode).toBe(64);
    expect(verb('v_switch_router', 'other', 'both').stderr).toContain('lacks upstreams.both');
  });
});
