import { startServices } from '../../src/commands/compose';
import { describeUndo, removeServices, renderUndo } from '../../src/commands/undo';
import { layoutStore } from '../../src/releases/layout';
import { HOSTILE, Machine, SHELLS } from '../shells';

const layout = layoutStore('/home/deploy/apps/shop');
const target = { project: 'shop', projectDirectory: layout.project };

test('what each verb is for people, and that services come back from the release', () => {
  const release = '20261122T100000Z-aaaaaaa';
  expect(
    renderUndo({ verb: 'restore-services', release, services: ['db', 'web'], awaited: ['db'] }, target, layout),
  ).toEqual(startServices(target, `${layout.releases}/${release}/compose.yaml`, ['db', 'web'], ['db']));
  expect([
    describeUndo({ verb: 'restore-services', release: 'R', services: ['db', 'web'], awaited: [] }),
    describeUndo({ verb: 'remove-services', services: ['db', 'web'] }),
    describeUndo({ verb: 'remove-networks', networks: ['shop_default'] }),
  ]).toEqual([
    'put back db, web of release R',
    'remove db, web, which did not exist before',
    'remove the networks shop_default',
  ]);
});

describe.each(SHELLS)('in $name', (shell) => {
  let machine: Machine;

  beforeEach(() => {
    machine = new Machine(shell);
  });

  afterEach(() => {
    machine.remove();
  });

  test('removes every replica of a service, stopped as each asked to be, and nothing that `compose run` made', () => {
    machine.withDocker(`case "$*" in *service=web*) printf 'c1\\nc2\\n' ;; esac`);
    expect(machine.run(removeServices(target, ['web', 'gone'])).exitCode).toBe(0);
    expect(machine.calls).toEqual([
      '<ps><-aq><--filter><label=com.docker.compose.project=shop><--filter><label=com.docker.compose.service=web><--filter><label=com.docker.compose.oneoff=False>',
      '<stop><c1><c2>',
      '<rm><-f><c1><c2>',
      '<ps><-aq><--filter><label=com.docker.compose.project=shop><--filter><label=com.docker.compose.service=gone><--filter><label=com.docker.compose.oneoff=False>',
    ]);
  });

  test('says so when docker cannot be asked, or does not do it', () => {
    machine.withDocker('exit 3');
    expect(machine.run(removeServices(target, ['web'])).exitCode).toBe(3);
    machine.withDocker('case $1 in ps) echo c1 ;; stop) exit 4 ;; esac');
    expect(machine.run(removeServices(target, ['web'])).exitCode).toBe(4);
    expect(machine.calls.at(-1)).toBe('<stop><c1>');
  });

  test('networks go that are of this project and that nothing is connected to; gone ones are no problem', () => {
    machine.withDocker(
      `case "$1 $2 $5" in
"network inspect gone") echo 'no such network' >&2; exit 1 ;;
"network inspect foreign") echo 'blog 0' ;;
"network inspect unlabelled") echo ' 0' ;;
"network inspect connected") echo 'shop 1' ;;
"network inspect "*) echo 'shop 0' ;;
esac
case "$1 $2 $3" in "network rm used") echo "has active endpoints" >&2; exit 1 ;; esac`,
    );
    const undo = (...networks: string[]): ReturnType<Machine['run']> =>
      machine.run(renderUndo({ verb: 'remove-networks', networks }, target, layout));
    expect(undo('gone', 'foreign', 'unlabelled', 'connected', 'shop_default')).toEqual({
      exitCode: 0,
      stdout: '',
      stderr: '',
    });
    expect(machine.calls.filter((call) => !call.startsWith('<network><inspect>'))).toEqual([
      '<network><rm><shop_default>',
    ]);
    expect(undo('used', 'shop_default')).toMatchObject({ exitCode: 1, stderr: 'has active endpoints\n' });
  });

  test('hostile names are words', () => {
    machine.withDocker('');
    machine.run(removeServices({ ...target, project: '$(touch pwned)' }, HOSTILE));
    machine.run(renderUndo({ verb: 'remove-networks', networks: HOSTILE }, target, layout));
    for (const text of HOSTILE)
      expect(machine.calls.join('\n')).toContain(`<label=com.docker.compose.service=${text}>`);
    expect(machine.run({ words: ['ls', machine.path('pwned')] }).exitCode).not.toBe(0);
  });
});
