/** The verbs of guardian.sh in the shells that servers have: what docker is asked, in which order. */
import { existsSync, mkdirSync, readFileSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { renderVerb } from '../../src/guardian/verbs';
import type { FinishVerb, UndoVerb } from '../../src/model/step';
import { localTag } from '../../src/commands/images';
import { renderCommand } from '../../src/shell/render';
import { Machine, type Ran, SHELLS } from '../shells';
import { VERBS_PROGRAM } from './verbs-program';

const image = (name: string, letter: string): string => `${name}@sha256:${letter.repeat(64)}`;
const [web, db] = [image('registry:5000/web:1', 'a'), image('postgres:17', 'b')];

describe.each(SHELLS)('in $name', (shell) => {
  let machine: Machine;

  beforeEach(() => {
    machine = new Machine(shell);
  });
  afterEach(() => {
    machine.remove();
  });

  const carryOut = (verb: UndoVerb | FinishVerb): Ran =>
    machine.run({ words: ['sh', '-c', VERBS_PROGRAM, 'slipway', 'verb', renderVerb(verb, 'shop')] });
  const changes = (): string[] => machine.calls.filter((call) => !/^<(ps|inspect|image><inspect|top)>/.test(call));

  /** db: d1 was stopped, d2 is its successor; web: w1 stays warm, w2 and w3 are new. Those in `down` do not run. */
  const withProject = (down = '', more = ''): void => {
    machine.withDocker(`
${more}
case $1 in
ps)
  case $* in
    *id=*) for a; do case $a in id=*) echo "\${a#id=}" ;; esac; done ;;
    *service=db*) printf 'd2\\nd1\\n' ;;
    *service=web*) printf 'w3\\nw2\\nw1\\n' ;;
  esac ;;
inspect) for a; do id=$a; done; case $* in *RestartPolicy*) echo "\${policy:-always}"; exit ;; esac; case " ${down} " in *" $id "*) echo false ;; *) echo true ;; esac ;;
esac`);
  };
  const handOver: FinishVerb = {
    verb: 'hand-over',
    retired: ['d1'],
    services: [
      { service: 'db', restart: 'always', before: ['d1'] },
      { service: 'web', restart: 'on-failure:3', before: ['w1'] },
    ],
  };

  describe('tell-metrics', () => {
    /** As `settle` has set them. */
    const tell = (half: 'undo' | 'finish', unsettled = ''): Ran =>
      machine.run({
        words: [
          'sh',
          '-c',
          `half=$1 unsettled=$2 release=20261122T110000Z-bbbbbbb; shift 2\n${VERBS_PROGRAM}`,
          'slipway',
          half,
          unsettled,
          'verb',
          renderVerb({ verb: 'tell-metrics', file: machine.path('told.prom'), task: 'deploy' }, 'shop'),
        ],
      });
    /** Without the lines for people. */
    const told = (): string[] =>
      readFileSync(machine.path('told.prom'), 'utf8')
        .split('\n')
        .filter((line) => line !== '' && !line.startsWith('# '));

    test('says when, whether it went live, how long it took, and what it was', () => {
      mkdirSync(machine.path('store'));
      writeFileSync(machine.path('store', 'journal'), '');
      const now = Date.now() / 1000;
      utimesSync(machine.path('store', 'journal'), now - 90, now - 90);
      expect(tell('finish')).toMatchObject({ exitCode: 0 });
      const [ended = '', success, duration = '', ...rest] = told();
      expect(Number(/^slipway_deploy_last_timestamp_seconds\{project="shop"\} (\d+)$/.exec(ended)?.[1])).toBeCloseTo(
        now,
        -1,
      );
      expect(success).toBe('slipway_deploy_last_success{project="shop"} 1');
      expect(duration).toMatch(/^slipway_deploy_last_duration_seconds\{project="shop"\} 9[0-5]$/);
      expect(rest).toEqual([
        'slipway_deploy_recovery_failed{project="shop"} 0',
        'slipway_deploy_last_info{project="shop",release="20261122T110000Z-bbbbbbb",task="deploy",result="committed"} 1',
      ]);
      // Another user reads it, and never half of it.
      expect(statSync(machine.path('told.prom')).mode & 0o777).toBe(0o644);
      expect(existsSync(machine.path('told.prom.new'))).toBe(false);
    });

    test('says that it was taken back, and what could not be', () => {
      expect(tell('undo').exitCode).toBe(0);
      expect(told()).toEqual(
        expect.arrayContaining([
          'slipway_deploy_last_success{project="shop"} 0',
          'slipway_deploy_last_duration_seconds{project="shop"} 0',
          'slipway_deploy_recovery_failed{project="shop"} 0',
          expect.stringContaining('result="undone"'),
        ]),
      );
      expect(tell('undo', 'revive c1: no').exitCode).toBe(0);
      expect(told()).toContain('slipway_deploy_recovery_failed{project="shop"} 1');
    });

    test('every metric has its type once', () => {
      tell('finish');
      const text = readFileSync(machine.path('told.prom'), 'utf8');
      const names = told().map((line) => line.slice(0, line.indexOf('{')));
      expect(text.match(/^# TYPE \S+ gauge$/gm)).toEqual(names.map((name) => `# TYPE ${name} gauge`));
    });

    test('never fails: monitoring hears less, and the journal is closed', () => {
      mkdirSync(machine.path('told.prom', 'in the way'), { recursive: true });
      const { exitCode, stdout } = tell('finish');
      expect(exitCode).toBe(0);
      expect(stdout).toMatch(/^note the metrics could not be written/);
      expect(existsSync(machine.path('told.prom.new'))).toBe(false);
    });
  });

  describe('take-back-data', () => {
    const RELEASE = '20261122T110000Z-bbbbbbb';
    const takeBack = (release = RELEASE): Ran => carryOut({ verb: 'take-back-data', release });
    const note = (text: string): void => {
      mkdirSync(machine.path('store', 'releases', RELEASE), { recursive: true });
      writeFileSync(machine.path('store', 'releases', RELEASE, 'take-back-data'), text);
    };

    test('does what stands in the folder of the release, again if need be', () => {
      machine.withDocker('exit 0');
      note(renderCommand({ words: ['docker', 'exec', "it's", '$(touch pwned)'] }));
      for (const times of [1, 2]) {
        expect(takeBack()).toMatchObject({ exitCode: 0 });
        expect(machine.calls).toEqual(Array.from({ length: times }, () => "<exec><it's><$(touch pwned)>"));
      }
      expect(existsSync(machine.path('pwned'))).toBe(false);
    });

    test('is done where nothing was swapped, and never what belongs to another release', () => {
      machine.withDocker('exit 0');
      expect(takeBack()).toMatchObject({ exitCode: 0 });
      note('docker never');
      expect(takeBack('20261122T100000Z-aaaaaaa')).toMatchObject({ exitCode: 0 });
      expect(machine.calls).toEqual([]);
    });

    test('fails where it could not be done, so that it is tried again', () => {
      machine.withDocker('echo busy >&2; exit 75');
      note('docker exec db &&\ndocker exec audit');
      const { exitCode, stderr } = takeBack();
      expect(exitCode).toBe(75);
      expect(stderr).toContain('busy');
      expect(machine.calls).toEqual(['<exec><db>']);
    });
  });

  test('hand-over leaves no moment in which a boot brings back both or neither', () => {
    withProject();
    expect(carryOut(handOver)).toMatchObject({ exitCode: 0 });
    expect(changes()).toEqual([
      '<stop><d1>',
      '<update><--restart=unless-stopped><d1><d2>',
      '<update><--restart=no><d1>',
      '<stop><d1>',
      '<update><--restart=always><d2>',
      '<update><--restart=on-failure:3><w3>',
      '<update><--restart=on-failure:3><w2>',
    ]);
  });

  test('hand-over after a boot: the old is stopped before the new is started', () => {
    withProject('d2 w3 w2');
    expect(carryOut(handOver)).toMatchObject({ exitCode: 0 });
    expect(changes()).toEqual([
      '<stop><d1>',
      '<update><--restart=unless-stopped><d1><d2>',
      '<update><--restart=no><d1>',
      '<stop><d1>',
      '<update><--restart=always><d2>',
      '<update><--restart=on-failure:3><w3>',
      '<update><--restart=on-failure:3><w2>',
      '<start><d2><w3><w2>',
    ]);
  });

  test('hand-over of what no boot brings back does not let one bring it back', () => {
    withProject('', 'policy=on-failure');
    expect(carryOut(handOver)).toMatchObject({ exitCode: 0 });
    expect(changes().slice(0, 3)).toEqual(['<stop><d1>', '<update><--restart=no><d1>', '<stop><d1>']);
  });

  test.each([
    ['the old cannot be asked for', '[ "$1" != ps ] || exit 1', 0],
    ['the old keeps its policy', '[ "$1" != update ] || exit 1', 2],
    ['the old cannot be stopped', '[ "$1" != stop ] || exit 1', 1],
  ])('hand-over gives nothing to the new when %s', (_name, failure, made) => {
    withProject('', failure);
    expect(carryOut(handOver).exitCode).not.toBe(0);
    expect(changes()).toHaveLength(made);
  });

  test('keep-only removes what was added, and nothing when docker does not say what is there', () => {
    withProject();
    const keepOnly: UndoVerb = { verb: 'keep-only', service: 'web', ids: ['w1'] };
    expect(carryOut(keepOnly).exitCode).toBe(0);
    expect(changes()).toEqual(['<update><--restart=no><w3><w2>', '<stop><w3><w2>', '<rm><-f><-v><w3><w2>']);
    withProject('', '[ "$1" != ps ] || exit 1');
    expect(carryOut(keepOnly).exitCode).not.toBe(0);
    expect(changes()).toHaveLength(3);
  });

  const docker = (tagsLeft: string, users: string): string =>
    `case "$1 $2 $3 $4" in "image inspect --format {{.Id}}") echo sha256:id ;; "image inspect --format {{len .RepoTags}}") echo ${tagsLeft} ;; "ps -aq --filter"*) printf '%s' '${users}' ;; esac`;
  const forget = (...images: string[]): Ran => carryOut({ verb: 'forget-images', images });

  test('forget-images gives up our tag, and the image when nobody else names or uses it', () => {
    machine.withDocker(docker('0', ''));
    expect(forget(web).exitCode).toBe(0);
    expect(changes()).toEqual([`<image><rm><${localTag('shop', web)}>`, `<image><rm><${web}>`]);
  });

  test.each([
    ['has another tag', '1', ''],
    ['is used by a container', '0', 'c1'],
  ])('forget-images leaves an image that %s', (_name, tagsLeft, users) => {
    machine.withDocker(docker(tagsLeft, users));
    expect(forget(web).exitCode).toBe(0);
    expect(changes()).toEqual([`<image><rm><${localTag('shop', web)}>`]);
  });

  test.each([
    ['at first', '"image inspect"*web*', 0],
    ['when the tag is to go', '"image rm"*slipway*', 1],
    ['when the tag has gone', '"image inspect"*Id*sha256:id*', 1],
    ['when its tags are counted', '"image inspect"*RepoTags*', 1],
    ['when its users are looked for', '"ps -aq"*', 1],
    ['when it is to go itself', '"image rm"*@*', 2],
  ])(
    'forget-images is not done where Docker does not answer %s: once the tag is gone, nobody would find it',
    (_name, asked, made) => {
      machine.withDocker(
        `case "$*" in ${asked}) echo "Cannot connect to the Docker daemon" >&2; exit 1 ;; esac\n${docker('0', '')}`,
      );
      expect(forget(web).exitCode).not.toBe(0);
      expect(changes()).toHaveLength(made);
    },
  );

  test('forget-images: what Docker refuses to remove is needed by somebody', () => {
    machine.withDocker(
      `case "$*" in "image rm"*@*) echo "Error response from daemon: conflict" >&2; exit 1 ;; esac\n${docker('0', '')}`,
    );
    expect(forget(web).exitCode).toBe(0);
    expect(changes()).toHaveLength(2);
  });

  test('forget-images: what is gone is no problem, and what was never pinned is not ours', () => {
    machine.withDocker('echo "Error response from daemon: No such image: x" >&2; exit 1');
    expect(forget(web, db, 'redis:7').exitCode).toBe(0);
    expect(machine.calls).toHaveLength(2);
    expect(
      renderVerb({ verb: 'forget-images', images: ['redis:7', db] }, 'shop')
        .split(' ')
        .slice(1),
    ).toEqual([db, localTag('shop', db)]);
  });
});
